//! zig: where it is, also as PyPI's `ziglang`, and what comes with it.
//!
//! zig is one program and a directory of sources beside it, out of which it makes C libraries for every target. People
//! have it as `zig` on PATH, or as a Python module (`pip install ziglang`), with the same program inside. That program is
//! looked for in the module itself, so that no Python starts with each compiler.
//!
//! Only Python knows where its modules are (virtual environments, the user's own, pyenv). It is asked once, and the
//! answer is remembered with all that it rests on: the interpreter, every directory that it would look into.
//!
//! In the key are the program's bytes and the version that it reports; the latter stands for its sources. Where it lies is
//! not, though the debug information of the libraries that it makes holds that path: people have it in their homes.
//!
//! **Its caches** are two. What zig makes of its own sources takes it minutes, so this is kept for all worktrees of a user,
//! below the store, apart for each zig ([`cache`]): nothing of a step's own is in it. What it makes of a step's sources is
//! in a directory of the step that is emptied before each run: zig believes the stamps of files, and files that were
//! unpacked again may have the same.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::base::digest::Digest;
use crate::base::stat::Kind;
use crate::base::text::shell_quote;
use crate::graph::toolchain::{PROGRAM, ZIG};

use super::files::Files;
use super::tools::{Asking, Place, ToolError, Tools};

/// Prints the directory of the module, and then all those in which Python looks for modules, before it.
const ASK: &str = "import sys, importlib.util
sys.path = [p for p in sys.path if p]
spec = importlib.util.find_spec('ziglang')
print(list(spec.submodule_search_locations)[0] if spec else '')
print('\\n'.join(sys.path))";
const PYTHONS: [&str; 2] = ["python3", "python"];

/// The program of PyPI's module, as the first Python on the search path knows it. Version managers choose one by the
/// directory in which it is asked.
pub fn of_python(tools: &Tools, files: &Files, asking: &Asking) -> Result<Option<Place>, ToolError> {
    for name in PYTHONS {
        let Some(python) = tools.find(name, asking.search, asking.directory)? else { continue };
        let command = format!("{} -c {}", shell_quote(&python.path.to_string_lossy()), shell_quote(ASK));
        let said = tools.ask_remembered(&python, &command, asking, &looked_into)?;
        let Some(module) = said.as_deref().and_then(|said| said.lines().next()).filter(|dir| !dir.is_empty()) else {
            continue;
        };
        let path = Path::new(module).join(PROGRAM);
        if files.search(&path)?.is_some_and(|stat| stat.kind == Kind::File && stat.is_executable()) {
            return Ok(Some(Place { real: files.resolve(&path)?, path }));
        }
    }
    Ok(None)
}

/// Where a module of that name would be found, and what says where to look.
fn looked_into(said: &str) -> Vec<PathBuf> {
    said.lines().skip(1).map(PathBuf::from).filter(|dir| dir.is_absolute()).collect()
}

/// The directory of sources that belongs to a zig, found as zig finds it.
fn library(zig: &Path) -> Option<PathBuf> {
    let above = zig.ancestors().skip(1);
    let candidates = above.flat_map(|dir| [dir.join("lib/zig"), dir.join("lib")]);
    candidates.into_iter().find(|dir| dir.join("std/std.zig").is_file())
}

/// The directory below `caches` for what this zig makes of its own sources.
fn cache(caches: &Path, zig: &Digest) -> PathBuf {
    caches.join(zig.short())
}

/// A step's zig.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zig {
    pub program: PathBuf,
    /// Its sources.
    pub library: Option<PathBuf>,
    /// For what it makes of them.
    pub cache: PathBuf,
}

impl Zig {
    /// Variables by which it is found, and finds its caches. Nothing of them is in any key. One that always runs has no
    /// `tmp` that is emptied, and the caches that its user has. Cargo starts zig by a `starter`.
    pub fn environment(&self, tmp: Option<&Path>, starter: Option<&Path>) -> Vec<(OsString, OsString)> {
        let mut vars: Vec<(&str, OsString)> = vec![(ZIG, self.program.clone().into())];
        if let Some(tmp) = tmp {
            vars.extend([
                ("ZIG_GLOBAL_CACHE_DIR", self.cache.clone().into()),
                ("ZIG_LOCAL_CACHE_DIR", tmp.join("zig").into()),
            ]);
        }
        if let Some(starter) = starter {
            vars.extend([
                // Newer versions take the first; older ones ask Python before they take the second.
                ("CARGO_ZIGBUILD_ZIG_COMMAND", starter.into()),
                ("CARGO_ZIGBUILD_ZIG_PATH", starter.into()),
                ("CARGO_ZIGBUILD_PYTHON_PATH", "/nowhere/python3".into()),
                ("CARGO_ZIGBUILD_CACHE_DIR", self.cache.with_file_name("zigbuild").into()),
            ]);
        }
        vars.into_iter().map(|(name, value)| (name.into(), value)).collect()
    }

    pub fn at(place: &Place, files: &Files, caches: &Path) -> Result<Self, ToolError> {
        let digest = files.observe(&place.real)?.digest.unwrap_or_else(|| Digest::of(b""));
        Ok(Self { program: place.path.clone(), library: library(&place.real), cache: cache(caches, &digest) })
    }
}
