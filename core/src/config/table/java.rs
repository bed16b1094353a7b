//! The Java client's names (kafka-clients 4.3: `ConsumerConfig`, `ProducerConfig`, `AdminClientConfig` with their common,
//! SASL and SSL parts), each with what Tidegate does about it. Plain constants, any thread.

/// What becomes of a Java client's property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counterpart {
    /// librdkafka or Tidegate has it under the same name; the note says where the meaning differs.
    Same {
        /// Empty where there is nothing to say.
        note: &'static str,
    },
    /// It goes by another name; the value may need a conversion, which the note tells.
    Translated {
        /// The name in the property table.
        to: &'static str,
        /// How the value is converted.
        how: Conversion,
        /// What is done.
        note: &'static str,
    },
    /// These values are how Tidegate works anyway, and are accepted; others have no counterpart.
    Settled {
        /// The accepted values.
        values: &'static [&'static str],
        /// What to write instead of another value.
        remedy: &'static str,
    },
    /// No counterpart.
    Absent {
        /// What to write instead.
        remedy: &'static str,
    },
}

/// How a value is converted on its way to the counterpart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// Not at all.
    AsIs,
    /// Bytes to kilobytes, rounded up.
    BytesToKilobytes,
    /// -1, the system's default in Java, becomes 0.
    SocketBuffer,
    /// A partitioner's class name.
    PartitionerClass,
    /// A level that counts only with this `compression.type`.
    LevelOf(&'static str),
}

/// One name of the Java client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JavaProperty {
    /// The name; one that ends with a dot is a prefix.
    pub name: &'static str,
    /// The Java clients that have it.
    pub clients: &'static str,
    /// A secret: the value is never shown.
    pub sensitive: bool,
    /// What becomes of it.
    pub counterpart: Counterpart,
}

impl JavaProperty {
    /// True when the name itself is known to librdkafka or Tidegate.
    #[must_use]
    pub fn is_same(&self) -> bool {
        matches!(self.counterpart, Counterpart::Same { .. })
    }

    /// The property it is translated to.
    #[must_use]
    pub fn target(&self) -> Option<&'static str> {
        match self.counterpart {
            Counterpart::Translated { to, .. } => Some(to),
            _ => None,
        }
    }

    const fn secret(mut self) -> JavaProperty {
        self.sensitive = true;
        self
    }
}

/// Class names of Java's assignors; librdkafka has no eager sticky one.
pub(crate) const ASSIGNORS: [(&str, Option<&str>); 4] = [
    ("RangeAssignor", Some("range")),
    ("RoundRobinAssignor", Some("roundrobin")),
    ("CooperativeStickyAssignor", Some("cooperative-sticky")),
    ("StickyAssignor", None),
];

const ALL: &str = "consumer, producer, admin";
const CONSUMER: &str = "consumer";
const PRODUCER: &str = "producer";
const ADMIN: &str = "admin";

const STATS: &str = "leave it out; stats() gives counters and latencies";
const BYTES: &str = "leave it out; keys and values are bytes, decode them in the handler";
const ENCODE: &str = "leave it out; keys and values are bytes, encode them before send";
const TRUSTSTORE: &str = "write the CA certificates as a PEM file and set ssl.ca.location (keytool -exportcert -rfc writes one)";
const LOGIN: &str = "leave it out; librdkafka renews logins by itself";
const TOKEN: &str = "leave it out; brokers validate tokens, clients do not";
const TLS: &str = "leave it out; OpenSSL does the work of Java's security providers";
const SHARE: &str = "leave it out; share groups are not supported";

const fn java(name: &'static str, clients: &'static str, counterpart: Counterpart) -> JavaProperty {
    JavaProperty {
        name,
        clients,
        sensitive: false,
        counterpart,
    }
}

const fn same(name: &'static str, clients: &'static str, note: &'static str) -> JavaProperty {
    java(name, clients, Counterpart::Same { note })
}

const fn to(
    name: &'static str,
    clients: &'static str,
    to: &'static str,
    how: Conversion,
    note: &'static str,
) -> JavaProperty {
    java(name, clients, Counterpart::Translated { to, how, note })
}

const fn settled(
    name: &'static str,
    clients: &'static str,
    values: &'static [&'static str],
    remedy: &'static str,
) -> JavaProperty {
    java(name, clients, Counterpart::Settled { values, remedy })
}

const fn absent(name: &'static str, clients: &'static str, remedy: &'static str) -> JavaProperty {
    java(name, clients, Counterpart::Absent { remedy })
}

use Conversion::{AsIs, BytesToKilobytes, LevelOf, PartitionerClass, SocketBuffer};

#[rustfmt::skip]
pub(crate) const JAVA: &[JavaProperty] = &[
    // Every client.
    same("bootstrap.servers", ALL, ""),
    same("client.dns.lookup", ALL, ""),
    same("client.id", ALL, ""),
    absent("config.providers", ALL, "leave it out; read the secrets in the program and set them as values"),
    same("connections.max.idle.ms", ALL, "off by default; nine minutes in Java"),
    absent("default.api.timeout.ms", "consumer, admin", "leave it out; every call takes its own timeout"),
    same("enable.metrics.push", ALL, ""),
    same("metadata.max.age.ms", ALL, "here the age of the cache; topic.metadata.refresh.interval.ms is how often metadata is refreshed"),
    same("metadata.recovery.rebootstrap.trigger.ms", ALL, ""),
    same("metadata.recovery.strategy", ALL, ""),
    absent("metric.reporters", ALL, STATS),
    absent("metrics.context.", ALL, STATS),
    absent("metrics.num.samples", ALL, STATS),
    absent("metrics.recording.level", ALL, STATS),
    absent("metrics.sample.window.ms", ALL, STATS),
    absent("auto.include.jmx.reporter", ALL, STATS),
    to("receive.buffer.bytes", ALL, "socket.receive.buffer.bytes", SocketBuffer, "same meaning; -1 becomes 0, the system's default"),
    same("reconnect.backoff.max.ms", ALL, ""),
    same("reconnect.backoff.ms", ALL, ""),
    same("request.timeout.ms", ALL, "on producers how long the broker may wait for acks; on consumers and admin clients it is translated to socket.timeout.ms"),
    same("retries", "producer, admin", "producers only; librdkafka repeats the requests of other clients by itself"),
    same("retry.backoff.max.ms", ALL, ""),
    same("retry.backoff.ms", ALL, ""),
    same("security.protocol", ALL, "upper or lower case"),
    absent("security.providers", ALL, TLS),
    to("send.buffer.bytes", ALL, "socket.send.buffer.bytes", SocketBuffer, "same meaning; -1 becomes 0, the system's default"),
    absent("socket.connection.setup.timeout.max.ms", ALL, "leave it out; socket.connection.setup.timeout.ms bounds every attempt"),
    same("socket.connection.setup.timeout.ms", ALL, ""),
    // Consumers.
    same("allow.auto.create.topics", CONSUMER, "false by default; true in Java"),
    same("auto.commit.interval.ms", CONSUMER, "0 switches the timer off; in Java it commits at every poll"),
    same("auto.offset.reset", CONSUMER, "none in Java is error here; by_duration has no counterpart, use offsets_for_times and seek"),
    same("check.crcs", CONSUMER, "false by default; true in Java"),
    same("client.rack", CONSUMER, ""),
    same("enable.auto.commit", CONSUMER, ""),
    absent("exclude.internal.topics", CONSUMER, "write topic.blacklist=^__consumer_offsets$,^__transaction_state$ where a pattern is subscribed to"),
    same("fetch.max.bytes", CONSUMER, ""),
    to("fetch.max.wait.ms", CONSUMER, "fetch.wait.max.ms", AsIs, "same meaning"),
    same("fetch.min.bytes", CONSUMER, ""),
    same("group.id", CONSUMER, ""),
    same("group.instance.id", CONSUMER, ""),
    same("group.protocol", CONSUMER, "upper or lower case"),
    same("group.remote.assignor", CONSUMER, ""),
    same("heartbeat.interval.ms", CONSUMER, ""),
    absent("interceptor.classes", "consumer, producer", "leave it out; wrap the calls, or use listeners and delivery callbacks"),
    absent("internal.leave.group.on.close", CONSUMER, "set group.instance.id for a member that keeps its partitions over a restart"),
    absent("internal.throw.on.fetch.stable.offset.unsupported", CONSUMER, "leave it out; it is internal to the Java client"),
    same("isolation.level", CONSUMER, "read_committed by default; read_uncommitted in Java"),
    absent("key.deserializer", CONSUMER, BYTES),
    same("max.partition.fetch.bytes", CONSUMER, ""),
    same("max.poll.interval.ms", CONSUMER, ""),
    same("max.poll.records", CONSUMER, "honoured by Tidegate: the most records one batch hands out; no bound by default, 500 in Java"),
    same("partition.assignment.strategy", CONSUMER, "range, roundrobin, cooperative-sticky; the Java class names of these are translated, StickyAssignor has no counterpart"),
    absent("rebalance.timeout.ms", CONSUMER, "write max.poll.interval.ms"),
    same("session.timeout.ms", CONSUMER, ""),
    absent("share.acknowledgement.mode", CONSUMER, SHARE),
    absent("share.acquire.mode", CONSUMER, SHARE),
    absent("value.deserializer", CONSUMER, BYTES),
    absent("zookeeper.connect", CONSUMER, "write bootstrap.servers"),
    // Producers.
    same("acks", PRODUCER, "all, -1, 0 or 1"),
    same("batch.size", PRODUCER, "1000000 by default; 16384 in Java"),
    to("buffer.memory", PRODUCER, "queue.buffering.max.kbytes", BytesToKilobytes, "bytes become kilobytes, rounded up"),
    to("compression.gzip.level", PRODUCER, "compression.level", LevelOf("gzip"), "with compression.type=gzip; it has no effect with another one"),
    to("compression.lz4.level", PRODUCER, "compression.level", LevelOf("lz4"), "with compression.type=lz4; it has no effect with another one; at most 12"),
    to("compression.zstd.level", PRODUCER, "compression.level", LevelOf("zstd"), "with compression.type=zstd; it has no effect with another one; -1 to 12"),
    same("compression.type", PRODUCER, ""),
    same("delivery.timeout.ms", PRODUCER, "five minutes by default; two in Java"),
    same("enable.idempotence", PRODUCER, "false by default; true in Java"),
    absent("key.serializer", PRODUCER, ENCODE),
    same("linger.ms", PRODUCER, ""),
    to("max.block.ms", PRODUCER, "tidegate.queue.full.timeout.ms", AsIs, "how long send waits for room in a full queue"),
    same("max.in.flight.requests.per.connection", PRODUCER, "with enable.idempotence at most 5, as in Java"),
    to("max.request.size", PRODUCER, "message.max.bytes", AsIs, "same meaning"),
    absent("metadata.max.idle.ms", PRODUCER, "leave it out; topics that are no longer used cost nothing"),
    settled("partitioner.adaptive.partitioning.enable", PRODUCER, &["false"], "leave it out; records without a key change partition every sticky.partitioning.linger.ms"),
    settled("partitioner.availability.timeout.ms", PRODUCER, &["0"], "leave it out; a record stays with its partition until delivery.timeout.ms"),
    to("partitioner.class", PRODUCER, "partitioner", PartitionerClass, "Java's DefaultPartitioner becomes murmur2_random, librdkafka's own names are taken as they are"),
    settled("partitioner.ignore.keys", PRODUCER, &["false"], "write partitioner=random"),
    same("transaction.timeout.ms", PRODUCER, ""),
    settled("transaction.two.phase.commit.enable", PRODUCER, &["false"], "leave it out; transactions that an outer coordinator finishes are not supported"),
    same("transactional.id", PRODUCER, ""),
    absent("value.serializer", PRODUCER, ENCODE),
    // Admin clients.
    absent("bootstrap.controllers", ADMIN, "write bootstrap.servers with the addresses of brokers"),
    // SASL.
    absent("sasl.client.callback.handler.class", ALL, "write sasl.username and sasl.password"),
    absent("sasl.jaas.config", ALL, "write sasl.username and sasl.password, with sasl.mechanism").secret(),
    same("sasl.kerberos.kinit.cmd", ALL, "a shell command here, a path in Java"),
    same("sasl.kerberos.min.time.before.relogin", ALL, ""),
    same("sasl.kerberos.service.name", ALL, ""),
    absent("sasl.kerberos.ticket.renew.jitter", ALL, LOGIN),
    absent("sasl.kerberos.ticket.renew.window.factor", ALL, LOGIN),
    absent("sasl.login.callback.handler.class", ALL, "write sasl.username and sasl.password"),
    absent("sasl.login.class", ALL, LOGIN),
    absent("sasl.login.connect.timeout.ms", ALL, LOGIN),
    absent("sasl.login.read.timeout.ms", ALL, LOGIN),
    absent("sasl.login.refresh.buffer.seconds", ALL, LOGIN),
    absent("sasl.login.refresh.min.period.seconds", ALL, LOGIN),
    absent("sasl.login.refresh.window.factor", ALL, LOGIN),
    absent("sasl.login.refresh.window.jitter", ALL, LOGIN),
    absent("sasl.login.retry.backoff.max.ms", ALL, LOGIN),
    absent("sasl.login.retry.backoff.ms", ALL, LOGIN),
    same("sasl.mechanism", ALL, "GSSAPI, the default of both, is not in this build"),
    same("sasl.oauthbearer.assertion.algorithm", ALL, ""),
    same("sasl.oauthbearer.assertion.claim.aud", ALL, ""),
    same("sasl.oauthbearer.assertion.claim.exp.seconds", ALL, ""),
    same("sasl.oauthbearer.assertion.claim.iss", ALL, ""),
    same("sasl.oauthbearer.assertion.claim.jti.include", ALL, ""),
    same("sasl.oauthbearer.assertion.claim.nbf.seconds", ALL, ""),
    same("sasl.oauthbearer.assertion.claim.sub", ALL, ""),
    same("sasl.oauthbearer.assertion.file", ALL, ""),
    same("sasl.oauthbearer.assertion.private.key.file", ALL, ""),
    same("sasl.oauthbearer.assertion.private.key.passphrase", ALL, ""),
    to("sasl.oauthbearer.assertion.template.file", ALL, "sasl.oauthbearer.assertion.jwt.template.file", AsIs, "same meaning"),
    same("sasl.oauthbearer.client.credentials.client.id", ALL, ""),
    same("sasl.oauthbearer.client.credentials.client.secret", ALL, ""),
    absent("sasl.oauthbearer.clock.skew.seconds", ALL, TOKEN),
    absent("sasl.oauthbearer.expected.audience", ALL, TOKEN),
    absent("sasl.oauthbearer.expected.issuer", ALL, TOKEN),
    settled("sasl.oauthbearer.header.urlencode", ALL, &["false"], "leave it out; credentials go to the token endpoint as they are"),
    absent("sasl.oauthbearer.jwks.endpoint.refresh.ms", ALL, TOKEN),
    absent("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", ALL, TOKEN),
    absent("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", ALL, TOKEN),
    absent("sasl.oauthbearer.jwks.endpoint.url", ALL, TOKEN),
    absent("sasl.oauthbearer.jwt.retriever.class", ALL, "write sasl.oauthbearer.method"),
    absent("sasl.oauthbearer.jwt.validator.class", ALL, TOKEN),
    same("sasl.oauthbearer.scope", ALL, ""),
    absent("sasl.oauthbearer.scope.claim.name", ALL, "write scopeClaimName in sasl.oauthbearer.config"),
    absent("sasl.oauthbearer.sub.claim.name", ALL, "write principalClaimName in sasl.oauthbearer.config"),
    same("sasl.oauthbearer.token.endpoint.url", ALL, ""),
    // TLS.
    same("ssl.cipher.suites", ALL, "OpenSSL's names here, separated by colons"),
    absent("ssl.enabled.protocols", ALL, "leave it out; OpenSSL agrees on the newest version both sides know"),
    same("ssl.endpoint.identification.algorithm", ALL, "the empty value of Java is none here"),
    absent("ssl.engine.factory.class", ALL, TLS),
    same("ssl.key.password", ALL, ""),
    absent("ssl.keymanager.algorithm", ALL, TLS),
    to("ssl.keystore.certificate.chain", ALL, "ssl.certificate.pem", AsIs, "same meaning").secret(),
    to("ssl.keystore.key", ALL, "ssl.key.pem", AsIs, "same meaning").secret(),
    same("ssl.keystore.location", ALL, "a PKCS#12 file; a JKS keystore has to be converted (keytool -importkeystore -deststoretype PKCS12)"),
    same("ssl.keystore.password", ALL, ""),
    settled("ssl.keystore.type", ALL, &["PKCS12"], "leave it out: ssl.keystore.location is always PKCS#12; for PEM files write ssl.certificate.location and ssl.key.location, and convert a JKS keystore with keytool -importkeystore -deststoretype PKCS12"),
    absent("ssl.protocol", ALL, "leave it out; OpenSSL agrees on the newest version both sides know"),
    absent("ssl.provider", ALL, TLS),
    absent("ssl.secure.random.implementation", ALL, TLS),
    absent("ssl.trustmanager.algorithm", ALL, TLS),
    to("ssl.truststore.certificates", ALL, "ssl.ca.pem", AsIs, "same meaning").secret(),
    absent("ssl.truststore.location", ALL, TRUSTSTORE),
    absent("ssl.truststore.password", ALL, "leave it out; ssl.ca.location is a PEM file and needs no password").secret(),
    settled("ssl.truststore.type", ALL, &["PEM"], TRUSTSTORE),
];
