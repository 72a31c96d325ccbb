//! The first line of a script: what starts it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More than any first line of a script that works everywhere.
const LINE: usize = 256;

/// The word after `#!`, and with `env` the command that it looks for. Nothing where it is no script.
pub fn interpreters(script: &Path) -> Vec<String> {
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
