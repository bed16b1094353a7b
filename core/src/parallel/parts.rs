//! What the state machine is made of: tickets, slots of records, shards and lanes.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;

use crate::batch::RecordBatch;
use crate::record::Record;
use crate::tracker::PartitionCell;

/// No slot, no shard.
pub(super) const NONE: u32 = u32::MAX;

/// A record that is with a handler; good for one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) slot: u32,
    pub(super) life: u32,
}

impl Ticket {
    /// As one number, for faces that have no type for it.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.life) << 32 | u64::from(self.slot)
    }

    /// The ticket of [`Ticket::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u64) -> Ticket {
        Ticket {
            slot: bits as u32,
            life: (bits >> 32) as u32,
        }
    }
}

/// A record to be handled.
#[derive(Debug, Clone)]
pub struct Work {
    /// To answer with.
    pub ticket: Ticket,
    /// The batch that it is a row of.
    pub batch: RecordBatch,
    /// Its row.
    pub row: usize,
    /// How often it was with a handler before.
    pub attempts: u32,
}

/// Records to be handled, with one handle of each batch that they are rows of. Kept and filled again by
/// [`Dispatcher::take_into`](crate::Dispatcher::take_into), so that handing over costs nothing per record.
#[derive(Debug, Default)]
pub struct Works {
    batches: Vec<(u32, RecordBatch)>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    ticket: Ticket,
    batch: u32,
    row: u32,
    attempts: u32,
}

impl Works {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Each ticket, and the record unless it is beyond its batch, which never is.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Ticket, Option<Record<'_>>)> + '_ {
        self.items.iter().map(|item| {
            let batch = &self.batches[item.batch as usize].1;
            (item.ticket, batch.get(item.row as usize))
        })
    }

    /// Each with a handle of its own.
    pub fn owned(&self) -> impl ExactSizeIterator<Item = Work> + '_ {
        self.items.iter().map(|item| Work {
            ticket: item.ticket,
            batch: self.batches[item.batch as usize].1.clone(),
            row: item.row as usize,
            attempts: item.attempts,
        })
    }

    /// One of them.
    pub(super) fn at(&self, index: usize) -> Option<(Ticket, Option<Record<'_>>)> {
        let item = self.items.get(index)?;
        let batch = &self.batches[item.batch as usize].1;
        Some((item.ticket, batch.get(item.row as usize)))
    }

    /// One of them, with a handle of its own.
    pub(super) fn owned_at(&self, index: usize) -> Option<Work> {
        let item = self.items.get(index)?;
        Some(Work {
            ticket: item.ticket,
            batch: self.batches[item.batch as usize].1.clone(),
            row: item.row as usize,
            attempts: item.attempts,
        })
    }

    /// The same as another, in the memory that is there.
    pub(super) fn copy_from(&mut self, other: &Works) {
        self.batches.clone_from(&other.batches);
        self.items.clone_from(&other.items);
    }

    /// Forgets them, and keeps the memory.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.items.clear();
    }

    /// `number` names the batch as long as this is not cleared.
    pub(super) fn push(
        &mut self,
        number: u32,
        batch: &RecordBatch,
        ticket: Ticket,
        row: usize,
        attempts: u32,
    ) {
        let known = self.batches.iter().rposition(|(other, _)| *other == number);
        let place = known.unwrap_or_else(|| {
            self.batches.push((number, batch.clone()));
            self.batches.len() - 1
        });
        self.items.push(Item {
            ticket,
            batch: place as u32,
            row: row as u32,
            attempts,
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Free,
    Queued,
    InFlight,
    RetryWait,
    /// On its way to the dead-letter topic.
    DeadLetter,
    /// Handled; its outputs and its offset wait for a transaction.
    Finished,
    /// No record any more: its handler has run over its time and has not returned. Its shard waits for that.
    Overdue,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) stage: Stage,
    /// How often this slot was used: an answer for an earlier record in it is recognised.
    pub(super) life: u32,
    pub(super) batch: u32,
    pub(super) row: u32,
    pub(super) shard: u32,
    pub(super) next: u32,
    pub(super) attempts: u32,
    /// What was paid for it from the budget.
    pub(super) paid: f32,
    /// When a handler got it, or, while it waits for a retry, when that is due.
    pub(super) begun_us: u64,
    /// When a handler got it for the first time.
    pub(super) first_us: u64,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) records: RecordBatch,
    /// Rows that are not settled.
    pub(super) left: u32,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) head: u32,
    pub(super) tail: u32,
    /// Its place in `by_key`.
    pub(super) key: u64,
    pub(super) lane: u32,
    /// One after the other; otherwise its records have no order.
    pub(super) ordered: bool,
    /// How many of its records are with handlers or wait for a retry in their place.
    pub(super) busy: u32,
    /// How many wait in its queue.
    pub(super) waiting: u32,
    /// In its lane's queue.
    pub(super) listed: bool,
    /// Not in `free_shards`.
    pub(super) alive: bool,
}

/// Rows of one batch and one partition that are in no shard.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) batch: u32,
    pub(super) rows: Range<u32>,
}

/// One partition: shards whose next record may be handed out, and rows that are in no shard.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) ready: VecDeque<u32>,
    /// In the rotation.
    pub(super) listed: bool,
    /// How many wait in the shards of `ready`.
    pub(super) waiting: u32,
    /// Nothing more of it is handed out: too much of it went to the dead-letter topic.
    pub(super) stopped: bool,
    /// Shards of which a record was given back: nothing more of them is handed out, as it would pass that record.
    pub(super) held: Vec<u32>,
    /// Its latest assignment.
    pub(super) cell: Arc<PartitionCell>,
    /// In order, and behind everything that is in its shards; only where stretches are handed out.
    pub(super) unsorted: VecDeque<Rows>,
    /// A stretch of it is with a handler, so that nothing unsorted may be handed out.
    pub(super) is_lent: bool,
    /// How many shards it has.
    pub(super) shards: u32,
    /// How many records of its shards were handed out since `since_us` and are with handlers.
    pub(super) recent: u32,
    pub(super) since_us: u64,
    /// Since when a stretch of it was refused because of those.
    pub(super) refused_us: Option<u64>,
}

/// A record that a handler has had for so long hangs, where handlers are quick.
const SETTLING_US: u64 = 5_000;

impl Lane {
    pub(super) fn new(cell: Arc<PartitionCell>) -> Lane {
        Lane {
            ready: VecDeque::new(),
            listed: false,
            waiting: 0,
            stopped: false,
            held: Vec::new(),
            cell,
            unsorted: VecDeque::new(),
            is_lent: false,
            shards: 0,
            recent: 0,
            since_us: 0,
            refused_us: None,
        }
    }

    /// A record of its shards is handed out.
    pub(super) fn note_handed_out(&mut self, now_us: u64) {
        if now_us >= self.since_us.saturating_add(SETTLING_US) {
            (self.recent, self.since_us) = (0, now_us);
        }
        self.recent += 1;
    }

    /// A record that was handed out at that time is not with its handler any more.
    pub(super) fn note_answered(&mut self, begun_us: u64) {
        if begun_us >= self.since_us {
            // Those that were handed out in a stretch were not counted: it is the others that matter, and about.
            self.recent = self.recent.saturating_sub(1);
        }
    }

    /// True when what handlers have of its shards is about to be done.
    pub(super) fn is_settling(&self, now_us: u64) -> bool {
        self.recent > 0 && now_us < self.since_us.saturating_add(SETTLING_US)
    }

    /// All that decides when stretches may be had.
    #[cfg(test)]
    pub(super) fn settling(&self, now_us: u64) -> Option<(u64, Option<u64>)> {
        let refused = self.refused_us.map(|us| now_us.saturating_sub(us));
        let is_settling = self.is_settling(now_us);
        is_settling.then(|| (now_us.saturating_sub(self.since_us), refused))
    }

    /// What grows with its records.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.ready.capacity() * size_of::<u32>() + self.unsorted.capacity() * size_of::<Rows>()
    }

    /// Rows that may be handed out, or go into shards.
    pub(super) fn has_unsorted(&self) -> bool {
        !self.is_lent && !self.unsorted.is_empty()
    }
}

/// Keys are hashes already.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The answer for a record that is with a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Handled.
    Done,
    /// To be handled again at that time; `park` lets its shard go on meanwhile.
    Retry { due_us: u64, park: bool },
    /// Failed for good: its copy goes to the dead-letter topic, and its shard goes on.
    DeadLetter,
    /// Handled: it waits for the transaction of its outputs, and its shard goes on.
    Finish,
    /// Neither done nor failed: it is given back and comes again with the next assignment, before what is in order behind it.
    Return,
}
