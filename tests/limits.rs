//! Sizes and names at which other tools break, as far as seconds allow. The benchmark `limits` measures the rest.

mod sandbox;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sandbox::Sandbox;

/// What people do to names.
const NAMES: [&[u8]; 18] = [
    b"a space",
    b"new\nline",
    b"tab\t",
    b"cr\r",
    b"'quoted'",
    b"\"twice\"",
    b"-rf",
    b"--",
    b"not \xff\xfe UTF-8",
    b"\x01\x1b[31mred",
    b"back\\slash",
    b"$HOME `id` $(id)",
    b"star*",
    b"[a]{b,c}?",
    b"#hash",
    b"co:lo,n",
    b"..x",
    "\u{85}\u{e9}".as_bytes(),
];

fn tasks(count: usize, task: impl Fn(usize) -> String) -> String {
    (0..count).map(task).collect()
}

fn quoted(kind: &str, count: usize) -> String {
    (0..count).map(|i| format!("'{kind}{i}'")).collect::<Vec<_>>().join(", ")
}

/// The program in a directory whose name the sandbox can't write.
fn program(sandbox: &Sandbox, dir: &Path, args: &[&str], home: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-bcache"));
    command
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", sandbox.root().join("home"));
    command.env("BCACHE_HOME", home).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_chain_of_5000_steps_is_planned_to_its_end() {
    let sandbox = Sandbox::new();
    let needs = |i: usize| if i == 0 { String::new() } else { format!("needs = ['t{}']\n", i - 1) };
    sandbox.tasks(&tasks(5000, |i| format!("[tasks.t{i}]\ninputs = ['tasks.toml']\n{}run = 'true'\n", needs(i))));
    sandbox.run("plan t4999").answers("0 fresh, 0 cached, 1 stale, 4999 unknown").success();
}

#[test]
fn a_cycle_of_5000_steps_is_said_by_its_two_ends() {
    let sandbox = Sandbox::new();
    sandbox.tasks(&tasks(5000, |i| format!("[tasks.t{i}]\nneeds = ['t{}']\n", (i + 4999) % 5000)));
    let outcome = sandbox.run("plan t0 --message-format json").answers(
        "a cycle: t0@host -> t4999@host -> t4998@host -> t4997@host -> t4996@host -> t4995@host -> (4988 more) -> t6@host -> t5@host -> t4@host -> t3@host -> t2@host -> t1@host -> t0@host\"",
    );
    assert!(outcome.answered().len() < 5000, "{}", outcome.answered());
    outcome.exit(3);
}

#[test]
fn of_90000_cycles_twenty_are_said() {
    let sandbox = Sandbox::new();
    let all = quoted("t", 300);
    sandbox.tasks(&format!(
        "[templates.all]\nneeds = [{all}]\n{}",
        tasks(300, |i| format!("[tasks.t{i}]\nextends = 'all'\n"))
    ));
    let outcome = sandbox.run("plan t0");
    assert_eq!(outcome.said().matches("a cycle: ").count(), 20);
    outcome.exit(3);
}

#[test]
fn groups_that_share_members_in_forty_layers_are_gone_through_once() {
    let sandbox = Sandbox::new();
    let layer = |i: usize| {
        let below = if i == 0 { "'one'".to_owned() } else { format!("'l{}', 'r{}'", i - 1, i - 1) };
        format!("[tasks.l{i}]\nneeds = [{below}]\n[tasks.r{i}]\nneeds = [{below}]\n")
    };
    let ends = "[tasks.one]\ninputs = ['tasks.toml']\nrun = '{ran} one'\n[tasks.end]\ninputs = ['tasks.toml']\nneeds = ['l39', 'r39']\nrun = '{ran} end'\n";
    sandbox.tasks(&format!("{ends}{}", tasks(40, layer)));
    sandbox.run("build end").counts("0 fresh, 0 restored, 2 ran").success().ran_times("one", 1).ran_times("end", 1);
    sandbox.run("build end").counts("2 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_thousand_steps_that_each_need_a_group_of_a_thousand_are_planned() {
    let sandbox = Sandbox::new();
    let pair = |i: usize| {
        format!(
            "[tasks.a{i}]\ninputs = ['tasks.toml']\nrun = 'true'\n[tasks.b{i}]\nneeds = ['group']\ninputs = ['tasks.toml']\nrun = 'true'\n"
        )
    };
    sandbox.tasks(&format!("[tasks.group]\nneeds = [{}]\n{}", quoted("a", 1000), tasks(1000, pair)));
    let waits = "a0@host, a1@host, a2@host, a3@host, a4@host, a5@host, a6@host, a7@host and 992 more";
    sandbox.run("plan b7").answers(&format!("waits on {waits}\n0 fresh, 0 cached, 1000 stale, 1 unknown")).success();
}

#[test]
fn a_variable_that_doubles_at_each_of_forty_steps_is_an_error_at_its_place() {
    let sandbox = Sandbox::new();
    let double = |i: usize| format!("v{} = '{{{{ vars.v{i} }}}}{{{{ vars.v{i} }}}}'\n", i + 1);
    sandbox.tasks(&format!("[vars]\nv0 = 'xx'\n{}[tasks.a]\nrun = 'echo {{{{ vars.v40 }}}}'\n", tasks(40, double)));
    sandbox
        .run("plan a")
        .stderr(
            "
bcache::manifest::template

  × more than 16.8 MB (or 1048576 words) when its variables are put in
    ╭─[tasks.toml:28:7]
 27 │ v23 = '{{ vars.v22 }}{{ vars.v22 }}'
 28 │ v24 = '{{ vars.v23 }}{{ vars.v23 }}'
    ·       ──────────────────────────────
 29 │ v25 = '{{ vars.v24 }}{{ vars.v24 }}'
    ╰────

error: 1 problem in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn a_thousand_jobs_are_fine_for_a_few_steps_at_a_hundred_targets() {
    let sandbox = Sandbox::new();
    let target = |i: usize| format!("[targets.x{i}]\ntriple = 'x86_64-unknown-linux-gnu'\n");
    let task = "inputs = ['tasks.toml']\noutputs = ['{{ target.name }}']\nrun = 'echo {{ target.name }} > {{ target.name }}'\n";
    sandbox.tasks(&format!("{}[tasks.a]\ntargets = [{}]\n{task}", tasks(100, target), quoted("x", 100)));
    sandbox.run("build a -j1000").counts("0 fresh, 0 restored, 100 ran").success();
    assert_eq!(sandbox.read("x99"), "x99\n");
}

#[test]
fn files_of_any_name_are_inputs_outputs_and_layers_and_each_is_named_apart() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[sysroots.root]
path = 'root'
[tasks.copy]
inputs = ['in/**']
outputs = ['out/']
run = 'cp -r in/. out'
[tasks.install]
sysroot = 'root'
inputs = ['out/*']
run = 'cp -r out {{ sysroot.prefix }}/share'
",
    );
    let long = vec![b'n'; 255];
    let names: Vec<PathBuf> = NAMES.iter().copied().chain([&long[..]]).map(|n| OsStr::from_bytes(n).into()).collect();
    let write = |text: &str| names.iter().for_each(|name| _ = sandbox.file(Path::new("in").join(name), text));
    write("1");
    sandbox.run("build install").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.run("build install").counts("2 fresh, 0 restored, 0 ran").success();
    write("2");
    let shown: Vec<String> =
        names.iter().map(|name| bcache::base::paths::escaped(&Path::new("in").join(name))).collect();
    let outcome = sandbox.run("build install --message-format json");
    let lines: Vec<serde_json::Value> =
        outcome.answered().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reasons = lines.iter().find(|line| line["event"] == "stale").unwrap()["reasons"].as_array().unwrap().clone();
    for shown in &shown {
        assert!(reasons.iter().any(|reason| reason["text"] == format!("{shown} changed")), "{shown}: {reasons:?}");
    }
    outcome.answers("").success();
    let outcome = sandbox.run("why copy");
    assert_eq!(outcome.answered().lines().count(), names.len() + 1, "each name is one line: {}", outcome.answered());
    outcome.answers("").success();
    let made = (sandbox.tree("out"), sandbox.tree("root/share"));
    assert_eq!(made.0.len(), names.len() + 1);
    sandbox.remove("out").remove("root").run("build install").counts("0 fresh, 2 restored, 0 ran").success();
    assert_eq!((sandbox.tree("out"), sandbox.tree("root/share")), made);
}

#[test]
fn the_workspace_and_the_store_may_have_any_name() {
    let sandbox = Sandbox::new();
    for name in NAMES {
        let dir = sandbox.root().join(OsStr::from_bytes(&[b"w", name].concat()));
        let home = sandbox.root().join(OsStr::from_bytes(&[b"h", name].concat()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("in"), "1").unwrap();
        let manifest = "
bcache = { version = 1 }
[sysroots.root]
path = 'root'
[tasks.copy]
inputs = ['in']
outputs = ['out']
run = 'cp in out'
[tasks.install]
sysroot = 'root'
needs = ['copy']
inputs = ['tasks.toml']
run = 'true'
";
        fs::write(dir.join("tasks.toml"), manifest).unwrap();
        for counts in ["0 fresh, 0 restored, 2 ran", "2 fresh, 0 restored, 0 ran"] {
            let output = program(&sandbox, &dir, &["build", "install"], &home);
            assert!(said(&output).trim_end().ends_with(counts), "{}: {}", name.escape_ascii(), said(&output));
        }
        fs::remove_file(dir.join("out")).unwrap();
        let output = program(&sandbox, &dir, &["build", "install"], &home);
        assert!(
            said(&output).contains("Restored copy@host (1 file, 1 B)"),
            "{}: {}",
            name.escape_ascii(),
            said(&output)
        );
    }
}

#[test]
fn paths_of_4000_bytes_work_and_longer_ones_than_the_system_takes_are_named() {
    let sandbox = Sandbox::new();
    let names = |count: usize| vec!["d".repeat(200); count].join("/");
    // Two halves, each of a length that can be named, one moved below the other.
    let nest = |count: usize| {
        let (upper, lower) = (names(count / 2), names(count - count / 2));
        format!("mkdir -p out/{upper} $TMPDIR/{lower}; echo > $TMPDIR/{lower}/end; mv $TMPDIR/* out/{upper}")
    };
    let task = |name: &str, count: usize| {
        format!("[tasks.{name}]\ninputs = ['in']\noutputs = ['out/']\nrun = '{}'\n", nest(count))
    };
    sandbox.file("in", "").tasks(&task("deep", 19));
    sandbox.run("build deep").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build deep").counts("1 fresh, 0 restored, 0 ran").success();
    let tree = sandbox.tree("out");
    sandbox.remove("out").run("build deep").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.tree("out"), tree);
    sandbox.tasks(&task("deep", 22));
    let wanted = format!("error: deep@host failed: could not look at `[ROOT]/work/out/{}", names(20));
    sandbox.run("build deep").says(&wanted).says("File name too long").exit(5);
    assert!(!sandbox.exists("out"), "what was too deep to look at was removed");
}

#[test]
fn a_command_or_a_variable_that_the_system_does_not_take_says_so_and_is_shown_in_part() {
    let sandbox = Sandbox::new();
    let long = "x".repeat(140_000);
    sandbox.tasks(&format!(
        "[tasks.words]\ninputs = ['tasks.toml']\nrun = 'echo {long}'\n[tasks.variable]\ninputs = ['tasks.toml']\nenv = {{ X = '{long}' }}\nrun = 'true'\n"
    ));
    let head = "x".repeat(3995);
    let what = "`sh` cannot be started: an argument or a variable is longer than the system takes (128 KiB under Linux), or all of them together are (`getconf ARG_MAX`); long text can go through a file";
    sandbox
        .run("build words")
        .says(&format!("error: words@host failed: {what}\n  command: echo {head} … (136005 more bytes)\n"))
        .exit(1)
        .run("build variable")
        .says(&format!("error: variable@host failed: {what}\n  command: true\n"))
        .exit(1);
}

#[test]
fn a_directory_on_path_that_is_closed_to_the_user_is_passed_over_and_seen_when_it_opens() {
    let Some(sandbox) = Sandbox::of_a_user() else { return };
    sandbox.tasks("[tasks.a]\ninputs = ['tasks.toml']\noutputs = ['b']\ntools = ['cp']\nrun = 'cp tasks.toml b'\n");
    let closed = sandbox.root().join("closed");
    fs::create_dir_all(closed.join("bin")).unwrap();
    let mode = |mode: u32| {
        fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(0o700);
    sandbox.env("PATH", format!("{}/bin:/usr/bin:/bin", closed.display()));
    sandbox.run("build a").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build a").counts("1 fresh, 0 restored, 0 ran").success();
    fs::copy("/usr/bin/env", closed.join("bin/cp")).unwrap();
    mode(0o755);
    sandbox.run("plan a").answers("cp").success();
}

#[test]
fn links_in_a_circle_and_directories_that_nobody_may_enter_are_inputs_or_errors_that_name_them() {
    let Some(sandbox) = Sandbox::of_a_user() else { return };
    sandbox.tasks("[tasks.links]\ninputs = ['l/**']\noutputs = ['b']\nrun = 'echo > b'\n[tasks.closed]\ninputs = ['m/**']\noutputs = ['c']\nrun = 'echo > c'\n");
    sandbox.link("l/self", "self").link("l/up", "../l").link("l/one", "two").link("l/two", "one").file("m/x/f", "1");
    sandbox.chmod("m/x", 0);
    sandbox.run("build links").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build links").counts("1 fresh, 0 restored, 0 ran").success();
    sandbox
        .run("build closed")
        .says("error: closed@host failed: cannot read `[ROOT]/work/m/x`: Permission denied")
        .exit(1);
    sandbox.chmod("m/x", 0o755);
}

#[test]
fn stamps_before_1970_and_after_2262_hide_no_edit() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.a]\ninputs = ['in']\noutputs = ['b']\nrun = 'cat in > b'\n").file("in", "1");
    for (round, stamp) in
        ["1901-12-14", "1969-12-31 23:59:59.5 UTC", "2500-01-01", "2400-01-01"].into_iter().enumerate()
    {
        let date = |name: &str| {
            assert!(
                Command::new("touch").args(["-d", stamp, name]).current_dir(sandbox.work()).status().unwrap().success()
            )
        };
        sandbox.file("in", format!("{round}a"));
        date("in");
        sandbox.run("build a").counts("0 fresh, 0 restored, 1 ran").success();
        sandbox.run("build a").counts("1 fresh, 0 restored, 0 ran").success();
        sandbox.file("in", format!("{round}b"));
        date("in");
        sandbox.run("build a").counts("0 fresh, 0 restored, 1 ran").success();
        assert_eq!(sandbox.read("b"), format!("{round}b"));
    }
}

#[test]
fn a_log_that_is_cut_keeps_its_two_ends_and_no_secret_and_its_json_is_json() {
    let sandbox = Sandbox::new();
    // Bytes that are no text, escapes, and one line of 17 MB.
    let noise = "head -c 17000000 /dev/zero | tr '\\0' '\\377'";
    sandbox.tasks(&format!(
        "[tasks.loud]\ninputs = ['tasks.toml']\nsecrets = ['WORD']\nrun = \"\"\"echo first $WORD; printf '\\\\033[2J\\\\000'; {}; echo $WORD; echo; echo last; exit 1\"\"\"\n",
        noise.replace('\\', "\\\\")
    ));
    sandbox.env("WORD", "correct-horse");
    let outcome = sandbox.run("build loud --message-format json");
    for line in outcome.answered().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert!(outcome.answered().contains(r"***\n\nlast\n") && !outcome.answered().contains("correct-horse"));
    outcome.answers("").exit(1);
    let log = fs::read(sandbox.at(".bcache/logs/loud@host")).unwrap();
    assert_eq!(log[..16].escape_ascii().to_string(), "first ***\\n\\x1b[2J\\x00\\xff");
    assert_eq!(log[log.len() - 10..].escape_ascii().to_string(), "***\\n\\nlast\\n");
    assert!(log.len() < 17 << 20, "{}", log.len());
    assert!(memchr::memmem::find(&log, " bytes cut …]".as_bytes()).is_some());
    let grep = Command::new("grep")
        .args(["-rlF", "correct-horse", "work", "store"])
        .current_dir(sandbox.root())
        .output()
        .unwrap();
    assert_eq!(said(&grep) + &String::from_utf8_lossy(&grep.stdout), "");
}
