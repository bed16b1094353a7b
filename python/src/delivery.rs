//! Delivery reports on their way to Python.
//!
//! The engine's delivery thread never waits for the interpreter: it queues what a callback has to hear, and one thread per
//! producer ("tidegate-reports", started by the first callback) runs the callbacks, as many as wait each time it is
//! attached. A busy Python thread gives the interpreter away every few milliseconds only; one attachment per report would
//! make it some two hundred reports a second.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::errors::instance;
use crate::lifecycle::with_python;
use crate::{log, strings};

/// Where and when a record was delivered. Immutable; any thread.
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct Delivery {
    inner: tidegate::Delivery,
}

#[pymethods]
impl Delivery {
    /// The topic's name.
    #[getter]
    fn topic(&self, py: Python<'_>) -> Py<PyString> {
        strings::topic(py, &self.inner.topic)
    }

    /// The partition it went to.
    #[getter]
    fn partition(&self) -> i32 {
        self.inner.partition
    }

    /// Its offset there; -1 with `acks=0`, where the broker does not tell.
    #[getter]
    fn offset(&self) -> i64 {
        self.inner.offset
    }

    /// Its timestamp in milliseconds since 1970, or None.
    #[getter]
    fn timestamp_ms(&self) -> Option<i64> {
        self.inner.timestamp_ms
    }

    /// Microseconds from `send` to the broker's confirmation.
    #[getter]
    fn latency_us(&self) -> u64 {
        self.inner.latency_us
    }

    fn __repr__(&self) -> String {
        format!(
            "<tidegate.Delivery {} [{}] offset {}>",
            self.inner.topic, self.inner.partition, self.inner.offset
        )
    }
}

struct Report {
    callback: Py<PyAny>,
    outcome: tidegate::Result<tidegate::Delivery>,
}

/// Callbacks promised and not run yet.
#[derive(Default)]
struct Outstanding {
    count: AtomicUsize,
    lock: Mutex<()>,
    fewer: Condvar,
}

impl Outstanding {
    fn subtract(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::SeqCst);
        // A waiter holds the lock from its look at the count until it sleeps.
        drop(self.lock.lock());
        self.fewer.notify_all();
    }
}

/// The reports of one producer.
#[derive(Default)]
pub(crate) struct Reports {
    queue: OnceLock<Option<(Sender<Report>, ThreadId)>>,
    outstanding: Arc<Outstanding>,
}

/// A callback promised to one record; if it is dropped unused, the record was not accepted.
pub(crate) struct Promise {
    callback: Option<Py<PyAny>>,
    queue: Sender<Report>,
    outstanding: Arc<Outstanding>,
}

impl Promise {
    /// The record's fate is known: the callback is queued.
    pub(crate) fn settle(mut self, outcome: tidegate::Result<tidegate::Delivery>) {
        if let Some(callback) = self.callback.take()
            && self.queue.send(Report { callback, outcome }).is_err()
        {
            // The thread ended with the interpreter.
            self.outstanding.subtract(1);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.callback.is_some() {
            self.outstanding.subtract(1);
        }
    }
}

impl Reports {
    /// Promises a callback; `None` when its thread cannot be started.
    pub(crate) fn promise(&self, callback: Py<PyAny>) -> Option<Promise> {
        let (queue, _) = self
            .queue
            .get_or_init(|| {
                let (sender, receiver) = unbounded();
                let outstanding = Arc::clone(&self.outstanding);
                let thread = thread::Builder::new()
                    .name("tidegate-reports".into())
                    .spawn(move || run_callbacks(&receiver, &outstanding))
                    .ok()?;
                Some((sender, thread.thread().id()))
            })
            .as_ref()?;
        self.outstanding.count.fetch_add(1, Ordering::SeqCst);
        Some(Promise {
            callback: Some(callback),
            queue: queue.clone(),
            outstanding: Arc::clone(&self.outstanding),
        })
    }

    /// Callbacks promised and not run yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.count.load(Ordering::SeqCst)
    }

    /// True inside of a callback.
    pub(crate) fn is_own_thread(&self) -> bool {
        matches!(self.queue.get(), Some(Some((_, id))) if *id == thread::current().id())
    }

    /// Waits, not attached, until at most `most` callbacks are outstanding; false when `timeout` is over first.
    pub(crate) fn wait(&self, most: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut guard = self.outstanding.lock.lock();
        while self.outstanding() > most {
            if self
                .outstanding
                .fewer
                .wait_until(&mut guard, deadline)
                .timed_out()
            {
                return self.outstanding() <= most;
            }
        }
        true
    }
}

/// The life of the thread: it ends with the producer and its last report.
fn run_callbacks(receiver: &Receiver<Report>, outstanding: &Outstanding) {
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        let attached = with_python(|py| {
            while let Some(report) = next.take() {
                run_one(py, report);
                outstanding.subtract(1);
                next = receiver.try_recv().ok();
            }
        });
        if attached.is_none() {
            // The interpreter is going: nobody hears of what is left, and nobody may wait for it.
            outstanding.subtract(1);
            while receiver.try_recv().is_ok() {
                outstanding.subtract(1);
            }
            return;
        }
    }
}

fn run_one(py: Python<'_>, report: Report) {
    let arguments = match report.outcome {
        Ok(delivery) => Bound::new(py, Delivery { inner: delivery })
            .and_then(|delivery| PyTuple::new(py, [py.None().into_bound(py), delivery.into_any()])),
        Err(error) => instance(py, &error)
            .and_then(|error| PyTuple::new(py, [error, py.None().into_bound(py)])),
    };
    if let Err(raised) = arguments.and_then(|arguments| report.callback.call1(py, arguments)) {
        tell(py, &report.callback, &raised);
    }
}

/// An exception in a callback has no caller to go to: it is logged with its traceback; without a log sink it goes to
/// `sys.unraisablehook`.
fn tell(py: Python<'_>, callback: &Py<PyAny>, raised: &PyErr) {
    if !log::is_set() {
        raised
            .clone_ref(py)
            .write_unraisable(py, Some(callback.bind(py)));
        return;
    }
    let traceback = raised
        .traceback(py)
        .and_then(|traceback| traceback.format().ok())
        .unwrap_or_default();
    log::error(
        format!("on_delivery raised {raised}\n{traceback}")
            .trim_end()
            .to_string(),
    );
}
