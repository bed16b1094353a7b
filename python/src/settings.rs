//! The configuration table as plain Python data.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tidegate::Scope;
use tidegate::config::{JavaProperty, Kind, Property, explain, java_properties, properties};

use crate::args;
use crate::errors::{argument, problem_list};

/// Everything there is to say about a configuration, without making a client.
///
/// Args:
///     config: names to str, int, float or bool.
///     scope: "consumer", "producer" or "admin".
///
/// Returns a list of dicts: property, value (secrets replaced), reason, remedy, severity ("error" or "warning"); empty when
/// there is nothing to say.
///
/// Raises:
///     ArgumentError: another scope, or a value of another type.
#[pyfunction]
#[pyo3(signature = (config, scope="consumer"))]
pub(crate) fn config_check<'py>(
    py: Python<'py>,
    config: &Bound<'py, PyAny>,
    scope: &str,
) -> PyResult<Bound<'py, PyList>> {
    let scope = match scope {
        "consumer" => Scope::Consumer,
        "producer" => Scope::Producer,
        "admin" => Scope::Global,
        other => {
            let problem = format!("{other:?} is no kind of client");
            let remedy = "give \"consumer\", \"producer\" or \"admin\"";
            return Err(argument(py, "scope", &problem, remedy));
        }
    };
    let config = args::config(config)?;
    let report = py.detach(|| config.check(scope));
    let problems: Vec<_> = report.errors.into_iter().chain(report.warnings).collect();
    problem_list(py, &problems)
}

/// What there is to know about one property, by its librdkafka or Java name.
///
/// Returns a dict: `name`, `known`, `text` (all of it, for people), and the keys of `config_table()` where it is one of
/// librdkafka's or Tidegate's; `nearest`, the nearest known name, when it is not known.
#[pyfunction]
pub(crate) fn config_explain<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
    let explanation = explain(name);
    let dict = PyDict::new(py);
    dict.set_item("name", &explanation.name)?;
    dict.set_item("known", explanation.is_known())?;
    dict.set_item("text", explanation.to_string())?;
    dict.set_item("nearest", explanation.nearest)?;
    if let Some(property) = explanation.property {
        for (key, value) in row(py, property)? {
            if key.to_string() != "name" {
                dict.set_item(key, value)?;
            }
        }
        dict.set_item("property", property.name)?;
    }
    Ok(dict)
}

/// Every property of librdkafka and Tidegate, in the order of the reference.
///
/// Returns a list of dicts: `name`; `alias`, librdkafka's second name or None; `scope` ("global", "consumer" or "producer");
/// `type`; `values`, the legal ones in words; `default` (empty where there is none); `doc`, one line; `java`, the Java
/// client's names that are translated to it; `sensitive`, `deprecated`, `own` (Tidegate's own).
#[pyfunction]
pub(crate) fn config_table(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let rows = properties()
        .iter()
        .map(|property| row(py, property))
        .collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, rows)
}

fn row<'py>(py: Python<'py>, property: &Property) -> PyResult<Bound<'py, PyDict>> {
    let scope = match property.scope {
        Scope::Global => "global",
        Scope::Consumer => "consumer",
        Scope::Producer => "producer",
    };
    let kind = match property.kind {
        Kind::Text => "text",
        Kind::Integer { .. } => "integer",
        Kind::Float { .. } => "float",
        Kind::Boolean => "boolean",
        Kind::OneOf(_) => "choice",
        Kind::Several(_) => "list",
        Kind::Callback(_) => "callback",
    };
    let java: Vec<&str> = java_properties()
        .iter()
        .filter(|java| java.name != property.name)
        .filter(|java| JavaProperty::target(java) == Some(property.name))
        .map(|java| java.name)
        .collect();
    let dict = PyDict::new(py);
    dict.set_item("name", property.name)?;
    dict.set_item("alias", property.alias)?;
    dict.set_item("scope", scope)?;
    dict.set_item("type", kind)?;
    dict.set_item("values", property.legal())?;
    dict.set_item("default", property.default)?;
    dict.set_item("doc", property.doc)?;
    dict.set_item("java", java)?;
    dict.set_item("sensitive", property.sensitive)?;
    dict.set_item("deprecated", property.deprecated)?;
    dict.set_item("own", property.own)?;
    Ok(dict)
}

/// A JSON object as a dict.
pub(crate) fn json_dict<'py>(py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyDict>> {
    let value = py.import("json")?.call_method1("loads", (json,))?;
    Ok(value.cast_into::<PyDict>()?)
}
