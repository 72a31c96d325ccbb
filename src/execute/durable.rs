//! Group durability: while steps end, what they left is brought to the disk once a second, beside the work
//! and not in its way; a loss of power costs what ended in the last second. The last sync is left to the build's
//! watcher ([`super::watch`]), so that nobody waits for the disk, but where something is believed only once it is there.
//!
//! Only runs are worth it: a restored result is in the store already, and a sync waits for all that anybody has
//! written to the disk. What a loss of power takes of it is found missing, and is restored again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::store::{Durable, StoreError};

const PERIOD: Duration = Duration::from_secs(1);

/// Syncs the file systems of the state and the store now and then.
pub struct Syncer {
    disks: Arc<Durable>,
    busy: Arc<AtomicBool>,
    last: Mutex<Instant>,
    ending: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
}

impl Syncer {
    pub fn new(disks: Durable) -> Self {
        let last = Mutex::new(Instant::now());
        Self { disks: Arc::new(disks), busy: Arc::default(), last, ending: Mutex::default() }
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
            // What did not get there is found missing after a loss of power.
            let _ = disks.sync();
            busy.store(false, Ordering::SeqCst);
        });
    }

    /// All steps have ended: the last sync begins, while others tidy up.
    pub fn begin_last(&self) {
        let disks = Arc::clone(&self.disks);
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.get_or_insert_with(|| std::thread::spawn(move || disks.sync()));
    }

    /// Waits for the last sync, where it was begun.
    pub fn end(&self) -> Result<(), StoreError> {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        ending.map_or(Ok(()), |thread| thread.join().expect("BUG: the sync panicked"))
    }
}
