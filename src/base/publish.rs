//! The one door through which files of the store and the state come into being: written beside
//! their place under a name of their own, then renamed. A reader sees the old file, the new one, or none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Replaces `path` by `bytes` at once. Missing parents are made.
pub fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    publish_with(path, |file| file.write_all(bytes))
}

/// The same with a writer. What it left is removed when it fails.
pub fn publish_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temp = temporary(path);
    let mut file = match File::create_new(&temp) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            File::create_new(&temp)?
        }
        // A process with our number died here before.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => File::create(&temp)?,
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
