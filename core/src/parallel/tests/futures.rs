//! Handlers that are futures, over the embedded broker.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::super::*;
use super::{filled, number, subscribed, until};

#[test]
fn futures_run_side_by_side_and_each_key_in_order() {
    let (_broker, config) = filled(2, 200, 20);
    let consumer = subscribed(&config, "g");
    let seen: Arc<Mutex<HashMap<Vec<u8>, Vec<usize>>>> = Arc::default();
    let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let options = ProcessOptions {
        max_in_flight: 10,
        max_attempts: Some(2),
        backoff: Duration::from_millis(1),
        on_failure: OnFailure::Skip,
        ..ProcessOptions::default()
    };
    let handler = {
        let (seen, busy, most) = (Arc::clone(&seen), Arc::clone(&busy), Arc::clone(&most));
        move |record: crate::OwnedRecord| {
            let (seen, busy, most) = (Arc::clone(&seen), Arc::clone(&busy), Arc::clone(&most));
            async move {
                most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let (woken, wakes) = futures_channel::oneshot::channel::<()>();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(5));
                    let _ = woken.send(());
                });
                let _ = wakes.await;
                busy.fetch_sub(1, Ordering::SeqCst);
                let number = number(&record.as_record());
                assert!(number != 7, "a defect of the handler");
                let key = record.key().unwrap_or_default().to_vec();
                seen.lock().entry(key).or_default().push(number);
                Ok(())
            }
        }
    };
    let processing = consumer
        .process_async(options, handler)
        .expect("processing");
    until("200 done", || processing.ledger().done == 200);
    let report = processing.stop(Duration::from_secs(10)).expect("stopped");
    assert!(report.is_drained && report.ledger.received == 200);
    assert!(most.load(Ordering::SeqCst) > 5, "one after the other");
    let seen = seen.lock();
    assert_eq!(
        seen.values().map(Vec::len).sum::<usize>(),
        199,
        "7 is skipped"
    );
    assert!(seen.values().all(|numbers| numbers.is_sorted()), "{seen:?}");
    consumer.close(Duration::from_secs(10)).expect("closed");
}

#[test]
fn futures_that_are_dropped_give_their_records_back() {
    let (_broker, config) = filled(1, 3, 3);
    let consumer = subscribed(&config, "g");
    let processing = consumer
        .process_with(ProcessOptions::default(), drop, |_| async { Ok(()) })
        .expect("processing");
    until("given back", || processing.ledger().returned == 3);
    assert!(
        processing
            .stop(Duration::from_secs(10))
            .expect("stopped")
            .is_drained
    );
    consumer.close(Duration::from_secs(10)).expect("closed");
}
