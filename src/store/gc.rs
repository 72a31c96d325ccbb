//! What is in the store, and what goes when it is too much: the least recently used results first,
//! then the frames that no result refers to. What a running build has used since it began stays.
//!
//! A collection has the store for itself; lookups, captures and restores hold it shared. So a frame
//! without a result is garbage for certain.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::action::{ActionKey, ActionResult};
use crate::base::digest::Digest;
use crate::base::ids::StepId;
use crate::base::publish::is_temporary;
use crate::base::sealed::Unreadable;
use crate::base::stat::Stat;

use super::cas::{Store, read_frame, unpress};
use super::coherent::is_coherent;
use super::error::{StoreError, failed};
use super::files::{disk_usage, entries_of, is_of_the_file, read_at_most, remove_tree};
use super::lock::{Sharing, try_lock, wait_lock};
use super::path_sets::{MAX_PATH_SETS, PATH_SETS, PathSet};
use super::results::{MAX_RESULT, RESULT};
use super::scratch::{sweep, sweep_temporaries};

/// Stamps are as coarse as the file system's clock: what is this little older than a build is spared.
const MARGIN: i64 = 2_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GcReport {
    /// Bytes on disk.
    pub before: u64,
    pub after: u64,
    /// Results and fetched sources that were dropped.
    pub dropped: usize,
    /// Results and sources that were due but in use by a running build.
    pub spared: usize,
}

/// One result, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub key: ActionKey,
    pub step: StepId,
    pub files: usize,
    /// Bytes of the files, uncompressed.
    pub bytes: u64,
    /// The workspace that alone it answers in, as it is shown.
    pub bound_to: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// Nanoseconds since 1970.
    pub last_used: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    pub results: usize,
    pub frames: usize,
    pub sources: usize,
    /// Bytes on disk.
    pub used: u64,
    /// Bytes of all results' files, each result for itself.
    pub represented: u64,
    pub limit: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    pub frames: usize,
    pub results: usize,
    pub damaged: Vec<Damaged>,
}

/// A file of the store that was not what it should be, and the results that went with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged {
    pub path: PathBuf,
    pub steps: Vec<StepId>,
}

/// A file of the store.
struct Kept {
    path: PathBuf,
    size: u64,
    /// Nanoseconds since 1970.
    used: i64,
}

#[derive(Default)]
struct Census {
    results: Vec<(Kept, ActionResult)>,
    damaged: Vec<Kept>,
    /// Results of another version, and what is no result or frame at all.
    foreign: Vec<Kept>,
    frames: HashMap<Digest, Kept>,
    sources: Vec<Kept>,
    /// Path sets, which are small and lead to results.
    paths: Vec<Kept>,
}

impl Census {
    fn take(store: &Store) -> Result<Self, StoreError> {
        let mut census = Self::default();
        for kept in files_two_deep(&store.root().join("results"))? {
            // Also a whole one: nobody will look it up.
            if is_temporary(&kept.path) {
                census.foreign.push(kept);
                continue;
            }
            let Some(bytes) = bytes_of(&kept, MAX_RESULT)? else {
                census.damaged.push(kept);
                continue;
            };
            match RESULT.open::<ActionResult>(&bytes) {
                Ok(result) if is_coherent(&result) => census.results.push((kept, result)),
                Err(Unreadable::Version(_)) => census.foreign.push(kept),
                Ok(_) | Err(Unreadable::Damaged | Unreadable::Foreign) => census.damaged.push(kept),
            }
        }
        for kept in files_two_deep(&store.root().join("frames"))? {
            let name = kept.path.file_name().and_then(|name| name.to_str());
            match name.and_then(|name| name.parse().ok()) {
                Some(digest) => drop(census.frames.insert(digest, kept)),
                None => census.foreign.push(kept),
            }
        }
        for kept in files_two_deep(&store.root().join("paths"))? {
            let Some(bytes) = bytes_of(&kept, MAX_PATH_SETS)? else {
                census.damaged.push(kept);
                continue;
            };
            match PATH_SETS.open::<Vec<PathSet>>(&bytes) {
                Ok(_) if !is_temporary(&kept.path) => census.paths.push(kept),
                Ok(_) | Err(Unreadable::Version(_)) => census.foreign.push(kept),
                Err(_) if is_temporary(&kept.path) => census.foreign.push(kept),
                Err(Unreadable::Damaged | Unreadable::Foreign) => census.damaged.push(kept),
            }
        }
        census.sources = files_in(&store.root().join("sources"))?;
        Ok(census)
    }

    fn used(&self) -> u64 {
        let results = self.results.iter().map(|(kept, _)| kept);
        results
            .chain(&self.damaged)
            .chain(&self.foreign)
            .chain(self.frames.values())
            .chain(&self.sources)
            .chain(&self.paths)
            .map(|kept| kept.size)
            .sum()
    }

    /// How many results refer to each frame.
    fn references(&self) -> HashMap<Digest, usize> {
        let mut counts = HashMap::new();
        for digest in self.results.iter().flat_map(|(_, result)| stored_frames(result)) {
            *counts.entry(digest).or_insert(0) += 1;
        }
        counts
    }
}

/// Frames that no result refers to go. Returns their size.
fn remove_orphans(census: &Census, references: &HashMap<Digest, usize>) -> Result<u64, StoreError> {
    let orphans = census.frames.iter().filter(|(digest, _)| !references.contains_key(digest));
    orphans.map(|(_, kept)| remove(kept)).sum()
}

/// Each frame once.
fn stored_frames(result: &ActionResult) -> std::collections::HashSet<Digest> {
    result.content.frames.iter().filter(|frame| frame.inline.is_none()).map(|frame| frame.digest).collect()
}

fn files_two_deep(dir: &Path) -> Result<Vec<Kept>, StoreError> {
    let mut kept = Vec::new();
    for entry in entries_of(dir).map_err(failed("list", dir))? {
        // A link leads to what is not ours to collect, and what else lies there is not ours either.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kept.extend(files_in(&entry.path())?);
        }
    }
    Ok(kept)
}

fn files_in(dir: &Path) -> Result<Vec<Kept>, StoreError> {
    let mut kept = Vec::new();
    for entry in entries_of(dir).map_err(failed("list", dir))? {
        let path = entry.path();
        // A file can vanish while others are at work.
        let (Ok(meta), Ok(Some(stat))) = (entry.metadata(), Stat::read(&path)) else { continue };
        kept.push(Kept { path, size: disk_usage(&meta), used: stat.mtime });
    }
    Ok(kept)
}

impl Store {
    /// At the end of a build: collects if the limit is exceeded and nobody else uses the store.
    pub fn trim(&self) -> Result<Option<GcReport>, StoreError> {
        // What killed builds left counts in no total.
        let incoming = self.incoming();
        sweep(&incoming).map_err(failed("remove", &incoming))?;
        for dir in [self.root(), &self.root().with_file_name("host")] {
            sweep_temporaries(dir);
        }
        if self.settle_usage()?.is_some_and(|used| used <= self.limit()) {
            return Ok(None);
        }
        let lock = self.locks().join("gc");
        let Some(_lock) = try_lock(&lock, Sharing::Exclusive).map_err(failed("lock", &lock))? else { return Ok(None) };
        // Some room, or the next build would have to scan again.
        self.collect(self.limit() / 10 * 9, self.limit()).map(Some)
    }

    /// Drops what was least recently used until at most `limit` bytes are left.
    pub fn gc(&self, limit: u64) -> Result<GcReport, StoreError> {
        let _lock = self.own()?;
        self.collect(limit, limit)
    }

    /// After a commit that failed: the frames that have no result go, where nobody else is at work here. Another
    /// build may have a result by now that refers to what we put there.
    pub(super) fn drop_orphans(&self) -> Result<(), StoreError> {
        let lock = self.locks().join("gc");
        let Some(_lock) = try_lock(&lock, Sharing::Exclusive).map_err(failed("lock", &lock))? else { return Ok(()) };
        let census = Census::take(self)?;
        remove_orphans(&census, &census.references()).map(|_| ())
    }

    fn own(&self) -> Result<fs::File, StoreError> {
        let lock = self.locks().join("gc");
        wait_lock(&lock, Sharing::Exclusive).map_err(failed("lock", &lock))
    }

    /// Down to `target` if there is more than `limit`.
    fn collect(&self, target: u64, limit: u64) -> Result<GcReport, StoreError> {
        let begun = self.oldest_build().map_err(failed("look at", self.locks()))?;
        let incoming = self.incoming();
        sweep(&incoming).map_err(failed("remove", &incoming))?;
        let census = Census::take(self)?;
        let mut report = GcReport { before: census.used(), ..GcReport::default() };
        let mut left = report.before;
        let mut references = census.references();
        left -= remove_orphans(&census, &references)?;
        // Their writers died: the living ones hold the store.
        for kept in census.foreign.iter().filter(|kept| is_temporary(&kept.path)) {
            left -= remove(kept)?;
        }
        let target = if left > limit { target } else { limit };
        for candidate in by_age(&census) {
            if left <= target {
                break;
            }
            if begun.is_some_and(|begun| candidate.kept.used >= begun - MARGIN) {
                report.spared += 1;
                continue;
            }
            left -= remove(candidate.kept)?;
            report.dropped += 1;
            for digest in candidate.result.map(stored_frames).unwrap_or_default() {
                let count = references.get_mut(&digest).expect("BUG: every frame of a result was counted");
                *count -= 1;
                if let (0, Some(frame)) = (*count, census.frames.get(&digest)) {
                    left -= remove(frame)?;
                }
            }
        }
        report.after = left;
        self.set_usage(left)?;
        Ok(report)
    }

    /// All results, the most recently used first.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let mut census = Census::take(self)?;
        census.results.sort_by_key(|(kept, _)| std::cmp::Reverse(kept.used));
        let listed = |(kept, result): (Kept, ActionResult)| Listed {
            key: result.key,
            bound_to: result.bound_to,
            step: result.step,
            files: files(&result.made),
            bytes: bytes(&result.made),
            created: result.created,
            last_used: kept.used,
        };
        Ok(census.results.into_iter().map(listed).collect())
    }

    pub fn stats(&self) -> Result<Stats, StoreError> {
        let census = Census::take(self)?;
        let used = census.used();
        self.set_usage(used)?;
        Ok(Stats {
            results: census.results.len(),
            frames: census.frames.len(),
            sources: census.sources.len(),
            used,
            represented: census.results.iter().map(|(_, result)| bytes(&result.made)).sum(),
            limit: self.limit(),
        })
    }

    /// Reads everything. What is damaged is dropped, with the results that need it.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let _held = self.hold()?;
        let census = Census::take(self)?;
        let mut verified = Verified { frames: census.frames.len(), results: census.results.len(), damaged: Vec::new() };
        for kept in &census.damaged {
            remove(kept)?;
            verified.damaged.push(Damaged { path: kept.path.clone(), steps: Vec::new() });
        }
        let mut good: HashMap<Digest, bool> = HashMap::new();
        for (kept, result) in &census.results {
            for frame in &result.content.frames {
                if let Some(inline) = &frame.inline {
                    if !is_whole(inline, frame.size, &frame.digest) {
                        verified.add(kept.path.clone(), &result.step);
                        remove(kept)?;
                    }
                    continue;
                }
                let path = self.frame_path(&frame.digest);
                let is_good = match good.get(&frame.digest) {
                    Some(known) => *known,
                    None => self.check_frame(&path, frame)?,
                };
                good.insert(frame.digest, is_good);
                if !is_good {
                    verified.add(path, &result.step);
                    remove(kept)?;
                }
            }
        }
        Ok(verified)
    }

    /// A damaged one is removed.
    fn check_frame(&self, path: &Path, frame: &crate::action::Frame) -> Result<bool, StoreError> {
        let bytes = read_frame(path).map_err(failed("read", path))?;
        let good = bytes.is_some_and(|bytes| is_whole(&bytes, frame.size, &frame.digest));
        if !good {
            remove_tree(path).map_err(failed("remove", path))?;
        }
        Ok(good)
    }

    /// Empties the store. Locks stay.
    pub fn clear(&self) -> Result<(), StoreError> {
        let _lock = self.own()?;
        for part in ["results", "paths", "frames", "sources", "incoming"] {
            let dir = self.root().join(part);
            for entry in entries_of(&dir).map_err(failed("list", &dir))? {
                let path = entry.path();
                remove_tree(&path).map_err(failed("remove", &path))?;
            }
        }
        self.set_usage(0)
    }
}

impl Verified {
    fn add(&mut self, path: PathBuf, step: &StepId) {
        match self.damaged.iter_mut().find(|damaged| damaged.path == path) {
            Some(damaged) if damaged.steps.contains(step) => {}
            Some(damaged) => damaged.steps.push(step.clone()),
            None => self.damaged.push(Damaged { path, steps: vec![step.clone()] }),
        }
    }
}

struct Candidate<'a> {
    kept: &'a Kept,
    result: Option<&'a ActionResult>,
}

/// What can be dropped, least recently used first.
fn by_age(census: &Census) -> Vec<Candidate<'_>> {
    let results = census.results.iter().map(|(kept, result)| Candidate { kept, result: Some(result) });
    let others = census
        .damaged
        .iter()
        .chain(census.foreign.iter().filter(|kept| !is_temporary(&kept.path)))
        .chain(&census.sources)
        .chain(&census.paths)
        .map(|kept| Candidate { kept, result: None });
    let mut all: Vec<_> = results.chain(others).collect();
    all.sort_by_key(|candidate| candidate.kept.used);
    all
}

/// `None` where it can't be read, whatever it is. What vanished has none.
fn bytes_of(kept: &Kept, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
    match read_at_most(&kept.path, most) {
        Ok(bytes) => Ok(Some(bytes.unwrap_or_default())),
        Err(e) if is_of_the_file(&e) => Ok(None),
        Err(e) => Err(failed("read", &kept.path)(e)),
    }
}

/// Returns its size.
fn remove(kept: &Kept) -> Result<u64, StoreError> {
    remove_tree(&kept.path).map_err(failed("remove", &kept.path))?;
    Ok(kept.size)
}

fn is_whole(compressed: &[u8], size: u64, digest: &Digest) -> bool {
    unpress(compressed, size).is_some_and(|bytes| Digest::of(&bytes) == *digest)
}

fn files(made: &crate::action::Made) -> usize {
    made.outputs.file_count() + made.layer.as_ref().map_or(0, |layer| layer.file_count())
}

fn bytes(made: &crate::action::Made) -> u64 {
    made.outputs.size() + made.layer.as_ref().map_or(0, |layer| layer.size())
}
