//! Digests of files, remembered by stat record.
//!
//! An entry is believed when device, inode, size, mode and both stamps are the same *and* the entry was
//! settled when it was made (see [`crate::base::stat`]); else the file is read again. A file that changes
//! while it is read is read again, three times at most.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::base::digest::{Digest, Hasher};
use crate::base::paths::escaped;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::{Instant, Kind, Stat};

use super::looker::{self, Looker};

pub(super) const FORMAT: Format = Format { magic: b"bcfiles\n", version: 1 };
/// Saves that an entry survives without being used.
const MAX_AGE: u8 = 50;
const SHARDS: usize = 16;

/// What was seen at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Observation {
    /// `None`: there was nothing.
    pub stat: Option<Stat>,
    pub settled: bool,
    /// Of a file's bytes, a link's text, a directory's names and kinds. `None` where only the stat
    /// record was looked at (or there was nothing).
    pub digest: Option<Digest>,
}

/// Names in a directory and what they are, in byte order.
pub type Listing = Vec<(OsString, Kind)>;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read `{}`: {error}", escaped(path))]
    Read { path: PathBuf, error: io::Error },
    #[error("`{}` changes while it is read", escaped(path))]
    Unstable { path: PathBuf },
    #[error("`{}` is a device, socket or pipe", escaped(path))]
    Special { path: PathBuf },
    #[error("`{}`: too many levels of symbolic links", escaped(path))]
    LinkLoop { path: PathBuf },
}

impl FileError {
    /// Is there no way to it for us?
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Read { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }

    pub(super) fn is_link_loop(&self) -> bool {
        match self {
            Self::LinkLoop { .. } => true,
            Self::Read { error, .. } => error.raw_os_error() == Some(libc::ELOOP),
            Self::Unstable { .. } | Self::Special { .. } => false,
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    observation: Observation,
    sha256: Option<[u8; 32]>,
    age: u8,
    #[serde(skip)]
    listing: Option<Arc<Listing>>,
    /// Looked at by this process.
    #[serde(skip)]
    current: bool,
    /// Of more interest than its contents: see [`Files::pin`].
    #[serde(skip)]
    pinned: bool,
    /// Who of this process has looked at it as it is here.
    #[serde(skip)]
    looker: Looker,
}

impl Entry {
    fn new(observation: Observation, listing: Option<Listing>) -> Self {
        let listing = listing.map(Arc::new);
        Self { observation, sha256: None, age: 0, listing, current: true, pinned: false, looker: looker::current() }
    }

    /// Seen once more as it is here.
    fn seen_again(&mut self) {
        let looker = looker::current();
        self.looker = if self.current { self.looker.and(looker) } else { looker };
        self.current = true;
    }

    /// What was seen, for an account: of what is pinned the stat record is all that counts, once it may be believed.
    fn fact(&self) -> Observation {
        let digest = self.observation.digest.filter(|_| !(self.pinned && self.observation.settled));
        Observation { digest, ..self.observation }
    }
}

#[derive(Default)]
pub struct Files {
    shards: [Mutex<HashMap<PathBuf, Entry>>; SHARDS],
    hasher: RandomState,
    /// Paths that looked different from one look of this process to the next, and who saw them as they are no more.
    wavered: Mutex<BTreeMap<PathBuf, Looker>>,
    /// Paths of which it is known that they are no links.
    plain: Mutex<BTreeSet<PathBuf>>,
}

impl Files {
    /// What an earlier process left; nothing where that can't be read.
    pub fn load(path: &Path) -> Self {
        let files = Self::default();
        let Ok(bytes) = std::fs::read(path) else { return files };
        let entries: Vec<(OsString, Entry)> = FORMAT.open(&bytes).unwrap_or_default();
        for (path, entry) in entries {
            let path = PathBuf::from(path);
            files.shard(&path).insert(path, entry);
        }
        files
    }

    /// Keeps what was learned for the next process.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut kept: Vec<(OsString, Entry)> = Vec::new();
        for shard in &self.shards {
            for (path, entry) in lock(shard).iter() {
                let age = if entry.current { 0 } else { entry.age.saturating_add(1) };
                if entry.observation.digest.is_some() && age <= MAX_AGE {
                    kept.push((path.clone().into(), Entry { age, ..entry.clone() }));
                }
            }
        }
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        publish(path, &FORMAT.seal(&kept))
    }

    /// All that this process has looked at, each path as it was last seen.
    pub fn account(&self) -> Vec<(PathBuf, Observation)> {
        let mut seen = Vec::new();
        for shard in &self.shards {
            seen.extend(lock(shard).iter().filter(|(_, e)| e.current).map(|(p, e)| (p.clone(), e.fact())));
        }
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        seen
    }

    /// The stat records of what is pinned and was too young to be believed: facts beside those of its contents.
    pub fn pinned_young(&self) -> Vec<(PathBuf, Observation)> {
        let mut seen = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let young = shard.iter().filter(|(_, e)| e.current && e.pinned && !e.observation.settled);
            seen.extend(young.map(|(p, e)| (p.clone(), Observation { digest: None, ..e.observation })));
        }
        seen
    }

    /// Paths that changed while this process looked at them, and who looked before: who judged by the first look and who
    /// judged by the last one saw two worlds, and [`Files::account`] holds the last.
    pub fn wavered(&self) -> BTreeMap<PathBuf, Looker> {
        lock(&self.wavered).clone()
    }

    /// What is known of a path from `before` joins what was seen `now`.
    fn compare(&self, path: &Path, before: &Entry, now: &mut Entry) {
        now.pinned = before.pinned;
        if !before.current {
            return;
        }
        if is_alike(&before.observation, &now.observation) {
            now.looker = before.looker.and(now.looker);
        } else {
            let mut wavered = lock(&self.wavered);
            let known = wavered.entry(path.to_owned()).or_insert(before.looker);
            *known = known.and(before.looker);
        }
    }

    fn shard(&self, path: &Path) -> MutexGuard<'_, HashMap<PathBuf, Entry>> {
        let at = self.hasher.hash_one(path.as_os_str().as_bytes()) as usize % SHARDS;
        lock(&self.shards[at])
    }

    /// The stat record alone: is something there, and what is it?
    pub fn look(&self, path: &Path) -> Result<Option<Stat>, FileError> {
        let now = Instant::now();
        let stat = read_stat(path)?;
        let mut shard = self.shard(path);
        match shard.get_mut(path) {
            Some(entry) if entry.observation.stat == stat => entry.seen_again(),
            known => {
                let observation = Observation { stat, settled: stat.is_none_or(|s| s.is_settled(now)), digest: None };
                let mut entry = Entry::new(observation, None);
                known.into_iter().for_each(|known| self.compare(path, known, &mut entry));
                shard.insert(path.to_owned(), entry);
            }
        }
        Ok(stat)
    }

    /// Is there a link? That there is none is a fact of its own: it holds whatever else comes or goes there.
    pub fn is_link(&self, path: &Path) -> Result<bool, FileError> {
        let is_link = read_stat(path)?.is_some_and(|stat| stat.kind == Kind::Symlink);
        if !is_link {
            self.note_plain(path);
        }
        Ok(is_link)
    }

    pub(super) fn note_plain(&self, path: &Path) {
        let mut plain = lock(&self.plain);
        if !plain.contains(path) {
            plain.insert(path.to_owned());
        }
    }

    /// Paths at which there was no link.
    pub fn plain(&self) -> Vec<PathBuf> {
        lock(&self.plain).iter().cloned().collect()
    }

    /// The same as a fact: it holds as long as the stat record is this one.
    pub fn look_closely(&self, path: &Path) -> Result<Observation, FileError> {
        let now = Instant::now();
        let stat = self.look(path)?;
        Ok(Observation { stat, settled: stat.is_none_or(|s| s.is_settled(now)), digest: None })
    }

    /// The content of what is at `path`, links not followed.
    pub fn observe(&self, path: &Path) -> Result<Observation, FileError> {
        for _ in 0..3 {
            let now = Instant::now();
            let before = read_stat(path)?;
            if let Some(known) = self.known(path, before) {
                return Ok(known);
            }
            let Some(stat) = before else {
                let observation = Observation { stat: None, settled: true, digest: None };
                self.keep(path, observation, None);
                return Ok(observation);
            };
            let (digest, listing) = match read_digest(path, stat.kind) {
                Ok(read) => read,
                // Gone or replaced since the look: look again.
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
                Err(_) if stat.kind == Kind::Other => return Err(FileError::Special { path: path.to_owned() }),
                Err(error) => return Err(FileError::Read { path: path.to_owned(), error }),
            };
            if read_stat(path)? == before {
                let observation = Observation { stat: before, settled: stat.is_settled(now), digest: Some(digest) };
                self.keep(path, observation, listing);
                return Ok(observation);
            }
        }
        Err(FileError::Unstable { path: path.to_owned() })
    }

    fn known(&self, path: &Path, stat: Option<Stat>) -> Option<Observation> {
        let mut shard = self.shard(path);
        let entry = shard.get_mut(path)?;
        let known = entry.observation;
        let complete = known.digest.is_some() || stat.is_none();
        if known.stat == stat && known.settled && complete {
            entry.seen_again();
            return Some(known);
        }
        None
    }

    fn keep(&self, path: &Path, observation: Observation, listing: Option<Listing>) {
        let (mut shard, mut entry) = (self.shard(path), Entry::new(observation, listing));
        shard.get(path).into_iter().for_each(|before| self.compare(path, before, &mut entry));
        shard.insert(path.to_owned(), entry);
    }

    /// Something rests on this very file, and not on its bytes alone: a program that is installed anew, byte for
    /// byte, may answer with another version, since what it starts was installed with it.
    pub fn pin(&self, path: &Path) {
        if let Some(entry) = self.shard(path).get_mut(path) {
            entry.pinned = true;
        }
    }

    /// Takes over what somebody else has read (a capture, which hashes as it stores).
    pub fn learn(&self, path: &Path, stat: Stat, settled: bool, digest: Digest) {
        self.keep(path, Observation { stat: Some(stat), settled, digest: Some(digest) }, None);
    }

    /// The names in a directory, or in the one that a link leads to. Empty where there is none.
    pub fn list(&self, dir: &Path) -> Result<Arc<Listing>, FileError> {
        let observation = self.observe(dir)?;
        if observation.stat.is_some_and(|s| s.kind == Kind::Symlink) {
            return self.list(&self.resolve(dir)?);
        }
        if observation.stat.is_none_or(|s| s.kind != Kind::Dir) {
            return Ok(Arc::default());
        }
        if let Some(listing) = self.shard(dir).get(dir).and_then(|e| e.listing.clone()) {
            return Ok(listing);
        }
        // Known from an earlier process by its digest alone.
        let listing = read_listing(dir).map_err(|error| FileError::Read { path: dir.to_owned(), error })?;
        self.keep(dir, Observation { digest: Some(listing_digest(&listing)), ..observation }, Some(listing.clone()));
        Ok(Arc::new(listing))
    }

    /// SHA-256 of a file, remembered like its digest. `None` where there is no file.
    pub fn sha256(&self, path: &Path) -> Result<Option<String>, FileError> {
        let observation = self.observe(path)?;
        if observation.stat.is_none_or(|s| s.kind != Kind::File) {
            return Ok(None);
        }
        let known = self
            .shard(path)
            .get(path)
            .filter(|e| e.observation == observation && observation.settled)
            .and_then(|e| e.sha256);
        let sum = match known {
            Some(sum) => sum,
            None => {
                let sum = read_sha256(path).map_err(|error| FileError::Read { path: path.to_owned(), error })?;
                if read_stat(path)? != observation.stat {
                    return Err(FileError::Unstable { path: path.to_owned() });
                }
                if let Some(entry) = self.shard(path).get_mut(path) {
                    entry.sha256 = Some(sum);
                }
                sum
            }
        };
        Ok(Some(sum.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

/// Do two looks tell the same of a path, as far as both of them looked?
fn is_alike(before: &Observation, now: &Observation) -> bool {
    let contents = match (before.digest, now.digest) {
        (Some(before), Some(now)) => Some(before == now),
        _ => None,
    };
    let shape = |o: &Observation| o.stat.map(|s| (s.kind, s.mode));
    match contents {
        Some(same) => same && shape(before) == shape(now),
        None => before.stat == now.stat,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn read_stat(path: &Path) -> Result<Option<Stat>, FileError> {
    Stat::read(path).map_err(|error| FileError::Read { path: path.to_owned(), error })
}

fn read_digest(path: &Path, kind: Kind) -> io::Result<(Digest, Option<Listing>)> {
    match kind {
        Kind::File => Ok((Digest::of_file(path)?, None)),
        Kind::Symlink => Ok((link_digest(&std::fs::read_link(path)?), None)),
        Kind::Dir => {
            let listing = read_listing(path)?;
            Ok((listing_digest(&listing), Some(listing)))
        }
        Kind::Other => Err(io::Error::other("not a file")),
    }
}

pub fn link_digest(text: &Path) -> Digest {
    Digest::of(text.as_os_str().as_bytes())
}

fn read_listing(dir: &Path) -> io::Result<Listing> {
    let mut listing = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = match entry.file_type() {
            Ok(t) if t.is_file() => Kind::File,
            Ok(t) if t.is_dir() => Kind::Dir,
            Ok(t) if t.is_symlink() => Kind::Symlink,
            _ => Kind::Other,
        };
        listing.push((entry.file_name(), kind));
    }
    listing.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    Ok(listing)
}

fn listing_digest(listing: &Listing) -> Digest {
    let mut hasher = Hasher::new("bcache listing 1");
    for (name, kind) in listing {
        hasher.bytes(name.as_bytes()).number(*kind as u64);
    }
    hasher.finish()
}

/// Looks once more whether an observation still holds; reads only what its stat record leaves open.
pub fn still_holds(path: &Path, seen: &Observation) -> bool {
    let Ok(stat) = Stat::read(path) else { return false };
    match (stat, &seen.stat) {
        (None, None) => true,
        (Some(now), Some(then)) if now == *then && seen.settled => true,
        (Some(now), Some(then)) => {
            let alike =
                now.kind == then.kind && now.mode == then.mode && (now.size == then.size || now.kind == Kind::Dir);
            let Some(digest) = seen.digest.filter(|_| alike) else { return false };
            read_digest(path, now.kind).is_ok_and(|(found, _)| found == digest)
        }
        _ => false,
    }
}

fn read_sha256(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Sets the modification time back, as `touch -d` does; the change time can't be.
    fn age(path: &Path) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn what_was_not_used_for_as_long_as_can_be_counted_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let memory = dir.path().join("files");
        for (age, kept) in [(MAX_AGE - 1, 1), (MAX_AGE, 0), (u8::MAX, 0)] {
            let observation = Observation { stat: None, settled: true, digest: Some(Digest::of(b"x")) };
            let entry = Entry { age, ..Entry::new(observation, None) };
            fs::write(&memory, FORMAT.seal(&vec![(OsString::from("f"), entry)])).unwrap();
            Files::load(&memory).save(&memory).unwrap();
            let left: Vec<(OsString, Entry)> = FORMAT.open(&fs::read(&memory).unwrap()).unwrap();
            assert_eq!(left.len(), kept, "{age}");
        }
    }

    #[test]
    fn an_edit_of_the_same_size_and_modification_time_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let files = Files::default();
        fs::write(&path, "one").unwrap();
        age(&path);
        let first = files.observe(&path).unwrap();
        let mtime = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
        assert_ne!(files.observe(&path).unwrap().digest, first.digest);
    }

    #[test]
    fn a_young_observation_is_never_believed_and_an_old_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "x").unwrap();
        let files = Files::default();
        let mut stat = Stat::read(&path).unwrap().unwrap();
        files.learn(&path, stat, false, Digest::of(b"a lie"));
        assert_eq!(files.observe(&path).unwrap().digest, Some(Digest::of(b"x")));
        files.learn(&path, stat, true, Digest::of(b"remembered"));
        assert_eq!(files.observe(&path).unwrap().digest, Some(Digest::of(b"remembered")));
        stat.ino += 1;
        files.learn(&path, stat, true, Digest::of(b"another file"));
        assert_eq!(files.observe(&path).unwrap().digest, Some(Digest::of(b"x")));
    }

    #[test]
    fn what_is_saved_is_loaded_and_a_damaged_file_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, state) = (dir.path().join("f"), dir.path().join("state"));
        fs::write(&path, "x").unwrap();
        let stat = Stat::read(&path).unwrap().unwrap();
        let files = Files::default();
        files.learn(&path, stat, true, Digest::of(b"remembered"));
        files.save(&state).unwrap();
        assert_eq!(Files::load(&state).observe(&path).unwrap().digest, Some(Digest::of(b"remembered")));
        fs::write(&state, "junk").unwrap();
        assert_eq!(Files::load(&state).observe(&path).unwrap().digest, Some(Digest::of(b"x")));
    }

    #[test]
    fn a_name_added_to_a_directory_changes_its_observation() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::default();
        let seen = files.observe(dir.path()).unwrap();
        assert!(still_holds(dir.path(), &seen));
        fs::write(dir.path().join("new"), "").unwrap();
        assert!(!still_holds(dir.path(), &seen));
    }

    #[test]
    fn sha256_is_that_of_the_standard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "abc").unwrap();
        let sum = Files::default().sha256(&path).unwrap().unwrap();
        assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Files::default().sha256(&dir.path().join("none")).unwrap(), None);
    }
}
