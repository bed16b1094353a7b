//! Rules of TLS and SASL. Whether the certificates fit each other is OpenSSL's business, when the client is created.

use std::path::Path;

use crate::config::settings::Settings;

pub(super) fn apply(s: &mut Settings) {
    if s.has_token_provider && !s.uses_tokens() {
        s.warn(
            "sasl.mechanism",
            "has no use for the token provider that is given",
            "write security.protocol=sasl_ssl and sasl.mechanism=OAUTHBEARER, or give no token provider",
        );
    }
    if s.is_set("ssl.keystore.location") && !s.is_set("ssl.keystore.password") {
        s.error(
            "ssl.keystore.location",
            "needs ssl.keystore.password",
            "set ssl.keystore.password",
        );
    }
    let Some(protocol) = s.text("security.protocol").map(str::to_owned) else {
        return;
    };
    if protocol.starts_with("sasl_") {
        sasl(s);
    } else {
        without(s, "sasl.", &protocol, "sasl_ssl or sasl_plaintext");
    }
    if protocol.ends_with("ssl") {
        files(s);
    } else {
        without(s, "ssl.", &protocol, "ssl or sasl_ssl");
    }
}

/// Settings that the protocol makes idle: probably a forgotten security.protocol, and then a connection in the clear.
fn without(s: &mut Settings, prefix: &str, protocol: &str, instead: &str) {
    let idle: Vec<&'static str> = s
        .iter()
        .map(|setting| setting.row.name)
        .filter(|name| name.starts_with(prefix))
        .collect();
    for name in idle {
        s.warn(
            name,
            format!("has no effect with security.protocol={protocol}"),
            format!("write security.protocol={instead}, or leave it out"),
        );
    }
}

fn sasl(s: &mut Settings) {
    match s.text("sasl.mechanism") {
        Some("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512") => {
            let mechanism = s.text("sasl.mechanism").unwrap_or_default().to_owned();
            for name in ["sasl.username", "sasl.password"] {
                if !s.is_set(name) {
                    s.error(
                        name,
                        format!("is missing, and sasl.mechanism={mechanism} needs it"),
                        format!("set {name}"),
                    );
                }
            }
        }
        Some("OAUTHBEARER") if s.is_true("enable.sasl.oauthbearer.unsecure.jwt") => {}
        Some("OAUTHBEARER") if s.has_token_provider => {}
        Some("OAUTHBEARER") => s.error(
            "sasl.mechanism",
            "has no source of tokens: no token provider is given, and this build has no OIDC",
            "give a token provider (oauth_token= in Python, Config::with_token_provider in Rust, tg_config_set_token_provider in C), or write SCRAM-SHA-512 or PLAIN with sasl.username and sasl.password; for tests, enable.sasl.oauthbearer.unsecure.jwt=true with sasl.oauthbearer.config",
        ),
        Some(_) if s.is_set("sasl.mechanism") => s.error(
            "sasl.mechanism",
            "needs Kerberos, which is not in this build",
            "write PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
        ),
        Some(_) => s.error(
            "sasl.mechanism",
            "is missing, and the default, GSSAPI, is not in this build",
            "write PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
        ),
        None => {}
    }
    let named = matches!(
        s.text("sasl.mechanism"),
        Some("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512")
    );
    if s.is_set("sasl.username") && s.is_set("sasl.mechanism") && !named {
        s.warn(
            "sasl.username",
            "has no effect with this sasl.mechanism",
            "write PLAIN or SCRAM, or leave it out",
        );
    }
}

fn files(s: &mut Settings) {
    for name in [
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.crl.location",
        "ssl.keystore.location",
    ] {
        let Some(path) = s.given(name).map(str::to_owned) else {
            continue;
        };
        if name == "ssl.ca.location" && path == "probe" {
            continue;
        }
        if !Path::new(&path).exists() {
            s.error(
                name,
                "does not exist or cannot be read",
                "write the path of a file this process can read",
            );
        } else if name != "ssl.ca.location" && Path::new(&path).is_dir() {
            s.error(name, "is a folder", "write the path of a file");
        }
    }
    for name in ["ssl.ca.pem", "ssl.certificate.pem", "ssl.key.pem"] {
        if s.given(name)
            .is_some_and(|pem| !pem.contains("-----BEGIN "))
        {
            s.error(
                name,
                "is not in PEM format",
                "write the text that begins with -----BEGIN; for a file, the property ends with .location",
            );
        }
    }
    for (one, other) in [
        ("ssl.key", "ssl.certificate"),
        ("ssl.certificate", "ssl.key"),
    ] {
        let has =
            |part: &str| s.is_set(&format!("{part}.pem")) || s.is_set(&format!("{part}.location"));
        if has(one) && !has(other) && !s.is_set("ssl.keystore.location") {
            let name = match (
                one,
                s.is_set("ssl.key.pem"),
                s.is_set("ssl.certificate.pem"),
            ) {
                ("ssl.key", true, _) => "ssl.key.pem",
                ("ssl.key", false, _) => "ssl.key.location",
                (_, _, true) => "ssl.certificate.pem",
                _ => "ssl.certificate.location",
            };
            s.warn(
                name,
                format!("is of no use without {other}"),
                format!("set {other}.location or {other}.pem"),
            );
        }
    }
}
