//! The one door to libgit2: commits read as sources, and which files a repository tracks. Fetching is the git
//! program's work ([`crate::execute::fetch`]): it knows the person's keys, proxies and credential helpers, and
//! libgit2's own HTTPS would cost each start of ours a millisecond for OpenSSL.

use std::path::{Path, PathBuf};

use git2::{Repository, RepositoryInitOptions};

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("`{rev}` of `{url}`: {error}")]
    Commit { url: String, rev: String, error: git2::Error },
    #[error("git repository `{}`: {error}", path.display())]
    Repository { path: PathBuf, error: git2::Error },
}

/// Files below `dirs` that the repository around `root` tracks, each with the place of its directory in
/// `dirs`. Nothing where there is no repository.
pub fn tracked_below(root: &Path, dirs: &[&Path]) -> Result<Vec<(usize, PathBuf)>, GitError> {
    let Ok(repository) = Repository::discover(root) else { return Ok(Vec::new()) };
    let (Some(workdir), false) = (repository.workdir().and_then(|d| d.canonicalize().ok()), dirs.is_empty()) else {
        return Ok(Vec::new());
    };
    let failed = |error| GitError::Repository { path: workdir.clone(), error };
    let index = repository.index().map_err(failed)?;
    let mut found = Vec::new();
    for (at, dir) in dirs.iter().enumerate() {
        let Ok(inner) = dir.strip_prefix(&workdir) else { continue };
        let mut prefix = inner.as_os_str().as_encoded_bytes().to_vec();
        prefix.push(b'/');
        found.extend(index.iter().filter(|e| e.path.starts_with(&prefix)).map(|e| {
            let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&e.path);
            (at, workdir.join(name))
        }));
    }
    Ok(found)
}

/// Those of the files that the repository around `root` tracks. None where there is no repository that can be read.
pub fn tracked_among(root: &Path, files: &[&Path]) -> Vec<PathBuf> {
    let read = || {
        let repository = Repository::discover(root).ok()?;
        Some((repository.workdir()?.canonicalize().ok()?, repository.index().ok()?))
    };
    let Some((workdir, index)) = (if files.is_empty() { None } else { read() }) else { return Vec::new() };
    let is_tracked = |file: &&Path| file.strip_prefix(&workdir).is_ok_and(|inner| index.get_path(inner, 0).is_some());
    files.iter().copied().filter(is_tracked).map(Path::to_owned).collect()
}

/// Is the commit in the bare repository `store`? The repository is made if it is not there.
pub fn has_commit(url: &str, rev: &str, store: &Path) -> Result<bool, GitError> {
    let failed = |error| GitError::Commit { url: url.to_owned(), rev: rev.to_owned(), error };
    let mut options = RepositoryInitOptions::new();
    let repository = Repository::init_opts(store, options.bare(true).external_template(false)).map_err(failed)?;
    Ok(repository.revparse_single(rev).is_ok_and(|object| object.peel_to_commit().is_ok()))
}

/// Writes the files of a commit to `dest`, raw bytes, without filters.
pub fn export(store: &Path, url: &str, rev: &str, dest: &Path) -> Result<(), GitError> {
    let failed = |error| GitError::Commit { url: url.to_owned(), rev: rev.to_owned(), error };
    let repository = Repository::open_bare(store).map_err(failed)?;
    let tree = repository.revparse_single(rev).and_then(|object| object.peel_to_tree()).map_err(failed)?;
    let mut options = git2::build::CheckoutBuilder::new();
    options.force().target_dir(dest).disable_filters(true).update_index(false).recreate_missing(true);
    repository.checkout_tree(tree.as_object(), Some(&mut options)).map_err(failed)
}
