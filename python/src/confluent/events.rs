//! What an admin client said, as tuples for `tidegate.confluent.admin`: the name of the callback that is to hear of it, and what it gets.
//!
//! Attached threads. The callbacks are called in Python, where they are kept.

use pyo3::prelude::*;
use tidegate::ClientEvent;

/// The tuple; `None` for what no callback is for.
pub(super) fn told(py: Python<'_>, event: ClientEvent) -> PyResult<Option<Bound<'_, PyAny>>> {
    let tuple = match event {
        ClientEvent::Error { code, reason } => {
            ("error_cb", code.number(), reason, code.is_fatal()).into_pyobject(py)?
        }
        ClientEvent::Statistics(json) => ("stats_cb", json).into_pyobject(py)?,
        ClientEvent::Throttle {
            broker,
            broker_id,
            throttle_ms,
        } => {
            let seconds = f64::from(throttle_ms) / 1000.0;
            ("throttle_cb", broker, broker_id, seconds).into_pyobject(py)?
        }
        ClientEvent::Log {
            level,
            facility,
            message,
        } => ("log", level, facility, message).into_pyobject(py)?,
        _ => return Ok(None),
    };
    Ok(Some(tuple.into_any()))
}
