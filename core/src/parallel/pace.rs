//! How fast work is begun: a budget per second, and a limit of work at once that follows how the handlers do.
//!
//! Pure: the caller brings the time.

/// Work per second, in records or in whatever a record costs. The budget may be overdrawn by what is begun at once; nothing is begun
/// until that is paid back.
#[derive(Debug)]
pub(crate) struct Budget {
    per_us: f64,
    /// The most that is saved up.
    burst: f64,
    level: f64,
    at_us: u64,
    /// What a record is expected to cost until it is known.
    expected: f64,
}

/// How much a new cost changes what is expected.
const LEARN: f64 = 0.1;

impl Budget {
    pub(crate) fn new(per_second: f64, now_us: u64) -> Budget {
        Budget {
            per_us: per_second / 1e6,
            burst: per_second.max(1.0),
            level: 1.0,
            at_us: now_us,
            expected: 1.0,
        }
    }

    fn flow(&mut self, now_us: u64) {
        let us = now_us.saturating_sub(self.at_us);
        self.at_us = self.at_us.max(now_us);
        self.level = (self.level + us as f64 * self.per_us).min(self.burst);
    }

    /// Pays for one record, if there is anything left to pay with; gives what was paid.
    pub(crate) fn pay(&mut self, now_us: u64) -> Option<f64> {
        self.flow(now_us);
        if self.level <= 0.0 {
            return None;
        }
        self.level -= self.expected;
        Some(self.expected)
    }

    /// Takes a payment back: nothing was begun.
    pub(crate) fn pay_back(&mut self, paid: f64) {
        self.level += paid;
    }

    /// The record for which `paid` was paid costs so much.
    pub(crate) fn correct(&mut self, paid: f64, cost: f64) {
        self.level += paid - cost;
        self.expected += LEARN * (cost - self.expected);
    }

    /// When there is something to pay with again; `None` when there is now.
    pub(crate) fn due_us(&self) -> Option<u64> {
        let missing_us = (-self.level / self.per_us).ceil() as u64;
        (self.level <= 0.0).then(|| self.at_us.saturating_add(missing_us).saturating_add(1))
    }
}

/// How many records are with handlers at once: one more for each full round that goes well, a quarter fewer when they become slow
/// or fail.
#[derive(Debug)]
pub(crate) struct Throttle {
    least: f64,
    most: f64,
    limit: f64,
    /// What an answer takes when there is no crowd.
    base_us: f64,
    recent_us: f64,
    cut_us: u64,
}

/// So much slower than at its best is too slow.
const SLOW: f64 = 2.0;
const CUT: f64 = 0.75;
/// The best time is forgotten bit by bit, round by round: a service may become slower for good.
const FORGET: f64 = 0.0005;
const RECENT: f64 = 0.1;

impl Throttle {
    pub(crate) fn new(least: usize, most: usize) -> Throttle {
        Throttle {
            least: least as f64,
            most: most as f64,
            limit: least as f64,
            base_us: 0.0,
            recent_us: 0.0,
            cut_us: 0,
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A handler has answered after `took_us`, while `busy` records were with handlers.
    pub(crate) fn note(&mut self, took_us: u64, went_well: bool, busy: usize, now_us: u64) {
        let took = took_us.max(1) as f64;
        if went_well {
            if self.base_us == 0.0 {
                (self.base_us, self.recent_us) = (took, took);
            }
            let forgotten = FORGET / self.limit * (took - self.base_us).max(0.0);
            self.base_us = took.min(self.base_us + forgotten);
            self.recent_us += RECENT * (took - self.recent_us);
        }
        if went_well && self.recent_us <= SLOW * self.base_us {
            // Only what is used up is worth more.
            if busy + 1 >= self.limit() {
                self.limit = (self.limit + 1.0 / self.limit).min(self.most);
            }
            return;
        }
        // Answers on their way know nothing of the last cut.
        let since_us = now_us.saturating_sub(self.cut_us) as f64;
        if self.cut_us == 0 || since_us > self.recent_us.max(took) {
            self.limit = (self.limit * CUT).max(self.least);
            self.cut_us = now_us.max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// How many are begun in so many seconds, when there is always something to begin.
    fn begun(budget: &mut Budget, seconds: u64, cost: f64) -> f64 {
        let mut total = 0.0;
        for now_us in (0..seconds * SECOND).step_by(1_000) {
            while let Some(paid) = budget.pay(now_us) {
                budget.correct(paid, cost);
                total += cost;
            }
        }
        total
    }

    #[test]
    fn a_budget_is_kept_whatever_a_record_costs() {
        for cost in [0.5, 1.0, 7.0, 250.0] {
            let total = begun(&mut Budget::new(100.0, 0), 60, cost);
            let allowed = 60.0 * 100.0 + cost + 1.0;
            assert!(
                total <= allowed && total > 0.95 * allowed - cost,
                "{cost}: {total}"
            );
        }
    }

    #[test]
    fn what_is_saved_is_a_second_at_most_and_a_debt_is_paid_first() {
        let mut budget = Budget::new(10.0, 0);
        let mut count = 0;
        while budget.pay(100 * SECOND).is_some() {
            count += 1;
        }
        assert_eq!(count, 10);
        budget.correct(1.0, 21.0);
        assert_eq!(budget.pay(101 * SECOND), None);
        let due_us = budget.due_us().expect("a time");
        assert!(due_us > 101 * SECOND, "{due_us}");
        assert!(budget.pay(due_us).is_some(), "{due_us} {budget:?}");
    }

    /// A service that serves eight at once in 10 ms, and takes longer the more there are.
    fn settle_at(least: usize, most: usize) -> (usize, usize) {
        let mut throttle = Throttle::new(least, most);
        let (mut now_us, mut highest) = (0, 0);
        for _ in 0..20_000 {
            let limit = throttle.limit();
            let took_us = 10_000 * limit.max(8) as u64 / 8;
            now_us += took_us / limit as u64;
            throttle.note(took_us, true, limit, now_us);
            highest = highest.max(throttle.limit());
        }
        (throttle.limit(), highest)
    }

    #[test]
    fn the_limit_finds_what_a_service_bears() {
        let (limit, highest) = settle_at(1, 1_000);
        assert!(
            (6..=40).contains(&limit) && highest < 60,
            "{limit} {highest}"
        );
        assert_eq!(settle_at(1, 4).0, 4);
    }

    #[test]
    fn failures_cut_the_limit_once_a_round_and_not_below_the_least() {
        let mut throttle = Throttle::new(2, 100);
        for round in 1..2_000 {
            throttle.note(1_000, true, 100, round * 1_000);
        }
        let before = throttle.limit();
        for _ in 0..50 {
            throttle.note(1_000, false, 100, 5 * SECOND);
        }
        assert_eq!(throttle.limit(), before * 3 / 4);
        for round in 0..50 {
            throttle.note(1_000, false, 100, (6 + round) * SECOND);
        }
        assert_eq!(throttle.limit(), 2);
    }
}
