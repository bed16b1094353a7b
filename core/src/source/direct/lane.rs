//! A lane: one thread with one connection to one broker, which fetches the partitions that were given to it.
//!
//! The thread asks for the next records before it unpacks those that came, so that broker and lane work at the same time. It
//! never asks for more than there is room for. What it has unpacked waits in a queue for the poller, one item per batch.
//!
//! Whatever is out of the ordinary (an error of the broker, a lost connection, bytes that cannot be read) ends the lane's care of
//! the partitions concerned: they go back to librdkafka, each at the first offset that was not delivered, and librdkafka deals
//! with it as it always does. So there is no second implementation of leader changes, resets and truncations.
//!
//! The poller's thread calls [`Lane`]; the lane's own thread runs [`Worker`] (`worker.rs`). They share [`State`] under a lock that is taken once
//! per answer and once per batch, and never while waiting for the network.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::protocol::FetchFrom;
use super::worker::Worker;
use super::{Settings, Watermarks};
use crate::batch::BatchData;
use crate::partition::TopicPartition;
use crate::queue::Waker;
use crate::tracker::PartitionCell;
use crate::wire::Uuid;

/// How often a lane that has no room looks whether it has, should a wake-up be missing.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// So many wait at most, however small: each takes more than its bytes.
const MOST_ITEMS: usize = 256;

/// Which care of a partition something belongs to; what comes of an earlier one is stale.
pub(super) type Ticket = u64;

/// A partition in a lane's care.
pub(super) struct Care {
    pub(super) ticket: Ticket,
    pub(super) cell: Arc<PartitionCell>,
    pub(super) from: FetchFrom,
    /// The leader epoch of what was read last.
    pub(super) epoch: i32,
    pub(super) paused: bool,
    /// Where its end was reported last.
    pub(super) end_told: Option<i64>,
}

/// What a lane tells the poller, in order.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are batches")]
pub(super) enum Item {
    Batch(BatchData),
    /// The lane can take over a partition that was proposed to it.
    Ready {
        ticket: Ticket,
        topic_id: Uuid,
        leader_epoch: i32,
    },
    /// It cannot.
    Declined {
        ticket: Ticket,
    },
    /// The end of a partition was reached.
    End {
        ticket: Ticket,
        offset: i64,
        high_watermark: i64,
    },
    /// The lane's care has ended, and `offset` is the first that was not delivered.
    Back {
        ticket: Ticket,
        offset: i64,
        leader_epoch: i32,
        why: String,
        /// It is of a kind that a lane cannot read.
        is_unreadable: bool,
    },
}

#[derive(Default)]
pub(super) struct State {
    pub(super) proposals: Vec<(Ticket, TopicPartition)>,
    pub(super) cares: Vec<Care>,
    /// Which of `cares` comes first in the next request, so that each gets its turn.
    pub(super) first: usize,
    pub(super) items: VecDeque<Item>,
    /// Of the batches among `items`.
    pub(super) item_bytes: usize,
    pub(super) stop: bool,
    /// The thread is gone, or about to be.
    pub(super) over: bool,
    /// The connection, to end what the thread waits for.
    pub(super) stream: Option<TcpStream>,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// There is something to do, or room.
    pub(super) changed: Condvar,
    pub(super) settings: Settings,
    pub(super) waker: Arc<Waker>,
    pub(super) watermarks: Arc<Watermarks>,
    pub(super) has_items: AtomicBool,
    /// The bytes that wait in all lanes of the consumer.
    pub(super) held: Arc<AtomicUsize>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.held
            .fetch_sub(self.state.get_mut().item_bytes, Ordering::Relaxed);
    }
}

/// The poller's handle of a lane. Dropping it ends the lane, without waiting for it.
pub(super) struct Lane {
    pub(super) node: i32,
    shared: Arc<Shared>,
}

impl Lane {
    pub(super) fn start(
        node: i32,
        host: &str,
        port: u16,
        settings: &Settings,
        waker: &Arc<Waker>,
        watermarks: &Arc<Watermarks>,
        held: &Arc<AtomicUsize>,
    ) -> std::io::Result<Lane> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            settings: settings.clone(),
            waker: Arc::clone(waker),
            watermarks: Arc::clone(watermarks),
            has_items: AtomicBool::new(false),
            held: Arc::clone(held),
        });
        let worker = Worker::new(node, Arc::clone(&shared));
        let host = host.to_string();
        std::thread::Builder::new()
            .name(format!("tidegate-fetch-{node}"))
            .spawn(move || worker.run(&host, port))?;
        Ok(Lane { node, shared })
    }

    /// True while something is to be popped.
    pub(super) fn has_items(&self) -> bool {
        self.shared.has_items.load(Ordering::Acquire)
    }

    /// Asks whether it could take this partition.
    pub(super) fn propose(&self, ticket: Ticket, partition: TopicPartition) {
        let mut state = self.shared.state.lock();
        if state.over {
            self.shared.tell(&mut state, Item::Declined { ticket });
            return;
        }
        state.proposals.push((ticket, partition));
        self.shared.changed.notify_one();
    }

    /// Gives it a partition that it was ready for.
    pub(super) fn take_over(&self, care: Care) {
        let mut state = self.shared.state.lock();
        if state.over {
            let back = Item::Back {
                ticket: care.ticket,
                offset: care.from.offset,
                leader_epoch: care.epoch,
                why: "the connection is gone".into(),
                is_unreadable: false,
            };
            self.shared.tell(&mut state, back);
            return;
        }
        state.cares.push(care);
        // Partitions of a topic stand together in a request.
        state
            .cares
            .sort_by_key(|care| (care.from.topic_id, care.from.partition));
        self.shared.changed.notify_one();
    }

    /// Takes a partition away; what it has unpacked of it is stale.
    pub(super) fn forget(&self, ticket: Ticket) {
        let mut state = self.shared.state.lock();
        state.cares.retain(|care| care.ticket != ticket);
        state.proposals.retain(|(proposed, _)| *proposed != ticket);
    }

    pub(super) fn set_paused(&self, ticket: Ticket, paused: bool) {
        let mut state = self.shared.state.lock();
        if let Some(care) = state.cares.iter_mut().find(|care| care.ticket == ticket) {
            care.paused = paused;
            self.shared.changed.notify_one();
        }
    }

    /// The next item, without waiting.
    pub(super) fn pop(&self) -> Option<Item> {
        if !self.shared.has_items.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.shared.state.lock();
        let item = state.items.pop_front();
        if state.items.is_empty() {
            self.shared.has_items.store(false, Ordering::Release);
        }
        if let Some(Item::Batch(batch)) = &item {
            state.item_bytes -= batch.size_bytes();
            self.shared
                .held
                .fetch_sub(batch.size_bytes(), Ordering::Relaxed);
            self.shared.changed.notify_one();
        }
        item
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.stop = true;
        if let Some(stream) = &state.stream {
            // Ends a read that is under way.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_one();
    }
}

impl Shared {
    pub(super) fn tell(&self, state: &mut State, item: Item) {
        if let Item::Batch(batch) = &item {
            state.item_bytes += batch.size_bytes();
            self.held.fetch_add(batch.size_bytes(), Ordering::Relaxed);
        }
        state.items.push_back(item);
        self.has_items.store(true, Ordering::Release);
        if state.items.len() == 1 {
            self.waker.wake();
        }
    }

    /// How many bytes may be asked for while so many are still to be unpacked. A little is not worth a request, unless nothing
    /// is here at all: then even a budget smaller than a record makes progress, and no lane waits behind the others for ever.
    pub(super) fn room(&self, state: &State, unpacked_bytes: usize) -> Option<i32> {
        let own = state.item_bytes + unpacked_bytes;
        let held = self.held.load(Ordering::Relaxed) + unpacked_bytes;
        let free = self.settings.budget_bytes.saturating_sub(held);
        let most = usize::try_from(self.settings.fetch_max_bytes).unwrap_or(1);
        let is_little = free < most.min(self.settings.budget_bytes / 2);
        if (own > 0 && is_little) || state.items.len() >= MOST_ITEMS {
            return None;
        }
        i32::try_from(free.min(most).max(1)).ok()
    }
}
