//! The small acts on files that this room is made of.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::base::disk;
use crate::base::publish;
use crate::base::stat::{self, Kind, Stat};

/// What only the user may look at.
const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// Makes a directory of ours and its parents, 0700 whatever the umask says.
pub(super) fn private_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(PRIVATE_DIR).create(path) {
        Ok(()) => stat::set_mode(path, PRIVATE_DIR),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().ok_or(e)?;
            private_dir(parent)?;
            private_dir(path)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// A new private file; what a dead process with our number left there is replaced.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path);
    match open() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            open()
        }
        other => other,
    }
}

/// Writes over a file in place: for what says of itself whether it is whole.
pub(super) fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = match publish::open_in_place(path) {
        Err(e) if is_of_the_file(&e) => {
            remove_tree(path).map_err(|_| e)?;
            publish::open_in_place(path)?
        }
        other => other?,
    };
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)
}

/// Renames a file, making the directory that it comes into.
pub(super) fn rename_into(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            private_dir(to.parent().ok_or(e)?)?;
            fs::rename(from, to)
        }
        other => other,
    }
}

/// Sets the time of last use, of a link its own. `false` where there is no such file.
pub(super) fn touch(path: &Path) -> io::Result<bool> {
    let only_mtime = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    match rustix::fs::utimensat(CWD, path, &only_mtime, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The contents, or `None` where there is no such file.
pub(super) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The same of a file in the store, which somebody else may have put there: what is no file, or is larger than it
/// can be, is read as nothing at all. No link is followed, no pipe waited for.
pub(super) fn read_at_most(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A link, or a socket.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => return Ok(Some(Vec::new())),
        Err(e) => return Err(e),
    };
    let meta = file.metadata()?;
    let mut bytes = Vec::new();
    if meta.is_file() && meta.len() <= most {
        bytes.reserve_exact(usize::try_from(meta.len()).unwrap_or(0) + 1);
        file.take(most).read_to_end(&mut bytes)?;
    }
    Ok(Some(bytes))
}

/// The contents of what can be made again; nothing where they can't be had (a disk that fails, a directory in their
/// place, permissions): what lies there goes then, or would be in the way for ever.
pub(super) fn read_if_sound(path: &Path) -> io::Result<Option<Vec<u8>>> {
    or_make_room(path, read_if_there(path))
}

/// The same of a file in the store.
pub(super) fn read_sound_at_most(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    or_make_room(path, read_at_most(path, most))
}

fn or_make_room(path: &Path, read: io::Result<Option<Vec<u8>>>) -> io::Result<Option<Vec<u8>>> {
    if read.as_ref().is_err_and(is_of_the_file) {
        // The failure that is reported is the first one.
        return remove_tree(path).map(|()| None).or(read);
    }
    read
}

/// Is the file itself at fault, and not the machine (which may be out of memory, say)?
pub(super) fn is_of_the_file(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, PermissionDenied};
    matches!(error.kind(), IsADirectory | PermissionDenied) || disk::is_broken(error)
}

/// Removes a file that may be gone already. `true` if it was there.
pub(super) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes whatever is at `path`, also directories that nobody may write in. Links are not followed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let gone = |e: io::Error| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) };
    match Stat::read(path)? {
        None => return Ok(()),
        Some(stat) if stat.kind != Kind::Dir => return fs::remove_file(path).or_else(gone),
        Some(_) => {}
    }
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            unlock_tree(path)?;
            fs::remove_dir_all(path).or_else(gone)
        }
        other => other.or_else(gone),
    }
}

/// Lets the user write in every directory of a tree that is about to be removed.
fn unlock_tree(dir: &Path) -> io::Result<()> {
    stat::set_mode(dir, PRIVATE_DIR)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Is what is open still what is at the path?
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    Ok(Stat::read(path)?.is_some_and(|there| there.dev == open.dev() && there.ino == open.ino()))
}

/// Fills `buffer` as far as the file goes.
pub(super) fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// The entries of a directory; nothing where there is none.
pub(super) fn entries_of(dir: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// What a file takes on the disk, in bytes.
pub(super) fn disk_usage(meta: &fs::Metadata) -> u64 {
    meta.blocks().saturating_mul(512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_read_only_directories_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("a");
        fs::create_dir_all(top.join("b/c")).unwrap();
        fs::write(top.join("b/f"), "x").unwrap();
        fs::write(dir.path().join("kept"), "x").unwrap();
        std::os::unix::fs::symlink("../kept", top.join("link")).unwrap();
        stat::set_mode(&top.join("b"), 0o555).unwrap();
        stat::set_mode(&top, 0o555).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists() && dir.path().join("kept").exists());
        remove_tree(&top).unwrap();
    }

    #[test]
    fn private_files_and_directories_are_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        private_dir(&inner).unwrap();
        private_dir(&inner).unwrap();
        publish::publish(&inner.join("f"), b"x").unwrap();
        let mode = |p: &Path| Stat::read(p).unwrap().unwrap().mode;
        assert_eq!((mode(&inner), mode(inner.parent().unwrap()), mode(&inner.join("f"))), (0o700, 0o700, 0o600));
    }
}
