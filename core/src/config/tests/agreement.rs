//! Our verdict against librdkafka's: what passes our check is created, and what fails it librdkafka refuses, too, but for
//! a short list where we are stricter on purpose.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config as Runs, TestRunner};
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::producer::BaseProducer;

use super::{check, config};
use crate::config::table::{Kind, Property, find};
use crate::config::{Config, Scope, properties};

/// librdkafka's verdict on properties under its own names.
fn create(
    scope: Scope,
    properties: impl IntoIterator<Item = (String, String)>,
) -> Result<(), String> {
    let client: ClientConfig = properties.into_iter().collect();
    match scope {
        Scope::Consumer => client.create::<BaseConsumer>().map(drop),
        Scope::Producer | Scope::Global => client.create::<BaseProducer>().map(drop),
    }
    .map_err(|refusal| refusal.to_string())
}

fn ours(scope: Scope, config: &Config) -> BTreeMap<String, String> {
    match scope {
        Scope::Consumer => config.consumer().unwrap().properties,
        Scope::Producer => config.producer().unwrap().properties,
        Scope::Global => config.admin().unwrap().properties,
    }
}

/// A contradiction, the property we name, a word of the remedy, and whether librdkafka refuses it as well (when the client
/// is created; it finds out about the others later or never).
type Case = (
    Scope,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
    bool,
);

const CONTRADICTIONS: &[Case] = &[
    (
        Scope::Producer,
        &[("enable.idempotence", "true"), ("acks", "1")],
        "acks",
        "acks=all",
        true,
    ),
    (
        Scope::Producer,
        &[("enable.idempotence", "true"), ("acks", "0")],
        "acks",
        "acks=all",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("enable.idempotence", "true"),
            ("max.in.flight.requests.per.connection", "6"),
        ],
        "max.in.flight.requests.per.connection",
        "at most 5",
        true,
    ),
    (
        Scope::Producer,
        &[("enable.idempotence", "true"), ("max.in.flight", "6")],
        "max.in.flight",
        "at most 5",
        true,
    ),
    (
        Scope::Producer,
        &[("enable.idempotence", "true"), ("retries", "0")],
        "retries",
        "at least 1",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("enable.idempotence", "true"),
            ("queue.buffering.backpressure.threshold", "2"),
        ],
        "queue.buffering.backpressure.threshold",
        "write 1",
        true,
    ),
    (
        Scope::Producer,
        &[("enable.idempotence", "true"), ("queuing.strategy", "lifo")],
        "queuing.strategy",
        "leave it out",
        true,
    ),
    (
        Scope::Producer,
        &[("transactional.id", "t"), ("acks", "1")],
        "acks",
        "acks=all",
        true,
    ),
    (
        Scope::Producer,
        &[("transactional.id", "t"), ("enable.idempotence", "false")],
        "transactional.id",
        "enable.idempotence",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("transactional.id", "t"),
            ("transaction.timeout.ms", "10000"),
            ("socket.timeout.ms", "20000"),
        ],
        "socket.timeout.ms",
        "10100",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("transactional.id", "t"),
            ("transaction.timeout.ms", "10000"),
            ("delivery.timeout.ms", "20000"),
        ],
        "delivery.timeout.ms",
        "10000",
        true,
    ),
    // librdkafka 2.12.1 adds 100 in a C int.
    (
        Scope::Producer,
        &[
            ("transactional.id", "t"),
            ("transaction.timeout.ms", "2147483647"),
            ("socket.timeout.ms", "20000"),
        ],
        "transaction.timeout.ms",
        "2147483547",
        true,
    ),
    (
        Scope::Producer,
        &[("enable.gapless.guarantee", "true")],
        "enable.gapless.guarantee",
        "enable.idempotence=true",
        true,
    ),
    (
        Scope::Producer,
        &[("linger.ms", "1000"), ("delivery.timeout.ms", "1000")],
        "linger.ms",
        "less than 1000",
        true,
    ),
    (
        Scope::Producer,
        &[("linger.ms", "300000")],
        "linger.ms",
        "less than 300000",
        false,
    ),
    (
        Scope::Producer,
        &[("reconnect.backoff.ms", "20000")],
        "reconnect.backoff.max.ms",
        "at least 20000",
        true,
    ),
    (
        Scope::Producer,
        &[("ssl.keystore.location", "/x.p12")],
        "ssl.keystore.location",
        "ssl.keystore.password",
        true,
    ),
    (
        Scope::Producer,
        &[("security.protocol", "sasl_plaintext")],
        "sasl.mechanism",
        "SCRAM-SHA-512",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "GSSAPI"),
        ],
        "sasl.mechanism",
        "SCRAM-SHA-512",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "u"),
        ],
        "sasl.password",
        "sasl.password",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            ("sasl.password", "p"),
        ],
        "sasl.username",
        "sasl.username",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "OAUTHBEARER"),
        ],
        "sasl.mechanism",
        "SCRAM-SHA-512",
        false,
    ),
    (
        Scope::Producer,
        &[
            ("security.protocol", "ssl"),
            ("ssl.ca.location", "/no/such/file"),
        ],
        "ssl.ca.location",
        "path",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("security.protocol", "ssl"),
            ("ssl.crl.location", "/no/such/file"),
        ],
        "ssl.crl.location",
        "path",
        true,
    ),
    (
        Scope::Producer,
        &[
            ("security.protocol", "ssl"),
            ("ssl.ca.pem", "/no/such/file"),
        ],
        "ssl.ca.pem",
        ".location",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("session.timeout.ms", "60000"),
            ("max.poll.interval.ms", "50000"),
        ],
        "session.timeout.ms",
        "at most 50000",
        true,
    ),
    (
        Scope::Consumer,
        &[("group.id", "g"), ("max.poll.interval.ms", "10000")],
        "session.timeout.ms",
        "at least 45000",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "6000"),
        ],
        "heartbeat.interval.ms",
        "at most 2000",
        false,
    ),
    (
        Scope::Consumer,
        &[("group.id", "g"), ("fetch.max.bytes", "500000")],
        "fetch.max.bytes",
        "at least 1000000",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("fetch.max.bytes", "2000000"),
            ("receive.message.max.bytes", "2000000"),
        ],
        "receive.message.max.bytes",
        "lower fetch.max.bytes",
        true,
    ),
    (
        Scope::Consumer,
        &[("group.id", "g"), ("receive.message.max.bytes", "1000000")],
        "receive.message.max.bytes",
        "raise it",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("partition.assignment.strategy", "range,cooperative-sticky"),
        ],
        "partition.assignment.strategy",
        "alone",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("partition.assignment.strategy", "sticky"),
        ],
        "partition.assignment.strategy",
        "cooperative-sticky",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("group.protocol", "consumer"),
            ("session.timeout.ms", "45000"),
        ],
        "session.timeout.ms",
        "group.consumer.session.timeout.ms",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("group.protocol", "consumer"),
            ("heartbeat.interval.ms", "3000"),
        ],
        "heartbeat.interval.ms",
        "group.consumer.heartbeat.interval.ms",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("group.protocol", "consumer"),
            ("partition.assignment.strategy", "range"),
        ],
        "partition.assignment.strategy",
        "group.remote.assignor",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("group.protocol", "consumer"),
            ("group.protocol.type", "consumer"),
        ],
        "group.protocol.type",
        "leave it out",
        true,
    ),
    (
        Scope::Consumer,
        &[("group.id", "g"), ("topic.blacklist", "^(")],
        "topic.blacklist",
        "text",
        true,
    ),
    (
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("plugin.library.paths", "/no/such/plugin"),
        ],
        "plugin.library.paths",
        "text",
        true,
    ),
];

#[test]
fn every_contradiction_is_found_before_librdkafka_finds_it() {
    for (scope, pairs, property, remedy, refused) in CONTRADICTIONS {
        let report = check(*scope, pairs);
        assert_eq!(report.errors.len(), 1, "{pairs:?}: {report}");
        let problem = &report.errors[0];
        assert_eq!(&problem.property, property, "{pairs:?}: {problem}");
        assert!(problem.remedy.contains(remedy), "{pairs:?}: {problem}");
        let raw = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(create(*scope, raw).is_err(), *refused, "{pairs:?}");
    }
}

/// Where our verdict is harder than librdkafka's at creation, on purpose.
const STRICTER: [&str; 3] = [
    "heartbeat.interval.ms",
    "linger.ms",
    "tidegate.revoke.drain.ms",
];

/// Not set at random: they touch the process (signals, libraries, DNS), need files, or flood the output.
fn is_for_chance(row: &Property) -> bool {
    !matches!(row.kind, Kind::Callback(_))
        && row.missing.is_none()
        && !row.hidden
        && !row.name.starts_with("ssl.")
        && !row.name.starts_with("sasl.")
        && ![
            "security.protocol",
            "plugin.library.paths",
            "internal.termination.signal",
            "client.dns.lookup",
            "debug",
            "bootstrap.servers",
            "broker.version.fallback",
            "topic.blacklist",
        ]
        .contains(&row.name)
}

fn legal_value(row: &'static Property) -> BoxedStrategy<(&'static str, String)> {
    let name = row.name;
    let value: BoxedStrategy<String> = match row.kind {
        Kind::Integer { min, max, .. } => {
            let default: i64 = row.default.parse().unwrap_or(min);
            let least = (default / 2).max(min);
            let near = least..=default.saturating_mul(2).clamp(least, max);
            prop_oneof![2 => near.prop_map(|n| n.to_string()), 1 => (min..=max).prop_map(|n| n.to_string()),
                        1 => select(vec![min, max]).prop_map(|n| n.to_string())].boxed()
        }
        Kind::Float { min, max } => (min..=max).prop_map(|n| n.to_string()).boxed(),
        Kind::Boolean => any::<bool>().prop_map(|b| b.to_string()).boxed(),
        Kind::OneOf(words) => select(words).prop_map(str::to_owned).boxed(),
        Kind::Several(words) => subsequence(words, 1..=words.len())
            .prop_map(|some| some.join(","))
            .boxed(),
        Kind::Text | Kind::Callback(_) => "[a-z][a-z0-9.-]{0,12}".boxed(),
    };
    value.prop_map(move |value| (name, value)).boxed()
}

/// Properties that rules compare with each other: half of every random configuration, or contradictions would be rare.
const COMPARED: [&str; 23] = [
    "acks",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "fetch.max.bytes",
    "group.protocol",
    "heartbeat.interval.ms",
    "linger.ms",
    "max.in.flight.requests.per.connection",
    "max.poll.interval.ms",
    "message.max.bytes",
    "partition.assignment.strategy",
    "queue.buffering.backpressure.threshold",
    "queued.max.messages.kbytes",
    "queuing.strategy",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retries",
    "session.timeout.ms",
    "socket.timeout.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

fn legal_pairs(scope: Scope) -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let (compared, others): (Vec<&'static Property>, Vec<&'static Property>) = properties()
        .iter()
        .filter(|row| row.scope == scope || row.scope == Scope::Global)
        .filter(|row| is_for_chance(row))
        .partition(|row| COMPARED.contains(&row.name));
    (subsequence(compared, 0..5), subsequence(others, 0..5)).prop_flat_map(|(compared, others)| {
        let rows = compared.into_iter().chain(others);
        rows.map(legal_value).collect::<Vec<_>>()
    })
}

fn agree_on(scope: Scope, cases: u32) {
    let (passed, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Runs {
        cases,
        failure_persistence: None,
        ..Runs::default()
    });
    let result = runner.run(&legal_pairs(scope), |pairs| {
        let mut config = config(&[]);
        if scope == Scope::Consumer {
            config.set("group.id", "g");
        }
        for (name, value) in &pairs {
            config.set(*name, value.as_str());
        }
        let report = config.check(scope);
        if report.is_ok() {
            passed.set(passed.get() + 1);
            let created = create(scope, ours(scope, &config));
            prop_assert!(
                created.is_ok(),
                "passed our check: {:?}: {:?}",
                pairs,
                created
            );
        } else if !report
            .errors
            .iter()
            .any(|p| find(&p.property).is_some_and(|row| STRICTER.contains(&row.name)))
        {
            refused.set(refused.get() + 1);
            let raw = config
                .iter()
                .filter(|(name, _)| find(name).is_some_and(|row| !row.own))
                .map(|(name, value)| (name.to_owned(), value.to_text()));
            prop_assert!(create(scope, raw).is_err(), "{:?}: {}", pairs, report);
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let (passed, refused) = (passed.get(), refused.get());
    assert!(passed > cases / 4, "only {passed} of {cases} were valid");
    assert!(refused > 0, "none of {cases} was a contradiction");
}

#[test]
fn random_consumers_meet_the_same_verdict_in_librdkafka() {
    agree_on(Scope::Consumer, 200);
}

#[test]
fn random_producers_meet_the_same_verdict_in_librdkafka() {
    agree_on(Scope::Producer, 5000);
}
