//! The gate: a queue of batches between the poller and the application, bounded by bytes and by count.
//!
//! One channel operation per batch. The poller asks [`Gate::has_room`] before it drains librdkafka, so a full gate never
//! makes it wait in here; what does not fit stays in librdkafka's own bounded queue. The application's side wakes the
//! poller again when the gate is half empty, not at each batch, so that a flood does not cost two context switches a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::Mutex;

use crate::batch::BatchData;

/// The most batches that wait, whatever their size.
pub(crate) const GATE_BATCHES: usize = 64;

/// Wakes a thread that parks. Waking before it parks is not lost.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    thread: Mutex<Option<Thread>>,
}

impl Waker {
    /// Makes the calling thread the one to wake.
    pub(crate) fn register(&self) {
        *self.thread.lock() = Some(std::thread::current());
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.lock().as_ref() {
            thread.unpark();
        }
    }
}

/// Counts shared by both ends of the gate.
#[derive(Debug)]
pub(crate) struct GateState {
    budget_bytes: usize,
    queued_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
    /// The poller found no room and wants to be woken.
    starved: AtomicBool,
    waker: Arc<Waker>,
}

impl GateState {
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak_bytes.load(Ordering::Relaxed)
    }
}

/// The poller's end.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Arc<GateState>,
    sender: Sender<BatchData>,
}

/// The application's end.
#[derive(Debug)]
pub(crate) struct GateReceiver {
    state: Arc<GateState>,
    receiver: Receiver<BatchData>,
}

/// A gate of `budget_bytes` that wakes `waker` when there is room again.
pub(crate) fn gate(budget_bytes: usize, waker: Arc<Waker>) -> (Gate, GateReceiver) {
    let (sender, receiver) = crossbeam_channel::bounded(GATE_BATCHES);
    let state = Arc::new(GateState {
        budget_bytes,
        queued_bytes: AtomicUsize::new(0),
        peak_bytes: AtomicUsize::new(0),
        starved: AtomicBool::new(false),
        waker,
    });
    let gate = Gate {
        state: Arc::clone(&state),
        sender,
    };
    (gate, GateReceiver { state, receiver })
}

impl Gate {
    /// True when a batch may be pushed. When not, the poller is woken once there is room.
    pub(crate) fn has_room(&self) -> bool {
        if self.fits() {
            return true;
        }
        self.state.starved.store(true, Ordering::SeqCst);
        // The application may have emptied the gate between the two looks, and seen nobody to wake.
        if self.fits() {
            self.state.starved.store(false, Ordering::SeqCst);
            return true;
        }
        false
    }

    fn fits(&self) -> bool {
        self.state.queued_bytes.load(Ordering::SeqCst) < self.state.budget_bytes
            && !self.sender.is_full()
    }

    /// Hands a batch over; it comes back when the gate is full by count or the application's end is gone.
    pub(crate) fn push(&self, batch: BatchData) -> Result<(), BatchData> {
        let bytes = batch.size_bytes();
        let queued = self.state.queued_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.state.peak_bytes.fetch_max(queued, Ordering::Relaxed);
        self.sender.try_send(batch).map_err(|error| {
            self.state.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
            match error {
                TrySendError::Full(batch) | TrySendError::Disconnected(batch) => batch,
            }
        })
    }

    pub(crate) fn state(&self) -> &Arc<GateState> {
        &self.state
    }
}

impl GateReceiver {
    /// The channel, to wait on together with others. What is received must go through [`GateReceiver::took`].
    pub(crate) fn channel(&self) -> &Receiver<BatchData> {
        &self.receiver
    }

    /// The next batch, if one waits.
    pub(crate) fn try_pop(&self) -> Option<BatchData> {
        let batch = self.receiver.try_recv().ok()?;
        self.took(&batch);
        Some(batch)
    }

    /// Gives the bytes of a batch taken from the channel back to the budget.
    pub(crate) fn took(&self, batch: &BatchData) {
        let bytes = batch.size_bytes();
        let queued = self.state.queued_bytes.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        if queued <= self.state.budget_bytes / 2
            && self.receiver.len() <= GATE_BATCHES / 2
            && self.state.starved.swap(false, Ordering::SeqCst)
        {
            self.state.waker.wake();
        }
    }

    pub(crate) fn state(&self) -> &Arc<GateState> {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, TimestampType};
    use crate::partition::{Generation, TopicPartition};
    use crate::tracker::PartitionCell;

    fn batch(value_bytes: usize) -> BatchData {
        let cell = Arc::new(PartitionCell::new(
            TopicPartition::new("t", 0),
            Generation(1),
            0,
        ));
        let mut builder = BatchBuilder::with_capacity(1, value_bytes);
        builder.begin_run(&cell, -1, TimestampType::CreateTime);
        builder.push(0, 0, 0, None, Some(&vec![b'x'; value_bytes]));
        builder.finish(0)
    }

    #[test]
    fn bytes_bound_the_gate() {
        let (gate, receiver) = gate(10_000, Arc::new(Waker::default()));
        let mut pushed = 0;
        while gate.has_room() {
            gate.push(batch(1000)).expect("room");
            pushed += 1;
        }
        assert_eq!(pushed, 10, "1000 bytes of value and the row's columns each");
        assert!(gate.state().queued_bytes() >= 10_000);
        assert!(receiver.try_pop().is_some());
        assert!(gate.has_room());
        while receiver.try_pop().is_some() {}
        assert_eq!(gate.state().queued_bytes(), 0);
        assert!(gate.state().peak_bytes() >= 10_000);
    }

    #[test]
    fn the_count_bounds_the_gate() {
        let (gate, _receiver) = gate(usize::MAX, Arc::new(Waker::default()));
        for _ in 0..GATE_BATCHES {
            gate.push(batch(1)).expect("room");
        }
        assert!(!gate.has_room());
        let refused = gate.push(batch(7)).expect_err("full");
        assert_eq!(refused.len(), 1, "what is refused comes back");
    }

    #[test]
    fn a_starved_poller_is_woken_when_half_is_free() {
        let waker = Arc::new(Waker::default());
        waker.register();
        let (gate, receiver) = gate(4_000, Arc::clone(&waker));
        while gate.has_room() {
            gate.push(batch(1000)).expect("room");
        }
        let popper = std::thread::spawn(move || while receiver.try_pop().is_some() {});
        // Parks until woken; the test's own time limit is what fails if the wake is lost.
        while gate.state().queued_bytes() > 2_000 {
            std::thread::park();
        }
        popper.join().expect("no panic");
    }
}
