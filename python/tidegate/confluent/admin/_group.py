"""The original's name for the module of groups."""

from __future__ import annotations

from tidegate.confluent.admin._results import ConsumerGroupDescription as ConsumerGroupDescription
from tidegate.confluent.admin._results import ConsumerGroupListing as ConsumerGroupListing
from tidegate.confluent.admin._results import ListConsumerGroupsResult as ListConsumerGroupsResult
from tidegate.confluent.admin._results import MemberAssignment as MemberAssignment
from tidegate.confluent.admin._results import MemberDescription as MemberDescription
