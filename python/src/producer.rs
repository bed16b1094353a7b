//! `Producer`: the engine's producer with Python's manners.
//!
//! `send` first tries, attached and without waiting: that is the whole cost of most sends. Only when the queue is full it
//! detaches and waits, asking for Ctrl-C now and then.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use tidegate::{DeliveryCallback, Error, ProducerRecord};

use crate::args::{self, Seconds};
use crate::delivery::Reports;
use crate::errors::{OrRaise, argument, argument_type, instance, raise, shown};
use crate::lifecycle::{Closes, Owned, remember, with_python};
use crate::payload;
use crate::token;
use crate::wait::{SLICE, blocking, deadline, slice_until};

const WHAT: &str = "producer";
/// Delivery callbacks that may wait for the interpreter; beyond it a send with a callback waits as for a full queue.
const MOST_CALLBACKS: usize = 100_000;
/// What `__exit__` gives the records in flight.
const EXIT: Seconds = Seconds::TEN;

/// Shared with the threads that wait for it.
struct Client {
    core: tidegate::Producer,
    reports: Reports,
    queue_full_timeout: Duration,
    closed: AtomicBool,
}

impl Client {
    /// The completion of a record with a callback.
    fn completion(&self, callback: &Py<PyAny>) -> PyResult<DeliveryCallback> {
        let callback = Python::attach(|py| callback.clone_ref(py));
        let promise = self.reports.promise(callback).ok_or_else(|| {
            pyo3::exceptions::PyRuntimeError::new_err(
                "no thread for delivery callbacks could be started",
            )
        })?;
        Ok(Box::new(move |outcome| promise.settle(outcome)))
    }

    /// Waits until another callback may be promised.
    fn wait_for_callbacks(&self, py: Python<'_>, topic: &str) -> PyResult<()> {
        if self.reports.outstanding() < MOST_CALLBACKS || self.reports.is_own_thread() {
            return Ok(());
        }
        let started = Instant::now();
        let deadline = deadline(Some(self.queue_full_timeout));
        loop {
            let slice = slice_until(deadline);
            if py.detach(|| self.reports.wait(MOST_CALLBACKS - 1, slice)) {
                return Ok(());
            }
            py.check_signals()?;
            if slice.is_zero() {
                let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                let topic = topic.to_string();
                return Err(raise(py, &Error::QueueFull { topic, waited_ms }));
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.core.in_flight().max(self.reports.outstanding())
    }

    /// Waits until every callback has run; false when `deadline` is over first.
    fn callbacks_done(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        loop {
            let slice = slice_until(deadline);
            if py.detach(|| self.reports.wait(0, slice)) {
                return Ok(true);
            }
            py.check_signals()?;
            if slice.is_zero() {
                return Ok(false);
            }
        }
    }
}

impl Closes for Client {
    fn close_at_exit(&self, timeout: Duration) {
        self.closed.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + timeout;
        // Nobody is left to be told; the engine has logged it.
        let _ = self
            .core
            .close(timeout.saturating_sub(Duration::from_millis(500)));
        self.reports
            .wait(0, deadline.saturating_duration_since(Instant::now()));
    }
}

/// Sends records.
///
/// Args:
///     config: names of librdkafka, of the Java client or of Tidegate, to str, int, float or bool. All problems come out as
///         one ConfigError. No connection is waited for: records wait for a broker up to `delivery.timeout.ms`.
///     oauth_token: with `sasl.mechanism=OAUTHBEARER`, a function that is called with the property `sasl.oauthbearer.config` (str) and
///         returns `(token, expires_at)` or `(token, expires_at, principal, extensions)`: str, seconds since 1970, str, dict of str
///         to str. It runs on a thread of its own, at once and again after 80 % of each token's life; what it raises is logged, and
///         it is called again some seconds later. Until the first token is there nothing connects.
///
/// Any thread may send. What happened to a record is told to its `on_delivery`; without one it is counted in `stats()`, and
/// a failure is logged.
///
/// A full queue is waited for, up to `tidegate.queue.full.timeout.ms`. Every call that waits lets other Python threads run,
/// and Ctrl-C interrupts it within 100 ms.
///
/// As a context manager it is flushed and closed at the end (10 s). A producer that is still open when the interpreter ends
/// is flushed (at most 5 s), one that is garbage-collected as well.
///
/// Timeouts are seconds, int or float; None waits for ever. Every method raises ClosedError after `close()` and
/// ForkedError in a child process of the one that made the producer.
///
/// Raises:
///     ConfigError: the configuration is wrong.
///     KafkaError: librdkafka cannot start.
#[pyclass(frozen, weakref, module = "tidegate")]
pub(crate) struct Producer {
    client: Owned<Client>,
}

impl Producer {
    #[inline]
    fn client(&self, py: Python<'_>) -> PyResult<&Arc<Client>> {
        self.client.get(py, WHAT)
    }
}

#[pymethods]
impl Producer {
    #[new]
    #[pyo3(signature = (config, oauth_token=None))]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        oauth_token: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Producer> {
        let (config, _) = token::provide(args::config(config)?, oauth_token)?;
        let (core, queue_full_timeout_ms) = py
            .detach(|| {
                let wait_ms = config.producer()?.queue_full_timeout_ms;
                Ok((tidegate::Producer::new(&config)?, wait_ms))
            })
            .or_raise(py)?;
        let client = Arc::new(Client {
            core,
            reports: Reports::default(),
            queue_full_timeout: Duration::from_millis(queue_full_timeout_ms),
            closed: AtomicBool::new(false),
        });
        remember(Arc::downgrade(&client) as _);
        Ok(Producer {
            client: Owned::new(client),
        })
    }

    /// Replace user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are.
    ///
    /// Raises:
    ///     ArgumentError: one of them holds a NUL character.
    fn set_sasl_credentials(&self, py: Python<'_>, username: &str, password: &str) -> PyResult<()> {
        let client = self.client(py)?;
        py.detach(|| client.core.set_sasl_credentials(username, password))
            .or_raise(py)
    }

    /// Queue a record.
    ///
    /// Args:
    ///     topic: where it goes.
    ///     value, key: bytes, a str (sent as UTF-8), another bytes-like object, or None (Kafka's null). Nothing but the
    ///         queue's own copy is made of bytes and str.
    ///     headers: a dict of str to bytes, str or None, or a list of such pairs, where a name may occur more than once.
    ///     partition: None leaves it to the partitioner (by key).
    ///     timestamp_ms: milliseconds since 1970; None is the time of the call.
    ///     on_delivery: called once as `on_delivery(error, delivery)`: with None and a Delivery, or with an exception
    ///         (KafkaError) and None. It runs on a background thread of this producer, one call after the other, and should be
    ///         short; what it raises is logged. It may send, but neither flush nor close.
    ///
    /// Raises:
    ///     QueueFullError: there was no room within `tidegate.queue.full.timeout.ms`.
    ///     ArgumentError: an empty topic, a negative partition or timestamp, or a wrong type (ArgumentTypeError).
    ///     KafkaError: librdkafka refuses the record: it is too large, or there is no such partition.
    #[pyo3(signature = (topic, value, key=None, headers=None, partition=None, timestamp_ms=None, on_delivery=None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn send<'py>(
        &self,
        py: Python<'py>,
        topic: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        key: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        partition: Option<i32>,
        timestamp_ms: Option<i64>,
        on_delivery: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let client = self.client(py)?;
        let topic = topic_name(topic)?;
        let value = payload::bytes("value", value)?;
        let key = match key {
            Some(key) => payload::bytes("key", key)?,
            None => None,
        };
        let headers = payload::headers(headers)?;
        let on_delivery = args::callable("on_delivery", on_delivery)?;
        let headers: Vec<(&str, Option<&[u8]>)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let record = ProducerRecord {
            topic,
            partition,
            key: key.as_deref(),
            value: value.as_deref(),
            headers: &headers,
            timestamp_ms,
        };
        let tried = match &on_delivery {
            None => client.core.try_send(&record),
            Some(callback) => {
                client.wait_for_callbacks(py, topic)?;
                client
                    .core
                    .try_send_with(&record, client.completion(callback)?)
            }
        };
        match tried {
            Ok(()) => return Ok(()),
            Err(Error::QueueFull { .. }) => {}
            Err(error) => return Err(raise(py, &error)),
        }
        let completion = on_delivery
            .as_ref()
            .map(|callback| client.completion(callback))
            .transpose()?;
        let mut patience = Patience::default();
        let sent = py.detach(|| {
            client
                .core
                .send_interruptible(&record, completion, &mut || patience.lasts())
        });
        patience.result(py, sent)
    }

    /// Queue records of one topic in their order, and return how many: all of them.
    ///
    /// Args:
    ///     values, keys: sequences of what `send` takes; `keys` is as long as `values`, or None.
    ///
    /// Raises:
    ///     QueueFullError, KafkaError: some were not accepted. The exception is the first one's and has two more attributes:
    ///         `accepted`, how many were, and `refused`, a list of (index, exception). When it is the queue that stayed
    ///         full, all records after the first refused one are refused, so that the order holds.
    ///     ArgumentError: as `send`; then nothing was sent.
    #[pyo3(signature = (topic, values, keys=None))]
    fn send_batch<'py>(
        &self,
        py: Python<'py>,
        topic: &Bound<'py, PyAny>,
        values: &Bound<'py, PyAny>,
        keys: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<usize> {
        let client = self.client(py)?;
        let topic = topic_name(topic)?;
        let values = items("values", values)?;
        let values = payloads("values", &values)?;
        let keys = match keys.filter(|keys| !keys.is_none()) {
            Some(keys) => Some(items("keys", keys)?),
            None => None,
        };
        let keys = keys
            .as_ref()
            .map(|keys| payloads("keys", keys))
            .transpose()?;
        if let Some(keys) = keys.as_ref().filter(|keys| keys.len() != values.len()) {
            let problem = format!("there are {} keys for {} values", keys.len(), values.len());
            return Err(argument(
                py,
                "keys",
                &problem,
                "give one key (or None) for each value",
            ));
        }
        let mut patience = Patience::default();
        let outcome = py.detach(|| {
            let records = values.iter().enumerate().map(|(row, value)| {
                let key = keys.as_ref().and_then(|keys| keys[row].as_deref());
                (key, value.as_deref())
            });
            client
                .core
                .send_batch_interruptible(topic, records, &mut || patience.lasts())
        });
        let outcome = outcome.or_raise(py)?;
        let Some((_, first)) = outcome.refused.first() else {
            return Ok(outcome.accepted);
        };
        let exception = match patience.raised {
            Some(raised) => raised.into_value(py).into_bound(py).into_any(),
            None => instance(py, first)?,
        };
        let refused = PyList::empty(py);
        for (row, error) in &outcome.refused {
            refused.append((*row, instance(py, error)?))?;
        }
        exception.setattr("accepted", outcome.accepted)?;
        exception.setattr("refused", refused)?;
        Err(PyErr::from_value(exception))
    }

    /// Wait until every record sent so far is delivered or has failed, and its callback has run. Any thread.
    ///
    /// Returns how many are still under way when `timeout` seconds are over: 0 when all is done.
    ///
    /// Raises:
    ///     ArgumentError: it was called in an `on_delivery`, which is what it would wait for.
    #[pyo3(signature = (timeout=Seconds::TEN), text_signature = "($self, timeout=10.0)")]
    fn flush(&self, py: Python<'_>, timeout: Seconds) -> PyResult<usize> {
        let client = self.client(py)?;
        refuse_in_callback(py, client, "flush")?;
        let deadline = deadline(timeout.duration());
        loop {
            let slice = slice_until(deadline);
            match py.detach(|| client.core.flush(slice)) {
                Ok(()) => break,
                Err(Error::TimedOut { .. }) if slice.is_zero() => return Ok(client.in_flight()),
                Err(Error::TimedOut { .. }) => py.check_signals()?,
                Err(error) => return Err(raise(py, &error)),
            }
        }
        client.callbacks_done(py, deadline)?;
        Ok(client.in_flight())
    }

    /// Records queued whose delivery is not known yet, or whose callback has not run. Any thread.
    #[getter]
    fn in_flight(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.client(py)?.in_flight())
    }

    /// As `in_flight`.
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.in_flight(py)
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// What this producer has done so far: counters, gauges, and latencies in microseconds. Also after `close()`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let client = self.client(py)?;
        let json = py.detach(|| client.core.stats().to_json());
        crate::settings::json_dict(py, &json)
    }

    /// Accept nothing more, wait up to `timeout` seconds for what is in flight, give up the rest (it fails, and is told so)
    /// and end the background threads. Any thread, more than once.
    ///
    /// Raises:
    ///     TimedOutError: records had to be given up; the text says how many.
    ///     ArgumentError: it was called in an `on_delivery`.
    #[pyo3(signature = (timeout=Seconds::TEN), text_signature = "($self, timeout=10.0)")]
    fn close(&self, py: Python<'_>, timeout: Seconds) -> PyResult<()> {
        let client = Arc::clone(self.client(py)?);
        refuse_in_callback(py, &client, "close")?;
        client.closed.store(true, Ordering::SeqCst);
        let timeout = timeout.bounded();
        let until = deadline(Some(timeout.max(SLICE)));
        let closing = Arc::clone(&client);
        let result = blocking(py, move || closing.core.close(timeout))?;
        client.callbacks_done(py, until)?;
        result.or_raise(py)
    }

    /// True after `close()`, and in a forked child.
    #[getter]
    fn closed(&self) -> bool {
        self.client.is_other_process()
            || self
                .client
                .peek()
                .is_none_or(|client| client.closed.load(Ordering::SeqCst))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_value, traceback);
        let closed = self.close(py, EXIT);
        // The exception under way matters more than what closing says.
        if exc_type.is_none_or(|kind| kind.is_none()) {
            closed
        } else {
            Ok(())
        }
    }

    fn __repr__(&self) -> String {
        match self.client.peek().filter(|_| !self.closed()) {
            Some(client) => format!(
                "<tidegate.Producer, {} records in flight>",
                client.in_flight()
            ),
            None => "<tidegate.Producer, closed>".to_string(),
        }
    }
}

/// Whether a wait for room goes on: until a signal handler raises.
#[derive(Default)]
struct Patience {
    raised: Option<PyErr>,
}

impl Patience {
    fn lasts(&mut self) -> bool {
        if let Some(Err(raised)) = with_python(|py| py.check_signals()) {
            self.raised = Some(raised);
        }
        self.raised.is_none()
    }

    fn result<T>(self, py: Python<'_>, result: tidegate::Result<T>) -> PyResult<T> {
        match (result, self.raised) {
            (Ok(value), None) => Ok(value),
            (_, Some(raised)) => Err(raised),
            (Err(error), None) => Err(raise(py, &error)),
        }
    }
}

fn refuse_in_callback(py: Python<'_>, client: &Client, call: &str) -> PyResult<()> {
    if client.reports.is_own_thread() {
        return Err(argument(
            py,
            call,
            "it was called in an on_delivery, and would wait for that very call",
            "call it from another thread",
        ));
    }
    Ok(())
}

fn topic_name<'a>(topic: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    match topic.cast::<PyString>() {
        Ok(topic) => topic.to_str(),
        Err(_) => {
            let problem = format!("{} is no topic name", shown(topic));
            Err(argument_type(topic.py(), "topic", &problem, "give a str"))
        }
    }
}

/// The items of an iterable that is not itself bytes or text.
fn items<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let wrong = || {
        let problem = format!("{} is no list of values", shown(object));
        argument_type(object.py(), name, &problem, "give a list of bytes or str")
    };
    if object.is_instance_of::<PyString>() || object.is_instance_of::<pyo3::types::PyBytes>() {
        return Err(wrong());
    }
    object.try_iter().map_err(|_| wrong())?.collect()
}

type Payloads<'a> = Vec<Option<Cow<'a, [u8]>>>;

fn payloads<'a>(name: &str, items: &'a [Bound<'_, PyAny>]) -> PyResult<Payloads<'a>> {
    items
        .iter()
        .map(|item| payload::bytes(name, item))
        .collect()
}
