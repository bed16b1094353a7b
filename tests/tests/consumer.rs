//! The consumer against the embedded broker: what a newcomer tries first.

use std::time::{Duration, Instant};

use tidegate::embedded::Broker;
use tidegate::{Config, Consumer, Error, Offset, Producer, ProducerRecord, TopicPartition};

const WAIT: Duration = Duration::from_secs(30);

fn config(broker: &Broker) -> Config {
    Config::new()
        .with("bootstrap.servers", broker.bootstrap_servers())
        .with("auto.offset.reset", "earliest")
        // The embedded broker lets a group go on after a member left only when its session is over.
        .with("session.timeout.ms", 6000)
        .with("heartbeat.interval.ms", 500)
}

fn fill(broker: &Broker, topic: &str, values: std::ops::Range<i64>) {
    let producer =
        Producer::new(&Config::new().with("bootstrap.servers", broker.bootstrap_servers()))
            .expect("producer");
    for value in values {
        producer
            .send(
                &ProducerRecord::new(topic)
                    .partition(0)
                    .key(b"k")
                    .value(value.to_string().as_bytes()),
            )
            .expect("accepted");
    }
    producer.flush(WAIT).expect("delivered");
}

fn consumer(broker: &Broker, group: &str, topic: &str) -> Consumer {
    let consumer = Consumer::new(&config(broker).with("group.id", group)).expect("consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    consumer
}

fn number(value: Option<&[u8]>) -> i64 {
    std::str::from_utf8(value.expect("a value"))
        .expect("utf-8")
        .parse()
        .expect("a number")
}

#[test]
fn records_come_one_by_one_in_order() {
    let broker = Broker::with_topics(&[("t", 1)]).expect("broker");
    fill(&broker, "t", 0..1000);
    let consumer = consumer(&broker, "g", "t");
    for expected in 0..1000 {
        let record = consumer.poll(Some(WAIT)).expect("poll").expect("a record");
        assert_eq!(number(record.value()), expected);
        assert_eq!(record.offset(), expected);
        assert_eq!(record.key(), Some(&b"k"[..]));
        assert!(record.timestamp_ms().is_some());
    }
    assert!(consumer.poll(Some(Duration::ZERO)).expect("poll").is_none());
    consumer.close(WAIT).expect("closed");
    assert!(matches!(consumer.poll(None), Err(Error::Closed { .. })));
}

#[test]
fn what_was_not_finished_comes_again() {
    let broker = Broker::with_topics(&[("t", 1)]).expect("broker");
    fill(&broker, "t", 0..10);
    {
        let first = consumer(&broker, "g", "t");
        for _ in 0..4 {
            first.poll(Some(WAIT)).expect("poll").expect("a record");
        }
        // The fourth record (3) is in hand and not finished.
        first.close(WAIT).expect("closed");
    }
    let second = consumer(&broker, "g", "t");
    let record = second.poll(Some(WAIT)).expect("poll").expect("a record");
    assert_eq!(number(record.value()), 3);
    second
        .commit(WAIT)
        .expect("commit includes what was handed out");
    second.close(WAIT).expect("closed");
    let third = consumer(&broker, "g", "t");
    let record = third.poll(Some(WAIT)).expect("poll").expect("a record");
    assert_eq!(number(record.value()), 4);
}

#[test]
fn batches_can_be_filled_leased_and_acknowledged_out_of_order() {
    let broker = Broker::with_topics(&[("t", 1)]).expect("broker");
    fill(&broker, "t", 0..100);
    {
        let consumer = consumer(&broker, "g", "t");
        let batch = consumer
            .fill_batch(WAIT, 60)
            .expect("poll")
            .expect("a batch");
        assert_eq!(batch.len(), 60);
        let lease = consumer
            .lease_batch(Some(WAIT), Some(20))
            .expect("poll")
            .expect("a batch");
        assert_eq!(lease.offsets()[0], 60);
        assert_eq!(lease.len(), 20);
        lease.acknowledge_rows(1..20).expect("ours");
        let committed = consumer.commit(WAIT).expect("commit");
        assert_eq!(committed[0].offset, Offset::At(60), "60 is not finished");
        lease.acknowledge_rows(0..1).expect("ours");
        let committed = consumer.commit(WAIT).expect("commit");
        assert_eq!(committed[0].offset, Offset::At(80));
    }
    let consumer = consumer(&broker, "g", "t");
    let record = consumer.poll(Some(WAIT)).expect("poll").expect("a record");
    assert_eq!(record.offset(), 80);
}

#[test]
fn seek_pause_and_resume_hand_out_nothing_stale() {
    let broker = Broker::with_topics(&[("t", 1)]).expect("broker");
    fill(&broker, "t", 0..100);
    let consumer = consumer(&broker, "g", "t");
    let partition = TopicPartition::new("t", 0);
    let record = consumer.poll(Some(WAIT)).expect("poll").expect("a record");
    assert_eq!(record.offset(), 0);
    consumer.seek(&partition, Offset::At(50)).expect("seek");
    assert!(record.is_stale());
    for expected in 50..60 {
        let record = consumer.poll(Some(WAIT)).expect("poll").expect("a record");
        assert_eq!(record.offset(), expected);
    }
    consumer
        .pause(std::slice::from_ref(&partition))
        .expect("pause");
    assert_eq!(consumer.paused(), vec![partition.clone()]);
    assert!(
        consumer
            .poll(Some(Duration::from_millis(300)))
            .expect("poll")
            .is_none()
    );
    consumer
        .resume(std::slice::from_ref(&partition))
        .expect("resume");
    for expected in 60..100 {
        let record = consumer.poll(Some(WAIT)).expect("poll").expect("a record");
        assert_eq!(record.offset(), expected);
    }
    assert_eq!(consumer.position(&partition).expect("assigned"), Some(100));
    let (low, high) = consumer.watermarks(&partition, WAIT).expect("asked");
    assert_eq!((low, high), (0, 100));
}

#[test]
fn partitions_can_be_assigned_without_a_group() {
    let broker = Broker::with_topics(&[("t", 1)]).expect("broker");
    fill(&broker, "t", 0..10);
    let consumer = Consumer::new(&config(&broker)).expect("consumer");
    assert!(consumer.subscribe(&["t"]).is_err(), "no group.id");
    let partition = TopicPartition::new("t", 0);
    consumer
        .assign(&[(partition.clone(), Offset::At(7))])
        .expect("assigned");
    let batch = consumer
        .fill_batch(WAIT, 3)
        .expect("poll")
        .expect("a batch");
    assert_eq!(batch.offsets(), [7, 8, 9]);
    consumer
        .assign(&[(partition, Offset::Stored)])
        .expect("assigned");
    let record = consumer.poll(Some(WAIT)).expect("poll").expect("a record");
    assert_eq!(
        record.offset(),
        0,
        "auto.offset.reset, as nothing is stored"
    );
}

#[test]
fn waits_end_on_wake_close_and_deadline() {
    let broker = Broker::with_topics(&[("t", 1)]).expect("broker");
    let consumer = consumer(&broker, "g", "t");
    let start = Instant::now();
    assert!(
        consumer
            .poll(Some(Duration::from_millis(200)))
            .expect("poll")
            .is_none()
    );
    assert!(start.elapsed() >= Duration::from_millis(200));
    std::thread::scope(|scope| {
        // The look below may be the one that is there first.
        let wait = || loop {
            match consumer.poll(None) {
                Err(Error::ConcurrentUse { .. }) => std::thread::yield_now(),
                other => return other,
            }
        };
        let waiter = scope.spawn(wait);
        let began = Instant::now();
        while !matches!(
            consumer.next_batch(Some(Duration::ZERO), None),
            Err(Error::ConcurrentUse { .. })
        ) {
            assert!(began.elapsed() < WAIT, "nobody waits");
            std::thread::yield_now();
        }
        consumer.wake();
        assert!(waiter.join().expect("no panic").expect("woken").is_none());
        let waiter = scope.spawn(|| consumer.poll(None));
        consumer.close(WAIT).expect("closed");
        assert!(!matches!(waiter.join().expect("no panic"), Ok(Some(_))));
    });
}

#[test]
fn a_consumer_whose_broker_is_away_closes_in_time() {
    let config = Config::new()
        .with("bootstrap.servers", "127.0.0.1:1")
        .with("group.id", "g");
    let consumer = Consumer::new(&config).expect("no broker is needed to start");
    consumer.subscribe(&["t"]).expect("subscribed");
    assert!(
        consumer
            .poll(Some(Duration::from_millis(500)))
            .expect("no error")
            .is_none()
    );
    let start = Instant::now();
    let _ = consumer.close(Duration::from_secs(5));
    assert!(start.elapsed() < Duration::from_secs(7));
    drop(consumer);
    assert!(start.elapsed() < Duration::from_secs(7));
}
