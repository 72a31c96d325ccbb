//! Reading what a step made, once: digests, and for the store the compressed bytes in the same pass.
//!
//! Small files are put one after another in path order into *frames* of about 1 MiB; a file of 1 MiB
//! or more has frames of its own, of at most 4 MiB. So equal big files and equal groups of small ones
//! are kept once, whoever made them. Where all the bytes of an entry are few, its only frame goes into
//! the result itself: a step that makes one small file costs one small file.
//!
//! Finished frames wait in a directory beside the store's until [`Store::commit`] renames them, so at
//! most a frame per thread is in memory, and a capture that fails or is dropped leaves nothing. While a
//! capture lives, nothing is collected: a frame that it found in the store is there at commit.
//!
//! What can't be kept: devices, sockets, pipes (an error), hard links between files (they become two
//! files), owners, extended attributes (`security.capability` in a layer is an error, since the
//! program would not work without it).

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::action::{FilePlaces, Frame, Made, Place, Places, Seen, Slice};
use crate::base::digest::Digest;
use crate::base::paths::escaped;
use crate::base::stat::{Instant, Kind, Stat};
use crate::base::tree::{Entry, Node, Tree};

use super::cas::{MAX_FRAME, Press, Store, Use, write_frame};
use super::error::{StoreError, failed};
use super::files::read_full;
use super::needle::Needle;
use super::places::{self, Finder, Scan};
use super::scratch::Scratch;
use super::threads::spread;
use super::walk::{Found, Walk};

/// Small files are grouped up to this size; a larger file stands alone.
const GROUP: u64 = 1 << 20;
/// An entry with fewer bytes is kept in its result.
const INLINE: u64 = 64 << 10;

/// What is to be captured.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// What the outputs are relative to.
    pub workspace: &'a Path,
    /// Files, links, or directories with all that is in them.
    pub outputs: &'a [PathBuf],
    /// The directory that holds just what the step added to its prefix.
    pub upper: Option<&'a Path>,
    /// Paths in `upper` that are passed over: shared files.
    pub except: &'a [PathBuf],
    /// Kept like a file; only for the store.
    pub log: Option<&'a [u8]>,
    /// Paths that are searched for in all that is read.
    pub places: &'a [PathBuf],
    /// Values that are searched for in files: what holds one is not to be stored.
    pub secrets: &'a [Vec<u8>],
    /// Placeholders of relocatable prefixes: where they are in the layer is kept with it.
    pub placeholders: &'a [String],
}

/// What lies there, by digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    pub made: Made,
    /// Aligned with `made.outputs`.
    pub outputs: Vec<Seen>,
    /// Aligned with `made.layer`; empty without one.
    pub layer: Vec<Seen>,
    /// The path that was searched for, as it is shown, where a file or link holds it.
    pub bound_to: Option<String>,
    /// Does a file or link hold a secret?
    pub holds_secret: bool,
    /// Files that hold a placeholder where none can be replaced: outputs, relative to the workspace, and files of the layer
    /// that hold it in pieces of which one is too small to be found, relative to the prefix.
    pub stuck: Vec<Stuck>,
}

/// A file that can't be moved to where its prefix is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stuck {
    Output(PathBuf),
    Pieces(PathBuf),
}

/// A snapshot whose bytes are ready to be committed.
#[derive(Debug)]
pub struct Capture {
    pub snapshot: Snapshot,
    pub(super) packed: Packed,
}

#[derive(Debug)]
pub(super) struct Packed {
    pub frames: Vec<(Frame, Kept)>,
    pub files: Vec<Slice>,
    pub log: Option<Slice>,
    pub scratch: Option<Scratch>,
    pub held: Use,
}

/// Where the bytes of a frame are until the commit.
#[derive(Debug)]
pub(super) enum Kept {
    Inline,
    InStore,
    Waiting(PathBuf, u64),
}

impl Sources<'_> {
    /// Digests only, for what is not to be stored.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let look = Look::at(self)?;
        let groups = look.groups(None);
        let finder = Finder::new(self.placeholders);
        let reader = || Reader::new(Sink::Nowhere, self, finder.as_ref());
        let read = spread(groups.len(), reader, |reader, i| reader.read(&groups[i]))?;
        let mut snapshot = look.snapshot(self, read.iter().flat_map(|r| &r.files), read.iter().any(|r| r.is_bound))?;
        snapshot.holds_secret |= read.iter().any(|r| r.holds_secret);
        Ok(snapshot)
    }

    /// Digests and bytes.
    pub fn capture(&self, store: &Store) -> Result<Capture, StoreError> {
        let held = store.hold()?;
        let look = Look::at(self)?;
        let total = look.size() + self.log.map_or(0, |log| log.len() as u64);
        let groups = if total < INLINE { look.one_group(self.log) } else { look.groups(self.log) };
        let incoming = store.incoming();
        let scratch = (total >= INLINE).then(|| Scratch::new_in(&incoming).map_err(failed("make", &incoming)));
        let scratch = scratch.transpose()?;
        let sink = match &scratch {
            None => Sink::Inline,
            Some(scratch) => Sink::Frames { store, scratch },
        };
        let finder = Finder::new(self.placeholders);
        let reader = || Reader::new(sink, self, finder.as_ref());
        let read = spread(groups.len(), reader, |reader, i| reader.read(&groups[i]))?;
        let files = read.iter().flat_map(|r| &r.files).take(look.files.len());
        let mut snapshot = look.snapshot(self, files, read.iter().any(|r| r.is_bound))?;
        snapshot.holds_secret |= read.iter().any(|r| r.holds_secret);
        let mut packed = Packed { frames: Vec::new(), files: Vec::new(), log: None, scratch, held };
        let mut start = 0;
        for group in read {
            for file in &group.files {
                packed.files.push(Slice { start, len: file.len });
                start += file.len;
            }
            packed.frames.extend(group.frames);
        }
        packed.log = self.log.and_then(|_| packed.files.pop());
        Ok(Capture { snapshot, packed })
    }
}

/// What is there before anything is read.
struct Look {
    seen_at: Instant,
    outputs: Walk,
    layer: Option<Walk>,
    /// Outputs, then the layer, each in tree order.
    files: Vec<(PathBuf, Stat)>,
}

/// What is read as one: at most one frame, or one big file.
type Group<'a> = Vec<Piece<'a>>;

enum Piece<'a> {
    File(&'a Path, &'a Stat),
    Log(&'a [u8]),
}

impl Piece<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::File(_, stat) => stat.size,
            Self::Log(bytes) => bytes.len() as u64,
        }
    }
}

impl Look {
    fn at(sources: &Sources) -> Result<Self, StoreError> {
        // Before anything is read: a file that is written right after it was read must not look settled.
        let seen_at = Instant::now();
        let outputs = Walk::of(sources.workspace, sources.outputs)?;
        let layer = sources.upper.map(Walk::below).transpose()?;
        let layer = layer.map(|walk| walk.without(sources.except));
        let full = |root: &Path, found: &Found| (root.join(&found.path), found.stat);
        let is_file = |found: &&Found| found.stat.kind == Kind::File;
        let mut files: Vec<_> =
            outputs.found.iter().filter(is_file).map(|found| full(sources.workspace, found)).collect();
        if let (Some(walk), Some(upper)) = (&layer, sources.upper) {
            for found in walk.found.iter().filter(is_file) {
                reject_capabilities(&upper.join(&found.path))?;
                files.push(full(upper, found));
            }
        }
        Ok(Self { seen_at, outputs, layer, files })
    }

    fn links_hold(&self, places: &[PathBuf]) -> bool {
        places.iter().any(|place| self.links_with_bytes(place.as_os_str().as_bytes()))
    }

    fn links_with_bytes(&self, bytes: &[u8]) -> bool {
        let found = self.outputs.found.iter().chain(self.layer.iter().flat_map(|walk| &walk.found));
        found.filter_map(|found| found.target.as_ref()).any(|target| holds(target, bytes))
    }

    fn size(&self) -> u64 {
        self.files.iter().map(|(_, stat)| stat.size).sum()
    }

    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        self.files.iter().map(|(path, stat)| Piece::File(path, stat))
    }

    fn one_group<'a>(&'a self, log: Option<&'a [u8]>) -> Vec<Group<'a>> {
        let group: Group = self.pieces().chain(log.map(Piece::Log)).collect();
        if group.is_empty() { Vec::new() } else { vec![group] }
    }

    /// The log stands alone: it is different each time, and would make every group of its neighbours so.
    fn groups<'a>(&'a self, log: Option<&'a [u8]>) -> Vec<Group<'a>> {
        let mut groups: Vec<Group> = Vec::new();
        let mut room = 0;
        for piece in self.pieces() {
            let len = piece.len();
            if len >= GROUP || len > room {
                groups.push(vec![piece]);
                room = GROUP.saturating_sub(len);
            } else {
                room -= len;
                match groups.last_mut() {
                    Some(group) => group.push(piece),
                    None => groups.push(vec![piece]),
                }
            }
        }
        groups.extend(log.map(|log| vec![Piece::Log(log)]));
        groups
    }

    /// The trees, now that the files are read; an error where anything moved meanwhile.
    fn snapshot<'a>(
        &self,
        sources: &Sources,
        mut read: impl Iterator<Item = &'a FileRead>,
        is_bound: bool,
    ) -> Result<Snapshot, StoreError> {
        self.outputs.check_unchanged(sources.workspace)?;
        let made_outputs = tree_of(&self.outputs, &mut read, self.seen_at);
        let mut snapshot = Snapshot {
            made: Made { outputs: made_outputs.tree, ..Made::default() },
            outputs: made_outputs.seen,
            layer: Vec::new(),
            bound_to: (is_bound || self.links_hold(sources.places)).then(|| escaped(sources.workspace)),
            holds_secret: sources.secrets.iter().any(|secret| self.links_with_bytes(secret)),
            stuck: Vec::new(),
        };
        let path = |walk: &Walk, entry: usize| walk.found[entry].path.clone();
        let held = made_outputs.found.iter().map(|(entry, _)| *entry);
        let held: BTreeSet<usize> = held.chain(links_with(&self.outputs, sources.placeholders)).collect();
        snapshot.stuck.extend(held.into_iter().map(|entry| Stuck::Output(path(&self.outputs, entry))));
        if let (Some(walk), Some(upper)) = (&self.layer, sources.upper) {
            walk.check_unchanged(upper)?;
            let layer = tree_of(walk, &mut read, self.seen_at);
            let gaps = layer.found.iter().filter(|(_, found)| found.has_gap);
            snapshot.stuck.extend(gaps.map(|(entry, _)| Stuck::Pieces(path(walk, *entry))));
            snapshot.made.places = places_of(walk, layer.found, sources.placeholders);
            snapshot.made.layer = Some(layer.tree);
            snapshot.layer = layer.seen;
        }
        Ok(snapshot)
    }
}

struct TreeRead {
    tree: Tree,
    /// Aligned with the tree.
    seen: Vec<Seen>,
    /// Files that hold placeholders, by their place in the tree.
    found: Vec<(usize, places::Found)>,
}

fn tree_of<'a>(walk: &Walk, read: &mut impl Iterator<Item = &'a FileRead>, seen_at: Instant) -> TreeRead {
    let mut held = Vec::new();
    let entry = |(i, found): (usize, &Found)| {
        let mode = found.stat.mode;
        let node = match (&found.target, found.stat.kind) {
            (Some(target), _) => Node::Symlink { target: target.clone() },
            (None, Kind::Dir) => Node::Dir { mode },
            (None, _) => {
                let file = read.next().expect("BUG: a file was not read");
                held.extend(file.places.clone().map(|places| (i, places)));
                Node::File { mode, size: file.len, digest: file.digest }
            }
        };
        Entry { path: found.path.clone(), node }
    };
    let tree = Tree::new(walk.found.iter().enumerate().map(entry).collect());
    let seen = |found: &Found| Seen { stat: found.stat, settled: found.stat.is_settled(seen_at) };
    TreeRead { tree, seen: walk.found.iter().map(seen).collect(), found: held }
}

/// What is kept with the layer; only placeholders that are there are named.
fn places_of(walk: &Walk, files: Vec<(usize, places::Found)>, placeholders: &[String]) -> Places {
    let in_files = files.iter().flat_map(|(_, found)| &found.places).map(|place| place.of as usize);
    let in_links = (0..placeholders.len()).filter(|of| !links_with(walk, &placeholders[*of..=*of]).is_empty());
    let used: BTreeSet<usize> = in_files.chain(in_links).collect();
    let number = |of: u32| used.iter().position(|used| *used == of as usize).expect("BUG: it is used") as u32;
    let file = |(entry, found): (usize, places::Found)| FilePlaces {
        entry: entry as u32,
        is_text: found.is_text,
        places: found.places.into_iter().map(|place| Place { of: number(place.of), ..place }).collect(),
    };
    let files = files.into_iter().map(file).collect();
    Places { placeholders: used.iter().map(|of| placeholders[*of].clone()).collect(), files }
}

/// Links to a placeholder, by their place in the tree.
fn links_with(walk: &Walk, placeholders: &[String]) -> Vec<usize> {
    let held = |target: &PathBuf| placeholders.iter().any(|text| holds(target, text.as_bytes()));
    let links = walk.found.iter().enumerate().filter(|(_, found)| found.target.as_ref().is_some_and(held));
    links.map(|(entry, _)| entry).collect()
}

fn holds(target: &Path, text: &[u8]) -> bool {
    memchr::memmem::find(target.as_os_str().as_bytes(), text).is_some()
}

/// Where frames go.
#[derive(Clone, Copy)]
enum Sink<'a> {
    Nowhere,
    Inline,
    Frames { store: &'a Store, scratch: &'a Scratch },
}

struct FileRead {
    len: u64,
    digest: Digest,
    places: Option<places::Found>,
}

struct GroupRead {
    is_bound: bool,
    holds_secret: bool,
    files: Vec<FileRead>,
    frames: Vec<(Frame, Kept)>,
}

struct Reader<'a> {
    sink: Sink<'a>,
    press: Press,
    buffer: Vec<u8>,
    /// For the places, in each form that they may have.
    paths: Vec<Needle<'a>>,
    secrets: Vec<Needle<'a>>,
    finder: Option<&'a Finder<'a>>,
}

impl<'a> Reader<'a> {
    fn new(sink: Sink<'a>, sources: &Sources<'a>, finder: Option<&'a Finder<'a>>) -> Result<Self, StoreError> {
        let paths = sources.places.iter().flat_map(|place| Needle::of_path(place.as_os_str().as_bytes())).collect();
        let secrets = sources.secrets.iter().map(|secret| Needle::new(secret)).collect();
        Ok(Self { sink, press: Press::new()?, buffer: Vec::new(), paths, secrets, finder })
    }

    fn read(&mut self, group: &Group) -> Result<GroupRead, StoreError> {
        let mut made = GroupRead { is_bound: false, holds_secret: false, files: Vec::new(), frames: Vec::new() };
        self.buffer.clear();
        for piece in group {
            let file = match piece {
                Piece::File(path, stat) => self.read_file(path, stat, &mut made.frames)?,
                Piece::Log(bytes) => self.read_log(bytes, &mut made.frames)?,
            };
            made.files.push(file);
        }
        let whole = made.files.first().filter(|f| made.files.len() == 1 && f.len == self.buffer.len() as u64);
        let digest = whole.map(|file| file.digest);
        self.end_frame(digest, &mut made.frames)?;
        made.is_bound = self.paths.iter().any(|needle| needle.found);
        made.holds_secret = self.secrets.iter().any(|needle| needle.found);
        Ok(made)
    }

    /// Appends the file to the buffer; of a big one all but the last frame is put away.
    fn read_file(&mut self, path: &Path, stat: &Stat, frames: &mut Vec<(Frame, Kept)>) -> Result<FileRead, StoreError> {
        let mut file = open_unchanged(path, stat)?;
        let mut hasher = blake3::Hasher::new();
        let mut left = stat.size;
        let mut scan = self.finder.map(Scan::new);
        self.paths.iter_mut().chain(&mut self.secrets).for_each(Needle::begin_file);
        while left > 0 {
            let begin = self.buffer.len();
            let room = MAX_FRAME - begin as u64;
            if room == 0 {
                self.end_frame(None, frames)?;
                continue;
            }
            let take = room.min(left);
            self.buffer.resize(begin + usize::try_from(take).expect("BUG: a frame fits in memory"), 0);
            let read = read_full(&mut file, &mut self.buffer[begin..]).map_err(failed("read", path))?;
            if read as u64 != take {
                return Err(StoreError::Changed(path.to_owned()));
            }
            hasher.update(&self.buffer[begin..]);
            let needles = self.paths.iter_mut().chain(&mut self.secrets);
            needles.for_each(|needle| needle.feed(&self.buffer[begin..]));
            scan.iter_mut().for_each(|scan| scan.feed(&self.buffer[begin..]));
            left -= take;
        }
        let beyond = read_full(&mut file, &mut [0]).map_err(failed("read", path))?;
        if beyond > 0 || stat_of(&file, path)? != *stat {
            return Err(StoreError::Changed(path.to_owned()));
        }
        let digest = Digest::from_bytes(*hasher.finalize().as_bytes());
        Ok(FileRead { len: stat.size, digest, places: scan.and_then(Scan::finish) })
    }

    fn read_log(&mut self, bytes: &[u8], frames: &mut Vec<(Frame, Kept)>) -> Result<FileRead, StoreError> {
        for chunk in bytes.chunks(MAX_FRAME as usize) {
            if self.buffer.len() + chunk.len() > MAX_FRAME as usize {
                self.end_frame(None, frames)?;
            }
            self.buffer.extend_from_slice(chunk);
        }
        Ok(FileRead { len: bytes.len() as u64, digest: Digest::of(bytes), places: None })
    }

    /// Puts the buffer away. `digest`: of its bytes, where it is known already.
    fn end_frame(&mut self, digest: Option<Digest>, frames: &mut Vec<(Frame, Kept)>) -> Result<(), StoreError> {
        if self.buffer.is_empty() || matches!(self.sink, Sink::Nowhere) {
            self.buffer.clear();
            return Ok(());
        }
        let digest = digest.unwrap_or_else(|| Digest::of(&self.buffer));
        let mut frame = Frame { digest, size: self.buffer.len() as u64, inline: None };
        let place = match self.sink {
            Sink::Nowhere | Sink::Inline => {
                frame.inline = Some(self.press.press(&self.buffer));
                Kept::Inline
            }
            Sink::Frames { store, .. } if store.touch_frame(&digest)? => Kept::InStore,
            Sink::Frames { scratch, .. } => {
                let compressed = self.press.press(&self.buffer);
                let path = scratch.fresh();
                write_frame(&path, &compressed)?;
                Kept::Waiting(path, compressed.len() as u64)
            }
        };
        self.buffer.clear();
        frames.push((frame, place));
        Ok(())
    }
}

/// Not through a link, and only if it is what was seen in the walk.
fn open_unchanged(path: &Path, stat: &Stat) -> Result<File, StoreError> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(StoreError::Changed(path.to_owned())),
        other => other.map_err(failed("read", path))?,
    };
    if stat_of(&file, path)? == *stat { Ok(file) } else { Err(StoreError::Changed(path.to_owned())) }
}

fn stat_of(file: &File, path: &Path) -> Result<Stat, StoreError> {
    let raw = rustix::fs::fstat(file).map_err(|e| failed("look at", path)(e.into()))?;
    Ok(Stat::from_raw(&raw))
}

fn reject_capabilities(path: &Path) -> Result<(), StoreError> {
    const ATTRIBUTE: &str = "security.capability";
    let mut value = [0u8; 64];
    match rustix::fs::lgetxattr(path, ATTRIBUTE, &mut value[..]) {
        Ok(_) | Err(rustix::io::Errno::RANGE) => {
            Err(StoreError::Attribute { path: path.to_owned(), attribute: ATTRIBUTE })
        }
        // Absent, or a file system without attributes.
        Err(_) => Ok(()),
    }
}
