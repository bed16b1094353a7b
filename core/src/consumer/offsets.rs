//! Offsets and positions: commit, seek, pause, and the questions about them.
//!
//! What changes something goes to the poller; what only asks the broker is asked on the calling thread, with a timeout.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;

use crate::consumer::{Consumer, WHAT};
use crate::error::{Error, Result};
use crate::group::GroupMetadata;
use crate::kafka_code;
use crate::native;
use crate::partition::{Offset, TopicInfo, TopicPartition, TopicPartitionOffset};
use crate::poller::Command;
use crate::source::kafka::Client;
use crate::source::{CommitOffset, kafka, lookup};
use crate::tracker::{PartitionCell, UNKNOWN};

pub(crate) fn check_partition(partition: &TopicPartition) -> Result<()> {
    crate::checks::topic_name(&partition.topic)?;
    if partition.partition < 0 {
        return Err(Error::argument(
            "partition",
            format!("{} is no partition", partition.partition),
            "use 0 or more",
        ));
    }
    Ok(())
}

pub(crate) fn check_offset(offset: Offset) -> Result<()> {
    match offset {
        Offset::At(number) | Offset::Tail(number) if number < 0 => Err(Error::argument(
            "offset",
            format!("{number} is no offset"),
            "use 0 or more, or one of the logical offsets beginning, end, stored",
        )),
        _ => Ok(()),
    }
}

impl Consumer {
    /// Commits everything that is finished and everything that `poll` and `next_batch` handed out, and waits for the
    /// broker's answer. Gives what was committed: nothing, when nothing new is finished.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Kafka`] when the broker refuses; what was finished stays to be committed.
    /// [`Error::Argument`] without `group.id`; [`Error::Closed`].
    pub fn commit(&self, timeout: Duration) -> Result<Vec<TopicPartitionOffset>> {
        self.group()?;
        self.open()?;
        self.hand().finish(&self.shared.stats);
        let committed = self.ask_within(timeout, "the commit", |reply| Command::Commit {
            offsets: None,
            reply: Some(reply),
        })?;
        Ok(committed.into_iter().map(public).collect())
    }

    /// As [`Consumer::commit`], without waiting; a failure is logged, and what was finished is committed again later.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] without `group.id`; [`Error::Closed`].
    pub fn commit_async(&self) -> Result<()> {
        self.group()?;
        self.open()?;
        self.hand().finish(&self.shared.stats);
        self.tell_poller(Command::Commit {
            offsets: None,
            reply: None,
        })
    }

    /// Commits these offsets (each *next to read*), whatever is finished. Waits for the broker's answer, or not at all
    /// with `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for no offset, a logical or negative one, or without `group.id`; otherwise as
    /// [`Consumer::commit`].
    pub fn commit_offsets(
        &self,
        offsets: &[TopicPartitionOffset],
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.group()?;
        self.open()?;
        if offsets.is_empty() {
            return Err(Error::argument(
                "offsets",
                "there is nothing to commit",
                "name at least one partition, or call commit()",
            ));
        }
        if self.shared.is_transactional() {
            return Err(Error::argument(
                "offsets",
                "the offsets of this consumer are committed with the transactions of process()",
                "leave it to them, or use a consumer of its own",
            ));
        }
        let offsets: Vec<CommitOffset> =
            offsets.iter().map(commit_offset).collect::<Result<_>>()?;
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

    /// Goes on from another place in an assigned partition. Records fetched before are not handed out any more, and
    /// acknowledging them changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`], [`Error::Argument`] for a negative offset, [`Error::Closed`].
    pub fn seek(&self, partition: &TopicPartition, to: Offset) -> Result<()> {
        check_offset(to)?;
        // What is in hand stays unfinished: going back to a record that failed must not commit it.
        self.ask(|reply| Command::Seek {
            partition: partition.clone(),
            to,
            reply,
        })
    }

    /// Hands out nothing more of these partitions until [`Consumer::resume`]. What is fetched already is kept.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`], [`Error::Closed`].
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, true)
    }

    /// Hands out records of these partitions again.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`], [`Error::Closed`].
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, false)
    }

    fn set_paused(&self, partitions: &[TopicPartition], paused: bool) -> Result<()> {
        if partitions.is_empty() {
            return self.open();
        }
        self.ask(|reply| Command::SetPaused {
            partitions: partitions.to_vec(),
            paused,
            reply,
        })
    }

    /// The partitions that are paused.
    #[must_use]
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.partitions_where(PartitionCell::is_paused)
    }

    /// The partitions that this consumer reads.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions_where(|_| true)
    }

    fn partitions_where(&self, wanted: impl Fn(&PartitionCell) -> bool) -> Vec<TopicPartition> {
        let mut partitions: Vec<_> = self
            .shared
            .assigned
            .read()
            .iter()
            .filter(|cell| wanted(cell))
            .map(|cell| cell.topic_partition().clone())
            .collect();
        partitions.sort();
        partitions
    }

    /// The offset of the record that is handed out next; `None` while it is not known, because the partition starts at a
    /// logical offset and nothing has arrived yet.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`], [`Error::Closed`].
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        self.open()?;
        let cell = self.cell(partition)?;
        let handed = cell.handed();
        Ok((handed != UNKNOWN).then_some(handed))
    }

    pub(super) fn cell(&self, partition: &TopicPartition) -> Result<Arc<PartitionCell>> {
        self.shared
            .assigned
            .read()
            .iter()
            .find(|cell| cell.topic_partition() == partition)
            .map(Arc::clone)
            .ok_or_else(|| Error::NotAssigned {
                topic: partition.topic.to_string(),
                partition: partition.partition,
            })
    }

    /// What the group has committed (*next to read*), `None` for nothing. Asks the broker.
    ///
    /// # Errors
    ///
    /// [`Error::Kafka`] when the broker cannot be asked within `timeout` or refuses; [`Error::Argument`] without
    /// `group.id`; [`Error::Closed`].
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>> {
        let answer = self.ask_committed(partitions, timeout)?;
        lookup::offsets(&answer, "look up the committed offset")
    }

    /// As [`Consumer::committed`], with the metadata of each commit: what its committer wanted to be told, such as the map of
    /// [`OffsetMap`](crate::parallel::OffsetMap). `None` for none.
    ///
    /// # Errors
    ///
    /// As [`Consumer::committed`].
    pub fn committed_metadata(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<String>)>> {
        let answer = self.ask_committed(partitions, timeout)?;
        let offsets = lookup::offsets(&answer, "look up the committed offset")?;
        let metadata = crate::source::kafka::reply::metadata(&answer);
        Ok(offsets
            .into_iter()
            .map(|(partition, _)| partition)
            .zip(metadata)
            .collect())
    }

    fn ask_committed(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<TopicPartitionList> {
        self.group()?;
        let client = self.client()?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            check_partition(partition)?;
            list.add_partition(&partition.topic, partition.partition);
        }
        if partitions.is_empty() {
            return Ok(list);
        }
        client
            .committed_offsets(list, native::timeout(timeout))
            .map_err(|error| kafka_code::error(&error, "look up committed offsets"))
    }

    /// The low and the high watermark: the offsets of the first record and of the next one to be written. Asks the
    /// broker.
    ///
    /// # Errors
    ///
    /// [`Error::Kafka`] when the broker cannot be asked within `timeout` or knows no such partition; [`Error::Closed`].
    pub fn watermarks(&self, partition: &TopicPartition, timeout: Duration) -> Result<(i64, i64)> {
        check_partition(partition)?;
        self.client()?
            .fetch_watermarks(
                &partition.topic,
                partition.partition,
                native::timeout(timeout),
            )
            .map_err(|error| kafka_code::error(&error, format!("watermarks of {partition}")))
    }

    /// The watermarks as the latest fetch of the partition reported them; `None` before the first one. Asks nobody.
    #[must_use]
    pub fn cached_watermarks(&self, partition: &TopicPartition) -> Option<(i64, i64)> {
        kafka::cached_watermarks(&*self.client().ok()?, partition)
    }

    /// How many records lie between the position and the high watermark; `None` while either is unknown. Asks nobody.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`], [`Error::Closed`].
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        let position = self.position(partition)?;
        Ok(position
            .zip(self.cached_watermarks(partition))
            .map(|(position, (_, high))| (high - position).max(0)))
    }

    /// The first offset at or after each time (milliseconds since 1970); [`Offset::End`] where there is no such record.
    /// Asks the broker.
    ///
    /// # Errors
    ///
    /// [`Error::Kafka`] when the broker cannot be asked within `timeout`; [`Error::Argument`] for a negative time;
    /// [`Error::Closed`].
    pub fn offsets_for_times(
        &self,
        times_ms: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<Vec<TopicPartitionOffset>> {
        let client = self.client()?;
        let mut list = TopicPartitionList::with_capacity(times_ms.len());
        for (partition, time_ms) in times_ms {
            check_partition(partition)?;
            if *time_ms < 0 {
                return Err(Error::argument(
                    "times_ms",
                    format!("{time_ms} is before 1970"),
                    "use milliseconds since 1970",
                ));
            }
            list.add_partition_offset(
                &partition.topic,
                partition.partition,
                rdkafka::Offset::Offset(*time_ms),
            )
            .map_err(|error| kafka_code::error(&error, "offsets for times"))?;
        }
        if times_ms.is_empty() {
            return Ok(Vec::new());
        }
        let answer = client
            .offsets_for_times(list, native::timeout(timeout))
            .map_err(|error| kafka_code::error(&error, "offsets for times"))?;
        let found = lookup::offsets(&answer, "look up the offset for a time")?;
        Ok(found
            .into_iter()
            .map(|(partition, offset)| TopicPartitionOffset {
                topic: partition.topic,
                partition: partition.partition,
                offset: offset.map_or(Offset::End, Offset::At),
            })
            .collect())
    }

    /// Who this consumer is in its group now, for
    /// [`Producer::send_offsets_to_transaction`](crate::Producer::send_offsets_to_transaction). Asks nobody.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] without `group.id`; [`Error::Closed`].
    pub fn group_metadata(&self) -> Result<GroupMetadata> {
        self.group()?;
        let bytes = kafka::membership(&*self.client()?)?;
        Ok(GroupMetadata::from_bytes(&bytes))
    }

    /// The cluster's topics. Asks the broker.
    ///
    /// # Errors
    ///
    /// [`Error::Kafka`] when the broker cannot be asked within `timeout`; [`Error::Closed`].
    pub fn topics(&self, timeout: Duration) -> Result<Vec<TopicInfo>> {
        Ok(self.metadata(None, timeout)?.infos())
    }

    pub(super) fn client(&self) -> Result<Arc<Client>> {
        self.open()?;
        self.client.upgrade().ok_or(Error::Closed { what: WHAT })
    }
}

fn commit_offset(offset: &TopicPartitionOffset) -> Result<CommitOffset> {
    let topic_partition = offset.topic_partition();
    check_partition(&topic_partition)?;
    match offset.offset {
        Offset::At(number) if number >= 0 => Ok(CommitOffset {
            topic_partition,
            offset: number,
            leader_epoch: None,
            metadata: None,
        }),
        other => Err(Error::argument(
            "offsets",
            format!("{other} cannot be committed for {topic_partition}"),
            "commit the offset of the record to be read next, 0 or more",
        )),
    }
}

fn public(commit: CommitOffset) -> TopicPartitionOffset {
    TopicPartitionOffset {
        topic: commit.topic_partition.topic,
        partition: commit.topic_partition.partition,
        offset: Offset::At(commit.offset),
    }
}
