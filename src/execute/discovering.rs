//! What a run has read, by its depfiles: they are out of the way before it, and read after it.
//!
//! Left out is what the key knows already (inputs, the source, outputs of needs, layers in the step's views) and what
//! the run itself made: its outputs, and all in its own directories. Everything else that is named counts, wherever it
//! lies; of a known file each link on the way to it that no key holds ([`super::known`]). What changed since the run began may
//! have been read in another state than it has now: then the result is not stored.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::action::{ABSENT, Action, Component, Kind};
use crate::base::ids::StepIx;
use crate::base::paths::escaped;
use crate::base::stat::{Instant, Kind as FileKind, Stat};
use crate::event::Event;
use crate::fingerprint::assemble::Assembled;
use crate::fingerprint::discovered::{self, DepfileError, components, link_name_of, link_of, name_of};
use crate::graph::Step;
use crate::graph::pattern::Pattern;
use crate::store::remove_tree;

use super::build::{Build, StepError};
use super::judging::JudgeError;
use super::known::Known;
use super::moment::Clock;
use super::runner::Finished;

/// So many absent names are kept of a step: one that names another temporary file in each run would never end.
const MOST_GONE: usize = 256;

/// What a run was found to have read.
#[derive(Default)]
pub(super) struct Discovered {
    pub components: Vec<Component>,
    /// A file that changed since the run began.
    pub moved: Option<String>,
    /// Some of its names may mean other files for a worktree elsewhere.
    pub is_bound: bool,
}

impl Build<'_> {
    /// When the run of a step with depfiles begins, on the clock of file stamps.
    pub(super) fn start_of(&self, step: &Step, assembled: &Assembled) -> Result<Option<Instant>, StepError> {
        if !step.discovers() {
            return Ok(None);
        }
        self.clock(assembled)?.begin().map(Some).map_err(StepError::write(&assembled.tmp))
    }

    pub(super) fn clock(&self, assembled: &Assembled) -> Result<Clock, StepError> {
        let dir = assembled.tmp.parent().unwrap_or(&assembled.tmp);
        Clock::of(dir).map_err(StepError::write(dir))
    }

    /// Takes away what the last run wrote, so that it is not read for this one's. What may be somebody else's, since
    /// the last run had no such depfile, moves aside.
    pub(super) fn clear_depfiles(&self, step: &Step, is_ours: impl Fn(&Pattern) -> bool) -> Result<(), StepError> {
        for pattern in cleared_alone(step) {
            for path in depfiles(pattern)? {
                if is_ours(pattern) {
                    remove_tree(&path).map_err(StepError::write(&path))?;
                } else {
                    let relative = path.strip_prefix(&self.graph.root).unwrap_or(&path);
                    let aside = self.state.set_aside(&path, relative)?;
                    self.say_aside(&aside);
                }
            }
        }
        Ok(())
    }

    /// What the depfiles name, after a run that began at `start` and ended well.
    pub(super) fn discover(
        &self,
        ix: StepIx,
        assembled: &Assembled,
        finished: Option<&Finished>,
        start: Option<Instant>,
    ) -> Result<Discovered, StepError> {
        let step = self.graph.step(ix);
        let Some(start) = start else { return Ok(Discovered::default()) };
        let built = finished.iter().flat_map(|finished| &finished.built);
        let mut paths: Vec<PathBuf> = built.map(|built| built.depfile.clone()).collect();
        for pattern in &step.depfiles {
            let found = depfiles(pattern)?;
            if found.is_empty() {
                let headline = format!("declared depfile `{}` was not made", pattern.shown);
                return Err(self.plain_failure(step, headline));
            }
            paths.extend(found);
        }
        let no_rule = |error: DepfileError| self.plain_failure(step, error.to_string());
        let mut named = discovered::named(&paths, &step.cwd).map_err(no_rule)?;
        if let (Some(finished), Some(sources)) = (finished, &assembled.cargo) {
            let by_compilers = discovered::named(&finished.rules, &sources.workspace.root).map_err(no_rule)?;
            // All others cargo names too.
            let is_behind_link = |path: &PathBuf| fs::canonicalize(path).is_ok_and(|real| real != *path);
            named.extend(by_compilers.into_iter().filter(is_behind_link));
        }
        self.digest(ix, assembled, really(step, named), start)
    }

    /// What other runs have read at such names and is not there now. A run that found another file in its place (`x.h`
    /// further down an include path) finds the first one again when it is back, and none of the files that this
    /// run has read tells so: that it was absent joins them. Looked for are the names under the same base action,
    /// anywhere, and those of the last run here, whatever that was.
    pub(super) fn join_gone(&self, ix: StepIx, base: &Action, found: &mut Discovered) -> Result<(), StepError> {
        let step = self.graph.step(ix);
        if !step.discovers() || step.cargo.is_some() {
            return Ok(());
        }
        let mut names: BTreeSet<String> = self.store.path_sets(&base.key())?.into_iter().flatten().collect();
        let last = self.records.get(&step.id);
        names.extend(last.iter().flat_map(|record| record.action.discovered().map(str::to_owned)));
        for known in &found.components {
            names.remove(&known.name);
        }
        let others = components(self.bench.files, &self.graph.root, names.iter().map(String::as_str));
        let gone = others.map_err(JudgeError::from)?.into_iter().filter(|c| c.shown == ABSENT);
        found.components.extend(gone.take(MOST_GONE));
        found.components.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// The same after a run that failed: `None` where its depfiles do not say what it has read so far. Those of a
    /// glob belong each to one thing that was made; a single one is whole only when the run wrote it.
    pub(super) fn discover_of_failed(
        &self,
        ix: StepIx,
        assembled: &Assembled,
        start: Option<Instant>,
    ) -> Result<Option<Discovered>, StepError> {
        let step = self.graph.step(ix);
        let Some(start) = start else { return Ok(Some(Discovered::default())) };
        let mut paths = Vec::new();
        for pattern in &step.depfiles {
            let found = depfiles(pattern)?;
            let is_new = |path: &PathBuf| Stat::read(path).is_ok_and(|s| s.is_some_and(|s| s.ctime >= start.0));
            if !pattern.is_glob() && !found.iter().any(is_new) {
                return Ok(None);
            }
            paths.extend(found);
        }
        match discovered::named(&paths, &step.cwd) {
            Ok(named) => self.digest(ix, assembled, really(step, named), start).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn digest(
        &self,
        ix: StepIx,
        assembled: &Assembled,
        named: BTreeSet<PathBuf>,
        start: Instant,
    ) -> Result<Discovered, StepError> {
        let known = Known::of(self, ix, assembled);
        // Where things are, not where the step saw them.
        let elsewhere = &self.graph.step(ix).elsewhere;
        let root = &self.graph.root;
        let watches = |path: &Path| self.graph.step(ix).cargo.is_some() && path.is_dir();
        let (mut links, mut files, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut is_bound = false;
        for by in named.iter().map(|path| elsewhere.real(path)) {
            let way = known.way(&by);
            names.extend(way.links.iter().map(|link| link_name_of(root, &by, link)));
            links.extend(way.links);
            for file in way.files {
                is_bound |= !by.starts_with(root) && self.may_be_meant_as_neighbour(assembled, &file);
                names.insert(name_of(root, &by, &file) + if watches(&file) { "/" } else { "" });
                files.insert(file);
            }
        }
        let mut looked = files.clone();
        for dir in files.iter().filter(|path| watches(path)) {
            looked.extend(discovered::below(self.bench.files, dir).map_err(JudgeError::from)?);
        }
        let moved = discovered::moved_since(&looked, start).or_else(|| discovered::turned_since(&links, start));
        let moved = moved.map(|path| self.graph.shown(path));
        let components = components(self.bench.files, root, names.iter().map(String::as_str));
        Ok(Discovered { components: components.map_err(JudgeError::from)?, moved, is_bound })
    }

    /// Did the run find its own way to a file near the workspace? What commands or variables spell out is what they mean
    /// anywhere.
    fn may_be_meant_as_neighbour(&self, assembled: &Assembled, file: &Path) -> bool {
        let Some(place) = discovered::neighbour(&self.graph.root, file) else { return false };
        let place = escaped(&place);
        let said = assembled.action.components.iter().filter(|c| matches!(c.kind, Kind::Command | Kind::Env));
        // As a whole name, not as the beginning of another one.
        let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || "._-+".contains(c));
        let spells = |text: &str| text.split(&place).skip(1).any(|rest| !goes_on(rest));
        !said.into_iter().any(|component| spells(&component.shown))
    }

    /// Says what in a depfile makes one wonder.
    pub(super) fn warn_discovered(&self, ix: StepIx, found: &Discovered) {
        let step = self.graph.step(ix);
        let root = &self.graph.root;
        let is_link = |name: &str| link_of(name).is_some();
        // A directory that the run made, went through and took away.
        let was_read =
            |name: &str| discovered::path_of(root, name).is_some_and(|path| discovered::plain(&path).exists());
        let is_absent = |c: &&Component| c.shown == ABSENT && !is_link(&c.name) && !was_read(&c.name);
        // Build scripts watch for files that may come.
        let absent: Vec<&Component> =
            found.components.iter().filter(|c| step.cargo.is_none() && is_absent(c)).collect();
        if let Some(first) = absent.first() {
            let more = if absent.len() > 1 { format!(" and {} more", absent.len() - 1) } else { String::new() };
            let cwd = self.graph.shown(&step.cwd);
            let cwd = if cwd.is_empty() { "the workspace".to_owned() } else { format!("`{cwd}`") };
            let text =
                format!("{}: its depfile names {}{more}, not there when looked for from {cwd}", step.id, first.name);
            self.listener.on(Event::Warning { text });
        }
        let needed = self.all_needs(ix);
        let mut said = HashSet::new();
        for component in found.components.iter().filter(|c| !c.name.starts_with('/')) {
            let Some(path) = discovered::path_of(&self.graph.root, &component.name) else { continue };
            let makes = |other: &Step| other.outputs.iter().any(|o| o.pattern.covers(&path));
            let maker = self.graph.indices().find(|other| *other != ix && makes(self.graph.step(*other)));
            let Some(maker) = maker.filter(|maker| !needed.contains(maker) && said.insert(*maker)) else { continue };
            let other = self.graph.step(maker);
            let text = format!(
                "{} read {}, which {} makes and which may change behind its back: put {} into its `needs`",
                step.id, component.name, other.id, other.id.task
            );
            self.listener.on(Event::Warning { text });
        }
    }

    /// Needs, and what they need.
    fn all_needs(&self, ix: StepIx) -> HashSet<StepIx> {
        let mut needed = HashSet::new();
        let mut open = vec![ix];
        while let Some(at) = open.pop() {
            open.extend(self.graph.step(at).needs.iter().map(|n| n.step).filter(|need| needed.insert(*need)));
        }
        needed
    }
}

/// Where the files are that the step saw by these names.
fn really(step: &Step, named: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    if step.elsewhere.is_empty() {
        return named;
    }
    named.into_iter().map(|path| step.elsewhere.real(&path)).collect()
}

/// Depfiles that lie neither in the build directory nor in outputs: these are emptied whole, or stay whole.
fn cleared_alone(step: &Step) -> impl Iterator<Item = &Pattern> {
    let elsewhere =
        |path: &Path| !path.starts_with(&step.work) && !step.outputs.iter().any(|output| output.pattern.covers(path));
    step.depfiles.iter().filter(move |pattern| elsewhere(&pattern.fixed_part()))
}

/// What lies where a depfile is declared, in order. Past what is remembered of files: a build directory is gone soon.
fn depfiles(pattern: &Pattern) -> Result<Vec<PathBuf>, StepError> {
    let mut found = Vec::new();
    let start = pattern.fixed_part();
    if pattern.is_glob() {
        below(&start, pattern, &mut found).map_err(StepError::write(&start))?;
        found.sort();
    } else if Stat::read(&start).map_err(StepError::write(&start))?.is_some_and(|s| s.kind != FileKind::Dir) {
        found.push(start);
    }
    Ok(found)
}

fn below(dir: &Path, pattern: &Pattern, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if !kind.is_dir() {
            found.extend(Some(path).filter(|path| pattern.matches(path)));
        } else if pattern.may_match_below(&path) {
            below(&path, pattern, found)?;
        }
    }
    Ok(())
}

/// The directories that depfiles come into.
pub(super) fn make_dirs(step: &Step) -> Result<(), StepError> {
    for pattern in cleared_alone(step) {
        let path = pattern.fixed_part();
        let dir = if pattern.is_glob() { Some(path.as_path()) } else { path.parent() };
        if let Some(dir) = dir {
            fs::create_dir_all(dir).map_err(StepError::write(dir))?;
        }
    }
    Ok(())
}

/// Did the action that last worked here declare this depfile?
pub(super) fn was_declared(action: &Action, pattern: &Pattern) -> bool {
    let is_it = |c: &Component| c.name == "depfile" && c.shown == pattern.shown;
    action.components.iter().any(|c| c.kind == Kind::Setting && is_it(c))
}
