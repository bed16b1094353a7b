//! Kafka for services whose handlers are slow: an embedded streaming core over librdkafka.
//!
//! **What it promises.** A record is committed when it is finished, not when it is fetched, so a process may be killed at any
//! moment and every record it had not finished is read again. What waits in the process stays within
//! `queued.max.messages.kbytes`. A slow application keeps its partitions, a stuck one gives them up after
//! `max.poll.interval.ms`. Every call that waits has a bound that you give, and closing always returns.
//!
//! ```
//! use std::time::Duration;
//! use tidegate::{Config, Consumer, Producer, ProducerRecord, embedded::Broker};
//!
//! # fn main() -> tidegate::Result<()> {
//! // A Kafka cluster inside this process; write your own cluster's address instead.
//! let broker = Broker::with_topics(&[("orders", 4)])?;
//! let cluster = Config::new().with("bootstrap.servers", broker.bootstrap_servers());
//!
//! let producer = Producer::new(&cluster)?;
//! for id in 0..100 {
//!     producer.send(&ProducerRecord::new("orders").key("customer-3").value(&format!("order {id}")))?;
//! }
//! producer.flush(Duration::from_secs(10))?;
//!
//! let config = cluster.with("group.id", "billing").with("auto.offset.reset", "earliest");
//! let consumer = Consumer::new(&config)?;
//! consumer.subscribe(&["orders"])?;
//! let mut orders = 0;
//! while orders < 100 {
//!     // Asking for the next batch finishes the one before it.
//!     let Some(batch) = consumer.next_batch(Some(Duration::from_secs(30)), None)? else { break };
//!     orders += batch.iter().filter(|record| record.value().is_some()).count();
//! }
//! consumer.commit(Duration::from_secs(10))?;
//! consumer.close(Duration::from_secs(10))?;
//! # assert_eq!(orders, 100);
//! # Ok(())
//! # }
//! ```
//!
//! **How a record flows.** librdkafka fetches on its own threads into one queue per consumer. The poller, one thread per
//! consumer, drains that queue into a [`RecordBatch`]: columns over one arena. A bounded gate hands the batch over with one channel
//! operation; a full gate stops the draining and nothing else, so rebalances and commits go on. [`Consumer::poll`],
//! [`Consumer::next_batch`] and [`Consumer::lease_batch`] hand records out; what is finished moves a low watermark per partition, and
//! that is what the poller commits: by its timer, when partitions are taken away, at [`Consumer::commit`] and at
//! [`Consumer::close`].
//!
//! Where to look: [`Config`] for properties (names of librdkafka and of the Java client; mistakes are told together, before
//! anything connects), [`Producer`], [`Admin`], [`Error`] for what can go wrong and what may be tried again, [`stats`], [`log`], and
//! [`embedded::Broker`] for tests.
//!
//! The feature `mimalloc` makes mimalloc the allocator of the program and of librdkafka; a program that brings its own leaves
//! it off. The feature `arrow` adds `RecordBatch::to_arrow`.

#[cfg(feature = "mimalloc")]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

// L0
mod block_on;
mod checks;
mod clock;
mod error;
mod events;
mod group;
pub mod log;
mod metadata;
mod notice;
mod partition;
pub mod partitioner;
mod ready;
mod signal;
mod sync;

// L1
#[cfg(feature = "arrow")]
pub mod arrow;
mod batch;
pub mod config;
mod kafka_code;
mod level;
mod native;
mod offset_map;
mod queue;
mod record;
pub mod stats;
mod token;
mod tracker;
mod wire;

// L2
mod sink;
mod source;

// L3
mod assignment;
mod commit;
mod poller;
mod rebalance;
mod shared;

// L4
pub mod admin;
mod consumer;
pub mod embedded;
pub mod parallel;
mod producer;

pub use admin::{Admin, AdminOptions, NewTopic};
pub use batch::{NULL_LENGTH, RecordBatch, Run, TimestampType};
pub use config::{
    AdminConfig, Config, ConfigReport, ConfigValue, ConsumerConfig, GroupProtocol, IsolationLevel,
    OffsetReset, ProducerConfig, Scope, Translation,
};
pub use consumer::{Consumer, RebalanceListener};
pub use error::{ConfigProblem, ConfigProblems, Error, ErrorCode, KafkaCode, Result, Severity};
pub use events::ClientEvent;
pub use group::GroupMetadata;
pub use kafka_code::kafka_codes;
pub use metadata::{Metadata, PartitionMetadata, TopicMetadata};
pub use native::librdkafka_version;
pub use notice::{ConsumerOptions, Notice, OffsetStore, PartitionReply};
pub use parallel::{Dispatcher, HandlerError, OnFailure, Order, ProcessOptions, Processing};
pub use partition::{
    Generation, Offset, OffsetAndMetadata, TopicInfo, TopicPartition, TopicPartitionOffset,
};
pub use producer::{
    BatchOutcome, DROP_FLUSH_TIMEOUT, Delivery, DeliveryCallback, DeliveryFuture, DeliveryReport,
    Producer, ProducerRecord, ReportCallback, TaggedReport, TaggedRow,
};
pub use record::{Header, Headers, OwnedRecord, Record};
pub use stats::{ConsumerStats, HistogramSnapshot, ProducerStats};
pub use token::{OauthToken, TokenError, TokenProvider};

/// The examples of README.md, compiled and run with the other doctests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
