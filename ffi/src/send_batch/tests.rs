//! Rows arrive as they were sent, and rows that cannot be are told.

use std::ffi::CStr;
use std::ptr;

use super::*;
use crate::batch::{tg_batch_columns, tg_batch_free};
use crate::broker::{TG_ALL_BROKERS, tg_broker_down};
use crate::consumer::{tg_consumer_fill_batch, tg_consumer_free};
use crate::producer::{
    TG_PARTITION_ANY, tg_producer_close, tg_producer_flush, tg_producer_free, tg_producer_in_flight,
};
use crate::testing::{TestBroker, WAIT_MS, in_child, last_error, wrong_argument};
use tg_status::{
    TG_ERROR_ARGUMENT, TG_ERROR_CLOSED, TG_ERROR_FORKED, TG_ERROR_KAFKA, TG_ERROR_QUEUE_FULL, TG_OK,
};

const ARENA: &[u8] = b"keyvalue";

fn columns(starts: &[u32], lengths: &[i32]) -> tg_producer_columns {
    tg_producer_columns {
        count: lengths.len(),
        arena: tg_bytes::of(Some(ARENA)),
        key_starts: ptr::null(),
        key_lengths: ptr::null(),
        value_starts: starts.as_ptr(),
        value_lengths: lengths.as_ptr(),
        timestamps_ms: ptr::null(),
        partitions: ptr::null(),
        header_counts: ptr::null(),
        headers: ptr::null(),
    }
}

fn send(
    producer: *mut tg_producer,
    columns: &tg_producer_columns,
    statuses: &mut [i32],
) -> (tg_status, usize) {
    let mut accepted = 77;
    // SAFETY: columns over arrays of their count, and as many statuses.
    let status = unsafe {
        let (statuses, accepted) = (statuses.as_mut_ptr(), &raw mut accepted);
        tg_producer_send_columns(producer, c"t".as_ptr(), 0, columns, statuses, accepted)
    };
    (status, accepted)
}

/// What is in partition 0 of a topic: keys and values.
fn stored(broker: &TestBroker, topic: &CStr, count: usize) -> Vec<[Option<Vec<u8>>; 2]> {
    let consumer = broker.consumer(topic);
    let mut batch = ptr::null_mut();
    // SAFETY: the address of a variable.
    let status = unsafe { tg_consumer_fill_batch(consumer, WAIT_MS, count, &raw mut batch) };
    assert_eq!(status, TG_OK, "{}", last_error());
    let records = crate::batch::records(batch).unwrap();
    let rows = records
        .iter()
        .map(|record| [record.key(), record.value()].map(|bytes| bytes.map(<[u8]>::to_vec)))
        .collect();
    tg_batch_free(batch);
    tg_consumer_free(consumer);
    rows
}

#[test]
fn a_consumed_batch_is_sent_on_from_its_columns() {
    const COUNT: usize = 200;
    let broker = TestBroker::new(&[(c"t", 1), (c"copy", 1)]);
    let producer = broker.producer(&[]);
    let texts: Vec<String> = (0..COUNT).map(|number| format!("value {number}")).collect();
    let values: Vec<tg_bytes> = texts
        .iter()
        .enumerate()
        .map(|(row, text)| tg_bytes::of((row % 7 != 0).then_some(text.as_bytes())))
        .collect();
    let keys: Vec<tg_bytes> = texts
        .iter()
        .enumerate()
        .map(|(row, text)| tg_bytes::of((row % 3 != 0).then_some(&text.as_bytes()[..row % 6])))
        .collect();
    let mut accepted = 0;
    // SAFETY: arrays of `COUNT` bytes each, the addresses of variables, and a batch's own columns.
    unsafe {
        let (keys, values) = (keys.as_ptr(), values.as_ptr());
        let (topic, statuses) = (c"t".as_ptr(), ptr::null_mut());
        let any = TG_PARTITION_ANY;
        let sent = tg_producer_send_batch(
            producer,
            topic,
            any,
            keys,
            values,
            COUNT,
            statuses,
            &raw mut accepted,
        );
        assert_eq!((sent, accepted), (TG_OK, COUNT), "{}", last_error());
        assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);

        let consumer = broker.consumer(c"t");
        let mut batch = ptr::null_mut();
        let filled = tg_consumer_fill_batch(consumer, WAIT_MS, COUNT, &raw mut batch);
        assert_eq!(filled, TG_OK, "{}", last_error());
        let mut read = std::mem::MaybeUninit::uninit();
        assert_eq!(tg_batch_columns(batch, read.as_mut_ptr()), TG_OK);
        let read = read.assume_init();
        assert_eq!(read.count, COUNT);
        for run in std::slice::from_raw_parts(read.runs, read.run_count) {
            let rows = tg_producer_columns {
                count: run.count,
                arena: run.arena,
                key_starts: read.key_starts.add(run.first),
                key_lengths: read.key_lengths.add(run.first),
                value_starts: read.value_starts.add(run.first),
                value_lengths: read.value_lengths.add(run.first),
                ..columns(&[], &[])
            };
            let (none, accepted) = (ptr::null_mut(), ptr::null_mut());
            let sent = tg_producer_send_columns(
                producer,
                c"copy".as_ptr(),
                0,
                &raw const rows,
                none,
                accepted,
            );
            assert_eq!(sent, TG_OK, "{}", last_error());
        }
        tg_batch_free(batch);
        tg_consumer_free(consumer);
    }
    assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
    tg_producer_free(producer);
    let (first, copy) = (
        stored(&broker, c"t", COUNT),
        stored(&broker, c"copy", COUNT),
    );
    assert_eq!(first.len(), COUNT);
    assert_eq!(first, copy);
    assert_eq!(first[0], [None, None]);
    assert_eq!(first[6], [None, Some(b"value 6".to_vec())]);
    assert_eq!(first[12][0], None);
    assert_eq!(first[13], [Some(b"v".to_vec()), Some(b"value 13".to_vec())]);
}

#[test]
fn lengths_that_are_none_are_refused_before_anything_is_sent() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    let producer = broker.producer(&[]);
    let wrong: [(&[u32], &[i32]); 7] = [
        (&[0, 0], &[1, -2]),
        (&[0, 0], &[1, i32::MIN]),
        (&[0, 0], &[1, 9]),
        (&[0, 8], &[1, 1]),
        (&[0, u32::MAX], &[1, 1]),
        (&[0, u32::MAX], &[1, i32::MAX]),
        (&[0, 9], &[1, 0]),
    ];
    for (starts, lengths) in wrong {
        let values = columns(starts, lengths);
        let told = send(producer, &values, &mut [5, 5]);
        assert_eq!(told.0, TG_ERROR_ARGUMENT, "{starts:?} {lengths:?}");
        assert_eq!(wrong_argument(), "values");
        assert!(last_error().contains("row 1"), "{}", last_error());
        let good = columns(&[0, 0], &[1, 1]);
        let keys = tg_producer_columns {
            key_starts: starts.as_ptr(),
            key_lengths: lengths.as_ptr(),
            ..good
        };
        assert_eq!(send(producer, &keys, &mut [5, 5]).0, TG_ERROR_ARGUMENT);
        assert_eq!(wrong_argument(), "keys");
    }
    // Null begins nowhere; an empty value may lie at the end.
    let fine = columns(&[u32::MAX, 8], &[-1, 0]);
    assert_eq!(
        send(producer, &fine, &mut [5, 5]),
        (TG_OK, 2),
        "{}",
        last_error()
    );
    assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
    tg_producer_free(producer);
    let empty = Some(Vec::new());
    assert_eq!(stored(&broker, c"t", 2), [[None, None], [None, empty]]);
}

#[test]
fn bad_input_is_told() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    let producer = broker.producer(&[]);
    let good = columns(&[0], &[1]);
    let null_arena = tg_bytes {
        data: ptr::null(),
        length: 8,
    };
    let endless = tg_bytes {
        length: usize::MAX,
        ..good.arena
    };
    let wrong = [
        (
            "arena",
            tg_producer_columns {
                arena: null_arena,
                ..good
            },
        ),
        (
            "arena",
            tg_producer_columns {
                arena: endless,
                ..good
            },
        ),
        (
            "values",
            tg_producer_columns {
                value_starts: ptr::null(),
                ..good
            },
        ),
        (
            "values",
            tg_producer_columns {
                value_lengths: ptr::null(),
                ..good
            },
        ),
        (
            "values",
            tg_producer_columns {
                count: usize::MAX,
                ..good
            },
        ),
        (
            "keys",
            tg_producer_columns {
                key_lengths: good.value_lengths,
                ..good
            },
        ),
    ];
    for (argument, columns) in wrong {
        assert_eq!(
            send(producer, &columns, &mut [5]).0,
            TG_ERROR_ARGUMENT,
            "{argument}"
        );
        assert_eq!(wrong_argument(), argument);
    }
    // SAFETY: NULL, and arrays of the lengths that are told.
    unsafe {
        let (topic, none, number) = (c"t".as_ptr(), ptr::null_mut(), ptr::null_mut());
        let columns = |topic, partition, columns| {
            let told = tg_producer_send_columns(producer, topic, partition, columns, none, number);
            assert_eq!(told, TG_ERROR_ARGUMENT);
            wrong_argument()
        };
        assert_eq!(columns(ptr::null(), 0, &raw const good), "topic");
        assert_eq!(columns(c"".as_ptr(), 0, &raw const good), "topic");
        assert_eq!(columns(topic, -2, &raw const good), "partition");
        assert_eq!(columns(topic, 0, ptr::null()), "columns");
        let null = tg_bytes::of(None);
        let broken = [
            tg_bytes { length: 1, ..null },
            tg_bytes {
                length: usize::MAX,
                ..good.arena
            },
        ];
        for wrong in &broken {
            let batch = |keys, values| {
                let told = tg_producer_send_batch(
                    producer,
                    topic,
                    0,
                    keys,
                    values,
                    1,
                    ptr::null_mut(),
                    ptr::null_mut(),
                );
                assert_eq!(told, TG_ERROR_ARGUMENT);
                wrong_argument()
            };
            assert_eq!(batch(wrong, &raw const null), "keys");
            assert_eq!(batch(&raw const null, wrong), "values");
            assert_eq!(batch(ptr::null(), ptr::null()), "values");
        }
        // Nothing to send is no error.
        let nothing = tg_producer_send_batch(
            producer,
            topic,
            0,
            ptr::null(),
            ptr::null(),
            0,
            ptr::null_mut(),
            ptr::null_mut(),
        );
        assert_eq!(nothing, TG_OK, "{}", last_error());
    }
    assert_eq!(tg_producer_in_flight(producer), 0);
    tg_producer_free(producer);
    assert_eq!(send(producer, &good, &mut [5]).0, TG_ERROR_ARGUMENT);
    assert_eq!(wrong_argument(), "producer");
}

#[test]
fn each_row_that_is_refused_is_told() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    let producer = broker.producer(&[(c"message.max.bytes", c"1000")]);
    let long = "x".repeat(2_000);
    let values: Vec<tg_bytes> = (0..150)
        .map(|row| {
            tg_bytes::of(Some(
                &long.as_bytes()[..if row % 50 == 3 { 2_000 } else { 3 }],
            ))
        })
        .collect();
    let (mut statuses, mut accepted) = ([5; 150], 0);
    // SAFETY: arrays of 150 elements, and the address of a variable.
    let told = unsafe {
        let (topic, statuses) = (c"t".as_ptr(), statuses.as_mut_ptr());
        let accepted = &raw mut accepted;
        tg_producer_send_batch(
            producer,
            topic,
            0,
            ptr::null(),
            values.as_ptr(),
            150,
            statuses,
            accepted,
        )
    };
    assert_eq!((told, accepted), (TG_ERROR_KAFKA, 147));
    assert!(
        last_error().contains("MSG_SIZE_TOO_LARGE"),
        "{}",
        last_error()
    );
    for (row, status) in statuses.into_iter().enumerate() {
        let expected = if row % 50 == 3 { TG_ERROR_KAFKA } else { TG_OK };
        assert_eq!(status, expected as i32, "row {row}");
    }
    assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
    tg_producer_free(producer);
    assert_eq!(stored(&broker, c"t", 147).len(), 147);
}

#[test]
fn what_is_behind_a_full_queue_is_refused() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    assert_eq!(tg_broker_down(broker.0, TG_ALL_BROKERS), TG_OK);
    let producer = broker.producer(&[
        (c"queue.buffering.max.messages", c"70"),
        (c"tidegate.queue.full.timeout.ms", c"20"),
    ]);
    let (starts, lengths) = ([3; 200], [5; 200]);
    let mut statuses = [5; 200];
    let told = send(producer, &columns(&starts, &lengths), &mut statuses);
    assert_eq!(told, (TG_ERROR_QUEUE_FULL, 70));
    assert_eq!(tg_producer_in_flight(producer), 70);
    assert!(statuses[..70].iter().all(|status| *status == TG_OK as i32));
    assert!(
        statuses[70..]
            .iter()
            .all(|status| *status == TG_ERROR_QUEUE_FULL as i32)
    );
    tg_producer_close(producer, 0);
    assert_eq!(tg_producer_in_flight(producer), 0);
    let told = send(producer, &columns(&starts, &lengths), &mut statuses);
    assert_eq!(told.0, TG_ERROR_CLOSED);
    tg_producer_free(producer);
}

#[test]
fn a_forked_child_is_told() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    let producer = broker.producer(&[]);
    let good = columns(&[0], &[1]);
    assert!(in_child(
        || send(producer, &good, &mut [5]).0 == TG_ERROR_FORKED
    ));
    tg_producer_free(producer);
}

/// Topic, partition, time and headers of what is stored, in the order of values.
type Found = (String, i32, i64, Vec<(String, Option<Vec<u8>>)>);

fn found(broker: &TestBroker, topic: &CStr, count: usize) -> Vec<(Vec<u8>, Found)> {
    let consumer = broker.consumer(topic);
    let mut batch = ptr::null_mut();
    // SAFETY: the address of a variable.
    let status = unsafe { tg_consumer_fill_batch(consumer, WAIT_MS, count, &raw mut batch) };
    assert_eq!(status, TG_OK, "{}", last_error());
    let mut rows: Vec<_> = crate::batch::records(batch)
        .unwrap()
        .iter()
        .map(|record| {
            let headers = record
                .headers()
                .map(|header| (header.name().into_owned(), header.value.map(<[u8]>::to_vec)))
                .collect();
            let value = record.value().unwrap_or_default().to_vec();
            let time = record.timestamp_ms().unwrap_or(-1);
            let place = record.topic().to_string();
            (value, (place, record.partition(), time, headers))
        })
        .collect();
    rows.sort();
    tg_batch_free(batch);
    tg_consumer_free(consumer);
    rows
}

fn header(name: &'static str, value: Option<&'static str>) -> tg_header {
    tg_header {
        name: tg_bytes::of(Some(name.as_bytes())),
        value: tg_bytes::of(value.map(str::as_bytes)),
    }
}

const TIME: i64 = 1_700_000_000_000;

#[test]
fn columns_carry_headers_timestamps_and_partitions() {
    let broker = TestBroker::new(&[(c"t", 3)]);
    let producer = broker.producer(&[]);
    let (starts, lengths) = ([0, 1, 2], [1, 1, 1]); // k, e, y
    let headers = [
        header("a", Some("1")),
        header("b", None),
        header("a", Some("2")),
    ];
    let rows = tg_producer_columns {
        timestamps_ms: [TIME, TG_TIMESTAMP_NOW, TIME + 1].as_ptr(),
        partitions: [2, 0, 1].as_ptr(),
        header_counts: [2, 0, 1].as_ptr(),
        headers: headers.as_ptr(),
        ..columns(&starts, &lengths)
    };
    assert_eq!(
        send(producer, &rows, &mut [5; 3]),
        (TG_OK, 3),
        "{}",
        last_error()
    );
    // Each column for itself; the call's partition is for rows without one.
    let only = tg_producer_columns {
        timestamps_ms: [TIME; 3].as_ptr(),
        ..columns(&[3, 4, 5], &lengths)
    };
    assert_eq!(
        send(producer, &only, &mut [5; 3]),
        (TG_OK, 3),
        "{}",
        last_error()
    );
    assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
    tg_producer_free(producer);
    let stored = found(&broker, c"t", 6);
    let told: Vec<_> = stored
        .iter()
        .map(|(value, (_, partition, time, headers))| {
            let names: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .collect();
            (value.as_slice(), *partition, *time, names)
        })
        .collect();
    assert_eq!(told[0], (&b"a"[..], 0, TIME, vec![]));
    let now = told[1].2;
    assert_eq!(told[1], (&b"e"[..], 0, now, vec![]));
    assert!(now > TIME + 1);
    let both = vec![("a", Some(&b"1"[..])), ("b", None)];
    assert_eq!(told[2], (&b"k"[..], 2, TIME, both));
    assert_eq!(
        told[5],
        (&b"y"[..], 1, TIME + 1, vec![("a", Some(&b"2"[..]))])
    );
}

#[test]
fn what_is_wrong_in_a_column_names_its_row() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    let producer = broker.producer(&[]);
    let good = columns(&[0, 1], &[1, 1]);
    let no_utf8 = [tg_header {
        name: tg_bytes::of(Some(b"\xff")),
        value: tg_bytes::of(None),
    }];
    let no_name = [tg_header {
        name: tg_bytes::of(None),
        value: tg_bytes::of(None),
    }];
    let one = [0, 1];
    let wrong = [
        (
            "timestamp_ms",
            tg_producer_columns {
                timestamps_ms: [0, -7].as_ptr(),
                ..good
            },
        ),
        (
            "partition",
            tg_producer_columns {
                partitions: [0, -2].as_ptr(),
                ..good
            },
        ),
        (
            "headers",
            tg_producer_columns {
                header_counts: one.as_ptr(),
                headers: no_utf8.as_ptr(),
                ..good
            },
        ),
        (
            "headers",
            tg_producer_columns {
                header_counts: one.as_ptr(),
                headers: no_name.as_ptr(),
                ..good
            },
        ),
        (
            "headers",
            tg_producer_columns {
                header_counts: one.as_ptr(),
                ..good
            },
        ),
    ];
    for (argument, rows) in wrong {
        let told = send(producer, &rows, &mut [5, 5]);
        assert_eq!(told.0, TG_ERROR_ARGUMENT, "{argument}");
        assert_eq!(wrong_argument(), argument);
        assert!(last_error().contains("row 1: "), "{}", last_error());
    }
    let uncounted = tg_producer_columns {
        headers: no_name.as_ptr(),
        ..good
    };
    assert_eq!(send(producer, &uncounted, &mut [5, 5]).0, TG_ERROR_ARGUMENT);
    assert_eq!(wrong_argument(), "header_counts");
    assert_eq!(tg_producer_in_flight(producer), 0);
    tg_producer_free(producer);
}

#[test]
fn whole_records_go_to_their_places() {
    let broker = TestBroker::new(&[(c"t", 2), (c"u", 1)]);
    let producer = broker.producer(&[(c"message.max.bytes", c"1000")]);
    let headers = [header("a", Some("1"))];
    let record = |topic: &'static CStr, value| tg_producer_record {
        headers: headers.as_ptr(),
        header_count: 1,
        timestamp_ms: TIME,
        ..crate::testing::record(topic, value)
    };
    let long: &'static str = String::leak("x".repeat(2_000));
    let records = [record(c"t", "1"), record(c"t", long), record(c"u", "2")];
    let mut wrong = records;
    wrong[2].topic = ptr::null();
    let (mut statuses, mut accepted) = ([5; 3], 0);
    // SAFETY: arrays of as many elements as are told, and the address of a variable.
    let mut send = |records: &[tg_producer_record]| unsafe {
        let (rows, statuses) = (records.as_ptr(), statuses.as_mut_ptr());
        tg_producer_send_records(producer, rows, records.len(), statuses, &raw mut accepted)
    };
    assert_eq!(send(&wrong), TG_ERROR_ARGUMENT);
    assert_eq!(wrong_argument(), "topic");
    assert!(last_error().contains("row 2: "), "{}", last_error());
    wrong = records;
    wrong[1].partition = -5;
    assert_eq!(send(&wrong), TG_ERROR_ARGUMENT);
    assert!(last_error().contains("row 1: "), "{}", last_error());
    assert_eq!(tg_producer_in_flight(producer), 0);

    assert_eq!(send(&records), TG_ERROR_KAFKA);
    assert_eq!((statuses, accepted), ([0, TG_ERROR_KAFKA as i32, 0], 2));
    assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
    tg_producer_free(producer);
    for (topic, value) in [(c"t", b"1"), (c"u", b"2")] {
        let stored = found(&broker, topic, 1);
        let (place, _, time, headers) = &stored[0].1;
        assert_eq!((stored[0].0.as_slice(), *time), (&value[..], TIME));
        assert_eq!(place.as_bytes(), topic.to_bytes());
        assert_eq!(headers, &[("a".to_string(), Some(b"1".to_vec()))]);
    }
}
