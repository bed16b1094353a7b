//! When librdkafka's queue, and what lanes have done, is looked at: at once when somebody waits for what came, otherwise when the
//! application asks or the delivery thread looks by itself.
//!
//! Any thread. A report that nobody waits for wakes no thread, which would take its time from the record that is just on its way. Always
//! true: no call is lost. Whoever waits says so and *then* asks for news, whoever has news says so and *then* looks for those who
//! wait, both in the one order of `SeqCst` operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::signal::{Signal, Waiting};
use crate::sink::Reports;

type Also = Box<dyn Fn() + Send + Sync>;

/// See the module.
pub(super) struct Bell {
    reports: Arc<dyn Reports>,
    signal: Signal,
    is_news: AtomicBool,
    also: Mutex<Option<Also>>,
}

impl Bell {
    pub(super) fn new(reports: Arc<dyn Reports>) -> Bell {
        Bell {
            reports,
            signal: Signal::new(),
            is_news: AtomicBool::new(false),
            also: Mutex::new(None),
        }
    }

    /// Announces a thread that serves, and sleeps until rung in between.
    pub(super) fn enter(&self) -> Waiting<'_> {
        self.signal.enter()
    }

    /// Has whoever serves look now.
    pub(super) fn ring(&self) {
        self.is_news.store(true, Ordering::SeqCst);
        self.signal.raise();
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

    /// What else is called at each ring: no call is under way once this has returned.
    pub(super) fn also(&self, call: Option<Also>) {
        *self.also.lock() = call;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::KafkaCode;
    use crate::sink::Report;
    use std::thread;
    use std::time::{Duration, Instant};

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

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn news_ring_when_somebody_waits_and_are_remembered_otherwise() {
        let waits = Arc::new(Waits::default());
        let bell = Bell::new(Arc::clone(&waits) as _);
        let serving = bell.enter();
        let seen = serving.epoch();
        bell.news();
        assert_eq!(serving.epoch(), seen, "nobody was woken");
        assert!(bell.has_news());
        bell.look();
        assert!(!bell.has_news());
        waits.0.store(true, Ordering::SeqCst);
        bell.news();
        assert!(serving.epoch() != seen && bell.has_news());
    }

    #[test]
    fn no_news_is_lost_to_one_who_begins_to_wait() {
        for _ in 0..2000 {
            let waits = Arc::new(Waits::default());
            let bell = Arc::new(Bell::new(Arc::clone(&waits) as _));
            let other = Arc::clone(&bell);
            let serving = bell.enter();
            let seen = serving.epoch();
            let teller = thread::spawn(move || other.news());
            waits.0.store(true, Ordering::SeqCst);
            if !bell.has_news() {
                let started = Instant::now();
                serving.wait(seen, LONG);
                assert!(started.elapsed() < LONG, "the news was lost");
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
