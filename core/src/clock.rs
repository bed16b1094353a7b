//! Time, as the engine sees it: monotonic microseconds, real or virtual.
//!
//! L0; any thread. Everything that waits or measures takes a [`Clock`], so that tests run hours of waiting in no time.

use std::time::{Duration, Instant};

use crate::signal::Waiting;

/// Monotonic time.
pub(crate) trait Clock: Send + Sync {
    /// Microseconds since some moment before the first call.
    fn now_us(&self) -> u64;

    /// Waits until the signal's epoch is no longer `seen`, or `timeout` has passed.
    fn wait(&self, waiting: &Waiting<'_>, seen: u64, timeout: Duration) {
        waiting.wait(seen, timeout);
    }
}

/// The machine's monotonic clock.
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> SystemClock {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// What happens elsewhere while somebody waits; hears the new time.
#[cfg(test)]
type World = Box<dyn FnMut(u64) + Send>;

/// A clock that a test moves. A wait on it takes no real time: it moves the clock on by the timeout and returns.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct TestClock {
    now_us: std::sync::atomic::AtomicU64,
    on_wait: parking_lot::Mutex<Option<World>>,
}

#[cfg(test)]
impl TestClock {
    pub(crate) fn new() -> TestClock {
        TestClock::default()
    }

    pub(crate) fn advance(&self, by: Duration) {
        let by_us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.now_us
            .fetch_add(by_us, std::sync::atomic::Ordering::SeqCst);
    }

    /// What the rest of the world does while somebody waits; called with the new time after each wait.
    pub(crate) fn on_wait(&self, world: impl FnMut(u64) + Send + 'static) {
        *self.on_wait.lock() = Some(Box::new(world));
    }
}

#[cfg(test)]
impl Clock for TestClock {
    fn now_us(&self) -> u64 {
        self.now_us.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn wait(&self, _waiting: &Waiting<'_>, _seen: u64, timeout: Duration) {
        self.advance(timeout);
        if let Some(world) = self.on_wait.lock().as_mut() {
            world(self.now_us());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = SystemClock::new();
        let first = clock.now_us();
        assert!(clock.now_us() >= first);
    }

    #[test]
    fn a_virtual_wait_takes_no_real_time() {
        let clock = TestClock::new();
        let started = Instant::now();
        let signal = crate::signal::Signal::new();
        let waiting = signal.enter();
        clock.wait(&waiting, waiting.epoch(), Duration::from_secs(3600));
        assert_eq!(clock.now_us(), 3_600_000_000);
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
