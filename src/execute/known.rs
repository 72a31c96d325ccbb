//! What a step's key knows of a name in a depfile without its depfiles.
//!
//! A name is known by its own text alone: what lies behind a link is known where it lies, and whoever opens the name
//! goes by the link too. So a link on the way counts by its text, unless a key holds that (as an input, or as what the
//! step or a need of it has made).

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::base::ids::StepIx;
use crate::fingerprint::assemble::Assembled;
use crate::fingerprint::git;
use crate::fingerprint::links::MOST_LINKS;
use crate::graph::pattern::Pattern;
use crate::graph::{Elsewhere, OutputPattern};

use super::build::Build;

/// What a step's key holds without its depfiles, and what the step made.
pub(super) struct Known<'a> {
    seen: HashSet<&'a Path>,
    git: &'a [Arc<git::Identity>],
    /// Own directories, and prefixes in views: as they are called, and by their real names.
    below: Vec<PathBuf>,
    /// Own outputs and those of needs.
    outputs: Vec<&'a OutputPattern>,
    depfiles: &'a [Pattern],
    elsewhere: &'a Elsewhere,
    /// The own prefix, and where what the run installed lies until it is in it.
    top: Option<(&'a Path, PathBuf)>,
    root: &'a Path,
    /// Texts of the links that were met.
    links: RefCell<HashMap<PathBuf, Option<PathBuf>>>,
    /// Directories that were left by `..`, and whether they count.
    left: RefCell<HashMap<PathBuf, bool>>,
}

/// What counts of a name beyond what is known.
#[derive(Default)]
pub(super) struct Way {
    /// Links, by their texts; directories that were left by `..`, for being none.
    pub links: BTreeSet<PathBuf>,
    /// The file, by the name that leads to it also when the run's own links are gone. By two, where what `..` leaves is gone
    /// by now: the run may have taken it away, or it was never there.
    pub files: BTreeSet<PathBuf>,
}

impl<'a> Known<'a> {
    pub fn of(build: &'a Build, ix: StepIx, assembled: &'a Assembled) -> Self {
        let (graph, step) = (build.graph, build.graph.step(ix));
        let mut below = vec![step.work.as_path(), assembled.tmp.as_path()];
        if step.has_views() {
            below.extend(graph.prefixes.iter().flat_map(|prefix| [prefix.path.as_path(), prefix.seen()]));
        }
        below.extend(step.cargo.iter().flat_map(|cargo| [cargo.target_dir.as_path(), &cargo.out]));
        let mut below: Vec<PathBuf> = below.into_iter().map(Path::to_owned).collect();
        let real: Vec<PathBuf> = below.iter().filter_map(|dir| fs::canonicalize(dir).ok()).collect();
        below.extend(real);
        let needs = graph.flat_needs(ix).into_iter().map(|need| graph.step(need));
        Self {
            seen: assembled.seen.iter().map(|(path, _)| path.as_path()).collect(),
            git: &assembled.git,
            below,
            outputs: needs.chain([step]).flat_map(|s| &s.outputs).collect(),
            depfiles: &step.depfiles,
            elsewhere: &step.elsewhere,
            top: step.sysroot.map(|prefix| (graph.prefix(prefix).path.as_path(), step.work.join("top/upper"))),
            root: &graph.root,
            links: RefCell::default(),
            left: RefCell::default(),
        }
    }

    /// What counts of a name that the run gave.
    pub fn way(&self, name: &Path) -> Way {
        let (mut way, mut passed) = (Way::default(), BTreeSet::new());
        let is_broken = self.is_broken(name);
        way.files.extend(Some(name).filter(|_| is_broken).map(Path::to_owned));
        let (mut at, mut name) = (name.to_owned(), None);
        for _ in 0..MOST_LINKS {
            if self.has_bytes(&at) {
                way.links.append(&mut passed);
                return way;
            }
            let Some((link, next)) = self.first_link(&mut at, &mut way.links) else { break };
            if self.is_made(&link) {
                // It is as the run left it, and perhaps gone when the name is looked at again.
                name = None;
                way.links.append(&mut passed);
            } else {
                name.get_or_insert(at);
                passed.extend(Some(link).filter(|link| !self.has_text(link)));
            }
            at = next;
        }
        if self.has_bytes(&at) || self.is_made(&at) {
            way.links.append(&mut passed);
        } else {
            let file = name.unwrap_or(at);
            way.files.extend(Some(file).filter(|file| !is_broken || file.exists()));
        }
        way
    }

    /// Does `..` leave something in which nobody can be now, and that is not the run's own?
    fn is_broken(&self, name: &Path) -> bool {
        let (mut at, mut turns) = (PathBuf::new(), false);
        for part in name.components() {
            if part != Component::ParentDir {
                at.push(part);
                continue;
            }
            if self.is_made(&at) {
                return false;
            }
            turns = true;
            at.pop();
        }
        turns && fs::symlink_metadata(name).is_err()
    }

    /// Are the bytes that this very name leads to in the key? Then each link that is turned changes it.
    fn has_bytes(&self, path: &Path) -> bool {
        self.seen.contains(path) || self.git.iter().any(|identity| identity.holds_bytes(path))
    }

    /// Is it a link whose text is in the key?
    fn has_text(&self, link: &Path) -> bool {
        self.seen.contains(link) || self.git.iter().any(|identity| identity.holds(link))
    }

    /// Has the step made what lies there, or a need of it?
    fn is_made(&self, path: &Path) -> bool {
        self.below.iter().any(|dir| path.starts_with(dir))
            || self.outputs.iter().any(|output| output.pattern.covers(path))
            || self.depfiles.iter().any(|depfile| depfile.matches(path))
    }

    /// Does this link lie above the place of an own directory or of an output? What is there goes by the same words.
    fn leads_to_made(&self, link: &Path, whole: &Path) -> bool {
        self.below.iter().any(|dir| dir.starts_with(link) && whole.starts_with(dir))
            || self.outputs.iter().any(|output| output.pattern.covers(whole) && !output.pattern.covers(link))
            || self.depfiles.iter().any(|depfile| depfile.matches(whole) && !depfile.matches(link))
    }

    /// The first link on the way, and where the path leads by it. Up to there the path is clean afterwards: directories
    /// that it goes into and leaves again are `left`.
    fn first_link(&self, path: &mut PathBuf, left: &mut BTreeSet<PathBuf>) -> Option<(PathBuf, PathBuf)> {
        let mut at = PathBuf::new();
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            match part {
                Component::ParentDir => {
                    if self.counts_when_left(&at) {
                        left.insert(at.clone());
                    }
                    at.pop();
                    continue;
                }
                Component::CurDir => continue,
                part @ (Component::Normal(_) | Component::RootDir | Component::Prefix(_)) => at.push(part),
            }
            let Some(text) = self.text_of(&at) else { continue };
            let whole = joined(&at, parts.as_path());
            if self.leads_to_made(&at, &whole) {
                continue;
            }
            let dir = at.parent().unwrap_or(Path::new("/"));
            let next = self.elsewhere.real(&joined(&dir.join(text), parts.as_path()));
            *path = whole;
            return Some((at, next));
        }
        *path = at;
        None
    }

    /// If a link to elsewhere took this directory's place, would `..` lead elsewhere too? Own ones are as the run makes them.
    fn counts_when_left(&self, dir: &Path) -> bool {
        let is_there = || fs::symlink_metadata(dir).is_ok_and(|there| there.is_dir());
        let counts = || !self.root.starts_with(dir) && !self.is_made(dir) && is_there();
        *self.left.borrow_mut().entry(dir.to_owned()).or_insert_with(counts)
    }

    /// The text of a link; of one that the run installed, too.
    fn text_of(&self, path: &Path) -> Option<PathBuf> {
        if let Some(known) = self.links.borrow().get(path) {
            return known.clone();
        }
        let installed = self.top.as_ref().and_then(|(prefix, top)| Some(top.join(path.strip_prefix(prefix).ok()?)));
        let text = installed.and_then(|path| fs::read_link(path).ok()).or_else(|| fs::read_link(path).ok());
        self.links.borrow_mut().insert(path.to_owned(), text.clone());
        text
    }
}

/// Joining nothing would leave a slash at the end.
fn joined(dir: &Path, rest: &Path) -> PathBuf {
    dir.join(rest).components().collect()
}
