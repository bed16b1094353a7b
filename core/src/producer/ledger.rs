//! The account of what was sent: how many records are in flight, who waits for which report, and the statistics.
//!
//! Written by the sending threads ([`Ledger::begin`], [`Ledger::accepted`], [`Ledger::refused`]) and by the delivery
//! thread, or one that asks for reports ([`Reports`]). Always true: a record is begun before the sink sees it and ended after its
//! callback has run, so that [`Ledger::in_flight`] is never too low; each completion is run exactly once or dropped with a refused
//! record; none runs under a lock of the ledger's, and a panic of one ends here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use futures_channel::oneshot;
use parking_lot::Mutex;

use super::report::{Delivery, DeliveryCallback, DeliveryReport, ReportCallback};
use crate::clock::Clock;
use crate::error::{Error, KafkaCode, Result};
use crate::events::{ClientEvent, Events};
use crate::log::{self, Level, TIDEGATE};
use crate::ready::Ready;
use crate::signal::Signal;
use crate::sink::{Report, Reports, TAGGED, TaggedReport, Token};
use crate::stats::ProducerMetrics;

/// One fire-and-forget record in so many is timed.
const TIMED_ONE_IN: u64 = 64;
/// With more records in flight a report is worth waking the delivery thread, whoever waits.
const FEW: u64 = 64;
/// Waiting threads are woken after so many reports, or when none is outstanding.
const WAKE_EVERY: u64 = 64;
/// Failures of fire-and-forget records are summed up in a line at most this often.
const FAILURE_LINE_EVERY_US: u64 = 1_000_000;

/// Who hears of a record's report.
pub(super) enum Completion {
    /// Nobody; it is only timed.
    Timed,
    Callback(DeliveryCallback),
    Report(ReportCallback),
    Future(oneshot::Sender<Result<Delivery>>),
}

impl Completion {
    fn run(self, report: DeliveryReport<'_>) {
        let run = || match self {
            Completion::Timed => {}
            Completion::Callback(callback) => callback(report.into_delivery()),
            Completion::Report(callback) => callback(&report),
            // Nobody waits any more when the future was dropped.
            Completion::Future(sender) => drop(sender.send(report.into_delivery())),
        };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            log::emit(
                Level::Error,
                TIDEGATE,
                format_args!(
                    "a delivery callback panicked; its record and the records after it are not affected"
                ),
            );
        }
    }
}

struct Pending {
    completion: Completion,
    sent_us: u64,
}

/// Completions by token; freed places are used again.
#[derive(Default)]
struct Slab {
    places: Vec<Option<Pending>>,
    free: Vec<usize>,
}

impl Slab {
    fn insert(&mut self, pending: Pending) -> Token {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(pending);
        place + 1
    }

    fn remove(&mut self, token: Token) -> Option<Pending> {
        let place = token.checked_sub(1)?;
        let pending = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(pending)
    }
}

/// Failures that nobody else is told of, until the next line.
#[derive(Default)]
struct Untold {
    count: u64,
    last_line_us: Option<u64>,
    example: Option<(String, KafkaCode)>,
}

/// Which events wait for the application; the others are only logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    Nothing,
    /// All but log lines.
    Events,
    EventsAndLog,
}

impl Keeps {
    fn wants(self, event: &ClientEvent) -> bool {
        match self {
            Keeps::Nothing => false,
            Keeps::Events => !matches!(event, ClientEvent::Log { .. }),
            Keeps::EventsAndLog => true,
        }
    }
}

/// What waits for an application that polls for it.
pub(super) struct Kept {
    pub(super) keeps: Keeps,
    reports: Mutex<Vec<TaggedReport>>,
    /// Reports in `reports`; never too low while a report is counted as in flight.
    unread: AtomicUsize,
    pub(super) events: Events,
    /// Raised when something of this comes, and when records of which nobody asked are done.
    pub(super) fresh: Signal,
    /// The same for event loops.
    pub(super) ready: Ready,
}

impl Kept {
    fn new(keeps: Keeps) -> Kept {
        Kept {
            keeps,
            reports: Mutex::default(),
            unread: AtomicUsize::new(0),
            events: Events::default(),
            fresh: Signal::new(),
            ready: Ready::new(),
        }
    }

    pub(super) fn has_events(&self) -> bool {
        self.keeps != Keeps::Nothing && !self.events.is_empty()
    }

    pub(super) fn unread(&self) -> usize {
        self.unread.load(Ordering::SeqCst)
    }

    /// Moves the reports that wait to the end of `into`; how many.
    pub(super) fn take(&self, into: &mut Vec<TaggedReport>) -> usize {
        let mut reports = self.reports.lock();
        let count = reports.len();
        if into.is_empty() {
            std::mem::swap(&mut *reports, into);
        } else {
            into.append(&mut reports);
        }
        self.unread.fetch_sub(count, Ordering::SeqCst);
        count
    }

    fn put(&self, reports: &mut Vec<TaggedReport>) {
        self.unread.fetch_add(reports.len(), Ordering::SeqCst);
        let mut kept = self.reports.lock();
        if kept.is_empty() && kept.capacity() < reports.capacity() {
            std::mem::swap(&mut *kept, reports);
        } else {
            kept.append(reports);
        }
    }

    /// Something came.
    pub(super) fn tell(&self) {
        if self.fresh.is_waited_for() {
            self.fresh.raise();
        }
        if !self.ready.raise() {
            log::emit(
                Level::Error,
                TIDEGATE,
                format_args!("the producer's ready callback panicked"),
            );
        }
    }
}

pub(super) struct Ledger {
    pub(super) kept: Kept,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: ProducerMetrics,
    /// Raised on progress: reports, and the beginning and the end of closing.
    pub(super) progress: Signal,
    begun: AtomicU64,
    ended: AtomicU64,
    slab: Mutex<Slab>,
    untold: Mutex<Untold>,
    /// A callback or a future was ever given: those hear of their records at once, on the delivery thread.
    has_callbacks: AtomicBool,
}

impl Ledger {
    pub(super) fn new(clock: Arc<dyn Clock>, keeps: Keeps) -> Ledger {
        Ledger {
            kept: Kept::new(keeps),
            clock,
            metrics: ProducerMetrics::default(),
            progress: Signal::new(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            slab: Mutex::new(Slab::default()),
            untold: Mutex::new(Untold::default()),
            has_callbacks: AtomicBool::new(false),
        }
    }

    /// Records begun and not ended, never too few.
    pub(super) fn in_flight(&self) -> u64 {
        // In this order: what begins or ends in between makes the difference larger.
        let ended = self.ended.load(Ordering::SeqCst);
        self.begun.load(Ordering::SeqCst).saturating_sub(ended)
    }

    /// A record is about to be sent; its token.
    pub(super) fn begin(&self, completion: Option<Completion>) -> Token {
        let count = self.begun.fetch_add(1, Ordering::SeqCst);
        let completion = match completion {
            Some(completion) => completion,
            None if count.is_multiple_of(TIMED_ONE_IN) => Completion::Timed,
            None => return 0,
        };
        let pending = Pending {
            completion,
            sent_us: self.clock.now_us(),
        };
        self.slab.lock().insert(pending)
    }

    /// So many records with numbers of the application's are about to be sent.
    pub(super) fn begin_tagged(&self, records: usize) {
        self.begun.fetch_add(records as u64, Ordering::SeqCst);
    }

    /// Notes that a callback or a future is to hear of a record; true when it is the first one.
    pub(super) fn note_callback(&self) -> bool {
        !self.has_callbacks.load(Ordering::SeqCst)
            && !self.has_callbacks.swap(true, Ordering::SeqCst)
    }

    /// More records are in flight than reports may wait for.
    pub(super) fn has_many(&self) -> bool {
        self.in_flight() > FEW
    }

    /// Whether a callback or a future ever was to hear of a record.
    pub(super) fn has_callbacks(&self) -> bool {
        self.has_callbacks.load(Ordering::SeqCst)
    }

    /// Records reported so far, delivered or not.
    pub(super) fn reported(&self) -> u64 {
        self.metrics.records_delivered.get() + self.metrics.records_failed.get()
    }

    /// So many records are about to be sent without a report of their own; the first one's token.
    pub(super) fn begin_rows(&self, rows: usize) -> Token {
        self.begun.fetch_add(rows as u64, Ordering::SeqCst);
        let pending = Pending {
            completion: Completion::Timed,
            sent_us: self.clock.now_us(),
        };
        self.slab.lock().insert(pending)
    }

    /// So many of these, the last ones, were not sent; `token` is the first one's if that is among them.
    pub(super) fn withdraw(&self, rows: usize, token: Token) {
        if token != 0 {
            self.slab.lock().remove(token);
        }
        self.end(rows as u64);
    }

    /// The sink has taken records of so many bytes.
    pub(super) fn accepted(&self, records: u64, bytes: u64) {
        self.metrics.records_sent.add(records);
        self.metrics.bytes_sent.add(bytes);
    }

    /// The sink has not taken the record; its completion is dropped, for the caller gets the error.
    pub(super) fn refused(&self, token: Token) {
        if token != 0 && token & TAGGED == 0 {
            let pending = self.slab.lock().remove(token);
            // Foreign code may run when a closure is dropped: not under the lock.
            drop(pending);
        }
        self.metrics.records_refused.add(1);
        self.end(1);
    }

    fn end(&self, records: u64) {
        let ended = self.ended.fetch_add(records, Ordering::SeqCst) + records;
        if self.progress.is_waited_for()
            && (records >= WAKE_EVERY
                || ended % WAKE_EVERY < records
                || ended >= self.begun.load(Ordering::SeqCst))
        {
            self.progress.raise();
        }
    }

    fn log_untold(&self, now_us: u64, flush: bool) {
        let mut untold = self.untold.lock();
        let due = untold
            .last_line_us
            .is_none_or(|last| now_us.saturating_sub(last) >= FAILURE_LINE_EVERY_US);
        if untold.count == 0 || !(due || flush) {
            return;
        }
        let count = std::mem::take(&mut untold.count);
        let example = untold.example.take();
        untold.last_line_us = Some(now_us);
        drop(untold);
        if let Some((topic, code)) = example {
            log::emit(
                Level::Error,
                TIDEGATE,
                format_args!(
                    "{count} record(s) sent without a callback were not delivered, the last for topic '{topic}': {code}"
                ),
            );
        }
    }

    /// The sink is gone: what it never reported is failed. Returns how many records that were.
    pub(super) fn abandon(&self, code: KafkaCode) -> u64 {
        let pending: Vec<Pending> = {
            let mut slab = self.slab.lock();
            slab.free.clear();
            std::mem::take(&mut slab.places)
                .into_iter()
                .flatten()
                .collect()
        };
        for pending in pending {
            pending.completion.run(DeliveryReport {
                topic: "",
                partition: -1,
                offset: -1,
                timestamp_ms: None,
                latency_us: self.clock.now_us().saturating_sub(pending.sent_us),
                outcome: Err(Error::Kafka {
                    code,
                    context: "the producer was closed before the record was delivered".to_string(),
                }),
            });
        }
        let lost = self.in_flight();
        self.metrics.records_failed.add(lost);
        self.end(lost);
        self.log_untold(self.clock.now_us(), true);
        lost
    }
}

impl Reports for Ledger {
    fn are_awaited(&self) -> bool {
        self.has_callbacks()
            || self.has_many()
            || self.progress.is_waited_for()
            || self.kept.fresh.is_waited_for()
            || self.kept.ready.is_awaited()
    }

    fn delivered(&self, records: u64) {
        self.metrics.records_delivered.add(records);
        self.end(records);
        self.kept.tell();
    }

    fn tagged(&self, reports: &mut Vec<TaggedReport>) {
        let count = reports.len() as u64;
        let mut failed = 0;
        for report in reports.iter() {
            failed += u64::from(report.outcome.is_err());
        }
        // One of a request stands for the others, which waited as long or a little less.
        if let Some(report) = reports.first().filter(|report| report.outcome.is_ok())
            && let Ok(latency_us) = u64::try_from(report.latency_us)
        {
            self.metrics.delivery_latency_us.record(latency_us);
        }
        self.metrics.records_failed.add(failed);
        self.metrics.records_delivered.add(count - failed);
        self.kept.put(reports);
        self.end(count);
        self.kept.tell();
    }

    fn report(&self, report: &Report<'_>) {
        let pending = match report.token {
            0 => None,
            token => self.slab.lock().remove(token),
        };
        match report.outcome {
            Ok(()) => self.metrics.records_delivered.add(1),
            Err(_) => self.metrics.records_failed.add(1),
        }
        let told = pending
            .as_ref()
            .is_some_and(|pending| !matches!(pending.completion, Completion::Timed));
        if let (Err(code), false) = (report.outcome.as_ref(), told) {
            let mut untold = self.untold.lock();
            untold.count += 1;
            untold.example = Some((report.topic.to_string(), *code));
            drop(untold);
            self.log_untold(self.clock.now_us(), false);
        }
        if let Some(pending) = pending {
            let latency_us = self.clock.now_us().saturating_sub(pending.sent_us);
            if report.outcome.is_ok() {
                self.metrics.delivery_latency_us.record(latency_us);
            }
            if told {
                pending.completion.run(DeliveryReport {
                    topic: report.topic,
                    partition: report.partition,
                    offset: report.outcome.map_or(-1, |()| report.offset),
                    timestamp_ms: report.timestamp_ms,
                    latency_us,
                    outcome: report.outcome.map_err(|code| Error::Kafka {
                        code,
                        context: format!("delivering to topic '{}'", report.topic),
                    }),
                });
            }
        }
        self.end(1);
        self.kept.tell();
    }

    fn wants_throttles(&self) -> bool {
        self.kept.keeps != Keeps::Nothing
    }

    fn event(&self, event: ClientEvent) -> Option<ClientEvent> {
        if !self.kept.keeps.wants(&event) {
            return Some(event);
        }
        self.kept.events.push(event);
        self.kept.tell();
        None
    }

    fn error(&self, code: KafkaCode, reason: &str) {
        self.metrics.errors.add(1);
        let event = ClientEvent::Error {
            code,
            reason: reason.to_string(),
        };
        if self.event(event).is_none() {
            return;
        }
        let level = if code.is_fatal() {
            Level::Error
        } else {
            Level::Warn
        };
        log::emit(
            level,
            TIDEGATE,
            format_args!("producer: {}: {reason}", code.name()),
        );
    }
}
