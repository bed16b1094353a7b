//! The state machine under stories that proptest writes, and the dispatcher over the embedded broker.

mod every;
mod futures;
mod pacing;
mod scripted;
mod stories;
mod stretches;
mod transactions;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::parts::{Answer, Works};
use super::state::{Limits, State};
use super::*;
use crate::batch::{BatchBuilder, RecordBatch, TimestampType};
use crate::embedded::Broker;
use crate::partition::{Generation, TopicPartition};
use crate::record::Record;
use crate::tracker::{CellState, PartitionCell};
use crate::{Config, Consumer, ProducerRecord};

const PARTITIONS: usize = 3;
const MAX_IN_FLIGHT: usize = 7;

#[derive(Debug, Clone)]
enum Step {
    /// Records of a partition: the key of each, 0 for none.
    Offer(usize, Vec<u8>),
    Take(usize),
    /// Answers for one that is with a handler.
    Done(usize),
    Retry(usize, u64),
    DeadLetter(usize),
    Return(usize),
    /// The dead-letter topic confirms one.
    Confirm(usize),
    Wait(u64),
    /// Taken away, and assigned again.
    Reassign(usize),
    Pause(usize, bool),
    /// A ticket that was answered before is answered again.
    Again(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..64_usize;
    prop_oneof![
        4 => (0..PARTITIONS, prop::collection::vec(0..5_u8, 1..12)).prop_map(|(p, keys)| Step::Offer(p, keys)),
        6 => (1..6_usize).prop_map(Step::Take),
        8 => index.clone().prop_map(Step::Done),
        2 => (index.clone(), 0..50_u64).prop_map(|(i, us)| Step::Retry(i, us)),
        1 => index.clone().prop_map(Step::DeadLetter),
        1 => index.clone().prop_map(Step::Return),
        2 => index.clone().prop_map(Step::Confirm),
        2 => (1..40_u64).prop_map(Step::Wait),
        1 => (0..PARTITIONS).prop_map(Step::Reassign),
        1 => (0..PARTITIONS, any::<bool>()).prop_map(|(p, on)| Step::Pause(p, on)),
        1 => index.prop_map(Step::Again),
    ]
}

/// What a record is known by: partition, offset, generation.
type Place = (usize, i64, u64);

/// The state machine and what the test knows about its records.
struct World {
    state: State,
    order: Order,
    park: bool,
    now_us: u64,
    cells: Vec<Arc<PartitionCell>>,
    next: Vec<i64>,
    generations: u64,
    handlers: Vec<(Ticket, Place)>,
    letters: Vec<(Ticket, Place)>,
    answered: Vec<Ticket>,
    keys: HashMap<Place, u8>,
    finished: BTreeMap<(usize, u64), BTreeSet<i64>>,
    /// The highest offset that was begun, per partition, generation and order group.
    begun: HashMap<(usize, u64, u8), i64>,
    retried: HashSet<Place>,
    given_back: bool,
}

impl World {
    fn new(order: Order, park: bool) -> World {
        let mut world = World {
            state: State::new(order, MAX_IN_FLIGHT, Limits::default(), 0),
            order,
            park,
            now_us: 0,
            cells: Vec::new(),
            next: vec![0; PARTITIONS],
            generations: 0,
            handlers: Vec::new(),
            letters: Vec::new(),
            answered: Vec::new(),
            keys: HashMap::new(),
            finished: BTreeMap::new(),
            begun: HashMap::new(),
            retried: HashSet::new(),
            given_back: false,
        };
        for partition in 0..PARTITIONS {
            let cell = world.cell(partition, 0);
            world.cells.push(cell);
        }
        world
    }

    fn cell(&mut self, partition: usize, start: i64) -> Arc<PartitionCell> {
        self.generations += 1;
        let generation = Generation(self.generations);
        let partition = TopicPartition::new("t", partition as i32);
        Arc::new(PartitionCell::new(partition, generation, start))
    }

    fn offer(&mut self, partition: usize, keys: &[u8]) {
        let cell = Arc::clone(&self.cells[partition]);
        let mut builder = BatchBuilder::with_capacity(0, 0);
        builder.begin_run(&cell, -1, TimestampType::CreateTime);
        let first = self.next[partition];
        for (offset, key) in (first..).zip(keys) {
            let text = [*key];
            builder.push(
                partition as i32,
                offset,
                0,
                (*key > 0).then_some(&text[..]),
                None,
            );
            self.keys
                .insert((partition, offset, cell.generation().0), *key);
        }
        self.next[partition] += keys.len() as i64;
        assert!(cell.deliver(first, self.next[partition]));
        self.state.offer(RecordBatch::new(builder.finish(0)));
    }

    /// What is in order with one another; none for a record that has no order.
    fn group(&self, place: &Place) -> Option<u8> {
        match (self.order, self.keys[place]) {
            (Order::Partition, _) => Some(0),
            (Order::Key, key) if key > 0 => Some(key),
            _ => None,
        }
    }

    fn take(&mut self, most: usize) {
        let mut works = Works::default();
        self.state.take(most, self.now_us, &mut works);
        assert!(works.len() <= most);
        for Work {
            ticket, batch, row, ..
        } in works.owned()
        {
            let record = batch.get(row).expect("a row of the batch");
            let place = (
                record.partition() as usize,
                record.offset(),
                record.generation().0,
            );
            assert!(!batch.is_stale(row), "{place:?} is stale");
            assert!(!self.cells[place.0].is_paused(), "{place:?} is paused");
            if let Some(group) = self.group(&place) {
                // A parked record goes on beside its key: that is what parking is for.
                let parked = |place: &Place| self.park && self.retried.contains(place);
                let of_its_key =
                    |other: &Place| other.0 == place.0 && self.group(other) == Some(group);
                let beside = self
                    .handlers
                    .iter()
                    .find(|(_, other)| of_its_key(other) && !parked(other));
                assert!(
                    parked(&place) || beside.is_none(),
                    "{place:?} is beside another of its key: {beside:?}"
                );
                let begun = self.begun.entry((place.0, place.2, group)).or_insert(-1);
                if !self.retried.contains(&place) {
                    assert!(*begun < place.1, "{place:?} is out of order");
                    *begun = place.1;
                }
            }
            self.handlers.push((ticket, place));
        }
        assert!(self.handlers.len() <= MAX_IN_FLIGHT);
    }

    fn handler(&mut self, index: usize) -> Option<(Ticket, Place)> {
        if self.handlers.is_empty() {
            return None;
        }
        let index = index % self.handlers.len();
        let taken = self.handlers.swap_remove(index);
        self.answered.push(taken.0);
        Some(taken)
    }

    fn finish(&mut self, place: Place) {
        self.finished
            .entry((place.0, place.2))
            .or_default()
            .insert(place.1);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Offer(partition, keys) => self.offer(*partition, keys),
            Step::Take(most) => self.take(*most),
            Step::Done(index) => {
                if let Some((ticket, place)) = self.handler(*index) {
                    assert!(self.state.answer(ticket, Answer::Done));
                    self.finish(place);
                }
            }
            Step::Retry(index, us) => {
                if let Some((ticket, place)) = self.handler(*index) {
                    self.answered.pop();
                    let due_us = self.now_us + us;
                    self.retried.insert(place);
                    let park = self.park;
                    assert!(self.state.answer(ticket, Answer::Retry { due_us, park }));
                }
            }
            Step::DeadLetter(index) => {
                if let Some((ticket, place)) = self.handler(*index) {
                    self.answered.pop();
                    assert!(self.state.answer(ticket, Answer::DeadLetter));
                    self.letters.push((ticket, place));
                }
            }
            Step::Return(index) => {
                if let Some((ticket, _)) = self.handler(*index) {
                    assert!(self.state.answer(ticket, Answer::Return));
                    self.given_back = true;
                }
            }
            Step::Confirm(index) => {
                if !self.letters.is_empty() {
                    let index = index % self.letters.len();
                    let (ticket, place) = self.letters.swap_remove(index);
                    assert!(self.state.dead_lettered(ticket));
                    self.finish(place);
                }
            }
            Step::Wait(us) => self.now_us += us,
            Step::Reassign(partition) => {
                self.cells[*partition].advance_state(CellState::Revoking);
                self.state.drop_stale();
                self.check();
                let old = Arc::clone(&self.cells[*partition]);
                let busy = self
                    .handlers
                    .iter()
                    .chain(&self.letters)
                    .any(|(_, place)| place.0 == *partition && place.2 == old.generation().0);
                // What waits does not hold up a revoke, what a handler has does.
                assert_eq!(old.has_in_hand(), busy);
                old.advance_state(CellState::Closed);
                // Read again from what was committed.
                let start = old.finished();
                self.next[*partition] = start;
                self.cells[*partition] = self.cell(*partition, start);
            }
            Step::Pause(partition, paused) => self.cells[*partition].set_paused(*paused),
            Step::Again(index) => {
                if !self.answered.is_empty() {
                    let ticket = self.answered[index % self.answered.len()];
                    if !self.handlers.iter().any(|(other, _)| *other == ticket) {
                        assert!(!self.state.answer(ticket, Answer::Done));
                    }
                }
            }
        }
        self.state.flush();
        self.check();
    }

    fn check(&self) {
        let ledger = self.state.ledger();
        assert_eq!(ledger.missing(), 0, "{ledger:?}");
        assert_eq!(ledger.in_flight as usize, self.handlers.len());
        assert_eq!(ledger.dead_letters_pending as usize, self.letters.len());
        for (partition, cell) in self.cells.iter().enumerate() {
            let done = self.finished.get(&(partition, cell.generation().0));
            let from = self
                .keys
                .keys()
                .filter(|place| place.0 == partition && place.2 == cell.generation().0)
                .map(|place| place.1)
                .min();
            for offset in from.into_iter().flat_map(|from| from..cell.finished()) {
                assert!(
                    done.is_some_and(|done| done.contains(&offset)),
                    "{partition} is committed beyond {offset}, which is not finished"
                );
            }
        }
    }

    /// Everything comes to its end.
    fn wind_up(&mut self) {
        for cell in &self.cells {
            cell.set_paused(false);
        }
        // A key of which something was given back waits for the next assignment.
        for partition in 0..PARTITIONS {
            if self.given_back {
                self.step(&Step::Reassign(partition));
            }
        }
        for _ in 0..10_000 {
            self.now_us += 1_000;
            self.take(MAX_IN_FLIGHT);
            while let Some((ticket, place)) = self.handler(0) {
                self.state.answer(ticket, Answer::Done);
                self.finish(place);
            }
            while let Some((ticket, place)) = self.letters.pop() {
                self.state.dead_lettered(ticket);
                self.finish(place);
            }
            self.state.flush();
            self.check();
            if self.state.ledger().unfinished() == 0 {
                // Shards that were emptied by a revoke are forgotten when their turn comes.
                self.take(1);
                assert_eq!(self.state.occupied(), (0, 0, 0), "memory of what has ended");
                assert_eq!(self.state.held_bytes(), 0);
                return;
            }
        }
        panic!("stuck: {:?}", self.state.ledger());
    }
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Key), Just(Order::Partition), Just(Order::None)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(
        order in order(),
        park in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(order, park);
        for step in &steps {
            world.step(step);
        }
        world.wind_up();
    }
}

/// A broker with `records` in topic "t": keys go round, values count up.
fn filled(partitions: i32, records: usize, keys: usize) -> (Broker, Config) {
    let broker = Broker::with_topics(&[("t", partitions), ("dead", 1)]).expect("a broker");
    let config = Config::new().with("bootstrap.servers", broker.bootstrap_servers());
    let producer = Producer::new(&config).expect("a producer");
    for number in 0..records {
        let key = format!("key-{}", number % keys);
        let value = number.to_string();
        let record = ProducerRecord::new("t").key(&key).value(&value);
        producer.send(&record).expect("sent");
    }
    producer.flush(Duration::from_secs(30)).expect("flushed");
    (broker, config)
}

fn subscribed(config: &Config, group: &str) -> Arc<Consumer> {
    let config = config
        .clone()
        .with("group.id", group)
        .with("session.timeout.ms", 6000)
        .with("auto.offset.reset", "earliest");
    let consumer = Arc::new(Consumer::new(&config).expect("a consumer"));
    consumer.subscribe(&["t"]).expect("subscribed");
    consumer
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn number(record: &Record<'_>) -> usize {
    let text = std::str::from_utf8(record.value().expect("a value")).expect("text");
    text.parse().expect("a number")
}

#[test]
fn slow_handlers_run_side_by_side_and_each_key_in_order() {
    let (_broker, config) = filled(2, 200, 20);
    let consumer = subscribed(&config, "g");
    let seen: Arc<Mutex<HashMap<Vec<u8>, Vec<usize>>>> = Arc::default();
    let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let options = ProcessOptions {
        max_in_flight: 10,
        ..ProcessOptions::default()
    };
    let processing = {
        let (seen, busy, most) = (Arc::clone(&seen), Arc::clone(&busy), Arc::clone(&most));
        consumer.process(options, move |record| {
            let now = busy.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            let key = record.key().unwrap_or_default().to_vec();
            seen.lock().entry(key).or_default().push(number(record));
            busy.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    }
    .expect("processing");
    until("200 done", || processing.ledger().done == 200);
    let report = processing.stop(Duration::from_secs(10)).expect("stopped");
    assert!(report.is_drained && report.ledger.received == 200);
    assert!(
        most.load(Ordering::SeqCst) > 5,
        "they ran one after the other"
    );
    for numbers in seen.lock().values() {
        assert_eq!(numbers.len(), 10);
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    let partitions = [TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
    let committed = consumer
        .committed(&partitions, Duration::from_secs(10))
        .expect("committed");
    assert_eq!(
        committed
            .iter()
            .filter_map(|(_, offset)| *offset)
            .sum::<i64>(),
        200
    );
    consumer.close(Duration::from_secs(10)).expect("closed");
}

#[test]
fn what_fails_is_tried_again_and_then_goes_to_the_dead_letter_topic() {
    let (_broker, config) = filled(1, 30, 3);
    let consumer = subscribed(&config, "g");
    let options = ProcessOptions {
        max_attempts: Some(3),
        backoff: Duration::from_millis(1),
        on_failure: OnFailure::dead_letter_topic(&consumer, "dead").expect("a producer"),
        ..ProcessOptions::default()
    };
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let processing = consumer
        .process(options, move |record| {
            counted.fetch_add(1, Ordering::SeqCst);
            match number(record) {
                7 => Err(HandlerError::retriable("the model is away").kind("Away")),
                11 => Err(HandlerError::terminal("no such camera")),
                13 => panic!("a defect of the handler"),
                _ => Ok(()),
            }
        })
        .expect("processing");
    until("all settled", || {
        let ledger = processing.ledger();
        ledger.done == 27 && ledger.dead_lettered == 3
    });
    assert_eq!(calls.load(Ordering::SeqCst), 27 + 3 + 1 + 3);
    assert!(
        processing
            .stop(Duration::from_secs(10))
            .expect("stopped")
            .is_drained
    );
    let readers = config
        .with("group.id", "dead")
        .with("auto.offset.reset", "earliest");
    let dead = Consumer::new(&readers).expect("a consumer");
    dead.subscribe(&["dead"]).expect("subscribed");
    let mut reasons = BTreeMap::new();
    while reasons.len() < 3 {
        let record = dead
            .poll(Some(Duration::from_secs(30)))
            .expect("polled")
            .expect("a copy");
        let header = |name: &str| {
            record
                .headers()
                .find(|header| header.name() == name)
                .and_then(|header| {
                    header
                        .value
                        .map(|value| String::from_utf8_lossy(value).into_owned())
                })
                .unwrap_or_default()
        };
        assert_eq!(header("tidegate.dlq.topic"), "t");
        assert_eq!(header("tidegate.dlq.group"), "g");
        let ms = |name: &str| header(name).parse::<u64>().expect("milliseconds");
        let (first, last) = (ms("tidegate.dlq.first_ms"), ms("tidegate.dlq.last_ms"));
        assert!(first > 1_700_000_000_000 && first <= last, "{first} {last}");
        let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
        reasons.insert(
            value,
            (header("tidegate.dlq.text"), header("tidegate.dlq.attempts")),
        );
    }
    let expected = |text: &str, attempts: &str| (text.to_string(), attempts.to_string());
    assert_eq!(reasons["7"], expected("the model is away", "3"));
    assert_eq!(reasons["11"], expected("no such camera", "1"));
    assert_eq!(reasons["13"], expected("a defect of the handler", "3"));
}

#[test]
fn while_the_dead_letter_topic_is_away_nothing_is_lost_and_nothing_spins() {
    let (_broker, config) = filled(1, 10, 10);
    let (dead, dead_config) = filled(1, 0, 1);
    let producer = dead_config
        .with("message.timeout.ms", 300)
        .with("linger.ms", 0);
    let producer = Producer::new(&producer).expect("a producer");
    dead.broker_down(1).expect("down");
    let consumer = subscribed(&config, "g");
    let options = ProcessOptions {
        on_failure: OnFailure::DeadLetter {
            producer: producer.clone(),
            topic: "dead".into(),
        },
        ..ProcessOptions::default()
    };
    let processing = consumer
        .process(options, |record| match number(record) {
            3 => Err(HandlerError::terminal("never")),
            _ => Ok(()),
        })
        .expect("processing");
    until("refused", || producer.stats().records_failed >= 2);
    let ledger = processing.ledger();
    assert_eq!((ledger.done, ledger.dead_letters_pending), (9, 1));
    let wait = Duration::from_secs(10);
    consumer.commit(wait).expect("committed");
    let committed = consumer.committed(&[TopicPartition::new("t", 0)], wait);
    assert_eq!(committed.expect("committed")[0].1, Some(3));
    // Each time the pause is twice as long: in the time of two refusals there cannot have been many.
    assert!(producer.stats().records_sent < 10);
    dead.broker_up(1).expect("up");
    until("confirmed", || processing.ledger().dead_lettered == 1);
    let report = processing.stop(Duration::from_secs(10)).expect("stopped");
    assert!(report.is_drained);
    consumer.close(Duration::from_secs(10)).expect("closed");
}

#[test]
fn without_a_dead_letter_topic_a_failure_ends_it_and_the_record_comes_again() {
    let (_broker, config) = filled(1, 10, 1);
    let consumer = subscribed(&config, "g");
    let processing = consumer
        .process(ProcessOptions::default(), |record| match number(record) {
            4 => Err(HandlerError::terminal("this one cannot be")),
            _ => Ok(()),
        })
        .expect("processing");
    let error = processing.wait().expect_err("an error");
    assert!(error.to_string().contains("this one cannot be"), "{error}");
    assert!(error.to_string().contains("t [0] offset 4"), "{error}");
    assert!(processing.stop(Duration::from_secs(10)).is_err());
    consumer.close(Duration::from_secs(10)).expect("closed");
    let again = subscribed(&config, "g");
    let record = again
        .poll(Some(Duration::from_secs(30)))
        .expect("polled")
        .expect("a record");
    assert_eq!(record.offset(), 4);
}

#[test]
fn a_stop_is_bounded_and_gives_back_what_waits() {
    let (_broker, config) = filled(1, 50, 50);
    let consumer = subscribed(&config, "g");
    let options = ProcessOptions {
        max_in_flight: 2,
        ..ProcessOptions::default()
    };
    let (hold, release) = crossbeam_channel::bounded::<()>(0);
    let processing = consumer
        .process(options, move |_| {
            // Until the sender goes.
            let _ = release.recv();
            Ok(())
        })
        .expect("processing");
    until("two in flight", || {
        processing.ledger().in_flight == 2 && processing.ledger().queued > 0
    });
    let start = Instant::now();
    let report = processing
        .stop(Duration::from_millis(100))
        .expect("stopped");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(!report.is_drained);
    assert_eq!(
        (
            report.ledger.in_flight,
            report.ledger.queued,
            report.ledger.done
        ),
        (2, 0, 0)
    );
    assert_eq!(report.ledger.missing(), 0);
    drop(hold);
    consumer.close(Duration::from_secs(10)).expect("closed");
}

#[test]
fn closing_the_consumer_ends_it() {
    let (_broker, config) = filled(1, 10, 1);
    let consumer = subscribed(&config, "g");
    let processing = consumer
        .process(ProcessOptions::default(), |_| Ok(()))
        .expect("processing");
    until("all done", || processing.ledger().done == 10);
    consumer.close(Duration::from_secs(10)).expect("closed");
    processing.wait().expect("ended without an error");
}

#[test]
fn bad_options_are_told() {
    let (_broker, config) = filled(1, 0, 1);
    let consumer = subscribed(&config, "g");
    let refused = |change: fn(&mut ProcessOptions), argument: &str| {
        let mut options = ProcessOptions::default();
        change(&mut options);
        match consumer.process(options, |_| Ok(())) {
            Err(Error::Argument { argument: told, .. }) => assert_eq!(told, argument),
            other => panic!("{argument}: {other:?}"),
        }
    };
    refused(|options| options.max_in_flight = 0, "max_in_flight");
    refused(|options| options.max_queued = 0, "max_queued");
    refused(|options| options.max_bytes = 0, "max_bytes");
    refused(|options| options.max_attempts = Some(0), "max_attempts");
    refused(
        |options| options.backoff = Duration::from_secs(100),
        "backoff",
    );
    consumer.close(Duration::from_secs(10)).expect("closed");
    assert!(matches!(
        consumer.process(ProcessOptions::default(), |_| Ok(())),
        Err(Error::Closed { .. })
    ));
}

#[test]
fn pauses_double_up_to_the_longest() {
    let options = ProcessOptions::default();
    let pause = |attempt| options.pause(attempt, 0.5);
    assert_eq!(pause(1), Duration::from_millis(100));
    assert_eq!(pause(2), Duration::from_millis(200));
    assert_eq!(pause(40), Duration::from_secs(30));
    assert_eq!(pause(u32::MAX), Duration::from_secs(30));
    assert!(options.pause(1, 0.0) < options.pause(1, 1.0));
}
