//! Identities of a process: each scope looked at once for as long as nothing runs, and what was seen kept for the
//! next process.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::base::digest::{Digest, Hasher};
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::fingerprint::env::Outside;
use crate::graph::pattern::Pattern;

use super::ground;
use super::identity::{self, Identity};
use super::look;
use super::repository::{GitError, WorkingCopy};
use super::scope::{Filter, Reach, Scope};
use super::snapshot::Snapshot;
use super::walk::{Known, MustListAll, Walk};

const FORMAT: Format = Format { magic: b"bc-git1\n", version: 5 };
/// Files of memories that are kept, one or two to a scope.
const KEPT: usize = 512;
const PATCHES: Format = Format { magic: b"bc-gitp\n", version: 5 };
/// How often a working copy that changes while it is looked at is looked at again.
const TRIES: usize = 5;

/// A scope is what it was: a fact of a proof.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fact {
    /// Of the scope: its memory is found by it.
    pub scope: Digest,
    /// The root of the scope.
    pub dir: PathBuf,
    /// Of the identity.
    pub identity: Digest,
}

/// What this process knows of a scope.
#[derive(Default)]
struct Slot {
    identity: Option<Arc<Identity>>,
    /// The moment, in runs that ended, at which it was looked at.
    looked_at: u64,
    /// Must it be written?
    is_new: bool,
    /// It was another when this process looked before.
    wavered: bool,
}

pub struct Git<'a> {
    /// `.bcache/git` of the worktree.
    dir: PathBuf,
    outside: &'a Outside,
    /// What is no part of any working copy: our own state, the store.
    always: Vec<Pattern>,
    always_digest: Digest,
    slots: Mutex<BTreeMap<Digest, Arc<Mutex<Slot>>>>,
    runs: AtomicU64,
    /// Working copies whose index git had to read.
    slow: Mutex<BTreeSet<PathBuf>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Git<'a> {
    pub fn new(dir: PathBuf, outside: &'a Outside, always: Vec<Pattern>) -> Self {
        let mut hasher = Hasher::new("bcache git always 1");
        always.iter().for_each(|pattern| {
            hasher.bytes(pattern.path.as_os_str().as_encoded_bytes());
        });
        // Where the user's ignore file is.
        for name in ["HOME", "XDG_CONFIG_HOME"] {
            hasher.bytes(outside.get(name).unwrap_or_default().as_encoded_bytes());
        }
        let always_digest = hasher.finish();
        Self {
            dir,
            outside,
            always,
            always_digest,
            slots: Mutex::default(),
            runs: AtomicU64::new(0),
            slow: Mutex::default(),
        }
    }

    /// Something has run that may have changed files: what was looked at must be looked at again.
    pub fn has_run(&self) {
        self.runs.fetch_add(1, Ordering::SeqCst);
    }

    /// Working copies of which this process asked the git program, since their index is split or sparse.
    pub fn slow(&self) -> Vec<PathBuf> {
        lock(&self.slow).iter().cloned().collect()
    }

    /// What the memory of a scope is found by.
    fn key(&self, scope: &Scope) -> Digest {
        Hasher::new("bcache git memory 1").digest(&self.always_digest).digest(&scope.digest()).finish()
    }

    /// What the scope is.
    pub fn identity(&self, scope: &Scope) -> Result<Arc<Identity>, GitError> {
        let digest = self.key(scope);
        let slot = Arc::clone(lock(&self.slots).entry(digest).or_default());
        let mut slot = lock(&slot);
        let now = self.runs.load(Ordering::SeqCst);
        if let Some(known) = slot.identity.as_ref().filter(|_| slot.looked_at == now) {
            return Ok(Arc::clone(known));
        }
        let real = scope.dir.canonicalize().ok().filter(|dir| dir.is_dir());
        let real = real.ok_or_else(|| GitError::None { path: scope.dir.clone() })?;
        let before = slot.identity.take();
        let known = match &before {
            Some(identity) => identity.snapshot().clone(),
            None => load(&place(&self.dir, &digest)).unwrap_or_default(),
        };
        let filter = Filter::new(scope, &real, &self.always);
        let (snapshot, is_new) = self.look(scope, &real, &filter, known)?;
        let identity = Identity::new(snapshot, scope, &real).filter(|identity| identity.count() > 0);
        let identity = Arc::new(identity.ok_or_else(|| GitError::Empty { shown: scope.shown.clone() })?);
        check_paths(scope, &identity)?;
        slot.wavered |= before.is_some_and(|before| before.digest() != identity.digest());
        slot.is_new |= is_new;
        slot.looked_at = now;
        slot.identity = Some(Arc::clone(&identity));
        Ok(identity)
    }

    /// Looks until the working copy stands still. Says too whether anything is new.
    fn look(&self, scope: &Scope, real: &Path, filter: &Filter, known: Snapshot) -> Result<(Snapshot, bool), GitError> {
        let mut known = known;
        let mut tries = 1;
        loop {
            match self.look_once(scope, real, filter, &mut known) {
                Err(GitError::Unstable { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(is_new) => return Ok((known, is_new)),
            }
        }
    }

    fn look_once(&self, scope: &Scope, real: &Path, filter: &Filter, known: &mut Snapshot) -> Result<bool, GitError> {
        if filter.root() == Reach::None {
            return Err(GitError::Empty { shown: scope.shown.clone() });
        }
        let is_first = known.dirs.is_empty();
        let moved = if is_first { Moved::everything() } else { check(real, known)? };
        if !is_first && !moved.must_walk() {
            return Ok(moved.is_refreshed);
        }
        let mut stale: Option<Vec<u32>> = (!moved.all).then(|| moved.dirs.into_iter().collect());
        stale.iter_mut().for_each(|stale| stale.sort_unstable());
        loop {
            let copy = WorkingCopy::around(real)?.ok_or_else(|| GitError::None { path: scope.dir.clone() })?;
            let known_parts = Known { snapshot: known, stale, gone: moved.gone.clone() };
            let note = |root: &Path| lock(&self.slow).extend([root.to_owned()]);
            match Walk::new(real, filter, known_parts, self.outside, &note).run(copy, scope.head)? {
                Ok(snapshot) => {
                    *known = snapshot;
                    return Ok(true);
                }
                Err(MustListAll) => stale = None,
            }
        }
    }

    /// The identity that has this digest, of those that this process knows.
    pub fn find(&self, identity: &Digest) -> Option<Arc<Identity>> {
        let slots: Vec<_> = lock(&self.slots).values().cloned().collect();
        slots.iter().find_map(|slot| lock(slot).identity.clone().filter(|known| known.digest() == *identity))
    }

    /// What the answers of this process rest on. `None` where a scope was different from one look to the next.
    pub fn account(&self) -> Option<Vec<Fact>> {
        let mut facts = Vec::new();
        for (scope, slot) in lock(&self.slots).iter() {
            let slot = lock(slot);
            if slot.wavered {
                return None;
            }
            if let Some(identity) = &slot.identity {
                let dir = identity.dir().to_owned();
                facts.push(Fact { scope: *scope, dir, identity: identity.digest() });
            }
        }
        Some(facts)
    }

    /// Keeps what was seen for the next process.
    pub fn save(&self) -> std::io::Result<()> {
        for (digest, slot) in lock(&self.slots).iter() {
            let mut slot = lock(slot);
            if let Some(identity) = slot.identity.clone().filter(|_| slot.is_new) {
                keep(&place(&self.dir, digest), identity.snapshot())?;
                slot.is_new = false;
                forget_old(&self.dir)?;
            }
        }
        Ok(())
    }
}

fn place(dir: &Path, scope: &Digest) -> PathBuf {
    dir.join(scope.short())
}

/// Writes all of it, or, beside it, the little that is other than in the file.
fn keep(path: &Path, snapshot: &Snapshot) -> std::io::Result<()> {
    match snapshot.encode_patches() {
        Some(patches) => publish(&path.with_extension("patches"), &PATCHES.seal_bytes(&patches)),
        None => publish(path, &FORMAT.seal_bytes(&snapshot.encode())),
    }
}

fn load(path: &Path) -> Option<Snapshot> {
    let bytes = std::fs::read(path).ok()?;
    let (body, base) = FORMAT.open_digested(&bytes).ok()?;
    let mut snapshot = Snapshot::decode(body)?;
    snapshot.patches.base = Some(base);
    let Ok(bytes) = std::fs::read(path.with_extension("patches")) else { return Some(snapshot) };
    // Of another file, or of no use.
    let Some(body) = PATCHES.open_bytes(&bytes).ok().filter(|body| body.starts_with(base.as_bytes())) else {
        return Some(snapshot);
    };
    snapshot.patched(base, body)
}

/// The oldest go when there are many.
fn forget_old(dir: &Path) -> std::io::Result<()> {
    let mut files: Vec<_> = std::fs::read_dir(dir)?
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(|meta| meta.is_file())?;
            Some((meta.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort();
    for (_, path) in &files[..files.len().saturating_sub(KEPT)] {
        // Another process may have removed it already.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Every pattern must mean something.
fn check_paths(scope: &Scope, identity: &Identity) -> Result<(), GitError> {
    let named = scope.paths.iter().filter(|path| !path.exclude && !path.optional);
    let patterns = named.map(|path| &path.pattern);
    let mut left: Vec<&Pattern> = patterns.filter(|p| p.is_glob() || !identity.reaches(&p.path)).collect();
    if left.is_empty() {
        return Ok(());
    }
    for file in identity.files() {
        left.retain(|pattern| !pattern.covers(&file));
        if left.is_empty() {
            return Ok(());
        }
    }
    Err(GitError::NoMatch { shown: scope.shown.clone(), pattern: left[0].shown.clone() })
}

/// What is not as it was when a snapshot was made.
#[derive(Default)]
pub(super) struct Moved {
    /// Rules or settings are others: every directory must be listed.
    all: bool,
    /// Directories with other names in them.
    dirs: HashSet<u32>,
    gone: HashSet<u32>,
    /// Something looks different and is the same, or can be believed only now.
    is_refreshed: bool,
}

impl Moved {
    fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }

    fn must_walk(&self) -> bool {
        self.all || !self.dirs.is_empty() || !self.gone.is_empty()
    }
}

/// Looks at all of a snapshot, and brings it up to date as far as that goes without judging names.
pub(super) fn check(real: &Path, known: &mut Snapshot) -> Result<Moved, GitError> {
    let mut moved = Moved::default();
    for at in 0..known.facts.len() {
        let path = look::place(real, &known.facts[at].path);
        match ground::holds(&known.facts[at], &path)? {
            None => moved.all = true,
            Some(fact) => {
                moved.is_refreshed |= fact != known.facts[at];
                known.facts[at] = fact;
            }
        }
    }
    let doubtful = look::doubtful(real, known)?;
    for at in doubtful.dirs {
        let path = look::place(real, known.bytes(&known.dirs[at as usize].path));
        let dir = &mut known.dirs[at as usize];
        match look::list(&path)?.filter(|listed| listed.digest == dir.listing) {
            Some(listed) => {
                moved.is_refreshed |= (dir.stat, dir.settled) != (listed.stat, listed.settled);
                (dir.stat, dir.settled) = (listed.stat, listed.settled);
                known.patches.dirs.insert(at);
            }
            None => {
                moved.dirs.insert(at);
            }
        }
    }
    check_files(real, known, &doubtful.files, &mut moved)?;
    Ok(moved)
}

fn check_files(real: &Path, known: &mut Snapshot, doubtful: &[u32], moved: &mut Moved) -> Result<(), GitError> {
    let mut replant: HashSet<u32> = HashSet::new();
    let found = look::in_chunks(doubtful.len(), |range, found: &mut Vec<_>| {
        for at in &doubtful[range] {
            let path = look::place(real, &known.path_of(&known.files[*at as usize]));
            found.push((*at, look::observe(&path)));
        }
    });
    for (at, seen) in found.into_iter().flatten() {
        let file = &mut known.files[at as usize];
        let Some(seen) = seen? else {
            moved.gone.insert(at);
            moved.dirs.insert(file.dir);
            continue;
        };
        if (file.oid, file.mode) != (seen.oid, seen.mode) {
            replant.insert(file.dir);
        }
        moved.is_refreshed |= (file.stat, file.settled) != (seen.stat, seen.settled);
        (file.stat, file.settled, file.oid, file.mode) = (seen.stat, seen.settled, seen.oid, seen.mode);
        known.patches.files.insert(at);
    }
    for dir in replant.clone() {
        let mut at = dir;
        while at != 0 {
            at = known.dirs[at as usize].parent;
            replant.insert(at);
        }
    }
    let mut dirs: Vec<u32> = replant.into_iter().collect();
    dirs.sort_unstable();
    dirs.iter().rev().for_each(|dir| known.plant(*dir as usize));
    known.patches.dirs.extend(dirs);
    Ok(())
}

/// Does a fact of a proof hold? What had to be read again is kept, so that it need not be the next time.
pub fn still_holds(state: &Path, fact: &Fact) -> bool {
    let file = place(&state.join("git"), &fact.scope);
    let (Some(mut known), Ok(real)) = (load(&file), fact.dir.canonicalize()) else { return false };
    let Ok(moved) = check(&real, &mut known) else { return false };
    if moved.must_walk() {
        return false;
    }
    let holds = identity::digest(&known) == Some(fact.identity);
    if holds && moved.is_refreshed {
        // A convenience for the next look.
        let _ = keep(&file, &known);
    }
    holds
}
