//! Columns of a batch as Python buffers: no copy, read-only, valid for as long as Python holds them.

use std::ffi::{CStr, c_int, c_void};

use pyo3::exceptions::{PyBufferError, PyIndexError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyMemoryView, PySlice};
use tidegate::RecordBatch;

use crate::batch::row_of;
use crate::errors::argument;

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Offsets,
    Partitions,
    Timestamps,
}

/// One number of each record of a batch.
///
/// A sequence of int, and a read-only buffer over the batch's own memory: `memoryview(column)`, `numpy.asarray(column)`,
/// `array.array`, `struct` and the like take it without a copy. Format "q" (64 bit) for offsets and timestamps, "i" (32 bit)
/// for partitions. It keeps the memory of its batch. Any thread.
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct Column {
    batch: RecordBatch,
    kind: Kind,
    /// What a view points to: one dimension of so many items, so many bytes apart.
    shape: [ffi::Py_ssize_t; 1],
    strides: [ffi::Py_ssize_t; 1],
}

impl Column {
    pub(crate) fn new(batch: RecordBatch, kind: Kind) -> Column {
        let item = match kind {
            Kind::Offsets | Kind::Timestamps => size_of::<i64>(),
            Kind::Partitions => size_of::<i32>(),
        };
        Column {
            // A column of more bytes than isize::MAX cannot be in memory.
            shape: [batch.len().cast_signed()],
            strides: [item.cast_signed()],
            batch,
            kind,
        }
    }

    fn get(&self, row: usize) -> i64 {
        match self.kind {
            Kind::Offsets => self.batch.offsets()[row],
            Kind::Timestamps => self.batch.timestamps_ms()[row],
            Kind::Partitions => self.batch.partitions()[row].into(),
        }
    }

    fn format(&self) -> &'static CStr {
        match self.kind {
            Kind::Offsets | Kind::Timestamps => c"q",
            Kind::Partitions => c"i",
        }
    }

    fn address(&self) -> *const c_void {
        match self.kind {
            Kind::Offsets => self.batch.offsets().as_ptr().cast(),
            Kind::Timestamps => self.batch.timestamps_ms().as_ptr().cast(),
            Kind::Partitions => self.batch.partitions().as_ptr().cast(),
        }
    }
}

#[pymethods]
impl Column {
    fn __len__(&self) -> usize {
        self.batch.len()
    }

    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = index.py();
        if let Ok(slice) = index.cast::<PySlice>() {
            let indices = slice.indices(self.batch.len().cast_signed())?;
            if indices.step != 1 {
                let problem = format!("a slice with step {} has no buffer", indices.step);
                return Err(argument(py, "index", &problem, "use list(column)[...]"));
            }
            let rows = crate::batch::rows_of(&indices);
            return Ok(Bound::new(py, Column::new(self.batch.slice(rows), self.kind))?.into_any());
        }
        let row = row_of(index, self.batch.len())?;
        Ok(self.get(row).into_pyobject(py)?.into_any())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.tolist(py)?.try_iter()?.into_any())
    }

    fn __contains__(&self, value: &Bound<'_, PyAny>) -> bool {
        value
            .extract::<i64>()
            .is_ok_and(|value| (0..self.batch.len()).any(|row| self.get(row) == value))
    }

    /// The numbers as a list of int.
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        match self.kind {
            Kind::Offsets => PyList::new(py, self.batch.offsets()),
            Kind::Timestamps => PyList::new(py, self.batch.timestamps_ms()),
            Kind::Partitions => PyList::new(py, self.batch.partitions()),
        }
    }

    fn __repr__(&self) -> String {
        let name = match self.kind {
            Kind::Offsets => "offsets",
            Kind::Timestamps => "timestamps_ms",
            Kind::Partitions => "partitions",
        };
        format!("<tidegate.Column of {} {name}>", self.batch.len())
    }

    /// A memoryview of the column, as the buffer protocol gives it from Python 3.12 on (PEP 688).
    fn __buffer__<'py>(
        slf: &Bound<'py, Self>,
        flags: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        let _ = flags;
        PyMemoryView::from(slf)
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("a column of a batch is read-only"));
        }
        let column = slf.get();
        let item = column.strides[0];
        let address = column.address().cast_mut();
        let shape = column.shape.as_ptr().cast_mut();
        let strides = column.strides.as_ptr().cast_mut();
        let asked = |flag: c_int| flags & flag == flag;
        let format = if asked(ffi::PyBUF_FORMAT) {
            column.format().as_ptr().cast_mut()
        } else {
            std::ptr::null_mut()
        };
        let length = column.shape[0] * item;
        // SAFETY: `view` is CPython's, not null, and ours to fill. The numbers lie in a batch that `column` keeps, which never
        // changes it; `shape` and `strides` lie in `column` itself, a frozen Python object that does not move. `view.obj`
        // holds a reference to it until the view is released. The view says read-only, so the pointers are never written
        // through although their types would allow it.
        unsafe {
            (*view).buf = address;
            (*view).len = length;
            (*view).itemsize = item;
            (*view).readonly = 1;
            (*view).format = format;
            (*view).ndim = 1;
            (*view).shape = if asked(ffi::PyBUF_ND) {
                shape
            } else {
                std::ptr::null_mut()
            };
            (*view).strides = if asked(ffi::PyBUF_STRIDES) {
                strides
            } else {
                std::ptr::null_mut()
            };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = std::ptr::null_mut();
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }
}

/// The error for an index that is not there.
pub(crate) fn out_of_range(length: usize) -> PyErr {
    PyIndexError::new_err(format!("index out of range: there are {length} rows"))
}
