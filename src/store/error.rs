//! What can go wrong in this room.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::disk;
use crate::base::ids::StepId;
use crate::base::paths::escaped;
use crate::base::text;

use super::owners::Conflict;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not {what} `{}`", escaped(.path))]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("could not {what} `{}`: the disk is full ({} free)", escaped(.path), text::size(*.free))]
    Full { what: &'static str, path: PathBuf, free: u64, source: io::Error },
    #[error("`{}` changed while it was read", escaped(.0))]
    Changed(PathBuf),
    #[error("`{}` was not made", escaped(.0))]
    Absent(PathBuf),
    #[error("`{}` is neither a file, a directory nor a symbolic link", escaped(.0))]
    Special(PathBuf),
    #[error("`{}` carries `{attribute}`, which can't be kept", escaped(.path))]
    Attribute { path: PathBuf, attribute: &'static str },
    #[error("`{}` can't be reached: `{}` is a symbolic link", escaped(.path), escaped(.link))]
    ThroughLink { path: PathBuf, link: PathBuf },
    #[error("`{}` is not a path below the directory that outputs belong to", escaped(.0))]
    Outside(PathBuf),
    #[error(
        "the cache `{}` belongs to user {owner}, who could put anything into it: chown it, or set BCACHE_HOME",
        escaped(.path)
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error("everybody may write into the cache `{}`: chmod o-w it, or set BCACHE_HOME", escaped(.0))]
    Open(PathBuf),
    /// The entry has been dropped: the next lookup is a miss.
    #[error("the stored bytes of `{step}` are damaged or gone")]
    Lost { step: StepId },
    #[error("`{}` in a layer is damaged", escaped(.0))]
    LayerDamaged(PathBuf),
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

impl StoreError {
    /// Is the bytes' absence the cause, so that running the step again is the remedy?
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::LayerDamaged(_))
    }

    /// Is it a disk that is full or fails?
    pub fn is_of_disk(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => disk::is_broken(source),
            _ => false,
        }
    }
}

/// `map_err(failed("write", &path))`.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| {
        let path = path.to_owned();
        if disk::is_full(&source) {
            let free = disk::free_space(&path);
            return StoreError::Full { what, path, free, source };
        }
        StoreError::Io { what, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_with_the_path_and_the_free_space() {
        let error = failed("write", Path::new("/tmp/none/a\nb"))(io::Error::from_raw_os_error(libc::ENOSPC));
        let text = error.to_string();
        assert!(text.starts_with("could not write `/tmp/none/a\\x0ab`: the disk is full ("), "{text}");
        assert!(!text.contains("(0 B free)"), "{text}");
    }
}
