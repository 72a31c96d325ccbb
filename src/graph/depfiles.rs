//! Whose is a depfile? It is removed before a run and believed after it, so nobody else may write or need it.

use std::collections::HashMap;
use std::path::Path;

use crate::base::ids::StepIx;
use crate::manifest::error::Problem;

use super::Step;
use super::outputs::Owners;
use super::pattern::Pattern;

pub(super) fn check(steps: &[Step], owners: &Owners, problems: &mut Vec<Problem>) {
    let mut first: HashMap<&Path, (usize, &Pattern)> = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        for depfile in &step.depfiles {
            let input =
                step.inputs.iter().find(|i| !i.exclude && !i.pattern.is_glob() && depfile.covers(&i.pattern.path));
            if let Some(input) = input {
                let text = format!("`{}` is an input and a depfile of `{}`", depfile.shown, step.id);
                let problem = Problem::new("bcache::graph::depfile", text, depfile.span);
                problems.push(problem.related(input.pattern.span, "read here").help("it is removed before a run"));
            }
            let made = owners.maker(&depfile.fixed_part()).filter(|(ix, _)| *ix != StepIx(i as u32));
            let (other, theirs) = match (made, first.get(depfile.path.as_path())) {
                (Some((ix, output)), _) => (ix.index(), output),
                (None, Some((other, theirs))) if *other != i => (*other, *theirs),
                (None, _) => {
                    first.insert(&depfile.path, (i, depfile));
                    continue;
                }
            };
            problems.push(shared(step, depfile, &steps[other], theirs));
        }
    }
}

fn shared(step: &Step, depfile: &Pattern, other: &Step, theirs: &Pattern) -> Problem {
    let text = format!("`{}` and `{}` both make `{}`", other.id, step.id, depfile.shown);
    let problem = Problem::new("bcache::graph::depfile", text, depfile.span);
    if theirs.span == depfile.span {
        problem.help("let the path hold `{{ target.name }}`")
    } else {
        problem.related(theirs.span, format!("made by `{}`", other.id)).help("every depfile has one owner")
    }
}
