//! `Message`: a record, a delivery report, or an error in a record's place.
//!
//! A consumed message holds its batch and a row number, and makes Python objects of what is asked for. Everything else (what
//! was set, what a delivery report or an error holds) lies in `Fields`, made when it is needed. Frozen, and locked inside for
//! moments in which no Python code runs: any thread, any time, with or without its consumer.

use std::sync::OnceLock;

use parking_lot::Mutex;
use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use tidegate::{OwnedRecord, TimestampType};

use crate::record;
use crate::strings;

/// librdkafka's "no partition".
const NO_PARTITION: i32 = -1;
/// librdkafka's "no offset".
const NO_OFFSET: i64 = -1001;
const MICROSECONDS: f64 = 1_000_000.0;

/// What a message holds that is no record, and what replaces parts of one that is.
pub(crate) struct Fields {
    pub(crate) topic: Option<Py<PyAny>>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Py<PyAny>>,
    pub(crate) value: Option<Py<PyAny>>,
    /// A list of pairs; of a record it is made when it is asked for first, so that changing the list changes the message.
    pub(crate) headers: Option<Py<PyAny>>,
    /// A `KafkaError`.
    pub(crate) error: Option<Py<PyAny>>,
    pub(crate) timestamp_type: i32,
    pub(crate) timestamp_ms: i64,
    /// From `produce` to the acknowledgement, in microseconds; negative for none.
    pub(crate) latency_us: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) delivery_count: i16,
}

impl Default for Fields {
    fn default() -> Fields {
        Fields {
            topic: None,
            partition: NO_PARTITION,
            offset: NO_OFFSET,
            key: None,
            value: None,
            headers: None,
            error: None,
            timestamp_type: 0,
            timestamp_ms: 0,
            latency_us: -1,
            leader_epoch: -1,
            delivery_count: -1,
        }
    }
}

/// One of the Python objects of a message.
#[derive(Clone, Copy)]
enum Part {
    Topic,
    Key,
    Value,
    Headers,
    Error,
}

impl Fields {
    fn part(&mut self, part: Part) -> &mut Option<Py<PyAny>> {
        match part {
            Part::Topic => &mut self.topic,
            Part::Key => &mut self.key,
            Part::Value => &mut self.value,
            Part::Headers => &mut self.headers,
            Part::Error => &mut self.error,
        }
    }
}

/// A message that was consumed or produced, or an event: then `error()` is not None.
///
/// A consumed message keeps the memory of the whole batch it came in: take out what you need of messages that you keep for
/// long. `key()` and `value()` make a new bytes object at each call.
///
/// Making one is for tests only. All arguments are optional: `topic`, `partition`, `offset`, `key`, `value`, `headers`,
/// `error`, `timestamp` (a pair of type and milliseconds), `latency` (seconds), `leader_epoch`, `delivery_count`.
///
/// Two messages are equal when all but their latency is. `len()` is the length of the value.
#[pyclass(frozen, subclass, name = "Message", module = "tidegate.confluent")]
pub(crate) struct Message {
    record: Option<OwnedRecord>,
    /// Of a record: what replaces parts of it, once there is something.
    fields: OnceLock<Box<Mutex<Fields>>>,
}

impl Message {
    /// A consumed record.
    #[inline]
    pub(crate) fn consumed(record: OwnedRecord) -> Message {
        Message {
            record: Some(record),
            fields: OnceLock::new(),
        }
    }

    /// A delivery report, or an error in a record's place.
    pub(crate) fn of(fields: Fields) -> Message {
        Message {
            record: None,
            fields: OnceLock::from(Box::new(Mutex::new(fields))),
        }
    }

    /// Runs `look` on what is not the record's, if there is something. No Python code may run in `look`.
    #[inline]
    fn peek<T>(&self, look: impl FnOnce(&mut Fields) -> T) -> Option<T> {
        self.fields.get().map(|fields| look(&mut fields.lock()))
    }

    /// As `peek`, and makes it first.
    fn change<T>(&self, change: impl FnOnce(&mut Fields) -> T) -> T {
        let fields = self.fields.get_or_init(|| {
            let mut fields = Fields::default();
            if let Some(record) = &self.record {
                fields.partition = record.partition();
                fields.offset = record.offset();
                (fields.timestamp_type, fields.timestamp_ms) = timestamp(record);
                fields.leader_epoch = record.as_record().leader_epoch().unwrap_or(-1);
            }
            Box::new(Mutex::new(fields))
        });
        change(&mut fields.lock())
    }

    /// What was set, or came with a report; a part that was set to None is `Some(None)`.
    #[inline]
    fn given(&self, py: Python<'_>, part: Part) -> Option<Py<PyAny>> {
        self.peek(|fields| fields.part(part).as_ref().map(|part| part.clone_ref(py)))
            .flatten()
    }

    fn set(&self, part: Part, value: Bound<'_, PyAny>) {
        // Dropped outside of the lock: that may run Python code.
        let old = self.change(|fields| fields.part(part).replace(value.unbind()));
        drop(old);
    }

    fn number<T>(
        &self,
        of_record: impl FnOnce(&OwnedRecord) -> T,
        of_fields: impl FnOnce(&Fields) -> T,
        none: T,
    ) -> T {
        match &self.record {
            Some(record) => of_record(record),
            None => self.peek(|fields| of_fields(fields)).unwrap_or(none),
        }
    }

    /// The record, if nothing of it was replaced.
    pub(crate) fn untouched_record(&self) -> Option<&OwnedRecord> {
        self.record.as_ref().filter(|_| self.fields.get().is_none())
    }

    /// The partition, or a negative number.
    pub(crate) fn partition_number(&self) -> i32 {
        self.number(
            OwnedRecord::partition,
            |fields| fields.partition,
            NO_PARTITION,
        )
    }

    /// The offset, or a negative number.
    pub(crate) fn offset_number(&self) -> i64 {
        self.number(OwnedRecord::offset, |fields| fields.offset, NO_OFFSET)
    }

    /// The leader epoch, or a negative number.
    pub(crate) fn epoch_number(&self) -> i32 {
        self.number(
            |record| record.as_record().leader_epoch().unwrap_or(-1),
            |fields| fields.leader_epoch,
            -1,
        )
    }

    /// The topic's name as a Python object, or None.
    pub(crate) fn topic_object(&self, py: Python<'_>) -> Py<PyAny> {
        if let Some(topic) = self.given(py, Part::Topic) {
            return topic;
        }
        match &self.record {
            Some(record) => strings::topic(py, record.as_record().topic_shared()).into_any(),
            None => py.None(),
        }
    }

    /// The `KafkaError`, or None.
    pub(crate) fn error_object(&self, py: Python<'_>) -> Py<PyAny> {
        self.given(py, Part::Error).unwrap_or_else(|| py.None())
    }

    #[inline]
    fn bytes(
        &self,
        py: Python<'_>,
        part: Part,
        of_record: impl FnOnce(&OwnedRecord) -> Option<&[u8]>,
    ) -> Py<PyAny> {
        if let Some(given) = self.given(py, part) {
            return given;
        }
        match self.record.as_ref().and_then(of_record) {
            Some(bytes) => PyBytes::new(py, bytes).into_any().unbind(),
            None => py.None(),
        }
    }

    fn timestamp_pair(&self) -> (i32, i64) {
        self.number(
            timestamp,
            |fields| (fields.timestamp_type, fields.timestamp_ms),
            (0, 0),
        )
    }

    /// Topic, value, key, headers and error, as `__eq__` compares them.
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<[Bound<'py, PyAny>; 5]> {
        Ok([
            self.topic_object(py).into_bound(py),
            self.value(py).into_bound(py),
            self.key(py).into_bound(py),
            self.headers(py)?.into_bound(py),
            self.error_object(py).into_bound(py),
        ])
    }

    fn is_equal(&self, py: Python<'_>, other: &Message) -> PyResult<bool> {
        for (ours, theirs) in self.parts(py)?.iter().zip(&other.parts(py)?) {
            if !ours.is(theirs) && !ours.eq(theirs)? {
                return Ok(false);
            }
        }
        Ok(self.partition_number() == other.partition_number()
            && self.offset_number() == other.offset_number()
            && self.epoch_number() == other.epoch_number()
            && self.timestamp_pair().1 == other.timestamp_pair().1)
    }
}

/// librdkafka's numbers for whose clock it is, and the time; -1 where there is none.
fn timestamp(record: &OwnedRecord) -> (i32, i64) {
    let kind = match record.as_record().timestamp_type() {
        TimestampType::NotAvailable => 0,
        TimestampType::CreateTime => 1,
        TimestampType::LogAppendTime => 2,
    };
    (kind, record.batch().timestamps_ms()[record.row()])
}

#[pymethods]
impl Message {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Message {
        // The arguments are for __init__, which a subclass may call with others.
        let _ = (args, kwargs);
        Message::of(Fields::default())
    }

    #[pyo3(signature = (topic=None, partition=NO_PARTITION, offset=NO_OFFSET, key=None, value=None, headers=None, error=None,
        timestamp=None, latency=-1.0, leader_epoch=-1, delivery_count=-1))]
    #[expect(clippy::too_many_arguments, reason = "confluent-kafka-python's")]
    fn __init__(
        &self,
        topic: Option<Py<PyAny>>,
        partition: i32,
        offset: i64,
        key: Option<Py<PyAny>>,
        value: Option<Py<PyAny>>,
        headers: Option<Py<PyAny>>,
        error: Option<Py<PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        latency: f64,
        leader_epoch: i32,
        delivery_count: i16,
    ) -> PyResult<()> {
        let (timestamp_type, timestamp_ms) = match timestamp {
            None => (0, 0),
            Some(timestamp) => timestamp.extract().map_err(|_| {
                PyTypeError::new_err(
                    "timestamp must be a tuple of (int, int): the type, as TIMESTAMP_CREATE_TIME, and milliseconds",
                )
            })?,
        };
        let fields = Fields {
            topic,
            partition: if partition < 0 {
                NO_PARTITION
            } else {
                partition
            },
            offset: if offset < 0 { NO_OFFSET } else { offset },
            key,
            value,
            headers,
            error,
            timestamp_type,
            timestamp_ms,
            latency_us: if latency < 0.0 {
                -1
            } else {
                (latency * MICROSECONDS) as i64
            },
            leader_epoch: leader_epoch.max(-1),
            delivery_count: if delivery_count <= 0 {
                -1
            } else {
                delivery_count
            },
        };
        drop(self.change(|before| std::mem::replace(before, fields)));
        Ok(())
    }

    /// The KafkaError of an event; None for a proper message.
    fn error(&self, py: Python<'_>) -> Py<PyAny> {
        self.error_object(py)
    }

    /// The value as bytes (or what `set_value` set); None for a tombstone. Of an event: what happened, as text.
    fn value(&self, py: Python<'_>) -> Py<PyAny> {
        self.bytes(py, Part::Value, OwnedRecord::value)
    }

    /// The key as bytes (or what `set_key` set), or None.
    fn key(&self, py: Python<'_>) -> Py<PyAny> {
        self.bytes(py, Part::Key, OwnedRecord::key)
    }

    /// As `value()`; of a DeserializingConsumer's message it is the deserialized object.
    fn deserialized_value(&self, py: Python<'_>) -> Py<PyAny> {
        self.value(py)
    }

    /// As `key()`; of a DeserializingConsumer's message it is the deserialized object.
    fn deserialized_key(&self, py: Python<'_>) -> Py<PyAny> {
        self.key(py)
    }

    /// The topic's name, or None.
    fn topic(&self, py: Python<'_>) -> Py<PyAny> {
        self.topic_object(py)
    }

    /// The partition, or None.
    fn partition(&self) -> Option<i32> {
        Some(self.partition_number()).filter(|partition| *partition != NO_PARTITION)
    }

    /// The message's own offset, or None.
    fn offset(&self) -> Option<i64> {
        Some(self.offset_number()).filter(|offset| *offset >= 0)
    }

    /// The leader epoch the message was written under, or None.
    fn leader_epoch(&self) -> Option<i32> {
        Some(self.epoch_number()).filter(|epoch| *epoch >= 0)
    }

    /// The kind of timestamp (TIMESTAMP_NOT_AVAILABLE, TIMESTAMP_CREATE_TIME or TIMESTAMP_LOG_APPEND_TIME), and the
    /// timestamp in milliseconds since 1970 (UTC), meaningless with the first.
    fn timestamp(&self) -> (i32, i64) {
        self.timestamp_pair()
    }

    /// Seconds from `produce()` to the broker's acknowledgement; None for what was not produced here.
    fn latency(&self) -> Option<f64> {
        let latency_us = self.number(|_| -1, |fields| fields.latency_us, -1);
        (latency_us >= 0).then_some(latency_us as f64 / MICROSECONDS)
    }

    /// How often a share group was given the message; None outside of share groups.
    fn delivery_count(&self) -> Option<i16> {
        let count = self.number(|_| -1, |fields| fields.delivery_count, -1);
        (count > 0).then_some(count)
    }

    /// The headers in order, a list of (name, value); None when there are none.
    fn headers(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(given) = self.given(py, Part::Headers) {
            return Ok(given);
        }
        let Some(record) = self.record.as_ref().map(OwnedRecord::as_record) else {
            return Ok(py.None());
        };
        if record.headers().as_bytes().is_empty() {
            return Ok(py.None());
        }
        let made = record::headers(py, &record)?.into_any().unbind();
        // The first list stays: another thread may have changed it.
        Ok(self.change(|fields| fields.headers.get_or_insert(made).clone_ref(py)))
    }

    /// Replace what `headers()` gives.
    fn set_headers(&self, value: Bound<'_, PyAny>) {
        self.set(Part::Headers, value);
    }

    /// Replace what `value()` gives.
    fn set_value(&self, value: Bound<'_, PyAny>) {
        self.set(Part::Value, value);
    }

    /// Replace what `key()` gives.
    fn set_key(&self, value: Bound<'_, PyAny>) {
        self.set(Part::Key, value);
    }

    /// Replace what `topic()` gives.
    fn set_topic(&self, value: Bound<'_, PyAny>) {
        self.set(Part::Topic, value);
    }

    /// Replace what `error()` gives.
    fn set_error(&self, value: Bound<'_, PyAny>) {
        self.set(Part::Error, value);
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        match self.given(py, Part::Value) {
            Some(value) if value.is_none(py) => Ok(0),
            Some(value) => value.bind(py).len(),
            None => Ok(self
                .record
                .as_ref()
                .and_then(OwnedRecord::value)
                .map_or(0, <[u8]>::len)),
        }
    }

    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = other.py();
        let wants_equal = match op {
            CompareOp::Eq => true,
            CompareOp::Ne => false,
            _ => return Ok(py.NotImplemented()),
        };
        let is_equal = match other.cast::<Message>() {
            Ok(other) if std::ptr::eq(other.get(), self) => true,
            Ok(other) => self.is_equal(py, other.get())?,
            Err(_) => false,
        };
        (is_equal == wants_equal).into_py_any(py)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let [topic, value, key, headers, error] = self.parts(py)?;
        let latency = self.latency().unwrap_or(-1.0);
        let delivery_count = self.delivery_count().unwrap_or(-1);
        let arguments = [
            topic,
            self.partition_number().into_bound_py_any(py)?,
            self.offset_number().into_bound_py_any(py)?,
            key,
            value,
            headers,
            error,
            self.timestamp_pair().into_bound_py_any(py)?,
            latency.into_bound_py_any(py)?,
            self.epoch_number().into_bound_py_any(py)?,
            delivery_count.into_bound_py_any(py)?,
        ];
        (py.get_type::<Message>(), PyTuple::new(py, arguments)?).into_pyobject(py)
    }
}
