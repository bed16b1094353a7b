//! What the application asks of the poller, and the answers.

use crossbeam_channel::Sender;

use super::{Change, Poller};
use crate::commit::{Asker, CommitReply};
use crate::error::{Error, Result};
use crate::kafka_code;
use crate::notice::{Notice, PartitionReply};
use crate::partition::{Offset, TopicPartition};
use crate::shared::AppEvent;
use crate::source::{CommitOffset, Source};
use crate::tracker::CellState;

/// librdkafka's `_NO_OFFSET`.
const NO_OFFSET: i32 = -168;

/// What the faces ask of the poller.
#[derive(Debug)]
pub(crate) enum Command {
    Subscribe {
        topics: Vec<String>,
        listening: bool,
        reply: Sender<Result<()>>,
    },
    Unsubscribe {
        reply: Sender<Result<()>>,
    },
    Assign {
        partitions: Vec<(TopicPartition, Offset)>,
        reply: Sender<Result<()>>,
    },
    /// As `Assign`, also while subscribed.
    Reassign {
        change: Change,
        partitions: Vec<(TopicPartition, Offset)>,
        reply: Sender<Result<()>>,
    },
    Seek {
        partition: TopicPartition,
        to: Offset,
        reply: Sender<Result<()>>,
    },
    SetPaused {
        partitions: Vec<TopicPartition>,
        paused: bool,
        reply: Sender<Result<()>>,
    },
    /// `None`: everything finished.
    Commit {
        offsets: Option<Vec<CommitOffset>>,
        reply: Option<CommitReply>,
    },
    /// Answered when no commit is on its way.
    AwaitCommits {
        reply: Sender<Result<()>>,
    },
    Close {
        deadline_us: u64,
        reply: Sender<Result<()>>,
    },
}

impl<S: Source> Poller<S> {
    pub(super) fn command(&mut self, command: Command, now_us: u64) {
        // A reply that nobody waits for any more is nobody's loss.
        match command {
            Command::Subscribe {
                topics,
                listening,
                reply,
            } => {
                let result = self.refuse_when_closing().and_then(|()| {
                    self.listening = listening;
                    self.source.subscribe(&topics)
                });
                if result.is_ok() {
                    self.topics = topics;
                    self.evicted = false;
                    self.rejoin_us = None;
                    self.progress_us = now_us;
                }
                let _ = reply.send(result);
            }
            Command::Unsubscribe { reply } => {
                let was_subscribed = !self.topics.is_empty();
                self.topics.clear();
                self.evicted = false;
                self.rejoin_us = None;
                self.answer_pending_assign(now_us);
                self.hurry_drain();
                if was_subscribed {
                    // The revoke comes later; nothing of the subscription is handed out in between.
                    for cell in self.assignment.cells() {
                        cell.advance_state(CellState::Revoking);
                    }
                }
                self.source.unsubscribe();
                let _ = reply.send(Ok(()));
            }
            Command::Assign { partitions, reply } => {
                let result = self
                    .refuse_when_closing()
                    .and_then(|()| self.assign_by_hand(&partitions, now_us));
                let _ = reply.send(result);
            }
            Command::Reassign {
                change,
                partitions,
                reply,
            } => {
                let result = self
                    .refuse_when_closing()
                    .and_then(|()| self.reassign(change, &partitions, now_us));
                let _ = reply.send(result);
            }
            Command::Seek {
                partition,
                to,
                reply,
            } => self.seek(&partition, to, reply, now_us),
            Command::SetPaused {
                partitions,
                paused,
                reply,
            } => {
                let _ = reply.send(self.set_paused(&partitions, paused));
            }
            Command::Commit { offsets, reply } => {
                let offsets = offsets.unwrap_or_else(|| self.uncommitted(None));
                if offsets.is_empty() && reply.is_none() && self.shared.options.commits {
                    let cells = self.assignment.cells();
                    let mut offsets: Vec<_> = cells
                        .map(|cell| {
                            PartitionReply::new(cell.topic_partition(), PartitionReply::NO_OFFSET)
                        })
                        .collect();
                    offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
                    let nothing = Notice::Committed {
                        error: Some(kafka_code::from_number(NO_OFFSET)),
                        offsets,
                    };
                    self.shared.tell(AppEvent::Notice(nothing));
                }
                let id = self.request();
                let asker = Asker::Application(reply);
                self.committer
                    .send(&mut self.source, id, offsets, asker, now_us);
            }
            Command::AwaitCommits { reply } => self.idle_replies.push(reply),
            Command::Close { deadline_us, reply } => {
                self.close_replies.push((deadline_us, reply));
                self.begin_close(now_us);
            }
        }
    }

    fn refuse_when_closing(&self) -> Result<()> {
        if self.is_closing() {
            return Err(Error::Closed { what: "consumer" });
        }
        Ok(())
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<()> {
        if let Some(unknown) = partitions
            .iter()
            .find(|partition| self.assignment.get(partition).is_none())
        {
            return Err(not_assigned(unknown));
        }
        // The flag first: what is queued already must not be handed out after this call.
        for cell in partitions.iter().filter_map(|p| self.assignment.get(p)) {
            cell.set_paused(paused);
        }
        let result = self.source.set_paused(partitions, paused);
        if !paused {
            // Whatever the source says: the flags are down, so what was kept back is to be handed out.
            self.shared.tell(AppEvent::Resumed);
        }
        result
    }
}

pub(super) fn not_assigned(partition: &TopicPartition) -> Error {
    Error::NotAssigned {
        topic: partition.topic.to_string(),
        partition: partition.partition,
    }
}
