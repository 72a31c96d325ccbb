//! Who makes which path: one owner each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::ids::StepIx;
use crate::manifest::error::Problem;

use super::pattern::Pattern;
use super::{Class, OutputPattern, Prefix, Step};

/// Declared outputs of all steps, looked up by path.
pub(super) struct Owners {
    /// Plain paths: files and directories.
    by_path: BTreeMap<PathBuf, (StepIx, Pattern)>,
    globs: Vec<(StepIx, Pattern)>,
}

impl Owners {
    /// Collects the outputs; two owners of one path are problems, each with both places.
    pub(super) fn new(steps: &[Step], prefixes: &[Prefix], root: &Path, problems: &mut Vec<Problem>) -> Self {
        let mut owners = Self { by_path: BTreeMap::new(), globs: Vec::new() };
        for (i, step) in steps.iter().enumerate() {
            for output in &step.outputs {
                owners.add(StepIx(i as u32), output, steps, problems);
                in_no_prefix(output, prefixes, problems);
            }
        }
        owners.check_nested(steps, problems);
        owners.check_inputs_in_own_outputs(steps, root, problems);
        owners
    }

    fn add(&mut self, ix: StepIx, output: &OutputPattern, steps: &[Step], problems: &mut Vec<Problem>) {
        let pattern = output.pattern.clone();
        if pattern.is_glob() {
            self.globs.push((ix, pattern));
        } else if let Some((other, theirs)) = self.by_path.get(&pattern.path) {
            problems.push(two_owners(&steps[ix.index()], &pattern, &steps[other.index()], theirs));
        } else {
            self.by_path.insert(pattern.path.clone(), (ix, pattern));
        }
    }

    /// An output below another step's output, or a glob that could reach into one.
    fn check_nested(&self, steps: &[Step], problems: &mut Vec<Problem>) {
        for (path, (ix, pattern)) in &self.by_path {
            let above = path.ancestors().skip(1).find_map(|dir| self.by_path.get(dir));
            if let Some((other, theirs)) = above
                && other != ix
            {
                problems.push(two_owners(&steps[ix.index()], pattern, &steps[other.index()], theirs));
            }
        }
        for (i, (ix, glob)) in self.globs.iter().enumerate() {
            let literal = self
                .by_path
                .values()
                .filter(|(_, p)| glob.may_meet(p) || p.path.ancestors().skip(1).any(|a| glob.matches(a)));
            let earlier = self.globs[..i].iter().filter(|(_, p)| glob.may_meet(p) && same_text(glob, p));
            if let Some((other, theirs)) =
                literal.map(|(o, p)| (o, p)).chain(earlier.map(|(o, p)| (o, p))).find(|(o, _)| *o != ix)
            {
                problems.push(two_owners(&steps[ix.index()], glob, &steps[other.index()], theirs));
            }
        }
    }

    /// A step that reads what it writes could never be fresh.
    fn check_inputs_in_own_outputs(&self, steps: &[Step], root: &Path, problems: &mut Vec<Problem>) {
        for step in steps.iter().filter(|s| s.class != Class::Plain) {
            let files = step.inputs.iter().filter(|i| !i.exclude).map(|i| &i.pattern);
            let dirs = step.git_inputs.iter().map(|input| &input.dir);
            for input in files.chain(dirs).filter(|pattern| !pattern.is_glob() && pattern.path != root) {
                if let Some(output) =
                    step.outputs.iter().find(|o| !o.pattern.is_glob() && o.pattern.covers(&input.path))
                {
                    let text = format!("`{}` is an input and an output of `{}`", input.shown, step.id);
                    let problem = Problem::new("bcache::graph::own_output", text, input.span)
                        .label("read here")
                        .related(output.pattern.span, "made here")
                        .help("a step can't be judged by what it makes itself");
                    problems.push(problem);
                }
            }
        }
    }

    /// Steps whose outputs `pattern` reaches, each with the output.
    pub(super) fn reached_by<'a>(&'a self, pattern: &'a Pattern) -> Vec<(StepIx, &'a Pattern)> {
        let mut found: Vec<(StepIx, &Pattern)> = Vec::new();
        let mut add = |entry: &'a (StepIx, Pattern)| found.push((entry.0, &entry.1));
        if pattern.is_glob() {
            let fixed = pattern.fixed_part();
            self.below(&fixed)
                .filter(|(_, p)| pattern.matches(&p.path) || pattern.may_match_below(&p.path) && p.is_dir)
                .for_each(&mut add);
            // What a glob begins with is a directory, whether its maker says so or not.
            fixed.ancestors().filter_map(|dir| self.by_path.get(dir)).for_each(&mut add);
        } else {
            pattern.path.ancestors().filter_map(|dir| self.by_path.get(dir)).for_each(&mut add);
            // A directory as an input holds all that lies in it.
            self.below(&pattern.path).filter(|(_, p)| p.path != pattern.path).for_each(&mut add);
        }
        self.globs
            .iter()
            .filter(|(_, p)| p.may_meet(pattern) || !pattern.is_glob() && p.may_match_below(&pattern.path))
            .for_each(&mut add);
        found
    }

    /// The step that makes this very path, or a directory above it.
    pub(super) fn maker(&self, path: &Path) -> Option<(StepIx, &Pattern)> {
        let literal = path.ancestors().find_map(|dir| self.by_path.get(dir));
        literal.or_else(|| self.globs.iter().find(|(_, p)| p.covers(path))).map(|(ix, p)| (*ix, p))
    }

    fn below<'a>(&'a self, dir: &Path) -> impl Iterator<Item = &'a (StepIx, Pattern)> + use<'a> {
        let dir = dir.to_owned();
        self.by_path.range(dir.clone()..).take_while(move |(path, _)| path.starts_with(&dir)).map(|(_, entry)| entry)
    }
}

fn same_text(a: &Pattern, b: &Pattern) -> bool {
    a.path == b.path
}

fn in_no_prefix(output: &OutputPattern, prefixes: &[Prefix], problems: &mut Vec<Problem>) {
    let path = output.pattern.fixed_part();
    if let Some(prefix) =
        prefixes.iter().find(|p| path.starts_with(&p.path) || p.path.starts_with(&path) && !output.pattern.is_glob())
    {
        let text = format!("output `{}` and sysroot `{}` lie in one place", output.pattern.shown, prefix.name);
        let problem = Problem::new("bcache::graph::output_in_prefix", text, output.pattern.span)
            .related(prefix.span, "the sysroot")
            .help("what a step installs into its sysroot is captured without being declared");
        problems.push(problem);
    }
}

fn two_owners(step: &Step, pattern: &Pattern, other: &Step, theirs: &Pattern) -> Problem {
    let text = format!("`{}` and `{}` both make `{}`", other.id, step.id, pattern.shown);
    let mut problem =
        Problem::new("bcache::graph::two_owners", text, pattern.span).label(format!("made by `{}`", step.id));
    if theirs.span == pattern.span {
        problem = problem.help("let the path hold `{{ target.name }}`");
    } else {
        problem = problem.related(theirs.span, format!("made by `{}`", other.id)).help("every path has one owner");
    }
    problem
}
