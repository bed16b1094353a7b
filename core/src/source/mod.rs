//! Where records come from: the trait that the poller drives, and what it hears from it.
//!
//! Everything here runs on the poller's thread and never waits. A source delivers whole batches of columns over
//! reference-counted arenas; nothing outside `source/` knows where the bytes came from.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::BatchData;
use crate::error::{Error, Result};
use crate::partition::{Offset, TopicPartition};
use crate::tracker::PartitionCell;

pub(crate) mod direct;
pub(crate) mod kafka;
pub(crate) mod lookup;
#[cfg(test)]
pub(crate) mod scripted;

/// Names a commit or a lookup, so that its answer finds the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// How the group hands partitions over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Each assignment replaces the one before it.
    Eager,
    /// Assignments add and take away (cooperative, and KIP-848).
    Cooperative,
}

/// A partition to fetch, and from where.
#[derive(Debug, Clone)]
pub(crate) struct FetchStart {
    pub(crate) cell: Arc<PartitionCell>,
    pub(crate) offset: Offset,
}

/// Next-to-read offset to commit for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitOffset {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) offset: i64,
    /// Of the record before it; none where that is not known.
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) metadata: Option<String>,
}

/// Where a partition is to be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartPosition {
    /// The group has committed this, with this metadata.
    Committed(i64, Option<String>),
    /// The group has committed nothing; `auto.offset.reset` means this offset now.
    Resolved(i64),
    /// Could not be found out; the source resolves it when it can.
    Unknown,
}

/// How many records and bytes one fill may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FillLimit {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

/// What the source tells the poller.
#[derive(Debug)]
pub(crate) enum SourceEvent {
    /// The group gives these partitions. The source waits for [`Source::assign`] or [`Source::refuse`].
    Assign {
        partitions: Vec<TopicPartition>,
        protocol: Protocol,
    },
    /// The group takes these partitions. The source waits for [`Source::unassign`].
    Revoke {
        partitions: Vec<TopicPartition>,
        protocol: Protocol,
        /// They are gone already; committing for them is wrong.
        lost: bool,
    },
    /// The answer to [`Source::look_up_starts`].
    Starts {
        id: RequestId,
        starts: Vec<(TopicPartition, StartPosition)>,
        /// Why some are unknown.
        error: Option<Error>,
    },
    /// The answer to [`Source::commit`]; per partition what the broker said.
    Committed {
        id: RequestId,
        result: Result<()>,
        partitions: Vec<(TopicPartition, Result<()>)>,
    },
    /// The end of a partition was reached (only with `enable.partition.eof`).
    PartitionEof {
        topic_partition: TopicPartition,
        offset: i64,
        /// The source's sentence.
        reason: String,
    },
    /// Something failed; librdkafka goes on by itself unless the error is fatal.
    Error(Error),
    /// As `Error`, of one partition.
    PartitionError {
        topic_partition: TopicPartition,
        error: Error,
    },
    /// A line of librdkafka's log, where it is asked for.
    Log {
        level: i32,
        facility: String,
        message: String,
    },
    /// librdkafka's own statistics (JSON).
    Statistics(String),
    /// A broker held a request back, where it is asked for.
    Throttle {
        broker: String,
        broker_id: i32,
        throttle_ms: i32,
    },
}

/// A place that records come from. One thread drives it.
pub(crate) trait Source: Send {
    /// Joins the group for these topics (a name that begins with `^` is a regular expression).
    fn subscribe(&mut self, topics: &[String]) -> Result<()>;

    /// Leaves the group; the partitions held come back as [`SourceEvent::Revoke`].
    fn unsubscribe(&mut self);

    /// Moves what happened since the last call into `events`.
    fn events(&mut self, events: &mut VecDeque<SourceEvent>);

    /// Takes at most `limit` of what is fetched, without waiting. `None` when there is nothing. Errors that arrive among
    /// the records go to `events`.
    fn fill(
        &mut self,
        limit: FillLimit,
        now_us: u64,
        events: &mut VecDeque<SourceEvent>,
    ) -> Option<BatchData>;

    /// True when neither [`Source::events`] nor [`Source::fill`] would give anything just now. May be false all the same.
    fn is_idle(&self) -> bool {
        false
    }

    /// Asks where the group stands in these partitions; the answer is [`SourceEvent::Starts`].
    fn look_up_starts(&mut self, id: RequestId, partitions: &[TopicPartition]);

    /// Starts fetching. With [`Protocol::Eager`] this replaces what was assigned.
    fn assign(&mut self, protocol: Protocol, partitions: &[FetchStart]) -> Result<()>;

    /// Answers [`SourceEvent::Assign`] without fetching: after [`Source::assign`] failed, for the source still waits.
    fn refuse(&mut self, protocol: Protocol, partitions: &[TopicPartition]) -> Result<()>;

    /// Stops fetching. With [`Protocol::Eager`] everything goes.
    fn unassign(&mut self, protocol: Protocol, partitions: &[TopicPartition]) -> Result<()>;

    /// Goes on from another place; records come under `start.cell` from here on. After an error nothing of the partition
    /// is delivered until a seek succeeds; librdkafka refuses (`_STATE`) while fetching has not begun yet.
    fn seek(&mut self, start: &FetchStart) -> Result<()>;

    /// What comes of an assigned partition from `place` on, where the source went back to, belongs to this cell.
    fn follow(&mut self, cell: &Arc<PartitionCell>, place: i64);

    /// Stops or continues fetching of assigned partitions.
    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<()>;

    /// Commits; the answer is [`SourceEvent::Committed`].
    fn commit(&mut self, id: RequestId, offsets: &[CommitOffset]) -> Result<()>;

    /// Begins to leave the group for good; partitions held come back as [`SourceEvent::Revoke`].
    fn begin_close(&mut self);

    /// True once the group was left.
    fn is_closed(&self) -> bool;
}
