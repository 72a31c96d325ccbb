//! What a cargo task is made from: the packages of its workspace that it needs, their sources, the lock file, cargo's
//! configuration, the compiler, and the programs that configuration and environment choose.
//!
//! What lies outside of the packages and is read all the same (`include_str!("../../x")`, what a build script watches) only
//! cargo can say, after a run: its dep-info is read as other steps' depfiles are ([`super::discovered`]).

pub mod compiler;
pub mod metadata;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::action::{Component, Kind as Part};
use crate::base::digest::{Digest, Hasher};
use crate::base::disk::read_text;
use crate::base::paths::escaped;
use crate::base::span::Spanned;
use crate::base::stat::Kind;
use crate::graph::pattern::Pattern;
use crate::graph::{Cargo, InputPattern, Step};
use crate::manifest::cargo_config::{self, Choices};
use crate::manifest::model::Tool;

use super::assemble::{AssembleError, Workbench};
use super::files::{FileError, Files, Observation};
use super::git::{self, GitError, Scope};
use super::inputs::{self, Found, Walk};
use metadata::{Asked, Workspace};

/// What a run of a cargo step has to know.
pub struct Sources {
    pub workspace: Workspace,
    /// Whatever compiles, and what wraps it.
    pub compiler: Digest,
    /// Cargo's own files of settings, which may set variables for build scripts.
    pub configuration: Digest,
    /// That are built for where the step says none: configuration chooses them.
    pub platforms: Vec<String>,
    /// What the components are called that these sources are.
    pub names: BTreeSet<String>,
    /// The files of its packages in working copies of git, and those elsewhere.
    pub git: Vec<Arc<git::Identity>>,
    pub files: Found,
}

impl Sources {
    /// Is this one of them?
    pub fn has(&self, path: &Path) -> bool {
        self.files.contains_key(path) || self.git.iter().any(|identity| identity.holds(path))
    }

    /// Every file of its packages.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.files.keys().cloned().chain(self.git.iter().flat_map(|identity| identity.files()))
    }
}

/// Components of the key, and what was looked at for them.
pub struct Described {
    pub sources: Sources,
    pub components: Vec<Component>,
    pub seen: Vec<(PathBuf, Observation)>,
}

/// Looks at everything that a cargo step is made from. The `environment` is that of its commands.
pub fn describe(
    bench: &Workbench,
    step: &Step,
    cargo: &Cargo,
    environment: &[(OsString, OsString)],
) -> Result<Described, AssembleError> {
    let environment = asking(bench, step, environment);
    let (place, seen) = place(bench.files, &cargo.workspace)?;
    let mut parts = Parts { bench, step, cargo, place, environment: &environment, components: Vec::new(), seen };
    let config = parts.configuration()?;
    parts.compiler(&config)?;
    parts.chosen_programs(&config)?;
    let compiler = digest_of(&parts.components, Part::Tool);
    let configuration = digest_of(&parts.components, Part::Input);
    let workspace = parts.workspace(&config)?;
    let (git, files) = parts.sources(&workspace)?;
    let Parts { components, seen, .. } = parts;
    let names = components.iter().map(|component| component.name.clone()).collect();
    Ok(Described {
        sources: Sources { workspace, compiler, configuration, platforms: config.platforms, names, git, files },
        components,
        seen,
    })
}

/// Where cargo finds itself: the real place of its workspace, and the links that lead there.
fn place(files: &Files, workspace: &Path) -> Result<(PathBuf, Vec<(PathBuf, Observation)>), FileError> {
    let links = files.links_to(workspace)?;
    // A directory can become a link to another one, with the same bytes in it.
    let manifest = workspace.join("Cargo.toml");
    files.look(&manifest)?;
    files.pin(&manifest);
    Ok((workspace.canonicalize().unwrap_or_else(|_| workspace.to_owned()), links))
}

/// What there is of a kind: all programs that were chosen, by configuration or environment; all files of configuration.
fn digest_of(components: &[Component], kind: Part) -> Digest {
    let mut hasher = Hasher::new("bcache around cargo 1");
    for component in components.iter().filter(|component| component.kind == kind) {
        hasher.text(&component.name).digest(&component.digest);
    }
    hasher.finish()
}

/// The step's environment for questions before it runs: its own directories may not be there yet.
fn asking(bench: &Workbench, step: &Step, environment: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let path = bench.search_path(step).into_iter().filter(|dir| !dir.to_string_lossy().contains(':'));
    let path = std::env::join_paths(path).unwrap_or_default();
    let home = bench.outside.home().unwrap_or_else(|| PathBuf::from("/"));
    let mut asking: Vec<_> = environment
        .iter()
        .filter(|(name, _)| !["PATH", "HOME", "TMPDIR", "MAKEFLAGS"].iter().any(|own| name == own))
        .cloned()
        .collect();
    asking.extend([("PATH".into(), path), ("HOME".into(), home.into())]);
    asking
}

/// All configuration files that cargo reads there, and what they choose together.
struct Configuration {
    looked: Vec<PathBuf>,
    choices: Vec<Choices>,
    /// For which cargo builds where the step says nothing.
    platforms: Vec<String>,
}

struct Parts<'a> {
    bench: &'a Workbench<'a>,
    step: &'a Step,
    cargo: &'a Cargo,
    place: PathBuf,
    environment: &'a [(OsString, OsString)],
    components: Vec<Component>,
    seen: Vec<(PathBuf, Observation)>,
}

impl Parts<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        let (_, value) = self.environment.iter().find(|(known, _)| known == OsStr::new(name))?;
        value.to_str().filter(|value| !value.is_empty())
    }

    fn configuration(&mut self) -> Result<Configuration, FileError> {
        let mut open: Vec<PathBuf> = self.place.ancestors().map(|dir| dir.join(".cargo")).collect();
        open.extend(self.variable("CARGO_HOME").map(PathBuf::from));
        let mut open: Vec<PathBuf> =
            open.iter().flat_map(|dir| [dir.join("config"), dir.join("config.toml")]).rev().collect();
        open.extend(self.cargo.configuration_files());
        let mut config = Configuration { looked: Vec::new(), choices: Vec::new(), platforms: Vec::new() };
        while let Some(path) = open.pop() {
            if config.looked.contains(&path) {
                continue;
            }
            config.looked.push(path.clone());
            let real = self.bench.files.resolve(&path)?;
            let seen = self.bench.files.observe(&real)?;
            if seen.stat.is_none() {
                continue;
            }
            self.components.push(inputs::component(Part::Input, self.name_of(&path), &seen));
            self.seen.push((real, seen));
            let text = read_text(&path).unwrap_or_default();
            let choices = cargo_config::choices(&path, &text);
            open.extend(choices.includes.iter().cloned());
            if self.cargo.target.is_none() {
                config.platforms.extend(choices.platforms.iter().cloned());
            }
            config.choices.push(choices);
        }
        Ok(config)
    }

    /// Inside the workspace by its place there; elsewhere by what it is to cargo.
    fn name_of(&self, path: &Path) -> String {
        let root = &self.bench.graph.root;
        if path.starts_with(root) {
            return self.bench.graph.shown(path);
        }
        let home = self.variable("CARGO_HOME").map(Path::new);
        if let Some(inner) = home.and_then(|home| path.strip_prefix(home).ok()) {
            return format!("$CARGO_HOME/{}", escaped(inner));
        }
        for (levels, dir) in root.ancestors().enumerate().skip(1) {
            if let (Ok(inner), true) = (path.strip_prefix(dir), dir.parent().is_some()) {
                return format!("{}{}", "../".repeat(levels), escaped(inner));
            }
        }
        escaped(path)
    }

    fn compiler(&mut self, config: &Configuration) -> Result<(), AssembleError> {
        let chosen = config.choices.iter().find_map(|choices| choices.rustc.clone());
        let program = self.variable("RUSTC").map(str::to_owned).or(chosen).unwrap_or_else(|| "rustc".to_owned());
        let asked = compiler::Asked {
            program: &self.absolute(program),
            directory: &self.place,
            search: &self.bench.search_path(self.step),
            environment: self.environment,
            host_triple: self.bench.host_triple,
            triples: self.cargo.rust_triple().into_iter().chain(config.platforms.iter().map(String::as_str)).collect(),
            builds_std: self.cargo.args.iter().any(|word| word.contains("build-std")),
        };
        let found = asked.identify(self.bench.files, self.bench.tools)?;
        self.components.push(found.component);
        self.seen.extend(found.seen);
        Ok(())
    }

    /// A path is relative to where cargo runs.
    fn absolute(&self, program: String) -> String {
        if !program.contains('/') || program.starts_with('/') {
            return program;
        }
        self.place.join(&program).to_string_lossy().into_owned()
    }

    /// Compiler wrappers and linkers: who they are, wherever they were chosen.
    fn chosen_programs(&mut self, config: &Configuration) -> Result<(), AssembleError> {
        let mut names: BTreeSet<String> =
            config.choices.iter().flat_map(|choices| choices.programs.iter().cloned()).collect();
        for (name, value) in self.environment {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
            let is_linker = name.starts_with("CARGO_TARGET_") && name.ends_with("_LINKER");
            if matches!(name, "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER") || is_linker {
                names.extend(Some(value.to_owned()).filter(|value| !value.is_empty()));
            }
            if name.ends_with("RUSTFLAGS") {
                names.extend(cargo_config::linkers(value.split([' ', '\x1f'])));
            }
        }
        let search = self.bench.search_path(self.step);
        let asking = self.bench.asking(self.step, &search);
        let is_new = |name: &String| !self.step.tools.iter().any(|used| used.tool.name.value == *name);
        let names: Vec<String> = names.into_iter().map(|name| self.absolute(name)).filter(is_new).collect();
        for name in names {
            let Some(place) = self.bench.tools.find(&name, &search, &self.cargo.workspace)? else {
                self.components.push(Component::text(Part::Tool, name, "not found"));
                continue;
            };
            let tool = Tool { name: Spanned::new(name, self.cargo.span), version: None, install: None };
            let component = self.bench.tools.component(&tool, &place, &asking)?;
            self.components.push(component);
            self.seen.extend(self.bench.tools.seen(&place, &asking)?);
        }
        Ok(())
    }

    fn workspace(&mut self, config: &Configuration) -> Result<Workspace, AssembleError> {
        let search = self.bench.search_path(self.step);
        let Some(place) = self.bench.tools.find("cargo", &search, &self.cargo.workspace)? else {
            return Err(AssembleError::Missing { name: "cargo".to_owned(), install: None });
        };
        let asked = Asked {
            cargo: self.cargo,
            place: &self.place,
            program: &place.path,
            host_triple: self.bench.host_triple,
            environment: self.environment,
            configuration: &config.looked,
            platforms: &config.platforms,
        };
        let workspace = self.bench.packages.workspace(self.bench.files, &asked)?;
        let files = self.bench.files;
        for name in ["Cargo.toml", "Cargo.lock"] {
            self.behind_links(&workspace.root.join(name))?;
        }
        for path in workspace.around.iter().map(Path::new) {
            if files.look_behind(path)?.is_some() {
                self.behind_links(path)?;
            }
        }
        // In a tree of git a link is its text.
        for path in workspace.packages.iter().map(|package| package.dir.join("Cargo.toml")) {
            if files.look(&path)?.is_some_and(|stat| stat.kind == Kind::Symlink) {
                self.behind_links(&path)?;
            }
        }
        Ok(workspace)
    }

    fn behind_links(&mut self, path: &Path) -> Result<(), FileError> {
        let real = self.bench.files.resolve(path)?;
        let seen = self.bench.files.observe(&real)?;
        self.components.push(inputs::component(Part::Input, self.bench.graph.shown(path), &seen));
        self.seen.push((real, seen));
        Ok(())
    }

    /// The files of the packages: of what lies in a working copy of git, all but what it ignores; of the rest, everything.
    fn sources(&mut self, workspace: &Workspace) -> Result<(Vec<Arc<git::Identity>>, Found), AssembleError> {
        let mut identities = Vec::new();
        for scope in self.scopes(workspace)? {
            match self.bench.git.identity(&scope) {
                Ok(identity) => {
                    let mut component = git::component(&scope, &identity);
                    component.name = format!("{} (git: packages of {})", scope.shown, self.cargo.package);
                    self.components.push(component);
                    identities.push(identity);
                }
                // All of it is ignored.
                Err(GitError::Empty { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let found = self.walked(workspace, &identities)?;
        Ok((identities, found))
    }

    /// One scope for the packages of the workspace, one for each that lies elsewhere.
    fn scopes(&self, workspace: &Workspace) -> Result<Vec<Scope>, AssembleError> {
        let (inside, outside): (Vec<&Path>, Vec<&Path>) = workspace
            .packages
            .iter()
            .map(|package| package.dir.as_path())
            .partition(|dir| dir.starts_with(&workspace.root));
        let mut scopes = Vec::new();
        let all = outside.into_iter().map(|dir| (dir, vec![dir])).chain([(workspace.root.as_path(), inside)]);
        for (dir, packages) in all.filter(|(_, packages)| !packages.is_empty()) {
            if git::working_copy(dir)?.is_none() {
                continue;
            }
            let path =
                |dir: &Path, exclude: bool| InputPattern { pattern: Pattern::of_path(dir), exclude, optional: true };
            let others =
                workspace.others.iter().map(Path::new).filter(|other| packages.iter().any(|p| other.starts_with(p)));
            let made = [workspace.target_dir.as_path(), &self.cargo.target_dir];
            scopes.push(Scope {
                dir: dir.to_owned(),
                paths: packages.iter().map(|dir| path(dir, false)).chain(others.map(|dir| path(dir, true))).collect(),
                head: false,
                without: made.map(Pattern::of_path).to_vec(),
                shown: self.bench.graph.shown(dir),
            });
        }
        Ok(scopes)
    }

    /// The files of packages that no working copy holds, each once.
    fn walked(&mut self, workspace: &Workspace, held: &[Arc<git::Identity>]) -> Result<Found, AssembleError> {
        let bench = self.bench;
        let is_held = |dir: &Path| held.iter().any(|identity| identity.holds(&dir.join("Cargo.toml")));
        let held = workspace.packages.iter().map(|package| package.dir.as_path()).filter(|dir| is_held(dir));
        let others = workspace.others.iter().map(Path::new).chain(held);
        let not_sources = others.chain([workspace.target_dir.as_path(), &self.cargo.target_dir]);
        let not_sources: Vec<&Path> = not_sources.collect();
        let mut found = Found::new();
        let walk = Walk::of_packages(bench.files, bench.graph, not_sources.clone(), bench.store);
        for package in workspace.packages.iter().filter(|package| !not_sources.contains(&package.dir.as_path())) {
            walk.directory(&package.dir, &mut found)?;
        }
        let known: Vec<&Path> = self.seen.iter().map(|(path, _)| path.as_path()).collect();
        found.retain(|path, _| !known.contains(&path.as_path()));
        self.components.extend(inputs::components(bench.graph, &found));
        self.seen.extend(found.iter().map(|(path, seen)| (path.clone(), *seen)));
        Ok(found)
    }
}
