//! What the three clients get from a valid configuration: typed settings for the engine, and the rest under librdkafka's
//! names. Plain data, any thread. No `Debug` here shows a secret.

use std::collections::BTreeMap;
use std::fmt;

use super::Config;
use super::rules;
use super::settings::Settings;
use super::table::{self, Scope};
use crate::error::{ConfigProblem, Severity};
use crate::token::TokenSource;

/// What a group without a committed offset does (`auto.offset.reset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// Begin at the oldest record.
    Earliest,
    /// Begin after the newest record.
    Latest,
    /// Report an error (`none` in the Java client).
    Error,
}

/// Which records of transactions are read (`isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationLevel {
    /// Every record, those of aborted transactions too.
    ReadUncommitted,
    /// Records of committed transactions, and those outside of transactions.
    ReadCommitted,
}

/// Which group protocol a consumer speaks (`group.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The original one: the group's leader assigns.
    Classic,
    /// KIP-848: the broker assigns.
    Consumer,
}

/// A name or value that Tidegate wrote differently before it gave it to librdkafka. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// The property as the user wrote it.
    pub from: String,
    /// The property Tidegate uses; empty where the setting needs no counterpart.
    pub to: String,
    /// What was done.
    pub note: String,
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.to.is_empty() {
            write!(f, "{}: {}", self.from, self.note)
        } else {
            write!(f, "{} -> {}: {}", self.from, self.to, self.note)
        }
    }
}

/// Settings of a consumer.
#[derive(Clone)]
pub struct ConsumerConfig {
    /// The user's validated settings under librdkafka's names, without those that only Tidegate knows or that Tidegate keeps
    /// for itself. What the user did not set is not here.
    pub properties: BTreeMap<String, String>,
    /// `group.id`; without it the consumer can `assign` but not `subscribe` or commit.
    pub group_id: Option<String>,
    /// `group.protocol`.
    pub group_protocol: GroupProtocol,
    /// `enable.auto.commit`.
    pub auto_commit: bool,
    /// `auto.commit.interval.ms`; 0 means no timed commits.
    pub auto_commit_interval_ms: u64,
    /// `max.poll.interval.ms`.
    pub max_poll_interval_ms: u64,
    /// `max.poll.records`: the most records one batch hands out; `None` leaves it to Tidegate.
    pub max_poll_records: Option<usize>,
    /// `queued.max.messages.kbytes` in bytes, as the user meant it: the total of what may wait in this process.
    pub queued_max_bytes: u64,
    /// `auto.offset.reset`.
    pub auto_offset_reset: OffsetReset,
    /// `session.timeout.ms`; meaningless with [`GroupProtocol::Consumer`], where the broker sets it.
    pub session_timeout_ms: u64,
    /// `isolation.level`.
    pub isolation_level: IsolationLevel,
    /// `enable.partition.eof`.
    pub partition_eof: bool,
    /// `tidegate.revoke.drain.ms`.
    pub drain_ms: u64,
    /// `tidegate.direct.after.records`; 0 for never.
    pub direct_after_records: i64,
    /// What the user should look at.
    pub warnings: Vec<ConfigProblem>,
    /// What was written differently.
    pub translations: Vec<Translation>,
    pub(crate) tokens: Option<TokenSource>,
}

impl ConsumerConfig {
    /// What any other client of the same cluster needs as well: servers, security, and the rest that is no consumer's alone.
    #[must_use]
    pub fn reaching(&self) -> Config {
        let mut config: Config = self
            .properties
            .iter()
            .filter(|(name, _)| table::find(name).is_some_and(|row| row.scope == Scope::Global))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        config.tokens = self.tokens.as_ref().map(|tokens| tokens.provider.clone());
        config
    }
}

/// Settings of a producer.
#[derive(Clone)]
pub struct ProducerConfig {
    /// As in [`ConsumerConfig::properties`].
    pub properties: BTreeMap<String, String>,
    /// `tidegate.queue.full.timeout.ms`: how long `send` waits for room in a full queue.
    pub queue_full_timeout_ms: u64,
    /// As in [`ConsumerConfig::direct_after_records`], of a topic that is sent to.
    pub direct_after_records: i64,
    /// `enable.idempotence`, also when `transactional.id` implies it.
    pub idempotence: bool,
    /// `transactional.id`.
    pub transactional_id: Option<String>,
    /// What the user should look at.
    pub warnings: Vec<ConfigProblem>,
    /// What was written differently.
    pub translations: Vec<Translation>,
    pub(crate) tokens: Option<TokenSource>,
}

/// Settings of an admin client.
#[derive(Clone)]
pub struct AdminConfig {
    /// As in [`ConsumerConfig::properties`].
    pub properties: BTreeMap<String, String>,
    /// What the user should look at.
    pub warnings: Vec<ConfigProblem>,
    /// What was written differently.
    pub translations: Vec<Translation>,
    pub(crate) tokens: Option<TokenSource>,
}

/// Everything there is to say about a configuration, good or bad.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigReport {
    /// The client is not created.
    pub errors: Vec<ConfigProblem>,
    /// The client is created; these lines are logged.
    pub warnings: Vec<ConfigProblem>,
    /// What was written differently.
    pub translations: Vec<Translation>,
}

impl ConfigReport {
    /// True when a client can be created with this configuration.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }

    pub(crate) fn add(&mut self, problem: ConfigProblem) {
        match problem.severity {
            Severity::Error => self.errors.push(problem),
            Severity::Warning => self.warnings.push(problem),
        }
    }
}

impl fmt::Display for ConfigReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.errors {
            writeln!(f, "error: {problem}")?;
        }
        for problem in &self.warnings {
            writeln!(f, "warning: {problem}")?;
        }
        for translation in &self.translations {
            writeln!(f, "note: {translation}")?;
        }
        Ok(())
    }
}

fn log_notes(client: &str, warnings: &[ConfigProblem], translations: &[Translation]) {
    for warning in warnings {
        tracing::warn!(target: "tidegate", "{client} configuration: {warning}");
    }
    for translation in translations {
        tracing::debug!(target: "tidegate", "{client} configuration: {translation}");
    }
}

impl ConsumerConfig {
    /// Logs the warnings (warn) and the translations (debug). No secret is logged.
    pub fn log_notes(&self) {
        log_notes("consumer", &self.warnings, &self.translations);
    }
}

impl ProducerConfig {
    /// Logs the warnings (warn) and the translations (debug). No secret is logged.
    pub fn log_notes(&self) {
        log_notes("producer", &self.warnings, &self.translations);
    }
}

impl AdminConfig {
    /// Logs the warnings (warn) and the translations (debug). No secret is logged.
    pub fn log_notes(&self) {
        log_notes("admin", &self.warnings, &self.translations);
    }
}

/// Longest drain of a revoked partition that is taken when the user names none.
const DRAIN_MS: u64 = 15_000;

impl ConsumerConfig {
    /// From settings that passed every rule: each value is set and legal, or its default is.
    pub(crate) fn from_settings(
        s: &Settings,
        report: ConfigReport,
        tokens: Option<TokenSource>,
    ) -> ConsumerConfig {
        let number = |name: &str| {
            s.integer(name)
                .and_then(|n| u64::try_from(n).ok())
                .unwrap_or(0)
        };
        let max_poll_interval_ms = number("max.poll.interval.ms");
        let drain_ms = match s.given("tidegate.revoke.drain.ms") {
            Some(_) => number("tidegate.revoke.drain.ms"),
            None => DRAIN_MS.min(max_poll_interval_ms / 2),
        };
        ConsumerConfig {
            properties: s.properties(),
            group_id: s.given("group.id").map(str::to_owned),
            group_protocol: match s.text("group.protocol") {
                Some("consumer") => GroupProtocol::Consumer,
                _ => GroupProtocol::Classic,
            },
            auto_commit: s.is_true("enable.auto.commit"),
            auto_commit_interval_ms: number("auto.commit.interval.ms"),
            max_poll_interval_ms,
            max_poll_records: s
                .integer("max.poll.records")
                .and_then(|n| usize::try_from(n).ok()),
            queued_max_bytes: number("queued.max.messages.kbytes") * 1024,
            auto_offset_reset: match s.text("auto.offset.reset") {
                Some("smallest" | "earliest" | "beginning") => OffsetReset::Earliest,
                Some("error") => OffsetReset::Error,
                _ => OffsetReset::Latest,
            },
            session_timeout_ms: number("session.timeout.ms"),
            isolation_level: match s.text("isolation.level") {
                Some("read_uncommitted") => IsolationLevel::ReadUncommitted,
                _ => IsolationLevel::ReadCommitted,
            },
            partition_eof: s.is_true("enable.partition.eof"),
            drain_ms,
            direct_after_records: s.integer("tidegate.direct.after.records").unwrap_or(0),
            warnings: report.warnings,
            translations: report.translations,
            tokens,
        }
    }
}

impl ProducerConfig {
    /// As [`ConsumerConfig::from_settings`].
    pub(crate) fn from_settings(
        s: &Settings,
        report: ConfigReport,
        tokens: Option<TokenSource>,
    ) -> ProducerConfig {
        let wait = s.integer("tidegate.queue.full.timeout.ms");
        ProducerConfig {
            properties: s.properties(),
            queue_full_timeout_ms: wait.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
            direct_after_records: s.integer("tidegate.direct.after.records").unwrap_or(0),
            idempotence: rules::is_idempotent(s),
            transactional_id: s.given("transactional.id").map(str::to_owned),
            warnings: report.warnings,
            translations: report.translations,
            tokens,
        }
    }
}

/// The map with its secrets replaced.
struct Redacted<'a>(&'a BTreeMap<String, String>);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.0
                    .iter()
                    .map(|(name, value)| (name, table::shown(name, value))),
            )
            .finish()
    }
}

impl fmt::Debug for ConsumerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerConfig")
            .field("properties", &Redacted(&self.properties))
            .field("max_poll_records", &self.max_poll_records)
            .field("drain_ms", &self.drain_ms)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ProducerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerConfig")
            .field("properties", &Redacted(&self.properties))
            .field("queue_full_timeout_ms", &self.queue_full_timeout_ms)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminConfig")
            .field("properties", &Redacted(&self.properties))
            .finish_non_exhaustive()
    }
}
