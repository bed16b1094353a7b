//! What every librdkafka client here needs: its configuration handed over, timeouts it can take, metadata as ours.
//!
//! L1; any thread.

pub(crate) mod metadata;
pub(crate) mod mock;
pub(crate) mod offsets;
pub(crate) mod read;
pub(crate) mod sasl;
pub(crate) mod throttle;

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as rd;

use crate::checks;
use crate::error::Error;
use crate::kafka_code;
use crate::log;

/// The version of the librdkafka that is linked in: `2.12.1`.
#[must_use]
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// librdkafka takes milliseconds in an `int`; a longer wait is cut to this (24 days).
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// A timeout that librdkafka can take.
pub(crate) fn timeout(timeout: Duration) -> Duration {
    timeout.min(LONGEST)
}

/// A timeout as librdkafka takes it.
pub(crate) fn millis(timeout: Duration) -> c_int {
    c_int::try_from(checks::millis(timeout)).unwrap_or(c_int::MAX)
}

/// The error of a call of librdkafka's.
pub(crate) fn failed(code: rd::rd_kafka_resp_err_t, doing: &str) -> Error {
    let code = kafka_code::from_number(code as i32);
    Error::Kafka {
        context: format!("{doing}: {}", code.description()),
        code,
    }
}

/// rust-rdkafka's configuration of these properties, with the log level they ask for.
pub(crate) fn client_config(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        config.set(name, value);
    }
    let property = |name: &str| properties.get(name).map(String::as_str);
    config.set_log_level(log::librdkafka_level(
        property("log_level"),
        property("debug"),
    ));
    config
}
