//! Builds under way in this worktree: one file each in `.bcache/builds/`, named by the build's mark and locked
//! as long as the build lives.
//!
//! All processes that a build starts bear its mark ([`crate::execute::orphans`] says how). A file that nobody has
//! locked is of a build that was killed: what bears its mark is to be ended before anybody believes what lies
//! here. It is made with the first process that a build starts, so an up-to-date build makes none.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::base::disk;

use super::files::entries_of;
use super::lock::{Passing, Sharing, try_lock};
use super::state::State;

/// Marks begin here: far above any number that means something where the mark is put.
const LEAST: u64 = 1 << 62;

/// A number that no other build has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mark(u64);

impl Mark {
    fn random() -> Self {
        // Its keys come from the system's source of randomness.
        let random = RandomState::new().hash_one(std::process::id());
        Self(random % LEAST + LEAST)
    }

    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Mark {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What is no mark of ours names nobody's processes.
        u64::from_str_radix(text, 16).map(|number| Self(number % LEAST + LEAST))
    }
}

/// A build under way, or one that was killed, with its file locked. Dropped, the file goes.
#[derive(Debug)]
pub struct BuildNote {
    pub mark: Mark,
    passing: Passing,
}

impl BuildNote {
    pub fn path(&self) -> &Path {
        &self.passing.path
    }
}

impl State {
    /// Says that a build is under way which has processes.
    pub fn note_build(&self) -> io::Result<BuildNote> {
        loop {
            let mark = Mark::random();
            let path = place(self.dir()).join(mark.to_string());
            // Who looks for killed builds at this moment may have it.
            if let Some(file) = try_lock(&path, Sharing::Exclusive).map_err(disk::at(&path))? {
                return Ok(BuildNote { mark, passing: Passing { path, _file: file } });
            }
        }
    }

    /// The builds that were killed. Each is ours to clear up as long as it is held.
    pub fn killed_builds(&self) -> io::Result<Vec<BuildNote>> {
        killed(self.dir())
    }
}

/// Was a build of the worktree at `root` killed, and is not cleared up yet?
pub fn has_killed_build(root: &Path) -> bool {
    match notes(&root.join(".bcache")) {
        Ok(notes) => notes.iter().any(|(_, path)| !matches!(try_lock(path, Sharing::Shared), Ok(None))),
        // Whoever opens the state will say what is wrong with it.
        Err(_) => true,
    }
}

fn place(state: &Path) -> PathBuf {
    state.join("builds")
}

/// Of the living and the dead.
fn notes(state: &Path) -> io::Result<Vec<(Mark, PathBuf)>> {
    let entries = entries_of(&place(state))?.into_iter();
    Ok(entries.filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path()))).collect())
}

fn killed(state: &Path) -> io::Result<Vec<BuildNote>> {
    let mut found = Vec::new();
    for (mark, path) in notes(state)? {
        if let Some(file) = try_lock(&path, Sharing::Exclusive).map_err(disk::at(&path))? {
            found.push(BuildNote { mark, passing: Passing { path, _file: file } });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_known_as_killed_only_when_nobody_holds_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        assert!(!has_killed_build(dir.path()));
        let note = state.note_build().unwrap();
        assert!(state.killed_builds().unwrap().is_empty() && !has_killed_build(dir.path()));
        let (path, mark) = (note.path().to_owned(), note.mark);
        drop(note);
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        assert!(has_killed_build(dir.path()));
        let killed = state.killed_builds().unwrap();
        assert_eq!(killed.iter().map(|k| k.mark).collect::<Vec<_>>(), [mark]);
        drop(killed);
        assert!(!path.exists() && !has_killed_build(dir.path()));
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_differs_from_every_other() {
        let marks: Vec<Mark> = (0..100).map(|_| Mark::random()).collect();
        assert!(marks.iter().all(|m| m.to_string().parse() == Ok(*m) && m.number() >= LEAST));
        assert_eq!(marks.iter().collect::<std::collections::HashSet<_>>().len(), 100);
    }
}
