//! Where records go: the trait behind the producer, and what it reports back.
//!
//! L2. [`kafka`] is librdkafka, with [`direct`] for topics that are sent to past it; [`scripted`] is its deterministic twin for tests. [`Sink::send`] and the rest may be called on
//! any thread and never wait; [`Sink::poll`] belongs to the delivery thread, and reports come from inside it and [`Sink::collect`] only.
//!
//! A sink reports each record it accepted exactly once, with the token the record came with.

use std::fmt;
use std::time::Duration;

use crate::batch::TimestampType;
use crate::error::{Error, KafkaCode, Result};
use crate::events::ClientEvent;
use crate::group::GroupMetadata;
use crate::metadata::Metadata;
use crate::partition::OffsetAndMetadata;

pub(crate) mod direct;
pub(crate) mod kafka;
#[cfg(test)]
pub(crate) mod scripted;

/// A record to send: everything is borrowed, librdkafka makes the only copy.
///
/// ```
/// use tidegate::ProducerRecord;
///
/// let record = ProducerRecord::new("tasks").key(b"camera-7").value(b"{}").timestamp_ms(1_700_000_000_000);
/// assert_eq!(record.partition, None); // the partitioner chooses
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerRecord<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// The partition; `None` leaves it to the partitioner (by key, else sticky random).
    pub partition: Option<i32>,
    /// The key; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is Kafka's null, a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in order: name and value, `None` for null. A name may occur more than once.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Milliseconds since 1970; `None` (and 0, which librdkafka reads the same way) is the time of the call.
    pub timestamp_ms: Option<i64>,
}

impl<'a> ProducerRecord<'a> {
    /// A record for `topic` without key and value.
    #[must_use]
    pub fn new(topic: &'a str) -> ProducerRecord<'a> {
        ProducerRecord {
            topic,
            partition: None,
            key: None,
            value: None,
            headers: &[],
            timestamp_ms: None,
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value<V: AsRef<[u8]> + ?Sized>(mut self, value: &'a V) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Sets the partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the headers.
    #[must_use]
    pub fn headers(mut self, headers: &'a [(&'a str, Option<&'a [u8]>)]) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the timestamp, in milliseconds since 1970.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Bytes of key and value.
    pub(crate) fn payload_bytes(&self) -> u64 {
        (self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)) as u64
    }
}

/// Key and value of one of many records for the same place.
pub(crate) type Row<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Comes back with the record's report; 0 means that nobody waits for it. With [`TAGGED`] it is the application's own number, whose
/// report waits to be asked for.
pub(crate) type Token = usize;

/// See [`Token`].
pub(crate) const TAGGED: Token = 1 << (Token::BITS - 1);

/// One of many records with a number of the application's.
#[derive(Debug, Clone, Copy)]
pub struct TaggedRow<'a> {
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The partition; `None` leaves it to the partitioner.
    pub partition: Option<i32>,
    /// Comes back in the report; `None` wants none.
    pub tag: Option<usize>,
}

impl TaggedRow<'_> {
    pub(crate) fn token(&self) -> Token {
        self.tag.map_or(0, |tag| TAGGED | tag)
    }
}

/// What became of a record that was sent with a number of the application's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedReport {
    /// The number.
    pub tag: usize,
    /// The partition; -1 when the record failed before it had one.
    pub partition: i32,
    /// Its offset there; negative when it was not delivered, and with `acks=0`, where the broker does not tell.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Whose clock that is.
    pub timestamp_type: TimestampType,
    /// Microseconds from the call to the report, by librdkafka's clock; -1 when it does not know.
    pub latency_us: i64,
    /// The leader epoch; -1 when it is not known.
    pub leader_epoch: i32,
    /// Why it was not delivered.
    pub outcome: Result<(), KafkaCode>,
}

/// A step of a transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    Init,
    Begin,
    SendOffsets(&'a [OffsetAndMetadata], &'a GroupMetadata),
    Commit,
    Abort,
}

/// Why a record was not accepted.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The queue is full: it may be accepted later.
    Full,
    /// It will not be accepted.
    Failed(Error),
}

/// What became of an accepted record.
pub(crate) struct Report<'a> {
    pub(crate) token: Token,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    /// Meaningless when it was not delivered.
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) outcome: Result<(), KafkaCode>,
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} [{}] @{}: {:?}",
            self.topic, self.partition, self.offset, self.outcome
        )
    }
}

/// Hears from a sink, inside of [`Sink::poll`] on the delivery thread or of [`Sink::collect`], one call at a time.
pub(crate) trait Reports: Send + Sync {
    /// Whether what comes is to be handed over at once, and not when somebody asks for it, or a little later.
    fn are_awaited(&self) -> bool {
        true
    }
    /// So many records without a token were delivered.
    fn delivered(&self, records: u64);
    /// Once for each other accepted record.
    fn report(&self, report: &Report<'_>);
    /// For records whose token was [`TAGGED`], many at once; they are taken out.
    fn tagged(&self, _reports: &mut Vec<TaggedReport>) {}
    /// An error of the client as a whole.
    fn error(&self, code: KafkaCode, reason: &str);
    /// Whether [`ClientEvent::Throttle`] is to be told.
    fn wants_throttles(&self) -> bool {
        false
    }
    /// Anything else the client says; given back when nobody keeps it.
    fn event(&self, event: ClientEvent) -> Option<ClientEvent> {
        Some(event)
    }
}

/// Where a producer's records go.
pub(crate) trait Sink: Send + Sync {
    /// Copies the record into the queue.
    fn send(&self, record: &ProducerRecord<'_>, token: Token) -> Result<(), Refused>;
    /// Copies records of one topic into the queue, in order; `token` is the first one's, the others have none. Returns how many were
    /// dealt with: the one behind them found the queue full. `refused` hears which of them were not accepted, in order.
    fn send_rows(
        &self,
        topic: &str,
        partition: Option<i32>,
        rows: &[Row<'_>],
        token: Token,
        refused: &mut dyn FnMut(usize, Error),
    ) -> usize {
        self.send_each(topic, partition, rows, token, refused)
    }
    /// [`Sink::send_rows`], one by one.
    fn send_each(
        &self,
        topic: &str,
        partition: Option<i32>,
        rows: &[Row<'_>],
        token: Token,
        refused: &mut dyn FnMut(usize, Error),
    ) -> usize {
        let mut record = ProducerRecord {
            partition,
            ..ProducerRecord::new(topic)
        };
        for (number, (key, value)) in rows.iter().enumerate() {
            record.key = *key;
            record.value = *value;
            match self.send(&record, if number == 0 { token } else { 0 }) {
                Ok(()) => {}
                Err(Refused::Full) => return number,
                Err(Refused::Failed(error)) => refused(number, error),
            }
        }
        rows.len()
    }
    /// Copies records of one topic into the queue, in order, each with its own token. As [`Sink::send_rows`].
    fn send_tagged(
        &self,
        topic: &str,
        rows: &[TaggedRow<'_>],
        refused: &mut dyn FnMut(usize, Error),
    ) -> usize {
        self.send_each_tagged(topic, rows, refused)
    }
    /// [`Sink::send_tagged`], one by one.
    fn send_each_tagged(
        &self,
        topic: &str,
        rows: &[TaggedRow<'_>],
        refused: &mut dyn FnMut(usize, Error),
    ) -> usize {
        for (number, row) in rows.iter().enumerate() {
            let record = ProducerRecord {
                partition: row.partition,
                key: row.key,
                value: row.value,
                ..ProducerRecord::new(topic)
            };
            match self.send(&record, row.token()) {
                Ok(()) => {}
                Err(Refused::Full) => return number,
                Err(Refused::Failed(error)) => refused(number, error),
            }
        }
        rows.len()
    }
    /// Hands over the reports that are there, and waits up to `timeout` for more.
    fn poll(&self, timeout: Duration);
    /// Hands over on this thread what came and nobody has been told of, unless another thread does it just now.
    fn collect(&self) {}
    /// Ends what [`Sink::poll`] waits for.
    fn ring(&self) {}
    /// Waits until no thread is in [`Sink::collect`]; not to be called while reports are handed over.
    fn pass_turn(&self) {}
    /// Asks for what is queued to be sent now instead of after `linger.ms`. Takes up to a few milliseconds while something is; to be
    /// repeated, for a thread that is not there in time does not hear it.
    fn nudge(&self);
    /// Gives up records that are queued, or in flight; each is reported as failed. With `wait` those of the queues are given up when
    /// this returns.
    fn purge(&self, queued: bool, in_flight: bool, wait: bool);
    /// Brokers, topics and partitions, of one topic or of all.
    fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata>;
    /// A step of a transaction; waits up to `timeout`, or as long as librdkafka thinks right.
    fn transaction(&self, step: Step<'_>, timeout: Option<Duration>) -> Result<()>;
    /// The name and password that connections made from now on use.
    fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()>;
    /// How many topics are sent to past librdkafka.
    fn topics_direct(&self) -> usize {
        0
    }
    /// The cluster's own name.
    fn cluster_id(&self, timeout: Duration) -> Result<Option<String>>;
}
