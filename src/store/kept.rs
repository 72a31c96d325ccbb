//! What a kept build directory, or kept outputs, were last used with: a sealed file per step in
//! `.bcache/kept/`. It is not there while a step runs, so after a kill nothing says what the directory
//! holds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::base::ids::StepId;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::Instant;

use super::error::{StoreError, failed};
use super::files::{read_if_there, remove_if_there};
use super::state::{State, file_name};

const KEPT: Format = Format { magic: b"bc-keptd", version: 1 };

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
}

impl State {
    pub fn last_use(&self, step: &StepId) -> Result<Option<LastUse>, StoreError> {
        let path = self.kept_path(step);
        let bytes = read_if_there(&path).map_err(failed("read", &path))?;
        let used = bytes.and_then(|bytes| KEPT.open::<LastUse>(&bytes).ok());
        Ok(used.filter(|used| used.step == *step && used.root == self.root()))
    }

    pub fn set_last_use(&self, used: &LastUse) -> Result<(), StoreError> {
        let path = self.kept_path(&used.step);
        publish(&path, &KEPT.seal(used)).map_err(failed("write", &path))
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
