//! Sending many records of one topic with one call.
//!
//! Any thread. The rows go to the sink in chunks, so that the account, the locks and librdkafka's own are taken once for each
//! chunk. Always true: what is accepted is in the rows' order, and each row is either accepted or told to be refused.

use super::engine::Patience;
use super::{BatchOutcome, Producer, ProducerRecord, check_record};
use crate::error::{Error, Result};
use crate::sink::Row;

/// Rows in a chunk. One record in so many is timed, as of those sent one by one.
const CHUNK: usize = 64;

/// Rows sent to one place, in order.
pub(super) struct Rows<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) accepted: usize,
    pub(super) bytes: u64,
    /// Hears of each row that is not accepted.
    pub(super) refused: &'a mut dyn FnMut(usize, Error),
    /// Asked now and then while waiting for room.
    pub(super) go_on: &'a mut dyn FnMut() -> bool,
}

impl Producer {
    /// Sends the records (key, value) in their order to one topic, each as [`Producer::send`] does.
    ///
    /// A record that librdkafka refuses (too large, for example) is left out. When the queue stayed full for the whole of one
    /// record's wait, or the producer was closed, the rest is refused at once, so that what was accepted is in order.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty topic or a NUL in it; [`Error::Closed`]; [`Error::Forked`]; then no record was taken from
    /// the iterator. Everything else is in the outcome.
    pub fn send_batch<'r>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (Option<&'r [u8]>, Option<&'r [u8]>)>,
    ) -> Result<BatchOutcome> {
        self.send_batch_interruptible(topic, records, &mut || true)
    }

    /// As [`Producer::send_batch`] with `keep_waiting` as in [`Producer::send_interruptible`].
    ///
    /// # Errors
    /// As [`Producer::send_batch`].
    pub fn send_batch_interruptible<'r>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (Option<&'r [u8]>, Option<&'r [u8]>)>,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<BatchOutcome> {
        let mut refused = Vec::new();
        let accepted = self.send_chunks(
            records.into_iter(),
            Rows {
                topic,
                partition: None,
                accepted: 0,
                bytes: 0,
                refused: &mut |row, error| refused.push((row, error)),
                go_on: keep_waiting,
            },
        )?;
        Ok(BatchOutcome { accepted, refused })
    }

    /// As [`Producer::send_batch`], to one partition if one is given; `refused` is called with the number of each record that was
    /// not accepted, in order, and why. Returns how many were.
    ///
    /// # Errors
    /// As [`Producer::send_batch`]; [`Error::Argument`] for a negative partition.
    pub fn send_rows<'r>(
        &self,
        topic: &str,
        partition: Option<i32>,
        records: impl IntoIterator<Item = (Option<&'r [u8]>, Option<&'r [u8]>)>,
        refused: &mut dyn FnMut(usize, &Error),
    ) -> Result<usize> {
        self.send_chunks(
            records.into_iter(),
            Rows {
                topic,
                partition,
                accepted: 0,
                bytes: 0,
                refused: &mut |row, error| refused(row, &error),
                go_on: &mut || true,
            },
        )
    }

    /// Sends whole records in their order, each as [`Producer::send`] does: with headers, timestamp and partition, to one topic or
    /// several. `refused` is called with the number of each record that was not accepted, in order, and why; records behind a queue that
    /// stayed full, as of [`Producer::send_batch`], are not tried. Returns how many were accepted. Records without headers and timestamp
    /// cost less with [`Producer::send_rows`].
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Forked`]; then no record was taken from the iterator.
    pub fn send_records<'r>(
        &self,
        records: impl IntoIterator<Item = ProducerRecord<'r>>,
        refused: &mut dyn FnMut(usize, &Error),
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<usize> {
        let engine = self.engine();
        engine.check()?;
        let (mut accepted, mut bytes) = (0, 0);
        let mut stopped: Option<Error> = None;
        for (row, record) in records.into_iter().enumerate() {
            let sent = match &stopped {
                Some(error) => {
                    engine.ledger.metrics.records_refused.add(1);
                    Err(error.clone())
                }
                None => check_record(&record).and_then(|()| {
                    engine.send(&record, None, Patience::Asking(&mut *keep_waiting))
                }),
            };
            match sent {
                Ok(()) => {
                    accepted += 1;
                    bytes += record.payload_bytes();
                }
                Err(error) => {
                    refused(row, &error);
                    let ends = matches!(error, Error::QueueFull { .. } | Error::Closed { .. });
                    if stopped.is_none() && (ends || error.is_fatal()) {
                        stopped = Some(error);
                    }
                }
            }
        }
        engine.ledger.accepted(accepted, bytes);
        Ok(accepted as usize)
    }

    fn send_chunks<'r>(
        &self,
        mut records: impl Iterator<Item = Row<'r>>,
        mut rows: Rows<'_>,
    ) -> Result<usize> {
        let engine = self.engine();
        engine.check()?;
        let mut record = ProducerRecord::new(rows.topic);
        record.partition = rows.partition;
        check_record(&record)?;
        let mut chunk: [Row<'r>; CHUNK] = [(None, None); CHUNK];
        let mut first = 0;
        let mut stopped: Option<Error> = None;
        loop {
            let mut filled = 0;
            for (place, record) in chunk.iter_mut().zip(records.by_ref()) {
                *place = record;
                filled += 1;
            }
            if filled == 0 {
                break;
            }
            let from = match stopped {
                Some(_) => 0,
                None => match engine.send_rows(&chunk[..filled], first, &mut rows) {
                    Ok(()) => filled,
                    Err((next, error)) => {
                        stopped = Some(error);
                        next
                    }
                },
            };
            if let Some(error) = &stopped {
                engine
                    .ledger
                    .metrics
                    .records_refused
                    .add((filled - from) as u64);
                for row in from..filled {
                    (rows.refused)(first + row, error.clone());
                }
            }
            first += filled;
        }
        engine.ledger.accepted(rows.accepted as u64, rows.bytes);
        Ok(rows.accepted)
    }
}
