//! What waits for the application and what it holds: the state behind `poll` and `next_batch`.
//!
//! One thread at a time, guarded by the consumer. Stale rows are dropped and rows of paused partitions kept back here,
//! run by run, at the last moment before they are handed out.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::RecordBatch;
use crate::record::OwnedRecord;
use crate::stats::ConsumerMetrics;
use crate::tracker::PartitionCell;

/// A batch with fewer rows than this is joined with others that wait.
const SMALL_BATCH: usize = 1024;

/// Records handed out one by one.
#[derive(Debug)]
struct Cursor {
    batch: RecordBatch,
    /// The record in the application's hands.
    row: usize,
    /// Where this run of rows ends; `cell` is the run's.
    run_end: usize,
    cell: Arc<PartitionCell>,
}

impl Cursor {
    /// Hands out the first row; `None` for an empty batch.
    fn start(batch: RecordBatch) -> Option<Cursor> {
        let (cell, run_end) = {
            let (run, rows) = batch.run_parts().next()?;
            (Arc::clone(&run.cell), rows.len())
        };
        let cursor = Cursor {
            batch,
            row: 0,
            run_end,
            cell,
        };
        cursor.deliver();
        Some(cursor)
    }

    /// The offsets that the row in hand stands for.
    fn interval(&self) -> (i64, i64) {
        let offsets = self.batch.offsets();
        let end = if self.row + 1 < self.run_end {
            offsets[self.row + 1]
        } else {
            offsets[self.row] + 1
        };
        (offsets[self.row], end)
    }

    fn deliver(&self) {
        let (first, end) = self.interval();
        self.cell.deliver(first, end);
    }

    fn finish(&self) {
        let (first, end) = self.interval();
        self.cell.complete(first, end);
    }

    fn record(&self) -> OwnedRecord {
        OwnedRecord::new(self.batch.clone(), self.row)
    }

    /// Finishes the record in hand and hands out the next one of its run.
    fn advance(&mut self) -> Option<OwnedRecord> {
        if self.row + 1 >= self.run_end || !self.cell.is_live() || self.cell.is_paused() {
            return None;
        }
        self.finish();
        self.row += 1;
        self.deliver();
        Some(self.record())
    }
}

#[derive(Debug, Default)]
enum InHand {
    #[default]
    Nothing,
    Batch(RecordBatch),
    Record(Cursor),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    pending: VecDeque<RecordBatch>,
    pending_rows: usize,
    /// Rows of paused partitions, in order.
    held: Vec<RecordBatch>,
    in_hand: InHand,
    /// A thread is inside a polling call.
    pub(crate) busy: bool,
}

impl Hand {
    /// The next record without looking at anything but the batch under the cursor.
    #[inline]
    pub(crate) fn next_record(&mut self) -> Option<OwnedRecord> {
        match &mut self.in_hand {
            InHand::Record(cursor) => cursor.advance(),
            InHand::Nothing | InHand::Batch(_) => None,
        }
    }

    /// Everything handed out is finished, leases apart.
    pub(crate) fn finish(&mut self, metrics: &ConsumerMetrics) {
        match std::mem::take(&mut self.in_hand) {
            InHand::Nothing => {}
            InHand::Batch(batch) => {
                // A stale part is its new owner's business.
                let _ = batch.acknowledge();
            }
            InHand::Record(cursor) => {
                cursor.finish();
                let next = cursor.row + 1;
                metrics.records_handed.add(next as u64);
                if next < cursor.batch.len() {
                    self.push_front(cursor.batch.slice(next..cursor.batch.len()));
                }
            }
        }
    }

    pub(crate) fn push(&mut self, batch: RecordBatch) {
        self.pending_rows += batch.len();
        self.pending.push_back(batch);
    }

    fn push_front(&mut self, batch: RecordBatch) {
        self.pending_rows += batch.len();
        self.pending.push_front(batch);
    }

    /// Rows that wait here, stale ones included.
    pub(crate) fn pending_rows(&self) -> usize {
        self.pending_rows
    }

    /// Brings back what waited for a resume.
    pub(crate) fn unhold(&mut self) {
        if self.held.is_empty() {
            return;
        }
        for batch in std::mem::take(&mut self.held).into_iter().rev() {
            self.push_front(batch);
        }
    }

    /// The next rows that may be handed out, at most `limit`, all live and not paused.
    fn next_live(&mut self, limit: usize, metrics: &ConsumerMetrics) -> Option<RecordBatch> {
        while let Some(batch) = self.pending.pop_front() {
            self.pending_rows -= batch.len();
            let mut runs = batch.run_parts();
            let class_of = |cell: &PartitionCell| (cell.is_live(), cell.is_paused());
            let Some((first, rows)) = runs.next() else {
                continue;
            };
            let (live, paused) = class_of(&first.cell);
            let mut length = rows.len();
            for (run, rows) in runs {
                if class_of(&run.cell) != (live, paused) {
                    break;
                }
                length += rows.len();
            }
            let take = if live && !paused {
                length.min(limit)
            } else {
                length
            };
            let part = batch.slice(0..take);
            if take < batch.len() {
                self.push_front(batch.slice(take..batch.len()));
            }
            match (live, paused) {
                (true, false) => return Some(part),
                (true, true) => self.held.push(part),
                (false, _) => metrics.records_stale.add(take as u64),
            }
        }
        None
    }

    /// Up to `limit` rows; small batches are joined, and all of them when at least `wanted` rows are wanted.
    fn take(
        &mut self,
        limit: usize,
        wanted: usize,
        metrics: &ConsumerMetrics,
    ) -> Option<RecordBatch> {
        let first = self.next_live(limit, metrics)?;
        let enough = limit.min(wanted.max(SMALL_BATCH));
        let mut rows = first.len();
        if rows >= enough || self.pending.is_empty() {
            return Some(first);
        }
        let mut parts = vec![first];
        while rows < enough {
            let Some(part) = self.next_live(limit - rows, metrics) else {
                break;
            };
            rows += part.len();
            parts.push(part);
        }
        Some(RecordBatch::concat(&parts))
    }

    /// Hands out a batch. A lease is finished only by acknowledging it.
    pub(crate) fn hand_out(
        &mut self,
        limit: usize,
        wanted: usize,
        lease: bool,
        metrics: &ConsumerMetrics,
    ) -> Option<RecordBatch> {
        let batch = self.take(limit, wanted, metrics)?;
        batch.deliver();
        metrics.batches_handed.add(1);
        metrics.records_handed.add(batch.len() as u64);
        if !lease {
            self.in_hand = InHand::Batch(batch.clone());
        }
        Some(batch)
    }

    /// Hands out the first record of what waits; the others follow by [`Hand::next_record`].
    pub(crate) fn hand_out_record(&mut self, metrics: &ConsumerMetrics) -> Option<OwnedRecord> {
        // Not joined with others: what is left of it comes back here after each run.
        let batch = self.next_live(usize::MAX, metrics)?;
        metrics.batches_handed.add(1);
        let cursor = Cursor::start(batch)?;
        let record = cursor.record();
        self.in_hand = InHand::Record(cursor);
        Some(record)
    }

    /// Forgets everything that waits.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.pending_rows = 0;
        self.held.clear();
    }
}
