//! Discovered inputs: files that a run was found to have read, by what its depfiles say.
//!
//! They can't be known before a first run, so they are no part of the *base* action. The names are kept beside it, here
//! in the record and for others in the store; at a lookup each named file is digested as it is now, and
//! base and digests together make the key. A file that was named from the workspace goes by its relative path, with `..` where
//! it lies outside, so that another worktree looks at its own; any other by its absolute one.
//!
//! A file counts by what opening it gives: kind, executable bit and bytes behind all links. A directory counts by
//! being one, and a file that is not there by its absence. A name that ends in a slash is of a directory that counts by all
//! that lies in it: so cargo's build scripts watch theirs. One that ends in `/.` is of a link that counts by its text alone:
//! it is on the way to a file that the key knows by another name; or of a directory that the way leaves again by `..`, and counts
//! by being no link.
//!
//! **Known limit.** A header that appears *earlier* on the include path than the one that was read is in no
//! depfile. That it is absent is in the key only where a run has read it before.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Component as Step, Path, PathBuf};

use crate::action::{ABSENT, Component, Kind as Part};
use crate::base::digest::Hasher;
use crate::base::disk::read_file;
use crate::base::paths::{escaped, join_clean, unescaped};
use crate::base::stat::{Instant, Kind, Stat};

use super::depfile::{self, NoRule};
use super::files::{FileError, Files, Observation};
use super::inputs;

/// The end of a name that no path has.
const BY_TEXT: &str = "/.";

#[derive(Debug, thiserror::Error)]
pub enum DepfileError {
    #[error("cannot read depfile `{}`: {error}", escaped(path))]
    Read { path: PathBuf, error: io::Error },
    #[error("`{}` is no depfile: {error}", escaped(path))]
    NoRule { path: PathBuf, error: NoRule },
}

/// What depfiles name, absolute; a relative name starts at `cwd`. `..` stays: what it means depends on links.
pub fn named(depfiles: &[PathBuf], cwd: &Path) -> Result<BTreeSet<PathBuf>, DepfileError> {
    let mut found = BTreeSet::new();
    for path in depfiles {
        let text = read_file(path).map_err(|error| DepfileError::Read { path: path.clone(), error })?;
        let names = depfile::parse(&text).map_err(|error| DepfileError::NoRule { path: path.clone(), error })?;
        found.extend(names.iter().map(|name| cwd.join(name).components().collect::<PathBuf>()));
    }
    Ok(found)
}

/// Without `.` and `..`, where that leads to the same file: the directories in between may be gone when the
/// name is looked at again. Else (`..` behind a link) as it is.
pub fn plain(path: &Path) -> PathBuf {
    if !path.components().any(|c| c == Step::ParentDir) {
        return path.components().collect();
    }
    let Some(clean) = join_clean(Path::new("/"), path) else { return path.to_owned() };
    let real = |path: &Path| {
        let parent = std::fs::canonicalize(path.parent()?).ok()?;
        Some(parent.join(path.file_name().unwrap_or(OsStr::new(".."))))
    };
    match real(path) {
        there @ Some(_) if real(&clean) != there => path.to_owned(),
        _ => clean,
    }
}

/// Names as they are kept, of what was found by a path: relative to the workspace where that began there.
pub fn name_of(root: &Path, by: &Path, path: &Path) -> String {
    match path.strip_prefix(root) {
        Ok(inside) => escaped(inside),
        Err(_) if by.starts_with(root) => escaped(&relative(root, path)),
        Err(_) => escaped(path),
    }
}

/// The name of a link that counts by its text alone.
pub fn link_name_of(root: &Path, by: &Path, link: &Path) -> String {
    name_of(root, by, link) + BY_TEXT
}

/// The way from one absolute path to another that is not below it.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let above = from.ancestors().find(|above| to.starts_with(above)).unwrap_or(Path::new("/"));
    let up = from.strip_prefix(above).into_iter().flat_map(Path::components).map(|_| Step::ParentDir);
    let down = to.strip_prefix(above).into_iter().flat_map(Path::components);
    up.chain(down).collect()
}

/// Where a file lies that is so near to the workspace that it may be meant as a neighbour, though its name says where it is: a
/// worktree elsewhere would have another one. That place is beside the workspace, or beside a directory above.
pub fn neighbour(root: &Path, path: &Path) -> Option<PathBuf> {
    let shared = root.components().zip(path.components()).take_while(|(own, other)| own == other).count();
    let levels = root.components().count();
    // What has no more in common than the first directory is near only as a sibling.
    let is_near = shared < levels && (shared > 2 || shared == 2 && levels == 3);
    is_near.then(|| path.components().take(shared + 1).collect())
}

/// Of a link that counts by its text alone, what people call it.
pub fn link_of(name: &str) -> Option<&str> {
    name.strip_suffix(BY_TEXT)
}

pub fn path_of(root: &Path, name: &str) -> Option<PathBuf> {
    unescaped(link_of(name).unwrap_or(name)).map(|path| root.join(path))
}

/// The named files as they are now, in the order of the names. A name that nobody gives counts as absent.
pub fn components<'n>(
    files: &Files,
    root: &Path,
    names: impl Iterator<Item = &'n str>,
) -> Result<Vec<Component>, FileError> {
    let component = |name: &str| {
        if let Some(dir) = name.strip_suffix('/') {
            return tree(files, name, &path_of(root, dir).unwrap_or_default());
        }
        let seen = match path_of(root, name) {
            Some(path) if link_of(name).is_some() => text_of(files, &path)?,
            Some(path) => look(files, &path)?,
            None => Observation { stat: None, settled: true, digest: None },
        };
        let mut component = inputs::component(Part::Discovered, name.to_owned(), &seen);
        if seen.stat.is_none() {
            ABSENT.clone_into(&mut component.shown);
        }
        Ok(component)
    };
    names.map(component).collect()
}

/// A directory with all that lies in it.
fn tree(files: &Files, name: &str, dir: &Path) -> Result<Component, FileError> {
    let mut hasher = Hasher::new("bcache discovered directory 1");
    for path in below(files, dir)? {
        let inner = path.strip_prefix(dir).unwrap_or(&path).as_os_str().as_encoded_bytes();
        let component = inputs::component(Part::Discovered, String::new(), &look(files, &path)?);
        hasher.bytes(inner).digest(&component.digest);
    }
    Ok(Component { kind: Part::Discovered, name: name.to_owned(), digest: hasher.finish(), shown: String::new() })
}

/// All files in a directory, in one order, but for repositories' and caches' own.
pub fn below(files: &Files, dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let listing = files.list(dir)?;
    if listing.iter().any(|(name, _)| name == "CACHEDIR.TAG") {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (name, kind) in listing.iter().filter(|(name, _)| name != ".git" && name != ".bcache") {
        match kind {
            Kind::Dir => found.extend(below(files, &dir.join(name))?),
            Kind::File | Kind::Symlink | Kind::Other => found.push(dir.join(name)),
        }
    }
    Ok(found)
}

/// What opening the path would give. A file that can't be had is absent: so it was for the run.
fn look(files: &Files, path: &Path) -> Result<Observation, FileError> {
    let of_kind = |stat: Option<Stat>| Observation { stat, settled: true, digest: None };
    let looked = match files.resolve(path) {
        Ok(real) => match files.look(&real) {
            Ok(Some(stat)) if stat.kind == Kind::File => files.observe(&real),
            other => other.map(of_kind),
        },
        Err(FileError::Special { path }) => files.look(&path).map(of_kind),
        Err(e) => Err(e),
    };
    match looked {
        Err(FileError::LinkLoop { .. } | FileError::Read { .. }) => Ok(of_kind(None)),
        other => other,
    }
}

/// A link itself. Whatever else stands in its place, or nothing, is the absence of a link.
fn text_of(files: &Files, path: &Path) -> Result<Observation, FileError> {
    match files.is_link(path) {
        Ok(true) => files.observe(path),
        Ok(false) | Err(FileError::Read { .. }) => Ok(Observation { stat: None, settled: true, digest: None }),
        Err(e) => Err(e),
    }
}

/// The first of these links that was turned since a moment, or could have been.
pub fn turned_since(links: &BTreeSet<PathBuf>, start: Instant) -> Option<&Path> {
    let stat = |path: &Path| Stat::read(path).ok().flatten();
    links.iter().map(PathBuf::as_path).find(|link| stat(link).is_some_and(|stat| is_young(&stat, start)))
}

/// The first of the files that changed since a moment, or could have: what was read is then not known. `ctime`
/// alone says it, since any program can set the other stamp.
pub fn moved_since(paths: &BTreeSet<PathBuf>, start: Instant) -> Option<&Path> {
    let mut checked: HashSet<PathBuf> = HashSet::new();
    for path in paths {
        // What is behind links, and the links on the way.
        let behind = std::fs::canonicalize(path).ok();
        for at in behind.iter().map(PathBuf::as_path).chain(path.ancestors()) {
            // What can't be looked at is absent, as everywhere here.
            let stat = if checked.insert(at.to_owned()) { Stat::read(at).ok().flatten() } else { None };
            if stat.is_some_and(|stat| is_young(&stat, start)) {
                return Some(path);
            }
        }
    }
    None
}

/// Of a directory only that it is there is of interest. A file system that counts in seconds says it too early.
fn is_young(stat: &Stat, start: Instant) -> bool {
    let coarse = stat.ctime % 1_000_000_000 == 0 && start.0.saturating_sub(stat.ctime) < 2_000_000_000;
    stat.kind != Kind::Dir && (stat.ctime >= start.0 || coarse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn set(files: &Files, root: &Path, names: &[&str]) -> Vec<Component> {
        components(files, root, names.iter().copied()).unwrap()
    }

    #[test]
    fn what_is_absent_has_a_digest_of_its_own_and_a_directory_counts_by_being_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let names = ["d", "f", "link", "loop"];
        let digests =
            || set(&Files::default(), &root, &names).into_iter().map(|c| (c.digest, c.shown)).collect::<Vec<_>>();
        let none = digests();
        assert!(none.iter().all(|(digest, shown)| *digest == none[0].0 && shown == ABSENT));
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("f"), "1").unwrap();
        symlink("f", root.join("link")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let first = digests();
        assert_eq!(first[1], first[2]);
        assert_ne!(first[0], first[1]);
        assert_eq!(first[3], none[3]);
        fs::write(root.join("d/inner"), "").unwrap();
        fs::write(root.join("f"), "2").unwrap();
        let second = digests();
        assert_eq!(second[0], first[0]);
        assert!(second[1] != first[1] && second[1] == second[2]);
    }

    #[test]
    fn names_are_relative_where_they_begin_in_the_workspace_and_absolute_elsewhere() {
        let root = Path::new("/ws/tree");
        for (by, path, name) in [
            ("/ws/tree/src/a.h", "/ws/tree/src/a.h", "src/a.h"),
            ("/ws/tree/../a.h", "/ws/a.h", "../a.h"),
            ("/ws/tree/src/../../../usr/a.h", "/usr/a.h", "../../usr/a.h"),
            ("/ws/a.h", "/ws/a.h", "/ws/a.h"),
            ("/ws/../usr/a.h", "/usr/a.h", "/usr/a.h"),
        ] {
            assert_eq!(name_of(root, Path::new(by), Path::new(path)), name);
            let again = path_of(root, name).unwrap();
            assert_eq!(join_clean(Path::new("/"), &again), Some(path.into()));
        }
    }

    #[test]
    fn a_neighbour_is_what_moves_with_a_workspace_perhaps() {
        for (root, path, expected) in [
            ("/home/u/ws", "/home/u/other/a.h", Some("/home/u/other")),
            ("/home/u/deep/ws", "/home/u/other/a.h", Some("/home/u/other")),
            ("/home/u/ws", "/home/w/a.h", None),
            ("/w/ws", "/w/a.h", Some("/w/a.h")),
            ("/ws", "/usr/include/a.h", None),
            ("/home/u/ws", "/home/u/ws/a.h", None),
        ] {
            assert_eq!(neighbour(Path::new(root), Path::new(path)), expected.map(PathBuf::from), "{root} {path}");
        }
    }

    #[test]
    fn two_dots_are_taken_away_unless_they_follow_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("far/inner")).unwrap();
        fs::create_dir(root.join("near")).unwrap();
        symlink("far/inner", root.join("link")).unwrap();
        for (name, wanted) in
            [("near/../x.h", "x.h"), ("./x.h", "x.h"), ("link/../x.h", "link/../x.h"), ("gone/../x.h", "x.h")]
        {
            assert_eq!(plain(&root.join(name)), root.join(wanted), "{name}");
        }
    }

    #[test]
    fn a_change_since_the_start_is_seen_also_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::write(root.join("f"), "1").unwrap();
        symlink("f", root.join("link")).unwrap();
        let changed = Stat::read(&root.join("link")).unwrap().unwrap().ctime;
        let paths = BTreeSet::from([root.join("gone"), root.join("link"), root.clone()]);
        let moved = |start: i64| moved_since(&paths, Instant(start)).map(Path::to_owned);
        assert_eq!(moved(changed), Some(root.join("link")));
        assert_eq!(moved(changed + 3_000_000_000), None);
    }
}
