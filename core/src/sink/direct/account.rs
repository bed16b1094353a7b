//! What all topics and lanes of a producer share: how much waits, which batches are done, whom to tell, the clock, old buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::records::Batch;
use super::topic::Book;
use crate::error::KafkaCode;

/// Buffers of batches that are done are kept for new ones, up to so many bytes in all.
const KEPT_BYTES: usize = 16 * 1024 * 1024;

/// What became of a batch.
pub(super) enum Fate {
    Delivered {
        base_offset: i64,
        log_append_time_ms: i64,
    },
    GivenUp(KafkaCode),
}

/// When [`Direct::serve`](super::Direct::serve) is to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Now,
    /// When somebody waits for reports, or asks for them, or a little later.
    News,
}

/// A batch of which everything is known.
pub(super) struct Done {
    /// Since when.
    pub(super) at_us: u64,
    pub(super) book: Arc<Book>,
    pub(super) index: usize,
    pub(super) batch: Batch,
    pub(super) fate: Fate,
}

/// A broker wants to be left alone.
pub(super) struct Throttle {
    pub(super) broker: String,
    pub(super) node: i32,
    pub(super) throttle_ms: i32,
}

/// See the module.
pub(super) struct Account {
    started: Instant,
    most_records: usize,
    most_bytes: usize,
    records: AtomicUsize,
    bytes: AtomicUsize,
    done: Mutex<Vec<Done>>,
    throttles: Mutex<Vec<Throttle>>,
    /// Something is to be looked at by the delivery thread.
    is_news: AtomicBool,
    call: Box<dyn Fn(Call) + Send + Sync>,
    buffers: Mutex<(Vec<Vec<u8>>, usize)>,
}

impl Account {
    pub(super) fn new(
        most_records: usize,
        most_bytes: usize,
        call: Box<dyn Fn(Call) + Send + Sync>,
    ) -> Account {
        Account {
            started: Instant::now(),
            most_records,
            most_bytes,
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            done: Mutex::default(),
            throttles: Mutex::default(),
            is_news: AtomicBool::new(false),
            call,
            buffers: Mutex::default(),
        }
    }

    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Records that are in here.
    pub(super) fn records(&self) -> usize {
        self.records.load(Ordering::SeqCst)
    }

    /// How many records have room, beside so many elsewhere; none when there are enough bytes.
    pub(super) fn room(&self, elsewhere: usize) -> usize {
        if self.bytes.load(Ordering::Relaxed) >= self.most_bytes {
            return 0;
        }
        self.most_records
            .saturating_sub(self.records.load(Ordering::Relaxed) + elsewhere)
    }

    pub(super) fn add(&self, records: usize, bytes: usize) {
        self.records.fetch_add(records, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Has the delivery thread look.
    pub(super) fn tell(&self) {
        self.is_news.store(true, Ordering::SeqCst);
        (self.call)(Call::Now);
    }

    /// True once after each [`Account::tell`].
    pub(super) fn take_news(&self) -> bool {
        self.is_news.load(Ordering::Relaxed) && self.is_news.swap(false, Ordering::SeqCst)
    }

    pub(super) fn settle(&self, mut done: Vec<Done>) {
        if !done.is_empty() {
            self.done.lock().append(&mut done);
            self.is_news.store(true, Ordering::SeqCst);
            (self.call)(Call::News);
        }
    }

    pub(super) fn take_done(&self) -> Vec<Done> {
        std::mem::take(&mut *self.done.lock())
    }

    pub(super) fn throttled(&self, throttle: Throttle) {
        self.throttles.lock().push(throttle);
        self.tell();
    }

    pub(super) fn take_throttles(&self) -> Vec<Throttle> {
        std::mem::take(&mut *self.throttles.lock())
    }

    /// An old buffer, or a new one.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut kept = self.buffers.lock();
        let buffer = kept.0.pop().unwrap_or_default();
        kept.1 -= buffer.capacity();
        buffer
    }

    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.buffers.lock();
        if kept.1 + buffer.capacity() <= KEPT_BYTES {
            kept.1 += buffer.capacity();
            kept.0.push(buffer);
        }
    }
}
