"""Access rules."""

from __future__ import annotations

import functools
from enum import Enum
from typing import Any

from tidegate.confluent import _constants as c
from tidegate.confluent._model import OrderedEnum
from tidegate.confluent._util import to_enum
from tidegate.confluent.admin._resource import ResourcePatternType, ResourceType


class AclOperation(OrderedEnum):
    """What an access rule is about; `ANY` only in filters."""

    UNKNOWN = c.ACL_OPERATION_UNKNOWN
    ANY = c.ACL_OPERATION_ANY
    ALL = c.ACL_OPERATION_ALL
    READ = c.ACL_OPERATION_READ
    WRITE = c.ACL_OPERATION_WRITE
    CREATE = c.ACL_OPERATION_CREATE
    DELETE = c.ACL_OPERATION_DELETE
    ALTER = c.ACL_OPERATION_ALTER
    DESCRIBE = c.ACL_OPERATION_DESCRIBE
    CLUSTER_ACTION = c.ACL_OPERATION_CLUSTER_ACTION
    DESCRIBE_CONFIGS = c.ACL_OPERATION_DESCRIBE_CONFIGS
    ALTER_CONFIGS = c.ACL_OPERATION_ALTER_CONFIGS
    IDEMPOTENT_WRITE = c.ACL_OPERATION_IDEMPOTENT_WRITE


class AclPermissionType(OrderedEnum):
    """Whether an access rule allows or denies; `ANY` only in filters."""

    UNKNOWN = c.ACL_PERMISSION_TYPE_UNKNOWN
    ANY = c.ACL_PERMISSION_TYPE_ANY
    DENY = c.ACL_PERMISSION_TYPE_DENY
    ALLOW = c.ACL_PERMISSION_TYPE_ALLOW


@functools.total_ordering
class AclBinding:
    """An access rule.

    Args:
        restype: the kind of resource.
        name: its name; of a broker the number.
        resource_pattern_type: how the name is compared.
        principal: whom the rule is about: `User:alice`.
        host: from where; `*` is everywhere.
        operation: what is done.
        permission_type: allowed or denied.

    Enums may be given as names, in any case, or numbers.

    Raises:
        ValueError: something is None, an unknown name, or an enum's value that only filters may have.
        TypeError: of another type.
    """

    _may_be_none: tuple[str, ...] = ()
    _forbidden: dict[str, tuple[str, ...]] = {  # noqa: RUF012 (never changed)
        "restype": ("ANY",),
        "resource_pattern_type": ("ANY", "MATCH"),
        "operation": ("ANY",),
        "permission_type": ("ANY",),
    }

    def __init__(
        self,
        restype: ResourceType | str | int,
        name: str,
        resource_pattern_type: ResourcePatternType | str | int,
        principal: str,
        host: str,
        operation: AclOperation | str | int,
        permission_type: AclPermissionType | str | int,
    ) -> None:
        given: dict[str, Any] = {
            "restype": restype,
            "name": name,
            "resource_pattern_type": resource_pattern_type,
            "principal": principal,
            "host": host,
            "operation": operation,
            "permission_type": permission_type,
        }
        for argument, value in given.items():
            if value is None and argument not in self._may_be_none:
                raise ValueError(f"Expected {argument} to be not None")
        for argument in ("name", "principal", "host"):
            if given[argument] is not None and not isinstance(given[argument], str):
                raise TypeError(f"Expected {argument} to be a string, not {type(given[argument]).__name__}")
        self.restype = to_enum(restype, ResourceType)
        self.name = name
        self.resource_pattern_type = to_enum(resource_pattern_type, ResourcePatternType)
        self.principal = principal
        self.host = host
        self.operation = to_enum(operation, AclOperation)
        self.permission_type = to_enum(permission_type, AclPermissionType)
        for argument, names in self._forbidden.items():
            member: Enum = getattr(self, argument)
            if member.name in names:
                raise ValueError(f"Cannot use enum {argument}, value {member.name} in this class")
        self.restype_int = int(self.restype.value)
        self.resource_pattern_type_int = int(self.resource_pattern_type.value)
        self.operation_int = int(self.operation.value)
        self.permission_type_int = int(self.permission_type.value)

    def _to_tuple(self) -> tuple[Any, ...]:
        return (
            self.restype,
            self.name,
            self.resource_pattern_type,
            self.principal,
            self.host,
            self.operation,
            self.permission_type,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({','.join(str(part) for part in self._to_tuple())})"

    def __hash__(self) -> int:
        return hash(self._to_tuple())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AclBinding):
            return NotImplemented
        return self._to_tuple() == other._to_tuple()

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, AclBinding):
            return NotImplemented
        return self._to_tuple() < other._to_tuple()


class AclBindingFilter(AclBinding):
    """Matches access rules: None and `ANY` match each; see AclBinding for the arguments.

    Raises:
        ValueError, TypeError: as AclBinding; an enum may not be `UNKNOWN`.
    """

    _may_be_none = ("name", "principal", "host")
    _forbidden = {  # noqa: RUF012 (never changed)
        "restype": ("UNKNOWN",),
        "resource_pattern_type": ("UNKNOWN",),
        "operation": ("UNKNOWN",),
        "permission_type": ("UNKNOWN",),
    }
