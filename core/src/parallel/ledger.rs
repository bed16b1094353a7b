//! The account of every record: what was received is what was settled and what is still here.

/// What became of everything that was received. `received` is the sum of all the others, but for the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Ledger {
    /// Records received for handling.
    pub received: u64,
    /// Handled and acknowledged.
    pub done: u64,
    /// Confirmed by the dead-letter topic and acknowledged.
    pub dead_lettered: u64,
    /// Done before this assignment, as the committed offset's map says: not handled again.
    pub skipped: u64,
    /// Given back because their partition was revoked, lost or sought before they were done, or handled too late for it.
    pub stale: u64,
    /// Given back unfinished: the application stopped first.
    pub returned: u64,
    /// Waiting for a handler now.
    pub queued: u64,
    /// With a handler now.
    pub in_flight: u64,
    /// Waiting for their next attempt now.
    pub retry_wait: u64,
    /// On their way to the dead-letter topic now.
    pub dead_letters_pending: u64,
    /// Handled, and waiting for the transaction of their outputs and offsets now; see [`ExactlyOnce`](super::ExactlyOnce).
    pub outputs_pending: u64,
    /// Beside the account: handlers that have run over their time, all in all.
    pub timed_out: u64,
    /// Beside the account: those of them that have not returned yet.
    pub overdue: u64,
}

impl Ledger {
    /// How many records are in no state: not 0 means a defect.
    #[must_use]
    pub fn missing(&self) -> i64 {
        let settled = self.done + self.dead_lettered + self.skipped + self.stale + self.returned;
        self.received as i64 - (settled + self.unfinished()) as i64
    }

    /// Every count with its name; the first is the sum of the next ten.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 13] {
        [
            ("received", self.received),
            ("done", self.done),
            ("dead_lettered", self.dead_lettered),
            ("skipped", self.skipped),
            ("stale", self.stale),
            ("returned", self.returned),
            ("queued", self.queued),
            ("in_flight", self.in_flight),
            ("retry_wait", self.retry_wait),
            ("dead_letters_pending", self.dead_letters_pending),
            ("outputs_pending", self.outputs_pending),
            ("timed_out", self.timed_out),
            ("overdue", self.overdue),
        ]
    }

    /// Records that are not settled yet.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        let waiting = self.queued + self.retry_wait + self.dead_letters_pending;
        waiting + self.in_flight + self.outputs_pending
    }
}
