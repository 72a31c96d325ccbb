//! A prefix: the union of layers that users look at.
//!
//! It is updated in place, since views may lie over it, and holds copies (clones where the file system
//! has them), never links into the layers. Who put what there and how it was last seen is remembered
//! ([`shares`]); what is not remembered belongs to the user and is left alone, or moved aside where it
//! is in the way. Before anything changes, a step's share takes in what is about to come, so that a crash
//! leaves no file without an owner.

pub(super) mod shares;
mod strange;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::action::{ActionResult, Seen, SetAside};
use crate::base::ids::StepId;
use crate::base::stat::{Instant, Kind, Stat};
use crate::base::tree::{Node, Tree, path_order};

use super::cas::Store;
use super::error::{StoreError, failed};
use super::layers::{from_layer, see};
use super::owners::{Layer, check_owners};
use super::place::{Owned, Pack, Piece, Site, place, remove_owned};
use super::relocate::Mends;
use super::restore::{Part, pieces};
use super::state::State;
use shares::{Locked, Row, Share, Shares, find, holds};

pub use strange::{How, Looked, Stranger};

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

/// One prefix of a worktree.
#[derive(Debug)]
pub struct Prefix<'a> {
    state: &'a State,
    dir: PathBuf,
    shares: Shares<'a>,
}

impl<'a> Prefix<'a> {
    /// `name`: a file name that no other prefix of the worktree has. `dir`: where it lies, absolute.
    pub fn new(state: &'a State, name: &str, dir: &Path) -> Self {
        Self { state, dir: dir.to_owned(), shares: Shares::new(state, name) }
    }

    pub fn name(&self) -> &str {
        self.shares.name()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the prefix hold this layer of `step`, and nothing else of it. The layers of other steps stay;
    /// one that differs at a path is a [`StoreError::Conflict`], and nothing is changed then. The same
    /// file at a path of another step is the other's.
    pub fn put(&self, step: &StepId, tree: &Tree, source: LayerSource) -> Result<PrefixReport, StoreError> {
        self.put_over(step, tree, source, &Mends::default(), &|_, _, _| false)
    }

    /// The same with the files of `mends` changed on their way; `tree` says what becomes of them. And what is
    /// `provisional` of other steps yields: it is of an earlier build, or of one with another manifest, and its step
    /// is put anew, or not fresh, before this one ends.
    pub fn put_over(
        &self,
        step: &StepId,
        tree: &Tree,
        source: LayerSource,
        mends: &Mends,
        provisional: Provisional,
    ) -> Result<PrefixReport, StoreError> {
        let mut shares = self.shares.lock()?;
        let _held = if let LayerSource::Stored(store, _) = source { Some(store.hold()?) } else { None };
        let pack = if let LayerSource::Stored(store, result) = source { Some(Pack::new(store, result)) } else { None };
        let mut layer = match (source, &pack) {
            (LayerSource::Stored(_, result), Some(pack)) => pieces(pack, result, Part::Layer),
            (LayerSource::Dir(dir), _) => tree.entries().iter().map(|entry| from_layer(entry, dir)).collect(),
            (LayerSource::Stored(..), None) => panic!("BUG: a stored layer has a pack"),
        };
        mends.apply(&mut layer, tree);
        let mut before = shares.of(step).to_vec();
        let mut yielded = BTreeMap::new();
        // What it has already, it has beside the others.
        if !holds(&before, tree) {
            yielded = yielding(shares.all(), step, tree, provisional);
            check(shares.all(), &yielded, step, tree)?;
            let of_others = paths_of_others(shares.all(), &yielded, step);
            // A directory is nobody's, but the mode that it has by a layer is: without it the layer claims the plain one.
            let is_dir = |piece: &Piece| matches!(piece.node, Node::Dir { .. });
            layer.retain(|piece| is_dir(piece) || !of_others.contains(piece.path));
            before.extend(yielded.values().flatten().cloned());
            before.sort_by(|a, b| path_order(&a.path, &b.path));
            before.dedup_by(|b, a| a.path == b.path);
        }
        let row = |piece: &Piece| Row { path: piece.path.to_owned(), node: piece.node.clone(), seen: None };
        let mut rows: Share = layer.iter().map(row).collect();
        let owned: Vec<Owned> = before.iter().map(Row::owned).collect();
        let site = Site { state: self.state, root: &self.dir, is_private: false };
        let mut begin = || {
            shares.write(step, with_coming(&before, &rows))?;
            yield_rows(&mut shares, &yielded)
        };
        let placed = place(&site, &layer, &owned, &mut begin)?;
        for (row, seen) in rows.iter_mut().zip(&placed.seen) {
            row.seen = Some(*seen);
        }
        yield_rows(&mut shares, &yielded)?;
        shares.write(step, rows)?;
        let left = before.iter().filter(|row| tree.get(&row.path) != Some(&row.node)).map(|row| row.path.clone());
        Ok(PrefixReport { left: left.collect(), aside: placed.aside, written: placed.written, removed: placed.removed })
    }

    /// Removes the layers of all steps that are not to be kept. Returns how many files and links went.
    pub fn retain(&self, keep: impl Fn(&StepId) -> bool) -> Result<usize, StoreError> {
        let mut shares = self.shares.lock()?;
        let gone: Vec<StepId> = shares.all().keys().filter(|owner| !keep(owner)).cloned().collect();
        let mut removed = 0;
        for owner in gone {
            let owned: Vec<Owned> = shares.of(&owner).iter().map(Row::owned).collect();
            removed += remove_owned(&self.dir, &owned)?;
            shares.write(&owner, Share::new())?;
        }
        Ok(removed)
    }

    /// The first path of a step's layer that does not lie in the prefix as it was put there.
    pub fn damage(&self, step: &StepId, tree: &Tree) -> Result<Option<PathBuf>, StoreError> {
        // With the owner of each: equal files of several steps lie there once.
        let rows: Vec<Option<(StepId, Row)>> = self.shares.look(|all| {
            let mine = all.get(step).map_or(&[][..], Vec::as_slice);
            let of_other = |path: &Path| all.iter().find_map(|(owner, share)| Some((owner, find(share, path)?)));
            let row = |path: &Path| find(mine, path).map(|row| (step, row)).or_else(|| of_other(path));
            let cloned = |(owner, row): (&StepId, &Row)| (owner.clone(), row.clone());
            tree.entries().iter().map(|entry| row(&entry.path).map(cloned)).collect()
        })?;
        let seen_at = Instant::now();
        let (mut refreshed, mut parents) = (Vec::new(), HashSet::new());
        for (entry, row) in tree.entries().iter().zip(rows) {
            let path = self.dir.join(&entry.path);
            let Some((owner, row)) = row.filter(|(_, row)| row.node == entry.node) else { return Ok(Some(path)) };
            if let Some(link) = self.link_above(&entry.path, &mut parents)? {
                return Ok(Some(link));
            }
            match see(&path, &row.node, row.seen.as_ref(), seen_at)? {
                None => return Ok(Some(path)),
                Some(seen) if !has_mode(&row.node, &seen.stat) => return Ok(Some(path)),
                Some(seen) if row.seen != Some(seen) => refreshed.push((owner, row, seen)),
                Some(_) => {}
            }
        }
        self.refresh(refreshed)?;
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

    /// All that lies there by the shares, as it was last seen.
    pub fn seen(&self) -> Result<Vec<(PathBuf, Node, Option<Seen>)>, StoreError> {
        let shares = self.shares.lock()?;
        let rows = shares.all().values().flatten();
        Ok(rows.map(|row| (self.dir.join(&row.path), row.node.clone(), row.seen)).collect())
    }

    /// The steps that have something in it.
    pub fn owners(&self) -> Result<Vec<StepId>, StoreError> {
        Ok(self.shares.lock()?.all().keys().cloned().collect())
    }

    /// Remembers what was looked at anew, unless another is at it: it is looked at again then.
    fn refresh(&self, refreshed: Vec<(StepId, Row, Seen)>) -> Result<(), StoreError> {
        if refreshed.is_empty() {
            return Ok(());
        }
        let Some(mut shares) = self.shares.try_lock()? else { return Ok(()) };
        let mut changed: BTreeMap<StepId, Share> = BTreeMap::new();
        for (owner, row, seen) in refreshed {
            let share = changed.entry(owner).or_insert_with_key(|owner| shares.of(owner).to_vec());
            if let Ok(at) = share.binary_search_by(|other| path_order(&other.path, &row.path))
                && share[at] == row
            {
                share[at].seen = Some(seen);
            }
        }
        changed.into_iter().try_for_each(|(owner, share)| shares.write(&owner, share))
    }
}

/// Does this, at this path, of this step yield to others?
pub type Provisional<'a> = &'a dyn Fn(&StepId, &Path, &Node) -> bool;

/// What is in the layer's way, and provisional.
fn yielding(
    all: &BTreeMap<StepId, Share>,
    step: &StepId,
    tree: &Tree,
    provisional: Provisional,
) -> BTreeMap<StepId, Vec<Row>> {
    let is_file = |node: &Node| !matches!(node, Node::Dir { .. });
    let in_the_way = |row: &Row| {
        tree.get(&row.path).is_some_and(|node| *node != row.node)
            || is_file(&row.node) && tree.holds_below(&row.path)
            || row.path.ancestors().skip(1).any(|above| tree.get(above).is_some_and(is_file))
    };
    let of_owner = |(owner, share): (&StepId, &Share)| {
        let yields = |row: &&Row| in_the_way(row) && provisional(owner, &row.path, &row.node);
        (owner.clone(), share.iter().filter(yields).cloned().collect::<Vec<_>>())
    };
    let others = all.iter().filter(|(owner, _)| *owner != step);
    others.map(of_owner).filter(|(_, rows)| !rows.is_empty()).collect()
}

/// The rows that an owner keeps.
fn kept<'r>(
    share: &'r [Row],
    yielded: &'r BTreeMap<StepId, Vec<Row>>,
    owner: &StepId,
) -> impl Iterator<Item = &'r Row> + Clone {
    let gone = yielded.get(owner).map_or(&[][..], Vec::as_slice);
    share.iter().filter(move |row| find(gone, &row.path).is_none())
}

/// Takes from each owner what it gives up.
fn yield_rows(shares: &mut Locked, yielded: &BTreeMap<StepId, Vec<Row>>) -> Result<(), StoreError> {
    yielded.keys().try_for_each(|owner| {
        let rest = kept(shares.of(owner), yielded, owner).cloned().collect();
        shares.write(owner, rest)
    })
}

fn paths_of_others<'r>(
    all: &'r BTreeMap<StepId, Share>,
    yielded: &'r BTreeMap<StepId, Vec<Row>>,
    step: &StepId,
) -> HashSet<PathBuf> {
    let others = all.iter().filter(|(owner, _)| *owner != step);
    others.flat_map(|(owner, share)| kept(share, yielded, owner)).map(|row| row.path.clone()).collect()
}

/// Can the layer lie beside those of the other steps?
fn check(
    all: &BTreeMap<StepId, Share>,
    yielded: &BTreeMap<StepId, Vec<Row>>,
    step: &StepId,
    tree: &Tree,
) -> Result<(), StoreError> {
    let others = all.iter().filter(|(owner, _)| *owner != step);
    let others = others.map(|(owner, share)| {
        let rows = kept(share, yielded, owner);
        Layer { step: owner, entries: rows.map(|row| (row.path.as_path(), &row.node)).collect() }
    });
    Ok(check_owners(others.chain([Layer::of(step, tree)]), &[])?)
}

/// What is there and what is to come: all that may be there after a crash.
fn with_coming(before: &[Row], coming: &[Row]) -> Share {
    let new = coming.iter().filter(|row| find(before, &row.path).is_none());
    let mut rows: Share = before.iter().chain(new).cloned().collect();
    rows.sort_by(|a, b| path_order(&a.path, &b.path));
    rows
}

fn has_mode(node: &Node, stat: &Stat) -> bool {
    match node {
        Node::Dir { mode } | Node::File { mode, .. } => stat.mode == *mode,
        Node::Symlink { .. } => true,
    }
}
