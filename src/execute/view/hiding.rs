//! What a step with a view is not to see of the machine: programs that no package of its host identity owns, and
//! what was installed by hand.
//!
//! | directory | the step sees there |
//! |---|---|
//! | `/usr/bin`, `/usr/sbin` (and `/bin`, `/sbin` where they are others) | programs of the packages of its identity, and its own tools |
//! | `/usr/local`, `/opt` | nothing, but for the installations that its tools and its `path` lie in |
//!
//! What is hidden is covered by a *whiteout* in a directory that is laid over the real one. An ordinary user may
//! make whiteouts since Linux 5.8, before views were possible for him at all. The directory of whiteouts is made
//! once for each list of hidden names (`.bcache/covers/<digest>`), and is renamed into place whole; where the state lies
//! in what is covered, it is made in memory for each step.
//!
//! Of an installation by hand the headers, pkg-config, CMake and aclocal files are hidden, and the programs that
//! are not declared: a tool comes with what it needs itself, not with what configure scripts look for.
//!
//! The workspace and the user's home stay as they are where they lie in a hidden place.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::Mounted;
use crate::base::digest::Hasher;
use crate::base::publish::temporary;
use crate::fingerprint::host::Identity;
use crate::fingerprint::tools::HAND_MADE;
use crate::store::remove_tree;

const PROGRAMS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
/// Directories in an installation by hand that configure scripts look into.
const LOOKED_INTO: [&str; 4] = ["include", "pkgconfig", "cmake", "aclocal"];
/// Where they are looked for: in these, and one below (`lib/x86_64-linux-gnu/pkgconfig`).
const LIBRARIES: [&str; 4] = ["lib", "lib32", "lib64", "share"];
/// What makes `/usr/local` one installation; anything else in it is one of its own, such as `/usr/local/go`.
const COMMON: [&str; 11] =
    ["bin", "sbin", "lib", "lib32", "lib64", "libexec", "share", "include", "etc", "man", "games"];
/// Below the state: directories of whiteouts.
pub const COVERS: &str = "covers";
/// Directories of whiteouts that are kept.
const KEPT: usize = 64;

/// What a step is to see in spite of all.
pub struct Shown<'a> {
    pub identity: &'a Identity,
    /// Its programs, and the links that lead to them.
    pub programs: &'a [PathBuf],
    /// Directories of `path`.
    pub path: &'a [PathBuf],
    /// Places that it reads.
    pub read: Vec<PathBuf>,
    /// Places that are mounted as they are: the workspace, homes.
    pub kept: Vec<PathBuf>,
}

/// What is laid over what, and what is put back then.
#[derive(Default)]
pub struct Hiding {
    pub mounts: Vec<Mounted>,
    pub binds: Vec<PathBuf>,
    /// For mounts whose whiteouts can't be kept on the disk.
    pub whiteouts: Vec<(PathBuf, Vec<PathBuf>)>,
}

/// The mounts that hide what `shown` does not name. Whiteouts are made below `covers`.
pub fn hide(covers: &Path, shown: &Shown) -> io::Result<Hiding> {
    let mut hiding = Hiding::default();
    for dir in PROGRAMS.map(Path::new) {
        let hidden = hidden_programs(dir, shown)?;
        if !hidden.is_empty() {
            let names: Vec<PathBuf> = hidden.into_iter().map(PathBuf::from).collect();
            hiding.mounts.push(over(covers, dir, &names)?);
        }
    }
    for dir in HAND_MADE.map(Path::new) {
        // What is not there is not made; a link elsewhere is followed.
        let Ok(dir) = dir.canonicalize() else { continue };
        if shown.kept.iter().any(|path| dir.starts_with(path)) {
            continue;
        }
        let wanted = Wanted::below(&dir, shown);
        if wanted.is_nothing() {
            hiding.mounts.push(Mounted { at: dir, layers: Vec::new(), top: None });
            continue;
        }
        let mut hidden = Vec::new();
        let whole = wanted.installations.contains(&dir).then_some(Inside { depth: 0, is_library: false });
        wanted.walk(&dir, whole, &mut hidden)?;
        let hidden: Vec<PathBuf> =
            hidden.iter().filter_map(|path| path.strip_prefix(&dir).ok().map(Path::to_owned)).collect();
        // The layers of an overlay may not lie in each other.
        if covers.starts_with(&dir) && !hidden.is_empty() {
            hiding.mounts.push(Mounted { at: dir.clone(), layers: vec![dir.clone()], top: None });
            hiding.whiteouts.push((dir.clone(), hidden));
        } else if !hidden.is_empty() {
            hiding.mounts.push(over(covers, &dir, &hidden)?);
        }
        hiding.binds.extend(shown.kept.iter().filter(|path| path.starts_with(&dir) && path.exists()).cloned());
    }
    Ok(hiding)
}

/// Names of the programs in `dir` that are hidden; none where it is a link, or not there.
pub fn hidden_programs(dir: &Path, shown: &Shown) -> io::Result<Vec<OsString>> {
    if !fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir()) {
        return Ok(Vec::new());
    }
    let unseen = shown.identity.unseen(dir)?;
    let is_own =
        |name: &&OsString| shown.programs.iter().any(|own| own.parent() == Some(dir) && own.file_name() == Some(name));
    Ok(unseen.iter().filter(|name| !is_own(name)).cloned().collect())
}

/// What of a directory of installations by hand is to be seen.
struct Wanted<'a> {
    programs: Vec<&'a Path>,
    installations: BTreeSet<PathBuf>,
    whole: Vec<&'a Path>,
}

/// How deep in an installation, and is it in a directory of libraries?
#[derive(Clone, Copy)]
struct Inside {
    depth: usize,
    is_library: bool,
}

impl<'a> Wanted<'a> {
    fn below(dir: &Path, shown: &'a Shown) -> Self {
        let in_it = |path: &&Path| path.starts_with(dir) && *path != dir;
        let programs: Vec<&Path> = shown.programs.iter().map(PathBuf::as_path).filter(in_it).collect();
        let places = programs.iter().filter_map(|p| p.parent()).chain(shown.path.iter().map(PathBuf::as_path));
        let installations = places.filter_map(|place| installation(dir, place)).collect();
        // Every program in a directory of `path` is in the key.
        let others = shown.path.iter().chain(&shown.read).chain(&shown.kept).map(PathBuf::as_path);
        Self { programs, installations, whole: others.filter(in_it).collect() }
    }

    fn is_nothing(&self) -> bool {
        self.programs.is_empty() && self.installations.is_empty() && self.whole.is_empty()
    }

    /// Collects what is hidden in `dir`, which is not hidden itself.
    fn walk(&self, dir: &Path, inside: Option<Inside>, hidden: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            if self.programs.contains(&path.as_path()) || self.whole.iter().any(|whole| path.starts_with(whole)) {
                continue;
            }
            let is_dir = entry.file_type()?.is_dir();
            let within = if self.installations.contains(&path) {
                Some(Inside { depth: 0, is_library: false })
            } else {
                inside.and_then(|inside| inside.enter(dir, &entry.file_name()))
            };
            let leads_on = self.leads_on(&path);
            match within {
                _ if leads_on && !is_dir => {}
                Some(deeper) if is_dir && (deeper.has_hidden() || leads_on) => {
                    self.walk(&path, Some(deeper), hidden)?;
                }
                Some(_) => {}
                None if leads_on => self.walk(&path, None, hidden)?,
                None => hidden.push(path),
            }
        }
        Ok(())
    }

    /// Is something below `path` wanted?
    fn leads_on(&self, path: &Path) -> bool {
        let below = |wanted: &Path| wanted.starts_with(path);
        self.programs.iter().chain(&self.whole).any(|wanted| below(wanted))
            || self.installations.iter().any(|wanted| below(wanted))
    }
}

impl Inside {
    /// As it is for `name` in a directory of an installation: `None` where that is hidden.
    fn enter(self, dir: &Path, name: &OsStr) -> Option<Self> {
        let is = |list: &[&str]| list.iter().any(|word| name == *word);
        if self.depth == 0 && is_of_many(dir) && !is(&COMMON) {
            return None;
        }
        let of_programs = self.depth == 1 && dir.file_name().is_some_and(|n| n == "bin" || n == "sbin");
        if of_programs || (self.depth == 0 || self.is_library) && is(&LOOKED_INTO) {
            return None;
        }
        let depth = self.depth + 1;
        Some(Self { depth, is_library: if self.depth == 0 { is(&LIBRARIES) } else { self.is_library && depth < 3 } })
    }

    /// Can something below be hidden?
    fn has_hidden(self) -> bool {
        self.depth <= 1 || self.is_library
    }
}

/// Do many installations share its `bin` and `lib`?
fn is_of_many(dir: &Path) -> bool {
    dir.ends_with("local")
}

/// The installation that a directory of programs belongs to, where it lies below `dir`.
fn installation(dir: &Path, place: &Path) -> Option<PathBuf> {
    let first = place.strip_prefix(dir).ok()?.iter().next()?;
    let is_common = is_of_many(dir) && COMMON.iter().any(|name| first == *name);
    Some(if is_common { dir.to_owned() } else { dir.join(first) })
}

/// `dir` with these paths in it hidden.
fn over(covers: &Path, dir: &Path, hidden: &[PathBuf]) -> io::Result<Mounted> {
    let mut hasher = Hasher::new("bcache cover 1");
    hasher.number(hidden.len() as u64);
    hidden.iter().for_each(|path| {
        hasher.bytes(path.as_os_str().as_bytes());
    });
    let cover = covers.join(hasher.finish().to_string());
    match fs::File::open(&cover) {
        // So that the ones in use are kept.
        Ok(there) => drop(there.set_modified(std::time::SystemTime::now())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => make_cover(&cover, hidden)?,
        Err(e) => return Err(e),
    }
    Ok(Mounted { at: dir.to_owned(), layers: vec![dir.to_owned(), cover], top: None })
}

fn make_cover(cover: &Path, hidden: &[PathBuf]) -> io::Result<()> {
    let half = temporary(cover);
    fs::create_dir_all(&half)?;
    let made = hidden.iter().try_for_each(|path| whiteout(&half.join(path)));
    let made = made.and_then(|()| match fs::rename(&half, cover) {
        // Another build has made it meanwhile.
        Err(_) if cover.is_dir() => remove_tree(&half),
        other => other,
    });
    if made.is_err() {
        // The failure that is reported is the first one.
        let _ = remove_tree(&half);
    }
    made
}

/// What hides the name below it.
pub(super) fn whiteout(at: &Path) -> io::Result<()> {
    if let Some(above) = at.parent() {
        fs::create_dir_all(above)?;
    }
    match mknodat(CWD, at, FileType::CharacterDevice, Mode::empty(), 0) {
        // A process with our number died here before.
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

/// Forgets all but the covers that were used last. No view may be up.
pub fn forget_old(covers: &Path) {
    let Ok(entries) = fs::read_dir(covers) else { return };
    let mut known: Vec<_> =
        entries.flatten().filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path()))).collect();
    known.sort();
    for (_, path) in known.iter().rev().skip(KEPT) {
        // It is made again where it is needed.
        let _ = remove_tree(path);
    }
}

/// What programs and scripts say behind the name of a program that is not there.
const LAMENTS: [&str; 9] = [
    ": command not found",
    "not found",
    ": no such file",
    "found: no",
    "is required",
    "are required",
    "is missing",
    "is needed",
    "is not installed",
];
/// And before it.
const SEARCHES: [&str; 3] = ["could not find", "cannot find", "can't find"];
/// Advice on more programs than this helps nobody.
const NAMED: usize = 3;

/// Hidden programs that a log complains about, as it was said last.
pub fn missed(log: &[u8], is_hidden: impl Fn(&OsStr) -> bool) -> Vec<String> {
    let mut missed: Vec<String> = Vec::new();
    for line in log.rsplit(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        for word in complained_about(&text) {
            if missed.len() < NAMED && !missed.iter().any(|known| known == word) && is_hidden(OsStr::new(word)) {
                missed.push(word.to_owned());
            }
        }
    }
    missed
}

/// The word just before a lament, or just behind a search: others in the line are what they are in any sentence.
fn complained_about(line: &str) -> Vec<&str> {
    let lower = line.to_ascii_lowercase();
    let is_apart = |c: char| !(c.is_alphanumeric() || "._+-".contains(c));
    let words = |text: &'_ str| -> Vec<(usize, usize)> {
        let begin = text.as_ptr() as usize;
        let parts = text.split(is_apart).map(|word| word.trim_matches('.')).filter(|word| !word.is_empty());
        parts.map(|word| (word.as_ptr() as usize - begin, word.len())).collect()
    };
    let before = LAMENTS.iter().filter_map(|lament| words(&lower[..lower.find(lament)?]).pop());
    let behind = SEARCHES.iter().filter_map(|search| {
        let from = lower.find(search)? + search.len();
        words(&lower[from..]).first().map(|(at, len)| (from + at, *len))
    });
    before.chain(behind).map(|(at, len)| &line[at..at + len]).collect()
}

#[cfg(test)]
#[path = "hiding_tests.rs"]
mod tests;
