//! The poller's answer to assign, revoke and lost.
//!
//! Assign: look up where the group stands, resolve `auto.offset.reset` for partitions without a committed offset, fetch,
//! commit the resolved starts, and once the broker has them tell the application and hand out.
//! Revoke: stop handing out, let the application finish what it holds within `drain_us`, commit what is finished, close
//! the cells, release. Lost: close the cells, release, commit nothing.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use crate::assignment::Committed;
use crate::commit::{Asker, Awaited, AwaitedCommit, COMMIT_WAIT_US};
use crate::error::Error;
use crate::log;
use crate::notice::OffsetStore;
use crate::partition::{Offset, TopicPartition};
use crate::poller::{DRAIN_LOOK_US, Poller};
use crate::shared::AppEvent;
use crate::source::{
    CommitOffset, FetchStart, Protocol, RequestId, Source, SourceEvent, StartPosition,
};
use crate::tracker::{CellState, PartitionCell, UNKNOWN};

/// After a failed look-up of start positions the next one comes so much later.
const LOOK_UP_AGAIN_US: u64 = 500_000;

/// Where a rebalance stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// No rebalance is under way.
    Steady,
    /// Start positions are being looked up; `None` while the next attempt waits.
    LookingUp {
        partitions: Vec<TopicPartition>,
        protocol: Protocol,
        id: Option<RequestId>,
        again_us: u64,
    },
    /// Resolved starts are being committed; nothing is handed out before the broker has them.
    CommittingStarts {
        partitions: Vec<TopicPartition>,
        commit: AwaitedCommit,
    },
    /// Nothing is handed out any more; the application finishes what it holds.
    Draining {
        partitions: Vec<TopicPartition>,
        protocol: Protocol,
        callback: Option<Callback>,
        until_us: u64,
    },
    /// What is finished is being committed.
    Committing {
        partitions: Vec<TopicPartition>,
        protocol: Protocol,
        commit: AwaitedCommit,
    },
}

/// The application's callback for a revoke, on its way or running.
#[derive(Debug)]
pub(crate) struct Callback {
    /// Holds something once the callback runs; disconnected once it has run.
    done: Receiver<()>,
    running: bool,
}

impl Callback {
    fn is_over(&mut self) -> bool {
        loop {
            match self.done.try_recv() {
                Ok(()) => self.running = true,
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// True while the application has not heard of it yet.
    fn is_due(&mut self) -> bool {
        !self.is_over() && !self.running
    }
}

impl Phase {
    /// When the poller must look again.
    pub(crate) fn wake_us(&self, now_us: u64) -> u64 {
        match self {
            Phase::Steady => u64::MAX,
            Phase::LookingUp { id: Some(_), .. } => u64::MAX,
            Phase::LookingUp { again_us, .. } => *again_us,
            Phase::Draining { until_us, .. } => (now_us + DRAIN_LOOK_US).min(*until_us),
            Phase::CommittingStarts { commit, .. } | Phase::Committing { commit, .. } => {
                commit.wake_us()
            }
        }
    }

    /// True while no record may reach the application.
    pub(crate) fn holds_records(&self) -> bool {
        matches!(self, Phase::CommittingStarts { .. })
    }
}

impl<S: Source> Poller<S> {
    /// Takes the rebalance under way as far as it goes without waiting, then the next one.
    pub(crate) fn drive_rebalance(&mut self, now_us: u64) {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Steady) {
                Phase::Steady => match self.waiting.pop_front() {
                    Some(event) => self.begin_rebalance(event, now_us),
                    None => return,
                },
                Phase::LookingUp {
                    partitions,
                    protocol,
                    id: None,
                    again_us,
                } if now_us >= again_us => self.look_up(partitions, protocol),
                Phase::CommittingStarts {
                    partitions,
                    mut commit,
                } => match commit.look(&mut self.committer, now_us) {
                    Awaited::Over => self.tell_assigned(partitions),
                    Awaited::SendAgain => {
                        let until_us = commit.until_us;
                        self.commit_starts(partitions, until_us, now_us);
                    }
                    Awaited::Waiting => {
                        self.phase = Phase::CommittingStarts { partitions, commit };
                        return;
                    }
                },
                Phase::Draining {
                    partitions,
                    protocol,
                    mut callback,
                    until_us,
                } => {
                    if !self.is_drained(&partitions, callback.as_mut(), until_us, now_us) {
                        self.phase = Phase::Draining {
                            partitions,
                            protocol,
                            callback,
                            until_us,
                        };
                        return;
                    }
                    let until_us = now_us + COMMIT_WAIT_US;
                    self.commit_awaited(partitions, protocol, until_us, now_us);
                }
                Phase::Committing {
                    partitions,
                    protocol,
                    mut commit,
                } => match commit.look(&mut self.committer, now_us) {
                    Awaited::Over => self.release(&partitions, protocol),
                    Awaited::SendAgain => {
                        let until_us = commit.until_us;
                        self.commit_awaited(partitions, protocol, until_us, now_us);
                    }
                    Awaited::Waiting => {
                        self.phase = Phase::Committing {
                            partitions,
                            protocol,
                            commit,
                        };
                        return;
                    }
                },
                unfinished => {
                    self.phase = unfinished;
                    return;
                }
            }
        }
    }

    fn begin_rebalance(&mut self, event: SourceEvent, now_us: u64) {
        match event {
            SourceEvent::Assign {
                partitions,
                protocol,
            } => {
                self.shared.stats.rebalances_assigned.add(1);
                if partitions.is_empty() || self.is_closing() {
                    self.fetch_from_stored(&partitions, protocol, now_us);
                } else {
                    self.look_up(partitions, protocol);
                }
            }
            SourceEvent::Revoke {
                partitions,
                protocol,
                lost: true,
            } => {
                self.shared.stats.rebalances_lost.add(1);
                log::warn(format_args!(
                    "{} partitions were lost: nothing of them is committed, records in hand are handled again elsewhere",
                    partitions.len()
                ));
                let told = self.told_of(&partitions);
                self.release(&partitions, protocol);
                if !told.is_empty() {
                    self.shared.tell(AppEvent::Lost(told));
                }
            }
            SourceEvent::Revoke {
                partitions,
                protocol,
                lost: false,
            } => self.begin_revoke(partitions, protocol, now_us),
            _ => {}
        }
    }

    fn look_up(&mut self, partitions: Vec<TopicPartition>, protocol: Protocol) {
        let id = self.request();
        self.source.look_up_starts(id, &partitions);
        self.phase = Phase::LookingUp {
            partitions,
            protocol,
            id: Some(id),
            again_us: 0,
        };
    }

    /// The answer to a look-up. While the broker cannot be asked, it is asked again: starting without knowing would
    /// resolve `latest` later than now, and records in between would be lost after a crash.
    pub(crate) fn starts_found(
        &mut self,
        answered: RequestId,
        starts: Vec<(TopicPartition, StartPosition)>,
        error: Option<Error>,
        now_us: u64,
    ) {
        let Phase::LookingUp {
            partitions,
            protocol,
            id,
            ..
        } = &mut self.phase
        else {
            return;
        };
        if *id != Some(answered) {
            return;
        }
        if let Some(error) = error {
            // Without the map, what a transaction has committed would be done again.
            if error.is_retriable() || self.shared.is_transactional() {
                log::warn(format_args!(
                    "where the group stands could not be looked up, trying again: {error}"
                ));
                self.phase = Phase::LookingUp {
                    partitions: std::mem::take(partitions),
                    protocol: *protocol,
                    id: None,
                    again_us: now_us + LOOK_UP_AGAIN_US,
                };
                return;
            }
            self.shared.source_error(error);
        }
        let protocol = *protocol;
        self.phase = Phase::Steady;
        self.fetch(&starts, protocol, now_us);
    }

    fn fetch(
        &mut self,
        starts: &[(TopicPartition, StartPosition)],
        protocol: Protocol,
        now_us: u64,
    ) {
        let generation = self.assignment.next_generation();
        let mut new_starts = false;
        let mut fetches = Vec::with_capacity(starts.len());
        let mut committed = Vec::with_capacity(starts.len());
        for (partition, start) in starts {
            let (offset, known, confirmed) = match start {
                StartPosition::Committed(offset, metadata) => {
                    let confirmed = Committed::new(*offset, metadata.clone());
                    (Offset::At(*offset), *offset, Some(confirmed))
                }
                StartPosition::Resolved(offset) => {
                    new_starts = true;
                    (Offset::At(*offset), *offset, None)
                }
                StartPosition::Unknown => (Offset::Stored, UNKNOWN, None),
            };
            let mut cell = PartitionCell::new(partition.clone(), generation, known);
            if let Some(map) = confirmed.as_ref().and_then(Committed::map) {
                let epoch = map.leader_epoch().unwrap_or(-1);
                cell = cell.with_map(map.done().to_vec(), epoch);
            }
            let cell = Arc::new(cell);
            fetches.push(FetchStart { cell, offset });
            committed.push(confirmed);
        }
        if let Err(error) = self.source.assign(protocol, &fetches) {
            let partitions: Vec<_> = starts.iter().map(|(p, _)| p.clone()).collect();
            self.refuse(&partitions, protocol, error, now_us);
            return;
        }
        if protocol == Protocol::Eager {
            let old = self.assignment.partitions();
            self.assignment.remove(&old);
        }
        let since = self.request();
        for (fetch, confirmed) in fetches.iter().zip(committed) {
            self.assignment.insert(&fetch.cell, confirmed, since);
        }
        self.publish_assignment();
        let partitions = starts.iter().map(|(partition, _)| partition.clone());
        let partitions = partitions.collect();
        if new_starts
            && (self.settings.auto_commit || self.shared.is_transactional())
            && self.shared.options.store == OffsetStore::Finished
        {
            // A consumer killed before its first timed commit must start here again, not at a later end: from the moment
            // the application knows of its assignment or has a record of it.
            let until_us = self.starts_until_us(now_us + COMMIT_WAIT_US);
            self.commit_starts(partitions, until_us, now_us);
        } else {
            self.tell_assigned(partitions);
        }
    }

    /// Answers an assignment that could not be fetched, which librdkafka would wait for for ever, and leaves the group to
    /// join again a little later: the partitions are another member's meanwhile, or come again.
    fn refuse(
        &mut self,
        partitions: &[TopicPartition],
        protocol: Protocol,
        error: Error,
        now_us: u64,
    ) {
        let is_fatal = error.is_fatal();
        log::warn(format_args!(
            "{} partitions were assigned and could not be fetched, so they are given back: {error}",
            partitions.len()
        ));
        self.shared.source_error(error);
        if protocol == Protocol::Eager {
            let old = self.assignment.partitions();
            self.assignment.remove(&old);
            self.publish_assignment();
        }
        if let Err(error) = self.source.refuse(protocol, partitions) {
            self.shared.source_error(error);
        }
        if !is_fatal {
            self.rejoin(now_us);
        }
    }

    fn commit_starts(&mut self, partitions: Vec<TopicPartition>, until_us: u64, now_us: u64) {
        let offsets = self.unconfirmed(Some(&partitions));
        let commit = self.send_these_awaited(offsets, until_us, now_us);
        self.phase = Phase::CommittingStarts { partitions, commit };
    }

    fn tell_assigned(&self, partitions: Vec<TopicPartition>) {
        if self.listening {
            self.shared.tell(AppEvent::Assigned(partitions));
        }
    }

    /// Answers an assignment without looking anything up: librdkafka waits for the answer before it can go on.
    fn fetch_from_stored(
        &mut self,
        partitions: &[TopicPartition],
        protocol: Protocol,
        now_us: u64,
    ) {
        let starts: Vec<_> = partitions
            .iter()
            .map(|partition| (partition.clone(), StartPosition::Unknown))
            .collect();
        self.fetch(&starts, protocol, now_us);
    }

    /// Answers an assignment whose look-up is under way, because the consumer leaves.
    pub(crate) fn answer_pending_assign(&mut self, now_us: u64) {
        self.drop_start_wait();
        if let Phase::LookingUp {
            partitions,
            protocol,
            ..
        } = &mut self.phase
        {
            let (partitions, protocol) = (std::mem::take(partitions), *protocol);
            self.phase = Phase::Steady;
            self.fetch_from_stored(&partitions, protocol, now_us);
        }
    }

    /// Those of `partitions` that a listening application was told to have.
    fn told_of(&self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        let held = partitions
            .iter()
            .filter(|partition| self.listening && self.assignment.get(partition).is_some());
        held.cloned().collect()
    }

    fn begin_revoke(&mut self, partitions: Vec<TopicPartition>, protocol: Protocol, now_us: u64) {
        self.shared.stats.rebalances_revoked.add(1);
        self.assignment.advance(&partitions, CellState::Revoking);
        let told = self.told_of(&partitions);
        let callback = (!told.is_empty()).then(|| {
            let (done, receiver) = bounded(1);
            self.shared.tell(AppEvent::Revoking {
                partitions: told,
                done,
            });
            Callback {
                done: receiver,
                running: false,
            }
        });
        // Nobody finishes anything any more when the application is stuck, or is the one that closes or unsubscribes.
        let nobody_works = self.evicted || self.is_closing() || !self.shared.is_subscribed();
        let wait_us = match (nobody_works, callback.is_some()) {
            (true, false) => 0,
            (true, true) if self.evicted => 0,
            _ => self.settings.drain_us,
        };
        self.phase = Phase::Draining {
            partitions,
            protocol,
            callback,
            until_us: now_us + wait_us,
        };
    }

    /// The drain of partitions that are gone ends now.
    pub(crate) fn drop_drain(&mut self) {
        if let Phase::Draining { until_us, .. } = &mut self.phase {
            *until_us = 0;
        }
    }

    /// The consumer leaves: nobody finishes anything any more. A callback that has not begun still runs, for its partitions
    /// are given up and not lost; one that runs may be the one that closes, and is not waited for.
    pub(crate) fn hurry_drain(&mut self) {
        if let Phase::Draining {
            until_us, callback, ..
        } = &mut self.phase
            && !callback.as_mut().is_some_and(Callback::is_due)
        {
            *until_us = 0;
        }
    }

    /// The start of what is given up again is not waited for: a revoke must not be held up, and commits it itself.
    pub(crate) fn drop_start_wait(&mut self) {
        if let Phase::CommittingStarts { commit, .. } = &mut self.phase {
            commit.until_us = 0;
        }
    }

    fn is_drained(
        &self,
        partitions: &[TopicPartition],
        callback: Option<&mut Callback>,
        until_us: u64,
        now_us: u64,
    ) -> bool {
        let callback_done = callback.is_none_or(Callback::is_over);
        let nobody_works = self.is_closing() || !self.shared.is_subscribed();
        let mut cells = partitions.iter().filter_map(|p| self.assignment.get(p));
        if callback_done && (nobody_works || !cells.any(|cell| cell.has_in_hand())) {
            return true;
        }
        if now_us < until_us {
            return false;
        }
        if !self.evicted && !self.is_closing() && self.shared.is_subscribed() {
            log::warn(format_args!(
                "partitions are taken away and the application did not finish what it holds within {:?} (tidegate.revoke.drain.ms): \
                 those records will be handled again by their new owner",
                Duration::from_micros(self.settings.drain_us)
            ));
        }
        true
    }

    fn commit_awaited(
        &mut self,
        partitions: Vec<TopicPartition>,
        protocol: Protocol,
        until_us: u64,
        now_us: u64,
    ) {
        let commit = self.send_awaited(Some(&partitions), until_us, now_us);
        self.phase = Phase::Committing {
            partitions,
            protocol,
            commit,
        };
    }

    /// Commits what is finished of `only`, or of everything, for somebody who waits until `until_us`.
    pub(crate) fn send_awaited(
        &mut self,
        only: Option<&[TopicPartition]>,
        until_us: u64,
        now_us: u64,
    ) -> AwaitedCommit {
        let offsets = if self.settings.auto_commit {
            self.uncommitted(only)
        } else {
            Vec::new()
        };
        self.send_these_awaited(offsets, until_us, now_us)
    }

    fn send_these_awaited(
        &mut self,
        offsets: Vec<CommitOffset>,
        until_us: u64,
        now_us: u64,
    ) -> AwaitedCommit {
        let id = self.request();
        let id = self
            .committer
            .send(&mut self.source, id, offsets, Asker::Poller, now_us);
        AwaitedCommit {
            id,
            until_us,
            again_us: None,
        }
    }

    fn release(&mut self, partitions: &[TopicPartition], protocol: Protocol) {
        self.assignment.remove(partitions);
        self.publish_assignment();
        if let Err(error) = self.source.unassign(protocol, partitions) {
            self.shared.source_error(error);
        }
    }
}
