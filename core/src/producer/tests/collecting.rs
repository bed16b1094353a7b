//! Reports that nobody waits for are taken in by whoever asks, and callbacks never run there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::clock::TestClock;
use crate::sink::Reports;

#[test]
fn reports_are_awaited_by_whoever_waits_by_callbacks_and_by_many() {
    let ledger = || Ledger::new(Arc::new(TestClock::new()), Keeps::Nothing);
    let few = ledger();
    few.begin_tagged(64);
    assert!(!few.are_awaited(), "they wait until somebody asks");
    few.begin_tagged(1);
    assert!(few.are_awaited(), "many");
    let ledger = ledger();
    for signal in [&ledger.progress, &ledger.kept.fresh] {
        let waiting = signal.enter();
        assert!(ledger.are_awaited(), "somebody waits");
        drop(waiting);
        assert!(!ledger.are_awaited());
    }
    ledger.kept.ready.set(Some(Arc::new(|| {})));
    assert!(ledger.are_awaited(), "an event loop");
    ledger.kept.tell();
    assert!(!ledger.are_awaited(), "it was told");
    assert!(ledger.note_callback(), "the first");
    assert!(!ledger.note_callback());
    assert!(ledger.are_awaited(), "a callback");
}

#[test]
fn callbacks_run_on_the_delivery_thread_whoever_asks_for_reports() {
    const RECORDS: usize = 2000;
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(&broker, &[("linger.ms", "0")]);
    // Before the first callback everybody may take reports in.
    producer.send(&ProducerRecord::new("t").value("v")).unwrap();
    let elsewhere = Arc::new(AtomicUsize::new(0));
    let heard = Arc::new(AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let _ = producer.in_flight();
            }
        });
        for _ in 0..RECORDS {
            let (elsewhere, heard) = (Arc::clone(&elsewhere), Arc::clone(&heard));
            let on_delivery = move |_outcome| {
                let is_here = thread::current().name() == Some("tidegate-delivery");
                elsewhere.fetch_add(usize::from(!is_here), Ordering::SeqCst);
                heard.fetch_add(1, Ordering::SeqCst);
            };
            producer
                .send_with(&ProducerRecord::new("t").value("v"), on_delivery)
                .unwrap();
        }
        producer.flush(WAIT).unwrap();
        over.store(true, Ordering::SeqCst);
    });
    assert_eq!(heard.load(Ordering::SeqCst), RECORDS);
    assert_eq!(elsewhere.load(Ordering::SeqCst), 0);
}

#[test]
fn a_report_is_there_as_soon_as_it_is_asked_for() {
    let broker = Broker::with_topics(&[("t", 1)]).unwrap();
    let producer = producer(&broker, &[("linger.ms", "0")]);
    let mut fastest = Duration::MAX;
    for tag in 0..20 {
        let record = ProducerRecord::new("t").value("v");
        producer.try_send_tagged(&record, tag).unwrap();
        let started = Instant::now();
        let mut reports = Vec::new();
        while producer.take_reports(&mut reports) == 0 {
            assert!(started.elapsed() < WAIT);
            thread::yield_now();
        }
        assert_eq!(reports[0].tag, tag);
        if tag > 0 {
            fastest = fastest.min(started.elapsed());
        }
    }
    // The delivery thread looks by itself every 25 ms only, and has just done so when the one before was there.
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");
}
