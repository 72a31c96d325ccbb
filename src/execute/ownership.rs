//! Whose is what lies in a step's outputs?
//!
//! A declared output belongs to its task whole: a directory with all that is in it, a glob with all that it
//! matches. What lies there and is in no record is a *stray*: who reads the directory would read it too, and
//! a clean build would not have it. So a step with a stray in its outputs is not fresh, and before
//! it is restored or run that is moved aside.
//!
//! Two globs of different tasks may meet. Whether they do is seen when one of them has matched a path that the other
//! matches too, and that is a failure: each step would take the path for its own, and put its own there at each build.
//!
//! A record can be older than the manifest: what it owned may have become another task's output, made by
//! that one since. Such a path is the step's no more.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::action::{Made, Seen, StepRecord};
use crate::base::stat::{Kind, Stat};
use crate::base::tree::{Entry, PLAIN_DIR, Tree};
use crate::fingerprint::files::{FileError, Files};
use crate::fingerprint::inputs::{Found, Walk};
use crate::graph::pattern::Pattern;
use crate::graph::{Graph, OutputPattern, Step};

use super::judging::JudgeError;

/// What is at the place of an output now.
pub fn matching(files: &Files, graph: &Graph, output: &OutputPattern) -> Result<Vec<PathBuf>, JudgeError> {
    if !output.pattern.is_glob() {
        let path = &output.pattern.path;
        return Ok(stat_of(path)?.map(|_| path.clone()).into_iter().collect());
    }
    let mut found = Found::new();
    Walk::for_outputs(files, graph).add(&output.pattern, &mut found).map_err(|e| JudgeError::Assemble(e.into()))?;
    Ok(found.into_keys().filter(|p| output.pattern.covers(p)).collect())
}

/// What lies in an output and is in none of the trees, or is there something else (a link where a file was made, say): the
/// outermost paths, in order.
pub fn strays(
    files: &Files,
    graph: &Graph,
    output: &OutputPattern,
    known: &[&Tree],
) -> Result<Vec<PathBuf>, JudgeError> {
    let search = Search { files, root: &graph.root, known };
    let mut found = Vec::new();
    let is_glob = output.pattern.is_glob();
    let paths = if is_glob { matching(files, graph, output)? } else { vec![output.pattern.path.clone()] };
    for path in paths {
        match stat_of(&path)? {
            Some(stat) => search.add(&path, stat.kind, &mut found)?,
            // An output that was not made, since it need not be: that it is absent is a fact.
            None => files.look(&path).map(drop)?,
        }
    }
    found.dedup_by(|inner, outer| inner.starts_with(outer));
    Ok(found)
}

struct Search<'a> {
    files: &'a Files,
    root: &'a Path,
    known: &'a [&'a Tree],
}

impl Search<'_> {
    fn is_known(&self, path: &Path, kind: Kind) -> bool {
        let Ok(inner) = path.strip_prefix(self.root) else { return false };
        self.known.iter().filter_map(|tree| tree.get(inner)).any(|node| node.kind() == kind)
    }

    fn add(&self, path: &Path, kind: Kind, found: &mut Vec<PathBuf>) -> Result<(), JudgeError> {
        let holds = path.strip_prefix(self.root).is_ok_and(|inner| self.known.iter().any(|t| t.holds_below(inner)));
        // What stands where a directory should be is no directory of ours.
        if !(self.is_known(path, kind) || holds && kind == Kind::Dir) {
            found.push(path.to_owned());
        } else if kind == Kind::Dir {
            for (name, kind) in self.files.list(path)?.iter() {
                self.add(&path.join(name), *kind, found)?;
            }
        }
        Ok(())
    }
}

/// The first of these paths that a glob among the outputs of another step matches too, and that step: which of both made
/// it can't be said, and each would take it for its own. Whether two globs meet is seen only by what they match.
pub fn other_owner<'g, 'p>(
    graph: &'g Graph,
    step: &Step,
    mut paths: impl Iterator<Item = &'p Path>,
) -> Option<(&'p Path, &'g Step)> {
    let globs = |step: &'g Step| step.outputs.iter().map(|o| &o.pattern).filter(|p| p.is_glob());
    let own: Vec<&Pattern> = step.outputs.iter().map(|o| &o.pattern).filter(|p| p.is_glob()).collect();
    let others = graph.steps.iter().filter(|other| other.id != step.id);
    let meeting: Vec<(&Pattern, &Step)> = others
        .flat_map(|other| globs(other).map(move |glob| (glob, other)))
        .filter(|(glob, _)| own.iter().any(|own| own.may_meet(glob)))
        .collect();
    if meeting.is_empty() {
        return None;
    }
    paths.find_map(|path| {
        let full = graph.root.join(path);
        meeting.iter().find(|(glob, _)| glob.covers(&full)).map(|(_, other)| (path, *other))
    })
}

/// The first directory in a step's outputs that needs no entry in its tree, since it is a plain one with something in it,
/// and that is not plain now. Absolute; the outermost first, since those below may be out of reach.
pub fn no_longer_plain(graph: &Graph, step: &Step, tree: &Tree) -> Result<Option<PathBuf>, JudgeError> {
    // Is it a directory, reached through directories only?
    let mut real: HashMap<&Path, bool> = HashMap::new();
    for entry in tree.entries() {
        let dirs: Vec<&Path> = entry.path.ancestors().skip(1).take_while(|dir| !real.contains_key(dir)).collect();
        for dir in dirs.into_iter().rev().filter(|dir| !dir.as_os_str().is_empty()) {
            let full = graph.root.join(dir);
            let is_reached = dir.parent().and_then(|above| real.get(above)).is_none_or(|is_real| *is_real);
            let stat = if is_reached { stat_of(&full)?.filter(|stat| stat.kind == Kind::Dir) } else { None };
            real.insert(dir, stat.is_some());
            let is_plain = stat.is_none_or(|stat| stat.mode == PLAIN_DIR);
            if !is_plain && tree.get(dir).is_none() && step.outputs.iter().any(|o| o.pattern.covers(&full)) {
                return Ok(Some(full));
            }
        }
    }
    Ok(None)
}

/// The record without the paths that are another step's outputs by now.
pub fn still_owned(graph: &Graph, step: &Step, record: Option<Arc<StepRecord>>) -> Option<Arc<StepRecord>> {
    let record = record?;
    let Some(made) = &record.made else { return Some(record) };
    let covers = |step: &Step, path: &Path| step.outputs.iter().any(|o| o.pattern.covers(path));
    let is_taken = |entry: &Entry| {
        let path = graph.root.join(&entry.path);
        !covers(step, &path) && graph.steps.iter().any(|other| other.id != step.id && covers(other, &path))
    };
    if !made.outputs.entries().iter().any(is_taken) {
        return Some(record);
    }
    let kept = made.outputs.entries().iter().zip(&record.outputs).filter(|(entry, _)| !is_taken(entry));
    let (entries, outputs): (Vec<Entry>, Vec<Seen>) = kept.map(|(entry, seen)| (entry.clone(), *seen)).unzip();
    let made = Made { outputs: Tree::new(entries), ..made.clone() };
    Some(Arc::new(StepRecord { made: Some(made), outputs, ..StepRecord::clone(&record) }))
}

fn stat_of(path: &Path) -> Result<Option<Stat>, JudgeError> {
    Stat::read(path).map_err(|error| FileError::Read { path: path.to_owned(), error }.into())
}
