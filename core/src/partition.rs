//! Names of places in Kafka: topic, partition, offset, and the generation of an assignment.

use std::fmt;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.topic, self.partition)
    }
}

/// A place in a partition; as a position it means *next to read*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offset {
    /// The low watermark.
    Beginning,
    /// The high watermark (the last stable offset under `read_committed`).
    End,
    /// The group's committed offset; without one, what `auto.offset.reset` says.
    Stored,
    /// This very offset.
    At(i64),
    /// So many records before the end.
    Tail(i64),
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Offset::Beginning => f.write_str("beginning"),
            Offset::End => f.write_str("end"),
            Offset::Stored => f.write_str("stored"),
            Offset::At(offset) => write!(f, "{offset}"),
            Offset::Tail(count) => write!(f, "end-{count}"),
        }
    }
}

/// A partition and an offset in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicPartitionOffset {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The offset; as a position or a commit it means *next to read*.
    pub offset: Offset,
}

impl TopicPartitionOffset {
    /// `offset` in a partition of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32, offset: Offset) -> TopicPartitionOffset {
        TopicPartitionOffset {
            topic: topic.into(),
            partition,
            offset,
        }
    }

    /// The partition without the offset.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic), self.partition)
    }
}

/// What a group is to go on from in a partition, with what Kafka keeps beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OffsetAndMetadata {
    /// The partition.
    pub partition: TopicPartition,
    /// *Next to read*; a negative one is left out.
    pub offset: i64,
    /// The leader epoch of the record before it.
    pub leader_epoch: Option<i32>,
    /// A text of the application's.
    pub metadata: Option<String>,
}

impl OffsetAndMetadata {
    /// `offset` in a partition of `topic`, with nothing beside it.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32, offset: i64) -> OffsetAndMetadata {
        OffsetAndMetadata {
            partition: TopicPartition::new(topic, partition),
            offset,
            leader_epoch: None,
            metadata: None,
        }
    }
}

/// Counts the assignments of a partition to this consumer: it grows at each assign and seek, so that a record, an
/// acknowledgement or a commit of an earlier one is recognised as stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// A topic of the cluster, as metadata shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// The topic's name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
}
