//! `Dispatcher`: core's dispatcher for handlers written in Python. Private: `tidegate.processing` puts threads and event loops on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use tidegate::parallel::{ExactlyOnce, Ledger, OnLimit, Outcome, Ticket, Work, Works};
use tidegate::{OnFailure, Order, ProcessOptions};

use crate::args::Seconds;
use crate::consumer::Consumer;
use crate::errors::OrRaise;
use crate::lifecycle::Owned;
use crate::output::Outputs;
use crate::record::Record;
use crate::wait::{blocking, deadline, slice_until};

/// The word for this handle in errors.
const WHAT: &str = "processing";

/// Hands records of a consumer to handlers, and keeps what became of each.
///
/// Any thread may call any method. `take` and `settle` are for the handlers' threads; a ticket that `take` gave is answered once, by
/// `settle`, `fail` or `give_back`.
#[pyclass(frozen, weakref, name = "_Dispatcher", module = "tidegate._core")]
pub(crate) struct Dispatcher {
    inner: Owned<tidegate::Dispatcher>,
}

#[pymethods]
impl Dispatcher {
    /// Takes core's options as keywords, each by core's name; `dead_letter_topic` makes `on_failure` one, and `transactional` (topic,
    /// transactional id, seconds between two transactions) makes `exactly_once` one.
    #[new]
    #[pyo3(signature = (consumer, *, dead_letter_topic=None, transactional=None, **options))]
    fn new(
        py: Python<'_>,
        consumer: &Bound<'_, Consumer>,
        dead_letter_topic: Option<String>,
        transactional: Option<(String, String, f64)>,
        options: Option<Options>,
    ) -> PyResult<Dispatcher> {
        let core = Arc::clone(&consumer.get().client(py)?.core);
        let mut options = options.unwrap_or_default().core();
        if let Some((topic, id, interval)) = transactional {
            let consumer = Arc::clone(&core);
            let mut exactly_once = py
                .detach(move || ExactlyOnce::new(&consumer, &id, &topic))
                .or_raise(py)?;
            exactly_once.interval = seconds(interval)?;
            options.exactly_once = Some(exactly_once);
        }
        if let (Some(exactly_once), Some(topic)) = (&options.exactly_once, &dead_letter_topic) {
            options.on_failure = OnFailure::DeadLetter {
                producer: exactly_once.producer.clone(),
                topic: topic.clone(),
            };
        } else if let Some(topic) = dead_letter_topic {
            let consumer = Arc::clone(&core);
            options.on_failure = py
                .detach(move || OnFailure::dead_letter_topic(&consumer, &topic))
                .or_raise(py)?;
        }
        let inner = py
            .detach(move || tidegate::Dispatcher::start(core, options))
            .or_raise(py)?;
        Ok(Dispatcher {
            inner: Owned::new(inner),
        })
    }

    /// Up to `most` records as (ticket, attempts before, Record): at least one, or none when the time is over; None when it is over
    /// for good. Waits without hearing signals: not for the main thread.
    ///
    /// Raises:
    ///     TidegateError: what ended the processing.
    #[pyo3(signature = (most, timeout=None))]
    fn take<'py>(
        &self,
        py: Python<'py>,
        most: usize,
        timeout: Option<Seconds>,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let inner = self.inner.get(py, WHAT)?;
        let timeout = timeout.unwrap_or(Seconds::FOREVER).duration();
        let Some(works) = py.detach(|| inner.take(most, timeout)).or_raise(py)? else {
            return Ok(None);
        };
        listed(py, works).map(Some)
    }

    /// The records of these tickets are done; those that may begin in their place, at most `most`, without waiting.
    fn settle_and_take<'py>(
        &self,
        py: Python<'py>,
        tickets: Vec<u64>,
        most: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let inner = self.inner.get(py, WHAT)?;
        let works: Vec<Work> = py.detach(|| {
            let mut works = Works::default();
            let outcomes = tickets
                .into_iter()
                .map(|bits| (Ticket::from_bits(bits), Outcome::Done));
            inner.settle_and_take(outcomes, &mut works, most);
            works.owned().collect()
        });
        listed(py, works)
    }

    /// The records of these tickets are done.
    fn settle(&self, py: Python<'_>, tickets: Vec<u64>) -> PyResult<()> {
        self.answer(py, tickets, Outcome::Done)
    }

    /// The records of these tickets are done, with outputs for the transaction that commits them.
    fn produce(&self, py: Python<'_>, answers: Vec<(u64, Py<Outputs>)>) -> PyResult<()> {
        let inner = self.inner.get(py, WHAT)?;
        py.detach(|| {
            let answers = answers.into_iter().map(|(bits, outputs)| {
                let outcome = Outcome::Produced(outputs.get().core.clone());
                (Ticket::from_bits(bits), outcome)
            });
            inner.settle(answers);
        });
        Ok(())
    }

    /// The records of these tickets are neither done nor failed: they come again after a restart.
    fn give_back(&self, py: Python<'_>, tickets: Vec<u64>) -> PyResult<()> {
        self.answer(py, tickets, Outcome::Unfinished)
    }

    /// The handler has failed with the record of this ticket.
    #[pyo3(signature = (ticket, kind, text, is_retriable, retry_after=None))]
    fn fail(
        &self,
        py: Python<'_>,
        ticket: u64,
        kind: String,
        text: String,
        is_retriable: bool,
        retry_after: Option<f64>,
    ) -> PyResult<()> {
        let outcome = Outcome::failed(
            kind,
            text,
            is_retriable,
            retry_after.map(seconds).transpose()?,
        );
        self.answer(py, vec![ticket], outcome)
    }

    /// Says what a record costs, for `rate_limit`; before it is settled.
    fn charge(&self, py: Python<'_>, ticket: u64, cost: f64) -> PyResult<()> {
        let inner = self.inner.get(py, WHAT)?;
        py.detach(|| inner.charge([(Ticket::from_bits(ticket), cost)]));
        Ok(())
    }

    /// How many records may be with handlers at once now.
    #[getter]
    fn in_flight_limit(&self, py: Python<'_>) -> PyResult<usize> {
        let inner = self.inner.get(py, WHAT)?;
        Ok(py.detach(|| inner.in_flight_limit()))
    }

    /// Hands out nothing more, gives back what waits, lets handlers finish for `drain` seconds, commits what is done. Gives the
    /// ledger and whether everything had come to its end.
    fn stop<'py>(&self, py: Python<'py>, drain: Seconds) -> PyResult<Bound<'py, PyTuple>> {
        let inner = Arc::clone(self.inner.get(py, WHAT)?);
        let report = blocking(py, move || inner.stop(drain.bounded()))?;
        let ledger = shown(py, report.ledger)?;
        (ledger, report.is_drained).into_pyobject(py)
    }

    /// Waits until it is over; False when the time was over first. Ctrl-C ends the wait.
    ///
    /// Raises:
    ///     TidegateError: what ended the processing.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<bool> {
        let inner = self.inner.get(py, WHAT)?;
        let until = deadline(timeout.unwrap_or(Seconds::FOREVER).duration());
        loop {
            let slice: Duration = slice_until(until);
            let over = py.detach(|| inner.wait(Some(slice))).or_raise(py)?;
            py.check_signals()?;
            if over || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(over);
            }
        }
    }

    /// What became of everything that was received.
    fn ledger<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        // Detached: whoever holds its lock may be writing a log line, which needs the interpreter.
        let inner = self.inner.get(py, WHAT)?;
        let ledger = py.detach(|| inner.ledger());
        shown(py, ledger)
    }

    /// Ends the processing with an error text that `take` and `wait` raise as a ListenerError.
    fn end_with(&self, py: Python<'_>, text: String) -> PyResult<()> {
        let inner = self.inner.get(py, WHAT)?;
        py.detach(|| inner.fail(tidegate::Error::Listener { context: text }));
        Ok(())
    }

    /// True once it is ending or over.
    #[getter]
    fn is_stopping(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.inner.get(py, WHAT)?.is_stopping())
    }
}

/// Core's options as Python's keywords.
#[derive(Default)]
pub(crate) struct Options {
    options: ProcessOptions,
}

impl Options {
    pub(crate) fn core(self) -> ProcessOptions {
        self.options
    }

    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let span = |value: &Bound<'_, PyAny>| value.extract::<f64>().and_then(seconds);
        let options = &mut self.options;
        match name {
            "order" => {
                options.order = match value.extract::<&str>()? {
                    "key" => Order::Key,
                    "partition" => Order::Partition,
                    "none" => Order::None,
                    other => return Err(PyValueError::new_err(format!("no order {other:?}"))),
                }
            }
            "on_failure" => {
                options.on_failure = match value.extract::<&str>()? {
                    "stop" => OnFailure::Stop,
                    "skip" => OnFailure::Skip,
                    other => {
                        return Err(PyValueError::new_err(format!("no on_failure {other:?}")));
                    }
                }
            }
            "on_limit" => {
                options.on_limit = match value.extract::<&str>()? {
                    "stop" => OnLimit::Stop,
                    "pause" => OnLimit::PausePartition,
                    other => return Err(PyValueError::new_err(format!("no on_limit {other:?}"))),
                }
            }
            "max_in_flight" => options.max_in_flight = value.extract()?,
            "max_queued" => options.max_queued = value.extract()?,
            "max_bytes" => options.max_bytes = value.extract()?,
            "max_attempts" => options.max_attempts = value.extract()?,
            "backoff" => options.backoff = span(value)?,
            "max_backoff" => options.max_backoff = span(value)?,
            "park_retries" => options.park_retries = value.extract()?,
            "offset_map_bytes" => options.offset_map_bytes = value.extract()?,
            "batch_size" => options.batch_size = value.extract()?,
            "batch_timeout" => options.batch_timeout = span(value)?,
            "batch_of_one_partition" => options.batch_of_one_partition = value.extract()?,
            "attempt_timeout" if value.is_none() => options.attempt_timeout = None,
            "attempt_timeout" => options.attempt_timeout = Some(span(value)?),
            "min_in_flight" => options.min_in_flight = value.extract()?,
            "rate_limit" => options.rate_limit = value.extract()?,
            "retry_after_holds_all" => options.retry_after_holds_all = value.extract()?,
            "dead_letter_limit" => options.dead_letter_limit = value.extract()?,
            other => return Err(PyTypeError::new_err(format!("no option {other:?}"))),
        }
        Ok(())
    }
}

impl<'py> FromPyObject<'_, 'py> for Options {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Options> {
        let mut options = Options::default();
        for (name, value) in given.cast::<PyDict>()?.iter() {
            options.set(name.extract::<&str>()?, &value)?;
        }
        Ok(options)
    }
}

impl Dispatcher {
    fn answer(&self, py: Python<'_>, tickets: Vec<u64>, outcome: Outcome) -> PyResult<()> {
        let inner = self.inner.get(py, WHAT)?;
        py.detach(|| {
            let answers = tickets
                .into_iter()
                .map(|bits| (Ticket::from_bits(bits), outcome.clone()));
            inner.settle(answers);
        });
        Ok(())
    }
}

/// What handlers get: a ticket, how often the record was tried before, the record.
fn listed(py: Python<'_>, works: Vec<Work>) -> PyResult<Bound<'_, PyList>> {
    let list = PyList::empty(py);
    for work in works {
        // The row is of its batch.
        let Some(record) = work.batch.get_owned(work.row) else {
            continue;
        };
        let ticket = work.ticket.to_bits();
        list.append((ticket, work.attempts, Py::new(py, Record::new(record))?))?;
    }
    Ok(list)
}

pub(crate) fn seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!("{seconds} is no number of seconds of 0 or more"))
    })
}

pub(crate) fn shown(py: Python<'_>, ledger: Ledger) -> PyResult<Bound<'_, PyDict>> {
    let shown = PyDict::new(py);
    for (name, count) in ledger.counts() {
        shown.set_item(name, count)?;
    }
    shown.set_item("missing", ledger.missing())?;
    Ok(shown)
}
