"""Kinds of resources, and how their names are compared."""

from __future__ import annotations

from tidegate.confluent import _constants as c
from tidegate.confluent._model import OrderedEnum


class ResourceType(OrderedEnum):
    """The kind of a resource that has a configuration or access rules."""

    UNKNOWN = c.RESOURCE_UNKNOWN
    ANY = c.RESOURCE_ANY
    TOPIC = c.RESOURCE_TOPIC
    GROUP = c.RESOURCE_GROUP
    BROKER = c.RESOURCE_BROKER
    TRANSACTIONAL_ID = c.RESOURCE_TRANSACTIONAL_ID


class ResourcePatternType(OrderedEnum):
    """How the name of an access rule is compared: the very name, a prefix, or in filters any or whatever applies."""

    UNKNOWN = c.RESOURCE_PATTERN_UNKNOWN
    ANY = c.RESOURCE_PATTERN_ANY
    MATCH = c.RESOURCE_PATTERN_MATCH
    LITERAL = c.RESOURCE_PATTERN_LITERAL
    PREFIXED = c.RESOURCE_PATTERN_PREFIXED
