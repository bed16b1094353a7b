//! Stories that proptest writes, told to the [`Simulation`]: handlers that fail, hang and answer late, rebalances, crashes, commits and
//! outages, with every kind of option. What must hold is checked after each step, and at the end everything is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::*;
use crate::parallel::dispatcher::Outcome;

const PARTITIONS: i32 = 2;

#[derive(Debug, Clone)]
enum Step {
    Produce(i32, Vec<u8>),
    Take(usize),
    Done(Vec<usize>),
    Fail(usize, bool, u64),
    GiveBack(usize),
    Wait(u64),
    Commit,
    Outage(bool),
    HoldLetters(bool),
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
        8 => prop::collection::vec(index.clone(), 1..6).prop_map(Step::Done),
        3 => (index.clone(), any::<bool>(), 0..30_000_u64).prop_map(|(i, again, us)| Step::Fail(i, again, us)),
        1 => index.prop_map(Step::GiveBack),
        5 => (1..80_000_u64).prop_map(Step::Wait),
        3 => Just(Step::Commit),
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
struct Busy {
    ticket: Ticket,
    partition: i32,
    offset: i64,
    key: Option<u8>,
    /// Which process, which assignment, which call of a handler.
    life: u64,
    call: u64,
}

struct World {
    simulation: Simulation,
    options: ProcessOptions,
    keys: HashMap<(i32, i64), Option<u8>>,
    /// Handlers that have not returned; also those that run over their time.
    busy: Vec<Busy>,
    done: BTreeSet<(i32, i64)>,
    assigned: BTreeSet<i32>,
    revoking: BTreeSet<i32>,
    calls: u64,
    life: u64,
    rebalances: usize,
    crashes: usize,
}

impl World {
    fn new(options: ProcessOptions) -> World {
        World {
            simulation: Simulation::new(options.clone(), true).expect("options"),
            options,
            keys: HashMap::new(),
            busy: Vec::new(),
            done: BTreeSet::new(),
            assigned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            calls: 0,
            life: 0,
            rebalances: 0,
            crashes: 0,
        }
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
            let record = work.batch.get(work.row).expect("a row");
            let place = (record.partition(), record.offset());
            let busy = Busy {
                ticket: work.ticket,
                partition: place.0,
                offset: place.1,
                key: self.keys[&place],
                life: self.life,
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
                let of_group = |other: &&Busy| {
                    other.life == busy.life
                        && other.call != busy.call
                        && self.group(other) == Some(group)
                };
                let beside = self.busy.iter().find(of_group);
                assert!(beside.is_none(), "{busy:?} is beside {beside:?}");
            }
            self.busy.push(busy);
        }
        let limit = self.simulation.in_flight_limit();
        let ours = self
            .busy
            .iter()
            .filter(|busy| busy.life == self.life)
            .count();
        assert!(
            ours <= limit.max(self.options.max_in_flight),
            "{ours} at once"
        );
        count
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
        self.simulation.settle([(busy.ticket, outcome)]);
        // What came too late, or for a partition that is gone, counts for nothing.
        if self.simulation.ledger().done > before {
            self.done.insert((busy.partition, busy.offset));
        }
    }

    fn step(&mut self, step: &Step) {
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
            Step::Commit => drop(self.simulation.commit()),
            Step::Outage(outage) => self.simulation.set_commit_outage(*outage),
            Step::HoldLetters(hold) => self.simulation.hold_dead_letters(*hold),
            Step::Revoke(partition, at_once) => {
                if self.assigned.contains(partition) && self.revoking.insert(*partition) {
                    self.rebalances += 1;
                    self.simulation.begin_revoke(&[*partition]);
                    if *at_once {
                        self.step(&Step::EndRevoke(*partition));
                    }
                }
            }
            Step::EndRevoke(partition) => {
                if self.revoking.remove(partition) {
                    self.simulation.end_revoke(&[*partition]);
                    self.assigned.remove(partition);
                }
            }
            Step::Lose(partition) => {
                if self.assigned.remove(partition) {
                    self.rebalances += 1;
                    self.revoking.remove(partition);
                    self.simulation.lose(&[*partition]);
                }
            }
            Step::Assign(partition) => {
                if self.assigned.insert(*partition) {
                    self.simulation.assign(&[*partition]).expect("not assigned");
                }
            }
            Step::Crash => {
                self.crashes += 1;
                self.life += 1;
                self.assigned.clear();
                self.revoking.clear();
                self.simulation.crash();
            }
        }
        self.check();
    }

    fn check(&self) {
        let ledger = self.simulation.ledger();
        assert_eq!(ledger.missing(), 0, "{ledger:?}");
        assert_eq!(self.simulation.lines(), &[] as &[String]);
        let running = self
            .busy
            .iter()
            .filter(|busy| busy.life == self.life)
            .count() as u64;
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
    fn wind_up(&mut self) {
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
            idle = match self.take(6) {
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
    const STORIES: u32 = 6_000;
    let counted: BTreeMap<&str, AtomicUsize> =
        ["steps", "rebalances", "crashes", "timed out", "skipped"]
            .map(|name| (name, AtomicUsize::new(0)))
            .into();
    let stories = (options(), prop::collection::vec(step(), 1..120));
    let config = Config {
        cases: STORIES,
        source_file: Some(file!()),
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&stories, |(options, steps)| {
            let mut world = World::new(options);
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
