//! What is kept is the user's alone, whatever the umask says; and a cache that is somebody else's is not believed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::sandbox::Sandbox;

const TASKS: &str = "
[sysroots.main]
path = 'sysroot'

[tasks.gen]
inputs = ['in']
outputs = ['out']
sysroot = 'main'
run = '{gate here}; cp in out; head -c 100000 /dev/urandom >sysroot/big; echo said'
";

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o777
}

/// What somebody else could look at: below a directory that nobody else enters, nothing is.
fn open_to_others(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_symlink() || mode(&path) & 0o077 == 0 {
            continue;
        }
        if kind.is_dir() {
            open_to_others(&path, found);
        }
        found.push(path);
    }
}

#[track_caller]
fn is_private(sandbox: &Sandbox) {
    let mut found = Vec::new();
    open_to_others(&sandbox.store(), &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
    assert_eq!(mode(&sandbox.at(".bcache")), 0o700);
}

#[test]
fn store_and_state_are_closed_to_others_also_while_a_step_runs() {
    let sandbox = Sandbox::new();
    sandbox.tasks(TASKS).file("in", "1");
    sandbox.umask(0);
    fs::set_permissions(sandbox.store(), fs::Permissions::from_mode(0o755)).unwrap();
    let running = sandbox.start("build gen");
    sandbox.reached("here");
    is_private(&sandbox);
    sandbox.open("here");
    running.wait().success();
    is_private(&sandbox);
    // What steps make is for whom they make it.
    assert_eq!((mode(&sandbox.at("out")), mode(&sandbox.at("sysroot/big"))), (0o644, 0o644));
    for part in ["records/gen@host", "logs/gen@host", "format"] {
        assert_eq!(mode(&sandbox.at(".bcache").join(part)), 0o600, "{part}");
    }
    // Who opens it to others meant it.
    fs::set_permissions(sandbox.at(".bcache"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(sandbox.store().join("v1"), fs::Permissions::from_mode(0o750)).unwrap();
    sandbox.run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
    assert_eq!((mode(&sandbox.at(".bcache")), mode(&sandbox.store().join("v1"))), (0o755, 0o750));
}

#[test]
fn a_cache_that_is_made_is_closed_to_others() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.gen]\ninputs = ['in']\noutputs = ['out']\nrun = 'cp in out'\n").file("in", "1");
    sandbox.umask(0);
    sandbox.env("BCACHE_HOME", sandbox.root().join("new/cache")).run("build gen").success();
    assert_eq!((mode(&sandbox.root().join("new")), mode(&sandbox.root().join("new/cache"))), (0o700, 0o700));
}

#[test]
fn a_cache_that_somebody_else_could_write_into_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.gen]\ninputs = ['in']\noutputs = ['out']\nrun = '{ran} gen; cp in out'\n").file("in", "1");
    for dir in ["", "v1"] {
        let dir = sandbox.store().join(dir);
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        sandbox.run("build gen").says("everybody may write into the cache `[ROOT]/store").exit(5);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o775)).unwrap();
        if chown(&dir, Some(4711), None).is_ok() {
            sandbox.run("build gen").says("belongs to user 4711, who could put anything into it").exit(5);
            chown(&dir, Some(rustix::process::geteuid().as_raw()), None).unwrap();
        }
    }
    sandbox.ran_times("gen", 0).run("build gen").success();
}

/// A step can put links where we write next: what they lead to is not ours.
#[test]
fn a_link_in_the_place_of_a_record_or_a_log_is_not_written_through() {
    let sandbox = Sandbox::new();
    let link = "mkdir -p .bcache/logs; for f in logs/gen@host records/gen@host logs/other@host; do rm -f .bcache/$f; ln -s ../../victim .bcache/$f; done";
    sandbox.tasks(&format!("[tasks.gen]\ninputs = ['in']\noutputs = ['out']\nrun = 'cp in out; {link}'\n[tasks.other]\ninputs = ['in']\noutputs = ['o2']\nneeds = ['gen']\nrun = 'cp in o2; echo said'\n"));
    sandbox.file("in", "1").file("victim", "mine");
    sandbox.run("build other").success();
    sandbox.run("build other").success();
    sandbox.run("clean").success();
    assert_eq!(sandbox.read("victim"), "mine");
}
