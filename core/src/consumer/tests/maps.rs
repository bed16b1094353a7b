//! What is done beyond the committed offset goes with the commit and is not handled again: poller, commit, look-up and the state
//! machine of `parallel` together.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one range of offsets is meant"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::{SECOND, Setup, World, tp};
use crate::TopicPartition;
use crate::offset_map::OffsetMap;
use crate::parallel::Order;
use crate::parallel::parts::{Answer, Ticket, Works};
use crate::parallel::state::{Limits, State};
use crate::partition::Generation;

const LIMIT: usize = 4096;
const RECORDS: i64 = 50_001;

/// Handlers over one consumer of the world.
struct Handling {
    index: usize,
    state: State,
    /// These stay with their handlers.
    stuck: BTreeSet<i64>,
    busy: BTreeMap<i64, (Ticket, Generation)>,
    handled: Vec<i64>,
}

impl Handling {
    fn new(world: &World, index: usize, limit: usize, stuck: &[i64]) -> Handling {
        let shared = world.apps[index].consumer.shared();
        shared.set_offset_map_bytes(limit);
        Handling {
            index,
            state: State::new(Order::None, usize::MAX, Limits::default(), 0),
            stuck: stuck.iter().copied().collect(),
            busy: BTreeMap::new(),
            handled: Vec::new(),
        }
    }

    /// Handles everything there is.
    fn run(&mut self, world: &mut World) {
        let mut idle = 0;
        while idle < 5 {
            world.run_us(1_000);
            let consumer = &world.apps[self.index].consumer;
            let Ok(Some(batch)) = consumer.lease_batch(Some(Duration::ZERO), None) else {
                self.settle(world);
                idle += 1;
                continue;
            };
            idle = 0;
            world.handed(self.index, &batch);
            let skipped = self.state.ledger().skipped;
            self.state.offer(batch.clone());
            if self.state.ledger().skipped > skipped {
                let done: Vec<_> = batch.iter().map(|record| record.offset()).collect();
                let waiting = self.take();
                for record in &batch {
                    let (offset, generation) = (record.offset(), record.generation());
                    if !waiting.contains(&offset) && done.contains(&offset) {
                        self.finished(world, offset, generation);
                    }
                }
            }
            self.settle(world);
        }
    }

    fn take(&mut self) -> BTreeSet<i64> {
        let mut works = Works::default();
        self.state.take(usize::MAX, 0, &mut works);
        let mut taken = BTreeSet::new();
        for work in works.owned() {
            let record = work.batch.get(work.row).expect("a row");
            taken.insert(record.offset());
            self.handled.push(record.offset());
            let place = (work.ticket, record.generation());
            self.busy.insert(record.offset(), place);
        }
        taken
    }

    fn finished(&self, world: &World, offset: i64, generation: Generation) {
        let me = world.apps[self.index].me;
        let mut cluster = world.cluster.lock();
        cluster.was_finished(me, &tp(0), generation, offset);
    }

    fn settle(&mut self, world: &World) {
        self.take();
        let stuck = self.stuck.clone();
        let done: Vec<_> = self
            .busy
            .extract_if(.., |offset, _| !stuck.contains(offset))
            .collect();
        for (offset, (ticket, generation)) in done {
            self.finished(world, offset, generation);
            self.state.answer(ticket, Answer::Done);
        }
        self.state.flush();
        assert_eq!(self.state.ledger().missing(), 0);
    }
}

/// A world with one consumer that has handled all but `stuck`, and has had time to commit.
fn after_the_first_run(limit: usize, stuck: &[i64]) -> World {
    let setup = Setup {
        partitions: 1,
        max_poll_interval_us: 1_000 * SECOND,
        ..Setup::default()
    };
    let mut world = World::reading(setup, RECORDS);
    let mut first = Handling::new(&world, 0, limit, stuck);
    first.run(&mut world);
    assert_eq!(first.handled.len(), RECORDS as usize);
    world.run_us(3 * SECOND);
    assert_eq!(committed(&world), stuck.first().copied());
    world
}

fn committed(world: &World) -> Option<i64> {
    world.cluster.lock().committed.get(&tp(0)).copied()
}

fn map(world: &World) -> Option<OffsetMap> {
    let cluster = world.cluster.lock();
    let text = cluster.metadata.get(&tp(0))?;
    OffsetMap::decode(text).ok()
}

/// The process is killed, and another one handles everything that it is given.
fn second_run(world: &mut World, limit: usize) -> Handling {
    world.crash(0);
    world.subscribe(0);
    let mut second = Handling::new(world, 0, limit, &[]);
    second.run(world);
    second.handled.sort_unstable();
    world.run_us(3 * SECOND);
    let end = world.cluster.lock().logs[&tp(0)].end;
    assert_eq!(committed(world), Some(end));
    let unfinished = world.cluster.lock().unfinished();
    assert_eq!(unfinished, []);
    second
}

#[test]
fn one_stuck_record_beside_fifty_thousand_done_ones_is_all_that_a_restart_repeats() {
    let mut world = after_the_first_run(LIMIT, &[0]);
    let map = map(&world).expect("a map");
    assert_eq!((map.base(), map.done()), (0, &[1..RECORDS][..]));
    let second = second_run(&mut world, LIMIT);
    assert_eq!(second.handled, [0]);
    assert_eq!(second.state.ledger().skipped, RECORDS as u64 - 1);
    let has_metadata = world.cluster.lock().metadata.contains_key(&tp(0));
    assert!(!has_metadata, "nothing is done beyond the end");
}

#[test]
fn several_stuck_records_are_all_that_a_restart_repeats() {
    let stuck = [3, 4, 777, 20_000, 49_999];
    let mut world = after_the_first_run(LIMIT, &stuck);
    assert_eq!(second_run(&mut world, LIMIT).handled, stuck);
}

#[test]
fn with_the_limit_exceeded_everything_is_repeated_and_nothing_lost() {
    // Every tenth is stuck: no form says that in so few bytes.
    let stuck: Vec<_> = (5..RECORDS).step_by(10).collect();
    let mut world = after_the_first_run(300, &stuck);
    assert_eq!(map(&world), None);
    let left_out = world.apps[0].consumer.stats().offset_maps_left_out;
    assert!(left_out > 0);
    let second = second_run(&mut world, LIMIT);
    let expected: Vec<_> = (5..RECORDS).collect();
    assert_eq!(second.handled, expected);
    assert_eq!(second.state.ledger().skipped, 0);
}

#[test]
fn without_a_limit_there_are_no_maps() {
    let mut world = after_the_first_run(0, &[0]);
    assert!(world.cluster.lock().metadata.is_empty());
    assert_eq!(second_run(&mut world, 0).handled.len(), RECORDS as usize);
}

#[test]
fn a_map_that_the_broker_finds_too_long_is_left_out_and_the_offset_committed() {
    let setup = Setup {
        partitions: 1,
        ..Setup::default()
    };
    let mut world = World::reading(setup, 100);
    world.healthy = false;
    world.cluster.lock().most_metadata_bytes = 10;
    let mut first = Handling::new(&world, 0, LIMIT, &[50]);
    first.run(&mut world);
    world.run_us(5 * SECOND);
    assert_eq!((committed(&world), map(&world)), (Some(50), None));
}

#[test]
fn foreign_damaged_and_misplaced_metadata_is_ignored() {
    for text in [
        "somebody else's checkpoint".to_string(),
        "tgmap1:AQcE4wcA4Aew_6lX".to_string(),
        // A map of another base.
        OffsetMap::from_done(7, None, [8..100])
            .encode(LIMIT)
            .expect("a map"),
    ] {
        let mut world = after_the_first_run(LIMIT, &[0]);
        world.cluster.lock().metadata.insert(tp(0), text);
        let second = second_run(&mut world, LIMIT);
        assert_eq!(second.handled.len(), RECORDS as usize);
    }
}

#[test]
fn a_map_goes_on_when_the_next_process_dies_before_it_has_read_that_far() {
    let mut world = after_the_first_run(LIMIT, &[0]);
    world.crash(0);
    world.subscribe(0);
    // Reads only a little, and commits.
    world.cluster.lock().faults.fill_records = 10;
    let second = Handling::new(&world, 0, LIMIT, &[0]);
    world.run_us(1_000);
    world.lease(0, 10);
    world.run_us(3 * SECOND);
    drop(second);
    world.cluster.lock().faults.fill_records = usize::MAX;
    assert_eq!(map(&world).map(|map| map.end()), Some(RECORDS));
    assert_eq!(second_run(&mut world, LIMIT).handled, [0]);
}

#[test]
fn metadata_that_somebody_committed_stays_while_nothing_new_is_done() {
    let setup = Setup {
        partitions: 1,
        ..Setup::default()
    };
    let mut world = World::reading(setup, 10);
    while world.poll(0).is_some() {}
    world.finish_in_hand(0);
    world.run_us(3 * SECOND);
    assert_eq!(committed(&world), Some(10));
    let mine = "mine".to_string();
    world.cluster.lock().metadata.insert(tp(0), mine.clone());
    for limit in [0, LIMIT] {
        world.crash(0);
        world.subscribe(0);
        world.apps[0].consumer.shared().set_offset_map_bytes(limit);
        world.run_us(5 * SECOND);
        assert!(world.poll(0).is_none());
        assert_eq!(world.cluster.lock().metadata.get(&tp(0)), Some(&mine));
    }
}

#[test]
fn a_record_of_a_later_leader_is_none_that_the_map_knows() {
    let cell = |epoch| {
        let cell =
            crate::tracker::PartitionCell::new(TopicPartition::new("t", 0), Generation(1), 0);
        cell.with_map(vec![1..5, 6..9], epoch)
    };
    let offsets = [0, 2, 4, 5, 6, 7];
    for (map_epoch, epoch) in [(3, 3), (3, 2), (3, -1), (-1, 7)] {
        let cell = cell(map_epoch);
        assert_eq!(cell.rows_done_before(&offsets, epoch), [1..3, 4..6]);
        assert_eq!(cell.rows_done_before(&[8, 9], epoch), [0..1]);
        assert!(cell.rows_done_before(&[10], epoch).is_empty());
    }
    let truncated = cell(3);
    assert_eq!(truncated.rows_done_before(&[0, 1], 3), [1..2]);
    assert!(truncated.rows_done_before(&[2, 3], 4).is_empty());
    truncated.deliver(0, 4);
    let snapshot = truncated.snapshot();
    assert_eq!((snapshot.done, snapshot.leader_epoch), (vec![], 4));
}
