//! Which files git ignores: the lines of `.gitignore` and its kin, and who of them has the last word.

use std::rc::Rc;

use gix_glob::wildmatch;

/// One line: which paths it matches.
struct Glob {
    how: How,
    /// Means nothing but directories.
    is_dir: bool,
}

enum How {
    /// The last part of the path is this.
    Name(Vec<u8>),
    NameEnd(Vec<u8>),
    NameWild(Vec<u8>),
    /// The path from the file's directory on begins with the text, and its rest is matched.
    Path(Vec<u8>, Vec<u8>),
}

const SPECIAL: &[u8] = b"*?[\\";

impl Glob {
    fn new(mut text: &[u8]) -> Self {
        let is_dir = text.ends_with(b"/");
        text = text.strip_suffix(b"/").unwrap_or(text);
        let is_plain = |text: &[u8]| !text.iter().any(|byte| SPECIAL.contains(byte));
        let how = match text {
            _ if text.contains(&b'/') => {
                let text = text.strip_prefix(b"/").unwrap_or(text);
                let fixed = text.iter().position(|byte| SPECIAL.contains(byte)).unwrap_or(text.len());
                How::Path(text[..fixed].to_vec(), text[fixed..].to_vec())
            }
            _ if is_plain(text) => How::Name(text.to_vec()),
            [b'*', end @ ..] if is_plain(end) => How::NameEnd(end.to_vec()),
            _ => How::NameWild(text.to_vec()),
        };
        Self { how, is_dir }
    }

    /// `path` is relative to the directory of the file that the line is in.
    fn matches(&self, path: &[u8], name: &[u8], is_dir: bool) -> bool {
        if self.is_dir && !is_dir {
            return false;
        }
        match &self.how {
            How::Name(text) => name == text,
            How::NameEnd(end) => name.ends_with(end),
            How::NameWild(pattern) => matches(pattern, name, wildmatch::Mode::empty()),
            How::Path(start, pattern) => {
                let rest = path.strip_prefix(start.as_slice());
                rest.is_some_and(|rest| matches(pattern, rest, wildmatch::Mode::NO_MATCH_SLASH_LITERAL))
            }
        }
    }
}

/// With git's own meaning of a pattern: `{a,b}` is no choice, `**` counts only between slashes, an unclosed `[` matches nothing.
fn matches(pattern: &[u8], text: &[u8], mode: wildmatch::Mode) -> bool {
    gix_glob::wildmatch(pattern.into(), text.into(), mode)
}

/// The lines of one file of rules: each with whether it ignores what it matches.
pub struct Rules {
    lines: Vec<(Glob, bool)>,
    /// Length of the directory that the paths are relative to, within the working copy, with its slash.
    base: usize,
}

impl Rules {
    /// Of a file in git's form of ignore rules.
    pub fn ignoring(text: &[u8], base: usize) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut lines = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            let line = trimmed(line.strip_suffix(b"\r").unwrap_or(line));
            if line.starts_with(b"#") {
                continue;
            }
            let (line, ignores) = line.strip_prefix(b"!").map_or((line, true), |rest| (rest, false));
            if !line.is_empty() {
                lines.push((Glob::new(line), ignores));
            }
        }
        Self { lines, base }
    }

    fn verdict(&self, path: &[u8], name: &[u8], is_dir: bool) -> Option<bool> {
        let inner = path.get(self.base..)?;
        self.lines.iter().rev().find(|(glob, _)| glob.matches(inner, name, is_dir)).map(|(_, means)| *means)
    }
}

/// Without the spaces at its end that no backslash protects.
fn trimmed(line: &[u8]) -> &[u8] {
    let mut kept = 0;
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            b' ' => {}
            b'\\' => {
                at += 1;
                kept = line.len().min(at + 1);
            }
            _ => kept = at + 1,
        }
        at += 1;
    }
    &line[..kept]
}

/// Files of rules from a directory up to the root of its working copy, and those that are meant everywhere: the
/// nearest has the first word.
#[derive(Clone, Default)]
pub struct Chain(Option<Rc<Link>>);

struct Link {
    rules: Rules,
    above: Chain,
}

impl Chain {
    pub fn with(&self, rules: Rules) -> Self {
        if rules.lines.is_empty() { self.clone() } else { Self(Some(Rc::new(Link { rules, above: self.clone() }))) }
    }

    /// The nearest line that matches. `path` is relative to the working copy.
    pub fn means(&self, path: &[u8], is_dir: bool) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let mut next = &self.0;
        while let Some(link) = next {
            if let Some(means) = link.rules.verdict(path, name, is_dir) {
                return means;
            }
            next = &link.above.0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_path(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), wildmatch::Mode::NO_MATCH_SLASH_LITERAL)
    }

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        assert!(by_path("*.c", "a.c") && !by_path("*.c", "b/a.c"));
        assert!(by_path("**/a", "a") && by_path("**/a", "x/y/a") && !by_path("**/a", "xa"));
        assert!(by_path("a/**", "a/b/c") && !by_path("a/**", "a"));
        assert!(by_path("a/**/b", "a/b") && by_path("a/**/b", "a/x/y/b"));
        assert!(by_path("a**b", "axxb") && !by_path("a**b", "ax/b"));
        assert!(matches(b"a*b", b"ax/b", wildmatch::Mode::empty()));
    }

    #[test]
    fn sets_have_ranges_classes_and_negations() {
        assert!(by_path("[a-c]x", "bx") && !by_path("[a-c]x", "dx"));
        assert!(by_path("[!a]", "b") && by_path("[^a]", "b") && !by_path("[!a]", "a") && !by_path("[!a]", "/"));
        assert!(by_path("[]]", "]") && by_path("[a-]", "-") && by_path("[[:digit:]]", "7"));
        assert!(!by_path("[a", "[a") && !by_path("[[:none:]]", "n"));
        assert!(by_path("\\*", "*") && !by_path("\\*", "a") && !by_path("a\\", "a"));
        assert!(by_path("{a,b}", "{a,b}") && !by_path("{a,b}", "a"));
    }

    fn ignores(text: &str, path: &str, is_dir: bool) -> bool {
        Chain::default().with(Rules::ignoring(text.as_bytes(), 0)).means(path.as_bytes(), is_dir)
    }

    #[test]
    fn the_last_line_that_matches_has_the_word() {
        assert!(ignores("*.o\n", "a/b.o", false));
        assert!(!ignores("*.o\n!b.o\n", "a/b.o", false));
        assert!(ignores("!b.o\n*.o\n", "a/b.o", false));
    }

    #[test]
    fn a_slash_ties_a_line_to_its_directory_and_one_at_the_end_means_directories() {
        assert!(ignores("/a", "a", false) && !ignores("/a", "b/a", false));
        assert!(ignores("a/b", "a/b", false) && !ignores("a/b", "x/a/b", false));
        assert!(ignores("a/", "x/a", true) && !ignores("a/", "x/a", false));
    }

    #[test]
    fn spaces_comments_and_line_ends_are_read_as_git_reads_them() {
        assert!(ignores("a  \r\n", "a", false));
        assert!(ignores("a\\ \n", "a ", false) && !ignores("a\\ \n", "a", false));
        assert!(!ignores("# a\n#a\n", "#a", false) && ignores("\\#a\n", "#a", false) && ignores("\\!a\n", "!a", false));
    }
}
