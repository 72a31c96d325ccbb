//! What steps print, made fit to stand among our own lines.
//!
//! - Colours are kept where we print colours too; all other escape sequences and control characters go: a
//!   step must not move the cursor through our live lines or leave the terminal in another character set.
//! - Pieces are put together to whole lines, so that lines of two steps never mix and no character is cut
//!   in two. Of a line that was drawn over with carriage returns the last state is kept.

use crate::base::ids::StepId;
use crate::event::Stream;

/// A line longer than this is passed on in pieces.
const LONGEST: usize = 64 * 1024;

/// Lines that are not complete yet, per step and stream.
#[derive(Debug, Default)]
pub struct Lines {
    open: Vec<(StepId, Stream, Vec<u8>)>,
}

impl Lines {
    /// The lines that `bytes` completes, with their ends. Empty: none.
    pub fn add(&mut self, step: &StepId, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let at = match self.open.iter().position(|(s, t, _)| s == step && *t == stream) {
            Some(at) => at,
            None => {
                self.open.push((step.clone(), stream, Vec::new()));
                self.open.len() - 1
            }
        };
        let open = &mut self.open[at].2;
        // Only the new bytes are searched: a long line in many pieces stays cheap.
        let end = match bytes.iter().rposition(|&b| b == b'\n') {
            Some(end) => open.len() + end + 1,
            None if open.len() + bytes.len() > LONGEST => open.len() + bytes.len(),
            None => 0,
        };
        open.extend_from_slice(bytes);
        let rest = open.split_off(end);
        std::mem::replace(open, rest)
    }

    /// What is left of a step that ended.
    pub fn end(&mut self, step: &StepId) -> Vec<(Stream, Vec<u8>)> {
        let (ended, open) = std::mem::take(&mut self.open).into_iter().partition(|(s, _, _)| s == step);
        self.open = open;
        ended.into_iter().map(|(_, stream, bytes)| (stream, bytes)).filter(|(_, bytes)| !bytes.is_empty()).collect()
    }
}

/// `output` as whole lines that are safe to print.
pub fn safe(output: &[u8], color: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(output.len() + 8);
    for line in output.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        safe_line(line, color, &mut text);
        text.push(b'\n');
    }
    text
}

/// The same with a prefix before every line.
pub fn prefixed(output: &[u8], prefix: &str, color: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(output.len() + 32);
    for line in safe(output, color).split_inclusive(|&b| b == b'\n') {
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(line);
    }
    text
}

fn safe_line(line: &[u8], color: bool, text: &mut Vec<u8>) {
    let end = line.iter().rposition(|&b| b != b'\r').map_or(0, |last| last + 1);
    let begin = line[..end].iter().rposition(|&b| b == b'\r').map_or(0, |cr| cr + 1);
    let mut rest = &line[begin..end];
    let mut colored = false;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == 0x1b {
            let sequence = sequence(rest);
            if color && sequence.starts_with(b"\x1b[") && sequence.ends_with(b"m") {
                text.extend_from_slice(sequence);
                colored = true;
            }
            rest = &rest[sequence.len()..];
        } else {
            if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) {
                text.push(byte);
            }
            rest = after;
        }
    }
    if colored {
        text.extend_from_slice(b"\x1b[0m");
    }
}

/// The escape sequence at the beginning of `bytes`.
fn sequence(bytes: &[u8]) -> &[u8] {
    let rest = &bytes[1..];
    let len = match rest.first() {
        // A control sequence ends with a letter or the like; anything else in it is no part of one.
        Some(b'[') => match rest[1..].iter().position(|b| !(0x20..=0x3f).contains(b)) {
            Some(at) if (0x40..=0x7e).contains(&rest[1 + at]) => 2 + at,
            Some(at) => 1 + at,
            None => rest.len(),
        },
        // A string (a title, a link) ends with BEL or ESC \.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => match rest.iter().position(|b| matches!(b, 0x07 | 0x1b)) {
            Some(at) if rest[at] == 0x07 => at + 1,
            Some(at) if rest.get(at + 1) == Some(&b'\\') => at + 2,
            Some(at) => at,
            None => rest.len(),
        },
        // Such as the choice of a character set: intermediate bytes, then one.
        Some(0x20..=0x2f) => rest.iter().position(|b| !(0x20..=0x2f).contains(b)).map_or(rest.len(), |at| at + 1),
        Some(0x30..=0x7e) => 1,
        _ => 0,
    };
    &bytes[..1 + len]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(output: &str) -> String {
        String::from_utf8(safe(output.as_bytes(), false)).unwrap()
    }

    #[test]
    fn only_colors_survive_and_only_where_they_are_wanted() {
        let output =
            "\x1b[1;31mred\x1b[2J\x1b[Hbold\x1b]0;title\x07 \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x1b(0\x1bcend";
        assert_eq!(plain(output), "redbold linkend\n");
        let colored = String::from_utf8(safe(output.as_bytes(), true)).unwrap();
        assert_eq!(colored, "\x1b[1;31mredbold linkend\x1b[0m\n");
    }

    #[test]
    fn broken_sequences_lose_nothing_but_themselves() {
        assert_eq!(plain("a\x1b"), "a\n");
        assert_eq!(plain("a\x1b[1"), "a\n");
        assert_eq!(plain("a\x1b[1é"), "aé\n");
        assert_eq!(plain("a\x1b\x1b[mb"), "ab\n");
        assert_eq!(plain("a\x1b]never ended\nb"), "a\nb\n");
        assert_eq!(plain("\x1b["), "\n");
        assert_eq!(safe(b"\xff\x1b\xff\n", true), b"\xff\xff\n");
    }

    #[test]
    fn of_a_line_drawn_over_the_last_state_is_kept() {
        assert_eq!(plain("10 %\r50 %\r100 %\r\nnext\r\n\r\n"), "100 %\nnext\n\n");
    }

    #[test]
    fn control_characters_are_dropped_and_tabs_are_not() {
        assert_eq!(plain("a\x07\tb\x0e\x08\x7f"), "a\tb\n");
        assert_eq!(plain(""), "");
    }

    #[test]
    fn lines_are_passed_on_when_they_are_complete() {
        let (a, b) = (StepId::new("a", "host"), StepId::new("b", "host"));
        let mut lines = Lines::default();
        assert_eq!(lines.add(&a, Stream::Stdout, b"one\ntw"), b"one\n");
        assert_eq!(lines.add(&b, Stream::Stdout, b"other"), b"");
        assert_eq!(lines.add(&a, Stream::Stderr, b"err"), b"");
        assert_eq!(lines.add(&a, Stream::Stdout, b"o\nthree"), b"two\n");
        assert_eq!(lines.end(&a), [(Stream::Stdout, b"three".to_vec()), (Stream::Stderr, b"err".to_vec())]);
        assert_eq!(lines.end(&a), []);
        assert_eq!(lines.end(&b), [(Stream::Stdout, b"other".to_vec())]);
    }

    #[test]
    fn a_line_without_end_is_not_kept_for_ever() {
        let a = StepId::new("a", "host");
        let mut lines = Lines::default();
        assert!(lines.add(&a, Stream::Stdout, &[b'x'; LONGEST]).is_empty());
        assert_eq!(lines.add(&a, Stream::Stdout, b"y").len(), LONGEST + 1);
        assert_eq!(lines.end(&a), []);
    }
}
