//! What comes out of librdkafka's main queue: delivery reports, errors, log lines and statistics, with unsafe FFI.
//!
//! The delivery thread only. A report of librdkafka's stands for a whole request; the records in it that nobody asked about are
//! counted and told as a number, for the cost of a record is what the report costs. (rust-rdkafka's poll hands over each with a
//! reference to the event, reads its topic and timestamp, and tells errors twice.) Always true: an event is given back after the last
//! look at it, and the queue before the producer ends.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::bindings as rd;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use crate::batch::TimestampType;
use crate::error::KafkaCode;
use crate::kafka_code;
use crate::sink::{Report, Reports, TAGGED, TaggedReport};

/// The most events that are handed over once the time is over.
const MOST_AFTER: usize = 1000;

/// One reference to a producer's main queue.
pub(super) struct MainQueue(*mut rd::rd_kafka_queue_t);

// SAFETY: librdkafka's queues may be used by any thread.
unsafe impl Send for MainQueue {}
// SAFETY: as above, by several at once.
unsafe impl Sync for MainQueue {}

impl Drop for MainQueue {
    fn drop(&mut self) {
        // SAFETY: the one reference that `new` was given; the producer still lives (see `new`).
        unsafe { rd::rd_kafka_queue_destroy(self.0) };
    }
}

/// One event, until it is given back.
struct Event(*mut rd::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: given by librdkafka, not NULL, and given back once: here.
        unsafe { rd::rd_kafka_event_destroy(self.0) };
    }
}

/// What hears of everything but the reports.
pub(super) trait Lines {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str);
    fn statistics(&self, json: &[u8]);
}

/// Hears of what comes out beside reports.
pub(super) struct Ears<'a> {
    pub(super) lines: &'a dyn Lines,
    /// Of how many records of a topic there were reports.
    pub(super) settled: &'a dyn Fn(&str, usize),
    pub(super) fatal: &'a Fatal<'a>,
}

/// Tells which error ended the producer, if one did.
pub(super) type Fatal<'a> = dyn Fn() -> Option<(KafkaCode, String)> + 'a;

impl MainQueue {
    /// The queue is to be dropped before the producer.
    pub(super) fn new<C: ProducerContext>(producer: &BaseProducer<C>) -> MainQueue {
        // SAFETY: the producer lives; its main queue always is.
        MainQueue(unsafe { rd::rd_kafka_queue_get_main(producer.client().native_ptr()) })
    }

    /// Hands over what is there, and what comes until the time is over. `between` is called before each look, and soon after each
    /// [`MainQueue::wake`].
    pub(super) fn serve(
        &self,
        timeout: Duration,
        reports: &dyn Reports,
        ears: &Ears<'_>,
        between: &mut dyn FnMut(),
    ) {
        let deadline = Instant::now() + timeout;
        let mut after = 0;
        loop {
            between();
            let left = deadline.saturating_duration_since(Instant::now());
            // Up to the next millisecond, so that the last part of one is no busy loop.
            let left_ms = left.as_micros().div_ceil(1000);
            // SAFETY: the queue is ours.
            let event = unsafe {
                rd::rd_kafka_queue_poll(self.0, c_int::try_from(left_ms).unwrap_or(c_int::MAX))
            };
            if !event.is_null() {
                Event(event).hand_over(reports, ears);
            }
            if Instant::now() >= deadline {
                after += 1;
                // What is there when the time is over is handed over as well: nobody is woken for it again.
                if event.is_null() || after > MOST_AFTER {
                    between();
                    return;
                }
            }
        }
    }

    /// Ends the wait for an event that is under way, or the next one.
    fn wake(&self) {
        // SAFETY: the queue is ours.
        unsafe { rd::rd_kafka_queue_yield(self.0) };
    }
}

/// Wakes whoever serves a producer's main queue, from any thread, also when the producer is gone.
#[derive(Clone, Default)]
pub(super) struct Wakes(Arc<Mutex<Option<MainQueue>>>);

impl Wakes {
    /// To be ended before the producer.
    pub(super) fn new(queue: MainQueue) -> Wakes {
        Wakes(Arc::new(Mutex::new(Some(queue))))
    }

    pub(super) fn wake(&self) {
        if let Some(queue) = &*self.0.lock() {
            queue.wake();
        }
    }

    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

/// librdkafka's text.
///
/// # Safety
///
/// NULL, or NUL-terminated and unchanged for `'a`.
unsafe fn text<'a>(text: *const c_char) -> Cow<'a, str> {
    if text.is_null() {
        return Cow::Borrowed("");
    }
    // SAFETY: by contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

impl Event {
    fn hand_over(&self, reports: &dyn Reports, ears: &Ears<'_>) {
        // SAFETY: the event is alive, as long as `self` is.
        match unsafe { rd::rd_kafka_event_type(self.0) } {
            rd::RD_KAFKA_EVENT_DR => self.deliveries(reports, ears.settled),
            rd::RD_KAFKA_EVENT_ERROR => self.error(reports, ears.fatal),
            rd::RD_KAFKA_EVENT_LOG => self.log(ears.lines),
            rd::RD_KAFKA_EVENT_STATS => {
                // SAFETY: an event of this type has a text that ends with a NUL.
                let json = unsafe { text(rd::rd_kafka_event_stats(self.0)) };
                ears.lines.statistics(json.as_bytes());
            }
            // Nothing else is asked for.
            _ => {}
        }
    }

    fn deliveries(&self, reports: &dyn Reports, settled: &dyn Fn(&str, usize)) {
        let mut delivered = 0;
        let mut of: Option<Cow<'_, str>> = None;
        let mut count = 0;
        let mut tagged = Vec::new();
        // SAFETY: the event is alive, and its messages are until it is given back.
        let next = || unsafe { rd::rd_kafka_event_message_next(self.0).as_ref() };
        while let Some(message) = next() {
            count += 1;
            if of.is_none() && !message.rkt.is_null() {
                // All records of an event are of one topic.
                // SAFETY: the message is alive, and its topic is as long.
                of = Some(unsafe { text(rd::rd_kafka_topic_name(message.rkt)) });
            }
            let token = message._private.addr();
            let outcome = match message.err {
                rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
                code => Err(kafka_code::from_number(code as i32)),
            };
            if token == 0 && outcome.is_ok() {
                delivered += 1;
                continue;
            }
            let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            if token & TAGGED != 0 {
                if tagged.is_empty() {
                    // SAFETY: the event is alive.
                    tagged.reserve(unsafe { rd::rd_kafka_event_message_count(self.0) });
                }
                // SAFETY: the message is alive.
                let (timestamp, latency_us, leader_epoch) = unsafe {
                    (
                        rd::rd_kafka_message_timestamp(message, &raw mut kind),
                        rd::rd_kafka_message_latency(message),
                        rd::rd_kafka_message_leader_epoch(message),
                    )
                };
                tagged.push(TaggedReport {
                    tag: token & !TAGGED,
                    partition: message.partition,
                    offset: message.offset,
                    timestamp_ms: (timestamp >= 0).then_some(timestamp),
                    timestamp_type: match kind {
                        rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => {
                            TimestampType::CreateTime
                        }
                        rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => {
                            TimestampType::LogAppendTime
                        }
                        _ => TimestampType::NotAvailable,
                    },
                    latency_us,
                    leader_epoch,
                    outcome,
                });
                continue;
            }
            // SAFETY: the message is alive; its topic, if it has one, is as well.
            let (topic, timestamp_ms) = unsafe {
                let topic = match message.rkt.is_null() {
                    true => Cow::Borrowed(""),
                    false => text(rd::rd_kafka_topic_name(message.rkt)),
                };
                let timestamp = rd::rd_kafka_message_timestamp(message, &raw mut kind);
                (topic, (timestamp >= 0).then_some(timestamp))
            };
            reports.report(&Report {
                token,
                topic: &topic,
                partition: message.partition,
                offset: message.offset,
                timestamp_ms,
                outcome,
            });
        }
        if delivered > 0 {
            reports.delivered(delivered);
        }
        if !tagged.is_empty() {
            reports.tagged(&mut tagged);
        }
        if let Some(topic) = of {
            settled(&topic, count);
        }
    }

    fn error(&self, reports: &dyn Reports, fatal: &Fatal<'_>) {
        // SAFETY: the event is alive, and its text is as long.
        let (code, reason) = unsafe {
            (
                rd::rd_kafka_event_error(self.0),
                text(rd::rd_kafka_event_error_string(self.0)),
            )
        };
        if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FATAL
            && let Some((code, reason)) = fatal()
        {
            reports.error(code, reason.trim());
            return;
        }
        reports.error(kafka_code::from_number(code as i32), reason.trim());
    }

    fn log(&self, lines: &dyn Lines) {
        let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is alive; the texts that it puts there are as long.
        unsafe {
            let (facility, message) = (&raw mut facility, &raw mut message);
            if rd::rd_kafka_event_log(self.0, facility, message, &raw mut level) != 0 {
                return;
            }
        }
        // SAFETY: as above.
        let (facility, message) = unsafe { (text(facility), text(message)) };
        lines.log(log_level(level), facility.trim(), message.trim());
    }
}

fn log_level(number: c_int) -> RDKafkaLogLevel {
    match number {
        ..=0 => RDKafkaLogLevel::Emerg,
        1 => RDKafkaLogLevel::Alert,
        2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}
