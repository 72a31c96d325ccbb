//! Small file systems of their own for the store and the worktree, filled at random points.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::scenarios::SCENARIOS;
use crate::random::Random;
use crate::sandbox::Sandbox;

const INSIDE: &str = "BCACHE_TEST_INSIDE";
/// More than a build of the chain takes, of the store and of the worktree.
const ROOM: u64 = 6 << 20;

/// Runs `test` where its mounts are its own. Who is not root gets a user namespace, which takes a new process.
pub fn in_a_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if rustix::process::geteuid().is_root() {
        let ended = thread::spawn(move || {
            // SAFETY: of this thread alone, which shares nothing that matters with others.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            test();
        });
        return ended.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
    let status = command.args([name, "--exact", "--include-ignored", "--nocapture"]).env(INSIDE, "1").status().unwrap();
    assert!(status.success());
}

/// So many disks.
pub fn fill(random: &mut Random, count: u64) {
    let scenario = &SCENARIOS[0];
    let clean = scenario.clean();
    let mut failed = 0;
    for number in 0..count {
        let places = [&["store"][..], &["work"], &["store", "work"]][(number % 3) as usize];
        let sandbox = Sandbox::new();
        places.iter().for_each(|place| mount_small(&sandbox, place));
        // What the scenario has of its own lies on the small disk now.
        let (manifest, inputs) = scenario_files();
        sandbox.tasks(manifest);
        for (path, text) in inputs {
            sandbox.file(path, text);
        }
        let fillers: Vec<PathBuf> = places
            .iter()
            .map(|place| {
                leave(&sandbox.root().join(place), random.below(7) as u64 * (ROOM / 14) + random.below(9000) as u64)
            })
            .collect();
        let output = sandbox.command("build all").stdin(Stdio::null()).output().unwrap();
        let said = super::said(&output);
        let what = format!("disk {number}, {places:?}");
        assert!(!said.contains("panicked") && !said.contains("BUG:"), "{what}: {said}");
        match output.status.code() {
            Some(0) => assert_eq!(scenario.outputs_of(&sandbox), clean.outputs, "{what}: {said}"),
            // The command of a step met it first, and says so itself.
            Some(1) => assert!(said.contains("No space left on device"), "{what}: {said}"),
            Some(5) => assert!(said.contains("the disk is full (") && said.contains(" free)"), "{what}: {said}"),
            _ => panic!("{what}: {}: {said}", output.status),
        }
        failed += u64::from(!output.status.success());
        fillers.iter().for_each(|filler| std::fs::remove_file(filler).unwrap());
        scenario.recover(&sandbox, &clean).unwrap_or_else(|e| panic!("{what}: {e}\n-- after --\n{said}"));
    }
    println!("{count} disks, {failed} of them too full: nothing torn");
    assert!(failed > 0, "none was full enough");
}

fn scenario_files() -> (&'static str, [(&'static str, &'static str); 2]) {
    (super::scenarios::CHAIN, [("a", "1\n"), ("extra", "e\n")])
}

fn mount_small(sandbox: &Sandbox, place: &str) {
    let at = sandbox.root().join(place);
    let host = std::fs::read_link(at.join("host")).ok();
    mount("small", &at, "tmpfs", MountFlags::empty(), Some(c"size=12m,mode=755")).unwrap();
    if let Some(host) = host {
        symlink(host, at.join("host")).unwrap();
    }
}

/// Fills the disk up to so many bytes.
fn leave(at: &Path, bytes: u64) -> PathBuf {
    let fs = rustix::fs::statvfs(at).unwrap();
    let filler = at.join("filler");
    let all = (fs.f_bavail * fs.f_frsize).saturating_sub(bytes);
    File::create(&filler).unwrap().write_all(&vec![0; all as usize]).unwrap();
    filler
}
