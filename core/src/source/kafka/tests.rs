//! The librdkafka adapter on the embedded broker, without a poller: what the scripted source only claims of librdkafka.

use std::time::Instant;

use rdkafka::bindings as rd;

use super::*;
use crate::embedded::Broker;
use crate::partition::Generation;
use crate::producer::{Producer, ProducerRecord};

const LONG: Duration = Duration::from_secs(60);
const LARGE: usize = 300_000;

struct Reader {
    source: KafkaSource,
    events: VecDeque<SourceEvent>,
    broker: Broker,
}

impl Reader {
    fn new(partitions: i32, properties: &[(&str, &str)]) -> Reader {
        let broker = Broker::with_topics(&[("t", partitions)]).expect("a broker");
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", broker.bootstrap_servers())
            .set("group.id", "g")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "200");
        for (name, value) in properties {
            config.set(*name, *value);
        }
        let waker = Arc::new(Waker::default());
        waker.register();
        let source = KafkaSource::new(&config, true, lookup::Reset::Beginning, &waker);
        Reader {
            source: source.expect("a consumer"),
            events: VecDeque::new(),
            broker,
        }
    }

    fn produce(&self, count: usize, value_bytes: usize) {
        let config =
            crate::Config::new().with("bootstrap.servers", self.broker.bootstrap_servers());
        let producer = Producer::new(&config).expect("a producer");
        let value = vec![b'v'; value_bytes];
        for _ in 0..count {
            let record = ProducerRecord::new("t").partition(0).value(&value);
            producer.send(&record).expect("accepted");
        }
        producer.flush(LONG).expect("delivered");
    }

    /// Serves librdkafka until `done` gives something.
    fn until<T>(&mut self, mut done: impl FnMut(&mut Reader) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            self.source.events(&mut self.events);
            if let Some(found) = done(self) {
                return found;
            }
            assert!(
                started.elapsed() < LONG,
                "waited too long: {:?}",
                self.events
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn read_from_the_beginning(&mut self) -> Arc<PartitionCell> {
        let start = start(1);
        let starts = std::slice::from_ref(&start);
        self.source
            .assign(Protocol::Eager, starts)
            .expect("assigned");
        start.cell
    }

    /// Waits until so many messages were fetched.
    fn fetched(&mut self, count: usize) {
        self.until(|reader| {
            // SAFETY: the queue is alive.
            let waiting = unsafe { rd::rd_kafka_queue_length(reader.source.messages.as_ptr()) };
            (waiting >= count).then_some(())
        });
    }

    fn fill(&mut self, bytes: usize) -> BatchData {
        let limit = FillLimit {
            records: 4096,
            bytes,
        };
        self.until(|reader| reader.source.fill(limit, 0, &mut reader.events))
    }
}

fn start(generation: u64) -> FetchStart {
    let partition = TopicPartition::new("t", 0);
    FetchStart {
        cell: Arc::new(PartitionCell::new(partition, Generation(generation), 0)),
        offset: Offset::At(0),
    }
}

#[test]
fn a_batch_ends_one_record_beyond_its_bytes_however_much_waits() {
    let mut reader = Reader::new(1, &[]);
    reader.produce(12, LARGE);
    reader.read_from_the_beginning();
    reader.fetched(12);
    let mut offsets = Vec::new();
    while offsets.len() < 12 {
        let batch = reader.fill(LARGE + 1);
        assert!(
            batch.len() <= 2,
            "{} of 300 KB for a limit of 300 KB",
            batch.len()
        );
        offsets.extend(batch.offsets);
    }
    assert_eq!(offsets, (0..12).collect::<Vec<_>>());
}

#[test]
fn a_seek_leaves_nothing_of_before_behind() {
    let mut reader = Reader::new(1, &[]);
    reader.produce(12, LARGE);
    reader.read_from_the_beginning();
    reader.fetched(12);
    assert_eq!(reader.fill(2 * LARGE).offsets, [0, 1]);
    assert!(
        reader.source.taken.front().is_some(),
        "taken and not handed over"
    );
    let again = start(2);
    reader.source.seek(&again).expect("sought");
    let mut offsets = Vec::new();
    while offsets.len() < 12 {
        let batch = reader.fill(2 * LARGE);
        assert!(
            batch
                .runs
                .iter()
                .all(|run| Arc::ptr_eq(&run.cell, &again.cell))
        );
        offsets.extend(batch.offsets);
    }
    assert_eq!(offsets, (0..12).collect::<Vec<_>>());
}

#[test]
fn small_records_fill_a_batch() {
    let mut reader = Reader::new(1, &[]);
    reader.produce(10_000, 100);
    reader.read_from_the_beginning();
    reader.fetched(10_000);
    let lengths = [(); 3].map(|()| reader.fill(1 << 20).len());
    assert_eq!(lengths, [4096, 4096, 10_000 - 2 * 4096]);
}
