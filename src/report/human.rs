//! The report for people: lines that stay, and live lines below them.
//!
//! One lock guards everything that is written, so lines never mix. The thread that keeps the live
//! lines moving starts with the first step that runs, and only where there is a terminal for it; an
//! up-to-date build has neither. While a step is attached, or a question is asked, the terminal is theirs:
//! what happens meanwhile is printed after.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::base::ids::StepId;
use crate::event::{Event, Listener};

use super::progress::{DELAY, INTERVAL, Progress};
use super::terminal::{Ability, Size, Terminal};
use super::voice::{Verbosity, Voice};

pub struct Human {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The ticker waits for this.
    changed: Condvar,
}

struct State {
    terminal: Terminal,
    voice: Voice,
    verbosity: Verbosity,
    progress: Progress,
    pace: Pace,
    ticker: Ticker,
    owner: Owner,
    /// Printed when the terminal is ours again.
    held: Vec<u8>,
    /// When live lines were last drawn.
    drawn: Option<Instant>,
    /// The reporter is going away.
    closing: bool,
}

/// When live lines are drawn first, and how often at most.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub delay: Duration,
    pub interval: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { delay: DELAY, interval: INTERVAL }
    }
}

/// The thread that draws.
enum Ticker {
    NotStarted,
    Started(JoinHandle<()>),
    /// Not wanted, or refused by the system: there are no live lines then.
    Never,
}

/// Whose the terminal is.
#[derive(PartialEq, Eq)]
enum Owner {
    Us,
    Step(StepId),
    Question,
}

impl Owner {
    fn is(&self, step: &StepId) -> bool {
        matches!(self, Self::Step(owner) if owner == step)
    }
}

/// The step that has ended, if one has.
fn ended(event: &Event) -> Option<&StepId> {
    match event {
        Event::Ran { step, .. } | Event::Failed { step, .. } => Some(step),
        Event::Started { .. }
        | Event::Warning { .. }
        | Event::Note { .. }
        | Event::Fresh { .. }
        | Event::Restored { .. }
        | Event::Stale { .. }
        | Event::Running { .. }
        | Event::Progress { .. }
        | Event::Output { .. }
        | Event::Skipped { .. }
        | Event::Finished { .. } => None,
    }
}

impl Human {
    pub fn new(terminal: Terminal, verbosity: Verbosity, pace: Pace) -> Self {
        let state = State {
            terminal,
            voice: Voice::new(verbosity),
            verbosity,
            progress: Progress::default(),
            pace,
            ticker: Ticker::NotStarted,
            owner: Owner::Us,
            held: Vec::new(),
            drawn: None,
            closing: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Prints text of our own, such as an error, made for what the terminal can do.
    pub fn print(&self, text: impl FnOnce(Ability, Size) -> String) {
        let mut state = self.shared.lock();
        let text = text(state.terminal.ability(), state.terminal.size());
        state.print(text.as_bytes());
    }

    /// Calls `act` while nothing of ours is on the terminal below what was printed, and nothing is printed.
    pub fn alone<T>(&self, act: impl FnOnce() -> T) -> T {
        let mut state = self.shared.lock();
        state.clear();
        act()
    }

    /// Asks a question on the terminal, without holding up those who report meanwhile. `None` where nobody
    /// can be asked.
    pub fn ask(&self, ask: impl FnOnce() -> Option<bool>) -> Option<bool> {
        let mut state = self.shared.lock();
        if state.owner != Owner::Us {
            return None;
        }
        state.clear();
        state.owner = Owner::Question;
        drop(state);
        let answer = ask();
        self.shared.lock().take_back();
        self.shared.changed.notify_one();
        answer
    }
}

impl Listener for Human {
    fn on(&self, event: Event) {
        let mut state = self.shared.lock();
        state.progress.follow(&event, Instant::now());
        state.report(&event);
        if matches!(event, Event::Running { .. }) {
            self.shared.start_ticker(&mut state);
        }
        // There is something to draw, or the terminal is ours again.
        if matches!(event, Event::Running { .. } | Event::Ran { .. } | Event::Failed { .. }) {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Human {
    /// Also on the way out of an error: nothing half drawn stays behind, nothing held is lost.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        state.take_back();
        state.clear();
        let ticker = std::mem::replace(&mut state.ticker, Ticker::Never);
        drop(state);
        self.shared.changed.notify_one();
        if let Ticker::Started(thread) = ticker {
            // It does nothing that could fail; if it panicked, that was said already.
            let _ = thread.join();
        }
    }
}

impl State {
    fn report(&mut self, event: &Event) {
        // At the end, whatever still had the terminal has it no more.
        if matches!(event, Event::Finished { .. }) || ended(event).is_some_and(|step| self.owner.is(step)) {
            self.take_back();
        }
        if self.voice.says(event) {
            let color = self.terminal.ability().color;
            let lines = self.voice.say(event, color);
            self.print(&lines);
        }
        if let Event::Running { step, attached: true, .. } = event {
            self.clear();
            self.owner = Owner::Step(step.clone());
        }
        if matches!(event, Event::Finished { .. }) {
            self.clear();
        }
    }

    fn print(&mut self, lines: &[u8]) {
        if self.owner == Owner::Us {
            self.terminal.print(lines);
            self.redraw(Instant::now());
        } else {
            self.held.extend_from_slice(lines);
        }
    }

    fn take_back(&mut self) {
        self.owner = Owner::Us;
        let held = std::mem::take(&mut self.held);
        self.terminal.print(&held);
    }

    fn clear(&mut self) {
        if self.terminal.has_live_lines() {
            self.terminal.clear();
        }
    }

    /// How long the ticker may sleep; `None`: until something changes.
    fn until_next(&self, now: Instant) -> Option<Duration> {
        if self.owner != Owner::Us {
            return None;
        }
        let first = self.progress.wait(now, self.pace.delay)?;
        let next = self
            .drawn
            .map_or(Duration::ZERO, |drawn| self.pace.interval.saturating_sub(now.saturating_duration_since(drawn)));
        Some(first.max(next))
    }

    /// Draws the live lines if it is time.
    fn redraw(&mut self, now: Instant) {
        if matches!(self.ticker, Ticker::Started(_)) && self.until_next(now) == Some(Duration::ZERO) {
            let lines = self.progress.lines(now, self.terminal.size());
            self.terminal.draw(lines);
            self.drawn = Some(now);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not silence the report about it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_ticker(self: &Arc<Self>, state: &mut State) {
        if !matches!(state.ticker, Ticker::NotStarted) {
            return;
        }
        let wanted = state.verbosity != Verbosity::Quiet && state.terminal.ability().live;
        let shared = Arc::clone(self);
        let started = wanted.then(|| thread::Builder::new().name("live lines".into()).spawn(move || shared.tick()));
        state.ticker = match started {
            Some(Ok(thread)) => Ticker::Started(thread),
            Some(Err(_)) | None => Ticker::Never,
        };
    }

    fn tick(&self) {
        let mut state = self.lock();
        while !state.closing {
            let now = Instant::now();
            state.redraw(now);
            state = match state.until_next(now) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(pause) => self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

#[cfg(test)]
mod tests;
