//! Finds and reads the files of a manifest.
//!
//! Every file is read once: one that is included by two others is the same fragment, and counts where it
//! is met first. A circle is an error, since it is never meant.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Errors, Problem};
use super::model::{Include, Manifest};
use super::raw::Raw;
use super::read::{self, Role};
use super::{check, document};
use crate::base::disk::read_file;
use crate::base::paths::escaped;
use crate::base::span::{FileId, SourceFile, Span, Spanned};

/// The name that is looked for.
pub const FILE_NAME: &str = "tasks.toml";
/// Nobody has more; a program that writes files which include each other without end does.
const MAX_FILES: usize = 1000;

/// The first file of the workspace that `start` lies in: `tasks.toml` there or above. One without
/// `[bcache]` is a fragment of another workspace and is passed over. One that can't be read is taken,
/// so that [`load`] says why.
pub fn find(start: &Path) -> Option<PathBuf> {
    let start = std::path::absolute(start).ok()?;
    start.ancestors().map(|dir| dir.join(FILE_NAME)).find(|path| match read_bytes(path) {
        Ok(bytes) => has_settings(&String::from_utf8_lossy(&bytes)),
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    })
}

/// Reads the manifest whose first file is `path`, with all files that it includes. The errors are all
/// that there are in all of them.
pub fn load(path: &Path) -> Result<Manifest, Errors> {
    let mut loader = Loader::default();
    loader.first(path);
    let Loader { files, includes, raw, mut problems, root, .. } = loader;
    if let Some(version) = problems.iter().find(|p| p.code == "bcache::manifest::version") {
        // In another version of the format all else may be right.
        return Err(Errors::new(vec![version.clone()], files));
    }
    let mut found_later = Vec::new();
    let manifest = check::resolve(&root, files, includes, raw, &mut found_later);
    drop_consequences(&mut problems, &mut found_later);
    problems.append(&mut found_later);
    if problems.is_empty() { Ok(manifest) } else { Err(Errors::new(problems, manifest.files)) }
}

/// What stands behind a syntax error, or in a file that can't be read, may be what others miss.
fn drop_consequences(problems: &mut Vec<Problem>, found_later: &mut Vec<Problem>) {
    let broken: Vec<Span> =
        problems.iter().filter(|p| p.code == "bcache::manifest::syntax").map(|p| p.primary).collect();
    let is_unread = problems.iter().any(|p| p.code == "bcache::manifest::io");
    if is_unread || !broken.is_empty() {
        found_later.retain(|p| p.code != "bcache::manifest::unknown_name");
    }
    problems.retain(|p| {
        let is_of_the_same_place = broken.iter().any(|b| b.file == p.primary.file && b.start == p.primary.start);
        let may_be_behind = broken.iter().any(|b| b.file == p.primary.file);
        match p.code {
            "bcache::manifest::syntax" => true,
            "bcache::manifest::missing_key" => !may_be_behind,
            _ => !is_of_the_same_place,
        }
    });
}

#[derive(Default)]
struct Loader {
    root: PathBuf,
    files: Vec<SourceFile>,
    includes: Vec<Include>,
    /// Files read, by their paths without links.
    seen: HashMap<PathBuf, FileId>,
    /// The files being read, each included by the one before it.
    open: Vec<FileId>,
    raw: Raw,
    problems: Vec<Problem>,
}

impl Loader {
    fn first(&mut self, path: &Path) {
        match canonical(path) {
            Ok(place) => {
                self.root = place.parent().unwrap_or(Path::new("/")).to_owned();
                self.file(place, Role::First, None);
            }
            Err(error) => {
                self.root = PathBuf::from("/");
                let path = std::path::absolute(path).unwrap_or_else(|_| Path::new("/").join(path));
                let shown = escaped(&path);
                self.files.push(SourceFile { path, shown, text: "".into() });
                self.cannot_read(FileId(0), &error, None);
            }
        }
    }

    /// Reads a file and those that it includes, in the order in which they are named.
    fn file(&mut self, path: PathBuf, role: Role, included_at: Option<Span>) {
        let id = FileId(self.files.len() as u16);
        let shown = escaped(path.strip_prefix(&self.root).unwrap_or(&path));
        let bytes = read_bytes(&path);
        self.seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone()), id);
        let (text, bad_byte): (Arc<str>, _) = match &bytes {
            Ok(bytes) => valid_text(bytes),
            Err(_) => ("".into(), None),
        };
        self.files.push(SourceFile { path, shown, text: text.clone() });
        match bytes {
            Err(error) => return self.cannot_read(id, &error, included_at),
            Ok(_) if bad_byte.is_some() => {
                let at = document::span(id, text.len()..text.len());
                let problem = Problem::new("bcache::manifest::io", "the file is not UTF-8", at);
                self.problems.push(problem.label("the first byte that is not"));
            }
            Ok(_) => {}
        }
        let includes = read::read(id, &text, role, &mut self.raw, &mut self.problems);
        self.open.push(id);
        includes.iter().for_each(|include| self.include(id, include));
        self.open.pop();
    }

    fn include(&mut self, from: FileId, include: &Spanned<String>) {
        let dir = self.files[usize::from(from.0)].path.parent().unwrap_or(Path::new("/"));
        let written = dir.join(&include.value);
        let path = match canonical(&written) {
            Ok(path) => path,
            Err(error) => {
                let message = format!("`{}` can't be read: {}", include.value, said(&error));
                return self.problems.push(Problem::new("bcache::manifest::io", message, include.span));
            }
        };
        self.includes.push(Include { written, place: path.clone() });
        let key = path.canonicalize().unwrap_or_else(|_| path.clone());
        match self.seen.get(&key) {
            Some(id) if self.open.contains(id) => self.say_circle(*id, include),
            Some(_) => {}
            None if self.files.len() >= MAX_FILES => {
                let message = format!("more than {MAX_FILES} files are included");
                self.problems.push(Problem::new("bcache::manifest::include", message, include.span));
            }
            None => self.file(path, Role::Included, Some(include.span)),
        }
    }

    fn say_circle(&mut self, first: FileId, include: &Spanned<String>) {
        let circle = self.open.iter().skip_while(|id| **id != first).chain([&first]);
        let names: Vec<&str> = circle.map(|id| self.files[usize::from(id.0)].shown.as_str()).collect();
        let message = format!("files include each other in a circle: {}", names.join(" -> "));
        let problem = Problem::new("bcache::manifest::include", message, include.span);
        self.problems.push(problem.label("closes the circle"));
    }

    fn cannot_read(&mut self, id: FileId, error: &io::Error, included_at: Option<Span>) {
        let shown = &self.files[usize::from(id.0)].shown;
        let message = format!("`{shown}` can't be read: {}", said(error));
        let span = included_at.unwrap_or(Span { file: id, start: 0, end: 0 });
        self.problems.push(Problem::new("bcache::manifest::io", message, span));
    }
}

/// Absolute and without links in its directory; the file itself may be a link, which stays: the workspace
/// is where the link lies.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    std::fs::metadata(&path)?;
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => Ok(dir.canonicalize()?.join(name)),
        _ => path.canonicalize(),
    }
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = read_file(path)?;
    if bytes.len() >= u32::MAX as usize {
        return Err(io::Error::other("it is larger than 4 GiB"));
    }
    Ok(bytes)
}

/// The text up to the first byte that is not UTF-8, and where that is.
fn valid_text(bytes: &[u8]) -> (Arc<str>, Option<usize>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), None),
        Err(error) => {
            let good = error.valid_up_to();
            (String::from_utf8_lossy(&bytes[..good]).into(), Some(good))
        }
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

/// Is there a `[bcache]` table? By the lines, since this is asked on every run and a parse of a large file
/// takes longer than all the rest; a line inside a multi-line string looks the same, so a file with such
/// strings is parsed.
fn has_settings(text: &str) -> bool {
    let names_it = |line: &str| {
        let line = line.trim_start_matches(['[', ' ', '\t']);
        let rest = ["bcache", "\"bcache\"", "'bcache'"].iter().find_map(|key| line.strip_prefix(key));
        rest.is_some_and(|rest| rest.trim_start().starts_with([']', '.', '=']))
    };
    if !text.trim_start_matches('\u{feff}').lines().any(names_it) {
        return false;
    }
    let has_long_strings = text.contains("\"\"\"") || text.contains("'''");
    !has_long_strings || toml::de::DeTable::parse_recoverable(text).0.get_ref().contains_key("bcache")
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
