"""Explains the size of the stripped shared library, by what is linked into it.

    tools/library_size.py target/release/libtidegate_ffi.a     a table in Markdown

The static library that cargo makes is linked once more as a shared one, with a map of where each input section went. Sections are
counted for the object file that they come from; what the linker adds (relocations, tables of symbols) for itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    ("OpenSSL", r"lib(?:crypto|ssl|default|legacy|common|fips|template)-"),
    ("librdkafka", r"(?:rd\w*|rdkafka\w*|tinycthread\w*|snappy|lz4\w*|crc32c|cJSON|pb_\w+|\w+\.pb|regexp|cjson|xxhash_rdkafka)\.o"),
    (
        "zstd",
        r"[0-9a-f]+-(?:zstd\w*|huf\w*|fse\w*|hist|xxhash|pool|threading|debug|error_private|entropy_common|zdict|cover|divsufsort|fastcover)\.o",
    ),
    ("zlib", r"[0-9a-f]+-(?:adler32|crc32|deflate|infback|inffast|inflate|inftrees|trees|uncompr|zutil|compress|gz\w+)\.o"),
    ("mimalloc", r"[0-9a-f]+-static\.o"),
    ("Tidegate", r"(?:tidegate|tidegate_ffi)[-.]"),
    ("Arrow", r"(?:arrow\w*|num\w*|chrono|half|ahash)-"),
    (
        "Rust's standard library",
        r"(?:std|core|alloc|compiler_builtins|panic_unwind|unwind|gimli|addr2line|object|miniz_oxide|rustc_demangle|"
        r"hashbrown|memchr|adler2|cfg_if|libc|std_detect|rustc_std_workspace_\w+)-",
    ),
    ("other Rust crates", r".*\.rcgu\.o"),
)
"""What a member of the archive belongs to: the first pattern that fits."""

SKIPPED = (".rela", ".bss", ".tbss", ".debug", ".comment", ".note", ".symtab", ".strtab", ".shstrtab", ".llvm")
"""What is not in the stripped file, and relocations, which the map lists for the first input file."""

_PLACED = re.compile(r"^ (?P<section>[.\w$@*-][^\s]*)?\s+0x(?P<at>[0-9a-f]+)\s+0x(?P<size>[0-9a-f]+) (?P<file>\S.*)$")
_OUTPUT = re.compile(r"^(?P<section>\.[\w.]+)(?:\s+0x[0-9a-f]+\s+0x(?P<size>[0-9a-f]+))?")


def part_of(file: str) -> str:
    member = match[1] if (match := re.search(r"\(([^)]*)\)$", file)) else file
    return next((part for part, pattern in PARTS if re.match(pattern, member)), "the C library's start files")


def link(archive: Path, folder: Path) -> tuple[Path, Path]:
    """The shared library made of the archive, and its map."""
    script = folder / "exports"
    symbols = (ROOT / "ffi/symbols.txt").read_text(encoding="utf-8").split()
    script.write_text("{ global: " + " ".join(f"{name};" for name in symbols) + " local: *; };\n", encoding="utf-8")
    library, listing = folder / "library.so", folder / "library.map"
    roots = [f"-Wl,--undefined={name}" for name in symbols]
    libraries = ["-Wl,--as-needed", "-lgcc_s", "-lpthread", "-ldl", "-lm"]
    flags = [
        "-shared",
        "-Wl,--gc-sections",
        "-Wl,--strip-all",
        "-Wl,-z,relro,-z,now",
        f"-Wl,--version-script={script}",
        f"-Wl,-Map={listing}",
    ]
    subprocess.run(["cc", *flags, *roots, str(archive), *libraries, "-o", str(library)], check=True)
    return library, listing


def sizes(listing: Path) -> Counter[str]:
    """Bytes of the file by part."""
    text = listing.read_text(encoding="utf-8", errors="replace").partition("Linker script and memory map")[2]
    # A long name stands on a line of its own.
    text = re.sub(r"^( \S+)\n\s+(?=0x)", r"\1 ", text, flags=re.MULTILINE)
    found: Counter[str] = Counter()
    output = ""
    for line in text.splitlines():
        if match := _OUTPUT.match(line):
            output = match["section"]
        elif (match := _PLACED.match(line)) and output and not output.startswith(SKIPPED):
            # The linker merges these, and names the first file for all of them.
            part = "unwind tables" if output.startswith(".eh_frame") else part_of(match["file"])
            found[part] += int(match["size"], 16)
    return found


def table(archive: Path) -> str:
    with tempfile.TemporaryDirectory() as made:
        library, listing = link(archive, Path(made))
        total, found = library.stat().st_size, sizes(listing)
    rows = [(part, found[part]) for part, _ in sorted(found.items(), key=lambda item: -item[1])]
    rows.append(("relocations, symbols, gaps", total - sum(found.values())))
    lines = ["| part | MB |", "|---|---|"]
    lines += [f"| {part} | {size / 1e6:.2f} |" for part, size in rows if abs(size) >= 5_000]
    return "\n".join([*lines, f"| all | {total / 1e6:.1f} |"])


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
