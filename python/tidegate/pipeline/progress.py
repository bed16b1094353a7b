"""What an end-to-end run shows: a live line and a table by rich on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

__all__ = ["Progress", "show_table"]

_PLAIN_EVERY_S = 5.0


def _rich_console() -> Any:
    """rich's console, or None when standard output is no terminal or rich is not installed."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return None
    return Console()


class Progress:
    """A context manager; `update` as often as you like. One thread."""

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._console = _rich_console()
        self._live: Any = None
        self._started = time.monotonic()
        self._last_line = self._started

    def __enter__(self) -> Progress:
        self._started = self._last_line = time.monotonic()
        if self._console is not None:
            from rich.live import Live

            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, *, sent: int, tasks: int, results: int, missing: int) -> None:
        """Show these counts."""
        seconds = time.monotonic() - self._started
        if self._live is None:
            if time.monotonic() - self._last_line >= _PLAIN_EVERY_S:
                self._last_line = time.monotonic()
                print(f"{seconds:5.0f} s  sent {sent}  tasks {tasks}  results {results}  under way {missing}", flush=True)
            return
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            ProgressBar(total=self._duration_s, completed=min(seconds, self._duration_s), width=30),
            f"{seconds:.0f} s",
            f"sent [bold]{sent}[/]",
            f"tasks [bold]{tasks}[/]",
            f"results [bold green]{results}[/]",
            f"under way [bold yellow]{missing}[/]",
        )
        self._live.update(grid, refresh=True)

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._live is None:
            print(text, flush=True)
        else:
            self._console.print(text, markup=False)


def show_table(title: str, rows: list[tuple[str, str]]) -> None:
    """Print two columns under a title."""
    console = _rich_console()
    if console is None:
        width = max(len(name) for name, _ in rows)
        print(title)
        for name, value in rows:
            print(f"  {name:<{width}}  {value:>10}")
        sys.stdout.flush()
        return
    from rich.table import Table

    table = Table(title=title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
