//! The producer's promises on the embedded broker; those that need virtual time are in [`scripted`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;

use super::*;
use crate::embedded::{ALL_BROKERS, Broker, Request};
use crate::log::tests::Captured;

const WAIT: Duration = Duration::from_secs(30);

mod collecting;
mod polled;
mod scripted;
mod transactions;

fn producer(broker: &Broker, settings: &[(&str, &str)]) -> Producer {
    let mut config = Config::new().with("bootstrap.servers", broker.bootstrap_servers());
    for (name, value) in settings {
        config.set(*name, *value);
    }
    Producer::new(&config).unwrap()
}

#[test]
fn a_hundred_thousand_records_in_a_batch_are_delivered() {
    const RECORDS: usize = 100_000;
    let broker = Broker::with_topics(&[("t", 8)]).unwrap();
    let producer = producer(&broker, &[("enable.idempotence", "true")]);
    let value = [b'v'; 20];
    let keys: Vec<String> = (0..RECORDS).map(|n| n.to_string()).collect();
    let outcome = producer
        .send_batch(
            "t",
            keys.iter()
                .map(|key| (Some(key.as_bytes()), Some(&value[..]))),
        )
        .unwrap();
    assert_eq!((outcome.accepted, outcome.refused.len()), (RECORDS, 0));
    producer.flush(WAIT).unwrap();
    let stats = producer.stats();
    assert_eq!(stats.records_sent, RECORDS as u64);
    assert_eq!(stats.records_delivered, RECORDS as u64);
    let key_bytes: usize = keys.iter().map(String::len).sum();
    assert_eq!(stats.bytes_sent, (RECORDS * value.len() + key_bytes) as u64);
    assert_eq!(
        (stats.records_failed, stats.records_refused, stats.in_flight),
        (0, 0, 0)
    );
    assert!(
        stats.delivery_latency_us.count >= RECORDS as u64 / 64,
        "one in 64 is timed"
    );
    assert!(stats.delivery_latency_us.max > 0);
    producer.close(WAIT).unwrap();
}

#[test]
fn a_small_queue_under_a_fast_sender_loses_nothing() {
    const RECORDS: u64 = 5_000;
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(
        &broker,
        &[("queue.buffering.max.messages", "100"), ("linger.ms", "1")],
    );
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..RECORDS / 2 {
                    producer.send(&ProducerRecord::new("t").value("v")).unwrap();
                }
            });
        }
    });
    producer.flush(WAIT).unwrap();
    let stats = producer.stats();
    assert!(stats.queue_full_waits > 0);
    assert_eq!(
        (stats.records_delivered, stats.records_refused),
        (RECORDS, 0)
    );
}

#[test]
fn futures_and_callbacks_hear_of_their_record() {
    let broker = Broker::with_topics(&[("t", 2)]).unwrap();
    let producer = producer(&broker, &[]);
    let mut futures: Vec<_> = (0..3)
        .map(|_| {
            let record = ProducerRecord::new("t")
                .partition(1)
                .value("v")
                .timestamp_ms(1_700_000_000_123);
            producer.send_future(&record).unwrap()
        })
        .collect();
    let deliveries: Vec<Delivery> = futures
        .iter_mut()
        .map(|future| future.wait(WAIT).unwrap())
        .collect();
    for (offset, delivery) in deliveries.iter().enumerate() {
        assert_eq!(&*delivery.topic, "t");
        assert_eq!((delivery.partition, delivery.offset), (1, offset as i64));
        // The mock cluster stamps every record with a fixed time of its own.
        assert!(delivery.timestamp_ms.is_some());
        assert!(delivery.latency_us > 0);
    }
    assert!(matches!(
        futures[0].wait(Duration::ZERO),
        Err(Error::Closed { .. })
    ));

    let (told, heard) = unbounded();
    for _ in 0..3 {
        let told = told.clone();
        let headers: [(&str, Option<&[u8]>); 2] = [("reason", Some(b"x")), ("reason", None)];
        let record = ProducerRecord::new("t")
            .partition(0)
            .key("k")
            .headers(&headers);
        producer
            .send_with(&record, move |outcome| {
                let name = std::thread::current().name().map(str::to_string);
                told.send((outcome, name)).unwrap();
            })
            .unwrap();
    }
    for offset in 0..3 {
        let (outcome, thread) = heard.recv_timeout(WAIT).unwrap();
        assert_eq!(outcome.unwrap().offset, offset);
        assert_eq!(thread.as_deref(), Some("tidegate-delivery"));
    }
}

#[test]
fn a_failed_delivery_is_told_with_kafkas_code_and_the_topic() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    // 29 is TOPIC_AUTHORIZATION_FAILED, which is not retried.
    broker.request_errors(Request::Produce, &[29]).unwrap();
    let producer = producer(&broker, &[]);
    let mut future = producer
        .send_future(&ProducerRecord::new("t").value("v"))
        .unwrap();
    let error = future.wait(WAIT).unwrap_err();
    assert_eq!(
        error.kafka_code().unwrap().name(),
        "TOPIC_AUTHORIZATION_FAILED"
    );
    assert!(error.to_string().contains("topic 't'"), "{error}");
    producer.flush(WAIT).unwrap();
    assert_eq!(producer.stats().records_failed, 1);
}

#[test]
fn a_panic_in_a_callback_is_logged_and_goes_no_further() {
    let captured = Captured::start();
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(&broker, &[]);
    let record = ProducerRecord::new("t").value("v");
    producer
        .send_with(&record, |_| panic!("a bug of the application"))
        .unwrap();
    let mut next = producer.send_future(&record).unwrap();
    assert!(next.wait(WAIT).is_ok());
    producer.flush(WAIT).unwrap();
    assert!(captured.has(Level::Error, "callback panicked"));
    assert_eq!(producer.stats().records_delivered, 2);
}

#[test]
fn a_queue_that_stays_full_is_refused_after_the_bound_and_the_order_is_kept() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    broker.broker_down(ALL_BROKERS).unwrap();
    let producer = producer(
        &broker,
        &[
            ("queue.buffering.max.messages", "10"),
            ("tidegate.queue.full.timeout.ms", "200"),
        ],
    );
    let values: Vec<[u8; 1]> = (0..15).map(|n| [n]).collect();
    let started = Instant::now();
    let outcome = producer
        .send_batch("t", values.iter().map(|value| (None, Some(&value[..]))))
        .unwrap();
    let took = started.elapsed();
    assert_eq!(outcome.accepted, 10);
    let refused: Vec<usize> = outcome.refused.iter().map(|(index, _)| *index).collect();
    assert_eq!(refused, [10, 11, 12, 13, 14], "the tail, whole");
    assert!(matches!(
        outcome.refused[0].1,
        Error::QueueFull {
            waited_ms: 200..,
            ..
        }
    ));
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_secs(5),
        "one wait: {took:?}"
    );
    let stats = producer.stats();
    assert_eq!((stats.records_refused, stats.in_flight), (5, 10));
    assert_eq!(
        stats.queue_full_waits, 1,
        "the rest of the batch does not wait again"
    );
    assert!(matches!(
        producer.try_send(&ProducerRecord::new("t")),
        Err(Error::QueueFull { waited_ms: 0, .. })
    ));

    broker.broker_up(ALL_BROKERS).unwrap();
    producer.flush(WAIT).unwrap();
    assert_eq!(producer.stats().records_delivered, 10);
}

#[test]
fn a_record_that_is_too_large_does_not_stop_its_batch() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(&broker, &[("message.max.bytes", "2000")]);
    let large = vec![b'x'; 3000];
    let batch = [Some(&b"a"[..]), Some(&large), None, Some(&b""[..])];
    let outcome = producer
        .send_batch("t", batch.into_iter().map(|value| (None, value)))
        .unwrap();
    assert_eq!(outcome.accepted, 3);
    assert_eq!(outcome.refused.len(), 1);
    let (index, error) = &outcome.refused[0];
    assert_eq!(*index, 1);
    assert_eq!(error.kafka_code().unwrap().name(), "MSG_SIZE_TOO_LARGE");
    producer.flush(WAIT).unwrap();
    assert_eq!(producer.stats().records_delivered, 3);
}

#[test]
fn flush_has_a_deadline_and_purge_ends_what_is_in_flight() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    broker.broker_down(ALL_BROKERS).unwrap();
    let producer = producer(&broker, &[]);
    let mut futures: Vec<_> = (0..3)
        .map(|_| {
            producer
                .send_future(&ProducerRecord::new("t").value("v"))
                .unwrap()
        })
        .collect();
    let started = Instant::now();
    let error = producer.flush(Duration::from_millis(200)).unwrap_err();
    assert!(
        error.to_string().contains("3 records are still in flight"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(producer.in_flight(), 3);
    producer.purge().unwrap();
    for future in &mut futures {
        let error = future.wait(WAIT).unwrap_err();
        assert_eq!(error.kafka_code().unwrap().name(), "_PURGE_QUEUE");
    }
    producer.flush(WAIT).unwrap();
}

#[test]
fn dropping_a_producer_whose_broker_is_down_is_bounded_and_says_what_is_lost() {
    let captured = Captured::start();
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    broker.broker_down(ALL_BROKERS).unwrap();
    let producer = producer(&broker, &[]);
    let (told, heard) = unbounded();
    let record = ProducerRecord::new("t").value("v");
    producer.send(&record).unwrap();
    producer
        .send_with(&record, move |outcome| told.send(outcome).unwrap())
        .unwrap();
    let started = Instant::now();
    drop(producer);
    let took = started.elapsed();
    assert!(
        took >= DROP_FLUSH_TIMEOUT && took < DROP_FLUSH_TIMEOUT + Duration::from_secs(5),
        "{took:?}"
    );
    assert!(
        heard.try_recv().unwrap().is_err(),
        "told before drop returned"
    );
    assert!(captured.has(Level::Error, "2 record(s) were not delivered in time"));
}

#[test]
fn a_flush_does_not_wait_for_the_linger_time() {
    let broker = Broker::with_topics(&[("t", 4)]).unwrap();
    let producer = producer(&broker, &[("linger.ms", "60000")]);
    for round in 0..5 {
        for _ in 0..100 {
            producer.send(&ProducerRecord::new("t").value("v")).unwrap();
        }
        let started = Instant::now();
        producer.flush(WAIT).unwrap();
        // librdkafka's threads look whether to send at once when they are woken for it, and not for a minute otherwise.
        assert!(started.elapsed() < Duration::from_secs(2), "round {round}");
    }
}

#[test]
fn close_is_prompt_idempotent_and_final() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(&broker, &[("linger.ms", "60000")]);
    let record = ProducerRecord::new("t").value("v");
    producer.send(&record).unwrap();
    let clone = producer.clone();
    producer.close(WAIT).unwrap();
    assert_eq!(producer.stats().records_delivered, 1);
    let started = Instant::now();
    producer.close(WAIT).unwrap();
    clone.close(WAIT).unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(matches!(
        clone.send(&record),
        Err(Error::Closed { what: "producer" })
    ));
    assert!(matches!(clone.try_send(&record), Err(Error::Closed { .. })));
    assert!(matches!(
        clone.send_future(&record),
        Err(Error::Closed { .. })
    ));
    assert!(matches!(clone.flush(WAIT), Err(Error::Closed { .. })));
    assert!(matches!(clone.purge(), Err(Error::Closed { .. })));
    assert!(matches!(clone.topics(WAIT), Err(Error::Closed { .. })));
    assert!(matches!(
        clone.send_batch("t", [(None, None)]),
        Err(Error::Closed { .. })
    ));
}

#[test]
fn an_idle_producer_closes_within_a_tenth_of_a_second_or_so() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(&broker, &[]);
    let record = ProducerRecord::new("t").value("v");
    producer.send_future(&record).unwrap().wait(WAIT).unwrap();
    let started = Instant::now();
    producer.close(WAIT).unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_callback_may_use_the_producer_and_even_end_it() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(&broker, &[]);
    let (told, heard) = unbounded();
    let inner = producer.clone();
    let record = ProducerRecord::new("t").value("v");
    producer
        .send_with(&record, move |_| {
            let record = ProducerRecord::new("t").value("from the callback");
            let sent = inner.send(&record);
            let flushed = inner.flush(Duration::from_secs(60));
            let closed = inner.close(Duration::from_secs(60));
            told.send((sent, flushed, closed, inner)).unwrap();
        })
        .unwrap();
    let (sent, flushed, closed, inner) = heard.recv_timeout(WAIT).unwrap();
    sent.unwrap();
    assert!(matches!(
        flushed,
        Err(Error::Argument {
            argument: "flush",
            ..
        })
    ));
    closed.unwrap();
    inner.close(WAIT).unwrap();
    assert_eq!(inner.stats().records_delivered, 2);
    drop(producer);
}

#[test]
fn the_last_handle_may_go_in_a_callback() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(&broker, &[]);
    let engine = Arc::clone(&producer.handle.engine);
    let (told, heard) = unbounded();
    let last = producer.clone();
    let (let_go, gone) = unbounded::<()>();
    producer
        .send_with(&ProducerRecord::new("t").value("v"), move |_| {
            gone.recv().unwrap();
            drop(last);
            told.send(()).unwrap();
        })
        .unwrap();
    drop(producer);
    let_go.send(()).unwrap();
    heard.recv_timeout(WAIT).unwrap();
    engine.close(WAIT).unwrap();
    assert_eq!(engine.ledger.in_flight(), 0);
}

#[test]
fn bad_input_gets_a_clear_error() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(&broker, &[]);
    let argument = |record: ProducerRecord<'_>| match producer.send(&record) {
        Err(Error::Argument { argument, .. }) => argument,
        other => panic!("expected Error::Argument, got {other:?}"),
    };
    assert_eq!(argument(ProducerRecord::new("")), "topic");
    assert_eq!(argument(ProducerRecord::new("a\0b")), "topic");
    assert_eq!(
        argument(ProducerRecord::new("t").partition(-2)),
        "partition"
    );
    assert_eq!(
        argument(ProducerRecord::new("t").timestamp_ms(-1)),
        "timestamp_ms"
    );
    assert!(matches!(
        producer.send_batch("", [(None, None)]),
        Err(Error::Argument {
            argument: "topic",
            ..
        })
    ));
    assert!(matches!(
        Producer::new(
            &Config::new()
                .with("bootstrap.servers", "x")
                .with("acks", "many")
        ),
        Err(Error::Config(_) | Error::Kafka { .. })
    ));
    // A partition that does not exist is known once there is metadata.
    let mut unknown = producer
        .send_future(&ProducerRecord::new("t").partition(7))
        .unwrap();
    let error = unknown.wait(WAIT).unwrap_err();
    assert_eq!(error.kafka_code().unwrap().name(), "_UNKNOWN_PARTITION");
    let stats = producer.stats();
    assert_eq!((stats.records_sent, stats.records_failed), (1, 1));
}

#[test]
fn topics_are_listed() {
    let broker = Broker::with_topics(&[("b", 3), ("a", 1)]).unwrap();
    let topics = producer(&broker, &[]).topics(WAIT).unwrap();
    let shown: Vec<_> = topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic.partitions))
        .collect();
    assert_eq!(shown, [("a", 1), ("b", 3)]);
}

#[test]
fn errors_of_the_client_are_counted_and_logged() {
    let captured = Captured::start();
    let broker = Broker::new(1).unwrap();
    broker.broker_down(ALL_BROKERS).unwrap();
    let producer = producer(&broker, &[]);
    let started = Instant::now();
    while producer.stats().errors < 2 && started.elapsed() < WAIT {
        std::thread::yield_now();
    }
    assert!(producer.stats().errors >= 2);
    producer.close(Duration::ZERO).unwrap();
    assert!(captured.has(Level::Warn, broker.bootstrap_servers()));
}
