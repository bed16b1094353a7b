//! Batches as Arrow data: the PyCapsule interface, which pyarrow, polars, duckdb and the like read, and pyarrow's own type.
//!
//! A capsule holds the C struct of the Arrow C data interface until somebody takes what is in it, and releases it if nobody
//! does. What was exported keeps the batch's memory; it may be released on any thread, without the interpreter.

use std::ffi::CStr;

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, RecordBatchIterator, StructArray};
use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use tidegate::RecordBatch;

use crate::errors::OrRaise;

/// The names that the interface asks for.
const SCHEMA_CAPSULE: &CStr = c"arrow_schema";
const ARRAY_CAPSULE: &CStr = c"arrow_array";
const STREAM_CAPSULE: &CStr = c"arrow_array_stream";

/// The columns of every batch.
pub(crate) fn schema_capsule(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    let schema = FFI_ArrowSchema::try_from(tidegate::arrow::schema().as_ref())
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    PyCapsule::new_with_value(py, schema, SCHEMA_CAPSULE)
}

/// The columns and the rows, as a struct.
pub(crate) fn capsules<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    let rows = StructArray::from(batch.to_arrow().or_raise(py)?);
    let array = FFI_ArrowArray::new(&rows.into_data());
    let array = PyCapsule::new_with_value(py, array, ARRAY_CAPSULE)?;
    Ok((schema_capsule(py)?, array))
}

/// A stream of this one batch: what reads tables asks for a stream.
pub(crate) fn stream_capsule<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
) -> PyResult<Bound<'py, PyCapsule>> {
    let rows = batch.to_arrow().or_raise(py)?;
    let reader = RecordBatchIterator::new([Ok(rows)], tidegate::arrow::schema());
    let stream = FFI_ArrowArrayStream::new(Box::new(reader));
    PyCapsule::new_with_value(py, stream, STREAM_CAPSULE)
}

/// A `pyarrow.RecordBatch` of a batch, which is given as its Python object.
pub(crate) fn to_pyarrow<'py>(batch: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = batch.py();
    let pyarrow = py.import("pyarrow").map_err(|cause| {
        let error = PyImportError::new_err(
            "to_arrow() needs pyarrow, which is not installed; pip install 'tidegate[arrow]'",
        );
        error.set_cause(py, Some(cause));
        error
    })?;
    pyarrow.call_method1("record_batch", (batch,))
}
