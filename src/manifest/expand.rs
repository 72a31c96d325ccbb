//! `{{ … }}` replaced by values, for one step.
//!
//! What is put in depends on where the string goes:
//!
//! | value | in a shell string | in an argv word | elsewhere |
//! |---|---|---|---|
//! | path (`step.*`, `sysroot.prefix`) | quoted when it needs it | raw | raw |
//! | `args`, `toolchain.*`, a list in `vars` | word by word, each quoted when it needs it | spread where it is the whole word, else joined by spaces | joined by spaces |
//! | a string in `vars`, all else | raw | raw | raw |
//!
//! The result of an expression is quoted in a shell string if it uses a path or `args`. Quoting knows
//! nothing of quotes that stand around the braces in the shell string: `"{{ step.source }}"` in double
//! quotes breaks where the path needs quoting; write it without.
//!
//! Variables may hold templates themselves and are expanded when they are used, with the values of the
//! step that uses them. Strings without `{{` cost one search.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use minijinja::value::{Value as JinjaValue, ValueKind};

use super::error::Problem;
use super::model::{Manifest, Task, Text, Var, Vars};
use super::template::{self, Name, Piece};
use crate::base::span::Span;
use crate::base::text::{shell_quote, size};

const CODE: &str = "bcache::manifest::template";
/// Each variable inside another one takes some of our stack.
const MAX_DEPTH: usize = 64;
/// Bytes that a string may grow to: variables that hold others twice double at each step.
const MAX_LENGTH: usize = 16 << 20;

/// The same for the words of a list.
const MAX_WORDS: usize = 1 << 20;

/// The values that names have for one step.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    pub task_name: &'a str,
    /// `None`: the task has no source.
    pub source: Option<PathBuf>,
    pub build: Option<PathBuf>,
    pub target: TargetFacts,
    pub host_triple: String,
    /// `None`: the task has no sysroot.
    pub prefix: Option<PathBuf>,
    /// `None`: the target has none, and then there are no words for it.
    pub toolchain: Option<ToolchainFacts>,
    /// Already layered, see [`layered_vars`].
    pub vars: Vars,
    /// `None` outside `run TASK -- ARGS`: empty.
    pub args: Option<Vec<String>>,
    /// Put in for `{{ jobs }}`: a marker, since the number is known only after the key.
    pub jobs: String,
}

/// What build systems are to be told of a toolchain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolchainFacts {
    /// For `--host`.
    pub gnu: String,
    pub meson: PathBuf,
    pub cmake: PathBuf,
}

/// What a triple says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetFacts {
    pub name: String,
    /// As written, with zig's glibc version where it has one (`….2.28`).
    pub triple: String,
    /// Its first part.
    pub arch: String,
    /// `linux`, `macos`, `windows` and so on.
    pub os: String,
}

impl TargetFacts {
    pub fn from_triple(name: &str, triple: &str) -> Self {
        let arch = triple.split('-').next().unwrap_or_default();
        Self { name: name.into(), triple: triple.into(), arch: arch.into(), os: os_of(triple).into() }
    }

    /// The machine we run on.
    pub fn host() -> Self {
        Self::from_triple(crate::base::ids::HOST, &host_triple())
    }
}

fn os_of(triple: &str) -> &str {
    const KNOWN: [(&str, &str); 14] = [
        ("android", "android"),
        ("linux", "linux"),
        ("darwin", "macos"),
        ("macos", "macos"),
        ("ios", "ios"),
        ("windows", "windows"),
        ("freebsd", "freebsd"),
        ("netbsd", "netbsd"),
        ("openbsd", "openbsd"),
        ("dragonfly", "dragonfly"),
        ("illumos", "illumos"),
        ("solaris", "solaris"),
        ("wasi", "wasi"),
        ("none", "none"),
    ];
    let parts: Vec<&str> = triple.split('-').skip(1).collect();
    let known = KNOWN.iter().find(|(word, _)| parts.iter().any(|part| part.starts_with(word)));
    known.map_or_else(|| parts.get(1).or(parts.first()).copied().unwrap_or("none"), |(_, os)| os)
}

/// The triple of the machine we run on, from what the compiler knew of it. Names of architectures that
/// triples spell in several ways (32-bit ARM) may differ from what `rustc -vV` says.
pub fn host_triple() -> String {
    let arch = match std::env::consts::ARCH {
        "x86" => "i686",
        "riscv64" => "riscv64gc",
        "powerpc64" if cfg!(target_endian = "little") => "powerpc64le",
        arch => arch,
    };
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    match std::env::consts::OS {
        "linux" => format!("{arch}-unknown-linux-{libc}"),
        "macos" => format!("{arch}-apple-darwin"),
        os => format!("{arch}-unknown-{os}"),
    }
}

/// The variables of a task at a target, from weak to strong: global, the target's, the task's (which
/// has those of its templates in it). Without a task: what a sysroot's path can use.
pub fn layered_vars(manifest: &Manifest, target: &str, task: Option<&Task>) -> Vars {
    let mut vars = manifest.vars.clone();
    let stronger = manifest.targets.get(target).map(|t| &t.vars).into_iter().chain(task.map(|t| &t.vars));
    for layer in stronger {
        vars.extend(layer.iter().map(|(name, var)| (name.clone(), var.clone())));
    }
    vars
}

/// Expands the strings of one step.
#[derive(Debug)]
pub struct Expander<'a> {
    scope: Scope<'a>,
    /// Variables already expanded, for a shell or not.
    known: HashMap<(String, Mode), Value>,
    /// Variables being expanded, each used by the one before it.
    open: Vec<String>,
    used_args: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Mode {
    Raw,
    Shell,
}

/// What a piece stands for.
#[derive(Clone, Debug)]
enum Value {
    /// Put in as it is.
    Text(String),
    /// One word: quoted for a shell.
    Word(String),
    Words(Vec<String>),
}

impl Value {
    fn into_text(self, mode: Mode) -> String {
        match (self, mode) {
            (Self::Text(text), _) | (Self::Word(text), Mode::Raw) => text,
            (Self::Word(word), Mode::Shell) => shell_quote(&word).into_owned(),
            (Self::Words(words), Mode::Raw) => words.join(" "),
            (Self::Words(words), Mode::Shell) => {
                let quoted: Vec<Cow<'_, str>> = words.iter().map(|word| shell_quote(word)).collect();
                quoted.join(" ")
            }
        }
    }
}

impl<'a> Expander<'a> {
    pub fn new(scope: Scope<'a>) -> Self {
        Self { scope, known: HashMap::new(), open: Vec::new(), used_args: false }
    }

    pub fn scope(&self) -> &Scope<'a> {
        &self.scope
    }

    /// Did anything that was expanded so far use `args`?
    pub fn used_args(&self) -> bool {
        self.used_args
    }

    /// For values of the environment, paths and globs: lists are joined by a space, paths raw.
    pub fn text(&mut self, text: &Text) -> Result<String, Problem> {
        self.string(text, Mode::Raw)
    }

    /// For a command under `sh`.
    pub fn shell(&mut self, text: &Text) -> Result<String, Problem> {
        self.string(text, Mode::Shell)
    }

    /// For a command without a shell. A word that is just one list becomes as many words as it has.
    pub fn argv(&mut self, words: &[Text]) -> Result<Vec<String>, Problem> {
        let mut argv = Vec::with_capacity(words.len());
        for word in words {
            self.word(word, &mut argv)?;
            if argv.len() > words.len().max(MAX_WORDS) {
                return Err(too_long(word));
            }
        }
        Ok(argv)
    }

    fn word(&mut self, word: &Text, argv: &mut Vec<String>) -> Result<(), Problem> {
        if !word.contains("{{") {
            argv.push(word.value.clone());
            return Ok(());
        }
        let pieces = pieces(word)?;
        if let [piece] = &pieces[..] {
            match self.piece(piece, word, Mode::Raw)? {
                Value::Words(words) => argv.extend(words),
                Value::Text(text) | Value::Word(text) => argv.push(text),
            }
        } else {
            argv.push(self.join(&pieces, word, Mode::Raw)?);
        }
        Ok(())
    }

    fn string(&mut self, text: &Text, mode: Mode) -> Result<String, Problem> {
        if !text.contains("{{") {
            return Ok(text.value.clone());
        }
        self.join(&pieces(text)?, text, mode)
    }

    fn join(&mut self, pieces: &[Piece<'_>], text: &Text, mode: Mode) -> Result<String, Problem> {
        let mut joined = String::with_capacity(text.len());
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => joined.push_str(literal),
                piece => joined.push_str(&self.piece(piece, text, mode)?.into_text(mode)),
            }
            if joined.len() > text.len().max(MAX_LENGTH) {
                return Err(too_long(text));
            }
        }
        Ok(joined)
    }

    fn piece(&mut self, piece: &Piece<'_>, text: &Text, mode: Mode) -> Result<Value, Problem> {
        match piece {
            Piece::Literal(literal) => Ok(Value::Text((*literal).to_owned())),
            Piece::Name(name, at) => self.value(*name, text, at, mode),
            Piece::Expression(expression, at) => self.expression(expression, text, at, mode),
        }
    }

    fn value(&mut self, name: Name<'_>, text: &Text, at: &Range<usize>, mode: Mode) -> Result<Value, Problem> {
        let scope = &self.scope;
        let path = |path: &Option<PathBuf>, missing| match path {
            Some(path) => path_text(path, text, at).map(Value::Word),
            None => Err(Problem::new(CODE, format!("`{name}` has no value here"), inner_span(text, at)).label(missing)),
        };
        // Nothing where the target has none, so that one command is right at all targets.
        let toolchain = |words: &dyn Fn(&ToolchainFacts) -> Result<Vec<String>, Problem>| {
            scope.toolchain.as_ref().map_or(Ok(Vec::new()), words).map(Value::Words)
        };
        Ok(match name {
            Name::Task => Value::Text(scope.task_name.to_owned()),
            Name::StepSource => path(&scope.source, "the task has no `source`")?,
            Name::StepBuild => path(&scope.build, "the task has no `source`, so it has no build directory")?,
            Name::SysrootPrefix => path(&scope.prefix, "the task has no `sysroot`")?,
            Name::Target => Value::Text(scope.target.name.clone()),
            Name::TargetTriple => Value::Text(scope.target.triple.clone()),
            Name::TargetArch => Value::Text(scope.target.arch.clone()),
            Name::TargetOs => Value::Text(scope.target.os.clone()),
            Name::HostTriple => Value::Text(scope.host_triple.clone()),
            Name::Jobs => Value::Text(scope.jobs.clone()),
            Name::ToolchainConfigure => toolchain(&|facts| Ok(vec![format!("--host={}", facts.gnu)]))?,
            Name::ToolchainMeson => {
                toolchain(&|facts| Ok(vec!["--cross-file".to_owned(), path_text(&facts.meson, text, at)?]))?
            }
            Name::ToolchainCmake => {
                toolchain(&|facts| Ok(vec![format!("-DCMAKE_TOOLCHAIN_FILE={}", path_text(&facts.cmake, text, at)?)]))?
            }
            Name::Args => {
                let args = scope.args.clone().unwrap_or_default();
                self.used_args = true;
                Value::Words(args)
            }
            Name::Var(var) => return self.var(var, text, at, mode),
        })
    }

    fn var(&mut self, name: &str, text: &Text, at: &Range<usize>, mode: Mode) -> Result<Value, Problem> {
        let key = (name.to_owned(), mode);
        if let Some(value) = self.known.get(&key) {
            return Ok(value.clone());
        }
        let Some(var) = self.scope.vars.get(name).cloned() else {
            let message = format!("`vars.{name}` has no value for `{}`", self.step());
            let problem = Problem::new(CODE, message, inner_span(text, at));
            return Err(problem.did_you_mean(name, self.scope.vars.keys().map(String::as_str)));
        };
        if let Some(first) = self.open.iter().position(|open| open == name) {
            let cycle = self.open[first..].join(" -> ");
            let message = format!("variables use each other in a circle: {cycle} -> {name}");
            return Err(Problem::new(CODE, message, inner_span(text, at)).label("closes the circle"));
        }
        if self.open.len() == MAX_DEPTH {
            let message = format!("variables use each other more than {MAX_DEPTH} deep");
            return Err(Problem::new(CODE, message, inner_span(text, at)));
        }
        self.open.push(name.to_owned());
        let value = match &var {
            Var::Text(text) => self.string(text, mode).map(Value::Text),
            Var::List(words) => self.argv(words).map(Value::Words),
        };
        self.open.pop();
        let value = value?;
        self.known.insert(key, value.clone());
        Ok(value)
    }

    fn step(&self) -> String {
        format!("{}@{}", self.scope.task_name, self.scope.target.name)
    }

    fn expression(&mut self, source: &str, text: &Text, at: &Range<usize>, mode: Mode) -> Result<Value, Problem> {
        let compiled = template::compile(source, at.clone()).map_err(|error| syntax_problem(text, error))?;
        let (context, is_word) = self.context(&compiled.names, text, at)?;
        let result = compiled.expression.eval(context).map_err(|error| {
            let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            let message = format!("`{source}` has no value for `{}`: {message}", self.step());
            Problem::new(CODE, message, inner_span(text, at))
        })?;
        from_jinja(&result, is_word, mode)
            .ok_or_else(|| Problem::new(CODE, format!("`{source}` is no string and no list"), inner_span(text, at)))
    }

    /// The values of the names that an expression uses, and whether a path or `args` is among them.
    fn context(&mut self, names: &[Name<'_>], text: &Text, at: &Range<usize>) -> Result<(JinjaValue, bool), Problem> {
        let mut groups: HashMap<String, HashMap<String, JinjaValue>> = HashMap::new();
        let mut top: HashMap<String, JinjaValue> = HashMap::new();
        let mut is_word = false;
        for name in names {
            // Left out for the filter `default`; elsewhere minijinja says that it is undefined.
            if matches!(name, Name::Var(var) if !self.scope.vars.contains_key(*var)) {
                groups.entry("vars".to_owned()).or_default();
                continue;
            }
            let value = self.value(*name, text, at, Mode::Raw)?;
            is_word |= matches!(value, Value::Word(_)) || *name == Name::Args;
            let shown = name.to_string();
            match shown.split_once('.') {
                Some((group, member)) => {
                    groups.entry(group.to_owned()).or_default().insert(member.to_owned(), value.into_jinja());
                }
                None => {
                    top.insert(shown, value.into_jinja());
                }
            }
        }
        top.extend(groups.into_iter().map(|(group, members)| (group, JinjaValue::from_pairs(members))));
        Ok((JinjaValue::from_pairs(top), is_word))
    }
}

fn from_jinja(value: &JinjaValue, is_word: bool, mode: Mode) -> Option<Value> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let words: Option<Vec<String>> = value.try_iter().ok()?.map(|item| scalar_text(&item)).collect();
            words.map(Value::Words)
        }
        // Nothing is not the empty word.
        _ => scalar_text(value).map(|text| match is_word && mode == Mode::Shell && !text.is_empty() {
            true => Value::Word(text),
            false => Value::Text(text),
        }),
    }
}

fn scalar_text(value: &JinjaValue) -> Option<String> {
    match value.kind() {
        ValueKind::String | ValueKind::Number => Some(value.to_string()),
        // As TOML and the shell write it; minijinja would write `True`.
        ValueKind::Bool => Some(value.is_true().to_string()),
        _ => None,
    }
}

impl Value {
    fn into_jinja(self) -> JinjaValue {
        match self {
            Self::Text(text) | Self::Word(text) => JinjaValue::from(text),
            Self::Words(words) => JinjaValue::from(words),
        }
    }
}

fn pieces(text: &Text) -> Result<Vec<Piece<'_>>, Problem> {
    template::pieces(text).map_err(|error| syntax_problem(text, error))
}

fn too_long(text: &Text) -> Problem {
    let message = format!("more than {} (or {MAX_WORDS} words) when its variables are put in", size(MAX_LENGTH as u64));
    Problem::new(CODE, message, text.span)
}

/// The loader has said these with better places; strings made elsewhere come here first.
fn syntax_problem(text: &Text, error: template::SyntaxError) -> Problem {
    Problem::new(CODE, error.message, inner_span(text, &error.at))
}

/// The place of a part of a string. Without the file at hand: exact where the string stands between two
/// quotes and has no escapes, which its length tells; else the whole string.
fn inner_span(text: &Text, at: &Range<usize>) -> Span {
    let Span { file, start, end } = text.span;
    let offset = |at: usize| start.saturating_add(1).saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
    match end.checked_sub(start) {
        Some(len) if len as usize == text.len() + 2 => Span { file, start: offset(at.start), end: offset(at.end) },
        _ => text.span,
    }
}

fn path_text(path: &Path, text: &Text, at: &Range<usize>) -> Result<String, Problem> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message =
            format!("the path `{}` is not UTF-8, so it can't stand in a command", crate::base::paths::escaped(path));
        Problem::new(CODE, message, inner_span(text, at))
    })
}

#[cfg(test)]
#[path = "expand_tests.rs"]
pub(in crate::manifest) mod tests;
