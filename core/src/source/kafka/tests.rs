//! The librdkafka adapter on the embedded broker, without a poller: what the scripted source only claims of librdkafka.

mod direct;

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
        Reader::of(broker, properties, None)
    }

    fn of(
        broker: Broker,
        properties: &[(&str, &str)],
        direct: Option<crate::source::direct::Settings>,
    ) -> Reader {
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
        let source = KafkaSource::new(
            &config,
            true,
            lookup::Reset::Beginning,
            ConsumerOptions::default(),
            &waker,
            None,
            direct,
        );
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

    /// Waits for partitions.
    fn given(&mut self) -> (Vec<TopicPartition>, Protocol) {
        self.until(|reader| match reader.events.pop_front() {
            Some(SourceEvent::Assign {
                partitions,
                protocol,
            }) if partitions.is_empty() => {
                reader.source.assign(protocol, &[]).expect("nothing");
                None
            }
            Some(SourceEvent::Assign {
                partitions,
                protocol,
            }) => Some((partitions, protocol)),
            _ => None,
        })
    }

    /// Leaves the group, as the poller does before it lets go of the source.
    fn leave(mut self) {
        self.source.begin_close();
        self.until(|reader| {
            if let Some(SourceEvent::Revoke {
                partitions,
                protocol,
                ..
            }) = reader.events.pop_front()
            {
                let _ = reader.source.unassign(protocol, &partitions);
            }
            reader.source.is_closed().then_some(())
        });
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
    start_of(&TopicPartition::new("t", 0), generation)
}

fn start_of(partition: &TopicPartition, generation: u64) -> FetchStart {
    let cell = PartitionCell::new(partition.clone(), Generation(generation), 0);
    FetchStart {
        cell: Arc::new(cell),
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

/// librdkafka takes `refuse` for an answer: it goes on, takes the partitions away when told to leave, and gives them again.
fn refused_and_given_again(assignor: &str, expected: Protocol) {
    let mut reader = Reader::new(2, &[("partition.assignment.strategy", assignor)]);
    let topics = ["t".to_string()];
    reader.source.subscribe(&topics).expect("subscribed");
    let (partitions, protocol) = reader.given();
    assert_eq!(protocol, expected);
    reader
        .source
        .refuse(protocol, &partitions)
        .expect("given back");
    reader.source.unsubscribe();
    reader.until(|reader| match reader.events.pop_front() {
        Some(SourceEvent::Revoke {
            partitions,
            protocol,
            ..
        }) => {
            // What was refused is no part of librdkafka's assignment: it refuses to take it away, and takes that for an answer.
            let _ = reader.source.unassign(protocol, &partitions);
            Some(())
        }
        _ => None,
    });
    reader.source.subscribe(&topics).expect("subscribed");
    let (partitions, protocol) = reader.given();
    assert_eq!(partitions.len(), 2);
    let starts: Vec<_> = partitions
        .iter()
        .map(|partition| start_of(partition, 1))
        .collect();
    reader.source.assign(protocol, &starts).expect("assigned");
    reader.produce(1, 10);
    assert_eq!(reader.fill(1000).offsets, [0]);
    reader.leave();
}

#[test]
fn an_eager_assignment_may_be_refused() {
    refused_and_given_again("range", Protocol::Eager);
}

#[test]
fn a_cooperative_assignment_may_be_refused() {
    refused_and_given_again("cooperative-sticky", Protocol::Cooperative);
}
