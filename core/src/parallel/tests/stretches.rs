//! Records that are handed out and finished as they lie, and what brings them back to one by one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::*;
use super::{filled, number, subscribed, until};
use crate::parallel::dispatcher::Outcome;
use crate::parallel::stretch::{End, Hand, Progress, Stretch};
use crate::parallel::threads::Crew;
use crate::partition::TopicPartition;
use crate::record::Record;
use crate::{Consumer, HandlerError};

const WAIT: Duration = Duration::from_secs(10);

fn simulation(keys: &[&[&str]]) -> Simulation {
    let options = ProcessOptions {
        max_in_flight: 10_000,
        backoff: Duration::ZERO,
        max_attempts: Some(2),
        ..ProcessOptions::default()
    };
    let mut simulation = Simulation::new(options, true).expect("options");
    simulation.hand_out_stretches();
    for (partition, keys) in (0..).zip(keys) {
        produce(&mut simulation, partition, keys);
        simulation.assign(&[partition]).expect("assigned");
    }
    simulation
}

fn produce(simulation: &mut Simulation, partition: i32, keys: &[&str]) {
    for key in keys {
        let key = Some(key.as_bytes()).filter(|key| !key.is_empty());
        simulation.produce(partition, key, Some(b"v"));
    }
}

/// Partition and offset of every row.
fn places(stretch: &Stretch) -> Vec<(i32, i64)> {
    let pieces = stretch.pieces().iter();
    let records = pieces.flat_map(|piece| piece.records.iter());
    records
        .map(|record| (record.partition(), record.offset()))
        .collect()
}

fn stretch(simulation: &mut Simulation) -> Arc<Stretch> {
    let hand = simulation.take_quick(10, 1000);
    assert!(hand.works.is_empty(), "{:?}", hand.works);
    hand.stretch.expect("a stretch")
}

fn single(simulation: &mut Simulation) -> (Ticket, i64) {
    let hand = simulation.take_quick(1, 1000);
    let work = hand.works.owned().next().expect("a record");
    (work.ticket, work.batch.offsets()[work.row])
}

#[test]
fn a_stretch_goes_on_in_other_partitions_only_while_it_is_short() {
    let long = vec!["a"; 100];
    let mut simulation = simulation(&[&["a", "b"], &["a"], &long, &long]);
    let first = stretch(&mut simulation);
    assert_eq!(first.len(), 103);
    assert_eq!(places(&first)[..4], [(0, 0), (0, 1), (1, 0), (2, 0)]);
    let second = stretch(&mut simulation);
    assert_eq!((second.len(), places(&second)[0]), (100, (3, 0)));
    assert!(simulation.take_quick(10, 1000).is_empty());
    assert_eq!(simulation.end_stretch(&second, 100, false), None);
    assert_eq!(simulation.end_stretch(&first, 103, false), None);
    assert!(simulation.commit());
    for (partition, end) in (0..).zip([2, 1, 100, 100]) {
        let committed = simulation.committed(partition);
        assert_eq!(committed.map(|(offset, _)| offset), Some(end));
    }
    let ledger = simulation.ledger();
    assert_eq!((ledger.done, ledger.missing()), (203, 0));
}

#[test]
fn nothing_in_order_of_a_lent_partition_is_handed_out_beside_the_stretch() {
    let mut simulation = simulation(&[&["a", "b"]]);
    let lent = stretch(&mut simulation);
    produce(&mut simulation, 0, &["a", "c"]);
    assert!(simulation.take_quick(10, 1000).is_empty());
    assert!(simulation.take(10).is_empty());
    assert_eq!(simulation.ledger().queued, 2);
    simulation.end_stretch(&lent, 2, false);
    assert_eq!(places(&stretch(&mut simulation)), [(0, 2), (0, 3)]);
}

#[test]
fn without_an_order_a_partition_is_not_lent() {
    let options = ProcessOptions {
        order: Order::None,
        ..ProcessOptions::default()
    };
    let mut simulation = Simulation::new(options, false).expect("options");
    simulation.hand_out_stretches();
    produce(&mut simulation, 0, &["a"; 4]);
    simulation.assign(&[0]).expect("assigned");
    let first = simulation.take_quick(1, 2).stretch.expect("a stretch");
    let second = simulation.take_quick(1, 2).stretch.expect("a stretch");
    simulation.end_stretch(&second, 2, false);
    simulation.end_stretch(&first, 2, false);
    assert_eq!(simulation.ledger().done, 4);
}

#[test]
fn a_record_that_stays_with_its_handler_holds_up_its_key_and_no_other() {
    let mut simulation = simulation(&[&["a", "b", "a", "c", ""]]);
    let first = stretch(&mut simulation);
    let ticket = simulation
        .end_stretch(&first, 0, true)
        .expect("a ticket for the first");
    assert_eq!(simulation.ledger().in_flight, 1);
    let second = stretch(&mut simulation);
    assert_eq!(places(&second), [(0, 1), (0, 3), (0, 4)]);
    simulation.end_stretch(&second, 3, false);
    assert!(simulation.take_quick(10, 1000).is_empty());
    assert!(simulation.commit());
    assert_eq!(simulation.committed(0).map(|(offset, _)| offset), Some(0));
    let map = simulation
        .committed_map(0)
        .expect("what is done beyond it is told");
    assert_eq!(map.done(), [1..2, 3..5]);

    simulation.settle([(ticket, Outcome::Done)]);
    let (ticket, offset) = single(&mut simulation);
    assert_eq!(offset, 2);
    simulation.settle([(ticket, Outcome::Done)]);
    assert!(simulation.commit());
    assert_eq!(simulation.committed(0), Some((5, None)));
}

#[test]
fn a_record_without_a_key_holds_up_nothing() {
    let mut simulation = simulation(&[&["", "", "a"]]);
    let first = stretch(&mut simulation);
    let ticket = simulation.end_stretch(&first, 0, true).expect("a ticket");
    let second = stretch(&mut simulation);
    assert_eq!(places(&second), [(0, 1), (0, 2)]);
    simulation.end_stretch(&second, 2, false);
    simulation.settle([(ticket, Outcome::Done)]);
    assert_eq!(simulation.ledger().done, 3);
}

#[test]
fn a_record_that_fails_comes_again_before_what_follows_it() {
    let mut simulation = simulation(&[&["a", "b", "a", "b"]]);
    let first = stretch(&mut simulation);
    let ticket = simulation.end_stretch(&first, 1, true).expect("a ticket");
    let failed = Outcome::failed("Away", "not now", true, Some(Duration::from_millis(1)));
    simulation.settle([(ticket, failed)]);
    assert_eq!(simulation.ledger().retry_wait, 1);
    let second = stretch(&mut simulation);
    assert_eq!(places(&second), [(0, 2)]);
    simulation.end_stretch(&second, 1, false);
    simulation.advance(Duration::from_millis(1));
    for expected in [1, 3] {
        let (ticket, offset) = single(&mut simulation);
        assert_eq!(offset, expected);
        simulation.settle([(ticket, Outcome::Done)]);
    }
    assert_eq!(simulation.ledger().done, 4);
}

#[test]
fn a_revoke_waits_for_the_stretch_and_for_nothing_behind_it() {
    let mut simulation = simulation(&[&["a"; 10]]);
    let lent = simulation.take_quick(1, 4).stretch.expect("a stretch");
    simulation.begin_revoke(&[0]);
    assert!(!simulation.is_drained(&[0]));
    assert_eq!(simulation.ledger().stale, 6);
    // What is given back of it comes to nobody here.
    simulation.end_stretch(&lent, 3, false);
    assert!(simulation.take_quick(1, 4).is_empty());
    assert!(simulation.is_drained(&[0]));
    simulation.end_revoke(&[0]);
    assert_eq!(simulation.committed(0).map(|(offset, _)| offset), Some(3));
    let ledger = simulation.ledger();
    assert_eq!((ledger.done, ledger.stale, ledger.missing()), (3, 7, 0));
}

#[test]
fn a_stretch_of_an_old_assignment_finishes_nothing_and_holds_up_the_new_one() {
    let mut simulation = simulation(&[&["a", "b"]]);
    let old = stretch(&mut simulation);
    simulation.lose(&[0]);
    simulation.assign(&[0]).expect("assigned");
    assert!(simulation.take_quick(1, 10).is_empty(), "the key is busy");
    simulation.end_stretch(&old, 2, false);
    assert_eq!(
        (simulation.ledger().done, simulation.ledger().stale),
        (0, 2)
    );
    let again = stretch(&mut simulation);
    assert_eq!(places(&again), [(0, 0), (0, 1)]);
}

#[test]
fn a_stretch_waits_for_single_records_that_are_about_to_be_done_and_not_for_ever() {
    let mut simulation = simulation(&[&["a", "a"]]);
    let single = simulation.take(1);
    assert_eq!(single.len(), 1);
    produce(&mut simulation, 0, &["a", "b"]);
    assert!(simulation.take_quick(1, 10).is_empty());
    let due = simulation.next_due().expect("a time to look again");
    simulation.advance(due);
    let beside = stretch(&mut simulation);
    assert_eq!(places(&beside), [(0, 3)], "the other key");
    simulation.end_stretch(&beside, 1, false);
    simulation.settle(single.iter().map(|work| (work.ticket, Outcome::Done)));
    assert_eq!(simulation.take(10).len(), 1);
}

/// Whoever has the row and whoever takes the rest agree about every row.
#[test]
fn the_rest_of_a_stretch_has_one_owner() {
    const ROWS: usize = 200;
    let keys = vec!["a"; ROWS];
    let mut cut_short = 0;
    for round in 0..500 {
        let mut simulation = simulation(&[&keys]);
        let stretch = stretch(&mut simulation);
        let progress = Progress::default();
        progress.begin(&stretch);
        let meet = Barrier::new(2);
        let mut handled = 0;
        let (told, end) = std::thread::scope(|scope| {
            let helper = scope.spawn(|| {
                let mut told = None;
                meet.wait();
                progress.take_rest(Duration::ZERO, |stretch, done, is_running| {
                    let ticket = simulation.end_stretch(stretch, done, is_running);
                    told = Some((done, ticket));
                    ticket
                });
                told
            });
            while handled < ROWS && progress.next() {
                if handled == round % ROWS {
                    meet.wait();
                }
                handled += 1;
                // What a handler does.
                (0..50).for_each(|_| std::hint::spin_loop());
            }
            let end = progress.end();
            (helper.join().expect("no panic"), end)
        });
        match (told, end) {
            (None, End::Own) => {
                assert_eq!(handled, ROWS);
                simulation.end_stretch(&stretch, handled, false);
            }
            (Some((done, ticket)), End::Taken(heard)) => {
                assert_eq!(ticket, heard);
                assert_eq!(done + usize::from(ticket.is_some()), handled);
                simulation.settle(ticket.map(|ticket| (ticket, Outcome::Done)));
                cut_short += usize::from(handled < ROWS);
            }
            other => panic!("{other:?}"),
        }
        let ledger = simulation.ledger();
        assert_eq!((ledger.done, ledger.missing()), (handled as u64, 0));
    }
    assert!(cut_short > 0, "they never met");
}

fn quickly<F>(consumer: &Arc<Consumer>, options: ProcessOptions, handler: F) -> Processing
where
    F: Fn(&Record<'_>) -> std::result::Result<Outcome, HandlerError> + Send + Sync + 'static,
{
    let crew = Crew::quick(&options);
    consumer
        .process_by(crew, options, handler)
        .expect("processing")
}

fn stretches(processing: &Processing) -> usize {
    processing.dispatcher.state.lock().state.stretches
}

fn two_threads() -> ProcessOptions {
    ProcessOptions {
        max_in_flight: 2,
        max_attempts: Some(2),
        backoff: Duration::from_millis(1),
        ..ProcessOptions::default()
    }
}

#[test]
fn each_key_stays_in_order_whatever_fails_or_panics_and_all_is_committed() {
    const RECORDS: usize = 20_000;
    let (_broker, config) = filled(3, RECORDS, 50);
    let consumer = subscribed(&config, "g");
    let seen: Arc<Mutex<HashMap<Vec<u8>, Vec<usize>>>> = Arc::default();
    let failed: Arc<Mutex<HashMap<usize, usize>>> = Arc::default();
    let processing = {
        let (seen, failed) = (Arc::clone(&seen), Arc::clone(&failed));
        quickly(&consumer, two_threads(), move |record| {
            let number = number(record);
            if number.is_multiple_of(997) && failed.lock().insert(number, 1).is_none() {
                assert!(number.is_multiple_of(2), "a handler panics");
                return Err(HandlerError::retriable("not now"));
            }
            let key = record.key().unwrap_or_default().to_vec();
            seen.lock().entry(key).or_default().push(number);
            Ok(Outcome::Done)
        })
    };
    until("all done", || processing.ledger().done == RECORDS as u64);
    assert!(stretches(&processing) > 10, "one by one");
    let report = processing.stop(WAIT).expect("stopped");
    assert!(report.is_drained && report.ledger.missing() == 0);
    assert_eq!(failed.lock().len(), RECORDS.div_ceil(997));
    let seen = seen.lock();
    assert_eq!(seen.len(), 50);
    for numbers in seen.values() {
        assert_eq!(numbers.len(), RECORDS / 50);
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    let partitions: Vec<_> = (0..3).map(|p| TopicPartition::new("t", p)).collect();
    let committed = consumer.committed(&partitions, WAIT).expect("committed");
    let ends = committed.iter().filter_map(|(_, offset)| *offset);
    assert_eq!(ends.sum::<i64>(), RECORDS as i64);
    consumer.close(WAIT).expect("closed");
}

#[test]
fn only_its_key_waits_behind_a_record_of_a_stretch_that_hangs() {
    const RECORDS: usize = 3_000;
    let (_broker, config) = filled(1, RECORDS, 100);
    let consumer = subscribed(&config, "g");
    let release = Arc::new(AtomicBool::new(false));
    let let_go = Arc::clone(&release);
    let processing = quickly(&consumer, two_threads(), move |record| {
        while number(record) == RECORDS / 2 && !let_go.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Outcome::Done)
    });
    // Half of the records of its key, itself among them.
    let waiting = RECORDS as u64 / 100 / 2;
    until("all but its key", || {
        processing.ledger().done == RECORDS as u64 - waiting
    });
    let ledger = processing.ledger();
    assert_eq!((ledger.in_flight, ledger.queued), (1, waiting - 1));
    assert!(stretches(&processing) > 1, "one by one");
    release.store(true, Ordering::Release);
    until("all", || processing.ledger().done == RECORDS as u64);
    assert!(processing.stop(WAIT).expect("stopped").is_drained);
    consumer.close(WAIT).expect("closed");
}

#[test]
fn a_stop_gives_back_the_rest_of_a_stretch_that_hangs() {
    const RECORDS: usize = 3_000;
    let (_broker, config) = filled(1, RECORDS, RECORDS);
    let consumer = subscribed(&config, "g");
    let (hangs, hung) = crossbeam_channel::bounded::<()>(1);
    let (release, let_go) = crossbeam_channel::bounded::<()>(0);
    let processing = quickly(&consumer, two_threads(), move |record| {
        if number(record) == RECORDS / 2 {
            let _ = hangs.send(());
            // Until the sender goes.
            let _ = let_go.recv();
        }
        Ok(Outcome::Done)
    });
    // Stopped at once: nobody has looked after it yet, and who leaves does.
    hung.recv_timeout(Duration::from_secs(60)).expect("hangs");
    let report = processing.dispatcher.stop(Duration::from_millis(500));
    let ledger = report.ledger;
    let left = (ledger.in_flight, ledger.queued, ledger.missing());
    assert_eq!(left, (1, 0, 0), "{ledger:?}");
    drop(release);
    drop(processing);
    consumer.close(WAIT).expect("closed");
}

#[test]
fn a_failure_for_good_in_a_stretch_ends_it_and_the_record_comes_again() {
    let (_broker, config) = filled(1, 500, 10);
    let consumer = subscribed(&config, "g");
    let options = ProcessOptions {
        max_attempts: Some(1),
        ..two_threads()
    };
    let processing = quickly(&consumer, options, |record| match number(record) {
        400 => Err(HandlerError::terminal("this one cannot be")),
        _ => Ok(Outcome::Done),
    });
    let error = processing.wait().expect_err("an error");
    assert!(error.to_string().contains("t [0] offset 400"), "{error}");
    assert_eq!(processing.ledger().missing(), 0);
    assert!(processing.stop(WAIT).is_err());
    consumer.close(WAIT).expect("closed");
    let again = subscribed(&config, "g");
    let record = again.poll(Some(Duration::from_secs(30))).expect("polled");
    assert_eq!(record.expect("a record").offset(), 400);
}

/// A look every quarter of a second would leave the other threads with nothing to do for that long.
#[test]
fn whoever_has_nothing_to_do_soon_looks_after_the_stretch_of_another() {
    let (_broker, config) = filled(1, 200, 10);
    let consumer = subscribed(&config, "g");
    let options = ProcessOptions::default();
    let dispatcher = Dispatcher::start_for(consumer, options, true).expect("started");
    let mut hand = Hand::default();
    let mut stretch = None;
    while stretch.is_none() {
        let goes_on = dispatcher.take_hand(&mut hand, 1, Some(100), Some(WAIT));
        assert!(goes_on.expect("no error"));
        stretch = hand.stretch.take();
    }
    let began = Instant::now();
    let goes_on = dispatcher.take_hand(&mut hand, 1, Some(100), Some(Duration::from_secs(120)));
    assert!(goes_on.expect("no error") && hand.is_empty());
    assert!(began.elapsed() < Duration::from_secs(60));
    let stretch = stretch.expect("a stretch");
    let ticket = dispatcher.end_stretch_of_other(&stretch, 0, true);
    assert!(ticket.is_some());
    let goes_on = dispatcher.take_hand(&mut hand, 1, Some(100), Some(WAIT));
    assert!(goes_on.expect("no error") && hand.stretch.is_some());
    let last = hand.stretch.take().expect("a stretch");
    assert_eq!(dispatcher.stop(Duration::ZERO).ledger.queued, 0);
    // What comes after the stop waits for nobody.
    dispatcher.end_stretch(&last, 1, None);
    dispatcher.settle(ticket.map(|ticket| (ticket, Outcome::Done)));
    let ledger = dispatcher.ledger();
    let left = (ledger.done, ledger.unfinished(), ledger.missing());
    assert_eq!(left, (2, 0, 0), "{ledger:?}");
}
