//! Which steps run whatever is known: `--force`, `BCACHE_REBUILD`, and the manifest's own variables.

use std::collections::HashMap;

use crate::base::ids::StepIx;
use crate::base::text::nearest;
use crate::cli::Force;
use crate::graph::Class;

use super::Context;
use super::error::CommandError;
use super::open::Opened;

/// The variable that always works.
const REBUILD: &str = "BCACHE_REBUILD";

impl Context {
    /// Forced steps, each with the words that forced it.
    pub(super) fn forced(&self, opened: &Opened) -> Result<HashMap<StepIx, String>, CommandError> {
        let mut forced = HashMap::new();
        match self.options.force() {
            Force::No => {}
            Force::Named => self.named(opened, "--force", &mut forced),
            Force::All => {
                let steps = opened.selection.steps.iter().filter(|ix| opened.graph.step(**ix).class != Class::Group);
                forced.extend(steps.map(|ix| (*ix, "--force=all".to_owned())));
            }
        }
        let own = opened.workspace.manifest.settings.rebuild_env.iter().map(String::as_str);
        for variable in std::iter::once(REBUILD).chain(own) {
            let value = self.outside.get(variable).map(|v| v.to_string_lossy().into_owned()).unwrap_or_default();
            match value.trim() {
                "" | "0" | "false" => {}
                "1" | "true" => self.named(opened, variable, &mut forced),
                names => self.listed(opened, variable, names, &mut forced)?,
            }
        }
        Ok(forced)
    }

    fn named(&self, opened: &Opened, by: &str, forced: &mut HashMap<StepIx, String>) {
        for ix in opened.graph.forced_by_name(&opened.selection.named) {
            forced.entry(ix).or_insert_with(|| by.to_owned());
        }
    }

    /// `glib,qemu`: by name, as far as the request holds them.
    fn listed(
        &self,
        opened: &Opened,
        by: &str,
        names: &str,
        forced: &mut HashMap<StepIx, String>,
    ) -> Result<(), CommandError> {
        for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            let task = name.split('@').next().unwrap_or(name);
            let tasks = &opened.workspace.manifest.tasks;
            if !tasks.contains_key(task) {
                let help =
                    nearest(task, tasks.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
                return Err(CommandError::Usage { text: format!("{by} names `{task}`, which is no task"), help });
            }
            let named = opened.selection.steps.iter().copied().filter(|ix| {
                let id = &opened.graph.step(*ix).id;
                &*id.task == name || id.to_string() == name
            });
            for ix in opened.graph.forced_by_name(&named.collect::<Vec<_>>()) {
                forced.entry(ix).or_insert_with(|| by.to_owned());
            }
        }
        Ok(())
    }
}
