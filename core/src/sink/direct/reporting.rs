//! What became of records, told record by record where somebody wants to know, as one number where nobody does.
//!
//! The delivery thread.

use super::Direct;
use super::account::{Done, Fate};
use crate::batch::TimestampType;
use crate::error::KafkaCode;
use crate::sink::{Report, Reports, TAGGED, TaggedReport, Token};

/// Of a record that was not delivered, as librdkafka has it.
const NO_OFFSET: i64 = -1001;

impl Direct {
    /// Tells what became of a batch's records.
    pub(super) fn report(&self, done: Done, reports: &dyn Reports) {
        let Done {
            at_us,
            book,
            index,
            batch,
            fate,
        } = done;
        let partition = i32::try_from(index).unwrap_or(-1);
        let (records, bytes) = (batch.count as usize, batch.payload_bytes);
        match fate {
            Fate::Delivered {
                base_offset,
                log_append_time_ms,
            } => {
                let mut tagged = Vec::with_capacity(match batch.marks.first() {
                    Some(mark) if mark.token & TAGGED != 0 => batch.marks.len(),
                    _ => 0,
                });
                let is_brokers = log_append_time_ms >= 0;
                for mark in &batch.marks {
                    let offset = base_offset.saturating_add(i64::from(mark.index));
                    let timestamp_ms = match is_brokers {
                        true => Some(log_append_time_ms),
                        false => Some(mark.timestamp_ms),
                    };
                    if mark.token & TAGGED == 0 {
                        reports.report(&Report {
                            token: mark.token,
                            topic: book.name(),
                            partition,
                            offset,
                            timestamp_ms,
                            outcome: Ok(()),
                        });
                        continue;
                    }
                    let sent_us = batch.began_us + u64::from(mark.after_us);
                    tagged.push(TaggedReport {
                        tag: mark.token & !TAGGED,
                        partition,
                        offset,
                        timestamp_ms,
                        timestamp_type: match is_brokers {
                            true => TimestampType::LogAppendTime,
                            false => TimestampType::CreateTime,
                        },
                        latency_us: i64::try_from(at_us.saturating_sub(sent_us)).unwrap_or(-1),
                        leader_epoch: book.leader_epoch(index),
                        outcome: Ok(()),
                    });
                }
                let plain = records - batch.marks.len();
                if plain > 0 {
                    reports.delivered(plain as u64);
                }
                if !tagged.is_empty() {
                    reports.tagged(&mut tagged);
                }
            }
            Fate::GivenUp(code) => {
                for record in batch.records(0, 0) {
                    report_failed(reports, book.name(), partition, record.token, code);
                }
            }
        }
        self.account.remove(records, bytes);
        self.account.give_back(batch.bytes);
    }
}

pub(super) fn report_failed(
    reports: &dyn Reports,
    topic: &str,
    partition: i32,
    token: Token,
    code: KafkaCode,
) {
    if token & TAGGED != 0 {
        reports.tagged(&mut vec![TaggedReport {
            tag: token & !TAGGED,
            partition,
            offset: NO_OFFSET,
            timestamp_ms: None,
            timestamp_type: TimestampType::NotAvailable,
            latency_us: -1,
            leader_epoch: -1,
            outcome: Err(code),
        }]);
        return;
    }
    reports.report(&Report {
        token,
        topic,
        partition,
        offset: NO_OFFSET,
        timestamp_ms: None,
        outcome: Err(code),
    });
}
