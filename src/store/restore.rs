//! Results brought back to where they were made.

use std::path::Path;

use crate::action::{ActionResult, Seen, Slice};
use crate::base::tree::{Entry, Node, Tree};

use super::cas::Store;
use super::error::StoreError;
use super::place::{Bytes, Owned, Pack, Piece, Placed, Site, place, remove_owned};
use super::results::files_of;
use super::state::State;

/// Which tree of a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Outputs,
    Layer,
}

/// What the last record says that lies there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Before<'a> {
    pub tree: Option<&'a Tree>,
    /// Aligned with the tree; empty where nothing is known but the names.
    pub seen: &'a [Seen],
}

impl<'a> Before<'a> {
    fn owned(&self) -> Vec<Owned<'a>> {
        let entries = self.tree.iter().flat_map(|tree| tree.entries());
        let owned = |(i, entry): (usize, &'a Entry)| Owned {
            path: &entry.path,
            node: &entry.node,
            seen: self.seen.get(i).copied(),
        };
        entries.enumerate().map(owned).collect()
    }
}

impl Store {
    /// Makes `root` hold the tree of a result. What `before` has and the tree has not is removed; what is in
    /// the way and in neither is moved aside. `begin` is called once before anything is written or
    /// removed, unless nothing is: a record written there owns what a crash leaves half done.
    ///
    /// [`StoreError::Lost`] means that the bytes are not in the store any more: the next lookup misses.
    pub fn materialize(
        &self,
        result: &ActionResult,
        part: Part,
        state: &State,
        root: &Path,
        before: Before,
        begin: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<Placed, StoreError> {
        let _held = self.hold()?;
        let pack = Pack::new(self, result);
        let pieces = pieces(&pack, result, part);
        place(&Site { state, root, is_private: false }, &pieces, &before.owned(), begin)
    }

    /// The log that was kept with a result.
    pub fn log(&self, result: &ActionResult) -> Result<Option<Vec<u8>>, StoreError> {
        let _held = self.hold()?;
        result.content.log.map(|slice| Pack::new(self, result).read(slice)).transpose()
    }
}

/// Removes what a record owns below `root`, and the directories that are empty then. Returns how many
/// files and links went.
pub fn remove_recorded(root: &Path, before: Before) -> Result<usize, StoreError> {
    remove_owned(root, &before.owned())
}

pub(super) fn pieces<'a>(pack: &'a Pack<'a>, result: &'a ActionResult, part: Part) -> Vec<Piece<'a>> {
    let before = match part {
        Part::Outputs => 0,
        Part::Layer => result.made.outputs.entries().iter().filter(|e| is_file(e)).count(),
    };
    let tree = match part {
        Part::Outputs => Some(&result.made.outputs),
        Part::Layer => result.made.layer.as_ref(),
    };
    debug_assert_eq!(files_of(&result.made).count(), result.content.files.len());
    let mut slices = result.content.files[before..].iter();
    let mut next = || slices.next().copied().unwrap_or(Slice { start: 0, len: 0 });
    let piece = |entry: &'a Entry| Piece {
        path: &entry.path,
        node: &entry.node,
        bytes: if is_file(entry) { Bytes::Stored(pack, next()) } else { Bytes::None },
        mend: None,
    };
    tree.into_iter().flat_map(|tree| tree.entries()).map(piece).collect()
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.node, Node::File { .. })
}
