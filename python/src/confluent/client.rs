//! What stands behind a `Producer`: the engine's producer, the reports and events that were taken over and not told yet.
//!
//! Attached threads; waits detach. Callbacks run inside of [`Client::poll`], [`Client::flush`] and [`Client::wait_for`]. Always true: a
//! report that was taken is told, also when a callback before it raised; no lock is held while Python code runs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use parking_lot::Mutex;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use tidegate::{ClientEvent, Error, TaggedReport, TimestampType};

use super::conf::ProducerSettings;
use super::message::{Fields, Message};
use super::outstanding::{Entry, Outstanding};
use super::producer::CLOSED;
use super::types::{self, Flags};
use crate::lifecycle::Closes;
use crate::payload;
use crate::wait::{SLICE, slice_until};

pub(super) struct Client {
    pub(super) core: tidegate::Producer,
    pub(super) outstanding: Outstanding,
    /// Taken from the engine and not told yet.
    pub(super) reports: Mutex<VecDeque<TaggedReport>>,
    pub(super) events: Mutex<VecDeque<ClientEvent>>,
    /// What `reported()` of the engine was at the last poll.
    pub(super) seen: AtomicU64,
    pub(super) settings: ProducerSettings,
    /// `queue.buffering.max.messages`, over all that was not polled for.
    pub(super) most: usize,
    pub(super) queue_full_timeout: Duration,
    pub(super) closed: AtomicBool,
}

impl Closes for Client {
    fn close_at_exit(&self, timeout: Duration) {
        self.closed.store(true, Ordering::SeqCst);
        // Nobody is left to be told; the engine has logged it.
        let _ = self
            .core
            .close(timeout.saturating_sub(Duration::from_millis(500)));
    }
}

impl Client {
    pub(super) fn len(&self) -> usize {
        self.core.in_flight() + self.core.unread_reports() + self.reports.lock().len()
    }

    /// Runs the callbacks of what waits; how many. What a callback raises comes out, and the rest waits for the next call.
    pub(super) fn serve(&self, py: Python<'_>) -> PyResult<usize> {
        let mut count = 0;
        if self.settings.wants_events() {
            self.events.lock().extend(self.core.take_events());
            loop {
                let Some(event) = self.events.lock().pop_front() else {
                    break;
                };
                count += usize::from(self.tell_event(py, event)?);
            }
        }
        let mut taken = Vec::new();
        if self.core.take_reports(&mut taken) > 0 {
            self.reports.lock().extend(taken);
        }
        loop {
            let Some(report) = self.reports.lock().pop_front() else {
                return Ok(count);
            };
            count += 1;
            self.tell(py, &report)?;
        }
    }

    /// Tells all that waits, whatever callbacks raise: the last of it is kept for the end of the call.
    fn serve_all(&self, py: Python<'_>, raised: &mut Option<PyErr>) -> PyResult<()> {
        while let Err(error) = self.serve(py) {
            keep(py, raised, error)?;
        }
        Ok(())
    }

    fn tell(&self, py: Python<'_>, report: &TaggedReport) -> PyResult<()> {
        let Some(entry) = self.outstanding.take(report.tag) else {
            return Ok(());
        };
        self.call(py, entry, report)
    }

    fn call(&self, py: Python<'_>, entry: Entry, report: &TaggedReport) -> PyResult<()> {
        let error = match &report.outcome {
            Ok(()) if self.settings.only_errors => return Ok(()),
            Ok(()) => None,
            Err(code) => {
                Some(types::kafka_error(py, code.number(), None, Flags::default())?.unbind())
            }
        };
        let told = error
            .as_ref()
            .map_or_else(|| py.None(), |error| error.clone_ref(py));
        let message = Message::of(Fields {
            topic: Some(entry.topic.into_any()),
            partition: report.partition,
            offset: report.offset,
            key: entry.key,
            value: entry.value,
            error,
            timestamp_type: match report.timestamp_type {
                TimestampType::NotAvailable => 0,
                TimestampType::CreateTime => 1,
                TimestampType::LogAppendTime => 2,
            },
            timestamp_ms: report.timestamp_ms.unwrap_or(-1),
            latency_us: report.latency_us,
            leader_epoch: report.leader_epoch,
            ..Fields::default()
        });
        entry
            .callback
            .call1(py, (told, Bound::new(py, message)?))
            .map(drop)
    }

    /// False when nobody wanted to hear of it.
    fn tell_event(&self, py: Python<'_>, event: ClientEvent) -> PyResult<bool> {
        let settings = &self.settings;
        match event {
            ClientEvent::Error { code, reason } => {
                let Some(callback) = &settings.error_cb else {
                    return Ok(false);
                };
                let flags = Flags {
                    fatal: code.is_fatal(),
                    ..Flags::default()
                };
                let error = types::kafka_error(py, code.number(), Some(&reason), flags)?;
                callback.call1(py, (error,))?;
            }
            ClientEvent::Statistics(json) => {
                let Some(callback) = &settings.stats_cb else {
                    return Ok(false);
                };
                callback.call1(py, (json,))?;
            }
            ClientEvent::Throttle {
                broker,
                broker_id,
                throttle_ms,
            } => {
                let Some(callback) = &settings.throttle_cb else {
                    return Ok(false);
                };
                callback.call1(py, (types::throttle(py, broker, broker_id, throttle_ms)?,))?;
            }
            ClientEvent::Log {
                level,
                facility,
                message,
            } => {
                let Some(logger) = &settings.logger else {
                    return Ok(false);
                };
                // Python's levels for syslog's.
                let level = match level {
                    ..=2 => 50,
                    3 => 40,
                    4 => 30,
                    5 | 6 => 20,
                    _ => 10,
                };
                let line = (level, "%s [%s] %s", facility, "tidegate#producer", message);
                logger.call_method1(py, intern!(py, "log"), line)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Waits for something to tell and tells it: how much.
    pub(super) fn poll(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<usize> {
        loop {
            let seen = self.core.reported();
            let told = self.serve(py)?;
            // Records without a callback are events too.
            let others = seen != self.seen.swap(seen, Ordering::SeqCst);
            let slice = slice_until(deadline);
            if told > 0 || others || slice.is_zero() || self.closed.load(Ordering::SeqCst) {
                return Ok(told.max(usize::from(others)));
            }
            py.detach(|| self.core.wait_reports(seen, slice, false))
                .map_err(|error| types::raise(py, &error, CLOSED))?;
            py.check_signals()?;
        }
    }

    /// Tells reports until nothing is left to be told, or the time is over. What callbacks raise comes after that, the last of it; a
    /// KeyboardInterrupt at once.
    pub(super) fn flush(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<usize> {
        let mut raised = None;
        loop {
            let seen = self.core.reported();
            self.serve_all(py, &mut raised)?;
            self.seen.store(seen, Ordering::SeqCst);
            let left = self.len();
            let slice = slice_until(deadline);
            if left == 0 || slice.is_zero() {
                return raised.map_or(Ok(left), Err);
            }
            py.detach(|| self.core.wait_reports(seen, slice, true))
                .map_err(|error| types::raise(py, &error, CLOSED))?;
            py.check_signals()?;
        }
    }

    /// Runs a call of the engine that waits, and tells reports meanwhile; what callbacks raise comes after it. A KeyboardInterrupt leaves
    /// it to finish alone.
    pub(super) fn wait_for<T: Send + 'static>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&tidegate::Producer) -> tidegate::Result<T> + Send + 'static,
    ) -> PyResult<T> {
        let (sender, receiver) = bounded(1);
        let core = self.core.clone();
        thread::Builder::new()
            .name("tidegate-call".into())
            .spawn(move || {
                let result = call(&core);
                // Before anybody hears of it, so that theirs is the last handle.
                drop(core);
                let _ = sender.send(result);
            })
            .map_err(|failure| PyRuntimeError::new_err(format!("no thread: {failure}")))?;
        let mut raised = None;
        loop {
            match py.detach(|| receiver.recv_timeout(SLICE)) {
                Ok(result) => {
                    self.serve_all(py, &mut raised)?;
                    let value = result.map_err(|error| raise(py, &error))?;
                    return raised.map_or(Ok(value), Err);
                }
                Err(RecvTimeoutError::Timeout) => {
                    py.check_signals()?;
                    self.serve_all(py, &mut raised)?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(PyRuntimeError::new_err("the call ended without an answer"));
                }
            }
        }
    }

    pub(super) fn entry(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyString>,
        callback: &Py<PyAny>,
        key: Option<&Bound<'_, PyAny>>,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Entry> {
        Ok(Entry {
            topic: topic.clone().unbind(),
            callback: callback.clone_ref(py),
            key: kept(key)?,
            value: kept(value)?,
        })
    }
}

/// The object that a report gives back: bytes as they are, anything else as the bytes that were sent.
fn kept(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
    let Some(object) = object else {
        return Ok(None);
    };
    if object.is_exact_instance_of::<PyBytes>() {
        return Ok(Some(object.clone().unbind()));
    }
    let bytes = payload::bytes("value", object)?;
    Ok(bytes.map(|bytes| PyBytes::new(object.py(), &bytes).into_any().unbind()))
}

/// Keeps what a callback raised for the end of a call that is to be finished first; a KeyboardInterrupt ends that at once.
pub(super) fn keep(py: Python<'_>, raised: &mut Option<PyErr>, error: PyErr) -> PyResult<()> {
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    *raised = Some(error);
    Ok(())
}

/// The exception for an error of the engine, with what librdkafka said of a transaction.
pub(super) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let Error::Kafka { code, context } = error else {
        return types::raise(py, error, CLOSED);
    };
    let flags = Flags {
        fatal: code.is_fatal(),
        retriable: code.is_retriable(),
        txn_requires_abort: code.requires_abort(),
    };
    match types::kafka_error(py, code.number(), Some(context), flags) {
        Ok(error) => types::exception(py, error),
        Err(failure) => failure,
    }
}
