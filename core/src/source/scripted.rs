//! A cluster in memory, and a [`Source`] that reads from it: the deterministic twin of `source/kafka.rs`, for tests only.
//!
//! All consumers of a test share one [`Cluster`], each as a [`Member`] of its one group. It does what the poller relies on
//! librdkafka for: a member gets no rebalance before it has answered the one before, a partition gets no new owner before
//! the old one let go of it (unless it was lost), answers come late or as errors when the test says so. What no source
//! should ever be asked is noted in [`Cluster::violations`], so are records handed out and commits sent that must not be:
//! the test tells the cluster what its application got and finished.

mod group;
mod ledger;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::batch::{BatchBuilder, BatchData, TimestampType};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::kafka_code;
use crate::partition::{Generation, Offset, TopicPartition};
use crate::queue::Waker;
use crate::source::lookup::Reset;
use crate::source::{
    CommitOffset, FetchStart, FillLimit, Protocol, RequestId, Source, SourceEvent,
};
use crate::tracker::PartitionCell;

/// `_STATE`.
pub(crate) const STATE: i32 = -172;
/// `COORDINATOR_LOAD_IN_PROGRESS`: passes by itself.
pub(crate) const LOADING: i32 = 14;
/// `GROUP_AUTHORIZATION_FAILED`: does not.
pub(crate) const FORBIDDEN: i32 = 30;
const ILLEGAL_GENERATION: i32 = 22;
const METADATA_TOO_LARGE: i32 = 12;

pub(crate) fn kafka_error(number: i32) -> Error {
    Error::Kafka {
        code: kafka_code::from_number(number),
        context: "scripted".into(),
    }
}

/// The records of a partition: offsets with gaps, and how large each value is.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) records: BTreeMap<i64, usize>,
    pub(crate) low: i64,
    pub(crate) end: i64,
}

/// How the broker answers a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitAnswer {
    Done,
    /// The call itself fails.
    NotSent,
    /// The whole request fails with this code.
    Failed(i32),
    /// Its first partition fails with this code, the others are committed.
    FirstFailed(i32),
    /// It was done, and the answer is an error.
    DoneButFailed(i32),
    /// No answer comes.
    Silent,
}

/// What the test makes go wrong or late.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) look_up_delay_us: u64,
    /// The next look-ups fail with these codes.
    pub(crate) look_up_failures: VecDeque<i32>,
    pub(crate) commit_delay_us: u64,
    /// Answers to the next commits; `Done` after them.
    pub(crate) commit_answers: VecDeque<CommitAnswer>,
    /// The next assignments cannot be fetched.
    pub(crate) assigns_failing: usize,
    /// The next seeks are refused with `_STATE`.
    pub(crate) seeks_refused: usize,
    /// The next pause or resume works, and is answered with an error.
    pub(crate) pause_fails: bool,
    /// Groups are not left before this is false.
    pub(crate) hold_close: bool,
    /// The most records of one fill.
    pub(crate) fill_records: usize,
}

/// A rebalance that the member has not answered yet.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) assign: bool,
    pub(crate) partitions: BTreeSet<TopicPartition>,
    /// When the poller heard of it.
    pub(crate) given_us: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Fetching {
    pub(crate) cell: Arc<PartitionCell>,
    /// Where this generation began.
    pub(crate) base: i64,
    pub(crate) position: i64,
    pub(crate) paused: bool,
    /// A seek failed: nothing is delivered.
    stopped: bool,
    /// The record handed out last in this generation.
    last_handed: Option<i64>,
    finished: BTreeSet<i64>,
    /// Generations before the source went back, and where to.
    earlier: Vec<(Generation, i64)>,
    /// `auto.offset.reset` was resolved for it and that start has not been committed.
    pub(crate) start_uncommitted: bool,
}

#[derive(Debug)]
struct LookUp {
    due_us: u64,
    id: RequestId,
    partitions: Vec<TopicPartition>,
}

#[derive(Debug)]
struct CommitRequest {
    due_us: u64,
    id: RequestId,
    offsets: Vec<CommitOffset>,
    answer: CommitAnswer,
}

/// One consumer, from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) gone: bool,
    pub(crate) subscribed: bool,
    /// It unsubscribed: all it holds is revoked, also when it subscribes again meanwhile.
    leaving: bool,
    closing: bool,
    /// Assigned by hand.
    by_hand: bool,
    pub(crate) held: BTreeSet<TopicPartition>,
    pub(crate) owed: VecDeque<Owed>,
    pub(crate) fetching: BTreeMap<TopicPartition, Fetching>,
    events: VecDeque<SourceEvent>,
    look_ups: Vec<LookUp>,
    resolved: BTreeSet<TopicPartition>,
    commits: Vec<CommitRequest>,
    turn: usize,
    waker: Option<Arc<Waker>>,
    /// Commits that the test has accounted for; `None` when any may come.
    pub(crate) commits_allowed: Option<usize>,
    pub(crate) commits_sent: usize,
}

/// The cluster and its one group.
pub(crate) struct Cluster {
    clock: Arc<dyn Clock>,
    pub(crate) reset: Reset,
    pub(crate) protocol: Protocol,
    pub(crate) logs: BTreeMap<TopicPartition, Log>,
    pub(crate) committed: BTreeMap<TopicPartition, i64>,
    /// What was committed with these offsets.
    pub(crate) metadata: BTreeMap<TopicPartition, String>,
    /// `offset.metadata.max.bytes`.
    pub(crate) most_metadata_bytes: usize,
    /// Which member is to read what.
    pub(crate) target: BTreeMap<TopicPartition, usize>,
    pub(crate) members: Vec<Member>,
    pub(crate) faults: Faults,
    pub(crate) violations: Vec<String>,
    pub(crate) largest_batch_bytes: usize,
    /// Records before these offsets are nobody's: `latest` was resolved to them.
    owed_from: BTreeMap<TopicPartition, i64>,
    /// Finished by any member in any generation, or skipped by a seek.
    done: HashMap<TopicPartition, BTreeSet<i64>>,
    pub(crate) handed_out: u64,
    pub(crate) handed_out_again: u64,
    /// The test is one thread, so that what is being revoked cannot have been handed out a moment before.
    pub(crate) one_thread: bool,
    /// Changes whenever something happened that some poller has not seen.
    pub(crate) news: u64,
}

/// What tests hold.
#[derive(Clone)]
pub(crate) struct ClusterHandle(Arc<Mutex<Cluster>>);

impl ClusterHandle {
    pub(crate) fn new(clock: Arc<dyn Clock>, reset: Reset, protocol: Protocol) -> ClusterHandle {
        ClusterHandle(Arc::new(Mutex::new(Cluster {
            clock,
            reset,
            protocol,
            logs: BTreeMap::new(),
            committed: BTreeMap::new(),
            metadata: BTreeMap::new(),
            most_metadata_bytes: 4096,
            target: BTreeMap::new(),
            members: Vec::new(),
            faults: Faults {
                look_up_delay_us: 0,
                look_up_failures: VecDeque::new(),
                commit_delay_us: 0,
                commit_answers: VecDeque::new(),
                assigns_failing: 0,
                seeks_refused: 0,
                pause_fails: false,
                hold_close: false,
                fill_records: usize::MAX,
            },
            violations: Vec::new(),
            largest_batch_bytes: 0,
            owed_from: BTreeMap::new(),
            done: HashMap::new(),
            handed_out: 0,
            handed_out_again: 0,
            one_thread: true,
            news: 0,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.0.lock()
    }

    /// A source for a new member.
    pub(crate) fn join(&self, waker: &Arc<Waker>) -> ScriptedSource {
        let mut cluster = self.lock();
        cluster.members.push(Member {
            waker: Some(Arc::clone(waker)),
            ..Member::default()
        });
        ScriptedSource {
            me: cluster.members.len() - 1,
            cluster: self.clone(),
        }
    }
}

impl Cluster {
    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    fn wake_all(&mut self) {
        self.news += 1;
        for waker in self.members.iter().filter_map(|m| m.waker.as_ref()) {
            waker.wake();
        }
    }

    // ---- what the test does ----

    /// Appends `count` records, after a gap of `gap` offsets.
    pub(crate) fn produce(
        &mut self,
        partition: &TopicPartition,
        gap: i64,
        count: i64,
        bytes: usize,
    ) {
        let log = self.logs.entry(partition.clone()).or_default();
        log.end += gap;
        for _ in 0..count {
            log.records.insert(log.end, bytes);
            log.end += 1;
        }
        self.wake_all();
    }

    /// Cuts the end of a log off, as a leader that did not have it does. Whoever has read further goes on at the new end; that
    /// nobody else had done what is gone is for the test to know.
    pub(crate) fn truncate(&mut self, partition: &TopicPartition, end: i64) {
        if let Some(log) = self.logs.get_mut(partition) {
            log.records.split_off(&end);
            log.end = end;
        }
        if let Some(done) = self.done.get_mut(partition) {
            done.split_off(&end);
        }
        for member in &mut self.members {
            if let Some(fetching) = member.fetching.get_mut(partition) {
                fetching.position = fetching.position.min(end);
            }
        }
    }

    /// Says who is to read what; the members hear of it as they go.
    pub(crate) fn rebalance(&mut self, target: BTreeMap<TopicPartition, usize>) {
        self.target = target;
        self.wake_all();
    }

    /// The member did not answer in time: its partitions are anybody's at once.
    pub(crate) fn lose(&mut self, me: usize) {
        let member = &mut self.members[me];
        if member.held.is_empty() || !member.owed.is_empty() {
            return;
        }
        let partitions = std::mem::take(&mut member.held);
        self.give_revoke(me, partitions, true);
    }

    /// As [`Cluster::lose`], for partitions that are just being revoked.
    pub(crate) fn lose_while_revoking(&mut self, me: usize) {
        let member = &mut self.members[me];
        let partitions = std::mem::take(&mut member.held);
        self.give_revoke(me, partitions, true);
    }

    /// The process died: nobody hears of it, its partitions are anybody's.
    pub(crate) fn crash(&mut self, me: usize) {
        let member = &mut self.members[me];
        member.gone = true;
        member.subscribed = false;
        member.held.clear();
        member.fetching.clear();
        member.owed.clear();
        member.waker = None;
    }

    fn give_revoke(&mut self, me: usize, partitions: BTreeSet<TopicPartition>, lost: bool) {
        let protocol = self.protocol;
        let member = &mut self.members[me];
        member.events.push_back(SourceEvent::Revoke {
            partitions: partitions.iter().cloned().collect(),
            protocol,
            lost,
        });
        member.owed.push_back(Owed {
            assign: false,
            partitions,
            given_us: None,
        });
        self.wake_all();
    }

    fn give_assign(&mut self, me: usize, partitions: BTreeSet<TopicPartition>) {
        let protocol = self.protocol;
        let member = &mut self.members[me];
        member.held.extend(partitions.iter().cloned());
        member.events.push_back(SourceEvent::Assign {
            partitions: partitions.iter().cloned().collect(),
            protocol,
        });
        member.owed.push_back(Owed {
            assign: true,
            partitions,
            given_us: None,
        });
        self.wake_all();
    }

    /// Puts an event of the test's own before the poller.
    pub(crate) fn give(&mut self, me: usize, event: SourceEvent) {
        self.members[me].events.push_back(event);
        self.wake_all();
    }

    /// The next moment at which an answer is due.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        let members = self.members.iter().filter(|member| !member.gone);
        members
            .flat_map(|member| {
                let look_ups = member.look_ups.iter().map(|look_up| look_up.due_us);
                look_ups.chain(member.commits.iter().map(|commit| commit.due_us))
            })
            .min()
    }
}

/// See the module.
pub(crate) struct ScriptedSource {
    pub(crate) me: usize,
    cluster: ClusterHandle,
}

impl Source for ScriptedSource {
    fn subscribe(&mut self, topics: &[String]) -> Result<()> {
        let mut cluster = self.cluster.lock();
        if topics.is_empty() {
            cluster.violation(format!("member {} subscribes to nothing", self.me));
        }
        cluster.members[self.me].subscribed = true;
        cluster.wake_all();
        Ok(())
    }

    fn unsubscribe(&mut self) {
        let mut cluster = self.cluster.lock();
        let member = &mut cluster.members[self.me];
        member.subscribed = false;
        member.leaving = true;
        cluster.wake_all();
    }

    fn events(&mut self, events: &mut VecDeque<SourceEvent>) {
        let mut cluster = self.cluster.lock();
        cluster.answer(self.me);
        cluster.coordinate();
        let now_us = cluster.now_us();
        let cluster = &mut *cluster;
        let member = &mut cluster.members[self.me];
        cluster.news += u64::from(!member.events.is_empty());
        events.append(&mut member.events);
        for owed in &mut member.owed {
            owed.given_us.get_or_insert(now_us);
        }
    }

    fn fill(
        &mut self,
        limit: FillLimit,
        now_us: u64,
        events: &mut VecDeque<SourceEvent>,
    ) -> Option<BatchData> {
        let mut cluster = self.cluster.lock();
        let cluster = &mut *cluster;
        let member = &mut cluster.members[self.me];
        let most = limit.records.min(cluster.faults.fill_records);
        let mut builder = BatchBuilder::with_capacity(0, 0);
        let mut bytes = 0;
        member.turn += 1;
        let count = member.fetching.len();
        let order: Vec<_> = member.fetching.keys().cloned().collect();
        for index in 0..count {
            let partition = &order[(member.turn + index) % count];
            let (Some(fetching), Some(log)) = (
                member.fetching.get_mut(partition),
                cluster.logs.get(partition),
            ) else {
                continue;
            };
            if fetching.paused || fetching.stopped {
                continue;
            }
            builder.begin_run(&fetching.cell, -1, TimestampType::CreateTime);
            let mut left = log.records.range(fetching.position..);
            while builder.len() < most && bytes < limit.bytes {
                let Some((&offset, &length)) = left.next() else {
                    break;
                };
                let value = vec![b'v'; length];
                let key = offset.to_le_bytes();
                builder.push(
                    partition.partition,
                    offset,
                    offset,
                    Some(&key),
                    Some(&value),
                );
                bytes += length + key.len();
                fetching.position = offset + 1;
            }
        }
        if let Some(event) = member.events.pop_front() {
            // Errors that arrive among the records.
            match event {
                SourceEvent::Error(_) => events.push_back(event),
                other => member.events.push_front(other),
            }
        }
        (builder.len() > 0).then(|| {
            let batch = builder.finish(now_us);
            cluster.largest_batch_bytes = cluster.largest_batch_bytes.max(batch.size_bytes());
            batch
        })
    }

    fn look_up_starts(&mut self, id: RequestId, partitions: &[TopicPartition]) {
        let mut cluster = self.cluster.lock();
        let due_us = cluster.now_us() + cluster.faults.look_up_delay_us;
        let member = &mut cluster.members[self.me];
        member.look_ups.push(LookUp {
            due_us,
            id,
            partitions: partitions.to_vec(),
        });
        cluster.wake_all();
    }

    fn assign(&mut self, protocol: Protocol, partitions: &[FetchStart]) -> Result<()> {
        let mut cluster = self.cluster.lock();
        if cluster.faults.assigns_failing > 0 {
            cluster.faults.assigns_failing -= 1;
            return Err(kafka_error(STATE));
        }
        let given: BTreeSet<_> = partitions
            .iter()
            .map(|start| start.cell.topic_partition().clone())
            .collect();
        let member = &mut cluster.members[self.me];
        let owed = member.owed.front().is_some_and(|owed| owed.assign);
        member.by_hand = !owed && !member.subscribed && !member.closing;
        let problem = if member.by_hand {
            member.held.clone_from(&given);
            None
        } else if !owed {
            Some("without being asked to")
        } else {
            let owed = member.owed.pop_front();
            owed.is_none_or(|owed| owed.partitions != given)
                .then_some("other partitions than it was given")
        };
        if protocol == Protocol::Eager {
            member.fetching.clear();
        }
        if let Some(problem) = problem {
            cluster.violation(format!("member {} assigns {given:?} {problem}", self.me));
        }
        for start in partitions {
            let partition = start.cell.topic_partition();
            let base = cluster.place(partition, start.offset);
            if start.offset == Offset::Stored && !cluster.committed.contains_key(partition) {
                cluster.owed_from.insert(partition.clone(), base);
            }
            let member = &mut cluster.members[self.me];
            let fetching = Fetching {
                cell: Arc::clone(&start.cell),
                base,
                position: base,
                paused: false,
                stopped: false,
                last_handed: None,
                finished: BTreeSet::new(),
                earlier: Vec::new(),
                start_uncommitted: member.resolved.remove(partition)
                    && matches!(start.offset, Offset::At(_)),
            };
            member.fetching.insert(partition.clone(), fetching);
        }
        cluster.wake_all();
        Ok(())
    }

    fn refuse(&mut self, _protocol: Protocol, partitions: &[TopicPartition]) -> Result<()> {
        let mut cluster = self.cluster.lock();
        let member = &mut cluster.members[self.me];
        let owed = member.owed.pop_front();
        if !owed.is_some_and(|owed| {
            owed.assign
                && owed
                    .partitions
                    .iter()
                    .eq(partitions.iter().collect::<BTreeSet<_>>())
        }) {
            let text = format!("member {} refuses {partitions:?} unasked", self.me);
            cluster.violation(text);
        }
        // The group goes on taking them for the member's, until it leaves.
        cluster.wake_all();
        Ok(())
    }

    fn unassign(&mut self, protocol: Protocol, partitions: &[TopicPartition]) -> Result<()> {
        let mut cluster = self.cluster.lock();
        let member = &mut cluster.members[self.me];
        let owed = member.owed.pop_front();
        let answered = owed.is_some_and(|owed| {
            !owed.assign
                && owed
                    .partitions
                    .iter()
                    .eq(partitions.iter().collect::<BTreeSet<_>>())
        });
        for partition in partitions {
            member.held.remove(partition);
            member.fetching.remove(partition);
        }
        if protocol == Protocol::Eager {
            member.fetching.clear();
        }
        if !answered {
            let text = format!("member {} unassigns {partitions:?} unasked", self.me);
            cluster.violation(text);
        }
        cluster.wake_all();
        Ok(())
    }

    fn seek(&mut self, start: &FetchStart) -> Result<()> {
        let mut cluster = self.cluster.lock();
        let cluster = &mut *cluster;
        let partition = start.cell.topic_partition();
        let place = cluster.place(partition, start.offset);
        let Some(fetching) = cluster.members[self.me].fetching.get_mut(partition) else {
            cluster.violation(format!(
                "member {} seeks {partition}, which it does not fetch",
                self.me
            ));
            return Err(kafka_error(STATE));
        };
        if cluster.faults.seeks_refused > 0 {
            cluster.faults.seeks_refused -= 1;
            fetching.stopped = true;
            return Err(kafka_error(STATE));
        }
        *fetching = Fetching {
            cell: Arc::clone(&start.cell),
            base: place,
            position: place,
            paused: fetching.paused,
            stopped: false,
            last_handed: None,
            finished: BTreeSet::new(),
            earlier: Vec::new(),
            start_uncommitted: false,
        };
        // What lies before the place is skipped by the application's own will.
        if let Some(log) = cluster.logs.get(partition) {
            let skipped = log.records.range(..place).map(|(offset, _)| *offset);
            cluster
                .done
                .entry(partition.clone())
                .or_default()
                .extend(skipped);
        }
        Ok(())
    }

    fn follow(&mut self, cell: &Arc<PartitionCell>, place: i64) {
        let mut cluster = self.cluster.lock();
        let Some(fetching) = cluster.members[self.me]
            .fetching
            .get_mut(cell.topic_partition())
        else {
            return;
        };
        let old = std::mem::replace(&mut fetching.cell, Arc::clone(cell));
        fetching.earlier.push((old.generation(), place));
        fetching.base = fetching.base.min(place);
        fetching.last_handed = Some(place - 1);
        fetching.finished.split_off(&place);
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<()> {
        let mut cluster = self.cluster.lock();
        for partition in partitions {
            match cluster.members[self.me].fetching.get_mut(partition) {
                Some(fetching) => fetching.paused = paused,
                None => {
                    cluster.violation(format!("{partition} is paused and not fetched"));
                }
            }
        }
        cluster.wake_all();
        let fails = std::mem::take(&mut cluster.faults.pause_fails);
        (!fails).then_some(()).ok_or_else(|| kafka_error(STATE))
    }

    fn commit(&mut self, id: RequestId, offsets: &[CommitOffset]) -> Result<()> {
        let mut cluster = self.cluster.lock();
        cluster.check_commit(self.me, offsets);
        let answer = cluster.faults.commit_answers.pop_front();
        let answer = answer.unwrap_or(CommitAnswer::Done);
        if answer == CommitAnswer::NotSent {
            return Err(kafka_error(LOADING));
        }
        let due_us = cluster.now_us() + cluster.faults.commit_delay_us;
        cluster.members[self.me].commits.push(CommitRequest {
            due_us,
            id,
            offsets: offsets.to_vec(),
            answer,
        });
        cluster.wake_all();
        Ok(())
    }

    fn begin_close(&mut self) {
        let mut cluster = self.cluster.lock();
        let member = &mut cluster.members[self.me];
        member.closing = true;
        member.subscribed = false;
        if member.by_hand {
            // librdkafka takes a manual assignment away without a rebalance.
            member.held.clear();
            member.fetching.clear();
        }
        cluster.wake_all();
    }

    fn is_closed(&self) -> bool {
        let cluster = self.cluster.lock();
        let member = &cluster.members[self.me];
        let left = member.closing && member.held.is_empty() && member.owed.is_empty();
        left && !cluster.faults.hold_close
    }
}

impl Drop for ScriptedSource {
    fn drop(&mut self) {
        self.cluster.lock().crash(self.me);
    }
}
