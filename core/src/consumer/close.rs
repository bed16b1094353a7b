//! Leaving the group, bounded in time, from any thread and when the consumer is dropped.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, bounded};

use crate::checks::millis;
use crate::consumer::{Consumer, LONG_WAIT, WHAT};
use crate::error::{Error, Result};
use crate::log;
use crate::poller::Command;
use crate::shared::AppEvent;

/// Dropping a consumer that was not closed waits so long for the group to be left.
const DROP_CLOSE: Duration = Duration::from_secs(5);

impl Consumer {
    /// Commits what is finished, leaves the group and ends the background thread. Records handed out and not finished
    /// are not committed: call [`Consumer::commit`] or [`Consumer::finish_in_hand`] before, if they are done.
    ///
    /// Always returns within `timeout` and a little; closing twice is fine. Batches in the application's hands stay valid.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when the group could not be left in time; it is left in the background then.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        self.fork.check(WHAT)?;
        let mut closed = self.closed.lock();
        if *closed {
            return Ok(());
        }
        *closed = true;
        drop(closed);
        let deadline = Instant::now() + timeout.min(LONG_WAIT);
        let (reply, answer) = bounded(1);
        let deadline_us = self.clock.now_us() + timeout.min(LONG_WAIT).as_micros() as u64;
        let sent = self.commands.send(Command::Close { deadline_us, reply });
        self.shared.waker.wake();
        let result = match sent {
            Ok(()) => self.wait_for_close(&answer, deadline),
            Err(_) => Ok(()),
        };
        if let Some(mut hand) = self.hand.try_lock() {
            hand.clear();
        }
        self.shared.tell(AppEvent::Closed);
        // Ended: the poller dropped librdkafka's client, so nothing of this consumer runs any more.
        let left = deadline.saturating_duration_since(Instant::now());
        if self.ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.lock().take()
        {
            let _ = thread.join();
        }
        result.map_err(|error| match error {
            Error::TimedOut { what, .. } => Error::TimedOut {
                what,
                timeout_ms: millis(timeout),
            },
            other => other,
        })
    }

    /// Waits for the poller's answer and runs the callbacks that it waits for.
    fn wait_for_close(&self, answer: &Receiver<Result<()>>, deadline: Instant) -> Result<()> {
        /// The poller answers within the deadline; this is for a machine that is slow to schedule it.
        const GRACE: Duration = Duration::from_millis(500);
        /// How often to look whether another thread still polls.
        const LOOK_AGAIN: Duration = Duration::from_millis(20);
        loop {
            let mut select = Select::new();
            let answered = select.recv(answer);
            let left = deadline.saturating_duration_since(Instant::now()) + GRACE;
            // When another thread polls, it runs the callbacks, until it stops to.
            let theirs = self.hand.try_lock().is_none_or(|hand| hand.busy);
            if !theirs {
                select.recv(&self.events);
            }
            let wait = if theirs { left.min(LOOK_AGAIN) } else { left };
            match select.ready_timeout(wait) {
                Ok(index) if index == answered => match answer.try_recv() {
                    Ok(result) => return result,
                    Err(error) if error.is_disconnected() => return Ok(()),
                    Err(_) => {}
                },
                Ok(_) => {
                    if let Ok(event) = self.events.try_recv()
                        && let Err(error) = self.handle(event)
                    {
                        log::warn(format_args!("while closing: {error}"));
                    }
                }
                Err(_) if wait < left => {}
                Err(_) => {
                    return Err(Error::TimedOut {
                        what: "closing the consumer".into(),
                        timeout_ms: 0,
                    });
                }
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.fork.is_forked() {
            // The poller's thread does not exist in this process; there is nobody to ask.
            return;
        }
        if let Err(error) = self.close(DROP_CLOSE) {
            log::warn(format_args!(
                "a consumer was dropped without close(): {error}"
            ));
        }
    }
}
