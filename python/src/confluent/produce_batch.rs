//! `Producer.produce_batch`: a list of dicts on its way to the engine.
//!
//! Attached. All dicts are looked at before the first record is accepted. Without headers the records go in with one call of the engine
//! for all; with headers one by one, so that the order holds.

use std::borrow::Cow;

use pyo3::exceptions::{PyNotImplementedError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString};
use tidegate::{Error, ProducerRecord, TaggedRow};

use super::client::Client;
use super::producer::{CLOSED, Producer, row_error, topic_name};
use super::types;
use crate::payload;

/// What is asked of a dict.
struct Asked<'py> {
    dict: Bound<'py, PyDict>,
    key: Option<Bound<'py, PyAny>>,
    value: Option<Bound<'py, PyAny>>,
    headers: Vec<payload::Header>,
    partition: Option<i32>,
    callback: Option<Py<PyAny>>,
}

pub(super) fn run(
    producer: &Producer,
    py: Python<'_>,
    topic: &Bound<'_, PyAny>,
    messages: &Bound<'_, PyAny>,
    partition: i32,
    callback: Option<&Bound<'_, PyAny>>,
) -> PyResult<usize> {
    let (topic, name) = topic_name(topic)?;
    let Ok(messages) = messages.cast::<PyList>() else {
        return Err(PyTypeError::new_err("messages must be a list"));
    };
    if messages.is_empty() {
        return Ok(0);
    }
    let client = producer.client(py)?;
    let partition = partition_of(partition);
    let default = match callback {
        Some(callback) => Some(callback.clone().unbind()),
        None => client
            .settings
            .on_delivery
            .as_ref()
            .map(|callback| callback.clone_ref(py)),
    };
    let asked = messages
        .iter()
        .enumerate()
        .map(|(row, message)| ask(row, message, partition, default.as_ref()))
        .collect::<PyResult<Vec<_>>>()?;
    let mut bytes = Vec::with_capacity(asked.len());
    for asked in &asked {
        bytes.push((
            payload_of(asked.key.as_ref())?,
            payload_of(asked.value.as_ref())?,
        ));
    }
    let mut rows = Vec::with_capacity(asked.len());
    for (asked, (key, value)) in asked.iter().zip(&bytes) {
        let tag = match &asked.callback {
            None => None,
            Some(callback) => {
                let (key, value) = (asked.key.as_ref(), asked.value.as_ref());
                let entry = client.entry(py, topic, callback, key, value)?;
                match client.outstanding.insert(entry, client.most) {
                    Ok(place) => Some(place),
                    // Full: this one and those behind it are not accepted.
                    Err(_) => break,
                }
            }
        };
        rows.push(TaggedRow {
            key: key.as_deref(),
            value: value.as_deref(),
            partition: asked.partition,
            tag,
        });
    }
    let mut refused: Vec<(usize, Option<Error>)> = Vec::new();
    let dealt = if asked.iter().any(|asked| !asked.headers.is_empty()) {
        one_by_one(client, name, &rows, &asked, &mut refused)
    } else {
        let mut hear = |row, error| refused.push((row, Some(error)));
        client.core.send_tagged_rows(name, &rows, &mut hear)
    };
    let dealt = match dealt {
        Ok(dealt) => dealt,
        Err(error) => {
            forget(client, &rows);
            return Err(types::raise(py, &error, CLOSED));
        }
    };
    forget(client, &rows[dealt..]);
    for (row, _) in &refused {
        forget(client, &rows[*row..=*row]);
    }
    let accepted = dealt - refused.len();
    refused.extend((dealt..asked.len()).map(|row| (row, None)));
    for (row, error) in refused {
        let error = row_error(py, error.as_ref())?;
        asked[row].dict.set_item(intern!(py, "_error"), error)?;
    }
    Ok(accepted)
}

/// The partition of a row; `None` leaves it to the partitioner. One that cannot be fails in the row's report, as in the original.
fn partition_of(partition: i32) -> Option<i32> {
    match partition {
        -1 => None,
        0.. => Some(partition),
        _ => Some(i32::MAX),
    }
}

fn forget(client: &Client, rows: &[TaggedRow<'_>]) {
    for tag in rows.iter().filter_map(|row| row.tag) {
        drop(client.outstanding.take(tag));
    }
}

fn one_by_one(
    client: &Client,
    topic: &str,
    rows: &[TaggedRow<'_>],
    asked: &[Asked<'_>],
    refused: &mut Vec<(usize, Option<Error>)>,
) -> tidegate::Result<usize> {
    for (number, (row, asked)) in rows.iter().zip(asked).enumerate() {
        let headers: Vec<(&str, Option<&[u8]>)> = asked
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let record = ProducerRecord {
            partition: row.partition,
            key: row.key,
            value: row.value,
            headers: &headers,
            ..ProducerRecord::new(topic)
        };
        let sent = match row.tag {
            Some(tag) => client.core.try_send_tagged(&record, tag),
            None => client.core.try_send(&record),
        };
        match sent {
            Ok(()) => {}
            Err(Error::QueueFull { .. }) => return Ok(number),
            Err(error @ Error::Kafka { .. }) => refused.push((number, Some(error))),
            Err(error) => return Err(error),
        }
    }
    Ok(rows.len())
}

fn ask<'py>(
    row: usize,
    message: Bound<'py, PyAny>,
    partition: Option<i32>,
    callback: Option<&Py<PyAny>>,
) -> PyResult<Asked<'py>> {
    let py = message.py();
    let dict = message
        .cast_into::<PyDict>()
        .map_err(|_| PyTypeError::new_err(format!("Message at index {row} must be a dict")))?;
    let mut asked = Asked {
        key: None,
        value: None,
        headers: Vec::new(),
        partition,
        callback: None,
        dict,
    };
    // Most have a value and perhaps a key: then nothing else is looked for.
    let mut left = asked.dict.len();
    let mut look = |name: &Bound<'py, PyString>| -> PyResult<Option<Bound<'py, PyAny>>> {
        if left == 0 {
            return Ok(None);
        }
        let found = asked.dict.get_item(name)?;
        left -= usize::from(found.is_some());
        Ok(found.filter(|found| !found.is_none()))
    };
    let value = look(intern!(py, "value"))?;
    let key = look(intern!(py, "key"))?;
    let own_callback = look(intern!(py, "callback"))?;
    let own_partition = look(intern!(py, "partition"))?;
    let timestamp = look(intern!(py, "timestamp"))?;
    let headers = look(intern!(py, "headers"))?;
    for (name, object) in [("value", &value), ("key", &key)] {
        if let Some(object) = object
            && !object.is_instance_of::<PyBytes>()
            && !object.is_instance_of::<PyString>()
        {
            let problem = format!("Message {name} at index {row} must be bytes or str");
            return Err(PyTypeError::new_err(problem));
        }
    }
    if let Some(own) = own_partition {
        if !own.is_instance_of::<PyInt>() {
            let problem = format!("Message partition at index {row} must be int");
            return Err(PyTypeError::new_err(problem));
        }
        asked.partition = partition_of(own.extract()?);
    }
    if timestamp.is_some() {
        return Err(PyNotImplementedError::new_err(
            "Message timestamps are not currently supported in batch mode; use produce()",
        ));
    }
    if headers.is_some() {
        asked.headers = payload::headers(headers.as_ref()).map_err(|_| {
            pyo3::exceptions::PyValueError::new_err(format!("Invalid headers at index {row}"))
        })?;
    }
    asked.callback = match own_callback {
        Some(callback) => Some(callback.unbind()),
        None => callback.map(|callback| callback.clone_ref(py)),
    };
    asked.key = key;
    asked.value = value;
    Ok(asked)
}

fn payload_of<'a>(object: Option<&'a Bound<'_, PyAny>>) -> PyResult<Option<Cow<'a, [u8]>>> {
    object.map_or(Ok(None), |object| payload::bytes("value", object))
}
