//! Reasons in words: what a digest can't say is looked up, such as which files of a need differ.

use crate::action::{Component, Kind, Made, StepRecord};
use crate::base::digest::Digest;
use crate::base::paths::escaped;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::event::Why;
use crate::graph::Graph;
use crate::plan::Reason;
use crate::store::State;

use super::judging::Results;

const FORMAT: Format = Format { magic: b"bc-made\n", version: 2 };
/// Names of files that are listed.
const NAMED: usize = 3;

pub struct Explainer<'a> {
    pub graph: &'a Graph,
    pub results: &'a Results,
    pub state: &'a State,
}

/// Keeps what a step made under its digest, so that a later change of it can be told file by file.
pub fn remember(state: &State, made: &Made) -> std::io::Result<()> {
    let path = place(state, &made.digest());
    if path.exists() { Ok(()) } else { publish(&path, &FORMAT.seal(made)) }
}

fn place(state: &State, digest: &Digest) -> std::path::PathBuf {
    state.dir().join("made").join(digest.to_string())
}

/// Forgets what no record refers to any more.
pub fn forget_unused(state: &State, records: &[StepRecord]) {
    let used: std::collections::HashSet<String> = records
        .iter()
        .flat_map(|r| &r.action.components)
        .filter(|c| matches!(c.kind, Kind::Need | Kind::Layer))
        .map(|c| c.digest.to_string())
        .collect();
    let Ok(entries) = std::fs::read_dir(state.dir().join("made")) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().to_str().is_none_or(|n| !used.contains(n))) {
        // It is a memory aid: one too many does no harm.
        let _ = std::fs::remove_file(entry.path());
    }
}

impl Explainer<'_> {
    pub fn explain(&self, reasons: &[Reason], _old: Option<&StepRecord>) -> Vec<Why> {
        reasons
            .iter()
            .map(|reason| Why { code: reason.code(), text: reason.sentence(self.detail(reason).as_deref()) })
            .collect()
    }

    /// Which files of a need or layer are different.
    fn detail(&self, reason: &Reason) -> Option<String> {
        let Reason::Changed { old, new } = reason else { return None };
        if !matches!(new.kind, Kind::Need | Kind::Layer) {
            return None;
        }
        let before = self.recall(old)?;
        let after = self.current(new)?;
        let outputs = before.outputs.changes(&after.outputs).into_iter().map(|(path, _)| escaped(path));
        let (old_layer, new_layer) =
            (before.layer.clone().unwrap_or_default(), after.layer.clone().unwrap_or_default());
        let installed = old_layer.changes(&new_layer).into_iter().map(|(path, _)| escaped(path));
        let names: Vec<String> = outputs.chain(installed).collect();
        let more = names.len().saturating_sub(NAMED);
        let mut text = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        (!names.is_empty()).then_some(text)
    }

    fn recall(&self, component: &Component) -> Option<Made> {
        let bytes = std::fs::read(place(self.state, &component.digest)).ok()?;
        FORMAT.open(&bytes).ok()
    }

    fn current(&self, component: &Component) -> Option<Made> {
        let ix = self.graph.indices().find(|ix| self.graph.step(*ix).id.to_string() == component.name)?;
        self.results.get(ix).map(|made| Made::clone(&made))
    }
}
