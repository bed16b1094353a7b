"""Writes a C program that calls every function of tidegate.h with NULL and zeros, and again with a handle that never was one.

    null_calls.py include/tidegate.h >null_calls.c

What each call has to answer follows from its types: a function that takes a handle and answers a status says TG_ERROR_ARGUMENT,
one that frees says TG_OK to NULL. That the process lives on to its last line is the rest of the test.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_FUNCTION = re.compile(r"^((?:const )?(?:struct |enum )?\w+ \**)\s*(tg_\w+)\(([^;{]*)\);", re.MULTILINE)
_STATUS_WITHOUT_A_HANDLE = {"tg_set_log_callback": "TG_OK"}
"""Without a callback it ends logging, whatever the level."""


@dataclass(frozen=True)
class Function:
    """A prototype of the header."""

    result: str
    name: str
    parameters: tuple[str, ...]

    @property
    def takes_a_handle(self) -> bool:
        return (
            bool(self.parameters)
            and bool(re.match(r"(?:const )?struct tg_\w+ \*\w+$", self.parameters[0]))
            and (self.name.startswith(_kind(self.parameters[0])))
        )

    def call(self, handle: str) -> str:
        first = [handle] if self.takes_a_handle else []
        rest = [_zero(parameter) for parameter in self.parameters[len(first) :]]
        return f"{self.name}({', '.join(first + rest)})"


def _kind(parameter: str) -> str:
    """`struct tg_consumer *consumer` -> `tg_consumer_`."""
    match = re.search(r"struct (tg_\w+)", parameter)
    return f"{match[1]}_" if match else "?"


def _zero(parameter: str) -> str:
    """A zero of the parameter's type."""
    if "*" in parameter or re.match(r"tg_\w+_(?:callback|handler) ", parameter):
        return "NULL"
    if match := re.match(r"struct (tg_\w+) \w+$", parameter):
        return f"(struct {match[1]}){{0}}"
    return "0"


def functions(header: str) -> list[Function]:
    """Every function that the header declares."""
    code = re.sub(r"[ \t]*\n[ \t]+", " ", _COMMENT.sub("", header))
    found = []
    for result, name, parameters in _FUNCTION.findall(code):
        listed = tuple(re.sub(r"\s+", " ", text).strip() for text in parameters.split(","))
        found.append(Function(result.strip(), name, () if listed == ("void",) else listed))
    return found


def program(found: list[Function]) -> str:
    tests = []
    for function in found:
        body = [f"static void {function.name}_takes_nothing(void) {{"]
        frees = function.name.endswith("_free")
        if function.result == "tg_status":
            expected = _STATUS_WITHOUT_A_HANDLE.get(function.name, "TG_OK" if frees else "TG_ERROR_ARGUMENT")
            body.append(f"    CHECK_STATUS({function.call('NULL')}, {expected});")
            if function.takes_a_handle:
                kind = _kind(function.parameters[0]).rstrip("_")
                for number in ("1", "UINTPTR_MAX", "0x7ffff7dc5000"):
                    body.append(f"    CHECK_STATUS({function.call(f'(struct {kind} *)(uintptr_t){number}')}, TG_ERROR_ARGUMENT);")
                body.append("    CHECK(tg_last_error() != NULL && tg_last_error()->message[0] != '\\0');")
        else:
            body.append(f"    (void){function.call('NULL')};")
            if function.takes_a_handle:
                kind = _kind(function.parameters[0]).rstrip("_")
                body.append(f"    (void){function.call(f'(struct {kind} *)(uintptr_t)UINTPTR_MAX')};")
        tests.append("\n".join([*body, "}"]))
    runs = "\n".join(f"    RUN({function.name}_takes_nothing);" for function in found)
    head = '/* Written by null_calls.py. */\n#include "check.h"\n'
    return f"{head}\n" + "\n\n".join(tests) + f"\n\nint main(void) {{\n{runs}\n    return finish();\n}}\n"


def main() -> None:
    found = functions(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(program(found), end="")


if __name__ == "__main__":
    main()
