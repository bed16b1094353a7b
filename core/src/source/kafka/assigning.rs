//! What an assignment that changes takes beside the call to librdkafka. On the poller's thread, or whoever drives it.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;

use super::{KafkaSource, SEEK_WAIT};
use crate::partition::TopicPartition;
use crate::source::direct::Direct;
use crate::source::{FetchStart, Protocol};

impl KafkaSource {
    /// Nothing of these partitions is delivered any more.
    pub(super) fn forget(&mut self, protocol: Protocol, partitions: &[TopicPartition]) {
        if protocol == Protocol::Eager {
            self.taken.clear();
            self.stopping
                .extend(self.routes.drain().map(|(held, _)| held));
            self.direct.iter_mut().for_each(Direct::clear);
        }
        for partition in partitions {
            self.taken.forget(partition);
            if self.routes.remove(partition).is_some() {
                self.stopping.insert(partition.clone());
            }
            if let Some(direct) = &mut self.direct {
                direct.forget(partition);
            }
        }
        self.by_handle.clear();
    }

    pub(super) fn unassign_some(&self, partitions: &[TopicPartition]) -> KafkaResult<()> {
        let list_of = |partitions: &[TopicPartition]| {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for partition in partitions {
                list.add_partition(&partition.topic, partition.partition);
            }
            list
        };
        let result = self.client.incremental_unassign(&list_of(partitions));
        if result.is_err() {
            // One that librdkafka does not hold, because its assignment was refused, makes it refuse all, and it waits for an
            // answer: one by one, and none at all, which is an answer, too.
            let single = partitions.iter().map(std::slice::from_ref);
            for partitions in single.chain([&[][..]]) {
                let _ = self.client.incremental_unassign(&list_of(partitions));
            }
        }
        result
    }

    /// Has librdkafka put these partitions' messages where it puts them by itself.
    pub(super) fn forward_back(&self, partitions: &[TopicPartition]) {
        for partition in partitions {
            // Fails only for a partition that librdkafka does not know, which has no messages.
            let _ = self.forward(partition, false);
        }
    }

    /// Stops partitions that are about to be assigned again, and waits until they are, as for those that were unassigned before:
    /// librdkafka stops them later on its own thread, and would take the forwarding of their queues away that the new assignment
    /// needs, so that nothing of them ever came.
    pub(super) fn stop_reassigned(&mut self, protocol: Protocol, partitions: &[FetchStart]) {
        let mut again = TopicPartitionList::new();
        let mut is_held = false;
        for start in partitions {
            let partition = start.cell.topic_partition();
            let held = protocol == Protocol::Eager && self.routes.contains_key(partition);
            if held || self.stopping.remove(partition) {
                is_held |= held;
                // Never used as a position: a stopped partition refuses it.
                let offset = rdkafka::Offset::Offset(0);
                let _ = again.add_partition_offset(&partition.topic, partition.partition, offset);
            }
        }
        if is_held {
            let _ = self.client.unassign();
        }
        if again.count() > 0 {
            // A seek goes through the same queue as the stop, so its answer, a refusal, comes when that is done.
            let _ = self.client.seek_partitions(again, SEEK_WAIT);
        }
    }
}
