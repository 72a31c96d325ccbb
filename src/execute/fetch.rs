//! What comes from elsewhere: archives by URL, known by their checksum, and commits; each fetched once into
//! the store.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::Digest;

use crate::base::disk;
use crate::base::publish::publish_with;
use crate::base::url::{Address, Credentials};
use crate::store::{Store, remove_tree};

use super::unpack::UnpackError;

/// Where the archive with this checksum is; fetched if it is not in the store yet, or is damaged there: a tar has no
/// checksum of its own, so what a disk did to it would be built from.
pub fn fetch(store: &Store, url: &str, sha256: &str) -> Result<PathBuf, UnpackError> {
    let path = store.source_path(sha256);
    if holds(&path, sha256).map_err(|error| UnpackError::Write { path: path.clone(), error })? {
        return Ok(path);
    }
    let address = Address::of(url);
    let failed = |error: io::Error| UnpackError::Fetch {
        url: address.plain.clone(),
        // It may say the whole address again.
        error: io::Error::new(error.kind(), error.to_string().replace(url, &address.plain)),
    };
    let mut found = String::new();
    let result = publish_with(&path, |file| {
        found = download(url, file, store.limit())?;
        // Nothing is published under a name that it does not deserve.
        if found == sha256 { Ok(()) } else { Err(io::Error::other("another file")) }
    });
    match result {
        Ok(()) => Ok(path),
        Err(_) if !found.is_empty() && found != sha256 => {
            Err(UnpackError::Sum { archive: PathBuf::from(&address.plain), found, expected: sha256.to_owned() })
        }
        Err(error) if disk::is_full(&error) => Err(UnpackError::Write { path, error }),
        Err(error) => Err(failed(error)),
    }
}

/// Is it there with this checksum? What is there and is not that goes out of the way.
fn holds(path: &Path, sha256: &str) -> io::Result<bool> {
    let found = match fs::File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        // Nobody may read it: it is as good as damaged.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
        opened => pass(opened?, &mut io::sink(), u64::MAX).ok(),
    };
    if found.as_deref() == Some(sha256) {
        return Ok(true);
    }
    remove_tree(path)?;
    Ok(false)
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

/// Whoever can see processes sees their words; so git is told by variables who asks.
pub fn let_git_know(who: &Credentials, env: &mut BTreeMap<OsString, OsString>) {
    const HELPER: &str = r#"!f() { [ "$1" != get ] || printf 'username=%s\npassword=%s\n' "$BCACHE_GIT_USER" "$BCACHE_GIT_PASSWORD"; }; f"#;
    let name = |what: &str, number: usize| OsString::from(format!("GIT_CONFIG_{what}_{number}"));
    let count = env.get(OsStr::new("GIT_CONFIG_COUNT")).and_then(|count| count.to_str()?.parse().ok()).unwrap_or(0);
    // An empty one: nobody else is asked.
    for (number, helper) in ["", HELPER].into_iter().enumerate() {
        env.insert(name("KEY", count + number), format!("credential.{}.helper", who.site).into());
        env.insert(name("VALUE", count + number), helper.into());
    }
    env.insert("GIT_CONFIG_COUNT".into(), (count + 2).to_string().into());
    env.insert("BCACHE_GIT_USER".into(), who.user.clone().into());
    env.insert("BCACHE_GIT_PASSWORD".into(), who.password.clone().into());
}

/// All objects come in packs: libgit2 never comes back from a loose one that is cut off.
const PACKED: [&str; 2] = ["-c", "fetch.unpackLimit=1"];

/// The commands that bring a commit into the bare repository `store`, to be tried in turn: just the commit
/// where the server lets us, else all branches and tags. The repository is named: where it is damaged, git would take one
/// of the directories above for it, which is somebody's own.
pub fn commit_commands(url: &str, rev: &str, store: &std::path::Path) -> [Vec<std::ffi::OsString>; 2] {
    let git = |refs: &[&str]| {
        let mut words: Vec<std::ffi::OsString> = vec!["git".into(), "--git-dir".into(), store.into()];
        words.extend(PACKED.map(Into::into));
        words.extend(["fetch", "--quiet", "--no-tags", "--force", "--", url].map(Into::into));
        words.extend(refs.iter().map(Into::into));
        words
    };
    let one = format!("{rev}:refs/bcache/{rev}");
    [git(&[&one]), git(&["refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"])]
}
