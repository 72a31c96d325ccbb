//! The identity of a part of a git working copy: the tree of the raw bytes that lie in it.
//!
//! For a repository whose files git keeps as they are, it is the id that `git add -A && git write-tree` would give:
//! so committing what is on disk changes nothing, nor does switching to another branch and back. Where attributes or
//! `core.autocrlf` let git keep a file in another form, the raw bytes count all the same, since compilers read
//! those. What git ignores is no part of it, unless it is tracked.
//!
//! | case | what counts |
//! |---|---|
//! | staged or not, mid-merge, intent to add, assume unchanged, sparse checkout | what is in the working copy |
//! | mode | the executable bit of the owner on disk, whatever `core.fileMode` says; a link is a link whatever `core.symlinks` says |
//! | submodule, and a repository inside that is none | its commit, as long as its working copy is that commit; else an id of what lies there |
//! | submodule that was not fetched | its commit |
//! | devices, pipes, sockets | nothing, as in git |
//! | `head` | the commit, names and ids of all tags, wherever they are kept, and what is staged: what `git describe --dirty` goes by |
//! | rules | `.gitignore` files, `info/exclude`, `core.excludesFile`; the files that they were read from are facts |
//! | the user's other settings, hooks, the environment (`GIT_DIR`) | nothing |
//!
//! [`repository`] is the one door to libgit2: it opens, and knows the settings and commits. The index is read by
//! [`index`], or by the git program ([`program`]) where it is split or sparse. [`ground`] is what holds in a
//! repository, [`rules`] what its patterns mean, [`scope`] which part is asked for.
//!
//! **How it is fast.** What was seen is kept ([`snapshot`]) in one file per scope in `.bcache/git/`: every file and
//! directory with its stat record. The next look is one `lstat` each ([`look`]), on two threads where there are many;
//! git's own files are opened only when something moved. A file that moved is hashed; a directory that moved is
//! listed; where its names are others, its part is made anew ([`walk`]), and trees of all that did not move are taken
//! over. The first look reads every file.
//!
//! **What is believed.** A record of ours, by the rule of [`crate::base::stat`]. The index says which paths are tracked, and never
//! what is in a file: its id may be of another form of it, by attributes that are no more.
//!
//! **Known limits.** Repositories with SHA-256 names are an error.

#[cfg(any(test, fuzzing))]
pub mod any_bytes;
mod changes;
mod ground;
pub mod identity;
mod index;
mod look;
mod memory;
pub mod object;
mod program;
pub mod repository;
mod rules;
pub mod scope;
mod snapshot;
mod walk;

pub use identity::Identity;
pub use memory::{Fact, Git, still_holds};
pub use program::is_damaged;
pub use repository::{GitError, export, has_commit, tracked_among, tracked_below};
pub use scope::Scope;

use std::path::{Path, PathBuf};

use crate::action::{Component, Kind};
use crate::base::paths::escaped;

/// What a key holds of a scope. The name says which part is meant: the same files by another choice are another input.
pub fn component(scope: &Scope, identity: &Identity) -> Component {
    let relative = |path: &crate::graph::InputPattern| {
        let inner = path.pattern.path.strip_prefix(&scope.dir).unwrap_or(&path.pattern.path);
        format!("{}{}", if path.exclude { "!" } else { "" }, escaped(inner))
    };
    let paths: Vec<String> = scope.paths.iter().map(relative).collect();
    let of = if paths.is_empty() { String::new() } else { format!(": {}", paths.join(" ")) };
    Component {
        kind: Kind::Input,
        name: format!("{} (git{of})", scope.shown),
        digest: identity.digest(),
        shown: identity.head.map_or_else(String::new, |head| {
            let around =
                identity.around.map_or_else(String::new, |id| format!(", tags and index {}", &id.to_string()[..6]));
            format!("commit {head}{around}")
        }),
    }
}

/// The root of the working copy that a directory lies in. `None` where it lies in none.
pub fn working_copy(dir: &Path) -> Result<Option<PathBuf>, GitError> {
    Ok(repository::WorkingCopy::around(dir)?.map(|copy| copy.root))
}
