//! What goes only with a working copy as the source, and what does not go with one.

use crate::base::span::SourceFile;
use crate::manifest::error::{Problem, place};
use crate::manifest::model::{BuildDir, Task};

use super::{Source, SourceFrom, Step};

/// A build directory to keep without one is a problem; patches with one are a warning.
pub(super) fn check(task: &Task, step: &Step, files: &[SourceFile]) -> (Option<Problem>, Option<String>) {
    let source = step.source.as_ref();
    let copy = source.filter(|source| matches!(source.from, SourceFrom::Path { .. }));
    let problem = match (task.build_dir, copy) {
        (BuildDir::Keep(span), None) => {
            let text = format!("`{}` can't keep its build directory: its source is no working copy", step.id.task);
            let problem = Problem::new("bcache::graph::build_dir", text, span).label("what survives edits needs edits");
            Some(problem.help(match source {
                Some(_) => "write `source = { path = … }`; any other source is unpacked anew for each run",
                None => "give it a `source = { path = … }`",
            }))
        }
        (BuildDir::Keep(_), Some(_)) | (BuildDir::Fresh, _) => None,
    };
    (problem, copy.and_then(|copy| patches(copy, step, files)))
}

fn patches(copy: &Source, step: &Step, files: &[SourceFile]) -> Option<String> {
    if copy.patches.is_empty() {
        return None;
    }
    let patches = copy.patches.iter().map(|patch| patch.shown.as_str()).collect::<Vec<_>>().join(", ");
    let at = place(files, copy.span);
    Some(format!("{at}: the source of `{}` is a working copy: not applied to it: {patches}", step.id.task))
}
