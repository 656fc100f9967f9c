"""What the user sees of a sweep while it runs."""

import re
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from hydra_plugins.svp_process_launcher._running import Running

_TAIL_BYTES = 65_536
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_REFRESH_SECONDS = 1.0


class LineDisplay(AbstractContextManager["LineDisplay"]):
    """One line per event: for logs, pipes, and cells that have the terminal to themselves."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """Print ``text`` now."""
        print(text, flush=True)

    def update(self, running: Mapping[int, Running], counts: Mapping[str, int]) -> None:
        """Show what is going on; nothing here, for lines cannot be taken back."""


class LiveDisplay(LineDisplay):
    """A table of the running cells below the lines, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._next_refresh = 0.0

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print ``text`` above the table."""
        self._console.print(text, markup=False, soft_wrap=True)

    def update(self, running: Mapping[int, Running], counts: Mapping[str, int]) -> None:
        """Redraw the table, at most once a second.

        Args:
            running: by slot, the running cells.
            counts: cells per state, in the order to show them.
        """
        if time.monotonic() < self._next_refresh:
            return
        self._next_refresh = time.monotonic() + _REFRESH_SECONDS
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in ("running cell", "for", "last line"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        for cell in running.values():
            last = log_tail(cell.log, cell.log_start, lines=1) if cell.log else ""
            table.add_row(escape(cell.cell.name), duration(cell.seconds), escape(last))
        total = ", ".join(f"{count} {state}" for state, count in counts.items())
        self._live.update(Group(table, total), refresh=True)


def display_for(parallel: int) -> LineDisplay:
    """The live table where there is a terminal to draw it on and no cell is using it."""
    return LiveDisplay() if parallel > 1 and sys.stdout.isatty() else LineDisplay()


def log_tail(log: Path, start: int, lines: int = 15) -> str:
    """The last meaningful lines of a log.

    Args:
        log: the file.
        start: byte at which the part of interest begins.
        lines: how many at most.

    Returns:
        Lines without blank ones and colours; of a progress bar only its last state.
    """
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(start, size - _TAIL_BYTES))
        text = _ESCAPES.sub("", file.read().decode(errors="replace"))
    drawn = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    meaningful = [line for line in drawn if line and "HYDRA_FULL_ERROR" not in line]
    return "\n".join(meaningful[-lines:])


def duration(seconds: float) -> str:
    """``seconds`` for people: ``42 s``, ``12 min``, ``3 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
