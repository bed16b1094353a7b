//! Tables of Kafka that Python needs whole: its error codes, and the partitioners.

use std::num::NonZeroU32;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Every error code: (number, name, sentence).
#[pyfunction]
#[pyo3(name = "_kafka_codes")]
pub(crate) fn kafka_codes() -> Vec<(i32, &'static str, &'static str)> {
    tidegate::kafka_codes()
        .iter()
        .map(|code| (code.number(), code.name(), code.description()))
        .collect()
}

/// The partition of a key by the partitioner of this name: murmur2, consistent or fnv1a.
///
/// Raises:
///     ValueError: an unknown partitioner, or fewer than one partition.
#[pyfunction]
#[pyo3(name = "_partition_of")]
pub(crate) fn partition_of(partitioner: &str, key: &[u8], partition_count: i32) -> PyResult<u32> {
    use tidegate::partitioner;
    let partitions = u32::try_from(partition_count)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "partition_count must be > 0, got {partition_count}; give the number of partitions of the topic"
            ))
        })?;
    match partitioner {
        "murmur2" => Ok(partitioner::murmur2(key, partitions)),
        "consistent" => Ok(partitioner::consistent(key, partitions)),
        "fnv1a" => Ok(partitioner::fnv1a(key, partitions)),
        other => Err(PyValueError::new_err(format!(
            "partitioner: '{other}' is unknown; use murmur2, consistent or fnv1a"
        ))),
    }
}
