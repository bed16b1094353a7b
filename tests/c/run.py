"""Builds the C and C++ suites against an installed library, runs them, and closes with the sum of their tests.

    tests/c/run.py                    the suites, examples, headers, symbols, the installation
    tests/c/run.py --tool valgrind    the suites under memcheck; also asan (with UBSan) and tsan
    tests/c/run.py --only test_epoll  one program

With TIDEGATE_TEST_BOOTSTRAP set, the programs that talk to a cluster run a second time, on that one. The tools see the library
without mimalloc, which would hide its memory from them. What a tool or a compiler is missing for is skipped in a line that says so,
or fails with TIDEGATE_REQUIRE_C=1, which CI sets. The last line is `N passed, N failed, N skipped in S s`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import installed  # noqa: E402
import null_calls  # noqa: E402

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
PROGRAM_LIMIT_S = 600
COMPILE_LIMIT_S = 300

ON_A_CLUSTER = (
    "test_consumer",
    "test_rebalance",
    "test_producer",
    "test_epoll",
    "test_life",
    "test_process",
    "test_cpp",
    "test_cpp_process",
)
"""These run on a real Kafka, too."""

LEAK_CHECK = ("--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite")
"""Pointers into the middle of a block are how Rust's Arc is handed on: "possibly lost" says nothing here. What is lost
indirectly hangs on what is lost definitely."""

VALGRIND = ("valgrind", "--quiet", "--error-exitcode=99", *LEAK_CHECK, f"--suppressions={HERE / 'valgrind.supp'}")


@dataclass(frozen=True)
class Tool:
    """What watches the programs: flags for the compiler, words before the program, variables for it."""

    flags: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    needs: str = ""
    more: str = ""
    """A file that goes into each program."""


TOOLS = {
    "none": Tool(),
    "valgrind": Tool(before=VALGRIND, needs="valgrind"),
    "asan": Tool(
        flags=("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
        environment={
            "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1",
            "LSAN_OPTIONS": f"suppressions={HERE / 'lsan.supp'}:print_suppressions=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
    ),
    "tsan": Tool(
        flags=("-fsanitize=thread",),
        more="tsan_threads.c",
        environment={"TSAN_OPTIONS": f"suppressions={HERE / 'tsan.supp'}:halt_on_error=0:exitcode=66"},
    ),
}


@dataclass
class Counts:
    """How the tests ended."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, what: str, error: str | None) -> None:
        """One test that is no program: `error` is None when it passed."""
        print(f"test {what}{'' if error is None else ': FAILED'}", flush=True)
        if error is None:
            self.passed += 1
        else:
            print("  " + error.strip().replace("\n", "\n  "), flush=True)
            self.failed += 1

    def skip(self, what: str, reason: str) -> None:
        if os.environ.get("TIDEGATE_REQUIRE_C") == "1":
            self.add(what, f"{reason}, and TIDEGATE_REQUIRE_C=1")
            return
        print(f"test {what}: skipped, {reason}", flush=True)
        self.skipped += 1


def program_counts(name: str, command: list[str], environment: dict[str, str], counts: Counts) -> None:
    """Run a test program and add what its last line says; a crash is one failure more."""
    print(f"---- {name}", flush=True)
    started = time.monotonic()
    try:
        ran = subprocess.run(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PROGRAM_LIMIT_S,
            check=False,
        )
        output, code = ran.stdout, ran.returncode
    except subprocess.TimeoutExpired as expired:
        raw = expired.stdout or b""
        output = (raw if isinstance(raw, str) else raw.decode("utf-8", "replace")) + f"\nstill ran after {PROGRAM_LIMIT_S} s\n"
        code = -1
    last = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", output, flags=re.MULTILINE)
    passed, failed, skipped = map(int, last[-1]) if last else (0, 0, 0)
    if code != 0 or failed:
        print(output, end="", flush=True)
        print(f"{name}: exit code {code}", flush=True)
        failed = max(failed, 1)
    print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped in {time.monotonic() - started:.1f} s", flush=True)
    counts.passed += passed
    counts.failed += failed
    counts.skipped += skipped


def compiler(language: str) -> str:
    return os.environ.get("CXX", "c++") if language == "c++" else os.environ.get("CC", "cc")


def sources() -> dict[str, list[Path]]:
    """Each program and its files."""
    found = {path.stem: [path] for path in sorted(HERE.glob("test_*.c"))}
    found["test_null"] = []
    # Both faces of the wrapper, with and without exceptions, in one program.
    found["test_cpp"] = [HERE / "test_cpp.cpp", HERE / "cpp_returning.cpp"]
    found["test_cpp_process"] = [HERE / "test_cpp_process.cpp", HERE / "cpp_process_returning.cpp"]
    return found


def build(name: str, files: list[Path], tree: installed.Tree, folder: Path, tool: Tool) -> str | None:
    """Compile and link a program against the installed library; what went wrong, or None."""
    if not files:
        header = (tree.prefix / "include/tidegate.h").read_text(encoding="utf-8")
        files = [folder / f"{name}.c"]
        files[0].write_text(null_calls.program(null_calls.functions(header)), encoding="utf-8")
    linker = "c++" if files[0].suffix == ".cpp" else "c"
    objects = []
    for file in [*files, *([HERE / tool.more] if tool.more else [])]:
        language = "c++" if file.suffix == ".cpp" else "c"
        standard = ["-std=c++17"] if language == "c++" else ["-std=c11", "-D_GNU_SOURCE"]
        if file.stem.endswith("returning"):
            standard.append("-fno-exceptions")
        target = folder / f"{file.stem}.o"
        command = [compiler(language), *standard, "-O1", "-g", *WARNINGS, *tool.flags, f"-I{HERE}", *tree.cflags(), "-c", str(file)]
        if error := installed.error_of([*command, "-o", str(target)], COMPILE_LIMIT_S):
            return error
        objects.append(str(target))
    libraries = ["-ldl"] if name == "test_dlopen" else tree.libs()
    link = [compiler(linker), *tool.flags, *objects, *libraries, "-lpthread", "-o", str(folder / name)]
    return installed.error_of(link, COMPILE_LIMIT_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tool", choices=TOOLS, default="none")
    parser.add_argument("--only", default="", metavar="NAME", help="programs with NAME in their name, and nothing else")
    parser.add_argument("--no-build", action="store_true", help="take the library as it was installed last")
    options = parser.parse_args()
    tool = TOOLS[options.tool]
    started = time.monotonic()
    counts = Counts()

    if tool.needs and shutil.which(tool.needs) is None:
        counts.skip(f"the suites under {options.tool}", f"{tool.needs} is not installed")
    else:
        tree = installed.install("mimalloc" if options.tool == "none" else "system", build=not options.no_build)
        folder = tree.prefix.parent / options.tool
        folder.mkdir(parents=True, exist_ok=True)
        if options.tool == "none" and not options.only:
            installed.run(tree, folder, counts)
        real = os.environ.get("TIDEGATE_TEST_BOOTSTRAP", "")
        environment = {**tool.environment, "LD_LIBRARY_PATH": str(tree.libdir)}
        for name, files in sources().items():
            if options.only not in name:
                continue
            if error := build(name, files, tree, folder, tool):
                counts.add(f"{name} is built", error)
                continue
            command = [*tool.before, str(folder / name)]
            program_counts(name, command, {**environment, "TIDEGATE_TEST_BOOTSTRAP": ""}, counts)
            if real and name in ON_A_CLUSTER:
                program_counts(f"{name} on {real}", command, environment, counts)

    seconds = time.monotonic() - started
    print(f"\n{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped in {seconds:.2f}s", flush=True)
    return 1 if counts.failed or counts.passed + counts.skipped == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
