//! The command line, tools, and places that can't be read or written.

use super::sandbox::Sandbox;

#[test]
fn no_manifest_here_or_above_is_said_with_what_to_write() {
    Sandbox::new()
        .run("build x")
        .stderr(
            "
error: no tasks.toml in `[ROOT]/work` or above
  help: make one: `[bcache]`, `version = 1`, then a `[tasks.NAME]` with a `run`
",
        )
        .exit(3);
}

#[test]
fn an_unknown_task_target_or_option_is_a_slip_with_a_proposal() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.glib]\nrun = 'true'\n");
    sandbox
        .run("build glibb")
        .stderr(
            "
error: no task `glibb`
  help: did you mean `glib`?
",
        )
        .exit(2)
        .run("build glib@linx")
        .stderr(
            "
error: no target `linx`
",
        )
        .exit(2)
        .run("build")
        .stderr(
            "
error: nothing to build: no task was named, and `[bcache]` has no `default`
  help: name one of: glib
",
        )
        .exit(2)
        .run("build glib --frce")
        .stderr(
            "
error: unexpected argument '--frce' found

  tip: a similar argument exists: '--force'

Usage: cargo-bcache build --force[=<all>] <TASK[@TARGET]>...

For more information, try '--help'.
",
        )
        .exit(2);
}

#[test]
fn a_missing_tool_is_named_with_who_wants_it_and_how_to_get_it_and_nothing_runs() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.first]
inputs = ['a']
outputs = ['b']
run = '{ran} first; cat a > b'
[tasks.second]
inputs = ['b']
tools = [{ name = 'bisonn', install = 'apt-get install bison' }, 'flexx']
run = [['bisonn', 'b']]
",
        )
        .file("a", "1");
    sandbox
        .run("build second")
        .stderr(
            "
error: 2 tools are missing: `bisonn`, wanted by second@host; `flexx`, wanted by second@host
  help: to get them: apt-get install bison
",
        )
        .exit(4)
        .ran_times("first", 0);
    sandbox.run("build first").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn an_unreadable_input_is_named() {
    let Some(sandbox) = Sandbox::of_a_user() else { return };
    sandbox.tasks("[tasks.gen]\ninputs = ['a']\nrun = 'true'\n").file("a", "1").chmod("a", 0);
    sandbox
        .run("build gen")
        .stderr(
            "
error: gen@host failed: cannot read `[ROOT]/work/a`: Permission denied (os error 13)
      Failed gen@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
}

#[test]
fn a_worktree_that_cannot_be_written_is_named() {
    let Some(sandbox) = Sandbox::of_a_user() else { return };
    sandbox.tasks("[tasks.gen]\ninputs = ['a']\nrun = 'true'\n").file("a", "1").chmod("", 0o555);
    sandbox
        .run("build gen")
        .stderr(
            "
error: could not make `[ROOT]/work/.bcache`
  because: Permission denied (os error 13)
",
        )
        .exit(5);
    sandbox.chmod("", 0o755);
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    let Some(sandbox) = Sandbox::of_a_user() else { return };
    sandbox.tasks("[tasks.gen]\ninputs = ['a']\nrun = 'true'\n").file("a", "1").chmod("../store", 0o555);
    sandbox
        .run("build gen")
        .stderr(
            "
error: could not make `[ROOT]/store/v1/results`
  because: Permission denied (os error 13)
",
        )
        .exit(5);
    sandbox.chmod("../store", 0o755);
}

#[test]
fn an_input_that_goes_back_from_where_a_link_leads_is_no_input() {
    let sandbox = Sandbox::new();
    let task = |input: &str| {
        format!("[tasks.copy]\ninputs = ['{input}']\noutputs = ['o']\nrun = ': {input}; cat link/../f > o'\n")
    };
    sandbox
        .tasks(&task("link/../f"))
        .file("f", "near")
        .file("far/f", "far")
        .file("far/inner/x", "")
        .dir("plain")
        .link("link", "far/inner")
        .run("build copy")
        .stderr(
            "
error: copy@host failed: input `f` is written with `..` after the link `[ROOT]/work/link`: commands find another file there
      Failed copy@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    sandbox.tasks(&task("link/../*")).run("build copy").says("`..` after the link `[ROOT]/work/link`").exit(1);
    // To commands these are the same.
    for input in ["plain/../f", "gone/../f", "far/../f", "plain/../*"] {
        sandbox.tasks(&task(input)).run("build copy").success();
    }
    sandbox.remove("link").link("link", "plain").tasks(&task("link/../f")).run("build copy").success();
    assert_eq!(sandbox.read("o"), "near");
    for _ in 0..2 {
        sandbox.run("build copy").counts("1 fresh, 0 restored, 0 ran").success();
    }
    sandbox
        .remove("link")
        .link("link", "far/inner")
        .run("build copy")
        .says("`..` after the link `[ROOT]/work/link`")
        .exit(1);
}
