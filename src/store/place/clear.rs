//! Directories: made, opened for writing, emptied, removed, and their modes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::action::SetAside;
use crate::base::stat::{self, Kind, Stat};
use crate::base::tree::{Node, PLAIN_DIR};

use super::super::error::{StoreError, failed};
use super::look::Todo;
use super::{Owned, Piece, Site, piece_at};

/// What one needs to change what is in a directory.
const WRITABLE: u32 = 0o300;

/// What is recorded and not wanted any more, in tree order.
pub(super) fn leftover<'a, 'b>(pieces: &[Piece], old: &'b [Owned<'a>]) -> Vec<&'b Owned<'a>> {
    let is_dir = |node: &Node| matches!(node, Node::Dir { .. });
    // A file is replaced by a rename; a directory and a file have to make room for each other.
    let stays =
        |owned: &&Owned| piece_at(pieces, owned.path).is_some_and(|piece| is_dir(piece.node) == is_dir(owned.node));
    old.iter().filter(|owned| !stays(owned)).collect()
}

/// The directories of a site while things change in them.
pub(super) struct Dirs<'a> {
    root: &'a Path,
    /// Is it a directory, reached through directories only?
    real: HashMap<PathBuf, bool>,
    /// Modes to be given back.
    opened: BTreeMap<PathBuf, u32>,
}

impl<'a> Dirs<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, real: HashMap::new(), opened: BTreeMap::new() }
    }

    /// Can `path`'s directory be reached without following a link? Makes it writable then.
    fn open_parent(&mut self, path: &Path) -> Result<bool, StoreError> {
        let Some(parent) = path.parent() else { return Ok(false) };
        if let Some(known) = self.real.get(parent) {
            return Ok(*known);
        }
        let full = self.root.join(parent);
        let reached = parent.as_os_str().is_empty() || self.open_parent(parent)?;
        let there = if reached { Stat::read(&full).map_err(failed("look at", &full))? } else { None };
        // The root may be reached through a link; it is where the user said.
        let is_root = parent.as_os_str().is_empty();
        let is_real = there.is_some_and(|there| there.kind == Kind::Dir || is_root);
        if let Some(there) = there.filter(|there| there.kind == Kind::Dir && there.mode & WRITABLE != WRITABLE) {
            stat::set_mode(&full, there.mode | 0o700).map_err(failed("open", &full))?;
            self.opened.insert(parent.to_owned(), there.mode);
        }
        self.real.insert(parent.to_owned(), is_real);
        Ok(is_real)
    }

    /// Makes the directories that files are about to be put in.
    pub(super) fn make_for(&mut self, pieces: &[Piece], todo: &[Todo]) -> Result<(), StoreError> {
        self.real.clear();
        for (piece, _) in pieces.iter().zip(todo).filter(|(_, todo)| **todo == Todo::Make) {
            self.make_parents(piece.path)?;
            if let Node::Dir { .. } = piece.node {
                self.make(piece.path)?;
            }
        }
        Ok(())
    }

    fn make_parents(&mut self, path: &Path) -> Result<(), StoreError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if self.real.get(parent).copied() == Some(true) {
            return Ok(());
        }
        self.make_parents(parent)?;
        self.real.remove(parent);
        if !self.open_parent(path)? {
            self.make(parent)?;
        }
        Ok(())
    }

    fn make(&mut self, dir: &Path) -> Result<(), StoreError> {
        let full = self.root.join(dir);
        match fs::create_dir(&full) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_dir(&full) => {}
            other => {
                other.map_err(failed("make", &full))?;
                stat::set_mode(&full, PLAIN_DIR).map_err(failed("make", &full))?;
            }
        }
        self.real.insert(dir.to_owned(), true);
        Ok(())
    }

    /// Gives the directories the modes that they shall have, the deepest first.
    pub(super) fn finish(mut self, pieces: &[Piece], todo: &[Todo]) -> Result<(), StoreError> {
        let mut modes = std::mem::take(&mut self.opened);
        for (piece, todo) in pieces.iter().zip(todo) {
            match piece.node {
                Node::Dir { mode } if *todo != Todo::Keep || modes.contains_key(piece.path) => {
                    modes.insert(piece.path.to_owned(), *mode);
                }
                Node::Dir { .. } | Node::File { .. } | Node::Symlink { .. } => {}
            }
        }
        for (dir, mode) in modes.iter().rev() {
            let full = self.root.join(dir);
            match stat::set_mode(&full, *mode) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(failed("set the mode of", &full))?,
            }
        }
        Ok(())
    }
}

impl Drop for Dirs<'_> {
    /// After a failure: as they were.
    fn drop(&mut self) {
        for (dir, mode) in self.opened.iter().rev() {
            let _ = stat::set_mode(&self.root.join(dir), *mode);
        }
    }
}

fn is_dir(path: &Path) -> bool {
    Stat::read(path).ok().flatten().is_some_and(|stat| stat.kind == Kind::Dir)
}

/// Removes what is left over, then the directories that are empty and not needed. Counts non-directories.
pub(super) fn remove(dirs: &mut Dirs, pieces: &[Piece], leftover: &[&Owned]) -> Result<usize, StoreError> {
    let mut removed = 0;
    let mut emptied = BTreeSet::new();
    for owned in leftover.iter().rev() {
        if !dirs.open_parent(owned.path)? {
            continue;
        }
        if let Node::Dir { .. } = owned.node {
            emptied.insert(owned.path.to_owned());
            continue;
        }
        let full = dirs.root.join(owned.path);
        let there = Stat::read(&full).map_err(failed("look at", &full))?;
        if there.is_some_and(|there| there.kind == owned.node.kind()) {
            fs::remove_file(&full).map_err(failed("remove", &full))?;
            removed += 1;
        }
        emptied.extend(owned.path.parent().map(Path::to_owned));
    }
    let needed: HashSet<&Path> = pieces.iter().flat_map(|piece| piece.path.ancestors().skip(1)).collect();
    // A directory comes after those that it lies in: from the last to the first, children come first.
    while let Some(dir) = emptied.pop_last() {
        if dir.as_os_str().is_empty() {
            continue;
        }
        if needed.contains(dir.as_path()) || piece_at(pieces, &dir).is_some_and(|p| p.node.kind() == Kind::Dir) {
            plain_again(dirs, &dir, leftover)?;
        } else if dirs.open_parent(&dir)? && remove_empty(&dirs.root.join(&dir))? {
            dirs.opened.remove(&dir);
            dirs.real.remove(&dir);
            emptied.extend(dir.parent().map(Path::to_owned));
        }
    }
    Ok(removed)
}

/// A directory whose mode was recorded and that is needed without a mode of its own.
fn plain_again(dirs: &mut Dirs, dir: &Path, leftover: &[&Owned]) -> Result<(), StoreError> {
    if leftover.iter().any(|owned| owned.path == dir && owned.node.kind() == Kind::Dir) {
        let full = dirs.root.join(dir);
        stat::set_mode(&full, PLAIN_DIR).map_err(failed("set the mode of", &full))?;
        dirs.opened.remove(dir);
    }
    Ok(())
}

/// `false` if it is not empty, or no directory.
fn remove_empty(dir: &Path) -> Result<bool, StoreError> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(true),
        Err(e) => match e.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
            // A mount point, or the working directory of somebody on a system that minds.
            io::ErrorKind::ResourceBusy => Ok(false),
            _ => Err(failed("remove", dir)(e)),
        },
    }
}

/// Makes room where a directory stands: an empty one goes, another is moved aside.
pub(super) fn clear_dir(site: &Site, path: &Path) -> Result<Option<SetAside>, StoreError> {
    let full = site.root.join(path);
    if !is_dir(&full) || remove_empty(&full)? {
        return Ok(None);
    }
    site.state.set_aside(&full, path).map(Some)
}
