//! Columnar batches of records over shared arenas.
//!
//! The poller copies what librdkafka hands it once, into one arena per batch, and keeps where each key, value and header
//! block begins and how long it is. A batch is immutable after that: cloning, slicing and handing it to another thread
//! copies no record, and it stays valid after its consumer was closed.
//!
//! Consecutive rows of one partition, generation and arena form a [`Run`], so that whatever is the same for thousands of
//! records (topic, generation, acknowledgement) is looked at once per run and not once per record.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::partition::Generation;
use crate::record::{OwnedRecord, Record};
use crate::tracker::{CellState, PartitionCell};

#[path = "batch/builder.rs"]
mod builder;

pub(crate) use builder::{ARENA_LIMIT_BYTES, BatchBuilder};

/// The length that stands for "no value" (a tombstone) or "no key".
pub const NULL_LENGTH: i32 = -1;

/// What the columns of one row take, in bytes; counted into the batch's size beside its arenas.
const ROW_BYTES: usize =
    2 * size_of::<i32>() + 3 * size_of::<u32>() + 2 * size_of::<i32>() + 2 * size_of::<i64>();

/// How a topic's timestamps are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The records carry none.
    NotAvailable,
    /// The producer's clock.
    CreateTime,
    /// The broker's clock at append.
    LogAppendTime,
}

/// Rows that share partition, generation, leader epoch, kind of timestamp and arena.
#[derive(Debug, Clone)]
pub(crate) struct RunData {
    pub(crate) cell: Arc<PartitionCell>,
    pub(crate) rows: Range<u32>,
    /// What the last row stands for ends here: behind a gap that follows it, where the rows behind the gap were cut off.
    pub(crate) end_offset: i64,
    pub(crate) arena: u32,
    pub(crate) leader_epoch: i32,
    pub(crate) timestamp_type: TimestampType,
}

/// Where the bytes of a column lie: `start[i]..start[i] + length[i]` in the row's arena, [`NULL_LENGTH`] for none.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    pub(crate) start: Vec<u32>,
    pub(crate) length: Vec<i32>,
}

impl Spans {
    fn with_capacity(rows: usize) -> Spans {
        Spans {
            start: Vec::with_capacity(rows),
            length: Vec::with_capacity(rows),
        }
    }

    fn push(&mut self, start: usize, length: Option<usize>) {
        // The builder refuses to let an arena grow beyond what these types hold.
        self.start.push(start as u32);
        self.length
            .push(length.map_or(NULL_LENGTH, |length| length as i32));
    }

    fn get<'a>(&self, row: usize, arena: &'a Bytes) -> Option<&'a [u8]> {
        let length = self.length[row];
        if length < 0 {
            return None;
        }
        let start = self.start[row] as usize;
        Some(&arena[start..start + length as usize])
    }

    fn extend(&mut self, other: &Spans, rows: Range<usize>) {
        self.start.extend_from_slice(&other.start[rows.clone()]);
        self.length.extend_from_slice(&other.length[rows]);
    }
}

/// The columns; see [`RecordBatch`] for what they mean.
#[derive(Debug, Default)]
pub(crate) struct BatchData {
    pub(crate) partitions: Vec<i32>,
    pub(crate) offsets: Vec<i64>,
    pub(crate) timestamps_ms: Vec<i64>,
    pub(crate) keys: Spans,
    pub(crate) values: Spans,
    /// Empty when no record of the batch has headers.
    pub(crate) headers: Spans,
    pub(crate) runs: Vec<RunData>,
    pub(crate) arenas: Vec<Bytes>,
    /// When the poller finished it, on the engine's clock.
    pub(crate) received_us: u64,
}

impl BatchData {
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Arenas and columns, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.arena_bytes() + self.len() * ROW_BYTES
    }

    /// Keys, values and headers, in bytes.
    pub(crate) fn arena_bytes(&self) -> usize {
        self.arenas.iter().map(Bytes::len).sum()
    }

    pub(crate) fn run_of(&self, row: usize) -> &RunData {
        let index = self
            .runs
            .partition_point(|run| run.rows.end as usize <= row);
        &self.runs[index]
    }

    /// The first row of run `index` that lies before what came of its cell earlier; rows until there are noted as fetched.
    pub(crate) fn went_back(&self, index: usize) -> Option<usize> {
        let run = &self.runs[index];
        let mut next = run.cell.fetched();
        let rows = run.rows.start as usize..run.rows.end as usize;
        let back = rows.clone().find(|&row| {
            let offset = self.offsets[row];
            let back = offset < next;
            next = if back { next } else { offset + 1 };
            back
        });
        run.cell.note_fetched(next);
        back
    }

    /// The rows of run `index` from `row` on, and those of later runs of the same cell, belong to another cell.
    pub(crate) fn follow(&mut self, index: usize, row: usize, cell: &Arc<PartitionCell>) {
        let old = Arc::clone(&self.runs[index].cell);
        let first = &mut self.runs[index];
        if row > first.rows.start as usize {
            let mut rest = first.clone();
            first.rows.end = row as u32;
            first.end_offset = self.offsets[row - 1] + 1;
            rest.rows.start = row as u32;
            self.runs.insert(index + 1, rest);
        }
        for run in self
            .runs
            .iter_mut()
            .filter(|run| run.rows.start as usize >= row)
        {
            if Arc::ptr_eq(&run.cell, &old) {
                run.cell = Arc::clone(cell);
            }
        }
    }

    pub(crate) fn header_block(&self, row: usize, arena: u32) -> &[u8] {
        if self.headers.length.is_empty() {
            return &[];
        }
        self.headers
            .get(row, &self.arenas[arena as usize])
            .unwrap_or(&[])
    }

    pub(crate) fn key(&self, row: usize, arena: u32) -> Option<&[u8]> {
        self.keys.get(row, &self.arenas[arena as usize])
    }

    pub(crate) fn value(&self, row: usize, arena: u32) -> Option<&[u8]> {
        self.values.get(row, &self.arenas[arena as usize])
    }

    /// The offsets that rows `rows` of `run` stand for, gaps after each record included, so that neighbouring slices
    /// touch.
    fn interval(&self, run: &RunData, rows: &Range<usize>) -> Range<i64> {
        let end = if rows.end < run.rows.end as usize {
            self.offsets[rows.end]
        } else {
            run.end_offset
        };
        self.offsets[rows.start]..end
    }
}

/// Rows that belong together, as the application sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run<'b> {
    /// The topic of every row.
    pub topic: &'b str,
    /// The partition of every row.
    pub partition: i32,
    /// The assignment that every row belongs to.
    pub generation: Generation,
    /// The rows, as indices into the batch.
    pub rows: Range<usize>,
    /// The arena that the rows' bytes lie in, as an index into [`RecordBatch::arenas`].
    pub arena: usize,
    /// The leader epoch that the rows were written under, if the broker said so.
    pub leader_epoch: Option<i32>,
    /// Whose clock the rows' timestamps are from.
    pub timestamp_type: TimestampType,
}

/// Records in columns: row `i` is the same record in every column.
///
/// A batch is immutable and reference-counted: `clone` and `slice` are cheap, it may be sent to and read from any thread,
/// and it stays valid after its consumer was closed. Rows of one partition are in offset order.
///
/// ```
/// # fn main() -> tidegate::Result<()> {
/// # let broker = tidegate::embedded::Broker::with_topics(&[("t", 1)])?;
/// # let config = tidegate::Config::new().with("bootstrap.servers", broker.bootstrap_servers());
/// # let producer = tidegate::Producer::new(&config)?;
/// # producer.send(&tidegate::ProducerRecord::new("t").value(b"hello"))?;
/// # producer.flush(std::time::Duration::from_secs(10))?;
/// # let config = config.with("group.id", "g").with("auto.offset.reset", "earliest");
/// # let consumer = tidegate::Consumer::new(&config)?;
/// # consumer.subscribe(&["t"])?;
/// if let Some(batch) = consumer.next_batch(Some(std::time::Duration::from_secs(30)), None)? {
///     for (offset, row) in batch.offsets().iter().zip(0..) {
///         println!("{offset}: {:?}", batch.value(row));
///     }
/// # assert_eq!(batch.value(0), Some(&b"hello"[..]));
/// # } else {
/// #   panic!("no record");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RecordBatch {
    data: Arc<BatchData>,
    start: usize,
    end: usize,
}

impl RecordBatch {
    pub(crate) fn new(data: BatchData) -> RecordBatch {
        let end = data.len();
        RecordBatch {
            data: Arc::new(data),
            start: 0,
            end,
        }
    }

    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// True when there is no record (a slice may be empty; what the consumer hands out never is).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The record in row `row`, or `None` beyond the end.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<Record<'_>> {
        (row < self.len()).then(|| {
            let row = self.start + row;
            Record::new(&self.data, self.data.run_of(row), row)
        })
    }

    /// As [`RecordBatch::get`], for a record that keeps the batch alive.
    #[must_use]
    pub fn get_owned(&self, row: usize) -> Option<OwnedRecord> {
        (row < self.len()).then(|| OwnedRecord::new(self.clone(), row))
    }

    /// The records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> + '_ {
        let mut index = self
            .data
            .runs
            .partition_point(|run| run.rows.end as usize <= self.start);
        (self.start..self.end).map(move |row| {
            if self.data.runs[index].rows.end as usize <= row {
                index += 1;
            }
            Record::new(&self.data, &self.data.runs[index], row)
        })
    }

    /// The records of `rows` without a copy.
    ///
    /// # Panics
    ///
    /// When `rows` reaches beyond the batch, as slicing does.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> RecordBatch {
        assert!(
            rows.start <= rows.end && rows.end <= self.len(),
            "rows {rows:?} of a batch of {}",
            self.len()
        );
        RecordBatch {
            data: Arc::clone(&self.data),
            start: self.start + rows.start,
            end: self.start + rows.end,
        }
    }

    /// Each record's offset.
    #[must_use]
    pub fn offsets(&self) -> &[i64] {
        &self.data.offsets[self.start..self.end]
    }

    /// Each record's partition.
    #[must_use]
    pub fn partitions(&self) -> &[i32] {
        &self.data.partitions[self.start..self.end]
    }

    /// Each record's timestamp in milliseconds since 1970, -1 where there is none.
    #[must_use]
    pub fn timestamps_ms(&self) -> &[i64] {
        &self.data.timestamps_ms[self.start..self.end]
    }

    /// The value of row `row`; `None` for a tombstone and beyond the end.
    #[must_use]
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        self.get(row).and_then(|record| record.value())
    }

    /// The key of row `row`; `None` for a record without one and beyond the end.
    #[must_use]
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        self.get(row).and_then(|record| record.key())
    }

    /// Where each value lies in its row's arena: starts, and lengths ([`NULL_LENGTH`] for none), both in bytes.
    #[must_use]
    pub fn value_columns(&self) -> (&[u32], &[i32]) {
        self.spans(&self.data.values)
    }

    /// Where each key lies in its row's arena: starts, and lengths ([`NULL_LENGTH`] for none), both in bytes.
    #[must_use]
    pub fn key_columns(&self) -> (&[u32], &[i32]) {
        self.spans(&self.data.keys)
    }

    /// False when no record has headers, so that none need be looked at; true when one may have.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        !self.data.headers.length.is_empty()
    }

    fn spans<'a>(&self, spans: &'a Spans) -> (&'a [u32], &'a [i32]) {
        (
            &spans.start[self.start..self.end],
            &spans.length[self.start..self.end],
        )
    }

    /// The memory that the rows' keys, values and headers lie in; [`Run::arena`] says which row uses which.
    #[must_use]
    pub fn arenas(&self) -> &[Bytes] {
        &self.data.arenas
    }

    /// Memory held by the whole batch that this is a part of: arenas and columns, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.data.size_bytes()
    }

    /// The part of [`RecordBatch::size_bytes`] that belongs to these rows, if all are alike.
    pub(crate) fn share_bytes(&self) -> usize {
        (self.size_bytes() * self.len())
            .checked_div(self.data.len())
            .unwrap_or(0)
    }

    /// The rows grouped by partition and assignment.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> + '_ {
        self.run_parts().map(|(run, rows)| Run {
            topic: &run.cell.topic_partition().topic,
            partition: run.cell.topic_partition().partition,
            generation: run.cell.generation(),
            rows: rows.start - self.start..rows.end - self.start,
            arena: run.arena as usize,
            leader_epoch: (run.leader_epoch >= 0).then_some(run.leader_epoch),
            timestamp_type: run.timestamp_type,
        })
    }

    /// Runs and the part of their rows that lies in this slice, as rows of the shared data.
    pub(crate) fn run_parts(&self) -> impl Iterator<Item = (&RunData, Range<usize>)> + '_ {
        let first = self
            .data
            .runs
            .partition_point(|run| run.rows.end as usize <= self.start);
        self.data.runs[first..]
            .iter()
            .map(|run| {
                let start = self.start.max(run.rows.start as usize);
                let end = self.end.min(run.rows.end as usize);
                (run, start..end)
            })
            .take_while(|(_, rows)| rows.start < rows.end)
    }

    pub(crate) fn received_us(&self) -> u64 {
        self.data.received_us
    }

    /// True when the partition of row `row` was revoked, lost or sought since the batch was fetched: whoever owns the
    /// partition now handles the record, and finishing it here changes nothing. Beyond the end: true.
    #[must_use]
    pub fn is_stale(&self, row: usize) -> bool {
        row >= self.len() || !self.data.run_of(self.start + row).cell.is_live()
    }

    /// True when finishing the record counts for nothing any more: its partition is not being revoked, it is gone.
    pub(crate) fn is_gone(&self, row: usize) -> bool {
        row >= self.len() || self.data.run_of(self.start + row).cell.state() == CellState::Closed
    }

    /// Notes that all records of the batch are finished, so that they may be committed; doing so twice is harmless.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] when a partition was revoked, lost or sought meanwhile; the other records are noted.
    pub fn acknowledge(&self) -> Result<()> {
        self.acknowledge_rows(0..self.len())
    }

    /// Notes that the records of `rows` are finished, in any order; see [`RecordBatch::acknowledge`].
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when `rows` reaches beyond the batch, [`Error::Stale`] as above.
    pub fn acknowledge_rows(&self, rows: Range<usize>) -> Result<()> {
        self.check_rows(&rows)?;
        let mut stale = None;
        for (run, rows) in self.slice(rows).run_parts() {
            let interval = self.data.interval(run, &rows);
            run.cell.complete(interval.start, interval.end);
            if run.cell.state() == CellState::Closed {
                stale = Some(run.cell.topic_partition().clone());
            }
        }
        match stale {
            None => Ok(()),
            Some(tp) => Err(Error::Stale {
                topic: tp.topic.to_string(),
                partition: tp.partition,
            }),
        }
    }

    /// The cell of row `row`, and the offsets that the row stands for: its own, and the gap after it.
    pub(crate) fn place(&self, row: usize) -> Option<(&Arc<PartitionCell>, Range<i64>)> {
        let row = (row < self.len()).then_some(self.start + row)?;
        let run = self.data.run_of(row);
        Some((&run.cell, self.data.interval(run, &(row..row + 1))))
    }

    /// See [`OwnedRecord`].
    pub(crate) fn store_row(&self, row: usize) -> bool {
        let row = self.start + row;
        self.data.run_of(row).cell.store(self.data.offsets[row] + 1)
    }

    /// Gives back leased records of `rows` that will not be finished here, because their partition is being revoked
    /// ([`RecordBatch::is_stale`]): the revoke then need not wait for them. They are not committed and are handled by the
    /// partition's next owner. Any thread; what is finished already stays finished.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when `rows` reaches beyond the batch.
    pub fn release_rows(&self, rows: Range<usize>) -> Result<()> {
        self.check_rows(&rows)?;
        for (run, rows) in self.slice(rows).run_parts() {
            let interval = self.data.interval(run, &rows);
            run.cell.release(interval.start, interval.end);
        }
        Ok(())
    }

    fn check_rows(&self, rows: &Range<usize>) -> Result<()> {
        if rows.start > rows.end || rows.end > self.len() {
            return Err(Error::argument(
                "rows",
                format!("{rows:?} reaches beyond the batch's {} records", self.len()),
                "use row numbers below len()",
            ));
        }
        Ok(())
    }

    /// The offsets that `rows` stand for, which are rows of the shared data within `run`, as [`RecordBatch::run_parts`]
    /// gives them.
    pub(crate) fn interval(&self, run: &RunData, rows: &Range<usize>) -> Range<i64> {
        self.data.interval(run, rows)
    }

    /// One batch of the rows of several, in order. Columns are copied, arenas are shared.
    pub(crate) fn concat(parts: &[RecordBatch]) -> RecordBatch {
        if let [single] = parts {
            return single.clone();
        }
        let rows = parts.iter().map(RecordBatch::len).sum();
        let mut data = BatchBuilder::with_capacity(rows, 0).data;
        let with_headers = parts
            .iter()
            .any(|part| !part.data.headers.length.is_empty());
        data.received_us = parts.first().map_or(0, RecordBatch::received_us);
        for part in parts {
            let range = part.start..part.end;
            let arena_base = data.arenas.len() as u32;
            let mut row_base = data.len() as u32;
            for (run, rows) in part.run_parts() {
                let length = rows.len() as u32;
                data.runs.push(RunData {
                    rows: row_base..row_base + length,
                    end_offset: part.interval(run, &rows).end,
                    arena: arena_base + run.arena,
                    ..run.clone()
                });
                row_base += length;
            }
            data.partitions.extend_from_slice(part.partitions());
            data.offsets.extend_from_slice(part.offsets());
            data.timestamps_ms.extend_from_slice(part.timestamps_ms());
            data.keys.extend(&part.data.keys, range.clone());
            data.values.extend(&part.data.values, range.clone());
            if with_headers {
                if part.data.headers.length.is_empty() {
                    data.headers.start.resize(data.offsets.len(), 0);
                    data.headers.length.resize(data.offsets.len(), NULL_LENGTH);
                } else {
                    data.headers.extend(&part.data.headers, range);
                }
            }
            data.arenas.extend(part.data.arenas.iter().cloned());
        }
        RecordBatch::new(data)
    }
}

impl<'b> IntoIterator for &'b RecordBatch {
    type Item = Record<'b>;
    type IntoIter = Box<dyn ExactSizeIterator<Item = Record<'b>> + 'b>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

#[cfg(test)]
#[path = "batch/tests.rs"]
mod tests;
