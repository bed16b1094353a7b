//! What a producer's configuration says of sending directly, and whether it may be done at all.

use std::collections::BTreeMap;
use std::time::Duration;

use super::choice::Partitioner;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) client_id: String,
    /// Who is asked which brokers lead.
    pub(super) servers: Vec<(String, u16)>,
    /// A topic is worth it after so many records.
    pub(super) after_records: u64,
    pub(super) acks: i16,
    pub(super) request_timeout_ms: i32,
    pub(super) answer_timeout: Duration,
    pub(super) linger_us: u64,
    pub(super) batch_bytes: usize,
    pub(super) batch_records: u32,
    pub(super) record_bytes: usize,
    pub(super) max_in_flight: usize,
    /// Of a connection; 0 leaves it to the system.
    pub(super) send_buffer_bytes: usize,
    pub(super) most_records: usize,
    pub(super) most_bytes: usize,
    pub(super) partitioner: Partitioner,
    pub(super) sticky_us: u64,
    /// How often it is looked whether a topic has more partitions.
    pub(super) refresh_us: u64,
}

/// What sending past librdkafka does not know, or would hide from who wants to see it: a producer with one of these set leaves all
/// sending to librdkafka. The value is the one that changes nothing.
const ONLY_LIBRDKAFKA: [(&str, &str); 10] = [
    ("security.protocol", "plaintext"),
    ("enable.idempotence", "false"),
    ("transactional.id", ""),
    ("enable.gapless.guarantee", "false"),
    ("compression.type", "none"),
    ("queuing.strategy", "fifo"),
    ("statistics.interval.ms", "0"),
    ("debug", ""),
    ("plugin.library.paths", ""),
    ("broker.address.family", "any"),
];

/// More requests in flight than these make nothing faster.
const MOST_IN_FLIGHT: i64 = 5;
/// A lane that gets no answer is given up within half of what a record may take; less than this is not split.
const LEAST_DELIVERY_TIMEOUT_MS: i64 = 2_000;

impl Settings {
    /// `None` when everything is left to librdkafka. `properties` are valid, under librdkafka's names.
    pub(crate) fn of(
        properties: &BTreeMap<String, String>,
        after_records: i64,
    ) -> Option<Settings> {
        let text = |name: &str| properties.get(name).map(String::as_str);
        let number = |name: &str, default: i64| {
            let set = text(name).and_then(|value| value.parse().ok());
            set.unwrap_or(default)
        };
        let is_plain = |(name, value): (&str, &str)| {
            text(name).is_none_or(|set| set.eq_ignore_ascii_case(value))
        };
        let acks = match text("acks") {
            None | Some("all") => -1,
            Some(acks) => acks.parse::<i16>().ok()?,
        };
        let delivery_timeout_ms = match number("delivery.timeout.ms", 300_000) {
            0 => i64::MAX,
            timeout_ms => timeout_ms,
        };
        // Nothing is ever sent again without a retry, nor confirmed without an answer.
        if after_records <= 0
            || acks == 0
            || number("retries", i64::MAX) == 0
            || delivery_timeout_ms < LEAST_DELIVERY_TIMEOUT_MS
            || !ONLY_LIBRDKAFKA.into_iter().all(is_plain)
        {
            return None;
        }
        let linger_ms: f64 = text("linger.ms")
            .and_then(|value| value.parse().ok())
            .unwrap_or(5.0);
        // With the quarter more that an answer may take it is half.
        let request_timeout_ms =
            number("request.timeout.ms", 30_000).min(delivery_timeout_ms / 5 * 2);
        let largest = number("message.max.bytes", 1_000_000);
        let bytes = |value: i64| usize::try_from(value).unwrap_or(usize::MAX);
        let servers: Vec<_> = text("bootstrap.servers")?
            .split(',')
            .filter_map(server)
            .collect();
        (!servers.is_empty()).then_some(())?;
        Some(Settings {
            client_id: text("client.id").unwrap_or("rdkafka").to_string(),
            servers,
            after_records: after_records.unsigned_abs(),
            acks,
            request_timeout_ms: i32::try_from(request_timeout_ms).unwrap_or(i32::MAX),
            // The broker answers after this at the latest, if it does.
            answer_timeout: Duration::from_millis(
                (request_timeout_ms + (request_timeout_ms / 4).min(5_000)).unsigned_abs(),
            ),
            linger_us: (linger_ms * 1000.0) as u64,
            batch_bytes: bytes(number("batch.size", 1_000_000).min(largest)),
            batch_records: u32::try_from(number("batch.num.messages", 10_000)).unwrap_or(u32::MAX),
            record_bytes: bytes(largest),
            send_buffer_bytes: bytes(number("socket.send.buffer.bytes", 0)),
            max_in_flight: bytes(
                number("max.in.flight.requests.per.connection", 1_000_000).min(MOST_IN_FLIGHT),
            ),
            most_records: match number("queue.buffering.max.messages", 100_000) {
                0 => usize::MAX,
                most => bytes(most),
            },
            most_bytes: bytes(number("queue.buffering.max.kbytes", 1_048_576).saturating_mul(1024)),
            partitioner: Partitioner::named(text("partitioner").unwrap_or("consistent_random"))?,
            sticky_us: match text("sticky.partitioning.linger.ms") {
                Some(sticky_ms) => sticky_ms.parse::<u64>().ok()? * 1000,
                None => (linger_ms * 2000.0) as u64,
            },
            refresh_us: match number("topic.metadata.refresh.interval.ms", 300_000) {
                ..=0 => u64::MAX / 2,
                refresh_ms => refresh_ms.unsigned_abs() * 1000,
            },
        })
    }
}

impl Settings {
    /// How long records wait for librdkafka's earlier ones.
    pub(super) fn wait_us(&self) -> u64 {
        u64::try_from(self.answer_timeout.as_micros()).unwrap_or(u64::MAX)
    }
}

/// Host and port; librdkafka's default port where there is none.
fn server(written: &str) -> Option<(String, u16)> {
    let written = written.trim();
    let written = written.rsplit_once("://").map_or(written, |(_, rest)| rest);
    let (host, port) = match written.rsplit_once(':') {
        // Not the colons of an address in brackets, or of one without.
        Some((host, port))
            if !port.ends_with(']') && (host.ends_with(']') || !host.contains(':')) =>
        {
            (host, port.parse().ok()?)
        }
        _ => (written, 9092),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Option<Settings> {
        let mut properties =
            BTreeMap::from([("bootstrap.servers".to_string(), "a:1,b".to_string())]);
        for (name, value) in pairs {
            properties.insert((*name).to_string(), (*value).to_string());
        }
        Settings::of(&properties, 1000)
    }

    #[test]
    fn what_only_librdkafka_can_do_leaves_all_sending_to_it() {
        assert!(of(&[]).is_some());
        for (name, value) in [
            ("acks", "0"),
            ("retries", "0"),
            ("delivery.timeout.ms", "1000"),
            ("enable.idempotence", "true"),
            ("transactional.id", "t"),
            ("compression.type", "lz4"),
            ("queuing.strategy", "lifo"),
            ("security.protocol", "sasl_plaintext"),
            ("statistics.interval.ms", "100"),
            ("debug", "msg"),
        ] {
            assert!(of(&[(name, value)]).is_none(), "{name}={value}");
        }
        for (name, value) in [
            ("acks", "all"),
            ("acks", "1"),
            ("security.protocol", "PLAINTEXT"),
            ("delivery.timeout.ms", "0"),
        ] {
            assert!(of(&[(name, value)]).is_some(), "{name}={value}");
        }
        let properties = BTreeMap::from([("bootstrap.servers".to_string(), "a:1".to_string())]);
        assert!(Settings::of(&properties, 0).is_none());
    }

    #[test]
    fn a_lane_takes_half_of_the_time_a_record_may_take() {
        let settings =
            of(&[("delivery.timeout.ms", "4000"), ("linger.ms", "0.5")]).expect("direct");
        assert_eq!(settings.request_timeout_ms, 1600);
        assert_eq!(settings.answer_timeout, Duration::from_millis(2000));
        assert_eq!(settings.wait_us(), 2_000_000);
        assert_eq!((settings.linger_us, settings.sticky_us), (500, 1000));
        let settings = of(&[]).expect("direct");
        assert_eq!(settings.request_timeout_ms, 30_000);
    }

    #[test]
    fn servers_are_read_as_librdkafka_reads_them() {
        let found = |written| server(written).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(found(" broker:1234 ").as_deref(), Some("broker 1234"));
        assert_eq!(found("broker").as_deref(), Some("broker 9092"));
        assert_eq!(found("PLAINTEXT://broker:1").as_deref(), Some("broker 1"));
        assert_eq!(found("[::1]:1234").as_deref(), Some("::1 1234"));
        assert_eq!(found("[::1]").as_deref(), Some("::1 9092"));
        assert_eq!(found("::1").as_deref(), Some("::1 9092"));
        assert_eq!(found("broker:x"), None);
        assert_eq!(found(""), None);
    }
}
