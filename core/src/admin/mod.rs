//! Administration: topics, partitions, records, configurations, groups, access rules, credentials, leaders.
//!
//! Any thread. One handle of librdkafka's and one thread ("tidegate-admin") per [`Admin`]; every request is answered through it, so that a
//! thousand of them cost no thread ([`kafka`]). [`Admin::create_topics`], [`Admin::delete_topics`] and [`Admin::topics`] check what they
//! are given and wait; what is in [`requests`] gives an [`Answer`]. The embedded broker knows a few of the requests only: use
//! [`crate::embedded::Broker::create_topic`] there.

mod answer;
mod kafka;
mod requests;
mod types;
mod watcher;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use rdkafka::error::RDKafkaErrorCode;

pub use self::answer::Answer;
pub use self::types::*;
use self::watcher::{Keeps, Watcher};
use crate::checks::{self, ForkGuard};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kafka_code;
use crate::log::{self, Level, TIDEGATE};
use crate::partition::TopicInfo;

const WHAT: &str = "admin client";

/// How much longer than a request's own timeout its answer is waited for: librdkafka counts in whole milliseconds and answers
/// with `_TIMED_OUT` itself.
const ANSWER_GRACE: Duration = Duration::from_secs(2);
/// After a failure its cause is looked for so long, so much at a time.
const WATCH: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(2);
/// librdkafka takes no longer timeout of a request.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);
/// The longest a drop waits for librdkafka's threads.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A cluster's topics, groups, configurations, access rules and credentials.
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
///
/// What is asked with [`AdminOptions`] comes back as an [`Answer`]: wait for it, await it, or have a function called. Where an answer
/// has several results, each has its own error, with the broker's sentence in it.
pub struct Admin {
    /// Taken in `drop`.
    running: Option<Running>,
    watcher: Arc<Watcher>,
    fork: ForkGuard,
}

struct Running {
    client: Arc<kafka::Client>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Starts an admin client. It connects in the background.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem of the configuration; [`Error::Kafka`] when librdkafka refuses it all the same, or no
    /// thread can be started.
    pub fn new(config: &Config) -> Result<Admin> {
        Admin::make(config, Keeps::Nothing)
    }

    /// As [`Admin::new`], but errors, statistics and throttling, and log lines with `log`, wait for [`Admin::take_events`] instead of
    /// being logged; the newest ten thousand are kept.
    ///
    /// # Errors
    /// As [`Admin::new`].
    pub fn polled(config: &Config, log: bool) -> Result<Admin> {
        let keeps = if log {
            Keeps::EventsAndLog
        } else {
            Keeps::Events
        };
        Admin::make(config, keeps)
    }

    fn make(config: &Config, keeps: Keeps) -> Result<Admin> {
        let config = config.admin()?;
        for warning in &config.warnings {
            log::emit(Level::Warn, TIDEGATE, format_args!("{warning}"));
        }
        for translation in &config.translations {
            log::emit(Level::Debug, TIDEGATE, format_args!("{translation}"));
        }
        let fork = ForkGuard::new();
        let watcher = Arc::new(Watcher::new(keeps));
        let client = Arc::new(kafka::Client::new(
            &config.properties,
            Arc::clone(&watcher),
            config.tokens.as_ref(),
        )?);
        if keeps == Keeps::EventsAndLog {
            // What librdkafka said while it was made is there for the first look.
            client.look(Duration::ZERO);
        }
        let serving = Arc::clone(&client);
        let thread = thread::Builder::new()
            .name("tidegate-admin".into())
            .spawn(move || serving.serve())
            .map_err(|failure| Error::Kafka {
                code: kafka_code::from_rdkafka(RDKafkaErrorCode::CriticalSystemResource),
                context: format!("starting the admin client's thread: {failure}"),
            })?;
        Ok(Admin {
            running: Some(Running { client, thread }),
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
        let client = self.client()?;
        for topic in topics {
            topic.check()?;
        }
        let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        check_names(&names)?;
        let doing = "creating topics";
        let answer = client.create_topics(topics, &Self::options(timeout))?;
        let results = self.answer(answer, timeout, doing)?;
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
        let client = self.client()?;
        for name in names {
            checks::topic_name(name)?;
        }
        check_names(names)?;
        let doing = "deleting topics";
        let wanted: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
        let answer = client.delete_topics(&wanted, &Self::options(timeout))?;
        let results = self.answer(answer, timeout, doing)?;
        Ok(each("deleting", names, results))
    }

    /// The cluster's topics, Kafka's internal ones included, in the order of their names.
    ///
    /// # Errors
    /// [`Error::Kafka`] when no broker answered in time; [`Error::Forked`].
    pub fn topics(&self, timeout: Duration) -> Result<Vec<TopicInfo>> {
        let metadata = self
            .metadata(None, timeout)
            .map_err(|error| self.because(error, "reading the cluster's topics"))?;
        Ok(metadata.infos())
    }

    fn client(&self) -> Result<&kafka::Client> {
        self.fork.check(WHAT)?;
        let running = self.running.as_ref();
        Ok(&running.ok_or(Error::Closed { what: WHAT })?.client)
    }

    fn options(timeout: Duration) -> AdminOptions {
        let timeout = Some(timeout.min(LONGEST_REQUEST));
        AdminOptions {
            request_timeout: timeout,
            // Answers when the topic is there, not when it was asked for.
            operation_timeout: timeout,
            ..AdminOptions::default()
        }
    }

    /// The error with what was being done, and with the last error seen, which may be why.
    fn because(&self, error: Error, doing: &str) -> Error {
        match error {
            Error::Kafka { code, .. } => Error::Kafka {
                code,
                context: self.with_cause(doing),
            },
            Error::TimedOut { timeout_ms, .. } => Error::TimedOut {
                what: self.with_cause(doing),
                timeout_ms,
            },
            other => other,
        }
    }

    /// A call may fail some moments before the thread has read the error that is its cause.
    fn with_cause(&self, doing: &str) -> String {
        let until = Instant::now() + WATCH;
        loop {
            if let Some(reason) = self.watcher.take_last_error() {
                return format!("{doing} (the last error seen: {reason})");
            }
            let Ok(client) = self.client() else {
                return doing.to_string();
            };
            if Instant::now() >= until {
                return doing.to_string();
            }
            client.look(LOOK);
        }
    }

    fn answer<T>(&self, answer: Answer<T>, timeout: Duration, doing: &str) -> Result<T> {
        answer
            .wait(timeout.saturating_add(ANSWER_GRACE))
            .map_err(|error| self.because(error, doing))
    }
}

impl Drop for Admin {
    /// Ending librdkafka's threads takes some milliseconds; it is waited for, but not for ever.
    fn drop(&mut self) {
        let running = self.running.take();
        if self.fork.is_forked() {
            // Its threads are the parent's: there is nobody here to join.
            std::mem::forget(running);
            return;
        }
        let Some(Running { client, thread }) = running else {
            return;
        };
        client.end();
        if thread.thread().id() == thread::current().id() {
            // The last one is dropped in an answer's callback: the thread ends after it, and the client with it.
            return;
        }
        let (end, ended) = bounded::<()>(0);
        let ending = thread::Builder::new()
            .name("tidegate-admin-end".into())
            .spawn(move || {
                let _end = end;
                let _ = thread.join();
                drop(client);
            });
        if ending.is_ok() {
            let _ = ended.recv_timeout(END_TIMEOUT);
        }
    }
}

/// In the order asked for, whatever order the cluster answered in.
fn each(
    doing: &str,
    names: &[&str],
    results: Vec<(String, Result<()>)>,
) -> Vec<(String, Result<()>)> {
    let mut answered: BTreeMap<String, Result<()>> = results.into_iter().collect();
    names
        .iter()
        .map(|name| {
            let code = match answered.remove(*name) {
                Some(Ok(())) => return ((*name).to_string(), Ok(())),
                Some(Err(error)) => error.kafka_code(),
                None => None,
            };
            let code = code.unwrap_or_else(|| kafka_code::from_rdkafka(RDKafkaErrorCode::Fail));
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
        let exists = Error::Kafka {
            code: kafka_code::from_rdkafka(RDKafkaErrorCode::TopicAlreadyExists),
            context: "Topic 'b' already exists.".into(),
        };
        let answers = vec![("a".into(), Ok(())), ("b".into(), Err(exists))];
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
