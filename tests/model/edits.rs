//! What people do to a worktree: every kind of edit that the design names. Each is done to the disk and to what the
//! oracle knows of it, and says what it did.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use crate::play::Play;
use crate::random::Random;
use crate::step::{Out, POISON};
use crate::tree::{Node, is_at_or_below};
use crate::world::{Need, PASSED, TOOLS, TRIPLES};

/// What a file's stamp is after an edit.
#[derive(Clone, Copy, Debug)]
pub enum Stamp {
    Now,
    /// As before the edit.
    PutBack,
    LongAgo,
    InTheFuture,
}

impl Stamp {
    fn draw(random: &mut Random) -> Self {
        match random.below(6) {
            0 => Self::PutBack,
            1 => Self::LongAgo,
            2 => Self::InTheFuture,
            _ => Self::Now,
        }
    }
}

/// Few contents, all of one size: what was once there comes back.
fn content(random: &mut Random) -> Vec<u8> {
    format!("{} text", ["red", "tan", "sky"][random.below(3)]).into_bytes()
}

/// Is it a file that nobody declares?
fn is_found(path: &str) -> bool {
    path.starts_with("inc/") || path.starts_with("../")
}

impl Play {
    /// One edit. `None` where it found nothing to do.
    pub fn edit(&mut self, random: &mut Random) -> Option<String> {
        let at = usize::from(random.chance(25));
        if self.is_poisoned(at) && random.chance(60) {
            return self.heal(at, random);
        }
        match random.below(100) {
            0..40 => self.edit_source(at, random),
            40..47 => self.edit_includes(at, random),
            47..66 => self.edit_manifest(at, random),
            66..72 => self.edit_environment(random),
            72..78 => self.edit_tool(random),
            78..86 => self.undo(at, random),
            86..96 => self.damage_output(at, random),
            96..98 => self.damage_state(at, random),
            _ => self.damage_store(at, random),
        }
    }

    fn is_poisoned(&self, at: usize) -> bool {
        self.trees[at]
            .sources
            .0
            .values()
            .any(|node| matches!(node, Node::File { bytes, .. } if bytes.starts_with(POISON.as_bytes())))
            || self.missing(at).is_some()
    }

    /// A declared input that is not there.
    fn missing(&self, at: usize) -> Option<String> {
        let tree = &self.trees[at];
        let inputs = tree.manifest.present().flat_map(|ix| tree.manifest.tasks[ix].inputs.iter());
        let paths =
            inputs.filter_map(|word| if let crate::step::Word::See(path) = word { Some(path.clone()) } else { None });
        paths.into_iter().find(|path| !tree.sources.0.contains_key(path))
    }

    fn heal(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let bad = self.trees[at].sources.0.iter().find_map(|(path, node)| match node {
            Node::File { bytes, .. } if bytes.starts_with(POISON.as_bytes()) => Some(path.clone()),
            _ => None,
        });
        let path = bad.or_else(|| self.missing(at))?;
        self.put_source(at, &path, Node::file(content(random)), Stamp::Now);
        Some(format!("heal {path}"))
    }

    // ---- sources ----

    fn edit_source(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let files = self.source_files(at, |path, node| {
            !matches!(node, Node::Dir) && !["fork/.gitignore", "inc/sub", "../dep"].contains(&path)
        });
        let path = random.one(&files)?.clone();
        let node = self.trees[at].sources.0[&path].clone();
        let (dir, name) = path.rsplit_once('/')?;
        match random.below(100) {
            0..35 => self.rewrite(at, &path, random),
            35..43 => self.touch(at, &path),
            43..51 => self.flip_exec(at, &path, node),
            51..59 => self.add_file(at, dir, random),
            59..65 => self.rename(at, &path, &node, random),
            65..70 if name != "a b" && name != "link" && name != "one" => {
                self.remove_source(at, &path);
                Some("remove a file".to_owned())
            }
            70..80 => self.change_kind(at, &path, random),
            80..84 => self.relink(at, random),
            84..90 => self.edit_includes(at, random),
            90..92 => {
                self.put_source(at, &path, Node::file(POISON), Stamp::Now);
                Some("poison".to_owned())
            }
            92..94 if path.ends_with("a b") => {
                self.remove_source(at, &path);
                Some("remove a declared file".to_owned())
            }
            94..96 => self.swap_files(at, &files, random),
            _ => self.edit_fork(at, random),
        }
        .map(|text| format!("{}: {text} ({path})", self.trees[at].name))
    }

    fn source_files(&self, at: usize, wanted: impl Fn(&str, &Node) -> bool) -> Vec<String> {
        let sources = self.trees[at].sources.0.iter();
        sources.filter(|(path, node)| wanted(path, node)).map(|(path, _)| path.clone()).collect()
    }

    pub fn put_source(&mut self, at: usize, path: &str, node: Node, stamp: Stamp) {
        let disk = self.rig.disk(&self.trees[at].name);
        let tree = &mut self.trees[at];
        let real = disk.at(path);
        let before = fs::symlink_metadata(&real).and_then(|there| there.modified());
        disk.put(path, &node).expect("it is written");
        if !matches!(tree.sources.0.get(path), Some(Node::Dir)) || node != Node::Dir {
            tree.sources.remove(path);
        }
        tree.sources.put(path, node.clone());
        let time = match stamp {
            Stamp::Now => None,
            Stamp::PutBack => before.ok(),
            Stamp::LongAgo => Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)),
            Stamp::InTheFuture => Some(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)),
        };
        if let (Some(time), Node::File { .. }) = (time, &node) {
            let file = File::options().write(true).open(&real).expect("it is there");
            file.set_times(FileTimes::new().set_modified(time)).expect("a file takes a stamp");
        }
    }

    fn remove_source(&mut self, at: usize, path: &str) {
        self.rig.disk(&self.trees[at].name).remove(path).expect("it goes");
        self.trees[at].sources.remove(path);
    }

    fn rewrite(&mut self, at: usize, path: &str, random: &mut Random) -> Option<String> {
        let Some(Node::File { bytes, mode }) = self.trees[at].sources.0.get(path).cloned() else { return None };
        let mut new = content(random);
        if random.chance(10) {
            new.extend(b" and more");
        }
        if is_found(path) {
            // What it includes stays.
            let kept = bytes.split(|b| *b == b'\n').filter(|line| line.starts_with(b"include "));
            kept.for_each(|line| new.extend([b"\n", line].concat()));
        }
        let stamp = Stamp::draw(random);
        self.put_source(at, path, Node::File { bytes: new, mode }, stamp);
        Some(format!("rewrite, stamp {stamp:?}"))
    }

    fn touch(&mut self, at: usize, path: &str) -> Option<String> {
        let node = self.trees[at].sources.0[path].clone();
        let Node::File { .. } = node else { return None };
        let real = self.rig.disk(&self.trees[at].name).at(path);
        File::options().write(true).open(real).and_then(|file| file.set_modified(SystemTime::now())).expect("a stamp");
        Some("touch".to_owned())
    }

    fn flip_exec(&mut self, at: usize, path: &str, node: Node) -> Option<String> {
        let Node::File { bytes, mode } = node else { return None };
        let mode = if mode == 0o644 { 0o755 } else { 0o644 };
        self.put_source(at, path, Node::File { bytes, mode }, Stamp::Now);
        Some(format!("chmod {mode:o}"))
    }

    fn add_file(&mut self, at: usize, dir: &str, random: &mut Random) -> Option<String> {
        let name = ["new.t", "new.n", "zz.t", "deep/er.t", "x.o"][random.below(5)];
        let path = format!("{dir}/{name}");
        if is_found(&path) || self.is_under_a_file(at, &path) {
            return None;
        }
        self.put_source(at, &path, Node::file(content(random)), Stamp::Now);
        Some(format!("add {path}"))
    }

    /// Would something have to be a directory that is none?
    fn is_under_a_file(&self, at: usize, path: &str) -> bool {
        let sources = &self.trees[at].sources.0;
        sources.get(path) == Some(&Node::Dir)
            || sources.iter().any(|(other, node)| *node != Node::Dir && other != path && is_at_or_below(path, other))
    }

    fn rename(&mut self, at: usize, path: &str, node: &Node, random: &mut Random) -> Option<String> {
        let (dir, name) = path.rsplit_once('/')?;
        if ["a b", "link", "one"].contains(&name) || is_found(path) {
            return None;
        }
        let to = format!("{dir}/{}", ["moved.t", "moved.n", "new.t"][random.below(3)]);
        if self.trees[at].sources.0.contains_key(&to) {
            return None;
        }
        let disk = self.rig.disk(&self.trees[at].name);
        fs::rename(disk.at(path), disk.at(&to)).expect("it moves");
        self.trees[at].sources.remove(path);
        self.trees[at].sources.put(&to, node.clone());
        Some(format!("rename to {to}"))
    }

    /// A file becomes a directory or a link, or a link a file.
    fn change_kind(&mut self, at: usize, path: &str, random: &mut Random) -> Option<String> {
        if is_found(path) || path.starts_with("fork/") {
            return None;
        }
        match random.below(4) {
            0 => {
                self.remove_source(at, path);
                self.put_source(at, path, Node::Dir, Stamp::Now);
                if random.chance(60) {
                    self.put_source(at, &format!("{path}/inner.t"), Node::file(content(random)), Stamp::Now);
                }
                Some("make it a directory".to_owned())
            }
            1 => {
                self.put_source(at, path, Node::file(content(random)), Stamp::Now);
                Some("make it a file".to_owned())
            }
            _ => {
                let up = "../".repeat(path.matches('/').count());
                let targets = ["src/shared/one", "src/shared/two.t", "src/shared/sub", "src/shared/bus", "src/gone"];
                let target = format!("{up}{}", targets[random.below(targets.len())]);
                // A loop leads nowhere.
                if path.starts_with("src/shared") {
                    return None;
                }
                self.put_source(at, path, Node::Link(target.clone()), Stamp::Now);
                Some(format!("make it a link to {target}"))
            }
        }
    }

    fn relink(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let links = self.source_files(at, |path, node| {
            matches!(node, Node::Link(_))
                && !["fork/", "../"].iter().any(|top| path.starts_with(top))
                && path != "inc/sub"
        });
        let path = random.one(&links)?.clone();
        let up = "../".repeat(path.matches('/').count());
        let targets = ["src/shared/one", "src/shared/two.t", "src/shared/sub", "src/shared/bus", "src/gone"];
        let target = format!("{up}{}", targets[random.below(targets.len())]);
        self.put_source(at, &path, Node::Link(target.clone()), Stamp::Now);
        Some(format!("retarget {path} to {target}"))
    }

    /// Which files a step finds.
    fn edit_includes(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let tasks = &self.trees[at].manifest.tasks;
        let mut followed: Vec<String> = tasks.iter().filter_map(|task| task.follow.clone()).collect();
        if followed.is_empty() {
            return None;
        }
        followed.extend(["inc/x.h", "inc/y.h"].map(str::to_owned));
        let path = random.one(&followed)?.clone();
        let mut text = content(random);
        let ways = ["inc/way/z.h", "inc/way/../b/z.h", "inc/sub/../y.h", "../near/z.h", "../dep/z.h"];
        for name in ["inc/x.h", "inc/y.h", "inc/absent.h"].into_iter().chain(ways) {
            if random.chance(35) && name != path {
                text.extend(format!("\ninclude {name}").into_bytes());
            }
        }
        if random.chance(25) {
            return self.turn_way(at, random);
        }
        if random.chance(20) {
            let path = ["../near/z.h", "../dep-a/z.h"][random.below(2)];
            self.put_source(at, path, Node::file(content(random)), Stamp::draw(random));
            return Some(format!("{path} is another one"));
        }
        if random.chance(35) {
            let absent = "inc/absent.h";
            if self.trees[at].sources.0.contains_key(absent) {
                self.remove_source(at, absent);
                return Some(format!("{absent} goes"));
            }
            self.put_source(at, absent, Node::file(content(random)), Stamp::Now);
            return Some(format!("{absent} comes"));
        }
        self.put_source(at, &path, Node::file(text), Stamp::draw(random));
        Some(format!("other includes in {path}"))
    }

    /// Links on the way to such files, and a directory that `..` leaves.
    fn turn_way(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let link = |to: &str| Node::Link(to.to_owned());
        let (path, node) = match random.below(4) {
            3 => ("../dep", link(["dep-a", "dep-b", "dep-gone"][random.below(3)])),
            0 => ("inc/way", link(["sys/now", "sys/a", "sys/b", "sys/gone"][random.below(4)])),
            1 => ("inc/sys/now", link(["a", "b"][random.below(2)])),
            _ => ("inc/sub", [Node::Dir, link("sys/a"), link("sys/b")][random.below(3)].clone()),
        };
        let said = format!("{path} is {}", crate::tree::said(&node));
        self.put_source(at, path, node, Stamp::Now);
        Some(said)
    }

    /// Two files change places: each has the other's stamps.
    fn swap_files(&mut self, at: usize, files: &[String], random: &mut Random) -> Option<String> {
        let sources = &self.trees[at].sources.0;
        let plain: Vec<&String> = files.iter().filter(|path| matches!(sources[*path], Node::File { .. })).collect();
        let (one, other) = ((*random.one(&plain)?).clone(), (*random.one(&plain)?).clone());
        if one == other || is_found(&one) || is_found(&other) {
            return None;
        }
        let disk = self.rig.disk(&self.trees[at].name);
        let aside = disk.at("src/.swap");
        fs::rename(disk.at(&one), &aside).expect("it moves");
        fs::rename(disk.at(&other), disk.at(&one)).expect("it moves");
        fs::rename(aside, disk.at(&other)).expect("it moves");
        let (a, b) = (sources[&one].clone(), sources[&other].clone());
        self.trees[at].sources.put(&one, b);
        self.trees[at].sources.put(&other, a);
        Some(format!("swap {one} and {other}"))
    }

    /// All sources and the manifest as they were some builds ago.
    fn undo(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let (manifest, sources) = random.one(&self.history[at])?.clone();
        let old = self.trees[at].sources.clone();
        let gone: Vec<&String> = old.0.keys().filter(|path| !sources.0.contains_key(*path)).collect();
        gone.into_iter().for_each(|path| self.remove_source(at, path));
        for (path, node) in &sources.0 {
            if self.trees[at].sources.0.get(path) != Some(node) {
                self.put_source(at, path, node.clone(), Stamp::Now);
            }
        }
        // What was removed above with what had to make room comes back.
        for (path, node) in &sources.0 {
            if self.trees[at].sources.0.get(path) != Some(node) {
                self.put_source(at, path, node.clone(), Stamp::Now);
            }
        }
        self.trees[at].manifest = manifest;
        self.write_manifest(at);
        Some(format!("{}: as it was some builds ago", self.trees[at].name))
    }

    // ---- the manifest ----

    pub fn write_manifest(&mut self, at: usize) {
        let text = self.trees[at].manifest.text(&self.rig.path());
        self.rig.disk(&self.trees[at].name).put("tasks.toml", &Node::file(text)).expect("it is written");
    }

    fn edit_manifest(&mut self, at: usize, random: &mut Random) -> Option<String> {
        let ix = random.below(self.trees[at].manifest.tasks.len());
        let said = self.change_task(at, ix, random)?;
        self.write_manifest(at);
        Some(format!("{}: t{ix}: {said}", self.trees[at].name))
    }

    fn change_task(&mut self, at: usize, ix: usize, random: &mut Random) -> Option<String> {
        let manifest = &mut self.trees[at].manifest;
        let task = &mut manifest.tasks[ix];
        let fixed = task.fixed;
        let said = match random.below(17) {
            0 => {
                task.desc = format!("described {}", random.below(100));
                "another description"
            }
            1 => {
                let other = random.below(manifest.order.len());
                let this = random.below(manifest.order.len());
                manifest.order.swap(this, other);
                "another order of tables"
            }
            2 => {
                task.style = random.below(4);
                "written down otherwise"
            }
            3 => {
                task.say = ["hello", "good day", "ahoy"][random.below(3)].to_owned();
                "another word in its command"
            }
            4 if !fixed => {
                let name = format!("V{}", random.below(3));
                if random.chance(25) {
                    task.env.remove(&name);
                } else {
                    task.env.insert(name, format!("value {}", random.below(3)));
                }
                "another env"
            }
            5 if !fixed => {
                flip(&mut task.pass, PASSED[random.below(PASSED.len())]);
                "another env-pass"
            }
            6 if !fixed => {
                flip(&mut task.tools, TOOLS[random.below(TOOLS.len())]);
                "other tools"
            }
            7 if !fixed && random.chance(20) => {
                task.spells_out ^= task.follow.is_some();
                "whole names in its depfile, or not"
            }
            7 if !fixed => {
                task.brief ^= true;
                "another report"
            }
            8 if !fixed => {
                task.shell ^= true;
                "with or without a shell"
            }
            9 | 10 if !fixed && ix > 0 => return self.change_needs(at, ix, random),
            11 => return self.rename_output(at, ix, random),
            12 => {
                task.is_removed ^= true;
                if task.is_removed { "taken away" } else { "put back" }
            }
            14 | 15 if !fixed => {
                task.hides ^= true;
                "declares its last output, or not"
            }
            16 => {
                let target = &mut manifest.targets[random.below(2)];
                if random.chance(50) {
                    target.triple = TRIPLES[random.below(TRIPLES.len())];
                } else {
                    target.value = format!("value {}", random.below(3));
                }
                "another target"
            }
            13 if self.kind.views && random.chance(30) => {
                manifest.relocatable ^= true;
                "relocatable or not"
            }
            _ => return None,
        };
        Some(said.to_owned())
    }

    fn change_needs(&mut self, at: usize, ix: usize, random: &mut Random) -> Option<String> {
        let task = random.below(ix);
        let manifest = &mut self.trees[at].manifest;
        let needs = &mut manifest.tasks[ix].needs;
        if let Some(known) = needs.iter().position(|need| need.task == task) {
            if random.chance(50) || !needs[known].is_read {
                needs.remove(known);
                return Some(format!("needs t{task} no more"));
            }
            needs[known].is_declared ^= true;
            return Some(format!("declares its need of t{task}, or not"));
        }
        let is_read = random.chance(70);
        needs.push(Need { task, is_read, is_declared: !is_read || random.chance(40) });
        Some(format!("needs t{task}"))
    }

    fn rename_output(&mut self, at: usize, ix: usize, random: &mut Random) -> Option<String> {
        let outs = &mut self.trees[at].manifest.tasks[ix].outs;
        let which = random.below(outs.len());
        let number = random.below(3);
        let renamed = |end: &str| format!("out/t{ix}.{number}{end}");
        outs[which] = match &outs[which] {
            Out::File(_) => Out::File(renamed(".txt")),
            Out::Program(_) => Out::Program(renamed(".bin")),
            Out::Large(_) => Out::Large(renamed(".large")),
            Out::Link(_) => Out::Link(renamed(".link")),
            Out::Dir(_) => Out::Dir(renamed(".dir")),
            Out::Depfile(_) => Out::Depfile(renamed(".d")),
            Out::Install => return None,
        };
        Some(format!("another output: {:?}", outs[which]))
    }

    // ---- around ----

    fn edit_environment(&mut self, random: &mut Random) -> Option<String> {
        let name = ["MODEL_A", "MODEL_B", "MODEL_UNUSED", "CFLAGS"][random.below(4)];
        if random.chance(30) {
            self.common.env.remove(name);
            return Some(format!("{name} unset"));
        }
        let value = ["", "x", "y"][random.below(3)];
        self.common.env.insert(name.to_owned(), value.to_owned());
        Some(format!("{name}={value}"))
    }

    fn edit_tool(&mut self, random: &mut Random) -> Option<String> {
        let name = TOOLS[random.below(TOOLS.len())];
        if random.chance(30) && self.common.tools.contains_key(&(0, name.to_owned())) {
            self.common.tools.remove(&(0, name.to_owned()));
            fs::remove_file(self.rig.at("bin0").join(name)).expect("it goes");
            return Some(format!("{name} goes from the front of PATH"));
        }
        let dir = random.below(2);
        let says = ["version 1", "version 2"][random.below(2)];
        self.put_tool(dir, name, says);
        Some(format!("{name} in bin{dir} says {says}"))
    }

    /// As an upgrade does it: a new file.
    pub fn put_tool(&mut self, dir: usize, name: &str, says: &str) {
        let (new, at) = (self.rig.at("tmp/new-tool"), self.rig.at(&format!("bin{dir}")).join(name));
        fs::write(&new, format!("#!/bin/sh\necho {says}\n")).expect("it is written");
        fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it takes a mode");
        fs::rename(new, at).expect("it moves");
        self.common.tools.insert((dir, name.to_owned()), says.to_owned());
    }
}

fn flip(list: &mut Vec<String>, name: &str) {
    match list.iter().position(|known| known == name) {
        Some(known) => drop(list.remove(known)),
        None => list.push(name.to_owned()),
    }
}
