//! Batches: columns that C reads in place.

use std::sync::OnceLock;

use tidegate::{RecordBatch, Result};

use crate::error::tg_status;
use crate::guard;
use crate::handle::{self, object};
use crate::input;
use crate::record::{tg_bytes, tg_record, tg_timestamp_type};

/// Records in columns: row `i` is the same record in every column. Immutable; any thread may read it, also when its consumer was
/// closed or freed. tg_batch_free() ends it and everything that its pointers lead to.
pub struct tg_batch {
    _private: [u8; 0],
}

/// Consecutive rows of one partition, assignment and arena: what is the same for all of them is told once.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_run {
    /// The topic's name, UTF-8.
    pub topic: tg_bytes,
    /// The partition.
    pub partition: i32,
    /// The leader epoch that the records were written under; -1 when not known.
    pub leader_epoch: i32,
    /// The assignment that the rows belong to.
    pub generation: u64,
    /// The first row.
    pub first: usize,
    /// How many rows.
    pub count: usize,
    /// The memory that keys and values of these rows lie in: row `i` has its value at `arena.data + value_starts[i]`.
    pub arena: tg_bytes,
    /// Whose clock the rows' timestamps are from.
    pub timestamp_type: tg_timestamp_type,
}

/// The columns of a batch; each array has `count` elements (`runs` has `run_count`). Valid until tg_batch_free().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_columns {
    /// How many records.
    pub count: usize,
    /// Each record's partition.
    pub partitions: *const i32,
    /// Each record's offset.
    pub offsets: *const i64,
    /// Milliseconds since 1970, -1 for none.
    pub timestamps_ms: *const i64,
    /// Where each key begins in its run's arena, in bytes.
    pub key_starts: *const u32,
    /// How long each key is in bytes, -1 for none.
    pub key_lengths: *const i32,
    /// Where each value begins in its run's arena, in bytes.
    pub value_starts: *const u32,
    /// How long each value is in bytes, -1 for a tombstone.
    pub value_lengths: *const i32,
    /// The runs, in the order of their rows; together they cover every row.
    pub runs: *const tg_run,
    /// How many runs.
    pub run_count: usize,
}

/// What a [`tg_batch`] stands for.
pub(crate) struct Batch {
    records: RecordBatch,
    runs: OnceLock<Vec<tg_run>>,
}

object!(Batch, tg_batch, "batch", 4);

// SAFETY: the pointers of the runs lead into `records`, which is immutable, shared and goes where the runs go.
unsafe impl Send for Batch {}
// SAFETY: as above.
unsafe impl Sync for Batch {}

impl Batch {
    fn runs(&self) -> &[tg_run] {
        self.runs.get_or_init(|| {
            self.records
                .runs()
                .map(|run| tg_run {
                    topic: tg_bytes::of(Some(run.topic.as_bytes())),
                    partition: run.partition,
                    leader_epoch: run.leader_epoch.unwrap_or(-1),
                    generation: run.generation.0,
                    first: run.rows.start,
                    count: run.rows.len(),
                    arena: tg_bytes::of(self.records.arenas().get(run.arena).map(|arena| &**arena)),
                    timestamp_type: run.timestamp_type.into(),
                })
                .collect()
        })
    }
}

/// A handle for a batch.
pub(crate) fn make(records: RecordBatch) -> Result<*mut tg_batch> {
    handle::make(Batch {
        records,
        runs: OnceLock::new(),
    })
}

/// The records behind a handle.
pub(crate) fn records(batch: *const tg_batch) -> Result<RecordBatch> {
    Ok(handle::get::<Batch>(batch)?.records.clone())
}

/// How many records; 0 for NULL and a freed batch. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_batch_count(batch: *const tg_batch) -> usize {
    guard::value(0, || Ok(handle::get::<Batch>(batch)?.records.len()))
}

/// The memory that the batch holds on to, in bytes; 0 for NULL and a freed batch. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_batch_size_bytes(batch: *const tg_batch) -> usize {
    guard::value(0, || Ok(handle::get::<Batch>(batch)?.records.size_bytes()))
}

/// The columns, without a copy. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL and a freed batch.
///
/// # Safety
///
/// `columns` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_batch_columns(
    batch: *const tg_batch,
    columns: *mut tg_columns,
) -> tg_status {
    guard::call(|| {
        let batch = handle::get::<Batch>(batch)?;
        let records = &batch.records;
        let (key_starts, key_lengths) = records.key_columns();
        let (value_starts, value_lengths) = records.value_columns();
        let runs = batch.runs();
        let made = tg_columns {
            count: records.len(),
            partitions: records.partitions().as_ptr(),
            offsets: records.offsets().as_ptr(),
            timestamps_ms: records.timestamps_ms().as_ptr(),
            key_starts: key_starts.as_ptr(),
            key_lengths: key_lengths.as_ptr(),
            value_starts: value_starts.as_ptr(),
            value_lengths: value_lengths.as_ptr(),
            runs: runs.as_ptr(),
            run_count: runs.len(),
        };
        // SAFETY: by contract.
        unsafe { input::put("columns", columns, made) }
    })
}

/// The record in row `row`. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a freed batch, and a row beyond the end.
///
/// # Safety
///
/// `record` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_batch_record(
    batch: *const tg_batch,
    row: usize,
    record: *mut tg_record,
) -> tg_status {
    guard::call(|| {
        let batch = handle::get::<Batch>(batch)?;
        let Some(found) = batch.records.get(row) else {
            return Err(input::refused(
                "row",
                format!(
                    "{row} is beyond the batch's {} records",
                    batch.records.len()
                ),
                "use a row below tg_batch_count()",
            ));
        };
        // SAFETY: by contract.
        unsafe { input::put("record", record, tg_record::of(&found)) }
    })
}

/// A batch of some of the rows, which shares the memory and is freed for itself. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a freed batch, and rows beyond the end.
///
/// # Safety
///
/// `slice` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_batch_slice(
    batch: *const tg_batch,
    first: usize,
    count: usize,
    slice: *mut *mut tg_batch,
) -> tg_status {
    guard::call(|| {
        let records = records(batch)?;
        input::check_place("slice", slice)?;
        let rows = rows(&records, first, count)?;
        let made = make(records.slice(rows))?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("slice", slice, made) }
    })
}

fn rows(records: &RecordBatch, first: usize, count: usize) -> Result<std::ops::Range<usize>> {
    first
        .checked_add(count)
        .filter(|end| *end <= records.len())
        .map(|end| first..end)
        .ok_or_else(|| {
            input::refused(
                "count",
                format!(
                    "{count} rows from row {first} on reach beyond the batch's {} records",
                    records.len()
                ),
                "use rows below tg_batch_count()",
            )
        })
}

/// Notes that `count` records from row `first` on are finished, so that they may be committed: in any order, by any thread, also
/// twice. Only batches of tg_consumer_lease_batch() need it; others are finished by asking for the next one.
///
/// @return TG_ERROR_STALE when a partition was revoked, lost or sought meanwhile (the others are noted); TG_ERROR_ARGUMENT
///         for NULL, a freed batch, and rows beyond the end.
#[unsafe(no_mangle)]
pub extern "C" fn tg_batch_acknowledge(
    batch: *const tg_batch,
    first: usize,
    count: usize,
) -> tg_status {
    guard::call(|| {
        let records = records(batch)?;
        records.acknowledge_rows(rows(&records, first, count)?)
    })
}

/// Gives back leased records that will not be finished here because their partition is being revoked (tg_batch_is_stale()):
/// the revoke then need not wait for them, and the partition's next owner handles them. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a freed batch, and rows beyond the end.
#[unsafe(no_mangle)]
pub extern "C" fn tg_batch_release(
    batch: *const tg_batch,
    first: usize,
    count: usize,
) -> tg_status {
    guard::call(|| {
        let records = records(batch)?;
        records.release_rows(rows(&records, first, count)?)
    })
}

/// True when the partition of row `row` was revoked, lost or sought since the batch was fetched: whoever owns it now handles the
/// record. Also true for NULL, a freed batch and a row beyond the end. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_batch_is_stale(batch: *const tg_batch, row: usize) -> bool {
    guard::value(true, || {
        Ok(handle::get::<Batch>(batch)?.records.is_stale(row))
    })
}

/// Ends a batch: the pointers of its columns, records and headers lead nowhere any more. Its consumer need not live. A batch that
/// was not leased stays in hand: only asking for the next one, or a commit, finishes it. NULL does nothing; freeing twice is
/// TG_ERROR_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_batch_free(batch: *mut tg_batch) -> tg_status {
    guard::call(|| handle::take::<Batch>(batch).map(drop))
}
