//! The classes of `tidegate.confluent` that are written in Python: errors and partitions.
//!
//! They are imported when the first of them is needed, once per interpreter: the module that defines them imports nothing
//! native.

use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use tidegate::{ConfigProblem, Error};

use crate::token::TokenFunction;
use crate::wait::{deadline, slice_until};

/// What calls say that the original shares between its clients, when theirs is closed.
pub(crate) const HANDLE_CLOSED: &str = "Handle has been closed";
/// Kafka's `SASL_AUTHENTICATION_FAILED`.
const SASL_AUTHENTICATION_FAILED: i32 = 58;
/// The longest that a constructor waits for the first token.
const TOKEN_WAIT: Duration = Duration::from_secs(10);
/// librdkafka's `_TIMED_OUT`.
pub(crate) const TIMED_OUT: i32 = -185;
/// librdkafka's `_INVALID_ARG`.
pub(crate) const INVALID_ARG: i32 = -186;
/// librdkafka's `_STATE`.
pub(crate) const STATE: i32 = -172;
/// librdkafka's `_QUEUE_FULL`.
const QUEUE_FULL: i32 = -184;
/// librdkafka's `_FAIL`.
const FAIL: i32 = -196;

struct Types {
    kafka_error: Py<PyType>,
    kafka_exception: Py<PyType>,
    topic_partition: Py<PyType>,
}

fn types(py: Python<'_>) -> PyResult<&Types> {
    static TYPES: PyOnceLock<Types> = PyOnceLock::new();
    TYPES.get_or_try_init(py, || {
        let module = py.import("tidegate.confluent._types")?;
        let class = |name: &str| -> PyResult<Py<PyType>> {
            Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind())
        };
        Ok(Types {
            kafka_error: class("KafkaError")?,
            kafka_exception: class("KafkaException")?,
            topic_partition: class("TopicPartition")?,
        })
    })
}

/// The class `TopicPartition`.
pub(crate) fn topic_partition(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    Ok(types(py)?.topic_partition.bind(py))
}

/// What a `KafkaError` says beside its code.
#[derive(Default, Clone, Copy)]
pub(crate) struct Flags {
    pub(crate) fatal: bool,
    pub(crate) retriable: bool,
    pub(crate) txn_requires_abort: bool,
}

/// A `KafkaError`; without `reason` it has librdkafka's sentence for the code.
pub(crate) fn kafka_error<'py>(
    py: Python<'py>,
    code: i32,
    reason: Option<&str>,
    flags: Flags,
) -> PyResult<Bound<'py, PyAny>> {
    let options = PyDict::new(py);
    if flags.fatal {
        options.set_item(intern!(py, "fatal"), true)?;
    }
    if flags.retriable {
        options.set_item(intern!(py, "retriable"), true)?;
    }
    if flags.txn_requires_abort {
        options.set_item(intern!(py, "txn_requires_abort"), true)?;
    }
    let class = types(py)?.kafka_error.bind(py);
    class.call((code, reason), Some(&options))
}

/// A `ThrottleEvent`.
pub(crate) fn throttle(
    py: Python<'_>,
    broker: String,
    broker_id: i32,
    throttle_ms: i32,
) -> PyResult<Bound<'_, PyAny>> {
    let class = py
        .import("tidegate.confluent._types")?
        .getattr("ThrottleEvent")?;
    class.call1((broker, broker_id, f64::from(throttle_ms) / 1000.0))
}

/// Waits until a client's `oauth_cb` has given the first token, as the original's constructors do.
pub(crate) fn wait_for_token(py: Python<'_>, tokens: &TokenFunction) -> PyResult<()> {
    let until = deadline(Some(TOKEN_WAIT));
    loop {
        let slice = slice_until(until);
        if py.detach(|| tokens.wait(slice)) {
            return Ok(());
        }
        py.check_signals()?;
        if slice.is_zero() {
            let problem = format!(
                "OAuth token not set within {} seconds timeout: {}",
                TOKEN_WAIT.as_secs(),
                tokens.problem()
            );
            return Err(refused(py, SASL_AUTHENTICATION_FAILED, &problem));
        }
    }
}

/// `KafkaException(error)`.
pub(crate) fn exception(py: Python<'_>, error: Bound<'_, PyAny>) -> PyErr {
    match types(py) {
        Ok(types) => PyErr::from_type(types.kafka_exception.bind(py).clone(), (error.unbind(),)),
        Err(failure) => failure,
    }
}

/// `KafkaException` with a code and a sentence.
pub(crate) fn refused(py: Python<'_>, code: i32, reason: &str) -> PyErr {
    match kafka_error(py, code, Some(reason), Flags::default()) {
        Ok(error) => exception(py, error),
        Err(failure) => failure,
    }
}

/// The `KafkaError` of an error of the engine; `None` for those that confluent-kafka-python has other exceptions for.
pub(crate) fn error_of<'py>(py: Python<'py>, error: &Error) -> PyResult<Option<Bound<'py, PyAny>>> {
    let code = match error {
        Error::Kafka { code, .. } => code.number(),
        Error::TimedOut { .. } => TIMED_OUT,
        Error::QueueFull { .. } => QUEUE_FULL,
        Error::Config(_) | Error::Argument { .. } => INVALID_ARG,
        Error::NotAssigned { .. } | Error::Stale { .. } => STATE,
        Error::Closed { .. } | Error::Forked { .. } => return Ok(None),
        _ => FAIL,
    };
    let flags = Flags {
        fatal: error.is_fatal(),
        ..Flags::default()
    };
    let said = match error {
        Error::Config(problems) => match problems.0.first() {
            Some(problem) => format!("{}: {error}", as_librdkafka_says(problem)),
            None => error.to_string(),
        },
        // With librdkafka's own sentence in it already.
        Error::Kafka { code, context } if context.ends_with(code.description()) => context.clone(),
        error => error.to_string(),
    };
    kafka_error(py, code, Some(&said), flags).map(Some)
}

/// librdkafka's sentence for a problem of the configuration, which programs look for.
fn as_librdkafka_says(problem: &ConfigProblem) -> String {
    let name = &problem.property;
    if problem.reason.starts_with("is not a known property") {
        return format!("No such configuration property: \"{name}\"");
    }
    let value = &problem.value;
    let range = problem.reason.strip_prefix("is outside ");
    if let Some((low, high)) = range.and_then(|range| range.split_once(" to ")) {
        return format!(
            "Configuration property \"{name}\" value {value} is outside allowed range {low}..{high}"
        );
    }
    format!("Invalid value for configuration property \"{name}\": {value}")
}

/// The exception for an error of the engine. `closed` is what a closed handle says.
pub(crate) fn raise(py: Python<'_>, error: &Error, closed: &'static str) -> PyErr {
    match error_of(py, error) {
        Ok(Some(error)) => exception(py, error),
        Ok(None) if matches!(error, Error::Closed { .. }) => PyRuntimeError::new_err(closed),
        Ok(None) => PyRuntimeError::new_err(error.to_string()),
        Err(failure) => failure,
    }
}
