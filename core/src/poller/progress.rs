//! `max.poll.interval.ms`, enforced against the application: librdkafka's own check only ever sees the poller's thread.

use crate::error::Error;
use crate::kafka_code;
use crate::log;
use crate::poller::Poller;
use crate::source::Source;

/// librdkafka's `_MAX_POLL_EXCEEDED`.
const MAX_POLL_EXCEEDED: i32 = -147;

impl<S: Source> Poller<S> {
    /// Enforces `max.poll.interval.ms` against the application, which is neither waiting for records nor finishing any.
    /// librdkafka's own check only sees this thread.
    pub(super) fn watch_progress(&mut self, now_us: u64) {
        let progress = self
            .shared
            .progress()
            .wrapping_add(self.assignment.progress());
        if progress != self.progress_seen || self.shared.is_app_waiting() {
            self.progress_seen = progress;
            self.progress_us = now_us;
            if self.evicted && !self.is_closing() {
                self.evicted = false;
                log::info(format_args!(
                    "the application polls again: joining the group again"
                ));
                if let Err(error) = self.source.subscribe(&self.topics) {
                    self.shared.source_error(error);
                }
            }
            return;
        }
        let stuck_us = now_us.saturating_sub(self.progress_us);
        if self.topics.is_empty()
            || self.evicted
            || self.is_closing()
            || stuck_us <= self.settings.max_poll_interval_us
        {
            return;
        }
        self.evicted = true;
        self.rejoin_us = None;
        self.shared.stats.max_poll_exceeded.add(1);
        log::warn(format_args!(
            "the application has neither polled nor finished a record for {} ms (max.poll.interval.ms={}): leaving the group so that \
             others get its partitions; it joins again at the next poll. Raise max.poll.interval.ms, or take fewer records at a time",
            stuck_us / 1000,
            self.settings.max_poll_interval_us / 1000
        ));
        if self.shared.options.errors {
            let interval_ms = self.settings.max_poll_interval_us / 1000;
            self.shared.source_error(Error::Kafka {
                code: kafka_code::from_number(MAX_POLL_EXCEEDED),
                context: format!(
                    "Application maximum poll interval ({interval_ms}ms) exceeded by {}ms",
                    (stuck_us / 1000).saturating_sub(interval_ms)
                ),
            });
        }
        self.answer_pending_assign(now_us);
        self.source.unsubscribe();
    }
}
