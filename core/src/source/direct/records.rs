//! Record batches of format v2, as a broker keeps them: from a fetch answer into columns.
//!
//! Two passes: [`scan`] hops from batch to batch and finds where the next fetch begins, so that it can be asked for before this
//! answer is unpacked; [`unpack`] reads the records. Runs on a lane's thread.

use std::sync::Arc;

use super::codec;
use super::protocol::Aborted;
use crate::batch::{BatchBuilder, BatchData, TimestampType};
use crate::source::FillLimit;
use crate::tracker::PartitionCell;
use crate::wire::{Decoder, Malformed};

/// What stands before a batch's records.
const HEADER_BYTES: usize = 61;
/// Base offset and length, which the length does not count.
const UNCOUNTED_BYTES: usize = 12;
const MAGIC: i8 = 2;
/// Room is made for this many rows of so many bytes; where there are more, columns grow.
const LEAST_ROW_BYTES: usize = 32;
const TOO_LARGE: Malformed = Malformed("a record is larger than any batch");

const COMPRESSION: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// A batch as its header says it, and its records, perhaps compressed.
#[derive(Debug, Clone, Copy)]
struct Batch<'a> {
    base_offset: i64,
    last_offset: i64,
    leader_epoch: i32,
    attributes: i16,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    producer_id: i64,
    count: i32,
    records: &'a [u8],
}

/// The next batch and what lies behind it; `None` when it is cut off, as the last one may be.
fn next_batch(bytes: &[u8]) -> Result<Option<(Batch<'_>, &[u8])>, Malformed> {
    if bytes.len() < HEADER_BYTES {
        return Ok(None);
    }
    let mut read = Decoder::new(bytes);
    let base_offset = read.i64()?;
    let length = usize::try_from(read.i32()?).map_err(|_| Malformed("a batch has no length"))?;
    let leader_epoch = read.i32()?;
    if read.i8()? != MAGIC {
        return Err(Malformed("its records are in an old format"));
    }
    if length + UNCOUNTED_BYTES < HEADER_BYTES {
        return Err(Malformed("a batch is shorter than its header"));
    }
    let Some((batch, behind)) = bytes.split_at_checked(length + UNCOUNTED_BYTES) else {
        return Ok(None);
    };
    read.i32()?; // checksum
    let attributes = read.i16()?;
    let last_delta = i64::from(read.i32()?);
    let (base_timestamp_ms, max_timestamp_ms, producer_id) =
        (read.i64()?, read.i64()?, read.i64()?);
    read.i16()?; // producer epoch
    read.i32()?; // first sequence
    let count = read.i32()?;
    let last_offset = base_offset.checked_add(last_delta);
    let last_offset =
        last_offset.filter(|&last| base_offset >= 0 && last >= base_offset && last < i64::MAX);
    Ok(Some((
        Batch {
            base_offset,
            last_offset: last_offset.ok_or(Malformed("a batch ends before it begins"))?,
            leader_epoch,
            attributes,
            base_timestamp_ms,
            max_timestamp_ms,
            producer_id,
            count,
            records: &batch[HEADER_BYTES..],
        },
        behind,
    )))
}

/// Where to fetch next after `records`, which were fetched from `from`. An error where nothing of them can be read.
pub(super) fn scan(records: &[u8], from: i64) -> Result<i64, Malformed> {
    let mut next = from;
    let mut rest = records;
    while let Some((batch, behind)) = next_batch(rest)? {
        next = next.max(batch.last_offset + 1);
        rest = behind;
    }
    if next == from && !records.is_empty() {
        return Err(Malformed("not one batch of it is whole"));
    }
    Ok(next)
}

/// Collects rows into batches of the engine and gives each away when it is full.
pub(super) struct Rows<'a> {
    limit: FillLimit,
    /// So many bytes of records may still come: a batch of little takes little memory.
    expected_bytes: usize,
    builder: BatchBuilder,
    run: Option<(*const PartitionCell, i32, TimestampType)>,
    give: &'a mut dyn FnMut(BatchData),
}

impl<'a> Rows<'a> {
    /// For so many bytes of records, if none are compressed.
    pub(super) fn new(
        limit: FillLimit,
        expected_bytes: usize,
        give: &'a mut dyn FnMut(BatchData),
    ) -> Rows<'a> {
        Rows {
            limit,
            expected_bytes,
            builder: Rows::builder(limit, expected_bytes),
            run: None,
            give,
        }
    }

    fn builder(limit: FillLimit, expected_bytes: usize) -> BatchBuilder {
        let rows = (expected_bytes / LEAST_ROW_BYTES).min(limit.records);
        BatchBuilder::with_capacity(rows, expected_bytes.min(limit.bytes))
    }

    /// Gives away what is there.
    pub(super) fn finish(&mut self) {
        if self.builder.len() > 0 {
            let taken = self.builder.arena_bytes() + self.builder.len();
            self.expected_bytes = self.expected_bytes.saturating_sub(taken);
            let next = Rows::builder(self.limit, self.expected_bytes);
            let full = std::mem::replace(&mut self.builder, next);
            self.run = None;
            (self.give)(full.finish(0));
        }
    }

    #[inline]
    fn begin(&mut self, cell: &Arc<PartitionCell>, leader_epoch: i32, kind: TimestampType) {
        if self.builder.len() >= self.limit.records
            || self.builder.arena_bytes() >= self.limit.bytes
        {
            self.finish();
        }
        let run = (Arc::as_ptr(cell), leader_epoch, kind);
        if self.run != Some(run) {
            self.builder.begin_run(cell, leader_epoch, kind);
            self.run = Some(run);
        }
    }
}

/// Knows which batches belong to transactions that came to nothing. Batches must be shown in the order of the log.
struct Filter<'a> {
    /// In the order of their first offsets.
    to_come: &'a [Aborted],
    producers: Vec<i64>,
}

impl Filter<'_> {
    /// True when the batch's records are for the application.
    fn lets_pass(&mut self, batch: &Batch<'_>) -> Result<bool, Malformed> {
        while let [first, rest @ ..] = self.to_come
            && first.first_offset <= batch.last_offset
        {
            self.producers.push(first.producer_id);
            self.to_come = rest;
        }
        let is_aborted =
            batch.attributes & TRANSACTIONAL != 0 && self.producers.contains(&batch.producer_id);
        if batch.attributes & CONTROL == 0 {
            return Ok(!is_aborted);
        }
        if is_aborted && is_abort_marker(batch)? {
            self.producers.retain(|&id| id != batch.producer_id);
        }
        Ok(false)
    }
}

/// A control batch has one record, whose key is a version and a kind: 0 for abort, 1 for commit.
fn is_abort_marker(batch: &Batch<'_>) -> Result<bool, Malformed> {
    let mut read = Decoder::new(batch.records);
    read.varint()?; // length
    read.i8()?;
    read.varint()?;
    read.varint()?;
    read.varint()?; // length of the key
    read.i16()?;
    Ok(read.i16()? == 0)
}

/// Why unpacking stopped, the next offset that was not delivered, and the leader epoch of what was, -1 for nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) at: i64,
    pub(super) leader_epoch: i32,
    pub(super) why: Malformed,
}

/// Puts the records of a partition, from offset `from` on, into `rows`. Gives the latest leader epoch seen, -1 for none.
pub(super) fn unpack(
    cell: &Arc<PartitionCell>,
    from: i64,
    records: &[u8],
    aborted: &[Aborted],
    scratch: &mut Vec<u8>,
    rows: &mut Rows<'_>,
) -> Result<i32, Stopped> {
    let mut filter = Filter {
        to_come: aborted,
        producers: Vec::new(),
    };
    let mut next = from;
    let mut epoch = -1;
    let mut rest = records;
    let mut one = || -> Result<bool, Malformed> {
        let Some((batch, behind)) = next_batch(rest)? else {
            return Ok(false);
        };
        if filter.lets_pass(&batch)? {
            epoch = batch.leader_epoch;
            let kind = batch.attributes & COMPRESSION;
            if kind == 0 {
                push(cell, &batch, batch.records, &mut next, rows)?;
            } else {
                scratch.clear();
                codec::decompress(kind, batch.records, scratch)?;
                push(cell, &batch, scratch, &mut next, rows)?;
            }
        }
        next = next.max(batch.last_offset + 1);
        epoch = batch.leader_epoch;
        rest = behind;
        Ok(true)
    };
    loop {
        match one() {
            Ok(true) => {}
            Ok(false) => return Ok(epoch),
            Err(why) => {
                return Err(Stopped {
                    at: next,
                    leader_epoch: epoch,
                    why,
                });
            }
        }
    }
}

/// Pushes the records of a batch that lie at `next` or behind, and moves `next` along.
fn push(
    cell: &Arc<PartitionCell>,
    batch: &Batch<'_>,
    records: &[u8],
    next: &mut i64,
    rows: &mut Rows<'_>,
) -> Result<(), Malformed> {
    let partition = cell.topic_partition().partition;
    let is_log_append = batch.attributes & LOG_APPEND_TIME != 0;
    let kind = if is_log_append {
        TimestampType::LogAppendTime
    } else {
        TimestampType::CreateTime
    };
    let mut read = Decoder::new(records);
    for _ in 0..batch.count {
        let length = length(read.varint()?)?.unwrap_or(0);
        let mut record = Decoder::new(read.take(length)?);
        record.i8()?; // attributes, unused
        let timestamp_delta = record.varint()?;
        let offset = batch.base_offset.wrapping_add(record.varint()?);
        let key = blob(&mut record)?;
        let value = blob(&mut record)?;
        if offset < *next || offset > batch.last_offset {
            // Before the place asked for: batches come whole.
            continue;
        }
        let timestamp_ms = if is_log_append {
            batch.max_timestamp_ms
        } else {
            batch.base_timestamp_ms.wrapping_add(timestamp_delta)
        };
        rows.begin(cell, batch.leader_epoch, kind);
        if !rows
            .builder
            .push(partition, offset, timestamp_ms, key, value)
        {
            return Err(TOO_LARGE);
        }
        if let Err(why) = push_headers(&mut record, &mut rows.builder) {
            // Half a record must not reach anybody.
            rows.builder.drop_row();
            return Err(why);
        }
        *next = offset + 1;
    }
    Ok(())
}

/// Adds headers to the record pushed last.
#[inline]
fn push_headers(record: &mut Decoder<'_>, builder: &mut BatchBuilder) -> Result<(), Malformed> {
    for _ in 0..record.varint()? {
        let name = blob(record)?.unwrap_or(&[]);
        if !builder.push_header(name, blob(record)?) {
            return Err(TOO_LARGE);
        }
    }
    Ok(())
}

#[inline]
fn length(length: i64) -> Result<Option<usize>, Malformed> {
    if length < 0 {
        return Ok(None);
    }
    usize::try_from(length)
        .map(Some)
        .map_err(|_| Malformed("a length is beyond all bounds"))
}

/// A key, a value, or a header's part; `None` for null.
#[inline]
fn blob<'a>(read: &mut Decoder<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    match length(read.varint()?)? {
        Some(length) => read.take(length).map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
#[path = "records/tests.rs"]
mod tests;
