//! A handler that stalls: takes one batch, holds it, and prints the process's peak resident memory.
//!
//! `stall BOOTSTRAP TOPIC SECONDS KBYTES` ends with one JSON line; `tests/python` judges it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the line on standard output is the result"
)]

use std::time::{Duration, Instant};

use tidegate::{Config, Consumer, Result};

#[cfg(feature = "mimalloc")]
const ALLOCATOR: &str = "mimalloc";
#[cfg(not(feature = "mimalloc"))]
const ALLOCATOR: &str = "system";

/// A line of `/proc/self/status`, in KiB.
fn memory_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, topic, seconds, kbytes] = arguments.as_slice() else {
        eprintln!("stall BOOTSTRAP TOPIC SECONDS KBYTES");
        std::process::exit(2);
    };
    let config = Config::new()
        .with("bootstrap.servers", bootstrap.as_str())
        .with("group.id", format!("stall-{}", std::process::id()))
        .with("auto.offset.reset", "earliest")
        .with("queued.max.messages.kbytes", kbytes.as_str());
    let consumer = Consumer::new(&config)?;
    let baseline = memory_kib("VmRSS");
    consumer.subscribe(&[topic.as_str()])?;
    let batch = consumer.next_batch(Some(Duration::from_secs(60)), None)?;
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap_or(10));
    let mut peak = 0;
    while Instant::now() < end {
        peak = peak.max(memory_kib("VmRSS"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let stats = consumer.stats();
    println!(
        "{{\"allocator\": \"{ALLOCATOR}\", \"baseline_kib\": {baseline}, \"peak_kib\": {}, \"sampled_kib\": {peak}, \"held_records\": {}, \"queue_bytes\": {}, \"received\": {}}}",
        memory_kib("VmHWM"),
        batch.map_or(0, |batch| batch.len()),
        stats.queue_bytes,
        stats.records_received,
    );
    Ok(())
}
