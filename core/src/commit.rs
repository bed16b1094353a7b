//! Commits: one owner, one snapshot per request, clean only on the broker's answer.
//!
//! Runs on the poller's thread. A request that fails leaves its partitions dirty, so the next one carries them again,
//! with whatever was finished meanwhile. One that is never answered holds up neither the timer nor a revoke nor a close.

use std::collections::{HashMap, HashSet};

use crossbeam_channel::Sender;

use crate::assignment::Assignment;
use crate::error::{Error, Result};
use crate::notice::PartitionReply;
use crate::partition::TopicPartition;
use crate::source::{CommitOffset, RequestId, Source};

/// Who waits for a commit: it gets what was committed.
pub(crate) type CommitReply = Sender<Result<Vec<CommitOffset>>>;

/// A commit that stands in the way of a rebalance, of a close or of the timer's next one is waited for so long.
pub(crate) const COMMIT_WAIT_US: u64 = 5_000_000;

/// The broker takes less metadata (`offset.metadata.max.bytes`).
const METADATA_TOO_LARGE: i32 = 12;

/// Who wants a commit.
#[derive(Debug)]
pub(crate) enum Asker {
    /// The timer: nobody waits.
    Timer,
    /// A revoke or a close, by an [`AwaitedCommit`].
    Poller,
    /// The application, which may want the answer.
    Application(Option<CommitReply>),
}

impl Asker {
    fn answer(self, result: Result<Vec<CommitOffset>>) {
        if let Asker::Application(Some(reply)) = self {
            // Whoever asked may have given up waiting.
            let _ = reply.send(result);
        }
    }

    /// Nobody is told of a failure, so the log must say it.
    fn is_unattended(&self) -> bool {
        !matches!(self, Asker::Application(Some(_)))
    }
}

#[derive(Debug)]
struct InFlight {
    offsets: Vec<CommitOffset>,
    sent_us: u64,
    asker: Asker,
}

/// The answer to a commit, for the statistics.
#[derive(Debug)]
pub(crate) struct CommitOutcome {
    pub(crate) latency_us: u64,
    pub(crate) error: Option<Error>,
    /// Nobody waits for it, so the log must say it.
    pub(crate) unattended: bool,
    /// What was to be committed, if nobody waits for it.
    pub(crate) offsets: Vec<PartitionReply>,
}

/// A commit that a revoke or a close waits for. While the group is between two generations the broker asks for patience
/// (`REBALANCE_IN_PROGRESS`): it is sent again until its time is over, or all that was finished would be handled twice.
#[derive(Debug)]
pub(crate) struct AwaitedCommit {
    pub(crate) id: Option<RequestId>,
    pub(crate) until_us: u64,
    /// When it is sent again, after a refusal that passes.
    pub(crate) again_us: Option<u64>,
}

/// The wait before an awaited commit is sent again.
const AGAIN_US: u64 = 50_000;

impl AwaitedCommit {
    /// When the poller must look again.
    pub(crate) fn wake_us(&self) -> u64 {
        self.again_us.unwrap_or(u64::MAX).min(self.until_us)
    }

    /// Looks where it stands, without sending anything.
    pub(crate) fn look(&mut self, committer: &mut Committer, now_us: u64) -> Awaited {
        if now_us >= self.until_us {
            return Awaited::Over;
        }
        if let Some(again_us) = self.again_us {
            return if now_us >= again_us {
                Awaited::SendAgain
            } else {
                Awaited::Waiting
            };
        }
        match self.id {
            None => Awaited::Over,
            Some(id) if committer.is_in_flight(id) => Awaited::Waiting,
            Some(id) if committer.refused.remove(&id) => {
                self.again_us = Some(now_us + AGAIN_US);
                Awaited::Waiting
            }
            Some(_) => Awaited::Over,
        }
    }
}

/// What [`AwaitedCommit::look`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    Waiting,
    SendAgain,
    /// Committed, refused for good, or out of time.
    Over,
}

/// The broker refuses commits with these codes while the group finds its next generation. A member that has just joined
/// again learns the generation within moments, so one that was too old is no reason to give up.
fn passes(error: &Error) -> bool {
    error.is_retriable()
        || error.kafka_code().is_some_and(|code| {
            matches!(
                code.name(),
                "REBALANCE_IN_PROGRESS" | "ILLEGAL_GENERATION" | "STALE_MEMBER_EPOCH"
            )
        })
}

/// Requests on their way to the broker.
#[derive(Debug, Default)]
pub(crate) struct Committer {
    in_flight: HashMap<RequestId, InFlight>,
    /// Awaited requests that failed for a reason that passes, until whoever waits has looked.
    refused: HashSet<RequestId>,
    /// No commit of the timer was answered since the log said so.
    unanswered: bool,
}

impl Committer {
    /// True while a commit of the timer is on its way: another one would only repeat it.
    pub(crate) fn timed_in_flight(&self) -> bool {
        let mut requests = self.in_flight.values();
        requests.any(|request| matches!(request.asker, Asker::Timer))
    }

    /// Forgets commits of the timer that nobody answers, so that the next one can go; gives how many. The answer, should it
    /// come, only makes the partitions dirty: see [`Committer::answered`].
    pub(crate) fn give_up(&mut self, now_us: u64) -> usize {
        let before = self.in_flight.len();
        self.in_flight.retain(|_, request| {
            !matches!(request.asker, Asker::Timer)
                || now_us.saturating_sub(request.sent_us) < COMMIT_WAIT_US
        });
        let given_up = before - self.in_flight.len();
        if given_up > 0 && !std::mem::replace(&mut self.unanswered, true) {
            crate::log::warn(format_args!(
                "a commit was not answered within {} s and is repeated with the next ones",
                COMMIT_WAIT_US / 1_000_000
            ));
        }
        given_up
    }

    /// Sends `offsets` for `asker`. Nothing to commit is a success at once.
    pub(crate) fn send<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        id: RequestId,
        offsets: Vec<CommitOffset>,
        asker: Asker,
        now_us: u64,
    ) -> Option<RequestId> {
        let result = if offsets.is_empty() {
            Ok(false)
        } else {
            source.commit(id, &offsets).map(|()| true)
        };
        match result {
            Ok(true) => {
                let request = InFlight {
                    offsets,
                    sent_us: now_us,
                    asker,
                };
                self.in_flight.insert(id, request);
                Some(id)
            }
            Ok(false) => {
                asker.answer(Ok(Vec::new()));
                None
            }
            Err(error) => {
                if asker.is_unattended() {
                    crate::log::warn(format_args!("the commit could not be sent: {error}"));
                }
                asker.answer(Err(error));
                None
            }
        }
    }

    /// Takes the broker's answer.
    pub(crate) fn answered(
        &mut self,
        assignment: &mut Assignment,
        id: RequestId,
        result: Result<()>,
        partitions: &[(TopicPartition, Result<()>)],
        now_us: u64,
    ) -> Option<CommitOutcome> {
        let Some(request) = self.in_flight.remove(&id) else {
            // Given up, and others were sent since: what the group has now nobody knows.
            assignment.doubt(partitions.iter().map(|(partition, _)| partition));
            return None;
        };
        self.unanswered = false;
        let failed_of = |offset: &CommitOffset| {
            partitions
                .iter()
                .find(|(partition, _)| *partition == offset.topic_partition)
                .and_then(|(_, result)| result.as_ref().err())
        };
        let mut error = result.err();
        let whole_request_failed = error.is_some();
        for offset in &request.offsets {
            match failed_of(offset) {
                Some(failed) => {
                    if failed.kafka_code().map(|code| code.number()) == Some(METADATA_TOO_LARGE) {
                        assignment.map_refused(&offset.topic_partition);
                    }
                    error = error.or_else(|| Some(failed.clone()));
                }
                None if whole_request_failed => {}
                None => assignment.confirm(id, offset),
            }
        }
        if matches!(request.asker, Asker::Poller) && error.as_ref().is_some_and(passes) {
            self.refused.insert(id);
        }
        let unattended = request.asker.is_unattended();
        let told = request.offsets.iter().filter(|_| unattended);
        let offsets = told.map(|offset| PartitionReply {
            error: failed_of(offset).and_then(Error::kafka_code),
            metadata: offset.metadata.clone(),
            ..PartitionReply::new(&offset.topic_partition, offset.offset)
        });
        let offsets = offsets.collect();
        request.asker.answer(match &error {
            None => Ok(request.offsets),
            Some(error) => Err(error.clone()),
        });
        Some(CommitOutcome {
            latency_us: now_us.saturating_sub(request.sent_us),
            error,
            unattended,
            offsets,
        })
    }

    /// No request is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub(crate) fn is_in_flight(&self, id: RequestId) -> bool {
        self.in_flight.contains_key(&id)
    }

    /// Tells everyone who still waits that no answer will come.
    pub(crate) fn abandon(&mut self, error: &Error) {
        for (_, request) in self.in_flight.drain() {
            request.asker.answer(Err(error.clone()));
        }
    }
}
