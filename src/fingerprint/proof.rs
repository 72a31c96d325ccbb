//! The proof that nothing changed: what a run that found every step fresh had looked at. The next run
//! of the same request checks these facts, and only if one does not hold does it think again.
//!
//! One file per request, in `.bcache/proofs/`. It holds the answer (a label, a count, the outputs of what was named), the variables
//! that were asked for, and every path that was looked at with what was seen there: manifests, inputs,
//! the directories behind globs, tools and the places passed over on PATH, outputs and installed files; and places in which a
//! link would change the meaning of a name.
//! Checking costs one `lstat` a path; a path whose stamps were too young to be believed is read again. Of working
//! copies of git it holds what they are, not their files: those are in the memory of [`git`], and checked there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::base::digest::{Digest, Hasher};
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::{Instant, Kind, Stat};

use super::env::Outside;
use super::files::{Observation, still_holds};
use super::git;

pub(super) const FORMAT: Format = Format { magic: b"bcproof\n", version: 5 };
/// Requests whose proofs are kept.
const KEPT: usize = 32;
/// A second thread pays from about here on.
const PARALLEL_FROM: usize = 1500;
/// Paths that a thread takes at once.
const CHUNK: usize = 64;

/// What is said again when the proof holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub label: String,
    pub fresh: usize,
    pub warnings: Vec<String>,
    /// What `path` can be asked for, where one step was named.
    pub outputs: Vec<OsString>,
    /// It holds only where there are still no namespaces, which no fact can tell.
    pub without_namespaces: bool,
}

/// What an answer rests on.
#[derive(Default)]
pub struct Facts {
    /// Variables that were asked for.
    pub vars: Vec<(OsString, Option<Digest>)>,
    pub paths: Vec<(PathBuf, Observation)>,
    /// Paths at which there is no link.
    pub plain: Vec<PathBuf>,
    pub git: Vec<git::Fact>,
}

#[derive(Serialize)]
struct Written<'a> {
    answer: &'a Answer,
    vars: &'a [(OsString, Option<Digest>)],
    paths: Vec<(&'a [u8], Observation)>,
    plain: Vec<&'a [u8]>,
    git: &'a [git::Fact],
}

#[derive(Deserialize)]
struct Stored<'a> {
    answer: Answer,
    vars: Vec<(OsString, Option<Digest>)>,
    #[serde(borrow)]
    paths: Vec<(&'a [u8], Observation)>,
    #[serde(borrow)]
    plain: Vec<&'a [u8]>,
    git: Vec<git::Fact>,
}

/// The file of a request's proof.
pub fn file(state: &Path, request: &Digest) -> PathBuf {
    state.join("proofs").join(request.short())
}

/// What a request is, as far as it has a say in the answer.
pub fn request_digest(parts: &[&OsStr]) -> Digest {
    let mut hasher = Hasher::new("bcache request 1");
    hasher.number(parts.len() as u64);
    for part in parts {
        hasher.bytes(part.as_bytes());
    }
    hasher.finish()
}

/// Keeps a proof; the oldest go when there are many.
pub fn write(file: &Path, answer: &Answer, facts: &Facts) -> std::io::Result<()> {
    let Facts { vars, paths, plain, git } = facts;
    let paths = paths.iter().map(|(path, seen)| (path.as_os_str().as_bytes(), *seen)).collect();
    let plain = plain.iter().map(|path| path.as_os_str().as_bytes()).collect();
    publish(file, &FORMAT.seal(&Written { answer, vars, paths, plain, git }))?;
    let dir = file.parent().unwrap_or(Path::new("."));
    let mut others: Vec<_> = std::fs::read_dir(dir)?
        .flatten()
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    if others.len() > KEPT {
        others.sort();
        for (_, path) in &others[..others.len() - KEPT] {
            // Another process may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

/// One observation for each path. `None` where two don't agree: an output that is an input too was looked at twice.
pub fn united(mut seen: Vec<(PathBuf, Observation)>) -> Option<Vec<(PathBuf, Observation)>> {
    // What was read comes before what was only looked at: stamps that are too young say nothing without the content.
    seen.sort_by(|(a, one), (b, other)| a.cmp(b).then(one.digest.is_none().cmp(&other.digest.is_none())));
    let agree = seen.windows(2).all(|pair| {
        let [(path, one), (next, other)] = pair else { return true };
        let same_content = other.digest.is_none() || one.digest == other.digest;
        path != next || (one.stat == other.stat && same_content)
    });
    seen.dedup_by(|next, kept| next.0 == kept.0);
    agree.then_some(seen)
}

/// The answer, if every fact of the proof still holds.
pub fn check(file: &Path, outside: &Outside) -> Option<Answer> {
    let bytes = std::fs::read(file).ok()?;
    let stored: Stored = FORMAT.open_borrowed(&bytes).ok()?;
    if !stored.vars.iter().all(|(name, digest)| outside.digest(name) == *digest) {
        return None;
    }
    let refreshed = hold(&stored.paths, &stored.plain)?;
    let state = file.parent().and_then(Path::parent)?;
    if !stored.git.iter().all(|fact| git::still_holds(state, fact)) {
        return None;
    }
    if !refreshed.is_empty() {
        let mut paths: Vec<(PathBuf, Observation)> =
            stored.paths.iter().map(|(p, o)| (PathBuf::from(OsStr::from_bytes(p)), *o)).collect();
        for (at, seen) in refreshed {
            paths[at].1 = seen;
        }
        let plain = stored.plain.iter().map(|path| PathBuf::from(OsStr::from_bytes(path))).collect();
        // Only a convenience for the next run.
        let _ = write(file, &stored.answer, &Facts { vars: stored.vars, paths, plain, git: stored.git });
    }
    Some(stored.answer)
}

/// Do all the facts hold? Gives those that had to be read, as they can be believed from now on.
fn hold(paths: &[(&[u8], Observation)], plain: &[&[u8]]) -> Option<Vec<(usize, Observation)>> {
    let is_link = |path: &&[u8]| {
        Stat::read(Path::new(OsStr::from_bytes(path))).is_ok_and(|stat| stat.is_some_and(|s| s.kind == Kind::Symlink))
    };
    let facts = paths.len() + plain.len();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut refreshed = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            if start >= facts {
                break;
            }
            // Those come after the paths.
            let end = (start + CHUNK).min(facts).saturating_sub(paths.len());
            if plain[start.saturating_sub(paths.len()).min(end)..end].iter().any(is_link) {
                failed.store(true, Ordering::Relaxed);
            }
            for (at, (path, seen)) in paths.iter().enumerate().skip(start).take(CHUNK) {
                match one(Path::new(OsStr::from_bytes(path)), seen) {
                    Held::Yes => {}
                    Held::Refreshed(seen) => refreshed.push((at, seen)),
                    Held::No => {
                        failed.store(true, Ordering::Relaxed);
                        return refreshed;
                    }
                }
            }
        }
        refreshed
    };
    let refreshed = if facts < PARALLEL_FROM {
        work()
    } else {
        std::thread::scope(|scope| {
            let other = scope.spawn(work);
            let mut mine = work();
            match other.join() {
                Ok(theirs) => mine.extend(theirs),
                Err(_) => failed.store(true, Ordering::Relaxed),
            }
            mine
        })
    };
    (!failed.load(Ordering::Relaxed)).then_some(refreshed)
}

enum Held {
    Yes,
    Refreshed(Observation),
    No,
}

fn one(path: &Path, seen: &Observation) -> Held {
    let now = Instant::now();
    let Ok(stat) = Stat::read(path) else { return Held::No };
    if stat == seen.stat && seen.settled {
        return Held::Yes;
    }
    // Only looked at, not read: the stat record is all there is to hold.
    if seen.digest.is_none() {
        return if stat == seen.stat { Held::Yes } else { Held::No };
    }
    if !still_holds(path, seen) {
        return Held::No;
    }
    match (stat, Stat::read(path)) {
        (Some(before), Ok(Some(after))) if before == after => {
            Held::Refreshed(Observation { stat, settled: before.is_settled(now), digest: seen.digest })
        }
        _ => Held::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::files::Files;

    fn seen(name: &str, digest: Option<&str>) -> (PathBuf, Observation) {
        let digest = digest.map(|text| Digest::of(text.as_bytes()));
        (PathBuf::from(name), Observation { stat: None, settled: false, digest })
    }

    fn facts(files: &Files) -> Facts {
        let paths = [files.account(), files.pinned_young()].concat();
        Facts { paths, plain: files.plain(), ..Facts::default() }
    }

    #[test]
    fn of_a_path_that_was_looked_at_and_read_the_content_counts() {
        let united = united(vec![seen("b", None), seen("a", None), seen("b", Some("bytes"))]);
        assert_eq!(united, Some(vec![seen("a", None), seen("b", Some("bytes"))]));
    }

    #[test]
    fn a_pinned_program_with_young_stamps_is_read_again_and_must_be_that_very_file() {
        let dir = tempfile::tempdir().unwrap();
        let (program, file) = (dir.path().join("program"), dir.path().join("proofs/x"));
        std::fs::create_dir(dir.path().join("proofs")).unwrap();
        std::fs::write(&program, "one").unwrap();
        let stat = Stat::read(&program).unwrap().unwrap();
        let answer = Answer {
            label: String::new(),
            fresh: 1,
            warnings: Vec::new(),
            outputs: Vec::new(),
            without_namespaces: false,
        };
        // Written twice within a tick, and read in between.
        for (read, is_as_read) in [("one", true), ("two", false)] {
            let files = Files::default();
            files.learn(&program, stat, false, Digest::of(read.as_bytes()));
            files.pin(&program);
            write(&file, &answer, &facts(&files)).unwrap();
            let outside = Outside::new(std::iter::empty());
            for _ in 0..2 {
                assert_eq!(check(&file, &outside), is_as_read.then(|| answer.clone()), "{read}");
            }
        }
        let files = Files::default();
        files.learn(&program, stat, false, Digest::of(b"one"));
        files.pin(&program);
        write(&file, &answer, &facts(&files)).unwrap();
        std::fs::write(dir.path().join("new"), "one").unwrap();
        std::fs::rename(dir.path().join("new"), &program).unwrap();
        assert_eq!(check(&file, &Outside::new(std::iter::empty())), None, "installed anew");
    }

    #[test]
    fn two_contents_of_a_path_are_no_fact() {
        assert_eq!(united(vec![seen("a", Some("old")), seen("a", Some("new")), seen("a", None)]), None);
    }
}
