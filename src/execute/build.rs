//! One build: every step of a request brought to its end, in the order of `DESIGN.md`'s "life of a step".
//!
//! A step is tried by [`Build::attempt`]: judged, and where it is not fresh its locks are taken and it is
//! judged *again*, since another build may have done the work meanwhile. Nothing is waited for: a lock or
//! token that is not free gives the step back to the scheduler.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::action::{Made, Origin, Seen, StepRecord};
use crate::base::disk;
use crate::base::ids::{StepId, StepIx};
use crate::base::paths::escaped;
use crate::base::text::with_causes;
use crate::event::{Counts, Event, Failure, Listener, Why};
use crate::fingerprint::assemble::Workbench;
use crate::fingerprint::looker::{Looker, looking_as};
use crate::graph::{Class, Graph, Selection, Step};
use crate::plan::Reason;
use crate::store::{
    Before, KeyLock, LastUse, LayerSource, Layers, Part, Permit, Prefix, Relocation, State, StepLock, Store, StoreError,
};

use super::cancel::Cancel;
use super::durable::Syncer;
use super::explain::Explainer;
use super::footing::{Ground, PutRight};
use super::holding::{Held, Needs};
use super::jobserver::Jobserver;
use super::judging::{Answer, Judge, JudgeError, Judged, Records, Results};
use super::ownership::still_owned;
use super::prepare::is_left_behind;
use super::scheduler::{self, Attempt, Company, End, Planned, Wait, Work};
use super::view::probe::Views;
use super::watch::Watch;

/// What the person asked for besides the steps.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub jobs: usize,
    pub keep_going: bool,
    /// Stream the output of steps.
    pub verbose: bool,
    /// May a task that always runs have the terminal, when nothing else wants it?
    pub may_attach: bool,
    /// Steps that run whatever is known, and the words that made them.
    pub forced: HashMap<StepIx, String>,
    /// The task of `run`: it has the terminal, and its arguments make it uncached.
    pub attached: Option<StepIx>,
    /// How the person starts us for this workspace: `cargo bcache -C dir`.
    pub recall: String,
}

/// What a build is made with. Everything outlives it.
pub struct Build<'a> {
    pub graph: &'a Graph,
    pub selection: &'a Selection,
    pub bench: &'a Workbench<'a>,
    pub state: &'a State,
    pub store: &'a Store,
    pub records: &'a Records<'a>,
    pub results: &'a Results,
    pub prefixes: &'a [Prefix<'a>],
    pub relocation: &'a Relocation,
    pub listener: &'a dyn Listener,
    pub cancel: &'a Cancel,
    pub watch: &'a Watch<'a>,
    pub jobserver: &'a Jobserver,
    pub options: &'a Options,
    /// How steps get their views here.
    pub views: &'a Views,
    /// Puts a task's question to the person: yes, no, or why nobody can be asked.
    pub ask: &'a (dyn Fn(&Step, &str) -> Result<bool, String> + Sync),
    /// Does the manifest have this step no more, or not in this prefix?
    pub is_gone: &'a (dyn Fn(&StepId, &str) -> bool + Sync),
    pub tally: Tally,
    pub syncer: Syncer,
}

/// What came of it so far.
#[derive(Default)]
pub struct Tally {
    ends: Mutex<HashMap<StepIx, How>>,
    /// Exit status of an attached `run`, where it is not 0.
    pub attached_code: Mutex<Option<i32>>,
    /// Steps that must run and have no token yet.
    waiting: Mutex<HashSet<StepIx>>,
    /// Layers that this build has put into their prefixes.
    pub(super) installed: Mutex<HashMap<StepIx, Arc<Made>>>,
    /// Peaks of the steps that run now, in bytes.
    pub(super) memory: Mutex<u64>,
    /// Steps whose commands run now: their tokens can be lost only then.
    pub(super) running: AtomicUsize,
    /// Was it said that there are no namespaces?
    pub(super) said_exclusive: std::sync::atomic::AtomicBool,
    /// What steps left that build on themselves.
    pub(super) kept: Mutex<Vec<LastUse>>,
    pub(super) put_right: PutRight,
    /// Was a record, a result or an output written?
    pub changed: std::sync::atomic::AtomicBool,
    /// Errors of our own: the store or the state could not be read or written.
    pub broken: std::sync::atomic::AtomicBool,
}

impl Tally {
    /// Did the store, the state or the file system fail us?
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// Did a step run?
    pub fn has_run(&self) -> bool {
        self.count(How::Ran) > 0
    }

    /// A step that is done twice, since another build undid it, counts once: with what took the most.
    pub(super) fn done(&self, ix: StepIx, how: How) {
        let mut ends = self.lock_ends();
        let known = ends.entry(ix).or_insert(how);
        *known = how.max(*known);
    }

    fn count(&self, how: How) -> usize {
        self.lock_ends().values().filter(|h| **h == how).count()
    }

    fn lock_ends(&self) -> MutexGuard<'_, HashMap<StepIx, How>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_waiting(&self) -> MutexGuard<'_, HashSet<StepIx>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a step was done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum How {
    Fresh,
    Restored,
    Ran,
}

impl Build<'_> {
    /// Brings all steps of the selection to their ends; gives the counts.
    pub fn run(&self) -> (Counts, Vec<(StepIx, End)>) {
        let planned = self.planned();
        let workers = self.options.jobs.max(1);
        let ends = scheduler::run(&planned, workers, self.options.keep_going, self);
        self.write_all_shared();
        let ends: Vec<(StepIx, End)> = planned.iter().map(|p| p.step).zip(ends).collect();
        let mut counts = Counts {
            fresh: self.tally.count(How::Fresh),
            restored: self.tally.count(How::Restored),
            ran: self.tally.count(How::Ran),
            failed: 0,
            skipped: 0,
        };
        for (ix, end) in &ends {
            let step = self.graph.step(*ix);
            match end {
                End::Failed => counts.failed += 1,
                End::Skipped(because) if step.class != Class::Group => {
                    counts.skipped += 1;
                    let because = because.map(|b| self.graph.step(b).id.clone());
                    self.listener.on(Event::Skipped { step: step.id.clone(), because });
                }
                End::Skipped(_) | End::Done => {}
            }
        }
        (counts, ends)
    }

    /// Files that several steps may write, once all have ended: also where somebody took them away.
    fn write_all_shared(&self) {
        let prefixes: BTreeSet<_> = self.selection.steps.iter().filter_map(|ix| self.graph.step(*ix).sysroot).collect();
        for error in prefixes.into_iter().filter_map(|prefix| self.write_shared(prefix).err()) {
            self.tally.broken.store(true, Ordering::SeqCst);
            self.listener.on(Event::Warning { text: with_causes(&error) });
        }
    }

    fn planned(&self) -> Vec<Planned> {
        let mut place = vec![usize::MAX; self.graph.steps.len()];
        self.selection.steps.iter().enumerate().for_each(|(i, ix)| place[ix.index()] = i);
        let planned = |ix: &StepIx| {
            let step = self.graph.step(*ix);
            let cost = self.records.get(&step.id).map_or(0, |r| r.cost.millis);
            Planned { step: *ix, needs: step.needs.iter().map(|n| place[n.step.index()]).collect(), cost }
        };
        self.selection.steps.iter().map(planned).collect()
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge {
            bench: self.bench,
            prefixes: self.prefixes,
            relocation: self.relocation,
            state: self.state,
            records: self.records,
            results: self.results,
            views: self.views,
        }
    }

    /// Once is enough, also for a step that another build undoes.
    pub(super) fn forced(&self, ix: StepIx) -> Option<&str> {
        self.options.forced.get(&ix).filter(|_| self.results.get(ix).is_none()).map(String::as_str)
    }

    pub(super) fn try_step(&self, ix: StepIx, company: Company) -> Result<Attempt, StepError> {
        looking_as(Looker::Step(ix), || self.try_as_step(ix, company))
    }

    fn try_as_step(&self, ix: StepIx, company: Company) -> Result<Attempt, StepError> {
        let step = self.graph.step(ix);
        if self.lacks_token(ix)? {
            return Ok(Attempt::Later(Wait::Token));
        }
        let Some(shares) = self.share_prefixes(ix)? else { return Ok(Attempt::Later(Wait::Lock)) };
        match step.class {
            Class::Group => return Ok(Attempt::Done),
            Class::Plain => return self.run_plain(ix, company),
            Class::Cached | Class::Fixed => {}
        }
        let judge = self.judge();
        // Nobody is kept from changing anything yet: only that it is fresh is believed.
        let judged = judge.judge(ix, self.records.get(&step.id), self.forced(ix));
        if let Ok(Judged { fresh: Ok(made), .. }) = &judged {
            return Ok(self.is_fresh(ix, made.clone()));
        }
        let Some(held) = self.hold(ix)? else { return Ok(Attempt::Later(Wait::Lock)) };
        self.end_orphans()?;
        // Not ours before the step is done with it: who needs it goes by what it was when it was done here.
        let record = self.records.peek(&step.id)?;
        let judged = match (self.look_at_needs(ix)?, judged) {
            (Needs::Undone(need), _) => {
                drop((held, shares));
                return self.do_again(need);
            }
            (Needs::AsKnown, Ok(judged)) if record == judged.record => judged,
            (Needs::AsKnown | Needs::Moved, _) => judge.judge(ix, record, self.forced(ix))?,
        };
        let reasons = match judged.fresh {
            Ok(made) => {
                let attempt = self.is_fresh(ix, made);
                judged.record.into_iter().for_each(|record| self.records.adopt(record));
                return Ok(attempt);
            }
            Err(ref reasons) => reasons.clone(),
        };
        self.restore_or_run(ix, judged, reasons, held, shares)
    }

    /// With the step's locks held: the store's answer, or a run.
    fn restore_or_run(
        &self,
        ix: StepIx,
        judged: Judged,
        reasons: Vec<Reason>,
        held: Held,
        mut shares: Vec<StepLock>,
    ) -> Result<Attempt, StepError> {
        let step = self.graph.step(ix);
        let action = &judged.assembled.action;
        // Two worktrees don't wait for each other where neither can use what the other makes.
        let key =
            if step.builds_on_itself() { action.bound_to(&self.graph.root, &step.id).key() } else { action.key() };
        // What builds on itself is in no store.
        let asks = self.forced(ix).is_none() && !step.builds_on_itself();
        if asks && self.restore(ix, &judged, &reasons)? {
            return Ok(Attempt::Done);
        }
        let Some(key_lock) = self.store.try_lock_key(&key).map_err(StepError::lock)? else {
            return Ok(Attempt::Later(Wait::Lock));
        };
        let permit = if asks {
            match self.answer(step, &judged)? {
                // Whoever had the lock has stored it.
                Answer::Hit(..) if self.restore(ix, &judged, &reasons)? => return Ok(Attempt::Done),
                Answer::Hit(..) => return Ok(Attempt::Later(Wait::Lock)),
                Answer::Miss(permit) => permit,
            }
        } else {
            self.store.replace(&key)
        };
        if self.is_exclusive(step) {
            shares.clear();
            let Some(own) = self.own_prefixes()? else { return Ok(Attempt::Later(Wait::Lock)) };
            shares = own;
        }
        if !self.has_room(step) {
            return Ok(Attempt::Later(Wait::Lock));
        }
        let Some(target_dir) = self.lock_target_dir(step)? else { return Ok(Attempt::Later(Wait::Lock)) };
        let Some(tokens) = self.jobserver.try_acquire(step.jobs as usize).map_err(StepError::lock)? else {
            self.refill_if_idle()?;
            self.tally.lock_waiting().insert(ix);
            return Ok(Attempt::Later(Wait::Token));
        };
        let footing = match self.ground(ix)? {
            Ground::Firm(footing) => footing,
            Ground::Undone(need) => {
                drop((tokens, target_dir, shares, permit, key_lock, held));
                return self.put_right(ix, need);
            }
            Ground::Taken => return Ok(Attempt::Later(Wait::Token)),
        };
        if let Some(question) = &step.confirm {
            match (self.ask)(step, question) {
                Ok(true) => {}
                Ok(false) => return Err(StepError::Declined("the answer was no".to_owned())),
                Err(why) => return Err(StepError::Declined(why)),
            }
        }
        self.run_cached(
            ix,
            judged,
            reasons,
            Permission { permit, _key: key_lock, _target_dir: target_dir, _held: held, _prefixes: shares },
            &tokens,
            &footing,
        )
    }

    /// Was the step found to need a token, and is there still none? Then it need not be judged again.
    fn lacks_token(&self, ix: StepIx) -> Result<bool, StepError> {
        if !self.tally.lock_waiting().contains(&ix) {
            return Ok(false);
        }
        let wanted = (self.graph.step(ix).jobs as usize).clamp(1, self.jobserver.jobs());
        let lacks = self.jobserver.free().map_err(StepError::lock)? < wanted;
        if lacks {
            self.refill_if_idle()?;
        } else {
            self.tally.lock_waiting().remove(&ix);
        }
        Ok(lacks)
    }

    /// Tokens that a killed step took with it come back when nothing runs.
    fn refill_if_idle(&self) -> Result<(), StepError> {
        if self.tally.running.load(Ordering::SeqCst) == 0 {
            self.jobserver.refill().map_err(StepError::lock)?;
        }
        Ok(())
    }

    fn is_fresh(&self, ix: StepIx, made: Arc<Made>) -> Attempt {
        self.results.set(ix, made);
        self.tally.done(ix, How::Fresh);
        self.listener.on(Event::Fresh { step: self.graph.step(ix).id.clone() });
        Attempt::Done
    }

    /// Restores what the store has; `false` where it has nothing (any more).
    fn restore(&self, ix: StepIx, judged: &Judged, reasons: &[Reason]) -> Result<bool, StepError> {
        let begun = Instant::now();
        let step = self.graph.step(ix);
        let Answer::Hit(action, result) = self.answer(step, judged)? else {
            return Ok(false);
        };
        self.check_owners(step, result.made.outputs.entries().iter().map(|entry| entry.path.as_path()))?;
        let old = still_owned(self.graph, step, judged.record.clone());
        if let Some(old) = old.as_deref().filter(|old| is_left_behind(old)) {
            self.clear_left_behind(step, old, step.clean)?;
        }
        let known = before(old.as_deref()).tree;
        known.map_or(Ok(()), |tree| self.make_plain(step, tree))?;
        self.move_strays(step, &known.into_iter().chain([&result.made.outputs]).collect::<Vec<_>>())?;
        let before = before(old.as_deref());
        let texts = self.sentences(reasons, old.as_deref());
        let record = |outputs: Vec<Seen>, origin: Origin| StepRecord {
            step: step.id.clone(),
            key: action.key(),
            action: action.clone(),
            made: Some(result.made.clone()),
            outputs,
            origin,
            begun: Vec::new(),
            reasons: texts.iter().map(|w| w.text.clone()).collect(),
            cost: result.cost,
            stored: true,
        };
        let mut begin = || self.begin(step, old.as_deref(), &record(Vec::new(), Origin::Begun)).map(|_| ());
        let placed =
            match self.store.materialize(&result, Part::Outputs, self.state, &self.graph.root, before, &mut begin) {
                Ok(placed) => placed,
                Err(e) if e.is_lost() => return Ok(false),
                Err(e) => return Err(e.into()),
            };
        placed.aside.iter().for_each(|aside| self.say_aside(aside));
        self.make_plain(step, &result.made.outputs)?;
        let (mut files, mut bytes) = (placed.written, placed.bytes);
        if let (Some(_), Some(layer)) = (step.sysroot, &result.made.layer) {
            // Already unpacked here, or straight out of the store.
            let unpacked = Layers::of(self.state).ensure(layer, None)?;
            let source = unpacked.as_deref().map_or(LayerSource::Stored(self.store, &result), LayerSource::Dir);
            match self.install(ix, &result.made, source) {
                Ok(written) => files += written,
                Err(StepError::Store(e)) if e.is_lost() => return Ok(false),
                Err(e) => return Err(e),
            }
            bytes += layer.size();
        }
        self.learn(&result.made, &placed.seen);
        self.remember_seen(&judged.assembled);
        self.records.write(record(placed.seen, Origin::Restored))?;
        self.forget_place(step);
        self.results.set(ix, Arc::new(result.made.clone()));
        self.tally.done(ix, How::Restored);
        self.tally.changed.store(true, Ordering::SeqCst);
        self.listener.on(Event::Restored { step: step.id.clone(), files, bytes, took: begun.elapsed() });
        Ok(true)
    }

    /// Writes down that the step's outputs are about to change. What the old record owned stays owned.
    pub(super) fn begin(
        &self,
        step: &Step,
        old: Option<&StepRecord>,
        new: &StepRecord,
    ) -> Result<Arc<StepRecord>, StoreError> {
        let mut begun: Vec<String> = step.outputs.iter().map(|o| o.pattern.shown.clone()).collect();
        let emptied = match old {
            Some(old) => {
                begun.extend(old.begun.iter().filter(|known| !begun.contains(known)).cloned().collect::<Vec<_>>());
                // Without anything that it owns, as before the first run.
                let made = old.made.clone().filter(|m| !m.outputs.is_empty() || m.layer.is_some());
                StepRecord { origin: Origin::Begun, made, begun, reasons: new.reasons.clone(), ..old.clone() }
            }
            None => StepRecord { made: None, outputs: Vec::new(), origin: Origin::Begun, begun, ..new.clone() },
        };
        assert_eq!(emptied.step, step.id, "BUG: the record of another step");
        self.tally.changed.store(true, Ordering::SeqCst);
        self.records.write(emptied)
    }

    /// What was hashed as it was captured or written need not be hashed again.
    pub(super) fn learn(&self, made: &Made, seen: &[Seen]) {
        for (entry, seen) in made.outputs.entries().iter().zip(seen) {
            if let crate::base::tree::Node::File { digest, .. } = entry.node {
                self.bench.files.learn(&self.graph.root.join(&entry.path), seen.stat, seen.settled, digest);
            }
        }
    }

    pub(super) fn say_aside(&self, aside: &crate::action::SetAside) {
        let text =
            format!("{} was not made here: moved to {}", self.graph.shown(&aside.from), self.graph.shown(&aside.to));
        self.listener.on(Event::Note { text });
    }

    pub(super) fn sentences(&self, reasons: &[Reason], old: Option<&StepRecord>) -> Vec<Why> {
        Explainer {
            graph: self.graph,
            results: self.results,
            state: self.state,
            host: self.bench.host,
            git: self.bench.git,
        }
        .explain(reasons, old)
    }

    /// Tells of an error that ended a step.
    pub(super) fn report(&self, ix: StepIx, took: Duration, error: StepError) {
        let step = self.graph.step(ix);
        if error.is_ours() {
            self.tally.broken.store(true, Ordering::SeqCst);
        }
        let (failure, took) = match error {
            StepError::Failed { failure, took } => (*failure, took),
            error => {
                let mut advice = error.advice();
                if matches!(error, StepError::Layer(_)) {
                    advice.extend(self.look_around(step));
                }
                let headline = with_causes(&error);
                (Failure { headline, command: None, log: Arc::from([]), log_file: None, advice }, took)
            }
        };
        self.listener.on(Event::Failed { step: step.id.clone(), took, failure });
    }
}

impl Work for Build<'_> {
    fn attempt(&self, ix: StepIx, company: Company) -> Attempt {
        let begun = Instant::now();
        match self.try_step(ix, company) {
            Ok(attempt) => attempt,
            Err(StepError::Cancelled) => Attempt::Stopped,
            Err(error) => {
                self.report(ix, begun.elapsed(), error);
                Attempt::Failed
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// What a miss hands to the run that follows it.
pub(super) struct Permission {
    pub permit: Permit,
    pub _key: KeyLock,
    /// Of the directory that cargo builds in.
    pub _target_dir: Option<KeyLock>,
    pub _held: Held,
    /// Shares, or for a step without namespaces the prefixes themselves.
    pub _prefixes: Vec<StepLock>,
}

pub(super) fn before(record: Option<&StepRecord>) -> Before<'_> {
    match record {
        Some(StepRecord { made: Some(made), outputs, .. }) => Before { tree: Some(&made.outputs), seen: outputs },
        _ => Before::default(),
    }
}

/// Why a step did not come to a good end.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Unpack(#[from] super::unpack::UnpackError),
    #[error(transparent)]
    Run(#[from] super::runner::RunError),
    #[error(transparent)]
    Layer(#[from] super::view::layer::LayerFault),
    #[error("what `{0}` made was changed or taken away meanwhile, and could not be had again")]
    NeedGone(StepId),
    #[error("cannot lock: {0}")]
    Lock(std::io::Error),
    #[error("cannot say that a build is under way: {0}")]
    Watch(std::io::Error),
    #[error("cannot look for what killed builds left: {0}")]
    Orphans(std::io::Error),
    #[error("cannot try whether this machine gives namespaces: {0}")]
    Untried(String),
    #[error("cannot write `{}`: {}", escaped(path), disk::said(error, path))]
    Write { path: PathBuf, error: std::io::Error },
    /// The commands failed, or did not make what was declared.
    #[error("{}", failure.headline)]
    Failed { failure: Box<Failure>, took: Duration },
    #[error("{0}")]
    Declined(String),
    #[error("interrupted")]
    Cancelled,
}

impl StepError {
    pub(super) fn lock(error: std::io::Error) -> Self {
        Self::Lock(error)
    }

    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Write { path, error }
    }

    /// Is it about the store or the state, and not about the step?
    fn is_ours(&self) -> bool {
        match self {
            Self::Store(e) | Self::Judge(JudgeError::Store(e)) => !matches!(e, StoreError::Conflict(_)),
            Self::Lock(_) | Self::Watch(_) | Self::Orphans(_) => true,
            Self::Untried(_) | Self::Write { .. } | Self::Run(_) => true,
            Self::Unpack(error) => matches!(error, super::unpack::UnpackError::Write { .. }),
            Self::NeedGone(_)
            | Self::Declined(_)
            | Self::Judge(_)
            | Self::Layer(_)
            | Self::Failed { .. }
            | Self::Cancelled => false,
        }
    }

    fn advice(&self) -> Vec<String> {
        match self {
            Self::Judge(JudgeError::Assemble(crate::fingerprint::assemble::AssembleError::Missing {
                install: Some(install),
                ..
            })) => {
                vec![format!("to get it: {install}")]
            }
            Self::Judge(JudgeError::Assemble(crate::fingerprint::assemble::AssembleError::Compiler(error))) => {
                error.help().map(|help| format!("to get it: {help}")).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}
