//! The one door through which files of the store and the state come into being: written beside
//! their place under a name of their own, then renamed. A reader sees the old file, the new one, or none.
//!
//! They are the user's alone, and so are directories made for them, whatever the umask says, from the first byte on.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What only the user may read.
const PRIVATE: u32 = 0o600;
/// What temporary names begin with.
const TEMPORARY: &str = ".tmp-";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A temporary name beside `path` that no running process uses.
pub fn temporary(path: &Path) -> PathBuf {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!("{TEMPORARY}{}-{number}", std::process::id()))
}

/// Is it the name of what is on its way to its place, or was when its process died?
pub fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()))
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)
}

/// A file of ours to be written over in place. Only a file is: what a step may have put there instead (a link to
/// somewhere else, a pipe) makes room.
pub fn open_in_place(path: &Path) -> io::Result<File> {
    let open = || {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).custom_flags(flags).open(path)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from_raw_os_error(libc::ENXIO)) }
    };
    match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path.parent().ok_or(e)?)?;
            open()
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {
            fs::remove_file(path)?;
            open()
        }
        other => other,
    }
}

/// Replaces `path` by `bytes` at once. Missing parents are made.
pub fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    publish_with(path, |file| file.write_all(bytes))
}

/// The same with a writer. What it left is removed when it fails.
pub fn publish_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temp = temporary(path);
    let mut file = match create_new(&temp) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            create_new(&temp)?
        }
        // A process with our number died here before.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temp)?;
            create_new(&temp)?
        }
        other => other?,
    };
    let result = write(&mut file).and_then(|()| fs::rename(&temp, path));
    if result.is_err() {
        // Best effort: the failure that is reported is the first one.
        let _ = fs::remove_file(&temp);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        publish(&path, b"old").unwrap();
        let failed = publish_with(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
