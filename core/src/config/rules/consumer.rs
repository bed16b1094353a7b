//! Rules of consumers.

use super::kilobytes;
use crate::config::settings::Settings;

pub(super) fn apply(s: &mut Settings) {
    group(s);
    match s.text("group.protocol") {
        Some("classic") => classic(s),
        Some("consumer") => kip848(s),
        _ => {}
    }
    commits(s);
    sizes(s);
    drain(s);
    if let (Some(wait), Some(socket)) = (
        s.integer("fetch.wait.max.ms"),
        s.integer("socket.timeout.ms"),
    ) && wait + 1000 > socket
    {
        s.warn(
            "fetch.wait.max.ms",
            format!("leaves less than 1000 ms to socket.timeout.ms={socket}, so that fetches can time out"),
            format!("write at most {}, or raise socket.timeout.ms", (socket - 1000).max(0)),
        );
    }
}

fn group(s: &mut Settings) {
    if s.given("group.id").is_none() {
        for needs in ["group.instance.id", "group.remote.assignor"] {
            if s.is_set(needs) {
                s.warn(needs, "has no effect without group.id", "set group.id");
            }
        }
    }
}

/// The least `session.timeout.ms` brokers take (`group.min.session.timeout.ms`), unless they are set otherwise.
const LEAST_SESSION_MS: i64 = 6000;

fn classic(s: &mut Settings) {
    let session = s.integer("session.timeout.ms");
    if let (Some(session), Some(poll)) = (session, s.integer("max.poll.interval.ms"))
        && poll < session
    {
        s.error(
            "session.timeout.ms",
            format!("is above max.poll.interval.ms={poll}"),
            format!("write at most {poll}, or raise max.poll.interval.ms to at least {session}"),
        );
    }
    if let Some(session) = session
        && session < LEAST_SESSION_MS
    {
        s.warn(
            "session.timeout.ms",
            format!("is below {LEAST_SESSION_MS}, the least that brokers accept by default"),
            format!("write at least {LEAST_SESSION_MS}, or lower group.min.session.timeout.ms on the brokers"),
        );
    }
    if let (Some(session), Some(beat)) = (session, s.integer("heartbeat.interval.ms")) {
        let third = (session / 3).max(1);
        let remedy =
            format!("write at most {third}, a third of the session, or raise session.timeout.ms");
        if beat >= session {
            s.error(
                "heartbeat.interval.ms",
                format!("is not below session.timeout.ms={session}, so that the member is removed between two heartbeats"),
                remedy,
            );
        } else if beat > third {
            s.warn(
                "heartbeat.interval.ms",
                format!("is above a third of session.timeout.ms={session}: two lost heartbeats end the membership"),
                remedy,
            );
        }
    }
    if let Some(names) = s.given("partition.assignment.strategy") {
        let names: Vec<&str> = names.split(',').collect();
        let cooperative = names
            .iter()
            .filter(|name| **name == "cooperative-sticky")
            .count();
        if cooperative > 0 && cooperative < names.len() {
            s.error(
                "partition.assignment.strategy",
                "mixes eager and cooperative assignors",
                "write cooperative-sticky alone, or range and roundrobin without it",
            );
        }
    }
    if s.is_set("group.remote.assignor") {
        s.warn(
            "group.remote.assignor",
            "has no effect with group.protocol=classic",
            "write group.protocol=consumer, or partition.assignment.strategy instead",
        );
    }
}

/// With the new protocol the broker decides; librdkafka refuses these.
fn kip848(s: &mut Settings) {
    for (name, remedy) in [
        (
            "session.timeout.ms",
            "leave it out; the broker's group.consumer.session.timeout.ms decides",
        ),
        (
            "heartbeat.interval.ms",
            "leave it out; the broker's group.consumer.heartbeat.interval.ms decides",
        ),
        (
            "partition.assignment.strategy",
            "leave it out, or write group.remote.assignor=uniform or range",
        ),
        ("group.protocol.type", "leave it out"),
    ] {
        if s.is_set(name) {
            s.error(
                name,
                "is not supported with group.protocol=consumer",
                remedy,
            );
        }
    }
    if let Some(assignor) = s.given("group.remote.assignor")
        && !["uniform", "range"].contains(&assignor)
    {
        s.warn(
            "group.remote.assignor",
            "is not an assignor that brokers have by default",
            "write uniform or range",
        );
    }
}

fn commits(s: &mut Settings) {
    if s.is_true("enable.auto.commit") && s.given("auto.commit.interval.ms") == Some("0") {
        s.warn(
            "auto.commit.interval.ms",
            "switches timed commits off; what was finished is committed at close only",
            "write an interval such as 5000, or enable.auto.commit=false where the application commits",
        );
    }
}

/// Room librdkafka wants in a response beside the records.
const FRAMING_BYTES: i64 = 512;

fn sizes(s: &mut Settings) {
    let names = [
        "fetch.max.bytes",
        "message.max.bytes",
        "queued.max.messages.kbytes",
    ];
    let [Some(fetch), Some(message), Some(queued)] = names.map(|name| s.integer(name)) else {
        return;
    };
    if s.is_set("fetch.max.bytes") && fetch < message {
        s.error(
            "fetch.max.bytes",
            format!("is below message.max.bytes={message}"),
            format!("write at least {message}, or lower message.max.bytes"),
        );
    }
    // librdkafka fits the default to the two others.
    let fetch = if s.is_set("fetch.max.bytes") {
        fetch
    } else {
        fetch.min(queued * 1024).max(message)
    };
    if s.is_set("receive.message.max.bytes")
        && s.integer("receive.message.max.bytes")
            .is_some_and(|receive| receive < fetch + FRAMING_BYTES)
    {
        s.error(
            "receive.message.max.bytes",
            format!(
                "is below fetch.max.bytes + {FRAMING_BYTES}, here {}",
                fetch + FRAMING_BYTES
            ),
            "raise it, leave it out, or lower fetch.max.bytes",
        );
    }
    if let Some(partition) = s.integer("max.partition.fetch.bytes")
        && queued * 1024 < partition
    {
        s.warn(
            "queued.max.messages.kbytes",
            format!(
                "is below max.partition.fetch.bytes={partition}: one fetch overshoots the bound"
            ),
            format!(
                "write at least {}, or lower max.partition.fetch.bytes",
                kilobytes(partition)
            ),
        );
    }
}

fn drain(s: &mut Settings) {
    if let (Some(drain), Some(poll)) = (
        s.integer("tidegate.revoke.drain.ms"),
        s.integer("max.poll.interval.ms"),
    ) && drain >= poll
    {
        s.error(
            "tidegate.revoke.drain.ms",
            format!("is not below max.poll.interval.ms={poll}, within which a member has to answer a rebalance"),
            format!("write at most {}, or raise max.poll.interval.ms", poll / 2),
        );
    }
}
