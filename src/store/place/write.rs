//! The bytes of files: out of the store's frames or an unpacked layer, checked as they pass. Where nothing is
//! yet, a file is written at its place; one that is there is replaced by a rename.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::action::{ActionResult, Slice};
use crate::base::digest::Digest;
use crate::base::publish::temporary;
use crate::base::stat;
use crate::base::tree::Node;

use super::super::cas::{MAX_FRAME, Store, unpress};
use super::super::error::{StoreError, failed};
use super::super::files::{read_full, read_if_there, remove_if_there};
use super::super::threads::spread;
use super::look::Todo;
use super::{Bytes, Piece, Site};

/// The frames of one entry of the store.
pub(in crate::store) struct Pack<'a> {
    store: &'a Store,
    result: &'a ActionResult,
    /// Where each frame begins, and where the last one ends.
    starts: Vec<u64>,
}

impl<'a> Pack<'a> {
    pub(in crate::store) fn new(store: &'a Store, result: &'a ActionResult) -> Self {
        let mut starts = vec![0];
        let mut end = 0;
        for frame in &result.content.frames {
            end += frame.size;
            starts.push(end);
        }
        Self { store, result, starts }
    }

    /// The frame in which this byte lies.
    fn frame_at(&self, offset: u64) -> usize {
        self.starts.partition_point(|start| *start <= offset) - 1
    }

    fn frames_of(&self, slice: Slice) -> std::ops::Range<usize> {
        if slice.len == 0 { 0..0 } else { self.frame_at(slice.start)..self.frame_at(slice.start + slice.len - 1) + 1 }
    }

    fn load(&self, index: usize) -> Result<Vec<u8>, StoreError> {
        let frame = &self.result.content.frames[index];
        let bytes = match &frame.inline {
            Some(inline) => unpress(inline, frame.size),
            None => {
                let path = self.store.frame_path(&frame.digest);
                let read = read_if_there(&path).map_err(failed("read", &path))?;
                read.and_then(|compressed| unpress(&compressed, frame.size))
            }
        };
        bytes.map_or_else(|| Err(self.lost(index..index + 1)), Ok)
    }

    /// The part of a slice that lies in frame `index`, whose bytes are `frame`.
    fn part<'b>(&self, slice: Slice, index: usize, frame: &'b [u8]) -> &'b [u8] {
        let begin = self.starts[index];
        let from = slice.start.max(begin) - begin;
        let to = (slice.start + slice.len).min(self.starts[index + 1]) - begin;
        &frame[from as usize..to as usize]
    }

    /// Drops what is damaged, so that the next lookup misses.
    fn lost(&self, frames: std::ops::Range<usize>) -> StoreError {
        for frame in self.result.content.frames[frames].iter().filter(|frame| frame.inline.is_none()) {
            let path = self.store.frame_path(&frame.digest);
            if let Err(e) = remove_if_there(&path) {
                return failed("remove", &path)(e);
            }
        }
        match self.store.forget(&self.result.key) {
            Err(e) => e,
            Ok(()) => StoreError::Lost { step: self.result.step.clone() },
        }
    }

    /// The bytes of a slice, all at once; for logs.
    pub(in crate::store) fn read(&self, slice: Slice) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        for index in self.frames_of(slice) {
            let frame = self.load(index)?;
            bytes.extend_from_slice(self.part(slice, index, &frame));
        }
        Ok(bytes)
    }
}

/// What one thread does at a time.
enum Unit {
    /// Files in one frame.
    Frame(usize, Vec<usize>),
    Single(usize),
}

/// Writes all that is to be made but directories, and sets the modes of files. Returns how many, and their bytes.
pub(super) fn write(site: &Site, pieces: &[Piece], todo: &[Todo]) -> Result<(usize, u64), StoreError> {
    let writer = Writer { site, beside: AtomicBool::new(false), stamp: OnceLock::new() };
    let units = units(pieces, todo);
    let bytes = spread(
        units.len(),
        || Ok(Vec::new()),
        |buffer, i| match &units[i] {
            Unit::Frame(frame, files) => writer.frame(*frame, files, pieces),
            Unit::Single(at) => writer.single(&pieces[*at], buffer),
        },
    )?;
    for (piece, todo) in pieces.iter().zip(todo) {
        if let (Node::File { mode, .. }, Todo::SetMode) = (piece.node, todo) {
            let path = site.root.join(piece.path);
            stat::set_mode(&path, *mode).map_err(failed("set the mode of", &path))?;
        }
    }
    let count = |unit: &Unit| if let Unit::Frame(_, files) = unit { files.len() } else { 1 };
    Ok((units.iter().map(count).sum(), bytes.iter().sum()))
}

fn units(pieces: &[Piece], todo: &[Todo]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut by_frame: HashMap<(*const Pack, usize), usize> = HashMap::new();
    for (at, piece) in pieces.iter().enumerate() {
        if todo[at] != Todo::Make || matches!(piece.node, Node::Dir { .. }) {
            continue;
        }
        match piece.bytes {
            Bytes::Stored(pack, slice) if pack.frames_of(slice).len() == 1 => {
                let index = pack.frames_of(slice).start;
                let unit = *by_frame.entry((std::ptr::from_ref(pack), index)).or_insert(units.len());
                match units.get_mut(unit) {
                    Some(Unit::Frame(_, files)) => files.push(at),
                    Some(Unit::Single(_)) | None => units.push(Unit::Frame(index, vec![at])),
                }
            }
            Bytes::Stored(..) | Bytes::None | Bytes::Layer(_) => units.push(Unit::Single(at)),
        }
    }
    units
}

struct Writer<'a> {
    site: &'a Site<'a>,
    /// The staging directory is on another file system.
    beside: AtomicBool,
    /// When all of this was modified, on the clock of file stamps: that of the file that was written first. We write in
    /// an order of our own, so whoever goes by stamps must not find one of them newer than another (make
    /// would run autoconf for a `configure` that is older than its source).
    stamp: OnceLock<SystemTime>,
}

impl Writer<'_> {
    /// Returns the bytes written.
    fn frame(&self, index: usize, files: &[usize], pieces: &[Piece]) -> Result<u64, StoreError> {
        let mut frame = None;
        let mut written = 0;
        for at in files {
            let piece = &pieces[*at];
            let (Bytes::Stored(pack, slice), Node::File { mode, size, digest }) = (piece.bytes, piece.node) else {
                panic!("BUG: a file in a frame is a file of the store")
            };
            let frame = match &mut frame {
                Some(frame) => frame,
                None => frame.insert(pack.load(index)?),
            };
            let bytes = pack.part(slice, index, frame);
            if Digest::of(bytes) != *piece.mend.map_or(digest, |mend| &mend.digest) {
                return Err(pack.lost(index..index + 1));
            }
            let path = self.site.root.join(piece.path);
            let fill = |file: &mut File| match piece.mend {
                None => file.write_all(bytes),
                Some(mend) => mend.into(file).write_all(bytes),
            };
            self.put(&path, *mode, &mut |file| fill(file).map_err(failed("write", &path)))?;
            written += size;
        }
        Ok(written)
    }

    fn single(&self, piece: &Piece, buffer: &mut Vec<u8>) -> Result<u64, StoreError> {
        let path = self.site.root.join(piece.path);
        if let (Node::File { mode, size, .. }, Some(mend)) = (piece.node, piece.mend) {
            let mut reading = Reading { buffer: std::mem::take(buffer), frame: None };
            self.put(&path, *mode, &mut |file| reading.pour(piece, &mend.digest, &mut mend.into(file), &path))?;
            *buffer = reading.buffer;
            return Ok(*size);
        }
        match (piece.node, piece.bytes) {
            (Node::Symlink { target }, _) => self.link(&path, target).map(|()| 0),
            (Node::File { mode, size, digest }, Bytes::Stored(pack, slice)) => {
                let mut frame = None;
                self.put(&path, *mode, &mut |file| stream(pack, slice, digest, file, &path, &mut frame)).map(|()| *size)
            }
            (Node::File { mode, size, digest }, Bytes::Layer(dir)) => {
                let from = dir.join(piece.path);
                if !self.clone_file(&from, &path, *mode)? {
                    self.put(&path, *mode, &mut |file| copy(&from, digest, file, &path, buffer))?;
                }
                Ok(*size)
            }
            (Node::File { .. }, Bytes::None) | (Node::Dir { .. }, _) => panic!("BUG: a piece without bytes"),
        }
    }

    /// Creates and fills a file. One that is there is replaced at once, by one that was filled elsewhere; where
    /// there was none, half a file is as well owned by who is writing it as a whole one.
    fn put(
        &self,
        path: &Path,
        mode: u32,
        fill: &mut dyn FnMut(&mut File) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match create_new(path, mode) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !self.site.is_private => {}
            file => {
                let made = file.map_err(failed("make", path)).and_then(|file| self.fill_in(file, path, mode, fill));
                if made.is_err() {
                    remove_if_there(path).map_err(failed("remove", path))?;
                }
                return made;
            }
        }
        loop {
            let temp = self.temp(path)?;
            let file = create_new(&temp, mode).map_err(failed("make", &temp));
            let made = file.and_then(|file| self.fill_in(file, &temp, mode, fill));
            let renamed = made.and_then(|()| match fs::rename(&temp, path) {
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => Ok(false),
                other => other.map(|()| true).map_err(failed("write", path)),
            });
            match renamed {
                Ok(true) => return Ok(()),
                Ok(false) => self.beside.store(true, Ordering::Relaxed),
                Err(_) => {}
            }
            remove_if_there(&temp).map_err(failed("remove", &temp))?;
            renamed?;
        }
    }

    fn fill_in(
        &self,
        mut file: File,
        path: &Path,
        mode: u32,
        fill: &mut dyn FnMut(&mut File) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        fill(&mut file)?;
        let made = file.metadata().map_err(failed("look at", path))?;
        // The umask may have taken some of it, and it never gives set-user-id bits.
        if made.permissions().mode() & 0o7777 != mode & 0o7777 {
            let permissions = fs::Permissions::from_mode(mode & 0o7777);
            file.set_permissions(permissions).map_err(failed("set the mode of", path))?;
        }
        self.give_stamp(&file, &made, path)
    }

    fn give_stamp(&self, file: &File, made: &fs::Metadata, path: &Path) -> Result<(), StoreError> {
        let modified = made.modified().map_err(failed("look at", path))?;
        let stamp = *self.stamp.get_or_init(|| modified);
        if modified == stamp { Ok(()) } else { file.set_modified(stamp).map_err(failed("set the stamp of", path)) }
    }

    fn temp(&self, path: &Path) -> Result<PathBuf, StoreError> {
        if self.beside.load(Ordering::Relaxed) {
            return Ok(temporary(path));
        }
        Ok(self.site.state.staging()?.fresh())
    }

    fn link(&self, path: &Path, target: &Path) -> Result<(), StoreError> {
        match symlink(target, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map_err(failed("make", path)),
        }
        let temp = temporary(path);
        symlink(target, &temp).and_then(|()| fs::rename(&temp, path)).map_err(failed("make", path))
    }

    /// `false` where the file system has no clones.
    fn clone_file(&self, from: &Path, path: &Path, mode: u32) -> Result<bool, StoreError> {
        if !self.site.state.has_clones() {
            return Ok(false);
        }
        let temp = self.temp(path)?;
        if reflink_copy::reflink(from, &temp).is_err() {
            self.site.state.has_no_clones();
            remove_if_there(&temp).map_err(failed("remove", &temp))?;
            return Ok(false);
        }
        let set = stat::set_mode(&temp, mode).map_err(failed("set the mode of", &temp)).and_then(|()| {
            let file = OpenOptions::new().read(true).open(&temp).map_err(failed("open", &temp))?;
            let made = file.metadata().map_err(failed("look at", &temp))?;
            self.give_stamp(&file, &made, &temp)?;
            fs::rename(&temp, path).map_err(failed("write", path))
        });
        if set.is_err() {
            remove_if_there(&temp).map_err(failed("remove", &temp))?;
        }
        set.map(|()| true)
    }
}

/// Without set-user-id bits: writing would clear them.
fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode & 0o777).open(path)
}

/// What is kept from one file to the next.
#[derive(Default)]
pub(in crate::store) struct Reading {
    buffer: Vec<u8>,
    /// The last one, and its number: small files share one.
    frame: Option<(usize, Vec<u8>)>,
}

impl Reading {
    /// The bytes of a file as the step made them, wherever they are, checked.
    pub(in crate::store) fn pour(
        &mut self,
        piece: &Piece,
        digest: &Digest,
        to: &mut impl Write,
        path: &Path,
    ) -> Result<(), StoreError> {
        match piece.bytes {
            Bytes::Stored(pack, slice) => stream(pack, slice, digest, to, path, &mut self.frame),
            Bytes::Layer(dir) => copy(&dir.join(piece.path), digest, to, path, &mut self.buffer),
            Bytes::None => panic!("BUG: a file has bytes"),
        }
    }
}

/// A file of several frames, or none. `last`: the frame that was loaded last, of the same pack.
fn stream(
    pack: &Pack,
    slice: Slice,
    digest: &Digest,
    file: &mut impl Write,
    path: &Path,
    last: &mut Option<(usize, Vec<u8>)>,
) -> Result<(), StoreError> {
    let mut hasher = blake3::Hasher::new();
    let frames = pack.frames_of(slice);
    for index in frames.clone() {
        let known = last.take().filter(|(known, _)| *known == index);
        let frame = known.map_or_else(|| pack.load(index), |(_, frame)| Ok(frame))?;
        let part = pack.part(slice, index, &frame);
        hasher.update(part);
        file.write_all(part).map_err(failed("write", path))?;
        *last = Some((index, frame));
    }
    if Digest::from_bytes(*hasher.finalize().as_bytes()) != *digest { Err(pack.lost(frames)) } else { Ok(()) }
}

/// A file of an unpacked layer, checked as it passes.
fn copy(
    from: &Path,
    digest: &Digest,
    file: &mut impl Write,
    path: &Path,
    buffer: &mut Vec<u8>,
) -> Result<(), StoreError> {
    buffer.resize(MAX_FRAME as usize / 4, 0);
    let mut hasher = blake3::Hasher::new();
    let mut source = File::open(from).map_err(failed("read", from))?;
    loop {
        let read = read_full(&mut source, buffer).map_err(failed("read", from))?;
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(failed("write", path))?;
        if read < buffer.len() {
            break;
        }
    }
    if Digest::from_bytes(*hasher.finalize().as_bytes()) == *digest {
        Ok(())
    } else {
        Err(StoreError::LayerDamaged(from.to_owned()))
    }
}
