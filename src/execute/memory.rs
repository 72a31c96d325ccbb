//! Memory as a token: a step whose last peak would not fit beside those that run waits for them.

use std::sync::PoisonError;

use crate::graph::Step;

use super::build::{Build, Tally};

impl Build<'_> {
    /// Would the step's last peak fit beside what runs?
    pub(super) fn has_room(&self, step: &Step) -> bool {
        let Some(peak) = self.records.get(&step.id).and_then(|r| r.cost.peak_memory) else { return true };
        let used = *self.tally.memory.lock().unwrap_or_else(PoisonError::into_inner);
        used == 0 || used.saturating_add(peak) <= total_memory()
    }

    /// Held while the step runs.
    pub(super) fn reserve_memory(&self, peak: Option<u64>) -> Reserved<'_> {
        let bytes = peak.unwrap_or(0);
        *self.tally.memory.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        Reserved { tally: &self.tally, bytes }
    }
}

pub(super) struct Reserved<'a> {
    tally: &'a Tally,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        *self.tally.memory.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
    }
}

/// Bytes of memory that this machine has.
fn total_memory() -> u64 {
    static TOTAL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *TOTAL.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = text
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:"))
            .and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map_or(u64::MAX, |kib| kib * 1024)
    })
}
