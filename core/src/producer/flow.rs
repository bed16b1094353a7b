//! How many records a sender of batches lets be under way: as many as the broker has use for, and not as many as the queue holds.
//!
//! A queue of half a million records is no faster than one of twenty thousand, and costs more: each record is out of the processor's
//! caches when the broker's thread comes to it, and waits behind all the others (one million records of 100 B: 30 % less processor time,
//! 2026-11-29). What is enough follows from Little's law: the rate at which records come through, times the shortest time that one
//! needed lately. Always true: few are never too many; a sender waits only while reports come, and a second for the first of them.
//!
//! [`Flow::note`] runs on the delivery thread, [`Flow::limit`] on any.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// So many may always be under way.
pub(super) const FEW: u64 = 16_384;
/// Without any report for so long a sender goes on: the broker is away, or `linger.ms` is long.
pub(super) const GIVE_UP: Duration = Duration::from_secs(1);
/// Beyond half of the shortest time: what a broker's thread takes to turn round.
const SLACK_US: u64 = 5_000;
/// The shortest time is that of the last one or two of these: ways change.
const WINDOW_US: u64 = 30_000_000;

#[derive(Debug, Default)]
struct Shortest {
    window_ends_us: u64,
    now_us: Option<u64>,
    before_us: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Flow {
    limit: AtomicU64,
    /// How many records had ended when a sender gave up waiting, plus one: nobody waits until there are more.
    gave_up: AtomicU64,
    shortest: Mutex<Shortest>,
}

impl Flow {
    pub(super) fn new() -> Flow {
        Flow {
            limit: AtomicU64::new(FEW),
            gave_up: AtomicU64::new(0),
            shortest: Mutex::new(Shortest::default()),
        }
    }

    /// A record was delivered so long after it was sent, with so many under way.
    pub(super) fn note(&self, latency_us: u64, in_flight: u64, now_us: u64) {
        let mut shortest = self.shortest.lock();
        if now_us >= shortest.window_ends_us {
            shortest.before_us = shortest.now_us.take();
            shortest.window_ends_us = now_us.saturating_add(WINDOW_US);
        }
        let least = shortest.now_us.unwrap_or(latency_us).min(latency_us);
        shortest.now_us = Some(least);
        let least = least.min(shortest.before_us.unwrap_or(least));
        drop(shortest);
        let enough_us = least.saturating_add(least / 2).saturating_add(SLACK_US);
        let enough = u128::from(in_flight) * u128::from(enough_us) / u128::from(latency_us.max(1));
        let enough = u64::try_from(enough).unwrap_or(u64::MAX);
        self.limit.store(enough.max(FEW), Ordering::Relaxed);
    }

    /// More than these need not be under way.
    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// A sender has waited in vain, after so many ended.
    pub(super) fn give_up(&self, ended: u64) {
        self.gave_up.store(ended + 1, Ordering::Relaxed);
    }

    /// Nothing has ended since somebody waited in vain.
    pub(super) fn is_given_up(&self, ended: u64) -> bool {
        self.gave_up.load(Ordering::Relaxed) == ended + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_passes_in_the_shortest_time_and_a_half() {
        let flow = Flow::new();
        assert_eq!(flow.limit(), FEW);
        // A far broker, one round trip of 100 ms at work: as many again, and a half.
        flow.note(100_000, 16_384, 0);
        assert_eq!(flow.limit(), 16_384 * 155 / 100);
        flow.note(100_000, 200_000, 1);
        assert_eq!(flow.limit(), 310_000);
        // A second in the queue: the rate is 200 000 per second, and 155 ms of it are enough.
        flow.note(1_000_000, 200_000, 2);
        assert_eq!(flow.limit(), 31_000);
        // Few are always allowed.
        flow.note(1_000_000, 20_000, 3);
        assert_eq!(flow.limit(), FEW);
        flow.note(0, u64::MAX, 4);
        assert_eq!(flow.limit(), u64::MAX);
    }

    #[test]
    fn the_shortest_time_is_forgotten_after_two_windows() {
        let flow = Flow::new();
        flow.note(1_000, 100_000, 0);
        flow.note(100_000, 1_000_000, WINDOW_US);
        assert_eq!(flow.limit(), 65_000);
        flow.note(100_000, 1_000_000, 2 * WINDOW_US);
        assert_eq!(flow.limit(), 1_550_000);
    }

    #[test]
    fn who_gave_up_waits_again_when_something_has_ended() {
        let flow = Flow::new();
        assert!(!flow.is_given_up(0));
        flow.give_up(0);
        assert!(flow.is_given_up(0) && !flow.is_given_up(1));
    }
}
