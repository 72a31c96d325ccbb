//! What is there already, and what has to be done about it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::base::digest::Digest;
use crate::base::stat::{Kind, Stat};
use crate::base::tree::{Node, is_inner};

use super::super::error::{StoreError, failed};
use super::super::threads::spread;
use super::{Owned, Piece, Site, owned_at};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Todo {
    Keep,
    /// Only the mode bits are wrong.
    SetMode,
    Make,
}

pub(super) struct Plan {
    /// Aligned with the pieces.
    pub todo: Vec<Todo>,
    /// What nobody owns. Relative, parents first.
    pub in_the_way: Vec<PathBuf>,
    /// Directories where none is wanted: in the way if they are not empty after the removals.
    pub dirs_in_the_way: Vec<PathBuf>,
}

impl Plan {
    pub(super) fn is_needed(&self) -> bool {
        self.todo.iter().any(|todo| *todo != Todo::Keep)
    }
}

struct Look<'a> {
    site: &'a Site<'a>,
    old: &'a [Owned<'a>],
    /// Is there a directory, after what is in the way is gone?
    parents: HashMap<&'a Path, bool>,
    plan: Plan,
    /// Files of the right size that only their bytes can tell.
    unsure: Vec<(usize, Stat)>,
}

pub(super) fn look(site: &Site, pieces: &[Piece], old: &[Owned]) -> Result<Plan, StoreError> {
    let plan = Plan { todo: Vec::new(), in_the_way: Vec::new(), dirs_in_the_way: Vec::new() };
    let mut look = Look { site, old, parents: HashMap::new(), plan, unsure: Vec::new() };
    for piece in pieces {
        let todo = look.piece(piece)?;
        look.plan.todo.push(todo);
    }
    look.read_unsure(pieces)?;
    Ok(look.plan)
}

impl<'a> Look<'a> {
    fn piece(&mut self, piece: &Piece<'a>) -> Result<Todo, StoreError> {
        if !is_inner(piece.path) {
            return Err(StoreError::Outside(piece.path.to_owned()));
        }
        if self.site.is_private || !self.has_parent(piece.path)? {
            return Ok(Todo::Make);
        }
        let full = self.site.root.join(piece.path);
        let Some(there) = Stat::read(&full).map_err(failed("look at", &full))? else { return Ok(Todo::Make) };
        let at = self.plan.todo.len();
        match (piece.node, there.kind) {
            (Node::File { size, mode, digest }, Kind::File) if there.size == *size => {
                if self.is_known(piece.path, &there, digest) {
                    return Ok(if there.mode == *mode { Todo::Keep } else { Todo::SetMode });
                }
                self.unsure.push((at, there));
                return Ok(Todo::Make);
            }
            (Node::Symlink { target }, Kind::Symlink)
                if std::fs::read_link(&full).map_err(failed("read", &full))? == *target =>
            {
                return Ok(Todo::Keep);
            }
            (Node::Dir { mode }, Kind::Dir) => {
                return Ok(if there.mode == *mode { Todo::Keep } else { Todo::SetMode });
            }
            (_, Kind::Dir) => {
                self.plan.dirs_in_the_way.push(piece.path.to_owned());
                return Ok(Todo::Make);
            }
            _ => {}
        }
        self.clear_way(piece.path, there.kind);
        Ok(Todo::Make)
    }

    /// Do we know from the record that the bytes are these?
    fn is_known(&self, path: &Path, there: &Stat, wanted: &Digest) -> bool {
        owned_at(self.old, path).is_some_and(|owned| {
            owned.seen.is_some_and(|seen| seen.settled && seen.stat == *there)
                && matches!(owned.node, Node::File { digest, .. } if digest == wanted)
        })
    }

    fn owns(&self, path: &Path, kind: Kind) -> bool {
        owned_at(self.old, path).is_some_and(|owned| owned.node.kind() == kind)
    }

    fn clear_way(&mut self, path: &Path, kind: Kind) {
        if !self.owns(path, kind) {
            self.plan.in_the_way.push(path.to_owned());
        }
    }

    /// Is the parent a directory? What is in its place is dealt with.
    fn has_parent(&mut self, path: &'a Path) -> Result<bool, StoreError> {
        let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(true) };
        if let Some(known) = self.parents.get(parent) {
            return Ok(*known);
        }
        let full = self.site.root.join(parent);
        let is_there = self.has_parent(parent)?
            && match Stat::read(&full).map_err(failed("look at", &full))?.map(|stat| stat.kind) {
                None => false,
                Some(Kind::Dir) => true,
                Some(Kind::Symlink) if !self.owns(parent, Kind::Symlink) => {
                    return Err(StoreError::ThroughLink { path: self.site.root.join(path), link: full });
                }
                Some(kind) => {
                    self.clear_way(parent, kind);
                    false
                }
            };
        self.parents.insert(parent, is_there);
        Ok(is_there)
    }

    /// Hashes the files that no record vouches for.
    fn read_unsure(&mut self, pieces: &[Piece]) -> Result<(), StoreError> {
        let unsure = std::mem::take(&mut self.unsure);
        let is_same = |(at, _): &(usize, Stat)| {
            let piece = &pieces[*at];
            // What can't be read is not what we want.
            let found = Digest::of_file(&self.site.root.join(piece.path)).ok();
            matches!(piece.node, Node::File { digest, .. } if found == Some(*digest))
        };
        let same = spread(unsure.len(), || Ok::<_, StoreError>(()), |(), i| Ok(is_same(&unsure[i])))?;
        for ((at, there), same) in unsure.into_iter().zip(same) {
            match pieces[at].node {
                Node::File { mode, .. } if same => {
                    self.plan.todo[at] = if there.mode == *mode { Todo::Keep } else { Todo::SetMode };
                }
                _ => self.clear_way(pieces[at].path, Kind::File),
            }
        }
        Ok(())
    }
}
