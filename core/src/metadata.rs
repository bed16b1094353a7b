//! A cluster's brokers, topics and partitions, as one of its brokers tells every client.

use crate::error::KafkaCode;
use crate::partition::TopicInfo;

/// Every broker, topic and partition, as one of the brokers tells every client.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The controller, or -1.
    pub controller: i32,
    /// The broker that answered: number and name.
    pub origin: (i32, String),
    /// Brokers: number, host, port.
    pub brokers: Vec<(i32, String, i32)>,
    /// Topics.
    pub topics: Vec<TopicMetadata>,
}

/// A topic of [`Metadata`].
#[derive(Debug, Clone)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Why it cannot be seen.
    pub error: Option<KafkaCode>,
    /// Its partitions.
    pub partitions: Vec<PartitionMetadata>,
}

/// A partition of [`Metadata`].
#[derive(Debug, Clone)]
pub struct PartitionMetadata {
    /// Its number.
    pub id: i32,
    /// Its leader, or -1.
    pub leader: i32,
    /// The brokers that keep it.
    pub replicas: Vec<i32>,
    /// Those that are in sync.
    pub in_sync: Vec<i32>,
    /// Why it cannot be used.
    pub error: Option<KafkaCode>,
}

impl Metadata {
    /// The topics by name and count of partitions, in the order of their names.
    pub(crate) fn infos(&self) -> Vec<TopicInfo> {
        let mut topics: Vec<_> = self.topics.iter().map(TopicMetadata::info).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }
}

impl TopicMetadata {
    fn info(&self) -> TopicInfo {
        TopicInfo {
            name: self.name.clone(),
            partitions: i32::try_from(self.partitions.len()).unwrap_or(i32::MAX),
        }
    }
}
