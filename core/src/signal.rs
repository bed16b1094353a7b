//! A wake-up for threads that wait for progress: an epoch that grows, and a condition variable.
//!
//! L0; any thread. Raising costs one atomic load while nobody waits. No wake-up is lost: a waiter announces itself with
//! [`Signal::enter`] *before* it looks at what it waits for, whoever makes progress looks for waiters *after* it, both in the
//! one order of `SeqCst` operations, so that at least one of them sees the other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// An instant this far ahead is never reached; longer waits are cut to it and go round the caller's loop.
const FAR: Duration = Duration::from_secs(24 * 3600);

#[derive(Default)]
pub(crate) struct Signal {
    epoch: AtomicU64,
    waiters: AtomicUsize,
    lock: Mutex<()>,
    raised: Condvar,
}

impl Signal {
    pub(crate) fn new() -> Signal {
        Signal::default()
    }

    /// Announces a waiter, until the guard is dropped.
    pub(crate) fn enter(&self) -> Waiting<'_> {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        Waiting { signal: self }
    }

    /// True while somebody waits. To be asked after a `SeqCst` write of what they wait for.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiters.load(Ordering::SeqCst) > 0
    }

    /// Wakes every waiter.
    pub(crate) fn raise(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if self.is_waited_for() {
            // A waiter holds the lock from its look at the epoch until it sleeps.
            drop(self.lock.lock());
            self.raised.notify_all();
        }
    }
}

/// An announced waiter.
pub(crate) struct Waiting<'a> {
    signal: &'a Signal,
}

impl Waiting<'_> {
    /// To be read before looking at what is waited for.
    pub(crate) fn epoch(&self) -> u64 {
        self.signal.epoch.load(Ordering::SeqCst)
    }

    /// Sleeps until the epoch is no longer `seen`, at most for `timeout`.
    pub(crate) fn wait(&self, seen: u64, timeout: Duration) {
        let deadline = Instant::now() + timeout.min(FAR);
        let mut guard = self.signal.lock.lock();
        while self.epoch() == seen {
            if self
                .signal
                .raised
                .wait_until(&mut guard, deadline)
                .timed_out()
            {
                break;
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.signal.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: usize = 2000;
        let started = Instant::now();
        for _ in 0..ROUNDS {
            let shared = Arc::new((Signal::new(), AtomicBool::new(false)));
            let other = Arc::clone(&shared);
            let raiser = thread::spawn(move || {
                other.1.store(true, Ordering::SeqCst);
                if other.0.is_waited_for() {
                    other.0.raise();
                }
            });
            let waiting = shared.0.enter();
            loop {
                let seen = waiting.epoch();
                if shared.1.load(Ordering::SeqCst) {
                    break;
                }
                waiting.wait(seen, Duration::from_secs(60));
            }
            raiser.join().unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn the_timeout_is_honoured_and_a_past_raise_returns_at_once() {
        let signal = Signal::new();
        let waiting = signal.enter();
        let seen = waiting.epoch();
        let started = Instant::now();
        waiting.wait(seen, Duration::from_millis(30));
        assert!(started.elapsed() >= Duration::from_millis(30));
        signal.raise();
        let started = Instant::now();
        waiting.wait(seen, Duration::MAX);
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
