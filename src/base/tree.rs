//! The contents of outputs and layers: what is at each path, in one order.
//!
//! A tree that is read from somewhere says where files will be written and removed. So [`Tree::try_from`] is the one
//! door through which it comes: what it lets in leads nowhere but below the directory that it belongs to, whoever made it.

use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hasher};
use super::paths::escaped;
use super::stat::Kind;

/// The mode of a directory that needs no entry of its own (unless it is empty).
pub const PLAIN_DIR: u32 = 0o755;

/// Entries in the byte order of their paths, each path once, relative, without `.` and `..`.
/// A directory has an entry only where it is empty or its mode is not [`PLAIN_DIR`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Tree {
    entries: Vec<Entry>,
}

/// Entries as they were read.
#[derive(Deserialize)]
struct Unchecked {
    entries: Vec<Entry>,
}

/// Why entries are no tree.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoTree {
    #[error("`{}` is no path below a directory", escaped(.0))]
    Path(PathBuf),
    #[error("`{}` comes twice, or not in order", escaped(.0))]
    Order(PathBuf),
    #[error("`{}` lies below what is no directory", escaped(.0))]
    Below(PathBuf),
    #[error("`{}` has mode {mode:o}", escaped(path))]
    Mode { path: PathBuf, mode: u32 },
    #[error("`{}` is a link to nothing", escaped(.0))]
    Link(PathBuf),
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

/// Is it relative, written in the one way that there is for it, and no way out of where it begins?
pub fn is_inner(path: &Path) -> bool {
    const LONGEST_NAME: usize = 255;
    let fits = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= LONGEST_NAME && !name.contains(&0);
    path.as_os_str().as_bytes().split(|byte| *byte == b'/').all(fits)
}

impl TryFrom<Unchecked> for Tree {
    type Error = NoTree;

    fn try_from(Unchecked { entries }: Unchecked) -> Result<Self, NoTree> {
        let tree = Self { entries };
        let mut last: Option<&Path> = None;
        for Entry { path, node } in &tree.entries {
            if !is_inner(path) {
                return Err(NoTree::Path(path.clone()));
            }
            if last.is_some_and(|last| path_order(last, path).is_ge()) {
                return Err(NoTree::Order(path.clone()));
            }
            // What its neighbour lies in is known.
            if last.and_then(Path::parent) != path.parent() && tree.is_below_other(path) {
                return Err(NoTree::Below(path.clone()));
            }
            node.check(path)?;
            last = Some(path);
        }
        Ok(tree)
    }
}

impl Tree {
    /// Is there a file or a link on the way to this path?
    fn is_below_other(&self, path: &Path) -> bool {
        path.ancestors().skip(1).any(|above| self.get(above).is_some_and(|node| !matches!(node, Node::Dir { .. })))
    }

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
        self.entries.iter().map(|e| if let Node::File { size, .. } = e.node { size } else { 0 }).sum()
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
    pub fn kind(&self) -> Kind {
        match self {
            Self::Dir { .. } => Kind::Dir,
            Self::File { .. } => Kind::File,
            Self::Symlink { .. } => Kind::Symlink,
        }
    }

    fn check(&self, path: &Path) -> Result<(), NoTree> {
        match self {
            Self::Dir { mode } | Self::File { mode, .. } if *mode > 0o7777 => {
                Err(NoTree::Mode { path: path.to_owned(), mode: *mode })
            }
            Self::Symlink { target } if target.as_os_str().is_empty() || target.as_os_str().as_bytes().contains(&0) => {
                Err(NoTree::Link(path.to_owned()))
            }
            Self::Dir { .. } | Self::File { .. } | Self::Symlink { .. } => Ok(()),
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

    fn opened(entries: Vec<Entry>) -> Result<Tree, NoTree> {
        Unchecked { entries }.try_into()
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_no_path_of_a_tree() {
        let long = "x".repeat(256);
        let bad = ["", ".", "..", "/", "/a", "a/", "a//b", "a/./b", "./a", "a/..", "a/../b", "../a", "a\0b", &long];
        for path in bad {
            assert_eq!(opened(vec![file(path, "1")]), Err(NoTree::Path(path.into())), "{path:?}");
        }
        for path in ["a", "a/b", "...", "..a", "a..", "a/...", "-", " ", "\n", &long[1..]] {
            assert!(opened(vec![file(path, "1")]).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn entries_come_in_order_each_once_and_below_directories_alone() {
        let link =
            |path: &str, target: &str| Entry { path: path.into(), node: Node::Symlink { target: target.into() } };
        let dir = |path: &str, mode: u32| Entry { path: path.into(), node: Node::Dir { mode } };
        assert_eq!(opened(vec![file("a", "1"), file("a", "1")]), Err(NoTree::Order("a".into())));
        assert_eq!(opened(vec![file("b", "1"), file("a", "1")]), Err(NoTree::Order("a".into())));
        for other in [file("a", "1"), link("a", "../..")] {
            assert_eq!(opened(vec![other.clone(), file("a/b", "1")]), Err(NoTree::Below("a/b".into())));
            // Others stand in between, by the order of bytes.
            let apart = vec![other.clone(), file("a-b", "1"), file("a-b/", "1")];
            assert!(opened(apart).is_err());
            let deep = vec![other, file("a-b", "1"), file("a/b/c/d", "1")];
            assert_eq!(opened(deep), Err(NoTree::Below("a/b/c/d".into())));
        }
        let below = opened(vec![file("a/b/c", "1"), file("a/b/c/d", "1"), file("a/b/d", "1")]);
        assert_eq!(below, Err(NoTree::Below("a/b/c/d".into())));
        assert!(opened(vec![dir("a", 0o2700), file("a-b", "1"), file("a/b", "1"), link("c", "/etc")]).is_ok());
        assert_eq!(opened(vec![dir("a", 0o40755)]), Err(NoTree::Mode { path: "a".into(), mode: 0o40755 }));
        assert_eq!(opened(vec![link("a", "")]), Err(NoTree::Link("a".into())));
        assert_eq!(opened(vec![link("a", "b\0c")]), Err(NoTree::Link("a".into())));
    }

    #[test]
    fn a_tree_is_checked_wherever_it_is_read() {
        let bytes = postcard::to_stdvec(&vec![file("a/../../b", "1")]).unwrap();
        assert!(postcard::from_bytes::<Tree>(&bytes).is_err());
        let bytes = postcard::to_stdvec(&Tree::new(vec![file("b", "1"), file("a", "1")])).unwrap();
        assert_eq!(postcard::from_bytes::<Tree>(&bytes).unwrap().file_count(), 2);
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
