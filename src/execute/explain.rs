//! Reasons in words: what a digest can't say is looked up, such as which files of a need differ.

use crate::action::{Component, Kind, Made, StepRecord};
use crate::base::digest::Digest;
use crate::base::paths::escaped;
use crate::base::publish::publish;
use crate::base::sealed::Format;
use crate::event::Why;
use crate::fingerprint::git::{self, Git};
use crate::fingerprint::host::{Host, Identity, Item};
use crate::graph::Graph;
use crate::plan::Reason;
use crate::store::State;

use super::judging::Results;

pub(super) const FORMAT: Format = Format { magic: b"bc-made\n", version: 2 };
pub(super) const HOST: Format = Format { magic: b"bchosts\n", version: 1 };
/// Names of files that are listed.
const NAMED: usize = 3;
/// Packages that are listed: one source makes several.
const PACKAGES: usize = 6;
/// Files of a git input that are listed.
const FILES: usize = 6;

pub struct Explainer<'a> {
    pub graph: &'a Graph,
    pub results: &'a Results,
    pub state: &'a State,
    pub host: &'a Host<'a>,
    pub git: &'a Git<'a>,
}

/// Keeps what a step made under its digest, so that a later change of it can be told file by file.
pub fn remember(state: &State, made: &Made) -> std::io::Result<()> {
    let path = place(state, &made.digest());
    if path.exists() { Ok(()) } else { publish(&path, &FORMAT.seal(made)) }
}

fn place(state: &State, digest: &Digest) -> std::path::PathBuf {
    state.dir().join("made").join(digest.to_string())
}

/// Keeps the packages of a host identity under its digest, so that `why` can tell which changed.
pub fn remember_host(state: &State, identity: &Identity) -> std::io::Result<()> {
    let path = place_of_host(state, &identity.digest);
    if path.exists() { Ok(()) } else { publish(&path, &HOST.seal(&identity.list)) }
}

fn place_of_host(state: &State, digest: &Digest) -> std::path::PathBuf {
    state.dir().join("hosts").join(digest.to_string())
}

/// Keeps the files of a git input under its digest, so that a later change of it can be told file by file.
pub fn remember_git(state: &State, identity: &git::Identity) -> std::io::Result<()> {
    let path = place_of_tree(state, &identity.digest());
    if path.exists() { Ok(()) } else { publish(&path, &identity.listing()) }
}

fn place_of_tree(state: &State, digest: &Digest) -> std::path::PathBuf {
    state.dir().join("trees").join(digest.to_string())
}

/// Forgets what no record refers to any more.
pub fn forget_unused(state: &State, records: &[StepRecord]) {
    let used: std::collections::HashSet<String> = records
        .iter()
        .flat_map(|r| &r.action.components)
        .filter(|c| matches!(c.kind, Kind::Need | Kind::Layer | Kind::Host | Kind::Input))
        .map(|c| c.digest.to_string())
        .collect();
    let entries =
        ["made", "hosts", "trees"].into_iter().filter_map(|dir| std::fs::read_dir(state.dir().join(dir)).ok());
    for entry in entries.flatten().flatten().filter(|e| e.file_name().to_str().is_none_or(|n| !used.contains(n))) {
        // It is a memory aid: one too many does no harm.
        let _ = std::fs::remove_file(entry.path());
    }
}

impl Explainer<'_> {
    pub fn explain(&self, reasons: &[Reason], _old: Option<&StepRecord>) -> Vec<Why> {
        reasons
            .iter()
            .map(|reason| Why { code: reason.code(), text: reason.sentence(self.detail(reason).as_deref()) })
            .collect()
    }

    /// Which files of a need or layer are different.
    fn detail(&self, reason: &Reason) -> Option<String> {
        let Reason::Changed { old, new } = reason else { return None };
        if new.kind == Kind::Host {
            return self.packages(old, new);
        }
        if new.kind == Kind::Input {
            return self.files(old, new);
        }
        if !matches!(new.kind, Kind::Need | Kind::Layer) {
            return None;
        }
        let before = self.recall(old)?;
        let after = self.current(new)?;
        let outputs = before.outputs.changes(&after.outputs).into_iter().map(|(path, _)| escaped(path));
        let (old_layer, new_layer) =
            (before.layer.clone().unwrap_or_default(), after.layer.clone().unwrap_or_default());
        let installed = old_layer.changes(&new_layer).into_iter().map(|(path, _)| escaped(path));
        let names: Vec<String> = outputs.chain(installed).collect();
        first_of(&names, NAMED)
    }

    /// Which files of a git input are different.
    fn files(&self, old: &Component, new: &Component) -> Option<String> {
        let listing = std::fs::read(place_of_tree(self.state, &old.digest)).ok()?;
        first_of(&self.git.find(&new.digest)?.changes(&listing)?, FILES)
    }

    /// Which packages of the host are different.
    fn packages(&self, old: &Component, new: &Component) -> Option<String> {
        let bytes = std::fs::read(place_of_host(self.state, &old.digest)).ok()?;
        let before: Vec<Item> = HOST.open(&bytes).ok()?;
        let changes = package_changes(&before, &self.host.list(&new.digest)?);
        first_of(&changes, PACKAGES)
    }

    fn recall(&self, component: &Component) -> Option<Made> {
        let bytes = std::fs::read(place(self.state, &component.digest)).ok()?;
        FORMAT.open(&bytes).ok()
    }

    fn current(&self, component: &Component) -> Option<Made> {
        let ix = self.graph.indices().find(|ix| self.graph.step(*ix).id.to_string() == component.name)?;
        self.results.get(ix).map(|made| Made::clone(&made))
    }
}

/// The first few, and how many more there are. `None` of nothing.
fn first_of(all: &[String], few: usize) -> Option<String> {
    let mut text = all.iter().take(few).cloned().collect::<Vec<_>>().join(", ");
    let more = all.len().saturating_sub(few);
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    (!all.is_empty()).then_some(text)
}

/// `libc6-dev 2.36-9 -> 2.36-10`, `libmount-dev 2.38.1-5 (new)`: what changed, what came, what went.
fn package_changes(before: &[Item], after: &[Item]) -> Vec<String> {
    let twice = |list: &[Item], item: &Item| list.iter().filter(|i| i.name == item.name).count() > 1;
    let name = |item: &Item| match twice(before, item) || twice(after, item) {
        true => format!("{}:{}", item.name, item.arch),
        false => item.name.clone(),
    };
    // What is not installed has no architecture.
    let same = |a: &Item, b: &Item| a.name == b.name && (a.arch == b.arch || a.arch.is_empty() || b.arch.is_empty());
    let mut changes = Vec::new();
    for new in after {
        if let Some(old) = before.iter().find(|old| same(old, new)).filter(|old| old.version != new.version) {
            changes.push(format!("{} {} -> {}", name(new), old.version, new.version));
        }
    }
    let alone = |list: &[Item], item: &Item| !list.iter().any(|other| same(other, item));
    changes.extend(after.iter().filter(|i| alone(before, i)).map(|i| format!("{} {} (new)", name(i), i.version)));
    changes.extend(before.iter().filter(|i| alone(after, i)).map(|i| format!("{} {} (gone)", name(i), i.version)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_changed_came_and_went_are_named_with_their_versions() {
        let item = |name: &str, arch: &str, version: &str| Item {
            name: name.into(),
            arch: arch.into(),
            version: version.into(),
        };
        let before = [item("gcc-12", "amd64", "12.2-1"), item("libc6-dev", "amd64", "2.36-9"), item("old", "all", "1")];
        let after = [
            item("gcc-12", "amd64", "12.2-1"),
            item("libc6-dev", "amd64", "2.36-10"),
            item("libmount-dev", "amd64", "2.38.1-5"),
        ];
        let expected = ["libc6-dev 2.36-9 -> 2.36-10", "libmount-dev 2.38.1-5 (new)", "old 1 (gone)"];
        assert_eq!(package_changes(&before, &after), expected);
        let both = [item("zlib", "amd64", "1"), item("zlib", "i386", "2")];
        assert_eq!(package_changes(&both[..1], &both), ["zlib:i386 2 (new)"]);
    }
}
