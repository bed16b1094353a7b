//! Every interleaving of the threads that share a [`PartitionCell`], a [`Level`] or a [`Ready`], each story as short as it can be.

use std::io::Write as _;
use std::sync::atomic::AtomicUsize;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::level::Level;
use crate::partition::{Generation, TopicPartition};
use crate::ready::Ready;
use crate::tracker::{CellState, PartitionCell};

/// Runs `story` in every interleaving and says how many there were.
fn explore(name: &str, story: impl Fn() + Sync + Send + 'static) {
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&count);
    loom::model(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        story();
    });
    let count = count.load(std::sync::atomic::Ordering::Relaxed);
    assert!(count > 1, "nothing to interleave");
    let _ = writeln!(std::io::stderr(), "loom: {name}: {count} interleavings");
}

/// A cell with the records of `[0, handed)` in the application's hands.
fn cell(handed: i64) -> Arc<PartitionCell> {
    let cell = PartitionCell::new(TopicPartition::new("t", 0), Generation(1), 0);
    if handed > 0 {
        assert!(cell.deliver(0, handed));
    }
    Arc::new(cell)
}

fn with<T: Send + 'static>(
    cell: &Arc<PartitionCell>,
    act: impl FnOnce(&PartitionCell) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let cell = Arc::clone(cell);
    thread::spawn(move || act(&cell))
}

fn joined<T>(handle: thread::JoinHandle<T>) -> T {
    handle.join().expect("no panic")
}

#[test]
fn three_threads_finish_one_record_each() {
    explore("three threads finish one record each", || {
        let cell = cell(3);
        let others: Vec<_> = [(1, 2), (2, 3)]
            .map(|(start, end)| with(&cell, move |cell| cell.complete(start, end)))
            .into();
        cell.complete(0, 1);
        others.into_iter().for_each(joined);
        assert_eq!(cell.finished(), 3);
        assert!(!cell.has_in_hand());
    });
}

#[test]
fn a_committer_never_passes_an_unfinished_record() {
    explore("a committer beside two finishing threads", || {
        let cell = cell(3);
        let last = with(&cell, |cell| cell.complete(1, 3));
        let seen = with(&cell, PartitionCell::finished);
        assert_eq!(joined(seen), 0, "record 0 is not finished");
        cell.complete(0, 1);
        joined(last);
        assert_eq!(cell.finished(), 3);
    });
}

#[test]
fn what_the_committer_sees_only_grows() {
    explore("two looks of a committer", || {
        let cell = cell(3);
        let first = with(&cell, |cell| cell.complete(0, 2));
        let last = with(&cell, |cell| cell.complete(2, 3));
        let (before, after) = (cell.finished(), cell.finished());
        assert!(before <= after && [0, 2, 3].contains(&before));
        joined(first);
        joined(last);
        assert_eq!(cell.finished(), 3);
    });
}

#[test]
fn a_gap_is_finished_with_what_is_before_it() {
    explore(
        "delivery after a gap while the record before it is finished",
        || {
            let cell = cell(1);
            let other = with(&cell, |cell| cell.complete(0, 1));
            assert!(cell.deliver(5, 6));
            cell.complete(5, 6);
            joined(other);
            assert_eq!(cell.finished(), 6);
        },
    );
}

#[test]
fn whoever_takes_the_partition_sees_what_is_handed_out_or_it_is_not() {
    explore("revoke beside a batch handed out", || {
        let cell = cell(0);
        let revoked = with(&cell, |cell| {
            cell.advance_state(CellState::Revoking);
            cell.has_in_hand()
        });
        let handed_out = cell.deliver(0, 5);
        let waits = joined(revoked);
        assert!(waits || !handed_out, "taken away and handed out");
        assert_eq!(cell.has_in_hand(), handed_out);
    });
}

#[test]
fn a_record_is_in_hand_while_the_next_one_is_taken() {
    explore("revoke beside records one by one", || {
        let cell = cell(1);
        let revoked = with(&cell, |cell| {
            cell.advance_state(CellState::Revoking);
            cell.has_in_hand()
        });
        cell.deliver_next(1, 2);
        cell.complete(0, 1);
        assert!(joined(revoked), "record 0 or record 1 is in hand");
    });
}

#[test]
fn released_and_finished_records_end_a_drain_together() {
    explore("a drain beside a release and a completion", || {
        let cell = cell(3);
        let released = with(&cell, |cell| cell.release(1, 3));
        let drained = with(&cell, |cell| !cell.has_in_hand());
        cell.complete(0, 1);
        let early = joined(drained);
        joined(released);
        assert!(!cell.has_in_hand());
        assert!(!early || cell.finished() == 1);
        assert_eq!(cell.finished(), 1, "what is released is not finished");
    });
}

#[test]
fn a_log_made_anew_is_not_finished_by_what_was_in_hand() {
    explore("the source goes back beside a completion", || {
        let before = PartitionCell::new(TopicPartition::new("t", 0), Generation(1), 0);
        assert!(before.deliver(0, 10));
        before.complete(0, 1);
        let before = std::sync::Arc::new(before);
        let cell = PartitionCell::following(&before, Generation(2), 2);
        let old = thread::spawn(move || before.complete(1, 10));
        assert!(cell.deliver(2, 4));
        cell.complete(2, 3);
        let seen = cell.finished();
        assert!([1, 3].contains(&seen), "{seen}");
        joined(old);
        assert_eq!(cell.finished(), 3);
        assert!(cell.has_in_hand());
    });
}

/// The poller finds no room while the application empties the gate: it is told to go on, or sees the room itself.
fn no_wake_up_is_lost(sizes: &'static [usize], budget_bytes: usize, most_batches: usize) {
    let level = Arc::new(Level::new(budget_bytes, most_batches));
    for &bytes in sizes {
        level.add(bytes);
    }
    let emptied = Arc::clone(&level);
    let application = thread::spawn(move || {
        // All of them, whoever is woken by which.
        sizes.iter().filter(|&&bytes| emptied.remove(bytes)).count() > 0
    });
    let goes_on = level.has_room();
    let woken = joined(application);
    assert!(goes_on || woken, "the poller sleeps for ever");
    assert_eq!(level.bytes(), 0);
    assert!(level.has_room());
}

#[test]
fn no_wake_up_is_lost_when_bytes_are_the_limit() {
    explore("a gate full by bytes is emptied", || {
        no_wake_up_is_lost(&[6, 5], 10, 64);
    });
}

#[test]
fn no_wake_up_is_lost_when_one_batch_is_larger_than_the_gate() {
    explore("a gate of one huge batch is emptied", || {
        no_wake_up_is_lost(&[100], 10, 64);
    });
}

#[test]
fn no_wake_up_is_lost_when_the_count_is_the_limit() {
    explore("a gate full by count is emptied", || {
        no_wake_up_is_lost(&[1, 1], 1000, 2);
    });
}

#[test]
fn a_poller_that_pushes_and_looks_again_is_woken_too() {
    explore("a push beside a pop", || {
        let level = Arc::new(Level::new(10, 64));
        level.add(8);
        let emptied = Arc::clone(&level);
        let application = thread::spawn(move || emptied.remove(8));
        level.add(8);
        let goes_on = level.has_room();
        let woken = joined(application);
        // What is left now is more than half of the gate, so the pop after it is the one that wakes.
        let woken = level.remove(8) || woken;
        assert!(goes_on || woken, "the poller sleeps for ever");
    });
}

/// What the application is told of, and how often it was told.
struct Told {
    ready: Ready,
    something: AtomicBool,
    calls: std::sync::Arc<AtomicUsize>,
}

impl Told {
    fn new() -> Arc<Told> {
        let calls = std::sync::Arc::new(AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&calls);
        let ready = Ready::new();
        ready.set(Some(std::sync::Arc::new(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        })));
        let something = AtomicBool::new(false);
        Arc::new(Told {
            ready,
            something,
            calls,
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The weakest orders that a channel could have.
    fn leave_something(&self) {
        self.something.store(true, Ordering::Relaxed);
        assert!(self.ready.raise());
    }

    fn found_nothing(&self) {
        self.ready.arm();
        if self.something.load(Ordering::Relaxed) {
            assert!(self.ready.raise());
        }
    }
}

#[test]
fn an_event_loop_that_found_nothing_is_told() {
    explore("a batch beside a poll that found nothing", || {
        let told = Told::new();
        assert!(told.ready.raise(), "armed from the start");
        let before = told.calls();
        assert_eq!(before, 1);
        let other = Arc::clone(&told);
        let poller = thread::spawn(move || other.leave_something());
        told.found_nothing();
        joined(poller);
        assert_eq!(told.calls() - before, 1, "told, and once");
    });
}

#[test]
fn two_who_leave_something_tell_once() {
    explore("a batch beside a wake-up", || {
        let told = Told::new();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let told = Arc::clone(&told);
                thread::spawn(move || told.leave_something())
            })
            .collect();
        others.into_iter().for_each(joined);
        assert_eq!(told.calls(), 1);
    });
}
