//! What every librdkafka client here needs: its configuration handed over, timeouts it can take, metadata as ours.
//!
//! L1; any thread.

pub(crate) mod mock;
pub(crate) mod sasl;
pub(crate) mod throttle;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::{ClientConfig, ClientContext};

use crate::error::Result;
use crate::kafka_code;
use crate::log;
use crate::partition::TopicInfo;

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

/// The cluster's topics, Kafka's internal ones included, in the order of their names.
pub(crate) fn topics<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<Vec<TopicInfo>> {
    let metadata = client
        .fetch_metadata(None, self::timeout(timeout))
        .map_err(|failure| kafka_code::error(&failure, "reading the cluster's topics"))?;
    let mut topics: Vec<TopicInfo> = metadata
        .topics()
        .iter()
        .map(|topic| TopicInfo {
            name: topic.name().to_string(),
            partitions: i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX),
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}
