//! May cargo be believed that something in its target directory is up to date?
//!
//! A result is stored for everybody, so it has to be what an empty target directory would give. Cargo is quick because it
//! believes a good deal; so each target directory remembers what the last run in it worked with, per profile and target:
//!
//! | what changed since | cargo notices | what is taken out before it builds |
//! |---|---|---|
//! | a source that its dep-info names, *written* after that run ended | yes | nothing |
//! | the same with an older time (`cp -p`, `rsync -t`, an archive, a clock that was put back) | no | its package |
//! | another file of a package, such as what a macro reads without saying so | no | its package; its README and the like, tests and examples are let be |
//! | a file of a vendored package | no | its package |
//! | what somebody else built there ([`super::units`]) | it is content with it | those packages |
//! | the compiler's or its wrapper's bytes, behind the same version | no | everything |
//! | tools, host packages, needed outputs, views, declared inputs, cargo's configuration, other variables | where build scripts say so | packages with build scripts, and all of the workspace |
//!
//! *Written* means that a file's modification time is newer than that run, and is the time of its last change. Than a run that did
//! not end nothing is newer. A link is never believed: compilers name what it led to, which may be as old as it likes.
//!
//! The memory lies in the target directory and goes with it, or beside one of ours. It is written before a run, with what is to be
//! taken out until that is known to be done; so a run that is killed costs no more than itself. A package that this step does not
//! know can't be taken out by it, and stays noted for those that know it. What somebody else brought into a
//! directory that people build in too is built anew as far as it comes from this workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::action::{Action, Kind as Part};
use crate::base::digest::{Digest, Hasher};
use crate::base::paths::unescaped;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::{Instant, Kind, Stat};
use crate::fingerprint::cargo::Sources;
use crate::fingerprint::cargo::metadata::Workspace;
use crate::fingerprint::env::is_known_to_cargo;
use crate::graph::Cargo;

use super::super::moment::Clock;
use super::units::Units;

pub(in crate::execute) const FORMAT: Format = Format { magic: b"bctrust\n", version: 2 };
/// What says that a directory can be made anew, as backups and cargo read it.
const TAG: &str =
    "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by cargo bcache.\n";
/// Nanoseconds between the stamps of a file that was just written: who writes beside and renames needs a moment.
const WRITTEN: i64 = 100_000_000;

/// The end of a run that did not come to it.
const NEVER: Instant = Instant(i64::MAX);

/// A source as a run had it, and when that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Had {
    stat: Stat,
    until: Instant,
}

/// What else a run worked with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Surroundings {
    compiler: Digest,
    rest: Digest,
}

impl Surroundings {
    pub fn of(sources: &Sources, action: &Action, cargo: &Cargo, root: &Path) -> Self {
        let mut hasher = Hasher::new("bcache surroundings of cargo 2");
        hasher.digest(&sources.configuration);
        // Cargo knows its packages by their places in the workspace, and would take those of another one for them.
        if !sources.workspace.root.starts_with(&cargo.workspace)
            && !cargo.workspace.starts_with(&sources.workspace.root)
        {
            hasher.bytes(sources.workspace.root.as_os_str().as_encoded_bytes());
        }
        // Words of configuration among them may set variables.
        for word in cargo.args.iter().filter(|_| cargo.args.iter().any(|word| word.starts_with("--config"))) {
            hasher.text(word);
        }
        for component in &action.components {
            let counts = match component.kind {
                Part::Tool | Part::Need | Part::Layer | Part::Prefix | Part::Host => true,
                Part::Env => !is_known_to_cargo(&component.name),
                // Those that the task declares besides.
                Part::Input => {
                    let path = unescaped(&component.name).map(|path| root.join(path));
                    !sources.names.contains(&component.name) && !path.is_some_and(|path| sources.has(&path))
                }
                Part::Command | Part::Setting | Part::Source | Part::Patch | Part::Output | Part::Discovered => false,
            };
            if counts {
                hasher.number(component.kind as u64).text(&component.name).digest(&component.digest);
            }
        }
        Self { compiler: sources.compiler, rest: hasher.finish() }
    }
}

#[derive(Serialize, Deserialize)]
pub(in crate::execute) struct Memory {
    sources: Vec<(OsString, Had)>,
    around: Surroundings,
    /// Of a run that did not end: what it may not have taken out yet.
    doubt: Doubt,
    /// What dep-info named, per step.
    tracked: Vec<(String, Vec<OsString>)>,
}

/// What in a target directory is not believed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Doubt {
    /// Packages by name; none: cargo is believed.
    Packages(BTreeSet<String>),
    All,
}

/// What a target directory is believed, and what is to be remembered of the run that begins.
#[derive(Debug)]
pub struct Trust {
    file: PathBuf,
    dir: PathBuf,
    step: String,
    around: Surroundings,
    sources: BTreeMap<PathBuf, Had>,
    /// Those of the step itself.
    own: BTreeSet<PathBuf>,
    tracked: Vec<(String, Vec<OsString>)>,
    pub doubt: Doubt,
    /// Packages in doubt that the step does not know.
    carried: BTreeSet<String>,
    units: Units,
}

/// The run that begins.
pub struct Run<'a> {
    pub step: String,
    pub cargo: &'a Cargo,
    pub workspace: &'a Workspace,
    /// Chosen by configuration.
    pub platforms: &'a [String],
    pub around: Surroundings,
    /// Does nobody else build in the directory?
    pub is_ours: bool,
}

impl Run<'_> {
    pub fn begin(self, sources: impl Iterator<Item = (PathBuf, Stat)>) -> io::Result<Trust> {
        let file = file(self.cargo, self.is_ours);
        let memory: Option<Memory> = fs::read(&file).ok().and_then(|bytes| FORMAT.open(&bytes).ok());
        let now: BTreeMap<PathBuf, Had> = sources.map(|(path, stat)| (path, Had { stat, until: NEVER })).collect();
        let mut trust = Trust {
            dir: self.cargo.target_dir.clone(),
            step: self.step.clone(),
            around: self.around,
            own: now.keys().cloned().collect(),
            sources: now,
            tracked: Vec::new(),
            doubt: Doubt::Packages(BTreeSet::new()),
            carried: BTreeSet::new(),
            units: Units::of(self.cargo, profile(self.cargo), self.platforms),
            file,
        };
        match memory {
            _ if is_empty(&self.cargo.target_dir)? => {}
            Some(memory) => self.compare(memory, &mut trust),
            // Nobody has built anything like this here yet.
            None if self.is_ours && !trust.file.exists() => {}
            None => trust.doubt = Doubt::Packages(names(self.workspace)),
        }
        if let Doubt::Packages(packages) = &mut trust.doubt {
            let foreign = trust.units.foreign()?;
            packages.extend(known(self.workspace).filter(|name| foreign.contains(*name)).cloned());
        }
        mark(&self.cargo.target_dir, self.is_ours)?;
        trust.write(&trust.doubt)?;
        Ok(trust)
    }

    fn compare(&self, memory: Memory, trust: &mut Trust) {
        let mut doubtful: BTreeSet<String> = match memory.doubt {
            Doubt::Packages(packages) if memory.around.compiler == self.around.compiler => {
                let known: BTreeSet<&String> = known(self.workspace).collect();
                let (ours, carried) = packages.into_iter().partition(|name| known.contains(name));
                trust.carried = carried;
                ours
            }
            Doubt::Packages(_) | Doubt::All => {
                trust.doubt = Doubt::All;
                return;
            }
        };
        if memory.around.rest != self.around.rest {
            // Those of the workspace all: macros can read variables and files too.
            doubtful.extend(self.workspace.scripted.iter().cloned());
            doubtful.extend(names(self.workspace));
        }
        for path in self.doubtful(memory.sources, &memory.tracked, trust) {
            match self.workspace.package_of(&path) {
                Some(package) => doubtful.extend([package.name.clone()]),
                // Anybody may have read it.
                None => doubtful.extend(names(self.workspace)),
            }
        }
        trust.tracked = memory.tracked;
        trust.doubt = Doubt::Packages(doubtful);
    }

    /// Files that changed, and cargo may not notice it. What other steps had is kept.
    fn doubtful(
        &self,
        sources: Vec<(OsString, Had)>,
        tracked: &[(String, Vec<OsString>)],
        trust: &mut Trust,
    ) -> Vec<PathBuf> {
        let last = sources.iter().map(|(_, had)| had.until).max();
        let mut before: BTreeMap<PathBuf, Had> =
            sources.into_iter().map(|(path, had)| (PathBuf::from(path), had)).collect();
        let known: BTreeSet<String> =
            before.keys().filter_map(|path| self.workspace.package_of(path)).map(|p| p.name.clone()).collect();
        // In our own directory nobody has built what no run of ours has seen.
        let is_new =
            |path: &Path| self.is_ours && self.workspace.package_of(path).is_some_and(|p| !known.contains(&p.name));
        let tracked = Tracked::new(tracked, &self.step);
        let mut doubtful = Vec::new();
        for (path, now) in &trust.sources {
            let had = before.remove(path);
            let is_same = had.is_some_and(|had| had.stat == now.stat);
            if is_same || is_new(path) || self.is_prose(path) && !tracked.has(path) {
                continue;
            }
            // Cargo looks at what a link led to, not at the link.
            let is_link = now.stat.kind == Kind::Symlink || had.is_some_and(|had| had.stat.kind == Kind::Symlink);
            let is_vendored = self.workspace.package_of(path).is_some_and(|package| package.is_vendored);
            let is_written = was_written(&now.stat, had.map(|had| had.until).or(last));
            if is_link || is_vendored || !tracked.has(path) || !is_written {
                doubtful.push(path.clone());
            }
        }
        for (path, had) in before {
            if self.workspace.package_of(&path).is_none() {
                // Of a step with other packages.
                trust.sources.insert(path, had);
            } else if !self.is_prose(&path) {
                doubtful.push(path);
            }
        }
        doubtful
    }

    /// What no program is made from, unless dep-info says so. A macro may well embed the pages of a manual.
    fn is_prose(&self, path: &Path) -> bool {
        let Some(package) = self.workspace.package_of(path) else { return false };
        let inner = path.strip_prefix(&package.dir).unwrap_or(path);
        let top = inner.iter().next().and_then(|name| name.to_str()).unwrap_or_default();
        let is_inside = inner.iter().nth(1).is_some();
        let is_apart = is_inside && ["tests", "benches", "examples"].contains(&top);
        is_apart || !is_inside && (top.starts_with("LICENSE") || top.ends_with(".md"))
    }
}

/// Names of dep-info: files, and directories with all that lies in them.
struct Tracked<'m> {
    paths: BTreeSet<&'m Path>,
}

impl<'m> Tracked<'m> {
    /// Of the step itself, or where it has not run yet of those that did.
    fn new(tracked: &'m [(String, Vec<OsString>)], step: &str) -> Self {
        let has_own = tracked.iter().any(|(known, _)| known == step);
        let lists = tracked.iter().filter(|(known, _)| !has_own || known == step);
        Self { paths: lists.flat_map(|(_, paths)| paths).map(Path::new).collect() }
    }

    fn has(&self, path: &Path) -> bool {
        path.ancestors().any(|path| self.paths.contains(path))
    }
}

impl Trust {
    /// The run came to its end, good or bad. `read` is what else it was found to have read, and has not changed since.
    /// `tracked` is what cargo's dep-info names, where it got so far.
    pub fn keep(
        mut self,
        read: impl Iterator<Item = (PathBuf, Stat)>,
        tracked: impl Iterator<Item = PathBuf>,
    ) -> io::Result<()> {
        let until = Clock::of(&self.dir)?.now()?;
        for path in &self.own {
            self.sources.entry(path.clone()).and_modify(|had| had.until = until);
        }
        self.sources.extend(read.map(|(path, stat)| (path, Had { stat, until })));
        let tracked: Vec<OsString> = tracked.map(Into::into).collect();
        if !tracked.is_empty() {
            self.tracked.retain(|(step, _)| *step != self.step);
            self.tracked.push((self.step.clone(), tracked));
        }
        self.write(&Doubt::Packages(BTreeSet::new()))
    }

    /// The run is over, well or not: what is there was built by us.
    pub fn end(&self) -> io::Result<()> {
        self.units.keep()
    }

    fn write(&self, doubt: &Doubt) -> io::Result<()> {
        let sources = self.sources.iter().map(|(path, had)| (path.into(), *had)).collect();
        let (around, mut doubt, tracked) = (self.around, doubt.clone(), self.tracked.clone());
        if let Doubt::Packages(packages) = &mut doubt {
            packages.extend(self.carried.iter().cloned());
        }
        let memory = Memory { sources, around, doubt, tracked };
        publish(&self.file, &FORMAT.seal(&memory))
    }
}

/// Nothing of the workspace in the target directory is believed any more.
pub fn distrust(cargo: &Cargo, is_ours: bool, workspace: &Workspace) -> io::Result<()> {
    let file = file(cargo, is_ours);
    // Where nothing is remembered nothing is believed.
    let Some(mut memory) = fs::read(&file).ok().and_then(|bytes| FORMAT.open::<Memory>(&bytes).ok()) else {
        return Ok(());
    };
    if let Doubt::Packages(packages) = &mut memory.doubt {
        packages.extend(names(workspace));
        packages.extend(workspace.scripted.iter().cloned());
    }
    publish(&file, &FORMAT.seal(&memory))
}

/// Names by which the step can tell cargo what to take out.
fn known(workspace: &Workspace) -> impl Iterator<Item = &String> {
    workspace.packages.iter().map(|package| &package.name).chain(&workspace.scripted)
}

fn names(workspace: &Workspace) -> BTreeSet<String> {
    workspace.packages.iter().map(|package| package.name.clone()).collect()
}

/// Cargo marks a target directory where it makes one, and a later cargo cleans none that is not marked.
fn mark(dir: &Path, is_ours: bool) -> io::Result<()> {
    let tag = dir.join("CACHEDIR.TAG");
    if !is_ours && dir.exists() || tag.exists() {
        return Ok(());
    }
    publish(&tag, TAG.as_bytes())
}

fn is_empty(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
    }
}

/// The directory of a profile.
fn profile(cargo: &Cargo) -> &str {
    match cargo.profile.as_deref() {
        None | Some("dev" | "test") => "debug",
        Some("bench") => "release",
        Some(other) => other,
    }
}

/// Profiles that share a directory share their memory. Ours lies beside the directory, since all that is in it may be taken out.
fn file(cargo: &Cargo, is_ours: bool) -> PathBuf {
    let profile = profile(cargo);
    let target = cargo.rust_triple().map(|triple| format!("-{}", triple.replace('/', "-"))).unwrap_or_default();
    if is_ours {
        let name = cargo.target_dir.file_name().unwrap_or_default().to_string_lossy();
        return cargo.target_dir.with_file_name(format!("{name}.sources-{profile}{target}"));
    }
    cargo.target_dir.join(format!(".bcache-sources-{profile}{target}"))
}

fn was_written(stat: &Stat, after: Option<Instant>) -> bool {
    after.is_some_and(|after| stat.mtime > after.0) && (stat.ctime - stat.mtime).abs() < WRITTEN
}

/// What takes out of a target directory what is not believed: nothing, or a command of cargo.
pub fn clean_command(cargo: &Cargo, doubt: &Doubt, platforms: &[String]) -> Option<Vec<OsString>> {
    let packages = match doubt {
        Doubt::Packages(packages) if packages.is_empty() => return None,
        Doubt::Packages(packages) => Some(packages),
        Doubt::All => None,
    };
    let mut words: Vec<OsString> = ["cargo", "clean", "--target-dir"].map(Into::into).to_vec();
    words.push(cargo.target_dir.clone().into());
    words.extend(packages.into_iter().flatten().flat_map(|package| ["-p".into(), package.into()]));
    // Where people build too, what they have built otherwise is theirs.
    if packages.is_some() || !cargo.has_own_target_dir {
        words.extend(["--profile".into(), cargo.profile.as_deref().unwrap_or("dev").into()]);
        // It does not look for those of configuration by itself.
        let triples = cargo.rust_triple().into_iter().chain(platforms.iter().map(String::as_str));
        words.extend(triples.flat_map(|triple| ["--target".into(), triple.into()]));
    }
    Some(words)
}

/// The stat record of each file that is there, and of what it leads to.
pub fn stats(paths: impl Iterator<Item = PathBuf>) -> Vec<(PathBuf, Stat)> {
    let mut found = Vec::new();
    for path in paths {
        let Some(stat) = Stat::read(&path).ok().flatten().filter(|stat| stat.kind != Kind::Dir) else { continue };
        if stat.kind == Kind::Symlink
            && let Ok(real) = fs::canonicalize(&path)
            && let Some(behind) = Stat::read(&real).ok().flatten().filter(|stat| stat.kind == Kind::File)
        {
            found.push((real, behind));
        }
        found.push((path, stat));
    }
    found
}
