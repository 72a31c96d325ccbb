//! What runs although it is fresh: `--force`, `-B`, `BCACHE_REBUILD`, `rebuild-env`.

mod sandbox;

use sandbox::Sandbox;

/// `all` groups `one` and `pair`, which groups `two` and `three`; `two` needs `base`.
const TASKS: &str = "
[bcache]
version = 1
default = 'all'
rebuild-env = ['OUR_REBUILD']
[tasks.base]
inputs = ['in']
outputs = ['base']
run = '{ran} base; cat in > base'
[tasks.one]
inputs = ['in']
outputs = ['one']
run = '{ran} one; cat in > one'
[tasks.two]
inputs = ['base']
outputs = ['two']
run = '{ran} two; cat base > two'
[tasks.three]
inputs = ['in']
outputs = ['three']
run = '{ran} three; cat in > three'
[tasks.pair]
needs = ['two', 'three']
[tasks.all]
needs = ['one', 'pair']
";

fn built() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(TASKS).file("in", "1");
    sandbox.run("build").counts("0 fresh, 0 restored, 4 ran").success();
    sandbox
}

/// How often each ran after the first build.
#[track_caller]
fn ran(sandbox: &Sandbox, [base, one, two, three]: [usize; 4]) {
    sandbox
        .ran_times("base", 1 + base)
        .ran_times("one", 1 + one)
        .ran_times("two", 1 + two)
        .ran_times("three", 1 + three);
}

#[test]
fn force_runs_the_named_task_and_not_its_needs() {
    let sandbox = built();
    sandbox
        .run("build two --force")
        .stderr(
            "
       Stale two@host: forced by --force
     Running two@host (last time [TIME])
    Finished two@host in [TIME]: 1 fresh, 0 restored, 1 ran
",
        )
        .success()
        .run("why two")
        .stdout(
            "
two@host is fresh; it last ran:
  because: forced by --force
",
        )
        .success();
    ran(&sandbox, [0, 0, 1, 0]);
}

#[test]
fn force_of_a_group_runs_its_direct_members_that_have_commands() {
    let sandbox = built();
    sandbox.run("build --force").counts("3 fresh, 0 restored, 1 ran").success();
    ran(&sandbox, [0, 1, 0, 0]);
    sandbox.run("build pair --force").counts("1 fresh, 0 restored, 2 ran").success();
    ran(&sandbox, [0, 1, 1, 1]);
}

#[test]
fn force_all_and_b_run_the_needs_too() {
    let sandbox = built();
    sandbox.run("build two --force=all").counts("0 fresh, 0 restored, 2 ran").success();
    ran(&sandbox, [1, 0, 1, 0]);
    sandbox.run("build two -B").counts("0 fresh, 0 restored, 2 ran").success();
    ran(&sandbox, [2, 0, 2, 0]);
}

#[test]
fn plan_says_what_force_would_do() {
    built()
        .run("plan two --force")
        .stdout(
            "
stale  two@host  [TIME]  forced by --force
1 fresh, 0 cached, 1 stale, 0 unknown; [TIME] of work
",
        )
        .success()
        .run("build two -n --force=all")
        .stdout(
            "
stale  base@host  [TIME]  forced by --force=all
stale  two@host  [TIME]  forced by --force=all
0 fresh, 0 cached, 2 stale, 0 unknown; [TIME] of work
",
        )
        .success();
}

#[test]
fn bcache_rebuild_1_runs_what_is_asked_for_each_time() {
    let sandbox = built();
    sandbox.env("BCACHE_REBUILD", "1");
    sandbox.run("build two").counts("1 fresh, 0 restored, 1 ran").success();
    sandbox.run("build two").counts("1 fresh, 0 restored, 1 ran").success();
    sandbox.unset("BCACHE_REBUILD").run("build two").counts("2 fresh, 0 restored, 0 ran").success();
    ran(&sandbox, [0, 0, 2, 0]);
}

#[test]
fn bcache_rebuild_with_names_runs_these_wherever_they_are_in_the_request() {
    let sandbox = built();
    sandbox
        .env("BCACHE_REBUILD", "base,three@host")
        .run("build two")
        .stderr(
            "
       Stale base@host: forced by BCACHE_REBUILD
     Running base@host (last time [TIME])
    Finished two@host in [TIME]: 1 fresh, 0 restored, 1 ran
",
        )
        .success()
        .run("build one")
        .counts("1 fresh, 0 restored, 0 ran")
        .success()
        .run("build")
        .counts("2 fresh, 0 restored, 2 ran")
        .success();
    ran(&sandbox, [2, 0, 0, 1]);
    sandbox.env("BCACHE_REBUILD", "pair").run("build").counts("2 fresh, 0 restored, 2 ran").success();
    ran(&sandbox, [2, 0, 1, 2]);
}

#[test]
fn bcache_rebuild_with_an_unknown_name_is_an_error() {
    let sandbox = built();
    sandbox
        .env("BCACHE_REBUILD", "thre")
        .run("build")
        .stderr(
            "
error: BCACHE_REBUILD names `thre`, which is no task
  help: did you mean `three`?
",
        )
        .exit(2);
}

#[test]
fn bcache_rebuild_empty_or_0_forces_nothing() {
    let sandbox = built();
    for value in ["", "0", "false"] {
        sandbox.env("BCACHE_REBUILD", value).run("build").counts("4 fresh, 0 restored, 0 ran").success();
    }
}

#[test]
fn the_variables_of_rebuild_env_force_as_bcache_rebuild_does() {
    let sandbox = built();
    sandbox
        .env("OUR_REBUILD", "1")
        .run("build three")
        .stderr(
            "
       Stale three@host: forced by OUR_REBUILD
     Running three@host (last time [TIME])
    Finished three@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .env("OUR_REBUILD", "one")
        .run("build")
        .counts("3 fresh, 0 restored, 1 ran")
        .success();
    ran(&sandbox, [0, 1, 0, 1]);
}

#[test]
fn a_forced_result_is_stored_like_any_other() {
    let sandbox = built();
    sandbox.run("build one --force").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.remove("one").run("build one").counts("0 fresh, 1 restored, 0 ran").success();
    ran(&sandbox, [0, 1, 0, 0]);
}
