//! How records are asked for: one by one, in batches, leased, as iterators; and finished or put back.
//!
//! The thread that polls; [`Consumer::acknowledge`] any thread.

use std::time::Duration;

use super::{Consumer, concurrent};
use crate::batch::RecordBatch;
use crate::error::{Error, Result};
use crate::record::OwnedRecord;

/// How many records a polling call wants.
#[derive(Debug, Clone, Copy)]
struct Want {
    /// At most so many.
    limit: usize,
    /// Waits until there are so many, or the deadline.
    least: usize,
    lease: bool,
}

impl Consumer {
    /// The next record. Asking for it finishes the one handed out before.
    ///
    /// `None` waits until there is a record or the consumer is closed. `Ok(None)` means that the time is over, or that
    /// [`Consumer::wake`] or [`Consumer::close`] was called.
    ///
    /// # Errors
    ///
    /// [`Error::ConcurrentUse`], [`Error::Closed`], [`Error::Listener`], and [`Error::Kafka`] for what only the
    /// application can mend (no permission, a fatal error, `auto.offset.reset=error` without a position).
    pub fn poll(&self, timeout: Option<Duration>) -> Result<Option<OwnedRecord>> {
        if let Some(record) = self.next_at_hand()? {
            return Ok(Some(record));
        }
        self.wait_for(timeout, 1, 0, |hand| {
            hand.hand_out_record(&self.shared.stats)
        })
    }

    /// The next record of the batch that the last [`Consumer::poll`] began, if nothing else is to be done first: no callback
    /// runs, and nothing is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::ConcurrentUse`].
    #[inline]
    pub fn next_at_hand(&self) -> Result<Option<OwnedRecord>> {
        let mut hand = self.hand.lock();
        if hand.busy {
            return Err(concurrent());
        }
        if self.shared.wants_attention() {
            return Ok(None);
        }
        let record = hand.next_record();
        if record.is_some() {
            self.shared.note_call();
        }
        Ok(record)
    }

    /// The next batch: returns as soon as there are records, with at most `max_records` of them (and never more than
    /// `max.poll.records`). Asking for it finishes the batch handed out before.
    ///
    /// The timeout is as for [`Consumer::poll`].
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for `max_records` of 0, and as [`Consumer::poll`].
    pub fn next_batch(
        &self,
        timeout: Option<Duration>,
        max_records: Option<usize>,
    ) -> Result<Option<RecordBatch>> {
        let want = self.want(max_records, 1, false)?;
        self.batch(timeout, want)
    }

    /// Up to `records` records: waits until there are so many, or until `timeout` is over, and then gives what there is.
    ///
    /// # Errors
    ///
    /// As [`Consumer::next_batch`].
    pub fn fill_batch(&self, timeout: Duration, records: usize) -> Result<Option<RecordBatch>> {
        let want = self.want(Some(records), records, false)?;
        self.batch(Some(timeout), want)
    }

    /// As [`Consumer::next_batch`], but the records are finished only by [`RecordBatch::acknowledge`] (in any order, by
    /// any thread), never by asking for more.
    ///
    /// # Errors
    ///
    /// As [`Consumer::next_batch`].
    pub fn lease_batch(
        &self,
        timeout: Option<Duration>,
        max_records: Option<usize>,
    ) -> Result<Option<RecordBatch>> {
        let want = self.want(max_records, 1, true)?;
        self.batch(timeout, want)
    }

    /// Waits until `records` (or `max.poll.records`, if that is less) could be handed out at once, and hands out nothing:
    /// for callers that must look at something else, such as a signal, before they take what they cannot give back.
    /// Like the other polling calls it finishes what was handed out before.
    ///
    /// False when the time is over, or [`Consumer::wake`] or [`Consumer::close`] was called.
    ///
    /// # Errors
    ///
    /// As [`Consumer::poll`].
    pub fn wait_ready(&self, timeout: Option<Duration>, records: usize) -> Result<bool> {
        let least = self.want(Some(records), records, false)?.least;
        let ready = self.wait_for(timeout, least, 0, |hand| {
            hand.settle(least, &self.shared.stats).then_some(())
        })?;
        Ok(ready.is_some())
    }

    fn want(&self, max_records: Option<usize>, least: usize, lease: bool) -> Result<Want> {
        if max_records == Some(0) {
            return Err(Error::argument(
                "max_records",
                "a batch of at most 0 records was asked for",
                "use 1 or more, or none for no limit",
            ));
        }
        let limit = max_records.unwrap_or(usize::MAX).min(self.max_poll_records);
        Ok(Want {
            limit,
            least: least.min(limit),
            lease,
        })
    }

    fn batch(&self, timeout: Option<Duration>, want: Want) -> Result<Option<RecordBatch>> {
        self.wait_for(timeout, want.least, want.limit, |hand| {
            hand.hand_out(want.limit, want.least, want.lease, &self.shared.stats)
        })
    }

    /// Batches until the consumer is closed. An error ends the iteration after it was given.
    pub fn batches(&self) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        self.until_closed(|| self.next_batch(None, None))
    }

    /// Records until the consumer is closed. An error ends the iteration after it was given.
    pub fn records(&self) -> impl Iterator<Item = Result<OwnedRecord>> + '_ {
        self.until_closed(|| self.poll(None))
    }

    fn until_closed<T>(
        &self,
        next: impl Fn() -> Result<Option<T>>,
    ) -> impl Iterator<Item = Result<T>> {
        let mut failed = false;
        std::iter::from_fn(move || {
            while !failed && !self.shared.is_closing() {
                match next() {
                    Ok(Some(item)) => return Some(Ok(item)),
                    // Woken: look again whether the consumer was closed.
                    Ok(None) => {}
                    Err(error) => {
                        failed = true;
                        return Some(Err(error));
                    }
                }
            }
            None
        })
    }

    /// Everything that `poll` and `next_batch` handed out counts as finished, without asking for more.
    pub fn finish_in_hand(&self) {
        self.hand.lock().finish(&self.shared.stats);
    }

    /// Takes back what the last polling call of this thread handed out (`lease`: what `lease_batch` gave), as if it had not:
    /// the next call hands it out again. For callers that could not pass it on, because a signal came in between.
    pub fn put_back(&self, lease: Option<&RecordBatch>) {
        self.hand.lock().put_back(lease);
        self.arm(true);
    }

    /// Notes that a leased batch is finished; see [`RecordBatch::acknowledge`].
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] when a partition was revoked, lost or sought meanwhile.
    pub fn acknowledge(&self, batch: &RecordBatch) -> Result<()> {
        batch.acknowledge()
    }
}
