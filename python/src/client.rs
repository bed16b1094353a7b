//! What is behind a `Consumer`: the engine's consumer, shared with the threads that wait for it, and how its polling calls
//! wait.
//!
//! A polling call first looks, attached and without waiting, at what is at hand: that is the whole cost of most polls. Only
//! when there is nothing it detaches and waits in slices (see `wait`). Always true: what was taken out of the engine is
//! returned, or put back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use tidegate::Error;

use crate::args::Seconds;
use crate::batch::RecordBatch;
use crate::callbacks::Callbacks;
use crate::errors::raise;
use crate::lifecycle::Closes;
use crate::record::Record;
use crate::token::TokenFunction;
use crate::wait::{deadline, slice_until};

/// The word for this handle in errors.
pub(crate) const WHAT: &str = "consumer";

/// Shared with the threads that wait for it.
pub(crate) struct Client {
    pub(crate) core: Arc<tidegate::Consumer>,
    pub(crate) callbacks: Arc<Callbacks>,
    pub(crate) tokens: Arc<TokenFunction>,
    pub(crate) woken: AtomicBool,
    pub(crate) closed: AtomicBool,
    /// A polling call waits: the engine sees each of its slices as a call of its own, and no other may come in between.
    waiting: AtomicBool,
}

/// Ends `waiting`.
struct Waiting<'c>(&'c AtomicBool);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Client {
    pub(crate) fn new(core: tidegate::Consumer, tokens: Arc<TokenFunction>) -> Client {
        Client {
            core: Arc::new(core),
            callbacks: Arc::default(),
            tokens,
            woken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
        }
    }

    pub(crate) fn close(&self, timeout: Duration) -> tidegate::Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        self.core.close(timeout)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// What a polling call does after it has looked at what is at hand: waits, a slice at a time, until `records` records
    /// could be taken, and takes them; when the time is over it takes what there is.
    pub(crate) fn wait<T>(
        &self,
        py: Python<'_>,
        timeout: Seconds,
        records: usize,
        take: impl Fn() -> tidegate::Result<Option<T>>,
    ) -> PyResult<Option<T>> {
        if self.waiting.swap(true, Ordering::SeqCst) {
            return Err(concurrent(py));
        }
        let _waiting = Waiting(&self.waiting);
        let deadline = deadline(timeout.duration());
        let take = || take().map_err(|error| self.callbacks.raise(py, &error));
        loop {
            if self.woken.swap(false, Ordering::SeqCst) || self.is_closed() {
                // A batch that was not full yet is given as it is.
                return if records > 1 && !self.is_closed() {
                    take()
                } else {
                    Ok(None)
                };
            }
            let slice = slice_until(deadline);
            if slice.is_zero() {
                return if records > 1 { take() } else { Ok(None) };
            }
            let ready = match py.detach(|| self.core.wait_ready(Some(slice), records)) {
                // Closed between two slices: as if it had been within one.
                Err(Error::Closed { .. }) if self.is_closed() => continue,
                ready => ready.map_err(|error| self.callbacks.raise(py, &error))?,
            };
            py.check_signals()?;
            if ready && let Some(item) = take()? {
                return Ok(Some(item));
            }
        }
    }

    /// Refuses a polling call while another one waits.
    #[inline]
    fn alone(&self, py: Python<'_>) -> PyResult<()> {
        if self.waiting.load(Ordering::Relaxed) {
            return Err(concurrent(py));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn poll(&self, py: Python<'_>, timeout: Seconds) -> PyResult<Option<Record>> {
        self.alone(py)?;
        match self.core.poll(Some(Duration::ZERO)) {
            Ok(Some(record)) => Ok(Some(Record::new(record))),
            Ok(None) => {
                let record = self.wait(py, timeout, 1, || self.core.poll(Some(Duration::ZERO)))?;
                if record.is_some() {
                    self.hear_signals(py, None)?;
                }
                Ok(record.map(Record::new))
            }
            Err(error) => Err(self.callbacks.raise(py, &error)),
        }
    }

    /// The last look before something is returned: a signal that came while it was taken must not cost it.
    pub(crate) fn hear_signals(
        &self,
        py: Python<'_>,
        lease: Option<&tidegate::RecordBatch>,
    ) -> PyResult<()> {
        py.check_signals()
            .inspect_err(|_| self.core.put_back(lease))
    }

    /// A polling call that gives a batch by `take`, which does not wait.
    pub(crate) fn batch(
        &self,
        py: Python<'_>,
        timeout: Seconds,
        lease: bool,
        take: impl Fn() -> tidegate::Result<Option<tidegate::RecordBatch>>,
    ) -> PyResult<Option<RecordBatch>> {
        self.alone(py)?;
        let batch = match take() {
            Ok(Some(batch)) => Some(batch),
            Ok(None) => self.wait(py, timeout, 1, take)?,
            Err(error) => return Err(self.callbacks.raise(py, &error)),
        };
        if let Some(batch) = &batch {
            self.hear_signals(py, lease.then_some(batch))?;
        }
        Ok(batch.map(RecordBatch::from))
    }
}

impl Closes for Client {
    fn close_at_exit(&self, timeout: Duration) {
        // Nobody is left to be told; the engine has logged it.
        let _ = self.close(timeout);
    }
}

#[cold]
fn concurrent(py: Python<'_>) -> PyErr {
    raise(py, &Error::ConcurrentUse { what: WHAT })
}
