//! The real threads: consumers polled by theirs, pollers on theirs, rebalances at any moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::say;
use super::world::tp;
use crate::batch::RecordBatch;
use crate::clock::SystemClock;
use crate::consumer::{Consumer, Parts, RebalanceListener};
use crate::error::{Error, Result};
use crate::partition::{Offset, TopicPartition};
use crate::poller::Settings;
use crate::queue::Waker;
use crate::source::Protocol;
use crate::source::lookup::Reset;
use crate::source::scripted::ClusterHandle;

const PARTITIONS: i32 = 6;
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) fn cluster(protocol: Protocol) -> ClusterHandle {
    let clock = Arc::new(SystemClock::new());
    let cluster = ClusterHandle::new(clock, Reset::Beginning, protocol);
    cluster.lock().one_thread = false;
    for partition in 0..PARTITIONS {
        cluster.lock().produce(&tp(partition), 0, 0, 0);
    }
    cluster
}

pub(super) fn consumer(cluster: &ClusterHandle) -> (Consumer, usize) {
    let waker = Arc::new(Waker::default());
    let source = cluster.join(&waker);
    let me = source.me;
    let parts = Parts {
        options: crate::notice::ConsumerOptions::default(),
        settings: Settings {
            auto_commit: true,
            auto_commit_interval_us: 3_000,
            max_poll_interval_us: 300_000_000,
            // Longer than the test: a revoke waits for whatever was handed out.
            drain_us: 60_000_000,
            batch_bytes: 300,
        },
        gate_bytes: 2_000,
        max_poll_records: usize::MAX,
        group_id: Some("g".into()),
        clock: Arc::new(SystemClock::new()),
        waker,
        client: Weak::new(),
    };
    let (mut consumer, poller) = Consumer::with_source(source, parts);
    consumer.start(poller).expect("a thread");
    (consumer, me)
}

pub(super) fn everything_to(cluster: &ClusterHandle, me: usize) {
    let target = (0..PARTITIONS).map(|partition| (tp(partition), me));
    cluster.lock().rebalance(target.collect());
}

/// Tells the cluster what was handed out or finished.
pub(super) fn note(cluster: &ClusterHandle, me: usize, batch: &RecordBatch, finished: bool) {
    let mut cluster = cluster.lock();
    for record in batch {
        if finished {
            let partition = tp(record.partition());
            cluster.was_finished(me, &partition, record.generation(), record.offset());
        } else {
            cluster.was_handed(me, &record);
        }
    }
}

/// Notes which partitions on_assign told of.
#[derive(Default)]
struct Assigned(Mutex<Vec<TopicPartition>>);

struct Listener(Arc<Assigned>);

impl RebalanceListener for Listener {
    fn on_assign(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.0.0.lock().extend_from_slice(partitions);
        Ok(())
    }

    fn on_revoke(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.0.0.lock().retain(|held| !partitions.contains(held));
        Ok(())
    }
}

/// Reads until told to stop, in all ways in turn; leased batches are finished by another thread.
fn application(cluster: &ClusterHandle, stop: &AtomicBool) -> u64 {
    let (consumer, me) = consumer(cluster);
    let assigned = Arc::new(Assigned::default());
    consumer
        .subscribe_with(&["t"], Box::new(Listener(Arc::clone(&assigned))))
        .expect("subscribed");
    let (leases, leased) = crossbeam_channel::unbounded::<RecordBatch>();
    let mut handed = 0;
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            for batch in leased {
                for row in (0..batch.len()).rev() {
                    note(cluster, me, &batch.slice(row..row + 1), true);
                    let _ = batch.acknowledge_rows(row..row + 1);
                }
            }
        });
        // One of them never waits: its calls meet the poller in every state.
        let wait = Some(Duration::from_millis(if me == 0 { 0 } else { 2 }));
        let mut in_hand: Option<RecordBatch> = None;
        for turn in 0u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if let Some(batch) = in_hand.take() {
                note(cluster, me, &batch, true);
            }
            let batch = match turn % 16 {
                0..8 => consumer.poll(wait).map(|record| {
                    record.map(|record| record.batch().slice(record.row()..record.row() + 1))
                }),
                8..14 => consumer.next_batch(wait, Some(5)),
                _ => consumer.lease_batch(wait, Some(5)),
            };
            let Some(batch) = batch.expect("no error") else {
                continue;
            };
            for partition in batch.partitions() {
                assert!(
                    assigned.0.lock().contains(&tp(*partition)),
                    "before on_assign"
                );
            }
            note(cluster, me, &batch, false);
            handed += batch.len() as u64;
            if turn % 16 < 14 {
                in_hand = Some(batch);
            } else {
                leases.send(batch).expect("there");
            }
        }
        if let Some(batch) = in_hand {
            note(cluster, me, &batch, true);
        }
        drop(leases);
        worker.join().expect("no panic");
        consumer.finish_in_hand();
        consumer.close(LONG).expect("closed");
    });
    handed
}

/// Ends the applications, also when the test fails: its scope waits for them.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn storm(protocol: Protocol) {
    const MEMBERS: usize = 3;
    const ROUNDS: i64 = 300;
    let cluster = cluster(protocol);
    let stop = AtomicBool::new(false);
    let handed: u64 = std::thread::scope(|scope| {
        let ending = Stop(&stop);
        let threads: Vec<_> = (0..MEMBERS)
            .map(|_| scope.spawn(|| application(&cluster, &stop)))
            .collect();
        for round in 0..ROUNDS {
            let mut target = BTreeMap::new();
            for partition in 0..PARTITIONS {
                cluster.lock().produce(&tp(partition), round % 2, 7, 20);
                let owner = (i64::from(partition) * (round % 5 + 1) + round) as usize % MEMBERS;
                target.insert(tp(partition), owner);
            }
            cluster.lock().rebalance(target.clone());
            // The next one when this one is done.
            let started = Instant::now();
            loop {
                let done = {
                    let cluster = cluster.lock();
                    let joined = cluster.members.iter().filter(|m| m.subscribed).count();
                    let settled = target.iter().all(|(partition, owner)| {
                        let member = cluster.members.get(*owner);
                        member.is_some_and(|m| m.fetching.contains_key(partition))
                    });
                    joined == MEMBERS && settled
                };
                if done || round % 3 == 2 {
                    break;
                }
                assert!(started.elapsed() < LONG, "a rebalance is stuck");
                assert!(!threads.iter().any(|thread| thread.is_finished()));
                std::thread::yield_now();
            }
        }
        let started = Instant::now();
        while !cluster.lock().unfinished().is_empty() {
            assert!(started.elapsed() < LONG, "not everything was read");
            assert!(!threads.iter().any(|thread| thread.is_finished()));
            std::thread::yield_now();
        }
        drop(ending);
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum()
    });
    let cluster = cluster.lock();
    assert_eq!(cluster.violations, Vec::<String>::new());
    assert_eq!(cluster.handed_out_again, 0, "nothing was lost or crashed");
    for (partition, log) in &cluster.logs {
        assert_eq!(
            cluster.committed.get(partition),
            Some(&log.end),
            "{partition}"
        );
    }
    say(&format!(
        "threads: {handed} records by {MEMBERS} {protocol:?} members through {ROUNDS} rebalances, each once"
    ));
}

#[test]
fn members_that_come_and_go_handle_each_record_once_cooperative() {
    storm(Protocol::Cooperative);
}

#[test]
fn members_that_come_and_go_handle_each_record_once_eager() {
    storm(Protocol::Eager);
}

#[test]
fn going_back_to_a_record_that_failed_does_not_finish_it() {
    let cluster = cluster(Protocol::Cooperative);
    cluster.lock().produce(&tp(0), 0, 10, 10);
    let (consumer, me) = consumer(&cluster);
    consumer.subscribe(&["t"]).expect("subscribed");
    everything_to(&cluster, me);
    for offset in 0..4 {
        let record = consumer.poll(Some(LONG)).expect("no error").expect("one");
        assert_eq!(record.offset(), offset);
        if offset < 3 {
            note(&cluster, me, record.batch(), false);
        }
    }
    let cell = Arc::clone(&cluster.lock().members[me].fetching[&tp(0)].cell);
    consumer.seek(&tp(0), Offset::At(3)).expect("sought");
    assert_eq!(cell.finished(), 3, "the record in hand is not finished");
    let again = consumer.poll(Some(LONG)).expect("no error").expect("one");
    assert_eq!(again.offset(), 3);
}

#[test]
fn calls_answer_while_another_thread_polls() {
    let cluster = cluster(Protocol::Cooperative);
    let (consumer, me) = consumer(&cluster);
    consumer
        .subscribe_with(&["t"], Box::new(Listener(Arc::default())))
        .expect("subscribed");
    everything_to(&cluster, me);
    std::thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let mut records = 0;
            while let Ok(Some(record)) = consumer.poll(None) {
                let record = record.batch().slice(record.row()..record.row() + 1);
                note(&cluster, me, &record, false);
                note(&cluster, me, &record, true);
                records += 1;
            }
            records
        });
        let started = Instant::now();
        while consumer.assignment().len() < PARTITIONS as usize {
            assert!(started.elapsed() < LONG);
            std::thread::yield_now();
        }
        assert!(consumer.pause(&[tp(0)]).is_ok());
        assert_eq!(consumer.paused(), [tp(0)]);
        cluster.lock().produce(&tp(0), 0, 5, 10);
        cluster.lock().produce(&tp(1), 0, 5, 10);
        let started = Instant::now();
        while consumer.position(&tp(1)).expect("known") != Some(5) {
            assert!(started.elapsed() < LONG);
            std::thread::yield_now();
        }
        assert_eq!(consumer.position(&tp(0)).expect("known"), Some(0));
        assert!(consumer.resume(&[tp(0)]).is_ok());
        let started = Instant::now();
        while consumer.position(&tp(0)).expect("known") != Some(5) {
            assert!(started.elapsed() < LONG);
            std::thread::yield_now();
        }
        let started = Instant::now();
        while !cluster.lock().unfinished().is_empty() {
            assert!(started.elapsed() < LONG);
            std::thread::yield_now();
        }
        consumer.commit(LONG).expect("committed");
        assert_eq!(cluster.lock().committed.get(&tp(0)), Some(&5));
        assert!(consumer.commit(LONG).expect("committed").is_empty());
        let nowhere = TopicPartition::new("other", 0);
        assert!(matches!(
            consumer.pause(std::slice::from_ref(&nowhere)),
            Err(Error::NotAssigned { .. })
        ));
        let started = Instant::now();
        consumer.close(LONG).expect("closed");
        assert!(started.elapsed() < LONG / 2);
        assert_eq!(poller.join().expect("no panic"), 10);
    });
    assert_eq!(cluster.lock().violations, Vec::<String>::new());
}

/// One that comes while the poller's thread is at work waits for that instead: the next one drives.
#[test]
fn a_thread_that_waits_for_records_drives_the_poller() {
    let cluster = cluster(Protocol::Eager);
    let (consumer, me) = consumer(&cluster);
    consumer.subscribe(&["t"]).expect("subscribed");
    everything_to(&cluster, me);
    let waker = Arc::clone(&consumer.shared.waker);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let began = Instant::now();
            loop {
                let batch = consumer.next_batch(Some(Duration::from_millis(100)), None);
                if let Some(batch) = batch.expect("read") {
                    return batch.len();
                }
                assert!(began.elapsed() < LONG, "no record");
            }
        });
        let began = Instant::now();
        while !waker.is_lent() {
            assert!(
                began.elapsed() < LONG / 2,
                "it waits for the poller's thread"
            );
            std::thread::yield_now();
        }
        cluster.lock().produce(&tp(0), 0, 1, 10);
        assert_eq!(waiting.join().expect("no panic"), 1);
        assert!(!waker.is_lent(), "it has left");
    });
}
