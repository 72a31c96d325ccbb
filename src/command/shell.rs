//! `shell`: a shell, or a command, in the place of a step. What it needs is built before, as `build` would.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::Path;

use crate::base::ids::StepIx;
use crate::base::text::count;
use crate::cli::TaskName;
use crate::execute::enter::Visit;
use crate::exit::Exit;
use crate::graph::{Class, Selection};

use super::Context;
use super::error::CommandError;
use super::open::{Opened, check_prefixes, check_target_dirs, check_tools};

impl Context {
    pub(super) fn shell(&self, task: &TaskName, command: Vec<OsString>) -> Result<Exit, CommandError> {
        let workspace = self.workspace(std::slice::from_ref(task), None)?;
        self.open(&workspace, |opened| {
            let ix = one_step(opened, task)?;
            check_tools(opened)?;
            check_prefixes(opened)?;
            check_target_dirs(opened)?;
            let needs = opened.with_selection(needs_of(opened, ix));
            self.confirm(&needs)?;
            // To force the step means nothing here: it does not run.
            let options = self.build_options(opened, None)?;
            // Its `TERM` is none that a person could work with.
            let is_for_a_person = command.is_empty() && std::io::stdin().is_terminal();
            let term = self.outside.get("TERM").filter(|_| is_for_a_person);
            let set: Vec<(OsString, OsString)> =
                term.map(|term| ("TERM".into(), term.to_owned())).into_iter().collect();
            let command = if command.is_empty() { vec![self.own_shell()] } else { command };
            self.with_build(&needs, &options, |build| {
                let ended = self.run_build(&needs, build);
                if ended.has_done_something() {
                    let exit = self.finish(&needs, &ended);
                    if exit != Exit::Ok {
                        return Ok(exit);
                    }
                }
                Ok(match build.enter(ix, command, &set) {
                    Visit::Ended(0) => Exit::Ok,
                    Visit::Ended(code) => Exit::Command(code.clamp(1, 255) as u8),
                    Visit::Failed if build.tally.is_broken() => Exit::State,
                    Visit::Failed => Exit::StepFailed,
                    Visit::Interrupted => Exit::Interrupted,
                })
            })
        })
    }

    /// The person's, where it is one that can be started.
    fn own_shell(&self) -> OsString {
        let is_program = |shell: &&OsStr| Path::new(shell).is_absolute() && Path::new(shell).is_file();
        self.outside.get("SHELL").filter(is_program).unwrap_or(OsStr::new("/bin/sh")).to_owned()
    }
}

fn one_step(opened: &Opened, task: &TaskName) -> Result<StepIx, CommandError> {
    let usage = |text: String, help: String| Err(CommandError::Usage { text, help: Some(help) });
    let named = |steps: &mut dyn Iterator<Item = StepIx>| {
        let names: Vec<String> = steps.map(|ix| opened.graph.step(ix).id.to_string()).collect();
        format!("name one of: {}", names.join(", "))
    };
    let [ix] = opened.selection.named[..] else {
        let text = format!("`{}` has {}", task.task, count(opened.selection.named.len(), "target"));
        return usage(text, named(&mut opened.selection.named.iter().copied()));
    };
    if opened.graph.step(ix).class == Class::Group {
        let text = format!("`{}` is a group: it has no commands, and no place of its own", task.task);
        return usage(text, named(&mut opened.graph.flat_needs(ix).into_iter().take(8)));
    }
    Ok(ix)
}

/// All that the step needs, and not the step itself.
fn needs_of(opened: &Opened, ix: StepIx) -> Selection {
    let steps = opened.selection.steps.iter().copied().filter(|other| *other != ix).collect();
    Selection { named: opened.graph.flat_needs(ix), steps }
}
