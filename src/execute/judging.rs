//! A step's verdict in this worktree: what the pure [`plan`](crate::plan) decides, from what is here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::action::{Action, ActionKey, ActionResult, Made, Origin, Seen, StepRecord};
use crate::base::ids::{StepId, StepIx};
use crate::base::paths::escaped;
use crate::base::stat::{Kind, Stat};
use crate::base::tree::{Entry, Node, Tree};
use crate::event::Event;
use crate::fingerprint::assemble::{AssembleError, Assembled, Producer, Workbench};
use crate::fingerprint::discovered;
use crate::fingerprint::files::{FileError, Files, link_digest};
use crate::graph::{Class, Graph, OutputPattern, Step};
use crate::plan::{Disk, Evidence, Reason, freshness};
use crate::store::{Lookup, Permit, Prefix, Relocation, State, Store, StoreError};

use super::build::{Build, StepError};
use super::ownership::{no_longer_plain, strays};
use super::view::probe::Views;

/// What the steps of this build have made so far.
pub struct Results {
    made: Vec<Mutex<Option<Arc<Made>>>>,
}

impl Results {
    pub fn new(graph: &Graph) -> Self {
        Self { made: graph.steps.iter().map(|_| Mutex::default()).collect() }
    }

    pub fn get(&self, ix: StepIx) -> Option<Arc<Made>> {
        self.made[ix.index()].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, ix: StepIx, made: Arc<Made>) {
        *self.made[ix.index()].lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    }
}

/// The records of the worktree: read once, and again one by one where a lock was taken.
pub struct Records<'a> {
    state: &'a State,
    known: Mutex<HashMap<StepId, Arc<StepRecord>>>,
}

impl<'a> Records<'a> {
    pub fn load(state: &'a State) -> Result<Self, StoreError> {
        let known = state.all_records()?.into_iter().map(|r| (r.step.clone(), Arc::new(r))).collect();
        Ok(Self { state, known: Mutex::new(known) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StepId, Arc<StepRecord>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, step: &StepId) -> Option<Arc<StepRecord>> {
        self.lock().get(step).cloned()
    }

    /// As it is on disk now: another build may have written it. It is not taken for ours.
    pub fn peek(&self, step: &StepId) -> Result<Option<Arc<StepRecord>>, StoreError> {
        Ok(self.state.read_record(step)?.map(Arc::new))
    }

    /// What was peeked at is what this build goes by: after its result is known, since others compare the two.
    pub fn adopt(&self, record: Arc<StepRecord>) {
        self.lock().insert(record.step.clone(), record);
    }

    /// Writes what was seen anew of the same, where nobody has the step at this moment. It is a memory aid.
    fn refresh(&self, old: &Arc<StepRecord>, new: StepRecord) -> Result<(), StoreError> {
        let Ok(Some(_lock)) = self.state.try_lock_step(&new.step) else { return Ok(()) };
        if self.peek(&new.step)?.as_ref() == Some(old) {
            self.write(new)?;
        }
        Ok(())
    }

    pub fn write(&self, record: StepRecord) -> Result<Arc<StepRecord>, StoreError> {
        self.state.write_record(&record)?;
        let record = Arc::new(record);
        self.lock().insert(record.step.clone(), record.clone());
        Ok(record)
    }

    pub fn remove(&self, step: &StepId) -> Result<(), StoreError> {
        self.state.remove_record(step)?;
        self.lock().remove(step);
        Ok(())
    }

    pub fn all(&self) -> Vec<Arc<StepRecord>> {
        self.lock().values().cloned().collect()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store's answer to an action: one that holds anywhere, or one that holds for this workspace alone. The
/// action is then the one that was answered.
pub enum Answer {
    Hit(Action, Box<ActionResult>),
    Miss(Permit),
}

/// What runs were found to have read joins a base action set by set, each file as it is now. `is_exclusive` is
/// asked only where there is no better answer.
pub fn answer(
    store: &Store,
    bench: &Workbench,
    step: &Step,
    action: &Action,
    is_exclusive: &dyn Fn() -> bool,
) -> Result<Answer, StoreError> {
    if !step.discovers() {
        return answer_to(store, bench.graph, step, action, is_exclusive);
    }
    let key = action.key();
    for set in store.path_sets(&key)? {
        // What can't be digested answers to nothing.
        let names = set.iter().map(String::as_str);
        let Ok(found) = discovered::components(bench.files, &bench.graph.root, names) else { continue };
        if let hit @ Answer::Hit(..) = answer_to(store, bench.graph, step, &action.with(found), is_exclusive)? {
            return Ok(hit);
        }
    }
    Ok(Answer::Miss(store.replace(&key)))
}

fn answer_to(
    store: &Store,
    graph: &Graph,
    step: &Step,
    action: &Action,
    is_exclusive: &dyn Fn() -> bool,
) -> Result<Answer, StoreError> {
    let look = |key: &ActionKey| match store.lookup(key)? {
        Lookup::Hit(result) if !is_of(graph, step, &result.made) => store.refuse(key).map(Lookup::Miss),
        other => Ok(other),
    };
    let mut permit = match look(&action.key())? {
        Lookup::Hit(result) => return Ok(Answer::Hit(action.clone(), result)),
        Lookup::Miss(permit) => permit,
    };
    let bound = action.bound_to(&graph.root, &step.id);
    let others = std::iter::once(bound).chain(std::iter::once_with(|| action.exclusive()).filter(|_| is_exclusive()));
    for other in others {
        match look(&other.key())? {
            Lookup::Hit(result) => return Ok(Answer::Hit(other, result)),
            Lookup::Miss(of_other) => permit = permit.after(&of_other),
        }
    }
    Ok(Answer::Miss(permit))
}

/// Are these what the step makes? A result under its key says that whoever wrote it had the key, and a path that is
/// none of the step's outputs may be anybody's.
fn is_of(graph: &Graph, step: &Step, made: &Made) -> bool {
    let paths: Vec<PathBuf> = made.outputs.entries().iter().map(|entry| graph.root.join(&entry.path)).collect();
    let is_declared = |path: &PathBuf| step.outputs.iter().any(|output| output.pattern.covers(path));
    let is_there = |output: &OutputPattern| output.optional || paths.iter().any(|path| output.pattern.covers(path));
    let shared = step.sysroot.map_or(&[][..], |prefix| &graph.prefix(prefix).shared_files);
    paths.iter().all(is_declared)
        && step.outputs.iter().all(is_there)
        && made.layer.is_some() == step.sysroot.is_some()
        && made.shared.iter().all(|file| shared.contains(&file.path))
}

impl Build<'_> {
    /// The store's answer. What it had and nobody may use is told of.
    pub(super) fn answer(&self, step: &Step, judged: &Judged) -> Result<Answer, StepError> {
        let answer = answer(self.store, self.bench, step, &judged.assembled.action, &|| self.is_exclusive(step))?;
        if let Answer::Miss(permit) = &answer
            && permit.has_dropped()
        {
            let text = format!("what the cache had for {} was damaged, or is not what it makes: dropped", step.id);
            self.listener.on(Event::Warning { text });
        }
        Ok(answer)
    }
}

/// An action, and whether what lies here answers it.
pub struct Judged {
    pub assembled: Assembled,
    pub record: Option<Arc<StepRecord>>,
    /// `Err`: the reasons why not.
    pub fresh: Result<Arc<Made>, Vec<Reason>>,
}

pub struct Judge<'a> {
    pub bench: &'a Workbench<'a>,
    /// As in the graph.
    pub prefixes: &'a [Prefix<'a>],
    pub relocation: &'a Relocation,
    pub state: &'a State,
    pub records: &'a Records<'a>,
    pub results: &'a Results,
    pub views: &'a Views,
}

impl Judge<'_> {
    fn graph(&self) -> &Graph {
        self.bench.graph
    }

    pub fn assemble(&self, ix: StepIx) -> Result<Assembled, AssembleError> {
        let produced = |step: StepIx| self.results.get(step).map(|made| (step, made));
        let needs: Vec<(StepIx, Arc<Made>)> = self.graph().flat_needs(ix).into_iter().filter_map(produced).collect();
        let layers: Vec<(StepIx, Arc<Made>)> =
            self.graph().step(ix).layers.iter().copied().filter_map(produced).collect();
        let producers = |list: &[(StepIx, Arc<Made>)], act: &mut dyn FnMut(&[Producer])| {
            let list: Vec<Producer> = list.iter().map(|(step, made)| Producer { step: *step, made }).collect();
            act(&list);
        };
        let mut assembled = None;
        producers(&needs, &mut |needs| {
            producers(&layers, &mut |layers| assembled = Some(self.bench.assemble(ix, needs, layers)))
        });
        assembled.expect("BUG: it was called")
    }

    /// Assembles the action and compares it, the record and the disk.
    pub fn judge(
        &self,
        ix: StepIx,
        record: Option<Arc<StepRecord>>,
        forced: Option<&str>,
    ) -> Result<Judged, JudgeError> {
        let assembled = self.assemble(ix)?;
        let step = self.graph().step(ix);
        if step.class == Class::Fixed {
            return self.judge_fixed(step, assembled, record, forced);
        }
        let fresh = self.compare(step, &assembled.action, record.as_ref(), forced)?;
        Ok(Judged { assembled, record, fresh })
    }

    /// The same for an action that is known already.
    pub fn compare(
        &self,
        step: &Step,
        action: &Action,
        record: Option<&Arc<StepRecord>>,
        forced: Option<&str>,
    ) -> Result<Result<Arc<Made>, Vec<Reason>>, JudgeError> {
        let action = &*self.like_recorded(step, action, record)?;
        let disk = match record {
            Some(record) if forced.is_none() && record.origin != Origin::Begun && record.key == action.key() => {
                self.disk(step, record)?
            }
            _ => Disk::Intact,
        };
        let evidence = Evidence { record: record.map(|r| &**r), disk: &disk, forced };
        Ok(freshness(action, &evidence).map(|()| {
            let made = record.and_then(|r| r.made.clone());
            Arc::new(made.expect("BUG: a fresh step has a result"))
        }))
    }

    /// The action with what only the record says: which files a run has read, as they are now; that the result holds
    /// the path of the workspace, so that it is fresh in no other; that it was made in the prefixes themselves, so
    /// that it is fresh only where there are no views.
    fn like_recorded<'a>(
        &self,
        step: &Step,
        action: &'a Action,
        record: Option<&Arc<StepRecord>>,
    ) -> Result<Cow<'a, Action>, FileError> {
        let (root, mut action) = (&self.graph().root, Cow::Borrowed(action));
        let Some(record) = record else { return Ok(action) };
        if step.discovers() {
            let found = discovered::components(self.bench.files, root, record.action.discovered())?;
            action = Cow::Owned(action.with(found));
        }
        if record.action.is_bound() {
            action = Cow::Owned(action.bound_to(root, &step.id));
        }
        if record.action.is_exclusive() && self.views.is_exclusive() {
            action = Cow::Owned(action.exclusive());
        }
        Ok(action)
    }

    /// Are the files there with their sums, and with the modes in which they were made where that is known?
    fn judge_fixed(
        &self,
        step: &Step,
        assembled: Assembled,
        record: Option<Arc<StepRecord>>,
        forced: Option<&str>,
    ) -> Result<Judged, JudgeError> {
        let mut reasons: Vec<Reason> = forced.map(|by| Reason::Forced { by: by.to_owned() }).into_iter().collect();
        let key = self.like_recorded(step, &assembled.action, record.as_ref())?.key();
        let recorded = record.as_ref().filter(|record| record.origin != Origin::Begun && record.key == key);
        for output in &step.outputs {
            let path = output.pattern.shown.clone();
            match self.bench.files.sha256(&output.pattern.path)? {
                None => reasons.push(Reason::OutputMissing { path }),
                Some(sum) if Some(&sum) != output.sha256.as_ref() => reasons.push(Reason::OutputModified { path }),
                Some(_) if self.has_another_mode(recorded, &output.pattern.path)? => {
                    reasons.push(Reason::OutputModified { path });
                }
                Some(_) => {}
            }
        }
        let fresh = if reasons.is_empty() {
            Ok(Arc::new(fixed_made(self.bench.files, self.graph(), step)?))
        } else {
            Err(reasons)
        };
        Ok(Judged { assembled, record, fresh })
    }

    /// Has somebody changed the mode of a file since the run or restore that this is the record of?
    fn has_another_mode(&self, record: Option<&Arc<StepRecord>>, path: &Path) -> Result<bool, FileError> {
        let inner = path.strip_prefix(&self.graph().root).unwrap_or(path);
        let made = record.and_then(|record| record.made.as_ref());
        let Some(Node::File { mode, .. }) = made.and_then(|made| made.outputs.get(inner)) else { return Ok(false) };
        Ok(self.bench.files.observe(path)?.stat.is_some_and(|stat| stat.mode != *mode))
    }

    /// Are the outputs and the installed files the recorded ones? Young stamps are looked behind.
    pub(super) fn disk(&self, step: &Step, record: &Arc<StepRecord>) -> Result<Disk, JudgeError> {
        let Some(made) = &record.made else { return Ok(Disk::Missing(String::new())) };
        if let Some(dir) = no_longer_plain(self.graph(), step, &made.outputs)? {
            return Ok(Disk::Modified(self.graph().shown(&dir)));
        }
        let mut refreshed: Vec<Seen> = Vec::with_capacity(record.outputs.len());
        let mut changed = false;
        for (i, entry) in made.outputs.entries().iter().enumerate() {
            let path = self.graph().root.join(&entry.path);
            let seen = record.outputs.get(i);
            match look(self.bench.files, &path, entry, seen)? {
                Ok(now) => {
                    changed |= Some(&now) != seen;
                    refreshed.push(now);
                }
                Err(Gone::Missing) => return Ok(Disk::Missing(escaped(&entry.path))),
                Err(Gone::Other) => return Ok(Disk::Modified(escaped(&entry.path))),
            }
        }
        for output in &step.outputs {
            if let Some(path) = strays(self.bench.files, self.graph(), output, &[&made.outputs])?.first() {
                return Ok(Disk::Stray(self.graph().shown(path)));
            }
        }
        if let (Some(_), Some(prefix)) = (&made.layer, step.sysroot) {
            let prefix = &self.prefixes[prefix.index()];
            // Never put there, or elsewhere than it is now.
            let Some(layer) = self.relocation.seen(self.state, made)? else {
                return Ok(Disk::Missing(self.graph().shown(prefix.dir())));
            };
            if let Some(damage) = prefix.damage(&step.id, &layer)? {
                let shown = self.graph().shown(&damage);
                let missing = Stat::read(&damage).is_ok_and(|s| s.is_none());
                return Ok(if missing { Disk::Missing(shown) } else { Disk::Modified(shown) });
            }
        }
        if changed {
            self.records.refresh(record, StepRecord { outputs: refreshed, ..StepRecord::clone(record) })?;
        }
        Ok(Disk::Intact)
    }
}

pub(super) enum Gone {
    Missing,
    Other,
}

/// Is the entry there as it was left? Gives how it is seen now.
fn look(files: &Files, path: &Path, entry: &Entry, seen: Option<&Seen>) -> Result<Result<Seen, Gone>, JudgeError> {
    let stat = Stat::read(path).map_err(|error| FileError::Read { path: path.to_owned(), error })?;
    match stat {
        Some(stat) => look_behind(files, path, stat, entry, seen),
        None => Ok(Err(Gone::Missing)),
    }
}

/// The same where its stat record is known.
pub(super) fn look_behind(
    files: &Files,
    path: &Path,
    stat: Stat,
    entry: &Entry,
    seen: Option<&Seen>,
) -> Result<Result<Seen, Gone>, JudgeError> {
    if let Some(seen) = seen.filter(|s| s.settled && s.stat == stat) {
        return Ok(Ok(*seen));
    }
    let is_alike = match &entry.node {
        Node::Dir { mode } => stat.kind == Kind::Dir && stat.mode == *mode,
        Node::File { mode, size, .. } => stat.kind == Kind::File && stat.mode == *mode && stat.size == *size,
        Node::Symlink { .. } => stat.kind == Kind::Symlink,
    };
    if !is_alike {
        // Not to be read, perhaps: a pipe, or somebody has taken the permission away.
        return Ok(Err(Gone::Other));
    }
    let observation = files.observe(path)?;
    let same = match &entry.node {
        Node::Dir { .. } => true,
        Node::File { digest, .. } => observation.digest == Some(*digest),
        Node::Symlink { target } => observation.digest == Some(link_digest(target)),
    };
    let now = observation.stat.map(|stat| Seen { stat, settled: observation.settled });
    Ok(if same { now.ok_or(Gone::Missing) } else { Err(Gone::Other) })
}

/// What a step with fixed outputs made, as its dependents see it.
pub fn fixed_made(files: &Files, graph: &Graph, step: &Step) -> Result<Made, FileError> {
    let mut entries = Vec::with_capacity(step.outputs.len());
    for output in &step.outputs {
        let seen = files.observe(&output.pattern.path)?;
        if let (Some(stat), Some(digest)) = (seen.stat, seen.digest) {
            let path = output.pattern.path.strip_prefix(&graph.root).unwrap_or(&output.pattern.path).to_owned();
            entries.push(Entry { path, node: Node::File { mode: stat.mode, size: stat.size, digest } });
        }
    }
    Ok(Made { outputs: Tree::new(entries), ..Made::default() })
}
