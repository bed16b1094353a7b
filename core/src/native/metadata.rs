//! What the brokers tell every client, of the whole cluster or of one topic.
//!
//! Any thread; each call waits. With unsafe FFI, for rust-rdkafka neither tells the controller nor takes a host that is not UTF-8.

use std::ffi::{CString, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as rd;
use rdkafka::client::Client;

use super::{failed, millis, read};
use crate::error::{Error, KafkaCode, Result};
use crate::kafka_code;
use crate::metadata::{Metadata, PartitionMetadata, TopicMetadata};

fn code(code: rd::rd_kafka_resp_err_t) -> Option<KafkaCode> {
    let is_error = code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    is_error.then(|| kafka_code::from_number(code as i32))
}

/// Asks a broker, of all topics or of one.
pub(crate) fn metadata<C: ClientContext>(
    client: &Client<C>,
    topic: Option<&str>,
    timeout: Duration,
) -> Result<Metadata> {
    let rk = client.native_ptr();
    let name = topic.map(CString::new).transpose().map_err(|_| {
        let problem = format!("{:?} holds a NUL character", topic.unwrap_or_default());
        Error::argument("topic", problem, "remove it")
    })?;
    let mut metadata = ptr::null();
    // SAFETY: the handle and the text are alive; the topic's handle is given back; what comes back is ours.
    let code = unsafe {
        let only = name.as_ref().map_or(ptr::null_mut(), |name| {
            rd::rd_kafka_topic_new(rk, name.as_ptr(), ptr::null_mut())
        });
        if only.is_null() && name.is_some() {
            return Err(failed(
                rd::rd_kafka_last_error(),
                "Unable to create topic object",
            ));
        }
        let all = c_int::from(only.is_null());
        let code = rd::rd_kafka_metadata(rk, all, only, &raw mut metadata, millis(timeout));
        if !only.is_null() {
            rd::rd_kafka_topic_destroy(only);
        }
        code
    };
    if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(failed(code, "Failed to get metadata"));
    }
    // SAFETY: ours until it is given back, below; the other calls answer from what is known now.
    unsafe {
        let mut told = tell(&*metadata);
        rd::rd_kafka_metadata_destroy(metadata);
        told.controller = rd::rd_kafka_controllerid(rk, 0);
        told.cluster_id = cluster_id(client, Duration::ZERO);
        Ok(told)
    }
}

/// The cluster's id, when a broker tells it in time.
pub(crate) fn cluster_id<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Option<String> {
    let rk = client.native_ptr();
    // SAFETY: the handle lives; the text is ours and given back.
    unsafe {
        let id = rd::rd_kafka_clusterid(rk, millis(timeout));
        let text = read::maybe(id);
        if !id.is_null() {
            rd::rd_kafka_mem_free(rk, id.cast());
        }
        text
    }
}

/// # Safety
///
/// Alive.
unsafe fn tell(metadata: &rd::rd_kafka_metadata) -> Metadata {
    // SAFETY: by contract; every array is as long as it says.
    unsafe {
        let partition = |native: &rd::rd_kafka_metadata_partition| PartitionMetadata {
            id: native.id,
            leader: native.leader,
            replicas: read::counted(native.replicas, native.replica_cnt).to_vec(),
            in_sync: read::counted(native.isrs, native.isr_cnt).to_vec(),
            error: code(native.err),
        };
        let topic = |native: &rd::rd_kafka_metadata_topic| TopicMetadata {
            name: read::text(native.topic),
            error: code(native.err),
            partitions: read::counted(native.partitions, native.partition_cnt)
                .iter()
                .map(partition)
                .collect(),
        };
        let brokers = read::counted(metadata.brokers, metadata.broker_cnt);
        let topics = read::counted(metadata.topics, metadata.topic_cnt);
        Metadata {
            cluster_id: None,
            controller: -1,
            origin: (
                metadata.orig_broker_id,
                read::text(metadata.orig_broker_name),
            ),
            brokers: brokers
                .iter()
                .map(|b| (b.id, read::text(b.host), b.port))
                .collect(),
            topics: topics.iter().map(topic).collect(),
        }
    }
}
