//! What the proof of a build rests on: it may say *fresh* only where a build that thinks would.

mod sandbox;

use std::process::{Command, Stdio};

use sandbox::Sandbox;

const ALL_FRESH: &str = "2 fresh, 0 restored, 0 ran";
const ONE_RAN: &str = "1 fresh, 0 restored, 1 ran";

/// How many requests have a proof.
fn proofs(sandbox: &Sandbox) -> usize {
    std::fs::read_dir(sandbox.at(".bcache/proofs")).map_or(0, Iterator::count)
}

#[test]
fn what_a_step_globbed_before_another_made_it_is_no_proof() {
    let sandbox = Sandbox::new();
    let early = "
[tasks.early]
inputs = [{ glob = 'include/*.h', optional = true }]
outputs = ['out']
run = 'cat include/*.h > out || echo none > out'
[tasks.gen]
inputs = ['in']
outputs = ['gen/']
run = 'cp in gen/x.h'
[tasks.all]
needs = ['early', 'gen']
";
    sandbox.tasks(early).file("in", "made\n").link("include", "gen");
    sandbox.run("build all").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("out"), "none\n");
    sandbox.run("build all").counts(ONE_RAN).success();
    assert_eq!(sandbox.read("out"), "made\n");
    sandbox.run("build all").counts(ALL_FRESH).success();
    assert_eq!(proofs(&sandbox), 1);
}

#[test]
fn that_the_linked_directory_of_a_glob_is_not_there_is_a_fact() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.t]
inputs = ['in', { glob = 'include/*.h', optional = true }]
outputs = ['out']
run = 'cat include/*.h > out || echo none > out'
";
    sandbox.tasks(tasks).file("in", "").link("include", "../later/on");
    for counts in ["0 fresh, 0 restored, 1 ran", "1 fresh, 0 restored, 0 ran"] {
        sandbox.run("build t").counts(counts).success();
    }
    sandbox.file("../later/on/x.h", "here\n").run("build t").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("out"), "here\n");
}

/// What takes longer begins first: `use` is judged before `tool` is made anew.
#[test]
fn a_program_that_another_step_makes_anew_after_its_user_was_judged_is_no_proof() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.use]
inputs = ['main']
outputs = ['out']
tools = ['mytool']
run = 'sleep 0.2; mytool > out'
[tasks.tool]
inputs = ['in']
outputs = ['bin/mytool']
run = 'cp in bin/mytool; chmod +x bin/mytool'
[tasks.all]
needs = ['use', 'tool']
";
    let path = format!("{}:/usr/bin:/bin", sandbox.at("bin").display());
    sandbox.tasks(tasks).file("main", "").file("in", "#!/bin/sh\necho 1\n").env("PATH", path);
    for task in ["tool", "all", "all"] {
        sandbox.run(&format!("build {task}")).success();
    }
    sandbox.file("in", "#!/bin/sh\necho 2\n").run("build all").counts(ONE_RAN).success();
    sandbox.run("build all").counts(ONE_RAN).success();
    assert_eq!(sandbox.read("out"), "2\n");
    sandbox.run("build all").counts(ALL_FRESH).success();
    assert_eq!(proofs(&sandbox), 2);
}

#[test]
fn a_file_that_another_step_makes_anew_after_its_reader_was_judged_is_no_proof() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.read]
inputs = ['main']
outputs = ['out']
depfile = 'out.d'
run = 'sleep 0.2; . ./main'
[tasks.gen]
inputs = ['in']
outputs = ['gen/x.h']
run = 'cp in gen/x.h'
[tasks.all]
needs = ['read', 'gen']
";
    sandbox.tasks(tasks).file("main", "cat gen/x.h > out; echo 'out: gen/x.h' > out.d\n").file("in", "1");
    for task in ["gen", "all", "all"] {
        sandbox.run(&format!("build {task}")).success();
    }
    sandbox.file("in", "2").run("build all").counts(ONE_RAN).success();
    sandbox.run("build all").counts(ONE_RAN).success();
    assert_eq!(sandbox.read("out"), "2");
    sandbox.run("build all").counts(ALL_FRESH).success();
}

#[test]
fn a_build_whose_steps_look_at_what_their_needs_have_made_is_proven_at_once() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.gen]
inputs = ['in']
outputs = ['gen/', { path = 'map', optional = true }]
run = 'mkdir gen/sub; cp in gen/sub/x.h; cp in gen/y.h; ! grep 3 in || cp in map'
[tasks.tool]
inputs = ['in']
outputs = ['bin/mytool']
run = '{ echo \"#!/bin/sh\"; echo \"cat\"; cat in; } > bin/mytool; chmod +x bin/mytool'
[tasks.use]
needs = ['tool']
inputs = ['gen/**/*.h', 'main']
path = ['bin']
outputs = ['o/']
run = 'cat gen/*/*.h gen/*.h | mytool > o/a.o'
[tasks.fixed]
outputs = [{ path = 'dl/x', sha256 = '2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae' }]
run = 'printf foo > dl/x'
[tasks.last]
inputs = ['o/*.o', 'dl/x']
outputs = ['last']
run = 'cat o/*.o dl/x > last'
";
    sandbox.tasks(tasks).file("main", "").file("in", "# 1\n").env("BCACHE_JOBS", "4");
    sandbox.run("build last").counts("0 fresh, 0 restored, 5 ran").success();
    assert_eq!(proofs(&sandbox), 1);
    for text in ["# 2\n", "# 3\n", "# 1\n"] {
        sandbox.remove(".bcache/proofs").file("in", text).run("build last").success();
        assert_eq!(proofs(&sandbox), 1, "{text}");
        sandbox.run("build last").counts("5 fresh, 0 restored, 0 ran").success();
    }
}

#[test]
fn what_was_made_without_namespaces_is_proven_only_where_there_are_still_none() {
    const WITHOUT: &str = "echo 0 > /proc/sys/user/max_mnt_namespaces && exec \"$@\"";
    let can =
        |args: &[&str]| Command::new("unshare").args(args).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !rustix::process::geteuid().is_root()
        || !can(&["-m", "true"])
        || !can(&["-rUm", "sh", "-c", WITHOUT, "sh", "true"])
    {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox
        .file("in", "1")
        .tasks("[sysroots.s]\npath = 'p'\n[tasks.t]\nsysroot = 's'\ninputs = ['in']\nrun = 'cp in p/x'\n");
    let without = || {
        let inner = sandbox.command("build t");
        let mut outer = Command::new("unshare");
        outer.args(["-rUm", "sh", "-c", WITHOUT, "sh"]).arg(inner.get_program()).args(inner.get_args()).env_clear();
        outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(sandbox.work());
        let output = outer.output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(without().contains("0 fresh, 0 restored, 1 ran"));
    for _ in 0..2 {
        assert!(without().contains("1 fresh, 0 restored, 0 ran"));
    }
    sandbox.run("build t").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build t").counts("1 fresh, 0 restored, 0 ran").success();
    // What was made with them is as good here.
    assert!(without().contains("1 fresh, 0 restored, 0 ran"));
}

#[test]
fn what_somebody_puts_where_an_optional_output_was_not_made_is_seen() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.t]
inputs = ['in']
outputs = ['out', { path = 'map', optional = true }, { path = 'gen/', optional = true }]
run = 'rmdir gen; cp in out'
";
    sandbox.tasks(tasks).file("in", "1");
    let fresh = "1 fresh, 0 restored, 0 ran";
    for stray in ["map", "gen/f"] {
        sandbox.run("build t").success();
        sandbox.run("build t").counts(fresh).success();
        sandbox.file(stray, "foreign").run("build t").counts("0 fresh, 1 restored, 0 ran").success();
        assert!(!sandbox.exists(stray), "{stray}");
        sandbox.run("build t").counts(fresh).success();
    }
}

#[test]
fn a_file_that_git_tracks_in_an_output_directory_from_now_on_is_seen() {
    let sandbox = Sandbox::new();
    let git = |words: &str| {
        let mut git = Command::new("git");
        let git = git.args(words.split(' ')).current_dir(sandbox.work()).stdout(Stdio::null());
        assert!(git.status().unwrap().success(), "{words}");
    };
    sandbox.dir("ws").file("ws/in", "1").below("ws");
    sandbox.file(
        "ws/tasks.toml",
        "bcache = { version = 1 }\n[tasks.t]\ninputs = ['in']\noutputs = ['gen/']\nrun = 'cp in gen/x'\n",
    );
    let fresh = || {
        for _ in 0..2 {
            sandbox.run("build t").counts("1 fresh, 0 restored, 0 ran").success();
        }
    };
    let is_an_error = || {
        sandbox.run("build t").says("`gen/x` is tracked by git, and lies in an output directory of `t@host`").exit(3);
    };
    sandbox.run("build t").success();
    fresh();
    // Above, nearer, and by a link.
    for (init, dir) in [("init -q", "."), ("init -q ws", "ws"), ("init -q --separate-git-dir=far ws", "ws")] {
        git(init);
        fresh();
        git(&format!("-C {dir} add -f {}", if dir == "." { "ws/gen/x" } else { "gen/x" }));
        is_an_error();
        git(&format!("-C {dir} rm -q --cached {}", if dir == "." { "ws/gen/x" } else { "gen/x" }));
        fresh();
    }
}
