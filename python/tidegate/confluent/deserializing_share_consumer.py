"""`DeserializingShareConsumer`, under the name of the original's module."""

from __future__ import annotations

from tidegate.confluent._share import DeserializingShareConsumer as DeserializingShareConsumer
