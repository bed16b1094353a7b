//! Where a new group begins is known to the broker before the application knows of its assignment or has a record of it:
//! a process killed at any later moment begins there again.

use super::world::{MS, SECOND, Setup, World, tp};
use crate::source::lookup::Reset;
use crate::source::scripted::{CommitAnswer, FORBIDDEN};

/// A group that begins at 3, where partition 0 ended when it was assigned; 5 more records came since.
fn beginning_at_3(listening: bool, prepare: impl FnOnce(&World)) -> World {
    let mut world = World::new(Setup {
        partitions: 1,
        reset: Reset::End,
        listening,
        ..Setup::default()
    });
    world.healthy = false;
    world.cluster.lock().produce(&tp(0), 0, 3, 10);
    prepare(&world);
    world.start_app();
    world.subscribe(0);
    world.everything_to(0);
    world.run_us(0);
    world.cluster.lock().produce(&tp(0), 0, 5, 10);
    world
}

fn calls(world: &World) -> Vec<String> {
    world.apps[0].told.lock().calls.clone()
}

fn committed(world: &World) -> Option<i64> {
    world.cluster.lock().committed.get(&tp(0)).copied()
}

#[test]
fn the_application_hears_of_its_assignment_once_the_start_is_committed() {
    let mut world = beginning_at_3(true, |world| {
        world.cluster.lock().faults.commit_delay_us = SECOND
    });
    world.run_us(900 * MS);
    assert_eq!(committed(&world), None);
    assert!(world.poll(0).is_none());
    assert!(calls(&world).is_empty());
    world.run_us(200 * MS);
    assert_eq!(committed(&world), Some(3));
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(3));
    assert_eq!(calls(&world), ["assign 1"]);
}

#[test]
fn a_start_that_nobody_confirms_is_not_waited_for_for_ever() {
    let mut world = beginning_at_3(true, |world| {
        world.cluster.lock().faults.commit_answers = [CommitAnswer::Silent].into();
    });
    world.run_us(4_900 * MS);
    assert!(world.poll(0).is_none());
    world.run_us(200 * MS);
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(3));
}

#[test]
fn a_start_that_may_not_be_committed_is_not_waited_for() {
    let mut world = beginning_at_3(true, |world| {
        world.cluster.lock().faults.commit_answers = [CommitAnswer::Failed(FORBIDDEN)].into();
    });
    world.run_us(100 * MS);
    assert_eq!(world.poll(0).map(|record| record.offset()), Some(3));
}

#[test]
fn a_close_does_not_wait_for_the_start_and_commits_it() {
    let mut world = beginning_at_3(false, |world| {
        world.cluster.lock().faults.commit_answers = [CommitAnswer::Silent].into();
    });
    let closed = world.close(0, 20 * SECOND);
    world.run_us(100 * MS);
    closed.try_recv().expect("answered").expect("closed");
    assert_eq!(committed(&world), Some(3));
}

#[test]
fn a_loss_does_not_wait_for_the_start() {
    let mut world = beginning_at_3(true, |world| {
        world.cluster.lock().faults.commit_answers = [CommitAnswer::Silent].into();
    });
    world.cluster.lock().lose(0);
    world.run_us(MS);
    assert!(world.poll(0).is_none());
    // It may be a member again by now.
    assert_eq!(calls(&world)[..2], ["assign 1", "lost 1"]);
}

#[test]
fn a_revoke_does_not_wait_for_the_start_and_commits_it() {
    let mut world = beginning_at_3(true, |world| {
        world.cluster.lock().faults.commit_answers = [CommitAnswer::Silent].into();
    });
    world.cluster.lock().rebalance([].into());
    world.run_us(MS);
    assert!(world.poll(0).is_none());
    world.run_us(10 * MS);
    assert_eq!(calls(&world), ["assign 1", "revoke 1"]);
    assert_eq!(committed(&world), Some(3));
    assert!(world.cluster.lock().members[0].owed.is_empty());
}
