//! PyO3 module `tidegate._core`: the engine as Python sees it.
//!
//! Classes are frozen and lock inside, so none of them is ever "already borrowed", with or without the GIL. Threads of the
//! engine never wait for the interpreter: what they have to say is queued for threads of this module (`log`, `delivery`).
//! Calls that wait detach and look for Ctrl-C (`wait`). After the interpreter's end nothing calls into it (`lifecycle`).

mod admin;
mod args;
mod arrow;
mod batch;
mod batches;
mod callbacks;
mod client;
mod column;
mod confluent;
mod consumer;
mod delivery;
mod dispatcher;
mod embedded;
mod errors;
mod json;
mod kafka;
mod lifecycle;
mod log;
mod offset_map;
mod output;
mod partition;
mod payload;
mod producer;
mod record;
mod settings;
mod simulation;
mod strings;
mod token;
mod wait;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::register(module)?;
    module.add_class::<partition::TopicPartition>()?;
    module.add_class::<record::Record>()?;
    module.add_class::<batch::RecordBatch>()?;
    module.add_class::<batch::RecordIterator>()?;
    module.add_class::<column::Column>()?;
    module.add_class::<consumer::Consumer>()?;
    module.add_class::<batches::BatchIterator>()?;
    module.add_class::<dispatcher::Dispatcher>()?;
    module.add_class::<simulation::Simulation>()?;
    module.add_class::<output::Output>()?;
    module.add_class::<output::Outputs>()?;
    module.add_class::<delivery::Delivery>()?;
    module.add_class::<producer::Producer>()?;
    module.add_class::<admin::Admin>()?;
    module.add_class::<embedded::EmbeddedBroker>()?;
    confluent::register(module)?;
    module.add_function(wrap_pyfunction!(settings::config_check, module)?)?;
    module.add_function(wrap_pyfunction!(settings::config_explain, module)?)?;
    module.add_function(wrap_pyfunction!(settings::config_table, module)?)?;
    module.add_function(wrap_pyfunction!(json::has_long_number, module)?)?;
    module.add_function(wrap_pyfunction!(kafka::kafka_codes, module)?)?;
    module.add_function(wrap_pyfunction!(kafka::partition_of, module)?)?;
    module.add_function(wrap_pyfunction!(offset_map::offset_map, module)?)?;
    module.add_function(wrap_pyfunction!(offset_map::committed_metadata, module)?)?;
    module.add_function(wrap_pyfunction!(log::set_log_sink, module)?)?;
    module.add_function(wrap_pyfunction!(lifecycle::at_exit, module)?)?;
    module.add_function(wrap_pyfunction!(lifecycle::after_fork_in_child, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("librdkafka_version", tidegate::librdkafka_version())?;
    let public: Vec<String> = module
        .index()?
        .iter()
        .map(|name| name.to_string())
        .filter(|name| !name.starts_with('_'))
        .collect();
    module.setattr("__all__", public)
}
