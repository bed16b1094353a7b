//! What waits for what: nothing behind a handler that hangs, a key behind a record that was given back, and a dead letter behind those of
//! its key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::*;
use super::{filled, number, subscribed, until};
use crate::parallel::dispatcher::Outcome;
use crate::{HandlerError, Producer, ProducerRecord};

/// A thread of a quick handler had taken 256 records; those behind the one that hung, and the answers of those before it, waited.
#[test]
fn nothing_waits_behind_a_quick_handler_that_hangs_once() {
    const RECORDS: usize = 3_000;
    let (_broker, config) = filled(1, RECORDS, RECORDS);
    let consumer = subscribed(&config, "g");
    let release = Arc::new(AtomicBool::new(false));
    let let_go = Arc::clone(&release);
    let options = ProcessOptions {
        max_in_flight: 2,
        ..ProcessOptions::default()
    };
    let processing = consumer
        .process(options, move |record| {
            while number(record) == RECORDS / 2 && !let_go.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
        .expect("processing");
    until("all but the one that hangs", || {
        processing.ledger().done == RECORDS as u64 - 1
    });
    assert_eq!(processing.ledger().in_flight, 1);
    release.store(true, Ordering::Release);
    until("the one that hung", || {
        processing.ledger().done == RECORDS as u64
    });
    let report = processing.stop(Duration::from_secs(10)).expect("stopped");
    assert!(report.is_drained && report.ledger.missing() == 0);
    consumer.close(Duration::from_secs(10)).expect("closed");
}

/// What is left in the hand of a thread that hangs is given back at a stop, by the others that leave.
#[test]
fn a_stop_gives_back_what_waits_behind_a_handler_that_hangs() {
    const RECORDS: usize = 3_000;
    let (_broker, config) = filled(1, RECORDS, RECORDS);
    let consumer = subscribed(&config, "g");
    let release = Arc::new(AtomicBool::new(false));
    let (hung, let_go) = (Arc::new(AtomicBool::new(false)), Arc::clone(&release));
    let hanging = Arc::clone(&hung);
    let options = ProcessOptions {
        max_in_flight: 2,
        ..ProcessOptions::default()
    };
    let processing = consumer
        .process(options, move |record| {
            while number(record) == RECORDS / 2 && !let_go.load(Ordering::Acquire) {
                hanging.store(true, Ordering::Release);
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
        .expect("processing");
    until("hangs", || hung.load(Ordering::Acquire));
    // At once: nobody has helped yet.
    let report = processing.dispatcher.stop(Duration::from_secs(1));
    assert_eq!(
        (report.ledger.in_flight, report.ledger.missing()),
        (1, 0),
        "{report:?}"
    );
    release.store(true, Ordering::Release);
    drop(processing);
    consumer.close(Duration::from_secs(10)).expect("closed");
}

/// One that is refused for good holds up those of its key, and no other.
#[test]
fn dead_letters_of_a_key_wait_for_the_one_before_them() {
    const RECORDS: u64 = 20;
    let (_broker, config) = filled(1, 0, 1);
    let sending = Producer::new(&config).expect("a producer");
    for number in 0..RECORDS {
        // The first is too long for the way to the dead-letter topic.
        let width = if number == 0 { 5_000 } else { 1 };
        let value = format!("{number:0width$}");
        let key = format!("key-{}", number % 2);
        let record = ProducerRecord::new("t").key(&key).value(&value);
        sending.send(&record).expect("sent");
    }
    sending.flush(Duration::from_secs(30)).expect("flushed");
    let short = config.clone().with("message.max.bytes", 2_000);
    let producer = Producer::new(&short).expect("a producer");
    let consumer = subscribed(&config, "g");
    let options = ProcessOptions {
        on_failure: OnFailure::DeadLetter {
            producer,
            topic: "dead".into(),
        },
        ..ProcessOptions::default()
    };
    let processing = consumer
        .process(options, |_| Err(HandlerError::terminal("never")))
        .expect("processing");
    until("the other key", || {
        processing.ledger().dead_lettered >= RECORDS / 2
    });
    // What would pass has had its time: it comes in the same moment.
    until("sent again and refused again", || {
        processing.dispatcher.refusals() >= 2
    });
    let ledger = processing.ledger();
    let found = (ledger.dead_lettered, ledger.dead_letters_pending);
    assert_eq!(found, (RECORDS / 2, RECORDS / 2), "{ledger:?}");
    assert_eq!(ledger.missing(), 0);
    let _ = processing.stop(Duration::ZERO);
    consumer.close(Duration::from_secs(10)).expect("closed");
}

/// A topic that comes back in the middle of it.
#[test]
fn dead_letters_of_a_key_come_in_order_also_when_some_were_refused() {
    const RECORDS: usize = 60;
    let (_broker, config) = filled(1, RECORDS, 2);
    let (dead, dead_config) = filled(1, 0, 1);
    let refused = dead_config
        .clone()
        .with("message.timeout.ms", 200)
        .with("linger.ms", 0);
    let producer = Producer::new(&refused).expect("a producer");
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
        .process(options, |_| {
            // The later ones fail when the topic is there again, while the first wait to be sent again.
            std::thread::sleep(Duration::from_millis(20));
            Err(HandlerError::terminal("never"))
        })
        .expect("processing");
    until("refused", || producer.stats().records_failed >= 1);
    dead.broker_up(1).expect("up");
    until("confirmed", || {
        processing.ledger().dead_lettered == RECORDS as u64
    });
    let report = processing.stop(Duration::from_secs(10)).expect("stopped");
    assert!(report.is_drained);
    consumer.close(Duration::from_secs(10)).expect("closed");

    let reader = dead_config
        .with("group.id", "reader")
        .with("auto.offset.reset", "earliest");
    let reader = Consumer::new(&reader).expect("a reader");
    reader.subscribe(&["dead"]).expect("subscribed");
    let mut letters: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    while letters.values().map(Vec::len).sum::<usize>() < RECORDS {
        let record = reader.poll(Some(Duration::from_secs(30)));
        let record = record.expect("polled").expect("a letter");
        let key = record.key().unwrap_or_default().to_vec();
        letters
            .entry(key)
            .or_default()
            .push(number(&record.as_record()));
    }
    for (key, numbers) in letters {
        assert!(numbers.is_sorted(), "{key:?}: {numbers:?}");
    }
}

/// What came after a record that was given back was handled before it, in the next assignment.
#[test]
fn the_key_of_a_record_that_was_given_back_waits_for_the_next_assignment() {
    let mut simulation = Simulation::new(ProcessOptions::default(), false).expect("options");
    for key in ["a", "b", "a", "b"] {
        simulation.produce(0, Some(key.as_bytes()), Some(b"v"));
    }
    simulation.assign(&[0]).expect("assigned");
    let offsets = |works: &[Work]| -> Vec<i64> {
        let offset = |work: &Work| work.batch.offsets()[work.row];
        works.iter().map(offset).collect()
    };
    let first = simulation.take(10);
    assert_eq!(offsets(&first), [0, 1]);
    simulation.settle([
        (first[0].ticket, Outcome::Unfinished),
        (first[1].ticket, Outcome::Done),
    ]);
    let other = simulation.take(10);
    assert_eq!(offsets(&other), [3], "the other key goes on");
    simulation.settle([(other[0].ticket, Outcome::Done)]);
    assert!(simulation.take(10).is_empty());
    assert!(simulation.commit());
    assert_eq!(simulation.committed(0).map(|(offset, _)| offset), Some(0));

    simulation.begin_revoke(&[0]);
    assert!(simulation.is_drained(&[0]), "nobody works on it");
    simulation.end_revoke(&[0]);
    simulation.assign(&[0]).expect("assigned");
    for offset in [0, 2] {
        let again = simulation.take(10);
        assert_eq!(offsets(&again), [offset]);
        simulation.settle([(again[0].ticket, Outcome::Done)]);
    }
    assert!(simulation.commit());
    assert_eq!(simulation.committed(0).map(|(offset, _)| offset), Some(4));
    assert_eq!(simulation.ledger().missing(), 0);
}
