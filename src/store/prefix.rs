//! A prefix: the union of layers that users look at.
//!
//! It is updated in place, since views may lie over it, and holds copies (clones where the file system
//! has them), never links into the layers. `.bcache/prefixes/<name>` records who put what there and how
//! it was last seen; what is not recorded belongs to the user and is left alone, or moved aside where it
//! is in the way. Before anything changes, the record takes in what is about to come, so that a crash
//! leaves no file without an owner.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::action::{ActionResult, Seen, SetAside};
use crate::base::ids::StepId;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::{Instant, Kind, Stat};
use crate::base::tree::{Entry, Node, Tree, path_order};

use super::cas::Store;
use super::error::{StoreError, failed};
use super::files::read_if_there;
use super::layers::{from_layer, see};
use super::lock::{Sharing, try_lock, wait_lock};
use super::owners::check_owners;
use super::place::{Owned, Pack, Piece, Site, place, remove_owned};
use super::restore::{Part, pieces};
use super::state::State;

const MAP: Format = Format { magic: b"bc-prefx", version: 1 };

/// Where its files come from.
#[derive(Clone, Copy, Debug)]
pub enum LayerSource<'a> {
    /// The directory that [`super::Layers::ensure`] gave.
    Dir(&'a Path),
    /// A result whose layer is the tree.
    Stored(&'a Store, &'a ActionResult),
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PrefixReport {
    pub aside: Vec<SetAside>,
    /// Files and links.
    pub written: usize,
    pub removed: usize,
    /// Paths that the step had and has no more, or with other contents: steps that had the same there have
    /// to be put anew.
    pub left: Vec<PathBuf>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Map {
    owners: Vec<StepId>,
    /// In tree order.
    rows: Vec<Row>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Row {
    #[serde(with = "crate::base::paths::bytes")]
    path: PathBuf,
    /// Index into the owners.
    owner: u32,
    node: Node,
    /// `None` while it is on its way.
    seen: Option<Seen>,
}

/// Does this, at this path, of this step yield to others?
pub type Provisional<'a> = &'a dyn Fn(&StepId, &Path, &Node) -> bool;

/// The map as it was read, and the stat record of its file then.
#[derive(Debug)]
struct Loaded {
    stat: Option<Stat>,
    map: Map,
}

/// One prefix of a worktree.
#[derive(Debug)]
pub struct Prefix<'a> {
    state: &'a State,
    name: String,
    dir: PathBuf,
    loaded: Mutex<Option<Loaded>>,
}

impl<'a> Prefix<'a> {
    /// `name`: a file name that no other prefix of the worktree has. `dir`: where it lies, absolute.
    pub fn new(state: &'a State, name: &str, dir: &Path) -> Self {
        Self { state, name: name.to_owned(), dir: dir.to_owned(), loaded: Mutex::new(None) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the prefix hold this layer of `step`, and nothing else of it. The layers of other steps stay;
    /// one that differs at a path is a [`StoreError::Conflict`], and nothing is changed then. The same
    /// bytes at a path of another step are the other's.
    pub fn put(&self, step: &StepId, tree: &Tree, source: LayerSource) -> Result<PrefixReport, StoreError> {
        self.put_over(step, tree, source, &|_, _, _| false)
    }

    /// The same, but what is `provisional` of other steps yields: it is of an earlier build, or of one with another
    /// manifest, and its step is put anew, or not fresh, before this one ends.
    pub fn put_over(
        &self,
        step: &StepId,
        tree: &Tree,
        source: LayerSource,
        provisional: Provisional,
    ) -> Result<PrefixReport, StoreError> {
        let lock = self.lock_path();
        let _lock = wait_lock(&lock, Sharing::Exclusive).map_err(failed("lock", &lock))?;
        let _held = if let LayerSource::Stored(store, _) = source { Some(store.hold()?) } else { None };
        let mut loaded = self.load()?;
        let old = loaded.map.yielding(step, tree, provisional);
        old.check(step, tree)?;
        let pack = if let LayerSource::Stored(store, result) = source { Some(Pack::new(store, result)) } else { None };
        let of_others: HashSet<&Path> =
            old.rows.iter().filter(|r| old.owner(r) != step).map(|r| r.path.as_path()).collect();
        let mut layer = match (source, &pack) {
            (LayerSource::Stored(_, result), Some(pack)) => pieces(pack, result, Part::Layer),
            (LayerSource::Dir(dir), _) => tree.entries().iter().map(|entry| from_layer(entry, dir)).collect(),
            (LayerSource::Stored(..), None) => panic!("BUG: a stored layer has a pack"),
        };
        layer.retain(|piece| !of_others.contains(piece.path));
        let mut map = old.without(|owner| owner == step);
        let owner = index_of(&mut map.owners, step);
        let row = |piece: &Piece| Row { path: piece.path.to_owned(), owner, node: piece.node.clone(), seen: None };
        let mut rows: Vec<Row> = layer.iter().map(row).collect();
        let owned: Vec<Owned> = old.rows.iter().filter(|r| old.owner(r) == step).map(Row::owned).collect();
        let site = Site { state: self.state, root: &self.dir, is_private: false };
        let coming = Map { owners: map.owners.clone(), rows: rows.clone() };
        let placed = place(&site, &layer, &owned, &mut || self.save(&mut loaded, old.with(&coming)))?;
        for (row, seen) in rows.iter_mut().zip(&placed.seen) {
            row.seen = Some(*seen);
        }
        map.rows.extend(rows);
        map.rows.sort_by(|a, b| path_order(&a.path, &b.path));
        self.save(&mut loaded, map)?;
        let of_step = old.rows.iter().filter(|r| old.owner(r) == step);
        let left = of_step.filter(|r| tree.get(&r.path) != Some(&r.node)).map(|r| r.path.clone()).collect();
        Ok(PrefixReport { aside: placed.aside, written: placed.written, removed: placed.removed, left })
    }

    /// Removes the layers of all steps that are not to be kept. Returns how many files and links went.
    pub fn retain(&self, keep: impl Fn(&StepId) -> bool) -> Result<usize, StoreError> {
        if self.load()?.map.owners.iter().all(&keep) {
            return Ok(0);
        }
        let lock = self.lock_path();
        let _lock = wait_lock(&lock, Sharing::Exclusive).map_err(failed("lock", &lock))?;
        let mut loaded = self.load()?;
        let old = loaded.map.clone();
        let gone: Vec<Owned> = old.rows.iter().filter(|r| !keep(old.owner(r))).map(Row::owned).collect();
        let removed = remove_owned(&self.dir, &gone)?;
        self.save(&mut loaded, old.without(|owner| !keep(owner)))?;
        Ok(removed)
    }

    /// The first path of a step's layer that does not lie in the prefix as it was put there.
    pub fn damage(&self, step: &StepId, tree: &Tree) -> Result<Option<PathBuf>, StoreError> {
        let loaded = self.load()?;
        let seen_at = Instant::now();
        let (mut refreshed, mut parents) = (Vec::new(), HashSet::new());
        if !loaded.map.owners.contains(step) {
            return Ok(Some(self.dir.clone()));
        }
        for entry in tree.entries() {
            let path = self.dir.join(&entry.path);
            let Some(i) = loaded.map.find(&entry.path).filter(|i| loaded.map.rows[*i].node == entry.node) else {
                return Ok(Some(path));
            };
            if let Some(link) = self.link_above(&entry.path, &mut parents)? {
                return Ok(Some(link));
            }
            let row = &loaded.map.rows[i];
            match see(&path, &row.node, row.seen.as_ref(), seen_at)? {
                None => return Ok(Some(path)),
                Some(seen) if !has_mode(&row.node, &seen.stat) => return Ok(Some(path)),
                Some(seen) if row.seen != Some(seen) => refreshed.push((i, seen)),
                Some(_) => {}
            }
        }
        self.refresh(loaded, &refreshed)?;
        Ok(None)
    }

    /// What is no directory any more in the way to `path`. `known`: those that are.
    fn link_above<'p>(&self, path: &'p Path, known: &mut HashSet<&'p Path>) -> Result<Option<PathBuf>, StoreError> {
        let above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        for dir in above.take_while(|above| known.insert(above)) {
            let full = self.dir.join(dir);
            let stat = Stat::read(&full).map_err(failed("look at", &full))?;
            if stat.is_none_or(|stat| stat.kind != Kind::Dir) {
                return Ok(Some(full));
            }
        }
        Ok(None)
    }

    /// All that lies there by the record, as it was last seen.
    pub fn seen(&self) -> Result<Vec<(PathBuf, Node, Option<Seen>)>, StoreError> {
        let loaded = self.load()?;
        Ok(loaded.map.rows.iter().map(|row| (self.dir.join(&row.path), row.node.clone(), row.seen)).collect())
    }

    /// The steps that have something in it by the record.
    pub fn owners(&self) -> Result<Vec<StepId>, StoreError> {
        Ok(self.load()?.map.owners.clone())
    }

    /// Remembers what was looked at anew, unless another is at it: it is looked at again then.
    fn refresh(&self, mut loaded: Guard, refreshed: &[(usize, Seen)]) -> Result<(), StoreError> {
        let path = self.lock_path();
        if refreshed.is_empty() {
            return Ok(());
        }
        let Some(_lock) = try_lock(&path, Sharing::Exclusive).map_err(failed("lock", &path))? else { return Ok(()) };
        if self.map_stat()? != loaded.stat {
            return Ok(());
        }
        let mut map = loaded.map.clone();
        for (i, seen) in refreshed {
            map.rows[*i].seen = Some(*seen);
        }
        self.save(&mut loaded, map)
    }

    fn lock_path(&self) -> PathBuf {
        self.state.dir().join("locks").join(format!("update-{}", self.name))
    }

    fn map_path(&self) -> PathBuf {
        self.state.dir().join("prefixes").join(&self.name)
    }

    fn map_stat(&self) -> Result<Option<Stat>, StoreError> {
        let path = self.map_path();
        Stat::read(&path).map_err(failed("look at", &path))
    }

    /// The map as it is on disk now; read only if it is another than before.
    fn load(&self) -> Result<Guard<'_>, StoreError> {
        let mut slot = self.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stat = self.map_stat()?;
        if slot.as_ref().is_none_or(|loaded| loaded.stat != stat) {
            let path = self.map_path();
            let bytes = read_if_there(&path).map_err(failed("read", &path))?;
            let map = bytes.and_then(|bytes| MAP.open(&bytes).ok()).unwrap_or_default();
            *slot = Some(Loaded { stat, map });
        }
        Ok(Guard(slot))
    }

    fn save(&self, loaded: &mut Loaded, map: Map) -> Result<(), StoreError> {
        if loaded.map == map {
            return Ok(());
        }
        let path = self.map_path();
        publish(&path, &MAP.seal(&map)).map_err(failed("write", &path))?;
        *loaded = Loaded { stat: self.map_stat()?, map };
        Ok(())
    }
}

/// A map that is loaded for certain.
struct Guard<'g>(MutexGuard<'g, Option<Loaded>>);

impl std::ops::Deref for Guard<'_> {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        self.0.as_ref().expect("BUG: it was loaded")
    }
}

impl std::ops::DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Loaded {
        self.0.as_mut().expect("BUG: it was loaded")
    }
}

impl Row {
    fn owned(&self) -> Owned<'_> {
        Owned { path: &self.path, node: &self.node, seen: self.seen }
    }
}

impl Map {
    fn owner(&self, row: &Row) -> &StepId {
        &self.owners[row.owner as usize]
    }

    fn find(&self, path: &Path) -> Option<usize> {
        self.rows.binary_search_by(|row| path_order(&row.path, path)).ok()
    }

    /// Owners that are gone leave no rows, and the others keep theirs.
    fn without(&self, gone: impl Fn(&StepId) -> bool) -> Self {
        let mut map = Self::default();
        for owner in self.owners.iter().filter(|owner| !gone(owner)) {
            index_of(&mut map.owners, owner);
        }
        for row in self.rows.iter().filter(|row| !gone(self.owner(row))) {
            let owner = index_of(&mut map.owners, self.owner(row));
            map.rows.push(Row { owner, ..row.clone() });
        }
        map
    }

    /// With what is in the layer's way handed over to its step, where the owner is provisional.
    fn yielding(&self, step: &StepId, tree: &Tree, provisional: Provisional) -> Self {
        let mut map = self.clone();
        let is_file = |node: &Node| !matches!(node, Node::Dir { .. });
        let in_the_way = |row: &Row| {
            tree.get(&row.path).is_some_and(|node| *node != row.node)
                || is_file(&row.node) && tree.holds_below(&row.path)
                || row.path.ancestors().skip(1).any(|above| tree.get(above).is_some_and(is_file))
        };
        let is_provisional = |row: &Row| provisional(self.owner(row), &row.path, &row.node);
        let yields = |row: &Row| self.owner(row) != step && in_the_way(row) && is_provisional(row);
        for (at, _) in self.rows.iter().enumerate().filter(|(_, row)| yields(row)) {
            map.rows[at].owner = index_of(&mut map.owners, step);
        }
        map
    }

    /// Can the layer lie beside those of the other steps?
    fn check(&self, step: &StepId, tree: &Tree) -> Result<(), StoreError> {
        let others = self.owners.iter().filter(|owner| *owner != step);
        let others: Vec<(StepId, Tree)> = others
            .map(|owner| {
                let rows = self.rows.iter().filter(|row| self.owner(row) == owner);
                let entries = rows.map(|row| Entry { path: row.path.clone(), node: row.node.clone() }).collect();
                (owner.clone(), Tree::new(entries))
            })
            .collect();
        let layers: Vec<(StepId, &Tree)> =
            others.iter().map(|(s, t)| (s.clone(), t)).chain([(step.clone(), tree)]).collect();
        Ok(check_owners(&layers, &[])?)
    }

    /// What is there and what is to come: all that may be there after a crash.
    fn with(&self, coming: &Self) -> Self {
        let mut owners = self.owners.clone();
        let index: Vec<u32> = coming.owners.iter().map(|step| index_of(&mut owners, step)).collect();
        let known: HashSet<&Path> = self.rows.iter().map(|row| row.path.as_path()).collect();
        let new = coming.rows.iter().filter(|row| !known.contains(row.path.as_path()));
        let new = new.map(|row| Row { owner: index[row.owner as usize], ..row.clone() });
        let mut rows: Vec<Row> = self.rows.iter().cloned().chain(new).collect();
        rows.sort_by(|a, b| path_order(&a.path, &b.path));
        Self { owners, rows }
    }
}

fn index_of(owners: &mut Vec<StepId>, step: &StepId) -> u32 {
    let at = owners.iter().position(|owner| owner == step).unwrap_or_else(|| {
        owners.push(step.clone());
        owners.len() - 1
    });
    u32::try_from(at).expect("BUG: so many layers")
}

fn has_mode(node: &Node, stat: &Stat) -> bool {
    match node {
        Node::Dir { mode } | Node::File { mode, .. } => stat.mode == *mode,
        Node::Symlink { .. } => true,
    }
}
