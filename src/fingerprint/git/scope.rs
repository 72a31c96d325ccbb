//! Which part of a working copy is meant.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::digest::{Digest, Hasher};
use crate::graph::InputPattern;
use crate::graph::pattern::Pattern;

/// What part of a working copy is meant.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Absolute: the root of a working copy, or any directory in one.
    pub dir: PathBuf,
    /// Below `dir`; empty: everything.
    pub paths: Vec<InputPattern>,
    /// Does the commit count that is checked out?
    pub head: bool,
    /// Taken away: outputs, prefixes, target directories.
    pub without: Vec<Pattern>,
    /// As people know it.
    pub shown: String,
}

impl Scope {
    /// What the memory of it is found by.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("bcache git scope 1");
        hasher.bytes(self.dir.as_os_str().as_bytes()).number(u64::from(self.head));
        hasher.number(self.paths.len() as u64);
        for path in &self.paths {
            hasher.number(u64::from(path.exclude)).bytes(path.pattern.path.as_os_str().as_bytes());
        }
        hasher.number(self.without.len() as u64);
        for pattern in &self.without {
            hasher.bytes(pattern.path.as_os_str().as_bytes());
        }
        hasher.finish()
    }
}

/// How much of a directory is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    All,
    /// What a pattern matches in it.
    Some,
    None,
}

/// A scope, to be asked about paths from its root.
pub struct Filter<'s> {
    scope: &'s Scope,
    /// The root by its real name: what is taken away may be named by either.
    real: &'s Path,
    takes: Vec<&'s Pattern>,
    leaves: Vec<&'s Pattern>,
}

impl<'s> Filter<'s> {
    pub fn new(scope: &'s Scope, real: &'s Path, always: &'s [Pattern]) -> Self {
        let takes = scope.paths.iter().filter(|path| !path.exclude).map(|path| &path.pattern).collect();
        let excluded = scope.paths.iter().filter(|path| path.exclude).map(|path| &path.pattern);
        // What lies elsewhere can't be met. A scope in what a task makes is what that made.
        let may_meet = |pattern: &&Pattern| {
            let fixed = pattern.fixed_part();
            let near = [scope.dir.as_path(), real].iter().any(|dir| fixed.starts_with(dir) || dir.starts_with(&fixed));
            near && !pattern.covers(&scope.dir) && !pattern.covers(real)
        };
        let taken_away = scope.without.iter().chain(always).filter(may_meet);
        let leaves = excluded.chain(taken_away).collect();
        Self { scope, real, takes, leaves }
    }

    pub fn root(&self) -> Reach {
        let dir = &self.scope.dir;
        if self.leaves.iter().any(|pattern| pattern.covers(dir) || pattern.covers(self.real)) {
            return Reach::None;
        }
        if self.takes.is_empty() { Reach::All } else { self.among(dir) }
    }

    /// `above` is that of the directory that it lies in.
    pub fn dir(&self, path: &[u8], above: Reach) -> Reach {
        if self.is_left(path) {
            return Reach::None;
        }
        if above == Reach::All { Reach::All } else { self.among(&self.named(path)) }
    }

    pub fn file(&self, path: &[u8], above: Reach) -> bool {
        let is_taken = || self.takes.iter().any(|pattern| pattern.matches(&self.named(path)));
        !self.is_left(path) && (above == Reach::All || is_taken())
    }

    fn named(&self, path: &[u8]) -> PathBuf {
        self.scope.dir.join(OsStr::from_bytes(path))
    }

    fn among(&self, dir: &Path) -> Reach {
        if self.takes.iter().any(|pattern| pattern.covers(dir)) {
            Reach::All
        } else if self.takes.iter().any(|pattern| pattern.may_match_below(dir)) {
            Reach::Some
        } else {
            Reach::None
        }
    }

    /// The directories above are known to be left in.
    fn is_left(&self, path: &[u8]) -> bool {
        if self.leaves.is_empty() {
            return false;
        }
        let named = self.named(path);
        let real = self.real.join(OsStr::from_bytes(path));
        self.leaves.iter().any(|pattern| pattern.matches(&named) || pattern.matches(&real))
    }
}
