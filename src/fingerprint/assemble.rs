//! Puts the action of a step together: called when all its needs are done, so that every input can be
//! known *now*; and once more after a run, to see whether something moved meanwhile.

mod behind;
mod programs;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::action::{Action, Component, Kind as Part, Made};
use crate::base::digest::Hasher;
use crate::base::ids::StepIx;
use crate::graph::toolchain::PROGRAM;
use crate::graph::{Class, Command, Elsewhere, Graph, PrefixIx, Step, placeholder};
use crate::manifest::expand::TargetFacts;
use crate::manifest::model::HostChoice;

use super::cargo::compiler::CompilerError;
use super::cargo::metadata::{Memory, MetadataError};
use super::cargo::{self, Sources};
use super::env::{self, Outside, Places};
use super::files::{FileError, Files, Observation};
use super::git::{self, Git, GitError, Scope};
use super::host::{self, Host, Identity};
use super::inputs::{self, Found, InputError, Walk};
use super::links::{Ground, Links};
use super::marks;
use super::proxies::Chosen;
use super::source;
use super::tools::{Asking, Place, ToolError, Tools, is_program};
use super::zig::{self, Zig};

/// What is an input of those that a run was found to read. Steps that have such run anew when it is understood otherwise.
const DISCOVERED: &str = "bcache discovered 3";

/// What actions are made from.
pub struct Workbench<'a> {
    pub graph: &'a Graph,
    pub files: &'a Files,
    pub outside: &'a Outside,
    pub tools: &'a Tools<'a>,
    pub host: &'a Host<'a>,
    pub git: &'a Git<'a>,
    pub packages: &'a Memory,
    /// `.bcache` of the worktree.
    pub state: &'a Path,
    /// Directories in which the store keeps things, by each of their names.
    pub store: &'a [PathBuf],
    pub host_triple: &'a str,
    pub is_root: bool,
    /// For what zig makes of its own sources.
    pub zig_caches: &'a Path,
}

/// An action and what running it takes.
pub struct Assembled {
    pub action: Action,
    /// Everything that was looked at for it, to be compared after the run.
    pub seen: Vec<(PathBuf, Observation)>,
    /// Links on the way to programs, in no key: which program it is counts, not where it lies. Compared as well.
    pub ways: Links,
    /// Its git inputs: compared after the run too.
    pub git: Vec<Arc<git::Identity>>,
    pub environment: Vec<(OsString, OsString)>,
    /// A directory of links to make before the run: name and what it leads to.
    pub tool_links: Option<ToolLinks>,
    /// Resolved programs by name.
    pub programs: Vec<(String, PathBuf)>,
    pub patches: Vec<PathBuf>,
    pub tmp: PathBuf,
    /// The private home, where the step has one.
    pub home: Option<PathBuf>,
    pub host: Option<Hosted>,
    /// Where its target compiles with it.
    pub zig: Option<Zig>,
    /// Of what cargo builds.
    pub cargo: Option<Sources>,
    /// That of the step, and where it sees the links.
    pub elsewhere: Elsewhere,
}

/// What a step knows of the machine.
pub struct Hosted {
    pub identity: Arc<Identity>,
    /// Its own programs, and all links that lead to them.
    pub programs: Vec<PathBuf>,
}

/// A directory, and the links in it: name and what it leads to.
pub type ToolLinks = (PathBuf, Vec<(String, PathBuf)>);

#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Compiler(#[from] CompilerError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("tool `{name}` is missing")]
    Missing { name: String, install: Option<String> },
}

/// A needed step and what it made.
pub struct Producer<'m> {
    pub step: StepIx,
    pub made: &'m Made,
}

impl Workbench<'_> {
    /// `needs` are the direct needs (groups replaced by what they group) that made something, in order;
    /// `layers` those whose layers are in the step's views, in graph order.
    pub fn assemble(&self, ix: StepIx, needs: &[Producer], layers: &[Producer]) -> Result<Assembled, AssembleError> {
        let step = self.graph.step(ix);
        let own = step.work.join("tmp");
        let tmp = if step.elsewhere.is_empty() { self.state.join("t").join(step.id.file_name()) } else { own };
        let home = step.has_views().then(|| step.work.join("home"));
        let mut parts = Parts::new(self, step);
        if step.class == Class::Fixed {
            parts.fixed();
        } else {
            parts.settings()?;
            parts.commands();
            parts.components.extend(env::components(step, self.outside, |text| self.mark(text)));
        }
        let located = parts.tools(layers)?;
        let described = parts.source()?;
        if step.class != Class::Fixed {
            parts.inputs()?;
            parts.git_inputs()?;
            parts.produced(needs, layers);
            parts.behind_links(needs, layers)?;
            parts.outputs();
        }
        let host = parts.host(&located)?;
        let bins = self.prefix_bins(ix, step);
        let tool_links = self.tool_links(step, &located)?;
        let zig = self.zig(step, &located)?;
        let elsewhere = with_tools(&step.elsewhere, tool_links.as_ref());
        let seen_home = home.as_ref().map(|home| elsewhere.seen(home));
        let places = Places {
            prefix_bins: &bins,
            tool_links: tool_links.as_ref().map(|(dir, _)| elsewhere.seen(dir)),
            tmp: &elsewhere.seen(&tmp),
            home: seen_home.as_deref(),
            zig: zig.as_ref(),
        };
        let environment = env::environment(step, self.outside, &places);
        let cargo = parts.cargo(&environment)?;
        let Parts { components, seen, ways, git, .. } = parts;
        let programs = located.into_iter().map(|(name, place)| (name, place.real)).collect();
        Ok(Assembled {
            action: Action { components },
            seen,
            ways,
            git,
            environment,
            tool_links,
            programs,
            patches: described,
            tmp,
            home,
            host,
            zig,
            cargo,
            elsewhere,
        })
    }

    /// Text as it is in a key.
    fn mark(&self, text: &str) -> String {
        marks::marked(text, self.graph.root.to_str())
    }

    fn mark_path(&self, path: &Path) -> String {
        match path.strip_prefix(&self.graph.root) {
            Ok(inner) => crate::base::paths::escaped(&Path::new("{workspace}").join(inner)),
            Err(_) => crate::base::paths::escaped(path),
        }
    }

    /// Where a step without views, or the first part of one with them, finds programs, in the order of its PATH: what the
    /// person's has is linked between the step's own directories and those of the system.
    pub fn search_path(&self, step: &Step) -> Vec<PathBuf> {
        let system = env::SYSTEM_PATH.iter().filter(|_| step.class != Class::Plain).map(PathBuf::from);
        let mut known = HashSet::new();
        let all = self.own_path(step).cloned().chain(self.outside.search_path()).chain(system);
        all.filter(|dir| known.insert(dir.clone())).collect()
    }

    /// How the programs of a step are asked.
    pub fn asking<'s>(&'s self, step: &'s Step, search: &'s [PathBuf]) -> Asking<'s> {
        Asking {
            search,
            own: self.own_path(step).cloned().collect(),
            root: &self.graph.root,
            directory: &step.cwd,
            chosen: Chosen::by(step, self.outside),
        }
    }

    /// Where a program is that a step names; zig may be one of Python's modules.
    pub fn find_tool(&self, step: &Step, name: &str, search: &[PathBuf]) -> Result<Option<Place>, ToolError> {
        let directory = step.elsewhere.real(&step.cwd);
        match self.tools.find(name, search, &directory)? {
            None if name == PROGRAM => {
                let asking = Asking { directory: &self.graph.root, ..self.asking(step, search) };
                zig::of_python(self.tools, self.files, &asking)
            }
            // Cargo looks there too.
            None if name.starts_with("cargo-") => {
                let home = self.outside.get("CARGO_HOME").map(PathBuf::from);
                let home = home.or_else(|| Some(self.outside.home()?.join(".cargo")));
                home.map_or(Ok(None), |home| self.tools.find(name, &[home.join("bin")], &directory))
            }
            found => Ok(found),
        }
    }

    /// The zig of a step whose target compiles with it. Where a layer brings it, its tools find it on PATH.
    fn zig(&self, step: &Step, located: &[(String, Place)]) -> Result<Option<Zig>, ToolError> {
        if step.toolchain.is_none() {
            return Ok(None);
        }
        let known = located.iter().find(|(name, _)| name == PROGRAM).map(|(_, place)| place.clone());
        let place = match (known, step.class) {
            // One that always runs may do without.
            (None, Class::Plain | Class::Fixed) => self.find_tool(step, PROGRAM, &self.search_path(step))?,
            (known, Class::Plain | Class::Fixed | Class::Cached | Class::Group) => known,
        };
        place.map(|place| Zig::at(&place, self.files, self.zig_caches)).transpose()
    }

    /// The directories of `path`, but for those in a prefix: what of that a step sees is known by its layers, and others
    /// install there too.
    fn own_path<'s>(&'s self, step: &'s Step) -> impl Iterator<Item = &'s PathBuf> {
        let is_layers = |dir: &Path| step.has_views() && self.graph.prefixes.iter().any(|p| dir.starts_with(&p.path));
        step.path.iter().filter(move |dir| !is_layers(dir))
    }

    fn runs_here(&self, triple: &str) -> bool {
        let (a, b) = (TargetFacts::from_triple("", triple), TargetFacts::from_triple("", self.host_triple));
        a.arch == b.arch && a.os == b.os
    }

    /// `<prefix>/bin` of each view that holds layers: the step's own first, then in the order of needs.
    fn prefix_bins(&self, ix: StepIx, step: &Step) -> Vec<PathBuf> {
        let needs = self.graph.flat_needs(ix).into_iter().chain(step.layers.iter().copied());
        let others = needs.filter_map(|n| self.graph.step(n).sysroot.map(|p| (p, self.graph.step(n).triple.as_str())));
        let own = step.sysroot.map(|p| (p, step.triple.as_str()));
        let mut bins = Vec::new();
        for (prefix, triple) in own.into_iter().chain(others).filter(|(_, triple)| self.runs_here(triple)) {
            let prefix = self.graph.prefix(prefix);
            let bin = if step.has_views() { prefix.seen() } else { &prefix.path }.join("bin");
            if !bins.contains(&bin) {
                bins.push(bin);
            }
            debug_assert!(!triple.is_empty());
        }
        bins
    }

    /// Tools that lie where the step's PATH does not reach get a link in a directory that it does.
    fn tool_links(&self, step: &Step, located: &[(String, Place)]) -> Result<Option<ToolLinks>, ToolError> {
        if step.class == Class::Plain {
            return Ok(None);
        }
        let reach = env::reach(step);
        let mut links = Vec::new();
        for (name, place) in located.iter().filter(|(name, _)| !name.contains('/')) {
            let is_there = reach.iter().any(|dir| place.path.parent() == Some(dir));
            // The person's PATH may hold the same directories in another order.
            if !is_there || self.tools.find(name, &reach, &step.cwd)?.is_none_or(|found| found.real != place.real) {
                links.push((name.clone(), place.path.clone()));
            }
        }
        if links.is_empty() {
            return Ok(None);
        }
        links.sort();
        let mut hasher = Hasher::new("bcache tool links 1");
        for (name, path) in &links {
            hasher.text(name).bytes(path.as_os_str().as_encoded_bytes());
        }
        let name = hasher.finish().short();
        Ok(Some((self.state.join("tools").join(name), links)))
    }
}

/// A step that sees its own directories elsewhere sees the links to its tools elsewhere too.
fn with_tools(elsewhere: &Elsewhere, links: Option<&ToolLinks>) -> Elsewhere {
    let mut all = elsewhere.clone();
    if let Some((dir, _)) = links.filter(|_| !elsewhere.is_empty()) {
        all.mounts.push((dir.clone(), placeholder::tools()));
    }
    all
}

/// The parts of working copies that are inputs of a step.
fn git_scopes(step: &Step) -> Vec<Scope> {
    let without = || step.depfiles.clone();
    step.git_inputs
        .iter()
        .map(|input| Scope {
            dir: input.dir.path.clone(),
            paths: input.paths.clone(),
            head: input.head,
            without: without(),
            shown: input.dir.shown.trim_end_matches('/').to_owned(),
        })
        .collect()
}

/// The components of one action, in the making.
struct Parts<'a> {
    bench: &'a Workbench<'a>,
    step: &'a Step,
    components: Vec<Component>,
    seen: Vec<(PathBuf, Observation)>,
    ways: Links,
    git: Vec<Arc<git::Identity>>,
    /// What starts the workspace's own scripts.
    interpreters: Vec<Place>,
}

impl<'a> Parts<'a> {
    fn new(bench: &'a Workbench<'a>, step: &'a Step) -> Self {
        Self {
            bench,
            step,
            components: Vec::new(),
            seen: Vec::new(),
            ways: Links::new(),
            git: Vec::new(),
            interpreters: Vec::new(),
        }
    }
}

impl Parts<'_> {
    fn text(&mut self, kind: Part, name: &str, value: impl Into<String>) {
        self.components.push(Component::text(kind, name, value));
    }

    /// Paths and sums are the whole key.
    fn fixed(&mut self) {
        for output in &self.step.outputs {
            let sum = output.sha256.as_deref().unwrap_or_default();
            self.text(Part::Output, &output.pattern.shown, format!("sha256 {sum}"));
        }
    }

    /// Where the commands run. A link on the way counts by its text: `..`, and what is written without a way, go by where it
    /// leads. Own directories are as we make them, those in prefixes are known by their layers.
    fn directory(&mut self) -> Result<(), AssembleError> {
        let (bench, step) = (self.bench, self.step);
        self.text(Part::Setting, "directory", bench.mark_path(&step.cwd));
        let cwd = step.elsewhere.real(&step.cwd);
        if cwd.starts_with(&step.work) || bench.graph.prefixes.iter().any(|prefix| cwd.starts_with(&prefix.path)) {
            return Ok(());
        }
        for (link, seen) in bench.files.links_into(&cwd, &bench.graph.root)? {
            let name = format!("directory by {}", bench.mark_path(&link));
            self.components.push(super::inputs::component(Part::Setting, name, &seen));
            self.seen.push((link, seen));
        }
        Ok(())
    }

    fn settings(&mut self) -> Result<(), AssembleError> {
        let (bench, step) = (self.bench, self.step);
        self.text(Part::Setting, "host", bench.host_triple);
        self.text(Part::Setting, "target", step.triple.as_str());
        self.text(Part::Setting, "runner", if step.has_views() { "local, in views" } else { "local" });
        self.text(Part::Setting, "root", if bench.is_root { "yes" } else { "no" });
        self.directory()?;
        // Only where they are used, so that the keys of others stay.
        for depfile in &step.depfiles {
            let shown = bench.mark(&depfile.shown);
            let digest = Hasher::new(DISCOVERED).text(&shown).finish();
            self.components.push(Component { kind: Part::Setting, name: "depfile".to_owned(), digest, shown });
        }
        if step.cargo.is_some() {
            self.text(Part::Setting, "discovered", DISCOVERED);
        }
        // By the task's name.
        if !step.elsewhere.is_empty() {
            let seen = step.elsewhere.seen(&step.work);
            self.text(Part::Setting, "seen at", crate::base::paths::escaped(&seen));
        }
        if step.keeps_build_dir {
            self.text(Part::Setting, "build-dir", "keep");
        }
        if !step.clean {
            self.text(Part::Setting, "clean", "false");
        }
        if step.has_views() {
            for (i, prefix) in bench.graph.prefixes.iter().enumerate() {
                let is_placed = bench.graph.is_placed_by(step, PrefixIx(i as u32));
                let seen = prefix.seen();
                let shown = if is_placed { crate::base::paths::escaped(seen) } else { bench.mark_path(seen) };
                self.text(Part::Prefix, &prefix.name, shown);
            }
        }
        Ok(())
    }

    fn commands(&mut self) {
        for (i, command) in self.step.commands.iter().enumerate() {
            let mut hasher = Hasher::new("bcache command 1");
            match command {
                Command::Shell(text) => {
                    hasher.number(0).text(&self.bench.mark(text));
                }
                Command::Argv(words) => {
                    hasher.number(1).number(words.len() as u64);
                    words.iter().for_each(|w| {
                        hasher.text(&self.bench.mark(w));
                    });
                }
            }
            let shown = self.bench.mark(&command.shown());
            self.components.push(Component {
                kind: Part::Command,
                name: (i + 1).to_string(),
                digest: hasher.finish(),
                shown,
            });
        }
    }

    /// The installed packages that the step could notice.
    fn host(&mut self, located: &[(String, Place)]) -> Result<Option<Hosted>, AssembleError> {
        let (bench, step) = (self.bench, self.step);
        if step.class != Class::Cached || step.host == HostChoice::Off {
            return Ok(None);
        }
        let programs = host::programs(bench.files, bench.tools, step, located)?;
        let asked = host::Asked { programs: &programs, has_views: step.has_views(), choice: &step.host };
        let Some((identity, facts)) = bench.host.identity(&asked)? else {
            self.text(Part::Host, "packages", "unknown");
            return Ok(None);
        };
        // Of its directories, the stamps are looked at when the action is put together again.
        self.seen.extend(facts.into_iter().filter(|(_, seen)| seen.digest.is_some()));
        self.components.push(Component {
            kind: Part::Host,
            name: "packages".to_owned(),
            digest: identity.digest,
            shown: crate::base::text::count(identity.packages, "package"),
        });
        let programs = programs.into_iter().flat_map(|(_, links)| links).collect();
        Ok(Some(Hosted { identity, programs }))
    }

    /// What cargo builds, from which sources and by which compiler.
    fn cargo(&mut self, environment: &[(OsString, OsString)]) -> Result<Option<Sources>, AssembleError> {
        let Some(cargo) = self.step.cargo.as_ref().filter(|_| self.step.class == Class::Cached) else {
            return Ok(None);
        };
        let described = cargo::describe(self.bench, self.step, cargo, environment)?;
        self.components.extend(described.components);
        self.seen.extend(described.seen);
        self.git.extend(described.sources.git.iter().cloned());
        Ok(Some(described.sources))
    }

    fn source(&mut self) -> Result<Vec<PathBuf>, AssembleError> {
        let Some(source) = &self.step.source else { return Ok(Vec::new()) };
        let walk = Walk::new(self.bench.files, self.bench.graph, self.step, self.bench.store);
        let described = source::describe(self.bench.files, self.bench.graph, &walk, source)?;
        self.components.extend(described.components);
        self.seen.extend(described.seen);
        Ok(described.patches)
    }

    fn inputs(&mut self) -> Result<(), AssembleError> {
        let (bench, step) = (self.bench, self.step);
        let walk = Walk::new(bench.files, bench.graph, step, bench.store);
        let mut found: Found = walk.expand(&step.inputs)?;
        // What lies in a prefix is known by its layer.
        let is_installed = |path: &Path| bench.graph.prefixes.iter().any(|p| path.starts_with(&p.path));
        let is_ours =
            |path: &Path| path.starts_with(&bench.graph.root) && !path.starts_with(bench.state) && !is_installed(path);
        for script in step.scripts.iter().filter(|s| !step.outputs.iter().any(|o| o.pattern.covers(s))) {
            // Elsewhere, what can be started is a tool.
            let elsewhere = !script.starts_with(&bench.graph.root);
            if is_ours(script) || elsewhere && !is_program(bench.files, script)? {
                walk.named(script, &mut found)?;
            }
        }
        for Place { path, real } in &self.interpreters {
            let is_own = step.outputs.iter().any(|output| output.pattern.covers(path));
            if (is_ours(path) || is_ours(real)) && !is_own {
                walk.named(path, &mut found)?;
            }
        }
        self.components.extend(inputs::components(bench.graph, &found));
        self.seen.extend(found);
        Ok(())
    }

    /// One component for each working copy, by what is in it.
    fn git_inputs(&mut self) -> Result<(), AssembleError> {
        for scope in git_scopes(self.step) {
            let identity = self.bench.git.identity(&scope)?;
            let links = self.bench.files.way(&scope.dir, &Ground::of(self.bench.graph))?;
            let by_links =
                links.iter().map(|(link, seen)| inputs::component(Part::Input, self.bench.graph.shown(link), seen));
            for component in by_links.chain([git::component(&scope, &identity)]) {
                if !self.components.contains(&component) {
                    self.components.push(component);
                }
            }
            self.seen.extend(links);
            self.git.push(identity);
        }
        Ok(())
    }

    fn produced(&mut self, needs: &[Producer], layers: &[Producer]) {
        let graph = self.bench.graph;
        for need in needs {
            let name = graph.step(need.step).id.to_string();
            self.components.push(Component {
                kind: Part::Need,
                name,
                digest: need.made.digest(),
                shown: String::new(),
            });
        }
        if !self.step.has_views() {
            return;
        }
        let direct: Vec<StepIx> = needs.iter().map(|n| n.step).collect();
        let mut parts: Vec<Component> = layers
            .iter()
            .filter(|l| !direct.contains(&l.step))
            .filter_map(|l| {
                let digest = l.made.layer.as_ref()?.digest();
                Some(Component {
                    kind: Part::Layer,
                    name: graph.step(l.step).id.to_string(),
                    digest,
                    shown: String::new(),
                })
            })
            .collect();
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        self.components.extend(parts);
    }

    fn outputs(&mut self) {
        for output in &self.step.outputs {
            let value = if output.optional { "optional" } else { "" };
            self.components.push(Component::text(Part::Output, &output.pattern.shown, value));
        }
        if let Some(prefix) = self.step.sysroot {
            let prefix = self.bench.graph.prefix(prefix);
            let shared =
                prefix.shared_files.iter().map(|p| crate::base::paths::escaped(p)).collect::<Vec<_>>().join(" ");
            self.text(Part::Output, &format!("layer of {}", prefix.name), shared);
        }
    }
}
