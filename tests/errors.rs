//! What goes wrong, and what the user gets: each row of the table in DESIGN.md.

mod sandbox;

use std::path::PathBuf;

use sandbox::Sandbox;

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

#[test]
fn two_owners_of_an_output_are_both_named() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.a]
inputs = ['in']
outputs = ['out/']
run = 'true'
[tasks.b]
inputs = ['in']
outputs = ['out/x']
run = 'true'
",
    );
    sandbox
        .run("build a")
        .stderr(
            "
bcache::graph::two_owners

  × `a@host` and `b@host` both make `out/x`
    ╭─[tasks.toml:9:12]
  4 │ inputs = ['in']
  5 │ outputs = ['out/']
    ·            ───┬──
    ·               ╰── made by `a@host`
  6 │ run = 'true'
  7 │ [tasks.b]
  8 │ inputs = ['in']
  9 │ outputs = ['out/x']
    ·            ───┬───
    ·               ╰── made by `b@host`
 10 │ run = 'true'
    ╰────
  help: every path has one owner

error: 1 problem in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn outputs_that_lead_out_of_the_workspace_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.up]
outputs = ['../x']
run = 'true'
[tasks.inner-up]
outputs = ['a/../../x']
run = 'true'
[tasks.absolute]
outputs = ['/etc/x']
run = 'true'
[tasks.all]
outputs = ['./']
run = 'true'
",
    );
    sandbox
        .run("build up")
        .stderr(
            "
bcache::manifest::output_place

  × the output `../x` does not lie inside the workspace
   ╭─[tasks.toml:4:12]
 3 │ [tasks.up]
 4 │ outputs = ['../x']
   ·            ──────
 5 │ run = 'true'
   ╰────
  help: write it relative to the file that it stands in

bcache::manifest::output_place

  × the output `a/../../x` does not lie inside the workspace
   ╭─[tasks.toml:7:12]
 6 │ [tasks.inner-up]
 7 │ outputs = ['a/../../x']
   ·            ───────────
 8 │ run = 'true'
   ╰────
  help: write it relative to the file that it stands in

bcache::manifest::output_place

  × the output `/etc/x` does not lie inside the workspace
    ╭─[tasks.toml:10:12]
  9 │ [tasks.absolute]
 10 │ outputs = ['/etc/x']
    ·            ────────
 11 │ run = 'true'
    ╰────
  help: write it relative to the file that it stands in

bcache::manifest::output_place

  × the output `./` does not lie inside the workspace
    ╭─[tasks.toml:13:12]
 12 │ [tasks.all]
 13 │ outputs = ['./']
    ·            ────
 14 │ run = 'true'
    ╰────
  help: write it relative to the file that it stands in

error: 4 problems in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn outputs_among_the_files_of_git_of_ours_and_of_the_manifest_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.state]
outputs = ['.bcache/x']
run = 'true'
[tasks.git]
outputs = ['.git/hooks/']
run = 'true'
[tasks.manifest]
outputs = ['tasks.toml']
run = 'true'
[tasks.inner]
outputs = ['a/../.bcache']
run = 'true'
",
    );
    sandbox
        .run("build state")
        .stderr(
            "
bcache::graph::outside

  × an output can't lie in `.bcache`
   ╭─[tasks.toml:4:12]
 3 │ [tasks.state]
 4 │ outputs = ['.bcache/x']
   ·            ───────────
 5 │ run = 'true'
   ╰────

bcache::graph::outside

  × an output can't lie in `.git`
   ╭─[tasks.toml:7:12]
 6 │ [tasks.git]
 7 │ outputs = ['.git/hooks/']
   ·            ─────────────
 8 │ run = 'true'
   ╰────

bcache::graph::outside

  × an output can't be the manifest `tasks.toml`
    ╭─[tasks.toml:10:12]
  9 │ [tasks.manifest]
 10 │ outputs = ['tasks.toml']
    ·            ────────────
 11 │ run = 'true'
    ╰────

bcache::graph::outside

  × an output can't lie in `.bcache`
    ╭─[tasks.toml:13:12]
 12 │ [tasks.inner]
 13 │ outputs = ['a/../.bcache']
    ·            ──────────────
 14 │ run = 'true'
    ╰────

error: 4 problems in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn an_output_behind_a_link_that_leads_out_is_refused_before_anything_runs() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['out/x']
run = '{ran} gen; echo > out/x'
",
        )
        .file("a", "1")
        .link("out", "../home")
        .file("../home/x", "precious");
    sandbox
        .run("build gen")
        .stderr(
            "
error: gen@host failed: `[ROOT]/work/out/x` can't be reached: `[ROOT]/work/out` is a symbolic link
      Failed gen@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(5)
        .ran_times("gen", 0);
    assert_eq!(sandbox.read("../home/x"), "precious");
}

#[test]
fn a_restore_through_a_link_that_leads_out_is_refused() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['out/x']
run = '{ran} gen; echo > out/x'
",
        )
        .file("a", "1")
        .run("build gen")
        .counts("0 fresh, 0 restored, 1 ran")
        .success();
    sandbox.remove("out").link("out", "../home").file("../home/x", "precious");
    sandbox
        .run("build gen")
        .stderr(
            "
error: gen@host failed: `[ROOT]/work/out/x` can't be reached: `[ROOT]/work/out` is a symbolic link
      Failed gen@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(5)
        .ran_times("gen", 1);
    assert_eq!(sandbox.read("../home/x"), "precious");
    sandbox
        .run("clean")
        .stderr(
            "
note: removed 0 files; the cache keeps its copies
",
        )
        .success();
    assert_eq!(sandbox.read("../home/x"), "precious");
}

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
fn a_failing_command_is_shown_once_with_its_log_and_its_dependents_are_skipped() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.bad]
inputs = ['a']
outputs = ['b']
run = ['echo one; echo two >&2', 'cat a > b; exit 3', '{ran} never']
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
fn an_input_that_changes_during_the_run_keeps_the_outputs_and_stores_nothing() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['b']
run = '{ran} gen; cat a > b; {gate middle}'
",
        )
        .file("a", "1");
    let build = sandbox.start("build gen");
    sandbox.reached("middle").file("a", "2").open("middle");
    build
        .wait()
        .stderr(
            "
     Running gen@host
warning: a was changed while gen@host ran: its result is kept here, but not stored
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .run("cache list")
        .stdout("")
        .success();
    assert_eq!(sandbox.read("b"), "1");
    sandbox
        .open("middle")
        .run("build gen")
        .stderr(
            "
       Stale gen@host: its last run did not finish; a changed
     Running gen@host (last time [TIME])
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .ran_times("gen", 2);
    assert_eq!(sandbox.read("b"), "2");
    sandbox.run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn an_input_that_is_changed_and_changed_back_during_the_run_is_seen() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['b']
run = '{gate before}; cat a > b; {gate after}'
",
        )
        .file("a", "1");
    let build = sandbox.start("build gen");
    sandbox.reached("before").file("a", "2").open("before").reached("after").file("a", "1").open("after");
    build
        .wait()
        .stderr(
            "
     Running gen@host
warning: a was changed while gen@host ran: its result is kept here, but not stored
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .run("cache list")
        .stdout("")
        .success();
    sandbox.open("before").open("after").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "1");
}

#[test]
fn a_file_that_appears_behind_a_glob_during_the_run_is_seen() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['in/*']
outputs = ['b']
run = 'cat in/* > b; {gate after}'
",
        )
        .file("in/1", "1");
    let build = sandbox.start("build gen");
    sandbox.reached("after").file("in/2", "2").open("after");
    build
        .wait()
        .stderr(
            "
     Running gen@host
warning: in/2 was changed while gen@host ran: its result is kept here, but not stored
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    sandbox.open("after").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "12");
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
fn a_file_of_an_output_directory_that_git_tracks_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['out/']
run = '{ran} gen; cat a > out/b'
",
        )
        .file("a", "1")
        .file("out/kept", "tracked");
    let git = |words: &[&str]| {
        let status = std::process::Command::new("git")
            .args(words)
            .current_dir(sandbox.work())
            .env("HOME", sandbox.root())
            .status();
        assert!(status.unwrap().success());
    };
    git(&["init", "-q"]);
    git(&["add", "out/kept"]);
    sandbox
        .run("build gen")
        .stderr(
            "
bcache::graph::tracked_output

  × `out/kept` is tracked by git, and lies in an output directory of
  │ `gen@host`
   ╭─[tasks.toml:5:12]
 4 │ inputs = ['a']
 5 │ outputs = ['out/']
   ·            ───┬──
   ·               ╰── belongs to its task whole
 6 │ run = 'echo >>[ROOT]/ran gen; cat a > out/b'
   ╰────
  help: take the file out of the directory, or declare outputs file by file

error: 1 problem in tasks.toml
",
        )
        .exit(3)
        .ran_times("gen", 0);
    assert_eq!(sandbox.read("out/kept"), "tracked");
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
