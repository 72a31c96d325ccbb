//! What a kept build directory, or kept outputs, were last used with: a sealed file per step in
//! `.bcache/kept/`. It is not there while a step runs, so after a kill nothing says what the directory
//! holds. Until the disk was synced it counts only as long as the machine is not started again: a loss of power can take
//! what the run wrote and leave this.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::base::ids::StepId;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::Instant;

use super::error::{StoreError, failed};
use super::files::{read_if_sound, remove_if_there};
use super::state::{State, file_name};

pub(super) const KEPT: Format = Format { magic: b"bc-keptd", version: 1 };

/// The last run that worked there and came to an end, good or bad.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastUse {
    pub step: StepId,
    /// Of the workspace: the directory holds its path.
    #[serde(with = "crate::base::paths::bytes")]
    pub root: PathBuf,
    /// With what was discovered.
    pub action: Action,
    /// Nothing that the run wrote carries a later stamp.
    pub ended: Instant,
    /// The start of the machine in which it was written, until the disk was synced.
    pub unsynced: Option<String>,
}

impl State {
    pub fn last_use(&self, step: &StepId) -> Result<Option<LastUse>, StoreError> {
        let path = self.kept_path(step);
        let bytes = read_if_sound(&path).map_err(failed("read", &path))?;
        let used = bytes.and_then(|bytes| KEPT.open::<LastUse>(&bytes).ok());
        let is_whole = |used: &LastUse| used.unsynced.as_ref().is_none_or(|written_in| *written_in == this_boot());
        Ok(used.filter(|used| used.step == *step && used.root == self.root() && is_whole(used)))
    }

    pub fn set_last_use(&self, used: &LastUse) -> Result<(), StoreError> {
        let path = self.kept_path(&used.step);
        publish(&path, &KEPT.seal(used)).map_err(failed("write", &path))
    }

    /// The disk was synced since this was written: it holds what the run left. Not where another run came since.
    pub fn confirm_last_use(&self, used: &LastUse) -> Result<(), StoreError> {
        let path = self.kept_path(&used.step);
        // Who has the step is about to use it otherwise.
        let Some(_held) = self.try_lock_step(&used.step).map_err(failed("lock", &path))? else { return Ok(()) };
        match self.last_use(&used.step)? {
            Some(now) if now == *used => self.set_last_use(&LastUse { unsynced: None, ..now }),
            Some(_) | None => Ok(()),
        }
    }

    /// From now on nothing is known of it.
    pub fn forget_last_use(&self, step: &StepId) -> Result<(), StoreError> {
        let path = self.kept_path(step);
        remove_if_there(&path).map_err(failed("remove", &path))?;
        Ok(())
    }

    fn kept_path(&self, step: &StepId) -> PathBuf {
        self.dir().join("kept").join(file_name(step))
    }
}

/// A name for the time since the machine was started; of systems that have none nothing is known.
pub fn this_boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
