//! The group's side of the scripted cluster: who gets what when, answers to look-ups and commits, and what is wrong with a
//! commit.

use std::collections::BTreeSet;

use super::{
    Cluster, CommitAnswer, CommitRequest, ILLEGAL_GENERATION, LookUp, METADATA_TOO_LARGE,
    kafka_error,
};
use crate::partition::{Offset, TopicPartition};
use crate::source::lookup::Reset;
use crate::source::{CommitOffset, Protocol, SourceEvent, StartPosition};

impl Cluster {
    /// Gives every member its next rebalance, if one is due.
    pub(super) fn coordinate(&mut self) {
        for me in 0..self.members.len() {
            let member = &mut self.members[me];
            if member.gone || member.by_hand || !member.owed.is_empty() {
                continue;
            }
            member.leaving &= !member.held.is_empty();
            let member = &self.members[me];
            let joined = member.subscribed && !member.leaving && !member.closing;
            let wanted: BTreeSet<TopicPartition> = self
                .target
                .iter()
                .filter(|(_, owner)| joined && **owner == me)
                .map(|(partition, _)| partition.clone())
                .collect();
            let held = &member.held;
            if *held == wanted {
                continue;
            }
            let extra: BTreeSet<_> = match self.protocol {
                Protocol::Eager => held.clone(),
                Protocol::Cooperative => held.difference(&wanted).cloned().collect(),
            };
            if !extra.is_empty() {
                self.give_revoke(me, extra, false);
                continue;
            }
            let new: BTreeSet<_> = wanted.difference(held).cloned().collect();
            let free: BTreeSet<_> = new
                .iter()
                .filter(|partition| !self.members.iter().any(|m| m.held.contains(partition)))
                .cloned()
                .collect();
            if !free.is_empty() && (self.protocol == Protocol::Cooperative || free == new) {
                self.give_assign(me, free);
            }
        }
    }

    /// Gives the answers that are due.
    pub(super) fn answer(&mut self, me: usize) {
        let now_us = self.now_us();
        let due = |due_us: &u64| *due_us <= now_us;
        let member = &mut self.members[me];
        let (look_ups, later): (Vec<_>, Vec<_>) = std::mem::take(&mut member.look_ups)
            .into_iter()
            .partition(|look_up| due(&look_up.due_us));
        member.look_ups = later;
        let (commits, later): (Vec<_>, Vec<_>) = std::mem::take(&mut member.commits)
            .into_iter()
            .partition(|commit| due(&commit.due_us));
        member.commits = later;
        for look_up in look_ups {
            self.look_up(me, look_up);
        }
        for commit in commits {
            self.commit(me, commit);
        }
    }

    fn look_up(&mut self, me: usize, look_up: LookUp) {
        let failure = self.faults.look_up_failures.pop_front();
        let mut starts = Vec::new();
        for partition in look_up.partitions {
            self.members[me].resolved.remove(&partition);
            let start = match (failure, self.committed.get(&partition)) {
                (Some(_), _) => StartPosition::Unknown,
                (None, Some(committed)) => {
                    let metadata = self.metadata.get(&partition).cloned();
                    StartPosition::Committed(*committed, metadata)
                }
                (None, None) => match self.reset_position(&partition) {
                    Some(position) => {
                        self.owed_from.insert(partition.clone(), position);
                        self.members[me].resolved.insert(partition.clone());
                        StartPosition::Resolved(position)
                    }
                    None => StartPosition::Unknown,
                },
            };
            starts.push((partition, start));
        }
        self.members[me].events.push_back(SourceEvent::Starts {
            id: look_up.id,
            starts,
            error: failure.map(kafka_error),
        });
    }

    fn reset_position(&self, partition: &TopicPartition) -> Option<i64> {
        let log = self.logs.get(partition);
        match self.reset {
            Reset::Beginning => Some(log.map_or(0, |log| log.low)),
            Reset::End => Some(log.map_or(0, |log| log.end)),
            Reset::Never => None,
        }
    }

    fn commit(&mut self, me: usize, request: CommitRequest) {
        let (done, whole, first) = match request.answer {
            CommitAnswer::Done => (true, None, None),
            CommitAnswer::Failed(code) => (false, Some(code), None),
            CommitAnswer::FirstFailed(code) => (true, None, Some(code)),
            CommitAnswer::DoneButFailed(code) => (true, Some(code), None),
            CommitAnswer::NotSent | CommitAnswer::Silent => return,
        };
        let mut partitions = Vec::new();
        for (index, offset) in request.offsets.into_iter().enumerate() {
            let member = &self.members[me];
            let mut result = Ok(());
            if let (0, Some(code)) = (index, first) {
                result = Err(kafka_error(code));
            } else if !member.by_hand && !member.held.contains(&offset.topic_partition) {
                result = Err(kafka_error(ILLEGAL_GENERATION));
            } else if offset.metadata.as_ref().map_or(0, String::len) > self.most_metadata_bytes {
                result = Err(kafka_error(METADATA_TOO_LARGE));
            } else if done {
                self.committed
                    .insert(offset.topic_partition.clone(), offset.offset);
                match &offset.metadata {
                    None => self.metadata.remove(&offset.topic_partition),
                    Some(text) => self
                        .metadata
                        .insert(offset.topic_partition.clone(), text.clone()),
                };
            }
            partitions.push((offset.topic_partition, result));
        }
        self.members[me].events.push_back(SourceEvent::Committed {
            id: request.id,
            result: whole.map_or(Ok(()), |code| Err(kafka_error(code))),
            partitions,
        });
    }

    /// Notes what is wrong with a commit that the poller asks for.
    pub(super) fn check_commit(&mut self, me: usize, offsets: &[CommitOffset]) {
        if offsets.is_empty() {
            self.violation(format!("member {me} commits nothing"));
        }
        for commit in offsets {
            let partition = &commit.topic_partition;
            let what = format!("member {me} commits {partition} {}", commit.offset);
            let member = &self.members[me];
            if !member.by_hand && !member.held.contains(partition) {
                self.violation(format!("{what}, which it does not hold"));
                continue;
            }
            let Some(fetching) = member.fetching.get(partition) else {
                self.violation(format!("{what}, which it does not fetch"));
                continue;
            };
            if commit.offset < fetching.base {
                let text = format!("{what}, before its start {}", fetching.base);
                self.violation(text);
                continue;
            }
            let unfinished = self.logs.get(partition).and_then(|log| {
                let mut below = log.records.range(fetching.base..commit.offset);
                below.find(|(offset, _)| !fetching.finished.contains(offset))
            });
            if let Some((unfinished, _)) = unfinished {
                let text = format!("{what} past {unfinished}, which is not finished");
                self.violation(text);
            }
        }
        let member = &mut self.members[me];
        for commit in offsets {
            if let Some(fetching) = member.fetching.get_mut(&commit.topic_partition) {
                fetching.start_uncommitted = false;
            }
        }
        member.commits_sent += 1;
        match &mut member.commits_allowed {
            None => {}
            Some(0) => self.violation(format!("member {me} commits unasked: {offsets:?}")),
            Some(allowed) => *allowed -= 1,
        }
    }

    /// The place that an offset stands for, as librdkafka finds it.
    pub(super) fn place(&self, partition: &TopicPartition, offset: Offset) -> i64 {
        let reset = || self.reset_position(partition).unwrap_or(0);
        let (low, end) = self
            .logs
            .get(partition)
            .map_or((0, 0), |log| (log.low, log.end));
        match offset {
            Offset::Beginning => low,
            Offset::End => end,
            Offset::Stored => self.committed.get(partition).copied().unwrap_or_else(reset),
            Offset::At(offset) if (low..=end).contains(&offset) => offset,
            Offset::At(_) => reset(),
            Offset::Tail(count) => (end - count).max(low),
        }
    }
}
