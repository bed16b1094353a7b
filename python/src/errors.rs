//! Exceptions: one table of classes, and how an error of the engine becomes one of them.
//!
//! The classes are made once, when the module is imported, and live in `tidegate`. Code, number and the two flags are class
//! attributes, so that an exception made in Python has them as well; what only one occurrence knows (Kafka's code, the
//! problems of a configuration) is set on the instance.

use pyo3::exceptions::{PyBufferError, PyException, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use tidegate::{ConfigProblem, Error, ErrorCode, Severity};

/// What a class also is, beside a `TidegateError`.
#[derive(Clone, Copy)]
enum Also {
    Nothing,
    ValueError,
    TimeoutError,
    BufferError,
    /// An `ArgumentError` of the wrong type.
    ArgumentAndTypeError,
}

struct Row {
    name: &'static str,
    code: Option<ErrorCode>,
    also: Also,
    retriable: bool,
    fatal: bool,
    doc: &'static str,
}

const fn row(name: &'static str, code: ErrorCode, doc: &'static str) -> Row {
    Row {
        name,
        code: Some(code),
        also: Also::Nothing,
        retriable: false,
        fatal: false,
        doc,
    }
}

/// The table. The first row is the root of the tree.
const TABLE: &[Row] = &[
    Row {
        name: "TidegateError",
        code: None,
        also: Also::Nothing,
        retriable: false,
        fatal: false,
        doc: "The root of Tidegate's exceptions.\n\n`code` is the stable name of the kind of error and `number` its number; `kafka_code` and `kafka_name` are Kafka's own,\nwhere there is one. `retriable`: the same call may succeed later. `fatal`: the client is of no more use; close it.",
    },
    Row {
        also: Also::ValueError,
        ..row(
            "ConfigError",
            ErrorCode::CONFIG,
            "The configuration is wrong. `problems` has every problem: property, value (secrets replaced), reason, remedy, severity.",
        )
    },
    Row {
        also: Also::ValueError,
        ..row(
            "ArgumentError",
            ErrorCode::ARGUMENT,
            "An argument cannot be used; the text names it, says what is wrong and what to write instead.",
        )
    },
    Row {
        also: Also::ArgumentAndTypeError,
        ..row(
            "ArgumentTypeError",
            ErrorCode::ARGUMENT,
            "An argument is of the wrong type.",
        )
    },
    Row {
        fatal: true,
        ..row(
            "ClosedError",
            ErrorCode::CLOSED,
            "The client was closed before; make a new one.",
        )
    },
    Row {
        retriable: true,
        ..row(
            "ConcurrentUseError",
            ErrorCode::CONCURRENT_USE,
            "Two threads polled one consumer at the same time.",
        )
    },
    Row {
        fatal: true,
        ..row(
            "ForkedError",
            ErrorCode::FORKED,
            "The client was made before fork(), in the parent process; make one in the child.",
        )
    },
    Row {
        also: Also::TimeoutError,
        retriable: true,
        ..row(
            "TimedOutError",
            ErrorCode::TIMED_OUT,
            "Something did not finish in its time.",
        )
    },
    Row {
        also: Also::BufferError,
        retriable: true,
        ..row(
            "QueueFullError",
            ErrorCode::QUEUE_FULL,
            "The producer's queue stayed full; the record was not accepted.",
        )
    },
    row(
        "NotAssignedError",
        ErrorCode::NOT_ASSIGNED,
        "The partition is not assigned to this consumer.",
    ),
    row(
        "StaleError",
        ErrorCode::STALE,
        "The partition was revoked, lost or sought since the record was handed out; its owner handles it again.",
    ),
    row(
        "KafkaError",
        ErrorCode::KAFKA,
        "librdkafka or a broker refused; `kafka_code` and `kafka_name` say what Kafka calls it.",
    ),
    row(
        "ListenerError",
        ErrorCode::LISTENER,
        "A rebalance callback failed.",
    ),
];

/// The classes, in the order of the table.
static CLASSES: PyOnceLock<Vec<Py<PyType>>> = PyOnceLock::new();

fn classes(py: Python<'_>) -> PyResult<&Vec<Py<PyType>>> {
    CLASSES.get_or_try_init(py, || {
        let mut made: Vec<Py<PyType>> = Vec::with_capacity(TABLE.len());
        for row in TABLE {
            let class = make(py, row, &made)?;
            made.push(class.unbind());
        }
        Ok(made)
    })
}

fn make<'py>(py: Python<'py>, row: &Row, made: &[Py<PyType>]) -> PyResult<Bound<'py, PyType>> {
    let attributes = PyDict::new(py);
    attributes.set_item("__module__", "tidegate")?;
    attributes.set_item("__doc__", row.doc)?;
    attributes.set_item("code", row.code.map_or("TIDEGATE", ErrorCode::name))?;
    attributes.set_item("number", row.code.map_or(0, ErrorCode::number))?;
    attributes.set_item("kafka_code", py.None())?;
    attributes.set_item("kafka_name", py.None())?;
    attributes.set_item("retriable", row.retriable)?;
    attributes.set_item("fatal", row.fatal)?;
    if row.code == Some(ErrorCode::CONFIG) {
        attributes.set_item("problems", PyTuple::empty(py))?;
    }
    let bases: Vec<Bound<'py, PyType>> = match (made.first(), row.also) {
        (None, _) => vec![py.get_type::<PyException>()],
        (Some(root), Also::Nothing) => vec![root.bind(py).clone()],
        (Some(root), Also::ValueError) => {
            vec![root.bind(py).clone(), py.get_type::<PyValueError>()]
        }
        (Some(root), Also::TimeoutError) => {
            vec![root.bind(py).clone(), py.get_type::<PyTimeoutError>()]
        }
        (Some(root), Also::BufferError) => {
            vec![root.bind(py).clone(), py.get_type::<PyBufferError>()]
        }
        (Some(_), Also::ArgumentAndTypeError) => {
            let argument = made[index_of("ArgumentError")].bind(py).clone();
            vec![argument, py.get_type::<PyTypeError>()]
        }
    };
    let bases = PyTuple::new(py, bases)?;
    let class = py
        .get_type::<PyType>()
        .call1((row.name, bases, attributes))?;
    Ok(class.cast_into::<PyType>()?)
}

fn index_of(name: &str) -> usize {
    TABLE
        .iter()
        .position(|row| row.name == name)
        .unwrap_or_default()
}

/// The first class of the table with this code.
fn class_of(py: Python<'_>, code: ErrorCode) -> PyResult<Bound<'_, PyType>> {
    let index = TABLE
        .iter()
        .position(|row| row.code == Some(code))
        .unwrap_or_default();
    Ok(classes(py)?[index].bind(py).clone())
}

/// Adds the classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    for (row, class) in TABLE.iter().zip(classes(py)?) {
        module.add(row.name, class.bind(py))?;
    }
    Ok(())
}

/// The exception object of an error of the engine.
pub(crate) fn instance<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let exception = class_of(py, error.code())?.call1((error.to_string(),))?;
    if let Some(code) = error.kafka_code() {
        exception.setattr(intern!(py, "kafka_code"), code.number())?;
        exception.setattr(intern!(py, "kafka_name"), code.name())?;
        exception.setattr(intern!(py, "retriable"), error.is_retriable())?;
        exception.setattr(intern!(py, "fatal"), error.is_fatal())?;
    }
    if let Error::Config(problems) = error {
        exception.setattr(intern!(py, "problems"), problem_list(py, &problems.0)?)?;
    }
    Ok(exception)
}

/// The exception to raise for an error of the engine.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    match instance(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

/// Problems of a configuration as dicts.
pub(crate) fn problem_list<'py>(
    py: Python<'py>,
    problems: &[ConfigProblem],
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for problem in problems {
        let dict = PyDict::new(py);
        dict.set_item("property", &problem.property)?;
        dict.set_item("value", &problem.value)?;
        dict.set_item("reason", &problem.reason)?;
        dict.set_item("remedy", &problem.remedy)?;
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        dict.set_item("severity", severity)?;
        list.append(dict)?;
    }
    Ok(list)
}

/// An argument that cannot be used.
pub(crate) fn argument(py: Python<'_>, argument: &str, problem: &str, remedy: &str) -> PyErr {
    of_row(py, "ArgumentError", argument, problem, remedy)
}

/// An argument of the wrong type.
pub(crate) fn argument_type(py: Python<'_>, argument: &str, problem: &str, remedy: &str) -> PyErr {
    of_row(py, "ArgumentTypeError", argument, problem, remedy)
}

fn of_row(py: Python<'_>, class: &str, argument: &str, problem: &str, remedy: &str) -> PyErr {
    match classes(py) {
        Ok(classes) => PyErr::from_type(
            classes[index_of(class)].bind(py).clone(),
            format!("{argument}: {problem}; {remedy}"),
        ),
        Err(failure) => failure,
    }
}

/// What a text of ours says of a Python object: its type and, shortened, its repr.
pub(crate) fn shown(object: &Bound<'_, PyAny>) -> String {
    /// Characters kept.
    const LONGEST: usize = 80;
    let kind = object
        .get_type()
        .name()
        .map_or_else(|_| "object".to_string(), |name| name.to_string());
    let text = object.repr().map_or_else(
        |_| "?".to_string(),
        |text| text.to_string_lossy().into_owned(),
    );
    if text.chars().count() > LONGEST {
        let short: String = text.chars().take(LONGEST).collect();
        return format!("{short}... ({kind})");
    }
    format!("{text} ({kind})")
}

/// `?` for results of the engine.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for tidegate::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raise(py, &error))
    }
}
