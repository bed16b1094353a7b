"""Administration of a cluster, as confluent_kafka.admin."""

from __future__ import annotations

from tidegate.confluent.admin._new import NewPartitions, NewTopic

__all__ = ["NewPartitions", "NewTopic"]
