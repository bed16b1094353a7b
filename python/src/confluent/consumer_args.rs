//! What a `Consumer` is given and what it refuses, in the original's words.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use tidegate::{Error, Offset, PartitionReply, TopicPartition};

use super::message::Message;
use super::parts;
use super::polling::Face;
use super::types::refused;
use crate::errors::shown;

/// librdkafka's `_UNKNOWN_PARTITION`.
const UNKNOWN_PARTITION: i32 = -190;

pub(super) fn a_message<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Message> {
    object
        .cast::<Message>()
        .map(|message| message.get())
        .map_err(|_| PyTypeError::new_err(format!("expected Message, not {}", shown(object))))
}

pub(super) fn exclusive(
    one: Option<&Bound<'_, PyAny>>,
    other: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    if one.is_some() && other.is_some() {
        return Err(PyValueError::new_err(
            "message and offsets are mutually exclusive",
        ));
    }
    Ok(())
}

pub(super) fn callable(
    name: &str,
    function: Option<Bound<'_, PyAny>>,
) -> PyResult<Option<Py<PyAny>>> {
    match function {
        Some(function) if !function.is_callable() => Err(PyTypeError::new_err(format!(
            "{name} expects a callable, not {}",
            shown(&function)
        ))),
        function => Ok(function.map(Bound::unbind)),
    }
}

/// Puts what a commit in `on_assign` says in the place of "where the group has committed"; true where it did.
pub(super) fn starts_elsewhere(face: &Face, places: &mut [(TopicPartition, Offset)]) -> bool {
    let committed = face.callbacks.begin_assign();
    let mut found = false;
    for (name, place) in places {
        if *place == Offset::Stored
            && let Some((_, offset)) = committed.iter().rev().find(|(known, _)| known == name)
        {
            *place = Offset::At(*offset);
            found = true;
        }
    }
    found
}

/// The exception for a partition that is not assigned: librdkafka does not know the topic until a partition of it was.
pub(super) fn not_held(py: Python<'_>, face: &Face, error: &Error, doing: &str) -> PyErr {
    match error {
        Error::NotAssigned { topic, .. } if !face.core.has_seen_topic(topic) => {
            refused(py, UNKNOWN_PARTITION, &format!("{doing}: {error}"))
        }
        error => face.raise(py, error),
    }
}

/// True when `given` is what the group assigned, with no other place to begin.
pub(super) fn is_as_assigned(face: &Face, given: &[PartitionReply]) -> bool {
    let assigned = face.core.assignment();
    given.len() == assigned.len()
        && given.iter().all(|partition| {
            partition.offset == parts::INVALID && assigned.contains(&partition.topic_partition())
        })
}
