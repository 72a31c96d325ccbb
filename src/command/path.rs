//! `path`: builds if needed, then says where the result is. For scripts: one line on stdout.
//!
//! A proof holds what the step can be asked for, so that a warm answer reads no manifest.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::ids::StepIx;
use crate::base::tree::Node;
use crate::cli::TaskName;
use crate::exit::Exit;

use super::Context;
use super::error::CommandError;
use super::open::Opened;

impl Context {
    pub(super) fn path(&self, task: &TaskName, output: Option<&Path>) -> Result<Exit, CommandError> {
        let names = std::slice::from_ref(task);
        let request = self.request(names)?;
        if let Some(answer) = self.proven(request.as_ref()) {
            let paths: Vec<PathBuf> = answer.outputs.iter().map(PathBuf::from).collect();
            // No or several answers are errors, and those are said by who has the graph.
            if let [path] = meant(&paths, output)[..] {
                self.still_fresh(answer);
                return self.answer_path(path);
            }
        }
        let workspace = self.workspace(names, None)?;
        self.open(&workspace, |opened| {
            let [ix] = opened.selection.named[..] else {
                let targets: Vec<String> =
                    opened.selection.named.iter().map(|ix| opened.graph.step(*ix).id.to_string()).collect();
                let text = format!("`{}` has several targets", task.task);
                return Err(CommandError::Usage { text, help: Some(format!("name one of: {}", targets.join(", "))) });
            };
            let built = self.build_opened(opened, None, request.as_ref())?;
            if built.exit != Exit::Ok {
                return Ok(built.exit);
            }
            self.answer_path(&one(opened, ix, output)?)
        })
    }

    fn answer_path(&self, path: &Path) -> Result<Exit, CommandError> {
        let mut line = path.as_os_str().as_bytes().to_vec();
        line.push(b'\n');
        self.answer(&line)
    }
}

/// What can be asked for where these steps were named: something only where it is one.
pub(super) fn outputs_of(opened: &Opened) -> Vec<OsString> {
    match opened.selection.named[..] {
        [ix] => candidates(opened, ix).into_iter().map(PathBuf::into_os_string).collect(),
        _ => Vec::new(),
    }
}

/// All that a step can be asked for: its outputs, for a glob what it has matched; of one that cargo builds, the programs; of
/// one that only installs, its prefix.
fn candidates(opened: &Opened, ix: StepIx) -> Vec<PathBuf> {
    let step = opened.graph.step(ix);
    let mut all: Vec<PathBuf> = Vec::new();
    for output in &step.outputs {
        // Of cargo's programs too it is not known before which there are.
        if output.pattern.is_glob() || step.cargo.is_some() {
            let made = opened.results.get(ix).map(|m| m.outputs.clone()).unwrap_or_default();
            let files = made.entries().iter().filter(|e| step.cargo.is_none() || !matches!(e.node, Node::Dir { .. }));
            all.extend(files.map(|e| opened.graph.root.join(&e.path)).filter(|p| output.pattern.covers(p)));
        } else {
            all.push(output.pattern.path.clone());
        }
    }
    if let Some(prefix) = step.sysroot.filter(|_| step.outputs.is_empty()) {
        all.push(opened.graph.prefix(prefix).path.clone());
    }
    all
}

/// Those that `--output` can mean; without it, all.
fn meant<'a>(all: &'a [PathBuf], wanted: Option<&Path>) -> Vec<&'a PathBuf> {
    all.iter().filter(|path| wanted.is_none_or(|wanted| path.ends_with(wanted))).collect()
}

/// The output that is meant.
fn one(opened: &Opened, ix: StepIx, wanted: Option<&Path>) -> Result<PathBuf, CommandError> {
    let step = opened.graph.step(ix);
    let all = candidates(opened, ix);
    let candidates = meant(&all, wanted);
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
