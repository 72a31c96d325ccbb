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

/// What `second` reads of `first` without saying so: by its need alone.
const READS: &str = "
[tasks.first]
inputs = ['in']
outputs = ['gen/']
run = '{ran} first; cp in gen/x'
[tasks.second]
needs = ['first']
inputs = ['other']
outputs = ['out']
run = '{ran} second; {gate before}; ls gen > out; cat gen/* >> out; {gate after}'
";

/// A build of `second` in which `edit` happens before it reads, and `undo` after that.
fn edited(tasks: &str, edit: fn(&Sandbox) -> &Sandbox, undo: fn(&Sandbox) -> &Sandbox) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("in", "good\n").file("other", "");
    let build = sandbox.start("build second");
    sandbox.reached("before");
    edit(&sandbox);
    sandbox.open("before").reached("after");
    undo(&sandbox);
    sandbox.open("after");
    let outcome = build.wait();
    let said = outcome.said().to_owned();
    outcome.counts("0 fresh, 0 restored, 2 ran").success();
    assert!(said.contains(" was changed while second@host ran: its result is kept here, but not stored"), "{said}");
    sandbox
}

/// The next build and another worktree make of it what a clean build makes.
#[track_caller]
fn is_made_anew(sandbox: &Sandbox, runs: usize, made: &str) {
    let go_on = |sandbox: &Sandbox| {
        let build = sandbox.start("build second");
        sandbox.open("before").open("after");
        build.wait().success();
        assert_eq!(sandbox.read("out"), made);
    };
    go_on(sandbox);
    sandbox.ran_times("second", runs).run("build second").counts("2 fresh, 0 restored, 0 ran").success();
    let other = sandbox.worktree("elsewhere");
    other.file("tasks.toml", sandbox.read("tasks.toml")).file("in", sandbox.read("in")).file("other", "");
    go_on(&other);
    other.ran_times("second", runs);
}

#[test]
fn an_output_of_a_need_that_is_edited_while_a_step_runs_is_in_no_result() {
    let sandbox = edited(READS, |sandbox| sandbox.file("gen/x", "evil\n"), |sandbox| sandbox);
    assert_eq!(sandbox.read("out"), "x\nevil\n");
    is_made_anew(&sandbox, 2, "x\ngood\n");
}

#[test]
fn an_output_of_a_need_that_is_edited_and_put_back_while_a_step_runs_is_in_no_result() {
    let put_back: fn(&Sandbox) -> &Sandbox = |sandbox| sandbox.file("gen/x", "good\n");
    let sandbox = edited(READS, |sandbox| sandbox.file("gen/x", "evil\n"), put_back);
    is_made_anew(&sandbox, 2, "x\ngood\n");
}

#[test]
fn a_file_that_comes_into_a_needed_directory_and_goes_while_a_step_runs_is_in_no_result() {
    let sandbox = edited(READS, |sandbox| sandbox.file("gen/y", "evil\n"), |sandbox| sandbox.remove("gen/y"));
    is_made_anew(&sandbox, 2, "x\ngood\n");
    let sandbox = edited(READS, |sandbox| sandbox.file("gen/y", "evil\n"), |sandbox| sandbox);
    is_made_anew(&sandbox, 2, "x\ngood\n");
}

#[test]
fn a_file_that_comes_behind_the_glob_of_a_need_while_a_step_runs_is_in_no_result() {
    let tasks = READS.replace("['gen/']", "['gen/*']");
    let sandbox = edited(&tasks, |sandbox| sandbox.file("gen/y", "evil\n"), |sandbox| sandbox);
    is_made_anew(&sandbox, 2, "x\ngood\n");
}

#[test]
fn an_output_with_a_checksum_that_is_edited_while_a_step_runs_is_in_no_result() {
    let sum = "106675dc1490d5cdd6d1f0410731316ce93fc964c6cf6726e2b0d53e19688feb";
    let tasks = READS.replace("['gen/']", &format!("[{{ path = 'gen/x', sha256 = '{sum}' }}]"));
    let put_back: fn(&Sandbox) -> &Sandbox = |sandbox| sandbox.file("gen/x", "good\n");
    let sandbox = edited(&tasks, |sandbox| sandbox.file("gen/x", "evil\n"), put_back);
    is_made_anew(&sandbox, 2, "x\ngood\n");
}

#[test]
fn an_output_of_a_need_that_is_edited_while_a_step_in_a_view_runs_is_in_no_result() {
    let tasks = READS.replace("[tasks.second]", "[tasks.second]\nsysroot = 's'") + "[sysroots.s]\npath = 'prefix'\n";
    let put_back: fn(&Sandbox) -> &Sandbox = |sandbox| sandbox.file("gen/x", "good\n");
    let sandbox = edited(&tasks, |sandbox| sandbox.file("gen/x", "evil\n"), put_back);
    let build = sandbox.start("build second");
    sandbox.open("before").open("after");
    build.wait().counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("out"), "x\ngood\n");
}

#[test]
fn an_output_of_a_need_that_always_runs_is_taken_as_it_lies_when_a_step_begins() {
    let tasks = "
[tasks.first]
cache = false
outputs = ['gen/x']
run = 'cp in gen/x'
[tasks.slow]
inputs = ['other']
run = '{gate slow}'
[tasks.second]
needs = ['first', 'slow']
inputs = ['other']
outputs = ['out']
run = '{ran} second; cat gen/x > out'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("in", "good\n").file("other", "");
    let build = sandbox.start("build second");
    sandbox.reached("slow").file("gen/x", "evil\n").open("slow");
    build.wait().counts("0 fresh, 0 restored, 3 ran").success();
    assert_eq!(sandbox.read("out"), "evil\n");
    sandbox.run("build second").counts("1 fresh, 0 restored, 2 ran").success().ran_times("second", 2);
    assert_eq!(sandbox.read("out"), "good\n");
}

#[test]
fn an_output_that_is_edited_before_the_step_that_needs_it_begins_is_put_back_first() {
    let tasks = READS.replace("[tasks.second]\nneeds = ['first']", "[tasks.second]\nneeds = ['first', 'slow']")
        + "[tasks.slow]\ninputs = ['other']\nrun = '{gate slow}'\n";
    for edit in ["x", "y"] {
        let sandbox = Sandbox::new();
        sandbox.tasks(&tasks).file("in", "good\n").file("other", "").open("before").open("after");
        let build = sandbox.start("build second");
        sandbox.reached("slow").file(format!("gen/{edit}"), "evil\n").open("slow");
        // `first` ran, and was restored then.
        build.wait().counts("0 fresh, 0 restored, 3 ran").success();
        assert_eq!(sandbox.read("out"), "x\ngood\n");
        sandbox.ran_times("first", 1).ran_times("second", 1);
        sandbox.run("build second").counts("3 fresh, 0 restored, 0 ran").success();
    }
}

#[test]
fn a_step_that_changes_what_another_made_is_never_stored_and_the_next_one_has_what_was_made() {
    let tasks = "
[tasks.first]
inputs = ['in']
outputs = ['x']
run = '{ran} first; cp in x'
[tasks.meddler]
needs = ['first']
inputs = ['other']
run = '{ran} meddler; sed -i s/good/evil/ x'
[tasks.second]
needs = ['first', 'meddler']
inputs = ['other']
outputs = ['out']
run = '{ran} second; cat x > out'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("in", "good\n").file("other", "");
    for times in 1..4 {
        let outcome = sandbox.run("build second");
        let said = outcome.said().to_owned();
        outcome.success().ran_times("first", 1).ran_times("meddler", times).ran_times("second", 1);
        assert!(said.contains("x was changed while meddler@host ran"), "{said}");
        assert_eq!(sandbox.read("out"), "good\n");
    }
}

#[test]
fn an_output_of_a_need_that_is_touched_or_linked_to_leaves_what_is_made_of_it_stored() {
    let tasks = "
[tasks.first]
inputs = ['in']
outputs = ['x']
run = '{ran} first; cp in x'
[tasks.slow]
inputs = ['in']
run = '{gate slow}'
[tasks.second]
needs = ['first', 'slow']
inputs = ['other']
outputs = ['out']
run = '{ran} second; ln x out'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("in", "good\n").file("other", "");
    let build = sandbox.start("build second");
    sandbox.reached("slow").touch("x").open("slow");
    build.wait().counts("0 fresh, 0 restored, 3 ran").success().ran_times("first", 1);
    sandbox.run("build second").counts("3 fresh, 0 restored, 0 ran").success();
    sandbox.file("other", "2").run("build second").counts("2 fresh, 0 restored, 1 ran").success();
    sandbox.run("build second").counts("3 fresh, 0 restored, 0 ran").success();
    sandbox.remove("out").run("build second").counts("2 fresh, 1 restored, 0 ran").success();
}

#[test]
fn a_step_whose_need_is_edited_while_another_works_with_it_waits_and_has_what_was_made() {
    let tasks = READS.to_owned()
        + "
[tasks.slow]
inputs = ['other']
run = '{gate slow}'
[tasks.third]
needs = ['first', 'slow']
inputs = ['other']
outputs = ['third']
run = '{ran} third; cat gen/x > third'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(&tasks).file("in", "good\n").file("other", "");
    let build = sandbox.start("build -j 3 second third");
    sandbox.reached("before").reached("slow").file("gen/x", "evil\n").open("slow").open("before");
    sandbox.reached("after").open("after");
    let outcome = build.wait();
    assert!(!outcome.said().contains("while third@host ran"), "{}", outcome.said());
    outcome.says("gen/x was changed while second@host ran").counts("0 fresh, 0 restored, 4 ran").success();
    assert_eq!(sandbox.read("third"), "good\n");
    sandbox.run("build third").counts("3 fresh, 0 restored, 0 ran").success();
}

#[test]
fn steps_that_undo_what_each_other_made_come_to_an_end() {
    let tasks = "
[tasks.a]
inputs = ['in']
outputs = ['x']
clean = false
env = { OTHER = 'y' }
run = '{ran} a; cp in x; echo a >> $OTHER'
[tasks.b]
inputs = ['in']
outputs = ['y']
clean = false
env = { OTHER = 'x' }
run = '{ran} b; cp in y; echo b >> $OTHER'
[tasks.second]
needs = ['a', 'b']
inputs = ['other']
outputs = ['out']
run = '{ran} second; cat x y > out'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("in", "good\n").file("other", "");
    let warning = "was changed while second@host ran: its result is kept here, but not stored";
    sandbox.run("build second").says(warning).success().ran_times("second", 1);
    assert_eq!(sandbox.ran("a") + sandbox.ran("b"), 5);
}
