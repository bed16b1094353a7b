//! What `Producer.send_offsets_to_transaction` is given, as the engine takes it. Attached.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tidegate::{GroupMetadata, OffsetAndMetadata, TopicPartition};

use super::types;

pub(super) fn of(
    positions: &Bound<'_, PyAny>,
    group: &Bound<'_, PyAny>,
) -> PyResult<(Vec<OffsetAndMetadata>, GroupMetadata)> {
    let py = positions.py();
    let Ok(positions) = positions.cast::<PyList>() else {
        return Err(PyTypeError::new_err("requires list of TopicPartition"));
    };
    let class = types::topic_partition(py)?;
    let mut offsets = Vec::with_capacity(positions.len());
    for position in positions {
        if !position.is_instance(class)? {
            let kind = position.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "expected TopicPartition, not {kind}"
            )));
        }
        let topic: String = position.getattr(intern!(py, "topic"))?.extract()?;
        offsets.push(OffsetAndMetadata {
            partition: TopicPartition::new(
                topic,
                position.getattr(intern!(py, "partition"))?.extract()?,
            ),
            offset: position.getattr(intern!(py, "offset"))?.extract()?,
            leader_epoch: position.getattr(intern!(py, "leader_epoch"))?.extract()?,
            metadata: position.getattr(intern!(py, "metadata"))?.extract()?,
        });
    }
    let Ok(bytes) = group.cast::<PyBytes>() else {
        let kind = group.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "expected bytes, {kind} found: give what consumer_group_metadata() returned"
        )));
    };
    Ok((offsets, GroupMetadata::from_bytes(bytes.as_bytes())))
}
