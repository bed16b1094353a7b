//! Where every record stands between being received and being finished: the one owner of all of these states.
//!
//! A state machine without threads, waiting or a clock of its own, so that tests drive it with virtual time. Records come in as
//! leased batches and are only numbers here: a slot per record, linked into the queue of its shard. A shard is what is handled one
//! after the other: a key of a partition, a partition, or nothing at all. For very quick handlers they are less, ranges of rows
//! ([`unsorted`]), until something else becomes of one than to be done.
//!
//! Always true:
//! - of a shard that has an order at most one record is with a handler, also while an older assignment's handler still runs;
//! - a record is acknowledged once, when it is done or its copy is in the dead-letter topic, and never otherwise;
//! - [`Ledger::missing`] is 0: nothing that was received is in no state.

mod answer;
mod hand;
mod unsorted;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::ops::Range;
use std::sync::Arc;

use crate::batch::RecordBatch;
use crate::parallel::Order;
use crate::parallel::ledger::Ledger;
use crate::parallel::pace::{Budget, Throttle};
use crate::parallel::parts::{Hashed, Held, Lane, NONE, Shard, Slot, Stage};
use crate::partition::TopicPartition;
use crate::tracker::{CellState, PartitionCell};

/// How fast records are handed out, and for how long.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// What a handler may take for one attempt.
    pub(crate) attempt_us: Option<u64>,
    /// Records at once follow how handlers do, from so many on.
    pub(crate) least_in_flight: Option<usize>,
    /// Records, or what they cost, per second.
    pub(crate) per_second: Option<f64>,
}

/// How many records, and of what, are handed out together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    pub(crate) records: usize,
    /// Fewer only when one of them has waited for so long.
    pub(crate) wait_us: u64,
    /// All of one partition.
    pub(crate) of_one_partition: bool,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct State {
    order: Order,
    max_in_flight: usize,
    limits: Limits,
    throttle: Option<Throttle>,
    budget: Option<Budget>,
    /// Nothing is handed out before: a handler has heard that it comes too often.
    hold_until_us: u64,
    /// Rows that are done and not acknowledged yet: see [`State::flush`].
    done: Vec<(u32, u32, bool)>,
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
    /// What is offered waits unsorted, for stretches.
    has_stretches: bool,
    /// How many shards are in line.
    ready: usize,
    /// How many partitions are lent.
    lent: usize,
    /// How many stretches there were.
    #[cfg(test)]
    pub(crate) stretches: usize,
    /// When a stretch may be had that was refused.
    refused_until_us: Option<u64>,
    timers: BinaryHeap<Reverse<(u64, u32, u32)>>,
    ledger: Ledger,
    bytes: usize,
}

impl State {
    pub(crate) fn new(order: Order, max_in_flight: usize, limits: Limits, now_us: u64) -> State {
        State {
            order,
            max_in_flight,
            throttle: limits
                .least_in_flight
                .map(|least| Throttle::new(least, max_in_flight)),
            budget: limits.per_second.map(|rate| Budget::new(rate, now_us)),
            limits,
            hold_until_us: 0,
            done: Vec::new(),
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
            has_stretches: false,
            ready: 0,
            lent: 0,
            #[cfg(test)]
            stretches: 0,
            refused_until_us: None,
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

    /// When the next retry is due, or the next attempt over its time.
    pub(crate) fn timer_due_us(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((due_us, _, _))| *due_us)
    }

    /// When [`State::take`] has something to hand out at the latest, if it is time that keeps it back.
    pub(crate) fn single_due_us(&self) -> Option<u64> {
        let held = self.held_until_us().filter(|_| self.may_hand_out());
        held.into_iter().chain(self.refused_until_us).min()
    }

    /// True when something waits and a hand is free for it: else time changes nothing, and whoever slept until then would spin.
    pub(crate) fn may_hand_out(&self) -> bool {
        let is_open = |number: &u32| Self::is_open(&self.lanes[*number as usize]);
        self.free_hands() > 0 && self.rotation.iter().any(is_open)
    }

    /// Nothing is handed out before this time: a handler has said so, or the budget is used up.
    pub(crate) fn held_until_us(&self) -> Option<u64> {
        let hold = (self.hold_until_us > 0).then_some(self.hold_until_us);
        let paid = self.budget.as_ref().and_then(Budget::due_us);
        hold.into_iter().chain(paid).max()
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
        if self.has_stretches {
            return self.keep_unsorted(lane, batch, rows);
        }
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
            let known = &mut self.lanes[lane as usize];
            if !Arc::ptr_eq(&known.cell, cell) {
                known.cell = Arc::clone(cell);
                known.stopped = false;
                self.let_go_of_held(lane);
            }
            return lane;
        }
        let lane = self.lanes.len() as u32;
        self.lane_of.insert(partition.clone(), lane);
        self.lanes.push(Lane::new(Arc::clone(cell)));
        lane
    }

    /// What was given back of a partition comes again: its shards go on.
    fn let_go_of_held(&mut self, lane: u32) {
        for shard in std::mem::take(&mut self.lanes[lane as usize].held) {
            self.shards[shard as usize].busy -= 1;
            self.list(shard);
            self.drop_if_empty(shard);
        }
    }

    /// Where a row's shard is, or would be, in `by_key`, and whether it is in order.
    fn key_of(&self, lane: u32, records: &RecordBatch, row: usize) -> (u64, bool) {
        let key = match self.order {
            Order::Key => records.key(row),
            Order::Partition | Order::None => None,
        };
        // A record without a key has no order among others, as everywhere in Kafka.
        let ordered = key.is_some() || self.order == Order::Partition;
        (self.hasher.hash_one((lane, key)), ordered)
    }

    fn shard_for(&mut self, lane: u32, records: &RecordBatch, row: usize) -> u32 {
        let (hash, ordered) = self.key_of(lane, records, row);
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
            waiting: 0,
            listed: false,
            alive: true,
        };
        let shard = self.add_shard(made);
        self.by_key.insert(hash, shard);
        shard
    }

    fn add_shard(&mut self, made: Shard) -> u32 {
        self.lanes[made.lane as usize].shards += 1;
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

    fn new_slot(&mut self) -> u32 {
        match self.free_slots.pop() {
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
                    paid: 0.0,
                    begun_us: 0,
                    first_us: 0,
                });
                self.slots.len() as u32 - 1
            }
        }
    }

    fn append(&mut self, shard: u32, batch: u32, row: u32) {
        let slot = self.new_slot();
        let entry = &mut self.slots[slot as usize];
        entry.stage = Stage::Queued;
        entry.batch = batch;
        entry.row = row;
        entry.shard = shard;
        entry.next = NONE;
        entry.attempts = 0;
        self.count_waiting(shard, 1);
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
        self.ready += 1;
        let (number, waiting) = (queue.lane, queue.waiting);
        let lane = &mut self.lanes[number as usize];
        lane.waiting += waiting;
        lane.ready.push_back(shard);
        if !lane.listed {
            lane.listed = true;
            self.rotation.push_back(number);
        }
    }

    /// One more or fewer waits in a shard.
    fn count_waiting(&mut self, shard: u32, by: i32) {
        let queue = &mut self.shards[shard as usize];
        queue.waiting = queue.waiting.wrapping_add_signed(by);
        if queue.listed {
            let lane = &mut self.lanes[queue.lane as usize];
            lane.waiting = lane.waiting.wrapping_add_signed(by);
        }
    }

    /// Forgets a shard that has nothing left, so that memory follows the records and not the keys ever seen.
    fn drop_if_empty(&mut self, shard: u32) {
        let queue = &mut self.shards[shard as usize];
        if !queue.alive || queue.head != NONE || queue.busy > 0 || queue.listed {
            return;
        }
        queue.alive = false;
        let key = queue.key;
        self.lanes[queue.lane as usize].shards -= 1;
        if self.by_key.get(&key) == Some(&shard) {
            self.by_key.remove(&key);
        }
        self.free_shards.push(shard);
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
        for lane in 0..self.lanes.len() {
            // What was given back is somebody else's now, or comes again.
            if !self.lanes[lane].held.is_empty() && !self.lanes[lane].cell.is_live() {
                self.let_go_of_held(lane as u32);
            }
        }
    }

    /// True when somebody waits for records of a partition that is being taken away.
    pub(crate) fn is_being_revoked(&self) -> bool {
        let is_waited_for =
            |lane: &Lane| lane.cell.state() == CellState::Revoking && lane.cell.has_in_hand();
        self.lanes.iter().any(is_waited_for)
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
        self.drop_unsorted(&wanted, &counter);
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
            let (mut head, mut tail, mut kept) = (NONE, NONE, 0);
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
                    kept += 1;
                    self.slots[from as usize].next = NONE;
                }
                from = next;
            }
            let queue = &mut self.shards[shard];
            (queue.head, queue.tail) = (head, tail);
            let gone = queue.waiting - kept;
            self.count_waiting(shard as u32, -(gone as i32));
            self.list(shard as u32);
            self.drop_if_empty(shard as u32);
        }
    }

    /// What the state itself takes, beside the records: everything that grows with them, as it was allocated.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let lanes = self.lanes.iter().map(Lane::bytes).sum::<usize>();
        // A table has a byte of its own per place, and an eighth of the places stay free.
        let table = (self.by_key.capacity() * 8 / 7) * (size_of::<(u64, u32)>() + 1);
        let numbers = self.free_slots.capacity() + self.free_shards.capacity();
        self.slots.capacity() * size_of::<Slot>()
            + self.shards.capacity() * size_of::<Shard>()
            + self.timers.capacity() * size_of::<Reverse<(u64, u32, u32)>>()
            + self.done.capacity() * size_of::<(u32, u32, bool)>()
            + numbers * size_of::<u32>()
            + lanes
            + table
    }

    /// All that decides what can happen next: equal for two states that differ in numbers of places only.
    #[cfg(test)]
    pub(crate) fn print(&self, now_us: u64) -> String {
        use std::fmt::Write as _;
        let place = |slot: u32| {
            let entry = &self.slots[slot as usize];
            let held = self.batches.get(entry.batch as usize)?.as_ref()?;
            let row = entry.row as usize;
            let record = held.records.get(row)?;
            // A generation is told by whether it is the latest one.
            Some((
                record.partition(),
                record.offset(),
                held.records.is_stale(row),
                entry.attempts,
            ))
        };
        let mut parts = Vec::new();
        let in_shard = |shard: u32| {
            let queue = &self.shards[shard as usize];
            let next =
                |slot: &u32| Some(self.slots[*slot as usize].next).filter(|slot| *slot != NONE);
            let first = Some(queue.head).filter(|slot| *slot != NONE);
            let waiting: Vec<_> = std::iter::successors(first, next).map(place).collect();
            (queue.ordered, queue.busy, queue.listed, waiting)
        };
        for (slot, entry) in (0..).zip(&self.slots) {
            if !matches!(entry.stage, Stage::Free | Stage::Queued) {
                let shard = in_shard(entry.shard);
                parts.push(format!("{:?} {:?} {shard:?}", entry.stage, place(slot)));
            }
        }
        for Reverse((due_us, slot, life)) in &self.timers {
            if self.slots[*slot as usize].life == *life {
                let left_us = due_us.saturating_sub(now_us);
                parts.push(format!("due {left_us} {:?}", place(*slot)));
            }
        }
        parts.sort_unstable();
        let mut print = parts.join(";");
        for number in &self.rotation {
            let _ = write!(print, "/{number}");
        }
        for lane in &self.lanes {
            let ready: Vec<_> = lane.ready.iter().map(|shard| in_shard(*shard)).collect();
            let unsorted = lane.unsorted.iter().map(|rows| {
                let held = self.batches[rows.batch as usize].as_ref()?;
                let is_stale = held.records.is_stale(rows.rows.start as usize);
                let row = held.records.get(rows.rows.start as usize)?;
                Some((row.offset(), rows.rows.len(), is_stale))
            });
            let unsorted: Vec<_> = unsorted.collect();
            let _ = write!(
                print,
                "/{:?} {} {ready:?} {unsorted:?} {} {:?}",
                lane.cell.topic_partition(),
                lane.stopped,
                lane.is_lent,
                lane.settling(now_us)
            );
        }
        print
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
