"""Batches as Arrow data: the same records, in the batch's own memory, for as long as somebody holds them."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

import native
import numpy
import psutil
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tidegate
from tidegate import RecordBatch

VALUES = [b"", None, b"x" * 11, b"y" * 12, b"z" * 13, b"w" * 5000, "größe".encode(), b"\x00\xff" * 20]
HEADERS: list[list[tuple[str, bytes | None]]] = [
    [],
    [("trace", b"\x00\xff")],
    [("trace", None), ("trace", b""), ("größe", b"long enough to be no view")],
]


@pytest.fixture(scope="module")
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker() as broker:
        yield broker


def fill(consumer: tidegate.Consumer, records: int) -> RecordBatch:
    batch = consumer.fill_batch(native.WAIT_S, records)
    assert batch is not None and len(batch) == records
    return batch


@pytest.fixture(scope="module")
def batch(broker: tidegate.EmbeddedBroker) -> RecordBatch:
    """Two topics of two partitions, with null and empty keys, tombstones and headers; its consumer is closed."""
    topics = [native.name(), native.name()]
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        for topic in topics:
            broker.create_topic(topic, 2)
            for row, value in enumerate(VALUES):
                key = [None, b"", b"k" * 20][row % 3]
                headers = HEADERS[row % len(HEADERS)]
                producer.send(topic, value, key=key, headers=headers, partition=row % 2, timestamp_ms=1_700_000_000_000 + row)
        assert producer.flush(native.WAIT_S) == 0
    with native.grouped(broker) as consumer:
        consumer.assign({(topic, partition): "beginning" for topic in topics for partition in range(2)})
        batch = fill(consumer, 2 * len(VALUES))
    assert len(set(batch.topics)) == 2 and len(batch.runs()) >= 4
    return batch


def dicts(data: pyarrow.RecordBatch) -> list[dict[str, Any]]:
    """As `RecordBatch.to_dicts()` has them."""
    data.validate(full=True)
    rows: list[dict[str, Any]] = data.to_pylist()
    for row in rows:
        time = row.pop("timestamp")
        row["timestamp_ms"] = None if time is None else round(time.timestamp() * 1000)
        row["headers"] = [(header["name"], header["value"]) for header in row["headers"]]
    return rows


def address(column: tidegate.Column) -> int:
    return int(numpy.asarray(column).__array_interface__["data"][0])


def test_the_columns_and_their_types(batch: RecordBatch) -> None:
    header = pyarrow.struct([pyarrow.field("name", pyarrow.string(), nullable=False), ("value", pyarrow.binary())])
    expected = pyarrow.schema(
        [
            pyarrow.field("topic", pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), nullable=False),
            pyarrow.field("partition", pyarrow.int32(), nullable=False),
            pyarrow.field("offset", pyarrow.int64(), nullable=False),
            pyarrow.field("timestamp", pyarrow.timestamp("ms", "UTC")),
            pyarrow.field("key", pyarrow.binary_view()),
            pyarrow.field("value", pyarrow.binary_view()),
            pyarrow.field("headers", pyarrow.list_(pyarrow.field("item", header, nullable=False)), nullable=False),
        ]
    )
    assert batch.to_arrow().schema == expected
    assert pyarrow.schema(batch) == expected


def test_arrow_says_what_the_records_say(batch: RecordBatch) -> None:
    data = batch.to_arrow()
    assert isinstance(data, pyarrow.RecordBatch)
    assert dicts(data) == batch.to_dicts()
    assert data["value"].null_count == 2 and data["key"].null_count == 6
    assert data["timestamp"].null_count == 0
    assert len(data["topic"].dictionary) == 2


@given(start=st.integers(0, 2 * len(VALUES)), length=st.integers(0, 2 * len(VALUES)))
def test_a_slice_has_its_rows_only(batch: RecordBatch, start: int, length: int) -> None:
    part = batch[start : start + length]
    data = part.to_arrow()
    assert data.num_rows == len(part)
    assert dicts(data) == part.to_dicts() == dicts(batch.to_arrow().slice(start, length))


@pytest.mark.parametrize("rows", [slice(None), slice(3, 9)], ids=str)
def test_numbers_and_bytes_are_not_copied(batch: RecordBatch, rows: slice) -> None:
    part = batch[rows]
    data = part.to_arrow()
    for name, column in (("partition", part.partitions), ("offset", part.offsets), ("timestamp", part.timestamps_ms)):
        validity, numbers = data[name].buffers()
        assert validity is None
        assert numbers.address == address(column), name
    # The same arenas for both, of all exports.
    again = part.to_arrow()
    arenas = [buffer.address for buffer in data["value"].buffers()[2:]]
    assert arenas
    assert arenas == [buffer.address for buffer in data["key"].buffers()[2:]]
    assert arenas == [buffer.address for buffer in again["value"].buffers()[2:]]


def test_a_batch_without_headers_keys_and_values(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.name()
    broker.create_topic(topic, 1)
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        for _ in range(3):
            producer.send(topic, None)
    with native.reading(broker, topic) as consumer:
        batch = fill(consumer, 3)
    assert dicts(batch.to_arrow()) == batch.to_dicts()
    assert batch.to_arrow()["value"].null_count == batch.to_arrow()["key"].null_count == 3


def test_no_rows(batch: RecordBatch) -> None:
    data = batch[4:4].to_arrow()
    assert data.num_rows == 0 and data.schema == batch.to_arrow().schema
    assert dicts(data) == []


def test_what_was_exported_outlives_everything_it_came_from(broker: tidegate.EmbeddedBroker) -> None:
    values = [str(row).encode() * 10 for row in range(200)]
    topic = native.topic_with(broker, values)
    with native.reading(broker, topic) as consumer:
        batch = fill(consumer, len(values))
        data = batch.to_arrow()
    column = data["value"]
    offsets = data["offset"]
    del batch, data, consumer
    gc.collect()
    # Something else may take the memory, if it was given back.
    noise = [bytes(5000) for _ in range(1000)]
    assert column.to_pylist() == values and offsets.to_pylist() == list(range(len(values)))
    # The last reference may go on any thread.
    holders = [column, offsets]
    del column, offsets
    thread = threading.Thread(target=holders.clear)
    thread.start()
    thread.join()
    assert len(noise) == 1000


def test_capsules_that_nobody_takes_are_released(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [b"value"] * 5000)
    with native.reading(broker, topic) as consumer:
        batch = fill(consumer, 5000)

    def export() -> None:
        for _ in range(300):
            batch.__arrow_c_array__()
            batch.__arrow_c_schema__()
            batch.__arrow_c_stream__()
            batch.to_arrow()

    export()
    before = psutil.Process().memory_info().rss
    export()
    # An export of 5000 rows makes 200 KB of views and indices; all of these would be 180 MB.
    assert psutil.Process().memory_info().rss - before < 40_000_000


def test_others_take_the_batch_itself(batch: RecordBatch) -> None:
    expected = batch.to_arrow()
    assert pyarrow.record_batch(batch).equals(expected)
    assert pyarrow.table(batch).to_batches() == [expected]
    assert pyarrow.array(batch).equals(expected.to_struct_array())
    with pyarrow.RecordBatchReader.from_stream(batch) as reader:
        assert reader.read_all().num_rows == len(batch)
    # Whoever asks for other types gets these and casts them.
    wanted = expected.schema.set(0, pyarrow.field("topic", pyarrow.string(), nullable=False))
    wanted = wanted.set(5, pyarrow.field("value", pyarrow.binary()))
    cast = pyarrow.record_batch(batch, schema=wanted)
    assert cast["value"].to_pylist() == batch.values and cast["topic"].to_pylist() == batch.topics


def test_without_pyarrow(batch: RecordBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pyarrow.*pip install 'tidegate\[arrow\]'"):
        batch.to_arrow()
    schema, array = batch.__arrow_c_array__()
    assert '"arrow_schema"' in repr(schema) and '"arrow_array"' in repr(array)
