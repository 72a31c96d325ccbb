//! `path`: what scripts ask. A warm answer comes out of the proof of a build, and must be the same as a cold one.

mod sandbox;

use sandbox::Sandbox;

const TASKS: &str = "
[bcache]
version = 1
default = 'one'
rebuild-env = ['OUR_REBUILD']
[tasks.one]
inputs = ['in']
outputs = ['out/one']
run = '{ran} one; cp in out/one'
[tasks.two]
inputs = ['in']
outputs = ['out/x', 'out/y']
run = '{ran} two; cp in out/x; cp in out/y'
[tasks.glob]
inputs = ['in']
outputs = ['made/*.txt']
run = '{ran} glob; mkdir -p made; cp in made/$(cat in).txt'
";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(TASKS).file("in", "1");
    sandbox
}

const ONE: &str = "[ROOT]/work/out/one\n";

#[test]
fn path_after_build_is_answered_by_the_proof_of_the_build() {
    let sandbox = sandbox();
    sandbox.run("build one").counts("0 fresh, 0 restored, 1 ran").success();
    for words in ["path one", "path one", "-q path one", "path one --output one"] {
        sandbox.run(words).stdout(ONE).success();
    }
    sandbox
        .run("path one")
        .stdout(ONE)
        .stderr(
            "
    Finished one@host in [TIME]: 1 fresh, 0 restored, 0 ran
",
        )
        .success()
        .ran_times("one", 1);
}

#[test]
fn path_makes_the_proof_that_the_next_build_and_path_rest_on() {
    let sandbox = sandbox();
    for _ in 0..3 {
        sandbox.run("path one").stdout(ONE).success();
    }
    let proofs = || std::fs::read_dir(sandbox.at(".bcache/proofs")).unwrap().count();
    assert_eq!(proofs(), 1);
    sandbox.run("build one").counts("1 fresh, 0 restored, 0 ran").success();
    assert_eq!(proofs(), 1);
}

#[test]
fn a_warm_path_notices_what_a_build_notices() {
    let sandbox = sandbox();
    sandbox.run("path one").stdout(ONE).success();
    sandbox.remove("out/one").run("path one").stdout(ONE).counts("0 fresh, 1 restored, 0 ran").success();
    sandbox.file("in", "2").run("path one").stdout(ONE).counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("out/one"), "2");
    sandbox.file("out/one", "3").run("path one").stdout(ONE).counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.read("out/one"), "2");
    sandbox.edit("tasks.toml", "out/one", "out/uno").run("path one").stdout("[ROOT]/work/out/uno\n").success();
}

#[test]
fn a_warm_path_of_a_glob_is_what_it_matched() {
    let sandbox = sandbox();
    for _ in 0..2 {
        sandbox.run("-q path glob").stdout("[ROOT]/work/made/1.txt\n").success();
    }
    sandbox.file("in", "2");
    for _ in 0..2 {
        sandbox.run("-q path glob").stdout("[ROOT]/work/made/2.txt\n").success();
    }
}

#[test]
fn a_warm_path_that_is_not_unique_is_the_error_that_a_cold_one_is() {
    let sandbox = sandbox();
    for _ in 0..2 {
        sandbox
            .run("-q path two")
            .stderr(
                "
error: `two@host` has 2 outputs
  help: name one: --output out/x, --output out/y
",
            )
            .exit(2);
        sandbox.run("-q path two --output y").stdout("[ROOT]/work/out/y\n").success();
        sandbox
            .run("-q path two --output z")
            .stderr(
                "
error: `two@host` has no output `z`
",
            )
            .exit(2);
    }
    sandbox.ran_times("two", 1);
}

#[test]
fn the_variables_of_rebuild_env_force_what_path_names() {
    let sandbox = sandbox();
    sandbox.run("-q path one").stdout(ONE).success().run("-q path one").stdout(ONE).success().ran_times("one", 1);
    sandbox
        .env("OUR_REBUILD", "1")
        .run("path one")
        .stdout(ONE)
        .stderr(
            "
       Stale one@host: forced by OUR_REBUILD
     Running one@host (last time [TIME])
    Finished one@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    sandbox.run("-q path one").stdout(ONE).success().ran_times("one", 3);
    sandbox.unset("OUR_REBUILD").run("path one").stdout(ONE).counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_step_that_fails_has_no_path() {
    let sandbox = sandbox();
    sandbox.run("-q path one").stdout(ONE).success();
    sandbox.edit("tasks.toml", "cp in out/one", "exit 3").run("-q path one").exit(1);
}
