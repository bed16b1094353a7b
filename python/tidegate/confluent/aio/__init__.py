"""Clients for asyncio."""

from __future__ import annotations

from tidegate.confluent.aio._consumer import AIOConsumer
from tidegate.confluent.aio._deserializing import AsyncDeserializingConsumer
from tidegate.confluent.aio._producer import AIOProducer
from tidegate.confluent.aio._serializing import AsyncSerializingProducer

__all__ = ["AIOConsumer", "AIOProducer", "AsyncDeserializingConsumer", "AsyncSerializingProducer"]
