//! Killed at any point, a full disk, damage, other versions, strange names: nothing is lost but the step in
//! flight, and nothing is misread.

mod sandbox;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::Sandbox;

/// Four steps in a row; the third waits in the middle of writing its output.
const ROW: &str = "
[tasks.s1]
inputs = ['in']
outputs = ['o1']
run = '{ran} s1; cat in > o1'
[tasks.s2]
inputs = ['o1']
outputs = ['o2']
run = '{ran} s2; cat o1 > o2'
[tasks.s3]
inputs = ['o2']
outputs = ['o3', 'd3/']
run = '{ran} s3; echo half > o3; echo x > d3/x; {gate middle}; cat o2 > o3'
[tasks.s4]
inputs = ['o3']
outputs = ['o4']
run = '{ran} s4; cat o3 > o4'
";

#[test]
fn after_kill_9_the_next_build_runs_only_the_step_that_was_in_flight_and_the_rest() {
    let sandbox = Sandbox::new();
    sandbox.tasks(ROW).file("in", "1");
    let build = sandbox.start("build s4");
    sandbox.reached("middle");
    build.kill();
    // The step itself is ended a moment later: should it be let go before, its end must do no harm.
    sandbox
        .open("middle")
        .run("why s3")
        .stdout(
            "
s3@host would run now:
  not-finished: its last run did not finish
",
        )
        .success()
        .open("middle")
        .run("build s4")
        .stderr(
            "
       Stale s3@host: its last run did not finish
     Running s3@host
     Running s4@host
    Finished s4@host in [TIME]: 2 fresh, 0 restored, 2 ran
",
        )
        .success()
        .ran_times("s1", 1)
        .ran_times("s2", 1)
        .ran_times("s3", 2)
        .ran_times("s4", 1);
    assert_eq!((sandbox.read("o3"), sandbox.read("o4")), ("1".to_owned(), "1".to_owned()));
    assert_eq!(sandbox.tree("d3"), ["/ 755", "x 644 x\\n"]);
}

#[test]
fn what_a_killed_run_left_is_neither_fresh_nor_moved_aside() {
    let sandbox = Sandbox::new();
    sandbox.tasks(ROW).file("in", "1").open("middle");
    sandbox.run("build s4").counts("0 fresh, 0 restored, 4 ran").success();
    let build = sandbox.file("in", "2").start("build s4");
    sandbox.reached("middle").reached("middle");
    build.kill();
    // Back to what was built before: the store has it, and the half of the other run goes.
    sandbox
        .file("in", "1")
        .run("build s4")
        .stderr(
            "
    Restored s1@host (1 file, 1 B) in [TIME]
    Restored s2@host (1 file, 1 B) in [TIME]
    Restored s3@host (2 files, 3 B) in [TIME]
    Finished s4@host in [TIME]: 1 fresh, 3 restored, 0 ran
",
        )
        .success();
    assert_eq!(sandbox.read("o3"), "1");
    assert!(!sandbox.exists(".bcache/aside") || fs::read_dir(sandbox.at(".bcache/aside")).unwrap().next().is_none());
    sandbox.run("build s4").counts("4 fresh, 0 restored, 0 ran").success();
}

#[test]
fn the_state_deleted_costs_no_run() {
    let sandbox = Sandbox::new();
    sandbox.tasks(ROW).file("in", "1").open("middle");
    sandbox.run("build s4").counts("0 fresh, 0 restored, 4 ran").success();
    sandbox.remove(".bcache").run("build s4").counts("0 fresh, 4 restored, 0 ran").success().ran_times("s1", 1);
    assert!(!sandbox.exists(".bcache/aside"), "files that are as they should be stay where they are");
}

#[test]
fn the_store_deleted_costs_nothing_while_the_outputs_are_there() {
    let sandbox = Sandbox::new();
    sandbox.tasks(ROW).file("in", "1").open("middle");
    sandbox.run("build s4").counts("0 fresh, 0 restored, 4 ran").success();
    fs::remove_dir_all(sandbox.store()).unwrap();
    sandbox.run("build s4").counts("4 fresh, 0 restored, 0 ran").success();
    sandbox.remove("o2").run("build s4").counts("3 fresh, 0 restored, 1 ran").success();
}

/// `big` is more than goes into the entry of a result itself.
const GEN: &str = "
[tasks.gen]
inputs = ['a']
outputs = ['b', 'big']
run = '{ran} gen; cat a > b; seq 200000 > big'
[tasks.use]
inputs = ['b', 'big']
outputs = ['c']
run = '{ran} use; cat b > c'
";

/// The files of the store that hold the bytes of results.
fn packs(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![sandbox.store()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            // A link leads to what all tests share.
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.retain(|path| fs::metadata(path).unwrap().len() > 0 && !path.ends_with("lock"));
    found
}

#[test]
fn any_damaged_file_of_the_store_is_noticed_and_the_step_runs_again() {
    let sandbox = Sandbox::new();
    sandbox.tasks(GEN).file("a", "1").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    let files = packs(&sandbox);
    assert!(files.len() >= 4, "{files:?}");
    for (i, file) in files.iter().enumerate().filter(|(_, f)| f.exists()) {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
        sandbox.remove("b").remove("big").remove("c");
        let build = sandbox.run("build use");
        assert!(build.said().lines().last().unwrap().contains("0 fresh, "), "{i} {}: {}", file.display(), build.said());
        build.success();
        assert_eq!((sandbox.read("b"), sandbox.read("c")), ("1".to_owned(), "1".to_owned()), "{}", file.display());
    }
    sandbox.remove("b").remove("big").remove("c").run("build use").counts("0 fresh, 2 restored, 0 ran").success();
}

#[test]
fn cache_verify_lists_what_is_damaged() {
    let sandbox = Sandbox::new();
    sandbox.tasks(GEN).file("a", "1").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox
        .run("cache verify")
        .stdout(
            "
1 result, 2 frames: 0 damaged
",
        )
        .success();
    let pack = packs(&sandbox).into_iter().find(|p| fs::metadata(p).unwrap().len() > 100_000).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&pack, bytes).unwrap();
    sandbox
        .run("cache verify")
        .stdout(
            "
damaged: [ROOT]/store/v1/frames/5/51abe28e2505771e61b53b7a06019da58f3b03af711e192b6d0feef44de902a4 (of gen@host)
1 result, 2 frames: 1 damaged
",
        )
        .exit(5);
    sandbox.remove("big").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox
        .run("cache verify")
        .stdout(
            "
1 result, 2 frames: 0 damaged
",
        )
        .success();
}

#[test]
fn a_state_of_another_version_is_set_aside_with_a_note() {
    let sandbox = Sandbox::new();
    sandbox.tasks(GEN).file("a", "1").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    let format = sandbox.at(".bcache/format");
    let mut bytes = fs::read(&format).unwrap();
    bytes[8] = 99;
    fs::write(&format, bytes).unwrap();
    // A proof is of one program only: another version has no say in it.
    sandbox
        .remove(".bcache/proofs")
        .run("build gen")
        .stderr(
            "
note: the state was of another version: moved to .bcache.old-1
    Restored gen@host (0 files, 0 B) in [TIME]
    Finished gen@host in [TIME]: 0 fresh, 1 restored, 0 ran
",
        )
        .success()
        .ran_times("gen", 1);
    sandbox.run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn damaged_records_and_proofs_cost_time_and_nothing_else() {
    let sandbox = Sandbox::new();
    sandbox.tasks(GEN).file("a", "1").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.run("build use").counts("2 fresh, 0 restored, 0 ran").success();
    let mut files = Vec::new();
    let mut open = vec![sandbox.at(".bcache")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() { open.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        for damage in ["", "junk"] {
            if file.exists() {
                fs::write(&file, damage).unwrap();
                let build = sandbox.run("build use");
                assert!(build.said().contains("Finished use@host"), "{}: {}", file.display(), build.said());
                build.success().ran_times("gen", 1).ran_times("use", 1);
                assert_eq!(sandbox.read("c"), "1");
            }
        }
    }
}

/// Runs `cargo-bcache build` with `store` and `work/big` on small file systems of their own.
fn with_little_room(sandbox: &Sandbox, small: &str) -> std::process::Output {
    let script = format!(
        "mount -t tmpfs -o size=1m small {small} && cd {work} && exec {bin} build gen",
        small = sandbox.root().join(small).display(),
        work = sandbox.work().display(),
        bin = env!("CARGO_BIN_EXE_cargo-bcache"),
    );
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", sandbox.root().join("home"))
        .env("BCACHE_HOME", sandbox.store())
        .env("TMPDIR", sandbox.root().join("tmp"))
        .env("BCACHE_JOBS", "1")
        .output()
        .unwrap()
}

#[test]
fn a_full_disk_under_the_store_fails_the_step_and_leaves_no_half_entry() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['b']
run = '{ran} gen; head -c 4000000 /dev/urandom > b'
",
        )
        .file("a", "1");
    let output = with_little_room(&sandbox, "store");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("error: gen@host failed: could not") && said.contains("the disk is full"), "{said}");
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(!sandbox.exists("b"), "what was not kept is not there");
    // The small store is gone with its namespace; the tree builds as ever.
    sandbox.run("cache list").stdout("").success();
    sandbox.run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn a_full_disk_under_the_outputs_of_a_restore_leaves_no_half_output() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['out/b']
run = '{ran} gen; head -c 4000000 /dev/urandom > out/b'
",
        )
        .file("a", "1")
        .run("build gen")
        .counts("0 fresh, 0 restored, 1 ran")
        .success();
    let before = fs::read(sandbox.at("out/b")).unwrap();
    sandbox.remove("out").dir("out");
    let output = with_little_room(&sandbox, "work/out");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the disk is full"), "{said}");
    assert_eq!(output.status.code(), Some(5), "{said}");
    sandbox.run("build gen").counts("0 fresh, 1 restored, 0 ran").success().ran_times("gen", 1);
    assert_eq!(fs::read(sandbox.at("out/b")).unwrap(), before);
}

#[test]
fn names_with_spaces_newlines_and_bytes_that_are_no_utf8_work() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.copy]
inputs = ['in/**']
outputs = ['out/']
run = '{ran} copy; cp -r in/. out/'
",
    );
    let strange = Path::new(OsStr::from_bytes(b"in/caf\xe9\x01"));
    sandbox
        .file("in/a b", "1")
        .file("in/new\nline", "2")
        .file(strange, "3")
        .file("in/'quote\"$x", "4")
        .file("in/-rf", "5");
    sandbox.run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    let made = sandbox.tree("out");
    assert_eq!(made.len(), 6, "{made:?}");
    sandbox.remove("out").run("build copy").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.tree("out"), made);
    sandbox.file(strange, "33");
    sandbox
        .run("build copy")
        .stderr(
            r#"
       Stale copy@host: in/caf\xe9\x01 changed
     Running copy@host (last time [TIME])
    Finished copy@host in [TIME]: 0 fresh, 0 restored, 1 ran
"#,
        )
        .success()
        .ran_times("copy", 2);
    sandbox
        .remove("in/new\nline")
        .run("plan copy")
        .stdout(
            r#"
stale  copy@host  [TIME]  in/new\x0aline is gone
0 fresh, 0 cached, 1 stale, 0 unknown; [TIME] of work
"#,
        )
        .success();
    fs::remove_file(sandbox.at(Path::new(OsStr::from_bytes(b"out/caf\xe9\x01")))).unwrap();
    sandbox
        .file("in/new\nline", "2")
        .run("plan copy")
        .stdout(
            r#"
cached  copy@host    output out/caf\xe9\x01 is missing
0 fresh, 1 cached, 0 stale, 0 unknown
"#,
        )
        .success();
}

#[test]
fn a_workspace_whose_path_is_full_of_traps_works() {
    for name in ["a b", "it's $HOME", "[x] {y} *", "new\nline", "-C", "ü"] {
        let sandbox = Sandbox::new().worktree(name);
        sandbox
            .tasks(
                "
[tasks.gen]
inputs = ['in/*.txt']
outputs = ['out/*.x', 'b']
run = 'cat {{ vars.file }} > b; cp in/1.txt out/1.x'
vars.file = ['in/1.txt']
",
            )
            .file("in/1.txt", "1");
        let build = sandbox.run("build gen");
        assert!(build.said().ends_with("0 fresh, 0 restored, 1 ran\n"), "{name}: {}", build.said());
        build.success();
        sandbox.run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
        sandbox.file("in/2.txt", "2").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
        sandbox.remove("out").run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
    }
}

#[test]
fn a_workspace_whose_path_is_no_utf8_works_or_says_so() {
    let sandbox = Sandbox::new();
    sandbox.tasks(GEN).file("a", "1");
    let other = sandbox.root().join(OsStr::from_bytes(b"caf\xe9"));
    fs::rename(sandbox.work(), &other).unwrap();
    std::os::unix::fs::symlink(&other, sandbox.work()).unwrap();
    sandbox
        .run("build gen")
        .stderr(
            "
     Running gen@host
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    assert_eq!(sandbox.read("b"), "1");
    sandbox
        .edit("tasks.toml", "inputs = ['a']", "inputs = ['a*']")
        .run("build gen")
        .stderr(
            "
    Finished gen@host in [TIME]: 1 fresh, 0 restored, 0 ran
",
        )
        .success();
}

#[test]
fn symlink_loops_among_the_inputs_are_passed_over() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['in/**']
outputs = ['out/b']
run = '{ran} gen; ls in > out/b'
",
        )
        .file("in/a", "1")
        .link("in/loop", "loop")
        .link("in/up", ".")
        .link("in/gone", "nowhere");
    sandbox.run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
    sandbox.file("in/nowhere", "2").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("in/nowhere", "3").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn a_link_that_leads_to_the_whole_workspace_does_not_make_the_step_its_own_input() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['in/**']
outputs = ['out/b']
run = '{ran} gen; ls in > out/b'
",
        )
        .file("in/a", "1")
        .link("in/up", "..");
    sandbox.run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
}
