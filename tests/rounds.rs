//! Many rounds of builds at once: two in one worktree whose manifest is edited between their starts, and one in
//! another worktree on the same store. No key runs twice, nobody reads what is half written, and all end well.
//!
//! `BCACHE_ROUNDS=200 cargo test --test rounds` for as many as one likes.

mod sandbox;

use std::collections::BTreeMap;
use std::fs;

use sandbox::Sandbox;

/// `step NAME VERSION OUT IN…`: writes OUT in two parts, and looks whether each IN is whole.
const STEP: &str = r#"
name=$1 version=$2 out=$3
shift 3
all=
for in; do
    read -r first <"$in" || first=nothing
    last=$(tail -n 1 "$in")
    [ "begin ${last#end }" = "$first" ] || echo "TORN $name $in: $first, $last" >>LOG
    all="$all ${first#begin }"
done
# An installed file holds its prefix, so another prefix is another key.
echo "RAN $name $version of$all for $out" >>LOG
echo "begin ($name $version$all)" >"$out"
i=0; while [ $i -lt 500 ]; do i=$((i + 1)); done
echo "end ($name $version$all)" >>"$out"
"#;

fn manifest(round: usize, a: &str, b: &str, moved: bool) -> String {
    let step = |name: &str, version: &str, ins: &[&str]| {
        let inputs: Vec<String> = ins.iter().map(|i| format!("'{i}'")).collect();
        format!(
            "[tasks.{name}]\ntools = ['step']\ninputs = [{}]\noutputs = ['o{name}']\nrun = 'step {name} {version} o{name} {}'\n",
            inputs.join(", "),
            ins.join(" "),
        )
    };
    let installs = |name: &str, version: &str, needs: &str, file: &str, ins: &str| {
        format!(
            "[tasks.{name}]\nsysroot = 'main'\ntools = ['step']\nneeds = [{needs}]\ninputs = ['in']\nrun = 'step {name} {version} {{{{ sysroot.prefix }}}}/{file} {ins}'\n"
        )
    };
    let same = format!("{round}");
    [
        "[sysroots.main]\npath = 'prefix'\n".to_owned(),
        step("a", a, &["in"]),
        step("b", b, &["oa"]),
        step("c", &same, &["oa"]),
        step("d", &same, &["ob", "oc"]),
        step("e", &same, &["in"]),
        installs("p", b, "", "fp", "in"),
        installs("q", &same, "'p'", if moved { "fq" } else { "fr" }, "{{ sysroot.prefix }}/fp"),
        installs("r", &same, "'p'", if moved { "fr" } else { "fq" }, "in {{ sysroot.prefix }}/fp"),
        "[tasks.all]\nneeds = ['d', 'e', 'q', 'r']\n".to_owned(),
    ]
    .concat()
}

fn rounds() -> usize {
    std::env::var("BCACHE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(10)
}

/// What ran, how often, and what went wrong.
fn judge(log: &str, what: &str) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    log.lines().for_each(|line| *times.entry(line).or_default() += 1);
    let bad: Vec<_> = times.iter().filter(|(line, times)| line.starts_with("TORN") || **times > 1).collect();
    assert!(bad.is_empty(), "{what}: {bad:#?}\n{log}");
}

#[test]
fn builds_of_two_manifests_at_once_and_another_worktree_run_no_key_twice_and_read_nothing_torn() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    let log = sandbox.root().join("log");
    sandbox.tool("step", &STEP.replace("LOG", log.to_str().unwrap()));
    for round in 0..rounds() {
        fs::write(&log, "").unwrap();
        let whole = format!("begin {round}\nend {round}\n");
        sandbox.file("in", &whole);
        other.file("in", &whole);
        let (one, two) = (format!("{round}-1"), format!("{round}-2"));
        let edited = match round % 4 {
            0 => manifest(round, &one, &two, false),
            1 => manifest(round, &two, &two, false),
            2 => manifest(round, &two, &one, true),
            _ => manifest(round, &one, &one, true),
        };
        let plain = manifest(round, &one, &one, false);
        sandbox.tasks(&plain);
        other.tasks(if round % 2 == 0 { &edited } else { &plain });
        let first = sandbox.start("build all -j2");
        std::thread::sleep(std::time::Duration::from_millis(3 * (round as u64 * 7 % 31)));
        let elsewhere = other.start("build all -j2");
        // As editors do: in one go, whoever is reading it.
        sandbox.file("new.toml", format!("[bcache]\nversion = 1\n{edited}"));
        fs::rename(sandbox.at("new.toml"), sandbox.at("tasks.toml")).unwrap();
        let second = sandbox.start("build all -j2");
        for (name, build) in [("first", first), ("second", second), ("elsewhere", elsewhere)] {
            let outcome = build.wait();
            let said = outcome.said().to_owned();
            assert!(said.lines().last().is_some_and(|l| l.contains("Finished all@host")), "{round} {name}: {said}");
            outcome.success();
        }
        judge(&fs::read_to_string(&log).unwrap(), &format!("round {round}"));
        let last = sandbox.run("build all");
        assert!(last.said().ends_with(" 0 ran\n"), "round {round}: {}", last.said());
        last.success();
        let b = if edited.contains(&format!("b {two}")) { &two } else { &one };
        assert!(sandbox.read("ob").starts_with(&format!("begin (b {b} ")), "round {round}");
        let (q, r) = if round % 4 >= 2 { ("fq", "fr") } else { ("fr", "fq") };
        assert!(sandbox.read(format!("prefix/{q}")).starts_with("begin (q"), "round {round}");
        assert!(sandbox.read(format!("prefix/{r}")).starts_with("begin (r"), "round {round}");
    }
}
