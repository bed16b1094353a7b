//! No secret in any text that can reach a log.

use crate::config::{Config, Scope, explain, java_properties, properties};

const SECRET: &str = "hunter2hunter2";

/// Names under which people give secrets: the table's, the Java client's, and misspelt ones.
fn secret_names() -> Vec<String> {
    let table = properties().iter().filter(|row| row.sensitive);
    let table = table.flat_map(|row| [Some(row.name), row.alias].into_iter().flatten());
    let java = java_properties()
        .iter()
        .filter(|java| java.sensitive)
        .map(|java| java.name);
    let misspelt = [
        "sasl.pasword",
        "sasl_password",
        "SASL.PASSWORD",
        "password",
        "passwd",
        "ssl.key.passphrase",
        "client.secret",
        "ssl.keystore.pasword",
        "sasl.jass.config",
        "api.key",
        "token",
        "schema.registry.basic.auth.user.info",
        "pw",
        "whatever",
    ];
    table
        .chain(java)
        .chain(misspelt)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_table_knows_the_secrets() {
    for name in [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.jaas.config",
        "ssl.truststore.password",
        "ssl.keystore.key",
    ] {
        assert!(secret_names().iter().any(|secret| secret == name), "{name}");
    }
}

#[test]
fn secrets_are_in_no_text() {
    for name in secret_names() {
        for value in [
            SECRET.to_owned(),
            format!("-----BEGIN {SECRET}"),
            format!("{SECRET}\0"),
            format!(" {SECRET}\n{SECRET}"),
        ] {
            let config = Config::new()
                .with("bootstrap.servers", "a:1")
                .with("security.protocol", "sasl_ssl")
                .with("sasl.mechanism", "PLAIN")
                .with("sasl.username", SECRET)
                .with(name.as_str(), value.as_str());
            let mut texts = vec![
                format!("{config:?}"),
                format!("{:?}", explain(&name)),
                explain(&name).to_string(),
            ];
            for scope in [Scope::Consumer, Scope::Producer, Scope::Global] {
                let report = config.check(scope);
                texts.extend([format!("{report:?}"), report.to_string()]);
            }
            for client in [
                config
                    .consumer()
                    .map(|c| format!("{c:?} {:?} {:?}", c.warnings, c.translations)),
                config
                    .producer()
                    .map(|c| format!("{c:?} {:?} {:?}", c.warnings, c.translations)),
                config
                    .admin()
                    .map(|c| format!("{c:?} {:?} {:?}", c.warnings, c.translations)),
            ] {
                texts.push(client.unwrap_or_else(|error| format!("{error} {error:?}")));
            }
            texts.push(format!("{:?}", config.iter().collect::<Vec<_>>()));
            for text in texts {
                assert!(!text.contains(SECRET), "{name}: {text}");
            }
        }
    }
}

#[test]
fn the_secret_itself_reaches_librdkafka() {
    let config = Config::new()
        .with("bootstrap.servers", "a:1")
        .with("security.protocol", "SASL_PLAINTEXT")
        .with("sasl.mechanism", "plain")
        .with("sasl.username", "u")
        .with("sasl.password", SECRET);
    assert_eq!(
        config.consumer().unwrap().properties["sasl.password"],
        SECRET
    );
}

#[test]
fn other_values_are_shown_on_one_line() {
    let report = Config::new()
        .with("bootstrap.servers", "a:1")
        .with("fetch.min.bytes", "a\nb")
        .check(Scope::Consumer);
    assert_eq!(report.errors[0].value, "a b");
    let long = "x".repeat(5000);
    let report = Config::new()
        .with("bootstrap.servers", "a:1")
        .with("fetch.min.bytes", long)
        .check(Scope::Consumer);
    assert!(report.errors[0].to_string().len() < 400);
    // The nearest name tells that a misspelt one is no secret.
    let report = Config::new()
        .with("bootstrap.servers", "a:1")
        .with("fetch_min_bytes", 7)
        .check(Scope::Consumer);
    assert_eq!(report.errors[0].value, "7");
}
