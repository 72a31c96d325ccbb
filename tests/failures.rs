//! What goes wrong while steps run: failing commands, outputs that are not made, inputs that change meanwhile.

mod sandbox;

use std::path::PathBuf;

use sandbox::Sandbox;

#[test]
fn a_failing_command_is_shown_once_with_its_log_and_its_dependents_are_skipped() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.bad]
inputs = ['a']
outputs = ['b']
run = ['echo one; echo two', 'cat a > b; exit 3', '{ran} never']
[tasks.after]
inputs = ['b']
run = '{ran} never'
[tasks.later]
needs = ['after']
run = '{ran} never'
[tasks.other]
inputs = ['a']
run = '{ran} other'
[tasks.all]
needs = ['bad', 'later', 'other']
",
        )
        .file("a", "1");
    sandbox
        .run("build later")
        .stderr(
            "
     Running bad@host
error: bad@host failed: the command ended with exit code 3
  command: cat a > b; exit 3
  output of bad@host:
one
two
  log: [ROOT]/work/.bcache/logs/bad@host
  help: the whole log: cargo bcache log bad
  help: to look around: cargo bcache shell bad@host
     Skipped after@host, later@host
      Failed later@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 2 skipped
",
        )
        .exit(1)
        .ran_times("never", 0);
    assert!(!sandbox.exists("b"), "what a failed run left is removed");
    sandbox
        .run("build all --keep-going")
        .stderr(
            "
       Stale bad@host: its last run did not finish
     Running bad@host
error: bad@host failed: the command ended with exit code 3
  command: cat a > b; exit 3
  output of bad@host:
one
two
  log: [ROOT]/work/.bcache/logs/bad@host
  help: the whole log: cargo bcache log bad
  help: to look around: cargo bcache shell bad@host
     Running other@host
     Skipped after@host, later@host
      Failed all@host in [TIME]: 0 fresh, 0 restored, 1 ran, 1 failed, 2 skipped
",
        )
        .exit(1)
        .ran_times("never", 0)
        .ran_times("other", 1)
        .run("build all -k -q")
        .stderr(
            "
error: bad@host failed: the command ended with exit code 3
  command: cat a > b; exit 3
  output of bad@host:
one
two
  log: [ROOT]/work/.bcache/logs/bad@host
  help: the whole log: cargo bcache log bad
  help: to look around: cargo bcache shell bad@host
",
        )
        .exit(1);
}

#[test]
fn without_keep_going_nothing_begins_after_a_failure() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.bad]
inputs = ['a']
run = 'exit 1'
[tasks.other]
inputs = ['a']
run = '{ran} other'
[tasks.all]
needs = ['bad', 'other']
",
        )
        .file("a", "1");
    sandbox.run("build all").counts("0 fresh, 0 restored, 0 ran, 1 failed, 1 skipped").exit(1).ran_times("other", 0);
}

#[test]
fn a_command_that_is_killed_by_a_signal_says_so() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.crash]\ninputs = ['a']\nrun = 'kill -SEGV $$'\n").file("a", "1");
    sandbox
        .run("build crash")
        .stderr(
            "
     Running crash@host
error: crash@host failed: the command was killed by signal 11
  command: kill -SEGV $$
  help: to look around: cargo bcache shell crash@host
      Failed crash@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
}

#[test]
fn a_declared_output_that_is_not_made_is_named_and_nothing_is_stored() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['b', 'c/*.h', { path = 'maybe', optional = true }]
run = '{ran} gen; cat a > b'
",
        )
        .file("a", "1");
    sandbox
        .run("build gen")
        .stderr(
            "
     Running gen@host
error: gen@host failed: declared output `c/*.h` was not made
  help: to look around: cargo bcache shell gen@host
      Failed gen@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1)
        .run("cache list")
        .stdout("")
        .success()
        .run("build gen")
        .counts("0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped")
        .exit(1)
        .ran_times("gen", 2);
    assert!(!sandbox.exists("b"));
}

#[test]
fn an_input_that_matches_nothing_is_an_error_unless_it_is_optional() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a', 'no/*.c']
run = '{ran} gen'
",
        )
        .file("a", "1");
    sandbox
        .run("build gen")
        .stderr(
            "
error: gen@host failed: input `no/*.c` matches nothing
      Failed gen@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    sandbox.edit("tasks.toml", "'no/*.c'", "{ glob = 'no/*.c', optional = true }");
    sandbox.run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn an_edit_of_the_manifest_during_a_build_is_seen_by_the_next() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['b']
run = 'echo one > b; {gate middle}'
",
        )
        .file("a", "1");
    let build = sandbox.start("build gen");
    sandbox.reached("middle").edit("tasks.toml", "echo one", "echo two").open("middle");
    build.wait().counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.open("middle").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "two\n");
}

#[test]
fn errors_do_not_leave_temporary_directories_behind() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.gen]\ninputs = ['a']\nrun = 'exit 1'\n").file("a", "1");
    sandbox.run("build gen").counts("0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped").exit(1);
    let left: Vec<PathBuf> =
        std::fs::read_dir(sandbox.root().join("tmp")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn an_input_that_changes_between_two_steps_that_read_it_runs_the_first_again() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.first]
inputs = ['a', 'in/*']
outputs = ['b']
run = '{ran} first; cat a in/* > b'
[tasks.between]
needs = ['first']
inputs = ['tasks.toml']
run = '{gate between}'
[tasks.last]
needs = ['between']
inputs = ['a', 'in/*']
outputs = ['c']
run = '{ran} last; cat a in/* > c'
",
        )
        .file("a", "1")
        .file("in/x", "1");
    let build = sandbox.start("build last");
    sandbox.reached("between").file("a", "2").file("in/y", "2").open("between");
    build.wait().counts("0 fresh, 0 restored, 3 ran").success();
    sandbox.open("between").run("build last").counts("1 fresh, 0 restored, 2 ran").success();
    sandbox.ran_times("first", 2).ran_times("last", 1);
    assert_eq!((sandbox.read("b"), sandbox.read("c")), ("212".to_owned(), "212".to_owned()));
}

#[test]
fn nothing_behind_a_link_that_a_step_made_is_removed_with_its_outputs() {
    let sandbox = Sandbox::new();
    sandbox
        .file("mine/f", "of the user")
        .file("mine/g.x", "of the user")
        .file("mine/h/i", "of the user")
        .tasks(
            "
[tasks.a]
inputs = ['in']
outputs = ['made/above/f', 'made/glob/*.x', 'made/itself/']
run = 'cd made; rm -rf above glob itself; for name in above glob itself; do ln -s ../mine $name; done; cat ../gone'
",
        )
        .file("in", "1");
    let mine = sandbox.tree("mine");
    sandbox.run("build a").exit(1);
    assert_eq!(sandbox.tree("mine"), mine);
    assert!(!sandbox.exists("made/itself"));
    // Nor before the next run, nor by `clean`.
    sandbox.run("build a").exit(5);
    sandbox.run("clean").success();
    assert_eq!(sandbox.tree("mine"), mine);
}

#[test]
fn what_a_step_links_its_temporary_directory_to_is_not_emptied() {
    let sandbox = Sandbox::new();
    sandbox.file("mine/f", "of the user").file("in", "1").tasks(
        "
[tasks.a]
inputs = ['in']
outputs = ['out']
run = 'rm -rf $TMPDIR; ln -s $PWD/mine $TMPDIR; cp in out'
[tasks.b]
inputs = ['in']
outputs = ['b']
run = 'rm -rf $TMPDIR; ln -s $PWD/mine $TMPDIR; test ! -e again; touch again; exit 1'
",
    );
    sandbox.run("build a").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("mine/f"), "of the user");
    sandbox.run("build b").exit(1);
    sandbox.run("build b").exit(1);
    assert_eq!(sandbox.read("mine/f"), "of the user");
}
