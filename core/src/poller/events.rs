//! What the source says beside records: rebalances begin here, the rest is told, counted or logged.

use std::sync::Arc;

use super::Poller;
use crate::error::Error;
use crate::log;
use crate::notice::Notice;
use crate::shared::AppEvent;
use crate::source::{Source, SourceEvent};
use crate::tracker::{CellState, UNKNOWN};

impl<S: Source> Poller<S> {
    pub(super) fn event(&mut self, event: SourceEvent, now_us: u64) {
        match event {
            SourceEvent::Assign { protocol, .. } => {
                self.protocol = Some(protocol);
                self.waiting.push_back(event);
            }
            SourceEvent::Revoke {
                ref partitions,
                lost,
                protocol,
            } => {
                self.protocol = Some(protocol);
                self.drop_start_wait();
                if lost {
                    // Whatever is under way for them must neither hand out nor commit any more.
                    self.assignment.advance(partitions, CellState::Closed);
                    self.drop_drain();
                } else {
                    // At once, also when another rebalance is still being answered.
                    self.assignment.advance(partitions, CellState::Revoking);
                }
                self.waiting.push_back(event);
            }
            SourceEvent::Starts { id, starts, error } => {
                self.starts_found(id, starts, error, now_us)
            }
            SourceEvent::Committed {
                id,
                result,
                partitions,
            } => {
                let outcome =
                    self.committer
                        .answered(&mut self.assignment, id, result, &partitions, now_us);
                if let Some(outcome) = outcome {
                    let stats = &self.shared.stats;
                    match outcome.error {
                        None => stats.commits_ok.add(1),
                        Some(_) => stats.commits_failed.add(1),
                    }
                    stats.commit_latency_us.record(outcome.latency_us);
                    if self.shared.options.commits && !outcome.offsets.is_empty() {
                        self.shared.tell(AppEvent::Notice(Notice::Committed {
                            error: outcome.error.as_ref().and_then(Error::kafka_code),
                            offsets: outcome.offsets,
                        }));
                    }
                    if let (Some(error), true) = (outcome.error, outcome.unattended) {
                        log::warn(format_args!(
                            "a commit failed and will be repeated with the next one: {error}"
                        ));
                    }
                }
            }
            SourceEvent::PartitionEof {
                topic_partition,
                offset,
                reason,
            } => {
                // What the source gave before it is in the gate already.
                let cell = self.assignment.get(&topic_partition).map(Arc::clone);
                let after = cell.as_ref().map_or(UNKNOWN, |cell| cell.fetched());
                self.shared.tell(AppEvent::PartitionEof {
                    cell,
                    topic_partition,
                    offset,
                    after,
                    reason,
                });
            }
            SourceEvent::Error(error) => self.shared.source_error(error),
            SourceEvent::PartitionError {
                topic_partition,
                error,
            } => self.shared.error_of(Some(topic_partition), error),
            SourceEvent::Statistics(json) => {
                if self.shared.options.statistics {
                    let notice = Notice::Statistics(json.clone());
                    self.shared.tell(AppEvent::Notice(notice));
                }
                *self.shared.librdkafka_stats.lock() = Some(json);
            }
            SourceEvent::Throttle {
                broker,
                broker_id,
                throttle_ms,
            } => self.shared.tell(AppEvent::Notice(Notice::Throttle {
                broker,
                broker_id,
                throttle_ms,
            })),
            SourceEvent::Log {
                level,
                facility,
                message,
            } => self.shared.tell(AppEvent::Notice(Notice::Log {
                level,
                facility,
                message,
            })),
        }
    }
}
