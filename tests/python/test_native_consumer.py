"""The native consumer on the embedded broker: semantics, callbacks, threads, and every wrong argument."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import native
import pytest

import tidegate
from tidegate import Consumer, TopicPartition


@pytest.fixture(scope="module")
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="module")
def numbers(broker: tidegate.EmbeddedBroker) -> str:
    """A topic of one partition with the numbers from 0 to 99."""
    return native.topic_with(broker, (str(number) for number in range(100)))


# -- what is handed out, finished and committed --------------------------------------------------------------------------


def test_asking_for_the_next_finishes_the_one_before(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    place = TopicPartition(numbers, 0)
    with native.reading(broker, numbers, enable_auto_commit=False) as consumer:
        assert consumer.committed([place], native.WAIT_S) == {place: None}
        for number in range(3):
            record = consumer.poll(native.WAIT_S)
            assert record is not None and record.offset == number
        assert consumer.commit(timeout=native.WAIT_S) == {place: 3}, "a commit includes what is in hand"
        assert consumer.commit(timeout=native.WAIT_S) == {}, "nothing new"
        assert consumer.committed([place], native.WAIT_S) == {place: 3}
        batch = consumer.next_batch(native.WAIT_S, 10)
        assert batch is not None and batch.offsets.tolist() == list(range(3, 13))
        assert consumer.position(place) == 13
        consumer.poll(native.WAIT_S)
        assert consumer.commit(asynchronous=True) is None
        assert consumer.commit({place: 5}, native.WAIT_S) == {place: 5}
        assert consumer.committed([(numbers, 0)], native.WAIT_S) == {place: 5}


def test_a_lease_is_finished_by_acknowledging_in_any_order(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    place = TopicPartition(numbers, 0)
    with native.reading(broker, numbers, enable_auto_commit=False) as consumer:
        first = consumer.lease_batch(native.WAIT_S, 10)
        second = consumer.lease_batch(native.WAIT_S, 10)
        assert first is not None and second is not None
        consumer.acknowledge(second)
        assert consumer.commit(timeout=native.WAIT_S) == {place: 0}, "only where the assignment began"
        first.acknowledge_rows(0, 4)
        assert consumer.commit(timeout=native.WAIT_S) == {place: 4}
        first[4].acknowledge()
        consumer.acknowledge(first[5])
        first[6:9].acknowledge()
        assert consumer.commit(timeout=native.WAIT_S) == {place: 9}
        first.acknowledge()
        assert consumer.commit(timeout=native.WAIT_S) == {place: 20}
        with pytest.raises(TypeError, match="batch_or_record"):
            consumer.acknowledge(3)  # type: ignore[arg-type]


def test_leaving_a_with_block_finishes_what_is_in_hand_only_without_an_exception(
    broker: tidegate.EmbeddedBroker, numbers: str
) -> None:
    group = native.name("group")

    def hand_out_one() -> int:
        consumer.assign([(numbers, 0)])  # from where the group has committed
        record = consumer.poll(native.WAIT_S)
        assert record is not None
        return record.offset

    config = {"bootstrap.servers": broker.bootstrap_servers, "group.id": group, "auto.offset.reset": "earliest"}
    with pytest.raises(RuntimeError), tidegate.Consumer(config) as consumer:
        assert hand_out_one() == 0
        raise RuntimeError
    assert consumer.closed
    with tidegate.Consumer(config) as consumer:
        assert hand_out_one() == 0, "the exception left record 0 unfinished"
    with tidegate.Consumer(config) as consumer:
        assert hand_out_one() == 1


def test_iteration_and_batches_end_with_close(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    with native.reading(broker, numbers) as consumer:
        seen = []
        for record in consumer:
            seen.append(record.offset)
            if len(seen) == 50:
                break
        for batch in consumer.batches():
            seen += batch.offsets.tolist()
            if len(seen) == 100:
                threading.Timer(0.05, consumer.close).start()
        assert seen == list(range(100)), "the batches ended by themselves, with the close"
        assert list(consumer) == [] and list(consumer.batches()) == []
        with pytest.raises(tidegate.ClosedError):
            consumer.poll(0)


def test_fill_batch_waits_for_all_or_for_the_deadline(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    with native.reading(broker, numbers) as consumer:
        batch = consumer.fill_batch(native.WAIT_S, 60)
        assert batch is not None and len(batch) == 60
        started = time.monotonic()
        batch = consumer.fill_batch(0.3, 60)
        assert batch is not None and len(batch) == 40 and 0.3 <= time.monotonic() - started < 5
        assert consumer.fill_batch(0.05, 60) is None
        native.produce(broker, numbers, ["100"])
        batch = consumer.fill_batch(native.WAIT_S, 1)
        assert batch is not None and batch.values == [b"100"]


def test_max_poll_records_bounds_a_batch(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    with native.reading(broker, numbers, max_poll_records=7) as consumer:
        for batch in (consumer.fill_batch(native.WAIT_S, 50), consumer.next_batch(native.WAIT_S), consumer.next_batch(5, 3)):
            assert batch is not None and len(batch) in (7, 3)


def test_seek_pause_resume(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, (str(number) for number in range(40)), 2)
    left, right = TopicPartition(topic, 0), TopicPartition(topic, 1)
    with native.reading(broker, topic, 2) as consumer:
        assert sorted(consumer.assignment()) == [left, right]
        stale = consumer.fill_batch(native.WAIT_S, 10)
        assert stale is not None
        consumer.pause([left])
        assert consumer.paused() == [left]
        native.produce(broker, topic, ["more"] * 20, 2)
        seen: list[int] = []
        while len(seen) < 30 - sum(1 for partition in stale.partitions if partition == 1):
            batch = consumer.next_batch(native.WAIT_S)
            assert batch is not None and set(batch.partitions) == {1}, "only the partition that is not paused"
            seen += batch.offsets.tolist()
        assert consumer.poll(0.1) is None
        consumer.resume([left])
        assert consumer.paused() == []
        record = consumer.poll(native.WAIT_S)
        assert record is not None and record.partition == 0
        consumer.seek(right, 3)
        consumer.seek(left, "end")
        record = consumer.poll(native.WAIT_S)
        assert record is not None and (record.partition, record.offset) == (1, 3)
        assert stale.is_stale(0)
        with pytest.raises(tidegate.StaleError):
            stale.acknowledge()
        consumer.seek(right, "beginning")
        record = consumer.poll(native.WAIT_S)
        assert record is not None and record.offset == 0
        with pytest.raises(tidegate.NotAssignedError) as caught:
            consumer.seek((topic, 5), 0)
        assert caught.value.code == "NOT_ASSIGNED" and not caught.value.retriable


def test_rows_of_a_paused_partition_hold_up_no_others(broker: tidegate.EmbeddedBroker) -> None:
    """Rows of a paused partition that were fetched already used to be looked at for ever, and the others never."""
    topic = native.topic_with(broker, (str(number) for number in range(2000)), 2)
    with native.reading(broker, topic, 2) as consumer:
        first = consumer.poll(native.WAIT_S)
        assert first is not None
        consumer.pause([(topic, first.partition)])
        seen = 0
        while seen < 1000:
            batch = consumer.next_batch(native.WAIT_S)
            assert batch is not None and first.partition not in batch.partitions
            seen += len(batch)


def test_asking_the_broker(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    place = TopicPartition(numbers, 0)
    with native.reading(broker, numbers) as consumer:
        low, high = consumer.watermarks(place)
        assert (low, high) == (0, consumer.watermarks(place, timeout=5)[1]) and high >= 100
        record = consumer.poll(native.WAIT_S)
        assert record is not None and record.timestamp_ms is not None
        assert consumer.cached_watermarks(place) in ((0, high), (-1001, high)) or consumer.lag(place) is None
        assert consumer.lag(place) in (high - 1, high, None)
        assert consumer.cached_watermarks((numbers, 99)) is None
        assert consumer.topics()[numbers] == 1
        future = record.timestamp_ms + 10**9
        found = consumer.offsets_for_times(
            {
                place: 0,
            }
        )
        assert set(found) == {place} and consumer.offsets_for_times({}) == {}
        assert consumer.offsets_for_times({place: future})[place] in (None, high)
        stats = consumer.stats()
        assert stats["records_handed"] >= 0 and stats["partitions_assigned"] == 1
        assert stats["commit_latency_us"]["count"] == 0 and consumer.librdkafka_stats() is None


# -- rebalance callbacks -------------------------------------------------------------------------------------------------


def test_callbacks_run_in_the_polling_thread_and_may_call_the_consumer(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    calls: list[tuple[str, list[TopicPartition], int]] = []
    with native.grouped(broker) as consumer:

        def on_assign(partitions: list[TopicPartition]) -> None:
            calls.append(("assign", partitions, threading.get_ident()))
            consumer.seek(partitions[0], 90)
            with pytest.raises(tidegate.ConcurrentUseError):
                consumer.poll(0)

        def on_revoke(partitions: list[TopicPartition]) -> None:
            calls.append(("revoke", partitions, threading.get_ident()))
            committed.update(consumer.commit(timeout=native.WAIT_S))

        committed: dict[TopicPartition, int] = {}
        place = TopicPartition(numbers, 0)
        consumer.subscribe([numbers], on_assign=on_assign, on_revoke=on_revoke)
        assert consumer.subscription() == [numbers]
        record = consumer.poll(native.WAIT_S)
        assert record is not None and record.offset == 90, "the seek in on_assign came first"
        assert calls == [("assign", [place], threading.get_ident())]
        consumer.unsubscribe()
        while len(calls) < 2:
            consumer.poll(0.1)
        assert calls[1] == ("revoke", [place], threading.get_ident())
        assert committed == {place: 91}


def test_the_first_member_of_a_group_does_not_wait_for_others(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    """librdkafka's mock cluster makes it wait for 3 s. The quickest of three groups: the machine may be busy."""
    took_s = []
    for _ in range(3):
        with native.grouped(broker) as consumer:
            began = time.monotonic()
            consumer.subscribe([numbers])
            assert consumer.poll(native.WAIT_S) is not None
            took_s.append(time.monotonic() - began)
    assert min(took_s) < 2, took_s


def test_an_exception_of_a_callback_comes_out_of_the_poll_as_it_was(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    class OwnError(Exception):
        pass

    raised = OwnError("from the callback")

    def on_assign(_partitions: list[TopicPartition]) -> None:
        raise raised

    with native.grouped(broker) as consumer:
        consumer.subscribe([numbers], on_assign=on_assign)
        with pytest.raises(OwnError) as caught:
            consumer.poll(native.WAIT_S)
        assert caught.value is raised
        assert "on_assign" in str(caught.traceback[-1])
        record = consumer.poll(native.WAIT_S)
        assert record is not None and record.offset == 0, "the rebalance went on and nothing is lost"


def test_an_exception_of_on_revoke_comes_out_of_close_and_the_consumer_is_closed(
    broker: tidegate.EmbeddedBroker, numbers: str
) -> None:
    def on_revoke(_partitions: list[TopicPartition]) -> None:
        raise KeyError("revoke")

    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": native.name()})
    consumer.subscribe([numbers], on_revoke=on_revoke)
    assert consumer.poll(0) is None
    while not consumer.assignment():
        consumer.poll(0.05)
    with pytest.raises(KeyError, match="revoke"):
        consumer.close(native.WAIT_S)
    assert consumer.closed
    consumer.close()


# -- threads and life ----------------------------------------------------------------------------------------------------


def _polls(consumer: Consumer) -> bool:
    """True when this thread may poll."""
    try:
        consumer.poll(0)
    except tidegate.ConcurrentUseError:
        return False
    return True


def test_two_threads_that_poll_are_told_so(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    with native.reading(broker, topic) as consumer:
        waiting = threading.Thread(target=consumer.poll)
        waiting.start()
        polls: tuple[Callable[[], Any], ...] = (
            lambda: consumer.poll(0),
            lambda: consumer.next_batch(1),
            lambda: consumer.fill_batch(1, 2),
            lambda: consumer.lease_batch(1),
            lambda: next(consumer),
            lambda: next(consumer.batches()),
        )
        while _polls(consumer):
            pass
        for poll in polls:
            with pytest.raises(tidegate.ConcurrentUseError) as caught:
                poll()
            assert caught.value.retriable and caught.value.code == "CONCURRENT_USE"
        consumer.stats(), consumer.assignment(), consumer.commit(timeout=native.WAIT_S)
        consumer.wake()
        waiting.join(native.WAIT_S)
        assert not waiting.is_alive(), "the one that waited was not disturbed"


def test_other_calls_of_other_threads_never_disturb_a_poll(broker: tidegate.EmbeddedBroker) -> None:
    """A commit holds the consumer's lock for a moment; a poll at that moment used to fail as a concurrent one."""
    topic = native.topic_with(broker, (str(number) for number in range(30_000)))
    with native.reading(broker, topic) as consumer:
        stop = threading.Event()

        def disturb() -> None:
            while not stop.is_set():
                consumer.finish_in_hand()
                consumer.commit(asynchronous=True)
                consumer.stats()

        disturber = threading.Thread(target=disturb)
        disturber.start()
        try:
            for offset in range(30_000):
                record = consumer.poll(native.WAIT_S)
                assert record is not None and record.offset == offset
        finally:
            stop.set()
            disturber.join()


def test_wake_ends_a_wait_and_is_kept_for_the_next(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    with native.reading(broker, topic) as consumer:
        for wait in (consumer.poll, consumer.next_batch, lambda: consumer.fill_batch(None, 5)):
            timer = threading.Timer(0.1, consumer.wake)
            timer.start()
            started = time.monotonic()
            assert wait() is None
            assert time.monotonic() - started < 5
            timer.join()
            consumer.wake()
            assert wait() is None, "nobody waited, so this one did not"


def test_close_ends_a_wait_and_may_come_from_anywhere_and_twice(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    with native.reading(broker, topic) as consumer:
        assert "closed" not in repr(consumer) and not consumer.closed
        threading.Timer(0.1, consumer.close).start()
        assert consumer.poll() is None
        consumer.close()
        assert consumer.closed and "closed" in repr(consumer)
        place = (topic, 0)
        calls: list[Callable[[], Any]] = [
            lambda: consumer.poll(0),
            lambda: consumer.poll(1),
            lambda: consumer.next_batch(0),
            lambda: consumer.fill_batch(1, 5),
            consumer.lease_batch,
            lambda: consumer.subscribe([topic]),
            consumer.unsubscribe,
            lambda: consumer.assign([place]),
            consumer.commit,
            lambda: consumer.commit({place: 1}),
            lambda: consumer.commit(asynchronous=True),
            lambda: consumer.seek(place, 0),
            lambda: consumer.pause([place]),
            lambda: consumer.position(place),
            lambda: consumer.committed([place]),
            lambda: consumer.watermarks(place),
            lambda: consumer.lag(place),
            lambda: consumer.offsets_for_times({place: 0}),
            consumer.topics,
        ]
        for call in calls:
            with pytest.raises(tidegate.ClosedError) as caught:
                call()
            assert caught.value.fatal and caught.value.code == "CLOSED"
        consumer.stats()
        consumer.wake()


def test_a_collected_consumer_is_closed_and_its_callbacks_do_not_keep_it(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    group = native.name("group")

    def make() -> weakref.ref[Consumer]:
        consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group, "auto.offset.reset": "earliest"})
        consumer.subscribe([numbers], on_assign=lambda _: consumer.stats() and None, on_revoke=lambda _: consumer.stats() and None)
        assert consumer.poll(native.WAIT_S) is not None
        return weakref.ref(consumer)

    collected = make()
    before = threading.active_count()
    gc.collect()
    assert collected() is None
    assert threading.active_count() <= before


def test_consumers_collected_in_many_threads_while_callbacks_wait_for_the_interpreter(broker: tidegate.EmbeddedBroker) -> None:
    """Closing waits for threads that may want the interpreter: it must not be held meanwhile."""
    topic = native.topic_with(broker, ["x"] * 100)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                producer = tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 50})
                for _ in range(20):
                    producer.send(topic, "y", on_delivery=lambda *_: sum(range(1000)))
                consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": native.name()})
                consumer.assign({(topic, 0): "beginning"})
                assert consumer.poll(native.WAIT_S) is not None
                cycle: list[Any] = [producer, consumer]
                cycle.append(cycle)
                del producer, consumer, cycle
                gc.collect()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


def test_other_threads_run_while_one_waits(broker: tidegate.EmbeddedBroker) -> None:
    topic = native.topic_with(broker, [])
    with native.reading(broker, topic) as consumer:
        waiting = threading.Thread(target=consumer.poll, args=(0.5,))
        waiting.start()
        turns = 0
        while waiting.is_alive():
            turns += 1
        assert turns > 1000


# -- wrong arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("-inf")])
def test_a_timeout_before_now(broker: tidegate.EmbeddedBroker, timeout: float) -> None:
    with native.grouped(broker) as consumer:
        for call in _WITH_TIMEOUT:
            with pytest.raises(tidegate.ArgumentError, match=r"^timeout: ") as caught:
                call(consumer, timeout)
            assert isinstance(caught.value, ValueError) and caught.value.code == "ARGUMENT"


@pytest.mark.parametrize("timeout", ["1", b"1", [], True, object()])
def test_a_timeout_that_is_no_number(broker: tidegate.EmbeddedBroker, timeout: Any) -> None:
    with native.grouped(broker) as consumer:
        for call in _WITH_TIMEOUT:
            with pytest.raises(tidegate.ArgumentError, match=r"^timeout: .* is no number of seconds") as caught:
                call(consumer, timeout)
            assert isinstance(caught.value, TypeError)


_WITH_TIMEOUT: tuple[Callable[[Consumer, Any], Any], ...] = (
    lambda consumer, timeout: consumer.poll(timeout),
    lambda consumer, timeout: consumer.next_batch(timeout),
    lambda consumer, timeout: consumer.fill_batch(timeout, 3),
    lambda consumer, timeout: consumer.lease_batch(timeout),
    lambda consumer, timeout: consumer.commit(timeout=timeout),
    lambda consumer, timeout: consumer.committed([("t", 0)], timeout),
    lambda consumer, timeout: consumer.watermarks(("t", 0), timeout),
    lambda consumer, timeout: consumer.offsets_for_times({("t", 0): 1}, timeout),
    lambda consumer, timeout: consumer.topics(timeout),
    lambda consumer, timeout: consumer.close(timeout),
)


def test_timeouts_that_are_fine(broker: tidegate.EmbeddedBroker) -> None:
    with native.grouped(broker) as consumer:
        for timeout in (0, 0.0, 1e-9, 0.01):
            assert consumer.poll(timeout) is None
        threading.Timer(0.05, consumer.wake).start()
        assert consumer.poll(float("inf")) is None
        threading.Timer(0.05, consumer.wake).start()
        assert consumer.poll(1e300) is None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda c: c.subscribe([]), "topics: there is no topic"),
        (lambda c: c.subscribe("orders"), "topics: 'orders' .* is one name"),
        (lambda c: c.subscribe([""]), "topics: "),
        (lambda c: c.subscribe([3]), "topics: 3 .* is no name"),
        (lambda c: c.subscribe(7), "topics: 7 .* is no list"),
        (lambda c: c.subscribe(["a"], on_assign=3), "on_assign: 3 .* cannot be called"),
        (lambda c: c.subscribe(["a"], on_revoke="x"), "on_revoke: "),
        (lambda c: c.subscribe(["a"], on_lost=[]), "on_lost: "),
        (lambda c: c.assign("orders"), "partitions: "),
        (lambda c: c.assign(["orders"]), "partitions: 'orders' .* is no partition"),
        (lambda c: c.assign({"orders": 3}), "partitions: 'orders' .* is no partition"),
        (lambda c: c.assign({("orders", 0): -1}), "partitions: -1 .* is no offset"),
        (lambda c: c.assign({("orders", 0): "last"}), 'partitions: "last" is no offset'),
        (lambda c: c.assign([("orders", -1)]), "partition"),
        (lambda c: c.assign([("", 1)]), "topic"),
        (lambda c: c.assign(TopicPartition("a", 0)), "partitions: "),
        (lambda c: c.next_batch(1, 0), "max_records: 0 records"),
        (lambda c: c.next_batch(1, -3), "max_records: -3 records"),
        (lambda c: c.next_batch(1, "many"), "max_records: 'many' .* is no number"),
        (lambda c: c.lease_batch(1, 1.5), "max_records: 1.5 .* is no number"),
        (lambda c: c.fill_batch(1, 0), "records: 0 records"),
        (lambda c: c.fill_batch(1, None), "records: None is no number"),
        (lambda c: c.commit([("a", 1)]), "offsets: .* is no mapping"),
        (lambda c: c.commit({("a", 1): "end"}), "offsets: 'end' .* cannot be committed"),
        (lambda c: c.commit({("a", 1): -5}), "offsets: -5 .* is no offset"),
        (lambda c: c.commit({}), "offsets: there is nothing to commit"),
        (lambda c: c.seek("a", 1), "partition: 'a' .* is no partition"),
        (lambda c: c.seek(("a", 1), None), "offset: None .* is no offset"),
        (lambda c: c.seek(("a", 1), 1.5), "offset: 1.5 .* is no offset"),
        (lambda c: c.seek(("a", 1), "end-x"), "offset: "),
        (lambda c: c.pause(("a", 1)), "partitions: 'a' .* is no partition"),
        (lambda c: c.resume(3), "partitions: 3 .* is no list"),
        (lambda c: c.committed("a"), "partitions: "),
        (lambda c: c.watermarks(("a", "b")), "partition: .* is no partition"),
        (lambda c: c.offsets_for_times({("a", 1): "now"}), "times_ms: 'now' .* is no time"),
        (lambda c: c.offsets_for_times({("a", 1): -1}), "times_ms: "),
        (lambda c: c.offsets_for_times([1]), "times_ms: .* is no mapping"),
    ],
)
def test_wrong_arguments_name_themselves(broker: tidegate.EmbeddedBroker, call: Callable[[Any], Any], says: str) -> None:
    with native.grouped(broker) as consumer, pytest.raises(tidegate.ArgumentError, match=says) as caught:
        call(consumer)
    assert caught.value.code == "ARGUMENT" and caught.value.number == 101
    assert "; " in str(caught.value), "says what to write instead"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (None, "config: a NoneType is no mapping"),
        ([("group.id", "g")], "config: a list is no mapping"),
        ({3: "x"}, "config: 3 .* is no property name"),
        ({"group.id": None}, 'config: the value of "group.id" is a NoneType'),
        ({"sasl.password": b"geheim"}, 'config: the value of "sasl.password" is a bytes'),
        ({"error_cb": print}, 'config: the value of "error_cb" is a builtin'),
    ],
)
def test_wrong_configurations_by_type(config: Any, says: str) -> None:
    for make in (Consumer, tidegate.Producer, tidegate.Admin):
        with pytest.raises(tidegate.ArgumentError, match=says) as caught:
            make(config)
        assert isinstance(caught.value, TypeError) and "geheim" not in str(caught.value)


def test_all_problems_of_a_configuration_come_at_once() -> None:
    config = {"group.id": "g", "session.timeout.ms": 1, "enable.auto.comit": True, "sasl.password": "geheim", "acks": 10**30}
    with pytest.raises(tidegate.ConfigError) as caught:
        Consumer(config)
    error = caught.value
    assert isinstance(error, ValueError) and (error.code, error.number) == ("CONFIG", 100)
    by_name = {problem["property"]: problem for problem in error.problems}
    assert {"enable.auto.comit", "acks"} <= set(by_name)
    assert "enable.auto.commit" in by_name["enable.auto.comit"]["remedy"]
    assert set(error.problems[0]) == {"property", "value", "reason", "remedy", "severity"}
    assert "geheim" not in str(error) and "geheim" not in repr(error.problems)


def test_numbers_and_booleans_are_taken_for_what_they_are(broker: tidegate.EmbeddedBroker, numbers: str) -> None:
    config = {
        "bootstrap.servers": broker.bootstrap_servers,
        "group.id": native.name(),
        "enable.auto.commit": False,
        "auto.commit.interval.ms": 5000.0,
        "session.timeout.ms": "6000",
        "heartbeat.interval.ms": 500,
    }
    with Consumer(config) as consumer:
        consumer.assign([(numbers, 0)])


def test_a_topic_that_is_not_there_is_waited_for(broker: tidegate.EmbeddedBroker) -> None:
    with native.grouped(broker) as consumer:
        consumer.subscribe(["^nothing-matches-.*"])
        assert consumer.poll(0.2) is None
        with pytest.raises(tidegate.ArgumentError, match="subscribed"):
            consumer.assign([("a", 0)])


def test_without_a_group() -> None:
    with tidegate.EmbeddedBroker({"t": 1}) as broker, Consumer({"bootstrap.servers": broker.bootstrap_servers}) as consumer:
        for call in (lambda: consumer.subscribe(["t"]), consumer.commit, lambda: consumer.committed([("t", 0)])):
            with pytest.raises(tidegate.ArgumentError, match=r"group\.id"):
                call()
        consumer.assign({("t", 0): "end-1"})
        assert consumer.poll(0.05) is None


def test_an_error_of_the_broker_carries_kafkas_code(broker: tidegate.EmbeddedBroker) -> None:
    with native.grouped(broker) as consumer, pytest.raises(tidegate.KafkaError) as caught:
        consumer.watermarks(("no-such-topic-here", 77), timeout=5)
    error = caught.value
    assert error.code == "KAFKA" and error.kafka_name and error.kafka_code is not None and error.kafka_name in str(error)


def test_the_exceptions_can_be_made_in_python_and_have_their_codes() -> None:
    root = tidegate.TidegateError
    expected = {
        tidegate.ConfigError: ("CONFIG", 100, ValueError),
        tidegate.ArgumentError: ("ARGUMENT", 101, ValueError),
        tidegate.ArgumentTypeError: ("ARGUMENT", 101, TypeError),
        tidegate.ClosedError: ("CLOSED", 200, Exception),
        tidegate.ConcurrentUseError: ("CONCURRENT_USE", 201, Exception),
        tidegate.ForkedError: ("FORKED", 202, Exception),
        tidegate.TimedOutError: ("TIMED_OUT", 300, TimeoutError),
        tidegate.QueueFullError: ("QUEUE_FULL", 301, BufferError),
        tidegate.NotAssignedError: ("NOT_ASSIGNED", 400, Exception),
        tidegate.StaleError: ("STALE", 401, Exception),
        tidegate.KafkaError: ("KAFKA", 500, Exception),
        tidegate.ListenerError: ("LISTENER", 600, Exception),
    }
    for kind, (code, number, also) in expected.items():
        error = kind("text")
        assert isinstance(error, root) and isinstance(error, also)
        assert (error.code, error.number, str(error)) == (code, number, "text")
        assert (error.kafka_code, error.kafka_name) == (None, None)
        assert kind.__module__ == "tidegate" and isinstance(error.retriable, bool) and isinstance(error.fatal, bool)


def test_what_is_unassigned_and_assigned_again_at_once_comes_again() -> None:
    partitions, rounds = 40, 30
    with tidegate.EmbeddedBroker(topics={"many": partitions}) as broker:
        servers = broker.bootstrap_servers
        with tidegate.Producer({"bootstrap.servers": servers}) as producer:
            for number in range(partitions):
                producer.send("many", b"v", partition=number)
        every = {tidegate.TopicPartition("many", number): 0 for number in range(partitions)}
        with tidegate.Consumer({"bootstrap.servers": servers, "fetch.wait.max.ms": 20}) as consumer:
            for turn in range(rounds):
                consumer.assign(every)
                # By turns all of it was read before, and hardly any.
                for _ in range(partitions if turn % 2 else 1):
                    assert consumer.poll(10) is not None
                consumer.assign({})
                consumer.assign(every)
                came: set[int] = set()
                while len(came) < partitions:
                    record = consumer.poll(5)
                    assert record is not None, f"round {turn}: nothing of {sorted(set(range(partitions)) - came)}"
                    came.add(record.partition)
