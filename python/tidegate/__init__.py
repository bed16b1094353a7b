"""Tidegate: an embedded, high-throughput Kafka streaming core.

    >>> import tidegate
    >>> with tidegate.Consumer({"bootstrap.servers": "localhost:9092", "group.id": "billing"}, ["orders"]) as consumer:
    ...     for record in consumer:
    ...         print(record.offset, record.json())

`Consumer` and `Producer` are the native API; `tidegate.base_consumer.BaseKafkaConsumer` and
`tidegate.detection_producer.DetectionResultProducer` are the drop-in classes. `EmbeddedBroker` is a Kafka cluster inside
this process, for tests. Log lines go to loguru where it is installed, else to `logging`; see `set_log_sink`.
"""

from __future__ import annotations

import atexit
import os

from tidegate import _core
from tidegate._core import (
    Admin,
    ArgumentError,
    ArgumentTypeError,
    ClosedError,
    Column,
    ConcurrentUseError,
    ConfigError,
    Consumer,
    Delivery,
    EmbeddedBroker,
    ForkedError,
    KafkaError,
    ListenerError,
    NotAssignedError,
    Output,
    Producer,
    QueueFullError,
    Record,
    RecordBatch,
    StaleError,
    TidegateError,
    TimedOutError,
    TopicPartition,
    __version__,
    config_check,
    config_explain,
    config_table,
    librdkafka_version,
    set_log_sink,
)

# Before everything that registers hooks of its own: what is registered last runs first, and this one ends all calls
# from the engine's threads into Python.
atexit.register(_core._at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core._after_fork_in_child)

from tidegate._logging import forward_native_lines  # noqa: E402
from tidegate.processing import BatchError, Processing, Retry, current_attempt  # noqa: E402
from tidegate.shutdown import request_shutdown, wait_for_shutdown  # noqa: E402
from tidegate.streaming import Stream, StreamTask  # noqa: E402

forward_native_lines()
del atexit, os, forward_native_lines

__all__ = [
    "Admin",
    "ArgumentError",
    "ArgumentTypeError",
    "BatchError",
    "ClosedError",
    "Column",
    "ConcurrentUseError",
    "ConfigError",
    "Consumer",
    "Delivery",
    "EmbeddedBroker",
    "ForkedError",
    "KafkaError",
    "ListenerError",
    "NotAssignedError",
    "Output",
    "Processing",
    "Producer",
    "QueueFullError",
    "Record",
    "RecordBatch",
    "Retry",
    "StaleError",
    "Stream",
    "StreamTask",
    "TidegateError",
    "TimedOutError",
    "TopicPartition",
    "__version__",
    "config_check",
    "config_explain",
    "config_table",
    "current_attempt",
    "librdkafka_version",
    "request_shutdown",
    "set_log_sink",
    "wait_for_shutdown",
]
