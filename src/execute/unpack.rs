//! Brings a step's source to its place: an archive unpacked, a commit written out, patches applied.
//!
//! Time stamps matter to what is built from them: autotools runs itself again when `configure.ac` looks
//! newer than `configure`. So files keep the stamps of their archive, the files of a commit all get one
//! stamp, and every file that a patch touches gets one a second after the newest of all.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::disk;
use crate::base::paths::escaped;
use crate::base::stat::{Kind, Stat};
use crate::fingerprint::git::{self, GitError};

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("cannot unpack `{}`: {error}", escaped(archive))]
    Archive { archive: PathBuf, error: io::Error },
    #[error(
        "`{}` is no archive that is known here: tar, alone or packed with gzip, bzip2, xz or zstd",
        escaped(archive)
    )]
    Unknown { archive: PathBuf },
    #[error("`{}` holds `{}`, which leads out of the archive", escaped(archive), escaped(member))]
    Outside { archive: PathBuf, member: PathBuf },
    #[error("`{}` has SHA-256 {found}, not {expected}", escaped(archive))]
    Sum { archive: PathBuf, found: String, expected: String },
    #[error("cannot write `{}`: {}", escaped(path), disk::said(error, path))]
    Write { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Unpacks `archive` as `dest`, which must not exist. The contents of a single top directory become
/// those of `dest`.
pub fn archive(archive: &Path, dest: &Path) -> Result<(), UnpackError> {
    let beside = dest.with_extension("unpack");
    let failed = |error| match disk::is_full(&error) {
        true => UnpackError::Write { path: dest.to_owned(), error },
        false => UnpackError::Archive { archive: archive.to_owned(), error },
    };
    let mut tar = tar::Archive::new(decoder(archive)?);
    tar.set_preserve_mtime(true);
    tar.set_preserve_permissions(true);
    tar.set_preserve_ownerships(false);
    tar.set_unpack_xattrs(false);
    fs::create_dir_all(&beside).map_err(failed)?;
    // Directories last: writing into them moves their stamps, and some have no write permission.
    let mut dirs = Vec::new();
    for entry in tar.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        if entry.header().entry_type().is_dir() {
            dirs.push((entry.path().map_err(failed)?.into_owned(), entry.header().mtime().unwrap_or(0)));
            let path = dirs.last().map(|(path, _)| beside.join(path)).unwrap_or_default();
            if !is_below(&dirs[dirs.len() - 1].0) {
                return Err(UnpackError::Outside {
                    archive: archive.to_owned(),
                    member: dirs.pop().unwrap_or_default().0,
                });
            }
            if !path.exists() {
                entry.set_preserve_permissions(false);
            }
        }
        let inside = entry.unpack_in(&beside).map_err(failed)?;
        if !inside {
            let member = entry.path().map_err(failed)?.into_owned();
            return Err(UnpackError::Outside { archive: archive.to_owned(), member });
        }
    }
    for (dir, mtime) in dirs.iter().rev() {
        // A stamp of a directory decides nothing: one that can't be set is no failure.
        let _ = File::open(beside.join(dir)).and_then(|f| f.set_modified(UNIX_EPOCH + Duration::from_secs(*mtime)));
    }
    let top = only_directory(&beside).map_err(failed)?;
    match top {
        Some(top) => {
            fs::rename(top, dest).map_err(failed)?;
            fs::remove_dir(&beside).map_err(failed)
        }
        None => fs::rename(&beside, dest).map_err(failed),
    }
}

fn is_below(member: &Path) -> bool {
    member.components().all(|c| matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir))
}

fn only_directory(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut entries = fs::read_dir(dir)?;
    let (first, second) = (entries.next().transpose()?, entries.next());
    Ok(first.filter(|e| second.is_none() && e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()))
}

/// A reader of the tar inside, by what the first bytes say.
fn decoder(archive: &Path) -> Result<Box<dyn Read>, UnpackError> {
    let failed = |error| UnpackError::Archive { archive: archive.to_owned(), error };
    let mut head = [0; 262];
    let mut file = File::open(archive).map_err(failed)?;
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..]).map_err(failed)? {
            0 => break,
            n => filled += n,
        }
    }
    let file = BufReader::with_capacity(256 * 1024, File::open(archive).map_err(failed)?);
    Ok(match &head[..filled] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(file).map_err(failed)?),
        head if head.get(257..262) == Some(b"ustar") => Box::new(file),
        _ => return Err(UnpackError::Unknown { archive: archive.to_owned() }),
    })
}

/// Writes the commit's files to `dest`, all with one stamp. `store` is a bare repository of ours.
pub fn commit(url: &str, rev: &str, store: &Path, dest: &Path) -> Result<(), UnpackError> {
    fs::create_dir_all(dest).map_err(|error| UnpackError::Write { path: dest.to_owned(), error })?;
    git::export(store, url, rev, dest)?;
    let stamp = UNIX_EPOCH + Duration::from_secs(315_532_800);
    each_file(dest, &mut |path, _| File::open(path).and_then(|f| f.set_modified(stamp)))
}

/// The stamps of all files, taken before patches are applied.
pub struct Stamps {
    before: Vec<(PathBuf, i64)>,
    newest: i64,
}

impl Stamps {
    pub fn take(dir: &Path) -> Result<Self, UnpackError> {
        let mut stamps = Self { before: Vec::new(), newest: 0 };
        each_file(dir, &mut |path, stat| {
            stamps.newest = stamps.newest.max(stat.mtime);
            stamps.before.push((path.to_owned(), stat.mtime));
            Ok(())
        })?;
        stamps.before.sort();
        Ok(stamps)
    }

    /// Gives every file that is new or was written a stamp one second after the newest before.
    pub fn settle(&self, dir: &Path) -> Result<(), UnpackError> {
        let nanos = u64::try_from(self.newest).unwrap_or(0) + 1_000_000_000;
        let stamp: SystemTime = UNIX_EPOCH + Duration::from_nanos(nanos);
        each_file(dir, &mut |path, stat| {
            let known = self.before.binary_search_by(|(p, _)| p.as_path().cmp(path)).map(|at| self.before[at].1);
            if known == Ok(stat.mtime) { Ok(()) } else { File::open(path).and_then(|f| f.set_modified(stamp)) }
        })
    }
}

fn each_file(dir: &Path, act: &mut dyn FnMut(&Path, &Stat) -> io::Result<()>) -> Result<(), UnpackError> {
    let failed = |path: &Path, error| UnpackError::Write { path: path.to_owned(), error };
    for entry in fs::read_dir(dir).map_err(|e| failed(dir, e))? {
        let path = entry.map_err(|e| failed(dir, e))?.path();
        let Some(stat) = Stat::read(&path).map_err(|e| failed(&path, e))? else { continue };
        match stat.kind {
            Kind::Dir => each_file(&path, act)?,
            Kind::File => act(&path, &stat).map_err(|e| failed(&path, e))?,
            Kind::Symlink | Kind::Other => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tarball(dir: &Path, members: &[(&str, &str)]) -> PathBuf {
        let path = dir.join("a.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        for (name, text) in members {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(text.len() as u64);
            header.set_mode(0o755);
            header.set_mtime(1_000_000);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
        path
    }

    #[test]
    fn one_top_directory_becomes_the_source_and_stamps_and_modes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = tarball(dir.path(), &[("pkg-1.0/configure", "#!"), ("pkg-1.0/sub/b c", "x")]);
        let dest = dir.path().join("src");
        archive(&path, &dest).unwrap();
        let stat = Stat::read(&dest.join("configure")).unwrap().unwrap();
        assert_eq!((stat.mode, stat.mtime), (0o755, 1_000_000_000_000_000));
        assert_eq!(fs::read(dest.join("sub/b c")).unwrap(), b"x");
    }

    #[test]
    fn an_archive_with_several_tops_is_unpacked_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = tarball(dir.path(), &[("a", "1"), ("b/c", "2")]);
        archive(&path, &dir.path().join("src")).unwrap();
        assert!(dir.path().join("src/a").is_file() && dir.path().join("src/b/c").is_file());
    }

    #[test]
    fn a_member_that_leads_out_is_an_error_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = tarball(dir.path(), &[("../evil", "x")]);
        let error = archive(&path, &dir.path().join("in/src")).unwrap_err();
        assert!(matches!(error, UnpackError::Outside { .. }), "{error}");
        assert!(!dir.path().join("evil").exists() && !dir.path().join("in/evil").exists());
    }

    #[test]
    fn what_is_no_archive_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar.gz");
        fs::write(&path, "hello").unwrap();
        assert!(matches!(archive(&path, &dir.path().join("src")), Err(UnpackError::Unknown { .. })));
    }

    #[test]
    fn patched_files_get_one_stamp_a_second_after_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        for (name, seconds) in [("old", 100), ("new", 200)] {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        }
        let stamps = Stamps::take(dir.path()).unwrap();
        fs::write(dir.path().join("old"), "patched").unwrap();
        fs::write(dir.path().join("added"), "x").unwrap();
        stamps.settle(dir.path()).unwrap();
        let mtime = |name: &str| Stat::read(&dir.path().join(name)).unwrap().unwrap().mtime / 1_000_000_000;
        assert_eq!((mtime("old"), mtime("new"), mtime("added")), (201, 200, 201));
    }
}
