//! Rules between properties: everything librdkafka refuses when a client is created (`rd_kafka_conf_finalize`, the
//! assignors, SASL and TLS set-up), and what it accepts but cannot work. Found here before any connection, all together.
//! Pure but for looking whether certificate files exist; any thread.

mod consumer;
mod producer;
mod security;

pub(crate) use producer::is_idempotent;

use super::settings::Settings;
use super::table::Scope;

/// Applies every rule of the scope.
pub(crate) fn apply(s: &mut Settings) {
    bootstrap(s);
    backoffs(s);
    security::apply(s);
    match s.scope {
        Scope::Consumer => consumer::apply(s),
        Scope::Producer => producer::apply(s),
        Scope::Global => {}
    }
}

/// Bytes in kilobytes, rounded up.
pub(crate) fn kilobytes(bytes: i64) -> i64 {
    bytes / 1024 + i64::from(bytes % 1024 > 0)
}

const BOOTSTRAP: &str = "bootstrap.servers";
const BOOTSTRAP_REMEDY: &str = "write a comma-separated list of host:port";
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

fn bootstrap(s: &mut Settings) {
    let mock = s
        .integer("test.mock.num.brokers")
        .is_none_or(|brokers| brokers > 0);
    let Some(list) = s.given(BOOTSTRAP).map(str::to_owned) else {
        if !mock && !s.is_set(BOOTSTRAP) && !s.servers_may_miss {
            s.error(BOOTSTRAP, "is missing or empty", BOOTSTRAP_REMEDY);
        }
        return;
    };
    let entries: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect();
    if entries.is_empty() {
        s.error(BOOTSTRAP, "names no broker", BOOTSTRAP_REMEDY);
    }
    for entry in entries {
        if let Err(reason) = broker(s, entry) {
            s.error(BOOTSTRAP, reason, BOOTSTRAP_REMEDY);
        }
    }
}

/// One entry: `[protocol://]host[:port]`, as librdkafka reads it.
fn broker(s: &Settings, entry: &str) -> Result<(), String> {
    let rest = match entry.split_once("://") {
        None => entry,
        Some((protocol, rest)) => {
            let known = PROTOCOLS
                .iter()
                .find(|known| known.eq_ignore_ascii_case(protocol));
            match (known, s.text("security.protocol")) {
                (None, _) => {
                    return Err(format!(
                        "holds '{entry}', whose protocol is not one of {}",
                        PROTOCOLS.join(", ")
                    ));
                }
                (Some(known), Some(chosen)) if *known != chosen => {
                    return Err(format!(
                        "holds '{entry}', but security.protocol is {chosen}"
                    ));
                }
                _ => rest.split('/').next().unwrap_or(rest),
            }
        }
    };
    if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("holds '{entry}', a host name with a blank in it"));
    }
    // Several colons without a bracket before the last one are an IPv6 address without a port.
    let with_port = rest
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let host = with_port.map_or(rest, |(host, _)| host);
    if host.is_empty() {
        return Err(format!("holds '{entry}', which has no host"));
    }
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .split('%')
        .next()
        .unwrap_or(host);
    if host.contains(':') && address.parse::<std::net::Ipv6Addr>().is_err() {
        return Err(format!(
            "holds '{entry}', which is neither host:port nor an IPv6 address"
        ));
    }
    let Some((_, port)) = with_port else {
        return Ok(());
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(()),
        _ => Err(format!(
            "holds '{entry}', whose port is not a number from 1 to 65535"
        )),
    }
}

fn backoffs(s: &mut Settings) {
    if let (Some(first), Some(longest)) = (
        s.integer("reconnect.backoff.ms"),
        s.integer("reconnect.backoff.max.ms"),
    ) && longest < first
    {
        let reason = format!("is less than {}={first}", s.name_of("reconnect.backoff.ms"));
        s.error(
            "reconnect.backoff.max.ms",
            reason,
            format!("write at least {first}, or lower reconnect.backoff.ms"),
        );
    }
    let Some(longest) = s.integer("retry.backoff.max.ms") else {
        return;
    };
    for first in [
        "retry.backoff.ms",
        "topic.metadata.refresh.fast.interval.ms",
    ] {
        if s.is_set(first) && s.integer(first).is_some_and(|first| first > longest) {
            s.warn(
                first,
                format!("is above retry.backoff.max.ms={longest}, which is then used every time"),
                format!("write at most {longest}, or raise retry.backoff.max.ms"),
            );
        }
    }
}
