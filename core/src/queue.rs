//! The gate: a queue of batches between the poller and the application, bounded by bytes and by count.
//!
//! One channel operation per batch. The poller asks [`Gate::has_room`] before it drains librdkafka, so a full gate never
//! makes it wait in here; what does not fit stays in librdkafka's own bounded queue. The application's side wakes the
//! poller again when the gate is half empty, not at each batch, so that a flood does not cost two context switches a batch.

use std::sync::Arc;
use std::thread::Thread;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::Mutex;

use crate::batch::BatchData;
use crate::level::Level;

/// The most batches that wait, whatever their size.
pub(crate) const GATE_BATCHES: usize = 64;

/// Wakes a thread that parks. Waking before it parks is not lost.
#[derive(Debug, Default)]
pub(crate) struct Waker(Mutex<Wakened>);

#[derive(Debug, Default)]
struct Wakened {
    home: Option<Thread>,
    /// In place of `home`, for now.
    borrower: Option<Thread>,
    /// The borrower was woken since it looked.
    is_news: bool,
}

impl Waker {
    /// Makes the calling thread the one to wake.
    pub(crate) fn register(&self) {
        self.0.lock().home = Some(std::thread::current());
    }

    pub(crate) fn wake(&self) {
        let mut wakened = self.0.lock();
        wakened.is_news = true;
        if let Some(thread) = wakened.borrower.as_ref().or(wakened.home.as_ref()) {
            thread.unpark();
        }
    }

    /// From here on the calling thread is woken instead, until [`Waker::give_back`].
    pub(crate) fn lend(&self) {
        let mut wakened = self.0.lock();
        wakened.borrower = Some(std::thread::current());
        wakened.is_news = false;
    }

    /// To be called by the borrower before it looks at whatever it is woken for.
    pub(crate) fn look(&self) {
        self.0.lock().is_news = false;
    }

    #[cfg(test)]
    pub(crate) fn is_lent(&self) -> bool {
        self.0.lock().borrower.is_some()
    }

    /// Ends [`Waker::lend`]; true when the borrower was woken and has not looked since.
    pub(crate) fn give_back(&self) -> bool {
        let mut wakened = self.0.lock();
        wakened.borrower = None;
        wakened.is_news
    }
}

/// The poller's end.
#[derive(Debug)]
pub(crate) struct Gate {
    level: Arc<Level>,
    sender: Sender<BatchData>,
}

/// The application's end.
#[derive(Debug)]
pub(crate) struct GateReceiver {
    level: Arc<Level>,
    receiver: Receiver<BatchData>,
    waker: Arc<Waker>,
}

/// A gate of `budget_bytes` that wakes `waker` when there is room again.
pub(crate) fn gate(budget_bytes: usize, waker: Arc<Waker>) -> (Gate, GateReceiver) {
    let (sender, receiver) = crossbeam_channel::bounded(GATE_BATCHES);
    let level = Arc::new(Level::new(budget_bytes, GATE_BATCHES));
    let gate = Gate {
        level: Arc::clone(&level),
        sender,
    };
    let receiver = GateReceiver {
        level,
        receiver,
        waker,
    };
    (gate, receiver)
}

impl Gate {
    /// True when a batch may be pushed. When not, the poller is woken once there is room.
    pub(crate) fn has_room(&self) -> bool {
        self.level.has_room()
    }

    /// Hands a batch over; it comes back when the gate is full by count or the application's end is gone.
    #[expect(
        clippy::result_large_err,
        reason = "once per batch, and what is refused must come back"
    )]
    pub(crate) fn push(&self, batch: BatchData) -> Result<(), BatchData> {
        let bytes = batch.size_bytes();
        self.level.add(bytes);
        self.sender.try_send(batch).map_err(|error| {
            self.level.remove(bytes);
            match error {
                TrySendError::Full(batch) | TrySendError::Disconnected(batch) => batch,
            }
        })
    }
}

impl GateReceiver {
    /// The channel, to wait on together with others. What is received must go through [`GateReceiver::try_pop`].
    pub(crate) fn channel(&self) -> &Receiver<BatchData> {
        &self.receiver
    }

    /// The next batch, if one waits; its bytes go back to the budget.
    pub(crate) fn try_pop(&self) -> Option<BatchData> {
        let batch = self.receiver.try_recv().ok()?;
        if self.level.remove(batch.size_bytes()) {
            self.waker.wake();
        }
        Some(batch)
    }

    pub(crate) fn level(&self) -> &Level {
        &self.level
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
        assert!(gate.level.bytes() >= 10_000);
        assert!(receiver.try_pop().is_some());
        assert!(gate.has_room());
        while receiver.try_pop().is_some() {}
        assert_eq!(gate.level.bytes(), 0);
        assert!(gate.level.peak_bytes() >= 10_000);
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
        while gate.level.bytes() > 2_000 {
            std::thread::park();
        }
        popper.join().expect("no panic");
    }
}
