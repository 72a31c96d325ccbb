//! Does a result, or a record, keep to what the rest of this room relies on?
//!
//! A checksum says that it is as it was written, not who wrote it, nor that whoever did meant well or had no fault; and
//! a result decides what is written where. Its trees were checked when they were read ([`crate::base::tree`]). What is no
//! result is dropped, as a damaged one is. Whether it is what its step makes is asked where the step is known.

use crate::action::{ActionResult, Content, FilePlaces, Made, Place, Places};
use crate::base::tree::{Entry, Node, Tree, is_inner};

use super::cas::MAX_FRAME;
use super::results::files_of;

/// A log is read whole. Of longer ones the middle was cut long before.
const MAX_LOG: u64 = 64 << 20;

pub(super) fn is_coherent(result: &ActionResult) -> bool {
    let made = &result.made;
    is_line(&result.step.to_string())
        && result.bound_to.as_deref().is_none_or(is_line)
        && has_bytes(&result.content)
        && files_of(made).count() == result.content.files.len()
        && files_of(made).zip(&result.content.files).all(|(entry, slice)| size_of(entry) == slice.len)
        && is_sound(made)
}

/// The same of what a record says that a step made: that is removed one day, and looked for in prefixes.
pub(super) fn is_sound(made: &Made) -> bool {
    made.shared.iter().all(|file| is_inner(&file.path) && file.mode <= 0o7777)
        && made.layer.as_ref().map_or(made.places.is_empty(), |layer| are_places(&made.places, layer))
}

/// What is shown to people is shown as it is.
fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Each byte of the frames is of one file, in order, and the last ones are the log.
fn has_bytes(content: &Content) -> bool {
    let mut end = 0u64;
    for slice in content.files.iter().chain(&content.log) {
        match end.checked_add(slice.len).filter(|_| slice.start == end) {
            Some(next) => end = next,
            None => return false,
        }
    }
    let fits = content.frames.iter().all(|frame| frame.size <= MAX_FRAME);
    let total = content.frames.iter().try_fold(0u64, |total, frame| total.checked_add(frame.size));
    fits && total == Some(end) && content.log.is_none_or(|log| log.len <= MAX_LOG)
}

fn size_of(entry: &Entry) -> u64 {
    if let Node::File { size, .. } = entry.node { size } else { 0 }
}

fn are_places(places: &Places, layer: &Tree) -> bool {
    let file = |file: &FilePlaces| {
        let of_file = layer.entries().get(file.entry as usize);
        let size = of_file.filter(|entry| matches!(entry.node, Node::File { .. })).map(size_of);
        let inside = |place: &Place| {
            let whole = places.placeholders.get(place.of as usize).map_or(0, String::len);
            let part = u64::from(place.start) + u64::from(place.len);
            let end = place.offset.checked_add(u64::from(place.len));
            part <= whole as u64 && end.is_some_and(|end| size.is_some_and(|size| end <= size))
        };
        file.places.iter().all(inside) && are_apart(&file.places)
    };
    let is_text = places.placeholders.iter().all(|name| !name.is_empty());
    is_text && places.files.windows(2).all(|pair| pair[0].entry < pair[1].entry) && places.files.iter().all(file)
}

/// In order, none in another?
fn are_apart(places: &[Place]) -> bool {
    places.windows(2).all(|pair| pair[0].offset + u64::from(pair[0].len) <= pair[1].offset)
}
