//! Facts about the whole room, on real directories.

mod collecting;
mod hostile;
mod layering;
mod prefixes;
mod restoring;
mod saving;
mod stating;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::action::{ActionKey, ActionResult, Cost, SetAside};
use crate::base::digest::Digest;
use crate::base::ids::StepId;
use crate::base::stat::{Stat, set_mode};

use super::*;

/// A worktree and a store in a temporary directory.
struct Rig {
    dir: tempfile::TempDir,
    store: Store,
    state: State,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("work tree");
        fs::create_dir(&root).unwrap();
        let store = Store::open(&dir.path().join("home"), Some(1 << 30)).unwrap();
        let state = State::open(&root).unwrap();
        Self { dir, store, state }
    }

    fn root(&self) -> &Path {
        self.state.root()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn capture(&self, outputs: &[&str]) -> Result<Capture, StoreError> {
        let outputs: Vec<PathBuf> = outputs.iter().map(PathBuf::from).collect();
        self.sources(&outputs).capture(&self.store)
    }

    fn sources<'a>(&'a self, outputs: &'a [PathBuf]) -> Sources<'a> {
        Sources {
            workspace: self.root(),
            outputs,
            upper: None,
            except: &[],
            log: None,
            places: &[],
            secrets: &[],
            placeholders: &[],
        }
    }

    fn save(&self, name: &str, outputs: &[&str]) -> ActionResult {
        self.commit(name, self.capture(outputs).unwrap())
    }

    fn commit(&self, name: &str, capture: Capture) -> ActionResult {
        let permit = self.miss(name);
        self.store.commit(permit, capture, &step(name), Cost::default()).unwrap()
    }

    fn miss(&self, name: &str) -> Permit {
        match self.store.lookup(&key(name)).unwrap() {
            Lookup::Miss(permit) => permit,
            Lookup::Hit(_) => panic!("{name} is there"),
        }
    }

    fn hit(&self, name: &str) -> ActionResult {
        match self.store.lookup(&key(name)).unwrap() {
            Lookup::Hit(result) => *result,
            Lookup::Miss(_) => panic!("{name} is not there"),
        }
    }

    fn has(&self, name: &str) -> bool {
        matches!(self.store.lookup(&key(name)).unwrap(), Lookup::Hit(_))
    }

    /// Saves a layer with these files.
    fn layer(&self, name: &str, files: &[(&str, &str)]) -> ActionResult {
        let upper = self.dir.path().join(format!("upper-{name}"));
        fs::create_dir_all(&upper).unwrap();
        for (path, text) in files {
            let path = upper.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }
        self.layer_of(name, &upper)
    }

    fn layer_of(&self, name: &str, upper: &Path) -> ActionResult {
        let sources = Sources { upper: Some(upper), ..self.sources(&[]) };
        let capture = sources.capture(&self.store).unwrap();
        self.commit(name, capture)
    }

    fn restore(&self, result: &ActionResult, before: Before) -> Placed {
        self.try_restore(result, before).unwrap()
    }

    fn try_restore(&self, result: &ActionResult, before: Before) -> Result<Placed, StoreError> {
        let root = self.root();
        self.store.materialize(result, Part::Outputs, &self.state, root, before, &mut || Ok(()))
    }
}

fn step(name: &str) -> StepId {
    StepId::new(name, "host")
}

fn key(name: &str) -> ActionKey {
    ActionKey(Digest::of(name.as_bytes()))
}

fn before<'a>(result: &'a ActionResult, placed: &'a Placed) -> Before<'a> {
    Before { tree: Some(&result.made.outputs), seen: &placed.seen }
}

fn stat(path: &Path) -> Stat {
    Stat::read(path).unwrap().unwrap()
}

/// Bytes that don't compress.
fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed.as_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// All files below `dir`, relative, sorted.
fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn moved(aside: &[SetAside]) -> Vec<(&Path, String)> {
    aside.iter().map(|a| (a.from.as_path(), fs::read_to_string(&a.to).unwrap())).collect()
}
