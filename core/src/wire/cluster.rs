//! What is asked of any broker: which requests it understands (ApiVersions 0, which any broker answers), and who leads (Metadata 12).

use super::{Decoder, Encoder, Malformed, Uuid};

/// Kinds of requests by number, and the version that is used.
pub(crate) const PRODUCE: (i16, i16) = (0, 9);
pub(crate) const FETCH: (i16, i16) = (1, 13);
pub(crate) const METADATA: (i16, i16) = (3, 12);
const API_VERSIONS: (i16, i16) = (18, 0);

/// Reads the header of an answer, and its correlation id.
pub(crate) fn correlation(read: &mut Decoder<'_>, has_tags: bool) -> Result<i32, Malformed> {
    let correlation = read.i32()?;
    if has_tags {
        read.skip_tags()?;
    }
    Ok(correlation)
}

pub(crate) fn expect(correlation: i32, expected: i32) -> Result<(), Malformed> {
    if correlation == expected {
        Ok(())
    } else {
        Err(Malformed("it answers another request"))
    }
}

pub(crate) fn api_versions(correlation: i32, client_id: &str) -> Vec<u8> {
    Encoder::old_request(API_VERSIONS, correlation, client_id).finish()
}

/// Whether the broker understands all of these.
pub(crate) fn understands(
    answer: &[u8],
    expected: i32,
    needed: &[(i16, i16)],
) -> Result<bool, Malformed> {
    let mut read = Decoder::new(answer);
    expect(correlation(&mut read, false)?, expected)?;
    if read.i16()? != 0 {
        return Ok(false);
    }
    let mut understood = 0;
    for _ in 0..read.i32()? {
        let (key, least, most) = (read.i16()?, read.i16()?, read.i16()?);
        let mut needed = needed.iter();
        understood += usize::from(
            needed.any(|(needed, version)| *needed == key && (least..=most).contains(version)),
        );
    }
    Ok(understood == needed.len())
}

pub(crate) fn metadata<'a>(
    correlation: i32,
    client_id: &str,
    topics: impl ExactSizeIterator<Item = &'a str>,
) -> Vec<u8> {
    let mut request = Encoder::request(METADATA, correlation, client_id);
    request.count(topics.len());
    for topic in topics {
        request.uuid([0; 16]);
        request.text(topic);
        request.no_tags();
    }
    // A topic that is gone stays gone.
    request.bool(false);
    request.bool(false);
    request.no_tags();
    request.finish()
}

/// Who leads a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) topic: String,
    /// All zero where the broker knows none.
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) node: i32,
    pub(crate) epoch: i32,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What a broker knows of the topics that it was asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// Of the partitions that have one.
    pub(crate) leaders: Vec<Leader>,
    /// How many partitions have none, or cannot be told of.
    pub(crate) leaderless: usize,
}

/// Reads the answer to [`metadata`].
pub(crate) fn cluster(answer: &[u8], expected: i32) -> Result<Cluster, Malformed> {
    let mut read = Decoder::new(answer);
    expect(correlation(&mut read, true)?, expected)?;
    read.i32()?; // throttle time
    let mut cluster = Cluster::default();
    for _ in 0..read.count()? {
        let id = read.i32()?;
        let host = read.text()?.to_string();
        let port = read.i32()?;
        read.text()?; // rack
        read.skip_tags()?;
        if let Ok(port) = u16::try_from(port) {
            cluster.nodes.push(Node { id, host, port });
        }
    }
    read.text()?; // cluster id
    read.i32()?; // controller
    for _ in 0..read.count()? {
        let topic_error = read.i16()?;
        let topic = read.text()?.to_string();
        let topic_id = read.uuid()?;
        read.i8()?; // internal
        for _ in 0..read.count()? {
            let error = read.i16()?;
            let (partition, node, epoch) = (read.i32()?, read.i32()?, read.i32()?);
            for _replicas_isr_and_offline in 0..3 {
                for _ in 0..read.count()? {
                    read.i32()?;
                }
            }
            read.skip_tags()?;
            if topic_error == 0 && error == 0 && node >= 0 {
                cluster.leaders.push(Leader {
                    topic: topic.clone(),
                    topic_id,
                    partition,
                    node,
                    epoch,
                });
            } else {
                cluster.leaderless += 1;
            }
        }
        read.i32()?; // authorized operations
        read.skip_tags()?;
    }
    Ok(cluster)
}

/// Any bytes behind the header of an answer to request number 7, for the tests of what reads answers.
#[cfg(test)]
pub(crate) fn any_answer() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    prop::collection::vec(any::<u8>(), 0..400)
        .prop_map(|bytes| [&[0, 0, 0, 7, 0], &bytes[..]].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_a_broker_answers_is_read_or_refused(bytes in any_answer()) {
            let _ = understands(&bytes, 7, &[FETCH, METADATA]);
            let _ = cluster(&bytes, 7);
        }
    }
}
