//! What the application assigns itself.

use std::sync::Arc;

use super::{Poller, known_start};
use crate::error::{Error, Result};
use crate::kafka_code;
use crate::partition::{Offset, TopicPartition};
use crate::rebalance::Phase;
use crate::source::{FetchStart, Protocol, Source};
use crate::tracker::PartitionCell;

/// librdkafka's `_STATE`, `_CONFLICT` and `_INVALID_ARG`.
const STATE: i32 = -172;
const CONFLICT: i32 = -173;
const INVALID_ARG: i32 = -186;

/// How an assignment is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// These partitions, and no others.
    Replace,
    /// These as well; with `again` those that are assigned already begin at another place.
    Add { again: bool },
    /// These no more.
    Remove,
}

fn refused(code: i32, context: impl Into<String>) -> Error {
    Error::Kafka {
        code: kafka_code::from_number(code),
        context: context.into(),
    }
}

impl<S: Source> Poller<S> {
    fn begin_generation(&mut self, partitions: &[(TopicPartition, Offset)]) -> Vec<FetchStart> {
        let generation = self.assignment.next_generation();
        let start = |(partition, offset): &(TopicPartition, Offset)| FetchStart {
            cell: Arc::new(PartitionCell::new(
                partition.clone(),
                generation,
                known_start(*offset),
            )),
            offset: *offset,
        };
        partitions.iter().map(start).collect()
    }

    /// As the application's own client would: also while subscribed, but never into a rebalance under way, whose answer comes
    /// later and means other partitions.
    pub(super) fn reassign(
        &mut self,
        change: Change,
        partitions: &[(TopicPartition, Offset)],
        now_us: u64,
    ) -> Result<()> {
        let grouped = self.is_subscribed();
        if grouped && !matches!(self.phase, Phase::Steady) {
            return Ok(());
        }
        let is_cooperative = self.protocol == Some(Protocol::Cooperative);
        if grouped && self.protocol.is_some() && is_cooperative == (change == Change::Replace) {
            let context = if is_cooperative {
                "the group's protocol is cooperative: use incremental_assign() and incremental_unassign()"
            } else {
                "the group's protocol is eager: use assign() and unassign()"
            };
            return Err(refused(STATE, context));
        }
        match change {
            Change::Replace => self.assign_by_hand(partitions, now_us),
            Change::Add { again } => self.add_by_hand(partitions, again, now_us),
            Change::Remove => {
                let partitions: Vec<_> = partitions.iter().map(|(p, _)| p.clone()).collect();
                if let Some(stranger) = partitions.iter().find(|p| self.assignment.get(p).is_none())
                {
                    let context = format!(
                        "{stranger} can't be unassigned since it is not in the current assignment"
                    );
                    return Err(refused(INVALID_ARG, context));
                }
                self.remove_by_hand(&partitions, now_us)
            }
        }
    }

    fn add_by_hand(
        &mut self,
        partitions: &[(TopicPartition, Offset)],
        again: bool,
        now_us: u64,
    ) -> Result<()> {
        let held = partitions.iter().map(|(partition, _)| partition);
        let held = held.filter(|partition| self.assignment.get(partition).is_some());
        let held: Vec<_> = held.cloned().collect();
        match held.first() {
            Some(partition) if !again => {
                let context = format!("{partition} is already part of the current assignment");
                return Err(refused(CONFLICT, context));
            }
            Some(_) => self.remove_by_hand(&held, now_us)?,
            None => {}
        }
        let starts = self.begin_generation(partitions);
        self.source.assign(Protocol::Cooperative, &starts)?;
        let since = self.request();
        for start in &starts {
            self.assignment.insert(&start.cell, None, since);
        }
        self.publish_assignment();
        Ok(())
    }

    fn remove_by_hand(&mut self, partitions: &[TopicPartition], now_us: u64) -> Result<()> {
        if self.settings.auto_commit {
            self.commit_finished(now_us);
        }
        self.source.unassign(Protocol::Cooperative, partitions)?;
        self.assignment.remove(partitions);
        self.publish_assignment();
        Ok(())
    }

    pub(super) fn assign_by_hand(
        &mut self,
        partitions: &[(TopicPartition, Offset)],
        now_us: u64,
    ) -> Result<()> {
        let starts = self.begin_generation(partitions);
        if self.settings.auto_commit {
            // The last chance for the partitions that go.
            self.commit_finished(now_us);
        }
        self.source.assign(Protocol::Eager, &starts)?;
        let old = self.assignment.partitions();
        self.assignment.remove(&old);
        let since = self.request();
        for start in &starts {
            self.assignment.insert(&start.cell, None, since);
        }
        self.publish_assignment();
        Ok(())
    }
}
