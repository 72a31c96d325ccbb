//! From TOML values to [`Raw`], key by key: everything that can be judged by looking at one value.
//! Serde's derive would stop at the first error and lose spans, so the tables are walked by hand; which
//! keys there are says [`super::keys`].

mod cargo;
mod command;
mod leaf;
mod parts;
mod task;

use toml::de::{DeTable, DeValue};

use super::document::{self, Value};
use super::error::Problem;
use super::keys::{self, Key, Table};
use super::model::{ManifestWarning, Settings, Sysroot, Target};
use super::raw::{Raw, define};
use super::zig::ZigTarget;
use crate::base::ids::HOST;
use crate::base::span::{FileId, Span, Spanned};

/// What a file is to the workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Has `[bcache]`.
    First,
    /// Has none.
    Included,
}

/// Reads one file into `raw` and gives the files that it includes.
pub fn read(file: FileId, text: &str, role: Role, raw: &mut Raw, problems: &mut Vec<Problem>) -> Vec<Spanned<String>> {
    let table = document::parse(file, text, problems);
    let mut reader = Reader { file, problems, warnings: Vec::new() };
    let includes = reader.root(&table, role, raw);
    raw.warnings.append(&mut reader.warnings);
    includes
}

struct Reader<'a> {
    file: FileId,
    problems: &'a mut Vec<Problem>,
    warnings: Vec<ManifestWarning>,
}

/// A key that the table may have, with its value.
struct Pair<'t, 'i> {
    key: &'static Key,
    key_span: Span,
    value: &'t Value<'i>,
}

/// An entry of a table whose keys are names that the user gives.
struct NamedEntry<'t, 'i> {
    name: Spanned<String>,
    value: &'t Value<'i>,
}

impl Reader<'_> {
    fn root(&mut self, table: &DeTable<'_>, role: Role, raw: &mut Raw) -> Vec<Spanned<String>> {
        let mut includes = Vec::new();
        let mut has_settings = false;
        for pair in self.pairs(table, &keys::ROOT, self.span(0..0)) {
            match pair.key.name {
                "include" => includes = self.plains(&pair),
                "bcache" => {
                    has_settings = true;
                    self.settings(&pair, role, raw);
                }
                "vars" => self.global_vars(&pair, raw),
                "targets" => self.targets(&pair, raw),
                "sysroots" => self.sysroots(&pair, raw),
                "templates" => self.tasks(&pair, "template", &keys::TEMPLATE, &mut raw.templates),
                "tasks" => self.tasks(&pair, "task", &keys::TASK, &mut raw.tasks),
                other => unhandled(other),
            }
        }
        if role == Role::First && !has_settings {
            let message = "there is no `[bcache]` table";
            let problem = Problem::new("bcache::manifest::missing_key", message, self.span(0..0));
            self.problems.push(problem.help("begin the file with `[bcache]` and `version = 1`"));
        }
        includes
    }

    fn settings(&mut self, pair: &Pair, role: Role, raw: &mut Raw) {
        if role == Role::Included {
            let message = "an included file has a `[bcache]` table";
            let problem = Problem::new("bcache::manifest::include", message, pair.key_span);
            self.problems.push(problem.help("only the first file has one: remove it here"));
        }
        let Some(table) = self.table(pair) else { return };
        let mut settings = Settings::default();
        for pair in self.pairs(table, &keys::BCACHE, pair.key_span) {
            match pair.key.name {
                "version" => self.version(&pair),
                "default" => settings.default = self.plain(&pair),
                "rebuild-env" => settings.rebuild_env = self.env_names(&pair).into_iter().map(|n| n.value).collect(),
                other => unhandled(other),
            }
        }
        if role == Role::First {
            raw.settings = settings;
        }
    }

    fn version(&mut self, pair: &Pair) {
        match pair.value.get_ref() {
            DeValue::Integer(n) if n.as_str() == "1" => {}
            DeValue::Integer(n) => {
                let message = format!("this is a manifest of version {n}, and only version 1 is known here");
                let problem = Problem::new("bcache::manifest::version", message, self.span_of(pair.value));
                self.problems.push(problem.help("a newer bcache may know it"));
            }
            _ => self.wrong_type(pair.key, pair.value),
        }
    }

    fn global_vars(&mut self, pair: &Pair, raw: &mut Raw) {
        for (name, var) in self.vars(pair) {
            let span = name.span;
            let defined = define(&mut raw.vars, "variable", name, Spanned::new(var, span), |var| var.span);
            self.problems.extend(defined.err());
        }
    }

    fn targets(&mut self, pair: &Pair, raw: &mut Raw) {
        for NamedEntry { name, value } in self.named(pair, "target") {
            let Some(table) = self.table_in(pair.key, value) else { continue };
            let target = self.target(&name, table);
            let defined = define(&mut raw.targets, "target", name, target, |target| target.span);
            self.problems.extend(defined.err());
        }
    }

    /// A target whose triple is wrong is kept, so that those who name it don't look wrong too.
    fn target(&mut self, name: &Spanned<String>, table: &DeTable<'_>) -> Target {
        let triple = Spanned::new(String::new(), name.span);
        let (env, vars) = Default::default();
        let mut target = Target { span: name.span, triple, zig: None, env, vars };
        let mut toolchain = None;
        for pair in self.pairs(table, &keys::TARGET, name.span) {
            match pair.key.name {
                "triple" => target.triple = self.triple(&pair, name).unwrap_or(target.triple),
                "toolchain" => toolchain = self.toolchain(&pair),
                "env" => target.env = self.env(&pair),
                "vars" => target.vars = self.vars(&pair).into_iter().map(|(name, var)| (name.value, var)).collect(),
                other => unhandled(other),
            }
        }
        match (name.value == HOST, table.contains_key("triple")) {
            (true, _) => target.triple.value = super::expand::host_triple(),
            (false, false) => self.missing("triple", &keys::TARGET, name.span),
            (false, true) => {}
        }
        if let Some(at) = toolchain.filter(|_| !target.triple.is_empty()) {
            let at = if name.value == HOST { at } else { target.triple.span };
            match ZigTarget::parse(&target.triple) {
                Ok(zig) => target.zig = Some(zig),
                Err(refused) => self.bad_value(refused.text, at, &refused.help),
            }
        }
        target
    }

    /// The place of the word, if it is the one that there is.
    fn toolchain(&mut self, pair: &Pair) -> Option<Span> {
        if pair.value.get_ref().as_str() == Some("zig") {
            return Some(self.span_of(pair.value));
        }
        self.another_word(pair);
        None
    }

    fn triple(&mut self, pair: &Pair, target: &Spanned<String>) -> Option<Spanned<String>> {
        let triple = self.plain(pair)?;
        if target.value == HOST {
            let message = "the target `host` is this machine: it takes no `triple`";
            self.bad_value(message, triple.span, "remove it, or give the target another name");
        } else if !triple.split('-').all(|part| part.chars().all(is_name_char) && !part.is_empty()) {
            self.bad_value(format!("`{}` is no target triple", triple.value), triple.span, "");
        }
        Some(triple)
    }

    fn sysroots(&mut self, pair: &Pair, raw: &mut Raw) {
        for NamedEntry { name, value } in self.named(pair, "sysroot") {
            let Some(table) = self.table_in(pair.key, value) else { continue };
            let sysroot = self.sysroot(&name, table);
            let defined = define(&mut raw.sysroots, "sysroot", name, sysroot, |sysroot| sysroot.span);
            self.problems.extend(defined.err());
        }
    }

    /// One without a path is kept too, see [`Self::target`].
    fn sysroot(&mut self, name: &Spanned<String>, table: &DeTable<'_>) -> Sysroot {
        let path = Spanned::new(String::new(), name.span);
        let (env, shared_files) = (Default::default(), Vec::new());
        let mut sysroot = Sysroot { span: name.span, path, env, shared_files, host: None, relocatable: false };
        for pair in self.pairs(table, &keys::SYSROOT, name.span) {
            match pair.key.name {
                "path" => sysroot.path = self.path(&pair).unwrap_or(sysroot.path),
                "env" => sysroot.env = self.env(&pair),
                "host" => sysroot.host = self.host(&pair),
                "shared-files" => sysroot.shared_files = self.shared_files(&pair),
                "relocatable" => sysroot.relocatable = self.bool(&pair).unwrap_or(false),
                other => unhandled(other),
            }
        }
        sysroot
    }

    fn shared_files(&mut self, pair: &Pair) -> Vec<Spanned<String>> {
        let files = self.plains(pair);
        for file in &files {
            let inside = crate::base::paths::join_clean("".as_ref(), file.value.as_ref());
            if file.starts_with('/') || inside.is_none_or(|path| path.as_os_str().is_empty()) {
                let message = format!("`{}` is no path inside the sysroot", file.value);
                self.bad_value(message, file.span, "write it relative to the prefix");
            }
        }
        files
    }
}

// The walk: which keys a table has, which it should have.
impl Reader<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        document::span(self.file, range)
    }

    fn span_of<T>(&self, value: &toml::Spanned<T>) -> Span {
        self.span(value.span())
    }

    /// The known keys of a table in the order of the file. All others, and those that are missing, are said.
    fn pairs<'t, 'i>(&mut self, table: &'t DeTable<'i>, known: &'static Table, owner: Span) -> Vec<Pair<'t, 'i>> {
        let mut pairs = Vec::with_capacity(table.len());
        for (name, value) in table {
            let key_span = self.span_of(name);
            match known.key(name.get_ref()) {
                Some(key) => pairs.push(Pair { key, key_span, value }),
                None => self.unknown_key(name.get_ref(), known, key_span),
            }
        }
        for key in known.keys.iter().filter(|key| key.required && !table.contains_key(key.name)) {
            self.missing(key.name, known, owner);
        }
        pairs.sort_by_key(|pair| pair.key_span.start);
        pairs
    }

    fn unknown_key(&mut self, name: &str, known: &Table, span: Span) {
        let message = format!("{} has no key `{name}`", known.what);
        let problem = Problem::new("bcache::manifest::unknown_key", message, span).label("unknown key");
        self.problems.push(match name {
            "include" => problem.help("`include` stands above the first `[table]`"),
            _ => problem.did_you_mean(name, known.keys.iter().map(|key| key.name)),
        });
    }

    fn missing(&mut self, name: &str, table: &Table, owner: Span) {
        let message = format!("{} needs the key `{name}`", table.what);
        self.problems.push(Problem::new("bcache::manifest::missing_key", message, owner).label("missing here"));
    }

    fn wrong_type(&mut self, key: &Key, value: &Value<'_>) {
        let message = format!("`{}` takes {}, not {}", key.name, key.takes.shown(), document::type_of(value.get_ref()));
        self.problems.push(Problem::new("bcache::manifest::wrong_type", message, self.span_of(value)));
    }

    fn bad_value(&mut self, message: impl Into<String>, span: Span, help: &str) {
        let problem = Problem::new("bcache::manifest::bad_value", message, span);
        self.problems.push(if help.is_empty() { problem } else { problem.help(help) });
    }

    fn table<'t, 'i>(&mut self, pair: &Pair<'t, 'i>) -> Option<&'t DeTable<'i>> {
        self.table_in(pair.key, pair.value)
    }

    fn table_in<'t, 'i>(&mut self, key: &Key, value: &'t Value<'i>) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value);
        }
        table
    }

    /// The entries of `[tasks]` and its like, in the order of the file, with their names checked.
    fn named<'t, 'i>(&mut self, pair: &Pair<'t, 'i>, what: &str) -> Vec<NamedEntry<'t, 'i>> {
        let Some(table) = self.table(pair) else { return Vec::new() };
        let mut entries: Vec<_> = table
            .iter()
            .map(|(name, value)| {
                let span = self.span_of(name);
                NamedEntry { name: Spanned::new(name.get_ref().to_string(), span), value }
            })
            .collect();
        entries.sort_by_key(|entry| entry.name.span.start);
        entries.retain(|entry| {
            let good = is_name(&entry.name);
            if !good {
                self.bad_name(what, &entry.name);
            }
            good
        });
        entries
    }

    fn bad_name(&mut self, what: &str, name: &Spanned<String>) {
        let message = format!("`{}` is no name for a {what}", name.value);
        let problem = Problem::new("bcache::manifest::bad_name", message, name.span);
        self.problems.push(problem.help("letters, digits and `_`; after the first also `.`, `+` and `-`"));
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.+-".contains(c)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && name.chars().all(is_name_char)
}

fn unhandled(key: &str) -> ! {
    panic!("BUG: the table of keys has `{key}` and the reader does not")
}
