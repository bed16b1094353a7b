//! Leaving the group for good: commit what is finished, let the source leave, tell whoever waits, each within its deadline.

use super::{Closing, Poller};
use crate::commit::{Awaited, COMMIT_WAIT_US};
use crate::error::Error;
use crate::shared::AppEvent;
use crate::source::Source;

/// The last commit has longer than those that are repeated anyway: while the group is rebalancing, the coordinator answers it behind a
/// JoinGroup that waits for the slowest member. What it does not say is handled again by others.
const LAST_COMMIT_WAIT_US: u64 = 3 * COMMIT_WAIT_US;
/// Of the time to close, what is kept for leaving the group, which may wait for a JoinGroup as well.
const LEAVE_US: u64 = 5_000_000;

impl<S: Source> Poller<S> {
    pub(super) fn begin_close(&mut self, now_us: u64) {
        if self.is_closing() {
            return;
        }
        self.shared.set_closing();
        self.answer_pending_assign(now_us);
        self.hurry_drain();
        let left_us = self.close_deadline_us().saturating_sub(now_us);
        let wait_us = left_us.saturating_sub(LEAVE_US);
        let until_us = now_us
            + wait_us
                .clamp(COMMIT_WAIT_US, LAST_COMMIT_WAIT_US)
                .min(left_us);
        let commit = self.send_awaited(None, until_us, now_us);
        self.closing = Closing::Committing(commit);
    }

    fn close_deadline_us(&self) -> u64 {
        self.close_replies
            .iter()
            .map(|(deadline_us, _)| *deadline_us)
            .max()
            .unwrap_or(0)
    }

    /// True when everything is done.
    pub(super) fn drive_close(&mut self, now_us: u64) -> bool {
        match &mut self.closing {
            Closing::No => return false,
            Closing::Committing(commit) => match commit.look(&mut self.committer, now_us) {
                Awaited::Waiting => {}
                Awaited::SendAgain => {
                    let until_us = commit.until_us;
                    let commit = self.send_awaited(None, until_us, now_us);
                    self.closing = Closing::Committing(commit);
                }
                Awaited::Over => {
                    self.source.begin_close();
                    self.closing = Closing::Leaving;
                }
            },
            Closing::Leaving => {}
        }
        if matches!(self.closing, Closing::Leaving) && self.source.is_closed() {
            self.finish_close();
            return true;
        }
        // Whoever cannot wait longer goes; the poller itself goes on until the group is left.
        let shared = &self.shared;
        self.close_replies.retain(|(deadline_us, reply)| {
            let waits = now_us < *deadline_us;
            if !waits {
                shared.tell(AppEvent::Closed);
                let _ = reply.send(Err(Error::TimedOut {
                    what: "leaving the group".into(),
                    timeout_ms: 0,
                }));
            }
            waits
        });
        false
    }

    fn finish_close(&mut self) {
        let gone = self.assignment.partitions();
        self.assignment.remove(&gone);
        self.publish_assignment();
        self.committer.abandon(&Error::Closed { what: "consumer" });
        for (_, reply) in self.close_replies.drain(..) {
            let _ = reply.send(Ok(()));
        }
        self.shared.tell(AppEvent::Closed);
    }
}
