//! The codec: round trips, the shortest form, and texts that are none.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one range of offsets is meant"
)]

use proptest::prelude::*;

use super::*;

fn map(base: i64, done: &[Range<i64>]) -> OffsetMap {
    OffsetMap::from_done(base, Some(3), done.iter().cloned())
}

fn form(map: &OffsetMap) -> u8 {
    map.shortest().0
}

/// Turns of open and done offsets above a base.
fn any_map() -> impl Strategy<Value = OffsetMap> {
    map_of(prop_oneof![
        Just(1_i64),
        1..4_i64,
        1..300_i64,
        1..1_000_000_i64
    ])
}

fn map_of(
    length: impl Strategy<Value = i64> + Clone + 'static,
) -> impl Strategy<Value = OffsetMap> {
    let turns = prop::collection::vec((length.clone(), length), 1..120);
    let base = prop_oneof![Just(0_i64), 0..1_000_i64, 0..1_i64 << 40];
    let epoch = prop_oneof![Just(None), (0..=i32::MAX).prop_map(Some)];
    (base, epoch, turns).prop_map(|(base, epoch, turns)| {
        let mut from = base;
        let ranges = turns.into_iter().map(|(open, done)| {
            let start = from + open;
            from = start + done;
            start..from
        });
        OffsetMap::from_done(base, epoch, ranges.collect::<Vec<_>>())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(map in any_map()) {
        let text = map.encode(LONGEST_MAP_BYTES).expect("it fits");
        prop_assert!(text.is_ascii());
        prop_assert_eq!(text.len(), map.encoded_bytes());
        prop_assert_eq!(OffsetMap::decode(&text), Ok(map.clone()));
        prop_assert_eq!(map.encode(text.len() - 1), None);
        prop_assert!(map.encode(text.len()).is_some());
    }

    /// Each form says the same; the one that is taken is the shortest.
    #[test]
    fn every_form_says_the_same(map in map_of(prop_oneof![Just(1_i64), 1..4_i64, 1..300_i64])) {
        let shortest = map.shortest();
        type Push = fn(&OffsetMap, &mut Vec<u8>);
        let forms: [(u8, Push); 3] =
            [(GAPS, OffsetMap::push_gaps), (RUNS, OffsetMap::push_runs), (BITS, OffsetMap::push_bits)];
        for (form, push) in forms {
            let mut bytes = vec![form];
            push_varint(&mut bytes, map.base as u64);
            push_varint(&mut bytes, map.epoch_number());
            push(&map, &mut bytes);
            let body_bytes = bytes.len() - map.head_bytes();
            prop_assert!(body_bytes >= shortest.1);
            prop_assert!(form != shortest.0 || body_bytes == shortest.1);
            prop_assert_eq!(read(&bytes), Some(map.clone()));
        }
    }

    #[test]
    fn one_changed_letter_is_noticed(map in any_map(), place in any::<prop::sample::Index>(), letter in 0..64_usize) {
        let text = map.encode(LONGEST_MAP_BYTES).expect("it fits");
        let mut letters = text.clone().into_bytes();
        let place = place.index(letters.len());
        letters[place] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[letter];
        let changed = String::from_utf8(letters).expect("ascii");
        prop_assume!(changed != text);
        prop_assert!(OffsetMap::decode(&changed).is_err());
    }

    #[test]
    fn a_part_of_a_map_is_none(map in any_map(), place in any::<prop::sample::Index>()) {
        let text = map.encode(LONGEST_MAP_BYTES).expect("it fits");
        prop_assert!(OffsetMap::decode(&text[..place.index(text.len())]).is_err());
    }

    /// Any text at all: an error or a map that is one, never a panic.
    #[test]
    fn any_text_is_survived(text in "(tgmap1:)?[A-Za-z0-9_=+/:\\-é]{0,80}") {
        if let Ok(map) = OffsetMap::decode(&text) {
            prop_assert!(map.base() >= 0 && map.count() > 0);
        }
    }

    /// Any bytes with a right checksum: what a defect of another version could write.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Some(map) = read(&bytes) {
            prop_assert!(map.base() >= 0 && map.count() > 0 && map.end() > map.base());
            let text = map.encode(LONGEST_MAP_BYTES);
            prop_assert_eq!(text.map(|text| OffsetMap::decode(&text)), Some(Ok(map)));
        }
    }
}

#[test]
fn each_form_is_the_shortest_of_something() {
    let stuck = map(10, &[11..50_000]);
    assert_eq!(form(&stuck), GAPS);
    assert!(stuck.encoded_bytes() < 30, "{}", stuck.encoded_bytes());
    let far = map(10, &[1_000_000..1_000_001]);
    assert_eq!(form(&far), RUNS);
    let every_second: Vec<_> = (1..2_000).map(|n| 2 * n + 1..2 * n + 2).collect();
    assert_eq!(form(&map(2, &every_second)), BITS);
}

#[test]
fn a_hundred_open_records_among_many_fit_easily() {
    // A hundred calls in flight, spread over the last 20 000 offsets.
    let done: Vec<_> = (0..100).map(|n| 200 * n + 1..200 * n + 200).collect();
    let bytes = map(0, &done).encoded_bytes();
    assert!(bytes < 400, "{bytes}");
}

#[test]
fn ranges_are_put_in_order_and_what_is_below_the_base_goes() {
    let map = map(5, &[20..30, 0..8, 7..9, 30..31, 4..4]);
    assert_eq!(map.done(), [6..9, 20..31]);
    assert_eq!((map.end(), map.count()), (31, 14));
    assert!(map.contains(6) && map.contains(30) && !map.contains(9) && !map.contains(31));
    assert_eq!(map.leader_epoch(), Some(3));
}

#[test]
fn nothing_done_needs_no_text() {
    let nothing = map(5, &[]);
    assert_eq!((nothing.encode(4096), nothing.encoded_bytes()), (None, 0));
    assert_eq!(nothing.end(), 5);
}

#[test]
fn other_texts_are_told_apart() {
    assert_eq!(OffsetMap::decode(""), Err(OffsetMapError::Foreign));
    assert_eq!(
        OffsetMap::decode("checkpoint 17"),
        Err(OffsetMapError::Foreign)
    );
    assert_eq!(
        OffsetMap::decode("tgmap2:AAAA"),
        Err(OffsetMapError::Version)
    );
    let long = format!("tgmap1:{}", "A".repeat(LONGEST_MAP_BYTES));
    for text in ["tgmap1:", "tgmap1:AAAA", "tgmap1:A", "tgmap1:A=", &long] {
        assert!(
            matches!(OffsetMap::decode(text), Err(OffsetMapError::Damaged(_))),
            "{text:.20}"
        );
    }
    let text = map(7, &[8..9]).encode(4096).unwrap_or_default();
    assert!(OffsetMap::decode(&text.replace("tgmap1", "tgmap2")).is_err());
}

/// What was written once can be read for ever.
#[test]
fn a_text_of_the_first_version_is_read() {
    let text = map(7, &[8..1_000, 1_001..1_002]).encode(4096);
    assert_eq!(text.as_deref(), Some("tgmap1:AQcE4wcA4AfAbeIq"));
}

#[test]
fn the_checksum_is_the_known_one() {
    assert_eq!(crc32(&[b"1234", b"56789"]), 0xCBF4_3926);
}
