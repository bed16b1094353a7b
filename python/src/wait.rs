//! Waiting without holding the interpreter, and with an ear for Ctrl-C.
//!
//! Python runs signal handlers on the main thread between two instructions only, so a wait is cut into slices and looks for
//! signals between them. A slice takes nothing out of the engine: what a wait was for is taken after the look, attached,
//! so that a KeyboardInterrupt never finds a record on its way.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The longest time between two looks for signals.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// What is left until a deadline, at most a slice.
pub(crate) fn slice_until(deadline: Option<Instant>) -> Duration {
    match deadline {
        None => SLICE,
        Some(deadline) => SLICE.min(deadline.saturating_duration_since(Instant::now())),
    }
}

/// The deadline of a timeout; `None` where there is none.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

/// Runs a call that waits by itself and cannot be cut into slices. On the main thread another thread does the waiting,
/// and a KeyboardInterrupt leaves it to finish alone; elsewhere no signal handler would run anyway.
pub(crate) fn blocking<T: Send + 'static>(
    py: Python<'_>,
    call: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    if !is_main_thread(py)? {
        return Ok(py.detach(call));
    }
    let (sender, receiver) = bounded(1);
    let started = thread::Builder::new()
        .name("tidegate-call".into())
        .spawn(move || {
            // Nobody receives after a KeyboardInterrupt.
            let _ = sender.send(call());
        });
    if let Err(failure) = started {
        return Err(pyo3::exceptions::PyRuntimeError::new_err(format!(
            "no thread could be started: {failure}"
        )));
    }
    loop {
        match py.detach(|| receiver.recv_timeout(SLICE)) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(pyo3::exceptions::PyRuntimeError::new_err(
                    "the call ended in a panic; please report this",
                ));
            }
        }
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    static FUNCTIONS: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();
    let (main_thread, get_ident) = FUNCTIONS.get_or_try_init(py, || {
        let threading = py.import("threading")?;
        let main_thread = threading.getattr("main_thread")?.unbind();
        PyResult::Ok((main_thread, threading.getattr("get_ident")?.unbind()))
    })?;
    let main = main_thread.bind(py).call0()?.getattr("ident")?;
    main.eq(get_ident.bind(py).call0()?)
}
