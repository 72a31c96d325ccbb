//! TOML with spans. The parser recovers, so one file can have several syntax errors.

use toml::Spanned as TomlSpanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use crate::base::span::{FileId, Span};

/// A value and where it stands.
pub type Value<'i> = TomlSpanned<DeValue<'i>>;

pub fn span(file: FileId, range: std::ops::Range<usize>) -> Span {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { file, start: offset(range.start), end: offset(range.end) }
}

/// The top table, as far as it could be read.
pub fn parse<'t>(file: FileId, text: &'t str, problems: &mut Vec<Problem>) -> DeTable<'t> {
    let (table, errors) = DeTable::parse_recoverable(text);
    problems.extend(errors.iter().map(|error| syntax_problem(file, text, error)));
    table.into_inner()
}

fn syntax_problem(file: FileId, text: &str, error: &toml::de::Error) -> Problem {
    let range = error.span().unwrap_or(0..0);
    let (start, end) = (range.start.min(text.len()), range.end.min(text.len()));
    if error.message() == "duplicate key" && text.get(start..end).is_some() {
        return duplicate(file, text, start..end);
    }
    let message = error.message().replace('\n', "; ");
    Problem::new("bcache::manifest::syntax", format!("not TOML: {message}"), span(file, start..end)).label("here")
}

/// The parser says only where the second one is. The first is looked for by its text.
fn duplicate(file: FileId, text: &str, range: std::ops::Range<usize>) -> Problem {
    let name = &text[range.clone()];
    let line_start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default().trim();
    let problem = Problem::new(
        "bcache::manifest::defined_twice",
        format!("`{}` is defined twice", header_path(line).unwrap_or(name)),
        span(file, range.clone()),
    )
    .label("second definition");
    let first = match header_path(line) {
        Some(path) => lines(&text[..line_start]).find(|(_, l)| header_path(l.trim()) == Some(path)),
        None => same_key_before(text, line_start, &range),
    };
    match first {
        Some((at, line)) => problem.related(span(file, at..at + line.trim_end().len()), "first definition"),
        None => problem,
    }
}

/// The same key earlier in its line (an inline table), or in a line above of the same table.
fn same_key_before<'t>(text: &'t str, line_start: usize, range: &std::ops::Range<usize>) -> Option<(usize, &'t str)> {
    let name = &text[range.clone()];
    let is_key = |(at, _): &(usize, &str)| text[at + name.len()..].trim_start().starts_with('=');
    let in_line = text[line_start..range.start].rmatch_indices(name).map(|(at, found)| (line_start + at, found));
    in_line.filter(is_key).last().or_else(|| {
        let above: Vec<_> = lines(&text[..line_start]).collect();
        let in_table = above.into_iter().rev().take_while(|(_, l)| !l.starts_with('['));
        in_table.into_iter().find(|(_, l)| l.split('=').next().is_some_and(|key| key.trim() == name))
    })
}

/// Lines with the places where they begin.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (start, line)
    })
}

/// `tasks.a` of `[tasks.a]  # comment`.
fn header_path(line: &str) -> Option<&str> {
    let (path, _) = line.strip_prefix('[')?.split_once(']')?;
    Some(path.trim())
}

/// The type of a value, as in `not an integer`.
pub fn type_of(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
