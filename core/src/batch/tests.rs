//! Batches and records against a naive model of the same rows.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::partition::TopicPartition;
use crate::record::OwnedRecord;

/// Under Miri, which is slow and looks for other things, a few cases are enough.
fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

type Bytes2 = Option<Vec<u8>>;

#[derive(Debug, Clone)]
struct Row {
    cell: usize,
    offset: i64,
    timestamp_ms: i64,
    key: Bytes2,
    value: Bytes2,
    headers: Vec<(Vec<u8>, Bytes2)>,
}

const CELLS: usize = 3;

fn cells() -> Vec<Arc<PartitionCell>> {
    (0..CELLS as i32)
        .map(|partition| cell(partition, Generation(7 + partition as u64)))
        .collect()
}

fn cell(partition: i32, generation: Generation) -> Arc<PartitionCell> {
    let topic_partition = TopicPartition::new("t", partition);
    Arc::new(PartitionCell::new(topic_partition, generation, 0))
}

fn bytes() -> impl Strategy<Value = Bytes2> {
    prop::option::of(vec(any::<u8>(), 0..5))
}

/// Runs of rows; offsets ascend per cell, with gaps.
fn rows() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let headers = prop_oneof![
        3 => Just(Vec::new()),
        1 => vec((vec(any::<u8>(), 0..4), bytes()), 1..4),
    ];
    let row = (0..3i64, -1..3i64, bytes(), bytes(), headers);
    let run = (0..CELLS, vec(row, 1..8));
    vec(run, 1..6).prop_map(|runs| {
        let mut next = [0; CELLS];
        runs.into_iter()
            .map(|(cell, rows)| {
                rows.into_iter()
                    .map(|(gap, timestamp_ms, key, value, headers)| {
                        let offset = next[cell] + gap;
                        next[cell] = offset + 1;
                        Row {
                            cell,
                            offset,
                            timestamp_ms,
                            key,
                            value,
                            headers,
                        }
                    })
                    .collect()
            })
            .collect()
    })
}

fn build(runs: &[Vec<Row>], cells: &[Arc<PartitionCell>]) -> RecordBatch {
    let mut builder = BatchBuilder::with_capacity(0, 0);
    for run in runs {
        builder.begin_run(&cells[run[0].cell], 3, TimestampType::CreateTime);
        for row in run {
            push(&mut builder, row);
        }
    }
    RecordBatch::new(builder.finish(0))
}

fn push(builder: &mut BatchBuilder, row: &Row) {
    builder.push(
        row.cell as i32,
        row.offset,
        row.timestamp_ms,
        row.key.as_deref(),
        row.value.as_deref(),
    );
    for (name, value) in &row.headers {
        builder.push_header(name, value.as_deref());
    }
}

fn flat(runs: &[Vec<Row>]) -> Vec<Row> {
    runs.iter().flatten().cloned().collect()
}

/// Panics where the batch and the model differ.
fn same(batch: &RecordBatch, rows: &[Row]) {
    assert_eq!(batch.len(), rows.len());
    assert_eq!(batch.is_empty(), rows.is_empty());
    assert!(batch.get(rows.len()).is_none());
    assert!(batch.get_owned(rows.len()).is_none());
    assert!(batch.is_stale(rows.len()));
    assert_eq!(batch.iter().len(), rows.len());
    let (value_starts, value_lengths) = batch.value_columns();
    let (_, key_lengths) = batch.key_columns();
    let arena_of: Vec<usize> = batch
        .runs()
        .flat_map(|run| run.rows.map(move |_| run.arena))
        .collect();
    for (index, (record, row)) in batch.iter().zip(rows).enumerate() {
        for record in [record, batch.get(index).expect("a row")] {
            assert_eq!(record.topic(), "t");
            assert_eq!(record.partition(), row.cell as i32);
            assert_eq!(record.generation(), Generation(7 + row.cell as u64));
            assert_eq!(record.offset(), row.offset);
            assert_eq!(record.leader_epoch(), Some(3));
            let timestamp = (row.timestamp_ms >= 0).then_some(row.timestamp_ms);
            assert_eq!(record.timestamp_ms(), timestamp);
            assert_eq!(record.key(), row.key.as_deref());
            assert_eq!(record.value(), row.value.as_deref());
            let headers: Vec<_> = record
                .headers()
                .map(|header| {
                    (
                        header.name_bytes().to_vec(),
                        header.value.map(<[u8]>::to_vec),
                    )
                })
                .collect();
            assert_eq!(headers, row.headers);
        }
        assert_eq!(batch.offsets()[index], row.offset);
        assert_eq!(batch.partitions()[index], row.cell as i32);
        assert_eq!(batch.timestamps_ms()[index], row.timestamp_ms);
        assert_eq!(batch.value(index), row.value.as_deref());
        assert_eq!(batch.key(index), row.key.as_deref());
        let length = |bytes: &Bytes2| bytes.as_ref().map_or(NULL_LENGTH, |b| b.len() as i32);
        assert_eq!(value_lengths[index], length(&row.value));
        assert_eq!(key_lengths[index], length(&row.key));
        if let Some(value) = &row.value {
            let start = value_starts[index] as usize;
            let arena = &batch.arenas()[arena_of[index]];
            assert_eq!(&arena[start..start + value.len()], &value[..]);
        }
        assert!(!batch.is_stale(index));
    }
    let mut next = 0;
    for run in batch.runs() {
        assert_eq!(run.rows.start, next, "runs touch");
        assert!(!run.rows.is_empty());
        next = run.rows.end;
        assert_eq!(run.topic, "t");
        for row in run.rows {
            assert_eq!(run.partition, rows[row].cell as i32);
        }
    }
    assert_eq!(next, rows.len());
}

fn range(length: usize, ends: (prop::sample::Index, prop::sample::Index)) -> Range<usize> {
    let (a, b) = (ends.0.index(length + 1), ends.1.index(length + 1));
    a.min(b)..a.max(b)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_batch_and_its_slices_are_the_rows_pushed(
        runs in rows(),
        first in any::<(prop::sample::Index, prop::sample::Index)>(),
        second in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let batch = build(&runs, &cells());
        let rows = flat(&runs);
        same(&batch, &rows);
        let cut = range(rows.len(), first);
        let (slice, rows) = (batch.slice(cut.clone()), &rows[cut]);
        same(&slice, rows);
        let cut = range(rows.len(), second);
        same(&slice.slice(cut.clone()), &rows[cut]);
    }

    #[test]
    fn joined_batches_are_their_rows_in_order(
        batches in vec((rows(), any::<(prop::sample::Index, prop::sample::Index)>()), 1..5),
    ) {
        let cells = cells();
        let mut parts = Vec::new();
        let mut expected = Vec::new();
        let mut bytes = 0;
        for (runs, ends) in &batches {
            let rows = flat(runs);
            let cut = range(rows.len(), *ends);
            let whole = build(runs, &cells);
            bytes += whole.data.arena_bytes();
            parts.push(whole.slice(cut.clone()));
            expected.extend_from_slice(&rows[cut]);
        }
        let joined = RecordBatch::concat(&parts);
        same(&joined, &expected);
        prop_assert!(joined.size_bytes() <= bytes + expected.len().max(100) * ROW_BYTES);
        let middle = expected.len() / 2;
        same(&joined.slice(middle..expected.len()), &expected[middle..]);
    }

    /// Rows of any slice of any batch finished in any order: each cell's watermark is the first row not finished.
    #[test]
    fn finished_rows_move_each_partition_to_its_first_unfinished_row(
        batches in vec(rows(), 1..4),
        picks in vec((any::<prop::sample::Index>(), any::<(prop::sample::Index, prop::sample::Index)>()), 1..60),
        join in any::<bool>(),
    ) {
        let cells = cells();
        // One batch after the other, offsets going on.
        let mut next = [0; CELLS];
        let mut parts = Vec::new();
        let mut all: Vec<Row> = Vec::new();
        for mut runs in batches {
            let base = next;
            for row in runs.iter_mut().flatten() {
                row.offset += base[row.cell];
                next[row.cell] = row.offset + 1;
            }
            all.extend(flat(&runs));
            parts.push(build(&runs, &cells));
        }
        for part in &parts {
            for (run, rows) in part.run_parts() {
                let interval = part.interval(run, &rows);
                prop_assert!(run.cell.deliver(interval.start, interval.end));
            }
        }
        if join {
            parts = vec![RecordBatch::concat(&parts)];
        }
        let mut finished = BTreeSet::new();
        let check = |finished: &BTreeSet<(usize, i64)>| {
            for (index, cell) in cells.iter().enumerate() {
                let mut offsets = all.iter().filter(|row| row.cell == index).map(|row| row.offset);
                let last = offsets.clone().next_back();
                let expected = offsets
                    .find(|offset| !finished.contains(&(index, *offset)))
                    .or(last.map(|last| last + 1))
                    .unwrap_or(0);
                assert_eq!(cell.finished(), expected, "cell {index}");
                assert_eq!(cell.has_in_hand(), last.is_some_and(|last| expected <= last));
            }
        };
        check(&finished);
        for (which, ends) in picks {
            let part = which.get(&parts);
            let rows = range(part.len(), ends);
            part.acknowledge_rows(rows.clone()).expect("live");
            for record in part.slice(rows).iter() {
                finished.insert((record.partition() as usize, record.offset()));
            }
            check(&finished);
        }
        for part in &parts {
            part.acknowledge().expect("live");
            finished.extend(part.iter().map(|record| (record.partition() as usize, record.offset())));
        }
        check(&finished);
    }
}

#[test]
fn null_and_empty_are_not_the_same() {
    let cell = cell(0, Generation(1));
    let mut builder = BatchBuilder::with_capacity(2, 0);
    builder.begin_run(&cell, -1, TimestampType::CreateTime);
    builder.push(0, 0, 0, None, Some(b""));
    builder.push(0, 1, 0, Some(b""), None);
    let batch = RecordBatch::new(builder.finish(0));
    assert_eq!((batch.key(0), batch.value(0)), (None, Some(&b""[..])));
    assert_eq!((batch.key(1), batch.value(1)), (Some(&b""[..]), None));
    assert_eq!(batch.value_columns().1, [0, NULL_LENGTH]);
    assert_eq!(batch.key_columns().1, [NULL_LENGTH, 0]);
    assert_eq!(batch.get(0).and_then(|record| record.leader_epoch()), None);
}

#[test]
fn headers_may_begin_in_the_middle_be_null_and_be_many() {
    let cell = cell(0, Generation(1));
    let mut builder = BatchBuilder::with_capacity(4, 0);
    builder.begin_run(&cell, -1, TimestampType::CreateTime);
    builder.push(0, 0, 0, None, Some(b"none"));
    builder.push(0, 1, 0, None, Some(b"many"));
    for number in 0..100u8 {
        let value = [number; 3];
        builder.push_header(b"n", (number % 3 != 0).then_some(&value[..]));
    }
    builder.push(0, 2, 0, None, Some(b"none again"));
    builder.push(0, 3, 0, None, Some(b"odd"));
    builder.push_header(b"", Some(b""));
    builder.push_header(b"\xff\xfe", None);
    let batch = RecordBatch::new(builder.finish(0));
    let headers = |row: usize| batch.get(row).expect("a row").headers();
    assert_eq!(headers(0).count(), 0);
    assert_eq!(headers(2).count(), 0);
    assert_eq!(headers(1).count(), 100);
    for (number, header) in headers(1).enumerate() {
        assert_eq!(header.name(), "n");
        let expected = [number as u8; 3];
        assert_eq!(header.value, (number % 3 != 0).then_some(&expected[..]));
    }
    let odd: Vec<_> = headers(3).collect();
    assert_eq!(
        (odd[0].name_bytes(), odd[0].value),
        (&b""[..], Some(&b""[..]))
    );
    assert_eq!(
        (odd[1].name_bytes(), odd[1].value),
        (&b"\xff\xfe"[..], None)
    );
    assert_eq!(odd[1].name(), "\u{fffd}\u{fffd}");
    assert_eq!(batch.value(1), Some(&b"many"[..]));
    assert_eq!(batch.value(2), Some(&b"none again"[..]));
}

#[test]
fn a_record_without_a_timestamp_has_none() {
    let cell = cell(0, Generation(1));
    let mut builder = BatchBuilder::with_capacity(2, 0);
    builder.begin_run(&cell, -1, TimestampType::NotAvailable);
    builder.push(0, 0, 5, None, None);
    builder.begin_run(&cell, -1, TimestampType::LogAppendTime);
    builder.push(0, 1, -1, None, None);
    builder.push(0, 2, 0, None, None);
    let batch = RecordBatch::new(builder.finish(0));
    let times: Vec<_> = batch.iter().map(|record| record.timestamp_ms()).collect();
    assert_eq!(times, [None, None, Some(0)]);
    assert_eq!(batch.runs().count(), 2);
}

#[test]
fn a_run_without_rows_leaves_no_trace() {
    let (first, second) = (cell(0, Generation(1)), cell(1, Generation(2)));
    let mut builder = BatchBuilder::with_capacity(1, 0);
    builder.begin_run(&first, -1, TimestampType::CreateTime);
    builder.begin_run(&second, -1, TimestampType::CreateTime);
    builder.push(1, 9, 0, None, Some(b"v"));
    let batch = RecordBatch::new(builder.finish(0));
    let runs: Vec<_> = batch.runs().collect();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].partition, runs[0].rows.clone()), (1, 0..1));
}

#[test]
fn stale_rows_are_told_and_finishing_them_changes_nothing_else() {
    let (gone, live) = (cell(0, Generation(1)), cell(1, Generation(1)));
    let mut builder = BatchBuilder::with_capacity(2, 0);
    builder.begin_run(&gone, -1, TimestampType::CreateTime);
    builder.push(0, 0, 0, None, None);
    builder.begin_run(&live, -1, TimestampType::CreateTime);
    builder.push(1, 0, 0, None, None);
    let batch = RecordBatch::new(builder.finish(0));
    for cell in [&gone, &live] {
        assert!(cell.deliver(0, 1));
    }
    gone.advance_state(CellState::Revoking);
    assert_eq!((batch.is_stale(0), batch.is_stale(1)), (true, false));
    assert!(batch.slice(0..1).acknowledge().is_ok(), "still counts");
    gone.advance_state(CellState::Closed);
    assert!(matches!(
        batch.acknowledge(),
        Err(Error::Stale { partition: 0, .. })
    ));
    assert_eq!(live.finished(), 1, "the other rows are finished");
}

#[test]
fn rows_beyond_the_batch_are_refused() {
    let batch = build(
        &[vec![Row {
            cell: 0,
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        }]],
        &cells(),
    );
    #[expect(clippy::reversed_empty_ranges)]
    for rows in [0..2, 2..2, 1..0, 0..usize::MAX] {
        assert!(matches!(
            batch.acknowledge_rows(rows.clone()),
            Err(Error::Argument {
                argument: "rows",
                ..
            })
        ));
        assert!(batch.release_rows(rows).is_err());
    }
    assert!(batch.acknowledge_rows(1..1).is_ok());
}

#[test]
fn a_record_outlives_everything_it_came_from() {
    let record: OwnedRecord = {
        let cells = cells();
        let mut builder = BatchBuilder::with_capacity(2, 0);
        builder.begin_run(&cells[2], 4, TimestampType::CreateTime);
        builder.push(2, 10, 77, Some(b"k0"), Some(b"v0"));
        builder.push(2, 15, 78, Some(b"k1"), Some(b"v1"));
        builder.push_header(b"h", Some(b"x"));
        let batch = RecordBatch::new(builder.finish(0));
        batch.slice(1..2).get_owned(0).expect("a row")
    };
    let other = record.clone();
    let thread = std::thread::spawn(move || {
        assert_eq!(other.key(), Some(&b"k1"[..]));
        let _ = other.acknowledge();
    });
    thread.join().expect("no panic");
    assert_eq!((record.topic(), record.partition()), ("t", 2));
    assert_eq!((record.offset(), record.timestamp_ms()), (15, Some(78)));
    assert_eq!(record.value(), Some(&b"v1"[..]));
    assert_eq!(
        record.headers().next().map(|header| header.value),
        Some(Some(&b"x"[..]))
    );
    assert_eq!((record.row(), record.batch().len()), (0, 1));
    assert!(!record.is_stale());
    let shown = format!("{record:?}");
    assert!(
        shown.contains("offset: 15") && !shown.contains("v1"),
        "{shown}"
    );
}

#[test]
fn an_arena_is_never_overfilled() {
    let cell = cell(0, Generation(1));
    let mut builder = BatchBuilder::with_capacity(0, 0);
    builder.arena_limit_bytes = 100;
    builder.begin_run(&cell, -1, TimestampType::CreateTime);
    assert!(builder.push(0, 0, 0, Some(&[1; 10]), Some(&[2; 30])));
    assert!(builder.push_header(b"name", Some(&[3; 10])));
    assert!(!builder.push(0, 1, 0, Some(&[4; 10]), Some(&[5; 40])));
    // A record whose headers do not fit is taken out again.
    assert!(builder.push(0, 1, 0, None, Some(&[6; 20])));
    assert!(builder.push_header(b"n", None));
    assert!(!builder.push_header(b"name", Some(&[7; 10])));
    builder.drop_row();
    assert!(builder.push(0, 1, 0, None, Some(&[8; 38])));
    assert!(!builder.push(0, 2, 0, None, Some(&[0])));
    assert!(builder.push(0, 2, 0, None, None));
    let batch = RecordBatch::new(builder.finish(0));
    assert_eq!(batch.offsets(), [0, 1, 2]);
    assert_eq!(batch.value(1), Some(&[8; 38][..]));
    assert_eq!(batch.value(2), None);
    assert_eq!(batch.data.arena_bytes(), 100);
    let headers = |row| batch.get(row).map_or(0, |record| record.headers().count());
    assert_eq!([headers(0), headers(1), headers(2)], [1, 0, 0]);
}
