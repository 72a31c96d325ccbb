//! What was asked for: names of tasks, with or without a target.

use crate::base::ids::{HOST, StepId, StepIx};
use crate::manifest::model::Manifest;

use super::instantiate::did_you_mean;
use super::{Class, Graph};

/// What a person typed, as far as it says which steps there are.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `task` or `task@target`; empty for the manifest's default.
    pub names: Vec<String>,
    /// `--target`.
    pub target: Option<String>,
    /// The task of `run`, and what was given to it.
    pub args_for: Option<String>,
    pub args: Vec<String>,
    pub host_triple: String,
}

/// A name in a request that nothing answers to.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    #[error("no task `{name}`")]
    Task { name: String, help: Option<String> },
    #[error("no target `{name}`")]
    Target { name: String, help: Option<String> },
    #[error("`{task}` is not built for target `{target}`")]
    NotBuiltFor { task: String, target: String, help: Option<String> },
    #[error("nothing to build: no task was named, and `[bcache]` has no `default`")]
    Nothing { help: Option<String> },
}

impl Unknown {
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Task { help, .. }
            | Self::Target { help, .. }
            | Self::NotBuiltFor { help, .. }
            | Self::Nothing { help } => help.as_deref(),
        }
    }
}

/// The steps of a request.
#[derive(Clone, Debug)]
pub struct Selection {
    /// What was named, groups included, in the order of the request.
    pub named: Vec<StepIx>,
    /// These and all they need, in graph order.
    pub steps: Vec<StepIx>,
}

impl Request {
    /// Tasks and targets that the request asks for, as far as they exist.
    pub(super) fn pairs(&self, manifest: &Manifest) -> Vec<(String, String)> {
        self.resolve(manifest).unwrap_or_default()
    }

    fn names<'a>(&'a self, manifest: &'a Manifest) -> Result<Vec<&'a str>, Unknown> {
        if !self.names.is_empty() {
            return Ok(self.names.iter().map(String::as_str).collect());
        }
        match &manifest.settings.default {
            Some(default) => Ok(vec![default.as_str()]),
            None => {
                let known: Vec<&str> = manifest.tasks.keys().map(String::as_str).take(8).collect();
                let help = (!known.is_empty()).then(|| format!("name one of: {}", known.join(", ")));
                Err(Unknown::Nothing { help })
            }
        }
    }

    /// A name without `@` means all targets of the task; with `--target` just that one.
    pub fn resolve(&self, manifest: &Manifest) -> Result<Vec<(String, String)>, Unknown> {
        let mut pairs = Vec::new();
        for written in self.names(manifest)? {
            let (name, at) = match written.split_once('@') {
                Some((name, at)) => (name, Some(at)),
                None => (written, self.target.as_deref()),
            };
            let Some(task) = manifest.tasks.get(name) else {
                let help = did_you_mean(name, manifest.tasks.keys().map(String::as_str));
                return Err(Unknown::Task { name: name.to_owned(), help });
            };
            let Some(target) = at else {
                let own = task.targets.iter().map(|t| t.value.clone());
                let host = task.targets.is_empty().then(|| HOST.to_owned());
                pairs.extend(own.chain(host).map(|target| (name.to_owned(), target)));
                continue;
            };
            if target != HOST && !manifest.targets.contains_key(target) {
                let help = did_you_mean(target, manifest.targets.keys().map(String::as_str).chain([HOST]));
                return Err(Unknown::Target { name: target.to_owned(), help });
            }
            let anywhere = task.targets.is_empty() && (target == HOST || task.sysroot.is_some() || task.is_group());
            if !anywhere && !task.targets.iter().any(|t| t.value == target) {
                let first = task.targets.first().map_or(HOST, |target| &target.value);
                let help = Some(format!("it is built for `{first}`: give it `targets` for more"));
                return Err(Unknown::NotBuiltFor { task: name.to_owned(), target: target.to_owned(), help });
            }
            pairs.push((name.to_owned(), target.to_owned()));
        }
        Ok(pairs)
    }
}

impl Graph {
    /// The steps of the request and all that they need.
    pub fn select(&self, manifest: &Manifest, request: &Request) -> Result<Selection, Unknown> {
        let mut named = Vec::new();
        for (task, target) in request.resolve(manifest)? {
            let ix = self.find(&StepId::new(&task, &target)).expect("BUG: a request's steps are in its graph");
            if !named.contains(&ix) {
                named.push(ix);
            }
        }
        let mut wanted = vec![false; self.steps.len()];
        for ix in &named {
            wanted[ix.index()] = true;
        }
        // Needs come before the steps that need them.
        for ix in self.indices().collect::<Vec<_>>().into_iter().rev() {
            if wanted[ix.index()] {
                self.step(ix).needs.iter().for_each(|n| wanted[n.step.index()] = true);
            }
        }
        let steps = self.indices().filter(|ix| wanted[ix.index()]).collect();
        Ok(Selection { named, steps })
    }

    /// `--force` means the named tasks, and of a group its direct members that have commands.
    pub fn forced_by_name(&self, named: &[StepIx]) -> Vec<StepIx> {
        let mut forced = Vec::new();
        for ix in named {
            let step = self.step(*ix);
            if step.class == Class::Group {
                forced.extend(step.needs.iter().map(|n| n.step).filter(|n| self.step(*n).class != Class::Group));
            } else {
                forced.push(*ix);
            }
        }
        forced
    }
}
