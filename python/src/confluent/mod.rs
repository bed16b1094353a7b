//! `tidegate.confluent`: the classes of confluent-kafka-python that carry the load, on the engine's public API.
//!
//! Here is only what confluent-kafka-python does and Tidegate's own API does not: names, defaults, exceptions, and the moments at
//! which callbacks run. The rest of `tidegate.confluent` is Python; what is needed of it comes through `types`.

pub(crate) mod admin;
mod callbacks;
mod client;
mod cluster;
mod conf;
mod consumer;
mod consumer_args;
mod consumer_config;
mod events;
pub(crate) mod message;
mod outstanding;
mod parts;
mod polling;
mod produce_batch;
pub(crate) mod producer;
mod transaction_offsets;
pub(crate) mod types;

use pyo3::prelude::*;

/// Adds the classes under private names: `tidegate.confluent` shows them.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<admin::ConfluentAdmin>()?;
    module.add(
        "_ConfluentProducer",
        module.py().get_type::<producer::Producer>(),
    )?;
    module.add(
        "_ConfluentConsumer",
        module.py().get_type::<consumer::Consumer>(),
    )?;
    module.add(
        "_ConfluentMessage",
        module.py().get_type::<message::Message>(),
    )
}
