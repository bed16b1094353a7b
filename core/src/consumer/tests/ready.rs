//! The ready callback: an event loop is told once, whatever it is that a polling call would give, and never too late.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::threads::{LONG, cluster, consumer, everything_to, note};
use super::transitions::{listening, one};
use super::world::{App, MS, SECOND, Setup, World, tp};
use crate::consumer::Consumer;
use crate::error::Error;
use crate::poller::{Next, Poller};
use crate::source::scripted::{ClusterHandle, FORBIDDEN, ScriptedSource, kafka_error};
use crate::source::{Protocol, SourceEvent};

const NOW: Option<Duration> = Some(Duration::ZERO);

/// Counts calls.
#[derive(Default, Clone)]
struct Calls(Arc<AtomicUsize>);

impl Calls {
    /// Of the only consumer of `world`.
    fn of(world: &World) -> Calls {
        let calls = Calls::default();
        calls.set(&world.apps[0].consumer);
        calls
    }

    fn set(&self, consumer: &Consumer) {
        let calls = Arc::clone(&self.0);
        consumer.set_ready_callback(Some(Box::new(move || {
            calls.fetch_add(1, Ordering::SeqCst);
        })));
    }

    /// How often it was called since this was asked last.
    fn taken(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

fn produce(world: &mut World, partition: i32, records: i64) {
    world.cluster.lock().produce(&tp(partition), 0, records, 10);
    world.run_us(0);
}

/// A world whose consumer holds an empty partition, and has found nothing.
fn waiting(setup: Setup) -> (World, Calls) {
    let mut world = World::reading(setup, 0);
    world.run_us(100 * MS);
    let calls = Calls::of(&world);
    while world.next_batch(0, 100).is_some() {}
    calls.taken();
    (world, calls)
}

#[test]
fn records_are_told_once_until_a_call_finds_nothing() {
    let (mut world, calls) = waiting(one());
    for _ in 0..3 {
        produce(&mut world, 0, 10);
        assert_eq!(calls.taken(), 1);
        produce(&mut world, 0, 10);
        assert_eq!(calls.taken(), 0, "told already");
        assert!(world.next_batch(0, 4).is_some());
        produce(&mut world, 0, 10);
        while world.next_batch(0, 7).is_some() {}
        assert_eq!(calls.taken(), 0, "nothing was not found yet");
    }
    world.run_us(SECOND);
    assert_eq!(calls.taken(), 0, "nothing came");
}

#[test]
fn every_polling_call_that_finds_nothing_arms() {
    let (mut world, calls) = waiting(one());
    type Poll = fn(&Consumer) -> bool;
    let polls: [Poll; 5] = [
        |consumer| matches!(consumer.poll(NOW), Ok(None)),
        |consumer| matches!(consumer.next_batch(NOW, None), Ok(None)),
        |consumer| matches!(consumer.lease_batch(NOW, None), Ok(None)),
        |consumer| matches!(consumer.fill_batch(Duration::ZERO, 5), Ok(None)),
        |consumer| matches!(consumer.wait_ready(NOW, 5), Ok(false)),
    ];
    for poll in polls {
        produce(&mut world, 0, 1);
        assert_eq!(calls.taken(), 1);
        while world.next_batch(0, 100).is_some() {}
        produce(&mut world, 0, 1);
        assert_eq!(calls.taken(), 1);
        assert!(world.next_batch(0, 100).is_some());
        assert!(poll(&world.apps[0].consumer));
        world.finish_in_hand(0);
    }
}

#[test]
fn one_more_record_is_told_to_who_waits_for_several() {
    let (mut world, calls) = waiting(one());
    produce(&mut world, 0, 2);
    assert_eq!(calls.taken(), 1);
    assert!(!world.apps[0].consumer.wait_ready(NOW, 3).expect("open"));
    assert_eq!(calls.taken(), 0, "the two were too few");
    produce(&mut world, 0, 1);
    assert_eq!(calls.taken(), 1);
    assert!(world.apps[0].consumer.wait_ready(NOW, 3).expect("open"));
    assert_eq!(world.next_batch(0, 9).map(|batch| batch.len()), Some(3));
}

/// How often is told of what comes after the look of a poll that finds nothing, and before it arms.
fn told_in_between(
    comes: impl Fn(&mut Poller<ScriptedSource>, &Consumer, &ClusterHandle),
) -> usize {
    let (mut world, calls) = waiting(one());
    let App {
        poller, consumer, ..
    } = &mut world.apps[0];
    consumer.wake();
    assert_eq!(calls.taken(), 1, "not armed any more");
    let poller = RefCell::new(poller);
    let found = consumer.wait_for(NOW, 1, 0, |_| {
        comes(&mut poller.borrow_mut(), consumer, &world.cluster);
        None::<()>
    });
    assert!(matches!(found, Ok(None)));
    calls.taken()
}

#[test]
fn what_comes_between_the_look_and_the_arming_is_told() {
    let records = told_in_between(|poller, _, cluster| {
        cluster.lock().produce(&tp(0), 0, 1, 10);
        while poller.step() == Next::Again {}
    });
    assert_eq!(records, 1);
    assert_eq!(told_in_between(|_, consumer, _| consumer.wake()), 1);
    assert_eq!(told_in_between(|_, _, _| {}), 0);
}

#[test]
fn setting_it_when_something_waits_calls_at_once() {
    let mut world = World::reading(one(), 10);
    let calls = Calls::of(&world);
    assert_eq!(calls.taken(), 1, "a batch in the gate");
    assert_eq!(world.next_batch(0, 4).map(|batch| batch.len()), Some(4));
    let calls = Calls::of(&world);
    assert_eq!(calls.taken(), 1, "the rest of a batch");
    while world.next_batch(0, 100).is_some() {}
    let calls = Calls::of(&world);
    assert_eq!(calls.taken(), 0);
    produce(&mut world, 0, 3);
    assert_eq!(calls.taken(), 1);
    assert!(world.poll(0).is_some());
    let calls = Calls::of(&world);
    assert_eq!(
        calls.taken(),
        1,
        "the rest of a batch read record by record"
    );
    assert!(world.poll(0).is_some() && world.poll(0).is_some());
    let calls = Calls::of(&world);
    assert_eq!(calls.taken(), 0, "the last one is in hand");
    world.apps[0].consumer.wake();
    assert_eq!(calls.taken(), 1);
    let calls = Calls::of(&world);
    assert_eq!(calls.taken(), 1, "the wake-up");
}

#[test]
fn what_was_put_back_is_told() {
    let (mut world, calls) = waiting(one());
    produce(&mut world, 0, 3);
    calls.taken();
    let consumer = &world.apps[0].consumer;
    assert!(consumer.next_batch(NOW, None).expect("open").is_some());
    consumer.put_back(None);
    assert_eq!(calls.taken(), 1);
    assert_eq!(world.next_batch(0, 9).map(|batch| batch.len()), Some(3));
}

#[test]
fn a_resume_tells_of_what_was_held_aside() {
    let (mut world, calls) = waiting(one());
    produce(&mut world, 0, 3);
    assert_eq!(calls.taken(), 1);
    assert!(world.set_paused(0, 0, true));
    assert!(world.next_batch(0, 9).is_none(), "held aside");
    assert_eq!(calls.taken(), 0);
    assert!(world.set_paused(0, 0, false));
    assert_eq!(calls.taken(), 1);
    assert_eq!(world.next_batch(0, 9).map(|batch| batch.len()), Some(3));
}

/// The flags are down by then: whoever waits would not hear of the records that may be handed out again.
#[test]
fn a_resume_that_the_source_refuses_tells_of_what_was_held_aside_too() {
    let (mut world, calls) = waiting(one());
    produce(&mut world, 0, 3);
    assert_eq!(calls.taken(), 1);
    assert!(world.set_paused(0, 0, true));
    assert!(world.next_batch(0, 9).is_none(), "held aside");
    world.cluster.lock().faults.pause_fails = true;
    assert!(!world.set_paused(0, 0, false));
    assert_eq!(calls.taken(), 1);
    assert_eq!(world.next_batch(0, 9).map(|batch| batch.len()), Some(3));
}

#[test]
fn a_wake_up_is_told_and_ends_with_the_call_that_heard_it() {
    let (mut world, calls) = waiting(one());
    for _ in 0..3 {
        world.apps[0].consumer.wake();
        assert_eq!(calls.taken(), 1);
        assert!(world.poll(0).is_none());
        assert_eq!(calls.taken(), 0);
    }
}

#[test]
fn callbacks_of_rebalances_are_told() {
    let mut world = World::new(listening());
    world.start_app();
    let calls = Calls::of(&world);
    world.subscribe(0);
    world.everything_to(0);
    world.run_us(100 * MS);
    assert_eq!(calls.taken(), 1, "on_assign");
    while world.next_batch(0, 9).is_some() {}
    assert_eq!(world.apps[0].told.lock().calls, ["assign 1"]);
    world.cluster.lock().rebalance([].into());
    world.run_us(100 * MS);
    assert_eq!(calls.taken(), 1, "on_revoke");
    while world.next_batch(0, 9).is_some() {}
    assert_eq!(world.apps[0].told.lock().calls, ["assign 1", "revoke 1"]);
}

/// As while it waits: the poller's own thread has no turn.
#[test]
fn an_application_that_drives_hears_of_what_came_among_the_records() {
    let (mut world, _calls) = waiting(one());
    world.healthy = false;
    let me = world.apps[0].me;
    let error = SourceEvent::Error(kafka_error(FORBIDDEN));
    world.cluster.lock().give(me, error);
    for _ in 0..3 {
        world.apps[0].poller.step_briefly();
    }
    assert!(world.apps[0].consumer.poll(NOW).is_err());
}

#[test]
fn a_partition_end_is_told() {
    let (mut world, calls) = waiting(listening());
    let me = world.apps[0].me;
    let end = SourceEvent::PartitionEof {
        reason: String::new(),
        topic_partition: tp(0),
        offset: 0,
    };
    world.cluster.lock().give(me, end);
    world.run_us(0);
    assert_eq!(calls.taken(), 1);
}

#[test]
fn a_call_that_failed_arms_and_tells_what_is_left() {
    let (mut world, calls) = waiting(one());
    world.healthy = false;
    let me = world.apps[0].me;
    for _ in 0..2 {
        let error = SourceEvent::Error(kafka_error(FORBIDDEN));
        world.cluster.lock().give(me, error);
    }
    world.run_us(0);
    assert_eq!(calls.taken(), 1);
    let consumer = &world.apps[0].consumer;
    assert!(consumer.poll(NOW).is_err());
    assert_eq!(calls.taken(), 1, "the second error");
    assert!(consumer.poll(NOW).is_err());
    calls.taken();
    assert!(matches!(consumer.poll(NOW), Ok(None)));
    assert_eq!(calls.taken(), 0);
    produce(&mut world, 0, 1);
    assert_eq!(calls.taken(), 1);
}

#[test]
fn closing_is_told() {
    let (mut world, calls) = waiting(one());
    let _closed = world.close(0, SECOND);
    world.run_us(100 * MS);
    assert!(world.apps[0].done);
    assert_eq!(calls.taken(), 1);
    let consumer = &world.apps[0].consumer;
    assert!(matches!(consumer.poll(NOW), Err(Error::Closed { .. })));
    assert_eq!(calls.taken(), 0, "a closed consumer has nothing to tell");
    calls.set(consumer);
    assert_eq!(calls.taken(), 1, "it is closed already");
}

#[test]
fn a_callback_that_panics_breaks_nothing() {
    let (mut world, calls) = waiting(one());
    let counted = calls.clone();
    world.apps[0]
        .consumer
        .set_ready_callback(Some(Box::new(move || {
            counted.0.fetch_add(1, Ordering::SeqCst);
            panic!("on purpose");
        })));
    for _ in 0..2 {
        produce(&mut world, 0, 1);
        assert_eq!(calls.taken(), 1);
        while world.next_batch(0, 9).is_some() {}
    }
}

#[test]
fn a_callback_that_was_taken_away_is_dropped_and_not_called() {
    let (mut world, calls) = waiting(one());
    assert_eq!(Arc::strong_count(&calls.0), 2);
    world.apps[0].consumer.set_ready_callback(None);
    assert_eq!(Arc::strong_count(&calls.0), 1);
    produce(&mut world, 0, 1);
    assert_eq!(calls.taken(), 0);
}

#[test]
fn nothing_is_locked_while_it_runs() {
    let (mut world, _calls) = waiting(one());
    let held = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&held);
    let shared = Arc::clone(&world.apps[0].consumer.shared);
    world.apps[0]
        .consumer
        .set_ready_callback(Some(Box::new(move || {
            // Deadlocks if the one lock of its own is held.
            shared.ready.set(None);
            seen.store(true, Ordering::SeqCst);
        })));
    produce(&mut world, 0, 1);
    assert!(held.load(Ordering::SeqCst));
}

/// An event loop: sleeps until it is told, then polls until nothing is found. Gives what `poll` gave until it says stop.
fn event_loop(told: &Receiver<()>, mut poll: impl FnMut() -> Option<bool>) {
    loop {
        told.recv_timeout(LONG).expect("a wake-up was lost");
        loop {
            match poll() {
                Some(true) => {}
                Some(false) => break,
                None => return,
            }
        }
    }
}

/// A consumer that tells its event loop through a channel of one, as an eventfd would.
fn told(consumer: &Consumer) -> Receiver<()> {
    let (sender, told) = bounded(1);
    consumer.set_ready_callback(Some(Box::new(move || {
        let _ = sender.try_send(());
    })));
    told
}

#[test]
fn no_wake_up_is_lost_between_two_threads() {
    // Each record is produced when the one before was read, so that a single lost wake-up ends it all.
    const RECORDS: u64 = 10_000;
    // Longer than a record takes to arrive.
    const VARIED_NS: u64 = 60_000;
    let cluster = cluster(Protocol::Cooperative);
    let (consumer, me) = consumer(&cluster);
    let told = told(&consumer);
    consumer.subscribe(&["t"]).expect("subscribed");
    everything_to(&cluster, me);
    let (read, reads) = bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut records = 0;
            event_loop(&told, || {
                // So that the next record arrives before, while and after this looks for it.
                let (started, wait_ns) = (Instant::now(), records * 7919 % VARIED_NS);
                while started.elapsed() < Duration::from_nanos(wait_ns) {}
                let batch = match records % 3 {
                    0 => consumer.next_batch(NOW, Some(1)),
                    1 => consumer.lease_batch(NOW, None),
                    _ => consumer.poll(NOW).map(|record| {
                        record.map(|record| record.batch().slice(record.row()..record.row() + 1))
                    }),
                };
                let Some(batch) = batch.expect("no error") else {
                    return Some(false);
                };
                assert_eq!(batch.len(), 1);
                note(&cluster, me, &batch, false);
                note(&cluster, me, &batch, true);
                batch.acknowledge().expect("live");
                records += 1;
                read.send(()).expect("there");
                (records < RECORDS).then_some(true)
            });
        });
        for record in 0..RECORDS {
            cluster.lock().produce(&tp((record % 6) as i32), 0, 1, 10);
            reads.recv_timeout(LONG).expect("read");
        }
    });
    consumer.close(LONG).expect("closed");
    assert_eq!(cluster.lock().violations, Vec::<String>::new());
}

#[test]
fn no_wake_up_is_lost_in_a_flood_beside_pauses_and_wakes() {
    const ROUNDS: i64 = 2_000;
    const EACH: i64 = 7;
    let cluster = cluster(Protocol::Cooperative);
    let (consumer, me) = consumer(&cluster);
    let told = told(&consumer);
    consumer.subscribe(&["t"]).expect("subscribed");
    everything_to(&cluster, me);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut records = 0;
            event_loop(&told, || {
                let batch = consumer.next_batch(NOW, Some(3)).expect("no error");
                let Some(batch) = batch else {
                    return Some(false);
                };
                note(&cluster, me, &batch, false);
                note(&cluster, me, &batch, true);
                records += batch.len() as i64;
                (records < ROUNDS * EACH).then_some(true)
            });
            records
        });
        while consumer.assignment().is_empty() {
            std::thread::yield_now();
        }
        for round in 0..ROUNDS {
            let partition = tp((round % 6) as i32);
            match round % 3 {
                0 => {
                    consumer
                        .pause(std::slice::from_ref(&partition))
                        .expect("paused");
                    cluster.lock().produce(&partition, 0, EACH, 10);
                    consumer
                        .resume(std::slice::from_ref(&partition))
                        .expect("resumed");
                }
                1 => {
                    consumer.wake();
                    cluster.lock().produce(&partition, 0, EACH, 10);
                }
                _ => cluster.lock().produce(&partition, 0, EACH, 10),
            }
        }
        assert_eq!(reader.join().expect("no panic"), ROUNDS * EACH);
    });
    consumer.close(LONG).expect("closed");
    let mut violations = std::mem::take(&mut cluster.lock().violations);
    // What was handed out before the other thread paused is noted after it.
    violations.retain(|violation| !violation.ends_with("while it is paused"));
    assert_eq!(violations, Vec::<String>::new());
}
