//! What a client tells beside records and delivery reports, for faces whose users poll for it.
//!
//! L0; plain data, any thread.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::error::KafkaCode;

/// Something librdkafka said that belongs to the client as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// An error; librdkafka goes on by itself unless it is fatal.
    Error {
        /// Kafka's code; of a fatal error the one that led to it.
        code: KafkaCode,
        /// librdkafka's sentence.
        reason: String,
    },
    /// librdkafka's statistics (`statistics.interval.ms`), JSON.
    Statistics(String),
    /// A line of librdkafka's log.
    Log {
        /// syslog's number: 0 is worst, 7 is for debugging.
        level: i32,
        /// librdkafka's name of what the line is about.
        facility: String,
        /// The line.
        message: String,
    },
    /// A broker held a request back because of a quota, or, with 0 ms, does so no longer.
    Throttle {
        /// The broker's name.
        broker: String,
        /// The broker's number.
        broker_id: i32,
        /// For how long, in milliseconds.
        throttle_ms: i32,
    },
}

/// More than these are not kept: the oldest go. They are worth hearing soon or not at all.
const MOST: usize = 10_000;

/// Events that wait to be asked for.
#[derive(Default)]
pub(crate) struct Events(Mutex<VecDeque<ClientEvent>>);

impl Events {
    pub(crate) fn push(&self, event: ClientEvent) {
        let mut events = self.0.lock();
        if events.len() >= MOST {
            events.pop_front();
        }
        events.push_back(event);
    }

    pub(crate) fn take(&self) -> Vec<ClientEvent> {
        self.0.lock().drain(..).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_who_does_not_ask_makes_it_grow_for_ever() {
        let events = Events::default();
        for number in 0..=MOST {
            events.push(ClientEvent::Statistics(number.to_string()));
        }
        let taken = events.take();
        assert_eq!(taken.len(), MOST);
        assert_eq!(taken[0], ClientEvent::Statistics("1".into()));
        assert!(events.is_empty());
    }
}
