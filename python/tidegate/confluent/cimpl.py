"""The names of confluent_kafka's C module, for programs that import from `cimpl`: classes, functions, constants."""

from __future__ import annotations

from tidegate._core import _ConfluentProducer as Producer  # noqa: F401
from tidegate.confluent._constants import *  # noqa: F403 (every name of it is a constant of `cimpl`)
from tidegate.confluent._consumer import Consumer as Consumer
from tidegate.confluent._consumer import Message as Message
from tidegate.confluent._errors import ConcurrentModificationException as ConcurrentModificationException
from tidegate.confluent._errors import IllegalStateException as IllegalStateException
from tidegate.confluent._errors import KafkaError as KafkaError
from tidegate.confluent._errors import KafkaException as KafkaException
from tidegate.confluent._functions import consistent as consistent
from tidegate.confluent._functions import fnv1a as fnv1a
from tidegate.confluent._functions import libversion as libversion
from tidegate.confluent._functions import murmur2 as murmur2
from tidegate.confluent._functions import version as version
from tidegate.confluent._share import ShareConsumer as ShareConsumer
from tidegate.confluent._types import TopicPartition as TopicPartition
from tidegate.confluent._types import Uuid as Uuid
from tidegate.confluent.admin._new import NewPartitions as NewPartitions
from tidegate.confluent.admin._new import NewTopic as NewTopic
