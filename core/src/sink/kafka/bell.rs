//! When librdkafka's queue, and what lanes have done, is looked at: at once when somebody waits for what came, otherwise when the
//! application asks or the delivery thread looks by itself.
//!
//! Any thread. A report that nobody waits for wakes no thread, which would take its time from the record that is just on its way. Always
//! true: no call is lost. Whoever waits says so and *then* asks for news, whoever has news says so and *then* looks for those who
//! wait, both in the one order of `SeqCst` operations.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use rdkafka::bindings as rd;

use super::drain::MainQueue;
use crate::sink::Reports;

type Also = Box<dyn Fn() + Send + Sync>;

/// See the module.
pub(super) struct Bell {
    reports: Arc<dyn Reports>,
    rung: Mutex<bool>,
    changed: Condvar,
    is_news: AtomicBool,
    also: Mutex<Option<Also>>,
}

impl Bell {
    pub(super) fn new(reports: Arc<dyn Reports>) -> Bell {
        Bell {
            reports,
            rung: Mutex::new(false),
            changed: Condvar::new(),
            is_news: AtomicBool::new(false),
            also: Mutex::new(None),
        }
    }

    /// Has whoever serves look now.
    pub(super) fn ring(&self) {
        self.is_news.store(true, Ordering::SeqCst);
        {
            let mut rung = self.rung.lock();
            *rung = true;
            self.changed.notify_one();
        }
        if let Some(also) = &*self.also.lock() {
            also();
        }
    }

    /// Something came.
    pub(super) fn news(&self) {
        self.is_news.store(true, Ordering::SeqCst);
        if self.reports.are_awaited() {
            self.ring();
        }
    }

    /// True when something came that was not looked at.
    pub(super) fn has_news(&self) -> bool {
        self.is_news.load(Ordering::SeqCst)
    }

    /// To be called before looking at what came.
    pub(super) fn look(&self) {
        self.is_news.store(false, Ordering::SeqCst);
    }

    /// Waits until rung, at most until the deadline.
    pub(super) fn wait(&self, deadline: Instant) {
        let mut rung = self.rung.lock();
        while !*rung {
            if self.changed.wait_until(&mut rung, deadline).timed_out() {
                break;
            }
        }
        *rung = false;
    }

    /// What else is called at each ring: no call is under way once this has returned.
    pub(super) fn also(&self, call: Option<Also>) {
        *self.also.lock() = call;
    }
}

/// Has a main queue tell a bell of news, until dropped. To be dropped before the queue's producer.
pub(super) struct Listens {
    queue: MainQueue,
    /// What the queue's callback points to.
    _bell: Arc<Bell>,
}

impl Listens {
    pub(super) fn new(queue: MainQueue, bell: &Arc<Bell>) -> Listens {
        let opaque = Arc::as_ptr(bell).cast_mut().cast::<c_void>();
        // SAFETY: the queue is alive; the bell that `opaque` points to is kept until `drop` has taken the callback away.
        unsafe { rd::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(came), opaque) };
        Listens {
            queue,
            _bell: Arc::clone(bell),
        }
    }
}

impl Drop for Listens {
    fn drop(&mut self) {
        // SAFETY: the queue is alive. Calls are made under its lock, which this takes: none is under way any more.
        unsafe { rd::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut()) };
    }
}

/// Called by librdkafka's threads, with the queue locked: must not call librdkafka for it.
unsafe extern "C" fn came(_client: *mut rd::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the bell that `Listens::new` passed, which it keeps as long as there are calls.
    let bell = unsafe { &*opaque.cast::<Bell>() };
    bell.news();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::KafkaCode;
    use crate::sink::Report;
    use std::thread;
    use std::time::Duration;

    /// Awaited or not, as the test says.
    #[derive(Default)]
    struct Waits(AtomicBool);

    impl Reports for Waits {
        fn delivered(&self, _records: u64) {}
        fn report(&self, _report: &Report<'_>) {}
        fn error(&self, _code: KafkaCode, _reason: &str) {}
        fn are_awaited(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn news_ring_when_somebody_waits_and_are_remembered_otherwise() {
        let waits = Arc::new(Waits::default());
        let bell = Bell::new(Arc::clone(&waits) as _);
        bell.news();
        let deadline = soon();
        bell.wait(deadline);
        assert!(Instant::now() >= deadline, "nobody was woken");
        assert!(bell.has_news());
        bell.look();
        assert!(!bell.has_news());
        waits.0.store(true, Ordering::SeqCst);
        bell.news();
        let deadline = Instant::now() + Duration::from_secs(60);
        bell.wait(deadline);
        assert!(Instant::now() < deadline && bell.has_news());
    }

    #[test]
    fn no_news_is_lost_to_one_who_begins_to_wait() {
        for _ in 0..2000 {
            let waits = Arc::new(Waits::default());
            let bell = Arc::new(Bell::new(Arc::clone(&waits) as _));
            let other = Arc::clone(&bell);
            let teller = thread::spawn(move || other.news());
            waits.0.store(true, Ordering::SeqCst);
            if !bell.has_news() {
                let deadline = Instant::now() + Duration::from_secs(60);
                bell.wait(deadline);
                assert!(Instant::now() < deadline, "the news was lost");
            }
            teller.join().expect("no panic");
        }
    }

    #[test]
    fn whoever_else_listens_hears_of_rings_until_told_to_stop() {
        let bell = Bell::new(Arc::new(Waits(AtomicBool::new(true))));
        let heard = Arc::new(AtomicBool::new(false));
        let ears = Arc::clone(&heard);
        bell.also(Some(Box::new(move || ears.store(true, Ordering::SeqCst))));
        bell.news();
        assert!(heard.swap(false, Ordering::SeqCst));
        bell.also(None);
        bell.ring();
        assert!(!heard.load(Ordering::SeqCst));
    }
}
