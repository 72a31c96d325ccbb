//! Which file a command word means: looked up on the PATH of the step, never on ours.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// A complete environment.
pub type Env = Vec<(OsString, OsString)>;

/// What `execvp` searches where PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The file that `word` names for a process in `cwd` with this environment, absolute.
///
/// A word with a slash is a path relative to `cwd`; any other is searched on PATH, whose empty and
/// relative entries are relative to `cwd` too. A file that is there but may not be executed is passed
/// over, and is the error where nothing better comes.
pub fn resolve(word: &OsStr, env: &[(OsString, OsString)], cwd: &Path) -> io::Result<PathBuf> {
    if word.as_bytes().contains(&b'/') {
        return Ok(cwd.join(word));
    }
    if word.is_empty() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let path = value(env, "PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut denied = false;
    for entry in path.as_bytes().split(|&b| b == b':') {
        let file = cwd.join(OsStr::from_bytes(entry)).join(word);
        match std::fs::metadata(&file) {
            Ok(meta) if meta.is_file() => match rustix::fs::access(&file, Access::EXEC_OK) {
                Ok(()) => return Ok(file),
                Err(_) => denied = true,
            },
            Ok(_) | Err(_) => {}
        }
    }
    Err(io::Error::from(if denied { io::ErrorKind::PermissionDenied } else { io::ErrorKind::NotFound }))
}

/// What a person is told when a program does not start.
pub fn explain(word: &OsStr, cwd: &Path, error: &io::Error) -> String {
    let word = word.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if !cwd.is_dir() => {
            format!("`{word}` cannot run in `{}`: there is no such directory", cwd.display())
        }
        io::ErrorKind::NotFound => format!("`{word}` was not found, or the interpreter that it names was not"),
        io::ErrorKind::PermissionDenied => format!("`{word}` may not be executed"),
        io::ErrorKind::ArgumentListTooLong => format!(
            "`{word}` cannot be started: an argument or a variable is longer than the system takes (128 KiB under Linux), or all of them \
             together are (`getconf ARG_MAX`); long text can go through a file"
        ),
        _ => format!("`{word}` cannot be started: {error}"),
    }
}

/// The value of a variable; the last one where it comes twice.
pub fn value<'a>(env: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    env.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn env(path: &str) -> Vec<(OsString, OsString)> {
        vec![("PATH".into(), path.into())]
    }

    fn program(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_path_of_the_step_decides_and_relative_entries_start_at_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        program(&dir.path().join("a b/tool"), 0o755);
        program(&dir.path().join("tool"), 0o755);
        let find = |path: &str| resolve(OsStr::new("tool"), &env(path), dir.path());
        assert_eq!(find("/nowhere:a b").unwrap(), dir.path().join("a b/tool"));
        assert_eq!(find("/nowhere:").unwrap(), dir.path().join("tool"));
        assert_eq!(find("/nowhere").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn directories_and_files_without_the_bit_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("1/tool")).unwrap();
        program(&dir.path().join("2/tool"), 0o644);
        program(&dir.path().join("3/tool"), 0o755);
        let find = |path: &str| resolve(OsStr::new("tool"), &env(path), dir.path());
        assert_eq!(find("1:2:3").unwrap(), dir.path().join("3/tool"));
        assert_eq!(find("1:2").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_word_with_a_slash_is_relative_to_the_directory_of_the_step() {
        let found = resolve(OsStr::new("./configure"), &[], Path::new("/src")).unwrap();
        assert_eq!(found, Path::new("/src/./configure"));
    }
}
