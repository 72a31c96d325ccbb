//! What a `cargo` task is at one target: its command, and the directories that belong to it.
//!
//! The programs are copied out of cargo's target directory into one of the step's own, so that what people or other
//! tasks build there (the same name with other features) is nobody's output, and cargo never finds there what it did not
//! put there itself. The target directory is one per target and workspace, below `.bcache`: builds by hand with another
//! environment would undo it at every turn.

use std::path::{Path, PathBuf};

use crate::base::digest::{Digest, Hasher};
use crate::base::ids::{HOST, StepId};
use crate::base::span::{Span, Spanned};
use crate::manifest::error::Problem;
use crate::manifest::expand::Expander;
use crate::manifest::model::{self, HostChoice, Tool};
use crate::manifest::zig::ZigTarget;

use super::instantiate::Fill;
use super::pattern::Pattern;
use super::{Class, Command, OutputPattern, Step, ToolUse};

/// A step that cargo builds.
#[derive(Clone, Debug)]
pub struct Cargo {
    pub span: Span,
    /// Absolute; cargo runs there.
    pub workspace: PathBuf,
    pub package: String,
    /// Empty, and no `lib`: all that the package has.
    pub bins: Vec<String>,
    pub lib: bool,
    pub profile: Option<String>,
    pub features: Vec<String>,
    pub no_default_features: bool,
    /// `--target`; none for the host.
    pub target: Option<String>,
    /// Is zig its linker, and the C compiler of its build scripts? Then `cargo zigbuild` builds.
    pub is_zig: bool,
    pub target_dir: PathBuf,
    /// Is that one of ours, and not said by the task?
    pub has_own_target_dir: bool,
    /// Where the programs are put.
    pub out: PathBuf,
    pub args: Vec<String>,
}

impl Cargo {
    /// As a person would type it.
    pub fn command(&self) -> Command {
        let build = if self.is_zig { "zigbuild" } else { "build" };
        let mut words = vec!["cargo".to_owned(), build.to_owned()];
        self.choice(&mut words);
        words.extend(self.args.iter().cloned());
        Command::Argv(words)
    }

    fn choice(&self, words: &mut Vec<String>) {
        let mut say = |option: &str, value: &str| words.extend([option.to_owned(), value.to_owned()]);
        say("--package", &self.package);
        self.bins.iter().for_each(|bin| say("--bin", bin));
        if let Some(profile) = &self.profile {
            say("--profile", profile);
        }
        if !self.features.is_empty() {
            say("--features", &self.features.join(","));
        }
        if let Some(target) = &self.target {
            say("--target", target);
        }
        words.extend(self.lib.then(|| "--lib".to_owned()));
        words.extend(self.no_default_features.then(|| "--no-default-features".to_owned()));
    }

    /// The triple as rustc knows it: without the version of glibc that zig is told.
    pub fn rust_triple(&self) -> Option<&str> {
        let target = self.target.as_deref()?;
        Some(target.split_once('.').map_or(target, |(triple, _)| triple))
    }

    /// The subcommand that tells cargo of zig.
    pub(super) fn zigbuild(&self) -> Option<ToolUse> {
        let name = Spanned::new("cargo-zigbuild".to_owned(), self.span);
        let install = Some("cargo install cargo-zigbuild".to_owned());
        self.is_zig.then_some(ToolUse { tool: Tool { name, version: None, install }, required: true })
    }

    /// Cargo looks for it on PATH; with `RUSTC` set it need not be there.
    pub(super) fn compiler(&self) -> ToolUse {
        let name = Spanned::new("rustc".to_owned(), self.span);
        ToolUse { tool: Tool { name, version: None, install: None }, required: false }
    }

    /// Is this one of the programs that were asked for?
    pub fn wants_bin(&self, name: &str) -> bool {
        if self.bins.is_empty() { !self.lib } else { self.bins.iter().any(|bin| bin == name) }
    }

    /// Files of configuration that its arguments name; another word after `--config` is configuration itself.
    pub fn configuration_files(&self) -> Vec<PathBuf> {
        let after = self.args.windows(2).filter(|pair| pair[0] == "--config").map(|pair| pair[1].as_str());
        let joined = self.args.iter().filter_map(|word| word.strip_prefix("--config="));
        after.chain(joined).map(|word| self.workspace.join(word)).filter(|path| path.is_file()).collect()
    }

    /// What among its arguments has a say in which packages there are: cargo is told of it whatever it is asked.
    pub fn options_for_all(&self) -> impl Iterator<Item = &str> {
        let before = [""].into_iter().chain(self.args.iter().map(String::as_str));
        let is_meant = |(before, word): &(&str, &str)| {
            *before == "--config"
                || word.starts_with("-Z")
                || word.starts_with("--config=")
                || matches!(*word, "--config" | "--locked" | "--offline" | "--frozen")
        };
        before.zip(self.args.iter().map(String::as_str)).filter(is_meant).map(|(_, word)| word)
    }

    pub fn wants_lib(&self) -> bool {
        self.lib || self.bins.is_empty()
    }

    fn output(&self, root: &Path) -> Option<OutputPattern> {
        let inner = self.out.strip_prefix(root).ok()?;
        let pattern = Pattern::new(&format!("{}/", inner.to_str()?), root, root, self.span).ok()?;
        Some(OutputPattern { pattern, sha256: None, optional: false })
    }
}

impl Fill<'_, '_> {
    /// What a step makes. Where cargo builds it that is the directory of its programs; one that is not cached has none.
    pub(super) fn made(
        &mut self,
        expander: &mut Expander,
        task: &model::Task,
        cargo: Option<&Cargo>,
        class: Class,
    ) -> Vec<OutputPattern> {
        match cargo {
            Some(cargo) if class == Class::Cached => cargo.output(self.root).into_iter().collect(),
            Some(_) => Vec::new(),
            None => self.outputs(expander, task),
        }
    }

    pub(super) fn cargo(
        &mut self,
        expander: &mut Expander,
        id: &StepId,
        cargo: &model::Cargo,
        zig: Option<&ZigTarget>,
        args: &[String],
    ) -> Option<Cargo> {
        let root = self.root.to_owned();
        let here = self.manifest.dir_of(cargo.span.file).to_owned();
        let workspace = match &cargo.workspace {
            Some(text) => self.path(expander, text)?,
            None => here,
        };
        let mut text = |fill: &mut Self, text: &model::Text| {
            let expanded = expander.text(text);
            fill.keep(expanded)
        };
        let package = text(self, &cargo.package)?;
        let mut all = |fill: &mut Self, texts: &[model::Text]| -> Vec<String> {
            texts.iter().filter_map(|t| text(fill, t)).collect()
        };
        let (bins, features, own_args) = (all(self, &cargo.bins), all(self, &cargo.features), all(self, &cargo.args));
        let profile = all(self, cargo.profile.as_slice()).pop();
        let target_dir = match &cargo.target_dir {
            Some(text) => {
                let dir = self.path(expander, text)?;
                self.inside(&dir, text.span, "a target directory")?;
                dir
            }
            None => root.join(".bcache/cargo").join(&*id.target).join(place_of(&root, &workspace)),
        };
        if let Some(word) = own_args.iter().chain(args).find(|word| is_ours(word)) {
            let text = format!("`{word}` is set by bcache and can't be in `args`");
            self.problems.push(Problem::new("bcache::graph::cargo_args", text, cargo.span));
        }
        Some(Cargo {
            span: cargo.span,
            workspace,
            package,
            bins,
            lib: cargo.lib,
            profile,
            features,
            no_default_features: cargo.no_default_features,
            target: match zig {
                Some(zig) => Some(zig.zigbuild()),
                None => (&*id.target != HOST).then(|| self.scope.target.triple.clone()),
            },
            is_zig: zig.is_some(),
            target_dir,
            has_own_target_dir: cargo.target_dir.is_none(),
            out: root.join(".bcache/out").join(&*id.target).join(&*id.task),
            args: own_args.into_iter().chain(args.iter().cloned()).collect(),
        })
    }
}

/// Steps whose variables, programs or needs differ build apart from each other: each would undo what the other has built.
pub(super) fn build_apart(step: &mut Step, task: &model::Task) {
    let Some(cargo) = &mut step.cargo else { return };
    let is_usual = |name: &str| matches!(name, "cargo" | "rustc");
    let tools = step.tools.iter().map(|used| used.tool.name.value.as_str()).filter(|name| !is_usual(name));
    let passed = step.env_pass.iter().map(|(name, _)| name.as_str());
    let needs = task.needs.iter().chain(&task.sysroot).map(|name| name.as_str());
    let env = step.env.iter().map(|(name, _)| name.as_str());
    let mut names: Vec<&str> = env.chain(passed).chain(tools).chain(needs).collect();
    names.sort_unstable();
    let host = format!("{:?}", step.host);
    if names.is_empty() && step.host == HostChoice::Whole || !cargo.has_own_target_dir {
        return;
    }
    let mut hasher = Hasher::new("bcache cargo apart 1");
    hasher.text(&host).number(names.len() as u64);
    for name in names {
        hasher.text(name);
    }
    cargo.target_dir.as_mut_os_string().push(format!("-{}", hasher.finish().short()));
}

/// A name for a workspace among others.
fn place_of(root: &Path, workspace: &Path) -> String {
    let inner = workspace.strip_prefix(root).unwrap_or(workspace);
    let name = inner.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}-{}", Digest::of(inner.as_os_str().as_encoded_bytes()).short()).trim_start_matches('-').to_owned()
}

/// Options that the table of the task has keys for, or that decide what we read.
fn is_ours(word: &str) -> bool {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let is_long = matches!(
        name,
        "--message-format"
            | "--target-dir"
            | "--target"
            | "--manifest-path"
            | "--package"
            | "--release"
            | "--profile"
            | "--features"
            | "--no-default-features"
            | "--all-features"
            | "--workspace"
            | "--all"
    );
    // A letter may have its value, or other letters, behind it.
    let is_short = name.starts_with('-') && !name.starts_with("--") && !name.starts_with("-Z");
    is_long || is_short && name.contains(['p', 'r', 'F'])
}
