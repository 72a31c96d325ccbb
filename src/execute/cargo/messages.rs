//! Cargo's messages: how far it is, what it has to say of the code, and what it has built.
//!
//! On stdout it prints one JSON object per line. Diagnostics are kept as cargo renders them, as if it had printed them on
//! stderr; the rest is taken out of the log. Its lines of progress stay in the log and are nothing that is shown once a step has
//! run: people have our progress line.

use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cargo_metadata::{Artifact, CrateType, Message, TargetKind};

use crate::base::ids::StepId;
use crate::event::{Event, Listener, Stream};
use crate::fingerprint::cargo::metadata::is_status;
use crate::graph::Cargo;

/// A file that cargo built and that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Built {
    /// Where cargo put it.
    pub path: PathBuf,
    /// Make's rule of what it was made from.
    pub depfile: PathBuf,
}

pub struct Messages<'a> {
    step: &'a StepId,
    cargo: &'a Cargo,
    /// The package, as messages name it.
    package: &'a str,
    /// All that it is made from and whose sources are local.
    local: Vec<&'a str>,
    listener: &'a dyn Listener,
    heard: Mutex<Heard>,
}

struct Heard {
    done: u32,
    total: u32,
    built: Vec<Built>,
    /// Of local packages, each file that a compiler made.
    units: Vec<PathBuf>,
}

impl<'a> Messages<'a> {
    /// Of a build of so many `units`.
    pub fn new(
        step: &'a StepId,
        cargo: &'a Cargo,
        package: &'a str,
        local: Vec<&'a str>,
        units: u32,
        listener: &'a dyn Listener,
    ) -> Self {
        let heard = Mutex::new(Heard { done: 0, total: units, built: Vec::new(), units: Vec::new() });
        Self { step, cargo, package, local, listener, heard }
    }

    /// Make's rules as the compiler wrote them. Cargo's own ones name files where they are behind their links.
    pub fn rules_of_units(&self) -> Vec<PathBuf> {
        let units = self.lock().units.clone();
        let mut rules: Vec<PathBuf> = units.iter().filter_map(|file| rule_of(file)).collect();
        rules.sort();
        rules.dedup();
        rules
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn built(self) -> Vec<Built> {
        self.heard.into_inner().unwrap_or_else(PoisonError::into_inner).built
    }

    /// What of a line belongs into the log, and as which stream.
    pub fn hear(&self, stream: Stream, line: &[u8]) -> Option<(Stream, Vec<u8>)> {
        if stream == Stream::Stderr {
            let is_progress = is_status(String::from_utf8_lossy(line).trim_end());
            return is_progress.then(|| (Stream::Stdout, line.to_owned()));
        }
        // Anything else is what a macro or a build script printed.
        let message: Message = line.starts_with(b"{\"").then(|| serde_json::from_slice(line).ok()).flatten()?;
        let text = match message {
            Message::CompilerMessage(message) => message.message.rendered.unwrap_or_default(),
            Message::CompilerArtifact(artifact) => {
                let is_local = self.local.contains(&artifact.package_id.repr.as_str());
                let files = artifact.filenames.iter().filter(|_| is_local).map(|path| path.as_std_path().to_owned());
                self.tell(|heard| {
                    heard.built.extend(self.wanted(&artifact));
                    heard.units.extend(files);
                });
                String::new()
            }
            Message::BuildScriptExecuted(_) => {
                self.tell(|_| ());
                String::new()
            }
            Message::BuildFinished(_) => String::new(),
            // The crate may learn new ones: they are nothing for the log.
            _ => String::new(),
        };
        Some((Stream::Stderr, text.into_bytes()))
    }

    fn tell(&self, note: impl FnOnce(&mut Heard)) {
        let mut heard = self.lock();
        note(&mut heard);
        heard.done += 1;
        heard.total = heard.total.max(heard.done);
        let (step, done, total) = (self.step.clone(), heard.done, heard.total);
        self.listener.on(Event::Progress { step, done, total });
    }

    /// The programs and libraries of the package that was asked for. A library for other crates alone is none of them, unless it is
    /// what was asked for.
    fn wanted(&self, artifact: &Artifact) -> Vec<Built> {
        let is = |kind: &TargetKind| artifact.target.kind.contains(kind);
        let is_for_crates = |kind: &CrateType| matches!(kind, CrateType::Lib | CrateType::RLib);
        let is_wanted = if artifact.package_id.repr != self.package || is(&TargetKind::Example) {
            false
        } else if is(&TargetKind::Bin) {
            self.cargo.wants_bin(&artifact.target.name)
        } else {
            let is_shared = !artifact.target.crate_types.iter().all(is_for_crates);
            let is_library = !is(&TargetKind::CustomBuild) && !is(&TargetKind::ProcMacro);
            is_library && self.cargo.wants_lib() && (is_shared || self.cargo.lib)
        };
        let files = artifact.filenames.iter().filter(|_| is_wanted).map(|path| path.as_std_path());
        let files = files.filter(|path| path.extension().is_none_or(|ending| ending != "rmeta"));
        // One of several kinds of a library, and of use to other crates alone.
        let files = files.filter(|path| self.cargo.lib || path.extension().is_none_or(|ending| ending != "rlib"));
        files.map(|path| Built { path: path.to_owned(), depfile: path.with_extension("d") }).collect()
    }
}

/// The rule beside a file that a compiler made, or beside the one that cargo has linked it from.
fn rule_of(file: &Path) -> Option<PathBuf> {
    let dir = file.parent()?;
    let beside = |made: &Path| {
        let stem = made.file_stem()?.to_str()?;
        let names = [Some(stem), stem.strip_prefix("lib")].into_iter().flatten();
        names.map(|name| made.with_file_name(format!("{name}.d"))).find(|rule| rule.is_file())
    };
    if dir.ends_with("deps") {
        return beside(file);
    }
    let ino = fs::metadata(file).ok()?.ino();
    let linked = [dir.join("deps"), dir.to_owned()].into_iter().flat_map(fs::read_dir).flatten().flatten();
    linked.filter(|entry| entry.ino() == ino && entry.path() != file).find_map(|entry| beside(&entry.path()))
}
