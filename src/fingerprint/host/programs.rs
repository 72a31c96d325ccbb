//! Which programs a step's host identity is asked for: its tools, what those call without being told, and what
//! runs them where they are scripts.
//!
//! A compiler that lies outside of the system's directories may be a mask: `/usr/lib/ccache/cc` and the like start the
//! next program of their own name on PATH ([`behind`]).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::graph::Step;

use super::super::env::{SYSTEM_PATH, reach};
use super::super::files::Files;
use super::super::hashbang::interpreters;
use super::super::tools::{Place, ToolError, Tools};

/// Programs that call a compiler by its usual name.
const DRIVERS: &[&str] = &["cargo", "cmake", "gmake", "go", "make", "meson", "ninja", "rustc", "samu"];
const COMPILERS: &[&str] = &["cc", "c++"];
/// The same in all the ways in which they are called, without what stands before and after: `x86_64-linux-gnu-gcc-12`.
const MASKED: &[&str] = &["c++", "c89", "c99", "cc", "clang", "clang++", "cpp", "g++", "gcc", "gfortran"];

/// Each program by its name, with the links that lead to it and itself last.
pub fn programs(
    files: &Files,
    tools: &Tools,
    step: &Step,
    located: &[(String, Place)],
) -> Result<Vec<(String, Vec<PathBuf>)>, ToolError> {
    let reach = reach(step);
    let mut words: Vec<String> = Vec::new();
    if located.iter().any(|(name, _)| DRIVERS.contains(&name.rsplit('/').next().unwrap_or(name))) {
        words.extend(COMPILERS.iter().map(|name| (*name).to_owned()));
    }
    for script in &step.scripts {
        words.extend(interpreters(script));
    }
    let mut found = Vec::new();
    let mut open: Vec<(String, Place)> = located.to_vec();
    let mut known: HashSet<PathBuf> = HashSet::new();
    loop {
        while let Some((name, place)) = open.pop() {
            if known.insert(place.path.clone()) {
                words.extend(interpreters(&place.real));
                open.extend(behind(tools, step, &place)?.map(|next| (name.clone(), next)));
                found.push((name, real_names(files.chain(&place.path)?)));
            }
        }
        let Some(word) = words.pop() else { return Ok(found) };
        open.extend(tools.find(&word, &reach, &step.cwd)?.map(|place| (word, place)));
    }
}

/// The same paths, and each as it is called behind linked directories.
fn real_names(mut chain: Vec<PathBuf>) -> Vec<PathBuf> {
    let real = |path: &PathBuf| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let others: Vec<PathBuf> = chain.iter().filter_map(real).filter(|path| !chain.contains(path)).collect();
    let end = chain.pop();
    chain.extend(others);
    chain.extend(end.as_ref().and_then(|end| end.canonicalize().ok()).or(end));
    chain
}

/// The compiler that one of the same name starts: the next on the step's PATH, where the first is none of the system.
pub fn behind(tools: &Tools, step: &Step, place: &Place) -> Result<Option<Place>, ToolError> {
    let name = place.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_of_system = SYSTEM_PATH.iter().any(|dir| place.path.parent() == Some(Path::new(dir)));
    if is_of_system || !is_masked(name) {
        return Ok(None);
    }
    for dir in reach(step) {
        let next = tools.find(name, &[dir], &step.cwd)?;
        if let Some(next) = next.filter(|next| next.real != place.real) {
            return Ok(Some(next));
        }
    }
    Ok(None)
}

fn is_masked(name: &str) -> bool {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let plain = name.rsplit_once('-').filter(|(_, end)| end.chars().all(is_number)).map_or(name, |(plain, _)| plain);
    MASKED.contains(&plain.rsplit('-').next().unwrap_or(plain))
}

#[cfg(test)]
mod tests {
    use super::is_masked;

    #[test]
    fn compilers_are_known_by_their_names_with_triples_and_versions() {
        for name in ["cc", "gcc-12", "x86_64-linux-gnu-g++-12", "clang++-14", "c99-gcc", "aarch64-none-elf-gcc-13.2"] {
            assert!(is_masked(name), "{name}");
        }
        for name in ["", "-", "ccache", "gcc-ar", "gcc-ar-12", "cargo", "c", "make"] {
            assert!(!is_masked(name), "{name}");
        }
    }
}
