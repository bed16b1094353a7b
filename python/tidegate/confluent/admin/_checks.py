"""Checks of what admin requests are given: the original's exception types, with texts that say what to write instead."""

from __future__ import annotations

from typing import Any

from tidegate.confluent._constants import OFFSET_INVALID
from tidegate.confluent._errors import as_int32
from tidegate.confluent._model import ConsumerGroupTopicPartitions
from tidegate.confluent._types import TopicPartition
from tidegate.confluent.admin._config import AlterConfigOpType, ConfigEntry
from tidegate.confluent.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

DEFAULT = float("nan")
"""A timeout that was not given: `socket.timeout.ms`. Every number is one that was."""

_UNSET = -1
_LONGEST_S = 3600.0

Options = tuple[float | None, float | None, bool, int | None, bool, bool, list[int], list[int], int | None]


def timeout(name: str, value: Any) -> float:
    """A timeout in seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: must be real number, not {type(value).__name__}; give seconds")
    if not 0 <= value <= _LONGEST_S:
        raise ValueError(f'Invalid value for "{name}": {value} is not in the range 0..{_LONGEST_S:.0f} seconds')
    return float(value)


def flag(name: str, value: Any) -> bool:
    """A bool, and nothing that merely could be one."""
    if not isinstance(value, bool):
        raise TypeError(f"Expected {name} to be bool type, not {type(value).__name__}")
    return value


def options(
    request_timeout: Any,
    operation_timeout: Any = None,
    validate_only: Any = False,
    broker: Any = _UNSET,
    require_stable: Any = False,
    include_authorized_operations: Any = False,
    states: list[int] | None = None,
    types: list[int] | None = None,
    isolation: int | None = None,
) -> Options:
    """The native options."""
    number = as_int32(broker)
    return (
        None if request_timeout is DEFAULT else timeout("request_timeout", request_timeout),
        None if operation_timeout is None else timeout("operation_timeout", operation_timeout),
        flag("validate_only", validate_only),
        None if number == _UNSET else number,
        flag("require_stable", require_stable),
        flag("include_authorized_operations", include_authorized_operations),
        states or [],
        types or [],
        isolation,
    )


def not_empty(things: Any, what: str) -> None:
    """librdkafka takes no empty list of these."""
    if not things:
        raise ValueError(f"Expected non-empty list of {what}")


def names(things: Any, what: str) -> list[str]:
    """Texts, and nothing else."""
    for thing in things:
        if not isinstance(thing, str):
            raise TypeError(f"Expected {what} to be strings, not {type(thing).__name__}")
    return list(things)


def assignment(brokers: Any, count: int | None, outer: str) -> list[list[int]]:
    """For each partition the brokers that keep it."""
    problem = f"replica_assignment must be a list of int lists with an outer size of {outer}"
    if not isinstance(brokers, list) or (count is not None and len(brokers) != count):
        raise ValueError(problem)
    for ids in brokers:
        if not isinstance(ids, list) or not all(isinstance(broker, int) for broker in ids):
            raise ValueError(problem)
    return brokers


def _requests(requests: Any, doing: str) -> ConsumerGroupTopicPartitions:
    if requests is None:
        raise TypeError("request cannot be None")
    if not isinstance(requests, list):
        raise TypeError("request must be a list")
    if len(requests) != 1:
        raise ValueError(f"Currently we support {doing} offsets for a single consumer group only")
    request = requests[0]
    if not isinstance(request, ConsumerGroupTopicPartitions):
        raise TypeError("Expected list of 'ConsumerGroupTopicPartitions'")
    if request.group_id is None:
        raise TypeError("'group_id' cannot be None")
    if not isinstance(request.group_id, str):
        raise TypeError("'group_id' must be a string")
    if not request.group_id:
        raise ValueError("'group_id' cannot be empty")
    return request


def _places(partitions: Any) -> list[TopicPartition]:
    if not isinstance(partitions, list):
        raise TypeError("'topic_partitions' must be a list")
    if not partitions:
        raise ValueError("'topic_partitions' cannot be empty")
    for place in partitions:
        if place is None:
            raise ValueError("Element of 'topic_partitions' cannot be None")
        if not isinstance(place, TopicPartition):
            raise TypeError("Element of 'topic_partitions' must be of type TopicPartition")
        if not place.topic:
            raise ValueError("Element of 'topic_partitions' must have a 'topic'")
        if place.partition < 0:
            raise ValueError("Element of 'topic_partitions' must not have negative 'partition' value")
    return partitions


def listed_offsets(requests: Any) -> ConsumerGroupTopicPartitions:
    """The request of list_consumer_group_offsets."""
    request = _requests(requests, "listing")
    if request.topic_partitions is not None:
        for place in _places(request.topic_partitions):
            if place.offset != OFFSET_INVALID:
                raise ValueError("Element of 'topic_partitions' must not have 'offset' value")
    return request


def altered_offsets(requests: Any) -> ConsumerGroupTopicPartitions:
    """The request of alter_consumer_group_offsets."""
    request = _requests(requests, "altering")
    if request.topic_partitions is None:
        raise ValueError("'topic_partitions' cannot be null")
    for place in _places(request.topic_partitions):
        if place.offset < 0:
            raise ValueError("Element of 'topic_partitions' must not have negative value for 'offset' field")
    return request


def incremental(entry: Any, index: int) -> tuple[str, str | None, int]:
    """A setting to alter."""
    if not isinstance(entry, ConfigEntry):
        raise TypeError(f"expected ConfigEntry type in incremental_configs field, index {index}")
    operation = entry.incremental_operation
    if not isinstance(operation, AlterConfigOpType):
        raise TypeError(f"incremental_operation of {entry.name} must be an AlterConfigOpType, not {operation!r}")
    if not isinstance(entry.name, str):
        raise TypeError(f"Expected .name to be str type, not {type(entry.name).__name__}")
    if operation is not AlterConfigOpType.DELETE and not isinstance(entry.value, str):
        raise TypeError(f"Expected .value to be str type, not {type(entry.value).__name__}")
    return entry.name, entry.value, operation.value


def scram_users(users: Any) -> None:
    """The users of describe_user_scram_credentials."""
    if users is None:
        return
    if not isinstance(users, list):
        raise TypeError("Expected input to be list of String")
    for user in users:
        _user(user)


def _user(user: Any) -> None:
    if user is None:
        raise TypeError("'user' cannot be None")
    if not isinstance(user, str):
        raise TypeError("'user' must be a string")
    if not user:
        raise ValueError("'user' cannot be empty")


def _mechanism(mechanism: Any) -> int:
    if not isinstance(mechanism, ScramMechanism):
        raise TypeError("Expected the mechanism to be ScramMechanism Type")
    return int(mechanism.value)


def scram_change(change: Any) -> tuple[str, int, tuple[int, bytes, bytes | None] | None]:
    """A change to a credential."""
    if not isinstance(change, UserScramCredentialAlteration):
        raise TypeError("Expected each element of list to be subclass of UserScramCredentialAlteration")
    _user(change.user)
    if isinstance(change, UserScramCredentialDeletion):
        return change.user, _mechanism(change.mechanism), None
    if not isinstance(change, UserScramCredentialUpsertion):
        raise TypeError(
            "Expected each element of 'alterations' to be a UserScramCredentialUpsertion or a UserScramCredentialDeletion"
        )
    if not isinstance(change.password, bytes):
        raise TypeError("'password' must be bytes")
    if not change.password:
        raise ValueError("'password' cannot be empty")
    if change.salt is not None and not change.salt:
        raise ValueError("'salt' can be None but cannot be empty")
    if change.salt is not None and not isinstance(change.salt, bytes):
        raise TypeError("'salt' must be bytes")
    info = change.scram_credential_info
    if not isinstance(info, ScramCredentialInfo):
        raise TypeError("Expected credential_info to be ScramCredentialInfo Type")
    if info.iterations < 1:
        raise ValueError("Iterations should be positive")
    return change.user, _mechanism(info.mechanism), (info.iterations, change.password, change.salt)
