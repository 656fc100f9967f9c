"""What the user sees of a sweep while it runs."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TAIL_BYTES = 65_536
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_REFRESH_SECONDS = 1.0


class Display:
    """One line per event and, on a terminal that no cell uses, a table of the running cells below.

    Args:
        live: whether to draw the table; :attr:`live` is then to be entered.
    """

    def __init__(self, live: bool) -> None:
        self.live: Any = None
        self._next_refresh = 0.0
        if live:
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False)
            self.live = Live(console=console, auto_refresh=False, transient=True)

    def say(self, text: str) -> None:
        """Print ``text`` now, above the table."""
        if self.live is None:
            print(text, flush=True)
        else:
            self.live.console.print(text, markup=False, soft_wrap=True)

    def update(self, running: Sequence[tuple[str, float, Path | None, int]], counts: str) -> None:
        """Redraw the table, at most once a second.

        Args:
            running: name, start, log and the log's first byte of each running cell.
            counts: cells per state.
        """
        if self.live is None or time.monotonic() < self._next_refresh:
            return
        self._next_refresh = time.monotonic() + _REFRESH_SECONDS
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("running cell", "for", "last line"):
            table.add_column(title, no_wrap=True, overflow="ellipsis")
        for name, started, log, log_start in running:
            last = log_tail(log, log_start, lines=1) if log else ""
            table.add_row(escape(name), duration(time.monotonic() - started), escape(last))
        self.live.update(Group(table, counts), refresh=True)


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
