//! Fresh, restored or run: each cause, and how `plan`, `why` and `build` say it.

mod sandbox;

use sandbox::Sandbox;

const COPY: &str = "
[tasks.copy]
inputs = ['a']
outputs = ['b']
run = '{ran} copy; cat a > b'
";

fn built(tasks: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("a", "one\n").run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox
}

/// All say that `copy` must run, and why; then it runs, and is fresh.
#[track_caller]
fn runs(sandbox: &Sandbox, code: &str, sentence: &str) {
    let times = sandbox.ran("copy");
    sandbox
        .run("plan copy")
        .stdout(&format!(
            "stale  copy@host  [TIME]  {sentence}\n0 fresh, 0 cached, 1 stale, 0 unknown; [TIME] of work\n"
        ))
        .success()
        .run("why copy")
        .stdout(&format!("copy@host would run now:\n  {code}: {sentence}\n"))
        .success()
        .run("build copy")
        .stderr(&format!(
            "       Stale copy@host: {sentence}\n     Running copy@host (last time [TIME])\n    Finished copy@host in [TIME]: 0 fresh, 0 restored, 1 ran\n"
        ))
        .success()
        .ran_times("copy", times + 1)
        .run("why copy")
        .stdout(&format!("copy@host is fresh; it last ran:\n  because: {sentence}\n"))
        .success();
    fresh(sandbox);
}

/// All say that `copy` is answered by the store, and why it is asked; then it is, and is fresh.
#[track_caller]
fn restores(sandbox: &Sandbox, code: &str, sentence: &str) {
    let times = sandbox.ran("copy");
    sandbox
        .run("plan copy")
        .stdout(&format!("cached  copy@host    {sentence}\n0 fresh, 1 cached, 0 stale, 0 unknown\n"))
        .success()
        .run("why copy")
        .stdout(&format!("copy@host would be restored now:\n  {code}: {sentence}\n"))
        .success()
        .run("build copy")
        .counts("0 fresh, 1 restored, 0 ran")
        .success()
        .ran_times("copy", times)
        .run("why copy")
        .stdout(&format!("copy@host is fresh; it was last restored:\n  because: {sentence}\n"))
        .success();
    fresh(sandbox);
}

#[track_caller]
fn fresh(sandbox: &Sandbox) {
    let times = sandbox.ran("copy");
    sandbox
        .run("build copy")
        .stderr("    Finished copy@host in [TIME]: 1 fresh, 0 restored, 0 ran\n")
        .success()
        // The proof gone, everything is looked at again.
        .remove(".bcache/proofs")
        .run("build copy")
        .stderr("    Finished copy@host in [TIME]: 1 fresh, 0 restored, 0 ran\n")
        .success()
        .run("plan copy")
        .stdout("1 fresh, 0 cached, 0 stale, 0 unknown\n")
        .success()
        .ran_times("copy", times);
}

#[test]
fn a_step_runs_once_and_is_fresh_after() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("a", "one\n");
    sandbox
        .run("plan copy")
        .stdout(
            "
stale  copy@host  ?  it never ran here
0 fresh, 0 cached, 1 stale, 0 unknown; 1 step never timed
",
        )
        .success()
        .run("build copy")
        .stderr(
            "
     Running copy@host
    Finished copy@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .run("why copy")
        .stdout(
            "
copy@host is fresh; it last ran:
  because: it never ran here
",
        )
        .success()
        .ran_times("copy", 1);
    fresh(&sandbox);
    assert_eq!(sandbox.read("b"), "one\n");
}

#[test]
fn a_fresh_step_is_named_with_verbose_and_nothing_is_said_with_quiet() {
    let sandbox = built(COPY);
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

#[test]
fn changed_contents_of_an_input_run_the_step_and_going_back_restores_it() {
    let sandbox = built(COPY);
    sandbox.file("a", "two\n");
    runs(&sandbox, "input-changed", "a changed");
    assert_eq!(sandbox.read("b"), "two\n");
    sandbox.file("a", "one\n");
    restores(&sandbox, "input-changed", "a changed");
    assert_eq!(sandbox.read("b"), "one\n");
}

#[test]
fn an_input_of_the_same_size_that_is_changed_at_once_is_seen() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("a", "0\n");
    for text in ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n"] {
        sandbox.file("a", text).run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
        assert_eq!(sandbox.read("b"), text);
    }
}

#[test]
fn a_touched_input_changes_nothing() {
    let sandbox = built(COPY);
    sandbox.touch("a");
    fresh(&sandbox);
}

#[test]
fn the_exec_bit_of_an_input_counts_and_its_other_modes_do_not() {
    let sandbox = built(COPY);
    sandbox.chmod("a", 0o755);
    runs(&sandbox, "input-changed", "a changed");
    sandbox.chmod("a", 0o744);
    fresh(&sandbox);
    sandbox.chmod("a", 0o400);
    restores(&sandbox, "input-changed", "a changed");
}

#[test]
fn a_symlink_behind_a_glob_counts_by_its_text_and_by_what_it_leads_to() {
    let tasks = "
[tasks.copy]
inputs = ['in/*']
outputs = ['b']
run = '{ran} copy; cat in/* > b'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("x", "1").file("y", "1").link("in/link", "../x");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("x", "2");
    runs(&sandbox, "input-changed", "x changed");
    sandbox.remove("in/link").link("in/link", "../y");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    fresh(&sandbox);
    sandbox.file("x", "3");
    fresh(&sandbox);
}

#[test]
fn a_link_named_as_an_input_counts_by_its_text_and_by_what_it_leads_to() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("x", "one\n").file("y", "one\n").link("a", "x");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("x", "two\n");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "two\n");
    sandbox.remove("a").link("a", "y");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "one\n");
}

#[test]
fn a_file_that_comes_or_goes_behind_a_glob_runs_the_step() {
    let tasks = "
[tasks.copy]
inputs = ['in/**/*.txt', '!in/not/**']
outputs = ['b']
run = '{ran} copy; find in -name \"*.txt\" | sort > b'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("in/a.txt", "1").file("in/not/x.txt", "1").file("in/other", "1");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("in/deep/b.txt", "2");
    runs(&sandbox, "input-added", "in/deep/b.txt is new");
    sandbox.file("in/other2", "").file("in/not/y.txt", "2").append("in/other", "2");
    fresh(&sandbox);
    sandbox.remove("in/a.txt");
    runs(&sandbox, "input-removed", "in/a.txt is gone");
}

#[test]
fn a_changed_command_runs_the_step_and_says_both() {
    let sandbox = built(
        "
[tasks.copy]
inputs = ['a']
outputs = ['b']
run = ['{ran} copy', 'cat a > b']
",
    );
    sandbox.edit("tasks.toml", "cat a > b", "cat a a > b");
    runs(&sandbox, "command-changed", "command 2 changed: `cat a > b` -> `cat a a > b`");
    sandbox.edit("tasks.toml", "cat a a > b'", "cat a a > b', 'true'");
    runs(&sandbox, "command-added", "command 3 is new");
    sandbox.edit("tasks.toml", ", 'true'", "");
    restores(&sandbox, "command-removed", "command 3 is gone");
}

#[test]
fn the_order_of_commands_counts_and_the_order_of_tables_does_not() {
    let sandbox = built(
        "
[tasks.copy]
inputs = ['a']
outputs = ['b']
env = { X = '1', Y = '2' }
run = ['{ran} copy', 'cat a > b', 'true']
",
    );
    sandbox.edit("tasks.toml", "X = '1', Y = '2'", "Y = '2', X = '1'");
    fresh(&sandbox);
    sandbox.edit("tasks.toml", "'cat a > b', 'true'", "'true', 'cat a > b'");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success().ran_times("copy", 2);
}

#[test]
fn descriptions_comments_and_other_tasks_are_not_in_the_key() {
    let sandbox = built(COPY);
    sandbox.edit("tasks.toml", "outputs = ['b']", "outputs = ['b'] # here\ndesc = 'copies'");
    sandbox.append("tasks.toml", "[tasks.other]\nrun = 'true'\n");
    fresh(&sandbox);
}

#[test]
fn env_of_a_task_is_in_the_key() {
    let sandbox = built(
        "
[tasks.copy]
inputs = ['a']
outputs = ['b']
env = { WORD = 'x' }
run = '{ran} copy; echo $WORD > b'
",
    );
    sandbox.edit("tasks.toml", "WORD = 'x'", "WORD = 'y'");
    runs(&sandbox, "env-changed", "variable WORD changed: `x` -> `y`");
    assert_eq!(sandbox.read("b"), "y\n");
    sandbox.edit("tasks.toml", "WORD = 'y'", "WORD = 'y', MORE = ''");
    runs(&sandbox, "env-added", "variable MORE is new");
}

#[test]
fn env_pass_tells_unset_from_empty_from_set() {
    let sandbox = built(
        "
[tasks.copy]
inputs = ['a']
outputs = ['b']
env-pass = ['WORD']
run = '{ran} copy; echo \"${WORD-unset}\" > b'
",
    );
    assert_eq!(sandbox.read("b"), "unset\n");
    sandbox.env("WORD", "");
    runs(&sandbox, "env-changed", "variable WORD changed from `(unset)`");
    assert_eq!(sandbox.read("b"), "\n");
    sandbox.env("WORD", "w");
    runs(&sandbox, "env-changed", "variable WORD changed to `w`");
    assert_eq!(sandbox.read("b"), "w\n");
    sandbox.unset("WORD");
    restores(&sandbox, "env-changed", "variable WORD changed: `w` -> `(unset)`");
    assert_eq!(sandbox.read("b"), "unset\n");
}

#[test]
fn env_pass_with_key_false_and_undeclared_variables_change_nothing() {
    let sandbox = built(
        "
[tasks.copy]
inputs = ['a']
outputs = ['b']
env-pass = [{ name = 'CI', key = false }]
run = '{ran} copy; echo \"${CI-unset} ${OTHER-unset}\" > b'
",
    );
    assert_eq!(sandbox.read("b"), "unset unset\n");
    sandbox.env("CI", "1").env("OTHER", "1");
    fresh(&sandbox);
    sandbox.run("build copy --force").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "1 unset\n");
}

#[test]
fn a_compiler_variable_that_is_set_outside_and_ignored_is_said() {
    let sandbox = built(COPY);
    sandbox.env("CC", "clang").env("CFLAGS", "-O9");
    sandbox
        .run("build copy")
        .stderr(
            "
warning: set outside and of no effect on cached steps: CC, CFLAGS (declare in `env`, or let pass with `env-pass`)
    Finished copy@host in [TIME]: 1 fresh, 0 restored, 0 ran
",
        )
        .success()
        .run("build copy")
        .stderr(
            "
warning: set outside and of no effect on cached steps: CC, CFLAGS (declare in `env`, or let pass with `env-pass`)
    Finished copy@host in [TIME]: 1 fresh, 0 restored, 0 ran
",
        )
        .success();
}

#[test]
fn a_tool_counts_by_its_contents_and_by_the_version_that_a_script_says() {
    let tasks = "
[tasks.copy]
inputs = ['a']
outputs = ['b']
tools = ['conv']
run = '{ran} copy; conv a > b'
";
    let sandbox = Sandbox::new();
    sandbox
        .tasks(tasks)
        .file("a", "one\n")
        .file("version", "1")
        .tool("conv", "case $1 in --version) cat ../work/version;; *) tr o 0 < $1;; esac");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.tool("conv", "case $1 in --version) cat ../work/version;; *) tr o O < $1;; esac");
    runs(&sandbox, "tool-changed", "tool conv changed");
    assert_eq!(sandbox.read("b"), "One\n");
}

#[test]
fn a_tool_with_a_version_command_counts_by_what_it_says_alone() {
    let tasks = "
[tasks.copy]
inputs = ['a']
outputs = ['b']
tools = [{ name = 'conv', version = 'conv --version' }]
run = '{ran} copy; conv a > b'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("a", "one\n").tool("conv", "case $1 in --version) echo conv 1.0;; *) tr o 0 < $1;; esac");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.tool("conv", "case $1 in --version) echo conv 1.0;; *) tr o 0 < $1;; esac # rebuilt");
    fresh(&sandbox);
    sandbox.tool("conv", "case $1 in --version) echo conv 1.1;; *) tr o 0 < $1;; esac");
    runs(&sandbox, "tool-changed", "tool conv changed: `conv 1.0` -> `conv 1.1`");
}

#[test]
fn a_tool_of_a_command_counts_without_being_declared() {
    let tasks = "
[tasks.copy]
inputs = ['a']
outputs = ['b']
run = ['{ran} copy', 'conv a > b']
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("a", "one\n").tool("conv", "tr o 0 < $1");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.tool("conv", "tr o O < $1");
    runs(&sandbox, "tool-changed", "tool conv changed");
}

#[test]
fn a_script_of_the_workspace_in_a_command_is_an_input() {
    let tasks = "
[tasks.copy]
inputs = ['a']
outputs = ['b']
run = ['{ran} copy', 'sh tools/conv.sh a > b']
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("a", "one\n").file("tools/conv.sh", "cat $1");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("tools/conv.sh", "cat $1 $1");
    runs(&sandbox, "input-changed", "tools/conv.sh changed");
}

#[test]
fn changed_declared_outputs_run_the_step() {
    let sandbox = built(COPY);
    sandbox.edit("tasks.toml", "outputs = ['b']", "outputs = ['b', { path = 'c', optional = true }]");
    runs(&sandbox, "output-added", "declared output c is new");
}

#[test]
fn a_deleted_output_comes_back_from_the_store() {
    let sandbox = built(COPY);
    sandbox.remove("b");
    restores(&sandbox, "output-missing", "output b is missing");
    assert_eq!(sandbox.read("b"), "one\n");
}

#[test]
fn an_edited_output_is_restored() {
    let sandbox = built(COPY);
    sandbox.file("b", "mine\n");
    sandbox
        .run("build copy")
        .stderr(
            "
    Restored copy@host (1 file, 4 B) in [TIME]
    Finished copy@host in [TIME]: 0 fresh, 1 restored, 0 ran
",
        )
        .success()
        .ran_times("copy", 1);
    assert_eq!(sandbox.read("b"), "one\n");
}

#[test]
fn a_touched_output_is_fresh_and_one_with_another_mode_is_not() {
    let sandbox = built(COPY);
    sandbox.touch("b");
    fresh(&sandbox);
    sandbox.chmod("b", 0o600);
    restores(&sandbox, "output-modified", "output b was changed");
    assert_eq!(sandbox.tree("b"), [" 644 one\\n"]);
}

#[test]
fn an_edited_output_that_is_not_in_the_store_runs_the_step() {
    let sandbox = built(COPY);
    std::fs::remove_dir_all(sandbox.store()).unwrap();
    sandbox.file("b", "mine\n");
    sandbox
        .run("build copy")
        .stderr(
            "
       Stale copy@host: output b was changed
     Running copy@host (last time [TIME])
    Finished copy@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .ran_times("copy", 2);
    assert_eq!(sandbox.read("b"), "one\n");
}

#[test]
fn a_cache_in_the_workspace_is_no_input_and_what_lies_beside_its_directories_is() {
    let tasks = "
[tasks.t]
inputs = ['**', '!git']
outputs = ['out']
run = '{ran} t; cat in kept/in > out'
[tasks.g]
inputs = [{ git = '.' }]
outputs = ['git']
run = 'cat in kept/in > git'
[tasks.all]
needs = ['t', 'g']
";
    // Also by a name behind links, and where the workspace itself lies in it.
    for home in ["kept", "./kept/../kept", "by/link", "."] {
        let sandbox = Sandbox::new();
        sandbox.tasks(tasks).file("in", "in\n").file("kept/in", "1\n").link("by", "to").link("to/link", "../kept");
        let git = std::process::Command::new("git").arg("-C").arg(sandbox.work()).args(["init", "-q"]).status();
        assert!(git.unwrap().success());
        sandbox.env("BCACHE_HOME", home).run("build all").counts("0 fresh, 0 restored, 2 ran").success();
        for _ in 0..2 {
            sandbox.run("build --force g").counts("1 fresh, 0 restored, 1 ran").success();
            sandbox.run("build all").counts("2 fresh, 0 restored, 0 ran").success();
        }
        sandbox.file("kept/in", "2\n").run("build all").counts("0 fresh, 0 restored, 2 ran").success();
        assert_eq!(sandbox.read("out"), "in\n2\n");
    }
}
