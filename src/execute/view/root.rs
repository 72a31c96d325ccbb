//! A root of the step's own: all that the real one holds, and a few directories more.
//!
//! It is a file system in memory, in which each entry of the real root is mounted at its name (with all that is mounted below),
//! and which is then moved over the real one. So it works for everybody who can make a mount namespace, whatever the
//! machine has at its root, and nothing of it is seen outside. Nobody can write to the root itself.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind_recursive, mount_remount, move_mount, open_tree,
};

use super::Plan;
use super::mount::make_dir;

/// An entry of the real root.
enum Entry {
    Link(PathBuf),
    Dir(OwnedFd),
    /// Files, for the most part.
    Other(OwnedFd),
}

/// What failed, and how.
type Failure = (String, io::Error);

fn during<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Failure {
    move |error| (what.into(), error.into())
}

/// Makes the root, enters it, and mounts there what the step sees elsewhere.
pub(super) fn make(plan: &Plan) -> Result<(), Failure> {
    // Before the new root is mounted somewhere among them, and would be in its own copies.
    let entries = entries(&plan.roots)?;
    let at = Path::new(&plan.run_dir).join("root");
    make_dir(&at).map_err(during("making a root"))?;
    let options = c"mode=755,size=1m";
    mount("bcache", &at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options))
        .map_err(during("a root in memory"))?;
    for (name, entry) in &entries {
        fill(&at.join(name), entry).map_err(during(format!("`/{}`", name.display())))?;
    }
    for name in &plan.roots {
        make_dir(&at.join(name)).map_err(during("making a directory at the root"))?;
    }
    for to in plan.elsewhere.iter().map(|(_, to)| Path::new(to)) {
        let inner = to.strip_prefix("/").unwrap_or(to);
        make_dir(&at.join(inner)).map_err(during("making a directory at the root"))?;
    }
    enter(&at).map_err(during("moving the root"))?;
    for (from, to) in &plan.elsewhere {
        let (from, to) = (Path::new(from), Path::new(to));
        // In what is mounted there by now.
        make_dir(to).map_err(during(format!("`{}`", to.display())))?;
        mount_bind_recursive(from, to).map_err(during(format!("`{}`", from.display())))?;
    }
    let read_only = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount("/", read_only, "").map_err(during("making the root read-only"))
}

/// All but those that are to be the step's own.
fn entries(own: &[OsString]) -> Result<Vec<(OsString, Entry)>, Failure> {
    let mut entries = Vec::new();
    for entry in fs::read_dir("/").map_err(during("listing `/`"))? {
        let entry = entry.map_err(during("listing `/`"))?;
        let (name, path) = (entry.file_name(), entry.path());
        if own.contains(&name) {
            continue;
        }
        let failed = || format!("`{}`", path.display());
        let kind = entry.file_type().map_err(during(failed()))?;
        let found = if kind.is_symlink() {
            Entry::Link(fs::read_link(&path).map_err(during(failed()))?)
        } else {
            let tree = copy(&path).map_err(during(failed()))?;
            if kind.is_dir() { Entry::Dir(tree) } else { Entry::Other(tree) }
        };
        entries.push((name, found));
    }
    Ok(entries)
}

/// A mount of it that lies nowhere yet.
fn copy(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    open_tree(CWD, path, flags)
}

fn fill(at: &Path, entry: &Entry) -> io::Result<()> {
    let tree = match entry {
        Entry::Link(target) => return symlink(target, at),
        Entry::Dir(tree) => {
            make_dir(at)?;
            tree
        }
        Entry::Other(tree) => {
            fs::File::create(at)?;
            tree
        }
    };
    Ok(move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// As a system does that has started from a disk in memory.
fn enter(at: &Path) -> io::Result<()> {
    rustix::process::chdir(at)?;
    move_mount(CWD, at, CWD, OsStr::new("/"), MoveMountFlags::empty())?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}
