//! Keys, values and headers on their way from Python to the producer.

use std::borrow::Cow;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyString, PyTuple};

use crate::errors::{argument_type, shown};

const REMEDY: &str = "give bytes, a str (sent as UTF-8), another bytes-like object, or None";

/// Bytes of a key or value: borrowed from bytes and str, which are immutable, and copied from everything else, which another
/// thread could change while they are read.
pub(crate) fn bytes<'a>(
    name: &str,
    object: &'a Bound<'_, PyAny>,
) -> PyResult<Option<Cow<'a, [u8]>>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Some(Cow::Borrowed(bytes.as_bytes())));
    }
    if object.is_none() {
        return Ok(None);
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Some(Cow::Borrowed(text.to_str()?.as_bytes())));
    }
    if let Ok(array) = object.cast::<PyByteArray>() {
        return Ok(Some(Cow::Owned(array.to_vec())));
    }
    let wrong = || {
        let problem = format!("{} has no bytes", shown(object));
        argument_type(object.py(), name, &problem, REMEDY)
    };
    // The bytes of a buffer whatever its items are: memoryview does the casting.
    let view = pyo3::types::PyMemoryView::from(object).map_err(|_| wrong())?;
    let flat = view.call_method0("tobytes")?;
    let copy = PyBuffer::<u8>::get(&flat).and_then(|buffer| buffer.to_vec(object.py()));
    copy.map(|bytes| Some(Cow::Owned(bytes)))
        .map_err(|_| wrong())
}

/// A header's name and value.
pub(crate) type Header = (String, Option<Vec<u8>>);

/// Headers from a dict or an iterable of pairs.
pub(crate) fn headers(object: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Header>> {
    const REMEDY: &str = "give a dict of str to bytes, str or None, or a list of such pairs";
    let Some(object) = object.filter(|object| !object.is_none()) else {
        return Ok(Vec::new());
    };
    let py = object.py();
    let wrong = |what: &Bound<'_, PyAny>| {
        argument_type(
            py,
            "headers",
            &format!("{} is no header", shown(what)),
            REMEDY,
        )
    };
    let mut found = Vec::new();
    let mut add = |name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>| -> PyResult<()> {
        let name = name.cast::<PyString>().map_err(|_| wrong(name))?;
        let value = bytes("headers", value)?.map(Cow::into_owned);
        found.push((name.to_str()?.to_string(), value));
        Ok(())
    };
    if let Ok(dict) = object.cast::<PyDict>() {
        for (name, value) in dict {
            add(&name, &value)?;
        }
        return Ok(found);
    }
    if object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>() {
        return Err(wrong(object));
    }
    for item in object.try_iter().map_err(|_| wrong(object))? {
        let item = item?;
        let pair = item
            .cast::<PyTuple>()
            .ok()
            .filter(|pair| pair.len() == 2)
            .ok_or_else(|| wrong(&item))?;
        add(&pair.get_item(0)?, &pair.get_item(1)?)?;
    }
    Ok(found)
}
