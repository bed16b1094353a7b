"""The documents are true: their examples and commands run, their links, files, tests and make targets exist.

Python blocks of README.md and docs/ run as they stand, on an embedded broker that takes the place of `localhost:9092`; what
a line prints stands in its comment, after `# ->`. Rust blocks are doctests of core; tests/c/installed.py runs those in C and
C++. Commands run here if they are cheap; the others name the test that runs them.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tidegate

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
GENERATED = {"docs/configuration.md"}
"""Compared with the table it comes from by a test of core."""

ADDRESS = "localhost:9092"
RUN_LIMIT_S = 90.0

RUN_ELSEWHERE = {
    r"tidegate init-topics --bootstrap-servers \S+": "tests/python/test_cli.py::test_init_topics_on_a_real_broker",
    r"(TIDEGATE_WRITE_DOCS=1 )?cargo test --release -p tidegate config::tests::page": (
        "core/src/config/tests/page.rs::the_committed_page_is_the_generated_one"
    ),
    r"cargo test --release -p tidegate tracker": "core/src/tracker/tests.rs::in_order_completion_moves_the_watermark",
    r"cargo test --release -p tidegate-model": "tests/model/src::a_committer_never_passes_an_unfinished_record",
    r"export PKG_CONFIG_PATH=\S+ LD_LIBRARY_PATH=\S+": "tests/c/installed.py::documents",
    r"cc orders\.c \$\(pkg-config --cflags --libs tidegate\) -o orders": "tests/c/installed.py::documents",
    r"pytest tests/python/test_cli\.py": "tests/python/test_cli.py::test_help_is_there",
}
"""Commands that would take minutes or a real broker here, and the test that does the same."""


@dataclass(frozen=True)
class Block:
    """A fenced block; `words` is what stands behind the fence."""

    document: str
    line: int
    words: tuple[str, ...]
    text: str

    @property
    def language(self) -> str:
        return self.words[0] if self.words else ""

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def content(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks, indented ones (of lists) as well."""
    lines = content(path).splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if start is None:
            start = number
        else:
            text = "\n".join(lines[start + 1 : number]) + "\n"
            yield Block(name_of(path), start + 1, tuple(lines[start].strip().removeprefix("```").split()), text)
            start = None
    assert start is None, f"{path}: the block at line {start} has no end"


def prose(path: Path) -> str:
    """The document without its blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", content(path), flags=re.MULTILINE | re.DOTALL)


ALL_BLOCKS = [block for path in DOCUMENTS for block in blocks(path)]
PYTHON = [block for block in ALL_BLOCKS if block.language == "python"]
COMMANDS = [
    pytest.param(block, line, id=f"{block}: {line}")
    for block in ALL_BLOCKS
    if block.language == "sh"
    for line in block.text.splitlines()
    if line.strip() and not line.startswith("#")
]


def test_the_documents_are_there() -> None:
    names = {name_of(path) for path in DOCUMENTS}
    assert names >= {
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/migration.md",
        "docs/delivery.md",
        "docs/configuration.md",
    }
    assert "MIT License" in content(ROOT / "LICENSE-MIT")
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in content(ROOT / "LICENSE-APACHE")


def test_every_block_says_its_language() -> None:
    known = {"python", "rust", "c", "cpp", "sh", "text", "toml", "properties"}
    assert [str(block) for block in ALL_BLOCKS if block.language not in known] == []


def test_the_readme_opens_with_the_two_commands_and_both_examples() -> None:
    first = [block for block in ALL_BLOCKS if block.document == "README.md"][:3]
    assert [block.language for block in first] == ["sh", "python", "rust"]
    assert first[0].text.split("\n")[:2] == ["make demo", "make test"]
    assert all(len(block.text.splitlines()) <= 14 for block in first)


# -- Python ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker() -> Iterator[tidegate.EmbeddedBroker]:
    with tidegate.EmbeddedBroker() as running:
        yield running


def start(block: Block, bootstrap: str, folder: Path) -> subprocess.Popen[str]:
    script = folder / "example.py"
    script.write_text(block.text.replace(ADDRESS, bootstrap))
    return subprocess.Popen(
        [sys.executable, "-u", str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


def promised(block: Block) -> list[str]:
    """What the comments say is printed."""
    return re.findall(r"# -> (.*)$", block.text, flags=re.MULTILINE)


def is_a_service(block: Block) -> bool:
    """True when it runs until a signal comes."""
    return "wait_for_shutdown(" in block.text and "request_shutdown" not in block.text


@pytest.mark.parametrize("block", [block for block in PYTHON if not is_a_service(block)], ids=str)
def test_a_python_example_prints_what_it_says(block: Block, broker: tidegate.EmbeddedBroker, tmp_path: Path) -> None:
    with start(block, broker.bootstrap_servers, tmp_path) as process:
        try:
            output, errors = process.communicate(timeout=RUN_LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert output.splitlines() == promised(block)
    assert promised(block), f"{block} shows nothing: a comment '# -> ...' says what is printed"


@pytest.mark.parametrize("block", [block for block in PYTHON if is_a_service(block)], ids=str)
@pytest.mark.skipif(not hasattr(signal, "SIGTERM") or os.name == "nt", reason="there is no SIGTERM to send")
def test_a_service_of_the_documents_handles_records_and_ends_by_sigterm(
    block: Block, broker: tidegate.EmbeddedBroker, tmp_path: Path
) -> None:
    (topic,) = re.findall(r', \["([\w-]+)"\]', block.text)
    deadline = time.monotonic() + RUN_LIMIT_S
    with (
        tidegate.Producer({"bootstrap.servers": broker.bootstrap_servers}) as producer,
        start(block, broker.bootstrap_servers, tmp_path) as process,
        selectors.DefaultSelector() as selector,
    ):
        try:
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ)
            # It begins at the end of the topic, so records go out until one of them is handled.
            while not selector.select(timeout=0.2):
                assert time.monotonic() < deadline, f"{block} printed nothing"
                assert process.poll() is None, process.communicate()[1]
                producer.send(topic, b'{"cameraId": 7}')
            assert process.stdout.readline() == "camera 7\n"
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


# -- Rust --------------------------------------------------------------------------------------------------------------------


def test_rust_examples_are_doctests_of_core() -> None:
    """`cargo test` compiles and runs the documents that core includes, so a Rust block may stand in these only."""
    library = content(ROOT / "core/src/lib.rs")
    included = {(ROOT / "core/src" / path).resolve() for path in re.findall(r'doc = include_str!\("([^"]+)"\)', library)}
    for block in ALL_BLOCKS:
        if block.language == "rust":
            assert ROOT / block.document in included, f"{block} is compiled by nobody"
            assert block.words == ("rust",), f"{block} is not run"
    # Rustdoc takes a block without a language, or an indented one, for Rust.
    for path in included:
        assert not re.search(r"\n\n {4,}\S", prose(path)), f"{path}: an indented block"


# -- commands ----------------------------------------------------------------------------------------------------------------


@functools.cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z][a-z-]*):", content(ROOT / "Makefile"), flags=re.MULTILINE))


@pytest.mark.parametrize(("block", "command"), COMMANDS)
def test_a_command(block: Block, command: str, tmp_path: Path) -> None:
    words = command.split()
    for pattern, test in RUN_ELSEWHERE.items():
        if re.fullmatch(pattern, command):
            check_test_exists(test)
            return
    if words[0] == "make":
        assert words[1] in make_targets(), command
        for assignment in words[2:]:
            assert f"$({assignment.partition('=')[0]})" in content(ROOT / "Makefile"), command
    elif words[:2] == [".", ".venv/bin/activate"]:
        assert "VENV := $(CURDIR)/.venv" in content(ROOT / "Makefile")
    else:
        assert words[0] == "tidegate", f"{block}: nobody runs {command!r}; run it here or name its test in RUN_ELSEWHERE"
        for example in (block for block in ALL_BLOCKS if block.language == "properties"):
            (tmp_path / example.text.split()[1]).write_text(example.text)
        ran = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_make_target_spoken_of_exists() -> None:
    spoken = {(name_of(path), target) for path in DOCUMENTS for target in re.findall(r"`make ([a-z-]+)", content(path))}
    assert spoken
    assert {(document, target) for document, target in spoken if target not in make_targets()} == set()


# -- links and names ---------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The names of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        if not found.is_relative_to(ROOT) or not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if name_of(path) not in GENERATED], ids=name_of)
def test_files_spoken_of_exist(path: Path) -> None:
    spoken = re.findall(r"`((?:core|ffi|python|include|tests|benches|docs|tools|\.ci)/[\w./-]*)`", content(path))
    assert [name for name in spoken if not (ROOT / name).exists()] == []


def check_test_exists(test: str) -> None:
    """`file::name` or `folder::name`, in Rust or Python; also files beside a Rust module's folder."""
    place, name = test.split("::")
    found = ROOT / place
    files = [found] if found.is_file() else [*found.rglob("*.rs"), *found.rglob("*.py"), found.with_suffix(".rs")]
    definition = re.compile(rf"^ *(?:fn|def|async def) {re.escape(name)}\b", flags=re.MULTILINE)
    assert any(definition.search(content(file)) for file in files if file.is_file()), f"there is no test {test}"


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if name_of(path) not in GENERATED], ids=name_of)
def test_tests_spoken_of_exist(path: Path) -> None:
    for test in re.findall(r"`((?:core|tests)/[\w./-]*::\w+)`", content(path)):
        check_test_exists(test)


@pytest.mark.parametrize("document", ["docs/delivery.md", "ARCHITECTURE.md"])
def test_every_claim_names_its_test(document: str) -> None:
    """A table with a column of tests has one in each row (or says where else to look)."""
    tables = re.findall(r"(?:^\|.*\|\n)+", content(ROOT / document), flags=re.MULTILINE)
    checked = 0
    for table in tables:
        head, _, *rows = table.splitlines()
        if not re.search(r"\| tests?( that break)? \|$", head):
            continue
        for row in rows:
            checked += 1
            last = row.rstrip("| ").rsplit("|", 1)[1].strip()
            assert "::" in last or last == "see below", row
    assert checked


# -- numbers -----------------------------------------------------------------------------------------------------------------


def test_the_readme_lists_the_bars_that_the_bench_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benches"))
    bars = [bar.what for bar in importlib.import_module("runner.contenders").BARS if bar.factor is not None]
    assert bars
    section = content(ROOT / "README.md").partition("## How fast")[2].partition("\n## ")[0]
    rows = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in re.findall(r"^\|.*\|$", section, re.MULTILINE)]
    assert [f"{row[0]} / {row[1]}" for row in rows[2:]] == bars


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    assert re.findall(r"^## (.*)$", content(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)[0] == "Unreleased"
