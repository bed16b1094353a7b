//! `Consumer`: confluent-kafka-python's manners on the engine's consumer. How it waits is in `polling`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple, PyWeakrefReference};
use tidegate::{Error, Offset, OffsetStore, PartitionReply, TopicPartition};

use super::callbacks::{Callbacks, Inside, Listener};
use super::consumer_args::{
    a_message, callable, exclusive, is_as_assigned, not_held, starts_elsewhere,
};
use super::message::Message;
use super::polling::{CLOSED, Face, committed};
use super::types::{HANDLE_CLOSED, INVALID_ARG, TIMED_OUT, refused};
use super::{cluster, consumer_config, parts};
use crate::errors::shown;
use crate::lifecycle::{Owned, remember};
use crate::token;
use crate::wait::blocking;

/// The word for this handle in errors.
const WHAT: &str = "consumer";
/// A commit that the broker does not answer is given up after this.
const COMMIT_WAIT: Duration = Duration::from_secs(60);
/// What a call without a timeout waits for a broker.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
/// What closing waits for the group to be left.
const CLOSE_WAIT: Duration = Duration::from_secs(30);
/// The most messages of one `consume()`.
const MOST_MESSAGES: i64 = 1_000_000;
/// librdkafka's `_NO_OFFSET`.
const NO_OFFSET: i32 = -168;

/// A timeout in seconds; a negative one means for ever.
fn seconds(timeout: f64) -> Option<Duration> {
    (timeout >= 0.0).then(|| Duration::try_from_secs_f64(timeout).unwrap_or(FOR_EVER))
}

/// Reads records of a group, or of partitions assigned by hand, with the API of confluent-kafka-python.
///
/// Args:
///     config: a dict; names of librdkafka or of the Java client. `error_cb`, `stats_cb`, `throttle_cb`, `on_commit` and `logger`
///         are called by poll(), consume() and close(). Keyword arguments win.
///
/// A background thread fetches ahead and answers rebalances. Every method may be called by any thread, also while another polls.
///
/// With auto-commit the timer commits a message once the application has asked for the next one; commit() and close() include
/// the one handed out last. Where a group begins is not committed, as in confluent-kafka-python: a group has committed
/// nothing until a message was handed out.
///
/// Raises:
///     KafkaException: the configuration is wrong (_INVALID_ARG; the text names every problem).
///     TypeError: no dict, or a callback that cannot be called.
///     ValueError: no `group.id`.
#[pyclass(
    frozen,
    subclass,
    weakref,
    name = "Consumer",
    module = "tidegate.confluent"
)]
pub(crate) struct Consumer {
    face: OnceLock<Owned<Face>>,
}

impl Consumer {
    /// Assigned partitions begin here.
    pub(super) fn begin_at(
        &self,
        py: Python<'_>,
        places: &[(TopicPartition, Offset)],
    ) -> PyResult<()> {
        self.tell(py, |core| {
            let mut places = places.iter();
            places.try_for_each(|(name, to)| core.seek(name, *to))
        })
    }

    /// What is behind it, closed or not.
    #[inline]
    fn made(&self) -> PyResult<&Arc<Face>> {
        let Some(owned) = self.face.get() else {
            return Err(PyRuntimeError::new_err(CLOSED));
        };
        if owned.is_other_process() {
            let error = Error::Forked { what: WHAT };
            return Err(PyRuntimeError::new_err(error.to_string()));
        }
        owned.peek().ok_or_else(|| PyRuntimeError::new_err(CLOSED))
    }

    /// What is behind it, while it is open.
    fn open(&self) -> PyResult<&Arc<Face>> {
        let face = self.made()?;
        // A callback of close() may still call it.
        if face.is_closed() && face.callbacks.inside() == Inside::Nothing {
            return Err(PyRuntimeError::new_err(CLOSED));
        }
        Ok(face)
    }

    /// For calls that the original shares between its clients: they say so when it is closed.
    fn handle(&self) -> PyResult<()> {
        match self.face.get() {
            Some(owned) if owned.is_other_process() => self.open().map(drop),
            Some(owned) if owned.peek().is_some_and(|face| !face.is_closed()) => Ok(()),
            _ => Err(PyRuntimeError::new_err(HANDLE_CLOSED)),
        }
    }

    /// Runs a call that asks the poller or a broker.
    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&tidegate::Consumer) -> tidegate::Result<T> + Send + 'static,
    ) -> PyResult<T> {
        let face = Arc::clone(self.open()?);
        let asked = Arc::clone(&face);
        blocking(py, move || call(&asked.core))?.map_err(|error| face.raise(py, &error))
    }

    /// Runs a call that the poller answers at once.
    fn tell<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&tidegate::Consumer) -> tidegate::Result<T> + Send,
    ) -> PyResult<T> {
        let face = self.open()?;
        py.detach(|| call(&face.core))
            .map_err(|error| face.raise(py, &error))
    }

    /// The offset behind a message, for commit() and store_offsets().
    fn behind(py: Python<'_>, message: &Bound<'_, PyAny>, doing: &str) -> PyResult<PartitionReply> {
        let message = a_message(message)?;
        let error = message.error_object(py);
        if !error.is_none(py) {
            let sentence = error.bind(py).call_method0("str")?;
            let problem = format!("Cannot {doing} offsets for message with error: '{sentence}'");
            return Err(refused(py, INVALID_ARG, &problem));
        }
        let topic: String = message.topic_object(py).extract(py)?;
        Ok(PartitionReply {
            topic: topic.into(),
            partition: message.partition_number(),
            offset: message.offset_number() + 1,
            leader_epoch: Some(message.epoch_number()).filter(|epoch| *epoch >= 0),
            metadata: None,
            error: None,
        })
    }
}

#[pymethods]
impl Consumer {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Consumer {
        // The arguments are for __init__, which a subclass may call with others.
        let _ = (args, kwargs);
        Consumer {
            face: OnceLock::new(),
        }
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __init__(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let py = slf.py();
        if slf.get().face.get().is_some() {
            return Err(PyRuntimeError::new_err("Consumer already initialized"));
        }
        let made = consumer_config::read(args, kwargs)?;
        let explicit = made.options.store == OffsetStore::Explicit;
        let oauth = made
            .functions
            .oauth
            .as_ref()
            .map(|function| function.bind(py));
        let with_tokens = oauth.is_some();
        let (config, tokens) = token::provide(made.config, oauth)?;
        let core = py
            .detach(|| tidegate::Consumer::with_options(&config, made.options))
            .map_err(|error| super::types::raise(py, &error, CLOSED))?;
        if with_tokens {
            super::types::wait_for_token(py, &tokens)?;
        }
        let weak = PyWeakrefReference::new(slf.as_any())?.unbind();
        let callbacks = Arc::new(Callbacks::new(made.functions, weak));
        let face = Arc::new(Face::new(core, callbacks, explicit));
        remember(Arc::downgrade(&face) as _);
        slf.get()
            .face
            .set(Owned::new(face))
            .map_err(|_| PyRuntimeError::new_err("Consumer already initialized"))
    }

    /// Join the group for `topics`; a name that begins with "^" is a regular expression. Replaces the subscription.
    ///
    /// The callbacks are called with this consumer and a list of TopicPartition, by the thread that polls or closes.
    /// assign() in `on_assign` may change where to begin; commit() in `on_revoke` still works.
    #[pyo3(signature = (topics, on_assign=None, on_revoke=None, on_lost=None))]
    fn subscribe(
        &self,
        py: Python<'_>,
        topics: &Bound<'_, PyAny>,
        on_assign: Option<Bound<'_, PyAny>>,
        on_revoke: Option<Bound<'_, PyAny>>,
        on_lost: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let face = Arc::clone(self.open()?);
        let Ok(list) = topics.cast::<PyList>() else {
            let problem = format!(
                "expected list of topic unicode strings, not {}",
                shown(topics)
            );
            return Err(PyTypeError::new_err(problem));
        };
        let functions = [
            callable("on_assign", on_assign)?,
            callable("on_revoke", on_revoke)?,
            callable("on_lost", on_lost)?,
        ];
        let mut names = Vec::with_capacity(list.len());
        for name in list {
            names.push(name.str()?.to_string());
        }
        let listening = functions.iter().any(Option::is_some);
        face.callbacks.set_rebalance(functions);
        let listener = Listener(Arc::clone(&face.callbacks));
        self.tell(py, move |core| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if listening {
                core.subscribe_with(&names, Box::new(listener))
            } else {
                core.subscribe(&names)
            }
        })
    }

    /// Leave the group and stop reading.
    fn unsubscribe(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, tidegate::Consumer::unsubscribe)
    }

    /// The next message; None when `timeout` seconds are over. A negative timeout waits for ever.
    ///
    /// Ctrl-C ends the wait within 100 ms, close() by another thread as well (then it gives None). What a callback raises comes
    /// out of here, and no message is lost.
    #[pyo3(signature = (timeout=-1.0))]
    fn poll(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<Message>> {
        self.made()?.poll(py, seconds(timeout))
    }

    /// The next message if it is at hand: nothing is waited for, and no callback runs.
    fn _poll_at_hand(&self) -> PyResult<Option<Message>> {
        Ok(self.made()?.at_hand())
    }

    /// Up to `num_messages` messages: waits until there are so many, or `timeout` seconds are over. A negative timeout waits
    /// for ever.
    #[pyo3(signature = (num_messages=1, timeout=-1.0))]
    fn consume<'py>(
        &self,
        py: Python<'py>,
        num_messages: i64,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let face = self.open()?;
        if !(0..=MOST_MESSAGES).contains(&num_messages) {
            return Err(PyValueError::new_err(
                "num_messages must be between 0 and 1000000 (1M)",
            ));
        }
        face.consume(py, num_messages as usize, seconds(timeout))
    }

    /// Read these partitions, from their offsets, and no others.
    fn assign(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let face = self.open()?;
        let given = parts::many(partitions)?;
        let mut places = parts::places(py, &given)?;
        let inside = face.callbacks.inside();
        if inside == Inside::Revoke {
            // What is being taken away cannot be assigned.
            return Ok(());
        }
        let elsewhere = inside == Inside::Assign && starts_elsewhere(face, &mut places);
        if inside == Inside::Assign && !elsewhere && is_as_assigned(face, &given) {
            return Ok(());
        }
        self.tell(py, |core| core.reassign(&places))
    }

    /// Read these partitions as well.
    fn incremental_assign(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let face = self.open()?;
        let given = parts::many(partitions)?;
        let mut places = parts::places(py, &given)?;
        let again = face.callbacks.inside() == Inside::Assign;
        let elsewhere = again && starts_elsewhere(face, &mut places);
        if again && !elsewhere && given.iter().all(|p| p.offset == parts::INVALID) {
            let assigned = face.core.assignment();
            if given
                .iter()
                .all(|p| assigned.contains(&p.topic_partition()))
            {
                return Ok(());
            }
        }
        self.tell(py, |core| core.incremental_assign(&places, again))
    }

    /// Stop reading.
    fn unassign(&self, py: Python<'_>) -> PyResult<()> {
        if self.open()?.callbacks.inside() == Inside::Revoke {
            // Happens when the callback returns.
            return Ok(());
        }
        self.tell(py, |core| core.reassign(&[]))
    }

    /// Stop reading these partitions.
    fn incremental_unassign(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let face = self.open()?;
        let names = parts::names(&parts::many(partitions)?);
        if face.callbacks.inside() == Inside::Revoke {
            return Ok(());
        }
        self.tell(py, |core| core.incremental_unassign(&names))
    }

    /// The partitions that are read.
    fn assignment<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        parts::list_of_names(py, &self.open()?.core.assignment())
    }

    /// Note the offset behind a message, or these offsets, to be committed; with `enable.auto.offset.store=false`.
    #[pyo3(signature = (message=None, offsets=None))]
    fn store_offsets(
        &self,
        py: Python<'_>,
        message: Option<&Bound<'_, PyAny>>,
        offsets: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let face = self.open()?;
        exclusive(message, offsets)?;
        let offsets = match (message, offsets) {
            (Some(message), _) => {
                if face.explicit_store
                    && let Some(record) = a_message(message)?.untouched_record()
                {
                    return face
                        .core
                        .store_record(record)
                        .map_err(|error| not_held(py, face, &error, "StoreOffsets failed"));
                }
                vec![Consumer::behind(py, message, "store")?]
            }
            (None, Some(offsets)) => parts::many(offsets)?,
            (None, None) => {
                return Err(PyValueError::new_err("expected either message or offsets"));
            }
        };
        if !face.explicit_store {
            return Err(refused(
                py,
                INVALID_ARG,
                "StoreOffsets failed: offsets are stored by poll() and consume(); set enable.auto.offset.store=false to store them yourself",
            ));
        }
        // As librdkafka: it fails when nothing could be stored, and with what was wrong last.
        let mut failed = None;
        let mut stored = offsets.is_empty();
        for offset in &offsets {
            match face
                .core
                .store_offsets(&[(offset.topic_partition(), offset.offset)])
            {
                Ok(()) => stored = true,
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if !stored => Err(not_held(py, face, &error, "StoreOffsets failed")),
            _ => Ok(()),
        }
    }

    /// Commit the offset behind a message, these offsets, or what was handed out (or stored) so far.
    ///
    /// With `asynchronous` (the default) it returns None at once, and `on_commit` hears of the outcome; otherwise it waits and
    /// gives a list of TopicPartition.
    #[pyo3(signature = (message=None, offsets=None, r#async=None, asynchronous=None))]
    fn commit<'py>(
        &self,
        py: Python<'py>,
        message: Option<&Bound<'py, PyAny>>,
        offsets: Option<&Bound<'py, PyAny>>,
        r#async: Option<&Bound<'py, PyAny>>,
        asynchronous: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        self.open()?;
        exclusive(message, offsets)?;
        let waits = match asynchronous.or(r#async) {
            Some(asynchronous) => !asynchronous.is_truthy()?,
            None => false,
        };
        let offsets = match (message, offsets) {
            (Some(message), _) => Some(vec![Consumer::behind(py, message, "commit")?]),
            (None, Some(offsets)) => Some(parts::many(offsets)?),
            (None, None) => None,
        };
        let nothing = || refused(py, NO_OFFSET, "Commit failed: Local: No offset stored");
        match (offsets, waits) {
            (None, false) => self.tell(py, tidegate::Consumer::commit_async)?,
            (Some(offsets), false) => {
                let written = parts::as_written(&offsets);
                self.tell(py, |core| core.commit_replies(&written, None))?;
                self.open()?.callbacks.note_commit(&offsets);
            }
            (None, true) => {
                let done = self.ask(py, |core| {
                    core.commit(COMMIT_WAIT)
                        .map(|done| (core.assignment(), done))
                })?;
                if done.1.is_empty() {
                    return Err(nothing());
                }
                return committed(py, &done.0, &done.1).map(Some);
            }
            (Some(offsets), true) => {
                if offsets.iter().all(|offset| offset.offset < 0) {
                    return Err(nothing());
                }
                let written = parts::as_written(&offsets);
                self.ask(py, move |core| {
                    core.commit_replies(&written, Some(COMMIT_WAIT))
                })?;
                self.open()?.callbacks.note_commit(&offsets);
                return parts::list(py, &offsets).map(Some);
            }
        }
        Ok(None)
    }

    /// What the group has committed; offset -1001 where it has nothing.
    #[pyo3(signature = (partitions, timeout=-1.0))]
    fn committed<'py>(
        &self,
        py: Python<'py>,
        partitions: &Bound<'py, PyAny>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        self.open()?;
        let names = parts::names(&parts::many(partitions)?);
        if names.is_empty() {
            return Ok(PyList::empty(py));
        }
        let timeout = seconds(timeout).unwrap_or(FOR_EVER);
        let replies = self.ask(py, move |core| core.committed_replies(&names, timeout))?;
        parts::list(py, &replies)
    }

    /// The next offset after the last message handed out; offset -1001 where none was.
    fn position<'py>(
        &self,
        py: Python<'py>,
        partitions: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let face = self.open()?;
        let mut given = parts::many(partitions)?;
        for partition in &mut given {
            let position = face.core.consumed_position(&partition.topic_partition());
            let (offset, epoch) = position.ok().flatten().unwrap_or((parts::INVALID, None));
            partition.offset = offset;
            partition.leader_epoch = epoch;
        }
        parts::list(py, &given)
    }

    /// Hand out nothing more of these partitions until resume(); those that are not assigned are passed over.
    fn pause(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_paused(py, partitions, true)
    }

    /// Hand out messages of these partitions again.
    fn resume(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_paused(py, partitions, false)
    }

    /// Go on from another offset in an assigned partition.
    fn seek(&self, py: Python<'_>, partition: &Bound<'_, PyAny>) -> PyResult<()> {
        self.open()?;
        let given = parts::one(partition)?;
        let (name, to) = (given.topic_partition(), parts::place(py, given.offset)?);
        let face = self.open()?;
        face.callbacks.note_seek(&name);
        py.detach(|| face.core.seek(&name, to))
            .map_err(|error| not_held(py, face, &error, "Failed to seek"))
    }

    /// The low and the high watermark. With `cached` as the latest fetch reported them (-1001 before the first one), without
    /// asking a broker.
    #[pyo3(signature = (partition, timeout=-1.0, cached=false))]
    fn get_watermark_offsets(
        &self,
        py: Python<'_>,
        partition: &Bound<'_, PyAny>,
        timeout: f64,
        cached: bool,
    ) -> PyResult<(i64, i64)> {
        let face = self.open()?;
        let name = parts::one(partition)?.topic_partition();
        if cached {
            let known = face.core.cached_watermarks(&name);
            return Ok(known.unwrap_or((parts::INVALID, parts::INVALID)));
        }
        let timeout = seconds(timeout).unwrap_or(FOR_EVER);
        self.ask(py, move |core| core.watermarks(&name, timeout))
    }

    /// The first offset at or after each partition's offset, read as milliseconds since 1970; -1 (the end) where there is none.
    #[pyo3(signature = (partitions, timeout=-1.0))]
    fn offsets_for_times<'py>(
        &self,
        py: Python<'py>,
        partitions: &Bound<'py, PyAny>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        self.open()?;
        let times: Vec<_> = parts::many(partitions)?
            .iter()
            .map(|time| (time.topic_partition(), time.offset))
            .collect();
        if times.is_empty() {
            return Ok(PyList::empty(py));
        }
        let timeout = seconds(timeout).unwrap_or(FOR_EVER);
        let replies = self.ask(py, move |core| {
            core.offsets_for_times_replies(&times, timeout)
        })?;
        parts::list(py, &replies)
    }

    /// The name that the group's coordinator gave this member, or None.
    fn memberid(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.tell(py, tidegate::Consumer::member_id)
    }

    /// Set user and password of SASL PLAIN or SCRAM for the next connections.
    fn set_sasl_credentials(&self, py: Python<'_>, username: &str, password: &str) -> PyResult<()> {
        self.handle()?;
        self.tell(py, |core| core.set_sasl_credentials(username, password))
    }

    /// The cluster's id.
    ///
    /// Raises:
    ///     KafkaException: no broker told it within `timeout` seconds (_TIMED_OUT).
    #[pyo3(signature = (timeout=-1.0))]
    fn cluster_id(&self, py: Python<'_>, timeout: f64) -> PyResult<String> {
        self.handle()?;
        let timeout = seconds(timeout).unwrap_or(FOR_EVER);
        let found = self.ask(py, move |core| core.cluster_id(timeout))?;
        found.ok_or_else(|| refused(py, TIMED_OUT, "the cluster's id was not told in time"))
    }

    /// The cluster's brokers and topics (or one topic) as a ClusterMetadata.
    #[pyo3(signature = (topic=None, timeout=-1.0))]
    fn list_topics<'py>(
        &self,
        py: Python<'py>,
        topic: Option<String>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.handle()?;
        let timeout = seconds(timeout).unwrap_or(FOR_EVER);
        let topic = cluster::topic(topic)?;
        let told = self.ask(py, move |core| core.metadata(topic.as_deref(), timeout))?;
        cluster::metadata(py, &told)
    }

    /// Who this consumer is in its group, as opaque bytes for Producer.send_offsets_to_transaction().
    fn consumer_group_metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let metadata = self.tell(py, tidegate::Consumer::group_metadata)?;
        Ok(PyBytes::new(py, metadata.as_bytes()))
    }

    /// Commit what was handed out (with auto-commit), leave the group, and end. More than once is fine; at most 30 s.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.face.get().is_none() {
            return Ok(());
        }
        let face = Arc::clone(self.made()?);
        if face.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        face.core.finish_in_hand();
        let closed = py.detach(|| face.core.close(CLOSE_WAIT));
        let told = face.tell_the_rest(py);
        if let Some(raised) = face.callbacks.take_raised() {
            return Err(raised);
        }
        closed.map_err(|error| face.raise(py, &error))?;
        told
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: &Bound<'_, PyAny>,
        exc_value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.close(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.face.get().and_then(Owned::peek) {
            Some(face) => face.callbacks.traverse(&visit),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        if let Some(face) = self.face.get().and_then(Owned::peek) {
            face.callbacks.clear();
        }
    }
}

impl Consumer {
    fn set_paused(
        &self,
        py: Python<'_>,
        partitions: &Bound<'_, PyAny>,
        paused: bool,
    ) -> PyResult<()> {
        let face = self.open()?;
        let assigned = face.core.assignment();
        let mut names = parts::names(&parts::many(partitions)?);
        if face.callbacks.is_before_assign() {
            // As in the original: nothing is assigned yet, and what will be is not paused.
            return Ok(());
        }
        names.retain(|name| assigned.contains(name));
        self.tell(py, |core| {
            if paused {
                core.pause(&names)
            } else {
                core.resume(&names)
            }
        })
    }
}
