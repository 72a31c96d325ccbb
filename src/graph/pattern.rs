//! Paths and globs as the manifest writes them, made absolute: what they match, and whether two of
//! them can meet, without looking at the disk.

use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::base::paths::join_clean;
use crate::base::span::Span;

/// A path or glob of a step.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As people see it: relative to the workspace, or as it was written.
    pub shown: String,
    /// Absolute and clean; holds the wildcards where it is a glob.
    pub path: PathBuf,
    /// `None` for a plain path.
    glob: Option<GlobMatcher>,
    /// Written with a `/` at its end.
    pub is_dir: bool,
    pub span: Span,
}

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error)]
pub enum BadPattern {
    #[error("`{0}` climbs above the root")]
    Climbs(String),
    #[error("an empty path")]
    Empty,
    #[error("{0}")]
    Glob(#[from] globset::Error),
}

pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

impl Pattern {
    /// `base` is the directory that a relative text starts from, `root` the workspace.
    pub fn new(text: &str, base: &Path, root: &Path, span: Span) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::Empty);
        }
        let path = join_clean(base, Path::new(text)).ok_or_else(|| BadPattern::Climbs(text.to_owned()))?;
        let glob = if is_glob(text) {
            let text = path.to_str().expect("BUG: a manifest's directory with a glob in it is UTF-8");
            Some(compile(text)?.compile_matcher())
        } else {
            None
        };
        let is_dir = text.ends_with('/');
        let mut shown = match path.strip_prefix(root) {
            Ok(inner) if inner.as_os_str().is_empty() => ".".to_owned(),
            Ok(inner) => inner.display().to_string(),
            Err(_) => text.trim_end_matches('/').to_owned(),
        };
        if is_dir {
            shown.push('/');
        }
        Ok(Self { shown, path, glob, is_dir, span })
    }

    pub fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    /// Does this name `path` itself? (A plain path also when a directory is meant.)
    pub fn matches(&self, path: &Path) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(path),
            None => self.path == path,
        }
    }

    /// Does this name `path` or a directory above it?
    pub fn covers(&self, path: &Path) -> bool {
        match &self.glob {
            Some(glob) => path.ancestors().any(|p| glob.is_match(p)),
            None => path.starts_with(&self.path),
        }
    }

    /// The longest leading directory without a wildcard; of a plain path the path itself.
    pub fn fixed_part(&self) -> PathBuf {
        if self.glob.is_none() {
            return self.path.clone();
        }
        self.path.components().take_while(|c| !is_glob(&c.as_os_str().to_string_lossy())).collect()
    }

    /// Could this match `dir` or something below it?
    pub fn may_match_below(&self, dir: &Path) -> bool {
        if self.glob.is_none() {
            return self.path.starts_with(dir);
        }
        let pattern = parts(&self.path);
        let dir = parts(dir);
        may_reach(&pattern, &dir)
    }

    /// Could this glob and that pattern match one path? Errs on the side of yes.
    pub fn may_meet(&self, other: &Pattern) -> bool {
        match (self.is_glob(), other.is_glob()) {
            (false, false) => self.path == other.path,
            (true, false) => self.matches(&other.path),
            (false, true) => other.matches(&self.path),
            (true, true) => globs_meet(&parts(&self.path), &parts(&other.path)),
        }
    }
}

fn compile(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build()
}

fn parts(path: &Path) -> Vec<String> {
    path.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect()
}

fn part_matches(pattern: &str, name: &str) -> bool {
    pattern == name || is_glob(pattern) && compile(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(name))
}

/// Can `pattern` reach a path that begins with all of `dir`?
fn may_reach(pattern: &[String], dir: &[String]) -> bool {
    match (pattern, dir) {
        (_, []) => true,
        ([], _) => false,
        ([first, ..], _) if first == "**" => true,
        // Braces may hold a slash: such a pattern can be anywhere.
        ([first, ..], _) if first.contains('{') != first.contains('}') => true,
        ([first, rest @ ..], [name, names @ ..]) => part_matches(first, name) && may_reach(rest, names),
    }
}

fn globs_meet(a: &[String], b: &[String]) -> bool {
    match (a, b) {
        ([], []) => true,
        ([first, ..], _) | (_, [first, ..]) if first == "**" => true,
        ([x, rest_a @ ..], [y, rest_b @ ..]) => {
            let meet = if is_glob(x) && is_glob(y) { true } else { part_matches(x, y) || part_matches(y, x) };
            meet && globs_meet(rest_a, rest_b)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::span::FileId;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text, Path::new("/w"), Path::new("/w"), Span { file: FileId(0), start: 0, end: 0 }).unwrap()
    }

    #[test]
    fn a_star_stays_in_its_directory_and_two_do_not() {
        assert!(pattern("src/*.rs").matches(Path::new("/w/src/a.rs")));
        assert!(!pattern("src/*.rs").matches(Path::new("/w/src/a/b.rs")));
        assert!(pattern("src/**/*.rs").matches(Path::new("/w/src/a/b.rs")));
        assert!(pattern("src/**/*.rs").matches(Path::new("/w/src/b.rs")));
        assert!(pattern("a b/*").matches(Path::new("/w/a b/c")));
    }

    #[test]
    fn a_glob_meets_a_directory_only_where_it_could_reach_into_it() {
        assert!(pattern("src/**/*.rs").may_match_below(Path::new("/w/src/generated")));
        assert!(!pattern("src/*.rs").may_match_below(Path::new("/w/src/generated")));
        assert!(pattern("*/generated/*").may_match_below(Path::new("/w/src/generated")));
        assert!(!pattern("lib/**").may_match_below(Path::new("/w/src")));
        assert!(pattern("src/generated/a").may_match_below(Path::new("/w/src/generated")));
    }

    #[test]
    fn shown_paths_are_relative_to_the_workspace() {
        assert_eq!(pattern("./a/../b/").shown, "b/");
        assert_eq!(pattern("../x").shown, "../x");
        assert_eq!(pattern(".").shown, ".");
    }

    #[test]
    fn two_globs_meet_unless_a_fixed_part_keeps_them_apart() {
        assert!(pattern("dist/*.js").may_meet(&pattern("dist/*")));
        assert!(pattern("**/*.js").may_meet(&pattern("dist/*")));
        assert!(!pattern("src/*.js").may_meet(&pattern("dist/*")));
    }
}
