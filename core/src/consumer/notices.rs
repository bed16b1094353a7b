//! What the poller tells beside records, kept until the application asks for it.
//!
//! Only for consumers made with options that ask for it. The thread that polls puts notices in and takes them out; others only see
//! how many there are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::consumer::Consumer;
use crate::notice::Notice;
use crate::shared::AppEvent;
use crate::tracker::{PartitionCell, UNKNOWN};

/// What a notice waits for.
#[derive(Debug)]
struct Due {
    cell: Arc<PartitionCell>,
    /// Handed out up to here.
    after: i64,
}

impl Due {
    /// The records before it were handed out.
    fn is_come(&self) -> bool {
        self.after == UNKNOWN || self.cell.handed() >= self.after
    }
}

#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: Mutex<VecDeque<(Option<Due>, Notice)>>,
    /// How many wait; looked at once per record.
    count: AtomicUsize,
}

impl Notices {
    fn push(&self, due: Option<Due>, notice: Notice) {
        let mut waiting = self.waiting.lock();
        waiting.push_back((due, notice));
        self.count.store(waiting.len(), Ordering::Release);
    }
}

impl Consumer {
    /// Keeps what the application asked to be told; false when it is to be handled otherwise.
    pub(super) fn note(&self, event: &AppEvent) -> bool {
        let options = self.shared.options;
        match event {
            AppEvent::PartitionEof {
                cell,
                topic_partition,
                offset,
                after,
                reason,
            } if options.errors => {
                if let Some(cell) = cell {
                    let due = Due {
                        cell: Arc::clone(cell),
                        after: *after,
                    };
                    let notice = Notice::PartitionEof {
                        partition: topic_partition.clone(),
                        offset: *offset,
                        reason: reason.clone(),
                    };
                    self.notices.push(Some(due), notice);
                }
            }
            AppEvent::Error { error, partition } if options.errors => {
                let notice = Notice::Error {
                    error: error.clone(),
                    partition: partition.clone(),
                };
                self.notices.push(None, notice);
            }
            AppEvent::Notice(notice) => self.notices.push(None, notice.clone()),
            _ => return false,
        }
        true
    }

    /// True when a notice waits, which may be one of a partition's end that has not been come to yet. A polling call takes in what
    /// the poller told; when that is a notice, it returns early.
    #[inline]
    #[must_use]
    pub fn has_notices(&self) -> bool {
        self.notices.count.load(Ordering::Acquire) > 0
    }

    /// The next notice, if there is one to be told by now.
    pub fn next_notice(&self) -> Option<Notice> {
        if self.is_closed() {
            // Nobody polls any more.
            while let Ok(event) = self.events.try_recv() {
                self.note(&event);
            }
        }
        if !self.has_notices() {
            return None;
        }
        let mut waiting = self.notices.waiting.lock();
        waiting.retain(|(due, _)| due.as_ref().is_none_or(|due| due.cell.is_live()));
        let is_due = |(due, _): &(Option<Due>, Notice)| due.as_ref().is_none_or(Due::is_come);
        let index = waiting.iter().position(is_due);
        let notice = index.and_then(|index| waiting.remove(index));
        self.notices.count.store(waiting.len(), Ordering::Release);
        notice.map(|(_, notice)| notice)
    }

    /// How many ends of partitions will be told once the records that wait here have been taken.
    pub fn ends_behind_records(&self) -> usize {
        if !self.has_notices() {
            return 0;
        }
        let waiting = self.notices.waiting.lock();
        let dues = waiting.iter().filter_map(|(due, _)| due.as_ref());
        dues.filter(|due| due.cell.is_live() && !due.cell.is_paused() && !due.is_come())
            .count()
    }

    /// Puts a notice back that could not be passed on; it is the next one again.
    pub fn return_notice(&self, notice: Notice) {
        let mut waiting = self.notices.waiting.lock();
        waiting.push_front((None, notice));
        self.notices.count.store(waiting.len(), Ordering::Release);
    }
}
