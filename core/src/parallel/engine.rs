//! The dispatcher without threads, waiting or a broker: the state machine, and what the options say about failures and room.
//!
//! [`Dispatcher`](crate::Dispatcher) drives it with the clock and a lock, [`Simulation`](super::Simulation) with a virtual clock. What
//! must not happen under a lock (sending, logging) is left in [`Effects`] for the caller.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::RecordBatch;
use crate::error::Error;
use crate::parallel::dispatcher::Outcome;
use crate::parallel::ledger::Ledger;
use crate::parallel::outputs::Output;
use crate::parallel::parts::{Answer, Ticket, Work, Works};
use crate::parallel::pending::{Attempt, Finished, Pending};
use crate::parallel::state::{Fill, Limits, State};
use crate::parallel::stretch::{Hand, Stretch};
use crate::parallel::{OnFailure, OnLimit, ProcessOptions};

/// Longer texts are cut.
const LONGEST_TEXT: usize = 1000;

/// Why a record failed for good.
#[derive(Debug, Clone)]
pub(crate) struct Reason {
    pub(crate) kind: String,
    pub(crate) text: String,
    pub(crate) attempts: u32,
    /// When a handler had it first, and when it had failed for good, on the engine's clock.
    pub(crate) first_us: u64,
    pub(crate) failed_us: u64,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.is_empty() {
            true => f.write_str(&self.text),
            false => write!(f, "{}: {}", self.kind, self.text),
        }
    }
}

/// One record on its way to the dead-letter topic, and why.
pub(crate) type Letter = (Ticket, Work, Reason);

/// What is to be done about answers, outside of the lock.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) letters: Vec<Letter>,
    /// There were some, which wait to be sent.
    pub(crate) sends: bool,
    /// Lines for the log.
    pub(crate) lines: Vec<String>,
    /// What ends the processing.
    pub(crate) end: Option<Error>,
}

/// What becomes of a record that has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Stop,
    Skip,
    DeadLetter,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) state: State,
    options: ProcessOptions,
    fate: Fate,
    /// What is handled is finished by a transaction.
    is_transactional: bool,
    /// Somebody watches over the stretches of others.
    pub(crate) is_watched: bool,
    pending: Pending,
    random: u64,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Engine {
    /// `is_transactional`: what is handled is finished by transactions that somebody else makes.
    pub(crate) fn new(
        options: &ProcessOptions,
        is_transactional: bool,
        random: u64,
        now_us: u64,
    ) -> Engine {
        let limits = Limits {
            attempt_us: options.attempt_timeout.map(micros),
            least_in_flight: options.min_in_flight,
            per_second: options.rate_limit,
        };
        Engine {
            state: State::new(options.order, options.max_in_flight, limits, now_us),
            fate: match options.on_failure {
                OnFailure::Stop => Fate::Stop,
                OnFailure::Skip => Fate::Skip,
                OnFailure::DeadLetter { .. } => Fate::DeadLetter,
            },
            is_transactional,
            is_watched: false,
            pending: Pending::default(),
            options: options.clone(),
            random,
        }
    }

    /// Failures go to a dead-letter topic that somebody else keeps.
    #[cfg(any(test, feature = "simulator"))]
    pub(crate) fn with_dead_letters(self) -> Engine {
        Engine {
            fate: Fate::DeadLetter,
            ..self
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.state.ledger()
    }

    /// How many records may be taken in now.
    pub(crate) fn room(&mut self) -> usize {
        self.state.drop_stale();
        let ledger = self.state.ledger();
        let waiting = ledger.queued + ledger.retry_wait + ledger.dead_letters_pending;
        let waiting = (waiting + ledger.outputs_pending) as usize;
        let most = match self.state.is_map_pressing(self.options.offset_map_bytes) {
            // The fewer records are unfinished, the fewer pieces a map has.
            true => self.options.max_queued.min(self.options.max_in_flight),
            false => self.options.max_queued,
        };
        match self.state.held_bytes() + self.pending.bytes() < self.options.max_bytes {
            true => most.saturating_sub(waiting),
            false => 0,
        }
    }

    pub(crate) fn offer(&mut self, records: RecordBatch) {
        self.state.offer(records);
    }

    fn fill(&self) -> Fill {
        Fill {
            records: self.options.batch_size,
            wait_us: micros(self.options.batch_timeout),
            of_one_partition: self.options.batch_of_one_partition,
        }
    }

    /// Up to `most` records, or a batch of [`ProcessOptions::batch_size`].
    pub(crate) fn take(&mut self, most: usize, now_us: u64, works: &mut Works) {
        match self.options.batch_size {
            1 => self.state.take(most, now_us, works),
            _ => self.state.take_together(self.fill(), now_us, works),
        }
    }

    /// As [`Engine::take`], for the handlers' threads of this process: a stretch of up to `rows`, unless single records wait.
    pub(super) fn take_hand(
        &mut self,
        most: usize,
        rows: Option<usize>,
        now_us: u64,
        hand: &mut Hand,
    ) {
        match rows {
            None => self.take(most, now_us, &mut hand.works),
            Some(rows) => {
                let stretch = self.state.take_quick(most, rows, now_us, &mut hand.works);
                hand.stretch = stretch.map(Arc::new);
            }
        }
    }

    /// True when a stretch is with a handler and nobody watches over it.
    pub(super) fn is_unwatched(&self) -> bool {
        self.state.has_lent() && !self.is_watched
    }

    /// True when there is something to do for another thread.
    pub(super) fn wants_another(&self) -> bool {
        self.state.may_hand_out() || self.is_unwatched()
    }

    /// A stretch has ended after its first `done` rows: see [`State::end_stretch`].
    pub(super) fn end_stretch(
        &mut self,
        stretch: &Stretch,
        done: usize,
        is_running: bool,
        goes_on: bool,
        effects: &mut Effects,
    ) -> Option<Ticket> {
        let ticket = self.state.end_stretch(stretch, done, is_running, goes_on);
        self.look_for_missing(effects);
        ticket
    }

    /// When there may be something to take, or an attempt is over its time.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        let hand_out = match self.options.batch_size {
            1 => self.state.single_due_us(),
            _ => self.state.together_due_us(self.fill()),
        };
        let timer = self.state.timer_due_us();
        timer.into_iter().chain(hand_out).min()
    }

    /// Attempts that are over their time have failed.
    pub(crate) fn expire(&mut self, now_us: u64, effects: &mut Effects) {
        while let Some(ticket) = self.state.expire(now_us) {
            let ms = self.options.attempt_timeout.unwrap_or_default().as_millis();
            let text = format!("the handler did not return within {ms} ms");
            let failed = Outcome::failed("TimedOut", text, true, None);
            self.settle_one(ticket, failed, now_us, effects);
        }
        self.state.flush();
    }

    /// Takes answers of handlers.
    pub(crate) fn settle(
        &mut self,
        outcomes: impl IntoIterator<Item = (Ticket, Outcome)>,
        now_us: u64,
        effects: &mut Effects,
    ) {
        for (ticket, outcome) in outcomes {
            if !self.state.returned_late(ticket) {
                self.settle_one(ticket, outcome, now_us, effects);
            }
        }
        self.state.flush();
        self.look_for_missing(effects);
    }

    fn look_for_missing(&self, effects: &mut Effects) {
        let ledger = self.state.ledger();
        if ledger.missing() != 0 {
            effects.lines.push(format!(
                "a defect: {} records are in no state: {ledger:?}",
                ledger.missing()
            ));
        }
    }

    fn settle_one(&mut self, ticket: Ticket, outcome: Outcome, now_us: u64, effects: &mut Effects) {
        let (kind, text, is_retriable, retry_after) = match outcome {
            Outcome::Done => {
                self.state.note_pace(ticket, true, now_us);
                self.done(ticket, Vec::new());
                return;
            }
            Outcome::Produced(outputs) if self.is_transactional || outputs.is_empty() => {
                self.state.note_pace(ticket, true, now_us);
                self.done(ticket, outputs);
                return;
            }
            Outcome::Produced(_) => {
                effects.end.get_or_insert(Error::argument(
                    "outcome",
                    "a handler has made outputs, and there is no transaction to send them in",
                    "set ProcessOptions::exactly_once, or send them with a producer",
                ));
                self.state.answer(ticket, Answer::Return);
                return;
            }
            Outcome::Unfinished => {
                self.state.answer(ticket, Answer::Return);
                return;
            }
            Outcome::Failed {
                kind,
                text,
                is_retriable,
                retry_after,
            } => (kind, text, is_retriable, retry_after),
        };
        let Some(before) = self.state.attempts(ticket) else {
            return;
        };
        if is_retriable {
            // A record that cannot be handled says nothing about how the handlers do.
            self.state.note_pace(ticket, false, now_us);
        }
        if let Some(after) = retry_after.filter(|_| self.options.retry_after_holds_all) {
            self.state.hold(now_us.saturating_add(micros(after)));
        }
        let attempts = before + 1;
        let again = self.options.max_attempts.is_none_or(|most| attempts < most);
        if is_retriable && again {
            let jitter = self.jitter();
            let pause = self.options.pause(attempts, jitter);
            let pause = pause.max(retry_after.unwrap_or_default());
            let due_us = now_us.saturating_add(micros(pause));
            let park = self.options.park_retries;
            self.state.answer(ticket, Answer::Retry { due_us, park });
            return;
        }
        let reason = Reason {
            kind,
            text: text.chars().take(LONGEST_TEXT).collect(),
            attempts,
            first_us: self.state.first_us(ticket).unwrap_or(now_us),
            failed_us: now_us,
        };
        self.failed(ticket, reason, effects);
    }

    /// A record is handled: finished, or to be finished by the transaction of its outputs.
    fn done(&mut self, ticket: Ticket, outputs: Vec<Output>) {
        if !self.is_transactional {
            self.state.answer(ticket, Answer::Done);
            return;
        }
        let Some(work) = self.state.work(ticket) else {
            return;
        };
        if self.state.answer(ticket, Answer::Finish) {
            self.pending.push(Finished {
                ticket,
                batch: work.batch,
                row: work.row,
                outputs,
            });
        }
    }

    /// A record that failed for good is to be finished by the transaction of its copy.
    pub(crate) fn copied(&mut self, (ticket, work, _): Letter, copy: Output) {
        self.pending.push(Finished {
            ticket,
            batch: work.batch,
            row: work.row,
            outputs: vec![copy],
        });
    }

    /// How many records wait for a transaction that has not begun.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// True when a revoke waits for a transaction, or for handlers.
    pub(crate) fn is_being_revoked(&self) -> bool {
        self.state.is_being_revoked()
    }

    /// What may go in a transaction now, with maps of at most `map_bytes`; see [`Pending`].
    pub(crate) fn begin(&mut self, map_bytes: usize) -> Attempt {
        self.pending.begin(&mut self.state, map_bytes)
    }

    /// The transaction is committed.
    pub(crate) fn committed(&mut self, attempt: Attempt) {
        self.pending.committed(attempt, &mut self.state);
    }

    /// The transaction is aborted; what was to be part of it waits for the next one.
    pub(crate) fn aborted(&mut self, attempt: Attempt) {
        self.pending.aborted(attempt);
    }

    /// No transaction comes any more: what waits for one is given back unfinished.
    pub(crate) fn drop_pending(&mut self) {
        self.pending.drop_all(&mut self.state);
    }

    /// A record has failed for good.
    fn failed(&mut self, ticket: Ticket, reason: Reason, effects: &mut Effects) {
        let Some(work) = self.state.work(ticket) else {
            return;
        };
        let place = place(&work);
        match self.fate {
            Fate::Stop => {
                self.state.answer(ticket, Answer::Return);
                let attempts = reason.attempts;
                effects.end.get_or_insert(Error::Listener {
                    context: format!(
                        "the handler failed for good at {place}, attempt {attempts}: {reason}"
                    ),
                });
            }
            Fate::Skip => {
                effects
                    .lines
                    .push(format!("{place} was not handled and is skipped: {reason}"));
                self.done(ticket, Vec::new());
            }
            Fate::DeadLetter if self.is_full() => {
                let limit = self.options.dead_letter_limit.unwrap_or_default();
                let text = format!(
                    "{place} failed for good, and {limit} records went to the dead-letter topic already (dead_letter_limit): {reason}"
                );
                match self.options.on_limit {
                    OnLimit::Stop => {
                        effects.end.get_or_insert(Error::Listener { context: text });
                        self.state.answer(ticket, Answer::Return);
                    }
                    OnLimit::PausePartition => {
                        effects.lines.push(format!(
                            "{text}. Nothing more of its partition is handed out; a restart begins there"
                        ));
                        self.state.stop_partition(ticket);
                        self.state.answer(ticket, Answer::Return);
                    }
                }
            }
            Fate::DeadLetter => {
                self.state.answer(ticket, Answer::DeadLetter);
                effects.letters.push((ticket, work, reason));
            }
        }
    }

    fn is_full(&self) -> bool {
        let ledger = self.state.ledger();
        let sent = ledger.dead_lettered + ledger.dead_letters_pending;
        self.options
            .dead_letter_limit
            .is_some_and(|limit| sent >= limit)
    }

    /// The dead-letter topic has confirmed a copy.
    pub(crate) fn dead_lettered(&mut self, ticket: Ticket) {
        self.state.dead_lettered(ticket);
        self.state.flush();
    }

    fn jitter(&mut self) -> f64 {
        // A multiplier that is known to mix well; nothing secret hangs on a pause.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Where a record is from, for texts.
pub(crate) fn place(work: &Work) -> String {
    work.batch
        .get(work.row)
        .map(|record| {
            format!(
                "{} [{}] offset {}",
                record.topic(),
                record.partition(),
                record.offset()
            )
        })
        .unwrap_or_default()
}
