//! The store: where it lies, and its frames by digest.
//!
//! ```text
//! $BCACHE_HOME/locks/{gc,usage,keys/,builds/}   never cleared
//!              v1/results/ab/<key>              sealed `ActionResult`s
//!                 paths/ab/<base key>           which files runs were found to read
//!                 frames/ab/<digest>            zstd -1 of a frame's bytes
//!                 sources/<sha256>              archives as they were fetched
//!                 incoming/<pid>-<n>/           frames of captures that are under way
//!                 usage                         bytes, roughly
//! ```
//! A format that can't be read by older programs gets a `v2` beside `v1`.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use crate::base::digest::Digest;

use super::error::{StoreError, failed};
use super::files::{create_private, private_dir, read_sound_at_most, touch};
use super::lock::{Sharing, wait_lock};

/// No frame is larger; a result that says otherwise is damaged.
pub(super) const MAX_FRAME: u64 = 4 << 20;
const LEVEL: i32 = 1;

/// The compressed bytes of a frame, and nothing where it is larger than any can be.
pub(super) fn read_frame(path: &Path) -> io::Result<Option<Vec<u8>>> {
    read_sound_at_most(path, zstd::zstd_safe::compress_bound(MAX_FRAME as usize) as u64)
}

/// Action results and their bytes, shared by all worktrees and processes of a user.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    locks: PathBuf,
    limit: u64,
    /// Bytes added by us that are not yet in the running total.
    pub(super) grown: AtomicU64,
}

/// While it is held nothing is collected.
#[derive(Debug)]
pub(super) struct Use {
    _lock: std::fs::File,
}

impl Store {
    /// Opens the store in `home`, making it where it is not there. Without a `limit` (bytes) it is
    /// 20 GiB or a tenth of the disk, whichever is smaller.
    pub fn open(home: &Path, limit: Option<u64>) -> Result<Self, StoreError> {
        let (root, locks) = (home.join("v1"), home.join("locks"));
        // In what is as `/tmp` is anybody can make them before us.
        for dir in Self::dirs(home).iter().map(PathBuf::as_path).chain([home]) {
            check_owner(dir)?;
        }
        for dir in ["results", "paths", "frames", "sources"].map(|d| root.join(d)).iter().chain([&locks]) {
            private_dir(dir).map_err(failed("make", dir))?;
        }
        let limit = match limit {
            Some(limit) => limit,
            None => default_limit(&root).map_err(failed("look at", &root))?,
        };
        Ok(Self { root, locks, limit, grown: AtomicU64::new(0) })
    }

    /// All directories that are kept in `home`. Anything may lie beside them.
    pub fn dirs(home: &Path) -> [PathBuf; 4] {
        ["v1", "locks", "host", "zig"].map(|dir| home.join(dir))
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The directory that `clear` empties.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the archive with this checksum (of hexadecimal digits) is kept, or is to be put.
    pub fn source_path(&self, sha256: &str) -> PathBuf {
        self.root.join("sources").join(sha256)
    }

    pub(super) fn locks(&self) -> &Path {
        &self.locks
    }

    pub(super) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    pub(super) fn frame_path(&self, digest: &Digest) -> PathBuf {
        spread_out(&self.root.join("frames"), digest)
    }

    pub(super) fn hold(&self) -> Result<Use, StoreError> {
        let path = self.locks.join("gc");
        let lock = wait_lock(&path, Sharing::Shared).map_err(failed("lock", &path))?;
        Ok(Use { _lock: lock })
    }

    /// Is this frame there? Then it counts as used now.
    pub(super) fn touch_frame(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.frame_path(digest);
        touch(&path).map_err(failed("touch", &path))
    }
}

/// `dir/a/abcdef…`: no directory gets too many names, and a young store is not made of directories.
pub(super) fn spread_out(dir: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    dir.join(&name[..1]).join(name)
}

/// Whoever can write into the store decides what builds answer. So it is the user's, or root's, and not
/// everybody's; what a group shares is its own affair. (With the sticky bit nobody changes what another has made.)
fn check_owner(dir: &Path) -> Result<(), StoreError> {
    let meta = match std::fs::metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta.map_err(failed("look at", dir))?,
    };
    let (owner, own) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner != own && owner != 0 {
        return Err(StoreError::Owner { path: dir.to_owned(), owner });
    }
    if meta.mode() & 0o1002 == 0o002 {
        return Err(StoreError::Open(dir.to_owned()));
    }
    Ok(())
}

fn default_limit(root: &Path) -> io::Result<u64> {
    let fs = rustix::fs::statvfs(root)?;
    Ok(limit_of(fs.f_blocks.saturating_mul(fs.f_frsize)))
}

/// Of a file system of this size. Some do not know theirs (ramfs, several over networks and in user space), and say 0.
pub(super) fn limit_of(size: u64) -> u64 {
    const MOST: u64 = 20 << 30;
    if size == 0 { MOST } else { MOST.min(size / 10) }
}

/// Compresses frames, one after another.
pub(super) struct Press(zstd::bulk::Compressor<'static>);

impl Press {
    pub(super) fn new() -> Result<Self, StoreError> {
        zstd::bulk::Compressor::new(LEVEL).map(Self).map_err(failed("start", Path::new("zstd")))
    }

    pub(super) fn press(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.compress(bytes).expect("BUG: bytes in memory compress into memory")
    }
}

pub(super) fn write_frame(path: &Path, compressed: &[u8]) -> Result<(), StoreError> {
    create_private(path).and_then(|mut file| file.write_all(compressed)).map_err(failed("write", path))
}

/// The bytes of a frame of `size`; `None` where they are not that.
pub(super) fn unpress(compressed: &[u8], size: u64) -> Option<Vec<u8>> {
    if size > MAX_FRAME {
        return None;
    }
    let size = usize::try_from(size).ok()?;
    zstd::bulk::decompress(compressed, size).ok().filter(|bytes| bytes.len() == size)
}
