//! Seeks: repeated while librdkafka refuses them, and taken back when it goes on to.
//!
//! The poller's thread only. Always true: from the request on nothing of the place before is handed out; a seek that fails is answered
//! with its error, and its partition goes on from its first record that was not finished, as soon as librdkafka lets it.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::commands::not_assigned;
use super::{Poller, is_state_error, known_start};
use crate::error::Result;
use crate::log;
use crate::partition::{Offset, TopicPartition};
use crate::source::{FetchStart, Source};
use crate::tracker::{PartitionCell, UNKNOWN};

/// A seek that is refused because fetching has not begun is repeated for so long.
const SEEK_WAIT_US: u64 = 5_000_000;
/// The way back is tried this often.
const RETURN_RETRY_US: u64 = 500_000;

/// A seek that librdkafka has not accepted yet.
#[derive(Debug)]
pub(super) struct Seeking {
    start: FetchStart,
    /// Where the partition stood before, or [`UNKNOWN`].
    home: i64,
    /// Not tried earlier.
    pub(super) again_us: u64,
    aim: Aim,
}

#[derive(Debug)]
enum Aim {
    /// Where the application wants to be, and how long that is tried.
    There {
        until_us: u64,
        reply: Sender<Result<()>>,
    },
    /// Back, after that failed; tried until it succeeds.
    Home,
}

impl<S: Source> Poller<S> {
    pub(super) fn seek(
        &mut self,
        partition: &TopicPartition,
        to: Offset,
        reply: Sender<Result<()>>,
        now_us: u64,
    ) {
        let live = self.assignment.get(partition).filter(|cell| cell.is_live());
        let Some(before) = live.map(Arc::clone) else {
            let _ = reply.send(Err(not_assigned(partition)));
            return;
        };
        // A cell that is sought already has no place of its own.
        let under_way = self
            .seeks
            .iter()
            .find(|seeking| Arc::ptr_eq(&seeking.start.cell, &before));
        let home = under_way.map_or_else(|| before.finished(), |seeking| seeking.home);
        let generation = self.assignment.next_generation();
        let cell = Arc::new(PartitionCell::new(partition.clone(), generation, UNKNOWN));
        cell.set_paused(before.is_paused());
        // Closes the cell before: nothing of it is handed out from here on.
        self.assignment.replace(&cell);
        self.publish_assignment();
        self.seeks.push(Seeking {
            start: FetchStart { cell, offset: to },
            home,
            again_us: now_us,
            aim: Aim::There {
                until_us: now_us + SEEK_WAIT_US,
                reply,
            },
        });
        self.drive_seeks(now_us);
    }

    /// librdkafka refuses to seek a partition whose fetching has not begun, which is so right after an assignment.
    pub(super) fn drive_seeks(&mut self, now_us: u64) {
        for mut seeking in std::mem::take(&mut self.seeks) {
            let cell = &seeking.start.cell;
            if !cell.is_live() {
                if let Aim::There { reply, .. } = seeking.aim {
                    let _ = reply.send(Err(not_assigned(cell.topic_partition())));
                }
                continue;
            }
            if now_us < seeking.again_us {
                self.seeks.push(seeking);
                continue;
            }
            let error = match self.source.seek(&seeking.start) {
                Ok(()) => {
                    // Not before: a place that could not be sought must not be committed.
                    cell.begin(known_start(seeking.start.offset));
                    if let Aim::There { reply, .. } = seeking.aim {
                        let _ = reply.send(Ok(()));
                    }
                    continue;
                }
                Err(error) => error,
            };
            match seeking.aim {
                Aim::There { until_us, .. } if is_state_error(&error) && now_us < until_us => {}
                Aim::There { reply, .. } => {
                    log::warn(format_args!(
                        "{error}; {} goes on from where it was",
                        cell.topic_partition()
                    ));
                    let _ = reply.send(Err(error));
                    seeking.start.offset = match seeking.home {
                        UNKNOWN => Offset::Stored,
                        home => Offset::At(home),
                    };
                    seeking.aim = Aim::Home;
                }
                Aim::Home => seeking.again_us = now_us + RETURN_RETRY_US,
            }
            self.seeks.push(seeking);
        }
    }
}
