//! How much the store holds, roughly: a running total, so that the end of a build scans the store only
//! when its limit is probably exceeded.
//!
//! Each process adds what it committed in lumps; what a killed one had not added yet (at most a lump)
//! is found at the next scan. A total that can't be read counts as too much, and one that can't be written is
//! removed.

use std::sync::atomic::Ordering;

use crate::base::publish::publish;

use super::cas::Store;
use super::error::{StoreError, failed};
use super::files::{read_if_there, remove_if_there};
use super::lock::{Sharing, wait_lock};

const LUMP: u64 = 64 << 20;

impl Store {
    pub(super) fn grew(&self, bytes: u64) {
        // Small files take a block.
        let bytes = bytes.next_multiple_of(4096);
        let pending = self.grown.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if pending >= LUMP {
            // What was stored is stored, whatever becomes of the total.
            let _ = self.settle_usage();
        }
    }

    /// Adds what is pending to the total and returns it. `None` where it is not known.
    pub(super) fn settle_usage(&self) -> Result<Option<u64>, StoreError> {
        let lock = self.locks().join("usage");
        let _lock = wait_lock(&lock, Sharing::Exclusive).map_err(failed("lock", &lock))?;
        let path = self.root().join("usage");
        let text = read_if_there(&path).map_err(failed("read", &path))?;
        let known = text.and_then(|text| String::from_utf8(text).ok()?.trim().parse::<u64>().ok());
        let Some(known) = known else { return Ok(None) };
        let pending = self.grown.swap(0, Ordering::Relaxed);
        let total = known.saturating_add(pending);
        if pending > 0 {
            self.write_usage(total)?;
        }
        Ok(Some(total))
    }

    /// Replaces the total by what a scan found.
    pub(super) fn set_usage(&self, total: u64) -> Result<(), StoreError> {
        let lock = self.locks().join("usage");
        let _lock = wait_lock(&lock, Sharing::Exclusive).map_err(failed("lock", &lock))?;
        self.grown.store(0, Ordering::Relaxed);
        self.write_usage(total)
    }

    /// A total that is too small would let the store grow for ever: rather none.
    fn write_usage(&self, total: u64) -> Result<(), StoreError> {
        let path = self.root().join("usage");
        publish(&path, total.to_string().as_bytes()).map_err(|error| {
            let _ = remove_if_there(&path);
            failed("write", &path)(error)
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.grown.load(Ordering::Relaxed) > 0 {
            // A total that is too small is put right by the next scan.
            let _ = self.settle_usage();
        }
    }
}
