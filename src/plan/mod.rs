//! Floor 4: the verdict on a step whose action is known. Pure: no I/O, no clock.

pub mod reason;

use crate::action::{Action, ActionResult, Origin, StepRecord};

pub use reason::Reason;

/// What a step's outputs look like on disk, compared with its record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Disk {
    /// Just as they were left.
    Intact,
    /// The first path that is not: it is gone, or it differs.
    Missing(String),
    Modified(String),
    /// The first path that lies in an output and is none of it.
    Stray(String),
}

/// What is known of a step besides its action.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub record: Option<&'a StepRecord>,
    pub disk: &'a Disk,
    /// Was the step forced, and by what words?
    pub forced: Option<&'a str>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The record has this key and the outputs are the recorded ones.
    Fresh,
    /// The store has the answer; these are the reasons why the worktree did not.
    Cached(Box<ActionResult>, Vec<Reason>),
    /// The step must run.
    Stale(Vec<Reason>),
}

/// Is what lies in the worktree what a clean build would make? If not: why.
pub fn freshness(action: &Action, evidence: &Evidence) -> Result<(), Vec<Reason>> {
    if let Some(by) = evidence.forced {
        return Err(vec![Reason::Forced { by: by.to_owned() }]);
    }
    let Some(record) = evidence.record else {
        return Err(vec![Reason::NeverRan]);
    };
    let mut reasons = reason::differences(&record.action, action);
    if record.origin == Origin::Begun || record.made.is_none() {
        reasons.insert(0, Reason::NotFinished);
    } else if reasons.is_empty() {
        match evidence.disk {
            Disk::Intact => {}
            Disk::Missing(path) => reasons.push(Reason::OutputMissing { path: path.clone() }),
            Disk::Modified(path) => reasons.push(Reason::OutputModified { path: path.clone() }),
            Disk::Stray(path) => reasons.push(Reason::OutputStray { path: path.clone() }),
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// The verdict. `cached` is what the store answers to the action's key; a forced step does not ask.
pub fn judge(action: &Action, evidence: &Evidence, cached: Option<ActionResult>) -> Verdict {
    match freshness(action, evidence) {
        Ok(()) => Verdict::Fresh,
        Err(reasons) => match cached {
            Some(result) if evidence.forced.is_none() => {
                assert_eq!(result.key, action.key(), "BUG: the store answered another key");
                Verdict::Cached(Box::new(result), reasons)
            }
            _ => Verdict::Stale(reasons),
        },
    }
}

#[cfg(test)]
mod tests;
