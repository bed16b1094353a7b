//! Transactions on the embedded broker, which runs their protocol but hides nothing; what readers see is tested on a real Kafka, in
//! `tests/tests/kafka_transactions.rs`.

use super::*;
use crate::consumer::Consumer;
use crate::group::GroupMetadata;
use crate::partition::OffsetAndMetadata;

fn transactional(broker: &Broker, id: &str) -> Producer {
    let producer = producer(broker, &[("transactional.id", id)]);
    producer.init_transactions(Some(WAIT)).unwrap();
    producer
}

fn name(error: &Error) -> &'static str {
    error.kafka_code().map_or("", |code| code.name())
}

#[test]
fn records_and_offsets_go_with_a_transaction() {
    let broker = Broker::with_topics(&[("in", 1), ("out", 1)]).unwrap();
    let config = Config::new()
        .with("bootstrap.servers", broker.bootstrap_servers())
        .with("group.id", "g")
        .with("enable.auto.commit", "false");
    let consumer = Consumer::new(&config).unwrap();
    let group = consumer.group_metadata().unwrap();
    let travelled = GroupMetadata::from_bytes(group.as_bytes());
    assert_eq!(group, travelled);
    let producer = transactional(&broker, "id");
    for round in 1..=2 {
        producer.begin_transaction().unwrap();
        let mut sent = producer
            .send_future(&ProducerRecord::new("out").value("v"))
            .unwrap();
        let offsets = [
            OffsetAndMetadata {
                metadata: Some("mine".into()),
                leader_epoch: Some(0),
                ..OffsetAndMetadata::new("in", 0, round)
            },
            OffsetAndMetadata::new("in", 1, -1001),
        ];
        producer
            .send_offsets_to_transaction(&offsets, &travelled, Some(WAIT))
            .unwrap();
        producer.commit_transaction(None).unwrap();
        assert!(
            sent.wait(Duration::ZERO).is_ok(),
            "reported before the commit returned"
        );
    }
    producer.close(WAIT).unwrap();
}

#[test]
fn an_aborted_transaction_fails_what_was_not_delivered() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let config = [("transactional.id", "id"), ("linger.ms", "10000")];
    let producer = producer(&broker, &config);
    producer.init_transactions(Some(WAIT)).unwrap();
    producer.begin_transaction().unwrap();
    let mut sent = producer.send_future(&ProducerRecord::new("t")).unwrap();
    producer.abort_transaction(None).unwrap();
    assert_eq!(
        name(&sent.wait(Duration::ZERO).unwrap_err()),
        "_PURGE_QUEUE"
    );
    producer.begin_transaction().unwrap();
    producer.commit_transaction(None).unwrap();
}

#[test]
fn calls_that_come_out_of_order_say_so() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let plain = producer(&broker, &[]);
    let error = plain.init_transactions(Some(WAIT)).unwrap_err();
    assert_eq!(name(&error), "_NOT_CONFIGURED");
    let early = producer(&broker, &[("transactional.id", "early")]);
    assert_eq!(name(&early.begin_transaction().unwrap_err()), "_STATE");
    let producer = transactional(&broker, "id");
    assert_eq!(
        name(&producer.commit_transaction(None).unwrap_err()),
        "_STATE"
    );
    // Nothing may be sent outside of a transaction.
    let error = producer.send(&ProducerRecord::new("t")).unwrap_err();
    assert_eq!(name(&error), "_STATE");
    producer.begin_transaction().unwrap();
    let error = producer.begin_transaction().unwrap_err();
    assert_eq!(name(&error), "_STATE");
    assert!(!error.is_retriable() && !error.requires_abort());
    let group = GroupMetadata::from_bytes(b"nonsense");
    let offset = [OffsetAndMetadata::new("t", 0, 1)];
    assert!(
        producer
            .send_offsets_to_transaction(&offset, &group, Some(WAIT))
            .is_err()
    );
    producer.close(WAIT).unwrap();
    assert!(matches!(
        producer.begin_transaction(),
        Err(Error::Closed { .. })
    ));
}

#[test]
fn a_record_that_is_refused_makes_the_transaction_one_to_abort() {
    const TOPIC_AUTHORIZATION_FAILED: i32 = 29;
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = transactional(&broker, "id");
    producer.begin_transaction().unwrap();
    broker
        .request_errors(Request::Produce, &[TOPIC_AUTHORIZATION_FAILED])
        .unwrap();
    producer.send(&ProducerRecord::new("t").value("v")).unwrap();
    let error = producer.commit_transaction(None).unwrap_err();
    assert!(error.requires_abort() && !error.is_fatal(), "{error}");
    assert!(error.to_string().contains("must be aborted"), "{error}");
    producer.abort_transaction(None).unwrap();
    // The topic counts as refused until its metadata is fresh; a transaction without it goes on.
    producer.begin_transaction().unwrap();
    producer.commit_transaction(None).unwrap();
}

#[test]
fn no_broker_is_a_time_out_that_may_be_tried_again() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    broker.broker_down(ALL_BROKERS).unwrap();
    let producer = producer(&broker, &[("transactional.id", "id")]);
    let error = producer
        .init_transactions(Some(Duration::from_millis(50)))
        .unwrap_err();
    assert_eq!((name(&error), error.is_retriable()), ("_TIMED_OUT", true));
    broker.broker_up(ALL_BROKERS).unwrap();
    producer.init_transactions(Some(WAIT)).unwrap();
}

#[test]
fn no_step_is_taken_in_a_delivery_callback() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = transactional(&broker, "id");
    producer.begin_transaction().unwrap();
    let (tell, told) = unbounded();
    let inside = producer.clone();
    producer
        .send_with(&ProducerRecord::new("t"), move |_| {
            tell.send(inside.commit_transaction(None)).unwrap();
        })
        .unwrap();
    producer.commit_transaction(None).unwrap();
    assert!(matches!(
        told.recv_timeout(WAIT).unwrap(),
        Err(Error::Argument { .. })
    ));
}
