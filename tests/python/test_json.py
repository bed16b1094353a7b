"""tidegate._json gives what the standard library gives, whichever of the two decoders does the work."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
import sys
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate import _json

NUMBERS = st.one_of(
    st.integers(-(10**25), 10**25).map(str),
    st.integers(2**63 - 3, 2**64 + 3).map(str),
    st.integers(-(2**63) - 3, -(2**63) + 3).map(str),
    st.floats().map(json.dumps),
    st.from_regex(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
STRINGS = st.one_of(
    st.text(st.characters(codec=None, exclude_categories=()), max_size=20).map(json.dumps),
    st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.from_regex(r'"(\\u[dD][89a-fA-F][0-9a-fA-F]{2}|[0-9]{0,25}|\\[bfnrt"\\/])*"', fullmatch=True),
)
BLANKS = st.sampled_from(["", " ", "\n\t", "\r\n  "])


def _joined(parts: list[str], blank: str, brackets: str) -> str:
    return brackets[0] + blank + f"{blank},{blank}".join(parts) + blank + brackets[1]


TEXTS = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null", "NaN", "Infinity", "-Infinity", "-0", "nan", ""])),
    lambda inner: st.one_of(
        st.tuples(st.lists(inner, max_size=4), BLANKS, st.just("[]")).map(lambda parts: _joined(*parts)),
        st.tuples(
            st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"ä"', '"1"']), inner).map(":".join), max_size=4),
            BLANKS,
            st.just("{}"),
        ).map(lambda parts: _joined(*parts)),
    ),
    max_leaves=12,
)


def outcome(decode: Any, data: Any) -> tuple[str, Any]:
    """The result, told apart by type and sign as `==` does not (1 and 1.0, NaN), or that there was an error."""
    try:
        return "value", repr(decode(data))
    except ValueError:
        return "error", None


@settings(max_examples=500, deadline=None)
@given(TEXTS)
@example("[123456789012345678901234567890]")
@example("[-9223372036854775809]")
@example('{"a":1,"a":2}')
@example('"\\ud800"')
@example("1e400")
def test_decodes_every_text_as_the_standard_library(text: str) -> None:
    assert outcome(_json.loads, text) == outcome(json.loads, text)
    data = text.encode("utf-8", "surrogatepass")
    expected = outcome(json.loads, data)
    assert outcome(_json.loads, data) == expected
    assert outcome(_json.loads, bytearray(data)) == expected
    assert outcome(_json.loads, memoryview(data)) == expected


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
@example(b"\xef\xbb\xbf{}")
@example('{"ä":1}'.encode("utf-16"))
@example("[1]".encode("utf-32-le"))
@example(b'"\xff"')
@example(b'"\xed\xa0\x80"')
@example(b"")
def test_any_bytes_decode_or_fail_as_in_the_standard_library(data: bytes) -> None:
    assert outcome(_json.loads, data) == outcome(json.loads, data)


@pytest.mark.parametrize("digits", [18, 19, 20, 21, 40])
@pytest.mark.parametrize("offset", range(25))
def test_a_long_integer_is_exact_wherever_it_stands(digits: int, offset: int) -> None:
    number = int("9" * digits)
    data = b" " * offset + str([number, -number]).encode() + b" " * 7
    assert _json.loads(data) == [number, -number]


def test_the_fast_way_is_taken_for_an_ordinary_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json.json, "loads", lambda data: pytest.fail("decoded by the standard library"))
    detection = {"id": str(uuid.uuid4()), "ts": 1732323232123, "score": [0.12345678901234567, 1e-7], "box": [1, 2, 3, 4]}
    assert _json.loads(json.dumps(detection).encode()) == detection


def test_without_orjson_the_standard_library_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json, "orjson", None)
    assert _json.loads(b'{"a": [1, NaN]}')["a"][0] == 1
    assert _json.loads(memoryview(b"[1]")) == [1]
    assert _json.dumps({"ä": datetime.date(2026, 1, 2)}) == '{"ä":"2026-01-02"}'.encode()


def test_other_types_are_refused() -> None:
    for wrong in (None, 1, ["[]"]):
        with pytest.raises(TypeError):
            _json.loads(wrong)  # type: ignore[arg-type]


JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(),
        st.text(st.characters(codec=None, exclude_categories=()), max_size=10),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(
            st.one_of(st.text(max_size=5), st.integers(-5, 5), st.booleans(), st.none(), st.floats()), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(JSON_VALUES)
def test_whatever_json_dumps_takes_reads_back_the_same(value: Any) -> None:
    expected = json.loads(json.dumps(value))
    assert repr(json.loads(_json.dumps(value))) == repr(expected)
    assert repr(_json.loads(_json.dumps(value))) == repr(expected)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Box:
    x: int
    y: float
    _hidden: int = 0


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1, 2, 3, 4])[::2], [1, 3]),
        (np.bool_(True), True),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, 678), "2026-01-02T03:04:05.000678"),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), "2026-01-02T00:00:00+00:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Box(1, 2.5), {"x": 1, "y": 2.5}),
    ],
)
def test_what_a_detection_may_hold_besides(value: Any, plain: Any) -> None:
    assert json.loads(_json.dumps({"v": value})) == {"v": plain}
    # NaN sends it the slower way, which must write the same.
    slower = json.loads(_json.dumps({"v": value, "nan": math.nan}))
    assert slower["v"] == plain
    assert math.isnan(slower["nan"])


def test_non_ascii_stays_and_lone_surrogates_are_escaped() -> None:
    assert _json.dumps({"ort": "Straße 東京"}) == '{"ort":"Straße 東京"}'.encode()
    assert json.loads(_json.dumps({"a": "\ud800", "b": "ß"})) == {"a": "\ud800", "b": "ß"}


def test_what_cannot_be_written_is_an_error() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises((ValueError, RecursionError)):
        _json.dumps(circle)
    with pytest.raises(TypeError, match="object"):
        _json.dumps({"a": object()})
    with pytest.raises(TypeError):
        _json.dumps({(1, 2): 3})


def test_deep_nesting_is_decoded_or_refused_never_worse() -> None:
    deep = sys.getrecursionlimit() * 20
    with pytest.raises((ValueError, RecursionError)):
        _json.loads(b"[" * deep + b"]" * deep)
