//! Partitions read past librdkafka, on the embedded broker: taken over, given back, sought, paused, and never a record missed or
//! delivered twice.

use super::*;
use crate::batch::RecordBatch;
use crate::embedded::Request;
use crate::source::direct::{Settings, Wanted};

const NOT_LEADER: i32 = 6;

fn settings(change: impl FnOnce(&mut Wanted)) -> Settings {
    let mut wanted = Wanted {
        client_id: "me".into(),
        budget_bytes: 10_000_000,
        fetch_max_bytes: 2_000_000,
        partition_max_bytes: 300_000,
        max_wait_ms: 50,
        min_bytes: 1,
        request_timeout_ms: 10_000,
        read_committed: true,
        partition_eof: false,
        batch: FillLimit {
            records: 1000,
            bytes: 100_000,
        },
        after_records: 100,
    };
    change(&mut wanted);
    wanted.into()
}

/// A reader and what it has read.
struct Story {
    reader: Reader,
    started: Instant,
    cells: Vec<Arc<PartitionCell>>,
    /// Next offset expected of each partition.
    next: Vec<i64>,
    read: usize,
    ends: Vec<(i32, i64)>,
    batches: Vec<RecordBatch>,
    keeps: bool,
}

impl Story {
    fn begin(brokers: i32, partitions: i32, settings: Option<Settings>) -> Story {
        let broker = Broker::new(brokers).expect("a broker");
        broker.create_topic("t", partitions).expect("a topic");
        let eof = [("enable.partition.eof", "true")];
        let mut reader = Reader::of(broker, &eof, settings);
        let starts: Vec<_> = (0..partitions)
            .map(|partition| start_of(&TopicPartition::new("t", partition), 1))
            .collect();
        reader
            .source
            .assign(Protocol::Eager, &starts)
            .expect("assigned");
        Story {
            reader,
            started: Instant::now(),
            cells: starts.into_iter().map(|start| start.cell).collect(),
            next: vec![0; partitions as usize],
            read: 0,
            ends: Vec::new(),
            batches: Vec::new(),
            keeps: false,
        }
    }

    fn produce(&self, count: usize, properties: &[(&str, &str)]) {
        let mut config =
            crate::Config::new().with("bootstrap.servers", self.reader.broker.bootstrap_servers());
        for (name, value) in properties {
            config = config.with(*name, *value);
        }
        let producer = Producer::new(&config).expect("a producer");
        for number in 0..count {
            let (key, value) = (number.to_string(), vec![b'v'; 20 + number % 100]);
            let headers = [("name", Some(key.as_bytes()))];
            let mut record = ProducerRecord::new("t")
                .partition((number % self.next.len()) as i32)
                .value(&value);
            if number % 3 == 0 {
                record = record.key(key.as_bytes());
            }
            if number % 7 == 0 {
                record = record.headers(&headers);
            }
            producer.send(&record).expect("accepted");
        }
        producer.flush(LONG).expect("delivered");
    }

    /// One look, as the poller takes it. False when there was nothing.
    fn step(&mut self) -> bool {
        let limit = FillLimit {
            records: 1000,
            bytes: 100_000,
        };
        let now_us = self.started.elapsed().as_micros() as u64;
        let reader = &mut self.reader;
        reader.source.events(&mut reader.events);
        let batch = reader.source.fill(limit, now_us, &mut reader.events);
        for event in reader.events.drain(..) {
            if let SourceEvent::PartitionEof {
                topic_partition,
                offset,
                ..
            } = event
            {
                self.ends.push((topic_partition.partition, offset));
            }
        }
        let Some(batch) = batch else {
            return false;
        };
        for index in 0..batch.runs.len() {
            assert_eq!(batch.went_back(index), None, "nothing comes twice");
            let run = &batch.runs[index];
            if !Arc::ptr_eq(
                &run.cell,
                &self.cells[run.cell.topic_partition().partition as usize],
            ) {
                // Of before a seek: dropped where records are handed out.
                continue;
            }
            for row in run.rows.clone() {
                let partition = batch.partitions[row as usize] as usize;
                assert_eq!(
                    batch.offsets[row as usize], self.next[partition],
                    "in order, none missing"
                );
                self.next[partition] += 1;
                self.read += 1;
            }
        }
        if self.keeps {
            self.batches.push(RecordBatch::new(batch));
        }
        true
    }

    #[track_caller]
    fn read_until(&mut self, count: usize) {
        self.until(|story| story.read >= count);
        assert_eq!(self.read, count);
    }

    #[track_caller]
    fn until(&mut self, done: impl Fn(&Story) -> bool) {
        let until = Instant::now() + LONG;
        while !done(self) {
            if !self.step() {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            assert!(
                Instant::now() < until,
                "{} read, next {:?}, {} directly",
                self.read,
                self.next,
                self.direct()
            );
        }
    }

    fn direct(&self) -> usize {
        direct_count(self.reader.source.client())
    }

    #[track_caller]
    fn all_direct(&mut self) {
        let all = self.next.len();
        self.until(|story| story.direct() == all);
    }
}

#[test]
fn flooded_partitions_are_taken_over_and_nothing_is_missed() {
    let mut story = Story::begin(1, 3, Some(settings(|_| ())));
    story.produce(20_000, &[]);
    story.read_until(20_000);
    story.all_direct();
    story.produce(10_000, &[]);
    story.read_until(30_000);
    assert_eq!(story.direct(), 3);
    story.reader.leave();
}

#[test]
fn a_partition_with_little_stays_with_librdkafka() {
    let mut story = Story::begin(1, 1, Some(settings(|wanted| wanted.after_records = 200)));
    story.produce(100, &[]);
    story.read_until(100);
    let until = Instant::now() + Duration::from_millis(300);
    story.until(|_| Instant::now() > until);
    assert_eq!(story.direct(), 0);
    story.reader.leave();
}

#[test]
fn what_goes_wrong_goes_back_and_comes_again() {
    let mut story = Story::begin(2, 4, Some(settings(|_| ())));
    let mut sent = 0;
    let more = |story: &mut Story, sent: &mut usize| {
        story.produce(4_000, &[]);
        *sent += 4_000;
        story.read_until(*sent);
    };
    more(&mut story, &mut sent);
    story.all_direct();
    let broker = |story: &Story, leader: i32| {
        for partition in 0..4 {
            let broker = &story.reader.broker;
            broker
                .set_leader("t", partition, Some(leader))
                .expect("set");
        }
    };
    // Another leader; an error of the broker; a connection that ends.
    broker(&story, 2);
    more(&mut story, &mut sent);
    story.until(|story| story.direct() == 0 || story.read > 0);
    broker(&story, 1);
    more(&mut story, &mut sent);
    story.all_direct();
    let errors = vec![NOT_LEADER; 4];
    story
        .reader
        .broker
        .request_errors(Request::Fetch, &errors)
        .expect("set");
    more(&mut story, &mut sent);
    story.all_direct();
    for node in [1, 2] {
        story.reader.broker.broker_down(node).expect("down");
    }
    story.until(|story| story.direct() == 0);
    for node in [1, 2] {
        story.reader.broker.broker_up(node).expect("up");
    }
    more(&mut story, &mut sent);
    story.reader.leave();
}

#[test]
fn a_seek_reads_from_there_and_nothing_of_before() {
    let mut story = Story::begin(1, 1, Some(settings(|_| ())));
    story.produce(5_000, &[]);
    story.read_until(5_000);
    story.all_direct();
    for (generation, place) in [(2, 1_000), (3, 4_990), (4, 0)] {
        let cell = PartitionCell::new(TopicPartition::new("t", 0), Generation(generation), place);
        let start = FetchStart {
            cell: Arc::new(cell),
            offset: Offset::At(place),
        };
        story.reader.source.seek(&start).expect("sought");
        story.cells[0] = Arc::clone(&start.cell);
        story.next[0] = place;
        story.until(|story| story.next[0] == 5_000);
    }
    story.all_direct();
    story.reader.leave();
}

#[test]
fn a_paused_partition_is_not_read_and_goes_on_where_it_was() {
    let mut story = Story::begin(1, 2, Some(settings(|_| ())));
    story.produce(4_000, &[]);
    story.read_until(4_000);
    story.all_direct();
    let paused = [TopicPartition::new("t", 1)];
    let pause = |story: &mut Story, is_paused: bool| {
        story.cells[1].set_paused(is_paused);
        story
            .reader
            .source
            .set_paused(&paused, is_paused)
            .expect("done");
    };
    pause(&mut story, true);
    // What was asked for before may still come.
    story.produce(2_000, &[]);
    story.until(|story| story.next[0] == 3_000);
    story.produce(2_000, &[]);
    story.until(|story| story.next[0] == 4_000);
    assert!(story.next[1] <= 3_000, "{}", story.next[1]);
    pause(&mut story, false);
    story.read_until(8_000);
    story.reader.leave();
}

/// A paused partition that goes back to librdkafka stays paused there.
#[test]
fn a_paused_partition_goes_back_paused() {
    // Long, so that a fetch is under way when the connection ends: the lane asks again before it hands over what came.
    let mut story = Story::begin(1, 1, Some(settings(|wanted| wanted.max_wait_ms = 2_000)));
    story.produce(2_000, &[]);
    story.read_until(2_000);
    story.all_direct();
    story.produce(100, &[]);
    story.read_until(2_100);
    let paused = [TopicPartition::new("t", 0)];
    story.cells[0].set_paused(true);
    story
        .reader
        .source
        .set_paused(&paused, true)
        .expect("paused");
    story.reader.broker.broker_down(1).expect("down");
    story.until(|story| story.direct() == 0);
    story.reader.broker.broker_up(1).expect("up");
    story.produce(500, &[]);
    let until = Instant::now() + Duration::from_millis(1500);
    story.until(|_| Instant::now() > until);
    assert_eq!(story.read, 2_100, "nothing comes while it is paused");
    story.cells[0].set_paused(false);
    story
        .reader
        .source
        .set_paused(&paused, false)
        .expect("resumed");
    story.read_until(2_600);
    story.reader.leave();
}

#[test]
fn both_ways_of_reading_give_the_same() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let mut story = Story::begin(1, 2, Some(settings(|_| ())));
        story.produce(1_000, &[]);
        story.read_until(1_000);
        story.all_direct();
        story.keeps = true;
        story.produce(3_000, &[("compression.type", codec), ("linger.ms", "20")]);
        story.read_until(4_000);
        assert_eq!(story.direct(), 2, "{codec} is read directly");
        let mut plain = Story::begin(1, 2, None);
        plain.produce(1_000, &[]);
        plain.read_until(1_000);
        plain.keeps = true;
        plain.produce(3_000, &[("compression.type", codec), ("linger.ms", "20")]);
        plain.read_until(4_000);
        let rows = |story: &Story| {
            let mut rows: Vec<_> = story
                .batches
                .iter()
                .flat_map(RecordBatch::iter)
                .map(|record| {
                    let headers: Vec<_> = record
                        .headers()
                        .map(|header| {
                            (
                                header.name_bytes().to_vec(),
                                header.value.map(<[u8]>::to_vec),
                            )
                        })
                        .collect();
                    let (key, value) = (
                        record.key().map(<[u8]>::to_vec),
                        record.value().map(<[u8]>::to_vec),
                    );
                    (
                        record.partition(),
                        record.offset(),
                        key,
                        value,
                        headers,
                        record.timestamp_ms().is_some(),
                    )
                })
                .collect();
            rows.sort();
            rows
        };
        assert_eq!(rows(&story), rows(&plain), "{codec}");
        story.reader.leave();
        plain.reader.leave();
    }
}

#[test]
fn the_end_of_a_partition_is_told_once() {
    let mut story = Story::begin(1, 1, Some(settings(|wanted| wanted.partition_eof = true)));
    story.produce(1_000, &[]);
    story.until(|story| !story.ends.is_empty() && story.read == 1_000);
    story.all_direct();
    story.produce(1_000, &[]);
    story.until(|story| story.ends.contains(&(0, 2_000)));
    let until = Instant::now() + Duration::from_millis(300);
    story.until(|_| Instant::now() > until);
    let times = |offset| story.ends.iter().filter(|end| **end == (0, offset)).count();
    assert_eq!((times(1_000), times(2_000)), (1, 1), "{:?}", story.ends);
    story.reader.leave();
}

/// However small the budget, and however large the records: it goes on.
#[test]
fn a_budget_smaller_than_a_record_is_enough() {
    let mut story = Story::begin(
        1,
        2,
        Some(settings(|wanted| {
            wanted.budget_bytes = 100;
            wanted.fetch_max_bytes = 100;
            wanted.after_records = 10;
        })),
    );
    story.produce(1_000, &[]);
    story.read_until(1_000);
    story.all_direct();
    story.produce(500, &[]);
    story.read_until(1_500);
    story.reader.leave();
}
