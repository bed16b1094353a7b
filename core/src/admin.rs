//! Topics: creating, deleting and listing them.
//!
//! Any thread; calls block their thread up to their timeout. librdkafka answers on a queue that rust-rdkafka's own thread serves, so
//! nothing here needs a runtime. rust-rdkafka's admin client never reads its log and error events, so it is told to have none, and a
//! producer handle with the same configuration stands beside it: its errors say why a request got no answer. The embedded broker knows no CreateTopics and DeleteTopics: use [`crate::embedded::Broker::create_topic`]
//! there.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;
use rdkafka::admin::{self, AdminClient, AdminOptions, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use crate::block_on::block_on;
use crate::checks::{self, ForkGuard};
use crate::config::Config;
use crate::error::{Error, KafkaCode, Result};
use crate::kafka_code;
use crate::log::{self, Level, TIDEGATE};
use crate::native;
use crate::native::sasl::Served;
use crate::partition::TopicInfo;
use crate::sink::kafka::KafkaSink;
use crate::sink::{Report, Reports, Sink};

const WHAT: &str = "admin client";

/// How much longer than a request's own timeout its answer is waited for: librdkafka counts in whole milliseconds and answers
/// with `_TIMED_OUT` itself.
const ANSWER_GRACE: Duration = Duration::from_secs(2);
/// While waiting, events are taken in this often, for so long.
const WATCH_EVERY: Duration = Duration::from_millis(50);
const WATCH: Duration = Duration::from_millis(2);
/// The longest a drop waits for librdkafka's threads.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A topic to create.
///
/// ```
/// use tidegate::NewTopic;
///
/// let topic = NewTopic::new("detections", 12).replication(3).config("retention.ms", "86400000");
/// assert_eq!(topic.partitions, 12);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; 1 or more.
    pub partitions: i32,
    /// On how many brokers each partition is; -1 takes the cluster's default.
    pub replication: i32,
    /// Settings of the topic, such as `retention.ms`.
    pub config: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the cluster's default replication.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions,
            replication: -1,
            config: BTreeMap::new(),
        }
    }

    /// Sets the replication factor.
    #[must_use]
    pub fn replication(mut self, replication: i32) -> NewTopic {
        self.replication = replication;
        self
    }

    /// Adds a setting.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> NewTopic {
        self.config.insert(name.into(), value.into());
        self
    }

    fn check(&self) -> Result<()> {
        checks::topic_name(&self.name)?;
        checks::partition_count(self.partitions)?;
        if self.replication < 1 && self.replication != -1 {
            return Err(Error::argument(
                "replication",
                format!(
                    "topic '{}' cannot be replicated {} times",
                    self.name, self.replication
                ),
                "use 1 or more, or -1 for the cluster's default",
            ));
        }
        if let Some(name) = self
            .config
            .iter()
            .find_map(|(name, value)| (name.contains('\0') || value.contains('\0')).then_some(name))
        {
            return Err(Error::argument(
                "config",
                format!("topic '{}': {name:?} holds a NUL character", self.name),
                "remove it",
            ));
        }
        Ok(())
    }
}

/// Keeps the last error of the handle beside the admin client, for the text of a request that got no answer.
#[derive(Default)]
struct Watcher {
    last_error: Mutex<Option<String>>,
}

impl Reports for Watcher {
    fn report(&self, _report: &Report<'_>) {}

    fn delivered(&self, _records: u64) {}

    fn error(&self, code: KafkaCode, reason: &str) {
        log::emit(
            Level::Warn,
            TIDEGATE,
            format_args!("admin client: {}: {reason}", code.name()),
        );
        let mut last = self.last_error.lock();
        // "1/1 brokers are down" follows the error that says why; it is the less useful of the two.
        if last.is_none() || code.name() != "_ALL_BROKERS_DOWN" {
            *last = Some(reason.to_string());
        }
    }
}

/// Creates, deletes and lists topics.
///
/// ```
/// use std::time::Duration;
/// use tidegate::embedded::Broker;
/// use tidegate::{Admin, Config};
///
/// let broker = Broker::with_topics(&[("tasks", 4)])?;
/// let admin = Admin::new(&Config::new().with("bootstrap.servers", broker.bootstrap_servers()))?;
/// let topics = admin.topics(Duration::from_secs(10))?;
/// assert_eq!((topics[0].name.as_str(), topics[0].partitions), ("tasks", 4));
/// # Ok::<(), tidegate::Error>(())
/// ```
pub struct Admin {
    /// Taken in `drop`.
    clients: Option<Clients>,
    watcher: Arc<Watcher>,
    fork: ForkGuard,
}

struct Clients {
    admin: Served<AdminClient<DefaultClientContext>>,
    beside: KafkaSink,
}

impl Admin {
    /// Starts an admin client. It connects in the background.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem of the configuration; [`Error::Kafka`] when librdkafka refuses it all the same.
    pub fn new(config: &Config) -> Result<Admin> {
        let config = config.admin()?;
        for warning in &config.warnings {
            log::emit(Level::Warn, TIDEGATE, format_args!("{warning}"));
        }
        for translation in &config.translations {
            log::emit(Level::Debug, TIDEGATE, format_args!("{translation}"));
        }
        let fork = ForkGuard::new();
        let watcher = Arc::new(Watcher::default());
        let tokens = config.tokens.as_ref();
        let beside = KafkaSink::new(&config.properties, Arc::clone(&watcher) as _, tokens)?;
        let mut silent = native::client_config(&config.properties);
        silent.set_log_level(RDKafkaLogLevel::Emerg);
        let admin = silent
            .create()
            .map_err(|failure| kafka_code::error(&failure, "creating the admin client"))?;
        Ok(Admin {
            clients: Some(Clients {
                admin: Served::new(admin, tokens)?,
                beside,
            }),
            watcher,
            fork,
        })
    }

    /// Creates topics. Each has its own result, in the order of `topics`: one that exists already is
    /// [`Error::Kafka`] with `TOPIC_ALREADY_EXISTS`, and the others are created all the same.
    ///
    /// # Errors
    /// [`Error::Argument`] for a topic that cannot be asked for (then none is created); [`Error::Kafka`] or [`Error::TimedOut`]
    /// when the cluster did not answer; [`Error::Forked`].
    pub fn create_topics(
        &self,
        topics: &[NewTopic],
        timeout: Duration,
    ) -> Result<Vec<(String, Result<()>)>> {
        let clients = self.clients()?;
        for topic in topics {
            topic.check()?;
        }
        let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        check_names(&names)?;
        let native: Vec<admin::NewTopic<'_>> = topics
            .iter()
            .map(|topic| {
                let replication = TopicReplication::Fixed(topic.replication);
                let mut native = admin::NewTopic::new(&topic.name, topic.partitions, replication);
                for (name, value) in &topic.config {
                    native = native.set(name, value);
                }
                native
            })
            .collect();
        let doing = "creating topics";
        let answer = clients
            .admin
            .client
            .create_topics(&native, &Self::options(timeout));
        let results = self.answer(clients, answer, timeout, doing)?;
        Ok(each("creating", &names, results))
    }

    /// Deletes topics and everything in them. Each has its own result, in the order of `names`.
    ///
    /// # Errors
    /// As [`Admin::create_topics`].
    pub fn delete_topics(
        &self,
        names: &[&str],
        timeout: Duration,
    ) -> Result<Vec<(String, Result<()>)>> {
        let clients = self.clients()?;
        for name in names {
            checks::topic_name(name)?;
        }
        check_names(names)?;
        let doing = "deleting topics";
        let answer = clients
            .admin
            .client
            .delete_topics(names, &Self::options(timeout));
        let results = self.answer(clients, answer, timeout, doing)?;
        Ok(each("deleting", names, results))
    }

    /// The cluster's topics, Kafka's internal ones included, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Kafka`] when no broker answered in time; [`Error::Forked`].
    pub fn topics(&self, timeout: Duration) -> Result<Vec<TopicInfo>> {
        let clients = self.clients()?;
        let topics = clients.beside.topics(timeout);
        clients.watch();
        topics.map_err(|error| match error {
            Error::Kafka { code, context } => Error::Kafka {
                code,
                context: self.with_cause(&context),
            },
            other => other,
        })
    }

    /// Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are.
    ///
    /// # Errors
    /// [`Error::Argument`] for a NUL character; [`Error::Forked`].
    pub fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()> {
        let clients = self.clients()?;
        clients.admin.set_credentials(username, password)?;
        clients.beside.set_sasl_credentials(username, password)
    }

    fn clients(&self) -> Result<&Clients> {
        self.fork.check(WHAT)?;
        self.clients.as_ref().ok_or(Error::Closed { what: WHAT })
    }

    fn options(timeout: Duration) -> AdminOptions {
        let timeout = Some(native::timeout(timeout));
        AdminOptions::new()
            .request_timeout(timeout)
            // Answers when the topic is there, not when it was asked for.
            .operation_timeout(timeout)
    }

    fn with_cause(&self, doing: &str) -> String {
        match self.watcher.last_error.lock().take() {
            Some(reason) => format!("{doing} (the last error seen: {reason})"),
            None => doing.to_string(),
        }
    }

    fn answer(
        &self,
        clients: &Clients,
        answer: impl Future<Output = KafkaResult<Vec<TopicResult>>>,
        timeout: Duration,
        doing: &'static str,
    ) -> Result<Vec<TopicResult>> {
        let started = Instant::now();
        let patience = timeout.saturating_add(ANSWER_GRACE);
        let mut answer = pin!(answer);
        loop {
            let left = patience.saturating_sub(started.elapsed());
            match block_on(answer.as_mut(), left.min(WATCH_EVERY)) {
                Some(Ok(results)) => return Ok(results),
                Some(Err(failure)) => {
                    clients.watch();
                    return Err(kafka_code::error(&failure, self.with_cause(doing)));
                }
                None if left.is_zero() => {
                    return Err(Error::TimedOut {
                        what: self.with_cause(doing),
                        timeout_ms: checks::millis(timeout),
                    });
                }
                None => clients.watch(),
            }
        }
    }
}

impl Clients {
    /// Takes in the log lines and errors that have come, which also shows them.
    fn watch(&self) {
        self.beside.poll(WATCH);
    }
}

impl Drop for Admin {
    /// Ending librdkafka's threads takes some milliseconds; it is waited for, but not for ever.
    fn drop(&mut self) {
        let clients = self.clients.take();
        if self.fork.is_forked() {
            // Its threads are the parent's: there is nobody here to join.
            std::mem::forget(clients);
            return;
        }
        let (end, ended) = bounded::<()>(0);
        let ending = thread::Builder::new()
            .name("tidegate-admin-end".into())
            .spawn(move || {
                let _end = end;
                drop(clients);
            });
        if ending.is_ok() {
            let _ = ended.recv_timeout(END_TIMEOUT);
        }
    }
}

/// In the order asked for, whatever order the cluster answered in.
fn each(doing: &str, names: &[&str], results: Vec<TopicResult>) -> Vec<(String, Result<()>)> {
    let answered: BTreeMap<String, Option<KafkaCode>> = results
        .into_iter()
        .map(|result| match result {
            Ok(name) => (name, None),
            Err((name, code)) => (name, Some(kafka_code::from_rdkafka(code))),
        })
        .collect();
    names
        .iter()
        .map(|name| {
            let code = match answered.get(*name) {
                Some(None) => return ((*name).to_string(), Ok(())),
                Some(Some(code)) => *code,
                None => kafka_code::from_rdkafka(RDKafkaErrorCode::Fail),
            };
            let context = format!("{doing} topic '{name}'");
            ((*name).to_string(), Err(Error::Kafka { code, context }))
        })
        .collect()
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

/// No name twice, and at least one: librdkafka takes neither.
fn check_names(names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::argument(
            "topics",
            "the list is empty",
            "name at least one topic",
        ));
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::argument(
            "topics",
            format!("topic '{}' is named twice", twice[0]),
            "name each topic once",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{ALL_BROKERS, Broker};

    const WAIT: Duration = Duration::from_secs(20);

    fn admin(broker: &Broker) -> Admin {
        Admin::new(&Config::new().with("bootstrap.servers", broker.bootstrap_servers())).unwrap()
    }

    #[test]
    fn topics_are_listed_by_name() {
        let broker = Broker::with_topics(&[("b", 3), ("a", 1)]).unwrap();
        let topics = admin(&broker).topics(WAIT).unwrap();
        let shown: Vec<_> = topics
            .iter()
            .map(|topic| (topic.name.as_str(), topic.partitions))
            .collect();
        assert_eq!(shown, [("a", 1), ("b", 3)]);
    }

    #[test]
    fn a_broker_without_create_topics_is_an_error_and_not_a_hang() {
        let broker = Broker::new(1).unwrap();
        let error = admin(&broker)
            .create_topics(&[NewTopic::new("t", 1)], Duration::from_secs(3))
            .unwrap_err();
        assert!(matches!(error, Error::Kafka { .. }), "{error}");
    }

    #[test]
    fn a_cluster_that_is_away_is_an_error_in_time() {
        let broker = Broker::new(1).unwrap();
        broker.broker_down(ALL_BROKERS).unwrap();
        let started = std::time::Instant::now();
        let admin = admin(&broker);
        let error = admin.topics(Duration::from_millis(300)).unwrap_err();
        assert!(error.is_retriable(), "{error}");
        assert!(
            error.to_string().contains("127.0.0.1"),
            "the cause: {error}"
        );
        let error = admin
            .delete_topics(&["t"], Duration::from_millis(300))
            .unwrap_err();
        assert!(error.is_retriable(), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn bad_input_gets_a_clear_error_before_anything_is_asked() {
        let broker = Broker::new(1).unwrap();
        let admin = admin(&broker);
        let create = |topics: &[NewTopic]| match admin.create_topics(topics, WAIT) {
            Err(Error::Argument { argument, .. }) => argument,
            other => panic!("expected Error::Argument, got {other:?}"),
        };
        assert_eq!(create(&[]), "topics");
        assert_eq!(create(&[NewTopic::new("", 1)]), "topic");
        assert_eq!(create(&[NewTopic::new("a b", 1)]), "topic");
        assert_eq!(create(&[NewTopic::new("a", 0)]), "partitions");
        assert_eq!(
            create(&[NewTopic::new("a", 1).replication(0)]),
            "replication"
        );
        assert_eq!(create(&[NewTopic::new("a", 1).config("x", "\0")]), "config");
        let twice = [NewTopic::new("a", 1), NewTopic::new("a", 2)];
        assert_eq!(create(&twice), "topics");
        assert!(matches!(
            admin.delete_topics(&["\0"], WAIT),
            Err(Error::Argument {
                argument: "topic",
                ..
            })
        ));
    }

    #[test]
    fn a_forked_child_is_refused_and_drops_without_waiting() {
        let broker = Broker::new(1).unwrap();
        let mut child = admin(&broker);
        child.fork = ForkGuard::of_another_process();
        assert!(matches!(child.topics(WAIT), Err(Error::Forked { .. })));
        let started = Instant::now();
        drop(child);
        assert!(
            started.elapsed() < Duration::from_millis(50),
            "no thread is joined"
        );
    }

    #[test]
    fn results_come_in_the_order_asked_for() {
        let exists = RDKafkaErrorCode::TopicAlreadyExists;
        let answers = vec![Ok("a".into()), Err(("b".into(), exists))];
        let results = each("creating", &["b", "a", "c"], answers);
        let shown: Vec<_> = results
            .iter()
            .map(|(name, result)| {
                let code = result.as_ref().err().and_then(Error::kafka_code);
                (name.as_str(), code.map(|code| code.name()))
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("b", Some("TOPIC_ALREADY_EXISTS")),
                ("a", None),
                ("c", Some("_FAIL"))
            ]
        );
    }
}
