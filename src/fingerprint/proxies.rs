//! Programs that start others under their own name: rustup's, and the shims of pyenv and its like. What such a program
//! says rests on all that chooses the other one, and on that itself.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::base::digest::{Digest, Hasher};
use crate::base::disk::read_text;
use crate::base::stat::Kind;
use crate::graph::Step;

use super::env::{self, Outside};
use super::files::{FileError, Files};
use super::tools::Place;

/// Variables that choose what a proxy starts, or where it looks for that.
const CHOOSERS: [&str; 6] = ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "PYENV_ROOT", "PYENV_VERSION"];
/// Those that steps see without a word.
const PASSED: [&str; 3] = ["HOME", "CARGO_HOME", "RUSTUP_HOME"];
/// Files in which people choose versions, in any directory above.
const TOOLCHAINS: [&str; 2] = ["rust-toolchain", "rust-toolchain.toml"];
const VERSIONS: [&str; 7] =
    [".python-version", ".tool-versions", ".node-version", ".ruby-version", ".nvmrc", "mise.toml", ".mise.toml"];

/// The variables that choose, as a step sees them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Chosen(BTreeMap<&'static str, OsString>);

impl Chosen {
    pub fn by(step: &Step, outside: &Outside) -> Self {
        let own = |name: &str| step.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.into());
        let declared = env::passed(step, outside);
        let is_seen = |name: &str| PASSED.contains(&name) || declared.iter().any(|(known, _)| known == name);
        let passed = |name: &str| if is_seen(name) { outside.get(name).map(OsStr::to_owned) } else { None };
        let value = |name: &str| own(name).or_else(|| passed(name));
        Self(CHOOSERS.into_iter().filter_map(|name| Some((name, value(name)?))).collect())
    }

    pub fn in_environment(environment: &[(OsString, OsString)]) -> Self {
        let value = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        Self(CHOOSERS.into_iter().filter_map(|name| Some((name, value(name)?))).collect())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &OsStr)> {
        self.0.iter().map(|(name, value)| (*name, value.as_os_str()))
    }

    pub(super) fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("bcache choosers 1");
        hasher.number(self.0.len() as u64);
        for (name, value) in self.all() {
            hasher.text(name).bytes(value.as_encoded_bytes());
        }
        hasher.finish()
    }

    /// An empty one is none.
    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}

/// What an answer rests on besides the program that was asked.
#[derive(Default)]
pub(super) struct Grounds {
    /// Files and directories that choose.
    pub choices: Vec<PathBuf>,
    /// Programs that can be chosen, behind their links.
    pub programs: Vec<PathBuf>,
}

/// Is it rustup under one of its names? They are links to it, hard ones or copies too.
pub(super) fn is_rustup(files: &Files, place: &Place) -> bool {
    if place.real.file_name().is_some_and(|real| real == "rustup") {
        return true;
    }
    let name = place.path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let is_proxy = ["cargo", "rust", "rls", "clippy"].iter().any(|begin| name.starts_with(begin));
    let digest = |path: &Path| files.observe(path).ok()?.digest;
    is_proxy && digest(&place.real).is_some_and(|own| digest(&place.real.with_file_name("rustup")) == Some(own))
}

pub(super) fn is_shim(place: &Place) -> bool {
    place.path.components().any(|part| part.as_os_str() == "shims")
}

/// For a program that is started in `directory`.
pub(super) fn grounds(files: &Files, chosen: &Chosen, place: &Place, directory: &Path) -> Result<Grounds, FileError> {
    let mut grounds = Grounds::default();
    let home = chosen.path("HOME").unwrap_or_default();
    let own = |name: &str, usual: &str| chosen.path(name).unwrap_or_else(|| home.join(usual));
    // What is started there goes by real names.
    let real = directory.canonicalize().ok().filter(|real| real != directory);
    let above = || directory.ancestors().chain(real.iter().flat_map(|real| real.ancestors()));
    let mut installed = Vec::new();
    if is_rustup(files, place) {
        let rustup = own("RUSTUP_HOME", ".rustup");
        let hashes = rustup.join("update-hashes");
        grounds.choices.extend(files.list(&hashes)?.iter().map(|(name, _)| hashes.join(name)));
        grounds.choices.extend([hashes, rustup.join("settings.toml")]);
        for file in above().flat_map(|dir| TOOLCHAINS.map(|name| dir.join(name))) {
            installed.extend(toolchain_path(&file));
            grounds.choices.push(file);
        }
        installed.extend(chosen.path("RUSTUP_TOOLCHAIN").filter(|named| named.is_absolute()));
        installed.extend(below(files, rustup.join("toolchains"), &mut grounds)?);
    }
    if is_shim(place) {
        let pyenv = own("PYENV_ROOT", ".pyenv");
        grounds.choices.push(pyenv.join("version"));
        grounds.choices.extend(above().chain([home.as_path()]).flat_map(|dir| VERSIONS.map(|name| dir.join(name))));
        installed.extend(below(files, pyenv.join("versions"), &mut grounds)?);
    }
    for program in installed.iter().filter_map(|dir| Some(dir.join("bin").join(place.path.file_name()?))) {
        let is_link = files.look(&program)?.is_some_and(|stat| stat.kind == Kind::Symlink);
        grounds.programs.push(if is_link { files.resolve(&program)? } else { program });
    }
    Ok(grounds)
}

/// What is installed in a directory of a version manager.
fn below(files: &Files, dir: PathBuf, grounds: &mut Grounds) -> Result<Vec<PathBuf>, FileError> {
    let installed = files.list(&dir)?.iter().map(|(name, _)| dir.join(name)).collect();
    grounds.choices.push(dir);
    Ok(installed)
}

/// The toolchain that a file names by its path: `path = "../rust/build/host/stage1"`.
fn toolchain_path(file: &Path) -> Option<PathBuf> {
    let text = read_text(file).ok()?;
    let value = text.lines().find_map(|line| line.trim_start().strip_prefix("path")?.trim_start().strip_prefix('='))?;
    let path = value.trim_start().split(['"', '\'']).nth(1)?;
    Some(file.parent()?.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_that_is_named_by_its_path_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rust-toolchain.toml");
        for (text, path) in [
            ("[toolchain]\npath = \"/opt/rust\"\n", Some("/opt/rust".into())),
            ("[toolchain]\n  path='../rust' # own", Some(dir.path().join("../rust"))),
            ("[toolchain]\nchannel = \"nightly\"\n", None),
            ("nightly\n", None),
            ("path", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(toolchain_path(&file), path, "{text}");
        }
        assert_eq!(toolchain_path(dir.path()), None);
        let pipe = dir.path().join("rust-toolchain");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(toolchain_path(&pipe), None);
    }
}
