//! What the black-box tests of the Rust face share.

use std::time::{Duration, Instant};

use tidegate::{Admin, Config, Consumer, NewTopic, Offset, Producer, TopicPartition};

/// The bound of every wait that should not be long.
pub const WAIT: Duration = Duration::from_secs(60);

/// The real Kafka that the test runner started, or `None` when it is not there and need not be.
///
/// # Panics
///
/// When it is not there and `TIDEGATE_REQUIRE_KAFKA=1`.
#[must_use]
pub fn kafka(test: &str) -> Option<String> {
    match std::env::var("TIDEGATE_TEST_BOOTSTRAP") {
        Ok(bootstrap) if !bootstrap.is_empty() => Some(bootstrap),
        _ => {
            assert!(
                std::env::var("TIDEGATE_REQUIRE_KAFKA").as_deref() != Ok("1"),
                "{test} must run, and TIDEGATE_TEST_BOOTSTRAP names no Kafka"
            );
            #[allow(
                clippy::print_stderr,
                reason = "whoever reads the test's output must see it"
            )]
            {
                eprintln!("{test}: skipped, there is no real Kafka (TIDEGATE_TEST_BOOTSTRAP)");
            }
            None
        }
    }
}

/// A name that no other test or run uses.
#[must_use]
pub fn unique(name: &str) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    format!("{name}-{}-{now}", std::process::id())
}

/// Creates a topic.
///
/// # Errors
///
/// When the broker refuses.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32) -> tidegate::Result<()> {
    let admin = Admin::new(&Config::new().with("bootstrap.servers", bootstrap))?;
    for (_, result) in admin.create_topics(&[NewTopic::new(name, partitions)], WAIT)? {
        result?;
    }
    Ok(())
}

/// A producer with default settings.
///
/// # Errors
///
/// As [`Producer::new`].
pub fn producer(bootstrap: &str) -> tidegate::Result<Producer> {
    Producer::new(&Config::new().with("bootstrap.servers", bootstrap))
}

/// What the groups and topics look like to somebody who is no member.
pub struct Observer(Consumer);

impl Observer {
    /// An observer of `group`, which it never joins.
    ///
    /// # Errors
    ///
    /// As [`Consumer::new`].
    pub fn new(bootstrap: &str, group: &str) -> tidegate::Result<Observer> {
        let config = Config::new()
            .with("bootstrap.servers", bootstrap)
            .with("group.id", group)
            .with("enable.auto.commit", false);
        Consumer::new(&config).map(Observer)
    }

    /// What the group has committed, by partition.
    ///
    /// # Errors
    ///
    /// As [`Consumer::committed`].
    pub fn committed(&self, topic: &str, partitions: i32) -> tidegate::Result<Vec<Option<i64>>> {
        let partitions: Vec<_> = (0..partitions)
            .map(|partition| TopicPartition::new(topic, partition))
            .collect();
        let end = Instant::now() + WAIT;
        let mut committed = loop {
            match self.0.committed(&partitions, WAIT) {
                // A cluster that has just started is still finding its coordinators.
                Err(error) if error.is_retriable() && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                result => break result?,
            }
        };
        committed.sort();
        Ok(committed.into_iter().map(|(_, offset)| offset).collect())
    }

    /// The number of records in the topic.
    ///
    /// # Errors
    ///
    /// As [`Consumer::watermarks`].
    pub fn records(&self, topic: &str, partitions: i32) -> tidegate::Result<i64> {
        (0..partitions).try_fold(0, |sum, partition| {
            let (low, high) = self
                .0
                .watermarks(&TopicPartition::new(topic, partition), WAIT)?;
            Ok(sum + high - low)
        })
    }
}

/// The whole topic from its beginning, without a group.
#[must_use]
pub fn from_beginning(topic: &str, partitions: i32) -> Vec<(TopicPartition, Offset)> {
    (0..partitions)
        .map(|partition| (TopicPartition::new(topic, partition), Offset::Beginning))
        .collect()
}
