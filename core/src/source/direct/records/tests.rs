//! Batches written here by the book, and read back; damaged ones, which must end in an error and never in half a record.

use proptest::prelude::*;

use super::*;
use crate::batch::RecordBatch;
use crate::partition::{Generation, TopicPartition};

type Header = (Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Clone)]
struct Rec {
    offset_delta: i64,
    timestamp_delta: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn blob(out: &mut Vec<u8>, blob: Option<&[u8]>) {
    varint(out, blob.map_or(-1, |blob| blob.len() as i64));
    out.extend_from_slice(blob.unwrap_or(&[]));
}

fn encode(record: &Rec) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, record.timestamp_delta);
    varint(&mut body, record.offset_delta);
    blob(&mut body, record.key.as_deref());
    blob(&mut body, record.value.as_deref());
    varint(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        blob(&mut body, Some(name));
        blob(&mut body, value.as_deref());
    }
    let mut out = Vec::new();
    varint(&mut out, body.len() as i64);
    out.extend(body);
    out
}

struct Written {
    base_offset: i64,
    attributes: i16,
    producer_id: i64,
    records: Vec<Rec>,
    compressed: fn(Vec<u8>) -> Vec<u8>,
}

fn plain(base_offset: i64, records: Vec<Rec>) -> Written {
    Written {
        base_offset,
        attributes: 0,
        producer_id: -1,
        records,
        compressed: |records| records,
    }
}

fn write(batch: &Written) -> Vec<u8> {
    let records: Vec<u8> = batch.records.iter().flat_map(encode).collect();
    let records = (batch.compressed)(records);
    let last = batch.records.last().map_or(0, |record| record.offset_delta);
    let mut out = Vec::new();
    out.extend(batch.base_offset.to_be_bytes());
    out.extend(((HEADER_BYTES - UNCOUNTED_BYTES + records.len()) as i32).to_be_bytes());
    out.extend(3i32.to_be_bytes());
    out.push(2);
    out.extend(0i32.to_be_bytes());
    out.extend(batch.attributes.to_be_bytes());
    out.extend((last as i32).to_be_bytes());
    out.extend(1000i64.to_be_bytes());
    out.extend(9999i64.to_be_bytes());
    out.extend(batch.producer_id.to_be_bytes());
    out.extend(0i16.to_be_bytes());
    out.extend(0i32.to_be_bytes());
    out.extend((batch.records.len() as i32).to_be_bytes());
    out.extend(records);
    out
}

fn rec(offset_delta: i64) -> Rec {
    Rec {
        offset_delta,
        timestamp_delta: offset_delta,
        key: None,
        value: Some(format!("value {offset_delta}").into_bytes()),
        headers: Vec::new(),
    }
}

fn recs(count: i64) -> Vec<Rec> {
    (0..count).map(rec).collect()
}

/// A control batch that ends a transaction of producer `id`.
fn marker(base_offset: i64, id: i64, is_abort: bool) -> Written {
    let key = [0, 0, 0, u8::from(!is_abort)].to_vec();
    Written {
        attributes: TRANSACTIONAL | CONTROL,
        producer_id: id,
        ..plain(
            base_offset,
            vec![Rec {
                key: Some(key),
                ..rec(0)
            }],
        )
    }
}

fn cell() -> Arc<PartitionCell> {
    Arc::new(PartitionCell::new(
        TopicPartition::new("t", 5),
        Generation(1),
        0,
    ))
}

const LIMIT: FillLimit = FillLimit {
    records: 100,
    bytes: 4096,
};

fn read(
    bytes: &[u8],
    from: i64,
    aborted: &[Aborted],
    limit: FillLimit,
) -> (Vec<RecordBatch>, Result<i32, Stopped>) {
    let mut batches = Vec::new();
    let mut give = |batch| batches.push(RecordBatch::new(batch));
    let mut rows = Rows::new(limit, bytes.len(), &mut give);
    let result = unpack(&cell(), from, bytes, aborted, &mut Vec::new(), &mut rows);
    rows.finish();
    (batches, result)
}

fn offsets(batches: &[RecordBatch]) -> Vec<i64> {
    batches
        .iter()
        .flat_map(|batch| batch.offsets().to_vec())
        .collect()
}

#[test]
fn a_batch_begins_before_the_place_asked_for() {
    let bytes = [write(&plain(10, recs(10))), write(&plain(25, recs(3)))].concat();
    let (batches, result) = read(&bytes, 17, &[], LIMIT);
    assert_eq!(offsets(&batches), [17, 18, 19, 25, 26, 27]);
    assert_eq!(result, Ok(3), "the leader epoch");
    assert_eq!(scan(&bytes, 17), Ok(28));
}

#[test]
fn the_last_batch_may_be_cut_off() {
    let whole = write(&plain(0, recs(5)));
    let cut = write(&plain(5, recs(5)));
    for end in 0..cut.len() {
        let bytes = [&whole, &cut[..end]].concat();
        assert_eq!(scan(&bytes, 0), Ok(5));
        assert_eq!(offsets(&read(&bytes, 0, &[], LIMIT).0), [0, 1, 2, 3, 4]);
    }
    assert!(scan(&cut[..cut.len() - 1], 5).is_err(), "no progress");
}

#[test]
fn timestamps_are_the_producers_or_the_brokers() {
    let own = plain(0, recs(2));
    let appended = Written {
        attributes: LOG_APPEND_TIME,
        ..plain(2, recs(2))
    };
    let bytes = [write(&own), write(&appended)].concat();
    let (batches, _) = read(&bytes, 0, &[], LIMIT);
    assert_eq!(batches[0].timestamps_ms(), [1000, 1001, 9999, 9999]);
    let kinds: Vec<_> = batches[0].runs().map(|run| run.timestamp_type).collect();
    assert_eq!(
        kinds,
        [TimestampType::CreateTime, TimestampType::LogAppendTime]
    );
}

#[test]
fn aborted_transactions_and_markers_are_left_out() {
    let of = |base, id| Written {
        attributes: TRANSACTIONAL,
        producer_id: id,
        ..plain(base, recs(2))
    };
    let bytes = [
        write(&of(0, 7)),
        write(&of(2, 8)),
        write(&marker(4, 7, true)),
        write(&of(5, 7)),
        write(&marker(7, 8, false)),
        write(&marker(8, 7, false)),
        write(&plain(9, recs(1))),
    ]
    .concat();
    let aborted = [Aborted {
        producer_id: 7,
        first_offset: 0,
    }];
    let (batches, _) = read(&bytes, 0, &aborted, LIMIT);
    assert_eq!(
        offsets(&batches),
        [2, 3, 5, 6, 9],
        "what the producer wrote after its abort counts"
    );
    let (batches, _) = read(&bytes, 0, &[], LIMIT);
    assert_eq!(offsets(&batches), [0, 1, 2, 3, 5, 6, 9]);
    assert_eq!(scan(&bytes, 0), Ok(10));
}

/// Two transactions that overlap and come to nothing, as a broker lists them: by their ends.
#[test]
fn overlapping_aborted_transactions_are_left_out() {
    use super::super::protocol;
    let of = |base, id| Written {
        attributes: TRANSACTIONAL,
        producer_id: id,
        ..plain(base, recs(2))
    };
    let records = [
        write(&of(0, 7)),
        write(&of(2, 8)),
        write(&marker(4, 8, true)),
        write(&of(5, 7)),
        write(&marker(7, 7, true)),
        write(&plain(8, recs(1))),
    ]
    .concat();
    let mut answer = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    answer.extend([9; 16]);
    answer.extend([2, 0, 0, 0, 0, 0, 0]);
    for mark in [9i64, 9, 0] {
        answer.extend(mark.to_be_bytes());
    }
    answer.push(3);
    for (id, first) in [(8i64, 2i64), (7, 0)] {
        answer.extend(id.to_be_bytes());
        answer.extend(first.to_be_bytes());
        answer.push(0);
    }
    answer.extend((-1i32).to_be_bytes());
    let mut length = records.len() + 1;
    while length >= 0x80 {
        answer.push(length as u8 | 0x80);
        length >>= 7;
    }
    answer.push(length as u8);
    answer.extend(&records);
    answer.extend([0, 0, 0]);
    let answer = protocol::fetched(&answer, 1).expect("an answer");
    let fetched = &answer.partitions[0];
    let (batches, result) = read(fetched.records, 0, &fetched.aborted, LIMIT);
    assert_eq!(offsets(&batches), [8], "{result:?}");
}

#[test]
fn batches_end_at_their_limits() {
    let bytes = write(&plain(0, recs(250)));
    let (batches, _) = read(&bytes, 0, &[], LIMIT);
    let lengths: Vec<_> = batches.iter().map(RecordBatch::len).collect();
    assert_eq!(lengths, [100, 100, 50]);
    let small = FillLimit { bytes: 20, ..LIMIT };
    let (batches, _) = read(&bytes, 0, &[], small);
    assert!(batches.iter().all(|batch| batch.len() <= 3));
    assert_eq!(offsets(&batches), (0..250).collect::<Vec<_>>());
}

#[test]
fn an_old_format_is_not_for_us() {
    let mut old = write(&plain(0, recs(1)));
    old[16] = 1;
    assert!(scan(&old, 0).is_err());
    let bytes = [write(&plain(0, recs(1))), old].concat();
    let (batches, result) = read(&bytes, 0, &[], LIMIT);
    assert_eq!(offsets(&batches), [0]);
    assert_eq!(result.expect_err("stopped").at, 1);
}

fn any_rec() -> impl Strategy<Value = Rec> {
    let blob = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let name = prop::collection::vec(any::<u8>(), 0..10);
    let headers = prop::collection::vec((name, blob()), 0..3);
    (blob(), blob(), headers, -50i64..5000).prop_map(|(key, value, headers, timestamp_delta)| Rec {
        offset_delta: 0,
        timestamp_delta,
        key,
        value,
        headers,
    })
}

proptest! {
    /// Whatever was written is read, also compressed, and whatever is cut off or damaged ends in an error or in whole records.
    #[test]
    fn what_was_written_is_read(
        mut records in prop::collection::vec(any_rec(), 1..30), gaps in prop::collection::vec(0i64..3, 30),
        is_compressed: bool, at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let mut delta = 0;
        for (record, gap) in records.iter_mut().zip(gaps) {
            record.offset_delta = delta + gap;
            delta += gap + 1;
        }
        let batch = Written {
            attributes: if is_compressed { 3 } else { 0 },
            compressed: if is_compressed {
                |records| {
                    use std::io::Write as _;
                    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
                    lz4.write_all(&records).expect("written");
                    lz4.finish().expect("finished")
                }
            } else {
                |records| records
            },
            ..plain(100, records.clone())
        };
        let bytes = write(&batch);
        let (batches, result) = read(&bytes, 0, &[], FillLimit { records: 7, bytes: 500 });
        prop_assert!(result.is_ok());
        let mut expected = records.iter();
        for batch in &batches {
            for got in batch.iter() {
                let record = expected.next().expect("no more than written");
                prop_assert_eq!(got.offset(), 100 + record.offset_delta);
                prop_assert_eq!(got.timestamp_ms(), Some(1000 + record.timestamp_delta));
                prop_assert_eq!(got.key(), record.key.as_deref());
                prop_assert_eq!(got.value(), record.value.as_deref());
                let headers: Vec<Header> = got
                    .headers()
                    .map(|header| (header.name_bytes().to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect();
                prop_assert_eq!(&headers, &record.headers);
            }
        }
        prop_assert!(expected.next().is_none());

        let mut damaged = bytes;
        let at = at.index(damaged.len());
        damaged[at] ^= flip;
        let (batches, result) = read(&damaged, 0, &[], LIMIT);
        if let Err(stopped) = result {
            let delivered = offsets(&batches);
            prop_assert!(delivered.iter().all(|&offset| offset < stopped.at), "{delivered:?} {stopped:?}");
        }
        let _ = scan(&damaged, 0);
    }
}
