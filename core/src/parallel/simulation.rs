//! A consumer group's member and its handlers in virtual time, without a broker and without threads: for tests of code that is to run
//! under [`Consumer::process`](crate::Consumer::process), and for this crate's own.
//!
//! What decides is what runs in production: the dispatcher's engine, the tracker, the assignment with its snapshots, the offset map.
//! What is played is the broker: a log per partition, and what the group has committed. Everything happens when a method says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::assignment::{Assignment, Committed};
use crate::batch::{BatchBuilder, RecordBatch, TimestampType};
use crate::error::{Error, Result};
use crate::offset_map::OffsetMap;
use crate::parallel::ProcessOptions;
use crate::parallel::dispatcher::Outcome;
use crate::parallel::engine::{Effects, Engine, Letter};
use crate::parallel::ledger::Ledger;
use crate::parallel::outputs::Output;
use crate::parallel::parts::{Ticket, Work, Works};
#[cfg(test)]
use crate::parallel::pending::Attempt;
#[cfg(test)]
use crate::parallel::stretch::{Hand, Stretch};
use crate::partition::TopicPartition;
use crate::source::{CommitOffset, RequestId};
use crate::tracker::{CellState, PartitionCell};

/// The topic's name, unless [`Simulation::with_topic`] gives another.
const TOPIC: &str = "simulated";
/// The most records of one batch, as the poller's.
const BATCH_RECORDS: usize = 4096;

/// A record that failed for good and went to the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it is from.
    pub partition: i32,
    /// Where it is from.
    pub offset: i64,
    /// What kind of error it was.
    pub kind: String,
    /// What the error said.
    pub text: String,
    /// How often a handler had it.
    pub attempts: u32,
}

/// A record as it stands in a simulated partition.
#[derive(Debug, Clone, Default)]
pub struct LogRecord {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// When it was made, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Log {
    records: Vec<LogRecord>,
    /// Next to fetch by the member that lives now.
    position: i64,
}

/// See the module. Failures for good go to a dead-letter topic if that was asked for, else as [`ProcessOptions::on_failure`] says.
///
/// ```
/// # #[cfg(feature = "simulator")] {
/// use tidegate::ProcessOptions;
/// use tidegate::parallel::{Outcome, Simulation};
///
/// let mut options = ProcessOptions::default();
/// options.order = tidegate::Order::None;
/// let mut simulation = Simulation::new(options, false)?;
/// for _ in 0..100 {
///     simulation.produce(0, None, Some(b"call a model"));
/// }
/// simulation.assign(&[0])?;
/// // The first one hangs, the others are done.
/// let mut works = simulation.take(100);
/// let stuck = works.remove(0);
/// while !works.is_empty() {
///     simulation.settle(works.iter().map(|work| (work.ticket, Outcome::Done)));
///     works = simulation.take(100);
/// }
/// assert!(simulation.commit());
/// simulation.crash();
/// simulation.assign(&[0])?;
/// let again = simulation.take(100);
/// assert_eq!(again.len(), 1);
/// assert_eq!(again[0].batch.offsets()[again[0].row], stuck.batch.offsets()[stuck.row]);
/// # }
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Debug)]
pub struct Simulation {
    topic: String,
    options: ProcessOptions,
    dead_letters: bool,
    /// What is handled is finished by transactions of the test.
    transactional: bool,
    /// What is fetched may be handed out in stretches.
    has_stretches: bool,
    engine: Engine,
    assignment: Assignment,
    now_us: u64,
    requests: u64,
    logs: BTreeMap<i32, Log>,
    committed: BTreeMap<i32, CommitOffset>,
    outage: bool,
    answers_lost: bool,
    pending: Vec<Letter>,
    sent: Vec<DeadLetter>,
    /// Of what a copy was to be made: partition and offset.
    letters_begun: Vec<(i32, i64)>,
    holding: bool,
    ended: Option<Error>,
    stopping: bool,
    lines: Vec<String>,
    maps_left_out: u64,
}

impl Simulation {
    /// A group that has committed nothing and begins at the beginning.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for options that cannot be.
    pub fn new(options: ProcessOptions, dead_letters: bool) -> Result<Simulation> {
        options.check()?;
        Ok(Simulation {
            topic: TOPIC.to_string(),
            engine: Simulation::engine(&options, dead_letters, false, 0),
            options,
            dead_letters,
            transactional: false,
            has_stretches: false,
            assignment: Assignment::default(),
            now_us: 0,
            requests: 0,
            logs: BTreeMap::new(),
            committed: BTreeMap::new(),
            outage: false,
            answers_lost: false,
            pending: Vec::new(),
            sent: Vec::new(),
            letters_begun: Vec::new(),
            holding: false,
            ended: None,
            stopping: false,
            lines: Vec::new(),
            maps_left_out: 0,
        })
    }

    /// Records are of this topic; before anything is produced or assigned.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a name that no topic can have.
    pub fn with_topic(self, topic: &str) -> Result<Simulation> {
        crate::checks::topic_name(topic)?;
        let topic = topic.to_string();
        Ok(Simulation { topic, ..self })
    }

    fn partition(&self, number: i32) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), number)
    }

    fn partitions(&self, numbers: &[i32]) -> Vec<TopicPartition> {
        let numbers = numbers.iter();
        numbers.map(|number| self.partition(*number)).collect()
    }

    fn engine(
        options: &ProcessOptions,
        dead_letters: bool,
        transactional: bool,
        now_us: u64,
    ) -> Engine {
        let engine = Engine::new(options, transactional, 0, now_us);
        match dead_letters {
            true => engine.with_dead_letters(),
            false => engine,
        }
    }

    /// Appends a record to a partition; gives its offset.
    pub fn produce(&mut self, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) -> i64 {
        self.append(
            partition,
            LogRecord {
                key: key.map(<[u8]>::to_vec),
                value: value.map(<[u8]>::to_vec),
                ..LogRecord::default()
            },
        )
    }

    /// Appends a record with everything it has; gives its offset.
    pub fn append(&mut self, partition: i32, record: LogRecord) -> i64 {
        let log = self.logs.entry(partition).or_default();
        log.records.push(record);
        log.records.len() as i64 - 1
    }

    /// The group gives these partitions to this member, which begins where the group stands.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for one that it has already.
    pub fn assign(&mut self, partitions: &[i32]) -> Result<()> {
        for &number in partitions {
            if self.assignment.get(&self.partition(number)).is_some() {
                return Err(Error::argument(
                    "partitions",
                    format!("{number} is assigned already"),
                    "revoke it first, or lose it",
                ));
            }
        }
        let generation = self.assignment.next_generation();
        self.requests += 1;
        for &number in partitions {
            let found = self.committed.get(&number);
            let committed =
                found.map(|commit| Committed::new(commit.offset, commit.metadata.clone()));
            let start = found.map_or(0, |commit| commit.offset);
            let mut cell = PartitionCell::new(self.partition(number), generation, start);
            if let Some(map) = committed.as_ref().and_then(Committed::map) {
                cell = cell.with_map(map.done().to_vec(), map.leader_epoch().unwrap_or(-1));
            }
            self.logs.entry(number).or_default().position = start;
            let since = RequestId(self.requests);
            self.assignment.insert(&Arc::new(cell), committed, since);
        }
        Ok(())
    }

    /// The group takes these partitions: nothing more of them is handed out, what waits is given back, and what handlers have may
    /// still be settled until [`Simulation::end_revoke`].
    pub fn begin_revoke(&mut self, partitions: &[i32]) {
        let partitions = self.partitions(partitions);
        self.assignment.advance(&partitions, CellState::Revoking);
        self.engine.state.drop_stale();
    }

    /// True when no handler has anything of these partitions any more.
    #[must_use]
    pub fn is_drained(&self, partitions: &[i32]) -> bool {
        let cells = partitions
            .iter()
            .filter_map(|number| self.assignment.get(&self.partition(*number)));
        cells.into_iter().all(|cell| !cell.has_in_hand())
    }

    /// Commits what is done of partitions that are being taken, and lets go of them. What is settled later is stale.
    pub fn end_revoke(&mut self, partitions: &[i32]) {
        let partitions = self.partitions(partitions);
        self.commit_of(Some(&partitions));
        self.assignment.remove(&partitions);
        self.engine.state.drop_stale();
    }

    /// These partitions are somebody else's already: nothing of them is committed.
    pub fn lose(&mut self, partitions: &[i32]) {
        let partitions = self.partitions(partitions);
        self.assignment.remove(&partitions);
        self.engine.state.drop_stale();
    }

    /// The process dies, and another one begins, with nothing assigned yet. What was committed and produced stays.
    pub fn crash(&mut self) {
        self.engine = Simulation::engine(
            &self.options,
            self.dead_letters,
            self.transactional,
            self.now_us,
        );
        if self.has_stretches {
            self.engine.state.hand_out_stretches();
        }
        self.assignment = Assignment::default();
        self.pending.clear();
        self.ended = None;
        self.stopping = false;
    }

    /// Virtual time passes. Attempts that are over their time fail.
    pub fn advance(&mut self, by: Duration) {
        let by_us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.now_us = self.now_us.saturating_add(by_us);
        let mut effects = Effects::default();
        self.engine.expire(self.now_us, &mut effects);
        self.take_effects(effects);
    }

    /// How long until time alone makes something happen: a retry, an attempt over its time, a batch that waited long enough.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let due_us = self.engine.next_due_us()?;
        Some(Duration::from_micros(due_us.saturating_sub(self.now_us)))
    }

    /// The virtual time since the beginning.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now_us)
    }

    /// Takes in what there is room for, one partition after the other, as the intake does; gives how many records.
    pub fn fetch(&mut self) -> usize {
        let mut total = 0;
        loop {
            let room = self.engine.room().min(BATCH_RECORDS);
            let batch = (room > 0).then(|| self.next_batch(room)).flatten();
            let Some(batch) = batch else {
                return total;
            };
            total += batch.len();
            self.engine.offer(batch);
        }
    }

    fn next_batch(&mut self, room: usize) -> Option<RecordBatch> {
        let mut builder = BatchBuilder::with_capacity(0, 0);
        for (&number, log) in &mut self.logs {
            let partition = TopicPartition::new(self.topic.as_str(), number);
            let Some(cell) = self.assignment.get(&partition) else {
                continue;
            };
            let from = log.position as usize;
            let until = log.records.len().min(from + room - builder.len());
            if from >= until || !cell.deliver(from as i64, until as i64) {
                continue;
            }
            builder.begin_run(cell, -1, TimestampType::CreateTime);
            for (offset, record) in (from..).zip(&log.records[from..until]) {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                let timestamp_ms = record.timestamp_ms.unwrap_or(-1);
                builder.push(number, offset as i64, timestamp_ms, key, value);
                for (name, value) in &record.headers {
                    builder.push_header(name.as_bytes(), value.as_deref());
                }
            }
            log.position = until as i64;
        }
        (builder.len() > 0).then(|| RecordBatch::new(builder.finish(self.now_us)))
    }

    /// Fetches, and hands out up to `most` records that may be handled now; nothing once the processing has ended.
    pub fn take(&mut self, most: usize) -> Vec<Work> {
        let mut works = Works::default();
        if self.ended.is_none() && !self.stopping {
            self.fetch();
            self.engine.take(most, self.now_us, &mut works);
        }
        works.owned().collect()
    }

    /// Says what became of records.
    pub fn settle(&mut self, outcomes: impl IntoIterator<Item = (Ticket, Outcome)>) {
        let mut effects = Effects::default();
        self.engine.settle(outcomes, self.now_us, &mut effects);
        self.take_effects(effects);
    }

    /// Says what records cost, for [`ProcessOptions::rate_limit`].
    pub fn charge(&mut self, ticket: Ticket, cost: f64) {
        self.engine.state.charge(ticket, cost);
    }

    fn take_effects(&mut self, effects: Effects) {
        for letter in effects.letters {
            let record = letter.1.batch.get(letter.1.row);
            self.letters_begun
                .extend(record.map(|record| (record.partition(), record.offset())));
            self.pending.push(letter);
        }
        self.lines.extend(effects.lines);
        if let Some(error) = effects.end {
            self.ended.get_or_insert(error);
        }
        if !self.holding {
            self.confirm_dead_letters();
        }
    }

    /// Ends the processing with an error, as a handler does that did what none may; the first one counts.
    pub fn fail(&mut self, error: Error) {
        self.ended.get_or_insert(error);
    }

    /// Gives back everything that waits and hands out nothing more, as [`Dispatcher::stop`](crate::Dispatcher::stop) does.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.engine.state.drop_all_waiting();
    }

    /// The dead-letter topic confirms nothing from now on, or everything again.
    pub fn hold_dead_letters(&mut self, hold: bool) {
        self.holding = hold;
        if !hold {
            self.confirm_dead_letters();
        }
    }

    fn confirm_dead_letters(&mut self) {
        for (ticket, work, reason) in std::mem::take(&mut self.pending) {
            if self.transactional {
                let copy = Output::new(reason.text.as_str()).topic("dead");
                self.engine.copied((ticket, work, reason), copy);
                continue;
            }
            // Whoever has the partition now makes the copy.
            if let Some(record) = work
                .batch
                .get(work.row)
                .filter(|_| !work.batch.is_gone(work.row))
            {
                self.sent.push(DeadLetter {
                    partition: record.partition(),
                    offset: record.offset(),
                    kind: reason.kind,
                    text: reason.text,
                    attempts: reason.attempts,
                });
            }
            self.engine.dead_lettered(ticket);
        }
    }

    /// Of which records the dead-letter topic has confirmed a copy, or is to get one.
    #[cfg(test)]
    pub(crate) fn pending_letters(&self) -> std::collections::BTreeSet<(i32, i64)> {
        let pending = self.pending.iter().filter_map(|letter| {
            let record = letter.1.batch.get(letter.1.row)?;
            Some((record.partition(), record.offset()))
        });
        let sent = self
            .sent
            .iter()
            .map(|letter| (letter.partition, letter.offset));
        pending.chain(sent).collect()
    }

    /// What the dead-letter topic has confirmed.
    #[must_use]
    pub fn dead_letters(&self) -> &[DeadLetter] {
        &self.sent
    }

    /// Of which records a copy was to go to the dead-letter topic, confirmed or not: partition and offset. Those behind them in order go
    /// on from that moment.
    #[must_use]
    pub fn letters_begun(&self) -> &[(i32, i64)] {
        &self.letters_begun
    }

    /// Commits what is done, as the timer does; false while the broker does not answer.
    pub fn commit(&mut self) -> bool {
        self.commit_of(None)
    }

    fn commit_of(&mut self, only: Option<&[TopicPartition]>) -> bool {
        let map_bytes = self.options.offset_map_bytes;
        let (offsets, left_out) = self.assignment.uncommitted(only, map_bytes);
        self.maps_left_out += left_out;
        self.requests += 1;
        if self.outage || self.transactional {
            return false;
        }
        for offset in offsets {
            let id = RequestId(self.requests);
            if !self.answers_lost {
                self.assignment.confirm(id, &offset);
            }
            self.committed
                .insert(offset.topic_partition.partition, offset);
        }
        !self.answers_lost
    }

    /// Sends a commit of what is done: what the broker hears of later, or never.
    #[cfg(test)]
    pub(crate) fn send_commit(&mut self) -> (RequestId, Vec<CommitOffset>) {
        let map_bytes = self.options.offset_map_bytes;
        let (mut offsets, left_out) = self.assignment.uncommitted(None, map_bytes);
        offsets.sort_unstable_by_key(|offset| offset.topic_partition.partition);
        self.maps_left_out += left_out;
        self.requests += 1;
        (RequestId(self.requests), offsets)
    }

    /// The group has it.
    #[cfg(test)]
    pub(crate) fn take_commit(&mut self, offsets: &[CommitOffset]) {
        for offset in offsets {
            let number = offset.topic_partition.partition;
            self.committed.insert(number, offset.clone());
        }
    }

    /// The member hears that the group has it.
    #[cfg(test)]
    pub(crate) fn answer_commit(&mut self, id: RequestId, offsets: &[CommitOffset]) {
        for offset in offsets {
            self.assignment.confirm(id, offset);
        }
    }

    /// What is finished of a partition that is held: the watermark, and how much beyond it.
    #[cfg(test)]
    pub(crate) fn finished(&self, number: i32) -> Option<(i64, i64)> {
        let snapshot = self.assignment.get(&self.partition(number))?.snapshot();
        let beyond = snapshot.done.iter().map(|range| range.end - range.start);
        Some((snapshot.finished, beyond.sum()))
    }

    /// All that decides what can happen next, in a form in which equal means equal.
    #[cfg(test)]
    pub(crate) fn print(&self) -> String {
        use std::fmt::Write as _;
        let mut print = self.engine.state.print(self.now_us);
        for (number, log) in &self.logs {
            let cell = self.assignment.get(&self.partition(*number));
            let cell = cell.map(|cell| (cell.state(), cell.handed(), cell.snapshot()));
            let held = self.assignment.known(&self.partition(*number));
            let requests = held.map(|(since, known)| (self.requests - since.0, known));
            let _ = write!(print, "|{number} {} {cell:?} {requests:?}", log.position);
        }
        let pending: Vec<_> = self.pending.iter().map(|letter| letter.1.row).collect();
        let _ = write!(print, "|{:?} {pending:?} {:?}", self.committed, self.ended);
        print
    }

    /// The broker answers no commit from now on, or every one again.
    pub fn set_commit_outage(&mut self, outage: bool) {
        self.outage = outage;
    }

    /// The broker takes commits and its answers are lost, from now on or no more.
    pub fn set_answers_lost(&mut self, lost: bool) {
        self.answers_lost = lost;
    }

    /// What the group has committed of a partition: next to read, and the metadata.
    #[must_use]
    pub fn committed(&self, partition: i32) -> Option<(i64, Option<&str>)> {
        let commit = self.committed.get(&partition)?;
        Some((commit.offset, commit.metadata.as_deref()))
    }

    /// Somebody else commits, or has committed before.
    pub fn set_committed(&mut self, number: i32, offset: i64, metadata: Option<&str>) {
        let commit = CommitOffset {
            topic_partition: self.partition(number),
            offset,
            leader_epoch: None,
            metadata: metadata.map(str::to_string),
        };
        self.committed.insert(number, commit);
    }

    /// What the committed metadata says is done beyond the offset.
    #[must_use]
    pub fn committed_map(&self, partition: i32) -> Option<OffsetMap> {
        OffsetMap::decode(self.committed(partition)?.1?).ok()
    }

    /// How many commits of a partition went without their map, because it was too long.
    #[must_use]
    pub fn maps_left_out(&self) -> u64 {
        self.maps_left_out
    }

    /// What became of everything that this process received.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.engine.ledger()
    }

    /// How many records may be with handlers at once now.
    #[must_use]
    pub fn in_flight_limit(&self) -> usize {
        self.engine.state.in_flight_limit()
    }

    /// What has ended the processing.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    /// From now on the test makes transactions, and nothing else commits. Before anything is assigned.
    #[cfg(test)]
    pub(crate) fn make_transactional(&mut self) {
        self.transactional = true;
        self.crash();
    }

    /// From now on [`Simulation::take_quick`] gives stretches, as the threads of very quick handlers get them. Before anything is assigned.
    #[cfg(test)]
    pub(crate) fn hand_out_stretches(&mut self) {
        self.has_stretches = true;
        self.crash();
    }

    /// As [`Simulation::take`], for a thread of a very quick handler.
    #[cfg(test)]
    pub(crate) fn take_quick(&mut self, most: usize, rows: usize) -> Hand {
        let mut hand = Hand::default();
        if self.ended.is_none() && !self.stopping {
            self.fetch();
            self.engine
                .take_hand(most, Some(rows), self.now_us, &mut hand);
        }
        hand
    }

    /// A stretch has ended: its first `done` rows are done, the one after them is still with its handler or it is not.
    #[cfg(test)]
    pub(crate) fn end_stretch(
        &mut self,
        stretch: &Stretch,
        done: usize,
        is_running: bool,
    ) -> Option<Ticket> {
        let mut effects = Effects::default();
        let goes_on = self.ended.is_none() && !self.stopping;
        let ticket = self
            .engine
            .end_stretch(stretch, done, is_running, goes_on, &mut effects);
        self.take_effects(effects);
        ticket
    }

    /// What may go in a transaction now.
    #[cfg(test)]
    pub(crate) fn begin_transaction(&mut self) -> Attempt {
        self.engine.begin(self.options.offset_map_bytes)
    }

    /// The broker has committed these offsets of a transaction.
    #[cfg(test)]
    pub(crate) fn offsets_committed(&mut self, offsets: &[crate::partition::OffsetAndMetadata]) {
        for offset in offsets {
            let number = offset.partition.partition;
            self.set_committed(number, offset.offset, offset.metadata.as_deref());
        }
    }

    /// The member hears what became of its transaction.
    #[cfg(test)]
    pub(crate) fn end_transaction(&mut self, attempt: Attempt, is_committed: bool) {
        match is_committed {
            true => self.engine.committed(attempt),
            false => self.engine.aborted(attempt),
        }
    }

    /// What the engine takes beside the records.
    #[cfg(test)]
    pub(crate) fn state_bytes(&self) -> usize {
        self.engine.state.bytes()
    }

    /// What the log would say.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}
