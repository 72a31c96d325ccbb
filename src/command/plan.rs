//! `plan` and `why`: what would happen, and why; nothing is changed.

use std::collections::HashSet;

use crate::base::ids::{StepId, StepIx};
use crate::cli::TaskName;
use crate::event::{Event, Listener, Why};
use crate::execute::explain::Explainer;
use crate::execute::judging::{Answer, Judged, answer};
use crate::exit::Exit;
use crate::graph::Class;
use crate::plan::Reason;
use crate::report::tables::{self, PlanRow, Verdict, WhyRow};
use crate::report::words::some_of;

use super::Context;
use super::build::millis;
use super::error::CommandError;
use super::open::{Opened, check_target_dirs, check_tools, check_tracked};

/// Needs that are named where a step waits on them.
const WAITS_NAMED: usize = 8;

/// What a dry run knows of a step.
struct Foreseen {
    verdict: Verdict,
    reasons: Vec<Why>,
}

impl Context {
    pub(super) fn plan(&self, tasks: &[TaskName]) -> Result<Exit, CommandError> {
        let workspace = self.workspace(tasks, None)?;
        self.open(&workspace, |opened| {
            for text in &opened.warnings {
                self.reporter.on(Event::Warning { text: text.clone() });
            }
            check_tracked(opened)?;
            check_tools(opened)?;
            check_target_dirs(opened)?;
            let foreseen = self.foresee(opened)?;
            let rows: Vec<PlanRow> = foreseen
                .into_iter()
                .map(|(ix, foreseen)| {
                    let step = opened.graph.step(ix);
                    let cost = opened.records.get(&step.id).and_then(|r| millis(r.cost.millis));
                    let reasons = foreseen.reasons.into_iter().map(|w| w.text).collect();
                    PlanRow { step: step.id.to_string(), verdict: foreseen.verdict, reasons, cost }
                })
                .collect();
            self.answer(tables::plan(&rows, self.options.verbose()).as_bytes())
        })
    }

    pub(super) fn why(&self, task: &TaskName) -> Result<Exit, CommandError> {
        let workspace = self.workspace(std::slice::from_ref(task), None)?;
        self.open(&workspace, |opened| {
            let foreseen = self.foresee(opened)?;
            let mut text = String::new();
            for ix in opened.selection.named.iter().copied() {
                let id = opened.graph.step(ix).id.to_string();
                if opened.graph.step(ix).class == Class::Group {
                    let members = foreseen.iter().filter(|(_, f)| f.verdict != Verdict::Fresh);
                    let rows: Vec<WhyRow> =
                        members.flat_map(|(ix, f)| rows(&opened.graph.step(*ix).id.to_string(), &f.reasons)).collect();
                    let headline = if rows.is_empty() {
                        "all that it groups is fresh"
                    } else {
                        "of what it groups would run or be restored now"
                    };
                    text.push_str(&tables::why(&format!("{id}: {headline}"), &rows));
                    continue;
                }
                let Some((_, now)) = foreseen.iter().find(|(known, _)| *known == ix) else { continue };
                text.push_str(&match now.verdict {
                    Verdict::Fresh => last_time(opened, ix),
                    Verdict::Cached => tables::why(&format!("{id} would be restored now"), &causes(&now.reasons)),
                    Verdict::Stale => tables::why(&format!("{id} would run now"), &causes(&now.reasons)),
                    Verdict::Unknown => tables::why(&format!("{id} can't be judged yet"), &causes(&now.reasons)),
                });
            }
            self.answer(text.as_bytes())
        })
    }

    /// Goes through the steps in order. What depends on a step that is not done can't be known.
    fn foresee(&self, opened: &Opened) -> Result<Vec<(StepIx, Foreseen)>, CommandError> {
        let forced = self.forced(opened)?;
        let judge = opened.judge();
        let mut pending: HashSet<StepIx> = HashSet::new();
        let mut foreseen = Vec::new();
        for ix in opened.selection.steps.iter().copied() {
            let step = opened.graph.step(ix);
            let waits: Vec<StepIx> = opened.graph.flat_needs(ix).into_iter().filter(|n| pending.contains(n)).collect();
            let known = match step.class {
                Class::Group => continue,
                Class::Plain => Foreseen {
                    verdict: Verdict::Stale,
                    reasons: vec![Why { code: "uncached", text: "it always runs".to_owned() }],
                },
                Class::Cached if !waits.is_empty() && forced.contains_key(&ix) => {
                    let by = Reason::Forced { by: forced[&ix].clone() };
                    let reasons = vec![Why { code: by.code(), text: by.sentence(None) }];
                    Foreseen { verdict: Verdict::Stale, reasons }
                }
                Class::Cached if !waits.is_empty() => {
                    let names: Vec<&StepId> = waits.iter().map(|n| &opened.graph.step(*n).id).collect();
                    let text = format!("waits on {}", some_of(&names, WAITS_NAMED));
                    Foreseen { verdict: Verdict::Unknown, reasons: vec![Why { code: "waits", text }] }
                }
                Class::Cached | Class::Fixed => {
                    let judged = judge.judge(ix, opened.records.get(&step.id), forced.get(&ix).map(String::as_str))?;
                    self.verdict(opened, ix, judged, forced.contains_key(&ix))?
                }
            };
            if known.verdict != Verdict::Fresh && step.class != Class::Plain
                || step.class == Class::Plain && !step.outputs.is_empty()
            {
                pending.insert(ix);
            }
            foreseen.push((ix, known));
        }
        Ok(foreseen)
    }

    fn verdict(&self, opened: &Opened, ix: StepIx, judged: Judged, forced: bool) -> Result<Foreseen, CommandError> {
        let explain = |reasons: &[Reason]| {
            Explainer {
                graph: opened.graph,
                results: opened.results,
                state: opened.state,
                host: opened.bench.host,
                git: opened.bench.git,
            }
            .explain(reasons, judged.record.as_deref())
        };
        match &judged.fresh {
            Ok(made) => {
                opened.results.set(ix, made.clone());
                Ok(Foreseen { verdict: Verdict::Fresh, reasons: Vec::new() })
            }
            Err(reasons) => {
                let action = &judged.assembled.action;
                let step = opened.graph.step(ix);
                let asks = !forced && !step.builds_on_itself();
                let is_exclusive = || step.has_views() && opened.views.is_exclusive();
                let answer = || answer(opened.store, opened.bench, step, action, &is_exclusive);
                let stored = asks && matches!(answer()?, Answer::Hit(..));
                let verdict = if stored { Verdict::Cached } else { Verdict::Stale };
                Ok(Foreseen { verdict, reasons: explain(reasons) })
            }
        }
    }
}

fn causes(reasons: &[Why]) -> Vec<WhyRow> {
    reasons
        .iter()
        .map(|why| WhyRow { component: why.code.to_owned(), text: why.text.clone(), files: Vec::new() })
        .collect()
}

fn rows(step: &str, reasons: &[Why]) -> Vec<WhyRow> {
    reasons.iter().map(|why| WhyRow { component: step.to_owned(), text: why.text.clone(), files: Vec::new() }).collect()
}

/// A fresh step: the record keeps why it last ran.
fn last_time(opened: &Opened, ix: StepIx) -> String {
    let id = &opened.graph.step(ix).id;
    let Some(record) = opened.records.get(id) else {
        return tables::why(&format!("{id} is fresh: its files have their checksums"), &[]);
    };
    let verb = match record.origin {
        crate::action::Origin::Restored => "was last restored",
        crate::action::Origin::Ran | crate::action::Origin::Begun => "last ran",
    };
    let mut rows: Vec<WhyRow> = record
        .reasons
        .iter()
        .map(|text| WhyRow { component: "because".to_owned(), text: text.clone(), files: Vec::new() })
        .collect();
    if record.action.is_bound() {
        let text = "what it made holds the path of the workspace: it answers only here".to_owned();
        rows.push(WhyRow { component: "place".to_owned(), text, files: Vec::new() });
    }
    tables::why(&format!("{id} is fresh; it {verb}"), &rows)
}
