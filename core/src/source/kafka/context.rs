//! What librdkafka calls back while the poller serves its consumer queue.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::kafka_code;
use crate::log;
use crate::native::throttle::Throttled;
use crate::partition::TopicPartition;
use crate::source::direct::Watermarks;
use crate::source::{Protocol, SourceEvent};

/// What librdkafka calls back, on the poller's thread, while its consumer queue is polled.
pub(crate) struct Context {
    pub(super) events: Mutex<VecDeque<SourceEvent>>,
    /// Log lines are events, too.
    pub(super) logs: bool,
    /// Of partitions that librdkafka does not fetch.
    pub(super) watermarks: Arc<Watermarks>,
}

impl Context {
    /// The watermarks of partitions that librdkafka does not fetch.
    pub(crate) fn watermarks(&self) -> &Watermarks {
        &self.watermarks
    }
}

impl ClientContext for Context {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        if self.logs {
            // From any thread of librdkafka; the poller finds it at its next look.
            self.events.lock().push_back(SourceEvent::Log {
                level: level as i32,
                facility: facility.to_string(),
                message: message.to_string(),
            });
        } else {
            log::emit_librdkafka(level, facility, message);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let json = String::from_utf8_lossy(statistics).into_owned();
        self.events.lock().push_back(SourceEvent::Statistics(json));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let error = kafka_code::error(&error, reason);
        self.events.lock().push_back(SourceEvent::Error(error));
    }
}

impl Throttled for Context {
    fn throttled(&self, broker: String, broker_id: i32, throttle_ms: i32) {
        self.events.lock().push_back(SourceEvent::Throttle {
            broker,
            broker_id,
            throttle_ms,
        });
    }
}

impl ConsumerContext for Context {
    /// Only notes what happened: the poller answers with assign or unassign when it is ready, and librdkafka waits.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let protocol = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => Protocol::Cooperative,
            RebalanceProtocol::Eager | RebalanceProtocol::None => Protocol::Eager,
        };
        let partitions = partitions
            .elements()
            .iter()
            .map(|element| TopicPartition::new(element.topic(), element.partition()))
            .collect();
        let event = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            SourceEvent::Assign {
                partitions,
                protocol,
            }
        } else {
            SourceEvent::Revoke {
                partitions,
                protocol,
                lost: consumer.assignment_lost(),
            }
        };
        self.events.lock().push_back(event);
    }
}

/// A consumer of librdkafka with its callbacks.
pub(crate) type Client = BaseConsumer<Context>;
