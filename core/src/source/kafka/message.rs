//! librdkafka's messages, read in place.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use rdkafka::bindings as rd;

use crate::batch::{ARENA_LIMIT_BYTES, BatchBuilder, TimestampType};
use crate::error::Error;
use crate::kafka_code;
use crate::partition::TopicPartition;
use crate::source::SourceEvent;
use crate::source::kafka::reply::c_string;

/// A message handle between librdkafka and its place in a batch.
pub(super) type Message = *mut rd::rd_kafka_message_t;

/// An error that came in a message's place.
///
/// # Safety
///
/// `message` must be alive.
pub(super) unsafe fn error_event(message: Message) -> SourceEvent {
    // SAFETY: alive by contract; a consumer error has a topic handle, or none for errors of the whole client.
    let (message, topic, text) = unsafe {
        let topic = (*message).rkt;
        let topic = if topic.is_null() {
            String::new()
        } else {
            c_string(rd::rd_kafka_topic_name(topic))
        };
        (
            &*message,
            topic,
            c_string(rd::rd_kafka_message_errstr(message)),
        )
    };
    let topic_partition = TopicPartition::new(topic, message.partition);
    if message.err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF {
        return SourceEvent::PartitionEof {
            topic_partition,
            offset: message.offset,
            reason: text,
        };
    }
    let error = Error::Kafka {
        code: kafka_code::from_number(message.err as i32),
        context: format!("{topic_partition}: {text}"),
    };
    SourceEvent::PartitionError {
        topic_partition,
        error,
    }
}

/// A message that no arena can hold. Its offset is passed over, as that of any message that cannot be read.
///
/// # Safety
///
/// `message` must be alive.
pub(super) unsafe fn too_large(message: Message) -> Error {
    // SAFETY: alive by contract, and no error, so that it has a topic.
    let (topic, partition, offset) = unsafe {
        let topic = c_string(rd::rd_kafka_topic_name((*message).rkt));
        (topic, (*message).partition, (*message).offset)
    };
    Error::Kafka {
        code: kafka_code::from_number(
            rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as i32,
        ),
        context: format!(
            "{} offset {offset}: key, value and headers take more than {ARENA_LIMIT_BYTES} bytes, so the record is skipped",
            TopicPartition::new(topic, partition)
        ),
    }
}

/// Copies a message's headers behind the row pushed last; false when they do not fit any more.
///
/// # Safety
///
/// `message` must be alive.
#[inline]
pub(super) unsafe fn push_headers(builder: &mut BatchBuilder, message: Message) -> bool {
    let mut headers = ptr::null_mut();
    // SAFETY: alive by contract; the headers belong to the message.
    let err = unsafe { rd::rd_kafka_message_headers(message, &raw mut headers) };
    if err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return true;
    }
    for index in 0.. {
        let mut name: *const c_char = ptr::null();
        let mut value: *const c_void = ptr::null();
        let mut length = 0;
        // SAFETY: as above; name and value stay valid while the message lives.
        let (name, value) = unsafe {
            let err = rd::rd_kafka_header_get_all(
                headers,
                index,
                &raw mut name,
                &raw mut value,
                &raw mut length,
            );
            if err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return true;
            }
            (CStr::from_ptr(name).to_bytes(), slice(value, length))
        };
        if !builder.push_header(name, value) {
            return false;
        }
    }
    true
}

/// The bytes of a message's key and value; none of an error.
///
/// # Safety
///
/// `message` must be alive.
#[inline]
pub(super) unsafe fn size_bytes(message: Message) -> usize {
    // SAFETY: alive by contract.
    let message = unsafe { &*message };
    if message.err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        message.len + message.key_len
    } else {
        0
    }
}

/// True when a message, or an error in a message's place, is of this partition.
///
/// # Safety
///
/// `message` must be alive.
pub(super) unsafe fn topic_is(message: Message, partition: &TopicPartition) -> bool {
    // SAFETY: alive by contract; a message keeps its topic handle alive, and librdkafka's name of it is a C string.
    unsafe {
        let (topic, number) = ((*message).rkt, (*message).partition);
        number == partition.partition
            && !topic.is_null()
            && CStr::from_ptr(rd::rd_kafka_topic_name(topic)).to_bytes()
                == partition.topic.as_bytes()
    }
}

/// `None` for null, which is not the same as empty.
///
/// # Safety
///
/// `data` must be null or valid for `length` bytes for as long as the result is used.
#[inline]
pub(super) unsafe fn slice<'a>(data: *const c_void, length: usize) -> Option<&'a [u8]> {
    if data.is_null() {
        return None;
    }
    // SAFETY: by contract.
    Some(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) })
}

/// The librdkafka whose receive buffers [`has_no_headers`] knows: 2.12 with any patch level.
pub(super) const KNOWN_LAYOUT: std::ops::RangeInclusive<i32> = 0x020c_0000..=0x020c_ffff;

/// True when the record certainly has no headers; false means: ask librdkafka.
///
/// `rd_kafka_message_headers` makes a buffer object per message only to read a count of zero, which was 40 % of the
/// poller's time for records of 100 bytes (2026-11-23). The count is the byte behind the value.
///
/// # Safety
///
/// `value` must be the value of a live message of record format v2 (the only one with a leader epoch), of a librdkafka
/// in [`KNOWN_LAYOUT`]. Such a record is parsed in place from one contiguous buffer, where the number of headers, a
/// varint that is never left out, follows the value. A librdkafka that copies values elsewhere would break this.
#[inline]
pub(super) unsafe fn has_no_headers(value: Option<&[u8]>) -> bool {
    // An empty value is librdkafka's own static "", wherever the record is: what follows it says nothing.
    // SAFETY: by contract.
    value.is_some_and(|value| !value.is_empty() && unsafe { *value.as_ptr().add(value.len()) } == 0)
}

pub(super) fn timestamp_type(kind: rd::rd_kafka_timestamp_type_t) -> TimestampType {
    match kind {
        rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => {
            TimestampType::NotAvailable
        }
        rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::CreateTime,
        rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => {
            TimestampType::LogAppendTime
        }
    }
}
