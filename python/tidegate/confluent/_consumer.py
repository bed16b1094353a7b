"""`Consumer` and `Message`, which are native; see `help(tidegate.confluent.Consumer)`."""

from __future__ import annotations

from tidegate._core import _ConfluentConsumer as Consumer
from tidegate._core import _ConfluentMessage as Message

__all__ = ["Consumer", "Message"]
