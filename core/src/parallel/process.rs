//! Rust handlers on threads.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::parallel::ProcessOptions;
use crate::parallel::dispatcher::{Dispatcher, Outcome, StopReport};
use crate::parallel::futures::Pool;
use crate::parallel::ledger::Ledger;
use crate::parallel::outputs::IntoOutputs;
use crate::parallel::threads::Crew;
use crate::record::Record;

/// Dropping a [`Processing`] waits so long for its handlers.
const DROP_DRAIN: Duration = Duration::from_secs(5);

/// Why a handler could not handle a record.
#[derive(Debug, Clone)]
pub struct HandlerError {
    kind: String,
    text: String,
    is_retriable: bool,
    retry_after: Option<Duration>,
}

impl HandlerError {
    /// Worth another attempt.
    pub fn retriable(text: impl Into<String>) -> HandlerError {
        HandlerError {
            kind: String::new(),
            text: text.into(),
            is_retriable: true,
            retry_after: None,
        }
    }

    /// Another attempt is pointless: the record has failed for good.
    pub fn terminal(text: impl Into<String>) -> HandlerError {
        HandlerError {
            is_retriable: false,
            ..HandlerError::retriable(text)
        }
    }

    /// The kind of error, for the dead letter's headers.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> HandlerError {
        self.kind = kind.into();
        self
    }

    /// No other attempt before so much time (a server's Retry-After).
    #[must_use]
    pub fn after(mut self, pause: Duration) -> HandlerError {
        self.retry_after = Some(pause);
        self
    }
}

impl<E: std::error::Error> From<E> for HandlerError {
    /// Any error is worth another attempt.
    fn from(error: E) -> HandlerError {
        HandlerError::retriable(error.to_string()).kind(std::any::type_name::<E>())
    }
}

impl From<HandlerError> for Outcome {
    fn from(error: HandlerError) -> Outcome {
        Outcome::Failed {
            kind: error.kind,
            text: error.text,
            is_retriable: error.is_retriable,
            retry_after: error.retry_after,
        }
    }
}

impl Consumer {
    /// Handles records on [`ProcessOptions::max_in_flight`] threads, in order by key, by partition or not at all, and commits no further
    /// than everything is done. Runs in the background until [`Processing::stop`], [`Consumer::close`], or an error.
    ///
    /// A handler that returns an error, or panics, has its record again later ([`ProcessOptions::max_attempts`]), then it has failed for
    /// good ([`ProcessOptions::on_failure`]). Nobody else may poll the consumer meanwhile; rebalance callbacks run on a thread of their own.
    /// When partitions are revoked, records that wait are given back, and those with handlers have `tidegate.revoke.drain.ms` to finish.
    ///
    /// ```
    /// # fn main() -> tidegate::Result<()> {
    /// # let broker = tidegate::embedded::Broker::with_topics(&[("tasks", 2)])?;
    /// # let config = tidegate::Config::new().with("bootstrap.servers", broker.bootstrap_servers());
    /// # let producer = tidegate::Producer::new(&config)?;
    /// # for task in 0..10 {
    /// #     producer.send(&tidegate::ProducerRecord::new("tasks").key(&format!("{}", task % 3)).value("work"))?;
    /// # }
    /// # producer.flush(std::time::Duration::from_secs(10))?;
    /// # let config = config.with("group.id", "g").with("auto.offset.reset", "earliest");
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tidegate::{Consumer, ProcessOptions};
    ///
    /// let consumer = Arc::new(Consumer::new(&config)?);
    /// consumer.subscribe(&["tasks"])?;
    /// let mut options = ProcessOptions::default();
    /// options.max_in_flight = 100;
    /// options.max_attempts = Some(3);
    /// let processing = consumer.process(options, |record| {
    ///     println!("{:?}", record.value());
    ///     Ok(())
    /// })?;
    /// # let start = std::time::Instant::now();
    /// # while processing.ledger().done < 10 {
    /// #     assert!(start.elapsed() < Duration::from_secs(30), "{:?}", processing.ledger());
    /// #     std::thread::yield_now();
    /// # }
    /// // ... until it is time to end:
    /// let report = processing.stop(Duration::from_secs(10))?;
    /// assert!(report.is_drained);
    /// consumer.close(Duration::from_secs(10))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Dispatcher::start`].
    pub fn process<F>(self: &Arc<Self>, options: ProcessOptions, handler: F) -> Result<Processing>
    where
        F: Fn(&Record<'_>) -> Result<(), HandlerError> + Send + Sync + 'static,
    {
        outputs_are_not_wanted(&options)?;
        self.process_on_threads(options, move |record| {
            handler(record).map(|()| Outcome::Done)
        })
    }

    /// As [`Consumer::process`], exactly once: what handlers return and the offsets of what they handled are committed together, by
    /// transactions ([`ProcessOptions::exactly_once`], which must be set). Whoever reads the outputs with
    /// `isolation.level=read_committed` sees those of each record once, whatever is killed or rebalanced meanwhile. Handlers run at
    /// least once: after a crash, or when partitions were taken away before their transaction, they are called again.
    ///
    /// Dead letters are part of the same transactions. A record is `done` when its transaction is committed.
    ///
    /// ```
    /// # fn main() -> tidegate::Result<()> {
    /// # let broker = tidegate::embedded::Broker::with_topics(&[("tasks", 2), ("answers", 2)])?;
    /// # let config = tidegate::Config::new().with("bootstrap.servers", broker.bootstrap_servers());
    /// # let producer = tidegate::Producer::new(&config)?;
    /// # for task in 0..10 {
    /// #     producer.send(&tidegate::ProducerRecord::new("tasks").key(&format!("{}", task % 3)).value("work"))?;
    /// # }
    /// # producer.flush(std::time::Duration::from_secs(10))?;
    /// # let config = config.with("group.id", "g").with("auto.offset.reset", "earliest");
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tidegate::parallel::{ExactlyOnce, Output};
    /// use tidegate::{Consumer, ProcessOptions};
    ///
    /// let consumer = Arc::new(Consumer::new(&config)?);
    /// consumer.subscribe(&["tasks"])?;
    /// let mut options = ProcessOptions::default();
    /// options.exactly_once = Some(ExactlyOnce::new(&consumer, "assessor-1", "answers")?);
    /// let processing = consumer.process_to(options, |record| {
    ///     Ok(Output::new(record.value().unwrap_or_default()).header("from", "assessor"))
    /// })?;
    /// # let start = std::time::Instant::now();
    /// # while processing.ledger().done < 10 {
    /// #     assert!(start.elapsed() < Duration::from_secs(30), "{:?}", processing.ledger());
    /// #     std::thread::yield_now();
    /// # }
    /// let report = processing.stop(Duration::from_secs(10))?;
    /// assert!(report.is_drained);
    /// # consumer.close(Duration::from_secs(10))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Dispatcher::start`]; [`Error::Argument`] without [`ProcessOptions::exactly_once`]. What ends the processing later
    /// comes from [`Processing::wait`]: a producer that is fenced, or an output that no broker takes.
    pub fn process_to<F, O>(
        self: &Arc<Self>,
        options: ProcessOptions,
        handler: F,
    ) -> Result<Processing>
    where
        F: Fn(&Record<'_>) -> Result<O, HandlerError> + Send + Sync + 'static,
        O: IntoOutputs,
    {
        outputs_have_a_way(&options)?;
        self.process_on_threads(options, move |record| {
            let made = handler(record)?;
            Ok(Outcome::Produced(made.into_outputs()))
        })
    }

    fn process_on_threads<F>(
        self: &Arc<Self>,
        options: ProcessOptions,
        handler: F,
    ) -> Result<Processing>
    where
        F: Fn(&Record<'_>) -> Result<Outcome, HandlerError> + Send + Sync + 'static,
    {
        let crew = Crew::new(&options);
        self.process_by(crew, options, handler)
    }

    /// As [`Consumer::process`], by this crew.
    pub(super) fn process_by<F>(
        self: &Arc<Self>,
        crew: Crew,
        options: ProcessOptions,
        handler: F,
    ) -> Result<Processing>
    where
        F: Fn(&Record<'_>) -> Result<Outcome, HandlerError> + Send + Sync + 'static,
    {
        one_record_at_a_time(&options)?;
        let threads = options.max_in_flight;
        let crew = Arc::new(crew);
        let options = ProcessOptions {
            max_in_flight: threads.saturating_mul(crew.most_of_each()),
            ..options
        };
        let dispatcher = Dispatcher::start_for(Arc::clone(self), options, crew.has_stretches())?;
        let handler = Arc::new(handler);
        let mut processing = Processing {
            dispatcher,
            threads: Vec::with_capacity(threads),
            pool: None,
        };
        for number in 0..threads {
            let dispatcher = Arc::clone(&processing.dispatcher);
            let handler = Arc::clone(&handler);
            let crew = Arc::clone(&crew);
            let thread = std::thread::Builder::new()
                .name(format!("tidegate-work-{number}"))
                .spawn(move || crew.work(number, &dispatcher, &*handler))
                .map_err(|error| Error::TimedOut {
                    what: format!("starting a handler's thread ({error})"),
                    timeout_ms: 0,
                })?;
            processing.threads.push(thread);
        }
        Ok(processing)
    }
}

/// Handlers that make no outputs need no transactions: they were meant for others.
pub(super) fn outputs_are_not_wanted(options: &ProcessOptions) -> Result<()> {
    match options.exactly_once {
        None => Ok(()),
        Some(_) => Err(Error::argument(
            "exactly_once",
            "these handlers make no outputs",
            "use process_to() and its like, whose handlers return them",
        )),
    }
}

/// Handlers of one record have no use for batches, which may hold several of one key.
pub(super) fn one_record_at_a_time(options: &ProcessOptions) -> Result<()> {
    match options.batch_size {
        1 => Ok(()),
        size => Err(Error::argument(
            "batch_size",
            format!("these handlers get one record at a time, not {size}"),
            "use 1, or take batches from a Dispatcher",
        )),
    }
}

/// Handlers that make outputs need somebody who sends them.
pub(super) fn outputs_have_a_way(options: &ProcessOptions) -> Result<()> {
    match options.exactly_once {
        Some(_) => Ok(()),
        None => Err(Error::argument(
            "exactly_once",
            "there is no transaction to send outputs in",
            "set it to ExactlyOnce::new(...), or use process() and a producer",
        )),
    }
}

/// Handlers at work; see [`Consumer::process`]. Dropping it stops them and waits at most five seconds.
pub struct Processing {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) threads: Vec<JoinHandle<()>>,
    /// Of handlers that are futures on threads of our own.
    pub(super) pool: Option<Pool>,
}

impl std::fmt::Debug for Processing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processing")
            .field("dispatcher", &self.dispatcher)
            .finish_non_exhaustive()
    }
}

impl Processing {
    /// What became of everything that was received.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.dispatcher.ledger()
    }

    /// Waits until it has ended by itself: because the consumer was closed, or with an error.
    ///
    /// # Errors
    ///
    /// What ended it.
    pub fn wait(&self) -> Result<()> {
        self.dispatcher.wait(None).map(drop)
    }

    /// Begins no other record, gives back what waits, lets handlers finish for at most `drain`, and commits what is done.
    ///
    /// # Errors
    ///
    /// What had ended it before.
    pub fn stop(mut self, drain: Duration) -> Result<StopReport> {
        self.end(drain)
    }

    fn end(&mut self, drain: Duration) -> Result<StopReport> {
        let report = self.dispatcher.stop(drain);
        if let Some(pool) = self.pool.take() {
            pool.end();
        }
        for thread in self.threads.drain(..) {
            // A handler that is still busy keeps its thread, whose answer is then nobody's.
            if report.ledger.in_flight + report.ledger.overdue == 0 {
                let _ = thread.join();
            }
        }
        self.dispatcher.failure()?;
        Ok(report)
    }
}

impl Drop for Processing {
    fn drop(&mut self) {
        if !self.threads.is_empty()
            && let Err(error) = self.end(DROP_DRAIN)
        {
            crate::log::warn(format_args!("processing has ended: {error}"));
        }
    }
}
