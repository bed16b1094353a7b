//! Where a group stands: committed offsets, and what `auto.offset.reset` means where there are none.
//!
//! Waits for the broker, so it runs on a thread of its own and never on the poller's.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;

use crate::error::Result;
use crate::kafka_code;
use crate::partition::{Offset, TopicPartition};
use crate::source::kafka::{Client, metadata};
use crate::source::{RequestId, SourceEvent, StartPosition};

/// Each question to the broker waits so long; the poller asks again after a failure.
const TIMEOUT: Duration = Duration::from_secs(10);
/// As long for questions that go to leaders: a leader that has died answers no sooner, and the next try may find another.
const LEADER_TIMEOUT: Duration = Duration::from_secs(3);

/// `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    Beginning,
    End,
    /// An error is wanted: nothing is resolved here, librdkafka reports it.
    Never,
}

/// librdkafka's form of an offset.
pub(crate) fn native(offset: Offset) -> rdkafka::Offset {
    match offset {
        Offset::Beginning => rdkafka::Offset::Beginning,
        Offset::End => rdkafka::Offset::End,
        Offset::Stored => rdkafka::Offset::Stored,
        Offset::At(offset) => rdkafka::Offset::Offset(offset),
        Offset::Tail(count) => rdkafka::Offset::OffsetTail(count),
    }
}

/// Looks up all of `partitions`.
pub(crate) fn starts(
    client: &Client,
    id: RequestId,
    partitions: Vec<TopicPartition>,
    reset: Reset,
) -> SourceEvent {
    match resolve(client, &partitions, reset) {
        Ok(starts) => SourceEvent::Starts {
            id,
            starts,
            error: None,
        },
        Err(error) => SourceEvent::Starts {
            id,
            starts: partitions
                .into_iter()
                .map(|partition| (partition, StartPosition::Unknown))
                .collect(),
            error: Some(error),
        },
    }
}

fn resolve(
    client: &Client,
    partitions: &[TopicPartition],
    reset: Reset,
) -> Result<Vec<(TopicPartition, StartPosition)>> {
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        asked.add_partition(&partition.topic, partition.partition);
    }
    let answer = client
        .committed_offsets(asked, TIMEOUT)
        .map_err(|error| kafka_code::error(&error, "look up committed offsets"))?;
    let metadata = metadata(&answer);
    let committed: Vec<_> = offsets(&answer, "look up the committed offset")?
        .into_iter()
        .zip(metadata)
        .collect();
    let start_of = |offset: i64, metadata| StartPosition::Committed(offset, metadata);
    let logical = match reset {
        Reset::Beginning => rdkafka::Offset::Beginning,
        Reset::End => rdkafka::Offset::End,
        Reset::Never => {
            return Ok(committed
                .into_iter()
                .map(|((partition, offset), metadata)| {
                    let start =
                        offset.map_or(StartPosition::Unknown, |offset| start_of(offset, metadata));
                    (partition, start)
                })
                .collect());
        }
    };
    let mut missing = TopicPartitionList::new();
    let unknown = committed.iter().map(|(found, _)| found);
    for (partition, _) in unknown.filter(|(_, offset)| offset.is_none()) {
        missing
            .add_partition_offset(&partition.topic, partition.partition, logical)
            .map_err(|error| kafka_code::error(&error, "look up the start position"))?;
    }
    let resolved = if missing.count() == 0 {
        Vec::new()
    } else {
        refresh_leaders(client, &missing)?;
        offsets(
            &client
                .offsets_for_times(missing, LEADER_TIMEOUT)
                .map_err(|error| kafka_code::error(&error, "look up start positions"))?,
            "look up the start position",
        )?
    };
    Ok(committed
        .into_iter()
        .map(|((partition, offset), metadata)| {
            let start = match offset {
                Some(offset) => start_of(offset, metadata),
                None => resolved
                    .iter()
                    .find(|(found, _)| *found == partition)
                    .and_then(|(_, offset)| *offset)
                    .map_or(StartPosition::Unknown, StartPosition::Resolved),
            };
            (partition, start)
        })
        .collect())
}

/// librdkafka asks the leaders it remembers, and while nothing is fetched nothing makes it look for others: without this, a
/// leader that died is asked again until the metadata is five minutes old.
fn refresh_leaders(client: &Client, list: &TopicPartitionList) -> Result<()> {
    let topics: BTreeSet<String> = list
        .elements()
        .iter()
        .map(|element| element.topic().to_string())
        .collect();
    for topic in topics {
        client
            .fetch_metadata(Some(&topic), TIMEOUT)
            .map_err(|error| {
                kafka_code::error(&error, format!("look up the leaders of {topic}"))
            })?;
    }
    Ok(())
}

/// The offsets of a list; `None` where the broker has none. An error of any partition is the error of all: the question
/// is asked again.
pub(crate) fn offsets(
    list: &TopicPartitionList,
    context: &str,
) -> Result<Vec<(TopicPartition, Option<i64>)>> {
    list.elements()
        .iter()
        .map(|element| {
            let partition = TopicPartition::new(element.topic(), element.partition());
            element
                .error()
                .map_err(|error| kafka_code::error(&error, format!("{context} of {partition}")))?;
            let offset = match element.offset() {
                rdkafka::Offset::Offset(offset) if offset >= 0 => Some(offset),
                _ => None,
            };
            Ok((partition, offset))
        })
        .collect()
}
