//! Waiting for records, and doing meanwhile what the poller asks of the application's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Select, Sender};

use crate::batch::RecordBatch;
use crate::consumer::hand::Hand;
use crate::consumer::{Consumer, LONG_WAIT, WHAT, concurrent};
use crate::error::{Error, Result};
use crate::shared::AppEvent;

impl Consumer {
    /// Calls `notify` when a polling call may give something: for event loops, which cannot wait in here.
    ///
    /// Once after each polling call that found nothing (`Ok(None)` or `false`, also at a timeout of zero) or failed, as soon as
    /// there is something: records, also those of a partition that was resumed, a rebalance callback to run, an error, a
    /// partition's end, [`Consumer::wake`], [`Consumer::close`]. At once when something waits already, also when this is
    /// called. Now and then there is nothing after all. So: reset whatever `notify` sets, then poll until nothing is found,
    /// then wait for it. `None` ends it.
    ///
    /// `notify` runs on the thread that causes it, often the one that fetches, so it must be short (set a flag, write to an
    /// eventfd) and may call nothing of the consumer. No lock is held meanwhile; a panic in it is caught and logged. One that
    /// was replaced may still be running on another thread when this returns, and is dropped when it is done.
    pub fn set_ready_callback(&self, notify: Option<Box<dyn Fn() + Send + Sync>>) {
        self.shared.ready.set(notify.map(Arc::from));
        self.arm(true);
    }

    /// The ready callback is owed from here on; at once when something came since the last look, or, with `with_hand`, was
    /// left here.
    pub(super) fn arm(&self, with_hand: bool) {
        self.shared.ready.arm();
        if !self.gate.channel().is_empty()
            || self.shared.wants_attention()
            || self.is_closed()
            || (with_hand && self.hand.lock().has_more())
        {
            self.shared.raise_ready();
        }
    }

    /// Finishes what is in hand, then waits until `hand_out` gives something, the deadline, a wake-up or close. What is
    /// handed out together, small batches that wait already, has at most `most` rows.
    pub(super) fn wait_for<T>(
        &self,
        timeout: Option<Duration>,
        least: usize,
        most: usize,
        hand_out: impl Fn(&mut Hand) -> Option<T>,
    ) -> Result<Option<T>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout.min(LONG_WAIT * 24 * 365));
        // Held for moments only, also by commit() and its like on other threads: those are no concurrent polls.
        let mut hand = self.hand.lock();
        if hand.busy {
            return Err(concurrent());
        }
        self.fork.check(WHAT)?;
        self.shared.note_call();
        hand.finish(&self.shared.stats);
        if self.is_closed() {
            hand.clear();
            return Err(Error::Closed { what: WHAT });
        }
        hand.busy = true;
        drop(hand);
        let _busy = Busy(self);
        let mut woken = false;
        loop {
            woken |= self.attend().inspect_err(|_| self.arm(true))?;
            if self.is_closed() {
                self.arm(false);
                return Ok(None);
            }
            let over = woken || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let mut hand = self.hand.lock();
            hand.unhold();
            let gathered = self.gather(&mut hand, least, most);
            if self.shared.wants_attention() {
                // Told before the records just taken were pushed: on_assign runs before any of its partitions comes.
                continue;
            }
            if (gathered || over)
                && let Some(item) = hand_out(&mut hand)
            {
                return Ok(Some(item));
            }
            drop(hand);
            if over {
                // What may be left here was too little for this call.
                self.arm(false);
                return Ok(None);
            }
            self.park(deadline);
        }
    }

    /// Takes from the gate until `least` rows that may be handed out wait here; false when there are not so many.
    /// Rows of paused partitions are put aside on the way, so that they hold up no others. Small batches behind them come
    /// along, as far as they are handed out together.
    fn gather(&self, hand: &mut Hand, least: usize, most: usize) -> bool {
        let least = least.max(1);
        loop {
            let empty = !self.refill(hand, least);
            if hand.settle(least, &self.shared.stats) {
                while hand.joins_more(most) && self.pop_into(hand) {}
                return true;
            }
            if empty {
                return false;
            }
        }
    }

    /// Takes from the gate until `least` rows wait here; false when it had no more.
    fn refill(&self, hand: &mut Hand, least: usize) -> bool {
        while hand.pending_rows() < least {
            if !self.pop_into(hand) {
                return false;
            }
        }
        true
    }

    /// Takes the next batch from the gate; false when it is empty.
    fn pop_into(&self, hand: &mut Hand) -> bool {
        let Some(data) = self.gate.try_pop() else {
            return false;
        };
        let batch = RecordBatch::new(data);
        let waited_us = self.clock.now_us().saturating_sub(batch.received_us());
        self.shared.stats.queue_wait_us.record(waited_us);
        hand.push(batch);
        true
    }

    /// Waits for a batch or an event.
    fn park(&self, deadline: Option<Instant>) {
        let left = deadline.map_or(LONG_WAIT, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        self.shared.set_app_waiting(true);
        let came = || !self.gate.channel().is_empty() || !self.events.is_empty();
        let driver = self.driver.as_ref();
        if !driver.is_some_and(|driver| driver.drive(left, came)) {
            let mut select = Select::new();
            select.recv(self.gate.channel());
            select.recv(&self.events);
            let _ = select.ready_timeout(left);
        }
        self.shared.set_app_waiting(false);
        self.shared.note_call();
    }

    /// Handles what the poller left for the application. True when the call must return.
    fn attend(&self) -> Result<bool> {
        if !self.shared.wants_attention() {
            return Ok(false);
        }
        self.shared.attend();
        let mut woken = false;
        while let Ok(event) = self.events.try_recv() {
            match self.handle(event) {
                Ok(wake) => woken |= wake,
                Err(error) => {
                    // The rest is for the next call.
                    self.shared.set_attention();
                    return Err(error);
                }
            }
        }
        Ok(woken || self.is_closed())
    }

    /// True when the waiting call must return.
    pub(super) fn handle(&self, event: AppEvent) -> Result<bool> {
        let _telling = Telling::new(self);
        let listener = self.listener.lock().clone();
        let told = |call: &str, result: Result<()>| {
            result.map(|()| false).map_err(|error| match error {
                Error::Listener { .. } => error,
                other => Error::Listener {
                    context: format!("{call} failed: {other}"),
                },
            })
        };
        match event {
            AppEvent::Assigned(partitions) => match listener {
                Some(listener) => told("on_assign", listener.on_assign(&partitions)),
                None => Ok(false),
            },
            AppEvent::Revoking { partitions, done } => match listener {
                // The poller could not wait any longer: they are gone.
                Some(listener) if is_abandoned(&done) => {
                    told("on_lost", listener.on_lost(&partitions))
                }
                Some(listener) => {
                    let result = listener.on_revoke(&partitions);
                    drop(done);
                    self.shared.waker.wake();
                    told("on_revoke", result)
                }
                None => Ok(false),
            },
            AppEvent::Lost(partitions) => match listener {
                Some(listener) => told("on_lost", listener.on_lost(&partitions)),
                None => Ok(false),
            },
            event if self.note(&event) => Ok(true),
            AppEvent::PartitionEof {
                topic_partition,
                offset,
                ..
            } => match listener {
                Some(listener) => told(
                    "on_partition_eof",
                    listener.on_partition_eof(&topic_partition, offset),
                ),
                None => Ok(false),
            },
            AppEvent::Resumed | AppEvent::Notice(_) => Ok(false),
            AppEvent::Error { error, .. } => Err(error),
            AppEvent::Wake | AppEvent::Closed => Ok(true),
        }
    }
}

/// A callback that may run, also when it panics.
struct Telling<'c>(&'c Consumer);

impl Telling<'_> {
    fn new(consumer: &Consumer) -> Telling<'_> {
        consumer.telling.fetch_add(1, Ordering::SeqCst);
        Telling(consumer)
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.telling.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Marks the end of a polling call, also when a callback panics.
struct Busy<'c>(&'c Consumer);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.hand.lock().busy = false;
    }
}

/// True when nobody waits for this sender to be dropped any more.
fn is_abandoned(done: &Sender<()>) -> bool {
    done.try_send(())
        .is_err_and(|error| error.is_disconnected())
}
