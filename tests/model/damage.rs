//! What happens to outputs, prefix, state and store behind the program's back.

use std::fs::{self, File, FileTimes};
use std::path::PathBuf;

use crate::oracle::Doubt;
use crate::play::Play;
use crate::random::Random;
use crate::tree::Node;
use crate::world::PREFIX;

impl Play {
    /// Something is done to what a step has made.
    pub fn damage_output(&mut self, at: usize, random: &mut Random) -> Option<String> {
        if self.kind.views && random.chance(40) {
            return self.damage_prefix(at, random);
        }
        let tree = &self.trees[at];
        let sure: Vec<(String, Node)> = tree
            .records
            .iter()
            .filter(|(name, _)| !tree.doubts.contains_key(*name))
            .flat_map(|(_, record)| record.made.outputs.0.keys())
            .filter_map(|path| Some((path.clone(), tree.outputs.0.get(path)?.clone())))
            .collect();
        let (path, node) = random.one(&sure)?.clone();
        let said = match (node, random.below(8)) {
            (_, 0) => self.put_output(at, &path, None),
            (Node::File { bytes, mode }, 1 | 2) => self.corrupt_output(at, &path, bytes, mode),
            (Node::File { bytes, mode }, 3) if !self.is_fixed(at, &path) => {
                self.put_output(at, &path, Some(Node::File { bytes, mode: mode ^ 0o111 }))
            }
            (Node::File { .. }, 4) => {
                let real = self.rig.disk(&self.trees[at].name).at(&path);
                File::options()
                    .write(true)
                    .open(real)
                    .and_then(|f| f.set_modified(std::time::SystemTime::now()))
                    .unwrap();
                "touch"
            }
            (Node::Dir, 1..=4) => {
                let foreign = if random.chance(50) { Node::file("foreign") } else { Node::Link("foreign".to_owned()) };
                self.put_output(at, &format!("{path}/foreign"), Some(foreign))
            }
            (_, 5) => self.put_output(at, &path, Some(Node::file("foreign"))),
            (_, 6) => self.put_output(at, &path, Some(Node::Link("foreign".to_owned()))),
            (_, 7) => self.put_output(at, &path, Some(Node::Dir)),
            _ => return None,
        };
        Some(format!("{}: output {path}: {said}", self.trees[at].name))
    }

    fn is_fixed(&self, at: usize, path: &str) -> bool {
        let manifest = &self.trees[at].manifest;
        manifest
            .tasks
            .iter()
            .enumerate()
            .any(|(ix, task)| task.fixed && manifest.declared(ix).iter().any(|p| p == path))
    }

    fn put_output(&mut self, at: usize, path: &str, node: Option<Node>) -> &'static str {
        let disk = self.rig.disk(&self.trees[at].name);
        let outputs = &mut self.trees[at].outputs;
        if node != Some(Node::Dir) || outputs.0.get(path) != Some(&Node::Dir) {
            outputs.remove(path);
            disk.remove(path).expect("it goes");
        }
        match node {
            None => "deleted",
            Some(node) => {
                disk.put(path, &node).expect("it is written");
                outputs.put(path, node);
                "replaced"
            }
        }
    }

    /// Other bytes, the same size and modification time.
    fn corrupt_output(&mut self, at: usize, path: &str, mut bytes: Vec<u8>, mode: u32) -> &'static str {
        let real = self.rig.disk(&self.trees[at].name).at(path);
        let time = fs::metadata(&real).and_then(|there| there.modified()).expect("it is there");
        if let Some(first) = bytes.first_mut() {
            *first ^= 1;
        }
        fs::write(&real, &bytes).expect("it is written");
        File::options().write(true).open(&real).and_then(|f| f.set_times(FileTimes::new().set_modified(time))).unwrap();
        self.trees[at].outputs.put(path, Node::File { bytes, mode });
        "other bytes, old stamp"
    }

    fn damage_prefix(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let files: Vec<String> = self.trees[at].prefix.0.keys().cloned().collect();
        let path = random.one(&files)?.clone();
        let disk = self.rig.disk(&self.trees[at].name);
        let real = format!("{PREFIX}/{path}");
        if disk.scan(&real, &[]).0.is_empty() {
            return None;
        }
        let said = match (&self.trees[at].prefix.0[&path], random.below(3)) {
            (Node::File { .. }, 0) => {
                let node = Node::file("foreign");
                disk.put(&real, &node).expect("it is written");
                self.trees[at].prefix.put(&path, node);
                "written over"
            }
            (_, 1) => {
                disk.remove(&real).expect("it goes");
                self.trees[at].prefix.remove(&path);
                "deleted"
            }
            _ => {
                disk.put(&format!("{PREFIX}/share/foreign"), &Node::file("foreign")).expect("it is written");
                "beside it lies something foreign"
            }
        };
        Some(format!("{}: {real}: {said}", self.trees[at].name))
    }

    /// What the worktree remembers goes.
    pub fn damage_state(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let disk = self.rig.disk(&self.trees[at].name);
        let tree = &mut self.trees[at];
        let said = match random.below(10) {
            0 => {
                disk.remove(".bcache").expect("it goes");
                tree.records.clear();
                tree.doubts.clear();
                // What a killed build has laid there stays, and is right where checksums say so.
                tree.outputs = disk.scan("out", &[]);
                tree.has_strangers = true;
                "all state".to_owned()
            }
            1..5 => {
                let names: Vec<String> = tree.records.keys().cloned().collect();
                let name = random.one(&names)?.clone();
                let task = tree.manifest.tasks.iter().find(|task| task.name == name)?;
                let path = disk.at(&format!(".bcache/records/{}", task.id()));
                if random.chance(50) {
                    fs::remove_file(&path).ok()?;
                } else {
                    damage_file(&path, random)?;
                }
                let record = tree.records.remove(&name)?;
                tree.has_strangers |= record.made.layer.is_some();
                format!("the record of {name}")
            }
            other => {
                let part = ["proofs", "files", "versions", "git", "tools"][other - 5];
                disk.remove(&format!(".bcache/{part}")).expect("it goes");
                format!("`{part}` of the state")
            }
        };
        Some(format!("{}: {said} is lost", self.trees[at].name))
    }

    pub fn damage_store(&mut self, _at: usize, random: &mut Random) -> Option<String> {
        let store = self.rig.at("store/v1");
        if random.chance(15) {
            fs::remove_dir_all(&store).ok()?;
            self.common.store.clear();
            self.common.path_sets.clear();
            (self.common.lost, self.is_store_damaged) = (0, false);
            for doubt in self.trees.iter_mut().flat_map(|tree| tree.doubts.values_mut()) {
                doubt.older.extend(doubt.keys.iter().copied());
            }
            return Some("the store is lost".to_owned());
        }
        let part = ["results", "results", "results", "paths", "frames"][random.below(5)];
        let files = files_below(&store.join(part));
        let path = random.one(&files)?;
        // A frame or a list of names may be behind several results.
        self.common.lost += match part {
            "results" => 1,
            "paths" => self.common.path_sets.values().map(Vec::len).max().unwrap_or(0),
            _ => self.common.store.len(),
        };
        if random.chance(40) {
            // A result that names it is damaged.
            self.is_store_damaged |= part == "frames";
            fs::remove_file(path).ok()?;
            return Some(format!("a file of the store's {part} is lost"));
        }
        damage_file(path, random)?;
        self.is_store_damaged = true;
        Some(format!("a file of the store's {part} is damaged"))
    }
}

fn damage_file(path: &PathBuf, random: &mut Random) -> Option<()> {
    let mut bytes = fs::read(path).ok().filter(|bytes| !bytes.is_empty())?;
    if random.chance(50) {
        bytes.truncate(random.below(bytes.len()));
    } else {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
    fs::write(path, bytes).ok()
}

fn files_below(dir: &PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files_below(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}

impl Doubt {
    pub fn of(before: Option<u64>) -> Self {
        Self { keys: before.into_iter().collect(), older: before.into_iter().collect() }
    }
}
