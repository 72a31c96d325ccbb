//! Paths and globs as the manifest writes them, made absolute: what they match, and whether two of
//! them can meet, without looking at the disk.

use std::path::{Component, Path, PathBuf};

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
    glob: Option<Wild>,
    /// What stands before its wildcards, where a `..` in it comes after a name: that may be a link, and commands go by it.
    pub way: Option<PathBuf>,
    /// Written with a `/` at its end.
    pub is_dir: bool,
    pub span: Span,
}

/// A glob, divided where its wildcards begin. What stands before is compared as bytes: it may come from the
/// place of the workspace, where `[` is a character like any other and UTF-8 a habit.
#[derive(Clone, Debug)]
struct Wild {
    below: PathBuf,
    parts: Vec<String>,
    matcher: GlobMatcher,
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
        let glob = if is_glob(text) { Wild::new(text, base)? } else { None };
        let is_dir = text.ends_with('/');
        let mut shown = match path.strip_prefix(root) {
            Ok(inner) if inner.as_os_str().is_empty() => ".".to_owned(),
            Ok(inner) => inner.display().to_string(),
            Err(_) => text.trim_end_matches('/').to_owned(),
        };
        if is_dir {
            shown.push('/');
        }
        Ok(Self { shown, path, glob, way: way(text, base), is_dir, span })
    }

    /// A path that stands in no manifest.
    pub fn of_path(path: &Path) -> Self {
        let span = Span { file: crate::base::span::FileId(0), start: 0, end: 0 };
        Self { shown: path.display().to_string(), path: path.to_owned(), glob: None, way: None, is_dir: false, span }
    }

    pub fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    /// Does this name `path` itself? (A plain path also when a directory is meant.)
    pub fn matches(&self, path: &Path) -> bool {
        match &self.glob {
            Some(glob) => glob.matches(path),
            None => self.path == path,
        }
    }

    /// Does this name `path` or a directory above it?
    pub fn covers(&self, path: &Path) -> bool {
        match &self.glob {
            Some(glob) => path.ancestors().any(|p| glob.matches(p)),
            None => path.starts_with(&self.path),
        }
    }

    /// The longest leading directory without a wildcard; of a plain path the path itself.
    pub fn fixed_part(&self) -> PathBuf {
        self.glob.as_ref().map_or_else(|| self.path.clone(), |glob| glob.below.clone())
    }

    /// Could this match `dir` or something below it?
    pub fn may_match_below(&self, dir: &Path) -> bool {
        match &self.glob {
            None => self.path.starts_with(dir),
            Some(glob) if glob.below.starts_with(dir) => true,
            Some(glob) => dir.strip_prefix(&glob.below).is_ok_and(|inner| may_reach(&glob.parts, &parts(inner))),
        }
    }

    /// Could this glob and that pattern match one path? Errs on the side of yes.
    pub fn may_meet(&self, other: &Pattern) -> bool {
        match (&self.glob, &other.glob) {
            (None, None) => self.path == other.path,
            (Some(glob), None) => glob.matches(&other.path),
            (None, Some(glob)) => glob.matches(&self.path),
            (Some(a), Some(b)) => a.may_meet(b),
        }
    }
}

impl Wild {
    /// `None` where `..` took all wildcards away again.
    fn new(text: &str, base: &Path) -> Result<Option<Self>, BadPattern> {
        let mut below = base.to_owned();
        let mut parts: Vec<String> = Vec::new();
        for component in Path::new(text).components() {
            match component {
                Component::RootDir | Component::Prefix(_) => below = component.as_os_str().into(),
                Component::CurDir => {}
                Component::ParentDir if parts.pop().is_some() => {}
                Component::ParentDir if below.pop() => {}
                Component::ParentDir => return Err(BadPattern::Climbs(text.to_owned())),
                Component::Normal(name) => {
                    let name = name.to_str().expect("BUG: a part of a text is text");
                    if parts.is_empty() && !is_glob(name) { below.push(name) } else { parts.push(name.to_owned()) }
                }
            }
        }
        if parts.is_empty() {
            return Ok(None);
        }
        let matcher = compile(&parts.join("/"))?.compile_matcher();
        Ok(Some(Self { below, parts, matcher }))
    }

    fn matches(&self, path: &Path) -> bool {
        path.strip_prefix(&self.below).is_ok_and(|inner| !inner.as_os_str().is_empty() && self.matcher.is_match(inner))
    }

    fn may_meet(&self, other: &Self) -> bool {
        let (upper, lower) = if other.below.starts_with(&self.below) { (self, other) } else { (other, self) };
        let Ok(between) = lower.below.strip_prefix(&upper.below) else { return false };
        let lower: Vec<String> = parts(between).into_iter().chain(lower.parts.iter().cloned()).collect();
        globs_meet(&upper.parts, &lower)
    }
}

/// The part of a pattern up to its first glob, where it goes up again after a name: links on it lead elsewhere.
fn way(text: &str, base: &Path) -> Option<PathBuf> {
    let is_plain = |part: &Component| part.as_os_str().to_str().is_some_and(|name| !is_glob(name));
    let fixed: PathBuf = Path::new(text).components().take_while(is_plain).collect();
    let mut named = fixed.components().skip_while(|part| !matches!(part, Component::Normal(_)));
    named.any(|part| part == Component::ParentDir).then(|| base.join(fixed))
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
        ([first, ..], _) if !stands_for_one(first) => true,
        ([first, rest @ ..], [name, names @ ..]) => part_matches(first, name) && may_reach(rest, names),
    }
}

/// Is it a pattern for one part of a path? Not `**`, also in braces, nor what is cut in two at a slash in braces or brackets, or behind a
/// backslash: such a pattern can be anywhere from here on.
fn stands_for_one(part: &str) -> bool {
    let count = |of: char| part.matches(of).count();
    count('{') == count('}') && count('[') == count(']') && !part.contains("**") && !part.ends_with('\\')
}

fn globs_meet(a: &[String], b: &[String]) -> bool {
    match (a, b) {
        ([], []) => true,
        ([first, ..], _) | (_, [first, ..]) if !stands_for_one(first) => true,
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
    fn the_place_of_a_workspace_is_no_pattern() {
        use std::os::unix::ffi::OsStrExt;
        for place in [&b"/[a] {b} *"[..], b"/caf\xe9", b"/a\\b"] {
            let base = Path::new(std::ffi::OsStr::from_bytes(place));
            let span = Span { file: FileId(0), start: 0, end: 0 };
            let glob = Pattern::new("src/*.rs", base, base, span).unwrap();
            assert!(glob.matches(&base.join("src/a.rs")) && !glob.matches(&base.join("src/a/b.rs")));
            assert!(!glob.matches(Path::new("/a/src/a.rs")));
            assert_eq!(glob.fixed_part(), base.join("src"));
            assert!(glob.may_match_below(base) && glob.may_match_below(&base.join("src")));
            assert!(!glob.may_match_below(&base.join("lib")));
            assert!(glob.may_meet(&Pattern::new("**/a.rs", base, base, span).unwrap()));
            assert!(Pattern::new("*/../a", base, base, span).unwrap().matches(&base.join("a")));
        }
    }

    #[test]
    fn a_glob_that_leaves_and_comes_back_is_clean() {
        assert!(pattern("../v/*.rs").matches(Path::new("/v/a.rs")));
        assert!(pattern("src/**").matches(Path::new("/w/src/a/b")) && !pattern("src/**").matches(Path::new("/w/src")));
        let climbs = Pattern::new("../../../*", Path::new("/w"), Path::new("/w"), pattern("a").span);
        assert!(matches!(climbs, Err(BadPattern::Climbs(_))));
    }

    #[test]
    fn two_globs_meet_unless_a_fixed_part_keeps_them_apart() {
        assert!(pattern("dist/*.js").may_meet(&pattern("dist/*")));
        assert!(pattern("**/*.js").may_meet(&pattern("dist/*")));
        assert!(!pattern("src/*.js").may_meet(&pattern("dist/*")));
    }

    #[test]
    fn two_globs_that_match_one_path_meet_however_their_slashes_are_written() {
        for (one, other, path) in [("{a/b,c}/d", "c/*", "c/d"), ("{a/b,c}/d", "?/d", "c/d"), ("x{/a,b}", "*", "xb")] {
            let (one, other, path) = (pattern(one), pattern(other), Path::new("/w").join(path));
            assert!(one.matches(&path) && other.matches(&path), "{} {}", one.shown, other.shown);
            assert!(one.may_meet(&other) && other.may_meet(&one), "{} {}", one.shown, other.shown);
            assert!(one.may_match_below(path.parent().unwrap()), "{}", one.shown);
        }
    }
}
