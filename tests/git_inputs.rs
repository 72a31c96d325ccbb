//! Inputs that are what git tracks or would add.

mod sandbox;

use std::path::Path;
use std::process::Command;

use sandbox::{Outcome, Sandbox};

const FORK: &str = "
[tasks.bin]
inputs = [{ git = 'fork', paths = ['src/'] }]
outputs = ['bin']
run = '{ran} bin; cat fork/src/*.rs > bin'
";

fn git(sandbox: &Sandbox, words: &str) {
    git_in(sandbox, "fork", words);
}

fn git_in(sandbox: &Sandbox, dir: &str, words: &str) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.fsync=none"]);
    command.args(words.split(' ')).current_dir(sandbox.at(dir)).env("HOME", sandbox.root().join("home"));
    command.env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository with two files in scope, and one that is not.
fn fork(tasks: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks);
    sandbox.file("fork/src/a.rs", "a\n").file("fork/src/b.rs", "b\n").file("fork/README", "read me\n");
    sandbox.file("fork/.gitignore", "*.o\n");
    git(&sandbox, "init -q -b main");
    git(&sandbox, "add -A");
    git(&sandbox, "commit -q -m x");
    sandbox
}

fn built(tasks: &str) -> Sandbox {
    let sandbox = fork(tasks);
    sandbox.run("build bin").counts("0 fresh, 0 restored, 1 ran").success();
    fresh(&sandbox);
    sandbox
}

/// Wherever the lines are broken.
#[track_caller]
fn says(outcome: &Outcome, text: &str) {
    let joined = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(joined(outcome.said()).contains(&joined(text)), "{}", outcome.said());
}

#[test]
fn an_index_that_only_git_can_read_is_read_by_it_and_that_is_said() {
    let sandbox = fork(FORK);
    git(&sandbox, "update-index --split-index");
    let note = "note: the index of fork is split or sparse: git was asked what it tracks, which takes longer";
    let outcome = sandbox.run("build bin");
    says(&outcome, note);
    outcome.success();
    fresh(&sandbox);
    sandbox.file("fork/src/c.rs", "c\n");
    let outcome = sandbox.run("build bin");
    says(&outcome, "src/c.rs untracked");
    outcome.success();
    assert!(sandbox.read("bin").contains("c\n"));
    git(&sandbox, "update-index --no-split-index");
    let outcome = sandbox.run("build bin --force");
    assert!(!outcome.said().contains("note:"), "{}", outcome.said());
    outcome.success();
}

#[track_caller]
fn fresh(sandbox: &Sandbox) {
    sandbox.run("build bin").counts("1 fresh, 0 restored, 0 ran").success();
    sandbox.run("build bin").counts("1 fresh, 0 restored, 0 ran").success();
}

#[track_caller]
fn ran(sandbox: &Sandbox) {
    sandbox.run("build bin").counts("0 fresh, 0 restored, 1 ran").success();
    fresh(sandbox);
}

#[track_caller]
fn restored(sandbox: &Sandbox) {
    sandbox.run("build bin").counts("0 fresh, 1 restored, 0 ran").success();
    fresh(sandbox);
}

#[test]
fn a_commit_of_what_lies_there_an_amend_and_a_file_out_of_scope_change_nothing() {
    let sandbox = built(FORK);
    sandbox.file("fork/src/a.rs", "edited\n");
    ran(&sandbox);
    git(&sandbox, "commit -q -a -m y");
    fresh(&sandbox);
    git(&sandbox, "commit -q --amend -m z");
    fresh(&sandbox);
    sandbox.file("fork/README", "edited\n").file("fork/new", "").file("fork/src/x.o", "ignored");
    fresh(&sandbox);
    git(&sandbox, "status");
    fresh(&sandbox);
}

#[test]
fn switching_to_another_branch_and_back_restores() {
    let sandbox = built(FORK);
    git(&sandbox, "checkout -q -b other");
    fresh(&sandbox);
    sandbox.file("fork/src/a.rs", "other\n");
    ran(&sandbox);
    git(&sandbox, "stash -q");
    restored(&sandbox);
    git(&sandbox, "stash pop -q");
    restored(&sandbox);
    git(&sandbox, "commit -q -a -m y");
    git(&sandbox, "checkout -q main");
    restored(&sandbox);
    git(&sandbox, "checkout -q other");
    restored(&sandbox);
    assert_eq!(sandbox.read("bin"), "other\nb\n");
}

#[test]
fn what_is_untracked_counts_by_its_content() {
    let sandbox = built(FORK);
    sandbox.file("fork/src/new.rs", "one\n");
    ran(&sandbox);
    sandbox.file("fork/src/new.rs", "two\n");
    ran(&sandbox);
    sandbox.chmod("fork/src/new.rs", 0o755);
    ran(&sandbox);
    git(&sandbox, "add src/new.rs");
    fresh(&sandbox);
    sandbox.remove("fork/src/new.rs");
    restored(&sandbox);
}

#[test]
fn why_and_plan_name_the_files_with_what_happened_to_them() {
    let sandbox = built(FORK);
    sandbox.file("fork/src/a.rs", "edited\n").file("fork/src/new.rs", "n\n").file("fork/src/staged.rs", "s\n");
    sandbox.remove("fork/src/b.rs");
    git(&sandbox, "add src/staged.rs");
    sandbox
        .run("why bin")
        .stdout(
            "bin@host would run now:
  input-changed: fork (git: src) changed (src/a.rs modified, src/b.rs deleted, src/new.rs untracked, src/staged.rs added)
",
        )
        .success();
    sandbox.run("plan bin").stdout(
        "stale  bin@host  [TIME]  fork (git: src) changed (src/a.rs modified, src/b.rs deleted, src/new.rs untracked, src/staged.rs added)
0 fresh, 0 cached, 1 stale, 0 unknown; [TIME] of work
",
    ).success();
    for at in 0..9 {
        sandbox.file(format!("fork/src/many{at}.rs"), "m\n");
    }
    sandbox.run("why bin").stdout(
        "bin@host would run now:
  input-changed: fork (git: src) changed (src/a.rs modified, src/b.rs deleted, src/many0.rs untracked, src/many1.rs untracked, src/many2.rs untracked, src/many3.rs untracked and 7 more)
",
    ).success();
}

#[test]
fn the_commit_counts_where_head_asks_for_it() {
    let sandbox = built(&FORK.replace("paths = ['src/']", "head = true"));
    git(&sandbox, "commit -q --allow-empty -m y");
    ran(&sandbox);
    git(&sandbox, "checkout -q --detach");
    fresh(&sandbox);
    git(&sandbox, "checkout -q HEAD~1");
    restored(&sandbox);
}

#[test]
fn a_tag_counts_where_head_asks_for_the_commit() {
    let sandbox = built(
        &FORK.replace("paths = ['src/']", "head = true").replace("cat fork/src/*.rs", "git -C fork describe --always"),
    );
    git(&sandbox, "tag -a -m x v1");
    ran(&sandbox);
    assert_eq!(sandbox.read("bin"), "v1\n");
    git(&sandbox, "tag -d v1");
    restored(&sandbox);
    git(&sandbox, "pack-refs --all");
    fresh(&sandbox);
}

#[test]
fn an_edit_during_the_run_is_not_stored_under_the_old_key() {
    let tasks = FORK.replace("cat fork", "{gate build} && cat fork");
    let sandbox = fork(&tasks);
    let running = sandbox.start("build bin");
    sandbox.reached("build");
    sandbox.file("fork/src/a.rs", "edited\n");
    sandbox.open("build");
    let outcome = running.wait();
    outcome.counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("bin"), "edited\nb\n");
    sandbox.file("fork/src/a.rs", "a\n");
    let running = sandbox.start("build bin");
    sandbox.reached("build");
    sandbox.open("build");
    running.wait().counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("bin"), "a\nb\n");
}

#[test]
fn an_edit_that_is_taken_back_during_the_run_is_said() {
    let tasks = FORK.replace("cat fork", "{gate build} && cat fork");
    let sandbox = fork(&tasks);
    let running = sandbox.start("build bin");
    sandbox.reached("build");
    sandbox.file("fork/src/a.rs", "edited\n").file("fork/src/a.rs", "a\n");
    sandbox.open("build");
    running
        .wait()
        .stderr(
            "     Running bin@host
warning: fork/src/a.rs was changed while bin@host ran: its result is kept here, but not stored
    Finished bin@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
}

#[test]
fn a_worktree_elsewhere_with_the_same_files_is_restored() {
    let sandbox = built(FORK);
    let other = sandbox.worktree("other");
    other.tasks(FORK);
    git_in(&sandbox, ".", &format!("clone -q fork {}", other.at("fork").display()));
    restored(&other);
}

#[test]
fn what_tasks_make_is_no_part_of_the_working_copy_they_lie_in() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.bin]
inputs = [{ git = '.', paths = ['!gen'] }]
outputs = ['bin', 'made/']
run = '{ran} bin; cat a > bin; cat a > made/a'

[tasks.gen]
outputs = ['gen']
inputs = ['a']
run = 'cp a gen'
",
    );
    sandbox.file("a", "1\n");
    git_in(&sandbox, ".", "init -q -b main");
    ran(&sandbox);
    sandbox.run("build gen").success();
    fresh(&sandbox);
    sandbox.file("a", "2\n");
    ran(&sandbox);
    assert_eq!(sandbox.ran("bin"), 2);
}

#[test]
fn an_output_of_another_task_in_the_scope_makes_that_a_need() {
    let sandbox = fork(
        "
[tasks.bin]
inputs = [{ git = 'fork' }]
outputs = ['bin']
run = '{ran} bin; cat fork/src/*.rs > bin'

[tasks.gen]
inputs = ['in']
outputs = ['fork/src/gen.rs']
run = 'cp in fork/src/gen.rs'
",
    );
    sandbox.file("in", "g\n");
    sandbox.run("build bin").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("bin"), "a\nb\ng\n");
    sandbox.run("build bin").counts("2 fresh, 0 restored, 0 ran").success();
    sandbox.file("in", "h\n");
    sandbox.run("build bin").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("bin"), "a\nb\nh\n");
}

#[test]
fn a_working_copy_that_a_task_makes_is_an_input_of_others() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.fork]
inputs = ['in']
outputs = ['fork/']
run = 'git init -q fork; cp in fork/a.rs; git -C fork add -A'

[tasks.bin]
inputs = [{ git = 'fork' }]
outputs = ['bin']
run = 'cat fork/*.rs > bin'
",
    );
    sandbox.file("in", "1\n");
    sandbox.run("build bin").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.run("build bin").counts("2 fresh, 0 restored, 0 ran").success();
    sandbox.file("in", "2\n");
    sandbox.run("build bin").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("bin"), "2\n");
}

#[test]
fn a_git_input_in_the_steps_own_output_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.a]\ninputs = [{ git = 'out/fork' }]\noutputs = ['out/']\nrun = 'x'\n");
    let outcome = sandbox.run("build a");
    says(&outcome, "`out/fork` is an input and an output of `a@host`");
    outcome.exit(3);
}

#[test]
fn a_workspace_in_a_repository_that_cannot_be_read_builds_what_needs_no_git() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.a]\ninputs = ['in']\noutputs = ['out/']\nrun = 'cp in out/'\n").file("in", "1");
    git_in(&sandbox, ".", "init -q --object-format=sha256");
    sandbox.run("build a").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn two_tasks_that_make_files_in_each_others_scope_are_a_cycle_that_says_how_to_open_it() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.a]
inputs = [{ git = '.' }]
outputs = ['x']
run = 'touch x'

[tasks.b]
inputs = [{ git = '.' }]
outputs = ['y']
run = 'touch y'
",
    );
    let outcome = sandbox.run("build a");
    says(&outcome, "take that away by a `!…` in its `paths`");
}

#[test]
fn a_directory_in_no_repository_is_an_error_that_says_so() {
    let sandbox = Sandbox::new();
    sandbox.tasks(FORK).file("fork/src/a.rs", "a\n");
    let outcome = sandbox.run("build bin");
    says(&outcome, "/work/fork` is not in a working copy of a git repository");
    let outcome = sandbox.remove("fork").run("build bin");
    says(&outcome, "/work/fork` is not in a working copy of a git repository");
}

#[test]
fn a_pattern_that_matches_no_file_is_an_error_that_names_it() {
    let sandbox = fork(&FORK.replace("'src/'", "'src/', 'lib/*.rs'"));
    let outcome = sandbox.run("build bin");
    let said = "git input `fork`: `fork/lib/*.rs` matches no file that git tracks or would add";
    says(&outcome, said);
}

#[test]
fn a_repository_of_somebody_else_is_an_error_that_says_what_to_type() {
    let Some(sandbox) = Sandbox::of_a_user() else { return };
    sandbox.tasks(FORK).file("fork/src/a.rs", "a\n");
    git(&sandbox, "init -q -b main");
    let outcome = sandbox.run("build bin");
    let said = "git config --global --add safe.directory [ROOT]/work/fork";
    says(&outcome, said);
    let config = format!("[safe]\n\tdirectory = {}\n", sandbox.at("fork").display());
    std::fs::write(sandbox.root().join("home/.gitconfig"), config).unwrap();
    sandbox.run("build bin").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn variables_of_git_from_outside_lead_nowhere_else() {
    let sandbox = built(FORK);
    let other = sandbox.worktree("other");
    other.file("src/a.rs", "x\n");
    git_in(&other, ".", "init -q -b main");
    sandbox.env("GIT_DIR", other.at(".git")).env("GIT_WORK_TREE", other.work()).env("GIT_INDEX_FILE", "/dev/null");
    fresh(&sandbox);
    sandbox.file("fork/src/b.rs", "c\n");
    ran(&sandbox);
}

#[test]
fn a_dirty_submodule_is_noticed() {
    let sandbox = fork(&FORK.replace(", paths = ['src/']", ""));
    sandbox.file("lib/f", "1\n");
    git_in(&sandbox, "lib", "init -q -b main");
    git_in(&sandbox, "lib", "add -A");
    git_in(&sandbox, "lib", "commit -q -m x");
    git(&sandbox, &format!("-c protocol.file.allow=always submodule --quiet add {} lib", sandbox.at("lib").display()));
    git(&sandbox, "commit -q -a -m y");
    ran(&sandbox);
    sandbox.file("fork/lib/f", "2\n");
    ran(&sandbox);
    git(&sandbox, "submodule --quiet update --force");
    restored(&sandbox);
}

#[test]
fn a_depfile_does_not_discover_what_git_holds() {
    let sandbox = fork(
        "
[tasks.bin]
inputs = [{ git = 'fork', paths = ['src/'] }]
outputs = ['bin']
depfile = 'bin.d'
run = 'cat fork/src/*.rs fork/README > bin; echo \"bin: fork/src/a.rs fork/README\" > bin.d'
",
    );
    sandbox.run("build bin").counts("0 fresh, 0 restored, 1 ran").success();
    fresh(&sandbox);
    sandbox.file("fork/src/a.rs", "edited\n");
    sandbox
        .run("why bin")
        .stdout(
            "bin@host would run now:
  input-changed: fork (git: src) changed (src/a.rs modified)
",
        )
        .success();
    sandbox.file("fork/src/a.rs", "a\n").file("fork/README", "other\n");
    sandbox
        .run("why bin")
        .stdout(
            "bin@host would run now:
  discovered-changed: fork/README, which it read, changed
",
        )
        .success();
    assert!(Path::new(&sandbox.at("bin")).exists());
}
