"""A batch that the C ABI exports is what pyarrow imports: every column of every record, also when batch and consumer are gone.

    arrow_import.py path/to/libtidegate.so

Each record is read twice: through `tg_batch_record` and `tg_header_next`, and through the Arrow C data interface. Ends with 0 when
both tell the same.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_int32, c_int64, c_size_t, c_ubyte, c_uint64, c_void_p
from typing import Any

import pyarrow as pa

COUNT = 1000
PATIENCE_MS = 60_000
TIME_MS = 1_700_000_000_000


class Bytes(Structure):
    """`tg_bytes`."""

    _fields_ = (("data", POINTER(c_ubyte)), ("length", c_size_t))

    def get(self) -> bytes | None:
        return ctypes.string_at(self.data, self.length) if self.data else None


class Header(Structure):
    """`tg_header`."""

    _fields_ = (("name", Bytes), ("value", Bytes))


class Sent(Structure):
    """`tg_producer_record`."""

    _fields_ = (
        ("topic", c_char_p),
        ("partition", c_int32),
        ("key", Bytes),
        ("value", Bytes),
        ("headers", POINTER(Header)),
        ("header_count", c_size_t),
        ("timestamp_ms", c_int64),
    )


class Record(Structure):
    """`tg_record`."""

    _fields_ = (
        ("topic", Bytes),
        ("partition", c_int32),
        ("leader_epoch", c_int32),
        ("offset", c_int64),
        ("timestamp_ms", c_int64),
        ("timestamp_type", c_int32),
        ("key", Bytes),
        ("value", Bytes),
        ("headers", Bytes),
        ("generation", c_uint64),
    )


class TopicPartition(Structure):
    """`tg_topic_partition`."""

    _fields_ = (("topic", c_char_p), ("partition", c_int32), ("offset", c_int64))


class ArrowSchema(Structure):
    """Arrow's own, as its C data interface defines it."""

    _fields_ = (
        ("format", c_char_p),
        ("name", c_char_p),
        ("metadata", c_char_p),
        ("flags", c_int64),
        ("n_children", c_int64),
        ("children", c_void_p),
        ("dictionary", c_void_p),
        ("release", c_void_p),
        ("private_data", c_void_p),
    )


class ArrowArray(Structure):
    """As above."""

    _fields_ = (
        ("length", c_int64),
        ("null_count", c_int64),
        ("offset", c_int64),
        ("n_buffers", c_int64),
        ("n_children", c_int64),
        ("buffers", c_void_p),
        ("children", c_void_p),
        ("dictionary", c_void_p),
        ("release", c_void_p),
        ("private_data", c_void_p),
    )


def of(text: bytes | None, kept: list[Any]) -> Bytes:
    """Bytes of C's, kept alive by `kept`; None is null, and empty is not."""
    if text is None:
        return Bytes()
    memory = ctypes.create_string_buffer(text, max(len(text), 1))
    kept.append(memory)
    return Bytes(ctypes.cast(memory, POINTER(c_ubyte)), len(text))


class Library:
    """The functions, each of whose failures is an exception."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.tg_broker_bootstrap_servers.restype = c_char_p
        self._library.tg_header_next.restype = c_bool

    def __call__(self, name: str, *arguments: Any) -> Any:
        answer = getattr(self._library, name)(*arguments)
        if name not in ("tg_broker_bootstrap_servers", "tg_header_next") and answer != 0:
            raise AssertionError(f"{name}: status {answer}")
        return answer

    def made(self, name: str, *arguments: Any) -> c_void_p:
        """What a function puts into its last argument."""
        place = c_void_p()
        self(name, *arguments, byref(place))
        return place


def headers_of(library: Library, record: Record) -> list[dict[str, object]]:
    left, header, found = Bytes(record.headers.data, record.headers.length), Header(), []
    while library("tg_header_next", byref(left), byref(header)):
        found.append({"name": (header.name.get() or b"").decode(), "value": header.value.get()})
    return found


def fill(library: Library, config: c_void_p) -> None:
    """Records with and without keys, values and headers."""
    kept: list[Any] = []
    rows = (Sent * COUNT)()
    for number, row in enumerate(rows):
        row.topic, row.partition, row.timestamp_ms = b"t", number % 2, TIME_MS + number
        row.key = of((None, b"", b"key %d" % number)[number % 3], kept)
        row.value = of(None if number % 7 == 0 else b"value %d " % number * (number % 5), kept)
        headers = (Header * (number % 3))()
        for place, header in enumerate(headers):
            header.name = of(b"h%d" % place, kept)
            header.value = of(None if number % 2 else b"%d" % number, kept)
        kept.append(headers)
        row.headers, row.header_count = headers, len(headers)
    producer = library.made("tg_producer_new", config)
    library("tg_producer_send_records", producer, rows, c_size_t(COUNT), None, None)
    library("tg_producer_flush", producer, c_int64(PATIENCE_MS))
    library("tg_producer_free", producer)


def main() -> int:
    library = Library(sys.argv[1])
    broker = library.made("tg_broker_new", c_int32(1))
    library("tg_broker_create_topic", broker, b"t", c_int32(2))
    config = library.made("tg_config_new")
    library("tg_config_set", config, b"bootstrap.servers", library("tg_broker_bootstrap_servers", broker))
    fill(library, config)

    consumer = library.made("tg_consumer_new", config)
    library("tg_consumer_assign", consumer, (TopicPartition * 2)((b"t", 0, 0), (b"t", 1, 0)), c_size_t(2))
    read: list[dict[str, object]] = []
    imported: list[pa.RecordBatch] = []
    while len(read) < COUNT:
        batch = library.made("tg_consumer_fill_batch", consumer, c_int64(PATIENCE_MS), c_size_t(COUNT - len(read)))
        array, schema = ArrowArray(), ArrowSchema()
        library("tg_batch_export_arrow", batch, byref(array), byref(schema))
        for row in range(array.length):
            record = Record()
            library("tg_batch_record", batch, c_size_t(row), byref(record))
            read.append(
                {
                    "topic": (record.topic.get() or b"").decode(),
                    "partition": record.partition,
                    "offset": record.offset,
                    "timestamp": record.timestamp_ms,
                    "key": record.key.get(),
                    "value": record.value.get(),
                    "headers": headers_of(library, record),
                }
            )
        imported.append(pa.RecordBatch._import_from_c(ctypes.addressof(array), ctypes.addressof(schema)))
        # Whoever imports releases, and what is imported lives on.
        assert array.release is None and schema.release is None
        library("tg_batch_free", batch)
    library("tg_consumer_free", consumer)
    library("tg_config_free", config)
    library("tg_broker_free", broker)

    arrived = []
    for records in imported:
        records.validate(full=True)
        times = records.column("timestamp")
        assert times.type == pa.timestamp("ms", tz="UTC"), times.type
        columns = {name: records.column(name).to_pylist() for name in records.schema.names if name != "timestamp"}
        columns["timestamp"] = times.cast(pa.int64()).to_pylist()
        arrived += [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert len(read) == COUNT
    for told, found in zip(read, arrived, strict=True):
        assert {name: found[name] for name in told} == told, f"{found} is not {told}"
    nulls = sum(row["value"] is None for row in read)
    assert nulls >= COUNT // 7 and any(len(list(row["headers"])) == 2 for row in read)  # type: ignore[call-overload]
    print(f"{COUNT} records in {len(imported)} batches, {nulls} without a value, are the same in pyarrow {pa.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
