//! What is different between two states of a working copy, file by file: the older one is kept as a listing by who
//! records a run.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::base::paths::escaped;
use crate::base::sealed::Format;

use super::object::{Mode, Oid};
use super::snapshot::{Repository, Snapshot, join};

/// A directory after the other: length and bytes of its path, length and bytes of its block.
pub(super) const LISTING: Format = Format { magic: b"bcgitls\n", version: 1 };
/// Bytes of an id that a listing keeps: enough to tell two states of one file apart.
const KEPT: usize = 8;

/// The files of a directory: length and bytes of the name, mode, the beginning of the id.
fn block(snapshot: &Snapshot, dir: usize, block: &mut Vec<u8>) {
    let mut add = |name: &[u8], mode: Mode, oid: &Oid| {
        block.extend_from_slice(&(name.len() as u16).to_le_bytes());
        block.extend_from_slice(name);
        block.push(mode as u8);
        block.extend_from_slice(&oid.0[..KEPT]);
    };
    let seen = &snapshot.dirs[dir];
    // A submodule that was not fetched is a file without a name in its own directory.
    if let Repository::Absent { commit } = &seen.repository {
        add(b"", Mode::Commit, commit);
    }
    for file in snapshot.files_of(seen) {
        add(snapshot.bytes(&file.name), file.mode, &file.oid);
    }
}

pub fn listing(snapshot: &Snapshot) -> Vec<u8> {
    let (mut body, mut files) = (Vec::new(), Vec::new());
    for (at, dir) in snapshot.dirs.iter().enumerate() {
        files.clear();
        block(snapshot, at, &mut files);
        for bytes in [snapshot.bytes(&dir.path), &files] {
            body.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            body.extend_from_slice(bytes);
        }
    }
    LISTING.seal_bytes(&body)
}

/// What is different by now: `a/b.rs modified`. `None` for a listing that can't be read.
pub fn since(listing: &[u8], snapshot: &Snapshot) -> Option<Vec<String>> {
    let mut before = dirs(LISTING.open_bytes(listing).ok()?)?;
    let mut changes: Vec<(Vec<u8>, &'static str)> = Vec::new();
    let mut now = Vec::new();
    for (at, dir) in snapshot.dirs.iter().enumerate() {
        let path = snapshot.bytes(&dir.path);
        let old = before.remove(path).unwrap_or_default();
        now.clear();
        block(snapshot, at, &mut now);
        if now == old {
            continue;
        }
        let is_tracked = |name: &[u8]| snapshot.find_file(at, name).is_none_or(|file| snapshot.files[file].is_tracked);
        compare(path, &files(old)?, &files(&now)?, is_tracked, &mut changes);
    }
    for (path, old) in before {
        compare(path, &files(old)?, &BTreeMap::new(), |_| true, &mut changes);
    }
    changes.sort();
    let shown = |(path, how): (Vec<u8>, &str)| format!("{} {how}", escaped(Path::new(OsStr::from_bytes(&path))));
    Some(changes.into_iter().map(shown).collect())
}

type Files<'b> = BTreeMap<&'b [u8], &'b [u8]>;

fn compare(
    dir: &[u8],
    old: &Files,
    new: &Files,
    is_tracked: impl Fn(&[u8]) -> bool,
    changes: &mut Vec<(Vec<u8>, &'static str)>,
) {
    let path = |name: &[u8]| if name.is_empty() { dir.to_vec() } else { join(dir, name) };
    for (name, state) in new {
        match old.get(name) {
            Some(known) if known == state => {}
            Some(_) => changes.push((path(name), "modified")),
            None => changes.push((path(name), if is_tracked(name) { "added" } else { "untracked" })),
        }
    }
    changes.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| (path(name), "deleted")));
}

/// The blocks of a listing by their directories.
fn dirs(mut body: &[u8]) -> Option<HashMap<&[u8], &[u8]>> {
    let mut dirs = HashMap::new();
    let mut next = || {
        let (length, rest) = body.split_first_chunk()?;
        let (taken, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        body = rest;
        Some((taken, rest.is_empty()))
    };
    loop {
        let (path, _) = next()?;
        let (block, is_last) = next()?;
        dirs.insert(path, block);
        if is_last {
            return Some(dirs);
        }
    }
}

/// Mode and id of each file of a block.
fn files(mut block: &[u8]) -> Option<Files<'_>> {
    let mut files = BTreeMap::new();
    while !block.is_empty() {
        let (length, rest) = block.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (state, rest) = rest.split_at_checked(1 + KEPT)?;
        files.insert(name, state);
        block = rest;
    }
    Some(files)
}
