//! Topics sent to past librdkafka, on the embedded broker: taken over, given back, purged, and never a record missed, doubled, or
//! before an earlier one of its key.

mod at_once;
mod back;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::batch::RecordBatch;
use crate::embedded::{Broker, Request};
use crate::{Config, Consumer, Error, Producer, ProducerRecord};

const NOT_LEADER: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(60);

struct Story {
    broker: Broker,
    producer: Producer,
    /// Records sent of each key.
    sent: HashMap<usize, usize>,
    number: usize,
}

impl Story {
    fn begin(brokers: i32, partitions: i32, properties: &[(&str, &str)]) -> Story {
        let broker = Broker::new(brokers).expect("a broker");
        broker.create_topic("t", partitions).expect("a topic");
        let mut config = Config::new()
            .with("bootstrap.servers", broker.bootstrap_servers())
            .with("linger.ms", 1)
            .with("tidegate.direct.after.records", 100);
        for (name, value) in properties {
            config = config.with(*name, *value);
        }
        Story {
            producer: Producer::new(&config).expect("a producer"),
            broker,
            sent: HashMap::new(),
            number: 0,
        }
    }

    fn is_direct(&self) -> bool {
        self.producer.stats().topics_direct == 1
    }

    /// The next record's key and value.
    fn next(&mut self) -> (usize, String, String) {
        let key = self.number * 7 % 50;
        self.number += 1;
        let count = self.sent.entry(key).or_default();
        *count += 1;
        (key, format!("key {key}"), format!("{}", *count - 1))
    }

    fn send(&mut self, count: usize) {
        for _ in 0..count {
            let (_, key, value) = self.next();
            let headers = [("name", Some(key.as_bytes())), ("none", None)];
            let mut record = ProducerRecord::new("t").key(&key).value(&value);
            if self.number.is_multiple_of(7) {
                record = record.headers(&headers).timestamp_ms(1_700_000_000_000);
            }
            self.producer.send(&record).expect("sent");
        }
    }

    fn send_rows(&mut self, count: usize) {
        let rows: Vec<_> = (0..count).map(|_| self.next()).collect();
        let rows = rows
            .iter()
            .map(|(_, key, value)| (Some(key.as_bytes()), Some(value.as_bytes())));
        let outcome = self.producer.send_batch("t", rows).expect("sent");
        assert!(outcome.is_complete(), "{outcome:?}");
    }

    /// Sends until the topic is sent to directly, or no longer.
    fn send_until(&mut self, direct: bool) {
        let began = Instant::now();
        while self.is_direct() != direct {
            assert!(began.elapsed() < PATIENCE, "direct={direct} never came");
            self.send(20);
            self.producer.flush(PATIENCE).expect("flushed");
            // It takes seconds until a topic is looked at again, and the broker keeps so much only.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn read(&self, count: usize) -> Vec<RecordBatch> {
        let config = Config::new()
            .with("bootstrap.servers", self.broker.bootstrap_servers())
            .with("group.id", "reader")
            .with("auto.offset.reset", "earliest")
            .with("tidegate.direct.after.records", 0);
        let consumer = Consumer::new(&config).expect("a consumer");
        consumer.subscribe(&["t"]).expect("subscribed");
        let mut batches = Vec::new();
        let mut read = 0;
        while read < count {
            let batch = consumer.next_batch(Some(PATIENCE), None).expect("a batch");
            let batch = batch.unwrap_or_else(|| panic!("{read} of {count} records came"));
            read += batch.len();
            batches.push(batch);
        }
        // One more would be there by now, or soon.
        let more = consumer.next_batch(Some(Duration::from_millis(300)), None);
        assert!(more.expect("none").is_none(), "more than {count} records");
        batches
    }

    /// Everything that was sent is there once, and in order for each key.
    fn check(&self) {
        let sent = self.sent.values().sum();
        let mut next: HashMap<String, (i32, usize)> = HashMap::new();
        for batch in self.read(sent) {
            for record in batch.iter() {
                let text = |bytes: Option<&[u8]>| {
                    String::from_utf8(bytes.expect("not null").to_vec()).expect("text")
                };
                let key = text(record.key());
                let place = next.entry(key.clone()).or_insert((record.partition(), 0));
                assert_eq!(record.partition(), place.0, "{key}");
                assert_eq!(text(record.value()), place.1.to_string(), "{key}");
                place.1 += 1;
                let headers: Vec<_> = record
                    .headers()
                    .map(|one| (one.name_bytes(), one.value))
                    .collect();
                if !headers.is_empty() {
                    assert_eq!(headers.len(), 2);
                    assert_eq!(headers[0], (&b"name"[..], Some(key.as_bytes())));
                    assert_eq!(headers[1], (&b"none"[..], None));
                    assert_eq!(record.timestamp_ms(), Some(1_700_000_000_000));
                }
            }
        }
        for (key, count) in &self.sent {
            assert_eq!(next[&format!("key {key}")].1, *count);
        }
    }
}

fn take_over_under_load(properties: &[(&str, &str)]) {
    let mut story = Story::begin(2, 5, properties);
    // Without a pause, so that librdkafka still has some when the topic is taken over.
    let began = Instant::now();
    while !story.is_direct() {
        assert!(began.elapsed() < PATIENCE);
        story.send(10);
        story.send_rows(90);
        std::thread::yield_now();
    }
    for _ in 0..50 {
        story.send(30);
        story.send_rows(170);
    }
    story.producer.flush(PATIENCE).expect("flushed");
    assert!(story.is_direct());
    story.check();
    let stats = story.producer.stats();
    assert_eq!((stats.records_failed, stats.in_flight), (0, 0));
    assert_eq!(stats.records_delivered as usize, story.number);
}

#[test]
fn records_come_once_and_in_order_while_their_topic_is_taken_over() {
    take_over_under_load(&[]);
}

/// The last few of each partition are still in librdkafka when full batches are ready here.
#[test]
fn no_batch_overtakes_what_librdkafka_has() {
    take_over_under_load(&[("linger.ms", "500"), ("batch.num.messages", "10")]);
}

#[test]
fn an_error_of_the_broker_sends_a_topic_back_with_everything_that_was_not_confirmed() {
    let mut story = Story::begin(1, 3, &[("max.in.flight.requests.per.connection", "1")]);
    story.send_until(true);
    for round in 0..3 {
        story
            .broker
            // One: a request of librdkafka's that fails may be overtaken by the next one of its own.
            .request_errors(Request::Produce, &[NOT_LEADER])
            .expect("errors");
        let began = Instant::now();
        while story.is_direct() {
            assert!(began.elapsed() < PATIENCE);
            story.send(10);
            story.send_rows(100);
        }
        story.send(500);
        story.send_until(true);
        assert!(round < 3);
    }
    story.producer.flush(PATIENCE).expect("flushed");
    story.check();
    assert_eq!(story.producer.stats().records_failed, 0);
}

#[test]
fn nothing_is_lost_when_a_broker_goes_away() {
    let mut story = Story::begin(2, 4, &[]);
    story.send_until(true);
    story.send(1000);
    // Leaders are drawn by lot, and one broker may have them all.
    let told = story
        .producer
        .metadata(Some("t"), PATIENCE)
        .expect("metadata");
    let leader = told.topics[0].partitions[0].leader;
    story.broker.broker_down(leader).expect("down");
    story.send(2000);
    // A part of the topic cannot be sent now, by anybody.
    assert!(story.producer.flush(Duration::from_millis(500)).is_err());
    story.broker.broker_up(leader).expect("up");
    story.producer.flush(PATIENCE).expect("flushed");
    let stats = story.producer.stats();
    assert_eq!((stats.records_failed, stats.in_flight), (0, 0));
    // What was on its way when the connection broke may be there twice.
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    let sent: usize = story.sent.values().sum();
    let mut different = 0;
    let config = Config::new()
        .with("bootstrap.servers", story.broker.bootstrap_servers())
        .with("group.id", "reader")
        .with("auto.offset.reset", "earliest");
    let consumer = Consumer::new(&config).expect("a consumer");
    consumer.subscribe(&["t"]).expect("subscribed");
    while different < sent {
        let batch = consumer.next_batch(Some(PATIENCE), None).expect("a batch");
        let batch = batch.unwrap_or_else(|| panic!("{different} of {sent} came"));
        for record in batch.iter() {
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap()).into_owned();
            let times = seen
                .entry((text(record.key()), text(record.value())))
                .or_default();
            *times += 1;
            different += usize::from(*times == 1);
        }
    }
}

#[test]
fn reports_say_where_a_record_is() {
    let mut story = Story::begin(1, 3, &[]);
    story.send_until(true);
    let mut expected = Vec::new();
    for number in 0..300 {
        let value = format!("reported {number}");
        let record = ProducerRecord::new("t")
            .value(&value)
            .timestamp_ms(1_600_000_000_000 + number);
        expected.push((
            value.clone(),
            story.producer.send_future(&record).expect("sent"),
        ));
    }
    let tagged: Vec<_> = (0..200).map(|tag| format!("tagged {tag}")).collect();
    for (tag, value) in tagged.iter().enumerate() {
        let record = ProducerRecord::new("t").value(value).partition(2);
        story.producer.try_send_tagged(&record, tag).expect("sent");
    }
    story.producer.flush(PATIENCE).expect("flushed");
    assert!(story.is_direct());
    let mut places = HashMap::new();
    for (value, future) in expected {
        let delivery = crate::block_on::block_on(future, PATIENCE)
            .expect("in time")
            .expect("delivered");
        assert_eq!(&*delivery.topic, "t");
        assert!(
            delivery
                .timestamp_ms
                .is_some_and(|at| at < 1_600_000_000_300)
        );
        places.insert((delivery.partition, delivery.offset), value);
    }
    let mut reports = Vec::new();
    story.producer.take_reports(&mut reports);
    assert_eq!(reports.len(), tagged.len());
    for report in reports {
        assert!(report.outcome.is_ok() && report.latency_us >= 0 && report.partition == 2);
        places.insert((2, report.offset), tagged[report.tag].clone());
    }
    assert_eq!(places.len(), 500);
    let all = story.sent.values().sum::<usize>() + 500;
    let mut found = 0;
    for batch in story.read(all) {
        for record in batch.iter() {
            if let Some(value) = places.get(&(record.partition(), record.offset())) {
                assert_eq!(record.value(), Some(value.as_bytes()));
                found += 1;
            }
        }
    }
    assert_eq!(found, 500);
}

#[test]
fn what_librdkafka_refuses_is_refused_and_the_rest_goes_on() {
    let mut story = Story::begin(1, 3, &[("message.max.bytes", "2000")]);
    story.send_until(true);
    let large = vec![b'x'; 2100];
    let error = story
        .producer
        .send(&ProducerRecord::new("t").value(&large))
        .expect_err("too large");
    assert_eq!(
        error.kafka_code().map(|code| code.name()),
        Some("MSG_SIZE_TOO_LARGE")
    );
    // Those behind a refused one do not go another way than those before it.
    for _ in 0..30 {
        let rows: Vec<_> = (0..100).map(|_| story.next()).collect();
        let rows = rows.iter().flat_map(|(number, key, value)| {
            let row = (Some(key.as_bytes()), Some(value.as_bytes()));
            let refused = (number % 10 == 0).then_some((None, Some(&*large)));
            std::iter::once(row).chain(refused)
        });
        let outcome = story.producer.send_batch("t", rows).expect("sent");
        assert_eq!((outcome.accepted, outcome.refused.len()), (100, 10));
    }
    let nowhere = ProducerRecord::new("t").value("lost").partition(7);
    let error = story
        .producer
        .send(&nowhere)
        .expect_err("no such partition");
    assert_eq!(
        error.kafka_code().map(|code| code.name()),
        Some("_UNKNOWN_PARTITION")
    );
    story.producer.flush(PATIENCE).expect("flushed");
    assert!(story.is_direct());
    story.check();
}

#[test]
fn a_full_queue_is_full_and_empties_again() {
    let properties = [
        ("queue.buffering.max.messages", "1000"),
        ("tidegate.queue.full.timeout.ms", "60000"),
    ];
    let mut story = Story::begin(1, 3, &properties);
    story.send_until(true);
    story
        .broker
        .round_trip_time(1, Duration::from_millis(200))
        .expect("slow");
    let mut taken = 0;
    let error = loop {
        match story
            .producer
            .try_send(&ProducerRecord::new("t").value("v"))
        {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken <= 10_000);
    };
    assert!(matches!(error, Error::QueueFull { .. }), "{error}");
    assert!(story.producer.in_flight() <= 1000);
    story.send(3000);
    story.send_rows(3000);
    story.producer.flush(PATIENCE).expect("flushed");
    assert_eq!(story.producer.in_flight(), 0);
    assert!(story.is_direct());
}

#[test]
fn what_is_purged_is_reported_and_nothing_else_comes_of_it() {
    let mut story = Story::begin(1, 3, &[("linger.ms", "200"), ("batch.num.messages", "100")]);
    story.send_until(true);
    story
        .broker
        .round_trip_time(1, Duration::from_secs(3))
        .expect("slow");
    let codes = Arc::new(Mutex::new(HashMap::<&str, usize>::new()));
    for _ in 0..5000 {
        let codes = Arc::clone(&codes);
        let on_delivery = Box::new(move |outcome: crate::Result<crate::Delivery>| {
            let name = match &outcome {
                Ok(_) => "delivered",
                Err(error) => error.kafka_code().map_or("?", |code| code.name()),
            };
            *codes.lock().entry(name).or_default() += 1;
        });
        story
            .producer
            .send_with(&ProducerRecord::new("t").value("v"), on_delivery)
            .expect("sent");
    }
    story.producer.purge_some(true, true, true).expect("purged");
    let began = Instant::now();
    while story.producer.in_flight() > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "it waits for what is purged"
        );
        std::thread::yield_now();
    }
    let codes = codes.lock();
    let purged =
        codes.get("_PURGE_QUEUE").unwrap_or(&0) + codes.get("_PURGE_INFLIGHT").unwrap_or(&0);
    let delivered = codes.get("delivered").unwrap_or(&0);
    assert_eq!(purged + delivered, 5000, "{codes:?}");
    assert!(purged > 0, "{codes:?}");
}

#[test]
fn a_producer_that_closes_in_time_loses_nothing() {
    let mut story = Story::begin(1, 2, &[("linger.ms", "500")]);
    story.send_until(true);
    let delivered = Arc::new(AtomicUsize::new(0));
    for _ in 0..2000 {
        let delivered = Arc::clone(&delivered);
        story
            .producer
            .send_with(
                &ProducerRecord::new("t").value("v"),
                Box::new(move |outcome: crate::Result<crate::Delivery>| {
                    delivered.fetch_add(usize::from(outcome.is_ok()), Ordering::SeqCst);
                }),
            )
            .expect("sent");
    }
    story.producer.close(PATIENCE).expect("closed");
    assert_eq!(delivered.load(Ordering::SeqCst), 2000);
    let all = story.number + 2000;
    assert_eq!(
        story.read(all).iter().map(RecordBatch::len).sum::<usize>(),
        all
    );
}
