//! Batches, deadlines, limits of speed and of dead letters, fairness and memory, each by itself, in virtual time.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use super::super::*;
use crate::parallel::dispatcher::Outcome;

fn with(change: impl FnOnce(&mut ProcessOptions)) -> Simulation {
    simulation(false, change)
}

fn simulation(dead_letters: bool, change: impl FnOnce(&mut ProcessOptions)) -> Simulation {
    let mut options = ProcessOptions {
        max_in_flight: 100,
        backoff: Duration::ZERO,
        ..ProcessOptions::default()
    };
    change(&mut options);
    Simulation::new(options, dead_letters).expect("options")
}

fn fill(simulation: &mut Simulation, partition: i32, keys: &[&str]) {
    for key in keys {
        simulation.produce(partition, Some(key.as_bytes()), Some(b"v"));
    }
}

fn place(work: &Work) -> (i32, i64) {
    let record = work.batch.get(work.row).expect("a row");
    (record.partition(), record.offset())
}

fn offsets(works: &[Work]) -> Vec<i64> {
    works.iter().map(|work| place(work).1).collect()
}

fn done(simulation: &mut Simulation, works: &[Work]) {
    simulation.settle(works.iter().map(|work| (work.ticket, Outcome::Done)));
}

fn failed(is_retriable: bool) -> Outcome {
    Outcome::failed("Away", "not now", is_retriable, None)
}

#[test]
fn a_batch_waits_to_be_full_and_no_longer_than_its_time() {
    let mut simulation = with(|options| {
        options.batch_size = 4;
        options.batch_timeout = Duration::from_millis(50);
    });
    fill(&mut simulation, 0, &["a", "b", "a", "c", "a", "d"]);
    simulation.assign(&[0]).expect("assigned");
    let first = simulation.take(1);
    assert_eq!(first.len(), 4, "a full one, whatever was asked for");
    // The rest of "a" and "d", of which "a" may have to wait for its handler.
    assert!(simulation.take(1).is_empty());
    simulation.advance(Duration::from_millis(49));
    assert!(simulation.take(1).is_empty());
    assert_eq!(simulation.next_due(), Some(Duration::from_millis(1)));
    simulation.advance(Duration::from_millis(1));
    let second = simulation.take(1);
    assert!(!second.is_empty());
    done(&mut simulation, &first);
    done(&mut simulation, &second);
    simulation.advance(Duration::from_millis(50));
    let third = simulation.take(1);
    done(&mut simulation, &third);
    assert_eq!(simulation.ledger().done, 6);
}

#[test]
fn records_of_one_key_follow_each_other_in_a_batch_and_in_the_next_only_after_it() {
    let mut simulation = with(|options| {
        options.batch_size = 3;
        options.max_attempts = None;
    });
    fill(&mut simulation, 0, &["a"; 7]);
    simulation.assign(&[0]).expect("assigned");
    let works = simulation.take(1);
    assert_eq!(offsets(&works), [0, 1, 2]);
    assert!(simulation.take(1).is_empty(), "the key is busy");
    // The batch failed; it comes again as it was, also when its answers come in another order.
    let answers = [works[2].ticket, works[0].ticket, works[1].ticket];
    simulation.settle(answers.map(|ticket| (ticket, failed(true))));
    let works = simulation.take(1);
    assert_eq!(offsets(&works), [0, 1, 2]);
    done(&mut simulation, &works);
    assert_eq!(offsets(&simulation.take(1)), [3, 4, 5]);
}

/// A shard that a lost assignment had emptied stood first in line, and hid from the clock what waited behind it.
#[test]
fn what_waits_behind_something_stale_is_handed_out_in_time() {
    let mut simulation = with(|options| options.batch_size = 3);
    fill(&mut simulation, 0, &["a", "b"]);
    simulation.assign(&[0]).expect("assigned");
    assert!(simulation.take(1).is_empty());
    simulation.lose(&[0]);
    simulation.assign(&[0]).expect("assigned");
    assert!(simulation.take(1).is_empty());
    simulation.advance(Duration::from_millis(100));
    assert_eq!(simulation.take(1).len(), 2);
}

/// The timer of the attempt that had failed woke the record when that attempt would have been over its time.
#[test]
fn a_retry_waits_as_long_as_it_was_told_to_also_beyond_the_time_of_an_attempt() {
    let mut simulation = with(|options| {
        options.attempt_timeout = Some(Duration::from_secs(30));
        options.max_attempts = Some(2);
    });
    fill(&mut simulation, 0, &["a"]);
    simulation.assign(&[0]).expect("assigned");
    let works = simulation.take(1);
    let busy = Outcome::failed("Busy", "later", true, Some(Duration::from_secs(60)));
    simulation.settle([(works[0].ticket, busy)]);
    simulation.advance(Duration::from_secs(59));
    assert!(simulation.take(1).is_empty());
    simulation.advance(Duration::from_secs(1));
    assert_eq!(simulation.take(1).len(), 1);
}

/// Whoever waited until "now" woke at once and waited again: a whole core, for as long as every hand was full.
#[test]
fn nothing_is_due_while_every_hand_is_full_or_the_budget_is_used_up() {
    let mut simulation = with(|options| {
        options.batch_size = 2;
        options.max_in_flight = 2;
        options.rate_limit = Some(1.0);
        options.order = Order::None;
    });
    fill(&mut simulation, 0, &["a", "b", "c", "d"]);
    simulation.assign(&[0]).expect("assigned");
    let works = simulation.take(2);
    assert!(!works.is_empty());
    let second = simulation.take(2);
    simulation.advance(Duration::from_secs(20));
    let third = simulation.take(2);
    let full: Vec<_> = works.into_iter().chain(second).chain(third).collect();
    assert_eq!(full.len(), 2);
    // Both hands are full: only an answer makes room.
    assert_eq!(simulation.next_due(), None);
    for work in &full {
        simulation.charge(work.ticket, 100.0);
    }
    done(&mut simulation, &full);
    assert!(simulation.take(2).is_empty(), "the debt comes first");
    let due = simulation.next_due().expect("a time");
    assert!(due > Duration::from_secs(60), "{due:?}");
    simulation.advance(due);
    assert!(!simulation.take(2).is_empty());
}

/// The time at which a budget was paid off, long over, was taken for the time at which the rest of a batch is due.
#[test]
fn a_batch_that_waits_for_others_is_due_when_its_time_is_over_and_not_before() {
    let mut simulation = with(|options| {
        options.batch_size = 2;
        options.rate_limit = Some(10.0);
        options.order = Order::None;
        options.batch_timeout = Duration::from_secs(5);
    });
    fill(&mut simulation, 0, &["a", "b"]);
    simulation.assign(&[0]).expect("assigned");
    let works = simulation.take(2);
    done(&mut simulation, &works);
    assert_eq!(simulation.take(2).len(), 0, "the budget is used up");
    simulation.advance(Duration::from_secs(1));
    assert!(simulation.take(2).is_empty(), "one alone waits");
    assert_eq!(simulation.next_due(), Some(Duration::from_secs(4)));
}

#[test]
fn a_batch_may_be_of_one_partition() {
    let mut simulation = with(|options| {
        options.batch_size = 3;
        options.batch_of_one_partition = true;
        options.order = Order::None;
    });
    for partition in 0..2 {
        fill(&mut simulation, partition, &["a", "b", "c"]);
    }
    simulation.assign(&[0, 1]).expect("assigned");
    for _ in 0..2 {
        let works = simulation.take(1);
        let partitions: Vec<_> = works.iter().map(|work| place(work).0).collect();
        assert_eq!(partitions.len(), 3);
        assert!(
            partitions
                .iter()
                .all(|partition| *partition == partitions[0])
        );
    }
}

#[test]
fn an_attempt_over_its_time_has_failed_and_its_key_waits_for_the_handler() {
    let mut simulation = simulation(true, |options| {
        options.attempt_timeout = Some(Duration::from_secs(2));
        options.max_attempts = Some(2);
    });
    fill(&mut simulation, 0, &["a", "a", "b"]);
    simulation.assign(&[0]).expect("assigned");
    let works = simulation.take(10);
    assert_eq!(offsets(&works), [0, 2]);
    done(&mut simulation, &works[1..]);
    assert_eq!(simulation.next_due(), Some(Duration::from_secs(2)));
    simulation.advance(Duration::from_secs(2));
    simulation.advance(Duration::from_secs(1));
    let ledger = simulation.ledger();
    assert_eq!(
        (ledger.timed_out, ledger.overdue, ledger.in_flight),
        (1, 1, 0)
    );
    assert!(
        simulation.take(10).is_empty(),
        "the first handler still runs"
    );
    // It returns at last, and nobody believes it.
    done(&mut simulation, &works[..1]);
    assert_eq!(
        (simulation.ledger().overdue, simulation.ledger().done),
        (0, 1)
    );
    let again = simulation.take(10);
    assert_eq!((offsets(&again), again[0].attempts), (vec![0], 1));
    // The second time it is for good, though the handler has not returned.
    simulation.advance(Duration::from_secs(3));
    assert_eq!(simulation.dead_letters()[0].kind, "TimedOut");
    assert_eq!(simulation.dead_letters()[0].attempts, 2);
    assert!(
        simulation.take(10).is_empty(),
        "the second handler still runs"
    );
    assert!(simulation.commit());
    assert_eq!(
        simulation.committed(0),
        Some((1, simulation.committed(0).and_then(|c| c.1)))
    );
    done(&mut simulation, &again);
    assert_eq!(offsets(&simulation.take(10)), [1]);
    assert_eq!(simulation.ledger().missing(), 0);
}

#[test]
fn handlers_over_their_time_still_take_their_room() {
    let mut simulation = with(|options| {
        options.attempt_timeout = Some(Duration::from_secs(1));
        options.max_in_flight = 3;
        options.max_attempts = None;
        options.order = Order::None;
    });
    fill(&mut simulation, 0, &["a"; 10]);
    simulation.assign(&[0]).expect("assigned");
    let hanging = simulation.take(10);
    assert_eq!(hanging.len(), 3);
    simulation.advance(Duration::from_secs(5));
    assert!(simulation.take(10).is_empty());
    done(&mut simulation, &hanging[..1]);
    assert_eq!(simulation.take(10).len(), 1);
}

#[test]
fn so_many_records_a_second_are_begun_and_no_more() {
    let mut simulation = with(|options| {
        options.rate_limit = Some(50.0);
        options.order = Order::None;
    });
    fill(&mut simulation, 0, &["a"; 5_000]);
    simulation.assign(&[0]).expect("assigned");
    let mut begun = 0;
    while simulation.now() < Duration::from_secs(20) {
        let works = simulation.take(100);
        begun += works.len();
        done(&mut simulation, &works);
        let due = simulation.next_due().expect("the budget's time");
        simulation.advance(due.max(Duration::from_micros(1)));
    }
    assert!((990..=1_002).contains(&begun), "{begun}");
}

#[test]
fn what_a_record_costs_counts() {
    let mut simulation = with(|options| options.rate_limit = Some(1_000.0));
    fill(&mut simulation, 0, &["a"; 500]);
    simulation.assign(&[0]).expect("assigned");
    let mut begun = 0;
    while simulation.now() < Duration::from_secs(10) {
        let works = simulation.take(100);
        for work in &works {
            simulation.charge(work.ticket, 250.0);
        }
        begun += works.len();
        done(&mut simulation, &works);
        simulation.advance(Duration::from_millis(1));
    }
    assert!((38..=42).contains(&begun), "{begun}");
}

#[test]
fn a_retry_after_holds_up_all_if_that_is_asked_for() {
    for holds_all in [false, true] {
        let mut simulation = with(|options| {
            options.retry_after_holds_all = holds_all;
            options.max_attempts = None;
        });
        fill(&mut simulation, 0, &["a", "b", "c"]);
        simulation.assign(&[0]).expect("assigned");
        let works = simulation.take(1);
        let busy = Outcome::failed("Busy", "429", true, Some(Duration::from_secs(5)));
        simulation.settle([(works[0].ticket, busy)]);
        assert_eq!(simulation.take(10).len(), if holds_all { 0 } else { 2 });
        simulation.advance(Duration::from_secs(5));
        assert_eq!(simulation.take(10).len(), if holds_all { 3 } else { 1 });
    }
}

#[test]
fn records_at_once_follow_what_the_service_bears() {
    let mut simulation = with(|options| {
        options.min_in_flight = Some(2);
        options.max_in_flight = 64;
        options.order = Order::None;
        options.max_attempts = None;
    });
    fill(&mut simulation, 0, &["a"; 20_000]);
    simulation.assign(&[0]).expect("assigned");
    assert_eq!(simulation.in_flight_limit(), 2);
    for _ in 0..400 {
        let works = simulation.take(100);
        simulation.advance(Duration::from_millis(10));
        done(&mut simulation, &works);
    }
    let grown = simulation.in_flight_limit();
    assert!(grown > 20, "{grown}");
    for _ in 0..40 {
        let works = simulation.take(100);
        simulation.advance(Duration::from_millis(10));
        simulation.settle(works.iter().map(|work| (work.ticket, failed(true))));
    }
    assert_eq!(simulation.in_flight_limit(), 2);
}

#[test]
fn a_hot_key_and_a_hot_partition_starve_nobody() {
    let mut simulation = with(|options| options.max_in_flight = 4);
    fill(&mut simulation, 0, &["hot"; 3_000]);
    fill(&mut simulation, 0, &["a", "b", "c"]);
    fill(&mut simulation, 1, &["d", "e", "f"]);
    simulation.assign(&[0, 1]).expect("assigned");
    let mut rounds = BTreeMap::new();
    for round in 0..10 {
        let works = simulation.take(4);
        for work in &works {
            let record = work.batch.get(work.row).expect("a row");
            let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
            rounds.entry(key).or_insert(round);
        }
        done(&mut simulation, &works);
    }
    for key in ["a", "b", "c", "d", "e", "f"] {
        assert!(
            rounds.get(key).is_some_and(|round| *round < 4),
            "{key}: {rounds:?}"
        );
    }
}

#[test]
fn more_dead_letters_than_allowed_stop_it_or_the_partition_and_lose_nothing() {
    for on_limit in [OnLimit::Stop, OnLimit::PausePartition] {
        let mut simulation = simulation(true, |options| {
            options.dead_letter_limit = Some(2);
            options.on_limit = on_limit;
            options.order = Order::Partition;
        });
        for partition in 0..2 {
            fill(&mut simulation, partition, &["a"; 5]);
        }
        simulation.assign(&[0, 1]).expect("assigned");
        for _ in 0..20 {
            let works = simulation.take(10);
            let answer = |work: &Work| match place(work).0 {
                0 => failed(false),
                _ => Outcome::Done,
            };
            simulation.settle(works.iter().map(|work| (work.ticket, answer(work))));
        }
        let ledger = simulation.ledger();
        assert_eq!(
            (ledger.dead_lettered, ledger.returned, ledger.missing()),
            (2, 1, 0)
        );
        assert!(simulation.commit());
        assert_eq!(
            simulation.committed(0),
            Some((2, None)),
            "the third comes again"
        );
        match on_limit {
            OnLimit::Stop => {
                let error = simulation.failure().expect("an error").to_string();
                assert!(error.contains("dead_letter_limit"), "{error}");
            }
            OnLimit::PausePartition => {
                assert!(simulation.failure().is_none());
                assert_eq!(simulation.committed(1), Some((5, None)), "others go on");
                assert_eq!(simulation.lines().len(), 1, "{:?}", simulation.lines());
                simulation.lose(&[0]);
                simulation.assign(&[0]).expect("assigned");
                assert_eq!(offsets(&simulation.take(1)), [2]);
            }
        }
    }
}

#[test]
fn a_record_in_flight_or_queued_takes_few_bytes() {
    const RECORDS: usize = 10_000;
    const MOST_BYTES: usize = 300;
    for order in [Order::Key, Order::None] {
        let mut simulation = with(|options| {
            options.order = order;
            options.max_in_flight = RECORDS;
            options.attempt_timeout = Some(Duration::from_secs(1));
        });
        for number in 0..RECORDS {
            simulation.produce(0, Some(&number.to_le_bytes()), None);
        }
        simulation.assign(&[0]).expect("assigned");
        let works = simulation.take(RECORDS / 2);
        let bytes = simulation.state_bytes() / RECORDS;
        let _ = writeln!(std::io::stderr(), "{order:?}: {bytes} bytes a record");
        assert!(works.len() == RECORDS / 2 && bytes <= MOST_BYTES, "{bytes}");
    }
}
