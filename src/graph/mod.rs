//! Floor 2: tasks × targets, expanded, with their needs found and in an order that works.
//!
//! [`build`] makes the graph of the *whole* manifest, so that every error of it is said at once
//! whatever was asked for; [`Graph::select`] then picks what a request needs.

#[cfg(any(test, fuzzing))]
pub mod any_bytes;
mod cargo;
mod cycle;
mod depfiles;
mod elsewhere;
mod instantiate;
mod outputs;
pub mod pattern;
pub mod placeholder;
mod programs;
mod reach;
pub mod request;
pub mod shell;
pub mod starts;
pub mod toolchain;
mod working_copy;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{StepId, StepIx};
use crate::base::span::Span;
use crate::manifest::error::Errors;
use crate::manifest::model::{HostChoice, JobserverChoice, Manifest, Tool};

pub use cargo::Cargo;
pub use elsewhere::Elsewhere;
pub use instantiate::JOBS_MARKER;
pub use request::{Request, Selection};
pub use toolchain::Toolchain;

use pattern::Pattern;

/// The steps of a manifest. A step's needs come before it.
#[derive(Debug)]
pub struct Graph {
    /// The workspace.
    pub root: PathBuf,
    pub steps: Vec<Step>,
    /// Every prefix that a step of the graph installs into.
    pub prefixes: Vec<Prefix>,
    pub warnings: Vec<String>,
    by_id: HashMap<StepId, StepIx>,
}

/// A sysroot at a target.
#[derive(Clone, Debug)]
pub struct Prefix {
    /// `utm@host`.
    pub name: String,
    /// Where people look at it.
    pub path: PathBuf,
    /// Where steps build it, if that is not there.
    pub placeholder: Option<String>,
    /// Paths below the prefix that several steps may write.
    pub shared_files: Vec<PathBuf>,
    pub span: Span,
}

impl Prefix {
    /// Where a step with views sees it.
    pub fn seen(&self) -> &Path {
        self.placeholder.as_deref().map_or(&self.path, Path::new)
    }
}

/// Index into [`Graph::prefixes`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PrefixIx(pub u32);

impl PrefixIx {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a step is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A name for its needs.
    Group,
    /// Always runs, inherits the environment.
    Plain,
    Cached,
    /// All its outputs carry a checksum, which is its whole key.
    Fixed,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub id: StepId,
    pub class: Class,
    pub span: Span,
    pub desc: Option<String>,
    pub triple: String,
    /// What its target compiles with, where that is not left to the machine.
    pub toolchain: Option<Arc<Toolchain>>,
    pub needs: Vec<Need>,
    pub commands: Vec<Command>,
    /// Absolute, as the step sees it.
    pub cwd: PathBuf,
    /// Own directory of the step below `.bcache/work`.
    pub work: PathBuf,
    /// What the step sees at another path than where it is.
    pub elsewhere: Elsewhere,
    /// Declared variables, nearest declaration first decided, in order of their names.
    pub env: Vec<(String, String)>,
    pub env_pass: Vec<(String, bool)>,
    pub secrets: Vec<String>,
    pub tools: Vec<ToolUse>,
    /// Words of commands that are files, absolute, should they exist inside the workspace.
    pub scripts: Vec<PathBuf>,
    /// Directories put on PATH.
    pub path: Vec<PathBuf>,
    pub inputs: Vec<InputPattern>,
    pub git_inputs: Vec<GitInput>,
    pub outputs: Vec<OutputPattern>,
    pub source: Option<Source>,
    pub sysroot: Option<PrefixIx>,
    /// All steps whose layers its views hold, in graph order.
    pub layers: Vec<StepIx>,
    pub clean: bool,
    /// Is the build directory kept for the next run?
    pub keeps_build_dir: bool,
    /// Files that say what a run has read.
    pub depfiles: Vec<Pattern>,
    pub timeout: Option<Duration>,
    pub retries: u32,
    pub jobs: u32,
    pub jobserver: JobserverChoice,
    pub confirm: Option<String>,
    pub host: HostChoice,
    /// What cargo builds, where it does.
    pub cargo: Option<Cargo>,
}

impl Step {
    /// Does a run begin with what the last one left? Then no key holds what its result comes from, and it is
    /// for this worktree alone.
    pub fn builds_on_itself(&self) -> bool {
        !self.clean || self.keeps_build_dir
    }

    /// Can only a run say what it reads?
    pub fn discovers(&self) -> bool {
        !self.depfiles.is_empty() || self.cargo.is_some()
    }

    /// Does the step run in views of the prefixes?
    pub fn has_views(&self) -> bool {
        self.class == Class::Cached && (self.sysroot.is_some() || !self.layers.is_empty())
    }
}

/// A need and where it comes from.
#[derive(Clone, Debug)]
pub struct Need {
    pub step: StepIx,
    pub origin: NeedOrigin,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NeedOrigin {
    /// Written in `needs`.
    Declared,
    /// This path of the step reaches an output of the other.
    Path(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Shell(String),
    Argv(Vec<String>),
}

impl Command {
    /// As a person would type it.
    pub fn shown(&self) -> String {
        match self {
            Self::Shell(text) => text.clone(),
            Self::Argv(words) => words.iter().map(|w| crate::base::text::shell_quote(w)).collect::<Vec<_>>().join(" "),
        }
    }
}

/// A program that the step uses.
#[derive(Clone, Debug)]
pub struct ToolUse {
    pub tool: Tool,
    /// Declared, or the first word of an argv command: an error where it is missing.
    pub required: bool,
}

impl ToolUse {
    pub fn is_like(&self, other: &Self) -> bool {
        self.tool.name.value == other.tool.name.value
    }
}

#[derive(Clone, Debug)]
pub struct InputPattern {
    pub pattern: Pattern,
    pub exclude: bool,
    pub optional: bool,
}

/// What git tracks or would add in a part of a working copy.
#[derive(Clone, Debug)]
pub struct GitInput {
    /// As the path that it is: relative to the workspace, or as it was written.
    pub dir: Pattern,
    /// Below `dir`; empty: everything in it.
    pub paths: Vec<InputPattern>,
    /// Does the commit count that is checked out?
    pub head: bool,
}

impl GitInput {
    /// Does it say of the path that it counts, or that it does not?
    pub fn mentions(&self, path: &Path) -> bool {
        let takes_all = self.paths.iter().all(|path| path.exclude);
        let is_named = || self.paths.iter().any(|named| named.pattern.covers(path));
        path.starts_with(&self.dir.path) && (takes_all || is_named())
    }
}

#[derive(Clone, Debug)]
pub struct OutputPattern {
    pub pattern: Pattern,
    /// Lower case hexadecimal.
    pub sha256: Option<String>,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub struct Source {
    pub span: Span,
    pub from: SourceFrom,
    pub patches: Vec<Pattern>,
    /// Where `{{ step.source }}` is; the step may see it elsewhere.
    pub dir: PathBuf,
}

#[derive(Clone, Debug)]
pub enum SourceFrom {
    Url {
        url: String,
        sha256: String,
    },
    Archive {
        path: PathBuf,
        sha256: Option<String>,
    },
    Git {
        url: String,
        rev: String,
    },
    /// A working copy, used where it is.
    Path {
        path: PathBuf,
    },
}

/// What can't be found in the manifest is looked up in it: the graph of all its tasks.
/// `args` go to `{{ args }}` of the one task that `run` names.
pub fn build(manifest: &Manifest, request: &Request) -> Result<Graph, Errors> {
    instantiate::Builder::new(manifest, request).build()
}

impl Graph {
    pub fn step(&self, ix: StepIx) -> &Step {
        &self.steps[ix.index()]
    }

    pub fn find(&self, id: &StepId) -> Option<StepIx> {
        self.by_id.get(id).copied()
    }

    pub fn prefix(&self, ix: PrefixIx) -> &Prefix {
        &self.prefixes[ix.index()]
    }

    pub fn indices(&self) -> impl Iterator<Item = StepIx> + use<> {
        (0..self.steps.len() as u32).map(StepIx)
    }

    /// Does the step know where the workspace is by this prefix of its views? Not by one that is only an empty directory to a
    /// step whose own is relocatable: what holds that path all the same is found in what it makes.
    pub fn is_placed_by(&self, step: &Step, prefix: PrefixIx) -> bool {
        let is_here = |ix: Option<PrefixIx>| ix == Some(prefix);
        let has_layers = || is_here(step.sysroot) || step.layers.iter().any(|layer| is_here(self.step(*layer).sysroot));
        self.prefix(prefix).placeholder.is_none() && (step.elsewhere.is_empty() || has_layers())
    }

    /// Does the key of a step with views say where the workspace is?
    pub fn is_placed(&self, step: &Step) -> bool {
        (0..self.prefixes.len()).any(|i| self.is_placed_by(step, PrefixIx(i as u32)))
    }

    /// Direct needs with groups replaced by what they group, each once, in order.
    pub fn flat_needs(&self, ix: StepIx) -> Vec<StepIx> {
        let mut flat = Vec::new();
        // Groups too: those that share members in many layers lead to each on more ways than can be gone.
        let mut seen = HashSet::new();
        let mut stack: Vec<StepIx> = self.step(ix).needs.iter().rev().map(|n| n.step).collect();
        while let Some(need) = stack.pop() {
            if !seen.insert(need) {
                continue;
            }
            let step = self.step(need);
            if step.class == Class::Group {
                stack.extend(step.needs.iter().rev().map(|n| n.step));
            } else {
                flat.push(need);
            }
        }
        flat
    }

    /// A path as people see it.
    pub fn shown(&self, path: &Path) -> String {
        crate::base::paths::escaped(path.strip_prefix(&self.root).unwrap_or(path))
    }
}

/// Which layers a step's views hold: those of all steps that it needs, directly or not.
fn find_layers(graph: &mut Graph) {
    let mut seen: Vec<Vec<StepIx>> = Vec::with_capacity(graph.steps.len());
    // The step that each was last counted for.
    let mut counted_for = vec![usize::MAX; graph.steps.len()];
    for at in 0..graph.steps.len() {
        let mut layers: Vec<StepIx> = Vec::new();
        for need in &graph.steps[at].needs {
            let own = graph.step(need.step).sysroot.is_some().then_some(&need.step);
            for layer in seen[need.step.index()].iter().chain(own) {
                if counted_for[layer.index()] != at {
                    counted_for[layer.index()] = at;
                    layers.push(*layer);
                }
            }
        }
        layers.sort();
        seen.push(layers);
    }
    for (step, layers) in graph.steps.iter_mut().zip(seen) {
        step.layers = layers;
    }
}
