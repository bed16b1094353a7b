//! Records as C sees them: a struct of pointers into the batch's memory.

use std::ptr;

use tidegate::{Headers, Record, TimestampType};

use crate::guard;
use crate::input;

/// Bytes in the library's memory. They do not end with a NUL.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_bytes {
    /// Where they begin; NULL means null: no key, a tombstone. Empty is not null.
    pub data: *const u8,
    /// How many.
    pub length: usize,
}

impl tg_bytes {
    pub(crate) fn of(bytes: Option<&[u8]>) -> tg_bytes {
        match bytes {
            None => tg_bytes {
                data: ptr::null(),
                length: 0,
            },
            Some(bytes) => tg_bytes {
                data: bytes.as_ptr(),
                length: bytes.len(),
            },
        }
    }
}

/// Whose clock a timestamp is from.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tg_timestamp_type {
    /// There is no timestamp.
    TG_TIMESTAMP_NONE = 0,
    /// The producer's.
    TG_TIMESTAMP_CREATE_TIME = 1,
    /// The broker's, at append.
    TG_TIMESTAMP_LOG_APPEND_TIME = 2,
}

impl From<TimestampType> for tg_timestamp_type {
    fn from(kind: TimestampType) -> tg_timestamp_type {
        match kind {
            TimestampType::NotAvailable => tg_timestamp_type::TG_TIMESTAMP_NONE,
            TimestampType::CreateTime => tg_timestamp_type::TG_TIMESTAMP_CREATE_TIME,
            TimestampType::LogAppendTime => tg_timestamp_type::TG_TIMESTAMP_LOG_APPEND_TIME,
        }
    }
}

/// A record. The pointers lead into its batch and are valid as long as that: until tg_batch_free() for a record of a batch, until
/// the next polling call or tg_consumer_free() for one of tg_consumer_poll().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_record {
    /// The topic's name, UTF-8.
    pub topic: tg_bytes,
    /// The partition.
    pub partition: i32,
    /// The leader epoch that it was written under; -1 when not known.
    pub leader_epoch: i32,
    /// Its own offset.
    pub offset: i64,
    /// Milliseconds since 1970; -1 when there is no timestamp.
    pub timestamp_ms: i64,
    /// Whose clock the timestamp is from.
    pub timestamp_type: tg_timestamp_type,
    /// The key; `data` is NULL when there is none.
    pub key: tg_bytes,
    /// The value; `data` is NULL for a tombstone.
    pub value: tg_bytes,
    /// The headers, to be read with tg_header_next().
    pub headers: tg_bytes,
    /// The assignment that it belongs to.
    pub generation: u64,
}

impl tg_record {
    pub(crate) fn of(record: &Record<'_>) -> tg_record {
        tg_record {
            topic: tg_bytes::of(Some(record.topic().as_bytes())),
            partition: record.partition(),
            leader_epoch: record.leader_epoch().unwrap_or(-1),
            offset: record.offset(),
            timestamp_ms: record.timestamp_ms().unwrap_or(-1),
            timestamp_type: record.timestamp_type().into(),
            key: tg_bytes::of(record.key()),
            value: tg_bytes::of(record.value()),
            headers: tg_bytes::of(Some(record.headers().as_bytes())),
            generation: record.generation().0,
        }
    }
}

/// A header of a record; valid as long as the record.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_header {
    /// The name as sent; Kafka asks for UTF-8, brokers do not check.
    pub name: tg_bytes,
    /// The value; `data` is NULL for null.
    pub value: tg_bytes,
}

/// Takes the first header off `headers`, which is a copy of tg_record.headers and then holds the others. Any thread.
///
/// @return false when there is none left, and for NULL.
///
/// # Safety
///
/// `headers` is NULL or the address of a copy of a valid record's `headers`; `header` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_header_next(headers: *mut tg_bytes, header: *mut tg_header) -> bool {
    guard::value(false, || {
        input::check_place("headers", headers)?;
        input::check_place("header", header)?;
        // SAFETY: checked for NULL; by contract a record's headers, which a valid record keeps alive.
        let block = unsafe { input::slice("headers", (*headers).data, (*headers).length)? };
        let mut left = Headers::from_bytes(block);
        let Some(next) = left.next() else {
            return Ok(false);
        };
        // SAFETY: checked for NULL; writable by contract.
        unsafe {
            input::put("headers", headers, tg_bytes::of(Some(left.as_bytes())))?;
            input::put(
                "header",
                header,
                tg_header {
                    name: tg_bytes::of(Some(next.name_bytes())),
                    value: tg_bytes::of(next.value),
                },
            )?;
        }
        Ok(true)
    })
}
