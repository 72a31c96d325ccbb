//! Crosses tasks with targets: every string expanded, every path absolute, every need a step.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::ids::{HOST, StepId, StepIx};
use crate::base::paths::join_clean;
use crate::base::span::{Span, Spanned};
use crate::base::text::nearest;
use crate::manifest::error::{Errors, Problem};
use crate::manifest::expand::{Expander, Scope, TargetFacts, layered_vars};
use crate::manifest::model::{self, BuildDir, Manifest, Task, Text};

use super::pattern::Pattern;
use super::request::Request;
use super::{
    Cargo, Class, Command, Elsewhere, GitInput, Graph, InputPattern, Need, NeedOrigin, OutputPattern, Prefix, PrefixIx,
    Source, SourceFrom, Step, Toolchain, placeholder,
};
use super::{cargo, cycle, depfiles, outputs, programs, reach, working_copy};

/// Stands for `{{ jobs }}` until the step runs, since a key must not hold the number.
pub const JOBS_MARKER: &str = "\u{1}jobs\u{1}";

pub(super) struct Builder<'a> {
    manifest: &'a Manifest,
    request: &'a Request,
    host_triple: String,
    pub(super) steps: Vec<Step>,
    prefixes: Vec<Prefix>,
    prefix_by_name: HashMap<String, PrefixIx>,
    by_id: HashMap<StepId, StepIx>,
    /// By target, and whether its steps see it elsewhere.
    toolchains: HashMap<(String, bool), Arc<Toolchain>>,
    pub(super) problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(manifest: &'a Manifest, request: &'a Request) -> Self {
        Self {
            manifest,
            request,
            host_triple: request.host_triple.clone(),
            steps: Vec::new(),
            prefixes: Vec::new(),
            prefix_by_name: HashMap::new(),
            by_id: HashMap::new(),
            toolchains: HashMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn build(mut self) -> Result<Graph, Errors> {
        self.seed();
        // Needs add steps behind the ones being looked at.
        let mut at = 0;
        while at < self.steps.len() {
            self.declared_needs(StepIx(at as u32));
            at += 1;
        }
        self.check_prefixes();
        let owners = outputs::Owners::new(&self.steps, &self.prefixes, &self.manifest.root, &mut self.problems);
        depfiles::check(&self.steps, &owners, &mut self.problems);
        reach::find_needs(&mut self.steps, &owners);
        let order = cycle::order(&self.steps, &mut self.problems);
        if !self.problems.is_empty() {
            return Err(Errors { problems: self.problems, files: self.manifest.files.clone() });
        }
        let mut graph = Graph {
            root: self.manifest.root.clone(),
            steps: self.steps,
            prefixes: self.prefixes,
            warnings: self.warnings,
            by_id: HashMap::new(),
        };
        cycle::reorder(&mut graph, &order);
        super::find_layers(&mut graph);
        Ok(graph)
    }

    /// Every task at its own targets, then what the request asks for.
    fn seed(&mut self) {
        let manifest = self.manifest;
        for (name, task) in &manifest.tasks {
            if task.targets.is_empty() {
                self.step(name, HOST);
            }
            for target in &task.targets {
                self.step(name, target);
            }
        }
        for (name, target) in self.request.pairs(manifest) {
            self.step(&name, &target);
        }
    }

    /// The step of a task at a target, made when it is first asked for.
    fn step(&mut self, task: &str, target: &str) -> StepIx {
        let id = StepId::new(task, target);
        if let Some(ix) = self.by_id.get(&id) {
            return *ix;
        }
        let ix = StepIx(self.steps.len() as u32);
        self.by_id.insert(id.clone(), ix);
        let mut step = self.instantiate(id);
        cargo::build_apart(&mut step, &self.manifest.tasks[task]);
        self.steps.push(step);
        ix
    }

    fn declared_needs(&mut self, ix: StepIx) {
        let id = self.steps[ix.index()].id.clone();
        let manifest = self.manifest;
        let task = &manifest.tasks[&*id.task];
        let mut known = HashSet::with_capacity(task.needs.len());
        for need in &task.needs {
            let Some(target) = self.need_target(&id, need) else { continue };
            let name = need.split('@').next().unwrap_or(need);
            let step = self.step(name, &target);
            if known.insert(step) {
                self.steps[ix.index()].needs.push(Need { step, origin: NeedOrigin::Declared });
            }
        }
    }

    /// At which target a need is meant.
    fn need_target(&mut self, id: &StepId, need: &Spanned<String>) -> Option<String> {
        let (name, written) = match need.split_once('@') {
            Some((name, target)) => (name, Some(target)),
            None => (need.as_str(), None),
        };
        let task = self.manifest.tasks.get(name)?;
        let target = written.unwrap_or(&id.target);
        let anywhere = task.targets.is_empty() && (task.sysroot.is_some() || task.is_group());
        if anywhere || task.targets.iter().any(|t| t.value == target) {
            return Some(target.to_owned());
        }
        if task.targets.is_empty() && (written.is_none() || target == HOST) {
            return Some(HOST.to_owned());
        }
        let mut problem =
            Problem::new("bcache::graph::target", format!("`{name}` is not built for target `{target}`"), need.span)
                .label(format!("needed by `{id}`"))
                .related(task.span, format!("`{name}` is declared here"));
        problem = match task.targets.first() {
            Some(first) => problem.help(format!("write `{name}@{}`, or give `{name}` this target", first.value)),
            None => problem.help(format!("write `{name}@{HOST}`, or give `{name}` this target")),
        };
        self.problems.push(problem);
        None
    }

    fn scope(&self, id: &StepId, task: &Task, work: &Path) -> Scope<'a> {
        let manifest = self.manifest;
        let triple = manifest.targets.get(&*id.target).map_or(&self.host_triple, |t| &t.triple.value);
        let (name, _) = manifest.tasks.get_key_value(&*id.task).expect("BUG: a step's task exists");
        let args = (self.request.args_for.as_deref() == Some(&*id.task)).then(|| self.request.args.clone());
        Scope {
            task_name: name,
            source: None,
            build: task.source.is_some().then(|| work.join("build")),
            target: TargetFacts::from_triple(&id.target, triple),
            host_triple: self.host_triple.clone(),
            prefix: None,
            toolchain: None,
            vars: layered_vars(manifest, &id.target, Some(task)),
            args,
            jobs: JOBS_MARKER.to_owned(),
        }
    }

    fn instantiate(&mut self, id: StepId) -> Step {
        let manifest = self.manifest;
        let task = &manifest.tasks[&*id.task];
        let work = manifest.root.join(".bcache/work").join(&*id.target).join(&*id.task);
        let mut scope = self.scope(&id, task, &work);
        let triple = scope.target.triple.clone();
        let class = self.class(&id, task);
        let sysroot = task.sysroot.as_ref().and_then(|name| self.prefix(name, &id, &scope));
        let toolchain = self.toolchain(&id, class, sysroot);
        scope.toolchain = toolchain.as_deref().map(Toolchain::facts);
        let prefix = sysroot.map(|ix| &self.prefixes[ix.index()]);
        scope.prefix = prefix.map(|prefix| prefix.path.clone());
        let mut fill = Fill { root: &manifest.root, manifest, scope, problems: &mut self.problems };
        let source = task.source.as_ref().and_then(|source| fill.source(source, &work));
        fill.scope.source = source.as_ref().map(|s| s.dir.clone());
        let cached = prefix.filter(|_| class == Class::Cached);
        let elsewhere = elsewhere(&id, cached, source.as_ref(), &work, toolchain.as_deref());
        // What we look at ourselves is named by where it is, what the step looks at by where it sees it.
        let mut outer = Expander::new(fill.scope.clone());
        let mut inner = Expander::new(fill.scope_inside(&elsewhere));
        let args = fill.scope.args.clone().unwrap_or_default();
        let zig = toolchain.as_deref().map(|toolchain| &toolchain.zig);
        let cargo = task.cargo.as_ref().and_then(|cargo| fill.cargo(&mut outer, &id, cargo, zig, &args));
        let mut commands = fill.commands(&mut inner, task);
        commands.extend(cargo.as_ref().map(Cargo::command));
        let cwd = elsewhere.seen(&fill.cwd(&mut inner, task, cargo.as_ref(), &work));
        let (mut tools, scripts) = programs::of(task, &commands, &cwd, &manifest.root, &elsewhere);
        programs::implied(&mut tools, class, task.span, toolchain.as_deref(), cargo.as_ref());
        // Checksums are the whole key, or there is none: then nothing that was read counts.
        let depfiles = if class == Class::Cached { fill.depfiles(&mut outer, task, &work) } else { Vec::new() };
        let step = Step {
            class,
            span: task.span,
            desc: task.desc.clone(),
            triple,
            needs: Vec::new(),
            env: fill.env(&mut inner, &id, task, toolchain.as_deref()),
            toolchain,
            env_pass: task.env_pass.iter().map(|e| (e.name.value.clone(), e.key)).collect(),
            secrets: task.secrets.iter().map(|s| s.value.clone()).collect(),
            tools,
            scripts,
            path: task.path.iter().filter_map(|p| fill.path(&mut outer, p)).collect(),
            inputs: fill.inputs(&mut outer, task),
            git_inputs: fill.git_inputs(&mut outer, task),
            outputs: fill.made(&mut outer, task, cargo.as_ref(), class),
            commands,
            cwd,
            work,
            elsewhere,
            source,
            sysroot,
            layers: Vec::new(),
            clean: task.clean,
            keeps_build_dir: matches!(task.build_dir, BuildDir::Keep(_)),
            depfiles,
            timeout: task.timeout,
            retries: task.retries,
            jobs: task.jobs,
            jobserver: task.jobserver,
            confirm: task.confirm.clone(),
            host: host_choice(manifest, task),
            cargo,
            id,
        };
        let (problem, warning) = working_copy::check(task, &step, &manifest.files);
        self.problems.extend(problem);
        self.warnings.extend(warning.filter(|text| !self.warnings.contains(text)));
        step
    }

    fn class(&mut self, id: &StepId, task: &Task) -> Class {
        if task.is_group() {
            return Class::Group;
        }
        let has_args = self.request.args_for.as_deref() == Some(&*id.task) && !self.request.args.is_empty();
        if !task.cache || task.has_nothing_to_judge_by() || has_args {
            if task.sysroot.is_some() && !has_args {
                let problem = Problem::new(
                    "bcache::graph::uncached_install",
                    "a step that installs into a sysroot can't have `cache = false`",
                    task.span,
                )
                .label("what it installs is kept as a layer, by its key")
                .help("take `cache = false` or `sysroot` away");
                self.problems.push(problem);
            }
            return Class::Plain;
        }
        if !task.outputs.is_empty() && task.outputs.iter().all(|o| o.sha256.is_some()) {
            Class::Fixed
        } else {
            Class::Cached
        }
    }

    fn toolchain(&mut self, id: &StepId, class: Class, sysroot: Option<PrefixIx>) -> Option<Arc<Toolchain>> {
        let manifest = self.manifest;
        let zig = manifest.targets.get(&*id.target)?.zig.as_ref()?;
        let is_moved = |ix: PrefixIx| self.prefixes[ix.index()].placeholder.is_some();
        let is_elsewhere = class == Class::Cached && sysroot.is_some_and(is_moved);
        let made = || Arc::new(Toolchain::new(zig, &manifest.root, is_elsewhere));
        Some(self.toolchains.entry((id.target.to_string(), is_elsewhere)).or_insert_with(made).clone())
    }

    /// The prefix of a sysroot at a step's target.
    fn prefix(&mut self, sysroot: &Spanned<String>, id: &StepId, scope: &Scope<'a>) -> Option<PrefixIx> {
        let manifest = self.manifest;
        let name = format!("{}@{}", sysroot.value, id.target);
        if let Some(ix) = self.prefix_by_name.get(&name) {
            return Some(*ix);
        }
        let declared = manifest.sysroots.get(&sysroot.value)?;
        let mut fill = Fill { root: &manifest.root, manifest, scope: scope.clone(), problems: &mut self.problems };
        let mut expander = Expander::new(scope.clone());
        let path = fill.path(&mut expander, &declared.path)?;
        fill.inside(&path, declared.path.span, "a sysroot")?;
        let placeholder = declared.relocatable.then(|| placeholder::of(&sysroot.value, &id.target));
        fill.fits(&path, placeholder.as_deref(), declared.path.span);
        let ix = PrefixIx(self.prefixes.len() as u32);
        let shared_files = declared.shared_files.iter().map(|f| PathBuf::from(&f.value)).collect();
        let span = declared.path.span;
        self.prefixes.push(Prefix { name: name.clone(), path, placeholder, shared_files, span });
        self.prefix_by_name.insert(name, ix);
        Some(ix)
    }

    /// Prefixes are apart from each other, and each is no more than a prefix.
    fn check_prefixes(&mut self) {
        for (i, prefix) in self.prefixes.iter().enumerate() {
            for other in &self.prefixes[..i] {
                if prefix.path.starts_with(&other.path) || other.path.starts_with(&prefix.path) {
                    let text = format!("sysroots `{}` and `{}` lie in one place", other.name, prefix.name);
                    let problem = Problem::new("bcache::graph::prefixes", text, prefix.span)
                        .label(format!("`{}`", prefix.path.display()))
                        .related(other.span, format!("`{}`", other.path.display()))
                        .help("let the path hold `{{ target.name }}`");
                    self.problems.push(problem);
                }
            }
        }
    }
}

/// The task's own word (or its templates'), else that of its sysroot.
fn host_choice(manifest: &Manifest, task: &Task) -> model::HostChoice {
    let of_sysroot = || manifest.sysroots.get(&task.sysroot.as_ref()?.value)?.host.clone();
    task.host.clone().or_else(of_sysroot).unwrap_or(model::HostChoice::Whole)
}

/// What a step that installs into a relocatable prefix sees elsewhere.
fn elsewhere(
    id: &StepId,
    prefix: Option<&Prefix>,
    source: Option<&Source>,
    work: &Path,
    toolchain: Option<&Toolchain>,
) -> Elsewhere {
    let Some(prefix) = prefix.filter(|prefix| prefix.placeholder.is_some()) else {
        return Elsewhere::default();
    };
    let there = placeholder::work(id);
    let mut mounts = vec![(work.to_owned(), there.clone())];
    if let Some(Source { from: SourceFrom::Path { path }, .. }) = source {
        mounts.push((path.clone(), there.join("src")));
    }
    mounts.extend(toolchain.map(|toolchain| (toolchain.dir.clone(), toolchain.seen.clone())));
    Elsewhere { prefix: Some((prefix.path.clone(), prefix.seen().to_owned())), mounts }
}

/// Expands what a task says at one target; problems are collected, not returned.
pub(super) struct Fill<'a, 'p> {
    pub(super) root: &'a Path,
    pub(super) manifest: &'a Manifest,
    pub(super) scope: Scope<'a>,
    pub(super) problems: &'p mut Vec<Problem>,
}

impl<'a> Fill<'a, '_> {
    pub(super) fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// The same values as the step itself sees them.
    fn scope_inside(&self, elsewhere: &Elsewhere) -> Scope<'a> {
        let mut scope = self.scope.clone();
        for path in [&mut scope.source, &mut scope.build, &mut scope.prefix].into_iter().flatten() {
            *path = elsewhere.seen(path);
        }
        scope
    }

    /// A path, absolute, relative to the file that it was written in.
    pub(super) fn path(&mut self, expander: &mut Expander, text: &Text) -> Option<PathBuf> {
        let expanded = expander.text(text);
        let expanded = self.keep(expanded)?;
        let base = self.manifest.dir_of(text.span.file);
        let path = join_clean(base, Path::new(&expanded));
        if path.is_none() {
            self.problems.push(Problem::new(
                "bcache::graph::path",
                format!("`{expanded}` climbs above the root"),
                text.span,
            ));
        }
        path
    }

    /// Where the commands run.
    fn cwd(&mut self, expander: &mut Expander, task: &Task, cargo: Option<&Cargo>, work: &Path) -> PathBuf {
        let written = task.cwd.as_ref().and_then(|text| self.path(expander, text));
        written.unwrap_or_else(|| match (cargo, &task.source) {
            (Some(cargo), _) => cargo.workspace.clone(),
            (None, Some(_)) => work.join("build"),
            (None, None) => self.manifest.dir_of(task.span.file).to_owned(),
        })
    }

    /// Is `path` a place below the workspace that a step may write to?
    pub(super) fn inside(&mut self, path: &Path, span: Span, what: &str) -> Option<()> {
        let inner = path.strip_prefix(self.root).ok();
        let problem = match inner {
            None => Problem::new("bcache::graph::outside", format!("{what} must lie inside the workspace"), span)
                .label(format!("`{}`", path.display()))
                .help(format!("the workspace is `{}`", self.root.display())),
            Some(inner) if inner.as_os_str().is_empty() => {
                Problem::new("bcache::graph::outside", format!("{what} can't be the workspace itself"), span)
            }
            Some(inner) if inner.starts_with(".bcache") || inner.starts_with(".git") => Problem::new(
                "bcache::graph::outside",
                format!("{what} can't lie in `{}`", inner.iter().next().unwrap_or_default().display()),
                span,
            ),
            Some(_) => return Some(()),
        };
        self.problems.push(problem);
        None
    }

    /// Can the prefix stand where its placeholder stood?
    fn fits(&mut self, path: &Path, placeholder: Option<&str>, span: Span) {
        let (length, most) = (path.as_os_str().len(), placeholder.map_or(usize::MAX, str::len));
        if length > most {
            let text = format!(
                "the path of a relocatable sysroot can have {most} bytes, and here it has {length}: `{}`",
                path.display()
            );
            let problem = Problem::new("bcache::graph::long_prefix", text, span)
                .label("in installed programs it has to fit where its placeholder stood")
                .help("move the workspace to a shorter path, or give the sysroot a shorter one");
            self.problems.push(problem);
        }
    }

    fn pattern(&mut self, expander: &mut Expander, text: &Text) -> Option<Pattern> {
        self.pattern_in(expander, text, self.manifest.dir_of(text.span.file))
    }

    /// Relative to another directory than that of its file.
    fn pattern_in(&mut self, expander: &mut Expander, text: &Text, base: &Path) -> Option<Pattern> {
        let expanded = expander.text(text);
        let expanded = self.keep(expanded)?;
        match Pattern::new(&expanded, base, self.root, text.span) {
            Ok(pattern) => Some(pattern),
            Err(e) => {
                self.problems.push(Problem::new("bcache::graph::pattern", e.to_string(), text.span));
                None
            }
        }
    }

    fn inputs(&mut self, expander: &mut Expander, task: &Task) -> Vec<InputPattern> {
        let mut inputs = Vec::with_capacity(task.inputs.len());
        for input in &task.inputs {
            if let Some(pattern) = self.pattern(expander, &input.pattern) {
                inputs.push(InputPattern { pattern, exclude: input.exclude, optional: input.optional });
            }
        }
        inputs
    }

    fn git_inputs(&mut self, expander: &mut Expander, task: &Task) -> Vec<GitInput> {
        let mut inputs = Vec::with_capacity(task.git_inputs.len());
        for input in &task.git_inputs {
            let Some(dir) = self.pattern(expander, &input.dir) else { continue };
            let mut paths = Vec::with_capacity(input.paths.len());
            for path in &input.paths {
                if let Some(pattern) = self.pattern_in(expander, &path.pattern, &dir.path) {
                    paths.push(InputPattern { pattern, exclude: path.exclude, optional: path.optional });
                }
            }
            inputs.push(GitInput { dir, paths, head: input.head });
        }
        inputs
    }

    pub(super) fn outputs(&mut self, expander: &mut Expander, task: &Task) -> Vec<OutputPattern> {
        let mut outputs = Vec::with_capacity(task.outputs.len());
        for output in &task.outputs {
            let Some(pattern) = self.pattern(expander, &output.path) else { continue };
            if let Some(file) = self.manifest.files.iter().find(|file| pattern.covers(&file.path)) {
                let text = format!("an output can't be the manifest `{}`", file.shown);
                self.problems.push(Problem::new("bcache::graph::outside", text, output.path.span));
                continue;
            }
            if self.inside(&pattern.fixed_part(), output.path.span, "an output").is_some()
                || pattern.is_glob() && pattern.fixed_part() == self.root
            {
                if pattern.is_glob() && pattern.fixed_part() == self.root {
                    self.problems.pop();
                }
                let sha256 = output.sha256.as_ref().map(|s| s.to_ascii_lowercase());
                outputs.push(OutputPattern { pattern, sha256, optional: output.optional });
            }
        }
        outputs
    }

    /// In the workspace like outputs, or in the step's own build directory.
    fn depfiles(&mut self, expander: &mut Expander, task: &Task, work: &Path) -> Vec<Pattern> {
        let mut depfiles = Vec::with_capacity(task.depfiles.len());
        for text in &task.depfiles {
            let Some(pattern) = self.pattern(expander, text) else { continue };
            let path = pattern.fixed_part();
            if path.starts_with(work) || self.inside(&path, text.span, "a depfile").is_some() {
                depfiles.push(pattern);
            }
        }
        depfiles
    }

    fn env(
        &mut self,
        expander: &mut Expander,
        id: &StepId,
        task: &Task,
        toolchain: Option<&Toolchain>,
    ) -> Vec<(String, String)> {
        let target = self.manifest.targets.get(&*id.target).map(|t| &t.env);
        let sysroot = task.sysroot.as_ref().and_then(|s| self.manifest.sysroots.get(&s.value)).map(|s| &s.env);
        // What cargo builds for the host meanwhile (build scripts) is not zig's: it tells cargo apart for each target.
        let toolchain = toolchain.filter(|_| task.cargo.is_none());
        let mut env: BTreeMap<String, String> = toolchain.into_iter().flat_map(Toolchain::env).collect();
        for (name, text) in target.into_iter().chain(sysroot).chain([&task.env]).flatten() {
            let expanded = expander.text(text);
            if let Some(value) = self.keep(expanded) {
                env.insert(name.clone(), value);
            }
        }
        env.into_iter().collect()
    }

    fn commands(&mut self, expander: &mut Expander, task: &Task) -> Vec<Command> {
        let mut commands = Vec::new();
        for command in task.commands() {
            let expanded = match command {
                model::Command::Shell(text) => expander.shell(text).map(Command::Shell),
                model::Command::Argv(words) => expander.argv(words).map(Command::Argv),
            };
            commands.extend(self.keep(expanded));
        }
        commands
    }

    fn source(&mut self, source: &model::Source, work: &Path) -> Option<Source> {
        let mut expander = Expander::new(self.scope.clone());
        let from = match &source.from {
            model::SourceFrom::Url { url, sha256 } => {
                let url = expander.text(url);
                SourceFrom::Url { url: self.keep(url)?, sha256: sha256.to_ascii_lowercase() }
            }
            model::SourceFrom::Archive { archive, sha256 } => SourceFrom::Archive {
                path: self.path(&mut expander, archive)?,
                sha256: sha256.as_ref().map(|s| s.to_ascii_lowercase()),
            },
            model::SourceFrom::Git { git, rev } => {
                let url = expander.text(git);
                SourceFrom::Git { url: self.keep(url)?, rev: rev.value.clone() }
            }
            model::SourceFrom::Path { path } => SourceFrom::Path { path: self.path(&mut expander, path)? },
        };
        let mut patches = Vec::with_capacity(source.patches.len());
        for patch in &source.patches {
            patches.extend(self.pattern(&mut expander, patch));
        }
        let dir = match &from {
            SourceFrom::Path { path } => path.clone(),
            _ => work.join("src"),
        };
        Some(Source { span: source.span, from, patches, dir })
    }
}

/// A name that was asked for and does not exist, with the nearest that does.
pub(super) fn did_you_mean<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    nearest(name, known).map(|near| format!("did you mean `{near}`?"))
}
