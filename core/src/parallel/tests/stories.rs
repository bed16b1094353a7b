//! Stories told to the [`Simulation`], here as proptest writes them: handlers that fail, hang and answer late, rebalances, crashes, commits
//! whose answers come late or never, and outages, with every kind of option. What must hold is checked after each step, and at the end
//! everything is done.

mod stretches;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::*;
use crate::batch::RecordBatch;
use crate::parallel::dispatcher::Outcome;
use crate::source::{CommitOffset, RequestId};

use stretches::Lent;

const PARTITIONS: i32 = 2;

/// What happens next.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Produce(i32, Vec<u8>),
    Take(usize),
    /// So many single records, or rows of a stretch.
    TakeQuick(usize, usize),
    /// One of the stretches has ended after so many rows, and a handler still has the one after them or not.
    EndStretch(usize, usize, bool),
    Done(Vec<usize>),
    Fail(usize, bool, u64),
    GiveBack(usize),
    Wait(u64),
    Commit,
    /// A commit is sent; the broker has the first one that it does not have; the first one is answered, or given up.
    SendCommit,
    TakeCommit,
    AnswerCommit(bool),
    Outage(bool),
    HoldLetters(bool),
    /// The dead-letter topic confirms what waits, and holds what comes then.
    ConfirmLetters,
    Revoke(i32, bool),
    EndRevoke(i32),
    Lose(i32),
    Assign(i32),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..1_000_usize;
    let partition = 0..PARTITIONS;
    prop_oneof![
        5 => (partition.clone(), prop::collection::vec(0..4_u8, 1..12)).prop_map(|(p, keys)| Step::Produce(p, keys)),
        8 => (1..8_usize).prop_map(Step::Take),
        8 => (1..4_usize, 1..8_usize).prop_map(|(most, rows)| Step::TakeQuick(most, rows)),
        8 => (index.clone(), index.clone(), prop::bool::weighted(0.3)).prop_map(|(i, done, on)| Step::EndStretch(i, done, on)),
        8 => prop::collection::vec(index.clone(), 1..6).prop_map(Step::Done),
        3 => (index.clone(), any::<bool>(), 0..30_000_u64).prop_map(|(i, again, us)| Step::Fail(i, again, us)),
        1 => index.prop_map(Step::GiveBack),
        5 => (1..80_000_u64).prop_map(Step::Wait),
        3 => Just(Step::Commit),
        2 => Just(Step::SendCommit),
        2 => Just(Step::TakeCommit),
        2 => prop::bool::weighted(0.8).prop_map(Step::AnswerCommit),
        1 => any::<bool>().prop_map(Step::Outage),
        1 => any::<bool>().prop_map(Step::HoldLetters),
        1 => (partition.clone(), any::<bool>()).prop_map(|(p, at_once)| Step::Revoke(p, at_once)),
        1 => partition.clone().prop_map(Step::EndRevoke),
        1 => partition.clone().prop_map(Step::Lose),
        3 => partition.prop_map(Step::Assign),
        1 => Just(Step::Crash),
    ]
}

fn options() -> impl Strategy<Value = ProcessOptions> {
    let order = prop_oneof![Just(Order::Key), Just(Order::Partition), Just(Order::None)];
    let batch = prop_oneof![3 => Just(1_usize), 1 => 2..5_usize];
    let attempt_us = prop::option::weighted(0.4, 10_000..60_000_u64);
    let map_bytes = prop_oneof![3 => Just(4096_usize), 1 => Just(0), 1 => Just(24)];
    let pace = (
        prop::option::weighted(0.3, 1..4_usize),
        prop::option::weighted(0.2, 50.0..5_000.0_f64),
        any::<bool>(),
    );
    (
        order,
        any::<bool>(),
        batch,
        any::<bool>(),
        attempt_us,
        map_bytes,
        pace,
    )
        .prop_map(
            |(order, park_retries, batch_size, of_one, attempt_us, offset_map_bytes, pace)| {
                ProcessOptions {
                    order,
                    park_retries,
                    batch_size,
                    batch_timeout: Duration::from_millis(5),
                    batch_of_one_partition: of_one,
                    attempt_timeout: attempt_us.map(Duration::from_micros),
                    offset_map_bytes,
                    max_in_flight: 6,
                    max_queued: 40,
                    max_attempts: Some(3),
                    backoff: Duration::from_millis(1),
                    max_backoff: Duration::from_millis(8),
                    min_in_flight: pace.0,
                    rate_limit: pace.1,
                    retry_after_holds_all: pace.2,
                    ..ProcessOptions::default()
                }
            },
        )
}

/// A record with a handler.
#[derive(Debug, Clone)]
pub(super) struct Busy {
    ticket: Ticket,
    pub(super) partition: i32,
    pub(super) offset: i64,
    key: Option<u8>,
    /// Which process, which assignment, which call of a handler.
    pub(super) life: u64,
    assignment: u64,
    call: u64,
}

/// A commit on its way.
struct UnderWay {
    id: RequestId,
    offsets: Vec<CommitOffset>,
    /// The broker has it.
    taken: bool,
}

/// A member of a group, its broker, and what must hold between them.
pub(super) struct World {
    pub(super) simulation: Simulation,
    options: ProcessOptions,
    keys: HashMap<(i32, i64), Option<u8>>,
    /// Handlers that have not returned; also those that run over their time.
    pub(super) busy: Vec<Busy>,
    /// Stretches that have not ended, of the process that lives now.
    pub(super) lent: Vec<Lent>,
    /// Very quick handlers: there are stretches.
    is_quick: bool,
    done: BTreeSet<(i32, i64)>,
    pub(super) assigned: BTreeSet<i32>,
    pub(super) revoking: BTreeSet<i32>,
    /// By partition, which assignment of it this is.
    assignments: HashMap<i32, u64>,
    commits: VecDeque<UnderWay>,
    calls: u64,
    pub(super) life: u64,
    rebalances: usize,
    crashes: usize,
    /// Rows of stretches that were done, and those that were given back or stayed with their handler.
    rows: [usize; 2],
}

impl World {
    pub(super) fn new(options: ProcessOptions) -> World {
        World {
            simulation: Simulation::new(options.clone(), true).expect("options"),
            options,
            keys: HashMap::new(),
            busy: Vec::new(),
            lent: Vec::new(),
            is_quick: false,
            done: BTreeSet::new(),
            assigned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            assignments: HashMap::new(),
            commits: VecDeque::new(),
            calls: 0,
            life: 0,
            rebalances: 0,
            crashes: 0,
            rows: [0; 2],
        }
    }

    /// What handlers have of the process that lives now, alone or in stretches.
    fn all_busy(&self) -> impl Iterator<Item = &Busy> {
        let rows = self.lent.iter().flat_map(|lent| &lent.rows);
        let ours = self.busy.iter().filter(|busy| busy.life == self.life);
        ours.chain(rows)
    }

    fn group(&self, busy: &Busy) -> Option<(i32, u8)> {
        match self.options.order {
            Order::Partition => Some((busy.partition, 0)),
            Order::Key => busy.key.map(|key| (busy.partition, key)),
            Order::None => None,
        }
    }

    fn take(&mut self, most: usize) -> usize {
        let works = self.simulation.take(most);
        self.calls += 1;
        let count = works.len();
        for work in works {
            let busy = self.begin(work.ticket, &work.batch, work.row);
            self.busy.push(busy);
        }
        self.check_limit();
        count
    }

    /// A handler gets a record: what must hold then.
    fn begin(&self, ticket: Ticket, batch: &RecordBatch, row: usize) -> Busy {
        let record = batch.get(row).expect("a row");
        let place = (record.partition(), record.offset());
        let busy = Busy {
            ticket,
            partition: place.0,
            offset: place.1,
            key: self.keys[&place],
            life: self.life,
            assignment: self.assignments.get(&place.0).copied().unwrap_or(0),
            call: self.calls,
        };
        assert!(
            self.assigned.contains(&place.0),
            "{place:?} is not assigned"
        );
        assert!(
            !self.revoking.contains(&place.0),
            "{place:?} is being taken away"
        );
        let skipped = self
            .simulation
            .committed(place.0)
            .map_or(0, |(offset, _)| offset);
        assert!(
            place.1 >= skipped || self.life == 0,
            "{place:?} is below what is committed"
        );
        if let Some(group) = self.group(&busy).filter(|_| !self.options.park_retries) {
            let of_group =
                |other: &&Busy| other.call != busy.call && self.group(other) == Some(group);
            let beside = self.all_busy().find(of_group);
            assert!(beside.is_none(), "{busy:?} is beside {beside:?}");
            self.check_order(&busy);
        }
        busy
    }

    fn check_limit(&self) {
        let limit = self.simulation.in_flight_limit();
        let ours = self.all_busy().count();
        assert!(
            ours <= limit.max(self.options.max_in_flight),
            "{ours} at once"
        );
    }

    /// True while what is done of a record counts.
    fn is_current(&self, busy: &Busy) -> bool {
        let current = self.assignments.get(&busy.partition);
        self.assigned.contains(&busy.partition) && current == Some(&busy.assignment)
    }

    /// What is in order before a record is done, on its way to the dead-letter topic, or handed out together with it.
    fn check_order(&self, busy: &Busy) {
        let letters = self.simulation.pending_letters();
        for (place, key) in &self.keys {
            let is_before = place.0 == busy.partition && place.1 < busy.offset;
            if !is_before || (self.options.order == Order::Key && *key != busy.key) {
                continue;
            }
            let together =
                |other: &Busy| other.call == busy.call && (other.partition, other.offset) == *place;
            assert!(
                self.done.contains(place)
                    || letters.contains(place)
                    || self.all_busy().any(together),
                "{busy:?} has passed {place:?}"
            );
        }
    }

    fn pick(&mut self, index: usize) -> Option<Busy> {
        let ours: Vec<usize> = (0..self.busy.len())
            .filter(|place| self.busy[*place].life == self.life)
            .collect();
        let place = *ours.get(index % ours.len().max(1))?;
        Some(self.busy.remove(place))
    }

    fn answer(&mut self, busy: &Busy, outcome: Outcome) {
        let before = self.simulation.ledger().done;
        let snapshot = self.simulation.finished(busy.partition);
        self.simulation.settle([(busy.ticket, outcome)]);
        let current = self.assignments.get(&busy.partition).copied();
        if !self.assigned.contains(&busy.partition) || current != Some(busy.assignment) {
            let after = self.simulation.finished(busy.partition);
            let done = self.simulation.ledger().done;
            assert_eq!(
                (done, after),
                (before, snapshot),
                "the answer of an old assignment has settled something: {busy:?}"
            );
        }
        // What came too late, or for a partition that is gone, counts for nothing.
        if self.simulation.ledger().done > before {
            self.done.insert((busy.partition, busy.offset));
        }
    }

    /// The broker has what was sent before, which it gets in order.
    fn take_commits(&mut self, most: usize) {
        for commit in self
            .commits
            .iter_mut()
            .filter(|commit| !commit.taken)
            .take(most)
        {
            commit.taken = true;
            self.simulation.take_commit(&commit.offsets);
        }
    }

    /// Of these partitions the broker takes nothing any more that it does not have.
    fn refuse_commits(&mut self, partition: i32) {
        for commit in self.commits.iter_mut().filter(|commit| !commit.taken) {
            commit
                .offsets
                .retain(|offset| offset.topic_partition.partition != partition);
        }
    }

    /// All that decides what can happen next.
    pub(super) fn print(&self) -> String {
        let told = |busy: &Busy| {
            let is_old = self.assignments.get(&busy.partition) != Some(&busy.assignment);
            (busy.partition, busy.offset, busy.life == self.life, is_old)
        };
        let mut busy: Vec<_> = self.busy.iter().map(told).collect();
        busy.sort_unstable();
        let lent = self.lent.iter();
        let lent: Vec<Vec<_>> = lent
            .map(|lent| lent.rows.iter().map(told).collect())
            .collect();
        let commits: Vec<_> = self
            .commits
            .iter()
            .map(|commit| (&commit.offsets, commit.taken))
            .collect();
        format!(
            "{}|{busy:?}|{lent:?}|{:?}|{:?}|{commits:?}|{:?}",
            self.simulation.print(),
            self.assigned,
            self.revoking,
            self.done
        )
    }

    /// What can happen to the commits under way.
    pub(super) fn commit_steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.commits.len() < 2 {
            steps.push(Step::SendCommit);
        }
        if self.commits.iter().any(|commit| !commit.taken) {
            steps.push(Step::TakeCommit);
        }
        if let Some(first) = self.commits.front() {
            steps.push(Step::AnswerCommit(false));
            if first.taken {
                steps.push(Step::AnswerCommit(true));
            }
        }
        steps
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Produce(partition, keys) => {
                for &key in keys {
                    let text = [key];
                    let key = (key > 0).then_some(key);
                    let bytes = key.map(|_| &text[..]);
                    let offset = self.simulation.produce(*partition, bytes, Some(b"v"));
                    self.keys.insert((*partition, offset), key);
                }
            }
            Step::Take(most) => drop(self.take(*most)),
            Step::TakeQuick(most, rows) => drop(self.take_quick(*most, *rows)),
            Step::EndStretch(index, done, is_running) => {
                self.end_stretch(*index, *done, *is_running);
            }
            Step::Done(indices) => {
                for index in indices {
                    if let Some(busy) = self.pick(*index) {
                        self.answer(&busy, Outcome::Done);
                    }
                }
            }
            Step::Fail(index, again, us) => {
                if let Some(busy) = self.pick(*index) {
                    let after = Some(Duration::from_micros(*us));
                    self.answer(&busy, Outcome::failed("E", "no", *again, after));
                }
            }
            Step::GiveBack(index) => {
                if let Some(busy) = self.pick(*index) {
                    self.answer(&busy, Outcome::Unfinished);
                }
            }
            Step::Wait(us) => self.simulation.advance(Duration::from_micros(*us)),
            Step::Commit => {
                self.take_commits(usize::MAX);
                self.simulation.commit();
            }
            Step::SendCommit if self.commits.len() < 2 => {
                let (id, offsets) = self.simulation.send_commit();
                let taken = false;
                if !offsets.is_empty() {
                    self.commits.push_back(UnderWay { id, offsets, taken });
                }
            }
            Step::SendCommit => {}
            Step::TakeCommit => self.take_commits(1),
            Step::AnswerCommit(is_heard) => {
                if *is_heard && self.commits.front().is_some_and(|first| !first.taken) {
                    return;
                }
                if let Some(first) = self.commits.pop_front().filter(|_| *is_heard) {
                    self.simulation.answer_commit(first.id, &first.offsets);
                }
            }
            Step::Outage(outage) => self.simulation.set_commit_outage(*outage),
            Step::HoldLetters(hold) => self.simulation.hold_dead_letters(*hold),
            Step::ConfirmLetters => {
                self.simulation.hold_dead_letters(false);
                self.simulation.hold_dead_letters(true);
            }
            Step::Revoke(partition, at_once) => {
                if self.assigned.contains(partition) && self.revoking.insert(*partition) {
                    self.rebalances += 1;
                    self.simulation.begin_revoke(&[*partition]);
                    if self.is_quick && self.simulation.ledger().dead_letters_pending == 0 {
                        let of_it =
                            |busy: &Busy| busy.partition == *partition && self.is_current(busy);
                        assert_eq!(
                            self.simulation.is_drained(&[*partition]),
                            !self.all_busy().any(of_it),
                            "a revoke waits for what handlers have, and for nothing else"
                        );
                    }
                    if *at_once {
                        self.step(&Step::EndRevoke(*partition));
                    }
                }
            }
            Step::EndRevoke(partition) => {
                if self.revoking.remove(partition) {
                    self.take_commits(usize::MAX);
                    self.simulation.end_revoke(&[*partition]);
                    self.assigned.remove(partition);
                }
            }
            Step::Lose(partition) => {
                if self.assigned.remove(partition) {
                    self.rebalances += 1;
                    self.revoking.remove(partition);
                    self.refuse_commits(*partition);
                    self.simulation.lose(&[*partition]);
                }
            }
            Step::Assign(partition) => {
                if self.assigned.insert(*partition) {
                    *self.assignments.entry(*partition).or_default() += 1;
                    self.simulation.assign(&[*partition]).expect("not assigned");
                }
            }
            Step::Crash => {
                self.crashes += 1;
                self.life += 1;
                self.assigned.clear();
                self.revoking.clear();
                self.commits.clear();
                self.lent.clear();
                self.simulation.crash();
            }
        }
        self.check();
    }

    fn check(&self) {
        let ledger = self.simulation.ledger();
        assert_eq!(ledger.missing(), 0, "{ledger:?}");
        assert_eq!(self.simulation.lines(), &[] as &[String]);
        let running = self.all_busy().count() as u64;
        assert_eq!(ledger.in_flight + ledger.overdue, running, "{ledger:?}");
        let letters: BTreeSet<_> = self
            .simulation
            .dead_letters()
            .iter()
            .map(|letter| (letter.partition, letter.offset))
            .collect();
        let is_finished =
            |place: (i32, i64)| self.done.contains(&place) || letters.contains(&place);
        for partition in 0..PARTITIONS {
            let Some((committed, _)) = self.simulation.committed(partition) else {
                continue;
            };
            for offset in 0..committed {
                assert!(
                    is_finished((partition, offset)),
                    "{partition}: {offset} is lost"
                );
            }
            let map = self.simulation.committed_map(partition);
            for offset in map.iter().flat_map(OffsetMap::done).cloned().flatten() {
                assert!(
                    is_finished((partition, offset)),
                    "{partition}: {offset} is lost in the map"
                );
            }
        }
    }

    /// Everything comes to its end, and a restart then has nothing to repeat.
    pub(super) fn wind_up(&mut self) {
        self.step(&Step::Outage(false));
        self.step(&Step::HoldLetters(false));
        for partition in 0..PARTITIONS {
            self.step(&Step::EndRevoke(partition));
            // What was given back comes again with the next assignment.
            self.step(&Step::Lose(partition));
            self.step(&Step::Assign(partition));
        }
        let mut idle = 0;
        while idle < 60 {
            while let Some(busy) = self.pick(0) {
                self.answer(&busy, Outcome::Done);
            }
            while let Some(lent) = self.lent.first() {
                self.end_stretch(0, lent.rows.len(), false);
            }
            idle = match self.take_quick(6, 6) {
                0 => idle + 1,
                _ => 0,
            };
            self.step(&Step::Wait(20_000));
        }
        let ledger = self.simulation.ledger();
        assert_eq!(ledger.unfinished() + ledger.overdue, 0, "stuck: {ledger:?}");
        self.step(&Step::Commit);
        for partition in 0..PARTITIONS {
            let end = self
                .keys
                .keys()
                .filter(|place| place.0 == partition)
                .count() as i64;
            let committed = self
                .simulation
                .committed(partition)
                .map_or(0, |(offset, _)| offset);
            assert_eq!(committed, end, "{partition}: {ledger:?}");
        }
    }
}

#[test]
fn no_story_loses_a_record_breaks_an_order_or_gets_stuck() {
    const STORIES: u32 = 12_000;
    let counted: BTreeMap<&str, AtomicUsize> = [
        "steps",
        "rebalances",
        "crashes",
        "timed out",
        "skipped",
        "rows done",
        "rows not",
    ]
    .map(|name| (name, AtomicUsize::new(0)))
    .into();
    let stories = (
        options(),
        any::<bool>(),
        prop::collection::vec(step(), 1..120),
    );
    let config = Config {
        cases: STORIES,
        source_file: Some(file!()),
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&stories, |(options, is_quick, steps)| {
            let mut world = match is_quick {
                true => World::quick(options),
                false => World::new(options),
            };
            let (mut skipped, mut timed_out) = (0, 0);
            for step in &steps {
                if matches!(step, Step::Crash) {
                    let ledger = world.simulation.ledger();
                    skipped += ledger.skipped;
                    timed_out += ledger.timed_out;
                }
                world.step(step);
            }
            world.wind_up();
            let ledger = world.simulation.ledger();
            let counts = [
                ("steps", steps.len()),
                ("rebalances", world.rebalances),
                ("crashes", world.crashes),
                ("timed out", (timed_out + ledger.timed_out) as usize),
                ("skipped", (skipped + ledger.skipped) as usize),
                ("rows done", world.rows[0]),
                ("rows not", world.rows[1]),
            ];
            for (name, count) in counts {
                counted[name].fetch_add(count, Ordering::Relaxed);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let counts: Vec<String> = counted
        .iter()
        .map(|(name, count)| format!("{name} {}", count.load(Ordering::Relaxed)))
        .collect();
    let _ = writeln!(
        std::io::stderr(),
        "{STORIES} stories: {}",
        counts.join(", ")
    );
    assert!(
        counted
            .values()
            .all(|count| count.load(Ordering::Relaxed) > 100),
        "{counts:?}"
    );
}
