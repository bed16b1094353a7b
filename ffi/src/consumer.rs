//! The consumer: configuration in, batches and records out.

use std::ffi::c_char;
use std::ptr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate::{Consumer, Dispatcher, OwnedRecord, RecordBatch, Result};

use crate::batch::{self, tg_batch};
use crate::config::{self, tg_config};
use crate::error::tg_status;
use crate::guard;
use crate::handle::{self, object};
use crate::input;
use crate::listener::{Callbacks, tg_rebalance_callbacks};
use crate::notify::Ready;
use crate::record::tg_record;
use crate::text::{self, tg_text};

/// tg_consumer_free() waits so long for the group to be left.
const FREE_CLOSE: Duration = Duration::from_secs(5);

/// Reads records of a group, or of partitions assigned by hand. The polling calls (poll, next_batch, fill_batch, lease_batch, run)
/// may be made by one thread at a time (TG_ERROR_CONCURRENT_USE otherwise), everything else by any thread, also meanwhile.
///
/// A record is finished, and its offset may be committed, when the program asks for the next one (or batch), or acknowledges it; what
/// was leased, only when it is acknowledged. With `enable.auto.commit` (the default) what is finished is committed every
/// `auto.commit.interval.ms`, when partitions are taken away, and at close.
///
/// After tg_consumer_close() every function but the free one, the statistics and a second close answers TG_ERROR_CLOSED; in a forked
/// child TG_ERROR_FORKED.
pub struct tg_consumer {
    _private: [u8; 0],
}

/// What a [`tg_consumer`] stands for.
pub(crate) struct Reader {
    pub(crate) consumer: Arc<Consumer>,
    /// The record that tg_consumer_poll() gave last: its pointers stay good until the next one.
    polled: Mutex<Option<OwnedRecord>>,
    ready: OnceLock<Ready>,
    /// What tg_process_start() has made of it last.
    pub(crate) processing: Mutex<Weak<Dispatcher>>,
}

object!(Reader, tg_consumer, "consumer", 6);

impl Reader {
    /// The end of a polling call that has nothing to give.
    pub(crate) fn nothing(&self) -> Result<tg_status> {
        if let Some(ready) = self.ready.get() {
            ready.nothing_found(&self.consumer)?;
        }
        Ok(tg_status::TG_NOTHING)
    }
}

pub(crate) fn reader(consumer: *const tg_consumer) -> Result<Arc<Reader>> {
    handle::get::<Reader>(consumer)
}

/// A consumer with this configuration; it connects in the background, so a broker that is away is no error here.
/// tg_consumer_free() ends it. Any thread.
///
/// @return TG_ERROR_CONFIG with every problem of the configuration; TG_ERROR_KAFKA when librdkafka cannot start;
///         TG_ERROR_ARGUMENT for NULL and a freed configuration.
///
/// # Safety
///
/// `consumer` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_new(
    config: *const tg_config,
    consumer: *mut *mut tg_consumer,
) -> tg_status {
    guard::call(|| {
        let config = config::of(config)?;
        input::check_place("consumer", consumer)?;
        let made = handle::make(Reader {
            consumer: Arc::new(Consumer::new(&config)?),
            polled: Mutex::new(None),
            ready: OnceLock::new(),
            processing: Mutex::new(Weak::new()),
        })?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("consumer", consumer, made) }
    })
}

/// Joins the group for these topics; a name that begins with '^' is a regular expression. What was subscribed to before is
/// replaced. A topic that does not exist is waited for, with a warning in the log. Any thread.
///
/// @param callbacks what to call at rebalances, copied; NULL for nothing.
/// @return TG_ERROR_ARGUMENT for NULL, a freed consumer, no topic, an empty name, or a configuration without `group.id`; then
///         `free_user_data` is not called.
///
/// # Safety
///
/// `topics` leads to `count` NUL-terminated texts; `callbacks` is NULL or valid during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_subscribe(
    consumer: *mut tg_consumer,
    topics: *const *const c_char,
    count: usize,
    callbacks: *const tg_rebalance_callbacks,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        // SAFETY: by contract.
        let names = unsafe { input::slice("topics", topics, count)? };
        let names: Vec<&str> = names
            .iter()
            // SAFETY: by contract.
            .map(|name| unsafe { input::text("topics", *name) })
            .collect::<Result<_>>()?;
        if callbacks.is_null() {
            return reader.consumer.subscribe(&names);
        }
        // SAFETY: one table of callbacks, valid by contract.
        let table = unsafe { input::slice("callbacks", callbacks, 1)? };
        let (callbacks, custody) = Callbacks::offer(consumer, table[0]);
        reader
            .consumer
            .subscribe_with(&names, Box::new(callbacks))?;
        custody.accept();
        Ok(())
    })
}

/// Leaves the group and stops reading. What is finished is committed first. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
#[unsafe(no_mangle)]
pub extern "C" fn tg_consumer_unsubscribe(consumer: *mut tg_consumer) -> tg_status {
    guard::call(|| reader(consumer)?.consumer.unsubscribe())
}

/// The next record. Asking for it finishes the one handed out before.
///
/// @param timeout_ms 0 or more; TG_FOREVER waits until there is a record or the consumer is closed.
/// @param record is filled on TG_OK; its pointers are good until the next polling call or tg_consumer_free().
/// @return TG_NOTHING when the time is over, and after tg_consumer_wake() or a close; TG_ERROR_CONCURRENT_USE;
///         TG_ERROR_CALLBACK; TG_ERROR_KAFKA for what only the program can mend (no permission, a fatal error);
///         TG_ERROR_ARGUMENT for NULL, a freed consumer, and another negative time.
///
/// # Safety
///
/// `record` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_poll(
    consumer: *mut tg_consumer,
    timeout_ms: i64,
    record: *mut tg_record,
) -> tg_status {
    guard::status(|| {
        let reader = reader(consumer)?;
        input::check_place("record", record)?;
        let Some(next) = reader
            .consumer
            .poll(input::timeout("timeout_ms", timeout_ms)?)?
        else {
            return reader.nothing();
        };
        let made = tg_record::of(&next.as_record());
        // Its batch is shared: the pointers stay good while it is kept here.
        *reader.polled.lock() = Some(next);
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("record", record, made)? };
        Ok(tg_status::TG_OK)
    })
}

/// Keeps the record that tg_consumer_poll() gave last beyond the next call, as a batch of one row. Same thread as the poll.
///
/// @return TG_ERROR_ARGUMENT for NULL, a freed consumer, and when no record was polled.
///
/// # Safety
///
/// `kept` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_keep_polled(
    consumer: *mut tg_consumer,
    kept: *mut *mut tg_batch,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        input::check_place("kept", kept)?;
        let polled = reader.polled.lock().clone();
        let Some(polled) = polled else {
            return Err(input::refused(
                "consumer",
                "no record was polled yet",
                "call it after tg_consumer_poll() gave TG_OK",
            ));
        };
        let row = polled.row();
        let made = batch::make(polled.batch().slice(row..row + 1))?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("kept", kept, made) }
    })
}

/// The most records, as the functions take it: 0 stands for no limit.
fn limit(max_records: usize) -> Option<usize> {
    (max_records > 0).then_some(max_records)
}

/// What the batch calls share: a batch or nothing.
unsafe fn batch_call(
    consumer: *mut tg_consumer,
    batch: *mut *mut tg_batch,
    next: impl FnOnce(&Consumer) -> Result<Option<RecordBatch>>,
) -> tg_status {
    guard::status(|| {
        let reader = reader(consumer)?;
        input::check_place("batch", batch)?;
        let Some(records) = next(&reader.consumer)? else {
            // SAFETY: checked above, and writable by the callers' contracts.
            unsafe { input::put("batch", batch, ptr::null_mut())? };
            return reader.nothing();
        };
        let made = batch::make(records)?;
        // SAFETY: as above.
        unsafe { input::put("batch", batch, made)? };
        Ok(tg_status::TG_OK)
    })
}

/// The next batch: returns as soon as there are records. Asking for it finishes the batch handed out before. tg_batch_free() ends the
/// batch.
///
/// @param timeout_ms as for tg_consumer_poll().
/// @param max_records the most records, 0 for no limit; never more than `max.poll.records`.
/// @param batch is filled on TG_OK, and NULL on TG_NOTHING.
/// @return as tg_consumer_poll().
///
/// # Safety
///
/// `batch` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_next_batch(
    consumer: *mut tg_consumer,
    timeout_ms: i64,
    max_records: usize,
    batch: *mut *mut tg_batch,
) -> tg_status {
    // SAFETY: by contract.
    unsafe {
        batch_call(consumer, batch, |consumer| {
            let timeout = input::timeout("timeout_ms", timeout_ms)?;
            consumer.next_batch(timeout, limit(max_records))
        })
    }
}

/// Up to `records` records: waits until there are so many, or until the time is over, and then gives what there is.
///
/// @param timeout_ms 0 or more.
/// @param records 1 or more.
/// @return as tg_consumer_next_batch(); TG_ERROR_ARGUMENT for 0 records.
///
/// # Safety
///
/// `batch` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_fill_batch(
    consumer: *mut tg_consumer,
    timeout_ms: i64,
    records: usize,
    batch: *mut *mut tg_batch,
) -> tg_status {
    // SAFETY: by contract.
    unsafe {
        batch_call(consumer, batch, |consumer| {
            consumer.fill_batch(input::duration("timeout_ms", timeout_ms)?, records)
        })
    }
}

/// As tg_consumer_next_batch(), but the records are finished only by tg_batch_acknowledge() (in any order, by any thread), never by
/// asking for more.
///
/// @return as tg_consumer_next_batch().
///
/// # Safety
///
/// `batch` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_lease_batch(
    consumer: *mut tg_consumer,
    timeout_ms: i64,
    max_records: usize,
    batch: *mut *mut tg_batch,
) -> tg_status {
    // SAFETY: by contract.
    unsafe {
        batch_call(consumer, batch, |consumer| {
            let timeout = input::timeout("timeout_ms", timeout_ms)?;
            consumer.lease_batch(timeout, limit(max_records))
        })
    }
}

/// Everything that was handed out and not leased counts as finished, without asking for more. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
#[unsafe(no_mangle)]
pub extern "C" fn tg_consumer_finish_in_hand(consumer: *mut tg_consumer) -> tg_status {
    guard::call(|| {
        reader(consumer)?.consumer.finish_in_hand();
        Ok(())
    })
}

/// Makes a waiting polling call, or the next one, return TG_NOTHING at once. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
#[unsafe(no_mangle)]
pub extern "C" fn tg_consumer_wake(consumer: *mut tg_consumer) -> tg_status {
    guard::call(|| {
        reader(consumer)?.consumer.wake();
        Ok(())
    })
}

/// What an event loop waits for: a file descriptor that is readable while a polling call with a timeout of 0 would give something
/// (on Windows an event handle that is signalled then). After it became readable, poll until TG_NOTHING: that makes it unreadable
/// again. Never read from it or close it; it ends with tg_consumer_free(). Any thread; the same one at each call.
///
/// @return -1 when the system has no descriptor left, and for NULL and a freed consumer; see tg_last_error().
#[unsafe(no_mangle)]
pub extern "C" fn tg_consumer_ready_fd(consumer: *mut tg_consumer) -> isize {
    guard::value(-1, || {
        let reader = reader(consumer)?;
        if let Some(ready) = reader.ready.get() {
            return Ok(ready.raw());
        }
        let ready = Ready::watch(&reader.consumer)?;
        Ok(reader.ready.get_or_init(|| ready).raw())
    })
}

/// The numbers so far as one JSON object; also of a closed consumer. tg_text_free() ends the text. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
///
/// # Safety
///
/// `json` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_consumer_stats_json(
    consumer: *const tg_consumer,
    json: *mut *mut tg_text,
) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        input::check_place("json", json)?;
        let made = text::make(&reader.consumer.stats().to_json())?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("json", json, made) }
    })
}

/// Commits what is finished, leaves the group and ends the background thread. Records handed out and not finished are not committed:
/// call tg_consumer_finish_in_hand() or tg_consumer_commit() before, if they are done. Always returns within `timeout_ms` and a little;
/// closing twice is fine; a waiting polling call of another thread returns. Batches stay valid. Any thread.
///
/// @return TG_ERROR_TIMED_OUT when the group could not be left in time: it is left in the background then. TG_ERROR_ARGUMENT for NULL,
///         a freed consumer, and a negative time.
#[unsafe(no_mangle)]
pub extern "C" fn tg_consumer_close(consumer: *mut tg_consumer, timeout_ms: i64) -> tg_status {
    guard::call(|| {
        let reader = reader(consumer)?;
        reader
            .consumer
            .close(input::duration("timeout_ms", timeout_ms)?)
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
pub unsafe extern "C" fn tg_consumer_set_sasl_credentials(
    consumer: *mut tg_consumer,
    username: *const c_char,
    password: *const c_char,
) -> tg_status {
    guard::call(|| {
        let consumer = reader(consumer)?;
        // SAFETY: by contract.
        let (username, password) = unsafe {
            (
                input::text("username", username)?,
                input::text("password", password)?,
            )
        };
        consumer.consumer.set_sasl_credentials(username, password)
    })
}

/// Ends a consumer; one that was not closed is closed, for at most five seconds. A polling call of another thread ends with TG_NOTHING,
/// batches stay valid. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_consumer_free(consumer: *mut tg_consumer) -> tg_status {
    guard::call(|| {
        let Some(reader) = handle::take::<Reader>(consumer)? else {
            return Ok(());
        };
        match reader.consumer.close(FREE_CLOSE) {
            // In a forked child there is nothing to end.
            Err(tidegate::Error::Forked { .. }) => Ok(()),
            result => result,
        }
    })
}
