//! Where every record stands between being received and being finished: the one owner of all of these states.
//!
//! A state machine without threads, waiting or a clock of its own, so that tests drive it with virtual time. Records come in as
//! leased batches and are only numbers here: a slot per record, linked into the queue of its shard. A shard is what is handled one
//! after the other: a key of a partition, a partition, or nothing at all.
//!
//! Always true:
//! - of a shard that has an order at most one record is with a handler, also while an older assignment's handler still runs;
//! - a record is acknowledged once, when it is done or its copy is in the dead-letter topic, and never otherwise;
//! - [`Ledger::missing`] is 0: nothing that was received is in no state.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::ops::Range;
use std::sync::Arc;

use crate::batch::RecordBatch;
use crate::offset_map::OffsetMap;
use crate::parallel::Order;
use crate::parallel::ledger::Ledger;
pub(crate) use crate::parallel::parts::Answer;
use crate::parallel::parts::{Hashed, Held, Lane, NONE, Shard, Slot, Stage};
pub use crate::parallel::parts::{Ticket, Work};
use crate::partition::TopicPartition;
use crate::tracker::PartitionCell;

/// The state machine.
#[derive(Debug)]
pub(crate) struct State {
    order: Order,
    max_in_flight: usize,
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    batches: Vec<Option<Held>>,
    free_batches: Vec<u32>,
    shards: Vec<Shard>,
    free_shards: Vec<u32>,
    by_key: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    hasher: RandomState,
    lanes: Vec<Lane>,
    lane_of: HashMap<TopicPartition, u32>,
    rotation: VecDeque<u32>,
    timers: BinaryHeap<Reverse<(u64, u32, u32)>>,
    ledger: Ledger,
    bytes: usize,
}

impl State {
    pub(crate) fn new(order: Order, max_in_flight: usize) -> State {
        State {
            order,
            max_in_flight,
            slots: Vec::new(),
            free_slots: Vec::new(),
            batches: Vec::new(),
            free_batches: Vec::new(),
            shards: Vec::new(),
            free_shards: Vec::new(),
            by_key: HashMap::default(),
            hasher: RandomState::new(),
            lanes: Vec::new(),
            lane_of: HashMap::new(),
            rotation: VecDeque::new(),
            timers: BinaryHeap::new(),
            ledger: Ledger::default(),
            bytes: 0,
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// Memory of the batches that have unsettled rows.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// When the next retry is due.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((due_us, _, _))| *due_us)
    }

    /// Takes in a leased batch.
    pub(crate) fn offer(&mut self, records: RecordBatch) {
        let count = records.len();
        if count == 0 {
            return;
        }
        self.ledger.received += count as u64;
        self.ledger.queued += count as u64;
        self.bytes += records.size_bytes();
        let batch = self.add_batch(records.clone(), count as u32);
        let mut first = 0;
        for (run, rows) in records.run_parts() {
            let lane = self.lane(&run.cell);
            let rows = first..first + rows.len();
            first = rows.end;
            let offsets = &records.offsets()[rows.clone()];
            let done = run.cell.rows_done_before(offsets, run.leader_epoch);
            let mut from = rows.start;
            for done in done
                .into_iter()
                .map(|done| done.start + rows.start..done.end + rows.start)
            {
                self.append_all(lane, batch, &records, from..done.start);
                from = done.end;
                self.skip(batch, &records, done);
            }
            self.append_all(lane, batch, &records, from..rows.end);
        }
    }

    fn append_all(&mut self, lane: u32, batch: u32, records: &RecordBatch, rows: Range<usize>) {
        for row in rows {
            let shard = self.shard_for(lane, records, row);
            self.append(shard, batch, row as u32);
        }
    }

    /// Rows that were done before this assignment.
    fn skip(&mut self, batch: u32, records: &RecordBatch, rows: Range<usize>) {
        let count = rows.len() as u64;
        self.ledger.queued -= count;
        match records.acknowledge_rows(rows) {
            Ok(()) => self.ledger.skipped += count,
            Err(_) => self.ledger.stale += count,
        }
        self.let_go(batch, count as u32);
    }

    fn add_batch(&mut self, records: RecordBatch, left: u32) -> u32 {
        let held = Some(Held { records, left });
        match self.free_batches.pop() {
            Some(index) => {
                self.batches[index as usize] = held;
                index
            }
            None => {
                self.batches.push(held);
                self.batches.len() as u32 - 1
            }
        }
    }

    fn lane(&mut self, cell: &Arc<PartitionCell>) -> u32 {
        let partition = cell.topic_partition();
        if let Some(&lane) = self.lane_of.get(partition) {
            let known = &mut self.lanes[lane as usize].cell;
            if !Arc::ptr_eq(known, cell) {
                *known = Arc::clone(cell);
            }
            return lane;
        }
        let lane = self.lanes.len() as u32;
        self.lane_of.insert(partition.clone(), lane);
        self.lanes.push(Lane {
            ready: VecDeque::new(),
            listed: false,
            cell: Arc::clone(cell),
        });
        lane
    }

    fn shard_for(&mut self, lane: u32, records: &RecordBatch, row: usize) -> u32 {
        let key = match self.order {
            Order::Key => records.key(row),
            Order::Partition | Order::None => None,
        };
        // A record without a key has no order among others, as everywhere in Kafka.
        let ordered = key.is_some() || self.order == Order::Partition;
        let hash = self.hasher.hash_one((lane, key));
        if let Some(&shard) = self.by_key.get(&hash) {
            return shard;
        }
        let made = Shard {
            head: NONE,
            tail: NONE,
            key: hash,
            lane,
            ordered,
            busy: 0,
            listed: false,
            alive: true,
        };
        let shard = self.add_shard(made);
        self.by_key.insert(hash, shard);
        shard
    }

    fn add_shard(&mut self, made: Shard) -> u32 {
        match self.free_shards.pop() {
            Some(index) => {
                self.shards[index as usize] = made;
                index
            }
            None => {
                self.shards.push(made);
                self.shards.len() as u32 - 1
            }
        }
    }

    fn append(&mut self, shard: u32, batch: u32, row: u32) {
        let slot = match self.free_slots.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot {
                    stage: Stage::Free,
                    life: 0,
                    batch: NONE,
                    row: 0,
                    shard: NONE,
                    next: NONE,
                    attempts: 0,
                });
                self.slots.len() as u32 - 1
            }
        };
        let entry = &mut self.slots[slot as usize];
        entry.stage = Stage::Queued;
        entry.batch = batch;
        entry.row = row;
        entry.shard = shard;
        entry.next = NONE;
        entry.attempts = 0;
        let queue = &mut self.shards[shard as usize];
        let tail = std::mem::replace(&mut queue.tail, slot);
        if tail == NONE {
            queue.head = slot;
        } else {
            self.slots[tail as usize].next = slot;
        }
        self.list(shard);
    }

    /// Puts a shard that has something to hand out into its lane, and the lane into the rotation.
    fn list(&mut self, shard: u32) {
        let queue = &mut self.shards[shard as usize];
        if queue.listed || queue.head == NONE || (queue.ordered && queue.busy > 0) {
            return;
        }
        queue.listed = true;
        let number = queue.lane;
        let lane = &mut self.lanes[number as usize];
        lane.ready.push_back(shard);
        if !lane.listed {
            lane.listed = true;
            self.rotation.push_back(number);
        }
    }

    /// Hands out up to `most` records that may be handled now, one partition after the other and in it one key after the other.
    pub(crate) fn take(&mut self, most: usize, now_us: u64, work: &mut Vec<Work>) {
        self.wake_retries(now_us);
        let room = self
            .max_in_flight
            .saturating_sub(self.ledger.in_flight as usize)
            .min(most);
        let until = work.len() + room;
        // A partition that is paused goes round; when all of them have, there is nothing more.
        let mut paused_in_a_row = 0;
        while work.len() < until && paused_in_a_row < self.rotation.len() {
            let Some(number) = self.rotation.pop_front() else {
                break;
            };
            let lane = &mut self.lanes[number as usize];
            if lane.cell.is_paused() && lane.cell.is_live() {
                self.rotation.push_back(number);
                paused_in_a_row += 1;
                continue;
            }
            paused_in_a_row = 0;
            let shard = lane.ready.pop_front();
            if lane.ready.is_empty() {
                lane.listed = false;
            } else {
                self.rotation.push_back(number);
            }
            if let Some(shard) = shard {
                self.shards[shard as usize].listed = false;
                self.take_from(shard, work);
            }
        }
    }

    /// The first record of a shard that is not stale.
    fn take_from(&mut self, shard: u32, work: &mut Vec<Work>) {
        while let Some(slot) = self.pop(shard) {
            let entry = &self.slots[slot as usize];
            let (row, attempts, life) = (entry.row as usize, entry.attempts, entry.life);
            let Some(held) = &self.batches[entry.batch as usize] else {
                continue;
            };
            self.ledger.queued -= 1;
            if held.records.is_stale(row) {
                self.give_back(slot);
                self.ledger.stale += 1;
                continue;
            }
            work.push(Work {
                ticket: Ticket { slot, life },
                batch: held.records.clone(),
                row,
                attempts,
            });
            self.slots[slot as usize].stage = Stage::InFlight;
            self.ledger.in_flight += 1;
            self.shards[shard as usize].busy += 1;
            break;
        }
        self.list(shard);
        self.drop_if_empty(shard);
    }

    fn pop(&mut self, shard: u32) -> Option<u32> {
        let queue = &mut self.shards[shard as usize];
        let slot = queue.head;
        if slot == NONE {
            return None;
        }
        queue.head = self.slots[slot as usize].next;
        if queue.head == NONE {
            queue.tail = NONE;
        }
        Some(slot)
    }

    /// Forgets a shard that has nothing left, so that memory follows the records and not the keys ever seen.
    fn drop_if_empty(&mut self, shard: u32) {
        let queue = &mut self.shards[shard as usize];
        if !queue.alive || queue.head != NONE || queue.busy > 0 || queue.listed {
            return;
        }
        queue.alive = false;
        let key = queue.key;
        if self.by_key.get(&key) == Some(&shard) {
            self.by_key.remove(&key);
        }
        self.free_shards.push(shard);
    }

    /// Puts retries whose time has come at the head of their shards.
    fn wake_retries(&mut self, now_us: u64) {
        while let Some(&Reverse((due_us, slot, life))) = self.timers.peek() {
            if due_us > now_us {
                break;
            }
            self.timers.pop();
            let entry = &mut self.slots[slot as usize];
            if entry.life != life || entry.stage != Stage::RetryWait {
                continue;
            }
            entry.stage = Stage::Queued;
            self.ledger.retry_wait -= 1;
            self.ledger.queued += 1;
            let shard = entry.shard;
            let queue = &mut self.shards[shard as usize];
            entry.next = std::mem::replace(&mut queue.head, slot);
            if queue.tail == NONE {
                queue.tail = slot;
            }
            queue.busy -= 1;
            self.list(shard);
        }
    }

    /// How often the record was with a handler before this time.
    pub(crate) fn attempts(&mut self, ticket: Ticket) -> Option<u32> {
        self.entry(ticket, Stage::InFlight)
            .map(|entry| entry.attempts)
    }

    /// The record that a ticket stands for, while a handler has it.
    pub(crate) fn work(&mut self, ticket: Ticket) -> Option<Work> {
        let entry = self.entry(ticket, Stage::InFlight)?;
        let (batch, row, attempts) = (entry.batch, entry.row as usize, entry.attempts);
        let held = self.batches[batch as usize].as_ref()?;
        Some(Work {
            ticket,
            batch: held.records.clone(),
            row,
            attempts,
        })
    }

    /// Answers for a record that is with a handler; false for a ticket that was answered before.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer) -> bool {
        let Some(entry) = self.entry(ticket, Stage::InFlight) else {
            return false;
        };
        let (slot, shard) = (ticket.slot, entry.shard);
        match answer {
            Answer::Done => {
                self.ledger.in_flight -= 1;
                self.finish(slot, |ledger| &mut ledger.done);
            }
            Answer::Return => {
                self.ledger.in_flight -= 1;
                self.give_back(slot);
                self.ledger.returned += 1;
            }
            Answer::DeadLetter => {
                entry.stage = Stage::DeadLetter;
                entry.attempts += 1;
                self.ledger.in_flight -= 1;
                self.ledger.dead_letters_pending += 1;
            }
            Answer::Retry { due_us, park } => {
                entry.stage = Stage::RetryWait;
                entry.attempts += 1;
                let life = entry.life;
                self.ledger.in_flight -= 1;
                self.ledger.retry_wait += 1;
                self.timers.push(Reverse((due_us, slot, life)));
                if !park {
                    // Its shard waits with it.
                    return true;
                }
                self.park(slot);
            }
        }
        self.shards[shard as usize].busy -= 1;
        self.list(shard);
        self.drop_if_empty(shard);
        true
    }

    /// Gives a record a shard of its own, so that others of its key need not wait.
    fn park(&mut self, slot: u32) {
        let lane = self.shards[self.slots[slot as usize].shard as usize].lane;
        let made = Shard {
            head: NONE,
            tail: NONE,
            // No key leads here.
            key: 0,
            lane,
            ordered: true,
            busy: 1,
            listed: false,
            alive: true,
        };
        let shard = self.add_shard(made);
        self.slots[slot as usize].shard = shard;
    }

    /// The dead-letter topic has confirmed the copy of a record.
    pub(crate) fn dead_lettered(&mut self, ticket: Ticket) -> bool {
        if self.entry(ticket, Stage::DeadLetter).is_none() {
            return false;
        }
        self.ledger.dead_letters_pending -= 1;
        self.finish(ticket.slot, |ledger| &mut ledger.dead_lettered);
        true
    }

    fn entry(&mut self, ticket: Ticket, stage: Stage) -> Option<&mut Slot> {
        self.slots
            .get_mut(ticket.slot as usize)
            .filter(|entry| entry.life == ticket.life && entry.stage == stage)
    }

    /// Acknowledges a record and counts it, as stale when its partition was taken away meanwhile.
    fn finish(&mut self, slot: u32, counter: impl Fn(&mut Ledger) -> &mut u64) {
        let entry = &self.slots[slot as usize];
        let row = entry.row as usize;
        if let Some(held) = &self.batches[entry.batch as usize] {
            match held.records.acknowledge_rows(row..row + 1) {
                Ok(()) => *counter(&mut self.ledger) += 1,
                Err(_) => self.ledger.stale += 1,
            }
        }
        self.free(slot);
    }

    /// Gives a record back unfinished.
    fn give_back(&mut self, slot: u32) {
        let entry = &self.slots[slot as usize];
        let row = entry.row as usize;
        if let Some(held) = &self.batches[entry.batch as usize] {
            // The row is of this batch: it cannot be refused.
            let _ = held.records.release_rows(row..row + 1);
        }
        self.free(slot);
    }

    fn free(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        entry.stage = Stage::Free;
        entry.life = entry.life.wrapping_add(1);
        let batch = entry.batch;
        self.free_slots.push(slot);
        self.let_go(batch, 1);
    }

    /// So many rows of a batch are settled.
    fn let_go(&mut self, batch: u32, rows: u32) {
        if let Some(held) = &mut self.batches[batch as usize] {
            held.left -= rows;
            if held.left == 0 {
                self.bytes -= held.records.size_bytes();
                self.batches[batch as usize] = None;
                self.free_batches.push(batch);
            }
        }
    }

    /// True when the map of what is done of a partition takes up most of `limit_bytes`, so that fewer records should be begun.
    pub(crate) fn is_map_pressing(&self, limit_bytes: usize) -> bool {
        let slow_bytes = limit_bytes * 3 / 4;
        // So few pieces take less, however far apart they are (below a thousand million offsets).
        let few = slow_bytes * 3 / 4 / 10;
        self.lanes.iter().any(|lane| {
            if limit_bytes == 0 || lane.cell.pieces_ahead() < few || !lane.cell.is_live() {
                return false;
            }
            let snapshot = lane.cell.snapshot();
            let map = OffsetMap::from_done(snapshot.finished, None, snapshot.done);
            map.encoded_bytes() >= slow_bytes
        })
    }

    /// Gives back what waits and whose partition was taken away, so that a revoke need not wait for it.
    pub(crate) fn drop_stale(&mut self) {
        if self
            .lanes
            .iter()
            .any(|lane| !lane.cell.is_live() && lane.cell.has_in_hand())
        {
            self.drop_waiting(
                |records, row| records.is_stale(row),
                |ledger| &mut ledger.stale,
            );
        }
    }

    /// Gives back everything that waits.
    pub(crate) fn drop_all_waiting(&mut self) {
        self.drop_waiting(|_, _| true, |ledger| &mut ledger.returned);
    }

    fn drop_waiting(
        &mut self,
        wanted: impl Fn(&RecordBatch, usize) -> bool,
        counter: impl Fn(&mut Ledger) -> &mut u64,
    ) {
        for slot in 0..self.slots.len() as u32 {
            let entry = &self.slots[slot as usize];
            let waits = matches!(entry.stage, Stage::Queued | Stage::RetryWait);
            let held = self
                .batches
                .get(entry.batch as usize)
                .and_then(Option::as_ref);
            if !waits || !held.is_some_and(|held| wanted(&held.records, entry.row as usize)) {
                continue;
            }
            match entry.stage {
                Stage::RetryWait => {
                    self.ledger.retry_wait -= 1;
                    self.shards[entry.shard as usize].busy -= 1;
                }
                _ => self.ledger.queued -= 1,
            }
            *counter(&mut self.ledger) += 1;
            self.give_back(slot);
        }
        self.relink();
    }

    /// Takes the slots that were given back out of the shards' queues.
    fn relink(&mut self) {
        for shard in 0..self.shards.len() {
            let mut from = self.shards[shard].head;
            let (mut head, mut tail) = (NONE, NONE);
            while from != NONE {
                let next = self.slots[from as usize].next;
                let entry = &self.slots[from as usize];
                if entry.stage == Stage::Queued && entry.shard as usize == shard {
                    if tail == NONE {
                        head = from;
                    } else {
                        self.slots[tail as usize].next = from;
                    }
                    tail = from;
                    self.slots[from as usize].next = NONE;
                }
                from = next;
            }
            let queue = &mut self.shards[shard];
            (queue.head, queue.tail) = (head, tail);
            self.list(shard as u32);
            self.drop_if_empty(shard as u32);
        }
    }

    /// How many records, shards and batches take memory now.
    #[cfg(test)]
    pub(crate) fn occupied(&self) -> (usize, usize, usize) {
        (
            self.slots.len() - self.free_slots.len(),
            self.shards.len() - self.free_shards.len(),
            self.batches.iter().flatten().count(),
        )
    }
}
