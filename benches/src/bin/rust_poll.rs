//! `Consumer::poll`: every record's offset and the length of its value.
#![allow(
    clippy::print_stdout,
    reason = "the line on standard output is the result"
)]

use std::time::Duration;

use tidegate_benches::{Failure, Run, Tally};

fn main() -> Result<(), Failure> {
    let run = Run::from_arguments()?;
    let consumer = run.consumer()?;
    let mut tally = Tally::default();
    while tally.records < run.count {
        let Some(owned) = consumer.poll(Some(Duration::from_secs(1)))? else {
            tally.nothing()?;
            continue;
        };
        tally.something();
        let record = owned.as_record();
        tally.bytes += record.value().map_or(0, |value| value.len() as i64);
        tally.offset_sum += record.offset();
        tally.records += 1;
    }
    println!("{}", tally.report());
    consumer.close(Duration::from_secs(10))?;
    Ok(())
}
