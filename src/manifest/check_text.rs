//! Every `{{ … }}` of the manifest is looked at when it is loaded, so that a mistake in a task is said
//! even where that task is not built. Whether a name *has a value* (`sysroot.prefix` in a task without a
//! sysroot) only expansion can say.

use std::collections::HashSet;
use std::ops::Range;

use indexmap::IndexMap;

use super::error::Problem;
use super::model::{Cargo, Command, Env, GitInput, Manifest, Source, SourceFrom, Text, Var, Vars};
use super::raw::RawTask;
use super::template::{self, NAMES, Name, Piece, SyntaxError};
use crate::base::span::{SourceFile, Span};
use crate::base::text::nearest;

const CODE: &str = "bcache::manifest::template";

/// Which variables a string can use.
struct Known<'m> {
    /// Everywhere: global ones and those of any target.
    common: &'m HashSet<&'m str>,
    /// Of the task.
    own: Option<&'m Vars>,
    /// Named anywhere, for strings that belong to no one task.
    anywhere: Option<&'m HashSet<&'m str>>,
}

impl Known<'_> {
    fn has(&self, var: &str) -> bool {
        self.common.contains(var)
            || self.own.is_some_and(|vars| vars.contains_key(var))
            || self.anywhere.is_some_and(|vars| vars.contains(var))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let own = self.own.into_iter().flat_map(|vars| vars.keys().map(String::as_str));
        let anywhere = self.anywhere.into_iter().flatten().copied();
        self.common.iter().copied().chain(own).chain(anywhere)
    }
}

/// Says every template that is wrong.
pub fn texts(manifest: &Manifest, templates: &IndexMap<String, RawTask>, problems: &mut Vec<Problem>) {
    let target_vars = manifest.targets.values().flat_map(|target| target.vars.keys());
    let common: HashSet<&str> = manifest.vars.keys().chain(target_vars).map(String::as_str).collect();
    let task_vars = manifest.tasks.values().flat_map(|task| task.vars.keys());
    let template_vars = templates.values().flat_map(|template| template.vars.keys());
    let anywhere: HashSet<&str> = task_vars.chain(template_vars).map(String::as_str).collect();

    let files = &manifest.files;
    let mut checker = Checker { files, problems, checked: HashSet::new() };
    let shared = Known { common: &common, own: None, anywhere: Some(&anywhere) };
    checker.vars(&manifest.vars, &shared);
    for target in manifest.targets.values() {
        checker.env(&target.env, &shared);
        checker.vars(&target.vars, &shared);
    }
    for sysroot in manifest.sysroots.values() {
        checker.prefix_path(&sysroot.path, &Known { common: &common, own: None, anywhere: None });
        checker.env(&sysroot.env, &shared);
    }
    for template in templates.values() {
        checker.template(template, &shared);
    }
    for task in manifest.tasks.values() {
        checker.task(task, &Known { common: &common, own: Some(&task.vars), anywhere: None });
    }
}

struct Checker<'a> {
    files: &'a [SourceFile],
    problems: &'a mut Vec<Problem>,
    /// Strings whose syntax is good and that use no variable: no need to look again for the next task.
    checked: HashSet<Span>,
}

impl Checker<'_> {
    fn template(&mut self, raw: &RawTask, known: &Known<'_>) {
        let commands = [&raw.before, &raw.run, &raw.after].into_iter().flatten().flatten();
        self.commands(commands, known);
        self.env(&raw.env, known);
        self.vars(&raw.vars, known);
        self.all(raw.inputs.iter().map(|input| &input.pattern), known);
        self.git_inputs(&raw.git_inputs, known);
        self.all(raw.outputs.iter().map(|output| &output.path), known);
        self.all(raw.path.iter().chain(&raw.cwd).chain(raw.depfiles.iter().flatten()), known);
        self.source(raw.source.as_ref(), known);
        self.all(raw.cargo.iter().flat_map(Cargo::texts), known);
    }

    fn task(&mut self, task: &super::model::Task, known: &Known<'_>) {
        self.commands(task.commands(), known);
        self.env(&task.env, known);
        self.vars(&task.vars, known);
        self.all(task.inputs.iter().map(|input| &input.pattern), known);
        self.git_inputs(&task.git_inputs, known);
        self.all(task.outputs.iter().map(|output| &output.path), known);
        self.all(task.path.iter().chain(&task.cwd).chain(&task.depfiles), known);
        self.source(task.source.as_ref(), known);
        self.all(task.cargo.iter().flat_map(Cargo::texts), known);
    }

    fn git_inputs(&mut self, inputs: &[GitInput], known: &Known<'_>) {
        for input in inputs {
            self.all(std::iter::once(&input.dir).chain(input.paths.iter().map(|path| &path.pattern)), known);
        }
    }

    fn commands<'c>(&mut self, commands: impl Iterator<Item = &'c Command>, known: &Known<'_>) {
        for command in commands {
            match command {
                Command::Shell(text) => self.text(text, known),
                Command::Argv(words) => self.all(words, known),
            }
        }
    }

    fn source(&mut self, source: Option<&Source>, known: &Known<'_>) {
        let Some(source) = source else { return };
        match &source.from {
            SourceFrom::Url { url: text, .. }
            | SourceFrom::Archive { archive: text, .. }
            | SourceFrom::Git { git: text, .. }
            | SourceFrom::Path { path: text } => self.text(text, known),
        }
        self.all(&source.patches, known);
    }

    fn env(&mut self, env: &Env, known: &Known<'_>) {
        self.all(env.values(), known);
    }

    fn vars(&mut self, vars: &Vars, known: &Known<'_>) {
        for var in vars.values() {
            match var {
                Var::Text(text) => self.text(text, known),
                Var::List(words) => self.all(words, known),
            }
        }
    }

    fn all<'t>(&mut self, texts: impl IntoIterator<Item = &'t Text>, known: &Known<'_>) {
        texts.into_iter().for_each(|text| self.text(text, known));
    }

    fn text(&mut self, text: &Text, known: &Known<'_>) {
        if !text.contains("{{") || self.checked.contains(&text.span) {
            return;
        }
        match names(text) {
            Err(error) => self.say(text, error, known),
            Ok(names) => {
                let mut uses_vars = false;
                for (name, at) in names {
                    if let Name::Var(var) = name {
                        uses_vars = true;
                        if !known.has(var) {
                            let unknown = Some(format!("vars.{var}"));
                            let message = format!("there is no variable `{var}`");
                            self.say(text, SyntaxError { message, at, unknown }, known);
                        }
                    }
                }
                if !uses_vars {
                    self.checked.insert(text.span);
                }
            }
        }
    }

    /// A prefix is the same for all tasks, so nothing of a task can be in it.
    fn prefix_path(&mut self, text: &Text, known: &Known<'_>) {
        self.text(text, known);
        for (name, at) in names(text).unwrap_or_default() {
            let is_of_a_task = !matches!(
                name,
                Name::Target | Name::TargetTriple | Name::TargetArch | Name::TargetOs | Name::HostTriple | Name::Var(_)
            );
            if is_of_a_task {
                let message = format!("`{name}` has no value in the `path` of a sysroot");
                let problem = Problem::new(CODE, message, self.inner_span(text, &at));
                self.problems.push(problem.help("it can use `target.*`, `host.triple` and `vars.*`"));
            }
        }
    }

    fn say(&mut self, text: &Text, error: SyntaxError, known: &Known<'_>) {
        let is_var = error.unknown.as_deref().is_some_and(|unknown| unknown.starts_with("vars."));
        let code = if is_var { "bcache::manifest::unknown_name" } else { CODE };
        let problem = Problem::new(code, error.message, self.inner_span(text, &error.at));
        let vars: Vec<String> = known.names().map(|var| format!("vars.{var}")).collect();
        let names = NAMES.iter().map(|(name, _)| *name).chain(vars.iter().map(String::as_str));
        let near = error.unknown.as_deref().and_then(|unknown| nearest(unknown, names));
        self.problems.push(match near {
            Some(name) => problem.help(format!("did you mean `{name}`?")),
            None if is_var => problem,
            None => problem.help("a literal `{{` is written `{{ \"{{\" }}`"),
        });
    }

    fn inner_span(&self, text: &Text, at: &Range<usize>) -> Span {
        place_in(&self.files[usize::from(text.span.file.0)].text, text, at).unwrap_or(text.span)
    }
}

/// The names that a string uses, each with its place in it.
fn names(text: &str) -> Result<Vec<(Name<'_>, Range<usize>)>, SyntaxError> {
    let mut names = Vec::new();
    for piece in template::pieces(text)? {
        match piece {
            Piece::Literal(_) => {}
            Piece::Name(name, at) => names.push((name, at)),
            Piece::Expression(expression, at) => {
                for name in template::compile(expression, at.clone())?.names {
                    let shown = name.to_string();
                    let place = expression.find(&shown).map(|found| at.start + found..at.start + found + shown.len());
                    names.push((name, place.unwrap_or_else(|| at.clone())));
                }
            }
        }
    }
    Ok(names)
}

/// Where a part of a string stands in its file. TOML strings can have escapes, so the `{{` before it is
/// looked for by its number, and what follows must be the same in both.
fn place_in(file: &str, text: &Text, at: &Range<usize>) -> Option<Span> {
    let start = text.span.start as usize;
    let raw = file.get(start..text.span.end as usize)?;
    let before = text.get(..at.end.min(at.start + 2))?;
    let number = before.matches("{{").count().checked_sub(1)?;
    let (open, _) = before.match_indices("{{").last()?;
    let (raw_open, _) = raw.match_indices("{{").nth(number)?;
    let found = raw_open + (at.start - open)..raw_open + (at.end - open);
    (raw.get(found.clone())? == text.get(at.clone())?)
        .then(|| super::document::span(text.span.file, start + found.start..start + found.end))
}
