//! `Consumer::next_batch`: the offset and length columns of every batch are summed.
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
        let Some(batch) = consumer.next_batch(Some(Duration::from_secs(1)), None)? else {
            tally.nothing()?;
            continue;
        };
        tally.something();
        let (_, lengths) = batch.value_columns();
        tally.bytes += lengths
            .iter()
            .map(|&length| i64::from(length.max(0)))
            .sum::<i64>();
        tally.offset_sum += batch.offsets().iter().sum::<i64>();
        tally.records += batch.len();
    }
    println!("{}", tally.report());
    consumer.close(Duration::from_secs(10))?;
    Ok(())
}
