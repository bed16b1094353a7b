//! docs/configuration.md is what the table says. `TIDEGATE_WRITE_DOCS=1 cargo test --release -p tidegate
//! config::tests::page` writes it.

use crate::config::{
    Config, RECOMMENDED_CONSUMER, RECOMMENDED_PRODUCER, Scope, java_properties, properties,
    reference_page,
};

fn recommended(table: &[(&str, &str, &str)]) -> Config {
    table
        .iter()
        .map(|(name, value, _)| (*name, *value))
        .collect()
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

#[test]
fn the_committed_page_is_the_generated_one() {
    let generated = reference_page();
    if std::env::var_os("TIDEGATE_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap();
        std::fs::write(PAGE, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differs = committed
        .lines()
        .zip(generated.lines())
        .find(|(a, b)| a != b);
    assert!(
        committed == generated,
        "docs/configuration.md is not what the table says (first difference: {differs:?}); \
         write it with TIDEGATE_WRITE_DOCS=1 cargo test --release -p tidegate config::tests::page"
    );
}

#[test]
fn the_page_holds_every_property_and_every_java_name() {
    let page = reference_page();
    for row in properties() {
        assert!(
            page.contains(&format!("| `{}` |", row.name)),
            "{}",
            row.name
        );
    }
    for java in java_properties() {
        assert!(page.contains(&format!("| `{}", java.name)), "{}", java.name);
    }
    assert!(page.contains("Idempotence needs acks=all"));
}

#[test]
fn the_recommended_configurations_have_no_problem_and_no_warning() {
    for (scope, table) in [
        (Scope::Consumer, RECOMMENDED_CONSUMER),
        (Scope::Producer, RECOMMENDED_PRODUCER),
    ] {
        let report = recommended(table).check(scope);
        assert!(
            report.errors.is_empty() && report.warnings.is_empty(),
            "{report}"
        );
        // Each row says something: a value that is the default is there because it matters.
        assert!(table.iter().all(|(_, _, why)| !why.is_empty()));
    }
    let consumer = recommended(RECOMMENDED_CONSUMER).consumer().unwrap();
    assert_eq!(consumer.auto_commit_interval_ms, 5000);
    assert_eq!(consumer.queued_max_bytes, 64 << 20);
    assert_eq!(consumer.session_timeout_ms, 30_000);
    assert_eq!(consumer.max_poll_records, Some(500));
    let producer = recommended(RECOMMENDED_PRODUCER).producer().unwrap();
    assert!(producer.idempotence);
    assert_eq!(producer.properties["retries"], "3");
    assert_eq!(producer.properties["acks"], "-1");
}
