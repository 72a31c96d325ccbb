//! Floor 6: what people and programs get to read. The only room that prints.
//!
//! ```text
//! events ──> Reporter ─┬─ Human: voice (words) + progress (live lines) ──> terminal, on stderr
//!  errors ─────────────┘
//!                      └─ Json: one line per event ──> stdout
//! answers (list, path, why …) ──> stdout, in both
//! ```
//!
//! - People read stderr, programs read stdout; an answer to a question that was asked goes to stdout.
//! - Events come from any thread; one lock per reporter keeps lines whole.
//! - Making a reporter costs nothing: no thread, no system call. Those come with the first thing said.
//! - A reader that goes away ends the output, not the build.
//!
//! Known limits: a program that writes to the terminal behind our back (a step that opens `/dev/tty`) mixes
//! with the live lines.

mod human;
mod json;
mod output;
mod problem;
mod progress;
pub mod tables;
mod terminal;
mod voice;
pub mod words;

use std::io;

use miette::Diagnostic;

use crate::event::{Event, Listener};

use human::{Human, Pace};
use json::Json;
pub use terminal::Color;
use terminal::{Terminal, write_whole};
pub use voice::Verbosity;

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    #[default]
    Human,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    pub format: Format,
    pub verbosity: Verbosity,
    pub color: Color,
}

/// Where events, errors and answers go.
pub struct Reporter(Kind);

enum Kind {
    Human(Human),
    Json(Json),
}

impl Reporter {
    /// Starts nothing and asks the system nothing.
    pub fn new(options: Options) -> Self {
        Self(match options.format {
            Format::Human => {
                Kind::Human(Human::new(Terminal::stderr(options.color), options.verbosity, Pace::default()))
            }
            Format::Json => Kind::Json(Json::new(Box::new(io::stdout()))),
        })
    }

    /// Prints errors, all that belong together at once.
    pub fn problems(&self, errors: &[&dyn Diagnostic]) {
        match &self.0 {
            Kind::Human(human) => human.print(|ability, size| problem::human(errors, ability, size)),
            Kind::Json(json) => problem::json(errors).iter().for_each(|line| json.print(line)),
        }
    }

    /// Prints the answer to a question on stdout, as it is. A reader who has read enough is no error.
    pub fn answer(&self, text: &[u8]) -> io::Result<()> {
        let print = || match write_whole(&mut io::stdout(), text) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        };
        match &self.0 {
            Kind::Human(human) => human.alone(print),
            Kind::Json(json) => json.alone(print),
        }
    }

    /// Asks for a yes on the terminal. `None` where nobody can be asked: with JSON, or without a terminal.
    pub fn confirm(&self, question: &str) -> Option<bool> {
        match &self.0 {
            Kind::Human(human) => human.ask(|| terminal::ask(&words::one_line(question))),
            Kind::Json(_) => None,
        }
    }
}

impl Listener for Reporter {
    fn on(&self, event: Event) {
        match &self.0 {
            Kind::Human(human) => human.on(event),
            Kind::Json(json) => json.on(event),
        }
    }
}
