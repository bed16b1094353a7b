//! Record batches of format v2, as they are sent: built record by record, sealed when they go, and read again when they have to go
//! another way.
//!
//! A record is written once, in the form in which the broker keeps it; nothing of it is kept beside that but the token of the one
//! whose report somebody waits for.

use crate::sink::{ProducerRecord, Token};
use crate::wire::{Decoder, Malformed};

/// What stands before a batch's records.
pub(super) const HEADER_BYTES: usize = 61;
/// Base offset and length, which the length does not count.
const UNCOUNTED_BYTES: usize = 12;
/// The checksum covers everything from here on.
const CHECKED_FROM: usize = 21;
const MAGIC: u8 = 2;
/// The most that a record takes beside key, value and headers: as librdkafka counts it.
const MOST_OVERHEAD: usize = 36;

/// A record of a batch whose report has a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which one.
    pub(super) index: u32,
    /// When it was sent, in microseconds after the batch was begun.
    pub(super) after_us: u32,
    pub(super) timestamp_ms: i64,
    pub(super) token: Token,
}

/// A batch that grows, or has grown.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The header's room, then records.
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
    pub(super) marks: Vec<Mark>,
    pub(super) began_us: u64,
    first_timestamp_ms: i64,
    max_timestamp_ms: i64,
    /// Its place among the batches of its partition.
    pub(super) number: u64,
    /// Key, value and headers.
    pub(super) payload_bytes: usize,
}

/// One record as it is put into a batch.
pub(super) struct New<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [(&'a str, Option<&'a [u8]>)],
    pub(super) timestamp_ms: i64,
    pub(super) token: Token,
}

impl New<'_> {
    pub(super) fn payload_bytes(&self) -> usize {
        let headers = self.headers.iter();
        self.key.map_or(0, <[u8]>::len)
            + self.value.map_or(0, <[u8]>::len)
            + headers
                .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + 2 * MOST_VARINT)
                .sum::<usize>()
    }

    /// The most that it takes in a batch.
    pub(super) fn most_bytes(&self) -> usize {
        self.payload_bytes() + MOST_OVERHEAD
    }
}

/// Of a length.
const MOST_VARINT: usize = 5;

fn zigzag(value: i64) -> u64 {
    (value << 1) as u64 ^ (value >> 63) as u64
}

fn varint_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline]
fn put_varint(bytes: &mut Vec<u8>, value: i64) {
    let mut value = zigzag(value);
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// -1 for null.
fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

#[inline]
fn field_bytes(field: Option<&[u8]>) -> usize {
    varint_bytes(length(field)) + field.map_or(0, <[u8]>::len)
}

#[inline]
fn put_field(bytes: &mut Vec<u8>, field: Option<&[u8]>) {
    put_varint(bytes, length(field));
    if let Some(field) = field {
        bytes.extend_from_slice(field);
    }
}

impl Batch {
    /// Into this buffer, which is emptied.
    pub(super) fn begin(mut buffer: Vec<u8>, number: u64) -> Batch {
        buffer.clear();
        Batch {
            bytes: buffer,
            number,
            ..Batch::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts a record behind the others.
    pub(super) fn push(&mut self, record: &New<'_>, now_us: u64) {
        if self.count == 0 {
            self.bytes.resize(HEADER_BYTES, 0);
            self.began_us = now_us;
            self.first_timestamp_ms = record.timestamp_ms;
            self.max_timestamp_ms = record.timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        let timestamp_delta = record.timestamp_ms.wrapping_sub(self.first_timestamp_ms);
        let offset_delta = i64::from(self.count);
        let headers: usize = record
            .headers
            .iter()
            .map(|(name, value)| field_bytes(Some(name.as_bytes())) + field_bytes(*value))
            .sum();
        let size = 1
            + varint_bytes(timestamp_delta)
            + varint_bytes(offset_delta)
            + field_bytes(record.key)
            + field_bytes(record.value)
            + varint_bytes(record.headers.len() as i64)
            + headers;
        let bytes = &mut self.bytes;
        bytes.reserve(size + MOST_VARINT);
        put_varint(bytes, size as i64);
        bytes.push(0); // no attributes
        put_varint(bytes, timestamp_delta);
        put_varint(bytes, offset_delta);
        put_field(bytes, record.key);
        put_field(bytes, record.value);
        put_varint(bytes, record.headers.len() as i64);
        for (name, value) in record.headers {
            put_field(bytes, Some(name.as_bytes()));
            put_field(bytes, *value);
        }
        if record.token != 0 {
            self.marks.push(Mark {
                index: self.count,
                // Another thread may have begun the batch after this one looked at the clock.
                after_us: u32::try_from(now_us.saturating_sub(self.began_us)).unwrap_or(u32::MAX),
                timestamp_ms: record.timestamp_ms,
                token: record.token,
            });
        }
        self.payload_bytes += record.payload_bytes();
        self.count += 1;
    }

    /// Writes the header; nothing may be put behind it any more.
    pub(super) fn seal(&mut self) {
        let mut header = [0; HEADER_BYTES];
        let length = (self.bytes.len() - UNCOUNTED_BYTES) as i32;
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&(-1_i32).to_be_bytes()); // leader epoch: the broker's
        header[16] = MAGIC;
        // 17..21 the checksum, 21..23 attributes: not compressed, the producer's timestamps.
        header[23..27].copy_from_slice(&(self.count.wrapping_sub(1)).to_be_bytes());
        header[27..35].copy_from_slice(&self.first_timestamp_ms.to_be_bytes());
        header[35..43].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        header[43..57].fill(0xff); // no producer id, no epoch, no sequence
        header[57..61].copy_from_slice(&self.count.to_be_bytes());
        self.bytes[..HEADER_BYTES].copy_from_slice(&header);
        let checksum = crc32c::crc32c(&self.bytes[CHECKED_FROM..]);
        self.bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Its records from number `from` on, of which the first begins at byte `at`.
    pub(super) fn records(&self, from: u32, at: usize) -> Records<'_> {
        let at = at.max(HEADER_BYTES.min(self.bytes.len()));
        Records {
            batch: self,
            rest: Decoder::new(&self.bytes[at..]),
            index: from,
            marks: self.marks.partition_point(|mark| mark.index < from),
        }
    }
}

/// A batch's records, read again.
pub(super) struct Records<'a> {
    batch: &'a Batch,
    rest: Decoder<'a>,
    index: u32,
    marks: usize,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Vec<(&'a str, Option<&'a [u8]>)>,
    pub(super) timestamp_ms: i64,
    pub(super) token: Token,
}

impl<'a> Record<'a> {
    pub(super) fn to_send<'r>(&'r self, topic: &'r str, partition: i32) -> ProducerRecord<'r> {
        ProducerRecord {
            topic,
            partition: Some(partition),
            key: self.key,
            value: self.value,
            headers: &self.headers,
            timestamp_ms: Some(self.timestamp_ms),
        }
    }
}

impl<'a> Records<'a> {
    /// Where in the batch's bytes the next one begins.
    pub(super) fn at(&self) -> usize {
        self.batch.bytes.len() - self.rest.left()
    }

    fn field(rest: &mut Decoder<'a>) -> Result<Option<&'a [u8]>, Malformed> {
        match usize::try_from(rest.varint()?) {
            Ok(length) => rest.take(length).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn read(&mut self) -> Result<Record<'a>, Malformed> {
        let rest = &mut self.rest;
        rest.varint()?; // size
        rest.i8()?; // attributes
        let timestamp_ms = self.batch.first_timestamp_ms.wrapping_add(rest.varint()?);
        rest.varint()?; // offset
        let key = Self::field(rest)?;
        let value = Self::field(rest)?;
        let mut headers = Vec::new();
        for _ in 0..rest.varint()? {
            let name = Self::field(rest)?.unwrap_or(&[]);
            let name = std::str::from_utf8(name).map_err(|_| Malformed("a name is no UTF-8"))?;
            headers.push((name, Self::field(rest)?));
        }
        let token = match self.batch.marks.get(self.marks) {
            Some(mark) if mark.index == self.index => {
                self.marks += 1;
                mark.token
            }
            _ => 0,
        };
        self.index += 1;
        Ok(Record {
            key,
            value,
            headers,
            timestamp_ms,
            token,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.index >= self.batch.count {
            return None;
        }
        // What was written here can be read here.
        self.read().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Headers = Vec<(String, Option<Vec<u8>>)>;
    type Given = (Option<Vec<u8>>, Option<Vec<u8>>, Headers, i64, usize);

    fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
    }

    fn given_records() -> impl Strategy<Value = Vec<Given>> {
        let headers = prop::collection::vec((".{0,10}", bytes()), 0..3);
        let token = prop_oneof![Just(0_usize), 1_usize..99];
        let timestamp = 1_700_000_000_000_i64..1_700_000_100_000;
        prop::collection::vec((bytes(), bytes(), headers, timestamp, token), 1..60)
    }

    fn filled(given: &[Given]) -> Batch {
        let mut batch = Batch::begin(vec![1, 2, 3], 7);
        for (number, (key, value, headers, timestamp_ms, token)) in given.iter().enumerate() {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .collect();
            let record = New {
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
                timestamp_ms: *timestamp_ms,
                token: *token,
            };
            let before = batch.bytes.len().max(HEADER_BYTES);
            batch.push(&record, 100 + number as u64);
            assert!(batch.bytes.len() - before <= record.most_bytes());
        }
        batch
    }

    proptest! {
        #[test]
        fn what_goes_another_way_is_what_was_given(given in given_records(), from in any::<prop::sample::Index>()) {
            let mut batch = filled(&given);
            batch.seal();
            let from = from.index(given.len());
            let mut records = batch.records(0, 0);
            for _ in 0..from {
                records.next();
            }
            let at = records.at();
            let read: Vec<_> = batch.records(from as u32, at).collect();
            prop_assert_eq!(read.len(), given.len() - from);
            for (read, (key, value, headers, timestamp_ms, token)) in read.iter().zip(&given[from..]) {
                prop_assert_eq!(read.key, key.as_deref());
                prop_assert_eq!(read.value, value.as_deref());
                let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
                prop_assert_eq!(&read.headers, &headers);
                prop_assert_eq!((read.timestamp_ms, read.token), (*timestamp_ms, *token));
            }
        }

        #[test]
        fn a_varint_takes_as_many_bytes_as_it_says(value in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(bytes.len(), varint_bytes(value));
            prop_assert_eq!(Decoder::new(&bytes).varint(), Ok(value));
        }
    }

    /// The header by hand, and the checksum of RFC 3720.
    #[test]
    fn a_batch_of_one_record_is_what_kafka_writes_down() {
        let mut batch = Batch::begin(Vec::new(), 0);
        let record = New {
            key: Some(b"k"),
            value: None,
            headers: &[],
            timestamp_ms: 1,
            token: 0,
        };
        batch.push(&record, 0);
        batch.seal();
        let expected = [
            &[0; 8][..],
            &[0, 0, 0, 57],               // length
            &[0xff, 0xff, 0xff, 0xff, 2], // epoch, magic
        ]
        .concat();
        assert_eq!(batch.bytes[..17], expected);
        let body = [
            &[0, 0][..],
            &[0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 0, 1],
            &[0xff; 14],
            &[0, 0, 0, 1],
            &[14, 0, 0, 0, 2, b'k', 1, 0],
        ]
        .concat();
        assert_eq!(batch.bytes[21..], body);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(batch.bytes[17..21], crc32c::crc32c(&body).to_be_bytes());
    }
}
