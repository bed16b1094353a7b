//! A stage of a chain: hands on every record of one topic to another, key-ordered, many at once, and is killed while it does.
//!
//! `stage BOOTSTRAP FROM TO GROUP NAME PROTOCOL IN_FLIGHT` runs until its standard input ends. A record is finished when the broker has
//! confirmed its copy. The copy says in headers which record it is of (`from`) and who made it (`by`); `tests/python` judges the copies.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "lines on standard output are events for the test"
)]

use std::collections::BinaryHeap;
use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidegate::{
    Config, Consumer, Error, ProcessOptions, Producer, ProducerRecord, RebalanceListener, Result,
    TopicPartition,
};

const DRAIN: Duration = Duration::from_secs(20);
/// Every so many records one takes longer, so that what is done has gaps.
const ONE_IN: u64 = 8;
const LONGEST_MS: u64 = 40;

/// Wakes futures when their time has come.
#[derive(Default)]
struct Alarm {
    waiting: Mutex<BinaryHeap<Waiting>>,
    changed: Condvar,
}

struct Waiting {
    due: Instant,
    waker: Waker,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}

impl Alarm {
    fn run(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = Instant::now();
            while waiting.peek().is_some_and(|first| first.due <= now) {
                if let Some(due) = waiting.pop() {
                    due.waker.wake();
                }
            }
            let pause = waiting
                .peek()
                .map_or(DRAIN, |first| first.due.saturating_duration_since(now));
            waiting = self
                .changed
                .wait_timeout(waiting, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Over at `due`.
struct Pause {
    due: Instant,
    alarm: Arc<Alarm>,
}

impl Future for Pause {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.due {
            return Poll::Ready(());
        }
        let (due, waker) = (self.due, context.waker().clone());
        let mut waiting = self
            .alarm
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.push(Waiting { due, waker });
        self.alarm.changed.notify_one();
        Poll::Pending
    }
}

/// Tells the test what was taken away without being asked.
struct Events;

impl RebalanceListener for Events {
    fn on_lost(&self, partitions: &[TopicPartition]) -> Result<()> {
        println!("lost {}", partitions.len());
        Ok(())
    }
}

/// How long the record at this place takes, beside its delivery. Of the place alone: a repetition takes as long.
fn pause_ms(partition: i32, offset: i64) -> u64 {
    let mixed =
        (offset as u64 ^ (partition as u64) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    match mixed.is_multiple_of(ONE_IN) {
        true => mixed / ONE_IN % LONGEST_MS,
        false => 0,
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, from, to, group, name, protocol, in_flight] = arguments.as_slice() else {
        eprintln!("stage BOOTSTRAP FROM TO GROUP NAME PROTOCOL IN_FLIGHT");
        std::process::exit(2);
    };
    let cluster = Config::new()
        .with("bootstrap.servers", bootstrap.as_str())
        .with("client.id", name.as_str());
    let mut config = cluster
        .clone()
        .with("group.id", group.as_str())
        .with("group.protocol", protocol.as_str())
        .with("auto.offset.reset", "earliest")
        .with("auto.commit.interval.ms", 500);
    if protocol == "classic" {
        config = config
            .with("session.timeout.ms", 6000)
            .with("partition.assignment.strategy", "cooperative-sticky");
    }
    let producer = Producer::new(
        &cluster
            .with("enable.idempotence", true)
            .with("linger.ms", 2),
    )?;
    let alarm = Arc::new(Alarm::default());
    let ringing = Arc::clone(&alarm);
    std::thread::spawn(move || ringing.run());

    let consumer = Arc::new(Consumer::new(&config)?);
    consumer.subscribe_with(&[from.as_str()], Box::new(Events))?;
    let mut options = ProcessOptions::default();
    options.max_in_flight = in_flight.parse().unwrap_or(100);
    // A copy that is refused is sent again; in its place, as the key waits.
    options.max_attempts = None;
    let (topic, by): (Arc<str>, Arc<str>) = (Arc::from(to.as_str()), Arc::from(name.as_str()));
    let sending = producer.clone();
    let processing = consumer.process_async(options, move |record| {
        let (producer, alarm) = (sending.clone(), Arc::clone(&alarm));
        let (topic, by) = (Arc::clone(&topic), Arc::clone(&by));
        async move {
            let (partition, offset) = (record.partition(), record.offset());
            let pause = Duration::from_millis(pause_ms(partition, offset));
            if !pause.is_zero() {
                let due = Instant::now() + pause;
                Pause { due, alarm }.await;
            }
            let place = format!("{partition}:{offset}");
            let headers = [
                ("from", Some(place.as_bytes())),
                ("by", Some(by.as_bytes())),
            ];
            let mut copy = ProducerRecord::new(&topic).headers(&headers);
            copy.key = record.key();
            copy.value = record.value();
            // Nothing is finished before the next stage has it.
            producer.send_future(&copy)?.await?;
            Ok(())
        }
    })?;
    println!("ready");

    // Asked to leave by the end of its input. What ended it before that comes out of `stop`.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let report = processing.stop(DRAIN)?;
    consumer.close(DRAIN)?;
    producer.flush(DRAIN)?;
    let ledger = report.ledger;
    println!(
        "left drained={} received={} done={} stale={} skipped={} missing={}",
        report.is_drained,
        ledger.received,
        ledger.done,
        ledger.stale,
        ledger.skipped,
        ledger.missing()
    );
    match report.is_drained && ledger.missing() == 0 {
        true => Ok(()),
        false => Err(Error::TimedOut {
            what: "leaving".into(),
            timeout_ms: DRAIN.as_millis() as u64,
        }),
    }
}
