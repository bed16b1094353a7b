//! The transactions' thread over the embedded broker's records, with a producer that fails as the test says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::*;
use crate::embedded::Broker;
use crate::kafka_code;
use crate::parallel::exactly_once::{OnRefused, Sent, Way};
use crate::parallel::transactions::Transactions;
use crate::partition::OffsetAndMetadata;
use crate::producer::ProducerRecord;
use crate::{Config, Consumer};

const RECORDS: usize = 30;
const WAIT: Duration = Duration::from_secs(60);

/// `_TIMED_OUT`, `ILLEGAL_GENERATION`, `_FENCED`, `OFFSET_METADATA_TOO_LARGE`.
fn again() -> Error {
    failure(-185, true, false, false)
}
fn abort() -> Error {
    failure(22, false, false, true)
}
fn fenced() -> Error {
    failure(-144, false, true, false)
}
fn too_long() -> Error {
    failure(12, false, false, true)
}

fn failure(number: i32, is_retriable: bool, is_fatal: bool, wants_abort: bool) -> Error {
    Error::Kafka {
        code: kafka_code::from_number(number).judged(is_retriable, is_fatal, wants_abort),
        context: "as the script says".into(),
    }
}

/// What steps answer, in order; what is not said succeeds.
#[derive(Default)]
struct Script {
    init: VecDeque<Error>,
    /// `None`: the partitions are gone.
    offsets: VecDeque<Option<Error>>,
    commit: VecDeque<Error>,
    /// A commit never succeeds.
    never: bool,
    open: Option<Vec<Vec<u8>>>,
    committed: Vec<Vec<u8>>,
    last: BTreeMap<i32, (i64, Option<String>)>,
    offered: Vec<OffsetAndMetadata>,
    log: Vec<&'static str>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Way for Scripted {
    fn init(&self, _: Duration) -> Result<()> {
        let mut script = self.0.lock();
        script.log.push("init");
        script.init.pop_front().map_or(Ok(()), Err)
    }

    fn begin(&self) -> Result<()> {
        let mut script = self.0.lock();
        assert!(script.open.is_none(), "one is open already");
        script.log.push("begin");
        script.open = Some(Vec::new());
        Ok(())
    }

    fn send(&self, record: &ProducerRecord<'_>, _: OnRefused) -> Result<()> {
        let value = record.value.unwrap_or_default().to_vec();
        let mut script = self.0.lock();
        script.open.as_mut().expect("open").push(value);
        Ok(())
    }

    fn send_offsets(
        &self,
        offsets: &[OffsetAndMetadata],
        is_current: &dyn Fn() -> bool,
        _: Duration,
    ) -> Result<Sent> {
        assert!(is_current());
        let mut script = self.0.lock();
        script.log.push("offsets");
        match script.offsets.pop_front() {
            Some(Some(error)) => Err(error),
            Some(None) => Ok(Sent::Gone),
            None => {
                script.offered = offsets.to_vec();
                Ok(Sent::Yes)
            }
        }
    }

    fn commit(&self, _: Duration) -> Result<()> {
        let mut script = self.0.lock();
        script.log.push("commit");
        if script.never {
            return Err(again());
        }
        if let Some(error) = script.commit.pop_front() {
            return Err(error);
        }
        let sent = script.open.take().expect("open");
        script.committed.extend(sent);
        for offset in std::mem::take(&mut script.offered) {
            let place = offset.partition.partition;
            script.last.insert(place, (offset.offset, offset.metadata));
        }
        Ok(())
    }

    fn abort(&self, _: Duration) -> Result<()> {
        let mut script = self.0.lock();
        script.log.push("abort");
        script.open = None;
        Ok(())
    }

    fn close(&self, _: Duration) -> Result<()> {
        self.0.lock().log.push("close");
        Ok(())
    }
}

struct Run {
    _broker: Broker,
    dispatcher: Arc<Dispatcher>,
    script: Scripted,
    handled: usize,
}

/// Records of one partition, handled one after the other.
fn run(script: Script) -> Run {
    let broker = Broker::with_topics(&[("in", 1)]).expect("a broker");
    let config = Config::new().with("bootstrap.servers", broker.bootstrap_servers());
    let producer = Producer::new(&config).expect("a producer");
    for number in 0..RECORDS {
        let value = number.to_string();
        producer
            .send(&ProducerRecord::new("in").value(&value))
            .expect("sent");
    }
    producer.flush(WAIT).expect("delivered");
    let config = config
        .with("group.id", "g")
        .with("auto.offset.reset", "earliest");
    let consumer = Arc::new(Consumer::new(&config).expect("a consumer"));
    consumer.subscribe(&["in"]).expect("subscribed");
    let script = Scripted(Arc::new(Mutex::new(script)));
    let way = Box::new(script.clone());
    let transactions = Transactions::new(way, "out", Duration::from_millis(5), 1_000);
    let options = ProcessOptions::default();
    let dispatcher =
        Dispatcher::start_with(consumer, options, Some(transactions), false).expect("started");
    Run {
        _broker: broker,
        dispatcher,
        script,
        handled: 0,
    }
}

impl Run {
    /// Handles everything; each record makes its own value.
    fn handle(&mut self) {
        let began = Instant::now();
        while self.handled < RECORDS {
            assert!(began.elapsed() < WAIT, "{:?}", self.dispatcher.ledger());
            let wait = Some(Duration::from_millis(50));
            let Ok(Some(works)) = self.dispatcher.take(4, wait) else {
                return;
            };
            self.handled += works.len();
            self.dispatcher.settle(works.iter().map(|work| {
                let value = work.batch.value(work.row).unwrap_or_default();
                (work.ticket, Outcome::Produced(vec![Output::new(value)]))
            }));
        }
    }

    fn until_done(&self) {
        let began = Instant::now();
        while self.dispatcher.ledger().done < RECORDS as u64 {
            assert!(began.elapsed() < WAIT, "{:?}", self.dispatcher.ledger());
            let _ = self.dispatcher.wait(Some(Duration::from_millis(2)));
        }
    }

    fn committed(&self) -> Vec<usize> {
        let script = self.script.0.lock();
        let number = |value: &Vec<u8>| String::from_utf8_lossy(value).parse().expect("a number");
        script.committed.iter().map(number).collect()
    }
}

#[test]
fn aborted_gone_and_slow_transactions_output_each_record_once() {
    let mut run = run(Script {
        init: [again(), again()].into(),
        offsets: [Some(abort()), None, Some(again()), Some(abort())].into(),
        commit: [again(), again(), abort()].into(),
        ..Script::default()
    });
    run.handle();
    run.until_done();
    let mut committed = run.committed();
    committed.sort_unstable();
    assert_eq!(committed, (0..RECORDS).collect::<Vec<_>>());
    assert_eq!(run.handled, RECORDS, "no handler is called again");
    let report = run.dispatcher.stop(WAIT);
    assert!(report.is_drained);
    assert_eq!(report.ledger.missing(), 0);
    let script = run.script.0.lock();
    assert_eq!(script.last[&0], (RECORDS as i64, None));
    let aborts = script.log.iter().filter(|step| **step == "abort").count();
    assert_eq!(aborts, 4, "{:?}", script.log);
    assert_eq!(script.log.last(), Some(&"close"));
}

#[test]
fn a_fenced_producer_ends_the_processing() {
    let mut run = run(Script {
        commit: [fenced()].into(),
        ..Script::default()
    });
    run.handle();
    let error = run.dispatcher.wait(Some(WAIT)).expect_err("fenced");
    assert!(error.is_fatal(), "{error}");
    assert!(
        error
            .to_string()
            .contains("another producer has this transactional_id"),
        "{error}"
    );
    let began = Instant::now();
    let report = run.dispatcher.stop(WAIT);
    assert!(began.elapsed() < WAIT / 2);
    assert_eq!((report.ledger.done, report.ledger.missing()), (0, 0));
    assert!(run.committed().is_empty());
}

#[test]
fn what_cannot_begin_ends_the_processing() {
    let run = run(Script {
        init: [again(), fenced()].into(),
        ..Script::default()
    });
    run.dispatcher.wait(Some(WAIT)).expect_err("fenced");
    assert_eq!(run.dispatcher.stop(WAIT).ledger.missing(), 0);
}

#[test]
fn a_stop_is_bounded_while_no_commit_is_answered_and_leaves_the_outcome_to_the_broker() {
    let mut run = run(Script {
        never: true,
        ..Script::default()
    });
    run.handle();
    let began = Instant::now();
    let report = run.dispatcher.stop(Duration::from_millis(100));
    assert!(began.elapsed() < Duration::from_secs(20));
    let ledger = report.ledger;
    assert_eq!(
        (ledger.done, ledger.outputs_pending, ledger.missing()),
        (0, 0, 0)
    );
    // Neither aborted nor begun again: it may be committed at the broker.
    let script = run.script.0.lock();
    assert!(!script.log.contains(&"abort"), "{:?}", script.log);
    assert_eq!(
        script.log.iter().filter(|step| **step == "begin").count(),
        1
    );
}

#[test]
fn a_broker_that_takes_less_metadata_gets_shorter_maps_and_nothing_is_left_out() {
    let mut run = run(Script {
        offsets: (0..6).map(|_| Some(too_long())).collect(),
        ..Script::default()
    });
    run.handle();
    run.until_done();
    assert_eq!(run.committed().len(), RECORDS);
    run.dispatcher.stop(WAIT);
}

#[test]
fn outputs_without_transactions_end_the_processing_and_are_not_taken_for_done() {
    let called = Arc::new(AtomicUsize::new(0));
    let broker = Broker::with_topics(&[("in", 1)]).expect("a broker");
    let config = Config::new()
        .with("bootstrap.servers", broker.bootstrap_servers())
        .with("group.id", "g");
    let consumer = Arc::new(Consumer::new(&config).expect("a consumer"));
    let counted = Arc::clone(&called);
    let handler = move |_: &crate::Record<'_>| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Output::new("v"))
    };
    let error = consumer
        .process_to(ProcessOptions::default(), handler)
        .expect_err("no transactions");
    assert!(error.to_string().starts_with("exactly_once: "), "{error}");
    let mut options = ProcessOptions {
        exactly_once: Some(ExactlyOnce::new(&consumer, "me", "out").expect("a producer")),
        ..ProcessOptions::default()
    };
    let error = consumer
        .process(options.clone(), |_| Ok(()))
        .expect_err("no outputs");
    assert!(error.to_string().contains("use process_to()"), "{error}");
    options.on_failure = OnFailure::dead_letter_topic(&consumer, "dead").expect("a producer");
    let error = consumer
        .process_to(options, |_| Ok(()))
        .expect_err("another producer");
    assert!(
        error.to_string().contains("ExactlyOnce::producer"),
        "{error}"
    );
    assert_eq!(called.load(Ordering::SeqCst), 0);
}

/// The embedded broker has transactions, but shows their records at once.
#[test]
fn futures_make_outputs_and_a_second_processing_goes_on() {
    let broker = Broker::with_topics(&[("in", 1), ("out", 1)]).expect("a broker");
    let config = Config::new().with("bootstrap.servers", broker.bootstrap_servers());
    let producer = Producer::new(&config).expect("a producer");
    let config = config
        .with("group.id", "g")
        .with("auto.offset.reset", "earliest");
    let consumer = Arc::new(Consumer::new(&config).expect("a consumer"));
    consumer.subscribe(&["in"]).expect("subscribed");
    for round in 0..2 {
        for number in 0..10 {
            let value = format!("{round}-{number}");
            let record = ProducerRecord::new("in").value(&value).key("k");
            producer.send(&record).expect("sent");
        }
        producer.flush(WAIT).expect("delivered");
        let options = ProcessOptions {
            exactly_once: Some(ExactlyOnce::new(&consumer, "me", "out").expect("a producer")),
            ..ProcessOptions::default()
        };
        let processing = consumer
            .process_async_to(options, |record| async move {
                Ok(Output::new(record.value().unwrap_or_default()))
            })
            .expect("started");
        let began = Instant::now();
        while processing.ledger().done < 10 {
            assert!(began.elapsed() < WAIT, "{:?}", processing.ledger());
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(processing.stop(WAIT).expect("no error").is_drained);
    }
    let reader = Consumer::new(&config.with("group.id", "reader")).expect("a consumer");
    reader.subscribe(&["out"]).expect("subscribed");
    for round in 0..2 {
        for number in 0..10 {
            let record = reader.poll(Some(WAIT)).expect("polled").expect("a record");
            let expected = format!("{round}-{number}");
            assert_eq!(record.value(), Some(expected.as_bytes()));
            assert_eq!(record.key(), Some(&b"k"[..]));
        }
    }
}
