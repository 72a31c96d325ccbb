//! Needs that nobody wrote: a path of a step that reaches an output of another.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use crate::base::ids::StepIx;
use crate::base::paths::join_clean;

use super::outputs::Owners;
use super::pattern::Pattern;
use super::{Class, Command, Graph, InputPattern, Need, NeedOrigin, SourceFrom, Step, shell, starts};

/// Flags that a path may follow without a space; each comes before those that it begins with.
const FLAGS: &[&str] = &["-idirafter", "-imacros", "-include", "-iquote", "-isystem", "-B", "-I", "-L", "-T", "@"];

pub(super) fn find_needs(steps: &mut [Step], owners: &Owners) {
    for (i, step) in steps.iter_mut().enumerate() {
        let found = reached(step, StepIx(i as u32), owners);
        if found.is_empty() {
            continue;
        }
        let mut known: HashSet<StepIx> = step.needs.iter().map(|need| need.step).collect();
        for (maker, path) in found {
            if known.insert(maker) {
                step.needs.push(Need { step: maker, origin: NeedOrigin::Path(path) });
            }
        }
    }
}

fn reached(step: &Step, ix: StepIx, owners: &Owners) -> Vec<(StepIx, String)> {
    let mut found = Vec::new();
    if step.class == Class::Group {
        return found;
    }
    for input in step.inputs.iter().filter(|i| !i.exclude) {
        for (maker, output) in owners.reached_by(&input.pattern) {
            // What is named itself can't be excluded, but what lies in a directory that is named can.
            let by_chance =
                input.pattern.is_glob() || output.path != input.pattern.path && input.pattern.covers(&output.path);
            if maker != ix && !is_excluded(step, by_chance, output) {
                found.push((maker, input.pattern.shown.clone()));
            }
        }
    }
    for input in &step.git_inputs {
        let takes: Vec<&Pattern> = input.paths.iter().filter(|p| !p.exclude).map(|p| &p.pattern).collect();
        let whole = if takes.is_empty() { vec![&input.dir] } else { takes };
        for (maker, output) in whole.into_iter().flat_map(|pattern| owners.reached_by(pattern)) {
            if maker != ix && !is_taken_away(&input.paths, output) {
                found.push((maker, input.dir.shown.clone()));
            }
        }
    }
    let mut reach_path = |path: &Path, shown: &str| {
        if let Some((maker, _)) = owners.maker(path)
            && maker != ix
        {
            found.push((maker, shown.to_owned()));
        }
    };
    if let Some(source) = &step.source {
        if let SourceFrom::Archive { path, .. } | SourceFrom::Path { path } = &source.from {
            reach_path(path, &path.display().to_string());
        }
        source.patches.iter().for_each(|p| reach_path(&p.path, &p.shown));
    }
    step.path.iter().for_each(|dir| reach_path(dir, &dir.display().to_string()));
    each_path(step, &mut reach_path);
    // Whether there is such a flag is not asked: what no step makes is no need.
    for word in step.commands.iter().flat_map(words) {
        for value in values_of_flags(&word) {
            if let Some(path) = join_clean(&step.cwd, Path::new(value)) {
                reach_path(&step.elsewhere.real(&path), value);
            }
        }
    }
    found
}

/// What stands in a word of a compiler behind its flag without a space: `-Igen`, `CFLAGS=-Igen`, `-Wl,-O1,-Tgen/script`.
fn values_of_flags(word: &str) -> impl Iterator<Item = &str> {
    let whole = word.split_once('=').map_or(word, |(name, value)| if name.starts_with('-') { word } else { value });
    let value = |part| FLAGS.iter().find_map(|flag| str::strip_prefix(part, flag)).filter(|value| !value.is_empty());
    whole.split(if whole.starts_with("-Wl,") { ',' } else { '\0' }).filter_map(value)
}

/// Every word of the step's commands as the path that it would be.
fn each_path(step: &Step, act: &mut dyn FnMut(&Path, &str)) {
    for word in step.commands.iter().flat_map(words) {
        // `--config=a/b` names a file too.
        let value = word.split_once('=').map(|(_, value)| value);
        for candidate in
            [Some(word.as_str()), value].into_iter().flatten().filter(|c| !c.is_empty() && !c.starts_with('-'))
        {
            if let Some(path) = join_clean(&step.cwd, Path::new(candidate)) {
                act(&step.elsewhere.real(&path), candidate);
            }
        }
    }
}

/// What the steps of a graph make, to be asked about many paths.
pub struct Made<'g> {
    literal: HashSet<&'g Path>,
    globs: Vec<&'g Pattern>,
}

impl Made<'_> {
    /// Does a step make this very path, or a directory above it?
    fn covers(&self, path: &Path) -> bool {
        path.ancestors().any(|dir| self.literal.contains(dir)) || self.globs.iter().any(|glob| glob.covers(path))
    }
}

impl Graph {
    pub fn made(&self) -> Made<'_> {
        let all = self.steps.iter().flat_map(|step| &step.outputs).map(|output| &output.pattern);
        let (globs, literal): (Vec<&Pattern>, Vec<&Pattern>) = all.partition(|pattern| pattern.is_glob());
        Made { literal: literal.into_iter().map(|pattern| pattern.path.as_path()).collect(), globs }
    }

    /// Paths of the workspace that a cached step's commands name, and that the manifest says nothing of: neither
    /// that they are inputs (or are not), nor that a step makes them. Whether there is anything is not asked.
    pub fn unmentioned(&self, step: &Step, made: &Made) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        if step.class != Class::Cached {
            return found;
        }
        let state = self.root.join(".bcache");
        let source = step.source.iter().flat_map(|s| s.patches.iter().map(|p| &p.path).chain([&s.dir]));
        let known: Vec<&PathBuf> = source.chain(&step.path).chain([&state]).collect();
        each_path(step, &mut |path, _| {
            let is_known = step.inputs.iter().any(|i| i.pattern.covers(path))
                || step.git_inputs.iter().any(|input| input.mentions(path))
                || step.scripts.iter().any(|script| script == path)
                || known.iter().any(|known| path.starts_with(known))
                || matches!(&step.source, Some(s) if matches!(&s.from, SourceFrom::Archive { path: archive, .. } if archive == path))
                || self.prefixes.iter().any(|prefix| path.starts_with(&prefix.path))
                || made.covers(path);
            if path.starts_with(&self.root) && path != self.root && !is_known {
                found.insert(path.to_owned());
            }
        });
        found
    }
}

/// Takes an exclusion of the step this output, or all of the directory, away again?
fn is_excluded(step: &Step, by_chance: bool, output: &Pattern) -> bool {
    by_chance && is_taken_away(&step.inputs, output)
}

fn is_taken_away(inputs: &[InputPattern], output: &Pattern) -> bool {
    inputs.iter().filter(|i| i.exclude).any(|i| {
        let all_below =
            i.pattern.path.ends_with("**") && i.pattern.path.parent().is_some_and(|dir| output.path.starts_with(dir));
        all_below || i.pattern.covers(&output.path)
    })
}

/// All words of a command whose text is known.
fn words(command: &Command) -> Vec<String> {
    let in_shell = |text: &str| {
        let script = shell::scan(text);
        script.commands.into_iter().flatten().flatten().chain(script.redirected).collect()
    };
    match command {
        Command::Argv(words) => {
            let inner: Vec<String> = starts::inline(words).map(in_shell).unwrap_or_default();
            words.iter().cloned().chain(inner).collect()
        }
        Command::Shell(text) => in_shell(text),
    }
}
