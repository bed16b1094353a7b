//! Records read from the broker itself, past librdkafka.
//!
//! librdkafka makes an object of each record; for records of 100 bytes that is eight tenths of what reading them costs. A lane
//! ([`lane`]) asks the broker for record batches and unpacks them into columns at a fraction of that. librdkafka keeps everything
//! else: the group, commits, offsets, resets, leader changes, security, and every partition that is not worth the trouble.
//!
//! A partition begins with librdkafka, always. Once enough records of it have come that way it is *taken over*: librdkafka
//! pauses it, and a lane goes on from the first offset that was not delivered. Anything unusual and it goes *back*: librdkafka
//! resumes and seeks to the first offset that the lane has not delivered. So a lane needs to know nothing but how to read, and what
//! it cannot read is read as ever.
//!
//! This module keeps the book: which partition is where, under which ticket. The poller's thread runs it; what it decides is
//! carried out by `source/kafka`, which has librdkafka's client.

mod codec;
mod lane;
mod protocol;
mod records;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use parking_lot::Mutex;

use crate::batch::BatchData;
use crate::log::{self, Level};
use crate::partition::TopicPartition;
use crate::queue::Waker;
use crate::source::FillLimit;
use crate::tracker::{PartitionCell, UNKNOWN};
use lane::{Care, Item, Lane, Ticket};
use protocol::{FetchFrom, FetchOptions};

/// How often it is looked which partitions have become worth it.
const LOOK_US: u64 = 50_000;
/// A partition that a lane would not take, or gave back, is not offered again before.
const AGAIN_US: u64 = 5_000_000;
/// One that a lane cannot read, such as records in an old format.
const UNREADABLE_AGAIN_US: u64 = 120_000_000;
/// librdkafka refuses a seek for moments only.
const RETURN_AGAIN_US: u64 = 50_000;

/// What a consumer's configuration says of fetching.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    client_id: String,
    /// What may wait, unpacked, in the lanes.
    budget_bytes: usize,
    fetch_max_bytes: i32,
    answer_timeout: Duration,
    partition_eof: bool,
    batch: FillLimit,
    fetch: FetchOptions,
    /// A partition is worth it after so many.
    after_records: i64,
}

/// From [`Settings`]'s maker, by name.
pub(crate) struct Wanted {
    pub(crate) client_id: String,
    pub(crate) budget_bytes: usize,
    pub(crate) fetch_max_bytes: i32,
    pub(crate) partition_max_bytes: i32,
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) request_timeout_ms: u64,
    pub(crate) read_committed: bool,
    pub(crate) partition_eof: bool,
    pub(crate) batch: FillLimit,
    pub(crate) after_records: i64,
}

impl From<Wanted> for Settings {
    fn from(wanted: Wanted) -> Settings {
        let wait_ms = u64::try_from(wanted.max_wait_ms).unwrap_or(0);
        Settings {
            client_id: wanted.client_id,
            budget_bytes: wanted.budget_bytes,
            fetch_max_bytes: wanted.fetch_max_bytes,
            answer_timeout: Duration::from_millis(wanted.request_timeout_ms + wait_ms),
            partition_eof: wanted.partition_eof,
            batch: wanted.batch,
            fetch: FetchOptions {
                max_wait_ms: wanted.max_wait_ms,
                min_bytes: wanted.min_bytes,
                partition_max_bytes: wanted.partition_max_bytes,
                read_committed: wanted.read_committed,
            },
            after_records: wanted.after_records,
        }
    }
}

/// The watermarks of partitions that librdkafka does not see fetched. Any thread.
#[derive(Debug, Default)]
pub(crate) struct Watermarks(Mutex<HashMap<TopicPartition, (i64, i64)>>);

impl Watermarks {
    /// The low and the high watermark, of a partition that is read directly.
    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<(i64, i64)> {
        self.0.lock().get(partition).copied()
    }

    fn set(&self, partition: &TopicPartition, low: i64, high: i64) {
        let mut watermarks = self.0.lock();
        // A partition that was taken away meanwhile is not here any more.
        if let Some(known) = watermarks.get_mut(partition) {
            *known = (low, high);
        }
    }

    /// How many partitions are read directly.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Where a broker is that leads a partition.
#[derive(Debug, Clone)]
pub(crate) struct Leader {
    pub(crate) partition: TopicPartition,
    pub(crate) node: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Librdkafka,
    /// A lane is being asked whether it can take it.
    Proposed(i32),
    /// A lane reads it.
    Lane(i32),
    /// On its way back, which librdkafka has refused so far.
    Returning,
}

struct Entry {
    ticket: Ticket,
    cell: Arc<PartitionCell>,
    place: Place,
    /// Records are counted from here.
    base: i64,
    not_before_us: u64,
    /// Where the partition's end was reported last, by whomever.
    end_told: Option<i64>,
}

/// A partition's way back to librdkafka.
#[derive(Debug, Clone)]
pub(crate) struct Return {
    pub(crate) cell: Arc<PartitionCell>,
    /// The first offset that was not delivered.
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    /// It is of a kind that a lane cannot read.
    pub(crate) is_unreadable: bool,
}

/// What the lanes have for the poller.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all of them are batches, and live for a moment"
)]
pub(crate) enum Turn {
    Batch(BatchData),
    /// Librdkafka shall pause this one; then [`Direct::take_over`].
    TakeOver(TakeOver),
    /// Librdkafka shall read on; then [`Direct::returned`].
    Back(Return),
    /// The end of a partition was reached, with a sentence that says so.
    End(TopicPartition, i64, String),
}

/// A partition that a lane is ready for.
pub(crate) struct TakeOver {
    pub(crate) cell: Arc<PartitionCell>,
    node: i32,
    topic_id: [u8; 16],
    leader_epoch: i32,
}

/// The book of a consumer's partitions.
pub(crate) struct Direct {
    settings: Settings,
    waker: Arc<Waker>,
    watermarks: Arc<Watermarks>,
    entries: HashMap<TopicPartition, Entry>,
    tickets: HashMap<Ticket, TopicPartition>,
    lanes: Vec<Lane>,
    /// Which lane is asked first.
    turn: usize,
    last_ticket: Ticket,
    next_look_us: u64,
    /// On their way back, and refused by librdkafka so far; looked at again from `return_again_us` on.
    returns: Vec<Return>,
    return_again_us: u64,
    /// The low watermarks that lanes have seen, of partitions that librdkafka has not begun to read again: its own are of before.
    lows: HashMap<TopicPartition, i64>,
    /// The bytes that wait in all lanes.
    held: Arc<AtomicUsize>,
}

impl Direct {
    pub(crate) fn new(
        settings: Settings,
        waker: &Arc<Waker>,
        watermarks: &Arc<Watermarks>,
    ) -> Direct {
        Direct {
            settings,
            waker: Arc::clone(waker),
            watermarks: Arc::clone(watermarks),
            entries: HashMap::new(),
            tickets: HashMap::new(),
            lanes: Vec::new(),
            turn: 0,
            last_ticket: 0,
            next_look_us: 0,
            returns: Vec::new(),
            return_again_us: 0,
            lows: HashMap::new(),
            held: Arc::default(),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Librdkafka begins to fetch a partition under this cell.
    pub(crate) fn begin(&mut self, cell: &Arc<PartitionCell>) {
        let partition = cell.topic_partition().clone();
        self.forget(&partition);
        self.lows.remove(&partition);
        let ticket = self.ticket();
        self.tickets.insert(ticket, partition.clone());
        let entry = Entry {
            ticket,
            cell: Arc::clone(cell),
            place: Place::Librdkafka,
            base: cell.fetched(),
            not_before_us: 0,
            end_told: None,
        };
        self.entries.insert(partition, entry);
    }

    /// The partition's records come under another cell, as librdkafka went back.
    pub(crate) fn follow(&mut self, cell: &Arc<PartitionCell>) {
        if let Some(entry) = self.entries.get_mut(cell.topic_partition()) {
            entry.cell = Arc::clone(cell);
            entry.base = cell.fetched();
        }
    }

    /// The partition is somebody else's, or read from another place. True when librdkafka had paused it for us.
    pub(crate) fn forget(&mut self, partition: &TopicPartition) -> bool {
        let Some(entry) = self.entries.remove(partition) else {
            return false;
        };
        self.tickets.remove(&entry.ticket);
        self.keep_low(partition);
        self.returns
            .retain(|back| back.cell.topic_partition() != partition);
        if let Place::Proposed(node) | Place::Lane(node) = entry.place
            && let Some(lane) = self.lanes.iter().find(|lane| lane.node == node)
        {
            lane.forget(entry.ticket);
        }
        matches!(entry.place, Place::Lane(_) | Place::Returning)
    }

    /// As [`Direct::forget`] for all, and the connections end.
    pub(crate) fn clear(&mut self) {
        let partitions: Vec<_> = self
            .entries
            .drain()
            .map(|(partition, _)| partition)
            .collect();
        for partition in &partitions {
            self.keep_low(partition);
        }
        self.tickets.clear();
        self.lanes.clear();
        self.returns.clear();
        self.watermarks.0.lock().clear();
    }

    fn keep_low(&mut self, partition: &TopicPartition) {
        if let Some((low, _)) = self.watermarks.0.lock().remove(partition)
            && low >= 0
        {
            self.lows.insert(partition.clone(), low);
        }
    }

    /// The low watermark, where librdkafka's own is of before a lane read the partition.
    pub(crate) fn low(&self, partition: &TopicPartition) -> Option<i64> {
        let low = self.watermarks.get(partition).map(|(low, _)| low);
        low.filter(|low| *low >= 0)
            .or_else(|| self.lows.get(partition).copied())
    }

    /// True while what librdkafka delivers of a partition is not to be taken.
    pub(crate) fn holds(&self, partition: &TopicPartition) -> bool {
        let entry = self.entries.get(partition);
        entry.is_some_and(|entry| matches!(entry.place, Place::Lane(_) | Place::Returning))
    }

    /// Pauses or resumes a partition if it is not with librdkafka; false when it is.
    pub(crate) fn set_paused(&self, partition: &TopicPartition, paused: bool) -> bool {
        match self.entries.get(partition) {
            Some(Entry {
                ticket,
                place: Place::Lane(node),
                ..
            }) => {
                if let Some(lane) = self.lanes.iter().find(|lane| lane.node == *node) {
                    lane.set_paused(*ticket, paused);
                }
                true
            }
            // Librdkafka has it paused, and whoever takes it back looks at the cell.
            Some(Entry {
                place: Place::Returning,
                ..
            }) => true,
            _ => false,
        }
    }

    /// Librdkafka reports a partition's end; false when the application knows already, from a lane.
    pub(crate) fn end_is_news(&mut self, partition: &TopicPartition, offset: i64) -> bool {
        match self.entries.get_mut(partition) {
            Some(entry) => entry.end_told.replace(offset) != Some(offset),
            None => true,
        }
    }

    /// Partitions that have become worth it, looked for now and then.
    pub(crate) fn worthy(&mut self, now_us: u64) -> Vec<TopicPartition> {
        if now_us < self.next_look_us {
            return Vec::new();
        }
        self.next_look_us = now_us + LOOK_US;
        let entries = &self.entries;
        self.lanes.retain(|lane| {
            let is_used = entries.values().any(|entry| {
                matches!(entry.place, Place::Proposed(node) | Place::Lane(node) if node == lane.node)
            });
            is_used || lane.has_items()
        });
        let mut worthy = Vec::new();
        for (partition, entry) in &mut self.entries {
            let fetched = entry.cell.fetched();
            if entry.base == UNKNOWN {
                entry.base = fetched;
            }
            // More than the base: where it begins, and that there is something, was librdkafka's to find out.
            let count = fetched - entry.base;
            if entry.place == Place::Librdkafka
                && now_us >= entry.not_before_us
                && count >= self.settings.after_records.max(1)
                && entry.cell.is_live()
                && !entry.cell.is_paused()
            {
                worthy.push(partition.clone());
            }
        }
        worthy
    }

    /// Proposes partitions to the lanes of their leaders.
    pub(crate) fn propose(&mut self, leaders: &[Leader], asked: &[TopicPartition], now_us: u64) {
        for partition in asked {
            let leader = leaders.iter().find(|leader| leader.partition == *partition);
            let lane = leader.and_then(|leader| self.lane(leader));
            let node = lane.map(|lane| lane.node);
            let Some(entry) = self.entries.get_mut(partition) else {
                continue;
            };
            if entry.place != Place::Librdkafka {
                continue;
            }
            entry.not_before_us = now_us + AGAIN_US;
            if let Some(node) = node
                && let Some(lane) = self.lanes.iter().find(|lane| lane.node == node)
            {
                entry.place = Place::Proposed(node);
                lane.propose(entry.ticket, partition.clone());
            }
        }
    }

    /// The lane to a leader, begun if there is none.
    fn lane(&mut self, leader: &Leader) -> Option<&Lane> {
        let index = self.lanes.iter().position(|lane| lane.node == leader.node);
        let index = match index {
            Some(index) => index,
            None => {
                let lane = Lane::start(
                    leader.node,
                    &leader.host,
                    leader.port,
                    &self.settings,
                    &self.waker,
                    &self.watermarks,
                    &self.held,
                );
                self.lanes.push(lane.ok()?);
                self.lanes.len() - 1
            }
        };
        self.lanes.get(index)
    }

    /// What comes next of all lanes, without waiting.
    pub(crate) fn next(&mut self, now_us: u64) -> Option<Turn> {
        if now_us >= self.return_again_us
            && let Some(back) = self.returns.pop()
        {
            return Some(Turn::Back(back));
        }
        let count = self.lanes.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            while let Some(item) = self.lanes[index].pop() {
                let node = self.lanes[index].node;
                if let Some(turn) = self.take(node, item, now_us) {
                    self.turn = index + 1;
                    return Some(turn);
                }
            }
        }
        None
    }

    /// True when [`Direct::next`] would give nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.returns.is_empty() && !self.lanes.iter().any(Lane::has_items)
    }

    /// What an item of a lane means, unless it is of no meaning any more.
    fn take(&mut self, node: i32, item: Item, now_us: u64) -> Option<Turn> {
        let (ticket, item) = match item {
            Item::Batch(mut batch) => {
                // Rows of cells that are closed by now are dropped where they are handed out.
                batch.received_us = now_us;
                return Some(Turn::Batch(batch));
            }
            Item::Ready { ticket, .. }
            | Item::Declined { ticket }
            | Item::End { ticket, .. }
            | Item::Back { ticket, .. } => (ticket, item),
        };
        let partition = self.tickets.get(&ticket)?.clone();
        let entry = self.entries.get_mut(&partition)?;
        match item {
            Item::Batch(_) => None,
            Item::Declined { .. } => {
                entry.place = Place::Librdkafka;
                None
            }
            Item::Ready {
                topic_id,
                leader_epoch,
                ..
            } => {
                entry.place = Place::Librdkafka;
                let is_wanted = entry.cell.is_live() && !entry.cell.is_paused();
                (is_wanted && entry.cell.fetched() != UNKNOWN).then(|| {
                    Turn::TakeOver(TakeOver {
                        cell: Arc::clone(&entry.cell),
                        node,
                        topic_id,
                        leader_epoch,
                    })
                })
            }
            Item::End {
                offset,
                high_watermark,
                ..
            } => {
                if entry.end_told == Some(offset) {
                    return None;
                }
                entry.end_told = Some(offset);
                // librdkafka's words.
                let reason = format!(
                    "Fetch from broker {node} reached end of partition at offset {offset} (HighwaterMark {high_watermark})"
                );
                Some(Turn::End(partition, offset, reason))
            }
            Item::Back {
                offset,
                leader_epoch,
                why,
                is_unreadable,
                ..
            } => {
                say(format_args!(
                    "{partition} is read through librdkafka again, from {offset} on: {why}"
                ));
                entry.place = Place::Returning;
                Some(Turn::Back(Return {
                    cell: Arc::clone(&entry.cell),
                    offset,
                    leader_epoch,
                    is_unreadable,
                }))
            }
        }
    }

    /// Librdkafka has paused it: its lane goes on from the first offset that was not delivered. False when it does not.
    pub(crate) fn take_over(&mut self, ready: &TakeOver) -> bool {
        let partition = ready.cell.topic_partition();
        let ticket = self.ticket();
        let Some(lane) = self.lanes.iter().find(|lane| lane.node == ready.node) else {
            return false;
        };
        let Some(entry) = self.entries.get_mut(partition) else {
            return false;
        };
        self.tickets.remove(&entry.ticket);
        self.tickets.insert(ticket, partition.clone());
        entry.ticket = ticket;
        entry.place = Place::Lane(ready.node);
        self.watermarks.0.lock().insert(partition.clone(), (-1, -1));
        let offset = ready.cell.fetched();
        say(format_args!(
            "{partition} is read from broker {} directly, from {offset} on",
            ready.node
        ));
        lane.take_over(Care {
            ticket,
            cell: Arc::clone(&ready.cell),
            from: FetchFrom {
                topic_id: ready.topic_id,
                partition: partition.partition,
                leader_epoch: ready.leader_epoch,
                offset,
            },
            epoch: ready.cell.fetched_epoch(),
            paused: ready.cell.is_paused(),
            end_told: entry.end_told,
        });
        true
    }

    /// Librdkafka reads on.
    pub(crate) fn returned(&mut self, back: &Return, now_us: u64) {
        let partition = back.cell.topic_partition();
        self.watermarks.0.lock().remove(partition);
        if let Some(entry) = self.entries.get_mut(partition) {
            entry.place = Place::Librdkafka;
            entry.base = back.offset;
            entry.not_before_us = now_us
                + if back.is_unreadable {
                    UNREADABLE_AGAIN_US
                } else {
                    AGAIN_US
                };
        }
    }

    /// Librdkafka would not read on yet; it is asked again.
    pub(crate) fn not_returned(&mut self, back: Return, now_us: u64) {
        if self.holds(back.cell.topic_partition()) {
            self.return_again_us = now_us + RETURN_AGAIN_US;
            self.returns.push(back);
        }
    }
}

fn say(what: std::fmt::Arguments<'_>) {
    log::emit(Level::Trace, log::TIDEGATE, what);
}
