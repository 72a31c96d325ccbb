//! Who owns a path of a prefix that several layers go into: a pure question.
//!
//! A non-directory owns its path and all below it. The same bytes and mode by two layers are one file;
//! anything else at one path is a conflict, and so are two modes of one directory, where a directory
//! that a layer has files in, without an entry of its own, has the plain mode. Shared files are owned
//! by nobody. Nothing here depends on the order of the layers, not even which conflict is named.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::base::ids::StepId;
use crate::base::paths::escaped;
use crate::base::tree::{Node, PLAIN_DIR, Tree};

/// Two steps that installed different things at one path.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{first}` and `{second}` both installed `{}`: {}", escaped(.path), .clash.text())]
pub struct Conflict {
    pub path: PathBuf,
    pub first: StepId,
    pub second: StepId,
    pub clash: Clash,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clash {
    /// Files or links that differ in content or mode.
    Content,
    /// A directory of one is no directory of the other.
    Kind,
    DirMode,
}

impl Clash {
    fn text(self) -> &'static str {
        match self {
            Self::Content => "they differ",
            Self::Kind => "for one it is a directory, for the other it is none",
            Self::DirMode => "the mode of the directory differs",
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Claim<'a> {
    Dir(u32),
    Other(&'a Node),
}

/// What a step has, or would have, in a prefix: entries in tree order.
pub struct Layer<'a> {
    pub step: &'a StepId,
    pub entries: Vec<(&'a Path, &'a Node)>,
}

impl<'a> Layer<'a> {
    pub fn of(step: &'a StepId, tree: &'a Tree) -> Self {
        Self { step, entries: tree.entries().iter().map(|entry| (entry.path.as_path(), &entry.node)).collect() }
    }
}

/// Can these layers lie in one prefix?
pub fn check_owners<'a>(layers: impl Iterator<Item = Layer<'a>>, shared: &[PathBuf]) -> Result<(), Conflict> {
    let mut claims: BTreeMap<&Path, Vec<(&StepId, Claim)>> = BTreeMap::new();
    for layer in layers {
        for (path, claim) in claims_of(&layer.entries) {
            claims.entry(path).or_default().push((layer.step, claim));
        }
    }
    for (path, mut claims) in claims {
        claims.sort_by_key(|(step, _)| *step);
        let is_shared = shared.iter().any(|s| s == path);
        for (i, (first, a)) in claims.iter().enumerate() {
            for (second, b) in &claims[i + 1..] {
                if let Some(clash) = clash(*a, *b, is_shared) {
                    let (first, second) = ((*first).clone(), (*second).clone());
                    return Err(Conflict { path: path.to_owned(), first, second, clash });
                }
            }
        }
    }
    Ok(())
}

fn clash(a: Claim, b: Claim, is_shared: bool) -> Option<Clash> {
    match (a, b) {
        (Claim::Dir(a), Claim::Dir(b)) => (a != b).then_some(Clash::DirMode),
        (Claim::Other(a), Claim::Other(b)) => (a != b && !is_shared).then_some(Clash::Content),
        (Claim::Dir(_), Claim::Other(_)) | (Claim::Other(_), Claim::Dir(_)) => Some(Clash::Kind),
    }
}

/// The entries and the directories that they lie in.
fn claims_of<'a>(entries: &[(&'a Path, &'a Node)]) -> Vec<(&'a Path, Claim<'a>)> {
    let mut claims = Vec::new();
    let mut dirs: HashSet<&Path> = HashSet::new();
    for (path, node) in entries.iter().copied() {
        match node {
            Node::Dir { mode } => {
                // It may be known already only as a directory with the plain mode by its absence: tree
                // order puts a directory before what lies in it.
                dirs.insert(path);
                claims.push((path, Claim::Dir(*mode)));
            }
            node => claims.push((path, Claim::Other(node))),
        }
        for above in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
            if !dirs.insert(above) {
                break;
            }
            claims.push((above, Claim::Dir(PLAIN_DIR)));
        }
    }
    claims
}
