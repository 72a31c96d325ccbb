//! Programs that start others under their own name: rustup's, and the shims of pyenv and its like. What such a program
//! says rests on all that chooses the other one, and on that itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::env::Outside;
use super::files::{FileError, Files};
use super::tools::Place;

/// Variables that choose what a proxy starts, or where it looks for that.
pub(super) const CHOOSERS: &[&str] =
    &["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "PYENV_ROOT", "PYENV_VERSION"];
/// Files in which people choose versions, in any directory above.
const TOOLCHAINS: [&str; 2] = ["rust-toolchain", "rust-toolchain.toml"];
const VERSIONS: [&str; 7] =
    [".python-version", ".tool-versions", ".node-version", ".ruby-version", ".nvmrc", "mise.toml", ".mise.toml"];

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

/// For a program that is started in `directory`.
pub(super) fn grounds(files: &Files, outside: &Outside, place: &Place, directory: &Path) -> Result<Grounds, FileError> {
    let mut grounds = Grounds::default();
    let home = outside.home().unwrap_or_default();
    let own = |name: &str, usual: &str| {
        outside.get(name).filter(|dir| !dir.is_empty()).map_or_else(|| home.join(usual), PathBuf::from)
    };
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
        let named = outside.get("RUSTUP_TOOLCHAIN").map(PathBuf::from);
        installed.extend(named.filter(|named| named.is_absolute()));
        installed.extend(below(files, rustup.join("toolchains"), &mut grounds)?);
    }
    if place.path.components().any(|c| c.as_os_str() == "shims") {
        let pyenv = own("PYENV_ROOT", ".pyenv");
        grounds.choices.push(pyenv.join("version"));
        grounds.choices.extend(above().chain([home.as_path()]).flat_map(|dir| VERSIONS.map(|name| dir.join(name))));
        installed.extend(below(files, pyenv.join("versions"), &mut grounds)?);
    }
    for program in installed.iter().filter_map(|dir| Some(dir.join("bin").join(place.path.file_name()?))) {
        grounds.programs.push(files.resolve(&program)?);
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
    let text = std::fs::read_to_string(file).ok()?;
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
    }
}
