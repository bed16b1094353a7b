//! Handing out: what may be begun now, one by one or many to be handled together.

use std::cmp::Reverse;

use super::{Fill, State};
use crate::parallel::pace::Throttle;
use crate::parallel::parts::{Lane, NONE, Stage, Ticket, Works};

impl State {
    /// How many more may be with handlers; those that have run over their time still take their room.
    pub(super) fn free_hands(&self) -> usize {
        let most = self
            .throttle
            .as_ref()
            .map_or(self.max_in_flight, Throttle::limit);
        most.saturating_sub((self.ledger.in_flight + self.ledger.overdue) as usize)
    }

    /// True when nothing may be handed out yet.
    pub(super) fn is_held(&mut self, now_us: u64) -> bool {
        if now_us >= self.hold_until_us {
            self.hold_until_us = 0;
        }
        self.hold_until_us > 0
    }

    /// Nothing is handed out before this time.
    pub(crate) fn hold(&mut self, until_us: u64) {
        self.hold_until_us = self.hold_until_us.max(until_us);
    }

    pub(super) fn is_open(lane: &Lane) -> bool {
        !(lane.stopped || (lane.cell.is_paused() && lane.cell.is_live()))
    }

    /// Hands out up to `most` records that may be handled now, one partition after the other and in it one key after the other.
    pub(crate) fn take(&mut self, most: usize, now_us: u64, works: &mut Works) {
        self.sort_all();
        self.wake_retries(now_us);
        if !self.is_held(now_us) {
            self.take_sorted(most, now_us, works);
        }
    }

    /// As [`State::take`], of what is in shards.
    pub(super) fn take_sorted(&mut self, most: usize, now_us: u64, works: &mut Works) {
        let until = works.len() + self.free_hands().min(most);
        // A partition that is paused goes round; when all of them have, there is nothing more.
        let mut closed_in_a_row = 0;
        while works.len() < until && closed_in_a_row < self.rotation.len() {
            let Some(number) = self.rotation.pop_front() else {
                break;
            };
            let lane = &self.lanes[number as usize];
            let has_only_unsorted = lane.ready.is_empty() && lane.has_unsorted();
            if !Self::is_open(lane) || has_only_unsorted {
                self.rotation.push_back(number);
                closed_in_a_row += 1;
                continue;
            }
            closed_in_a_row = 0;
            let shard = self.next_shard(number);
            self.lanes[number as usize].listed = false;
            self.list_lane(number);
            if let Some(shard) = shard
                && !self.take_from(shard, 1, now_us, works)
            {
                break;
            }
        }
    }

    /// Hands out records to be handled together: as many as `fill` says, or fewer if one of them has waited long enough. Those of
    /// one key follow each other in their order.
    pub(crate) fn take_together(&mut self, fill: Fill, now_us: u64, works: &mut Works) {
        self.wake_retries(now_us);
        if self.is_held(now_us) {
            return;
        }
        let most = self.free_hands().min(fill.records);
        let lanes: Vec<u32> = self.rotation.iter().copied().collect();
        let open = |state: &State, number: &u32| Self::is_open(&state.lanes[*number as usize]);
        let lanes: Vec<u32> = lanes
            .into_iter()
            .filter(|number| open(self, number))
            .collect();
        let wanted: Vec<u32> = if fill.of_one_partition {
            let is_due =
                |number: &&u32| self.is_due(std::slice::from_ref(*number), most, fill, now_us);
            lanes.iter().find(is_due).copied().into_iter().collect()
        } else if self.is_due(&lanes, most, fill, now_us) {
            lanes
        } else {
            Vec::new()
        };
        let until = works.len() + most;
        for number in wanted {
            self.rotation.retain(|other| *other != number);
            while works.len() < until {
                let Some(shard) = self.next_shard(number) else {
                    break;
                };
                if !self.take_from(shard, until - works.len(), now_us, works) {
                    break;
                }
            }
            self.lanes[number as usize].listed = false;
            self.list_lane(number);
        }
    }

    /// True when these partitions have as many records as are wanted, or one that has waited long enough.
    fn is_due(&self, lanes: &[u32], most: usize, fill: Fill, now_us: u64) -> bool {
        let lanes = || lanes.iter().map(|number| &self.lanes[*number as usize]);
        let waiting: usize = lanes().map(|lane| lane.waiting as usize).sum();
        if most == 0 || waiting == 0 || waiting >= fill.records {
            return most > 0 && waiting > 0;
        }
        self.oldest_us(lanes())
            .is_some_and(|since_us| now_us >= since_us.saturating_add(fill.wait_us))
    }

    /// When the first record in line of these partitions came.
    fn oldest_us<'a>(&'a self, lanes: impl Iterator<Item = &'a Lane>) -> Option<u64> {
        // One that a revoke has emptied goes when its turn comes.
        let head = |shard: &u32| self.shards[*shard as usize].head;
        let slots = lanes.filter_map(|lane| lane.ready.iter().map(head).find(|head| *head != NONE));
        let slots = slots.filter_map(|slot| self.slots.get(slot as usize));
        let held = slots.filter_map(|slot| self.batches.get(slot.batch as usize)?.as_ref());
        held.map(|held| held.records.received_us()).min()
    }

    /// When [`State::take_together`] has something to hand out at the latest, as things are.
    pub(crate) fn together_due_us(&self, fill: Fill) -> Option<u64> {
        if !self.may_hand_out() {
            return None;
        }
        let lanes = self
            .rotation
            .iter()
            .map(|number| &self.lanes[*number as usize]);
        let oldest_us = self.oldest_us(lanes.filter(|lane| Self::is_open(lane)))?;
        let due_us = oldest_us.saturating_add(fill.wait_us);
        Some(due_us.max(self.held_until_us().unwrap_or(0)))
    }

    /// Takes the next shard of a partition out of line.
    fn next_shard(&mut self, number: u32) -> Option<u32> {
        let lane = &mut self.lanes[number as usize];
        let shard = lane.ready.pop_front()?;
        self.ready -= 1;
        let queue = &mut self.shards[shard as usize];
        queue.listed = false;
        lane.waiting -= queue.waiting;
        Some(shard)
    }

    /// Puts a partition that has something ready at the end of the rotation.
    pub(super) fn list_lane(&mut self, number: u32) {
        let lane = &mut self.lanes[number as usize];
        if !lane.listed && (lane.has_unsorted() || !lane.ready.is_empty()) {
            lane.listed = true;
            self.rotation.push_back(number);
        }
    }

    /// Up to `most` records at the head of a shard, stale ones dropped; false when the budget is used up.
    fn take_from(&mut self, shard: u32, most: usize, now_us: u64, works: &mut Works) -> bool {
        let mut is_paid = true;
        let mut taken = 0;
        while taken < most {
            let paid = match &mut self.budget {
                None => Some(0.0),
                Some(budget) => budget.pay(now_us),
            };
            let Some(paid) = paid else {
                is_paid = false;
                break;
            };
            let Some(slot) = self.hand_out(shard, now_us, works) else {
                if let Some(budget) = &mut self.budget {
                    budget.pay_back(paid);
                }
                break;
            };
            self.slots[slot as usize].paid = paid as f32;
            taken += 1;
        }
        self.list(shard);
        self.drop_if_empty(shard);
        is_paid
    }

    /// The first record of a shard that is not stale.
    fn hand_out(&mut self, shard: u32, now_us: u64, works: &mut Works) -> Option<u32> {
        while let Some(slot) = self.pop(shard) {
            let entry = &mut self.slots[slot as usize];
            let (row, batch) = (entry.row as usize, entry.batch);
            let Some(held) = &self.batches[batch as usize] else {
                continue;
            };
            self.ledger.queued -= 1;
            if held.records.is_stale(row) {
                self.give_back(slot);
                self.ledger.stale += 1;
                continue;
            }
            entry.stage = Stage::InFlight;
            entry.begun_us = now_us;
            if entry.attempts == 0 {
                entry.first_us = now_us;
            }
            let (ticket, attempts) = (
                Ticket {
                    slot,
                    life: entry.life,
                },
                entry.attempts,
            );
            works.push(batch, &held.records, ticket, row, attempts);
            self.ledger.in_flight += 1;
            let queue = &mut self.shards[shard as usize];
            queue.busy += 1;
            self.lanes[queue.lane as usize].note_handed_out(now_us);
            if let Some(attempt_us) = self.limits.attempt_us {
                let due_us = now_us.saturating_add(attempt_us);
                self.timers.push(Reverse((due_us, slot, ticket.life)));
            }
            return Some(slot);
        }
        None
    }

    /// A record costs so much of the budget.
    pub(crate) fn charge(&mut self, ticket: Ticket, cost: f64) {
        let Some(budget) = &mut self.budget else {
            return;
        };
        let slot = self.slots.get_mut(ticket.slot as usize);
        let slot = slot.filter(|slot| slot.life == ticket.life && slot.stage == Stage::InFlight);
        if let Some(slot) = slot {
            budget.correct(f64::from(slot.paid), cost);
            slot.paid = cost as f32;
        }
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
        self.count_waiting(shard, -1);
        Some(slot)
    }
}
