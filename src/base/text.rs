//! Text for people: sizes, durations, counts, the nearest name, quoting for a shell.

use std::borrow::Cow;
use std::time::Duration;

/// `1 file`, `2 files`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// `812 B`, `1.4 MB`, in powers of 1000.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The beginning of a text that has more bytes than this, and how many more.
pub fn clipped(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{} … ({} more bytes)", &text[..end], text.len() - end)
}

/// An error with its causes, in one line: `could not make `x`: permission denied`.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// `12 ms`, `3.2 s`, `14m 06s`, `2h 05m`.
pub fn duration(d: Duration) -> String {
    let millis = d.as_millis();
    let seconds = d.as_secs();
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{}.{} s", seconds, (millis % 1000) / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The candidate that was probably meant by `word`, if one is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(word.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `word` as one word of a POSIX shell: itself where nothing in it is special, else in single quotes.
pub fn shell_quote(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:+=@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_clipped_between_characters() {
        assert_eq!(clipped("aéb", 4), "aéb");
        assert_eq!(clipped("aéb", 2), "a … (3 more bytes)");
    }

    #[test]
    fn sizes_and_durations_read_naturally() {
        assert_eq!(
            (size(0), size(999), size(1000), size(1_449_000)),
            ("0 B".into(), "999 B".into(), "1.0 kB".into(), "1.4 MB".into())
        );
        assert_eq!(size(999_999), "1.0 MB");
        let d = |ms| duration(Duration::from_millis(ms));
        assert_eq!(
            (d(12), d(3250), d(846_000), d(7_500_000)),
            ("12 ms".into(), "3.2 s".into(), "14m 06s".into(), "2h 05m".into())
        );
    }

    #[test]
    fn only_a_near_name_is_proposed() {
        assert_eq!(nearest("outptus", ["inputs", "outputs"]), Some("outputs"));
        assert_eq!(nearest("glib", ["qemu", "pixman"]), None);
    }

    #[test]
    fn shell_words_survive_quoting() {
        assert_eq!(shell_quote("a/b-c=1"), "a/b-c=1");
        assert_eq!(shell_quote("a b"), "'a b'");
        assert_eq!(shell_quote("it's"), r"'it'\''s'");
        assert_eq!(shell_quote(""), "''");
        assert_eq!(shell_quote("~"), "'~'");
    }
}
