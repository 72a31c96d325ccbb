//! What the manifest says once it is read and checked: templates merged, names resolved, every string
//! that may hold `{{ … }}` still unexpanded and with its span.

use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;

use super::zig::ZigTarget;
use crate::base::span::{FileId, SourceFile, Span, Spanned};

/// A string that may hold `{{ … }}`.
pub type Text = Spanned<String>;

#[derive(Clone, Debug)]
pub struct Manifest {
    /// The directory of the first file: the workspace. Absolute, without symbolic links.
    pub root: PathBuf,
    /// All files read, the first one first.
    pub files: Vec<SourceFile>,
    /// In the order in which they were met, also of files that were read before.
    pub includes: Vec<Include>,
    pub settings: Settings,
    pub vars: Vars,
    pub targets: IndexMap<String, Target>,
    pub sysroots: IndexMap<String, Sysroot>,
    pub tasks: IndexMap<String, Task>,
    /// Said on every run, in order.
    pub warnings: Vec<ManifestWarning>,
}

impl Manifest {
    /// The directory that paths written in this file are relative to.
    pub fn dir_of(&self, file: FileId) -> &std::path::Path {
        self.files[usize::from(file.0)].path.parent().expect("BUG: a file lies in a directory")
    }
}

/// A file that another one includes.
#[derive(Clone, Debug)]
pub struct Include {
    /// Absolute, with the links on the way: these may be turned elsewhere.
    pub written: PathBuf,
    /// Where it led when it was read.
    pub place: PathBuf,
}

#[derive(Clone, Debug)]
pub struct ManifestWarning {
    pub text: String,
    pub span: Span,
}

#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub default: Option<Spanned<String>>,
    pub rebuild_env: Vec<String>,
}

pub type Vars = IndexMap<String, Var>;
pub type Env = IndexMap<String, Text>;

/// A value in `vars`: a string is inserted raw, a list word by word. Either may hold `{{ … }}` itself.
#[derive(Clone, Debug)]
pub enum Var {
    Text(Text),
    List(Vec<Text>),
}

#[derive(Clone, Debug)]
pub struct Target {
    pub span: Span,
    pub triple: Spanned<String>,
    /// What zig makes of the triple, where `toolchain = "zig"`.
    pub zig: Option<ZigTarget>,
    pub env: Env,
    pub vars: Vars,
}

#[derive(Clone, Debug)]
pub struct Sysroot {
    /// Span of its name.
    pub span: Span,
    /// Relative to the directory of the file it stands in.
    pub path: Text,
    pub env: Env,
    /// Paths relative to the prefix.
    pub shared_files: Vec<Spanned<String>>,
    pub host: Option<HostChoice>,
    /// Built at a placeholder path, the same for every checkout?
    pub relocatable: bool,
}

#[derive(Clone, Debug)]
pub struct Task {
    /// Span of its name.
    pub span: Span,
    pub desc: Option<String>,
    /// `name` or `name@target`, each checked to exist.
    pub needs: Vec<Spanned<String>>,
    /// Empty: the host, or with a sysroot any target asked of it.
    pub targets: Vec<Spanned<String>>,
    pub sysroot: Option<Spanned<String>>,
    pub source: Option<Source>,
    pub inputs: Vec<Input>,
    pub git_inputs: Vec<GitInput>,
    pub outputs: Vec<Output>,
    pub env: Env,
    pub env_pass: Vec<EnvPass>,
    pub secrets: Vec<Spanned<String>>,
    pub tools: Vec<Tool>,
    /// Directories put on PATH.
    pub path: Vec<Text>,
    pub vars: Vars,
    pub before: Vec<Command>,
    pub run: Vec<Command>,
    pub after: Vec<Command>,
    pub cwd: Option<Text>,
    /// As written; see [`Task::has_nothing_to_judge_by`].
    pub cache: bool,
    /// Remove old outputs before a run?
    pub clean: bool,
    pub build_dir: BuildDir,
    /// Paths or globs of files that say what a run has read.
    pub depfiles: Vec<Text>,
    pub timeout: Option<Duration>,
    pub retries: u32,
    /// Tokens that the step holds while it runs, at least 1.
    pub jobs: u32,
    pub jobserver: JobserverChoice,
    pub confirm: Option<String>,
    /// Stronger than the sysroot's.
    pub host: Option<HostChoice>,
    /// Instead of commands: what cargo builds.
    pub cargo: Option<Cargo>,
}

impl Task {
    /// No commands: a name for its needs.
    pub fn is_group(&self) -> bool {
        self.before.is_empty() && self.run.is_empty() && self.after.is_empty() && self.cargo.is_none()
    }

    /// Nothing declared that a verdict could rest on: such a task always runs.
    pub fn has_nothing_to_judge_by(&self) -> bool {
        self.inputs.is_empty()
            && self.git_inputs.is_empty()
            && self.source.is_none()
            && self.outputs.is_empty()
            && self.sysroot.is_none()
            && self.depfiles.is_empty()
            && self.cargo.is_none()
    }

    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.before.iter().chain(&self.run).chain(&self.after)
    }
}

#[derive(Clone, Debug)]
pub enum Command {
    /// Run under `sh -eu`.
    Shell(Text),
    /// Run without a shell.
    Argv(Vec<Text>),
}

impl Command {
    /// Where it stands; one without words is at `or`.
    pub fn span(&self, or: Span) -> Span {
        match self {
            Self::Shell(text) => text.span,
            Self::Argv(words) => words.first().map_or(or, |word| word.span),
        }
    }
}

/// What becomes of a build directory after a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuildDir {
    /// A run begins with an empty one.
    Fresh,
    /// It survives edits of the working copy. The place of the word `keep`.
    Keep(Span),
}

#[derive(Clone, Debug)]
pub struct Source {
    pub span: Span,
    pub from: SourceFrom,
    /// Paths or globs, in the order in which they are applied.
    pub patches: Vec<Text>,
}

#[derive(Clone, Debug)]
pub enum SourceFrom {
    Url { url: Text, sha256: Spanned<String> },
    Archive { archive: Text, sha256: Option<Spanned<String>> },
    Git { git: Text, rev: Spanned<String> },
    Path { path: Text },
}

/// What `cargo build` is asked for.
#[derive(Clone, Debug)]
pub struct Cargo {
    /// Of the key `cargo`.
    pub span: Span,
    pub workspace: Option<Text>,
    pub package: Text,
    pub bins: Vec<Text>,
    pub lib: bool,
    pub profile: Option<Text>,
    pub features: Vec<Text>,
    pub no_default_features: bool,
    pub target_dir: Option<Text>,
    pub args: Vec<Text>,
}

impl Cargo {
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        let single = [self.workspace.as_ref(), Some(&self.package), self.profile.as_ref(), self.target_dir.as_ref()];
        single.into_iter().flatten().chain(&self.bins).chain(&self.features).chain(&self.args)
    }
}

#[derive(Clone, Debug)]
pub struct Input {
    /// A path or glob; `!` in front takes matches away again.
    pub pattern: Text,
    pub exclude: bool,
    pub optional: bool,
}

/// What git tracks or would add in a part of a working copy.
#[derive(Clone, Debug)]
pub struct GitInput {
    /// Of the key `git`.
    pub span: Span,
    pub dir: Text,
    /// Relative to `dir`; empty: everything in it.
    pub paths: Vec<Input>,
    /// Does the commit count that is checked out?
    pub head: bool,
}

#[derive(Clone, Debug)]
pub struct Output {
    /// A path, a directory (ends in `/`) or a glob.
    pub path: Text,
    pub sha256: Option<Spanned<String>>,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub struct EnvPass {
    pub name: Spanned<String>,
    /// Is the value part of the key?
    pub key: bool,
}

#[derive(Clone, Debug)]
pub struct Tool {
    pub name: Spanned<String>,
    /// Command whose output is the tool's identity, instead of its content.
    pub version: Option<Spanned<String>>,
    /// How to get it: part of the error where it is missing.
    pub install: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobserverChoice {
    /// Found from the step's tools.
    Auto,
    Pipe,
    Fifo,
    Off,
}

/// How much of what is installed on this machine counts for a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostChoice {
    /// All that the step could notice.
    Whole,
    /// Packages of these names, with what they depend on.
    Named(Vec<String>),
    /// Nothing; and then nothing is hidden.
    Off,
}
