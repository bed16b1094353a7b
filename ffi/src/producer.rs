//! The producer: records in, delivery reports out.

use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;

use tidegate::{Error, Producer, ProducerRecord, Result};

use crate::config::{self, tg_config};
use crate::error::tg_status;
use crate::guard;
use crate::handle::{self, object};
use crate::input;
use crate::record::{tg_bytes, tg_header};
use crate::reports::{Reports, tg_on_delivery};
use crate::text::{self, tg_text};

/// tg_producer_free() waits so long for records in flight.
const FREE_CLOSE: Duration = Duration::from_secs(5);

/// The partitioner chooses: by key, else any.
pub const TG_PARTITION_ANY: i32 = -1;
/// The time of the call.
pub const TG_TIMESTAMP_NOW: i64 = -1;

/// Sends records. Everything may be called by any thread, also at once; one thread of the library's own, the delivery thread, makes the
/// callbacks. A record that was accepted is copied, and ends in exactly one report, at the latest at close.
///
/// After tg_producer_close() every function but the free one, the statistics, the reports and a second close answers TG_ERROR_CLOSED;
/// in a forked child TG_ERROR_FORKED.
pub struct tg_producer {
    _private: [u8; 0],
}

/// What a [`tg_producer`] stands for.
pub(crate) struct Sender {
    pub(crate) producer: Producer,
    pub(crate) reports: Arc<Reports>,
}

object!(Sender, tg_producer, "producer", 7);

pub(crate) fn sender(producer: *const tg_producer) -> Result<Arc<Sender>> {
    handle::get::<Sender>(producer)
}

/// A record to send. Everything stays the caller's and is copied during the call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_producer_record {
    /// The topic, NUL-terminated.
    pub topic: *const c_char,
    /// The partition, or TG_PARTITION_ANY.
    pub partition: i32,
    /// The key; `data` NULL for none. Empty is not null.
    pub key: tg_bytes,
    /// The value; `data` NULL for a tombstone. Empty is not null.
    pub value: tg_bytes,
    /// `header_count` headers, as tg_header_next() gives them; their names are UTF-8.
    pub headers: *const tg_header,
    /// How many headers.
    pub header_count: usize,
    /// Milliseconds since 1970; TG_TIMESTAMP_NOW and 0 are the time of the call.
    pub timestamp_ms: i64,
}

/// Key or value as C has it; NULL is null.
///
/// # Safety
///
/// As [`input::slice`].
pub(crate) unsafe fn bytes<'a>(
    argument: &'static str,
    bytes: tg_bytes,
) -> Result<Option<&'a [u8]>> {
    if bytes.data.is_null() && bytes.length == 0 {
        return Ok(None);
    }
    // SAFETY: by contract.
    unsafe { input::slice(argument, bytes.data, bytes.length) }.map(Some)
}

/// A partition as core has it; what is wrong with another negative number is core's to say.
pub(crate) fn wanted(partition: i32) -> Option<i32> {
    (partition != TG_PARTITION_ANY).then_some(partition)
}

type HeaderRow<'a> = (&'a str, Option<&'a [u8]>);

/// # Safety
///
/// As [`input::slice`], for the array and for each of its texts.
unsafe fn headers<'a>(record: &tg_producer_record) -> Result<Vec<HeaderRow<'a>>> {
    // SAFETY: by contract.
    let rows = unsafe { input::slice("headers", record.headers, record.header_count)? };
    rows.iter()
        .map(|row| {
            // SAFETY: by contract.
            let (name, value) =
                unsafe { (bytes("headers", row.name)?, bytes("headers", row.value)?) };
            let name = name.ok_or_else(|| {
                input::refused("headers", "a name is NULL", "give each header a name")
            })?;
            let name = std::str::from_utf8(name)
                .map_err(|_| input::refused("headers", "a name is not UTF-8", "pass UTF-8"))?;
            Ok((name, value))
        })
        .collect()
}

/// A producer with this configuration; it connects in the background, so a broker that is away is no error here.
/// tg_producer_free() ends it. Any thread.
///
/// @return TG_ERROR_CONFIG with every problem of the configuration; TG_ERROR_KAFKA when librdkafka cannot start;
///         TG_ERROR_ARGUMENT for NULL and a freed configuration.
///
/// # Safety
///
/// `producer` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_new(
    config: *const tg_config,
    producer: *mut *mut tg_producer,
) -> tg_status {
    guard::call(|| {
        let config = config::of(config)?;
        input::check_place("producer", producer)?;
        let made = handle::make(Sender {
            producer: Producer::new(&config)?,
            reports: Arc::new(Reports::new()),
        })?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("producer", producer, made) }
    })
}

/// What both sends share.
///
/// # Safety
///
/// As of tg_producer_send().
unsafe fn send(
    producer: *mut tg_producer,
    record: *const tg_producer_record,
    on_delivery: *const tg_on_delivery,
    wait: bool,
) -> Result<()> {
    let sender = sender(producer)?;
    input::check_place("record", record)?;
    // SAFETY: not NULL, aligned, and initialised by contract.
    let record = unsafe { &*record };
    // SAFETY: by contract.
    let (topic, headers, key, value) = unsafe {
        (
            input::text("topic", record.topic)?,
            headers(record)?,
            bytes("key", record.key)?,
            bytes("value", record.value)?,
        )
    };
    let native = ProducerRecord {
        topic,
        partition: wanted(record.partition),
        key,
        value,
        headers: &headers,
        timestamp_ms: (record.timestamp_ms != TG_TIMESTAMP_NOW).then_some(record.timestamp_ms),
    };
    if on_delivery.is_null() {
        return if wait {
            sender.producer.send(&native)
        } else {
            sender.producer.try_send(&native)
        };
    }
    input::check_place("on_delivery", on_delivery)?;
    // SAFETY: not NULL, aligned, and initialised by contract.
    let callback = Reports::callback(&sender.reports, unsafe { *on_delivery })?;
    if wait {
        sender.producer.send_reported(&native, callback)
    } else {
        sender.producer.try_send_reported(&native, callback)
    }
}

/// Sends a record. Waits up to `tidegate.queue.full.timeout.ms` when the queue is full (not in a delivery callback, where nobody would
/// make room). TG_OK means accepted: what becomes of the record is told to `on_delivery`; without it, delivery and failure are counted
/// in the statistics, and failures are logged. Any thread.
///
/// @param on_delivery copied; NULL for no report.
/// @return TG_ERROR_QUEUE_FULL when there was no room in time; TG_ERROR_KAFKA when librdkafka refuses the record (too large, unknown
///         partition); TG_ERROR_ARGUMENT for NULL, a freed producer, an empty topic, another negative partition or timestamp, bytes that
///         are NULL with a length or longer than memory, a header's name that is NULL or not UTF-8, and too many unread reports. Whatever
///         the error, the record was not accepted and there is no report.
///
/// # Safety
///
/// `record` is NULL or leads to a record whose pointers lead to what they say; `on_delivery` is NULL or valid during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_send(
    producer: *mut tg_producer,
    record: *const tg_producer_record,
    on_delivery: *const tg_on_delivery,
) -> tg_status {
    // SAFETY: by contract.
    guard::call(|| unsafe { send(producer, record, on_delivery, true) })
}

/// As tg_producer_send(), but never waits: TG_ERROR_QUEUE_FULL at once. Any thread.
///
/// @return as tg_producer_send().
///
/// # Safety
///
/// As of tg_producer_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_try_send(
    producer: *mut tg_producer,
    record: *const tg_producer_record,
    on_delivery: *const tg_on_delivery,
) -> tg_status {
    // SAFETY: by contract.
    guard::call(|| unsafe { send(producer, record, on_delivery, false) })
}

/// Waits until every record sent so far, by any thread, has its report, and its callback has run. Any thread.
///
/// @param timeout_ms 0 or more.
/// @return TG_ERROR_TIMED_OUT with the number of records that are still in flight (they stay so) in the text; TG_ERROR_ARGUMENT for NULL,
///         a freed producer, a negative time, and in a delivery callback of this producer.
#[unsafe(no_mangle)]
pub extern "C" fn tg_producer_flush(producer: *mut tg_producer, timeout_ms: i64) -> tg_status {
    guard::call(|| {
        let sender = sender(producer)?;
        sender
            .producer
            .flush(input::duration("timeout_ms", timeout_ms)?)
    })
}

/// How many records were accepted and have no report yet; also of a closed producer. 0 for NULL and a freed producer. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_producer_in_flight(producer: *const tg_producer) -> usize {
    guard::value(0, || Ok(sender(producer)?.producer.in_flight()))
}

/// Gives up every record in flight: each is reported as failed, with the Kafka name "_PURGE_QUEUE", or "_PURGE_INFLIGHT" where the
/// broker may have it all the same. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed producer.
#[unsafe(no_mangle)]
pub extern "C" fn tg_producer_purge(producer: *mut tg_producer) -> tg_status {
    guard::call(|| sender(producer)?.producer.purge())
}

/// The numbers so far as one JSON object; also of a closed producer. tg_text_free() ends the text. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed producer.
///
/// # Safety
///
/// `json` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_stats_json(
    producer: *const tg_producer,
    json: *mut *mut tg_text,
) -> tg_status {
    guard::call(|| {
        let sender = sender(producer)?;
        input::check_place("json", json)?;
        let made = text::make(&sender.producer.stats().to_json())?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("json", json, made) }
    })
}

/// Stops accepting records, waits up to `timeout_ms` for those in flight, gives up the rest (they are reported as failed and counted) and
/// ends the producer's threads. Takes at most some five seconds longer than `timeout_ms`. Closing twice is fine. In a delivery callback
/// it returns at once, and the producer closes when the callback has returned. Polled reports can still be read. Any thread.
///
/// @return TG_ERROR_TIMED_OUT with the number of records that were given up in the text; TG_ERROR_ARGUMENT for NULL, a freed producer,
///         and a negative time.
#[unsafe(no_mangle)]
pub extern "C" fn tg_producer_close(producer: *mut tg_producer, timeout_ms: i64) -> tg_status {
    guard::call(|| {
        let sender = sender(producer)?;
        let closed = sender
            .producer
            .close(input::duration("timeout_ms", timeout_ms)?);
        sender.reports.close();
        closed
    })
}

/// Ends a producer; one that was not closed is closed, with five seconds for the records in flight. A call of another thread ends with
/// TG_ERROR_CLOSED, one that waits for a report with TG_NOTHING; reports that were not read are gone. NULL does nothing; freeing twice is
/// TG_ERROR_ARGUMENT. Any thread.
///
/// @return TG_ERROR_TIMED_OUT when records had to be given up; the producer is freed all the same.
#[unsafe(no_mangle)]
pub extern "C" fn tg_producer_free(producer: *mut tg_producer) -> tg_status {
    guard::call(|| {
        let Some(sender) = handle::take::<Sender>(producer)? else {
            return Ok(());
        };
        let closed = sender.producer.close(FREE_CLOSE);
        sender.reports.free();
        match closed {
            // In a forked child there is nothing to end.
            Err(Error::Forked { .. }) => Ok(()),
            result => result,
        }
    })
}

#[cfg(test)]
mod tests {
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
}
