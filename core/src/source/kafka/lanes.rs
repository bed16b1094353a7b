//! What librdkafka has to do for partitions that are read directly ([`crate::source::direct`]): say who leads them, pause, and
//! take them back. On the poller's thread, but for the question who leads, which waits for the broker and has its own.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer as _;

use super::{Client, KafkaSource, SEEK_WAIT};
use crate::batch::BatchData;
use crate::error::Result;
use crate::kafka_code;
use crate::log;
use crate::partition::TopicPartition;
use crate::source::SourceEvent;
use crate::source::direct::{Leader, Return, TakeOver, Turn};

/// How long the broker may take to say who leads.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(5);

/// The answer to the question who leads these.
pub(super) type Leaders = (Vec<TopicPartition>, Vec<Leader>);

impl KafkaSource {
    /// What the lanes have, once everything they want of librdkafka is done.
    pub(super) fn fill_direct(
        &mut self,
        now_us: u64,
        events: &mut VecDeque<SourceEvent>,
    ) -> Option<BatchData> {
        loop {
            match self.direct.as_mut()?.next(now_us)? {
                Turn::Batch(batch) => return Some(batch),
                Turn::TakeOver(ready) => self.take_over(&ready),
                Turn::Back(back) => self.hand_back(back, now_us),
                Turn::End(topic_partition, offset, reason) => {
                    events.push_back(SourceEvent::PartitionEof {
                        topic_partition,
                        offset,
                        reason,
                    });
                }
            }
        }
    }

    /// Offers the lanes what has become worth it.
    pub(super) fn look_for_worthy(&mut self, now_us: u64) {
        let Some(direct) = &mut self.direct else {
            return;
        };
        if self.asking_leaders {
            let Ok((asked, leaders)) = self.leaders.1.try_recv() else {
                return;
            };
            self.asking_leaders = false;
            direct.propose(&leaders, &asked, now_us);
            return;
        }
        let worthy = direct.worthy(now_us);
        if worthy.is_empty() {
            return;
        }
        let (client, waker) = (Arc::clone(&self.client), Arc::clone(&self.waker));
        let sender = self.leaders.0.clone();
        // Without a thread nothing is read directly, and everything else goes on.
        let spawned = std::thread::Builder::new()
            .name("tidegate-leaders".into())
            .spawn(move || {
                let leaders = leaders_of(&client, &worthy);
                // As in `look_up_starts`.
                drop(client);
                let _ = sender.send((worthy, leaders));
                waker.wake();
            });
        self.asking_leaders = spawned.is_ok();
    }

    fn take_over(&mut self, ready: &TakeOver) {
        let partition = ready.cell.topic_partition().clone();
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&partition.topic, partition.partition);
        if self.client.pause(&list).is_err() {
            return;
        }
        // What librdkafka has fetched from there on comes again, through the lane.
        self.taken.forget(&partition);
        self.by_handle.clear();
        let taken = self
            .direct
            .as_mut()
            .is_some_and(|direct| direct.take_over(ready));
        if !taken {
            let back = Return {
                offset: ready.cell.fetched(),
                cell: Arc::clone(&ready.cell),
                leader_epoch: -1,
                is_unreadable: false,
            };
            let _ = self.read_on(&back);
        }
    }

    fn hand_back(&mut self, back: Return, now_us: u64) {
        let result = self.read_on(&back);
        let Some(direct) = &mut self.direct else {
            return;
        };
        match result {
            Ok(()) => {
                direct.returned(&back, now_us);
                self.by_handle.clear();
            }
            Err(error) => {
                log::info(format_args!(
                    "{} goes back to librdkafka, which is not ready: {error}",
                    back.cell.topic_partition()
                ));
                direct.not_returned(back, now_us);
            }
        }
    }

    /// Has librdkafka read a partition on that it had paused for a lane.
    fn read_on(&self, back: &Return) -> Result<()> {
        let partition = back.cell.topic_partition();
        let context = || format!("read {partition} from {} on", back.offset);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(
            &partition.topic,
            partition.partition,
            rdkafka::Offset::Offset(back.offset),
        )
        .map_err(|error| kafka_code::error(&error, context()))?;
        // SAFETY: the list is alive and has one element. With the epoch librdkafka sees a log that was truncated meanwhile.
        unsafe {
            rd::rd_kafka_topic_partition_set_leader_epoch((*list.ptr()).elems, back.leader_epoch);
        }
        // First, for the seek must be the last word on where to go on. What comes in between has no route.
        self.client
            .resume(&list)
            .map_err(|error| kafka_code::error(&error, context()))?;
        let answers = self
            .client
            .seek_partitions(list, SEEK_WAIT)
            .map_err(|error| kafka_code::error(&error, context()))?;
        for element in answers.elements() {
            element
                .error()
                .map_err(|error| kafka_code::error(&error, context()))?;
        }
        if back.cell.is_paused() {
            self.client
                .pause(&answers)
                .map_err(|error| kafka_code::error(&error, context()))?;
        }
        Ok(())
    }
}

/// Who leads these, as far as librdkafka can find out.
fn leaders_of(client: &Client, partitions: &[TopicPartition]) -> Vec<Leader> {
    let topics: BTreeSet<&str> = partitions.iter().map(|p| &*p.topic).collect();
    let mut leaders = Vec::with_capacity(partitions.len());
    for topic in topics {
        let metadata = match client.fetch_metadata(Some(topic), LEADERS_TIMEOUT) {
            Ok(metadata) => metadata,
            Err(_) => continue,
        };
        for found in metadata
            .topics()
            .iter()
            .flat_map(|found| found.partitions())
        {
            let broker = metadata.brokers().iter().find(|b| b.id() == found.leader());
            let port = broker.and_then(|broker| u16::try_from(broker.port()).ok());
            if let (Some(broker), Some(port)) = (broker, port) {
                leaders.push(Leader {
                    partition: TopicPartition::new(topic, found.id()),
                    node: broker.id(),
                    host: broker.host().to_string(),
                    port,
                });
            }
        }
    }
    leaders
}

/// An error in place of a message, unless it tells an end that a lane has told.
pub(super) fn is_news(source: &mut KafkaSource, event: &SourceEvent) -> bool {
    match (event, &mut source.direct) {
        (
            SourceEvent::PartitionEof {
                topic_partition,
                offset,
                ..
            },
            Some(direct),
        ) => direct.end_is_news(topic_partition, *offset),
        _ => true,
    }
}
