//! A directory that stands in for a prefix while a step runs that may see just some of its layers, where there
//! are no namespaces to give the step a view of its own.
//!
//! ```text
//! .bcache/exclusive/<prefix>/view    the layers of the last such step; kept, since the next one needs most of them
//!                           /whole   the prefix itself, while the view is at its place
//! ```
//! Two renames bring the view to the prefix's place and two take it away. A crash between any two of them is
//! told from what lies where, and put right by [`StandIn::put_right`]. Whoever renames holds the prefix alone
//! ([`State::try_lock_prefix`]); whoever looks at it or installs into it holds a share.
//!
//! What the step left in the view is taken out of it as overlayfs would have it: files and directories that it
//! added or changed go to a top, and what it removed is listed. The layers below are put right before the view
//! is used again: each file is looked at, by its stat record, and another one than ours in it is the end of that view.
//! What a step put in the place of the view itself is not the view: a link there leads anywhere, and nothing behind
//! it is looked at, moved or written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::ids::StepId;
use crate::base::publish::temporary;
use crate::base::stat::{self, Kind, Stat};
use crate::base::tree::{PLAIN_DIR, Tree};

use super::error::{StoreError, failed};
use super::files::{entries_of, remove_tree};
use super::prefix::{How, LayerSource, Looked, Prefix};
use super::state::State;

/// A layer that the view shall hold, and the directory where it lies unpacked.
#[derive(Clone, Debug)]
pub struct Needed<'a> {
    pub step: StepId,
    pub tree: &'a Tree,
    pub dir: PathBuf,
}

/// The view that can stand in for one prefix.
#[derive(Debug)]
pub struct StandIn<'a> {
    state: &'a State,
    /// The prefix.
    at: PathBuf,
    dir: PathBuf,
    view: Prefix<'a>,
}

impl<'a> StandIn<'a> {
    pub fn new(state: &'a State, prefix: &Prefix) -> Self {
        let dir = state.dir().join("exclusive").join(prefix.name());
        let view = Prefix::new(state, &format!("{} view", prefix.name()), &dir.join("view"));
        Self { state, at: prefix.dir().to_owned(), dir, view }
    }

    pub fn at(&self) -> &Path {
        &self.at
    }

    fn whole(&self) -> PathBuf {
        self.dir.join("whole")
    }

    /// Was a build killed while the view was at the prefix's place?
    pub fn is_left(&self) -> bool {
        fs::symlink_metadata(self.whole()).is_ok()
    }

    /// Brings back what a killed build left elsewhere. The caller holds the prefix alone.
    pub fn put_right(&self) -> Result<(), StoreError> {
        if !self.is_left() {
            return Ok(());
        }
        let (view, whole) = (self.view.dir(), self.whole());
        if !is_there(view) && is_real_dir(&self.at)? {
            fs::rename(&self.at, view).map_err(failed("move", &self.at))?;
        }
        // Made by somebody since, where the view was not yet there, or no more.
        if is_there(&self.at) && fs::remove_dir(&self.at).is_err() {
            self.set_aside()?;
        }
        fs::rename(&whole, &self.at).map_err(failed("move", &whole))
    }

    /// What lies at the prefix's place and is not the view that we put there: whose it is, nobody knows.
    fn set_aside(&self) -> Result<(), StoreError> {
        let relative = self.at.strip_prefix(self.state.root()).unwrap_or(Path::new("prefix"));
        self.state.set_aside(&self.at, relative).map(|_| ())
    }

    /// Makes the view hold just these layers, and gives how they lie there.
    pub fn prepare(&self, needed: &[Needed]) -> Result<Looked, StoreError> {
        for _ in 0..2 {
            match self.bring(needed) {
                Ok(()) => {
                    let looked = self.view.look()?;
                    if looked.strangers.is_empty() {
                        return Ok(looked);
                    }
                }
                // Layers of other steps than the last one's: they may differ from those at every path.
                Err(StoreError::Conflict(_) | StoreError::ThroughLink { .. }) => {}
                Err(e) => return Err(e),
            }
            self.discard()?;
        }
        Err(StoreError::Changed(self.view.dir().to_owned()))
    }

    fn bring(&self, needed: &[Needed]) -> Result<(), StoreError> {
        let view = self.view.dir();
        if is_there(view) && !is_real_dir(view)? {
            self.discard()?;
        }
        fs::create_dir_all(view).map_err(failed("make", view))?;
        stat::set_mode(view, PLAIN_DIR).map_err(failed("open", view))?;
        let wanted: BTreeMap<&StepId, &Needed> = needed.iter().map(|layer| (&layer.step, layer)).collect();
        self.view.retain(|owner| wanted.contains_key(owner))?;
        for layer in wanted.values() {
            if self.view.damage(&layer.step, layer.tree)?.is_some() {
                self.view.put(&layer.step, layer.tree, LayerSource::Dir(&layer.dir))?;
            }
        }
        Ok(())
    }

    fn discard(&self) -> Result<(), StoreError> {
        let view = self.view.dir();
        // Of a link just the link.
        remove_tree(view).map_err(failed("remove", view))?;
        self.view.retain(|_| false).map(|_| ())
    }

    /// Brings the view to the prefix's place.
    pub fn enter(&self) -> Result<Entered<'_>, StoreError> {
        fs::create_dir_all(&self.at).map_err(failed("make", &self.at))?;
        let (view, whole) = (self.view.dir(), self.whole());
        fs::rename(&self.at, &whole).map_err(failed("move", &self.at))?;
        let entered = Entered { of: self, has_left: false };
        // Dropped on failure, it brings back the prefix.
        fs::rename(view, &self.at).map_err(failed("move", view))?;
        Ok(entered)
    }

    /// Moves what the step left to `top`, where there is one, and gives the paths that it removed. Without a top
    /// the view was not the step's to write in: gives what it did there as the paths of a fault. `before` is how the
    /// layers lay there.
    pub fn take(&self, top: Option<&Path>, before: &Looked) -> Result<Taken, StoreError> {
        let looked = self.view.look()?;
        let mut taken = Taken { written: looked.written_since(before).map(Path::to_owned), ..Taken::default() };
        let strangers = looked.strangers;
        let Some(top) = top else {
            taken.foreign = strangers.into_iter().map(|stranger| stranger.path).collect();
            if !taken.foreign.is_empty() {
                self.discard()?;
            }
            return Ok(taken);
        };
        for stranger in strangers {
            match stranger.how {
                How::Missing => taken.removed.push(stranger.path),
                How::DirMode => self.make_dirs(top, &stranger.path)?,
                How::Added | How::Changed => self.move_out(top, &stranger.path)?,
            }
        }
        Ok(taken)
    }

    fn move_out(&self, top: &Path, path: &Path) -> Result<(), StoreError> {
        let (from, to) = (self.view.dir().join(path), top.join(path));
        if let Some(parent) = path.parent() {
            self.make_dirs(top, parent)?;
        }
        move_anything(&from, &to).map_err(failed("move", &from))?;
        part_links(&to).map_err(failed("copy", &to))
    }

    /// The directories on the way to `path` and itself, with the modes that they have in the view.
    fn make_dirs(&self, top: &Path, path: &Path) -> Result<(), StoreError> {
        let mut way: Vec<&Path> = path.ancestors().filter(|dir| !dir.as_os_str().is_empty()).collect();
        way.reverse();
        for dir in way {
            let (there, here) = (self.view.dir().join(dir), top.join(dir));
            let mode = Stat::read(&there).map_err(failed("look at", &there))?.map_or(PLAIN_DIR, |stat| stat.mode);
            match opened(&[here.parent().unwrap_or(top)], || fs::create_dir(&here)) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made.and_then(|()| stat::set_mode(&here, mode)).map_err(failed("make", &here))?;
                }
            }
        }
        Ok(())
    }
}

/// What a step did in the view besides what went to its top. Paths are relative to the prefix.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// Of other steps.
    pub removed: Vec<PathBuf>,
    /// What it changed where it may only read.
    pub foreign: Vec<PathBuf>,
    /// A file of a layer that holds again what it held: what the step has read of it meanwhile, nobody knows.
    pub written: Option<PathBuf>,
}

/// The view is at the prefix's place. Dropped, it leaves it.
#[derive(Debug)]
pub struct Entered<'s> {
    of: &'s StandIn<'s>,
    has_left: bool,
}

impl Entered<'_> {
    /// Brings back the prefix. An error where the view has gone meanwhile.
    pub fn leave(mut self) -> Result<(), StoreError> {
        self.bring_back()
    }

    fn bring_back(&mut self) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.has_left, true) {
            return Ok(());
        }
        let (at, view, whole) = (&self.of.at, self.of.view.dir(), self.of.whole());
        let mut moved = Ok(());
        if !is_there(view) {
            // A step can put a link to anywhere there: that is no view.
            moved = if is_real_dir(at)? {
                fs::rename(at, view).map_err(failed("move", at))
            } else {
                Err(StoreError::Changed(at.clone()))
            };
        }
        if is_there(at) {
            self.of.set_aside()?;
        }
        fs::rename(&whole, at).map_err(failed("move", &whole))?;
        moved
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // What stays elsewhere is put right by the next build.
        let _ = self.bring_back();
    }
}

/// A directory changes its parent only where it may be written in itself.
fn move_anything(from: &Path, to: &Path) -> io::Result<()> {
    let dirs: Vec<&Path> = [from.parent(), to.parent()].into_iter().flatten().collect();
    let there = Stat::read(from)?.filter(|stat| stat.kind == Kind::Dir && stat.mode & 0o200 == 0);
    if let Some(there) = there {
        stat::set_mode(from, there.mode | 0o700)?;
    }
    opened(&dirs, || fs::rename(from, to))?;
    there.map_or(Ok(()), |there| stat::set_mode(to, there.mode))
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// A link to a directory is none.
fn is_real_dir(path: &Path) -> Result<bool, StoreError> {
    Ok(Stat::read(path).map_err(failed("look at", path))?.is_some_and(|stat| stat.kind == Kind::Dir))
}

/// Does something in directories that may not allow it.
fn opened(dirs: &[&Path], act: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match act() {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        other => return other,
    }
    let mut modes = Vec::new();
    for dir in dirs {
        if let Some(there) = Stat::read(dir)? {
            stat::set_mode(dir, there.mode | 0o700)?;
            modes.push((dir, there.mode));
        }
    }
    let done = act();
    modes.iter().rev().try_for_each(|(dir, mode)| stat::set_mode(dir, *mode))?;
    done
}

/// A file with several names may have one that stays in the view, where other steps write: it becomes a copy.
fn part_links(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        for entry in entries_of(path)? {
            part_links(&entry.path())?;
        }
    } else if meta.is_file() && meta.nlink() > 1 {
        let dirs: Vec<&Path> = path.parent().into_iter().collect();
        opened(&dirs, || copy_over(path, &meta))?;
    }
    Ok(())
}

fn copy_over(path: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let copy = temporary(path);
    fs::copy(path, &copy)?;
    stat::set_mode(&copy, 0o600)?;
    fs::File::options().write(true).open(&copy)?.set_times(fs::FileTimes::new().set_modified(meta.modified()?))?;
    stat::set_mode(&copy, meta.mode() & 0o7777)?;
    fs::rename(&copy, path)
}
