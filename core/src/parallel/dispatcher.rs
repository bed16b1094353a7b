//! The dispatcher: [`Engine`] with a clock, waiting, and a thread that fetches.
//!
//! Handlers' threads call [`Dispatcher::take`] and [`Dispatcher::settle`]; both handle many records under one lock. The thread
//! "tidegate-intake" is the one that polls the consumer: rebalance callbacks run there. Lock order: `state`, then nothing; the consumer is
//! never called under it, but for acknowledging, which takes no lock of the consumer's.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::clock::Clock;
use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::log;
use crate::parallel::engine::{Effects, Engine};
use crate::parallel::ledger::Ledger;
use crate::parallel::letters::Letters;
use crate::parallel::outputs::Output;
use crate::parallel::parts::{Ticket, Work, Works};
use crate::parallel::transactions::Transactions;
use crate::parallel::{OnFailure, ProcessOptions};

/// While records wait here, their partitions may be revoked: so often is that looked for.
const LOOK: Duration = Duration::from_millis(20);
/// So long a stretch may last before somebody who has nothing to do takes its rest.
pub(super) const WATCH: Duration = Duration::from_micros(500);
/// It looks no more often, whatever is due.
const LEAST_LOOK: Duration = Duration::from_millis(1);
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
    /// It is done, and these are to be sent in the transaction that commits it ([`ProcessOptions::exactly_once`]).
    Produced(Vec<Output>),
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
    /// Neither done nor failed: the application is ending. It comes again with the next assignment of its partition, and what is in
    /// order behind it waits for that.
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
    pub(super) clock: Arc<dyn Clock>,
    pub(super) state: Mutex<Engine>,
    /// There may be something to take, or it is over.
    pub(super) work: Condvar,
    /// There may be room for more, or it is over.
    pub(super) room: Condvar,
    /// Something was settled.
    pub(super) settled: Condvar,
    /// It is over.
    ended: Condvar,
    stopping: AtomicBool,
    failure: Mutex<Option<Error>>,
    letters: Option<Arc<Letters>>,
    /// See [`Dispatcher::take_hand`].
    has_stretches: bool,
    /// Where transactions finish what is handled.
    pub(super) transactions: Option<Transactions>,
    /// For delivery reports, which must not keep it alive.
    pub(super) me: Weak<Dispatcher>,
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
        Dispatcher::start_for(consumer, options, false)
    }

    /// As [`Dispatcher::start`]; with `has_stretches` for [`Dispatcher::take_hand`].
    pub(super) fn start_for(
        consumer: Arc<Consumer>,
        options: ProcessOptions,
        has_stretches: bool,
    ) -> Result<Arc<Dispatcher>> {
        options.check()?;
        let transactions = options
            .exactly_once
            .as_ref()
            .map(|exactly_once| exactly_once.transactions(&consumer))
            .transpose()?;
        Dispatcher::start_with(consumer, options, transactions, has_stretches)
    }

    /// As [`Dispatcher::start_for`], with transactions as a test plays them.
    pub(super) fn start_with(
        consumer: Arc<Consumer>,
        options: ProcessOptions,
        transactions: Option<Transactions>,
        has_stretches: bool,
    ) -> Result<Arc<Dispatcher>> {
        consumer.open()?;
        if transactions.is_some() {
            consumer.shared().set_transactional();
        } else if consumer.shared().is_transactional() {
            return Err(Error::argument(
                "exactly_once",
                "transactions have committed the offsets of this consumer, and a plain commit may not follow them",
                "close it and make a new one, or go on with exactly_once",
            ));
        }
        let letters = match &options.on_failure {
            OnFailure::DeadLetter { producer, topic } => Some(Arc::new(Letters::new(
                producer.clone(),
                topic.clone(),
                consumer.group_id().unwrap_or_default().to_string(),
                consumer.clock(),
                options.order,
            ))),
            OnFailure::Stop | OnFailure::Skip => None,
        };
        let random = std::hash::RandomState::new().hash_one(0);
        let dispatcher = Arc::new_cyclic(|me| Dispatcher {
            me: Weak::clone(me),
            state: Mutex::new(Engine::new(
                &options,
                transactions.is_some(),
                random,
                consumer.clock().now_us(),
            )),
            clock: consumer.clock(),
            work: Condvar::new(),
            room: Condvar::new(),
            settled: Condvar::new(),
            ended: Condvar::new(),
            stopping: AtomicBool::new(false),
            failure: Mutex::new(None),
            letters,
            has_stretches,
            transactions,
            intake: Mutex::new(None),
            consumer,
            options,
        });
        if has_stretches {
            dispatcher.state.lock().state.hand_out_stretches();
        }
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
        if let Err(error) = dispatcher.begin_transactions() {
            dispatcher.fail(error.clone());
            return Err(error);
        }
        Ok(dispatcher)
    }

    /// Up to `most` records to handle: at least one, or an empty list when `timeout` is over, or `None` when it is over for good because
    /// of [`Dispatcher::stop`] or because the consumer was closed. Every ticket must be settled. With [`ProcessOptions::batch_size`]:
    /// the records of one batch, whatever `most` is.
    ///
    /// # Errors
    ///
    /// What ended the processing: a record that failed for good ([`OnFailure::Stop`]), a fatal error, a failed rebalance callback.
    pub fn take(&self, most: usize, timeout: Option<Duration>) -> Result<Option<Vec<Work>>> {
        let mut works = Works::default();
        let goes_on = self.take_into(&mut works, most, timeout)?;
        Ok(goes_on.then(|| works.owned().collect()))
    }

    /// As [`Dispatcher::take`], into `works`, which is emptied first. False when it is over for good.
    ///
    /// # Errors
    ///
    /// As [`Dispatcher::take`].
    pub fn take_into(
        &self,
        works: &mut Works,
        most: usize,
        timeout: Option<Duration>,
    ) -> Result<bool> {
        works.clear();
        self.await_work(timeout, false, &mut |state, now_us| {
            state.take(most, now_us, works);
            !works.is_empty()
        })
    }

    /// Waits until `take` gives true, or until `timeout` is over; false when it is over for good. Whoever `watches` comes back after
    /// [`WATCH`] when others have stretches, to help with those that last; one thread at a time does.
    pub(super) fn await_work(
        &self,
        timeout: Option<Duration>,
        watches: bool,
        take: &mut dyn FnMut(&mut Engine, u64) -> bool,
    ) -> Result<bool> {
        let mut deadline = timeout.map(|timeout| Instant::now() + timeout.min(A_DAY));
        let mut state = self.state.lock();
        loop {
            if self.is_stopping() {
                return self.failure().map(|()| false);
            }
            let now_us = self.clock.now_us();
            self.expire(&mut state, now_us);
            if take(&mut state, now_us) {
                self.consumer.shared().set_engaged(true);
                self.room.notify_one();
                if !watches || state.wants_another() {
                    // What is left is for somebody else.
                    self.work.notify_one();
                }
                return Ok(true);
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(true);
            }
            let due = state
                .next_due_us()
                .map(|due_us| now + Duration::from_micros(due_us.saturating_sub(now_us)));
            let watch = (watches && state.is_unwatched()).then(|| now + WATCH);
            state.is_watched |= watch.is_some();
            match deadline.into_iter().chain(due).chain(watch).min() {
                Some(until) => {
                    self.work.wait_until(&mut state, until);
                }
                None => self.work.wait(&mut state),
            }
            if let Some(watch) = watch {
                state.is_watched = false;
                deadline = deadline.map(|deadline| deadline.min(watch));
            }
        }
    }

    /// Says what these records cost, for [`ProcessOptions::rate_limit`]; a record costs 1 until then. To be called before they are
    /// settled.
    pub fn charge(&self, costs: impl IntoIterator<Item = (Ticket, f64)>) {
        let mut state = self.state.lock();
        for (ticket, cost) in costs {
            if cost.is_finite() && cost >= 0.0 {
                state.state.charge(ticket, cost);
            }
        }
    }

    /// How many records may be with handlers at once now: `max_in_flight`, unless [`ProcessOptions::min_in_flight`] has it adapted.
    #[must_use]
    pub fn in_flight_limit(&self) -> usize {
        self.state.lock().state.in_flight_limit()
    }

    /// Says what became of records; a ticket that was settled before is ignored.
    pub fn settle(&self, outcomes: impl IntoIterator<Item = (Ticket, Outcome)>) {
        let mut effects = Effects::default();
        let mut state = self.state.lock();
        state.settle(outcomes, self.clock.now_us(), &mut effects);
        self.consumer.shared().note_answers();
        self.work.notify_all();
        self.after(state, effects);
    }

    /// As [`Dispatcher::settle`], and takes what may begin in their place, at most `most`, without waiting; `works` is emptied first. For
    /// whoever begins handlers on the thread on which others end: nobody else has to be woken in between.
    pub fn settle_and_take(
        &self,
        outcomes: impl IntoIterator<Item = (Ticket, Outcome)>,
        works: &mut Works,
        most: usize,
    ) {
        works.clear();
        let mut effects = Effects::default();
        let mut state = self.state.lock();
        let now_us = self.clock.now_us();
        state.settle(outcomes, now_us, &mut effects);
        self.consumer.shared().note_answers();
        if effects.end.is_none() && !self.is_stopping() {
            state.take(most, now_us, works);
        }
        if !works.is_empty() {
            self.consumer.shared().set_engaged(true);
        }
        // With room for more nothing else can begin now, and whoever waits for that need not look, unless something can begin at a time
        // that it does not know yet.
        if works.len() >= most || state.next_due_us().is_some() || self.is_stopping() {
            self.work.notify_all();
        }
        self.after(state, effects);
    }

    /// Attempts that are over their time have failed.
    fn expire(&self, state: &mut MutexGuard<'_, Engine>, now_us: u64) {
        let mut effects = Effects::default();
        state.expire(now_us, &mut effects);
        if let Some(error) = effects.end.take() {
            self.fail_locked(error);
        }
        if !effects.letters.is_empty() || !effects.lines.is_empty() {
            self.settled.notify_all();
            self.take_letters(state, &mut effects);
            self.note_pending(state);
            MutexGuard::unlocked(state, || self.carry_out(effects));
        }
    }

    /// The dead-letter topic has confirmed a copy.
    pub(super) fn dead_lettered(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        state.dead_lettered(ticket);
        self.work.notify_all();
        self.after(state, Effects::default());
    }

    /// Tells whoever waits for what has just been settled, and does what is not for under the lock.
    pub(super) fn after(&self, mut state: MutexGuard<'_, Engine>, mut effects: Effects) {
        if state.ledger().in_flight == 0 {
            self.consumer.shared().set_engaged(false);
        }
        if let Some(error) = effects.end.take() {
            self.fail_locked(error);
        }
        self.take_letters(&mut state, &mut effects);
        self.room.notify_one();
        self.settled.notify_all();
        self.note_pending(&state);
        if self.transactions.as_ref().is_some_and(|t| !t.goes_on()) {
            // An answer that came after the last transaction: nobody comes for it.
            state.drop_pending();
        }
        drop(state);
        self.carry_out(effects);
    }

    /// Tells the transactions' thread what waits for it.
    fn note_pending(&self, state: &Engine) {
        if let Some(transactions) = &self.transactions {
            transactions.note(state.pending());
        }
    }

    /// Under the lock: the next record of a key may fail on another thread as soon as it is let go.
    fn take_letters(&self, state: &mut Engine, effects: &mut Effects) {
        let Some(way) = self
            .letters
            .as_ref()
            .filter(|_| !effects.letters.is_empty())
        else {
            return;
        };
        if self.transactions.is_some() {
            for letter in effects.letters.drain(..) {
                if let Some(copy) = way.copy(&letter) {
                    state.copied(letter, copy);
                }
            }
            self.note_pending(state);
        } else {
            way.take_in(effects.letters.drain(..));
            effects.sends = true;
        }
    }

    fn carry_out(&self, effects: Effects) {
        for line in effects.lines {
            log::warn(format_args!("{line}"));
        }
        if effects.sends {
            self.pump_letters();
        }
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
                None => self.ended.wait(&mut state),
                Some(deadline) if Instant::now() >= deadline => return Ok(false),
                Some(deadline) => {
                    self.ended.wait_until(&mut state, deadline);
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
        if let Some(transactions) = &self.transactions {
            transactions.wake();
        }
        self.work.notify_all();
        self.room.notify_all();
        self.settled.notify_all();
        self.ended.notify_all();
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
        state.state.drop_all_waiting();
        let busy = |ledger: Ledger| {
            let told = ledger.dead_letters_pending + ledger.outputs_pending;
            ledger.in_flight > 0
                || (told > 0 && self.transactions.as_ref().is_none_or(Transactions::goes_on))
        };
        while busy(state.ledger()) {
            let until = deadline.min(Instant::now() + LOOK);
            self.settled.wait_until(&mut state, until);
            if Instant::now() >= deadline {
                break;
            }
            self.expire(&mut state, self.clock.now_us());
            MutexGuard::unlocked(&mut state, || self.pump_letters());
            // A retry that was asked for meanwhile has no time left.
            state.state.drop_all_waiting();
        }
        drop(state);
        self.end_transactions(deadline);
        let ledger = self.ledger();
        if self.transactions.is_none()
            && self.consumer.commits_by_itself()
            && self.consumer.group_id().is_some()
        {
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
                    match self.has_stretches {
                        // Who takes of it wakes another if something is left.
                        true => drop(self.work.notify_one()),
                        false => drop(self.work.notify_all()),
                    }
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
            let now_us = self.clock.now_us();
            self.expire(&mut state, now_us);
            let room = state.room();
            if room > 0 {
                let ledger = state.ledger();
                let waits = ledger.queued + ledger.retry_wait + ledger.dead_letters_pending > 0;
                let due = state
                    .next_due_us()
                    .map(|due_us| due_us.saturating_sub(now_us));
                let due = due.map_or(IDLE, |us| Duration::from_micros(us).max(LEAST_LOOK));
                return Some((room, if waits { LOOK } else { IDLE.min(due) }));
            }
            self.room.wait_for(&mut state, LOOK);
            MutexGuard::unlocked(&mut state, || self.pump_letters());
        }
    }

    /// How often copies were refused.
    #[cfg(test)]
    pub(super) fn refusals(&self) -> u64 {
        self.letters
            .as_ref()
            .map_or(0, |letters| letters.refusals())
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
