//! `TopicPartition`, as Python sees it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::types::{PyDict, PyList};

use crate::errors::argument;
use crate::strings;

/// A partition of a topic: `TopicPartition("orders", 3)`.
///
/// Immutable, hashable, ordered by topic and partition. Any thread.
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct TopicPartition {
    pub(crate) inner: tidegate::TopicPartition,
}

#[pymethods]
impl TopicPartition {
    #[new]
    fn new(py: Python<'_>, topic: String, partition: i32) -> PyResult<TopicPartition> {
        if topic.is_empty() {
            return Err(argument(
                py,
                "topic",
                "the name is empty",
                "give the topic's name",
            ));
        }
        if partition < 0 {
            let problem = format!("there is no partition {partition}");
            return Err(argument(py, "partition", &problem, "give 0 or more"));
        }
        Ok(TopicPartition {
            inner: tidegate::TopicPartition::new(topic, partition),
        })
    }

    /// The topic's name.
    #[getter]
    fn topic(&self, py: Python<'_>) -> Py<pyo3::types::PyString> {
        strings::topic(py, &self.inner.topic)
    }

    /// The partition's number.
    #[getter]
    fn partition(&self) -> i32 {
        self.inner.partition
    }

    fn __richcmp__(&self, py: Python<'_>, other: &Bound<'_, PyAny>, op: CompareOp) -> Py<PyAny> {
        match other.cast::<TopicPartition>() {
            Ok(other) => op
                .matches(self.inner.cmp(&other.get().inner))
                .into_pyobject(py)
                .map_or_else(
                    |_| py.NotImplemented(),
                    |result| result.to_owned().into_any().unbind(),
                ),
            Err(_) => py.NotImplemented(),
        }
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.inner.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!(
            "TopicPartition({:?}, {})",
            &*self.inner.topic, self.inner.partition
        )
    }

    fn __str__(&self) -> String {
        self.inner.to_string()
    }

    fn __getnewargs__(&self) -> (&str, i32) {
        (&self.inner.topic, self.inner.partition)
    }
}

impl From<tidegate::TopicPartition> for TopicPartition {
    fn from(inner: tidegate::TopicPartition) -> TopicPartition {
        TopicPartition { inner }
    }
}

/// A list of `TopicPartition`.
pub(crate) fn list<'py>(
    py: Python<'py>,
    partitions: impl IntoIterator<Item = tidegate::TopicPartition>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for partition in partitions {
        list.append(Bound::new(py, TopicPartition::from(partition))?)?;
    }
    Ok(list)
}

/// A dict of `TopicPartition` to a number or `None`.
pub(crate) fn offsets<'py>(
    py: Python<'py>,
    offsets: impl IntoIterator<Item = (tidegate::TopicPartition, Option<i64>)>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (partition, offset) in offsets {
        dict.set_item(Bound::new(py, TopicPartition::from(partition))?, offset)?;
    }
    Ok(dict)
}
