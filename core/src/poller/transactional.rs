//! What the poller does otherwise where transactions commit what is finished ([`Shared::set_transactional`](crate::shared::Shared)).
//!
//! The poller's thread. It commits the starts of partitions that have none, before anything is handed out, and nothing else: a commit
//! that reaches the broker beside a transaction could set the group back behind it, and outputs would be made twice.

use crate::poller::Poller;
use crate::source::Source;

impl<S: Source> Poller<S> {
    /// Until when the starts of an assignment are waited for, given what holds otherwise. Nothing may be handed out while their
    /// commit is on its way.
    pub(crate) fn starts_until_us(&self, otherwise_us: u64) -> u64 {
        match self.shared.is_transactional() {
            true => u64::MAX,
            false => otherwise_us,
        }
    }

    /// Answers those who wait until no commit is on its way.
    pub(super) fn tell_idle(&mut self) {
        if self.committer.is_idle() {
            for reply in self.idle_replies.drain(..) {
                // Whoever asked may have given up waiting.
                let _ = reply.send(Ok(()));
            }
        }
    }
}
