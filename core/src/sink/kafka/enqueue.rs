//! The short ways into librdkafka's queue, with unsafe FFI: a topic is looked up once, and many records go in with one call.
//!
//! rust-rdkafka's safe call copies the topic's name for each record, and librdkafka looks it up and reads the arguments one by
//! one; with small records that is a good part of what a record costs. Headers and timestamps go the safe way.
//!
//! Any thread. Always true: each handle in the table is one reference to a topic of the producer beside it, used only while that
//! lives, and given back before it ends.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use parking_lot::RwLock;
use rdkafka::bindings as rd;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use crate::error::Result;
use crate::native::sasl::{self, Tokens};
use crate::sink::direct::Route;
use crate::sink::{Row, TaggedRow, Token};
use crate::token::TokenSource;

/// More topics than these are looked up for each record, so that a program that sends to ever new ones keeps no handles.
const MOST_TOPICS: usize = 1024;
/// The partitioner chooses.
const ANY_PARTITION: i32 = -1;
/// Rows handed over by one call, with one lock of the topic.
const CHUNK: usize = 64;

/// One reference to a topic of librdkafka's, and its name.
pub(super) struct Topic {
    native: *mut rd::rd_kafka_topic_t,
    name: Box<str>,
    pub(super) route: Arc<Route>,
}

// SAFETY: librdkafka's topic handles may be used by any thread.
unsafe impl Send for Topic {}
// SAFETY: as above, by several at once.
unsafe impl Sync for Topic {}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the one reference that `rd_kafka_topic_new` gave; the producer still lives (see `Queue`).
        unsafe { rd::rd_kafka_topic_destroy(self.native) };
    }
}

impl Topic {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// librdkafka's producer and the topics it was asked for.
pub(super) struct Queue<C: ProducerContext + 'static> {
    /// Before the producer, so that they are given back first.
    topics: RwLock<HashMap<Box<str>, Arc<Topic>>>,
    /// The topic that was looked up last, or NULL: most programs send to one or two.
    last: AtomicPtr<Topic>,
    _tokens: Option<Tokens>,
    pub(super) producer: BaseProducer<C>,
}

/// How long broker threads have to see that they are to send now.
const HURRY_MS: i32 = 2;

/// How one row of many fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fared {
    Accepted,
    Refused(RDKafkaErrorCode),
}

/// Where bytes begin; NULL is null, and empty is not.
fn start(bytes: Option<&[u8]>) -> *mut c_void {
    bytes.map_or(ptr::null_mut(), |bytes| bytes.as_ptr().cast_mut().cast())
}

fn length(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, <[u8]>::len)
}

impl<C: ProducerContext + 'static> Queue<C> {
    pub(super) fn new(producer: BaseProducer<C>, tokens: Option<&TokenSource>) -> Result<Queue<C>> {
        // SAFETY: the tokens end before the producer (field order).
        let tokens = tokens
            .map(|source| unsafe { Tokens::serve(source, &[producer.client().native_ptr()]) })
            .transpose()?;
        Ok(Queue {
            _tokens: tokens,
            topics: RwLock::default(),
            last: AtomicPtr::default(),
            producer,
        })
    }

    /// Has librdkafka send what waits for `linger.ms`. Takes a moment, unless nothing waits.
    pub(super) fn hurry(&self) {
        // It wakes the broker threads and has a flag up as long as it waits, and a thread that looks later does nothing. So it waits a
        // little. It fails while records are in flight, which is why it is called. (rust-rdkafka's own flush has the flag up for no
        // time at all.)
        // SAFETY: the producer lives.
        let _ = unsafe { rd::rd_kafka_flush(self.producer.client().native_ptr(), HURRY_MS) };
    }

    pub(super) fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()> {
        // SAFETY: the producer is alive, as long as `self`.
        unsafe { sasl::set_credentials(self.producer.client().native_ptr(), username, password) }
    }

    /// The topic's handle, good while `self` lives; none when there are too many, or librdkafka wants none of that name.
    pub(super) fn topic(&self, name: &str) -> Option<&Topic> {
        // SAFETY: NULL, or leads into one of `topics`, which neither moves nor ends before `self` does.
        if let Some(last) = unsafe { self.last.load(Ordering::Acquire).as_ref() }
            && *last.name == *name
        {
            return Some(last);
        }
        if let Some(topic) = self.topics.read().get(name) {
            return Some(self.found(topic));
        }
        let native_name = CString::new(name).ok()?;
        let mut topics = self.topics.write();
        if let Some(topic) = topics.get(name) {
            return Some(self.found(topic));
        }
        if topics.len() >= MOST_TOPICS {
            return None;
        }
        // SAFETY: the producer lives, the name ends with a NUL, and no configuration means the producer's own.
        let native = unsafe {
            let client = self.producer.client().native_ptr();
            rd::rd_kafka_topic_new(client, native_name.as_ptr(), ptr::null_mut())
        };
        if native.is_null() {
            return None;
        }
        let name: Box<str> = name.into();
        let topic = topics.entry(name.clone()).or_insert_with(|| {
            Arc::new(Topic {
                native,
                name,
                route: Arc::default(),
            })
        });
        Some(self.found(topic))
    }

    fn found(&self, topic: &Arc<Topic>) -> &Topic {
        let topic = Arc::as_ptr(topic);
        self.last.store(topic.cast_mut(), Ordering::Release);
        // SAFETY: one of `topics`, which neither moves nor ends before `self` does.
        unsafe { &*topic }
    }

    /// Which way the topic's records go, if it is known here.
    pub(super) fn route(&self, name: &str) -> Option<Arc<Route>> {
        let topics = self.topics.read();
        topics.get(name).map(|topic| Arc::clone(&topic.route))
    }

    /// Copies a record without headers and timestamp into the queue; none when it cannot go this way.
    pub(super) fn send(
        &self,
        topic: &Topic,
        partition: Option<i32>,
        (key, value): Row<'_>,
        token: Token,
    ) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: the topic is this producer's and lives as long as `self`; key and value are read, and copied, within their
        // lengths during the call; the token is a number to librdkafka.
        let code = unsafe {
            rd::rd_kafka_produce(
                topic.native,
                partition.unwrap_or(ANY_PARTITION),
                rd::RD_KAFKA_MSG_F_COPY,
                start(value),
                length(value),
                start(key),
                length(key),
                ptr::without_provenance_mut(token),
            )
        };
        if code == 0 {
            return Ok(());
        }
        // SAFETY: reads this thread's error, which the failed call has set.
        Err(unsafe { rd::rd_kafka_last_error() }.into())
    }

    /// Copies rows into the queue, in order, and tells how each fared, the first ones first, until that says no; `token` is the first
    /// row's.
    pub(super) fn send_rows(
        &self,
        topic: &Topic,
        partition: Option<i32>,
        rows: &[Row<'_>],
        mut token: Token,
        tell: &mut dyn FnMut(Fared) -> bool,
    ) {
        // SAFETY: integers and pointers, for which zero and NULL are values.
        let mut messages: [rd::rd_kafka_message_t; CHUNK] = unsafe { std::mem::zeroed() };
        for rows in rows.chunks(CHUNK) {
            for (message, (key, value)) in messages.iter_mut().zip(rows) {
                message.err = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
                message.payload = start(*value);
                message.len = length(*value);
                message.key = start(*key);
                message.key_len = length(*key);
                message._private = ptr::without_provenance_mut(std::mem::take(&mut token));
            }
            // SAFETY: as in `send`; `messages` holds at least as many as there are rows in the chunk.
            unsafe {
                rd::rd_kafka_produce_batch(
                    topic.native,
                    partition.unwrap_or(ANY_PARTITION),
                    rd::RD_KAFKA_MSG_F_COPY,
                    messages.as_mut_ptr(),
                    i32::try_from(rows.len()).unwrap_or(0),
                );
            }
            for message in &messages[..rows.len()] {
                let fared = match message.err {
                    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Fared::Accepted,
                    code => Fared::Refused(code.into()),
                };
                if !tell(fared) {
                    return;
                }
            }
        }
    }

    /// As [`Queue::send_rows`], each row with its own token and partition.
    pub(super) fn send_tagged(
        &self,
        topic: &Topic,
        rows: &[TaggedRow<'_>],
        tell: &mut dyn FnMut(Fared) -> bool,
    ) {
        // SAFETY: integers and pointers, for which zero and NULL are values.
        let mut messages: [rd::rd_kafka_message_t; CHUNK] = unsafe { std::mem::zeroed() };
        for rows in rows.chunks(CHUNK) {
            for (message, row) in messages.iter_mut().zip(rows) {
                message.err = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
                message.payload = start(row.value);
                message.len = length(row.value);
                message.key = start(row.key);
                message.key_len = length(row.key);
                message.partition = row.partition.unwrap_or(ANY_PARTITION);
                message._private = ptr::without_provenance_mut(row.token());
            }
            // SAFETY: as in `send_rows`.
            unsafe {
                rd::rd_kafka_produce_batch(
                    topic.native,
                    ANY_PARTITION,
                    rd::RD_KAFKA_MSG_F_COPY | rd::RD_KAFKA_MSG_F_PARTITION,
                    messages.as_mut_ptr(),
                    i32::try_from(rows.len()).unwrap_or(0),
                );
            }
            for message in &messages[..rows.len()] {
                let fared = match message.err {
                    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Fared::Accepted,
                    code => Fared::Refused(code.into()),
                };
                if !tell(fared) {
                    return;
                }
            }
        }
    }
}
