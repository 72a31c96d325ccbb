//! The manifest and the graph that is made from it.

use super::sandbox::Sandbox;

#[test]
fn a_command_that_names_a_file_which_git_tracks_and_no_input_is_draws_one_warning() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a', 'dir/*.x', '!dir/no.x']
outputs = ['b', 'kept']
env = { X = 'x' }
run = [
    'cat a dir/1.x dir/no.x --with=forgotten ./more <other > b; sh script.sh; cat untracked nothing dir',
    'cat b forgotten; echo tasks.toml',
    'cat kept || true',
]
[tasks.always]
run = 'cat forgotten'
[tasks.all]
needs = ['gen', 'always']
",
        )
        .file("script.sh", "true");
    for name in ["a", "dir/1.x", "dir/no.x", "forgotten", "more", "other", "kept"] {
        sandbox.file(name, "1");
    }
    let git = |args: &[&str]| {
        let done = std::process::Command::new("git").args(args).current_dir(sandbox.work()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    sandbox.file("untracked", "1");
    let warning = "gen@host: its commands name forgotten, more, other and 1 more, which git tracks and no input is: a change there goes unseen";
    let said = sandbox.run("build all").said().to_owned();
    assert_eq!(
        said.lines().filter(|line| line.contains("warning")).collect::<Vec<_>>(),
        [format!("warning: {warning}")]
    );
    sandbox.edit("tasks.toml", "'a', 'dir", "'a', '*r*', 'tasks.toml', 'dir").edit("tasks.toml", "X = 'x'", "X = 'y'");
    let said = sandbox.run("build all").said().to_owned();
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn all_errors_of_a_manifest_come_at_once_and_nothing_runs() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.ok]
run = '{ran} ok'
[tasks.gen]
outptus = ['b']
cache = 'no'
needs = ['okay', 'ok']
run = 'echo {{ vars.nothing }}'
",
    );
    sandbox
        .run("build ok")
        .stderr(
            "
bcache::manifest::unknown_key

  × a task has no key `outptus`
   ╭─[tasks.toml:6:1]
 5 │ [tasks.gen]
 6 │ outptus = ['b']
   · ───┬───
   ·    ╰── unknown key
 7 │ cache = 'no'
   ╰────
  help: did you mean `outputs`?

bcache::manifest::wrong_type

  × `cache` takes `true` or `false`, not a string
   ╭─[tasks.toml:7:9]
 6 │ outptus = ['b']
 7 │ cache = 'no'
   ·         ────
 8 │ needs = ['okay', 'ok']
   ╰────

bcache::manifest::unknown_name

  × there is no task `okay`
   ╭─[tasks.toml:8:10]
 7 │ cache = 'no'
 8 │ needs = ['okay', 'ok']
   ·          ──────
 9 │ run = 'echo {{ vars.nothing }}'
   ╰────
  help: did you mean `ok`?

bcache::manifest::unknown_name

  × there is no variable `nothing`
   ╭─[tasks.toml:9:16]
 8 │ needs = ['okay', 'ok']
 9 │ run = 'echo {{ vars.nothing }}'
   ·                ────────────
   ╰────

error: 4 problems in tasks.toml
",
        )
        .exit(3)
        .ran_times("ok", 0);
}

#[test]
fn a_path_of_its_own_is_an_error_for_whatever_has_a_key() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.always]
cache = false
env = { PATH = '/usr/bin:/bin' }
run = '{ran} always'
[tasks.gen]
outputs = ['b']
run = 'foo > b'
";
    sandbox.tasks(tasks).run("build always").success().ran_times("always", 1);
    sandbox.edit("tasks.toml", "outputs", "env = { PATH = '/x:/bin' }\noutputs");
    sandbox
        .run("build gen")
        .stderr(
            "
bcache::manifest::bad_value

  × `PATH` of a step is made from `path` and `tools`
   ╭─[tasks.toml:8:16]
 7 │ [tasks.gen]
 8 │ env = { PATH = '/x:/bin' }
   ·                ─────────
 9 │ outputs = ['b']
   ╰────
  help: put directories into `path`, programs from elsewhere into `tools`

error: 1 problem in tasks.toml
",
        )
        .exit(3);
    let by = ["env-pass = ['PATH']", "env-pass = [{ name = 'PATH', key = false }]", "secrets = ['PATH']"];
    for declared in by {
        sandbox.tasks(tasks).edit("tasks.toml", "outputs", &format!("{declared}\noutputs"));
        sandbox.run("build gen").says("`PATH` of a step is made from").exit(3);
    }
    let table = "[templates.t]\nenv = { PATH = '/x' }\n[tasks.gen]\nextends = 't'\n";
    sandbox.tasks(tasks).edit("tasks.toml", "[tasks.gen]\n", table);
    sandbox.run("build gen").says("`PATH` of a step is made from").exit(3);
    for table in ["[sysroots.s]\npath = 'p'\n", "[targets.arm]\ntriple = 'aarch64-linux-gnu'\n"] {
        sandbox.tasks(&format!("{table}env = {{ PATH = '/x' }}\n[tasks.gen]\noutputs = ['b']\nrun = 'foo > b'\n"));
        sandbox.run("build gen").says("`PATH` of a step is made from").exit(3);
    }
}

#[test]
fn errors_of_a_manifest_as_json_are_one_line_each_on_stdout() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.gen]
outptus = ['b']
needs = ['gne']
run = 'true'
",
    );
    sandbox.run("build gen --message-format json").stdout(r#"
{"version":1,"event":"problem","severity":"error","code":"bcache::manifest::unknown_key","message":"a task has no key `outptus`","causes":[],"help":"did you mean `outputs`?","file":"tasks.toml","line":4,"column":1,"label":"unknown key","also":[]}
{"version":1,"event":"problem","severity":"error","code":"bcache::manifest::unknown_name","message":"there is no task `gne`","causes":[],"help":"did you mean `gen`?","file":"tasks.toml","line":5,"column":10,"label":null,"also":[]}
"#).stderr("").exit(3);
}

#[test]
fn a_cycle_is_said_as_its_steps() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.a]
needs = ['b']
outputs = ['x']
run = '{ran} a; echo > x'
[tasks.b]
needs = ['c']
run = 'true'
[tasks.c]
inputs = ['x']
run = 'true'
",
    );
    sandbox
        .run("build a")
        .stderr(
            "
bcache::graph::cycle

  × a cycle: a@host -> b@host -> c@host -> a@host
    ╭─[tasks.toml:3:8]
  2 │ version = 1
  3 │ [tasks.a]
    ·        ┬
    ·        ╰── begins here
  4 │ needs = ['b']
  5 │ outputs = ['x']
  6 │ run = 'echo >>[ROOT]/ran a; echo > x'
  7 │ [tasks.b]
    ·        ┬
    ·        ╰── needs `c@host`
  8 │ needs = ['c']
  9 │ run = 'true'
 10 │ [tasks.c]
    ·        ┬
    ·        ╰── needs `a@host`
 11 │ inputs = ['x']
    ╰────
  help: `x` of `c@host` is made by `a@host`

error: 1 problem in tasks.toml
",
        )
        .exit(3)
        .ran_times("a", 0);
}
