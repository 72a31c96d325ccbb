//! What can be a string or a table: inputs, outputs, passed variables, tools; and `source`.

use toml::de::{DeTable, DeValue};

use super::super::error::Problem;
use super::super::keys;
use super::super::model::{EnvPass, GitInput, Input, Output, Source, SourceFrom, Text, Tool};
use super::{Pair, Reader, unhandled};
use crate::base::span::{Span, Spanned};

/// An entry that is a string alone, or a table.
enum Part<'t, 'i> {
    Alone(Text),
    Table(Span, &'t DeTable<'i>),
}

/// What a table among the inputs is.
enum InputTable {
    Glob(Text, bool),
    Git(GitInput),
}

const BAD_VALUE: &str = "bcache::manifest::bad_value";

/// The keys of a `source` table as they were found.
#[derive(Default)]
struct SourceKeys {
    /// `url`, `archive`, `git` or `path`, each with the place of its key.
    kinds: Vec<(&'static str, Span, Option<Text>)>,
    sha256: Option<(Span, Option<Spanned<String>>)>,
    rev: Option<(Span, Option<Spanned<String>>)>,
    patches: Vec<Text>,
}

impl Reader<'_> {
    fn parts<'t, 'i>(&mut self, pair: &Pair<'t, 'i>) -> Vec<Part<'t, 'i>> {
        let mut parts = Vec::new();
        for value in self.one_or_list(pair) {
            match value.get_ref() {
                DeValue::Table(table) => parts.push(Part::Table(self.span_of(value), table)),
                DeValue::String(_) => parts.extend(self.path_in(pair.key, value).map(Part::Alone)),
                _ => self.wrong_type(pair.key, value),
            }
        }
        parts
    }

    pub(super) fn inputs(&mut self, pair: &Pair) -> (Vec<Input>, Vec<GitInput>) {
        let (mut inputs, mut of_git) = (Vec::new(), Vec::new());
        for part in self.parts(pair) {
            match part {
                Part::Alone(text) => inputs.extend(self.input(text, false)),
                Part::Table(span, table) => match self.input_table(span, table) {
                    Some(InputTable::Glob(pattern, optional)) => inputs.extend(self.input(pattern, optional)),
                    Some(InputTable::Git(input)) => of_git.push(input),
                    None => {}
                },
            }
        }
        (inputs, of_git)
    }

    fn input_table(&mut self, span: Span, table: &DeTable<'_>) -> Option<InputTable> {
        let (mut glob, mut git, mut optional, mut paths, mut head) = (None, None, None, None, None);
        for pair in self.pairs(table, &keys::INPUT, span) {
            match pair.key.name {
                "glob" => glob = Some((pair.key_span, self.path(&pair))),
                "git" => git = Some((pair.key_span, self.path(&pair))),
                "optional" => optional = Some((pair.key_span, self.bool(&pair).unwrap_or(false))),
                "paths" => paths = Some((pair.key_span, self.paths(&pair))),
                "head" => head = Some((pair.key_span, self.bool(&pair).unwrap_or(false))),
                other => unhandled(other),
            }
        }
        let (kind, stray) = match (&glob, &git) {
            (Some(_), None) => ("glob", [("paths", paths.as_ref().map(|p| p.0)), ("head", head.map(|h| h.0))]),
            (None, Some(_)) => ("git", [("optional", optional.map(|o| o.0)), ("", None)]),
            (Some((glob, _)), Some((git, _))) => {
                let problem = Problem::new(BAD_VALUE, "an input has either `glob` or `git`", *git);
                self.problems.push(problem.related(*glob, "the other one"));
                return None;
            }
            (None, None) => {
                let message = "an input needs one of `glob`, `git`";
                self.problems.push(Problem::new("bcache::manifest::missing_key", message, span).label("missing here"));
                return None;
            }
        };
        for (key, span) in stray.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            self.bad_value(format!("`{key}` does not go with `{kind}`"), span, "");
        }
        if let Some((_, glob)) = glob {
            return Some(InputTable::Glob(glob?, optional.is_some_and(|(_, optional)| optional)));
        }
        let (span, dir) = git?;
        self.git_input(span, dir?, paths.map(|(_, paths)| paths), head.is_some_and(|(_, head)| head))
    }

    fn git_input(&mut self, span: Span, dir: Text, paths: Option<Vec<Text>>, head: bool) -> Option<InputTable> {
        if dir.starts_with('!') || dir.contains(['*', '?', '[']) {
            let help = "name a directory; which files of it count say `paths`";
            self.bad_value(format!("`{}` is no directory of a working copy", dir.value), dir.span, help);
            return None;
        }
        let paths: Vec<Input> =
            paths.unwrap_or_default().into_iter().filter_map(|path| self.input(path, false)).collect();
        if let Some(path) = paths.iter().find(|path| path.pattern.starts_with('/')) {
            let help = "paths of a git input are relative to its directory";
            self.bad_value(format!("`{}` is absolute", path.pattern.value), path.pattern.span, help);
            return None;
        }
        Some(InputTable::Git(GitInput { span, dir, paths, head }))
    }

    fn input(&mut self, pattern: Text, optional: bool) -> Option<Input> {
        let Some(rest) = pattern.strip_prefix('!') else {
            return Some(Input { pattern, exclude: false, optional });
        };
        if rest.trim().is_empty() {
            self.bad_value("`!` takes nothing away", pattern.span, "write a path or glob after it");
            return None;
        }
        Some(Input { pattern: Spanned::new(rest.to_owned(), pattern.span), exclude: true, optional })
    }

    pub(super) fn outputs(&mut self, pair: &Pair) -> Vec<Output> {
        let mut outputs = Vec::new();
        for part in self.parts(pair) {
            let output = match part {
                Part::Alone(path) => Some(Output { path, sha256: None, optional: false }),
                Part::Table(span, table) => self.output_table(span, table),
            };
            outputs.extend(output);
        }
        for output in &outputs {
            self.check_output(output);
        }
        outputs
    }

    fn output_table(&mut self, span: Span, table: &DeTable<'_>) -> Option<Output> {
        let (mut path, mut sha256, mut optional) = (None, None, false);
        for pair in self.pairs(table, &keys::OUTPUT, span) {
            match pair.key.name {
                "path" => path = self.path(&pair),
                "sha256" => sha256 = self.sha256(&pair),
                "optional" => optional = self.bool(&pair).unwrap_or(false),
                other => unhandled(other),
            }
        }
        Some(Output { path: path?, sha256, optional })
    }

    fn check_output(&mut self, output: &Output) {
        let (path, span) = (&output.path.value, output.path.span);
        if path.starts_with('!') {
            let help = "name what is made; for a file with such a name write `./!…`";
            self.bad_value(format!("`{path}`: outputs have no exclusions"), span, help);
        }
        if output.sha256.is_some() && (path.ends_with('/') || path.contains(['*', '?'])) {
            self.bad_value(format!("`{path}` has a checksum and is not one file"), span, "");
        }
        if output.sha256.is_some() && output.optional {
            self.bad_value(format!("`{path}` has a checksum and can't be optional"), span, "");
        }
    }

    pub(super) fn env_pass(&mut self, pair: &Pair) -> Vec<EnvPass> {
        let mut passed = Vec::new();
        for part in self.parts(pair) {
            let (name, key) = match part {
                Part::Alone(name) => (Some(name), true),
                Part::Table(span, table) => self.env_pass_table(span, table),
            };
            let name = name.filter(|name| self.is_env_name(name));
            passed.extend(name.map(|name| EnvPass { name, key }));
        }
        passed
    }

    fn env_pass_table(&mut self, span: Span, table: &DeTable<'_>) -> (Option<Text>, bool) {
        let (mut name, mut key) = (None, true);
        for pair in self.pairs(table, &keys::ENV_PASS, span) {
            match pair.key.name {
                "name" => name = self.plain(&pair),
                "key" => key = self.bool(&pair).unwrap_or(true),
                other => unhandled(other),
            }
        }
        (name, key)
    }

    pub(super) fn tools(&mut self, pair: &Pair) -> Vec<Tool> {
        let mut tools = Vec::new();
        for part in self.parts(pair) {
            let tool = match part {
                Part::Alone(name) if name.contains("{{") => {
                    self.bad_value("`{{ … }}` is not expanded in `tools`", name.span, "");
                    None
                }
                Part::Alone(name) => Some(Tool { name, version: None, install: None }),
                Part::Table(span, table) => self.tool_table(span, table),
            };
            tools.extend(tool);
        }
        tools
    }

    fn tool_table(&mut self, span: Span, table: &DeTable<'_>) -> Option<Tool> {
        let (mut name, mut version, mut install) = (None, None, None);
        for pair in self.pairs(table, &keys::TOOL, span) {
            match pair.key.name {
                "name" => name = self.plain(&pair),
                "version" => version = self.plain(&pair),
                "install" => install = self.prose(&pair),
                other => unhandled(other),
            }
        }
        Some(Tool { name: name?, version, install })
    }

    pub(super) fn source(&mut self, pair: &Pair) -> Option<Source> {
        let table = self.table(pair)?;
        let span =
            if self.span_of(pair.value).end > pair.key_span.end { self.span_of(pair.value) } else { pair.key_span };
        let mut keys = SourceKeys::default();
        for pair in self.pairs(table, &keys::SOURCE, span) {
            match pair.key.name {
                "sha256" => keys.sha256 = Some((pair.key_span, self.sha256(&pair))),
                "rev" => keys.rev = Some((pair.key_span, self.commit(&pair))),
                "patches" => keys.patches = self.paths(&pair),
                kind @ ("url" | "archive" | "git" | "path") => {
                    keys.kinds.push((kind, pair.key_span, self.path(&pair)));
                }
                other => unhandled(other),
            }
        }
        let patches = std::mem::take(&mut keys.patches);
        let from = self.source_from(keys, span)?;
        Some(Source { span, from, patches })
    }

    /// One of four kinds, each with the keys that it needs and no others.
    fn source_from(&mut self, keys: SourceKeys, span: Span) -> Option<SourceFrom> {
        let [(kind, kind_span, value)] =
            <[_; 1]>::try_from(keys.kinds).map_err(|kinds| self.not_one_kind(&kinds, span)).ok()?;
        let takes_sha256 = matches!(kind, "url" | "archive");
        if let Some((span, _)) = keys.sha256.as_ref().filter(|_| !takes_sha256) {
            self.bad_value(format!("`sha256` does not go with `{kind}`"), *span, "");
        }
        if let Some((span, _)) = keys.rev.as_ref().filter(|_| kind != "git") {
            self.bad_value(format!("`rev` does not go with `{kind}`"), *span, "it names a commit of a `git` source");
        }
        let companion = match kind {
            "url" if keys.sha256.is_none() => Some("sha256"),
            "git" if keys.rev.is_none() => Some("rev"),
            _ => None,
        };
        if let Some(companion) = companion {
            let message = format!("a source with `{kind}` needs the key `{companion}`");
            self.problems.push(Problem::new("bcache::manifest::missing_key", message, kind_span).label("missing here"));
        }
        let (value, sha256, rev) = (value?, keys.sha256.and_then(|(_, v)| v), keys.rev.and_then(|(_, v)| v));
        Some(match kind {
            "url" => SourceFrom::Url { url: value, sha256: sha256? },
            "archive" => SourceFrom::Archive { archive: value, sha256 },
            "git" => SourceFrom::Git { git: value, rev: rev? },
            _ => SourceFrom::Path { path: value },
        })
    }

    fn not_one_kind(&mut self, kinds: &[(&'static str, Span, Option<Text>)], span: Span) {
        let code = "bcache::manifest::bad_value";
        self.problems.push(match kinds {
            [] => Problem::new(
                "bcache::manifest::missing_key",
                "a source needs one of `url`, `archive`, `git`, `path`",
                span,
            )
            .label("missing here"),
            [first, second, ..] => {
                let message = format!("a source has either `{}` or `{}`", first.0, second.0);
                Problem::new(code, message, second.1).related(first.1, "the other one")
            }
            [_] => return,
        });
    }
}
