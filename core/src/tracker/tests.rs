use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn cell(start: i64) -> PartitionCell {
    PartitionCell::new(TopicPartition::new("t", 0), Generation(1), start)
}

#[test]
fn in_order_completion_moves_the_watermark() {
    let cell = cell(10);
    cell.deliver(10, 20);
    assert!(cell.has_in_hand());
    cell.complete(10, 15);
    assert_eq!(cell.finished(), 15);
    cell.complete(15, 20);
    assert_eq!(cell.finished(), 20);
    assert!(!cell.has_in_hand());
}

#[test]
fn nothing_passes_an_unfinished_record() {
    let cell = cell(0);
    cell.deliver(0, 100);
    cell.complete(1, 100);
    assert_eq!(cell.finished(), 0);
    cell.complete(0, 1);
    assert_eq!(cell.finished(), 100);
    assert_eq!(cell.ahead_len.load(Ordering::SeqCst), 0);
}

#[test]
fn gaps_count_as_finished_only_when_what_is_before_them_is() {
    let cell = cell(0);
    cell.deliver(5, 6); // 0..5 were compacted away
    assert_eq!(cell.finished(), 5);
    cell.deliver(9, 10); // 6..9 too, but 5 is still in hand
    assert_eq!(cell.finished(), 5);
    cell.complete(9, 10);
    assert_eq!(cell.finished(), 5);
    cell.complete(5, 6);
    assert_eq!(cell.finished(), 10);
}

#[test]
fn a_released_record_is_not_waited_for_and_not_committed() {
    let cell = cell(0);
    cell.deliver(0, 10);
    cell.complete(0, 2);
    cell.release(3, 5);
    cell.complete(5, 6);
    cell.release(6, 10);
    assert!(cell.has_in_hand(), "record 2");
    cell.complete(2, 3);
    assert!(!cell.has_in_hand());
    assert_eq!(cell.finished(), 3);
    cell.deliver(10, 11);
    assert!(cell.has_in_hand(), "record 10");
}

#[test]
fn what_was_finished_before_the_source_went_back_does_not_finish_what_came_after() {
    let old = Arc::new(cell(0));
    old.deliver(0, 10);
    let new = PartitionCell::following(&old, Generation(2), 5);
    assert_eq!((new.finished(), new.handed()), (0, 10));
    assert!(new.deliver(5, 8));
    assert_eq!(new.handed(), 8);
    old.complete(5, 10);
    new.complete(5, 7);
    assert_eq!(new.finished(), 0, "0 to 4 are in hand");
    old.complete(0, 5);
    assert_eq!(new.finished(), 7, "7 is another record than it was");
    assert!(new.has_in_hand());
    new.complete(7, 8);
    assert_eq!(new.finished(), 8);
    assert!(!new.has_in_hand());
}

#[test]
fn a_log_made_anew_is_finished_from_where_it_begins() {
    let old = Arc::new(cell(50)); // committed once
    let new = PartitionCell::following(&old, Generation(2), 0);
    assert_eq!(new.finished(), 0);
    new.deliver(0, 3);
    new.complete(0, 2);
    assert_eq!(new.finished(), 2);
}

#[test]
fn whoever_takes_the_partition_away_or_pauses_it_means_what_was_before_too() {
    let old = Arc::new(cell(0));
    old.set_paused(true);
    let middle = Arc::new(PartitionCell::following(&old, Generation(2), 5));
    let new = PartitionCell::following(&middle, Generation(3), 2);
    assert!(new.is_paused());
    new.set_paused(false);
    assert!(!old.is_paused());
    let progress = new.progress();
    assert!(old.deliver(0, 1));
    assert!(new.has_in_hand());
    old.complete(0, 1);
    assert_ne!(new.progress(), progress);
    assert_eq!(new.finished(), 1);
    new.advance_state(CellState::Revoking);
    assert!(!old.deliver(1, 2) && !middle.deliver(5, 6));
}

#[test]
fn nothing_is_handed_out_once_the_partition_is_being_taken_away() {
    let cell = cell(0);
    assert!(cell.deliver(0, 5));
    cell.complete(0, 5);
    cell.advance_state(CellState::Revoking);
    assert!(!cell.has_in_hand());
    assert!(!cell.deliver(7, 9));
    assert!(!cell.has_in_hand());
    assert_eq!(cell.finished(), 7, "5 and 6 never existed");
}

#[test]
fn every_completion_is_progress() {
    let cell = cell(0);
    cell.deliver(0, 10);
    let mut seen = BTreeSet::from([cell.progress()]);
    // Ranges that join another one ahead of the watermark, too.
    for offset in (1..10).rev().chain([0]) {
        cell.complete(offset, offset + 1);
        assert!(seen.insert(cell.progress()), "record {offset}");
    }
}

#[test]
fn an_unknown_start_is_the_first_record() {
    let cell = cell(UNKNOWN);
    assert!(!cell.has_in_hand());
    cell.deliver(42, 43);
    assert_eq!(cell.finished(), 42);
    cell.complete(42, 43);
    assert_eq!(cell.finished(), 43);
}

#[test]
fn state_only_moves_forward() {
    let cell = cell(0);
    cell.advance_state(CellState::Closed);
    cell.advance_state(CellState::Revoking);
    assert_eq!(cell.state(), CellState::Closed);
}

proptest! {
    // Miri is slow and looks for other things.
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Any split of `[0, n)` into ranges, completed in any order and some of them twice: after each step the
    /// watermark is exactly the first offset that is not complete.
    #[test]
    fn the_watermark_is_the_first_unfinished_offset(
        lengths in prop::collection::vec(1i64..5, 1..40),
        seed in prop::collection::vec(any::<prop::sample::Index>(), 1..80),
    ) {
        let mut ranges = Vec::new();
        let mut at = 0;
        for length in lengths {
            ranges.push((at, at + length));
            at += length;
        }
        let cell = cell(0);
        cell.deliver(0, at);
        let mut done = BTreeSet::new();
        for index in seed {
            let (start, end) = *index.get(&ranges);
            cell.complete(start, end);
            done.extend(start..end);
            let expected = (0..).find(|offset| !done.contains(offset)).unwrap_or(0);
            prop_assert_eq!(cell.finished(), expected);
        }
        for &(start, end) in ranges.iter().rev() {
            cell.complete(start, end);
        }
        prop_assert_eq!(cell.finished(), at);
        prop_assert_eq!(cell.ahead.lock().len(), 0);
    }
}
