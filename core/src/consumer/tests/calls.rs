//! What an application asks for, by name: to leave, to close, to commit, to seek and to pause, at good and bad moments.

use std::time::Duration;

use super::transitions::one;
use super::world::{MS, SECOND, Setup, World, tp};
use crate::error::Error;
use crate::partition::Offset;
use crate::poller::Command;
use crate::source::SourceEvent;
use crate::source::scripted::{CommitAnswer, FORBIDDEN, LOADING, kafka_error};

// ---- unsubscribe and close ----

#[test]
fn unsubscribing_ends_a_drain() {
    let mut world = World::reading(one(), 10);
    world.next_batch(0, 3);
    world.next_batch(0, 3);
    world.take_all();
    world.run_us(20 * MS);
    assert!(world.owes(0));
    world.unsubscribe(0);
    world.run_us(0);
    assert!(!world.owes(0));
    assert_eq!(world.committed(0), Some(3));
}

#[test]
fn unsubscribing_answers_an_assignment_that_is_being_looked_up() {
    let mut world = World::new(one());
    world.cluster.lock().faults.look_up_delay_us = 60 * SECOND;
    world.start_app();
    world.subscribe(0);
    world.everything_to(0);
    world.run_us(SECOND);
    assert!(world.owes(0));
    world.unsubscribe(0);
    world.run_us(5 * MS);
    assert_eq!((world.holds(0), world.owes(0)), (0, false));
    // The late answer changes nothing.
    world.run_us(70 * SECOND);
    assert_eq!(world.holds(0), 0);
}

#[test]
fn closing_commits_what_is_finished_and_leaves() {
    let mut world = World::reading(one(), 10);
    world.next_batch(0, 3);
    world.next_batch(0, 3);
    world.cluster.lock().faults.commit_delay_us = 100 * MS;
    let closed = world.close(0, 5 * SECOND);
    world.run_us(50 * MS);
    assert!(closed.is_empty());
    world.run_us(SECOND);
    assert!(closed.try_recv().is_ok_and(|result| result.is_ok()));
    assert!(world.apps[0].done);
    assert_eq!(world.committed(0), Some(3), "4 to 6 are in hand");
    let polled = world.apps[0].consumer.poll(Some(Duration::ZERO));
    assert!(matches!(polled, Err(Error::Closed { .. })));
}

#[test]
fn closing_while_looking_up_leaves_at_once() {
    let mut world = World::new(one());
    world.cluster.lock().faults.look_up_delay_us = 60 * SECOND;
    world.start_app();
    world.subscribe(0);
    world.everything_to(0);
    world.run_us(SECOND);
    let closed = world.close(0, 5 * SECOND);
    world.run_us(50 * MS);
    assert!(closed.try_recv().is_ok_and(|result| result.is_ok()));
    assert!(world.apps[0].done);
}

#[test]
fn closing_while_draining_does_not_wait_for_the_application() {
    let mut world = World::reading(one(), 10);
    world.next_batch(0, 3);
    world.next_batch(0, 3);
    world.take_all();
    world.run_us(20 * MS);
    assert!(world.owes(0));
    let closed = world.close(0, 5 * SECOND);
    world.run_us(50 * MS);
    assert!(closed.try_recv().is_ok_and(|result| result.is_ok()));
    assert_eq!(world.committed(0), Some(3));
}

#[test]
fn closing_answers_at_its_deadline_whatever_hangs() {
    let mut world = World::reading(one(), 10);
    world.healthy = false;
    world.next_batch(0, 3);
    world.finish_in_hand(0);
    {
        let faults = &mut world.cluster.lock().faults;
        faults.commit_answers = [CommitAnswer::Silent; 8].into();
        faults.hold_close = true;
    }
    let closed = world.close(0, 2 * SECOND);
    world.run_us(1_990 * MS);
    assert!(closed.is_empty());
    world.run_us(20 * MS);
    let result = closed.try_recv().expect("answered");
    assert!(matches!(result, Err(Error::TimedOut { .. })));
    // The poller goes on until the group is left.
    assert!(!world.apps[0].done);
    world.cluster.lock().faults.hold_close = false;
    world.run_us(10 * SECOND);
    assert!(world.apps[0].done);
}

#[test]
fn nothing_is_handed_out_after_closing_began() {
    let mut world = World::reading(one(), 10);
    world.poll(0);
    world.cluster.lock().faults.hold_close = true;
    let _closed = world.close(0, 5 * SECOND);
    world.run_us(10 * MS);
    for _ in 0..3 {
        let polled = world.apps[0].consumer.poll(Some(Duration::ZERO));
        assert!(matches!(polled, Err(Error::Closed { .. })), "{polled:?}");
    }
    world.cluster.lock().faults.hold_close = false;
    world.run_us(SECOND);
}

// ---- commits ----

#[test]
fn the_timer_commits_every_interval_and_not_before() {
    let mut world = World::reading(one(), 10);
    world.run_us(100 * MS);
    world.next_batch(0, 4);
    world.finish_in_hand(0);
    let sent = world.commits_sent(0);
    world.run_us(890 * MS);
    assert_eq!(world.commits_sent(0), sent);
    world.run_us(20 * MS);
    assert_eq!(world.commits_sent(0), sent + 1);
    assert_eq!(world.committed(0), Some(4));
    world.run_us(5 * SECOND);
    assert_eq!(world.commits_sent(0), sent + 1, "nothing new, nothing sent");
}

#[test]
fn a_commit_that_failed_is_repeated_with_what_was_finished_meanwhile() {
    for answer in [
        CommitAnswer::NotSent,
        CommitAnswer::Failed(LOADING),
        CommitAnswer::FirstFailed(LOADING),
        CommitAnswer::DoneButFailed(LOADING),
    ] {
        let mut world = World::reading(one(), 10);
        world.healthy = false;
        world.next_batch(0, 4);
        world.finish_in_hand(0);
        world.cluster.lock().faults.commit_answers = [answer].into();
        world.run_us(1_100 * MS);
        world.next_batch(0, 2);
        world.finish_in_hand(0);
        world.run_us(SECOND);
        assert_eq!(world.committed(0), Some(6), "{answer:?}");
    }
}

#[test]
fn a_commit_that_failed_is_repeated_when_nothing_else_was_finished() {
    for answer in [
        CommitAnswer::NotSent,
        CommitAnswer::Failed(LOADING),
        CommitAnswer::FirstFailed(LOADING),
    ] {
        let mut world = World::reading(one(), 10);
        world.healthy = false;
        world.next_batch(0, 4);
        world.finish_in_hand(0);
        world.cluster.lock().faults.commit_answers = [answer].into();
        world.run_us(1_100 * MS);
        assert_eq!(world.committed(0), Some(0), "{answer:?}");
        world.run_us(SECOND);
        assert_eq!(world.committed(0), Some(4), "{answer:?}");
    }
}

#[test]
fn a_failed_commit_is_told_to_who_waits() {
    let mut world = World::reading(one(), 10);
    world.healthy = false;
    world.next_batch(0, 4);
    world.cluster.lock().faults.commit_answers = [CommitAnswer::Failed(FORBIDDEN)].into();
    let answer = world.commit(0);
    world.run_us(0);
    let code = answer
        .try_recv()
        .expect("answered")
        .expect_err("failed")
        .kafka_code()
        .map(|code| code.number());
    assert_eq!(code, Some(FORBIDDEN));
}

#[test]
fn a_commit_of_an_earlier_place_does_not_hide_a_seek_back() {
    let mut world = World::reading(one(), 10);
    world.next_batch(0, 8);
    world.finish_in_hand(0);
    world.cluster.lock().faults.commit_delay_us = 500 * MS;
    let answer = world.commit(0);
    world.run_us(10 * MS);
    drop(world.seek(0, 0, Offset::At(2)));
    world.run_us(5 * SECOND);
    assert!(answer.try_recv().is_ok_and(|result| result.is_ok()));
    assert_eq!(world.committed(0), Some(2));
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(2));
}

#[test]
fn a_log_made_anew_is_read_and_committed_from_where_it_begins() {
    let mut world = World::new(one());
    world.cluster.lock().committed.insert(tp(0), 50);
    world.cluster.lock().produce(&tp(0), 0, 20, 10);
    world.start_app();
    world.subscribe(0);
    world.everything_to(0);
    world.run_us(0);
    assert_eq!(
        world.next_batch(0, 8).map(|batch| batch.offsets()[0]),
        Some(0)
    );
    world.finish_in_hand(0);
    world.run_us(2 * SECOND);
    assert_eq!(world.committed(0), Some(8));
}

#[test]
fn a_lease_from_before_a_truncation_does_not_finish_what_is_there_now() {
    let mut world = World::reading(one(), 10);
    world.lease(0, 10);
    let old = world.apps[0].leases.pop().expect("a lease").batch;
    world.cluster.lock().truncate(&tp(0), 4);
    world.cluster.lock().produce(&tp(0), 0, 8, 10);
    world.run_us(0);
    let new = world.next_batch(0, 100).expect("the new records");
    assert_eq!(new.offsets(), (4..12).collect::<Vec<_>>());
    assert_ne!(generation(&new), generation(&old));
    old.acknowledge_rows(4..10).expect("harmless");
    world.run_us(2 * SECOND);
    assert_eq!(world.committed(0), Some(0), "0 to 3 are leased");
    for offset in 0..4 {
        world
            .cluster
            .lock()
            .was_finished(0, &tp(0), generation(&old), offset);
    }
    old.acknowledge_rows(0..4).expect("still ours");
    world.run_us(2 * SECOND);
    assert_eq!(world.committed(0), Some(4), "4 to 11 are in hand");
    world.finish_in_hand(0);
    world.check_committed();
    assert_eq!(world.committed(0), Some(12));
    assert!(world.apps[0].consumer.assignment().len() == 1);
}

#[test]
fn what_waits_of_a_log_that_was_truncated_is_handed_out_before_what_came_after() {
    let mut world = World::reading(one(), 10);
    world.next_batch(0, 2);
    world.set_paused(0, 0, true);
    assert!(world.next_batch(0, 100).is_none());
    world.cluster.lock().truncate(&tp(0), 6);
    world.cluster.lock().produce(&tp(0), 0, 3, 10);
    world.set_paused(0, 0, false);
    world.run_us(0);
    let mut offsets = Vec::new();
    let mut sent = world.apps[0].consumer.position(&tp(0)).expect("known");
    while let Some(batch) = world.next_batch(0, 3) {
        assert_eq!(sent, Some(batch.offsets()[0]));
        offsets.extend_from_slice(batch.offsets());
        let last = offsets[offsets.len() - 1];
        // The position is of the old log until the new one begins.
        sent = Some(if last == 9 { 6 } else { last + 1 });
    }
    assert_eq!(offsets, [2, 3, 4, 5, 6, 7, 8, 9, 6, 7, 8]);
    world.check_committed();
    assert_eq!(world.committed(0), Some(9));
}

#[test]
fn a_revoke_takes_what_was_before_a_truncation_too() {
    let mut world = World::reading(one(), 10);
    world.lease(0, 3);
    world.cluster.lock().truncate(&tp(0), 6);
    world.cluster.lock().produce(&tp(0), 0, 3, 10);
    world.run_us(0);
    world.take_all();
    world.run_us(20 * MS);
    assert!(world.owes(0), "the lease is of before");
    assert!(world.next_batch(0, 100).is_none());
    for _ in 0..3 {
        world.acknowledge_one(0, 0);
    }
    world.run_us(5 * MS);
    assert_eq!((world.owes(0), world.committed(0)), (false, Some(3)));
}

fn generation(batch: &crate::batch::RecordBatch) -> crate::partition::Generation {
    batch.runs().next().expect("a run").generation
}

/// Two partitions of ten records, and a consumer without a subscription.
fn by_hand() -> World {
    let mut world = World::new(Setup::default());
    for partition in 0..2 {
        world.cluster.lock().produce(&tp(partition), 0, 10, 10);
    }
    world.start_app();
    world
}

fn assign_by_hand(world: &mut World, partition: i32) {
    let (reply, answer) = crossbeam_channel::bounded(1);
    let command = Command::Assign {
        partitions: vec![(tp(partition), Offset::At(0))],
        reply,
    };
    let commands = &world.apps[0].consumer.commands;
    commands.send(command).expect("there");
    world.run_us(0);
    assert!(answer.try_recv().is_ok_and(|result| result.is_ok()));
}

#[test]
fn assigning_by_hand_commits_what_the_partitions_before_had_finished() {
    let mut world = by_hand();
    assign_by_hand(&mut world, 0);
    assert_eq!(world.next_batch(0, 4).map(|batch| batch.len()), Some(4));
    world.finish_in_hand(0);
    assign_by_hand(&mut world, 1);
    assert_eq!(world.committed(0), Some(4));
    let batch = world.next_batch(0, 4).expect("records");
    assert!(batch.partitions().iter().all(|&partition| partition == 1));
}

#[test]
fn closing_commits_what_was_assigned_by_hand() {
    // No rebalance takes these partitions away, so no revoke commits for them.
    let mut world = by_hand();
    assign_by_hand(&mut world, 0);
    world.next_batch(0, 4);
    world.next_batch(0, 4);
    let closed = world.close(0, SECOND);
    world.run_us(100 * MS);
    assert!(closed.try_recv().is_ok_and(|result| result.is_ok()));
    assert_eq!(world.committed(0), Some(4), "4 to 7 are in hand");
}

// ---- seek and pause ----

#[test]
fn a_seek_hands_out_nothing_from_before() {
    let mut world = World::reading(one(), 10);
    world.poll(0);
    let held = world.poll(0).expect("a record");
    let answer = world.seek(0, 0, Offset::At(7));
    assert!(answer.try_recv().is_ok_and(|result| result.is_ok()));
    assert!(held.is_stale());
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(7));
    let answer = world.seek(0, 0, Offset::Beginning);
    assert!(answer.try_recv().is_ok_and(|result| result.is_ok()));
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(0));
    world.check_committed();
}

#[test]
fn a_seek_that_comes_too_early_is_repeated() {
    let mut world = World::reading(one(), 10);
    world.cluster.lock().faults.seeks_refused = 60;
    let answer = world.seek(0, 0, Offset::At(5));
    world.run_us(20 * MS);
    assert!(answer.is_empty());
    assert!(world.poll(0).is_none(), "nothing of the place before");
    world.run_us(200 * MS);
    assert!(answer.try_recv().is_ok_and(|result| result.is_ok()));
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(5));
}

#[test]
fn a_seek_is_not_repeated_for_ever() {
    let mut world = World::reading(one(), 10);
    world.cluster.lock().faults.seeks_refused = usize::MAX;
    let answer = world.seek(0, 0, Offset::At(5));
    world.run_us(4_990 * MS);
    assert!(answer.is_empty());
    world.run_us(20 * MS);
    assert_eq!(world.committed(0), Some(0), "a place that was not sought");
    let error = answer.try_recv().expect("answered").expect_err("refused");
    assert_eq!(error.kafka_code().map(|code| code.name()), Some("_STATE"));
}

#[test]
fn a_partition_whose_seek_failed_goes_on_from_its_first_unfinished_record() {
    let mut world = World::reading(one(), 10);
    for offset in 0..4 {
        let record = world.poll(0).expect("a record");
        assert_eq!(record.offset(), offset);
    }
    world.cluster.lock().faults.seeks_refused = usize::MAX;
    let first = world.seek(0, 0, Offset::At(8));
    // Its place is the one before the first.
    let second = world.seek(0, 0, Offset::At(9));
    world.run_us(5_010 * MS);
    assert!(first.try_recv().expect("answered").is_err());
    assert!(second.try_recv().expect("answered").is_err());
    assert!(world.poll(0).is_none(), "nothing before it is sought");
    world.cluster.lock().faults.seeks_refused = 0;
    world.run_us(1_000 * MS);
    // The fourth record was in hand and is not finished.
    let left: Vec<i64> = std::iter::from_fn(|| world.poll(0))
        .map(|record| record.offset())
        .collect();
    assert_eq!(left, [3, 4, 5, 6, 7, 8, 9]);
    world.check_committed();
}

#[test]
fn a_seek_ends_when_its_partition_is_taken_away_or_sought_again() {
    let mut world = World::reading(one(), 10);
    world.cluster.lock().faults.seeks_refused = 30;
    let first = world.seek(0, 0, Offset::At(5));
    let second = world.seek(0, 0, Offset::At(6));
    assert!(matches!(
        first.try_recv().expect("answered"),
        Err(Error::NotAssigned { .. })
    ));
    assert!(second.is_empty());
    world.take_all();
    world.run_us(10 * MS);
    assert!(matches!(
        second.try_recv().expect("answered"),
        Err(Error::NotAssigned { .. })
    ));
    let third = world.seek(0, 0, Offset::At(6));
    assert!(matches!(
        third.try_recv().expect("answered"),
        Err(Error::NotAssigned { .. })
    ));
    assert!(!world.owes(0));
}

#[test]
fn a_paused_partition_keeps_its_records_and_holds_up_no_other() {
    let mut world = World::reading(Setup::default(), 20);
    world.run_us(0);
    assert!(world.set_paused(0, 0, true));
    world.cluster.lock().produce(&tp(1), 0, 20, 10);
    world.run_us(0);
    let mut seen = 0;
    while let Some(batch) = world.next_batch(0, 7) {
        assert!(batch.partitions().iter().all(|&partition| partition == 1));
        seen += batch.len();
    }
    assert_eq!(seen, 40);
    assert!(world.set_paused(0, 0, false));
    world.cluster.lock().produce(&tp(0), 0, 5, 10);
    // The cluster checks that they come in order and complete.
    world.read_everything();
}

// ---- errors ----

#[test]
fn only_errors_that_the_application_can_mend_come_out_of_its_poll() {
    let mut world = World::reading(one(), 3);
    let error = |number| SourceEvent::Error(kafka_error(number));
    world.cluster.lock().give(0, error(-195)); // _TRANSPORT
    world.cluster.lock().give(0, error(FORBIDDEN));
    world.run_us(0);
    let polled = world.apps[0].consumer.poll(Some(Duration::ZERO));
    let code = polled
        .expect_err("told")
        .kafka_code()
        .map(|code| code.number());
    assert_eq!(code, Some(FORBIDDEN));
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(0));
}

// ---- small batches ----

/// One partition whose records reach the gate in batches of `fill`.
fn in_fills_of(fill: usize, records: i64, setup: Setup) -> World {
    let mut world = World::reading(setup, 0);
    world.cluster.lock().faults.fill_records = fill;
    world.cluster.lock().produce(&tp(0), 0, records, 10);
    world.run_us(0);
    world
}

#[test]
fn small_batches_that_wait_are_handed_out_together() {
    let mut world = in_fills_of(3, 60, one());
    let batch = world.next_batch(0, usize::MAX).expect("records");
    assert_eq!(batch.len(), 60);
    assert!(world.apps[0].consumer.gate.channel().is_empty());
    assert_eq!(world.apps[0].consumer.gate.level().bytes(), 0);

    let mut world = in_fills_of(3, 60, one());
    let lengths = [7, 1, 20, 100].map(|most| world.next_batch(0, most).map_or(0, |b| b.len()));
    assert_eq!(lengths, [7, 1, 20, 32]);
    // Nothing is waited for.
    assert!(world.next_batch(0, 5).is_none());
}

#[test]
fn batches_are_joined_no_further_than_a_batch_may_grow() {
    let setup = Setup {
        batch_bytes: 500,
        ..one()
    };
    let mut world = in_fills_of(1, 60, setup);
    let one_bytes = world.cluster.lock().largest_batch_bytes;
    let rows = world.next_batch(0, usize::MAX).expect("records").len();
    assert_eq!(rows, 500 / one_bytes + 1);
    assert!(
        !world.apps[0].consumer.gate.channel().is_empty(),
        "the gate's bytes are counted"
    );
    world.read_everything();
}

#[test]
fn large_batches_are_handed_out_as_they_are() {
    let mut world = in_fills_of(2_000, 6_000, one());
    for _ in 0..3 {
        let batch = world.next_batch(0, usize::MAX).expect("records");
        assert_eq!((batch.len(), batch.arenas().len()), (2_000, 1));
    }
    let world = in_fills_of(2_000, 6_000, one());
    let batch = world.apps[0].consumer.fill_batch(Duration::ZERO, 5_000);
    assert_eq!(
        batch.expect("no error").map(|batch| batch.len()),
        Some(5_000)
    );
}
