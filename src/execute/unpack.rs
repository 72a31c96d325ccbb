//! Brings a step's source to its place: an archive unpacked ([`super::archive`]), a commit written out, patches applied.
//!
//! Time stamps matter to what is built from them: autotools runs itself again when `configure.ac` looks
//! newer than `configure`. So files keep the stamps of their archive, the files of a commit all get one
//! stamp, and every file that a patch touches gets one a second after the newest of all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::disk;
use crate::base::paths::escaped;
use crate::base::stat::{Kind, Stat};
use crate::fingerprint::git::{self, GitError};

use super::archive::ArchiveError;

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("cannot fetch `{url}`: {error}")]
    Fetch { url: String, error: io::Error },
    #[error("`{}` has SHA-256 {found}, not {expected}", escaped(archive))]
    Sum { archive: PathBuf, found: String, expected: String },
    #[error("cannot write `{}`: {}", escaped(path), disk::said(error, path))]
    Write { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Unpacks `archive` as `dest`.
pub fn archive(archive: &Path, dest: &Path) -> Result<(), UnpackError> {
    super::archive::unpack(archive, dest).map_err(|error| match error {
        // The disk is at fault, and not the archive.
        ArchiveError::Write { member, error, .. } if disk::is_full(&error) => {
            UnpackError::Write { path: dest.join(member), error }
        }
        ArchiveError::Read { error, .. } if disk::is_full(&error) => {
            UnpackError::Write { path: dest.to_owned(), error }
        }
        other => other.into(),
    })
}

/// Writes the commit's files to `dest`, all with one stamp. `store` is a bare repository of ours.
pub fn commit(url: &str, rev: &str, store: &Path, dest: &Path) -> Result<(), UnpackError> {
    fs::create_dir_all(dest).map_err(|error| UnpackError::Write { path: dest.to_owned(), error })?;
    git::export(store, url, rev, dest).map_err(|error| match error {
        GitError::Write { path, error } => UnpackError::Write { path, error },
        other => other.into(),
    })?;
    let stamp = UNIX_EPOCH + Duration::from_secs(315_532_800);
    each_file(dest, &mut |path, _| File::open(path).and_then(|f| f.set_modified(stamp)))
}

/// The stamps of all files, taken before patches are applied.
pub struct Stamps {
    before: Vec<(PathBuf, i64)>,
    newest: i64,
}

impl Stamps {
    pub fn take(dir: &Path) -> Result<Self, UnpackError> {
        let mut stamps = Self { before: Vec::new(), newest: 0 };
        each_file(dir, &mut |path, stat| {
            stamps.newest = stamps.newest.max(stat.mtime);
            stamps.before.push((path.to_owned(), stat.mtime));
            Ok(())
        })?;
        stamps.before.sort();
        Ok(stamps)
    }

    /// Gives every file that is new or was written a stamp one second after the newest before.
    pub fn settle(&self, dir: &Path) -> Result<(), UnpackError> {
        let nanos = u64::try_from(self.newest).unwrap_or(0) + 1_000_000_000;
        let stamp: SystemTime = UNIX_EPOCH + Duration::from_nanos(nanos);
        each_file(dir, &mut |path, stat| {
            let known = self.before.binary_search_by(|(p, _)| p.as_path().cmp(path)).map(|at| self.before[at].1);
            if known == Ok(stat.mtime) { Ok(()) } else { File::open(path).and_then(|f| f.set_modified(stamp)) }
        })
    }
}

fn each_file(dir: &Path, act: &mut dyn FnMut(&Path, &Stat) -> io::Result<()>) -> Result<(), UnpackError> {
    let failed = |path: &Path, error| UnpackError::Write { path: path.to_owned(), error };
    for entry in fs::read_dir(dir).map_err(|e| failed(dir, e))? {
        let path = entry.map_err(|e| failed(dir, e))?.path();
        let Some(stat) = Stat::read(&path).map_err(|e| failed(&path, e))? else { continue };
        match stat.kind {
            Kind::Dir => each_file(&path, act)?,
            Kind::File => act(&path, &stat).map_err(|e| failed(&path, e))?,
            Kind::Symlink | Kind::Other => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patched_files_get_one_stamp_a_second_after_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        for (name, seconds) in [("old", 100), ("new", 200)] {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        }
        let stamps = Stamps::take(dir.path()).unwrap();
        fs::write(dir.path().join("old"), "patched").unwrap();
        fs::write(dir.path().join("added"), "x").unwrap();
        stamps.settle(dir.path()).unwrap();
        let mtime = |name: &str| Stat::read(&dir.path().join(name)).unwrap().unwrap().mtime / 1_000_000_000;
        assert_eq!((mtime("old"), mtime("new"), mtime("added")), (201, 200, 201));
    }
}
