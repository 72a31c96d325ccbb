//! Running for real: endings, environment, output, time limits, the jobserver, the terminal.

mod run_rig;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bcache::execute::cancel::{Cancel, Signals};
use bcache::execute::jobserver::{Jobserver, Style};
use bcache::execute::runner::{Ending, RunError};
use run_rig::{Rig, eventually, is_running};

#[test]
fn the_first_command_that_fails_ends_the_step_and_is_named() {
    for measure in [false, true] {
        let rig = Rig { measure, ..Rig::new() };
        let finished = rig.commands(&[&["true"], &["sh", "-c", "exit 7"], &["touch", "third"]]);
        assert_eq!(finished.ending, Ending::Code { command: 1, code: 7 });
        assert!(!rig.at("third").exists());
        assert_eq!(rig.shell("kill -9 $$").ending, Ending::Signal { command: 0, signal: 9 });
    }
}

#[test]
fn the_environment_is_the_given_one_and_nothing_else() {
    for measure in [false, true] {
        let mut rig = Rig { measure, ..Rig::new() };
        rig.env.push(("A".into(), "1 2".into()));
        let finished = rig.commands(&[&["env"]]);
        assert_eq!(finished.ending, Ending::Success);
        let log = rig.log();
        let mut lines: Vec<&str> = log.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["A=1 2", "PATH=/usr/bin:/bin"]);
    }
}

#[test]
fn a_program_is_searched_on_the_path_of_the_step_and_sees_its_own_name() {
    for measure in [false, true] {
        let mut rig = Rig { measure, ..Rig::new() };
        rig.env = vec![("PATH".into(), "bin".into())];
        fs::create_dir(rig.at("bin")).unwrap();
        std::os::unix::fs::symlink("/bin/sh", rig.at("bin/my-shell")).unwrap();
        assert_eq!(rig.commands(&[&["my-shell", "-c", "echo $0; pwd"]]).ending, Ending::Success);
        assert_eq!(rig.log(), format!("my-shell\n{}\n", rig.dir.path().display()));
        let Ending::CannotStart { command: 0, error } = rig.commands(&[&["env"]]).ending else { panic!() };
        assert_eq!(error, "`env` was not found, or the interpreter that it names was not");
    }
}

const LIST_DESCRIPTORS: &str = "ls /proc/self/fd";

/// What any child of this process has open, whoever started the tests.
fn inherited() -> String {
    let listed = Command::new("sh").args(["-c", LIST_DESCRIPTORS]).output().unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn stdin_is_empty_and_a_step_reads_no_terminal() {
    for measure in [false, true] {
        let rig = Rig { measure, ..Rig::new() };
        assert_eq!(rig.says("readlink /proc/self/fd/0; cat"), "/dev/null\n");
        assert_eq!(rig.says(LIST_DESCRIPTORS), inherited(), "no descriptor of ours reaches a step");
    }
}

#[test]
fn output_is_logged_in_order_and_stderr_is_kept_apart() {
    for measure in [false, true] {
        let rig = Rig { measure, ..Rig::new() };
        let finished = rig.shell("echo a; sleep 0.05; echo b >&2; sleep 0.05; echo c");
        assert_eq!((rig.log().as_str(), finished.stderr.as_slice()), ("a\nb\nc\n", &b"b\n"[..]));
        assert_eq!(finished.peak_memory.is_some(), measure);
    }
}

#[test]
fn a_secret_is_masked_however_it_is_written() {
    let rig = Rig { secrets: vec![b"tok-123456".to_vec()], ..Rig::new() };
    let finished = rig.shell("printf 'x tok-12'; sleep 0.05; printf '3456 y\\n'; echo tok-123456 >&2");
    assert_eq!(finished.ending, Ending::Success);
    assert!(!rig.log().contains("3456"), "{}", rig.log());
    assert_eq!(finished.stderr, b"***\n");
}

#[test]
fn a_log_of_a_hundred_megabytes_is_bounded() {
    let rig = Rig::new();
    let finished = rig.shell("yes 0123456789abcdef | head -c 100000000; echo last");
    assert_eq!(finished.ending, Ending::Success);
    let size = fs::metadata(finished.log.unwrap()).unwrap().len();
    assert!((16_000_000..17_000_000).contains(&size), "{size}");
    assert!(rig.log().ends_with("last\n"));
}

#[test]
fn a_time_limit_ends_grandchildren_too() {
    for measure in [false, true] {
        let word = if measure { "731.25" } else { "732.25" };
        let rig = Rig { measure, timeout: Some(Duration::from_millis(300)), ..Rig::new() };
        let begun = Instant::now();
        assert_eq!(rig.shell(&format!("sh -c 'sleep {word}; :' & sleep {word}; :")).ending, Ending::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(3));
        eventually("the grandchild is gone", || !is_running(word));
    }
}

#[test]
fn a_time_limit_is_one_for_all_commands() {
    let rig = Rig { timeout: Some(Duration::from_millis(300)), ..Rig::new() };
    let finished = rig.commands(&[&["sleep", "0.2"], &["sleep", "0.2"], &["touch", "third"]]);
    assert_eq!(finished.ending, Ending::TimedOut);
    assert!(!rig.at("third").exists());
}

#[test]
fn what_is_left_in_the_group_is_killed_when_the_command_has_ended() {
    let rig = Rig::new();
    let begun = Instant::now();
    assert_eq!(rig.shell("sleep 733.25 & echo started").ending, Ending::Success);
    assert!(begun.elapsed() < Duration::from_secs(5));
    eventually("the background job is gone", || !is_running("733.25"));
}

#[test]
fn a_daemon_that_keeps_the_pipe_holds_nobody() {
    let rig = Rig::new();
    let begun = Instant::now();
    let pid = rig.says("setsid sh -c 'echo $$; exec sleep 734.25' &");
    assert!(begun.elapsed() < Duration::from_secs(5));
    Command::new("kill").arg(pid.trim()).status().unwrap();
}

#[test]
fn a_late_writer_is_waited_for_a_moment() {
    for measure in [false, true] {
        let rig = Rig { measure, ..Rig::new() };
        assert_eq!(rig.says("(sleep 0.1; echo late) & echo early"), "early\nlate\n");
    }
}

#[test]
fn cancelling_ends_what_runs_and_starts_nothing_more() {
    for measure in [false, true] {
        let rig = Rig { measure, ..Rig::new() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                eventually("the command has begun", || rig.at("begun").exists());
                rig.cancel.request();
            });
            let finished = rig.commands(&[&["sh", "-c", "touch begun; sleep 735"], &["touch", "second"]]);
            assert_eq!(finished.ending, Ending::Cancelled);
        });
        assert_eq!(rig.shell("touch second").ending, Ending::Cancelled);
        assert!(!rig.at("second").exists());
    }
}

#[test]
fn a_file_that_is_executed_right_after_it_was_written_is_not_busy() {
    let rig = Rig::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let rig = &rig;
            scope.spawn(move || {
                for i in 0..50 {
                    let tool = rig.script(&format!("tool-{thread}-{i}"), "#!/bin/sh\n");
                    assert_eq!(rig.commands(&[&[tool.to_str().unwrap()]]).ending, Ending::Success);
                }
            });
        }
    });
}

#[test]
fn a_helper_that_is_another_program_is_an_error_of_ours() {
    let rig = Rig { measure: true, helper: "/bin/true".into(), ..Rig::new() };
    let error = rig.try_commands(&[&["true"]], None).unwrap_err();
    assert!(matches!(error, RunError::Helper { .. }), "{error}");
}

/// A "compiler" that notes how many of its kind run at the same time, and a makefile with 12 objects.
fn makefile(rig: &Rig) {
    rig.script(
        "cc.sh",
        "#!/bin/sh\nmkdir -p busy\ntouch busy/$$\nls busy | wc -l >>counts\nsleep 0.03\nrm busy/$$\ntouch \"$1\"\n",
    );
    for name in ["a", "b", "c"] {
        let objects: Vec<String> = (0..12).map(|i| format!("{name}{i}.o")).collect();
        rig.file(&format!("{name}.mk"), &format!("all: {}\n\t@:\n%.o:\n\t@./cc.sh $@\n", objects.join(" ")));
    }
}

fn most_at_once(rig: &Rig) -> usize {
    rig.read("counts").lines().map(|n| n.trim().parse().unwrap()).max().unwrap()
}

/// As the scheduler does: a step takes its token, runs, and gives it back.
fn make_all(rig: &Rig, server: &Jobserver, steps: &[(&str, usize)], style: Style) {
    std::thread::scope(|scope| {
        for &(script, jobs) in steps {
            scope.spawn(move || {
                let tokens = loop {
                    match server.try_acquire(jobs).unwrap() {
                        Some(tokens) => break tokens,
                        None => server.wait_readable(Duration::from_millis(20)).unwrap(),
                    };
                };
                let finished = rig.with_jobserver(script, tokens.jobserver(), style);
                assert_eq!(finished.ending, Ending::Success, "{}", rig.log());
                assert_eq!(rig.log(), "");
            });
        }
    });
}

#[test]
fn three_makes_at_once_never_exceed_the_jobs_and_use_them_all() {
    for measure in [false, true] {
        let rig = Rig { measure, ..Rig::new() };
        makefile(&rig);
        let server = Jobserver::new(4, rig.dir.path()).unwrap();
        make_all(&rig, &server, &[("make -f a.mk", 1), ("make -f b.mk", 1), ("make -f c.mk", 1)], Style::Pipe);
        assert_eq!(most_at_once(&rig), 4);
        assert_eq!(server.free().unwrap(), 4);
    }
}

#[test]
fn one_job_means_one_compiler() {
    let rig = Rig::new();
    makefile(&rig);
    let server = Jobserver::new(1, rig.dir.path()).unwrap();
    make_all(&rig, &server, &[("make -f a.mk", 1), ("make -f b.mk", 1)], Style::Pipe);
    assert_eq!(most_at_once(&rig), 1);
}

#[test]
fn a_step_that_reserves_three_runs_three_and_no_more() {
    let rig = Rig::new();
    makefile(&rig);
    let server = Jobserver::new(5, rig.dir.path()).unwrap();
    make_all(&rig, &server, &[("make -f a.mk", 3)], Style::Pipe);
    assert_eq!(most_at_once(&rig), 3);
    assert_eq!(server.free().unwrap(), 5);
}

#[test]
fn a_killed_make_loses_tokens_until_the_refill() {
    let rig = Rig { timeout: Some(Duration::from_millis(300)), ..Rig::new() };
    rig.file("slow.mk", "all: a b c\na b c:\n\t@trap '' TERM; sleep 736.25\n");
    let server = Jobserver::new(3, rig.dir.path()).unwrap();
    let tokens = server.try_acquire(1).unwrap().unwrap();
    let finished = rig.with_jobserver("exec make -f slow.mk", tokens.jobserver(), Style::Pipe);
    assert_eq!(finished.ending, Ending::TimedOut);
    drop(tokens);
    assert!(server.refill().unwrap());
    assert_eq!(server.free().unwrap(), 3);
}

#[test]
fn the_fifo_style_tells_a_path_and_leaves_no_descriptor() {
    let rig = Rig::new();
    let server = Jobserver::new(3, rig.dir.path()).unwrap();
    let finished =
        rig.with_jobserver(&format!("echo \"$MAKEFLAGS|$CARGO_MAKEFLAGS\"; {LIST_DESCRIPTORS}"), &server, Style::Fifo);
    assert_eq!(finished.ending, Ending::Success);
    let flags = format!(" -j3 --jobserver-auth=fifo:{}", server.path().display());
    assert_eq!(rig.log(), format!("{flags}|{flags}\n{}", inherited()));
}

#[test]
fn three_hundred_copies_take_little_longer_than_their_processes() {
    let rig = Rig::new();
    let file = rig.file("file", "x");
    let (from, to) = (file.to_str().unwrap(), rig.at("copy").to_str().unwrap().to_owned());
    let begun = Instant::now();
    for _ in 0..300 {
        Command::new("/bin/cp").args([from, &to]).env_clear().status().unwrap();
    }
    let bare = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..300 {
        assert_eq!(rig.commands(&[&["cp", from, &to]]).ending, Ending::Success);
    }
    let ours = begun.elapsed();
    println!("bare {bare:?}, ours {ours:?}");
    // Generous, since other work shares the machine: what must not return is a fork of the whole process or
    // a thread per stream.
    assert!(ours < bare * 3 + Duration::from_millis(300), "bare {bare:?}, ours {ours:?}");
}

/// Runs this test binary's test `name` on a terminal of its own and returns what the terminal showed.
fn on_a_terminal(name: &str, input: &str) -> String {
    let exe = std::env::current_exe().unwrap();
    let command = format!("BCACHE_ON_TERMINAL=1 '{}' --exact {name} --nocapture --test-threads 1", exe.display());
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).replace('\r', "")
}

fn is_on_terminal() -> bool {
    std::env::var_os("BCACHE_ON_TERMINAL").is_some()
}

fn has_script() -> bool {
    Path::new("/usr/bin/script").exists()
}

#[test]
fn an_attached_step_has_the_terminal_in_its_foreground_and_gives_it_back() {
    if !is_on_terminal() {
        if has_script() {
            let shown =
                on_a_terminal("an_attached_step_has_the_terminal_in_its_foreground_and_gives_it_back", "typed\n");
            assert!(shown.contains("plain read typed in the foreground"), "{shown}");
            assert!(shown.contains("given back after plain"), "{shown}");
        }
        return;
    }
    let rig = Rig { attached: true, ..Rig::new() };
    let script = "read word; set -- $(cat /proc/$$/stat); \
                  test \"$5\" = \"$8\" && echo plain read $word in the foreground";
    assert_eq!(rig.shell(script).ending, Ending::Success);
    let terminal = fs::File::open("/dev/tty").unwrap();
    if rustix::termios::tcgetpgrp(&terminal).unwrap() == rustix::process::getpgrp() {
        println!("given back after plain");
    }
}

#[test]
fn an_attached_step_in_a_view_reads_the_terminal() {
    if !is_on_terminal() {
        if has_script() {
            let shown = on_a_terminal("an_attached_step_in_a_view_reads_the_terminal", "typed\n");
            assert!(shown.contains("in the view read typed"), "{shown}");
            assert!(shown.contains("given back after the view"), "{shown}");
        }
        return;
    }
    let mut rig = Rig { attached: true, ..Rig::new() };
    rig.over("prefix", &["layer"], false);
    assert_eq!(rig.shell("read word; echo in the view read $word").ending, Ending::Success);
    let terminal = fs::File::open("/dev/tty").unwrap();
    if rustix::termios::tcgetpgrp(&terminal).unwrap() == rustix::process::getpgrp() {
        println!("given back after the view");
    }
}

#[test]
fn ctrl_c_asks_the_step_to_end_and_a_second_one_kills_it() {
    let name = "ctrl_c_asks_the_step_to_end_and_a_second_one_kills_it";
    if let Some(dir) = std::env::var_os("BCACHE_INTERRUPTED") {
        let mut rig = Rig::new();
        rig.cancel = Cancel::new(Signals::Caught, Duration::from_secs(1000)).unwrap();
        let dir = Path::new(&dir).display();
        // The signal goes to the whole group: what the shell runs just then may die of it.
        let loop_forever = "while :; do sleep 0.02 || :; done";
        let finished = rig.shell(&format!("trap 'touch {dir}/asked' TERM; touch {dir}/begun || :; {loop_forever}"));
        println!("ended with {:?}", finished.ending);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bcache = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("BCACHE_INTERRUPTED", dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&bcache);
    for sign in ["begun", "asked"] {
        eventually(sign, || dir.path().join(sign).exists());
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }
    let shown = String::from_utf8(bcache.wait_with_output().unwrap().stdout).unwrap();
    assert!(shown.contains("ended with Cancelled"), "{shown}");
}
