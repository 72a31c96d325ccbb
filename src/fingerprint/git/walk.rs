//! Making a snapshot: which files count. Directories whose names are as they were are taken over from the last one;
//! the others are listed, and each name in them judged as git would.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use crate::base::stat::Kind;
use crate::fingerprint::env::Outside;

use super::ground::{self, Ground};
use super::index::Children;
use super::look::{self, Listed, Seen};
use super::object::{Mode, Oid};
use super::repository::{GitError, WorkingCopy};
use super::rules::{Chain, Rules};
use super::scope::{Filter, Reach};
use super::snapshot::{DirSeen, Fact, FileSeen, Repository, Snapshot, join};

/// What of the last snapshot can be taken over.
pub struct Known<'s> {
    pub snapshot: &'s Snapshot,
    /// Directories that are not as they were; `None`: every one must be listed.
    /// In order.
    pub stale: Option<Vec<u32>>,
    /// Files that are no more.
    pub gone: HashSet<u32>,
}

impl Known<'_> {
    fn is_stale(&self, dir: usize) -> bool {
        self.stale.as_ref().is_none_or(|stale| stale.binary_search(&(dir as u32)).is_ok())
    }

    /// Is a directory with all below it as it was?
    fn is_whole(&self, dir: usize) -> bool {
        let end = self.snapshot.dirs[dir].end;
        let next = |stale: &[u32]| stale.get(stale.partition_point(|at| *at < dir as u32)).copied();
        self.stale.as_ref().is_some_and(|stale| next(stale).is_none_or(|at| at >= end))
    }
}

const IGNORE: &str = ".gitignore";

/// The walk must begin anew, and list everything: rules came or went.
pub struct MustListAll;

/// Is told of working copies whose index only git can read.
pub type Notes<'w> = &'w dyn Fn(&Path);

pub struct Walk<'w> {
    pub root: &'w Path,
    pub filter: &'w Filter<'w>,
    pub known: Known<'w>,
    pub outside: &'w Outside,
    notes: Notes<'w>,
    pub grounds: Vec<Rc<Ground>>,
    pub out: Snapshot,
    /// Directories of `out` whose trees are known.
    planted: Vec<bool>,
    /// Files of `out` that must be looked at.
    pending: Vec<usize>,
    must_list_all: bool,
    old_facts: HashSet<Vec<u8>>,
}

/// What is left to be done on a walk.
enum Step {
    /// A directory, and the place of the one that it lies in.
    Enter(Place, usize),
    /// All below this directory is done.
    Leave(usize),
}

/// Facts each once, as they were seen last. `None` where one differs from what the last snapshot was made by.
fn settled_facts(mut facts: Vec<Fact>, old: &[Fact]) -> Option<Vec<Fact>> {
    let key = |fact: &Fact| (fact.path.clone(), fact.of.clone());
    let known: std::collections::HashMap<_, _> = old.iter().map(|fact| (key(fact), fact.digest)).collect();
    if facts.iter().any(|fact| known.get(&key(fact)).is_some_and(|digest| *digest != fact.digest)) {
        return None;
    }
    facts.reverse();
    facts.sort_by_key(key);
    facts.dedup_by_key(|fact| key(fact));
    Some(facts)
}

/// A directory that the walk enters.
struct Place {
    /// From the root of the scope.
    path: Vec<u8>,
    /// From the root of its repository: with a slash at its end, or empty.
    inner: Vec<u8>,
    ground: usize,
    entries: Range<usize>,
    ignores: Chain,
    is_ignored: bool,
    reach: Reach,
    old: Option<usize>,
    /// The commit, where the index has another repository here.
    commit: Option<Oid>,
}

impl Place {
    /// What a file of rules in the directory itself says. Git does not follow a link to one.
    fn add_rules(&mut self, fact: &Fact, text: &[u8]) {
        if fact.stat.is_some_and(|stat| stat.kind == Kind::File) {
            self.ignores = self.ignores.with(Rules::ignoring(text, self.inner.len()));
        }
    }
}

impl<'w> Walk<'w> {
    pub fn new(
        root: &'w Path,
        filter: &'w Filter<'w>,
        known: Known<'w>,
        outside: &'w Outside,
        notes: Notes<'w>,
    ) -> Self {
        let old_facts = known.snapshot.facts.iter().map(|fact| fact.path.clone()).collect();
        let facts = if known.stale.is_some() { known.snapshot.facts.clone() } else { Vec::new() };
        let out = Snapshot { facts, ..Snapshot::default() };
        Self {
            root,
            filter,
            known,
            outside,
            notes,
            grounds: Vec::new(),
            out,
            planted: Vec::new(),
            pending: Vec::new(),
            must_list_all: false,
            old_facts,
        }
    }

    /// Walks all of the scope, in the working copy that it lies in.
    pub fn run(mut self, copy: WorkingCopy, wants_head: bool) -> Result<Result<Snapshot, MustListAll>, GitError> {
        let Ok(inner) = self.root.strip_prefix(&copy.root) else {
            return Err(GitError::Elsewhere { path: self.root.to_owned() });
        };
        let mut inner = inner.as_os_str().as_bytes().to_vec();
        if !inner.is_empty() {
            inner.push(b'/');
        }
        let ground = self.enter(copy, &inner)?;
        let index = super::index::place(&self.grounds[ground].copy.gitdir);
        // Another repository than that of the last snapshot.
        self.must_list_all |= self.known.stale.is_some() && !self.old_facts.contains(index.as_os_str().as_bytes());
        let mut place = Place {
            path: Vec::new(),
            entries: self.grounds[ground].index.below(&inner),
            ignores: self.grounds[ground].ignores.clone(),
            inner: Vec::new(),
            ground,
            is_ignored: false,
            reach: self.filter.root(),
            old: (!self.known.snapshot.dirs.is_empty()).then_some(0),
            commit: None,
        };
        self.descend(&mut place, &inner)?;
        self.tree(place)?;
        if wants_head {
            let ground = Rc::clone(&self.grounds[ground]);
            self.out.dirs[0].repository = ground.described(&mut self.out.facts)?;
        }
        if self.must_list_all {
            return Ok(Err(MustListAll));
        }
        self.look()?;
        for at in (0..self.out.dirs.len()).rev().filter(|at| !self.planted[*at]) {
            self.out.plant(at);
        }
        let old = if self.known.stale.is_some() { self.known.snapshot.facts.as_slice() } else { &[] };
        match settled_facts(std::mem::take(&mut self.out.facts), old) {
            Some(facts) => self.out.facts = facts,
            None => return Ok(Err(MustListAll)),
        }
        Ok(Ok(self.out))
    }

    /// Takes in what holds in a repository.
    fn enter(&mut self, copy: WorkingCopy, below: &[u8]) -> Result<usize, GitError> {
        let ground = Ground::of(copy, below, self.outside, &mut self.out.facts)?;
        if ground.index.is_by_git {
            (self.notes)(&ground.copy.root);
        }
        self.grounds.push(Rc::new(ground));
        Ok(self.grounds.len() - 1)
    }

    /// From the root of the working copy to that of the scope: rules on the way hold below.
    fn descend(&mut self, place: &mut Place, inner: &[u8]) -> Result<(), GitError> {
        let copy = self.grounds[place.ground].copy.root.clone();
        for end in inner.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1) {
            let above = copy.join(OsStr::from_bytes(&place.inner));
            let path = above.join(IGNORE);
            let (fact, text) = ground::read(path.as_os_str().as_bytes(), &path)?;
            place.add_rules(&fact, &text);
            self.out.facts.push(fact);
            place.inner = inner[..end].to_vec();
            if end < inner.len() {
                // A repository that comes to be nearer than ours.
                let nearer = copy.join(OsStr::from_bytes(&place.inner)).join(".git");
                self.out.facts.push(ground::read(nearer.as_os_str().as_bytes(), &nearer)?.0);
            }
            place.is_ignored = place.is_ignored || place.ignores.means(&inner[..end - 1], true);
        }
        Ok(())
    }

    /// Adds a directory and all below it. Paths may be deeper than a stack.
    fn tree(&mut self, place: Place) -> Result<(), GitError> {
        let mut open = vec![Step::Enter(place, 0)];
        while let Some(step) = open.pop() {
            match step {
                Step::Leave(at) => self.out.dirs[at].end = self.out.dirs.len() as u32,
                Step::Enter(place, parent) => {
                    if let Some((at, below)) = self.dir(place, parent)? {
                        open.push(Step::Leave(at));
                        open.extend(below.into_iter().rev().map(|place| Step::Enter(place, at)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a directory: its place, and the directories to enter. `None` where all of it was taken over.
    fn dir(&mut self, mut place: Place, parent: usize) -> Result<Option<(usize, Vec<Place>)>, GitError> {
        if let Some(old) = place.old
            && self.known.is_whole(old)
        {
            self.take_over(old, parent);
            return Ok(None);
        }
        let old = place.old.filter(|old| !self.known.is_stale(*old));
        let listed = match old {
            Some(_) => None,
            None => {
                let path = look::place(self.root, &place.path);
                let listed = look::list(&path)?.ok_or(GitError::Unstable { path })?;
                self.notice_rules(&place, &listed);
                Some(listed)
            }
        };
        let repository = self.repository(&mut place, listed.as_ref())?;
        self.rules_in(&mut place, listed.as_ref())?;
        let at = self.begin(&place, parent, listed.as_ref(), repository);
        let below = match (&listed, old) {
            _ if matches!(repository, Repository::Absent { .. }) => Vec::new(),
            (Some(listed), _) => self.judge(&place, at, &listed.names)?,
            (None, Some(old)) => self.keep(&place, at, old),
            (None, None) => Vec::new(),
        };
        Ok(Some((at, below)))
    }

    /// All of an old directory, as it was.
    fn take_over(&mut self, old: usize, parent: usize) {
        let from = self.known.snapshot;
        let first = self.out.dirs.len();
        let range = old..from.dirs[old].end as usize;
        for dir in &from.dirs[range] {
            let path = self.out.intern(from.bytes(&dir.path));
            let start = self.out.files.len() as u32;
            let at = self.out.dirs.len() as u32;
            for file in from.files_of(dir) {
                let name = self.out.intern(from.bytes(&file.name));
                self.out.files.push(FileSeen { name, dir: at, ..file.clone() });
            }
            let moved = |at: u32| at - old as u32 + first as u32;
            let parent = if at == first as u32 { parent as u32 } else { moved(dir.parent) };
            let files = start..self.out.files.len() as u32;
            self.out.dirs.push(DirSeen { path, parent, end: moved(dir.end), files, ..dir.clone() });
            self.planted.push(true);
        }
    }

    /// Rules or repositories that came or went change what is below.
    fn notice_rules(&mut self, place: &Place, listed: &Listed) {
        let (Some(old), true) = (place.old, self.known.stale.is_some()) else { return };
        let has = |name: &str, kind: Option<Kind>| {
            let named = |(listed, is): &(OsString, Kind)| listed == name && kind.is_none_or(|kind| *is == kind);
            listed.names.iter().any(named)
        };
        let had_rules = self.old_facts.contains(&join(&place.path, IGNORE.as_bytes()));
        let was_repository = self.known.snapshot.dirs[old].repository != Repository::No;
        let is_root = place.path.is_empty();
        if has(IGNORE, Some(Kind::File)) != had_rules || !is_root && (was_repository || has(".git", None)) {
            self.must_list_all = true;
        }
    }

    /// Is the directory a repository of its own? Then the walk goes on in that one.
    fn repository(&mut self, place: &mut Place, listed: Option<&Listed>) -> Result<Repository, GitError> {
        if place.path.is_empty() {
            return Ok(Repository::No);
        }
        let is_candidate = match (listed, place.old) {
            (Some(listed), _) => listed.names.iter().any(|(name, _)| name == ".git"),
            (None, Some(old)) => matches!(self.known.snapshot.dirs[old].repository, Repository::Root { .. }),
            (None, None) => false,
        };
        // Where files below are tracked, git sees a directory like others.
        if is_candidate
            && place.entries.is_empty()
            && let Some(copy) = WorkingCopy::at(&look::place(self.root, &place.path))?
        {
            let ground = self.enter(copy, b"")?;
            let inside = Rc::clone(&self.grounds[ground]);
            *place = Place {
                path: std::mem::take(&mut place.path),
                inner: Vec::new(),
                ground,
                entries: 0..inside.index.entries().len(),
                ignores: inside.ignores.clone(),
                is_ignored: false,
                reach: place.reach,
                old: place.old,
                commit: None,
            };
            return inside.head(&mut self.out.facts);
        }
        let is_empty = listed.is_some_and(|listed| listed.names.is_empty());
        Ok(match place.commit.filter(|_| is_empty) {
            Some(commit) => Repository::Absent { commit },
            None => Repository::No,
        })
    }

    /// Reads the rules that lie in the directory itself.
    fn rules_in(&mut self, place: &mut Place, listed: Option<&Listed>) -> Result<(), GitError> {
        let is_named = |listed: &Listed| listed.names.iter().any(|(name, _)| name == IGNORE);
        if listed.is_none_or(is_named) {
            let named = join(&place.path, IGNORE.as_bytes());
            let (fact, text) = ground::read(&named, &look::place(self.root, &named))?;
            place.add_rules(&fact, &text);
            let is_new = listed.is_some() && fact.stat.is_some_and(|stat| stat.kind == Kind::File);
            self.out.facts.extend(is_new.then_some(fact));
        }
        Ok(())
    }

    /// The directory alone; its end and its files come later.
    fn begin(&mut self, place: &Place, parent: usize, listed: Option<&Listed>, repository: Repository) -> usize {
        let path = self.out.intern(&place.path);
        let files = self.out.files.len() as u32;
        let (stat, settled, listing) = match (listed, place.old) {
            (Some(listed), _) => (listed.stat, listed.settled, listed.digest),
            (None, old) => {
                let old = &self.known.snapshot.dirs[old.expect("BUG: a directory is listed or known")];
                (old.stat, old.settled, old.listing)
            }
        };
        self.out.dirs.push(DirSeen {
            path,
            parent: parent as u32,
            end: 0,
            files: files..files,
            settled,
            stat,
            listing,
            is_ignored: place.is_ignored,
            repository,
            tree: None,
        });
        self.planted.push(false);
        self.out.dirs.len() - 1
    }

    /// Which of the names count. Gives the directories to enter.
    fn judge(&mut self, place: &Place, at: usize, names: &[(OsString, Kind)]) -> Result<Vec<Place>, GitError> {
        let ground = Rc::clone(&self.grounds[place.ground]);
        let children = ground.index.children(place.entries.clone(), place.inner.len());
        let mut below = Vec::new();
        for (name, kind) in names.iter().filter(|(name, _)| name != ".git") {
            let name = name.as_bytes();
            match kind {
                Kind::File | Kind::Symlink => {
                    self.file(place, at, name, tracked_file(&ground, &children, name).is_some())
                }
                Kind::Dir => below.extend(self.below(place, name, &ground, &children)),
                Kind::Other => {}
            }
        }
        self.out.dirs[at].files.end = self.out.files.len() as u32;
        Ok(below)
    }

    fn file(&mut self, place: &Place, at: usize, name: &[u8], is_tracked: bool) {
        let path = join(&place.path, name);
        if place.reach == Reach::None || !self.filter.file(&path, place.reach) {
            return;
        }
        let inner = || [&place.inner, name].concat();
        if !is_tracked && (place.is_ignored || place.ignores.means(&inner(), false)) {
            return;
        }
        let old = place.old.and_then(|dir| self.known.snapshot.find_file(dir, name));
        let known = old.filter(|old| !self.known.gone.contains(&(*old as u32)));
        let interned = self.out.intern(name);
        let dir = at as u32;
        if let Some(known) = known {
            let seen = self.known.snapshot.files[known].clone();
            self.out.files.push(FileSeen { name: interned, dir, is_tracked, ..seen });
            return;
        }
        self.pending.push(self.out.files.len());
        let stat = self.out.dirs[at].stat;
        self.out.files.push(FileSeen {
            name: interned,
            dir,
            mode: Mode::File,
            is_tracked,
            settled: false,
            stat,
            oid: Oid::NONE,
        });
    }

    /// A directory in `place`, unless nothing in it counts.
    fn below(&self, place: &Place, name: &[u8], ground: &Ground, children: &Children) -> Option<Place> {
        let path = join(&place.path, name);
        let reach = self.filter.dir(&path, place.reach);
        let mut inner = [&place.inner, name].concat();
        let entries = tracked_dir(ground, children, name);
        let commit = tracked_file(ground, children, name)
            .map(|entry| &ground.index.entries()[entry])
            .filter(|entry| entry.mode == Mode::Commit)
            .map(|entry| entry.oid);
        let is_ignored = place.is_ignored || place.ignores.means(&inner, true);
        if reach == Reach::None || is_ignored && entries.is_empty() && commit.is_none() {
            return None;
        }
        inner.push(b'/');
        Some(Place {
            old: place.old.and_then(|old| self.old_below(old, &path)),
            path,
            inner,
            ground: place.ground,
            entries,
            ignores: place.ignores.clone(),
            is_ignored,
            reach,
            commit,
        })
    }

    fn old_below(&self, old: usize, path: &[u8]) -> Option<usize> {
        let snapshot = self.known.snapshot;
        snapshot.below(old).find(|below| snapshot.bytes(&snapshot.dirs[*below].path) == path)
    }

    /// A directory whose names are as they were: its files again, and the directories to enter.
    fn keep(&mut self, place: &Place, at: usize, old: usize) -> Vec<Place> {
        let from = self.known.snapshot;
        for file in from.files_of(&from.dirs[old]) {
            let name = self.out.intern(from.bytes(&file.name));
            self.out.files.push(FileSeen { name, dir: at as u32, ..file.clone() });
        }
        self.out.dirs[at].files.end = self.out.files.len() as u32;
        let cut = if place.path.is_empty() { 0 } else { place.path.len() + 1 };
        let ground = &self.grounds[place.ground];
        let mut below = Vec::new();
        for child in from.below(old) {
            let seen = &from.dirs[child];
            let path = from.bytes(&seen.path).to_vec();
            let mut inner = [&place.inner, &path[cut..]].concat();
            inner.push(b'/');
            // Nothing more is asked of those that are taken over.
            let entries = if self.known.is_whole(child) { 0..0 } else { ground.index.below(&inner) };
            below.push(Place {
                reach: self.filter.dir(&path, place.reach),
                path,
                entries,
                inner,
                ground: place.ground,
                ignores: place.ignores.clone(),
                is_ignored: seen.is_ignored,
                old: Some(child),
                commit: None,
            });
        }
        below
    }

    /// Looks at the files that are not known.
    fn look(&mut self) -> Result<(), GitError> {
        let (out, root, pending) = (&self.out, self.root, &self.pending);
        let found = look::in_chunks(pending.len(), |range, found: &mut Vec<(usize, Result<Seen, GitError>)>| {
            for at in &pending[range] {
                let path = look::place(root, &out.path_of(&out.files[*at]));
                let seen = look::observe(&path);
                found.push((*at, seen.and_then(|seen| seen.ok_or(GitError::Unstable { path }))));
            }
        });
        for (at, seen) in found.into_iter().flatten() {
            let Seen { stat, settled, mode, oid } = seen?;
            let file = &mut self.out.files[at];
            (file.stat, file.settled, file.mode, file.oid) = (stat, settled, mode, oid);
        }
        Ok(())
    }
}

fn tracked_file(ground: &Ground, children: &Children, name: &[u8]) -> Option<usize> {
    let found = children.files.binary_search_by(|(known, _)| ground.index.bytes(known.clone()).cmp(name));
    found.ok().map(|at| children.files[at].1)
}

fn tracked_dir(ground: &Ground, children: &Children, name: &[u8]) -> Range<usize> {
    let with_slash = || name.iter().chain(b"/");
    let order = |(known, _): &(Range<usize>, Range<usize>)| {
        ground.index.bytes(known.clone()).iter().chain(b"/").cmp(with_slash())
    };
    children.dirs.binary_search_by(order).map_or(0..0, |at| children.dirs[at].1.clone())
}
