//! Each transition of an assignment, a revoke and an eviction by name.

use std::time::Duration;

use super::world::{MS, SECOND, Setup, World, tp};
use crate::error::Error;
use crate::source::Protocol;
use crate::source::lookup::Reset;
use crate::source::scripted::{CommitAnswer, FORBIDDEN, LOADING};

pub(super) fn one() -> Setup {
    Setup {
        partitions: 1,
        ..Setup::default()
    }
}

pub(super) fn listening() -> Setup {
    Setup {
        listening: true,
        ..one()
    }
}

impl World {
    pub(super) fn take_all(&mut self) {
        self.cluster.lock().rebalance([].into());
    }

    /// True while the member owes an answer to a rebalance.
    pub(super) fn owes(&self, index: usize) -> bool {
        let me = self.apps[index].me;
        !self.cluster.lock().members[me].owed.is_empty()
    }

    pub(super) fn holds(&self, index: usize) -> usize {
        let me = self.apps[index].me;
        self.cluster.lock().members[me].fetching.len()
    }

    pub(super) fn committed(&self, partition: i32) -> Option<i64> {
        self.cluster.lock().committed.get(&tp(partition)).copied()
    }

    pub(super) fn commits_sent(&self, index: usize) -> usize {
        let me = self.apps[index].me;
        self.cluster.lock().members[me].commits_sent
    }

    pub(super) fn calls(&self, index: usize) -> Vec<String> {
        self.apps[index].told.lock().calls.clone()
    }
}

// ---- assign ----

#[test]
fn a_new_group_commits_its_start_at_once() {
    let setup = Setup {
        reset: Reset::End,
        ..one()
    };
    let world = World::reading(setup, 7);
    assert_eq!(world.now_us(), 0);
    assert_eq!(world.committed(0), Some(7));
}

#[test]
fn a_group_that_committed_before_does_not_commit_its_start_again() {
    let mut world = World::reading(one(), 7);
    world.next_batch(0, 5);
    world.finish_in_hand(0);
    world.check_committed();
    assert_eq!(world.committed(0), Some(5));
    world.crash(0);
    world.subscribe(0);
    world.run_us(5 * SECOND);
    assert_eq!(world.commits_sent(0), 0);
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(5));
}

#[test]
fn a_look_up_that_fails_is_repeated_and_nothing_is_fetched_before() {
    let mut world = World::new(one());
    world.healthy = false;
    world.cluster.lock().faults.look_up_failures = [LOADING; 3].into();
    world.cluster.lock().produce(&tp(0), 0, 5, 10);
    world.start_app();
    world.subscribe(0);
    world.everything_to(0);
    world.run_us(1_400 * MS);
    assert_eq!(world.holds(0), 0, "the third attempt comes after a second");
    world.run_us(200 * MS);
    assert_eq!(world.holds(0), 1);
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(0));
}

#[test]
fn a_look_up_that_is_forbidden_is_told_and_librdkafka_resolves_the_start() {
    let mut world = World::new(one());
    world.healthy = false;
    world.cluster.lock().faults.look_up_failures = [FORBIDDEN].into();
    world.cluster.lock().produce(&tp(0), 0, 5, 10);
    world.start_app();
    world.subscribe(0);
    world.everything_to(0);
    world.run_us(0);
    assert_eq!(world.holds(0), 1);
    let error = world.apps[0].consumer.poll(Some(Duration::ZERO));
    let code = error
        .expect_err("told")
        .kafka_code()
        .map(|code| code.number());
    assert_eq!(code, Some(FORBIDDEN));
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(0));
    world.poll(0);
    world.check_committed();
    assert_eq!(world.committed(0), Some(1));
}

#[test]
fn without_auto_commit_nothing_is_committed_unasked() {
    let setup = Setup {
        auto_commit: false,
        ..one()
    };
    // The world counts every commit that was not asked for.
    let mut world = World::reading(setup, 20);
    world.next_batch(0, 5);
    world.next_batch(0, 5);
    world.run_us(3 * SECOND);
    world.take_all();
    world.run_us(3 * SECOND);
    world.everything_to(0);
    world.run_us(SECOND);
    assert_eq!(world.committed(0), None);
    assert_eq!(
        world.next_batch(0, 4).map(|batch| batch.offsets()[0]),
        Some(0)
    );
    let answer = world.commit(0);
    world.run_us(0);
    let committed = answer.try_recv().expect("answered").expect("done");
    assert_eq!(committed[0].offset, 4);
    assert_eq!(world.committed(0), Some(4));
    let closed = world.close(0, SECOND);
    world.run_us(2 * SECOND);
    assert!(closed.try_recv().is_ok_and(|result| result.is_ok()));
}

// ---- revoke ----

#[test]
fn a_revoke_with_nothing_in_hand_is_answered_at_once() {
    let mut world = World::reading(one(), 10);
    world.next_batch(0, 4);
    world.finish_in_hand(0);
    world.take_all();
    world.run_us(0);
    assert_eq!((world.holds(0), world.owes(0)), (0, false));
    assert_eq!(world.committed(0), Some(4));
}

#[test]
fn a_revoke_waits_for_the_record_in_hand_and_hands_out_no_other() {
    let mut world = World::reading(one(), 10);
    world.poll(0);
    world.take_all();
    world.run_us(150 * MS);
    assert!(world.owes(0));
    assert!(
        world.poll(0).is_none(),
        "asking for the next one finishes it"
    );
    world.run_us(3 * MS);
    assert_eq!((world.holds(0), world.owes(0)), (0, false));
    assert_eq!(world.committed(0), Some(1));
}

#[test]
fn a_revoke_waits_no_longer_than_the_drain_bound() {
    let mut world = World::reading(one(), 10);
    world.next_batch(0, 5);
    world.take_all();
    world.run_us(199 * MS);
    assert!(world.owes(0));
    world.run_us(2 * MS);
    assert!(!world.owes(0));
    assert_eq!(world.committed(0), Some(0), "nothing is finished");
    // Too late: another may have them.
    world.finish_in_hand(0);
    world.run_us(5 * SECOND);
    assert_eq!(world.committed(0), Some(0));
}

#[test]
fn leases_acknowledged_while_draining_are_committed() {
    let mut world = World::reading(one(), 10);
    world.lease(0, 6);
    world.take_all();
    world.run_us(50 * MS);
    for pick in [40, 31, 22, 13, 7, 0] {
        assert!(world.owes(0));
        assert!(world.acknowledge_one(0, pick));
        world.run_us(5 * MS);
    }
    assert!(!world.owes(0));
    assert_eq!(world.committed(0), Some(6));
}

#[test]
fn leases_given_back_are_not_waited_for_and_not_committed() {
    let mut world = World::reading(one(), 10);
    world.lease(0, 6);
    let batch = world.apps[0].leases[0].batch.clone();
    let generation = batch.runs().next().expect("a run").generation;
    batch.acknowledge_rows(0..2).expect("live");
    for offset in 0..2 {
        world
            .cluster
            .lock()
            .was_finished(0, &tp(0), generation, offset);
    }
    world.take_all();
    world.run_us(50 * MS);
    assert!(world.owes(0));
    world.release_stale(0);
    world.run_us(3 * MS);
    assert!(!world.owes(0));
    assert_eq!(world.committed(0), Some(2));
}

#[test]
fn a_revoke_waits_for_its_commit_but_not_for_ever() {
    let mut world = World::reading(one(), 10);
    world.healthy = false;
    world.next_batch(0, 5);
    world.finish_in_hand(0);
    world.cluster.lock().faults.commit_answers = [CommitAnswer::Silent].into();
    world.take_all();
    world.run_us(4_990 * MS);
    assert!(world.owes(0));
    world.run_us(20 * MS);
    assert!(!world.owes(0));
    assert_eq!(world.holds(0), 0);
}

#[test]
fn the_callback_runs_before_the_commit_and_a_late_one_hears_of_a_loss() {
    let mut world = World::reading(listening(), 10);
    world.poll(0);
    assert_eq!(world.calls(0), ["assign 1"]);
    world.take_all();
    world.run_us(50 * MS);
    assert!(world.owes(0));
    world.poll(0);
    assert_eq!(world.calls(0), ["assign 1", "revoke 1"]);
    world.run_us(3 * MS);
    assert!(!world.owes(0));
    assert_eq!(world.committed(0), Some(1));

    world.everything_to(0);
    world.run_us(MS);
    world.poll(0);
    world.take_all();
    world.run_us(300 * MS);
    assert!(!world.owes(0), "the drain bound holds for callbacks, too");
    world.poll(0);
    assert_eq!(world.calls(0)[2..], ["assign 1", "lost 1"]);
}

#[test]
fn lost_partitions_are_not_committed() {
    let mut world = World::reading(listening(), 10);
    world.poll(0);
    let record = world.poll(0).expect("a record");
    world.cluster.lock().lose(0);
    // Not given again at once.
    world.take_all();
    world.run_us(0);
    assert!(record.is_stale());
    assert!(matches!(record.acknowledge(), Err(Error::Stale { .. })));
    world.run_us(5 * SECOND);
    assert_eq!(world.committed(0), Some(0));
    world.poll(0);
    assert_eq!(world.calls(0), ["assign 1", "lost 1"]);
}

#[test]
fn partitions_lost_while_draining_are_not_committed() {
    let mut world = World::reading(one(), 10);
    world.next_batch(0, 5);
    world.take_all();
    world.run_us(50 * MS);
    let sent = world.commits_sent(0);
    world.cluster.lock().lose_while_revoking(0);
    world.finish_in_hand(0);
    // The cluster notes any commit for what the member does not hold.
    world.run_us(3 * MS);
    assert!(!world.owes(0));
    assert_eq!(world.commits_sent(0), sent);
}

#[test]
fn an_eager_group_takes_all_and_gives_anew() {
    let setup = Setup {
        protocol: Protocol::Eager,
        partitions: 4,
        ..Setup::default()
    };
    let mut world = World::reading(setup, 10);
    world.next_batch(0, 15);
    world.start_app();
    world.subscribe(1);
    world.give_to(&[0, 1]);
    world.run_us(0);
    assert!(world.owes(0));
    world.next_batch(0, 1);
    world.run_us(5 * MS);
    assert_eq!((world.holds(0), world.holds(1)), (2, 2));
    world.read_everything();
}

#[test]
fn a_full_gate_answers_rebalances() {
    let setup = Setup {
        gate_bytes: 100,
        batch_bytes: 1,
        ..one()
    };
    let mut world = World::reading(setup, 1_000);
    world.cluster.lock().faults.fill_records = 1;
    world.run_us(SECOND);
    assert!(world.peak_gate_bytes >= 100);
    world.take_all();
    world.run_us(0);
    assert!(!world.owes(0));
    assert!(world.poll(0).is_none(), "what is queued is stale");
}

// ---- max.poll.interval.ms ----

#[test]
fn a_stuck_application_leaves_the_group_once_and_stays_out() {
    let mut world = World::reading(one(), 10);
    world.start_app();
    world.next_batch(0, 3);
    world.next_batch(0, 3);
    world.run_us(10 * SECOND);
    assert!(world.cluster.lock().members[0].subscribed);
    world.run_us(600 * MS);
    assert!(!world.cluster.lock().members[0].subscribed);
    assert_eq!(world.committed(0), Some(3));
    assert_eq!(world.holds(0), 0);
    // Neither the revoke nor time is a sign of life.
    world.run_us(60 * SECOND);
    assert_eq!(world.evictions, 1);
    assert!(!world.cluster.lock().members[0].subscribed);
    assert!(world.poll(0).is_none());
    world.run_us(MS);
    assert!(world.cluster.lock().members[0].subscribed);
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(3));
}

#[test]
fn a_slow_application_that_acknowledges_is_not_evicted() {
    let mut world = World::reading(one(), 40);
    world.lease(0, 40);
    let last_to_first = |pick: usize| pick * 7;
    // Row 0 is the last: everything else is finished ahead of the watermark, in ranges that join.
    for row in (0..39).rev() {
        world.run_us(5 * SECOND);
        assert!(world.acknowledge_one(0, last_to_first(row + 1)));
    }
    assert_eq!(world.evictions, 0);
    assert_eq!(world.committed(0), Some(0));
    world.run_us(11 * SECOND);
    assert_eq!(world.evictions, 1, "now it is stuck");
}

#[test]
fn an_application_that_waits_for_records_is_not_evicted() {
    let mut world = World::reading(one(), 0);
    world.poll(0);
    world.apps[0].consumer.shared.set_app_waiting(true);
    for _ in 0..100 {
        world.run_us(SECOND);
        // What the world cannot see: it waits.
        let now_us = world.now_us();
        world.apps[0].may_have_acted_us = now_us;
    }
    assert_eq!(world.evictions, 0);
    world.apps[0].consumer.shared.set_app_waiting(false);
    world.apps[0].acted_us = world.now_us();
    world.run_us(11 * SECOND);
    assert_eq!(world.evictions, 1);
}

#[test]
fn rebalances_are_no_sign_of_life() {
    let setup = Setup {
        partitions: 2,
        ..Setup::default()
    };
    let mut world = World::reading(setup, 10);
    world.start_app();
    world.subscribe(1);
    world.lease(0, 20);
    for pick in 0..10 {
        world.acknowledge_one(0, pick);
    }
    for round in 0..6 {
        world.give_to(if round % 2 == 0 { &[0, 1] } else { &[0] });
        world.run_us(2 * SECOND);
        world.poll(1);
    }
    assert_eq!(world.evictions, 1);
    assert!(!world.cluster.lock().members[0].subscribed);
}

#[test]
fn an_evicted_application_that_unsubscribes_does_not_come_back() {
    let mut world = World::reading(one(), 10);
    world.poll(0);
    world.run_us(11 * SECOND);
    world.unsubscribe(0);
    world.run_us(MS);
    // Subscribing to nothing would be noted.
    world.poll(0);
    world.run_us(20 * SECOND);
    assert!(!world.cluster.lock().members[0].subscribed);
    assert_eq!(world.evictions, 1);
}

#[test]
fn a_revoke_of_an_evicted_application_does_not_wait_for_it() {
    let mut world = World::reading(listening(), 10);
    world.poll(0);
    world.run_us(10 * SECOND + 600 * MS);
    assert_eq!(world.evictions, 1);
    assert!(!world.owes(0));
    world.poll(0);
    assert_eq!(world.calls(0), ["assign 1", "lost 1"]);
}
