//! How `poll` and `consume` wait, and what they do beside handing out records: the callbacks that the application gave.
//!
//! Always true: nothing is taken out of the engine before the last look for signals and the last callback of a call, or it is put
//! back; so neither an exception nor Ctrl-C costs a record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use tidegate::{Error, Notice, PartitionReply, TopicPartition};

use super::callbacks::Callbacks;
use super::message::{Fields, Message};
use super::parts;
use super::types::{self, Flags};
use crate::lifecycle::Closes;
use crate::strings;
use crate::wait::{deadline, slice_until};

/// What a closed consumer says.
pub(crate) const CLOSED: &str = "Consumer closed";
/// While another thread polls, this one looks so often whether it still does.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// librdkafka's `_PARTITION_EOF`.
const PARTITION_EOF: i32 = -191;

/// How librdkafka begins a sentence about a topic of the subscription; only the sentence names the topic.
const UNAVAILABLE: &str = "Subscribed topic not available: ";

/// librdkafka's errors that belong to the client as a whole: `error_cb` hears of them, and no message is made.
const OF_THE_CLIENT: &[&str] = &[
    "_TRANSPORT",
    "_ALL_BROKERS_DOWN",
    "_RESOLVE",
    "_AUTHENTICATION",
    "_SSL",
    "_TIMED_OUT",
    "_CRIT_SYS_RESOURCE",
    "SASL_AUTHENTICATION_FAILED",
    "UNSUPPORTED_SASL_MECHANISM",
];

/// A consumer, shared with the threads that wait for it.
pub(crate) struct Face {
    pub(crate) core: tidegate::Consumer,
    pub(crate) callbacks: Arc<Callbacks>,
    pub(crate) closed: AtomicBool,
    /// The application stores offsets itself.
    pub(crate) explicit_store: bool,
    /// The thread inside a polling call that waits.
    poller: Mutex<Option<ThreadId>>,
}

/// Ends a polling call.
struct Polling<'f>(&'f Face);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        *self.0.poller.lock() = None;
    }
}

impl Closes for Face {
    fn close_at_exit(&self, timeout: Duration) {
        self.closed.store(true, Ordering::SeqCst);
        // Nobody is left to be told; the engine has logged it.
        let _ = self.core.close(timeout);
    }
}

impl Face {
    pub(crate) fn new(
        core: tidegate::Consumer,
        callbacks: Arc<Callbacks>,
        explicit_store: bool,
    ) -> Face {
        Face {
            core,
            callbacks,
            closed: AtomicBool::new(false),
            explicit_store,
            poller: Mutex::new(None),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The exception for an error of the engine: the callback's own, where it was one.
    pub(crate) fn raise(&self, py: Python<'_>, error: &Error) -> PyErr {
        if matches!(error, Error::Listener { .. })
            && let Some(raised) = self.callbacks.take_raised()
        {
            return raised;
        }
        types::raise(py, error, CLOSED)
    }

    /// Waits until no other thread polls; `None` when the time is over.
    fn alone(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<Option<Polling<'_>>> {
        let me = thread::current().id();
        loop {
            {
                let mut poller = self.poller.lock();
                match *poller {
                    None => {
                        *poller = Some(me);
                        return Ok(Some(Polling(self)));
                    }
                    Some(other) if other == me => {
                        return Err(PyRuntimeError::new_err(
                            "poll() or consume() was called from a callback that runs inside of one: return from it first",
                        ));
                    }
                    Some(_) => {}
                }
            }
            let slice = slice_until(deadline).min(LOOK_AGAIN);
            if slice.is_zero() || self.is_closed() {
                return Ok(None);
            }
            py.detach(|| thread::sleep(slice));
            py.check_signals()?;
        }
    }

    /// The next message.
    #[inline]
    pub(crate) fn poll(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
    ) -> PyResult<Option<Message>> {
        match self.at_hand() {
            Some(message) => Ok(Some(message)),
            None => self.poll_slowly(py, timeout),
        }
    }

    /// The next message, if nothing else is to be done first.
    #[inline]
    pub(crate) fn at_hand(&self) -> Option<Message> {
        if self.core.has_notices() || self.is_closed() {
            return None;
        }
        let record = self.core.next_at_hand().ok()??;
        Some(Message::consumed(record))
    }

    fn poll_slowly(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Option<Message>> {
        if self.is_closed() {
            return Err(PyRuntimeError::new_err(CLOSED));
        }
        let deadline = deadline(timeout);
        let Some(_polling) = self.alone(py, deadline)? else {
            return Ok(None);
        };
        loop {
            if let Some(message) = self.tell(py)? {
                return Ok(Some(message));
            }
            match self.core.poll(Some(Duration::ZERO)) {
                Ok(Some(record)) => {
                    py.check_signals()
                        .inspect_err(|_| self.core.put_back(None))?;
                    return Ok(Some(Message::consumed(record)));
                }
                Ok(None) => {}
                Err(Error::Closed { .. } | Error::ConcurrentUse { .. }) => {}
                Err(error) => return Err(self.raise(py, &error)),
            }
            if let Some(message) = self.tell(py)? {
                return Ok(Some(message));
            }
            let slice = slice_until(deadline);
            if slice.is_zero() || self.is_closed() {
                return Ok(None);
            }
            self.wait(py, slice, 1)?;
        }
    }

    /// Up to `most` messages: waits until there are so many, or the time is over.
    pub(crate) fn consume<'py>(
        &self,
        py: Python<'py>,
        most: usize,
        timeout: Option<Duration>,
    ) -> PyResult<Bound<'py, PyList>> {
        if self.is_closed() {
            return Err(PyRuntimeError::new_err(CLOSED));
        }
        let deadline = deadline(timeout);
        let list = PyList::empty(py);
        if most == 0 {
            return Ok(list);
        }
        let Some(_polling) = self.alone(py, deadline)? else {
            return Ok(list);
        };
        // Made and not yet handed over: errors in a record's place.
        let mut events: Vec<Message> = Vec::new();
        loop {
            while events.len() < most
                && let Some(message) = self.tell(py)?
            {
                events.push(message);
            }
            let slice = slice_until(deadline);
            if events.len() >= most || slice.is_zero() || self.is_closed() {
                break;
            }
            // The end of a partition comes when the records before it have been taken, and counts.
            let records = most - events.len();
            let least = records
                .saturating_sub(self.core.ends_behind_records())
                .max(1);
            if self.wait(py, slice, least)? {
                break;
            }
        }
        let wanted = most - events.len();
        let batch = match wanted {
            0 => None,
            wanted => match self.core.fill_batch(Duration::ZERO, wanted) {
                Ok(batch) => batch,
                Err(Error::Closed { .. } | Error::ConcurrentUse { .. }) => None,
                Err(error) => return Err(self.raise(py, &error)),
            },
        };
        for event in events {
            list.append(Py::new(py, event)?)?;
        }
        if let Some(batch) = batch {
            for row in 0..batch.len() {
                if let Some(record) = batch.get_owned(row) {
                    list.append(Py::new(py, Message::consumed(record))?)?;
                }
            }
            py.check_signals()
                .inspect_err(|_| self.core.put_back(None))?;
        }
        self.append_ends(py, &list, most)?;
        Ok(list)
    }

    /// The ends of partitions that the records taken last came to. What raises in a callback is for the next call.
    fn append_ends(&self, py: Python<'_>, list: &Bound<'_, PyList>, most: usize) -> PyResult<()> {
        while list.len() < most {
            match self.core.next_notice() {
                Some(Notice::PartitionEof {
                    partition,
                    offset,
                    reason,
                }) => list.append(Py::new(py, end(py, &partition, offset, &reason)?)?)?,
                Some(other) => {
                    self.core.return_notice(other);
                    break;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Waits for `records` records, at most a slice; false when something else may have come.
    fn wait(&self, py: Python<'_>, slice: Duration, records: usize) -> PyResult<bool> {
        let ready = match py.detach(|| self.core.wait_ready(Some(slice), records)) {
            Ok(ready) => ready,
            Err(Error::Closed { .. }) => false,
            Err(error) => return Err(self.raise(py, &error)),
        };
        py.check_signals()?;
        Ok(ready)
    }

    /// Runs the callbacks that are due, until there is a message in a record's place.
    fn tell(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        while self.core.has_notices() {
            let Some(notice) = self.core.next_notice() else {
                break;
            };
            if let Some(message) = self.tell_one(py, notice)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// At close: outcomes of commits and log lines are still told; nobody polls for the rest.
    pub(crate) fn tell_the_rest(&self, py: Python<'_>) -> PyResult<()> {
        let mut outcome = Ok(());
        while let Some(notice) = self.core.next_notice() {
            if matches!(notice, Notice::Committed { .. } | Notice::Log { .. }) {
                outcome = outcome.and(self.tell_one(py, notice).map(drop));
            }
        }
        outcome
    }

    fn tell_one(&self, py: Python<'_>, notice: Notice) -> PyResult<Option<Message>> {
        match notice {
            Notice::PartitionEof {
                partition,
                offset,
                reason,
            } => return end(py, &partition, offset, &reason).map(Some),
            Notice::Error { error, partition } => return self.failed(py, &error, partition),
            Notice::Committed { error, offsets } => {
                if let Some(function) = self.callbacks.get(py, |f| f.on_commit.as_ref()) {
                    let error = match error {
                        Some(code) => Some(types::kafka_error(
                            py,
                            code.number(),
                            None,
                            Flags::default(),
                        )?),
                        None => None,
                    };
                    function.call1(py, (error, parts::list(py, &offsets)?))?;
                }
            }
            Notice::Statistics(json) => {
                if let Some(function) = self.callbacks.get(py, |f| f.stats.as_ref()) {
                    function.call1(py, (json,))?;
                }
            }
            Notice::Throttle {
                broker,
                broker_id,
                throttle_ms,
            } => {
                if let Some(function) = self.callbacks.get(py, |f| f.throttle.as_ref()) {
                    function.call1(py, (types::throttle(py, broker, broker_id, throttle_ms)?,))?;
                }
            }
            Notice::Log {
                level,
                facility,
                message,
            } => {
                if let Some(logger) = self.callbacks.get(py, |f| f.logger.as_ref()) {
                    // syslog's numbers as logging's.
                    let level = match level {
                        ..=2 => 50,
                        3 => 40,
                        4 => 30,
                        5 | 6 => 20,
                        _ => 10,
                    };
                    let line = (level, "%s [%s] %s", facility, "tidegate#consumer", message);
                    logger.call_method1(py, intern!(py, "log"), line)?;
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// An error: for `error_cb`, or a message.
    fn failed(
        &self,
        py: Python<'_>,
        error: &Error,
        partition: Option<TopicPartition>,
    ) -> PyResult<Option<Message>> {
        let Error::Kafka { code, context } = error else {
            return Err(self.raise(py, error));
        };
        let flags = Flags {
            fatal: code.is_fatal(),
            ..Flags::default()
        };
        let reason = match &partition {
            // The sentence alone: the message says where.
            Some(partition) => context
                .strip_prefix(&format!("{partition}: "))
                .unwrap_or(context),
            None => context,
        };
        let kafka_error = types::kafka_error(py, code.number(), Some(reason), flags)?;
        if partition.is_none() && code.is_fatal() {
            return Err(types::exception(py, kafka_error));
        }
        if partition.is_none() && OF_THE_CLIENT.contains(&code.name()) {
            if let Some(function) = self.callbacks.get(py, |f| f.error.as_ref()) {
                function.call1(py, (kafka_error,))?;
            }
            return Ok(None);
        }
        let mut fields = Fields {
            error: Some(kafka_error.unbind()),
            value: Some(PyBytes::new(py, reason.as_bytes()).into_any().unbind()),
            timestamp_ms: -1,
            ..Fields::default()
        };
        let unavailable = reason
            .strip_prefix(UNAVAILABLE)
            .and_then(|rest| rest.split(": ").next());
        if let Some(topic) = unavailable {
            fields.topic = Some(PyString::new(py, topic).into_any().unbind());
            fields.partition = 0;
        }
        if let Some(partition) = partition {
            fields.topic = Some(strings::topic(py, &partition.topic).into_any());
            fields.partition = partition.partition;
        }
        Ok(Some(Message::of(fields)))
    }
}

/// The message that says that a partition's end was reached.
fn end(py: Python<'_>, partition: &TopicPartition, offset: i64, reason: &str) -> PyResult<Message> {
    let error = types::kafka_error(py, PARTITION_EOF, Some(reason), Flags::default())?;
    Ok(Message::of(Fields {
        topic: Some(strings::topic(py, &partition.topic).into_any()),
        partition: partition.partition,
        offset,
        value: Some(PyBytes::new(py, reason.as_bytes()).into_any().unbind()),
        error: Some(error.unbind()),
        timestamp_ms: -1,
        ..Fields::default()
    }))
}

/// What was asked to be committed, as it is shown after it was.
pub(crate) fn committed<'py>(
    py: Python<'py>,
    assignment: &[TopicPartition],
    done: &[tidegate::TopicPartitionOffset],
) -> PyResult<Bound<'py, PyList>> {
    let offset_of = |partition: &TopicPartition| {
        let found = done.iter().find(|offset| {
            offset.partition == partition.partition && offset.topic == partition.topic
        });
        match found.map(|found| found.offset) {
            Some(tidegate::Offset::At(offset)) => offset,
            _ => PartitionReply::NO_OFFSET,
        }
    };
    let replies: Vec<_> = assignment
        .iter()
        .map(|partition| PartitionReply::new(partition, offset_of(partition)))
        .collect();
    parts::list(py, &replies)
}
