//! Opening a workspace: manifest, graph, state, store, in this order, each only when it is needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::base::ids::StepIx;
use crate::base::paths::join_clean;
use crate::cli::{self, TaskName};
use crate::event::{Event, Listener};
use crate::execute::judging::{Judge, Records, Results};
use crate::execute::view::probe::{Views, Wanted};
use crate::execute::watch::Watch;
use crate::fingerprint::assemble::Workbench;
use crate::fingerprint::cargo::metadata::Memory as Packages;
use crate::fingerprint::env;
use crate::fingerprint::files::Files;
use crate::fingerprint::git::{self, Git};
use crate::fingerprint::host::Host;
use crate::fingerprint::tools::Tools;
use crate::graph::pattern::Pattern;
use crate::graph::{self, Class, Graph, Request, Selection, Step};
use crate::manifest::error::{Errors, Problem, place};
use crate::manifest::expand::host_triple;
use crate::manifest::load;
use crate::manifest::model::Manifest;
use crate::store::{Prefix, Relocation, StandIn, State, Store, StoreError};

use super::Context;
use super::error::CommandError;

/// A manifest and the graph of all its tasks.
pub(super) struct Workspace {
    pub manifest: Manifest,
    pub graph: Graph,
    pub request: Request,
}

/// A workspace with all that judging and running its steps takes.
pub(super) struct Opened<'a> {
    pub workspace: &'a Workspace,
    pub graph: &'a Graph,
    pub selection: Selection,
    pub state: &'a State,
    pub store: &'a Store,
    pub files: &'a Files,
    pub bench: &'a Workbench<'a>,
    pub records: &'a Records<'a>,
    pub results: &'a Results,
    pub prefixes: &'a [Prefix<'a>],
    pub views: &'a Views,
    pub relocation: &'a Relocation,
    pub warnings: Vec<String>,
}

impl<'a> Opened<'a> {
    /// The same for other steps of the graph.
    pub fn with_selection(&self, selection: Selection) -> Opened<'a> {
        Opened { selection, warnings: self.warnings.clone(), ..*self }
    }

    pub fn judge(&self) -> Judge<'_> {
        Judge {
            bench: self.bench,
            prefixes: self.prefixes,
            relocation: self.relocation,
            state: self.state,
            records: self.records,
            results: self.results,
            views: self.views,
        }
    }
}

impl Context {
    /// The manifest that was named, or the one found here or above.
    pub(super) fn manifest_path(&self) -> Result<PathBuf, CommandError> {
        match &self.options.manifest {
            Some(path) => Ok(self.directory.join(path)),
            None => {
                load::find(&self.directory).ok_or_else(|| CommandError::NoManifest { path: self.directory.clone() })
            }
        }
    }

    pub(super) fn workspace(&self, tasks: &[TaskName], run: Option<&[String]>) -> Result<Workspace, CommandError> {
        let manifest = load::load(&self.manifest_path()?)?;
        let request = Request {
            names: tasks.iter().map(ToString::to_string).collect(),
            target: self.options.target.clone(),
            args_for: run.and_then(|_| tasks.first()).map(|t| t.task.clone()),
            args: run.unwrap_or_default().to_vec(),
            host_triple: host_triple(),
        };
        // A name that does not exist is the person's slip, not the manifest's.
        if !(tasks.is_empty() && manifest.settings.default.is_none()) {
            request.resolve(&manifest)?;
        }
        let graph = graph::build(&manifest, &request)?;
        Ok(Workspace { manifest, graph, request })
    }

    pub(super) fn store_home(&self) -> Result<PathBuf, CommandError> {
        if let Some(home) = self.outside.get("BCACHE_HOME").filter(|h| !h.is_empty()) {
            return Ok(self.directory.join(home));
        }
        if let Some(cache) = self.outside.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|c| c.is_absolute()) {
            return Ok(cache.join("bcache"));
        }
        let home = self.outside.home().ok_or_else(|| CommandError::Missing {
            text: "no place for the cache: HOME is not set".to_owned(),
            help: Some("set BCACHE_HOME to a directory".to_owned()),
        })?;
        Ok(home.join(if cfg!(target_os = "macos") { "Library/Caches/bcache" } else { ".cache/bcache" }))
    }

    /// As it was typed, or by the variable.
    pub(super) fn wanted_views(&self) -> Result<Wanted, CommandError> {
        let of_option = self.options.views.map(|views| match views {
            cli::Views::Auto => Wanted::Auto,
            cli::Views::Namespaces => Wanted::Namespaces,
            cli::Views::Exclusive => Wanted::Exclusive,
        });
        let variable = self.outside.get("BCACHE_VIEWS").filter(|value| !value.is_empty());
        match (of_option, variable.map(|value| value.to_string_lossy())) {
            (Some(wanted), _) => Ok(wanted),
            (None, None) => Ok(Wanted::Auto),
            (None, Some(text)) => match &*text {
                "auto" => Ok(Wanted::Auto),
                "namespaces" => Ok(Wanted::Namespaces),
                "exclusive" => Ok(Wanted::Exclusive),
                _ => Err(CommandError::Usage {
                    text: format!("BCACHE_VIEWS is `{text}`, which is no way to keep steps apart"),
                    help: Some("write auto, namespaces or exclusive".to_owned()),
                }),
            },
        }
    }

    pub(super) fn store(&self) -> Result<Store, CommandError> {
        let limit = match self.outside.get("BCACHE_LIMIT").and_then(|l| l.to_str()).filter(|l| !l.is_empty()) {
            None => None,
            Some(text) => Some(bytes_of(text).ok_or_else(|| CommandError::Usage {
                text: format!("BCACHE_LIMIT is `{text}`, which is no size"),
                help: Some("write a number of bytes, or 500MB, 20GB".to_owned()),
            })?),
        };
        Ok(Store::open(&self.store_home()?, limit)?)
    }

    /// Opens everything for `workspace` and hands it to `act`; keeps what was learned about files after.
    pub(super) fn open<T>(
        &self,
        workspace: &Workspace,
        act: impl FnOnce(&Opened) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let graph = &workspace.graph;
        let selection = graph.select(&workspace.manifest, &workspace.request)?;
        let state = State::open(&graph.root)?;
        let store = self.store()?;
        let kept_in = places_of(&self.store_home()?);
        let memory = Memory::of(&state);
        let files = Files::load(&memory.files);
        let tools = Tools::load(&files, &memory.tools);
        let packages = Packages::load(&memory.packages);
        let host = Host::new(&files, &self.outside, self.store_home()?.join("host"));
        let git = Git::new(memory.git.clone(), &self.outside, no_inputs(graph, &state, &kept_in));
        let host_triple = host_triple();
        let zig_caches = self.store_home()?.join("zig");
        let bench = Workbench {
            graph,
            files: &files,
            outside: &self.outside,
            tools: &tools,
            host: &host,
            git: &git,
            packages: &packages,
            state: state.dir(),
            store: &kept_in,
            host_triple: &host_triple,
            is_root: rustix::process::geteuid().is_root(),
            zig_caches: &zig_caches,
        };
        let records = Records::load(&state)?;
        let results = Results::new(graph);
        let prefixes: Vec<Prefix> = graph.prefixes.iter().map(|p| Prefix::new(&state, &p.name, &p.path)).collect();
        self.put_right(&state, &store, &prefixes)?;
        let views = Views::new(self.wanted_views()?, state.dir().join("work"));
        let relocation = relocation(graph);
        let warnings = self.warnings(workspace, &selection, &state);
        let opened = Opened {
            workspace,
            graph,
            selection,
            state: &state,
            store: &store,
            files: &files,
            bench: &bench,
            records: &records,
            results: &results,
            prefixes: &prefixes,
            views: &views,
            relocation: &relocation,
            warnings,
        };
        let answer = act(&opened);
        // Convenience for the next run; what this one said stands without it.
        let saved = files.save(&memory.files).and_then(|()| tools.save(&memory.tools));
        let _ = saved.and_then(|()| packages.save(&memory.packages)).and_then(|()| git.save());
        answer
    }

    /// A build that was killed may have left a prefix elsewhere, and processes that write where it was.
    fn put_right(&self, state: &State, store: &Store, prefixes: &[Prefix]) -> Result<(), CommandError> {
        for prefix in prefixes {
            let stand_in = StandIn::new(state, prefix);
            if stand_in.is_left()
                && let Some(_alone) =
                    state.try_lock_prefix(prefix.name()).map_err(CommandError::io("lock a sysroot"))?
            {
                let look = CommandError::io("look for what killed builds left");
                Watch::new(state, store.root()).end_orphans(&self.reporter).map_err(look)?;
                stand_in.put_right()?;
            }
        }
        Ok(())
    }

    fn warnings(&self, workspace: &Workspace, selection: &Selection, state: &State) -> Vec<String> {
        let manifest = &workspace.manifest;
        let mut texts: Vec<String> =
            manifest.warnings.iter().map(|w| format!("{}: {}", place(&manifest.files, w.span), w.text)).collect();
        texts.extend(workspace.graph.warnings.iter().cloned());
        let steps = selection.steps.iter().map(|ix| workspace.graph.step(*ix));
        let ignored = env::ignored(steps, &self.outside);
        if !ignored.is_empty() {
            texts.push(format!(
                "set outside and of no effect on cached steps: {} (declare in `env`, or let pass with `env-pass`)",
                ignored.join(", ")
            ));
        }
        texts.extend(unseen_inputs(&workspace.graph, selection));
        if let Some(from) = &state.moved_from {
            let from = crate::base::paths::escaped(from);
            let text = format!("this worktree was moved or copied from {from}: what holds its path is made again");
            self.reporter.on(Event::Note { text });
        }
        if let Some(old) = &state.set_aside {
            self.reporter.on(Event::Note {
                text: format!("the state was of another version: moved to {}", workspace.graph.shown(old)),
            });
        }
        texts
    }
}

/// Where a store lies, by the names that it was given and by its real ones.
fn places_of(store: &Path) -> Vec<PathBuf> {
    let homes: BTreeSet<_> = join_clean(Path::new("/"), store).into_iter().chain(store.canonicalize().ok()).collect();
    let dirs = homes.iter().flat_map(|home| Store::dirs(home));
    // Some may be elsewhere, and some not there yet.
    dirs.flat_map(|dir| dir.canonicalize().into_iter().chain([dir])).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What is no input by git: what steps make, and what we keep.
fn no_inputs(graph: &Graph, state: &State, store: &[PathBuf]) -> Vec<Pattern> {
    let outputs = graph.indices().flat_map(|ix| graph.step(ix).outputs.iter().map(|output| output.pattern.clone()));
    let prefixes = graph.prefixes.iter().map(|prefix| prefix.path.as_path());
    let ours = store.iter().map(PathBuf::as_path).chain([state.dir()]);
    outputs.chain(prefixes.chain(ours).map(Pattern::of_path)).collect()
}

/// What placeholders stand for here.
pub(super) fn relocation(graph: &Graph) -> Relocation {
    let placeholder = |prefix: &graph::Prefix| Some((prefix.placeholder.clone()?, prefix.path.clone()));
    Relocation::new(graph.prefixes.iter().filter_map(placeholder))
}

/// Names at most, in one warning.
const NAMED: usize = 3;

/// A command that names a file which somebody keeps in git, and which is no input, works with it unseen.
fn unseen_inputs(graph: &Graph, selection: &Selection) -> Vec<String> {
    let steps = selection.steps.iter().map(|ix| graph.step(*ix));
    let made = graph.made();
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| !meta.is_dir());
    let named: Vec<(&Step, Vec<PathBuf>)> =
        steps.map(|step| (step, graph.unmentioned(step, &made).into_iter().filter(is_file).collect())).collect();
    let all: Vec<&Path> = named.iter().flat_map(|(_, paths)| paths).map(PathBuf::as_path).collect();
    let tracked = git::tracked_among(&graph.root, &all);
    let warning = |(step, paths): &(&Step, Vec<PathBuf>)| {
        let names: Vec<String> = paths.iter().filter(|p| tracked.contains(p)).map(|p| graph.shown(p)).collect();
        let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
        let listed = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let id = &step.id;
        (!names.is_empty()).then(|| {
            format!(
                "{id}: its commands name {listed}{more}, which git tracks and no input is: a change there goes unseen"
            )
        })
    };
    named.iter().filter_map(warning).collect()
}

/// Files in which a worktree's knowledge of files and tools is kept.
struct Memory {
    files: PathBuf,
    tools: PathBuf,
    git: PathBuf,
    packages: PathBuf,
}

impl Memory {
    fn of(state: &State) -> Self {
        Self {
            files: state.dir().join("files"),
            tools: state.dir().join("versions"),
            git: state.dir().join("git"),
            packages: state.dir().join("packages"),
        }
    }
}

/// Every tool that a step of the request must have and that nothing could bring.
pub(super) fn check_tools(opened: &Opened) -> Result<(), CommandError> {
    let mut missing: Vec<(String, Vec<String>, Option<String>)> = Vec::new();
    for ix in &opened.selection.steps {
        let step = opened.graph.step(*ix);
        if !matches!(step.class, Class::Cached) {
            continue;
        }
        let may_come = !step.layers.is_empty() || step.path.iter().any(|dir| made_by_a_need(opened, *ix, dir));
        let search = opened.bench.search_path(step);
        for used in step.tools.iter().filter(|t| t.required && !may_come) {
            let name = &used.tool.name.value;
            if opened
                .bench
                .find_tool(step, name, &search)
                .map_err(|e| CommandError::Judge(crate::execute::judging::JudgeError::Assemble(e.into())))?
                .is_some()
            {
                continue;
            }
            let id = step.id.to_string();
            match missing.iter_mut().find(|(known, ..)| known == name) {
                Some((_, steps, _)) => steps.push(id),
                None => missing.push((name.clone(), vec![id], used.tool.install.clone())),
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let line = |(name, steps, _): &(String, Vec<String>, Option<String>)| {
        let more = if steps.len() > 3 { format!(" and {} more", steps.len() - 3) } else { String::new() };
        format!("`{name}`, wanted by {}{more}", steps.iter().take(3).cloned().collect::<Vec<_>>().join(", "))
    };
    let text = if missing.len() == 1 {
        format!("a tool is missing: {}", line(&missing[0]))
    } else {
        format!("{} tools are missing: {}", missing.len(), missing.iter().map(line).collect::<Vec<_>>().join("; "))
    };
    let mut hints: Vec<String> = missing.into_iter().filter_map(|(_, _, install)| install).collect();
    hints.dedup();
    let help = (!hints.is_empty()).then(|| format!("to get them: {}", hints.join(" && ")));
    Err(CommandError::Missing { text, help })
}

/// A sysroot may be reached through a link, but not one that leads out of the workspace.
pub(super) fn check_prefixes(opened: &Opened) -> Result<(), CommandError> {
    let graph = opened.graph;
    let root = graph.root.canonicalize().map_err(CommandError::io("find the workspace"))?;
    let used: BTreeSet<_> = opened.selection.steps.iter().filter_map(|ix| graph.step(*ix).sysroot).collect();
    for path in used.into_iter().map(|ix| &graph.prefix(ix).path) {
        if let Some(link) = link_out(opened, path, &root)? {
            return Err(StoreError::ThroughLink { path: path.clone(), link }.into());
        }
    }
    Ok(())
}

/// So may a target directory, but for the one that we choose, which lies where the state does. What is built outside may be another
/// worktree's, with a lock, a memory and sources of its own.
pub(super) fn check_target_dirs(opened: &Opened) -> Result<(), CommandError> {
    let root = opened.graph.root.canonicalize().map_err(CommandError::io("find the workspace"))?;
    let mut problems: Vec<Problem> = Vec::new();
    let steps = opened.selection.steps.iter().map(|ix| opened.graph.step(*ix));
    for cargo in steps.filter_map(|step| step.cargo.as_ref()).filter(|cargo| !cargo.has_own_target_dir) {
        if problems.iter().any(|problem| problem.primary == cargo.span) {
            continue;
        }
        if let Some(link) = link_out(opened, &cargo.target_dir, &root)? {
            let label = format!("`{}` is a link that leads out of it, or nowhere", opened.graph.shown(&link));
            let text = "a target directory must lie inside the workspace";
            let problem = Problem::new("bcache::graph::outside", text, cargo.span).label(label);
            problems.push(problem.help("without `target-dir` it lies where `.bcache` does, which may be a link"));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Errors::new(problems, opened.workspace.manifest.files.clone()).into())
    }
}

/// The first link on the way from the workspace to `path` that leads out of it. All of them are facts, and where there is none.
fn link_out(opened: &Opened, path: &Path, root: &Path) -> Result<Option<PathBuf>, CommandError> {
    let here = &opened.graph.root;
    let inside: Vec<&Path> = path.ancestors().take_while(|dir| dir.starts_with(here) && dir != here).collect();
    for dir in inside.into_iter().rev() {
        if !opened.files.is_link(dir)? {
            continue;
        }
        // One that leads nowhere can't be followed either.
        if !dir.canonicalize().is_ok_and(|real| real.starts_with(root)) {
            return Ok(Some(dir.to_owned()));
        }
        for (link, _) in opened.files.links_to(dir)? {
            let text = link.read_link().map_err(CommandError::io("read a link"))?;
            let there = link.parent().unwrap_or(Path::new("/")).join(text);
            for above in there.ancestors().take_while(|above| !root.starts_with(above)) {
                opened.files.is_link(above)?;
            }
        }
    }
    Ok(None)
}

fn made_by_a_need(opened: &Opened, ix: StepIx, dir: &Path) -> bool {
    opened
        .graph
        .flat_needs(ix)
        .iter()
        .any(|need| opened.graph.step(*need).outputs.iter().any(|o| o.pattern.covers(dir)))
}

/// A declared output directory belongs to its task whole: no file in it may be tracked by git.
pub(super) fn check_tracked(opened: &Opened) -> Result<(), CommandError> {
    let outputs = opened.graph.steps.iter().flat_map(|step| step.outputs.iter().map(move |o| (step, o)));
    let dirs: Vec<_> = outputs.filter(|(_, o)| o.pattern.is_dir && !o.pattern.is_glob()).collect();
    let paths: Vec<&Path> = dirs.iter().map(|(_, o)| o.pattern.path.as_path()).collect();
    let mut problems: Vec<Problem> = Vec::new();
    for (at, file) in git::tracked_below(opened.files, &opened.graph.root, &paths)? {
        let (step, output) = dirs[at];
        let text = format!(
            "`{}` is tracked by git, and lies in an output directory of `{}`",
            opened.graph.shown(&file),
            step.id
        );
        if !problems.iter().any(|p| p.primary == output.pattern.span) {
            let problem = Problem::new("bcache::graph::tracked_output", text, output.pattern.span)
                .label("belongs to its task whole")
                .help("take the file out of the directory, or declare outputs file by file");
            problems.push(problem);
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Errors::new(problems, opened.workspace.manifest.files.clone()).into())
    }
}

/// `500MB`, `20GB`, a number of bytes.
fn bytes_of(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}
