//! What each step has in a prefix, as this worktree remembers it: a sealed file per step, so that a step's
//! coming costs what it brings, not what is there.
//!
//! ```text
//! .bcache/prefixes/<prefix>/<step>     its rows
//! .bcache/locks/update-<prefix>        the lock of all of them, and in it how often they were written
//! ```
//! A share is written over in place, as records are: what a crash left half done fails its checksum and is
//! no share, and its files are nobody's then. The count is written before the first change under a lock and
//! after the last one, so what was read at one count is what is there at the same count.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::action::Seen;
use crate::base::ids::StepId;
use crate::base::sealed::Format;
use crate::base::tree::{Node, Tree, is_inner, path_order};

use super::super::error::{StoreError, failed};
use super::super::files::{entries_of, overwrite, read_if_sound, remove_if_there};
use super::super::lock::{Sharing, try_lock, wait_lock};
use super::super::place::Owned;
use super::super::state::{State, file_name};

pub(in crate::store) const SHARE: Format = Format { magic: b"bc-share", version: 1 };

/// One path of a step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::store) struct Row {
    #[serde(with = "crate::base::paths::bytes")]
    pub path: PathBuf,
    pub node: Node,
    /// `None` while it is on its way.
    pub seen: Option<Seen>,
}

impl Row {
    pub(super) fn owned(&self) -> Owned<'_> {
        Owned { path: &self.path, node: &self.node, seen: self.seen }
    }
}

/// The rows of a step, in tree order.
pub(in crate::store) type Share = Vec<Row>;

pub(super) fn find<'r>(share: &'r [Row], path: &Path) -> Option<&'r Row> {
    share.binary_search_by(|row| path_order(&row.path, path)).ok().map(|at| &share[at])
}

/// Does the share have all of the tree?
pub(super) fn holds(share: &[Row], tree: &Tree) -> bool {
    tree.entries().iter().all(|entry| find(share, &entry.path).is_some_and(|row| row.node == entry.node))
}

/// What is in a share is removed one day, so it must not lead out of the prefix.
fn is_in_order(share: &[Row]) -> bool {
    share.windows(2).all(|pair| path_order(&pair[0].path, &pair[1].path).is_lt())
        && share.iter().all(|row| is_inner(&row.path))
}

/// The shares of a prefix as they were read.
#[derive(Debug)]
struct Known {
    count: u64,
    /// Else somebody may have been writing.
    was_locked: bool,
    shares: BTreeMap<StepId, Share>,
}

#[derive(Debug)]
pub(super) struct Shares<'a> {
    state: &'a State,
    name: String,
    known: Mutex<Option<Known>>,
}

impl<'a> Shares<'a> {
    pub(super) fn new(state: &'a State, name: &str) -> Self {
        Self { state, name: name.to_owned(), known: Mutex::new(None) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn dir(&self) -> PathBuf {
        self.state.dir().join("prefixes").join(&self.name)
    }

    fn lock_path(&self) -> PathBuf {
        self.state.dir().join("locks").join(format!("update-{}", self.name))
    }

    /// As they are now, or as a writer at work lets them be seen.
    pub(super) fn look<T>(&self, use_them: impl FnOnce(&BTreeMap<StepId, Share>) -> T) -> Result<T, StoreError> {
        let path = self.lock_path();
        let count = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            file => file.and_then(|file| count_in(&file)).map_err(failed("read", &path))?,
        };
        let mut slot = self.slot();
        if slot.as_ref().is_none_or(|known| known.count != count) {
            *slot = Some(Known { count, was_locked: false, shares: read_all(&self.dir())? });
        }
        Ok(use_them(&slot.as_ref().expect("BUG: it was loaded").shares))
    }

    /// The lock on all of them, after waiting for it.
    pub(super) fn lock(&self) -> Result<Locked<'_>, StoreError> {
        let path = self.lock_path();
        let file = wait_lock(&path, Sharing::Exclusive).map_err(failed("lock", &path))?;
        self.locked(file)
    }

    /// The same, if nobody has it.
    pub(super) fn try_lock(&self) -> Result<Option<Locked<'_>>, StoreError> {
        let path = self.lock_path();
        let file = try_lock(&path, Sharing::Exclusive).map_err(failed("lock", &path))?;
        file.map(|file| self.locked(file)).transpose()
    }

    fn locked(&self, file: File) -> Result<Locked<'_>, StoreError> {
        let path = self.lock_path();
        let count = count_in(&file).map_err(failed("read", &path))?;
        let mut slot = self.slot();
        if slot.as_ref().is_none_or(|known| known.count != count || !known.was_locked) {
            *slot = Some(Known { count, was_locked: true, shares: read_all(&self.dir())? });
        }
        Ok(Locked { of: self, file, slot, is_changing: false })
    }

    fn slot(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shares while nobody else writes them.
pub(super) struct Locked<'s> {
    of: &'s Shares<'s>,
    file: File,
    slot: MutexGuard<'s, Option<Known>>,
    is_changing: bool,
}

impl Locked<'_> {
    fn known(&mut self) -> &mut Known {
        self.slot.as_mut().expect("BUG: it was loaded")
    }

    pub(super) fn all(&self) -> &BTreeMap<StepId, Share> {
        &self.slot.as_ref().expect("BUG: it was loaded").shares
    }

    pub(super) fn of(&self, step: &StepId) -> &[Row] {
        self.all().get(step).map_or(&[], Vec::as_slice)
    }

    /// Remembers the rows of a step; none is no share.
    pub(super) fn write(&mut self, step: &StepId, rows: Share) -> Result<(), StoreError> {
        if self.of(step) == rows {
            return Ok(());
        }
        if !self.is_changing {
            self.count()?;
            self.is_changing = true;
        }
        let path = self.of.dir().join(file_name(step));
        if rows.is_empty() {
            remove_if_there(&path).map_err(failed("remove", &path))?;
            self.known().shares.remove(step);
        } else {
            overwrite(&path, &SHARE.seal(&(step, &rows))).map_err(failed("write", &path))?;
            self.known().shares.insert(step.clone(), rows);
        }
        Ok(())
    }

    /// What others have read is not what is there any more.
    fn count(&mut self) -> Result<(), StoreError> {
        let path = self.of.lock_path();
        let next = self.known().count.wrapping_add(1);
        self.file.write_all_at(&next.to_le_bytes(), 0).map_err(failed("write", &path))?;
        self.known().count = next;
        Ok(())
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if self.is_changing && self.count().is_err() {
            // Whoever read in between goes on with that; we at least do not.
            *self.slot = None;
        }
    }
}

/// 0 where nothing was ever written.
fn count_in(file: &File) -> io::Result<u64> {
    let mut bytes = [0; 8];
    match file.read_exact_at(&mut bytes, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read.map(|()| u64::from_le_bytes(bytes)),
    }
}

fn read_all(dir: &Path) -> Result<BTreeMap<StepId, Share>, StoreError> {
    let mut shares = BTreeMap::new();
    for entry in entries_of(dir).map_err(failed("list", dir))? {
        let path = entry.path();
        let bytes = read_if_sound(&path).map_err(failed("read", &path))?;
        let share = bytes.and_then(|bytes| SHARE.open::<(StepId, Share)>(&bytes).ok());
        let share = share.filter(|(_, rows)| is_in_order(rows));
        shares.extend(share.filter(|(step, _)| entry.file_name() == *file_name(step)));
    }
    Ok(shares)
}
