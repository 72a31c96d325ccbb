//! The contents of outputs and layers: what is at each path, in one order.

use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hasher};
use super::paths::is_inner;

/// The mode of a directory that needs no entry of its own (unless it is empty).
pub const PLAIN_DIR: u32 = 0o755;

/// Entries in the byte order of their paths, each path once, relative, without `.` and `..`.
/// A directory has an entry only where it is empty or its mode is not [`PLAIN_DIR`].
///
/// What is read from a file keeps to that too, or is no tree: paths decide where files are written and removed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Entries")]
pub struct Tree {
    entries: Vec<Entry>,
}

/// A tree as it is written.
#[derive(Deserialize)]
struct Entries {
    entries: Vec<Entry>,
}

/// What no walk has made.
#[derive(Debug, thiserror::Error)]
#[error("no tree: paths out of order, below a file, or leading out")]
struct NoTree;

impl TryFrom<Entries> for Tree {
    type Error = NoTree;

    fn try_from(Entries { entries }: Entries) -> Result<Self, NoTree> {
        let is_tree =
            in_order(entries.iter().map(|entry| (entry.path.as_path(), &entry.node))) && has_no_file_above(&entries);
        is_tree.then_some(Self { entries }).ok_or(NoTree)
    }
}

/// Inner paths in their order, each once, with nodes as a disk could have them.
pub fn in_order<'e>(mut entries: impl Iterator<Item = (&'e Path, &'e Node)>) -> bool {
    let mut last: Option<&Path> = None;
    entries.all(|(path, node)| {
        let is_next = last.is_none_or(|last| path_order(last, path).is_lt());
        last = Some(path);
        is_next && is_inner(path) && node.is_sound()
    })
}

/// Does nothing lie below a file or link? What begins with the text of a path follows it, so those that may be above the next entry
/// are a stack.
fn has_no_file_above(entries: &[Entry]) -> bool {
    let mut above: Vec<&[u8]> = Vec::new();
    entries.iter().all(|entry| {
        let path = entry.path.as_os_str().as_bytes();
        while above.last().is_some_and(|file| !path.starts_with(file)) {
            above.pop();
        }
        let is_free = above.iter().all(|file| path.get(file.len()) != Some(&b'/'));
        if !matches!(entry.node, Node::Dir { .. }) {
            above.push(path);
        }
        is_free
    })
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    #[serde(with = "super::paths::bytes")]
    pub path: PathBuf,
    pub node: Node,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Node {
    Dir {
        mode: u32,
    },
    File {
        mode: u32,
        size: u64,
        digest: Digest,
    },
    Symlink {
        #[serde(with = "super::paths::bytes")]
        target: PathBuf,
    },
}

/// How a path differs between two trees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Added,
    Removed,
    Modified,
}

pub fn path_order(a: &Path, b: &Path) -> Ordering {
    a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes())
}

impl Tree {
    /// Sorts the entries. Panics where a path comes twice: the walk that made them is wrong.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| path_order(&a.path, &b.path));
        for pair in entries.windows(2) {
            assert!(pair[0].path != pair[1].path, "BUG: {} comes twice in a tree", pair[0].path.display());
        }
        Self { entries }
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, path: &Path) -> Option<&Node> {
        let at = self.entries.binary_search_by(|e| path_order(&e.path, path)).ok()?;
        Some(&self.entries[at].node)
    }

    /// Is there an entry below this directory?
    pub fn holds_below(&self, dir: &Path) -> bool {
        let at = self.entries.partition_point(|e| path_order(&e.path, dir).is_le());
        // Names such as `a-b` come between `a` and what lies below it.
        let alike = |e: &&Entry| e.path.as_os_str().as_bytes().starts_with(dir.as_os_str().as_bytes());
        self.entries[at..].iter().take_while(alike).any(|e| e.path.starts_with(dir))
    }

    /// Files and links, not directories.
    pub fn file_count(&self) -> usize {
        self.entries.iter().filter(|e| !matches!(e.node, Node::Dir { .. })).count()
    }

    /// Bytes in files.
    pub fn size(&self) -> u64 {
        let sizes = self.entries.iter().map(|e| if let Node::File { size, .. } = e.node { size } else { 0 });
        sizes.fold(0, u64::saturating_add)
    }

    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("bcache tree 1");
        hasher.number(self.entries.len() as u64);
        for entry in &self.entries {
            hasher.bytes(entry.path.as_os_str().as_bytes());
            entry.node.feed(&mut hasher);
        }
        hasher.finish()
    }

    /// What is different in `newer`, in path order.
    pub fn changes<'a>(&'a self, newer: &'a Tree) -> Vec<(&'a Path, Change)> {
        let (mut old, mut new) = (self.entries.iter().peekable(), newer.entries.iter().peekable());
        let mut changes = Vec::new();
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => path_order(&a.path, &b.path),
            };
            match order {
                Ordering::Less => changes.extend(old.next().map(|e| (e.path.as_path(), Change::Removed))),
                Ordering::Greater => changes.extend(new.next().map(|e| (e.path.as_path(), Change::Added))),
                Ordering::Equal => {
                    let (a, b) = (old.next(), new.next());
                    if let (Some(a), Some(b)) = (a, b)
                        && a.node != b.node
                    {
                        changes.push((b.path.as_path(), Change::Modified));
                    }
                }
            }
        }
    }
}

impl Node {
    /// Mode bits that there are, a target that a link can have.
    fn is_sound(&self) -> bool {
        match self {
            Self::Dir { mode } | Self::File { mode, .. } => *mode <= 0o7777,
            Self::Symlink { target } => {
                let target = target.as_os_str().as_bytes();
                !target.is_empty() && !target.contains(&0)
            }
        }
    }

    pub fn feed(&self, hasher: &mut Hasher) {
        match self {
            Self::Dir { mode } => hasher.number(0).number(u64::from(*mode)),
            Self::File { mode, size, digest } => hasher.number(1).number(u64::from(*mode)).number(*size).digest(digest),
            Self::Symlink { target } => hasher.number(2).bytes(target.as_os_str().as_bytes()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Entry {
        Entry {
            path: path.into(),
            node: Node::File { mode: 0o644, size: text.len() as u64, digest: Digest::of(text.as_bytes()) },
        }
    }

    #[test]
    fn changes_are_named_by_path_and_kind() {
        let old = Tree::new(vec![file("b", "1"), file("a", "1"), file("c/d", "1")]);
        let new = Tree::new(vec![file("a", "1"), file("c/d", "2"), file("e", "1")]);
        let changes: Vec<_> = old.changes(&new).into_iter().map(|(p, c)| (p.to_str().unwrap(), c)).collect();
        assert_eq!(changes, [("b", Change::Removed), ("c/d", Change::Modified), ("e", Change::Added)]);
        assert!(old.changes(&old).is_empty());
    }

    #[test]
    fn a_directory_holds_what_lies_below_it_and_not_its_neighbours() {
        let tree = Tree::new(vec![file("a-b", "1"), file("a/x", "1"), file("c/d/e", "1")]);
        let holds = |dir: &str| tree.holds_below(Path::new(dir));
        assert!(holds("a") && holds("c") && holds("c/d"));
        assert!(!holds("a-b") && !holds("b") && !holds("c/d/e") && !holds("c/dd"));
    }

    #[test]
    fn the_digest_of_a_tree_is_pinned() {
        let tree = Tree::new(vec![
            file("lib/a.so", "x"),
            Entry { path: "lib/b.so".into(), node: Node::Symlink { target: "a.so".into() } },
            Entry { path: "empty".into(), node: Node::Dir { mode: 0o755 } },
        ]);
        assert_eq!(tree.digest().short(), "0c2894cce123");
    }
}
