//! `list`, `log`, `schema`: what is there, without building anything.

use crate::cli::TaskName;
use crate::exit::Exit;
use crate::manifest::{load, schema};
use crate::report::tables::{self, TaskRow};
use crate::store::State;

use super::Context;
use super::error::CommandError;
use super::open::relocation;

impl Context {
    pub(super) fn list(&self) -> Result<Exit, CommandError> {
        let manifest = load::load(&self.manifest_path()?)?;
        let default = manifest.settings.default.as_ref().map(|d| d.value.as_str());
        let rows: Vec<TaskRow> = manifest
            .tasks
            .iter()
            .map(|(name, task)| TaskRow {
                name: name.clone(),
                targets: task.targets.iter().map(|t| t.value.clone()).collect(),
                desc: task.desc.clone(),
                default: default == Some(name),
            })
            .collect();
        self.answer(tables::tasks(&rows).as_bytes())
    }

    pub(super) fn log(&self, task: &TaskName) -> Result<Exit, CommandError> {
        let workspace = self.workspace(std::slice::from_ref(task), None)?;
        let selection = workspace.graph.select(&workspace.manifest, &workspace.request)?;
        let state = State::open(&workspace.graph.root)?;
        let relocation = relocation(&workspace.graph);
        let mut found = false;
        for ix in selection.named {
            let id = &workspace.graph.step(ix).id;
            let path = state.log_path(id);
            match std::fs::read(&path) {
                Ok(bytes) => {
                    found = true;
                    self.answer(&relocation.shown(bytes))?;
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    if let Some(log) = self.stored_log(&state, id)? {
                        found = true;
                        self.answer(&relocation.shown(log))?;
                    }
                }
                Err(error) => return Err(CommandError::Io { what: format!("read `{}`", path.display()), error }),
            }
        }
        if found {
            return Ok(Exit::Ok);
        }
        Err(CommandError::Usage {
            text: format!("`{task}` has no log here: it never ran, or it wrote nothing"),
            help: None,
        })
    }

    /// The log that came with a restored result.
    fn stored_log(&self, state: &State, id: &crate::base::ids::StepId) -> Result<Option<Vec<u8>>, CommandError> {
        let Some(record) = state.read_record(id)? else { return Ok(None) };
        let store = self.store()?;
        match store.lookup(&record.key)? {
            crate::store::Lookup::Hit(result) => Ok(store.log(&result)?),
            crate::store::Lookup::Miss(_) => Ok(None),
        }
    }

    pub(super) fn schema(&self) -> Result<Exit, CommandError> {
        let mut text = serde_json::to_string_pretty(&schema::schema()).expect("BUG: a schema is JSON");
        text.push('\n');
        self.answer(text.as_bytes())
    }
}
