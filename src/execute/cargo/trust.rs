//! May cargo be believed that something in its target directory is up to date?
//!
//! It goes by modification times: a file that changed and whose time is not newer than its last compile is not compiled again
//! (`cp -p`, `rsync -t`, an archive, a clock that was put back). So each target directory remembers the sources that the last
//! run in it had, by stat record, per profile and target. A source that looks different now is believed to be noticed only if
//! it was *written* after that run began: its modification time is newer, and is the time of its last change. The packages of all
//! others are taken out of the target directory (`cargo clean -p`) before cargo builds.
//!
//! The memory lies in the target directory and goes with it. It is taken away before a run and written after it, so that what a
//! killed run leaves, and what somebody else brought there, is built anew as far as it comes from this workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::{Instant, Kind, Stat};
use crate::fingerprint::cargo::metadata::Workspace;
use crate::graph::Cargo;

const FORMAT: Format = Format { magic: b"bctrust\n", version: 1 };
/// Nanoseconds between the stamps of a file that was just written: who writes beside and renames needs a moment.
const WRITTEN: i64 = 100_000_000;

/// A source as a run had it, and when that began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Had {
    stat: Stat,
    began: Instant,
}

#[derive(Default, Serialize, Deserialize)]
struct Memory {
    sources: Vec<(OsString, Had)>,
}

/// What a target directory is believed, and what is to be remembered of the run that begins.
#[derive(Debug)]
pub struct Trust {
    file: PathBuf,
    /// Does nobody else build in the directory?
    is_ours: bool,
    began: Instant,
    sources: BTreeMap<PathBuf, Had>,
    /// Packages to be built anew.
    pub distrusted: BTreeSet<String>,
}

impl Trust {
    /// `sources` are the files that the run will find, `began` the moment before they were looked at.
    pub fn begin(
        cargo: &Cargo,
        workspace: &Workspace,
        sources: impl Iterator<Item = (PathBuf, Stat)>,
        began: Instant,
        is_ours: bool,
    ) -> io::Result<Self> {
        let file = file(cargo);
        let memory: Option<Memory> = fs::read(&file).ok().and_then(|bytes| FORMAT.open(&bytes).ok());
        let is_empty = match fs::read_dir(&cargo.target_dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(e),
        };
        let now: BTreeMap<PathBuf, Had> = sources.map(|(path, stat)| (path, Had { stat, began })).collect();
        let mut trust = Self { file, is_ours, began, sources: now, distrusted: BTreeSet::new() };
        match memory {
            _ if is_empty => {}
            Some(memory) => trust.compare(workspace, memory),
            None => trust.distrusted = workspace.packages.iter().map(|p| p.name.clone()).collect(),
        }
        match fs::remove_file(&trust.file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(trust),
        }
    }

    fn compare(&mut self, workspace: &Workspace, memory: Memory) {
        let last = memory.sources.iter().map(|(_, had)| had.began).max();
        let had: BTreeMap<PathBuf, Had> =
            memory.sources.into_iter().map(|(path, had)| (PathBuf::from(path), had)).collect();
        let mut before = had.clone();
        let mut doubtful: Vec<PathBuf> = Vec::new();
        let known: BTreeSet<&str> =
            had.keys().filter_map(|path| workspace.package_of(path)).map(|package| package.name.as_str()).collect();
        // In our own directory nobody has built what no run of ours has seen.
        let is_new = |path: &Path| {
            self.is_ours && workspace.package_of(path).is_some_and(|package| !known.contains(package.name.as_str()))
        };
        for (path, now) in &self.sources {
            let had = before.remove(path);
            let is_same = had.is_some_and(|had| had.stat == now.stat);
            if !is_same && !was_written(&now.stat, had.map(|had| had.began).or(last)) && !is_new(path) {
                doubtful.push(path.clone());
            }
        }
        for (path, had) in before {
            let is_ours = workspace.package_of(&path).is_some();
            // Gone; or of a step with other packages.
            if is_ours {
                doubtful.push(path);
            } else {
                self.sources.insert(path, had);
            }
        }
        for path in doubtful {
            match workspace.package_of(&path) {
                Some(package) => self.distrusted.extend([package.name.clone()]),
                // Anybody may have read it.
                None => self.distrusted.extend(workspace.packages.iter().map(|p| p.name.clone())),
            }
        }
    }

    /// The run came to its end, good or bad. `read` is what else it was found to have read, and has not changed since.
    pub fn keep(mut self, read: impl Iterator<Item = (PathBuf, Stat)>) -> io::Result<()> {
        let began = self.began;
        self.sources.extend(read.map(|(path, stat)| (path, Had { stat, began })));
        self.write()
    }

    fn write(self) -> io::Result<()> {
        let sources = self.sources.into_iter().map(|(path, had)| (path.into(), had)).collect();
        publish(&self.file, &FORMAT.seal(&Memory { sources }))
    }
}

/// Profiles that share a directory share their memory.
fn file(cargo: &Cargo) -> PathBuf {
    let profile = match cargo.profile.as_deref() {
        None | Some("dev" | "test") => "debug",
        Some("bench") => "release",
        Some(other) => other,
    };
    let target = cargo.rust_triple().map(|triple| format!("-{}", triple.replace('/', "-"))).unwrap_or_default();
    cargo.target_dir.join(format!(".bcache-sources-{profile}{target}"))
}

fn was_written(stat: &Stat, after: Option<Instant>) -> bool {
    after.is_some_and(|after| stat.mtime > after.0) && (stat.ctime - stat.mtime).abs() < WRITTEN
}

/// `cargo clean -p` for the distrusted packages.
pub fn clean_command(cargo: &Cargo, distrusted: &BTreeSet<String>) -> Option<Vec<OsString>> {
    if distrusted.is_empty() {
        return None;
    }
    let mut words: Vec<OsString> = ["cargo", "clean", "--target-dir"].map(Into::into).to_vec();
    words.push(cargo.target_dir.clone().into());
    words.extend(distrusted.iter().flat_map(|package| ["-p".into(), package.into()]));
    if let Some(profile) = &cargo.profile {
        words.extend(["--profile".into(), profile.into()]);
    }
    if let Some(triple) = cargo.rust_triple() {
        words.extend(["--target".into(), triple.into()]);
    }
    Some(words)
}

/// The stat record of each file that is there.
pub fn stats<'p>(paths: impl Iterator<Item = &'p Path>) -> Vec<(PathBuf, Stat)> {
    let stat = |path: &'p Path| Some((path.to_owned(), Stat::read(path).ok().flatten()?));
    paths.filter_map(stat).filter(|(_, stat)| stat.kind != Kind::Dir).collect()
}
