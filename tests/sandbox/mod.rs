//! A world of its own for the program: a worktree, a home, a store, a PATH, and nothing of the machine's
//! environment. What the program says is compared whole, with paths and times redacted.
//!
//! ```ignore
//! Sandbox::new()
//!     .tasks("[tasks.gen]\ninputs = ['a']\noutputs = ['b']\nrun = '{ran} gen; cp a b'\n")
//!     .file("a", "1")
//!     .run("build gen").stderr("…").success()
//!     .run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
//! ```
//!
//! Two words in a manifest are filled in. `{ran} NAME` is a command that counts: [`Sandbox::ran`] says how
//! often. `{gate NAME}` is one that says that it is there and waits: [`Sandbox::reached`] returns when it
//! is, [`Sandbox::open`] lets it go on. So a test decides what overlaps, without sleeping.
//!
//! Steps run one after another (`BCACHE_JOBS=1`) unless the test says `-j`, so that the order of lines is known.

#![allow(dead_code)] // Each test binary uses a part of it.

mod outcome;
mod running;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

pub use outcome::Outcome;
pub use running::{Gate, Running};

const BIN: &str = env!("CARGO_BIN_EXE_cargo-bcache");
/// Put before a manifest that does not bring its own.
const HEAD: &str = "[bcache]\nversion = 1\n";
/// Whom an ordinary user's sandbox belongs to.
const SOMEBODY: u32 = 54_321;

/// What several worktrees share.
struct World {
    dir: tempfile::TempDir,
    bin: PathBuf,
    user: Option<u32>,
    gates: RefCell<BTreeMap<String, Gate>>,
}

pub struct Sandbox {
    world: Rc<World>,
    /// Name of the worktree's directory.
    name: String,
    env: RefCell<BTreeMap<OsString, OsString>>,
    below: RefCell<PathBuf>,
    /// What a shell says before it becomes the program.
    limits: RefCell<String>,
}

impl Sandbox {
    pub fn new() -> Self {
        Self::of(None)
    }

    /// Belongs to an ordinary user, and the program runs as that one. `None` where we can't become one.
    pub fn of_a_user() -> Option<Self> {
        rustix::process::geteuid().is_root().then(|| Self::of(Some(SOMEBODY)))
    }

    fn of(user: Option<u32>) -> Self {
        let dir = tempfile::Builder::new().prefix("bcache-test-").tempdir().unwrap();
        // Behind links, as the program says it.
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(real, dir.path(), "set TMPDIR to a path without links");
        let bin = match user {
            None => PathBuf::from(BIN),
            // Where our target directory lies, others may have no way.
            Some(_) => {
                let bin = dir.path().join("cargo-bcache");
                copy_program(Path::new(BIN), &bin);
                bin
            }
        };
        let world = World { dir, bin, user, gates: RefCell::default() };
        let sandbox = Self {
            world: Rc::new(world),
            name: "work".into(),
            env: RefCell::default(),
            below: RefCell::default(),
            limits: RefCell::default(),
        };
        sandbox.make_dirs();
        sandbox.reset_env();
        sandbox
    }

    fn make_dirs(&self) {
        for dir in ["", "work", "home", "store", "bin", "gates", "tmp"].map(|d| self.root().join(d)) {
            if !dir.exists() {
                fs::DirBuilder::new().mode(0o755).create(&dir).unwrap();
            }
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
            self.give(&dir);
        }
        let log = self.root().join("ran");
        fs::write(&log, "").unwrap();
        self.give(&log);
        // What was read of the machine's packages, by any test, is as good for this one.
        let host = Path::new(env!("CARGO_TARGET_TMPDIR")).join("host");
        fs::create_dir_all(&host).unwrap();
        symlink(host, self.root().join("store/host")).unwrap();
    }

    fn reset_env(&self) {
        let root = self.root();
        let path = format!("{}/bin:/usr/bin:/bin", root.display());
        for (name, value) in [("PATH", path.as_str()), ("TERM", "dumb"), ("LANG", "C.UTF-8"), ("BCACHE_JOBS", "1")] {
            self.env(name, value);
        }
        if env!("CARGO_CRATE_NAME") == "exclusive" {
            self.env("BCACHE_VIEWS", "exclusive");
        }
        for (name, dir) in [("HOME", "home"), ("BCACHE_HOME", "store"), ("TMPDIR", "tmp")] {
            self.env(name, root.join(dir));
        }
    }

    /// Another worktree on the same store, empty, with the same environment.
    pub fn worktree(&self, name: &str) -> Self {
        let other = Self {
            world: self.world.clone(),
            name: name.to_owned(),
            env: self.env.clone(),
            below: RefCell::default(),
            limits: RefCell::default(),
        };
        fs::create_dir_all(other.work()).unwrap();
        other.give(&other.work());
        other
    }

    /// The directory that holds everything.
    pub fn root(&self) -> &Path {
        self.world.dir.path()
    }

    pub fn work(&self) -> PathBuf {
        self.root().join(&self.name)
    }

    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.work().join(path)
    }

    pub fn store(&self) -> PathBuf {
        self.root().join("store")
    }

    fn give(&self, path: &Path) {
        if let Some(user) = self.world.user {
            chown(path, Some(user), Some(user)).unwrap();
        }
    }

    // ---- what lies there ----

    /// `tasks.toml`, without a first empty line; `[bcache]` is put before it where it has none of its own.
    pub fn tasks(&self, text: &str) -> &Self {
        let text = text.strip_prefix('\n').unwrap_or(text);
        let head = if text.contains("[bcache]") { "" } else { HEAD };
        self.file("tasks.toml", format!("{head}{}", self.filled(text)))
    }

    /// With `{ran}` and `{gate …}` replaced.
    pub fn filled(&self, text: &str) -> String {
        let log = self.root().join("ran");
        let mut text = text.replace("{ran}", &format!("echo >>{}", log.display()));
        while let Some(at) = text.find("{gate ") {
            let end = at + text[at..].find('}').unwrap();
            let name = text[at + 6..end].to_owned();
            let command = self.gate(&name);
            text.replace_range(at..=end, &command);
        }
        text
    }

    fn gate(&self, name: &str) -> String {
        let mut gates = self.world.gates.borrow_mut();
        let gate = gates.entry(name.to_owned()).or_insert_with(|| {
            let gate = Gate::new(&self.root().join("gates"), name);
            gate.paths().iter().for_each(|path| self.give(path));
            gate
        });
        gate.command()
    }

    pub fn file(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> &Self {
        let at = self.at(path);
        self.parents(&at);
        fs::write(&at, text).unwrap();
        self.give(&at);
        self
    }

    fn parents(&self, at: &Path) {
        let missing: Vec<&Path> = at.ancestors().skip(1).take_while(|dir| !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            fs::create_dir(dir).unwrap();
            self.give(dir);
        }
    }

    pub fn dir(&self, path: &str) -> &Self {
        self.parents(&self.at(path).join("x"));
        self
    }

    pub fn link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> &Self {
        let at = self.at(path);
        self.parents(&at);
        symlink(target, &at).unwrap();
        self
    }

    /// A program on PATH, in a directory that no step looks into unless it is told of the program.
    pub fn tool(&self, name: &str, script: &str) -> &Self {
        let at = self.root().join("bin").join(name);
        // A running script can't be written to, and a new inode is what an upgrade makes.
        let new = self.root().join("bin/.new");
        fs::write(&new, self.filled(&format!("#!/bin/sh\n{script}\n"))).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, at).unwrap();
        self
    }

    pub fn append(&self, path: &str, text: &str) -> &Self {
        let mut bytes = fs::read(self.at(path)).unwrap();
        bytes.extend_from_slice(text.as_bytes());
        self.file(path, bytes)
    }

    /// The manifest, edited.
    pub fn edit(&self, path: &str, from: &str, to: &str) -> &Self {
        let text = self.read(path);
        assert!(text.contains(from), "`{from}` is not in {path}");
        let to = self.filled(to);
        self.file(path, text.replace(from, &to))
    }

    pub fn remove(&self, path: &str) -> &Self {
        let at = self.at(path);
        if at.symlink_metadata().unwrap().is_dir() {
            fs::remove_dir_all(at).unwrap()
        } else {
            fs::remove_file(at).unwrap()
        }
        self
    }

    pub fn rename(&self, from: &str, to: &str) -> &Self {
        let to = self.at(to);
        self.parents(&to);
        fs::rename(self.at(from), to).unwrap();
        self
    }

    /// Another mtime, the same contents.
    pub fn touch(&self, path: &str) -> &Self {
        let file = fs::File::open(self.at(path)).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.set_modified(before + std::time::Duration::from_secs(7)).unwrap();
        self
    }

    pub fn chmod(&self, path: &str, mode: u32) -> &Self {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let at = self.at(path);
        fs::read_to_string(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display()))
    }

    pub fn exists(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// Every path below `path` with its mode and contents: two trees are the same if these are.
    pub fn tree(&self, path: &str) -> Vec<String> {
        tree_of(&self.at(path))
    }

    /// Files below the worktree and the store that hold these bytes.
    pub fn files_with(&self, needle: &[u8]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.work(), self.store()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap() {
                    t if t.is_dir() => open.push(entry.path()),
                    t if t.is_file() => {
                        let bytes = fs::read(entry.path()).unwrap();
                        if bytes.windows(needle.len()).any(|w| w == needle) {
                            found.push(entry.path());
                        }
                    }
                    _ => {}
                }
            }
        }
        found
    }

    // ---- running ----

    /// For every further run.
    pub fn env(&self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &Self {
        self.env.borrow_mut().insert(name.as_ref().into(), value.as_ref().into());
        self
    }

    pub fn unset(&self, name: &str) -> &Self {
        self.env.borrow_mut().remove(OsStr::new(name));
        self
    }

    /// Further runs start in this directory of the worktree.
    pub fn below(&self, dir: &str) -> &Self {
        *self.below.borrow_mut() = dir.into();
        self
    }

    /// Further runs get so many bytes of address space, and fail where they want more.
    pub fn limit_memory(&self, bytes: u64) -> &Self {
        self.limits.borrow_mut().push_str(&format!("ulimit -v {}; ", bytes >> 10));
        self
    }

    /// Further runs begin with this umask.
    pub fn umask(&self, umask: u32) -> &Self {
        self.limits.borrow_mut().push_str(&format!("umask {umask:o}; "));
        self
    }

    /// Runs the program with these words; `'…'` keeps words together.
    #[track_caller]
    pub fn run(&self, words: &str) -> Outcome<'_> {
        self.start(words).wait()
    }

    /// Starts it, and goes on.
    pub fn start(&self, words: &str) -> Running<'_> {
        Running::new(self, self.command(words))
    }

    pub fn command(&self, words: &str) -> Command {
        let args = split(words);
        let mut command = match self.world.user {
            None => self.program(),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
                command.arg(&self.world.bin);
                command
            }
        };
        command.args(args).env_clear().envs(self.env.borrow().iter()).current_dir(self.at(&*self.below.borrow()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn program(&self) -> Command {
        let limits = self.limits.borrow();
        if limits.is_empty() {
            return Command::new(&self.world.bin);
        }
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limits}exec \"$0\" \"$@\"")]).arg(&self.world.bin);
        command
    }

    /// How often `{ran} NAME` was run, in all worktrees together.
    pub fn ran(&self, name: &str) -> usize {
        let log = fs::read_to_string(self.root().join("ran")).unwrap();
        log.lines().filter(|line| *line == name).count()
    }

    #[track_caller]
    pub fn ran_times(&self, name: &str, times: usize) -> &Self {
        assert_eq!(self.ran(name), times, "how often `{name}` ran");
        self
    }

    /// Returns when a step stands at the gate.
    #[track_caller]
    pub fn reached(&self, gate: &str) -> &Self {
        self.world.gates.borrow()[gate].wait();
        self
    }

    /// Lets one step through the gate, now or when it comes.
    pub fn open(&self, gate: &str) -> &Self {
        self.world.gates.borrow()[gate].open();
        self
    }

    /// Text with what differs from run to run replaced.
    fn redacted(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).replace(self.root().to_str().unwrap(), "[ROOT]");
        outcome::without_times(&text)
    }
}

/// A copy that can be started at once. By another process: what one thread of ours has open for writing, a child that another
/// thread starts meanwhile has too, and a program that somebody may write into is not executed (`ETXTBSY`).
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// The same of any directory.
pub fn tree_of(dir: &Path) -> Vec<String> {
    let mut entries = Vec::new();
    tree(dir, Path::new(""), &mut entries);
    entries
}

fn tree(at: &Path, inner: &Path, entries: &mut Vec<String>) {
    let Ok(meta) = at.symlink_metadata() else { return };
    let mode = meta.mode() & 0o7777;
    if meta.is_symlink() {
        entries.push(format!("{} -> {}", inner.display(), fs::read_link(at).unwrap().display()));
    } else if meta.is_dir() {
        entries.push(format!("{}/ {mode:o}", inner.display()));
        let mut names: Vec<_> = fs::read_dir(at).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names.iter().for_each(|name| tree(&at.join(name), &inner.join(name), entries));
    } else if meta.is_file() {
        entries.push(format!("{} {mode:o} {}", inner.display(), fs::read(at).unwrap().escape_ascii()));
    } else {
        entries.push(format!("{} {mode:o} (special)", inner.display()));
    }
}

fn split(words: &str) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    for (i, part) in words.split('\'').enumerate() {
        if i % 2 == 1 {
            args.push(OsStr::from_bytes(part.as_bytes()).to_owned());
        } else {
            args.extend(part.split_whitespace().map(OsString::from));
        }
    }
    args
}
