//! The embedded broker: a Kafka cluster inside of the process, for tests.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;

use tidegate::Result;
use tidegate::embedded::{Broker, Request};

use crate::error::{c_text, tg_status};
use crate::guard;
use crate::handle::{self, object};
use crate::input;

/// Every broker of the cluster.
pub const TG_ALL_BROKERS: i32 = -1;

/// A Kafka cluster inside of this process, on loopback ports, for tests and demonstrations. It keeps 5 MiB (100 000 records) per
/// partition, knows no transactions and no topic administration, and re-joins a group only after about one session timeout. A topic that
/// was not created comes into being, with 4 partitions, when a client first asks for it. Everything may be called by any thread; in a
/// forked child it answers TG_ERROR_FORKED.
pub struct tg_broker {
    _private: [u8; 0],
}

/// What a [`tg_broker`] stands for.
struct Cluster {
    broker: Broker,
    bootstrap_servers: CString,
}

object!(Cluster, tg_broker, "broker", 10);

/// A request of the Kafka protocol that tg_broker_request_errors() can make fail.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tg_request {
    /// Producers sending records.
    TG_REQUEST_PRODUCE = 0,
    /// Consumers fetching records.
    TG_REQUEST_FETCH = 1,
    /// Looking up offsets by time, and the watermarks.
    TG_REQUEST_LIST_OFFSETS = 2,
    /// Looking up topics and leaders.
    TG_REQUEST_METADATA = 3,
    /// Committing offsets.
    TG_REQUEST_OFFSET_COMMIT = 4,
    /// Reading committed offsets.
    TG_REQUEST_OFFSET_FETCH = 5,
    /// Looking up a group's coordinator.
    TG_REQUEST_FIND_COORDINATOR = 6,
    /// Joining a group.
    TG_REQUEST_JOIN_GROUP = 7,
    /// Getting the assignment.
    TG_REQUEST_SYNC_GROUP = 8,
    /// Staying in the group.
    TG_REQUEST_HEARTBEAT = 9,
    /// Leaving the group.
    TG_REQUEST_LEAVE_GROUP = 10,
    /// An idempotent producer asking for its id.
    TG_REQUEST_INIT_PRODUCER_ID = 11,
}

fn request(number: i32) -> Result<Request> {
    Ok(match number {
        0 => Request::Produce,
        1 => Request::Fetch,
        2 => Request::ListOffsets,
        3 => Request::Metadata,
        4 => Request::OffsetCommit,
        5 => Request::OffsetFetch,
        6 => Request::FindCoordinator,
        7 => Request::JoinGroup,
        8 => Request::SyncGroup,
        9 => Request::Heartbeat,
        10 => Request::LeaveGroup,
        11 => Request::InitProducerId,
        _ => {
            return Err(input::refused(
                "request",
                format!("there is no request {number}"),
                "use one of the TG_REQUEST_ numbers",
            ));
        }
    })
}

fn cluster(broker: *const tg_broker) -> Result<Arc<Cluster>> {
    handle::get::<Cluster>(broker)
}

/// Starts a cluster; tg_broker_free() ends it. Any thread.
///
/// @param brokers how many, 1 to 100; they are numbered from 1.
/// @return TG_ERROR_ARGUMENT for NULL and another number of brokers; TG_ERROR_KAFKA when librdkafka cannot start it.
///
/// # Safety
///
/// `broker` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_broker_new(brokers: i32, broker: *mut *mut tg_broker) -> tg_status {
    guard::call(|| {
        input::check_place("broker", broker)?;
        let started = Broker::new(brokers)?;
        let made = handle::make(Cluster {
            bootstrap_servers: c_text(started.bootstrap_servers()),
            broker: started,
        })?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("broker", broker, made) }
    })
}

/// What clients set as `bootstrap.servers`, NUL-terminated and valid until tg_broker_free(); NULL for NULL and a freed broker. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_broker_bootstrap_servers(broker: *const tg_broker) -> *const c_char {
    guard::value(ptr::null(), || {
        Ok(cluster(broker)?.bootstrap_servers.as_ptr())
    })
}

/// Creates a topic, replicated over up to three brokers. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a freed broker, a name that Kafka does not allow, fewer than one partition, and a topic that exists.
///
/// # Safety
///
/// `topic` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_broker_create_topic(
    broker: *mut tg_broker,
    topic: *const c_char,
    partitions: i32,
) -> tg_status {
    guard::call(|| {
        let cluster = cluster(broker)?;
        // SAFETY: by contract.
        let topic = unsafe { input::text("topic", topic)? };
        cluster.broker.create_topic(topic, partitions)
    })
}

/// Disconnects a broker, or TG_ALL_BROKERS, and refuses new connections until tg_broker_up(). Leaders stay. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a freed handle, and a broker that does not exist.
#[unsafe(no_mangle)]
pub extern "C" fn tg_broker_down(broker: *mut tg_broker, number: i32) -> tg_status {
    guard::call(|| cluster(broker)?.broker.broker_down(number))
}

/// Lets a broker, or TG_ALL_BROKERS, accept connections again. Any thread.
///
/// @return as tg_broker_down().
#[unsafe(no_mangle)]
pub extern "C" fn tg_broker_up(broker: *mut tg_broker, number: i32) -> tg_status {
    guard::call(|| cluster(broker)?.broker.broker_up(number))
}

/// Makes a broker, or TG_ALL_BROKERS, answer no sooner than after `delay_ms`. Any thread.
///
/// @return as tg_broker_down(); TG_ERROR_ARGUMENT also for a negative time.
#[unsafe(no_mangle)]
pub extern "C" fn tg_broker_round_trip_time(
    broker: *mut tg_broker,
    number: i32,
    delay_ms: i64,
) -> tg_status {
    guard::call(|| {
        let cluster = cluster(broker)?;
        let delay = input::duration("delay_ms", delay_ms)?;
        cluster.broker.round_trip_time(number, delay)
    })
}

/// Makes the next `count` requests of a kind fail with these Kafka codes, one each, in this order; -195 (_TRANSPORT) drops the
/// connection instead. Any thread.
///
/// @param request a tg_request number.
/// @return TG_ERROR_ARGUMENT for NULL, a freed broker, an unknown request, and a number that is no Kafka code.
///
/// # Safety
///
/// `kafka_codes` leads to `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_broker_request_errors(
    broker: *mut tg_broker,
    request: i32,
    kafka_codes: *const i32,
    count: usize,
) -> tg_status {
    guard::call(|| {
        let cluster = cluster(broker)?;
        let request = self::request(request)?;
        // SAFETY: by contract.
        let codes = unsafe { input::slice("kafka_codes", kafka_codes, count)? };
        cluster.broker.request_errors(request, codes)
    })
}

/// Forgets the errors that tg_broker_request_errors() left for requests of a kind. Any thread.
///
/// @param request a tg_request number.
/// @return TG_ERROR_ARGUMENT for NULL, a freed broker, and an unknown request.
#[unsafe(no_mangle)]
pub extern "C" fn tg_broker_clear_request_errors(
    broker: *mut tg_broker,
    request: i32,
) -> tg_status {
    guard::call(|| {
        let cluster = cluster(broker)?;
        cluster.broker.clear_request_errors(self::request(request)?)
    })
}

/// Makes a broker the leader of a partition. Any thread.
///
/// @param number the broker; 0 leaves the partition without a leader.
/// @return TG_ERROR_KAFKA for an unknown partition; TG_ERROR_ARGUMENT for NULL, a freed handle, and a broker that does not exist.
///
/// # Safety
///
/// `topic` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_broker_set_leader(
    broker: *mut tg_broker,
    topic: *const c_char,
    partition: i32,
    number: i32,
) -> tg_status {
    guard::call(|| {
        let cluster = cluster(broker)?;
        // SAFETY: by contract.
        let topic = unsafe { input::text("topic", topic)? };
        let leader = (number != 0).then_some(number);
        cluster.broker.set_leader(topic, partition, leader)
    })
}

/// Makes a broker the coordinator of a consumer group. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a freed handle, and a broker that does not exist.
///
/// # Safety
///
/// `group` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_broker_set_group_coordinator(
    broker: *mut tg_broker,
    group: *const c_char,
    number: i32,
) -> tg_status {
    guard::call(|| {
        let cluster = cluster(broker)?;
        // SAFETY: by contract.
        let group = unsafe { input::text("group", group)? };
        cluster.broker.set_group_coordinator(group, number)
    })
}

/// Ends a cluster and everything in it; clients that use it go on without. Takes at most five seconds. NULL does nothing; freeing twice is
/// TG_ERROR_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_broker_free(broker: *mut tg_broker) -> tg_status {
    guard::call(|| handle::take::<Cluster>(broker).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestBroker, in_child, last_error, text, wrong_argument};
    use tg_status::{TG_ERROR_ARGUMENT, TG_ERROR_FORKED, TG_ERROR_KAFKA, TG_OK};

    #[test]
    fn everything_that_can_be_asked_of_it_works() {
        let test = TestBroker::new(&[(c"t", 2)]);
        let servers = text(tg_broker_bootstrap_servers(test.0));
        assert!(servers.starts_with("127.0.0.1:"), "{servers}");
        assert!(std::net::TcpStream::connect(&servers).is_ok());
        assert_eq!(tg_broker_down(test.0, TG_ALL_BROKERS), TG_OK);
        assert_eq!(tg_broker_up(test.0, 1), TG_OK);
        assert_eq!(tg_broker_round_trip_time(test.0, 1, 1), TG_OK);
        let codes = [6, -195];
        // SAFETY: C texts, and an array of two numbers.
        unsafe {
            assert_eq!(
                tg_broker_request_errors(test.0, 0, codes.as_ptr(), 2),
                TG_OK
            );
            assert_eq!(tg_broker_set_leader(test.0, c"t".as_ptr(), 1, 0), TG_OK);
            assert_eq!(tg_broker_set_leader(test.0, c"t".as_ptr(), 1, 1), TG_OK);
            let unknown = tg_broker_set_leader(test.0, c"t".as_ptr(), 7, 1);
            assert_eq!(unknown, TG_ERROR_KAFKA, "{}", last_error());
            assert_eq!(
                tg_broker_set_group_coordinator(test.0, c"g".as_ptr(), 1),
                TG_OK
            );
        }
        for number in 0..=11 {
            assert_eq!(tg_broker_clear_request_errors(test.0, number), TG_OK);
        }
    }

    #[test]
    fn bad_input_is_told() {
        let test = TestBroker::new(&[(c"t", 1)]);
        let broker = test.0;
        // SAFETY: NULL, C texts, the addresses of variables, and an array of one number.
        unsafe {
            let mut made = ptr::null_mut();
            for number in [0, -1, 101] {
                assert_eq!(tg_broker_new(number, &raw mut made), TG_ERROR_ARGUMENT);
                assert_eq!(wrong_argument(), "brokers");
            }
            assert!(made.is_null());
            assert_eq!(tg_broker_new(1, ptr::null_mut()), TG_ERROR_ARGUMENT);
            for topic in [ptr::null(), c"".as_ptr(), c"a b".as_ptr(), c"t".as_ptr()] {
                assert_eq!(tg_broker_create_topic(broker, topic, 1), TG_ERROR_ARGUMENT);
                assert_eq!(wrong_argument(), "topic");
            }
            let none = tg_broker_create_topic(broker, c"u".as_ptr(), 0);
            assert_eq!(none, TG_ERROR_ARGUMENT);
            assert_eq!(wrong_argument(), "partitions");
            for (request, code) in [(-1, 6), (12, 6), (0, 12_345)] {
                let status = tg_broker_request_errors(broker, request, &raw const code, 1);
                assert_eq!(status, TG_ERROR_ARGUMENT);
            }
            let null = tg_broker_request_errors(broker, 0, ptr::null(), 1);
            assert_eq!(null, TG_ERROR_ARGUMENT);
            let null = tg_broker_set_group_coordinator(broker, ptr::null(), 1);
            assert_eq!(null, TG_ERROR_ARGUMENT);
        }
        assert_eq!(tg_broker_down(broker, 2), TG_ERROR_ARGUMENT);
        assert_eq!(tg_broker_round_trip_time(broker, 1, -1), TG_ERROR_ARGUMENT);
        assert_eq!(wrong_argument(), "delay_ms");
        assert_eq!(
            tg_broker_clear_request_errors(broker, 12),
            TG_ERROR_ARGUMENT
        );
    }

    #[test]
    fn a_freed_one_is_told_and_gone() {
        let test = TestBroker::new(&[]);
        let servers = text(tg_broker_bootstrap_servers(test.0));
        assert_eq!(tg_broker_free(test.0), TG_OK);
        assert!(std::net::TcpStream::connect(servers).is_err());
        assert_eq!(tg_broker_free(test.0), TG_ERROR_ARGUMENT);
        assert_eq!(tg_broker_free(ptr::null_mut()), TG_OK);
        assert!(tg_broker_bootstrap_servers(test.0).is_null());
        assert!(tg_broker_bootstrap_servers(ptr::null()).is_null());
        assert_eq!(tg_broker_up(test.0, 1), TG_ERROR_ARGUMENT);
        assert_eq!(wrong_argument(), "broker");
    }

    #[test]
    fn a_forked_child_is_told_and_does_not_wait() {
        let test = TestBroker::new(&[]);
        assert!(in_child(|| {
            tg_broker_up(test.0, 1) == TG_ERROR_FORKED && tg_broker_free(test.0) == TG_OK
        }));
        assert_eq!(tg_broker_up(test.0, 1), TG_OK);
    }
}
