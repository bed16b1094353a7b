//! Kafka's error codes as [`KafkaCode`]: number, librdkafka's name and sentence, retriable, fatal.
//!
//! L1; any thread. Names and sentences come from the librdkafka that is linked (its enum and `rd_kafka_err2str`), once, so
//! they can never differ from what librdkafka itself logs. What may be retried is Kafka's own table (the Java client's
//! `RetriableException`s) and, for librdkafka's local codes, what its documentation calls temporary.

use std::collections::HashMap;
use std::sync::OnceLock;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use crate::error::{ConfigProblem, ConfigProblems, Error, KafkaCode, Severity};

/// Broker errors after which the same request may succeed.
const RETRIABLE_AT_BROKER: &[i32] = &[
    2,   // INVALID_MSG (corrupt on the way)
    3,   // UNKNOWN_TOPIC_OR_PART (metadata may be behind)
    5,   // LEADER_NOT_AVAILABLE
    6,   // NOT_LEADER_FOR_PARTITION
    7,   // REQUEST_TIMED_OUT
    9,   // REPLICA_NOT_AVAILABLE
    13,  // NETWORK_EXCEPTION
    14,  // COORDINATOR_LOAD_IN_PROGRESS
    15,  // COORDINATOR_NOT_AVAILABLE
    16,  // NOT_COORDINATOR
    19,  // NOT_ENOUGH_REPLICAS
    20,  // NOT_ENOUGH_REPLICAS_AFTER_APPEND
    41,  // NOT_CONTROLLER
    51,  // CONCURRENT_TRANSACTIONS
    56,  // KAFKA_STORAGE_ERROR
    70,  // FETCH_SESSION_ID_NOT_FOUND
    71,  // INVALID_FETCH_SESSION_EPOCH
    72,  // LISTENER_NOT_FOUND
    74,  // FENCED_LEADER_EPOCH
    75,  // UNKNOWN_LEADER_EPOCH
    78,  // OFFSET_NOT_AVAILABLE
    80,  // PREFERRED_LEADER_NOT_AVAILABLE
    83,  // ELIGIBLE_LEADERS_NOT_AVAILABLE
    88,  // UNSTABLE_OFFSET_COMMIT
    89,  // THROTTLING_QUOTA_EXCEEDED
    100, // UNKNOWN_TOPIC_ID
];

/// librdkafka's local errors that pass by themselves.
const RETRIABLE_HERE: &[i32] = &[
    -195, // _TRANSPORT
    -193, // _RESOLVE
    -192, // _MSG_TIMED_OUT
    -187, // _ALL_BROKERS_DOWN
    -185, // _TIMED_OUT
    -184, // _QUEUE_FULL
    -183, // _ISR_INSUFF
    -180, // _WAIT_COORD
    -178, // _IN_PROGRESS
    -177, // _PREV_IN_PROGRESS
    -166, // _TIMED_OUT_QUEUE
    -164, // _WAIT_CACHE
    -153, // _RETRY
];

/// Errors after which librdkafka's client instance is of no more use.
const FATAL: &[i32] = &[
    -194, // _CRIT_SYS_RESOURCE
    -150, // _FATAL
    -144, // _FENCED
    82,   // FENCED_INSTANCE_ID
    90,   // PRODUCER_FENCED
];

/// Codes that Kafka has and the linked librdkafka has no name for: a newer broker may answer with them.
const NEWER: &[(i32, &str, &str)] = &[
    (
        103,
        "INCONSISTENT_TOPIC_ID",
        "Broker: Topic id differs from the log's",
    ),
    (
        114,
        "MISMATCHED_ENDPOINT_TYPE",
        "Broker: Request sent to the wrong type of endpoint",
    ),
    (
        115,
        "UNSUPPORTED_ENDPOINT_TYPE",
        "Broker: Unsupported type of endpoint",
    ),
    (
        116,
        "UNKNOWN_CONTROLLER_ID",
        "Broker: Unknown controller id",
    ),
    (
        119,
        "INVALID_REGISTRATION",
        "Broker: Invalid broker or controller registration",
    ),
    (
        120,
        "TRANSACTION_ABORTABLE",
        "Broker: The transaction must be aborted",
    ),
    (
        121,
        "INVALID_RECORD_STATE",
        "Broker: Record state does not allow the acknowledgement",
    ),
    (
        122,
        "SHARE_SESSION_NOT_FOUND",
        "Broker: Unknown share session",
    ),
    (
        123,
        "INVALID_SHARE_SESSION_EPOCH",
        "Broker: Invalid share session epoch",
    ),
    (
        124,
        "FENCED_STATE_EPOCH",
        "Broker: Share coordinator's state epoch is fenced",
    ),
    (125, "INVALID_VOTER_KEY", "Broker: Voter key does not match"),
    (126, "DUPLICATE_VOTER", "Broker: Voter exists already"),
    (127, "VOTER_NOT_FOUND", "Broker: Unknown voter"),
    (
        128,
        "INVALID_REGULAR_EXPRESSION",
        "Broker: Invalid regular expression",
    ),
    (
        130,
        "STREAMS_INVALID_TOPOLOGY",
        "Broker: Invalid streams topology",
    ),
    (
        131,
        "STREAMS_INVALID_TOPOLOGY_EPOCH",
        "Broker: Invalid streams topology epoch",
    ),
    (
        132,
        "STREAMS_TOPOLOGY_FENCED",
        "Broker: Streams topology epoch is fenced",
    ),
    (
        133,
        "SHARE_SESSION_LIMIT_REACHED",
        "Broker: Too many share sessions",
    ),
];

/// Names of librdkafka's enum that mark its ends and are no codes.
const MARKERS: &[&str] = &["_BEGIN", "_END", "END_ALL"];

const PREFIX: &str = "RD_KAFKA_RESP_ERR_";

/// librdkafka's codes lie within these numbers (its enum leaves gaps).
const LOWEST: i32 = -200;
const HIGHEST: i32 = 300;

fn table() -> &'static HashMap<i32, KafkaCode> {
    static TABLE: OnceLock<HashMap<i32, KafkaCode>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let newer = NEWER.iter().map(|&(number, name, description)| {
            let retriable = RETRIABLE_AT_BROKER.contains(&number);
            (
                number,
                KafkaCode::new(number, name, description, retriable, false),
            )
        });
        (LOWEST..=HIGHEST)
            .filter_map(|number| {
                let native = RDKafkaRespErr::try_from(number).ok()?;
                let name = format!("{native:?}");
                let name = name.strip_prefix(PREFIX).unwrap_or(&name);
                if MARKERS.contains(&name) {
                    return None;
                }
                // "TopicAlreadyExists (Broker: Topic already exists)": the sentence is what err2str gave.
                let shown = RDKafkaErrorCode::from(native).to_string();
                let description = shown
                    .split_once(" (")
                    .and_then(|(_, rest)| rest.strip_suffix(')'))
                    .unwrap_or(&shown);
                let code = KafkaCode::new(
                    number,
                    // About 170 short strings, once per process: KafkaCode stays Copy and needs no lock to read.
                    Box::leak(name.to_string().into_boxed_str()),
                    Box::leak(description.to_string().into_boxed_str()),
                    RETRIABLE_AT_BROKER.contains(&number) || RETRIABLE_HERE.contains(&number),
                    FATAL.contains(&number),
                );
                Some((number, code))
            })
            .chain(newer)
            .collect()
    })
}

/// Every code, by number: librdkafka's, and those that only newer brokers answer with.
#[must_use]
pub fn kafka_codes() -> Vec<KafkaCode> {
    let mut codes: Vec<KafkaCode> = table().values().copied().collect();
    codes.sort_unstable_by_key(KafkaCode::number);
    codes
}

/// The code of a number, from librdkafka or from the protocol.
pub(crate) fn from_number(number: i32) -> KafkaCode {
    table().get(&number).copied().unwrap_or(KafkaCode::new(
        number,
        "UNRECOGNIZED",
        "an error code that the linked librdkafka does not know",
        false,
        false,
    ))
}

/// The code of librdkafka's binding.
pub(crate) fn from_rdkafka(code: RDKafkaErrorCode) -> KafkaCode {
    from_number(code as i32)
}

/// The error of a librdkafka operation; `context` says what was being done, on what.
pub(crate) fn error(failure: &KafkaError, context: impl Into<String>) -> Error {
    let context = context.into();
    if let KafkaError::Transaction(native) = failure {
        let code = from_rdkafka(native.code()).judged(
            native.is_retriable(),
            native.is_fatal(),
            native.txn_requires_abort(),
        );
        return Error::Kafka { code, context };
    }
    // rust-rdkafka 0.39 forgets the code of this one.
    let code = match failure {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    if let Some(code) = code {
        return Error::Kafka {
            code: from_rdkafka(code),
            context,
        };
    }
    let local = |code: RDKafkaErrorCode, said: &str| Error::Kafka {
        code: from_rdkafka(code),
        context: format!("{context}: {said}"),
    };
    match failure {
        KafkaError::ClientConfig(_, reason, property, _) => {
            // Never the value: this may be a password, and the property table has already shown what may be shown.
            Error::Config(ConfigProblems(vec![ConfigProblem {
                property: property.clone(),
                value: "(not shown)".to_string(),
                reason: format!("librdkafka refused it: {}", reason.trim_end_matches('.')),
                remedy: "see the property's type and range in the configuration reference"
                    .to_string(),
                severity: Severity::Error,
            }]))
        }
        KafkaError::ClientCreation(said)
        | KafkaError::AdminOpCreation(said)
        | KafkaError::Subscription(said) => local(RDKafkaErrorCode::InvalidArgument, said),
        KafkaError::PauseResume(said) | KafkaError::Seek(said) => {
            local(RDKafkaErrorCode::Fail, said)
        }
        KafkaError::Canceled => local(RDKafkaErrorCode::BrokerDestroy, "the client was closed"),
        KafkaError::PartitionEOF(_) => Error::Kafka {
            code: from_rdkafka(RDKafkaErrorCode::PartitionEOF),
            context,
        },
        KafkaError::Nul(_) => Error::argument(
            "text",
            format!("{context}: the text holds a NUL character"),
            "remove the NUL character",
        ),
        other => local(RDKafkaErrorCode::Fail, &other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_added_only_while_librdkafka_has_none() {
        for (number, name, _) in NEWER {
            let native = RDKafkaRespErr::try_from(*number).map(|native| format!("{native:?}"));
            let known = native.is_ok_and(|native| !native.ends_with("_END_ALL"));
            assert!(!known, "{name}: librdkafka's own name and text replace it");
        }
        let numbers: Vec<i32> = kafka_codes().iter().map(KafkaCode::number).collect();
        assert!(numbers.is_sorted() && numbers.contains(&133));
    }

    #[test]
    fn names_and_sentences_are_librdkafkas_own() {
        let cases = [
            (-185, "_TIMED_OUT", "Local: Timed out"),
            (-184, "_QUEUE_FULL", "Local: Queue full"),
            (-191, "_PARTITION_EOF", "Broker: No more messages"),
            (
                3,
                "UNKNOWN_TOPIC_OR_PART",
                "Broker: Unknown topic or partition",
            ),
            (36, "TOPIC_ALREADY_EXISTS", "Broker: Topic already exists"),
            (-1, "UNKNOWN", "Unknown broker error"),
            (0, "NO_ERROR", "Success"),
        ];
        for (number, name, description) in cases {
            let code = from_number(number);
            assert_eq!((code.number(), code.name()), (number, name));
            assert_eq!(code.description(), description);
        }
    }

    #[test]
    fn every_code_of_the_tables_exists_and_no_name_is_doubled() {
        for number in RETRIABLE_AT_BROKER
            .iter()
            .chain(RETRIABLE_HERE)
            .chain(FATAL)
        {
            assert!(table().contains_key(number), "{number}");
        }
        let mut names: Vec<_> = table().values().map(KafkaCode::name).collect();
        let count = names.len();
        assert!(count > 170, "{count}");
        assert!(names.iter().all(|name| !MARKERS.contains(name)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn retriable_and_fatal() {
        for (name, number, retriable, fatal) in [
            ("_TIMED_OUT", -185, true, false),
            ("_TRANSPORT", -195, true, false),
            ("_FATAL", -150, false, true),
            ("_FENCED", -144, false, true),
            ("NOT_COORDINATOR", 16, true, false),
            ("ILLEGAL_GENERATION", 22, false, false),
            ("TOPIC_AUTHORIZATION_FAILED", 29, false, false),
            ("MSG_SIZE_TOO_LARGE", 10, false, false),
            ("FENCED_INSTANCE_ID", 82, false, true),
        ] {
            let code = from_number(number);
            assert_eq!(code.name(), name);
            assert_eq!(
                (code.is_retriable(), code.is_fatal()),
                (retriable, fatal),
                "{name}"
            );
        }
    }

    #[test]
    fn a_number_of_a_later_kafka_is_carried() {
        let code = from_number(9999);
        assert_eq!((code.number(), code.name()), (9999, "UNRECOGNIZED"));
    }

    #[test]
    fn errors_keep_their_code_and_say_what_was_being_done() {
        use RDKafkaErrorCode::{MessageTimedOut, OperationTimedOut};
        for (failure, name) in [
            (KafkaError::AdminOp(OperationTimedOut), "_TIMED_OUT"),
            (KafkaError::MetadataFetch(OperationTimedOut), "_TIMED_OUT"),
            (
                KafkaError::MessageProduction(MessageTimedOut),
                "_MSG_TIMED_OUT",
            ),
            (KafkaError::ClientCreation("no".into()), "_INVALID_ARG"),
            (KafkaError::Canceled, "_DESTROY"),
        ] {
            let error = error(&failure, "doing this");
            assert_eq!(error.kafka_code().unwrap().name(), name);
            assert!(error.to_string().starts_with("doing this"), "{error}");
        }
    }

    #[test]
    fn a_refused_property_does_not_show_its_value() {
        let refused = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "bad".into(),
            "sasl.password".into(),
            "hunter2".into(),
        );
        let text = error(&refused, "creating the producer").to_string();
        assert!(text.contains("sasl.password"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
