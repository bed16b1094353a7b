"""`KafkaError`, what Kafka or librdkafka said, and the exceptions that carry one.

Pure Python: an error is made when something went wrong, never per record. Names and sentences of the codes come from the
engine's table (`tidegate.kafka_codes` in Rust), once, at import; the class body only names them for type checkers, and
`tests/python/test_confluent_types.py` compares the two.
"""

from __future__ import annotations

import builtins
import operator
from typing import ClassVar, TypeAlias

from tidegate import _core

_Text: TypeAlias = builtins.str
_LARGEST = 2**31 - 1

_NAMES: dict[int, tuple[_Text, _Text]] = {number: (name, text) for number, name, text in _core._kafka_codes()}


def as_int32(value: object) -> int:
    """An int that librdkafka's `int` can hold.

    Raises:
        TypeError: not an integer.
        OverflowError: beyond 32 bits.
    """
    number = operator.index(value)  # type: ignore[arg-type]  # what is no integer raises TypeError, as in the original
    if number > _LARGEST:
        raise OverflowError(f"signed integer is greater than maximum: {number} does not fit into 32 bits")
    if number < -_LARGEST - 1:
        raise OverflowError(f"signed integer is less than minimum: {number} does not fit into 32 bits")
    return number


class KafkaError:
    """An error or an event of Kafka: code, name, sentence, and what may be done about it.

    Args:
        error: the code, one of the constants of this class.
        reason: a sentence of your own instead of the code's.
        fatal: the client instance is of no more use.
        retriable: the operation may succeed when it is tried again.
        txn_requires_abort: the transaction has to be aborted.

    It is no exception: `KafkaException` carries one as `args[0]`. It compares with other errors and with the numbers of
    codes: `error == KafkaError._PARTITION_EOF`.

    Raises:
        TypeError, OverflowError: an argument of another type, or a code beyond 32 bits.
    """

    __module__ = "tidegate.confluent"
    __slots__ = ("_code", "_fatal", "_reason", "_retriable", "_txn_requires_abort")

    def __init__(
        self,
        error: int,
        reason: _Text | None = None,
        fatal: bool = False,
        retriable: bool = False,
        txn_requires_abort: bool = False,
    ) -> None:
        self._code = as_int32(error)
        if reason is not None:
            if not isinstance(reason, builtins.str):
                raise TypeError(f"reason must be str or None, not {type(reason).__name__}")
            if "\0" in reason:
                raise ValueError("reason: embedded null character; remove it")
        self._reason = reason
        self._fatal = bool(operator.index(fatal))
        self._retriable = bool(operator.index(retriable))
        self._txn_requires_abort = bool(operator.index(txn_requires_abort))

    def code(self) -> int:
        """The number, to be compared with the constants of this class."""
        return self._code

    def name(self) -> _Text:
        """The name of the code: `_TIMED_OUT`."""
        known = _NAMES.get(self._code)
        return f"ERR_{self._code}?" if known is None else known[0]

    def str(self) -> _Text:
        """The sentence: the reason given, else the code's own."""
        if self._reason is not None:
            return self._reason
        known = _NAMES.get(self._code)
        return f"Err-{self._code}?" if known is None else known[1]

    def fatal(self) -> bool:
        """True when the client instance is of no more use; close it and make a new one."""
        return self._fatal

    def retriable(self) -> bool:
        """True when the operation may succeed when it is tried again."""
        return self._retriable

    def txn_requires_abort(self) -> bool:
        """True when the transaction has to be aborted and begun again."""
        return self._txn_requires_abort

    def __repr__(self) -> _Text:
        fatal = "FATAL," if self._fatal else ""
        return f'KafkaError{{{fatal}code={self.name()},val={self._code},str="{self.str()}"}}'

    def __hash__(self) -> int:
        return self._code

    def __eq__(self, other: object) -> bool:
        number = _number(other)
        return NotImplemented if number is None else self._code == number

    def __lt__(self, other: KafkaError | int) -> bool:
        number = _number(other)
        return NotImplemented if number is None else self._code < number

    def __le__(self, other: KafkaError | int) -> bool:
        number = _number(other)
        return NotImplemented if number is None else self._code <= number

    def __gt__(self, other: KafkaError | int) -> bool:
        number = _number(other)
        return NotImplemented if number is None else self._code > number

    def __ge__(self, other: KafkaError | int) -> bool:
        number = _number(other)
        return NotImplemented if number is None else self._code >= number

    def __reduce__(self) -> tuple[type[KafkaError], tuple[int, _Text | None, bool, bool, bool]]:
        return type(self), (self._code, self._reason, self._fatal, self._retriable, self._txn_requires_abort)

    _BAD_MSG: ClassVar[int]
    _BAD_COMPRESSION: ClassVar[int]
    _DESTROY: ClassVar[int]
    _FAIL: ClassVar[int]
    _TRANSPORT: ClassVar[int]
    _CRIT_SYS_RESOURCE: ClassVar[int]
    _RESOLVE: ClassVar[int]
    _MSG_TIMED_OUT: ClassVar[int]
    _PARTITION_EOF: ClassVar[int]
    _UNKNOWN_PARTITION: ClassVar[int]
    _FS: ClassVar[int]
    _UNKNOWN_TOPIC: ClassVar[int]
    _ALL_BROKERS_DOWN: ClassVar[int]
    _INVALID_ARG: ClassVar[int]
    _TIMED_OUT: ClassVar[int]
    _QUEUE_FULL: ClassVar[int]
    _ISR_INSUFF: ClassVar[int]
    _NODE_UPDATE: ClassVar[int]
    _SSL: ClassVar[int]
    _WAIT_COORD: ClassVar[int]
    _UNKNOWN_GROUP: ClassVar[int]
    _IN_PROGRESS: ClassVar[int]
    _PREV_IN_PROGRESS: ClassVar[int]
    _EXISTING_SUBSCRIPTION: ClassVar[int]
    _ASSIGN_PARTITIONS: ClassVar[int]
    _REVOKE_PARTITIONS: ClassVar[int]
    _CONFLICT: ClassVar[int]
    _STATE: ClassVar[int]
    _UNKNOWN_PROTOCOL: ClassVar[int]
    _NOT_IMPLEMENTED: ClassVar[int]
    _AUTHENTICATION: ClassVar[int]
    _NO_OFFSET: ClassVar[int]
    _OUTDATED: ClassVar[int]
    _TIMED_OUT_QUEUE: ClassVar[int]
    _UNSUPPORTED_FEATURE: ClassVar[int]
    _WAIT_CACHE: ClassVar[int]
    _INTR: ClassVar[int]
    _KEY_SERIALIZATION: ClassVar[int]
    _VALUE_SERIALIZATION: ClassVar[int]
    _KEY_DESERIALIZATION: ClassVar[int]
    _VALUE_DESERIALIZATION: ClassVar[int]
    _PARTIAL: ClassVar[int]
    _READ_ONLY: ClassVar[int]
    _NOENT: ClassVar[int]
    _UNDERFLOW: ClassVar[int]
    _INVALID_TYPE: ClassVar[int]
    _RETRY: ClassVar[int]
    _PURGE_QUEUE: ClassVar[int]
    _PURGE_INFLIGHT: ClassVar[int]
    _FATAL: ClassVar[int]
    _INCONSISTENT: ClassVar[int]
    _GAPLESS_GUARANTEE: ClassVar[int]
    _MAX_POLL_EXCEEDED: ClassVar[int]
    _UNKNOWN_BROKER: ClassVar[int]
    _NOT_CONFIGURED: ClassVar[int]
    _FENCED: ClassVar[int]
    _APPLICATION: ClassVar[int]
    _ASSIGNMENT_LOST: ClassVar[int]
    _NOOP: ClassVar[int]
    _AUTO_OFFSET_RESET: ClassVar[int]
    _LOG_TRUNCATION: ClassVar[int]
    _INVALID_DIFFERENT_RECORD: ClassVar[int]
    _DESTROY_BROKER: ClassVar[int]
    UNKNOWN: ClassVar[int]
    NO_ERROR: ClassVar[int]
    OFFSET_OUT_OF_RANGE: ClassVar[int]
    INVALID_MSG: ClassVar[int]
    UNKNOWN_TOPIC_OR_PART: ClassVar[int]
    INVALID_MSG_SIZE: ClassVar[int]
    LEADER_NOT_AVAILABLE: ClassVar[int]
    NOT_LEADER_FOR_PARTITION: ClassVar[int]
    REQUEST_TIMED_OUT: ClassVar[int]
    BROKER_NOT_AVAILABLE: ClassVar[int]
    REPLICA_NOT_AVAILABLE: ClassVar[int]
    MSG_SIZE_TOO_LARGE: ClassVar[int]
    STALE_CTRL_EPOCH: ClassVar[int]
    OFFSET_METADATA_TOO_LARGE: ClassVar[int]
    NETWORK_EXCEPTION: ClassVar[int]
    COORDINATOR_LOAD_IN_PROGRESS: ClassVar[int]
    COORDINATOR_NOT_AVAILABLE: ClassVar[int]
    NOT_COORDINATOR: ClassVar[int]
    TOPIC_EXCEPTION: ClassVar[int]
    RECORD_LIST_TOO_LARGE: ClassVar[int]
    NOT_ENOUGH_REPLICAS: ClassVar[int]
    NOT_ENOUGH_REPLICAS_AFTER_APPEND: ClassVar[int]
    INVALID_REQUIRED_ACKS: ClassVar[int]
    ILLEGAL_GENERATION: ClassVar[int]
    INCONSISTENT_GROUP_PROTOCOL: ClassVar[int]
    INVALID_GROUP_ID: ClassVar[int]
    UNKNOWN_MEMBER_ID: ClassVar[int]
    INVALID_SESSION_TIMEOUT: ClassVar[int]
    REBALANCE_IN_PROGRESS: ClassVar[int]
    INVALID_COMMIT_OFFSET_SIZE: ClassVar[int]
    TOPIC_AUTHORIZATION_FAILED: ClassVar[int]
    GROUP_AUTHORIZATION_FAILED: ClassVar[int]
    CLUSTER_AUTHORIZATION_FAILED: ClassVar[int]
    INVALID_TIMESTAMP: ClassVar[int]
    UNSUPPORTED_SASL_MECHANISM: ClassVar[int]
    ILLEGAL_SASL_STATE: ClassVar[int]
    UNSUPPORTED_VERSION: ClassVar[int]
    TOPIC_ALREADY_EXISTS: ClassVar[int]
    INVALID_PARTITIONS: ClassVar[int]
    INVALID_REPLICATION_FACTOR: ClassVar[int]
    INVALID_REPLICA_ASSIGNMENT: ClassVar[int]
    INVALID_CONFIG: ClassVar[int]
    NOT_CONTROLLER: ClassVar[int]
    INVALID_REQUEST: ClassVar[int]
    UNSUPPORTED_FOR_MESSAGE_FORMAT: ClassVar[int]
    POLICY_VIOLATION: ClassVar[int]
    OUT_OF_ORDER_SEQUENCE_NUMBER: ClassVar[int]
    DUPLICATE_SEQUENCE_NUMBER: ClassVar[int]
    INVALID_PRODUCER_EPOCH: ClassVar[int]
    INVALID_TXN_STATE: ClassVar[int]
    INVALID_PRODUCER_ID_MAPPING: ClassVar[int]
    INVALID_TRANSACTION_TIMEOUT: ClassVar[int]
    CONCURRENT_TRANSACTIONS: ClassVar[int]
    TRANSACTION_COORDINATOR_FENCED: ClassVar[int]
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ClassVar[int]
    SECURITY_DISABLED: ClassVar[int]
    OPERATION_NOT_ATTEMPTED: ClassVar[int]
    KAFKA_STORAGE_ERROR: ClassVar[int]
    LOG_DIR_NOT_FOUND: ClassVar[int]
    SASL_AUTHENTICATION_FAILED: ClassVar[int]
    UNKNOWN_PRODUCER_ID: ClassVar[int]
    REASSIGNMENT_IN_PROGRESS: ClassVar[int]
    DELEGATION_TOKEN_AUTH_DISABLED: ClassVar[int]
    DELEGATION_TOKEN_NOT_FOUND: ClassVar[int]
    DELEGATION_TOKEN_OWNER_MISMATCH: ClassVar[int]
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED: ClassVar[int]
    DELEGATION_TOKEN_AUTHORIZATION_FAILED: ClassVar[int]
    DELEGATION_TOKEN_EXPIRED: ClassVar[int]
    INVALID_PRINCIPAL_TYPE: ClassVar[int]
    NON_EMPTY_GROUP: ClassVar[int]
    GROUP_ID_NOT_FOUND: ClassVar[int]
    FETCH_SESSION_ID_NOT_FOUND: ClassVar[int]
    INVALID_FETCH_SESSION_EPOCH: ClassVar[int]
    LISTENER_NOT_FOUND: ClassVar[int]
    TOPIC_DELETION_DISABLED: ClassVar[int]
    FENCED_LEADER_EPOCH: ClassVar[int]
    UNKNOWN_LEADER_EPOCH: ClassVar[int]
    UNSUPPORTED_COMPRESSION_TYPE: ClassVar[int]
    STALE_BROKER_EPOCH: ClassVar[int]
    OFFSET_NOT_AVAILABLE: ClassVar[int]
    MEMBER_ID_REQUIRED: ClassVar[int]
    PREFERRED_LEADER_NOT_AVAILABLE: ClassVar[int]
    GROUP_MAX_SIZE_REACHED: ClassVar[int]
    FENCED_INSTANCE_ID: ClassVar[int]
    ELIGIBLE_LEADERS_NOT_AVAILABLE: ClassVar[int]
    ELECTION_NOT_NEEDED: ClassVar[int]
    NO_REASSIGNMENT_IN_PROGRESS: ClassVar[int]
    GROUP_SUBSCRIBED_TO_TOPIC: ClassVar[int]
    INVALID_RECORD: ClassVar[int]
    UNSTABLE_OFFSET_COMMIT: ClassVar[int]
    THROTTLING_QUOTA_EXCEEDED: ClassVar[int]
    PRODUCER_FENCED: ClassVar[int]
    RESOURCE_NOT_FOUND: ClassVar[int]
    DUPLICATE_RESOURCE: ClassVar[int]
    UNACCEPTABLE_CREDENTIAL: ClassVar[int]
    INCONSISTENT_VOTER_SET: ClassVar[int]
    INVALID_UPDATE_VERSION: ClassVar[int]
    FEATURE_UPDATE_FAILED: ClassVar[int]
    PRINCIPAL_DESERIALIZATION_FAILURE: ClassVar[int]
    UNKNOWN_TOPIC_ID: ClassVar[int]
    INCONSISTENT_TOPIC_ID: ClassVar[int]
    FENCED_MEMBER_EPOCH: ClassVar[int]
    UNRELEASED_INSTANCE_ID: ClassVar[int]
    UNSUPPORTED_ASSIGNOR: ClassVar[int]
    STALE_MEMBER_EPOCH: ClassVar[int]
    MISMATCHED_ENDPOINT_TYPE: ClassVar[int]
    UNSUPPORTED_ENDPOINT_TYPE: ClassVar[int]
    UNKNOWN_CONTROLLER_ID: ClassVar[int]
    UNKNOWN_SUBSCRIPTION_ID: ClassVar[int]
    TELEMETRY_TOO_LARGE: ClassVar[int]
    INVALID_REGISTRATION: ClassVar[int]
    TRANSACTION_ABORTABLE: ClassVar[int]
    INVALID_RECORD_STATE: ClassVar[int]
    SHARE_SESSION_NOT_FOUND: ClassVar[int]
    INVALID_SHARE_SESSION_EPOCH: ClassVar[int]
    FENCED_STATE_EPOCH: ClassVar[int]
    INVALID_VOTER_KEY: ClassVar[int]
    DUPLICATE_VOTER: ClassVar[int]
    VOTER_NOT_FOUND: ClassVar[int]
    INVALID_REGULAR_EXPRESSION: ClassVar[int]
    REBOOTSTRAP_REQUIRED: ClassVar[int]
    STREAMS_INVALID_TOPOLOGY: ClassVar[int]
    STREAMS_INVALID_TOPOLOGY_EPOCH: ClassVar[int]
    STREAMS_TOPOLOGY_FENCED: ClassVar[int]
    SHARE_SESSION_LIMIT_REACHED: ClassVar[int]


def _number(other: object) -> int | None:
    if isinstance(other, KafkaError):
        return other._code
    return other if isinstance(other, int) else None


for _code, (_name, _) in _NAMES.items():
    setattr(KafkaError, _name, _code)
del _code, _name, _


class KafkaException(Exception):
    """An error of Kafka or librdkafka; `exception.args[0]` is the `KafkaError`."""

    __module__ = "tidegate.confluent"


class IllegalStateException(RuntimeError):
    """A share consumer was used in a state that does not allow the call."""

    __module__ = "tidegate.confluent"


class ConcurrentModificationException(RuntimeError):
    """A share consumer was used by two threads at once."""

    __module__ = "tidegate.confluent"
