//! The sink that is librdkafka, over rust-rdkafka's `BaseProducer`; records without headers and timestamp go the short way
//! ([`enqueue`]).
//!
//! Delivery reports, errors and log lines arrive as events inside [`Sink::poll`], on the delivery thread ([`drain`]). A record's token
//! travels as librdkafka's opaque number, so that a fire-and-forget record costs no allocation for its report.

mod drain;
mod enqueue;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Message, Timestamp};

use super::{
    ProducerRecord, Refused, Report, Reports, Row, Sink, Step, TAGGED, TaggedReport, TaggedRow,
    Token,
};
use crate::batch::TimestampType;
use crate::error::{Error, KafkaCode, Result};
use crate::events::ClientEvent;
use crate::kafka_code;
use crate::log::{self, LIBRDKAFKA, Level};
use crate::native;
use crate::native::throttle::{self, Throttled};
use crate::partition::TopicInfo;
use crate::token::TokenSource;
use drain::{Lines, MainQueue};
use enqueue::{Fared, Queue};

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

pub(crate) struct KafkaSink {
    /// Before the producer in `queue`, so that it is given back first.
    main: MainQueue,
    queue: Queue<Context>,
}

impl KafkaSink {
    /// Starts librdkafka's producer with these properties.
    pub(crate) fn new(
        properties: &BTreeMap<String, String>,
        reports: Arc<dyn Reports>,
        tokens: Option<&TokenSource>,
    ) -> Result<KafkaSink> {
        let throttles = reports.wants_throttles();
        let context = Context { reports };
        let producer: BaseProducer<Context> = native::client_config(properties)
            .create_with_context(context)
            .map_err(|failure| kafka_code::error(&failure, "creating the producer"))?;
        if throttles {
            throttle::listen(producer.client());
        }
        Ok(KafkaSink {
            main: MainQueue::new(&producer),
            queue: Queue::new(producer, tokens)?,
        })
    }

    /// librdkafka's handle, for the requests of an admin client. It lives as long as this sink.
    pub(crate) fn native(&self) -> *mut rdkafka::bindings::rd_kafka_t {
        self.queue.producer.client().native_ptr()
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

impl Sink for KafkaSink {
    fn send(&self, record: &ProducerRecord<'_>, token: Token) -> Result<(), Refused> {
        let refused = |failure: KafkaError| self.refused(record.topic, &failure);
        // Zero is the time of the call, to librdkafka as well.
        if record.headers.is_empty() && record.timestamp_ms.unwrap_or(0) == 0 {
            let row = (record.key, record.value);
            let sent = self.queue.send(record.topic, record.partition, row, token);
            if let Some(sent) = sent {
                return sent.map_err(|code| refused(KafkaError::MessageProduction(code)));
            }
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

    fn send_rows(
        &self,
        topic: &str,
        partition: Option<i32>,
        rows: &[Row<'_>],
        token: Token,
        refused: &mut dyn FnMut(usize, Error),
    ) -> usize {
        let mut dealt = 0;
        let sent = self
            .queue
            .send_rows(topic, partition, rows, token, &mut |fared| {
                if let Fared::Refused(code) = fared {
                    match self.refused(topic, &KafkaError::MessageProduction(code)) {
                        // librdkafka takes none of those behind it either.
                        Refused::Full => return false,
                        Refused::Failed(error) => refused(dealt, error),
                    }
                }
                dealt += 1;
                true
            });
        if sent {
            return dealt;
        }
        self.send_each(topic, partition, rows, token, refused)
    }

    fn send_tagged(
        &self,
        topic: &str,
        rows: &[TaggedRow<'_>],
        refused: &mut dyn FnMut(usize, Error),
    ) -> usize {
        let mut dealt = 0;
        let sent = self.queue.send_tagged(topic, rows, &mut |fared| {
            if let Fared::Refused(code) = fared {
                match self.refused(topic, &KafkaError::MessageProduction(code)) {
                    Refused::Full => return false,
                    Refused::Failed(error) => refused(dealt, error),
                }
            }
            dealt += 1;
            true
        });
        if sent {
            return dealt;
        }
        for (number, row) in rows.iter().enumerate() {
            let record = ProducerRecord {
                partition: row.partition,
                key: row.key,
                value: row.value,
                ..ProducerRecord::new(topic)
            };
            match self.send(&record, row.token()) {
                Ok(()) => {}
                Err(Refused::Full) => return number,
                Err(Refused::Failed(error)) => refused(number, error),
            }
        }
        rows.len()
    }

    fn poll(&self, timeout: Duration) {
        let context = self.queue.producer.context();
        let fatal = || self.fatal();
        self.main
            .serve(timeout, &*context.reports, &**context, &fatal);
    }

    fn nudge(&self) {
        // With no time to wait this only wakes the broker threads with the flushing flag up. It fails while records are in
        // flight, which is why it is called.
        let _ = self.queue.producer.flush(Duration::ZERO);
    }

    fn purge(&self, queued: bool, in_flight: bool, wait: bool) {
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
    }

    fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()> {
        self.queue.set_sasl_credentials(username, password)
    }

    fn topics(&self, timeout: Duration) -> Result<Vec<TopicInfo>> {
        native::topics(self.queue.producer.client(), timeout)
    }

    fn transaction(&self, step: Step<'_>, timeout: Option<Duration>) -> Result<()> {
        transaction::run(&self.queue.producer, step, timeout)
    }

    fn cluster_id(&self, timeout: Duration) -> Result<Option<String>> {
        let client = self.queue.producer.client();
        Ok(client.fetch_cluster_id(native::timeout(timeout)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use parking_lot::Mutex;

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
        let sink = KafkaSink::new(&properties, Arc::clone(&heard) as _, None).unwrap();
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
