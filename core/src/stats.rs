//! Numbers about a running client: one table of metrics per kind of client, from which come the live counters, the snapshot the
//! application reads, its JSON, and the reference ([`CONSUMER_METRICS`], [`PRODUCER_METRICS`]).
//!
//! L1; any thread. Counters and gauges are single relaxed atomics; a histogram is behind a lock of its own, taken once per
//! batch, commit or sampled record, never per record. A snapshot reads them one after the other: its numbers are each exact,
//! but not of one single moment.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

/// What a metric's number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Grows from 0 for as long as the client lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, shown as [`HistogramSnapshot`].
    Histogram,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name: a field of the snapshot and a key of its JSON.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// What is counted or measured: `records`, `bytes`, `us`, ...
    pub unit: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

/// The shape of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct HistogramSnapshot {
    /// How many values were recorded.
    pub count: u64,
    /// Half of the values are at most this.
    pub p50: u64,
    /// Nine in ten are at most this.
    pub p90: u64,
    /// 99 in a hundred are at most this.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// A live counter.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn snapshot(&self) -> u64 {
        self.get()
    }
}

/// A live gauge.
#[derive(Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// For gauges that only know their peak.
    pub(crate) fn raise_to(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn snapshot(&self) -> u64 {
        self.get()
    }
}

/// A live distribution of microseconds.
pub(crate) struct Latency(Mutex<Option<Histogram<u64>>>);

impl Latency {
    /// Longer times are counted as this one.
    const HIGHEST_US: u64 = 3_600_000_000;
    /// Two digits: the percentiles are right to within 1 %, in some 30 KB.
    const DIGITS: u8 = 2;

    pub(crate) fn record(&self, us: u64) {
        self.record_many(us, 1);
    }

    /// The same time for `count` values, such as the records of one batch.
    pub(crate) fn record_many(&self, us: u64, count: u64) {
        if let Some(histogram) = self.0.lock().as_mut() {
            histogram.saturating_record_n(us.clamp(1, Self::HIGHEST_US), count);
        }
    }

    fn snapshot(&self) -> HistogramSnapshot {
        let guard = self.0.lock();
        let Some(histogram) = guard.as_ref().filter(|histogram| !histogram.is_empty()) else {
            return HistogramSnapshot::default();
        };
        HistogramSnapshot {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.50),
            p90: histogram.value_at_quantile(0.90),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

impl Default for Latency {
    fn default() -> Latency {
        // The bounds are constants that hdrhistogram accepts, which the tests prove by counting.
        Latency(Mutex::new(
            Histogram::new_with_bounds(1, Self::HIGHEST_US, Self::DIGITS).ok(),
        ))
    }
}

/// From one table: the live struct, the snapshot, and the list of [`Metric`]s.
macro_rules! metrics {
    (@live Counter) => { Counter };
    (@live Gauge) => { Gauge };
    (@live Histogram) => { Latency };
    (@shown Counter) => { u64 };
    (@shown Gauge) => { u64 };
    (@shown Histogram) => { HistogramSnapshot };
    (
        $(#[$doc:meta])* $Stats:ident, $Metrics:ident, $TABLE:ident;
        $($name:ident: $kind:ident, $unit:literal, $text:literal;)+
    ) => {
        /// The live numbers behind the snapshot.
        #[derive(Default)]
        pub(crate) struct $Metrics {
            $(pub(crate) $name: metrics!(@live $kind),)+
        }

        impl $Metrics {
            pub(crate) fn snapshot(&self) -> $Stats {
                $Stats { $($name: self.$name.snapshot(),)+ }
            }
        }

        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
        #[non_exhaustive]
        pub struct $Stats {
            $(#[doc = $text] #[doc = concat!("(", $unit, ")")] pub $name: metrics!(@shown $kind),)+
        }

        impl $Stats {
            /// One JSON object, the metrics in the order of the table; a histogram is an object of its own.
            #[must_use]
            pub fn to_json(&self) -> String {
                // Plain numbers under plain names: there is nothing in it that JSON cannot carry.
                serde_json::to_string(self).unwrap_or_default()
            }
        }

        impl fmt::Display for $Stats {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_json())
            }
        }

        #[doc = concat!("The table behind [`", stringify!($Stats), "`].")]
        pub const $TABLE: &[Metric] = &[
            $(Metric { name: stringify!($name), kind: MetricKind::$kind, unit: $unit, doc: $text },)+
        ];
    };
}

metrics! {
    /// What a consumer has done so far.
    ConsumerStats, ConsumerMetrics, CONSUMER_METRICS;
    records_received: Counter, "records", "Records taken from librdkafka.";
    bytes_received: Counter, "bytes", "Keys, values and headers of those records.";
    batches_received: Counter, "batches", "Batches they were taken in.";
    records_handed: Counter, "records", "Records handed to the application.";
    batches_handed: Counter, "batches", "Batches handed to the application.";
    records_stale: Counter, "records", "Records dropped before they were handed out, because their partition was revoked, lost, sought or paused; whoever owns it reads them again.";
    queue_bytes: Gauge, "bytes", "Memory of the records that wait between the poller and the application.";
    queue_bytes_peak: Gauge, "bytes", "The most that has waited.";
    queue_full_waits: Counter, "waits", "Times the poller stopped taking records because the byte budget was used up.";
    commits_ok: Counter, "commits", "Commits the broker accepted.";
    commits_failed: Counter, "commits", "Commits that failed; what they held is committed again later.";
    offset_maps_left_out: Counter, "maps", "Commits of a partition by process() that went without the map of what is done beyond the committed offset, because it was too long; a restart repeats that.";
    commit_latency_us: Histogram, "us", "Time from a commit's request to its answer.";
    queue_wait_us: Histogram, "us", "Time a batch waited between the poller and the application.";
    rebalances_assigned: Counter, "rebalances", "Assignments, also of no partition.";
    rebalances_revoked: Counter, "rebalances", "Revocations.";
    rebalances_lost: Counter, "rebalances", "Assignments that were lost without a chance to commit.";
    max_poll_exceeded: Counter, "times", "Times the application made no progress for max.poll.interval.ms and the consumer left the group.";
    errors: Counter, "errors", "Errors reported by librdkafka, temporary ones included.";
    partitions_assigned: Gauge, "partitions", "Partitions assigned now.";
    partitions_direct: Gauge, "partitions", "Partitions read from their broker directly now, past librdkafka.";
}

metrics! {
    /// What a producer has done so far.
    ProducerStats, ProducerMetrics, PRODUCER_METRICS;
    records_sent: Counter, "records", "Records accepted into the queue.";
    bytes_sent: Counter, "bytes", "Their keys and values.";
    records_delivered: Counter, "records", "Records the broker has acknowledged.";
    records_failed: Counter, "records", "Accepted records that were not delivered: told to their callback or future, summed up in the log where they had none.";
    records_refused: Counter, "records", "Records not accepted: the call returned an error that says why.";
    queue_full_waits: Counter, "waits", "Calls that had to wait for room in the queue.";
    in_flight: Gauge, "records", "Records accepted and not reported yet.";
    topics_direct: Gauge, "topics", "Topics sent to their brokers directly now, past librdkafka.";
    errors: Counter, "errors", "Errors reported by librdkafka, temporary ones included.";
    delivery_latency_us: Histogram, "us", "Time from the call to the delivery report, of every record with a callback or future and of one in 64 of the others.";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(table: &[Metric]) -> Vec<&'static str> {
        table.iter().map(|metric| metric.name).collect()
    }

    #[test]
    fn the_json_has_exactly_the_tables_names_in_order() {
        for (json, table) in [
            (ConsumerStats::default().to_json(), CONSUMER_METRICS),
            (ProducerStats::default().to_json(), PRODUCER_METRICS),
        ] {
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            let object = value.as_object().unwrap();
            assert_eq!(object.len(), table.len());
            let mut from = 0;
            for metric in table {
                let shown = &object[metric.name];
                assert_eq!(shown.is_object(), metric.kind == MetricKind::Histogram);
                let key = format!("\"{}\":", metric.name);
                from = json[from..].find(&key).unwrap() + from;
                assert!(!metric.unit.is_empty() && metric.doc.ends_with('.'));
            }
            let mut unique = names(table);
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), table.len());
        }
    }

    #[test]
    fn what_is_counted_is_shown() {
        let live = ConsumerMetrics::default();
        live.records_received.add(7);
        live.records_received.add(3);
        live.queue_bytes.set(500);
        live.queue_bytes_peak.raise_to(500);
        live.queue_bytes.set(20);
        live.queue_bytes_peak.raise_to(20);
        for us in 1..=1000 {
            live.commit_latency_us.record(us);
        }
        let stats = live.snapshot();
        assert_eq!(stats.records_received, 10);
        assert_eq!((stats.queue_bytes, stats.queue_bytes_peak), (20, 500));
        let latency = stats.commit_latency_us;
        assert_eq!(latency.count, 1000);
        assert!((495..=510).contains(&latency.p50), "{latency:?}");
        assert!((980..=1000).contains(&latency.p99), "{latency:?}");
        assert!((995..=1007).contains(&latency.max), "{latency:?}");
    }

    #[test]
    fn a_latency_outside_of_the_histograms_range_is_kept_at_its_edge() {
        let live = ProducerMetrics::default();
        live.delivery_latency_us.record(0);
        live.delivery_latency_us.record_many(u64::MAX, 2);
        let shown = live.snapshot().delivery_latency_us;
        assert_eq!(shown.count, 3);
        assert!(shown.max >= Latency::HIGHEST_US, "{shown:?}");
    }

    #[test]
    fn an_empty_histogram_is_all_zeros() {
        assert_eq!(
            ProducerMetrics::default().snapshot().delivery_latency_us,
            HistogramSnapshot::default()
        );
    }
}
