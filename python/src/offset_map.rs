//! `_offset_map`: reads the map of done offsets that `process()` leaves in a committed offset's metadata.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tidegate::parallel::OffsetMap;

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
