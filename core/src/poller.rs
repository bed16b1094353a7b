//! The poller: one thread per consumer that owns the source, the assignment and all commits.
//!
//! [`Poller::step`] is the whole logic as a state machine without waiting, locks or a clock of its own, so that tests
//! drive it with a scripted source and virtual time; [`Driver`] has the threads around it. A full gate stops draining
//! records and nothing else: rebalances, commits and commands go on.
//!
//! Rebalances are answered late on purpose: librdkafka waits for `assign` and `unassign`, so that start positions are
//! looked up, in-flight work is drained and offsets are committed while events still are served.
//! The states of a rebalance are in [`crate::rebalance`].

mod by_hand;
mod close;
mod commands;
mod driver;
mod events;
mod progress;
mod seek;
mod transactional;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

pub(crate) use by_hand::Change;
pub(crate) use commands::Command;
pub(crate) use driver::Driver;

use crate::assignment::Assignment;
use crate::batch::BatchData;
use crate::clock::Clock;
use crate::commit::{Asker, AwaitedCommit, Committer};
use crate::error::{Error, Result};
use crate::log;
use crate::partition::{Offset, TopicPartition};
use crate::queue::Gate;
use crate::rebalance::Phase;
use crate::shared::Shared;
use crate::source::{CommitOffset, FillLimit, Protocol, RequestId, Source, SourceEvent};
use crate::tracker::{PartitionCell, UNKNOWN};

/// librdkafka must see its queues served at least this often, and the application's progress is sampled as often.
const LONGEST_PARK_US: u64 = 500_000;
/// How often a drain looks whether the application has finished what it holds.
pub(crate) const DRAIN_LOOK_US: u64 = 2_000;
/// An application that drives makes a whole step at least this often.
const BRIEFLY_US: u64 = 50_000;
/// Batches pushed in a row before events and commands are looked at again.
const FILLS_PER_STEP: usize = 16;
/// The most records of one batch; a flood is handed over in batches of this size.
pub(crate) const BATCH_RECORDS: usize = 4096;
/// After an assignment that could not be fetched the group is joined again so much later.
const REJOIN_US: u64 = 1_000_000;

/// What the poller needs to know of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) auto_commit: bool,
    pub(crate) auto_commit_interval_us: u64,
    pub(crate) max_poll_interval_us: u64,
    pub(crate) drain_us: u64,
    pub(crate) batch_bytes: usize,
}

/// What the thread does after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// There may be more to do at once.
    Again,
    /// Wait until woken, at most so long.
    Park(Duration),
    /// The group was left and nothing is owed to anyone.
    Done,
}

/// What a look at the source gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Nothing,
    /// No batch after these; they are to be heard.
    Events,
    /// As many as were asked for: there may be more.
    Batches,
}

#[derive(Debug)]
enum Closing {
    No,
    /// What is finished is being committed.
    Committing(AwaitedCommit),
    /// The source is leaving the group.
    Leaving,
}

/// The state machine.
pub(crate) struct Poller<S: Source> {
    pub(crate) source: S,
    pub(crate) settings: Settings,
    pub(crate) assignment: Assignment,
    pub(crate) committer: Committer,
    pub(crate) shared: Arc<Shared>,
    pub(crate) phase: Phase,
    /// Rebalances that came while another one was being answered.
    pub(crate) waiting: VecDeque<SourceEvent>,
    pub(crate) listening: bool,
    gate: Gate,
    commands: Receiver<Command>,
    clock: Arc<dyn Clock>,
    events: VecDeque<SourceEvent>,
    next_request: u64,
    next_commit_us: u64,
    /// When commands and events were last looked at.
    stepped_us: u64,
    /// The topics asked for, to join again with after an eviction.
    topics: Vec<String>,
    progress_seen: u64,
    progress_us: u64,
    /// The application did not come back within `max.poll.interval.ms` and the group was left.
    pub(crate) evicted: bool,
    /// When the group is joined again that was left because an assignment could not be fetched.
    rejoin_us: Option<u64>,
    /// What the group's latest assignment or revoke was.
    protocol: Option<Protocol>,
    seeks: Vec<seek::Seeking>,
    closing: Closing,
    close_replies: Vec<(u64, Sender<Result<()>>)>,
    /// Who waits until no commit is on its way.
    idle_replies: Vec<Sender<Result<()>>>,
}

impl<S: Source> Poller<S> {
    pub(crate) fn new(
        source: S,
        settings: Settings,
        shared: Arc<Shared>,
        gate: Gate,
        commands: Receiver<Command>,
        clock: Arc<dyn Clock>,
    ) -> Poller<S> {
        let now_us = clock.now_us();
        Poller {
            source,
            assignment: Assignment::new(shared.options.store),
            committer: Committer::default(),
            shared,
            phase: Phase::Steady,
            waiting: VecDeque::new(),
            listening: false,
            gate,
            commands,
            clock,
            events: VecDeque::new(),
            next_request: 0,
            stepped_us: 0,
            next_commit_us: now_us + settings.auto_commit_interval_us,
            topics: Vec::new(),
            progress_seen: 0,
            progress_us: now_us,
            evicted: false,
            rejoin_us: None,
            protocol: None,
            seeks: Vec::new(),
            closing: Closing::No,
            close_replies: Vec::new(),
            idle_replies: Vec::new(),
            settings,
        }
    }

    /// Does everything that can be done without waiting.
    pub(crate) fn step(&mut self) -> Next {
        self.step_filling(FILLS_PER_STEP)
    }

    /// For an application that waits for records: one batch first, if one is there, and the rest of a step after it. That is left out
    /// while there is nothing else, but never for long: an application that always waits leaves the poller's thread no turn.
    pub(crate) fn step_briefly(&mut self) -> Next {
        let now_us = self.clock.now_us();
        if !self.events.is_empty() || self.fill(1, now_us) != Filled::Batches {
            return self.step_filling(1);
        }
        let is_quiet = self.commands.is_empty()
            && self.events.is_empty()
            && self.seeks.is_empty()
            && self.source.is_idle();
        if is_quiet && now_us < self.stepped_us + BRIEFLY_US {
            return Next::Park(Duration::from_micros(self.park_us(now_us)));
        }
        self.step_filling(0)
    }

    /// As [`Poller::step`], with at most so many batches.
    fn step_filling(&mut self, most_fills: usize) -> Next {
        let now_us = self.clock.now_us();
        self.stepped_us = now_us;
        while let Ok(command) = self.commands.try_recv() {
            self.command(command, now_us);
        }
        let mut events = std::mem::take(&mut self.events);
        self.source.events(&mut events);
        for event in events.drain(..) {
            self.event(event, now_us);
        }
        self.events = events;
        self.drive_rebalance(now_us);
        self.tell_idle();
        self.drive_rejoin(now_us);
        self.drive_seeks(now_us);
        self.watch_progress(now_us);
        if self.drive_close(now_us) {
            return Next::Done;
        }
        self.commit_by_timer(now_us);
        if self.fill(most_fills, now_us) != Filled::Nothing {
            return Next::Again;
        }
        Next::Park(Duration::from_micros(self.park_us(now_us)))
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn is_subscribed(&self) -> bool {
        !self.topics.is_empty()
    }

    pub(crate) fn is_closing(&self) -> bool {
        !matches!(self.closing, Closing::No)
    }

    pub(crate) fn publish_assignment(&self) {
        {
            let mut seen = self.shared.topics_seen.lock();
            for cell in self.assignment.cells() {
                let topic = &cell.topic_partition().topic;
                if !seen.contains(topic) {
                    seen.insert(Arc::clone(topic));
                }
            }
        }
        *self.shared.assigned.write() = self.assignment.cells().map(Arc::clone).collect();
        self.shared
            .stats
            .partitions_assigned
            .set(self.assignment.len() as u64);
    }

    fn commit_by_timer(&mut self, now_us: u64) {
        if !self.settings.auto_commit || now_us < self.next_commit_us {
            return;
        }
        self.next_commit_us = now_us + self.settings.auto_commit_interval_us;
        let given_up = self.committer.give_up(now_us);
        self.shared.stats.commits_failed.add(given_up as u64);
        if !self.committer.timed_in_flight() && !self.is_closing() {
            self.commit_finished(now_us);
        }
    }

    /// Commits everything finished without anybody waiting for it.
    pub(crate) fn commit_finished(&mut self, now_us: u64) {
        let offsets = self.uncommitted(None);
        if !offsets.is_empty() {
            let id = self.request();
            self.committer
                .send(&mut self.source, id, offsets, Asker::Timer, now_us);
        }
    }

    /// What is finished and not confirmed as committed, with maps if [`Consumer::process`](crate::Consumer::process) wants them; nothing
    /// where transactions commit.
    pub(crate) fn uncommitted(&mut self, only: Option<&[TopicPartition]>) -> Vec<CommitOffset> {
        if self.shared.is_transactional() {
            return Vec::new();
        }
        self.unconfirmed(only)
    }

    /// As [`Poller::uncommitted`], whoever commits.
    pub(crate) fn unconfirmed(&mut self, only: Option<&[TopicPartition]>) -> Vec<CommitOffset> {
        let limit_bytes = self.shared.offset_map_bytes();
        let (offsets, left_out) = self.assignment.uncommitted(only, limit_bytes);
        self.shared.stats.offset_maps_left_out.add(left_out);
        offsets
    }

    /// Leaves the group and joins it again a little later, if it is to be read at all.
    pub(crate) fn rejoin(&mut self, now_us: u64) {
        if self.topics.is_empty() || self.evicted || self.is_closing() {
            return;
        }
        self.source.unsubscribe();
        self.rejoin_us = Some(now_us + REJOIN_US);
    }

    fn drive_rejoin(&mut self, now_us: u64) {
        let is_steady = matches!(self.phase, Phase::Steady) && !self.is_closing();
        if !is_steady || self.rejoin_us.is_none_or(|rejoin_us| now_us < rejoin_us) {
            return;
        }
        self.rejoin_us = None;
        if let Err(error) = self.source.subscribe(&self.topics) {
            self.rejoin_us = (!error.is_fatal()).then_some(now_us + REJOIN_US);
            self.shared.source_error(error);
        }
    }

    /// Drains the source into the gate.
    fn fill(&mut self, most_fills: usize, now_us: u64) -> Filled {
        if self.is_closing() || self.phase.holds_records() {
            return Filled::Nothing;
        }
        let without_batches = |events: &VecDeque<SourceEvent>| match events.is_empty() {
            true => Filled::Nothing,
            false => Filled::Events,
        };
        for _ in 0..most_fills {
            if !self.gate.has_room() {
                self.shared.stats.queue_full_waits.add(1);
                return without_batches(&self.events);
            }
            let limit = FillLimit {
                records: BATCH_RECORDS,
                bytes: self.settings.batch_bytes,
            };
            let Some(mut batch) = self.source.fill(limit, now_us, &mut self.events) else {
                return without_batches(&self.events);
            };
            self.follow_the_source(&mut batch);
            let stats = &self.shared.stats;
            stats.records_received.add(batch.len() as u64);
            stats.bytes_received.add(batch.arena_bytes() as u64);
            stats.batches_received.add(1);
            if self.gate.push(batch).is_err() {
                // The application's end is gone: the consumer is being dropped and nothing is finished any more.
                return Filled::Nothing;
            }
            self.shared.raise_ready();
        }
        Filled::Batches
    }

    /// Where the source went back, because the log was truncated or made anew below the place that it was read to, a
    /// generation begins: completions of what was there before must not finish what is there now.
    fn follow_the_source(&mut self, batch: &mut BatchData) {
        let mut index = 0;
        while index < batch.runs.len() {
            let cell = Arc::clone(&batch.runs[index].cell);
            let partition = cell.topic_partition();
            let went_back = batch.went_back(index);
            let is_held = |held: &Arc<PartitionCell>| Arc::ptr_eq(held, &cell);
            if let Some(row) =
                went_back.filter(|_| self.assignment.get(partition).is_some_and(is_held))
            {
                let place = batch.offsets[row];
                log::warn(format_args!(
                    "{partition} goes on at {place}, after {} was read: its log was truncated or made anew",
                    cell.fetched() - 1
                ));
                let generation = self.assignment.next_generation();
                let following = Arc::new(PartitionCell::following(&cell, generation, place));
                batch.follow(index, row, &following);
                self.assignment.succeed(&following);
                self.source.follow(&following, place);
                self.publish_assignment();
                if !Arc::ptr_eq(&batch.runs[index].cell, &cell) {
                    // All of the run is new: it may go back once more.
                    continue;
                }
            }
            index += 1;
        }
    }

    fn park_us(&self, now_us: u64) -> u64 {
        let mut wake_us = now_us + LONGEST_PARK_US;
        if self.settings.auto_commit {
            wake_us = wake_us.min(self.next_commit_us);
        }
        if !self.topics.is_empty() && !self.evicted {
            wake_us = wake_us.min(self.progress_us + self.settings.max_poll_interval_us + 1_000);
            // Progress is sampled, so a stuck application is found within a twentieth of its interval.
            wake_us = wake_us.min(now_us + self.settings.max_poll_interval_us / 20 + 1_000);
        }
        wake_us = wake_us.min(self.phase.wake_us(now_us));
        if let Some(rejoin_us) = self.rejoin_us {
            // Held up by a rebalance under way, which has its own times.
            wake_us = wake_us.min(rejoin_us.max(now_us + DRAIN_LOOK_US));
        }
        for seeking in &self.seeks {
            wake_us = wake_us.min(seeking.again_us.max(now_us + DRAIN_LOOK_US));
        }
        match &self.closing {
            Closing::No => {}
            Closing::Committing(commit) => wake_us = wake_us.min(commit.wake_us()),
            Closing::Leaving => wake_us = wake_us.min(now_us + 20_000),
        }
        for (deadline_us, _) in &self.close_replies {
            wake_us = wake_us.min(*deadline_us);
        }
        wake_us.saturating_sub(now_us).max(100)
    }
}

/// The offset that a cell starts at, if it is known without asking.
pub(crate) fn known_start(offset: Offset) -> i64 {
    match offset {
        Offset::At(offset) => offset,
        Offset::Beginning | Offset::End | Offset::Stored | Offset::Tail(_) => UNKNOWN,
    }
}

fn is_state_error(error: &Error) -> bool {
    error
        .kafka_code()
        .is_some_and(|code| code.name() == "_STATE")
}
