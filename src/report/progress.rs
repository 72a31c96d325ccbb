//! What the live lines say: the running steps, the longest first, and how far the build is.
//!
//! ```text
//!      3m 12s qemu@host (last time 14 min)
//!        12 s glib@host
//!       12/37 done, 2 running, 23 left
//! ```
//!
//! Plain data: whoever draws passes the time and the size. Nothing is to be drawn before a step was
//! begun [`DELAY`] ago, so a build that is done at once never flickers.

use std::time::{Duration, Instant};

use crate::base::ids::StepId;
use crate::base::text;
use crate::event::Event;

use super::terminal::{LiveLine, Size};
use super::words::roughly;

/// From the first step begun to the first drawing.
pub const DELAY: Duration = Duration::from_millis(200);
/// Between two drawings at least.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// More running steps than this are counted, not named.
const NAMED: usize = 10;

/// How far the build is.
#[derive(Debug, Default)]
pub struct Progress {
    steps: usize,
    done: usize,
    running: Vec<Run>,
    /// When the first step began.
    begun: Option<Instant>,
    finished: bool,
}

#[derive(Debug)]
struct Run {
    step: StepId,
    since: Instant,
    last: Option<Duration>,
    /// Done, and in all.
    units: Option<(u32, u32)>,
}

impl Progress {
    /// Takes note of an event that happens at `now`.
    pub fn follow(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Started { steps } => *self = Self { steps: *steps, ..Self::default() },
            Event::Running { step, last, .. } => {
                self.begun.get_or_insert(now);
                // A retry begins again.
                self.running.retain(|run| run.step != *step);
                self.running.push(Run { step: step.clone(), since: now, last: *last, units: None });
            }
            Event::Fresh { .. } | Event::Restored { .. } | Event::Skipped { .. } => self.done += 1,
            Event::Ran { step, .. } | Event::Failed { step, .. } => {
                self.done += 1;
                self.running.retain(|run| run.step != *step);
            }
            Event::Finished { .. } => self.finished = true,
            Event::Progress { step, done, total } => {
                let run = self.running.iter_mut().find(|run| run.step == *step);
                if let Some(run) = run {
                    run.units = Some((*done, *total));
                }
            }
            Event::Warning { .. } | Event::Note { .. } | Event::Stale { .. } | Event::Output { .. } => {}
        }
    }

    /// How long after `now` lines are to be drawn first; `None` while there is nothing to draw.
    pub fn wait(&self, now: Instant, delay: Duration) -> Option<Duration> {
        let begun = self.begun.filter(|_| !self.finished)?;
        Some(delay.saturating_sub(now.saturating_duration_since(begun)))
    }

    pub fn lines(&self, now: Instant, size: Size) -> Vec<LiveLine> {
        // One row stays for what was printed last, one is for the summary.
        let room = size.rows.saturating_sub(2).min(NAMED);
        let mut lines: Vec<LiveLine> = self.running.iter().take(room).map(|run| run.line(now)).collect();
        lines.push(self.summary());
        lines
    }

    fn summary(&self) -> LiveLine {
        let running = self.running.len();
        // More may end than were announced where a plain task is run twice: never count below nothing.
        let left = self.steps.saturating_sub(self.done + running);
        LiveLine {
            gutter: format!("{}/{}", self.done, self.steps),
            text: format!("done, {running} running, {left} left"),
        }
    }
}

impl Run {
    fn line(&self, now: Instant) -> LiveLine {
        let elapsed = now.saturating_duration_since(self.since);
        let gutter = match elapsed.as_secs() {
            // Whole seconds: tenths would flicker.
            seconds @ 0..60 => format!("{seconds} s"),
            _ => text::duration(elapsed),
        };
        let last = self.last.map_or(String::new(), |last| format!(" (last time {})", roughly(last)));
        let units = self.units.map_or(String::new(), |(done, total)| format!(": {done}/{total} compiled"));
        LiveLine { gutter, text: format!("{}{units}{last}", self.step) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Counts, Failure, Outcome};

    const SIZE: Size = Size { columns: 80, rows: 24 };

    fn step(task: &str) -> StepId {
        StepId::new(task, "host")
    }

    fn running(task: &str, last: Option<u64>) -> Event {
        Event::Running { step: step(task), last: last.map(Duration::from_secs), attached: false, uncached: false }
    }

    fn shown(progress: &Progress, after: u64, size: Size) -> Vec<String> {
        let now = progress.begun.unwrap() + Duration::from_secs(after);
        progress.lines(now, size).iter().map(|line| format!("{:>12} {}", line.gutter, line.text)).collect()
    }

    #[test]
    fn running_steps_are_named_with_their_times_and_the_rest_is_counted() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        progress.follow(&Event::Started { steps: 5 }, start);
        progress.follow(&Event::Fresh { step: step("a") }, start);
        progress.follow(&running("qemu", Some(846)), start);
        progress.follow(&running("glib", None), start + Duration::from_secs(1));
        assert_eq!(
            shown(&progress, 30, SIZE),
            [
                "        30 s qemu@host (last time 14 min)",
                "        29 s glib@host",
                "         1/5 done, 2 running, 2 left",
            ]
        );
        let failure =
            Failure { headline: String::new(), command: None, log: [].into(), log_file: None, advice: Vec::new() };
        progress.follow(&Event::Failed { step: step("qemu"), took: Duration::ZERO, failure }, start);
        progress.follow(&Event::Skipped { step: step("utm"), because: Some(step("qemu")) }, start);
        assert_eq!(shown(&progress, 192, SIZE), ["      3m 11s glib@host", "         3/5 done, 1 running, 1 left"]);
    }

    #[test]
    fn a_low_window_shows_the_summary_and_what_fits() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        progress.follow(&Event::Started { steps: 40 }, start);
        for i in 0..20 {
            progress.follow(&running(&format!("t{i}"), None), start);
        }
        assert_eq!(shown(&progress, 1, SIZE).len(), NAMED + 1);
        assert_eq!(shown(&progress, 1, Size { columns: 80, rows: 4 }).len(), 3);
        assert_eq!(shown(&progress, 1, Size { columns: 80, rows: 1 }), ["        0/40 done, 20 running, 20 left"]);
    }

    #[test]
    fn nothing_is_to_be_drawn_before_a_step_was_begun_a_while_ago_and_after_the_end() {
        let (mut progress, start) = (Progress::default(), Instant::now());
        progress.follow(&Event::Started { steps: 1 }, start);
        assert_eq!(progress.wait(Instant::now(), DELAY), None);
        progress.follow(&running("a", None), start);
        let begun = progress.begun.unwrap();
        assert_eq!(progress.wait(begun, DELAY), Some(DELAY));
        assert_eq!(progress.wait(begun + DELAY, DELAY), Some(Duration::ZERO));
        let end = Event::Finished {
            label: "a".into(),
            counts: Counts::default(),
            took: Duration::ZERO,
            outcome: Outcome::Success,
        };
        progress.follow(&end, start);
        assert_eq!(progress.wait(begun + DELAY, DELAY), None);
    }
}
