//! `Consumer`: the engine's consumer with Python's manners: arguments, results, documentation. How it waits is in `client`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tidegate::Error;

use crate::args::{self, Seconds};
use crate::batch::RecordBatch;
use crate::batches::BatchIterator;
use crate::callbacks::{Functions, Listener};
use crate::client::{Client, WHAT};
use crate::errors::{OrRaise, argument, argument_type, raise, shown};
use crate::lifecycle::{Owned, remember};
use crate::partition;
use crate::record::Record;
use crate::token;
use crate::wait::blocking;

/// What `__exit__` gives the last commit and leaving the group.
const EXIT: Seconds = Seconds::TEN;

/// Reads records of a group, or of partitions assigned by hand.
///
/// Args:
///     config: names of librdkafka, of the Java client or of Tidegate, to str, int, float or bool. All problems come out as
///         one ConfigError. No connection is waited for: a broker that is away is retried in the background.
///     topics: subscribed to at once.
///     oauth_token: with `sasl.mechanism=OAUTHBEARER`, a function that is called with the property `sasl.oauthbearer.config` (str) and
///         returns `(token, expires_at)` or `(token, expires_at, principal, extensions)`: str, seconds since 1970, str, dict of str
///         to str. It runs on a thread of its own, at once and again after 80 % of each token's life; what it raises is logged, and
///         it is called again some seconds later. Until the first token is there nothing connects.
///
/// A background thread fetches ahead within `queued.max.messages.kbytes` and answers rebalances. `poll`, `next_batch`,
/// `fill_batch`, `lease_batch` and iteration may be called by one thread at a time (ConcurrentUseError otherwise);
/// `commit`, `seek`, `pause`, `wake`, `close` and all others by any thread, at any time.
///
/// A record is *finished*, and its offset may be committed, when the application asks for the next one (or the next
/// batch), or acknowledges it; what was leased, only when it is acknowledged. With `enable.auto.commit` (the default)
/// what is finished is committed every `auto.commit.interval.ms`, when partitions are taken away, and at `close()`.
/// What was handed out and not finished is handed out again after a restart.
///
/// Every call that waits lets other Python threads run. Ctrl-C interrupts it within 100 ms, and no record is lost: what was
/// not returned is returned by the next call.
///
/// As a context manager it is closed at the end; without an exception, what is in the application's hands counts as
/// finished then. A consumer that is still open when the interpreter ends is closed (at most 5 s), one that is
/// garbage-collected as well.
///
/// Timeouts are seconds, int or float; None waits for ever. Every method raises ClosedError after `close()` and
/// ForkedError in a child process of the one that made the consumer.
///
/// Raises:
///     ConfigError: the configuration is wrong.
///     ArgumentError: `topics` is empty or holds an empty name.
///     KafkaError: librdkafka cannot start.
#[pyclass(frozen, weakref, module = "tidegate")]
pub(crate) struct Consumer {
    client: Owned<Client>,
}

impl Consumer {
    #[inline]
    pub(crate) fn client(&self, py: Python<'_>) -> PyResult<&Arc<Client>> {
        self.client.get(py, WHAT)
    }

    /// Runs a call that asks the poller or a broker.
    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&tidegate::Consumer) -> tidegate::Result<T> + Send + 'static,
    ) -> PyResult<T> {
        let client = Arc::clone(self.client(py)?);
        blocking(py, move || call(&client.core))?.or_raise(py)
    }

    /// Runs a call that only asks the poller, which answers at once.
    fn tell<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&tidegate::Consumer) -> tidegate::Result<T> + Send,
    ) -> PyResult<T> {
        let client = self.client(py)?;
        py.detach(|| call(&client.core)).or_raise(py)
    }
}

#[pymethods]
impl Consumer {
    #[new]
    #[pyo3(signature = (config, topics=None, oauth_token=None))]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        topics: Option<&Bound<'_, PyAny>>,
        oauth_token: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Consumer> {
        let (config, tokens) = token::provide(args::config(config)?, oauth_token)?;
        let topics = topics
            .map(|topics| args::names("topics", topics))
            .transpose()?;
        let core = py
            .detach(|| tidegate::Consumer::new(&config))
            .or_raise(py)?;
        let client = Arc::new(Client::new(core, tokens));
        remember(Arc::downgrade(&client) as _);
        let consumer = Consumer {
            client: Owned::new(client),
        };
        if let Some(topics) = topics {
            consumer.subscribe_to(py, &topics, Functions::default())?;
        }
        Ok(consumer)
    }

    /// Join the group for `topics`; a name that begins with "^" is a regular expression. Replaces the subscription.
    ///
    /// The callbacks are called with a list of TopicPartition, in the thread that polls (or closes): `on_assign` before any
    /// record of these partitions is handed out, so that it may seek; `on_revoke` before they are taken away, so that
    /// it may commit; `on_lost` when they are gone already, where commits fail (without it `on_revoke` is called). They
    /// may call the consumer, except to poll. What one raises comes out of that poll, and the rebalance goes on.
    ///
    /// Raises:
    ///     ArgumentError: no topic, an empty name, or no `group.id` in the configuration.
    #[pyo3(signature = (topics, on_assign=None, on_revoke=None, on_lost=None))]
    fn subscribe(
        &self,
        py: Python<'_>,
        topics: &Bound<'_, PyAny>,
        on_assign: Option<&Bound<'_, PyAny>>,
        on_revoke: Option<&Bound<'_, PyAny>>,
        on_lost: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let functions = Functions {
            on_assign: args::callable("on_assign", on_assign)?,
            on_revoke: args::callable("on_revoke", on_revoke)?,
            on_lost: args::callable("on_lost", on_lost)?,
        };
        self.subscribe_to(py, &args::names("topics", topics)?, functions)
    }

    /// Leave the group and stop reading; what is finished is committed first.
    fn unsubscribe(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, tidegate::Consumer::unsubscribe)
    }

    /// The topics subscribed to.
    fn subscription(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.client(py)?.core.subscription())
    }

    /// Read these partitions without joining a group; replaces what was assigned, an empty list stops reading.
    ///
    /// Args:
    ///     partitions: a list of TopicPartition, or a dict of them to where to begin: an offset, "beginning", "end", "end-N"
    ///         or "stored" (the group's committed offset; without one what `auto.offset.reset` says), which the list means.
    ///
    /// Raises:
    ///     ArgumentError: a negative partition or offset, or the consumer is subscribed.
    fn assign(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let partitions = if partitions.is_instance_of::<PyDict>() {
            let remedy = "give a list of TopicPartition, or a dict of them to offsets";
            args::partition_map("partitions", partitions, remedy, |partition, offset| {
                Ok((partition, args::offset("partitions", offset)?))
            })?
        } else {
            args::partitions("partitions", partitions)?
                .into_iter()
                .map(|partition| (partition, tidegate::Offset::Stored))
                .collect()
        };
        self.ask(py, move |core| core.assign(&partitions))
    }

    /// Replace user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are.
    ///
    /// Raises:
    ///     ArgumentError: one of them holds a NUL character.
    fn set_sasl_credentials(&self, py: Python<'_>, username: &str, password: &str) -> PyResult<()> {
        self.tell(py, |core| core.set_sasl_credentials(username, password))
    }

    /// The partitions that this consumer reads.
    fn assignment<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let client = self.client(py)?;
        let partitions = py.detach(|| client.core.assignment());
        partition::list(py, partitions)
    }

    /// The next record; asking for it finishes the one handed out before.
    ///
    /// Returns None when `timeout` seconds are over, or when `wake()` or `close()` was called meanwhile.
    ///
    /// Raises:
    ///     ConcurrentUseError: another thread polls.
    ///     KafkaError: what only the application can mend: no permission, a fatal error, `auto.offset.reset=error`.
    ///     Exception: whatever a rebalance callback raised.
    #[pyo3(signature = (timeout=Seconds::FOREVER), text_signature = "($self, timeout=None)")]
    fn poll(&self, py: Python<'_>, timeout: Seconds) -> PyResult<Option<Record>> {
        self.client(py)?.poll(py, timeout)
    }

    /// The next batch, as soon as there are records; asking for it finishes the batch handed out before.
    ///
    /// Never more than `max_records` or `max.poll.records` records. Returns None as `poll` does.
    ///
    /// Raises:
    ///     ArgumentError: `max_records` is less than 1.
    ///     Exception: as `poll`.
    #[pyo3(signature = (timeout=Seconds::FOREVER, max_records=None), text_signature = "($self, timeout=None, max_records=None)")]
    fn next_batch(
        &self,
        py: Python<'_>,
        timeout: Seconds,
        max_records: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<RecordBatch>> {
        let max_records = args::count("max_records", max_records)?;
        let client = self.client(py)?;
        client.batch(py, timeout, false, || {
            client.core.next_batch(Some(Duration::ZERO), max_records)
        })
    }

    /// A batch of `records` records, or of what there is when `timeout` seconds are over; None when there is nothing.
    ///
    /// `max.poll.records` bounds it as well. Asking for it finishes the batch handed out before.
    ///
    /// Raises:
    ///     ArgumentError: `records` is less than 1.
    ///     Exception: as `poll`.
    fn fill_batch(
        &self,
        py: Python<'_>,
        timeout: Seconds,
        records: &Bound<'_, PyAny>,
    ) -> PyResult<Option<RecordBatch>> {
        let Some(records) = args::count("records", Some(records))? else {
            return Err(argument_type(
                py,
                "records",
                "None is no number",
                "give an int of 1 or more",
            ));
        };
        let client = self.client(py)?;
        if client.is_closed() {
            return Err(raise(py, &Error::Closed { what: WHAT }));
        }
        let take = || client.core.fill_batch(Duration::ZERO, records);
        if timeout.is_zero() || records == 1 {
            return client.batch(py, timeout, false, take);
        }
        let batch = client.wait(py, timeout, records, take)?;
        if batch.is_some() {
            client.hear_signals(py, None)?;
        }
        Ok(batch.map(RecordBatch::from))
    }

    /// As `next_batch`, but the records are finished only by `acknowledge()`, in any order and by any thread, never by asking
    /// for more.
    #[pyo3(signature = (timeout=Seconds::FOREVER, max_records=None), text_signature = "($self, timeout=None, max_records=None)")]
    fn lease_batch(
        &self,
        py: Python<'_>,
        timeout: Seconds,
        max_records: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<RecordBatch>> {
        let max_records = args::count("max_records", max_records)?;
        let client = self.client(py)?;
        client.batch(py, timeout, true, || {
            client.core.lease_batch(Some(Duration::ZERO), max_records)
        })
    }

    /// An iterator over batches, as `next_batch()` gives them; it ends when the consumer is closed.
    fn batches(slf: Bound<'_, Self>) -> BatchIterator {
        BatchIterator::new(slf.unbind())
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// The next record, as `poll()` gives it; the iteration ends when the consumer is closed.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Record>> {
        let client = self.client(py)?;
        loop {
            match client.poll(py, Seconds::FOREVER) {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) if !client.is_closed() => {}
                Ok(None) => return Ok(None),
                Err(_) if client.is_closed() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Note that a leased RecordBatch or Record is finished; as its own `acknowledge()`. Any thread.
    ///
    /// Raises:
    ///     StaleError: a partition was revoked, lost or sought meanwhile.
    fn acknowledge(&self, py: Python<'_>, batch_or_record: &Bound<'_, PyAny>) -> PyResult<()> {
        self.client(py)?;
        if let Ok(batch) = batch_or_record.cast::<RecordBatch>() {
            return batch.get().inner.acknowledge().or_raise(py);
        }
        if let Ok(record) = batch_or_record.cast::<Record>() {
            return record.get().acknowledge_core().or_raise(py);
        }
        let problem = format!("{} is neither", shown(batch_or_record));
        let remedy = "give a RecordBatch or a Record";
        Err(argument_type(py, "batch_or_record", &problem, remedy))
    }

    /// Everything that `poll`, `next_batch` and the like handed out counts as finished, without asking for more. Any thread.
    fn finish_in_hand(&self, py: Python<'_>) -> PyResult<()> {
        let client = self.client(py)?;
        py.detach(|| client.core.finish_in_hand());
        Ok(())
    }

    /// Commit, and wait for the broker's answer; any thread.
    ///
    /// Without `offsets`: everything that is finished, and everything that `poll`, `next_batch` and the like handed out.
    /// `offsets`: a dict of TopicPartition to the offset to be read next, committed as it is.
    ///
    /// Returns what was committed, as such a dict (empty when there was nothing new). With `asynchronous` it returns None at
    /// once; a failure is logged, and what was finished is committed again later.
    ///
    /// Raises:
    ///     TimedOutError: no answer within `timeout` seconds.
    ///     KafkaError: the broker refused; what was finished stays to be committed.
    ///     ArgumentError: a negative offset, an empty dict, or no `group.id`.
    #[pyo3(signature = (offsets=None, timeout=Seconds::TEN, asynchronous=false),
           text_signature = "($self, offsets=None, timeout=10.0, asynchronous=False)")]
    fn commit<'py>(
        &self,
        py: Python<'py>,
        offsets: Option<&Bound<'py, PyAny>>,
        timeout: Seconds,
        asynchronous: bool,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let timeout = (!asynchronous).then(|| timeout.bounded());
        let committed = match offsets.filter(|offsets| !offsets.is_none()) {
            Some(offsets) => {
                let offsets = args::commit_offsets(offsets)?;
                let committed = offsets.clone();
                match timeout {
                    None => self.tell(py, |core| core.commit_offsets(&offsets, None))?,
                    Some(_) => self.ask(py, move |core| core.commit_offsets(&offsets, timeout))?,
                }
                committed
            }
            None => match timeout {
                None => {
                    self.tell(py, tidegate::Consumer::commit_async)?;
                    Vec::new()
                }
                Some(timeout) => self.ask(py, move |core| core.commit(timeout))?,
            },
        };
        if asynchronous {
            return Ok(None);
        }
        let committed = committed.into_iter().map(|committed| {
            let offset = match committed.offset {
                tidegate::Offset::At(offset) => Some(offset),
                _ => None,
            };
            (committed.topic_partition(), offset)
        });
        partition::offsets(py, committed).map(Some)
    }

    /// Go on from another place of an assigned partition: an offset, "beginning", "end", "end-N" or "stored". Any thread.
    ///
    /// Records fetched before are not handed out any more; acknowledging them raises StaleError.
    ///
    /// Raises:
    ///     NotAssignedError: this consumer does not read the partition.
    ///     ArgumentError: no offset.
    fn seek(
        &self,
        py: Python<'_>,
        partition: &Bound<'_, PyAny>,
        offset: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let partition = args::partition("partition", partition)?;
        let offset = args::offset("offset", offset)?;
        self.ask(py, move |core| core.seek(&partition, offset))
    }

    /// Hand out nothing more of these partitions until `resume()`; what is fetched already is kept. Any thread.
    ///
    /// Raises:
    ///     NotAssignedError: this consumer does not read one of them.
    fn pause(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let partitions = args::partitions("partitions", partitions)?;
        self.ask(py, move |core| core.pause(&partitions))
    }

    /// Hand out records of these partitions again. Any thread.
    ///
    /// Raises:
    ///     NotAssignedError: this consumer does not read one of them.
    fn resume(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let partitions = args::partitions("partitions", partitions)?;
        self.ask(py, move |core| core.resume(&partitions))
    }

    /// The partitions that are paused.
    fn paused<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let client = self.client(py)?;
        let partitions = py.detach(|| client.core.paused());
        partition::list(py, partitions)
    }

    /// The offset of the record to be handed out next; None before the first one.
    ///
    /// Raises:
    ///     NotAssignedError: this consumer does not read the partition.
    fn position(&self, py: Python<'_>, partition: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
        let partition = args::partition("partition", partition)?;
        self.tell(py, |core| core.position(&partition))
    }

    /// The group's committed offsets (each *next to read*), None where there is none; asks the broker.
    ///
    /// Raises:
    ///     KafkaError: no answer within `timeout` seconds, or a refusal.
    ///     ArgumentError: no `group.id`.
    #[pyo3(signature = (partitions, timeout=Seconds::TEN), text_signature = "($self, partitions, timeout=10.0)")]
    fn committed<'py>(
        &self,
        py: Python<'py>,
        partitions: &Bound<'py, PyAny>,
        timeout: Seconds,
    ) -> PyResult<Bound<'py, PyDict>> {
        let partitions = args::partitions("partitions", partitions)?;
        let timeout = timeout.bounded();
        let found = self.ask(py, move |core| core.committed(&partitions, timeout))?;
        partition::offsets(py, found)
    }

    /// The low and the high watermark: the offsets of the first record and of the next one to be written. Asks the broker.
    ///
    /// Raises:
    ///     KafkaError: no answer within `timeout` seconds, or no such partition.
    #[pyo3(signature = (partition, timeout=Seconds::TEN), text_signature = "($self, partition, timeout=10.0)")]
    fn watermarks(
        &self,
        py: Python<'_>,
        partition: &Bound<'_, PyAny>,
        timeout: Seconds,
    ) -> PyResult<(i64, i64)> {
        let partition = args::partition("partition", partition)?;
        let timeout = timeout.bounded();
        self.ask(py, move |core| core.watermarks(&partition, timeout))
    }

    /// The watermarks as the latest fetch reported them, None before the first one. Asks nobody.
    fn cached_watermarks(
        &self,
        py: Python<'_>,
        partition: &Bound<'_, PyAny>,
    ) -> PyResult<Option<(i64, i64)>> {
        let partition = args::partition("partition", partition)?;
        self.tell(py, |core| Ok(core.cached_watermarks(&partition)))
    }

    /// How many records lie between the position and the high watermark, None while either is unknown. Asks nobody.
    ///
    /// Raises:
    ///     NotAssignedError: this consumer does not read the partition.
    fn lag(&self, py: Python<'_>, partition: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
        let partition = args::partition("partition", partition)?;
        self.tell(py, |core| core.lag(&partition))
    }

    /// The first offset at or after a time, per partition; None where there is no such record. Asks the broker.
    ///
    /// Args:
    ///     times_ms: a dict of TopicPartition to milliseconds since 1970.
    ///
    /// Raises:
    ///     KafkaError: no answer within `timeout` seconds.
    ///     ArgumentError: a time before 1970.
    #[pyo3(signature = (times_ms, timeout=Seconds::TEN), text_signature = "($self, times_ms, timeout=10.0)")]
    fn offsets_for_times<'py>(
        &self,
        py: Python<'py>,
        times_ms: &Bound<'py, PyAny>,
        timeout: Seconds,
    ) -> PyResult<Bound<'py, PyDict>> {
        let remedy = "give a dict of TopicPartition to milliseconds since 1970 (int)";
        let times = args::partition_map("times_ms", times_ms, remedy, |partition, time| {
            let time = time.extract::<i64>().map_err(|_| {
                argument_type(
                    py,
                    "times_ms",
                    &format!("{} is no time", shown(time)),
                    remedy,
                )
            })?;
            Ok((partition, time))
        })?;
        let timeout = timeout.bounded();
        let found = self.ask(py, move |core| core.offsets_for_times(&times, timeout))?;
        let found = found.into_iter().map(|found| {
            let offset = match found.offset {
                tidegate::Offset::At(offset) => Some(offset),
                _ => None,
            };
            (found.topic_partition(), offset)
        });
        partition::offsets(py, found)
    }

    /// The cluster's topics and how many partitions each has. Asks the broker.
    ///
    /// Raises:
    ///     KafkaError: no answer within `timeout` seconds.
    #[pyo3(signature = (timeout=Seconds::TEN), text_signature = "($self, timeout=10.0)")]
    fn topics<'py>(&self, py: Python<'py>, timeout: Seconds) -> PyResult<Bound<'py, PyDict>> {
        let timeout = timeout.bounded();
        let topics = self.ask(py, move |core| core.topics(timeout))?;
        let dict = PyDict::new(py);
        for topic in topics {
            dict.set_item(topic.name, topic.partitions)?;
        }
        Ok(dict)
    }

    /// Let a polling call that waits in another thread return None at once; if none does, the next one will not wait.
    /// Any thread.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let client = self.client(py)?;
        client.woken.store(true, Ordering::SeqCst);
        py.detach(|| client.core.wake());
        Ok(())
    }

    /// What this consumer has done so far: counters, gauges, and latencies in microseconds. Also after `close()`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let client = self.client(py)?;
        let json = py.detach(|| client.core.stats().to_json());
        crate::settings::json_dict(py, &json)
    }

    /// librdkafka's own statistics, the newest, as JSON text; None without `statistics.interval.ms`.
    fn librdkafka_stats(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let client = self.client(py)?;
        Ok(py.detach(|| client.core.librdkafka_stats()))
    }

    /// Handle records side by side in the background: `handler(record)` on threads, or on an event loop if it is a coroutine
    /// function. See `tidegate.processing.process` for the options (`order`, `max_in_flight`, `max_attempts`, ...) and what comes
    /// out; gives a `tidegate.processing.Processing`.
    ///
    /// Raises:
    ///     ArgumentError: an option is wrong.
    #[pyo3(signature = (handler, **options))]
    fn process<'py>(
        slf: &Bound<'py, Self>,
        handler: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import("tidegate.processing")?;
        module.getattr("process")?.call((slf, handler), options)
    }

    /// The records for an `async for` in which each is answered: `async with consumer.stream(max_in_flight=100) as stream`. Options
    /// as for `process`, and `drain`; see `tidegate.streaming`.
    #[pyo3(signature = (**options))]
    fn stream<'py>(
        slf: &Bound<'py, Self>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import("tidegate.streaming")?;
        module.getattr("stream")?.call((slf,), options)
    }

    /// Commit what is finished, leave the group and end the background thread; any thread, more than once.
    ///
    /// What was handed out last and not finished is not committed: call `commit()` or `finish_in_hand()` before, if it is
    /// done. Records and batches stay valid. A polling call that waits in another thread returns None.
    ///
    /// Raises:
    ///     TimedOutError: the group could not be left within `timeout` seconds; it is left in the background then.
    ///     Exception: what `on_revoke` raised; the consumer is closed all the same.
    #[pyo3(signature = (timeout=Seconds::TEN), text_signature = "($self, timeout=10.0)")]
    fn close(&self, py: Python<'_>, timeout: Seconds) -> PyResult<()> {
        let client = Arc::clone(self.client(py)?);
        let timeout = timeout.bounded();
        client.closed.store(true, Ordering::SeqCst);
        let closing = Arc::clone(&client);
        let result = blocking(py, move || closing.close(timeout))?;
        if let Some(raised) = client.callbacks.take_raised() {
            return Err(raised);
        }
        result.or_raise(py)
    }

    /// True after `close()`, and in a forked child.
    #[getter]
    fn closed(&self) -> bool {
        self.client.is_other_process() || self.client.peek().is_none_or(|client| client.is_closed())
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
        if exc_type.is_none_or(|kind| kind.is_none()) {
            self.finish_in_hand(py)?;
            return self.close(py, EXIT);
        }
        // The exception under way matters more than what closing says.
        let _ = self.close(py, EXIT);
        Ok(())
    }

    fn __repr__(&self) -> String {
        if self.closed() {
            return "<tidegate.Consumer, closed>".to_string();
        }
        let topics = self.client.peek().map(|client| client.core.subscription());
        match topics.filter(|topics| !topics.is_empty()) {
            Some(topics) => format!("<tidegate.Consumer of {}>", topics.join(", ")),
            None => "<tidegate.Consumer, not subscribed>".to_string(),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.client.peek() {
            Some(client) => {
                client.tokens.traverse(&visit)?;
                client.callbacks.traverse(&visit)
            }
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        if let Some(client) = self.client.peek() {
            client.tokens.clear();
            client.callbacks.set(Functions::default());
        }
    }
}

impl Consumer {
    fn subscribe_to(
        &self,
        py: Python<'_>,
        topics: &[String],
        functions: Functions,
    ) -> PyResult<()> {
        if topics.is_empty() {
            return Err(argument(
                py,
                "topics",
                "there is no topic to subscribe to",
                "name at least one topic, or call unsubscribe()",
            ));
        }
        let client = self.client(py)?;
        let listening = functions.any();
        client.callbacks.set(functions);
        let listener = Listener(Arc::clone(&client.callbacks));
        let topics = topics.to_vec();
        self.ask(py, move |core| {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            if listening {
                core.subscribe_with(&topics, Box::new(listener))
            } else {
                core.subscribe(&topics)
            }
        })
    }
}
