//! The one door to git (libgit2): commits fetched as sources, and which files a repository tracks.

use std::path::{Path, PathBuf};

use git2::{AutotagOption, FetchOptions, Oid, Repository, RepositoryInitOptions};

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("`{rev}` of `{url}`: {error}")]
    Fetch { url: String, rev: String, error: git2::Error },
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

/// Makes sure that the bare repository `store` has the commit, fetching just that where the server lets
/// us, else all branches and tags.
pub fn fetch(url: &str, rev: &str, store: &Path) -> Result<(), GitError> {
    let failed = |error| GitError::Fetch { url: url.to_owned(), rev: rev.to_owned(), error };
    let repository = Repository::init_opts(store, RepositoryInitOptions::new().bare(true).external_template(false))
        .map_err(failed)?;
    let oid = Oid::from_str(rev).map_err(failed)?;
    if repository.find_commit(oid).is_ok() {
        return Ok(());
    }
    let mut remote = repository.remote_anonymous(url).map_err(failed)?;
    let mut options = FetchOptions::new();
    options.download_tags(AutotagOption::None);
    let one = format!("+{rev}:refs/bcache/{rev}");
    if remote.fetch(&[one.as_str()], Some(&mut options), None).is_err() {
        let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        remote.fetch(&all, Some(&mut options), None).map_err(failed)?;
    }
    repository.find_commit(oid).map(|_| ()).map_err(failed)
}

/// Writes the files of a commit to `dest`, raw bytes, without filters.
pub fn export(store: &Path, url: &str, rev: &str, dest: &Path) -> Result<(), GitError> {
    let failed = |error| GitError::Fetch { url: url.to_owned(), rev: rev.to_owned(), error };
    let repository = Repository::open_bare(store).map_err(failed)?;
    let tree = repository.find_commit(Oid::from_str(rev).map_err(failed)?).and_then(|c| c.tree()).map_err(failed)?;
    let mut options = git2::build::CheckoutBuilder::new();
    options.force().target_dir(dest).disable_filters(true).update_index(false).recreate_missing(true);
    repository.checkout_tree(tree.as_object(), Some(&mut options)).map_err(failed)
}
