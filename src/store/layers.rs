//! Layers unpacked once per worktree: what views lie over, and what a prefix is copied from.
//!
//! ```text
//! .bcache/layers/<digest of the tree>/       the files, exact in mode
//!                <digest of the tree>.stat   how each file and directory was last seen (sealed)
//!                <digest of the tree>.moved  how it lies in a relocatable prefix (sealed)
//! ```
//! A layer comes whole: renamed into place from the directory that a step filled, or that it was
//! unpacked in. Before it is used it is checked by its stat records: settled ones are believed, other
//! files are hashed, other directories listed, so a file too many is noticed as well as one too few.
//! Damage is mended from the store file by file, since other builds may be looking at the layer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::action::{ActionResult, Seen};
use crate::base::digest::Digest;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::{self, Instant, Kind, Stat};
use crate::base::tree::{Entry, Node, PLAIN_DIR, Tree};

use super::cas::Store;
use super::error::{StoreError, failed};
use super::files::{entries_of, read_if_there, remove_if_there, remove_tree};
use super::place::{Bytes, Pack, Piece, Site, place};
use super::restore::{Part, pieces};
use super::scratch::{Scratch, sweep};
use super::state::State;
use super::threads::spread;

pub(super) const STAT: Format = Format { magic: b"bc-layer", version: 1 };

/// How a layer was last seen.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sight {
    /// Aligned with the tree.
    entries: Vec<Seen>,
    /// Every directory, the top (an empty path) first, in the order of their paths.
    dirs: Vec<Seen>,
}

/// The unpacked layers of a worktree.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    state: &'a State,
}

impl<'a> Layers<'a> {
    pub fn of(state: &'a State) -> Self {
        Self { state }
    }

    fn dir(&self) -> PathBuf {
        self.state.dir().join("layers")
    }

    fn tmp(&self) -> PathBuf {
        self.dir().join("tmp")
    }

    /// Where the layer with this tree lies, or would.
    pub fn path(&self, tree: &Digest) -> PathBuf {
        self.dir().join(tree.to_string())
    }

    /// Takes the directory that a step filled, which holds just `tree`, as the layer. It is gone then.
    pub fn adopt(&self, upper: &Path, tree: &Tree) -> Result<PathBuf, StoreError> {
        let digest = tree.digest();
        if let Checked::Whole = self.check(&digest, tree)? {
            remove_tree(upper).map_err(failed("remove", upper))?;
            return Ok(self.path(&digest));
        }
        let dir = self.dir();
        fs::create_dir_all(&dir).map_err(failed("make", &dir))?;
        match self.put(upper, &digest, tree) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => {
                let scratch = self.scratch()?;
                let copied = scratch.fresh();
                let entries = tree.entries().iter();
                let pieces: Vec<_> = entries.map(|entry| from_layer(entry, upper)).collect();
                self.unpack(&copied, &pieces)?;
                let path = self.put(&copied, &digest, tree)?;
                remove_tree(upper).map_err(failed("remove", upper))?;
                Ok(path)
            }
            other => other,
        }
    }

    /// The directory of a layer: as it is if it is whole, mended or unpacked from `result` if not.
    /// `None` if it can't be had.
    pub fn ensure(&self, tree: &Tree, from: Option<(&Store, &ActionResult)>) -> Result<Option<PathBuf>, StoreError> {
        let digest = tree.digest();
        let checked = self.check(&digest, tree)?;
        if let Checked::Whole = checked {
            return Ok(Some(self.path(&digest)));
        }
        let Some((store, result)) = from.filter(|(_, result)| result.made.layer.as_ref() == Some(tree)) else {
            return Ok(None);
        };
        let had = match checked {
            Checked::Absent => self.unpack_result(store, result, &digest, tree),
            Checked::Whole | Checked::Damaged => self.mend(store, result, &digest, tree),
        };
        match had {
            Ok(path) => Ok(Some(path)),
            Err(e) if e.is_lost() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The layer out of a prefix that holds it, where the store has lost it. `None` if it is not there as it was.
    pub fn copy_from(&self, prefix: &Path, tree: &Tree) -> Result<Option<PathBuf>, StoreError> {
        let scratch = self.scratch()?;
        let dir = scratch.fresh();
        let pieces: Vec<_> = tree.entries().iter().map(|entry| from_layer(entry, prefix)).collect();
        match self.unpack(&dir, &pieces) {
            Ok(()) => self.put(&dir, &tree.digest(), tree).map(Some),
            Err(StoreError::LayerDamaged(_)) => Ok(None),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes all layers but these, and what killed processes left.
    pub fn remove_unused(&self, keep: &HashSet<Digest>) -> Result<usize, StoreError> {
        let (dir, tmp) = (self.dir(), self.tmp());
        sweep(&tmp).map_err(failed("clean", &tmp))?;
        let mut removed = 0;
        for entry in entries_of(&dir).map_err(failed("list", &dir))? {
            let (name, path) = (entry.file_name(), entry.path());
            let beside = |name: &str| name.ends_with(".stat") || name.ends_with(".moved");
            let digest = name.to_str().and_then(|name| name.split('.').next().unwrap_or(name).parse().ok());
            if digest.is_none_or(|digest| keep.contains(&digest)) {
                continue;
            }
            if name.to_str().is_some_and(beside) {
                remove_if_there(&path).map_err(failed("remove", &path))?;
                continue;
            }
            let stat = stat_path(&path);
            remove_if_there(&stat).map_err(failed("remove", &stat))?;
            self.throw_away(&path)?;
            removed += 1;
        }
        Ok(removed)
    }

    fn scratch(&self) -> Result<Scratch, StoreError> {
        let tmp = self.tmp();
        Scratch::new_in(&tmp).map_err(failed("make", &tmp))
    }

    /// Out of sight at once, so that nobody finds half a layer.
    fn throw_away(&self, path: &Path) -> Result<(), StoreError> {
        let scratch = self.scratch()?;
        let gone = scratch.fresh();
        let mode = Stat::read(path).ok().flatten().map_or(PLAIN_DIR, |stat| stat.mode);
        stat::set_mode(path, mode | 0o700).map_err(failed("remove", path))?;
        fs::rename(path, &gone).map_err(failed("remove", path))?;
        remove_tree(&gone).map_err(failed("remove", &gone))
    }

    fn unpack_result(
        &self,
        store: &Store,
        result: &ActionResult,
        digest: &Digest,
        tree: &Tree,
    ) -> Result<PathBuf, StoreError> {
        let _held = store.hold()?;
        let pack = Pack::new(store, result);
        let scratch = self.scratch()?;
        let dir = scratch.fresh();
        self.unpack(&dir, &pieces(&pack, result, Part::Layer))?;
        self.put(&dir, digest, tree)
    }

    fn unpack(&self, dir: &Path, pieces: &[Piece]) -> Result<(), StoreError> {
        let site = Site { state: self.state, root: dir, is_private: true };
        place(&site, pieces, &[], &mut || Ok(())).map(|_| ())
    }

    /// Damaged files are put aside, not thrown away: who knows who wrote them.
    fn mend(&self, store: &Store, result: &ActionResult, digest: &Digest, tree: &Tree) -> Result<PathBuf, StoreError> {
        let _held = store.hold()?;
        let pack = Pack::new(store, result);
        let path = self.path(digest);
        let site = Site { state: self.state, root: &path, is_private: false };
        match place(&site, &pieces(&pack, result, Part::Layer), &[], &mut || Ok(())) {
            // A link where a directory was: there is nothing to be saved of it.
            Err(StoreError::ThroughLink { .. }) => {
                self.throw_away(&path)?;
                return self.unpack_result(store, result, digest, tree);
            }
            other => drop(other?),
        }
        match self.check(digest, tree)? {
            Checked::Whole => Ok(path),
            Checked::Absent | Checked::Damaged => Err(StoreError::LayerDamaged(path)),
        }
    }

    /// Renames a whole layer to its place. One that another put there meanwhile is as good, unless it is
    /// damaged.
    fn put(&self, from: &Path, digest: &Digest, tree: &Tree) -> Result<PathBuf, StoreError> {
        let to = self.path(digest);
        stat::set_mode(from, PLAIN_DIR).map_err(failed("set the mode of", from))?;
        loop {
            match fs::rename(from, &to) {
                Ok(()) => break,
                Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                    if let Checked::Whole = self.check(digest, tree)? {
                        remove_tree(from).map_err(failed("remove", from))?;
                        return Ok(to);
                    }
                    self.throw_away(&to)?;
                }
                Err(e) => return Err(failed("move", from)(e)),
            }
        }
        // Nothing is known of the files under this name but from before.
        let known = stat_path(&to);
        remove_if_there(&known).map_err(failed("remove", &known))?;
        self.check(digest, tree)?;
        Ok(to)
    }

    /// Looks at all of a layer, by hashing where no settled record speaks for a file.
    fn check(&self, digest: &Digest, tree: &Tree) -> Result<Checked, StoreError> {
        let path = self.path(digest);
        if !Stat::read(&path).map_err(failed("look at", &path))?.is_some_and(|stat| stat.kind == Kind::Dir) {
            return Ok(Checked::Absent);
        }
        let stat_file = stat_path(&path);
        let bytes = read_if_there(&stat_file).map_err(failed("read", &stat_file))?;
        let known: Sight = bytes.and_then(|bytes| STAT.open(&bytes).ok()).unwrap_or_default();
        let Some(sight) = look(&path, tree, &known)? else { return Ok(Checked::Damaged) };
        if sight != known {
            publish(&stat_file, &STAT.seal(&sight)).map_err(failed("write", &stat_file))?;
        }
        Ok(Checked::Whole)
    }
}

enum Checked {
    Whole,
    Absent,
    Damaged,
}

fn stat_path(layer: &Path) -> PathBuf {
    layer.with_extension("stat")
}

/// A piece whose bytes are in an unpacked layer.
pub(super) fn from_layer<'a>(entry: &'a Entry, layer: &'a Path) -> Piece<'a> {
    let bytes = if let Node::File { .. } = entry.node { Bytes::Layer(layer) } else { Bytes::None };
    Piece { path: &entry.path, node: &entry.node, bytes, mend: None }
}

/// Every directory of a tree with the names in it, the top first.
fn dirs_of(tree: &Tree) -> BTreeMap<&Path, BTreeSet<&OsStr>> {
    let mut dirs: BTreeMap<&Path, BTreeSet<&OsStr>> = BTreeMap::from([(Path::new(""), BTreeSet::new())]);
    for entry in tree.entries() {
        if let Node::Dir { .. } = entry.node {
            dirs.entry(&entry.path).or_default();
        }
        let mut path = entry.path.as_path();
        while let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
            let names = dirs.entry(parent).or_default();
            if !names.insert(name) {
                break;
            }
            path = parent;
        }
    }
    dirs
}

/// `None` where the layer is not what its tree says. What is too much in it is removed.
fn look(layer: &Path, tree: &Tree, known: &Sight) -> Result<Option<Sight>, StoreError> {
    let seen_at = Instant::now();
    let mut sight = Sight::default();
    let entries = tree.entries();
    let see_entry = |i: usize| see(&layer.join(&entries[i].path), &entries[i].node, known.entries.get(i), seen_at);
    let seen = spread(entries.len(), || Ok(()), |(), i| see_entry(i))?;
    let Some(seen) = seen.into_iter().collect() else { return Ok(None) };
    sight.entries = seen;
    for (i, (dir, names)) in dirs_of(tree).into_iter().enumerate() {
        let mode = if let Some(Node::Dir { mode }) = tree.get(dir) { *mode } else { PLAIN_DIR };
        let path = layer.join(dir);
        // Asked before it is listed, so that what comes meanwhile is seen the next time.
        let Some(stat) = Stat::read(&path).map_err(failed("look at", &path))? else { return Ok(None) };
        if stat.kind != Kind::Dir {
            return Ok(None);
        }
        if known.dirs.get(i).is_some_and(|seen| seen.settled && seen.stat == stat) {
            sight.dirs.push(Seen { stat, settled: true });
            continue;
        }
        let changed = remove_others(&path, &names)? || stat.mode != mode;
        if changed {
            stat::set_mode(&path, mode).map_err(failed("set the mode of", &path))?;
        }
        sight.dirs.push(Seen { stat, settled: !changed && stat.is_settled(seen_at) });
    }
    Ok(Some(sight))
}

/// Were there others?
fn remove_others(dir: &Path, names: &BTreeSet<&OsStr>) -> Result<bool, StoreError> {
    let entries = entries_of(dir).map_err(failed("list", dir))?;
    let others = entries.into_iter().map(|entry| entry.file_name()).filter(|name| !names.contains(name.as_os_str()));
    let others: Vec<OsString> = others.collect();
    if !others.is_empty() {
        stat::set_mode(dir, PLAIN_DIR).map_err(failed("open", dir))?;
    }
    for name in &others {
        let path = dir.join(name);
        remove_tree(&path).map_err(failed("remove", &path))?;
    }
    Ok(!others.is_empty())
}

/// How `path` is seen now if it is `node`, else `None`. A settled record is believed.
pub(super) fn see(
    path: &Path,
    node: &Node,
    known: Option<&Seen>,
    seen_at: Instant,
) -> Result<Option<Seen>, StoreError> {
    let Some(stat) = Stat::read(path).map_err(failed("look at", path))? else { return Ok(None) };
    if known.is_some_and(|known| known.settled && known.stat == stat) {
        return Ok(Some(Seen { stat, settled: true }));
    }
    let same = match (node, stat.kind) {
        // Its mode is looked at with all directories.
        (Node::Dir { .. }, Kind::Dir) => true,
        (Node::Symlink { target }, Kind::Symlink) => fs::read_link(path).map_err(failed("read", path))? == *target,
        (Node::File { mode, size, digest }, Kind::File) => {
            stat.mode == *mode && stat.size == *size && Digest::of_file(path).map_err(failed("read", path))? == *digest
        }
        (Node::Dir { .. } | Node::Symlink { .. } | Node::File { .. }, _) => false,
    };
    Ok(same.then_some(Seen { stat, settled: stat.is_settled(seen_at) }))
}
