//! An order in which every step comes after its needs, and the cycles that forbid one.

use crate::base::ids::StepIx;
use crate::manifest::error::Problem;

use super::{Graph, NeedOrigin, Step};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Needs first, otherwise in the order of the manifest. Each cycle that the walk closes is a problem.
pub(super) fn order(steps: &[Step], problems: &mut Vec<Problem>) -> Vec<StepIx> {
    let mut marks = vec![Mark::New; steps.len()];
    let mut order = Vec::with_capacity(steps.len());
    for start in 0..steps.len() {
        if marks[start] != Mark::New {
            continue;
        }
        // An explicit stack: chains may be thousands of steps long.
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        marks[start] = Mark::Open;
        while let Some((at, next)) = path.last_mut() {
            let Some(need) = steps[*at].needs.get(*next) else {
                marks[*at] = Mark::Done;
                order.push(StepIx(*at as u32));
                path.pop();
                continue;
            };
            *next += 1;
            let to = need.step.index();
            match marks[to] {
                Mark::Done => {}
                Mark::New => {
                    marks[to] = Mark::Open;
                    path.push((to, 0));
                }
                Mark::Open => {
                    let from = path.iter().position(|(s, _)| *s == to).expect("BUG: an open step is on the path");
                    let cycle: Vec<usize> = path[from..].iter().map(|(s, _)| *s).collect();
                    problems.push(problem(steps, &cycle));
                }
            }
        }
    }
    order
}

fn problem(steps: &[Step], cycle: &[usize]) -> Problem {
    let mut names: Vec<String> = cycle.iter().map(|s| steps[*s].id.to_string()).collect();
    names.push(names[0].clone());
    let first = &steps[cycle[0]];
    let mut problem = Problem::new("bcache::graph::cycle", format!("a cycle: {}", names.join(" -> ")), first.span)
        .label("begins here");
    let edges = cycle.iter().zip(cycle.iter().cycle().skip(1));
    for (from, to) in edges {
        let (from, to) = (&steps[*from], &steps[*to]);
        let origin = from.needs.iter().find(|n| steps[n.step.index()].id == to.id).map(|n| &n.origin);
        if from.id != first.id {
            problem = problem.related(from.span, format!("needs `{}`", to.id));
        }
        if let Some(NeedOrigin::Path(path)) = origin {
            let by_glob = from.inputs.iter().any(|i| i.pattern.is_glob() && i.pattern.shown == *path);
            let by_git = from.git_inputs.iter().any(|input| input.dir.shown == *path);
            problem = if by_git {
                problem.help(format!(
                    "the git input `{path}` of `{}` reaches what `{}` makes: take that away by a `!…` in its `paths`",
                    from.id, to.id
                ))
            } else if by_glob {
                let made = to.outputs.first().map_or("", |o| o.pattern.shown.trim_end_matches('/'));
                let exclusion = if to.outputs.first().is_some_and(|o| o.pattern.is_dir) {
                    format!("!{made}/**")
                } else {
                    format!("!{made}")
                };
                problem.help(format!(
                    "the input glob `{path}` of `{}` reaches what `{}` makes: add `\"{exclusion}\"` to its inputs",
                    from.id, to.id
                ))
            } else {
                problem.help(format!("`{path}` of `{}` is made by `{}`", from.id, to.id))
            };
        }
    }
    problem
}

/// Puts the steps into `order` and renumbers all that refers to them.
pub(super) fn reorder(graph: &mut Graph, order: &[StepIx]) {
    let mut place = vec![StepIx(0); order.len()];
    for (new, old) in order.iter().enumerate() {
        place[old.index()] = StepIx(new as u32);
    }
    let mut steps: Vec<Option<Step>> = std::mem::take(&mut graph.steps).into_iter().map(Some).collect();
    graph.steps = order.iter().map(|old| steps[old.index()].take().expect("BUG: each step comes once")).collect();
    for step in &mut graph.steps {
        for need in &mut step.needs {
            need.step = place[need.step.index()];
        }
    }
    graph.by_id = graph.steps.iter().enumerate().map(|(i, s)| (s.id.clone(), StepIx(i as u32))).collect();
}
