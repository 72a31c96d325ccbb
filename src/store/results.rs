//! Action results by key: looked up, committed, never half there.
//!
//! A commit needs the permit that a miss handed out, so nothing that was found is saved again and
//! nothing is saved that was not looked for. Frames come first, the result last: what can be found is
//! whole. What is damaged, of another version, or without its frames is a miss.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::action::{ActionKey, ActionResult, Content, Cost, Frame, Made, Place, Slice};
use crate::base::ids::StepId;
use crate::base::sealed::{Format, Unreadable};
use crate::base::tree::{Entry, Node};

use super::capture::{Capture, Kept, Packed};
use super::cas::{MAX_FRAME, Store, spread_out};
use super::error::{StoreError, failed};
use super::files::{publish_private, read_if_sound, remove_if_there, rename_into, touch};
use super::walk::is_inner;

pub(super) const RESULT: Format = Format { magic: b"bc-reslt", version: 4 };

#[derive(Debug)]
pub enum Lookup {
    Hit(Box<ActionResult>),
    Miss(Permit),
}

/// The right to commit one result.
#[derive(Debug)]
pub struct Permit {
    key: ActionKey,
}

impl Permit {
    pub fn key(&self) -> &ActionKey {
        &self.key
    }
}

impl Store {
    /// The right to replace whatever the store has for this key: for a step that was forced.
    pub fn replace(&self, key: &ActionKey) -> Permit {
        Permit { key: *key }
    }

    /// The result for this key, if it is there with all its bytes. It then counts as used now.
    pub fn lookup(&self, key: &ActionKey) -> Result<Lookup, StoreError> {
        let path = self.result_path(key);
        let miss = Ok(Lookup::Miss(Permit { key: *key }));
        // What is not there needs no protection from a collection.
        if !path.exists() {
            return miss;
        }
        let _held = self.hold()?;
        let Some(bytes) = read_if_sound(&path).map_err(failed("read", &path))? else { return miss };
        let result = match RESULT.open::<ActionResult>(&bytes) {
            Ok(result) if result.key == *key && is_coherent(&result) => result,
            // Another program's: it is replaced when we commit ours.
            Err(Unreadable::Version(_)) => return miss,
            Ok(_) | Err(Unreadable::Damaged | Unreadable::Foreign) => {
                remove_if_there(&path).map_err(failed("remove", &path))?;
                return miss;
            }
        };
        for frame in result.content.frames.iter().filter(|frame| frame.inline.is_none()) {
            if !self.touch_frame(&frame.digest)? {
                remove_if_there(&path).map_err(failed("remove", &path))?;
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
            publish_private(&path, &bytes).map_err(failed("write", &path))?;
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
        remove_if_there(&path).map_err(failed("remove", &path))?;
        Ok(())
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

/// Does it keep to what the rest of this room relies on? A checksum says that we wrote it, not that
/// the program which wrote it had no fault, and its paths decide where files are written.
fn is_coherent(result: &ActionResult) -> bool {
    let content = &result.content;
    let total: u64 = content.frames.iter().map(|frame| frame.size).sum();
    let inside = |slice: &Slice| slice.start.checked_add(slice.len).is_some_and(|end| end <= total);
    let layer = result.made.layer.iter().flat_map(|tree| tree.entries());
    content.frames.iter().all(|frame| frame.size <= MAX_FRAME)
        && content.files.iter().chain(&content.log).all(inside)
        && files_of(&result.made).count() == content.files.len()
        && files_of(&result.made)
            .zip(&content.files)
            .all(|(entry, slice)| matches!(entry.node, Node::File { size, .. } if size == slice.len))
        && result.made.outputs.entries().iter().chain(layer).all(|entry| is_inner(&entry.path))
        && result.made.places.files.iter().all(|file| are_apart(&file.places))
}

/// In order, none in another?
fn are_apart(places: &[Place]) -> bool {
    let ends = |place: &Place| place.offset.saturating_add(u64::from(place.len));
    places.windows(2).all(|pair| ends(&pair[0]) <= pair[1].offset)
}
