//! `tidegate.confluent`: the classes of confluent-kafka-python that carry the load, on the engine's public API.
//!
//! Here is only what confluent-kafka-python does and Tidegate's own API does not: names, defaults, exceptions, and the moments at
//! which callbacks run. The rest of `tidegate.confluent` is Python; what is needed of it comes through `types`.

#[allow(
    dead_code,
    reason = "the consumer and the producer that follow make these"
)]
pub(crate) mod message;
#[allow(dead_code, reason = "as above")]
pub(crate) mod types;

use pyo3::prelude::*;

/// Adds the classes under private names: `tidegate.confluent` shows them.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add(
        "_ConfluentMessage",
        module.py().get_type::<message::Message>(),
    )
}
