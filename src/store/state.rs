//! `.bcache/` beside `tasks.toml`: what this worktree remembers. Deleting it costs time, never correctness.
//!
//! ```text
//! .bcache/.gitignore                *
//!         format                    version and own path (sealed)
//!         records/<step>            one sealed record each
//!         logs/<step>               of the last run
//!         aside/<n>/…               files that were in the way
//!         layers/                   unpacked layers
//!         prefixes/<prefix>/<step>  what a step has in a prefix (sealed)
//!         locks/                    of steps and prefixes
//!         work/                     build directories
//!         kept/<step>               what a kept one was last used with (sealed)
//!         tmp/<pid>-<n>/            files on their way to their place
//! ```
//! A state of another version is moved to `.bcache.old-<n>`. A worktree that was moved or copied keeps its records,
//! which hold paths only where the key does, and is told so; what holds paths otherwise is dropped: build directories,
//! links to tools, proofs, and what was remembered of files and programs.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::action::SetAside;
use crate::base::digest::Digest;
use crate::base::disk;
use crate::base::ids::StepId;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::{self, Kind, Stat};

use super::cas::Store;
use super::error::{StoreError, failed};
use super::files::{entries_of, private_dir, read_if_there, remove_tree};
use super::lock::{Sharing, StepLock, try_lock, try_lock_at, wait_lock};
use super::scratch::{Scratch, sweep, sweep_temporaries};

pub(super) const FORMAT: Format = Format { magic: b"bc-state", version: 2 };

/// Directories of the state in which nothing is published: what is named like that there is somebody else's.
const NOT_SWEPT: [&str; 3] = ["aside", "t", "work"];
/// Those that hold directories in which something is, and how deep.
const SWEPT_DEEPER: [(&str, u32); 3] = [("cargo", 4), ("prefixes", 1), ("zig", 1)];

fn sweep_below(dir: &Path, depth: u32) {
    sweep_temporaries(dir);
    if depth > 0 {
        let inner = entries_of(dir).into_iter().flatten().filter(is_dir);
        inner.for_each(|entry| sweep_below(&entry.path(), depth - 1));
    }
}

fn is_dir(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(with = "crate::base::paths::bytes")]
    root: PathBuf,
}

/// The state of one worktree.
#[derive(Debug)]
pub struct State {
    root: PathBuf,
    dir: PathBuf,
    staging: OnceLock<Scratch>,
    /// Did a clone of a file fail here?
    no_clones: AtomicBool,
    /// The path that it was made for, where the worktree was moved or copied since.
    pub moved_from: Option<PathBuf>,
    /// A state of another version was moved here.
    pub set_aside: Option<PathBuf>,
}

impl State {
    /// Opens the state of the worktree at `root` (absolute), making it where it is not there.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let dir = root.join(".bcache");
        let mut state = Self {
            root: root.to_owned(),
            dir,
            staging: OnceLock::new(),
            no_clones: AtomicBool::new(false),
            moved_from: None,
            set_aside: None,
        };
        match state.header()? {
            Some(header) if header.root == root => {}
            _ => state.begin()?,
        }
        let tmp = state.dir.join("tmp");
        sweep(&tmp).map_err(failed("clean", &tmp))?;
        Ok(state)
    }

    /// `None` where it is not of this version, or there is none.
    fn header(&self) -> Result<Option<Header>, StoreError> {
        let path = self.dir.join("format");
        let bytes = read_if_there(&path).map_err(failed("read", &path))?;
        Ok(bytes.and_then(|bytes| FORMAT.open(&bytes).ok()))
    }

    /// Makes a state, or takes over one of another path or version. One process at a time.
    fn begin(&mut self) -> Result<(), StoreError> {
        let lock = fs::File::open(&self.root).map_err(failed("open", &self.root))?;
        lock.lock().map_err(failed("lock", &self.root))?;
        let format = self.dir.join("format");
        match self.header()? {
            Some(header) if header.root == self.root => return Ok(()),
            Some(header) => {
                self.drop_bound()?;
                self.moved_from = Some(header.root);
            }
            None if format.exists() => self.set_aside = Some(self.move_away()?),
            None => {}
        }
        private_dir(&self.dir).map_err(failed("make", &self.dir))?;
        let ignore = self.dir.join(".gitignore");
        publish(&ignore, b"*\n").map_err(failed("write", &ignore))?;
        let header = Header { root: self.root.clone() };
        publish(&format, &FORMAT.seal(&header)).map_err(failed("write", &format))
    }

    /// Before the header says that this is its place: a kill in between and it is done again.
    fn drop_bound(&self) -> Result<(), StoreError> {
        for name in ["kept", "work", "t", "tools", "proofs", "files", "versions"] {
            let path = self.dir.join(name);
            remove_tree(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }

    fn move_away(&self) -> Result<PathBuf, StoreError> {
        let free = |n: &u32| self.root.join(format!(".bcache.old-{n}"));
        let old = (1..).map(|n| free(&n)).find(|path| fs::symlink_metadata(path).is_err());
        let old = old.expect("BUG: numbers end");
        fs::rename(&self.dir, &old).map_err(failed("move", &self.dir))?;
        Ok(old)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `.bcache`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// May the file system have clones? Until one has failed.
    pub(super) fn has_clones(&self) -> bool {
        !self.no_clones.load(Ordering::Relaxed)
    }

    pub(super) fn has_no_clones(&self) {
        self.no_clones.store(true, Ordering::Relaxed);
    }

    pub fn log_path(&self, step: &StepId) -> PathBuf {
        self.dir.join("logs").join(file_name(step))
    }

    /// Where the step's build directories go.
    pub fn work_dir(&self, step: &StepId) -> PathBuf {
        self.dir.join("work").join(file_name(step))
    }

    /// For a step whose outputs change. `None` where another has the step.
    pub fn try_lock_step(&self, step: &StepId) -> io::Result<Option<StepLock>> {
        self.lock_step(step, Sharing::Exclusive)
    }

    /// For a step whose outputs are read. `None` where another changes them.
    pub fn try_share_step(&self, step: &StepId) -> io::Result<Option<StepLock>> {
        self.lock_step(step, Sharing::Shared)
    }

    /// Held while views lie over the prefix, so that nobody removes or renames it.
    pub fn try_share_prefix(&self, name: &str) -> io::Result<Option<StepLock>> {
        self.try_lock(&format!("prefix-{name}"), Sharing::Shared)
    }

    /// For who would remove or rename the prefix.
    pub fn try_lock_prefix(&self, name: &str) -> io::Result<Option<StepLock>> {
        self.try_lock(&format!("prefix-{name}"), Sharing::Exclusive)
    }

    /// Held by every build from its begin to its end.
    pub fn share_build(&self) -> io::Result<StepLock> {
        let path = self.dir.join("locks").join("build");
        let file = wait_lock(&path, Sharing::Shared).map_err(disk::at(&path))?;
        Ok(StepLock { _file: file })
    }

    /// For who takes away what a running build could be using. `None` while there is one.
    pub fn try_lock_build(&self) -> io::Result<Option<StepLock>> {
        self.try_lock("build", Sharing::Exclusive)
    }

    fn lock_step(&self, step: &StepId, sharing: Sharing) -> io::Result<Option<StepLock>> {
        let digest = Digest::of(step.to_string().as_bytes());
        let path = self.dir.join("locks").join("steps");
        let file = try_lock_at(&path, &digest, sharing).map_err(disk::at(&path))?;
        Ok(file.map(|file| StepLock { _file: file }))
    }

    fn try_lock(&self, name: &str, sharing: Sharing) -> io::Result<Option<StepLock>> {
        let path = self.dir.join("locks").join(name);
        let file = try_lock(&path, sharing).map_err(disk::at(&path))?;
        Ok(file.map(|file| StepLock { _file: file }))
    }

    /// A directory on the worktree's file system from which files are renamed into place; one per process.
    pub(super) fn staging(&self) -> Result<&Scratch, StoreError> {
        let tmp = self.dir.join("tmp");
        if self.staging.get().is_none() {
            let scratch = Scratch::new_in(&tmp).map_err(failed("make", &tmp))?;
            // Another thread's is as good.
            let _ = self.staging.set(scratch);
        }
        Ok(self.staging.get().expect("BUG: it was set"))
    }

    /// Moves what nobody owns out of the way: to `aside/<n>/<relative>`. A new `n` each time.
    pub fn set_aside(&self, from: &Path, relative: &Path) -> Result<SetAside, StoreError> {
        let to = self.free_aside()?.join(relative);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(failed("make", parent))?;
        }
        match rename_anything(from, &to) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => self.set_aside_there(from),
            other => {
                other.map_err(failed("move", from))?;
                Ok(SetAside { from: from.to_owned(), to })
            }
        }
    }

    fn free_aside(&self) -> Result<PathBuf, StoreError> {
        let aside = self.dir.join("aside");
        private_dir(&aside).map_err(failed("make", &aside))?;
        for n in 1u64.. {
            let dir = aside.join(n.to_string());
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(dir),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed("make", &dir)(e)),
            }
        }
        unreachable!("BUG: numbers end")
    }

    /// Beside its place, where that is on another file system.
    fn set_aside_there(&self, from: &Path) -> Result<SetAside, StoreError> {
        let name = |n: u32| {
            let mut name = from.file_name().unwrap_or_default().to_owned();
            name.push(format!(".aside-{n}"));
            from.with_file_name(name)
        };
        let to = (1..).map(name).find(|path| fs::symlink_metadata(path).is_err()).expect("BUG: numbers end");
        rename_anything(from, &to).map_err(failed("move", from))?;
        Ok(SetAside { from: from.to_owned(), to })
    }

    /// Removes what killed processes had under way, where it is long ago.
    pub fn sweep(&self) {
        sweep_temporaries(&self.dir);
        for entry in entries_of(&self.dir).into_iter().flatten().filter(is_dir) {
            let depth = SWEPT_DEEPER.iter().find(|(name, _)| entry.file_name() == *name).map_or(0, |(_, depth)| *depth);
            if !NOT_SWEPT.iter().any(|name| entry.file_name() == *name) {
                sweep_below(&entry.path(), depth);
            }
        }
    }

    /// The file systems that the worktree and the store lie on.
    pub fn disks(&self, store: &Store) -> Result<Durable, StoreError> {
        Durable::of(&[self.dir(), store.root()])
    }
}

/// File systems that can be synced.
#[derive(Debug)]
pub struct Durable {
    disks: Vec<(PathBuf, fs::File)>,
}

impl Durable {
    /// Those that the directories lie on.
    pub fn of(dirs: &[&Path]) -> Result<Self, StoreError> {
        let mut disks: Vec<(PathBuf, fs::File)> = Vec::new();
        let mut devices = Vec::new();
        for dir in dirs {
            let file = fs::File::open(dir).map_err(failed("open", dir))?;
            let device = file.metadata().map_err(failed("look at", dir))?.dev();
            if !devices.contains(&device) {
                devices.push(device);
                disks.push((PathBuf::from(dir), file));
            }
        }
        Ok(Self { disks })
    }

    /// Makes what was written so far survive a loss of power.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.disks.iter().try_for_each(|(dir, file)| sync_file_system(file).map_err(failed("sync", dir)))
    }
}

#[cfg(target_os = "linux")]
fn sync_file_system(on_it: &fs::File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(on_it)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &fs::File) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// A thing can't leave a directory that its owner may not write in, nor such a directory its place: so
/// they may be written in for a moment.
fn rename_anything(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        other => return other,
    }
    let parent = from.parent().unwrap_or(from);
    let mode_of = |path: &Path| Ok::<_, io::Error>(Stat::read(path)?.filter(|s| s.kind == Kind::Dir).map(|s| s.mode));
    let (outer, inner) = (mode_of(parent)?, mode_of(from)?);
    let set = |path: &Path, mode: Option<u32>| mode.map_or(Ok(()), |mode| stat::set_mode(path, mode));
    set(parent, outer.map(|mode| mode | 0o700))?;
    set(from, inner.map(|mode| mode | 0o700))?;
    let renamed = fs::rename(from, to);
    set(if renamed.is_ok() { to } else { from }, inner)?;
    set(parent, outer)?;
    renamed
}

/// The name of a step's files: its own where that is a good file name, else with the rest of it digested.
pub(super) fn file_name(step: &StepId) -> String {
    const LONGEST: usize = 200;
    let name = step.file_name();
    let good = |b: &u8| b.is_ascii_alphanumeric() || b"-_.+@".contains(b);
    if name.len() <= LONGEST && !name.starts_with('.') && name.as_bytes().iter().all(good) {
        return name;
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let begin: String = name.chars().map(plain).take(40).collect();
    format!("{begin}={}", Digest::of(std::ffi::OsStr::new(&name).as_bytes()).short())
}
