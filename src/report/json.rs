//! The report for programs: one event per line on stdout, `{"version":1,"event":"finished",…}`.
//!
//! The fields are those of [`crate::event::Event`] and, for errors, of [`super::problem`]. Output of steps comes in
//! whole lines. Each line is written at once, so a reader sees it when it happens. When the reader goes
//! away, the report ends in silence.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::event::{Event, JSON_VERSION, Listener};

use super::output::Lines;
use super::terminal::write_whole;

pub struct Json {
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    lines: Lines,
    closed: bool,
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    event: &'a T,
}

impl Json {
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { state: Mutex::new(State { out, lines: Lines::default(), closed: false }) }
    }

    /// Prints something that serializes as a map with an `event` in it.
    pub fn print(&self, event: &impl Serialize) {
        self.with(|state| state.print(event));
    }

    /// Runs `act` while nothing is printed.
    pub fn alone<T>(&self, act: impl FnOnce() -> T) -> T {
        self.with(|_| act())
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Listener for Json {
    fn on(&self, event: Event) {
        self.with(|state| match event {
            Event::Output { step, stream, bytes } => {
                let lines = state.lines.add(&step, stream, &bytes);
                if !lines.is_empty() {
                    state.print(&Event::Output { step, stream, bytes: lines.into() });
                }
            }
            Event::Ran { ref step, .. } | Event::Failed { ref step, .. } => {
                for (stream, bytes) in state.lines.end(step) {
                    state.print(&Event::Output { step: step.clone(), stream, bytes: bytes.into() });
                }
                state.print(&event);
            }
            Event::Started { .. }
            | Event::Warning { .. }
            | Event::Note { .. }
            | Event::Fresh { .. }
            | Event::Restored { .. }
            | Event::Stale { .. }
            | Event::Running { .. }
            | Event::Progress { .. }
            | Event::Skipped { .. }
            | Event::Finished { .. } => state.print(&event),
        });
    }
}

impl State {
    fn print(&mut self, event: &impl Serialize) {
        if self.closed {
            return;
        }
        let line = Versioned { version: JSON_VERSION, event };
        let mut line = serde_json::to_vec(&line).expect("BUG: an event is a map of plain data");
        line.push(b'\n');
        self.closed = write_whole(&mut self.out, &line).is_err();
    }
}

#[cfg(test)]
mod tests;
