//! Links on the way to a file: each of them is seen, since the same words mean another place once one is turned.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::base::stat::{Kind, Stat};
use crate::graph::Graph;

use super::files::{FileError, Files, Observation, read_stat};

const STATE: &str = ".bcache";
/// As many as the system follows.
pub const MOST_LINKS: usize = 40;

/// Links, each as it was seen.
pub type Links = Vec<(PathBuf, Observation)>;

/// Where the links of people lie: what is there may be turned at any time, and nothing tells.
pub struct Ground<'a> {
    root: &'a Path,
    prefixes: Vec<&'a Path>,
}

impl<'a> Ground<'a> {
    pub fn of(graph: &'a Graph) -> Self {
        Self { root: &graph.root, prefixes: graph.prefixes.iter().map(|prefix| prefix.path.as_path()).collect() }
    }

    /// What lies in a prefix is known by its layers, and our own state is as we make it, wherever it is.
    fn is_made(&self, path: &Path) -> bool {
        let is_state = path.file_name().is_some_and(|name| name == STATE) && path.parent() == Some(self.root);
        is_state || self.prefixes.contains(&path)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Passing {
    Go,
    /// That it is no link is a fact.
    Note,
    End,
}

impl Files {
    /// Follows the links at `path`'s last component to what they lead to, each of them seen.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, FileError> {
        Ok(self.chain(path)?.pop().expect("BUG: a chain has an end"))
    }

    /// `path`, each link that it leads through, and last what it leads to.
    pub fn chain(&self, path: &Path) -> Result<Vec<PathBuf>, FileError> {
        let mut at = path.to_owned();
        let mut chain = Vec::new();
        for _ in 0..MOST_LINKS {
            chain.push(at.clone());
            if self.observe(&at)?.stat.is_none_or(|s| s.kind != Kind::Symlink) {
                return Ok(chain);
            }
            let target = std::fs::read_link(&at).map_err(|error| FileError::Read { path: at.clone(), error })?;
            let next = at.parent().unwrap_or(Path::new("/")).join(&target);
            at = real_name(&next);
            if at != next {
                // Links on the way may be turned elsewhere, and then the same words lead to another file.
                match self.look(&next) {
                    Err(e) if e.is_link_loop() => break,
                    other => other?,
                };
            }
        }
        Err(FileError::LinkLoop { path: path.to_owned() })
    }

    /// Every link on the way to `path`, itself too: where one is turned, the same words mean another place. So they do where
    /// one takes the place of a directory that `..` leaves.
    pub fn links_to(&self, path: &Path) -> Result<Links, FileError> {
        let mut links = Links::new();
        match self.follow(PathBuf::new(), path, &mut links, &mut |_| Passing::Go)? {
            true => Ok(links),
            false => Err(FileError::LinkLoop { path: path.to_owned() }),
        }
    }

    /// The links on the way to something that a key knows, itself too. What else is there may become one. Of links in a circle the
    /// first are enough: they lead nowhere.
    pub fn way(&self, path: &Path, ground: &Ground) -> Result<Links, FileError> {
        let mut links = Links::new();
        if ground.prefixes.iter().any(|prefix| path.starts_with(prefix)) {
            return Ok(links);
        }
        let (start, rest) = match path.strip_prefix(ground.root) {
            Ok(inner) => (ground.root.to_owned(), inner),
            Err(_) => (PathBuf::new(), path),
        };
        self.follow(start, rest, &mut links, &mut |at| {
            if ground.is_made(at) {
                return Passing::End;
            }
            if ground.root.starts_with(at) { Passing::Go } else { Passing::Note }
        })?;
        Ok(links)
    }

    /// Goes part by part, as the system does. Says whether it came to an end.
    fn follow(
        &self,
        mut at: PathBuf,
        path: &Path,
        links: &mut Links,
        passing: &mut dyn FnMut(&Path) -> Passing,
    ) -> Result<bool, FileError> {
        let parts = |path: &Path| path.iter().rev().map(OsString::from).collect::<Vec<_>>();
        let mut rest = parts(path);
        while let Some(part) = rest.pop() {
            if part == ".." {
                self.is_link(&at)?;
                at.pop();
                continue;
            }
            at.push(part);
            let passed = passing(&at);
            if passed == Passing::End {
                break;
            }
            let kind = read_stat(&at)?.map(|stat| stat.kind);
            if kind != Some(Kind::Symlink) {
                if passed == Passing::Note && kind == Some(Kind::Dir) {
                    self.note_plain(&at);
                }
                continue;
            }
            if links.len() == MOST_LINKS {
                return Ok(false);
            }
            links.push((at.clone(), self.observe(&at)?));
            let target = std::fs::read_link(&at).map_err(|error| FileError::Read { path: at.clone(), error })?;
            at.pop();
            rest.extend(parts(&target));
        }
        Ok(true)
    }

    /// The links on the way to a directory in which commands run. What else is there, below what the way has in common with
    /// `root`, may become one.
    pub fn links_into(&self, dir: &Path, root: &Path) -> Result<Links, FileError> {
        for above in dir.ancestors().take_while(|above| !root.starts_with(above)) {
            self.is_link(above)?;
        }
        self.links_to(dir)
    }

    /// What is at `path` behind its links, looked at alone. `None` for nothing, and for links in a circle.
    pub fn look_behind(&self, path: &Path) -> Result<Option<Stat>, FileError> {
        let stat = self.look(path)?;
        if stat.is_none_or(|s| s.kind != Kind::Symlink) {
            return Ok(stat);
        }
        match self.resolve(path) {
            Ok(real) => self.look(&real),
            Err(e) if e.is_link_loop() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The same at one of many places that are searched. In a directory that is closed to us there is nothing, as for every
    /// shell; the fact is then what is closed.
    pub fn search(&self, path: &Path) -> Result<Option<Stat>, FileError> {
        match self.look_behind(path) {
            Err(e) if e.is_denied() => {}
            other => return other,
        }
        for above in path.ancestors().skip(1) {
            match self.look(above) {
                Err(e) if e.is_denied() => {}
                other => return other.map(|_| None),
            }
        }
        Ok(None)
    }
}

/// A path whose directory is behind its links already. `..` after a linked directory means the real parent
/// of that: only the system knows it.
fn real_name(path: &Path) -> PathBuf {
    let real = match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => std::fs::canonicalize(dir).map(|dir| dir.join(name)),
        _ => std::fs::canonicalize(path),
    };
    real.unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn links_are_followed_one_by_one_and_loops_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/real"), "x").unwrap();
        std::os::unix::fs::symlink("sub/real", at("b")).unwrap();
        std::os::unix::fs::symlink("b", at("a")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        let files = Files::default();
        let real = fs::canonicalize(at("sub/real")).unwrap();
        assert_eq!(fs::canonicalize(files.resolve(&at("a")).unwrap()).unwrap(), real);
        assert!(matches!(files.resolve(&at("loop")), Err(FileError::LinkLoop { .. })));
        assert!(files.account().len() >= 4);
    }
}
