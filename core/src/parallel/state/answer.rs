//! What becomes of a record that was handed out: done, again later, to the dead-letter topic, given back, or over its time.

use std::cmp::Reverse;

use super::State;
use crate::offset_map::OffsetMap;
use crate::parallel::pace::Throttle;
use crate::parallel::parts::{Answer, NONE, Shard, Slot, Stage, Ticket, Work};

impl State {
    /// Puts retries whose time has come at the head of their shards.
    pub(super) fn wake_retries(&mut self, now_us: u64) {
        while let Some(&Reverse((due_us, slot, life))) = self.timers.peek() {
            let entry = &self.slots[slot as usize];
            let is_running = entry.life == life && entry.stage == Stage::InFlight;
            if due_us > now_us || (is_running && self.is_over_time(entry, due_us)) {
                // What has run over its time is for `expire`.
                break;
            }
            self.timers.pop();
            // A timer of an attempt that has failed since then is no retry's.
            let is_retry = entry.stage == Stage::RetryWait && entry.begun_us == due_us;
            if entry.life != life || !is_retry {
                continue;
            }
            let shard = entry.shard;
            self.ledger.retry_wait -= 1;
            self.ledger.queued += 1;
            self.shards[shard as usize].busy -= 1;
            self.insert(shard, slot);
            self.list(shard);
        }
    }

    fn is_over_time(&self, entry: &Slot, due_us: u64) -> bool {
        let attempt_us = self.limits.attempt_us.unwrap_or(u64::MAX);
        entry.begun_us.saturating_add(attempt_us) == due_us
    }

    /// Puts a record back into its shard, before those that come after it.
    fn insert(&mut self, shard: u32, slot: u32) {
        self.slots[slot as usize].stage = Stage::Queued;
        self.count_waiting(shard, 1);
        let offset = self.offset(slot);
        let (mut before, mut next) = (NONE, self.shards[shard as usize].head);
        while next != NONE && self.offset(next) < offset {
            before = next;
            next = self.slots[next as usize].next;
        }
        self.slots[slot as usize].next = next;
        if next == NONE {
            self.shards[shard as usize].tail = slot;
        }
        match before {
            NONE => self.shards[shard as usize].head = slot,
            before => self.slots[before as usize].next = slot,
        }
    }

    fn offset(&self, slot: u32) -> i64 {
        let entry = &self.slots[slot as usize];
        let held = self
            .batches
            .get(entry.batch as usize)
            .and_then(Option::as_ref);
        held.map_or(0, |held| held.records.offsets()[entry.row as usize])
    }

    /// A record whose handler has run over its time, if there is one: a new ticket for the record, with which it may be answered at
    /// once. The handler keeps its shard busy until it returns, and what it answers then is thrown away.
    pub(crate) fn expire(&mut self, now_us: u64) -> Option<Ticket> {
        self.limits.attempt_us?;
        self.wake_retries(now_us);
        let &Reverse((due_us, old, _)) = self.timers.peek()?;
        if due_us > now_us {
            return None;
        }
        self.timers.pop();
        let slot = self.new_slot();
        let entry = &mut self.slots[old as usize];
        entry.stage = Stage::Overdue;
        let (batch, row, shard, attempts) = (entry.batch, entry.row, entry.shard, entry.attempts);
        let (begun_us, first_us) = (entry.begun_us, entry.first_us);
        self.ledger.timed_out += 1;
        self.ledger.overdue += 1;
        self.shards[shard as usize].busy += 1;
        let entry = &mut self.slots[slot as usize];
        let life = entry.life;
        *entry = Slot {
            stage: Stage::InFlight,
            life,
            batch,
            row,
            shard,
            next: NONE,
            attempts,
            paid: 0.0,
            begun_us,
            first_us,
        };
        Some(Ticket { slot, life })
    }

    /// Takes the answer of a handler that had run over its time; false when the ticket is none of one.
    pub(crate) fn returned_late(&mut self, ticket: Ticket) -> bool {
        let Some(entry) = self.entry(ticket, Stage::Overdue) else {
            return false;
        };
        let shard = entry.shard;
        self.ledger.overdue -= 1;
        self.free_slot(ticket.slot);
        self.shards[shard as usize].busy -= 1;
        self.list(shard);
        self.drop_if_empty(shard);
        true
    }

    /// How often the record was with a handler before this time.
    pub(crate) fn attempts(&mut self, ticket: Ticket) -> Option<u32> {
        self.entry(ticket, Stage::InFlight)
            .map(|entry| entry.attempts)
    }

    /// When a handler had the record of this ticket for the first time.
    pub(crate) fn first_us(&mut self, ticket: Ticket) -> Option<u64> {
        self.entry(ticket, Stage::InFlight)
            .map(|entry| entry.first_us)
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

    /// How a handler did, for the number at once that follows it.
    pub(crate) fn note_pace(&mut self, ticket: Ticket, went_well: bool, now_us: u64) {
        let busy = (self.ledger.in_flight + self.ledger.overdue) as usize;
        let Some(throttle) = &mut self.throttle else {
            return;
        };
        let slot = self.slots.get(ticket.slot as usize);
        if let Some(slot) =
            slot.filter(|slot| slot.life == ticket.life && slot.stage == Stage::InFlight)
        {
            let took_us = now_us.saturating_sub(slot.begun_us);
            throttle.note(took_us, went_well, busy, now_us);
        }
    }

    /// How many records may be with handlers at once now.
    pub(crate) fn in_flight_limit(&self) -> usize {
        self.throttle
            .as_ref()
            .map_or(self.max_in_flight, Throttle::limit)
    }

    /// Hands out nothing more of the partition of this record, until it is assigned again.
    pub(crate) fn stop_partition(&mut self, ticket: Ticket) {
        let shard = self.slots.get(ticket.slot as usize).map(|slot| slot.shard);
        if let Some(shard) = shard.and_then(|shard| self.shards.get(shard as usize)) {
            self.lanes[shard.lane as usize].stopped = true;
        }
    }

    /// Answers for a record that is with a handler; false for a ticket that was answered before. What is done is acknowledged by
    /// [`State::flush`].
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer) -> bool {
        let Some(entry) = self.entry(ticket, Stage::InFlight) else {
            return false;
        };
        let (slot, shard, begun_us) = (ticket.slot, entry.shard, entry.begun_us);
        let lane = self.shards[shard as usize].lane;
        self.lanes[lane as usize].note_answered(begun_us);
        let entry = &mut self.slots[slot as usize];
        match answer {
            Answer::Done => {
                self.ledger.in_flight -= 1;
                self.finish(slot, false);
            }
            Answer::Return => {
                let waits = self.is_followed(slot);
                self.ledger.in_flight -= 1;
                self.give_back(slot);
                self.ledger.returned += 1;
                if waits {
                    let lane = self.shards[shard as usize].lane;
                    self.lanes[lane as usize].held.push(shard);
                    return true;
                }
            }
            Answer::DeadLetter => {
                entry.stage = Stage::DeadLetter;
                entry.attempts += 1;
                self.ledger.in_flight -= 1;
                self.ledger.dead_letters_pending += 1;
            }
            Answer::Finish => {
                entry.stage = Stage::Finished;
                self.ledger.in_flight -= 1;
                self.ledger.outputs_pending += 1;
            }
            Answer::Retry { due_us, park } => {
                entry.stage = Stage::RetryWait;
                entry.attempts += 1;
                entry.begun_us = due_us;
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

    /// True when others of this assignment are in order behind a record, or may come.
    fn is_followed(&self, slot: u32) -> bool {
        let entry = &self.slots[slot as usize];
        let held = self.batches.get(entry.batch as usize);
        let is_ours = held
            .and_then(Option::as_ref)
            .is_some_and(|held| !held.records.is_stale(entry.row as usize));
        is_ours && self.shards[entry.shard as usize].ordered
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
            waiting: 0,
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
        self.finish(ticket.slot, true);
        true
    }

    /// True while a record waits for a transaction, as handled or on its way to the dead-letter topic.
    fn waits_for_transaction(&self, ticket: Ticket) -> Option<Stage> {
        let entry = self.slots.get(ticket.slot as usize)?;
        let waits = matches!(entry.stage, Stage::Finished | Stage::DeadLetter);
        (entry.life == ticket.life && waits).then_some(entry.stage)
    }

    fn leave_transaction(&mut self, stage: Stage) {
        match stage {
            Stage::DeadLetter => self.ledger.dead_letters_pending -= 1,
            _ => self.ledger.outputs_pending -= 1,
        }
    }

    /// The transaction of these records is committed, and their offsets with it.
    pub(crate) fn transacted(&mut self, tickets: impl Iterator<Item = Ticket>) {
        for ticket in tickets {
            if let Some(stage) = self.waits_for_transaction(ticket) {
                self.leave_transaction(stage);
                self.finish(ticket.slot, stage == Stage::DeadLetter);
            }
        }
        self.flush_rows(true);
    }

    /// A record that waits for a transaction will not be part of one: its partition was taken away, or the application stops.
    pub(crate) fn untransacted(&mut self, ticket: Ticket, is_stale: bool) {
        if let Some(stage) = self.waits_for_transaction(ticket) {
            self.leave_transaction(stage);
            match is_stale {
                true => self.ledger.stale += 1,
                false => self.ledger.returned += 1,
            }
            self.give_back(ticket.slot);
        }
    }

    fn entry(&mut self, ticket: Ticket, stage: Stage) -> Option<&mut Slot> {
        self.slots
            .get_mut(ticket.slot as usize)
            .filter(|entry| entry.life == ticket.life && entry.stage == stage)
    }

    /// A record is done, or its copy is in the dead-letter topic.
    fn finish(&mut self, slot: u32, dead_letter: bool) {
        let entry = &self.slots[slot as usize];
        self.done.push((entry.batch, entry.row, dead_letter));
        self.free_slot(slot);
    }

    /// Acknowledges what was answered as done since the last time, range by range, and counts it: as stale where the partition was
    /// taken away meanwhile.
    pub(crate) fn flush(&mut self) {
        self.flush_rows(false);
    }

    /// As [`State::flush`]; what `is_committed` counts as done wherever its partition is now.
    fn flush_rows(&mut self, is_committed: bool) {
        let mut done = std::mem::take(&mut self.done);
        done.sort_unstable();
        for rows in done.chunk_by(|a, b| (a.0, a.2) == (b.0, b.2) && a.1 + 1 == b.1) {
            let (batch, first, dead_letter) = rows[0];
            let Some(held) = &self.batches[batch as usize] else {
                continue;
            };
            let range = first as usize..first as usize + rows.len();
            let stale = match held.records.acknowledge_rows(range.clone()) {
                Ok(()) => 0,
                Err(_) if is_committed => 0,
                // Of which rows only each of them can tell; once more is harmless.
                Err(_) => range
                    .filter(|row| held.records.acknowledge_rows(*row..row + 1).is_err())
                    .count() as u64,
            };
            self.ledger.stale += stale;
            let counted = rows.len() as u64 - stale;
            match dead_letter {
                true => self.ledger.dead_lettered += counted,
                false => self.ledger.done += counted,
            }
            self.let_go(batch, rows.len() as u32);
        }
        done.clear();
        self.done = done;
    }

    /// Gives a record back unfinished.
    pub(super) fn give_back(&mut self, slot: u32) {
        let entry = &self.slots[slot as usize];
        let row = entry.row as usize;
        if let Some(held) = &self.batches[entry.batch as usize] {
            // The row is of this batch: it cannot be refused.
            let _ = held.records.release_rows(row..row + 1);
        }
        self.free(slot);
    }

    fn free(&mut self, slot: u32) {
        let batch = self.slots[slot as usize].batch;
        self.free_slot(slot);
        self.let_go(batch, 1);
    }

    fn free_slot(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        entry.stage = Stage::Free;
        entry.life = entry.life.wrapping_add(1);
        self.free_slots.push(slot);
    }

    /// So many rows of a batch are settled.
    pub(super) fn let_go(&mut self, batch: u32, rows: u32) {
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
}
