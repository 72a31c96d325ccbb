//! Programs: where they are found, and what they are by content or version.
//!
//! A tool is looked for where the step would find it: needed layers (see [`super::assemble`]), the step's
//! `path`, the user's PATH, the system's directories. Its identity is the content of the file that it resolves to, and
//! of a script's interpreter; a script or a proxy (rustup's `cargo`, pyenv's shims, PyPI's `meson`) is a door to
//! something else, and a program of no package rests on what was installed with it, so the version that they report
//! joins in. Versions are remembered with the facts that they rest on.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::{Component, Kind as Part};
use crate::base::digest::{Digest, Hasher};
use crate::base::disk;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::base::stat::Kind;
use crate::graph::toolchain::PROGRAM;
use crate::manifest::model::Tool;

use super::files::{FileError, Files, Observation};
use super::hashbang;
use super::looker::{Looker, looking_as};
use super::proxies::{self, Chosen};

pub(super) const FORMAT: Format = Format { magic: b"bctools\n", version: 3 };
/// A program that has not said its version by then is known by its content alone.
const PATIENCE: Duration = Duration::from_secs(20);
/// Answers that are kept.
const KEPT: usize = 512;
/// More than any version text; a program that prints its help instead is cut here.
const VERSION_BYTES: usize = 16 * 1024;
/// What a shell ends with where a signal ended what it started.
const SIGNALS: RangeInclusive<i32> = 129..=192;

#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{command}`, the version command of tool `{tool}`, failed: {cause}")]
    Version { tool: String, command: String, cause: String },
    #[error("cannot ask `{command}`: {error}")]
    Ask { command: String, error: io::Error },
}

/// Where people install without a package manager.
pub const HAND_MADE: [&str; 2] = ["/usr/local", "/opt"];

/// What package managers own, but for [`HAND_MADE`]: elsewhere is what people brought themselves. In the last two places the
/// path says which libraries belong to a program, and is in its bytes.
const PACKAGED: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/System", "/Library", "/nix/store", "/gnu/store"];
/// Beside the directory of a program, where its own libraries are.
const LIBRARIES: [&str; 2] = ["lib", "lib64"];
/// Of more libraries only the names are looked at.
const MOST_LIBRARIES: usize = 256;
/// The kernel follows no more scripts that start scripts.
const MOST_INTERPRETERS: usize = 5;

/// Where a program is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// As PATH gives it.
    pub path: PathBuf,
    /// Behind its links.
    pub real: PathBuf,
}

/// How a program is asked.
pub struct Asking<'a> {
    /// Its PATH.
    pub search: &'a [PathBuf],
    /// The directories on a step's PATH that are its own.
    pub own: Vec<PathBuf>,
    /// What lies in the workspace is known by its content.
    pub root: &'a Path,
    pub directory: &'a Path,
    pub chosen: Chosen,
}

pub struct Tools<'a> {
    files: &'a Files,
    found: Mutex<HashMap<Searched, Option<Place>>>,
    /// Contents that are scripts, and those that are not.
    scripts: Mutex<HashMap<Digest, bool>>,
    versions: Mutex<Versions>,
    /// Was a question left without an answer that another time may have one?
    is_unsure: AtomicBool,
}

/// A name and the directories that it was looked for in.
type Searched = (String, Vec<PathBuf>);

#[derive(Default)]
struct Versions {
    known: Vec<Version>,
    changed: bool,
}

/// What a version command said, and the facts that this rests on.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Version {
    #[serde(with = "crate::base::paths::bytes")]
    program: PathBuf,
    command: String,
    #[serde(with = "crate::base::paths::bytes")]
    directory: PathBuf,
    files: Vec<(OsString, Observation)>,
    /// Of the variables that choose.
    chosen: Digest,
    /// `None`: it failed. That counts for as long as this process lives.
    said: Option<String>,
}

impl<'a> Tools<'a> {
    /// `memory` is the file in which [`Tools::save`] left what was learned.
    pub fn load(files: &'a Files, memory: &Path) -> Self {
        let known = std::fs::read(memory).ok().and_then(|bytes| FORMAT.open(&bytes).ok()).unwrap_or_default();
        Self {
            files,
            found: Mutex::default(),
            scripts: Mutex::default(),
            versions: Mutex::new(Versions { known, changed: false }),
            is_unsure: AtomicBool::new(false),
        }
    }

    pub fn save(&self, memory: &Path) -> io::Result<()> {
        let versions = lock(&self.versions);
        let told: Vec<&Version> = versions.known.iter().filter(|version| version.said.is_some()).collect();
        if versions.changed { publish(memory, &FORMAT.seal(&told)) } else { Ok(()) }
    }

    /// May others rest on what was found out about programs?
    pub fn is_sure(&self) -> bool {
        !self.is_unsure.load(Ordering::Relaxed)
    }

    /// The first program of this name in `dirs`; one with a slash lies where it does for who starts it in `directory`.
    /// Places that were passed over are seen, so that a program which appears there is noticed.
    pub fn find(&self, name: &str, dirs: &[PathBuf], directory: &Path) -> Result<Option<Place>, ToolError> {
        if name.contains('/') {
            return self.at(directory.join(name).components().collect());
        }
        let key = (name.to_owned(), dirs.to_vec());
        if let Some(known) = lock(&self.found).get(&key) {
            return Ok(known.clone());
        }
        // The answer is given to others too, who don't look again.
        let place = looking_as(Looker::Many, || self.look_for(name, dirs))?;
        lock(&self.found).insert(key, place.clone());
        Ok(place)
    }

    fn look_for(&self, name: &str, dirs: &[PathBuf]) -> Result<Option<Place>, ToolError> {
        let list = std::env::join_paths(dirs.iter().filter(|d| !d.as_os_str().to_string_lossy().contains(':')))
            .unwrap_or_default();
        let path = which::which_in_global(name, Some(list)).ok().and_then(|mut found| found.next());
        for dir in dirs {
            let candidate = dir.join(name);
            if path.as_ref() == Some(&candidate) {
                break;
            }
            self.files.search(&candidate)?;
        }
        Ok(match path {
            None => None,
            Some(path) => Some(Place { real: self.files.resolve(&path)?, path }),
        })
    }

    /// The program at a path, if there is one.
    fn at(&self, path: PathBuf) -> Result<Option<Place>, ToolError> {
        let is_program = self.files.search(&path)?.is_some_and(|stat| stat.kind == Kind::File && stat.is_executable());
        is_program.then(|| Ok(Place { real: self.files.resolve(&path)?, path })).transpose()
    }

    /// The identity of a program that was found.
    pub fn component(&self, tool: &Tool, place: &Place, asking: &Asking) -> Result<Component, ToolError> {
        let name = &tool.name.value;
        let mut hasher = Hasher::new("bcache tool 1");
        let shown;
        if let Some(command) = &tool.version {
            let said = self.version(place, command, asking)?;
            let Some(text) = said else {
                let cause = "it ended with an error, or not in time".to_owned();
                return Err(ToolError::Version { tool: name.clone(), command: command.value.clone(), cause });
            };
            hasher.number(0).text(&text);
            shown = text;
        } else {
            let content = self.files.observe(&place.real)?.digest.unwrap_or_else(|| Digest::of(b""));
            hasher.number(1).digest(&content);
            let version = if self.is_door(name, place, content, asking) {
                let command = version_command(name, place);
                self.version(place, &command, asking)?
            } else {
                None
            };
            if let Some(text) = &version {
                hasher.text(text);
            }
            let interpreters = self.interpreters(place, asking)?;
            if !interpreters.is_empty() {
                hasher.text("interpreters").number(interpreters.len() as u64);
            }
            for interpreter in interpreters {
                let content = self.files.observe(&interpreter)?.digest;
                hasher.digest(&content.unwrap_or_else(|| Digest::of(b"")));
            }
            shown = version.unwrap_or_else(|| place.real.display().to_string());
        }
        let shown = shown.lines().next().unwrap_or("").to_owned();
        Ok(Component { kind: Part::Tool, name: name.clone(), digest: hasher.finish(), shown })
    }

    /// The files that a component is made from, as they are now.
    pub fn seen(&self, place: &Place, asking: &Asking) -> Result<Vec<(PathBuf, Observation)>, ToolError> {
        let files = [place.real.clone()].into_iter().chain(self.interpreters(place, asking)?);
        files.map(|file| Ok((file.clone(), self.files.observe(&file)?))).collect()
    }

    /// What starts a script, and what starts that, behind their links.
    pub fn interpreters(&self, place: &Place, asking: &Asking) -> Result<Vec<PathBuf>, ToolError> {
        Ok(self.started_by(place, asking)?.into_iter().map(|place| place.real).collect())
    }

    /// The same with the ways to them. `env` finds what the step's PATH leads to: a program that has a link there is a tool itself.
    pub fn started_by(&self, place: &Place, asking: &Asking) -> Result<Vec<Place>, ToolError> {
        let content = self.files.observe(&place.real)?.digest;
        if content.is_none_or(|content| !self.is_script(&place.real, content)) {
            return Ok(Vec::new());
        }
        let system = super::env::SYSTEM_PATH.iter().map(PathBuf::from);
        let reach: Vec<PathBuf> = asking.own.iter().cloned().chain(system).collect();
        let mut found: Vec<Place> = Vec::new();
        let mut open = hashbang::interpreters(&place.real);
        while let Some(word) = open.pop().filter(|_| found.len() < MOST_INTERPRETERS) {
            if let Some(place) = self.find(&word, &reach, asking.directory)?
                && !found.iter().any(|known| known.real == place.real)
            {
                open.extend(hashbang::interpreters(&place.real));
                found.push(place);
            }
        }
        Ok(found)
    }

    /// What `program --version` says, where it can be asked.
    pub fn version_of(&self, program: &str, asking: &Asking) -> Option<String> {
        let place = self.find(program, asking.search, asking.directory).ok()??;
        self.version(&place, &format!("{} --version", crate::base::text::shell_quote(program)), asking).ok()?
    }

    /// A script, a program that answers to many names by starting others, or one of no package.
    fn is_door(&self, name: &str, place: &Place, content: Digest, asking: &Asking) -> bool {
        if name != "rustup" && proxies::is_rustup(self.files, place) {
            return true;
        }
        if name == PROGRAM || is_by_hand(&place.real, asking.root) {
            return true;
        }
        self.is_script(&place.real, content)
    }

    fn is_script(&self, program: &Path, content: Digest) -> bool {
        let look = || {
            let mut head = [0; 2];
            File::open(program).and_then(|mut f| f.read_exact(&mut head)).is_ok() && &head == b"#!"
        };
        *lock(&self.scripts).entry(content).or_insert_with(look)
    }

    /// What a command of a program says; `None` where it fails.
    pub fn version(&self, place: &Place, command: &str, asking: &Asking) -> Result<Option<String>, ToolError> {
        self.ask_remembered(place, command, asking, &|_| Vec::new())
    }

    /// What a command says that starts a program, asked again only when the program changed, or what its answer rests on:
    /// `more` finds further paths of that kind in the answer.
    pub fn ask_remembered(
        &self,
        place: &Place,
        command: &str,
        asking: &Asking,
        more: &dyn Fn(&str) -> Vec<PathBuf>,
    ) -> Result<Option<String>, ToolError> {
        let (directory, chosen) = (self.place_of(place, asking.directory)?, asking.chosen.digest());
        let same = |v: &Version| {
            v.program == place.real && v.command == command && v.directory == directory && v.chosen == chosen
        };
        self.files.observe(&place.real)?;
        self.files.pin(&place.real);
        let known = lock(&self.versions).known.iter().find(|v| same(v)).cloned();
        if let Some(known) = known
            && self.holds(&known)?
        {
            return Ok(known.said);
        }
        let mut files = self.facts(place, asking)?;
        let unasked = |error| ToolError::Ask { command: command.to_owned(), error };
        let said = match ask(command, asking).map_err(unasked)? {
            Ending::Said(text) => Some(text),
            Ending::Failed => None,
            Ending::Cut => {
                self.is_unsure.store(true, Ordering::Relaxed);
                None
            }
        };
        for path in said.as_deref().map(more).unwrap_or_default() {
            let seen = self.files.observe(&path)?;
            files.push((path.into(), seen));
        }
        let version = Version {
            program: place.real.clone(),
            command: command.to_owned(),
            directory: directory.clone(),
            files,
            chosen,
            said: said.clone(),
        };
        let mut versions = lock(&self.versions);
        let before = versions.known.len();
        versions.known.retain(|v| !same(v));
        versions.changed |= said.is_some() || versions.known.len() < before;
        versions.known.push(version);
        let many = versions.known.len().saturating_sub(KEPT);
        versions.known.drain(..many);
        Ok(said)
    }

    /// What chooses by files above the directory goes by its real place.
    fn place_of(&self, place: &Place, directory: &Path) -> Result<PathBuf, ToolError> {
        if !proxies::is_rustup(self.files, place) && !proxies::is_shim(place) {
            return Ok(directory.to_owned());
        }
        self.files.links_to(directory)?;
        Ok(directory.canonicalize().unwrap_or_else(|_| directory.to_owned()))
    }

    fn holds(&self, version: &Version) -> Result<bool, ToolError> {
        for (path, seen) in &version.files {
            let path = Path::new(path);
            // Of a program that was only looked at.
            if seen.stat.is_some() && seen.digest.is_none() {
                if !seen.settled || self.files.look(path)? != seen.stat {
                    return Ok(false);
                }
                continue;
            }
            let now = self.files.observe(path)?;
            let is_program = version.program == path;
            if now.digest != seen.digest
                || now.stat.is_some() != seen.stat.is_some()
                || is_program && now.stat != seen.stat
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the answer of a version command rests on: the program, its interpreter, and what is behind a proxy.
    fn facts(&self, place: &Place, asking: &Asking) -> Result<Vec<(OsString, Observation)>, ToolError> {
        let grounds = proxies::grounds(self.files, &asking.chosen, place, asking.directory)?;
        let mut paths = vec![place.real.clone()];
        paths.extend(self.interpreters(place, asking)?);
        paths.extend(grounds.choices);
        let mut programs = grounds.programs;
        if is_by_hand(&place.real, asking.root) {
            self.libraries(&place.real, &mut paths, &mut programs);
        }
        let mut facts = Vec::with_capacity(paths.len() + programs.len());
        for path in paths {
            let seen = self.files.observe(&path)?;
            facts.push((path.into(), seen));
        }
        // There may be many, and they are large.
        for program in programs {
            let seen = self.files.look_closely(&program)?;
            facts.push((program.into(), seen));
        }
        Ok(facts)
    }

    /// Libraries that may have been installed with a program, and the directories in which others would be.
    fn libraries(&self, program: &Path, dirs: &mut Vec<PathBuf>, found: &mut Vec<PathBuf>) {
        let Some(beside) = program.parent().and_then(Path::parent) else { return };
        for dir in LIBRARIES.map(|name| beside.join(name)) {
            // What is closed to us is no ground.
            let Ok(listing) = self.files.list(&dir) else { continue };
            let is_library = |name: &str| name.ends_with(".so") || name.contains(".so.") || name.ends_with(".dylib");
            let libraries = listing.iter().filter(|(name, _)| name.to_str().is_some_and(is_library));
            found.extend(libraries.map(|(name, _)| dir.join(name)).take(MOST_LIBRARIES));
            dirs.push(dir);
        }
    }
}

/// How a version command ended.
enum Ending {
    Said(String),
    Failed,
    /// It was not let to its end: another time it may say something.
    Cut,
}

/// Runs a version command in a plain environment, with a limit on time and output.
fn ask(command: &str, asking: &Asking) -> io::Result<Ending> {
    let dir = tempfile::env::temp_dir();
    let mut output = tempfile::tempfile_in(&dir).map_err(disk::at(&dir))?;
    let mut path = std::env::join_paths(asking.search).map_err(io::Error::other)?;
    for dir in super::env::SYSTEM_PATH {
        path.push(":");
        path.push(dir);
    }
    // It may not be there yet, and what chooses lies above it.
    let directory = asking.directory.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env_clear()
        .env("PATH", path)
        .env("LANG", "C.UTF-8")
        .env("RUSTUP_AUTO_INSTALL", "0")
        .envs(asking.chosen.all())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(output.try_clone()?)
        .process_group(0)
        .spawn()?;
    let mut waited = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if waited > PATIENCE {
            // Its whole group; `wait` then reaps the child itself.
            let group = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = child.wait();
            return Ok(Ending::Cut);
        }
        let step = Duration::from_millis(2);
        std::thread::sleep(step);
        waited += step;
    };
    if !status.success() {
        // The shell itself may be killed, and says so of what it starts.
        let was_killed = status.code().is_none_or(|code| SIGNALS.contains(&code));
        return Ok(if was_killed { Ending::Cut } else { Ending::Failed });
    }
    output.rewind()?;
    let mut text = Vec::new();
    output.take(VERSION_BYTES as u64).read_to_end(&mut text)?;
    Ok(Ending::Said(String::from_utf8_lossy(&text).trim_end().to_owned()))
}

/// What makes a program say its version.
fn version_command(name: &str, place: &Place) -> String {
    // It may lie where no PATH leads, or the step's directory may not be there yet.
    let program = if name == PROGRAM || name.contains('/') { &place.path.to_string_lossy() } else { name };
    let how = if name == PROGRAM { "version" } else { "--version" };
    format!("{} {how}", crate::base::text::shell_quote(program))
}

/// Of no package, by its place: what else belongs to it is known by its version, if at all.
pub fn is_by_hand(program: &Path, root: &Path) -> bool {
    let is_below = |dirs: &[&str]| dirs.iter().any(|dir| program.starts_with(dir));
    !program.starts_with(root) && (is_below(&HAND_MADE) || !is_below(&PACKAGED))
}

/// Is it a file that can be started, itself or behind links?
pub fn is_program(files: &Files, path: &Path) -> Result<bool, FileError> {
    Ok(files.look_behind(path)?.is_some_and(|s| s.kind == Kind::File && s.is_executable()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
