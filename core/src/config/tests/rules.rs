//! Names, values and warnings, one by one. The contradictions are in `agreement`.

use super::{check, config, only_error, value};
use crate::config::{Config, GroupProtocol, IsolationLevel, OffsetReset, Scope, explain};
use crate::error::{Error, Severity};

#[test]
fn the_defaults_are_the_tables() {
    let consumer = config(&[]).consumer().unwrap();
    assert_eq!(consumer.properties.len(), 1);
    assert_eq!(consumer.properties["bootstrap.servers"], "127.0.0.1:1");
    assert_eq!(consumer.group_id, None);
    assert_eq!(consumer.group_protocol, GroupProtocol::Classic);
    assert!(consumer.auto_commit && !consumer.partition_eof);
    assert_eq!(consumer.auto_commit_interval_ms, 5000);
    assert_eq!(consumer.max_poll_interval_ms, 300_000);
    assert_eq!(consumer.max_poll_records, None);
    assert_eq!(consumer.queued_max_bytes, 65_536 * 1024);
    assert_eq!(consumer.auto_offset_reset, OffsetReset::Latest);
    assert_eq!(consumer.session_timeout_ms, 45_000);
    assert_eq!(consumer.isolation_level, IsolationLevel::ReadCommitted);
    assert_eq!(consumer.drain_ms, 15_000);
    assert!(consumer.warnings.is_empty() && consumer.translations.is_empty());
    let producer = config(&[]).producer().unwrap();
    assert_eq!(producer.queue_full_timeout_ms, 10_000);
    assert!(!producer.idempotence && producer.transactional_id.is_none());
    assert_eq!(config(&[]).admin().unwrap().properties.len(), 1);
}

#[test]
fn typed_settings_are_the_users() {
    let consumer = config(&[
        ("group.id", "g"),
        ("max.poll.interval.ms", "20000"),
        ("session.timeout.ms", "10000"),
        ("enable.auto.commit", "false"),
        ("max.poll.records", "7"),
        ("queued.max.messages.kbytes", "2048"),
        ("auto.offset.reset", "beginning"),
        ("isolation.level", "read_uncommitted"),
        ("enable.partition.eof", "1"),
    ])
    .consumer()
    .unwrap();
    assert_eq!(consumer.group_id.as_deref(), Some("g"));
    assert_eq!(consumer.drain_ms, 10_000);
    assert_eq!(consumer.max_poll_records, Some(7));
    assert_eq!(consumer.queued_max_bytes, 2 << 20);
    assert_eq!(consumer.auto_offset_reset, OffsetReset::Earliest);
    assert!(!consumer.auto_commit && consumer.partition_eof);
    assert!(!consumer.properties.contains_key("max.poll.records"));
    assert_eq!(consumer.properties["enable.partition.eof"], "true");
    let own = config(&[("tidegate.revoke.drain.ms", "100")])
        .consumer()
        .unwrap();
    assert_eq!(own.drain_ms, 100);
    assert_eq!(own.properties.len(), 1);
    let producer = config(&[("transactional.id", "t")]).producer().unwrap();
    assert!(producer.idempotence);
    assert_eq!(producer.transactional_id.as_deref(), Some("t"));
}

#[test]
fn strings_numbers_and_booleans_are_accepted() {
    let read = |name: &str, v| {
        let config = Config::new().with("bootstrap.servers", "a").with(name, v);
        config
            .consumer()
            .map(|consumer| consumer.properties.get(name).cloned().unwrap_or_default())
    };
    for v in [
        value("7000"),
        value(7000),
        value(7000.0),
        value(" 7000 "),
        value("7000.0"),
        value("7e3"),
        value(7000u32),
    ] {
        assert_eq!(read("fetch.wait.max.ms", v).unwrap(), "7000");
    }
    for v in [
        value("true"),
        value("True"),
        value(true),
        value(1),
        value("1"),
        value("t"),
    ] {
        assert_eq!(read("enable.partition.eof", v).unwrap(), "true");
    }
    for v in [
        value("false"),
        value(false),
        value(0),
        value("0"),
        value("F"),
    ] {
        assert_eq!(read("enable.partition.eof", v).unwrap(), "false");
    }
    assert_eq!(read("client.id", value(5)).unwrap(), "5");
    let producer = config(&[]).with("linger.ms", 10).producer().unwrap();
    assert_eq!(producer.properties["linger.ms"], "10");
    let producer = config(&[])
        .with("queue.buffering.max.ms", 0.5)
        .producer()
        .unwrap();
    assert_eq!(producer.properties["linger.ms"], "0.5");

    for (name, v) in [
        ("fetch.wait.max.ms", value("soon")),
        ("fetch.wait.max.ms", value(true)),
        ("fetch.wait.max.ms", value(1.5)),
        ("fetch.wait.max.ms", value("")),
        ("fetch.wait.max.ms", value(f64::NAN)),
        ("fetch.wait.max.ms", value(f64::INFINITY)),
        ("fetch.wait.max.ms", value(i64::MIN)),
        ("fetch.wait.max.ms", value("99999999999999999999")),
        ("enable.partition.eof", value("yes")),
        ("enable.partition.eof", value(2)),
        ("enable.partition.eof", value(-1)),
        ("enable.partition.eof", value(1.0)),
        ("enable.partition.eof", value("")),
        ("client.id", value("a\0b")),
        ("isolation.level", value("")),
        ("debug", value("fetch,everything")),
        ("debug", value(" , ")),
    ] {
        assert!(read(name, v.clone()).is_err(), "{name} {}", v.to_text());
    }
    assert!(config(&[]).with("linger.ms", f64::NAN).producer().is_err());
}

#[test]
fn ranges_and_words_name_the_legal_values() {
    let problem = only_error(Scope::Consumer, &[("fetch.wait.max.ms", "300001")]);
    assert_eq!(problem.value, "300001");
    assert!(
        problem.reason.contains("outside 0 to 300000") && problem.remedy.contains("0 to 300000"),
        "{problem}"
    );
    let problem = only_error(Scope::Consumer, &[("auto.offset.reset", "newest")]);
    assert!(
        problem.remedy.contains("earliest") && problem.remedy.contains("latest"),
        "{problem}"
    );
    let problem = only_error(Scope::Producer, &[("acks", "most")]);
    assert!(problem.remedy.contains("all (-1)"), "{problem}");
    let problem = only_error(Scope::Producer, &[("compression.type", "brotli")]);
    assert!(
        problem.remedy.contains("none, gzip, snappy, lz4, zstd"),
        "{problem}"
    );
    let problem = only_error(Scope::Consumer, &[("max.poll.records", "0")]);
    assert!(problem.remedy.contains("1 to"), "{problem}");
}

#[test]
fn all_problems_come_together() {
    let config = Config::new()
        .with("group_id", "g")
        .with("acks", "all")
        .with("session.timeout.ms", "x")
        .with("key.deserializer", "d")
        .with("fetch.min.bytes", 0);
    let Err(Error::Config(problems)) = config.consumer() else {
        panic!("five problems and no error")
    };
    let wrong: Vec<&str> = problems
        .0
        .iter()
        .map(|problem| problem.property.as_str())
        .collect();
    assert_eq!(
        wrong,
        [
            "group_id",
            "acks",
            "session.timeout.ms",
            "key.deserializer",
            "fetch.min.bytes",
            "bootstrap.servers"
        ]
    );
    assert!(
        problems
            .0
            .iter()
            .all(|problem| problem.severity == Severity::Error)
    );
    assert!(
        problems
            .0
            .iter()
            .all(|problem| !problem.reason.is_empty() && !problem.remedy.is_empty())
    );
    let text = problems.to_string();
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(text.contains("did you mean group.id?"), "{text}");
}

#[test]
fn an_illegible_value_is_the_only_complaint_about_it() {
    let problem = only_error(
        Scope::Consumer,
        &[
            ("group.id", "g"),
            ("session.timeout.ms", "long"),
            ("max.poll.interval.ms", "7000"),
        ],
    );
    assert_eq!(problem.property, "session.timeout.ms");
    only_error(
        Scope::Producer,
        &[("enable.idempotence", "perhaps"), ("acks", "1")],
    );
}

#[test]
fn brokers_are_required_and_read_closely() {
    for none in [
        &[][..],
        &[("bootstrap.servers", "")],
        &[("bootstrap.servers", " , ")],
    ] {
        let report = none
            .iter()
            .fold(Config::new(), |c, (n, v)| c.with(*n, *v))
            .check(Scope::Producer);
        assert_eq!(report.errors.len(), 1, "{report}");
        assert_eq!(report.errors[0].property, "bootstrap.servers");
    }
    for good in [
        "a",
        "a:9092",
        "a:1,b:2",
        "a:1, b:2,",
        "[::1]:9092",
        "::1",
        "[::1]",
        "plaintext://a:1",
        "PLAINTEXT://a",
        "10.0.0.1:65535",
    ] {
        let report = check(Scope::Producer, &[("bootstrap.servers", good)]);
        assert!(report.is_ok(), "{good}: {report}");
    }
    for bad in [
        "a:0",
        "a:65536",
        "a:port",
        "a:",
        ":9092",
        "http://a:1",
        "ssl://a:1",
        "a b:1",
        "a:1;b:2",
        "://a",
    ] {
        only_error(Scope::Producer, &[("bootstrap.servers", bad)]);
    }
    let problem = only_error(Scope::Producer, &[("bootstrap.servers", "a:1,b:x")]);
    assert!(problem.reason.contains("'b:x'"), "{problem}");
    assert!(
        Config::new()
            .with("test.mock.num.brokers", 3)
            .producer()
            .is_ok()
    );
    assert!(
        Config::new()
            .with("metadata.broker.list", "a:1")
            .producer()
            .is_ok()
    );
}

#[test]
fn properties_of_the_other_client_are_errors() {
    let problem = only_error(Scope::Producer, &[("group.id", "g")]);
    assert!(
        problem.reason.contains("property of consumers") && problem.remedy.contains("consumer"),
        "{problem}"
    );
    let problem = only_error(Scope::Consumer, &[("acks", "all")]);
    assert!(
        problem.reason.contains("property of producers"),
        "{problem}"
    );
    only_error(Scope::Consumer, &[("buffer.memory", "33554432")]);
    only_error(Scope::Consumer, &[("tidegate.queue.full.timeout.ms", "1")]);
    only_error(Scope::Producer, &[("max.poll.records", "1")]);
    // One file for all clients: an admin client takes what it needs.
    let admin = config(&[("group.id", "g"), ("acks", "all"), ("client.id", "c")])
        .admin()
        .unwrap();
    assert_eq!(admin.warnings.len(), 2);
    assert_eq!(admin.properties.len(), 2);
}

#[test]
fn the_producer_of_the_original_service_is_accepted() {
    let report = check(
        Scope::Producer,
        &[
            ("compression.type", "snappy"),
            ("linger.ms", "10"),
            ("batch.size", "32768"),
            ("acks", "all"),
            ("retries", "3"),
            ("retry.backoff.ms", "100"),
            ("enable.idempotence", "true"),
        ],
    );
    assert!(report.is_ok() && report.warnings.is_empty(), "{report}");
}

#[test]
fn two_names_of_one_property_may_not_disagree() {
    let problem = only_error(
        Scope::Producer,
        &[("retries", "3"), ("message.send.max.retries", "4")],
    );
    assert!(problem.reason.contains("retries"), "{problem}");
    assert!(
        check(
            Scope::Producer,
            &[("acks", "all"), ("request.required.acks", "-1")]
        )
        .is_ok()
    );
    let problem = only_error(
        Scope::Consumer,
        &[("fetch.wait.max.ms", "100"), ("fetch.max.wait.ms", "200")],
    );
    assert!(problem.reason.contains("fetch.wait.max.ms"), "{problem}");
}

#[test]
fn functions_name_the_right_api() {
    for (name, instead) in [
        ("error_cb", "Error"),
        ("rebalance_cb", "RebalanceListener"),
        ("dr_msg_cb", "send_with"),
        ("stats_cb", "stats()"),
        ("opaque", "closures"),
    ] {
        let scope = if name == "dr_msg_cb" {
            Scope::Producer
        } else {
            Scope::Consumer
        };
        let problem = only_error(scope, &[(name, "f")]);
        assert!(problem.remedy.contains(instead), "{problem}");
    }
}

#[track_caller]
fn only_warning(scope: Scope, pairs: &[(&str, &str)], property: &str, remedy: &str) {
    let report = check(scope, pairs);
    assert!(
        report.is_ok() && report.warnings.len() == 1,
        "{pairs:?}: {report}"
    );
    let warning = &report.warnings[0];
    assert_eq!(warning.property, property);
    assert_eq!(warning.severity, Severity::Warning);
    assert!(warning.remedy.contains(remedy), "{warning}");
}

#[test]
fn what_works_badly_is_a_warning() {
    use Scope::{Consumer, Producer};
    let g = ("group.id", "g");
    only_warning(
        Consumer,
        &[g, ("session.timeout.ms", "6000")],
        "heartbeat.interval.ms",
        "at most 2000",
    );
    only_warning(
        Consumer,
        &[g, ("heartbeat.interval.ms", "15001")],
        "heartbeat.interval.ms",
        "at most 15000",
    );
    only_warning(
        Consumer,
        &[
            g,
            ("session.timeout.ms", "3000"),
            ("heartbeat.interval.ms", "500"),
        ],
        "session.timeout.ms",
        "6000",
    );
    only_warning(
        Consumer,
        &[g, ("enable.auto.offset.store", "true")],
        "enable.auto.offset.store",
        "leave it out",
    );
    only_warning(
        Consumer,
        &[g, ("auto.commit.interval.ms", "0")],
        "auto.commit.interval.ms",
        "5000",
    );
    only_warning(
        Consumer,
        &[g, ("queued.max.messages.kbytes", "512")],
        "queued.max.messages.kbytes",
        "1024",
    );
    only_warning(
        Consumer,
        &[g, ("fetch.wait.max.ms", "60000")],
        "fetch.wait.max.ms",
        "59000",
    );
    only_warning(
        Consumer,
        &[g, ("group.remote.assignor", "range")],
        "group.remote.assignor",
        "group.protocol=consumer",
    );
    only_warning(
        Consumer,
        &[("group.instance.id", "i")],
        "group.instance.id",
        "group.id",
    );
    only_warning(
        Consumer,
        &[("sasl.mechanism", "PLAIN")],
        "sasl.mechanism",
        "security.protocol=sasl_ssl",
    );
    only_warning(
        Consumer,
        &[("ssl.ca.location", "/nowhere")],
        "ssl.ca.location",
        "security.protocol=ssl",
    );
    only_warning(
        Consumer,
        &[("api.version.request", "true")],
        "api.version.request",
        "leave it out",
    );
    only_warning(
        Producer,
        &[("delivery.report.only.error", "true")],
        "delivery.report.only.error",
        "leave it out",
    );
    only_warning(
        Producer,
        &[("retry.backoff.ms", "2000")],
        "retry.backoff.ms",
        "at most 1000",
    );
    only_warning(
        Producer,
        &[("queue.buffering.max.kbytes", "10")],
        "queue.buffering.max.kbytes",
        "977",
    );
    only_warning(
        Producer,
        &[("compression.type", "gzip"), ("compression.level", "10")],
        "compression.level",
        "9",
    );
    let quiet = check(
        Consumer,
        &[
            g,
            ("enable.auto.offset.store", "false"),
            ("group.protocol", "consumer"),
        ],
    );
    assert!(quiet.is_ok() && quiet.warnings.is_empty(), "{quiet}");
    let kept = config(&[("enable.auto.offset.store", "true")])
        .consumer()
        .unwrap();
    assert_eq!(kept.properties.len(), 1);
}

#[test]
fn a_drain_must_fit_into_the_poll_interval() {
    let problem = only_error(Scope::Consumer, &[("tidegate.revoke.drain.ms", "300000")]);
    assert!(problem.remedy.contains("150000"), "{problem}");
}

#[test]
fn empty_names_are_errors_and_other_empty_texts_are_not_set() {
    for (scope, name) in [
        (Scope::Consumer, "group.id"),
        (Scope::Consumer, "group.instance.id"),
        (Scope::Producer, "transactional.id"),
    ] {
        assert_eq!(only_error(scope, &[(name, " ")]).property, name);
    }
    let consumer = config(&[("client.rack", ""), ("debug", "")])
        .consumer()
        .unwrap();
    assert_eq!(consumer.properties.len(), 1);
}

#[test]
fn what_this_build_lacks_is_said() {
    let problem = only_error(Scope::Consumer, &[("sasl.oauthbearer.method", "oidc")]);
    assert!(
        problem.reason.contains("libcurl") && problem.remedy.contains("SCRAM"),
        "{problem}"
    );
    let report = check(
        Scope::Consumer,
        &[
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "oauthbearer"),
            ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ],
    );
    assert!(report.is_ok(), "{report}");
}

#[test]
fn a_token_provider_is_a_source_of_tokens_and_idle_without_oauthbearer() {
    let provided = |pairs: &[(&str, &str)]| {
        config(pairs)
            .with_token_provider(|_: &str| Err("nobody asks".into()))
            .check(Scope::Producer)
    };
    let report = provided(&[
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "OAUTHBEARER"),
    ]);
    assert!(report.is_ok() && report.warnings.is_empty(), "{report}");
    let report = provided(&[("security.protocol", "ssl")]);
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.warnings[0].property, "sasl.mechanism", "{report}");
}

#[test]
fn a_client_beside_a_consumer_has_its_token_provider() {
    let config = config(&[
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "OAUTHBEARER"),
    ])
    .with_token_provider(|_: &str| Err("nobody asks".into()));
    let beside = config.consumer().unwrap().reaching();
    assert!(beside.producer().unwrap().tokens.is_some());
    let without = config.without_token_provider();
    assert!(without.consumer().is_err());
}

#[test]
fn config_keeps_the_order_and_the_last_value() {
    let mut config: Config = [("b", 1), ("a", 2)].into_iter().collect();
    config.set("b", "again").set("c", true);
    let names: Vec<&str> = config.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert_eq!(config.get("b"), Some(&value("again")));
    assert_eq!(config.get("d"), None);
}

#[test]
fn explain_tells_what_the_page_tells() {
    let acks = explain("acks").to_string();
    assert!(
        acks.contains("-1 to 1000, or all (-1)")
            && acks.contains("Also called request.required.acks"),
        "{acks}"
    );
    assert_eq!(
        explain("request.required.acks").property,
        explain("acks").property
    );
    let wait = explain("fetch.max.wait.ms");
    assert_eq!(wait.property.map(|row| row.name), Some("fetch.wait.max.ms"));
    assert_eq!(
        wait.property.and_then(|row| row.java_name()),
        Some("fetch.max.wait.ms")
    );
    assert!(
        wait.to_string().contains("translated to fetch.wait.max.ms"),
        "{wait}"
    );
    assert!(
        explain("key.deserializer")
            .to_string()
            .contains("no counterpart")
    );
    assert!(
        explain("max.poll.records")
            .to_string()
            .contains("Tidegate's own")
    );
    let wrong = explain("sesion.timeout.ms");
    assert!(!wrong.is_known());
    assert!(
        wrong
            .to_string()
            .contains("did you mean session.timeout.ms?"),
        "{wrong}"
    );
    assert!(explain("").to_string().contains("not a known property"));
}
