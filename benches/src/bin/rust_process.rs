//! `Consumer::process` with a handler that does nothing but add up, in order by key.
#![allow(
    clippy::print_stdout,
    reason = "the line on standard output is the result"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use tidegate::ProcessOptions;
use tidegate_benches::{Failure, Run, Tally};

/// What the handlers add up; on a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Sums {
    records: AtomicUsize,
    bytes: AtomicI64,
    offsets: AtomicI64,
}

fn main() -> Result<(), Failure> {
    let run = Run::from_arguments()?;
    let consumer = Arc::new(run.consumer()?);
    let sums = Arc::new(Sums::default());
    let mut options = ProcessOptions::default();
    options.max_in_flight = 2;
    options.max_queued = 50_000;
    let counted = Arc::clone(&sums);
    let mut tally = Tally::default();
    let processing = consumer.process(options, move |record| {
        let length = record.value().map_or(0, |value| value.len() as i64);
        counted.records.fetch_add(1, Ordering::Relaxed);
        counted.bytes.fetch_add(length, Ordering::Relaxed);
        counted
            .offsets
            .fetch_add(record.offset(), Ordering::Relaxed);
        Ok(())
    })?;
    while sums.records.load(Ordering::Relaxed) < run.count {
        tally.records = sums.records.load(Ordering::Relaxed);
        if tally.records > 0 {
            tally.something();
        }
        tally.nothing()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    tally.records = sums.records.load(Ordering::Relaxed);
    tally.bytes = sums.bytes.load(Ordering::Relaxed);
    tally.offset_sum = sums.offsets.load(Ordering::Relaxed);
    println!("{}", tally.report());
    processing.stop(Duration::from_secs(10))?;
    consumer.close(Duration::from_secs(10))?;
    Ok(())
}
