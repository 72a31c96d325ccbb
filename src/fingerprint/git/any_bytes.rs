//! What must hold of whatever bytes lie where working copies are remembered, and in git's own files.

use std::collections::BTreeSet;

use crate::base::any_bytes::{Place, write};
use crate::base::digest::Digest;

use super::index::Index;
use super::memory;
use super::rules::{Chain, Rules};
use super::snapshot::Snapshot;
use super::{changes, identity};

/// The memory of a scope: all of it.
pub fn snapshot(body: &[u8]) {
    if let Some(snapshot) = Snapshot::decode(body) {
        use_snapshot(snapshot);
    }
}

/// A memory and what was written after it, divided by the length of the first in four bytes.
pub fn patches(bytes: &[u8]) {
    let Some((whole, body)) = halves(bytes) else { return };
    let base = Digest::of(whole);
    let known = Snapshot::decode(whole).and_then(|known| known.patched(base, &[&base.as_bytes()[..], body].concat()));
    if let Some(known) = known {
        use_snapshot(known);
    }
}

fn halves(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Everything that is done with a memory before it is believed.
fn use_snapshot(mut snapshot: Snapshot) {
    let bytes = snapshot.encode();
    let again = Snapshot::decode(&bytes).expect("what was written can be read");
    assert!(again.encode() == bytes, "what was read again is another thing");
    for file in &snapshot.files {
        let path = snapshot.path_of(file);
        let is_name = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
        assert!(path.split(|byte| *byte == b'/').all(is_name), "a file leads out: {}", path.escape_ascii());
    }
    for dir in (0..snapshot.dirs.len()).rev() {
        snapshot.plant(dir);
        for at in snapshot.files_of(&snapshot.dirs[dir]) {
            let _ = snapshot.find_file(dir, snapshot.bytes(&at.name));
        }
    }
    let _ = identity::digest(&snapshot);
    let listing = changes::listing(&snapshot);
    if !snapshot.dirs.is_empty() {
        assert_eq!(changes::since(&listing, &snapshot), Some(Vec::new()), "it is different from itself");
    }
    let place = Place::make();
    write(&place.path().join("deep/b"), b"b");
    // What it says is compared with the disk; an error is a file that can't be read.
    let _ = memory::check(&place.path(), &mut snapshot);
    place.assert_kept_to();
}

/// A memory, divided as above from what is kept of a working copy so that `why` can name files.
pub fn listing(bytes: &[u8]) {
    let Some((snapshot, body)) = halves(bytes).and_then(|(whole, body)| Some((Snapshot::decode(whole)?, body))) else {
        return;
    };
    if let Some(changes) = changes::since(&changes::LISTING.seal_bytes(body), &snapshot) {
        assert!(changes.iter().all(|line| line.contains(' ') && !line.contains('\n')), "{changes:?}");
    }
}

/// Git's index.
pub fn index(bytes: &[u8]) {
    let Ok(index) = Index::parse(bytes.to_vec()) else { return };
    let all = index.below(b"");
    assert_eq!(all, 0..index.entries().len(), "not all is below the root");
    walk(&index, all, 0, 0);
    for entry in index.entries() {
        assert!(index.tracks(index.path(entry)), "an entry is not found");
    }
    let _ = index.tracked_digest(b"a/");
}

/// Each entry is a child of one directory.
fn walk(index: &Index, range: std::ops::Range<usize>, dir: usize, depth: usize) {
    let mut met = BTreeSet::new();
    let children = index.children(range.clone(), dir);
    for (name, at) in children.files {
        assert!(range.contains(&at), "a file of another directory");
        assert!(!index.bytes(name).contains(&b'/'), "a name with a slash");
        met.insert(at);
    }
    for (name, below) in children.dirs {
        assert!(!below.is_empty() && range.start <= below.start && below.end <= range.end, "a directory without files");
        if depth < 64 {
            walk(index, below, dir + name.len() + 1, depth + 1);
        }
    }
}

/// A file of ignore rules, a NUL, paths.
pub fn rules(bytes: &[u8]) {
    let (text, paths) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    let paths = paths.split(|byte| *byte == 0 || *byte == b'\n').filter(|path| !path.is_empty());
    let ignoring = Chain::default().with(Rules::ignoring(text, 0));
    let negated = [text, b"\n!*\n"].concat();
    let none = Chain::default().with(Rules::ignoring(&negated, 0));
    for path in paths.take(16) {
        for is_dir in [false, true] {
            let _ = ignoring.means(path, is_dir);
            assert!(!none.means(path, is_dir), "the last line has not the last word");
        }
    }
}
