//! `build` and `run`.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::action::Origin;
use crate::base::digest::Digest;
use crate::base::disk;
use crate::base::ids::{StepId, StepIx};
use crate::base::stat::Stat;
use crate::base::text::{shell_quote, with_causes};
use crate::base::tree::Node;
use crate::cli::{Force, MessageFormat, TaskName};
use crate::event::{Counts, Event, Listener, Outcome};
use crate::execute::build::{Build, Options, Tally};
use crate::execute::cancel::{Cancel, GRACE, Signals};
use crate::execute::durable::Syncer;
use crate::execute::explain;
use crate::execute::installing::layers_in_use;
use crate::execute::jobserver::Jobserver;
use crate::execute::ownership::strays;
use crate::execute::view::hiding;
use crate::execute::view::probe::{Availability, Views};
use crate::execute::watch::Watch;
use crate::exit::Exit;
use crate::fingerprint::files::{Observation, link_digest};
use crate::fingerprint::looker::Looker;
use crate::fingerprint::proof::{self, Answer, Facts};
use crate::graph::{Class, Step};
use crate::manifest::load::canonical;
use crate::manifest::model::{HostChoice, Include};
use crate::store::{Layers, has_killed_build};

use super::Context;
use super::error::CommandError;
use super::open::{Opened, check_prefixes, check_target_dirs, check_tools, check_tracked};
use super::path::outputs_of;

/// What the steps of a build came to.
pub(super) struct Ended {
    pub counts: Counts,
    pub interrupted: bool,
    /// By the store or the state.
    broken: bool,
    /// Of the task of `run`, where it failed.
    attached_code: Option<i32>,
}

impl Ended {
    /// Anything but finding all of it fresh.
    pub fn has_done_something(&self) -> bool {
        self.interrupted || self.counts.total() > self.counts.fresh
    }
}

/// How a build went, for those who go on from there.
pub(super) struct Built {
    pub exit: Exit,
}

impl Context {
    pub(super) fn build(&self, tasks: &[TaskName]) -> Result<Exit, CommandError> {
        let request = self.request(tasks)?;
        if let Some(answer) = self.proven(request.as_ref()) {
            return Ok(self.still_fresh(answer));
        }
        let workspace = self.workspace(tasks, None)?;
        self.open(&workspace, |opened| Ok(self.build_opened(opened, None, request.as_ref())?.exit))
    }

    pub(super) fn run_task(&self, task: &TaskName, args: &[OsString]) -> Result<Exit, CommandError> {
        let args: Vec<String> =
            args.iter().map(|arg| arg.clone().into_string()).collect::<Result<_, _>>().map_err(|arg| {
                CommandError::Usage { text: format!("argument `{}` is not UTF-8", arg.display()), help: None }
            })?;
        let workspace = self.workspace(std::slice::from_ref(task), Some(&args))?;
        self.open(&workspace, |opened| {
            let named = opened.selection.named.clone();
            let [ix] = named[..] else {
                let text = format!("`{}` has several targets", task.task);
                return Err(CommandError::Usage { text, help: Some("name one: TASK@TARGET".to_owned()) });
            };
            Ok(self.build_opened(opened, Some(ix), None)?.exit)
        })
    }

    /// The answer that was proven before, if it holds.
    pub(super) fn proven(&self, request: Option<&ProofOf>) -> Option<Answer> {
        // What a killed build left may write at any moment.
        let request = request.filter(|request| !has_killed_build(&request.root))?;
        let answer = proof::check(&request.proof, &self.outside)?;
        if answer.without_namespaces {
            let views = Views::new(self.wanted_views().ok()?, request.root.join(".bcache/work"));
            return views.is_exclusive().then_some(answer);
        }
        Some(answer)
    }

    /// What was proven before is said again.
    pub(super) fn still_fresh(&self, answer: Answer) -> Exit {
        for text in answer.warnings {
            self.reporter.on(Event::Warning { text });
        }
        let counts = Counts { fresh: answer.fresh, ..Counts::default() };
        self.reporter.on(Event::Finished {
            label: answer.label,
            counts,
            took: self.begun.elapsed(),
            outcome: Outcome::Success,
        });
        Exit::Ok
    }

    /// Brings the steps of an opened workspace to their ends. `attached` is the step of `run`.
    pub(super) fn build_opened(
        &self,
        opened: &Opened,
        attached: Option<StepIx>,
        request: Option<&ProofOf>,
    ) -> Result<Built, CommandError> {
        for text in &opened.warnings {
            self.reporter.on(Event::Warning { text: text.clone() });
        }
        check_tracked(opened)?;
        check_tools(opened)?;
        check_prefixes(opened)?;
        check_target_dirs(opened)?;
        self.confirm(opened)?;
        let options = self.build_options(opened, attached)?;
        let ended = self.with_build(opened, &options, |build| {
            let ended = self.run_build(opened, build);
            self.say_unknown_host(opened, &ended.counts)?;
            if options.forced.is_empty() {
                // One who forces asks for a run, the next time too.
                self.keep_proof(opened, request, &ended.counts);
            }
            Ok(ended)
        })?;
        Ok(Built { exit: self.finish(opened, &ended) })
    }

    /// Brings the steps to their ends.
    pub(super) fn run_build(&self, opened: &Opened, build: &Build) -> Ended {
        let steps = opened.selection.steps.iter().filter(|ix| opened.graph.step(**ix).class != Class::Group).count();
        self.reporter.on(Event::Started { steps });
        let (counts, _) = build.run();
        Ended {
            counts,
            interrupted: build.cancel.is_cancelled(),
            broken: build.tally.is_broken(),
            attached_code: *build.tally.attached_code.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        }
    }

    /// Makes what a build is made with, gives it to `act`, and puts things in order after.
    pub(super) fn with_build<T>(
        &self,
        opened: &Opened,
        options: &Options,
        act: impl FnOnce(&Build) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let alive = opened.state.share_build().map_err(CommandError::io("lock the state"))?;
        let _lease = opened.store.lease().map_err(CommandError::io("lock the store"))?;
        let watch = Watch::new(opened.state, opened.store.root());
        watch.end_orphans(&self.reporter).map_err(CommandError::io("look for what killed builds left"))?;
        self.remove_gone(opened)?;
        let cancel = Cancel::new(Signals::Caught, GRACE).map_err(CommandError::io("watch for signals"))?;
        let temporary = tempfile::env::temp_dir();
        let private = tempfile::Builder::new()
            .prefix("bcache-")
            .tempdir_in(&temporary)
            .map_err(disk::at(&temporary))
            .map_err(CommandError::io("make a temporary directory"))?;
        let jobserver = Jobserver::new(options.jobs, private.path()).map_err(CommandError::io("make the jobserver"))?;
        let ask = |step: &Step, question: &str| self.ask(step, question);
        let build = Build {
            graph: opened.graph,
            selection: &opened.selection,
            bench: opened.bench,
            state: opened.state,
            store: opened.store,
            records: opened.records,
            results: opened.results,
            prefixes: opened.prefixes,
            relocation: opened.relocation,
            listener: &self.reporter,
            cancel: &cancel,
            watch: &watch,
            jobserver: &jobserver,
            options,
            views: opened.views,
            ask: &ask,
            is_gone: &|step, prefix| is_gone(opened, step, prefix),
            tally: Tally::default(),
            syncer: Syncer::new(opened.state.disks(opened.store)?),
        };
        let answer = act(&build)?;
        if build.tally.changed.load(Ordering::SeqCst) {
            // What is kept is believed only once it is on the disk; all else can wait.
            let must_wait = build.tally.has_kept() || build.tally.has_run() && !watch.takes_last_sync();
            if must_wait {
                build.syncer.begin_last();
            }
            if let Err(error) = self.settle(opened, alive) {
                // What was built is as it should be; the next build settles again.
                self.reporter.on(Event::Warning { text: format!("could not tidy up: {}", with_causes(&error)) });
            }
            build.syncer.end()?;
            build.tally.confirm_kept(opened.state)?;
        }
        Ok(answer)
    }

    /// Once in a worktree: what is installed here can't be known.
    fn say_unknown_host(&self, opened: &Opened, counts: &Counts) -> Result<(), CommandError> {
        let told = opened.state.dir().join("told-unknown-host");
        let mut steps = opened.selection.steps.iter().map(|ix| opened.graph.step(*ix));
        let counts_for = |step: &Step| step.class == Class::Cached && step.host != HostChoice::Off;
        if counts.ran == 0 || !steps.any(counts_for) || opened.bench.host.is_known()? || told.exists() {
            return Ok(());
        }
        let text = "no package database that can be read here: steps are judged by their tools alone".to_owned();
        self.reporter.on(Event::Note { text });
        std::fs::write(&told, "").map_err(CommandError::io("write the state"))
    }

    pub(super) fn build_options(&self, opened: &Opened, attached: Option<StepIx>) -> Result<Options, CommandError> {
        let mut forced = self.forced(opened)?;
        if let Some(ix) = attached {
            forced.entry(ix).or_insert_with(|| "run".to_owned());
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Options {
            jobs: self.options.jobs.map_or_else(cores, usize::from),
            keep_going: self.options.keep_going,
            verbose: self.options.verbose(),
            may_attach: !self.options.verbose() && self.options.message_format == MessageFormat::Human,
            forced,
            attached,
            recall: self.recall(),
        })
    }

    /// How the person starts us for this workspace, from where they are.
    fn recall(&self) -> String {
        let mut words = "cargo bcache".to_owned();
        let given = [("-C", &self.options.directory), ("--manifest", &self.options.manifest)];
        for (option, path) in given.into_iter().filter_map(|(option, path)| Some((option, path.as_ref()?))) {
            words.push_str(&format!(" {option} {}", shell_quote(&path.to_string_lossy())));
        }
        words
    }

    /// Asks about tasks that want to be asked about and will run for certain: before anything does. The others
    /// are asked about when they must run.
    pub(super) fn confirm(&self, opened: &Opened) -> Result<(), CommandError> {
        for ix in &opened.selection.steps {
            let step = opened.graph.step(*ix);
            let Some(question) = step.confirm.as_ref().filter(|_| step.class == Class::Plain) else { continue };
            match self.ask(step, question) {
                Ok(true) => {}
                Ok(false) => return Err(CommandError::Ended(Exit::StepFailed)),
                Err(text) => return Err(CommandError::Usage { text, help: Some("say --yes".to_owned()) }),
            }
        }
        Ok(())
    }

    fn ask(&self, step: &Step, question: &str) -> Result<bool, String> {
        if self.options.yes {
            return Ok(true);
        }
        let answer = self.reporter.confirm(&format!("{}: {question}", step.id));
        answer.ok_or_else(|| format!("`{}` asks before it runs ({question}), and there is no terminal", step.id))
    }

    /// Layers of steps that the manifest has no more leave their prefix.
    fn remove_gone(&self, opened: &Opened) -> Result<(), CommandError> {
        for prefix in opened.prefixes {
            let name = prefix.name();
            // While a step has it for itself, the build of that step sees to it.
            let share = opened.state.try_share_prefix(name).map_err(CommandError::io("lock a sysroot"))?;
            if share.is_none() {
                continue;
            }
            let removed = prefix.retain(|step| !is_gone(opened, step, name))?;
            if removed > 0 {
                let text =
                    format!("{} of steps that are no more left {name}", crate::base::text::count(removed, "file"));
                self.reporter.on(Event::Note { text });
            }
        }
        Ok(())
    }

    /// After something was made: the store within its limit, and without what nothing refers to.
    fn settle(&self, opened: &Opened, alive: crate::store::StepLock) -> Result<(), CommandError> {
        opened.store.trim()?;
        drop(alive);
        if let Some(_alone) = opened.state.try_lock_build().map_err(CommandError::io("lock the state"))? {
            // As they are now: builds that ran beside this one have written some.
            let records = opened.state.all_records()?;
            Layers::of(opened.state).remove_unused(&layers_in_use(&records))?;
            explain::forget_unused(opened.state, &records);
            hiding::forget_old(&opened.state.dir().join(hiding::COVERS));
            opened.state.sweep();
        }
        Ok(())
    }

    pub(super) fn finish(&self, opened: &Opened, ended: &Ended) -> Exit {
        for root in opened.bench.git.slow() {
            let root = opened.graph.shown(&root);
            let text =
                format!("the index of {root} is split or sparse: git was asked what it tracks, which takes longer");
            self.reporter.on(Event::Note { text });
        }
        let counts = ended.counts;
        let outcome = match (ended.interrupted, counts.failed + counts.skipped) {
            (true, _) => Outcome::Interrupted,
            (false, 0) => Outcome::Success,
            (false, _) => Outcome::Failure,
        };
        self.reporter.on(Event::Finished { label: label(opened), counts, took: self.begun.elapsed(), outcome });
        match outcome {
            Outcome::Interrupted => Exit::Interrupted,
            Outcome::Success => Exit::Ok,
            Outcome::Failure => match ended.attached_code {
                Some(code) => Exit::Command(code.clamp(1, 255) as u8),
                None if ended.broken => Exit::State,
                None => Exit::StepFailed,
            },
        }
    }

    /// Where the proof of this request lies, unless it can't have one.
    pub(super) fn request(&self, tasks: &[TaskName]) -> Result<Option<ProofOf>, CommandError> {
        if self.options.force() != Force::No || self.options.verbose() {
            return Ok(None);
        }
        let manifest = self.manifest_path()?;
        let root = manifest.parent().and_then(|dir| dir.canonicalize().ok());
        let Some(root) = root else { return Ok(None) };
        let names: Vec<OsString> = tasks.iter().map(|t| t.to_string().into()).collect();
        let ours = std::env::current_exe().ok().and_then(|exe| Stat::read(&exe).ok().flatten());
        let ours = ours.map_or_else(String::new, |s| format!("{} {} {}", s.ino, s.size, s.mtime));
        let is_root = if rustix::process::geteuid().is_root() { "root" } else { "user" };
        let home = self.store_home().unwrap_or_default();
        let mut parts: Vec<&OsStr> =
            vec![root.as_os_str(), manifest.as_os_str(), home.as_os_str(), OsStr::new(&ours), OsStr::new(is_root)];
        // Cargo puts its own directories in front: started through it, the same request is another.
        parts.push(self.outside.get("PATH").unwrap_or_default());
        parts.push(OsStr::new(self.options.target.as_deref().unwrap_or("")));
        let views = format!("{:?}", self.wanted_views()?);
        parts.push(OsStr::new(&views));
        parts.extend(names.iter().map(OsString::as_os_str));
        let digest = proof::request_digest(&parts);
        Ok(Some(ProofOf { proof: proof::file(&root.join(".bcache"), &digest), root }))
    }

    /// After a build without a failure: everything that its answer rests on.
    fn keep_proof(&self, opened: &Opened, request: Option<&ProofOf>, counts: &Counts) {
        let Some(request) = request else { return };
        let judged = opened.selection.steps.iter().map(|ix| opened.graph.step(*ix).class);
        if counts.failed + counts.skipped > 0 || judged.clone().any(|class| class == Class::Plain) {
            return;
        }
        if !opened.bench.tools.is_sure() {
            return;
        }
        let (Some(paths), Some(git)) = (facts(opened), opened.bench.git.account()) else { return };
        let facts = Facts { vars: self.outside.account(), paths, plain: opened.files.plain(), git };
        let fresh = judged.filter(|class| *class != Class::Group).count();
        let (label, outputs) = (label(opened), outputs_of(opened));
        let without_namespaces = matches!(opened.views.found(), Some(Availability::Not(_)));
        let answer = Answer { label, fresh, warnings: opened.warnings.clone(), outputs, without_namespaces };
        // A convenience for the next run: without it, it thinks again.
        let _ = proof::write(&request.proof, &answer, &facts);
    }
}

/// Does the manifest have no such step that installs into this prefix?
fn is_gone(opened: &Opened, step: &StepId, prefix: &str) -> bool {
    let Some(task) = opened.workspace.manifest.tasks.get(&*step.task) else { return true };
    let at = task.sysroot.as_ref().map(|s| format!("{}@{}", s.value, step.target));
    let has_target = task.targets.is_empty() || task.targets.iter().any(|t| *t.value == *step.target);
    at.as_deref() != Some(prefix) || !has_target
}

/// A request that can be answered by a proof.
pub(super) struct ProofOf {
    pub proof: PathBuf,
    /// The workspace.
    pub root: PathBuf,
}

/// Every path that was looked at, and every output as it lies there. `None` where something is unclear.
fn facts(opened: &Opened) -> Option<Vec<(PathBuf, Observation)>> {
    for file in &opened.workspace.manifest.files {
        let seen = opened.files.observe(&file.path).ok()?;
        // Edited since it was read: the next run must read it.
        if seen.digest != Some(Digest::of(file.text.as_bytes())) {
            return None;
        }
    }
    for Include { written, place } in &opened.workspace.manifest.includes {
        opened.files.links_to(written).ok()?;
        opened.files.observe(written).ok()?;
        // The same bytes elsewhere are another file: its paths start there.
        opened.files.pin(written);
        if canonical(written).ok().as_ref() != Some(place) {
            return None;
        }
    }
    let mut outputs = Vec::new();
    for ix in &opened.selection.steps {
        let step = opened.graph.step(*ix);
        let Some(record) = opened.records.get(&step.id) else { continue };
        if step.class == Class::Fixed {
            continue;
        }
        if record.origin == Origin::Begun {
            return None;
        }
        let made = record.made.as_ref()?;
        for (entry, seen) in made.outputs.entries().iter().zip(&record.outputs) {
            let digest = node_digest(&entry.node);
            outputs.push((
                opened.graph.root.join(&entry.path),
                Observation { stat: Some(seen.stat), settled: seen.settled, digest },
            ));
        }
        // Lists the directories among the outputs, so that a file too many is noticed.
        for output in &step.outputs {
            if !strays(opened.files, opened.graph, output, &[&made.outputs]).ok()?.is_empty() {
                return None;
            }
        }
    }
    outputs.extend(installed(opened)?);
    if opened.files.wavered().iter().any(|(path, before)| !is_seen_after(opened, path, *before)) {
        return None;
    }
    let mut all = opened.files.account();
    all.extend(outputs);
    let mut all = proof::united(all)?;
    all.extend(opened.files.pinned_young());
    Some(all)
}

/// Of a path that changed: did nobody judge by what it was before but the step that makes it? Who needs that step looked after
/// it; who does not has seen another state than the proof would hold.
fn is_seen_after(opened: &Opened, path: &Path, before: Looker) -> bool {
    match before {
        Looker::Step(ix) => opened.graph.step(ix).outputs.iter().any(|output| output.pattern.covers(path)),
        Looker::Many => false,
    }
}

/// What lies in the prefixes, the directories that it is reached through, and the files that several steps wrote.
fn installed(opened: &Opened) -> Option<Vec<(PathBuf, Observation)>> {
    let mut found = Vec::new();
    for (prefix, of_graph) in opened.prefixes.iter().zip(&opened.graph.prefixes) {
        let mut above = HashSet::new();
        for (path, node, seen) in prefix.seen().ok()? {
            let seen = seen?;
            above.extend(path.ancestors().skip(1).take_while(|dir| dir.starts_with(prefix.dir())).map(Path::to_owned));
            let digest = node_digest(&node);
            found.push((path, Observation { stat: Some(seen.stat), settled: seen.settled, digest }));
        }
        for dir in above {
            opened.files.look(&dir).ok()?;
        }
        for path in &of_graph.shared_files {
            opened.files.observe(&prefix.dir().join(path)).ok()?;
        }
    }
    Some(found)
}

fn node_digest(node: &Node) -> Option<Digest> {
    match node {
        Node::File { digest, .. } => Some(*digest),
        Node::Symlink { target } => Some(link_digest(target)),
        // Of a directory only that it is there with its mode.
        Node::Dir { .. } => None,
    }
}

/// What was built, as the last line says it.
pub(super) fn label(opened: &Opened) -> String {
    let names: Vec<String> = opened.selection.named.iter().map(|ix| opened.graph.step(*ix).id.to_string()).collect();
    if names.len() > 3 { format!("{} and {} more", names[..2].join(", "), names.len() - 2) } else { names.join(", ") }
}

/// As a duration that was measured elsewhere.
pub(super) fn millis(millis: u64) -> Option<Duration> {
    (millis > 0).then(|| Duration::from_millis(millis))
}
