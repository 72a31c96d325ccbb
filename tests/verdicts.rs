//! Fresh, restored or run: each cause with what is said of it, before and after.

mod sandbox;

use sandbox::Sandbox;

const COPY: &str = "
[tasks.copy]
inputs = ['a']
outputs = ['b']
run = '{ran} copy; cat a > b'
";

fn copied() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("a", "one\n");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox
}

#[test]
fn a_step_runs_once_and_is_fresh_after() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("a", "one\n");
    sandbox
        .run("build copy")
        .stderr(
            "
       Stale copy@host: it never ran here
     Running copy@host
    Finished copy@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .ran_times("copy", 1)
        .run("build copy")
        .stderr(
            "
    Finished copy@host in [TIME]: 1 fresh, 0 restored, 0 ran
",
        )
        .success()
        .ran_times("copy", 1)
        .run("why copy")
        .stdout(
            "
copy@host is fresh; it last ran:
  because: it never ran here
",
        )
        .success()
        .run("plan copy")
        .stdout(
            "
1 fresh, 0 cached, 0 stale, 0 unknown
",
        )
        .success();
    assert_eq!(sandbox.read("b"), "one\n");
}

#[test]
fn a_fresh_step_is_named_with_verbose_and_nothing_is_said_with_quiet() {
    let sandbox = copied();
    sandbox
        .run("build copy -v")
        .stderr(
            "
       Fresh copy@host
    Finished copy@host in [TIME]: 1 fresh, 0 restored, 0 ran
",
        )
        .success()
        .run("build copy -q")
        .stderr("")
        .success();
}
