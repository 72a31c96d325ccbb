//! What the files say, before templates are merged and names are resolved. A `None` was not written.

use std::time::Duration;

use indexmap::IndexMap;
use indexmap::map::Entry;

use super::error::Problem;
use super::model::{
    BuildDir, Cargo, Command, Env, EnvPass, GitInput, HostChoice, Input, JobserverChoice, ManifestWarning, Output,
    Settings, Source, Sysroot, Target, Text, Tool, Var, Vars,
};
use crate::base::span::{Span, Spanned};

/// All files together: each kind of name is one space.
#[derive(Debug, Default)]
pub struct Raw {
    pub settings: Settings,
    pub vars: IndexMap<String, Spanned<Var>>,
    pub targets: IndexMap<String, Target>,
    pub sysroots: IndexMap<String, Sysroot>,
    pub templates: IndexMap<String, RawTask>,
    pub tasks: IndexMap<String, RawTask>,
    pub warnings: Vec<ManifestWarning>,
}

/// A task or a template: they have the same keys.
#[derive(Clone, Debug)]
pub struct RawTask {
    /// Of its name.
    pub span: Span,
    pub extends: Vec<Spanned<String>>,
    pub desc: Option<String>,
    pub needs: Vec<Spanned<String>>,
    pub targets: Option<Vec<Spanned<String>>>,
    pub sysroot: Option<Spanned<String>>,
    pub source: Option<Source>,
    pub inputs: Vec<Input>,
    pub git_inputs: Vec<GitInput>,
    pub outputs: Vec<Output>,
    pub env: Env,
    pub env_pass: Vec<EnvPass>,
    pub secrets: Vec<Spanned<String>>,
    pub tools: Vec<Tool>,
    pub path: Vec<Text>,
    pub vars: Vars,
    pub before: Option<Vec<Command>>,
    pub run: Option<Vec<Command>>,
    pub after: Option<Vec<Command>>,
    pub cwd: Option<Text>,
    pub cache: Option<bool>,
    pub clean: Option<bool>,
    pub build_dir: Option<BuildDir>,
    pub depfiles: Option<Vec<Text>>,
    pub timeout: Option<Duration>,
    pub retries: Option<u32>,
    pub jobs: Option<u32>,
    pub jobserver: Option<JobserverChoice>,
    pub confirm: Option<String>,
    pub host: Option<HostChoice>,
    pub cargo: Option<Cargo>,
}

impl RawTask {
    pub fn new(span: Span) -> Self {
        Self {
            span,
            extends: Vec::new(),
            desc: None,
            needs: Vec::new(),
            targets: None,
            sysroot: None,
            source: None,
            inputs: Vec::new(),
            git_inputs: Vec::new(),
            outputs: Vec::new(),
            env: Env::new(),
            env_pass: Vec::new(),
            secrets: Vec::new(),
            tools: Vec::new(),
            path: Vec::new(),
            vars: Vars::new(),
            before: None,
            run: None,
            after: None,
            cwd: None,
            cache: None,
            clean: None,
            build_dir: None,
            depfiles: None,
            timeout: None,
            retries: None,
            jobs: None,
            jobserver: None,
            confirm: None,
            host: None,
            cargo: None,
        }
    }
}

/// Enters a definition, or says where the name has one already.
pub fn define<T>(
    space: &mut IndexMap<String, T>,
    what: &str,
    name: Spanned<String>,
    value: T,
    span_of: impl Fn(&T) -> Span,
) -> Result<(), Problem> {
    match space.entry(name.value) {
        Entry::Vacant(free) => {
            free.insert(value);
            Ok(())
        }
        Entry::Occupied(taken) => Err(twice(what, taken.key(), name.span, span_of(taken.get()))),
    }
}

pub fn twice(what: &str, name: &str, second: Span, first: Span) -> Problem {
    Problem::new("bcache::manifest::defined_twice", format!("{what} `{name}` is defined twice"), second)
        .label("second definition")
        .related(first, "first definition")
}
