//! The calls of a consumer for faces that carry another client's API: partition by partition, with everything librdkafka tells.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;

use crate::consumer::Consumer;
use crate::consumer::offsets::check_partition;
use crate::error::Result;
use crate::kafka_code;
use crate::metadata::Metadata;
use crate::native;
use crate::notice::PartitionReply;
use crate::partition::{Offset, TopicPartition};
use crate::poller::{Change, Command};
use crate::record::OwnedRecord;
use crate::source::{CommitOffset, kafka};

impl Consumer {
    /// As [`Consumer::assign`], also while subscribed: what the application sets in `on_assign` replaces what the group gave.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] for a negative offset; [`crate::Error::Kafka`] (`_STATE`) when the group assigns incrementally;
    /// [`crate::Error::Closed`].
    pub fn reassign(&self, partitions: &[(TopicPartition, Offset)]) -> Result<()> {
        self.change(Change::Replace, partitions)
    }

    /// Adds partitions to the assignment; with `again`, those that are assigned already begin at another place.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Kafka`]: `_CONFLICT` for one that is assigned already, `_STATE` when the group assigns eagerly; otherwise as
    /// [`Consumer::reassign`].
    pub fn incremental_assign(
        &self,
        partitions: &[(TopicPartition, Offset)],
        again: bool,
    ) -> Result<()> {
        self.change(Change::Add { again }, partitions)
    }

    /// Takes partitions out of the assignment; what is finished of them is committed first.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Kafka`]: `_INVALID_ARG` for one that is not assigned, `_STATE` when the group assigns eagerly;
    /// [`crate::Error::Closed`].
    pub fn incremental_unassign(&self, partitions: &[TopicPartition]) -> Result<()> {
        let partitions: Vec<_> = partitions
            .iter()
            .map(|partition| (partition.clone(), Offset::Stored))
            .collect();
        self.change(Change::Remove, &partitions)
    }

    fn change(&self, change: Change, partitions: &[(TopicPartition, Offset)]) -> Result<()> {
        for (partition, offset) in partitions {
            check_partition(partition)?;
            crate::consumer::offsets::check_offset(*offset)?;
        }
        let partitions = partitions.to_vec();
        self.ask(|reply| Command::Reassign {
            change,
            partitions,
            reply,
        })
    }

    /// Notes offsets (*next to read*) to be committed; see [`OffsetStore::Explicit`](crate::OffsetStore::Explicit). Asks nobody.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotAssigned`] for the first partition that is not assigned; the others are stored. [`crate::Error::Closed`].
    pub fn store_offsets(&self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        self.open()?;
        let mut result = Ok(());
        for (partition, offset) in offsets {
            let stored = self.cell(partition).map(|cell| cell.store(*offset));
            if let (Ok(()), Err(failed)) = (&result, stored) {
                result = Err(failed);
            }
        }
        result
    }

    /// True once a partition of the topic was assigned to this consumer, also when it is no longer.
    #[must_use]
    pub fn has_seen_topic(&self, topic: &str) -> bool {
        self.shared().topics_seen.lock().contains(topic)
    }

    /// As [`Consumer::store_offsets`], for the offset behind one record.
    ///
    /// # Errors
    ///
    /// As [`Consumer::store_offsets`].
    pub fn store_record(&self, record: &OwnedRecord) -> Result<()> {
        self.open()?;
        if record.store() {
            return Ok(());
        }
        // Of an earlier assignment; the partition may be assigned again.
        let partition = TopicPartition::new(record.topic(), record.partition());
        self.store_offsets(&[(partition, record.offset() + 1)])
    }

    /// Commits these offsets as they are, text included, and waits for the answer, or not at all with `None`.
    ///
    /// # Errors
    ///
    /// As [`Consumer::commit_offsets`]; no offset to commit is no error.
    pub fn commit_replies(
        &self,
        offsets: &[PartitionReply],
        timeout: Option<Duration>,
    ) -> Result<()> {
        let offsets: Vec<CommitOffset> = offsets
            .iter()
            .filter(|offset| offset.offset >= 0)
            .map(|offset| CommitOffset {
                topic_partition: offset.topic_partition(),
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata.clone(),
            })
            .collect();
        self.open()?;
        match timeout {
            Some(timeout) => self
                .ask_within(timeout, "the commit", |reply| Command::Commit {
                    offsets: Some(offsets),
                    reply: Some(reply),
                })
                .map(drop),
            None => self.tell_poller(Command::Commit {
                offsets: Some(offsets),
                reply: None,
            }),
        }
    }

    /// What the group has committed, per partition with its text, or why that partition's could not be found out.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Kafka`] when the broker cannot be asked within `timeout`; [`crate::Error::Closed`].
    pub fn committed_replies(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<PartitionReply>> {
        let client = self.client()?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&partition.topic, partition.partition);
        }
        let answer = client
            .committed_offsets(list, native::timeout(timeout))
            .map_err(|error| kafka_code::error(&error, "look up committed offsets"))?;
        Ok(kafka::replies(&answer))
    }

    /// The first offset at or after each time, per partition; -1 (the end) where there is none.
    ///
    /// # Errors
    ///
    /// As [`Consumer::committed_replies`].
    pub fn offsets_for_times_replies(
        &self,
        times: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<Vec<PartitionReply>> {
        let client = self.client()?;
        let mut list = TopicPartitionList::with_capacity(times.len());
        for (partition, time_ms) in times {
            list.add_partition_offset(
                &partition.topic,
                partition.partition,
                rdkafka::Offset::from_raw(*time_ms),
            )
            .map_err(|error| kafka_code::error(&error, "offsets for times"))?;
        }
        let answer = client
            .offsets_for_times(list, native::timeout(timeout))
            .map_err(|error| kafka_code::error(&error, "offsets for times"))?;
        Ok(kafka::replies(&answer))
    }

    /// The next offset after the last record handed out, and that record's leader epoch if the broker told it; `None` while none was.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NotAssigned`], [`crate::Error::Closed`].
    pub fn consumed_position(
        &self,
        partition: &TopicPartition,
    ) -> Result<Option<(i64, Option<i32>)>> {
        self.open()?;
        let consumed = self.cell(partition)?.consumed();
        Ok(consumed.map(|(offset, epoch)| (offset, Some(epoch).filter(|epoch| *epoch >= 0))))
    }

    /// The name that the group's coordinator gave this member; `None` outside of a group.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Closed`].
    pub fn member_id(&self) -> Result<Option<String>> {
        Ok(kafka::member_id(&*self.client()?))
    }

    /// The cluster's id, when a broker tells it within `timeout`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Closed`].
    pub fn cluster_id(&self, timeout: Duration) -> Result<Option<String>> {
        let client = self.client()?;
        Ok(native::metadata::cluster_id(client.client(), timeout))
    }

    /// Brokers, topics and partitions, of one topic or of all. Asks a broker.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Kafka`] when no broker can be asked within `timeout`; [`crate::Error::Argument`] for a NUL character;
    /// [`crate::Error::Closed`].
    pub fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata> {
        let client = self.client()?;
        native::metadata::metadata(client.client(), topic, timeout)
    }

    /// False outside of a group, or when this consumer was closed.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        !self.is_closed() && self.shared.is_subscribed()
    }
}
