"""Functions of the top module: versions, and the partition of a key."""

from __future__ import annotations

from typing import Final

from tidegate import _core
from tidegate.confluent._errors import as_int32

API_VERSION: Final = "2.16.1"
"""The version of confluent-kafka-python whose API this package carries."""


def version() -> str:
    """The version of confluent-kafka-python whose API this is; `tidegate.__version__` is Tidegate's own."""
    return API_VERSION


def libversion() -> tuple[str, int]:
    """The linked librdkafka: its version as text, and as a number 0xMMmmrrff."""
    text = _core.librdkafka_version
    numbers = [int(part) for part in text.split("-", 1)[0].split(".")]
    major, minor, revision = [*numbers, 0, 0, 0][:3]
    # The last byte counts release candidates; a release has 255.
    return text, major << 24 | minor << 16 | revision << 8 | 0xFF


def _key(key: object) -> bytes:
    if isinstance(key, (bytes, memoryview)):
        return bytes(key)
    raise TypeError(f"key: a bytes-like object is required, not '{type(key).__name__}'; encode it first")


def murmur2(key: bytes, partition_count: int, /) -> int:
    """The partition of a key as the Java client chooses it, among `partition_count` partitions.

    Raises:
        TypeError: the key is not bytes, or the count no integer.
        ValueError: fewer than one partition.
    """
    return _core._partition_of("murmur2", _key(key), as_int32(partition_count))


def consistent(key: bytes, partition_count: int, /) -> int:
    """The partition of a key by CRC-32, librdkafka's default for records with a key; see `murmur2`."""
    return _core._partition_of("consistent", _key(key), as_int32(partition_count))


def fnv1a(key: bytes, partition_count: int, /) -> int:
    """The partition of a key by FNV-1a, Sarama's default; see `murmur2`."""
    return _core._partition_of("fnv1a", _key(key), as_int32(partition_count))
