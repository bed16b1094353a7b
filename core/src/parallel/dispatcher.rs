//! The dispatcher: [`State`] with a clock, waiting, and a thread that fetches.
//!
//! Handlers' threads call [`Dispatcher::take`] and [`Dispatcher::settle`]; both handle many records under one lock. The thread
//! "tidegate-intake" is the one that polls the consumer: rebalance callbacks run there. Lock order: `state`, then nothing; the consumer is
//! never called under it, but for acknowledging, which takes no lock of the consumer's.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::clock::Clock;
use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::log;
use crate::parallel::ledger::Ledger;
use crate::parallel::letters::{Letter, Letters, Reason};
use crate::parallel::state::{Answer, State, Ticket, Work};
use crate::parallel::{OnFailure, ProcessOptions};

/// While records wait here, their partitions may be revoked: so often is that looked for.
const LOOK: Duration = Duration::from_millis(20);
/// The longest wait of the intake when nothing is at hand.
const IDLE: Duration = Duration::from_secs(1);
/// What the last commit gets when handlers have used up the time.
const LEAST_COMMIT_WAIT: Duration = Duration::from_secs(1);
/// No wait is longer.
const A_DAY: Duration = Duration::from_secs(86_400);
/// The pause after an error that may pass.
const ERROR_PAUSE: Duration = Duration::from_millis(200);

/// What a handler has made of a record.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done.
    Done,
    /// It failed.
    Failed {
        /// The kind of error, such as an exception's name; goes into the dead letter's headers.
        kind: String,
        /// What it said.
        text: String,
        /// False: trying again is pointless.
        is_retriable: bool,
        /// Not before so much time, whatever the backoff says (a server's Retry-After).
        retry_after: Option<Duration>,
    },
    /// Neither done nor failed: the application is ending. It comes again after a restart.
    Unfinished,
}

impl Outcome {
    /// It failed: see [`Outcome::Failed`].
    #[must_use]
    pub fn failed(
        kind: impl Into<String>,
        text: impl Into<String>,
        is_retriable: bool,
        retry_after: Option<Duration>,
    ) -> Outcome {
        Outcome::Failed {
            kind: kind.into(),
            text: text.into(),
            is_retriable,
            retry_after,
        }
    }
}

/// What [`Dispatcher::stop`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopReport {
    /// What became of everything, [`Ledger::in_flight`] being what handlers still had at the end.
    pub ledger: Ledger,
    /// No handler had anything any more, and every dead letter was confirmed.
    pub is_drained: bool,
}

/// Hands records of one consumer to handlers; see the [module](crate::parallel).
pub struct Dispatcher {
    consumer: Arc<Consumer>,
    options: ProcessOptions,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// There may be something to take, or it is over.
    work: Condvar,
    /// There may be room for more, or it is over.
    room: Condvar,
    /// Something was settled.
    settled: Condvar,
    stopping: AtomicBool,
    failure: Mutex<Option<Error>>,
    letters: Option<Arc<Letters>>,
    /// For delivery reports, which must not keep it alive.
    me: Weak<Dispatcher>,
    jitter: AtomicU64,
    intake: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher")
            .field("consumer", &self.consumer)
            .field("ledger", &self.ledger())
            .finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// Begins to fetch. The consumer must be subscribed or assigned, now or later, and must not be polled by anybody else.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for options that cannot be, [`Error::Closed`].
    pub fn start(consumer: Arc<Consumer>, options: ProcessOptions) -> Result<Arc<Dispatcher>> {
        options.check()?;
        consumer.open()?;
        let letters = match &options.on_failure {
            OnFailure::DeadLetter { producer, topic } => Some(Arc::new(Letters::new(
                producer.clone(),
                topic.clone(),
                consumer.group_id().unwrap_or_default().to_string(),
            ))),
            OnFailure::Stop | OnFailure::Skip => None,
        };
        let dispatcher = Arc::new_cyclic(|me| Dispatcher {
            me: Weak::clone(me),
            clock: consumer.clock(),
            state: Mutex::new(State::new(options.order, options.max_in_flight)),
            work: Condvar::new(),
            room: Condvar::new(),
            settled: Condvar::new(),
            stopping: AtomicBool::new(false),
            failure: Mutex::new(None),
            letters,
            jitter: AtomicU64::new(std::hash::RandomState::new().hash_one(0)),
            intake: Mutex::new(None),
            consumer,
            options,
        });
        let shared = dispatcher.consumer.shared();
        shared.set_offset_map_bytes(dispatcher.options.offset_map_bytes);
        let fetching = Arc::clone(&dispatcher);
        let thread = std::thread::Builder::new()
            .name("tidegate-intake".into())
            .spawn(move || fetching.fetch())
            .map_err(|error| Error::TimedOut {
                what: format!("starting the intake's thread ({error})"),
                timeout_ms: 0,
            })?;
        *dispatcher.intake.lock() = Some(thread);
        Ok(dispatcher)
    }

    /// Up to `most` records to handle: at least one, or an empty list when `timeout` is over, or `None` when it is over for good because
    /// of [`Dispatcher::stop`] or because the consumer was closed. Every ticket must be settled.
    ///
    /// # Errors
    ///
    /// What ended the processing: a record that failed for good ([`OnFailure::Stop`]), a fatal error, a failed rebalance callback.
    pub fn take(&self, most: usize, timeout: Option<Duration>) -> Result<Option<Vec<Work>>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout.min(A_DAY));
        let mut work = Vec::new();
        let mut state = self.state.lock();
        loop {
            if self.is_stopping() {
                return self.failure().map(|()| None);
            }
            let now_us = self.clock.now_us();
            state.take(most, now_us, &mut work);
            if !work.is_empty() {
                self.consumer.shared().set_engaged(true);
                self.room.notify_one();
                // What is left is for somebody else.
                self.work.notify_one();
                return Ok(Some(work));
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(Some(work));
            }
            let due = state
                .next_due_us()
                .map(|due_us| now + Duration::from_micros(due_us.saturating_sub(now_us)));
            match deadline.into_iter().chain(due).min() {
                Some(until) => {
                    self.work.wait_until(&mut state, until);
                }
                None => self.work.wait(&mut state),
            }
        }
    }

    /// Says what became of records; a ticket that was settled before is ignored.
    pub fn settle(&self, outcomes: impl IntoIterator<Item = (Ticket, Outcome)>) {
        let mut letters = Vec::new();
        let mut state = self.state.lock();
        for (ticket, outcome) in outcomes {
            match outcome {
                Outcome::Done => {
                    state.answer(ticket, Answer::Done);
                }
                Outcome::Unfinished => {
                    state.answer(ticket, Answer::Return);
                }
                Outcome::Failed {
                    kind,
                    text,
                    is_retriable,
                    retry_after,
                } => {
                    let Some(before) = state.attempts(ticket) else {
                        continue;
                    };
                    let attempts = before + 1;
                    if is_retriable && self.options.max_attempts.is_none_or(|most| attempts < most)
                    {
                        let pause = self
                            .options
                            .pause(attempts, self.random())
                            .max(retry_after.unwrap_or_default());
                        let due_us = self.clock.now_us().saturating_add(pause.as_micros() as u64);
                        let park = self.options.park_retries;
                        state.answer(ticket, Answer::Retry { due_us, park });
                        continue;
                    }
                    self.failed(
                        &mut state,
                        ticket,
                        Reason::new(kind, text, attempts),
                        &mut letters,
                    );
                }
            }
        }
        self.consumer.shared().note_answers();
        self.after(&state);
        drop(state);
        if let Some(way) = &self.letters {
            for letter in letters {
                way.send(&self.me, letter);
            }
        }
    }

    /// A record has failed for good.
    fn failed(&self, state: &mut State, ticket: Ticket, reason: Reason, letters: &mut Vec<Letter>) {
        let Some(work) = state.work(ticket) else {
            return;
        };
        let place = work
            .batch
            .get(work.row)
            .map(|record| {
                format!(
                    "{} [{}] offset {}",
                    record.topic(),
                    record.partition(),
                    record.offset()
                )
            })
            .unwrap_or_default();
        match self.options.on_failure {
            OnFailure::Stop => {
                state.answer(ticket, Answer::Return);
                self.fail_locked(Error::Listener {
                    context: format!(
                        "the handler failed for good at {place}, attempt {}: {reason}",
                        reason.attempts
                    ),
                });
            }
            OnFailure::Skip => {
                log::warn(format_args!(
                    "{place} was not handled and is skipped: {reason}"
                ));
                state.answer(ticket, Answer::Done);
            }
            OnFailure::DeadLetter { .. } => {
                state.answer(ticket, Answer::DeadLetter);
                letters.push((ticket, work, reason));
            }
        }
    }

    /// The dead-letter topic has confirmed a copy.
    pub(super) fn dead_lettered(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        state.dead_lettered(ticket);
        self.after(&state);
    }

    /// Tells whoever waits for what has just been settled.
    fn after(&self, state: &State) {
        let ledger = state.ledger();
        if ledger.missing() != 0 {
            log::warn(format_args!(
                "a defect: {} records are in no state: {ledger:?}",
                ledger.missing()
            ));
        }
        if ledger.in_flight == 0 {
            self.consumer.shared().set_engaged(false);
        }
        self.work.notify_all();
        self.room.notify_one();
        self.settled.notify_all();
    }

    fn random(&self) -> f64 {
        // A multiplier that is known to mix well; nothing secret hangs on a pause.
        let number = self
            .jitter
            .fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let mixed = (number ^ (number >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Waits until it is over, but for what handlers still have, or until `timeout` is (`None`: without a limit). False when the time
    /// was over first.
    ///
    /// # Errors
    ///
    /// What ended it, if that was an error.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout.min(A_DAY));
        let mut state = self.state.lock();
        while !self.is_stopping() {
            match deadline {
                None => self.settled.wait(&mut state),
                Some(deadline) if Instant::now() >= deadline => return Ok(false),
                Some(deadline) => {
                    self.settled.wait_until(&mut state, deadline);
                }
            }
        }
        drop(state);
        self.failure().map(|()| true)
    }

    /// What ended it, if that was an error.
    pub(super) fn failure(&self) -> Result<()> {
        self.failure.lock().clone().map_or(Ok(()), Err)
    }

    /// What became of everything that was received.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.state.lock().ledger()
    }

    /// The consumer.
    #[must_use]
    pub fn consumer(&self) -> &Arc<Consumer> {
        &self.consumer
    }

    /// True from [`Dispatcher::stop`] on, and when something else has ended it.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends the processing with an error, which [`Dispatcher::take`] and [`Dispatcher::wait`] give: the first one counts.
    pub fn fail(&self, error: Error) {
        // Under the lock: whoever is about to wait has seen it or is woken.
        let _state = self.state.lock();
        self.fail_locked(error);
    }

    /// As [`Dispatcher::fail`], for callers that hold `state`.
    fn fail_locked(&self, error: Error) {
        self.failure.lock().get_or_insert(error);
        self.end();
    }

    fn end(&self) {
        self.stopping.store(true, Ordering::Release);
        self.work.notify_all();
        self.room.notify_all();
        self.settled.notify_all();
    }

    /// Hands out nothing more, gives back what waits, lets handlers finish for at most `drain`, and commits what is done (with
    /// `enable.auto.commit`). The consumer stays open. Calling it again waits again.
    pub fn stop(&self, drain: Duration) -> StopReport {
        let deadline = Instant::now() + drain.min(A_DAY);
        {
            // Under the lock: whoever is about to wait has seen it or is woken.
            let _state = self.state.lock();
            self.end();
        }
        self.consumer.wake();
        if let Some(thread) = self.intake.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
        let mut state = self.state.lock();
        state.drop_all_waiting();
        let busy = |ledger: Ledger| ledger.in_flight > 0 || ledger.dead_letters_pending > 0;
        while busy(state.ledger()) {
            let until = deadline.min(Instant::now() + LOOK);
            self.settled.wait_until(&mut state, until);
            if Instant::now() >= deadline {
                break;
            }
            MutexGuard::unlocked(&mut state, || self.pump_letters());
            // A retry that was asked for meanwhile has no time left.
            state.drop_all_waiting();
        }
        let ledger = state.ledger();
        drop(state);
        if self.consumer.commits_by_itself() && self.consumer.group_id().is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.commit(left.max(LEAST_COMMIT_WAIT)) {
                // A closed consumer has committed.
                Ok(_) | Err(Error::Closed { .. }) => {}
                Err(error) => log::warn(format_args!(
                    "committing what was done at the stop: {error}"
                )),
            }
        }
        StopReport {
            ledger,
            is_drained: !busy(ledger),
        }
    }

    /// The intake's thread.
    fn fetch(&self) {
        while !self.is_stopping() {
            let Some((room, wait)) = self.await_room() else {
                return;
            };
            self.pump_letters();
            match self.consumer.lease_batch(Some(wait), Some(room)) {
                Ok(Some(batch)) => {
                    let mut state = self.state.lock();
                    state.offer(batch);
                    drop(state);
                    self.work.notify_all();
                }
                Ok(None) if self.consumer.is_closed() => return self.end_locked(),
                Ok(None) => {}
                Err(Error::Closed { .. }) => return self.end_locked(),
                Err(error) if error.is_retriable() => {
                    log::warn(format_args!("fetching: {error}"));
                    std::thread::sleep(ERROR_PAUSE);
                }
                Err(error) => {
                    return self.fail(error);
                }
            }
        }
    }

    fn end_locked(&self) {
        let _state = self.state.lock();
        self.end();
    }

    /// Waits until more may be taken in; gives how many records, and how long to wait for them.
    fn await_room(&self) -> Option<(usize, Duration)> {
        let mut state = self.state.lock();
        loop {
            if self.is_stopping() {
                return None;
            }
            state.drop_stale();
            let ledger = state.ledger();
            let waiting =
                (ledger.queued + ledger.retry_wait + ledger.dead_letters_pending) as usize;
            let most = match state.is_map_pressing(self.options.offset_map_bytes) {
                // The fewer records are unfinished, the fewer pieces a map has.
                true => self.options.max_queued.min(self.options.max_in_flight),
                false => self.options.max_queued,
            };
            let room = most.saturating_sub(waiting);
            if room > 0 && state.held_bytes() < self.options.max_bytes {
                return Some((room, if waiting > 0 { LOOK } else { IDLE }));
            }
            self.room.wait_for(&mut state, LOOK);
            MutexGuard::unlocked(&mut state, || self.pump_letters());
        }
    }

    fn pump_letters(&self) {
        if let Some(letters) = &self.letters {
            letters.pump(&self.me);
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.consumer.shared().set_engaged(false);
    }
}
