//! Micro-benches of what runs per record or per batch in pure Rust, on a batch read once from an embedded broker:
//! walking and slicing it, reading it through its columns, and acknowledging its records.
//!
//! `cargo bench -p tidegate-benches` (the release profile, so that librdkafka is compiled only once).

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use tidegate::embedded::Broker;
use tidegate::{Config, Consumer, Offset, Producer, RecordBatch, TopicPartition};

const TOPIC: &str = "micro";
const PARTITIONS: i32 = 4;
const RECORDS: usize = 4096;
const VALUE_BYTES: usize = 100;
const WAIT: Duration = Duration::from_secs(30);

/// An embedded broker with one batch's worth of records, and a consumer that reads them again and again.
struct Fixture {
    consumer: Consumer,
    _broker: Broker,
}

impl Fixture {
    fn new() -> tidegate::Result<Fixture> {
        let broker = Broker::with_topics(&[(TOPIC, PARTITIONS)])?;
        let config = Config::new().with("bootstrap.servers", broker.bootstrap_servers());
        let producer = Producer::new(&config)?;
        let value = [b'x'; VALUE_BYTES];
        let keys: Vec<String> = (0..RECORDS).map(|number| number.to_string()).collect();
        producer.send_batch(
            TOPIC,
            keys.iter()
                .map(|key| (Some(key.as_bytes()), Some(&value[..]))),
        )?;
        producer.flush(WAIT)?;
        let consumer = Consumer::new(
            &config
                .with("group.id", "micro")
                .with("auto.offset.reset", "earliest"),
        )?;
        Ok(Fixture {
            consumer,
            _broker: broker,
        })
    }

    /// All records as one leased batch: nothing of it is acknowledged.
    fn lease(&self) -> tidegate::Result<RecordBatch> {
        let beginning: Vec<_> = (0..PARTITIONS)
            .map(|partition| (TopicPartition::new(TOPIC, partition), Offset::Beginning))
            .collect();
        self.consumer.assign(&beginning)?;
        self.consumer.wait_ready(Some(WAIT), RECORDS)?;
        self.consumer
            .lease_batch(Some(WAIT), None)?
            .ok_or(tidegate::Error::TimedOut {
                what: "reading the records back".into(),
                timeout_ms: WAIT.as_millis() as u64,
            })
    }
}

fn walking(group: &mut BenchmarkGroup<'_, WallTime>, batch: &RecordBatch) {
    group.throughput(Throughput::Elements(batch.len() as u64));
    group.bench_function("iterate, key and value lengths", |bencher| {
        bencher.iter(|| {
            batch
                .iter()
                .map(|record| {
                    record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len)
                })
                .sum::<usize>()
        });
    });
    group.bench_function("get by row, value lengths", |bencher| {
        bencher.iter(|| {
            (0..batch.len())
                .map(|row| batch.value(row).map_or(0, <[u8]>::len))
                .sum::<usize>()
        });
    });
    group.bench_function("columns, offsets and value lengths", |bencher| {
        bencher.iter(|| {
            let lengths: i64 = batch
                .value_columns()
                .1
                .iter()
                .map(|&length| i64::from(length))
                .sum();
            lengths + batch.offsets().iter().sum::<i64>()
        });
    });
    group.bench_function("an owned record each", |bencher| {
        bencher.iter(|| {
            (0..batch.len())
                .filter_map(|row| batch.get_owned(row))
                .map(|record| record.offset())
                .sum::<i64>()
        });
    });
    group.bench_function("slice into hundreds", |bencher| {
        bencher.iter(|| {
            for start in (0..batch.len()).step_by(100) {
                black_box(batch.slice(start..(start + 100).min(batch.len())));
            }
        });
    });
}

/// Acknowledges the rows of a fresh batch each time; reading it is not measured.
fn acknowledging(
    group: &mut BenchmarkGroup<'_, WallTime>,
    fixture: &Fixture,
    name: &str,
    order: fn(usize, usize) -> usize,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                let batch = fixture.lease().expect("the records are there");
                let start = Instant::now();
                for index in 0..batch.len() {
                    let row = order(index, batch.len());
                    black_box(batch.acknowledge_rows(row..row + 1)).expect("the assignment holds");
                }
                spent += start.elapsed();
            }
            spent
        });
    });
}

fn records(criterion: &mut Criterion) {
    let fixture = Fixture::new().expect("an embedded broker");
    let batch = fixture.lease().expect("the records are there");
    let mut group = criterion.benchmark_group("batch");
    walking(&mut group, &batch);
    group.finish();

    let mut group = criterion.benchmark_group("acknowledge");
    group.throughput(Throughput::Elements(batch.len() as u64));
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(1));
    acknowledging(&mut group, &fixture, "one by one in order", |index, _| {
        index
    });
    acknowledging(
        &mut group,
        &fixture,
        "one by one backwards",
        |index, count| count - 1 - index,
    );
    // 1021 is prime to the batch's length: every row once, far from the one before.
    acknowledging(
        &mut group,
        &fixture,
        "one by one scattered",
        |index, count| index * 1021 % count,
    );
    group.bench_function("whole batch", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                let batch = fixture.lease().expect("the records are there");
                let start = Instant::now();
                black_box(batch.acknowledge()).expect("the assignment holds");
                spent += start.elapsed();
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(micro, records);
criterion_main!(micro);
