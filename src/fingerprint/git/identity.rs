//! What a part of a working copy is, as a value: its tree, and all files in it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::base::digest::{Digest, Hasher};
use crate::base::stat::Stat;

use super::changes;
use super::object::{Mode, Oid};
use super::scope::Scope;
use super::snapshot::{Repository, Snapshot};

/// What a part of a working copy is.
pub struct Identity {
    /// The tree of the raw bytes of all its files.
    pub tree: Oid,
    /// The commit that is checked out, where the scope asks for it.
    pub head: Option<Oid>,
    /// All tags and what is staged, where the commit counts.
    pub around: Option<Oid>,
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
            head: described(&snapshot).map(|(head, _)| head),
            around: described(&snapshot).map(|(_, around)| around),
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
        self.find(path).is_some()
    }

    /// The same, and are its bytes known? Of a link only its text is.
    pub fn holds_bytes(&self, path: &Path) -> bool {
        self.find(path).is_some_and(|at| self.snapshot.files[at].mode != Mode::Link)
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let inner = path.strip_prefix(&self.dir).or_else(|_| path.strip_prefix(&self.real)).ok()?;
        let dir = self.place_of(inner.parent()?.as_os_str().as_bytes())?;
        self.snapshot.find_file(dir, inner.file_name()?.as_bytes())
    }

    fn place_of(&self, dir: &[u8]) -> Option<usize> {
        let dirs = self.dirs.get_or_init(|| {
            let dirs = self.snapshot.dirs.iter().enumerate();
            dirs.map(|(at, dir)| (self.snapshot.bytes(&dir.path).to_vec(), at)).collect()
        });
        dirs.get(dir).copied()
    }

    /// Is this file in it, or any file below this directory?
    pub fn reaches(&self, path: &Path) -> bool {
        let dir = path.strip_prefix(&self.dir).ok().and_then(|inner| self.place_of(inner.as_os_str().as_bytes()));
        self.holds(path) || dir.is_some_and(|dir| self.snapshot.dirs[dir].tree.is_some())
    }

    /// Every file in it, absolute, by the name that the scope was written with.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.snapshot.files.iter().map(|file| self.dir.join(OsStr::from_bytes(&self.snapshot.path_of(file))))
    }

    /// The first file, by its place, that looks different in another look at the same scope.
    pub fn first_moved(&self, other: &Self) -> Option<PathBuf> {
        let stats = |of: &Self| -> BTreeMap<Vec<u8>, (Stat, Oid)> {
            of.snapshot.files.iter().map(|file| (of.snapshot.path_of(file), (file.stat, file.oid))).collect()
        };
        let (before, after) = (stats(self), stats(other));
        let moved = before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path));
        moved.min().map(|path| self.dir.join(OsStr::from_bytes(path)))
    }

    /// All that is in it, so that a later one can say what is different.
    pub fn listing(&self) -> Vec<u8> {
        changes::listing(&self.snapshot)
    }

    /// What is different from what a listing says: `a/b.rs modified`. `None` for a listing that can't be read.
    pub fn changes(&self, listing: &[u8]) -> Option<Vec<String>> {
        changes::since(listing, &self.snapshot)
    }
}

/// The commit and what is around it, where they count.
fn described(snapshot: &Snapshot) -> Option<(Oid, Oid)> {
    match snapshot.dirs.first()?.repository {
        Repository::Described { head, around } => Some((head, around)),
        Repository::No | Repository::Root { .. } | Repository::Absent { .. } => None,
    }
}

/// The digest of the identity that a snapshot is of. `None` where it holds no file.
pub(super) fn digest(snapshot: &Snapshot) -> Option<Digest> {
    let mut hasher = Hasher::new("bcache git tree 2");
    hasher.bytes(&snapshot.tree()?.0);
    match described(snapshot) {
        None => hasher.number(0),
        Some((head, around)) => hasher.number(2).bytes(&head.0).bytes(&around.0),
    };
    Some(hasher.finish())
}
