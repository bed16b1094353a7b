use super::*;
use crate::batch::{BatchBuilder, TimestampType};
use crate::partition::{Generation, TopicPartition};
use crate::tracker::CellState;

fn cell(partition: i32) -> Arc<PartitionCell> {
    let partition = TopicPartition::new("t", partition);
    Arc::new(PartitionCell::new(partition, Generation(1), 0))
}

/// A batch of runs: cell, first offset, count.
fn batch(runs: &[(&Arc<PartitionCell>, i64, i64)]) -> RecordBatch {
    let mut builder = BatchBuilder::with_capacity(0, 0);
    for (cell, first, count) in runs {
        builder.begin_run(cell, -1, TimestampType::CreateTime);
        for offset in *first..first + count {
            let partition = cell.topic_partition().partition;
            builder.push(partition, offset, 0, None, Some(b"v"));
        }
    }
    RecordBatch::new(builder.finish(0))
}

fn hand_out(hand: &mut Hand, limit: usize) -> Option<Vec<i64>> {
    let metrics = ConsumerMetrics::default();
    let batch = hand.hand_out(limit, limit, false, &metrics)?;
    Some(batch.offsets().to_vec())
}

#[test]
fn what_was_kept_back_comes_before_what_came_after_the_resume() {
    let cell = cell(0);
    let mut hand = Hand::new(1 << 20);
    cell.set_paused(true);
    hand.push(batch(&[(&cell, 0, 3)]));
    assert_eq!(hand_out(&mut hand, 10), None);
    // Resumed by another thread, and more arrives before this one has looked.
    cell.set_paused(false);
    hand.push(batch(&[(&cell, 3, 3)]));
    assert_eq!(hand_out(&mut hand, 10), None);
    assert_eq!(cell.finished(), 0, "records 0 to 2 are not a gap");
    hand.unhold();
    assert_eq!(hand_out(&mut hand, 10), Some(vec![0, 1, 2, 3, 4, 5]));
}

#[test]
fn a_paused_partition_holds_up_no_other() {
    let (paused, live) = (cell(0), cell(1));
    let mut hand = Hand::new(1 << 20);
    paused.set_paused(true);
    hand.push(batch(&[
        (&paused, 0, 2),
        (&live, 0, 2),
        (&paused, 2, 2),
        (&live, 2, 2),
    ]));
    let metrics = ConsumerMetrics::default();
    assert!(hand.settle(4, &metrics));
    assert!(!hand.settle(5, &metrics));
    assert_eq!(hand.pending_rows(), 4);
    assert_eq!(hand_out(&mut hand, 3), Some(vec![0, 1, 2]));
    hand.unhold();
    assert_eq!(hand.pending_rows(), 1, "what is paused stays aside");
    paused.set_paused(false);
    hand.unhold();
    assert_eq!(hand_out(&mut hand, 10), Some(vec![0, 1, 2, 3, 3]));
}

#[test]
fn a_batch_is_cut_where_its_rows_become_stale() {
    let (gone, live) = (cell(0), cell(1));
    let mut hand = Hand::new(1 << 20);
    hand.push(batch(&[(&live, 0, 2), (&gone, 0, 2), (&live, 2, 1)]));
    gone.advance_state(CellState::Revoking);
    let metrics = ConsumerMetrics::default();
    let out = hand.hand_out(10, 10, false, &metrics).expect("live rows");
    assert_eq!(out.offsets(), [0, 1, 2]);
    assert_eq!(metrics.records_stale.get(), 2);
    assert!(!gone.has_in_hand());
    assert!(live.has_in_hand());
    hand.finish(&metrics);
    assert_eq!(live.finished(), 3);
}

#[test]
fn what_is_put_back_comes_before_what_was_kept_back_meanwhile() {
    let cell = cell(0);
    let metrics = ConsumerMetrics::default();
    let mut hand = Hand::new(1 << 20);
    hand.push(batch(&[(&cell, 0, 10)]));
    let lease = hand.hand_out(5, 5, true, &metrics).expect("rows");
    // Paused by another thread; the next call puts the rest aside.
    cell.set_paused(true);
    assert!(!hand.settle(1, &metrics));
    hand.put_back(Some(&lease));
    assert_eq!(hand_out(&mut hand, 10), None);
    cell.set_paused(false);
    hand.unhold();
    assert_eq!(hand_out(&mut hand, 10), Some((0..10).collect()));
    assert_eq!(cell.finished(), 0);
}

#[test]
fn putting_a_record_back_says_nothing_of_runs_that_were_not_handed_out() {
    let (first, second) = (cell(0), cell(1));
    let metrics = ConsumerMetrics::default();
    let mut hand = Hand::new(1 << 20);
    // Of partition 1 the records 0 to 6 were compacted away.
    hand.push(batch(&[(&first, 0, 1), (&second, 7, 1)]));
    assert!(hand.hand_out_record(&metrics).is_some());
    hand.put_back(None);
    assert!(!first.has_in_hand() && !second.has_in_hand());
    assert_eq!(hand_out(&mut hand, 10), Some(vec![0, 7]));
    hand.finish(&metrics);
    assert_eq!((first.finished(), second.finished()), (1, 8));
}

#[test]
fn small_batches_are_joined_and_large_ones_handed_out_as_they_are() {
    let cell = cell(0);
    let rows = |rows: &[i64]| {
        let mut first = cell.handed();
        let mut hand = Hand::new(1 << 20);
        for &rows in rows {
            hand.push(batch(&[(&cell, first, rows)]));
            first += rows;
        }
        hand
    };
    let metrics = ConsumerMetrics::default();
    let taken = |hand: &mut Hand, limit, wanted| {
        let batch = hand.hand_out(limit, wanted, true, &metrics);
        batch.map_or((0, 0), |batch| (batch.len(), batch.arenas().len()))
    };
    let small = SMALL_BATCH as i64 - 1;
    let large = SMALL_BATCH as i64;
    assert_eq!(taken(&mut rows(&[1, 1, 1]), usize::MAX, 1), (3, 3));
    assert_eq!(taken(&mut rows(&[1, 1, 1]), 2, 1), (2, 2));
    assert_eq!(taken(&mut rows(&[1, large]), usize::MAX, 1), (1, 1));
    assert_eq!(taken(&mut rows(&[large, 1]), usize::MAX, 1).0, SMALL_BATCH);
    assert_eq!(
        taken(&mut rows(&[1, large]), usize::MAX, 2).0,
        SMALL_BATCH + 1
    );
    let many = taken(&mut rows(&[small; 9]), usize::MAX, 1);
    assert_eq!(many.0, BATCH_RECORDS);
    let many = taken(&mut rows(&[small; 9]), usize::MAX, 9 * SMALL_BATCH - 9);
    assert_eq!(many.0, 9 * SMALL_BATCH - 9);
    let mut tight = rows(&[10; 9]);
    tight.join_bytes = 2 * tight.pending[0].size_bytes() + 1;
    assert_eq!(taken(&mut tight, usize::MAX, 1).0, 30, "one goes beyond");
}

#[test]
fn a_gap_behind_the_last_row_of_a_joined_batch_is_finished_with_it() {
    let cell = cell(0);
    let metrics = ConsumerMetrics::default();
    let mut hand = Hand::new(1 << 20);
    hand.push(batch(&[(&cell, 0, 2)]));
    // Without 3 to 6, in one run.
    let mut builder = BatchBuilder::with_capacity(0, 0);
    builder.begin_run(&cell, -1, TimestampType::CreateTime);
    for offset in [2, 7] {
        builder.push(0, offset, 0, None, None);
    }
    hand.push(RecordBatch::new(builder.finish(0)));
    assert_eq!(hand_out(&mut hand, 3), Some(vec![0, 1, 2]));
    hand.finish(&metrics);
    assert!(!cell.has_in_hand());
    assert_eq!(cell.finished(), 7);
}

#[test]
fn a_record_is_in_hand_from_the_first_to_the_last() {
    let cell = cell(0);
    let mut hand = Hand::new(1 << 20);
    let metrics = ConsumerMetrics::default();
    hand.push(batch(&[(&cell, 0, 2), (&cell, 5, 1)]));
    let first = hand.hand_out_record(&metrics).expect("a record");
    assert_eq!((first.offset(), cell.finished(), cell.handed()), (0, 0, 1));
    let second = hand.next_record().expect("another");
    assert_eq!((second.offset(), cell.finished(), cell.handed()), (1, 1, 2));
    assert!(hand.next_record().is_none(), "the run ends");
    assert!(cell.has_in_hand());
    hand.finish(&metrics);
    let third = hand.hand_out_record(&metrics).expect("the next run");
    assert_eq!((third.offset(), cell.finished(), cell.handed()), (5, 5, 6));
    cell.advance_state(CellState::Revoking);
    hand.finish(&metrics);
    assert_eq!(
        cell.finished(),
        6,
        "what was handed out before still counts"
    );
}

#[test]
fn whoever_looks_meanwhile_sees_a_record_in_hand() {
    const ROUNDS: i64 = 30;
    const RECORDS: i64 = 50_000;
    let metrics = ConsumerMetrics::default();
    for _ in 0..ROUNDS {
        let cell = cell(0);
        let mut hand = Hand::new(1 << 20);
        hand.push(batch(&[(&cell, 0, RECORDS)]));
        assert!(hand.hand_out_record(&metrics).is_some());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The last record stays in hand.
                while cell.handed() < RECORDS {
                    assert!(cell.has_in_hand(), "a revoke would not wait");
                }
            });
            while hand.next_record().is_some() {}
        });
        assert_eq!(cell.finished(), RECORDS - 1);
        assert!(cell.has_in_hand());
    }
}
