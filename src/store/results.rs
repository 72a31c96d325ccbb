//! Action results by key: looked up, committed, never half there.
//!
//! A commit needs the permit that a miss handed out, so nothing that was found is saved again and
//! nothing is saved that was not looked for. Frames come first, the result last: what can be found is
//! whole. What is damaged, of another version, or without its frames is a miss.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::action::{ActionKey, ActionResult, Content, Cost, Frame, Made};
use crate::base::ids::StepId;
use crate::base::publish::publish;
use crate::base::sealed::{Format, Unreadable};
use crate::base::stat::Stat;
use crate::base::tree::{Entry, Node};

use super::capture::{Capture, Kept, Packed};
use super::cas::{Store, spread_out};
use super::coherent::is_coherent;
use super::error::{StoreError, failed};
use super::files::{read_sound_at_most, remove_tree, rename_into, touch};

pub(super) const RESULT: Format = Format { magic: b"bc-reslt", version: 4 };

/// A larger file is none of ours: two million paths fit.
pub(super) const MAX_RESULT: u64 = 256 << 20;

#[derive(Debug)]
pub enum Lookup {
    Hit(Box<ActionResult>),
    Miss(Permit),
}

/// The right to commit one result.
#[derive(Debug)]
pub struct Permit {
    key: ActionKey,
    has_dropped: bool,
}

impl Permit {
    pub fn key(&self) -> &ActionKey {
        &self.key
    }

    /// This one, after a look for what could have answered as well.
    pub fn after(self, other: &Self) -> Self {
        Self { has_dropped: self.has_dropped || other.has_dropped, ..self }
    }

    /// Was there something for the key, which nobody may use?
    pub fn has_dropped(&self) -> bool {
        self.has_dropped
    }
}

impl Store {
    /// The right to replace whatever the store has for this key: for a step that was forced.
    pub fn replace(&self, key: &ActionKey) -> Permit {
        Permit { key: *key, has_dropped: false }
    }

    /// Drops a result that is not what its step makes: who wrote it had a fault, or meant harm.
    pub fn refuse(&self, key: &ActionKey) -> Result<Permit, StoreError> {
        self.forget(key)?;
        Ok(Permit { key: *key, has_dropped: true })
    }

    /// The result for this key, if it is there with all its bytes. It then counts as used now.
    pub fn lookup(&self, key: &ActionKey) -> Result<Lookup, StoreError> {
        let path = self.result_path(key);
        let miss = Ok(Lookup::Miss(self.replace(key)));
        // What is not there needs no protection from a collection.
        if Stat::read(&path).map_err(failed("look at", &path))?.is_none() {
            return miss;
        }
        let _held = self.hold()?;
        let Some(bytes) = read_sound_at_most(&path, MAX_RESULT).map_err(failed("read", &path))? else { return miss };
        let result = match RESULT.open::<ActionResult>(&bytes) {
            Ok(result) if result.key == *key && is_coherent(&result) => result,
            // Another program's: it is replaced when we commit ours.
            Err(Unreadable::Version(_)) => return miss,
            Ok(_) | Err(Unreadable::Damaged | Unreadable::Foreign) => return self.refuse(key).map(Lookup::Miss),
        };
        for frame in result.content.frames.iter().filter(|frame| frame.inline.is_none()) {
            if !self.touch_frame(&frame.digest)? {
                self.forget(key)?;
                return miss;
            }
        }
        touch(&path).map_err(failed("touch", &path))?;
        Ok(Lookup::Hit(Box::new(result)))
    }

    /// Saves what was captured as the answer to the permit's key.
    pub fn commit(
        &self,
        permit: Permit,
        capture: Capture,
        step: &StepId,
        cost: Cost,
    ) -> Result<ActionResult, StoreError> {
        let Capture { snapshot, packed: Packed { frames, files, log, scratch: _scratch, held } } = capture;
        let committed = self.commit_frames(&frames).and_then(|grown| {
            let content = Content { frames: frames.into_iter().map(|(frame, _)| frame).collect(), log, files };
            let result = ActionResult {
                key: permit.key,
                step: step.clone(),
                bound_to: snapshot.bound_to,
                made: snapshot.made,
                cost,
                created: now(),
                content,
            };
            let (path, bytes) = (self.result_path(&permit.key), RESULT.seal(&result));
            publish(&path, &bytes).map_err(failed("write", &path))?;
            self.grew(grown + bytes.len() as u64);
            Ok(result)
        });
        if committed.is_err() {
            drop(held);
            // Best effort: what stays has no result and is collected.
            let _ = self.drop_orphans();
        }
        committed
    }

    /// Returns the bytes that were added.
    fn commit_frames(&self, frames: &[(Frame, Kept)]) -> Result<u64, StoreError> {
        let mut grown = 0;
        for (frame, place) in frames {
            if let Kept::Waiting(from, size) = place {
                let to = self.frame_path(&frame.digest);
                rename_into(from, &to).map_err(failed("write", &to))?;
                grown += size;
            }
        }
        Ok(grown)
    }

    /// Forgets a result whose bytes turned out to be damaged.
    pub(super) fn forget(&self, key: &ActionKey) -> Result<(), StoreError> {
        let path = self.result_path(key);
        remove_tree(&path).map_err(failed("remove", &path))
    }

    pub(super) fn result_path(&self, key: &ActionKey) -> PathBuf {
        spread_out(&self.root().join("results"), &key.0)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// All file entries, in the order of `Content::files`.
pub(super) fn files_of(made: &Made) -> impl Iterator<Item = &Entry> {
    let layer = made.layer.iter().flat_map(|tree| tree.entries());
    made.outputs.entries().iter().chain(layer).filter(|entry| matches!(entry.node, Node::File { .. }))
}
