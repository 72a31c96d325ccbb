//! The git program, for what only it can read: split and sparse indexes. Asked when such an index has changed, never
//! for a look that finds everything as it was. And for a verdict on a repository of the store that it can't fetch into.

use std::path::Path;
use std::process::{Command, Stdio};

use super::index::{Flags, Index};
use super::object::{Mode, Oid};
use super::repository::GitError;

/// The index of the working copy `root`, without what git knows of the files.
pub fn index(root: &Path) -> Result<Index, GitError> {
    const COMMAND: &str = "ls-files -v --stage -z";
    let failed = |text: String| GitError::Program { path: root.to_owned(), command: COMMAND, text };
    let mut command = git();
    command.arg("-C").arg(root).args(["-c", "core.fsmonitor=false"]).args(COMMAND.split(' '));
    let output = command.stdin(Stdio::null()).output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let mut listed = Vec::new();
    for line in output.stdout.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        listed.push(entry(line).ok_or_else(|| failed(format!("`{}`", String::from_utf8_lossy(line))))?);
    }
    Ok(Index::of_paths(listed.into_iter()))
}

/// Does git find the bare repository `store` itself at fault?
pub fn is_damaged(store: &Path) -> bool {
    let mut command = git();
    // By its name: git would look for another one above.
    command.arg("--git-dir").arg(store).args(["fsck", "--no-dangling", "--no-progress"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|end| !end.success())
}

fn git() -> Command {
    let mut command = Command::new("git");
    // No other repository may leak in, nor anything that the user traces.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GIT_")) {
        command.env_remove(name);
    }
    command
}

/// `H 100644 <id> 0<tab>path`
fn entry(line: &[u8]) -> Option<(Vec<u8>, Mode, Oid, Flags)> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let head = std::str::from_utf8(&line[..tab]).ok()?;
    let mut words = head.split(' ');
    let letter = words.next()?.chars().next()?;
    let mode = match words.next()? {
        "100755" => Mode::Executable,
        "120000" => Mode::Link,
        "160000" => Mode::Commit,
        _ => Mode::File,
    };
    let id = words.next().filter(|id| id.len() == 40)?;
    let mut oid = Oid::NONE;
    for (at, byte) in oid.0.iter_mut().enumerate() {
        *byte = u8::from_str_radix(id.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    let flags = Flags::of_letter(letter, words.next()?.parse().ok()?);
    Some((line[tab + 1..].to_vec(), mode, oid, flags))
}
