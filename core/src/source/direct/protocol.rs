//! The request that fetching takes, beside those of [`crate::wire::cluster`]: Fetch 13.
//!
//! It is the first version that names topics by id, so that a topic that is deleted and made anew is never taken for the old one,
//! and every broker since Kafka 3.1 understands it. A broker that does not is read through librdkafka.

use crate::wire::cluster::{FETCH, correlation, expect};
use crate::wire::{Decoder, Encoder, Malformed, Uuid};

/// What is the same for each fetch of a consumer.
#[derive(Debug, Clone)]
pub(super) struct FetchOptions {
    pub(super) max_wait_ms: i32,
    pub(super) min_bytes: i32,
    pub(super) partition_max_bytes: i32,
    pub(super) read_committed: bool,
}

/// A partition to fetch, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FetchFrom {
    pub(super) topic_id: Uuid,
    pub(super) partition: i32,
    pub(super) leader_epoch: i32,
    pub(super) offset: i64,
}

/// A fetch without a session, of at most about `max_bytes`. Partitions come in this order until there are enough bytes.
pub(super) fn fetch(
    correlation: i32,
    client_id: &str,
    options: &FetchOptions,
    max_bytes: i32,
    partitions: &[FetchFrom],
) -> Vec<u8> {
    let mut request = Encoder::request(FETCH, correlation, client_id);
    request.i32(-1); // no replica
    request.i32(options.max_wait_ms);
    request.i32(options.min_bytes);
    request.i32(max_bytes);
    request.i8(i8::from(options.read_committed));
    request.i32(0);
    request.i32(-1); // no session
    let topics = || partitions.chunk_by(|a, b| a.topic_id == b.topic_id);
    request.count(topics().count());
    for topic in topics() {
        request.uuid(topic[0].topic_id);
        request.count(topic.len());
        for from in topic {
            request.i32(from.partition);
            request.i32(from.leader_epoch);
            request.i64(from.offset);
            request.i32(-1); // the epoch of the last record, which only replicas say
            request.i64(-1); // the log's start, likewise
            request.i32(options.partition_max_bytes);
            request.no_tags();
        }
        request.no_tags();
    }
    request.count(0); // nothing to forget
    request.text(""); // no rack: from leaders only
    request.no_tags();
    request.finish()
}

/// A transaction that came to nothing: what its producer wrote from there on until the marker is not to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: i64,
    pub(super) first_offset: i64,
}

/// What an answer holds of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetched<'a> {
    pub(super) topic_id: Uuid,
    pub(super) partition: i32,
    pub(super) error: i16,
    pub(super) high_watermark: i64,
    pub(super) last_stable_offset: i64,
    pub(super) log_start: i64,
    /// In the order of their first offsets.
    pub(super) aborted: Vec<Aborted>,
    /// Another broker that this one would rather have asked; negative for none.
    pub(super) preferred_replica: i32,
    /// Record batches; the last one may be cut off.
    pub(super) records: &'a [u8],
}

/// An answer to [`fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FetchAnswer<'a> {
    pub(super) throttle_ms: i32,
    pub(super) error: i16,
    pub(super) partitions: Vec<Fetched<'a>>,
}

pub(super) fn fetched(answer: &[u8], expected: i32) -> Result<FetchAnswer<'_>, Malformed> {
    let mut read = Decoder::new(answer);
    expect(correlation(&mut read, true)?, expected)?;
    let throttle_ms = read.i32()?;
    let error = read.i16()?;
    read.i32()?; // session
    let mut partitions = Vec::new();
    for _ in 0..read.count()? {
        let topic_id = read.uuid()?;
        for _ in 0..read.count()? {
            let partition = read.i32()?;
            let error = read.i16()?;
            let (high_watermark, last_stable_offset, log_start) =
                (read.i64()?, read.i64()?, read.i64()?);
            let count = read.count()?;
            let mut aborted = Vec::new();
            for _ in 0..count {
                aborted.push(Aborted {
                    producer_id: read.i64()?,
                    first_offset: read.i64()?,
                });
                read.skip_tags()?;
            }
            // Brokers list them by their ends.
            aborted.sort_unstable_by_key(|aborted: &Aborted| aborted.first_offset);
            let preferred_replica = read.i32()?;
            let records = read.bytes()?.unwrap_or(&[]);
            read.skip_tags()?;
            partitions.push(Fetched {
                topic_id,
                partition,
                error,
                high_watermark,
                last_stable_offset,
                log_start,
                aborted,
                preferred_replica,
                records,
            });
        }
        read.skip_tags()?;
    }
    Ok(FetchAnswer {
        throttle_ms,
        error,
        partitions,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::cluster::any_answer;

    proptest! {
        #[test]
        fn whatever_a_broker_answers_is_read_or_refused(bytes in any_answer()) {
            let _ = fetched(&bytes, 7);
        }
    }

    #[test]
    fn an_answer_to_another_request_is_refused() {
        let answer = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        assert!(fetched(&answer, 7).is_err());
        assert!(fetched(&answer, 8).is_ok());
    }
}
