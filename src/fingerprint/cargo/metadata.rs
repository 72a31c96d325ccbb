//! What cargo says of a workspace: which packages of it one package is made from. The one door to `cargo metadata`.
//!
//! Asking costs a child process of a tenth of a second, so the answer is kept in `.bcache/packages` with the facts that it rests
//! on: all manifests of the workspace, the directories that globs of `members` list, `Cargo.lock`, configuration files, and
//! the question itself (the program, the package, features, targets and environment). An answer that rests on a file as young as
//! itself is not kept: it may be about the file as it was before.
//!
//! Features of other packages can turn on further packages, so what is found may be more than what is built, and never less: a
//! path dependency that is optional and not enabled is left out only where cargo itself leaves it out.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cargo_metadata::{DependencyKind, MetadataCommand, PackageId, TargetKind};
use serde::{Deserialize, Serialize};

use crate::base::digest::{Digest, Hasher};
use crate::base::disk::read_text;
use crate::base::paths::bytes;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::Instant;
use crate::graph::Cargo;
use crate::manifest::cargo_config::{self, Membership};

use super::super::files::{FileError, Files};

pub(in crate::fingerprint) const FORMAT: Format = Format { magic: b"bccargo\n", version: 2 };
/// Answers that are kept.
const KEPT: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("there is no directory `{}` for cargo to build in", dir.display())]
    NoWorkspace { dir: PathBuf },
    #[error("cannot start `{program}`: {error}")]
    Start { program: String, error: std::io::Error },
    #[error("cargo can't read the workspace `{}`: {said}", dir.display())]
    Refused { dir: PathBuf, said: String },
    #[error("cargo's answer about `{}` is not understood: {error}", dir.display())]
    Unclear { dir: PathBuf, error: String },
    #[error("the workspace `{}` has no package `{package}`{}", dir.display(), hint(.near.as_deref()))]
    NoPackage { dir: PathBuf, package: String, near: Option<String> },
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default()
}

/// The packages that a step is made from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Workspace {
    #[serde(with = "bytes")]
    pub root: PathBuf,
    /// Where cargo would build without being told.
    #[serde(with = "bytes")]
    pub target_dir: PathBuf,
    /// The one that was asked for.
    pub id: String,
    /// It and those that it depends on, where they are local.
    pub packages: Vec<Package>,
    /// Manifests of other workspaces around them, there or not: packages inherit from these.
    pub around: Vec<OsString>,
    /// Names of packages with build scripts, from anywhere.
    pub scripted: Vec<String>,
    /// Directories of other local packages.
    pub others: Vec<OsString>,
    /// How many things there are to compile and to run, about.
    pub units: u32,
}

/// A package whose source is at a path, and not among those that cargo has fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    /// As cargo's commands take it, unambiguous.
    pub id: String,
    #[serde(with = "bytes")]
    pub dir: PathBuf,
    /// It stands for one of a registry (`cargo vendor`), and cargo takes it as unchangeable.
    pub is_vendored: bool,
}

impl Workspace {
    /// The package in whose directory a file lies.
    pub fn package_of(&self, path: &Path) -> Option<&Package> {
        let len = |dir: &Path| dir.as_os_str().len();
        let found = self.packages.iter().filter(|p| path.starts_with(&p.dir)).max_by_key(|p| len(&p.dir))?;
        let is_nearer = |other: &&OsString| path.starts_with(other) && other.len() > len(&found.dir);
        // Of a package inside that one, which belongs to other programs.
        self.others.iter().find(is_nearer).is_none().then_some(found)
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(in crate::fingerprint) struct Entry {
    question: Digest,
    facts: Vec<(OsString, Option<Digest>)>,
    pub(in crate::fingerprint) workspace: Workspace,
}

/// What was asked and answered in this worktree.
#[derive(Default)]
pub struct Memory {
    known: Mutex<(Vec<Entry>, bool)>,
}

/// Whom to ask, and in which environment.
pub struct Asked<'a> {
    pub cargo: &'a Cargo,
    /// The real place of the workspace: cargo goes by that.
    pub place: &'a Path,
    pub program: &'a Path,
    pub host_triple: &'a str,
    pub environment: &'a [(OsString, OsString)],
    /// Configuration files, there or not.
    pub configuration: &'a [PathBuf],
    /// Platforms that configuration chooses, where the step does not.
    pub platforms: &'a [String],
}

impl Memory {
    pub fn load(path: &Path) -> Self {
        let known = std::fs::read(path).ok().and_then(|bytes| FORMAT.open(&bytes).ok()).unwrap_or_default();
        Self { known: Mutex::new((known, false)) }
    }

    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let known = self.lock();
        if known.1 { publish(path, &FORMAT.seal(&known.0)) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Entry>, bool)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The packages of a step: remembered, or asked for.
    pub fn workspace(&self, files: &Files, asked: &Asked) -> Result<Workspace, MetadataError> {
        let question = asked.digest();
        let known = self.lock().0.iter().find(|entry| entry.question == question).cloned();
        if let Some(known) = known
            && known.holds(files)?
        {
            return Ok(known.workspace);
        }
        let dir = asked.cargo.workspace.clone();
        if !dir.is_dir() {
            return Err(MetadataError::NoWorkspace { dir });
        }
        let begun = Instant::now();
        let (workspace, manifests) = asked.ask()?;
        let mut facts = Vec::new();
        let mut is_young = false;
        for path in asked.facts(&workspace, manifests) {
            let seen = files.observe(&files.resolve(&path)?)?;
            is_young |= seen.stat.is_some_and(|stat| !stat.is_settled(begun));
            facts.push((path.into(), seen.digest));
        }
        if is_young {
            return Ok(workspace);
        }
        let entry = Entry { question, facts, workspace: workspace.clone() };
        let mut known = self.lock();
        known.0.retain(|entry| entry.question != question);
        let over = (known.0.len() + 1).saturating_sub(KEPT);
        known.0.drain(..over);
        known.0.push(entry);
        known.1 = true;
        Ok(workspace)
    }
}

impl Entry {
    fn holds(&self, files: &Files) -> Result<bool, FileError> {
        for (path, digest) in &self.facts {
            if files.observe(&files.resolve(Path::new(path))?)?.digest != *digest {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Asked<'_> {
    fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("bcache cargo question 3");
        hasher.bytes(self.program.as_os_str().as_encoded_bytes());
        hasher.bytes(self.cargo.workspace.as_os_str().as_encoded_bytes());
        hasher.bytes(self.place.as_os_str().as_encoded_bytes());
        hasher.text(&self.cargo.package).text(self.cargo.rust_triple().unwrap_or_default()).text(self.host_triple);
        hasher.number(self.cargo.bins.len() as u64);
        self.cargo.bins.iter().for_each(|bin| {
            hasher.text(bin);
        });
        hasher.number(self.cargo.features.len() as u64);
        self.cargo.features.iter().for_each(|feature| {
            hasher.text(feature);
        });
        let options: Vec<&str> = self.cargo.options_for_all().collect();
        hasher.number(options.len() as u64);
        options.iter().for_each(|option| {
            hasher.text(option);
        });
        hasher.number(self.platforms.len() as u64);
        self.platforms.iter().for_each(|platform| {
            hasher.text(platform);
        });
        hasher.number(self.environment.len() as u64);
        for (name, value) in self.environment {
            hasher.bytes(name.as_encoded_bytes()).bytes(value.as_encoded_bytes());
        }
        hasher.finish()
    }

    fn ask(&self) -> Result<(Workspace, Vec<PathBuf>), MetadataError> {
        let qualified = |feature: &String| match feature.contains('/') {
            true => feature.clone(),
            false => format!("{}/{feature}", self.cargo.package),
        };
        let features: Vec<String> =
            self.cargo.features.iter().flat_map(|f| f.split([',', ' '])).map(|f| qualified(&f.to_owned())).collect();
        let mut options = Vec::new();
        if !features.is_empty() {
            options.extend(["--features".to_owned(), features.join(",")]);
        }
        let text = match self.run(&options) {
            // Older resolvers take no features of a package at the root of a workspace.
            Err(MetadataError::Refused { .. }) if !features.is_empty() => self.run(&["--all-features".to_owned()])?,
            other => other?,
        };
        self.understand(&text)
    }

    fn run(&self, options: &[String]) -> Result<String, MetadataError> {
        let mut command = MetadataCommand::new();
        let mut all = options.to_vec();
        all.extend(self.cargo.options_for_all().map(str::to_owned));
        let chosen = self.platforms.iter().map(String::as_str);
        for triple in [self.cargo.rust_triple(), Some(self.host_triple)].into_iter().flatten().chain(chosen) {
            all.extend(["--filter-platform".to_owned(), triple.to_owned()]);
        }
        command.cargo_path(self.program).current_dir(&self.cargo.workspace).other_options(all);
        let mut child = command.cargo_command();
        child.env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null());
        let dir = self.cargo.workspace.clone();
        let output = child
            .output()
            .map_err(|error| MetadataError::Start { program: self.program.display().to_string(), error })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().map(str::trim_end).filter(|line| !is_status(line)).collect::<Vec<_>>().join("\n");
            let said = said.trim().trim_start_matches("error: ").to_owned();
            return Err(MetadataError::Refused { dir, said });
        }
        String::from_utf8(output.stdout).map_err(|error| MetadataError::Unclear { dir, error: error.to_string() })
    }

    fn understand(&self, text: &str) -> Result<(Workspace, Vec<PathBuf>), MetadataError> {
        let dir = || self.cargo.workspace.clone();
        let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_default();
        let metadata = MetadataCommand::parse(line)
            .map_err(|error| MetadataError::Unclear { dir: dir(), error: error.to_string() })?;
        let is_ours = |p: &&cargo_metadata::Package| p.name.as_str() == self.cargo.package && p.source.is_none();
        let Some(package) = metadata.packages.iter().find(is_ours) else {
            let names = metadata.packages.iter().filter(|p| p.source.is_none()).map(|p| p.name.as_str());
            let near = crate::base::text::nearest(&self.cargo.package, names).map(str::to_owned);
            return Err(MetadataError::NoPackage { dir: dir(), package: self.cargo.package.clone(), near });
        };
        let needed = needed(&metadata, &package.id);
        let (mut packages, mut others, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
        let (root, mut around) = (metadata.workspace_root.as_std_path(), BTreeSet::new());
        let is_local = |p: &&cargo_metadata::Package| p.source.is_none() || !self.has_fetched(p);
        for found in metadata.packages.iter().filter(is_local) {
            let manifest = found.manifest_path.clone().into_std_path_buf();
            let place = manifest.parent().unwrap_or(Path::new("/")).to_owned();
            let is_vendored = found.source.is_some();
            if needed.contains(&found.id) {
                if !is_vendored && !metadata.workspace_members.contains(&found.id) {
                    around.extend(manifests_around(&manifest, root));
                }
                packages.push(Package {
                    name: found.name.to_string(),
                    id: found.id.repr.clone(),
                    dir: place,
                    is_vendored,
                });
            } else if !is_vendored {
                others.push(place.into());
            }
            manifests.push(manifest);
        }
        packages.sort_by(|a, b| a.dir.cmp(&b.dir));
        let is_needed = |p: &&cargo_metadata::Package| needed.contains(&p.id);
        let has_script =
            |p: &&cargo_metadata::Package| p.targets.iter().any(|t| t.kind.contains(&TargetKind::CustomBuild));
        let mut scripted: Vec<String> =
            metadata.packages.iter().filter(is_needed).filter(has_script).map(|p| p.name.to_string()).collect();
        scripted.sort();
        scripted.dedup();
        let units = metadata.packages.iter().filter(is_needed).map(|p| self.units(p, &package.id)).sum();
        let workspace = Workspace {
            root: metadata.workspace_root.clone().into_std_path_buf(),
            target_dir: metadata.target_directory.clone().into_std_path_buf(),
            id: package.id.repr.clone(),
            packages,
            around: around.into_iter().map(PathBuf::into_os_string).collect(),
            scripted,
            others,
            units,
        };
        Ok((workspace, manifests))
    }

    /// Does the package lie where cargo keeps what it has fetched, with a checksum?
    fn has_fetched(&self, package: &cargo_metadata::Package) -> bool {
        let find = |wanted: &str| self.environment.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let home = find("CARGO_HOME").map(PathBuf::from).or_else(|| Some(Path::new(find("HOME")?).join(".cargo")));
        let Some(home) = home else { return true };
        let real = home.canonicalize().unwrap_or_else(|_| home.clone());
        package.manifest_path.starts_with(&home) || package.manifest_path.starts_with(real)
    }

    /// What cargo compiles and runs of a package.
    fn units(&self, package: &cargo_metadata::Package, asked: &PackageId) -> u32 {
        let is_built = |target: &cargo_metadata::Target| {
            let is = |kind: &TargetKind| target.kind.contains(kind);
            if is(&TargetKind::Bin) {
                return package.id == *asked && self.cargo.wants_bin(&target.name);
            }
            !(is(&TargetKind::Test) || is(&TargetKind::Bench) || is(&TargetKind::Example))
        };
        let scripts = package.targets.iter().filter(|t| t.kind.contains(&TargetKind::CustomBuild)).count();
        // A build script is compiled, and run.
        (package.targets.iter().filter(|t| is_built(t)).count() + scripts) as u32
    }

    /// Everything that could make cargo say something else.
    fn facts(&self, workspace: &Workspace, manifests: Vec<PathBuf>) -> BTreeSet<PathBuf> {
        let mut facts: BTreeSet<PathBuf> = self.configuration.iter().cloned().collect();
        facts.insert(workspace.root.join("Cargo.lock"));
        facts.insert(workspace.root.join("Cargo.toml"));
        // A workspace may appear around this one.
        facts.extend(self.place.ancestors().map(|dir| dir.join("Cargo.toml")));
        for manifest in &manifests {
            // What a glob in `members` lists.
            let beside = manifest.parent().and_then(Path::parent);
            facts.extend(beside.filter(|dir| dir.starts_with(&workspace.root)).map(Path::to_owned));
        }
        facts.extend(manifests);
        facts.extend(workspace.around.iter().map(PathBuf::from));
        facts
    }
}

/// The manifests that may be the workspace of a package which is no member of the one at `root`, up to the one that is.
fn manifests_around(manifest: &Path, root: &Path) -> Vec<PathBuf> {
    let membership = |path: &Path| {
        let text = read_text(path).unwrap_or_default();
        cargo_config::membership(path, &text)
    };
    match membership(manifest) {
        Membership::Root => return Vec::new(),
        Membership::Of(path) => return vec![path],
        Membership::Unsaid => {}
    }
    let mut found = Vec::new();
    for dir in manifest.ancestors().skip(2).take_while(|dir| *dir != root) {
        let path = dir.join("Cargo.toml");
        let is_root = membership(&path) == Membership::Root;
        found.push(path);
        if is_root {
            break;
        }
    }
    found
}

/// A package and all that it depends on for being built.
fn needed(metadata: &cargo_metadata::Metadata, package: &PackageId) -> HashSet<PackageId> {
    let nodes: HashMap<&PackageId, &cargo_metadata::Node> =
        metadata.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| (&node.id, node)).collect();
    let (mut needed, mut open) = (HashSet::new(), vec![package]);
    while let Some(id) = open.pop() {
        if !needed.insert(id.clone()) {
            continue;
        }
        for dep in nodes.get(id).into_iter().flat_map(|node| &node.deps) {
            let is_built = |kind: &cargo_metadata::DepKindInfo| kind.kind != DependencyKind::Development;
            if dep.dep_kinds.is_empty() || dep.dep_kinds.iter().any(is_built) {
                open.push(&dep.pkg);
            }
        }
    }
    needed
}

/// A line such as `    Updating crates.io index`: a verb that ends at the twelfth column.
pub fn is_status(line: &str) -> bool {
    let verb = line.trim_start_matches(' ');
    let end = verb.find(' ').unwrap_or(verb.len());
    let blanks = line.len() - verb.len();
    blanks + end == 12
        && verb.starts_with(|c: char| c.is_ascii_uppercase())
        && verb[..end].bytes().all(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_is_told_from_a_message() {
        assert!(is_status("   Compiling serde v1.0.228"));
        assert!(is_status("    Finished `dev` profile [unoptimized] target(s) in 0.5s"));
        assert!(is_status("    Updating crates.io index"));
        assert!(!is_status("warning: unused manifest key: x"));
        assert!(!is_status("error: no matching package"));
        assert!(!is_status("  Compiling what somebody prints"));
        assert!(!is_status(""));
    }
}
