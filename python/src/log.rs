//! Log lines on their way to Python.
//!
//! Lines come from every thread of the engine. None of them waits for the interpreter: they are queued, and one thread of
//! their own ("tidegate-log") hands them to the sink. A full queue drops lines and says how many.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::RwLock;
use pyo3::prelude::*;
use tidegate::log::{Level, TIDEGATE, clear_sink, set_sink};

use crate::args::callable;
use crate::lifecycle::with_python;

/// Lines that wait for the interpreter.
const QUEUE: usize = 10_000;
/// At exit, and when the sink is replaced, waiting lines get so long to be written.
const DRAIN: Duration = Duration::from_millis(500);
/// A lock whose owner did not come along through a fork is waited for so long.
const FORK_LOCK: Duration = Duration::from_millis(100);

struct Line {
    level: Level,
    target: String,
    message: String,
}

enum Item {
    Line(Line),
    /// Everything before this was written when the sender is dropped.
    Mark(#[allow(dead_code, reason = "only its drop is waited for")] Sender<()>),
}

/// One sink and its queue. The thread is started by the first line.
struct Route {
    sink: Arc<Py<PyAny>>,
    queue: OnceLock<Option<Sender<Item>>>,
    dropped: Arc<AtomicU64>,
}

static ROUTE: RwLock<Option<Arc<Route>>> = RwLock::new(None);
static INSTALLED: AtomicBool = AtomicBool::new(false);

impl Route {
    fn new(sink: Arc<Py<PyAny>>) -> Arc<Route> {
        Arc::new(Route {
            sink,
            queue: OnceLock::new(),
            dropped: Arc::default(),
        })
    }

    fn queue(&self) -> Option<&Sender<Item>> {
        self.queue
            .get_or_init(|| {
                let (sender, receiver) = bounded(QUEUE);
                let sink = Arc::clone(&self.sink);
                let dropped = Arc::clone(&self.dropped);
                thread::Builder::new()
                    .name("tidegate-log".into())
                    .spawn(move || write_lines(&receiver, &sink, &dropped))
                    .ok()
                    .map(|_| sender)
            })
            .as_ref()
    }

    fn put(&self, line: Line) {
        let full = self.queue().is_some_and(|queue| {
            matches!(queue.try_send(Item::Line(line)), Err(TrySendError::Full(_)))
        });
        if full {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the lines so far are written, bounded.
    fn drain(&self) {
        let Some(Some(queue)) = self.queue.get() else {
            return;
        };
        let (mark, written) = bounded(0);
        if queue.send_timeout(Item::Mark(mark), DRAIN).is_ok() {
            let _ = written.recv_timeout(DRAIN);
        }
    }
}

/// The life of the log thread: it ends with its route.
fn write_lines(receiver: &Receiver<Item>, sink: &Py<PyAny>, dropped: &AtomicU64) {
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        // Attached once for all the lines that wait.
        let attached = with_python(|py| {
            while let Some(item) = next.take() {
                match item {
                    Item::Line(line) => write(py, sink, &line),
                    Item::Mark(mark) => drop(mark),
                }
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let line = Line {
                        level: Level::Warn,
                        target: TIDEGATE.into(),
                        message: format!(
                            "{lost} log lines came faster than they could be written and are lost"
                        ),
                    };
                    write(py, sink, &line);
                }
                next = receiver.try_recv().ok();
            }
        });
        if attached.is_none() {
            return;
        }
    }
}

/// A sink that raises is ignored: there is nowhere left to report it.
fn write(py: Python<'_>, sink: &Py<PyAny>, line: &Line) {
    let _ = sink.call1(py, (number(line.level), &line.target, &line.message));
}

/// The numbers of Python's `logging`.
fn number(level: Level) -> i32 {
    match level {
        Level::Error => 40,
        Level::Warn => 30,
        Level::Info => 20,
        Level::Debug => 10,
        Level::Trace => 5,
    }
}

/// Send the engine's and librdkafka's log lines to `sink(level, target, message)` from now on; None: nowhere.
///
/// `level` is a number of `logging` (5 for trace), `target` is "tidegate" or "librdkafka", `message` is the text as it is:
/// never use it as a format. The sink is called on one background thread, in the order of the lines, soon after they were
/// written; what it raises is ignored. When lines come faster than it takes them, some are lost, and a line says how many.
/// After the interpreter has begun to end it is not called any more.
///
/// Importing `tidegate` sets a sink that writes to loguru where it is installed, else to `logging`.
///
/// Raises:
///     ArgumentTypeError: `sink` cannot be called.
#[pyfunction]
#[pyo3(signature = (sink))]
pub(crate) fn set_log_sink(py: Python<'_>, sink: &Bound<'_, PyAny>) -> PyResult<()> {
    let sink = callable("sink", Some(sink))?;
    let route = sink.map(|sink| Route::new(Arc::new(sink)));
    let listening = route.is_some();
    let earlier = std::mem::replace(&mut *ROUTE.write(), route);
    if let Some(earlier) = earlier {
        py.detach(|| earlier.drain());
    }
    if !listening {
        if INSTALLED.swap(false, Ordering::SeqCst) {
            clear_sink();
        }
    } else if !INSTALLED.swap(true, Ordering::SeqCst) {
        set_sink(Box::new(|level, target, message| {
            let route = ROUTE
                .try_read_for(FORK_LOCK)
                .and_then(|route| route.clone());
            if let Some(route) = route {
                route.put(Line {
                    level,
                    target: target.to_string(),
                    message: message.to_string(),
                });
            }
        }));
    }
    Ok(())
}

/// One line of the module's own.
pub(crate) fn error(message: String) {
    let route = ROUTE
        .try_read_for(FORK_LOCK)
        .and_then(|route| route.clone());
    if let Some(route) = route {
        route.put(Line {
            level: Level::Error,
            target: TIDEGATE.into(),
            message,
        });
    }
}

/// True when lines go somewhere.
pub(crate) fn is_set() -> bool {
    ROUTE
        .try_read_for(FORK_LOCK)
        .is_some_and(|route| route.is_some())
}

/// Waits, bounded, until what was logged so far is written. Not attached.
pub(crate) fn drain() {
    let route = ROUTE
        .try_read_for(FORK_LOCK)
        .and_then(|route| route.clone());
    if let Some(route) = route {
        route.drain();
    }
}

/// In a forked child: the log thread did not come along; the next line starts a new one.
pub(crate) fn restart(_py: Python<'_>) {
    if let Some(mut route) = ROUTE.try_write_for(FORK_LOCK)
        && let Some(parents) = route.take()
    {
        *route = Some(Route::new(Arc::clone(&parents.sink)));
        // Its queue belongs to a thread of the parent.
        std::mem::forget(parents);
    }
}
