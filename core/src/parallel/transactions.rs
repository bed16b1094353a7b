//! Makes the transactions of exactly-once processing, on the thread "tidegate-transactions".
//!
//! One after the other: it takes what is handled ([`super::pending`]), sends the outputs, adds offsets with the group's generation,
//! commits. A transaction is open only for that long, so no handler's time is in it. After an abort the outputs go with the next one,
//! and no handler is called again. What ends the processing: a producer that is fenced or broken otherwise, and an output that no
//! broker will ever take. The dispatcher's lock is held while records are chosen and settled, never during a step of a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::log::{self, Level, TIDEGATE};
use crate::parallel::dispatcher::Dispatcher;
use crate::parallel::exactly_once::{OnRefused, Sent, Way};
use crate::parallel::pending::Attempt;

/// Each step of a transaction waits so long, then looks whether there is still time, and goes on.
const STEP: Duration = Duration::from_millis(500);
/// The pause after a step that failed for a reason that passes, and after an abort; doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// While something waits for a transaction, its partition may be revoked: so often is that looked for.
const LOOK: Duration = Duration::from_millis(20);
/// The longest wait while nothing waits for a transaction.
const IDLE: Duration = Duration::from_secs(1);
/// What the last transaction gets when handlers have used up the time of a stop.
const LEAST_END: Duration = Duration::from_secs(1);
/// The broker takes less metadata (`offset.metadata.max.bytes`).
const METADATA_TOO_LARGE: &str = "OFFSET_METADATA_TOO_LARGE";
/// What no other attempt mends.
const FOR_GOOD: [&str; 13] = [
    "MSG_SIZE_TOO_LARGE",
    "RECORD_LIST_TOO_LARGE",
    "INVALID_RECORD",
    "INVALID_TIMESTAMP",
    "POLICY_VIOLATION",
    "TOPIC_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    "TOPIC_EXCEPTION",
    "_UNKNOWN_TOPIC",
    "_UNKNOWN_PARTITION",
    "_INVALID_ARG",
    "_UNSUPPORTED_FEATURE",
];

/// The transactions of a [`Dispatcher`].
pub(super) struct Transactions {
    way: Box<dyn Way>,
    topic: String,
    interval: Duration,
    max_records: usize,
    /// How long maps may be; less when the broker takes less.
    map_bytes: AtomicUsize,
    /// No other transaction begins, and what does not come to its end by `until` is left to the broker.
    ending: AtomicBool,
    until: Mutex<Option<Instant>>,
    /// Something waits for a transaction where nothing did, or as much as is not waited for; or it ends.
    tell: Condvar,
    is_idle: AtomicBool,
    /// The thread has ended: nothing comes to its end any more.
    is_over: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why a transaction was not committed.
enum Failed {
    /// It is aborted; the next one may succeed.
    Aborted(String),
    /// The time is over, and nobody knows whether it is committed.
    OutOfTime,
    /// There will be no other.
    ForGood(Error),
}

impl Transactions {
    pub(super) fn new(
        way: Box<dyn Way>,
        topic: &str,
        interval: Duration,
        max_records: usize,
    ) -> Transactions {
        Transactions {
            way,
            topic: topic.to_string(),
            interval,
            max_records,
            map_bytes: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            until: Mutex::new(None),
            tell: Condvar::new(),
            is_idle: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
    }

    /// To be called under the lock when `waiting` records wait for a transaction.
    pub(super) fn note(&self, waiting: usize) {
        if (waiting > 0 && self.is_idle.load(Ordering::Relaxed)) || waiting >= self.max_records {
            self.tell.notify_all();
        }
    }

    /// As [`Transactions::note`], whatever waits: the processing ends.
    pub(super) fn wake(&self) {
        self.tell.notify_all();
    }

    /// True when what waits for a transaction will have one, or an answer that there is none.
    pub(super) fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Acquire)
    }

    fn is_out_of_time(&self) -> bool {
        self.ending.load(Ordering::Acquire)
            && self
                .until
                .lock()
                .is_none_or(|until| Instant::now() >= until)
    }

    /// Calls again what failed for a reason that passes, as librdkafka wants it for steps of transactions.
    fn persist<T>(&self, mut step: impl FnMut() -> Result<T>) -> Result<T, Failed> {
        let mut pause = PAUSE;
        loop {
            match step() {
                Ok(done) => return Ok(done),
                Err(error) if error.requires_abort() => return Err(self.aborted(&error)),
                Err(error) if !error.is_retriable() => return Err(Failed::ForGood(error)),
                Err(_) if self.is_out_of_time() => return Err(Failed::OutOfTime),
                Err(error) => {
                    std::thread::sleep(pause);
                    if pause < LONGEST_PAUSE && pause * 2 >= LONGEST_PAUSE {
                        log::warn(format_args!("a transaction does not get on: {error}"));
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// What a failure means that wants an abort.
    fn aborted(&self, error: &Error) -> Failed {
        let name = error.kafka_code().map(|code| code.name());
        if name == Some(METADATA_TOO_LARGE) {
            let bytes = self.map_bytes.load(Ordering::Relaxed);
            self.map_bytes.store(bytes / 2, Ordering::Relaxed);
        }
        match is_for_good(error) {
            true => Failed::ForGood(error.clone()),
            false => Failed::Aborted(error.to_string()),
        }
    }

    fn transact(&self, attempt: &Attempt) -> Result<(), Failed> {
        let refused: Arc<Mutex<Option<Error>>> = Arc::default();
        let outcome = self.try_transact(attempt, &refused);
        let Err(failed) = outcome else {
            return Ok(());
        };
        if matches!(failed, Failed::OutOfTime) {
            return Err(failed);
        }
        if let Failed::ForGood(error) = &failed
            && error.is_fatal()
        {
            return Err(failed);
        }
        self.persist(|| self.way.abort(STEP))?;
        // What a broker said of a single output tells more than the transaction's failure.
        let said = refused.lock().take();
        Err(match said.filter(is_for_good) {
            Some(error) => Failed::ForGood(error),
            None => failed,
        })
    }

    fn try_transact(
        &self,
        attempt: &Attempt,
        refused: &Arc<Mutex<Option<Error>>>,
    ) -> Result<(), Failed> {
        self.persist(|| self.way.begin())?;
        for finished in &attempt.records {
            let handled = finished.batch.get(finished.row);
            for output in &finished.outputs {
                let heard = Arc::clone(refused);
                let hear: OnRefused = Box::new(move |error| {
                    heard.lock().get_or_insert(error);
                });
                output
                    .with_record(&self.topic, handled.as_ref(), |record| {
                        self.way.send(record, hear)
                    })
                    .map_err(|error| match is_for_good(&error) {
                        true => Failed::ForGood(error),
                        false if error.is_fatal() => Failed::ForGood(error),
                        false => Failed::Aborted(error.to_string()),
                    })?;
            }
        }
        let is_current = || attempt.is_current();
        let sent = self.persist(|| self.way.send_offsets(&attempt.offsets, &is_current, STEP))?;
        if sent == Sent::Gone {
            return Err(Failed::Aborted("partitions were taken away".into()));
        }
        self.persist(|| self.way.commit(STEP))
    }
}

fn is_for_good(error: &Error) -> bool {
    match error.kafka_code() {
        Some(code) => FOR_GOOD.contains(&code.name()),
        None => matches!(error, Error::Argument { .. }),
    }
}

/// The error that ends the processing.
fn ending(error: Error) -> Error {
    match error {
        Error::Kafka { code, context } => {
            let what = match code.name() {
                "_FENCED" | "PRODUCER_FENCED" | "INVALID_PRODUCER_EPOCH" => {
                    "another producer has this transactional_id, or a transaction was open for longer than the broker allows (30 s), so this member may \
                     not commit any more; give each member an id of its own"
                }
                _ => {
                    "the transactions of process() cannot go on; what was not committed comes again after a restart"
                }
            };
            Error::Kafka {
                code,
                context: format!("{what} ({context})"),
            }
        }
        other => other,
    }
}

impl Dispatcher {
    /// Starts the thread of the transactions, if there are to be any.
    pub(super) fn begin_transactions(self: &Arc<Self>) -> Result<()> {
        let Some(transactions) = &self.transactions else {
            return Ok(());
        };
        let map_bytes = self.consumer().shared().offset_map_bytes();
        transactions.map_bytes.store(map_bytes, Ordering::Relaxed);
        let dispatcher = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("tidegate-transactions".into())
            .spawn(move || {
                if let Some(transactions) = &dispatcher.transactions {
                    dispatcher.make_transactions(transactions);
                }
            })
            .map_err(|error| Error::TimedOut {
                what: format!("starting the transactions' thread ({error})"),
                timeout_ms: 0,
            })?;
        *transactions.thread.lock() = Some(thread);
        Ok(())
    }

    /// Ends the transactions: the one under way has until `deadline`, and a little. What is not committed then is given back.
    pub(super) fn end_transactions(&self, deadline: Instant) {
        let Some(transactions) = &self.transactions else {
            return;
        };
        let until = deadline.max(Instant::now() + LEAST_END);
        *transactions.until.lock() = Some(until);
        {
            // Under the lock: whoever is about to wait has seen it or is woken.
            let _state = self.state.lock();
            transactions.ending.store(true, Ordering::Release);
            transactions.wake();
        }
        if let Some(thread) = transactions.thread.lock().take() {
            let _ = thread.join();
        }
        self.state.lock().drop_pending();
    }

    /// The life of the thread.
    fn make_transactions(&self, transactions: &Transactions) {
        match transactions.persist(|| transactions.way.init(STEP)) {
            Ok(()) => self.transact_until_the_end(transactions),
            Err(Failed::ForGood(error)) => self.fail_for_good(error),
            Err(Failed::Aborted(_) | Failed::OutOfTime) => {}
        }
        if let Err(error) = transactions.way.close(STEP)
            && !error.is_fatal()
        {
            log::warn(format_args!(
                "closing the producer of transactions: {error}"
            ));
        }
        let _state = self.state.lock();
        transactions.is_over.store(true, Ordering::Release);
        self.settled.notify_all();
    }

    fn fail_for_good(&self, error: Error) {
        let error = ending(error);
        log::emit(Level::Error, TIDEGATE, format_args!("{error}"));
        self.fail(error);
    }

    fn transact_until_the_end(&self, transactions: &Transactions) {
        let mut pause = PAUSE;
        let mut last: Option<Instant> = None;
        let mut is_blocked = false;
        while let Some(attempt) = self.next_attempt(transactions, last, is_blocked) {
            last = Some(Instant::now());
            is_blocked = attempt.is_empty();
            if is_blocked {
                // Nothing that waits fits beside what is committed, or its partition is gone.
                self.tell_settled();
                continue;
            }
            if let Some(cell) = attempt.cells().iter().find(|cell| {
                cell.went_back() || (attempt.is_current() && !self.consumer().is_assigned(cell))
            }) {
                let context = format!(
                    "the log of {} was truncated or made anew while its records were handled; exactly-once begins again with a restart, \
                     at the committed offset",
                    cell.topic_partition()
                );
                self.state.lock().aborted(attempt);
                return self.fail_for_good(Error::Listener { context });
            }
            match transactions.transact(&attempt) {
                Ok(()) => {
                    pause = PAUSE;
                    let mut state = self.state.lock();
                    state.committed(attempt);
                    self.tell_settled();
                }
                Err(failed) => {
                    let mut state = self.state.lock();
                    state.aborted(attempt);
                    // Nobody but the handlers may be found stuck.
                    if state.ledger().in_flight == 0 {
                        self.consumer().shared().note_answers();
                    }
                    match failed {
                        Failed::OutOfTime => {
                            log::warn(format_args!(
                                "the last transaction did not come to its end in time; a restart begins after it if it is committed"
                            ));
                            return;
                        }
                        Failed::ForGood(error) => {
                            drop(state);
                            return self.fail_for_good(error);
                        }
                        Failed::Aborted(why) => {
                            log::warn(format_args!(
                                "a transaction was aborted, its outputs go with the next one: {why}"
                            ));
                            transactions.tell.wait_for(&mut state, pause);
                            pause = (pause * 2).min(LONGEST_PAUSE);
                        }
                    }
                }
            }
        }
    }

    fn tell_settled(&self) {
        self.work.notify_all();
        self.room.notify_one();
        self.settled.notify_all();
    }

    /// Waits until a transaction is due; `None` when there will be none any more.
    fn next_attempt(
        &self,
        transactions: &Transactions,
        last: Option<Instant>,
        is_blocked: bool,
    ) -> Option<Attempt> {
        let due = last.map(|last| last + transactions.interval);
        let mut state = self.state.lock();
        if is_blocked {
            // Something must be answered first.
            transactions.tell.wait_for(&mut state, LOOK);
        }
        loop {
            let waiting = state.pending();
            let ledger = state.ledger();
            if transactions.ending.load(Ordering::Acquire) && waiting == 0 {
                return None;
            }
            if transactions.is_out_of_time() {
                return None;
            }
            // Dead letters are among what waits.
            let is_over = self.is_stopping() && ledger.in_flight == 0;
            if is_over && (waiting == 0 || is_blocked) || self.consumer().is_closed() {
                return None;
            }
            let is_urgent = waiting >= transactions.max_records || self.is_stopping();
            let now = Instant::now();
            if waiting > 0
                && (due.is_none_or(|due| now >= due) || is_urgent || state.is_being_revoked())
            {
                let map_bytes = transactions.map_bytes.load(Ordering::Relaxed);
                return Some(state.begin(map_bytes));
            }
            // While nothing waits the first record tells; that everything is answered tells nobody.
            transactions.is_idle.store(waiting == 0, Ordering::Relaxed);
            let until = match waiting {
                0 if self.is_stopping() => now + LOOK,
                0 => now + IDLE,
                _ => due.map_or(now + LOOK, |due| due.min(now + LOOK)),
            };
            transactions.tell.wait_until(&mut state, until);
            transactions.is_idle.store(false, Ordering::Relaxed);
        }
    }
}
