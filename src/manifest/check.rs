//! What can be judged only with all files at hand: names that refer to each other, and tasks as they are
//! once their templates are merged. Cycles of `needs` are found by the graph.

use std::path::Path;

use super::error::Problem;
use super::model::{BuildDir, Include, Manifest, Output, Task};
use super::raw::Raw;
use super::{check_text, merge};
use crate::base::ids::HOST;
use crate::base::paths::join_clean;
use crate::base::span::{SourceFile, Span, Spanned};

/// The variable that is not for a manifest to set.
const PATH: &str = "PATH";

/// Merges the templates and checks everything. The manifest is of use only if no problem was added.
pub fn resolve(
    root: &Path,
    files: Vec<SourceFile>,
    includes: Vec<Include>,
    raw: Raw,
    problems: &mut Vec<Problem>,
) -> Manifest {
    let tasks = merge::tasks(&raw, problems);
    let Raw { settings, vars, targets, sysroots, templates, warnings, .. } = raw;
    let vars = vars.into_iter().map(|(name, var)| (name, var.value)).collect();
    let root = root.to_owned();
    let manifest = Manifest { root, files, includes, settings, vars, targets, sysroots, tasks, warnings };
    let mut check = Check { manifest: &manifest, problems };
    check.default_task();
    for template in templates.values() {
        check.references(&template.needs, template.targets.as_deref().unwrap_or_default(), template.sysroot.as_ref());
        check.places_of_outputs(&template.outputs);
    }
    for (name, task) in &manifest.tasks {
        check.task(name, task);
    }
    let envs = manifest.targets.values().map(|target| &target.env).chain(manifest.sysroots.values().map(|s| &s.env));
    for value in envs.filter_map(|env| env.get(PATH)) {
        check.own_path(value.span);
    }
    check_text::texts(&manifest, &templates, problems);
    manifest
}

struct Check<'a> {
    manifest: &'a Manifest,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_> {
    fn default_task(&mut self) {
        if let Some(default) = &self.manifest.settings.default {
            self.need(default);
        }
    }

    fn task(&mut self, name: &str, task: &Task) {
        self.references(&task.needs, &task.targets, task.sysroot.as_ref());
        self.places_of_outputs(&task.outputs);
        self.has_commands(name, task);
        self.is_fixed_whole(task);
        self.is_cargo_alone(task);
        self.leaves_path_alone(task);
    }

    /// The key holds the programs that it finds by `path` and `tools`, so another PATH would start others.
    fn leaves_path_alone(&mut self, task: &Task) {
        // Without a key there is nothing that could differ.
        if !task.cache || task.has_nothing_to_judge_by() {
            return;
        }
        let names = task.env_pass.iter().map(|passed| &passed.name).chain(&task.secrets);
        let passed = names.filter(|name| name.value == PATH).map(|name| name.span);
        let spans: Vec<Span> = task.env.get(PATH).map(|value| value.span).into_iter().chain(passed).collect();
        spans.into_iter().for_each(|span| self.own_path(span));
    }

    fn own_path(&mut self, span: Span) {
        let problem =
            Problem::new("bcache::manifest::bad_value", "`PATH` of a step is made from `path` and `tools`", span);
        self.problems.push(problem.help("put directories into `path`, programs from elsewhere into `tools`"));
    }

    fn references(
        &mut self,
        needs: &[Spanned<String>],
        targets: &[Spanned<String>],
        sysroot: Option<&Spanned<String>>,
    ) {
        needs.iter().for_each(|need| self.need(need));
        targets.iter().for_each(|target| self.target(target, target));
        if let Some(sysroot) = sysroot
            && !self.manifest.sysroots.contains_key(&sysroot.value)
        {
            self.unknown("sysroot", sysroot, sysroot, self.manifest.sysroots.keys());
        }
    }

    /// `name` or `name@target`.
    fn need(&mut self, need: &Spanned<String>) {
        let (task, target) = match need.split_once('@') {
            Some((task, target)) => (task, Some(target)),
            None => (need.as_str(), None),
        };
        if !self.manifest.tasks.contains_key(task) {
            self.unknown("task", task, need, self.manifest.tasks.keys());
        }
        if let Some(target) = target {
            self.target(target, need);
        }
    }

    fn target(&mut self, name: &str, written: &Spanned<String>) {
        if name == HOST || self.manifest.targets.contains_key(name) {
            return;
        }
        let host = HOST.to_owned();
        self.unknown("target", name, written, self.manifest.targets.keys().chain([&host]));
    }

    fn unknown<'n>(
        &mut self,
        what: &str,
        name: &str,
        written: &Spanned<String>,
        known: impl IntoIterator<Item = &'n String>,
    ) {
        let message = format!("there is no {what} `{name}`");
        let problem = Problem::new("bcache::manifest::unknown_name", message, written.span);
        self.problems.push(problem.did_you_mean(name, known.into_iter().map(String::as_str)));
    }

    /// By their text alone; what holds `{{` the graph looks at after expansion.
    fn places_of_outputs(&mut self, outputs: &[Output]) {
        for output in outputs.iter().filter(|output| !output.path.contains("{{")) {
            let path = &output.path;
            let dir = self.manifest.dir_of(path.span.file);
            let place = if path.starts_with('/') { None } else { join_clean(dir, Path::new(&path.value)) };
            if place.is_none_or(|place| !place.starts_with(&self.manifest.root) || place == self.manifest.root) {
                let message = format!("the output `{}` does not lie inside the workspace", path.value);
                let problem = Problem::new("bcache::manifest::output_place", message, path.span);
                self.problems.push(problem.help("write it relative to the file that it stands in"));
            }
        }
    }

    fn has_commands(&mut self, name: &str, task: &Task) {
        let declared = [
            task.inputs.first().map(|input| ("inputs", input.pattern.span)),
            task.git_inputs.first().map(|input| ("inputs", input.span)),
            task.outputs.first().map(|output| ("outputs", output.path.span)),
            task.source.as_ref().map(|source| ("source", source.span)),
        ];
        if let Some((key, span)) = declared.into_iter().flatten().next()
            && task.is_group()
        {
            let message = format!("task `{name}` has `{key}` and no commands");
            let problem = Problem::new("bcache::manifest::no_commands", message, task.span);
            self.problems.push(problem.related(span, "declared here").help("give it a `run`"));
        }
    }

    /// What cargo builds says itself what it reads and makes, and how.
    fn is_cargo_alone(&mut self, task: &Task) {
        let Some(cargo) = &task.cargo else { return };
        let others = [
            task.commands().next().map(|command| ("commands", command.span(task.span))),
            task.outputs.first().map(|output| ("outputs", output.path.span)),
            task.source.as_ref().map(|source| ("source", source.span)),
            task.cwd.as_ref().map(|cwd| ("cwd", cwd.span)),
            task.depfiles.first().map(|depfile| ("depfile", depfile.span)),
            match task.build_dir {
                BuildDir::Keep(span) => Some(("build-dir", span)),
                BuildDir::Fresh => None,
            },
            (!task.clean).then_some(("clean", task.span)),
        ];
        for (key, span) in others.into_iter().flatten() {
            let message = format!("`{key}` does not go with `cargo`");
            let problem = Problem::new("bcache::manifest::bad_value", message, span);
            self.problems.push(problem.related(cargo.span, "cargo builds this task").help(match key {
                "commands" => "what comes before or after is a task of its own: put it into `needs`",
                "outputs" => "`cargo bcache path` says where the program is; another task can copy it",
                _ => "take one of them away",
            }));
        }
    }

    /// With a checksum on each output the checksums are the key. With some, there would be two keys.
    fn is_fixed_whole(&mut self, task: &Task) {
        let fixed = task.outputs.iter().find(|output| output.sha256.is_some());
        let open = task.outputs.iter().find(|output| output.sha256.is_none());
        if let (Some(fixed), Some(open)) = (fixed, open) {
            let message = "some outputs of a task have a checksum and some have none";
            let problem = Problem::new("bcache::manifest::mixed_checksums", message, open.path.span);
            let problem = problem.label("has none").related(fixed.path.span, "has one");
            self.problems.push(problem.help("give all of them a `sha256`, or make two tasks of it"));
        }
    }
}
