//! The syntax of `{{ … }}`: where the pieces of a string are and which names they use.
//!
//! Only `{{ … }}` is syntax. There are no blocks and no comments, since `${#a}` and `{%` occur in shell
//! and awk. A literal `{{` is written `{{ "{{" }}`. What stands inside is a name, or for everything else
//! (`{{ vars.list | join(",") }}`, `{{ "-m32" if target.arch == "i686" else "" }}`) an expression of
//! minijinja. Names are found here, without minijinja, because nearly all pieces are just names and a
//! manifest may have ten thousands of them.

use std::ops::Range;
use std::sync::LazyLock;

use minijinja::{Environment, Expression, UndefinedBehavior};

/// A part of a string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece<'t> {
    Literal(&'t str),
    /// `{{ name }}`; the range is that of the name in the string.
    Name(Name<'t>, Range<usize>),
    /// Anything else between the braces.
    Expression(&'t str, Range<usize>),
}

/// What can be named.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Name<'t> {
    Task,
    StepSource,
    StepBuild,
    Target,
    TargetTriple,
    TargetArch,
    TargetOs,
    HostTriple,
    SysrootPrefix,
    ToolchainConfigure,
    ToolchainMeson,
    ToolchainCmake,
    Var(&'t str),
    Args,
    Jobs,
}

/// All names but those of variables.
pub const NAMES: [(&str, Name<'static>); 14] = [
    ("task.name", Name::Task),
    ("step.source", Name::StepSource),
    ("step.build", Name::StepBuild),
    ("target.name", Name::Target),
    ("target.triple", Name::TargetTriple),
    ("target.arch", Name::TargetArch),
    ("target.os", Name::TargetOs),
    ("host.triple", Name::HostTriple),
    ("sysroot.prefix", Name::SysrootPrefix),
    ("toolchain.configure", Name::ToolchainConfigure),
    ("toolchain.meson", Name::ToolchainMeson),
    ("toolchain.cmake", Name::ToolchainCmake),
    ("args", Name::Args),
    ("jobs", Name::Jobs),
];

impl<'t> Name<'t> {
    /// `None`: there is no such name (a variable may still be undefined).
    pub fn parse(text: &'t str) -> Option<Self> {
        if let Some(var) = text.strip_prefix("vars.") {
            return is_identifier(var).then_some(Self::Var(var));
        }
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, name)| *name)
    }
}

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Var(var) => write!(f, "vars.{var}"),
            other => f.write_str(NAMES.iter().find(|(_, name)| name == other).map_or("", |(text, _)| text)),
        }
    }
}

/// What is wrong in a template and where in the string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    pub message: String,
    pub at: Range<usize>,
    /// Of a name that does not exist: what was written.
    pub unknown: Option<String>,
}

impl SyntaxError {
    fn new(message: impl Into<String>, at: Range<usize>) -> Self {
        Self { message: message.into(), at, unknown: None }
    }

    fn unknown(name: &str, at: Range<usize>) -> Self {
        Self { message: format!("there is no name `{name}`"), at, unknown: Some(name.to_owned()) }
    }
}

/// The parts of a string, in order.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, SyntaxError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find("{{").map(|i| at + i) {
        if open > at {
            pieces.push(Piece::Literal(&text[at..open]));
        }
        let Some(close) = find_end(text, open + 2) else {
            return Err(SyntaxError::new("`{{` is never closed", open..open + 2));
        };
        pieces.push(piece(text, open + 2..close)?);
        at = close + 2;
    }
    if at < text.len() {
        pieces.push(Piece::Literal(&text[at..]));
    }
    Ok(pieces)
}

/// The `}}` that ends an expression: not inside quotes, and not one that closes a brace of its own.
fn find_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut quote) = (start, 0usize, None);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'{') => depth += 1,
            (None, b'}') if depth > 0 => depth -= 1,
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (None, _) => {}
        }
        at += 1;
    }
    None
}

fn piece(text: &str, range: Range<usize>) -> Result<Piece<'_>, SyntaxError> {
    let inner = &text[range.clone()];
    let trimmed = inner.trim();
    let start = range.start + (inner.len() - inner.trim_start().len());
    let at = start..start + trimmed.len();
    if trimmed.is_empty() {
        return Err(SyntaxError::new("there is nothing between `{{` and `}}`", range.start - 2..range.end + 2));
    }
    match Name::parse(trimmed) {
        Some(name) => Ok(Piece::Name(name, at)),
        None if trimmed.split('.').all(is_identifier) => Err(SyntaxError::unknown(trimmed, at)),
        None => Ok(Piece::Expression(trimmed, at)),
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// One for all: making one fills tables of filters.
static JINJA: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_debug(true); // for the places of errors
    environment
});

/// An expression, compiled, and the names that it uses.
pub struct Compiled<'t> {
    pub expression: Expression<'t, 't>,
    pub names: Vec<Name<'t>>,
}

/// minijinja's parser takes some of our stack for each `-` or `not`, without a limit of its own.
const MAX_EXPRESSION: usize = 1000;

/// Compiles what is in [`Piece::Expression`].
pub fn compile(text: &str, at: Range<usize>) -> Result<Compiled<'_>, SyntaxError> {
    if text.len() > MAX_EXPRESSION {
        return Err(SyntaxError::new(format!("an expression of more than {MAX_EXPRESSION} bytes"), at));
    }
    let expression = JINJA.compile_expression(text).map_err(|error| {
        let range = error.range().filter(|r| r.start < r.end && text.get(r.clone()).is_some());
        let place = range.map_or(at.clone(), |r| at.start + r.start..at.start + r.end);
        SyntaxError::new(error.detail().unwrap_or("not an expression").to_owned(), place)
    })?;
    let mut used: Vec<String> = expression.undeclared_variables(true).into_iter().collect();
    used.sort();
    let mut names = Vec::with_capacity(used.len());
    for dotted in &used {
        names.push(name_in(text, dotted, &at)?);
    }
    // What minijinja does not tell: the names in a slice (`args[1:]`).
    for (start, word) in dotted_words(text) {
        match Name::parse(word) {
            Some(name) if !names.contains(&name) => names.push(name),
            None if word.starts_with("vars.") || NAMES.iter().any(|(name, _)| same_group(name, word)) => {
                return Err(SyntaxError::unknown(word, at.start + start..at.start + start + word.len()));
            }
            _ => {}
        }
    }
    Ok(Compiled { expression, names })
}

/// Identifiers outside quotes, each with the member that is asked of it (`vars.opt` of `vars.opt.upper`).
fn dotted_words(text: &str) -> Vec<(usize, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut words, mut at, mut quote) = (Vec::new(), 0, None);
    while let Some(c) = text[at..].chars().next() {
        let mut len = c.len_utf8();
        match quote {
            Some(_) if c == '\\' => len += text[at + 1..].chars().next().map_or(0, char::len_utf8),
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if is_part(c) => {
                let rest = &text[at..];
                let mut ends = rest.match_indices(|c| !is_part(c)).map(|(end, found)| (end, found == "."));
                len = match ends.next() {
                    Some((_, true)) => ends.next().map_or(rest.len(), |(end, _)| end),
                    Some((end, false)) => end,
                    None => rest.len(),
                };
                if !text[..at].ends_with('.') {
                    words.push((at, &rest[..len]));
                }
            }
            None => {}
        }
        at += len;
    }
    words
}

/// `step.x` is in the group of `step.source`.
fn same_group(name: &str, word: &str) -> bool {
    matches!((name.split_once('.'), word.split_once('.')), (Some((a, _)), Some((b, _))) if a == b)
}

/// The name at the beginning of `vars.opt.upper` (a method), as a part of the text of the expression.
fn name_in<'t>(text: &'t str, dotted: &str, at: &Range<usize>) -> Result<Name<'t>, SyntaxError> {
    let parts = if dotted == "args" || dotted == "jobs" || dotted.starts_with("args.") { 1 } else { 2 };
    let end = dotted.match_indices('.').nth(parts - 1).map_or(dotted.len(), |(end, _)| end);
    let wanted = &dotted[..end];
    match text.find(wanted) {
        Some(found) => {
            let name = &text[found..found + wanted.len()];
            Name::parse(name)
                .ok_or_else(|| SyntaxError::unknown(wanted, at.start + found..at.start + found + name.len()))
        }
        None => NAMES.iter().find(|(name, _)| *name == wanted).map(|(_, name)| *name).ok_or_else(|| {
            SyntaxError::new(format!("`{wanted}` must be written in full, with nothing inside the name"), at.clone())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_double_braces_are_syntax() {
        let shell = "echo ${#a} ${a#x} {% x %} {# y #} ${a:-{}} }} $((1+2)) # comment";
        assert_eq!(pieces(shell), Ok(vec![Piece::Literal(shell)]));
    }

    #[test]
    fn a_name_is_found_with_its_place() {
        assert_eq!(
            pieces("a{{ vars.opt }}b{{args}}").unwrap(),
            [
                Piece::Literal("a"),
                Piece::Name(Name::Var("opt"), 4..12),
                Piece::Literal("b"),
                Piece::Name(Name::Args, 18..22)
            ]
        );
    }

    #[test]
    fn quotes_and_braces_inside_an_expression_do_not_end_it() {
        for text in [r#"{{ "}}" }}"#, "{{ '}}' }}", r#"{{ "a\"}}" }}"#, "{{ {'a': {'b': 1}}['a'] }}", r#"{{ "{{" }}"#] {
            let found = pieces(text).unwrap();
            assert!(matches!(&found[..], [Piece::Expression(..)]), "{text}: {found:?}");
        }
    }

    #[test]
    fn mistakes_are_placed_inside_the_string() {
        let place = |text: &str| pieces(text).unwrap_err();
        assert_eq!(place("make {{ vars.x").at, 5..7);
        assert_eq!(place("make {{ }}").at, 5..10);
        assert_eq!(place("make {{ taks.name }}").at, 8..17);
        assert_eq!(place("make {{ vars }}").unknown.as_deref(), Some("vars"));
        let expression = |text: &'static str| compile(text, 10..10 + text.len()).err().unwrap();
        assert_eq!(expression("vars.a ~ foo.bar").at, 19..26);
        assert_eq!(expression("vars.a ~").message, "unexpected end of input, expected expression");
    }

    #[test]
    fn names_in_expressions_are_known() {
        let text = "vars.list | join(',') ~ vars.opt.upper() ~ args[0]";
        let compiled = compile(text, 0..text.len()).unwrap();
        assert_eq!(compiled.names, [Name::Args, Name::Var("list"), Name::Var("opt")]);
    }

    #[test]
    fn names_in_slices_are_known_too() {
        let names = |text: &'static str| compile(text, 0..text.len()).map(|c| c.names);
        assert_eq!(names("vars.list[1:] + args[:2]"), Ok(vec![Name::Var("list"), Name::Args]));
        assert_eq!(names("'vars.a' ~ \"\\\"args\""), Ok(vec![]));
        assert_eq!(names("step.surce[1:]").unwrap_err().at, 0..10);
    }

    #[test]
    fn a_name_that_is_shown_is_the_one_that_was_parsed() {
        for (text, name) in NAMES {
            assert_eq!((Name::parse(text), name.to_string().as_str()), (Some(name), text));
        }
    }
}
