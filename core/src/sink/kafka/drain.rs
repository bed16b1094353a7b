//! What comes out of librdkafka's main queue: delivery reports, errors, log lines and statistics, with unsafe FFI.
//!
//! One thread at a time. A report of librdkafka's stands for a whole request; the records in it that nobody asked about are
//! counted and told as a number, for the cost of a record is what the report costs. (rust-rdkafka's poll hands over each with a
//! reference to the event, reads its topic and timestamp, and tells errors twice.) Always true: an event is given back after the last
//! look at it, and the queue before the producer ends.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use rdkafka::bindings as rd;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use super::bell::Bell;
use crate::batch::TimestampType;
use crate::error::KafkaCode;
use crate::kafka_code;
use crate::sink::{Report, Reports, TAGGED, TaggedReport};

/// The most events that are handed over in one go.
const MOST_AT_ONCE: usize = 1000;
/// After so many something else is looked at.
const EVENTS_BETWEEN: usize = 16;

/// One reference to a producer's main queue, which tells a bell of what comes.
pub(super) struct MainQueue {
    queue: *mut rd::rd_kafka_queue_t,
    /// What the queue's callback points to.
    _bell: Arc<Bell>,
}

// SAFETY: librdkafka's queues may be used by any thread.
unsafe impl Send for MainQueue {}
// SAFETY: as above, by several at once.
unsafe impl Sync for MainQueue {}

impl Drop for MainQueue {
    fn drop(&mut self) {
        // SAFETY: the one reference that `new` was given; the producer still lives (see `new`). Calls back are made under the queue's
        // lock, which taking them away takes: none is under way any more.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.queue);
        }
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
    pub(super) fn new<C: ProducerContext>(
        producer: &BaseProducer<C>,
        bell: &Arc<Bell>,
    ) -> MainQueue {
        let opaque = Arc::as_ptr(bell).cast_mut().cast::<c_void>();
        // SAFETY: the producer lives; its main queue always is. The bell that `opaque` points to is kept until `drop` has taken the
        // callback away.
        let queue = unsafe {
            let queue = rd::rd_kafka_queue_get_main(producer.client().native_ptr());
            rd::rd_kafka_queue_cb_event_enable(queue, Some(came), opaque);
            queue
        };
        MainQueue {
            queue,
            _bell: Arc::clone(bell),
        }
    }

    /// Hands over what is there, calling `between` before the first event, now and then, and after the last one. False when it was too
    /// much for one call.
    pub(super) fn drain(
        &self,
        reports: &dyn Reports,
        ears: &Ears<'_>,
        between: &mut dyn FnMut(),
    ) -> bool {
        for number in 0..MOST_AT_ONCE {
            if number % EVENTS_BETWEEN == 0 {
                between();
            }
            // SAFETY: the queue is ours.
            let event = unsafe { rd::rd_kafka_queue_poll(self.queue, 0) };
            if event.is_null() {
                between();
                return true;
            }
            Event(event).hand_over(reports, ears);
        }
        false
    }
}

/// Called by librdkafka's threads, with the queue locked: must not call librdkafka for it.
unsafe extern "C" fn came(_client: *mut rd::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the bell that `MainQueue::new` passed, which it keeps as long as there are calls.
    let bell = unsafe { &*opaque.cast::<Bell>() };
    bell.news();
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
