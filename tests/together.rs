//! Several at once: two builds in one worktree, two worktrees on one store, signals, and the jobserver.

mod sandbox;

use std::fs;

use rustix::process::Signal;
use sandbox::Sandbox;

const CHAIN: &str = "
[tasks.first]
inputs = ['in']
outputs = ['o1']
run = '{ran} first; {gate first}; cat in > o1'
[tasks.second]
inputs = ['o1']
outputs = ['o2']
run = '{ran} second; cat o1 > o2'
[tasks.aside]
inputs = ['in']
outputs = ['o3']
run = '{ran} aside; {gate aside}; cat in > o3'
[tasks.all]
needs = ['second', 'aside']
";

#[test]
fn a_second_build_in_the_worktree_waits_for_the_steps_of_the_first_and_uses_them() {
    let sandbox = Sandbox::new();
    sandbox.tasks(CHAIN).file("in", "1");
    let one = sandbox.start("build all");
    sandbox.reached("first");
    let two = sandbox.start("build all");
    // The second goes on with what the first has not begun.
    sandbox.reached("aside").open("aside").open("first");
    one.wait().success();
    two.wait().success();
    sandbox.ran_times("first", 1).ran_times("second", 1).ran_times("aside", 1);
    assert_eq!((sandbox.read("o2"), sandbox.read("o3")), ("1".to_owned(), "1".to_owned()));
    sandbox.run("build all").counts("3 fresh, 0 restored, 0 ran").success();
}

#[test]
fn two_worktrees_on_one_store_run_a_key_once() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for worktree in [&sandbox, &other] {
        worktree.tasks(CHAIN).file("in", "1");
    }
    let one = sandbox.start("build second");
    sandbox.reached("first");
    let two = other.start("build second");
    sandbox.open("first");
    // Whoever comes to the second one first runs it.
    one.wait().success();
    two.wait().success();
    sandbox.ran_times("first", 1).ran_times("second", 1);
    assert_eq!(other.read("o2"), "1");
    other.run("build second").counts("2 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_worker_goes_on_with_other_steps_while_another_worktree_runs_a_key() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for worktree in [&sandbox, &other] {
        worktree.tasks(CHAIN).file("in", "1");
    }
    let one = sandbox.start("build second");
    sandbox.reached("first");
    let two = other.start("build all -j1");
    // Its only worker has met the lock on `first`, or has not come so far.
    sandbox.reached("aside").open("aside").open("first");
    // Which of them runs `second` is as it comes.
    one.wait().success();
    two.wait().success();
    sandbox.ran_times("first", 1).ran_times("second", 1).ran_times("aside", 1);
}

/// `last` is tried when `slow` is let go; meanwhile a build with another manifest changes what `first` made.
fn meanwhile(edit: &str, exit: i32) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.first]
inputs = ['in']
outputs = ['o1']
run = '{ran} first; cat in > o1'
[tasks.slow]
inputs = ['in']
run = '{gate slow}'
[tasks.last]
needs = ['slow']
inputs = ['o1']
outputs = ['o3']
run = '{ran} last; cat o1 > o3'
",
        )
        .file("in", "1");
    let build = sandbox.start("build last");
    sandbox.reached("slow");
    let before = sandbox.read("tasks.toml");
    sandbox.edit("tasks.toml", "cat in > o1", edit).run("build first").exit(exit);
    sandbox.open("slow");
    let outcome = build.wait();
    let said = outcome.said().to_owned();
    outcome.success();
    sandbox.file("tasks.toml", before);
    (sandbox, said)
}

#[test]
fn what_a_build_with_another_manifest_made_of_a_need_is_not_what_a_step_works_with() {
    let (sandbox, said) = meanwhile("echo other > o1", 0);
    assert!(said.ends_with(": 0 fresh, 0 restored, 3 ran\n"), "{said}");
    assert_eq!((sandbox.read("o1"), sandbox.read("o3")), ("1".to_owned(), "1".to_owned()));
    sandbox.ran_times("last", 1);
    sandbox.run("build last").counts("3 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_need_that_fails_in_a_build_with_another_manifest_is_had_again() {
    for edit in ["exit 1", "echo half > o1; exit 1", "echo a directory; mkdir o1; exit 1"] {
        let (sandbox, said) = meanwhile(edit, 1);
        assert!(said.ends_with(": 0 fresh, 0 restored, 3 ran\n"), "{said}");
        assert_eq!((sandbox.read("o1"), sandbox.read("o3")), ("1".to_owned(), "1".to_owned()));
        sandbox.run("build last").counts("3 fresh, 0 restored, 0 ran").success();
    }
}

#[test]
fn the_death_of_a_build_that_ran_a_key_lets_the_other_run_it() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for worktree in [&sandbox, &other] {
        worktree.tasks(CHAIN).file("in", "1");
    }
    let one = sandbox.start("build second");
    sandbox.reached("first");
    let two = other.start("build second");
    one.kill();
    sandbox.reached("first").open("first").open("first");
    two.wait().counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(other.read("o2"), "1");
}

#[test]
fn many_builds_of_many_steps_at_once_run_each_once() {
    let sandbox = Sandbox::new();
    let mut tasks = String::new();
    for i in 0..20 {
        let inputs: Vec<String> = ["'in'".to_owned()]
            .into_iter()
            .chain((1..4).filter(|k| i >= k * 3).map(|k| format!("'o{}'", i - k * 3)))
            .collect();
        tasks.push_str(&format!(
            "[tasks.t{i}]\ninputs = [{inputs}]\noutputs = ['o{i}']\nrun = '{{ran}} t{i}; cat {words} > o{i}'\n",
            inputs = inputs.join(", "),
            words = inputs.join(" ").replace('\'', ""),
        ));
    }
    let all: Vec<String> = (0..20).map(|i| format!("'t{i}'")).collect();
    tasks.push_str(&format!("[tasks.all]\nneeds = [{}]\n", all.join(", ")));
    let other = sandbox.worktree("other");
    let worktrees = [&sandbox, &other];
    for worktree in worktrees {
        worktree.tasks(&tasks).file("in", "1\n");
    }
    let running: Vec<_> = (0..6).map(|i| worktrees[i % 2].start("build all -j3")).collect();
    for build in running {
        build.wait().success();
    }
    for i in 0..20 {
        sandbox.ran_times(&format!("t{i}"), 1);
    }
    for worktree in worktrees {
        assert_eq!(worktree.read("o19").len(), sandbox.read("o19").len());
        worktree.run("build all").counts("20 fresh, 0 restored, 0 ran").success();
    }
    sandbox
        .run("cache verify")
        .stdout(
            "
20 results, 0 frames: 0 damaged
",
        )
        .success();
}

#[test]
fn steps_that_do_not_need_each_other_run_at_the_same_time() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.a]
inputs = ['in']
run = '{gate a}'
[tasks.b]
inputs = ['in']
run = '{gate b}'
[tasks.all]
needs = ['a', 'b']
",
        )
        .file("in", "1");
    let build = sandbox.start("build all -j2");
    sandbox.reached("a").reached("b").open("b").open("a");
    build.wait().counts("0 fresh, 0 restored, 2 ran").success();
}

#[test]
fn ctrl_c_ends_the_step_leaves_it_to_be_run_again_and_loses_nothing_else() {
    for signal in [Signal::INT, Signal::TERM] {
        let sandbox = Sandbox::new();
        sandbox
            .tasks(
                "
[tasks.before]
inputs = ['in']
outputs = ['o1']
run = '{ran} before; cat in > o1'
[tasks.middle]
inputs = ['o1']
outputs = ['o2']
run = '{ran} middle; echo half > o2; {gate middle}; cat o1 > o2'
[tasks.after]
inputs = ['o2']
run = '{ran} after'
",
            )
            .file("in", "1");
        let build = sandbox.start("build after");
        sandbox.reached("middle");
        build.signal(signal);
        build
            .wait()
            .stderr(
                "
     Running before@host
     Running middle@host
     Skipped middle@host, after@host
 Interrupted after@host in [TIME]: 0 fresh, 0 restored, 1 ran, 0 failed, 2 skipped
",
            )
            .exit(130);
        assert!(!sandbox.exists("o2"), "what the ended step left is removed");
        sandbox
            .open("middle")
            .run("build after")
            .stderr(
                "
       Stale middle@host: its last run did not finish
     Running middle@host
     Running after@host
    Finished after@host in [TIME]: 1 fresh, 0 restored, 2 ran
",
            )
            .success()
            .ran_times("before", 1)
            .ran_times("middle", 2)
            .ran_times("after", 1);
        assert_eq!(sandbox.read("o2"), "1");
    }
}

/// A process that has ended and that nobody has asked about is none.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn ctrl_c_reaches_what_a_step_has_started() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.deep]
inputs = ['in']
run = 'sh -c \"sh -c \\\"trap : TERM; echo \\$\\$ > pid; {gate deep}\\\" & wait\"'
",
        )
        .file("in", "1");
    let build = sandbox.start("build deep");
    sandbox.reached("deep");
    let pid = sandbox.read("pid").trim().to_owned();
    assert!(lives(&pid));
    build.signal(Signal::INT);
    build.wait().exit(130);
    // It was sent SIGKILL before that; the kernel takes its time to carry it out.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while lives(&pid) {
        assert!(std::time::Instant::now() < patience, "the step's grandchild lives on");
        std::thread::yield_now();
    }
}

#[test]
fn clean_while_a_build_runs_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.tasks(CHAIN).file("in", "1");
    let build = sandbox.start("build all");
    sandbox
        .reached("first")
        .run("clean")
        .stderr(
            "
error: a build is running in this worktree
",
        )
        .exit(2)
        .open("first")
        .open("aside");
    build.wait().success();
}

/// Three makes of four objects each, whose compiler notes how many of it run: two tokens are for all.
#[test]
fn one_jobserver_shares_the_jobs_among_all_makes() {
    let sandbox = Sandbox::new();
    let compiler = "
case ${1-} in --version) exit;; esac
count=../count
mkdir $count/$$
ls $count | wc -l >> ../most
# Long enough that another one starts meanwhile, where it may.
i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done
rmdir $count/$$
";
    sandbox.tool("compile", compiler);
    fs::create_dir(sandbox.root().join("count")).unwrap();
    let mut tasks = String::new();
    for name in ["x", "y", "z"] {
        tasks.push_str(&format!(
            "[tasks.{name}]\ninputs = ['Makefile']\ntools = ['make', 'compile']\nrun = 'make {name}'\n"
        ));
    }
    tasks.push_str("[tasks.all]\nneeds = ['x', 'y', 'z']\n");
    let make = "x: x1 x2 x3 x4\ny: y1 y2 y3 y4\nz: z1 z2 z3 z4\n%:\n\t@compile\n.PHONY: x y z\n";
    sandbox.tasks(&tasks).file("Makefile", make);
    sandbox.run("build all -j2").counts("0 fresh, 0 restored, 3 ran").success();
    let most = fs::read_to_string(sandbox.root().join("most")).unwrap();
    let counts: Vec<u32> = most.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(counts.len(), 12);
    assert_eq!(counts.iter().max(), Some(&2), "{counts:?}");
}
