//! Bcache killed with its steps running: a second later none of their processes lives, and nothing of them
//! writes into what the next build makes.

#![cfg(target_os = "linux")]

mod sandbox;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sandbox::Sandbox;

/// Within which everything is gone, as promised.
const PROMISED: Duration = Duration::from_secs(1);

/// Processes whose directory, words or environment name the sandbox.
fn processes_of(sandbox: &Sandbox) -> Vec<String> {
    let root = sandbox.root().as_os_str().as_bytes();
    let names = |bytes: &[u8]| bytes.windows(root.len()).any(|w| w == root);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let dir = entry.path();
        if !entry.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let stat = fs::read_to_string(dir.join("stat")).unwrap_or_default();
        let is_dead = stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with(['Z', 'X']) || rest.is_empty());
        let words = fs::read(dir.join("cmdline")).unwrap_or_default();
        let cwd = fs::read_link(dir.join("cwd")).map(|cwd| cwd.into_os_string()).unwrap_or_default();
        let is_its =
            names(&words) || names(cwd.as_bytes()) || names(&fs::read(dir.join("environ")).unwrap_or_default());
        if is_its && !is_dead {
            found.push(format!("{} {}", entry.file_name().display(), words.escape_ascii()));
        }
    }
    found
}

#[track_caller]
fn nothing_lives(sandbox: &Sandbox) {
    let until = Instant::now() + PROMISED;
    loop {
        let left = processes_of(sandbox);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "still there: {left:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ways in which a step may wait before it writes.
const WAYS: [&str; 8] = [
    "{gate late}; echo late > OUT",
    "sh -c '{gate late}; echo late > OUT'; :",
    "env -i /bin/sh -c '{gate late}; echo late > OUT'",
    "env -i /bin/sh -c '{gate late}; echo late > OUT'; :",
    "setsid sh -c '{gate late}; echo late > OUT'; :",
    "env -i setsid -w sh -c '{gate late}; echo late > OUT'; :",
    "(env -i setsid sh -c '{gate late}; echo late > OUT' </dev/null >/dev/null 2>&1 &); read -r _ <{never}",
    "trap '' HUP INT TERM; nohup sh -c '{gate late}; echo late > OUT' >/dev/null; :",
];

/// Eight steps that wait and then write, and a group of them.
fn eight(sandbox: &Sandbox, head: &str, each: &str, out: &str) {
    let never = sandbox.root().join("never");
    if !never.exists() {
        assert!(Command::new("mkfifo").args(["-m", "666"]).arg(&never).status().unwrap().success());
    }
    let mut tasks = head.to_owned();
    for (i, way) in WAYS.iter().enumerate() {
        let way = way.replace("OUT", &out.replace('N', &i.to_string())).replace("{never}", never.to_str().unwrap());
        tasks.push_str(&format!("[tasks.s{i}]\ninputs = ['in']\n{each}\nrun = \"\"\"{way}\"\"\"\n"));
        if !each.contains("sysroot") {
            tasks = tasks.replace("outputs = ['oN']", &format!("outputs = ['o{i}']"));
        }
    }
    let all: Vec<String> = (0..WAYS.len()).map(|i| format!("'s{i}'")).collect();
    tasks.push_str(&format!("[tasks.all]\nneeds = [{}]\n", all.join(", ")));
    sandbox.tasks(&tasks).file("in", "1");
}

/// What the steps do once nobody waits any more.
fn at_once(sandbox: &Sandbox) {
    let mut text = sandbox.read("tasks.toml");
    for (i, _) in WAYS.iter().enumerate() {
        let name = format!("[tasks.s{i}]");
        let begin = text.find(&name).unwrap();
        let run = begin + text[begin..].find("run = ").unwrap();
        let end = run + 9 + text[run + 9..].find("\"\"\"").unwrap() + 3;
        let out = if text.contains("sysroot = ") { format!("{{{{ sysroot.prefix }}}}/o{i}") } else { format!("o{i}") };
        text.replace_range(run..end, &format!("run = 'echo next > {out}'"));
    }
    sandbox.file("tasks.toml", text);
}

fn all_have_come(sandbox: &Sandbox) {
    for _ in WAYS {
        sandbox.reached("late");
    }
}

fn let_all_go(sandbox: &Sandbox) {
    for _ in WAYS {
        sandbox.open("late");
    }
}

fn kill_the_watcher(sandbox: &Sandbox) {
    let watchers: Vec<String> = processes_of(sandbox).into_iter().filter(|p| p.contains("__watch")).collect();
    let [watcher] = &watchers[..] else { panic!("{watchers:?}") };
    let pid = watcher.split(' ').next().unwrap();
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

fn kill_and_build_again(sandbox: &Sandbox, out: &str) {
    let build = sandbox.start("build all -j8");
    all_have_come(sandbox);
    assert!(processes_of(sandbox).len() > WAYS.len());
    build.kill();
    nothing_lives(sandbox);
    at_once(sandbox);
    sandbox.run("build all -j2").counts("0 fresh, 0 restored, 8 ran").success();
    // Whoever were still there would write now.
    let_all_go(sandbox);
    for i in 0..WAYS.len() {
        assert_eq!(sandbox.read(out.replace('N', &i.to_string())), "next\n");
    }
    sandbox.run("build all").counts("8 fresh, 0 restored, 0 ran").success();
    assert_eq!(fs::read_dir(sandbox.at(".bcache/builds")).unwrap().count(), 0);
    assert!(!sandbox.exists(".bcache/aside"));
}

/// As whoever runs the tests, and as an ordinary user.
fn as_both(test: impl Fn(&Sandbox)) {
    test(&Sandbox::new());
    if let Some(sandbox) = Sandbox::of_a_user() {
        test(&sandbox);
    }
}

#[test]
fn a_second_after_kill_9_nothing_of_eight_steps_lives() {
    as_both(|sandbox| {
        eight(sandbox, "", "outputs = ['oN']", "oN");
        kill_and_build_again(sandbox, "oN");
    });
}

#[test]
fn a_second_after_kill_9_nothing_of_eight_steps_in_views_lives() {
    as_both(|sandbox| {
        eight(sandbox, "[sysroots.main]\npath = 'prefix'\n", "sysroot = 'main'", "{{ sysroot.prefix }}/oN");
        kill_and_build_again(sandbox, "prefix/oN");
    });
}

#[test]
fn without_namespaces_what_is_left_is_ended_before_the_prefix_is_put_right() {
    as_both(|sandbox| {
        let step = "[sysroots.main]\npath = 'prefix'\n[tasks.one]\nsysroot = 'main'\ninputs = ['in']\nrun = \"\"\"env -i /bin/sh -c '{gate late}; echo late > {{ sysroot.prefix }}/o'; :\"\"\"";
        sandbox.tasks(step).file("in", "1");
        for watched in [true, false] {
            let build = sandbox.start("build one --views exclusive");
            sandbox.reached("late");
            if !watched {
                kill_the_watcher(sandbox);
            }
            build.kill();
            if watched {
                nothing_lives(sandbox);
            }
            let before = sandbox.read("tasks.toml");
            let next = "[sysroots.main]\npath = 'prefix'\n[tasks.one]\nsysroot = 'main'\ninputs = ['in']\nrun = 'echo next > {{ sysroot.prefix }}/o'";
            sandbox
                .tasks(next)
                .run("build one --views exclusive --force")
                .counts("0 fresh, 0 restored, 1 ran")
                .success();
            nothing_lives(sandbox);
            if !watched {
                // The last time: a gate stays open for who comes later.
                sandbox.open("late");
            }
            assert_eq!(sandbox.tree("prefix"), ["/ 755", "o 644 next\\n"]);
            sandbox.file("tasks.toml", before);
        }
    });
}

#[test]
fn where_the_watcher_was_killed_too_the_next_build_ends_what_is_left_before_it_judges() {
    as_both(|sandbox| {
        eight(sandbox, "", "outputs = ['oN']", "oN");
        let build = sandbox.start("build all -j8");
        all_have_come(sandbox);
        kill_the_watcher(sandbox);
        build.kill();
        std::thread::sleep(Duration::from_millis(100));
        assert!(processes_of(sandbox).len() >= WAYS.len(), "nobody has ended them yet");
        at_once(sandbox);
        sandbox.run("build all -j2").counts("0 fresh, 0 restored, 8 ran").success();
        nothing_lives(sandbox);
        let_all_go(sandbox);
        for i in 0..WAYS.len() {
            assert_eq!(sandbox.read(format!("o{i}")), "next\n");
        }
    });
}

#[test]
fn killed_at_any_moment_bcache_leaves_no_process() {
    as_both(|sandbox| {
        for (round, views) in (0..24).flat_map(|round| [(round, false), (round, true)]) {
            let (head, each, out) = if views {
                ("[sysroots.main]\npath = 'prefix'\n", "sysroot = 'main'", "{{ sysroot.prefix }}/oN")
            } else {
                ("", "outputs = ['oN']", "oN")
            };
            eight(sandbox, head, each, out);
            sandbox.file("in", format!("{round} {views}"));
            let build = sandbox.start("build all -j8");
            std::thread::sleep(Duration::from_micros(2500 * round));
            build.kill();
            nothing_lives(sandbox);
        }
    });
}

#[test]
fn a_build_that_waits_for_the_step_of_a_killed_one_begins_when_nothing_of_that_is_left() {
    let sandbox = Sandbox::new();
    let step =
        "[tasks.one]\ninputs = ['in']\noutputs = ['o']\nrun = 'env -i /bin/sh -c \"{gate late}; echo late > o\"'";
    sandbox.tasks(step).file("in", "1");
    let one = sandbox.start("build one");
    sandbox.reached("late");
    sandbox.file("in", "2").edit("tasks.toml", "echo late", "echo next");
    let two = sandbox.start("build one");
    one.kill();
    // One arrives at the gate, the other one is gone and takes no leave.
    sandbox.reached("late").open("late");
    two.wait().counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "next\n");
    nothing_lives(&sandbox);
}

#[test]
fn an_answer_that_was_proven_waits_for_what_a_killed_build_left() {
    let sandbox = Sandbox::new();
    // What builds on its old output has it all the time.
    let step = "[tasks.one]\ninputs = ['in']\noutputs = ['o']\nclean = false\nrun = '{gate late}; cat in > o'";
    sandbox.tasks(step).file("in", "1").open("late");
    sandbox.run("build one").counts("0 fresh, 0 restored, 1 ran").success().reached("late");
    sandbox.run("build one").counts("1 fresh, 0 restored, 0 ran").success();
    let build = sandbox.file("in", "2").start("build one");
    sandbox.reached("late");
    kill_the_watcher(&sandbox);
    build.kill();
    // All facts of the proof hold again.
    let build = sandbox.file("in", "1").start("build one");
    sandbox.reached("late").open("late");
    build.wait().counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "1");
    nothing_lives(&sandbox);
}

#[test]
fn an_up_to_date_build_starts_no_watcher_and_one_that_ends_takes_it_along() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.one]\ninputs = ['in']\noutputs = ['o']\nrun = '{gate in}; cat in > o'").file("in", "1");
    let build = sandbox.start("build one");
    sandbox.reached("in");
    assert_eq!(processes_of(&sandbox).iter().filter(|p| p.contains("__watch")).count(), 1);
    sandbox.open("in");
    build.wait().success();
    nothing_lives(&sandbox);
    assert_eq!(fs::read_dir(sandbox.at(".bcache/builds")).unwrap().count(), 0);
    let trace = sandbox.root().join("trace");
    let traced = Path::new("/usr/bin/strace").exists().then(|| {
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=process", "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_cargo-bcache"));
        command.args(["build", "one"]).current_dir(sandbox.work()).env("BCACHE_HOME", sandbox.store());
        command.output().unwrap()
    });
    if traced.is_some() {
        let said = fs::read_to_string(trace).unwrap();
        assert_eq!(said.matches("execve(").count(), 1, "{said}");
    }
}
