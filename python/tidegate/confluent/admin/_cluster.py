"""The original's name for the module of clusters."""

from __future__ import annotations

from tidegate.confluent.admin._results import DescribeClusterResult as DescribeClusterResult
