//! What an application hears of its consumer beside records, when it asks for it, and how such a consumer differs from others.
//!
//! L0; plain data, any thread.

use std::sync::Arc;

use crate::error::{Error, KafkaCode};
use crate::partition::TopicPartition;

/// What a consumer commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetStore {
    /// What is finished, and where the group begins.
    #[default]
    Finished,
    /// What is finished, once a record of the partition is.
    Touched,
    /// What the application stores ([`Consumer::store_offsets`](crate::Consumer::store_offsets)), and nothing else.
    Explicit,
}

/// How a consumer is made, beside its configuration: for faces that carry another client's API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// What is committed.
    pub store: OffsetStore,
    /// Errors and partition ends are kept as [`Notice`]s instead of being logged, or coming out of a polling call.
    pub errors: bool,
    /// Outcomes of commits that nobody waits for are kept as notices.
    pub commits: bool,
    /// librdkafka's statistics are kept as notices.
    pub statistics: bool,
    /// librdkafka's log lines are kept as notices instead of going to the log.
    pub logs: bool,
    /// Requests that a broker held back are kept as notices.
    pub throttles: bool,
}

/// Something that [`Consumer::next_notice`](crate::Consumer::next_notice) tells.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Notice {
    /// The end of a partition was reached; every record before it was handed out.
    PartitionEof {
        /// The partition.
        partition: TopicPartition,
        /// The next offset to be written.
        offset: i64,
        /// librdkafka's sentence.
        reason: String,
    },
    /// Something failed; librdkafka goes on by itself unless the error is fatal.
    Error {
        /// What failed.
        error: Error,
        /// The partition, if it is the failure of one.
        partition: Option<TopicPartition>,
    },
    /// The outcome of a commit that nobody waited for.
    Committed {
        /// Why it failed.
        error: Option<KafkaCode>,
        /// What was to be committed.
        offsets: Vec<PartitionReply>,
    },
    /// librdkafka's statistics (JSON).
    Statistics(String),
    /// A broker held a request back because of a quota, or, with 0 ms, does so no longer.
    Throttle {
        /// The broker's name.
        broker: String,
        /// The broker's number.
        broker_id: i32,
        /// For how long, in milliseconds.
        throttle_ms: i32,
    },
    /// A line of librdkafka's log.
    Log {
        /// syslog's number: 0 is worst, 7 is for debugging.
        level: i32,
        /// librdkafka's name of what the line is about.
        facility: String,
        /// The line.
        message: String,
    },
}

/// A partition, an offset as librdkafka writes it (negative numbers are logical), and what is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionReply {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The leader epoch of the record before it.
    pub leader_epoch: Option<i32>,
    /// The application's own text.
    pub metadata: Option<String>,
    /// What failed for this partition alone.
    pub error: Option<KafkaCode>,
}

impl PartitionReply {
    /// librdkafka's "no offset".
    pub const NO_OFFSET: i64 = -1001;

    /// An offset with nothing beside it.
    #[must_use]
    pub fn new(partition: &TopicPartition, offset: i64) -> PartitionReply {
        PartitionReply {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            offset,
            leader_epoch: None,
            metadata: None,
            error: None,
        }
    }

    /// The partition without the offset.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic), self.partition)
    }
}
