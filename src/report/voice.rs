//! Events as text for people: which are worth a line, and how it reads. No terminal, no clock.
//!
//! | event | normal | `-v` | `-q` |
//! |---|---|---|---|
//! | `Fresh` | | a line | |
//! | `Restored`, `Stale`, `Running`, `Note`, `Warning` (each once) | a line | a line, all reasons | |
//! | `Ran` | a line from one second on | a line | |
//! | what a cached step wrote to stderr | once, under its name | as it comes | |
//! | `Output` | | as it comes, prefixed | |
//! | `Failed` | with command, log and advice | its log came already | as normal |
//! | `Skipped` | one line at the end | a line each | |
//! | `Finished` | a line | a line | |

use std::collections::HashSet;
use std::time::Duration;

use anstyle::Style;

use crate::base::ids::StepId;
use crate::base::text;
use crate::event::{Event, Failure, Outcome, Why};

use super::output::{Lines, prefixed, safe};
use super::terminal::{BUSY, ERROR, FAINT, GOOD, GUTTER, WARNING, paint};
use super::words::{labelled, one_line, roughly, some_of, typed};

/// How much to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    #[default]
    Normal,
    Verbose,
}

/// Reasons that are named before the rest is counted.
const REASONS: usize = 3;
/// Skipped steps that are named before the rest is counted.
const SKIPPED: usize = 5;
/// A run shorter than this needs no line of its own.
const LONG: Duration = Duration::from_secs(1);

pub struct Voice {
    verbosity: Verbosity,
    warned: HashSet<String>,
    skipped: Vec<StepId>,
    lines: Lines,
    /// Running steps whose output was shown as it came.
    streamed: HashSet<StepId>,
}

impl Voice {
    pub fn new(verbosity: Verbosity) -> Self {
        Self {
            verbosity,
            warned: HashSet::new(),
            skipped: Vec::new(),
            lines: Lines::default(),
            streamed: HashSet::new(),
        }
    }

    /// Is this event said at all? Known without asking the terminal anything.
    pub fn says(&self, event: &Event) -> bool {
        match event {
            Event::Started { .. } | Event::Progress { .. } => false,
            Event::Fresh { .. } => self.verbosity == Verbosity::Verbose,
            // Also where nothing is said, what is remembered of the step has to go.
            Event::Ran { .. } | Event::Failed { .. } => true,
            // Counted, if not said.
            Event::Skipped { .. } => true,
            Event::Warning { .. }
            | Event::Note { .. }
            | Event::Restored { .. }
            | Event::Stale { .. }
            | Event::Running { .. }
            | Event::Output { .. }
            | Event::Finished { .. } => self.verbosity != Verbosity::Quiet,
        }
    }

    /// The lines for an event, ends included; often none.
    pub fn say(&mut self, event: &Event, color: bool) -> Vec<u8> {
        if !self.says(event) {
            return Vec::new();
        }
        match event {
            Event::Started { .. } | Event::Progress { .. } => Vec::new(),
            Event::Warning { text } if !self.warned.insert(text.clone()) => Vec::new(),
            Event::Warning { text } => message("warning", WARNING, text, color).into_bytes(),
            Event::Note { text } => message("note", GOOD, text, color).into_bytes(),
            Event::Fresh { step } => verb("Fresh", GOOD, &step.to_string(), color).into_bytes(),
            Event::Restored { step, files, bytes, took } => {
                let what = format!("{}, {}", text::count(*files, "file"), text::size(*bytes));
                let line = format!("{step} ({what}) in {}", text::duration(*took));
                verb("Restored", GOOD, &line, color).into_bytes()
            }
            // The first run needs no reason.
            Event::Stale { reasons, .. }
                if reasons.iter().all(|why| why.code == "never-ran") && self.verbosity != Verbosity::Verbose =>
            {
                Vec::new()
            }
            Event::Stale { step, reasons } => self.stale(step, reasons, color).into_bytes(),
            Event::Running { step, last, .. } => {
                let last = last.map_or(String::new(), |last| format!(" (last time {})", roughly(last)));
                verb("Running", BUSY, &format!("{step}{last}"), color).into_bytes()
            }
            Event::Output { step, stream, bytes } => {
                self.streamed.insert(step.clone());
                let lines = self.lines.add(step, *stream, bytes);
                prefixed(&lines, &prefix(step, color), color)
            }
            Event::Ran { step, took, uncached, stored, stderr } => {
                let mut said = self.rest_of(step, color);
                let shown = self.streamed.remove(step);
                said.extend(self.ran(step, *took, *uncached || *stored, color).into_bytes());
                if !*uncached && !shown && !stderr.is_empty() && self.verbosity != Verbosity::Quiet {
                    said.extend(format!("  stderr of {step}:\n").into_bytes());
                    said.extend(safe(stderr, color));
                }
                said
            }
            Event::Failed { step, failure, .. } => {
                let mut said = self.rest_of(step, color);
                let shown = self.streamed.remove(step);
                said.extend(failed(step, failure, shown, color));
                said
            }
            Event::Skipped { step, because } => self.skipped(step, because.as_ref(), color).into_bytes(),
            Event::Finished { label, counts, took, outcome } => {
                let line = format!("{label} in {}: {counts}", text::duration(*took));
                let (word, style) = match outcome {
                    Outcome::Success => ("Finished", GOOD),
                    Outcome::Failure => ("Failed", ERROR),
                    Outcome::Interrupted => ("Interrupted", WARNING),
                };
                let mut said = self.all_skipped(color);
                said.push_str(&verb(word, style, &line, color));
                said.into_bytes()
            }
        }
    }

    fn stale(&self, step: &StepId, reasons: &[Why], color: bool) -> String {
        let all = self.verbosity == Verbosity::Verbose || reasons.len() == REASONS + 1;
        let limit = if all { reasons.len() } else { REASONS };
        let mut texts: Vec<String> = reasons.iter().take(limit).map(|why| one_line(&why.text).into_owned()).collect();
        if reasons.len() > limit {
            texts.push(format!("and {} more (cargo bcache why {})", reasons.len() - limit, typed(step)));
        }
        verb("Stale", WARNING, &format!("{step}: {}", texts.join("; ")), color)
    }

    fn ran(&self, step: &StepId, took: Duration, as_usual: bool, color: bool) -> String {
        let wanted = match self.verbosity {
            Verbosity::Quiet => false,
            Verbosity::Normal => took >= LONG,
            Verbosity::Verbose => true,
        };
        if !wanted {
            return String::new();
        }
        let kept = if as_usual || self.verbosity != Verbosity::Verbose { "" } else { " (kept in this worktree only)" };
        verb("Ran", GOOD, &format!("{step} in {}{kept}", text::duration(took)), color)
    }

    /// Output of a step that ended in the middle of a line.
    fn rest_of(&mut self, step: &StepId, color: bool) -> Vec<u8> {
        let rest = self.lines.end(step);
        rest.iter().flat_map(|(_, bytes)| prefixed(bytes, &prefix(step, color), color)).collect()
    }

    fn skipped(&mut self, step: &StepId, because: Option<&StepId>, color: bool) -> String {
        match (self.verbosity, because) {
            (Verbosity::Quiet, _) => String::new(),
            (Verbosity::Normal, _) => {
                self.skipped.push(step.clone());
                String::new()
            }
            (Verbosity::Verbose, None) => verb("Skipped", WARNING, &step.to_string(), color),
            (Verbosity::Verbose, Some(failed)) => verb("Skipped", WARNING, &format!("{step}: {failed} failed"), color),
        }
    }

    fn all_skipped(&mut self, color: bool) -> String {
        let skipped = std::mem::take(&mut self.skipped);
        if skipped.is_empty() {
            return String::new();
        }
        verb("Skipped", WARNING, &some_of(&skipped, SKIPPED), color)
    }
}

fn failed(step: &StepId, failure: &Failure, shown: bool, color: bool) -> Vec<u8> {
    let headline = format!("{step} failed: {}", failure.headline);
    let mut said = message("error", ERROR, &headline, color).into_bytes();
    if let Some(command) = &failure.command {
        said.extend(labelled(2, "command", command).into_bytes());
    }
    if !shown && !failure.log.is_empty() {
        said.extend(format!("  output of {step}:\n").into_bytes());
        said.extend(safe(&failure.log, color));
    }
    if let Some(file) = &failure.log_file {
        said.extend(format!("  log: {}\n", crate::base::paths::escaped(file)).into_bytes());
    }
    for advice in &failure.advice {
        said.extend(labelled(2, "help", advice).into_bytes());
    }
    said
}

/// A verb in the gutter and what it is about.
pub fn verb(verb: &str, style: Style, text: &str, color: bool) -> String {
    format!("{} {}\n", paint(&format!("{verb:>GUTTER$}"), style, color), one_line(text))
}

/// `warning: text`, without the gutter, as cargo and rustc have it.
pub fn message(label: &str, style: Style, text: &str, color: bool) -> String {
    let block = labelled(0, label, text);
    let after = block.strip_prefix(label).expect("BUG: a labelled text begins with its label");
    format!("{}{after}", paint(label, style, color))
}

fn prefix(step: &StepId, color: bool) -> String {
    paint(&format!("{step} | "), FAINT, color)
}
