"""The values of `tidegate.confluent` beside those of the real package: texts, equality, order, hash, mistakes, constants."""

from __future__ import annotations

import copy
import enum
import pickle
import types
from typing import Any

import confluent_kafka
import confluent_kafka.admin
import confluent_kafka.cimpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import _core, confluent
from tidegate.confluent import cimpl
from tidegate.confluent.admin import _new

PEER = types.SimpleNamespace(
    **{name: getattr(confluent_kafka.cimpl, name) for name in dir(confluent_kafka.cimpl) if not name.startswith("__")},
    c=confluent_kafka,
)
OURS = types.SimpleNamespace(**{name: getattr(cimpl, name) for name in dir(cimpl) if not name.startswith("__")}, c=confluent)

NEWER_IN_CORE = {103, 114, 115, 116, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 130, 131, 132, 133}
"""Codes that the linked librdkafka has no text for: the engine's own texts, worded differently from a later librdkafka's."""


def answer(expression: str, names: types.SimpleNamespace) -> str:
    """What an expression gives: its value's repr, or the exception's type."""
    try:
        return repr(eval(expression, dict(vars(names))))
    except Exception as error:
        return f"raised {type(error).__name__}"


VALUES = """
KafkaError(1)
KafkaError(-185)
KafkaError(-185, 'x')
KafkaError(-185, None)
KafkaError(9999)
KafkaError(98).str(), KafkaError(98).name()
KafkaError(-185, 'x', True)
KafkaError(-185, 'x', True, True, True).retriable(), KafkaError(1, 'x', 0, 0, 1).txn_requires_abort()
KafkaError(error=1, reason='x', fatal=1, retriable=0, txn_requires_abort=1)
KafkaError(True), KafkaError(1, 'é'), KafkaError(0)
str(KafkaError(3)), KafkaError(3).str(), KafkaError(3).name(), KafkaError(3).code(), KafkaError(3).fatal()
KafkaError(1) == KafkaError(1, 'other'), KafkaError(1) == 1, KafkaError(1) != 1, 1 == KafkaError(1), 2 > KafkaError(1)
KafkaError(1) < 2, KafkaError(1) < KafkaError(2), KafkaError(1) > KafkaError(2), KafkaError(1) >= 1, KafkaError(1) <= 0
hash(KafkaError(1)), hash(KafkaError(-185)), {KafkaError(1): 2}[KafkaError(1, 'x')]
bool(KafkaError(0)), bool(KafkaError(1)), isinstance(KafkaError(1), Exception)
sorted([KafkaError(3), KafkaError(-1), KafkaError(1)])
KafkaException(KafkaError(1)).args, str(KafkaException(KafkaError(1))), repr(KafkaException(KafkaError(1)))
issubclass(KafkaException, Exception), KafkaException.__mro__[1:] == (Exception, BaseException, object)
IllegalStateException.__base__, ConcurrentModificationException.__base__, str(IllegalStateException('a'))
TopicPartition('a')
TopicPartition('a', 1)
TopicPartition('a', 1, 2, 'm', 3), TopicPartition('a', 1, 2, 'm', 3).metadata
TopicPartition('a', 1, 2, 'm', -1).leader_epoch, TopicPartition('a', leader_epoch=-5).leader_epoch
TopicPartition(topic='a', partition=3, offset=4, metadata='x', leader_epoch=5)
TopicPartition('a', 0, OFFSET_BEGINNING), TopicPartition('a', 0, OFFSET_END), TopicPartition('a', 0, OFFSET_STORED)
TopicPartition('é', 0, -2005), TopicPartition('', -5), TopicPartition('a', True), TopicPartition('a').error
TopicPartition('a', 1) == TopicPartition('a', 1, 5), TopicPartition('a', 1) != TopicPartition('a', 2)
TopicPartition('a', 1) < TopicPartition('a', 2), TopicPartition('a', 1) < TopicPartition('b', 0)
TopicPartition('b', 1) <= TopicPartition('a', 2), TopicPartition('a', 1) >= TopicPartition('a', 1)
hash(TopicPartition('a', 7)) == hash('a') ^ 7, {TopicPartition('a', 1, 5): 1}[TopicPartition('a', 1, 8)]
sorted([TopicPartition('b', 1), TopicPartition('a', 3), TopicPartition('a', 1)]), bool(TopicPartition('a'))
Uuid(1, 2), str(Uuid(-1, -1)), Uuid(123456789123456789, 987654321987654321), Uuid(-2**63, 2**63 - 1)
Uuid(1, 2).get_most_significant_bits(), Uuid(1, -2).get_least_significant_bits()
Uuid(most_significant_bits=1, least_significant_bits=2), hash(Uuid(1, 2)) == hash(Uuid(1, 2)), Uuid(1, 2) != Uuid(1, 3)
NewTopic('a'), NewTopic('a', 2, 3), NewTopic('a', -5), NewTopic(topic='x', num_partitions=1)
NewTopic('a', 2, 3, [[1]], {'x': 'y'}).config, NewTopic('a', replica_assignment=[[1]]).replica_assignment
NewTopic('a').num_partitions, NewTopic('a').replication_factor, NewTopic('a').config, NewTopic('a').replica_assignment
NewTopic('a', 1) == NewTopic('a', 1, 9), NewTopic('a', 1) == NewTopic('a', 2), NewTopic('a', 1) < NewTopic('b', 1)
hash(NewTopic('a', 7)) == hash('a') ^ 7, hash(NewPartitions('a', 7)) == hash('a') ^ 7
NewPartitions('a', 3), NewPartitions('a', 3, [[1]]).replica_assignment, NewPartitions('a', new_total_count=0)
NewPartitions('a', 1) == NewPartitions('a', 1), NewPartitions('a', 1) < NewPartitions('a', 2)
version(), c.__version__, type(libversion()), [type(part) for part in libversion()]
murmur2(b'abc', 7), consistent(b'abc', 7), fnv1a(b'abc', 7), murmur2(b'', 7), consistent(b'', 7), fnv1a(b'', 7)
str(c.Node(1, 'h', 9)), str(c.Node(1, 'h', 9, 'r')), c.Node(1, 'h', 9).id_string, c.Node(1, 'h', 9).rack
c.ConsumerGroupTopicPartitions('g').topic_partitions, c.TopicCollection(['a']).topic_names
vars(c.TopicPartitionInfo(1, 2, [3], [4])), c.Messages([1, 2])[0], c.Messages([1, 2])[1:], len(c.Messages([1]))
c.Messages([1]).records(), c.Messages([1]).count(), c.Messages().is_empty(), list(c.Messages([1, 2]))
str(c.ThrottleEvent('b', 1, 0.25)), vars(c.ThrottleEvent('b', 1, 0.25))
c.ConsumerGroupState.UNKOWN, c.ConsumerGroupState.EMPTY < c.ConsumerGroupState.DEAD, c.ElectionType['UNCLEAN']
""".strip().splitlines()

MISTAKES = """
KafkaError()
KafkaError('a')
KafkaError(1.5)
KafkaError(None)
KafkaError(1, 5)
KafkaError(1, b'x')
KafkaError(1, 'a', 'y')
KafkaError(code=1)
KafkaError(2**40)
KafkaError(-2**40)
KafkaError(1, 'a\\0b')
KafkaError(1, 'x', 1, 1, 1, 1)
KafkaError(1).foo
setattr(KafkaError(1), 'foo', 1)
TopicPartition()
TopicPartition(1)
TopicPartition(None)
TopicPartition(b'a')
TopicPartition('a', 'b')
TopicPartition('a', None)
TopicPartition('a', 1.5)
TopicPartition('a', 2**40)
TopicPartition('a', 0, 2**70)
TopicPartition('a', 0, 'x')
TopicPartition('a', 0, 0, 5)
TopicPartition('a', 0, 0, b'x')
TopicPartition('a', 0, 0, 'x', 'y')
TopicPartition('a', 0, 0, 'x', 2**40)
TopicPartition('a', 1, offset=-1, error=1)
TopicPartition('a\\0b')
setattr(TopicPartition('a'), 'topic', 'b')
setattr(TopicPartition('a'), 'metadata', 'b')
setattr(TopicPartition('a'), 'leader_epoch', 3)
setattr(TopicPartition('a'), 'error', None)
setattr(TopicPartition('a'), 'partition', 'x')
setattr(TopicPartition('a'), 'offset', None)
setattr(TopicPartition('a'), 'foo', 3)
Uuid()
Uuid(1)
Uuid('a', 1)
Uuid(1.5, 1)
Uuid(2**63, 1)
Uuid(1, 2) < Uuid(1, 3)
int(Uuid(1, 2))
NewTopic()
NewTopic(1)
NewTopic('a', 'b')
NewTopic('a', 1, 'x')
NewTopic('a', 1, 1, config=1)
setattr(NewTopic('a'), 'topic', 'x')
NewPartitions('a')
NewPartitions('a', 'b')
NewPartitions(None, 1)
murmur2('abc', 7)
murmur2(b'abc', 0)
murmur2(b'abc', -1)
murmur2(None, 3)
murmur2(b'a', '3')
murmur2(bytearray(b'abc'), 7)
murmur2(b'abc', 2**40)
murmur2(key=b'a', partition_count=3)
consistent('x', 7)
fnv1a(b'abc', 0)
version(1)
c.Messages([1])[5]
c.ElectionType['OTHER']
c.ConsumerGroupState.EMPTY < c.ElectionType.PREFERRED
""".strip().splitlines()


@pytest.mark.parametrize("expression", VALUES)
def test_a_value_is_the_originals(expression: str) -> None:
    ours = answer(expression, OURS)
    assert not ours.startswith("raised"), ours
    assert ours == answer(expression, PEER)


@pytest.mark.parametrize("expression", MISTAKES)
def test_a_mistake_is_the_originals(expression: str) -> None:
    ours = answer(expression, OURS)
    assert ours.startswith("raised"), ours
    assert ours == answer(expression, PEER)


def test_the_codes_are_the_originals_and_their_texts_librdkafkas() -> None:
    peer = {name: value for name, value in vars(PEER.KafkaError).items() if type(value) is int}
    ours = {name: value for name, value in vars(OURS.KafkaError).items() if type(value) is int}
    assert ours == peer
    assert len(ours) > 170
    different = set()
    for name, code in peer.items():
        assert OURS.KafkaError(code).name() == PEER.KafkaError(code).name() == name
        if OURS.KafkaError(code).str() != PEER.KafkaError(code).str():
            different.add(code)
    assert different <= NEWER_IN_CORE


def test_the_codes_for_type_checkers_are_those_of_the_engine() -> None:
    declared = set(OURS.KafkaError.__annotations__)
    assert declared == {name for _, name, _ in _core._kafka_codes()}


def test_constants_have_the_originals_values() -> None:
    peer = {name: value for name, value in vars(PEER).items() if name.isupper() and isinstance(value, int)}
    assert {name: getattr(cimpl, name) for name in peer} == peer
    assert len(peer) > 60


@pytest.mark.parametrize(
    "name", [name for name, value in vars(confluent_kafka).items() if isinstance(value, type) and issubclass(value, enum.Enum)]
)
def test_enums_have_the_originals_members(name: str) -> None:
    peer, ours = getattr(confluent_kafka, name), getattr(confluent, name)
    assert {key: member.value for key, member in ours.__members__.items()} == {
        key: member.value for key, member in peer.__members__.items()
    }
    assert issubclass(ours, int) == issubclass(peer, int)


@settings(deadline=None)
@given(key=st.binary(max_size=40), partitions=st.integers(1, 2**31 - 1))
def test_a_key_has_the_partition_that_the_original_gives_it(key: bytes, partitions: int) -> None:
    for function in ("murmur2", "consistent", "fnv1a"):
        assert getattr(OURS, function)(key, partitions) == getattr(PEER, function)(key, partitions), function


@settings(deadline=None)
@given(most=st.integers(-(2**63), 2**63 - 1), least=st.integers(-(2**63), 2**63 - 1))
def test_a_uuid_is_written_as_the_original_writes_it(most: int, least: int) -> None:
    assert str(OURS.Uuid(most, least)) == str(PEER.Uuid(most, least))


def test_partition_and_offset_can_be_set() -> None:
    for names in (PEER, OURS):
        place = names.TopicPartition("a")
        place.partition, place.offset = 3, names.OFFSET_END
        assert repr(place) == "TopicPartition{topic=a,partition=3,offset=-1,leader_epoch=None,error=None}"


def test_a_subclass_can_be_made() -> None:
    for names in (PEER, OURS):
        place = type("Place", (names.TopicPartition,), {"extra": 1})("a", 2)
        assert (place.extra, place.partition) == (1, 2)


@pytest.mark.parametrize("name", ["KafkaError", "TopicPartition", "Uuid"])
def test_comparing_with_another_type_says_that_it_differs(name: str) -> None:
    # The original raises NotImplementedError, or leaves a TypeError behind for the next call to trip over.
    arguments: dict[str, tuple[Any, ...]] = {"KafkaError": (1,), "TopicPartition": ("a", 1), "Uuid": (1, 2)}
    value = getattr(OURS, name)(*arguments[name])
    for other in (None, "a", 1.5, object()):
        assert value != other
        assert other != value
    assert value in [None, value]
    if name != "Uuid":
        with pytest.raises(TypeError):
            assert value < None


def test_equal_identifiers_are_equal() -> None:
    # In the original two Uuids of the same topic differ.
    assert OURS.Uuid(1, 2) == OURS.Uuid(1, 2)
    assert len({OURS.Uuid(1, 2), OURS.Uuid(1, 2)}) == 1


def test_values_can_be_copied_and_pickled() -> None:
    # The original can do so with a KafkaError only.
    error = OURS.KafkaError(-185, "x", True)
    place = OURS.TopicPartition("a", 1, 2, "m", 3)
    for value in (error, place, OURS.Uuid(1, 2), OURS.KafkaException(error), OURS.NewTopic("a", 1)):
        again = pickle.loads(pickle.dumps(value))
        assert type(again) is type(value)
        assert repr(copy.copy(value)) == repr(again) == repr(value)
    assert pickle.loads(pickle.dumps(error)).fatal()
    assert pickle.loads(pickle.dumps(place)).metadata == "m"


def test_a_none_for_what_may_be_none_is_taken() -> None:
    # The original's types say so, and its constructor refuses them.
    assert OURS.TopicPartition("a", 1, 2, None, None).metadata is None
    assert OURS.NewTopic("a", 1, 1, None, None).config is None


def test_share_consumers_say_what_they_need() -> None:
    for name in ("ShareConsumer", "DeserializingShareConsumer"):
        with pytest.raises(confluent.KafkaException) as raised:
            getattr(confluent, name)({"bootstrap.servers": "x", "group.id": "g"})
        assert raised.value.args[0].code() == confluent.KafkaError._UNSUPPORTED_FEATURE
        assert "librdkafka" in str(raised.value) and name in str(raised.value)


def test_the_version_is_the_apis_and_the_library_is_the_linked_one() -> None:
    text, number = confluent.libversion()
    assert text == _core.librdkafka_version
    assert number >> 24 == int(text.split(".")[0]) and number & 0xFF == 0xFF
    assert cimpl.NewTopic is _new.NewTopic
