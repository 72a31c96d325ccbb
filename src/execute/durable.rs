//! Group durability: while steps end, what they left is brought to the disk once a second, beside the work
//! and not in its way; a loss of power costs what ended in the last second.
//!
//! Only runs are worth it: a restored result is in the store already, and a sync waits for all that anybody has
//! written to the disk. What a loss of power takes of it is found missing, and is restored again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::Durable;

const PERIOD: Duration = Duration::from_secs(1);

/// Syncs the file systems of the state and the store now and then.
pub struct Syncer {
    disks: Arc<Durable>,
    busy: Arc<AtomicBool>,
    last: Mutex<Instant>,
}

impl Syncer {
    pub fn new(disks: Durable) -> Self {
        Self { disks: Arc::new(disks), busy: Arc::default(), last: Mutex::new(Instant::now()) }
    }

    /// A step has ended. Where the last sync is long enough ago, another begins on a thread of its own.
    pub fn step_ended(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < PERIOD || self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        *last = Instant::now();
        let (disks, busy) = (Arc::clone(&self.disks), Arc::clone(&self.busy));
        rayon::spawn(move || {
            // The sync at the end of the build is the one whose failure is said.
            let _ = disks.sync();
            busy.store(false, Ordering::SeqCst);
        });
    }
}
