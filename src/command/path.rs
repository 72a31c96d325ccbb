//! `path`: builds if needed, then says where the result is. For scripts: one line on stdout.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::cli::TaskName;
use crate::exit::Exit;

use super::Context;
use super::error::CommandError;
use super::open::Opened;

impl Context {
    pub(super) fn path(&self, task: &TaskName, output: Option<&Path>) -> Result<Exit, CommandError> {
        let workspace = self.workspace(std::slice::from_ref(task), None)?;
        self.open(&workspace, |opened| {
            let [ix] = opened.selection.named[..] else {
                let targets: Vec<String> =
                    opened.selection.named.iter().map(|ix| opened.graph.step(*ix).id.to_string()).collect();
                let text = format!("`{}` has several targets", task.task);
                return Err(CommandError::Usage { text, help: Some(format!("name one of: {}", targets.join(", "))) });
            };
            let built = self.build_opened(opened, None, None)?;
            if built.exit != Exit::Ok {
                return Ok(built.exit);
            }
            let path = one(opened, ix, output)?;
            let mut line = path.as_os_str().as_bytes().to_vec();
            line.push(b'\n');
            self.answer(&line)
        })
    }
}

/// The output that is meant.
fn one(opened: &Opened, ix: crate::base::ids::StepIx, wanted: Option<&Path>) -> Result<PathBuf, CommandError> {
    let step = opened.graph.step(ix);
    let mut all: Vec<PathBuf> = Vec::new();
    for output in &step.outputs {
        if output.pattern.is_glob() {
            let made = opened.results.get(ix).map(|m| m.outputs.clone()).unwrap_or_default();
            let matching =
                made.entries().iter().map(|e| opened.graph.root.join(&e.path)).filter(|p| output.pattern.covers(p));
            all.extend(matching);
        } else {
            all.push(output.pattern.path.clone());
        }
    }
    if let Some(prefix) = step.sysroot.filter(|_| step.outputs.is_empty()) {
        all.push(opened.graph.prefix(prefix).path.clone());
    }
    let candidates: Vec<&PathBuf> = all.iter().filter(|p| wanted.is_none_or(|w| p.ends_with(w))).collect();
    match candidates[..] {
        [path] => Ok(path.clone()),
        [] => {
            let text = match wanted {
                Some(wanted) => format!("`{}` has no output `{}`", step.id, wanted.display()),
                None => format!("`{}` has no output", step.id),
            };
            Err(CommandError::Usage { text, help: None })
        }
        _ => {
            let names: Vec<String> = candidates.iter().map(|p| format!("--output {}", opened.graph.shown(p))).collect();
            let text = format!("`{}` has {} outputs", step.id, candidates.len());
            Err(CommandError::Usage { text, help: Some(format!("name one: {}", names.join(", "))) })
        }
    }
}
