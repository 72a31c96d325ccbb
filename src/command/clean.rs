//! `clean`: takes away what tasks have made here. The store keeps its copies.

use crate::base::text::count;
use crate::cli::TaskName;
use crate::event::{Event, Listener};
use crate::execute::watch::Watch;
use crate::exit::Exit;
use crate::graph::Selection;
use crate::store::{Before, Layers, no_link_above, remove_recorded, remove_tree};

use super::Context;
use super::error::CommandError;
use super::open::Opened;

/// Directories and files of the state that are made again.
const CLEANED: [&str; 14] = [
    "work", "kept", "t", "proofs", "logs", "made", "files", "versions", "tools", "out", "cargo", "packages", "git",
    "zig",
];

impl Context {
    pub(super) fn clean(&self, tasks: &[TaskName]) -> Result<Exit, CommandError> {
        let mut workspace = self.workspace(tasks, None)?;
        if tasks.is_empty() {
            // Everything: the selection is made from the whole graph below.
            workspace.request.names = workspace.manifest.tasks.keys().cloned().collect();
        }
        self.open(&workspace, |opened| {
            let Some(_alone) = opened.state.try_lock_build().map_err(CommandError::io("lock the state"))? else {
                return Err(CommandError::Usage { text: "a build is running in this worktree".to_owned(), help: None });
            };
            let watch = Watch::new(opened.state, opened.store.root());
            watch.end_orphans(&self.reporter).map_err(CommandError::io("look for what killed builds left"))?;
            let removed =
                if tasks.is_empty() { self.clean_all(opened)? } else { self.clean_named(opened, &opened.selection)? };
            let text = format!("removed {}; the cache keeps its copies", count(removed, "file"));
            self.reporter.on(Event::Note { text });
            Ok(Exit::Ok)
        })
    }

    fn clean_all(&self, opened: &Opened) -> Result<usize, CommandError> {
        let mut removed = 0;
        for record in opened.records.all() {
            removed += self.clean_step(opened, &record)?;
        }
        for prefix in opened.prefixes {
            removed += prefix.retain(|_| false)?;
        }
        for name in CLEANED {
            let path = opened.state.dir().join(name);
            remove_tree(&path).map_err(CommandError::io(format!("remove `{}`", path.display())))?;
        }
        Layers::of(opened.state).remove_unused(&Default::default())?;
        Ok(removed)
    }

    fn clean_named(&self, opened: &Opened, selection: &Selection) -> Result<usize, CommandError> {
        let mut removed = 0;
        for ix in opened.graph.forced_by_name(&selection.named) {
            let step = opened.graph.step(ix);
            if let Some(record) = opened.records.get(&step.id) {
                removed += self.clean_step(opened, &record)?;
            }
            if let Some(prefix) = step.sysroot {
                removed += opened.prefixes[prefix.index()].retain(|owner| *owner != step.id)?;
            }
            opened.state.forget_last_use(&step.id)?;
            let built = step.cargo.iter().filter(|cargo| cargo.has_own_target_dir).map(|cargo| &cargo.target_dir);
            for dir in built.chain([&step.work]) {
                remove_tree(dir).map_err(CommandError::io(format!("remove `{}`", dir.display())))?;
            }
        }
        Ok(removed)
    }

    /// Shared files of its prefix that lie there as it left them.
    fn clean_shared(&self, opened: &Opened, record: &crate::action::StepRecord) -> Result<usize, CommandError> {
        let prefix = opened.graph.find(&record.step).and_then(|ix| opened.graph.step(ix).sysroot);
        let (Some(prefix), Some(made)) = (prefix, &record.made) else { return Ok(0) };
        let mut removed = 0;
        for file in &made.shared {
            let prefix = &opened.graph.prefix(prefix).path;
            if no_link_above(prefix, &file.path).is_err() {
                continue;
            }
            let path = prefix.join(&file.path);
            if std::fs::read(&path).ok().as_ref() == Some(&file.bytes) {
                remove_tree(&path).map_err(CommandError::io(format!("remove `{}`", path.display())))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Its recorded outputs, then the record.
    fn clean_step(&self, opened: &Opened, record: &crate::action::StepRecord) -> Result<usize, CommandError> {
        let before = match &record.made {
            Some(made) => Before { tree: Some(&made.outputs), seen: &record.outputs },
            None => Before::default(),
        };
        let mut removed = remove_recorded(&opened.graph.root, before)?;
        removed += self.clean_shared(opened, record)?;
        opened.records.remove(&record.step)?;
        Ok(removed)
    }
}
