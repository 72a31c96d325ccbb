//! Looking at the disk: a directory's names, a file's bytes, and whether all that was seen is as it was.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Mode as Bits, OFlags};

use crate::base::digest::Hasher;
use crate::base::stat::{Instant, Kind, Stat};

use super::ground::short;
use super::index::mode_of;
use super::object::{self, Mode, Oid};
use super::repository::GitError;
use super::snapshot::{Short, Snapshot};

/// A second thread pays from about here on.
const PARALLEL_FROM: usize = 1500;
/// What a thread takes at once.
const CHUNK: usize = 64;

/// Names in a directory and what they are, in byte order.
pub struct Listed {
    pub names: Vec<(OsString, Kind)>,
    pub stat: Stat,
    pub settled: bool,
    pub digest: Short,
}

/// What is in a directory. `None` where there is none any more.
pub fn list(path: &Path) -> Result<Option<Listed>, GitError> {
    let failed = |error| GitError::Read { path: path.to_owned(), error };
    for _ in 0..3 {
        let now = Instant::now();
        let before = Stat::read(path).map_err(failed)?;
        let Some(stat) = before.filter(|stat| stat.kind == Kind::Dir) else { return Ok(None) };
        let names = match names(path) {
            Ok(names) => names,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(failed(e)),
        };
        if Stat::read(path).map_err(failed)? == before {
            let digest = digest(&names);
            return Ok(Some(Listed { names, stat, settled: stat.is_settled(now), digest }));
        }
    }
    Err(GitError::Unstable { path: path.to_owned() })
}

fn names(path: &Path) -> io::Result<Vec<(OsString, Kind)>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let kind = match entry.file_type()? {
            t if t.is_file() => Kind::File,
            t if t.is_dir() => Kind::Dir,
            t if t.is_symlink() => Kind::Symlink,
            _ => Kind::Other,
        };
        names.push((entry.file_name(), kind));
    }
    names.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    Ok(names)
}

fn digest(names: &[(OsString, Kind)]) -> Short {
    let mut hasher = Hasher::new("bcache git listing 1");
    for (name, kind) in names {
        hasher.bytes(name.as_bytes()).number(*kind as u64);
    }
    short(&hasher.finish())
}

/// A file that counts, as it is now.
#[derive(Clone, Copy)]
pub struct Seen {
    pub stat: Stat,
    pub settled: bool,
    pub mode: Mode,
    pub oid: Oid,
}

/// Looks at a file or link. `None` where there is neither.
pub fn observe(path: &Path) -> Result<Option<Seen>, GitError> {
    let failed = |error| GitError::Read { path: path.to_owned(), error };
    for _ in 0..3 {
        let now = Instant::now();
        let before = Stat::read(path).map_err(failed)?;
        let Some((stat, mode)) = before.and_then(|stat| Some((stat, mode_of(&stat)?))) else { return Ok(None) };
        let read = match mode {
            Mode::Link => object::blob_of_link(path).map(Some),
            Mode::File | Mode::Executable | Mode::Commit | Mode::Dir => object::blob_of_file(path, stat.size),
        };
        let oid = match read {
            Ok(Some(oid)) => oid,
            // It is another by now.
            Ok(None) => continue,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput
                ) =>
            {
                continue;
            }
            Err(e) => return Err(failed(e)),
        };
        if Stat::read(path).map_err(failed)? == before {
            return Ok(Some(Seen { stat, settled: stat.is_settled(now), mode, oid }));
        }
    }
    Err(GitError::Unstable { path: path.to_owned() })
}

/// The directories and files of a snapshot that do not look as they did, or never could be believed.
#[derive(Default)]
pub struct Doubtful {
    pub dirs: Vec<u32>,
    pub files: Vec<u32>,
}

/// One `lstat` for all that was seen.
pub fn doubtful(root: &Path, snapshot: &Snapshot) -> Result<Doubtful, GitError> {
    let failed = |error: rustix::io::Errno| GitError::Read { path: root.to_owned(), error: error.into() };
    let dir =
        rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Bits::empty()).map_err(failed)?;
    let total = snapshot.dirs.len() + snapshot.files.len();
    let found = in_chunks(total, |range, found: &mut Doubtful| {
        let mut path = Vec::new();
        for at in range {
            match at.checked_sub(snapshot.dirs.len()) {
                None => dir_of(snapshot, &dir, at, &mut path, found),
                Some(at) => file_of(snapshot, &dir, at, &mut path, found),
            }
        }
    });
    let mut all = Doubtful::default();
    for part in found {
        all.dirs.extend(part.dirs);
        all.files.extend(part.files);
    }
    all.dirs.sort_unstable();
    all.files.sort_unstable();
    Ok(all)
}

fn dir_of(snapshot: &Snapshot, root: &OwnedFd, at: usize, path: &mut Vec<u8>, found: &mut Doubtful) {
    let seen = &snapshot.dirs[at];
    path.clear();
    path.extend_from_slice(snapshot.bytes(&seen.path));
    if path.is_empty() {
        path.push(b'.');
    }
    if !seen.settled || lstat(root, path) != Some(seen.stat) {
        found.dirs.push(at as u32);
    }
}

fn file_of(snapshot: &Snapshot, root: &OwnedFd, at: usize, path: &mut Vec<u8>, found: &mut Doubtful) {
    let seen = &snapshot.files[at];
    path.clear();
    path.extend_from_slice(snapshot.bytes(&snapshot.dirs[seen.dir as usize].path));
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(snapshot.bytes(&seen.name));
    if !seen.settled || lstat(root, path) != Some(seen.stat) {
        found.files.push(at as u32);
    }
}

fn lstat(root: &OwnedFd, path: &[u8]) -> Option<Stat> {
    // An error is a change: who looks closer meets it again.
    rustix::fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|raw| Stat::from_raw(&raw))
}

/// Divides `total` places among threads, one where they are few: what each of them found.
pub fn in_chunks<T: Default + Send>(total: usize, act: impl Fn(std::ops::Range<usize>, &mut T) + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = T::default();
        loop {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            if start >= total {
                return found;
            }
            act(start..(start + CHUNK).min(total), &mut found);
        }
    };
    if total < PARALLEL_FROM {
        return vec![work()];
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = vec![work()];
        for other in others {
            match other.join() {
                Ok(found) => all.push(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

/// The absolute path of what is named from the root of a scope.
pub fn place(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(path)) }
}
