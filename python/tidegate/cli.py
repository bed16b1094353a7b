"""The command `tidegate`: checks and explains configurations, creates the pipeline's topics, runs the pipeline,
shows offsets and dead letters.

Exit status: 0 done, 1 the answer is no (a wrong configuration, a lost record, a topic that could not be created), 2 the
command itself could not be carried out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidegate import _core
from tidegate._cli_groups import add_dlq, add_offsets
from tidegate._logging import forward_native_lines

__all__ = ["main", "read_properties"]

_SCOPES = ("consumer", "producer", "admin")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line (`sys.argv` unless given) and return the exit status. Main thread."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except _core.TidegateError as error:
        print(f"tidegate: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"tidegate: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `tidegate config list | head`
        return 0
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate", description="Kafka for services whose handlers are slow: configuration, topics, the pipeline."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_config(commands)
    _add_init_topics(commands)
    _add_pipeline(commands)
    add_offsets(commands)
    add_dlq(commands)
    return parser


# -- tidegate config -----------------------------------------------------------------------------------------------------


def _add_config(commands: Any) -> None:
    config = commands.add_parser("config", help="check, explain and list configuration properties")
    actions = config.add_subparsers(title="actions", required=True, metavar="ACTION")

    check = actions.add_parser(
        "check",
        help="find every problem of a configuration file, without a broker",
        description="Reads NAME=VALUE lines (Java .properties, librdkafka), JSON or TOML, and prints every problem with its "
        "remedy. Names of librdkafka and of the Java client are understood. Exit status 1 if there is an error.",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="- reads standard input")
    check.add_argument("--for", dest="scope", choices=_SCOPES, default="consumer", help="what the configuration is for")
    check.set_defaults(run=_check)

    explain = actions.add_parser("explain", help="what a property means, its type, range and default")
    explain.add_argument("name", metavar="NAME", help="as librdkafka or the Java client calls it")
    explain.set_defaults(run=_explain)

    listing = actions.add_parser("list", help="every property, one a line")
    listing.add_argument("--for", dest="scope", choices=_SCOPES, default=None, help="only those that apply there")
    listing.set_defaults(run=_list)


def _check(options: argparse.Namespace) -> int:
    properties = read_properties(options.file)
    problems = _core.config_check(properties, options.scope)
    errors = [problem for problem in problems if problem["severity"] == "error"]
    for problem in problems:
        print(f"{problem['severity']}: {problem['property']}={problem['value']}")
        print(f"    {problem['reason']}")
        if problem["remedy"]:
            print(f"    {problem['remedy']}")
    print(
        f"{options.file}: {len(properties)} properties for a {options.scope}, "
        f"{len(errors)} errors, {len(problems) - len(errors)} warnings"
    )
    return 1 if errors else 0


def _explain(options: argparse.Namespace) -> int:
    found = _core.config_explain(options.name)
    print(str(found["text"]).rstrip())
    return 0 if found["known"] else 1


def _list(options: argparse.Namespace) -> int:
    for row in _core.config_table():
        if options.scope in (None, row["scope"]) or row["scope"] == "global":
            print(f"{row['name']:<44} {row['scope']:<9} {row['default'] or '-':<24} {row['doc']}")
    return 0


def read_properties(path: Path) -> dict[str, Any]:
    """The properties in a file: TOML if it ends so, JSON if it is an object, else one NAME=VALUE a line.

    Lines are read as Java reads them: `#` and `!` begin a comment, `=`, `:` or a blank ends the name, a backslash at the end
    joins the next line. Objects within JSON and TOML are joined by dots: `[sasl] mechanism` is `sasl.mechanism`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not what its name or first character says.
    """
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    if path.suffix == ".toml":
        return _flattened(_parse_toml(path, text))
    if text.lstrip().startswith("{"):
        try:
            return _flattened(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON: {error}") from None
    return _parse_lines(path, text)


def _parse_toml(path: Path, text: str) -> dict[str, Any]:
    try:
        tomllib: Any = importlib.import_module("tomllib")
    except ModuleNotFoundError:
        raise ValueError(f"{path}: TOML needs Python 3.11; write NAME=VALUE lines or JSON") from None
    try:
        return dict(tomllib.loads(text))
    except ValueError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None


def _flattened(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flattened(value, f"{prefix}{name}."))
        elif isinstance(value, list):
            flat[prefix + name] = ",".join(str(item) for item in value)
        elif value is not None:
            flat[prefix + name] = value
    return flat


def _parse_lines(path: Path, text: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    joined = ""
    for number, line in enumerate(text.splitlines(), 1):
        joined += line.lstrip() if joined else line.strip()
        if joined.startswith(("#", "!")) or not joined:
            joined = ""
            continue
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        name, value = _split_line(joined)
        if not name:
            raise ValueError(f"{path}, line {number}: {joined!r} has no name; write NAME=VALUE")
        properties[name] = value
        joined = ""
    return properties


def _split_line(line: str) -> tuple[str, str]:
    for position, character in enumerate(line):
        if character in "=:" or character.isspace():
            rest = line[position:].strip()
            return line[:position], (rest[1:] if rest[:1] in ("=", ":") else rest).strip()
    return line, ""


# -- tidegate init-topics ------------------------------------------------------------------------------------------------


def _add_init_topics(commands: Any) -> None:
    parser = commands.add_parser("init-topics", help="create the pipeline's three topics")
    parser.add_argument("--bootstrap-servers", required=True, help="host:port, several separated by commas")
    parser.add_argument("--partitions", type=_at_least(1), default=12, help="of each topic (default: %(default)s)")
    parser.add_argument("--topic-prefix", default="", help="begins every topic's name")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for the cluster (default: %(default)s)")
    parser.set_defaults(run=_init_topics)


def _init_topics(options: argparse.Namespace) -> int:
    from tidegate.pipeline.topics import CREATED, EXISTS, init_topics

    forward_native_lines()
    outcomes = init_topics(options.bootstrap_servers, options.partitions, prefix=options.topic_prefix, timeout=options.timeout)
    words = {CREATED: f"created with {options.partitions} partitions", EXISTS: "exists already, left as it is"}
    for name, outcome in outcomes.items():
        print(f"{name}: {words.get(outcome, outcome)}")
    return 0 if set(outcomes.values()) <= set(words) else 1


# -- tidegate pipeline ---------------------------------------------------------------------------------------------------


def _add_pipeline(commands: Any) -> None:
    parser = commands.add_parser(
        "pipeline",
        help="run cameras, task generator, scheduler and aggregator together",
        description="Runs the whole detection pipeline in one process, shows what passes, and ends with an account of every "
        "record. Exit status 1 if one is lost.",
    )
    parser.add_argument("--mode", choices=("e2e",), default="e2e", help="what to run (default: %(default)s)")
    parser.add_argument("--duration", type=_more_than_0, default=30.0, help="seconds to send (default: %(default)s)")
    parser.add_argument("--bootstrap-servers", default=None, help="the cluster; an embedded broker is started without it")
    parser.add_argument(
        "--rate", type=_more_than_0, default=100.0, help="detection results a second, together (default: %(default)s)"
    )
    parser.add_argument("--cameras", type=_at_least(1), default=40, help="how many cameras send (default: %(default)s)")
    parser.add_argument("--partitions", type=_at_least(1), default=12, help="of new topics (default: %(default)s)")
    parser.add_argument("--latency-ms", type=float, default=200.0, help="the model's mean latency (default: %(default)s)")
    parser.add_argument(
        "--latency-jitter", type=float, default=0.5, help="how far it strays, part of the mean (default: %(default)s)"
    )
    parser.add_argument(
        "--failure-rate", type=float, default=0.0, help="part of the model's calls that fail (default: %(default)s)"
    )
    parser.add_argument(
        "--concurrency", type=_at_least(1), default=100, help="most calls of the model at once (default: %(default)s)"
    )
    parser.add_argument("--topic-prefix", default="", help="begins every topic's name")
    parser.add_argument("--session-timeout-ms", type=_at_least(1), default=6000, help="(default: %(default)s)")
    parser.add_argument("--drain", type=_more_than_0, default=30.0, help="seconds without progress until what is missing is lost")
    parser.add_argument("--seed", type=int, default=None, help="makes the load repeatable")
    parser.add_argument("--log-level", default="WARNING", type=str.upper, choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    parser.set_defaults(run=_pipeline)


def _pipeline(options: argparse.Namespace) -> int:
    from tidegate.pipeline import e2e, stage

    stage.set_up_logging(options.log_level)
    return e2e.run(
        e2e.Settings(
            duration_s=options.duration,
            bootstrap_servers=options.bootstrap_servers,
            rate=options.rate,
            cameras=options.cameras,
            partitions=options.partitions,
            latency_ms=options.latency_ms,
            latency_jitter=options.latency_jitter,
            failure_rate=options.failure_rate,
            concurrency=options.concurrency,
            session_timeout_ms=options.session_timeout_ms,
            drain_s=options.drain,
            topic_prefix=options.topic_prefix,
            seed=options.seed,
        )
    )


def _at_least(least: int) -> Any:
    def whole_number(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is less than {least}")
        return number

    return whole_number


def _more_than_0(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number
