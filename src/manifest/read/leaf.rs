//! Strings, numbers, lists of strings, environments and variables.

use std::time::Duration;

use toml::de::{DeInteger, DeValue};

use super::super::document::Value;
use super::super::error::Problem;
use super::super::keys::{Key, Takes};
use super::super::model::{Env, HostChoice, Text, Var};
use super::{Pair, Reader};
use crate::base::span::Spanned;

impl Reader<'_> {
    /// A string in which `{{ … }}` is expanded; it has no NUL, which no path or argument can hold.
    pub(super) fn text_in(&mut self, key: &Key, value: &Value<'_>) -> Option<Text> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value);
            return None;
        };
        let span = self.span_of(value);
        if text.contains('\0') {
            self.bad_value(format!("the string in `{}` holds a NUL character", key.name), span, "");
            return None;
        }
        Some(Spanned::new(text.to_owned(), span))
    }

    pub(super) fn text(&mut self, pair: &Pair) -> Option<Text> {
        self.text_in(pair.key, pair.value)
    }

    /// A path, a glob or a name: a string that is not empty.
    pub(super) fn path(&mut self, pair: &Pair) -> Option<Text> {
        self.path_in(pair.key, pair.value)
    }

    pub(super) fn path_in(&mut self, key: &Key, value: &Value<'_>) -> Option<Text> {
        let text = self.text_in(key, value)?;
        if text.trim().is_empty() {
            self.bad_value(format!("the string in `{}` is empty", key.name), text.span, "");
            return None;
        }
        Some(text)
    }

    /// A string that is taken as it is. A `{{` in it would be a silent mistake.
    pub(super) fn plain_in(&mut self, key: &Key, value: &Value<'_>) -> Option<Spanned<String>> {
        let plain = self.path_in(key, value)?;
        if plain.contains("{{") {
            self.bad_value(format!("`{{{{ … }}}}` is not expanded in `{}`", key.name), plain.span, "");
            return None;
        }
        Some(plain)
    }

    pub(super) fn plain(&mut self, pair: &Pair) -> Option<Spanned<String>> {
        self.plain_in(pair.key, pair.value)
    }

    /// Text for people: as it is, `{{` and all.
    pub(super) fn prose(&mut self, pair: &Pair) -> Option<String> {
        self.text(pair).map(|text| text.value)
    }

    /// One value, or the values of a list.
    pub(super) fn one_or_list<'t, 'i>(&self, pair: &Pair<'t, 'i>) -> &'t [Value<'i>] {
        match pair.value.get_ref() {
            DeValue::Array(list) => list,
            _ => std::slice::from_ref(pair.value),
        }
    }

    pub(super) fn plains(&mut self, pair: &Pair) -> Vec<Spanned<String>> {
        self.one_or_list(pair).iter().filter_map(|value| self.plain_in(pair.key, value)).collect()
    }

    pub(super) fn paths(&mut self, pair: &Pair) -> Vec<Text> {
        self.one_or_list(pair).iter().filter_map(|value| self.path_in(pair.key, value)).collect()
    }

    pub(super) fn env_names(&mut self, pair: &Pair) -> Vec<Spanned<String>> {
        let names = self.plains(pair);
        names.into_iter().filter(|name| self.is_env_name(name)).collect()
    }

    /// Says where it is none.
    pub(super) fn is_env_name(&mut self, name: &Spanned<String>) -> bool {
        let good = is_identifier(name);
        if !good {
            let message = format!("`{}` is no name for an environment variable", name.value);
            self.problems.push(Problem::new("bcache::manifest::bad_name", message, name.span));
        }
        good
    }

    /// Names of packages, or `false`.
    pub(super) fn host(&mut self, pair: &Pair) -> Option<HostChoice> {
        if let DeValue::Boolean(false) = pair.value.get_ref() {
            return Some(HostChoice::Off);
        }
        let values = self.one_or_list(pair);
        let names: Vec<_> = values.iter().filter_map(|value| self.plain_in(pair.key, value)).collect();
        Some(HostChoice::Named(names.into_iter().map(|name| name.value).collect()))
    }

    pub(super) fn bool(&mut self, pair: &Pair) -> Option<bool> {
        let value = pair.value.get_ref().as_bool();
        if value.is_none() {
            self.wrong_type(pair.key, pair.value);
        }
        value
    }

    pub(super) fn number(&mut self, pair: &Pair) -> Option<u32> {
        let DeValue::Integer(written) = pair.value.get_ref() else {
            self.wrong_type(pair.key, pair.value);
            return None;
        };
        let Takes::Number(least) = pair.key.takes else { panic!("BUG: `{}` is read as a number", pair.key.name) };
        let number = u32::from_str_radix(written.as_str(), written.radix()).ok().filter(|n| *n >= least);
        if number.is_none() {
            let message = format!("`{}` takes a whole number from {least} to {}", pair.key.name, u32::MAX);
            self.bad_value(message, self.span_of(pair.value), "");
        }
        number
    }

    pub(super) fn duration(&mut self, pair: &Pair) -> Option<Duration> {
        let text = self.plain(pair)?;
        let duration = parse_duration(&text).filter(|d| !d.is_zero());
        if duration.is_none() {
            self.bad_value(
                format!("`{}` is no length of time", text.value),
                text.span,
                "write it as `45s`, `10m`, `1h30m` or `500ms`",
            );
        }
        duration
    }

    pub(super) fn sha256(&mut self, pair: &Pair) -> Option<Spanned<String>> {
        let text = self.plain(pair)?;
        if text.len() != 64 || !text.chars().all(|c| c.is_ascii_hexdigit()) {
            let problem = Problem::new("bcache::manifest::bad_value", "this is no SHA-256 checksum", text.span);
            self.problems.push(problem.label(format!("{} of 64 hexadecimal digits", hex_digits(&text))));
            return None;
        }
        Some(Spanned::new(text.to_ascii_lowercase(), text.span))
    }

    pub(super) fn commit(&mut self, pair: &Pair) -> Option<Spanned<String>> {
        let text = self.plain(pair)?;
        if !(7..=64).contains(&text.len()) || hex_digits(&text) != text.len() {
            let help = "branches and tags move: write the commit that is meant";
            self.bad_value(format!("`{}` is no commit", text.value), text.span, help);
            return None;
        }
        Some(Spanned::new(text.to_ascii_lowercase(), text.span))
    }

    pub(super) fn env(&mut self, pair: &Pair) -> Env {
        let Some(table) = self.table(pair) else { return Env::new() };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut env = Env::with_capacity(entries.len());
        for (name, value) in entries {
            let name = Spanned::new(name.get_ref().to_string(), self.span_of(name));
            let value = self.scalar(pair.key, value);
            if self.is_env_name(&name) {
                env.extend(value.map(|value| (name.value, value)));
            }
        }
        env
    }

    pub(super) fn vars(&mut self, pair: &Pair) -> Vec<(Spanned<String>, Var)> {
        let Some(table) = self.table(pair) else { return Vec::new() };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut vars = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let name = Spanned::new(name.get_ref().to_string(), self.span_of(name));
            if !is_identifier(&name) {
                let message = format!("`{}` is no name for a variable", name.value);
                let problem = Problem::new("bcache::manifest::bad_name", message, name.span);
                self.problems.push(problem.help("letters, digits and `_`, not a digit first"));
            }
            let var = match value.get_ref() {
                DeValue::Array(list) => Var::List(list.iter().filter_map(|item| self.scalar(pair.key, item)).collect()),
                // A wrong one is kept as empty, so that those who use it don't look wrong too.
                _ => Var::Text(self.scalar(pair.key, value).unwrap_or_else(|| Text::new(String::new(), name.span))),
            };
            vars.push((name, var));
        }
        vars
    }

    /// A string; numbers and booleans are taken as their text.
    fn scalar(&mut self, key: &Key, value: &Value<'_>) -> Option<Text> {
        let text = match value.get_ref() {
            DeValue::Integer(n) => integer_text(n),
            DeValue::Float(n) => n.as_str().to_owned(),
            DeValue::Boolean(b) => b.to_string(),
            _ => return self.text_in(key, value),
        };
        Some(Spanned::new(text, self.span_of(value)))
    }
}

/// As it was written, without `_`.
fn integer_text(n: &DeInteger<'_>) -> String {
    n.to_string()
}

fn hex_digits(text: &str) -> usize {
    text.chars().filter(char::is_ascii_hexdigit).count()
}

pub(super) fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `10m`, `1h30m`, `45s`, `500ms`: whole numbers with units, the larger first.
fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let (mut rest, mut total, mut larger) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, millis) = UNITS.into_iter().find(|(unit, _)| *unit == &rest[..unit_len])?;
        if millis >= larger {
            return None;
        }
        larger = millis;
        total = total.checked_add(number.checked_mul(millis)?)?;
        rest = &rest[unit_len..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units_that_get_smaller() {
        let millis = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(millis("10m"), Some(600_000));
        assert_eq!(millis("1h30m"), Some(5_400_000));
        assert_eq!(millis("45s"), Some(45_000));
        assert_eq!(millis("1s500ms"), Some(1500));
        for bad in ["", "10", "m", "10x", "1m1h", "1m1m", "-1s", "1.5h", "1 m", "99999999999999999999h", "9e9s"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }
}
