//! What one step sees of the sysroots, on Linux: overlay file systems over the prefixes, in a mount and PID
//! namespace of the step's own.
//!
//! | the prefix has | the step sees there |
//! |---|---|
//! | a [`Top`] | its layers, writable; what it writes lands in the top, and is its layer ([`layer`]) |
//! | layers | their union, read-only |
//! | nothing | an empty directory, read-only |
//!
//! The mounts are made by our own binary ([`super::inside`]) in the namespace, so they are seen by this step
//! alone, need no cleaning up, and go when the last process of the step is gone. Ordinary users may do so
//! since Linux 5.11, in a user namespace where they stay who they are; whether this machine allows it is
//! found by trying ([`probe::available`]).
//!
//! **Traps that were met, and what is done about them** ([`mount`]): options of `mount(2)` are cut at one
//! page, values of `fsconfig` at 256 bytes, and `:`, `,` and `\` have a meaning in some of them. So every
//! directory is opened first, and named `/proc/self/fd/N`: short, and without special characters. It also
//! makes the order of mounting free: a view may hide `/opt` although layers lie below it.
//! `redirect_dir`, `metacopy` and `index` are switched off, so that a top is whole by itself. `volatile` is
//! on: without it every unmount syncs the whole file system below (tens of milliseconds per step, and far
//! more where others write), while what we keep of a top is made durable by the store, and no top is ever
//! mounted twice.
//!
//! **A root of its own** ([`root`]). What is to be the same for every checkout is seen at paths that exist nowhere
//! else: relocatable prefixes at their placeholders, the work directory at a fixed place. Nobody but root can make
//! a directory at `/`, so such a step gets a root in memory, with all that the real one holds mounted in it.
//!
//! A view that somebody takes away from outside (by removing the directory that it lies over) is noticed
//! after the commands, and fails the step: what it wrote went elsewhere.

#[cfg(unix)]
pub mod hiding;
pub mod layer;
#[cfg(target_os = "linux")]
pub mod mount;
pub mod probe;
#[cfg(target_os = "linux")]
mod root;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// All that differs for a step from what everybody sees.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    pub prefixes: Vec<Mounted>,
    /// Places that are put back as they are, where something above them is laid over.
    pub binds: Vec<PathBuf>,
    /// What is hidden of a directory of `prefixes` that the state itself lies in, where no layer of whiteouts can be kept.
    pub whiteouts: Vec<(PathBuf, Vec<PathBuf>)>,
    /// Directories that the step sees at another path too: where they are, where it sees them. Both absolute.
    pub elsewhere: Vec<(PathBuf, PathBuf)>,
    /// Places at the root of the file system, made for this step alone if they are not there.
    pub roots: Vec<OsString>,
    /// A directory of this step's own, on the disk; small things are put there while it runs. Made if it is
    /// not there.
    pub run_dir: PathBuf,
}

/// One directory and what lies over it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mounted {
    /// Absolute, without symbolic links. Made if it is not there.
    pub at: PathBuf,
    /// Bottom first. Where no path is owned by two layers (which is checked when they are collected) the
    /// order can't be seen. A layer of whiteouts goes last.
    pub layers: Vec<PathBuf>,
    pub top: Option<Top>,
}

/// Where the writes of a step land. Both are empty directories on one file system, made by the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Top {
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// A view as it is handed to our helper: [`OsString`], since serde refuses paths that are not UTF-8.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub run_dir: OsString,
    /// Names of directories at a root of the step's own; none for the root that everybody has.
    pub roots: Vec<OsString>,
    pub elsewhere: Vec<(OsString, OsString)>,
    pub mounts: Vec<PlannedMount>,
    /// Use `mount(2)` as before Linux 6.8.
    pub classic: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedMount {
    pub at: OsString,
    pub layers: Vec<OsString>,
    /// Upper and work.
    pub top: Option<(OsString, OsString)>,
    /// No overlay: what is at the place already, put back.
    pub is_bind: bool,
    /// Paths that are hidden, below `at`.
    pub whiteouts: Vec<OsString>,
}

impl View {
    pub fn plan(&self) -> Plan {
        let bind = |at: &PathBuf| PlannedMount { is_bind: true, ..PlannedMount::at(at) };
        let mut mounts: Vec<PlannedMount> =
            self.prefixes.iter().map(Mounted::plan).chain(self.binds.iter().map(bind)).collect();
        for (at, hidden) in &self.whiteouts {
            let mount = mounts.iter_mut().find(|mount| mount.at == at.as_os_str());
            mount.expect("BUG: what is hidden is hidden by a mount").whiteouts =
                hidden.iter().map(|path| path.clone().into()).collect();
        }
        // A prefix inside another one is mounted after it.
        mounts.sort_by(|a, b| a.at.cmp(&b.at));
        let pair = |(from, to): &(PathBuf, PathBuf)| (from.clone().into(), to.clone().into());
        Plan {
            run_dir: self.run_dir.clone().into(),
            roots: self.roots.clone(),
            elsewhere: self.elsewhere.iter().map(pair).collect(),
            mounts,
            classic: false,
        }
    }
}

impl PlannedMount {
    fn at(at: &Path) -> Self {
        Self { at: at.into(), layers: Vec::new(), top: None, is_bind: false, whiteouts: Vec::new() }
    }
}

impl Mounted {
    fn plan(&self) -> PlannedMount {
        PlannedMount {
            layers: self.layers.iter().map(|layer| layer.clone().into()).collect(),
            top: self.top.as_ref().map(|top| (top.upper.clone().into(), top.work.clone().into())),
            ..PlannedMount::at(&self.at)
        }
    }
}
