"""confluent-kafka-python's API on Tidegate's engine.

    >>> from tidegate.confluent import Consumer, Producer, KafkaError  # instead of: from confluent_kafka import ...

Names, signatures, results and exceptions are those of confluent-kafka-python 2.16; `docs/confluent.md` tells what gets better
and what differs. `install()` serves libraries that import confluent_kafka themselves.
"""

from __future__ import annotations

from tidegate._core import _ConfluentProducer as Producer
from tidegate.confluent._constants import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    OFFSET_STORED,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
)
from tidegate.confluent._consumer import Consumer, Message
from tidegate.confluent._errors import (
    ConcurrentModificationException,
    IllegalStateException,
    KafkaError,
    KafkaException,
)
from tidegate.confluent._functions import consistent, fnv1a, libversion, murmur2, version
from tidegate.confluent._install import install, uninstall
from tidegate.confluent._model import (
    AcknowledgeType,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ConsumerGroupType,
    ElectionType,
    IsolationLevel,
    Messages,
    Node,
    TopicCollection,
    TopicPartitionInfo,
)
from tidegate.confluent._share import DeserializingShareConsumer, ShareConsumer
from tidegate.confluent._types import ThrottleEvent, TopicPartition, Uuid
from tidegate.confluent.deserializing_consumer import DeserializingConsumer
from tidegate.confluent.serializing_producer import SerializingProducer

__version__ = version()

__all__ = [
    "OFFSET_BEGINNING",
    "OFFSET_END",
    "OFFSET_INVALID",
    "OFFSET_STORED",
    "TIMESTAMP_CREATE_TIME",
    "TIMESTAMP_LOG_APPEND_TIME",
    "TIMESTAMP_NOT_AVAILABLE",
    "AcknowledgeType",
    "ConcurrentModificationException",
    "Consumer",
    "ConsumerGroupState",
    "ConsumerGroupTopicPartitions",
    "ConsumerGroupType",
    "DeserializingConsumer",
    "DeserializingShareConsumer",
    "ElectionType",
    "IllegalStateException",
    "IsolationLevel",
    "KafkaError",
    "KafkaException",
    "Message",
    "Messages",
    "Node",
    "Producer",
    "SerializingProducer",
    "ShareConsumer",
    "ThrottleEvent",
    "TopicCollection",
    "TopicPartition",
    "TopicPartitionInfo",
    "Uuid",
    "consistent",
    "fnv1a",
    "install",
    "libversion",
    "murmur2",
    "uninstall",
    "version",
]
