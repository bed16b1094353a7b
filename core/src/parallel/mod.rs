//! Many records at once from one consumer: handlers side by side, in order where that is asked for, and a commit that never passes
//! a record that is not done.
//!
//! [`state`] owns the state of every record and decides what may be handled next; [`Dispatcher`] puts a clock, a lock and waiting around
//! it and fetches; [`Consumer::process`](Consumer::process) runs Rust handlers on threads, and the other faces run theirs. Nothing here
//! fetches or commits: records come as leased batches, and acknowledging them is what the poller commits.

mod desk;
mod dispatcher;
mod engine;
mod exactly_once;
mod futures;
mod ledger;
mod lending;
mod letters;
mod outputs;
mod pace;
pub(crate) mod parts;
mod pending;
mod process;
#[cfg(any(test, feature = "simulator"))]
mod simulation;
pub(crate) mod state;
mod stretch;
#[cfg(test)]
mod tests;
mod threads;
mod transactions;

use std::time::Duration;

use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::producer::Producer;

pub use crate::offset_map::{LONGEST_MAP_BYTES, OffsetMap, OffsetMapError};
pub use dispatcher::{Dispatcher, Outcome, StopReport};
pub use exactly_once::ExactlyOnce;
pub use futures::HandlerFuture;
pub use ledger::Ledger;
pub use outputs::{IntoOutputs, Output};
pub use parts::{Ticket, Work, Works};
pub use process::{HandlerError, Processing};
#[cfg(any(test, feature = "simulator"))]
pub use simulation::{DeadLetter, LogRecord, Simulation};

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

/// What happens when more would go to the dead-letter topic than [`ProcessOptions::dead_letter_limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLimit {
    /// Processing ends with an error; the record comes again after a restart.
    #[default]
    Stop,
    /// Nothing more of the record's partition is handed out until it is assigned again, by a restart or to somebody else; the record is
    /// the first to come then. Other partitions go on.
    PausePartition,
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
            producer: Producer::beside(consumer, &config)?,
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
    /// How many records a handler gets at a time, to handle them together; 1: one by one. Those of one key follow each other in order.
    pub batch_size: usize,
    /// The longest that a record waits for others to be handled with.
    pub batch_timeout: Duration,
    /// All records of a batch are of one partition.
    pub batch_of_one_partition: bool,
    /// What a handler may take for one attempt. After that the attempt has failed ("TimedOut"); its key goes on when the handler has
    /// really returned, and what it says then is thrown away.
    pub attempt_timeout: Option<Duration>,
    /// Adapts how many records are with handlers at once, between this and `max_in_flight`: more while answers stay quick, fewer when
    /// they become slow or fail.
    pub min_in_flight: Option<usize>,
    /// Records begun per second, or what they cost: see [`Dispatcher::charge`].
    pub rate_limit: Option<f64>,
    /// A handler's Retry-After holds up all records, not only the one.
    pub retry_after_holds_all: bool,
    /// The most records that may go to the dead-letter topic.
    pub dead_letter_limit: Option<u64>,
    /// What happens when that is not enough.
    pub on_limit: OnLimit,
    /// Outputs of handlers and the offsets of what they handled are committed together, by transactions: see
    /// [`Consumer::process_to`](crate::Consumer::process_to).
    pub exactly_once: Option<ExactlyOnce>,
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
            batch_size: 1,
            batch_timeout: Duration::from_millis(100),
            batch_of_one_partition: false,
            attempt_timeout: None,
            min_in_flight: None,
            rate_limit: None,
            retry_after_holds_all: false,
            dead_letter_limit: None,
            on_limit: OnLimit::Stop,
            exactly_once: None,
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
        least("batch_size", self.batch_size)?;
        least("min_in_flight", self.min_in_flight.unwrap_or(1))?;
        if self.batch_size > self.max_in_flight.min(self.max_queued) {
            return Err(Error::argument(
                "batch_size",
                format!(
                    "{} records are more than max_in_flight ({}) or max_queued ({}) lets come together",
                    self.batch_size, self.max_in_flight, self.max_queued
                ),
                "use a smaller batch_size, or raise the other two",
            ));
        }
        if self
            .min_in_flight
            .is_some_and(|least| least > self.max_in_flight)
        {
            return Err(Error::argument(
                "min_in_flight",
                "it is more than max_in_flight",
                "use 1 to max_in_flight, or none for a fixed number",
            ));
        }
        if self
            .rate_limit
            .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
        {
            return Err(Error::argument(
                "rate_limit",
                "it is no number above 0",
                "use records (or cost) per second, or none",
            ));
        }
        if self.attempt_timeout == Some(Duration::ZERO) {
            return Err(Error::argument(
                "attempt_timeout",
                "no handler returns in no time",
                "use more than 0, or none",
            ));
        }
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
        self.exactly_once
            .as_ref()
            .map_or(Ok(()), |exactly_once| exactly_once.check(&self.on_failure))
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
