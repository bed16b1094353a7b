//! `TopicPartition`s of `tidegate.confluent` to the engine's partitions and back.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;
use tidegate::{Offset, PartitionReply, TopicPartition};

use super::types::{self, Flags, INVALID_ARG, refused};
use crate::errors::shown;
use crate::strings;

/// librdkafka's logical offsets.
const BEGINNING: i64 = -2;
const END: i64 = -1;
const STORED: i64 = -1000;
pub(crate) const INVALID: i64 = PartitionReply::NO_OFFSET;
const TAIL: i64 = -2000;

/// One partition.
pub(crate) fn one(object: &Bound<'_, PyAny>) -> PyResult<PartitionReply> {
    let py = object.py();
    if !object.is_instance(types::topic_partition(py)?)? {
        let problem = format!("expected TopicPartition, not {}", shown(object));
        return Err(PyTypeError::new_err(problem));
    }
    Ok(PartitionReply {
        topic: object
            .getattr(intern!(py, "topic"))?
            .extract::<String>()?
            .into(),
        partition: object.getattr(intern!(py, "partition"))?.extract()?,
        offset: object.getattr(intern!(py, "offset"))?.extract()?,
        leader_epoch: object.getattr(intern!(py, "leader_epoch"))?.extract()?,
        metadata: object.getattr(intern!(py, "metadata"))?.extract()?,
        error: None,
    })
}

/// A list of partitions.
pub(crate) fn many(object: &Bound<'_, PyAny>) -> PyResult<Vec<PartitionReply>> {
    let Ok(list) = object.cast::<PyList>() else {
        let problem = format!("requires list of TopicPartition, not {}", shown(object));
        return Err(PyTypeError::new_err(problem));
    };
    list.iter().map(|item| one(&item)).collect()
}

/// What is to be committed with metadata as the original writes it, which reads up to the end of a C string.
pub(crate) fn as_written(offsets: &[PartitionReply]) -> Vec<PartitionReply> {
    let mut written = offsets.to_vec();
    for metadata in written.iter_mut().filter_map(|one| one.metadata.as_mut()) {
        metadata.push('\0');
    }
    written
}

/// Names without offsets.
pub(crate) fn names(partitions: &[PartitionReply]) -> Vec<TopicPartition> {
    partitions
        .iter()
        .map(PartitionReply::topic_partition)
        .collect()
}

/// Where to begin.
pub(crate) fn place(py: Python<'_>, offset: i64) -> PyResult<Offset> {
    match offset {
        0.. => Ok(Offset::At(offset)),
        BEGINNING => Ok(Offset::Beginning),
        END => Ok(Offset::End),
        STORED | INVALID => Ok(Offset::Stored),
        ..=TAIL => Ok(Offset::Tail(TAIL - offset)),
        _ => {
            let problem = format!(
                "{offset} is no offset: use 0 or more, OFFSET_BEGINNING, OFFSET_END or OFFSET_STORED"
            );
            Err(refused(py, INVALID_ARG, &problem))
        }
    }
}

/// Where to begin in each partition.
pub(crate) fn places(
    py: Python<'_>,
    partitions: &[PartitionReply],
) -> PyResult<Vec<(TopicPartition, Offset)>> {
    let mut found = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let name = partition.topic_partition();
        if found.iter().any(|(known, _)| *known == name) {
            return Err(refused(py, INVALID_ARG, &format!("{name} is named twice")));
        }
        found.push((name, place(py, partition.offset)?));
    }
    Ok(found)
}

/// `TopicPartition`s for Python.
pub(crate) fn list<'py>(
    py: Python<'py>,
    partitions: &[PartitionReply],
) -> PyResult<Bound<'py, PyList>> {
    let make = types::topic_partition(py)?.getattr(intern!(py, "_of"))?;
    let list = PyList::empty(py);
    for partition in partitions {
        let error = match partition.error {
            Some(code) => Some(types::kafka_error(
                py,
                code.number(),
                None,
                Flags::default(),
            )?),
            None => None,
        };
        list.append(make.call1((
            strings::topic(py, &partition.topic),
            partition.partition,
            partition.offset,
            partition.metadata.as_deref(),
            partition.leader_epoch,
            error,
        ))?)?;
    }
    Ok(list)
}

/// The same for partitions without offsets.
pub(crate) fn list_of_names<'py>(
    py: Python<'py>,
    partitions: &[TopicPartition],
) -> PyResult<Bound<'py, PyList>> {
    let replies: Vec<_> = partitions
        .iter()
        .map(|partition| PartitionReply::new(partition, INVALID))
        .collect();
    list(py, &replies)
}
