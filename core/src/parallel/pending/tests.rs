//! Which records may be counted as done together, by tables and by proptest: a map that does not fit delays, and never leaves out.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn snapshot(finished: i64, done: &[Range<i64>]) -> Snapshot {
    Snapshot {
        finished,
        done: done.to_vec(),
        leader_epoch: -1,
    }
}

fn rows(offsets: impl IntoIterator<Item = i64>) -> Vec<Range<i64>> {
    offsets
        .into_iter()
        .map(|offset| offset..offset + 1)
        .collect()
}

/// How many are chosen, and what is committed.
fn chosen(snapshot: &Snapshot, rows: &[Range<i64>], map_bytes: usize) -> Option<(usize, i64)> {
    let chosen = choose(snapshot, rows, map_bytes)?;
    let count = rows.iter().filter(|row| row.start < chosen.until).count();
    Some((count, chosen.offset))
}

#[test]
fn what_is_in_line_needs_no_map() {
    let none = snapshot(5, &[]);
    assert_eq!(chosen(&none, &rows(5..9), 0), Some((4, 9)));
    assert_eq!(chosen(&none, &rows([5, 6, 8]), 0), Some((2, 7)));
    assert_eq!(chosen(&none, &rows([6, 8]), 0), None);
    assert_eq!(chosen(&none, &rows([6, 8]), 4096), Some((2, 5)));
    // What was done above is passed with the record below it.
    assert_eq!(
        chosen(&snapshot(5, &rows(6..9)), &rows([5]), 0),
        Some((1, 9))
    );
    assert_eq!(chosen(&snapshot(UNKNOWN, &[]), &rows([5]), 4096), None);
}

#[test]
fn as_many_go_as_the_map_has_room_for_and_the_lowest_first() {
    let none = snapshot(0, &[]);
    let every_other = rows((1..4_000).step_by(2));
    assert_eq!(chosen(&none, &every_other, 4096), Some((2_000, 0)));
    let (count, offset) = chosen(&none, &every_other, 200).expect("some fit");
    assert!(offset == 0 && (500..1_500).contains(&count), "{count}");
    // The lowest unfinished one always fits, and then the rest can go.
    let held = snapshot(0, &rows((1..2 * count as i64).step_by(2)));
    assert_eq!(chosen(&held, &every_other[count..], 200), None);
    assert_eq!(chosen(&held, &rows([0]), 200), Some((1, 2)));
}

#[test]
fn what_a_predecessor_has_committed_with_more_room_is_kept() {
    let done = rows((101..1_000).step_by(2));
    let known = snapshot(100, &done);
    let found = choose(&known, &rows([100]), 0).expect("it makes the map shorter");
    let map = OffsetMap::decode(&found.metadata.expect("a map")).expect("readable");
    assert_eq!((found.offset, map.base(), map.count()), (102, 102, 449));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Records are handled in any order, transactions are made now and then with any room: what is committed says exactly what went
    /// in transactions, and in the end everything has gone.
    #[test]
    fn what_is_committed_is_what_was_sent(
        order in Just((0..120_i64).collect::<Vec<_>>()).prop_shuffle(),
        every in 1..30_usize,
        map_bytes in prop_oneof![Just(0_usize), Just(24), Just(30), Just(40), Just(4096)],
    ) {
        let mut sent: BTreeSet<i64> = BTreeSet::new();
        let mut waiting: BTreeSet<i64> = BTreeSet::new();
        let (mut offset, mut done) = (0, Vec::new());
        let last = order.len();
        for (number, handled) in order.into_iter().enumerate() {
            waiting.insert(handled);
            if number % every != 0 && number + 1 != last {
                continue;
            }
            let known = snapshot(offset, &done);
            let rows = rows(waiting.iter().copied());
            let Some(chosen) = choose(&known, &rows, map_bytes) else {
                prop_assert!(!waiting.contains(&offset), "{offset} waits for nothing");
                continue;
            };
            let goes: Vec<i64> = waiting.iter().copied().filter(|row| *row < chosen.until).collect();
            for row in goes {
                waiting.remove(&row);
                prop_assert!(sent.insert(row));
            }
            let text = chosen.metadata.unwrap_or_default();
            prop_assert!(text.len() <= map_bytes);
            offset = chosen.offset;
            done = match text.is_empty() {
                true => Vec::new(),
                false => OffsetMap::decode(&text).expect("readable").done().to_vec(),
            };
            let counted: BTreeSet<i64> = (0..offset).chain(done.iter().cloned().flatten()).collect();
            prop_assert_eq!(&counted, &sent);
        }
        prop_assert_eq!(sent.len(), last);
    }
}
