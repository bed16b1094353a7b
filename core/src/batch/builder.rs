//! How a batch is filled, row by row: by sources, on the poller's thread.

use std::sync::Arc;

use bytes::Bytes;

use super::{BatchData, NULL_LENGTH, RunData, Spans, TimestampType};
use crate::record::{HEADER_BYTES, encode_header};
use crate::tracker::PartitionCell;

/// Fills a batch row by row. Only sources use it.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    pub(super) data: BatchData,
    arena: Vec<u8>,
    pub(super) arena_limit_bytes: usize,
    run: Option<RunData>,
}

/// No arena grows beyond this, so that every start fits `u32` and every length `i32`.
pub(crate) const ARENA_LIMIT_BYTES: usize = i32::MAX as usize;

impl BatchBuilder {
    /// A builder with room for `rows` records whose keys, values and headers take `arena_bytes`.
    pub(crate) fn with_capacity(rows: usize, arena_bytes: usize) -> BatchBuilder {
        BatchBuilder {
            data: BatchData {
                partitions: Vec::with_capacity(rows),
                offsets: Vec::with_capacity(rows),
                timestamps_ms: Vec::with_capacity(rows),
                keys: Spans::with_capacity(rows),
                values: Spans::with_capacity(rows),
                ..BatchData::default()
            },
            arena: Vec::with_capacity(arena_bytes),
            arena_limit_bytes: ARENA_LIMIT_BYTES,
            run: None,
        }
    }

    /// Begins a run; the rows pushed from here on belong to it.
    pub(crate) fn begin_run(
        &mut self,
        cell: &Arc<PartitionCell>,
        leader_epoch: i32,
        timestamp_type: TimestampType,
    ) {
        self.end_run();
        let row = self.data.len() as u32;
        self.run = Some(RunData {
            cell: Arc::clone(cell),
            rows: row..row,
            end_offset: 0,
            arena: 0,
            leader_epoch,
            timestamp_type,
        });
    }

    fn end_run(&mut self) {
        if let Some(mut run) = self.run.take() {
            run.rows.end = self.data.len() as u32;
            run.end_offset = self.data.offsets.last().map_or(0, |offset| offset + 1);
            if !run.rows.is_empty() {
                self.data.runs.push(run);
            }
        }
    }

    /// Appends a record of the present run; `timestamp_ms` is -1 for none. False, and nothing is appended, when the arena
    /// cannot hold it: it belongs into the next batch.
    #[inline]
    pub(crate) fn push(
        &mut self,
        partition: i32,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> bool {
        if !self.fits(key.map_or(0, <[u8]>::len), value) {
            return false;
        }
        self.data.partitions.push(partition);
        self.data.offsets.push(offset);
        self.data.timestamps_ms.push(timestamp_ms);
        self.data.keys.push(self.arena.len(), key.map(<[u8]>::len));
        self.arena.extend_from_slice(key.unwrap_or(&[]));
        self.data
            .values
            .push(self.arena.len(), value.map(<[u8]>::len));
        self.arena.extend_from_slice(value.unwrap_or(&[]));
        if !self.data.headers.length.is_empty() {
            self.data.headers.push(self.arena.len(), None);
        }
        true
    }

    fn fits(&self, bytes: usize, value: Option<&[u8]>) -> bool {
        let more = value.map_or(0, <[u8]>::len).saturating_add(bytes);
        self.arena_limit_bytes - self.arena.len() >= more
    }

    /// Adds a header to the record pushed last; false, and nothing is added, when the arena cannot hold it.
    pub(crate) fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) -> bool {
        if !self.fits(HEADER_BYTES + name.len(), value) {
            return false;
        }
        let rows = self.data.len();
        let headers = &mut self.data.headers;
        if headers.length.is_empty() {
            // The first header of the batch: the rows before it have none.
            headers.start.resize(rows, 0);
            headers.length.resize(rows, NULL_LENGTH);
        }
        let Some(row) = rows.checked_sub(1) else {
            return true;
        };
        if headers.length[row] == NULL_LENGTH {
            headers.start[row] = self.arena.len() as u32;
            headers.length[row] = 0;
        }
        let before = self.arena.len();
        encode_header(&mut self.arena, name, value);
        headers.length[row] += (self.arena.len() - before) as i32;
        true
    }

    /// Takes the record pushed last out again.
    pub(crate) fn drop_row(&mut self) {
        let data = &mut self.data;
        let Some(row) = data.len().checked_sub(1) else {
            return;
        };
        // A key's place is noted also when there is none.
        self.arena.truncate(data.keys.start[row] as usize);
        data.partitions.truncate(row);
        data.offsets.truncate(row);
        data.timestamps_ms.truncate(row);
        for spans in [&mut data.keys, &mut data.values, &mut data.headers] {
            spans.start.truncate(row);
            spans.length.truncate(row);
        }
    }

    /// Keys, values and headers so far, in bytes.
    pub(crate) fn arena_bytes(&self) -> usize {
        self.arena.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// The batch; `received_us` is the engine's clock.
    pub(crate) fn finish(mut self, received_us: u64) -> BatchData {
        self.end_run();
        self.data.received_us = received_us;
        self.data.arenas.push(Bytes::from(self.arena));
        self.data
    }
}
