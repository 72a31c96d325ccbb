//! The place of a step before it runs: outputs cleared, source unpacked and patched, directories of its
//! own, the view that it will see.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::action::{Made, Origin, StepRecord};
use crate::base::ids::StepIx;
use crate::base::stat::{Kind, Stat, set_mode};
use crate::base::tree::{PLAIN_DIR, Tree};
use crate::fingerprint::assemble::Assembled;
use crate::fingerprint::env;
use crate::graph::pattern::Pattern;
use crate::graph::{OutputPattern, PrefixIx, SourceFrom, Step};
use crate::store::{Layers, Lookup, StoreError, remove_recorded, remove_tree};

use super::build::{Build, StepError, before};
use super::discovering;
use super::ownership::{matching, strays};
use super::toolchain;
use super::view::hiding::{self, Hiding, Shown};
use super::view::{Mounted, Top, View};

/// For whom the place of a step is prepared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// A run: everything from nothing, but for a build directory that it `takes_over`.
    Run { takes_over: bool },
    /// A visit, where no run left anything.
    Visited,
    /// A visit to what a run has left.
    Kept,
}

impl Build<'_> {
    /// Takes away what the step made before, unless the run `takes_over` that; `begin` writes down that it does. What
    /// nobody made moves aside.
    pub(super) fn clear_outputs(
        &self,
        step: &Step,
        old: Option<&StepRecord>,
        takes_over: bool,
        begin: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StepError> {
        self.check_parents(step)?;
        if step.cargo.is_some() {
            // Its programs stay until new ones take their place.
            begin()?;
            return self.make_output_dirs(step);
        }
        let stays = takes_over && !step.clean;
        if !takes_over {
            self.clear_depfiles(step, |d| old.is_some_and(|old| discovering::was_declared(&old.action, d)))?;
        }
        if let Some(old) = old.filter(|old| is_left_behind(old)) {
            begin()?;
            self.clear_left_behind(step, old, !stays)?;
        } else if !stays {
            // Before the record says that a run was begun: what lies here then counts as left by a killed one.
            remove_recorded(&self.graph.root, before(old))?;
            self.move_strays(step, &[])?;
            begin()?;
        } else {
            begin()?;
        }
        self.make_output_dirs(step)
    }

    /// Moves aside what lies in the step's outputs and in none of the trees. Empty directories are nobody's.
    pub(super) fn move_strays(&self, step: &Step, known: &[&Tree]) -> Result<(), StepError> {
        for output in &step.outputs {
            for path in strays(self.bench.files, self.graph, output, known)? {
                if fs::remove_dir(&path).is_ok() {
                    continue;
                }
                if step.cargo.is_some() {
                    // In our own directory nothing is anybody else's.
                    remove_tree(&path).map_err(StepError::write(&path))?;
                    continue;
                }
                let relative = path.strip_prefix(&self.graph.root).unwrap_or(&path);
                let aside = self.state.set_aside(&path, relative)?;
                self.say_aside(&aside);
            }
        }
        Ok(())
    }

    /// What a killed run or restore left: removed where the step makes it still. Where it made it by another
    /// manifest, somebody else may have put it there since: moved aside.
    pub(super) fn clear_left_behind(&self, step: &Step, old: &StepRecord, clean: bool) -> Result<(), StepError> {
        if step.cargo.is_some() {
            return Ok(());
        }
        if clean {
            remove_recorded(&self.graph.root, before(Some(old)))?;
            self.remove_outputs(step)?;
        }
        let covers = |step: &Step, path: &Path| step.outputs.iter().any(|o| o.pattern.covers(path));
        let is_now = |text: &String| step.outputs.iter().any(|o| o.pattern.shown == *text);
        for text in old.begun.iter().filter(|text| clean && !is_now(text)) {
            let Ok(pattern) = Pattern::new(text, &self.graph.root, &self.graph.root, step.span) else { continue };
            if self.link_above(&pattern)?.is_some() {
                continue;
            }
            let output = OutputPattern { pattern, sha256: None, optional: true };
            let left = self.matching(&output)?;
            for path in left.iter().filter(|path| !self.graph.steps.iter().any(|other| covers(other, path))) {
                let relative = path.strip_prefix(&self.graph.root).unwrap_or(path);
                let aside = self.state.set_aside(path, relative)?;
                self.say_aside(&aside);
            }
        }
        Ok(())
    }

    /// After a failure: nothing of the run is left, so what lies there at the next one is somebody's.
    pub(super) fn give_up(&self, step: &Step) -> Result<(), StepError> {
        self.discard(step)?;
        let is_removed = step.clean && step.cargo.is_none();
        if let Some(record) = self.records.get(&step.id).filter(|r| is_removed && r.origin == Origin::Begun) {
            let made = Some(Made { outputs: Tree::default(), ..record.made.clone().unwrap_or_default() });
            let (outputs, begun) = (Vec::new(), Vec::new());
            self.records.write(StepRecord { made, outputs, begun, ..StepRecord::clone(&record) })?;
        }
        Ok(())
    }

    /// Removes all that lies in the step's outputs: a run that failed or was killed made it.
    pub(super) fn discard(&self, step: &Step) -> Result<(), StepError> {
        if step.clean && step.cargo.is_none() { self.remove_outputs(step) } else { Ok(()) }
    }

    /// Nothing behind a link is of the step: what made the link may have put it anywhere.
    pub(super) fn remove_outputs(&self, step: &Step) -> Result<(), StepError> {
        for output in &step.outputs {
            if self.link_above(&output.pattern)?.is_some() {
                continue;
            }
            for path in self.matching(output)? {
                remove_tree(&path).map_err(StepError::write(&path))?;
            }
        }
        Ok(())
    }

    /// What is at the place of an output now.
    pub(super) fn matching(&self, output: &OutputPattern) -> Result<Vec<PathBuf>, StepError> {
        Ok(matching(self.bench.files, self.graph, output)?)
    }

    /// No output may be reached through a link: it could lead out of the workspace.
    pub(super) fn check_parents(&self, step: &Step) -> Result<(), StepError> {
        let depfiles = step.depfiles.iter().filter(|d| !d.fixed_part().starts_with(&step.work));
        for pattern in step.outputs.iter().map(|output| &output.pattern).chain(depfiles) {
            if let Some(link) = self.link_above(pattern)? {
                return Err(StoreError::ThroughLink { path: pattern.fixed_part(), link }.into());
            }
        }
        Ok(())
    }

    /// A link on the way to what the pattern names; what it names itself may be one.
    fn link_above(&self, pattern: &Pattern) -> Result<Option<PathBuf>, StepError> {
        let path = pattern.fixed_part();
        let inner = path.strip_prefix(&self.graph.root).unwrap_or(&path);
        let way = if pattern.is_glob() { Some(inner) } else { inner.parent() };
        let mut at = self.graph.root.clone();
        for component in way.into_iter().flat_map(Path::components) {
            at.push(component);
            if Stat::read(&at).map_err(StepError::write(&at))?.is_some_and(|s| s.kind == Kind::Symlink) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Directories above outputs, and those that are outputs.
    pub(super) fn make_output_dirs(&self, step: &Step) -> Result<(), StepError> {
        for output in &step.outputs {
            let path = output.pattern.fixed_part();
            let dir =
                if output.pattern.is_dir || output.pattern.is_glob() { Some(path.as_path()) } else { path.parent() };
            if let Some(dir) = dir {
                make_plain_dirs(dir).map_err(StepError::write(dir))?;
            }
        }
        discovering::make_dirs(step)
    }

    /// Everything that the commands expect to find.
    pub(super) fn prepare(&self, ix: StepIx, assembled: &Assembled, place: Place) -> Result<Option<View>, StepError> {
        let step = self.graph.step(ix);
        if place != Place::Kept {
            self.unmark_place(step)?;
        }
        empty_dir(&assembled.tmp)?;
        if let Some(home) = &assembled.home {
            place.make_home(home)?;
        }
        if let Some((dir, links)) = &assembled.tool_links {
            link_tools(dir, links)?;
        }
        toolchain::put(step, assembled)?;
        if step.source.is_some() && place != Place::Kept {
            let build = step.work.join("build");
            if step.keeps_build_dir && place != (Place::Run { takes_over: false }) {
                fs::create_dir_all(&build).map_err(StepError::write(&build))?;
            } else {
                fresh_dir(&build)?;
            }
            self.unpack(step, assembled)?;
        }
        let has_view = step.has_views() && !self.is_exclusive(step);
        let view = if has_view { Some(self.view(ix, step, assembled, place)?) } else { None };
        if let Place::Run { .. } = place {
            self.mark_place(step, &assembled.action.key())?;
        }
        Ok(view)
    }

    /// Every prefix of the manifest: the needed layers there, writable where it is the step's own.
    fn view(&self, ix: StepIx, step: &Step, assembled: &Assembled, place: Place) -> Result<View, StepError> {
        if let Some(why) = self.views.trouble() {
            return Err(StepError::Untried(why.to_owned()));
        }
        if let Some(why) = self.views.refusal() {
            let headline = "steps with a sysroot need namespaces, which this machine does not give".to_owned();
            let failure = crate::event::Failure {
                headline,
                command: None,
                log: Arc::from([]),
                log_file: None,
                advice: vec![why.to_owned()],
            };
            return Err(StepError::Failed { failure: Box::new(failure), took: std::time::Duration::ZERO });
        }
        let mut prefixes = Vec::new();
        for (i, prefix) in self.graph.prefixes.iter().enumerate() {
            let here = PrefixIx(i as u32);
            let mut layers = Vec::new();
            for (owner, made) in self.layers_at(step, Some(here)) {
                if let Some(tree) = &made.layer {
                    layers.extend(self.layer_dir(owner, tree)?);
                }
            }
            let top = if step.sysroot == Some(here) {
                layers.extend(place.left(step));
                Some(make_top(&place.top(step))?)
            } else {
                None
            };
            fs::create_dir_all(&prefix.path).map_err(StepError::write(&prefix.path))?;
            if prefix.placeholder.is_some() {
                // What is put together there is nothing that a step may see.
                prefixes.push(Mounted { at: prefix.path.clone(), layers: Vec::new(), top: None });
            }
            prefixes.push(Mounted { at: prefix.seen().to_owned(), layers, top });
        }
        assert!(step.id == self.graph.step(ix).id, "BUG: the view of another step");
        let hiding = self.hiding(step, assembled)?;
        prefixes.extend(hiding.mounts);
        let elsewhere = assembled.elsewhere.mounts.clone();
        let placeholders = self.graph.prefixes.iter().filter_map(|prefix| prefix.placeholder.as_deref().map(Path::new));
        let outside = placeholders.chain(elsewhere.iter().map(|(_, there)| there.as_path()));
        let roots: BTreeSet<OsString> = outside.filter_map(top_name).collect();
        Ok(View {
            prefixes,
            binds: hiding.binds,
            whiteouts: hiding.whiteouts,
            elsewhere,
            roots: roots.into_iter().collect(),
            run_dir: step.work.join("run"),
        })
    }

    /// What of the machine the step is not to see.
    fn hiding(&self, step: &Step, assembled: &Assembled) -> Result<Hiding, StepError> {
        let covers = self.covers();
        match self.shown(step, assembled) {
            Some(shown) => hiding::hide(&covers, &shown).map_err(StepError::write(&covers)),
            None => Ok(Hiding::default()),
        }
    }

    /// What of the machine the step is to see; `None` where nothing is hidden.
    pub(super) fn shown<'s>(&'s self, step: &'s Step, assembled: &'s Assembled) -> Option<Shown<'s>> {
        let hosted = assembled.host.as_ref().filter(|_| step.has_views() && !self.is_exclusive(step))?;
        let outside = self.bench.outside;
        let homes = ["HOME", "CARGO_HOME", "RUSTUP_HOME"]
            .iter()
            .filter_map(|name| outside.get(name).map(PathBuf::from))
            .filter(|home| home.is_absolute());
        let source = step.source.as_ref().map(|source| match &source.from {
            SourceFrom::Path { path } | SourceFrom::Archive { path, .. } => path.clone(),
            SourceFrom::Url { .. } | SourceFrom::Git { .. } => source.dir.clone(),
        });
        let of_git = step.git_inputs.iter().map(|input| input.dir.path.clone());
        let inputs = step.inputs.iter().map(|input| input.pattern.fixed_part()).chain(of_git);
        // Certificates of somebody's own: passed, and so to be found.
        let plumbing = outside.all().iter().filter(|(name, _)| name.to_str().is_some_and(env::is_plumbing));
        let certificates = plumbing.map(|(_, value)| PathBuf::from(value)).filter(|path| path.is_absolute());
        let read =
            inputs.chain(source).chain(certificates).chain([step.cwd.clone()]).chain(step.scripts.iter().cloned());
        let read = read.chain(assembled.zig.iter().filter_map(|zig| zig.library.clone()));
        let caches = assembled.zig.iter().map(|zig| zig.cache.clone());
        Some(Shown {
            identity: &hosted.identity,
            programs: &hosted.programs,
            path: &step.path,
            read: read.collect(),
            kept: homes
                .chain([self.graph.root.clone()])
                .chain(caches)
                .filter_map(|home| home.canonicalize().ok())
                .collect(),
        })
    }

    pub(super) fn covers(&self) -> PathBuf {
        self.state.dir().join(hiding::COVERS)
    }

    pub(super) fn top(&self, step: &Step) -> Result<Top, StepError> {
        make_top(&step.work.join("top"))
    }

    /// Steps whose layers lie at a prefix in this step's view, with what they made.
    pub(super) fn layers_at<'s>(
        &'s self,
        step: &'s Step,
        prefix: Option<PrefixIx>,
    ) -> impl Iterator<Item = (StepIx, Arc<Made>)> + 's {
        let there = step.layers.iter().copied().filter(move |l| self.graph.step(*l).sysroot == prefix);
        there.filter_map(|l| Some((l, self.results.get(l)?)))
    }

    /// The unpacked layer of a step that is done.
    pub(super) fn layer_dir(&self, owner: StepIx, tree: &Tree) -> Result<Option<PathBuf>, StepError> {
        if tree.is_empty() {
            return Ok(None);
        }
        let layers = Layers::of(self.state);
        let id = &self.graph.step(owner).id;
        let key = self.records.get(id).map(|r| r.key);
        let result = match key.map(|key| self.store.lookup(&key)).transpose()? {
            Some(Lookup::Hit(result)) => Some(result),
            _ => None,
        };
        let from = result.as_deref().map(|result| (self.store, result));
        if let Some(dir) = layers.ensure(tree, from)? {
            return Ok(Some(dir));
        }
        let prefix = self.graph.step(owner).sysroot.map(|prefix| &self.graph.prefix(prefix).path);
        if let Some(dir) = prefix.map(|prefix| layers.copy_from(prefix, tree)).transpose()?.flatten() {
            return Ok(Some(dir));
        }
        // Neither here nor in the store: the next build makes it again.
        self.records.remove(id)?;
        Err(StoreError::Lost { step: id.clone() }.into())
    }

    /// What a failed run left to be looked at: the step is past that.
    pub(super) fn forget_place(&self, step: &Step) {
        if (step.has_views() || step.source.is_some()) && step.work.is_dir() {
            // It is emptied before the next run anyway.
            let _ = remove_tree(&step.work);
        }
    }

    /// What a step that ended well needs no more.
    pub(super) fn tidy(&self, step: &Step, assembled: &Assembled) {
        // All of it is emptied before the next run anyway.
        let _ = empty_dir(&assembled.tmp);
        if (step.has_views() || step.source.is_some()) && is_dir(&step.work) {
            let kept = step.keeps_build_dir.then(|| step.work.join("build"));
            for entry in fs::read_dir(&step.work).into_iter().flatten().flatten() {
                if Some(entry.path()) != kept {
                    let _ = remove_tree(&entry.path());
                }
            }
            // Not where something is kept in it.
            let _ = fs::remove_dir(&step.work);
        }
    }
}

/// Did a killed run or restore leave what is in no record, and ours all the same? An emptied record that owns
/// no outputs at all is of a run that failed: its outputs were removed.
pub(super) fn is_left_behind(record: &StepRecord) -> bool {
    record.origin == Origin::Begun && record.made.as_ref().is_none_or(|made| !made.outputs.is_empty())
}

/// With the mode that a restore gives to those that it makes: what a directory above with the set-group-id bit hands on would be in
/// what the step makes.
fn make_plain_dirs(dir: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(dir)?;
    missing.into_iter().try_for_each(|dir| set_mode(dir, PLAIN_DIR))
}

/// The name at the root below which an absolute path lies.
fn top_name(path: &Path) -> Option<OsString> {
    path.components().nth(1).map(|name| name.as_os_str().to_owned())
}

/// There and empty. The directory itself stays: to make and remove one at every step costs more than all
/// the rest that is done for it.
fn empty_dir(dir: &Path) -> Result<(), StepError> {
    match fs::create_dir(dir) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && is_dir(dir) => {}
        // A step may have put a link in its place: what that leads to is not ours to empty.
        Err(_) => return fresh_dir(dir),
    }
    for entry in fs::read_dir(dir).map_err(StepError::write(dir))? {
        let path = entry.map_err(StepError::write(dir))?.path();
        remove_tree(&path).map_err(StepError::write(path))?;
    }
    Ok(())
}

/// Itself, not by a link.
fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.is_dir())
}

fn make_top(top: &Path) -> Result<Top, StepError> {
    fresh_dir(top)?;
    let (upper, work) = (top.join("upper"), top.join("work"));
    for dir in [&upper, &work] {
        fs::create_dir(dir).map_err(StepError::write(dir))?;
    }
    Ok(Top { upper, work })
}

pub(super) fn fresh_dir(dir: &Path) -> Result<(), StepError> {
    remove_tree(dir).map_err(StepError::write(dir))?;
    fs::create_dir_all(dir).map_err(StepError::write(dir))
}

/// Made under another name and renamed: another build may want the same links.
fn link_tools(dir: &Path, links: &[(String, PathBuf)]) -> Result<(), StepError> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(StepError::write(parent))?;
    }
    let temporary = crate::base::publish::temporary(dir);
    fs::create_dir(&temporary).map_err(StepError::write(&temporary))?;
    for (name, to) in links {
        std::os::unix::fs::symlink(to, temporary.join(name)).map_err(StepError::write(temporary.join(name)))?;
    }
    match fs::rename(&temporary, dir) {
        Err(_) if dir.is_dir() => remove_tree(&temporary).map_err(StepError::write(&temporary)),
        other => other.map_err(StepError::write(dir)),
    }
}
