"""The original's name for the module of what list_topics() and list_groups() give."""

from __future__ import annotations

from tidegate.confluent.admin._results import BrokerMetadata as BrokerMetadata
from tidegate.confluent.admin._results import ClusterMetadata as ClusterMetadata
from tidegate.confluent.admin._results import GroupMember as GroupMember
from tidegate.confluent.admin._results import GroupMetadata as GroupMetadata
from tidegate.confluent.admin._results import PartitionMetadata as PartitionMetadata
from tidegate.confluent.admin._results import TopicMetadata as TopicMetadata
