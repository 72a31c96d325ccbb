//! What comes from elsewhere: archives by URL, known by their checksum, and commits; each fetched once into
//! the store.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use sha2::Digest;

use crate::base::publish::publish_with;
use crate::store::Store;

use super::unpack::UnpackError;

/// Where the archive with this checksum is; fetched if it is not in the store yet.
pub fn fetch(store: &Store, url: &str, sha256: &str) -> Result<PathBuf, UnpackError> {
    let path = store.source_path(sha256);
    // Who knows who put it there, and what became of it since.
    if fs::File::open(&path).and_then(|file| pass(file, &mut io::sink(), u64::MAX)).is_ok_and(|sum| sum == sha256) {
        return Ok(path);
    }
    let failed = |error| UnpackError::Fetch { url: url.to_owned(), error };
    let mut found = String::new();
    let result = publish_with(&path, |file| {
        found = download(url, file, store.limit())?;
        // Nothing is published under a name that it does not deserve.
        if found == sha256 { Ok(()) } else { Err(io::Error::other("another file")) }
    });
    match result {
        Ok(()) => Ok(path),
        Err(_) if !found.is_empty() && found != sha256 => {
            Err(UnpackError::Sum { archive: PathBuf::from(url), found, expected: sha256.to_owned() })
        }
        Err(error) => Err(failed(error)),
    }
}

/// Writes what the URL gives, `most` bytes of it, and returns its checksum.
fn download(url: &str, to: &mut fs::File, most: u64) -> io::Result<String> {
    let config = ureq::Agent::config_builder().timeout_connect(Some(Duration::from_secs(30))).build();
    let mut response = ureq::Agent::new_with_config(config).get(url).call().map_err(io::Error::other)?;
    pass(response.body_mut().as_reader(), to, most)
}

/// Passes on what there is, and returns its checksum.
fn pass(mut from: impl Read, to: &mut impl Write, most: u64) -> io::Result<String> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut left = most;
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            n => {
                left =
                    left.checked_sub(n as u64).ok_or_else(|| io::Error::other("it is larger than the cache may be"))?;
                hasher.update(&buffer[..n]);
                to.write_all(&buffer[..n])?;
            }
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The commands that bring a commit into the bare repository `store`, to be tried in turn: just the commit
/// where the server lets us, else all branches and tags.
pub fn commit_commands(url: &str, rev: &str, store: &std::path::Path) -> [Vec<std::ffi::OsString>; 2] {
    let git = |refs: &[&str]| {
        let mut words: Vec<std::ffi::OsString> = vec!["git".into(), "-C".into(), store.into()];
        words.extend(["fetch", "--quiet", "--no-tags", "--force", "--", url].map(Into::into));
        words.extend(refs.iter().map(Into::into));
        words
    };
    let one = format!("{rev}:refs/bcache/{rev}");
    [git(&[&one]), git(&["refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"])]
}
