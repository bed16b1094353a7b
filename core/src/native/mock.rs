//! librdkafka's mock cluster, with unsafe FFI: rust-rdkafka's keeps its handle to itself and has no call for how long a new group
//! waits for members.
//!
//! The thread that made the cluster; the handle may not be shared between threads.

use std::ffi::{CStr, CString, c_int};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr, RDKafkaType};

/// A cluster on loopback ports.
pub(crate) struct Cluster {
    handle: *mut rd::rd_kafka_mock_cluster_t,
    /// The client that it is made of; without a server, and used for nothing else. Dropped behind the cluster.
    _client: Client<DefaultClientContext>,
}

fn done(code: RDKafkaRespErr) -> KafkaResult<()> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(KafkaError::MockCluster(code.into())),
    }
}

fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

// SAFETY of all calls here: the handle is this cluster's, which lives until `drop`, and only one thread has it. Texts are C strings
// for as long as the call, which copies them.
impl Cluster {
    pub(crate) fn new(brokers: i32) -> KafkaResult<Cluster> {
        let config = ClientConfig::new();
        let native = config.create_native_config()?;
        let kind = RDKafkaType::RD_KAFKA_PRODUCER;
        let client = Client::new(&config, native, kind, DefaultClientContext)?;
        // SAFETY: the client is alive; it is kept beside the cluster.
        let handle = unsafe { rd::rd_kafka_mock_cluster_new(client.native_ptr(), brokers) };
        if handle.is_null() {
            return Err(KafkaError::MockCluster(RDKafkaErrorCode::Fail));
        }
        Ok(Cluster {
            handle,
            _client: client,
        })
    }

    pub(crate) fn bootstrap_servers(&self) -> String {
        // SAFETY: see above; the text is the cluster's and does not change.
        let text = unsafe { CStr::from_ptr(rd::rd_kafka_mock_cluster_bootstraps(self.handle)) };
        text.to_string_lossy().into_owned()
    }

    /// How long a group that has had no member waits for more of them; not 0, which librdkafka takes for "for ever".
    pub(crate) fn group_initial_rebalance_delay(&self, delay: Duration) {
        // SAFETY: see above.
        unsafe {
            rd::rd_kafka_mock_group_initial_rebalance_delay_ms(
                self.handle,
                milliseconds(delay).max(1),
            );
        }
    }

    pub(crate) fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
    ) -> KafkaResult<()> {
        let topic = CString::new(topic)?;
        // SAFETY: see above.
        done(unsafe {
            rd::rd_kafka_mock_topic_create(self.handle, topic.as_ptr(), partitions, replication)
        })
    }

    pub(crate) fn broker_down(&self, broker: i32) -> KafkaResult<()> {
        // SAFETY: see above.
        done(unsafe { rd::rd_kafka_mock_broker_set_down(self.handle, broker) })
    }

    pub(crate) fn broker_up(&self, broker: i32) -> KafkaResult<()> {
        // SAFETY: see above.
        done(unsafe { rd::rd_kafka_mock_broker_set_up(self.handle, broker) })
    }

    pub(crate) fn broker_round_trip_time(&self, broker: i32, delay: Duration) -> KafkaResult<()> {
        // SAFETY: see above.
        done(unsafe { rd::rd_kafka_mock_broker_set_rtt(self.handle, broker, milliseconds(delay)) })
    }

    pub(crate) fn request_errors(&self, request: RDKafkaApiKey, codes: &[RDKafkaRespErr]) {
        // SAFETY: see above; the codes are copied.
        unsafe {
            rd::rd_kafka_mock_push_request_errors_array(
                self.handle,
                request.into(),
                codes.len(),
                codes.as_ptr(),
            );
        }
    }

    pub(crate) fn clear_request_errors(&self, request: RDKafkaApiKey) {
        // SAFETY: see above.
        unsafe { rd::rd_kafka_mock_clear_request_errors(self.handle, request.into()) }
    }

    pub(crate) fn partition_leader(
        &self,
        topic: &str,
        partition: i32,
        broker: Option<i32>,
    ) -> KafkaResult<()> {
        let topic = CString::new(topic)?;
        let broker = broker.unwrap_or(-1);
        // SAFETY: see above.
        done(unsafe {
            rd::rd_kafka_mock_partition_set_leader(self.handle, topic.as_ptr(), partition, broker)
        })
    }

    pub(crate) fn group_coordinator(&self, group: &str, broker: i32) -> KafkaResult<()> {
        let group = CString::new(group)?;
        // SAFETY: see above.
        done(unsafe {
            rd::rd_kafka_mock_coordinator_set(
                self.handle,
                c"group".as_ptr(),
                group.as_ptr(),
                broker,
            )
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SAFETY: nobody has the handle any more; the client outlives this.
        unsafe { rd::rd_kafka_mock_cluster_destroy(self.handle) }
    }
}
