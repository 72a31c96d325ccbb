//! What is wrong before anything runs: the manifest, the graph, the command line, tools, places.

mod sandbox;

use sandbox::Sandbox;

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
