//! Directories for what is being made. Each is locked by the process that uses it, so what a killed
//! process left is told from what a living one still needs, and swept away.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::publish::is_temporary;

use super::files::{entries_of, is_at, private_dir, remove_tree};

#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    files: AtomicU64,
    _lock: File,
}

static DIRECTORIES: AtomicU64 = AtomicU64::new(0);

impl Scratch {
    pub(super) fn new_in(parent: &Path) -> io::Result<Self> {
        private_dir(parent)?;
        loop {
            let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            }
            if let Some(lock) = lock_dir(&path)? {
                return Ok(Self { path, files: AtomicU64::new(0), _lock: lock });
            }
        }
    }

    /// A name in it that is free.
    pub(super) fn fresh(&self) -> PathBuf {
        self.path.join(self.files.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is swept later.
        let _ = remove_tree(&self.path);
    }
}

/// `None` where another has the directory, or it is gone.
fn lock_dir(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        // No directory of ours.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => return Ok(None),
        other => other?,
    };
    match file.try_lock() {
        Ok(()) => Ok(is_at(&file, path)?.then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Removes the directories whose process is gone.
pub(super) fn sweep(parent: &Path) -> io::Result<()> {
    for entry in entries_of(parent)? {
        if let Some(_lock) = lock_dir(&entry.path())? {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// No file is on its way to its place for as long as this.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Removes what was on its way to its place in a directory when its process was killed (see
/// [`crate::base::publish`]). By age, since a number may belong to a process that we can't see.
pub(super) fn sweep_temporaries(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !is_temporary(&entry.path()) {
            continue;
        }
        let age =
            entry.metadata().and_then(|meta| meta.modified()).map(|written| written.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age > ABANDONED) {
            // Best effort: it costs a little room.
            let _ = remove_tree(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_what_the_dead_left_and_spares_the_living() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("0-0")).unwrap();
        fs::write(dir.path().join("0-0/part"), "x").unwrap();
        let mine = Scratch::new_in(dir.path()).unwrap();
        sweep(dir.path()).unwrap();
        assert!(mine.path.is_dir() && !dir.path().join("0-0").exists());
        let path = mine.path.clone();
        drop(mine);
        assert!(!path.exists());
    }
}
