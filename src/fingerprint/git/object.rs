//! Git's object ids of bytes and directories, made here: reading a file once and feeding it to a hash is all there
//! is to it, and no object is ever written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha1::{Digest as _, Sha1};

/// The id of an object of git: SHA-1 of its kind, its length and its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Oid(pub [u8; 20]);

impl Oid {
    pub const NONE: Self = Self([0; 20]);

    pub fn of(kind: &str, bytes: &[u8]) -> Self {
        let mut sha = header(kind, bytes.len() as u64);
        sha.update(bytes);
        Self(sha.finalize().into())
    }
}

impl std::fmt::Display for Oid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What an entry of a tree is. The numbers are those of our own files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Mode {
    File = 0,
    Executable = 1,
    Link = 2,
    /// A commit of another repository, or what stands for its working copy.
    Commit = 3,
    Dir = 4,
}

impl Mode {
    /// As trees write it.
    fn octal(self) -> &'static [u8] {
        match self {
            Self::File => b"100644",
            Self::Executable => b"100755",
            Self::Link => b"120000",
            Self::Commit => b"160000",
            Self::Dir => b"40000",
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        [Self::File, Self::Executable, Self::Link, Self::Commit, Self::Dir].get(usize::from(number)).copied()
    }
}

/// One name in a tree.
pub struct TreeEntry<'a> {
    pub name: &'a [u8],
    pub mode: Mode,
    pub oid: Oid,
}

/// The id of a tree; brings the entries into git's order, in which a directory's name ends with a slash.
pub fn tree(entries: &mut [TreeEntry]) -> Oid {
    entries.sort_unstable_by(|a, b| sort_name(a).cmp(sort_name(b)));
    let mut bytes = Vec::with_capacity(entries.len() * 48);
    for entry in entries {
        bytes.extend_from_slice(entry.mode.octal());
        bytes.push(b' ');
        bytes.extend_from_slice(entry.name);
        bytes.push(0);
        bytes.extend_from_slice(&entry.oid.0);
    }
    Oid::of("tree", &bytes)
}

fn sort_name<'a>(entry: &'a TreeEntry) -> impl Iterator<Item = u8> + 'a {
    let slash = (entry.mode == Mode::Dir).then_some(b'/');
    entry.name.iter().copied().chain(slash)
}

fn header(kind: &str, size: u64) -> Sha1 {
    let mut sha = Sha1::new();
    sha.update(format!("{kind} {size}\0"));
    sha
}

/// The raw bytes of a file of `size` as a blob. `None` where it has another size by now, or is none.
pub fn blob_of_file(path: &Path, size: u64) -> io::Result<Option<Oid>> {
    // A pipe that came to its place must not be waited for, nor a link followed.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let mut file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
        other => other?,
    };
    let mut sha = header("blob", size);
    let (mut left, mut buffer) = (size, [0; 32 * 1024]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((left == 0).then(|| Oid(sha.finalize().into()))),
            Ok(n) if n as u64 > left => return Ok(None),
            Ok(n) => {
                sha.update(&buffer[..n]);
                left -= n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The text of a link as a blob.
pub fn blob_of_link(path: &Path) -> io::Result<Oid> {
    Ok(Oid::of("blob", std::fs::read_link(path)?.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_git_gives() {
        assert_eq!(Oid::of("blob", b"").to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(tree(&mut []).to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    }

    #[test]
    fn a_file_that_has_grown_or_shrunk_has_no_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(blob_of_file(&path, 3).unwrap(), Some(Oid::of("blob", b"abc")));
        assert_eq!(blob_of_file(&path, 2).unwrap(), None);
        assert_eq!(blob_of_file(&path, 4).unwrap(), None);
    }
}
