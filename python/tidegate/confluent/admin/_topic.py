"""The original's name for the module of topics."""

from __future__ import annotations

from tidegate.confluent.admin._results import TopicDescription as TopicDescription
