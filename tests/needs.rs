//! What a step means for those that need it: early cutoff, and tasks that always run.

mod sandbox;

use sandbox::Sandbox;

#[test]
fn a_step_that_makes_the_same_again_leaves_its_dependents_fresh() {
    let tasks = "
[tasks.gen]
inputs = ['src']
outputs = ['a']
run = '{ran} gen; head -n 1 src > a'
[tasks.copy]
needs = ['gen']
inputs = ['a']
outputs = ['b']
run = '{ran} copy; cat a > b'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("src", "code\n");
    sandbox
        .run("build copy")
        .counts("0 fresh, 0 restored, 2 ran")
        .success()
        .append("src", "# a comment\n")
        .run("plan copy")
        .stdout(
            "
stale    gen@host  [TIME]  src changed
unknown  copy@host  [TIME]  waits on gen@host
0 fresh, 0 cached, 1 stale, 1 unknown; [TIME] of work, at worst [TIME]
",
        )
        .success()
        .run("why copy")
        .stdout(
            "
copy@host can't be judged yet:
  waits: waits on gen@host
",
        )
        .success()
        .run("build copy")
        .stderr(
            "
       Stale gen@host: src changed
     Running gen@host (last time [TIME])
    Finished copy@host in [TIME]: 1 fresh, 0 restored, 1 ran
",
        )
        .success()
        .ran_times("gen", 2)
        .ran_times("copy", 1)
        .file("src", "other\n")
        .run("build copy")
        .stderr(
            "
       Stale gen@host: src changed
     Running gen@host (last time [TIME])
       Stale copy@host: a changed; gen@host's output changed (a)
     Running copy@host (last time [TIME])
    Finished copy@host in [TIME]: 0 fresh, 0 restored, 2 ran
",
        )
        .success()
        .ran_times("gen", 3)
        .ran_times("copy", 2);
    assert_eq!(sandbox.read("b"), "other\n");
}

#[test]
fn cache_false_always_runs_and_its_outputs_count_for_dependents() {
    let tasks = "
[tasks.gen]
cache = false
outputs = ['a']
run = '{ran} gen; cat src > a'
[tasks.copy]
needs = ['gen']
inputs = ['a']
outputs = ['b']
run = '{ran} copy; cat a > b'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("src", "1");
    sandbox
        .run("build copy")
        .counts("0 fresh, 0 restored, 2 ran")
        .success()
        .run("plan gen")
        .stdout(
            "
stale  gen@host  ?  it always runs
0 fresh, 0 cached, 1 stale, 0 unknown; 1 step never timed
",
        )
        .success()
        .run("build copy")
        .stderr(
            "
     Running gen@host
    Finished copy@host in [TIME]: 1 fresh, 0 restored, 1 ran
",
        )
        .success()
        .ran_times("gen", 2)
        .ran_times("copy", 1)
        .file("src", "2")
        .run("build copy")
        .counts("0 fresh, 0 restored, 2 ran")
        .success();
}

#[test]
fn a_task_with_nothing_to_judge_by_always_runs() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.hello]\nrun = '{ran} hello'\n");
    sandbox
        .run("build hello")
        .stderr(
            "
     Running hello@host
    Finished hello@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .run("build hello")
        .stderr(
            "
     Running hello@host
    Finished hello@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .ran_times("hello", 2);
}

#[test]
fn a_directory_that_a_compiler_is_told_by_a_flag_is_a_need() {
    let flags = ["-Igen", "-Lgen", "-isystemgen", "-include gen/a", "-includegen/a", "-Wl,-O1,-Tgen/a", "@gen/a"];
    for flag in flags {
        let sandbox = Sandbox::new();
        sandbox
            .tasks(&format!(
                "
[tasks.gen]
inputs = ['a']
outputs = ['gen/']
run = 'cp a gen/'
[tasks.use]
inputs = ['reader']
outputs = ['out']
run = './reader {flag} > out'
"
            ))
            .file("a", "one\n")
            .file("reader", "#!/bin/sh\ncat gen/a\n")
            .chmod("reader", 0o755)
            .run("build use")
            .counts("0 fresh, 0 restored, 2 ran")
            .success();
        sandbox.file("a", "two\n").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
        assert_eq!(sandbox.read("out"), "two\n", "{flag}");
    }
}
