//! Words and small pieces of text that the human report is made of.

use std::borrow::Cow;
use std::time::Duration;

use crate::base::ids::{HOST, StepId};
use crate::base::text;

/// A past duration as an estimate: `12 ms`, `3 s`, `14 min`, `2h 05m`.
pub fn roughly(d: Duration) -> String {
    let seconds = (d.as_millis() + 500) / 1000;
    let minutes = (seconds + 30) / 60;
    match (seconds, minutes) {
        _ if d.as_secs() == 0 => text::duration(d),
        (0..60, _) => format!("{seconds} s"),
        (_, 0..60) => format!("{minutes} min"),
        _ => format!("{}h {:02}m", minutes / 60, minutes % 60),
    }
}

/// How the step is typed: the host needs no mention.
pub fn typed(step: &StepId) -> String {
    if *step.target == *HOST { step.task.to_string() } else { step.to_string() }
}

/// Text of others on one line: control characters as they are written in source code.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    Cow::Owned(line)
}

/// `label: text`, further lines of the text under its first; other control characters are escaped.
pub fn labelled(indent: usize, label: &str, text: &str) -> String {
    let mut block = String::new();
    let under = indent + label.chars().count() + 2;
    for (i, line) in text.trim_end_matches('\n').split('\n').enumerate() {
        match i {
            0 => block.push_str(&format!("{:indent$}{label}: {}\n", "", one_line(line))),
            _ if line.is_empty() => block.push('\n'),
            _ => block.push_str(&format!("{:under$}{}\n", "", one_line(line))),
        }
    }
    block
}

/// `a, b and 3 more`, naming at most `limit`.
pub fn some_of<T: std::fmt::Display>(things: &[T], limit: usize) -> String {
    let named = things.iter().take(limit).map(T::to_string).collect::<Vec<_>>().join(", ");
    match things.len().saturating_sub(limit) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_has_no_more_figures_than_it_deserves() {
        let shown = |ms| roughly(Duration::from_millis(ms));
        assert_eq!([shown(12), shown(999), shown(1_000), shown(59_499)], ["12 ms", "999 ms", "1 s", "59 s"]);
        assert_eq!([shown(59_500), shown(846_000), shown(3_569_000)], ["1 min", "14 min", "59 min"]);
        assert_eq!([shown(3_570_000), shown(7_500_000)], ["1h 00m", "2h 05m"]);
    }

    #[test]
    fn control_characters_cannot_break_a_line() {
        assert_eq!(one_line("a b é"), "a b é");
        assert_eq!(one_line("a\nb\x1b[2J"), "a\\nb\\u{1b}[2J");
    }

    #[test]
    fn further_lines_stand_under_the_first() {
        assert_eq!(labelled(2, "command", "make\n\nmake install\n"), "  command: make\n\n           make install\n");
        assert_eq!(labelled(0, "warning", ""), "warning: \n");
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        assert_eq!(some_of(&["a", "b"], 2), "a, b");
        assert_eq!(some_of(&["a", "b", "c"], 2), "a, b and 1 more");
    }
}
