//! The configuration of a `tidegate.confluent.Consumer`: a dict whose callables are callbacks and whose other entries are the
//! engine's properties.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};
use tidegate::config::{Scope, properties};
use tidegate::{Config, ConsumerOptions, OffsetStore, log};

use super::callbacks::Functions;
use super::types::{INVALID_ARG, refused};
use crate::errors::shown;

/// librdkafka's `heartbeat.interval.ms`.
const HEARTBEAT_MS: u64 = 3000;

/// What a consumer is made of.
pub(crate) struct Made {
    pub(crate) config: Config,
    pub(crate) options: ConsumerOptions,
    pub(crate) functions: Functions,
}

/// The positional dict and the keyword arguments, the latter winning, as one dict of our own.
fn entries<'py>(
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    let wrong = || PyTypeError::new_err("expected configuration dict: Consumer({'group.id': ...})");
    let dict = match (args.len(), kwargs) {
        (0, Some(kwargs)) => return kwargs.copy(),
        (1, _) => args
            .get_item(0)?
            .cast::<PyDict>()
            .map_err(|_| wrong())?
            .copy()?,
        (0, None) => return Err(wrong()),
        _ => {
            return Err(PyTypeError::new_err(
                "expected tuple containing single dict",
            ));
        }
    };
    if let Some(kwargs) = kwargs {
        dict.update(kwargs.as_mapping())?;
    }
    Ok(dict)
}

fn callback(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if object.is_callable() {
        return Ok(object.clone().unbind());
    }
    let problem = format!(
        "expected {name} property as a callable function, not {}",
        shown(object)
    );
    Err(match name {
        "throttle_cb" => PyValueError::new_err(problem),
        "on_commit" => refused(object.py(), INVALID_ARG, &problem),
        _ => PyTypeError::new_err(problem),
    })
}

/// Reads what the constructor was given.
pub(crate) fn read(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Made> {
    let py = args.py();
    let entries = entries(args, kwargs)?;
    if let Some(topic) = entries.get_item("default.topic.config")? {
        entries.del_item("default.topic.config")?;
        entries.update(topic.cast::<PyDict>()?.as_mapping())?;
    }
    if !entries.contains("group.id")? {
        return Err(PyValueError::new_err(
            "Failed to create consumer: group.id must be set",
        ));
    }
    let mut functions = Functions::default();
    let mut config = Config::new().servers_may_miss();
    let mut options = ConsumerOptions {
        store: OffsetStore::Touched,
        errors: true,
        ..ConsumerOptions::default()
    };
    let mut session_ms = None;
    for (name, value) in entries {
        let name = name.str()?.to_string();
        match name.as_str() {
            "error_cb" => functions.error = Some(callback(&name, &value)?),
            "stats_cb" => functions.stats = Some(callback(&name, &value)?),
            "throttle_cb" => functions.throttle = Some(callback(&name, &value)?),
            "oauth_cb" => functions.oauth = Some(callback(&name, &value)?),
            "on_commit" => functions.on_commit = Some(callback(&name, &value)?),
            "logger" => functions.logger = (!value.is_none()).then(|| value.unbind()),
            // None means librdkafka's default.
            _ if value.is_none() => {}
            "enable.auto.offset.store" => {
                options.store = match value.str()?.to_string().to_lowercase().as_str() {
                    "true" | "t" | "1" => OffsetStore::Touched,
                    "false" | "f" | "0" => OffsetStore::Explicit,
                    _ => {
                        let problem =
                            format!("{name}: {} is neither true nor false", shown(&value));
                        return Err(refused(py, INVALID_ARG, &problem));
                    }
                };
            }
            _ if is_producers(&name) => log::warning(&format!(
                "{name} is a property of producers and has no effect on this consumer"
            )),
            _ => {
                if name == "session.timeout.ms" {
                    session_ms = value.str()?.to_string().parse::<u64>().ok();
                }
                if value.is_instance_of::<PyBool>() {
                    config.set(name, value.extract::<bool>()?);
                } else {
                    let text = match value.cast::<PyString>() {
                        Ok(text) => text.to_string(),
                        Err(_) => value.str()?.to_string(),
                    };
                    config.set(name, text);
                }
            }
        }
    }
    // librdkafka takes a session shorter than the default of its heartbeats; a member would be lost between two of them.
    if let Some(session_ms) = session_ms.filter(|ms| *ms < 2 * HEARTBEAT_MS)
        && config.get("heartbeat.interval.ms").is_none()
    {
        config.set("heartbeat.interval.ms", (session_ms / 3).max(1).to_string());
    }
    options.commits = functions.on_commit.is_some();
    options.statistics = functions.stats.is_some();
    options.logs = functions.logger.is_some();
    options.throttles = functions.throttle.is_some();
    Ok(Made {
        config,
        options,
        functions,
    })
}

fn is_producers(name: &str) -> bool {
    properties()
        .iter()
        .any(|property| property.is_named(name) && property.scope == Scope::Producer)
}
