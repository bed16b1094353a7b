//! What is finished and what is not, per partition and generation.
//!
//! A [`PartitionCell`] is made at each assign and seek and shared by the batches of its records, the threads that finish them, and the
//! poller. Its low watermark `finished` is the only number ever committed: all below was finished, or never was (gaps, markers).
//!
//! Invariants
//! - `finished` never passes a record that was handed out and not completed, and only grows.
//! - Where the source goes back (a log that was truncated or made anew), what comes now is another record than the one that was
//!   there before: a cell of a new generation follows, which completions of the one before cannot reach. Its watermark waits
//!   for the records before that place.
//! - Whoever takes the partition away sees what is in hand, or whoever hands out sees that it is taken away.
//! - Completing in order is one compare-and-swap; the lock is taken only for what is completed ahead of the watermark.
//! - What a predecessor's map says is done ([`PartitionCell::with_map`]) finishes nothing by itself: a record counts as finished when it
//!   was read and recognised, so a log that was truncated meanwhile is noticed first.
//! - A closed cell stays valid: acknowledging a stale record changes a cell that nobody commits any more.
//!
//! Any thread may call any function; one at a time hands out ([`PartitionCell::deliver`], [`PartitionCell::deliver_next`]).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::partition::{Generation, TopicPartition};
use crate::sync::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Mutex, Ordering, fence,
    sequential,
};

/// The place is not known yet: the first record handed out will tell.
pub(crate) const UNKNOWN: i64 = -1;

/// Where a cell is in its life. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum CellState {
    /// Records are handed out.
    Live = 0,
    /// The partition is being revoked: nothing more is handed out, completions still count.
    Revoking = 1,
    /// The partition is gone, or was sought: nothing counts any more.
    Closed = 2,
}

/// What was finished above the committed offset before this assignment, as the commit's metadata said.
#[derive(Debug, Default)]
struct Mapped {
    /// What is left of it, in order: what was read is taken off the front.
    done: Vec<Range<i64>>,
    /// Records of later epochs are others than the ones that are done; -1 for unknown.
    leader_epoch: i32,
}

/// What may be committed at one moment: see [`PartitionCell::snapshot`].
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The low watermark, or [`UNKNOWN`].
    pub(crate) finished: i64,
    /// What is finished above it; ranges may overlap.
    pub(crate) done: Vec<Range<i64>>,
    /// The latest that anything of it was written under; -1 for unknown.
    pub(crate) leader_epoch: i32,
}

/// One partition in one generation.
#[derive(Debug)]
pub(crate) struct PartitionCell {
    topic_partition: TopicPartition,
    generation: Generation,
    state: AtomicU8,
    paused: AtomicBool,
    /// Next offset to hand out.
    handed: AtomicI64,
    /// Low watermark: next offset that is not finished.
    finished: AtomicI64,
    /// Completed ranges above `finished`, start to end (exclusive), disjoint and not touching.
    ahead: Mutex<BTreeMap<i64, i64>>,
    /// The number of ranges in `ahead`, so that in-order completion need not take the lock.
    ahead_len: AtomicUsize,
    /// How often something was completed out of order.
    ahead_completions: AtomicU64,
    /// Unfinished ranges that nobody works on any more. They never move the watermark: a revoke only stops waiting for them.
    released: Mutex<BTreeMap<i64, i64>>,
    /// Next offset to come from the source; only the poller uses it.
    fetched: AtomicI64,
    /// The leader epoch of what came from there last, or -1; likewise.
    fetched_epoch: AtomicI32,
    /// The leader epoch of the last record handed out; -1 for unknown.
    consumed_epoch: AtomicI32,
    /// The latest leader epoch of what was taken in for handling; -1 for unknown.
    leader_epoch: AtomicI64,
    mapped: Mutex<Mapped>,
    /// There is something in `mapped`.
    has_map: AtomicBool,
    /// Where handing out began, or [`UNKNOWN`].
    start: AtomicI64,
    /// What the application stored itself, or [`UNKNOWN`]; see [`PartitionCell::store`].
    stored: AtomicI64,
    /// The cell before the source went back, and to where. Its records from there on count no more.
    before: Option<(Arc<PartitionCell>, i64)>,
}

impl PartitionCell {
    /// A live cell whose first record to read is `start`, or [`UNKNOWN`].
    pub(crate) fn new(
        topic_partition: TopicPartition,
        generation: Generation,
        start: i64,
    ) -> PartitionCell {
        PartitionCell {
            topic_partition,
            generation,
            state: AtomicU8::new(CellState::Live as u8),
            paused: AtomicBool::new(false),
            handed: AtomicI64::new(start),
            finished: AtomicI64::new(start),
            ahead: Mutex::new(BTreeMap::new()),
            ahead_len: AtomicUsize::new(0),
            ahead_completions: AtomicU64::new(0),
            released: Mutex::new(BTreeMap::new()),
            fetched: AtomicI64::new(start),
            fetched_epoch: AtomicI32::new(-1),
            consumed_epoch: AtomicI32::new(-1),
            leader_epoch: AtomicI64::new(-1),
            mapped: Mutex::new(Mapped::default()),
            has_map: AtomicBool::new(false),
            start: AtomicI64::new(start),
            stored: AtomicI64::new(UNKNOWN),
            before: None,
        }
    }

    /// A cell of which `done` is finished already, if the records there are not of a later leader epoch.
    pub(crate) fn with_map(self, done: Vec<Range<i64>>, leader_epoch: i32) -> PartitionCell {
        PartitionCell {
            leader_epoch: AtomicI64::new(i64::from(leader_epoch)),
            has_map: AtomicBool::new(!done.is_empty()),
            mapped: Mutex::new(Mapped { done, leader_epoch }),
            ..self
        }
    }

    /// Which of these rows, read in this order under `leader_epoch`, were finished before this assignment. The rows must all be
    /// asked about, and once: what was read is forgotten.
    pub(crate) fn rows_done_before(&self, offsets: &[i64], leader_epoch: i32) -> Vec<Range<usize>> {
        let noted = i64::from(leader_epoch);
        if noted > self.leader_epoch.load(Ordering::Relaxed) {
            self.leader_epoch.store(noted, Ordering::Relaxed);
        }
        if !self.has_map.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut mapped = self.mapped.lock();
        if mapped.leader_epoch >= 0 && leader_epoch > mapped.leader_epoch {
            // A leader wrote this that came after everything the map tells of. From here on the log is another one.
            mapped.done.clear();
        }
        let mut rows: Vec<Range<usize>> = Vec::new();
        let mut passed = 0;
        for (row, &offset) in offsets.iter().enumerate() {
            while mapped
                .done
                .get(passed)
                .is_some_and(|range| range.end <= offset)
            {
                passed += 1;
            }
            match mapped.done.get(passed) {
                None => break,
                Some(range) if offset < range.start => {}
                Some(_) => match rows.last_mut() {
                    Some(last) if last.end == row => last.end = row + 1,
                    _ => rows.push(row..row + 1),
                },
            }
        }
        mapped.done.drain(..passed);
        self.has_map
            .store(!mapped.done.is_empty(), Ordering::Release);
        rows
    }

    /// In how many pieces the offsets above the watermark are finished, about.
    pub(crate) fn pieces_ahead(&self) -> usize {
        self.ahead_len.load(Ordering::Relaxed)
    }

    /// The low watermark and what is finished above it, of one moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        // Nothing enters or leaves while it is held; the watermark is read once.
        let ahead = self.ahead.lock();
        let finished = self.finished();
        let is_behind = |(before, place): &(Arc<PartitionCell>, i64)| before.finished() < *place;
        if finished == UNKNOWN || self.before.as_ref().is_some_and(is_behind) {
            // What is ahead belongs to a log that begins further on.
            return Snapshot {
                finished,
                done: Vec::new(),
                leader_epoch: -1,
            };
        }
        let mut done: Vec<_> = ahead.iter().map(|(&start, &end)| start..end).collect();
        if self.has_map.load(Ordering::Acquire) {
            done.extend(self.mapped.lock().done.iter().cloned());
        }
        Snapshot {
            finished,
            done,
            leader_epoch: self.leader_epoch.load(Ordering::Relaxed) as i32,
        }
    }

    /// The cell for what the source delivers from `place` on, having gone back behind what `before` has seen. What waits of
    /// `before` is handed out first; whoever takes the partition away, or pauses it, means both.
    pub(crate) fn following(
        before: &Arc<PartitionCell>,
        generation: Generation,
        place: i64,
    ) -> PartitionCell {
        let cell = PartitionCell::new(before.topic_partition.clone(), generation, UNKNOWN);
        cell.set_paused(before.is_paused());
        PartitionCell {
            before: Some((Arc::clone(before), place)),
            ..cell
        }
    }

    /// Says where a cell begins that was made without knowing; before anything of it is handed out.
    pub(crate) fn begin(&self, start: i64) {
        self.handed.store(start, Ordering::Release);
        self.finished.store(start, Ordering::Release);
        self.start.store(start, Ordering::Release);
        self.note_fetched(start);
    }

    /// The next offset after the last record handed out, and that one's leader epoch or -1; nothing while none was.
    pub(crate) fn consumed(&self) -> Option<(i64, i32)> {
        let handed = self.handed();
        let began = self.before.is_some() || handed != self.start.load(Ordering::Acquire);
        let epoch = self.consumed_epoch.load(Ordering::Relaxed);
        (handed != UNKNOWN && began).then_some((handed, epoch))
    }

    /// The leader epoch of the record before `offset`, if that was the last one handed out.
    pub(crate) fn epoch_before(&self, offset: i64) -> Option<i32> {
        let (next, epoch) = self.consumed()?;
        (next == offset && epoch >= 0).then_some(epoch)
    }

    /// Notes the leader epoch of what is handed out from here on.
    pub(crate) fn note_consumed_epoch(&self, epoch: i32) {
        self.consumed_epoch.store(epoch, Ordering::Relaxed);
    }

    /// The low watermark once a record was finished; nothing before.
    pub(crate) fn touched(&self) -> Option<i64> {
        let finished = self.finished();
        let began = self.before.is_some() || finished != self.start.load(Ordering::Acquire);
        (finished != UNKNOWN && began).then_some(finished)
    }

    /// Notes an offset (*next to read*) that the application wants committed, for consumers that commit nothing else. False
    /// when the partition is gone.
    pub(crate) fn store(&self, offset: i64) -> bool {
        self.stored.store(offset, Ordering::Release);
        self.state() != CellState::Closed
    }

    /// What [`PartitionCell::store`] noted last.
    pub(crate) fn stored(&self) -> Option<i64> {
        Some(self.stored.load(Ordering::Acquire)).filter(|offset| *offset != UNKNOWN)
    }

    /// True when the source went back before this cell, so that records of two logs may be in hand.
    pub(crate) fn went_back(&self) -> bool {
        self.before.is_some()
    }

    /// Next offset to come from the source, or [`UNKNOWN`]. The poller's thread only.
    pub(crate) fn fetched(&self) -> i64 {
        self.fetched.load(Ordering::Relaxed)
    }

    pub(crate) fn note_fetched(&self, next: i64) {
        self.fetched.store(next, Ordering::Relaxed);
    }

    /// The leader epoch of what came from the source last, -1 for unknown. The poller's thread only.
    pub(crate) fn fetched_epoch(&self) -> i32 {
        self.fetched_epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn note_fetched_epoch(&self, epoch: i32) {
        self.fetched_epoch.store(epoch, Ordering::Relaxed);
    }

    pub(crate) fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn state(&self) -> CellState {
        match self.state.load(Ordering::Acquire) {
            0 => CellState::Live,
            1 => CellState::Revoking,
            _ => CellState::Closed,
        }
    }

    /// Moves the state forward; going back is ignored. What [`PartitionCell::has_in_hand`] says afterwards stays true until
    /// it is finished: nothing more is handed out.
    pub(crate) fn advance_state(&self, state: CellState) {
        self.state.fetch_max(state as u8, Ordering::AcqRel);
        // With the fence in `deliver`.
        fence(Ordering::SeqCst);
        if let Some((before, _)) = &self.before {
            before.advance_state(state);
        }
    }

    /// True while records of this cell may be handed out (pause apart).
    pub(crate) fn is_live(&self) -> bool {
        self.state() == CellState::Live
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
        if let Some((before, _)) = &self.before {
            before.set_paused(paused);
        }
    }

    /// Next offset to hand out, or [`UNKNOWN`].
    pub(crate) fn handed(&self) -> i64 {
        match (self.handed.load(Ordering::Acquire), &self.before) {
            (UNKNOWN, Some((before, _))) => before.handed(),
            (handed, _) => handed,
        }
    }

    /// The low watermark: what may be committed, or [`UNKNOWN`].
    pub(crate) fn finished(&self) -> i64 {
        // In this order: what is found unfinished before cannot have been finished when the other was read.
        let finished = self.finished.load(Ordering::Acquire);
        let Some((before, place)) = &self.before else {
            return finished;
        };
        let before = before.finished();
        if before < *place {
            before
        } else if finished == UNKNOWN {
            *place
        } else {
            finished
        }
    }

    /// True when a record handed out is neither finished nor released.
    pub(crate) fn has_in_hand(&self) -> bool {
        if self
            .before
            .as_ref()
            .is_some_and(|(before, _)| before.has_in_hand())
        {
            return true;
        }
        // In this order: `handed` moves before `finished`, so a record that is in hand all the time is seen.
        let mut settled = self.finished.load(Ordering::Acquire);
        let handed = self.handed.load(Ordering::Acquire);
        if settled >= handed {
            return false;
        }
        let ahead = self.ahead.lock();
        let released = self.released.lock();
        while settled < handed {
            let next = end_of_range_at(&ahead, settled).max(end_of_range_at(&released, settled));
            if next <= settled {
                return true;
            }
            settled = next;
        }
        false
    }

    /// Notes that nobody works on the records of `[start, end)` any more, finished or not. They are not committed.
    pub(crate) fn release(&self, start: i64, end: i64) {
        insert(&mut self.released.lock(), start, end);
    }

    /// A number that changes whenever a record is finished, ahead of the watermark or at it.
    pub(crate) fn progress(&self) -> u64 {
        let finished = self.finished.load(Ordering::Acquire) as u64;
        let before = self.before.as_ref();
        finished
            .wrapping_add(self.ahead_completions.load(Ordering::Relaxed))
            .wrapping_add(before.map_or(0, |(before, _)| before.progress()))
    }

    /// Notes that the records of `[first, end)` are handed out. What lies between the last record handed out and `first`
    /// never reached this consumer (compacted away, or a transaction marker) and counts as finished.
    ///
    /// False when the partition is being taken away: then they must not be handed out. One thread at a time.
    pub(crate) fn deliver(&self, first: i64, end: i64) -> bool {
        self.deliver_next(first, end);
        // Either the one who takes the partition away sees what is in hand, or we see the state that it set.
        fence(Ordering::SeqCst);
        if self.is_live() {
            return true;
        }
        self.handed.store(first, Ordering::Release);
        false
    }

    /// As [`PartitionCell::deliver`], for a record that follows one which is still in hand: as long as that one is not
    /// finished, whoever takes the partition away waits, so there is nothing to look at.
    pub(crate) fn deliver_next(&self, first: i64, end: i64) {
        let handed = self.handed.load(Ordering::Acquire);
        if handed == UNKNOWN {
            // All are unknown together, and nothing can have been completed before the first delivery.
            self.start.store(first, Ordering::Release);
            self.finished.store(first, Ordering::Release);
        } else if handed < first {
            self.complete(handed, first);
        }
        self.handed.store(end, Ordering::Release);
    }

    /// The records from `first` on, handed out last, did not reach the application: they are handed out again.
    pub(crate) fn take_back(&self, first: i64) {
        self.handed.store(first, Ordering::Release);
    }

    /// Notes that the records of `[start, end)` are finished. Finishing twice, or in any order, is harmless.
    pub(crate) fn complete(&self, start: i64, end: i64) {
        // SeqCst on both sides: either we see a range that another thread put ahead, or that thread, which reads the
        // watermark after announcing its range, sees ours. With weaker orders both could miss and the watermark would
        // stand still until the next completion.
        if self
            .finished
            .compare_exchange(start, end, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            sequential();
            if self.ahead_len.load(Ordering::SeqCst) > 0 {
                self.absorb(&mut self.ahead.lock());
            }
            return;
        }
        self.ahead_completions.fetch_add(1, Ordering::Relaxed);
        let mut ahead = self.ahead.lock();
        insert(&mut ahead, start, end);
        self.ahead_len.store(ahead.len(), Ordering::SeqCst);
        sequential();
        self.absorb(&mut ahead);
    }

    /// Moves the watermark over the ranges that touch it.
    fn absorb(&self, ahead: &mut BTreeMap<i64, i64>) {
        let mut finished = self.finished.load(Ordering::SeqCst);
        while let Some((&start, &end)) = ahead.first_key_value() {
            if start > finished {
                break;
            }
            if end > finished {
                // A failure means that an in-order completion moved it meanwhile: look again from there.
                if let Err(now) = self.finished.compare_exchange(
                    finished,
                    end,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                ) {
                    finished = now;
                    continue;
                }
                finished = end;
            }
            ahead.remove(&start);
            self.ahead_len.store(ahead.len(), Ordering::SeqCst);
        }
    }
}

/// Where the range that holds `offset` ends, or `offset` if there is none.
fn end_of_range_at(ranges: &BTreeMap<i64, i64>, offset: i64) -> i64 {
    match ranges.range(..=offset).next_back() {
        Some((_, &end)) => end.max(offset),
        None => offset,
    }
}

/// Adds a range, joined with those it overlaps or touches.
fn insert(ranges: &mut BTreeMap<i64, i64>, mut start: i64, mut end: i64) {
    if start >= end {
        return;
    }
    while let Some((&s, &e)) = ranges.range(..=end).next_back() {
        if e < start {
            break;
        }
        start = start.min(s);
        end = end.max(e);
        ranges.remove(&s);
    }
    ranges.insert(start, end);
}

#[cfg(all(test, not(loom)))]
// With a path, for the model checker includes this file from elsewhere.
#[path = "tracker/tests.rs"]
mod tests;
