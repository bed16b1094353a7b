//! What a handler makes of a record: records for other topics, sent in the transaction that commits the record's offset.
//!
//! Plain data, any thread. Everything is owned: an output may wait here for a transaction, and be sent again in the next one.

use crate::producer::ProducerRecord;
use crate::record::Record;

/// A header: name and value, `None` for null.
type Header = (String, Option<Vec<u8>>);
/// What an output takes here beside its bytes, about.
const OUTPUT_BYTES: usize = 160;

/// A record that a handler makes of the one that it handles; see [`Consumer::process_to`](crate::Consumer::process_to).
///
/// ```
/// use tidegate::parallel::Output;
///
/// let answer = Output::new("{\"faces\": 3}"); // to the topic of all, with the key of the record handled
/// let alarm = Output::new("look").topic("alarms").key("camera-7").header("level", "high");
/// # assert_ne!(answer, alarm);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    topic: Option<String>,
    partition: Option<i32>,
    /// `None`: that of the record handled.
    key: Option<Option<Vec<u8>>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
    timestamp_ms: Option<i64>,
}

impl Output {
    /// A record with this value, for the topic of all outputs, with the key of the record that is handled.
    pub fn new(value: impl Into<Vec<u8>>) -> Output {
        Output {
            value: Some(value.into()),
            ..Output::tombstone()
        }
    }

    /// A record without a value.
    #[must_use]
    pub fn tombstone() -> Output {
        Output {
            topic: None,
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// Another topic than that of all outputs.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Output {
        self.topic = Some(topic.into());
        self
    }

    /// This partition, and not the partitioner's choice.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Output {
        self.partition = Some(partition);
        self
    }

    /// This key, and not that of the record that is handled.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Output {
        self.key = Some(Some(key.into()));
        self
    }

    /// No key.
    #[must_use]
    pub fn without_key(mut self) -> Output {
        self.key = Some(None);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Output {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Adds headers; `None` is Kafka's null.
    #[must_use]
    pub fn headers(mut self, headers: impl IntoIterator<Item = Header>) -> Output {
        self.headers.extend(headers);
        self
    }

    /// This time, in milliseconds since 1970, and not that of sending.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Output {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + length(value))
            .sum();
        let key = self.key.as_ref().map_or(0, length);
        OUTPUT_BYTES + length(&self.value) + key + headers
    }

    /// Calls `send` with it, as it is to be sent for `handled`, to `topic` unless it has one of its own.
    pub(crate) fn with_record<T>(
        &self,
        topic: &str,
        handled: Option<&Record<'_>>,
        send: impl FnOnce(&ProducerRecord<'_>) -> T,
    ) -> T {
        let headers: Vec<(&str, Option<&[u8]>)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let record = ProducerRecord {
            topic: self.topic.as_deref().unwrap_or(topic),
            partition: self.partition,
            key: match &self.key {
                Some(key) => key.as_deref(),
                None => handled.and_then(Record::key),
            },
            value: self.value.as_deref(),
            headers: &headers,
            timestamp_ms: self.timestamp_ms,
        };
        send(&record)
    }
}

/// What a handler of [`Consumer::process_to`](crate::Consumer::process_to) may return: nothing, one output, several, or a value.
pub trait IntoOutputs {
    /// The outputs, in the order in which they are sent.
    fn into_outputs(self) -> Vec<Output>;
}

impl IntoOutputs for () {
    fn into_outputs(self) -> Vec<Output> {
        Vec::new()
    }
}

impl IntoOutputs for Output {
    fn into_outputs(self) -> Vec<Output> {
        vec![self]
    }
}

impl IntoOutputs for Option<Output> {
    fn into_outputs(self) -> Vec<Output> {
        self.into_iter().collect()
    }
}

impl IntoOutputs for Vec<Output> {
    fn into_outputs(self) -> Vec<Output> {
        self
    }
}

impl IntoOutputs for Vec<u8> {
    fn into_outputs(self) -> Vec<Output> {
        vec![Output::new(self)]
    }
}

impl IntoOutputs for String {
    fn into_outputs(self) -> Vec<Output> {
        vec![Output::new(self)]
    }
}
