//! The producer: records in, delivery reports out.

#[cfg(test)]
mod tests;

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

pub(crate) type HeaderRow<'a> = (&'a str, Option<&'a [u8]>);

/// # Safety
///
/// As [`input::slice`], for the array and for each of its texts.
pub(crate) unsafe fn headers<'a>(record: &tg_producer_record) -> Result<Vec<HeaderRow<'a>>> {
    // SAFETY: by contract.
    unsafe { header_rows(record.headers, record.header_count) }
}

/// # Safety
///
/// As [`input::slice`], for the array and for each of its texts.
pub(crate) unsafe fn header_rows<'a>(
    headers: *const tg_header,
    count: usize,
) -> Result<Vec<HeaderRow<'a>>> {
    // SAFETY: by contract.
    let rows = unsafe { input::slice("headers", headers, count)? };
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

/// Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a freed handle; TG_ERROR_CLOSED.
///
/// # Safety
///
/// The texts are NULL or end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_set_sasl_credentials(
    producer: *mut tg_producer,
    username: *const c_char,
    password: *const c_char,
) -> tg_status {
    guard::call(|| {
        let producer = sender(producer)?;
        // SAFETY: by contract.
        let (username, password) = unsafe {
            (
                input::text("username", username)?,
                input::text("password", password)?,
            )
        };
        producer.producer.set_sasl_credentials(username, password)
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
