//! A prefix: the union of layers that users look at.
//!
//! It is updated in place, since views may lie over it, and holds copies (clones where the file system
//! has them), never links into the layers. `.bcache/prefixes/<name>` records who put what there and how
//! it was last seen; what is not recorded belongs to the user and is left alone, or moved aside where it
//! is in the way. Before anything changes, the record takes in what is about to come, so that a crash
//! leaves no file without an owner.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::action::{ActionResult, Seen, SetAside};
use crate::base::ids::StepId;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::{Instant, Kind, Stat};
use crate::base::tree::{Node, Tree, path_order};

use super::cas::Store;
use super::error::{StoreError, failed};
use super::files::read_if_there;
use super::layers::{from_layer, see};
use super::lock::{Sharing, try_lock, wait_lock};
use super::owners::check_owners;
use super::place::{Owned, Pack, Piece, Site, place};
use super::restore::{Part, pieces};
use super::state::State;

const MAP: Format = Format { magic: b"bc-prefx", version: 1 };

/// A layer that shall be in the prefix.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub step: StepId,
    pub tree: &'a Tree,
    pub source: LayerSource<'a>,
}

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

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the prefix hold just these layers, besides what the user put there. Of `shared_files`
    /// (relative to the prefix) the last in the given order stands.
    pub fn update(&self, wanted: &[Wanted], shared_files: &[PathBuf]) -> Result<PrefixReport, StoreError> {
        let layers: Vec<_> = wanted.iter().map(|w| (w.step.clone(), w.tree)).collect();
        check_owners(&layers, shared_files)?;
        let lock = self.lock_path();
        let _lock = wait_lock(&lock, Sharing::Exclusive).map_err(failed("lock", &lock))?;
        let stored =
            |w: &Wanted<'_>| if let LayerSource::Stored(store, _) = w.source { Some(store.hold()) } else { None };
        let _held = wanted.iter().filter_map(stored).collect::<Result<Vec<_>, _>>()?;

        let packs: Vec<Option<Pack>> = wanted.iter().map(pack_of).collect();
        let union = union(wanted, &packs, shared_files);
        let owner_of: Vec<u32> = union.iter().map(|(owner, _)| *owner).collect();
        let pieces: Vec<Piece> = union.into_iter().map(|(_, piece)| piece).collect();
        let owners: Vec<StepId> = wanted.iter().map(|w| w.step.clone()).collect();
        let row = |(piece, owner): (&Piece, &u32)| Row {
            path: piece.path.to_owned(),
            owner: *owner,
            node: piece.node.clone(),
            seen: None,
        };
        let mut map = Map { owners, rows: pieces.iter().zip(&owner_of).map(row).collect() };

        let mut loaded = self.load()?;
        let old = loaded.map.clone();
        let owned: Vec<Owned> =
            old.rows.iter().map(|row| Owned { path: &row.path, node: &row.node, seen: row.seen }).collect();
        let site = Site { state: self.state, root: &self.dir, is_private: false };
        let placed = place(&site, &pieces, &owned, &mut || self.save(&mut loaded, old.with(&map)))?;
        for (row, seen) in map.rows.iter_mut().zip(&placed.seen) {
            row.seen = Some(*seen);
        }
        self.save(&mut loaded, map)?;
        Ok(PrefixReport { aside: placed.aside, written: placed.written, removed: placed.removed })
    }

    /// The first path of a step's in the prefix that is not as it was put there.
    pub fn intact(&self, step: &StepId) -> Result<Option<PathBuf>, StoreError> {
        let loaded = self.load()?;
        let Some(owner) = loaded.map.owners.iter().position(|owner| owner == step) else { return Ok(None) };
        let seen_at = Instant::now();
        let (mut refreshed, mut parents) = (Vec::new(), HashSet::new());
        for (i, row) in loaded.map.rows.iter().enumerate().filter(|(_, row)| row.owner as usize == owner) {
            let path = self.dir.join(&row.path);
            if let Some(link) = self.link_above(&row.path, &mut parents)? {
                return Ok(Some(link));
            }
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

impl Map {
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

fn pack_of<'a>(wanted: &Wanted<'a>) -> Option<Pack<'a>> {
    match wanted.source {
        LayerSource::Dir(_) => None,
        LayerSource::Stored(store, result) => Some(Pack::new(store, result)),
    }
}

/// Each path once, in tree order, with the index of the layer that it is from.
fn union<'a>(wanted: &'a [Wanted<'a>], packs: &'a [Option<Pack<'a>>], shared: &[PathBuf]) -> Vec<(u32, Piece<'a>)> {
    let mut union: BTreeMap<&[u8], (u32, Piece)> = BTreeMap::new();
    for (i, (w, pack)) in wanted.iter().zip(packs).enumerate() {
        let layer: Vec<Piece> = match (w.source, pack) {
            (LayerSource::Stored(_, result), Some(pack)) => pieces(pack, result, Part::Layer),
            (LayerSource::Dir(dir), _) => w.tree.entries().iter().map(|entry| from_layer(entry, dir)).collect(),
            (LayerSource::Stored(..), None) => panic!("BUG: a stored layer has a pack"),
        };
        let owner = u32::try_from(i).expect("BUG: so many layers");
        for piece in layer {
            let key = piece.path.as_os_str().as_encoded_bytes();
            // The same bytes twice: the lower one stands.
            if !union.contains_key(key) || shared.iter().any(|s| s == piece.path) {
                union.insert(key, (owner, piece));
            }
        }
    }
    union.into_values().collect()
}
