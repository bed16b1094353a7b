//! Offsets as librdkafka takes them, with what rust-rdkafka's lists cannot say: their leader epoch.
//!
//! Any thread.

use std::ffi::CString;

use rdkafka::bindings as rd;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::Result;
use crate::kafka_code;
use crate::partition::TopicPartition;

/// An offset to be committed.
pub(crate) struct ToCommit<'a> {
    pub(crate) partition: &'a TopicPartition,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) metadata: Option<&'a str>,
}

/// librdkafka's list of offsets; `doing` is for its error.
pub(crate) fn list<'a>(
    offsets: impl Iterator<Item = ToCommit<'a>>,
    doing: &str,
) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.size_hint().0);
    for to_commit in offsets {
        let (topic, partition) = (&*to_commit.partition.topic, to_commit.partition.partition);
        let mut element = list.add_partition(topic, partition);
        element
            .set_offset(Offset::Offset(to_commit.offset))
            .map_err(|failure| kafka_code::error(&failure, doing))?;
        if let Some(metadata) = to_commit.metadata {
            element.set_metadata(metadata);
        }
        if let (Some(epoch), Ok(name)) = (to_commit.leader_epoch, CString::new(topic)) {
            // SAFETY: the list lives; it gives an element of its own, or NULL.
            unsafe {
                let element =
                    rd::rd_kafka_topic_partition_list_find(list.ptr(), name.as_ptr(), partition);
                if !element.is_null() {
                    rd::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
                }
            }
        }
    }
    Ok(list)
}
