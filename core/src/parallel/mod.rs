//! Many records at once from one consumer: handlers side by side, in order where that is asked for, and a commit that never passes
//! a record that is not done.
//!
//! [`state`] owns the state of every record and decides what may be handled next; [`Dispatcher`] puts a clock, a lock and waiting around
//! it and fetches; [`Consumer::process`](Consumer::process) runs Rust handlers on threads, and the other faces run theirs. Nothing here
//! fetches or commits: records come as leased batches, and acknowledging them is what the poller commits.

mod dispatcher;
mod ledger;
mod letters;
mod parts;
mod process;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::producer::Producer;

pub use crate::offset_map::{LONGEST_MAP_BYTES, OffsetMap, OffsetMapError};
pub use dispatcher::{Dispatcher, Outcome, StopReport};
pub use ledger::Ledger;
pub use process::{HandlerError, Processing};
pub use state::{Ticket, Work};

/// What is handled one after the other, in the order of its offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The records of one partition that have the same key. Records without a key have no order.
    #[default]
    Key,
    /// The records of one partition.
    Partition,
    /// Nothing: any records side by side.
    None,
}

/// What becomes of a record whose handler has failed for good.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// Processing ends with the error; the record is unfinished and comes again after a restart.
    #[default]
    Stop,
    /// It is logged, counted, and finished: lost on purpose.
    Skip,
    /// A copy goes to this topic, with the reason in headers `tidegate.dlq.*`; it is finished when the broker has confirmed the copy.
    DeadLetter {
        /// Sends the copies.
        producer: Producer,
        /// Where to.
        topic: String,
    },
}

impl OnFailure {
    /// Copies to `topic` of the cluster that `consumer` reads, with a producer of their own.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a topic that is none, and as [`Producer::new`].
    pub fn dead_letter_topic(consumer: &Consumer, topic: &str) -> Result<OnFailure> {
        crate::checks::topic_name(topic)?;
        let config = consumer
            .reaching()
            .clone()
            .with("acks", "all")
            .with("enable.idempotence", true)
            .with("linger.ms", 5)
            // What was consumed may be larger than a producer's default limit; the broker has the last word.
            .with("message.max.bytes", 1_000_000_000);
        Ok(OnFailure::DeadLetter {
            producer: Producer::new(&config)?,
            topic: topic.to_string(),
        })
    }
}

/// How [`Consumer::process`](Consumer::process) and [`Dispatcher`] work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProcessOptions {
    /// What stays in order.
    pub order: Order,
    /// The most records with handlers at once; of Rust handlers, how many threads run them.
    pub max_in_flight: usize,
    /// The most records that wait for a handler; fetching goes on beyond that only within the consumer's own memory bound.
    pub max_queued: usize,
    /// The most bytes of batches that have unfinished records.
    pub max_bytes: usize,
    /// How often a record is with a handler before it has failed for good; `None`: until it succeeds.
    pub max_attempts: Option<u32>,
    /// The pause before the second attempt, doubled for each further one, and varied by a quarter.
    pub backoff: Duration,
    /// The longest of these pauses.
    pub max_backoff: Duration,
    /// Lets the others of its key (or partition) go on while a record waits for its next attempt: it then loses its place in the order.
    pub park_retries: bool,
    /// What becomes of a record that has failed for good.
    pub on_failure: OnFailure,
    /// The most bytes of metadata that a commit may carry about what is done beyond the committed offset, so that a restart does not
    /// repeat it ([`OffsetMap`]); 0 for none. The broker must take as much (`offset.metadata.max.bytes`, 4096 by default). From three
    /// quarters of it on, fewer records are taken in; a map that is longer is left out, which costs repetitions and nothing else.
    pub offset_map_bytes: usize,
}

impl Default for ProcessOptions {
    fn default() -> ProcessOptions {
        ProcessOptions {
            order: Order::Key,
            max_in_flight: 16,
            max_queued: 10_000,
            max_bytes: 64 * 1024 * 1024,
            max_attempts: Some(1),
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(30),
            park_retries: false,
            on_failure: OnFailure::Stop,
            offset_map_bytes: 4096,
        }
    }
}

impl ProcessOptions {
    fn check(&self) -> Result<()> {
        let least = |argument, value: usize| {
            if value > 0 {
                return Ok(());
            }
            Err(Error::argument(argument, "it is 0", "use 1 or more"))
        };
        least("max_in_flight", self.max_in_flight)?;
        least("max_queued", self.max_queued)?;
        least("max_bytes", self.max_bytes)?;
        if self.max_in_flight >= u32::MAX as usize / 4 || self.max_queued >= u32::MAX as usize / 4 {
            return Err(Error::argument(
                "max_in_flight",
                "so many records at once are not supported",
                "use at most a thousand million",
            ));
        }
        if self.max_attempts == Some(0) {
            return Err(Error::argument(
                "max_attempts",
                "a record that is never tried cannot be handled",
                "use 1 or more, or none to try until it succeeds",
            ));
        }
        if self.offset_map_bytes > LONGEST_MAP_BYTES {
            return Err(Error::argument(
                "offset_map_bytes",
                format!(
                    "no broker takes {} bytes of metadata",
                    self.offset_map_bytes
                ),
                format!(
                    "use what the broker's offset.metadata.max.bytes says (4096 by default), at most {LONGEST_MAP_BYTES}, or 0 for none"
                ),
            ));
        }
        if self.backoff > self.max_backoff {
            return Err(Error::argument(
                "backoff",
                format!(
                    "{:?} is longer than max_backoff, {:?}",
                    self.backoff, self.max_backoff
                ),
                "use a backoff of at most max_backoff",
            ));
        }
        if let OnFailure::DeadLetter { topic, .. } = &self.on_failure {
            crate::checks::topic_name(topic)?;
        }
        Ok(())
    }

    /// The pause before attempt `attempt` (the second is 1), with `jitter` between 0 and 1.
    fn pause(&self, attempt: u32, jitter: f64) -> Duration {
        let doubled = self.backoff.saturating_mul(
            1_u32
                .checked_shl(attempt.saturating_sub(1))
                .unwrap_or(u32::MAX),
        );
        doubled
            .min(self.max_backoff)
            .mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}
