//! The files that a step's input patterns name, by path, kind, executable bit and content.
//!
//! A directory stands for all that lies in it. A symbolic link is its text *and* what it leads to:
//! a command that opens it reads the file behind it. A glob passes over `.git`, `.bcache`, prefixes and
//! the step's own outputs.
//!
//! A link on the way to what was found counts by its text: once it is turned the same words mean another file, or one that has
//! others beside it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::action::{Component, Kind as Part};
use crate::base::digest::Hasher;
use crate::base::paths::escaped;
use crate::base::stat::Kind;
use crate::graph::pattern::Pattern;
use crate::graph::{Graph, InputPattern, OutputPattern, Step};

use super::files::{FileError, Files, Observation};
use super::links::Ground;

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("input `{pattern}` matches nothing")]
    NoMatch { pattern: String },
    #[error(
        "input `{pattern}` is written with `..` after the link `{}`: commands find another file there",
        escaped(link)
    )]
    BehindLink { pattern: String, link: PathBuf },
}

/// Paths that were found, each with what was seen there.
pub type Found = BTreeMap<PathBuf, Observation>;

pub struct Walk<'a> {
    files: &'a Files,
    /// Directories that globs do not enter.
    skipped: Vec<&'a Path>,
    own: &'a [OutputPattern],
    depfiles: &'a [Pattern],
    excludes: Vec<&'a Pattern>,
    /// Directories of the store: what is kept there changes with each step that runs.
    store: &'a [PathBuf],
    /// Where repositories and states are passed over: there alone, or anywhere.
    states_of: Option<&'a Path>,
    /// Where links on the way count, if they do.
    ground: Option<Ground<'a>>,
    /// Ways that are known.
    ways: RefCell<HashSet<PathBuf>>,
}

impl<'a> Walk<'a> {
    pub fn new(files: &'a Files, graph: &'a Graph, step: &'a Step, store: &'a [PathBuf]) -> Self {
        Self {
            store,
            files,
            skipped: graph.prefixes.iter().map(|p| p.path.as_path()).collect(),
            own: &step.outputs,
            depfiles: &step.depfiles,
            excludes: step.inputs.iter().filter(|i| i.exclude).map(|i| &i.pattern).collect(),
            states_of: None,
            ground: Some(Ground::of(graph)),
            ways: RefCell::default(),
        }
    }

    /// For looking at outputs: nothing is taken away, what a step made in a `.git` of its own neither.
    pub fn for_outputs(files: &'a Files, graph: &'a Graph) -> Self {
        Self {
            files,
            skipped: graph.prefixes.iter().map(|p| p.path.as_path()).collect(),
            own: &[],
            depfiles: &[],
            excludes: Vec::new(),
            store: &[],
            states_of: Some(&graph.root),
            ground: None,
            ways: RefCell::default(),
        }
    }

    /// For the sources of packages, but for these directories.
    pub fn of_packages(files: &'a Files, graph: &'a Graph, skipped: Vec<&'a Path>, store: &'a [PathBuf]) -> Self {
        let mut walk = Self::for_outputs(files, graph);
        walk.skipped.extend(skipped);
        walk.store = store;
        walk.states_of = None;
        walk
    }

    /// All below a directory.
    pub fn directory(&self, dir: &Path, found: &mut Found) -> Result<(), InputError> {
        self.tree(dir, &mut Vec::new(), &|_| true, found)
    }

    /// Everything that the patterns name.
    pub fn expand(&self, inputs: &[InputPattern]) -> Result<Found, InputError> {
        let mut found = Found::new();
        for input in inputs.iter().filter(|i| !i.exclude) {
            let before = found.len();
            let any = self.add(&input.pattern, &mut found)?;
            if !any && found.len() == before && !input.optional {
                return Err(InputError::NoMatch { pattern: input.pattern.shown.clone() });
            }
        }
        Ok(found)
    }

    /// A file that a command names, behind its links too. Nothing where it leads to none.
    pub fn named(&self, path: &Path, found: &mut Found) -> Result<(), InputError> {
        if self.files.look_behind(path)?.is_some_and(|s| s.kind == Kind::File) {
            self.file(path, &mut Vec::new(), &|_| true, found)?;
            self.way_to(path.parent().unwrap_or(path), found)?;
        }
        Ok(())
    }

    /// The links on the way to a directory or link in which or behind which something was found, and behind it.
    fn way_to(&self, path: &Path, found: &mut Found) -> Result<(), InputError> {
        let Some(ground) = &self.ground else { return Ok(()) };
        if self.ways.borrow().contains(path) {
            return Ok(());
        }
        self.ways.borrow_mut().insert(path.to_owned());
        let is_own = |link: &Path| self.own.iter().any(|output| output.pattern.covers(link));
        found.extend(self.files.way(path, ground)?.into_iter().filter(|(link, _)| !is_own(link)));
        Ok(())
    }

    /// Paths of one pattern; says whether it matched at all.
    pub fn add(&self, pattern: &Pattern, found: &mut Found) -> Result<bool, InputError> {
        self.check_way(pattern)?;
        if !pattern.is_glob() {
            let Some(stat) = self.files.look(&pattern.path)? else { return Ok(false) };
            if stat.kind == Kind::Dir {
                self.tree(&pattern.path, &mut Vec::new(), &|p| !self.excluded(p), found)?;
            } else {
                self.file(&pattern.path, &mut Vec::new(), &|_| true, found)?;
            }
            self.way_to(pattern.path.parent().unwrap_or(&pattern.path), found)?;
            return Ok(true);
        }
        let mut any = false;
        let start = pattern.fixed_part();
        self.glob(&start, pattern, &mut Vec::new(), found, &mut any)?;
        if any {
            self.way_to(&start, found)?;
        }
        Ok(any)
    }

    /// A pattern goes by its text alone, a command by the links too: do they lead to the same?
    fn check_way(&self, pattern: &Pattern) -> Result<(), InputError> {
        let Some(way) = &pattern.way else { return Ok(()) };
        let links = self.files.links_to(way)?;
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        match links.into_iter().next() {
            Some((link, _)) if real(way) != real(&pattern.fixed_part()) => {
                Err(InputError::BehindLink { pattern: pattern.shown.clone(), link })
            }
            _ => Ok(()),
        }
    }

    fn glob(
        &self,
        dir: &Path,
        pattern: &Pattern,
        above: &mut Vec<PathBuf>,
        found: &mut Found,
        any: &mut bool,
    ) -> Result<(), InputError> {
        if !self.enters(dir, above)? {
            return Ok(());
        }
        for (name, kind) in self.files.list(dir)?.iter() {
            let path = dir.join(name);
            if self.passes_over(name, &path, above) {
                continue;
            }
            let is_dir = match kind {
                Kind::Dir => true,
                Kind::Symlink => self.files.look_behind(&path)?.is_some_and(|s| s.kind == Kind::Dir),
                Kind::File | Kind::Other => false,
            };
            if pattern.matches(&path) && !self.excluded(&path) {
                *any = true;
                // What is a link counts by its text too, wherever it leads.
                if *kind == Kind::Dir {
                    self.tree(&path, above, &|p| !self.excluded(p), found)?;
                } else {
                    self.file(&path, above, &|p| !self.excluded(p), found)?;
                }
            }
            if is_dir && pattern.may_match_below(&path) {
                let mut any_below = false;
                self.glob(&path, pattern, above, found, &mut any_below)?;
                if any_below && *kind == Kind::Symlink {
                    self.way_to(&path, found)?;
                }
                *any |= any_below;
            }
        }
        above.pop();
        Ok(())
    }

    /// All below a directory; an empty one is there by itself.
    fn tree(
        &self,
        dir: &Path,
        above: &mut Vec<PathBuf>,
        wanted: &dyn Fn(&Path) -> bool,
        found: &mut Found,
    ) -> Result<(), InputError> {
        if !self.enters(dir, above)? {
            return Ok(());
        }
        let listing = self.files.list(dir)?;
        if listing.is_empty() {
            found.insert(dir.to_owned(), self.files.observe(dir)?);
        }
        for (name, kind) in listing.iter() {
            let path = dir.join(name);
            if self.passes_over(name, &path, above) || !wanted(&path) {
                continue;
            }
            if *kind == Kind::Dir {
                self.tree(&path, above, wanted, found)?;
            } else {
                self.file(&path, above, wanted, found)?;
            }
        }
        above.pop();
        Ok(())
    }

    /// A file, or a link and what it leads to.
    fn file(
        &self,
        path: &Path,
        above: &mut Vec<PathBuf>,
        wanted: &dyn Fn(&Path) -> bool,
        found: &mut Found,
    ) -> Result<(), InputError> {
        let observation = self.files.observe(path)?;
        found.insert(path.to_owned(), observation);
        if observation.stat.is_some_and(|s| s.kind == Kind::Symlink) {
            self.way_to(path, found)?;
            let real = match self.files.resolve(path) {
                Ok(real) => real,
                // A loop is what it says, and leads nowhere.
                Err(FileError::LinkLoop { .. }) => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            match self.files.look(&real)?.map(|s| s.kind) {
                Some(Kind::Dir) => self.tree(path, above, wanted, found)?,
                Some(Kind::File) => {
                    found.insert(real.clone(), self.files.observe(&real)?);
                }
                Some(Kind::Symlink | Kind::Other) | None => {}
            }
        }
        Ok(())
    }

    /// Notes that `dir` is being walked; not a second time inside itself (links may lead upwards).
    fn enters(&self, dir: &Path, above: &mut Vec<PathBuf>) -> Result<bool, InputError> {
        let Ok(real) = std::fs::canonicalize(dir) else {
            // A link that leads nowhere may lead somewhere one day.
            if self.files.look(dir)?.is_some_and(|s| s.kind == Kind::Symlink) {
                self.files.search(dir)?;
            }
            return Ok(false);
        };
        if above.contains(&real) {
            return Ok(false);
        }
        above.push(real);
        Ok(true)
    }

    /// `above` ends with the directory that the walk is in, by its real name.
    fn passes_over(&self, name: &OsStr, path: &Path, above: &[PathBuf]) -> bool {
        if (name == ".git" || name == ".bcache") && self.states_of.is_none_or(|root| path.parent() == Some(root)) {
            return true;
        }
        let passes = |path: &Path| {
            self.skipped.contains(&path)
                || self.store.iter().any(|home| path.starts_with(home))
                || self.own.iter().any(|o| o.pattern.matches(path))
                || self.depfiles.iter().any(|d| d.matches(path))
        };
        // A link may lead to where the step's own outputs lie.
        let real = above.last().filter(|dir| path.parent() != Some(dir)).map(|dir| dir.join(name));
        passes(path) || real.is_some_and(|real| passes(&real))
    }

    fn excluded(&self, path: &Path) -> bool {
        self.excludes.iter().any(|p| p.covers(path))
    }
}

/// The components of what was found, in the order of the paths.
pub fn components(graph: &Graph, found: &Found) -> Vec<Component> {
    found.iter().map(|(path, seen)| component(Part::Input, graph.shown(path), seen)).collect()
}

/// A file as a component: kind, executable bit, content.
pub fn component(kind: Part, name: String, seen: &Observation) -> Component {
    let mut hasher = Hasher::new("bcache input 1");
    match seen.stat {
        None => hasher.number(0),
        Some(stat) => {
            hasher.number(1 + stat.kind as u64).number(u64::from(stat.kind == Kind::File && stat.is_executable()))
        }
    };
    // Of a directory only that it is there: what lies in it has entries of its own.
    if let (Some(digest), true) = (&seen.digest, seen.stat.is_some_and(|s| s.kind != Kind::Dir)) {
        hasher.digest(digest);
    }
    Component { kind, name, digest: hasher.finish(), shown: String::new() }
}
