//! What is handled and waits for a transaction: outputs, and which of them may go together with which offsets.
//!
//! Under the dispatcher's lock; no threads, no clock, no broker. What must hold, and why nothing is lost or doubled:
//! - The outputs of a record are sent in a transaction exactly if that transaction commits offsets that count the record as done: the
//!   committed offset passes it, or the map in its metadata names it. So whoever reads the offsets next either finds the outputs
//!   committed and skips the record, or finds neither and handles it.
//! - The tracker hears of a record when its transaction is committed, and not before: a revoke waits for it, the next transaction
//!   repeats nothing, and after an abort there is nothing to undo. The outputs stay here and go with the next transaction.
//! - A map that does not fit may therefore not be left out, as it is without transactions. Records that it has no room for wait here
//!   instead, with their outputs, the highest offsets first; they count as taken in, so that the intake stops in the end.
//!   The record at the committed offset always fits: passing it takes something out of the map.
//! - What belongs to a partition that was taken away is thrown away with its outputs: its new owner handles it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::batch::RecordBatch;
use crate::offset_map::{LONGEST_MAP_BYTES, OffsetMap};
use crate::parallel::outputs::Output;
use crate::parallel::parts::Ticket;
use crate::parallel::state::State;
use crate::partition::OffsetAndMetadata;
use crate::tracker::{CellState, PartitionCell, Snapshot, UNKNOWN};

/// Records above the committed offset are added while the map is so much shorter than it may be: its head grows with the offset.
const HEAD_ROOM_BYTES: usize = 16;

/// A record that is handled, or on its way to the dead-letter topic.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) ticket: Ticket,
    pub(crate) batch: RecordBatch,
    pub(crate) row: usize,
    pub(crate) outputs: Vec<Output>,
}

impl Finished {
    fn bytes(&self) -> usize {
        size_of::<Finished>() + self.outputs.iter().map(Output::bytes).sum::<usize>()
    }

    fn cell(&self) -> Option<&Arc<PartitionCell>> {
        self.batch.place(self.row).map(|(cell, _)| cell)
    }

    /// Whose partition is gone: nothing of it may be committed here.
    fn is_gone(&self) -> bool {
        self.cell().is_none_or(|cell| is_closed(cell))
    }
}

fn is_closed(cell: &PartitionCell) -> bool {
    cell.state() == CellState::Closed
}

/// What one transaction is made of.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// In the order in which they were handled.
    pub(crate) records: Vec<Finished>,
    pub(crate) offsets: Vec<OffsetAndMetadata>,
    cells: Vec<Arc<PartitionCell>>,
}

impl Attempt {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// False when one of its partitions is gone. To be asked after the group's generation was: a later generation, in which somebody
    /// else may have the partition, comes only after it is gone here.
    pub(crate) fn is_current(&self) -> bool {
        !self.cells.iter().any(|cell| is_closed(cell))
    }

    pub(crate) fn cells(&self) -> &[Arc<PartitionCell>] {
        &self.cells
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    records: Vec<Finished>,
    /// Also of those that are in a transaction now.
    bytes: usize,
}

impl Pending {
    pub(crate) fn push(&mut self, finished: Finished) {
        self.bytes += finished.bytes();
        self.records.push(finished);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn forget(&mut self, finished: &Finished) {
        self.bytes = self.bytes.saturating_sub(finished.bytes());
    }

    /// Throws away what belongs to partitions that are gone.
    fn drop_gone(&mut self, state: &mut State) {
        let (gone, kept) = std::mem::take(&mut self.records)
            .into_iter()
            .partition(Finished::is_gone);
        self.records = kept;
        self.drop_these(gone, true, state);
    }

    fn drop_these(&mut self, records: Vec<Finished>, is_stale: bool, state: &mut State) {
        for finished in records {
            self.forget(&finished);
            state.untransacted(finished.ticket, is_stale);
        }
    }

    /// Gives everything back unfinished: the application stops.
    pub(crate) fn drop_all(&mut self, state: &mut State) {
        self.drop_gone(state);
        let records = std::mem::take(&mut self.records);
        self.drop_these(records, false, state);
    }

    /// What may go in a transaction now, with maps of at most `map_bytes`.
    pub(crate) fn begin(&mut self, state: &mut State, map_bytes: usize) -> Attempt {
        self.drop_gone(state);
        let mut rows: HashMap<*const PartitionCell, (Arc<PartitionCell>, Vec<Range<i64>>)> =
            HashMap::new();
        for finished in &self.records {
            if let Some((cell, row)) = finished.batch.place(finished.row) {
                let entry = rows.entry(Arc::as_ptr(cell));
                let (_, rows) = entry.or_insert_with(|| (Arc::clone(cell), Vec::new()));
                rows.push(row);
            }
        }
        let mut attempt = Attempt::default();
        // Below which offset, per partition.
        let mut until: HashMap<*const PartitionCell, i64> = HashMap::new();
        for (pointer, (cell, mut rows)) in rows {
            rows.sort_unstable_by_key(|row| row.start);
            let Some(chosen) = choose(&cell.snapshot(), &rows, map_bytes) else {
                continue;
            };
            until.insert(pointer, chosen.until);
            attempt.offsets.push(OffsetAndMetadata {
                partition: cell.topic_partition().clone(),
                offset: chosen.offset,
                leader_epoch: None,
                metadata: chosen.metadata,
            });
            attempt.cells.push(cell);
        }
        let is_chosen = |finished: &Finished| {
            finished
                .batch
                .place(finished.row)
                .is_some_and(|(cell, row)| {
                    let until = until.get(&Arc::as_ptr(cell));
                    until.is_some_and(|until| row.start < *until)
                })
        };
        (attempt.records, self.records) = std::mem::take(&mut self.records)
            .into_iter()
            .partition(is_chosen);
        attempt
    }

    /// The transaction is committed.
    pub(crate) fn committed(&mut self, attempt: Attempt, state: &mut State) {
        for finished in &attempt.records {
            self.forget(finished);
        }
        state.transacted(attempt.records.iter().map(|finished| finished.ticket));
    }

    /// It is aborted: everything waits for the next one, in the same order.
    pub(crate) fn aborted(&mut self, mut attempt: Attempt) {
        attempt.records.append(&mut self.records);
        self.records = attempt.records;
    }
}

/// What is to be committed of a partition.
#[derive(Debug, PartialEq, Eq)]
struct Chosen {
    /// The records that wait below this offset are counted as done.
    until: i64,
    offset: i64,
    metadata: Option<String>,
}

/// How many of `rows`, which wait in this order of their offsets, can be counted as done together with what the partition has
/// committed already. A prefix, so that records of one key keep their order.
fn choose(snapshot: &Snapshot, rows: &[Range<i64>], map_bytes: usize) -> Option<Chosen> {
    if snapshot.finished == UNKNOWN {
        return None;
    }
    // What was committed did fit.
    let known_bytes = map_of(snapshot, &[]).encoded_bytes();
    let in_line = rows_in_line(snapshot, rows);
    let fitting = |count: usize| {
        let map = map_of(snapshot, &rows[..count]);
        let room_bytes = match count <= in_line {
            true => map_bytes,
            false => map_bytes.saturating_sub(HEAD_ROOM_BYTES),
        };
        (map.encoded_bytes() <= room_bytes.max(known_bytes)).then_some(map)
    };
    let (mut least, mut too_many) = (in_line, rows.len() + 1);
    let mut found = fitting(in_line).filter(|_| in_line > 0);
    // All of them, as long as nothing is wrong; else as many as are found by halving, which need not be the most.
    let mut count = rows.len();
    while count > least {
        match fitting(count) {
            Some(map) => (least, found) = (count, Some(map)),
            None => too_many = count,
        }
        count = least + (too_many - least) / 2;
    }
    let map = found.filter(|_| least > 0)?;
    Some(Chosen {
        until: rows[least - 1].end,
        offset: map.base(),
        metadata: map.encode(LONGEST_MAP_BYTES),
    })
}

/// How many of the rows follow the watermark without a gap.
fn rows_in_line(snapshot: &Snapshot, rows: &[Range<i64>]) -> usize {
    let done = merged(snapshot, &[]);
    let (mut offset, mut passed) = (snapshot.finished, 0);
    for (number, row) in rows.iter().enumerate() {
        while let Some(range) = done.get(passed).filter(|range| range.start <= offset) {
            offset = offset.max(range.end);
            passed += 1;
        }
        if row.start > offset {
            return number;
        }
        offset = offset.max(row.end);
    }
    rows.len()
}

fn merged(snapshot: &Snapshot, rows: &[Range<i64>]) -> Vec<Range<i64>> {
    let mut done: Vec<_> = snapshot.done.iter().chain(rows).cloned().collect();
    done.sort_unstable_by_key(|range| range.start);
    done
}

/// The first offset that is not done.
fn watermark(snapshot: &Snapshot, rows: &[Range<i64>]) -> i64 {
    let mut offset = snapshot.finished;
    for range in merged(snapshot, rows) {
        if range.start > offset {
            break;
        }
        offset = offset.max(range.end);
    }
    offset
}

fn map_of(snapshot: &Snapshot, rows: &[Range<i64>]) -> OffsetMap {
    let base = watermark(snapshot, rows);
    OffsetMap::from_done(base, Some(snapshot.leader_epoch), merged(snapshot, rows))
}

#[cfg(test)]
#[path = "pending/tests.rs"]
mod tests;
