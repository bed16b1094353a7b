//! What the poller and the application's side of one consumer both see.
//!
//! Everything is an atomic, a channel, or a lock held for a few instructions and never while user code runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Mutex, RwLock};

use crate::error::Error;
use crate::log;
use crate::notice::{ConsumerOptions, Notice};
use crate::partition::TopicPartition;
use crate::queue::Waker;
use crate::ready::Ready;
use crate::stats::ConsumerMetrics;
use crate::tracker::PartitionCell;

/// What the application's thread must do or hear when it polls next.
#[derive(Debug)]
pub(crate) enum AppEvent {
    Assigned(Vec<TopicPartition>),
    /// The poller waits, with a bound, until `done` is dropped; when the bound is over its end is gone.
    Revoking {
        partitions: Vec<TopicPartition>,
        done: Sender<()>,
    },
    Lost(Vec<TopicPartition>),
    PartitionEof {
        /// Of the assignment in which the end was reached; none when it is gone.
        cell: Option<Arc<PartitionCell>>,
        topic_partition: TopicPartition,
        offset: i64,
        /// Handed out up to here, every record before the end was.
        after: i64,
        reason: String,
    },
    Error {
        error: Error,
        partition: Option<TopicPartition>,
    },
    /// Only an application that asks for notices is told of these.
    Notice(Notice),
    /// Partitions were resumed: what was kept back may be handed out.
    Resumed,
    /// Return from waiting.
    Wake,
    /// The consumer is closed.
    Closed,
}

/// Shared by the poller and the application's side.
pub(crate) struct Shared {
    pub(crate) waker: Arc<Waker>,
    pub(crate) stats: ConsumerMetrics,
    pub(crate) assigned: RwLock<Vec<Arc<PartitionCell>>>,
    /// Topics of which a partition was ever assigned.
    pub(crate) topics_seen: Mutex<BTreeSet<Arc<str>>>,
    pub(crate) librdkafka_stats: Mutex<Option<String>>,
    /// Armed while an application in an event loop waits to be told.
    pub(crate) ready: Ready,
    /// What the application asks to be told.
    pub(crate) options: ConsumerOptions,
    events: Sender<AppEvent>,
    /// The application has something in `events`; looked at once per record handed out.
    attention: AtomicBool,
    calls: AtomicU64,
    app_waiting: AtomicBool,
    /// Handlers have records; see `set_engaged`.
    engaged: AtomicBool,
    answers: AtomicU64,
    subscribed: AtomicBool,
    closing: AtomicBool,
    /// How long the maps of finished offsets may be that go with commits; 0 for none.
    offset_map_bytes: AtomicUsize,
    /// Transactions commit what is finished, and nothing else does.
    transactional: AtomicBool,
}

impl Shared {
    /// The shared part, and the receiving end of what it tells the application.
    pub(crate) fn new(
        waker: Arc<Waker>,
        options: ConsumerOptions,
    ) -> (Arc<Shared>, Receiver<AppEvent>) {
        let (events, receiver) = unbounded();
        let shared = Shared {
            waker,
            stats: ConsumerMetrics::default(),
            assigned: RwLock::new(Vec::new()),
            topics_seen: Mutex::default(),
            librdkafka_stats: Mutex::new(None),
            ready: Ready::new(),
            options,
            events,
            attention: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            app_waiting: AtomicBool::new(false),
            engaged: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            subscribed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            offset_map_bytes: AtomicUsize::new(0),
            transactional: AtomicBool::new(false),
        };
        (Arc::new(shared), receiver)
    }

    /// Leaves something for the application's thread and wakes it if it waits.
    pub(crate) fn tell(&self, event: AppEvent) {
        // The receiver is gone only while the consumer is dropped, when nobody is there to be told.
        let _ = self.events.send(event);
        self.set_attention();
        self.raise_ready();
        // It may be driving the poller, and sleeps then where the poller does.
        self.waker.wake();
    }

    /// To be called after leaving something for the application, a batch or an event.
    pub(crate) fn raise_ready(&self) {
        if !self.ready.raise() {
            log::warn(format_args!("the ready callback panicked; it stays set"));
        }
    }

    pub(crate) fn set_attention(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// True when there is something to receive.
    pub(crate) fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::Acquire)
    }

    /// To be called before receiving, so that nothing told meanwhile is overlooked.
    pub(crate) fn attend(&self) {
        self.attention.store(false, Ordering::SeqCst);
    }

    /// Counts an error of librdkafka or the broker, and decides who hears of it. librdkafka goes on by itself after most
    /// of them, so a broker that is away is one line in the log; what only the application can mend comes out of its poll.
    pub(crate) fn source_error(&self, error: Error) {
        self.error_of(None, error);
    }

    /// As `source_error`, of one partition.
    pub(crate) fn error_of(&self, partition: Option<TopicPartition>, error: Error) {
        self.stats.errors.add(1);
        if self.options.errors || needs_the_application(&error) {
            self.tell(AppEvent::Error { error, partition });
        } else {
            log::warn(format_args!("{error}"));
        }
    }

    /// Says whether handlers have records. While they do, only what they answer is progress: the thread that polls for them
    /// would hide that they are stuck.
    pub(crate) fn set_engaged(&self, engaged: bool) {
        if self.engaged.load(Ordering::Relaxed) != engaged {
            self.engaged.store(engaged, Ordering::SeqCst);
        }
    }

    /// Notes that handlers have answered.
    pub(crate) fn note_answers(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the application is alive; only the thread that polls calls this.
    pub(crate) fn note_call(&self) {
        if self.engaged.load(Ordering::Relaxed) {
            return;
        }
        let calls = self.calls.load(Ordering::Relaxed);
        self.calls.store(calls.wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn progress(&self) -> u64 {
        self.calls
            .load(Ordering::Relaxed)
            .wrapping_add(self.answers.load(Ordering::Relaxed))
    }

    pub(crate) fn set_app_waiting(&self, waiting: bool) {
        self.app_waiting.store(waiting, Ordering::SeqCst);
    }

    pub(crate) fn is_app_waiting(&self) -> bool {
        self.app_waiting.load(Ordering::SeqCst) && !self.engaged.load(Ordering::SeqCst)
    }

    pub(crate) fn set_subscribed(&self, subscribed: bool) {
        self.subscribed.store(subscribed, Ordering::SeqCst);
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::SeqCst)
    }

    pub(crate) fn set_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(crate) fn set_offset_map_bytes(&self, bytes: usize) {
        self.offset_map_bytes.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn offset_map_bytes(&self) -> usize {
        self.offset_map_bytes.load(Ordering::SeqCst)
    }

    /// From now on transactions commit what is finished. For good: nobody knows when the last of them, which may be in doubt, ends,
    /// and a commit beside it could take back what it commits.
    pub(crate) fn set_transactional(&self) {
        self.transactional.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.transactional.load(Ordering::SeqCst)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

/// Errors after which librdkafka cannot help itself.
fn needs_the_application(error: &Error) -> bool {
    let Some(code) = error.kafka_code() else {
        return true;
    };
    code.is_fatal()
        || matches!(
            code.name(),
            "_AUTO_OFFSET_RESET"
                | "_FATAL"
                | "_INVALID_ARG"
                | "TOPIC_AUTHORIZATION_FAILED"
                | "GROUP_AUTHORIZATION_FAILED"
                | "CLUSTER_AUTHORIZATION_FAILED"
                | "SASL_AUTHENTICATION_FAILED"
                | "TOPIC_EXCEPTION"
                | "INVALID_GROUP_ID"
                | "INCONSISTENT_GROUP_PROTOCOL"
                | "FENCED_INSTANCE_ID"
                | "UNRELEASED_INSTANCE_ID"
                | "UNSUPPORTED_ASSIGNOR"
                | "GROUP_MAX_SIZE_REACHED"
        )
}
