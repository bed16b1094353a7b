//! What must hold in every world: all the time, before a crash, after a quiet interval, and at the end.

use super::world::{MS, SECOND, World};

impl World {
    pub(super) fn check(&mut self) {
        let now_us = self.now_us();
        let mut cluster = self.cluster.lock();
        for index in 0..self.apps.len() {
            let app = &mut self.apps[index];
            let member = &cluster.members[app.me];
            let mut wrong = Vec::new();

            // Every rebalance is answered in time.
            for owed in &member.owed {
                let waited_us = now_us - owed.given_us.unwrap_or(now_us);
                let bound_us = match (owed.assign, self.healthy) {
                    (false, true) => self.setup.drain_us + 2 * SECOND,
                    (true, true) => 2 * SECOND,
                    (_, false) => self.setup.drain_us + 30 * SECOND,
                };
                if waited_us > bound_us {
                    wrong.push(format!("{owed:?} was not answered in {waited_us} us"));
                }
            }
            // A start that was resolved is committed at once.
            for (partition, fetching) in &member.fetching {
                if self.setup.auto_commit && fetching.start_uncommitted && !app.done {
                    wrong.push(format!("the start of {partition} was not committed"));
                }
            }
            // max.poll.interval.ms, sampled every twentieth of it.
            let interval_us = self.setup.max_poll_interval_us;
            let evicted = app.poller.evicted;
            if evicted && !app.was_evicted {
                self.evictions += 1;
                if now_us - app.acted_us <= interval_us {
                    wrong.push(format!(
                        "evicted {} us after it acted",
                        now_us - app.acted_us
                    ));
                }
            }
            app.was_evicted = evicted;
            let sampled_us = interval_us + interval_us / 20 + SECOND;
            if app.subscribed
                && !app.done
                && !evicted
                && now_us - app.may_have_acted_us > sampled_us
            {
                wrong.push("stuck and not evicted".to_string());
            }
            if evicted && now_us > app.may_have_acted_us + sampled_us && member.subscribed {
                wrong.push("evicted and still subscribed".to_string());
            }
            // The gate.
            let queued = app.consumer.gate.level().bytes();
            self.peak_gate_bytes = self.peak_gate_bytes.max(queued);
            if queued >= self.setup.gate_bytes + cluster.largest_batch_bytes.max(1) {
                wrong.push(format!(
                    "{queued} bytes in a gate of {}",
                    self.setup.gate_bytes
                ));
            }
            // What the timer has seen.
            let finished: Vec<_> = member
                .fetching
                .iter()
                .map(|(partition, fetching)| {
                    let cell = &fetching.cell;
                    (partition.clone(), cell.generation(), cell.finished())
                })
                .collect();
            app.history.push_back((now_us, finished));
            let keep_us = 3 * self.setup.commit_interval_us;
            while app
                .history
                .front()
                .is_some_and(|(at_us, _)| at_us + keep_us < now_us)
            {
                app.history.pop_front();
            }
            let me = app.me;
            cluster.violations.extend(
                wrong
                    .into_iter()
                    .map(|text| format!("app {index} (member {me}): {text}")),
            );
        }
        let violations = std::mem::take(&mut cluster.violations);
        drop(cluster);
        assert!(violations.is_empty(), "{now_us} us: {violations:#?}");
    }

    /// Before a crash: what was finished more than one commit interval ago is committed.
    pub(super) fn check_repeats(&self, index: usize) {
        if !self.healthy || !self.setup.auto_commit {
            return;
        }
        let app = &self.apps[index];
        let cluster = self.cluster.lock();
        let slack_us = self.setup.commit_interval_us + cluster.faults.commit_delay_us + 600 * MS;
        let Some((_, finished)) = app
            .history
            .iter()
            .rev()
            .find(|(at_us, _)| at_us + slack_us <= self.now_us())
        else {
            return;
        };
        for (partition, generation, offset) in finished {
            let fetching = cluster.members[app.me].fetching.get(partition);
            if fetching.is_some_and(|fetching| fetching.cell.generation() == *generation) {
                let committed = cluster.committed.get(partition).copied().unwrap_or(-1);
                assert!(
                    committed >= *offset,
                    "{partition}: {offset} was finished long ago, {committed} is committed"
                );
            }
        }
    }

    /// After one more commit interval without faults: what is finished is committed, no more and no less.
    pub(super) fn check_committed(&mut self) {
        self.run_us(self.setup.commit_interval_us + 2 * SECOND);
        let cluster = self.cluster.lock();
        for app in &self.apps {
            for (partition, fetching) in &cluster.members[app.me].fetching {
                let finished = fetching.cell.finished();
                if finished >= 0 && self.setup.auto_commit {
                    assert_eq!(
                        cluster.committed.get(partition),
                        Some(&finished),
                        "{partition}"
                    );
                }
            }
        }
    }

    /// When the applications have finished everything: the engine knows.
    fn check_nothing_in_hand(&self) {
        let cluster = self.cluster.lock();
        for app in &self.apps {
            for (partition, fetching) in &cluster.members[app.me].fetching {
                let cell = &fetching.cell;
                assert!(!cell.has_in_hand(), "{partition}: {cell:?}");
                assert_eq!(cell.finished(), cell.handed(), "{partition}");
            }
        }
    }

    /// The applications read and finish everything there is; panics when they do not get on.
    pub(super) fn read_everything(&mut self) {
        /// Far more than any case needs.
        const MOST_ROUNDS: usize = 2_000;
        let mut idle = 0;
        for _ in 0..MOST_ROUNDS {
            let mut got = false;
            for index in 0..self.apps.len() {
                while self.acknowledge_one(index, 0) {}
                while self.next_batch(index, 100).is_some() {
                    got = true;
                }
            }
            self.run_us(100 * MS);
            idle = if got { 0 } else { idle + 1 };
            // Longer than any retry of the engine.
            if idle > 20 && self.cluster.lock().unfinished().is_empty() {
                self.check_nothing_in_hand();
                return;
            }
            if idle > 400 {
                break;
            }
        }
        let cluster = self.cluster.lock();
        let alive: Vec<_> = cluster.members.iter().filter(|m| !m.gone).collect();
        panic!(
            "not read: {:?}; target {:?}; {alive:#?}",
            cluster.unfinished(),
            cluster.target
        );
    }
}
