//! `extends`: templates merged into tasks.
//!
//! The templates of a task are put in one line, the weakest first: each after those that it extends
//! itself, and each once, at its first place. So where `a` and `b` both extend `base`, `b` does not bring
//! back what `a` changed of it. Then they are laid over each other, the task last: tables merge, lists
//! that name things add up, everything else is replaced.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use indexmap::{IndexMap, IndexSet};

use super::error::Problem;
use super::model::{BuildDir, EnvPass, JobserverChoice, Task, Tool};
use super::raw::{Raw, RawTask};
use crate::base::span::Spanned;

/// Each template inside another one takes some of our stack.
const MAX_DEPTH: usize = 100;

/// Every task with its templates in it.
pub fn tasks(raw: &Raw, problems: &mut Vec<Problem>) -> IndexMap<String, Task> {
    let mut lines = Lines { templates: &raw.templates, done: HashMap::new(), stack: Vec::new(), problems };
    for name in raw.templates.keys() {
        lines.of_template(name);
    }
    let mut merged = IndexMap::with_capacity(raw.tasks.len());
    for (name, task) in &raw.tasks {
        let line = lines.of_list(&task.extends);
        let mut layers = line.iter().map(|template| &raw.templates[*template]).chain([task]);
        let mut whole = layers.next().cloned().unwrap_or_else(|| RawTask::new(task.span));
        layers.for_each(|layer| lay_over(&mut whole, layer));
        whole.span = task.span;
        merged.insert(name.clone(), finish(whole));
    }
    merged
}

/// Templates in order, each with those that it extends before it.
struct Lines<'r, 'p> {
    templates: &'r IndexMap<String, RawTask>,
    done: HashMap<&'r str, Rc<[&'r str]>>,
    /// The templates being looked at, each extended by the one before it.
    stack: Vec<&'r str>,
    problems: &'p mut Vec<Problem>,
}

impl<'r> Lines<'r, '_> {
    fn of_list(&mut self, extends: &[Spanned<String>]) -> Vec<&'r str> {
        let mut line: IndexSet<&'r str> = IndexSet::new();
        for template in extends {
            let Some((name, _)) = self.templates.get_key_value(template.value.as_str()) else {
                let message = format!("there is no template `{}`", template.value);
                let problem = Problem::new("bcache::manifest::unknown_name", message, template.span);
                self.problems.push(problem.did_you_mean(template, self.templates.keys().map(String::as_str)));
                continue;
            };
            if let Some(at) = self.stack.iter().position(|open| open == name) {
                let circle = format!("{} -> {name}", self.stack[at..].join(" -> "));
                self.problems.push(cycle(&circle, template));
                continue;
            }
            if self.stack.len() == MAX_DEPTH {
                let message = format!("templates extend each other more than {MAX_DEPTH} deep");
                self.problems.push(Problem::new("bcache::manifest::bad_value", message, template.span));
                continue;
            }
            line.extend(self.of_template(name).iter());
        }
        line.into_iter().collect()
    }

    fn of_template(&mut self, name: &'r str) -> Rc<[&'r str]> {
        if let Some(line) = self.done.get(name) {
            return line.clone();
        }
        self.stack.push(name);
        let mut line = self.of_list(&self.templates[name].extends);
        self.stack.pop();
        line.push(name);
        let line: Rc<[&str]> = line.into();
        self.done.insert(name, line.clone());
        line
    }
}

fn cycle(circle: &str, back: &Spanned<String>) -> Problem {
    let message = format!("templates extend each other in a circle: {circle}");
    Problem::new("bcache::manifest::extends_cycle", message, back.span).label("closes the circle")
}

fn lay_over(below: &mut RawTask, above: &RawTask) {
    below.env.extend(above.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    below.vars.extend(above.vars.iter().map(|(name, value)| (name.clone(), value.clone())));

    add_names(&mut below.needs, &above.needs);
    add_names(&mut below.secrets, &above.secrets);
    add_tools(&mut below.tools, &above.tools);
    add_env_pass(&mut below.env_pass, &above.env_pass);
    below.inputs.extend_from_slice(&above.inputs);
    below.git_inputs.extend_from_slice(&above.git_inputs);
    below.outputs.extend_from_slice(&above.outputs);
    below.path.extend_from_slice(&above.path);

    replace(&mut below.desc, &above.desc);
    replace(&mut below.targets, &above.targets);
    replace(&mut below.sysroot, &above.sysroot);
    replace(&mut below.source, &above.source);
    replace(&mut below.before, &above.before);
    replace(&mut below.run, &above.run);
    replace(&mut below.after, &above.after);
    replace(&mut below.cwd, &above.cwd);
    replace(&mut below.cache, &above.cache);
    replace(&mut below.clean, &above.clean);
    replace(&mut below.build_dir, &above.build_dir);
    replace(&mut below.depfiles, &above.depfiles);
    replace(&mut below.timeout, &above.timeout);
    replace(&mut below.retries, &above.retries);
    replace(&mut below.jobs, &above.jobs);
    replace(&mut below.jobserver, &above.jobserver);
    replace(&mut below.confirm, &above.confirm);
    replace(&mut below.host, &above.host);
    replace(&mut below.cargo, &above.cargo);
}

fn replace<T: Clone>(below: &mut Option<T>, above: &Option<T>) {
    if above.is_some() {
        below.clone_from(above);
    }
}

fn add_names(below: &mut Vec<Spanned<String>>, above: &[Spanned<String>]) {
    let mut known: HashSet<String> = below.iter().map(|name| name.value.clone()).collect();
    below.extend(above.iter().filter(|name| known.insert(name.value.clone())).cloned());
}

/// A tool that is named again keeps what only the weaker one says of it.
fn add_tools(below: &mut Vec<Tool>, above: &[Tool]) {
    for tool in above {
        match below.iter_mut().find(|known| known.name.value == tool.name.value) {
            None => below.push(tool.clone()),
            Some(known) => {
                replace(&mut known.version, &tool.version);
                replace(&mut known.install, &tool.install);
            }
        }
    }
}

fn add_env_pass(below: &mut Vec<EnvPass>, above: &[EnvPass]) {
    for passed in above {
        match below.iter_mut().find(|known| known.name.value == passed.name.value) {
            None => below.push(passed.clone()),
            Some(known) => *known = passed.clone(),
        }
    }
}

fn finish(raw: RawTask) -> Task {
    Task {
        span: raw.span,
        desc: raw.desc,
        needs: raw.needs,
        targets: raw.targets.unwrap_or_default(),
        sysroot: raw.sysroot,
        source: raw.source,
        inputs: raw.inputs,
        git_inputs: raw.git_inputs,
        outputs: raw.outputs,
        env: raw.env,
        env_pass: raw.env_pass,
        secrets: raw.secrets,
        tools: raw.tools,
        path: raw.path,
        vars: raw.vars,
        before: raw.before.unwrap_or_default(),
        run: raw.run.unwrap_or_default(),
        after: raw.after.unwrap_or_default(),
        cwd: raw.cwd,
        cache: raw.cache.unwrap_or(true),
        clean: raw.clean.unwrap_or(true),
        build_dir: raw.build_dir.unwrap_or(BuildDir::Fresh),
        depfiles: raw.depfiles.unwrap_or_default(),
        timeout: raw.timeout,
        retries: raw.retries.unwrap_or(0),
        jobs: raw.jobs.unwrap_or(1),
        jobserver: raw.jobserver.unwrap_or(JobserverChoice::Auto),
        confirm: raw.confirm,
        host: raw.host,
        cargo: raw.cargo,
    }
}
