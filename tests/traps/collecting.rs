//! What is collected, cleared or lost while others use it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sandbox::Sandbox;

/// `big` is too big for the file of a result.
const BIG: &str = "
[tasks.first]
inputs = ['a']
outputs = ['b', 'big']
run = '{ran} first; {gate first}; cat a > b; seq 100000 > big; cat a >> big'
[tasks.second]
inputs = ['b', 'big']
outputs = ['c', 'more']
run = '{ran} second; {gate second}; cat b > c; seq 120000 > more; cat c >> more'
";

fn collect_all(sandbox: &Sandbox) {
    sandbox.env("BCACHE_LIMIT", "1").run("cache gc").success().unset("BCACHE_LIMIT");
}

/// firebuild/firebuild#1013: the collector found a blob that no entry named yet, and removed it; the entry came a moment
/// later.
#[test]
fn what_a_running_build_makes_and_uses_outlives_collection() {
    let sandbox = Sandbox::new();
    sandbox.tasks(BIG).file("a", "1").open("first");
    let build = sandbox.start("build second");
    sandbox.reached("first").reached("second");
    // The first is stored, and the second not begun to be.
    collect_all(&sandbox);
    sandbox.run("cache verify").answers("0 damaged").success();
    sandbox.open("second");
    build.wait().counts("0 fresh, 0 restored, 2 ran").success();
    for path in ["b", "big", "c", "more"] {
        sandbox.remove(path);
    }
    // What was promised to be there is there, or is known to be gone: a hit gives all of it.
    sandbox.open("first").open("second").run("build second").success();
    assert_eq!(sandbox.read("c"), "1");
    assert_eq!(sandbox.read("more").lines().last(), Some("1"));
    sandbox.run("cache verify").answers("0 damaged").success();
}

/// firebuild/firebuild#1054: a collection took what the build that runs has used, since it was of an old entry.
#[test]
fn gc_while_a_build_runs_takes_nothing_that_it_uses() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.old]
inputs = ['a']
outputs = ['o']
run = '{ran} old; cat a > o'
[tasks.slow]
inputs = ['o']
outputs = ['p']
run = '{gate slow}; cat o > p'
";
    sandbox.tasks(tasks).file("a", "1").run("build old").success();
    let build = sandbox.remove("o").start("build slow");
    sandbox.reached("slow");
    collect_all(&sandbox);
    sandbox.open("slow");
    build.wait().counts("0 fresh, 1 restored, 1 ran").success();
    sandbox
        .remove("o")
        .remove("p")
        .run("build slow")
        .counts("0 fresh, 2 restored, 0 ran")
        .success()
        .ran_times("old", 1);
    collect_all(&sandbox);
    sandbox.run("cache list").stdout("").success();
}

/// firebuild/firebuild#1013 again, while a result is being restored and not stored: a collection between the lookup and the
/// bytes.
#[test]
fn results_that_go_while_a_build_waits_to_restore_them_are_made_again() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.hold]
inputs = ['h']
outputs = ['held']
run = '{gate hold}; cat h > held'
[tasks.big]
inputs = ['held']
outputs = ['big']
run = '{ran} big; seq 100000 > big; cat held >> big'
";
    sandbox.tasks(tasks).file("h", "1").open("hold").run("build big").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.reached("hold").remove("big");
    let build = sandbox.start("build big --force=all");
    sandbox.reached("hold").run("cache clean --yes").success().open("hold");
    build.wait().counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("big").lines().last(), Some("1"));
    sandbox.remove("big").run("build big").counts("1 fresh, 1 restored, 0 ran").success();
}

/// The locks lie outside of what is cleared: else, after `cache clean`, two builds hold the "same" lock, on two files.
/// (firebuild/firebuild#1013 proposes lock files below the cache.)
#[test]
fn a_key_is_run_once_though_the_cache_is_cleared_while_it_runs() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for tree in [&sandbox, &other] {
        tree.tasks(BIG).file("a", "1");
    }
    let one = sandbox.start("build first");
    sandbox.reached("first");
    sandbox.run("cache clean --yes").success();
    collect_all(&sandbox);
    let two = other.start("build first -v");
    sandbox.open("first");
    one.wait().counts("0 fresh, 0 restored, 1 ran").success();
    two.wait().counts("0 fresh, 1 restored, 0 ran").success();
    sandbox.ran_times("first", 1);
    assert_eq!(other.read("big").lines().last(), Some("1"));
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// bazelbuild/bazel#8250, bazelbuild/bazel#12423: the result was there, its blobs were evicted, and the build failed.
/// nrwl/nx#36898, nrwl/nx#37110: it was a hit that restored nothing, in each worktree that shares the cleared directory.
#[test]
fn a_result_whose_bytes_are_gone_is_no_hit() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for tree in [&sandbox, &other] {
        tree.tasks(BIG).file("a", "1");
    }
    let build = |tree: &Sandbox, counts: &str| {
        tree.open("first").open("second").run("build second").counts(counts).success();
        assert_eq!(tree.read("c"), "1");
        assert_eq!(tree.read("more").lines().count(), 120_001);
    };
    build(&sandbox, "0 fresh, 0 restored, 2 ran");
    for part in ["frames", "results", ""] {
        let gone = sandbox.store().join("v1").join(part);
        assert!(!files_below(&gone).is_empty(), "{part}");
        fs::remove_dir_all(&gone).unwrap();
        // Here nothing is missing, and there everything.
        build(&sandbox, "2 fresh, 0 restored, 0 ran");
        let _ = fs::remove_dir_all(other.at(".bcache"));
        for path in ["b", "big", "c", "more"] {
            let _ = fs::remove_file(other.at(path));
        }
        build(&other, "0 fresh, 0 restored, 2 ran");
        sandbox.remove("big").run("build second").counts("1 fresh, 1 restored, 0 ran").success();
        sandbox.run("cache verify").answers("0 damaged").success();
    }
}

/// Each blob alone, since what is evicted is seldom all: bazelbuild/bazel#8250 and its kin.
#[test]
fn a_result_that_lost_one_of_its_blobs_is_no_hit() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.many]
inputs = ['a']
outputs = ['out/']
run = '{ran} many; for i in 1 2 3; do seq $i$i 150000 > out/$i; done; cat a > out/a'
",
        )
        .file("a", "1");
    sandbox.run("build many").counts("0 fresh, 0 restored, 1 ran").success();
    let made = sandbox.tree("out");
    let blobs = files_below(&sandbox.store().join("v1/frames"));
    assert!(blobs.len() >= 3, "{blobs:?}");
    for blob in &blobs {
        fs::remove_file(blob).unwrap();
        sandbox.remove("out").run("build many").counts("0 fresh, 0 restored, 1 ran").success();
        sandbox.remove("out").run("build many").counts("0 fresh, 1 restored, 0 ran").success();
        assert_eq!(sandbox.tree("out"), made);
    }
    sandbox.ran_times("many", 1 + blobs.len());
}
