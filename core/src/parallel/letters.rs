//! The way to the dead-letter topic: a record is finished only when the broker has confirmed its copy, and a copy that is refused is
//! sent again for as long as the process lives.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::Error;
use crate::log;
use crate::parallel::dispatcher::Dispatcher;
use crate::parallel::engine::{Letter, Reason};
use crate::parallel::outputs::Output;
use crate::producer::{Producer, ProducerRecord};
use crate::record::Record;

/// The pause before a copy that was refused is sent again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// One dead-letter topic.
pub(crate) struct Letters {
    producer: Producer,
    topic: String,
    group: String,
    /// What the times of failures are on.
    clock: Arc<dyn Clock>,
    waiting: Mutex<Vec<Waiting>>,
}

/// A copy that waits to be sent again.
struct Waiting {
    due: Instant,
    refusals: u32,
    letter: Letter,
}

impl Letters {
    pub(crate) fn new(
        producer: Producer,
        topic: String,
        group: String,
        clock: Arc<dyn Clock>,
    ) -> Letters {
        Letters {
            producer,
            topic,
            group,
            clock,
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// Sends a copy; the dispatcher hears when it is confirmed. Never waits.
    pub(crate) fn send(self: &Arc<Self>, dispatcher: &Weak<Dispatcher>, letter: Letter) {
        self.try_send(dispatcher, letter, 0);
    }

    /// Sends again what was refused and has waited long enough.
    pub(crate) fn pump(self: &Arc<Self>, dispatcher: &Weak<Dispatcher>) {
        let now = Instant::now();
        let due: Vec<Waiting> = {
            let mut waiting = self.waiting.lock();
            waiting.extract_if(.., |copy| copy.due <= now).collect()
        };
        for copy in due {
            self.try_send(dispatcher, copy.letter, copy.refusals);
        }
    }

    /// The copy as an output, for a transaction.
    pub(crate) fn copy(&self, (_, work, reason): &Letter) -> Option<Output> {
        let record = work.batch.get(work.row)?;
        let own = record
            .headers()
            .map(|header| (header.name().to_string(), header.value.map(<[u8]>::to_vec)));
        let added = self.headers(&record, reason);
        let added = added.map(|(name, text)| (name.to_string(), Some(text.into_bytes())));
        let copy = record.value().map_or_else(Output::tombstone, Output::new);
        Some(copy.topic(&self.topic).headers(own.chain(added)))
    }

    fn try_send(self: &Arc<Self>, dispatcher: &Weak<Dispatcher>, letter: Letter, refusals: u32) {
        let (ticket, work, reason) = &letter;
        let Some(record) = work.batch.get(work.row) else {
            return;
        };
        let added = self.headers(&record, reason);
        let own: Vec<_> = record
            .headers()
            .map(|header| (header.name(), header.value))
            .collect();
        let headers: Vec<(&str, Option<&[u8]>)> = own
            .iter()
            .map(|(name, value)| (&**name, *value))
            .chain(
                added
                    .iter()
                    .map(|(name, text)| (*name, Some(text.as_bytes()))),
            )
            .collect();
        let mut copy = ProducerRecord::new(&self.topic).headers(&headers);
        copy.key = record.key();
        copy.value = record.value();
        let ticket = *ticket;
        let (way, told, again) = (Arc::clone(self), Weak::clone(dispatcher), letter.clone());
        let sent = self.producer.try_send_with(
            &copy,
            Box::new(move |report| match report {
                Ok(_) => {
                    if let Some(dispatcher) = told.upgrade() {
                        dispatcher.dead_lettered(ticket);
                    }
                }
                Err(error) => way.refused(again, refusals, &error),
            }),
        );
        if let Err(error) = sent {
            self.refused(letter, refusals, &error);
        }
    }

    fn refused(&self, letter: Letter, refusals: u32, error: &Error) {
        if refusals == 0 {
            log::warn(format_args!(
                "the dead-letter topic {} refuses a record, which stays unfinished and is sent again: {error}",
                self.topic
            ));
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1_u32.checked_shl(refusals).unwrap_or(u32::MAX))
            .min(LONGEST_PAUSE);
        self.waiting.lock().push(Waiting {
            due: Instant::now() + pause,
            refusals: refusals + 1,
            letter,
        });
    }

    fn headers(&self, record: &Record<'_>, reason: &Reason) -> [(&'static str, String); 10] {
        let now_us = self.clock.now_us();
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall_ms = |at_us: u64| {
            let ago = Duration::from_micros(now_us.saturating_sub(at_us));
            since_1970.saturating_sub(ago).as_millis().to_string()
        };
        [
            ("tidegate.dlq.topic", record.topic().to_string()),
            ("tidegate.dlq.partition", record.partition().to_string()),
            ("tidegate.dlq.offset", record.offset().to_string()),
            (
                "tidegate.dlq.timestamp_ms",
                record
                    .timestamp_ms()
                    .map_or_else(String::new, |ms| ms.to_string()),
            ),
            ("tidegate.dlq.exception", reason.kind.clone()),
            ("tidegate.dlq.text", reason.text.clone()),
            ("tidegate.dlq.attempts", reason.attempts.to_string()),
            ("tidegate.dlq.first_ms", wall_ms(reason.first_us)),
            ("tidegate.dlq.last_ms", wall_ms(reason.failed_us)),
            ("tidegate.dlq.group", self.group.clone()),
        ]
    }
}
