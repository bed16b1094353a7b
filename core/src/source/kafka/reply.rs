//! What librdkafka answers: commits per partition, watermarks.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char};

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer as _;

use crate::error::{Error, Result};
use crate::kafka_code;
use crate::notice::PartitionReply;
use crate::partition::TopicPartition;
use crate::source::kafka::context::Client;
use crate::source::kafka::message::slice;
use crate::source::kafka::queue::Queue;
use crate::source::kafka::topic_name;
use crate::source::{RequestId, SourceEvent};

/// The broker's answers to commits that wait on `replies`.
pub(super) fn commit_replies(replies: &Queue, events: &mut VecDeque<SourceEvent>) {
    while !replies.is_empty() {
        // SAFETY: the queue is alive; the event is ours and destroyed below, after the last use of its list.
        let event = unsafe { rd::rd_kafka_queue_poll(replies.as_ptr(), 0) };
        if event.is_null() {
            return;
        }
        // SAFETY: as above; the list belongs to the event and is only read.
        unsafe {
            if rd::rd_kafka_event_type(event) == rd::RD_KAFKA_EVENT_OFFSET_COMMIT {
                let err = rd::rd_kafka_event_error(event) as i32;
                events.push_back(SourceEvent::Committed {
                    id: RequestId(rd::rd_kafka_event_opaque(event) as usize as u64),
                    result: result_of(err, || "commit".into()),
                    partitions: results(rd::rd_kafka_event_topic_partition_list(event)),
                });
            }
            rd::rd_kafka_event_destroy(event);
        }
    }
}

/// The low and the high watermark that the latest fetch reported.
pub(crate) fn cached_watermarks(client: &Client, partition: &TopicPartition) -> Option<(i64, i64)> {
    if let Some((low, high)) = client.context().watermarks().get(partition)
        && low >= 0
        && high >= 0
    {
        return Some((low, high));
    }
    let topic = topic_name(&partition.topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is alive, and both numbers outlive the call.
    let err = unsafe {
        rd::rd_kafka_get_watermark_offsets(
            client.client().native_ptr(),
            topic.as_ptr(),
            partition.partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && low >= 0 && high >= 0)
        .then_some((low, high))
}

/// How many partitions are read past librdkafka.
pub(crate) fn direct_count(client: &Client) -> usize {
    client.context().watermarks().len()
}

/// The metadata of each partition of a list. rdkafka's own accessor panics on bytes that are no text, and they may be anybody's.
pub(crate) fn metadata(list: &TopicPartitionList) -> Vec<Option<String>> {
    // SAFETY: the list is alive; librdkafka's list has `cnt` elements, and each has `metadata_size` bytes of metadata, or none.
    unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        std::slice::from_raw_parts(list.elems, count)
            .iter()
            .map(|element| {
                let bytes = slice(element.metadata.cast_const(), element.metadata_size)?;
                (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
            })
            .collect()
    }
}

/// The name that the coordinator gave this member.
pub(crate) fn member_id(client: &Client) -> Option<String> {
    // SAFETY: the client is alive; the text is ours, and given back after its last use.
    unsafe {
        let native = client.client().native_ptr();
        let text = rd::rd_kafka_memberid(native);
        if text.is_null() {
            return None;
        }
        let copy = c_string(text);
        rd::rd_kafka_mem_free(native, text.cast());
        Some(copy).filter(|id| !id.is_empty())
    }
}

/// Who this consumer is in its group now.
pub(crate) fn membership(client: &Client) -> Result<Vec<u8>> {
    let (mut bytes, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the client is alive; what each call gives is ours, looked at within its size, and given back once.
    let copy = unsafe {
        let metadata = rd::rd_kafka_consumer_group_metadata(client.client().native_ptr());
        if metadata.is_null() {
            None
        } else {
            let failed =
                rd::rd_kafka_consumer_group_metadata_write(metadata, &raw mut bytes, &raw mut size);
            rd::rd_kafka_consumer_group_metadata_destroy(metadata);
            if failed.is_null() {
                let copy = std::slice::from_raw_parts(bytes.cast::<u8>(), size).to_vec();
                rd::rd_kafka_mem_free(std::ptr::null_mut(), bytes);
                Some(copy)
            } else {
                rd::rd_kafka_error_destroy(failed);
                None
            }
        }
    };
    copy.ok_or_else(|| Error::Kafka {
        code: kafka_code::from_number(-179), // _UNKNOWN_GROUP
        context: "this consumer has no group".into(),
    })
}

/// A list with everything that librdkafka says of each partition.
pub(crate) fn replies(list: &rdkafka::TopicPartitionList) -> Vec<PartitionReply> {
    // SAFETY: the list is alive, and has `cnt` elements.
    let elements = unsafe {
        let list = &*list.ptr();
        match usize::try_from(list.cnt) {
            Ok(count) if count > 0 => std::slice::from_raw_parts(list.elems, count),
            _ => &[],
        }
    };
    let reply = |element: &rd::rd_kafka_topic_partition_t| {
        // SAFETY: an element has a topic name, and its metadata is valid for its length.
        let (topic, metadata, epoch) = unsafe {
            (
                c_string(element.topic),
                super::message::slice(element.metadata, element.metadata_size),
                rd::rd_kafka_topic_partition_get_leader_epoch(element),
            )
        };
        let text = metadata.filter(|metadata| !metadata.is_empty());
        let text =
            text.map(|text| String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap_or(text)));
        let code = kafka_code::from_number(element.err as i32);
        PartitionReply {
            topic: topic.into(),
            partition: element.partition,
            offset: element.offset,
            leader_epoch: (epoch >= 0).then_some(epoch),
            metadata: text.map(std::borrow::Cow::into_owned),
            error: (code.number() != 0).then_some(code),
        }
    };
    elements.iter().map(reply).collect()
}

/// What the broker said of each partition of a list.
///
/// # Safety
///
/// `list` must be null or alive.
unsafe fn results(
    list: *mut rd::rd_kafka_topic_partition_list_t,
) -> Vec<(TopicPartition, Result<()>)> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: librdkafka's list has `cnt` elements, each with a topic name.
    let elements = unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        std::slice::from_raw_parts((*list).elems, count)
    };
    elements
        .iter()
        .map(|element| {
            // SAFETY: as above.
            let topic = unsafe { CStr::from_ptr(element.topic) }.to_string_lossy();
            let partition = TopicPartition::new(topic, element.partition);
            let result = result_of(element.err as i32, || format!("commit {partition}"));
            (partition, result)
        })
        .collect()
}

fn result_of(err: i32, context: impl FnOnce() -> String) -> Result<()> {
    if err == 0 {
        return Ok(());
    }
    Err(Error::Kafka {
        code: kafka_code::from_number(err),
        context: context(),
    })
}

/// # Safety
///
/// `text` must be null or a C string.
pub(super) unsafe fn c_string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by contract.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
