//! What `lstat` says of a path, and when that may be trusted.
//!
//! A file whose time stamps are as young as the moment we looked may be written again without the
//! stamps moving (git calls such an entry racy). So an observation that was made less than the
//! file system's grain after the last change is kept, but never believed: its contents are read again.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Stat as RawStat};
use serde::{Deserialize, Serialize};

/// Nanoseconds that a change may stay invisible in time stamps. The kernel's tick is at most 10 ms.
const FINE_GRAIN: i64 = 20_000_000;
/// The same where stamps carry no fractions of a second (FAT has two seconds).
const COARSE_GRAIN: i64 = 2_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// The identity of a file's state: device, inode, size in bytes, mode bits, and both stamps in
/// nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct Stat {
    pub kind: Kind,
    pub mode: u32,
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: i64,
    pub ctime: i64,
}

/// Has nobody written to the file between two looks? Both are stat records with the number of names. A hard link that is made or
/// goes moves the `ctime` as an edit does; so of a file that has more than one name it says nothing.
pub fn is_untouched((before, names_before): (Stat, u64), (now, names): (Stat, u64)) -> bool {
    let is_linked = now.kind == Kind::File && names.max(names_before) > 1;
    now == before || is_linked && Stat { ctime: before.ctime, ..now } == before
}

impl Stat {
    /// `lstat`: a symbolic link is itself. `None` where there is nothing (or a parent is no directory, or a link that leads
    /// to itself).
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::read_with_names(path)?.map(|(stat, _)| stat))
    }

    /// The same, and how many names the file has.
    pub fn read_with_names(path: &Path) -> io::Result<Option<(Self, u64)>> {
        match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            #[allow(clippy::unnecessary_cast)] // as in `from_raw`
            Ok(raw) => Ok(Some((Self::from_raw(&raw), raw.st_nlink as u64))),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    #[allow(clippy::unnecessary_cast)] // field types differ between platforms
    pub fn from_raw(raw: &RawStat) -> Self {
        let kind = match FileType::from_raw_mode(raw.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        };
        let nanos = |seconds: i64, fraction: i64| seconds.saturating_mul(1_000_000_000).saturating_add(fraction);
        Self {
            kind,
            mode: raw.st_mode as u32 & 0o7777,
            dev: raw.st_dev as u64,
            ino: raw.st_ino as u64,
            size: raw.st_size as u64,
            mtime: nanos(raw.st_mtime as i64, raw.st_mtime_nsec as i64),
            ctime: nanos(raw.st_ctime as i64, raw.st_ctime_nsec as i64),
        }
    }

    pub fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// May this observation, made at `seen_at`, be believed later on?
    pub fn is_settled(&self, seen_at: Instant) -> bool {
        let youngest = self.mtime.max(self.ctime);
        let grain =
            if self.mtime % 1_000_000_000 == 0 && self.ctime % 1_000_000_000 == 0 { COARSE_GRAIN } else { FINE_GRAIN };
        youngest.saturating_add(grain) < seen_at.0
    }
}

/// Nanoseconds since 1970 on the wall clock, the one that file stamps come from. Taken *before* a look.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Instant(pub i64);

impl Instant {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Sets the mode bits (`& 0o7777`) of a path that is no symbolic link.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_written_just_now_is_not_settled_and_one_of_last_second_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let stat = Stat::read(&path).unwrap().unwrap();
        assert!(!stat.is_settled(Instant(stat.ctime)));
        assert!(!stat.is_settled(Instant(stat.ctime + 1_000_000)));
        assert!(stat.is_settled(Instant(stat.ctime + 2_500_000_000)));
    }

    #[test]
    fn stamps_in_the_future_are_never_settled() {
        let stat =
            Stat { kind: Kind::File, mode: 0, dev: 0, ino: 0, size: 0, mtime: 5_000_000_001, ctime: 10_000_000_001 };
        assert!(!stat.is_settled(Instant(9_000_000_000)));
    }

    #[test]
    fn a_hard_link_is_no_edit_and_a_touch_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let look = || Stat::read_with_names(&path).unwrap().unwrap();
        let edited = |(stat, names): (Stat, u64)| (Stat { ctime: stat.ctime + 1, ..stat }, names);
        let (one, touched) = (look(), |(stat, names): (Stat, u64)| (Stat { mtime: stat.mtime + 1, ..stat }, names));
        assert!(is_untouched(one, one) && !is_untouched(one, edited(one)));
        rustix::fs::link(&path, dir.path().join("g")).unwrap();
        let two = look();
        assert_eq!((one.1, two.1), (1, 2));
        assert!(is_untouched(one, two) && is_untouched(edited(two), two) && is_untouched(two, one));
        assert!(!is_untouched(two, touched(two)));
    }

    #[test]
    fn a_path_below_a_file_or_a_link_to_itself_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(Stat::read(&path.join("below")).unwrap(), None);
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert_eq!(Stat::read(&dir.path().join("loop/below")).unwrap(), None);
        assert_eq!(Stat::read(&dir.path().join("none")).unwrap(), None);
    }
}
