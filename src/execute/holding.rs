//! The locks of a step that is to be restored, run or visited, and what its needs are once nobody can change them.
//!
//! Another build in this worktree may have another manifest, since people edit it while one runs. So what a need
//! was when this build was done with it is no more than a memory, until it is looked at under its lock.

use std::time::Instant;

use crate::base::ids::StepIx;
use crate::graph::Class;
use crate::store::StepLock;

use super::build::{Build, StepError};
use super::judging::Judged;
use super::scheduler::{Attempt, Company, Wait};

/// What has become of a step's needs since they were done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    AsKnown,
    /// One was made anew, and is as it should be.
    Moved,
    /// This one is not what it should be.
    Undone(StepIx),
}

/// Locks of a step that is being restored or run.
pub(super) struct Held {
    _step: StepLock,
    _needs: Vec<StepLock>,
}

impl Build<'_> {
    /// The step's own lock, and a share in those of its needs, so that nobody changes their outputs.
    pub(super) fn hold(&self, ix: StepIx) -> Result<Option<Held>, StepError> {
        let lock = |error| StepError::lock(error);
        let Some(step) = self.state.try_lock_step(&self.graph.step(ix).id).map_err(lock)? else { return Ok(None) };
        let mut needs = Vec::new();
        for need in self.graph.flat_needs(ix) {
            match self.state.try_share_step(&self.graph.step(need).id).map_err(lock)? {
                Some(share) => needs.push(share),
                None => return Ok(None),
            }
        }
        Ok(Some(Held { _step: step, _needs: needs }))
    }

    /// A lock is free again at the moment in which its holder is killed, and what that has started may live on.
    pub(super) fn end_orphans(&self) -> Result<(), StepError> {
        self.watch.end_orphans(self.listener).map_err(StepError::Orphans)
    }

    /// With a share in the locks of a step's needs: has another build made one anew since it was done here? What
    /// is fresh by our manifest and the files as they are now is what the step works with.
    pub(super) fn look_at_needs(&self, ix: StepIx) -> Result<Needs, StepError> {
        let mut found = Needs::AsKnown;
        for need in self.graph.flat_needs(ix) {
            let step = self.graph.step(need);
            let Some(known) = self.results.get(need).filter(|_| step.class == Class::Cached) else { continue };
            let record = self.records.peek(&step.id)?;
            if record == self.records.get(&step.id) {
                // Done in this build, if also without a result that answers to its key.
                continue;
            }
            let Ok(Judged { fresh: Ok(made), .. }) = self.judge().judge(need, record.clone(), None) else {
                return Ok(Needs::Undone(need));
            };
            if made != known {
                self.results.set(need, made);
                found = Needs::Moved;
            }
            record.into_iter().for_each(|record| self.records.adopt(record));
        }
        Ok(found)
    }

    /// Another build, perhaps of another manifest, has undone what a step made: it is restored, or runs again. The
    /// step that needs it is tried again after that.
    pub(super) fn do_again(&self, need: StepIx) -> Result<Attempt, StepError> {
        match self.try_need(need)? {
            Attempt::Done => Ok(Attempt::Later(Wait::Token)),
            other => Ok(other),
        }
    }

    pub(super) fn try_need(&self, need: StepIx) -> Result<Attempt, StepError> {
        let begun = Instant::now();
        match self.try_step(need, Company::Others) {
            Ok(attempt) => Ok(attempt),
            Err(StepError::Cancelled) => Err(StepError::Cancelled),
            Err(error) => {
                self.report(need, begun.elapsed(), error);
                Err(StepError::NeedGone(self.graph.step(need).id.clone()))
            }
        }
    }
}
