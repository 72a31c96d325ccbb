//! What a run has made, read once: its digests, whether it holds a path that its key does not say, and the bytes for the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::action::{Made, SharedFile};
use crate::base::ids::StepIx;
use crate::base::paths::escaped;
use crate::graph::{Class, Step};
use crate::store::{Capture, Snapshot, Sources, Stuck};

use super::build::{Build, StepError};
use super::runner::Finished;
use super::view::layer::{Lower, collect};

/// A shorter secret is in many files by chance.
const SHORTEST_SECRET: usize = 8;

impl Build<'_> {
    /// What the step made, by digest; and ready to be committed, unless it is for this worktree alone.
    pub(super) fn captured(
        &self,
        ix: StepIx,
        upper: Option<&Path>,
        finished: &Finished,
    ) -> Result<(Snapshot, Option<Capture>), StepError> {
        let step = self.graph.step(ix);
        let outputs = self.made_outputs(step)?;
        let shared = match upper {
            Some(upper) => self.collect_layer(ix, upper, finished)?,
            None => Vec::new(),
        };
        let log = finished.log.as_deref().and_then(|path| fs::read(path).ok()).filter(|log| !log.is_empty());
        let mut secrets = crate::fingerprint::env::secret_values(step, self.bench.outside);
        secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
        let sources = Sources {
            workspace: &self.graph.root,
            outputs: &outputs,
            upper,
            except: &[],
            log: log.as_deref(),
            secrets: &secrets,
            places: &self.unsaid(step),
            placeholders: if step.has_views() { self.relocation.placeholders() } else { &[] },
        };
        let (mut snapshot, capture) = if step.builds_on_itself() {
            (sources.snapshot()?, None)
        } else {
            let capture = sources.capture(self.store)?;
            (capture.snapshot.clone(), Some(capture))
        };
        self.check_stuck(step, &snapshot.stuck)?;
        snapshot.made.shared = shared;
        Ok((snapshot, capture))
    }

    fn collect_layer(&self, ix: StepIx, upper: &Path, finished: &Finished) -> Result<Vec<SharedFile>, StepError> {
        let step = self.graph.step(ix);
        let prefix = self.graph.prefix(step.sysroot.expect("BUG: only a step with a sysroot has a layer"));
        let below: Vec<(StepIx, Arc<Made>)> = self.layers_at(step, step.sysroot).collect();
        let lower: Vec<Lower> = below
            .iter()
            .filter_map(|(step, made)| Some(Lower { owner: &self.graph.step(*step).id, tree: made.layer.as_ref()? }))
            .collect();
        let removed: Vec<PathBuf> =
            finished.removed.iter().filter(|(at, _)| at == prefix.seen()).map(|(_, path)| path.clone()).collect();
        let shared = collect(&step.id, upper, &lower, &prefix.shared_files, &removed)?;
        Ok(shared.into_iter().map(|s| SharedFile { path: s.path, mode: s.mode, bytes: s.bytes }).collect())
    }

    /// Does its key say nothing of where the workspace is? Who has views has the paths of all prefixes in it, or their
    /// placeholders.
    pub(super) fn is_shared_by_all(&self, step: &Step) -> bool {
        step.class == Class::Cached && !(step.has_views() && self.graph.is_placed(step))
    }

    /// Paths that its key does not say: who has one of them in what it made is bound to this worktree and to the name of the
    /// step, by which its own directories are called.
    fn unsaid(&self, step: &Step) -> Vec<PathBuf> {
        if step.class != Class::Cached {
            return Vec::new();
        }
        let (root, state) = (&self.graph.root, self.state.dir());
        if !self.is_shared_by_all(step) {
            return vec![step.work.clone(), state.join("t").join(step.id.file_name())];
        }
        let mut places = vec![root.clone()];
        // Its directory may be a link to a faster disk.
        places.extend(fs::canonicalize(state));
        // Working copies beside the workspace are named as the manifest names them.
        let copies = step.git_inputs.iter().map(|input| &input.dir.path);
        places.extend(copies.flat_map(|copy| fs::canonicalize(copy).into_iter().chain([copy.clone()])));
        let mut all: Vec<PathBuf> = Vec::new();
        for place in places {
            if !all.iter().any(|known| place.starts_with(known)) {
                all.push(place);
            }
        }
        all
    }

    /// A file that would lead to a placeholder is of no use to anybody.
    fn check_stuck(&self, step: &Step, stuck: &[Stuck]) -> Result<(), StepError> {
        let Some(first) = stuck.first() else { return Ok(()) };
        let headline = match first {
            Stuck::Output(path) => format!(
                "output `{}` holds the path of a relocatable sysroot, which is replaced only in what is installed there",
                escaped(path)
            ),
            Stuck::Pieces(path) => format!(
                "`{}` holds the path of a relocatable sysroot in pieces that are too small to be found: it can't be moved",
                escaped(path)
            ),
        };
        Err(self.plain_failure(step, headline))
    }

    /// What lies in the outputs of a step that always runs: that is what it made.
    pub(super) fn plain_snapshot(&self, ix: StepIx) -> Result<Snapshot, StepError> {
        let outputs = self.made_outputs(self.graph.step(ix))?;
        let sources = Sources {
            workspace: &self.graph.root,
            outputs: &outputs,
            upper: None,
            except: &[],
            log: None,
            secrets: &[],
            places: &[],
            placeholders: &[],
        };
        Ok(sources.snapshot()?)
    }
}
