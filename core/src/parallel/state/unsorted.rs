//! Rows that are in no shard: handed out as they lie, in stretches, and sorted into shards where that cannot be.
//!
//! Always true:
//! - what is unsorted of a partition comes after everything that is in its shards or lent, so far as the two are in order with each other;
//! - a row whose key has a shard goes into that shard and not into a stretch: it waits behind what is there;
//! - while a stretch of a partition that has an order is with a handler, its unsorted rows stay where they are.

use std::ops::Range;

use super::State;
use crate::batch::RecordBatch;
use crate::parallel::Order;
use crate::parallel::ledger::Ledger;
use crate::parallel::parts::{NONE, Rows, Slot, Stage, Ticket, Works};
use crate::parallel::stretch::{Piece, Stretch};

/// With fewer rows a stretch goes on in the next partition.
const FEW: usize = 64;
/// So many rows are looked at for one stretch, where a partition has shards.
const LOOKED_AT: usize = 64;
/// So long a partition is left to those who handle records of its shards.
const PATIENCE_US: u64 = 1_000;

impl State {
    /// From now on what is offered waits for [`State::take_quick`].
    pub(crate) fn hand_out_stretches(&mut self) {
        self.has_stretches = true;
    }

    /// True while a partition is lent.
    pub(crate) fn has_lent(&self) -> bool {
        self.lent > 0
    }

    pub(super) fn keep_unsorted(&mut self, lane: u32, batch: u32, rows: Range<usize>) {
        if !rows.is_empty() {
            let rows = rows.start as u32..rows.end as u32;
            let unsorted = &mut self.lanes[lane as usize].unsorted;
            unsorted.push_back(Rows { batch, rows });
            self.list_lane(lane);
        }
    }

    /// Puts everything into shards that may be, for [`State::take`]: each key has its turn.
    pub(super) fn sort_all(&mut self) {
        if !self.has_stretches {
            return;
        }
        // Whatever may be sorted is in the rotation, and stays where it is.
        for place in 0..self.rotation.len() {
            let lane = self.rotation[place];
            while self.lanes[lane as usize].has_unsorted() {
                let Some(Rows { batch, rows }) = self.lanes[lane as usize].unsorted.pop_front()
                else {
                    break;
                };
                let Some(records) = self.records(batch) else {
                    continue;
                };
                for row in rows {
                    let shard = self.shard_for(lane, &records, row as usize);
                    self.append(shard, batch, row);
                }
            }
        }
    }

    fn records(&self, batch: u32) -> Option<RecordBatch> {
        let held = self.batches.get(batch as usize)?.as_ref();
        held.map(|held| held.records.clone())
    }

    /// Up to `most` records that are in shards, or else up to `rows` as a stretch.
    pub(crate) fn take_quick(
        &mut self,
        most: usize,
        rows: usize,
        now_us: u64,
        works: &mut Works,
    ) -> Option<Stretch> {
        self.refused_until_us = None;
        self.wake_retries(now_us);
        if self.is_held(now_us) {
            return None;
        }
        if self.ready > 0 {
            // What is in shards came first.
            self.take_sorted(most, now_us, works);
            if !works.is_empty() {
                return None;
            }
        }
        let most = self.free_hands().min(rows);
        let mut stretch = Stretch::new(now_us);
        let mut passed_in_a_row = 0;
        while stretch.len() < FEW.min(most) && passed_in_a_row < self.rotation.len() {
            let Some(number) = self.rotation.pop_front() else {
                break;
            };
            let lane = &self.lanes[number as usize];
            let may_be = Self::is_open(lane) && lane.has_unsorted();
            if !may_be || self.is_left_alone(number, now_us) {
                self.rotation.push_back(number);
                passed_in_a_row += 1;
                continue;
            }
            passed_in_a_row = 0;
            self.lanes[number as usize].listed = false;
            self.cut(number, most, &mut stretch);
            self.list_lane(number);
        }
        self.ledger.queued -= stretch.len() as u64;
        self.ledger.in_flight += stretch.len() as u64;
        if stretch.len() == 0 {
            return None;
        }
        #[cfg(test)]
        {
            self.stretches += 1;
        }
        Some(stretch)
    }

    /// True while what handlers have of a partition's shards is about to be done: a stretch beside it would find its keys busy, and put
    /// their rows into shards for good.
    fn is_left_alone(&mut self, number: u32, now_us: u64) -> bool {
        let lane = &mut self.lanes[number as usize];
        let is_waited_for = self.order != Order::None && lane.is_settling(now_us);
        let since_us = *lane.refused_us.get_or_insert(now_us);
        let until_us = since_us.saturating_add(PATIENCE_US);
        if is_waited_for && now_us < until_us {
            let earlier_us = self.refused_until_us.unwrap_or(u64::MAX);
            self.refused_until_us = Some(earlier_us.min(until_us));
            return true;
        }
        lane.refused_us = None;
        false
    }

    /// Puts rows of a partition into a stretch of up to `most`, and lends the partition with it.
    fn cut(&mut self, number: u32, most: usize, stretch: &mut Stretch) {
        let is_ordered = self.order != Order::None;
        let before = stretch.pieces().len();
        let looks = is_ordered && self.lanes[number as usize].shards > 0;
        let mut left = if looks { LOOKED_AT } else { usize::MAX };
        while left > 0 && stretch.len() < most {
            let lane = &mut self.lanes[number as usize];
            let Some(Rows { batch, rows }) = lane.unsorted.pop_front() else {
                break;
            };
            let Some(records) = self.records(batch) else {
                continue;
            };
            if records.is_stale(rows.start as usize) {
                self.give_back_rows(batch, rows, |ledger| &mut ledger.stale);
                continue;
            }
            let count = rows.len().min(left).min(most - stretch.len());
            let end = rows.start + count as u32;
            let (taken, rows) = (rows.start..end, end..rows.end);
            if !rows.is_empty() {
                let unsorted = &mut self.lanes[number as usize].unsorted;
                unsorted.push_front(Rows { batch, rows });
            }
            if looks {
                left -= count;
                self.push_what_is_free(number, batch, &records, taken, stretch);
            } else {
                push_piece(number, batch, &records, taken, stretch);
            }
        }
        if is_ordered && stretch.pieces().len() > before {
            stretch.lend(before);
            self.lanes[number as usize].is_lent = true;
            self.lent += 1;
        }
    }

    /// Puts rows whose keys have shards into those, and the others into a stretch.
    fn push_what_is_free(
        &mut self,
        lane: u32,
        batch: u32,
        records: &RecordBatch,
        rows: Range<u32>,
        stretch: &mut Stretch,
    ) {
        let mut from = rows.start;
        for row in rows.clone() {
            let (key, is_ordered) = self.key_of(lane, records, row as usize);
            if let Some(&shard) = self.by_key.get(&key).filter(|_| is_ordered) {
                push_piece(lane, batch, records, from..row, stretch);
                self.append(shard, batch, row);
                from = row + 1;
            }
        }
        push_piece(lane, batch, records, from..rows.end, stretch);
    }

    /// A stretch has ended. Its first `done` rows are done; if `is_running`, a handler has the one after them, or has said
    /// something else of it: it gets a ticket. The others are given back: to this, if it `goes_on`.
    pub(crate) fn end_stretch(
        &mut self,
        stretch: &Stretch,
        done: usize,
        is_running: bool,
        goes_on: bool,
    ) -> Option<Ticket> {
        self.ledger.in_flight -= stretch.len() as u64;
        let mut left = done;
        for piece in stretch.pieces() {
            let rows = left.min(piece.records.len());
            left -= rows;
            self.finish_rows(piece, rows);
        }
        let mut ticket = None;
        let mut end = stretch.len();
        for piece in stretch.pieces().iter().rev() {
            let begin = end - piece.records.len();
            let mut from = done.max(begin);
            if is_running && (begin..end).contains(&done) {
                ticket = Some(self.keep_running(piece, done - begin, stretch.began_us()));
                from += 1;
            }
            if from < end {
                let first = piece.first + (from - begin) as u32;
                let rows = first..piece.first + piece.records.len() as u32;
                self.ledger.queued += rows.len() as u64;
                if goes_on {
                    let batch = piece.batch;
                    let unsorted = &mut self.lanes[piece.lane as usize].unsorted;
                    unsorted.push_front(Rows { batch, rows });
                } else {
                    self.give_back_rows(piece.batch, rows, |ledger| &mut ledger.returned);
                }
            }
            end = begin;
        }
        for piece in stretch.pieces() {
            if piece.lends {
                self.lanes[piece.lane as usize].is_lent = false;
                self.lent -= 1;
            }
            self.list_lane(piece.lane);
        }
        ticket
    }

    /// The first `count` rows of a piece are done.
    fn finish_rows(&mut self, piece: &Piece, count: usize) {
        if count == 0 {
            return;
        }
        match piece.records.acknowledge_rows(0..count) {
            Ok(()) => self.ledger.done += count as u64,
            // They are of one partition.
            Err(_) => self.ledger.stale += count as u64,
        }
        self.let_go(piece.batch, count as u32);
    }

    /// A record of a stretch stays with its handler, on its own from now on.
    fn keep_running(&mut self, piece: &Piece, row: usize, began_us: u64) -> Ticket {
        let shard = self.shard_for(piece.lane, &piece.records, row);
        let slot = self.new_slot();
        let entry = &mut self.slots[slot as usize];
        let life = entry.life;
        *entry = Slot {
            stage: Stage::InFlight,
            life,
            batch: piece.batch,
            row: piece.first + row as u32,
            shard,
            next: NONE,
            attempts: 0,
            paid: 0.0,
            begun_us: began_us,
            first_us: began_us,
        };
        self.ledger.in_flight += 1;
        self.shards[shard as usize].busy += 1;
        Ticket { slot, life }
    }

    /// Gives back queued rows unfinished, and counts them.
    fn give_back_rows(
        &mut self,
        batch: u32,
        rows: Range<u32>,
        counter: impl Fn(&mut Ledger) -> &mut u64,
    ) {
        let count = rows.len() as u64;
        if let Some(records) = self.records(batch) {
            // They are of this batch: they cannot be refused.
            let _ = records.release_rows(rows.start as usize..rows.end as usize);
        }
        self.ledger.queued -= count;
        *counter(&mut self.ledger) += count;
        self.let_go(batch, count as u32);
    }

    /// Gives back what is unsorted and wanted; all rows of a piece are of one assignment.
    pub(super) fn drop_unsorted(
        &mut self,
        wanted: &impl Fn(&RecordBatch, usize) -> bool,
        counter: &impl Fn(&mut Ledger) -> &mut u64,
    ) {
        for lane in 0..self.lanes.len() {
            for rows in std::mem::take(&mut self.lanes[lane].unsorted) {
                let records = self.records(rows.batch);
                if records.is_some_and(|records| wanted(&records, rows.rows.start as usize)) {
                    self.give_back_rows(rows.batch, rows.rows, counter);
                } else {
                    self.lanes[lane].unsorted.push_back(rows);
                }
            }
        }
    }
}

fn push_piece(
    lane: u32,
    batch: u32,
    records: &RecordBatch,
    rows: Range<u32>,
    stretch: &mut Stretch,
) {
    if !rows.is_empty() {
        stretch.push(Piece {
            lane,
            batch,
            first: rows.start,
            records: records.slice(rows.start as usize..rows.end as usize),
            lends: false,
        });
    }
}
