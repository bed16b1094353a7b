//! Reports that wait until they are asked for.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::events::ClientEvent;
use crate::sink::TAGGED;

fn polled(broker: &Broker, settings: &[(&str, &str)], log: bool) -> Producer {
    let mut config = Config::new().with("bootstrap.servers", broker.bootstrap_servers());
    for (name, value) in settings {
        config.set(*name, *value);
    }
    Producer::polled(&config, log).unwrap()
}

/// So many reports, or all that came in time.
fn reports(producer: &Producer, count: usize) -> Vec<TaggedReport> {
    let deadline = Instant::now() + WAIT;
    let mut reports = Vec::new();
    while reports.len() < count && Instant::now() < deadline {
        let seen = producer.reported();
        if producer.take_reports(&mut reports) == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            producer.wait_reports(seen, left, true).unwrap();
        }
    }
    reports
}

#[test]
fn each_tag_comes_back_once_with_where_its_record_went() {
    const RECORDS: usize = 1000;
    let broker = Broker::with_topics(&[("t", 2)]).unwrap();
    let producer = polled(&broker, &[], false);
    for tag in 0..RECORDS {
        let partition = i32::try_from(tag % 2).unwrap();
        let record = ProducerRecord::new("t").partition(partition).value("v");
        producer.try_send_tagged(&record, tag).unwrap();
    }
    let mut reports = reports(&producer, RECORDS);
    assert_eq!((reports.len(), producer.unread_reports()), (RECORDS, 0));
    reports.sort_by_key(|report| report.tag);
    for (tag, report) in reports.iter().enumerate() {
        let place = (report.partition, report.offset);
        assert_eq!(place, ((tag % 2) as i32, (tag / 2) as i64), "{tag}");
        assert_eq!((report.tag, report.outcome), (tag, Ok(())));
        assert!(report.latency_us > 0 && report.timestamp_ms.is_some());
    }
    assert_eq!(producer.in_flight(), 0);
    let stats = producer.stats();
    assert_eq!((stats.records_sent, stats.records_delivered), (1000, 1000));
    assert!(stats.delivery_latency_us.count > 0);
}

#[test]
fn rows_are_accepted_in_order_until_the_queue_is_full() {
    let broker = Broker::with_topics(&[("t", 2)]).unwrap();
    broker.broker_down(ALL_BROKERS).unwrap();
    let settings = [
        ("queue.buffering.max.messages", "100"),
        ("message.max.bytes", "1000"),
    ];
    let producer = polled(&broker, &settings, false);
    let large = [b'v'; 2000];
    let rows: Vec<TaggedRow<'_>> = (0..150)
        .map(|tag| TaggedRow {
            key: None,
            value: Some(if tag == 3 { &large } else { b"v" }),
            partition: Some(1),
            tag: Some(tag),
        })
        .collect();
    let mut refused = Vec::new();
    let dealt = producer
        .send_tagged_rows("t", &rows, &mut |row, error| refused.push((row, error)))
        .unwrap();
    assert_eq!(dealt, 101, "100 are queued and one is refused");
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, 3);
    assert_eq!(producer.in_flight(), 100);
    assert_eq!(producer.stats().bytes_sent, 100);
    assert!(matches!(
        producer.try_send_tagged(&ProducerRecord::new("t"), 7),
        Err(Error::QueueFull { .. })
    ));
    assert_eq!(producer.in_flight(), 100);
    producer.purge_some(true, true, true).unwrap();
    let reports = reports(&producer, 100);
    assert_eq!(reports.len(), 100);
    for report in reports {
        assert_eq!(report.outcome.unwrap_err().name(), "_PURGE_QUEUE");
    }
    let negative = TaggedRow {
        partition: Some(-2),
        ..rows[0]
    };
    for (row, argument) in [
        (negative, "partition"),
        (
            TaggedRow {
                tag: Some(TAGGED),
                ..rows[0]
            },
            "tag",
        ),
    ] {
        let error = producer
            .send_tagged_rows("t", &[row], &mut |_, _| {})
            .unwrap_err();
        assert!(matches!(error, Error::Argument { argument: a, .. } if a == argument));
    }
}

#[test]
fn records_of_which_nobody_asked_end_a_wait_too() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = polled(&broker, &[], false);
    let seen = producer.reported();
    producer.try_send(&ProducerRecord::new("t")).unwrap();
    let started = Instant::now();
    while producer.reported() == seen {
        producer.wait_reports(seen, WAIT, false).unwrap();
        assert!(started.elapsed() < WAIT);
    }
    assert_eq!(producer.unread_reports(), 0);
}

#[test]
fn events_wait_for_who_asked_for_them() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let settings = [("statistics.interval.ms", "10"), ("debug", "broker")];
    let producer = polled(&broker, &settings, true);
    let deadline = Instant::now() + WAIT;
    let (mut statistics, mut lines, mut errors) = (0, 0, 0);
    let mut down = false;
    while (statistics == 0 || lines == 0 || errors == 0) && Instant::now() < deadline {
        producer
            .wait_reports(producer.reported(), WAIT, false)
            .unwrap();
        for event in producer.take_events() {
            match event {
                ClientEvent::Statistics(json) => {
                    assert!(json.starts_with('{'), "{json}");
                    statistics += 1;
                }
                ClientEvent::Log { facility, .. } => {
                    assert!(!facility.is_empty());
                    lines += 1;
                }
                ClientEvent::Error { .. } => errors += 1,
                ClientEvent::Throttle { .. } => {}
            }
        }
        if statistics > 0 && !down {
            broker.broker_down(ALL_BROKERS).unwrap();
            down = true;
        }
    }
    assert!(statistics > 0 && lines > 0 && errors > 0);
}

#[test]
fn the_ready_callback_comes_once_for_each_arming() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = polled(&broker, &[], false);
    let calls = Arc::new(AtomicUsize::new(0));
    let (tell, told) = unbounded();
    let count = Arc::clone(&calls);
    producer.set_ready_callback(Some(Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        tell.send(()).unwrap();
    })));
    for round in 1..=3 {
        producer
            .try_send_tagged(&ProducerRecord::new("t"), round)
            .unwrap();
        told.recv_timeout(WAIT).unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), round);
        assert_eq!(reports(&producer, 1).len(), 1);
        producer.arm_ready_callback();
    }
    // What waits already is told at once.
    producer.set_ready_callback(None);
    producer
        .try_send_tagged(&ProducerRecord::new("t"), 9)
        .unwrap();
    producer.flush(WAIT).unwrap();
    let (tell, told) = unbounded();
    producer.set_ready_callback(Some(Box::new(move || tell.send(()).unwrap())));
    told.recv_timeout(WAIT).unwrap();
}
