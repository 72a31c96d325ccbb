//! A step that must run: its place is prepared, its commands are run, what they made is captured,
//! committed and recorded, in this order.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::action::{Cost, Origin, StepRecord};
use crate::base::ids::StepIx;
use crate::base::paths::escaped;
use crate::base::stat::{Instant as FileTime, set_mode};
use crate::base::text::clipped;
use crate::base::tree::{PLAIN_DIR, Tree};
use crate::event::{Event, Failure};
use crate::fingerprint::assemble::Assembled;
use crate::graph::{Class, Command, JOBS_MARKER, Step};
use crate::plan::Reason;
use crate::store::{Layers, PathSet, Snapshot};

use super::build::{Build, How, Permission, StepError};
use super::explain;
use super::footing::Footing;
use super::holding::Needs;
use super::jobserver::Tokens;
use super::judging::Judged;
use super::ownership::{no_longer_plain, other_owner, still_owned};
use super::prepare::Place;
use super::runner::{Ending, Finished};
use super::scheduler::{Attempt, Company, Wait};
use super::toolchain;
use super::view::hiding;

/// Bytes of a failed step's log that go into the event.
const SHOWN: u64 = 16 << 20;
/// Bytes of a command that are shown where it failed.
const LONGEST_COMMAND: usize = 4000;

impl Build<'_> {
    pub(super) fn run_cached(
        &self,
        ix: StepIx,
        judged: Judged,
        reasons: Vec<Reason>,
        permission: Permission,
        tokens: &Tokens,
        footing: &Footing,
    ) -> Result<Attempt, StepError> {
        let step = self.graph.step(ix);
        let old = still_owned(self.graph, step, judged.record.clone());
        let texts = self.sentences(&reasons, old.as_deref());
        self.listener.on(Event::Stale { step: step.id.clone(), reasons: texts.clone() });
        self.warn_own_jobs(step);
        if self.is_exclusive(step) {
            self.say_exclusive();
        }
        let assembled = &judged.assembled;
        let mut record = StepRecord {
            step: step.id.clone(),
            action: assembled.action.clone(),
            key: assembled.action.key(),
            made: None,
            outputs: Vec::new(),
            origin: Origin::Begun,
            begun: Vec::new(),
            reasons: texts.into_iter().map(|w| w.text).collect(),
            cost: old.as_ref().map(|r| r.cost).unwrap_or_default(),
            stored: false,
        };
        let takes_over = self.takes_over(ix, assembled)?;
        let begin = || self.begin(step, old.as_deref(), &record).map(|_| ());
        self.clear_outputs(step, old.as_deref(), takes_over, begin)?;
        let begun = Begun { start: self.start_of(step, assembled)?, takes_over, footing };
        let _memory = self.reserve_memory(old.as_ref().and_then(|r| r.cost.peak_memory));
        let finished = self.tries(ix, assembled, old.as_deref().map(|r| r.cost), tokens, begun);
        let mut finished = match finished {
            Ok(finished) => finished,
            Err(error) => {
                self.give_up(step)?;
                return Err(error);
            }
        };
        // 0 stands for "never timed".
        let millis = (finished.took.as_millis() as u64).max(1);
        record.cost = Cost { millis, peak_memory: finished.peak_memory };
        match self.keep(ix, assembled, &finished, begun.start, record, permission) {
            Ok(stored) => {
                self.remember_sources(step, &mut finished)?;
                self.tally.done(ix, How::Ran);
                let stderr = if self.is_looked_at(ix) { Vec::new() } else { self.relocation.shown(finished.stderr) };
                self.listener.on(Event::Ran {
                    step: step.id.clone(),
                    took: finished.took,
                    uncached: false,
                    stored,
                    stderr: Arc::from(stderr),
                });
                self.tidy(step, assembled);
                self.syncer.step_ended();
                Ok(Attempt::Done)
            }
            Err(error) => {
                self.give_up(step)?;
                Err(error)
            }
        }
    }

    /// Runs the commands, and again after a failure where the task says so: each try starts from nothing.
    fn tries(
        &self,
        ix: StepIx,
        assembled: &Assembled,
        last: Option<Cost>,
        tokens: &Tokens,
        begun: Begun,
    ) -> Result<Finished, StepError> {
        let step = self.graph.step(ix);
        let mut takes_over = begun.takes_over;
        let mut left = step.retries;
        let last = last.filter(|c| c.millis > 0).map(|c| Duration::from_millis(c.millis));
        let attached = self.is_looked_at(ix);
        self.listener.on(Event::Running { step: step.id.clone(), last, attached, uncached: false });
        loop {
            let view = self.prepare(ix, assembled, Place::Run { takes_over })?;
            let commands = || self.commands(step, assembled, view.as_ref(), attached, last, tokens);
            let mut finished = if self.is_exclusive(step) { self.in_prefixes(step, commands)? } else { commands()? };
            finished.astray = finished.astray.or(self.astray(begun.footing)?);
            self.distrust_if_astray(step, assembled, &mut finished)?;
            self.note_use(ix, assembled, &finished, begun.start)?;
            match &finished.ending {
                Ending::Success => return Ok(finished),
                Ending::Cancelled => return Err(StepError::Cancelled),
                ending if left > 0 => {
                    left -= 1;
                    let text = format!("{} failed ({}): trying again", step.id, ending_text(ending, step));
                    self.listener.on(Event::Warning { text });
                    takes_over = false;
                    self.state.forget_last_use(&step.id)?;
                    self.remove_outputs(step)?;
                    self.clear_depfiles(step, |_| true)?;
                    self.make_output_dirs(step)?;
                }
                _ => return Err(self.failed(ix, assembled, &finished)),
            }
        }
    }

    /// Captures what was made, and lets it be found: store, layer, prefix, and last the record.
    fn keep(
        &self,
        ix: StepIx,
        assembled: &Assembled,
        finished: &Finished,
        start: Option<FileTime>,
        mut record: StepRecord,
        permission: Permission,
    ) -> Result<bool, StepError> {
        let step = self.graph.step(ix);
        self.publish_programs(step, finished)?;
        let upper = step.sysroot.map(|_| step.work.join("top/upper"));
        let (snapshot, capture) = self.captured(ix, upper.as_deref(), finished)?;
        self.learn(&snapshot.made, &snapshot.outputs);
        self.check_sums(step)?;
        let mut found = self.discover(ix, assembled, Some(finished), start)?;
        self.warn_discovered(ix, &found);
        self.join_gone(ix, &assembled.action, &mut found)?;
        let moved = self.moved(ix, assembled, finished)?.or(found.moved);
        let Snapshot { made, outputs: seen, bound_to, holds_secret, .. } = snapshot;
        if holds_secret {
            let text =
                format!("what {} made holds the value of a secret: its result is kept here, but not stored", step.id);
            self.listener.on(Event::Warning { text });
        }
        let capture = capture.filter(|_| !holds_secret);
        let names: PathSet = found.components.iter().map(|c| c.name.clone()).collect();
        record.action = assembled.action.with(found.components);
        if bound_to.is_some() || found.is_bound && self.is_shared_by_all(step) {
            record.action = record.action.bound_to(&self.graph.root, &step.id);
        }
        if self.is_exclusive(step) {
            record.action = record.action.exclusive();
        }
        record.key = record.action.key();
        let permit =
            if record.key == *permission.permit.key() { permission.permit } else { self.store.replace(&record.key) };
        if let (Some(upper), Some(tree)) = (&upper, &made.layer) {
            let dir = Layers::of(self.state).adopt(upper, tree)?;
            self.install(ix, &made, crate::store::LayerSource::Dir(&dir))?;
        }
        let stored = match (capture, &moved) {
            (Some(mut capture), None) => {
                capture.snapshot.made.shared = made.shared.clone();
                self.store.commit(permit, capture, &step.id, record.cost)?;
                if step.discovers() {
                    self.store.add_path_set(&assembled.action.key(), &names)?;
                }
                true
            }
            _ => false,
        };
        if let Some(what) = &moved {
            let text = format!("{} was changed while {} ran: its result is kept here, but not stored", what, step.id);
            self.listener.on(Event::Warning { text });
            self.state.forget_last_use(&step.id)?;
        }
        // As a restore would leave them.
        self.make_plain(step, &made.outputs)?;
        record.made = Some(made);
        record.outputs = seen;
        record.stored = stored;
        self.remember_seen(assembled);
        self.remember(ix, record, moved.is_some())?;
        Ok(stored)
    }

    /// The record of a run that ended well, after all else.
    fn remember(&self, ix: StepIx, mut record: StepRecord, has_moved: bool) -> Result<(), StepError> {
        self.remember_needs(ix);
        record.origin = Origin::Ran;
        if has_moved {
            // The outputs answer to no action that is known: the next build judges them stale.
            record.key = crate::action::ActionKey(crate::base::digest::Digest::of(b"moved"));
            record.origin = Origin::Begun;
        }
        let record = self.records.write(record)?;
        self.results.set(ix, Arc::new(record.made.clone().expect("BUG: a run that ended well made something")));
        Ok(())
    }

    /// Concrete paths of the declared outputs, relative to the workspace; one that was not made is a failure.
    pub(super) fn made_outputs(&self, step: &Step) -> Result<Vec<PathBuf>, StepError> {
        let mut paths = Vec::new();
        for output in &step.outputs {
            let found = self.matching(output)?;
            if found.is_empty() && !output.optional {
                let headline = format!("declared output `{}` was not made", output.pattern.shown);
                return Err(self.plain_failure(step, headline));
            }
            paths.extend(found.iter().map(|path| path.strip_prefix(&self.graph.root).unwrap_or(path).to_owned()));
        }
        paths.sort();
        paths.dedup();
        self.check_owners(step, paths.iter().map(PathBuf::as_path))?;
        Ok(paths)
    }

    /// Gives directories in outputs the mode that those have which need no entry in the tree.
    pub(super) fn make_plain(&self, step: &Step, tree: &Tree) -> Result<(), StepError> {
        let mut last = None;
        while let Some(dir) = no_longer_plain(self.graph, step, tree)?.filter(|dir| last.as_ref() != Some(dir)) {
            set_mode(&dir, PLAIN_DIR).map_err(StepError::write(&dir))?;
            last = Some(dir);
        }
        Ok(())
    }

    /// Two tasks that make one path would undo each other for ever.
    pub(super) fn check_owners<'p>(&self, step: &Step, made: impl Iterator<Item = &'p Path>) -> Result<(), StepError> {
        match other_owner(self.graph, step, made) {
            None => Ok(()),
            Some((path, other)) => {
                let headline = format!("`{}` is an output of `{}` and of `{}`", escaped(path), step.id, other.id);
                Err(self.plain_failure(step, headline))
            }
        }
    }

    fn check_sums(&self, step: &Step) -> Result<(), StepError> {
        for output in step.outputs.iter().filter(|o| o.sha256.is_some()) {
            let sum = self.bench.files.sha256(&output.pattern.path).map_err(super::judging::JudgeError::from)?;
            if sum != output.sha256 {
                let headline = format!(
                    "output `{}` has SHA-256 {}, not {}",
                    output.pattern.shown,
                    sum.unwrap_or_default(),
                    output.sha256.as_deref().unwrap_or_default()
                );
                return Err(self.plain_failure(step, headline));
            }
        }
        Ok(())
    }

    /// Did anything of the action move while the step ran? What.
    fn moved(&self, ix: StepIx, before: &Assembled, finished: &Finished) -> Result<Option<String>, StepError> {
        if self.graph.step(ix).class == Class::Fixed {
            return Ok(None);
        }
        if let Some(path) = &finished.astray {
            return Ok(Some(self.graph.shown(path)));
        }
        if let Some(path) = self.seen_otherwise(before)? {
            return Ok(Some(self.graph.shown(path)));
        }
        let after = match self.judge().assemble(ix) {
            Ok(after) => after,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let of_git = before.git.iter().zip(&after.git).find(|(before, after)| before.stamps() != after.stamps());
        if let Some(path) = of_git.and_then(|(before, after)| before.first_moved(after)) {
            return Ok(Some(self.graph.shown(&path)));
        }
        let differences = crate::plan::reason::differences(&before.action, &after.action);
        Ok(differences.first().map(|r| r.component().map_or_else(|| "its action".to_owned(), |c| c.name.clone())))
    }

    /// The first of the files that were looked at before the run and look different now.
    pub(super) fn seen_otherwise<'b>(&self, before: &'b Assembled) -> Result<Option<&'b Path>, StepError> {
        for (path, seen) in before.seen.iter().chain(&before.ways) {
            let is_dir = seen.stat.is_some_and(|s| s.kind == crate::base::stat::Kind::Dir);
            let now = self.bench.files.observe(path).map_err(super::judging::JudgeError::from)?;
            if !is_dir && (now.stat != seen.stat || now.digest != seen.digest) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Keeps what the needs made, so that their next change can be told file by file.
    fn remember_needs(&self, ix: StepIx) {
        let step = self.graph.step(ix);
        for need in self.graph.flat_needs(ix).into_iter().chain(step.layers.iter().copied()) {
            if let Some(made) = self.results.get(need) {
                // A memory aid: `why` is less precise without it, nothing else.
                let _ = explain::remember(self.state, &made);
            }
        }
    }

    /// Keeps the packages and the git trees that its action holds by one digest each.
    pub(super) fn remember_seen(&self, assembled: &Assembled) {
        if let Some(hosted) = &assembled.host {
            // As above.
            let _ = explain::remember_host(self.state, &hosted.identity);
        }
        for identity in &assembled.git {
            let _ = explain::remember_git(self.state, identity);
        }
    }

    /// A step that always runs: it inherits the environment, and nothing of it is stored.
    pub(super) fn run_plain(&self, ix: StepIx, company: Company) -> Result<Attempt, StepError> {
        let step = self.graph.step(ix);
        let Some(held) = self.hold(ix)? else { return Ok(Attempt::Later(Wait::Lock)) };
        self.end_orphans()?;
        if let Needs::Undone(need) = self.look_at_needs(ix)? {
            drop(held);
            return self.do_again(need);
        }
        // A cached step looks through the directory before it builds there, and counts on nobody to change it after.
        let Some(_target_dir) = self.lock_target_dir(step)? else { return Ok(Attempt::Later(Wait::Lock)) };
        let Some(tokens) = self.jobserver.try_acquire(step.jobs as usize).map_err(StepError::lock)? else {
            return Ok(Attempt::Later(Wait::Token));
        };
        let attached = self.options.attached == Some(ix) || company == Company::Alone && self.options.may_attach;
        let assembled = self.judge().assemble(ix).map_err(super::judging::JudgeError::from)?;
        if step.builds_on_itself() {
            // With arguments and another environment: what it leaves is not for the cached step to build on.
            self.state.forget_last_use(&step.id)?;
        }
        self.warn_own_jobs(step);
        self.make_output_dirs(step)?;
        toolchain::put(step, &assembled)?;
        self.listener.on(Event::Running { step: step.id.clone(), last: None, attached, uncached: true });
        let begun = Instant::now();
        let mut left = step.retries;
        let finished = loop {
            let finished = self.commands(step, &assembled, None, attached, None, &tokens)?;
            match finished.ending {
                Ending::Success => break finished,
                Ending::Cancelled => return Err(StepError::Cancelled),
                _ if left > 0 => left -= 1,
                _ => return Err(self.failed(ix, &assembled, &finished)),
            }
        };
        let snapshot = self.plain_snapshot(ix)?;
        self.learn(&snapshot.made, &snapshot.outputs);
        self.results.set(ix, Arc::new(snapshot.made));
        self.tally.done(ix, How::Ran);
        self.listener.on(Event::Ran {
            step: step.id.clone(),
            took: begun.elapsed(),
            uncached: true,
            stored: false,
            stderr: Arc::from(finished.stderr),
        });
        Ok(Attempt::Done)
    }

    fn failed(&self, ix: StepIx, assembled: &Assembled, finished: &Finished) -> StepError {
        let step = self.graph.step(ix);
        if let (Some(code), true) = (code_of(&finished.ending), self.options.attached == Some(ix)) {
            *self.tally.attached_code.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(code);
        }
        let command = match &finished.ending {
            Ending::Code { command, .. } | Ending::Signal { command, .. } | Ending::CannotStart { command, .. } => {
                step.commands.get(*command).or(step.commands.last())
            }
            _ => step.commands.last(),
        };
        let log = self.relocation.shown(finished.log.as_deref().map(read_end).unwrap_or_default());
        let headline = ending_text(&finished.ending, step);
        let mut advice = self.hidden_programs_missed(step, assembled, &[headline.as_bytes(), b"\n", &log].concat());
        if finished.log.is_some() {
            advice.push(format!("the whole log: {} log {}", self.options.recall, shown_step(step)));
        }
        advice.extend(self.look_around(step));
        let failure = Failure {
            headline,
            command: command.map(|c| self.shown_command(c)),
            log: Arc::from(if self.is_looked_at(ix) { Vec::new() } else { log }),
            log_file: finished.log.clone(),
            advice,
        };
        StepError::Failed { failure: Box::new(failure), took: finished.took }
    }

    /// Is it the task of `run`, whose output goes where ours goes, cached or not?
    fn is_looked_at(&self, ix: StepIx) -> bool {
        self.options.attached == Some(ix) && self.graph.step(ix).cargo.is_none()
    }

    /// Programs that are hidden from the step, and that its log complains about.
    fn hidden_programs_missed(&self, step: &Step, assembled: &Assembled, log: &[u8]) -> Vec<String> {
        let Some(shown) = self.shown(step, assembled) else { return Vec::new() };
        let dirs = crate::fingerprint::env::SYSTEM_PATH.map(Path::new);
        let hidden = dirs.iter().flat_map(|dir| hiding::hidden_programs(dir, &shown).unwrap_or_default());
        let hidden: std::collections::HashSet<OsString> = hidden.collect();
        let missed = hiding::missed(log, |word| hidden.contains(word));
        missed.iter().map(|name| format!("{name} is installed but not declared: add it to tools")).collect()
    }

    fn shown_command(&self, command: &Command) -> String {
        let text = self.relocation.shown(command.shown().replace(JOBS_MARKER, "N").into_bytes());
        clipped(&String::from_utf8_lossy(&text), LONGEST_COMMAND)
    }

    /// How to get to the place where the step failed. One that inherits everything has none of its own.
    pub(super) fn look_around(&self, step: &Step) -> Option<String> {
        (step.class != Class::Plain).then(|| format!("to look around: {} shell {}", self.options.recall, step.id))
    }

    pub(super) fn plain_failure(&self, step: &Step, headline: String) -> StepError {
        let path = self.state.log_path(&step.id);
        let log = self.relocation.shown(read_end(&path));
        let log_file = (!log.is_empty()).then_some(path);
        let advice = self.look_around(step).into_iter().collect();
        let failure = Failure { headline, command: None, log: Arc::from(log), log_file, advice };
        StepError::Failed { failure: Box::new(failure), took: Duration::ZERO }
    }
}

/// How a run begins.
#[derive(Clone, Copy)]
struct Begun<'f> {
    /// On the clock of file stamps, where somebody will ask.
    start: Option<FileTime>,
    takes_over: bool,
    footing: &'f Footing,
}

fn read_end(path: &Path) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(SHOWN)))?;
        let mut bytes = Vec::new();
        file.take(SHOWN).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // The failure itself matters more than its log.
    read().unwrap_or_default()
}

/// A step as a person would type it.
fn shown_step(step: &Step) -> String {
    if &*step.id.target == crate::base::ids::HOST { step.id.task.to_string() } else { step.id.to_string() }
}

fn code_of(ending: &Ending) -> Option<i32> {
    match ending {
        Ending::Code { code, .. } => Some(*code),
        Ending::Signal { signal, .. } => Some(128 + signal),
        _ => None,
    }
}

fn ending_text(ending: &Ending, step: &Step) -> String {
    match ending {
        Ending::Success => "it ended well".to_owned(),
        Ending::Code { code, .. } => format!("the command ended with exit code {code}"),
        Ending::Signal { signal, .. } => format!("the command was killed by signal {signal}"),
        Ending::TimedOut => {
            let limit = step.timeout.map(crate::base::text::duration).unwrap_or_default();
            format!("it took longer than its timeout of {limit}")
        }
        Ending::Cancelled => "it was cancelled".to_owned(),
        Ending::CannotStart { error, .. } => error.clone(),
        Ending::ViewLost { at } => format!("its view of `{}` was taken away while it ran", at.display()),
    }
}
