//! `Output`: what a handler makes of a record, for the transaction that commits the record's offset.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::PyList;
use tidegate::parallel::Output as Core;

use crate::errors::{argument, argument_type, shown};
use crate::payload;

/// A record that a handler of `process(..., produce_to=...)` returns: `Output("seen", key="camera-7")`.
///
/// Immutable. Any thread.
///
/// Args:
///     value: bytes, str (as UTF-8), another bytes-like object, or None for a tombstone.
///     key: the same; None is the key of the record that is handled.
///     topic: another topic than `produce_to`.
///     headers: a dict of str to bytes, str or None, or a list of such pairs.
///     partition: the partition; None lets the partitioner choose, by key.
///     timestamp_ms: milliseconds since 1970; None is the time of sending.
///     without_key: send it without a key.
///
/// Raises:
///     ArgumentError: an argument cannot be, or `key` and `without_key` were both given.
///     ArgumentTypeError: key, value or headers have no bytes.
#[pyclass(frozen, module = "tidegate")]
#[derive(Clone)]
pub(crate) struct Output {
    core: Core,
}

#[pymethods]
impl Output {
    #[new]
    #[pyo3(signature = (value, key=None, *, topic=None, headers=None, partition=None, timestamp_ms=None, without_key=false))]
    #[allow(clippy::too_many_arguments)] // Python's keywords.
    fn new(
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        key: Option<&Bound<'_, PyAny>>,
        topic: Option<String>,
        headers: Option<&Bound<'_, PyAny>>,
        partition: Option<i32>,
        timestamp_ms: Option<i64>,
        without_key: bool,
    ) -> PyResult<Output> {
        let mut core = plain(payload::bytes("value", value)?);
        let key = match key {
            Some(key) => payload::bytes("key", key)?,
            None => None,
        };
        core = match (key, without_key) {
            (Some(_), true) => {
                return Err(argument(
                    py,
                    "without_key",
                    "there is a key as well",
                    "give one of the two",
                ));
            }
            (Some(key), false) => core.key(key.into_owned()),
            (None, true) => core.without_key(),
            (None, false) => core,
        };
        if let Some(topic) = topic {
            if topic.is_empty() {
                return Err(argument(
                    py,
                    "topic",
                    "the name is empty",
                    "give the topic's name, or None for produce_to",
                ));
            }
            core = core.topic(topic);
        }
        for (name, number) in [
            ("partition", partition.map(i64::from)),
            ("timestamp_ms", timestamp_ms),
        ] {
            if let Some(number) = number.filter(|number| *number < 0) {
                let problem = format!("{number} is below 0");
                return Err(argument(py, name, &problem, "give 0 or more, or None"));
            }
        }
        if let Some(partition) = partition {
            core = core.partition(partition);
        }
        if let Some(timestamp_ms) = timestamp_ms {
            core = core.timestamp_ms(timestamp_ms);
        }
        Ok(Output {
            core: core.headers(payload::headers(headers)?),
        })
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.core)
    }
}

fn plain(value: Option<Cow<'_, [u8]>>) -> Core {
    match value {
        Some(value) => Core::new(value.into_owned()),
        None => Core::tombstone(),
    }
}

/// What a handler returned, as outputs.
#[pyclass(frozen, name = "_Outputs", module = "tidegate._core")]
pub(crate) struct Outputs {
    pub(crate) core: Vec<Core>,
}

#[pymethods]
impl Outputs {
    /// Reads what a handler returned: None, a value, an `Output`, or a list of values and outputs.
    ///
    /// Raises:
    ///     ArgumentTypeError: it is something else.
    #[new]
    fn new(returned: &Bound<'_, PyAny>) -> PyResult<Outputs> {
        let core = if returned.is_none() {
            Vec::new()
        } else if let Ok(list) = returned.cast::<PyList>() {
            list.iter()
                .map(|item| one(&item))
                .collect::<PyResult<_>>()?
        } else {
            vec![one(returned)?]
        };
        Ok(Outputs { core })
    }

    fn __len__(&self) -> usize {
        self.core.len()
    }
}

fn one(object: &Bound<'_, PyAny>) -> PyResult<Core> {
    if let Ok(output) = object.cast::<Output>() {
        return Ok(output.get().core.clone());
    }
    let wrong = || {
        argument_type(
            object.py(),
            "output",
            &format!("the handler returned {}", shown(object)),
            "return bytes, a str, a tidegate.Output, a list of these, or None for no output (json.dumps() makes a str of a dict)",
        )
    };
    if object.is_none() {
        return Err(wrong());
    }
    let value = payload::bytes("output", object).map_err(|_| wrong())?;
    Ok(plain(value))
}
