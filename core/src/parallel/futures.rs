//! Handlers that are futures: on a few threads of our own, or wherever the caller spawns them.
//!
//! One thread takes records and makes their futures; the answer of a future goes to the dispatcher from wherever it ends. A future
//! that is dropped before its end gives its record back unfinished.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::parallel::ProcessOptions;
use crate::parallel::dispatcher::{Dispatcher, Outcome};
use crate::parallel::outputs::IntoOutputs;
use crate::parallel::parts::{Ticket, Works};
use crate::parallel::process::{
    HandlerError, Processing, one_record_at_a_time, outputs_are_not_wanted, outputs_have_a_way,
};
use crate::parallel::threads::panicked;
use crate::record::OwnedRecord;

/// The most futures that are made at a time.
const MOST_AT_ONCE: usize = 256;

/// A future that a runtime runs to its end; made by [`Consumer::process_with`].
pub type HandlerFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Answers for a record when it goes.
struct Answering {
    dispatcher: Arc<Dispatcher>,
    ticket: Ticket,
    outcome: Option<Outcome>,
}

impl Answering {
    fn with(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Outcome::Unfinished);
        self.dispatcher.settle([(self.ticket, outcome)]);
    }
}

/// A handler's future; a panic is a failure.
struct Caught<F>(Pin<Box<F>>);

impl<F: Future<Output = Result<O, HandlerError>>, O: IntoOutputs> Future for Caught<F> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(made))) => Poll::Ready(Outcome::Produced(made.into_outputs())),
            Ok(Poll::Ready(Err(error))) => Poll::Ready(error.into()),
            Err(panic) => Poll::Ready(panicked(panic.as_ref())),
        }
    }
}

/// What our own threads run.
enum Job {
    Poll(Arc<Task>),
    End,
}

/// A future on our own threads.
struct Task {
    future: Mutex<Option<HandlerFuture>>,
    /// It is in the queue already.
    queued: AtomicBool,
    jobs: Sender<Job>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let jobs = self.jobs.clone();
            // Nobody is there any more when the processing has ended.
            let _ = jobs.send(Job::Poll(self));
        }
    }
}

fn run(jobs: &Receiver<Job>) {
    while let Ok(Job::Poll(task)) = jobs.recv() {
        // Before polling: a wake-up from now on is another turn.
        task.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task));
        let mut future = task.future.lock();
        if let Some(running) = future.as_mut()
            && running
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        {
            *future = None;
        }
    }
}

/// Our own threads; ended by [`Pool::end`].
pub(super) struct Pool {
    jobs: Sender<Job>,
    threads: usize,
}

impl Pool {
    pub(super) fn end(&self) {
        for _ in 0..self.threads {
            let _ = self.jobs.send(Job::End);
        }
    }
}

fn thread(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|error| Error::TimedOut {
            what: format!("starting a handler's thread ({error})"),
            timeout_ms: 0,
        })
}

impl Consumer {
    /// As [`Consumer::process`], with handlers that are futures: up to [`ProcessOptions::max_in_flight`] of them wait at once on a few
    /// threads of Tidegate's own, one per processor. They need no runtime, and bring none: what a future waits for must wake it from
    /// a thread of its own. With tokio and its like use [`Consumer::process_with`].
    ///
    /// ```
    /// # fn main() -> tidegate::Result<()> {
    /// # let broker = tidegate::embedded::Broker::with_topics(&[("tasks", 2), ("answers", 1)])?;
    /// # let config = tidegate::Config::new().with("bootstrap.servers", broker.bootstrap_servers());
    /// # let tasks = tidegate::Producer::new(&config)?;
    /// # for task in 0..10 {
    /// #     tasks.send(&tidegate::ProducerRecord::new("tasks").key(&format!("{}", task % 3)).value("work"))?;
    /// # }
    /// # tasks.flush(std::time::Duration::from_secs(10))?;
    /// # let producer = tasks;
    /// # let config = config.with("group.id", "g").with("auto.offset.reset", "earliest");
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tidegate::{Consumer, ProcessOptions, ProducerRecord};
    ///
    /// let consumer = Arc::new(Consumer::new(&config)?);
    /// consumer.subscribe(&["tasks"])?;
    /// let mut options = ProcessOptions::default();
    /// options.max_in_flight = 100;
    /// let processing = consumer.process_async(options, move |record| {
    ///     let producer = producer.clone();
    ///     async move {
    ///         let answer = ProducerRecord::new("answers").value(record.value().unwrap_or_default());
    ///         producer.send_future(&answer)?.await?;
    ///         Ok(())
    ///     }
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
    /// As [`Dispatcher::start`].
    pub fn process_async<H, F>(
        self: &Arc<Self>,
        options: ProcessOptions,
        handler: H,
    ) -> Result<Processing>
    where
        H: Fn(OwnedRecord) -> F + Send + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        outputs_are_not_wanted(&options)?;
        self.run_futures(options, handler)
    }

    /// As [`Consumer::process_to`], with handlers that are futures: see [`Consumer::process_async`].
    ///
    /// # Errors
    ///
    /// As [`Consumer::process_to`].
    pub fn process_async_to<H, F, O>(
        self: &Arc<Self>,
        options: ProcessOptions,
        handler: H,
    ) -> Result<Processing>
    where
        H: Fn(OwnedRecord) -> F + Send + 'static,
        F: Future<Output = Result<O, HandlerError>> + Send + 'static,
        O: IntoOutputs,
    {
        outputs_have_a_way(&options)?;
        self.run_futures(options, handler)
    }

    fn run_futures<H, F, O>(
        self: &Arc<Self>,
        options: ProcessOptions,
        handler: H,
    ) -> Result<Processing>
    where
        H: Fn(OwnedRecord) -> F + Send + 'static,
        F: Future<Output = Result<O, HandlerError>> + Send + 'static,
        O: IntoOutputs,
    {
        let (jobs, queue) = unbounded();
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let spawning = jobs.clone();
        let spawn = move |future| {
            let task = Arc::new(Task {
                future: Mutex::new(Some(future)),
                queued: AtomicBool::new(false),
                jobs: spawning.clone(),
            });
            task.wake();
        };
        let mut processing = self.spawn_futures(options, spawn, handler)?;
        processing.pool = Some(Pool {
            jobs,
            threads: count,
        });
        for number in 0..count {
            let queue = queue.clone();
            let thread = thread(format!("tidegate-work-{number}"), move || run(&queue))?;
            processing.threads.push(thread);
        }
        Ok(processing)
    }

    /// As [`Consumer::process_async`], with `spawn` to run each future, such as `move |future| drop(runtime.spawn(future))` with the
    /// handle of a tokio runtime. A future that is dropped before its end gives its record back.
    ///
    /// # Errors
    ///
    /// As [`Dispatcher::start`].
    pub fn process_with<S, H, F>(
        self: &Arc<Self>,
        options: ProcessOptions,
        spawn: S,
        handler: H,
    ) -> Result<Processing>
    where
        S: Fn(HandlerFuture) + Send + 'static,
        H: Fn(OwnedRecord) -> F + Send + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        outputs_are_not_wanted(&options)?;
        self.spawn_futures(options, spawn, handler)
    }

    /// As [`Consumer::process_to`], with `spawn` to run each future: see [`Consumer::process_with`].
    ///
    /// # Errors
    ///
    /// As [`Consumer::process_to`].
    pub fn process_with_to<S, H, F, O>(
        self: &Arc<Self>,
        options: ProcessOptions,
        spawn: S,
        handler: H,
    ) -> Result<Processing>
    where
        S: Fn(HandlerFuture) + Send + 'static,
        H: Fn(OwnedRecord) -> F + Send + 'static,
        F: Future<Output = Result<O, HandlerError>> + Send + 'static,
        O: IntoOutputs,
    {
        outputs_have_a_way(&options)?;
        self.spawn_futures(options, spawn, handler)
    }

    fn spawn_futures<S, H, F, O>(
        self: &Arc<Self>,
        options: ProcessOptions,
        spawn: S,
        handler: H,
    ) -> Result<Processing>
    where
        S: Fn(HandlerFuture) + Send + 'static,
        H: Fn(OwnedRecord) -> F + Send + 'static,
        F: Future<Output = Result<O, HandlerError>> + Send + 'static,
        O: IntoOutputs,
    {
        one_record_at_a_time(&options)?;
        let dispatcher = Dispatcher::start(Arc::clone(self), options)?;
        let feeding = Arc::clone(&dispatcher);
        let feed = move || {
            let mut works = Works::default();
            // Whoever waits for the end is told the error.
            while let Ok(true) = feeding.take_into(&mut works, MOST_AT_ONCE, None) {
                for work in works.owned() {
                    let answering = Answering {
                        dispatcher: Arc::clone(&feeding),
                        ticket: work.ticket,
                        outcome: None,
                    };
                    let Some(record) = work.batch.get_owned(work.row) else {
                        continue;
                    };
                    match catch_unwind(AssertUnwindSafe(|| handler(record))) {
                        Ok(future) => {
                            let caught = Caught(Box::pin(future));
                            spawn(Box::pin(async move {
                                let outcome = caught.await;
                                answering.with(outcome);
                            }));
                        }
                        Err(panic) => answering.with(panicked(panic.as_ref())),
                    }
                }
            }
        };
        let threads = vec![thread("tidegate-feeder".into(), feed)?];
        Ok(Processing {
            dispatcher,
            threads,
            pool: None,
        })
    }
}
