//! A commit as the source of a step: fetched once into a bare repository of the store, and written out from there.
//!
//! A repository that a crash or a disk has damaged would fail every build from then on, so it is begun anew: when
//! libgit2 can't read it, when what it holds can't be written out, and when git can't fetch into it and finds it damaged.
//! It holds packs alone. One with loose objects is of an older version, or somebody else was at it, and is begun anew, too:
//! in a loose object that is cut off libgit2 (1.9) reads for ever.

use std::fs;
use std::path::Path;

use super::build::{Build, StepError};
use super::fetch::{commit_commands, let_git_know};
use super::runner::Ending;
use super::unpack::{self, UnpackError};
use crate::base::digest::Digest;
use crate::base::url::{Address, Credentials};
use crate::fingerprint::git;
use crate::graph::Step;
use crate::store::remove_tree;

impl Build<'_> {
    pub(super) fn unpack_commit(
        &self,
        step: &Step,
        address: &Address,
        rev: &str,
        dest: &Path,
    ) -> Result<(), StepError> {
        let name = Digest::of(address.plain.as_bytes()).short();
        let repository = self.store.root().join("git").join(name);
        if has_loose_objects(&repository) {
            remove_tree(&repository).map_err(StepError::write(&repository))?;
        }
        match self.commit_out_of(step, address, rev, &repository, dest) {
            Err(error) if is_damaged(&error, &repository) => {
                for path in [&*repository, dest] {
                    remove_tree(path).map_err(StepError::write(path))?;
                }
                self.commit_out_of(step, address, rev, &repository, dest)
            }
            other => other,
        }
    }

    fn commit_out_of(
        &self,
        step: &Step,
        address: &Address,
        rev: &str,
        repository: &Path,
        dest: &Path,
    ) -> Result<(), StepError> {
        self.fetch_commit(step, address, rev, repository)?;
        Ok(unpack::commit(&address.plain, rev, repository, dest)?)
    }

    /// With the person's own environment: keys, proxies and credential helpers are theirs.
    fn fetch_commit(&self, step: &Step, address: &Address, rev: &str, repository: &Path) -> Result<(), StepError> {
        let url = &address.plain;
        if git::has_commit(url, rev, repository).map_err(UnpackError::from)? {
            return Ok(());
        }
        let mut env = self.bench.outside.all().clone();
        let credentials = address.credentials.as_ref();
        credentials.into_iter().for_each(|who| let_git_know(who, &mut env));
        let env: Vec<_> = env.into_iter().collect();
        let secrets = credentials.map(Credentials::secrets).unwrap_or_default();
        let [one, all] = commit_commands(url, rev, repository);
        if self.aside_command(step, one, &self.graph.root, &env, &secrets)?.ending == Ending::Success {
            return Ok(());
        }
        let finished = self.aside_command(step, all, &self.graph.root, &env, &secrets)?;
        if finished.ending == Ending::Success && git::has_commit(url, rev, repository).map_err(UnpackError::from)? {
            return Ok(());
        }
        Err(self.source_failure(step, format!("commit `{rev}` can't be had from `{url}`"), None, finished))
    }
}

/// Is the repository at fault?
fn is_damaged(error: &StepError, repository: &Path) -> bool {
    match error {
        // Whole, and refused.
        StepError::Unpack(UnpackError::Git(git::GitError::Refused { .. })) => false,
        StepError::Unpack(UnpackError::Git(_)) => true,
        // The server may be: git knows.
        StepError::Failed { .. } => git::is_damaged(repository),
        _ => false,
    }
}

/// Objects lie in directories that are named by their first two digits.
fn has_loose_objects(repository: &Path) -> bool {
    let entries = fs::read_dir(repository.join("objects")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().len() == 2)
}
