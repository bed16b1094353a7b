//! Sending many records of one topic with one call: from columns, or from arrays of bytes.

use std::ffi::c_char;

use tidegate::{Error, NULL_LENGTH, Result};

use crate::error::tg_status;
use crate::guard;
use crate::input;
use crate::producer::{bytes, sender, tg_producer, wanted};
use crate::record::tg_bytes;

/// Records in columns, as tg_columns and tg_run have them: row `i` has its value at `arena.data + value_starts[i]`. The rows of a run are
/// sent on with the run's arena, its count, and the batch's columns from the run's first row on. Everything stays the caller's and is
/// copied during the call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_producer_columns {
    /// How many records.
    pub count: usize,
    /// The memory that keys and values lie in.
    pub arena: tg_bytes,
    /// Where each key begins in the arena, in bytes; NULL, with the lengths, when no record has a key.
    pub key_starts: *const u32,
    /// How long each key is in bytes, -1 for none.
    pub key_lengths: *const i32,
    /// Where each value begins in the arena, in bytes.
    pub value_starts: *const u32,
    /// How long each value is in bytes, -1 for a tombstone.
    pub value_lengths: *const i32,
}

/// A column of keys or values, checked.
#[derive(Clone, Copy)]
struct Column<'a> {
    arena: &'a [u8],
    starts: &'a [u32],
    lengths: &'a [i32],
}

impl<'a> Column<'a> {
    /// # Safety
    ///
    /// As [`input::slice`], for each.
    unsafe fn new(
        argument: &'static str,
        arena: &'a [u8],
        starts: *const u32,
        lengths: *const i32,
        count: usize,
    ) -> Result<Column<'a>> {
        // SAFETY: by contract.
        let (starts, lengths) = unsafe {
            (
                input::slice(argument, starts, count)?,
                input::slice(argument, lengths, count)?,
            )
        };
        let column = Column {
            arena,
            starts,
            lengths,
        };
        let wrong = |row: &usize| column.ends(*row).is_none_or(|end| end > arena.len() as u64);
        match (0..count).find(wrong) {
            None => Ok(column),
            Some(row) => Err(input::refused(
                argument,
                format!(
                    "row {row} begins at {} and is {} bytes long, in an arena of {} bytes",
                    starts[row],
                    lengths[row],
                    arena.len()
                ),
                "use starts and lengths inside the arena, and the length -1 for null",
            )),
        }
    }

    /// Where the row ends, 0 for null; none for another negative length.
    fn ends(&self, row: usize) -> Option<u64> {
        match self.lengths[row] {
            NULL_LENGTH => Some(0),
            length => u64::try_from(length)
                .ok()
                .map(|length| u64::from(self.starts[row]) + length),
        }
    }

    fn get(&self, row: usize) -> Option<&'a [u8]> {
        let start = self.starts[row] as usize;
        let length = usize::try_from(self.lengths[row]).ok()?;
        // Inside, as was checked; what C changed since then is at worst null.
        self.arena.get(start..start.checked_add(length)?)
    }
}

/// Where the rows' statuses and the number of accepted ones go.
struct Outcome {
    statuses: *mut i32,
    accepted: *mut usize,
    first: Option<Error>,
}

impl Outcome {
    /// # Safety
    ///
    /// `statuses` is NULL or leads to `count` numbers, `accepted` is NULL or leads to one; all are writable during the call.
    unsafe fn new(statuses: *mut i32, accepted: *mut usize, count: usize) -> Result<Outcome> {
        if !statuses.is_null() {
            input::check_place("statuses", statuses)?;
            for row in 0..count {
                // SAFETY: by contract.
                unsafe { statuses.add(row).write(tg_status::TG_OK as i32) };
            }
        }
        if !accepted.is_null() {
            // SAFETY: by contract.
            unsafe { input::put("accepted", accepted, 0)? };
        }
        Ok(Outcome {
            statuses,
            accepted,
            first: None,
        })
    }

    fn refused(&mut self, row: usize, error: &Error) {
        if !self.statuses.is_null() {
            // SAFETY: core names rows that it was given, of which there is a status each, by the contract of `new`.
            unsafe { self.statuses.add(row).write(tg_status::of(error) as i32) };
        }
        if self.first.is_none() {
            self.first = Some(error.clone());
        }
    }

    fn end(self, accepted: usize) -> Result<()> {
        if !self.accepted.is_null() {
            // SAFETY: writable by the contract of `new`.
            unsafe { self.accepted.write(accepted) };
        }
        self.first.map_or(Ok(()), Err)
    }
}

/// Sends records of one topic in their order, each as tg_producer_send() does without a report: what becomes of them is counted in the
/// statistics, and failures are logged. A record that is refused by librdkafka (too large, for example) is left out; when the queue stayed
/// full for one record's whole wait, or the producer was closed, the rest is refused at once, so that what was accepted is in order.
/// Any thread.
///
/// @param partition for all of them, or TG_PARTITION_ANY.
/// @param statuses NULL, or an array of `columns->count` numbers: each row's tg_status, TG_OK for what was accepted.
/// @param accepted NULL, or where the number of accepted records goes.
/// @return TG_OK when all were accepted, else the status of the first row that was not, whose error tg_last_error() tells.
///         TG_ERROR_ARGUMENT for NULL, a freed producer, an empty topic, another negative partition, a length below -1, and a key or value
///         outside of the arena, in whatever row: nothing was sent then, and the statuses say nothing.
///
/// # Safety
///
/// `topic` is NULL or ends with a NUL; `columns` is NULL or leads to columns of `count` elements each; `statuses` and `accepted` are NULL or
/// lead to `count` numbers and a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_send_columns(
    producer: *mut tg_producer,
    topic: *const c_char,
    partition: i32,
    columns: *const tg_producer_columns,
    statuses: *mut i32,
    accepted: *mut usize,
) -> tg_status {
    guard::call(|| {
        let sender = sender(producer)?;
        input::check_place("columns", columns)?;
        // SAFETY: not NULL, aligned, and initialised by contract.
        let columns = unsafe { &*columns };
        let count = columns.count;
        // SAFETY: by contract.
        let (topic, arena) = unsafe {
            (
                input::text("topic", topic)?,
                input::slice("arena", columns.arena.data, columns.arena.length)?,
            )
        };
        let (key_starts, key_lengths) = (columns.key_starts, columns.key_lengths);
        let keys = if key_starts.is_null() && key_lengths.is_null() {
            None
        } else {
            // SAFETY: by contract.
            Some(unsafe { Column::new("keys", arena, key_starts, key_lengths, count)? })
        };
        let (value_starts, value_lengths) = (columns.value_starts, columns.value_lengths);
        // SAFETY: by contract.
        let (values, mut outcome) = unsafe {
            (
                Column::new("values", arena, value_starts, value_lengths, count)?,
                Outcome::new(statuses, accepted, count)?,
            )
        };
        let rows = (0..count).map(|row| (keys.and_then(|keys| keys.get(row)), values.get(row)));
        let sent =
            sender
                .producer
                .send_rows(topic, wanted(partition), rows, &mut |row, error| {
                    outcome.refused(row, error)
                })?;
        outcome.end(sent)
    })
}

/// As tg_producer_send_columns(), with keys and values that lie anywhere.
///
/// @param keys NULL when no record has a key, or `count` of them; `data` NULL for none.
/// @param values `count` of them; `data` NULL for a tombstone.
/// @param count how many records.
/// @return as tg_producer_send_columns(); TG_ERROR_ARGUMENT also for bytes that are NULL with a length or longer than memory.
///
/// # Safety
///
/// `topic` is NULL or ends with a NUL; `keys` and `values` lead to `count` elements each, whose pointers lead to what they say; `statuses` and
/// `accepted` are as of tg_producer_send_columns().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_send_batch(
    producer: *mut tg_producer,
    topic: *const c_char,
    partition: i32,
    keys: *const tg_bytes,
    values: *const tg_bytes,
    count: usize,
    statuses: *mut i32,
    accepted: *mut usize,
) -> tg_status {
    guard::call(|| {
        let sender = sender(producer)?;
        // SAFETY: by contract.
        let (topic, values, keys) = unsafe {
            (
                input::text("topic", topic)?,
                input::slice("values", values, count)?,
                input::slice("keys", keys, if keys.is_null() { 0 } else { count })?,
            )
        };
        for (argument, column) in [("keys", keys), ("values", values)] {
            for row in column {
                // SAFETY: by contract.
                unsafe { bytes(argument, *row)? };
            }
        }
        // SAFETY: by contract.
        let mut outcome = unsafe { Outcome::new(statuses, accepted, count)? };
        let rows = values.iter().enumerate().map(|(row, value)| {
            // SAFETY: by contract; what is wrong with them was looked for above.
            unsafe {
                let key = keys
                    .get(row)
                    .and_then(|key| bytes("keys", *key).ok().flatten());
                (key, bytes("values", *value).ok().flatten())
            }
        });
        let sent =
            sender
                .producer
                .send_rows(topic, wanted(partition), rows, &mut |row, error| {
                    outcome.refused(row, error)
                })?;
        outcome.end(sent)
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::ptr;

    use super::*;
    use crate::batch::{tg_batch_columns, tg_batch_free};
    use crate::broker::{TG_ALL_BROKERS, tg_broker_down};
    use crate::consumer::{tg_consumer_fill_batch, tg_consumer_free};
    use crate::producer::{
        TG_PARTITION_ANY, tg_producer_close, tg_producer_flush, tg_producer_free,
        tg_producer_in_flight,
    };
    use crate::testing::{TestBroker, WAIT_MS, in_child, last_error, wrong_argument};
    use tg_status::{
        TG_ERROR_ARGUMENT, TG_ERROR_CLOSED, TG_ERROR_FORKED, TG_ERROR_KAFKA, TG_ERROR_QUEUE_FULL,
        TG_OK,
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
                let told =
                    tg_producer_send_columns(producer, topic, partition, columns, none, number);
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
}
