"""The code has the shape that ARCHITECTURE.md states: layers, places of `unsafe`, who may know librdkafka, length of files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core/src"
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")

UNSAFE_ALLOWED = (
    "core/src/admin/kafka/",
    "core/src/checks/fork.rs",
    "core/src/native/metadata.rs",
    "core/src/native/mock.rs",
    "core/src/native/offsets.rs",
    "core/src/native/read.rs",
    "core/src/native/sasl.rs",
    "core/src/native/throttle.rs",
    "core/src/sink/kafka/",
    "core/src/source/kafka/",
    "ffi/src/",
    "python/src/column.rs",
)

MOST_LINES = 700
LONGER_FOR_NOW: dict[str, int] = {}
"""Files to be split, and how long they may be until then. An entry goes when its file is short enough."""


def layers() -> list[list[str]]:
    """The table "core/src, by layer": lowest layer first, each from left to right."""
    rows = re.findall(r"^\| L(\d) \|(.*)\|$", ARCHITECTURE, flags=re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(rows)))
    return [re.findall(r"`(\w+)`", modules) for _, modules in rows]


def edges() -> set[tuple[str, str]]:
    """The imports that the table of layers does not allow and the table of edges does."""
    return set(re.findall(r"^\| `(\w+)` -> `(\w+)` \|", ARCHITECTURE, flags=re.MULTILINE))


def without_tests(code: str) -> str:
    """Rust without comments, texts and test modules."""
    code = re.sub(
        r"^( *)#\[cfg\((?:test|all\(test[^\n]*)\)\]\n(?: *#\[[^\n]*\n)*\1(?:pub(?:\([a-z]+\))? )?mod \w+ \{\n.*?^\1\}$",
        "",
        code,
        flags=re.MULTILINE | re.DOTALL,
    )
    code = re.sub(r"//[^\n]*", "", code)
    return re.sub(r'"(?:[^"\\\n]|\\.|\\\n)*"', '""', code)


def core_files() -> Iterator[tuple[Path, str]]:
    """The files of core that are not tests (nor the scripted twins, which only tests have), and their code."""
    for path in sorted(CORE.rglob("*.rs")):
        place = path.relative_to(CORE)
        if "tests" not in (*place.parts[:-1], place.stem) and place.stem != "scripted":
            yield place, without_tests(path.read_text(encoding="utf-8"))


def imports() -> dict[tuple[str, str], str]:
    """Every pair (module, module it names), with a file in which it does."""
    found: dict[tuple[str, str], str] = {}
    for place, code in core_files():
        module = place.parts[0].removesuffix(".rs")
        if module == "lib":
            continue
        names = set(re.findall(r"\bcrate::(\w+)", code))
        for group in re.findall(r"\bcrate::\{([^;]*)\}", code):
            names |= set(re.findall(r"(?:^|,)\s*(\w+)", group))
        for name in names - {module}:
            found.setdefault((module, name), f"core/src/{place.as_posix()}")
    return found


def test_every_module_has_a_layer() -> None:
    stated = [module for layer in layers() for module in layer]
    real = {place.parts[0].removesuffix(".rs") for place, _ in core_files()} - {"lib"}
    assert sorted(stated) == sorted(real)


def test_a_layer_imports_lower_layers_and_its_left_only() -> None:
    order = {module: place for place, module in enumerate(module for layer in layers() for module in layer)}
    found = imports()
    assert len(found) > 50, "the imports are not recognised any more"
    # What the root exports for users is nothing a module may reach for.
    wrong = [f"{file}: {module} -> {name}" for (module, name), file in found.items() if name not in order]
    wrong += [
        f"{file}: {module} -> {name}"
        for (module, name), file in found.items()
        if name in order and order[name] >= order[module] and (module, name) not in edges()
    ]
    assert wrong == [], "move it, or state the edge and its reason in ARCHITECTURE.md"


def test_every_stated_edge_is_needed() -> None:
    assert edges() - imports().keys() == set()


def test_the_root_groups_its_modules_by_layer() -> None:
    groups: dict[str, list[str]] = {}
    layer = ""
    for line in (CORE / "lib.rs").read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"// L(\d)", line):
            layer = found[1]
        elif found := re.fullmatch(r"(?:pub )?mod (\w+);", line):
            groups.setdefault(layer, []).append(found[1])
    assert groups == {str(number): sorted(modules) for number, modules in enumerate(layers())}


def test_a_trait_does_not_know_its_adapters() -> None:
    for trait in ("source", "sink"):
        code = without_tests((CORE / trait / "mod.rs").read_text(encoding="utf-8"))
        code = re.sub(r"^pub\(crate\) mod \w+;$", "", code, flags=re.MULTILINE)
        assert not re.search(r"\b(?:kafka|scripted|rdkafka)::", code), trait


def test_the_faces_know_core_only() -> None:
    for face in ("python", "ffi", "tests", "benches"):
        manifest = (ROOT / face / "Cargo.toml").read_text(encoding="utf-8")
        assert not re.search(r"^(?:rdkafka|tidegate-\w+)\b", manifest, flags=re.MULTILINE), face


def rust_files() -> Iterator[Path]:
    for folder in ("core", "ffi", "python", "tests", "benches"):
        yield from (path for path in sorted((ROOT / folder).rglob("*.rs")) if "target" not in path.parts)


def test_unsafe_stays_where_it_may_be() -> None:
    found = set()
    for path in rust_files():
        name = path.relative_to(ROOT).as_posix()
        code = re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8"))
        if re.search(r"\bunsafe\s*(?:\{|fn|impl|extern|trait)", code):
            found.add(name)
    assert [name for name in sorted(found) if not name.startswith(UNSAFE_ALLOWED)] == []
    assert "core/src/source/kafka/mod.rs" in found, "unsafe is not recognised any more"


def test_files_are_short() -> None:
    paths = [*rust_files()]
    for folder in ("python/tidegate", "tests", "benches", "tools"):
        paths += [path for suffix in ("*.py", "*.pyi") for path in (ROOT / folder).rglob(suffix)]
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    long = {name: count for name, count in lines.items() if count > LONGER_FOR_NOW.get(name, MOST_LINES)}
    assert long == {}, "split them"
    done = [name for name in LONGER_FOR_NOW if lines.get(name, 0) <= MOST_LINES]
    assert done == [], "short enough now: take them out of LONGER_FOR_NOW"
