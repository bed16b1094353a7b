//! Exactly-once in stories that proptest writes: handlers in any order, transactions that are committed, aborted and in doubt, maps of
//! any size, rebalances in the middle of a transaction, crashes. Of each record the committed outputs are there once, and in order.
//!
//! The broker is played as Kafka has it: offsets of a transaction are refused when the member's generation is over; whoever is assigned
//! a partition waits until the open transaction with offsets of it is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::*;
use crate::parallel::dispatcher::Outcome;
use crate::parallel::pending::Attempt;
use crate::partition::OffsetAndMetadata;

const PARTITIONS: i32 = 2;

#[derive(Debug, Clone)]
enum Step {
    Produce(i32, Vec<u8>),
    Take(usize),
    Done(usize),
    Fail(usize),
    Wait(u64),
    /// Outputs are sent.
    Begin,
    /// Offsets are added, if the generation is still the one.
    Offsets,
    /// Committed or aborted by the member.
    End(bool),
    Revoke(i32),
    /// Waits for what is in hand, unless the time is over.
    EndRevoke(i32, bool),
    Lose(i32),
    Assign(i32),
    /// What is open and prepared to be committed is committed or not.
    Crash(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..PARTITIONS;
    prop_oneof![
        4 => (partition.clone(), prop::collection::vec(0..4_u8, 1..12)).prop_map(|(p, keys)| Step::Produce(p, keys)),
        8 => (1..8_usize).prop_map(Step::Take),
        16 => (0..100_usize).prop_map(Step::Done),
        2 => (0..100_usize).prop_map(Step::Fail),
        2 => (1..20_000_u64).prop_map(Step::Wait),
        6 => Just(Step::Begin),
        6 => Just(Step::Offsets),
        6 => prop::bool::weighted(0.7).prop_map(Step::End),
        1 => partition.clone().prop_map(Step::Revoke),
        2 => (partition.clone(), prop::bool::weighted(0.3)).prop_map(|(p, now)| Step::EndRevoke(p, now)),
        1 => partition.clone().prop_map(Step::Lose),
        3 => partition.prop_map(Step::Assign),
        1 => any::<bool>().prop_map(Step::Crash),
    ]
}

fn options() -> impl Strategy<Value = ProcessOptions> {
    let order = prop_oneof![Just(Order::Key), Just(Order::Partition), Just(Order::None)];
    let map_bytes = prop_oneof![2 => Just(4096_usize), 1 => Just(0), 1 => Just(24), 1 => Just(40)];
    (order, map_bytes).prop_map(|(order, offset_map_bytes)| ProcessOptions {
        order,
        offset_map_bytes,
        max_in_flight: 6,
        max_queued: 40,
        max_attempts: Some(2),
        backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(8),
        ..ProcessOptions::default()
    })
}

/// What is broken on purpose, to see that the test finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Offsets are taken whoever has the partition.
    Fencing,
    /// Outputs are committed, and their offsets are not part of the transaction.
    Offsets,
    /// The map of what is done beyond the offset is left out.
    Map,
}

/// A transaction that is open.
struct Open {
    attempt: Option<Attempt>,
    outputs: Vec<(i32, i64)>,
    offsets: Vec<OffsetAndMetadata>,
    /// The broker has the offsets: it can be committed.
    is_ready: bool,
}

struct World {
    simulation: Simulation,
    broken: Broken,
    order: Order,
    keys: HashMap<(i32, i64), Option<u8>>,
    busy: Vec<Work>,
    open: Option<Open>,
    /// Readers see these.
    outputs: Vec<(i32, i64)>,
    assigned: BTreeSet<i32>,
    revoking: BTreeSet<i32>,
    commits: usize,
    aborts: usize,
    rebalances: usize,
    crashes: usize,
}

type Verdict = Result<(), TestCaseError>;

impl World {
    fn new(options: ProcessOptions, broken: Broken) -> World {
        let order = options.order;
        let mut simulation = Simulation::new(options, true).expect("options");
        simulation.make_transactional();
        World {
            simulation,
            broken,
            order,
            keys: HashMap::new(),
            busy: Vec::new(),
            open: None,
            outputs: Vec::new(),
            assigned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            commits: 0,
            aborts: 0,
            rebalances: 0,
            crashes: 0,
        }
    }

    fn pick(&mut self, index: usize) -> Option<Work> {
        let place = index % self.busy.len().max(1);
        (place < self.busy.len()).then(|| self.busy.remove(place))
    }

    fn answer(&mut self, index: usize, outcome: Outcome) {
        if let Some(work) = self.pick(index) {
            self.simulation.settle([(work.ticket, outcome)]);
        }
    }

    fn begin(&mut self) {
        if self.open.is_some() {
            return;
        }
        let attempt = self.simulation.begin_transaction();
        if attempt.is_empty() {
            return;
        }
        let outputs = attempt.records.iter().map(|finished| {
            let record = finished.batch.get(finished.row).expect("a row");
            (record.partition(), record.offset())
        });
        self.open = Some(Open {
            outputs: outputs.collect(),
            offsets: attempt.offsets.clone(),
            attempt: Some(attempt),
            is_ready: false,
        });
    }

    fn send_offsets(&mut self) {
        let checks = self.broken != Broken::Fencing;
        let Some(open) = self.open.as_mut().filter(|open| !open.is_ready) else {
            return;
        };
        let attempt = open.attempt.as_ref();
        match attempt.is_some_and(|attempt| attempt.is_current()) || !checks {
            true => open.is_ready = true,
            false => self.end(false),
        }
    }

    /// The member commits or aborts.
    fn end(&mut self, commits: bool) {
        let Some(mut open) = self.open.take_if(|open| open.is_ready || !commits) else {
            return;
        };
        if let Some(attempt) = open.attempt.take() {
            self.simulation.end_transaction(attempt, commits);
        }
        self.over(open, commits);
    }

    /// The broker ends a transaction.
    fn over(&mut self, mut open: Open, is_committed: bool) {
        if !is_committed {
            self.aborts += 1;
            return;
        }
        self.commits += 1;
        self.outputs.extend(open.outputs);
        if self.broken == Broken::Map {
            for offset in &mut open.offsets {
                offset.metadata = None;
            }
        }
        if self.broken != Broken::Offsets {
            self.simulation.offsets_committed(&open.offsets);
        }
    }

    /// True while the offsets of a partition are part of an open transaction: whoever asks for them waits.
    fn is_unstable(&self, partition: i32) -> bool {
        self.open.as_ref().is_some_and(|open| {
            let of = |offset: &OffsetAndMetadata| offset.partition.partition == partition;
            open.is_ready && open.offsets.iter().any(of)
        })
    }

    fn step(&mut self, step: &Step) -> Verdict {
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
            Step::Take(most) => {
                let works = self.simulation.take(*most);
                self.busy.extend(works);
            }
            Step::Done(index) => {
                self.answer(*index, Outcome::Produced(vec![Output::new("made")]));
            }
            Step::Fail(index) => self.answer(*index, Outcome::failed("E", "no", true, None)),
            Step::Wait(us) => self.simulation.advance(Duration::from_micros(*us)),
            Step::Begin => self.begin(),
            Step::Offsets => self.send_offsets(),
            Step::End(commits) => self.end(*commits),
            Step::Revoke(partition) => {
                if self.assigned.contains(partition) && self.revoking.insert(*partition) {
                    self.rebalances += 1;
                    self.simulation.begin_revoke(&[*partition]);
                }
            }
            Step::EndRevoke(partition, now) => {
                let is_drained = self.simulation.is_drained(&[*partition]);
                if (is_drained || *now) && self.revoking.remove(partition) {
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
                if !self.is_unstable(*partition) && self.assigned.insert(*partition) {
                    self.simulation.assign(&[*partition]).expect("not assigned");
                }
            }
            Step::Crash(commits) => {
                self.crashes += 1;
                self.assigned.clear();
                self.revoking.clear();
                self.busy.clear();
                self.simulation.crash();
                if let Some(mut open) = self.open.take() {
                    open.attempt = None;
                    let commits = *commits && open.is_ready;
                    self.over(open, commits);
                }
            }
        }
        self.check()
    }

    fn check(&self) -> Verdict {
        let ledger = self.simulation.ledger();
        prop_assert_eq!(ledger.missing(), 0, "{:?}", ledger);
        prop_assert_eq!(self.simulation.lines(), &[] as &[String]);
        prop_assert_eq!(ledger.in_flight, self.busy.len() as u64);
        let once: BTreeSet<_> = self.outputs.iter().collect();
        prop_assert_eq!(
            once.len(),
            self.outputs.len(),
            "doubled: {:?}",
            self.outputs
        );
        // Whatever the offsets and maps count as done has its output, and the other way round.
        let mut counted = BTreeSet::new();
        for partition in 0..PARTITIONS {
            let committed = self.simulation.committed(partition);
            let offset = committed.map_or(0, |(offset, _)| offset);
            counted.extend((0..offset).map(|offset| (partition, offset)));
            let map = self.simulation.committed_map(partition);
            let done = map.iter().flat_map(OffsetMap::done).cloned().flatten();
            counted.extend(done.map(|offset| (partition, offset)));
        }
        let outputs: BTreeSet<_> = self.outputs.iter().copied().collect();
        prop_assert_eq!(counted, outputs);
        // In order.
        let mut last: BTreeMap<(i32, u8), i64> = BTreeMap::new();
        for place in &self.outputs {
            let group = match self.order {
                Order::Key => self.keys[place].map(|key| (place.0, key)),
                Order::Partition => Some((place.0, 0)),
                Order::None => None,
            };
            if let Some(group) = group {
                let before = last.insert(group, place.1);
                prop_assert!(
                    before.is_none_or(|before| before < place.1),
                    "{:?} is late",
                    place
                );
            }
        }
        Ok(())
    }

    /// Everything comes to its end.
    fn wind_up(&mut self) -> Verdict {
        self.end(false);
        for partition in 0..PARTITIONS {
            self.step(&Step::Lose(partition))?;
            self.step(&Step::Assign(partition))?;
        }
        for _ in 0..400 {
            let works = self.simulation.take(6);
            self.busy.extend(works);
            while let Some(work) = self.pick(0) {
                let made = Outcome::Produced(vec![Output::new("made")]);
                self.simulation.settle([(work.ticket, made)]);
            }
            self.step(&Step::Wait(20_000))?;
            self.begin();
            self.send_offsets();
            self.end(true);
        }
        self.check()?;
        prop_assert_eq!(
            self.outputs.len(),
            self.keys.len(),
            "lost: {:?}",
            self.simulation.ledger()
        );
        Ok(())
    }
}

/// Tells so many stories; what the first one that goes wrong says.
fn tell(stories: u32, broken: Broken) -> Result<String, String> {
    let counted: BTreeMap<&str, AtomicUsize> = ["commits", "aborts", "rebalances", "crashes"]
        .map(|name| (name, AtomicUsize::new(0)))
        .into();
    let config = Config {
        cases: stories,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(
            &(options(), prop::collection::vec(step(), 1..150)),
            |(options, steps)| {
                let mut world = World::new(options, broken);
                for step in &steps {
                    world.step(step)?;
                }
                world.wind_up()?;
                let counts = [
                    ("commits", world.commits),
                    ("aborts", world.aborts),
                    ("rebalances", world.rebalances),
                    ("crashes", world.crashes),
                ];
                for (name, count) in counts {
                    counted[name].fetch_add(count, Ordering::Relaxed);
                }
                Ok(())
            },
        )
        .map_err(|error| error.to_string())?;
    let counts: Vec<String> = counted
        .iter()
        .map(|(name, count)| format!("{name} {}", count.load(Ordering::Relaxed)))
        .collect();
    Ok(counts.join(", "))
}

#[test]
fn in_every_story_each_record_has_its_output_once() {
    const STORIES: u32 = 3_000;
    let counts = tell(STORIES, Broken::Nothing).unwrap_or_else(|error| panic!("{error}"));
    let _ = writeln!(
        std::io::stderr(),
        "{STORIES} stories of transactions: {counts}"
    );
}

#[test]
fn what_is_broken_on_purpose_is_found() {
    for broken in [Broken::Fencing, Broken::Offsets, Broken::Map] {
        // It ends with the first that is found, after some thousands.
        assert!(tell(100_000, broken).is_err(), "{broken:?} is not found");
    }
}

#[test]
fn after_an_abort_outputs_go_with_the_next_transaction_and_no_handler_is_called_again() {
    let mut simulation = Simulation::new(ProcessOptions::default(), false).expect("options");
    simulation.make_transactional();
    for _ in 0..3 {
        simulation.produce(0, None, Some(b"v"));
    }
    simulation.assign(&[0]).expect("free");
    let works = simulation.take(3);
    let made = |work: &Work| (work.ticket, Outcome::Produced(vec![Output::new("made")]));
    simulation.settle(works[..2].iter().map(made));
    let attempt = simulation.begin_transaction();
    assert_eq!(attempt.records.len(), 2);
    // Handled while the transaction is under way: for the next one.
    simulation.settle([made(&works[2])]);
    simulation.end_transaction(attempt, false);
    assert!(simulation.take(10).is_empty());
    let attempt = simulation.begin_transaction();
    let offsets: Vec<i64> = attempt.records.iter().map(offset_of).collect();
    assert_eq!(offsets, [0, 1, 2]);
    assert_eq!(attempt.offsets[0].offset, 3);
    simulation.end_transaction(attempt, true);
    let ledger = simulation.ledger();
    assert_eq!(
        (ledger.done, ledger.outputs_pending, ledger.missing()),
        (3, 0, 0)
    );
}

fn offset_of(finished: &crate::parallel::pending::Finished) -> i64 {
    finished.batch.offsets()[finished.row]
}

#[test]
fn what_a_revoke_takes_is_not_part_of_a_transaction_and_other_partitions_go_on() {
    let mut simulation = Simulation::new(ProcessOptions::default(), false).expect("options");
    simulation.make_transactional();
    simulation.produce(0, None, Some(b"v"));
    simulation.produce(1, None, Some(b"v"));
    simulation.assign(&[0, 1]).expect("free");
    let works = simulation.take(2);
    simulation.settle(works.iter().map(|work| (work.ticket, Outcome::Done)));
    simulation.begin_revoke(&[0]);
    assert!(!simulation.is_drained(&[0]), "it waits for the transaction");
    let attempt = simulation.begin_transaction();
    assert_eq!(attempt.records.len(), 2);
    simulation.end_revoke(&[0]);
    assert!(!attempt.is_current());
    simulation.end_transaction(attempt, false);
    let attempt = simulation.begin_transaction();
    assert_eq!(attempt.offsets.len(), 1);
    assert_eq!(attempt.offsets[0].partition.partition, 1);
    simulation.end_transaction(attempt, true);
    let ledger = simulation.ledger();
    assert_eq!((ledger.done, ledger.stale, ledger.missing()), (1, 1, 0));
}

#[test]
fn outputs_that_wait_bound_the_intake() {
    let options = ProcessOptions {
        order: Order::None,
        max_queued: 50,
        offset_map_bytes: 0,
        ..ProcessOptions::default()
    };
    let mut simulation = Simulation::new(options, false).expect("options");
    simulation.make_transactional();
    for _ in 0..500 {
        simulation.produce(0, None, Some(b"v"));
    }
    simulation.assign(&[0]).expect("free");
    let stuck = simulation.take(1).remove(0);
    let mut handled = 0;
    loop {
        let works = simulation.take(16);
        if works.is_empty() {
            break;
        }
        handled += works.len();
        simulation.settle(works.iter().map(|work| (work.ticket, Outcome::Done)));
        // Without a map nothing beyond the stuck one can be committed.
        let attempt = simulation.begin_transaction();
        assert!(attempt.is_empty());
    }
    assert!((40..=66).contains(&handled), "{handled}");
    simulation.settle([(stuck.ticket, Outcome::Done)]);
    let attempt = simulation.begin_transaction();
    assert_eq!(attempt.records.len(), handled + 1);
    simulation.end_transaction(attempt, true);
    assert!(!simulation.take(16).is_empty());
}
