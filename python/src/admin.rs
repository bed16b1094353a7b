//! `Admin`: topics of a cluster.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};
use tidegate::{Error, NewTopic};

use crate::args::{self, Seconds};
use crate::errors::{OrRaise, argument, argument_type, instance, raise, shown};
use crate::lifecycle::Owned;
use crate::token;
use crate::wait::blocking;

const WHAT: &str = "admin client";

/// Creates, deletes and lists topics.
///
/// Args:
///     config: as for a Consumer or Producer; `bootstrap.servers` is all it needs.
///     oauth_token: with `sasl.mechanism=OAUTHBEARER`, a function that is called with the property `sasl.oauthbearer.config` (str) and
///         returns `(token, expires_at)` or `(token, expires_at, principal, extensions)`: str, seconds since 1970, str, dict of str
///         to str. It runs on a thread of its own, at once and again after 80 % of each token's life; what it raises is logged, and
///         it is called again some seconds later. Until the first token is there nothing connects.
///
/// Any thread may call it. Calls let other Python threads run, and Ctrl-C interrupts them within 100 ms. Closed at the end
/// of a `with`. After `close()` every method raises ClosedError, in a forked child ForkedError.
///
/// Raises:
///     ConfigError: the configuration is wrong.
///     KafkaError: librdkafka cannot start.
#[pyclass(frozen, weakref, module = "tidegate")]
pub(crate) struct Admin {
    client: Owned<Mutex<Option<Arc<tidegate::Admin>>>>,
}

impl Admin {
    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&tidegate::Admin) -> tidegate::Result<T> + Send + 'static,
    ) -> PyResult<T> {
        let client = self.client.get(py, WHAT)?.lock().clone();
        let client = client.ok_or_else(|| raise(py, &Error::Closed { what: WHAT }))?;
        blocking(py, move || call(&client))?.or_raise(py)
    }
}

#[pymethods]
impl Admin {
    #[new]
    #[pyo3(signature = (config, oauth_token=None))]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        oauth_token: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Admin> {
        let (config, _) = token::provide(args::config(config)?, oauth_token)?;
        let core = py.detach(|| tidegate::Admin::new(&config)).or_raise(py)?;
        Ok(Admin {
            client: Owned::new(Arc::new(Mutex::new(Some(Arc::new(core))))),
        })
    }

    /// Replace user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are.
    ///
    /// Raises:
    ///     ArgumentError: one of them holds a NUL character.
    fn set_sasl_credentials(&self, py: Python<'_>, username: &str, password: &str) -> PyResult<()> {
        let (username, password) = (username.to_string(), password.to_string());
        self.ask(py, move |core| {
            core.set_sasl_credentials(&username, &password)
        })
    }

    /// Create topics.
    ///
    /// Args:
    ///     topics: a dict of names to numbers of partitions, or a list of names (one partition each).
    ///     replication: on how many brokers each partition is; -1 takes the cluster's default.
    ///     timeout: seconds for the cluster's answer.
    ///     config: settings of every topic, such as {"retention.ms": 86400000}.
    ///
    /// Returns a dict of each name to None, or to the exception that says why it was not created: KafkaError with
    /// `kafka_name` "TOPIC_ALREADY_EXISTS" for one that is there. The others are created all the same.
    ///
    /// Raises:
    ///     ArgumentError: a topic that cannot be asked for; then none is created.
    ///     KafkaError, TimedOutError: the cluster did not answer. The embedded broker has no such request: use its
    ///         `create_topic`.
    #[pyo3(signature = (topics, replication=1, timeout=Seconds::TEN, config=None),
           text_signature = "($self, topics, replication=1, timeout=10.0, config=None)")]
    fn create_topics<'py>(
        &self,
        py: Python<'py>,
        topics: &Bound<'py, PyAny>,
        replication: i32,
        timeout: Seconds,
        config: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut wanted = named_partitions(topics)?;
        if let Some(config) = config.filter(|config| !config.is_none()) {
            let settings: Vec<(String, String)> = args::config(config)?
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_text()))
                .collect();
            for topic in &mut wanted {
                topic.config.extend(settings.iter().cloned());
            }
        }
        for topic in &mut wanted {
            topic.replication = replication;
        }
        let timeout = timeout.bounded();
        let results = self.ask(py, move |core| core.create_topics(&wanted, timeout))?;
        outcomes(py, results)
    }

    /// Delete topics and everything in them.
    ///
    /// Returns a dict of each name to None, or to the exception that says why it was not deleted.
    ///
    /// Raises:
    ///     ArgumentError: an empty list, or what cannot be a topic's name.
    ///     KafkaError, TimedOutError: the cluster did not answer.
    #[pyo3(signature = (topics, timeout=Seconds::TEN), text_signature = "($self, topics, timeout=10.0)")]
    fn delete_topics<'py>(
        &self,
        py: Python<'py>,
        topics: &Bound<'py, PyAny>,
        timeout: Seconds,
    ) -> PyResult<Bound<'py, PyDict>> {
        let names = args::names("topics", topics)?;
        let timeout = timeout.bounded();
        let results = self.ask(py, move |core| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            core.delete_topics(&names, timeout)
        })?;
        outcomes(py, results)
    }

    /// The cluster's topics and how many partitions each has.
    ///
    /// Raises:
    ///     KafkaError: no answer within `timeout` seconds.
    #[pyo3(signature = (timeout=Seconds::TEN), text_signature = "($self, timeout=10.0)")]
    fn topics<'py>(&self, py: Python<'py>, timeout: Seconds) -> PyResult<Bound<'py, PyDict>> {
        let timeout = timeout.bounded();
        let topics = self.ask(py, move |core| core.topics(timeout))?;
        let dict = PyDict::new(py);
        for topic in topics {
            dict.set_item(topic.name, topic.partitions)?;
        }
        Ok(dict)
    }

    /// Give the connections back. Idempotent; any thread.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let client = self.client.get(py, WHAT)?.lock().take();
        py.detach(|| drop(client));
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
}

/// Names and partitions, from a dict or a list.
fn named_partitions(topics: &Bound<'_, PyAny>) -> PyResult<Vec<NewTopic>> {
    if topics.is_instance_of::<PyDict>() || topics.cast::<PyMapping>().is_ok() {
        return Ok(partition_counts(topics)?
            .into_iter()
            .map(|(name, partitions)| NewTopic::new(name, partitions))
            .collect());
    }
    Ok(args::names("topics", topics)?
        .into_iter()
        .map(|name| NewTopic::new(name, 1))
        .collect())
}

/// A dict of names to numbers of partitions.
pub(crate) fn partition_counts(topics: &Bound<'_, PyAny>) -> PyResult<Vec<(String, i32)>> {
    const REMEDY: &str = "give a dict of names to numbers of partitions, {\"name\": 3}";
    let py = topics.py();
    let Ok(mapping) = topics.cast::<PyMapping>() else {
        let problem = format!("{} is no mapping", shown(topics));
        return Err(argument_type(py, "topics", &problem, REMEDY));
    };
    let mut counts = Vec::new();
    for item in mapping.items()?.iter() {
        let (name, count): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let Ok(name) = name.extract::<String>() else {
            let problem = format!("{} is no name", shown(&name));
            return Err(argument_type(py, "topics", &problem, REMEDY));
        };
        if !count.is_instance_of::<pyo3::types::PyInt>() {
            let problem = format!("{} is no number of partitions", shown(&count));
            return Err(argument_type(py, "topics", &problem, REMEDY));
        }
        let count = count.extract::<i32>().map_err(|_| {
            argument(
                py,
                "topics",
                &format!("{} are no partitions", shown(&count)),
                REMEDY,
            )
        })?;
        counts.push((name, count));
    }
    Ok(counts)
}

fn outcomes(
    py: Python<'_>,
    results: Vec<(String, tidegate::Result<()>)>,
) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (name, result) in results {
        match result {
            Ok(()) => dict.set_item(name, py.None())?,
            Err(error) => dict.set_item(name, instance(py, &error)?)?,
        }
    }
    Ok(dict)
}
