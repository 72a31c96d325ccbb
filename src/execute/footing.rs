//! What lies on disk of a step's needs when it runs, and whether it stays so.
//!
//! A key says what the needs *made*; the commands read what *lies there*. Between the two anybody can edit an output: while
//! another step runs, or while this one does; and so can a step that changes what is not its own. So before a run the outputs
//! of all direct needs are compared with what was made: what differs is done again first (restored, as a rule), and of a
//! need that always runs what lies there is what it made. After the run they are compared with that look, by their stat
//! records, so that what was changed and put back is seen too: then the result is kept here, and not stored.
//!
//! Layers are not looked at: views hold copies that nobody else writes to, and where there are no views
//! [`crate::store::StandIn`] looks.
//!
//! A hard link that is made to an output, or removed, is no change of it, as long as its bytes are the same. Of directories
//! the stat record counts, so one in which the step itself puts something is changed. What comes and goes behind a glob is not
//! noticed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::action::{Made, Seen};
use crate::base::ids::StepIx;
use crate::base::stat::{Stat, is_untouched};
use crate::fingerprint::files::FileError;
use crate::graph::{Class, Step};

use super::build::{Build, StepError};
use super::judging::{JudgeError, look_behind};
use super::ownership::{no_longer_plain, strays};
use super::scheduler::{Attempt, Wait};

/// So often a step's needs are put right before it runs with what lies there: somebody may be at them all the time.
const MOST_TIMES: u32 = 3;

/// How often needs were put right, by the step that needs them.
pub(super) type PutRight = Mutex<HashMap<StepIx, u32>>;

/// What came of the look before a run.
pub(super) enum Ground {
    Firm(Footing),
    /// What lies there of this need is not what it made.
    Undone(StepIx),
    /// A need that always runs made what lies there now: the step has another key.
    Taken,
}

/// The outputs of a step's needs as they lay there before its run.
#[derive(Default)]
pub(super) struct Footing {
    needs: Vec<Underfoot>,
    /// What was not as it should be, however often it was put right.
    astray: Option<PathBuf>,
}

struct Underfoot {
    need: StepIx,
    made: Arc<Made>,
    /// One for each entry of its outputs.
    entries: Vec<Lying>,
    /// Directories in outputs that need no entry, and outputs that were not made.
    others: Vec<(PathBuf, Option<Stat>)>,
}

#[derive(Clone, Copy)]
struct Lying {
    seen: Seen,
    names: u64,
}

impl Build<'_> {
    /// With shares in the locks of the step's needs: is what lies there what they made?
    pub(super) fn ground(&self, ix: StepIx) -> Result<Ground, StepError> {
        let mut footing = Footing::default();
        for need in self.graph.flat_needs(ix) {
            let Some(made) = self.results.get(need) else { continue };
            match self.underfoot(need, made)? {
                Ok(underfoot) => footing.needs.push(underfoot),
                Err(_) if self.times_put_right(ix, 0) < MOST_TIMES => {
                    if self.graph.step(need).class != Class::Plain {
                        return Ok(Ground::Undone(need));
                    }
                    self.times_put_right(ix, 1);
                    self.results.set(need, Arc::new(self.plain_snapshot(need)?.made));
                    return Ok(Ground::Taken);
                }
                Err(path) => footing.astray = Some(path),
            }
        }
        Ok(Ground::Firm(footing))
    }

    /// Does the need again; its dependent is tried again after that. Who can't have it yet has not tried.
    pub(super) fn put_right(&self, ix: StepIx, need: StepIx) -> Result<Attempt, StepError> {
        let attempt = self.try_need(need)?;
        if attempt != Attempt::Done {
            return Ok(attempt);
        }
        self.times_put_right(ix, 1);
        Ok(Attempt::Later(Wait::Token))
    }

    fn times_put_right(&self, ix: StepIx, more: u32) -> u32 {
        let mut times = self.tally.put_right.lock().unwrap_or_else(PoisonError::into_inner);
        let times = times.entry(ix).or_default();
        *times += more;
        *times
    }

    /// The outputs of one need; `Err`: a path that is not as it was made.
    fn underfoot(&self, need: StepIx, made: Arc<Made>) -> Result<Result<Underfoot, PathBuf>, StepError> {
        let (step, root) = (self.graph.step(need), &self.graph.root);
        if let Some(dir) = no_longer_plain(self.graph, step, &made.outputs)? {
            return Ok(Err(dir));
        }
        let record = self.records.get(&step.id).filter(|_| step.class == Class::Cached);
        let known = record.as_ref().filter(|r| r.made.as_ref().is_some_and(|m| m.outputs == made.outputs));
        let known = known.map_or(&[][..], |record| &record.outputs);
        let mut entries = Vec::with_capacity(made.outputs.entries().len());
        for (i, entry) in made.outputs.entries().iter().enumerate() {
            let path = root.join(&entry.path);
            let Some((stat, names)) = read_with_names(&path)? else { return Ok(Err(path)) };
            match look_behind(self.bench.files, &path, stat, entry, known.get(i)) {
                Ok(Ok(seen)) => entries.push(Lying { seen, names }),
                Ok(Err(_)) | Err(JudgeError::File(FileError::Unstable { .. })) => return Ok(Err(path)),
                Err(error) => return Err(error.into()),
            }
        }
        for output in &step.outputs {
            if let Some(stray) = strays(self.bench.files, self.graph, output, &[&made.outputs])?.into_iter().next() {
                return Ok(Err(stray));
            }
        }
        let others = self.others(step, &made)?;
        Ok(Ok(Underfoot { need, made, entries, others }))
    }

    /// What has no entry and counts all the same.
    fn others(&self, step: &Step, made: &Made) -> Result<Vec<(PathBuf, Option<Stat>)>, StepError> {
        let mut known: HashSet<&Path> = HashSet::new();
        let mut others = Vec::new();
        for entry in made.outputs.entries() {
            for dir in entry.path.ancestors().skip(1).take_while(|dir| known.insert(dir)) {
                let full = self.graph.root.join(dir);
                if made.outputs.get(dir).is_none() && step.outputs.iter().any(|o| o.pattern.covers(&full)) {
                    others.push(full);
                }
            }
        }
        let plain = step.outputs.iter().filter(|output| !output.pattern.is_glob()).map(|o| &o.pattern.path);
        let is_made = |path: &&PathBuf| {
            let inner = path.strip_prefix(&self.graph.root).unwrap_or(path);
            made.outputs.get(inner).is_some() || made.outputs.holds_below(inner)
        };
        others.extend(plain.filter(|path| !is_made(path)).cloned());
        others.into_iter().map(|path| Ok((stat_of(&path)?, path)).map(|(stat, path)| (path, stat))).collect()
    }

    /// After the run: the first path that is not as it was before it.
    pub(super) fn astray(&self, footing: &Footing) -> Result<Option<PathBuf>, StepError> {
        if footing.astray.is_some() {
            return Ok(footing.astray.clone());
        }
        for Underfoot { need, made, entries, others } in &footing.needs {
            for (path, before) in others {
                if stat_of(path)? != *before {
                    return Ok(Some(path.clone()));
                }
            }
            for (entry, before) in made.outputs.entries().iter().zip(entries) {
                let path = self.graph.root.join(&entry.path);
                let Some((stat, names)) = read_with_names(&path)? else { return Ok(Some(path)) };
                if !is_untouched((before.seen.stat, before.names), (stat, names)) {
                    return Ok(Some(path));
                }
                // Its bytes are looked at where the stat record could have stayed the same.
                if !matches!(look_behind(self.bench.files, &path, stat, entry, Some(&before.seen)), Ok(Ok(_))) {
                    return Ok(Some(path));
                }
            }
            // Behind globs; in directories it has shown already.
            let outputs = &self.graph.step(*need).outputs;
            for output in outputs.iter().filter(|output| output.pattern.is_glob()) {
                if let Some(path) = strays(self.bench.files, self.graph, output, &[&made.outputs])?.into_iter().next() {
                    return Ok(Some(path));
                }
            }
        }
        Ok(None)
    }
}

fn read_with_names(path: &Path) -> Result<Option<(Stat, u64)>, StepError> {
    Ok(Stat::read_with_names(path).map_err(|error| unreadable(path, error))?)
}

fn stat_of(path: &Path) -> Result<Option<Stat>, StepError> {
    Ok(Stat::read(path).map_err(|error| unreadable(path, error))?)
}

fn unreadable(path: &Path, error: std::io::Error) -> JudgeError {
    FileError::Read { path: path.to_owned(), error }.into()
}
