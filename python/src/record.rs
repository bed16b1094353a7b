//! `Record`: one row of a batch, light enough to make one per poll.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use tidegate::{OwnedRecord, TimestampType};

use crate::errors::OrRaise;
use crate::strings;

/// A record of a topic. Immutable; any thread.
///
/// It keeps the memory of the whole batch it came in (`RecordBatch.size_bytes`): take out what you need of records that
/// you keep for long. `key` and `value` make a new bytes object at each access.
///
/// Two records are equal when topic, partition and offset are.
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct Record {
    inner: OwnedRecord,
}

impl Record {
    #[inline]
    pub(crate) fn new(inner: OwnedRecord) -> Record {
        Record { inner }
    }

    pub(crate) fn acknowledge_core(&self) -> tidegate::Result<()> {
        self.inner.acknowledge()
    }
}

#[pymethods]
impl Record {
    /// The topic's name.
    #[getter]
    fn topic(&self, py: Python<'_>) -> Py<PyString> {
        strings::topic(py, self.inner.as_record().topic_shared())
    }

    /// The partition's number.
    #[getter]
    fn partition(&self) -> i32 {
        self.inner.batch().partitions()[self.inner.row()]
    }

    /// The record's own offset.
    #[getter]
    fn offset(&self) -> i64 {
        self.inner.batch().offsets()[self.inner.row()]
    }

    /// Milliseconds since 1970 (UTC), or None where the record has no timestamp.
    #[getter]
    fn timestamp_ms(&self) -> Option<i64> {
        self.inner.timestamp_ms()
    }

    /// Whose clock the timestamp is from: "create" (the producer's), "append" (the broker's), or None.
    #[getter]
    fn timestamp_type(&self) -> Option<&'static str> {
        match self.inner.as_record().timestamp_type() {
            TimestampType::NotAvailable => None,
            TimestampType::CreateTime => Some("create"),
            TimestampType::LogAppendTime => Some("append"),
        }
    }

    /// The key as bytes; None for a record without one.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.inner.key().map(|key| PyBytes::new(py, key))
    }

    /// The value as bytes; None for a tombstone.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.inner.value().map(|value| PyBytes::new(py, value))
    }

    /// The headers in order, as (name, value); a name may occur more than once, a value may be None. What is not UTF-8 in a
    /// name becomes U+FFFD.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        headers(py, &self.inner.as_record())
    }

    /// The leader epoch the record was written under, or None where the broker did not say.
    #[getter]
    fn leader_epoch(&self) -> Option<i32> {
        self.inner.as_record().leader_epoch()
    }

    /// True when the record's partition was revoked, lost or sought since it was handed out: its owner handles it again.
    #[getter]
    fn is_stale(&self) -> bool {
        self.inner.is_stale()
    }

    /// The value decoded as JSON, by orjson where it is installed, with the results of the standard library's `json.loads`.
    ///
    /// Raises:
    ///     ValueError: the value is not JSON (`json.JSONDecodeError`), not text (`UnicodeDecodeError`), or null (a tombstone).
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let Some(value) = self.value(py) else {
            return Err(PyValueError::new_err(format!(
                "{} has no value (it is a tombstone), so there is no JSON in it",
                self.place()
            )));
        };
        let loads = LOADS.get_or_try_init(py, || {
            PyResult::Ok(py.import("tidegate._json")?.getattr("loads")?.unbind())
        })?;
        loads.bind(py).call1((value,))
    }

    /// Note that the record is finished, so that its offset may be committed; for records of `lease_batch`. Any thread.
    ///
    /// Raises:
    ///     StaleError: its partition was revoked, lost or sought meanwhile; its owner handles it again.
    fn acknowledge(&self, py: Python<'_>) -> PyResult<()> {
        self.acknowledge_core().or_raise(py)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other
            .cast::<Record>()
            .is_ok_and(|other| self.identity() == other.get().identity())
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.identity().hash(&mut hasher);
        hasher.finish()
    }

    /// Lengths only: what a record holds may be secret.
    fn __repr__(&self) -> String {
        let length = |bytes: Option<&[u8]>| {
            bytes.map_or("none".to_string(), |bytes| format!("{} bytes", bytes.len()))
        };
        format!(
            "<tidegate.Record {}, key: {}, value: {}>",
            self.place(),
            length(self.inner.key()),
            length(self.inner.value())
        )
    }
}

impl Record {
    fn identity(&self) -> (&str, i32, i64) {
        (
            self.inner.topic(),
            self.inner.partition(),
            self.inner.offset(),
        )
    }

    fn place(&self) -> String {
        let (topic, partition, offset) = self.identity();
        format!("{topic} [{partition}] offset {offset}")
    }
}

/// The headers of a record as a list of pairs.
pub(crate) fn headers<'py>(
    py: Python<'py>,
    record: &tidegate::Record<'_>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for header in record.headers() {
        let name = PyString::new(py, &header.name()).into_any();
        let value = match header.value {
            Some(value) => PyBytes::new(py, value).into_any(),
            None => py.None().into_bound(py),
        };
        list.append(PyTuple::new(py, [name, value])?)?;
    }
    Ok(list)
}

/// A record as a dict, everything in it.
pub(crate) fn dict<'py>(
    py: Python<'py>,
    record: &tidegate::Record<'_>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item(
        pyo3::intern!(py, "topic"),
        strings::topic(py, record.topic_shared()),
    )?;
    dict.set_item(pyo3::intern!(py, "partition"), record.partition())?;
    dict.set_item(pyo3::intern!(py, "offset"), record.offset())?;
    dict.set_item(pyo3::intern!(py, "timestamp_ms"), record.timestamp_ms())?;
    dict.set_item(
        pyo3::intern!(py, "key"),
        record.key().map(|key| PyBytes::new(py, key)),
    )?;
    dict.set_item(
        pyo3::intern!(py, "value"),
        record.value().map(|value| PyBytes::new(py, value)),
    )?;
    dict.set_item(pyo3::intern!(py, "headers"), headers(py, record)?)?;
    Ok(dict)
}
