//! From what lies on top of a view after a run to the layer of the step: only what it added.
//!
//! overlayfs copies a lower file up when it is opened for writing or linked, changed or not. So:
//!
//! | on top | below | it is |
//! |---|---|---|
//! | file or link | nothing | part of the layer |
//! | file or link | the same bytes and mode | no part: removed from the top |
//! | file or link | a different one | a fault: two steps would own the path |
//! | directory | directory of the same mode | no part by itself; removed from the top when nothing is left in it |
//! | directory | directory of another mode | a fault |
//! | directory | a file, or the other way round | a fault: the kind is part of the ownership |
//! | whiteout, or an opaque directory | something | a fault: the step removed another's file |
//! | whiteout | nothing | nothing: removed from the top |
//! | a device, socket or pipe; a `security.*` attribute | | a fault: it can't be kept |
//!
//! overlayfs marks *every* directory that is new in a merged one as opaque (it saves it a look below), so the
//! mark says nothing by itself; and as it would hide the directories of other layers from steps that see
//! this one, the attributes of overlayfs are stripped. (`security.selinux` and its like are put on every
//! file by the system, and are no fault.)
//!
//! Files named as shared are taken out and returned: they are in no layer.
//!
//! Everything works for the owner of the files without privileges: a directory or file that may not be
//! written gets the permission for a moment.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::base::digest::Digest;
use crate::base::disk;
use crate::base::ids::StepId;
use crate::base::paths::escaped;
use crate::base::stat::set_mode;
use crate::base::tree::{Node, PLAIN_DIR, Tree};

/// Attributes in which overlayfs keeps its own notes, as root and as an ordinary user.
const OVERLAY_MARKS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// Labels that the system itself puts on files.
const SYSTEM_LABELS: [&[u8]; 4] = [b"security.selinux", b"security.SMACK64", b"security.ima", b"security.evm"];

/// A layer that the step saw.
#[derive(Clone, Copy, Debug)]
pub struct Lower<'a> {
    pub owner: &'a StepId,
    pub tree: &'a Tree,
}

/// A file that several steps may write, taken out of the layer. The path is relative to the prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shared {
    pub path: PathBuf,
    pub mode: u32,
    pub bytes: Vec<u8>,
}

/// Why what a step left can't be a layer. Paths are relative to the prefix.
#[derive(Debug, thiserror::Error)]
pub enum LayerFault {
    #[error("`{by}` changed `{}`, which belongs to `{owner}`", escaped(path))]
    Overwritten { path: PathBuf, by: StepId, owner: StepId },
    #[error("`{by}` removed `{}`, which belongs to `{owner}`", escaped(path))]
    Removed { path: PathBuf, by: StepId, owner: StepId },
    #[error("`{by}` made `{}` a {}, where `{owner}` has a {}", escaped(path), kind(*dir), kind(!*dir))]
    Kind { path: PathBuf, dir: bool, by: StepId, owner: StepId },
    #[error("`{by}` gave the directory `{}` the mode {mode:04o}, where `{owner}` has {lower:04o}", escaped(path))]
    DirMode { path: PathBuf, mode: u32, lower: u32, by: StepId, owner: StepId },
    #[error("`{by}` made `{}`, which is a {what}: only files, links and directories can be kept", escaped(path))]
    Special { path: PathBuf, what: &'static str, by: StepId },
    #[error("`{by}` gave `{}` the attribute `{name}`, which can't be kept", escaped(path))]
    Attribute { path: PathBuf, name: String, by: StepId },
    #[error("`{}`: {}", escaped(path), disk::said(error, path))]
    Io { path: PathBuf, error: io::Error },
}

fn kind(dir: bool) -> &'static str {
    if dir { "directory" } else { "file" }
}

/// Leaves in `upper` just the layer that `by` added to `lower`, and returns the shared files that were in
/// it. `removed` is what [`crate::execute::runner::Finished::removed`] says of this prefix. The first fault
/// in path order ends it; what was taken away until then was no part of the layer anyway.
pub fn collect(
    by: &StepId,
    upper: &Path,
    lower: &[Lower<'_>],
    shared: &[PathBuf],
    removed: &[PathBuf],
) -> Result<Vec<Shared>, LayerFault> {
    let mut walk = Walk { by, below: Below::new(lower), shared, taken: Vec::new() };
    for path in removed {
        walk.whiteout(path)?;
    }
    strip_marks(upper, fs::symlink_metadata(upper).map_err(|e| failed(upper, e))?.mode())
        .map_err(|e| failed(upper, e))?;
    walk.dir(upper, Path::new(""))?;
    Ok(walk.taken)
}

fn failed(path: &Path, error: io::Error) -> LayerFault {
    LayerFault::Io { path: path.to_owned(), error }
}

/// What is at each path of all lower layers, directories that have no entry of their own included.
struct Below<'a> {
    at: HashMap<&'a Path, (&'a StepId, Found<'a>)>,
}

#[derive(Clone, Copy)]
enum Found<'a> {
    Node(&'a Node),
    /// A directory that is there because something is in it.
    Implied,
}

impl<'a> Below<'a> {
    fn new(lower: &[Lower<'a>]) -> Self {
        let mut at = HashMap::new();
        for layer in lower {
            for entry in layer.tree.entries() {
                let slot = at.entry(entry.path.as_path()).or_insert((layer.owner, Found::Implied));
                if matches!(slot.1, Found::Implied) {
                    *slot = (layer.owner, Found::Node(&entry.node));
                }
                let above = entry.path.ancestors().skip(1).take_while(|dir| !dir.as_os_str().is_empty());
                for dir in above {
                    at.entry(dir).or_insert((layer.owner, Found::Implied));
                }
            }
        }
        Self { at }
    }

    fn get(&self, path: &Path) -> Option<(&'a StepId, Found<'a>)> {
        self.at.get(path).copied()
    }
}

impl Found<'_> {
    /// The mode, if it is a directory.
    fn dir(self) -> Option<u32> {
        match self {
            Self::Implied => Some(PLAIN_DIR),
            Self::Node(&Node::Dir { mode }) => Some(mode),
            Self::Node(_) => None,
        }
    }
}

struct Walk<'a> {
    by: &'a StepId,
    below: Below<'a>,
    shared: &'a [PathBuf],
    taken: Vec<Shared>,
}

impl Walk<'_> {
    /// True if nothing is left in it.
    fn dir(&mut self, dir: &Path, path: &Path) -> Result<bool, LayerFault> {
        let mut empty = true;
        for name in names(dir).map_err(|e| failed(dir, e))? {
            let (place, path) = (dir.join(&name), path.join(&name));
            let meta = fs::symlink_metadata(&place).map_err(|e| failed(&place, e))?;
            let keep = if meta.is_dir() { self.enter(&place, &path, &meta)? } else { self.leaf(&place, &path, &meta)? };
            if keep {
                empty = false;
            } else {
                let remove = if meta.is_dir() { fs::remove_dir } else { fs::remove_file };
                writable(dir, || remove(&place)).map_err(|e| failed(&place, e))?;
            }
        }
        Ok(empty)
    }

    /// Is the directory part of the layer?
    fn enter(&mut self, place: &Path, path: &Path, meta: &Metadata) -> Result<bool, LayerFault> {
        let mode = meta.mode() & 0o7777;
        self.attributes(place, path)?;
        let opaque = strip_marks(place, mode).map_err(|e| failed(place, e))?;
        let known = self.below.get(path);
        if let Some((owner, found)) = known {
            let Some(lower) = found.dir() else { return Err(self.kind(path, true, owner)) };
            if opaque {
                return Err(self.removed(path, owner));
            }
            if lower != mode {
                let (by, owner, path) = (self.by.clone(), owner.clone(), path.to_owned());
                return Err(LayerFault::DirMode { path, mode, lower, by, owner });
            }
        }
        let empty = readable(place, mode, || self.dir(place, path))?;
        Ok(!(empty && known.is_some()))
    }

    /// Is the file, link or whatever it is part of the layer?
    fn leaf(&mut self, place: &Path, path: &Path, meta: &Metadata) -> Result<bool, LayerFault> {
        let kind = meta.file_type();
        if kind.is_char_device() && meta.rdev() == 0 {
            self.whiteout(path)?;
            return Ok(false);
        }
        if !kind.is_file() && !kind.is_symlink() {
            let what = match () {
                () if kind.is_socket() => "socket",
                () if kind.is_fifo() => "pipe",
                () => "device",
            };
            return Err(LayerFault::Special { path: path.to_owned(), what, by: self.by.clone() });
        }
        if kind.is_file() {
            self.attributes(place, path)?;
            if self.shared.iter().any(|shared| shared == path) {
                let mode = meta.mode() & 0o7777;
                let bytes = readable(place, mode, || fs::read(place).map_err(|e| failed(place, e)))?;
                self.taken.push(Shared { path: path.to_owned(), mode, bytes });
                return Ok(false);
            }
            strip_marks(place, meta.mode()).map_err(|e| failed(place, e))?;
        }
        let Some((owner, found)) = self.below.get(path) else { return Ok(true) };
        let Found::Node(node) = found else { return Err(self.kind(path, false, owner)) };
        if matches!(node, Node::Dir { .. }) {
            return Err(self.kind(path, false, owner));
        }
        if self.same(place, meta, node)? {
            return Ok(false);
        }
        Err(LayerFault::Overwritten { path: path.to_owned(), by: self.by.clone(), owner: owner.clone() })
    }

    fn same(&self, place: &Path, meta: &Metadata, node: &Node) -> Result<bool, LayerFault> {
        match node {
            Node::Dir { .. } => Ok(false),
            Node::Symlink { target } => {
                let is_link = meta.file_type().is_symlink();
                Ok(is_link && fs::read_link(place).map_err(|e| failed(place, e))? == *target)
            }
            Node::File { mode, size, digest } => {
                let alike = meta.is_file() && meta.mode() & 0o7777 == *mode && meta.len() == *size;
                let bytes = || Digest::of_file(place).map_err(|e| failed(place, e));
                Ok(alike && readable(place, *mode, bytes)? == *digest)
            }
        }
    }

    fn whiteout(&self, path: &Path) -> Result<(), LayerFault> {
        self.below.get(path).map_or(Ok(()), |(owner, _)| Err(self.removed(path, owner)))
    }

    fn removed(&self, path: &Path, owner: &StepId) -> LayerFault {
        LayerFault::Removed { path: path.to_owned(), by: self.by.clone(), owner: owner.clone() }
    }

    fn kind(&self, path: &Path, dir: bool, owner: &StepId) -> LayerFault {
        LayerFault::Kind { path: path.to_owned(), dir, by: self.by.clone(), owner: owner.clone() }
    }

    fn attributes(&self, place: &Path, path: &Path) -> Result<(), LayerFault> {
        let names = attributes(place).map_err(|e| failed(place, e))?;
        let bad = |name: &&OsString| {
            let name = name.as_bytes();
            name.starts_with(b"security.") && !SYSTEM_LABELS.iter().any(|label| name.starts_with(label))
        };
        let Some(name) = names.iter().find(bad) else { return Ok(()) };
        let name = name.to_string_lossy().into_owned();
        Err(LayerFault::Attribute { path: path.to_owned(), name, by: self.by.clone() })
    }
}

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn attributes(path: &Path) -> io::Result<Vec<OsString>> {
    let mut size = 1024;
    loop {
        let mut list = vec![0u8; size];
        match rustix::fs::llistxattr(path, list.as_mut_slice()) {
            Ok(n) => {
                let names = list[..n].split(|&b| b == 0).filter(|name| !name.is_empty());
                return Ok(names.map(|name| OsStr::from_bytes(name).to_owned()).collect());
            }
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::RANGE) => size *= 4,
            Err(e) => return Err(e.into()),
        }
    }
}

/// Removes the notes of overlayfs. True if they called the directory opaque.
fn strip_marks(path: &Path, mode: u32) -> io::Result<bool> {
    let mut opaque = false;
    for name in attributes(path)? {
        let Some(note) = OVERLAY_MARKS.iter().find_map(|mark| name.as_bytes().strip_prefix(*mark)) else { continue };
        if note == b"opaque" {
            let mut value = [0u8; 16];
            let n = rustix::fs::lgetxattr(path, &name, value.as_mut_slice())?;
            opaque |= &value[..n] == b"y";
        }
        match rustix::fs::lremovexattr(path, &name) {
            Err(Errno::ACCESS) => with_mode(path, mode, mode | 0o200, || Ok(rustix::fs::lremovexattr(path, &name)?))?,
            other => other?,
        }
    }
    Ok(opaque)
}

/// Does something with a path whose owner may not be allowed to read it (or search it, if it is a directory).
fn readable<T>(path: &Path, mode: u32, f: impl FnOnce() -> Result<T, LayerFault>) -> Result<T, LayerFault> {
    if mode & 0o500 == 0o500 || (mode & 0o400 != 0 && path.is_file()) || rustix::process::geteuid().is_root() {
        return f();
    }
    set_mode(path, mode | 0o700).map_err(|e| failed(path, e))?;
    let result = f();
    set_mode(path, mode).map_err(|e| failed(path, e))?;
    result
}

/// Does something in a directory whose owner may not be allowed to write in it.
fn writable(dir: &Path, mut f: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    match f() {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let mode = fs::metadata(dir)?.permissions().mode();
            with_mode(dir, mode, mode | 0o700, f)
        }
        other => other,
    }
}

fn with_mode(path: &Path, mode: u32, meanwhile: u32, f: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    set_mode(path, meanwhile)?;
    let result = f();
    set_mode(path, mode)?;
    result
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
