//! Steps that build on what their last run left: a kept build directory, or outputs that are not cleaned.
//!
//! What make and its like trust is time stamps, and what configure scripts found stays found. So what was left is
//! built on only when nothing but the step's own sources changed since, and these in a way that stamps show: a file that
//! was *edited* is newer than the end of the last run. Anything else begins from nothing: another command,
//! variable, tool, layer or need; a source file that appeared (it may hide another), is gone, or has an old stamp (`touch -r`, a
//! backup, an edit while the last run was under way). Where a source bears a stamp of the future, nothing is built on: what
//! the run copied may bear it too, and an edit could be older.
//!
//! The sources are the files of the working copy; of a step that has none, its inputs. Files as editors leave them
//! about may come and go.
//!
//! A run that failed by itself leaves what can be built on, as under make. After one that was killed, timed out or
//! interrupted a file may be half made and look finished: nothing is written down of it, and the next begins
//! from nothing.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use crate::action::{ABSENT, Action, Component, Kind, Origin};
use crate::base::ids::StepIx;
use crate::base::stat::{Instant, Kind as FileKind, Stat};
use crate::event::Event;
use crate::fingerprint::assemble::Assembled;
use crate::fingerprint::discovered::{components, path_of, plain};
use crate::graph::{SourceFrom, Step};
use crate::plan::Disk;
use crate::plan::reason::differences;
use crate::store::{LastUse, State, StoreError, this_boot};

use super::build::{Build, StepError, Tally};
use super::discovering::Discovered;
use super::judging::JudgeError;
use super::runner::{Ending, Finished};

impl Build<'_> {
    /// May the run that begins now build on what the last one left? From here on nothing is known of that, until
    /// the run has ended.
    pub(super) fn takes_over(&self, ix: StepIx, assembled: &Assembled) -> Result<bool, StepError> {
        let step = self.graph.step(ix);
        if !step.builds_on_itself() {
            return Ok(false);
        }
        let used = self.state.last_use(&step.id)?;
        self.state.forget_last_use(&step.id)?;
        if step.keeps_build_dir && !step.work.join("build").is_dir() {
            return Ok(false);
        }
        let forced = self.forced(ix).filter(|_| self.options.attached != Some(ix));
        let reason = match (used, forced) {
            (None, _) if !step.keeps_build_dir => return Ok(false),
            (None, _) => Some(
                "its last run was interrupted, something changed while it ran, or a source is stamped later than now"
                    .to_owned(),
            ),
            (_, Some(by)) => Some(format!("forced by {by}")),
            (Some(used), None) => match self.touched(step)? {
                Some(reason) => Some(reason),
                None => self.obstacle(step, assembled, &used)?,
            },
        };
        if let Some(reason) = &reason {
            let text = format!("{} begins from nothing: {reason}", step.id);
            self.listener.on(Event::Note { text });
        }
        Ok(reason.is_none())
    }

    /// Outputs that are built on must be as the last run left them: make takes what somebody edited for its own.
    fn touched(&self, step: &Step) -> Result<Option<String>, StepError> {
        if step.clean {
            return Ok(None);
        }
        let record = self.records.get(&step.id).filter(|record| record.origin != Origin::Begun);
        // Of a run that failed nobody knows what it left.
        let Some(record) = record else { return Ok(Some("its last run failed".to_owned())) };
        Ok(match self.judge().disk(step, &record)? {
            Disk::Intact => None,
            Disk::Missing(path) => Some(format!("output {path} is missing")),
            Disk::Modified(path) => Some(format!("output {path} was changed")),
            Disk::Stray(path) => Some(format!("{path} was not made here")),
        })
    }

    /// Why what was left can't be built on.
    fn obstacle(&self, step: &Step, assembled: &Assembled, used: &LastUse) -> Result<Option<String>, StepError> {
        let root = &self.graph.root;
        let found = components(self.bench.files, root, used.action.discovered()).map_err(JudgeError::from)?;
        let now = assembled.action.with(found);
        let (old_sources, old) = divided(step, root, &used.action);
        let (sources, new) = divided(step, root, &now);
        if old.key() != new.key() {
            let first = differences(&old, &new).into_iter().next();
            return Ok(Some(first.map_or_else(|| "its action changed".to_owned(), |reason| reason.sentence(None))));
        }
        let mut before: HashMap<(Kind, &str), &Component> =
            old_sources.iter().map(|c| ((c.kind, c.name.as_str()), c)).collect();
        for source in &sources {
            let reason = match before.remove(&(source.kind, source.name.as_str())) {
                None if is_of_an_editor(&source.name) => continue,
                None => "is new",
                Some(known) if known.digest == source.digest => continue,
                Some(known) if known.shown == ABSENT => "is new",
                Some(_) if source.shown == ABSENT => "is gone",
                Some(_) if self.is_newer(&source.name, used.ended)? => continue,
                Some(_) => "changed, and is not newer than the last run",
            };
            return Ok(Some(format!("{} {reason}", source.name)));
        }
        let mut gone: Vec<&str> = before.into_keys().map(|(_, name)| name).filter(|n| !is_of_an_editor(n)).collect();
        gone.sort_unstable();
        Ok(gone.first().map(|name| format!("{name} is gone")))
    }

    /// Would make see it? Of a link it sees the stamp of what is behind it.
    fn is_newer(&self, name: &str, ended: Instant) -> Result<bool, StepError> {
        let Some(path) = path_of(&self.graph.root, name) else { return Ok(false) };
        let stat = Stat::read(&path).map_err(StepError::write(&path))?;
        Ok(stat.is_some_and(|stat| stat.kind == FileKind::File && stat.mtime > ended.0))
    }

    /// After a run that came to an end by itself: what it worked with, so that the next one can build on what it
    /// left. Returns when an edit gets a later stamp than anything of the run.
    pub(super) fn note_use(
        &self,
        ix: StepIx,
        assembled: &Assembled,
        finished: &Finished,
        start: Option<Instant>,
    ) -> Result<(), StepError> {
        let step = self.graph.step(ix);
        if !step.builds_on_itself() {
            return Ok(());
        }
        let mut clock = self.clock(assembled)?;
        let ended = clock.now().map_err(StepError::write(&assembled.tmp))?;
        let found = match &finished.ending {
            Ending::Success => Some(self.discover(ix, assembled, None, start)?),
            // So a shell says that a command of it was killed.
            Ending::Code { code: 129.., .. } => None,
            Ending::Code { .. } => self.discover_of_failed(ix, assembled, start)?,
            Ending::Signal { .. }
            | Ending::TimedOut
            | Ending::Cancelled
            | Ending::CannotStart { .. }
            | Ending::ViewLost { .. } => None,
        };
        let is_sound = |found: &Discovered| found.moved.is_none() && finished.astray.is_none();
        let Some(found) = found.filter(is_sound) else { return Ok(()) };
        let action = assembled.action.with(found.components);
        if self.seen_otherwise(assembled)?.is_none() && !self.left_from_future(step, &action, ended)? {
            let (root, unsynced) = (self.graph.root.clone(), Some(this_boot()));
            let used = LastUse { step: step.id.clone(), root, action, ended, unsynced };
            self.state.set_last_use(&used)?;
            self.tally.kept.lock().unwrap_or_else(PoisonError::into_inner).push(used);
        }
        clock.pass(ended).map_err(StepError::write(&assembled.tmp))?;
        Ok(())
    }

    /// Is a source stamped later than the run's end, or something that it left? That hides an edit with an earlier stamp.
    /// It need not come from a source: `touch -r` and `cp -p` take it from anywhere.
    fn left_from_future(&self, step: &Step, action: &Action, ended: Instant) -> Result<bool, StepError> {
        let root = &self.graph.root;
        let sources = divided(step, root, action).0;
        if sources.iter().filter_map(|source| path_of(root, &source.name)).any(|path| has_stamp_after(&path, ended)) {
            return Ok(true);
        }
        let mut left: Vec<PathBuf> = step.keeps_build_dir.then(|| step.work.join("build")).into_iter().collect();
        for output in step.outputs.iter().filter(|_| !step.clean) {
            left.extend(self.matching(output)?);
        }
        Ok(left.iter().any(|path| is_stamped_after(path, ended)))
    }
}

/// Of a path or, in a directory, anything below it.
fn is_stamped_after(path: &Path, moment: Instant) -> bool {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    has_stamp_after(path, moment)
        || entries.into_iter().any(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => is_stamped_after(&entry.path(), moment),
            _ => has_stamp_after(&entry.path(), moment),
        })
}

/// Of the path itself, or of what a link leads to.
fn has_stamp_after(path: &Path, moment: Instant) -> bool {
    let own = Stat::read(path).ok().flatten().map(|stat| stat.mtime);
    let behind =
        std::fs::metadata(path).ok().map(|meta| meta.mtime().saturating_mul(1_000_000_000) + meta.mtime_nsec());
    own.into_iter().chain(behind).any(|mtime| mtime > moment.0)
}

impl Tally {
    pub fn has_kept(&self) -> bool {
        !self.kept.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The disk was synced: what steps left for their next runs is there to stay.
    pub fn confirm_kept(&self, state: &State) -> Result<(), StoreError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().try_for_each(|used| state.confirm_last_use(used))
    }
}

/// The sources, whose edits are seen, and all else of the action.
fn divided(step: &Step, root: &Path, action: &Action) -> (Vec<Component>, Action) {
    let copy = step.source.as_ref().filter(|source| matches!(source.from, SourceFrom::Path { .. }));
    let is_source = |c: &Component| match (c.kind, copy) {
        (Kind::Source, Some(_)) => true,
        (Kind::Input | Kind::Discovered, Some(copy)) => {
            path_of(root, &c.name).is_some_and(|path| plain(&path).starts_with(&copy.dir))
        }
        (Kind::Input, None) => true,
        (Kind::Discovered, None) => !c.name.starts_with('/') && !c.name.starts_with("../"),
        (
            Kind::Command
            | Kind::Env
            | Kind::Tool
            | Kind::Setting
            | Kind::Prefix
            | Kind::Source
            | Kind::Host
            | Kind::Patch
            | Kind::Need
            | Kind::Layer
            | Kind::Output,
            _,
        ) => false,
    };
    let (sources, others) = action.components.iter().cloned().partition(is_source);
    (sources, Action { components: others })
}

/// Swap and backup files of editors: no build is meant to look at them.
fn is_of_an_editor(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    let is_swap = name.starts_with('.') && name.rsplit('.').next().is_some_and(|e| e.len() == 3 && e.starts_with("sw"));
    is_swap || name.ends_with('~') || name.starts_with(".#") || name.starts_with('#') && name.ends_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_leave_about_is_known_by_its_name() {
        for name in ["src/.main.c.swp", "a/.b.swo", "main.c~", ".#main.c", "x/#main.c#"] {
            assert!(is_of_an_editor(name), "{name}");
        }
        for name in ["main.c", "#notes", "swp", "a.swp", ".swift", "src~/main.c"] {
            assert!(!is_of_an_editor(name), "{name}");
        }
    }
}
