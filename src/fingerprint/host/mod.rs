//! What a local step can see of the machine besides its tools: the installed packages.
//!
//! A compiler is more than the file behind `cc`: `cc1`, `ld`, the C library's headers, whatever a configure script
//! finds. So the key of a cached step holds its **host identity**: name, version and architecture of
//!
//! | packages | why |
//! |---|---|
//! | that own its tools (links and all), or are called as they are | they are what runs; `python3` is a small package, its modules are another's |
//! | that those recommend | libc6-dev is only recommended by gcc |
//! | that are essential | sh, sed, awk, coreutils are always there |
//! | that any of these depend on, all the way | of names that stand for each other each installed one |
//! | that ship headers, pkg-config or CMake files | what configure looks for: for steps with views, and for those that have the C library's headers, since they compile |
//!
//! Programs that call compilers without being told (`make`, `cargo`) bring `cc`; a script brings its interpreter.
//! Alternatives (`/etc/alternatives`) among the programs of these packages are part of the identity, since they are
//! turned without any package.
//!
//! It is one component of the key, a digest over the list; the list is kept by its digest, so that `why` can say
//! which package changed ([`Identity`]). What no package of the identity owns is hidden from views
//! ([`Identity::may_be_seen`]). `host = ["gcc-12"]` narrows what is in the key, not what can be seen.
//!
//! **Read from the database itself**, never by running the manager: [`dpkg`] (at `$DPKG_ADMINDIR` too), [`apk`],
//! [`pacman`]. What was read is kept in one file per database, and believed as long as the database's stat records
//! are the same; they are facts of the proof. Where there is no such database (rpm's is binary, Homebrew's and
//! Apple's are not read yet), steps are judged by their tools alone.
//!
//! **Known limits.** Files of packages are believed to be as they were installed. Modules of interpreters and
//! libraries without headers count only where something of the identity depends on them.

pub(super) mod apk;
pub(super) mod dpkg;
pub mod packages;
pub(super) mod pacman;
mod programs;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::base::digest::{Digest, Hasher};
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::{Instant, Stat};
use crate::manifest::model::HostChoice;

use super::env::Outside;
use super::files::{FileError, Files, Observation};

use packages::{Members, PackageIx, Packages};

pub use programs::{behind, programs};

/// What is kept holds what was made of the lists: a change of [`packages::Contents`] is a new version too.
pub(super) const FORMAT: Format = Format { magic: b"bc-host\n", version: 1 };
const ALTERNATIVES: &str = "/etc/alternatives";
/// How often a database that changes while it is read is read again.
const TRIES: usize = 5;

/// A path of a database, and what of it says that it changed.
pub enum Watched {
    Contents(PathBuf),
    /// Of a directory whose files come by being renamed.
    Stamps(PathBuf),
}

/// Paths of a database, as they look.
pub type Facts = Vec<(PathBuf, Observation)>;

/// A package manager, and the directory of its database.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Manager {
    Dpkg(PathBuf),
    Apk(PathBuf),
    Pacman(PathBuf),
}

impl Manager {
    fn watched(&self) -> Vec<Watched> {
        match self {
            Self::Dpkg(dir) => dpkg::watched(dir),
            Self::Apk(dir) => apk::watched(dir),
            Self::Pacman(dir) => pacman::watched(dir),
        }
    }

    fn read(&self) -> io::Result<Packages> {
        match self {
            Self::Dpkg(dir) => dpkg::read(dir),
            Self::Apk(dir) => apk::read(dir),
            Self::Pacman(dir) => pacman::read(dir),
        }
    }

    fn dir(&self) -> &Path {
        match self {
            Self::Dpkg(dir) | Self::Apk(dir) | Self::Pacman(dir) => dir,
        }
    }

    /// Who owns a file that is no program by its place.
    fn owners(&self, path: &Path, packages: &Packages) -> io::Result<Vec<PackageIx>> {
        match self {
            Self::Dpkg(dir) => dpkg::owners(dir, path, packages),
            // Their links are packaged, so the link's owner is known.
            Self::Apk(_) | Self::Pacman(_) => Ok(Vec::new()),
        }
    }
}

/// The installed packages of this machine, as they are now.
pub struct Host<'a> {
    files: &'a Files,
    outside: &'a Outside,
    /// A directory for what was read.
    memory: PathBuf,
    known: Mutex<Option<Arc<Known>>>,
}

/// What was read, and the facts that it rests on.
struct Known {
    manager: Manager,
    facts: Facts,
    installed: Arc<Installed>,
    /// Identities by what they were asked for.
    identities: Mutex<HashMap<Query, Arc<Identity>>>,
    odd: Mutex<HashMap<PathBuf, Vec<PackageIx>>>,
}

#[derive(Serialize, Deserialize, Default)]
pub(super) struct Installed {
    pub(super) packages: Packages,
    /// Links of `/etc/alternatives` and what they say.
    alternatives: Vec<(OsString, OsString)>,
    /// Is `/bin` the same as `/usr/bin`?
    is_merged: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Query {
    tools: BTreeSet<PackageIx>,
    has_views: bool,
    named: Option<Vec<String>>,
}

/// What a step wants to know.
pub struct Asked<'s> {
    /// Names of its programs, and the links that lead to each, the program itself last.
    pub programs: &'s [(String, Vec<PathBuf>)],
    pub has_views: bool,
    pub choice: &'s HostChoice,
}

/// The packages that a step could notice.
pub struct Identity {
    pub digest: Digest,
    /// What the digest is made from, in order.
    pub list: Vec<Item>,
    installed: Arc<Installed>,
    /// Packages whose programs may be seen.
    visible: Members,
    pub packages: usize,
    /// By directory: what [`Identity::unseen`] found.
    unseen: Mutex<HashMap<PathBuf, Unseen>>,
}

struct Unseen {
    /// As the directory was then.
    dir: Stat,
    names: Arc<Vec<OsString>>,
}

/// A package and its version, or an alternative and what it stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Item {
    pub name: String,
    /// Empty where there is none.
    pub arch: String,
    pub version: String,
}

impl<'a> Host<'a> {
    pub fn new(files: &'a Files, outside: &'a Outside, memory: PathBuf) -> Self {
        Self { files, outside, memory, known: Mutex::default() }
    }

    /// Is there a database that we can read?
    pub fn is_known(&self) -> Result<bool, FileError> {
        Ok(self.manager()?.is_some())
    }

    /// The identity of a step, and what the database looks like now; `None` where none can be read.
    pub fn identity(&self, asked: &Asked) -> Result<Option<(Arc<Identity>, Facts)>, FileError> {
        let Some(manager) = self.manager()? else { return Ok(None) };
        let facts = self.look(&manager)?;
        let known = self.known(manager, &facts)?;
        let mut tools = BTreeSet::new();
        for (name, links) in asked.programs {
            tools.extend(known.installed.packages.named(name));
            tools.extend(known.owners_of(links)?);
        }
        let named = match asked.choice {
            HostChoice::Named(names) => Some(names.clone()),
            HostChoice::Whole | HostChoice::Off => None,
        };
        let query = Query { tools, has_views: asked.has_views, named };
        let mut identities = known.identities.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = identities.entry(query).or_insert_with_key(|query| Arc::new(known.identity(query)));
        Ok(Some((identity.clone(), facts)))
    }

    /// The packages of an identity that this process has made.
    pub fn list(&self, digest: &Digest) -> Option<Vec<Item>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let identities = known.identities.lock().unwrap_or_else(PoisonError::into_inner);
        identities.values().find(|identity| identity.digest == *digest).map(|identity| identity.list.clone())
    }

    fn manager(&self) -> Result<Option<Manager>, FileError> {
        if let Some(dir) = self.outside.get("DPKG_ADMINDIR").filter(|dir| !dir.is_empty()) {
            let dir = PathBuf::from(dir);
            let is_there = self.files.look(&dir.join("status"))?.is_some();
            return Ok(is_there.then_some(Manager::Dpkg(dir)));
        }
        let candidates = [
            (Path::new(dpkg::PLACE).join("status"), Manager::Dpkg(dpkg::PLACE.into())),
            (Path::new(apk::PLACE).join("installed"), Manager::Apk(apk::PLACE.into())),
            (PathBuf::from(pacman::PLACE), Manager::Pacman(pacman::PLACE.into())),
        ];
        for (file, manager) in candidates {
            if self.files.look(&file)?.is_some() {
                return Ok(Some(manager));
            }
        }
        Ok(None)
    }

    fn look(&self, manager: &Manager) -> Result<Facts, FileError> {
        let mut facts = Vec::new();
        for watched in manager.watched().into_iter().chain([Watched::Stamps(ALTERNATIVES.into())]) {
            let (path, seen) = match watched {
                Watched::Contents(path) => {
                    let seen = self.files.observe(&path)?;
                    (path, seen)
                }
                Watched::Stamps(path) => {
                    let seen = self.files.look_closely(&path)?;
                    (path, seen)
                }
            };
            facts.push((path, seen));
        }
        Ok(facts)
    }

    /// What is installed, by a database that looks like this.
    fn known(&self, manager: Manager, facts: &Facts) -> Result<Arc<Known>, FileError> {
        let mut slot = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = slot.as_ref().filter(|k| k.manager == manager && is_alike(&k.facts, facts)) {
            return Ok(known.clone());
        }
        let (facts, installed) = match self.recall(&manager, facts) {
            Some(installed) => (facts.clone(), installed),
            None => self.read(&manager, facts.clone())?,
        };
        let known = Known {
            manager,
            facts,
            installed: Arc::new(installed),
            identities: Mutex::default(),
            odd: Mutex::default(),
        };
        Ok(slot.insert(Arc::new(known)).clone())
    }

    fn read(&self, manager: &Manager, mut facts: Facts) -> Result<(Facts, Installed), FileError> {
        let mut failed = None;
        for _ in 0..TRIES {
            let read = manager.read();
            let alternatives = alternatives().unwrap_or_default();
            let after = self.look(manager)?;
            let steady = is_alike(&facts, &after);
            facts = after;
            match read {
                Ok(packages) if steady => {
                    let is_merged = fs::read_link("/bin").is_ok();
                    let installed = Installed { packages, alternatives, is_merged };
                    self.keep(manager, &facts, &installed);
                    return Ok((facts, installed));
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        let path = manager.dir().to_owned();
        Err(match failed {
            Some(error) => FileError::Read { path, error },
            None => FileError::Unstable { path },
        })
    }

    fn place(&self, manager: &Manager) -> PathBuf {
        self.memory.join(Digest::of(manager.dir().as_os_str().as_bytes()).short())
    }

    fn recall(&self, manager: &Manager, facts: &[(PathBuf, Observation)]) -> Option<Installed> {
        let bytes = fs::read(self.place(manager)).ok()?;
        let (kept, installed): (Vec<(OsString, Observation)>, Installed) = FORMAT.open(&bytes).ok()?;
        let same = kept.len() == facts.len()
            && kept.iter().zip(facts).all(|((path, then), (place, now))| {
                path == place.as_os_str() && then.stat == now.stat && then.digest == now.digest && now.settled
            });
        (same && installed.packages.is_whole()).then_some(installed)
    }

    /// For the next process; only what can be recognized then.
    fn keep(&self, manager: &Manager, facts: &[(PathBuf, Observation)], installed: &Installed) {
        if facts.iter().all(|(_, seen)| seen.settled) {
            let facts: Vec<(OsString, Observation)> = facts.iter().map(|(p, o)| (p.clone().into(), *o)).collect();
            // The next process reads the database itself where this fails.
            let _ = publish(&self.place(manager), &FORMAT.seal(&(facts, installed)));
        }
    }
}

/// The same state of a database? Whether the stamps may be believed is another question.
fn is_alike(before: &[(PathBuf, Observation)], now: &[(PathBuf, Observation)]) -> bool {
    let same = |(a, b): (&(PathBuf, Observation), &(PathBuf, Observation))| {
        a.0 == b.0 && a.1.stat == b.1.stat && a.1.digest == b.1.digest
    };
    before.len() == now.len() && before.iter().zip(now).all(same)
}

impl Installed {
    fn owners(&self, path: &Path) -> Vec<PackageIx> {
        let packages = &self.packages;
        let mut found: Vec<PackageIx> = packages.owners(path).collect();
        if let Some(other) = self.other_name(path) {
            found.extend(packages.owners(&other));
        }
        found
    }

    /// Lists say `/bin/sed` where it is `/usr/bin/sed` since the directories were merged.
    fn other_name(&self, path: &Path) -> Option<PathBuf> {
        let inner = path.strip_prefix("/usr").ok().filter(|_| self.is_merged)?;
        let top = inner.iter().next()?.as_bytes();
        (top == b"bin" || top == b"sbin" || top.starts_with(b"lib")).then(|| Path::new("/").join(inner))
    }
}

impl Known {
    /// Packages that own a program, or any of the links that lead to it.
    fn owners_of(&self, links: &[PathBuf]) -> Result<Vec<PackageIx>, FileError> {
        let mut owners: Vec<PackageIx> = links.iter().flat_map(|path| self.installed.owners(path)).collect();
        if let (true, Some(real)) = (owners.is_empty(), links.last()) {
            owners = self.odd_owners(real)?;
        }
        Ok(owners)
    }

    /// Of a program that lies where programs usually do not, such as `/usr/share/x/x.py`.
    fn odd_owners(&self, path: &Path) -> Result<Vec<PackageIx>, FileError> {
        if !path.starts_with("/usr")
            || path.starts_with("/usr/local")
            || packages::is_program(path.as_os_str().as_bytes())
        {
            return Ok(Vec::new());
        }
        let mut odd = self.odd.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = odd.get(path) {
            return Ok(known.clone());
        }
        let mut owners = Vec::new();
        for path in [Some(path.to_owned()), self.installed.other_name(path)].into_iter().flatten() {
            let found = self.manager.owners(&path, &self.installed.packages);
            owners.extend(found.map_err(|error| FileError::Read { path: self.manager.dir().to_owned(), error })?);
        }
        odd.insert(path.to_owned(), owners.clone());
        Ok(owners)
    }

    fn identity(&self, query: &Query) -> Identity {
        let packages = &self.installed.packages;
        let essential = packages.indices().filter(|ix| packages.get(*ix).essential);
        let recommended = query.tools.iter().flat_map(|ix| packages.recommended(*ix)).copied();
        let mut whole = packages.closure(query.tools.iter().copied().chain(recommended).chain(essential));
        if query.has_views || whole.iter().any(|ix| packages.get(ix).libc_headers) {
            packages.indices().filter(|ix| packages.get(*ix).found_by_configure).for_each(|ix| whole.add(ix));
        }
        let (counted, mut list) = match &query.named {
            None => (whole.clone(), Vec::new()),
            Some(names) => {
                let counted = packages.closure(names.iter().flat_map(|name| packages.named(name)));
                let missing = names.iter().filter(|name| packages.named(name).next().is_none());
                counted.iter().for_each(|ix| whole.add(ix));
                (
                    counted,
                    missing
                        .map(|name| Item { name: name.clone(), arch: String::new(), version: "(not installed)".into() })
                        .collect(),
                )
            }
        };
        let item = |ix| {
            let package = packages.get(ix);
            Item { name: package.name.clone(), arch: package.arch.clone(), version: package.version.clone() }
        };
        list.extend(counted.iter().map(item));
        let count = list.len();
        list.extend(self.alternatives_of(&counted));
        list.sort();
        Identity {
            digest: digest(&list),
            list,
            installed: self.installed.clone(),
            visible: whole,
            packages: count,
            unseen: Mutex::default(),
        }
    }

    /// Alternatives that lead to programs of these packages.
    fn alternatives_of(&self, members: &Members) -> Vec<Item> {
        let is_of =
            |target: &OsString| self.installed.owners(Path::new(target)).into_iter().any(|ix| members.contains(ix));
        let item = |(name, target): &(OsString, OsString)| Item {
            name: format!("alternative {}", name.to_string_lossy()),
            arch: String::new(),
            version: target.to_string_lossy().into_owned(),
        };
        self.installed.alternatives.iter().filter(|(_, target)| is_of(target)).map(item).collect()
    }
}

fn digest(list: &[Item]) -> Digest {
    let mut hasher = Hasher::new("bcache host 1");
    hasher.number(list.len() as u64);
    for item in list {
        hasher.text(&item.name).text(&item.arch).text(&item.version);
    }
    hasher.finish()
}

fn alternatives() -> io::Result<Vec<(OsString, OsString)>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(ALTERNATIVES)? {
        let entry = entry?;
        // Gone since, or no link: no alternative.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if packages::is_program(target.as_os_str().as_bytes()) {
            links.push((entry.file_name(), target.into()));
        }
    }
    links.sort();
    Ok(links)
}

impl Identity {
    /// Names of what lies in a directory of programs and may not be seen, in order.
    pub fn unseen(&self, dir: &Path) -> io::Result<Arc<Vec<OsString>>> {
        let (now, stat) = (Instant::now(), Stat::read(dir)?);
        let mut known = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(dir).filter(|known| Some(known.dir) == stat) {
            return Ok(known.names.clone());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            if !self.may_be_seen(&dir.join(&name)) {
                names.push(name);
            }
        }
        names.sort();
        let names = Arc::new(names);
        if let Some(stat) = stat.filter(|stat| stat.is_settled(now)) {
            known.insert(dir.to_owned(), Unseen { dir: stat, names: names.clone() });
        }
        Ok(names)
    }

    /// Is what lies at `path` (behind its links, where no package owns them) of a package that counts?
    pub fn may_be_seen(&self, path: &Path) -> bool {
        let of_a_member = |owners: &[PackageIx]| owners.iter().any(|ix| self.visible.contains(*ix));
        let owners = self.installed.owners(path);
        if !owners.is_empty() {
            return of_a_member(&owners);
        }
        let is_link = fs::read_link(path).is_ok();
        is_link && path.canonicalize().is_ok_and(|real| of_a_member(&self.installed.owners(&real)))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("list", &self.list).finish_non_exhaustive()
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
