//! Exactly-once: what handlers make, and the offsets of what they handled, in transactions of one producer.
//!
//! Here: what the user says of it, and what it needs of a producer and a consumer. The transactions are made in
//! [`super::transactions`], which of the records go into one is decided in [`super::pending`].

use std::sync::Arc;
use std::time::Duration;

use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::parallel::OnFailure;
use crate::parallel::transactions::Transactions;
use crate::partition::OffsetAndMetadata;
use crate::producer::{Producer, ProducerRecord};

/// An open transaction is aborted by the broker after so long, which is how long readers wait for a producer that died, unless its
/// `transactional.id` comes back before.
const TRANSACTION_TIMEOUT_MS: u32 = 30_000;

/// Where outputs go, and how often; see [`Consumer::process_to`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExactlyOnce {
    /// Sends the outputs: with a `transactional.id` that no other member of the group has, and not initialised yet.
    pub producer: Producer,
    /// The topic of outputs that name none.
    pub topic: String,
    /// The shortest time from one transaction to the next.
    pub interval: Duration,
    /// Not waited for when so many records wait for the next transaction.
    pub max_records: usize,
}

impl ExactlyOnce {
    /// Outputs to `topic`, with a producer of its own for the cluster that `consumer` reads. `transactional_id` is this member's own in
    /// the whole cluster, and best the same after a restart: what a crash left open is then aborted at once, and not 30 s later.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a topic that is none or an empty id; as [`Producer::new`].
    pub fn new(consumer: &Consumer, transactional_id: &str, topic: &str) -> Result<ExactlyOnce> {
        if transactional_id.is_empty() {
            return Err(Error::argument(
                "transactional_id",
                "it is empty",
                "use a name that no other member has, and that stays the same over restarts",
            ));
        }
        let config = consumer
            .reaching()
            .clone()
            .with("transactional.id", transactional_id)
            .with("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
            .with("linger.ms", 5)
            // What is refused is refused by the broker, which has the last word.
            .with("message.max.bytes", 1_000_000_000);
        let exactly_once = ExactlyOnce {
            producer: Producer::beside(consumer, &config)?,
            topic: topic.to_string(),
            interval: Duration::from_millis(100),
            max_records: 10_000,
        };
        exactly_once.check(&OnFailure::Stop)?;
        Ok(exactly_once)
    }

    pub(super) fn check(&self, on_failure: &OnFailure) -> Result<()> {
        crate::checks::topic_name(&self.topic)?;
        if self.max_records == 0 {
            return Err(Error::argument(
                "max_records",
                "it is 0",
                "use 1 or more records per transaction",
            ));
        }
        match on_failure {
            OnFailure::DeadLetter { producer, .. } if !producer.is_same(&self.producer) => {
                Err(Error::argument(
                    "on_failure",
                    "its dead letters have another producer than exactly_once, so they would not be part of the transactions",
                    "use a clone of ExactlyOnce::producer",
                ))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn transactions(&self, consumer: &Arc<Consumer>) -> Result<Transactions> {
        if consumer.group_id().is_none() {
            return Err(Error::argument(
                "exactly_once",
                "this consumer has no group whose offsets could be part of a transaction",
                "set group.id",
            ));
        }
        if !consumer.reads_committed() {
            return Err(Error::argument(
                "exactly_once",
                "with isolation.level=read_uncommitted this consumer would begin before the transactions of others are over, and \
                 read what they abort",
                "leave isolation.level at read_committed",
            ));
        }
        if self.producer.has_open_transaction() {
            return Err(Error::argument(
                "exactly_once",
                "its producer has a transaction open",
                "leave its transactions to the processing",
            ));
        }
        let way = Kafka {
            consumer: Arc::clone(consumer),
            producer: self.producer.clone(),
        };
        Ok(Transactions::new(
            Box::new(way),
            &self.topic,
            self.interval,
            self.max_records,
        ))
    }
}

/// Hears what becomes of a record that was sent, if that is nothing good.
pub(super) type OnRefused = Box<dyn FnOnce(Error) + Send>;

/// What makes transactions: a producer, and the consumer whose offsets they commit; a script in tests.
pub(super) trait Way: Send + Sync {
    fn init(&self, timeout: Duration) -> Result<()>;
    fn begin(&self) -> Result<()>;
    fn send(&self, record: &ProducerRecord<'_>, refused: OnRefused) -> Result<()>;
    /// `is_current` is asked after the group's generation was.
    fn send_offsets(
        &self,
        offsets: &[OffsetAndMetadata],
        is_current: &dyn Fn() -> bool,
        timeout: Duration,
    ) -> Result<Sent>;
    fn commit(&self, timeout: Duration) -> Result<()>;
    fn abort(&self, timeout: Duration) -> Result<()>;
    fn close(&self, timeout: Duration) -> Result<()>;
}

/// Whether offsets were made part of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// A partition is not ours any more.
    Gone,
}

struct Kafka {
    consumer: Arc<Consumer>,
    producer: Producer,
}

impl Way for Kafka {
    fn init(&self, timeout: Duration) -> Result<()> {
        // A commit sent before the transactions could reach the broker after the first of them, and set the group back.
        self.consumer.await_commits(timeout)?;
        self.producer.init_transactions(Some(timeout))
    }

    fn begin(&self) -> Result<()> {
        self.producer.begin_transaction()
    }

    fn send(&self, record: &ProducerRecord<'_>, refused: OnRefused) -> Result<()> {
        self.producer.send_with(record, move |report| {
            if let Err(error) = report {
                refused(error);
            }
        })
    }

    fn send_offsets(
        &self,
        offsets: &[OffsetAndMetadata],
        is_current: &dyn Fn() -> bool,
        timeout: Duration,
    ) -> Result<Sent> {
        let group = self.consumer.group_metadata()?;
        // A member that was thrown out has no generation, and the broker would take its offsets without looking.
        let is_member = group.generation().is_some_and(|number| number >= 0);
        let is_by_hand = self.consumer.subscription().is_empty();
        if !(is_member || is_by_hand) || !is_current() {
            return Ok(Sent::Gone);
        }
        self.producer
            .send_offsets_to_transaction(offsets, &group, Some(timeout))?;
        Ok(Sent::Yes)
    }

    fn commit(&self, timeout: Duration) -> Result<()> {
        self.producer.commit_transaction(Some(timeout))
    }

    fn abort(&self, timeout: Duration) -> Result<()> {
        self.producer.abort_transaction(Some(timeout))
    }

    fn close(&self, timeout: Duration) -> Result<()> {
        self.producer.close(timeout)
    }
}
