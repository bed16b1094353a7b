//! A topic that is sent to directly: a batch that grows per partition, and those that wait, are on their way, or have failed.
//!
//! Any thread appends; the lane of a partition's leader takes what is due; the delivery thread takes back everything when the topic
//! returns to librdkafka. Always true: an accepted record is in exactly one batch, and that is in the partition's hands, in a lane's
//! (counted as in flight), or done; within a partition batches leave in the order of their numbers.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::Settings;
use super::account::Account;
use super::choice::Choice;
use super::lane::Lane;
use super::records::{Batch, HEADER_BYTES, New};
use crate::sink::{ProducerRecord, Token};

/// librdkafka still has records of the topic: what is appended waits for their reports.
const WAITING: u8 = 0;
const SENDING: u8 = 1;
/// On its way back to librdkafka.
const RETURNING: u8 = 2;

/// Rows of one call to [`Book::append_rows`], at most.
const MOST_ROWS: usize = 64;

/// What became of a record that was to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    Yes,
    /// There is no room.
    Full,
    /// It is librdkafka's to take, or to refuse.
    NotHere,
}

/// When something is sent, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(super) us: u64,
    pub(super) timestamp_ms: i64,
}

/// A record to append; its partition is chosen.
pub(crate) struct Row<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) partition: Option<i32>,
    pub(crate) token: Token,
}

#[derive(Default)]
struct Inner {
    open: Batch,
    ready: VecDeque<Batch>,
    /// They could not be delivered from here.
    failed: Vec<Batch>,
    in_flight: usize,
    last_number: u64,
}

struct Part {
    lane: Arc<Lane>,
    leader_epoch: i32,
    inner: Mutex<Inner>,
}

/// See the module.
pub(crate) struct Book {
    name: Box<str>,
    state: AtomicU8,
    parts: Box<[Part]>,
    choice: Choice,
    settings: Arc<Settings>,
    account: Arc<Account>,
}

impl Book {
    /// `leaders` are the lanes of the partitions' leaders and the leaders' epochs, in the partitions' order. `None` without partitions.
    pub(super) fn new(
        name: &str,
        leaders: Vec<(Arc<Lane>, i32)>,
        settings: &Arc<Settings>,
        account: &Arc<Account>,
        seed: u64,
    ) -> Option<Book> {
        let partitions = NonZeroU32::new(u32::try_from(leaders.len()).ok()?)?;
        let part = |(lane, leader_epoch)| Part {
            lane,
            leader_epoch,
            inner: Mutex::default(),
        };
        Some(Book {
            name: name.into(),
            state: AtomicU8::new(WAITING),
            parts: leaders.into_iter().map(part).collect(),
            choice: Choice::new(settings.partitioner, partitions, settings.sticky_us, seed),
            settings: Arc::clone(settings),
            account: Arc::clone(account),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn partitions(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn leader_epoch(&self, index: usize) -> i32 {
        self.parts[index].leader_epoch
    }

    pub(super) fn lane(&self, index: usize) -> &Arc<Lane> {
        &self.parts[index].lane
    }

    /// Librdkafka has reported everything it had.
    pub(super) fn start(&self) {
        let _ = self
            .state
            .compare_exchange(WAITING, SENDING, Ordering::SeqCst, Ordering::SeqCst);
        for part in &self.parts {
            part.lane.poke(0);
        }
    }

    /// Nothing more is sent from here.
    pub(super) fn go_back(&self) {
        self.state.store(RETURNING, Ordering::SeqCst);
        self.account.tell();
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::SeqCst) == WAITING
    }

    pub(super) fn is_sending(&self) -> bool {
        self.state.load(Ordering::SeqCst) == SENDING
    }

    pub(super) fn is_returning(&self) -> bool {
        self.state.load(Ordering::SeqCst) == RETURNING
    }

    fn index(&self, partition: Option<i32>, key: Option<&[u8]>, now: Now) -> Option<usize> {
        match partition {
            Some(partition) => usize::try_from(partition)
                .ok()
                .filter(|index| *index < self.parts.len()),
            None => Some(self.choice.partition(key, now.us) as usize),
        }
    }

    /// Puts a record into its partition's batch. `elsewhere` records of this producer wait in librdkafka.
    pub(crate) fn append(
        &self,
        record: &ProducerRecord<'_>,
        token: Token,
        now: Now,
        elsewhere: usize,
    ) -> Appended {
        let new = New {
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp_ms: match record.timestamp_ms {
                // The time of the call, as librdkafka reads it.
                None | Some(0) => now.timestamp_ms,
                Some(timestamp_ms) => timestamp_ms,
            },
            token,
        };
        if new.most_bytes() > self.settings.record_bytes {
            return Appended::NotHere;
        }
        let Some(index) = self.index(record.partition, record.key, now) else {
            return Appended::NotHere;
        };
        if self.account.room(elsewhere) == 0 {
            return Appended::Full;
        }
        self.account.add(1, new.payload_bytes());
        let part = &self.parts[index];
        let calls = {
            let mut inner = part.inner.lock();
            self.push(&mut inner, &new, now)
        };
        self.call(part, calls, now);
        Appended::Yes
    }

    /// As [`Book::append`] for rows in order, at most [`MOST_ROWS`]; how many were taken. The one behind them was not, for this reason.
    pub(crate) fn append_rows<'r>(
        &self,
        rows: impl ExactSizeIterator<Item = Row<'r>>,
        now: Now,
        elsewhere: usize,
    ) -> (usize, Appended) {
        let wanted = rows.len().min(MOST_ROWS);
        let most = self.account.room(elsewhere).min(wanted);
        let mut stopped = if most < wanted {
            Appended::Full
        } else {
            Appended::Yes
        };
        let mut taken: [(u32, u8); MOST_ROWS] = [(0, 0); MOST_ROWS];
        let mut news: [Option<New<'r>>; MOST_ROWS] = [const { None }; MOST_ROWS];
        let (mut count, mut bytes) = (0, 0);
        for row in rows.take(most) {
            let new = New {
                key: row.key,
                value: row.value,
                headers: &[],
                timestamp_ms: now.timestamp_ms,
                token: row.token,
            };
            let index = self.index(row.partition, row.key, now);
            let (Some(index), true) = (index, new.most_bytes() <= self.settings.record_bytes)
            else {
                stopped = Appended::NotHere;
                break;
            };
            bytes += new.payload_bytes();
            taken[count] = (index as u32, count as u8);
            news[count] = Some(new);
            count += 1;
        }
        self.account.add(count, bytes);
        // One lock for the rows of a partition. They stay in order: their numbers are part of what is sorted.
        let taken = &mut taken[..count];
        taken.sort_unstable();
        for rows in taken.chunk_by(|(a, _), (b, _)| a == b) {
            let part = &self.parts[rows[0].0 as usize];
            let mut calls = Calls::default();
            {
                let mut inner = part.inner.lock();
                for (_, row) in rows {
                    if let Some(new) = &news[*row as usize] {
                        calls.join(self.push(&mut inner, new, now));
                    }
                }
            }
            self.call(part, calls, now);
        }
        (count, stopped)
    }

    fn push(&self, inner: &mut Inner, new: &New<'_>, now: Now) -> Calls {
        let mut calls = Calls::default();
        let settings = &self.settings;
        let would_be = inner.open.bytes.len() + new.most_bytes();
        let is_full = would_be > settings.batch_bytes.max(HEADER_BYTES)
            || inner.open.count >= settings.batch_records;
        if !inner.open.is_empty() && is_full {
            let full = self.replace(inner);
            inner.ready.push_back(full);
            calls.is_full = true;
        }
        calls.is_first = inner.open.is_empty();
        inner.open.push(new, now.us);
        calls
    }

    /// The batch that has grown so far; a new one takes its place.
    fn replace(&self, inner: &mut Inner) -> Batch {
        inner.last_number += 1;
        let new = Batch::begin(self.account.buffer(), inner.last_number);
        std::mem::replace(&mut inner.open, new)
    }

    fn call(&self, part: &Part, calls: Calls, now: Now) {
        if calls.is_full {
            part.lane.poke(0);
        } else if calls.is_first && !(self.settings.linger_us == 0 && part.lane.send_at_once()) {
            part.lane.poke(now.us + self.settings.linger_us);
        }
    }

    /// What is to be sent of a partition, which is in flight from then on; or when something will be.
    pub(super) fn take_due(&self, index: usize, now_us: u64, hurry: bool) -> Result<Batch, u64> {
        const NEVER: u64 = u64::MAX;
        let mut inner = self.parts[index].inner.lock();
        // Under the lock: once the topic is on its way back, nothing is taken any more.
        if self.state.load(Ordering::SeqCst) != SENDING {
            return Err(NEVER);
        }
        let batch = match inner.ready.pop_front() {
            Some(batch) => batch,
            None if inner.open.is_empty() => return Err(NEVER),
            None => {
                let due_us = inner.open.began_us + self.settings.linger_us;
                if !hurry && now_us < due_us {
                    return Err(due_us);
                }
                self.replace(&mut inner)
            }
        };
        inner.in_flight += 1;
        Ok(batch)
    }

    /// A batch in flight is done.
    pub(super) fn answered(&self, index: usize) {
        let mut inner = self.parts[index].inner.lock();
        inner.in_flight = inner.in_flight.saturating_sub(1);
    }

    /// A batch in flight, or one that should have been, is not delivered, or nobody knows.
    pub(super) fn failed(&self, index: usize, batch: Batch) {
        let mut inner = self.parts[index].inner.lock();
        inner.in_flight = inner.in_flight.saturating_sub(1);
        inner.failed.push(batch);
    }

    /// True when no lane holds any batch.
    pub(super) fn is_quiet(&self) -> bool {
        self.parts
            .iter()
            .all(|part| part.inner.lock().in_flight == 0)
    }

    /// The first batch of a partition that is still here. For the way back, and for giving up.
    pub(super) fn take_back(&self, index: usize) -> Option<Batch> {
        let mut inner = self.parts[index].inner.lock();
        inner.failed.sort_unstable_by_key(|batch| batch.number);
        if !inner.failed.is_empty() {
            return Some(inner.failed.remove(0));
        }
        match inner.ready.pop_front() {
            Some(batch) => Some(batch),
            None if inner.open.is_empty() => None,
            None => Some(self.replace(&mut inner)),
        }
    }

    /// True when nothing is here; nobody may append meanwhile.
    pub(super) fn is_empty(&self) -> bool {
        let is_empty = |inner: MutexGuard<'_, Inner>| {
            inner.in_flight == 0
                && inner.failed.is_empty()
                && inner.ready.is_empty()
                && inner.open.is_empty()
        };
        self.parts.iter().all(|part| is_empty(part.inner.lock()))
    }
}

/// What a lane has to know of what was appended.
#[derive(Debug, Default, Clone, Copy)]
struct Calls {
    is_first: bool,
    is_full: bool,
}

impl Calls {
    fn join(&mut self, other: Calls) {
        self.is_first |= other.is_first;
        self.is_full |= other.is_full;
    }
}
