"""`AdminClient`: every request answers with futures.

A request is checked on the calling thread and handed to the native client; its answer comes on one thread per client, which fills
the futures in. No request takes a thread of its own. A request that is under way keeps its client alive.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeAlias

from tidegate.confluent._errors import KafkaError, KafkaException, as_int32
from tidegate.confluent._model import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ConsumerGroupType,
    ElectionType,
    IsolationLevel,
    TopicCollection,
    TopicPartitionInfo,
)
from tidegate.confluent._types import TopicPartition, Uuid
from tidegate.confluent.admin import _checks as check
from tidegate.confluent.admin._acl import AclBinding, AclBindingFilter
from tidegate.confluent.admin._config import ConfigEntry, ConfigResource
from tidegate.confluent.admin._handle import Handle, refuses_when_closed
from tidegate.confluent.admin._listoffsets import OffsetSpec
from tidegate.confluent.admin._new import NewPartitions, NewTopic
from tidegate.confluent.admin._results import (
    BrokerMetadata,
    ClusterMetadata,
    ConsumerGroupDescription,
    ConsumerGroupListing,
    DeletedRecords,
    DescribeClusterResult,
    GroupMember,
    GroupMetadata,
    ListConsumerGroupsResult,
    ListOffsetsResultInfo,
    MemberAssignment,
    MemberDescription,
    TopicDescription,
    failure,
    node,
    places,
)
from tidegate.confluent.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialsDescription,
)

_Futures: TypeAlias = dict[Any, "Future[Any]"]
_NO_OPERATIONS: list[Any] = []


def _future() -> Future[Any]:
    future: Future[Any] = Future()
    # As in the original: a request that was made cannot be cancelled.
    future.set_running_or_notify_cancel()
    return future


def _settle(future: Future[Any], error: tuple[int, str] | None, value: Any = None) -> None:
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(KafkaException(KafkaError(*error)))


def _part(place: TopicPartition) -> tuple[str, int, int, str | None, int | None]:
    return place.topic, place.partition, place.offset, place.metadata, place.leader_epoch


def _acl(acl: AclBinding) -> tuple[Any, ...]:
    return (
        acl.restype_int,
        acl.name,
        acl.resource_pattern_type_int,
        acl.principal,
        acl.host,
        acl.operation_int,
        acl.permission_type_int,
    )


@refuses_when_closed
class AdminClient(Handle):
    """Administration of a cluster.

    Args:
        conf: the configuration; `bootstrap.servers` is all it needs. Names of librdkafka and of the Java client. `error_cb`,
            `stats_cb`, `throttle_cb` and `logger` are called inside of `poll()`, `oauth_cb` on a thread of the client's.
        kwargs: more of it.

    Requests return a `concurrent.futures.Future`, or a dict of them by what was asked for; what fails raises KafkaException from
    `result()`. `request_timeout` is the time for the whole request in seconds, `operation_timeout` the time the broker may take
    until what was asked for is done everywhere; by default `socket.timeout.ms`.

    Raises:
        TypeError: `conf` is no dict.
        KafkaException: a property is wrong; the text names each, and what to write instead.
    """

    def __init__(self, conf: dict[str, Any], **kwargs: Any) -> None:
        if not isinstance(conf, dict):
            raise TypeError(f"expected configuration dict, not {type(conf).__name__}")
        self._open(conf, kwargs)

    def _ask(
        self, what: str, request: Any, options: check.Options, futures: Iterable[Future[Any]], show: Callable[[Any], None]
    ) -> None:
        """Makes a request. `show` settles the futures; those it leaves fail, as all of them do when the request failed."""
        waiting = list(futures)

        def done(result: Any, error: tuple[int, str] | None) -> None:
            if error is None:
                try:
                    show(result)
                except Exception as raised:
                    for future in waiting:
                        if not future.done():
                            future.set_exception(raised)
                error = (KafkaError._FAIL, f"{what}: the answer does not tell about this one")
            for future in waiting:
                if not future.done():
                    _settle(future, error)

        self._native.ask(what, request, options, done)

    def _named(
        self, what: str, names: list[str], request: Any, options: check.Options, show: Callable[[str, Any], Any]
    ) -> dict[str, Future[Any]]:
        """A request with a result for each name."""
        futures = {name: _future() for name in names}

        def shown(results: Any) -> None:
            for name, error, value in results:
                if name in futures and not futures[name].done():
                    _settle(futures[name], error, None if error else show(name, value))

        self._ask(what, request, options, futures.values(), shown)
        return futures

    def _nothing(self, _name: str, _value: Any) -> None:
        return None

    def create_topics(
        self,
        new_topics: list[NewTopic],
        *,
        operation_timeout: float | None = None,
        request_timeout: float = check.DEFAULT,
        validate_only: bool = False,
    ) -> dict[str, Future[Any]]:
        """Create topics; each future gives None.

        Raises:
            ValueError, TypeError: a topic that cannot be asked for; then none is created.
        """
        names = [topic.topic for topic in new_topics]
        check.not_empty(new_topics, "NewTopic objects")
        request = []
        for topic in new_topics:
            assignment: list[list[int]] = []
            if topic.replica_assignment is not None:
                if topic.replication_factor != -1:
                    raise ValueError("replication_factor and replica_assignment are mutually exclusive")
                assignment = check.assignment(topic.replica_assignment, topic.num_partitions, "num_partitions")
            config = [(str(name), str(value)) for name, value in (topic.config or {}).items()]
            request.append((topic.topic, topic.num_partitions, topic.replication_factor, assignment, config))
        options = check.options(request_timeout, operation_timeout, validate_only)
        return self._named("create_topics", names, request, options, self._nothing)

    def delete_topics(
        self, topics: list[str], *, operation_timeout: float | None = None, request_timeout: float = check.DEFAULT
    ) -> dict[str, Future[Any]]:
        """Delete topics and everything in them; each future gives None."""
        if not isinstance(topics, list):
            raise TypeError(f"topics must be list, not {type(topics).__name__}")
        check.not_empty(topics, "topic strings")
        if None in topics:
            raise ValueError("Expected list of topic strings, not NoneType")
        names = [str(topic) for topic in topics]
        return self._named("delete_topics", names, names, check.options(request_timeout, operation_timeout), self._nothing)

    def create_partitions(
        self,
        new_partitions: list[NewPartitions],
        *,
        operation_timeout: float | None = None,
        request_timeout: float = check.DEFAULT,
        validate_only: bool = False,
    ) -> dict[str, Future[Any]]:
        """Give topics more partitions; each future gives None."""
        names = [new.topic for new in new_partitions]
        check.not_empty(new_partitions, "NewPartitions objects")
        outer = "new_total_count - existing partition count"
        request = [
            (
                new.topic,
                new.new_total_count,
                [] if new.replica_assignment is None else check.assignment(new.replica_assignment, None, outer),
            )
            for new in new_partitions
        ]
        options = check.options(request_timeout, operation_timeout, validate_only)
        return self._named("create_partitions", names, request, options, self._nothing)

    def describe_topics(
        self, topics: TopicCollection, *, include_authorized_operations: bool = False, request_timeout: float = check.DEFAULT
    ) -> dict[str, Future[Any]]:
        """Describe topics; each future gives a TopicDescription."""
        if not isinstance(topics, TopicCollection):
            raise TypeError("Expected input to be instance of TopicCollection")
        if not isinstance(topics.topic_names, list):
            raise TypeError("Expected list of topic names to be described")
        names = check.names(topics.topic_names, "topics")
        for index, name in enumerate(names):
            if not name:
                raise ValueError(f"Empty topic name at index {index} isn't allowed")
        options = check.options(request_timeout, include_authorized_operations=include_authorized_operations)
        if not names:
            return {}

        def show(_name: str, told: Any) -> TopicDescription:
            name, (most, least), internal, partitions, operations = told
            parts = [
                TopicPartitionInfo(number, node(leader), list(map(node, replicas)), list(map(node, isr)))  # type: ignore[arg-type]
                for number, leader, replicas, isr in partitions
            ]
            return TopicDescription(name, Uuid(most, least), internal, parts, operations)

        return self._named("describe_topics", names, names, options, show)

    def describe_cluster(
        self, *, include_authorized_operations: bool = False, request_timeout: float = check.DEFAULT
    ) -> Future[DescribeClusterResult]:
        """Describe the cluster."""
        options = check.options(request_timeout, include_authorized_operations=include_authorized_operations)
        future = _future()

        def show(told: Any) -> None:
            cluster, controller, nodes, operations = told
            brokers = [one for one in map(node, nodes) if one is not None]
            future.set_result(DescribeClusterResult(node(controller), brokers, cluster, operations))

        self._ask("describe_cluster", None, options, [future], show)
        return future

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        """Brokers, topics and partitions, of one topic or of all; waits up to `timeout` seconds, -1 for ever.

        Raises:
            KafkaException: no broker answered in time.
        """
        told: ClusterMetadata = self._native.metadata(_maybe(topic), _waiting(timeout))
        return told

    def list_groups(self, group: str | None = None, timeout: float = -1) -> list[GroupMetadata]:
        """Groups of every protocol type, one or all; waits up to `timeout` seconds, -1 for ever."""
        instead = "list_groups() is deprecated, use list_consumer_groups() and describe_consumer_groups() instead."
        warnings.warn(instead, DeprecationWarning, stacklevel=3)
        groups = []
        for broker, name, error, state, protocol, members in self._native.list_groups(_maybe(group), _waiting(timeout)):
            one = GroupMetadata()
            one.broker, one.id, one.error, one.state = _broker(broker), name, failure(error), state
            one.protocol_type, one.protocol = protocol
            for told in members:
                member = GroupMember()
                member.id, member.client_id, member.client_host, member.metadata, member.assignment = told
                one.members.append(member)
            groups.append(one)
        return groups

    def cluster_id(self, timeout: float = -1) -> str:
        """The cluster's id; waits up to `timeout` seconds, -1 for ever."""
        found: str | None = self._native.cluster_id(_waiting(timeout))
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"No broker told the cluster's id within {timeout} seconds"))
        return found

    def describe_configs(
        self, resources: list[ConfigResource], *, request_timeout: float = check.DEFAULT, broker: int = -1
    ) -> dict[ConfigResource, Future[Any]]:
        """Read configurations; each future gives a dict of names to ConfigEntry. One resource of type broker per call."""
        request = [(one.restype_int, str(one.name), _NO_OPERATIONS) for one in _all(resources, ConfigResource, ValueError)]
        return self._configs("describe_configs", resources, request, check.options(request_timeout, broker=broker))

    def alter_configs(
        self,
        resources: list[ConfigResource],
        *,
        request_timeout: float = check.DEFAULT,
        validate_only: bool = False,
        broker: int = -1,
    ) -> dict[ConfigResource, Future[Any]]:
        """Replace configurations: what is not set goes back to its default. Deprecated: incremental_alter_configs."""
        warnings.warn("alter_configs has been deprecated. Use incremental_alter_configs instead.", DeprecationWarning, stacklevel=3)
        request = []
        for one in _all(resources, ConfigResource, ValueError):
            settings = [(str(name), None if value is None else str(value), 0) for name, value in one.set_config_dict.items()]
            request.append((one.restype_int, str(one.name), settings))
        options = check.options(request_timeout, validate_only=validate_only, broker=broker)
        return self._configs("alter_configs", resources, request, options)

    def incremental_alter_configs(
        self,
        resources: list[ConfigResource],
        *,
        request_timeout: float = check.DEFAULT,
        validate_only: bool = False,
        broker: int = -1,
    ) -> dict[ConfigResource, Future[Any]]:
        """Alter single settings, those in `incremental_configs`; each future gives a dict that is empty."""
        request = []
        for one in _all(resources, ConfigResource, TypeError):
            entries = one.incremental_configs
            if not entries:
                raise ValueError("expected non-empty list of ConfigEntry to alter incrementally in incremental_configs field")
            settings = [check.incremental(entry, index) for index, entry in enumerate(entries)]
            request.append((one.restype_int, str(one.name), settings))
        options = check.options(request_timeout, validate_only=validate_only, broker=broker)
        return self._configs("incremental_alter_configs", resources, request, options)

    def _configs(
        self, what: str, resources: list[ConfigResource], request: Any, options: check.Options
    ) -> dict[ConfigResource, Future[Any]]:
        check.not_empty(resources, "ConfigResource objects")
        futures = {resource: _future() for resource in resources}

        def show(results: Any) -> None:
            for kind, name, error, entries in results:
                future = futures.get(ConfigResource(kind, name))
                if future is not None and not future.done():
                    _settle(future, error, {entry[0]: _entry(entry) for entry in entries})

        self._ask(what, request, options, futures.values(), show)
        return futures

    def create_acls(self, acls: list[AclBinding], *, request_timeout: float = check.DEFAULT) -> dict[AclBinding, Future[Any]]:
        """Create access rules; each future gives None."""
        request = [_acl(acl) for acl in _unique(acls, AclBinding, "ACL bindings")]
        check.not_empty(acls, "AclBinding objects")
        futures = [_future() for _ in acls]

        def show(errors: Any) -> None:
            for future, error in zip(futures, errors, strict=True):
                _settle(future, error)

        self._ask("create_acls", request, check.options(request_timeout), futures, show)
        return dict(zip(acls, futures, strict=True))

    def describe_acls(
        self, acl_binding_filter: AclBindingFilter, *, request_timeout: float = check.DEFAULT
    ) -> Future[list[AclBinding]]:
        """The access rules that match."""
        if not isinstance(acl_binding_filter, AclBindingFilter):
            raise TypeError("Expected an AclBindingFilter object")
        future = _future()

        def show(rules: Any) -> None:
            future.set_result([AclBinding(*rule) for rule in rules])

        self._ask("describe_acls", _acl(acl_binding_filter), check.options(request_timeout), [future], show)
        return future

    def delete_acls(
        self, acl_binding_filters: list[AclBindingFilter], *, request_timeout: float = check.DEFAULT
    ) -> dict[AclBindingFilter, Future[Any]]:
        """Delete the access rules that match; each future gives a list of those deleted."""
        request = [_acl(acl) for acl in _unique(acl_binding_filters, AclBindingFilter, "ACL binding filters")]
        check.not_empty(acl_binding_filters, "AclBindingFilter objects")
        futures = [_future() for _ in acl_binding_filters]

        def show(results: Any) -> None:
            for future, (error, rules) in zip(futures, results, strict=True):
                _settle(future, error, [AclBinding(*rule) for rule in rules or ()])

        self._ask("delete_acls", request, check.options(request_timeout), futures, show)
        return dict(zip(acl_binding_filters, futures, strict=True))

    def list_consumer_groups(
        self,
        *,
        states: set[ConsumerGroupState] | None = None,
        types: set[ConsumerGroupType] | None = None,
        request_timeout: float = check.DEFAULT,
    ) -> Future[ListConsumerGroupsResult]:
        """List consumer groups, all or those in these states and of these types."""
        options = check.options(
            request_timeout,
            states=_members("states", states, ConsumerGroupState),
            types=_members("types", types, ConsumerGroupType),
        )
        future = _future()

        def show(told: Any) -> None:
            groups, errors = told
            future.set_result(
                ListConsumerGroupsResult(
                    [ConsumerGroupListing(*group) for group in groups],
                    [KafkaException(KafkaError(*error)) for error in errors],
                )
            )

        self._ask("list_consumer_groups", None, options, [future], show)
        return future

    def describe_consumer_groups(
        self, group_ids: list[str], *, include_authorized_operations: bool = False, request_timeout: float = check.DEFAULT
    ) -> dict[str, Future[Any]]:
        """Describe consumer groups; each future gives a ConsumerGroupDescription."""
        if not isinstance(group_ids, list):
            raise TypeError("Expected input to be list of group ids to be described")
        if not group_ids:
            raise ValueError("Expected at least one group to be described")
        names = check.names(group_ids, "group ids")
        options = check.options(request_timeout, include_authorized_operations=include_authorized_operations)

        def member(told: Any) -> MemberDescription:
            name, client, host, instance, assigned, target = told
            shall = None if target is None else MemberAssignment(places(target))
            return MemberDescription(name, client, host, MemberAssignment(places(assigned)), instance, shall)

        def show(_name: str, told: Any) -> ConsumerGroupDescription:
            name, simple, members, assignor, state, kind, coordinator, operations = told
            described = [member(one) for one in members]
            return ConsumerGroupDescription(name, simple, described, assignor, state, node(coordinator), operations, kind)

        return self._named("describe_consumer_groups", names, names, options, show)

    def delete_consumer_groups(self, group_ids: list[str], *, request_timeout: float = check.DEFAULT) -> dict[str, Future[Any]]:
        """Delete consumer groups without members; each future gives None."""
        if not isinstance(group_ids, list):
            raise TypeError("Expected input to be list of group ids to be deleted")
        if not group_ids:
            raise ValueError("Expected at least one group to be deleted")
        if not all(isinstance(group, str) for group in group_ids):
            raise ValueError("Expected list of strings")
        options = check.options(request_timeout)
        return self._named("delete_consumer_groups", group_ids, group_ids, options, self._nothing)

    def list_consumer_group_offsets(
        self,
        list_consumer_group_offsets_request: list[ConsumerGroupTopicPartitions],
        *,
        require_stable: bool = False,
        request_timeout: float = check.DEFAULT,
    ) -> dict[str, Future[Any]]:
        """A group's committed offsets, of some partitions or of all; the future gives a ConsumerGroupTopicPartitions."""
        wanted = check.listed_offsets(list_consumer_group_offsets_request)
        parts = wanted.topic_partitions
        request = (wanted.group_id, None if parts is None else [_part(place) for place in parts])
        options = check.options(request_timeout, require_stable=require_stable)
        return self._named("list_consumer_group_offsets", [wanted.group_id], request, options, _offsets)

    def alter_consumer_group_offsets(
        self, alter_consumer_group_offsets_request: list[ConsumerGroupTopicPartitions], *, request_timeout: float = check.DEFAULT
    ) -> dict[str, Future[Any]]:
        """Set committed offsets of a group without members; the future gives a ConsumerGroupTopicPartitions."""
        wanted = check.altered_offsets(alter_consumer_group_offsets_request)
        request = (wanted.group_id, [_part(place) for place in wanted.topic_partitions or ()])
        options = check.options(request_timeout)
        return self._named("alter_consumer_group_offsets", [wanted.group_id], request, options, _offsets)

    def describe_user_scram_credentials(
        self, users: list[str] | None = None, *, request_timeout: float = check.DEFAULT
    ) -> Future[Any] | dict[str, Future[Any]]:
        """SCRAM credentials: a future of a dict for all users (None), or a future for each user named."""
        check.scram_users(users)
        options = check.options(request_timeout)

        def show(name: str, infos: Any) -> UserScramCredentialsDescription:
            known = [ScramCredentialInfo(ScramMechanism(mechanism), iterations) for mechanism, iterations in infos]
            return UserScramCredentialsDescription(name, known)

        what = "describe_user_scram_credentials"
        if users is not None:
            return self._named(what, users, users, options, show) if users else {}
        future = _future()

        def show_all(results: Any) -> None:
            for _, error, _ in results:
                if error is not None:
                    raise KafkaException(KafkaError(*error))
            future.set_result({name: show(name, infos) for name, _, infos in results})

        self._ask(what, [], options, [future], show_all)
        return future

    def alter_user_scram_credentials(
        self, alterations: list[UserScramCredentialAlteration], *, request_timeout: float = check.DEFAULT
    ) -> dict[str, Future[Any]]:
        """Make, replace and remove SCRAM credentials; each user's future gives None."""
        if not isinstance(alterations, list):
            raise TypeError("Expected input to be list")
        if not alterations:
            raise ValueError("Expected at least one alteration")
        request = [check.scram_change(change) for change in alterations]
        users = [change.user for change in alterations]
        options = check.options(request_timeout)
        return self._named("alter_user_scram_credentials", users, request, options, self._nothing)

    def list_offsets(
        self,
        topic_partition_offsets: dict[TopicPartition, OffsetSpec],
        *,
        isolation_level: IsolationLevel | None = None,
        request_timeout: float = check.DEFAULT,
    ) -> dict[TopicPartition, Future[Any]]:
        """Offsets of partitions: the ends, or at a time; each future gives a ListOffsetsResultInfo."""
        if not isinstance(topic_partition_offsets, dict):
            raise TypeError("Expected topic_partition_offsets to be dict of [TopicPartitions,OffsetSpec] for list offsets request")
        wanted = []
        for place, spec in topic_partition_offsets.items():
            if not isinstance(place, TopicPartition):
                raise TypeError("partition must be a TopicPartition")
            if not place.topic:
                raise ValueError("partition topic name cannot be empty")
            if place.partition < 0:
                raise ValueError("partition index must be non-negative")
            if not isinstance(spec, OffsetSpec):
                raise TypeError("Value must be a OffsetSpec")
            wanted.append(TopicPartition(place.topic, place.partition, int(spec._value)))
        if isolation_level is not None and not isinstance(isolation_level, IsolationLevel):
            raise TypeError("isolation_level argument should be an IsolationLevel")
        level = None if isolation_level is None else isolation_level.value
        options = check.options(request_timeout, isolation=level)
        if not wanted:
            return {}
        futures = {place: _future() for place in wanted}

        def show(results: Any) -> None:
            for place, error, found in results:
                future = futures.get(TopicPartition(place[0], place[1]))
                if future is not None and not future.done():
                    offset, timestamp = found or (0, 0)
                    epoch = -1 if place[4] is None else place[4]
                    _settle(future, error, ListOffsetsResultInfo(offset, timestamp, epoch))

        self._ask("list_offsets", [_part(place) for place in wanted], options, futures.values(), show)
        return futures

    def delete_records(
        self,
        topic_partition_offsets: list[TopicPartition],
        *,
        request_timeout: float = check.DEFAULT,
        operation_timeout: float | None = None,
    ) -> dict[TopicPartition, Future[Any]]:
        """Delete the records before these offsets; OFFSET_END deletes all. Each future gives DeletedRecords."""
        if not isinstance(topic_partition_offsets, list):
            raise TypeError(f"Expected Request to be a list, got '{type(topic_partition_offsets).__name__}'")
        _check_places(topic_partition_offsets, "the request list")
        options = check.options(request_timeout, operation_timeout)
        if not topic_partition_offsets:
            return {}
        futures = {place: _future() for place in topic_partition_offsets}

        def show(results: Any) -> None:
            for place in places(results):
                future = futures.get(place)
                if future is not None and not future.done():
                    if place.error is None:
                        future.set_result(DeletedRecords(place.offset))
                    else:
                        future.set_exception(KafkaException(place.error))

        request = [_part(place) for place in topic_partition_offsets]
        self._ask("delete_records", request, options, futures.values(), show)
        return futures

    def elect_leaders(
        self,
        election_type: ElectionType,
        partitions: list[TopicPartition] | None = None,
        *,
        request_timeout: float = check.DEFAULT,
        operation_timeout: float | None = None,
    ) -> Future[dict[TopicPartition, KafkaError | None]]:
        """Elect leaders of these partitions, or of all; the future gives a dict of partitions to KafkaError or None."""
        if not isinstance(election_type, ElectionType):
            raise TypeError("Expected 'election_type' to be of type 'ElectionType'")
        if partitions is not None:
            if not isinstance(partitions, list):
                raise TypeError(f"Expected 'partitions' to be a list, got '{type(partitions).__name__}'")
            _check_places(partitions, "the 'partitions' list")
        options = check.options(request_timeout, operation_timeout)
        future = _future()

        def show(results: Any) -> None:
            future.set_result({place: place.error for place in places(results)})

        wanted = None if partitions is None else [_part(place) for place in partitions]
        self._ask("elect_leaders", (election_type.value, wanted), options, [future], show)
        return future


def _offsets(group: str, offsets: Any) -> ConsumerGroupTopicPartitions:
    return ConsumerGroupTopicPartitions(group, places(offsets))


def _broker(told: Any) -> BrokerMetadata:
    broker = BrokerMetadata()
    broker.id, broker.host, broker.port = told
    return broker


def _entry(told: Any) -> ConfigEntry:
    name, value, source, flags, synonyms = told
    known = {synonym[0]: _entry(synonym) for synonym in synonyms}
    read_only, default, sensitive, synonym = flags
    return ConfigEntry(name, value, source, read_only, default, sensitive, synonym, known)


def _check_places(partitions: list[Any], where: str) -> None:
    for place in partitions:
        if not isinstance(place, TopicPartition):
            raise TypeError(f"Element of {where} must be of type 'TopicPartition' got '{type(place).__name__}'")
        if place.partition < 0:
            raise ValueError(f"Elements of {where} must not have negative value for 'partition' field")


def _all(things: list[Any], kind: type, error: type[Exception]) -> list[Any]:
    for thing in things:
        if not isinstance(thing, kind):
            raise error(f"Expected list of {kind.__name__}, not {type(thing).__name__}")
    return list(things)


def _unique(things: list[Any], kind: type, what: str) -> list[Any]:
    if len(set(things)) < len(things):
        raise ValueError(f"duplicate {what} not allowed")
    return _all(things, kind, ValueError)


def _members(name: str, members: Any, kind: type) -> list[int] | None:
    if members is None:
        return None
    if not isinstance(members, set):
        raise TypeError(f"'{name}' must be a set")
    if not all(isinstance(member, kind) for member in members):
        raise TypeError(f"All elements of {name} must be of type {kind.__name__}")
    return [as_int32(member.value) for member in members]


def _maybe(name: Any) -> str | None:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"argument 1 must be str or None, not {type(name).__name__}")
    return name


def _waiting(timeout: Any) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout: must be real number, not {type(timeout).__name__}; give seconds")
    return float(timeout)
