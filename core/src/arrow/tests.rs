//! Arrow arrays against the records they were made of, and where their memory lies.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayAccessor};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::batch::{BatchBuilder, BatchData};
use crate::partition::{Generation, TopicPartition};
use crate::tracker::PartitionCell;

fn cell(topic: &str, partition: i32) -> Arc<PartitionCell> {
    let topic_partition = TopicPartition::new(topic, partition);
    Arc::new(PartitionCell::new(topic_partition, Generation(1), 0))
}

/// A cell, and the values at its offsets from 0 on.
type Values<'a> = (&'a Arc<PartitionCell>, &'a [Option<&'a [u8]>]);

/// A batch of runs. Keys are the values backwards.
fn batch(runs: &[Values<'_>]) -> RecordBatch {
    let mut builder = BatchBuilder::with_capacity(0, 0);
    for (cell, values) in runs {
        builder.begin_run(cell, -1, TimestampType::CreateTime);
        for (offset, value) in (0..).zip(*values) {
            let key = value.map(|value| value.iter().rev().copied().collect::<Vec<_>>());
            let partition = cell.topic_partition().partition;
            builder.push(partition, offset, 1000 + offset, key.as_deref(), *value);
        }
    }
    RecordBatch::new(builder.finish(0))
}

fn arrow(batch: &RecordBatch) -> ArrowBatch {
    batch.to_arrow().expect("small")
}

fn column<'a>(arrow: &'a ArrowBatch, name: &str) -> &'a ArrayRef {
    arrow.column_by_name(name).expect("a column of the schema")
}

fn at<A: ArrayAccessor>(array: A, row: usize) -> Option<A::Item> {
    array.is_valid(row).then(|| array.value(row))
}

fn topic(arrow: &ArrowBatch, row: usize) -> String {
    let topics = column(arrow, "topic").as_dictionary::<Int32Type>();
    let topics = topics.downcast_dict::<StringArray>().expect("of utf8");
    topics.value(row).to_string()
}

type Pairs = Vec<(String, Option<Vec<u8>>)>;

fn header_pairs(arrow: &ArrowBatch, row: usize) -> Pairs {
    let entries = column(arrow, "headers").as_list::<i32>().value(row);
    let entries = entries.as_struct();
    let names = entries.column(0).as_string::<i32>();
    let values = entries.column(1).as_binary::<i32>();
    (0..entries.len())
        .map(|entry| {
            let value = at(values, entry).map(<[u8]>::to_vec);
            (names.value(entry).to_string(), value)
        })
        .collect()
}

/// Panics where the arrays and the records differ.
fn same(batch: &RecordBatch) {
    let arrow = arrow(batch);
    assert_eq!(arrow.schema(), schema());
    assert_eq!(arrow.num_rows(), batch.len());
    for (row, record) in batch.iter().enumerate() {
        let partitions = column(&arrow, "partition").as_primitive::<Int32Type>();
        let offsets = column(&arrow, "offset").as_primitive::<Int64Type>();
        let timestamps = column(&arrow, "timestamp").as_primitive::<TimestampMillisecondType>();
        let keys = column(&arrow, "key").as_binary_view();
        let values = column(&arrow, "value").as_binary_view();
        let headers: Pairs = record
            .headers()
            .map(|header| (header.name().into_owned(), header.value.map(<[u8]>::to_vec)))
            .collect();
        assert_eq!(topic(&arrow, row), record.topic());
        assert_eq!(at(partitions, row), Some(record.partition()));
        assert_eq!(at(offsets, row), Some(record.offset()));
        assert_eq!(at(timestamps, row), record.timestamp_ms());
        assert_eq!(at(keys, row), record.key());
        assert_eq!(at(values, row), record.value());
        assert_eq!(header_pairs(&arrow, row), headers);
    }
}

type Bytes2 = Option<Vec<u8>>;

/// Topic, timestamp (or none in the whole run), and rows: timestamp, key, value, headers.
type RunOf = (
    usize,
    bool,
    Vec<(i64, Bytes2, Bytes2, Vec<(Vec<u8>, Bytes2)>)>,
);

/// Null, empty, inside a view, and just beyond.
fn bytes() -> impl Strategy<Value = Bytes2> {
    prop::option::of(prop_oneof![
        vec(any::<u8>(), 0..4),
        vec(any::<u8>(), 11..15),
        vec(any::<u8>(), 30..60),
    ])
}

fn run() -> impl Strategy<Value = RunOf> {
    let name = prop_oneof![Just(b"trace".to_vec()), vec(any::<u8>(), 0..4)];
    let headers = prop_oneof![3 => Just(Vec::new()), 1 => vec((name, bytes()), 1..4)];
    (
        0..3usize,
        prop::bool::weighted(0.8),
        vec((-1..5i64, bytes(), bytes(), headers), 1..6),
    )
}

fn build(runs: &[RunOf]) -> BatchData {
    let mut builder = BatchBuilder::with_capacity(0, 0);
    for (number, (topic, timed, rows)) in runs.iter().enumerate() {
        let kind = if *timed {
            TimestampType::LogAppendTime
        } else {
            TimestampType::NotAvailable
        };
        let partition = number as i32;
        builder.begin_run(&cell(["a", "b", "c"][*topic], partition), -1, kind);
        for (offset, (timestamp_ms, key, value, headers)) in (0..).zip(rows) {
            builder.push(
                partition,
                offset,
                *timestamp_ms,
                key.as_deref(),
                value.as_deref(),
            );
            for (name, value) in headers {
                builder.push_header(name, value.as_deref());
            }
        }
    }
    builder.finish(0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Several batches joined, as the consumer joins small ones, and any slice of that.
    #[test]
    fn arrays_say_what_the_records_say(
        parts in vec(vec(run(), 1..4), 1..4),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let parts: Vec<_> = parts.iter().map(|runs| RecordBatch::new(build(runs))).collect();
        let batch = RecordBatch::concat(&parts);
        same(&batch);
        let (from, to) = (from.index(batch.len() + 1), to.index(batch.len() + 1));
        let slice = batch.slice(from.min(to)..from.max(to));
        same(&slice);
        same(&parts[0]);
    }
}

const LONG: &[u8] = b"longer than twelve bytes";

#[test]
fn nothing_is_copied() {
    let (a, b) = (cell("a", 0), cell("a", 1));
    let first = batch(&[(&a, &[Some(LONG), Some(b"short"), None])]);
    let second = batch(&[(&b, &[Some(LONG), Some(LONG)])]);
    let whole = RecordBatch::concat(&[first, second]);
    for rows in [0..5, 1..4, 3..5] {
        let batch = whole.slice(rows);
        let arrow = arrow(&batch);
        let partitions = column(&arrow, "partition").as_primitive::<Int32Type>();
        let offsets = column(&arrow, "offset").as_primitive::<Int64Type>();
        let timestamps = column(&arrow, "timestamp").as_primitive::<TimestampMillisecondType>();
        assert_eq!(partitions.values().as_ptr(), batch.partitions().as_ptr());
        assert_eq!(offsets.values().as_ptr(), batch.offsets().as_ptr());
        assert_eq!(timestamps.values().as_ptr(), batch.timestamps_ms().as_ptr());
        assert!(timestamps.nulls().is_none());
        for name in ["key", "value"] {
            let views = column(&arrow, name).as_binary_view();
            let last = batch.len() - 1;
            let record = batch.get(last).expect("a row");
            let bytes = if name == "key" {
                record.key()
            } else {
                record.value()
            };
            assert_eq!(views.value(last).as_ptr(), bytes.expect("long").as_ptr());
        }
    }
}

#[test]
fn a_slice_keeps_the_arenas_of_its_rows_only() {
    let cells: Vec<_> = (0..4).map(|partition| cell("t", partition)).collect();
    let parts: Vec<_> = cells
        .iter()
        .map(|cell| batch(&[(cell, &[Some(LONG), None])]))
        .collect();
    let whole = RecordBatch::concat(&parts);
    let slice = whole.slice(3..5);
    let arrow = arrow(&slice);
    let buffers = column(&arrow, "value").as_binary_view().data_buffers();
    let addresses: Vec<_> = buffers.iter().map(Buffer::as_ptr).collect();
    let arenas: Vec<_> = whole.arenas()[1..3].iter().map(|a| a.as_ptr()).collect();
    assert_eq!(addresses, arenas);
}

#[test]
fn what_was_exported_outlives_the_batch_and_lets_go_of_it() {
    let cell = cell("t", 0);
    let batch = batch(&[(&cell, &[Some(LONG)])]);
    let arrow = arrow(&batch);
    assert_eq!(Arc::strong_count(&cell), 2, "here, and the batch");
    drop(batch);
    assert_eq!(Arc::strong_count(&cell), 2, "the arrays keep the batch");
    let value = Arc::clone(column(&arrow, "value"));
    let offset = Arc::clone(column(&arrow, "offset"));
    drop(arrow);
    assert_eq!(at(value.as_binary_view(), 0), Some(LONG));
    assert_eq!(offset.as_primitive::<Int64Type>().values()[..], [0]);
    drop(offset);
    assert_eq!(Arc::strong_count(&cell), 1, "values need the arena only");
    assert_eq!(at(value.as_binary_view(), 0), Some(LONG));
}

#[test]
fn each_topic_is_there_once() {
    let (a, b) = (cell("a", 0), cell("b", 0));
    let batch = batch(&[(&a, &[None]), (&b, &[None, None]), (&a, &[None])]);
    let arrow = arrow(&batch);
    let topics = column(&arrow, "topic").as_dictionary::<Int32Type>();
    assert_eq!(topics.keys().values()[..], [0, 1, 1, 0]);
    assert_eq!(topics.values().len(), 2);
    same(&batch);
    let slice = batch.slice(2..3).to_arrow().expect("small");
    let topics = column(&slice, "topic").as_dictionary::<Int32Type>();
    assert_eq!(topics.values().len(), 1, "of the slice's rows only");
}

#[test]
fn an_empty_slice_has_no_rows() {
    let cell = cell("t", 0);
    let batch = batch(&[(&cell, &[Some(LONG), None])]);
    for row in 0..3 {
        let slice = batch.slice(row..row);
        assert_eq!(arrow(&slice).num_rows(), 0);
        same(&slice);
    }
}

#[test]
fn more_than_an_index_can_say_is_refused() {
    assert_eq!(index(i32::MAX as usize).expect("just fits"), i32::MAX);
    let refused = index(i32::MAX as usize + 1).expect_err("too much");
    assert!(refused.to_string().contains("cut it into slices"));
}
