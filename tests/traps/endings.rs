//! Success is what is written last, and by nothing else than a run that ended well.

use rustix::process::Signal;

use crate::COPY;
use crate::sandbox::Sandbox;

/// At the gate half of each output is there. `../broken` makes it fail.
const SLOW: &str = "
[tasks.write]
inputs = ['a']
outputs = ['out/', 'list']
run = '{ran} write; echo half > list; echo half > out/x; {gate half}; test ! -e ../broken; cat a > list; cat a > out/x'
[tasks.use]
inputs = ['list', 'out/x']
outputs = ['used']
run = '{ran} use; cat list out/x > used'
";

fn slow() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(SLOW).file("a", "1");
    sandbox
}

/// After a run that did not end well: nobody takes it for one that did, here or in another worktree.
#[track_caller]
fn runs_again(sandbox: &Sandbox) {
    sandbox.run("cache list").stdout("").success().run("why write").answers("not-finished").success();
    sandbox.open("half").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.ran_times("write", 2).ran_times("use", 1);
    assert_eq!((sandbox.read("used"), sandbox.tree("out")), ("11".into(), vec!["/ 755".into(), "x 644 1".into()]));
    sandbox.run("build use").counts("2 fresh, 0 restored, 0 ran").success();
    let other = sandbox.worktree("other");
    other.tasks(SLOW).file("a", "1").run("build use").counts("0 fresh, 2 restored, 0 ran").success();
    assert_eq!(other.read("used"), "11");
}

/// go-task/task#1178: the checksum was written before the commands ran, so a task ended by Ctrl-C was up to date.
/// moonrepo/moon#1925: so was one in the next run, and said to be cached.
#[test]
fn a_step_that_was_interrupted_runs_again() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let sandbox = slow();
        let build = sandbox.start("build use");
        sandbox.reached("half");
        build.signal(signal);
        build.wait().exit(130);
        runs_again(&sandbox);
    }
}

/// go-task/task#1178 and moonrepo/moon#1925 again, where no handler can clean up.
#[test]
fn a_step_whose_build_was_killed_runs_again() {
    let sandbox = slow();
    let build = sandbox.start("build use");
    sandbox.reached("half");
    build.kill();
    runs_again(&sandbox);
}

/// moonrepo/moon#1024: the first run failed, the second was a hit. riscv/riscv-arch-test#1616: what a failed action had
/// written of its output was newer than the inputs, and good for the next step.
#[test]
fn a_step_that_failed_runs_again_and_leaves_no_half_output() {
    let sandbox = slow();
    sandbox.file("../broken", "").open("half");
    sandbox.run("build use").counts("0 fresh, 0 restored, 0 ran, 1 failed, 1 skipped").exit(1);
    assert!(!sandbox.exists("list") && !sandbox.exists("out/x"));
    // It fails until it does not, however often it is asked.
    sandbox.open("half").run("build use").exit(1).ran_times("write", 2);
    sandbox.remove("../broken");
    std::fs::write(sandbox.root().join("ran"), "write\n").unwrap();
    runs_again(&sandbox);
}

/// The same of a command that somebody else kills, as the kernel does when memory is short.
#[test]
fn a_step_whose_command_was_killed_runs_again() {
    let sandbox = slow();
    sandbox.tasks(&SLOW.replace("test ! -e ../broken", "test ! -e ../broken || kill -9 $$"));
    sandbox.file("../broken", "").open("half").run("build use").exit(1).remove("../broken");
    sandbox.run("cache list").stdout("").success();
    sandbox.open("half").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("used"), "11");
}

/// The same of a time limit.
#[test]
fn a_step_that_took_too_long_runs_again() {
    let sandbox = slow();
    let limited = SLOW.replace("run = '{ran} write", "timeout = '1s'\nrun = '{ran} write");
    sandbox.tasks(&limited).run("build use").counts("0 fresh, 0 restored, 0 ran, 1 failed, 1 skipped").exit(1);
    sandbox.tasks(SLOW);
    runs_again(&sandbox);
}

/// ccache/ccache#161: an object of no bytes was kept, of a compiler that had been ended in the middle.
#[test]
fn an_output_that_is_missing_at_the_end_fails_the_step_whatever_its_exit_code() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).edit("tasks.toml", "cat a > b", "test -e ../broken || cat a > b").file("a", "1");
    sandbox.file("../broken", "").run("build after").exit(1);
    sandbox.run("cache list").stdout("").success();
    sandbox.remove("../broken").run("build after").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("c"), "1");
}

/// go-task/task#166: `--dry` wrote the checksum, so that the run after it had nothing to do. go-task/task#1305: so did
/// `--status`.
#[test]
fn who_only_asks_changes_nothing_for_who_builds() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("a", "1");
    let ask = || {
        for words in ["plan after", "plan after", "build -n after", "why after", "why copy", "list", "graph"] {
            assert!(!sandbox.run(words).answered().is_empty(), "{words}");
        }
    };
    ask();
    sandbox.run("build after").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.file("a", "2");
    ask();
    assert_eq!(sandbox.read("b"), "1");
    sandbox.run("build after").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("c"), "2");
    sandbox.remove("b");
    ask();
    sandbox.run("build after").counts("1 fresh, 1 restored, 0 ran").success();
}
