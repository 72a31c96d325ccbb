//! The source of a step on behalf of a build: fetched, checked, unpacked, patched. Commands for that write into the
//! step's log; credentials of its address are in variables alone.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::base::paths::escaped;
use crate::base::url::Address;
use crate::fingerprint::assemble::Assembled;
use crate::fingerprint::env;
use crate::graph::{SourceFrom, Step};
use crate::store::remove_tree;

use super::build::{Build, StepError};
use super::runner::{self, Ending, Job};
use super::unpack;

impl Build<'_> {
    pub(super) fn unpack(&self, step: &Step, assembled: &Assembled) -> Result<(), StepError> {
        let source = step.source.as_ref().expect("BUG: only steps with a source are unpacked");
        if matches!(source.from, SourceFrom::Path { .. }) {
            return Ok(());
        }
        remove_tree(&source.dir).map_err(StepError::write(&source.dir))?;
        remove_tree(&source.dir.with_extension("unpack")).map_err(StepError::write(&source.dir))?;
        match &source.from {
            SourceFrom::Path { .. } => {}
            SourceFrom::Archive { path, sha256 } => {
                if let Some(expected) = sha256 {
                    self.check_sum(path, expected)?;
                }
                unpack::archive(path, &source.dir)?;
            }
            SourceFrom::Url { url, sha256 } => {
                let path = super::fetch::fetch(self.store, url, sha256)?;
                unpack::archive(&path, &source.dir)?;
            }
            SourceFrom::Git { url, rev } => self.unpack_commit(step, &Address::of(url), rev, &source.dir)?,
        }
        if !assembled.patches.is_empty() {
            self.patch(step, assembled, &source.dir)?;
        }
        Ok(())
    }

    fn check_sum(&self, archive: &Path, expected: &str) -> Result<(), StepError> {
        let found = self.bench.files.sha256(archive).map_err(super::judging::JudgeError::from)?;
        let found = found.unwrap_or_else(|| "no file".to_owned());
        if found != expected {
            return Err(
                unpack::UnpackError::Sum { archive: archive.to_owned(), found, expected: expected.to_owned() }.into()
            );
        }
        Ok(())
    }

    /// A command of ours on behalf of a step, with its output in the step's log.
    pub(super) fn aside_command(
        &self,
        step: &Step,
        command: Vec<OsString>,
        cwd: &Path,
        env: &[(OsString, OsString)],
        secrets: &[Vec<u8>],
    ) -> Result<runner::Finished, StepError> {
        let log = self.state.log_path(&step.id);
        let job = Job {
            commands: &[command],
            cwd,
            env,
            view: None,
            timeout: step.timeout,
            jobserver: None,
            attached: false,
            measure: false,
            secrets,
            log: &log,
            on_output: None,
            translate: None,
            helper: None,
        };
        self.watch.begin().map_err(StepError::Watch)?;
        let finished = runner::run(&job, self.cancel)?;
        if finished.ending == Ending::Cancelled { Err(StepError::Cancelled) } else { Ok(finished) }
    }

    pub(super) fn source_failure(
        &self,
        step: &Step,
        headline: String,
        command: Option<String>,
        finished: runner::Finished,
    ) -> StepError {
        let log = fs::read(self.state.log_path(&step.id)).unwrap_or_default();
        let failure = crate::event::Failure {
            headline,
            command,
            log: Arc::from(log),
            log_file: finished.log,
            advice: Vec::new(),
        };
        StepError::Failed { failure: Box::new(failure), took: finished.took }
    }

    fn patch(&self, step: &Step, assembled: &Assembled, source: &Path) -> Result<(), StepError> {
        let stamps = unpack::Stamps::take(source)?;
        let secrets = env::secret_values(step, self.bench.outside);
        for patch in &assembled.patches {
            let words = ["patch", "-p1", "--batch", "--forward", "--no-backup-if-mismatch", "-i"].map(Into::into);
            let command = words.into_iter().chain([patch.as_os_str().to_owned()]).collect::<Vec<_>>();
            let finished = self.aside_command(step, command, source, &outside_view(assembled), &secrets)?;
            if finished.ending != Ending::Success {
                let headline = format!("patch `{}` does not apply", self.graph.shown(patch));
                let command = Some(format!("patch -p1 -i {}", escaped(patch)));
                return Err(self.source_failure(step, headline, command, finished));
            }
        }
        Ok(stamps.settle(source)?)
    }
}

/// The environment of a step for a command that does not see what it sees.
fn outside_view(assembled: &Assembled) -> Vec<(OsString, OsString)> {
    let real = |dir: &Path| assembled.elsewhere.real(dir);
    let value = |name: &OsString, value: &OsString| match name.to_str() {
        Some("TMPDIR" | "HOME") => real(Path::new(value)).into(),
        Some("PATH") => {
            let dirs = std::env::split_paths(value).map(|dir| real(&dir));
            std::env::join_paths(dirs).unwrap_or_else(|_| value.clone())
        }
        _ => value.clone(),
    };
    assembled.environment.iter().map(|(name, text)| (name.clone(), value(name, text))).collect()
}
