//! Argument checks that several handles share: topic names, partitions, timeouts, and use after `fork()`.
//!
//! L0. Each says what is wrong and what to write instead; none of them allocates when the argument is good.

mod fork;

use std::time::Duration;

use crate::error::{Error, Result};
pub(crate) use fork::ForkGuard;

/// Kafka's own limit on the length of a topic's name.
pub(crate) const MAX_TOPIC_NAME: usize = 249;

/// A name a broker would accept for a new topic.
pub(crate) fn topic_name(name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "the topic's name is empty".to_string()
    } else if name.len() > MAX_TOPIC_NAME {
        format!(
            "the topic's name has {} bytes, Kafka allows {MAX_TOPIC_NAME}",
            name.len()
        )
    } else if name == "." || name == ".." {
        format!("the topic's name is '{name}'")
    } else if let Some(wrong) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        format!("the topic's name {name:?} holds the character {wrong:?}")
    } else {
        return Ok(());
    };
    Err(Error::argument(
        "topic",
        problem,
        format!(
            "use 1 to {MAX_TOPIC_NAME} of the characters a-z, A-Z, 0-9, '.', '_' and '-', and not '.' or '..' alone"
        ),
    ))
}

/// The number of partitions of a new topic.
pub(crate) fn partition_count(partitions: i32) -> Result<()> {
    if partitions < 1 {
        return Err(Error::argument(
            "partitions",
            format!("a topic cannot have {partitions} partitions"),
            "use 1 or more",
        ));
    }
    Ok(())
}

/// Whole milliseconds of a timeout, for messages and for librdkafka (which takes an `int`).
pub(crate) fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_checked_as_a_broker_does() {
        for good in ["a", "detection.results", "A-b_9", &"x".repeat(249)] {
            assert!(topic_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a\0b", "größe", &"x".repeat(250)] {
            let error = topic_name(bad).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Argument {
                        argument: "topic",
                        ..
                    }
                ),
                "{bad:?}: {error}"
            );
        }
    }
}
