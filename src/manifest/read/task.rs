//! `[tasks.*]` and `[templates.*]`.

use indexmap::IndexMap;
use toml::de::{DeTable, DeValue};

use super::super::error::Problem;
use super::super::keys::{Key, Table};
use super::super::model::{BuildDir, JobserverChoice};
use super::super::raw::{RawTask, define};
use super::{NamedEntry, Pair, Reader, unhandled};
use crate::base::span::{Span, Spanned};

impl Reader<'_> {
    pub(super) fn tasks(
        &mut self,
        pair: &Pair,
        what: &str,
        known: &'static Table,
        space: &mut IndexMap<String, RawTask>,
    ) {
        for NamedEntry { name, value } in self.named(pair, what) {
            let Some(table) = self.table_in(pair.key, value) else { continue };
            let task = self.task(name.span, table, known);
            self.problems.extend(define(space, what, name, task, |task| task.span).err());
        }
    }

    fn task(&mut self, span: Span, table: &DeTable<'_>, known: &'static Table) -> RawTask {
        let mut task = RawTask::new(span);
        for pair in self.pairs(table, known, span) {
            self.task_key(&mut task, &pair);
        }
        task
    }

    fn task_key(&mut self, task: &mut RawTask, pair: &Pair) {
        match pair.key.name {
            "desc" => task.desc = self.prose(pair),
            "extends" => task.extends = self.plains(pair),
            "needs" => task.needs = self.plains(pair),
            "targets" => task.targets = Some(self.targets_of_task(pair)),
            "sysroot" => task.sysroot = self.plain(pair),
            "source" => task.source = self.source(pair),
            "inputs" => (task.inputs, task.git_inputs) = self.inputs(pair),
            "outputs" => task.outputs = self.outputs(pair),
            "env" => task.env = self.env(pair),
            "env-pass" => task.env_pass = self.env_pass(pair),
            "secrets" => task.secrets = self.env_names(pair),
            "tools" => task.tools = self.tools(pair),
            "path" => task.path = self.paths(pair),
            "vars" => task.vars = self.vars(pair).into_iter().map(|(name, var)| (name.value, var)).collect(),
            "before" => task.before = Some(self.commands(pair)),
            "run" => task.run = Some(self.commands(pair)),
            "after" => task.after = Some(self.commands(pair)),
            "cwd" => task.cwd = self.path(pair),
            "cache" => task.cache = self.bool(pair),
            "clean" => task.clean = self.bool(pair),
            "build-dir" => task.build_dir = self.build_dir(pair),
            "depfile" => task.depfiles = Some(self.paths(pair)),
            "timeout" => task.timeout = self.duration(pair),
            "retries" => task.retries = self.number(pair),
            "jobs" => task.jobs = self.number(pair),
            "jobserver" => task.jobserver = self.jobserver(pair),
            "confirm" => task.confirm = self.prose(pair),
            "host" => task.host = self.host(pair),
            "cargo" => task.cargo = self.cargo(pair),
            other => unhandled(other),
        }
    }

    fn targets_of_task(&mut self, pair: &Pair) -> Vec<Spanned<String>> {
        let mut targets: Vec<Spanned<String>> = Vec::new();
        for target in self.plains(pair) {
            match targets.iter().find(|t| t.value == target.value) {
                None => targets.push(target),
                Some(first) => {
                    let message = format!("the target `{}` is named twice", target.value);
                    let problem = Problem::new("bcache::manifest::bad_value", message, target.span);
                    self.problems.push(problem.related(first.span, "first here"));
                }
            }
        }
        targets
    }

    fn jobserver(&mut self, pair: &Pair) -> Option<JobserverChoice> {
        match pair.value.get_ref() {
            DeValue::Boolean(false) => Some(JobserverChoice::Off),
            DeValue::String(word) if word == "pipe" => Some(JobserverChoice::Pipe),
            DeValue::String(word) if word == "fifo" => Some(JobserverChoice::Fifo),
            _ => {
                self.another_word(pair);
                None
            }
        }
    }

    fn build_dir(&mut self, pair: &Pair) -> Option<BuildDir> {
        match pair.value.get_ref() {
            DeValue::Boolean(false) => Some(BuildDir::Fresh),
            DeValue::String(word) if word == "keep" => Some(BuildDir::Keep(self.span_of(pair.value))),
            _ => {
                self.another_word(pair);
                None
            }
        }
    }

    /// It is none of the words that the key takes.
    pub(super) fn another_word(&mut self, pair: &Pair) {
        let written = match pair.value.get_ref() {
            DeValue::String(word) => format!("`\"{word}\"`"),
            DeValue::Boolean(true) => "`true`".into(),
            other => super::document::type_of(other).into(),
        };
        let Key { name, takes, .. } = pair.key;
        let message = format!("`{name}` takes {}, not {written}", takes.shown());
        self.bad_value(message, self.span_of(pair.value), "");
    }
}
