//! The producer's engine: sending with a bounded wait for room, flushing, and the life of the delivery thread.
//!
//! [`Engine::serve`] runs on the delivery thread only; everything else on any thread. Always true: no wait is without bound; callbacks
//! run on the delivery thread, which alone asks the sink to poll, and other threads collect reports only while there are no
//! callbacks; after the sink is gone nothing is in flight.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parking_lot::RwLock;

use super::batch::Rows;
use super::ledger::{Completion, Ledger};
use crate::checks::{self, ForkGuard};
use crate::error::{Error, Result};
use crate::kafka_code;
use crate::log::{self, Level, TIDEGATE};
use crate::signal::Waiting;
use crate::sink::{ProducerRecord, Refused, Row, Sink, TAGGED, TaggedRow, Token};

pub(super) const WHAT: &str = "producer";

/// How long one poll of the delivery thread lasts when nobody waits for anything: as late are callbacks of errors and the like.
const POLL: Duration = Duration::from_millis(25);
/// The same while closing.
const CLOSING_POLL: Duration = Duration::from_millis(2);
/// How long purged records are given to report themselves.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long `close` waits, beyond its timeout, for the purge and for librdkafka to end its threads.
const END_TIMEOUT: Duration = Duration::from_secs(4);
/// A thread that waits for room tries again at least this often.
const ROOM_RETRY: Duration = Duration::from_millis(2);
/// A flush asks the sink again at least this often.
const FLUSH_RETRY: Duration = Duration::from_millis(10);
/// How often a waiting call asks its caller whether to go on.
const ASK_EVERY_US: u64 = 50_000;

/// No deadline was set yet.
const NEVER: u64 = u64::MAX;

/// What a call does when the queue is full.
pub(super) enum Patience<'a> {
    /// Fails at once.
    None,
    /// Waits for the configured time.
    Configured,
    /// The same, but asks the caller now and then whether to go on.
    Asking(&'a mut dyn FnMut() -> bool),
}

pub(super) struct Engine {
    pub(super) ledger: Arc<Ledger>,
    /// `None` once closed. Read for the length of one call that does not wait; the delivery thread holds its own handle.
    sink: RwLock<Option<Arc<dyn Sink>>>,
    queue_full_timeout: Duration,
    fork: ForkGuard,
    delivery_thread: OnceLock<ThreadId>,
    closing: AtomicBool,
    close_deadline_us: AtomicU64,
    closed: AtomicBool,
    lost: AtomicU64,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Engine {
    pub(super) fn new(
        ledger: Arc<Ledger>,
        sink: Arc<dyn Sink>,
        queue_full_timeout: Duration,
        fork: ForkGuard,
    ) -> Engine {
        Engine {
            ledger,
            sink: RwLock::new(Some(sink)),
            queue_full_timeout,
            fork,
            delivery_thread: OnceLock::new(),
            closing: AtomicBool::new(false),
            close_deadline_us: AtomicU64::new(NEVER),
            closed: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        }
    }

    /// The handle may be used: it is open, and this is the process that made it.
    pub(super) fn check(&self) -> Result<()> {
        self.fork.check(WHAT)?;
        if self.closing.load(Ordering::SeqCst) {
            return Err(Error::Closed { what: WHAT });
        }
        Ok(())
    }

    pub(super) fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    pub(super) fn on_delivery_thread(&self) -> bool {
        self.delivery_thread.get() == Some(&thread::current().id())
    }

    fn now_us(&self) -> u64 {
        self.ledger.clock.now_us()
    }

    fn in_us(&self, time: Duration) -> u64 {
        self.now_us().saturating_add(micros(time)).min(NEVER - 1)
    }

    fn left(&self, deadline_us: u64) -> Duration {
        Duration::from_micros(deadline_us.saturating_sub(self.now_us()))
    }

    /// A handle of the sink for a longer call.
    pub(super) fn sink(&self) -> Result<Arc<dyn Sink>> {
        self.sink.read().clone().ok_or(Error::Closed { what: WHAT })
    }

    /// Sends a record whose arguments were checked. On an error the completion is dropped unrun.
    pub(super) fn send(
        &self,
        record: &ProducerRecord<'_>,
        completion: Option<Completion>,
        patience: Patience<'_>,
    ) -> Result<()> {
        if completion.is_some() && self.ledger.note_callback() && !self.on_delivery_thread() {
            // Whoever collects reports here and now does not see this record's; from here on nobody does.
            self.sink()?.pass_turn();
        }
        let token = self.ledger.begin(completion);
        self.send_begun(record, token, patience)
    }

    /// Sends a record with a number of the application's, as [`Engine::send`].
    pub(super) fn send_tagged(
        &self,
        record: &ProducerRecord<'_>,
        tag: usize,
        patience: Patience<'_>,
    ) -> Result<()> {
        self.ledger.begin_tagged(1);
        self.send_begun(record, TAGGED | tag, patience)
    }

    /// Sends rows with numbers of the application's until the queue is full; how many were dealt with.
    pub(super) fn send_tagged_rows(
        &self,
        topic: &str,
        rows: &[TaggedRow<'_>],
        refused: &mut dyn FnMut(usize, Error),
    ) -> Result<usize> {
        self.ledger.begin_tagged(rows.len());
        // After `begin_tagged`: as in `try_send`.
        let sink = self.sink.read();
        let sink = match sink.as_ref() {
            Some(sink) if !self.closing.load(Ordering::SeqCst) => sink,
            _ => {
                self.ledger.withdraw(rows.len(), 0);
                return Err(Error::Closed { what: WHAT });
            }
        };
        let mut failed = 0;
        let dealt = sink.send_tagged(topic, rows, &mut |row, error| {
            failed += 1;
            refused(row, error);
        });
        for _ in 0..failed {
            self.ledger.refused(0);
        }
        if dealt < rows.len() {
            self.ledger.withdraw(rows.len() - dealt, 0);
        }
        Ok(dealt)
    }

    fn send_begun(
        &self,
        record: &ProducerRecord<'_>,
        token: Token,
        patience: Patience<'_>,
    ) -> Result<()> {
        let outcome = match self.try_send(record, token) {
            Err(Refused::Full) => self.send_when_there_is_room(record, token, patience),
            Err(Refused::Failed(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        if outcome.is_err() {
            self.ledger.refused(token);
        }
        outcome
    }

    fn try_send(&self, record: &ProducerRecord<'_>, token: Token) -> Result<(), Refused> {
        // After `begin`: either this sees that the producer is closing, or closing sees this record in flight.
        if self.closing.load(Ordering::SeqCst) {
            return Err(Refused::Failed(Error::Closed { what: WHAT }));
        }
        match self.sink.read().as_ref() {
            Some(sink) => sink.send(record, token),
            None => Err(Refused::Failed(Error::Closed { what: WHAT })),
        }
    }

    /// Sends a chunk of rows, the first of which is number `first` of the whole. On an error the rest is not to be tried: the number of
    /// the chunk's next row, and what stopped it.
    pub(super) fn send_rows(
        &self,
        chunk: &[Row<'_>],
        first: usize,
        rows: &mut Rows<'_>,
    ) -> Result<(), (usize, Error)> {
        let mut at = 0;
        while at < chunk.len() {
            at += self
                .try_send_rows(&chunk[at..], first + at, rows)
                .map_err(|error| (at, error))?;
            let Some((key, value)) = chunk.get(at) else {
                break;
            };
            // No room for this one: waited for as if it were sent alone.
            let record = ProducerRecord {
                partition: rows.partition,
                key: *key,
                value: *value,
                ..ProducerRecord::new(rows.topic)
            };
            at += 1;
            match self.send(&record, None, Patience::Asking(rows.go_on)) {
                Ok(()) => {
                    rows.accepted += 1;
                    rows.bytes += record.payload_bytes();
                }
                Err(error) => {
                    (rows.refused)(first + at - 1, error.clone());
                    if matches!(error, Error::QueueFull { .. }) || error.is_fatal() {
                        return Err((at, error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends rows until the queue is full; how many were dealt with. An error is that of all of them.
    fn try_send_rows(&self, chunk: &[Row<'_>], first: usize, rows: &mut Rows<'_>) -> Result<usize> {
        let token = self.ledger.begin_rows(chunk.len());
        // After `begin_rows`: as in `try_send`.
        let sink = self.sink.read();
        let sink = match sink.as_ref() {
            Some(sink) if !self.closing.load(Ordering::SeqCst) => sink,
            _ => {
                self.ledger.withdraw(chunk.len(), token);
                return Err(Error::Closed { what: WHAT });
            }
        };
        let mut refused = Vec::new();
        let dealt = sink.send_rows(
            rows.topic,
            rows.partition,
            chunk,
            token,
            &mut |row, error| {
                refused.push((row, error));
            },
        );
        let bytes = |(key, value): &Row<'_>| {
            (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64
        };
        rows.accepted += dealt - refused.len();
        rows.bytes += chunk[..dealt].iter().map(bytes).sum::<u64>();
        if dealt < chunk.len() {
            let token = if dealt == 0 { token } else { 0 };
            self.ledger.withdraw(chunk.len() - dealt, token);
        }
        for (row, error) in refused {
            rows.bytes -= bytes(&chunk[row]);
            self.ledger.refused(if row == 0 { token } else { 0 });
            (rows.refused)(first + row, error);
        }
        Ok(dealt)
    }

    fn send_when_there_is_room(
        &self,
        record: &ProducerRecord<'_>,
        token: Token,
        mut patience: Patience<'_>,
    ) -> Result<()> {
        let full = |waited_us: u64| Error::QueueFull {
            topic: record.topic.to_string(),
            waited_ms: waited_us / 1000,
        };
        // On the delivery thread nobody would make room while we wait.
        if matches!(patience, Patience::None) || self.on_delivery_thread() {
            return Err(full(0));
        }
        self.ledger.metrics.queue_full_waits.add(1);
        let started_us = self.now_us();
        let deadline_us = self.in_us(self.queue_full_timeout);
        let mut asked_us = started_us;
        let waiting = self.begin_to_wait(&*self.sink()?);
        loop {
            let seen = waiting.epoch();
            match self.try_send(record, token) {
                Ok(()) => return Ok(()),
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Full) => {}
            }
            let now_us = self.now_us();
            if now_us >= deadline_us {
                return Err(full(now_us - started_us));
            }
            if let Patience::Asking(go_on) = &mut patience
                && now_us - asked_us >= ASK_EVERY_US
            {
                asked_us = now_us;
                if !go_on() {
                    return Err(full(now_us - started_us));
                }
            }
            let slice = ROOM_RETRY.min(self.left(deadline_us));
            self.ledger.clock.wait(&waiting, seen, slice);
        }
    }

    /// Announces a thread that waits for reports, and has those taken in that came before and woke nobody.
    pub(super) fn begin_to_wait(&self, sink: &dyn Sink) -> Waiting<'_> {
        let waiting = self.ledger.progress.enter();
        sink.ring();
        waiting
    }

    /// Takes in what came and woke nobody.
    pub(super) fn collect(&self) {
        // With many in flight the delivery thread was woken, and does it beside this one.
        // Not under the lock of the sink's place: log lines may lead back here.
        if !self.ledger.has_callbacks()
            && !self.ledger.has_many()
            && let Ok(sink) = self.sink()
        {
            sink.collect();
        }
    }

    /// Waits until something waits for the application that polls, more than `seen` records are reported, or the time is over. With
    /// `hurry` what is queued is sent at once, and with nothing in flight nothing is waited for.
    pub(super) fn wait_reports(&self, seen: u64, timeout: Duration, hurry: bool) -> Result<()> {
        self.fork.check(WHAT)?;
        let kept = &self.ledger.kept;
        let deadline_us = self.in_us(timeout);
        let waiting = kept.fresh.enter();
        // After `enter`: what came before woke nobody, what comes from here on does.
        self.collect();
        loop {
            let epoch = waiting.epoch();
            let came = self.ledger.reported() != seen || kept.unread() > 0 || kept.has_events();
            let left = self.left(deadline_us);
            if came
                || left.is_zero()
                || self.closed.load(Ordering::SeqCst)
                || (hurry && self.ledger.in_flight() == 0)
            {
                return Ok(());
            }
            let slice = if hurry {
                if let Ok(sink) = self.sink() {
                    sink.nudge();
                }
                FLUSH_RETRY.min(left)
            } else {
                left
            };
            self.ledger.clock.wait(&waiting, epoch, slice);
        }
    }

    /// Waits until nothing is in flight.
    pub(super) fn flush(&self, timeout: Duration) -> Result<()> {
        self.check()?;
        if self.on_delivery_thread() {
            return Err(Error::argument(
                "flush",
                "it was called in a delivery callback, on the thread that every other delivery report waits for",
                "call flush from another thread",
            ));
        }
        let sink = self.sink()?;
        let deadline_us = self.in_us(timeout);
        let waiting = self.begin_to_wait(&*sink);
        loop {
            let seen = waiting.epoch();
            let in_flight = self.ledger.in_flight();
            if in_flight == 0 {
                return Ok(());
            }
            let left = self.left(deadline_us);
            if left.is_zero() {
                return Err(Error::TimedOut {
                    what: format!(
                        "the flush of the producer ({in_flight} records are still in flight)"
                    ),
                    timeout_ms: checks::millis(timeout),
                });
            }
            sink.nudge();
            self.ledger
                .clock
                .wait(&waiting, seen, FLUSH_RETRY.min(left));
        }
    }

    /// Begins to close and waits, bounded, until that is done.
    pub(super) fn close(&self, timeout: Duration) -> Result<()> {
        self.fork.check(WHAT)?;
        self.close_deadline_us
            .fetch_min(self.in_us(timeout), Ordering::SeqCst);
        let was_closing = self.closing.swap(true, Ordering::SeqCst);
        self.ledger.progress.raise();
        if let Ok(sink) = self.sink() {
            sink.ring();
        }
        if self.on_delivery_thread() {
            // It goes on closing when the callback that called us has returned.
            return Ok(());
        }
        let deadline_us = self.in_us(timeout.saturating_add(PURGE_TIMEOUT + END_TIMEOUT));
        let waiting = self.ledger.progress.enter();
        loop {
            let seen = waiting.epoch();
            if self.closed.load(Ordering::SeqCst) {
                break;
            }
            let left = self.left(deadline_us);
            if left.is_zero() {
                return Err(Error::TimedOut {
                    what: "closing the producer".to_string(),
                    timeout_ms: checks::millis(timeout),
                });
            }
            self.ledger.clock.wait(&waiting, seen, left);
        }
        match self.lost.load(Ordering::SeqCst) {
            lost if lost > 0 && !was_closing => Err(Error::TimedOut {
                what: format!(
                    "closing the producer ({lost} records were given up; they may or may not have reached the broker)"
                ),
                timeout_ms: checks::millis(timeout),
            }),
            _ => Ok(()),
        }
    }

    /// The delivery thread's life: reports, until the producer is closed and the sink is gone.
    pub(super) fn serve(&self) {
        let _ = self.delivery_thread.set(thread::current().id());
        let Ok(sink) = self.sink() else { return };
        while !self.closing.load(Ordering::SeqCst) {
            sink.poll(POLL);
        }
        self.finish(sink);
    }

    /// Flushes until the deadline of `close`, gives up the rest, and ends the sink.
    pub(super) fn finish(&self, sink: Arc<dyn Sink>) {
        while self.ledger.in_flight() > 0 {
            // Read each time: another `close` may have less patience.
            if self.now_us() >= self.close_deadline_us.load(Ordering::SeqCst) {
                break;
            }
            sink.nudge();
            sink.poll(CLOSING_POLL);
        }
        let failed_before = self.ledger.metrics.records_failed.get();
        if self.ledger.in_flight() > 0 {
            sink.purge(true, true, false);
            let deadline_us = self.in_us(PURGE_TIMEOUT);
            while self.ledger.in_flight() > 0 && self.now_us() < deadline_us {
                sink.poll(CLOSING_POLL);
            }
        }
        *self.sink.write() = None;
        // Ends librdkafka's threads, here unless a longer call on another thread still holds it.
        drop(sink);
        self.ledger.abandon(kafka_code::from_rdkafka(
            rdkafka::error::RDKafkaErrorCode::BrokerDestroy,
        ));
        let lost = self.ledger.metrics.records_failed.get() - failed_before;
        if lost > 0 {
            log::emit(
                Level::Error,
                TIDEGATE,
                format_args!(
                    "closing the producer: {lost} record(s) were not delivered in time and are given up"
                ),
            );
        }
        self.lost.store(lost, Ordering::SeqCst);
        self.closed.store(true, Ordering::SeqCst);
        self.ledger.progress.raise();
        self.ledger.kept.fresh.raise();
        self.ledger.kept.tell();
    }
}
