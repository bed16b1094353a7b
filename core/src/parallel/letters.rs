//! The way to the dead-letter topic: a record is finished only when the broker has confirmed its copy, and a copy that is refused is
//! sent again for as long as the process has its partition.
//!
//! Copies of what is in order go one after the other, the next one when the one before is confirmed, so that they are in order, too,
//! when some of them are refused. [`Letters::take_in`] is called under the dispatcher's lock, where their order is known; nothing else is,
//! and no lock of this module is held while something is sent or told.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::Error;
use crate::log;
use crate::parallel::Order;
use crate::parallel::dispatcher::Dispatcher;
use crate::parallel::engine::{Letter, Reason};
use crate::parallel::outputs::Output;
use crate::producer::{Producer, ProducerRecord};
use crate::record::Record;

/// The pause before a copy that was refused is sent again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What stays in order: a partition, or a key of it.
type Group = (Arc<str>, i32, Option<Vec<u8>>);

/// One dead-letter topic.
pub(crate) struct Letters {
    producer: Producer,
    topic: String,
    group: String,
    /// What the times of failures are on.
    clock: Arc<dyn Clock>,
    order: Order,
    copies: Mutex<Copies>,
    /// The log has said so, and nothing was confirmed since.
    is_refusing: AtomicBool,
}

/// Copies that are not on their way.
#[derive(Default)]
struct Copies {
    /// To be sent now.
    ready: VecDeque<Waiting>,
    /// Refused, and not sent again before their time.
    refused: Vec<Waiting>,
    /// By what stays in order, what comes after the copy that is ready, on its way or refused.
    behind: HashMap<Group, VecDeque<Letter>>,
}

/// A copy that waits to be sent.
struct Waiting {
    due: Instant,
    refusals: u32,
    letter: Letter,
}

impl Waiting {
    fn now(letter: Letter) -> Waiting {
        Waiting {
            due: Instant::now(),
            refusals: 0,
            letter,
        }
    }
}

impl Letters {
    pub(crate) fn new(
        producer: Producer,
        topic: String,
        group: String,
        clock: Arc<dyn Clock>,
        order: Order,
    ) -> Letters {
        Letters {
            producer,
            topic,
            group,
            clock,
            order,
            copies: Mutex::default(),
            is_refusing: AtomicBool::new(false),
        }
    }

    /// What the record of a copy is in order with.
    fn group_of(&self, letter: &Letter) -> Option<Group> {
        let record = letter.1.batch.get(letter.1.row)?;
        let key = match self.order {
            Order::None => return None,
            Order::Partition => None,
            Order::Key => Some(record.key()?.to_vec()),
        };
        Some((Arc::clone(record.topic_shared()), record.partition(), key))
    }

    /// Takes copies to be sent, in the order of their records; [`Letters::pump`] sends them.
    pub(crate) fn take_in(&self, letters: impl IntoIterator<Item = Letter>) {
        let mut copies = self.copies.lock();
        for letter in letters {
            let group = self.group_of(&letter);
            match group
                .as_ref()
                .and_then(|group| copies.behind.get_mut(group))
            {
                Some(behind) => behind.push_back(letter),
                None => {
                    copies.ready.push_back(Waiting::now(letter));
                    if let Some(group) = group {
                        copies.behind.insert(group, VecDeque::new());
                    }
                }
            }
        }
    }

    /// Sends what is ready, and again what was refused and has waited long enough. Never waits.
    pub(crate) fn pump(self: &Arc<Self>, dispatcher: &Weak<Dispatcher>) {
        let now = Instant::now();
        {
            let mut copies = self.copies.lock();
            let Copies { ready, refused, .. } = &mut *copies;
            // What is gone makes room at once for what came after it.
            let is_gone = |copy: &Waiting| copy.letter.1.batch.is_gone(copy.letter.1.row);
            ready.extend(refused.extract_if(.., |copy| copy.due <= now || is_gone(copy)));
        }
        loop {
            // Not in the loop's head, where it would be held.
            let next = self.copies.lock().ready.pop_front();
            let Some(copy) = next else {
                return;
            };
            match copy.letter.1.batch.is_gone(copy.letter.1.row) {
                // Whoever has the partition now handles the record again, and makes its copy.
                true => self.settled(dispatcher, &copy.letter),
                false => self.try_send(dispatcher, copy.letter, copy.refusals),
            }
        }
    }

    /// A copy is confirmed, or not wanted any more: the record is settled, and the next one in order is ready.
    fn settled(&self, dispatcher: &Weak<Dispatcher>, letter: &Letter) {
        if let Some(group) = self.group_of(letter) {
            let mut copies = self.copies.lock();
            match copies.behind.get_mut(&group).map(VecDeque::pop_front) {
                Some(Some(next)) => copies.ready.push_back(Waiting::now(next)),
                _ => drop(copies.behind.remove(&group)),
            }
        }
        if let Some(dispatcher) = dispatcher.upgrade() {
            dispatcher.dead_lettered(letter.0);
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
        let (_, work, reason) = &letter;
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
        let (way, told, again) = (Arc::clone(self), Weak::clone(dispatcher), letter.clone());
        let sent = self.producer.try_send_with(
            &copy,
            Box::new(move |report| match report {
                Ok(_) => {
                    way.is_refusing.store(false, Ordering::Relaxed);
                    way.settled(&told, &again);
                    way.pump(&told);
                }
                Err(error) => way.refused(again, refusals, &error),
            }),
        );
        if let Err(error) = sent {
            self.refused(letter, refusals, &error);
        }
    }

    /// How often the copies that wait to be sent again were refused.
    #[cfg(test)]
    pub(super) fn refusals(&self) -> u64 {
        let copies = self.copies.lock();
        let waiting = copies.refused.iter().chain(&copies.ready);
        waiting.map(|copy| u64::from(copy.refusals)).sum()
    }

    fn refused(&self, letter: Letter, refusals: u32, error: &Error) {
        if !self.is_refusing.swap(true, Ordering::Relaxed) {
            log::warn(format_args!(
                "the dead-letter topic {} refuses records, which stay unfinished and are sent again: {error}",
                self.topic
            ));
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1_u32.checked_shl(refusals).unwrap_or(u32::MAX))
            .min(LONGEST_PAUSE);
        self.copies.lock().refused.push(Waiting {
            due: Instant::now() + pause,
            refusals: refusals.saturating_add(1),
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
