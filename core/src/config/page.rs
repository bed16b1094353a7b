//! The reference page, docs/configuration.md, from the table. Pure functions, any thread.

use std::fmt::Write as _;

use super::explain::remarks;
use super::recommended::{RECOMMENDED_CONSUMER, RECOMMENDED_PRODUCER};
use super::table::{Counterpart, Kind, Property, Scope, java_properties, properties};

const HEAD: &str = "\
<!-- Generated from core/src/config; do not edit. See the last lines for how. -->
# Configuration

Every face of Tidegate (Python, C, Rust) takes the same properties: librdkafka's, Tidegate's own, and the names of the Java
client where they have a counterpart. Values may be strings, numbers or booleans. A configuration is checked before any
connection is made, and all of its problems are reported together, each with the property, its value (never a secret), what
is wrong and what to write instead; an unknown name comes with the nearest known one. `tidegate config check FILE` does the
same from the shell, `tidegate config explain NAME` prints what this page says about one property.
";

const CONSUMER: &str = "
`auto.offset.reset` decides where a group without committed offsets begins; Tidegate commits that position as soon as the
partition is assigned, so that nothing is lost when a consumer is killed before its first timed commit. `session.timeout.ms`
must not exceed `max.poll.interval.ms`. With `group.protocol=consumer` (KIP-848) the broker decides about sessions,
heartbeats and assignors: leave `session.timeout.ms`, `heartbeat.interval.ms` and `partition.assignment.strategy` out.

### Partitions that are read directly

After `tidegate.direct.after.records` records a partition is read from its broker directly: librdkafka pauses it, and a connection of
Tidegate's own fetches record batches and unpacks them at a fraction of the cost. Groups, commits, offset resets, leader changes
stay librdkafka's, and a partition of which anything unusual is heard goes back to it, at the first record that was not delivered.
`stats()` says how many are read so (`partitions_direct`). A consumer leaves all reading to librdkafka when `security.protocol` is
not `plaintext`, when its broker is older than Kafka 3.1, or when one of `client.rack`, `check.crcs`, `statistics.interval.ms`,
`debug`, `plugin.library.paths` and `broker.address.family` is set: these are about what librdkafka fetches.
";

const PRODUCER: &str = "
### Idempotence needs acks=all

`enable.idempotence=true` promises that each record is written once and in order, over any number of retries. That holds only
when every in-sync replica confirms (`acks=all`, the default), when retries are allowed (`retries` above 0) and when at most
five requests are in flight per connection (`max.in.flight.requests.per.connection`, set to 5 when left out). Any other value
contradicts it, and the producer is not created. `transactional.id` switches idempotence on.

A full queue makes `send` wait, at most `tidegate.queue.full.timeout.ms`.

### Topics that are sent to directly

After `tidegate.direct.after.records` delivered records a topic is sent to directly: its records are written once, into the batch that
goes to the broker over a connection of Tidegate's own, at a fraction of the cost. A topic of which anything unusual is heard (an
error, a lost connection, another leader) goes back to librdkafka with everything that was not confirmed, in order, and librdkafka
tries again or gives up, as ever; a record whose confirmation was lost may be written twice, as with librdkafka without
`enable.idempotence`. `stats()` says how many topics are sent to so (`topics_direct`). The queue's limits, `linger.ms`, `batch.size`,
`partitioner` and the other properties hold as before, but that a record whose broker falls silent while its topic
is taken over or sent to directly may take up to twice `delivery.timeout.ms`. A producer leaves all sending to librdkafka with `enable.idempotence`, `transactional.id`, `acks=0`,
`retries=0`, a `delivery.timeout.ms` below two seconds, compression, `queuing.strategy=lifo`, a `security.protocol` other than
`plaintext`, and when `statistics.interval.ms`, `debug`, `plugin.library.paths` or `broker.address.family` is set.
";

const TAIL: &str = "
## How this page is made

`TIDEGATE_WRITE_DOCS=1 cargo test --release -p tidegate config::tests::page` writes it from the table in `core/src/config`;
without the variable the same test compares the two. Another test compares the table with the librdkafka that is linked.
";

/// The page in Markdown.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(HEAD);
    recommended(&mut page, "consumer", RECOMMENDED_CONSUMER);
    page.push_str(CONSUMER);
    recommended(&mut page, "producer", RECOMMENDED_PRODUCER);
    page.push_str(PRODUCER);
    table(&mut page, "Properties of Tidegate", |row| row.own);
    table(&mut page, "Properties of every client", |row| {
        of(row, Scope::Global)
    });
    table(&mut page, "Properties of consumers", |row| {
        of(row, Scope::Consumer)
    });
    table(&mut page, "Properties of producers", |row| {
        of(row, Scope::Producer)
    });
    callbacks(&mut page);
    java(&mut page);
    page.push_str(TAIL);
    page
}

fn of(row: &Property, scope: Scope) -> bool {
    row.scope == scope && !row.own && !matches!(row.kind, Kind::Callback(_))
}

fn recommended(page: &mut String, client: &str, rows: &[(&str, &str, &str)]) {
    let _ = writeln!(
        page,
        "\n## Recommended {client} configuration\n\n| property | value | why |\n|---|---|---|"
    );
    for (name, value, why) in rows {
        let _ = writeln!(page, "| `{name}` | `{value}` | {why} |");
    }
}

/// A cell: no line breaks, no column breaks.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn table(page: &mut String, title: &str, wanted: impl Fn(&Property) -> bool) {
    let _ = writeln!(
        page,
        "\n## {title}\n\n| property | values | default | |\n|---|---|---|---|"
    );
    for row in properties().iter().filter(|row| wanted(row)) {
        let default = match row.default {
            "" => String::new(),
            default => format!("`{}`", cell(default)),
        };
        let mut doc = vec![row.doc.to_owned()];
        doc.extend(remarks(row));
        if row.hidden {
            doc.push("Not in librdkafka's own reference.".to_owned());
        }
        let _ = writeln!(
            page,
            "| `{}` | {} | {default} | {} |",
            row.name,
            cell(&row.legal()),
            cell(&doc.join(" ")),
        );
    }
}

fn callbacks(page: &mut String) {
    page.push_str("\n## Functions and objects\n\nlibrdkafka lists these as properties, but they cannot be written as text.\n\n");
    page.push_str("| property | instead |\n|---|---|\n");
    for row in properties() {
        if let Kind::Callback(instead) = row.kind {
            let _ = writeln!(page, "| `{}` | {} |", row.name, cell(instead));
        }
    }
}

fn java(page: &mut String) {
    page.push_str("\n## Names of the Java client\n\nEvery property of `ConsumerConfig`, `ProducerConfig` and `AdminClientConfig` of kafka-clients 4.3. Names without a counterpart are\nrefused with the sentence given here, so that a configuration never silently means less than it says.\n\n");
    page.push_str("| Java name | Java clients | here |\n|---|---|---|\n");
    for java in java_properties() {
        let here = match java.counterpart {
            Counterpart::Same { note: "" } => "same name".to_owned(),
            Counterpart::Same { note } => format!("same name; {note}"),
            Counterpart::Translated { to, note, .. } => format!("`{to}`: {note}"),
            Counterpart::Settled { values, remedy } => {
                format!(
                    "accepted with the value {}; otherwise: {remedy}",
                    values.join(", ")
                )
            }
            Counterpart::Absent { remedy } => format!("no counterpart: {remedy}"),
        };
        let any = if java.name.ends_with('.') { "*" } else { "" };
        let _ = writeln!(
            page,
            "| `{}{any}` | {} | {} |",
            java.name,
            java.clients,
            cell(&here)
        );
    }
}
