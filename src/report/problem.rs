//! Errors, for people and for programs: anything that is a [`Diagnostic`].
//!
//! One that points into a file is shown with the lines it points at, all of a manifest together, and the
//! last line counts them: `error: 3 problems in tasks.toml`. Others are `error: what`, their causes, and
//! what to do. One without places of its own that has *related* ones bundles them: each of those is a problem
//! too, in the bundle's source where it has none itself.

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode};
use serde::Serialize;

use crate::base::text;

use super::terminal::{Ability, ERROR, Size, WARNING};
use super::voice::message;
use super::words::labelled;

/// For people.
pub fn human(errors: &[&dyn Diagnostic], ability: Ability, size: Size) -> String {
    let problems = errors.iter().flat_map(|error| flatten(*error));
    let (placed, plain): (Vec<_>, Vec<_>) = problems.partition(|problem| problem.has_place());
    let mut report = String::new();
    for problem in &placed {
        report.push_str(&graphical(problem, ability, size));
        report.push('\n');
    }
    for problem in &plain {
        report.push_str(&simple(problem, ability.color));
    }
    if let Some(summary) = summary(&placed) {
        report.push_str(&message("error", ERROR, &summary, ability.color));
    }
    report
}

fn graphical(problem: &Problem<'_>, ability: Ability, size: Size) -> String {
    let theme = match (ability.unicode, ability.color) {
        (true, true) => GraphicalTheme::unicode(),
        (true, false) => GraphicalTheme::unicode_nocolor(),
        (false, true) => GraphicalTheme { characters: miette::ThemeCharacters::ascii(), ..GraphicalTheme::unicode() },
        (false, false) => GraphicalTheme::none(),
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(size.columns)
        .with_links(false)
        .without_syntax_highlighting();
    let mut text = String::new();
    match handler.render_report(&mut text, problem) {
        Ok(()) => text,
        // A span beyond the end of its source: the message is worth more than the place.
        Err(fmt::Error) => simple(problem, ability.color),
    }
}

fn simple(problem: &Problem<'_>, color: bool) -> String {
    let (label, style) = match problem.severity() {
        None | Some(Severity::Error) => ("error", ERROR),
        Some(Severity::Warning) => ("warning", WARNING),
        Some(Severity::Advice) => ("note", WARNING),
    };
    let mut text = message(label, style, &problem.to_string(), color);
    for cause in causes(problem) {
        text.push_str(&labelled(2, "because", &cause));
    }
    if let Some(help) = problem.help() {
        text.push_str(&labelled(2, "help", &help.to_string()));
    }
    text
}

fn summary(problems: &[Problem<'_>]) -> Option<String> {
    let errors = problems.iter().filter(|problem| matches!(problem.severity(), None | Some(Severity::Error))).count();
    if errors == 0 {
        return None;
    }
    let mut files: Vec<String> = Vec::new();
    for file in problems.iter().filter_map(|problem| problem.places().into_iter().next()?.file) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    let places = if files.is_empty() { String::new() } else { format!(" in {}", files.join(", ")) };
    Some(format!("{}{places}", text::count(errors, "problem")))
}

fn causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |cause| cause.source()).map(|cause| cause.to_string()).collect()
}

/// For programs: one of these per problem.
#[derive(Serialize, Debug)]
pub struct Line {
    event: &'static str,
    severity: &'static str,
    code: Option<String>,
    message: String,
    causes: Vec<String>,
    help: Option<String>,
    /// The first place that the problem points at.
    #[serde(flatten)]
    place: Place,
    /// Further places.
    also: Vec<Place>,
}

/// Where in a file something is: lines and columns from 1, columns in bytes.
#[derive(Serialize, Clone, Default, Debug)]
struct Place {
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    label: Option<String>,
}

/// For programs.
pub fn json(errors: &[&dyn Diagnostic]) -> Vec<Line> {
    errors.iter().flat_map(|error| flatten(*error)).map(|problem| line(&problem)).collect()
}

fn line(problem: &Problem<'_>) -> Line {
    let mut places = problem.places();
    // Without places it is a bundle: what it bundles has lines of its own.
    let related = problem.inner.related().filter(|_| problem.has_labels());
    for related in related.into_iter().flatten() {
        let related = Problem { inner: related, source: related.source_code().or(problem.source) };
        let message = related.to_string();
        places.extend(related.places().into_iter().map(|place| Place { label: Some(message.clone()), ..place }));
    }
    let mut places = places.into_iter();
    Line {
        event: "problem",
        severity: match problem.severity() {
            None | Some(Severity::Error) => "error",
            Some(Severity::Warning) => "warning",
            Some(Severity::Advice) => "advice",
        },
        code: problem.code().map(|code| code.to_string()),
        message: problem.to_string(),
        causes: causes(problem),
        help: problem.help().map(|help| help.to_string()),
        place: places.next().unwrap_or_default(),
        also: places.collect(),
    }
}

/// The problems that an error bundles, and itself.
fn flatten(error: &dyn Diagnostic) -> Vec<Problem<'_>> {
    let whole = Problem { inner: error, source: error.source_code() };
    let mut problems = Vec::new();
    if !whole.has_labels() {
        for inner in error.related().into_iter().flatten() {
            problems.push(Problem { inner, source: inner.source_code().or(whole.source) });
        }
    }
    problems.push(whole);
    problems
}

/// A diagnostic and the source that its spans are in, which may be that of its bundle.
struct Problem<'a> {
    inner: &'a dyn Diagnostic,
    source: Option<&'a dyn SourceCode>,
}

impl Problem<'_> {
    fn has_place(&self) -> bool {
        self.source.is_some() && self.has_labels()
    }

    fn has_labels(&self) -> bool {
        self.inner.labels().is_some_and(|mut labels| labels.next().is_some())
    }

    /// The places that it points at, the primary one first.
    fn places(&self) -> Vec<Place> {
        let mut labels: Vec<LabeledSpan> = self.inner.labels().into_iter().flatten().collect();
        labels.sort_by_key(|label| !label.primary());
        labels.iter().map(|label| self.place(label)).collect()
    }

    fn place(&self, label: &LabeledSpan) -> Place {
        let text = label.label().map(str::to_owned);
        match self.source.map(|source| source.read_span(label.inner(), 0, 0)) {
            Some(Ok(contents)) => Place {
                file: contents.name().map(str::to_owned),
                line: Some(contents.line() + 1),
                column: Some(contents.column() + 1),
                label: text,
            },
            // A span beyond the end, or no source: the label is still worth something.
            Some(Err(_)) | None => Place { label: text, ..Place::default() },
        }
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.inner, f)
    }
}

impl fmt::Debug for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.inner, f)
    }
}

impl std::error::Error for Problem<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source()
    }
}

impl Diagnostic for Problem<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.inner.code()
    }

    fn severity(&self) -> Option<Severity> {
        self.inner.severity()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.inner.help()
    }

    fn url<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.inner.url()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.inner.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        self.inner.related()
    }

    fn diagnostic_source(&self) -> Option<&dyn Diagnostic> {
        self.inner.diagnostic_source()
    }
}

#[cfg(test)]
mod tests;
