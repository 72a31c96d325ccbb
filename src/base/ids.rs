//! Names and dense ids as types of their own, so that they can't be mixed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a target that exists without being declared: the machine we run on.
pub const HOST: &str = "host";

/// A task at one target, written `glib@linux-x86_64`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepId {
    pub task: Arc<str>,
    pub target: Arc<str>,
}

impl StepId {
    pub fn new(task: &str, target: &str) -> Self {
        Self { task: task.into(), target: target.into() }
    }

    /// A file name that no other step has. Names have no `@` in them (the manifest checks), so the
    /// text of the id serves.
    pub fn file_name(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.task, self.target)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Index of a step in its graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct StepIx(pub u32);

impl StepIx {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
