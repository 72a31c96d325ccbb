//! The index of a repository: which paths git tracks. What it knows of their files is not asked.
//!
//! Read here and not by libgit2, which refuses the extensions of split and sparse ones and makes an object of each
//! entry. Versions 2 to 4 are read; what has extensions that change the meaning of the entries is asked of the git
//! program ([`super::program`]).

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::digest::{Digest, Hasher};
use crate::base::stat::{Instant, Kind, Stat};

use super::object::{Mode, Oid};

/// What the index says of a path.
#[derive(Clone, Debug)]
pub struct Entry {
    path: Range<usize>,
    pub mode: Mode,
    pub oid: Oid,
    flags: Flags,
}

/// How git looks at an entry, where it is not the usual way: a stage of a conflict, a file that is thought unchanged or to be
/// absent by intent, one that is to be added later. One number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Flags(u16);

impl Flags {
    const ASSUMED: u16 = 0x8000;
    /// There is a second word.
    const EXTENDED: u16 = 0x4000;
    const STAGE: u16 = 0x3000;
    /// In the second word.
    const SKIPPED: u16 = 0x4000;
    const INTENDED: u16 = 0x2000;

    fn of(first: u16, second: u16) -> Self {
        Self(first & (Self::ASSUMED | Self::STAGE) | (second & (Self::SKIPPED | Self::INTENDED)) >> 4)
    }

    /// As `git ls-files -v --stage` says it, which says nothing of what is to be added later.
    pub fn of_letter(letter: char, stage: u16) -> Self {
        let assumed = if letter.is_ascii_lowercase() { Self::ASSUMED } else { 0 };
        let skipped = if letter.eq_ignore_ascii_case(&'s') { Self::SKIPPED } else { 0 };
        Self::of(assumed | (stage << 12) & Self::STAGE, skipped)
    }
}

#[derive(Default)]
pub struct Index {
    names: Vec<u8>,
    /// By their paths' bytes; of several stages of one path all are here.
    entries: Vec<Entry>,
    /// The file that it was read from, and a moment before.
    written: Option<(Stat, Instant)>,
    /// Was it read by the git program?
    pub is_by_git: bool,
}

/// Why an index is not understood here.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("damaged")]
    Damaged,
    /// The git program can read it.
    #[error("of a form that only git reads")]
    ForGit,
}

impl Index {
    /// Reads an index; none is an empty one.
    pub fn read(path: &Path) -> Result<Self, Unread> {
        let now = Instant::now();
        let mut file = match File::open(path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            other => other?,
        };
        // Git renames a new one over it: what is open is whole.
        let meta = file.metadata()?;
        let mut bytes = Vec::with_capacity(meta.size() as usize + 1);
        file.read_to_end(&mut bytes)?;
        let mut index = Self::parse(bytes)?;
        let stat = Stat::from_raw(&rustix::fs::fstat(&file).map_err(io::Error::from)?);
        index.written = Some((stat, now));
        Ok(index)
    }

    /// The file that it was read from, and a moment before that. `None` where there is none, or git has read it.
    pub fn written(&self) -> Option<(Stat, Instant)> {
        self.written
    }

    /// One of paths alone, by their bytes.
    pub fn of_paths(listed: impl Iterator<Item = (Vec<u8>, Mode, Oid, Flags)>) -> Self {
        let mut index = Self { is_by_git: true, ..Self::default() };
        for (path, mode, oid, flags) in listed {
            let start = index.names.len();
            index.names.extend_from_slice(&path);
            let path = start..index.names.len();
            index.entries.push(Entry { path, mode, oid, flags });
        }
        let names = &index.names;
        index.entries.sort_by(|a, b| names[a.path.clone()].cmp(&names[b.path.clone()]));
        index
    }

    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, Unread> {
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let version = word(4).filter(|version| bytes.starts_with(b"DIRC") && (2..=4).contains(version));
        let (Some(version), Some(count)) = (version, word(8)) else { return Err(Unread::Damaged) };
        let mut reader = Reader { bytes: &bytes, at: 12, names: Vec::new(), version };
        let mut entries = Vec::with_capacity((count as usize).min(bytes.len() / 62));
        for _ in 0..count {
            entries.push(reader.entry(entries.last())?);
        }
        check_extensions(&bytes, reader.at)?;
        let names = reader.names;
        let names = if version == 4 { names } else { bytes };
        let in_order = |pair: &[Entry]| names[pair[0].path.clone()] <= names[pair[1].path.clone()];
        if !entries.windows(2).all(in_order) {
            return Err(Unread::Damaged);
        }
        Ok(Self { names, entries, written: None, is_by_git: false })
    }

    pub fn path(&self, entry: &Entry) -> &[u8] {
        &self.names[entry.path.clone()]
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Entries below a directory, which ends with a slash or is empty.
    pub fn below(&self, dir: &[u8]) -> Range<usize> {
        let start = self.entries.partition_point(|entry| self.path(entry) < dir);
        start..self.end_of(start, dir)
    }

    /// Where the entries from `start` on end that begin with `prefix`.
    fn end_of(&self, start: usize, prefix: &[u8]) -> usize {
        start + self.entries[start..].partition_point(|entry| self.path(entry).starts_with(prefix))
    }

    /// The tracked names in a directory whose entries are `range`; each name once in either list, in order.
    pub fn children(&self, range: Range<usize>, dir: usize) -> Children {
        let mut children = Children::default();
        let mut at = range.start;
        while at < range.end {
            let path = self.entries[at].path.clone();
            let name = path.start + dir..path.end;
            match self.names[name.clone()].iter().position(|byte| *byte == b'/') {
                Some(slash) => {
                    let end = self.end_of_group(at, range.end, &self.names[path.start..name.start + slash + 1]);
                    children.dirs.push((name.start..name.start + slash, at..end));
                    at = end;
                }
                None => {
                    let again =
                        |(known, _): &(Range<usize>, usize)| self.names[known.clone()] == self.names[name.clone()];
                    if !children.files.last().is_some_and(again) {
                        children.files.push((name, at));
                    }
                    at += 1;
                }
            }
        }
        children
    }

    /// Groups are small as a rule: look at the next few before dividing.
    fn end_of_group(&self, start: usize, end: usize, prefix: &[u8]) -> usize {
        let mut step = 1;
        let mut low = start + 1;
        while low + step < end && self.path(&self.entries[low + step]).starts_with(prefix) {
            low += step;
            step *= 2;
        }
        let high = (low + step).min(end);
        low + self.entries[low..high].partition_point(|entry| self.path(entry).starts_with(prefix))
    }

    pub fn bytes(&self, name: Range<usize>) -> &[u8] {
        &self.names[name]
    }

    pub fn tracks(&self, path: &[u8]) -> bool {
        self.entries.binary_search_by(|entry| self.path(entry).cmp(path)).is_ok()
    }

    /// A digest over all entries.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("bcache git index 1");
        for entry in &self.entries {
            hasher.bytes(self.path(entry)).number(entry.mode as u64).bytes(&entry.oid.0);
        }
        let flagged: Vec<&Entry> = self.entries.iter().filter(|entry| entry.flags != Flags::default()).collect();
        if !flagged.is_empty() {
            // No path is empty.
            hasher.bytes(b"");
        }
        for entry in flagged {
            hasher.bytes(self.path(entry)).number(u64::from(entry.flags.0));
        }
        hasher.finish()
    }

    /// A digest over which paths below `dir` are tracked, and which are other repositories.
    pub fn tracked_digest(&self, dir: &[u8]) -> Digest {
        let mut hasher = Hasher::new("bcache git tracked 1");
        for entry in &self.entries[self.below(dir)] {
            hasher.bytes(self.path(entry));
            if entry.mode == Mode::Commit {
                hasher.number(1).bytes(&entry.oid.0);
            }
        }
        hasher.finish()
    }
}

/// What is tracked in a directory: names, as ranges of the index's own bytes.
#[derive(Default)]
pub struct Children {
    /// With the entry's place.
    pub files: Vec<(Range<usize>, usize)>,
    /// With the places of all entries below.
    pub dirs: Vec<(Range<usize>, Range<usize>)>,
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    /// Whole paths, where the file has them in pieces.
    names: Vec<u8>,
    version: u32,
}

const LENGTH: u16 = 0x0fff;

impl Reader<'_> {
    fn entry(&mut self, previous: Option<&Entry>) -> Result<Entry, Unread> {
        let start = self.at;
        let fixed = self.bytes.get(start..start + 62).ok_or(Unread::Damaged)?;
        let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let flags = u16::from_be_bytes([fixed[60], fixed[61]]);
        self.at += 62;
        let mut more = 0;
        if flags & Flags::EXTENDED != 0 {
            let word = self.bytes.get(self.at..self.at + 2).ok_or(Unread::Damaged)?;
            more = u16::from_be_bytes([word[0], word[1]]);
            self.at += 2;
        }
        let mode = match word(24) {
            0o100644 | 0o100664 => Mode::File,
            0o100755 => Mode::Executable,
            0o120000 => Mode::Link,
            0o160000 => Mode::Commit,
            // A directory stands for its files in a sparse index.
            0o040000 => return Err(Unread::ForGit),
            _ => return Err(Unread::Damaged),
        };
        let path = if self.version == 4 { self.shortened(previous)? } else { self.whole(start, flags)? };
        let oid = Oid(fixed[40..60].try_into().expect("BUG: twenty bytes"));
        Ok(Entry { path, mode, oid, flags: Flags::of(flags, more) })
    }

    /// A path with one to eight NULs after it, up to a multiple of eight bytes.
    fn whole(&mut self, start: usize, flags: u16) -> Result<Range<usize>, Unread> {
        let known = usize::from(flags & LENGTH);
        let rest = self.bytes.get(self.at..).ok_or(Unread::Damaged)?;
        let length = match known {
            0x0fff => memchr::memchr(0, rest).ok_or(Unread::Damaged)?,
            known if rest.get(known) == Some(&0) => known,
            _ => return Err(Unread::Damaged),
        };
        let path = self.at..self.at + length;
        self.at = start + (path.end - start + 8) / 8 * 8;
        Ok(path)
    }

    /// How many bytes of the previous path go, what comes to the rest, a NUL.
    fn shortened(&mut self, previous: Option<&Entry>) -> Result<Range<usize>, Unread> {
        let cut = self.number().ok_or(Unread::Damaged)?;
        let previous = previous.map_or(0..0, |entry| entry.path.clone());
        let kept = previous.len().checked_sub(cut).ok_or(Unread::Damaged)?;
        let rest = self.bytes.get(self.at..).ok_or(Unread::Damaged)?;
        let length = memchr::memchr(0, rest).ok_or(Unread::Damaged)?;
        let start = self.names.len();
        self.names.extend_from_within(previous.start..previous.start + kept);
        self.names.extend_from_slice(&rest[..length]);
        self.at += length + 1;
        Ok(start..self.names.len())
    }

    /// A number as pack files write offsets.
    fn number(&mut self) -> Option<usize> {
        let mut byte = *self.bytes.get(self.at)?;
        let mut number = usize::from(byte & 0x7f);
        self.at += 1;
        while byte & 0x80 != 0 {
            byte = *self.bytes.get(self.at)?;
            self.at += 1;
            number = number.checked_add(1)?.checked_mul(128)? | usize::from(byte & 0x7f);
        }
        Some(number)
    }
}

/// Extensions with a small first letter change what the entries mean.
fn check_extensions(bytes: &[u8], mut at: usize) -> Result<(), Unread> {
    // At the end is a checksum, of zeros where the user does not want it.
    let end = bytes.len().checked_sub(20).ok_or(Unread::Damaged)?;
    while at + 8 <= end {
        if !bytes[at].is_ascii_uppercase() {
            return Err(Unread::ForGit);
        }
        let size = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().expect("BUG: four bytes"));
        at += 8 + size as usize;
    }
    if at == end { Ok(()) } else { Err(Unread::Damaged) }
}

/// Where the index of a repository lies.
pub fn place(gitdir: &Path) -> PathBuf {
    gitdir.join("index")
}

/// Is the path of a kind that an entry could name?
pub fn mode_of(stat: &Stat) -> Option<Mode> {
    match stat.kind {
        Kind::File if stat.mode & 0o100 != 0 => Some(Mode::Executable),
        Kind::File => Some(Mode::File),
        Kind::Symlink => Some(Mode::Link),
        Kind::Dir | Kind::Other => None,
    }
}
