//! What this worktree remembers of each step: a sealed file per step, since it is read again alone
//! once a lock is had, and since damage then harms only itself. What can't be read is not there.
//!
//! A record is written over the one before it, in one write: it is checked when it is read, so what a crash
//! or a reader at just that time finds half done is no record, and the step is judged anew under its lock. A
//! file that is renamed into place each time would cost a new inode and a freed one at every step.

use crate::action::StepRecord;
use crate::base::ids::StepId;
use crate::base::sealed::Format;

use std::path::PathBuf;

use super::coherent::is_sound;
use super::error::{StoreError, failed};
use super::files::{entries_of, overwrite, read_if_sound, remove_if_there};
use super::state::{State, file_name};

pub(super) const RECORD: Format = Format { magic: b"bc-recrd", version: 3 };

impl State {
    pub fn read_record(&self, step: &StepId) -> Result<Option<StepRecord>, StoreError> {
        let path = self.record_path(step);
        let bytes = read_if_sound(&path).map_err(failed("read", &path))?;
        Ok(bytes.and_then(|bytes| opened(&bytes)).filter(|record| record.step == *step))
    }

    pub fn write_record(&self, record: &StepRecord) -> Result<(), StoreError> {
        let path = self.record_path(&record.step);
        overwrite(&path, &RECORD.seal(record)).map_err(failed("write", &path))
    }

    pub fn remove_record(&self, step: &StepId) -> Result<(), StoreError> {
        let path = self.record_path(step);
        remove_if_there(&path).map_err(failed("remove", &path))?;
        Ok(())
    }

    /// In the order of their steps.
    pub fn all_records(&self) -> Result<Vec<StepRecord>, StoreError> {
        let dir = self.dir().join("records");
        let mut records = Vec::new();
        for entry in entries_of(&dir).map_err(failed("list", &dir))? {
            let path = entry.path();
            let bytes = read_if_sound(&path).map_err(failed("read", &path))?;
            let record = bytes.and_then(|bytes| opened(&bytes));
            // A record under another's name, or one half written, is none.
            records.extend(record.filter(|record| self.record_path(&record.step) == path));
        }
        records.sort_by(|a, b| a.step.cmp(&b.step));
        Ok(records)
    }

    fn record_path(&self, step: &StepId) -> PathBuf {
        self.dir().join("records").join(file_name(step))
    }
}

/// What is recorded is removed one day, so its paths must not lead anywhere else.
fn opened(bytes: &[u8]) -> Option<StepRecord> {
    let record = RECORD.open::<StepRecord>(bytes).ok()?;
    record.made.as_ref().is_none_or(is_sound).then_some(record)
}
