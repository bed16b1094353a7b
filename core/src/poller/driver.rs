//! Who drives the poller: its own thread, or a thread of the application while it waits for records.
//!
//! Any thread. A record that comes while the application waits then wakes one thread, the one that wants it, and not the poller's
//! first and that one after it. Whoever holds the lock drives; nobody waits for it. Always true: while the application drives, all
//! wake-ups are its own; when it leaves, the poller's thread is woken if anything came that was not looked at, if there is more to
//! do, or if it would sleep beyond the next thing that is due. The poller ends on its own thread, for that may take its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::{Next, Poller};
use crate::clock::Clock;
use crate::queue::Waker;
use crate::source::Source;

/// What is driven; see [`Poller`].
pub(crate) trait Driven: Send {
    /// As [`Poller::step`].
    fn step(&mut self) -> Next;

    /// As [`Poller::step_briefly`].
    fn step_briefly(&mut self) -> Next;
}

impl<S: Source> Driven for Poller<S> {
    fn step(&mut self) -> Next {
        Poller::step(self)
    }

    fn step_briefly(&mut self) -> Next {
        Poller::step_briefly(self)
    }
}

/// See the module.
pub(crate) struct Driver {
    /// None once it has ended.
    driven: Mutex<Option<Box<dyn Driven>>>,
    waker: Arc<Waker>,
    clock: Arc<dyn Clock>,
    /// The poller's thread found the application driving and sleeps until it leaves.
    missed: AtomicBool,
    /// When the poller's thread wakes by itself. Written by it, with the lock.
    wakes_us: AtomicU64,
    /// A step ended the poller, or a panic did: its thread is to clear it away.
    over: AtomicBool,
}

impl Driver {
    pub(crate) fn new(driven: Box<dyn Driven>, waker: Arc<Waker>, clock: Arc<dyn Clock>) -> Driver {
        Driver {
            driven: Mutex::new(Some(driven)),
            waker,
            clock,
            missed: AtomicBool::new(false),
            wakes_us: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// The life of the poller's thread: it parks, and is woken by librdkafka's queues, by commands and by the gate.
    pub(crate) fn run(&self) {
        let _end = End(self);
        self.waker.register();
        loop {
            match self.step_here() {
                Some(Next::Again) => {}
                Some(Next::Park(wait)) => std::thread::park_timeout(wait),
                Some(Next::Done) => break,
                None => std::thread::park(),
            }
        }
    }

    /// A step on the poller's thread; None when the application drives, which wakes this thread when it leaves.
    fn step_here(&self) -> Option<Next> {
        let mut slot = match self.driven.try_lock() {
            Some(slot) => slot,
            None => {
                self.missed.store(true, Ordering::SeqCst);
                // Either this sees the lock free, or whoever leaves it sees what was just said.
                fence(Ordering::SeqCst);
                self.driven.try_lock()?
            }
        };
        self.missed.store(false, Ordering::Relaxed);
        if self.over.load(Ordering::Acquire) {
            return Some(Next::Done);
        }
        let next = slot.as_mut().map_or(Next::Done, |driven| driven.step());
        let wakes_us = match next {
            Next::Park(wait) => self.in_us(wait),
            Next::Again | Next::Done => 0,
        };
        self.wakes_us.store(wakes_us, Ordering::Relaxed);
        Some(next)
    }

    fn in_us(&self, wait: Duration) -> u64 {
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.clock.now_us().saturating_add(wait_us)
    }

    /// Drives the poller on this thread until `is_over`, at most for `timeout`. False when it is driven already, or has
    /// ended: nothing was waited for.
    pub(crate) fn drive(&self, timeout: Duration, is_over: impl Fn() -> bool) -> bool {
        let Some(slot) = self.driven.try_lock() else {
            return false;
        };
        if slot.is_none() || self.over.load(Ordering::Acquire) {
            return false;
        }
        let deadline = Instant::now() + timeout;
        let mut turn = Turn::begin(self, slot);
        while !is_over() {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = turn.step();
            if left.is_zero() || next == Next::Done {
                break;
            }
            if let Next::Park(wait) = next
                && !is_over()
            {
                std::thread::park_timeout(wait.min(left));
            }
        }
        true
    }
}

/// The application drives, until this is dropped.
struct Turn<'d> {
    driver: &'d Driver,
    slot: Option<MutexGuard<'d, Option<Box<dyn Driven>>>>,
    /// The poller's thread would not do what is left in time by itself.
    is_needed: bool,
}

impl<'d> Turn<'d> {
    fn begin(driver: &'d Driver, slot: MutexGuard<'d, Option<Box<dyn Driven>>>) -> Turn<'d> {
        driver.waker.lend();
        Turn {
            driver,
            slot: Some(slot),
            is_needed: false,
        }
    }

    fn step(&mut self) -> Next {
        self.driver.waker.look();
        let driven = self.slot.as_mut().and_then(|slot| slot.as_mut());
        let next = driven.map_or(Next::Done, |driven| driven.step_briefly());
        self.is_needed = match next {
            Next::Again => true,
            Next::Park(wait) => {
                self.driver.in_us(wait) < self.driver.wakes_us.load(Ordering::Relaxed)
            }
            Next::Done => {
                self.driver.over.store(true, Ordering::Release);
                true
            }
        };
        next
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let driver = self.driver;
        if std::thread::panicking() {
            driver.over.store(true, Ordering::Release);
            self.is_needed = true;
        }
        let woken = driver.waker.give_back();
        self.slot = None;
        // The other half of what `step_here` says.
        fence(Ordering::SeqCst);
        if driver.missed.swap(false, Ordering::SeqCst) || woken || self.is_needed {
            driver.waker.wake();
        }
    }
}

/// Clears the poller away, on its own thread, also after a panic of it.
struct End<'d>(&'d Driver);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        let driven = self.0.driven.lock().take();
        drop(driven);
    }
}

#[cfg(test)]
mod tests;
