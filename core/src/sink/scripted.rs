//! A sink without a broker and without time of its own: it does what the test says, when the test says it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{ProducerRecord, Refused, Report, Reports, Sink, Step, Token};
use crate::error::{Error, Result};
use crate::kafka_code;
use crate::metadata::Metadata;

/// `_PURGE_QUEUE`.
pub(crate) const PURGED: i32 = -152;
/// `MSG_SIZE_TOO_LARGE`.
pub(crate) const TOO_LARGE: i32 = 10;

struct Queued {
    token: Token,
    topic: String,
    partition: i32,
    value: Option<Vec<u8>>,
}

#[derive(Default)]
struct State {
    capacity: usize,
    largest_bytes: usize,
    queue: VecDeque<Queued>,
    /// Outcomes of the records at the head of the queue, for the next poll: 0 is delivered, else Kafka's code.
    outcomes: VecDeque<i32>,
    next_offset: i64,
    nudges: usize,
    delivered: Vec<Option<Vec<u8>>>,
}

pub(crate) struct ScriptedSink {
    reports: Arc<dyn Reports>,
    state: Mutex<State>,
}

impl ScriptedSink {
    pub(crate) fn new(reports: Arc<dyn Reports>, capacity: usize) -> ScriptedSink {
        ScriptedSink {
            reports,
            state: Mutex::new(State {
                capacity,
                largest_bytes: usize::MAX,
                ..State::default()
            }),
        }
    }

    pub(crate) fn refuse_values_above(&self, bytes: usize) {
        self.state.lock().largest_bytes = bytes;
    }

    /// The next poll delivers the oldest `count` records.
    pub(crate) fn deliver(&self, count: usize) {
        self.end_with(count, 0);
    }

    /// The next poll reports the oldest `count` records as failed.
    pub(crate) fn end_with(&self, count: usize, code: i32) {
        let mut state = self.state.lock();
        let open = state.queue.len() - state.outcomes.len();
        state
            .outcomes
            .extend(std::iter::repeat_n(code, count.min(open)));
    }

    pub(crate) fn queued(&self) -> usize {
        self.state.lock().queue.len()
    }

    pub(crate) fn nudges(&self) -> usize {
        self.state.lock().nudges
    }

    pub(crate) fn delivered(&self) -> Vec<Option<Vec<u8>>> {
        self.state.lock().delivered.clone()
    }
}

impl Sink for ScriptedSink {
    fn send(&self, record: &ProducerRecord<'_>, token: Token) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if record.value.map_or(0, <[u8]>::len) > state.largest_bytes {
            return Err(Refused::Failed(Error::Kafka {
                code: kafka_code::from_number(TOO_LARGE),
                context: format!("sending to topic '{}'", record.topic),
            }));
        }
        if state.queue.len() >= state.capacity {
            return Err(Refused::Full);
        }
        state.queue.push_back(Queued {
            token,
            topic: record.topic.to_string(),
            partition: record.partition.unwrap_or(0),
            value: record.value.map(<[u8]>::to_vec),
        });
        Ok(())
    }

    fn poll(&self, _timeout: Duration) {
        loop {
            let mut state = self.state.lock();
            let Some(code) = state.outcomes.pop_front() else {
                return;
            };
            let Some(record) = state.queue.pop_front() else {
                return;
            };
            let offset = state.next_offset;
            if code == 0 {
                state.next_offset += 1;
                state.delivered.push(record.value.clone());
            }
            drop(state);
            self.reports.report(&Report {
                token: record.token,
                topic: &record.topic,
                partition: record.partition,
                offset,
                timestamp_ms: None,
                outcome: match code {
                    0 => Ok(()),
                    code => Err(kafka_code::from_number(code)),
                },
            });
        }
    }

    fn nudge(&self) {
        self.state.lock().nudges += 1;
    }

    fn purge(&self, _queued: bool, _in_flight: bool, _wait: bool) {
        self.end_with(usize::MAX, PURGED);
    }

    fn transaction(&self, _step: Step<'_>, _timeout: Option<Duration>) -> Result<()> {
        Ok(())
    }

    fn set_sasl_credentials(&self, _username: &str, _password: &str) -> Result<()> {
        Ok(())
    }

    fn cluster_id(&self, _timeout: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    fn metadata(&self, _topic: Option<&str>, _timeout: Duration) -> Result<Metadata> {
        Ok(Metadata {
            cluster_id: None,
            controller: -1,
            origin: (-1, String::new()),
            brokers: Vec::new(),
            topics: Vec::new(),
        })
    }
}
