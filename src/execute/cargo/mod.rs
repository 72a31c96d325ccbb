//! Steps that cargo builds: what is different about their runs.
//!
//! - Their sources are remembered in the target directory, and what cargo would not notice is cleaned ([`trust`]).
//! - Cargo's messages are understood ([`messages`]): they feed the progress line, and say where the programs are.
//! - The programs are copied from the target directory into the step's own output directory, each beside its place and
//!   renamed: whoever starts one meanwhile gets the old one or the new one, whole. So nothing is taken away before a run.
//! - What the dep-info of the programs names is read as a depfile.
//! - Steps that share a target directory run one after another: cargo itself would wait, and hold its tokens.

pub(super) mod messages;
pub(super) mod trust;
pub(super) mod units;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use messages::{Built, Messages};
pub use trust::Trust;
use trust::{Doubt, Surroundings};

use crate::action::{ActionKey, Origin, StepRecord};
use crate::base::digest::Hasher;
use crate::base::publish::temporary;
use crate::event::Event;
use crate::fingerprint::assemble::Assembled;
use crate::fingerprint::cargo::Sources;
use crate::fingerprint::discovered;
use crate::graph::{Cargo, Command, Step};
use crate::store::{KeyLock, remove_tree};

use super::build::{Build, StepError};
use super::judging::JudgeError;
use super::runner::{Ending, Finished};

/// A run of cargo that begins.
pub(super) struct Begun<'a> {
    pub cargo: &'a Cargo,
    pub sources: &'a Sources,
    trust: Trust,
}

impl Build<'_> {
    /// Nobody else builds in the target directory of the step. `None`: somebody does.
    pub(super) fn lock_target_dir(&self, step: &Step) -> Result<Option<Option<KeyLock>>, StepError> {
        let Some(cargo) = &step.cargo else { return Ok(Some(None)) };
        let mut hasher = Hasher::new("bcache cargo target directory 1");
        // One directory has one lock, by whatever links it is reached.
        let dir = &cargo.target_dir;
        let real = |above: &Path| Some(above.canonicalize().ok()?.join(dir.strip_prefix(above).ok()?));
        let dir = dir.ancestors().find_map(real).unwrap_or_else(|| dir.clone());
        hasher.bytes(dir.as_os_str().as_encoded_bytes());
        let lock = self.store.try_lock_key(&ActionKey(hasher.finish())).map_err(StepError::lock)?;
        Ok(lock.map(Some))
    }

    /// Looks at the sources and the target directory before a run; `None` where cargo has no part in it.
    pub(super) fn begin_cargo<'s>(
        &self,
        step: &'s Step,
        assembled: &'s Assembled,
    ) -> Result<Option<Begun<'s>>, StepError> {
        let (Some(cargo), Some(sources)) = (&step.cargo, &assembled.cargo) else { return Ok(None) };
        let read = self.records.get(&step.id).map(|record| self.read_by(&record)).transpose()?.unwrap_or_default();
        let run = trust::Run {
            step: step.id.to_string(),
            cargo,
            workspace: &sources.workspace,
            platforms: &sources.platforms,
            around: Surroundings::of(sources, &assembled.action, cargo, &self.graph.root),
            is_ours: cargo.target_dir.starts_with(self.state.dir()),
        };
        let trust = run
            .begin(trust::stats(sources.paths().chain(read)).into_iter())
            .map_err(StepError::write(&cargo.target_dir))?;
        Ok(Some(Begun { cargo, sources, trust }))
    }

    /// After a run that ended well and was kept.
    pub(super) fn remember_sources(&self, step: &Step, finished: &mut Finished) -> Result<(), StepError> {
        let (Some(trust), Some(cargo)) = (finished.trust.take(), &step.cargo) else { return Ok(()) };
        // Of one during which something moved it is not known what cargo saw.
        let record = self.records.get(&step.id).filter(|record| record.origin == Origin::Ran);
        let read = record.map(|record| self.read_by(&record)).transpose()?.unwrap_or_default();
        let stats = trust::stats(read.into_iter()).into_iter();
        let depfiles: Vec<PathBuf> = finished.built.iter().map(|built| built.depfile.clone()).collect();
        let tracked = discovered::named(&depfiles, &step.cwd).unwrap_or_default();
        trust
            .keep(stats, tracked.iter().map(|path| discovered::plain(path)))
            .map_err(StepError::write(&cargo.target_dir))
    }

    /// Cargo can't tell what it has read of needs that changed meanwhile, perhaps back to what they were: what it built is
    /// not believed.
    pub(super) fn distrust_if_astray(
        &self,
        step: &Step,
        assembled: &Assembled,
        finished: &mut Finished,
    ) -> Result<(), StepError> {
        if let (Some(_), Some(cargo), Some(sources)) = (&finished.astray, &step.cargo, &assembled.cargo) {
            finished.trust = None;
            let is_ours = cargo.target_dir.starts_with(self.state.dir());
            trust::distrust(cargo, is_ours, &sources.workspace).map_err(StepError::write(&cargo.target_dir))?;
        }
        Ok(())
    }

    /// Files outside of its packages that the recorded run has read.
    fn read_by(&self, record: &StepRecord) -> Result<Vec<PathBuf>, StepError> {
        let mut read = Vec::new();
        for name in record.action.discovered() {
            let Some(path) = discovered::path_of(&self.graph.root, name.trim_end_matches('/')) else { continue };
            if name.ends_with('/') {
                read.extend(discovered::below(self.bench.files, &path).map_err(JudgeError::from)?);
            } else if discovered::link_of(name).is_none() || path.is_symlink() {
                // Of a directory that `..` leaves nothing was read.
                read.push(discovered::plain(&path));
            }
        }
        Ok(read)
    }

    /// Puts the programs at their place; each that was there stays until the new one takes it.
    pub(super) fn publish_programs(&self, step: &Step, finished: &Finished) -> Result<(), StepError> {
        let Some(cargo) = &step.cargo else { return Ok(()) };
        if finished.built.is_empty() {
            let headline = format!("package `{}` has no program and no library of the kinds asked for", cargo.package);
            return Err(self.plain_failure(step, headline));
        }
        fs::create_dir_all(&cargo.out).map_err(StepError::write(&cargo.out))?;
        let mut names = Vec::new();
        for Built { path, .. } in &finished.built {
            let name = path.file_name().unwrap_or_default();
            copy_whole(path, &cargo.out.join(name), &self.state.dir().join("tmp")).map_err(StepError::write(path))?;
            names.push(name);
        }
        for entry in fs::read_dir(&cargo.out).map_err(StepError::write(&cargo.out))? {
            let entry = entry.map_err(StepError::write(&cargo.out))?;
            if !names.contains(&entry.file_name().as_os_str()) {
                remove_tree(&entry.path()).map_err(StepError::write(entry.path()))?;
            }
        }
        Ok(())
    }
}

impl<'a> Begun<'a> {
    /// What is run: distrusted packages are taken out of the target directory, then cargo builds.
    pub fn commands(&self, build: &Build, step: &Step, argv: impl Fn(&Command) -> Vec<OsString>) -> Vec<Vec<OsString>> {
        let mut commands = Vec::new();
        if let Some(clean) = self.clean_command() {
            let text = format!("{}: built anew, since cargo can't tell what changed there: {}", step.id, self.doubt());
            build.listener.on(Event::Note { text });
            commands.push(clean);
        }
        commands.extend(step.commands.iter().map(|command| {
            let mut words = argv(command);
            let ours: [OsString; 4] = [
                "--message-format".into(),
                "json-diagnostic-rendered-ansi".into(),
                "--target-dir".into(),
                self.cargo.target_dir.clone().into(),
            ];
            // After `cargo build`.
            words.splice(2..2, ours);
            words
        }));
        commands
    }

    fn clean_command(&self) -> Option<Vec<OsString>> {
        trust::clean_command(self.cargo, &self.trust.doubt, &self.sources.platforms)
    }

    fn doubt(&self) -> String {
        let Doubt::Packages(packages) = &self.trust.doubt else { return "everything".to_owned() };
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        match names.len() {
            0..=4 => names.join(", "),
            more => format!("{} and {} more", names[..3].join(", "), more - 3),
        }
    }

    pub fn messages<'b>(&'b self, build: &'b Build, step: &'b Step) -> Messages<'b> {
        let workspace = &self.sources.workspace;
        let local = workspace.packages.iter().map(|package| package.id.as_str()).collect();
        Messages::new(&step.id, self.cargo, &workspace.id, local, workspace.units, build.listener)
    }

    /// After the run: what cargo saw is to be remembered, unless it was stopped in the middle. After a good one it is given
    /// back, since what else was read is known later.
    pub fn end(self, ending: &Ending) -> Result<Option<Trust>, StepError> {
        let dir = &self.cargo.target_dir;
        self.trust.end().map_err(StepError::write(dir))?;
        match ending {
            Ending::Success => Ok(Some(self.trust)),
            // It is still there.
            Ending::Code { command: 0, .. } if self.clean_command().is_some() => Ok(None),
            Ending::Code { .. } => {
                self.trust.keep(std::iter::empty(), std::iter::empty()).map(|()| None).map_err(StepError::write(dir))
            }
            Ending::Signal { .. }
            | Ending::TimedOut
            | Ending::Cancelled
            | Ending::CannotStart { .. }
            | Ending::ViewLost { .. } => Ok(None),
        }
    }
}

/// A copy that is there whole or not at all.
fn copy_whole(from: &Path, to: &Path, tmp: &Path) -> io::Result<()> {
    fs::create_dir_all(tmp)?;
    let beside = tmp.join(temporary(to).file_name().unwrap_or_default());
    let copied = reflink_copy::reflink_or_copy(from, &beside)
        .and_then(|_| fs::set_permissions(&beside, fs::metadata(from)?.permissions()))
        .and_then(|()| fs::rename(&beside, to));
    if copied.is_err() {
        // Best effort: what stays behind is swept later.
        let _ = fs::remove_file(&beside);
    }
    copied
}
