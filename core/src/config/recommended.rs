//! The configurations the documentation recommends. Tests hold them against the table: no error, no warning.

/// Settings of a consumer in production; `bootstrap.servers` and `group.id` are yours.
pub const RECOMMENDED_CONSUMER: &[(&str, &str, &str)] = &[
    (
        "bootstrap.servers",
        "localhost:9092",
        "two or three brokers of the cluster",
    ),
    ("group.id", "my-service", "one name per service"),
    (
        "enable.auto.commit",
        "true",
        "finished records are committed by the timer and at close",
    ),
    (
        "auto.commit.interval.ms",
        "5000",
        "at most this much is handled twice after a crash",
    ),
    (
        "auto.offset.reset",
        "latest",
        "where a new group begins; the start position is committed at once",
    ),
    (
        "queued.max.messages.kbytes",
        "65536",
        "the real bound of what waits in the process",
    ),
    (
        "session.timeout.ms",
        "30000",
        "a crashed member's partitions move after this",
    ),
    (
        "heartbeat.interval.ms",
        "3000",
        "at most a third of the session",
    ),
    (
        "max.poll.interval.ms",
        "300000",
        "the longest a handler may take without progress",
    ),
    (
        "max.poll.records",
        "500",
        "the most records one batch hands out",
    ),
];

/// Settings of a producer in production.
pub const RECOMMENDED_PRODUCER: &[(&str, &str, &str)] = &[
    (
        "bootstrap.servers",
        "localhost:9092",
        "two or three brokers of the cluster",
    ),
    (
        "acks",
        "all",
        "every in-sync replica has the record before it counts as delivered",
    ),
    (
        "enable.idempotence",
        "true",
        "no doubled and no reordered records over retries; needs acks=all",
    ),
    (
        "retries",
        "3",
        "how often a record is sent again, within delivery.timeout.ms",
    ),
    ("retry.backoff.ms", "100", "the first pause before that"),
    ("compression.type", "snappy", "cheap, and JSON shrinks well"),
    (
        "linger.ms",
        "10",
        "records that arrive within 10 ms share a batch",
    ),
    ("batch.size", "32768", "the most bytes in a batch"),
];
