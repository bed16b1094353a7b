//! Rules of producers.

use super::kilobytes;
use crate::config::settings::Settings;

pub(super) fn apply(s: &mut Settings) {
    transactions(s);
    if is_idempotent(s) {
        idempotence(s);
    } else if s.is_true("enable.gapless.guarantee") {
        s.error(
            "enable.gapless.guarantee",
            "needs enable.idempotence",
            "write enable.idempotence=true, or leave it out",
        );
    }
    linger(s);
    sizes(s);
    compression(s);
}

/// `transactional.id` switches idempotence on, unless the user switched it off.
pub(crate) fn is_idempotent(s: &Settings) -> bool {
    s.is_true("enable.idempotence") || (is_transactional(s) && !s.is_set("enable.idempotence"))
}

fn is_transactional(s: &Settings) -> bool {
    s.given("transactional.id").is_some()
}

/// How far `socket.timeout.ms` may exceed `transaction.timeout.ms`.
const SOCKET_MARGIN_MS: i64 = 100;

fn transactions(s: &mut Settings) {
    if !is_transactional(s) {
        return;
    }
    if s.given("enable.idempotence") == Some("false") {
        s.error(
            "transactional.id",
            "needs idempotence, and enable.idempotence is false",
            "leave enable.idempotence out, or write true",
        );
    }
    let Some(transaction) = s.integer("transaction.timeout.ms") else {
        return;
    };
    let most = transaction + SOCKET_MARGIN_MS;
    if s.is_set("socket.timeout.ms") && most > i64::from(i32::MAX) {
        // librdkafka adds the two in a C int, which wraps around: it then refuses every socket.timeout.ms.
        s.error(
            "transaction.timeout.ms",
            "is too large to be compared with socket.timeout.ms",
            format!(
                "write at most {}, or leave socket.timeout.ms out",
                i64::from(i32::MAX) - SOCKET_MARGIN_MS
            ),
        );
    } else if s.is_set("socket.timeout.ms")
        && s.integer("socket.timeout.ms")
            .is_some_and(|socket| socket > most)
    {
        s.error(
            "socket.timeout.ms",
            format!("is above transaction.timeout.ms={transaction} + {SOCKET_MARGIN_MS}"),
            format!("write at most {most}, or leave it out"),
        );
    }
    if is_idempotent(s)
        && s.is_set("delivery.timeout.ms")
        && s.integer("delivery.timeout.ms")
            .is_some_and(|delivery| delivery > transaction)
    {
        s.error(
            "delivery.timeout.ms",
            format!("is above transaction.timeout.ms={transaction}"),
            format!("write at most {transaction}, or leave it out"),
        );
    }
}

/// The most requests in flight per connection with idempotence.
const IDEMPOTENT_IN_FLIGHT: i64 = 5;

fn idempotence(s: &mut Settings) {
    let because = if s.is_true("enable.idempotence") {
        "enable.idempotence=true"
    } else {
        "idempotence, which transactional.id switches on,"
    };
    if s.integer("acks").is_some_and(|acks| acks != -1) {
        s.error(
            "acks",
            format!("contradicts {because} which needs acks=all"),
            "write acks=all, or enable.idempotence=false",
        );
    }
    let in_flight = "max.in.flight.requests.per.connection";
    if s.is_set(in_flight)
        && s.integer(in_flight)
            .is_some_and(|n| n > IDEMPOTENT_IN_FLIGHT)
    {
        s.error(
            in_flight,
            format!("contradicts {because} which allows at most {IDEMPOTENT_IN_FLIGHT}"),
            format!("write at most {IDEMPOTENT_IN_FLIGHT}, or enable.idempotence=false"),
        );
    }
    if s.integer("retries") == Some(0) {
        s.error(
            "retries",
            format!("contradicts {because} which needs at least 1"),
            "write at least 1, or enable.idempotence=false",
        );
    }
    if s.integer("queue.buffering.backpressure.threshold")
        .is_some_and(|n| n > 1)
    {
        s.error(
            "queue.buffering.backpressure.threshold",
            format!("contradicts {because} which needs 1"),
            "write 1, or leave it out",
        );
    }
    if s.given("queuing.strategy") == Some("lifo") {
        s.error(
            "queuing.strategy",
            format!("contradicts {because} which needs fifo"),
            "leave it out",
        );
    }
}

fn linger(s: &mut Settings) {
    // With transactions librdkafka takes the transaction's timeout for the delivery's when that is not set, but compares
    // the linger with the delivery's default before it does so: both have to be longer.
    let mut timeouts = vec!["delivery.timeout.ms"];
    if is_transactional(s) && !s.is_set("delivery.timeout.ms") {
        timeouts.push("transaction.timeout.ms");
    }
    let Some(linger) = s.float("linger.ms") else {
        return;
    };
    for timeout in timeouts {
        let Some(limit) = s.float(timeout) else {
            continue;
        };
        if s.is_set("linger.ms") && limit > 0.0 && limit <= linger {
            let reason = format!(
                "is not below {}={limit}: every record would time out before it is sent",
                s.name_of(timeout)
            );
            s.error(
                "linger.ms",
                reason,
                format!("write less than {limit}, or raise {timeout}"),
            );
            return;
        }
    }
}

fn sizes(s: &mut Settings) {
    if let (Some(queue), Some(message)) = (
        s.integer("queue.buffering.max.kbytes"),
        s.integer("message.max.bytes"),
    ) && queue * 1024 < message
    {
        s.warn(
            "queue.buffering.max.kbytes",
            format!(
                "is below message.max.bytes={message}: the largest records can never be queued"
            ),
            format!(
                "write at least {}, or lower message.max.bytes",
                kilobytes(message)
            ),
        );
    }
}

fn compression(s: &mut Settings) {
    let (Some(level), Some(codec)) = (s.integer("compression.level"), s.text("compression.type"))
    else {
        return;
    };
    let most = match codec {
        "gzip" => 9,
        "lz4" | "zstd" => 12,
        _ => 0,
    };
    if level > most {
        let reason = format!("is above {most}, the highest level of compression.type={codec}");
        s.warn(
            "compression.level",
            reason,
            format!("write -1 to {most}, or leave it out"),
        );
    }
}
