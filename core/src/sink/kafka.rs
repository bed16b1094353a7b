//! The sink that is librdkafka, over rust-rdkafka's `BaseProducer`; records without headers and timestamp go the short way
//! ([`enqueue`]).
//!
//! Delivery reports, errors and log lines arrive as events inside [`Sink::poll`] and [`Sink::collect`] ([`drain`]). A record's token
//! travels as librdkafka's opaque number, so that a fire-and-forget record costs no allocation for its report.

mod bell;
mod drain;
mod enqueue;
mod transaction;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Message, Timestamp};

use super::direct::{self, Appended, Direct, Route};
use super::{
    ProducerRecord, Refused, Report, Reports, Row, Sink, Step, TAGGED, TaggedReport, TaggedRow,
    Token,
};
use crate::batch::TimestampType;
use crate::error::{Error, KafkaCode, Result};
use crate::events::ClientEvent;
use crate::kafka_code;
use crate::log::{self, LIBRDKAFKA, Level};
use crate::metadata::Metadata;
use crate::native;
use crate::native::throttle::{self, Throttled};
use crate::token::TokenSource;
use bell::Bell;
use drain::{Ears, Lines, MainQueue};
use enqueue::{Fared, Queue, Topic};

struct Context {
    reports: Arc<dyn Reports>,
}

impl Lines for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let kept = self.reports.event(ClientEvent::Log {
            level: level as i32,
            facility: facility.to_string(),
            message: message.to_string(),
        });
        if kept.is_some() {
            log::emit_librdkafka(level, facility, message);
        }
    }

    fn statistics(&self, json: &[u8]) {
        let statistics = String::from_utf8_lossy(json).into_owned();
        let Some(ClientEvent::Statistics(statistics)) =
            self.reports.event(ClientEvent::Statistics(statistics))
        else {
            return;
        };
        if log::enabled(Level::Debug) {
            log::emit(
                Level::Debug,
                LIBRDKAFKA,
                format_args!("STATS: {statistics}"),
            );
        }
    }
}

impl Throttled for Context {
    fn throttled(&self, broker: String, broker_id: i32, throttle_ms: i32) {
        let _ = self.reports.event(ClientEvent::Throttle {
            broker,
            broker_id,
            throttle_ms,
        });
    }
}

/// rust-rdkafka itself only polls when the producer ends: what is left then comes this way.
impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Lines::log(self, level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.statistics(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error
            .rdkafka_error_code()
            .map_or_else(|| kafka_code::from_number(-1), kafka_code::from_rdkafka);
        self.reports.error(code, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Token;

    fn delivery(&self, result: &DeliveryResult<'_>, token: Token) {
        let (message, outcome) = match result {
            Ok(message) => (message, Ok(())),
            Err((failure, message)) => {
                let code = failure
                    .rdkafka_error_code()
                    .map_or_else(|| kafka_code::from_number(-1), kafka_code::from_rdkafka);
                (message, Err(code))
            }
        };
        if token & TAGGED != 0 {
            self.reports.tagged(&mut vec![TaggedReport {
                tag: token & !TAGGED,
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp().to_millis(),
                timestamp_type: match message.timestamp() {
                    Timestamp::NotAvailable => TimestampType::NotAvailable,
                    Timestamp::CreateTime(_) => TimestampType::CreateTime,
                    Timestamp::LogAppendTime(_) => TimestampType::LogAppendTime,
                },
                latency_us: -1,
                leader_epoch: -1,
                outcome,
            }]);
            return;
        }
        self.reports.report(&Report {
            token,
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            outcome,
        });
    }
}

/// How long a turn of another thread is waited for.
const PASS_TURN: Duration = Duration::from_millis(200);

pub(crate) struct KafkaSink {
    /// Before the producer in `queue`, so that it is given back first.
    main: MainQueue,
    bell: Arc<Bell>,
    /// Held by whoever hands over what came, so that reports come in order.
    turn: Mutex<()>,
    /// Topics that are sent to past librdkafka, where that may be.
    direct: Option<Direct>,
    queue: Queue<Context>,
}

impl KafkaSink {
    /// Starts librdkafka's producer with these properties. Without `direct` it does all the sending.
    pub(crate) fn new(
        properties: &BTreeMap<String, String>,
        reports: Arc<dyn Reports>,
        tokens: Option<&TokenSource>,
        direct: Option<direct::Settings>,
    ) -> Result<KafkaSink> {
        let throttles = reports.wants_throttles();
        let bell = Arc::new(Bell::new(Arc::clone(&reports)));
        let context = Context { reports };
        let producer: BaseProducer<Context> = native::client_config(properties)
            .create_with_context(context)
            .map_err(|failure| kafka_code::error(&failure, "creating the producer"))?;
        if throttles {
            throttle::listen(producer.client());
        }
        let direct = direct.map(|settings| {
            let bell = Arc::clone(&bell);
            let call = move |call| match call {
                direct::Call::Now => bell.ring(),
                direct::Call::News => bell.news(),
            };
            Direct::new(settings, Box::new(call))
        });
        let queue = Queue::new(producer, tokens)?;
        Ok(KafkaSink {
            main: MainQueue::new(&queue.producer, &bell),
            bell,
            turn: Mutex::new(()),
            direct,
            queue,
        })
    }

    /// librdkafka's handle, for the requests of an admin client. It lives as long as this sink.
    pub(crate) fn native(&self) -> *mut rdkafka::bindings::rd_kafka_t {
        self.queue.producer.client().native_ptr()
    }

    /// What else is called when something is to be looked at, with librdkafka's queue locked; no call is under way once this has
    /// returned.
    pub(crate) fn when_rung(&self, call: Option<Box<dyn Fn() + Send + Sync>>) {
        self.bell.also(call);
    }

    /// Hands over what came, as the one that has the turn.
    fn hand_over(&self) {
        let context = self.queue.producer.context();
        let ears = Ears {
            lines: &**context,
            settled: &|topic, records| {
                if let (Some(direct), Some(route)) = (&self.direct, self.queue.route(topic)) {
                    direct.consider(topic, route.reported(records));
                }
            },
            fatal: &|| self.fatal(),
        };
        self.bell.look();
        let is_all = self.main.drain(&*context.reports, &ears, &mut || {
            if let Some(direct) = &self.direct {
                direct.serve(&*context.reports, self);
            }
        });
        if !is_all {
            self.bell.ring();
        }
    }

    /// The error that ended this producer, if one did.
    fn fatal(&self) -> Option<(KafkaCode, String)> {
        let (code, reason) = self.queue.producer.client().fatal_error()?;
        let code = kafka_code::from_rdkafka(code);
        Some((code.judged(false, true, false), reason))
    }

    /// Why a record for this topic was not accepted.
    fn refused(&self, topic: &str, failure: &KafkaError) -> Refused {
        match failure {
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => Refused::Full,
            KafkaError::Nul(_) => Refused::Failed(Error::argument(
                "topic",
                "the topic's name holds a NUL character",
                "remove it",
            )),
            KafkaError::MessageProduction(RDKafkaErrorCode::Fatal) => {
                // "Fatal error" alone helps nobody: librdkafka keeps what led to it.
                let cause = self.queue.producer.client().fatal_error().map_or_else(
                    String::new,
                    |(code, reason)| {
                        format!(" after {}: {reason}", kafka_code::from_rdkafka(code).name())
                    },
                );
                Refused::Failed(kafka_code::error(
                    failure,
                    format!("sending to topic '{topic}'{cause}"),
                ))
            }
            _ => Refused::Failed(kafka_code::error(
                failure,
                format!("sending to topic '{topic}'"),
            )),
        }
    }
}

/// Librdkafka's part of sending.
impl KafkaSink {
    fn enqueue_counted(
        &self,
        topic: Option<&Topic>,
        record: &ProducerRecord<'_>,
        token: Token,
    ) -> Result<(), Refused> {
        if let Some(topic) = topic {
            topic.route.begin(1);
        }
        let sent = self.enqueue_uncounted(topic, record, token);
        if let (Some(topic), Err(_)) = (topic, &sent) {
            topic.route.withdraw(1);
        }
        sent
    }

    fn enqueue_uncounted(
        &self,
        topic: Option<&Topic>,
        record: &ProducerRecord<'_>,
        token: Token,
    ) -> Result<(), Refused> {
        let refused = |failure: KafkaError| self.refused(record.topic, &failure);
        // Zero is the time of the call, to librdkafka as well.
        if let (Some(topic), true, 0) = (
            topic,
            record.headers.is_empty(),
            record.timestamp_ms.unwrap_or(0),
        ) {
            let row = (record.key, record.value);
            let sent = self.queue.send(topic, record.partition, row, token);
            return sent.map_err(|code| refused(KafkaError::MessageProduction(code)));
        }
        let headers = (!record.headers.is_empty()).then(|| {
            record.headers.iter().fold(
                OwnedHeaders::new_with_capacity(record.headers.len()),
                |headers, (key, value)| headers.insert(Header { key, value: *value }),
            )
        });
        let native: BaseRecord<'_, [u8], [u8], Token> = BaseRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.value,
            key: record.key,
            timestamp: record.timestamp_ms,
            headers,
            delivery_opaque: token,
        };
        // On failure rust-rdkafka hands the record back, and with it the headers, which are freed here.
        self.queue
            .producer
            .send(native)
            .map_err(|(failure, _)| refused(failure))
    }

    /// These rows for librdkafka; the first one that was not dealt with. `enqueue` hands them over and calls its argument for each.
    fn enqueue_rows(
        &self,
        topic: &Topic,
        rows: Range<usize>,
        refused: &mut dyn FnMut(usize, Error),
        enqueue: impl FnOnce(&mut dyn FnMut(Fared) -> bool),
    ) -> usize {
        topic.route.begin(rows.len());
        let (mut dealt, mut failed) = (rows.start, 0);
        enqueue(&mut |fared| {
            if let Fared::Refused(code) = fared {
                match self.refused(topic.name(), &KafkaError::MessageProduction(code)) {
                    // librdkafka takes none of those behind it either.
                    Refused::Full => return false,
                    Refused::Failed(error) => {
                        failed += 1;
                        refused(dealt, error);
                    }
                }
            }
            dealt += 1;
            true
        });
        topic.route.withdraw(rows.end - dealt + failed);
        dealt
    }
}

/// Rows for a topic's book, in order; how many were dealt with. What the book does not take is librdkafka's, one by one: those behind it
/// must not go the other way.
fn append_all(
    count: usize,
    mut enqueue: impl FnMut(Range<usize>) -> usize,
    mut append: impl FnMut(usize) -> (usize, Appended),
) -> usize {
    let mut at = 0;
    while at < count {
        let (taken, why) = append(at);
        at += taken;
        match why {
            Appended::Yes => {}
            Appended::Full => return at,
            Appended::NotHere => {
                let next = at + 1;
                at = enqueue(at..next);
                if at < next {
                    return at;
                }
            }
        }
    }
    at
}

impl direct::Native for KafkaSink {
    fn route(&self, topic: &str) -> Option<Arc<Route>> {
        self.queue.route(topic)
    }

    fn enqueue(&self, record: &ProducerRecord<'_>, token: Token) -> Result<(), Refused> {
        self.enqueue_counted(self.queue.topic(record.topic), record, token)
    }

    fn hurry(&self) {
        self.queue.hurry();
    }
}

impl Sink for KafkaSink {
    fn send(&self, record: &ProducerRecord<'_>, token: Token) -> Result<(), Refused> {
        let topic = self.queue.topic(record.topic);
        let (Some(direct), Some(topic)) = (&self.direct, topic) else {
            return self.enqueue_counted(topic, record, token);
        };
        let way = topic.route.enter();
        if let Some(book) = &*way {
            match book.append(record, token, direct.now(), topic.route.outstanding()) {
                Appended::Yes => return Ok(()),
                Appended::Full => return Err(Refused::Full),
                Appended::NotHere => {}
            }
        }
        self.enqueue_counted(Some(topic), record, token)
    }

    fn send_rows(
        &self,
        topic: &str,
        partition: Option<i32>,
        rows: &[Row<'_>],
        token: Token,
        refused: &mut dyn FnMut(usize, Error),
    ) -> usize {
        let Some(topic) = self.queue.topic(topic) else {
            return self.send_each(topic, partition, rows, token, refused);
        };
        let token_of = |row: usize| if row == 0 { token } else { 0 };
        let mut enqueue = |these: Range<usize>| {
            self.enqueue_rows(topic, these.clone(), refused, |tell| {
                let token = token_of(these.start);
                self.queue
                    .send_rows(topic, partition, &rows[these], token, tell);
            })
        };
        let way = topic.route.enter();
        let (Some(direct), Some(book)) = (&self.direct, &*way) else {
            return enqueue(0..rows.len());
        };
        let now = direct.now();
        append_all(rows.len(), enqueue, |first| {
            let rows = rows[first..].iter().enumerate();
            let rows = rows.map(|(row, (key, value))| direct::Row {
                key: *key,
                value: *value,
                partition,
                token: token_of(first + row),
            });
            book.append_rows(rows, now, topic.route.outstanding())
        })
    }

    fn send_tagged(
        &self,
        topic: &str,
        rows: &[TaggedRow<'_>],
        refused: &mut dyn FnMut(usize, Error),
    ) -> usize {
        let Some(topic) = self.queue.topic(topic) else {
            return self.send_each_tagged(topic, rows, refused);
        };
        let mut enqueue = |these: Range<usize>| {
            self.enqueue_rows(topic, these.clone(), refused, |tell| {
                self.queue.send_tagged(topic, &rows[these], tell);
            })
        };
        let way = topic.route.enter();
        let (Some(direct), Some(book)) = (&self.direct, &*way) else {
            return enqueue(0..rows.len());
        };
        let now = direct.now();
        append_all(rows.len(), enqueue, |first| {
            let rows = rows[first..].iter().map(|row| direct::Row {
                key: row.key,
                value: row.value,
                partition: row.partition,
                token: row.token(),
            });
            book.append_rows(rows, now, topic.route.outstanding())
        })
    }

    fn poll(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let waiting = self.bell.enter();
        loop {
            let seen = waiting.epoch();
            {
                let _turn = self.turn.lock();
                self.hand_over();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            waiting.wait(seen, left);
        }
    }

    fn collect(&self) {
        if self.bell.has_news()
            && let Some(_turn) = self.turn.try_lock()
        {
            self.hand_over();
        }
    }

    fn ring(&self) {
        self.bell.ring();
    }

    fn pass_turn(&self) {
        // With a bound, for a log handler of the application's may have led here from a turn of this very thread.
        drop(self.turn.try_lock_for(PASS_TURN));
    }

    fn nudge(&self) {
        direct::Native::hurry(self);
        if let Some(direct) = &self.direct {
            direct.hurry();
        }
    }

    fn purge(&self, queued: bool, in_flight: bool, wait: bool) {
        if let Some(direct) = &self.direct {
            direct.purge(queued, in_flight);
        }
        let mut what = PurgeConfig::default();
        if queued {
            what = what.queue();
        }
        if in_flight {
            what = what.inflight();
        }
        if !wait {
            what = what.non_blocking();
        }
        self.queue.producer.purge(what);
        self.bell.ring();
    }

    fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()> {
        self.queue.set_sasl_credentials(username, password)
    }

    fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata> {
        native::metadata::metadata(self.queue.producer.client(), topic, timeout)
    }

    fn transaction(&self, step: Step<'_>, timeout: Option<Duration>) -> Result<()> {
        transaction::run(&self.queue.producer, step, timeout)
    }

    fn topics_direct(&self) -> usize {
        self.direct.as_ref().map_or(0, Direct::topics)
    }

    fn cluster_id(&self, timeout: Duration) -> Result<Option<String>> {
        Ok(native::metadata::cluster_id(
            self.queue.producer.client(),
            timeout,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(&'static str, String)>>);

    impl Reports for Heard {
        fn report(&self, _report: &Report<'_>) {}

        fn delivered(&self, _records: u64) {}

        fn error(&self, code: KafkaCode, reason: &str) {
            self.0.lock().push((code.name(), reason.to_string()));
        }
    }

    #[test]
    fn each_error_event_is_heard_once() {
        let heard = Arc::new(Heard::default());
        // A port that nobody listens at.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let servers = closed.local_addr().unwrap().to_string();
        drop(closed);
        let properties = BTreeMap::from([("bootstrap.servers".to_string(), servers)]);
        let sink = KafkaSink::new(&properties, Arc::clone(&heard) as _, None, None).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while heard.0.lock().len() < 2 && Instant::now() < deadline {
            sink.poll(Duration::from_millis(10));
        }
        let names: Vec<_> = heard
            .0
            .lock()
            .iter()
            .map(|(name, _)| *name)
            .take(2)
            .collect();
        // rust-rdkafka's own poll tells each twice.
        assert_eq!(names, ["_TRANSPORT", "_ALL_BROKERS_DOWN"]);
    }
}
