//! Which programs a step's host identity is asked for: its tools, what those call without being told, and what
//! runs them where they are scripts.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::graph::Step;

use super::super::env::reach;
use super::super::files::Files;
use super::super::tools::{Place, ToolError, Tools};

/// Programs that call a compiler by its usual name.
const DRIVERS: &[&str] = &["cargo", "cmake", "gmake", "go", "make", "meson", "ninja", "rustc", "samu"];
const COMPILERS: &[&str] = &["cc", "c++"];
/// More than any first line of a script that works everywhere.
const LINE: usize = 256;

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

/// What a script is started by: the word after `#!`, and with `env` the one after that.
fn interpreters(script: &Path) -> Vec<String> {
    let mut head = vec![0; LINE];
    // What is no file that we can read is no script; a pipe or terminal would keep us waiting.
    if !script.is_file() {
        return Vec::new();
    }
    let Ok(n) = File::open(script).and_then(|mut file| file.read(&mut head)) else { return Vec::new() };
    let Some(line) = head[..n].strip_prefix(b"#!").and_then(|rest| rest.split(|byte| *byte == b'\n').next()) else {
        return Vec::new();
    };
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else { return Vec::new() };
    let mut found = vec![first.to_owned()];
    if first.ends_with("/env") {
        let is_command = |word: &&str| !word.starts_with('-') && !word.contains('=');
        found.extend(words.find(is_command).map(str::to_owned));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_behind_env_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        for (text, expected) in [
            ("#!/bin/sh\nx", vec!["/bin/sh"]),
            ("#! /usr/bin/env python3\n", vec!["/usr/bin/env", "python3"]),
            ("#!/usr/bin/env -S A=1 perl -w", vec!["/usr/bin/env", "perl"]),
            ("#!", vec![]),
            ("\x7fELF", vec![]),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(interpreters(&path), expected, "{text}");
        }
        assert!(interpreters(&dir.path().join("none")).is_empty());
        assert!(interpreters(dir.path()).is_empty());
    }
}
