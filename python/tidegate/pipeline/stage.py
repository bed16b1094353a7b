"""What the stages share: output whose delivery is confirmed, and the command around a stage."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tidegate import _core
from tidegate._json import dumps
from tidegate._logging import Logger, describe, find_loguru
from tidegate.pipeline.messages import camera_key
from tidegate.shutdown import request_until, wait_for_shutdown

__all__ = ["ConfirmedSender", "NotDeliveredError", "Stage", "consumer_config", "run_command", "stage_parser"]

_log = Logger("tidegate.pipeline")

DELIVERY_TIMEOUT_MS = 10_000
"""How long one attempt to deliver an output record may take before the stage tries it anew."""

_SENDER_SETTINGS: Mapping[str, str | int | bool] = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "snappy",
    # The stage waits for the report: lingering would only add to every record's latency.
    "linger.ms": 0,
    "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
}


class NotDeliveredError(Exception):
    """An output record that the broker has not confirmed; its input record is unfinished and is done again."""


class ConfirmedSender:
    """Sends records to one topic and tells when the broker has them. Any thread, any event loop.

    Raises:
        tidegate.ConfigError: the configuration is wrong.
    """

    def __init__(self, bootstrap_servers: str, topic: str, config: Mapping[str, Any] | None = None) -> None:
        self.topic = topic
        self._producer = _core.Producer({"bootstrap.servers": bootstrap_servers, **_SENDER_SETTINGS, **(config or {})})

    def send_all(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Send `messages` in order and wait until the broker has confirmed every one.

        Raises:
            NotDeliveredError: at least one was not confirmed; the others may have been.
            ValueError: one has no `cameraId`.
        """
        reports = [threading.Event() for _ in messages]
        errors: list[BaseException] = []
        for message, report in zip(messages, reports, strict=True):
            self._send(message, _report_to(report, errors))
        for report in reports:
            # librdkafka reports every record by then; the margin is for a machine that stands still.
            if not report.wait(3 * DELIVERY_TIMEOUT_MS / 1000):
                raise NotDeliveredError(f"no delivery report from {self.topic}")
        if errors:
            raise NotDeliveredError(describe(errors[0]))

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send `message` and wait, on the running event loop, until the broker has confirmed it.

        Raises:
            NotDeliveredError: it was not confirmed.
            ValueError: it has no `cameraId`.
        """
        loop = asyncio.get_running_loop()
        confirmed: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if confirmed.done():  # cancelled meanwhile
                return
            if error is None:
                confirmed.set_result(None)
            else:
                confirmed.set_exception(NotDeliveredError(describe(error)))

        def on_delivery(error: BaseException | None, _metadata: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        self._send(message, on_delivery)
        await confirmed

    def close(self, timeout: float = 5.0) -> None:
        """Flush within `timeout` seconds and close. Idempotent; never raises an Exception."""
        try:
            self._producer.close(timeout=timeout)
        except Exception as error:
            _log.warning(f"closing the producer of {self.topic}: {describe(error)}")

    def _send(self, message: Mapping[str, Any], on_delivery: Callable[[BaseException | None, object], None]) -> None:
        key = camera_key(message)
        try:
            self._producer.send(self.topic, dumps(message), key=key, on_delivery=on_delivery)
        except _core.TidegateError as error:
            raise NotDeliveredError(describe(error)) from error


def _report_to(report: threading.Event, errors: list[BaseException]) -> Callable[[BaseException | None, object], None]:
    def on_delivery(error: BaseException | None, _metadata: object) -> None:
        if error is not None:
            errors.append(error)
        report.set()

    return on_delivery


class Stage(Protocol):
    """What runs in a command or in the end-to-end run."""

    def start(self) -> None:
        """Run in this thread until `stop()`."""

    def stop(self) -> None:
        """Ask for the end; returns at once."""

    def close(self) -> None:
        """Stop and wait, within a bound."""

    def stats(self) -> dict[str, Any]:
        """Counters."""

    def wait_until_assigned(self, timeout: float | None = None) -> bool:
        """Wait for the group's first assignment."""


def stage_parser(prog: str, description: str, group: str, input_topic: str, output_topic: str | None) -> argparse.ArgumentParser:
    """The options every stage's command has."""
    parser = argparse.ArgumentParser(prog=prog, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--bootstrap-servers", default="localhost:9092", help="host:port, several separated by commas")
    parser.add_argument("--group-id", default=group, help="consumer group; members of one group share the work")
    parser.add_argument("--input-topic", default=input_topic, help="where records come from")
    if output_topic is not None:
        parser.add_argument("--output-topic", default=output_topic, help="where records go")
    parser.add_argument("--dead-letter-topic", default=None, help="where records go that cannot be handled")
    parser.add_argument("--auto-offset-reset", default="earliest", choices=("earliest", "latest"), help="where a new group begins")
    parser.add_argument(
        "--session-timeout-ms", type=int, default=30000, help="after this long without heartbeat a member counts as dead"
    )
    parser.add_argument("--property", action="append", default=[], metavar="NAME=VALUE", help="a further property; may be repeated")
    parser.add_argument(
        "--log-level", default="INFO", type=str.upper, choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="least level shown"
    )
    return parser


def consumer_config(arguments: argparse.Namespace) -> dict[str, str | int | float | bool]:
    """The consumer properties that a stage's options ask for.

    Raises:
        SystemExit: a `--property` is not NAME=VALUE.
    """
    session_ms: int = arguments.session_timeout_ms
    config: dict[str, str | int | float | bool] = {
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": min(3000, session_ms // 3),
    }
    for text in arguments.property:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise SystemExit(f"--property {text}: write NAME=VALUE")
        config[name.strip()] = value.strip()
    return config


def run_command(make: Callable[[], Stage], name: str, log_level: str) -> int:
    """Build a stage, run it until a signal comes, stop it, and return the command's exit status."""
    set_up_logging(log_level)
    try:
        stage = make()
    except _core.TidegateError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    failures: list[BaseException] = []
    heard = threading.Event()

    def run() -> None:
        try:
            stage.start()
        except BaseException as error:
            failures.append(error)
            _log.log(logging.ERROR, f"{name} ended: {describe(error)}", error=error)
        finally:
            request_until(heard, f"{name} ended by itself")

    threading.Thread(target=run, name=name, daemon=True).start()
    _log.info(f"{name} runs; SIGTERM or Ctrl-C ends it")
    wait_for_shutdown(stage)
    heard.set()
    stage.close()
    counters = {key: value for key, value in stage.stats().items() if isinstance(value, int)}
    _log.info(f"{name} ended: {counters}")
    return 1 if failures else 0


def set_up_logging(level: str) -> None:
    """Log lines of at least `level` on standard error, by loguru or `logging`."""
    loguru = find_loguru()
    if loguru is not None:
        loguru.remove()
        loguru.add(sys.stderr, level=level)
    else:
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
