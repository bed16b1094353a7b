"""Clients for asyncio."""

from __future__ import annotations

from tidegate.confluent.aio._consumer import AIOConsumer
from tidegate.confluent.aio._producer import AIOProducer

__all__ = ["AIOConsumer", "AIOProducer"]
