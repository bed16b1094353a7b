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

// L1
pub mod config;
mod kafka_code;
mod native;
pub mod stats;

// L4
pub mod embedded;

pub use config::{
    AdminConfig, Config, ConfigReport, ConfigValue, ConsumerConfig, GroupProtocol, IsolationLevel,
    OffsetReset, ProducerConfig, Scope, Translation,
};
pub use error::{ConfigProblem, ConfigProblems, Error, ErrorCode, KafkaCode, Result, Severity};
pub use partition::{Generation, Offset, TopicInfo, TopicPartition, TopicPartitionOffset};
pub use stats::{ConsumerStats, HistogramSnapshot, ProducerStats};
