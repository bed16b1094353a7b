//! Parts of `core/src`, the same files, built without librdkafka:
//! - `cargo test --release -p tidegate-model` tries every interleaving of what threads share without a lock (loom);
//! - `make miri` runs the unit tests of everything that has no FFI under Miri.

#![allow(dead_code, unreachable_pub)]

#[path = "../../../core/src/level.rs"]
mod level;
#[path = "../../../core/src/partition.rs"]
mod partition;
#[path = "../../../core/src/ready.rs"]
mod ready;
#[path = "../../../core/src/sync.rs"]
mod sync;
#[path = "../../../core/src/tracker.rs"]
mod tracker;

#[cfg(not(loom))]
#[path = "../../../core/src/batch.rs"]
mod batch;
#[cfg(not(loom))]
#[path = "../../../core/src/error.rs"]
mod error;
#[cfg(not(loom))]
#[path = "../../../core/src/queue.rs"]
mod queue;
#[cfg(not(loom))]
#[path = "../../../core/src/record.rs"]
mod record;

#[cfg(not(loom))]
pub use error::{Error, Result};

#[cfg(all(test, loom))]
mod interleavings;
