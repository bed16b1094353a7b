//! Errors of every face: what went wrong, where, and what the caller may do about it.
//!
//! Two codes travel together and are never flattened into one: ours ([`ErrorCode`], numbered in ranges, a number is
//! never reused) and Kafka's own ([`KafkaCode`], librdkafka's number and name). No text here may hold a secret:
//! [`ConfigProblem::value`] is redacted where the problem is made.

use std::fmt;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration has problems; all of them are here.
    #[error("{0}")]
    Config(ConfigProblems),
    /// An argument that cannot be used.
    #[error("{argument}: {problem}; {remedy}")]
    Argument {
        /// The argument's name.
        argument: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        remedy: String,
    },
    /// The handle was closed.
    #[error("this {what} is closed; create a new one")]
    Closed {
        /// The kind of handle: "consumer", "producer", ...
        what: &'static str,
    },
    /// Two threads polled the same consumer at the same time.
    #[error(
        "this {what} is already being polled by another thread; poll from one thread at a time, or use one {what} per thread"
    )]
    ConcurrentUse {
        /// The kind of handle.
        what: &'static str,
    },
    /// A handle made before `fork()` was used in the child.
    #[error(
        "this {what} was created before fork() and its threads do not exist in the child process; create a new one after the fork"
    )]
    Forked {
        /// The kind of handle.
        what: &'static str,
    },
    /// A bounded wait ran out.
    #[error("{what} did not finish within {timeout_ms} ms")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The bound, in milliseconds.
        timeout_ms: u64,
    },
    /// The producer's queue stayed full for the whole bounded wait; the record was not accepted.
    #[error(
        "the producer's queue stayed full for {waited_ms} ms, so the record for topic '{topic}' was not accepted; raise queue.buffering.max.kbytes or tidegate.queue.full.timeout.ms, or send more slowly"
    )]
    QueueFull {
        /// The record's topic.
        topic: String,
        /// How long the call waited, in milliseconds.
        waited_ms: u64,
    },
    /// The partition is not assigned to this consumer.
    #[error("{topic} [{partition}] is not assigned to this consumer; see assignment()")]
    NotAssigned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The record belongs to an earlier assignment of its partition.
    #[error(
        "{topic} [{partition}] was revoked, lost or sought since this record was handed out; whoever owns the partition now handles it again"
    )]
    Stale {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// librdkafka or the broker refused.
    #[error("{}", said_once(context, *code))]
    Kafka {
        /// Kafka's own code.
        code: KafkaCode,
        /// What was being done.
        context: String,
    },
    /// A callback of the application failed.
    #[error("{context}")]
    Listener {
        /// Which callback, and what it said.
        context: String,
    },
}

/// What was being done and Kafka's code; the code's sentence once, for some contexts are librdkafka's whole sentences.
fn said_once(context: &str, code: KafkaCode) -> String {
    match context.ends_with(code.description()) {
        true => format!("{context} ({} {})", code.name(), code.number()),
        false => format!("{context}: {code}"),
    }
}

impl Error {
    /// Our own, stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::Config(_) => ErrorCode::CONFIG,
            Error::Argument { .. } => ErrorCode::ARGUMENT,
            Error::Closed { .. } => ErrorCode::CLOSED,
            Error::ConcurrentUse { .. } => ErrorCode::CONCURRENT_USE,
            Error::Forked { .. } => ErrorCode::FORKED,
            Error::TimedOut { .. } => ErrorCode::TIMED_OUT,
            Error::QueueFull { .. } => ErrorCode::QUEUE_FULL,
            Error::NotAssigned { .. } => ErrorCode::NOT_ASSIGNED,
            Error::Stale { .. } => ErrorCode::STALE,
            Error::Kafka { .. } => ErrorCode::KAFKA,
            Error::Listener { .. } => ErrorCode::LISTENER,
        }
    }

    /// Kafka's own code, where librdkafka or the broker gave one.
    #[must_use]
    pub fn kafka_code(&self) -> Option<KafkaCode> {
        match self {
            Error::Kafka { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// True when the same call may succeed later without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::TimedOut { .. } | Error::QueueFull { .. } | Error::ConcurrentUse { .. } => true,
            Error::Kafka { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// True when the producer's transaction has failed: abort it, and begin another one.
    #[must_use]
    pub fn requires_abort(&self) -> bool {
        matches!(self, Error::Kafka { code, .. } if code.requires_abort())
    }

    /// True when the handle is of no more use: close it and make a new one.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Error::Closed { .. } | Error::Forked { .. } => true,
            Error::Kafka { code, .. } => code.is_fatal(),
            _ => false,
        }
    }

    pub(crate) fn argument(
        argument: &'static str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        Error::Argument {
            argument,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// One number per kind of [`Error`]: 1xx the caller's input, 2xx the handle's state, 3xx time and space, 4xx records and
/// partitions, 5xx Kafka, 6xx the application's own callbacks. A number is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(u32, &'static str);

impl ErrorCode {
    /// [`Error::Config`].
    pub const CONFIG: ErrorCode = ErrorCode(100, "CONFIG");
    /// [`Error::Argument`].
    pub const ARGUMENT: ErrorCode = ErrorCode(101, "ARGUMENT");
    /// [`Error::Closed`].
    pub const CLOSED: ErrorCode = ErrorCode(200, "CLOSED");
    /// [`Error::ConcurrentUse`].
    pub const CONCURRENT_USE: ErrorCode = ErrorCode(201, "CONCURRENT_USE");
    /// [`Error::Forked`].
    pub const FORKED: ErrorCode = ErrorCode(202, "FORKED");
    /// [`Error::TimedOut`].
    pub const TIMED_OUT: ErrorCode = ErrorCode(300, "TIMED_OUT");
    /// [`Error::QueueFull`].
    pub const QUEUE_FULL: ErrorCode = ErrorCode(301, "QUEUE_FULL");
    /// [`Error::NotAssigned`].
    pub const NOT_ASSIGNED: ErrorCode = ErrorCode(400, "NOT_ASSIGNED");
    /// [`Error::Stale`].
    pub const STALE: ErrorCode = ErrorCode(401, "STALE");
    /// [`Error::Kafka`].
    pub const KAFKA: ErrorCode = ErrorCode(500, "KAFKA");
    /// [`Error::Listener`].
    pub const LISTENER: ErrorCode = ErrorCode(600, "LISTENER");

    /// Every code there is.
    pub const ALL: &'static [ErrorCode] = &[
        Self::CONFIG,
        Self::ARGUMENT,
        Self::CLOSED,
        Self::CONCURRENT_USE,
        Self::FORKED,
        Self::TIMED_OUT,
        Self::QUEUE_FULL,
        Self::NOT_ASSIGNED,
        Self::STALE,
        Self::KAFKA,
        Self::LISTENER,
    ];

    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The name, as the faces show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.1
    }
}

/// Kafka's own error code: broker errors are positive, librdkafka's local ones negative (their names begin with `_`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KafkaCode {
    number: i32,
    name: &'static str,
    description: &'static str,
    retriable: bool,
    fatal: bool,
    requires_abort: bool,
}

impl KafkaCode {
    /// Only the librdkafka adapters make codes: they hold librdkafka's own names and texts.
    pub(crate) const fn new(
        number: i32,
        name: &'static str,
        description: &'static str,
        retriable: bool,
        fatal: bool,
    ) -> KafkaCode {
        KafkaCode {
            number,
            name,
            description,
            retriable,
            fatal,
            requires_abort: false,
        }
    }

    /// The same code with what librdkafka said of this very error.
    pub(crate) const fn judged(self, retriable: bool, fatal: bool, requires_abort: bool) -> Self {
        KafkaCode {
            retriable,
            fatal,
            requires_abort,
            ..self
        }
    }

    /// The number, as in librdkafka and in the protocol.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number
    }

    /// The name, as in librdkafka: `_TIMED_OUT`, `UNKNOWN_TOPIC_OR_PART`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// librdkafka's sentence.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// True when the same operation may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.retriable
    }

    /// True when the client instance is of no more use.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// True when the transaction under way has failed and is to be aborted.
    #[must_use]
    pub fn requires_abort(&self) -> bool {
        self.requires_abort
    }
}

impl fmt::Debug for KafkaCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name, self.number)
    }
}

impl fmt::Display for KafkaCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.description, self.name, self.number)
    }
}

/// How much a [`ConfigProblem`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The client is not created.
    Error,
    /// The client is created; the line is logged.
    Warning,
}

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The property, as the user wrote it.
    pub property: String,
    /// Its value, as the user wrote it; secrets are replaced.
    pub value: String,
    /// What is wrong.
    pub reason: String,
    /// What to write instead.
    pub remedy: String,
    /// Error or warning.
    pub severity: Severity,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}={}: {}; {}",
            self.property, self.value, self.reason, self.remedy
        )
    }
}

/// Every problem of one configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a problem")?,
            n => write!(f, "the configuration has {n} problems")?,
        }
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}
