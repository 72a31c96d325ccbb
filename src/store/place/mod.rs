//! Putting trees on the disk where people and other programs already are.
//!
//! The order of things, so that a crash at any point leaves nothing unowned and nothing lost:
//! 1. look: what is there, what of it is as it should be (by stat record, else by digest);
//! 2. what is in the way and belongs to nobody is moved aside;
//! 3. `begin`: the caller writes down what it is about to own;
//! 4. what the old record owns and the new tree has not is removed, emptied directories with it;
//! 5. files are written and checked against their digests: at their place where nothing is, else elsewhere, and
//!    renamed over what is there;
//! 6. modes of directories, the deepest first, since they may forbid all of the above.
//!
//! Unchanged bytes keep their file. Nothing is written through a symbolic link: one in a parent
//! directory is an error, one at the end is replaced or moved aside. An owner of a path owns what it
//! put there: a directory where it had a file is somebody else's.
//!
//! Known limit: a program that swaps directories for links at just that time is not defended against.

mod clear;
mod look;
mod write;

use std::path::Path;

use crate::action::{Seen, SetAside, Slice};
use crate::base::stat::{Instant, Stat};
use crate::base::tree::{Node, path_order};

use super::error::{StoreError, failed};
use super::relocate::Mend;
use super::state::State;

pub(super) use write::{Pack, Reading};

/// One path as it shall be.
pub(super) struct Piece<'a> {
    pub path: &'a Path,
    pub node: &'a Node,
    pub bytes: Bytes<'a>,
    /// What is changed in the bytes on their way.
    pub mend: Option<&'a Mend>,
}

/// Where the bytes of a file come from.
#[derive(Clone, Copy)]
pub(super) enum Bytes<'a> {
    /// It is a directory or a link.
    None,
    Stored(&'a Pack<'a>, Slice),
    /// The directory of an unpacked layer.
    Layer(&'a Path),
}

/// One path as it was left by us.
pub(super) struct Owned<'a> {
    pub path: &'a Path,
    pub node: &'a Node,
    pub seen: Option<Seen>,
}

/// Where to put it.
pub(super) struct Site<'a> {
    pub state: &'a State,
    pub root: &'a Path,
    /// Nobody else looks at it yet: files may be written in place.
    pub is_private: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Placed {
    /// As everything lies there now, aligned with the tree.
    pub seen: Vec<Seen>,
    pub aside: Vec<SetAside>,
    /// Files and links that were written.
    pub written: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Files and links that were removed.
    pub removed: usize,
}

/// Makes `pieces` (in tree order) be there, and what else is in `old` (in tree order) not.
/// `begin` is called once before anything changes, unless nothing does.
pub(super) fn place(
    site: &Site,
    pieces: &[Piece],
    old: &[Owned],
    begin: &mut dyn FnMut() -> Result<(), StoreError>,
) -> Result<Placed, StoreError> {
    std::fs::create_dir_all(site.root).map_err(failed("make", site.root))?;
    let plan = look::look(site, pieces, old)?;
    let mut placed = Placed::default();
    for path in &plan.in_the_way {
        placed.aside.push(site.state.set_aside(&site.root.join(path), path)?);
    }
    let leftover = clear::leftover(pieces, old);
    if plan.is_needed() || !leftover.is_empty() || !placed.aside.is_empty() {
        begin()?;
        let mut dirs = clear::Dirs::new(site.root);
        placed.removed = clear::remove(&mut dirs, pieces, &leftover)?;
        for path in &plan.dirs_in_the_way {
            placed.aside.extend(clear::clear_dir(site, path)?);
        }
        dirs.make_for(pieces, &plan.todo)?;
        (placed.written, placed.bytes) = write::write(site, pieces, &plan.todo)?;
        dirs.finish(pieces, &plan.todo)?;
    }
    placed.seen = see(site.root, pieces)?;
    Ok(placed)
}

/// Removes what is recorded, and the directories that are empty then.
pub(super) fn remove_owned(root: &Path, old: &[Owned]) -> Result<usize, StoreError> {
    let all: Vec<&Owned> = old.iter().collect();
    let mut dirs = clear::Dirs::new(root);
    let removed = clear::remove(&mut dirs, &[], &all)?;
    dirs.finish(&[], &[])?;
    Ok(removed)
}

fn see(root: &Path, pieces: &[Piece]) -> Result<Vec<Seen>, StoreError> {
    let seen_at = Instant::now();
    let look = |piece: &Piece| {
        let path = root.join(piece.path);
        let stat = Stat::read(&path).map_err(failed("look at", &path))?;
        let stat = stat.ok_or(StoreError::Changed(path))?;
        Ok(Seen { stat, settled: stat.is_settled(seen_at) })
    };
    pieces.iter().map(look).collect()
}

fn piece_at<'a, 'b>(pieces: &'b [Piece<'a>], path: &Path) -> Option<&'b Piece<'a>> {
    pieces.binary_search_by(|piece| path_order(piece.path, path)).ok().map(|at| &pieces[at])
}

fn owned_at<'a, 'b>(old: &'b [Owned<'a>], path: &Path) -> Option<&'b Owned<'a>> {
    old.binary_search_by(|owned| path_order(owned.path, path)).ok().map(|at| &old[at])
}
