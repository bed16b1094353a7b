//! What an admin client's handle says beside answers: the last error, for the text of a request that got none, and what waits for an
//! application that polls for it.
//!
//! The handle's thread ("tidegate-admin") tells; any thread takes. Always true: an event is either kept or logged, never both.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Admin, WHAT};
use crate::error::{KafkaCode, Result};
use crate::events::{ClientEvent, Events};
use crate::log::{self, Level, TIDEGATE};
use crate::signal::Signal;
use crate::sink::{Report, Reports};

/// Which events wait for the application; the others are only logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    Nothing,
    /// All but log lines.
    Events,
    EventsAndLog,
}

/// Hears from the handle.
pub(super) struct Watcher {
    keeps: Keeps,
    last_error: Mutex<Option<String>>,
    events: Events,
    fresh: Signal,
}

impl Watcher {
    pub(super) fn new(keeps: Keeps) -> Watcher {
        Watcher {
            keeps,
            last_error: Mutex::default(),
            events: Events::default(),
            fresh: Signal::new(),
        }
    }

    pub(super) fn take_last_error(&self) -> Option<String> {
        self.last_error.lock().take()
    }
}

impl Reports for Watcher {
    fn report(&self, _report: &Report<'_>) {}

    fn delivered(&self, _records: u64) {}

    fn error(&self, code: KafkaCode, reason: &str) {
        {
            let mut last = self.last_error.lock();
            // "1/1 brokers are down" follows the error that says why; it is the less useful of the two.
            if last.is_none() || code.name() != "_ALL_BROKERS_DOWN" {
                *last = Some(reason.to_string());
            }
        }
        let event = ClientEvent::Error {
            code,
            reason: reason.to_string(),
        };
        if self.event(event).is_some() {
            log::emit(
                Level::Warn,
                TIDEGATE,
                format_args!("admin client: {}: {reason}", code.name()),
            );
        }
    }

    fn wants_throttles(&self) -> bool {
        self.keeps != Keeps::Nothing
    }

    fn event(&self, event: ClientEvent) -> Option<ClientEvent> {
        let is_line = matches!(event, ClientEvent::Log { .. });
        match self.keeps {
            Keeps::Nothing => return Some(event),
            Keeps::Events if is_line => return Some(event),
            Keeps::Events | Keeps::EventsAndLog => {}
        }
        self.events.push(event);
        if self.fresh.is_waited_for() {
            self.fresh.raise();
        }
        None
    }
}

impl Admin {
    /// What librdkafka said since the last call, with [`Admin::polled`].
    #[must_use]
    pub fn take_events(&self) -> Vec<ClientEvent> {
        self.watcher.events.take()
    }

    /// Waits until an event waits, or the time is over: true when there is one.
    ///
    /// # Errors
    /// [`crate::Error::Forked`].
    pub fn wait_events(&self, timeout: Duration) -> Result<bool> {
        self.fork.check(WHAT)?;
        let watcher = &self.watcher;
        let deadline = Instant::now().checked_add(timeout);
        let waiting = watcher.fresh.enter();
        loop {
            let epoch = waiting.epoch();
            if !watcher.events.is_empty() {
                return Ok(true);
            }
            let left = deadline.map_or(Duration::MAX, |at| {
                at.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Ok(false);
            }
            waiting.wait(epoch, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_a_polled_client_says_waits_and_wakes_who_waits() {
        // A port that nobody listens at.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let servers = closed.local_addr().unwrap().to_string();
        drop(closed);
        let config = Config::new()
            .with("bootstrap.servers", servers)
            .with("debug", "admin")
            .with("statistics.interval.ms", 50);
        let admin = Admin::polled(&config, true).unwrap();
        let lines = admin.take_events();
        assert!(
            lines.iter().any(
                |event| matches!(event, ClientEvent::Log { facility, .. } if facility == "INIT")
            ),
            "what it said while it was made: {lines:?}"
        );
        let (mut error, mut statistics) = (false, false);
        while !(error && statistics) {
            assert!(admin.wait_events(Duration::from_secs(30)).unwrap());
            for event in admin.take_events() {
                error |= matches!(&event, ClientEvent::Error { code, .. } if code.name() == "_TRANSPORT");
                statistics |= matches!(event, ClientEvent::Statistics(_));
            }
        }
    }

    #[test]
    fn a_client_that_is_not_polled_keeps_nothing_and_a_wait_ends_in_its_time() {
        let config = Config::new()
            .servers_may_miss()
            .with("statistics.interval.ms", 20);
        let admin = Admin::new(&config).unwrap();
        assert!(!admin.wait_events(Duration::from_millis(120)).unwrap());
        assert!(admin.take_events().is_empty());
    }
}
