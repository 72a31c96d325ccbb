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

/// Steps of a cycle that are shown.
const LONGEST: usize = 12;
/// Cycles that are said; where many steps need many others, each pair is one.
const MOST: usize = 20;

/// Needs first, otherwise in the order of the manifest. Each cycle that the walk closes is a problem, up to [`MOST`].
pub(super) fn order(steps: &[Step], problems: &mut Vec<Problem>) -> Vec<StepIx> {
    let mut marks = vec![Mark::New; steps.len()];
    let mut order = Vec::with_capacity(steps.len());
    let mut cycles = 0;
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
                Mark::Open if cycles == MOST => {}
                Mark::Open => {
                    cycles += 1;
                    let from = path.iter().position(|(s, _)| *s == to).expect("BUG: an open step is on the path");
                    let cycle: Vec<usize> = path[from..].iter().map(|(s, _)| *s).collect();
                    problems.push(problem(steps, &cycle));
                }
            }
        }
    }
    order
}

/// One that is long is shown by its two ends.
fn problem(steps: &[Step], cycle: &[usize]) -> Problem {
    let omitted = cycle.len().saturating_sub(LONGEST);
    let (head, tail) =
        if omitted == 0 { (cycle, &[][..]) } else { (&cycle[..LONGEST / 2], &cycle[omitted + LONGEST / 2..]) };
    let name = |s: &usize| steps[*s].id.to_string();
    let mut names: Vec<String> = head.iter().map(name).collect();
    if omitted > 0 {
        names.push(format!("({omitted} more)"));
    }
    names.extend(tail.iter().chain(&cycle[..1]).map(name));
    let first = &steps[cycle[0]];
    let mut problem = Problem::new("bcache::graph::cycle", format!("a cycle: {}", names.join(" -> ")), first.span)
        .label("begins here");
    let edges = cycle.iter().zip(cycle.iter().cycle().skip(1)).enumerate();
    for (_, (from, to)) in edges.filter(|(at, _)| *at < head.len() || *at >= cycle.len() - tail.len()) {
        let (from, to) = (&steps[*from], &steps[*to]);
        if from.id != first.id {
            problem = problem.related(from.span, format!("needs `{}`", to.id));
        }
        if let Some(help) = help(steps, from, to) {
            problem = problem.help(help);
        }
    }
    problem
}

/// What to do where nobody wrote that one step needs the other.
fn help(steps: &[Step], from: &Step, to: &Step) -> Option<String> {
    let need = from.needs.iter().find(|need| steps[need.step.index()].id == to.id)?;
    let NeedOrigin::Path(path) = &need.origin else { return None };
    let by_glob = from.inputs.iter().any(|i| i.pattern.is_glob() && i.pattern.shown == *path);
    let by_git = from.git_inputs.iter().any(|input| input.dir.shown == *path);
    Some(if by_git {
        format!(
            "the git input `{path}` of `{}` reaches what `{}` makes: take that away by a `!…` in its `paths`",
            from.id, to.id
        )
    } else if by_glob {
        let made = to.outputs.first().map_or("", |o| o.pattern.shown.trim_end_matches('/'));
        let is_dir = to.outputs.first().is_some_and(|o| o.pattern.is_dir);
        let exclusion = if is_dir { format!("!{made}/**") } else { format!("!{made}") };
        format!(
            "the input glob `{path}` of `{}` reaches what `{}` makes: add `\"{exclusion}\"` to its inputs",
            from.id, to.id
        )
    } else {
        format!("`{path}` of `{}` is made by `{}`", from.id, to.id)
    })
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
