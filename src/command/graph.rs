//! `graph`: the steps and their needs, for people (dot, mermaid) and programs (JSON).

use std::fmt::Write;

use crate::base::ids::StepIx;
use crate::cli::{GraphFormat, TaskName};
use crate::exit::Exit;
use crate::graph::{Class, Graph, NeedOrigin};

use super::Context;
use super::error::CommandError;

impl Context {
    pub(super) fn graph(&self, tasks: &[TaskName], format: GraphFormat) -> Result<Exit, CommandError> {
        let workspace = self.workspace(tasks, None)?;
        let graph = &workspace.graph;
        let steps: Vec<StepIx> = if tasks.is_empty() {
            graph.indices().collect()
        } else {
            graph.select(&workspace.manifest, &workspace.request)?.steps
        };
        let text = match format {
            GraphFormat::Dot => dot(graph, &steps),
            GraphFormat::Mermaid => mermaid(graph, &steps),
            GraphFormat::Json => json(graph, &steps),
        };
        self.answer(text.as_bytes())
    }
}

fn dot(graph: &Graph, steps: &[StepIx]) -> String {
    let mut text = String::from("digraph bcache {\n  rankdir = LR;\n  node [shape = box];\n");
    for ix in steps {
        let step = graph.step(*ix);
        let style = match step.class {
            Class::Group => " [style = dashed]",
            Class::Plain => " [shape = ellipse]",
            Class::Cached | Class::Fixed => "",
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "  \"{}\"{style};", step.id);
        for need in &step.needs {
            let label = match &need.origin {
                NeedOrigin::Declared => String::new(),
                NeedOrigin::Path(path) => format!(" [label = \"{}\"]", path.escape_default()),
            };
            let _ = writeln!(text, "  \"{}\" -> \"{}\"{label};", step.id, graph.step(need.step).id);
        }
    }
    text.push_str("}\n");
    text
}

fn mermaid(graph: &Graph, steps: &[StepIx]) -> String {
    let mut text = String::from("graph LR\n");
    for ix in steps {
        let step = graph.step(*ix);
        let _ = writeln!(text, "  s{}[\"{}\"]", ix.0, step.id);
        for need in &step.needs {
            let label = match &need.origin {
                NeedOrigin::Declared => String::new(),
                NeedOrigin::Path(path) => format!("|\"{}\"|", path.replace('"', "#quot;")),
            };
            let _ = writeln!(text, "  s{} -->{label} s{}", ix.0, need.step.0);
        }
    }
    text
}

fn json(graph: &Graph, steps: &[StepIx]) -> String {
    let steps: Vec<serde_json::Value> = steps
        .iter()
        .map(|ix| {
            let step = graph.step(*ix);
            let needs: Vec<serde_json::Value> = step
                .needs
                .iter()
                .map(|need| {
                    let path = match &need.origin {
                        NeedOrigin::Declared => None,
                        NeedOrigin::Path(path) => Some(path),
                    };
                    serde_json::json!({ "step": graph.step(need.step).id.to_string(), "path": path })
                })
                .collect();
            let class = match step.class {
                Class::Group => "group",
                Class::Plain => "uncached",
                Class::Cached => "cached",
                Class::Fixed => "fixed",
            };
            let outputs: Vec<&str> = step.outputs.iter().map(|o| o.pattern.shown.as_str()).collect();
            let sysroot = step.sysroot.map(|p| graph.prefix(p).name.clone());
            serde_json::json!({ "step": step.id.to_string(), "class": class, "needs": needs, "outputs": outputs, "sysroot": sysroot })
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&serde_json::json!({ "version": 1, "steps": steps }))
        .expect("BUG: plain data is JSON");
    text.push('\n');
    text
}
