//! The partitions that this consumer holds: their cells, and what the broker has confirmed as committed.
//!
//! Only the poller changes it; the faces read a published copy.

use std::collections::HashMap;
use std::sync::Arc;

use crate::partition::{Generation, TopicPartition};
use crate::source::{CommitOffset, RequestId};
use crate::tracker::{CellState, PartitionCell, UNKNOWN};

/// A partition held.
#[derive(Debug)]
struct Held {
    cell: Arc<PartitionCell>,
    /// What the broker has confirmed, if anything.
    committed: Option<i64>,
    /// Commits sent before this one belong to an earlier assignment.
    since: RequestId,
}

/// All partitions held, and the counter of generations.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    held: HashMap<TopicPartition, Held>,
    generation: u64,
    /// What makes [`Assignment::progress`] go on evenly when partitions come and go.
    retired_progress: u64,
}

impl Assignment {
    /// Begins a generation.
    pub(crate) fn next_generation(&mut self) -> Generation {
        self.generation += 1;
        Generation(self.generation)
    }

    /// Adds or replaces a partition; a cell that was there is closed. Commits older than `since` are of an earlier
    /// assignment.
    pub(crate) fn insert(
        &mut self,
        cell: &Arc<PartitionCell>,
        committed: Option<i64>,
        since: RequestId,
    ) {
        let held = Held {
            cell: Arc::clone(cell),
            committed,
            since,
        };
        self.retired_progress = self.retired_progress.wrapping_sub(cell.progress());
        if let Some(old) = self.held.insert(cell.topic_partition().clone(), held) {
            self.retire(&old.cell);
        }
    }

    fn retire(&mut self, cell: &PartitionCell) {
        self.retired_progress = self.retired_progress.wrapping_add(cell.progress());
        cell.advance_state(CellState::Closed);
    }

    /// Gives a sought partition its new cell; what was committed stays known.
    pub(crate) fn replace(&mut self, cell: &Arc<PartitionCell>) {
        let held = self.held.get(cell.topic_partition());
        if let Some((committed, since)) = held.map(|held| (held.committed, held.since)) {
            self.insert(cell, committed, since);
        }
    }

    /// Gives a partition whose source went back the cell that follows the one it has, which is not closed: what waits of it is
    /// still handed out.
    pub(crate) fn succeed(&mut self, cell: &Arc<PartitionCell>) {
        if let Some(held) = self.held.get_mut(cell.topic_partition()) {
            // The progress of the one before is part of the new one's.
            self.retired_progress = self
                .retired_progress
                .wrapping_add(held.cell.progress())
                .wrapping_sub(cell.progress());
            held.cell = Arc::clone(cell);
        }
    }

    /// Takes partitions away and closes their cells.
    pub(crate) fn remove(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(held) = self.held.remove(partition) {
                self.retire(&held.cell);
            }
        }
    }

    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<&Arc<PartitionCell>> {
        self.held.get(partition).map(|held| &held.cell)
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = &Arc<PartitionCell>> {
        self.held.values().map(|held| &held.cell)
    }

    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        self.held.keys().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// A number that changes whenever a record is finished, and not when partitions come and go: a rebalance is no sign
    /// of life of the application.
    pub(crate) fn progress(&self) -> u64 {
        self.cells().fold(self.retired_progress, |sum: u64, cell| {
            sum.wrapping_add(cell.progress())
        })
    }

    /// Notes that partitions are being taken away, or are gone already; their release follows.
    pub(crate) fn advance(&self, partitions: &[TopicPartition], state: CellState) {
        for cell in partitions.iter().filter_map(|p| self.get(p)) {
            cell.advance_state(state);
        }
    }

    /// What is finished and not confirmed as committed, of all partitions held or of `only`: one read of each low
    /// watermark. Nothing for partitions that are gone already.
    pub(crate) fn uncommitted(&self, only: Option<&[TopicPartition]>) -> Vec<CommitOffset> {
        let offset_of = |held: &Held| {
            let finished = held.cell.finished();
            let ours = held.cell.state() != CellState::Closed;
            (ours && finished != UNKNOWN && held.committed != Some(finished)).then(|| {
                CommitOffset {
                    topic_partition: held.cell.topic_partition().clone(),
                    offset: finished,
                    metadata: None,
                }
            })
        };
        match only {
            None => self.held.values().filter_map(offset_of).collect(),
            Some(partitions) => partitions
                .iter()
                .filter_map(|partition| self.held.get(partition))
                .filter_map(offset_of)
                .collect(),
        }
    }

    /// Notes what the broker confirmed of commit `id`. It may have overwritten a newer one if it is of an earlier assignment.
    pub(crate) fn confirm(&mut self, id: RequestId, partition: &TopicPartition, offset: i64) {
        if let Some(held) = self.held.get_mut(partition) {
            held.committed = (held.since <= id).then_some(offset);
        }
    }

    /// Notes that nobody knows what is committed of these partitions: the next commit carries them again.
    pub(crate) fn doubt<'p>(&mut self, partitions: impl Iterator<Item = &'p TopicPartition>) {
        for partition in partitions {
            if let Some(held) = self.held.get_mut(partition) {
                held.committed = None;
            }
        }
    }
}
