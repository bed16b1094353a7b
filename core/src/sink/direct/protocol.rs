//! The request that sending takes, beside those of [`crate::wire::cluster`]: Produce 9.

use std::io::IoSlice;

use crate::wire::cluster::{PRODUCE, correlation, expect};
use crate::wire::{Decoder, Encoder, Malformed};

/// A batch on its way.
pub(super) struct Place<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) bytes: &'a [u8],
}

/// A request in parts: what is written here, and the batches where they lie. `cuts` are the ends of what stands before each batch.
pub(super) struct Produce {
    frame: Vec<u8>,
    cuts: Vec<usize>,
}

/// One request for all of these; those of a topic stand together, and no partition occurs twice.
pub(super) fn produce(
    number: i32,
    client_id: &str,
    acks: i16,
    timeout_ms: i32,
    places: &[Place<'_>],
) -> Produce {
    let mut request = Encoder::request(PRODUCE, number, client_id);
    request.no_text(); // no transaction
    request.i16(acks);
    request.i32(timeout_ms);
    let topics = || places.chunk_by(|a, b| a.topic == b.topic);
    request.count(topics().count());
    let mut cuts = Vec::with_capacity(places.len());
    for topic in topics() {
        request.text(topic[0].topic);
        request.count(topic.len());
        for place in topic {
            request.i32(place.partition);
            request.bytes_follow(place.bytes.len());
            cuts.push(request.len());
            request.no_tags();
        }
        request.no_tags();
    }
    request.no_tags();
    let frame = request.finish_with(places.iter().map(|place| place.bytes.len()).sum());
    Produce { frame, cuts }
}

impl Produce {
    /// What is to be written, in order.
    pub(super) fn parts<'a>(&'a self, places: &[Place<'a>]) -> Vec<IoSlice<'a>> {
        let mut parts = Vec::with_capacity(places.len() * 2 + 1);
        let mut from = 0;
        for (cut, place) in self.cuts.iter().zip(places) {
            parts.push(IoSlice::new(&self.frame[from..*cut]));
            parts.push(IoSlice::new(place.bytes));
            from = *cut;
        }
        parts.push(IoSlice::new(&self.frame[from..]));
        parts
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Produced {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) error: i16,
    pub(super) base_offset: i64,
    /// Where the broker's clock counts; negative where the producer's does.
    pub(super) log_append_time_ms: i64,
}

/// Reads the answer to [`produce`]: what became of the batches, and how long the broker wants to be left alone.
pub(super) fn produced(answer: &[u8], expected: i32) -> Result<(Vec<Produced>, i32), Malformed> {
    let mut read = Decoder::new(answer);
    expect(correlation(&mut read, true)?, expected)?;
    let mut all = Vec::new();
    for _ in 0..read.count()? {
        let topic = read.text()?;
        for _ in 0..read.count()? {
            let partition = read.i32()?;
            let error = read.i16()?;
            let (base_offset, log_append_time_ms) = (read.i64()?, read.i64()?);
            read.i64()?; // where the log starts
            for _ in 0..read.count()? {
                read.i32()?;
                read.text()?;
                read.skip_tags()?;
            }
            read.text()?; // what is wrong
            read.skip_tags()?;
            all.push(Produced {
                topic: topic.to_string(),
                partition,
                error,
                base_offset,
                log_append_time_ms,
            });
        }
        read.skip_tags()?;
    }
    Ok((all, read.i32()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::cluster::any_answer;

    proptest! {
        #[test]
        fn whatever_a_broker_answers_is_read_or_refused(bytes in any_answer()) {
            let _ = produced(&bytes, 7);
        }
    }

    #[test]
    fn batches_stand_where_their_lengths_say() {
        let place = |topic, partition, bytes| Place {
            topic,
            partition,
            bytes,
        };
        let places = [
            place("a", 0, &b"first"[..]),
            place("a", 2, b"second"),
            place("b", 1, b""),
        ];
        let request = produce(5, "me", -1, 1000, &places);
        let sent: Vec<u8> = request
            .parts(&places)
            .iter()
            .flat_map(|part| part.to_vec())
            .collect();
        assert_eq!(
            i32::from_be_bytes(sent[..4].try_into().expect("four")) as usize,
            sent.len() - 4
        );
        let mut read = Decoder::new(&sent[4..]);
        assert_eq!((read.i16(), read.i16(), read.i32()), (Ok(0), Ok(9), Ok(5)));
        assert_eq!(read.take(5), Ok(&b"\0\x02me\0"[..]));
        assert_eq!(read.bytes(), Ok(None));
        assert_eq!(
            (read.i16(), read.i32(), read.count()),
            (Ok(-1), Ok(1000), Ok(2))
        );
        for (topic, batches) in [
            ("a", vec![(0, "first"), (2, "second")]),
            ("b", vec![(1, "")]),
        ] {
            assert_eq!(read.text(), Ok(topic));
            assert_eq!(read.count(), Ok(batches.len()));
            for (partition, bytes) in batches {
                assert_eq!(read.i32(), Ok(partition));
                assert_eq!(read.bytes(), Ok(Some(bytes.as_bytes())));
                read.skip_tags().expect("tags");
            }
            read.skip_tags().expect("tags");
        }
        assert_eq!((read.skip_tags(), read.left()), (Ok(()), 0));
    }
}
