//! The configuration of a client of confluent-kafka-python: a dict, keywords, callbacks among the properties.
//!
//! Attached, at construction only. What is no callback goes to the engine's configuration, which is the only one that judges it.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tidegate::config::properties;
use tidegate::{Config, ConfigValue, Scope};

use super::types;

/// What a producer's configuration says.
pub(super) struct ProducerSettings {
    pub(super) config: Config,
    pub(super) on_delivery: Option<Py<PyAny>>,
    pub(super) error_cb: Option<Py<PyAny>>,
    pub(super) stats_cb: Option<Py<PyAny>>,
    pub(super) throttle_cb: Option<Py<PyAny>>,
    pub(super) oauth_cb: Option<Py<PyAny>>,
    pub(super) logger: Option<Py<PyAny>>,
    /// `delivery.report.only.error`.
    pub(super) only_errors: bool,
    /// `tidegate.queue.full.timeout.ms` was written: then a full queue is waited for.
    pub(super) waits_for_room: bool,
}

/// The dict that a constructor was given, copied, with the keywords and `default.topic.config` in it.
fn merged<'py>(
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = match args.len() {
        0 => None,
        1 => Some(args.get_item(0)?.cast_into::<PyDict>().map_err(|_| {
            PyTypeError::new_err("expected configuration dict: write Producer({...})")
        })?),
        _ => {
            return Err(PyTypeError::new_err(
                "expected tuple with a single configuration dict",
            ));
        }
    };
    let all = match (dict, kwargs) {
        (None, None) => return Err(PyTypeError::new_err("expected configuration dict")),
        (Some(dict), None) => dict.copy()?,
        (None, Some(kwargs)) => kwargs.copy()?,
        (Some(dict), Some(kwargs)) => {
            let all = dict.copy()?;
            all.update(kwargs.as_mapping())?;
            all
        }
    };
    if let Some(topic) = all.get_item("default.topic.config")? {
        all.del_item("default.topic.config")?;
        all.call_method1("update", (topic,))?;
    }
    Ok(all)
}

fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(value.str()?.to_str()?.to_string())
}

fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "t" | "1")
}

impl ProducerSettings {
    pub(super) fn of(
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<ProducerSettings> {
        let mut settings = ProducerSettings {
            config: Config::new().servers_may_miss(),
            on_delivery: None,
            error_cb: None,
            stats_cb: None,
            throttle_cb: None,
            oauth_cb: None,
            logger: None,
            only_errors: false,
            waits_for_room: false,
        };
        for (name, value) in merged(args, kwargs)? {
            let name = text(&name)?;
            let name = name.as_str();
            let place = match name {
                "on_delivery" => &mut settings.on_delivery,
                "error_cb" => &mut settings.error_cb,
                "stats_cb" => &mut settings.stats_cb,
                "throttle_cb" => &mut settings.throttle_cb,
                "logger" => {
                    settings.logger = Some(value.unbind()).filter(|it| !it.is_none(args.py()));
                    continue;
                }
                "oauth_cb" => &mut settings.oauth_cb,
                _ => {
                    settings.property(name, &value)?;
                    continue;
                }
            };
            if !value.is_callable() {
                let said = format!("expected {name} property as a callable function");
                return Err(match name {
                    "throttle_cb" => PyValueError::new_err(said),
                    "on_delivery" => types::refused(
                        args.py(),
                        types::INVALID_ARG,
                        "on_delivery requires a callable object",
                    ),
                    _ => PyTypeError::new_err(said),
                });
            }
            *place = Some(value.unbind());
        }
        Ok(settings)
    }

    fn property(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        // librdkafka then takes its default.
        if value.is_none() {
            return Ok(());
        }
        let value = text(value)?;
        if name == "delivery.report.only.error" {
            self.only_errors = is_true(&value);
            return Ok(());
        }
        // Programs share one dict between their clients; librdkafka warns of the others' properties.
        let others = |row: &&tidegate::config::Property| row.is_named(name);
        if properties()
            .iter()
            .find(others)
            .is_some_and(|row| row.scope == Scope::Consumer)
        {
            return Ok(());
        }
        self.waits_for_room |= name == "tidegate.queue.full.timeout.ms";
        self.config.set(name, ConfigValue::Text(value));
        Ok(())
    }

    /// Errors, statistics or log lines are to be told inside of `poll`.
    pub(super) fn wants_events(&self) -> bool {
        self.error_cb.is_some()
            || self.stats_cb.is_some()
            || self.throttle_cb.is_some()
            || self.logger.is_some()
    }
}
