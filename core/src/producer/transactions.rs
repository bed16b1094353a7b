//! Transactions: records and offsets of several partitions that become visible together or not at all.
//!
//! Any thread but the delivery thread, one call at a time; librdkafka keeps the state and tells calls that come out of order. Always
//! true: the reports of a transaction's records are told as those of any other, before its commit or abort returns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Producer;
use super::engine::Engine;
use crate::error::{Error, Result};
use crate::group::GroupMetadata;
use crate::log::{self, Level, TIDEGATE};
use crate::partition::OffsetAndMetadata;
use crate::sink::{Sink, Step};

/// Whether one is open, so that closing aborts it instead of leaving it to the coordinator's timeout.
#[derive(Default)]
pub(super) struct Transaction {
    open: AtomicBool,
}

impl Transaction {
    /// Aborts what is open.
    pub(super) fn end_at_close(&self, engine: &Engine, timeout: Duration) {
        if engine.is_forked()
            || engine.on_delivery_thread()
            || !self.open.swap(false, Ordering::SeqCst)
        {
            return;
        }
        let Ok(sink) = engine.sink() else { return };
        if let Err(error) = run(engine, &*sink, Step::Abort, Some(timeout)) {
            log::emit(
                Level::Warn,
                TIDEGATE,
                format_args!(
                    "the open transaction of a producer that closes was not aborted, its records stay invisible until transaction.timeout.ms is over: {error}"
                ),
            );
        }
    }
}

fn run(engine: &Engine, sink: &dyn Sink, step: Step<'_>, timeout: Option<Duration>) -> Result<()> {
    // It waits for reports, too.
    let _waiting = engine.begin_to_wait(sink);
    sink.transaction(step, timeout)
}

impl Producer {
    /// Makes the producer ready for transactions: once, before anything is sent. Needs `transactional.id`. What an earlier producer of
    /// that id left open is aborted, and that producer is fenced.
    ///
    /// `timeout` is how long this call waits; `None` is twice `transaction.timeout.ms`. When the time is over, calling again goes on
    /// waiting.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use tidegate::embedded::Broker;
    /// use tidegate::{Config, Producer, ProducerRecord};
    ///
    /// let broker = Broker::with_topics(&[("orders", 1), ("bills", 1)])?;
    /// let config = Config::new()
    ///     .with("bootstrap.servers", broker.bootstrap_servers())
    ///     .with("transactional.id", "billing-1");
    /// let producer = Producer::new(&config)?;
    /// producer.init_transactions(Some(Duration::from_secs(30)))?;
    /// producer.begin_transaction()?;
    /// producer.send(&ProducerRecord::new("orders").value("1"))?;
    /// producer.send(&ProducerRecord::new("bills").value("1"))?;
    /// match producer.commit_transaction(None) {
    ///     Ok(()) => {}
    ///     Err(error) if error.requires_abort() => producer.abort_transaction(None)?,
    ///     Err(error) => return Err(error), // retriable: call again; fatal: make a new producer
    /// }
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Kafka`], whose code says what to do: [`Error::is_retriable`] (call again; `_TIMED_OUT` among them) or fatal;
    /// [`Error::Closed`]; [`Error::Forked`]; [`Error::Argument`] in a delivery callback.
    pub fn init_transactions(&self, timeout: Option<Duration>) -> Result<()> {
        self.step("init_transactions", Step::Init, timeout)
    }

    /// Begins a transaction: everything sent from now on belongs to it, until it is committed or aborted. Does not wait.
    ///
    /// # Errors
    /// [`Error::Kafka`] (`_STATE` when one is open already or nothing was initialised); otherwise as [`Producer::init_transactions`].
    pub fn begin_transaction(&self) -> Result<()> {
        self.step("begin_transaction", Step::Begin, None)?;
        self.handle.transaction.open.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Makes the offsets of a group part of the transaction: they are committed when it is. Each is *next to read*; negative ones are
    /// left out. The consumer has `enable.auto.commit=false`, and `group` is fresh from
    /// [`Consumer::group_metadata`](crate::Consumer::group_metadata).
    ///
    /// # Errors
    /// As [`Producer::init_transactions`]; with [`Error::requires_abort`] the transaction has failed (the group went on to another
    /// generation, for example): abort it.
    pub fn send_offsets_to_transaction(
        &self,
        offsets: &[OffsetAndMetadata],
        group: &GroupMetadata,
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.step(
            "send_offsets_to_transaction",
            Step::SendOffsets(offsets, group),
            timeout,
        )
    }

    /// Delivers what is in flight and commits the transaction. `None` waits for what is left of `transaction.timeout.ms`, which is what
    /// librdkafka recommends; when the time is over, calling again goes on.
    ///
    /// # Errors
    /// As [`Producer::send_offsets_to_transaction`]; a record that could not be delivered is such a failure.
    pub fn commit_transaction(&self, timeout: Option<Duration>) -> Result<()> {
        self.step("commit_transaction", Step::Commit, timeout)?;
        self.handle.transaction.open.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Gives up what is in flight (reported as failed, `_PURGE_QUEUE` or `_PURGE_INFLIGHT`) and aborts the transaction. The time is
    /// as in [`Producer::commit_transaction`].
    ///
    /// # Errors
    /// As [`Producer::init_transactions`].
    pub fn abort_transaction(&self, timeout: Option<Duration>) -> Result<()> {
        self.step("abort_transaction", Step::Abort, timeout)?;
        self.handle.transaction.open.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// True between [`Producer::begin_transaction`] and the commit or abort that succeeded.
    #[must_use]
    pub fn has_open_transaction(&self) -> bool {
        self.handle.transaction.open.load(Ordering::SeqCst)
    }

    fn step(&self, call: &'static str, step: Step<'_>, timeout: Option<Duration>) -> Result<()> {
        let engine = self.engine();
        engine.check()?;
        if engine.on_delivery_thread() {
            return Err(Error::argument(
                call,
                "it was called in a delivery callback, on the thread that every delivery report waits for",
                "call it from another thread",
            ));
        }
        run(engine, &*engine.sink()?, step, timeout)
    }
}
