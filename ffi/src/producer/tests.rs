//! The producer as C uses it, over the embedded broker.

use std::ptr;

use super::*;
use crate::broker::{TG_ALL_BROKERS, tg_broker_down};
use crate::consumer::{tg_consumer_free, tg_consumer_poll};
use crate::record::tg_header_next;
use crate::testing::{
    TestBroker, WAIT_MS, again, bytes, in_child, last_error, record, slice, wrong_argument,
};
use crate::text::{tg_text_data, tg_text_free};
use tg_status::{
    TG_ERROR_ARGUMENT, TG_ERROR_CLOSED, TG_ERROR_CONFIG, TG_ERROR_FORKED, TG_ERROR_KAFKA,
    TG_ERROR_QUEUE_FULL, TG_ERROR_TIMED_OUT, TG_OK,
};

fn send_it(producer: *mut tg_producer, record: &tg_producer_record) -> tg_status {
    // SAFETY: a record whose pointers lead to constants.
    unsafe { tg_producer_send(producer, record, ptr::null()) }
}

#[test]
fn a_record_arrives_as_it_was_sent() {
    let broker = TestBroker::new(&[(c"t", 3)]);
    let producer = broker.producer(&[]);
    let headers = [
        tg_header {
            name: bytes("a"),
            value: bytes("1"),
        },
        tg_header {
            name: bytes("a"),
            value: tg_bytes::of(None),
        },
        tg_header {
            name: bytes(""),
            value: bytes(""),
        },
    ];
    let sent = tg_producer_record {
        partition: 2,
        key: bytes(""),
        headers: headers.as_ptr(),
        header_count: headers.len(),
        timestamp_ms: 1_700_000_000_000,
        ..record(c"t", "value")
    };
    assert_eq!(send_it(producer, &sent), TG_OK, "{}", last_error());
    let tombstone = tg_producer_record {
        partition: 2,
        value: tg_bytes::of(None),
        ..record(c"t", "")
    };
    assert_eq!(send_it(producer, &tombstone), TG_OK, "{}", last_error());
    assert_eq!(
        tg_producer_flush(producer, WAIT_MS),
        TG_OK,
        "{}",
        last_error()
    );
    assert_eq!(tg_producer_in_flight(producer), 0);

    let consumer = broker.consumer(c"t");
    let mut got = std::mem::MaybeUninit::uninit();
    // SAFETY: the place for a record, which TG_OK says is filled; its headers are valid until the next poll.
    unsafe {
        assert_eq!(
            tg_consumer_poll(consumer, WAIT_MS, got.as_mut_ptr()),
            TG_OK,
            "{}",
            last_error()
        );
        let got: crate::record::tg_record = got.assume_init();
        assert_eq!(
            (got.partition, got.offset, got.timestamp_ms),
            (2, 0, 1_700_000_000_000)
        );
        assert_eq!(
            (slice(got.topic), slice(got.key), slice(got.value)),
            (&b"t"[..], &b""[..], &b"value"[..])
        );
        let (mut left, mut header) = (got.headers, headers[0]);
        for expected in headers {
            assert!(tg_header_next(&raw mut left, &raw mut header));
            assert_eq!(slice(header.name), slice(expected.name));
            assert_eq!(header.value.data.is_null(), expected.value.data.is_null());
            assert_eq!(header.value.length, expected.value.length);
        }
        assert!(!tg_header_next(&raw mut left, &raw mut header));
    }
    let mut got = std::mem::MaybeUninit::uninit();
    // SAFETY: as above.
    unsafe {
        assert_eq!(
            tg_consumer_poll(consumer, WAIT_MS, got.as_mut_ptr()),
            TG_OK,
            "{}",
            last_error()
        );
        let got: crate::record::tg_record = got.assume_init();
        assert!(got.value.data.is_null() && got.key.data.is_null());
    }
    tg_consumer_free(consumer);
    assert_eq!(tg_producer_free(producer), TG_OK);
}

#[test]
fn bad_input_is_told_and_nothing_is_sent() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    let producer = broker.producer(&[]);
    let good = record(c"t", "v");
    let null_with_length = tg_bytes {
        data: ptr::null(),
        length: 1,
    };
    let endless = tg_bytes {
        length: usize::MAX,
        ..bytes("v")
    };
    let not_utf8 = tg_bytes::of(Some(b"\xff"));
    let header = |name| tg_header {
        name,
        value: tg_bytes::of(None),
    };
    let (unnamed, odd) = (header(tg_bytes::of(None)), header(not_utf8));
    let wrong = [
        (
            "topic",
            tg_producer_record {
                topic: ptr::null(),
                ..good
            },
        ),
        (
            "topic",
            tg_producer_record {
                topic: c"".as_ptr(),
                ..good
            },
        ),
        (
            "topic",
            tg_producer_record {
                topic: c"\xff".as_ptr(),
                ..good
            },
        ),
        (
            "partition",
            tg_producer_record {
                partition: -2,
                ..good
            },
        ),
        (
            "timestamp_ms",
            tg_producer_record {
                timestamp_ms: -2,
                ..good
            },
        ),
        (
            "key",
            tg_producer_record {
                key: null_with_length,
                ..good
            },
        ),
        (
            "value",
            tg_producer_record {
                value: null_with_length,
                ..good
            },
        ),
        (
            "value",
            tg_producer_record {
                value: endless,
                ..good
            },
        ),
        (
            "headers",
            tg_producer_record {
                header_count: 1,
                ..good
            },
        ),
        (
            "headers",
            tg_producer_record {
                headers: &raw const unnamed,
                header_count: 1,
                ..good
            },
        ),
        (
            "headers",
            tg_producer_record {
                headers: &raw const odd,
                header_count: 1,
                ..good
            },
        ),
    ];
    for (argument, record) in wrong {
        assert_eq!(send_it(producer, &record), TG_ERROR_ARGUMENT, "{argument}");
        assert_eq!(wrong_argument(), argument);
    }
    // Longer than any record may be, but not than memory: librdkafka looks at the length alone.
    let long = tg_bytes {
        length: 1 << 40,
        ..bytes("v")
    };
    assert_eq!(
        send_it(
            producer,
            &tg_producer_record {
                value: long,
                ..good
            }
        ),
        TG_ERROR_KAFKA
    );
    assert!(
        last_error().contains("MSG_SIZE_TOO_LARGE"),
        "{}",
        last_error()
    );
    // SAFETY: NULL and the address of a record.
    unsafe {
        for (handle, record, argument) in [
            (ptr::null_mut(), &raw const good, "producer"),
            (producer, ptr::null(), "record"),
            (
                producer.cast::<u8>().wrapping_add(1).cast(),
                &raw const good,
                "producer",
            ),
        ] {
            assert_eq!(
                tg_producer_send(handle, record, ptr::null()),
                TG_ERROR_ARGUMENT
            );
            assert_eq!(wrong_argument(), argument);
            assert_eq!(
                tg_producer_try_send(handle, record, ptr::null()),
                TG_ERROR_ARGUMENT
            );
        }
        assert_eq!(
            tg_producer_stats_json(producer, ptr::null_mut()),
            TG_ERROR_ARGUMENT
        );
        let mut made = ptr::null_mut();
        assert_eq!(
            tg_producer_new(ptr::null(), &raw mut made),
            TG_ERROR_ARGUMENT
        );
        let config = broker.config(&[(c"acks", c"many")]);
        assert_eq!(tg_producer_new(config, &raw mut made), TG_ERROR_CONFIG);
        assert!(
            made.is_null() && last_error().contains("acks"),
            "{}",
            last_error()
        );
        assert_eq!(tg_producer_new(config, ptr::null_mut()), TG_ERROR_ARGUMENT);
    }
    assert_eq!(tg_producer_flush(producer, -1), TG_ERROR_ARGUMENT);
    assert_eq!(tg_producer_close(producer, -1), TG_ERROR_ARGUMENT);
    assert_eq!(wrong_argument(), "timeout_ms");
    assert_eq!(tg_producer_in_flight(producer), 0);
    assert_eq!(tg_producer_in_flight(ptr::null()), 0);
    tg_producer_free(producer);
}

#[test]
fn closed_and_freed_ones_are_told() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    let producer = broker.producer(&[]);
    let record = record(c"t", "v");
    assert_eq!(send_it(producer, &record), TG_OK);
    assert_eq!(
        tg_producer_close(producer, WAIT_MS),
        TG_OK,
        "{}",
        last_error()
    );
    assert_eq!(tg_producer_close(producer, WAIT_MS), TG_OK);
    assert_eq!(send_it(producer, &record), TG_ERROR_CLOSED);
    assert_eq!(tg_producer_flush(producer, 0), TG_ERROR_CLOSED);
    assert_eq!(tg_producer_purge(producer), TG_ERROR_CLOSED);
    let mut json = ptr::null_mut();
    // SAFETY: the address of a variable.
    unsafe { assert_eq!(tg_producer_stats_json(producer, &raw mut json), TG_OK) };
    let stats = String::from_utf8_lossy(slice(tg_text_data(json))).into_owned();
    assert!(stats.contains("\"records_delivered\":1"), "{stats}");
    tg_text_free(json);
    assert_eq!(tg_producer_free(producer), TG_OK);
    assert_eq!(tg_producer_free(producer), TG_ERROR_ARGUMENT);
    assert_eq!(tg_producer_free(ptr::null_mut()), TG_OK);
    assert_eq!(send_it(producer, &record), TG_ERROR_ARGUMENT);
    assert_eq!(tg_producer_close(producer, 0), TG_ERROR_ARGUMENT);
    assert!(last_error().contains("freed already"));
}

#[test]
fn a_full_queue_waits_so_long_and_a_try_not_at_all() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    assert_eq!(tg_broker_down(broker.0, TG_ALL_BROKERS), TG_OK);
    let producer = broker.producer(&[
        (c"queue.buffering.max.messages", c"3"),
        (c"tidegate.queue.full.timeout.ms", c"100"),
    ]);
    let record = record(c"t", "v");
    for _ in 0..3 {
        assert_eq!(send_it(producer, &record), TG_OK, "{}", last_error());
    }
    assert_eq!(tg_producer_in_flight(producer), 3);
    // SAFETY: a record whose pointers lead to constants.
    let tried = unsafe { tg_producer_try_send(producer, &raw const record, ptr::null()) };
    assert_eq!(tried, TG_ERROR_QUEUE_FULL);
    let started = std::time::Instant::now();
    assert_eq!(send_it(producer, &record), TG_ERROR_QUEUE_FULL);
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert_eq!(tg_producer_flush(producer, 20), TG_ERROR_TIMED_OUT);
    assert!(last_error().contains("3 records"), "{}", last_error());
    assert_eq!(tg_producer_purge(producer), TG_OK);
    assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
    assert_eq!(send_it(producer, &record), TG_OK);
    assert_eq!(tg_producer_close(producer, 0), TG_ERROR_TIMED_OUT);
    assert!(
        last_error().contains("1 records were given up"),
        "{}",
        last_error()
    );
    assert_eq!(tg_producer_free(producer), TG_OK);
}

#[test]
fn it_may_be_freed_while_other_threads_send() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    for _ in 0..20 {
        let producer = broker.producer(&[]).addr();
        let (sending, sent) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let sending = sending.clone();
                scope.spawn(move || {
                    let record = record(c"t", "v");
                    let _ = send_it(again(producer), &record);
                    let _ = sending.send(());
                    loop {
                        match send_it(again(producer), &record) {
                            TG_OK => {}
                            TG_ERROR_CLOSED | TG_ERROR_ARGUMENT => return,
                            other => panic!("{other:?}: {}", last_error()),
                        }
                    }
                });
            }
            assert!(sent.recv().is_ok() && sent.recv().is_ok());
            assert_eq!(tg_producer_free(again(producer)), TG_OK, "{}", last_error());
        });
    }
}

#[test]
fn of_two_threads_that_free_it_one_is_told() {
    let broker = TestBroker::new(&[]);
    let producer = broker.producer(&[]).addr();
    let told = std::thread::scope(|scope| {
        let free = || tg_producer_free(again(producer));
        let (one, two) = (scope.spawn(free), scope.spawn(free));
        [one.join().unwrap(), two.join().unwrap()]
    });
    assert!(
        told.contains(&TG_OK) && told.contains(&TG_ERROR_ARGUMENT),
        "{told:?}"
    );
}

#[test]
fn a_forked_child_is_told_and_does_not_wait() {
    let broker = TestBroker::new(&[(c"t", 1)]);
    let producer = broker.producer(&[]);
    let record = record(c"t", "v");
    assert_eq!(send_it(producer, &record), TG_OK);
    assert_eq!(tg_producer_flush(producer, WAIT_MS), TG_OK);
    assert!(in_child(|| {
        send_it(producer, &record) == TG_ERROR_FORKED
            && tg_producer_flush(producer, WAIT_MS) == TG_ERROR_FORKED
            && tg_producer_purge(producer) == TG_ERROR_FORKED
            && tg_producer_close(producer, WAIT_MS) == TG_ERROR_FORKED
            && tg_producer_free(producer) == TG_OK
            && tg_producer_free(producer) == TG_ERROR_ARGUMENT
    }));
    assert_eq!(
        send_it(producer, &record),
        TG_OK,
        "the parent's still works"
    );
    assert_eq!(tg_producer_free(producer), TG_OK);
}
