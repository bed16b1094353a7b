//! How full the gate is, in bytes and in batches, and whether the poller waits for room.
//!
//! L1. The poller asks and adds, one thread of the application at a time removes. No wake-up is lost: the poller says that
//! it waits and then looks once more, the application removes and then looks whether somebody waits. Both sayings are
//! read-modify-writes of one flag, so that whichever comes second sees what was done before the first.

use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// The level of a gate.
#[derive(Debug)]
pub(crate) struct Level {
    budget_bytes: usize,
    most_batches: usize,
    bytes: AtomicUsize,
    batches: AtomicUsize,
    peak_bytes: AtomicUsize,
    /// The poller found no room and wants to be woken.
    starved: AtomicBool,
}

impl Level {
    /// An empty gate for so many bytes, the batch that goes beyond them included, and so many batches.
    pub(crate) fn new(budget_bytes: usize, most_batches: usize) -> Level {
        Level {
            budget_bytes,
            most_batches,
            bytes: AtomicUsize::new(0),
            batches: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    /// True when a batch may be added. When not, a later [`Level::remove`] says that the poller must be woken.
    pub(crate) fn has_room(&self) -> bool {
        if self.fits() {
            return true;
        }
        self.starved.swap(true, Ordering::AcqRel);
        // The application may have emptied the gate between the two looks, and seen nobody to wake.
        if self.fits() {
            self.starved.swap(false, Ordering::AcqRel);
            return true;
        }
        false
    }

    fn fits(&self) -> bool {
        self.bytes.load(Ordering::Acquire) < self.budget_bytes
            && self.batches.load(Ordering::Acquire) < self.most_batches
    }

    /// Counts a batch that is about to be queued.
    pub(crate) fn add(&self, bytes: usize) {
        self.batches.fetch_add(1, Ordering::AcqRel);
        let queued = self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.peak_bytes.fetch_max(queued, Ordering::Relaxed);
    }

    /// Forgets a batch that was taken. True when the poller waits for room and there is plenty now: half of the gate, so
    /// that a flood does not cost two context switches a batch.
    pub(crate) fn remove(&self, bytes: usize) -> bool {
        let batches = self.batches.fetch_sub(1, Ordering::AcqRel) - 1;
        let bytes = self.bytes.fetch_sub(bytes, Ordering::AcqRel) - bytes;
        bytes <= self.budget_bytes / 2
            && batches <= self.most_batches / 2
            && self.starved.swap(false, Ordering::AcqRel)
    }
}
