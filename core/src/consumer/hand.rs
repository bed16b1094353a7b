//! What waits for the application and what it holds: the state behind `poll` and `next_batch`.
//!
//! One thread at a time, guarded by the consumer. Stale rows are dropped and rows of paused partitions kept back here,
//! run by run, at the last moment before they are handed out.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::RecordBatch;
use crate::poller::BATCH_RECORDS;
use crate::record::OwnedRecord;
use crate::stats::ConsumerMetrics;
use crate::tracker::PartitionCell;

/// A batch with fewer rows than this is joined with others that wait; one with more is handed out as it is, for joining
/// copies the columns.
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
    /// Hands out the first row; the batch comes back when it is empty or its first rows are being taken away.
    fn start(batch: RecordBatch) -> Result<Cursor, RecordBatch> {
        let first = batch
            .run_parts()
            .next()
            .map(|(run, rows)| (Arc::clone(&run.cell), run.leader_epoch, rows.len()));
        let Some((cell, leader_epoch, run_end)) = first else {
            return Err(batch);
        };
        let cursor = Cursor {
            batch,
            row: 0,
            run_end,
            cell,
        };
        let (first, end) = cursor.interval(0);
        if cursor.cell.deliver(first, end) {
            cursor.cell.note_consumed_epoch(leader_epoch);
            Ok(cursor)
        } else {
            Err(cursor.batch)
        }
    }

    /// The offsets that a row of the run stands for.
    fn interval(&self, row: usize) -> (i64, i64) {
        let offsets = self.batch.offsets();
        let end = if row + 1 < self.run_end {
            offsets[row + 1]
        } else {
            offsets[row] + 1
        };
        (offsets[row], end)
    }

    fn finish(&self) {
        let (first, end) = self.interval(self.row);
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
        // In this order: whoever takes the partition away sees a record in hand all the time, and waits.
        let (first, end) = self.interval(self.row + 1);
        self.cell.deliver_next(first, end);
        self.finish();
        self.row += 1;
        Some(self.record())
    }
}

/// What may be done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Live,
    /// Kept back until its partition is resumed.
    Paused,
    /// Its partition was revoked, lost or sought: dropped.
    Stale,
}

#[derive(Debug, Default)]
enum InHand {
    #[default]
    Nothing,
    Batch(RecordBatch),
    Record(Cursor),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hand {
    pending: VecDeque<RecordBatch>,
    pending_rows: usize,
    /// Rows of paused partitions, in order.
    held: Vec<RecordBatch>,
    in_hand: InHand,
    /// A thread is inside a polling call.
    pub(crate) busy: bool,
    /// Batches are not joined beyond this.
    join_bytes: usize,
}

impl Hand {
    /// An empty hand that joins small batches up to `join_bytes`.
    pub(crate) fn new(join_bytes: usize) -> Hand {
        Hand {
            pending: VecDeque::new(),
            pending_rows: 0,
            held: Vec::new(),
            in_hand: InHand::Nothing,
            busy: false,
            join_bytes,
        }
    }

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

    /// What was handed out last, or this lease, waits again as if it had not been.
    pub(crate) fn put_back(&mut self, lease: Option<&RecordBatch>) {
        let batch = match (std::mem::take(&mut self.in_hand), lease) {
            (InHand::Record(cursor), _) => {
                // Of the runs behind the record's nothing was handed out yet.
                let (first, _) = cursor.interval(cursor.row);
                cursor.cell.take_back(first);
                cursor.batch.slice(cursor.row..cursor.batch.len())
            }
            (InHand::Batch(batch), _) => taken_back(batch),
            (InHand::Nothing, Some(lease)) => taken_back(lease.clone()),
            (InHand::Nothing, None) => return,
        };
        // Later rows of a partition that was paused meanwhile may be kept back already.
        self.bring_back();
        self.push_front(batch);
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

    /// True when there are rows here that were not handed out yet, those of paused partitions apart.
    pub(crate) fn has_more(&self) -> bool {
        self.pending_rows > 0
            || matches!(&self.in_hand, InHand::Record(cursor) if cursor.row + 1 < cursor.batch.len())
    }

    /// Brings back what waited for a resume, or was taken away meanwhile.
    pub(crate) fn unhold(&mut self) {
        let waits = |batch: &RecordBatch| {
            let mut runs = batch.run_parts();
            runs.all(|(run, _)| run.cell.is_live() && run.cell.is_paused())
        };
        if !self.held.iter().all(waits) {
            self.bring_back();
        }
    }

    fn bring_back(&mut self) {
        for batch in std::mem::take(&mut self.held).into_iter().rev() {
            self.push_front(batch);
        }
    }

    /// True when earlier rows of this partition are kept back, also those of a cell before.
    fn holds(&self, cell: &Arc<PartitionCell>) -> bool {
        let partition = cell.topic_partition();
        self.held.iter().any(|batch| {
            batch
                .run_parts()
                .any(|(run, _)| run.cell.topic_partition() == partition)
        })
    }

    fn class_of(&self, cell: &Arc<PartitionCell>) -> Class {
        if !cell.is_live() {
            Class::Stale
        } else if cell.is_paused() || self.holds(cell) {
            // Resumed a moment ago: what is kept back comes first.
            Class::Paused
        } else {
            Class::Live
        }
    }

    /// How many rows at the head of `batch` are of one class; of live ones no more than `limit`, and with `deliver` they
    /// are noted as handed out.
    fn classify(&self, batch: &RecordBatch, limit: usize, deliver: bool) -> (Class, usize) {
        let mut head = None;
        let mut length = 0;
        for (run, rows) in batch.run_parts() {
            let mut class = self.class_of(&run.cell);
            if head.is_some_and(|head| head != class) {
                break;
            }
            let mut take = rows.len();
            if class == Class::Live {
                take = take.min(limit - length);
                if take == 0 {
                    break;
                }
                let interval = batch.interval(run, &(rows.start..rows.start + take));
                if deliver && run.cell.deliver(interval.start, interval.end) {
                    run.cell.note_consumed_epoch(run.leader_epoch);
                } else if deliver {
                    // Taken away this very moment.
                    if head.is_some() {
                        break;
                    }
                    (class, take) = (Class::Stale, rows.len());
                }
            }
            head = Some(class);
            length += take;
        }
        (head.unwrap_or(Class::Stale), length)
    }

    /// The next rows that may be handed out, at most `limit`, all live and not paused; with `deliver` they are noted as
    /// handed out.
    fn next_live(
        &mut self,
        limit: usize,
        deliver: bool,
        metrics: &ConsumerMetrics,
    ) -> Option<RecordBatch> {
        while let Some(batch) = self.pending.pop_front() {
            self.pending_rows -= batch.len();
            let (class, length) = self.classify(&batch, limit, deliver);
            let part = batch.slice(0..length);
            if length < batch.len() {
                self.push_front(batch.slice(length..batch.len()));
            }
            match class {
                Class::Live => return Some(part),
                Class::Paused => self.held.push(part),
                Class::Stale => metrics.records_stale.add(length as u64),
            }
        }
        None
    }

    /// Puts aside what is paused and drops what is stale, until `least` rows that may be handed out wait at the head;
    /// false when there are not so many.
    pub(crate) fn settle(&mut self, least: usize, metrics: &ConsumerMetrics) -> bool {
        let mut settled = Vec::new();
        let mut rows = 0;
        while rows < least {
            let Some(part) = self.next_live(usize::MAX, false, metrics) else {
                break;
            };
            rows += part.len();
            settled.push(part);
        }
        for part in settled.into_iter().rev() {
            self.push_front(part);
        }
        rows >= least
    }

    /// True when one more batch of the gate would be handed out together with what waits here: all of it is small, and
    /// together they have fewer than `most` rows.
    pub(crate) fn joins_more(&self, most: usize) -> bool {
        let all_small = self.pending.iter().all(|batch| batch.len() < SMALL_BATCH);
        let bytes = self.pending.iter().map(RecordBatch::share_bytes);
        self.pending_rows < most.min(BATCH_RECORDS)
            && all_small
            && bytes.sum::<usize>() < self.join_bytes
    }

    /// Hands out up to `limit` rows: what is needed for `wanted`, and small batches as far as they wait here and stay small
    /// together.
    fn take(
        &mut self,
        limit: usize,
        wanted: usize,
        metrics: &ConsumerMetrics,
    ) -> Option<RecordBatch> {
        let first = self.next_live(limit, true, metrics)?;
        let wanted = limit.min(wanted);
        let most = limit.min(wanted.max(BATCH_RECORDS));
        let (mut rows, mut bytes) = (first.len(), first.share_bytes());
        let mut parts = vec![first];
        while rows < most {
            let next_rows = self.pending.front().map_or(0, RecordBatch::len);
            let is_small = parts[0].len().max(next_rows) < SMALL_BATCH && bytes < self.join_bytes;
            if rows >= wanted && !is_small {
                break;
            }
            let Some(part) = self.next_live(most - rows, true, metrics) else {
                break;
            };
            rows += part.len();
            bytes += part.share_bytes();
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
        metrics.batches_handed.add(1);
        metrics.records_handed.add(batch.len() as u64);
        if !lease {
            self.in_hand = InHand::Batch(batch.clone());
        }
        Some(batch)
    }

    /// Hands out the first record of what waits; the others follow by [`Hand::next_record`].
    pub(crate) fn hand_out_record(&mut self, metrics: &ConsumerMetrics) -> Option<OwnedRecord> {
        loop {
            // Not joined with others: what is left of it comes back here after each run.
            let batch = self.next_live(usize::MAX, false, metrics)?;
            match Cursor::start(batch) {
                Ok(cursor) => {
                    metrics.batches_handed.add(1);
                    let record = cursor.record();
                    self.in_hand = InHand::Record(cursor);
                    return Some(record);
                }
                // Taken away this very moment: dropped as stale at the next look.
                Err(batch) => self.push_front(batch),
            }
        }
    }

    /// Forgets everything that waits.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.pending_rows = 0;
        self.held.clear();
    }
}

/// A batch as if it had not been handed out.
fn taken_back(batch: RecordBatch) -> RecordBatch {
    let offsets = batch.offsets();
    let firsts: Vec<_> = batch
        .runs()
        .zip(batch.run_parts())
        .map(|(run, (data, _))| (&data.cell, offsets[run.rows.start]))
        .collect();
    // From the last to the first, so that a partition that occurs twice ends at its lowest offset.
    for (cell, first) in firsts.into_iter().rev() {
        cell.take_back(first);
    }
    batch
}

#[cfg(test)]
mod tests;
