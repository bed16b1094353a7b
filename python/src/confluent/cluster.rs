//! What `list_topics()` gives: the classes of `tidegate.confluent.admin`, filled.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tidegate::{KafkaCode, Metadata};

use super::types::{Flags, kafka_error};

fn error(py: Python<'_>, code: Option<KafkaCode>) -> PyResult<Option<Bound<'_, PyAny>>> {
    code.map(|code| kafka_error(py, code.number(), None, Flags::default()))
        .transpose()
}

/// The topic that is asked for, if one; a NUL character is a `ValueError`, as in the original.
pub(crate) fn topic(name: Option<String>) -> PyResult<Option<String>> {
    match name {
        Some(name) if name.contains('\0') => Err(PyValueError::new_err(format!(
            "topic: {name:?} holds a NUL character; remove it"
        ))),
        other => Ok(other),
    }
}

/// A `ClusterMetadata`.
pub(crate) fn metadata<'py>(py: Python<'py>, told: &Metadata) -> PyResult<Bound<'py, PyAny>> {
    let module = py.import("tidegate.confluent.admin")?;
    let make = |class: &str| module.getattr(class)?.call0();
    let cluster = make("ClusterMetadata")?;
    cluster.setattr("cluster_id", told.cluster_id.as_deref())?;
    cluster.setattr("controller_id", told.controller)?;
    cluster.setattr("orig_broker_id", told.origin.0)?;
    cluster.setattr("orig_broker_name", &told.origin.1)?;
    let brokers = cluster.getattr("brokers")?;
    for (id, host, port) in &told.brokers {
        let broker = make("BrokerMetadata")?;
        broker.setattr("id", id)?;
        broker.setattr("host", host)?;
        broker.setattr("port", port)?;
        brokers.set_item(id, broker)?;
    }
    let topics = cluster.getattr("topics")?;
    for topic in &told.topics {
        let made = make("TopicMetadata")?;
        made.setattr("topic", &topic.name)?;
        made.setattr("error", error(py, topic.error)?)?;
        let partitions = made.getattr("partitions")?;
        for partition in &topic.partitions {
            let made = make("PartitionMetadata")?;
            made.setattr("id", partition.id)?;
            made.setattr("leader", partition.leader)?;
            made.setattr("replicas", &partition.replicas)?;
            made.setattr("isrs", &partition.in_sync)?;
            made.setattr("error", error(py, partition.error)?)?;
            partitions.set_item(partition.id, made)?;
        }
        topics.set_item(&topic.name, made)?;
    }
    Ok(cluster)
}
