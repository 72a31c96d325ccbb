//! Floor 5: what happened, as data: the only thing that execution tells reporting.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::base::ids::StepId;
use crate::base::paths::escaped;

/// Version of the JSON lines that events are printed as.
pub const JSON_VERSION: u32 = 1;

/// Takes events from any thread, in the order in which they happen.
pub trait Listener: Sync {
    fn on(&self, event: Event);
}

/// A reason for a verdict: a stable word for programs and a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Why {
    /// Such as `input-changed`, `need-changed`, `output-missing`, `forced`.
    pub code: &'static str,
    /// Such as `patches/qemu-10.patch changed`.
    pub text: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A build begins: how many steps, groups not counted.
    Started {
        steps: usize,
    },
    Warning {
        text: String,
    },
    /// A message that needs no action, such as a file set aside.
    Note {
        text: String,
    },
    Fresh {
        step: StepId,
    },
    Restored {
        step: StepId,
        files: usize,
        bytes: u64,
        #[serde(rename = "millis", serialize_with = "millis")]
        took: Duration,
    },
    /// The step will run, because of these.
    Stale {
        step: StepId,
        reasons: Vec<Why>,
    },
    /// Its commands begin. `last` is how long they took last time. An `attached` step owns the terminal
    /// until it is `Ran` or `Failed`: nothing else is drawn.
    Running {
        step: StepId,
        #[serde(rename = "last_millis", serialize_with = "some_millis")]
        last: Option<Duration>,
        attached: bool,
        uncached: bool,
    },
    /// How far it is, where that is known: of `total` things there are to compile `done`.
    Progress {
        step: StepId,
        done: u32,
        total: u32,
    },
    /// A piece of its output (only asked for with `--verbose`).
    Output {
        step: StepId,
        stream: Stream,
        #[serde(serialize_with = "lossy")]
        bytes: Arc<[u8]>,
    },
    /// It ended well. `stderr` is what a cached step wrote there; `stored` says whether others can have it.
    Ran {
        step: StepId,
        #[serde(rename = "millis", serialize_with = "millis")]
        took: Duration,
        uncached: bool,
        stored: bool,
        #[serde(serialize_with = "lossy")]
        stderr: Arc<[u8]>,
    },
    Failed {
        step: StepId,
        #[serde(rename = "millis", serialize_with = "millis")]
        took: Duration,
        failure: Failure,
    },
    /// Not begun, because a need of it failed or the build was cancelled.
    Skipped {
        step: StepId,
        because: Option<StepId>,
    },
    /// The end: counts over all steps of the request, groups not counted.
    Finished {
        label: String,
        counts: Counts,
        #[serde(rename = "millis", serialize_with = "millis")]
        took: Duration,
        outcome: Outcome,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Success,
    Failure,
    Interrupted,
}

#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Such as `the command ended with exit code 2`, `declared output build/x was not made`.
    pub headline: String,
    /// The command that failed, as a person would type it.
    pub command: Option<String>,
    /// Its whole output (bounded).
    #[serde(serialize_with = "lossy")]
    pub log: Arc<[u8]>,
    #[serde(serialize_with = "some_path")]
    pub log_file: Option<PathBuf>,
    /// What to do next.
    pub advice: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    pub fresh: usize,
    pub restored: usize,
    pub ran: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Counts {
    pub fn total(&self) -> usize {
        self.fresh + self.restored + self.ran + self.failed + self.skipped
    }
}

impl std::fmt::Display for Counts {
    /// Always the same words: `28 fresh, 1 restored, 1 ran`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} fresh, {} restored, {} ran", self.fresh, self.restored, self.ran)?;
        if self.failed + self.skipped > 0 {
            write!(f, ", {} failed, {} skipped", self.failed, self.skipped)?;
        }
        Ok(())
    }
}

fn millis<S: serde::Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(d.as_millis() as u64)
}

fn some_millis<S: serde::Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    d.map(|d| d.as_millis() as u64).serialize(s)
}

/// A path that is not UTF-8 must not lose the event.
fn some_path<S: serde::Serializer>(path: &Option<PathBuf>, s: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(escaped).serialize(s)
}

fn lossy<S: serde::Serializer>(bytes: &Arc<[u8]>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&String::from_utf8_lossy(bytes))
}
