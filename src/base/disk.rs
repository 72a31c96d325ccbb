//! Errors of a file system, with what a person needs to know of them: where, and how much room there is.

use std::fs;
use std::io;
use std::path::Path;

use super::paths::escaped;
use super::text;

/// Is it that nothing more goes onto the disk?
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Does the disk fail?
pub fn is_broken(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// All of a file, also behind links. Of anything else an error: who reads a pipe may wait for ever, and can't be ended.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() {
        return Err(io::Error::other(if kind.is_dir() { "it is a directory" } else { "it is not a file" }));
    }
    fs::read(path)
}

/// The same of text: UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_file(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Bytes that an ordinary user can still write on the file system of the nearest existing parent.
pub fn free_space(path: &Path) -> u64 {
    path.ancestors()
        .find_map(|p| rustix::fs::statvfs(if p.as_os_str().is_empty() { Path::new(".") } else { p }).ok())
        .map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// What an error at `path` says; of a full disk, how much is free there.
pub fn said(error: &io::Error, path: &Path) -> String {
    if is_full(error) {
        format!("the disk is full ({} free): {error}", text::size(free_space(path)))
    } else {
        error.to_string()
    }
}

/// `map_err(at(&path))`: the same error, saying where.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("`{}`: {}", escaped(path), said(&error, path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_no_file_to_read_and_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, link) = (dir.path().join("pipe"), dir.path().join("link"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::fs::symlink("pipe", &link).unwrap();
        for path in [&pipe, &link] {
            assert_eq!(read_file(path).unwrap_err().to_string(), "it is not a file");
        }
        assert_eq!(read_file(dir.path()).unwrap_err().to_string(), "it is a directory");
        fs::write(dir.path().join("file"), "text").unwrap();
        assert_eq!(read_text(&dir.path().join("file")).unwrap(), "text");
    }

    #[test]
    fn an_error_says_where_and_a_full_disk_how_much_is_free() {
        let path = Path::new("/tmp/none/a\nb");
        let full = at(path)(io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(is_full(&full));
        let text = full.to_string();
        assert!(text.starts_with("`/tmp/none/a\\x0ab`: the disk is full (") && !text.contains("(0 B free)"), "{text}");
        let other = at(path)(io::Error::from_raw_os_error(libc::EIO)).to_string();
        assert_eq!(other, "`/tmp/none/a\\x0ab`: Input/output error (os error 5)");
    }
}
