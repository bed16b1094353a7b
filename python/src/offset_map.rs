//! `_offset_map` and `_committed_metadata`: read the map of done offsets that `process()` leaves in a committed offset's metadata.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tidegate::parallel::OffsetMap;

use crate::args::{self, Seconds};
use crate::consumer::Consumer;
use crate::errors::OrRaise;
use crate::wait::blocking;

/// Base, leader epoch, ranges.
type Shown = (i64, Option<i32>, Vec<(i64, i64)>);

/// What this metadata says is done: the base, the leader epoch if known, and ranges of offsets (start, end behind the last).
///
/// Raises:
///     ValueError: it is no map of Tidegate, of another version, or damaged; the text says which.
#[pyfunction(name = "_offset_map")]
pub(crate) fn offset_map(text: &str) -> PyResult<Shown> {
    let map = OffsetMap::decode(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let done = map.done().iter().map(|range| (range.start, range.end));
    Ok((map.base(), map.leader_epoch(), done.collect()))
}

/// The metadata of what the consumer's group has committed, by partition: None for none.
///
/// Raises:
///     KafkaError: the broker cannot be asked within `timeout` seconds, or refuses.
#[pyfunction(name = "_committed_metadata")]
pub(crate) fn committed_metadata<'py>(
    py: Python<'py>,
    consumer: &Bound<'py, Consumer>,
    partitions: &Bound<'py, PyAny>,
    timeout: Seconds,
) -> PyResult<Bound<'py, PyDict>> {
    let core = std::sync::Arc::clone(&consumer.get().client(py)?.core);
    let partitions = args::partitions("partitions", partitions)?;
    let timeout = timeout.bounded();
    let found =
        blocking(py, move || core.committed_metadata(&partitions, timeout))?.or_raise(py)?;
    let shown = PyDict::new(py);
    for (partition, metadata) in found {
        shown.set_item((&*partition.topic, partition.partition), metadata)?;
    }
    Ok(shown)
}
