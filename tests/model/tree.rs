//! A directory tree as data, and one walk for the data and for the disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Node {
    Dir,
    File { bytes: Vec<u8>, mode: u32 },
    Link(String),
}

impl Node {
    pub fn file(text: impl Into<Vec<u8>>) -> Self {
        Self::File { bytes: text.into(), mode: 0o644 }
    }
}

/// By relative path; each directory above an entry is an entry too.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tree(pub BTreeMap<String, Node>);

impl Tree {
    pub fn put(&mut self, path: &str, node: Node) {
        let mut above = path;
        while let Some((dir, _)) = above.rsplit_once('/') {
            self.0.entry(dir.to_owned()).or_insert(Node::Dir);
            above = dir;
        }
        self.0.insert(path.to_owned(), node);
    }

    /// With all below it.
    pub fn remove(&mut self, path: &str) {
        self.0.retain(|other, _| !is_at_or_below(other, path));
    }

    pub fn below<'t>(&'t self, path: &'t str) -> impl Iterator<Item = (&'t String, &'t Node)> {
        self.0.iter().filter(move |(other, _)| is_at_or_below(other, path))
    }

    pub fn add(&mut self, other: &Tree) {
        other.0.iter().for_each(|(path, node)| self.put(path, node.clone()));
    }
}

pub fn is_at_or_below(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What can be asked of a tree, wherever it is.
pub trait Look {
    /// Without following a link at the end.
    fn node(&self, path: &str) -> Option<Node>;
    /// Names in a directory, sorted.
    fn list(&self, path: &str) -> Vec<String>;
}

impl Look for Tree {
    fn node(&self, path: &str) -> Option<Node> {
        if path.is_empty() { Some(Node::Dir) } else { self.0.get(path).cloned() }
    }

    fn list(&self, path: &str) -> Vec<String> {
        let start = if path.is_empty() { String::new() } else { format!("{path}/") };
        let inner = self.0.range(start.clone()..).take_while(|(other, _)| other.starts_with(&start));
        inner.map(|(other, _)| &other[start.len()..]).filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }
}

/// The disk below a directory.
pub struct Disk(pub PathBuf);

impl Disk {
    pub fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.0.clone() } else { self.0.join(path) }
    }

    /// Writes the node over what is there.
    pub fn put(&self, path: &str, node: &Node) -> io::Result<()> {
        let at = self.at(path);
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent)?;
        }
        let there = fs::symlink_metadata(&at).ok();
        let is_same_kind = matches!((&there, node), (Some(there), Node::File { .. }) if there.is_file())
            || matches!((&there, node), (Some(there), Node::Dir) if there.is_dir());
        if there.is_some() && !is_same_kind {
            self.remove(path)?;
        }
        match node {
            Node::Dir => fs::create_dir_all(&at),
            Node::Link(text) => symlink(text, &at),
            Node::File { bytes, mode } => {
                fs::write(&at, bytes)?;
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode))
            }
        }
    }

    pub fn remove(&self, path: &str) -> io::Result<()> {
        let at = self.at(path);
        match fs::symlink_metadata(&at) {
            Ok(there) if there.is_dir() => fs::remove_dir_all(&at),
            Ok(_) => fs::remove_file(&at),
            Err(_) => Ok(()),
        }
    }

    /// All below a path, but for these names.
    pub fn scan(&self, path: &str, without: &[&str]) -> Tree {
        let mut tree = Tree::default();
        let mut open = vec![path.to_owned()];
        while let Some(at) = open.pop() {
            match self.node(&at) {
                None => continue,
                Some(Node::Dir) => {
                    for name in self.list(&at).into_iter().filter(|name| !without.contains(&name.as_str())) {
                        open.push(join(&at, &name));
                    }
                    if !at.is_empty() {
                        tree.put(&at, Node::Dir);
                    }
                }
                Some(node) => tree.put(&at, node),
            }
        }
        tree
    }
}

impl Look for Disk {
    fn node(&self, path: &str) -> Option<Node> {
        let at = self.at(path);
        let there = fs::symlink_metadata(&at).ok()?;
        if there.is_dir() {
            Some(Node::Dir)
        } else if there.is_symlink() {
            Some(Node::Link(fs::read_link(&at).ok()?.to_str()?.to_owned()))
        } else {
            Some(Node::File { bytes: fs::read(&at).ok()?, mode: there.permissions().mode() & 0o7777 })
        }
    }

    fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().expect("names here are UTF-8")).collect();
        names.sort();
        names
    }
}

pub fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// What the path is behind all links: its real name, and what lies there. `None` where it leads to nothing.
pub fn behind(look: &dyn Look, path: &str) -> Option<(String, Node)> {
    let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut real: Vec<String> = Vec::new();
    let mut node = Node::Dir;
    let mut hops = 0;
    while let Some(name) = left.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                // Beside the workspace.
                if real.last().is_none_or(|last| last == "..") {
                    real.push(name);
                } else {
                    real.pop();
                }
                node = Node::Dir;
                continue;
            }
            _ => {}
        }
        real.push(name);
        node = look.node(&real.join("/"))?;
        if let Node::Link(text) = &node {
            hops += 1;
            if hops > 20 {
                return None;
            }
            real.pop();
            left.extend(text.split('/').rev().map(str::to_owned));
            node = Node::Dir;
        } else if node != Node::Dir && !left.is_empty() {
            return None;
        }
    }
    Some((real.join("/"), node))
}

/// What a step notices of each path that it looks at.
pub type Noticed = BTreeMap<String, String>;

/// What is at a path, and all below and behind it. `false` where nothing is.
pub fn see(look: &dyn Look, path: &str, noticed: &mut Noticed) -> bool {
    see_inside(look, path, &mut Vec::new(), noticed)
}

fn see_inside(look: &dyn Look, path: &str, above: &mut Vec<String>, noticed: &mut Noticed) -> bool {
    match look.node(path) {
        None => return false,
        Some(Node::Dir) => see_all(look, path, above, noticed),
        Some(file @ Node::File { .. }) => drop(noticed.insert(path.to_owned(), said(&file))),
        Some(link @ Node::Link(_)) => {
            noticed.insert(path.to_owned(), said(&link));
            match behind(look, path) {
                Some((_, Node::Dir)) => see_all(look, path, above, noticed),
                Some((real, file)) => drop(noticed.insert(real, said(&file))),
                None => {}
            }
        }
    }
    true
}

fn see_all(look: &dyn Look, dir: &str, above: &mut Vec<String>, noticed: &mut Noticed) {
    let Some((real, _)) = behind(look, dir) else { return };
    if above.contains(&real) {
        return;
    }
    let names = look.list(&real);
    if names.is_empty() {
        noticed.insert(dir.to_owned(), "an empty directory".to_owned());
    }
    above.push(real.clone());
    for name in names {
        // Through the link that leads here, if one does.
        let path = join(dir, &name);
        match look.node(&join(&real, &name)) {
            Some(Node::Dir) => see_all(look, &path, above, noticed),
            Some(file @ Node::File { .. }) => drop(noticed.insert(path, said(&file))),
            Some(link @ Node::Link(_)) => {
                noticed.insert(path.clone(), said(&link));
                match behind(look, &path) {
                    Some((_, Node::Dir)) => see_all(look, &path, above, noticed),
                    Some((real, file)) => drop(noticed.insert(real, said(&file))),
                    None => {}
                }
            }
            None => {}
        }
    }
    above.pop();
}

/// What `DIR/*SUFFIX` matches, or `DIR/**/*SUFFIX`. Directories that match, whole.
pub fn glob(look: &dyn Look, dir: &str, suffix: &str, deep: bool, noticed: &mut Noticed) {
    glob_inside(look, dir, suffix, deep, &mut Vec::new(), noticed);
}

/// Says whether anything matched. A link on the way to that counts by its text.
fn glob_inside(
    look: &dyn Look,
    dir: &str,
    suffix: &str,
    deep: bool,
    above: &mut Vec<String>,
    noticed: &mut Noticed,
) -> bool {
    let Some((real, Node::Dir)) = behind(look, dir) else { return false };
    if above.contains(&real) {
        return false;
    }
    let mut any = false;
    above.push(real.clone());
    for name in look.list(&real) {
        let path = join(dir, &name);
        if name.ends_with(suffix) {
            see_inside_link(look, &path, &join(&real, &name), above, noticed);
            any = true;
        }
        if deep && matches!(behind(look, &path), Some((_, Node::Dir))) {
            let any_below = glob_inside(look, &path, suffix, deep, above, noticed);
            if let (true, Some(link @ Node::Link(_))) = (any_below, look.node(&join(&real, &name))) {
                noticed.insert(path, said(&link));
            }
            any |= any_below;
        }
    }
    above.pop();
    any
}

fn see_inside_link(look: &dyn Look, path: &str, real: &str, above: &mut Vec<String>, noticed: &mut Noticed) {
    match look.node(real) {
        Some(Node::Dir) | None => see_all(look, path, above, noticed),
        Some(node) => {
            noticed.insert(path.to_owned(), said(&node));
            if let (Node::Link(_), Some(found)) = (&node, behind(look, path)) {
                match found {
                    (_, Node::Dir) => see_all(look, path, above, noticed),
                    (real, file) => drop(noticed.insert(real, said(&file))),
                }
            }
        }
    }
}

/// Kind, executable bit, content.
pub fn said(node: &Node) -> String {
    match node {
        Node::Dir => "a directory".to_owned(),
        Node::Link(text) => format!("a link to {text}"),
        Node::File { bytes, mode } => {
            let kind = if mode & 0o111 == 0 { "file" } else { "program" };
            format!("{kind} {}", bytes.escape_ascii())
        }
    }
}

/// The first path at which two trees differ, with what is there and what should be.
pub fn difference(is: &Tree, should: &Tree) -> Option<String> {
    let paths: std::collections::BTreeSet<&String> = is.0.keys().chain(should.0.keys()).collect();
    let path = paths.into_iter().find(|path| is.0.get(*path) != should.0.get(*path))?;
    let shown = |node: Option<&Node>| match node {
        None => "nothing".to_owned(),
        Some(Node::File { bytes, mode }) => {
            let text = bytes.escape_ascii().to_string();
            format!("{mode:o} {}", text.chars().take(1500).collect::<String>())
        }
        Some(other) => said(other),
    };
    Some(format!("`{path}` is\n    {}\n  and should be\n    {}", shown(is.0.get(path)), shown(should.0.get(path))))
}
