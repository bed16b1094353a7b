//! From the user's configuration to librdkafka's and the poller's: who commits, and how the memory is split.
//!
//! `queued.max.messages.kbytes` is what the user allows for records that wait in this process. librdkafka counts only the
//! values in its own queue and forgets what was taken from it, so the number is split: a part for its queue, a part for
//! the gate, and the rest for what neither counts (keys, headers and per-message structures, the fetch responses on
//! their way in, the batch being filled and the one in the application's hands). `tests/` measures the sum.

use rdkafka::ClientConfig;

use crate::config::{ConsumerConfig, IsolationLevel, OffsetReset};
use crate::native;
use crate::poller::{BATCH_RECORDS, Settings};
use crate::source::FillLimit;
use crate::source::direct;
use crate::source::lookup::Reset;

/// Of the whole budget, in percent.
const PREFETCH_PERCENT: u64 = 40;
/// Where partitions may be read directly, librdkafka has little to hold, and what it holds takes several times its values.
const PREFETCH_BESIDE_LANES_PERCENT: u64 = 20;
const LANES_PERCENT: u64 = 25;
const GATE_PERCENT: u64 = 20;
const FETCH_PERCENT: u64 = 10;
const BATCH_PERCENT: u64 = 5;
/// A batch is not cut finer than this, nor grows beyond the other, unless one record is larger.
const BATCH_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=1024 * 1024;
/// librdkafka wants at least this much per fetch request to hold one message of the default largest size.
const LEAST_FETCH_BYTES: u64 = 1_048_576;
/// librdkafka's own default.
const LARGEST_FETCH_BYTES: u64 = 52_428_800;
/// librdkafka's default of 1000 stalls a second whenever its queue was full; a tight limit must not do that.
const FETCH_QUEUE_BACKOFF_MS: u64 = 20;

/// Everything the engine needs to start.
pub(crate) struct Tuning {
    pub(crate) native: ClientConfig,
    pub(crate) settings: Settings,
    pub(crate) gate_bytes: usize,
    pub(crate) reset: Reset,
    /// How partitions are read past librdkafka, where they may be.
    pub(crate) direct: Option<direct::Settings>,
}

fn percent(bytes: u64, percent: u64) -> u64 {
    bytes / 100 * percent
}

pub(crate) fn tune(config: &ConsumerConfig) -> Tuning {
    let total = config.queued_max_bytes;
    let mut native = native::client_config(&config.properties);
    let unset = |name: &str| !config.properties.contains_key(name);

    // One owner of all commits: the poller.
    native.set("enable.auto.commit", "false");
    native.set("enable.auto.offset.store", "false");
    native.set("enable.partition.eof", config.partition_eof.to_string());

    let is_direct = may_read_directly(config, &native);
    let prefetch_percent = match is_direct {
        true => PREFETCH_BESIDE_LANES_PERCENT,
        false => PREFETCH_PERCENT,
    };
    let prefetch_kbytes = (percent(total, prefetch_percent) / 1024).max(1);
    native.set("queued.max.messages.kbytes", prefetch_kbytes.to_string());
    if unset("fetch.queue.backoff.ms") {
        native.set("fetch.queue.backoff.ms", FETCH_QUEUE_BACKOFF_MS.to_string());
    }
    if unset("fetch.max.bytes") {
        // librdkafka wants it no smaller than message.max.bytes, whose default lies below the least.
        let least = config
            .properties
            .get("message.max.bytes")
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or(0)
            .max(LEAST_FETCH_BYTES);
        let bytes = percent(total, FETCH_PERCENT).clamp(least, LARGEST_FETCH_BYTES.max(least));
        native.set("fetch.max.bytes", bytes.to_string());
    }
    if config.group_id.is_none() {
        // librdkafka cannot assign without a group id, even if no group is joined and nothing is committed.
        native.set("group.id", "tidegate-no-group");
    }

    let batch_bytes = percent(total, BATCH_PERCENT).clamp(*BATCH_BYTES.start(), *BATCH_BYTES.end());
    Tuning {
        direct: is_direct.then(|| direct_fetch(config, &native, batch_bytes as usize)),
        native,
        settings: Settings {
            auto_commit: config.auto_commit && config.group_id.is_some(),
            auto_commit_interval_us: match config.auto_commit_interval_ms {
                0 => u64::MAX / 2,
                interval_ms => interval_ms * 1000,
            },
            max_poll_interval_us: config.max_poll_interval_ms * 1000,
            drain_us: config.drain_ms * 1000,
            batch_bytes: batch_bytes as usize,
        },
        gate_bytes: percent(total, GATE_PERCENT).max(1) as usize,
        reset: match config.auto_offset_reset {
            OffsetReset::Earliest => Reset::Beginning,
            OffsetReset::Latest => Reset::End,
            OffsetReset::Error => Reset::Never,
        },
    }
}

/// What reading past librdkafka does not know, or would hide from who wants to see it: a consumer with one of these set leaves all
/// reading to librdkafka. The value is the one that changes nothing.
const ONLY_LIBRDKAFKA: [(&str, &str); 7] = [
    ("security.protocol", "plaintext"),
    ("client.rack", ""),
    ("check.crcs", "false"),
    ("statistics.interval.ms", "0"),
    ("debug", ""),
    ("plugin.library.paths", ""),
    ("broker.address.family", "any"),
];

fn may_read_directly(config: &ConsumerConfig, native: &ClientConfig) -> bool {
    let is_plain = |(name, value): (&str, &str)| {
        let set = native.get(name);
        set.is_none_or(|set| set.eq_ignore_ascii_case(value))
    };
    config.direct_after_records > 0 && ONLY_LIBRDKAFKA.into_iter().all(is_plain)
}

fn direct_fetch(
    config: &ConsumerConfig,
    native: &ClientConfig,
    batch_bytes: usize,
) -> direct::Settings {
    let number = |name: &str, default: i32| {
        let set = native.get(name).and_then(|value| value.parse().ok());
        set.unwrap_or(default)
    };
    let wanted = direct::Wanted {
        client_id: native.get("client.id").unwrap_or("rdkafka").to_string(),
        budget_bytes: percent(config.queued_max_bytes, LANES_PERCENT) as usize,
        fetch_max_bytes: number("fetch.max.bytes", i32::MAX),
        partition_max_bytes: number("max.partition.fetch.bytes", 1_048_576),
        max_wait_ms: number("fetch.wait.max.ms", 500),
        min_bytes: number("fetch.min.bytes", 1),
        request_timeout_ms: u64::try_from(number("socket.timeout.ms", 60_000)).unwrap_or(60_000),
        read_committed: config.isolation_level == IsolationLevel::ReadCommitted,
        partition_eof: config.partition_eof,
        batch: FillLimit {
            records: BATCH_RECORDS,
            bytes: batch_bytes,
        },
        after_records: config.direct_after_records,
    };
    wanted.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn tuned(config: &Config) -> Tuning {
        tune(&config.consumer().expect("a good configuration"))
    }

    fn config() -> Config {
        Config::new()
            .with("bootstrap.servers", "127.0.0.1:1")
            .with("group.id", "g")
    }

    #[test]
    fn librdkafka_never_stores_or_commits_by_itself() {
        let tuning = tuned(&config().with("enable.auto.commit", true));
        assert_eq!(tuning.native.get("enable.auto.commit"), Some("false"));
        assert_eq!(tuning.native.get("enable.auto.offset.store"), Some("false"));
        assert!(tuning.settings.auto_commit);
    }

    #[test]
    fn the_parts_stay_below_the_budget() {
        for kbytes in [1, 64, 1024, 65536, 2_097_151] {
            let tuning = tuned(&config().with("queued.max.messages.kbytes", kbytes));
            let prefetch: u64 = tuning
                .native
                .get("queued.max.messages.kbytes")
                .and_then(|value| value.parse().ok())
                .expect("set");
            assert!(prefetch >= 1);
            let lanes = percent(kbytes as u64 * 1024, LANES_PERCENT);
            let parts = prefetch * 1024 + lanes + tuning.gate_bytes as u64;
            assert!(parts <= kbytes as u64 * 1024 + 1024);
        }
    }

    #[test]
    fn a_fetch_size_of_the_user_is_kept() {
        let tuning = tuned(&config().with("fetch.max.bytes", 30_000_000));
        assert_eq!(tuning.native.get("fetch.max.bytes"), Some("30000000"));
        let tuning = tuned(&config().with("message.max.bytes", 20_000_000));
        assert_eq!(tuning.native.get("fetch.max.bytes"), Some("20000000"));
    }

    #[test]
    fn what_only_librdkafka_can_do_leaves_all_reading_to_it() {
        assert!(tuned(&config()).direct.is_some());
        for (name, value) in [
            ("tidegate.direct.after.records", "0"),
            ("security.protocol", "ssl"),
            ("client.rack", "here"),
            ("check.crcs", "true"),
            ("statistics.interval.ms", "1000"),
            ("debug", "fetch"),
            ("broker.address.family", "v4"),
        ] {
            let tuning = tuned(&config().with(name, value));
            assert!(tuning.direct.is_none(), "{name}={value}");
        }
        for (name, value) in [("security.protocol", "PLAINTEXT"), ("check.crcs", "false")] {
            let tuning = tuned(&config().with(name, value));
            assert!(tuning.direct.is_some(), "{name}={value}");
        }
    }

    #[test]
    fn without_a_group_nothing_is_committed() {
        let config = Config::new().with("bootstrap.servers", "127.0.0.1:1");
        assert!(!tuned(&config).settings.auto_commit);
    }
}
