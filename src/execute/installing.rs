//! Layers put into the prefixes that people look at, and the files there that several steps may write.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::action::{Made, StepRecord};
use crate::base::digest::Digest;
use crate::base::ids::{StepId, StepIx};
use crate::base::tree::Node;
use crate::graph::PrefixIx;
use crate::store::{LayerSource, no_link_above};

use super::build::{Build, StepError};

impl Build<'_> {
    /// Puts the layer of a step into its prefix.
    pub(super) fn install(&self, ix: StepIx, made: &Made, source: LayerSource) -> Result<usize, StepError> {
        let step = self.graph.step(ix);
        let prefix = step.sysroot.expect("BUG: only a step with a sysroot installs");
        // One after another: who has put its layer is not provisional any more.
        let mut installed = self.tally.installed.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &self.graph.prefix(prefix).name;
        let is_provisional = |owner: &StepId, path: &Path, node: &Node| {
            let Some(ix) = self.graph.find(owner) else { return (self.is_gone)(owner, name) };
            let Some(made) = installed.get(&ix).cloned().or_else(|| self.results.get(ix)) else {
                return self.is_to_come(ix);
            };
            // What it did not make here is of a build with another manifest. (Moved, its files hold another path.)
            let known = made.layer.as_ref().and_then(|layer| layer.get(path));
            let is_moved = self.graph.prefix(prefix).placeholder.is_some();
            known.is_none_or(|known| known != node && !is_moved)
        };
        let moved = self.relocation.moved(self.state, made, source)?;
        let prefix_here = &self.prefixes[prefix.index()];
        let report = prefix_here.put_over(&step.id, moved.tree(), source, moved.mends(), &is_provisional)?;
        installed.insert(ix, Arc::new(made.clone()));
        report.aside.iter().for_each(|aside| self.say_aside(aside));
        if !report.left.is_empty() {
            self.install_again(ix, prefix, &report.left, &installed)?;
        }
        Ok(report.written)
    }

    /// Is the step part of this build, and not done yet?
    fn is_to_come(&self, ix: StepIx) -> bool {
        self.selection.steps.contains(&ix) && self.results.get(ix).is_none()
    }

    /// Equal files of several steps lie there once, as one step's. It left these: they are the others' now.
    fn install_again(
        &self,
        ix: StepIx,
        prefix: PrefixIx,
        left: &[PathBuf],
        installed: &HashMap<StepIx, Arc<Made>>,
    ) -> Result<(), StepError> {
        let others = self.graph.indices().filter(|other| self.graph.step(*other).sysroot == Some(prefix));
        for other in others.filter(|other| *other != ix) {
            let made = || self.results.get(other).or_else(|| self.recorded(other).filter(|_| !self.is_to_come(other)));
            let Some(made) = installed.get(&other).cloned().or_else(made) else { continue };
            let Some(tree) = made.layer.as_ref().filter(|t| left.iter().any(|path| t.get(path).is_some())) else {
                continue;
            };
            if let Some(dir) = self.layer_dir(other, tree)? {
                let source = LayerSource::Dir(&dir);
                let moved = self.relocation.moved(self.state, &made, source)?;
                let id = &self.graph.step(other).id;
                self.prefixes[prefix.index()].put_over(id, moved.tree(), source, moved.mends(), &|_, _, _| false)?;
            }
        }
        Ok(())
    }

    /// Files that several steps may write: the last in graph order stands.
    pub(super) fn write_shared(&self, prefix: PrefixIx) -> Result<(), StepError> {
        let prefix_path = &self.graph.prefix(prefix).path;
        let share = self.state.try_share_prefix(self.prefixes[prefix.index()].name()).map_err(StepError::lock)?;
        if share.is_none() {
            return Ok(());
        }
        for path in &self.graph.prefix(prefix).shared_files {
            let writers = self.graph.indices().filter(|ix| self.graph.step(*ix).sysroot == Some(prefix));
            let made = writers.filter_map(|ix| self.results.get(ix).or_else(|| self.recorded(ix)));
            let last = made.filter_map(|m| m.shared.iter().find(|s| s.path == *path).cloned()).last();
            let to = prefix_path.join(path);
            let Some(file) = last else { continue };
            // A layer may have brought a link; what it leads to is nobody's to write in.
            no_link_above(prefix_path, path)?;
            let bytes = self.relocation.bytes(&file.bytes);
            if fs::read(&to).ok().as_deref() != Some(&*bytes) {
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent).map_err(StepError::write(parent))?;
                }
                crate::base::publish::publish(&to, &bytes).map_err(StepError::write(&to))?;
                crate::base::stat::set_mode(&to, file.mode).map_err(StepError::write(&to))?;
            }
        }
        Ok(())
    }

    fn recorded(&self, ix: StepIx) -> Option<Arc<Made>> {
        let record = self.records.get(&self.graph.step(ix).id)?;
        record.made.clone().map(Arc::new)
    }
}

/// Digests of all layers that records own: what is kept unpacked.
pub fn layers_in_use(records: &[StepRecord]) -> HashSet<Digest> {
    records.iter().filter_map(|r| r.made.as_ref()?.layer.as_ref().map(|l| l.digest())).collect()
}
