//! Which files runs of an action were found to have read: by the key of the *base* action, which is all that is
//! known before a run, up to sixteen sets of names, the newest first. What stands in these files is
//! no answer: names are digested as they are now, and only then there is a key to look up.
//!
//! A set comes after the result that it leads to, and is written under the lock of its base key.

use std::path::PathBuf;

use crate::action::ActionKey;
use crate::base::publish::publish;
use crate::base::sealed::{Format, Unreadable};

use super::cas::{Store, spread_out};
use super::error::{StoreError, failed};
use super::files::{read_sound_at_most, remove_tree, touch};

pub(super) const PATH_SETS: Format = Format { magic: b"bc-paths", version: 1 };
/// A larger file is none of ours.
pub(super) const MAX_PATH_SETS: u64 = 64 << 20;
/// Sets that are kept of one base.
const KEPT: usize = 16;

/// Names of files, in order, each once.
pub type PathSet = Vec<String>;

impl Store {
    /// The newest first. They then count as used now.
    pub fn path_sets(&self, base: &ActionKey) -> Result<Vec<PathSet>, StoreError> {
        let _held = self.hold()?;
        self.read_path_sets(base)
    }

    fn read_path_sets(&self, base: &ActionKey) -> Result<Vec<PathSet>, StoreError> {
        let path = self.path_sets_path(base);
        let Some(bytes) = read_sound_at_most(&path, MAX_PATH_SETS).map_err(failed("read", &path))? else {
            return Ok(Vec::new());
        };
        match PATH_SETS.open::<Vec<PathSet>>(&bytes) {
            Ok(sets) => {
                touch(&path).map_err(failed("touch", &path))?;
                Ok(sets)
            }
            Err(Unreadable::Version(_)) => Ok(Vec::new()),
            Err(Unreadable::Damaged | Unreadable::Foreign) => {
                remove_tree(&path).map_err(failed("remove", &path))?;
                Ok(Vec::new())
            }
        }
    }

    /// Puts a set before the others. The oldest goes when there are many.
    pub fn add_path_set(&self, base: &ActionKey, set: &PathSet) -> Result<(), StoreError> {
        let _held = self.hold()?;
        let mut sets = self.read_path_sets(base)?;
        if sets.first() == Some(set) {
            return Ok(());
        }
        sets.retain(|known| known != set);
        sets.insert(0, set.clone());
        sets.truncate(KEPT);
        let (path, bytes) = (self.path_sets_path(base), PATH_SETS.seal(&sets));
        publish(&path, &bytes).map_err(failed("write", &path))?;
        self.grew(bytes.len() as u64);
        Ok(())
    }

    fn path_sets_path(&self, base: &ActionKey) -> PathBuf {
        spread_out(&self.root().join("paths"), &base.0)
    }
}
