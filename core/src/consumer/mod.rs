//! The consumer: what an application holds, and how it waits.
//!
//! The poller's thread does the work (see `poller`); this side takes batches from the gate, hands them out, and keeps
//! what is in the application's hands. Rebalance callbacks run here, on the thread that polls.

mod close;
mod credentials;
mod details;
mod hand;
mod listener;
mod notices;
mod offsets;
mod reading;
#[cfg(test)]
mod tests;
mod tuning;
mod wait;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use parking_lot::{Mutex, MutexGuard};

use crate::checks::{ForkGuard, millis};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, IsolationLevel};
use crate::consumer::credentials::Credentials;
use crate::consumer::hand::Hand;
use crate::consumer::notices::Notices;
use crate::error::{Error, Result};
use crate::notice::ConsumerOptions;
use crate::partition::{Offset, TopicPartition};
use crate::poller::{Command, Driver, Poller, Settings};
use crate::queue::{self, GateReceiver, Waker};
use crate::shared::{AppEvent, Shared};
use crate::source::Source;
use crate::source::kafka::{self, Client, KafkaSource};
use crate::stats::ConsumerStats;
use crate::tracker::PartitionCell;

pub(crate) use crate::consumer::credentials::Follower;
pub use crate::consumer::listener::RebalanceListener;

/// The word for this handle in errors.
const WHAT: &str = "consumer";
/// The poller answers commands that need no broker at once; this only bounds a wait on a machine that is stuck.
const COMMAND_WAIT: Duration = Duration::from_secs(30);
/// A wait without a deadline is cut into waits of this length.
const LONG_WAIT: Duration = Duration::from_secs(3600);

/// What a consumer is made of, beside its source.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) gate_bytes: usize,
    pub(crate) max_poll_records: usize,
    pub(crate) group_id: Option<String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: ConsumerOptions,
    /// Wakes the poller; the source has it too.
    pub(crate) waker: Arc<Waker>,
    /// For questions that the broker answers; none over a scripted source.
    pub(crate) client: Weak<Client>,
}

/// Reads records of a group, or of partitions assigned by hand.
///
/// A consumer has one background thread, which fetches ahead within `queued.max.messages.kbytes` and answers
/// rebalances, so the application may take its time. `poll`, `next_batch` and their like may be called by one thread at a
/// time ([`Error::ConcurrentUse`] otherwise), everything else by any thread.
///
/// A record is *finished*, and its offset may be committed, when the application asks for the next one (or batch), or
/// acknowledges it; what was leased, only when it is acknowledged. With `enable.auto.commit` (the default) what is
/// finished is committed every `auto.commit.interval.ms`, when partitions are taken away, and at close.
/// A record handed out and not finished is handed out again after a restart: nothing is lost.
///
/// Dropping a consumer closes it and waits at most five seconds for that.
///
/// ```
/// # fn main() -> tidegate::Result<()> {
/// # let broker = tidegate::embedded::Broker::with_topics(&[("orders", 1)])?;
/// # let bootstrap = broker.bootstrap_servers();
/// # let producer = tidegate::Producer::new(&tidegate::Config::new().with("bootstrap.servers", bootstrap))?;
/// # producer.send(&tidegate::ProducerRecord::new("orders").value(b"1"))?;
/// # producer.flush(std::time::Duration::from_secs(10))?;
/// use std::time::Duration;
/// use tidegate::{Config, Consumer};
///
/// let config = Config::new()
///     .with("bootstrap.servers", bootstrap)
///     .with("group.id", "billing")
///     .with("auto.offset.reset", "earliest");
/// let consumer = Consumer::new(&config)?;
/// consumer.subscribe(&["orders"])?;
/// while let Some(record) = consumer.poll(Some(Duration::from_secs(30)))? {
///     println!("{:?}", record.value());
/// #   break;
/// }
/// consumer.commit(Duration::from_secs(10))?;
/// consumer.close(Duration::from_secs(10))?;
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
    events: Receiver<AppEvent>,
    gate: GateReceiver,
    commands: Sender<Command>,
    clock: Arc<dyn Clock>,
    client: Weak<Client>,
    hand: Mutex<Hand>,
    listener: Mutex<Option<Arc<dyn RebalanceListener>>>,
    notices: Notices,
    subscription: Mutex<Vec<String>>,
    max_poll_records: usize,
    group_id: Option<String>,
    auto_commit: bool,
    /// Offsets of transactions that are not over are waited for at an assignment (`isolation.level`).
    read_committed: bool,
    /// How to reach the cluster, for a producer beside this consumer.
    reaching: Config,
    credentials: Mutex<Credentials>,
    fork: ForkGuard,
    closed: Mutex<bool>,
    /// Callbacks of the application that run: what they call is answered while the consumer closes as well.
    telling: AtomicUsize,
    /// None until [`Consumer::start`].
    driver: Option<Arc<Driver>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: Receiver<()>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("group_id", &self.group_id)
            .field("subscription", &*self.subscription.lock())
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// A consumer with this configuration; it connects in the background, so a broker that is away is no error here.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with every problem of the configuration, [`Error::Kafka`] when librdkafka cannot start.
    pub fn new(config: &Config) -> Result<Consumer> {
        Consumer::with_options(config, ConsumerOptions::default())
    }

    /// As [`Consumer::new`], for faces that carry another client's API.
    ///
    /// # Errors
    ///
    /// As [`Consumer::new`].
    pub fn with_options(config: &Config, options: ConsumerOptions) -> Result<Consumer> {
        let config = config.consumer()?;
        config.log_notes();
        let tuning = tuning::tune(&config);
        let reaching = config.reaching();
        let read_committed = config.isolation_level == IsolationLevel::ReadCommitted;
        let waker = Arc::new(Waker::default());
        let source = KafkaSource::new(
            &tuning.native,
            config.group_id.is_some(),
            tuning.reset,
            options,
            &waker,
            config.tokens.as_ref(),
            // Lanes tell nobody that they are throttled.
            tuning.direct.filter(|_| !options.throttles),
        )?;
        let parts = Parts {
            client: Arc::downgrade(source.client()),
            settings: tuning.settings,
            gate_bytes: tuning.gate_bytes,
            max_poll_records: config.max_poll_records.unwrap_or(usize::MAX),
            group_id: config.group_id,
            clock: Arc::new(SystemClock::new()),
            options,
            waker,
        };
        let (mut consumer, mut poller) = Consumer::with_source(source, parts);
        consumer.reaching = reaching;
        consumer.read_committed = read_committed;
        if options.logs {
            // What librdkafka said while it was made is there for the first poll, which may be one that does not wait.
            let _ = poller.step();
        }
        consumer.start(poller)?;
        Ok(consumer)
    }

    /// A consumer over `source` and its poller, which does not run yet.
    pub(crate) fn with_source<S: Source>(source: S, parts: Parts) -> (Consumer, Poller<S>) {
        let (shared, events) = Shared::new(Arc::clone(&parts.waker), parts.options);
        let (gate_in, gate) = queue::gate(parts.gate_bytes, parts.waker);
        let (commands, command_receiver) = unbounded();
        let join_bytes = parts.settings.batch_bytes;
        let auto_commit = parts.settings.auto_commit;
        let poller = Poller::new(
            source,
            parts.settings,
            Arc::clone(&shared),
            gate_in,
            command_receiver,
            Arc::clone(&parts.clock),
        );
        let consumer = Consumer {
            shared,
            events,
            gate,
            commands,
            clock: parts.clock,
            client: parts.client,
            hand: Mutex::new(Hand::new(join_bytes)),
            listener: Mutex::new(None),
            notices: Notices::default(),
            subscription: Mutex::new(Vec::new()),
            max_poll_records: parts.max_poll_records,
            group_id: parts.group_id,
            auto_commit,
            read_committed: true,
            reaching: Config::new(),
            credentials: Mutex::default(),
            fork: ForkGuard::new(),
            closed: Mutex::new(false),
            telling: AtomicUsize::new(0),
            driver: None,
            thread: Mutex::new(None),
            // Disconnected, as after the thread's end.
            ended: bounded(0).1,
        };
        (consumer, poller)
    }

    /// Runs the poller on a thread of its own.
    fn start<S: Source + 'static>(&mut self, poller: Poller<S>) -> Result<()> {
        let (ending, ended) = bounded::<()>(0);
        let waker = Arc::clone(&self.shared.waker);
        let driver = Driver::new(Box::new(poller), waker, Arc::clone(&self.clock));
        let driver = Arc::new(driver);
        let drives = Arc::clone(&driver);
        let thread = std::thread::Builder::new()
            .name("tidegate-poller".into())
            .spawn(move || {
                drives.run();
                drop(ending);
            })
            .map_err(|error| Error::Kafka {
                code: crate::kafka_code::from_number(-194),
                context: format!("the poller's thread could not be started: {error}"),
            })?;
        self.driver = Some(driver);
        self.ended = ended;
        *self.thread.get_mut() = Some(thread);
        Ok(())
    }

    /// Joins the group for these topics; a name that begins with `^` is a regular expression. A subscription made before
    /// is replaced. A topic that does not exist is waited for, with a warning in the log.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for no topic, an empty name, or a consumer without `group.id`; [`Error::Closed`].
    pub fn subscribe(&self, topics: &[&str]) -> Result<()> {
        self.subscribe_to(topics, None)
    }

    /// As [`Consumer::subscribe`], with callbacks for rebalances.
    ///
    /// # Errors
    ///
    /// As [`Consumer::subscribe`].
    pub fn subscribe_with(
        &self,
        topics: &[&str],
        listener: Box<dyn RebalanceListener>,
    ) -> Result<()> {
        self.subscribe_to(topics, Some(Arc::from(listener)))
    }

    fn subscribe_to(
        &self,
        topics: &[&str],
        listener: Option<Arc<dyn RebalanceListener>>,
    ) -> Result<()> {
        if topics.is_empty() {
            return Err(Error::argument(
                "topics",
                "there is no topic to subscribe to",
                "name at least one topic, or call unsubscribe()",
            ));
        }
        for topic in topics {
            if topic.is_empty() || topic.contains('\0') {
                return Err(Error::argument(
                    "topics",
                    format!("{topic:?} is no topic name"),
                    "use names of letters, digits, '.', '_' and '-', or a regular expression that begins with '^'",
                ));
            }
        }
        self.group()?;
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_string()).collect();
        let listening = listener.is_some();
        *self.listener.lock() = listener;
        self.shared.set_subscribed(true);
        self.ask(|reply| Command::Subscribe {
            topics: topics.clone(),
            listening,
            reply,
        })?;
        *self.subscription.lock() = topics;
        Ok(())
    }

    /// Leaves the group and stops reading. What is finished is committed first.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub fn unsubscribe(&self) -> Result<()> {
        self.shared.set_subscribed(false);
        self.subscription.lock().clear();
        self.ask(|reply| Command::Unsubscribe { reply })
    }

    /// The topics subscribed to.
    #[must_use]
    pub fn subscription(&self) -> Vec<String> {
        self.subscription.lock().clone()
    }

    /// Reads these partitions from these places without joining a group; replaces what was assigned. No partition at
    /// all stops reading.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a negative partition or offset, or when subscribed; [`Error::Closed`].
    pub fn assign(&self, partitions: &[(TopicPartition, Offset)]) -> Result<()> {
        for (partition, offset) in partitions {
            offsets::check_partition(partition)?;
            offsets::check_offset(*offset)?;
        }
        if !self.subscription.lock().is_empty() {
            return Err(Error::argument(
                "partitions",
                "this consumer is subscribed, so its group assigns the partitions",
                "call unsubscribe() first, or use another consumer",
            ));
        }
        let partitions = partitions.to_vec();
        self.ask(|reply| Command::Assign { partitions, reply })
    }

    /// A `poll` or `next_batch` that waits in another thread returns `Ok(None)` at once; if none does, the next one will
    /// not wait.
    pub fn wake(&self) {
        self.shared.tell(AppEvent::Wake);
    }

    /// What this consumer has done so far.
    #[must_use]
    pub fn stats(&self) -> ConsumerStats {
        let gate = self.gate.level();
        let metrics = &self.shared.stats;
        metrics.queue_bytes.set(gate.bytes() as u64);
        metrics.queue_bytes_peak.raise_to(gate.peak_bytes() as u64);
        let client = self.client.upgrade();
        let direct = client.map_or(0, |client| kafka::direct_count(&client));
        metrics.partitions_direct.set(direct as u64);
        metrics.snapshot()
    }

    /// librdkafka's own statistics (JSON), the newest; only with `statistics.interval.ms`.
    #[must_use]
    pub fn librdkafka_stats(&self) -> Option<String> {
        self.shared.librdkafka_stats.lock().clone()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(crate) fn group_id(&self) -> Option<&str> {
        self.group_id.as_deref()
    }

    pub(crate) fn reaching(&self) -> &Config {
        &self.reaching
    }

    pub(crate) fn commits_by_itself(&self) -> bool {
        self.auto_commit
    }

    pub(crate) fn reads_committed(&self) -> bool {
        self.read_committed
    }

    /// Waits until no commit is on its way.
    pub(crate) fn await_commits(&self, timeout: Duration) -> Result<()> {
        self.ask_within(timeout, "the commit", |reply| Command::AwaitCommits {
            reply,
        })
    }

    /// True when this cell is the one of a partition held now.
    pub(crate) fn is_assigned(&self, cell: &Arc<PartitionCell>) -> bool {
        let assigned = self.shared.assigned.read();
        assigned.iter().any(|held| Arc::ptr_eq(held, cell))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.is_closing() || *self.closed.lock()
    }

    /// Whether this is the process that made the consumer: for what is built on one and waits by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`] in a child forked after that.
    pub fn in_its_process(&self) -> Result<()> {
        self.fork.check(WHAT)
    }

    pub(crate) fn open(&self) -> Result<()> {
        self.in_its_process()?;
        if self.is_closed() && self.telling.load(Ordering::SeqCst) == 0 {
            return Err(Error::Closed { what: WHAT });
        }
        Ok(())
    }

    /// The group's id, which subscribing and committing need.
    fn group(&self) -> Result<&str> {
        self.group_id.as_deref().ok_or_else(|| {
            Error::argument(
                "group.id",
                "this consumer has no group to join or to commit for",
                "set group.id, or use assign() and keep the offsets yourself",
            )
        })
    }

    /// Sends a command and waits for its answer.
    fn ask<T>(&self, command: impl FnOnce(Sender<Result<T>>) -> Command) -> Result<T> {
        self.ask_within(COMMAND_WAIT, "the poller's answer", command)
    }

    fn ask_within<T>(
        &self,
        timeout: Duration,
        what: &str,
        command: impl FnOnce(Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        self.open()?;
        let (reply, answer) = bounded(1);
        self.tell_poller(command(reply))?;
        match answer.recv_timeout(timeout) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(Error::TimedOut {
                what: what.into(),
                timeout_ms: millis(timeout),
            }),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Closed { what: WHAT }),
        }
    }

    fn tell_poller(&self, command: Command) -> Result<()> {
        self.commands
            .send(command)
            .map_err(|_| Error::Closed { what: WHAT })?;
        self.shared.waker.wake();
        Ok(())
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock()
    }
}

fn concurrent() -> Error {
    Error::ConcurrentUse { what: WHAT }
}
