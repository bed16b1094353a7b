//! `EmbeddedBroker`: a Kafka cluster inside this process.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use tidegate::Error;
use tidegate::embedded::Broker;

use crate::admin::partition_counts;
use crate::errors::{OrRaise, raise};
use crate::lifecycle::Owned;

const WHAT: &str = "embedded broker";

/// A Kafka cluster inside this process, on loopback ports: for tests, demos and trying things out.
///
/// Args:
///     topics: a dict of names to numbers of partitions. A topic that is not created comes into being, with 4 partitions,
///         when a client first asks for it.
///     brokers: how many brokers, 1 to 100.
///
/// It is librdkafka's mock cluster: produce, fetch, groups, commits, metadata. It keeps 5 MiB (100 000 messages) per
/// partition, re-joins a group only after about one session timeout, and has neither transactions nor CreateTopics.
///
/// Ends with `close()`, at the end of a `with`, or with the object. Any thread. In a forked child it raises ForkedError.
///
/// Raises:
///     ArgumentError: a name Kafka does not allow, fewer than one partition, a wrong number of brokers.
#[pyclass(frozen, weakref, module = "tidegate")]
pub(crate) struct EmbeddedBroker {
    broker: Owned<Mutex<Option<Broker>>>,
    bootstrap_servers: String,
}

impl EmbeddedBroker {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Broker) -> tidegate::Result<T> + Send,
    ) -> PyResult<T> {
        let broker = self.broker.get(py, WHAT)?;
        py.detach(|| match broker.lock().as_ref() {
            Some(broker) => call(broker),
            None => Err(Error::Closed { what: WHAT }),
        })
        .map_err(|error| raise(py, &error))
    }
}

#[pymethods]
impl EmbeddedBroker {
    #[new]
    #[pyo3(signature = (topics=None, brokers=1))]
    fn new(
        py: Python<'_>,
        topics: Option<&Bound<'_, PyAny>>,
        brokers: i32,
    ) -> PyResult<EmbeddedBroker> {
        let topics = match topics.filter(|topics| !topics.is_none()) {
            Some(topics) => partition_counts(topics)?,
            None => Vec::new(),
        };
        let broker = py
            .detach(|| {
                let broker = Broker::new(brokers)?;
                for (name, partitions) in &topics {
                    broker.create_topic(name, *partitions)?;
                }
                Ok(broker)
            })
            .or_raise(py)?;
        Ok(EmbeddedBroker {
            bootstrap_servers: broker.bootstrap_servers().to_string(),
            broker: Owned::new(Arc::new(Mutex::new(Some(broker)))),
        })
    }

    /// What clients set as `bootstrap.servers`; also after `close()`.
    #[getter]
    fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Create a topic with so many partitions.
    ///
    /// Raises:
    ///     ArgumentError: it exists, its name is not allowed, or there are fewer than one partition.
    #[pyo3(signature = (name, partitions=1))]
    fn create_topic(&self, py: Python<'_>, name: &str, partitions: i32) -> PyResult<()> {
        self.with(py, |broker| broker.create_topic(name, partitions))
    }

    /// Disconnect broker number `broker` (from 1; -1: all) and refuse connections until `broker_up`.
    ///
    /// Raises:
    ///     ArgumentError: there is no such broker.
    fn broker_down(&self, py: Python<'_>, broker: i32) -> PyResult<()> {
        self.with(py, |cluster| cluster.broker_down(broker))
    }

    /// Let broker number `broker` (from 1; -1: all) accept connections again.
    ///
    /// Raises:
    ///     ArgumentError: there is no such broker.
    fn broker_up(&self, py: Python<'_>, broker: i32) -> PyResult<()> {
        self.with(py, |cluster| cluster.broker_up(broker))
    }

    /// End the cluster, within some seconds. Idempotent.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let broker = self.broker.get(py, WHAT)?;
        py.detach(|| {
            let ending = broker.lock().take();
            drop(ending);
        });
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<tidegate.EmbeddedBroker at {}>", self.bootstrap_servers)
    }
}
