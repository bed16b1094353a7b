"""The original's name for the module of deleted records."""

from __future__ import annotations

from tidegate.confluent.admin._results import DeletedRecords as DeletedRecords
