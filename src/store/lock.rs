//! Locks between processes: `flock` on files outside what is cleared, gone with the process that had them.
//!
//! A lock on a step or a key is tried, never waited for: a worker that can't have it takes other work.
//! Only short housekeeping locks (collection, the running total, a prefix's update) are waited for.
//!
//! Locks on steps and keys are bytes of one file each (open file description locks, Linux and macOS), at a
//! place that their digest gives: a file that came and went for each lock would make every other file of the
//! build dearer to create, since ext4 passes over inodes that were freed in the last seconds one by one. Two
//! digests that share their first 62 bits would wait for each other: slower, not wrong.
//!
//! A lock file that is removed while it is held could be locked a second time under the same name by
//! a process that opened it before. So whoever locks looks again whether the path still is that inode.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::action::ActionKey;
use crate::base::digest::Digest;
use crate::base::disk;
use crate::base::stat::Stat;

use super::cas::Store;
use super::files::{entries_of, is_at, private_dir, touch};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    Exclusive,
    Shared,
}

fn open(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
    match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            private_dir(path.parent().ok_or(e)?)?;
            open()
        }
        other => other,
    }
}

/// The lock, or `None` where another has it.
pub(super) fn try_lock(path: &Path, sharing: Sharing) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        let tried = match sharing {
            Sharing::Exclusive => file.try_lock(),
            Sharing::Shared => file.try_lock_shared(),
        };
        match tried {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(TryLockError::Error(e)) => return Err(e),
            Ok(()) if is_at(&file, path)? => return Ok(Some(file)),
            Ok(()) => {}
        }
    }
}

/// The lock on one place of the file, or `None` where another has it.
pub(super) fn try_lock_at(path: &Path, digest: &Digest, sharing: Sharing) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        if !try_range(&file, place_of(digest), sharing)? {
            return Ok(None);
        }
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

fn place_of(digest: &Digest) -> i64 {
    let bytes = digest.as_bytes();
    let first = u64::from_le_bytes(bytes[..8].try_into().expect("BUG: eight bytes"));
    // The end of a range must be a place too.
    (first >> 2) as i64
}

fn try_range(file: &File, start: i64, sharing: Sharing) -> io::Result<bool> {
    let kind = match sharing {
        Sharing::Exclusive => libc::F_WRLCK,
        Sharing::Shared => libc::F_RDLCK,
    };
    // SAFETY: a struct of plain numbers, for which zero is a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = start;
    range.l_len = 1;
    loop {
        // SAFETY: the descriptor is open as long as `file`, and the struct is only read.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) };
        if done == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => return Ok(false),
            Some(libc::EINTR) => {}
            _ => return Err(error),
        }
    }
}

/// The lock, after waiting for it.
pub(super) fn wait_lock(path: &Path, sharing: Sharing) -> io::Result<File> {
    loop {
        let file = open(path)?;
        let waited = match sharing {
            Sharing::Exclusive => file.lock(),
            Sharing::Shared => file.lock_shared(),
        };
        match waited {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(()) if is_at(&file, path)? => return Ok(file),
            Ok(()) => {}
        }
    }
}

/// A lock whose file is removed when it is let go.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) path: PathBuf,
    pub(super) _file: File,
}

impl Drop for Passing {
    fn drop(&mut self) {
        // Before the lock goes with the file. A file that stays behind is harmless.
        let _ = fs::remove_file(&self.path);
    }
}

/// The right to run the action with this key, on this machine.
#[derive(Debug)]
pub struct KeyLock {
    _file: File,
}

/// A lock on a step of this worktree, or on a prefix.
#[derive(Debug)]
pub struct StepLock {
    pub(super) _file: File,
}

/// Says that a build is running: what it has used since it began is not collected.
#[derive(Debug)]
pub struct Lease {
    _lock: Passing,
}

static LEASES: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// `None` where another thread or process runs this key.
    pub fn try_lock_key(&self, key: &ActionKey) -> io::Result<Option<KeyLock>> {
        let path = self.locks().join("keys");
        let file = try_lock_at(&path, &key.0, Sharing::Exclusive).map_err(disk::at(&path))?;
        Ok(file.map(|file| KeyLock { _file: file }))
    }

    /// To be held from the first lookup of a build to its end.
    pub fn lease(&self) -> io::Result<Lease> {
        loop {
            let number = LEASES.fetch_add(1, Ordering::Relaxed);
            let path = self.builds().join(format!("{}-{number}", std::process::id()));
            if let Some(file) = try_lock(&path, Sharing::Exclusive).map_err(disk::at(&path))? {
                // A file that a dead process with our number left carries the start of its build.
                touch(&path).map_err(disk::at(&path))?;
                return Ok(Lease { _lock: Passing { path, _file: file } });
            }
        }
    }

    fn builds(&self) -> PathBuf {
        self.locks().join("builds")
    }

    /// When the oldest living build began, in nanoseconds by the file system's clock. Dead leases are removed.
    pub(super) fn oldest_build(&self) -> io::Result<Option<i64>> {
        let mut oldest = None;
        for entry in entries_of(&self.builds())? {
            let path = entry.path();
            match try_lock(&path, Sharing::Exclusive)? {
                Some(file) => drop(Passing { path, _file: file }),
                None => {
                    let begun = Stat::read(&path)?.map(|stat| stat.mtime);
                    oldest = oldest.into_iter().chain(begun).min();
                }
            }
        }
        Ok(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) -> Store {
        Store::open(dir, Some(1 << 30)).unwrap()
    }

    #[test]
    fn a_key_is_locked_once_and_again_after_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (store(dir.path()), store(dir.path()));
        let key = ActionKey(Digest::of(b"key"));
        let lock = one.try_lock_key(&key).unwrap().unwrap();
        assert!(two.try_lock_key(&key).unwrap().is_none());
        assert!(two.try_lock_key(&ActionKey(Digest::of(b"other"))).unwrap().is_some());
        drop(lock);
        assert!(two.try_lock_key(&key).unwrap().is_some());
    }

    #[test]
    fn a_key_is_never_held_twice_by_threads_that_fight_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let key = ActionKey(Digest::of(b"key"));
        let (held, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Some(lock) = store.try_lock_key(&key).unwrap() {
                            assert_eq!(held.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            held.fetch_sub(1, Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
    }

    #[test]
    fn a_lease_lives_as_long_as_its_holder_and_a_dead_one_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        fs::create_dir_all(store.builds()).unwrap();
        fs::write(store.builds().join("1-1"), "").unwrap();
        assert_eq!(store.oldest_build().unwrap(), None);
        let lease = store.lease().unwrap();
        assert!(store.oldest_build().unwrap().is_some());
        drop(lease);
        assert_eq!(store.oldest_build().unwrap(), None);
        assert_eq!(entries_of(&store.builds()).unwrap().len(), 0);
    }

    #[test]
    fn places_of_one_file_are_locked_apart_and_by_threads_of_one_process_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/steps");
        let [a, b] = [b"a", b"b"].map(|name| Digest::of(name));
        let lock = |digest, sharing| try_lock_at(&path, digest, sharing).unwrap();
        let one = lock(&a, Sharing::Exclusive);
        assert!(one.is_some() && lock(&a, Sharing::Shared).is_none() && lock(&b, Sharing::Exclusive).is_some());
        drop(one);
        let (one, two) = (lock(&a, Sharing::Shared), lock(&a, Sharing::Shared));
        assert!(one.is_some() && two.is_some() && lock(&a, Sharing::Exclusive).is_none());
    }

    #[test]
    fn shared_holders_keep_out_an_exclusive_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/a");
        let one = try_lock(&path, Sharing::Shared).unwrap();
        let two = try_lock(&path, Sharing::Shared).unwrap();
        assert!(one.is_some() && two.is_some());
        assert!(try_lock(&path, Sharing::Exclusive).unwrap().is_none());
        drop((one, two));
        assert!(try_lock(&path, Sharing::Exclusive).unwrap().is_some());
    }
}
