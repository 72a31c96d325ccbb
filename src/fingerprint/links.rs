//! Links on the way to a file: each of them is seen, since the same words mean another place once one is turned.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::base::stat::{Kind, Stat};

use super::files::{FileError, Files, Observation, read_stat};

/// As many as the system follows.
pub const MOST_LINKS: usize = 40;

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
    pub fn links_to(&self, path: &Path) -> Result<Vec<(PathBuf, Observation)>, FileError> {
        let parts = |path: &Path| path.iter().rev().map(OsString::from).collect::<Vec<_>>();
        let (mut at, mut rest, mut links) = (PathBuf::new(), parts(path), Vec::new());
        while let Some(part) = rest.pop() {
            if part == ".." {
                self.is_link(&at)?;
                at.pop();
                continue;
            }
            at.push(part);
            if read_stat(&at)?.is_none_or(|stat| stat.kind != Kind::Symlink) {
                continue;
            }
            if links.len() == MOST_LINKS {
                return Err(FileError::LinkLoop { path: path.to_owned() });
            }
            links.push((at.clone(), self.observe(&at)?));
            let target = std::fs::read_link(&at).map_err(|error| FileError::Read { path: at.clone(), error })?;
            at.pop();
            rest.extend(parts(&target));
        }
        Ok(links)
    }

    /// The links on the way to a directory in which commands run. What else is there, below what the way has in common with
    /// `root`, may become one.
    pub fn links_into(&self, dir: &Path, root: &Path) -> Result<Vec<(PathBuf, Observation)>, FileError> {
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
