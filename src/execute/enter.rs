//! A visit to the place of a step: a command of the person's, with the step's view, environment and directory, as
//! the step ran or would run.
//!
//! A failed or interrupted run leaves its place as it was ([`Build::mark_place`] says for which key it was
//! prepared): source, build directory, and the top of its view. A visit for the same key finds these; the top
//! as one more layer under an empty one, so that it stays what the run left. For another key, or where no
//! run left anything, the place is prepared as for a run, and cleared after. No run ever uses what is found
//! here: each prepares its place from nothing.
//!
//! The step's lock is held all the time, so no build changes what is looked at.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::action::ActionKey;
use crate::base::ids::StepIx;
use crate::event::Event;
use crate::fingerprint::assemble::Assembled;
use crate::graph::{Class, Step};
use crate::store::{StepLock, remove_tree};

use super::build::{Build, StepError};
use super::holding::{Held, Needs};
use super::jobserver::Tokens;
use super::judging::JudgeError;
use super::prepare::{Place, fresh_dir};
use super::runner::{self, Ending, Finished, Job};
use super::style;
use super::view::View;

/// How often a lock is tried that another build has.
const PAUSE: Duration = Duration::from_millis(50);

/// What a visit came to. What went wrong on the way was told already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    /// The command's exit code, as a shell has it.
    Ended(i32),
    Failed,
    Interrupted,
}

impl Build<'_> {
    /// Runs `command` in the place of a step whose needs are done. `set` are variables on top of the step's.
    pub fn enter(&self, ix: StepIx, command: Vec<OsString>, set: &[(OsString, OsString)]) -> Visit {
        let begun = Instant::now();
        match self.visit(ix, command, set) {
            Ok(Ending::Success) => Visit::Ended(0),
            Ok(Ending::Code { code, .. }) => Visit::Ended(code),
            Ok(Ending::Signal { signal, .. }) => Visit::Ended(128 + signal),
            Ok(Ending::Cancelled | Ending::TimedOut) | Err(StepError::Cancelled) => Visit::Interrupted,
            Ok(Ending::CannotStart { error, .. }) => {
                self.report(ix, begun.elapsed(), StepError::Declined(error));
                Visit::Failed
            }
            Ok(Ending::ViewLost { at }) => {
                let text = format!("the view of `{}` was taken away", at.display());
                self.report(ix, begun.elapsed(), StepError::Declined(text));
                Visit::Failed
            }
            Err(error) => {
                self.report(ix, begun.elapsed(), error);
                Visit::Failed
            }
        }
    }

    fn visit(&self, ix: StepIx, command: Vec<OsString>, set: &[(OsString, OsString)]) -> Result<Ending, StepError> {
        let step = self.graph.step(ix);
        let _held = self.hold_after_waiting(ix)?;
        let assembled = self.judge().assemble(ix).map_err(JudgeError::from)?;
        let tokens = self.tokens_after_waiting(step)?;
        // Where there are no views, a run leaves nothing to be seen once more.
        let is_exclusive = self.is_exclusive(step);
        let _own = if is_exclusive { Some(self.own_prefixes_after_waiting()?) } else { None };
        let is_kept = !is_exclusive && self.has_place(step, &assembled.action.key());
        if step.builds_on_itself() {
            // A run must not build on what a visitor does.
            self.state.forget_last_use(&step.id)?;
        }
        let place = if is_kept { Place::Kept } else { Place::Visited };
        self.check_parents(step)?;
        self.make_output_dirs(step)?;
        let view = self.prepare(ix, &assembled, place)?;
        if let Some(prefix) = step.sysroot {
            let shown = self.graph.shown(&self.graph.prefix(prefix).path);
            let text = format!("what is written into {shown} here is thrown away at the end");
            self.listener.on(Event::Note { text });
        }
        let act = || self.visitors_command(step, &assembled, view.as_ref(), (command, set), &tokens);
        let ending = if is_exclusive { self.in_prefixes(step, act) } else { act() }.map(|finished| finished.ending);
        if is_kept {
            let own = Place::Kept.top(step);
            remove_tree(&own).map_err(StepError::write(&own))?;
        } else {
            self.tidy(step, &assembled);
        }
        ending
    }

    fn visitors_command(
        &self,
        step: &Step,
        assembled: &Assembled,
        view: Option<&View>,
        (command, set): (Vec<OsString>, &[(OsString, OsString)]),
        tokens: &Tokens,
    ) -> Result<Finished, StepError> {
        let mut env = assembled.environment.clone();
        env.retain(|(name, _)| !set.iter().any(|(other, _)| other == name));
        env.extend_from_slice(set);
        let job = Job {
            commands: &[command],
            cwd: &step.cwd,
            env: &env,
            view,
            timeout: None,
            jobserver: style::choose(step, assembled, self.bench).map(|style| (tokens.jobserver(), style)),
            attached: true,
            measure: false,
            secrets: &[],
            // Nothing is written of an attached command: the log of the step's own run stays.
            log: &step.work.join("visit.log"),
            on_output: None,
            translate: None,
            helper: None,
        };
        self.watch.begin().map_err(StepError::Watch)?;
        Ok(runner::run(&job, self.cancel)?)
    }

    fn hold_after_waiting(&self, ix: StepIx) -> Result<Held, StepError> {
        let mut is_said = false;
        loop {
            if self.cancel.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            if let Some(held) = self.hold(ix)? {
                self.end_orphans()?;
                let Needs::Undone(need) = self.look_at_needs(ix)? else { return Ok(held) };
                drop(held);
                self.do_again(need)?;
                continue;
            }
            if !is_said {
                let text = format!("waiting for another build, which has {} or what it needs", self.graph.step(ix).id);
                self.listener.on(Event::Note { text });
                is_said = true;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn own_prefixes_after_waiting(&self) -> Result<Vec<StepLock>, StepError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            if let Some(own) = self.own_prefixes()? {
                return Ok(own);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Nothing of ours runs: what is missing was lost with a step that was killed.
    fn tokens_after_waiting(&self, step: &Step) -> Result<Tokens<'_>, StepError> {
        loop {
            if let Some(tokens) = self.jobserver.try_acquire(step.jobs as usize).map_err(StepError::lock)? {
                return Ok(tokens);
            }
            self.jobserver.refill().map_err(StepError::lock)?;
        }
    }

    /// Says that the step's place is prepared for a run with this key.
    pub(super) fn mark_place(&self, step: &Step, key: &ActionKey) -> Result<(), StepError> {
        let mark = place_mark(step);
        match fs::write(&mark, key.0.to_string()) {
            // It has no directory of its own that could be looked at.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(StepError::write(&mark)),
        }
    }

    /// Before anything of a place is made anew: a kill at any point leaves one that nobody enters.
    pub(super) fn unmark_place(&self, step: &Step) -> Result<(), StepError> {
        let mark = place_mark(step);
        match fs::remove_file(&mark) {
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(StepError::write(&mark)(e))
            }
            _ => Ok(()),
        }
    }

    /// Did a run with this key leave its place?
    fn has_place(&self, step: &Step, key: &ActionKey) -> bool {
        step.class != Class::Plain && fs::read_to_string(place_mark(step)).is_ok_and(|text| text == key.0.to_string())
    }
}

fn place_mark(step: &Step) -> PathBuf {
    step.work.join("prepared")
}

impl Place {
    /// The directory of the view's own top.
    pub(super) fn top(self, step: &Step) -> PathBuf {
        match self {
            Self::Run { .. } | Self::Visited => step.work.join("top"),
            Self::Kept => step.work.join("visit"),
        }
    }

    /// What a run left in its top, to be seen below that of the visit.
    pub(super) fn left(self, step: &Step) -> Option<PathBuf> {
        let upper = step.work.join("top/upper");
        (self == Self::Kept && upper.is_dir()).then_some(upper)
    }

    /// Makes the directories that the step finds empty, where they are not to be found as they were left.
    pub(super) fn make_home(self, home: &std::path::Path) -> Result<(), StepError> {
        match self {
            Self::Run { .. } | Self::Visited => fresh_dir(home),
            Self::Kept => fs::create_dir_all(home).map_err(StepError::write(home)),
        }
    }
}
