//! On a scripted sink with virtual time: waits for room, flush, close, and that every record ends exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::unbounded;

use super::*;
use crate::clock::{Clock, TestClock};
use crate::producer::engine::{Engine, Patience};
use crate::producer::ledger::{Completion, Ledger};
use crate::sink::Sink;
use crate::sink::scripted::{PURGED, ScriptedSink, TOO_LARGE};

struct Bench {
    clock: Arc<TestClock>,
    sink: Arc<ScriptedSink>,
    engine: Arc<Engine>,
}

const QUEUE_FULL_TIMEOUT: Duration = Duration::from_secs(10);

fn bench(capacity: usize) -> Bench {
    let clock = Arc::new(TestClock::new());
    let ledger = Arc::new(Ledger::new(Arc::clone(&clock) as _, Keeps::Events));
    let sink = Arc::new(ScriptedSink::new(Arc::clone(&ledger) as _, capacity));
    let engine = Arc::new(Engine::new(
        ledger,
        Arc::clone(&sink) as _,
        QUEUE_FULL_TIMEOUT,
        ForkGuard::new(),
    ));
    Bench {
        clock,
        sink,
        engine,
    }
}

impl Bench {
    fn send(&self, value: &str) -> Result<()> {
        let record = ProducerRecord::new("t").value(value);
        self.engine.send(&record, None, Patience::Configured)
    }

    /// From `at` on, each wait of anybody delivers `count` records.
    fn deliver_from(&self, at: Duration, count: usize) {
        let sink = Arc::clone(&self.sink);
        self.clock.on_wait(move |now_us| {
            if u128::from(now_us) >= at.as_micros() {
                sink.deliver(count);
                sink.poll(Duration::ZERO);
            }
        });
    }

    fn refused(&self) -> u64 {
        self.engine.ledger.metrics.records_refused.get()
    }
}

#[test]
fn a_full_queue_is_waited_for_and_nothing_is_lost() {
    let bench = bench(2);
    bench.deliver_from(Duration::from_secs(9), 1);
    for value in ["a", "b", "c", "d"] {
        bench.send(value).unwrap();
    }
    assert!(bench.clock.now_us() >= 9_000_000);
    assert!(bench.clock.now_us() < 9_100_000, "it went on at once");
    assert_eq!(bench.engine.ledger.metrics.queue_full_waits.get(), 2);
    bench.engine.flush(WAIT).unwrap();
    let values: Vec<_> = bench.sink.delivered().into_iter().flatten().collect();
    assert_eq!(values, [b"a", b"b", b"c", b"d"]);
    assert_eq!(bench.refused(), 0);
}

#[test]
fn a_queue_that_stays_full_is_an_error_after_exactly_the_bound() {
    let bench = bench(1);
    bench.send("a").unwrap();
    match bench.send("b") {
        Err(Error::QueueFull { topic, waited_ms }) => {
            assert_eq!((topic.as_str(), waited_ms), ("t", 10_000));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.clock.now_us(), 10_000_000);
    assert_eq!(bench.refused(), 1);
    assert_eq!(bench.engine.ledger.in_flight(), 1);
}

#[test]
fn no_patience_means_no_wait() {
    let bench = bench(1);
    let record = ProducerRecord::new("t").value("a");
    bench.engine.send(&record, None, Patience::None).unwrap();
    let refused = bench.engine.send(&record, None, Patience::None);
    assert!(matches!(
        refused,
        Err(Error::QueueFull { waited_ms: 0, .. })
    ));
    assert_eq!(bench.clock.now_us(), 0);
}

#[test]
fn the_caller_is_asked_while_it_waits_and_may_give_up() {
    let bench = bench(1);
    bench.send("a").unwrap();
    let mut asked = 0;
    let mut go_on = || {
        asked += 1;
        asked < 3
    };
    let record = ProducerRecord::new("t").value("b");
    let given_up = bench
        .engine
        .send(&record, None, Patience::Asking(&mut go_on));
    assert!(matches!(given_up, Err(Error::QueueFull { .. })));
    assert_eq!(asked, 3);
    assert!(bench.clock.now_us() <= 200_000, "asked within 100 ms each");
}

#[test]
fn closing_ends_a_wait_for_room() {
    let bench = bench(1);
    bench.send("a").unwrap();
    let engine = Arc::clone(&bench.engine);
    let sink = Arc::clone(&bench.sink);
    let mut closed = false;
    // `close` itself waits on this clock, for the delivery thread: here it is the world that finishes.
    let (close, closing) = unbounded();
    let closer = std::thread::spawn({
        let engine = Arc::clone(&engine);
        move || {
            closing.recv().unwrap();
            let _ = engine.close(Duration::ZERO);
        }
    });
    bench.clock.on_wait(move |now_us| {
        if now_us >= 2_000_000 && !closed {
            closed = true;
            close.send(()).unwrap();
        }
        // Real progress of another thread is awaited here, not virtual time.
        while closed && engine.check().is_ok() {
            std::thread::yield_now();
        }
    });
    assert!(matches!(bench.send("b"), Err(Error::Closed { .. })));
    assert!(bench.clock.now_us() < 10_000_000);
    closer.join().unwrap();
    bench.engine.finish(sink as _);
    assert_eq!(bench.engine.ledger.in_flight(), 0);
}

#[test]
fn a_flush_that_runs_out_says_how_many_are_in_flight() {
    let bench = bench(10);
    for value in ["a", "b", "c"] {
        bench.send(value).unwrap();
    }
    let error = bench.engine.flush(Duration::from_millis(1500)).unwrap_err();
    match &error {
        Error::TimedOut { what, timeout_ms } => {
            assert_eq!(*timeout_ms, 1500);
            assert!(what.contains("3 records"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.clock.now_us(), 1_500_000);
    assert!(
        bench.sink.nudges() > 10,
        "linger is cut short again and again"
    );
    bench.sink.deliver(3);
    bench.sink.poll(Duration::ZERO);
    bench.engine.flush(Duration::ZERO).unwrap();
}

#[test]
fn close_flushes_until_its_deadline_and_then_gives_up_what_is_left() {
    let captured = Captured::start();
    let bench = bench(10);
    for value in ["a", "b", "c"] {
        bench.send(value).unwrap();
    }
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&failures);
    let callback = Completion::Callback(Box::new(move |outcome: Result<Delivery>| {
        let code = outcome.unwrap_err().kafka_code().unwrap();
        assert_eq!(code.number(), PURGED);
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    let record = ProducerRecord::new("t").value("d");
    bench
        .engine
        .send(&record, Some(callback), Patience::Configured)
        .unwrap();
    bench.sink.deliver(1);
    // The delivery thread's part comes first, on this thread: the deadline has passed already.
    bench.clock.advance(Duration::from_secs(1));
    let sink = bench.engine.sink().unwrap();
    let engine = Arc::clone(&bench.engine);
    let waiting = std::thread::spawn(move || engine.close(Duration::ZERO));
    while bench.engine.check().is_ok() {
        std::thread::yield_now();
    }
    bench.engine.finish(sink);
    let _ = waiting.join().unwrap();
    assert_eq!(failures.load(Ordering::SeqCst), 1);
    let metrics = &bench.engine.ledger.metrics;
    assert_eq!(metrics.records_delivered.get(), 1);
    assert_eq!(metrics.records_failed.get(), 3);
    assert_eq!(bench.engine.ledger.in_flight(), 0);
    assert!(captured.has(Level::Error, "3 record(s) were not delivered in time"));
    assert!(matches!(bench.send("e"), Err(Error::Closed { .. })));
    bench.engine.close(Duration::ZERO).unwrap();
}

#[test]
fn a_sink_that_never_reports_cannot_keep_a_completion() {
    let bench = bench(10);
    let (sender, mut report) = oneshot::channel();
    let record = ProducerRecord::new("t").value("a");
    bench
        .engine
        .send(&record, Some(Completion::Future(sender)), Patience::None)
        .unwrap();
    let lost = bench
        .engine
        .ledger
        .abandon(crate::kafka_code::from_number(-197));
    assert_eq!(lost, 1);
    let outcome = report.try_recv().unwrap().unwrap();
    assert_eq!(
        outcome.unwrap_err().kafka_code().unwrap().name(),
        "_DESTROY"
    );
    assert_eq!(bench.engine.ledger.in_flight(), 0);
}

#[test]
fn a_refused_record_drops_its_callback_unrun() {
    let bench = bench(10);
    bench.sink.refuse_values_above(3);
    let witness = Arc::new(());
    let held = Arc::clone(&witness);
    let callback = Completion::Callback(Box::new(move |_| {
        let _held = held;
        panic!("never called");
    }));
    let record = ProducerRecord::new("t").value("large");
    let refused = bench
        .engine
        .send(&record, Some(callback), Patience::Configured)
        .unwrap_err();
    assert_eq!(refused.kafka_code().unwrap().number(), TOO_LARGE);
    assert_eq!(Arc::strong_count(&witness), 1);
    assert_eq!((bench.engine.ledger.in_flight(), bench.refused()), (0, 1));
}

#[test]
fn failures_nobody_hears_of_are_summed_up_in_the_log_and_do_not_flood_it() {
    let captured = Captured::start();
    let bench = bench(2000);
    for _ in 0..1000 {
        bench.send("a {} %s").unwrap();
    }
    bench.sink.end_with(1000, -192);
    bench.sink.poll(Duration::ZERO);
    let lines = |captured: &Captured| {
        let lines = captured.lines.lock();
        lines
            .iter()
            .filter(|(_, _, text)| text.contains("were not delivered"))
            .count()
    };
    assert_eq!(lines(&captured), 1);
    bench.clock.advance(Duration::from_secs(2));
    bench.send("b").unwrap();
    bench.sink.end_with(1, -192);
    bench.sink.poll(Duration::ZERO);
    assert_eq!(lines(&captured), 2);
    assert!(captured.has(Level::Error, "1000 record(s)"), "999 + 1");
}

#[test]
fn a_forked_child_is_refused_and_drops_without_waiting() {
    let clock = Arc::new(TestClock::new());
    let ledger = Arc::new(Ledger::new(Arc::clone(&clock) as _, Keeps::Events));
    let sink = Arc::new(ScriptedSink::new(Arc::clone(&ledger) as _, 1));
    let engine = Arc::new(Engine::new(
        ledger,
        sink,
        Duration::from_secs(1),
        ForkGuard::of_another_process(),
    ));
    let handle = Arc::new(Handle {
        engine,
        transaction: Transaction::default(),
    });
    let producer = Producer { handle };
    let record = ProducerRecord::new("t");
    assert!(matches!(producer.send(&record), Err(Error::Forked { .. })));
    assert!(matches!(producer.flush(WAIT), Err(Error::Forked { .. })));
    assert!(matches!(producer.close(WAIT), Err(Error::Forked { .. })));
    drop(producer);
    assert_eq!(clock.now_us(), 0);
}

proptest::proptest! {
    /// Whatever is sent, delivered, failed and refused, in whatever order: every record is accounted for exactly once.
    #[test]
    fn every_record_ends_exactly_once(
        steps in proptest::collection::vec((0u8..4, 1usize..5), 1..80),
        capacity in 1usize..6,
    ) {
        let bench = bench(capacity);
        let reports = Arc::new(AtomicUsize::new(0));
        let (mut accepted, mut refused) = (0, 0);
        for (step, count) in steps {
            match step {
                0 | 1 => for _ in 0..count {
                    let record = ProducerRecord::new("t").value("v");
                    let counted = Arc::clone(&reports);
                    let completion = (step == 0).then(|| Completion::Callback(Box::new(move |_| {
                        counted.fetch_add(1, Ordering::SeqCst);
                    })));
                    let waited = completion.is_some();
                    match bench.engine.send(&record, completion, Patience::None) {
                        Ok(()) => { accepted += 1; if !waited { reports.fetch_add(1, Ordering::SeqCst); } }
                        Err(_) => refused += 1,
                    }
                },
                2 => { bench.sink.deliver(count); bench.sink.poll(Duration::ZERO); }
                _ => { bench.sink.end_with(count, -192); bench.sink.poll(Duration::ZERO); }
            }
            proptest::prop_assert_eq!(bench.engine.ledger.in_flight() as usize, bench.sink.queued());
        }
        bench.sink.purge(true, true, false);
        bench.sink.poll(Duration::ZERO);
        let metrics = &bench.engine.ledger.metrics;
        proptest::prop_assert_eq!(metrics.records_delivered.get() + metrics.records_failed.get(), accepted);
        proptest::prop_assert_eq!(metrics.records_refused.get(), refused);
        proptest::prop_assert_eq!(reports.load(Ordering::SeqCst) as u64, accepted);
        proptest::prop_assert_eq!(bench.engine.ledger.in_flight(), 0);
    }
}
