//! Stories written by proptest: applications, rebalances, faults, crashes and time in any order.
//!
//! What must hold after every step is checked by the world and its cluster; at the end everything is read, every process
//! is killed, and what its successors read must complete every log.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::say;
use super::world::{MS, SECOND, Setup, Tally, World, tp};
use crate::partition::Offset;
use crate::source::Protocol;
use crate::source::lookup::Reset;
use crate::source::scripted::{CommitAnswer, FORBIDDEN, LOADING};

#[derive(Debug, Clone)]
enum Op {
    Produce {
        partition: i32,
        gap: i64,
        count: i64,
        bytes: usize,
    },
    Poll {
        app: usize,
        times: usize,
    },
    Batch {
        app: usize,
        most: usize,
    },
    Lease {
        app: usize,
        most: usize,
    },
    Acknowledge {
        app: usize,
        picks: Vec<usize>,
    },
    PutBack {
        app: usize,
    },
    LeaseAndPutBack {
        app: usize,
        most: usize,
    },
    ReleaseStale {
        app: usize,
    },
    FinishInHand {
        app: usize,
    },
    Commit {
        app: usize,
    },
    SeekBack {
        app: usize,
        partition: i32,
        by: i64,
    },
    SeekOn {
        app: usize,
        partition: i32,
        by: i64,
    },
    SeekLogical {
        app: usize,
        partition: i32,
        end: bool,
    },
    Pause {
        app: usize,
        partition: i32,
        paused: bool,
    },
    Pass {
        us: u64,
    },
    Rebalance {
        owners: Vec<usize>,
    },
    Lose {
        app: usize,
    },
    LoseWhileRevoking {
        app: usize,
    },
    Unsubscribe {
        app: usize,
    },
    Subscribe {
        app: usize,
    },
    CommitFault {
        answer: CommitAnswer,
    },
    LookUpFault {
        code: i32,
    },
    AssignFault {
        count: usize,
    },
    RefuseSeeks {
        count: usize,
    },
    Delay {
        look_up_us: u64,
        commit_us: u64,
    },
    FillRecords {
        count: usize,
    },
    Crash {
        app: usize,
    },
    Close {
        app: usize,
    },
}

const APPS: usize = 2;
const PARTITIONS: i32 = 3;

fn op() -> impl Strategy<Value = Op> {
    let app = 0..APPS;
    let partition = 0..PARTITIONS;
    prop_oneof![
        12 => (partition.clone(), 0..3i64, 1..60i64, 1..200usize)
            .prop_map(|(partition, gap, count, bytes)| Op::Produce { partition, gap, count, bytes }),
        20 => (app.clone(), 1..12usize).prop_map(|(app, times)| Op::Poll { app, times }),
        14 => (app.clone(), 1..30usize).prop_map(|(app, most)| Op::Batch { app, most }),
        10 => (app.clone(), 1..20usize).prop_map(|(app, most)| Op::Lease { app, most }),
        14 => (app.clone(), prop::collection::vec(0..10_000usize, 1..20))
            .prop_map(|(app, picks)| Op::Acknowledge { app, picks }),
        3 => app.clone().prop_map(|app| Op::PutBack { app }),
        2 => (app.clone(), 1..20usize).prop_map(|(app, most)| Op::LeaseAndPutBack { app, most }),
        3 => app.clone().prop_map(|app| Op::ReleaseStale { app }),
        3 => app.clone().prop_map(|app| Op::FinishInHand { app }),
        5 => app.clone().prop_map(|app| Op::Commit { app }),
        3 => (app.clone(), partition.clone(), 0..30i64)
            .prop_map(|(app, partition, by)| Op::SeekBack { app, partition, by }),
        1 => (app.clone(), partition.clone(), 0..10i64)
            .prop_map(|(app, partition, by)| Op::SeekOn { app, partition, by }),
        1 => (app.clone(), partition.clone(), any::<bool>())
            .prop_map(|(app, partition, end)| Op::SeekLogical { app, partition, end }),
        5 => (app.clone(), partition, any::<bool>())
            .prop_map(|(app, partition, paused)| Op::Pause { app, partition, paused }),
        20 => prop_oneof![3 => 0..20 * MS, 3 => 0..500 * MS, 2 => 0..3 * SECOND]
            .prop_map(|us| Op::Pass { us }),
        1 => Just(Op::Pass { us: 12 * SECOND }),
        9 => prop::collection::vec(0..APPS, PARTITIONS as usize)
            .prop_map(|owners| Op::Rebalance { owners }),
        2 => app.clone().prop_map(|app| Op::Lose { app }),
        1 => app.clone().prop_map(|app| Op::LoseWhileRevoking { app }),
        1 => app.clone().prop_map(|app| Op::Unsubscribe { app }),
        3 => app.clone().prop_map(|app| Op::Subscribe { app }),
        2 => prop_oneof![
            Just(CommitAnswer::NotSent),
            Just(CommitAnswer::Failed(LOADING)),
            Just(CommitAnswer::Failed(FORBIDDEN)),
            Just(CommitAnswer::FirstFailed(LOADING)),
            Just(CommitAnswer::DoneButFailed(LOADING)),
            Just(CommitAnswer::Silent),
        ]
        .prop_map(|answer| Op::CommitFault { answer }),
        1 => prop_oneof![4 => Just(LOADING), 1 => Just(FORBIDDEN)]
            .prop_map(|code| Op::LookUpFault { code }),
        1 => (1..3usize).prop_map(|count| Op::AssignFault { count }),
        1 => (1..5usize).prop_map(|count| Op::RefuseSeeks { count }),
        2 => (0..400 * MS, 0..400 * MS)
            .prop_map(|(look_up_us, commit_us)| Op::Delay { look_up_us, commit_us }),
        3 => prop_oneof![Just(1), Just(3), Just(50), Just(usize::MAX)]
            .prop_map(|count| Op::FillRecords { count }),
        2 => app.clone().prop_map(|app| Op::Crash { app }),
        1 => app.prop_map(|app| Op::Close { app }),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    (
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.8),
        any::<bool>(),
        prop_oneof![Just(600usize), Just(4_000), Just(1 << 20)],
        prop_oneof![Just(1usize), Just(500), Just(1 << 16)],
    )
        .prop_map(
            |(eager, latest, auto_commit, listening, gate_bytes, batch_bytes)| Setup {
                protocol: if eager {
                    Protocol::Eager
                } else {
                    Protocol::Cooperative
                },
                reset: if latest { Reset::End } else { Reset::Beginning },
                auto_commit,
                listening,
                gate_bytes,
                batch_bytes,
                partitions: PARTITIONS,
                ..Setup::default()
            },
        )
}

fn apply(world: &mut World, op: &Op) {
    match *op {
        Op::Produce {
            partition,
            gap,
            count,
            bytes,
        } => {
            world
                .cluster
                .lock()
                .produce(&tp(partition), gap, count, bytes);
        }
        Op::Poll { app, times } => {
            for _ in 0..times {
                world.poll(app);
            }
        }
        Op::Batch { app, most } => drop(world.next_batch(app, most)),
        Op::Lease { app, most } => drop(world.lease(app, most)),
        Op::Acknowledge { app, ref picks } => {
            for &pick in picks {
                world.acknowledge_one(app, pick);
            }
        }
        Op::PutBack { app } => world.put_back(app),
        Op::LeaseAndPutBack { app, most } => world.lease_and_put_back(app, most),
        Op::ReleaseStale { app } => world.release_stale(app),
        Op::FinishInHand { app } => world.finish_in_hand(app),
        Op::Commit { app } => drop(world.commit(app)),
        Op::SeekBack { app, partition, by } => {
            let position = position(world, app, partition);
            drop(world.seek(app, partition, Offset::At((position - by).max(0))));
        }
        Op::SeekOn { app, partition, by } => {
            let end = world.cluster.lock().logs[&tp(partition)].end;
            let to = (position(world, app, partition) + by).min(end);
            drop(world.seek(app, partition, Offset::At(to)));
        }
        Op::SeekLogical {
            app,
            partition,
            end,
        } => {
            let to = if end { Offset::End } else { Offset::Beginning };
            drop(world.seek(app, partition, to));
        }
        Op::Pause {
            app,
            partition,
            paused,
        } => drop(world.set_paused(app, partition, paused)),
        Op::Pass { us } => world.run_us(us),
        Op::Rebalance { ref owners } => world.give_to(owners),
        Op::Lose { app } => {
            let me = world.apps[app].me;
            world.cluster.lock().lose(me);
        }
        Op::LoseWhileRevoking { app } => {
            let me = world.apps[app].me;
            let mut cluster = world.cluster.lock();
            let revoking = cluster.members[me]
                .owed
                .front()
                .is_some_and(|owed| !owed.assign);
            if revoking && !cluster.members[me].held.is_empty() {
                cluster.lose_while_revoking(me);
            }
        }
        Op::Unsubscribe { app } => world.unsubscribe(app),
        Op::Subscribe { app } => world.subscribe(app),
        Op::CommitFault { answer } => {
            world.healthy = false;
            world.cluster.lock().faults.commit_answers.push_back(answer);
        }
        Op::LookUpFault { code } => {
            world.healthy = false;
            world.cluster.lock().faults.look_up_failures.push_back(code);
        }
        Op::AssignFault { count } => {
            world.healthy = false;
            world.cluster.lock().faults.assigns_failing = count;
        }
        Op::RefuseSeeks { count } => world.cluster.lock().faults.seeks_refused = count,
        Op::Delay {
            look_up_us,
            commit_us,
        } => {
            let faults = &mut world.cluster.lock().faults;
            faults.look_up_delay_us = look_up_us;
            faults.commit_delay_us = commit_us;
        }
        Op::FillRecords { count } => world.cluster.lock().faults.fill_records = count,
        Op::Crash { app } => {
            world.crash(app);
            world.subscribe(app);
        }
        Op::Close { app } => close(world, app),
    }
}

fn position(world: &World, app: usize, partition: i32) -> i64 {
    let cluster = world.cluster.lock();
    let fetching = cluster.members[world.apps[app].me]
        .fetching
        .get(&tp(partition));
    fetching.map_or(0, |fetching| fetching.cell.handed().max(0))
}

/// Closes while the application's other threads go on, then starts anew.
fn close(world: &mut World, app: usize) {
    const TIMEOUT_US: u64 = 3 * SECOND;
    let before_us = world.now_us();
    let answer = world.close(app, TIMEOUT_US);
    loop {
        world.run_us(5 * MS);
        world.acknowledge_one(app, 3);
        // As the closing thread does.
        while let Ok(event) = world.apps[app].consumer.events.try_recv() {
            let _ = world.apps[app].consumer.handle(event);
        }
        if answer.try_recv().is_ok() {
            break;
        }
        assert!(
            world.now_us() - before_us <= TIMEOUT_US + 10 * MS,
            "close goes on for ever"
        );
    }
    world.crash(app);
    world.subscribe(app);
}

fn heal(world: &mut World) {
    let mut cluster = world.cluster.lock();
    let faults = &mut cluster.faults;
    faults.commit_answers.clear();
    faults.look_up_failures.clear();
    faults.assigns_failing = 0;
    faults.seeks_refused = 0;
    faults.look_up_delay_us = 0;
    faults.commit_delay_us = 0;
    faults.fill_records = usize::MAX;
    drop(cluster);
    for app in 0..world.apps.len() {
        world.subscribe(app);
        // Alive again, wherever it was.
        world.poll(app);
    }
    world.run_us(2 * SECOND);
    for app in 0..world.apps.len() {
        for partition in 0..PARTITIONS {
            world.set_paused(app, partition, false);
        }
    }
}

fn story(world: &mut World, ops: &[Op]) {
    for app in 0..APPS {
        world.start_app();
        world.subscribe(app);
    }
    world.give_to(&[0, 1]);
    for op in ops {
        apply(world, op);
        world.step();
    }
    heal(world);
    world.read_everything();
    world.check_committed();
    // Everyone dies. What was read and not committed comes again, nothing is missing.
    for app in 0..APPS {
        world.crash(app);
        world.subscribe(app);
    }
    for partition in 0..PARTITIONS {
        world.cluster.lock().produce(&tp(partition), 1, 5, 10);
    }
    world.read_everything();
    world.check_committed();
    let cluster = world.cluster.lock();
    let lost: BTreeSet<_> = cluster.unfinished().into_iter().collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[test]
fn no_story_loses_a_record_or_commits_an_unfinished_one() {
    static HANDED: Tally = Tally::new();
    static AGAIN: Tally = Tally::new();
    static EVICTED: Tally = Tally::new();
    static STEPS: Tally = Tally::new();
    let cases = std::env::var("TIDEGATE_STORIES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(300);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 3_000,
        ..Config::default()
    });
    let stories = (setup(), prop::collection::vec(op(), 1..120));
    let result = runner.run(&stories, |(setup, ops)| {
        STEPS.add(ops.len());
        let mut world = World::new(setup);
        story(&mut world, &ops);
        EVICTED.add(world.evictions as usize);
        let cluster = world.cluster.lock();
        HANDED.add(cluster.handed_out as usize);
        AGAIN.add(cluster.handed_out_again as usize);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    say(&format!(
        "engine: {cases} stories of {} events: {} records handed out, {} of them again, {} evictions, none lost",
        STEPS.get(),
        HANDED.get(),
        AGAIN.get(),
        EVICTED.get(),
    ));
}
