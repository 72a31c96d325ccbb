//! The commands of a step, started and followed to their end.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::event::{Event, Stream};
use crate::fingerprint::assemble::Assembled;
use crate::graph::{Class, Command, JOBS_MARKER, Step};

use super::build::{Build, StepError};
use super::cargo::Messages;
use super::jobserver::{Style, Tokens};
use super::runner::{self, Finished, Job};
use super::style;
use super::terminal;
use super::view::View;

impl Build<'_> {
    pub(super) fn commands(
        &self,
        step: &Step,
        assembled: &Assembled,
        view: Option<&View>,
        attached: bool,
        last: Option<Duration>,
        tokens: &Tokens,
    ) -> Result<Finished, StepError> {
        let cargo = self.begin_cargo(step, assembled)?;
        let argv = |command: &Command| argv(command, tokens.count());
        let commands: Vec<Vec<OsString>> = match &cargo {
            Some(cargo) => cargo.commands(self, step, argv),
            None => step.commands.iter().map(argv).map(|words| in_target_dir(step, words)).collect(),
        };
        let messages = cargo.as_ref().map(|cargo| cargo.messages(self, step));
        let hear = |stream: Stream, line: &[u8]| messages.as_ref().and_then(|messages| messages.hear(stream, line));
        let style = style::choose(step, assembled, self.bench);
        let secrets = crate::fingerprint::env::secret_values(step, self.bench.outside);
        let id = step.id.clone();
        let stream = |stream: Stream, bytes: &[u8]| {
            self.listener.on(Event::Output { step: id.clone(), stream, bytes: Arc::from(bytes) })
        };
        // What is stored must not depend on who looks on: such a step runs as in a build, and is only heard.
        let is_relayed = attached && step.class != Class::Plain;
        let relay = |stream: Stream, bytes: &[u8]| terminal::relay(stream, bytes);
        let log = self.state.log_path(&step.id);
        let job = Job {
            commands: &commands,
            cwd: &step.cwd,
            env: &assembled.environment,
            view,
            timeout: step.timeout,
            jobserver: style.map(|style: Style| (tokens.jobserver(), style)),
            attached: attached && !is_relayed,
            measure: step.class != Class::Plain && last.is_some_and(|d| d > Duration::from_secs(1)),
            secrets: &secrets,
            log: &log,
            on_output: match (is_relayed, self.options.verbose) {
                (true, _) => Some(&relay),
                (false, true) => Some(&stream),
                (false, false) => None,
            },
            translate: if cargo.is_some() { Some(&hear) } else { None },
            helper: None,
        };
        self.watch.begin().map_err(StepError::Watch)?;
        self.tally.running.fetch_add(1, Ordering::SeqCst);
        let finished = runner::run(&job, self.cancel);
        self.bench.git.has_run();
        self.tally.running.fetch_sub(1, Ordering::SeqCst);
        let mut finished = finished?;
        finished.rules = messages.as_ref().map(Messages::rules_of_units).unwrap_or_default();
        finished.built = messages.map(Messages::built).unwrap_or_default();
        if let Some(cargo) = cargo {
            finished.trust = cargo.end(&finished.ending)?;
        }
        Ok(finished)
    }

    /// A command with its own `-j` takes more of the machine than its share.
    pub(super) fn warn_own_jobs(&self, step: &Step) {
        for command in &step.commands {
            if let Some(word) = style::own_jobs(command) {
                let text = format!(
                    "{}: `{word}` brings its own -j: without it the jobserver shares the cores among all steps",
                    step.id
                );
                self.listener.on(Event::Warning { text });
            }
        }
    }
}

/// What always runs builds where the cached step builds too.
fn in_target_dir(step: &Step, mut words: Vec<OsString>) -> Vec<OsString> {
    if let Some(cargo) = &step.cargo {
        words.splice(2..2, ["--target-dir".into(), cargo.target_dir.clone().into()]);
    }
    words
}

fn argv(command: &Command, jobs: usize) -> Vec<OsString> {
    let fill = |text: &str| OsString::from(text.replace(JOBS_MARKER, &jobs.to_string()));
    match command {
        Command::Shell(text) => vec!["sh".into(), "-eu".into(), "-c".into(), fill(text)],
        Command::Argv(words) => words.iter().map(|w| fill(w)).collect(),
    }
}
