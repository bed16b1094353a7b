//! `RecordBatch`: records in columns, and the iterator over them.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::prelude::*;
use pyo3::types::slice::PySliceIndices;
use pyo3::types::{PyBytes, PyCapsule, PyDict, PyInt, PyList, PySlice, PyTuple};
use tidegate::RecordBatch as CoreBatch;

use crate::arrow;
use crate::column::{Column, Kind, out_of_range};
use crate::errors::{OrRaise, argument, argument_type, shown};
use crate::partition::TopicPartition;
use crate::record::{self, Record};
use crate::strings;

/// Records in columns: row `i` is the same record in every column.
///
/// Immutable; slices share its memory; it stays valid after its consumer was closed. Rows of one partition are in offset
/// order. Iterating and indexing give `Record`s, `batch[2:5]` a `RecordBatch`. Any thread.
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct RecordBatch {
    pub(crate) inner: CoreBatch,
}

impl From<CoreBatch> for RecordBatch {
    fn from(inner: CoreBatch) -> RecordBatch {
        RecordBatch { inner }
    }
}

#[pymethods]
impl RecordBatch {
    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = index.py();
        if let Ok(slice) = index.cast::<PySlice>() {
            let indices = slice.indices(self.inner.len().cast_signed())?;
            if indices.step != 1 {
                let problem = format!("a batch cannot be cut with step {}", indices.step);
                return Err(argument(py, "index", &problem, "use list(batch)[...]"));
            }
            let part = RecordBatch::from(self.inner.slice(rows_of(&indices)));
            return Ok(Bound::new(py, part)?.into_any());
        }
        let row = row_of(index, self.inner.len())?;
        let record = self
            .inner
            .get_owned(row)
            .ok_or_else(|| out_of_range(self.inner.len()))?;
        Ok(Bound::new(py, Record::new(record))?.into_any())
    }

    fn __iter__(&self) -> RecordIterator {
        RecordIterator {
            batch: self.inner.clone(),
            next: AtomicUsize::new(0),
        }
    }

    /// Each record's offset: a sequence and a buffer (64 bit), without a copy.
    #[getter]
    fn offsets(&self) -> Column {
        Column::new(self.inner.clone(), Kind::Offsets)
    }

    /// Each record's partition: a sequence and a buffer (32 bit), without a copy.
    #[getter]
    fn partitions(&self) -> Column {
        Column::new(self.inner.clone(), Kind::Partitions)
    }

    /// Each record's timestamp in milliseconds since 1970, -1 where there is none: a sequence and a buffer (64 bit), without
    /// a copy.
    #[getter]
    fn timestamps_ms(&self) -> Column {
        Column::new(self.inner.clone(), Kind::Timestamps)
    }

    /// Each record's topic, as a list of str.
    #[getter]
    fn topics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let topics = self
            .inner
            .iter()
            .map(|record| strings::topic(py, record.topic_shared()));
        PyList::new(py, topics)
    }

    /// Each record's value as bytes, None for a tombstone; a new list at each access.
    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let values = self
            .inner
            .iter()
            .map(|record| record.value().map(|value| PyBytes::new(py, value)));
        PyList::new(py, values)
    }

    /// Each record's key as bytes, None for a record without one; a new list at each access.
    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let keys = self
            .inner
            .iter()
            .map(|record| record.key().map(|key| PyBytes::new(py, key)));
        PyList::new(py, keys)
    }

    /// The value of row `row` (negative: from the end) as bytes; None for a tombstone.
    ///
    /// Raises:
    ///     IndexError: there is no such row.
    fn value<'py>(
        &self,
        py: Python<'py>,
        row: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let row = row_of(row, self.inner.len())?;
        Ok(self.inner.value(row).map(|value| PyBytes::new(py, value)))
    }

    /// The key of row `row` (negative: from the end) as bytes; None for a record without one.
    ///
    /// Raises:
    ///     IndexError: there is no such row.
    fn key<'py>(
        &self,
        py: Python<'py>,
        row: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let row = row_of(row, self.inner.len())?;
        Ok(self.inner.key(row).map(|key| PyBytes::new(py, key)))
    }

    /// The rows grouped by partition: pairs of a `TopicPartition` and the slice that cuts its rows out of this batch.
    ///
    /// A partition occurs more than once when its rows are not together.
    fn runs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for run in self.inner.runs() {
            let partition = tidegate::TopicPartition::new(run.topic, run.partition);
            let partition = Bound::new(py, TopicPartition::from(partition))?.into_any();
            let rows = PySlice::new(
                py,
                run.rows.start.cast_signed(),
                run.rows.end.cast_signed(),
                1,
            );
            list.append(PyTuple::new(py, [partition, rows.into_any()])?)?;
        }
        Ok(list)
    }

    /// The records as dicts: topic, partition, offset, timestamp_ms, key, value, headers.
    fn to_dicts<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.inner
            .iter()
            .map(|record| record::dict(py, &record))
            .collect()
    }

    /// The batch as a `pyarrow.RecordBatch`, without copying partitions, offsets, timestamps, keys or values: they stay in this
    /// batch's memory and keep it, also after the consumer was closed.
    ///
    /// Columns: topic (dictionary of string), partition (int32), offset (int64), timestamp (timestamp[ms, UTC], null where there
    /// is none), key and value (binary_view, null for no key and for a tombstone), headers (list of struct of name, string, and
    /// value, binary). Names of headers that are not UTF-8 have U+FFFD in place of what is not. Others that read Arrow data
    /// (polars, duckdb, ...) take the batch itself, by the Arrow PyCapsule interface.
    ///
    /// Raises:
    ///     ImportError: pyarrow is not installed.
    ///     ArgumentError: the headers take 2 GiB or more; cut the batch into slices.
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        arrow::to_pyarrow(slf)
    }

    /// The Arrow PyCapsule interface: the columns' names and types.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        arrow::schema_capsule(py)
    }

    /// The Arrow PyCapsule interface: schema and rows. `requested_schema` changes nothing: whoever wants other types casts.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema;
        arrow::capsules(py, &self.inner)
    }

    /// The Arrow PyCapsule interface: a stream of this one batch. `requested_schema` changes nothing.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        arrow::stream_capsule(py, &self.inner)
    }

    /// Bytes of memory held by the whole batch that this is a part of.
    #[getter]
    fn size_bytes(&self) -> usize {
        self.inner.size_bytes()
    }

    /// Note that all records are finished, so that their offsets may be committed; for `lease_batch`. Any thread; doing so
    /// twice is harmless.
    ///
    /// Raises:
    ///     StaleError: a partition was revoked, lost or sought meanwhile; the other records are noted.
    fn acknowledge(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.acknowledge().or_raise(py)
    }

    /// Note that the records of rows `start` to `stop` (not included) are finished, in any order. Any thread.
    ///
    /// Raises:
    ///     ArgumentError: there are no such rows.
    ///     StaleError: a partition was revoked, lost or sought meanwhile; the other records are noted.
    fn acknowledge_rows(&self, py: Python<'_>, start: usize, stop: usize) -> PyResult<()> {
        self.inner.acknowledge_rows(start..stop).or_raise(py)
    }

    /// Give back rows `start` to `stop` (not included) of a lease that will not be finished here, because their partition is
    /// being revoked (`is_stale`): the revoke then need not wait for them. They are not committed; the partition's next owner
    /// handles them. Any thread.
    ///
    /// Raises:
    ///     ArgumentError: there are no such rows.
    fn release_rows(&self, py: Python<'_>, start: usize, stop: usize) -> PyResult<()> {
        self.inner.release_rows(start..stop).or_raise(py)
    }

    /// True when the partition of row `row` was revoked, lost or sought since the batch was fetched: its owner handles the
    /// record again, and finishing it here changes nothing.
    ///
    /// Raises:
    ///     IndexError: there is no such row.
    fn is_stale(&self, row: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.inner.is_stale(row_of(row, self.inner.len())?))
    }

    fn __repr__(&self) -> String {
        let runs: Vec<String> = self
            .inner
            .runs()
            .take(4)
            .map(|run| format!("{} [{}]", run.topic, run.partition))
            .collect();
        let more = if self.inner.runs().count() > runs.len() {
            ", ..."
        } else {
            ""
        };
        format!(
            "<tidegate.RecordBatch of {} records from {}{more}>",
            self.inner.len(),
            runs.join(", ")
        )
    }
}

/// Iterates over the records of a batch. Any thread; two threads share the records between them.
#[pyclass(frozen, module = "tidegate._core")]
pub(crate) struct RecordIterator {
    batch: CoreBatch,
    next: AtomicUsize,
}

#[pymethods]
impl RecordIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> Option<Record> {
        let row = self.next.fetch_add(1, Ordering::Relaxed);
        let record = self.batch.get_owned(row);
        if record.is_none() {
            self.next.store(self.batch.len(), Ordering::Relaxed);
        }
        record.map(Record::new)
    }

    fn __length_hint__(&self) -> usize {
        self.batch
            .len()
            .saturating_sub(self.next.load(Ordering::Relaxed))
    }
}

/// The row of a Python index, which may be negative.
pub(crate) fn row_of(index: &Bound<'_, PyAny>, length: usize) -> PyResult<usize> {
    if !index.is_instance_of::<PyInt>() && !index.hasattr(pyo3::intern!(index.py(), "__index__"))? {
        let problem = format!("{} is no row", shown(index));
        return Err(argument_type(
            index.py(),
            "index",
            &problem,
            "give an int or a slice",
        ));
    }
    let Ok(index) = index.extract::<isize>() else {
        return Err(out_of_range(length));
    };
    let row = if index < 0 {
        length.checked_sub(index.unsigned_abs())
    } else {
        Some(index.unsigned_abs())
    };
    row.filter(|row| *row < length)
        .ok_or_else(|| out_of_range(length))
}

/// The rows of a slice with step 1.
pub(crate) fn rows_of(indices: &PySliceIndices) -> Range<usize> {
    let start = indices.start.max(0).unsigned_abs();
    start..start + indices.slicelength
}
