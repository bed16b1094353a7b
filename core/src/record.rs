//! A record as the application sees it: borrowed from its batch, or holding on to it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::batch::{BatchData, RecordBatch, RunData, TimestampType};
use crate::error::Result;
use crate::partition::Generation;

/// A record of a [`RecordBatch`], borrowed: nothing is copied to make one.
#[derive(Clone, Copy)]
pub struct Record<'b> {
    data: &'b BatchData,
    run: &'b RunData,
    row: usize,
}

impl<'b> Record<'b> {
    #[inline]
    pub(crate) fn new(data: &'b BatchData, run: &'b RunData, row: usize) -> Record<'b> {
        Record { data, run, row }
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &'b str {
        &self.run.cell.topic_partition().topic
    }

    /// The topic's name, shared.
    #[must_use]
    pub fn topic_shared(&self) -> &'b Arc<str> {
        &self.run.cell.topic_partition().topic
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.data.partitions[self.row]
    }

    /// The record's own offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.data.offsets[self.row]
    }

    /// Milliseconds since 1970, if the record has a timestamp.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        let timestamp_ms = self.data.timestamps_ms[self.row];
        (timestamp_ms >= 0 && self.timestamp_type() != TimestampType::NotAvailable)
            .then_some(timestamp_ms)
    }

    /// Whose clock the timestamp is from.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.run.timestamp_type
    }

    /// The key; an empty key is `Some(b"")`.
    #[must_use]
    pub fn key(&self) -> Option<&'b [u8]> {
        self.data.key(self.row, self.run.arena)
    }

    /// The value; `None` is a tombstone, an empty value is `Some(b"")`.
    #[must_use]
    pub fn value(&self) -> Option<&'b [u8]> {
        self.data.value(self.row, self.run.arena)
    }

    /// The headers in order; a name may occur more than once.
    #[must_use]
    pub fn headers(&self) -> Headers<'b> {
        Headers {
            block: self.data.header_block(self.row, self.run.arena),
        }
    }

    /// The leader epoch that the record was written under, if the broker said so.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<i32> {
        (self.run.leader_epoch >= 0).then_some(self.run.leader_epoch)
    }

    /// The assignment that the record belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.run.cell.generation()
    }
}

impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Lengths only: what a record holds may be secret.
        f.debug_struct("Record")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("key_bytes", &self.key().map(<[u8]>::len))
            .field("value_bytes", &self.value().map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

/// A header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'b> {
    name: &'b [u8],
    /// The value; `None` is null.
    pub value: Option<&'b [u8]>,
}

impl<'b> Header<'b> {
    /// The name as sent. Kafka asks for UTF-8, brokers do not check.
    #[must_use]
    pub fn name_bytes(&self) -> &'b [u8] {
        self.name
    }

    /// The name as text, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn name(&self) -> Cow<'b, str> {
        String::from_utf8_lossy(self.name)
    }
}

/// The headers of a record; see [`Record::headers`].
#[derive(Debug, Clone)]
pub struct Headers<'b> {
    block: &'b [u8],
}

impl<'b> Headers<'b> {
    /// The headers that [`Headers::as_bytes`] gave. Bytes that are none end the iteration early.
    #[must_use]
    pub fn from_bytes(block: &'b [u8]) -> Headers<'b> {
        Headers { block }
    }

    /// What is left of them, encoded, in the batch's memory: for faces that cannot hold a Rust iterator.
    #[must_use]
    pub fn as_bytes(&self) -> &'b [u8] {
        self.block
    }
}

impl<'b> Iterator for Headers<'b> {
    type Item = Header<'b>;

    fn next(&mut self) -> Option<Header<'b>> {
        let (name_length, rest) = self.block.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
        let (value_length, rest) = rest.split_first_chunk::<4>()?;
        let value_length = i32::from_le_bytes(*value_length);
        let (value, rest) = match usize::try_from(value_length) {
            Ok(length) => {
                let (value, rest) = rest.split_at_checked(length)?;
                (Some(value), rest)
            }
            Err(_) => (None, rest),
        };
        self.block = rest;
        Some(Header { name, value })
    }
}

/// What a header takes in a block beside its name and its value.
pub(crate) const HEADER_BYTES: usize = 8;

/// Appends a header in the form that [`Headers`] reads: name length (u32), name, value length (i32, -1 for null), value.
pub(crate) fn encode_header(block: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    block.extend_from_slice(&(name.len() as u32).to_le_bytes());
    block.extend_from_slice(name);
    block.extend_from_slice(&value.map_or(-1, |value| value.len() as i32).to_le_bytes());
    block.extend_from_slice(value.unwrap_or(&[]));
}

/// A record that keeps its batch alive: it may outlive the poll that made it, the consumer, and go to another thread.
///
/// Holding one holds the memory of its whole batch ([`RecordBatch::size_bytes`]).
#[derive(Clone)]
pub struct OwnedRecord {
    batch: RecordBatch,
    row: usize,
}

impl OwnedRecord {
    pub(crate) fn new(batch: RecordBatch, row: usize) -> OwnedRecord {
        OwnedRecord { batch, row }
    }

    /// The borrowed view, which has every accessor.
    #[must_use]
    pub fn as_record(&self) -> Record<'_> {
        match self.batch.get(self.row) {
            Some(record) => record,
            None => unreachable!("the row was taken from this batch"),
        }
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.as_record().topic()
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.as_record().partition()
    }

    /// The record's own offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.as_record().offset()
    }

    /// Milliseconds since 1970, if the record has a timestamp.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.as_record().timestamp_ms()
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.as_record().key()
    }

    /// The value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.as_record().value()
    }

    /// The headers in order.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.as_record().headers()
    }

    /// The batch it came in.
    #[must_use]
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Its row in [`OwnedRecord::batch`].
    #[must_use]
    pub fn row(&self) -> usize {
        self.row
    }

    /// True when its partition was revoked, lost or sought since; see [`RecordBatch::is_stale`].
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.batch.is_stale(self.row)
    }

    /// Notes that the offset behind the record is to be committed; false when its partition is gone, or was sought.
    pub(crate) fn store(&self) -> bool {
        self.batch.store_row(self.row)
    }

    /// Notes that the record is finished; see [`RecordBatch::acknowledge`].
    ///
    /// # Errors
    ///
    /// [`crate::Error::Stale`] when its partition was revoked, lost or sought meanwhile.
    pub fn acknowledge(&self) -> Result<()> {
        self.batch.acknowledge_rows(self.row..self.row + 1)
    }
}

impl std::fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_record().fmt(f)
    }
}
