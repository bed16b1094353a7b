//! librdkafka as a [`Source`], with unsafe FFI.
//!
//! Two queues, both served by the poller's thread only:
//! - the consumer queue (rdkafka's [`BaseConsumer`]): rebalances, errors, statistics, logs. It is never handed to
//!   `rd_kafka_consume_batch_queue`, which would take an event for a message;
//! - the message queue: every assigned partition's queue is forwarded to it *before* `assign`, so all partitions share
//!   one byte limit and one batch call drains them all.
//!
//! Both wake the poller from librdkafka's threads when they turn non-empty, so nobody polls for nothing.
//! Queue handles are destroyed before the consumer (field order below), or librdkafka's destroy would wait for them.

mod assigning;
mod context;
mod lanes;
mod message;
mod queue;
pub(crate) mod reply;
mod taken;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;
use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer as _;
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::batch::{ARENA_LIMIT_BYTES, BatchBuilder, BatchData, TimestampType};
use crate::error::{Error, Result};
use crate::kafka_code;
use crate::log;
use crate::native::offsets::ToCommit;
use crate::native::sasl::{self, Tokens};
use crate::native::{self, throttle};
use crate::notice::ConsumerOptions;
use crate::partition::{Offset, TopicPartition};
use crate::queue::Waker;
use crate::source::direct::{self, Direct, Watermarks};
use crate::source::lookup;
use crate::source::{
    CommitOffset, FetchStart, FillLimit, Protocol, RequestId, Source, SourceEvent,
};
use crate::token::TokenSource;
use crate::tracker::PartitionCell;

pub(crate) use context::Client;
use context::Context;
use message::{
    KNOWN_LAYOUT, Message, error_event, has_no_headers, push_headers, slice, timestamp_type,
    too_large,
};
use queue::Queue;
use reply::commit_replies;
pub(crate) use reply::{cached_watermarks, direct_count, member_id, membership, metadata, replies};
use taken::Taken;

/// librdkafka's main thread answers a seek without the broker, so this is never used up in practice.
const SEEK_WAIT: Duration = Duration::from_millis(500);

/// librdkafka's consumer queue is served so often with nothing in it.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// Where the cell of a message is found: librdkafka's topic handle and the partition.
type RouteKey = (usize, i32);

/// librdkafka's consumer.
pub(crate) struct KafkaSource {
    // Before `client`: fields are dropped in order.
    _tokens: Option<Tokens>,
    taken: Taken,
    messages: Queue,
    replies: Queue,
    /// librdkafka's own handle of the consumer queue, only to ask for its length.
    control: Queue,
    client: Arc<Client>,
    routes: HashMap<TopicPartition, Arc<PartitionCell>>,
    /// The same, by what a message carries; forgotten whenever `routes` changes.
    by_handle: HashMap<RouteKey, Arc<PartitionCell>>,
    /// What was unassigned, and may be stopping yet.
    stopping: HashSet<TopicPartition>,
    lookups: (Sender<SourceEvent>, Receiver<SourceEvent>),
    waker: Arc<Waker>,
    reset: lookup::Reset,
    grouped: bool,
    /// This librdkafka's buffers are laid out as [`has_no_headers`] expects.
    peeks_at_headers: bool,
    /// Partitions that are read past librdkafka, if any may be.
    direct: Option<Direct>,
    leaders: (Sender<lanes::Leaders>, Receiver<lanes::Leaders>),
    asking_leaders: bool,
    /// Whether librdkafka or the lanes are looked at first.
    lanes_first: bool,
    /// When librdkafka's consumer queue was last served.
    polled: Instant,
}

impl KafkaSource {
    /// Creates librdkafka's client. `waker` wakes the poller; log lines and throttling are events where `options` says so; with
    /// `direct` partitions may be read past librdkafka.
    pub(crate) fn new(
        config: &ClientConfig,
        grouped: bool,
        reset: lookup::Reset,
        options: ConsumerOptions,
        waker: &Arc<Waker>,
        tokens: Option<&TokenSource>,
        direct: Option<direct::Settings>,
    ) -> Result<KafkaSource> {
        let watermarks = Arc::new(Watermarks::default());
        let context = Context {
            events: Mutex::new(VecDeque::new()),
            logs: options.logs,
            watermarks: Arc::clone(&watermarks),
        };
        let mut client: Client = config
            .create_with_context(context)
            .map_err(|error| kafka_code::error(&error, "the consumer could not be created"))?;
        if options.throttles {
            throttle::listen(client.client());
        }
        client.set_nonempty_callback({
            let waker = Arc::clone(waker);
            move || waker.wake()
        });
        // SAFETY: the tokens end before the client (field order).
        let tokens = tokens
            .map(|source| unsafe { Tokens::serve(source, &[client.client().native_ptr()]) })
            .transpose()?;
        let messages = Queue::new(&client, waker)?;
        let replies = Queue::new(&client, waker)?;
        let control = Queue::of_consumer(&client, waker)?;
        Ok(KafkaSource {
            _tokens: tokens,
            messages,
            replies,
            control,
            client: Arc::new(client),
            routes: HashMap::new(),
            by_handle: HashMap::new(),
            taken: Taken::new(),
            stopping: HashSet::new(),
            lookups: unbounded(),
            waker: Arc::clone(waker),
            reset,
            grouped,
            // SAFETY: has no precondition.
            peeks_at_headers: KNOWN_LAYOUT.contains(&unsafe { rd::rd_kafka_version() }),
            direct: direct.map(|settings| Direct::new(settings, waker, &watermarks)),
            leaders: unbounded(),
            asking_leaders: false,
            lanes_first: false,
            polled: Instant::now(),
        })
    }

    /// The client, for questions that any thread may ask.
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    fn native(&self) -> *mut rd::rd_kafka_t {
        self.client.client().native_ptr()
    }

    /// Sends a partition's messages to the message queue, or back to where librdkafka puts them by itself.
    fn forward(&self, partition: &TopicPartition, to_us: bool) -> Result<()> {
        let topic = topic_name(&partition.topic)?;
        let target = if to_us {
            self.messages.as_ptr()
        } else {
            ptr::null_mut()
        };
        // SAFETY: the client and both queues are alive; the partition's handle is released right after its use.
        unsafe {
            let queue = rd::rd_kafka_queue_get_partition(
                self.native(),
                topic.as_ptr(),
                partition.partition,
            );
            if queue.is_null() {
                return Err(Error::argument(
                    "partitions",
                    format!("librdkafka knows no partition {partition}"),
                    "name a topic and a partition of this cluster",
                ));
            }
            rd::rd_kafka_queue_forward(queue, target);
            rd::rd_kafka_queue_destroy(queue);
        }
        Ok(())
    }

    fn set_route(&mut self, cell: &Arc<PartitionCell>) {
        self.routes
            .insert(cell.topic_partition().clone(), Arc::clone(cell));
        self.by_handle.clear();
    }

    /// The cell for a message, if its partition is still ours.
    fn route(&mut self, message: &rd::rd_kafka_message_t) -> Option<Arc<PartitionCell>> {
        let key = (message.rkt as usize, message.partition);
        if let Some(cell) = self.by_handle.get(&key) {
            return Some(Arc::clone(cell));
        }
        // SAFETY: a message keeps its topic handle alive, and librdkafka's name of it is a C string.
        let topic = unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(message.rkt)) };
        let partition = TopicPartition::new(topic.to_string_lossy(), message.partition);
        if self.is_read_directly(&partition) {
            return None;
        }
        let cell = self.routes.get(&partition)?;
        self.by_handle.insert(key, Arc::clone(cell));
        Some(Arc::clone(cell))
    }

    /// Appends one message to the batch; `run` is what the rows pushed last share. False, and nothing is appended, when the
    /// batch's arena cannot hold it.
    ///
    /// # Safety
    ///
    /// `message` must be alive.
    #[inline]
    unsafe fn push(
        &mut self,
        builder: &mut BatchBuilder,
        run: &mut Option<(RouteKey, i32, TimestampType)>,
        message: Message,
    ) -> bool {
        // SAFETY: alive by contract; librdkafka's key and payload pointers are valid for their lengths.
        let (record, key, value, leader_epoch, timestamp_ms, kind) = unsafe {
            let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            let timestamp_ms = rd::rd_kafka_message_timestamp(message, &raw mut kind);
            let leader_epoch = rd::rd_kafka_message_leader_epoch(message);
            let record = &*message;
            let key = slice(record.key, record.key_len);
            let value = slice(record.payload, record.len);
            (record, key, value, leader_epoch, timestamp_ms, kind)
        };
        let this = (
            (record.rkt as usize, record.partition),
            leader_epoch,
            timestamp_type(kind),
        );
        if *run != Some(this) {
            let Some(cell) = self.route(record) else {
                // Revoked meanwhile: its new owner reads it.
                return true;
            };
            cell.note_fetched_epoch(leader_epoch);
            builder.begin_run(&cell, leader_epoch, this.2);
            *run = Some(this);
        }
        if !builder.push(record.partition, record.offset, timestamp_ms, key, value) {
            return false;
        }
        // SAFETY: alive by contract; `value` is the message's own.
        let fits = unsafe {
            (self.peeks_at_headers && leader_epoch >= 0 && has_no_headers(value))
                || push_headers(builder, message)
        };
        if !fits {
            builder.drop_row();
        }
        fits
    }
}

impl Source for KafkaSource {
    fn subscribe(&mut self, topics: &[String]) -> Result<()> {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.client
            .subscribe(&topics)
            .map_err(|error| kafka_code::error(&error, format!("subscribe to {topics:?}")))
    }

    fn unsubscribe(&mut self) {
        self.client.unsubscribe();
    }

    fn events(&mut self, events: &mut VecDeque<SourceEvent>) {
        // Also with nothing to serve: it tells librdkafka's own max.poll.interval.ms that somebody is alive.
        let is_time = self.polled.elapsed() >= POLL_EVERY;
        while is_time || !self.control.is_empty() {
            self.polled = Instant::now();
            let was_empty = self.control.is_empty();
            // Serves one event; errors also come through the context, with their text.
            if let Some(Ok(message)) = self.client.poll(Duration::ZERO) {
                self.take_back(&message, events);
            }
            if was_empty {
                break;
            }
        }
        events.append(&mut self.client.context().events.lock());
        while let Ok(event) = self.lookups.1.try_recv() {
            events.push_back(event);
        }
        commit_replies(&self.replies, events);
    }

    fn fill(
        &mut self,
        limit: FillLimit,
        now_us: u64,
        events: &mut VecDeque<SourceEvent>,
    ) -> Option<BatchData> {
        self.look_for_worthy(now_us);
        // Neither waits behind a flood of the other.
        self.lanes_first = !self.lanes_first;
        if self.lanes_first {
            self.fill_direct(now_us, events)
                .or_else(|| self.fill_forwarded(limit, now_us, events))
        } else {
            self.fill_forwarded(limit, now_us, events)
                .or_else(|| self.fill_direct(now_us, events))
        }
    }

    fn is_idle(&self) -> bool {
        self.taken.is_empty()
            && self.messages.is_empty()
            && self.control.is_empty()
            && self.replies.is_empty()
            && self.lookups.1.is_empty()
            && self.client.context().events.lock().is_empty()
            && self.direct.as_ref().is_none_or(Direct::is_idle)
    }

    fn look_up_starts(&mut self, id: RequestId, partitions: &[TopicPartition]) {
        let client = Arc::clone(&self.client);
        let sender = self.lookups.0.clone();
        let waker = Arc::clone(&self.waker);
        let partitions = partitions.to_vec();
        let reset = self.reset;
        // The look-up waits for the broker, and the poller must not.
        let spawned = std::thread::Builder::new()
            .name("tidegate-lookup".into())
            .spawn(move || {
                let event = lookup::starts(&client, id, partitions, reset);
                // Released before the poller hears of it, so that the poller's is the last handle when it closes.
                drop(client);
                let _ = sender.send(event);
                waker.wake();
            });
        if let Err(error) = spawned {
            let _ = self.lookups.0.send(SourceEvent::Starts {
                id,
                starts: Vec::new(),
                error: Some(Error::TimedOut {
                    what: format!("starting a thread to look up offsets ({error})"),
                    timeout_ms: 0,
                }),
            });
        }
    }

    fn assign(&mut self, protocol: Protocol, partitions: &[FetchStart]) -> Result<()> {
        self.stop_reassigned(protocol, partitions);
        if protocol == Protocol::Eager {
            self.taken.clear();
            self.stopping
                .extend(self.routes.drain().map(|(held, _)| held));
            self.by_handle.clear();
            self.direct.iter_mut().for_each(Direct::clear);
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for start in partitions {
            let partition = start.cell.topic_partition();
            self.forward(partition, true)?;
            self.set_route(&start.cell);
            self.stopping.remove(partition);
            list.add_partition_offset(
                &partition.topic,
                partition.partition,
                self.native_start(partition, start.offset),
            )
            .map_err(|error| kafka_code::error(&error, format!("assign {partition}")))?;
        }
        match protocol {
            Protocol::Cooperative => self.client.incremental_assign(&list),
            Protocol::Eager => self.client.assign(&list),
        }
        .map_err(|error| kafka_code::error(&error, "assign"))?;
        // librdkafka keeps a pause across assignments; the new cell is not paused.
        if list.count() > 0 {
            let _ = self.client.resume(&list);
        }
        if let Some(direct) = &mut self.direct {
            partitions
                .iter()
                .for_each(|start| direct.begin(&start.cell));
        }
        Ok(())
    }

    fn refuse(&mut self, protocol: Protocol, partitions: &[TopicPartition]) -> Result<()> {
        self.forget(protocol, partitions);
        let result = match protocol {
            // librdkafka waits for a call of this kind, takes one that adds nothing, and takes no unassign for an answer.
            Protocol::Cooperative => self.client.incremental_assign(&TopicPartitionList::new()),
            Protocol::Eager => self.client.assign(&TopicPartitionList::new()),
        };
        self.forward_back(partitions);
        result.map_err(|error| kafka_code::error(&error, "give partitions back"))
    }

    fn unassign(&mut self, protocol: Protocol, partitions: &[TopicPartition]) -> Result<()> {
        self.forget(protocol, partitions);
        let result = match protocol {
            Protocol::Cooperative => self.unassign_some(partitions),
            Protocol::Eager => self.client.unassign(),
        };
        // After unassign, which purges what is fetched: nothing reaches the consumer queue.
        self.forward_back(partitions);
        result.map_err(|error| kafka_code::error(&error, "unassign"))
    }

    fn seek(&mut self, start: &FetchStart) -> Result<()> {
        let partition = start.cell.topic_partition();
        let context = || format!("seek {partition} to {}", start.offset);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(
            &partition.topic,
            partition.partition,
            self.native_start(partition, start.offset),
        )
        .map_err(|error| kafka_code::error(&error, context()))?;
        // What is still queued from the place before is nobody's until the new cell has the route.
        self.taken.forget(partition);
        self.routes.remove(partition);
        self.by_handle.clear();
        let direct = self.direct.as_mut();
        if direct.is_some_and(|direct| direct.forget(partition)) && !start.cell.is_paused() {
            // Before the seek, whose word on where to go on is the last.
            let _ = self.client.resume(&list);
        }
        let answers = self
            .client
            .seek_partitions(list, SEEK_WAIT)
            .map_err(|error| kafka_code::error(&error, context()))?;
        for element in answers.elements() {
            element
                .error()
                .map_err(|error| kafka_code::error(&error, context()))?;
        }
        self.set_route(&start.cell);
        if let Some(direct) = &mut self.direct {
            direct.begin(&start.cell);
        }
        Ok(())
    }

    fn follow(&mut self, cell: &Arc<PartitionCell>, _place: i64) {
        if self.routes.contains_key(cell.topic_partition()) {
            self.set_route(cell);
            self.direct
                .iter_mut()
                .for_each(|direct| direct.follow(cell));
        }
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<()> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            let direct = self.direct.as_ref();
            if !direct.is_some_and(|direct| direct.set_paused(partition, paused)) {
                list.add_partition(&partition.topic, partition.partition);
            }
        }
        if list.count() == 0 {
            return Ok(());
        }
        if paused {
            self.client.pause(&list)
        } else {
            self.client.resume(&list)
        }
        .map_err(|error| kafka_code::error(&error, if paused { "pause" } else { "resume" }))
    }

    fn commit(&mut self, id: RequestId, offsets: &[CommitOffset]) -> Result<()> {
        let to_commit = offsets.iter().map(|commit| ToCommit {
            partition: &commit.topic_partition,
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata.as_deref(),
        });
        let list = native::offsets::list(to_commit, "commit")?;
        // SAFETY: the list is copied by the call; without a callback the reply becomes an event on `replies` that
        // carries the id back as its opaque pointer, which nobody dereferences.
        let err = unsafe {
            rd::rd_kafka_commit_queue(
                self.native(),
                list.ptr(),
                self.replies.as_ptr(),
                None,
                ptr::without_provenance_mut::<c_void>(id.0 as usize),
            )
        };
        match kafka_code::from_number(err as i32) {
            code if code.number() == 0 => Ok(()),
            code => Err(Error::Kafka {
                code,
                context: "commit".into(),
            }),
        }
    }

    fn begin_close(&mut self) {
        self.taken.clear();
        self.direct.iter_mut().for_each(Direct::clear);
        if let Err(error) = self.client.close_queue() {
            log::warn(format_args!("leaving the group: {error}"));
        }
    }

    fn is_closed(&self) -> bool {
        self.client.closed()
    }
}

impl KafkaSource {
    /// What librdkafka has fetched.
    fn fill_forwarded(
        &mut self,
        limit: FillLimit,
        now_us: u64,
        events: &mut VecDeque<SourceEvent>,
    ) -> Option<BatchData> {
        loop {
            let (count, bytes) = self.taken.gather(&self.messages, limit);
            if count == 0 {
                return None;
            }
            let mut builder = BatchBuilder::with_capacity(count, bytes.min(ARENA_LIMIT_BYTES));
            let mut run = None;
            for _ in 0..count {
                let Some(message) = self.taken.front() else {
                    break;
                };
                // SAFETY: alive until `drop_front`.
                unsafe {
                    if (*message).err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                        let event = error_event(message);
                        if lanes::is_news(self, &event) {
                            events.push_back(event);
                        }
                    } else if !self.push(&mut builder, &mut run, message) {
                        if builder.len() > 0 {
                            // Begins the next batch.
                            break;
                        }
                        events.push_back(SourceEvent::Error(too_large(message)));
                    }
                }
                self.taken.drop_front();
                // Headers are seen only here.
                if builder.arena_bytes() >= limit.bytes {
                    break;
                }
            }
            if builder.len() > 0 {
                return Some(builder.finish(now_us));
            }
            // Errors only, or messages of partitions that are gone: there may be more behind them.
        }
    }

    fn is_read_directly(&self, partition: &TopicPartition) -> bool {
        let direct = self.direct.as_ref();
        direct.is_some_and(|direct| direct.holds(partition))
    }

    /// librdkafka's offset. Without a group there is no committed offset to ask for.
    fn native_start(&self, partition: &TopicPartition, offset: Offset) -> rdkafka::Offset {
        let native = match offset {
            Offset::Stored if !self.grouped => match self.reset {
                lookup::Reset::Beginning => rdkafka::Offset::Beginning,
                lookup::Reset::End => rdkafka::Offset::End,
                lookup::Reset::Never => rdkafka::Offset::Invalid,
            },
            offset => lookup::native(offset),
        };
        // librdkafka takes the beginning that its own last fetch has seen, which may be gone since a lane reads the partition.
        let low = self.direct.as_ref().and_then(|d| d.low(partition));
        match (native, low) {
            (rdkafka::Offset::Beginning, Some(low)) => rdkafka::Offset::Offset(low),
            (native, _) => native,
        }
    }

    /// A message on the consumer queue: its partition was not forwarded in time. It is fetched again from there, so it
    /// is neither lost nor out of order.
    fn take_back(
        &self,
        message: &rdkafka::message::BorrowedMessage<'_>,
        events: &mut VecDeque<SourceEvent>,
    ) {
        use rdkafka::Message as _;
        let offset = rdkafka::Offset::Offset(message.offset());
        let seek = self
            .client
            .seek(message.topic(), message.partition(), offset, Duration::ZERO);
        if let Err(error) = seek {
            events.push_back(SourceEvent::Error(kafka_code::error(
                &error,
                format!("fetch {} [{}] again", message.topic(), message.partition()),
            )));
        }
    }
}

/// New user name and password, from the next connection on.
pub(crate) fn set_sasl_credentials(client: &Client, username: &str, password: &str) -> Result<()> {
    // SAFETY: the client is alive, as long as the reference.
    unsafe { sasl::set_credentials(client.client().native_ptr(), username, password) }
}

fn topic_name(topic: &str) -> Result<CString> {
    CString::new(topic).map_err(|_| {
        Error::argument(
            "topic",
            format!("{topic:?} holds a NUL byte"),
            "use a topic name of letters, digits, '.', '_' and '-'",
        )
    })
}
