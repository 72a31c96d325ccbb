//! What a part of a working copy is, as a value: its tree, and all files in it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::base::digest::{Digest, Hasher};
use crate::base::paths::escaped;
use crate::base::sealed::Format;

use super::object::{Mode, Oid};
use super::scope::Scope;
use super::snapshot::{Repository, Snapshot};

const LISTING: Format = Format { magic: b"bcgitls\n", version: 1 };
/// Bytes of an id that a listing keeps: enough to tell two states of one file apart.
const KEPT: usize = 8;

/// What a part of a working copy is.
pub struct Identity {
    /// The tree of the raw bytes of all its files.
    pub tree: Oid,
    /// The commit that is checked out, where the scope asks for it.
    pub head: Option<Oid>,
    snapshot: Snapshot,
    /// The root of the scope, as it was written and by its real name.
    dir: PathBuf,
    real: PathBuf,
    dirs: OnceLock<HashMap<Vec<u8>, usize>>,
    stamps: OnceLock<Digest>,
}

impl Identity {
    /// `None` where there is no file.
    pub(super) fn new(snapshot: Snapshot, scope: &Scope, real: &Path) -> Option<Self> {
        Some(Self {
            tree: snapshot.tree()?,
            head: head(&snapshot),
            snapshot,
            dir: scope.dir.clone(),
            real: real.to_owned(),
            dirs: OnceLock::new(),
            stamps: OnceLock::new(),
        })
    }

    /// The root of the scope, as it was written.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What a key holds of it.
    pub fn digest(&self) -> Digest {
        digest(&self.snapshot).expect("BUG: an identity has a tree")
    }

    /// Over the stat records of all its files: an edit that was taken back moves it.
    pub fn stamps(&self) -> Digest {
        *self.stamps.get_or_init(|| {
            let mut hasher = Hasher::new("bcache git stamps 1");
            for file in &self.snapshot.files {
                let stat = &file.stat;
                hasher.number(u64::from(file.dir)).bytes(self.snapshot.bytes(&file.name));
                hasher.number(stat.dev).number(stat.ino).number(stat.size).number(u64::from(stat.mode));
                hasher.number(stat.mtime as u64).number(stat.ctime as u64).bytes(&file.oid.0);
            }
            hasher.finish()
        })
    }

    /// How many files are in it.
    pub fn count(&self) -> usize {
        self.snapshot.files.len()
    }

    /// Is this file in it?
    pub fn holds(&self, path: &Path) -> bool {
        let Ok(inner) = path.strip_prefix(&self.dir).or_else(|_| path.strip_prefix(&self.real)) else { return false };
        let (Some(dir), Some(name)) = (inner.parent(), inner.file_name()) else { return false };
        let dirs = self.dirs.get_or_init(|| {
            let dirs = self.snapshot.dirs.iter().enumerate();
            dirs.map(|(at, dir)| (self.snapshot.bytes(&dir.path).to_vec(), at)).collect()
        });
        let dir = dirs.get(dir.as_os_str().as_bytes());
        dir.is_some_and(|dir| self.snapshot.find_file(*dir, name.as_bytes()).is_some())
    }

    /// Every file in it, absolute, by the name that the scope was written with.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.snapshot.files.iter().map(|file| self.dir.join(OsStr::from_bytes(&self.snapshot.path_of(file))))
    }

    /// The first file, by its place in the tree, that looks different in another look at the same scope.
    pub fn first_moved(&self, other: &Self) -> Option<PathBuf> {
        let (before, after) = (self.states(), other.states());
        let stamps = |snapshot: &Snapshot| -> HashMap<Vec<u8>, crate::base::stat::Stat> {
            snapshot.files.iter().map(|file| (snapshot.path_of(file), file.stat)).collect()
        };
        let (old, new) = (stamps(&self.snapshot), stamps(&other.snapshot));
        let mut moved: Vec<&Vec<u8>> = before
            .keys()
            .chain(after.keys())
            .filter(|path| before.get(*path) != after.get(*path) || old.get(*path) != new.get(*path))
            .collect();
        moved.sort();
        moved.first().map(|path| self.dir.join(OsStr::from_bytes(path)))
    }

    fn states(&self) -> HashMap<Vec<u8>, State> {
        self.entries().collect()
    }

    fn entries(&self) -> impl Iterator<Item = (Vec<u8>, State)> + '_ {
        let snapshot = &self.snapshot;
        let files = snapshot.files.iter().map(|file| {
            let state = State { id: kept(&file.oid), mode: file.mode as u8, is_tracked: file.is_tracked };
            (snapshot.path_of(file), state)
        });
        let absent = snapshot.dirs.iter().filter_map(|dir| match dir.repository {
            Repository::Absent { commit } => {
                let state = State { id: kept(&commit), mode: Mode::Commit as u8, is_tracked: true };
                Some((snapshot.bytes(&dir.path).to_vec(), state))
            }
            Repository::No | Repository::Root { .. } => None,
        });
        files.chain(absent)
    }

    /// All that is in it, so that a later one can say what is different.
    pub fn listing(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self.entries().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut body = Vec::new();
        let mut previous: &[u8] = b"";
        for (path, state) in &entries {
            let same = previous.iter().zip(path).take_while(|(a, b)| a == b).count().min(usize::from(u16::MAX));
            body.extend_from_slice(&(same as u16).to_le_bytes());
            body.extend_from_slice(&((path.len() - same) as u16).to_le_bytes());
            body.extend_from_slice(&path[same..]);
            body.push(state.mode);
            body.extend_from_slice(&state.id);
            previous = path;
        }
        LISTING.seal_bytes(&body)
    }

    /// What is different from what a listing says: `a/b.rs modified`. `None` for a listing that can't be read.
    pub fn changes(&self, listing: &[u8]) -> Option<Vec<String>> {
        let mut before = parse(LISTING.open_bytes(listing).ok()?)?;
        let mut changes: Vec<(Vec<u8>, &'static str)> = Vec::new();
        for (path, now) in self.entries() {
            match before.remove(&path) {
                Some((id, mode)) if (id, mode) == (now.id, now.mode) => {}
                Some(_) => changes.push((path, "modified")),
                None => changes.push((path, if now.is_tracked { "added" } else { "untracked" })),
            }
        }
        changes.extend(before.into_keys().map(|path| (path, "deleted")));
        changes.sort();
        Some(
            changes
                .into_iter()
                .map(|(path, how)| format!("{} {how}", escaped(Path::new(OsStr::from_bytes(&path)))))
                .collect(),
        )
    }
}

/// The commit, where it counts.
fn head(snapshot: &Snapshot) -> Option<Oid> {
    match snapshot.dirs.first()?.repository {
        Repository::Root { head, .. } => Some(head),
        Repository::No | Repository::Absent { .. } => None,
    }
}

/// The digest of the identity that a snapshot is of. `None` where it holds no file.
pub(super) fn digest(snapshot: &Snapshot) -> Option<Digest> {
    let mut hasher = Hasher::new("bcache git tree 1");
    hasher.bytes(&snapshot.tree()?.0);
    match head(snapshot) {
        None => hasher.number(0),
        Some(head) => hasher.number(1).bytes(&head.0),
    };
    Some(hasher.finish())
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    id: [u8; KEPT],
    mode: u8,
    is_tracked: bool,
}

fn kept(oid: &Oid) -> [u8; KEPT] {
    oid.0[..KEPT].try_into().expect("BUG: an id is longer")
}

type Listed = HashMap<Vec<u8>, ([u8; KEPT], u8)>;

fn parse(mut body: &[u8]) -> Option<Listed> {
    let mut listed = HashMap::new();
    let mut previous: Vec<u8> = Vec::new();
    while !body.is_empty() {
        let (head, rest) = body.split_at_checked(4)?;
        let (same, more) = (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
        let (text, rest) = rest.split_at_checked(usize::from(more))?;
        let (state, rest) = rest.split_at_checked(1 + KEPT)?;
        previous.truncate(usize::from(same));
        previous.extend_from_slice(text);
        listed.insert(previous.clone(), (state[1..].try_into().ok()?, state[0]));
        body = rest;
    }
    Some(listed)
}
