//! The producer: records in, delivery reports out.
//!
//! Any thread sends; one thread of its own per producer ("tidegate-delivery") serves delivery reports and runs the
//! application's callbacks, never under a lock. Always true: no call waits without bound; a record that was not accepted is
//! an error of that call and counted; a record that was accepted ends in exactly one report, at the latest at close.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_channel::oneshot;

use crate::checks::{self, ForkGuard};
use crate::clock::SystemClock;
use crate::config::{Config, ProducerConfig};
use crate::consumer::{Consumer, Follower};
use crate::error::{Error, Result};
use crate::log::{self, Level, TIDEGATE};
use crate::metadata::Metadata;
use crate::partition::TopicInfo;
use crate::sink::Sink;
use crate::sink::direct;
use crate::sink::kafka::KafkaSink;
use crate::stats::ProducerStats;

mod batch;
mod engine;
mod ledger;
mod polled;
mod report;
#[cfg(test)]
mod tests;
mod transactions;

pub use crate::sink::{ProducerRecord, TaggedReport, TaggedRow};
use engine::{Engine, Patience, WHAT};
use ledger::{Completion, Keeps, Ledger};
pub use report::{Delivery, DeliveryCallback, DeliveryFuture, DeliveryReport, ReportCallback};
use transactions::Transaction;

/// How long dropping the last handle of a producer waits for records in flight.
pub const DROP_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a [`Producer::send_batch`].
#[derive(Debug, Default)]
pub struct BatchOutcome {
    /// How many records were accepted.
    pub accepted: usize,
    /// The others: their index in the batch, in order, and why.
    pub refused: Vec<(usize, Error)>,
}

impl BatchOutcome {
    /// True when every record was accepted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.refused.is_empty()
    }
}

/// Sends records to Kafka. Cheap to clone; all clones are one producer, which ends with the last of them.
///
/// Idempotence, compression, batching and the rest come from the configuration.
///
/// ```
/// use std::time::Duration;
/// use tidegate::embedded::Broker;
/// use tidegate::{Config, Producer, ProducerRecord};
///
/// let broker = Broker::with_topics(&[("results", 3)])?;
/// let producer = Producer::new(&Config::new().with("bootstrap.servers", broker.bootstrap_servers()))?;
///
/// // Fire and forget: accepted now, counted when it is delivered.
/// producer.send(&ProducerRecord::new("results").key("camera-7").value("{}"))?;
///
/// // With a report.
/// let mut sent = producer.send_future(&ProducerRecord::new("results").value("{}").partition(2))?;
/// let delivery = sent.wait(Duration::from_secs(10))?;
/// assert_eq!((delivery.partition, delivery.offset), (2, 0));
///
/// // Many at once.
/// let lines = ["a", "b", "c"];
/// let outcome = producer.send_batch("results", lines.iter().map(|line| (None, Some(line.as_bytes()))))?;
/// assert_eq!(outcome.accepted, 3);
///
/// producer.flush(Duration::from_secs(10))?;
/// assert_eq!(producer.stats().records_delivered, 5);
/// producer.close(Duration::from_secs(5))?;
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// Ends the producer when the last clone goes.
struct Handle {
    engine: Arc<Engine>,
    transaction: Transaction,
}

impl Follower for Handle {
    fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()> {
        self.engine.check()?;
        self.engine.sink()?.set_sasl_credentials(username, password)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // In a forked child there is no thread to end and nothing that could be waited for.
        if self.engine.is_forked() {
            return;
        }
        self.transaction
            .end_at_close(&self.engine, DROP_FLUSH_TIMEOUT);
        if let Err(error) = self.engine.close(DROP_FLUSH_TIMEOUT) {
            log::emit(
                Level::Warn,
                TIDEGATE,
                format_args!("dropping a producer that was not closed: {error}"),
            );
        }
    }
}

impl Producer {
    /// Starts a producer. It connects in the background: brokers that cannot be reached are no error here, records wait for
    /// them up to `delivery.timeout.ms`.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem of the configuration; [`Error::Kafka`] when librdkafka refuses it all the same.
    pub fn new(config: &Config) -> Result<Producer> {
        Producer::make(config, Keeps::Nothing)
    }

    fn make(config: &Config, keeps: Keeps) -> Result<Producer> {
        let config = config.producer()?;
        for warning in &config.warnings {
            log::emit(Level::Warn, TIDEGATE, format_args!("{warning}"));
        }
        for translation in &config.translations {
            log::emit(Level::Debug, TIDEGATE, format_args!("{translation}"));
        }
        Producer::start(&config, keeps)
    }

    fn start(config: &ProducerConfig, keeps: Keeps) -> Result<Producer> {
        let fork = ForkGuard::new();
        let ledger = Arc::new(Ledger::new(Arc::new(SystemClock::new()), keeps));
        let sink = KafkaSink::new(
            &config.properties,
            Arc::clone(&ledger) as _,
            config.tokens.as_ref(),
            direct::Settings::of(&config.properties, config.direct_after_records),
        )?;
        if keeps == Keeps::EventsAndLog {
            // What librdkafka said while it was made is there for the first look, which may be one that does not wait.
            Sink::poll(&sink, Duration::ZERO);
        }
        let engine = Arc::new(Engine::new(
            ledger,
            Arc::new(sink),
            Duration::from_millis(config.queue_full_timeout_ms),
            fork,
        ));
        let serving = Arc::clone(&engine);
        thread::Builder::new()
            .name("tidegate-delivery".into())
            .spawn(move || serving.serve())
            .map_err(|failure| Error::Kafka {
                code: crate::kafka_code::from_rdkafka(
                    rdkafka::error::RDKafkaErrorCode::CriticalSystemResource,
                ),
                context: format!("starting the producer's delivery thread: {failure}"),
            })?;
        Ok(Producer {
            handle: Arc::new(Handle {
                engine,
                transaction: Transaction::default(),
            }),
        })
    }

    /// True when both are handles of one producer.
    /// One that signs in as `consumer` does, also when that is told other credentials.
    pub(crate) fn beside(consumer: &Consumer, config: &Config) -> Result<Producer> {
        let producer = Producer::new(config)?;
        let handle = Arc::downgrade(&producer.handle);
        consumer.is_followed_by(handle)?;
        Ok(producer)
    }

    pub(crate) fn is_same(&self, other: &Producer) -> bool {
        Arc::ptr_eq(&self.handle, &other.handle)
    }

    fn engine(&self) -> &Engine {
        &self.handle.engine
    }

    /// Sends a record and forgets it: delivery and failure are counted in [`Producer::stats`], failures are logged.
    ///
    /// Waits up to `tidegate.queue.full.timeout.ms` when the queue is full (not in a delivery callback, where nobody would
    /// make room). Returning an error means that the record was not accepted.
    ///
    /// # Errors
    /// [`Error::QueueFull`] when there was no room in time; [`Error::Argument`] for an empty topic, a NUL in it, a negative
    /// partition or timestamp; [`Error::Kafka`] when librdkafka refuses the record (too large, unknown partition);
    /// [`Error::Closed`]; [`Error::Forked`].
    pub fn send(&self, record: &ProducerRecord<'_>) -> Result<()> {
        self.send_record(record, None, Patience::Configured)
    }

    /// As [`Producer::send`], but never waits.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`Error::QueueFull`] at once.
    pub fn try_send(&self, record: &ProducerRecord<'_>) -> Result<()> {
        self.send_record(record, None, Patience::None)
    }

    /// As [`Producer::send_with`], but never waits.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`Error::QueueFull`] at once.
    pub fn try_send_with(
        &self,
        record: &ProducerRecord<'_>,
        on_delivery: DeliveryCallback,
    ) -> Result<()> {
        let completion = Completion::Callback(on_delivery);
        self.send_record(record, Some(completion), Patience::None)
    }

    /// As [`Producer::send`], and calls `on_delivery` on the delivery thread with what became of the record. Every other report
    /// waits for the callback, so it should be short; a panic in it is logged and goes no further.
    ///
    /// # Errors
    /// As [`Producer::send`]; `on_delivery` is then dropped without a call.
    pub fn send_with(
        &self,
        record: &ProducerRecord<'_>,
        on_delivery: impl FnOnce(Result<Delivery>) + Send + 'static,
    ) -> Result<()> {
        let completion = Completion::Callback(Box::new(on_delivery));
        self.send_record(record, Some(completion), Patience::Configured)
    }

    /// As [`Producer::send_with`], but `on_report` is called with a borrowed report, which also says where a record that was not
    /// delivered should have gone.
    ///
    /// # Errors
    /// As [`Producer::send_with`].
    pub fn send_reported(
        &self,
        record: &ProducerRecord<'_>,
        on_report: ReportCallback,
    ) -> Result<()> {
        let completion = Completion::Report(on_report);
        self.send_record(record, Some(completion), Patience::Configured)
    }

    /// As [`Producer::send_reported`], but never waits.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`Error::QueueFull`] at once.
    pub fn try_send_reported(
        &self,
        record: &ProducerRecord<'_>,
        on_report: ReportCallback,
    ) -> Result<()> {
        let completion = Completion::Report(on_report);
        self.send_record(record, Some(completion), Patience::None)
    }

    /// As [`Producer::send`], with a future of what becomes of the record. The future needs no runtime; dropping it does not stop
    /// the record.
    ///
    /// # Errors
    /// As [`Producer::send`]. What happens later is the future's output.
    pub fn send_future(&self, record: &ProducerRecord<'_>) -> Result<DeliveryFuture> {
        let (sender, report) = oneshot::channel();
        let completion = Completion::Future(sender);
        self.send_record(record, Some(completion), Patience::Configured)?;
        Ok(DeliveryFuture { report })
    }

    /// As [`Producer::send_with`], for callers that must answer a signal while they wait for room: `keep_waiting` is asked some
    /// 20 times a second, and when it says no, the call fails as if the time were up.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn send_interruptible(
        &self,
        record: &ProducerRecord<'_>,
        on_delivery: Option<DeliveryCallback>,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        self.send_record(
            record,
            on_delivery.map(Completion::Callback),
            Patience::Asking(keep_waiting),
        )
    }

    fn send_record(
        &self,
        record: &ProducerRecord<'_>,
        completion: Option<Completion>,
        patience: Patience<'_>,
    ) -> Result<()> {
        let engine = self.engine();
        engine.check()?;
        check_record(record)?;
        engine.send(record, completion, patience)?;
        engine.ledger.accepted(1, record.payload_bytes());
        Ok(())
    }

    /// Waits until every record sent so far, by any thread, has its report and its callback has run. `linger.ms` is cut short
    /// where librdkafka allows it.
    ///
    /// # Errors
    /// [`Error::TimedOut`], which says how many records are still in flight (they stay so); [`Error::Argument`] in a delivery
    /// callback; [`Error::Closed`]; [`Error::Forked`].
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.engine().flush(timeout)
    }

    /// Records accepted whose report has not come yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.engine().collect();
        usize::try_from(self.engine().ledger.in_flight()).unwrap_or(usize::MAX)
    }

    /// Gives up every record in flight: each is reported as failed (`_PURGE_QUEUE`, or `_PURGE_INFLIGHT` where the broker may
    /// have it all the same).
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Forked`].
    pub fn purge(&self) -> Result<()> {
        self.purge_some(true, true, false)
    }

    /// As [`Producer::purge`], of the records that are queued only, or of those only that the broker may have already. With `wait` those
    /// of the queues are given up when this returns; their reports may come later all the same.
    ///
    /// # Errors
    /// As [`Producer::purge`].
    pub fn purge_some(&self, queued: bool, in_flight: bool, wait: bool) -> Result<()> {
        self.engine().check()?;
        self.engine().sink()?.purge(queued, in_flight, wait);
        Ok(())
    }

    /// The cluster's own name; none when no broker told it in time.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Forked`].
    pub fn cluster_id(&self, timeout: Duration) -> Result<Option<String>> {
        self.engine().check()?;
        self.engine().sink()?.cluster_id(timeout)
    }

    /// The cluster's topics.
    ///
    /// # Errors
    /// [`Error::Kafka`] when no broker answered in time; [`Error::Closed`]; [`Error::Forked`].
    pub fn topics(&self, timeout: Duration) -> Result<Vec<TopicInfo>> {
        Ok(self.metadata(None, timeout)?.infos())
    }

    /// Brokers, topics and partitions, of one topic or of all.
    ///
    /// # Errors
    /// [`Error::Kafka`] when no broker answered in time; [`Error::Argument`] for a NUL character; [`Error::Closed`]; [`Error::Forked`].
    pub fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata> {
        self.engine().check()?;
        self.engine().sink()?.metadata(topic, timeout)
    }

    /// Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are.
    ///
    /// # Errors
    /// [`Error::Argument`] for a NUL character; [`Error::Closed`]; [`Error::Forked`].
    pub fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()> {
        Follower::set_sasl_credentials(&*self.handle, username, password)
    }

    /// The numbers so far; also of a closed producer.
    #[must_use]
    pub fn stats(&self) -> ProducerStats {
        self.engine().collect();
        let ledger = &self.engine().ledger;
        ledger.metrics.in_flight.set(ledger.in_flight());
        let direct = self.engine().sink().map_or(0, |sink| sink.topics_direct());
        ledger.metrics.topics_direct.set(direct as u64);
        ledger.metrics.snapshot()
    }

    /// Stops accepting records, waits up to `timeout` for those in flight, gives up the rest (they are reported as failed and
    /// counted) and ends the producer's threads. Takes at most some five seconds longer than `timeout`. Closing again does
    /// nothing. In a delivery callback it returns at once and the producer closes when the callback has returned. A transaction
    /// that is open is aborted.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when records had to be given up, with their number; [`Error::Forked`].
    pub fn close(&self, timeout: Duration) -> Result<()> {
        self.handle.transaction.end_at_close(self.engine(), timeout);
        self.engine().close(timeout)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(WHAT)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// What can be said about a record without asking librdkafka.
impl ProducerRecord<'_> {
    /// Whether it could be sent, as far as it tells by itself: every send looks at it.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an empty topic or a NUL in it, and for a negative partition or timestamp.
    pub fn check(&self) -> Result<()> {
        check_record(self)
    }
}

fn check_record(record: &ProducerRecord<'_>) -> Result<()> {
    if record.topic.is_empty() || record.topic.contains('\0') {
        return checks::topic_name(record.topic);
    }
    if let Some(partition) = record.partition.filter(|partition| *partition < 0) {
        return Err(Error::argument(
            "partition",
            format!("there is no partition {partition}"),
            "use 0 or more, or none to let the partitioner choose",
        ));
    }
    if let Some(timestamp) = record.timestamp_ms.filter(|timestamp| *timestamp < 0) {
        return Err(Error::argument(
            "timestamp_ms",
            format!("{timestamp} is before 1970"),
            "use milliseconds since 1970, or none for the time of the call",
        ));
    }
    Ok(())
}
