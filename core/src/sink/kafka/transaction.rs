//! What is asked of librdkafka's producer beside sending, with unsafe FFI: the steps of a transaction.
//!
//! Any thread but the delivery thread: committing and aborting wait for delivery reports, which that thread serves. (rust-rdkafka's own
//! commit serves them on the calling thread, where no callback may run.) Always true: an error object is given back once, after the
//! last look at it.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use crate::error::{Error, Result};
use crate::group::GroupMetadata;
use crate::kafka_code;
use crate::native::{self, offsets::ToCommit};
use crate::partition::OffsetAndMetadata;
use crate::sink::Step;

/// librdkafka chooses the bound itself.
const ITS_OWN: c_int = -1;

/// librdkafka's error objects; NULL is success.
///
/// # Safety
///
/// `error` is NULL, or ours to give back.
unsafe fn outcome(error: *mut rd::rd_kafka_error_t) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not NULL, and alive until the last line.
    unsafe {
        let code = kafka_code::from_number(rd::rd_kafka_error_code(error) as i32).judged(
            rd::rd_kafka_error_is_retriable(error) != 0,
            rd::rd_kafka_error_is_fatal(error) != 0,
            rd::rd_kafka_error_txn_requires_abort(error) != 0,
        );
        let said = CStr::from_ptr(rd::rd_kafka_error_string(error));
        let context = said.to_string_lossy().into_owned();
        rd::rd_kafka_error_destroy(error);
        Err(Error::Kafka { code, context })
    }
}

fn milliseconds(timeout: Option<Duration>) -> c_int {
    timeout.map_or(ITS_OWN, |timeout| {
        c_int::try_from(native::timeout(timeout).as_millis()).unwrap_or(c_int::MAX)
    })
}

/// Runs a step of a transaction.
pub(super) fn run<C: ProducerContext>(
    producer: &BaseProducer<C>,
    step: Step<'_>,
    timeout: Option<Duration>,
) -> Result<()> {
    let timeout_ms = milliseconds(timeout);
    let client = producer.client().native_ptr();
    // SAFETY: the client lives as long as the producer; each call gives NULL or an error that is ours.
    unsafe {
        match step {
            Step::Init => outcome(rd::rd_kafka_init_transactions(client, timeout_ms)),
            Step::Begin => outcome(rd::rd_kafka_begin_transaction(client)),
            Step::Commit => outcome(rd::rd_kafka_commit_transaction(client, timeout_ms)),
            Step::Abort => outcome(rd::rd_kafka_abort_transaction(client, timeout_ms)),
            Step::SendOffsets(offsets, group) => send_offsets(client, offsets, group, timeout_ms),
        }
    }
}

/// # Safety
///
/// `client` is a producer that lives through the call.
unsafe fn send_offsets(
    client: *mut rd::rd_kafka_t,
    offsets: &[OffsetAndMetadata],
    group: &GroupMetadata,
    timeout_ms: c_int,
) -> Result<()> {
    let list = offset_list(offsets)?;
    let bytes = group.as_bytes();
    let mut metadata = ptr::null_mut();
    // SAFETY: the bytes are read within their length and copied; what is written to `metadata` is ours, and is given back after
    // the only call that uses it. List and client live through the call.
    unsafe {
        outcome(rd::rd_kafka_consumer_group_metadata_read(
            &raw mut metadata,
            bytes.as_ptr().cast(),
            bytes.len(),
        ))?;
        let sent =
            rd::rd_kafka_send_offsets_to_transaction(client, list.ptr(), metadata, timeout_ms);
        rd::rd_kafka_consumer_group_metadata_destroy(metadata);
        outcome(sent)
    }
}

/// librdkafka's list of these offsets; those that are negative are left out, as it would do itself.
fn offset_list(offsets: &[OffsetAndMetadata]) -> Result<TopicPartitionList> {
    let offsets = offsets.iter().filter(|offset| offset.offset >= 0);
    let to_commit = offsets.map(|offset| ToCommit {
        partition: &offset.partition,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.as_deref(),
    });
    native::offsets::list(to_commit, "the offsets of the transaction")
}
