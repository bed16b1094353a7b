//! What librdkafka or the broker refuses, never answers, or answers late: nothing waits for ever, nothing is lost.

use super::transitions::{listening, one};
use super::world::{MS, SECOND, Setup, World, tp};
use crate::source::Protocol;
use crate::source::scripted::{CommitAnswer, LOADING};

// ---- assignments that cannot be fetched ----

#[test]
fn an_assignment_that_cannot_be_fetched_is_answered_and_the_group_joined_again() {
    for protocol in [Protocol::Eager, Protocol::Cooperative] {
        let mut world = World::new(Setup {
            protocol,
            ..listening()
        });
        world.healthy = false;
        world.cluster.lock().produce(&tp(0), 0, 5, 10);
        world.cluster.lock().faults.assigns_failing = 2;
        world.start_app();
        world.subscribe(0);
        world.everything_to(0);
        world.run_us(10 * MS);
        assert!(!world.owes(0), "librdkafka would wait for ever");
        assert_eq!(world.holds(0), 0);
        assert!(!world.cluster.lock().members[0].subscribed);
        world.run_us(980 * MS);
        assert!(!world.cluster.lock().members[0].subscribed);
        // The second attempt fails, too.
        world.run_us(2 * SECOND);
        assert_eq!((world.holds(0), world.owes(0)), (1, false));
        assert_eq!(world.poll(0).map(|record| record.offset()), Some(0));
        assert_eq!(
            world.calls(0),
            ["assign 1"],
            "nothing of what was given back"
        );
        world.read_everything();
    }
}

#[test]
fn an_assignment_that_cannot_be_fetched_takes_nothing_else_with_it_unfinished() {
    let mut world = World::reading(Setup::default(), 10);
    world.healthy = false;
    let me = world.apps[0].me;
    world.cluster.lock().rebalance([(tp(0), me)].into());
    world.run_us(10 * MS);
    world.next_batch(0, 4);
    world.cluster.lock().faults.assigns_failing = 1;
    world.everything_to(0);
    world.run_us(10 * MS);
    assert!(world.owes(0), "partition 0 goes too, and is drained");
    world.finish_in_hand(0);
    world.run_us(10 * MS);
    assert_eq!(world.committed(0), Some(4));
    world.run_us(2 * SECOND);
    assert_eq!(world.holds(0), 2);
    world.read_everything();
}

#[test]
fn a_consumer_that_leaves_does_not_join_again() {
    let refused = || {
        let mut world = World::new(one());
        world.healthy = false;
        world.cluster.lock().faults.assigns_failing = 1;
        world.start_app();
        world.subscribe(0);
        world.everything_to(0);
        world.run_us(10 * MS);
        assert!(!world.cluster.lock().members[0].subscribed);
        world
    };
    let mut world = refused();
    world.unsubscribe(0);
    world.run_us(5 * SECOND);
    assert!(!world.cluster.lock().members[0].subscribed);
    let mut world = refused();
    let closed = world.close(0, 3 * SECOND);
    world.run_us(50 * MS);
    closed.try_recv().expect("answered").expect("closed");
    // Stuck meanwhile: it comes back at its next poll and not before.
    let mut world = refused();
    world.cluster.lock().faults.assigns_failing = usize::MAX;
    world.run_us(40 * SECOND);
    assert!(!world.cluster.lock().members[0].subscribed);
    world.cluster.lock().faults.assigns_failing = 0;
    world.poll(0);
    world.run_us(2 * SECOND);
    assert_eq!(world.holds(0), 1);
}

// ---- commits that are never answered, or late ----

/// One partition of ten records, of which `next_batch` has finished 4; the commits sent next get these answers.
fn with_commits(answers: &[CommitAnswer]) -> World {
    let mut world = World::reading(one(), 10);
    world.healthy = false;
    world.next_batch(0, 4);
    world.finish_in_hand(0);
    world.cluster.lock().faults.commit_answers = answers.iter().copied().collect();
    world
}

#[test]
fn a_timed_commit_that_is_never_answered_does_not_stop_the_timer() {
    let mut world = with_commits(&[CommitAnswer::Silent, CommitAnswer::Silent]);
    let sent = world.commits_sent(0);
    world.run_us(5_900 * MS);
    assert_eq!(
        world.commits_sent(0),
        sent + 1,
        "it may still be on its way"
    );
    world.next_batch(0, 2);
    world.finish_in_hand(0);
    world.run_us(5 * SECOND);
    assert_eq!(world.commits_sent(0), sent + 2);
    world.run_us(5 * SECOND);
    assert_eq!(world.commits_sent(0), sent + 3);
    assert_eq!(world.committed(0), Some(6));
    world.run_us(10 * SECOND);
    assert_eq!(world.commits_sent(0), sent + 3, "nothing new, nothing sent");
}

/// Of ten seconds five are kept for leaving, which commits once more; with thirty the answer of a coordinator that is busy with a
/// rebalance is waited for.
#[test]
fn the_last_commit_has_the_time_that_closing_can_spare() {
    for (timeout, commits_after_6_s) in [(10 * SECOND, 2), (30 * SECOND, 1)] {
        let mut world = with_commits(&[]);
        world.cluster.lock().faults.commit_delay_us = 8 * SECOND;
        let sent = world.commits_sent(0);
        let closed = world.close(0, timeout);
        world.run_us(6 * SECOND);
        assert_eq!(
            world.commits_sent(0) - sent,
            commits_after_6_s,
            "{timeout} us"
        );
        world.run_us(4 * SECOND);
        assert!(
            closed.try_recv().is_ok_and(|result| result.is_ok()),
            "{timeout} us"
        );
        assert_eq!(world.committed(0), Some(4));
    }
}

#[test]
fn the_late_answer_to_a_commit_that_was_given_up_is_harmless() {
    let mut world = with_commits(&[]);
    world.cluster.lock().faults.commit_delay_us = 8_500 * MS;
    world.run_us(2 * SECOND);
    world.cluster.lock().faults.commit_delay_us = 0;
    world.next_batch(0, 2);
    world.finish_in_hand(0);
    world.run_us(4_500 * MS);
    assert_eq!(world.committed(0), Some(6), "the second one overtook it");
    // A sign of life.
    world.poll(0);
    // The first one comes through after all, and with it the group stands at 4 again.
    world.run_us(3_050 * MS);
    assert_eq!(world.committed(0), Some(4));
    world.check_committed();
    assert_eq!(world.committed(0), Some(6));
}

#[test]
fn an_answer_from_before_a_rebalance_says_nothing_of_the_partition_now() {
    let mut world = with_commits(&[]);
    world.cluster.lock().faults.commit_delay_us = 3 * SECOND;
    let answer = world.commit(0);
    world.cluster.lock().faults.commit_delay_us = 0;
    world.take_all();
    world.run_us(SECOND);
    assert_eq!(world.committed(0), Some(4));
    // Another member went back to 0 meanwhile, and this one reads and finishes the same records again.
    world.cluster.lock().committed.insert(tp(0), 0);
    world.everything_to(0);
    world.run_us(100 * MS);
    world.cluster.lock().faults.commit_answers = [CommitAnswer::Failed(LOADING); 3].into();
    world.next_batch(0, 4);
    world.finish_in_hand(0);
    world.run_us(2 * SECOND);
    assert!(answer.try_recv().is_ok_and(|result| result.is_ok()));
    // What the broker did with the old request is overwritten; that it did it must not be taken for done.
    world.cluster.lock().committed.insert(tp(0), 0);
    world.check_committed();
    assert_eq!(world.committed(0), Some(4));
}

#[test]
fn a_failure_of_the_timer_does_not_hide_that_of_a_revoke() {
    let mut world = with_commits(&[CommitAnswer::Failed(LOADING), CommitAnswer::Failed(LOADING)]);
    // Both are answered in the same moment, the timer's last.
    world.run_us(900 * MS);
    world.cluster.lock().faults.commit_delay_us = 300 * MS;
    world.take_all();
    world.run_us(50 * MS);
    assert!(world.owes(0));
    world.cluster.lock().faults.commit_delay_us = 200 * MS;
    world.run_us(70 * MS);
    let sent = world.commits_sent(0);
    world.run_us(2 * SECOND);
    assert!(world.commits_sent(0) > sent, "the revoke's is sent again");
    assert_eq!(world.committed(0), Some(4));
    assert!(!world.owes(0));
}

// ---- leaving while a callback is due ----

#[test]
fn closing_while_a_revoke_waits_for_its_callback_runs_it() {
    let mut world = World::reading(listening(), 10);
    world.poll(0);
    world.take_all();
    world.run_us(20 * MS);
    assert!(world.owes(0));
    let closed = world.close(0, 5 * SECOND);
    world.run_us(20 * MS);
    assert!(world.owes(0) && closed.is_empty(), "it has not run yet");
    // As the closing thread does.
    while let Ok(event) = world.apps[0].consumer.events.try_recv() {
        world.apps[0].consumer.handle(event).expect("no error");
    }
    world.run_us(50 * MS);
    assert_eq!(world.calls(0), ["assign 1", "revoke 1"]);
    closed.try_recv().expect("answered").expect("closed");
}

#[test]
fn closing_does_not_wait_for_a_callback_that_nobody_runs() {
    let mut world = World::reading(listening(), 10);
    world.poll(0);
    world.take_all();
    world.run_us(20 * MS);
    let closed = world.close(0, 5 * SECOND);
    world.run_us(300 * MS);
    closed.try_recv().expect("answered").expect("closed");
    while let Ok(event) = world.apps[0].consumer.events.try_recv() {
        let _ = world.apps[0].consumer.handle(event);
    }
    assert_eq!(world.calls(0), ["assign 1", "lost 1"], "too late");
}

#[test]
fn closing_within_the_callback_does_not_wait_for_it() {
    let mut world = World::reading(listening(), 10);
    world.poll(0);
    world.take_all();
    world.run_us(20 * MS);
    // The callback begins: what wait.rs does before it calls the listener.
    let Ok(crate::shared::AppEvent::Revoking { done, .. }) =
        world.apps[0].consumer.events.try_recv()
    else {
        panic!("a callback is due");
    };
    assert!(done.try_send(()).is_ok());
    let closed = world.close(0, 5 * SECOND);
    world.run_us(20 * MS);
    closed.try_recv().expect("answered").expect("closed");
}

#[test]
fn unsubscribing_while_a_revoke_waits_for_its_callback_runs_it() {
    let mut world = World::reading(listening(), 10);
    world.poll(0);
    world.take_all();
    world.run_us(20 * MS);
    world.unsubscribe(0);
    world.run_us(20 * MS);
    world.poll(0);
    world.run_us(5 * MS);
    assert_eq!(world.calls(0), ["assign 1", "revoke 1"]);
    assert!(!world.owes(0));
}

// ---- a rebalance while another one is being answered ----

#[test]
fn a_loss_during_a_look_up_takes_what_is_held_at_once() {
    let mut world = World::reading(Setup::default(), 10);
    let me = world.apps[0].me;
    world.cluster.lock().rebalance([(tp(0), me)].into());
    world.run_us(10 * MS);
    world.poll(0);
    let record = world.poll(0).expect("a record");
    world.cluster.lock().faults.look_up_delay_us = 1_500 * MS;
    world.everything_to(0);
    world.run_us(10 * MS);
    assert!(world.owes(0), "partition 1 is being looked up");
    world.cluster.lock().lose_while_revoking(0);
    let sent = world.commits_sent(0);
    world.run_us(10 * MS);
    assert!(record.is_stale() && world.poll(0).is_none());
    // The look-up ends, its assignment is answered, and so is the loss; the cluster notes any commit for what is gone.
    world.cluster.lock().faults.look_up_delay_us = 0;
    world.run_us(1_490 * MS);
    assert_eq!(world.commits_sent(0), sent);
    world.read_everything();
}

#[test]
fn an_application_that_comes_back_before_its_eviction_is_over_joins_again() {
    let mut world = World::reading(one(), 10);
    world.healthy = false;
    world.next_batch(0, 3);
    world.finish_in_hand(0);
    // The commit of the revoke that follows the eviction takes its time.
    world.cluster.lock().faults.commit_delay_us = 700 * MS;
    while world.evictions == 0 {
        world.run_us(10 * MS);
    }
    world.poll(0);
    world.run_us(3 * SECOND);
    assert!(world.cluster.lock().members[0].subscribed);
    assert_eq!((world.holds(0), world.owes(0)), (1, false));
    world.cluster.lock().faults.commit_delay_us = 0;
    world.read_everything();
}
