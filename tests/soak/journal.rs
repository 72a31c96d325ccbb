//! What the steps themselves say: a line when a run begins and one when it ends, in the order in which they came.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

#[derive(Default)]
pub struct Runs {
    pub begun: usize,
    pub ended: usize,
    pub keys: usize,
    /// What ran twice at the same time, as its key's text.
    pub twice: Vec<String>,
}

/// `begin PID KEY` and `end PID KEY`. A run without an end was killed, and nobody knows when.
pub fn read(path: &Path) -> Runs {
    judge(&fs::read_to_string(path).unwrap())
}

fn judge(text: &str) -> Runs {
    let lines: Vec<(&str, &str, &str)> = text
        .lines()
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_else(|| panic!("no line of a journal: {line}"));
            (word(), word(), word())
        })
        .collect();
    // A number comes again after a while: what has an end is a pair of lines, not a number.
    let mut end_of: Vec<Option<usize>> = vec![None; lines.len()];
    let mut open: HashMap<(&str, &str), usize> = HashMap::new();
    for (at, (what, process, key)) in lines.iter().enumerate() {
        match *what {
            "begin" => drop(open.insert((process, key), at)),
            "end" => end_of[open.remove(&(*process, *key)).expect("a run ends that has begun")] = Some(at),
            other => panic!("`{other}` in a journal"),
        }
    }
    let mut runs = Runs::default();
    let mut keys = HashSet::new();
    let mut running: HashMap<&str, usize> = HashMap::new();
    for (at, (what, _, key)) in lines.iter().enumerate() {
        if *what != "begin" {
            continue;
        }
        runs.begun += 1;
        keys.insert(*key);
        let Some(end) = end_of[at] else { continue };
        runs.ended += 1;
        if running.get(key).is_some_and(|other| *other > at) {
            runs.twice.push((*key).to_owned());
        }
        running.insert(key, end);
    }
    runs.keys = keys.len();
    runs
}
