//! The partitions that this consumer holds: their cells, and what the broker has confirmed as committed.
//!
//! Only the poller changes it; the faces read a published copy.

use std::collections::HashMap;
use std::sync::Arc;

use crate::log;
use crate::notice::OffsetStore;
use crate::offset_map::{OffsetMap, OffsetMapError};
use crate::partition::{Generation, TopicPartition};
use crate::source::{CommitOffset, RequestId};
use crate::tracker::{CellState, PartitionCell, UNKNOWN};

/// A partition held.
#[derive(Debug)]
struct Held {
    cell: Arc<PartitionCell>,
    /// What the broker has confirmed, if anything.
    committed: Option<Committed>,
    /// Commits sent before this one belong to an earlier assignment.
    since: RequestId,
    /// The broker has refused a map as too long.
    map_refused: bool,
    /// The log has said that the map is left out.
    told_left_out: bool,
    /// What was found committed has metadata that is not ours, or does not fit, and the log has not said so yet.
    untold: Option<String>,
}

/// An offset that the group has, and its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    offset: i64,
    metadata: Option<String>,
}

impl Committed {
    pub(crate) fn new(offset: i64, metadata: Option<String>) -> Committed {
        Committed { offset, metadata }
    }

    fn read(&self) -> Option<Result<OffsetMap, OffsetMapError>> {
        let map = OffsetMap::decode(self.metadata.as_deref()?);
        Some(map.and_then(|map| match map.base() == self.offset {
            true => Ok(map),
            false => Err(OffsetMapError::Damaged("it belongs to another offset")),
        }))
    }

    /// What is done beyond the offset, if the metadata says so.
    pub(crate) fn map(&self) -> Option<OffsetMap> {
        self.read().and_then(Result::ok)
    }

    /// Why the metadata says nothing to us.
    fn problem(&self) -> Option<String> {
        let error = self.read()?.err()?;
        let length = self.metadata.as_ref().map_or(0, String::len);
        Some(format!("{error} ({length} bytes)"))
    }
}

impl Held {
    /// What is to be committed by a consumer that does not commit all that is finished. As librdkafka has it, what lies behind the
    /// committed offset is committed by its name only.
    fn unstored(&self, store: OffsetStore) -> Option<CommitOffset> {
        let known = self.committed.as_ref().map(|committed| committed.offset);
        let stored = match store {
            OffsetStore::Explicit => self.cell.stored(),
            OffsetStore::Finished | OffsetStore::Touched => self.cell.touched(),
        };
        let (offset, is_news) = (stored?, known < stored);
        let is_ours = self.cell.state() != CellState::Closed;
        (is_ours && is_news).then(|| CommitOffset {
            topic_partition: self.cell.topic_partition().clone(),
            offset,
            leader_epoch: self.cell.epoch_before(offset),
            metadata: None,
        })
    }
}

/// All partitions held, and the counter of generations.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    held: HashMap<TopicPartition, Held>,
    generation: u64,
    /// What counts as to be committed.
    store: OffsetStore,
    /// What makes [`Assignment::progress`] go on evenly when partitions come and go.
    retired_progress: u64,
}

impl Assignment {
    /// No partitions, of a consumer that commits `store`.
    pub(crate) fn new(store: OffsetStore) -> Assignment {
        Assignment {
            store,
            ..Assignment::default()
        }
    }

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
        committed: Option<Committed>,
        since: RequestId,
    ) {
        let held = Held {
            cell: Arc::clone(cell),
            untold: committed.as_ref().and_then(Committed::problem),
            committed,
            since,
            map_refused: false,
            told_left_out: false,
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
        if let Some((committed, since)) = held.map(|held| (held.committed.clone(), held.since)) {
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

    /// From which request on answers count, and what is known to be committed.
    #[cfg(test)]
    pub(crate) fn known(
        &self,
        partition: &TopicPartition,
    ) -> Option<(RequestId, Option<&Committed>)> {
        let held = self.held.get(partition)?;
        Some((held.since, held.committed.as_ref()))
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

    /// What is finished and not confirmed as committed, of all partitions held or of `only`: one snapshot of each. Nothing for
    /// partitions that are gone already. With a map of what is finished beyond, if that takes at most `map_bytes`; gives how many
    /// maps were left out.
    pub(crate) fn uncommitted(
        &mut self,
        only: Option<&[TopicPartition]>,
        map_bytes: usize,
    ) -> (Vec<CommitOffset>, u64) {
        let store = self.store;
        let mut offsets = Vec::new();
        let mut left_out = 0;
        let mut note = |held: &mut Held| {
            if store != OffsetStore::Finished {
                offsets.extend(held.unstored(store));
                return;
            }
            let (offset, is_left_out) = held.uncommitted(map_bytes);
            left_out += u64::from(is_left_out);
            offsets.extend(offset);
        };
        match only {
            None => self.held.values_mut().for_each(&mut note),
            Some(partitions) => {
                for partition in partitions {
                    if let Some(held) = self.held.get_mut(partition) {
                        note(held);
                    }
                }
            }
        }
        (offsets, left_out)
    }

    /// Notes what the broker confirmed of commit `id`. It may have overwritten a newer one if it is of an earlier assignment.
    pub(crate) fn confirm(&mut self, id: RequestId, offset: &CommitOffset) {
        if let Some(held) = self.held.get_mut(&offset.topic_partition) {
            let confirmed = Committed::new(offset.offset, offset.metadata.clone());
            held.committed = (held.since <= id).then_some(confirmed);
        }
    }

    /// The broker takes no metadata of this length for this partition: it is left out from now on.
    pub(crate) fn map_refused(&mut self, partition: &TopicPartition) {
        if let Some(held) = self.held.get_mut(partition) {
            held.map_refused = true;
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

impl Held {
    /// What of it is to be committed, and whether its map is left out.
    fn uncommitted(&mut self, map_bytes: usize) -> (Option<CommitOffset>, bool) {
        let finished = self.cell.finished();
        if self.cell.state() == CellState::Closed || finished == UNKNOWN {
            return (None, false);
        }
        let partition = self.cell.topic_partition();
        let commit = |offset, metadata| {
            Some(CommitOffset {
                topic_partition: partition.clone(),
                offset,
                leader_epoch: self.cell.epoch_before(offset),
                metadata,
            })
        };
        let known = self.committed.as_ref();
        let untold = |known: Option<&Committed>, untold: &mut Option<String>, offset| {
            let is_there = known.is_some_and(|known| known.metadata.is_some());
            if let Some(problem) = untold.take().filter(|_| is_there) {
                log::warn(format_args!(
                    "the metadata of the committed offset of {partition} is ignored, and gone with the commit of {offset}: {problem}"
                ));
            }
        };
        if map_bytes == 0 {
            // Metadata that somebody has committed with this very offset stays.
            if known.is_some_and(|known| known.offset == finished) {
                return (None, false);
            }
            untold(known, &mut self.untold, finished);
            return (commit(finished, None), false);
        }
        let snapshot = self.cell.snapshot();
        let epoch = Some(snapshot.leader_epoch);
        let map = OffsetMap::from_done(snapshot.finished, epoch, snapshot.done);
        let text = match self.map_refused {
            true => None,
            false => map.encode(map_bytes),
        };
        let left_out = text.is_none() && !map.done().is_empty();
        let is_known = known.is_some_and(|known| {
            known.offset == snapshot.finished
                && (known.metadata == text
                    // A map that was shorter is still right; what is not ours need not go for nothing.
                    || left_out
                    || (text.is_none() && known.map().is_none()))
        });
        if left_out && !std::mem::replace(&mut self.told_left_out, true) {
            log::warn(format_args!(
                "the map of what is done of {partition} beyond {} has {} bytes and is left out of commits ({}): a restart repeats \
                 {} records",
                snapshot.finished,
                map.encoded_bytes(),
                match self.map_refused {
                    true => "the broker takes less, see offset.metadata.max.bytes".to_string(),
                    false => format!("offset_map_bytes={map_bytes}"),
                },
                map.count()
            ));
        }
        if is_known {
            return (None, false);
        }
        untold(known, &mut self.untold, snapshot.finished);
        (commit(snapshot.finished, text), left_out)
    }
}
