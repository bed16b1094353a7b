//! The iterator behind `Consumer.batches()`.

use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::args::Seconds;
use crate::batch::RecordBatch;
use crate::consumer::Consumer;

/// Iterates over the batches of a consumer.
#[pyclass(frozen, module = "tidegate._core")]
pub(crate) struct BatchIterator {
    consumer: Py<Consumer>,
}

impl BatchIterator {
    pub(crate) fn new(consumer: Py<Consumer>) -> BatchIterator {
        BatchIterator { consumer }
    }
}

#[pymethods]
impl BatchIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<RecordBatch>> {
        let client = self.consumer.get().client(py)?;
        loop {
            let next = client.batch(py, Seconds::FOREVER, false, || {
                client.core.next_batch(Some(Duration::ZERO), None)
            });
            match next {
                Ok(Some(batch)) => return Ok(Some(batch)),
                Ok(None) if !client.is_closed() => {}
                Ok(None) => return Ok(None),
                Err(_) if client.is_closed() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.consumer)
    }
}
