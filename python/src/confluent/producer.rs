//! `Producer` of confluent-kafka-python.
//!
//! The engine's delivery thread leaves reports and events; callbacks run inside of `poll`, `flush`, `close` and the calls of a
//! transaction, on the thread that makes the call. A record with a callback costs one entry here (`outstanding`) and no allocation in
//! the engine; the reports of a request are taken over together. Always true: a report that was taken is told, also when a callback
//! before it raised; no lock is held while Python code runs.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use tidegate::{Error, ProducerRecord};

use super::client::{Client, keep, raise};
use super::cluster;
use super::conf::ProducerSettings;
use super::message::{Fields, Message};
use super::outstanding::{Entry, Outstanding};
use super::types::{self, Flags, TIMED_OUT};
use crate::lifecycle::{Owned, remember};
use crate::payload;
use crate::token;
use crate::wait::{blocking, slice_until};

pub(super) const CLOSED: &str = "Producer has been closed";
const NOT_MADE: &str = "Producer has been closed, or Producer.__init__() was not called: call it in your subclass's __init__()";
const QUEUE_FULL: i32 = -184;
const QUEUE_FULL_TEXT: &str = "Local: Queue full";
const UNKNOWN_PARTITION: i32 = -190;
const DESTROYED: i32 = -197;
const ANY_PARTITION: i32 = -1;
/// librdkafka's default of `queue.buffering.max.messages`.
const DEFAULT_QUEUE: usize = 100_000;
/// What closing waits for librdkafka's threads, once every record is reported.
const END: Duration = Duration::from_secs(5);

/// Seconds as confluent-kafka-python takes them: a negative number is for ever.
pub(super) fn duration(seconds: f64) -> Option<Duration> {
    if seconds < 0.0 || seconds.is_nan() {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

fn deadline(seconds: f64) -> Option<Instant> {
    duration(seconds).and_then(|timeout| Instant::now().checked_add(timeout))
}

/// `str` or read-only bytes, as `produce` takes them.
fn bytes<'a>(name: &str, object: Option<&'a Bound<'_, PyAny>>) -> PyResult<Option<Cow<'a, [u8]>>> {
    let Some(object) = object else {
        return Ok(None);
    };
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Some(Cow::Borrowed(bytes.as_bytes())));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Some(Cow::Borrowed(text.to_str()?.as_bytes())));
    }
    payload::bytes(name, object).map_err(|_| {
        let kind = object
            .get_type()
            .name()
            .map_or_else(|_| "object".into(), |it| it.to_string());
        PyTypeError::new_err(format!(
            "{name} must be str, bytes-like object or None, not {kind}"
        ))
    })
}

pub(super) fn topic_name<'a, 'py>(
    topic: &'a Bound<'py, PyAny>,
) -> PyResult<(&'a Bound<'py, PyString>, &'a str)> {
    let Ok(name) = topic.cast::<PyString>() else {
        let kind = topic.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "topic must be str, not {kind}"
        )));
    };
    let text = name.to_str()?;
    if text.contains('\0') {
        return Err(PyValueError::new_err("topic: embedded null character"));
    }
    Ok((name, text))
}

/// The partition of a call; `None` leaves it to the partitioner.
fn partition_of(py: Python<'_>, partition: i32) -> PyResult<Option<i32>> {
    match partition {
        ANY_PARTITION => Ok(None),
        0.. => Ok(Some(partition)),
        _ => Err(types::refused(
            py,
            UNKNOWN_PARTITION,
            "Unable to produce message: Local: Unknown partition",
        )),
    }
}

/// The exception for a record that was not accepted.
fn not_accepted(py: Python<'_>, error: &Error) -> PyErr {
    match error {
        Error::QueueFull { .. } => PyBufferError::new_err(QUEUE_FULL_TEXT),
        Error::Kafka { code, .. } => types::refused(
            py,
            code.number(),
            &format!("Unable to produce message: {}", code.description()),
        ),
        other => types::raise(py, other, CLOSED),
    }
}

/// Sends records; confluent-kafka-python's.
///
/// Args:
///     config: a dict of property names to values, or the same as keywords. Callbacks are properties too: `on_delivery`, `error_cb`,
///         `stats_cb`, `throttle_cb`, `logger`.
///
/// Callbacks run inside of `poll()`, `flush()` and the calls of transactions; what one raises comes out of that call.
#[pyclass(
    frozen,
    subclass,
    weakref,
    name = "Producer",
    module = "tidegate.confluent"
)]
pub(crate) struct Producer {
    client: OnceLock<Owned<Client>>,
}

impl Producer {
    #[inline]
    pub(super) fn client(&self, py: Python<'_>) -> PyResult<&Arc<Client>> {
        let Some(owned) = self.client.get() else {
            return Err(PyRuntimeError::new_err(NOT_MADE));
        };
        if owned.is_other_process() {
            let error = Error::Forked { what: "producer" };
            return Err(types::raise(py, &error, CLOSED));
        }
        match owned.peek() {
            Some(client) if !client.closed.load(Ordering::Relaxed) => Ok(client),
            _ => Err(PyRuntimeError::new_err(CLOSED)),
        }
    }

    /// For calls that the original shares between its clients: they say so when it is closed.
    fn handle(&self, py: Python<'_>) -> PyResult<&Arc<Client>> {
        let closed = match self.client.get().map(Owned::peek) {
            Some(Some(client)) => client.closed.load(Ordering::Relaxed),
            _ => true,
        };
        if closed {
            return Err(PyRuntimeError::new_err(types::HANDLE_CLOSED));
        }
        self.client(py)
    }

    /// Waits for room, and tells reports meanwhile: `call` is tried until it succeeds.
    fn when_there_is_room(
        py: Python<'_>,
        client: &Client,
        mut call: impl FnMut() -> PyResult<bool>,
    ) -> PyResult<()> {
        let until = Instant::now().checked_add(client.queue_full_timeout);
        loop {
            client.serve(py)?;
            if call()? {
                return Ok(());
            }
            let slice = slice_until(until);
            if slice.is_zero() {
                return Err(PyBufferError::new_err(format!(
                    "{QUEUE_FULL_TEXT} for {} ms; raise queue.buffering.max.messages or tidegate.queue.full.timeout.ms, or produce more slowly",
                    client.queue_full_timeout.as_millis()
                )));
            }
            let seen = client.core.reported();
            let slice = slice.min(Duration::from_millis(5));
            py.detach(|| client.core.wait_reports(seen, slice, false))
                .map_err(|error| types::raise(py, &error, CLOSED))?;
            py.check_signals()?;
        }
    }
}

/// False when the queue is full.
fn try_produce(
    py: Python<'_>,
    client: &Client,
    record: &ProducerRecord<'_>,
    entry: &mut Option<Entry>,
) -> PyResult<bool> {
    let Some(waiting) = entry.take() else {
        return match client.core.try_send(record) {
            Ok(()) => Ok(true),
            Err(Error::QueueFull { .. }) => Ok(false),
            Err(error) => Err(not_accepted(py, &error)),
        };
    };
    let place = match client.outstanding.insert(waiting, client.most) {
        Ok(place) => place,
        Err(waiting) => {
            *entry = Some(waiting);
            return Ok(false);
        }
    };
    match client.core.try_send_tagged(record, place) {
        Ok(()) => Ok(true),
        Err(error) => {
            *entry = client.outstanding.take(place);
            match error {
                Error::QueueFull { .. } => Ok(false),
                error => Err(not_accepted(py, &error)),
            }
        }
    }
}

#[pymethods]
impl Producer {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Producer {
        // The arguments are for __init__, which a subclass may call with others.
        let _ = (args, kwargs);
        Producer {
            client: OnceLock::new(),
        }
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __init__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        if self.client.get().is_some() {
            return Err(PyRuntimeError::new_err("Producer already __init__:ialized"));
        }
        let settings = ProducerSettings::of(args, kwargs)?;
        let oauth = settings.oauth_cb.as_ref().map(|oauth| oauth.bind(py));
        let with_tokens = oauth.is_some();
        let (config, tokens) = token::provide(settings.config.clone(), oauth)?;
        let (events, log) = (settings.wants_events(), settings.logger.is_some());
        let (core, most, wait_ms) = py
            .detach(|| {
                let typed = config.producer()?;
                let most = typed
                    .properties
                    .get("queue.buffering.max.messages")
                    .and_then(|most| most.parse().ok())
                    .unwrap_or(DEFAULT_QUEUE);
                let core = if events {
                    tidegate::Producer::polled(&config, log)?
                } else {
                    tidegate::Producer::new(&config)?
                };
                Ok((core, most, typed.queue_full_timeout_ms))
            })
            .map_err(|error: Error| types::raise(py, &error, CLOSED))?;
        if with_tokens {
            types::wait_for_token(py, &tokens)?;
        }
        let client = Arc::new(Client {
            core,
            outstanding: Outstanding::default(),
            reports: Mutex::default(),
            events: Mutex::default(),
            seen: AtomicU64::new(0),
            settings,
            most: if most == 0 { usize::MAX } else { most },
            queue_full_timeout: Duration::from_millis(wait_ms),
            closed: AtomicBool::new(false),
        });
        remember(Arc::downgrade(&client) as _);
        if self.client.set(Owned::new(client)).is_err() {
            return Err(PyRuntimeError::new_err("Producer already __init__:ialized"));
        }
        Ok(())
    }

    /// Queue a record.
    ///
    /// Args:
    ///     topic: where it goes.
    ///     value, key: str, bytes, or None (a tombstone).
    ///     partition: -1 leaves it to the partitioner.
    ///     callback, on_delivery: called as `callback(error, message)` inside of `poll()` or `flush()`; None takes the
    ///         configuration's.
    ///     timestamp: milliseconds since 1970; 0 is now.
    ///     headers: a dict or a list of pairs.
    ///     block: wait for room, up to `tidegate.queue.full.timeout.ms`, and run callbacks meanwhile. So it is always when that
    ///         property is in the configuration.
    ///
    /// Raises:
    ///     BufferError: the queue is full; poll() and try again.
    ///     KafkaException: the record cannot be sent.
    #[pyo3(signature = (topic, value=None, key=None, partition=-1, callback=None, on_delivery=None, timestamp=0, headers=None,
        block=false),
        text_signature = "($self, topic, value=None, key=None, partition=-1, callback=None, on_delivery=None, timestamp=0, headers=None, block=False)")]
    #[expect(clippy::too_many_arguments, reason = "confluent-kafka-python's")]
    fn produce(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        partition: i32,
        callback: Option<&Bound<'_, PyAny>>,
        on_delivery: Option<&Bound<'_, PyAny>>,
        timestamp: i64,
        headers: Option<&Bound<'_, PyAny>>,
        block: bool,
    ) -> PyResult<()> {
        let client = self.client(py)?;
        let (topic, name) = topic_name(topic)?;
        let value_bytes = bytes("value", value)?;
        let key_bytes = bytes("key", key)?;
        let headers = match headers {
            Some(headers) => payload::headers(Some(headers))
                .map_err(|error| PyTypeError::new_err(error.value(py).to_string()))?,
            None => Vec::new(),
        };
        let headers: Vec<(&str, Option<&[u8]>)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let record = ProducerRecord {
            topic: name,
            partition: partition_of(py, partition)?,
            key: key_bytes.as_deref(),
            value: value_bytes.as_deref(),
            headers: &headers,
            timestamp_ms: (timestamp != 0).then_some(timestamp),
        };
        let mut entry = match (callback.or(on_delivery), &client.settings.on_delivery) {
            (Some(callback), _) => {
                let callback = callback.clone().unbind();
                Some(client.entry(py, topic, &callback, key, value)?)
            }
            (None, Some(callback)) => Some(client.entry(py, topic, callback, key, value)?),
            (None, None) => None,
        };
        if try_produce(py, client, &record, &mut entry)? {
            return Ok(());
        }
        if !block && !client.settings.waits_for_room {
            return Err(PyBufferError::new_err(QUEUE_FULL_TEXT));
        }
        Self::when_there_is_room(py, client, || try_produce(py, client, &record, &mut entry))
    }

    /// Queue records of one topic, in order, and return how many were accepted. The dict of one that was not gets `_error`, a
    /// KafkaError.
    ///
    /// Args:
    ///     topic: where they go.
    ///     messages: a list of dicts with `value`, `key`, `partition`, `headers`, `callback`, each optional.
    ///     partition: where a dict has none.
    ///     callback, on_delivery: where a dict has none.
    ///
    /// Raises:
    ///     TypeError: a message is no dict, or holds what is neither str nor bytes; nothing was accepted.
    #[pyo3(signature = (topic, messages, partition=-1, callback=None, on_delivery=None),
        text_signature = "($self, topic, messages, partition=-1, callback=None, on_delivery=None)")]
    fn produce_batch(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        messages: &Bound<'_, PyAny>,
        partition: i32,
        callback: Option<&Bound<'_, PyAny>>,
        on_delivery: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        let callback = callback.or(on_delivery);
        super::produce_batch::run(self, py, topic, messages, partition, callback)
    }

    /// Wait for reports and other events, run their callbacks, and return how many there were.
    ///
    /// Args:
    ///     timeout: seconds; a negative number waits until there is one.
    #[pyo3(signature = (timeout=-1.0),
        text_signature = "($self, timeout=-1.0)")]
    fn poll(&self, py: Python<'_>, timeout: f64) -> PyResult<usize> {
        self.client(py)?.poll(py, deadline(timeout))
    }

    /// Wait until every record is delivered or has failed and its callback has run; return how many are left.
    ///
    /// Args:
    ///     timeout: seconds; a negative number waits as long as it takes.
    #[pyo3(signature = (timeout=-1.0),
        text_signature = "($self, timeout=-1.0)")]
    fn flush(&self, py: Python<'_>, timeout: f64) -> PyResult<usize> {
        self.client(py)?.flush(py, deadline(timeout))
    }

    /// Give up records that are queued, or in flight; poll() or flush() tells their callbacks.
    #[pyo3(signature = (in_queue=true, in_flight=true, blocking=true))]
    fn purge(
        &self,
        py: Python<'_>,
        in_queue: bool,
        in_flight: bool,
        blocking: bool,
    ) -> PyResult<()> {
        let client = self.client(py)?;
        py.detach(|| client.core.purge_some(in_queue, in_flight, blocking))
            .map_err(|error| raise(py, &error))
    }

    /// Make the producer ready for transactions; once, before anything is produced.
    #[pyo3(signature = (timeout=-1.0, /),
        text_signature = "($self, timeout=-1.0, /)")]
    fn init_transactions(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = duration(timeout);
        self.client(py)?
            .wait_for(py, move |core| core.init_transactions(timeout))
    }

    /// Begin a transaction.
    fn begin_transaction(&self, py: Python<'_>) -> PyResult<()> {
        let client = self.client(py)?;
        py.detach(|| client.core.begin_transaction())
            .map_err(|error| raise(py, &error))
    }

    /// Make a consumer's offsets part of the transaction.
    ///
    /// Args:
    ///     positions: a list of TopicPartition, each with the offset to be read next.
    ///     group_metadata: what the consumer's `consumer_group_metadata()` gave.
    #[pyo3(signature = (positions, group_metadata, timeout=-1.0, /),
        text_signature = "($self, positions, group_metadata, timeout=-1.0, /)")]
    fn send_offsets_to_transaction(
        &self,
        py: Python<'_>,
        positions: &Bound<'_, PyAny>,
        group_metadata: &Bound<'_, PyAny>,
        timeout: f64,
    ) -> PyResult<()> {
        let client = self.client(py)?;
        let (offsets, group) = super::transaction_offsets::of(positions, group_metadata)?;
        let timeout = duration(timeout);
        client.wait_for(py, move |core| {
            core.send_offsets_to_transaction(&offsets, &group, timeout)
        })
    }

    /// Deliver what is in flight and commit the transaction.
    #[pyo3(signature = (timeout=-1.0, /),
        text_signature = "($self, timeout=-1.0, /)")]
    fn commit_transaction(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = duration(timeout);
        self.client(py)?
            .wait_for(py, move |core| core.commit_transaction(timeout))
    }

    /// Give up what is in flight and abort the transaction.
    #[pyo3(signature = (timeout=-1.0, /),
        text_signature = "($self, timeout=-1.0, /)")]
    fn abort_transaction(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = duration(timeout);
        self.client(py)?
            .wait_for(py, move |core| core.abort_transaction(timeout))
    }

    /// The cluster's brokers and topics, a ClusterMetadata.
    ///
    /// Args:
    ///     topic: only this one.
    ///     timeout: seconds; a negative number waits as long as it takes.
    #[pyo3(signature = (topic=None, timeout=-1.0),
        text_signature = "($self, topic=None, timeout=-1.0)")]
    fn list_topics<'py>(
        &self,
        py: Python<'py>,
        topic: Option<String>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let topic = cluster::topic(topic)?;
        let timeout = duration(timeout).unwrap_or(Duration::MAX);
        let core = self.handle(py)?.core.clone();
        // As in the original no callback runs meanwhile, and its errors have no flags of transactions.
        let told = blocking(py, move || core.metadata(topic.as_deref(), timeout))?;
        cluster::metadata(py, &told.map_err(|error| types::raise(py, &error, CLOSED))?)
    }

    /// The cluster's id.
    #[pyo3(signature = (timeout=-1.0),
        text_signature = "($self, timeout=-1.0)")]
    fn cluster_id(&self, py: Python<'_>, timeout: f64) -> PyResult<String> {
        let timeout = duration(timeout).unwrap_or(Duration::MAX);
        let core = self.handle(py)?.core.clone();
        let found = blocking(py, move || core.cluster_id(timeout))?;
        let found = found.map_err(|error| types::raise(py, &error, CLOSED))?;
        found.ok_or_else(|| types::refused(py, TIMED_OUT, "the cluster's id was not told in time"))
    }

    /// Connections made from now on sign in with this name and password.
    #[pyo3(signature = (username, password))]
    fn set_sasl_credentials(&self, py: Python<'_>, username: &str, password: &str) -> PyResult<()> {
        let client = self.handle(py)?;
        client
            .core
            .set_sasl_credentials(username, password)
            .map_err(|error| raise(py, &error))
    }

    /// Abort the open transaction, deliver what is in flight, and end the producer. More than once is fine. Always True.
    ///
    /// Raises:
    ///     KafkaException: the producer was fenced, or failed for good otherwise. It is closed all the same.
    ///     what a callback raised, the last of it. The producer is closed all the same.
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "($self)")]
    fn close(
        &self,
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        self.end(py)
    }

    /// Records that are queued or in flight, and reports that wait for poll().
    fn __len__(&self, py: Python<'_>) -> usize {
        self.client(py).map_or(0, |client| client.len())
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (exc_type, exc_value, exc_traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        exc_value: &Bound<'_, PyAny>,
        exc_traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, exc_traceback);
        self.end(py).map(drop)
    }
}

impl Producer {
    fn end(&self, py: Python<'_>) -> PyResult<bool> {
        let peeked = self.client.get().map(Owned::peek);
        let is_closed = |client: &Arc<Client>| client.closed.load(Ordering::SeqCst);
        if peeked.is_none_or(|client| client.is_some_and(is_closed)) {
            return Ok(true);
        }
        let client = Arc::clone(self.client(py)?);
        let mut raised = None;
        if client.core.has_open_transaction() {
            // What is left of it is logged by the engine; closing goes on.
            match client.wait_for(py, |core| Ok(core.abort_transaction(None))) {
                Ok(Err(error)) if error.is_fatal() => raised = Some(raise(py, &error)),
                Ok(_) => {}
                Err(error) => keep(py, &mut raised, error)?,
            }
        }
        // Bounded: each record ends at delivery.timeout.ms.
        if let Err(error) = client.flush(py, None) {
            keep(py, &mut raised, error)?;
        }
        if let Err(error) = client.wait_for(py, |core| core.close(END)) {
            keep(py, &mut raised, error)?;
        }
        client.closed.store(true, Ordering::SeqCst);
        let unknown = client.outstanding.take_all();
        if !unknown.is_empty() {
            let error = types::kafka_error(py, DESTROYED, None, Flags::default())?;
            for entry in unknown {
                let message = Message::of(Fields {
                    topic: Some(entry.topic.into_any()),
                    key: entry.key,
                    value: entry.value,
                    error: Some(error.clone().unbind()),
                    ..Fields::default()
                });
                let told = (error.clone(), Bound::new(py, message)?);
                if let Err(error) = entry.callback.call1(py, told) {
                    keep(py, &mut raised, error)?;
                }
            }
        }
        raised.map_or(Ok(true), Err)
    }
}

/// The error of a row of `produce_batch` that was not accepted.
pub(super) fn row_error<'py>(
    py: Python<'py>,
    error: Option<&Error>,
) -> PyResult<Bound<'py, PyAny>> {
    let (number, said) = match error.and_then(Error::kafka_code) {
        Some(code) => (code.number(), code.description()),
        None => (QUEUE_FULL, QUEUE_FULL_TEXT),
    };
    let said = format!("Message failed: {said}");
    types::kafka_error(py, number, Some(&said), Flags::default())
}
