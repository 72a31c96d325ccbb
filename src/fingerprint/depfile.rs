//! Depfiles: what a compiler says that it has read, as rules in make's form.
//!
//! ```text
//! main.o other.o: main.c dir\ with\ spaces/a.h \
//!  b\#.h cost$$.h
//! a.h:
//! ```
//! All that stands to the right of a colon is something that was read; targets do not matter, nor do the rules
//! without anything that `gcc -MP` adds for each header. A space, a tab and `#` are escaped by a backslash, a backslash
//! before one of them by another, `$` by itself, and a backslash at the end of a line joins the next one to it; any
//! other backslash is one. So far gcc, clang, ninja and rustc agree. A `#` that begins a word begins a comment (rustc has
//! some), a line that begins with a tab is a command. A colon ends the targets only before a space or the end of
//! the line, where there is one: a name may hold colons.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A line that is no rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line} has no colon")]
pub struct NoRule {
    /// From 1.
    pub line: usize,
}

/// Everything that the rules name as read, as it is written there, each once.
pub fn parse(text: &[u8]) -> Result<BTreeSet<PathBuf>, NoRule> {
    let mut found = BTreeSet::new();
    let mut rest = Rest { text, at: 0, line: 1 };
    while rest.at < text.len() {
        let line = rest.line;
        let words = rest.words();
        if words.is_empty() {
            continue;
        }
        let read = prerequisites(&words).ok_or(NoRule { line })?;
        let names = read.into_iter().filter(|name| !name.is_empty() && *name != b"|");
        found.extend(names.map(|name| PathBuf::from(OsString::from_vec(name.to_vec()))));
    }
    Ok(found)
}

/// A word of a rule.
#[derive(Default)]
struct Word {
    bytes: Vec<u8>,
    /// Where in `bytes` colons are that nothing escapes.
    colons: Vec<usize>,
}

impl Word {
    fn ends_with_colon(&self) -> bool {
        self.colons.last().is_some_and(|at| at + 1 == self.bytes.len())
    }
}

/// What comes after the colon. `None` where there is none.
fn prerequisites(words: &[Word]) -> Option<Vec<&[u8]>> {
    if let Some(at) = words.iter().position(Word::ends_with_colon) {
        return Some(words[at + 1..].iter().map(|word| word.bytes.as_slice()).collect());
    }
    let (at, colon) = words.iter().enumerate().find_map(|(at, word)| Some((at, *word.colons.first()?)))?;
    let after = [&words[at].bytes[colon + 1..]];
    Some(after.into_iter().chain(words[at + 1..].iter().map(|word| word.bytes.as_slice())).collect())
}

struct Rest<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl Rest<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// The words up to the end of the line, joined lines counting as one; moves behind it.
    fn words(&mut self) -> Vec<Word> {
        if self.peek(0) == Some(b'\t') {
            self.comment();
            return Vec::new();
        }
        let mut words: Vec<Word> = Vec::new();
        let mut inside = false;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\n' => {
                    self.at += 1;
                    self.line += 1;
                    break;
                }
                b' ' | b'\t' => self.at += 1,
                b'\r' if matches!(self.peek(1), None | Some(b'\n')) => self.at += 1,
                b'\\' if self.joins_lines(0) => self.at += if self.peek(1) == Some(b'\r') { 3 } else { 2 },
                b'#' if !inside => self.comment(),
                _ => {
                    if !inside {
                        words.push(Word::default());
                    }
                    inside = true;
                    self.character(words.last_mut().expect("BUG: it was pushed"));
                    continue;
                }
            }
            inside = false;
            if byte == b'\\' {
                self.line += 1;
            }
        }
        words
    }

    /// Is the backslash so far ahead the last of its line?
    fn joins_lines(&self, ahead: usize) -> bool {
        match self.peek(ahead + 1) {
            Some(b'\n') => true,
            Some(b'\r') => self.peek(ahead + 2) == Some(b'\n'),
            _ => false,
        }
    }

    /// Up to the end of the line, which stays.
    fn comment(&mut self) {
        while self.peek(0).is_some_and(|byte| byte != b'\n') {
            if self.peek(0) == Some(b'\\') && self.joins_lines(0) {
                self.at += if self.peek(1) == Some(b'\r') { 2 } else { 1 };
                self.line += 1;
            }
            self.at += 1;
        }
    }

    /// One character of a name, or a row of backslashes with what it escapes.
    fn character(&mut self, word: &mut Word) {
        match (self.peek(0), self.peek(1)) {
            (Some(b'\\'), _) => self.backslashes(word),
            (Some(b'$'), Some(b'$')) => {
                word.bytes.push(b'$');
                self.at += 2;
            }
            (Some(byte), _) => {
                if byte == b':' {
                    word.colons.push(word.bytes.len());
                }
                word.bytes.push(byte);
                self.at += 1;
            }
            (None, _) => {}
        }
    }

    /// Before a space, tab or `#` two stand for one, and an odd one makes it part of the name; a single one before
    /// a colon does; any others are what they are.
    fn backslashes(&mut self, word: &mut Word) {
        let mut count = self.text[self.at..].iter().take_while(|byte| **byte == b'\\').count();
        if self.joins_lines(count - 1) {
            // The last of them is for the line.
            count -= 1;
        }
        self.at += count;
        match self.peek(0) {
            Some(escaped @ (b' ' | b'\t' | b'#')) => {
                word.bytes.extend(std::iter::repeat_n(b'\\', count / 2));
                if count % 2 == 1 {
                    word.bytes.push(escaped);
                    self.at += 1;
                }
            }
            Some(b':') if count == 1 => {
                word.bytes.push(b':');
                self.at += 1;
            }
            _ => word.bytes.extend(std::iter::repeat_n(b'\\', count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn names(text: &[u8]) -> Vec<String> {
        parse(text).unwrap().iter().map(|path| path.as_os_str().as_bytes().escape_ascii().to_string()).collect()
    }

    #[test]
    fn what_gcc_writes_with_mmd_and_mp() {
        let text = b"out/my\\ main.o: src/my\\ main.c src/a\\#b.h src/c$$d.h \\\n /usr/include/stdio.h src/e\\\\f.h\nsrc/a\\#b.h:\n\nsrc/c$$d.h:\n\n/usr/include/stdio.h:\n";
        assert_eq!(
            names(text),
            ["/usr/include/stdio.h", "src/a#b.h", "src/c$d.h", "src/e\\\\\\\\f.h", "src/my main.c"]
        );
    }

    #[test]
    fn what_clang_writes() {
        assert_eq!(names(b"a.o: a.c \\\n  dir\\ b/x.h \\\n  c.h\n"), ["a.c", "c.h", "dir b/x.h"]);
    }

    #[test]
    fn what_rustc_writes_as_dep_info() {
        let text = b"target/debug/x: src/main.rs src/with\\ space.rs\n\ntarget/debug/x.d: src/main.rs src/with\\ space.rs\n\nsrc/main.rs:\nsrc/with\\ space.rs:\n\n# env-dep:CARGO_PKG_NAME=x\n# env-dep:NOT_SET\n";
        assert_eq!(names(text), ["src/main.rs", "src/with space.rs"]);
    }

    #[test]
    fn several_rules_several_targets_and_words_on_their_own_lines() {
        assert_eq!(
            names(b"a b : \\\n\\\n c\\\n\nd: e\r\nf:g h\r\ni:: j\nk \\\nl: m | n"),
            ["c", "e", "g", "h", "j", "m", "n"]
        );
    }

    #[test]
    fn a_colon_inside_a_name_does_not_end_the_targets() {
        assert_eq!(names(b"a:b.o: c:d.h e\\:f.h"), ["c:d.h", "e:f.h"]);
        assert_eq!(names(b"a\\:b: c"), ["c"]);
    }

    #[test]
    fn rows_of_backslashes_are_halved_before_a_space_only() {
        let found = parse(br"t: a\\\ b c\\ d \e\\f").unwrap();
        let found: Vec<&str> = found.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(found, [r"\e\\f", r"a\ b", r"c\", "d"]);
    }

    #[test]
    fn names_need_not_be_utf_8() {
        assert_eq!(names(b"t: \xff\xfe.h"), ["\\xff\\xfe.h"]);
    }

    #[test]
    fn commands_comments_and_empty_files_name_nothing() {
        assert_eq!(names(b""), [""; 0]);
        assert_eq!(names(b"\n \n# x: y \\\n z\nt: # a\n\tcc $< \\\n more: z\n"), [""; 0]);
    }

    #[test]
    fn a_line_without_a_colon_is_said() {
        assert_eq!(parse(b"a: b \\\n c\n\nd e\n"), Err(NoRule { line: 4 }));
        assert_eq!(parse(b"\x7fELF\n"), Err(NoRule { line: 1 }));
    }

    #[test]
    fn any_bytes_end() {
        let alphabet = b"\\\\\\ \t\n\r:#$|ab\xff";
        let mut seed = 1u64;
        for _ in 0..200_000 {
            let mut text = Vec::new();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut bits = seed;
            for _ in 0..(seed >> 60) {
                text.push(alphabet[(bits >> 40) as usize % alphabet.len()]);
                bits = bits.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            }
            let _ = parse(&text);
        }
    }

    /// What a compiler is told to write can be read back, whatever the names.
    #[test]
    fn names_escaped_as_gcc_does_come_back() {
        let written = |name: &str| {
            let mut text = String::new();
            for (i, c) in name.char_indices() {
                match c {
                    ' ' | '\t' => {
                        let before = name[..i].bytes().rev().take_while(|b| *b == b'\\').count();
                        text.push_str(&"\\".repeat(before + 1));
                    }
                    '$' => text.push('$'),
                    '#' => text.push('\\'),
                    _ => {}
                }
                text.push(c);
            }
            text
        };
        for name in ["a b", "a\\ b", "a\\b", "#x", "$", "a$b c", "x\\\\ y", "é ü", "tab\there"] {
            let text = format!("out.o: {} next.h\n", written(name));
            assert!(parse(text.as_bytes()).unwrap().contains(&PathBuf::from(name)), "{text}");
        }
    }
}
