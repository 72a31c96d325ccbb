//! Unpacks archives, and says what one from elsewhere may do.
//!
//! The checksum of an archive says that it is the one that was meant, not that whoever made it meant well. So what
//! lies outside of the new directory is never reached, and what a few bytes can make of memory and disk is bounded:
//!
//! | an archive has | it is |
//! |---|---|
//! | a name that is absolute, or has `..` anywhere, a NUL, no letter at all, more than [`DEEPEST`] directories | refused |
//! | a name below what is a link or a file there | refused: nothing is written through a link, wherever it leads |
//! | a name twice, but for directories | refused: what stood there at the end would be the reader's choice |
//! | names that differ by case alone | unpacked: here these are two files |
//! | a link out of the archive | unpacked: it is a text, and real sources have some (`/usr/share/…/config.guess`) |
//! | a hard link to what is no file of the archive before it | refused |
//! | devices, pipes, other kinds | refused |
//! | set-user-id, set-group-id, sticky bits, bits that let everybody write | unpacked without them |
//! | files that its owner may not read, directories that it may not use | unpacked with these bits |
//! | owners, extended attributes | unpacked without them |
//! | more than [`MOST_MEMBERS`] members, more than [`most_bytes`] in them, [`MOST_NAMES`] bytes in names of directories | refused |
//! | a header that lies, or no end | refused, see [`members`] |
//!
//! What was unpacked until then is removed. Nobody else is in the directory meanwhile: a program that swaps a
//! directory for a link just then is not defended against.

mod members;
mod stream;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::base::paths::escaped;
use crate::base::stat::{Kind, Stat};
use crate::base::text::size;
use crate::store::remove_tree;

use members::{Fault, Member, Members, Piece, What};

/// Sources of whole browsers have half as many files.
const MOST_MEMBERS: u64 = 1_000_000;
/// Names of directories are kept until the end.
const MOST_NAMES: usize = 128 << 20;
/// Directories one in another: who removes or lists them has each open.
const DEEPEST: usize = 256;
/// `PATH_MAX`, less the place where it is unpacked, is what can be written at all.
const LONGEST: usize = 4095;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("cannot unpack `{}`: {error}", escaped(archive))]
    Read { archive: PathBuf, error: io::Error },
    #[error("cannot unpack `{}`: {fault}", escaped(archive))]
    Fault { archive: PathBuf, fault: Fault },
    #[error(
        "`{}` is no archive that is known here: tar, alone or packed with gzip, bzip2, xz or zstd",
        escaped(archive)
    )]
    Unknown { archive: PathBuf },
    #[error("`{}` holds `{}`, {why}", escaped(archive), escaped(member))]
    Refused { archive: PathBuf, member: PathBuf, why: Refusal },
    #[error("cannot write `{}` of `{}`: {error}", escaped(member), escaped(archive))]
    Write { archive: PathBuf, member: PathBuf, error: io::Error },
}

/// What is wrong with a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("which leads out of the archive")]
    Outside,
    #[error("which is no name for a file")]
    NoName,
    #[error("which lies too deep, in more than {DEEPEST} directories")]
    Deep,
    #[error("which lies below a link or a file")]
    BelowOther,
    #[error("which comes twice")]
    Twice,
    #[error("a hard link to what is no file of the archive before it")]
    HardLink,
    #[error("which is no file, directory or link")]
    Special,
    #[error("and with it more than {}: unpack it in a command, if that is right", size(*most))]
    Large { most: u64 },
    #[error("and with it more than {MOST_MEMBERS} members: unpack it in a command, if that is right")]
    Many,
}

/// So many bytes may come out of an archive of `packed` bytes: real sources are packed to a tenth, or a
/// thirtieth; what is small may be anything.
pub fn most_bytes(packed: u64) -> u64 {
    packed.saturating_mul(100).max(1 << 30)
}

/// Unpacks `archive` as `dest`, which must not exist. The contents of a single top directory become
/// those of `dest`.
pub fn unpack(archive: &Path, dest: &Path) -> Result<(), ArchiveError> {
    let failed = |error| ArchiveError::Read { archive: archive.to_owned(), error };
    let packed = fs::metadata(archive).map_err(failed)?.len();
    let Some(stream) = stream::open(archive).map_err(failed)? else {
        return Err(ArchiveError::Unknown { archive: archive.to_owned() });
    };
    let beside = dest.with_extension("unpack");
    let unpacked = make_new(&beside).map_err(failed).and_then(|()| {
        let most = most_bytes(packed);
        let mut unpacking = Unpacking { archive, root: &beside, most, parent: None, dirs: Vec::new(), names: 0 };
        unpacking.all(&mut Members::new(stream, most))?;
        let top = only_directory(&beside).map_err(failed)?;
        match top {
            Some(top) => fs::rename(top, dest).and_then(|()| fs::remove_dir(&beside)).map_err(failed),
            None => fs::rename(&beside, dest).map_err(failed),
        }
    });
    if unpacked.is_err() {
        // What is left is emptied before the next try anyway.
        let _ = remove_tree(&beside);
    }
    unpacked
}

fn make_new(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(dir)
}

fn only_directory(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut entries = fs::read_dir(dir)?;
    let (first, second) = (entries.next().transpose()?, entries.next());
    Ok(first.filter(|e| second.is_none() && e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()))
}

struct Unpacking<'a> {
    archive: &'a Path,
    root: &'a Path,
    /// Bytes that may come out of it.
    most: u64,
    /// A directory that is known to be reached through directories only.
    parent: Option<PathBuf>,
    /// Directories with their stamps, which are set last: writing into them moves these.
    dirs: Vec<(PathBuf, u64)>,
    /// Bytes in the names of directories.
    names: usize,
}

/// What a member could not be unpacked for.
enum Stop {
    Refused(Refusal),
    Write(io::Error),
    Fault(Fault),
}

impl From<Refusal> for Stop {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl Unpacking<'_> {
    fn all(&mut self, members: &mut Members<impl Read>) -> Result<(), ArchiveError> {
        let fault = |fault| ArchiveError::Fault { archive: self.archive.to_owned(), fault };
        let mut count = 0;
        while let Some(member) = members.advance().map_err(fault)? {
            count += 1;
            let done = if count > MOST_MEMBERS { Err(Refusal::Many.into()) } else { self.member(&member, members) };
            done.map_err(|stop| match stop {
                Stop::Fault(fault) => ArchiveError::Fault { archive: self.archive.to_owned(), fault },
                Stop::Write(error) => {
                    ArchiveError::Write { archive: self.archive.to_owned(), member: member.name.clone(), error }
                }
                Stop::Refused(why) => {
                    ArchiveError::Refused { archive: self.archive.to_owned(), member: member.name.clone(), why }
                }
            })?;
        }
        for (dir, mtime) in self.dirs.iter().rev() {
            // A stamp of a directory decides nothing: one that can't be set is no failure.
            let _ = File::open(self.root.join(dir)).and_then(|dir| dir.set_modified(stamp(*mtime)));
        }
        Ok(())
    }

    fn member(&mut self, member: &Member, bytes: &mut Members<impl Read>) -> Result<(), Stop> {
        let name = inner_name(&member.name)?;
        if let What::File { size } | What::Sparse { size, .. } = member.what
            && bytes.position().saturating_add(size) > self.most
        {
            return Err(Refusal::Large { most: self.most }.into());
        }
        if let What::Dir = member.what {
            return self.dir(&name, member);
        }
        if name.as_os_str().is_empty() {
            return Err(Refusal::NoName.into());
        }
        self.make_parent(&name)?;
        let at = self.root.join(&name);
        match &member.what {
            What::File { size } => write_file(&at, member, |file| copy(bytes, file, *size)),
            What::Sparse { size, pieces } => write_file(&at, member, |file| copy_pieces(bytes, file, *size, pieces)),
            What::Symlink(target) => {
                if target.as_os_str().is_empty() || target.as_os_str().as_bytes().contains(&0) {
                    return Err(Refusal::NoName.into());
                }
                symlink(target, &at).map_err(taken)
            }
            What::HardLink(target) => {
                let target = inner_name(target).map_err(|_| Refusal::HardLink)?;
                if !self.is_file(&target)? {
                    return Err(Refusal::HardLink.into());
                }
                fs::hard_link(self.root.join(target), &at).map_err(taken)
            }
            What::Other | What::Dir => Err(Refusal::Special.into()),
        }
    }

    fn dir(&mut self, name: &Path, member: &Member) -> Result<(), Stop> {
        if !name.as_os_str().is_empty() {
            self.make_parent(name)?;
            let at = self.root.join(name);
            if !make_dir(&at)? {
                return Err(Refusal::Twice.into());
            }
            fs::set_permissions(&at, fs::Permissions::from_mode(member.mode & 0o775 | 0o700))?;
        }
        self.names += name.as_os_str().len() + size_of::<(PathBuf, u64)>();
        if self.names > MOST_NAMES {
            return Err(Refusal::Many.into());
        }
        self.dirs.push((name.to_owned(), member.mtime));
        Ok(())
    }

    /// Makes the directories above, each a real one.
    fn make_parent(&mut self, name: &Path) -> Result<(), Stop> {
        let parent = name.parent().unwrap_or(Path::new(""));
        if self.parent.as_deref() == Some(parent) {
            return Ok(());
        }
        let mut at = self.root.to_owned();
        for component in parent.components() {
            at.push(component);
            if !make_dir(&at)? {
                return Err(Refusal::BelowOther.into());
            }
        }
        self.parent = Some(parent.to_owned());
        Ok(())
    }

    /// Was it unpacked as a file, at a place that no link leads to?
    fn is_file(&self, name: &Path) -> io::Result<bool> {
        let mut at = self.root.to_owned();
        let mut kind = Kind::Dir;
        for component in name.components() {
            at.push(component);
            match Stat::read(&at)? {
                Some(there) if kind == Kind::Dir => kind = there.kind,
                _ => return Ok(false),
            }
        }
        Ok(kind == Kind::File)
    }
}

/// `false` where something else is.
fn make_dir(at: &Path) -> io::Result<bool> {
    match fs::DirBuilder::new().mode(0o755).create(at) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            Ok(Stat::read(at)?.is_some_and(|there| there.kind == Kind::Dir))
        }
        other => other.map(|()| true),
    }
}

/// The name, clean: relative, and no way out of where it begins. Empty for the top itself.
fn inner_name(name: &Path) -> Result<PathBuf, Refusal> {
    let bytes = name.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) || bytes.len() > LONGEST {
        return Err(Refusal::NoName);
    }
    let mut clean = PathBuf::new();
    let mut depth = 0;
    for component in name.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => {
                clean.push(part);
                depth += 1;
            }
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(Refusal::Outside),
        }
    }
    if depth > DEEPEST { Err(Refusal::Deep) } else { Ok(clean) }
}

/// What is there was put there by an earlier member.
fn taken(error: io::Error) -> Stop {
    if error.kind() == io::ErrorKind::AlreadyExists { Refusal::Twice.into() } else { error.into() }
}

fn write_file(at: &Path, member: &Member, fill: impl FnOnce(&mut File) -> Result<(), Stop>) -> Result<(), Stop> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(at).map_err(taken)?;
    fill(&mut file)?;
    file.set_permissions(fs::Permissions::from_mode(member.mode & 0o775 | 0o400))?;
    file.set_modified(stamp(member.mtime))?;
    Ok(())
}

/// Just so many bytes: an archive that ends before them was cut off.
fn copy(from: &mut impl Read, to: &mut File, len: u64) -> Result<(), Stop> {
    let mut buffer = vec![0; len.min(128 << 10) as usize];
    let mut left = len;
    while left > 0 {
        let most = left.min(buffer.len() as u64) as usize;
        let read = from.read(&mut buffer[..most]).map_err(|e| Stop::Fault(Fault::Read(e)))?;
        if read == 0 {
            return Err(Stop::Fault(Fault::CutOff));
        }
        to.write_all(&buffer[..read])?;
        left -= read as u64;
    }
    Ok(())
}

fn copy_pieces(from: &mut impl Read, to: &mut File, size: u64, pieces: &[Piece]) -> Result<(), Stop> {
    to.set_len(size)?;
    for piece in pieces {
        to.seek(SeekFrom::Start(piece.offset))?;
        copy(from, to, piece.len)?;
    }
    Ok(())
}

/// What no clock can say is the end of time: 2^33 seconds, the year 2242.
fn stamp(mtime: u64) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_secs(mtime.min(1 << 33))
}
