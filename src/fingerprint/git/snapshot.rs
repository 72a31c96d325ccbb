//! A working copy as it was seen: every directory that was listed, every file that counts, and the files that say
//! which do. Flat tables, so that a hundred thousand files are read from disk in a millisecond or two and written
//! as fast.
//!
//! Directories are in preorder: what is below one follows it. The files of a directory are a range, by name.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::base::digest::Digest;
use crate::base::stat::{Kind, Stat};

use super::object::{self, Mode, Oid, TreeEntry};

/// What is left of a digest where no enemy is feared: two listings of one directory.
pub type Short = [u8; 16];

#[derive(Clone, Debug)]
pub struct FileSeen {
    pub name: Range<u32>,
    pub dir: u32,
    pub mode: Mode,
    pub is_tracked: bool,
    pub settled: bool,
    pub stat: Stat,
    pub oid: Oid,
}

#[derive(Clone, Debug)]
pub struct DirSeen {
    /// From the root of the scope, without a slash at its end; empty for the root.
    pub path: Range<u32>,
    pub parent: u32,
    /// The first directory that is not below this one.
    pub end: u32,
    pub files: Range<u32>,
    pub settled: bool,
    pub stat: Stat,
    /// Over all names in it, also those that do not count.
    pub listing: Short,
    /// It lies where git ignores everything: just what is tracked counts.
    pub is_ignored: bool,
    pub repository: Repository,
    /// `None` where it holds no file that counts.
    pub tree: Option<Oid>,
}

/// Is a directory the root of another repository?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repository {
    No,
    /// Checked out at this commit, whose tree is that (as far as both are known).
    Root {
        head: Oid,
        tree: Oid,
    },
    /// The root of a scope for which this counts: its commit, and as one value all tags and what is staged.
    Described {
        head: Oid,
        around: Oid,
    },
    /// A submodule that was not fetched: its commit.
    Absent {
        commit: Oid,
    },
}

/// A file that says which others count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// Absolute, or from the root of the scope.
    pub path: Vec<u8>,
    pub stat: Option<Stat>,
    pub settled: bool,
    /// Of its bytes; of an index of the paths that it tracks; of a directory of the names in it.
    pub digest: Short,
    pub of: Of,
}

/// What of a file is a fact.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Of {
    Bytes,
    Names,
    Index(IndexOf),
}

/// Whose index a fact is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IndexOf {
    /// Its working copy, absolute.
    pub root: Vec<u8>,
    /// The directory in it that counts: with a slash at its end, or empty.
    pub below: Vec<u8>,
}

#[derive(Clone, Default, Debug)]
pub struct Snapshot {
    pub names: Vec<u8>,
    pub dirs: Vec<DirSeen>,
    pub files: Vec<FileSeen>,
    pub facts: Vec<Fact>,
    pub patches: Patches,
}

/// What of a snapshot is other than in the file that it was read from.
#[derive(Clone, Default, Debug)]
pub struct Patches {
    /// Of the file. `None` for what was read from none.
    pub base: Option<Digest>,
    pub dirs: BTreeSet<u32>,
    pub files: BTreeSet<u32>,
}

impl Snapshot {
    pub fn bytes(&self, name: &Range<u32>) -> &[u8] {
        &self.names[name.start as usize..name.end as usize]
    }

    pub fn intern(&mut self, name: &[u8]) -> Range<u32> {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        let end = u32::try_from(self.names.len()).expect("BUG: names of less than 4 GiB");
        start as u32..end
    }

    pub fn files_of(&self, dir: &DirSeen) -> &[FileSeen] {
        &self.files[dir.files.start as usize..dir.files.end as usize]
    }

    /// The path of a file from the root of the scope.
    pub fn path_of(&self, file: &FileSeen) -> Vec<u8> {
        join(self.bytes(&self.dirs[file.dir as usize].path), self.bytes(&file.name))
    }

    /// Places of the directories right below one.
    pub fn below(&self, dir: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.dirs[dir].end as usize;
        let mut next = dir + 1;
        std::iter::from_fn(move || {
            let at = next;
            (at < end).then(|| {
                next = self.dirs[at].end as usize;
                at
            })
        })
    }

    /// Works out the tree of a directory from those of the directories below it.
    pub fn plant(&mut self, dir: usize) {
        let seen = &self.dirs[dir];
        if let Repository::Absent { .. } = seen.repository {
            return;
        }
        let cut = if seen.path.is_empty() { 0 } else { seen.path.len() + 1 };
        let mut entries: Vec<TreeEntry> = self
            .files_of(seen)
            .iter()
            .map(|file| TreeEntry { name: self.bytes(&file.name), mode: file.mode, oid: file.oid })
            .collect();
        for at in self.below(dir) {
            let below = &self.dirs[at];
            if let Some((mode, oid)) = stands_for(below) {
                entries.push(TreeEntry { name: &self.bytes(&below.path)[cut..], mode, oid });
            }
        }
        let tree = (!entries.is_empty()).then(|| object::tree(&mut entries));
        self.dirs[dir].tree = tree;
    }

    pub fn tree(&self) -> Option<Oid> {
        self.dirs.first().and_then(|dir| dir.tree)
    }

    /// The file of this name in a directory.
    pub fn find_file(&self, dir: usize, name: &[u8]) -> Option<usize> {
        let range = self.dirs[dir].files.clone();
        let files = &self.files[range.start as usize..range.end as usize];
        files.binary_search_by(|file| self.bytes(&file.name).cmp(name)).ok().map(|at| at + range.start as usize)
    }
}

/// What a directory is in the tree of the one above.
///
/// A repository inside is its commit, as git has it, as long as its working copy is just that commit. Else it is an
/// id of what lies there, which no commit has.
fn stands_for(dir: &DirSeen) -> Option<(Mode, Oid)> {
    match dir.repository {
        Repository::No | Repository::Described { .. } => dir.tree.map(|tree| (Mode::Dir, tree)),
        Repository::Absent { commit } => Some((Mode::Commit, commit)),
        Repository::Root { head, tree } if dir.tree == Some(tree) && head != Oid::NONE => Some((Mode::Commit, head)),
        Repository::Root { .. } => {
            let text = dir.tree.map_or_else(String::new, |tree| tree.to_string());
            Some((Mode::Commit, Oid::of("working copy", text.as_bytes())))
        }
    }
}

pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + name.len() + 2);
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

impl Snapshot {
    /// As bytes: counts, then one table after another, all numbers little endian.
    pub fn encode(&self) -> Vec<u8> {
        let size = 16 + self.names.len() + self.dirs.len() * 192 + self.files.len() * 96 + self.facts.len() * 160;
        let mut out = Out(Vec::with_capacity(size));
        out.u32(self.names.len() as u32).u32(self.dirs.len() as u32);
        out.u32(self.files.len() as u32).u32(self.facts.len() as u32);
        out.0.extend_from_slice(&self.names);
        self.dirs.iter().for_each(|dir| out.dir(dir));
        self.files.iter().for_each(|file| out.file(file));
        self.facts.iter().for_each(|fact| out.fact(fact));
        out.0
    }

    /// `None` for what is not of this form: nothing is believed of it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = In(bytes);
        let (names, dirs, files, facts) = (bytes.u32()?, bytes.u32()?, bytes.u32()?, bytes.u32()?);
        let names = bytes.take(names as usize)?.to_vec();
        let dirs = (0..dirs).map(|_| bytes.dir()).collect::<Option<Vec<_>>>()?;
        let files = (0..files).map(|_| bytes.file()).collect::<Option<Vec<_>>>()?;
        let facts = (0..facts).map(|_| bytes.fact()).collect::<Option<Vec<_>>>()?;
        let snapshot = Self { names, dirs, files, facts, patches: Patches::default() };
        snapshot.is_whole().then_some(snapshot)
    }

    /// What is other than in the file that it was read from. `None` where that is much, or there is none.
    pub fn encode_patches(&self) -> Option<Vec<u8>> {
        let Patches { base, dirs, files } = &self.patches;
        if (dirs.len() + files.len()) * 16 > self.dirs.len() + self.files.len() {
            return None;
        }
        let mut out = Out(base.as_ref()?.as_bytes().to_vec());
        out.u32(dirs.len() as u32).u32(files.len() as u32).u32(self.facts.len() as u32);
        for at in dirs {
            out.u32(*at).dir(&self.dirs[*at as usize]);
        }
        for at in files {
            out.u32(*at).file(&self.files[*at as usize]);
        }
        self.facts.iter().for_each(|fact| out.fact(fact));
        Some(out.0)
    }

    /// Takes in what was written after the file of this digest. `None` where it belongs to another.
    pub fn patched(mut self, base: Digest, bytes: &[u8]) -> Option<Self> {
        let mut bytes = In(bytes);
        if bytes.take(base.as_bytes().len())? != base.as_bytes() {
            return None;
        }
        let (dirs, files, facts) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
        for _ in 0..dirs {
            let at = bytes.u32()?;
            *self.dirs.get_mut(at as usize)? = bytes.dir()?;
            self.patches.dirs.insert(at);
        }
        for _ in 0..files {
            let at = bytes.u32()?;
            *self.files.get_mut(at as usize)? = bytes.file()?;
            self.patches.files.insert(at);
        }
        self.facts = (0..facts).map(|_| bytes.fact()).collect::<Option<Vec<_>>>()?;
        self.is_whole().then_some(self)
    }

    /// Does every range lie in its table, and every name in the directory that it is said to be in?
    fn is_whole(&self) -> bool {
        let is_name = |range: &Range<u32>| range.start <= range.end && range.end as usize <= self.names.len();
        let in_dirs = |at: u32| (at as usize) < self.dirs.len();
        let is_dir = |(at, dir): (usize, &DirSeen)| {
            is_name(&dir.path)
                && (at == 0 || (dir.parent as usize) < at && self.is_in(dir, &self.dirs[dir.parent as usize]))
                && at < dir.end as usize
                && dir.end as usize <= self.dirs.len()
                && dir.files.start <= dir.files.end
                && dir.files.end as usize <= self.files.len()
        };
        let is_file = |file: &FileSeen| is_name(&file.name) && in_dirs(file.dir) && names_one(self.bytes(&file.name));
        self.dirs.iter().enumerate().all(is_dir) && self.files.iter().all(is_file)
    }

    /// Both of them have names that are ranges of ours.
    fn is_in(&self, dir: &DirSeen, parent: &DirSeen) -> bool {
        let (path, above) = (self.bytes(&dir.path), self.bytes(&parent.path));
        let inner = match above {
            b"" => Some(path),
            above => path.strip_prefix(above).and_then(|rest| rest.strip_prefix(b"/")),
        };
        dir.end <= parent.end && inner.is_some_and(names_one)
    }
}

/// Is it the name of one thing in a directory?
fn names_one(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && memchr::memchr2(b'/', 0, name).is_none()
}

struct Out(Vec<u8>);

impl Out {
    fn u8(&mut self, number: u8) -> &mut Self {
        self.0.push(number);
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn range(&mut self, range: &Range<u32>) -> &mut Self {
        self.u32(range.start).u32(range.end)
    }

    fn stat(&mut self, stat: &Stat) -> &mut Self {
        self.u32((stat.kind as u32) << 16 | stat.mode).u64(stat.dev).u64(stat.ino).u64(stat.size);
        self.u64(stat.mtime as u64).u64(stat.ctime as u64)
    }

    fn oid(&mut self, oid: &Oid) -> &mut Self {
        self.0.extend_from_slice(&oid.0);
        self
    }

    fn dir(&mut self, dir: &DirSeen) {
        let (kind, first, second) = match dir.repository {
            Repository::No => (0, Oid::NONE, Oid::NONE),
            Repository::Root { head, tree } => (1, head, tree),
            Repository::Absent { commit } => (2, commit, Oid::NONE),
            Repository::Described { head, around } => (3, head, around),
        };
        self.range(&dir.path).u32(dir.parent).u32(dir.end).range(&dir.files).stat(&dir.stat);
        self.u8(u8::from(dir.settled) | u8::from(dir.is_ignored) << 1 | u8::from(dir.tree.is_some()) << 2).u8(kind);
        self.0.extend_from_slice(&dir.listing);
        self.oid(&first).oid(&second).oid(&dir.tree.unwrap_or(Oid::NONE));
    }

    fn file(&mut self, file: &FileSeen) {
        self.range(&file.name).u32(file.dir).stat(&file.stat).oid(&file.oid);
        self.u8(file.mode as u8).u8(u8::from(file.settled) | u8::from(file.is_tracked) << 1);
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32).0.extend_from_slice(bytes);
        self
    }

    fn fact(&mut self, fact: &Fact) {
        let flags = [fact.settled, fact.stat.is_some(), matches!(fact.of, Of::Index(_)), fact.of == Of::Names];
        self.bytes(&fact.path).u8(flags.iter().rev().fold(0, |all, flag| all << 1 | u8::from(*flag)));
        if let Some(stat) = &fact.stat {
            self.stat(stat);
        }
        self.0.extend_from_slice(&fact.digest);
        if let Of::Index(of) = &fact.of {
            self.bytes(&of.root).bytes(&of.below);
        }
    }
}

struct In<'b>(&'b [u8]);

impl<'b> In<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn range(&mut self) -> Option<Range<u32>> {
        Some(self.u32()?..self.u32()?)
    }

    fn stat(&mut self) -> Option<Stat> {
        let kind_and_mode = self.u32()?;
        let kind = [Kind::File, Kind::Dir, Kind::Symlink, Kind::Other];
        Some(Stat {
            kind: *kind.get((kind_and_mode >> 16) as usize)?,
            mode: kind_and_mode & 0o7777,
            dev: self.u64()?,
            ino: self.u64()?,
            size: self.u64()?,
            mtime: self.u64()? as i64,
            ctime: self.u64()? as i64,
        })
    }

    fn oid(&mut self) -> Option<Oid> {
        self.array().map(Oid)
    }

    fn dir(&mut self) -> Option<DirSeen> {
        let (path, parent, end, files, stat) = (self.range()?, self.u32()?, self.u32()?, self.range()?, self.stat()?);
        let (flags, kind) = (self.u8()?, self.u8()?);
        let (listing, first, second, tree) = (self.array()?, self.oid()?, self.oid()?, self.oid()?);
        let repository = match kind {
            0 => Repository::No,
            1 => Repository::Root { head: first, tree: second },
            2 => Repository::Absent { commit: first },
            3 => Repository::Described { head: first, around: second },
            _ => return None,
        };
        Some(DirSeen {
            path,
            parent,
            end,
            files,
            settled: flags & 1 != 0,
            stat,
            listing,
            is_ignored: flags & 2 != 0,
            repository,
            tree: (flags & 4 != 0).then_some(tree),
        })
    }

    fn file(&mut self) -> Option<FileSeen> {
        let (name, dir, stat, oid) = (self.range()?, self.u32()?, self.stat()?, self.oid()?);
        let (mode, flags) = (Mode::from_number(self.u8()?)?, self.u8()?);
        Some(FileSeen { name, dir, mode, is_tracked: flags & 2 != 0, settled: flags & 1 != 0, stat, oid })
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.u32()? as usize;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn fact(&mut self) -> Option<Fact> {
        let (path, flags) = (self.bytes()?, self.u8()?);
        let stat = if flags & 2 != 0 { Some(self.stat()?) } else { None };
        let digest = self.array()?;
        let of = match flags & 12 {
            0 => Of::Bytes,
            4 => Of::Index(IndexOf { root: self.bytes()?, below: self.bytes()? }),
            8 => Of::Names,
            _ => return None,
        };
        Some(Fact { path, stat, settled: flags & 1 != 0, digest, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: Stat = Stat { kind: Kind::File, mode: 0o644, dev: 1, ino: 2, size: 3, mtime: 4, ctime: 5 };

    /// Directories by path, parent and end; files by name and directory.
    fn snapshot(dirs: &[(&str, u32, u32)], files: &[(&str, u32)]) -> Snapshot {
        let mut made = Snapshot::default();
        for (path, parent, end) in dirs {
            let path = made.intern(path.as_bytes());
            let listing = Short::default();
            let (settled, is_ignored, repository, tree) = (true, false, Repository::No, None);
            let dir = DirSeen {
                path,
                parent: *parent,
                end: *end,
                files: 0..0,
                settled,
                stat: STAT,
                listing,
                is_ignored,
                repository,
                tree,
            };
            made.dirs.push(dir);
        }
        for (name, dir) in files {
            let name = made.intern(name.as_bytes());
            let (mode, is_tracked, settled, oid) = (Mode::File, true, true, Oid::NONE);
            made.files.push(FileSeen { name, dir: *dir, mode, is_tracked, settled, stat: STAT, oid });
        }
        made
    }

    fn is_read(dirs: &[(&str, u32, u32)], files: &[(&str, u32)]) -> bool {
        Snapshot::decode(&snapshot(dirs, files).encode()).is_some()
    }

    #[test]
    fn a_memory_whose_names_lead_out_of_their_directories_is_none() {
        assert!(is_read(&[("", 0, 3), ("a", 0, 3), ("a/b", 1, 3)], &[("x", 0), ("...", 2)]));
        for name in ["", ".", "..", "../x", "/x", "x/y", "x\0"] {
            assert!(!is_read(&[("", 0, 1)], &[(name, 0)]), "{name}");
        }
        for path in ["", "..", "/a", "a/", "a/b"] {
            assert!(!is_read(&[("", 0, 2), (path, 0, 2)], &[]), "{path}");
        }
        for path in ["a", "b", "ab", "a/", "a/..", "a/b/c", "x/a"] {
            assert!(!is_read(&[("", 0, 3), ("a", 0, 3), (path, 1, 3)], &[]), "{path}");
        }
        // Not in the one that it is said to be in.
        assert!(!is_read(&[("", 0, 3), ("a", 0, 2), ("a/b", 1, 3)], &[]));
    }
}
