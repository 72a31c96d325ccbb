//! Which programs a step's host identity is asked for: its tools, what those call without being told, and what
//! runs them where they are scripts.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::graph::Step;

use super::super::env::reach;
use super::super::files::Files;
use super::super::hashbang::interpreters;
use super::super::tools::{Place, ToolError, Tools};

/// Programs that call a compiler by its usual name.
const DRIVERS: &[&str] = &["cargo", "cmake", "gmake", "go", "make", "meson", "ninja", "rustc", "samu"];
const COMPILERS: &[&str] = &["cc", "c++"];

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
