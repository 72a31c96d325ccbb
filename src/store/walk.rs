//! What lies below given paths: a look before anything is read.

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::stat::{Kind, Stat};
use crate::base::tree::{PLAIN_DIR, is_inner, path_order};

use super::error::{StoreError, failed};

/// Something that has an entry in the tree.
pub(super) struct Found {
    /// Relative to the root of the walk.
    pub path: PathBuf,
    pub stat: Stat,
    /// Of a symbolic link.
    pub target: Option<PathBuf>,
}

#[derive(Default)]
pub(super) struct Walk {
    /// In tree order.
    pub found: Vec<Found>,
    /// Every directory that was listed and its state before, so that a change meanwhile is noticed.
    dirs: Vec<(PathBuf, Stat)>,
}

impl Walk {
    /// Everything below `root`; the root itself has no entry.
    pub(super) fn below(root: &Path) -> Result<Self, StoreError> {
        let mut walk = Self::default();
        let stat = look(root)?;
        walk.list(root, PathBuf::new(), stat)?;
        Ok(walk.sorted())
    }

    /// The given paths (relative to `root`), directories with all that is in them.
    pub(super) fn of(root: &Path, paths: &[PathBuf]) -> Result<Self, StoreError> {
        let mut walk = Self::default();
        for path in outermost(paths) {
            no_link_above(root, path)?;
            walk.add(root, path.to_owned(), look(&root.join(path))?)?;
        }
        Ok(walk.sorted())
    }

    fn sorted(mut self) -> Self {
        self.found.sort_by(|a, b| path_order(&a.path, &b.path));
        self
    }

    fn add(&mut self, root: &Path, path: PathBuf, stat: Stat) -> Result<(), StoreError> {
        let full = root.join(&path);
        match stat.kind {
            Kind::Dir => return self.list(root, path, stat),
            Kind::File => self.found.push(Found { path, stat, target: None }),
            Kind::Symlink => {
                let target = fs::read_link(&full).map_err(failed("read", &full))?;
                self.found.push(Found { path, stat, target: Some(target) });
            }
            Kind::Other => return Err(StoreError::Special(full)),
        }
        Ok(())
    }

    fn list(&mut self, root: &Path, path: PathBuf, stat: Stat) -> Result<(), StoreError> {
        let full = root.join(&path);
        let entries = fs::read_dir(&full).map_err(failed("list", &full))?;
        let mut empty = true;
        for entry in entries {
            empty = false;
            let name = entry.map_err(failed("list", &full))?.file_name();
            let stat = look(&full.join(&name))?;
            self.add(root, path.join(&name), stat)?;
        }
        if !path.as_os_str().is_empty() && (empty || stat.mode != PLAIN_DIR) {
            self.found.push(Found { path, stat, target: None });
        }
        self.dirs.push((full, stat));
        Ok(())
    }

    /// Without these paths.
    pub(super) fn without(mut self, except: &[PathBuf]) -> Self {
        self.found.retain(|found| !except.contains(&found.path));
        self
    }

    /// Is every listed directory, link and file as it was?
    pub(super) fn check_unchanged(&self, root: &Path) -> Result<(), StoreError> {
        let found = self.found.iter().filter(|f| f.stat.kind != Kind::Dir).map(|f| (root.join(&f.path), f.stat));
        for (path, stat) in self.dirs.iter().cloned().chain(found) {
            if Stat::read(&path).map_err(failed("look at", &path))? != Some(stat) {
                return Err(StoreError::Changed(path));
            }
        }
        Ok(())
    }
}

fn look(path: &Path) -> Result<Stat, StoreError> {
    Stat::read(path).map_err(failed("look at", path))?.ok_or_else(|| StoreError::Absent(path.to_owned()))
}

/// Sorted, each once, without those that lie below another.
fn outermost(paths: &[PathBuf]) -> Vec<&Path> {
    let mut sorted: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    sorted.sort();
    let mut kept: Vec<&Path> = Vec::new();
    for path in sorted {
        if kept.last().is_none_or(|last| !path.starts_with(last)) {
            kept.push(path);
        }
    }
    kept
}

/// What is reached through a link belongs to somebody else.
pub fn no_link_above(root: &Path, path: &Path) -> Result<(), StoreError> {
    if !is_inner(path) {
        return Err(StoreError::Outside(path.to_owned()));
    }
    for above in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
        let link = root.join(above);
        let stat = Stat::read(&link).map_err(failed("look at", &link))?;
        if stat.is_some_and(|stat| stat.kind == Kind::Symlink) {
            return Err(StoreError::ThroughLink { path: root.join(path), link });
        }
    }
    Ok(())
}
