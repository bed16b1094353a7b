"""The installation, tested: headers under every standard, symbols, pkg-config, CMake, the static library, examples, docs/c.md,
Arrow, and the size."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
RUN_LIMIT_S = 120
ADDRESS = "localhost:9092"
SIZE_SLACK_MB = 0.15
"""So much of a part's size is the compiler's version and the last changes."""

FEATURES = {"mimalloc": [], "system": ["--no-default-features"]}
"""Which allocator the library brings, and what cargo is told for it."""


class Counts(Protocol):
    """Where results go."""

    def add(self, what: str, error: str | None) -> None: ...

    def skip(self, what: str, reason: str) -> None: ...


@dataclass(frozen=True)
class Tree:
    """An installed library."""

    prefix: Path

    @property
    def libdir(self) -> Path:
        return self.prefix / "lib"

    def pkg_config(self, *arguments: str) -> list[str]:
        environment = {**os.environ, "PKG_CONFIG_PATH": str(self.libdir / "pkgconfig")}
        command = ["pkg-config", *arguments, "tidegate"]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()

    def cflags(self) -> list[str]:
        # The header's own folder is the tested one, also for who has no pkg-config.
        return self.pkg_config("--cflags") if shutil.which("pkg-config") else [f"-I{self.prefix / 'include'}"]

    def libs(self) -> list[str]:
        return self.pkg_config("--libs") if shutil.which("pkg-config") else [f"-L{self.libdir}", "-ltidegate"]


def error_of(command: list[str], limit_s: float = RUN_LIMIT_S, environment: dict[str, str] | None = None) -> str | None:
    """Run a command; what it printed when it failed, else None."""
    try:
        ran = subprocess.run(
            command,
            env={**os.environ, "TIDEGATE_TEST_BOOTSTRAP": "", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"still ran after {limit_s:.0f} s: {' '.join(command)}"
    return None if ran.returncode == 0 else f"{' '.join(command)}\n{ran.stdout[-4000:]}exit code {ran.returncode}"


def install(allocator: str, build: bool) -> Tree:
    """Build the library and put it under target/c."""
    tree = Tree(TARGET / "c" / allocator / "prefix")
    if build or not tree.libdir.exists():
        cargo = os.environ.get("CARGO", "cargo")
        command = [cargo, "build", "--release", "--locked", "--quiet", "--package", "tidegate-ffi", *FEATURES[allocator]]
        subprocess.run(command, cwd=ROOT, check=True)
        # What a watching tool tells has names in it only with them.
        environment = {**os.environ, "KEEP_DEBUG": "0" if allocator == "mimalloc" else "1"}
        subprocess.run([str(ROOT / "ffi/install/install.sh"), str(tree.prefix)], env=environment, check=True)
    return tree


def headers(tree: Tree, folder: Path, counts: Counts) -> None:
    """Both headers compile alone, under every standard, without a warning."""
    files = {folder / "alone.c": "#include <tidegate.h>\nint main(void) { return 0; }\n"}
    files[folder / "alone.cpp"] = "#include <tidegate.h>\nint main() { return 0; }\n"
    files[folder / "wrapper.cpp"] = (
        "#include <tidegate.hpp>\n#include <tidegate.hpp>\n"
        "#if __cplusplus >= 202002L\n#include <ranges>\n"
        "static_assert(std::ranges::forward_range<const tidegate::Batch>);\n"
        "static_assert(std::ranges::input_range<tidegate::ConsumerRef::Batches>);\n#endif\n"
        "int main() { return 0; }\n"
    )
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    matrix = [("alone.c", ("c99", "c11", "c17"), ()), ("alone.cpp", ("c++17", "c++20"), ())]
    matrix += [("wrapper.cpp", ("c++17", "c++20"), ()), ("wrapper.cpp", ("c++17", "c++20"), ("-fno-exceptions",))]
    for family in (("gcc", "g++"), ("clang", "clang++")):
        for source, standards, flags in matrix:
            name = family[source.endswith("cpp")]
            if shutil.which(name) is None:
                counts.skip(f"{source} with {name}", f"{name} is not installed")
                continue
            for standard in standards:
                command = [name, f"-std={standard}", *flags, *WARNINGS, "-Wundef" if name == "gcc" else "-Wshadow", *tree.cflags()]
                error = error_of([*command, "-fsyntax-only", str(folder / source)])
                counts.add(f"{source} as {standard} {' '.join(flags)} with {name}", error)


def symbols(tree: Tree, counts: Counts) -> None:
    """The shared library exports the committed list and nothing else; the static one has no other global symbol."""
    committed = set((ROOT / "ffi/symbols.txt").read_text(encoding="utf-8").split())
    for what, command in {
        "libtidegate.so": ["nm", "-D", "--defined-only", str(tree.libdir / "libtidegate.so")],
        "libtidegate.a": ["nm", "--extern-only", "--defined-only", str(tree.libdir / "libtidegate.a")],
    }.items():
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = {match[1] for line in listed.splitlines() if (match := re.match(r"[0-9a-f]+ [A-Za-z] (\S+)$", line))}
        error = f"more: {sorted(found - committed)}\nmissing: {sorted(committed - found)}" if found != committed else None
        counts.add(f"{what} exports what ffi/symbols.txt lists", error)
    dynamic = subprocess.run(
        ["readelf", "-d", str(tree.libdir / "libtidegate.so")], check=True, capture_output=True, text=True
    ).stdout
    major = tree.libdir.joinpath("libtidegate.so").resolve().name.split(".")[2]
    counts.add("the shared library has its name", None if f"[libtidegate.so.{major}]" in dynamic else dynamic)
    counts.add("the name is there as a file", None if (tree.libdir / f"libtidegate.so.{major}").is_symlink() else "no link")


def static_library(tree: Tree, folder: Path, counts: Counts) -> None:
    """A program with its own rd_kafka_version and its own malloc takes the static library in."""
    program = folder / "own_symbols"
    flags = (
        tree.pkg_config("--variable=static_libs")
        if shutil.which("pkg-config")
        else [str(tree.libdir / "libtidegate.a"), "-lgcc_s", "-lm"]
    )
    cc = os.environ.get("CC", "cc")
    build = [cc, "-std=c11", "-D_GNU_SOURCE", *WARNINGS, *tree.cflags(), str(HERE / "own_symbols.c"), *flags, "-o", str(program)]
    error = error_of(build)
    counts.add("the static library links beside symbols of the program's own", error)
    if error is None:
        counts.add("and each side uses its own", error_of([str(program)]))


def examples(tree: Tree, folder: Path, counts: Counts) -> None:
    """Each example is built with pkg-config and with CMake, and runs."""
    if shutil.which("pkg-config") is None:
        counts.skip("the examples with pkg-config", "pkg-config is not installed")
    else:
        for source in sorted((ROOT / "ffi/examples").glob("*.c*")):
            program = folder / f"example_{source.name}"
            language = ["c++", "-std=c++17"] if source.suffix == ".cpp" else ["cc", "-std=c11", "-D_GNU_SOURCE"]
            command = [*language, *WARNINGS, str(source), *tree.cflags(), *tree.libs(), "-lpthread", "-o", str(program)]
            error = error_of(command) or error_of([str(program)], environment={"LD_LIBRARY_PATH": str(tree.libdir)})
            counts.add(f"example {source.name} with pkg-config", error)
    if shutil.which("cmake") is None:
        counts.skip("the examples with CMake", "cmake is not installed")
        return
    # The folder may be moved: what CMake finds is there, wherever that is.
    moved = folder / "moved"
    shutil.rmtree(moved, ignore_errors=True)
    shutil.copytree(tree.prefix, moved, symlinks=True)
    built = folder / "cmake"
    shutil.rmtree(built, ignore_errors=True)
    configure = ["cmake", "-S", str(ROOT / "ffi/examples"), "-B", str(built), f"-DCMAKE_PREFIX_PATH={moved}"]
    error = error_of(configure) or error_of(["cmake", "--build", str(built)])
    counts.add("the examples are built with CMake", error)
    if error is None:
        for name in ("consumer", "consumer_static", "consumer_cpp", "process", "process_cpp"):
            counts.add(f"{name} of CMake runs", error_of([str(built / name)]))


def documents(tree: Tree, folder: Path, counts: Counts) -> None:
    """The C and C++ programs of docs/c.md compile and run, on an embedded broker in the place of localhost:9092."""
    broker = folder / "broker"
    error = error_of(["cc", "-std=c11", "-D_GNU_SOURCE", str(HERE / "broker.c"), *tree.cflags(), *tree.libs(), "-o", str(broker)])
    if error is not None:
        counts.add("the broker of the documents' programs", error)
        return
    text = (ROOT / "docs/c.md").read_text(encoding="utf-8")
    environment = {"LD_LIBRARY_PATH": str(tree.libdir)}
    pattern = re.compile(r"^```(c|cpp)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
    with subprocess.Popen(
        [str(broker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as running:
        assert running.stdout is not None
        address = running.stdout.readline().strip()
        for number, (language, code) in enumerate(pattern.findall(text)):
            source = folder / f"document{number}.{language}"
            source.write_text(code.replace(ADDRESS, address), encoding="utf-8")
            compiler = ["c++", "-std=c++17"] if language == "cpp" else ["cc", "-std=c11", "-D_GNU_SOURCE"]
            program = folder / f"document{number}"
            command = [*compiler, "-Wall", "-Wextra", str(source), *tree.cflags(), *tree.libs(), "-o", str(program)]
            if "int main" not in code:
                command = [*compiler, "-include", "tidegate.h", "-include", "stdio.h", "-fsyntax-only", str(source), *tree.cflags()]
                counts.add(f"part {number + 1} of docs/c.md compiles", error_of(command))
                continue
            counts.add(f"program {number + 1} of docs/c.md", error_of(command) or error_of([str(program)], environment=environment))
        running.communicate("\n", timeout=RUN_LIMIT_S)


def arrow(tree: Tree, counts: Counts) -> None:
    """A batch that the library exports is what pyarrow imports."""
    what = "a batch exported by C is the same in pyarrow"
    if importlib.util.find_spec("pyarrow") is None:
        counts.skip(what, "pyarrow is not installed")
        return
    counts.add(what, error_of([sys.executable, str(HERE / "arrow_import.py"), str(tree.libdir / "libtidegate.so")]))


def size(counts: Counts) -> None:
    """Prints how large the shared library is and of what, and holds the table of docs/c.md against it."""
    script = [sys.executable, str(ROOT / "tools/library_size.py"), str(TARGET / "release/libtidegate_ffi.a")]
    made = subprocess.run(script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=RUN_LIMIT_S, check=False)
    print(made.stdout, end="", flush=True)
    if made.returncode != 0:
        counts.add("the library's size is explained", f"exit code {made.returncode}")
        return
    rows = re.compile(r"^\| ([^|]+) \| ([\d.]+) \|$", flags=re.MULTILINE)
    found = {part: float(size) for part, size in rows.findall(made.stdout)}
    page = (ROOT / "docs/c.md").read_text(encoding="utf-8").partition("## How large it is")[2]
    told = {part: float(size) for part, size in rows.findall(page)}
    slack = {part: max(SIZE_SLACK_MB, 0.1 * size) for part, size in told.items()}
    wrong = [part for part in found | told if abs(found.get(part, 0) - told.get(part, 0)) > slack.get(part, SIZE_SLACK_MB)]
    error = f"docs/c.md says something else about {', '.join(wrong)}: write the table above there" if wrong else None
    counts.add("the library's size is explained in docs/c.md", error)


def run(tree: Tree, folder: Path, counts: Counts) -> None:
    headers(tree, folder, counts)
    symbols(tree, counts)
    static_library(tree, folder, counts)
    examples(tree, folder, counts)
    documents(tree, folder, counts)
    arrow(tree, counts)
    size(counts)
