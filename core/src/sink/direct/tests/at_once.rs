//! Without `linger.ms` a record goes out on the thread that sends it, if nothing else is on its way.

use super::*;
use crate::sink::direct::account::Account;
use crate::sink::direct::lane::Lane;
use crate::sink::direct::{Appended, Book, Now, Settings};
use crate::wire::cluster::Node;

const AT_ONCE: (&str, &str) = ("linger.ms", "0");

/// With the broker's answer a while away, what was sent is on its way when the call returns. Not each time: the lane's sender may be
/// looking at just that moment, or the machine may stop this thread until the answer is there. Ten in a row are no accident.
#[test]
fn a_lone_record_is_written_by_the_call_that_sends_it() {
    let broker = Broker::with_topics(&[("t", 1)]).expect("a broker");
    let servers = broker.bootstrap_servers().to_string();
    let (host, port) = servers.rsplit_once(':').expect("host and port");
    let node = Node {
        id: 1,
        host: host.to_string(),
        port: port.parse().expect("a port"),
    };
    let properties = [("bootstrap.servers", servers.as_str()), AT_ONCE];
    let properties = properties.map(|(name, value)| (name.to_string(), value.to_string()));
    let settings = Arc::new(Settings::of(&properties.into(), 1).expect("direct"));
    let account = Arc::new(Account::new(1000, 1 << 20, Box::new(|_| {})));
    let lane = Lane::start(&node, &settings, &account).expect("a lane");
    let leaders = vec![(Arc::clone(&lane), 0)];
    let book = Arc::new(Book::new("t", leaders, &settings, &account, 1).expect("a book"));
    lane.take_over(&book, &[0]);
    let began = Instant::now();
    while !lane.is_ready() {
        assert!(began.elapsed() < PATIENCE, "it does not connect");
        std::thread::yield_now();
    }
    book.start();
    let round_trip = Duration::from_millis(50);
    broker.round_trip_time(1, round_trip).expect("slow");
    let mut in_a_row = 0;
    while in_a_row < 10 {
        let now = Now {
            us: account.now_us(),
            timestamp_ms: 1,
        };
        let record = ProducerRecord::new("t").partition(0).value("v");
        assert_eq!(book.append(&record, 0, now, 0), Appended::Yes);
        in_a_row = if book.is_quiet() { 0 } else { in_a_row + 1 };
        assert!(began.elapsed() < PATIENCE, "the calls do not send");
        while !book.is_empty() {
            assert!(began.elapsed() < PATIENCE, "no answer");
            std::thread::yield_now();
        }
    }
    lane.stop();
}

#[test]
fn records_that_go_out_at_once_come_once_and_in_order() {
    take_over_under_load(&[AT_ONCE]);
}

/// More than a connection takes without waiting: the rest is the lane's to write, and nothing comes in between.
#[test]
fn a_small_record_does_not_get_into_a_large_one() {
    let small_buffer = ("socket.send.buffer.bytes", "10000");
    let mut story = Story::begin(1, 1, &[AT_ONCE, small_buffer]);
    story.send_until(true);
    story.producer.flush(PATIENCE).expect("flushed");
    let before = story.number;
    for round in 0..6 {
        let large = vec![b'a' + round; 500_000];
        let small = vec![b'A' + round];
        story
            .producer
            .send(&ProducerRecord::new("t").value(&large))
            .expect("sent");
        for _ in 0..5 {
            story
                .producer
                .send(&ProducerRecord::new("t").value(&small))
                .expect("sent");
        }
        story.producer.flush(PATIENCE).expect("flushed");
    }
    assert!(story.is_direct(), "nothing went wrong on the way");
    let mut values: Vec<(usize, u8)> = Vec::new();
    for batch in story.read(before + 36) {
        let of = |record: crate::Record<'_>| record.value().map(|value| (value.len(), value[0]));
        values.extend(batch.iter().filter_map(of));
    }
    let wanted = (0..6).flat_map(|round| {
        std::iter::once((500_000, b'a' + round)).chain(std::iter::repeat_n((1, b'A' + round), 5))
    });
    assert_eq!(values[before..], wanted.collect::<Vec<_>>()[..]);
}

#[test]
fn threads_that_send_beside_each_other_keep_their_order() {
    const EACH: usize = 3000;
    let mut story = Story::begin(1, 2, &[AT_ONCE]);
    story.send_until(true);
    story.producer.flush(PATIENCE).expect("flushed");
    let before = story.number;
    std::thread::scope(|scope| {
        for name in ["one", "two", "three"] {
            let producer = story.producer.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    let value = number.to_string();
                    let record = ProducerRecord::new("t").key(name).value(&value);
                    producer.send(&record).expect("sent");
                    if number % 50 == 0 {
                        // So that the next one finds nothing on its way.
                        producer.flush(PATIENCE).expect("flushed");
                    }
                }
            });
        }
    });
    story.producer.flush(PATIENCE).expect("flushed");
    assert!(story.is_direct());
    let mut next: HashMap<Vec<u8>, usize> = HashMap::new();
    for batch in story.read(before + 3 * EACH) {
        for record in batch.iter() {
            let key = record.key().expect("a key").to_vec();
            if !key.starts_with(b"key") {
                let number = next.entry(key).or_default();
                assert_eq!(record.value(), Some(number.to_string().as_bytes()));
                *number += 1;
            }
        }
    }
    assert!(next.len() == 3 && next.values().all(|count| *count == EACH));
}
