//! `_ConfluentAdmin`: the requests of `tidegate.confluent.admin`, as plain tuples in both directions.
//!
//! The shapes that programs see are made in Python (`python/tidegate/confluent/admin/`). The engine's thread never waits for the
//! interpreter: an answer is queued for a thread of this module ("tidegate-answers", one per client, started by the first request),
//! which calls `done(result, None)` or `done(None, (code, sentence))`. A request keeps its client alive.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use pyo3::BoundObject;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use tidegate::admin::{
    Acl, AclOperation, AclPermission, AdminOptions, AlterOperation, Answer, ConfigEntry,
    ConfigResource, ElectionType, GroupDescription, GroupState, GroupType, NewPartitions, NewTopic,
    Node, OldGroup, PartitionOffset, PatternType, ResourceType, ScramChange, ScramMechanism,
    TopicDescription,
};
use tidegate::{Error, IsolationLevel};

use super::{cluster, events, types};
use crate::args;
use crate::lifecycle::{Owned, with_python};
use crate::token;
use crate::wait::{blocking, deadline, slice_until};

const WHAT: &str = "admin client";
const CLOSED: &str = "Handle has been closed";

type Job = Box<dyn FnOnce(Python<'_>) + Send>;
type Brokers = Vec<Vec<i32>>;
type Part = (String, i32, i64, Option<String>, Option<i32>);
type RawAcl = (
    i32,
    Option<String>,
    i32,
    Option<String>,
    Option<String>,
    i32,
    i32,
);
type RawConfig = (i32, String, Vec<(String, Option<String>, i32)>);
type Upsertion = (i32, Vec<u8>, Option<Vec<u8>>);
type Failure = Option<(i32, String)>;

/// request_timeout, operation_timeout, validate_only, broker, require_stable, authorized operations, states, types, isolation.
type RawOptions = (
    Option<f64>,
    Option<f64>,
    bool,
    Option<i32>,
    bool,
    bool,
    Vec<i32>,
    Vec<i32>,
    Option<i32>,
);

#[pyclass(frozen, weakref, module = "tidegate", name = "_ConfluentAdmin")]
pub(crate) struct ConfluentAdmin {
    client: Owned<tidegate::Admin>,
    answers: OnceLock<Option<Sender<Job>>>,
}

/// Runs what has been answered, as much as waits each time it is attached.
fn run(jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut next = Some(first);
        let attached = with_python(|py| {
            while let Some(job) = next.take() {
                job(py);
                next = jobs.try_recv().ok();
            }
        });
        if attached.is_none() {
            // The interpreter is going; nobody waits for the rest.
            std::mem::forget(next);
            return;
        }
    }
}

fn failure(error: &Error) -> (i32, String) {
    /// librdkafka's `_DESTROY`, `_TIMED_OUT` and `_FAIL`.
    const CODES: (i32, i32, i32) = (-197, -185, -196);
    match error {
        Error::Kafka { code, context } => (code.number(), context.clone()),
        Error::Closed { .. } => (CODES.0, error.to_string()),
        Error::TimedOut { .. } => (CODES.1, error.to_string()),
        other => (CODES.2, other.to_string()),
    }
}

fn failed<T>(result: tidegate::Result<T>) -> (Failure, Option<T>) {
    match result {
        Ok(value) => (None, Some(value)),
        Err(error) => (Some(failure(&error)), None),
    }
}

/// What the engine refuses at once: a mistake in an argument is a `ValueError`, as in the original.
fn refused(py: Python<'_>, error: &Error) -> PyErr {
    match error {
        Error::Argument { .. } => PyValueError::new_err(error.to_string()),
        other => types::raise(py, other, CLOSED),
    }
}

fn number<T>(what: &str, number: i32, of: impl FnOnce(i32) -> Option<T>) -> PyResult<T> {
    of(number).ok_or_else(|| PyValueError::new_err(format!("{what}: {number} is unknown")))
}

fn seconds(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    seconds
        .map(Duration::try_from_secs_f64)
        .transpose()
        .map_err(|failure| PyValueError::new_err(format!("timeout: {failure}")))
}

fn options(raw: RawOptions) -> PyResult<AdminOptions> {
    let all = |numbers: Vec<i32>| numbers.into_iter();
    Ok(AdminOptions {
        request_timeout: seconds(raw.0)?,
        operation_timeout: seconds(raw.1)?,
        validate_only: raw.2,
        broker: raw.3,
        require_stable: raw.4,
        authorized_operations: raw.5,
        states: all(raw.6)
            .map(|n| number("state", n, GroupState::from_number))
            .collect::<PyResult<_>>()?,
        types: all(raw.7)
            .map(|n| number("type", n, GroupType::from_number))
            .collect::<PyResult<_>>()?,
        isolation: raw.8.map(|level| match level {
            0 => IsolationLevel::ReadUncommitted,
            _ => IsolationLevel::ReadCommitted,
        }),
    })
}

fn places(parts: Vec<Part>) -> Vec<PartitionOffset> {
    let place = |(topic, partition, offset, metadata, leader_epoch): Part| PartitionOffset {
        metadata,
        leader_epoch,
        ..PartitionOffset::new(topic, partition, offset)
    };
    parts.into_iter().map(place).collect()
}

fn resources(raw: Vec<RawConfig>) -> PyResult<Vec<ConfigResource>> {
    raw.into_iter()
        .map(|(kind, name, settings)| {
            let setting = |(name, value, operation)| {
                let operation = number("operation", operation, AlterOperation::from_number)?;
                PyResult::Ok((name, value, operation))
            };
            Ok(ConfigResource {
                kind: number("restype", kind, ResourceType::from_number)?,
                name,
                settings: settings.into_iter().map(setting).collect::<PyResult<_>>()?,
            })
        })
        .collect()
}

fn acl(raw: RawAcl) -> PyResult<Acl> {
    Ok(Acl {
        kind: number("restype", raw.0, ResourceType::from_number)?,
        name: raw.1,
        pattern: number("resource_pattern_type", raw.2, PatternType::from_number)?,
        principal: raw.3,
        host: raw.4,
        operation: number("operation", raw.5, AclOperation::from_number)?,
        permission: number("permission_type", raw.6, AclPermission::from_number)?,
    })
}

fn scram(raw: Vec<(String, i32, Option<Upsertion>)>) -> PyResult<Vec<ScramChange>> {
    raw.into_iter()
        .map(|(user, mechanism, upsertion)| {
            let mechanism = number("mechanism", mechanism, ScramMechanism::from_number)?;
            Ok(match upsertion {
                None => ScramChange::Delete { user, mechanism },
                Some((iterations, password, salt)) => ScramChange::Upsert {
                    user,
                    mechanism,
                    iterations,
                    password,
                    salt,
                },
            })
        })
        .collect()
}

type Object<'py> = PyResult<Bound<'py, PyAny>>;

fn object<'py, T: IntoPyObject<'py>>(py: Python<'py>, value: T) -> Object<'py> {
    value
        .into_pyobject(py)
        .map(|value| value.into_bound().into_any())
        .map_err(Into::into)
}

fn rules(acls: &[Acl]) -> Vec<RawAcl> {
    let rule = |acl: &Acl| {
        (
            acl.kind.number(),
            acl.name.clone(),
            acl.pattern.number(),
            acl.principal.clone(),
            acl.host.clone(),
            acl.operation.number(),
            acl.permission.number(),
        )
    };
    acls.iter().map(rule).collect()
}

type RawNode = (i32, String, i32, Option<String>);

fn node(node: Node) -> RawNode {
    (node.id, node.host, node.port, node.rack)
}

fn nodes(all: Vec<Node>) -> Vec<RawNode> {
    all.into_iter().map(node).collect()
}

type RawPlace = (String, i32, i64, Option<String>, Option<i32>, Failure);

fn place(place: PartitionOffset) -> RawPlace {
    let error = place.error.as_ref().map(failure);
    (
        place.topic,
        place.partition,
        place.offset,
        place.metadata,
        place.leader_epoch,
        error,
    )
}

fn all_places(all: Vec<PartitionOffset>) -> Vec<RawPlace> {
    all.into_iter().map(place).collect()
}

/// name, value, source, read-only, default, sensitive, synonym, synonyms.
fn entry<'py>(py: Python<'py>, entry: ConfigEntry) -> Object<'py> {
    let synonyms = entry.synonyms.into_iter().map(|one| self::entry(py, one));
    let synonyms = PyList::new(py, synonyms.collect::<PyResult<Vec<_>>>()?)?;
    let flags = (
        entry.read_only,
        entry.default,
        entry.sensitive,
        entry.synonym,
    );
    object(py, (entry.name, entry.value, entry.source, flags, synonyms))
}

fn topic(topic: TopicDescription) -> impl for<'py> IntoPyObject<'py, Error = PyErr> {
    let partitions: Vec<_> = topic
        .partitions
        .into_iter()
        .map(|one| {
            (
                one.id,
                one.leader.map(node),
                nodes(one.replicas),
                nodes(one.in_sync),
            )
        })
        .collect();
    (
        topic.name,
        topic.id,
        topic.internal,
        partitions,
        topic.operations,
    )
}

fn group(group: GroupDescription) -> impl for<'py> IntoPyObject<'py, Error = PyErr> {
    let members: Vec<_> = group
        .members
        .into_iter()
        .map(|one| {
            let assigned = all_places(one.assignment);
            (
                one.id,
                one.client_id,
                one.host,
                one.instance_id,
                assigned,
                one.target.map(all_places),
            )
        })
        .collect();
    (
        group.group,
        group.simple,
        members,
        group.assignor,
        group.state.number(),
        group.kind.number(),
        group.coordinator.map(node),
        group.operations,
    )
}

fn old_group<'py>(py: Python<'py>, group: OldGroup) -> Object<'py> {
    let members: Vec<_> = group
        .members
        .into_iter()
        .map(|(id, client, host, metadata, assignment)| {
            let (metadata, assignment) =
                (PyBytes::new(py, &metadata), PyBytes::new(py, &assignment));
            (id, client, host, metadata, assignment)
        })
        .collect();
    let error = group.error.as_ref().map(failure);
    let protocol = (group.protocol_type, group.protocol);
    object(
        py,
        (
            group.broker,
            group.group,
            error,
            group.state,
            protocol,
            members,
        ),
    )
}

/// Results by name.
fn named<'py, T, R: IntoPyObject<'py>>(
    py: Python<'py>,
    results: Vec<(String, tidegate::Result<T>)>,
    show: impl Fn(T) -> R,
) -> Object<'py> {
    let results: Vec<_> = results
        .into_iter()
        .map(|(name, result)| {
            let (error, value) = failed(result);
            Ok((
                name,
                error,
                value.map(|value| object(py, show(value))).transpose()?,
            ))
        })
        .collect::<PyResult<_>>()?;
    object(py, results)
}

impl ConfluentAdmin {
    fn core(&self, py: Python<'_>) -> PyResult<Arc<tidegate::Admin>> {
        self.client.get(py, WHAT).cloned()
    }

    /// Has `done` called with what `show` makes of the answer.
    fn when<T: Send + 'static>(
        &self,
        py: Python<'_>,
        done: Py<PyAny>,
        answer: tidegate::Result<Answer<T>>,
        show: impl for<'py> FnOnce(Python<'py>, T) -> Object<'py> + Send + 'static,
    ) -> PyResult<()> {
        let answer = answer.map_err(|error| refused(py, &error))?;
        let keep = self.core(py)?;
        let start = || {
            let (sender, receiver) = unbounded();
            let thread = thread::Builder::new().name("tidegate-answers".into());
            thread.spawn(move || run(&receiver)).ok().map(|_| sender)
        };
        let Some(jobs) = self.answers.get_or_init(start).clone() else {
            return Err(PyRuntimeError::new_err("no thread could be started"));
        };
        answer.then(move |result| {
            let job: Job = Box::new(move |py| {
                let arguments = match result {
                    Ok(value) => show(py, value).map(|value| (value, py.None().into_bound(py))),
                    Err(error) => {
                        object(py, failure(&error)).map(|error| (py.None().into_bound(py), error))
                    }
                };
                let called = arguments
                    .and_then(|arguments| PyTuple::new(py, [arguments.0, arguments.1]))
                    .and_then(|arguments| done.bind(py).call1(arguments));
                if let Err(raised) = called {
                    raised.write_unraisable(py, Some(done.bind(py)));
                }
                // The client may end with its last request; its threads may want the interpreter meanwhile.
                py.detach(move || drop(keep));
            });
            // Nobody takes it when the interpreter has gone.
            if let Err(unsent) = jobs.send(job) {
                std::mem::forget(unsent);
            }
        });
        Ok(())
    }
}

#[pymethods]
impl ConfluentAdmin {
    #[new]
    #[pyo3(signature = (config, oauth_token=None, events=false, log=false))]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        oauth_token: Option<&Bound<'_, PyAny>>,
        events: bool,
        log: bool,
    ) -> PyResult<ConfluentAdmin> {
        let config = args::config(config)?.servers_may_miss();
        let (config, tokens) = token::provide(config, oauth_token)?;
        let make = || match events {
            true => tidegate::Admin::polled(&config, log),
            false => tidegate::Admin::new(&config),
        };
        let core = py
            .detach(make)
            .map_err(|error| types::raise(py, &error, CLOSED))?;
        if oauth_token.is_some() {
            types::wait_for_token(py, &tokens)?;
        }
        Ok(ConfluentAdmin {
            client: Owned::new(Arc::new(core)),
            answers: OnceLock::new(),
        })
    }

    /// Makes a request; `done(result, None)` or `done(None, (code, sentence))` is called with its answer.
    fn ask(
        &self,
        py: Python<'_>,
        what: &str,
        request: &Bound<'_, PyAny>,
        options: RawOptions,
        done: Py<PyAny>,
    ) -> PyResult<()> {
        let core = self.core(py)?;
        let o = self::options(options)?;
        let r = request;
        match what {
            "create_topics" => {
                type Raw = Vec<(String, i32, i32, Brokers, Vec<(String, String)>)>;
                let topic = |(name, partitions, replication, assignment, config)| NewTopic {
                    name,
                    partitions,
                    replication,
                    assignment,
                    config: Vec::into_iter(config).collect(),
                };
                let topics: Vec<_> = r.extract::<Raw>()?.into_iter().map(topic).collect();
                let answer = core.start_create_topics(&topics, &o);
                self.when(py, done, answer, |py, all| named(py, all, |()| ()))
            }
            "delete_topics" => {
                let answer = core.start_delete_topics(&r.extract::<Vec<String>>()?, &o);
                self.when(py, done, answer, |py, all| named(py, all, |()| ()))
            }
            "create_partitions" => {
                let new = |(topic, total, assignment)| NewPartitions {
                    topic,
                    total,
                    assignment,
                };
                let topics: Vec<(String, i32, Brokers)> = r.extract()?;
                let topics: Vec<_> = topics.into_iter().map(new).collect();
                let answer = core.create_partitions(&topics, &o);
                self.when(py, done, answer, |py, all| named(py, all, |()| ()))
            }
            "describe_topics" => {
                let answer = core.describe_topics(&r.extract::<Vec<String>>()?, &o);
                self.when(py, done, answer, |py, all| named(py, all, topic))
            }
            "describe_cluster" => self.when(py, done, core.describe_cluster(&o), |py, cluster| {
                let nodes = nodes(cluster.nodes);
                object(
                    py,
                    (
                        cluster.id,
                        cluster.controller.map(node),
                        nodes,
                        cluster.operations,
                    ),
                )
            }),
            "delete_records" => {
                let answer = core.delete_records(&places(r.extract()?), &o);
                self.when(py, done, answer, |py, all| object(py, all_places(all)))
            }
            "list_offsets" => {
                let answer = core.list_offsets(&places(r.extract()?), &o);
                self.when(py, done, answer, |py, all| {
                    let one = |(at, outcome)| {
                        let (error, found) = failed::<(i64, i64)>(outcome);
                        (place(at), error, found)
                    };
                    object(py, all.into_iter().map(one).collect::<Vec<_>>())
                })
            }
            "elect_leaders" => {
                let (kind, wanted): (i32, Option<Vec<Part>>) = r.extract()?;
                let kind = number("election_type", kind, ElectionType::from_number)?;
                let wanted = wanted.map(places);
                let answer = core.elect_leaders(kind, wanted.as_deref(), &o);
                self.when(py, done, answer, |py, all| object(py, all_places(all)))
            }
            "describe_configs" | "alter_configs" | "incremental_alter_configs" => {
                let resources = resources(r.extract()?)?;
                let answer = match what {
                    "describe_configs" => core.describe_configs(&resources, &o),
                    "alter_configs" => core.alter_configs(&resources, &o),
                    _ => core.incremental_alter_configs(&resources, &o),
                };
                self.when(py, done, answer, |py, all| {
                    let one = |(kind, name, outcome): (ResourceType, String, _)| {
                        let (error, entries) = failed::<Vec<ConfigEntry>>(outcome);
                        let entries = entries.unwrap_or_default().into_iter();
                        let entries = entries.map(|one| entry(py, one));
                        let entries = entries.collect::<PyResult<Vec<_>>>()?;
                        PyResult::Ok((kind.number(), name, error, entries))
                    };
                    object(py, all.into_iter().map(one).collect::<PyResult<Vec<_>>>()?)
                })
            }
            "list_consumer_groups" => {
                self.when(py, done, core.list_groups(&o), |py, (groups, errors)| {
                    let group = |one: tidegate::admin::GroupListing| {
                        (one.group, one.simple, one.state.number(), one.kind.number())
                    };
                    let groups: Vec<_> = groups.into_iter().map(group).collect();
                    object(py, (groups, errors.iter().map(failure).collect::<Vec<_>>()))
                })
            }
            "describe_consumer_groups" => {
                let answer = core.describe_groups(&r.extract::<Vec<String>>()?, &o);
                self.when(py, done, answer, |py, all| named(py, all, group))
            }
            "delete_consumer_groups" => {
                let answer = core.delete_groups(&r.extract::<Vec<String>>()?, &o);
                self.when(py, done, answer, |py, all| named(py, all, |()| ()))
            }
            "list_consumer_group_offsets" => {
                let (group, wanted): (String, Option<Vec<Part>>) = r.extract()?;
                let wanted = wanted.map(places);
                let answer = core.group_offsets(&group, wanted.as_deref(), &o);
                self.when(py, done, answer, |py, all| named(py, all, all_places))
            }
            "alter_consumer_group_offsets" => {
                let (group, offsets): (String, Vec<Part>) = r.extract()?;
                let answer = core.alter_group_offsets(&group, &places(offsets), &o);
                self.when(py, done, answer, |py, all| named(py, all, all_places))
            }
            "create_acls" => {
                let acls: Vec<RawAcl> = r.extract()?;
                let acls = acls.into_iter().map(acl).collect::<PyResult<Vec<_>>>()?;
                self.when(py, done, core.create_acls(&acls, &o), |py, all| {
                    let errors = all.into_iter().map(|one| failed(one).0);
                    object(py, errors.collect::<Vec<_>>())
                })
            }
            "describe_acls" => {
                let answer = core.describe_acls(&acl(r.extract()?)?, &o);
                self.when(py, done, answer, |py, all| object(py, rules(&all)))
            }
            "delete_acls" => {
                let filters: Vec<RawAcl> = r.extract()?;
                let filters = filters.into_iter().map(acl).collect::<PyResult<Vec<_>>>()?;
                self.when(py, done, core.delete_acls(&filters, &o), |py, all| {
                    let one = |one| {
                        let (error, deleted) = failed::<Vec<Acl>>(one);
                        (error, deleted.map(|deleted| rules(&deleted)))
                    };
                    object(py, all.into_iter().map(one).collect::<Vec<_>>())
                })
            }
            "describe_user_scram_credentials" => {
                let answer = core.describe_scram(&r.extract::<Vec<String>>()?, &o);
                self.when(py, done, answer, |py, all| {
                    named(py, all, |infos: Vec<(ScramMechanism, i32)>| {
                        let info =
                            |(mechanism, count): (ScramMechanism, _)| (mechanism.number(), count);
                        infos.into_iter().map(info).collect::<Vec<_>>()
                    })
                })
            }
            "alter_user_scram_credentials" => {
                let answer = core.alter_scram(&scram(r.extract()?)?, &o);
                self.when(py, done, answer, |py, all| named(py, all, |()| ()))
            }
            other => Err(PyValueError::new_err(format!(
                "what: no request is called '{other}'"
            ))),
        }
    }

    /// What was said since the last call, each with the name of its callback.
    fn take_events<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let events = self.core(py)?.take_events();
        let told = events
            .into_iter()
            .filter_map(|event| events::told(py, event).transpose());
        told.collect()
    }

    /// Waits until an event waits, or so many seconds.
    fn wait_events(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let core = self.core(py)?;
        let until = deadline(Some(patience(seconds)));
        loop {
            let slice = slice_until(until);
            let came = py
                .detach(|| core.wait_events(slice))
                .map_err(|error| types::raise(py, &error, CLOSED))?;
            py.check_signals()?;
            if came || slice.is_zero() {
                return Ok(came);
            }
        }
    }

    fn metadata<'py>(&self, py: Python<'py>, topic: Option<String>, timeout: f64) -> Object<'py> {
        let (core, timeout) = (self.core(py)?, patience(timeout));
        let topic = cluster::topic(topic)?;
        let told = blocking(py, move || core.metadata(topic.as_deref(), timeout))?;
        cluster::metadata(py, &told.map_err(|error| answered(py, &error))?)
    }

    fn cluster_id(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<String>> {
        let (core, timeout) = (self.core(py)?, patience(timeout));
        Ok(blocking(py, move || core.cluster_id(timeout))?.ok())
    }

    fn list_groups<'py>(
        &self,
        py: Python<'py>,
        group: Option<String>,
        timeout: f64,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let (core, timeout) = (self.core(py)?, patience(timeout));
        let groups = blocking(py, move || core.list_all_groups(group.as_deref(), timeout))?;
        let groups = groups.map_err(|error| answered(py, &error))?;
        groups
            .into_iter()
            .map(|group| old_group(py, group))
            .collect()
    }

    fn set_sasl_credentials(&self, py: Python<'_>, username: &str, password: &str) -> PyResult<()> {
        let set = self.core(py)?.set_sasl_credentials(username, password);
        set.map_err(|error| types::raise(py, &error, CLOSED))
    }
}

/// A timeout in seconds; a negative one waits for ever.
fn patience(seconds: f64) -> Duration {
    if seconds < 0.0 {
        return args::FOREVER;
    }
    Duration::try_from_secs_f64(seconds).unwrap_or(args::FOREVER)
}

/// The exception of a call that waited: code and sentence as they are.
fn answered(py: Python<'_>, error: &Error) -> PyErr {
    let (code, reason) = failure(error);
    types::refused(py, code, &reason)
}
