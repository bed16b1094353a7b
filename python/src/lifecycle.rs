//! The interpreter's life as the engine's threads see it: its end, forks, and what is still open at either.
//!
//! Always true: once [`at_exit`] has returned no thread of ours calls into Python any more; a handle made before a fork is
//! recognised in the child by a number, before any lock is touched whose owner may not exist there.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tidegate::Error;

use crate::errors::raise;
use crate::log;

/// Everything that is open at exit gets so long to close, together.
const CLOSE_AT_EXIT: Duration = Duration::from_secs(5);
/// A callback of the application that still runs at exit gets so long to return.
const CALLBACKS_AT_EXIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Grows in a forked child.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// No thread may attach any more.
static ENDING: AtomicBool = AtomicBool::new(false);
/// Threads inside [`with_python`].
static ATTACHED: AtomicUsize = AtomicUsize::new(0);

/// The process that made a handle.
#[derive(Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Process {
        Process(FORKS.load(Ordering::Relaxed))
    }

    /// True in a child forked after the handle was made.
    #[inline]
    pub(crate) fn is_other(self) -> bool {
        self.0 != FORKS.load(Ordering::Relaxed)
    }

    /// `ForkedError` in such a child.
    #[inline]
    pub(crate) fn check(self, py: Python<'_>, what: &'static str) -> PyResult<()> {
        if self.is_other() {
            return Err(raise(py, &Error::Forked { what }));
        }
        Ok(())
    }
}

/// Runs `call` with the interpreter attached, on any thread; `None` when the interpreter is going or gone.
pub(crate) fn with_python<T>(call: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            ATTACHED.fetch_sub(1, Ordering::SeqCst);
        }
    }
    // Counted first, asked second: at_exit does it the other way round, so that one of the two sees the other.
    ATTACHED.fetch_add(1, Ordering::SeqCst);
    let _leave = Leave;
    if ENDING.load(Ordering::SeqCst) {
        return None;
    }
    Python::try_attach(call)
}

/// Drops what waits when it is dropped (a client that leaves its group) without holding the interpreter meanwhile: the
/// threads it waits for may want to run a callback first.
pub(crate) fn drop_detached<T: Send>(value: T) {
    let mut value = Some(value);
    let dropped = Python::try_attach(|py| {
        let value = value.take();
        py.detach(move || drop(value));
    });
    if dropped.is_none() {
        // The interpreter is gone, and with it everybody who could wait for this.
        std::mem::forget(value);
    }
}

/// What is closed at exit if the application did not.
pub(crate) trait Closes: Send + Sync {
    /// Closes within `timeout`; not attached.
    fn close_at_exit(&self, timeout: Duration);
}

static OPEN: Mutex<Vec<Weak<dyn Closes>>> = Mutex::new(Vec::new());

/// Remembers a client until it is dropped.
pub(crate) fn remember(client: Weak<dyn Closes>) {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|client| client.strong_count() > 0);
    open.push(client);
}

/// Closes every client that is still open, side by side, and ends all calls into Python. Bounded in time; run once by
/// `atexit`, on the main thread.
#[pyfunction]
#[pyo3(name = "_at_exit")]
pub(crate) fn at_exit(py: Python<'_>) {
    py.detach(|| {
        let deadline = Instant::now() + CLOSE_AT_EXIT;
        let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
        let closing: Vec<_> = open
            .iter()
            .filter_map(Weak::upgrade)
            .map(|client| thread::spawn(move || client.close_at_exit(CLOSE_AT_EXIT)))
            .collect();
        while Instant::now() < deadline && closing.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(LOOK_EVERY);
        }
        log::drain();
        ENDING.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + CALLBACKS_AT_EXIT;
        while ATTACHED.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            thread::sleep(LOOK_EVERY);
        }
    });
}

/// Run by `os.register_at_fork` in the child: what the parent made is the parent's.
#[pyfunction]
#[pyo3(name = "_after_fork_in_child")]
pub(crate) fn after_fork_in_child(py: Python<'_>) {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // Threads that were inside at the fork are not here to leave.
    ATTACHED.store(0, Ordering::SeqCst);
    if let Ok(mut open) = OPEN.try_lock() {
        std::mem::take(&mut *open)
            .into_iter()
            .for_each(std::mem::forget);
    }
    log::restart(py);
}

/// A handle's inner part and the process it was made in. Dropping it in a forked child does nothing.
pub(crate) struct Owned<T: Send + Sync> {
    inner: Option<Arc<T>>,
    process: Process,
}

impl<T: Send + Sync> Owned<T> {
    pub(crate) fn new(inner: Arc<T>) -> Owned<T> {
        Owned {
            inner: Some(inner),
            process: Process::current(),
        }
    }

    /// The inner part, if this is the process that made it.
    #[inline]
    pub(crate) fn get(&self, py: Python<'_>, what: &'static str) -> PyResult<&Arc<T>> {
        self.process.check(py, what)?;
        self.inner
            .as_ref()
            .ok_or_else(|| raise(py, &Error::Closed { what }))
    }

    pub(crate) fn is_other_process(&self) -> bool {
        self.process.is_other()
    }

    /// The inner part without a look at the process: for what is safe in a forked child.
    pub(crate) fn peek(&self) -> Option<&Arc<T>> {
        self.inner.as_ref()
    }
}

impl<T: Send + Sync> Drop for Owned<T> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            if self.process.is_other() {
                std::mem::forget(inner);
            } else {
                drop_detached(inner);
            }
        }
    }
}
