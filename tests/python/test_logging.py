"""Log lines reach loguru or logging as they are, and a failing log breaks nobody."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from tidegate import _logging

NASTY = 'KafkaError{code=_TRANSPORT,val=-195,str="50% of {0} <red>%s</red> {}"} \N{SNOWMAN}'


@pytest.fixture
def loguru_lines() -> Iterator[list[Any]]:
    loguru = pytest.importorskip("loguru").logger
    lines: list[Any] = []
    handler = loguru.add(lines.append, level=0, format="{name}|{level}|{function}|{message}")
    yield lines
    loguru.remove(handler)


@pytest.fixture
def without_loguru(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "loguru", None)  # `import loguru` raises


def test_loguru_gets_the_text_unformatted(loguru_lines: list[Any]) -> None:
    _logging.Logger("tidegate.here").error(NASTY)
    assert loguru_lines[-1].record["message"] == NASTY
    assert str(loguru_lines[-1]) == f"tidegate.here|ERROR|test_loguru_gets_the_text_unformatted|{NASTY}\n"


def test_loguru_gets_the_traceback_too(loguru_lines: list[Any]) -> None:
    try:
        raise ValueError(NASTY)
    except ValueError as error:
        _logging.Logger("tidegate.here").debug("it failed {}", error=error)
    assert loguru_lines[-1].record["message"] == "it failed {}"
    assert "Traceback" in str(loguru_lines[-1])
    assert "ValueError" in str(loguru_lines[-1])


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_logging_gets_the_text_unformatted(without_loguru: None, caplog: pytest.LogCaptureFixture, level: str) -> None:
    caplog.set_level(logging.DEBUG, logger="tidegate")
    getattr(_logging.Logger("tidegate.there"), level)(NASTY)
    (record,) = caplog.records
    assert record.getMessage() == NASTY
    assert record.name == "tidegate.there"
    assert record.levelname == level.upper()
    assert record.funcName == "test_logging_gets_the_text_unformatted"


def test_logging_gets_the_traceback_too(without_loguru: None, caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError(NASTY)
    _logging.Logger("tidegate").log(logging.ERROR, "it failed %s", error=error)
    assert caplog.records[-1].exc_info is not None
    assert caplog.records[-1].exc_info[1] is error


def test_a_failing_sink_breaks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    loguru = pytest.importorskip("loguru").logger

    def fail(_message: object) -> None:
        raise OSError("disk full")

    handler = loguru.add(fail, catch=False)
    try:
        _logging.Logger("tidegate").error(NASTY)
    finally:
        loguru.remove(handler)


def test_a_failing_logging_handler_breaks_nobody(without_loguru: None) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    handler = Failing()
    logging.getLogger("tidegate").addHandler(handler)
    try:
        _logging.Logger("tidegate").error(NASTY)
    finally:
        logging.getLogger("tidegate").removeHandler(handler)


@pytest.mark.parametrize("level", [-3, 0, 5, 10, 15, 20, 30, 40, 50, 99])
def test_native_lines_of_any_level_arrive(loguru_lines: list[Any], level: int) -> None:
    _logging.NativeLines()(level, "librdkafka", NASTY)
    assert loguru_lines[-1].record["message"] == NASTY
    assert loguru_lines[-1].record["name"] == "librdkafka"


def test_a_state_that_goes_on_is_one_line(monkeypatch: pytest.MonkeyPatch, loguru_lines: list[Any]) -> None:
    now = 1000.0
    monkeypatch.setattr(_logging.time, "monotonic", lambda: now)
    lines = _logging.NativeLines()
    for after_ms in range(50):
        lines(30, "tidegate", f"b:9092/1: Connect failed (after {after_ms}ms in state CONNECT, {after_ms} identical error(s))")
        lines(40, "tidegate", "b:9092/2: Connect failed (after 0ms in state CONNECT)")
        lines(20, "tidegate", "told each time")
        now += 10.0
    levels = [line.record["level"].name for line in loguru_lines]
    assert (levels.count("WARNING"), levels.count("ERROR"), levels.count("INFO"), levels.count("DEBUG")) == (1, 1, 50, 98)
    now += _logging.QUIET_S
    lines(30, "tidegate", "b:9092/1: Connect failed (after 7ms in state CONNECT, 7 identical error(s))")
    assert loguru_lines[-1].record["level"].name == "WARNING"
    for number in range(5000):
        lines(30, "tidegate", f"another {number}")
    assert len(lines._last_said) <= 1000


def test_librdkafka_lines_come_to_logging_where_there_is_no_loguru() -> None:
    script = textwrap.dedent(
        """
        import logging, sys, threading
        sys.modules["loguru"] = None
        seen = threading.Event()

        class Watch(logging.Handler):
            def emit(self, record):
                if record.name == "librdkafka" and "refused" in record.getMessage():
                    seen.set()

        logging.getLogger().addHandler(Watch())
        from tidegate.detection_producer import DetectionResultProducer
        producer = DetectionResultProducer("127.0.0.1:1", "t")
        assert producer.send({"a": 1}, 1)
        print("seen" if seen.wait(20) else "nothing")
        producer.close(timeout=0.1)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "seen\n", done.stderr
    assert done.returncode == 0


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_shown_never_fails_and_stays_short() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    assert _logging.shown("a{}") == "'a{}'"
    assert _logging.shown(Silent()) == "a Silent"
    assert len(_logging.shown("x" * 10**6)) < 1100


def test_describe_never_fails_and_stays_short() -> None:
    assert _logging.describe(ValueError("two\nlines")) == "ValueError: two lines"
    assert _logging.describe(ValueError()) == "ValueError"
    assert "Unprintable" in _logging.describe(Unprintable())
    assert len(_logging.describe(ValueError("x" * 10**6))) < 1100
