//! Arguments from Python: seconds, configurations, names, partitions, offsets. Each error names the argument, says what is
//! wrong with it and what to write instead.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyMapping, PyString, PyTuple};
use tidegate::{
    Config, ConfigValue, Offset, TopicPartition as CoreTopicPartition, TopicPartitionOffset,
};

use crate::errors::{argument, argument_type, shown};
use crate::partition::TopicPartition;

/// Longer waits than this are waits without end.
const LONGEST_S: f64 = 10.0 * 365.0 * 86400.0;
/// What "for ever" is for a call that must name a time.
pub(crate) const FOREVER: Duration = Duration::from_secs(10 * 365 * 86400);

/// A `timeout` in seconds, checked; infinite waits for ever. It becomes a `Duration` only when there is something to wait
/// for: most polls do not wait.
#[derive(Clone, Copy)]
pub(crate) struct Seconds(f64);

impl Seconds {
    /// The default of calls that ask a broker.
    pub(crate) const TEN: Seconds = Seconds(10.0);
    /// The default of calls that wait for records.
    pub(crate) const FOREVER: Seconds = Seconds(f64::INFINITY);

    /// `None` waits for ever.
    pub(crate) fn duration(self) -> Option<Duration> {
        (self.0 < LONGEST_S).then(|| Duration::from_secs_f64(self.0))
    }

    /// For calls that need a bound.
    pub(crate) fn bounded(self) -> Duration {
        self.duration().unwrap_or(FOREVER)
    }

    /// True for no waiting at all.
    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0.0
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Seconds {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Seconds> {
        const REMEDY: &str =
            "give seconds as an int or a float of 0 or more, or None to wait for ever";
        let py = object.py();
        if object.is_none() {
            return Ok(Seconds::FOREVER);
        }
        let seconds = if let Ok(float) = object.cast_exact::<PyFloat>() {
            float.value()
        } else if object.is_instance_of::<PyBool>() || object.is_instance_of::<PyString>() {
            let problem = format!("{} is no number of seconds", shown(&object));
            return Err(argument_type(py, "timeout", &problem, REMEDY));
        } else {
            object.extract::<f64>().map_err(|_| {
                let problem = format!("{} is no number of seconds", shown(&object));
                argument_type(py, "timeout", &problem, REMEDY)
            })?
        };
        // NaN is not.
        if seconds >= 0.0 {
            return Ok(Seconds(seconds));
        }
        let problem = if seconds.is_nan() {
            "NaN is no time".to_string()
        } else {
            format!("{seconds} s is before now")
        };
        Err(argument(py, "timeout", &problem, REMEDY))
    }
}

/// A configuration from a mapping of names to str, int, float or bool.
pub(crate) fn config(object: &Bound<'_, PyAny>) -> PyResult<Config> {
    let py = object.py();
    let Ok(mapping) = object.cast::<PyMapping>() else {
        let problem = format!("a {} is no mapping", object.get_type().name()?);
        let remedy = "give a dict of property names to str, int, float or bool";
        return Err(argument_type(py, "config", &problem, remedy));
    };
    let mut config = Config::new();
    for item in mapping.items()?.iter() {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let Ok(name) = name.cast::<PyString>() else {
            let problem = format!("{} is no property name", shown(&name));
            return Err(argument_type(py, "config", &problem, "use str keys"));
        };
        let name = name.to_str()?.to_string();
        let value = config_value(&name, &value)?;
        config.set(name, value);
    }
    Ok(config)
}

fn config_value(name: &str, value: &Bound<'_, PyAny>) -> PyResult<ConfigValue> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(ConfigValue::Text(text.to_str()?.to_string()));
    }
    if let Ok(boolean) = value.cast::<PyBool>() {
        return Ok(ConfigValue::Boolean(boolean.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(match value.extract::<i64>() {
            Ok(number) => ConfigValue::Integer(number),
            // Beyond 64 bits: the range of the property is the engine's to tell.
            Err(_) => ConfigValue::Text(value.str()?.to_string_lossy().into_owned()),
        });
    }
    if let Ok(float) = value.cast::<PyFloat>() {
        return Ok(ConfigValue::Float(float.value()));
    }
    // The value may be a secret: only its type is told.
    let kind = value.get_type().name()?;
    Err(argument_type(
        value.py(),
        "config",
        &format!("the value of {name:?} is a {kind}"),
        "give a str, an int, a float or a bool; leave a property out to have its default",
    ))
}

/// Names of topics, from any iterable of str that is not itself a str.
pub(crate) fn names(argument_name: &str, object: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let py = object.py();
    let remedy = format!("give a list of names, {argument_name}=[\"name\"]");
    if object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>() {
        let problem = format!("{} is one name, not a list of them", shown(object));
        return Err(argument_type(py, argument_name, &problem, &remedy));
    }
    let items = object.try_iter().map_err(|_| {
        let problem = format!("{} is no list of names", shown(object));
        argument_type(py, argument_name, &problem, &remedy)
    })?;
    let mut names = Vec::new();
    for item in items {
        let item = item?;
        let Ok(name) = item.cast::<PyString>() else {
            let problem = format!("{} is no name", shown(&item));
            return Err(argument_type(py, argument_name, &problem, &remedy));
        };
        names.push(name.to_str()?.to_string());
    }
    Ok(names)
}

/// A `TopicPartition`, or a pair (topic, partition).
pub(crate) fn partition(name: &str, object: &Bound<'_, PyAny>) -> PyResult<CoreTopicPartition> {
    if let Ok(partition) = object.cast::<TopicPartition>() {
        return Ok(partition.get().inner.clone());
    }
    if let Ok(pair) = object.cast::<PyTuple>()
        && let Ok((topic, partition)) = pair.extract::<(String, i32)>()
    {
        return Ok(CoreTopicPartition::new(topic, partition));
    }
    Err(argument_type(
        object.py(),
        name,
        &format!("{} is no partition", shown(object)),
        "give a TopicPartition(topic, partition) or a tuple of the two",
    ))
}

/// Any iterable of partitions.
pub(crate) fn partitions(
    name: &str,
    object: &Bound<'_, PyAny>,
) -> PyResult<Vec<CoreTopicPartition>> {
    let remedy = "give a list of TopicPartition(topic, partition)";
    let wrong = |_| {
        let problem = format!("{} is no list of partitions", shown(object));
        argument_type(object.py(), name, &problem, remedy)
    };
    if object.is_instance_of::<PyString>() || object.is_instance_of::<TopicPartition>() {
        return Err(wrong(pyo3::exceptions::PyTypeError::new_err(())));
    }
    object
        .try_iter()
        .map_err(wrong)?
        .map(|item| partition(name, &item?))
        .collect()
}

/// A mapping of partitions to something.
pub(crate) fn partition_map<'py, T>(
    name: &str,
    object: &Bound<'py, PyAny>,
    remedy: &str,
    mut value: impl FnMut(CoreTopicPartition, &Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    let Ok(mapping) = object.cast::<PyMapping>() else {
        let problem = format!("{} is no mapping", shown(object));
        return Err(argument_type(object.py(), name, &problem, remedy));
    };
    let mut found = Vec::new();
    for item in mapping.items()?.iter() {
        let (key, item): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item.extract()?;
        found.push(value(partition(name, &key)?, &item)?);
    }
    Ok(found)
}

/// A number, "beginning", "end", "stored" or "end-N".
pub(crate) fn offset(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Offset> {
    const REMEDY: &str = "give an int of 0 or more, \"beginning\", \"end\", \"stored\", or \"end-N\" for the last N records";
    let py = object.py();
    if object.is_instance_of::<PyInt>() && !object.is_instance_of::<PyBool>() {
        return match object.extract::<i64>() {
            Ok(number) if number >= 0 => Ok(Offset::At(number)),
            _ => {
                let problem = format!("{} is no offset", shown(object));
                Err(argument(py, name, &problem, REMEDY))
            }
        };
    }
    let Ok(text) = object.cast::<PyString>() else {
        let problem = format!("{} is no offset", shown(object));
        return Err(argument_type(py, name, &problem, REMEDY));
    };
    let text = text.to_str()?;
    match text {
        "beginning" => Ok(Offset::Beginning),
        "end" => Ok(Offset::End),
        "stored" => Ok(Offset::Stored),
        _ => text
            .strip_prefix("end-")
            .and_then(|count| count.parse::<u32>().ok())
            .map(|count| Offset::Tail(i64::from(count)))
            .ok_or_else(|| argument(py, name, &format!("{text:?} is no offset"), REMEDY)),
    }
}

/// A number of records: 1 or more, `None` for no limit.
pub(crate) fn count(name: &str, object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let Some(object) = object.filter(|object| !object.is_none()) else {
        return Ok(None);
    };
    let py = object.py();
    let remedy = "give an int of 1 or more";
    if object.is_instance_of::<PyBool>() || !object.is_instance_of::<PyInt>() {
        let problem = format!("{} is no number of records", shown(object));
        return Err(argument_type(py, name, &problem, remedy));
    }
    match object.extract::<usize>() {
        Ok(0) | Err(_) => {
            let problem = format!("{} records cannot be asked for", object.str()?);
            Err(argument(py, name, &problem, remedy))
        }
        Ok(count) => Ok(Some(count)),
    }
}

/// A callable, or `None`.
pub(crate) fn callable(
    name: &str,
    object: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Py<PyAny>>> {
    let Some(object) = object.filter(|object| !object.is_none()) else {
        return Ok(None);
    };
    if !object.is_callable() {
        let problem = format!("{} cannot be called", shown(object));
        return Err(argument_type(
            object.py(),
            name,
            &problem,
            "give a function, or None",
        ));
    }
    Ok(Some(object.clone().unbind()))
}

/// The offsets of `commit`.
pub(crate) fn commit_offsets(offsets: &Bound<'_, PyAny>) -> PyResult<Vec<TopicPartitionOffset>> {
    let remedy = "give a dict of TopicPartition to the offset to be read next (int)";
    partition_map(
        "offsets",
        offsets,
        remedy,
        |partition, wanted| match offset("offsets", wanted)? {
            at @ Offset::At(_) => Ok(TopicPartitionOffset {
                topic: partition.topic,
                partition: partition.partition,
                offset: at,
            }),
            _ => {
                let problem = format!("{} cannot be committed", shown(wanted));
                Err(argument(wanted.py(), "offsets", &problem, remedy))
            }
        },
    )
}
