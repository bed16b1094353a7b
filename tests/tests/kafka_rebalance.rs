//! Members of a group that come and go every second under load, on a real Kafka: nothing is lost, nothing is handled
//! after it was revoked, no commit passes an unfinished record. And who does not come back leaves the group.
#![allow(clippy::print_stderr, reason = "the counts are the test's evidence")]

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate::{
    Config, Consumer, ProducerRecord, RebalanceListener, RecordBatch, Result, TopicPartition,
};
use tidegate_tests::{Observer, WAIT, create_topic, kafka, producer, unique};

const PARTITIONS: i32 = 12;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all members together have done.
#[derive(Default)]
struct Ledger {
    /// Finished offsets, by partition.
    finished: Mutex<HashMap<i32, BTreeSet<i64>>>,
    handled: AtomicU64,
    /// Who holds a partition, as its callbacks say.
    owners: Mutex<HashMap<i32, usize>>,
    violations: Mutex<Vec<String>>,
    revoked: AtomicU64,
    lost: AtomicU64,
}

impl Ledger {
    fn violation(&self, text: String) {
        lock(&self.violations).push(text);
    }

    /// A record is being handled by `member`.
    fn handle(&self, member: usize, partition: i32, offset: i64) {
        let owner = lock(&self.owners).get(&partition).copied();
        if owner != Some(member) {
            self.violation(format!(
                "member {member} handles {offset} of partition {partition}, which {owner:?} owns"
            ));
        }
        // Work that a revoke may come into.
        if offset % 64 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
        lock(&self.finished)
            .entry(partition)
            .or_default()
            .insert(offset);
        self.handled.fetch_add(1, Ordering::Relaxed);
    }

    /// Every offset below what is committed was finished.
    fn check_committed(&self, committed: &[Option<i64>]) {
        let finished = lock(&self.finished);
        for (partition, offset) in (0..).zip(committed) {
            let Some(offset) = *offset else { continue };
            let done = finished.get(&partition);
            let missing = (0..offset).find(|o| !done.is_some_and(|done| done.contains(o)));
            if let Some(missing) = missing {
                self.violation(format!(
                    "partition {partition} is committed to {offset}, and {missing} is not finished"
                ));
            }
        }
    }
}

struct Listener {
    ledger: Arc<Ledger>,
    member: usize,
}

impl RebalanceListener for Listener {
    fn on_assign(&self, partitions: &[TopicPartition]) -> Result<()> {
        let mut owners = lock(&self.ledger.owners);
        for partition in partitions {
            if let Some(other) = owners.insert(partition.partition, self.member) {
                self.ledger.violation(format!(
                    "{partition} was given to {} while {other} had it",
                    self.member
                ));
            }
        }
        Ok(())
    }

    fn on_revoke(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.ledger.revoked.fetch_add(1, Ordering::Relaxed);
        let mut owners = lock(&self.ledger.owners);
        for partition in partitions {
            owners.remove(&partition.partition);
        }
        Ok(())
    }

    fn on_lost(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.ledger.lost.fetch_add(1, Ordering::Relaxed);
        let mut owners = lock(&self.ledger.owners);
        for partition in partitions {
            if owners.get(&partition.partition) == Some(&self.member) {
                owners.remove(&partition.partition);
            }
        }
        Ok(())
    }
}

struct Member {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Member {
    fn start(config: &Config, topic: &str, ledger: &Arc<Ledger>, member: usize) -> Member {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (config, topic) = (config.clone(), topic.to_string());
            let (ledger, stop) = (Arc::clone(ledger), Arc::clone(&stop));
            thread::spawn(move || {
                let consumer = Consumer::new(&config).expect("a good configuration");
                let listener = Listener {
                    ledger: Arc::clone(&ledger),
                    member,
                };
                consumer
                    .subscribe_with(&[&topic], Box::new(listener))
                    .expect("subscribed");
                while !stop.load(Ordering::Relaxed) {
                    match member % 3 {
                        0 => one_by_one(&consumer, &ledger, member),
                        1 => by_batch(&consumer, &ledger, member),
                        _ => leased(&consumer, &ledger, member),
                    }
                }
                consumer.finish_in_hand();
                consumer.close(WAIT).expect("closed in time");
            })
        };
        Member { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the member does not panic");
    }
}

const TURN: Duration = Duration::from_millis(100);
/// The most records a member takes at a time.
const BATCH: usize = 200;
/// One test at a time: each is load enough for a small machine.
static ALONE: Mutex<()> = Mutex::new(());

fn one_by_one(consumer: &Consumer, ledger: &Ledger, member: usize) {
    if let Some(record) = consumer.poll(Some(TURN)).expect("poll") {
        ledger.handle(member, record.partition(), record.offset());
    }
}

fn by_batch(consumer: &Consumer, ledger: &Ledger, member: usize) {
    if let Some(batch) = consumer.next_batch(Some(TURN), Some(BATCH)).expect("poll") {
        for record in &batch {
            ledger.handle(member, record.partition(), record.offset());
        }
    }
}

/// Four workers that finish rows out of order, while the consumer polls on.
fn leased(consumer: &Consumer, ledger: &Ledger, member: usize) {
    let Some(batch) = consumer.lease_batch(Some(TURN), Some(BATCH)).expect("poll") else {
        return;
    };
    let work = |batch: &RecordBatch, worker: usize| {
        for row in (0..batch.len()).rev().filter(|row| row % 4 == worker) {
            let record = batch.get(row).expect("a row");
            ledger.handle(member, record.partition(), record.offset());
            // Stale only if the drain's time was over, which the check of the owner would have told.
            let _ = batch.acknowledge_rows(row..row + 1);
        }
    };
    thread::scope(|scope| {
        for worker in 0..4 {
            let batch = &batch;
            scope.spawn(move || work(batch, worker));
        }
    });
}

fn members_come_and_go(protocol: &str, settings: &[(&str, &str)]) {
    let Some(bootstrap) = kafka(&format!("members_come_and_go ({protocol})")) else {
        return;
    };
    let _alone = lock(&ALONE);
    if std::env::var_os("TIDEGATE_TEST_LOG").is_some() {
        let start = Instant::now();
        tidegate::log::set_sink_level(tidegate::log::Level::Debug);
        tidegate::log::set_sink(Box::new(move |level, target, message| {
            eprintln!("{:?} {level:?} {target}: {message}", start.elapsed());
        }));
    }
    let (topic, group) = (unique("churn"), unique("churn-group"));
    create_topic(&bootstrap, &topic, PARTITIONS).expect("created");
    let mut config = Config::new()
        .with("bootstrap.servers", bootstrap.as_str())
        .with("group.id", group.as_str())
        .with("auto.offset.reset", "earliest")
        .with("auto.commit.interval.ms", 200);
    for (name, value) in settings {
        config.set(*name, *value);
    }
    if let Ok(contexts) = std::env::var("TIDEGATE_TEST_DEBUG") {
        config.set("debug", contexts);
    }
    let ledger = Arc::new(Ledger::default());
    let observer = Observer::new(&bootstrap, &group).expect("observer");
    let producing = Arc::new(AtomicBool::new(true));
    let sender = {
        let (bootstrap, topic, producing) =
            (bootstrap.clone(), topic.clone(), Arc::clone(&producing));
        thread::spawn(move || {
            let producer = producer(&bootstrap).expect("producer");
            let mut sent = 0_u64;
            while producing.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    let value = sent.to_string();
                    producer
                        .send(
                            &ProducerRecord::new(&topic)
                                .key(value.as_bytes())
                                .value(value.as_bytes()),
                        )
                        .expect("accepted");
                    sent += 1;
                }
                thread::sleep(Duration::from_millis(25));
            }
            producer.flush(WAIT).expect("delivered");
            sent
        })
    };

    let mut members = vec![];
    let mut started = 0;
    let mut start = |members: &mut Vec<Member>| {
        members.push(Member::start(&config, &topic, &ledger, started));
        started += 1;
    };
    start(&mut members);
    // Two, then three members; the oldest leaves when there are three.
    for second in 0..14 {
        thread::sleep(Duration::from_secs(1));
        if members.len() == 3 || (members.len() == 2 && second < 4 && second % 2 == 1) {
            members.remove(0).stop();
        } else {
            start(&mut members);
        }
        ledger.check_committed(&observer.committed(&topic, PARTITIONS).expect("asked"));
    }
    producing.store(false, Ordering::Relaxed);
    let sent = sender.join().expect("the sender does not panic");
    let end = Instant::now() + WAIT;
    let finished = || -> usize { lock(&ledger.finished).values().map(BTreeSet::len).sum() };
    while (finished() as u64) < sent && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
    for member in members {
        member.stop();
    }
    let committed = observer.committed(&topic, PARTITIONS).expect("asked");
    ledger.check_committed(&committed);

    let handled = ledger.handled.load(Ordering::Relaxed);
    let finished = finished() as u64;
    let revoked = ledger.revoked.load(Ordering::Relaxed);
    let lost = ledger.lost.load(Ordering::Relaxed);
    eprintln!(
        "{protocol}: {sent} sent, {} lost, {} handled twice, {started} members, {revoked} revocations, {lost} lost assignments",
        sent - finished,
        handled - finished,
    );
    let violations = lock(&ledger.violations);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert_eq!(finished, sent, "records were lost");
    // Members that leave in order repeat nothing; what a starved machine may repeat is what was in hand when the time
    // for a drain or a commit ran out: a batch of each member at each revocation.
    let most = (revoked + lost) * BATCH as u64;
    assert!(handled - finished <= most, "at most {most} handled twice");
    let total: i64 = committed.iter().flatten().sum();
    assert_eq!(total as u64, sent, "everything is committed at the end");
    assert_eq!(
        observer.records(&topic, PARTITIONS).expect("asked") as u64,
        sent
    );
}

#[test]
fn members_come_and_go_eager() {
    members_come_and_go(
        "eager",
        &[
            ("partition.assignment.strategy", "range"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
        ],
    );
}

#[test]
fn members_come_and_go_cooperative() {
    members_come_and_go(
        "cooperative",
        &[
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
        ],
    );
}

#[test]
fn members_come_and_go_kip_848() {
    members_come_and_go("KIP-848", &[("group.protocol", "consumer")]);
}

/// 7f: a handler that is stuck leaves the group after `max.poll.interval.ms`; one that is slow but finishes records does
/// not, however long its batch takes.
#[test]
fn a_stuck_application_leaves_the_group_and_a_slow_one_stays() {
    let Some(bootstrap) = kafka("a_stuck_application_leaves_the_group_and_a_slow_one_stays") else {
        return;
    };
    let _alone = lock(&ALONE);
    let (topic, group) = (unique("stuck"), unique("stuck-group"));
    create_topic(&bootstrap, &topic, 1).expect("created");
    let producer = producer(&bootstrap).expect("producer");
    for number in 0..100 {
        let value = number.to_string();
        producer
            .send(&ProducerRecord::new(&topic).value(value.as_bytes()))
            .expect("accepted");
    }
    producer.flush(WAIT).expect("delivered");
    let config = Config::new()
        .with("bootstrap.servers", bootstrap.as_str())
        .with("group.id", group.as_str())
        .with("auto.offset.reset", "earliest")
        .with("session.timeout.ms", 6000)
        .with("heartbeat.interval.ms", 500)
        .with("max.poll.interval.ms", 6000);
    let member = || {
        let consumer = Consumer::new(&config).expect("consumer");
        consumer.subscribe(&[&topic]).expect("subscribed");
        consumer
    };

    // Slow: one batch takes twice the interval, record by record.
    let first = member();
    let batch = first.fill_batch(WAIT, 100).expect("poll").expect("a batch");
    let started = Instant::now();
    for row in 0..50 {
        thread::sleep(Duration::from_millis(240));
        batch.acknowledge_rows(row..row + 1).expect("still ours");
    }
    assert!(started.elapsed() > Duration::from_secs(12));
    assert_eq!(first.stats().max_poll_exceeded, 0);
    assert!(!batch.is_stale(99));

    // Stuck: it is out of the group, and the second member gets what the first one has not finished.
    let stuck_since = Instant::now();
    while first.stats().max_poll_exceeded == 0 && stuck_since.elapsed() < WAIT {
        thread::sleep(Duration::from_millis(20));
    }
    let waited = stuck_since.elapsed();
    eprintln!("a stuck member leaves the group after {waited:?}; max.poll.interval.ms is 6000");
    assert!(
        waited >= Duration::from_millis(5500),
        "not before its time: {waited:?}"
    );
    assert!(waited < Duration::from_secs(30), "{waited:?}");
    let second = member();
    let record = second.poll(Some(WAIT)).expect("poll").expect("a record");
    assert_eq!(record.offset(), 50, "what was finished is committed");
    assert!(batch.is_stale(99));
    assert!(
        batch.acknowledge().is_err(),
        "finishing it now changes nothing"
    );

    // It comes back, and is a member again once the other one left.
    assert!(
        first
            .poll(Some(Duration::from_secs(1)))
            .expect("poll")
            .is_none()
    );
    second.commit(WAIT).expect("committed");
    second.close(WAIT).expect("closed");
    let record = first.poll(Some(WAIT)).expect("poll").expect("a record");
    assert_eq!(record.offset(), 51);
}
