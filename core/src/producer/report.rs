//! What becomes of a record that was accepted, and who hears of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;

use super::engine::WHAT;
use crate::block_on::block_on;
use crate::checks;
use crate::error::{Error, Result};

/// The report of a record that reached the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition it went to.
    pub partition: i32,
    /// Its offset there; -1 with `acks=0`, where the broker does not tell.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Microseconds from the call to the report.
    pub latency_us: u64,
}

/// What a callback of [`Producer::send_with`](super::Producer::send_with) is, boxed.
pub type DeliveryCallback = Box<dyn FnOnce(Result<Delivery>) + Send>;

/// What became of a record, delivered or not; borrowed, so that telling it costs nothing.
#[derive(Debug)]
pub struct DeliveryReport<'a> {
    /// The topic; empty when the producer ended before librdkafka told what became of the record.
    pub topic: &'a str,
    /// The partition; -1 when the record failed before it had one.
    pub partition: i32,
    /// Its offset there; -1 when it was not delivered, and with `acks=0`, where the broker does not tell.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Microseconds from the call to the report.
    pub latency_us: u64,
    /// Why it was not delivered.
    pub outcome: Result<()>,
}

impl DeliveryReport<'_> {
    pub(super) fn into_delivery(self) -> Result<Delivery> {
        self.outcome?;
        Ok(Delivery {
            topic: Arc::from(self.topic),
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            latency_us: self.latency_us,
        })
    }
}

/// What [`Producer::send_reported`](super::Producer::send_reported) calls.
pub type ReportCallback = Box<dyn FnOnce(&DeliveryReport<'_>) + Send>;

/// What becomes of a record: a future of its delivery report, or [`DeliveryFuture::wait`] for it.
#[derive(Debug)]
#[must_use = "the record is on its way; wait for this to know that it arrived, or use send()"]
pub struct DeliveryFuture {
    pub(super) report: oneshot::Receiver<Result<Delivery>>,
}

impl DeliveryFuture {
    /// Waits for the report on this thread.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when there was none in time (asking again goes on waiting); [`Error::Kafka`] when the record was not
    /// delivered; [`Error::Closed`] when the report was taken before.
    pub fn wait(&mut self, timeout: Duration) -> Result<Delivery> {
        match block_on(&mut *self, timeout) {
            Some(report) => report,
            None => Err(Error::TimedOut {
                what: "the delivery of the record".to_string(),
                timeout_ms: checks::millis(timeout),
            }),
        }
    }
}

impl Future for DeliveryFuture {
    type Output = Result<Delivery>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.report)
            .poll(context)
            .map(|report| report.unwrap_or(Err(Error::Closed { what: WHAT })))
    }
}
