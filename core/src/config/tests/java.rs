//! The Java client's names and spellings.

use super::{check, config, only_error};
use crate::config::{Config, Counterpart, OffsetReset, Scope, explain, java_properties};

/// Every property of kafka-clients 4.3.1, as `ConsumerConfig.configNames()` and its two siblings print them.
const KAFKA_CLIENTS: &str = include_str!("kafka-clients-4.3.1.txt");

#[test]
fn every_property_of_the_java_client_has_an_answer() {
    let mut count = 0;
    for name in KAFKA_CLIENTS.lines().filter(|line| !line.is_empty()) {
        let explanation = explain(name);
        assert!(
            explanation.is_known() && explanation.java.is_some(),
            "{name}"
        );
        count += 1;
    }
    assert_eq!(count, 141);
}

#[test]
fn names_without_a_counterpart_say_what_to_write_instead() {
    for java in java_properties() {
        let Counterpart::Absent { remedy } = java.counterpart else {
            continue;
        };
        for scope in [Scope::Consumer, Scope::Producer, Scope::Global] {
            let problem = only_error(scope, &[(java.name, "x")]);
            assert_eq!(problem.remedy, remedy);
            assert_eq!(problem.property, java.name);
        }
    }
    let problem = only_error(Scope::Consumer, &[("ssl.truststore.location", "/a.jks")]);
    assert!(problem.remedy.contains("ssl.ca.location"), "{problem}");
    let problem = only_error(
        Scope::Consumer,
        &[("sasl.jaas.config", "x required password=\"p\";")],
    );
    assert!(
        problem.remedy.contains("sasl.username and sasl.password"),
        "{problem}"
    );
    assert_eq!(problem.value, "[redacted]");
    let problem = only_error(Scope::Consumer, &[("metrics.context.app", "x")]);
    assert!(problem.remedy.contains("stats()"), "{problem}");
}

#[track_caller]
fn translates(scope: Scope, pairs: &[(&str, &str)], to: &str, value: &str) {
    let config = config(pairs);
    let (properties, translations) = match scope {
        Scope::Consumer => config.consumer().map(|c| (c.properties, c.translations)),
        Scope::Producer => config.producer().map(|c| (c.properties, c.translations)),
        Scope::Global => config.admin().map(|c| (c.properties, c.translations)),
    }
    .unwrap_or_else(|problem| panic!("{pairs:?}: {problem}"));
    assert_eq!(
        properties.get(to).map(String::as_str),
        Some(value),
        "{pairs:?}"
    );
    assert!(
        translations.iter().any(|t| t.from == pairs[0].0),
        "{pairs:?}: {translations:?}"
    );
}

#[test]
fn names_with_a_counterpart_are_translated_and_it_is_noted() {
    use Scope::{Consumer, Global, Producer};
    translates(
        Consumer,
        &[("fetch.max.wait.ms", "250")],
        "fetch.wait.max.ms",
        "250",
    );
    translates(
        Consumer,
        &[("receive.buffer.bytes", "-1")],
        "socket.receive.buffer.bytes",
        "0",
    );
    translates(
        Producer,
        &[("send.buffer.bytes", "131072")],
        "socket.send.buffer.bytes",
        "131072",
    );
    translates(
        Producer,
        &[("buffer.memory", "33554433")],
        "queue.buffering.max.kbytes",
        "32769",
    );
    translates(
        Producer,
        &[("max.request.size", "1048576")],
        "message.max.bytes",
        "1048576",
    );
    translates(
        Consumer,
        &[("request.timeout.ms", "20000")],
        "socket.timeout.ms",
        "20000",
    );
    translates(
        Global,
        &[("request.timeout.ms", "20000")],
        "socket.timeout.ms",
        "20000",
    );
    let properties = config(&[("request.timeout.ms", "20000")])
        .producer()
        .unwrap()
        .properties;
    assert_eq!(properties["request.timeout.ms"], "20000");
    let class = "org.apache.kafka.clients.producer.internals.DefaultPartitioner";
    translates(
        Producer,
        &[("partitioner.class", class)],
        "partitioner",
        "murmur2_random",
    );
    let level = [
        ("compression.zstd.level", "3"),
        ("compression.type", "ZSTD"),
    ];
    translates(Producer, &level, "compression.level", "3");
    let pem = [
        ("ssl.keystore.key", "-----BEGIN PRIVATE KEY-----"),
        ("security.protocol", "PLAINTEXT"),
    ];
    translates(Consumer, &pem, "ssl.key.pem", "-----BEGIN PRIVATE KEY-----");
    let producer = config(&[("max.block.ms", "60000")]).producer().unwrap();
    assert_eq!(producer.queue_full_timeout_ms, 60_000);
    assert!(
        !producer
            .properties
            .contains_key("tidegate.queue.full.timeout.ms")
    );
}

#[test]
fn a_level_of_another_codec_has_no_effect_and_says_so() {
    let producer = config(&[("compression.gzip.level", "9"), ("compression.type", "lz4")])
        .producer()
        .unwrap();
    assert!(!producer.properties.contains_key("compression.level"));
    assert!(
        producer.translations[0].note.contains("no effect"),
        "{:?}",
        producer.translations
    );
}

#[test]
fn java_spellings_of_values_are_understood() {
    let range = "org.apache.kafka.clients.consumer.RangeAssignor";
    let both = format!("{range}, org.apache.kafka.clients.consumer.RoundRobinAssignor");
    let strategy = "partition.assignment.strategy";
    translates(Scope::Consumer, &[(strategy, range)], strategy, "range");
    translates(
        Scope::Consumer,
        &[(strategy, &both)],
        strategy,
        "range,roundrobin",
    );
    translates(
        Scope::Consumer,
        &[(
            strategy,
            "class org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
        )],
        strategy,
        "cooperative-sticky",
    );
    let problem = only_error(
        Scope::Consumer,
        &[(strategy, "org.apache.kafka.clients.consumer.StickyAssignor")],
    );
    assert!(problem.remedy.contains("cooperative-sticky"), "{problem}");
    let problem = only_error(Scope::Consumer, &[(strategy, "com.example.MyAssignor")]);
    assert!(problem.remedy.contains("range, roundrobin"), "{problem}");

    let consumer = config(&[
        ("auto.offset.reset", "none"),
        ("security.protocol", "PLAINTEXT"),
        ("isolation.level", "READ_COMMITTED"),
        ("group.protocol", "CLASSIC"),
        ("metadata.recovery.strategy", "REBOOTSTRAP"),
    ])
    .consumer()
    .unwrap();
    assert_eq!(consumer.auto_offset_reset, OffsetReset::Error);
    assert_eq!(consumer.properties["auto.offset.reset"], "error");
    assert_eq!(consumer.properties["security.protocol"], "plaintext");
    assert_eq!(
        consumer.properties["metadata.recovery.strategy"],
        "rebootstrap"
    );
    let problem = only_error(
        Scope::Consumer,
        &[("auto.offset.reset", "by_duration:PT1H")],
    );
    assert!(problem.remedy.contains("offsets_for_times"), "{problem}");

    for acks in ["all", "ALL", "-1"] {
        assert_eq!(
            config(&[("acks", acks)]).producer().unwrap().properties["acks"],
            "-1"
        );
    }
}

#[test]
fn what_tidegate_does_anyway_is_accepted_and_the_opposite_is_not() {
    for (name, good, bad) in [
        ("partitioner.ignore.keys", "false", "true"),
        ("partitioner.adaptive.partitioning.enable", "false", "true"),
        ("ssl.keystore.type", "pkcs12", "JKS"),
        ("transaction.two.phase.commit.enable", "false", "true"),
    ] {
        let report = check(Scope::Producer, &[(name, good)]);
        assert!(
            report.is_ok() && report.warnings.is_empty() && report.translations.len() == 1,
            "{report}"
        );
        only_error(Scope::Producer, &[(name, bad)]);
    }
    let report = Config::new()
        .with("bootstrap.servers", "a")
        .with("partitioner.ignore.keys", false)
        .check(Scope::Producer);
    assert!(report.is_ok());
}

#[test]
fn a_consumer_of_java_needs_few_changes() {
    let report = check(
        Scope::Consumer,
        &[
            ("group.id", "g"),
            (
                "key.deserializer",
                "org.apache.kafka.common.serialization.StringDeserializer",
            ),
            (
                "value.deserializer",
                "org.apache.kafka.common.serialization.StringDeserializer",
            ),
            ("max.poll.records", "100"),
            ("fetch.max.wait.ms", "100"),
            ("enable.auto.commit", "FALSE"),
        ],
    );
    let wrong: Vec<&str> = report
        .errors
        .iter()
        .map(|problem| problem.property.as_str())
        .collect();
    assert_eq!(wrong, ["key.deserializer", "value.deserializer"]);
}
