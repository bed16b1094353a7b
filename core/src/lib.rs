//! Tidegate: an embedded, high-throughput Kafka streaming core over librdkafka.

#[cfg(feature = "mimalloc")]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

// L0
mod block_on;
mod checks;
mod clock;
mod error;
pub mod log;
mod partition;
mod signal;
mod sync;

// L1
mod batch;
pub mod config;
mod kafka_code;
mod level;
mod native;
mod queue;
mod record;
pub mod stats;
mod tracker;

// L2
mod source;

// L3
mod assignment;
mod commit;
mod poller;
mod rebalance;
mod shared;

// L2
mod sink;

// L4
mod admin;
mod consumer;
pub mod embedded;
mod producer;

pub use admin::{Admin, NewTopic};
pub use batch::{NULL_LENGTH, RecordBatch, Run, TimestampType};
pub use config::{
    AdminConfig, Config, ConfigReport, ConfigValue, ConsumerConfig, GroupProtocol, IsolationLevel,
    OffsetReset, ProducerConfig, Scope, Translation,
};
pub use consumer::{Consumer, RebalanceListener};
pub use error::{ConfigProblem, ConfigProblems, Error, ErrorCode, KafkaCode, Result, Severity};
pub use native::librdkafka_version;
pub use partition::{Generation, Offset, TopicInfo, TopicPartition, TopicPartitionOffset};
pub use producer::{
    BatchOutcome, DROP_FLUSH_TIMEOUT, Delivery, DeliveryCallback, DeliveryFuture, Producer,
    ProducerRecord,
};
pub use record::{Header, Headers, OwnedRecord, Record};
pub use stats::{ConsumerStats, HistogramSnapshot, ProducerStats};
