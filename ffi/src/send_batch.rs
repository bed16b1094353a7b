//! Sending many records with one call: of one topic from columns or from arrays of bytes, or whole ones.

#[cfg(test)]
mod tests;

use std::ffi::c_char;

use tidegate::{Error, NULL_LENGTH, ProducerRecord, Result};

use crate::error::tg_status;
use crate::guard;
use crate::input;
use crate::producer::{
    HeaderRow, TG_TIMESTAMP_NOW, bytes, header_rows, headers, sender, tg_producer,
    tg_producer_record, wanted,
};
use crate::record::{tg_bytes, tg_header};

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
    /// Each record's time in milliseconds since 1970, TG_TIMESTAMP_NOW and 0 for the time of the call; NULL for that in all rows.
    pub timestamps_ms: *const i64,
    /// Each record's partition, TG_PARTITION_ANY for the partitioner's choice; NULL for the call's in all rows.
    pub partitions: *const i32,
    /// How many headers each record has; NULL, with the headers, when none has any.
    pub header_counts: *const u32,
    /// The headers of all rows, one row's behind the other's; their names are UTF-8.
    pub headers: *const tg_header,
}

/// What rows have beside key and value, checked.
struct Extras<'a> {
    timestamps_ms: &'a [i64],
    partitions: &'a [i32],
    /// Where each row's headers begin, and where the last one's end; empty for none.
    header_starts: Vec<usize>,
    headers: Vec<HeaderRow<'a>>,
}

impl<'a> Extras<'a> {
    /// None when rows have nothing but key and value.
    ///
    /// # Safety
    ///
    /// As [`input::slice`], for each column that is not NULL, and for the headers and their texts.
    unsafe fn new(columns: &tg_producer_columns) -> Result<Option<Extras<'a>>> {
        let count = columns.count;
        let length = |is_null: bool| if is_null { 0 } else { count };
        // SAFETY: by contract.
        let (timestamps_ms, partitions, counts) = unsafe {
            let (times, places) = (columns.timestamps_ms, columns.partitions);
            (
                input::slice("timestamps_ms", times, length(times.is_null()))?,
                input::slice("partitions", places, length(places.is_null()))?,
                input::slice(
                    "header_counts",
                    columns.header_counts,
                    length(columns.header_counts.is_null()),
                )?,
            )
        };
        if counts.is_empty() && !columns.headers.is_null() && count > 0 {
            return Err(input::refused(
                "header_counts",
                "there are headers and no counts",
                "say how many headers each row has",
            ));
        }
        if timestamps_ms.is_empty() && partitions.is_empty() && counts.is_empty() {
            return Ok(None);
        }
        let mut extras = Extras {
            timestamps_ms,
            partitions,
            header_starts: Vec::new(),
            headers: Vec::new(),
        };
        let mut end = 0_usize;
        if !counts.is_empty() {
            extras.header_starts.push(0);
        }
        for (row, headers_of_row) in counts.iter().enumerate() {
            let wrong = |error| in_row(row, error);
            // SAFETY: by contract, and only as far as rows say.
            let rows = unsafe {
                if *headers_of_row > 0 {
                    input::check_place("headers", columns.headers).map_err(wrong)?;
                }
                let first = columns.headers.wrapping_add(end);
                header_rows(first, *headers_of_row as usize).map_err(wrong)?
            };
            end += rows.len();
            extras.headers.extend(rows);
            extras.header_starts.push(end);
        }
        Ok(Some(extras))
    }

    fn headers(&self, row: usize) -> &[HeaderRow<'a>] {
        match self.header_starts.get(row..row + 2) {
            Some([start, end]) => &self.headers[*start..*end],
            _ => &[],
        }
    }

    fn partition(&self, row: usize, otherwise: i32) -> Option<i32> {
        wanted(self.partitions.get(row).copied().unwrap_or(otherwise))
    }

    fn timestamp_ms(&self, row: usize) -> Option<i64> {
        let time = self.timestamps_ms.get(row).copied();
        time.filter(|time| *time != TG_TIMESTAMP_NOW)
    }
}

/// The error with the row that it is of.
fn in_row(row: usize, error: Error) -> Error {
    match error {
        Error::Argument {
            argument,
            problem,
            remedy,
        } => Error::Argument {
            argument,
            problem: format!("row {row}: {problem}"),
            remedy,
        },
        error => error,
    }
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
/// Rows with timestamps, partitions or headers cost about what as many calls of tg_producer_send() do; without them much less.
///
/// @param partition for all of them, or TG_PARTITION_ANY.
/// @param statuses NULL, or an array of `columns->count` numbers: each row's tg_status, TG_OK for what was accepted.
/// @param accepted NULL, or where the number of accepted records goes.
/// @return TG_OK when all were accepted, else the status of the first row that was not, whose error tg_last_error() tells.
///         TG_ERROR_ARGUMENT for NULL, a freed producer, an empty topic, another negative partition or timestamp, a length below -1, a key or
///         value outside of the arena, and a header's name that is NULL or not UTF-8, in whatever row, which the text names: nothing was
///         sent then, and the statuses say nothing.
///
/// # Safety
///
/// `topic` is NULL or ends with a NUL; `columns` is NULL or leads to columns of `count` elements each, which lead to as many headers as they
/// say; `statuses` and `accepted` are NULL or
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
        let (values, extras) = unsafe {
            (
                Column::new("values", arena, value_starts, value_lengths, count)?,
                Extras::new(columns)?,
            )
        };
        let rows = (0..count).map(|row| (keys.and_then(|keys| keys.get(row)), values.get(row)));
        if let Some(extras) = extras {
            let records = rows.enumerate().map(|(row, (key, value))| ProducerRecord {
                topic,
                partition: extras.partition(row, partition),
                key,
                value,
                headers: extras.headers(row),
                timestamp_ms: extras.timestamp_ms(row),
            });
            // SAFETY: by contract.
            return unsafe { send_whole(&sender, records, count, statuses, accepted) };
        }
        // SAFETY: by contract.
        let mut outcome = unsafe { Outcome::new(statuses, accepted, count)? };
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

/// Sends records that are looked at before the first one goes.
///
/// # Safety
///
/// As [`Outcome::new`].
unsafe fn send_whole<'r>(
    sender: &crate::producer::Sender,
    records: impl Iterator<Item = ProducerRecord<'r>> + Clone,
    count: usize,
    statuses: *mut i32,
    accepted: *mut usize,
) -> Result<()> {
    for (row, record) in records.clone().enumerate() {
        record.check().map_err(|error| in_row(row, error))?;
    }
    // SAFETY: by contract.
    let mut outcome = unsafe { Outcome::new(statuses, accepted, count)? };
    let sent = sender.producer.send_records(
        records,
        &mut |row, error| outcome.refused(row, error),
        &mut || true,
    )?;
    outcome.end(sent)
}

/// As tg_producer_send_columns(), with whole records: each has its topic, partition, headers and timestamp.
///
/// @param records `count` of them, as tg_producer_send() takes them.
/// @return as tg_producer_send_columns(); TG_ERROR_ARGUMENT for what tg_producer_send() does not take, in whatever row, which the text
///         names: nothing was sent then.
///
/// # Safety
///
/// `records` leads to `count` records whose pointers lead to what they say; `statuses` and `accepted` are as of tg_producer_send_columns().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_send_records(
    producer: *mut tg_producer,
    records: *const tg_producer_record,
    count: usize,
    statuses: *mut i32,
    accepted: *mut usize,
) -> tg_status {
    guard::call(|| {
        let sender = sender(producer)?;
        // SAFETY: by contract.
        let records = unsafe { input::slice("records", records, count)? };
        let mut rows = Vec::with_capacity(records.len());
        for (row, record) in records.iter().enumerate() {
            // SAFETY: by contract.
            let whole = unsafe { whole(record) };
            rows.push(whole.map_err(|error| in_row(row, error))?);
        }
        let native = records
            .iter()
            .zip(&rows)
            .map(|(record, row)| ProducerRecord {
                topic: row.0,
                partition: wanted(record.partition),
                key: row.1,
                value: row.2,
                headers: &row.3,
                timestamp_ms: (record.timestamp_ms != TG_TIMESTAMP_NOW)
                    .then_some(record.timestamp_ms),
            });
        // SAFETY: by contract.
        unsafe { send_whole(&sender, native, count, statuses, accepted) }
    })
}

/// Topic, key, value and headers.
type Whole<'a> = (
    &'a str,
    Option<&'a [u8]>,
    Option<&'a [u8]>,
    Vec<HeaderRow<'a>>,
);

/// # Safety
///
/// As of tg_producer_send().
unsafe fn whole<'a>(record: &tg_producer_record) -> Result<Whole<'a>> {
    // SAFETY: by contract.
    unsafe {
        Ok((
            input::text("topic", record.topic)?,
            bytes("key", record.key)?,
            bytes("value", record.value)?,
            headers(record)?,
        ))
    }
}
