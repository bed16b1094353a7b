"""Configurations of resources."""

from __future__ import annotations

import functools
from enum import Enum
from typing import Any

from tidegate.confluent import _constants as c
from tidegate.confluent.admin._resource import ResourceType


class AlterConfigOpType(Enum):
    """What incremental_alter_configs does to one setting; the last two are for lists."""

    SET = c.ALTER_CONFIG_OP_TYPE_SET
    DELETE = c.ALTER_CONFIG_OP_TYPE_DELETE
    APPEND = c.ALTER_CONFIG_OP_TYPE_APPEND
    SUBTRACT = c.ALTER_CONFIG_OP_TYPE_SUBTRACT


class ConfigSource(Enum):
    """Where a setting's value is from."""

    UNKNOWN_CONFIG = c.CONFIG_SOURCE_UNKNOWN_CONFIG
    DYNAMIC_TOPIC_CONFIG = c.CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG
    DYNAMIC_BROKER_CONFIG = c.CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG
    DYNAMIC_DEFAULT_BROKER_CONFIG = c.CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG
    STATIC_BROKER_CONFIG = c.CONFIG_SOURCE_STATIC_BROKER_CONFIG
    DEFAULT_CONFIG = c.CONFIG_SOURCE_DEFAULT_CONFIG
    GROUP_CONFIG = c.CONFIG_SOURCE_GROUP_CONFIG


class ConfigEntry:
    """A setting, as describe_configs gives it and incremental_alter_configs takes it.

    Args:
        name: its name.
        value: its value; None when it has none or is secret.
        source: where the value is from; describe_configs gives the number of a ConfigSource, as the original does.
        is_read_only, is_default, is_sensitive, is_synonym: what is known of it.
        synonyms: other names and sources of it.
        incremental_operation: what to do with it.
    """

    def __init__(
        self,
        name: str,
        value: str | None,
        source: ConfigSource | int = ConfigSource.UNKNOWN_CONFIG,
        is_read_only: bool = False,
        is_default: bool = False,
        is_sensitive: bool = False,
        is_synonym: bool = False,
        synonyms: dict[str, ConfigEntry] = {},  # noqa: B006 (the original's default; never changed here)
        incremental_operation: AlterConfigOpType | None = None,
    ) -> None:
        self.name = name
        self.value = value
        self.source = source
        self.is_read_only = bool(is_read_only)
        self.is_default = bool(is_default)
        self.is_sensitive = bool(is_sensitive)
        self.is_synonym = bool(is_synonym)
        self.synonyms = synonyms
        self.incremental_operation = incremental_operation

    def __repr__(self) -> str:
        return f'ConfigEntry({self.name}="{self.value}")'

    def __str__(self) -> str:
        return f'{self.name}="{self.value}"'


@functools.total_ordering
class ConfigResource:
    """Something that has a configuration: a topic, a broker, a group.

    Args:
        restype: its kind; a name in any case or a number will do.
        name: its name; of a broker the number.
        set_config: settings for alter_configs.
        described_configs, error: what came back.
        incremental_configs: settings for incremental_alter_configs.

    Raises:
        ValueError: no name, or an unknown kind.
    """

    Type = ResourceType

    def __init__(
        self,
        restype: ResourceType | str | int,
        name: str,
        set_config: dict[str, str] | None = None,
        described_configs: dict[str, ConfigEntry] | None = None,
        error: Any | None = None,
        incremental_configs: list[ConfigEntry] | None = None,
    ) -> None:
        if name is None:
            raise ValueError("Expected resource name to be a string")
        if isinstance(restype, str):
            try:
                restype = ResourceType[restype.upper()]
            except KeyError:
                kinds = ", ".join(ResourceType.__members__)
                raise ValueError(f'Unknown resource type "{restype}": should be a ConfigResource.Type, one of {kinds}') from None
        elif isinstance(restype, int):
            restype = ResourceType(restype)
        self.restype = restype
        self.restype_int = int(self.restype.value)
        self.name = name
        self.set_config_dict = {} if set_config is None else set_config.copy()
        self.incremental_configs = list(incremental_configs or [])
        self.configs = described_configs
        self.error = error

    def __repr__(self) -> str:
        error = "" if self.error is None else f",{self.error!r}"
        return f"ConfigResource({self.restype},{self.name}{error})"

    def __hash__(self) -> int:
        return hash((self.restype, self.name))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfigResource):
            return NotImplemented
        return self.restype == other.restype and self.name == other.name

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, ConfigResource):
            return NotImplemented
        return (self.restype, self.name) < (other.restype, other.name)

    def __len__(self) -> int:
        return len(self.set_config_dict)

    def set_config(self, name: str, value: str, overwrite: bool = True) -> None:
        """A setting for alter_configs; with `overwrite=False` one that is there stays."""
        if overwrite or name not in self.set_config_dict:
            self.set_config_dict[name] = value

    def add_incremental_config(self, config_entry: ConfigEntry) -> None:
        """A setting for incremental_alter_configs, with its `incremental_operation`."""
        self.incremental_configs.append(config_entry)
