"""Records, batches and columns: what is in them, and that buffers are the batch's own memory."""

from __future__ import annotations

import array
import gc
import pickle
from collections.abc import Iterator

import native
import pytest

import tidegate
from tidegate import RecordBatch, TopicPartition

VALUES = [b"zero", None, b"", b'{"n": 3}', b"not json", "fünf".encode(), b"6" * 1000, b"7"]


@pytest.fixture(scope="module")
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="module")
def batch(broker: tidegate.EmbeddedBroker) -> RecordBatch:
    """Partition 0 only, so that row and offset are one number. It is used after its consumer was closed."""
    topic = native.topic_with(broker, VALUES)
    with native.reading(broker, topic) as consumer:
        batch = consumer.fill_batch(native.WAIT_S, len(VALUES))
    assert batch is not None and len(batch) == len(VALUES)
    return batch


def test_a_record_has_everything_that_was_sent(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.name()
    broker.create_topic(topic, 3)
    headers = [("trace", b"\x00\xff"), ("trace", None), ("größe", b""), ("text", "ß")]
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer:
        producer.send(topic, b"value", key="key", headers=headers, partition=2, timestamp_ms=1_700_000_000_123)
        producer.send(topic, None, partition=2)
    with native.reading(broker, topic, 3) as consumer:
        record = consumer.poll(native.WAIT_S)
        tombstone = consumer.poll(native.WAIT_S)
    assert record is not None and tombstone is not None
    assert (record.topic, record.partition, record.offset) == (topic, 2, 0)
    assert (record.key, record.value) == (b"key", b"value")
    assert record.headers == [("trace", b"\x00\xff"), ("trace", None), ("größe", b""), ("text", "ß".encode())]
    assert (record.timestamp_ms, record.timestamp_type) == (1_700_000_000_123, "create")
    assert record.leader_epoch is None or record.leader_epoch >= 0
    assert (tombstone.key, tombstone.value, tombstone.headers) == (None, None, [])
    assert tombstone.timestamp_ms is not None


def test_records_are_equal_by_place_and_show_no_content(batch: RecordBatch) -> None:
    assert batch[3] == batch[3] and batch[3] is not batch[3]
    assert batch[3] != batch[4] and batch[3] != 3
    assert len({batch[3], batch[3], batch[4]}) == 2
    assert repr(batch[0]).endswith("offset 0, key: 2 bytes, value: 4 bytes>")
    assert "zero" not in repr(batch[0]) and "zero" not in repr(batch)
    assert "value: none" in repr(batch[1])


def test_json(batch: RecordBatch) -> None:
    assert batch[3].json() == {"n": 3}
    for row in (0, 2, 4):
        with pytest.raises(ValueError):
            batch[row].json()
    with pytest.raises(ValueError, match="tombstone"):
        batch[1].json()


def test_rows_by_index_slice_and_iteration(batch: RecordBatch) -> None:
    assert [record.value for record in batch] == VALUES == batch.values
    assert batch.keys == [f"k{row}".encode() for row in range(len(VALUES))]
    assert [record.offset for record in batch] == list(range(len(VALUES)))
    assert batch[-1].offset == len(VALUES) - 1 and batch.value(-1) == b"7" and batch.key(0) == b"k0"
    part = batch[2:5]
    assert isinstance(part, RecordBatch) and part.values == VALUES[2:5]
    assert batch[-3:].values == VALUES[-3:] and batch[5:2].values == [] and len(batch[100:]) == 0
    assert batch[:][1:][1:].offsets.tolist() == list(range(2, len(VALUES)))
    assert part.size_bytes == batch.size_bytes > 1000
    iterator = iter(batch)
    next(iterator)
    assert iterator.__length_hint__() == len(VALUES) - 1
    assert len(list(iterator)) == len(VALUES) - 1 and list(iterator) == []


@pytest.mark.parametrize("row", [len(VALUES), -len(VALUES) - 1, 10**30])
def test_a_row_that_is_not_there(batch: RecordBatch, row: int) -> None:
    for call in (batch.__getitem__, batch.value, batch.key, batch.is_stale, batch.offsets.__getitem__):
        with pytest.raises(IndexError, match=f"there are {len(VALUES)} rows"):
            call(row)


def test_wrong_indices(batch: RecordBatch) -> None:
    with pytest.raises(TypeError, match="index: 'a'"):
        batch["a"]  # type: ignore[call-overload]
    with pytest.raises(tidegate.ArgumentError, match="step 2"):
        batch[::2]
    with pytest.raises(tidegate.ArgumentError, match="step -1"):
        batch.offsets[::-1]
    with pytest.raises(tidegate.ArgumentError):
        batch.acknowledge_rows(0, len(VALUES) + 1)
    with pytest.raises(tidegate.ArgumentError):
        batch.acknowledge_rows(2, 1)
    with pytest.raises(OverflowError):
        batch.acknowledge_rows(-1, 1)


def test_columns_are_sequences(batch: RecordBatch) -> None:
    assert list(batch.offsets) == list(range(len(VALUES))) == batch.offsets.tolist()
    assert list(batch.partitions) == [0] * len(VALUES)
    assert len(batch.timestamps_ms) == len(VALUES) and all(batch.timestamps_ms)
    assert batch.offsets[-1] == len(VALUES) - 1 and 3 in batch.offsets and 99 not in batch.offsets
    assert batch.offsets[2:4].tolist() == [2, 3] and "x" not in batch.offsets
    assert batch.topics == [batch[0].topic] * len(VALUES)
    assert batch.topics[0] is batch.topics[1], "one str for all records of a topic"


def test_columns_are_buffers_without_a_copy(batch: RecordBatch) -> None:
    view = memoryview(batch.offsets)
    assert (view.format, view.itemsize, view.shape, view.strides) == ("q", 8, (len(VALUES),), (8,))
    assert view.readonly and view.c_contiguous and view.nbytes == 8 * len(VALUES)
    assert view.tolist() == list(range(len(VALUES)))
    assert (memoryview(batch.partitions).format, memoryview(batch.partitions).itemsize) == ("i", 4)
    assert memoryview(batch[2:].offsets).tolist() == list(range(2, len(VALUES)))
    assert array.array("q", bytes(view)).tolist() == view.tolist()
    with pytest.raises(TypeError):
        view[0] = 1
    assert batch.offsets.__buffer__(0).tolist() == view.tolist()


def test_numpy_sees_the_batchs_memory(batch: RecordBatch) -> None:
    numpy = pytest.importorskip("numpy")
    offsets = numpy.asarray(batch.offsets)
    assert offsets.dtype == numpy.int64 and offsets.sum() == sum(range(len(VALUES)))
    assert not offsets.flags.writeable
    assert offsets.__array_interface__["data"][0] == numpy.frombuffer(batch.offsets, numpy.int64).__array_interface__["data"][0]
    assert numpy.asarray(batch.partitions).dtype == numpy.int32


def test_a_view_outlives_batch_and_column(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [b"x"] * 100)
    with native.reading(broker, topic) as consumer:
        batch = consumer.fill_batch(native.WAIT_S, 100)
        assert batch is not None
        view = memoryview(batch.offsets)
        record = batch[7]
        del batch
        gc.collect()
    assert view.tolist() == list(range(100)) and record.value == b"x"


def test_runs_and_dicts(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, (f"v{row}" for row in range(90)), 3)
    with native.reading(broker, topic, 3) as consumer:
        batch = consumer.fill_batch(native.WAIT_S, 90)
        assert batch is not None and len(batch) == 90
        seen = 0
        for partition, rows in batch.runs():
            part = batch[rows]
            assert set(part.partitions) == {partition.partition} and partition.topic == topic
            offsets = part.offsets.tolist()
            assert offsets == list(range(offsets[0], offsets[0] + len(part)))
            seen += len(part)
        assert seen == 90
        dicts = batch.to_dicts()
    assert len(dicts) == 90
    assert dicts[0] == {
        "topic": topic,
        "partition": batch[0].partition,
        "offset": batch[0].offset,
        "timestamp_ms": batch[0].timestamp_ms,
        "key": batch[0].key,
        "value": batch[0].value,
        "headers": [],
    }


def test_topic_partition() -> None:
    one, two = TopicPartition("a", 1), TopicPartition("a", 2)
    assert one == TopicPartition("a", 1) and one != two and one < two <= two and TopicPartition("b", 0) > two
    assert hash(one) == hash(TopicPartition("a", 1)) and {one: 3}[TopicPartition("a", 1)] == 3
    assert (one.topic, one.partition) == ("a", 1) and one != ("a", 1)
    assert repr(one) == 'TopicPartition("a", 1)' and str(one) == "a [1]" and eval(repr(one)) == one
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(TypeError):
        assert one < 3  # type: ignore[operator]
    with pytest.raises(AttributeError):
        one.topic = "b"  # type: ignore[misc]
    for wrong in (("", 1), ("a", -1)):
        with pytest.raises(tidegate.ArgumentError):
            TopicPartition(*wrong)
    with pytest.raises(TypeError):
        TopicPartition("a", "1")  # type: ignore[arg-type]


def test_a_hundred_thousand_records_come_once_each_whatever_asks_for_them(broker: tidegate.EmbeddedBroker) -> None:
    count = 100_000
    topic = native.name()
    broker.create_topic(topic, 4)
    with tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 20}) as producer:
        for first in range(0, count, 10_000):
            values = [b"%d" % number for number in range(first, first + 10_000)]
            assert producer.send_batch(topic, values, keys=values) == 10_000
        assert producer.flush(60) == 0
    with native.reading(broker, topic, 4) as consumer:
        seen = bytearray(count)
        total = 0
        while total < count:
            kind = total % 3
            if kind == 0:
                record = consumer.poll(native.WAIT_S)
                values = [record.value] if record is not None else []
            elif kind == 1:
                batch = consumer.next_batch(native.WAIT_S, 997)
                values = [record.value for record in batch] if batch is not None else []
            else:
                batch = consumer.fill_batch(5.0, min(1501, count - total))
                values = batch.values if batch is not None else []
            assert values, f"{total} of {count}"
            for value in values:
                assert value is not None
                seen[int(value)] += 1
            total += len(values)
        assert consumer.poll(0) is None
        assert consumer.stats()["records_handed"] == count
    assert seen.count(1) == count
