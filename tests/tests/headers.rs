//! Headers come through whatever surrounds them.
//!
//! Regression: the engine asks librdkafka for headers only when the byte behind the value, their count, is not zero. A
//! record with an empty value has that byte elsewhere, and once lost its headers.

use std::time::Duration;

use tidegate::embedded::Broker;
use tidegate::{Config, Consumer, Producer, ProducerRecord};

const WAIT: Duration = Duration::from_secs(60);
const VALUES: [Option<&[u8]>; 5] = [None, Some(b""), Some(b"\0"), Some(b"x"), Some(&[b'v'; 300])];
const KEYS: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"key")];
const COUNTS: [usize; 4] = [0, 1, 2, 100];
const RECORDS: usize = 600;

/// What record `index` is made of.
fn plan(index: usize) -> (Option<&'static [u8]>, Option<&'static [u8]>, usize) {
    (
        KEYS[index % 3],
        VALUES[index / 3 % 5],
        COUNTS[index / 15 % 4],
    )
}

#[test]
fn headers_keys_and_values_of_every_shape_and_codec() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let broker = Broker::with_topics(&[("t", 1)]).expect("broker");
        let config = Config::new().with("bootstrap.servers", broker.bootstrap_servers());
        let producer = Producer::new(
            &config
                .clone()
                .with("compression.type", codec)
                .with("linger.ms", 50),
        )
        .expect("producer");
        let names: Vec<String> = (0..100).map(|n| format!("header-{n}")).collect();
        for index in 0..RECORDS {
            let (key, value, count) = plan(index);
            let headers: Vec<(&str, Option<&[u8]>)> = names[..count]
                .iter()
                .enumerate()
                .map(|(n, name)| (name.as_str(), (n % 2 == 0).then_some(name.as_bytes())))
                .collect();
            let record = ProducerRecord {
                key,
                value,
                headers: &headers,
                ..ProducerRecord::new("t")
            };
            producer.send(&record).expect("accepted");
        }
        producer.flush(WAIT).expect("delivered");

        let consumer = Consumer::new(
            &config
                .with("group.id", "g")
                .with("auto.offset.reset", "earliest"),
        )
        .expect("consumer");
        consumer.subscribe(&["t"]).expect("subscribed");
        let batch = consumer
            .fill_batch(WAIT, RECORDS)
            .expect("poll")
            .expect("a batch");
        assert_eq!(batch.len(), RECORDS);
        for (index, record) in batch.iter().enumerate() {
            let (key, value, count) = plan(index);
            assert_eq!(record.key(), key, "{codec}, record {index}");
            assert_eq!(record.value(), value, "{codec}, record {index}");
            let mut seen = 0;
            for (n, header) in record.headers().enumerate() {
                assert_eq!(header.name(), names[n].as_str(), "{codec}, record {index}");
                let expected = (n % 2 == 0).then_some(names[n].as_bytes());
                assert_eq!(header.value, expected, "{codec}, record {index}");
                seen += 1;
            }
            assert_eq!(seen, count, "{codec}, record {index}");
        }
    }
}
