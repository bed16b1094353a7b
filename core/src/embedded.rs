//! A Kafka cluster inside this process, for tests, demos and doc examples: librdkafka's mock cluster on loopback ports.
//!
//! It speaks produce, fetch, groups, commits and metadata. It keeps 5 MiB (100 000 messages) per partition, re-joins a
//! group only after about one session timeout, isolates no transactions and has no CreateTopics; those need a real broker.
//!
//! The mock cluster's handle may not be shared between threads, so one thread of its own holds it and runs what the
//! [`Broker`]'s methods ask. That makes [`Broker`] `Send + Sync`. Dropping it ends the cluster and waits for that, bounded.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::checks::{self, ForkGuard};
use crate::error::{Error, Result};
use crate::kafka_code;
use crate::native::mock::Cluster;

type Job = Box<dyn FnOnce(&Cluster) + Send>;

/// The longest a drop waits for the cluster's threads.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a group's first member waits for others before it gets its assignment. librdkafka's mock cluster takes 3 s for that, as
/// brokers do by default; the configuration that brokers get for tests is 0.
const FIRST_JOIN: Duration = Duration::from_millis(100);

/// Every broker of the cluster, for [`Broker::broker_down`] and its relatives.
pub const ALL_BROKERS: i32 = -1;

/// A request of the Kafka protocol that [`Broker::request_errors`] can make fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Producers sending record batches.
    Produce,
    /// Consumers fetching record batches.
    Fetch,
    /// Looking up offsets by time, and the watermarks.
    ListOffsets,
    /// Looking up topics and leaders.
    Metadata,
    /// Committing offsets.
    OffsetCommit,
    /// Reading committed offsets.
    OffsetFetch,
    /// Looking up a group's coordinator.
    FindCoordinator,
    /// Joining a group.
    JoinGroup,
    /// Getting the assignment.
    SyncGroup,
    /// Staying in the group.
    Heartbeat,
    /// Leaving the group.
    LeaveGroup,
    /// An idempotent producer asking for its id.
    InitProducerId,
}

impl Request {
    fn key(self) -> RDKafkaApiKey {
        match self {
            Request::Produce => RDKafkaApiKey::Produce,
            Request::Fetch => RDKafkaApiKey::Fetch,
            Request::ListOffsets => RDKafkaApiKey::ListOffsets,
            Request::Metadata => RDKafkaApiKey::Metadata,
            Request::OffsetCommit => RDKafkaApiKey::OffsetCommit,
            Request::OffsetFetch => RDKafkaApiKey::OffsetFetch,
            Request::FindCoordinator => RDKafkaApiKey::FindCoordinator,
            Request::JoinGroup => RDKafkaApiKey::JoinGroup,
            Request::SyncGroup => RDKafkaApiKey::SyncGroup,
            Request::Heartbeat => RDKafkaApiKey::Heartbeat,
            Request::LeaveGroup => RDKafkaApiKey::LeaveGroup,
            Request::InitProducerId => RDKafkaApiKey::InitProducerId,
        }
    }
}

/// A Kafka cluster inside this process.
///
/// ```
/// use tidegate::embedded::Broker;
///
/// let broker = Broker::with_topics(&[("tasks", 4), ("results", 2)])?;
/// assert!(broker.bootstrap_servers().starts_with("127.0.0.1:"));
/// broker.create_topic("more", 1)?;
/// # Ok::<(), tidegate::Error>(())
/// ```
pub struct Broker {
    /// Taken in `drop`, which ends the thread.
    jobs: Option<Sender<Job>>,
    ended: Receiver<()>,
    bootstrap_servers: String,
    brokers: i32,
    topics: Mutex<HashSet<String>>,
    fork: ForkGuard,
}

impl Broker {
    /// Starts a cluster of `brokers` brokers, numbered from 1.
    ///
    /// # Errors
    /// [`Error::Argument`] for fewer than one broker or more than 100; [`Error::Kafka`] when librdkafka cannot start it.
    pub fn new(brokers: i32) -> Result<Broker> {
        if !(1..=100).contains(&brokers) {
            return Err(Error::argument(
                "brokers",
                format!("a cluster of {brokers} brokers cannot be started"),
                "use 1 to 100, usually 1 or 3",
            ));
        }
        let (jobs, inbox) = unbounded::<Job>();
        let (started, start) = bounded(1);
        let (end, ended) = bounded::<()>(0);
        thread::Builder::new()
            .name("tidegate-embedded".into())
            .spawn(move || {
                // Dropped last, when the cluster is gone: `ended` is then disconnected.
                let _end = end;
                let cluster = match Cluster::new(brokers) {
                    Ok(cluster) => cluster,
                    Err(failure) => {
                        let _ = started.send(Err(kafka_code::error(
                            &failure,
                            "starting the embedded broker",
                        )));
                        return;
                    }
                };
                cluster.group_initial_rebalance_delay(FIRST_JOIN);
                if started.send(Ok(cluster.bootstrap_servers())).is_err() {
                    return;
                }
                for job in inbox {
                    job(&cluster);
                }
            })
            .map_err(|failure| Self::thread_failed(&failure.to_string()))?;
        let bootstrap_servers = start
            .recv()
            .map_err(|_| Self::thread_failed("it ended at once"))??;
        Ok(Broker {
            jobs: Some(jobs),
            ended,
            bootstrap_servers,
            brokers,
            topics: Mutex::new(HashSet::new()),
            fork: ForkGuard::new(),
        })
    }

    /// Starts one broker with these topics and their numbers of partitions.
    ///
    /// # Errors
    /// As [`Broker::new`] and [`Broker::create_topic`].
    pub fn with_topics(topics: &[(&str, i32)]) -> Result<Broker> {
        let broker = Broker::new(1)?;
        for (name, partitions) in topics {
            broker.create_topic(name, *partitions)?;
        }
        Ok(broker)
    }

    /// What clients set as `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Creates a topic, replicated over up to three brokers. (A topic that is not created this way comes into being, with 4
    /// partitions, when a client first asks for it.)
    ///
    /// # Errors
    /// [`Error::Argument`] for a name Kafka does not allow, fewer than one partition, or a topic that exists.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        checks::topic_name(name)?;
        checks::partition_count(partitions)?;
        if !self.topics.lock().insert(name.to_string()) {
            return Err(Self::topic_exists(name));
        }
        let replication = self.brokers.min(3);
        let topic = name.to_string();
        let created = self.run(move |cluster| {
            cluster
                .create_topic(&topic, partitions, replication)
                .map_err(|failure| kafka_code::error(&failure, format!("creating topic '{topic}'")))
        });
        match created {
            // A client asked for the topic before us.
            Err(Error::Kafka { code, .. }) if code.name() == "TOPIC_ALREADY_EXISTS" => {
                Err(Self::topic_exists(name))
            }
            Err(other) => {
                self.topics.lock().remove(name);
                Err(other)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Disconnects a broker (or [`ALL_BROKERS`]) and refuses new connections until [`Broker::broker_up`]. Leaders stay.
    ///
    /// # Errors
    /// [`Error::Argument`] for a broker that does not exist.
    pub fn broker_down(&self, broker: i32) -> Result<()> {
        self.check_broker(broker)?;
        self.operate("taking the broker down", move |cluster| {
            cluster.broker_down(broker)
        })
    }

    /// Lets a broker (or [`ALL_BROKERS`]) accept connections again.
    ///
    /// # Errors
    /// [`Error::Argument`] for a broker that does not exist.
    pub fn broker_up(&self, broker: i32) -> Result<()> {
        self.check_broker(broker)?;
        self.operate("bringing the broker up", move |cluster| {
            cluster.broker_up(broker)
        })
    }

    /// Makes a broker (or [`ALL_BROKERS`]) answer no sooner than after `delay`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a broker that does not exist.
    pub fn round_trip_time(&self, broker: i32, delay: Duration) -> Result<()> {
        self.check_broker(broker)?;
        self.operate("setting the round trip time", move |cluster| {
            cluster.broker_round_trip_time(broker, delay)
        })
    }

    /// Makes the next `errors.len()` requests of this kind fail with these Kafka codes, one each, in this order. The code
    /// -195 (`_TRANSPORT`) drops the connection instead.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that is no Kafka code.
    pub fn request_errors(&self, request: Request, errors: &[i32]) -> Result<()> {
        let codes = errors
            .iter()
            .map(|number| {
                RDKafkaRespErr::try_from(*number).map_err(|_| {
                    Error::argument(
                        "errors",
                        format!("{number} is no Kafka error code"),
                        "use codes of the Kafka protocol, such as 6 for NOT_LEADER_FOR_PARTITION",
                    )
                })
            })
            .collect::<Result<Vec<_>>>()?;
        self.run(move |cluster| {
            cluster.request_errors(request.key(), &codes);
            Ok(())
        })
    }

    /// Forgets the errors that [`Broker::request_errors`] left for requests of this kind.
    ///
    /// # Errors
    /// [`Error::Forked`] in a forked child.
    pub fn clear_request_errors(&self, request: Request) -> Result<()> {
        self.run(move |cluster| {
            cluster.clear_request_errors(request.key());
            Ok(())
        })
    }

    /// Makes `broker` the leader of a partition; `None` leaves it without one.
    ///
    /// # Errors
    /// [`Error::Argument`] for a broker that does not exist; [`Error::Kafka`] for an unknown partition.
    pub fn set_leader(&self, topic: &str, partition: i32, broker: Option<i32>) -> Result<()> {
        if let Some(broker) = broker {
            self.check_broker(broker)?;
        }
        let topic = topic.to_string();
        self.operate("setting the leader", move |cluster| {
            cluster.partition_leader(&topic, partition, broker)
        })
    }

    /// Makes `broker` the coordinator of a consumer group.
    ///
    /// # Errors
    /// [`Error::Argument`] for a broker that does not exist.
    pub fn set_group_coordinator(&self, group: &str, broker: i32) -> Result<()> {
        self.check_broker(broker)?;
        let group = group.to_string();
        self.operate("setting the coordinator", move |cluster| {
            cluster.group_coordinator(&group, broker)
        })
    }

    fn topic_exists(name: &str) -> Error {
        Error::argument(
            "topic",
            format!("topic '{name}' exists already"),
            "create each topic once, before a client asks for it",
        )
    }

    fn thread_failed(said: &str) -> Error {
        Error::Kafka {
            code: kafka_code::from_rdkafka(
                rdkafka::error::RDKafkaErrorCode::CriticalSystemResource,
            ),
            context: format!("the embedded broker's thread: {said}"),
        }
    }

    fn check_broker(&self, broker: i32) -> Result<()> {
        if broker == ALL_BROKERS || (1..=self.brokers).contains(&broker) {
            return Ok(());
        }
        Err(Error::argument(
            "broker",
            format!("there is no broker {broker}"),
            format!(
                "use 1 to {} or ALL_BROKERS ({ALL_BROKERS}) where it is allowed",
                self.brokers
            ),
        ))
    }

    fn operate(
        &self,
        doing: &'static str,
        operation: impl FnOnce(&Cluster) -> rdkafka::error::KafkaResult<()> + Send + 'static,
    ) -> Result<()> {
        self.run(move |cluster| {
            operation(cluster).map_err(|failure| kafka_code::error(&failure, doing))
        })
    }

    fn run(&self, operation: impl FnOnce(&Cluster) -> Result<()> + Send + 'static) -> Result<()> {
        const CLOSED: Error = Error::Closed {
            what: "embedded broker",
        };
        self.fork.check("embedded broker")?;
        let jobs = self.jobs.as_ref().ok_or(CLOSED)?;
        let (reply, answer) = bounded(1);
        jobs.send(Box::new(move |cluster| {
            let _ = reply.send(operation(cluster));
        }))
        .map_err(|_| CLOSED)?;
        answer.recv().map_err(|_| CLOSED)?
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("brokers", &self.brokers)
            .finish_non_exhaustive()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if !self.fork.is_forked() {
            // Nothing is ever sent: this returns when the thread has ended the cluster, or gives up.
            let _ = self.ended.recv_timeout(END_TIMEOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument_of(result: Result<()>) -> &'static str {
        match result {
            Err(Error::Argument { argument, .. }) => argument,
            other => panic!("expected Error::Argument, got {other:?}"),
        }
    }

    #[test]
    fn it_is_send_and_sync() {
        fn shared<T: Send + Sync>() {}
        shared::<Broker>();
    }

    #[test]
    fn bad_input_gets_a_clear_error() {
        assert_eq!(argument_of(Broker::new(0).map(|_| ())), "brokers");
        assert_eq!(argument_of(Broker::new(-3).map(|_| ())), "brokers");
        let broker = Broker::new(1).unwrap();
        assert_eq!(argument_of(broker.create_topic("", 1)), "topic");
        assert_eq!(argument_of(broker.create_topic("a\0b", 1)), "topic");
        assert_eq!(argument_of(broker.create_topic("t", 0)), "partitions");
        broker.create_topic("t", 2).unwrap();
        assert_eq!(argument_of(broker.create_topic("t", 2)), "topic");
        assert_eq!(argument_of(broker.broker_down(2)), "broker");
        assert_eq!(
            argument_of(broker.request_errors(Request::Produce, &[12345])),
            "errors"
        );
        assert_eq!(
            argument_of(Broker::with_topics(&[("a", 1), ("a", 1)]).map(|_| ())),
            "topic"
        );
    }

    #[test]
    fn brokers_listen_while_it_lives_and_not_after() {
        let broker = Broker::new(3).unwrap();
        let servers: Vec<String> = broker
            .bootstrap_servers()
            .split(',')
            .map(str::to_string)
            .collect();
        assert_eq!(servers.len(), 3);
        for server in &servers {
            assert!(std::net::TcpStream::connect(server).is_ok(), "{server}");
        }
        drop(broker);
        for server in &servers {
            assert!(std::net::TcpStream::connect(server).is_err(), "{server}");
        }
    }

    #[test]
    fn many_threads_use_it_at_once() {
        let broker = Broker::new(1).unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let broker = &broker;
                scope.spawn(move || broker.create_topic(&format!("topic-{n}"), 1).unwrap());
            }
        });
        assert_eq!(broker.topics.lock().len(), 8);
    }
}
