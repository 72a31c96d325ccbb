//! What is wrong with a manifest, as data: every problem of every file at once, each with its place.
//!
//! The graph makes [`Problem`]s too, for what it finds only after expansion. Nothing is printed here:
//! [`Errors::render`] gives the text, [`Errors::diagnoses`] the parts for a miette handler.

use std::fmt;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode};
use thiserror::Error;

use super::excerpt::Excerpts;
use crate::base::span::{SourceFile, Span};
use crate::base::text;

/// One thing that is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Such as `bcache::manifest::unknown_key`.
    pub code: &'static str,
    pub message: String,
    pub primary: Span,
    /// Said at the primary span.
    pub label: Option<Box<str>>,
    /// Other places that belong to it, in this file or another one.
    pub related: Vec<(Span, String)>,
    /// What to type next.
    pub help: Option<Box<str>>,
}

impl Problem {
    pub fn new(code: &'static str, message: impl Into<String>, primary: Span) -> Self {
        Self { code, message: message.into(), primary, label: None, related: Vec::new(), help: None }
    }

    pub fn label(mut self, label: impl Into<Box<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub fn help(mut self, help: impl Into<Box<str>>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// Asks ``did you mean `…`?`` where one of the names is near to what was written.
    pub fn did_you_mean<'n>(self, written: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        match text::nearest(written, names) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// All problems of a manifest, in the order of the files and of the places in them.
#[derive(Clone, Debug, Error)]
#[error("{}", summary(.problems, .files))]
pub struct Errors {
    pub problems: Vec<Problem>,
    pub files: Vec<SourceFile>,
}

impl Errors {
    /// Sorts by place and drops what is said twice (a template's text is looked at once for each task
    /// that extends it).
    pub fn new(mut problems: Vec<Problem>, files: Vec<SourceFile>) -> Self {
        problems.sort_by_key(|p| (p.primary.file, p.primary.start));
        let mut seen = std::collections::HashSet::new();
        problems.retain(|p| seen.insert((p.code, p.primary, p.message.clone())));
        Self { problems, files }
    }

    pub fn diagnoses(&self) -> impl Iterator<Item = Diagnosis> {
        let files: Vec<_> = self.files.iter().map(|file| Arc::new(Excerpts::new(file))).collect();
        self.problems.iter().map(move |problem| Diagnosis::new(problem.clone(), &self.files, &files))
    }

    /// All problems as text for people, `width` columns wide.
    pub fn render(&self, color: bool, width: usize) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
        let mut out = String::new();
        for diagnosis in self.diagnoses() {
            if !out.is_empty() {
                out.push('\n');
            }
            if handler.render_report(&mut out, &diagnosis).is_err() {
                out.push_str(&format!("{}: {diagnosis}\n", place(&self.files, diagnosis.problem.primary)));
            }
        }
        out
    }
}

fn summary(problems: &[Problem], files: &[SourceFile]) -> String {
    let lines: Vec<_> = problems.iter().map(|p| format!("{}: {}", place(files, p.primary), p.message)).collect();
    lines.join("\n")
}

/// `tasks.toml:12:3`: line and column, both from 1, the column in characters.
pub fn place(files: &[SourceFile], span: Span) -> String {
    let file = &files[usize::from(span.file.0)];
    let before = file.text.get(..span.start as usize).unwrap_or(&file.text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    format!("{}:{line}:{}", file.shown, before[line_start..].chars().count() + 1)
}

/// A [`Problem`] with the sources that its spans point into.
#[derive(Debug)]
pub struct Diagnosis {
    problem: Problem,
    severity: Severity,
    source: Option<Arc<Excerpts>>,
    labels: Vec<LabeledSpan>,
    /// Places in other files: miette shows one source per diagnostic.
    elsewhere: Vec<Diagnosis>,
}

impl Diagnosis {
    fn new(problem: Problem, files: &[SourceFile], excerpts: &[Arc<Excerpts>]) -> Self {
        let home = problem.primary.file;
        let mut labels = vec![labeled(files, problem.primary, problem.label.clone().map(String::from), true)];
        let (near, far): (Vec<_>, Vec<_>) = problem.related.iter().cloned().partition(|(span, _)| span.file == home);
        labels.extend(near.into_iter().map(|(span, label)| labeled(files, span, Some(label), false)));
        let elsewhere = far.into_iter().map(|(span, label)| Self::note(span, label, files, excerpts)).collect();
        let home = usize::from(home.0);
        let source = (!files[home].text.is_empty()).then(|| excerpts[home].clone());
        Self { problem, severity: Severity::Error, source, labels, elsewhere }
    }

    fn note(span: Span, label: String, files: &[SourceFile], excerpts: &[Arc<Excerpts>]) -> Self {
        let mut note = Self::new(Problem::new("", label, span), files, excerpts);
        note.severity = Severity::Advice;
        note
    }
}

/// A span that lies in its text whatever it says: miette refuses others.
fn labeled(files: &[SourceFile], span: Span, label: Option<String>, primary: bool) -> LabeledSpan {
    let text = &files[usize::from(span.file.0)].text;
    let boundary = |at: u32| (0..=text.len().min(at as usize)).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    let (start, end) = (boundary(span.start), boundary(span.end.max(span.start)));
    if primary {
        LabeledSpan::new_primary_with_span(label, (start, end - start))
    } else {
        LabeledSpan::new_with_span(label, (start, end - start))
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Diagnosis {}

impl Diagnostic for Diagnosis {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.problem.code.is_empty()).then(|| Box::new(self.problem.code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_deref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref().map(|_| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = LabeledSpan>>)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let notes = self.elsewhere.iter().map(|note| note as &dyn Diagnostic);
        (!self.elsewhere.is_empty()).then(|| Box::new(notes) as Box<dyn Iterator<Item = &'a dyn Diagnostic>>)
    }
}
