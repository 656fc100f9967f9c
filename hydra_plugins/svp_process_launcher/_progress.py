"""A batch of cells while it runs: what begins and ends is said at once and shown live."""

import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from hydra_plugins.svp_process_launcher._cells import Cell
from svp_lightning.runtime.terminal import duration

_TAIL_BYTES = 65_536


class Sweep:
    """One batch of ``cells``; ``received`` are signals that ask it to stop.

    ``first`` is run before them, alone; it is shown and is no cell.
    """

    def __init__(
        self, cells: Sequence[Cell], received: Sequence[int], first: Sequence[Cell] = ()
    ) -> None:
        self.cells, self.received, self.first = cells, received, first
        self.planned = [*first, *cells]

    def has_failed(self) -> bool:
        """Whether one of those that have ended has no result."""
        return any(cell.took is not None and cell.failure for cell in self.planned)

    def live(self) -> Any:
        """A context in which a terminal shows the cells with a log below what is printed."""
        if self.cells[0].log is None or not sys.stdout.isatty():
            return nullcontext()
        from rich.console import Console
        from rich.live import Live

        console = Console(highlight=False, soft_wrap=True)
        return Live(
            console=console, get_renderable=self._table, refresh_per_second=1, transient=True
        )

    def begin(self, cell: Cell, how: str) -> None:
        """Note and say that a cell has begun; earlier starts of the cell stay in its log."""
        if cell.log:
            cell.log.parent.mkdir(parents=True, exist_ok=True)
            with cell.log.open("a") as file:
                file.write(f"$ {shlex.join(cell.command)}\n")
                cell.log_start = file.tell()
        say(cell.name + (f" {how}, log: {cell.log}" if cell.log else ""))
        cell.started = time.monotonic()
        cell.failure = "stopped"  # what it is if the sweep ends first

    def settle(self, cell: Cell, result: Callable[[], float | None]) -> None:
        """Take the result of a cell and report it at once."""
        try:
            cell.objective, cell.failure = result(), None
        except Exception as error:  # submitit's and Ray's quote that of the cell
            quoted = re.findall(r"CellError: (.+)", str(error)) or str(error).strip().split("\n")
            cell.failure = quoted[0]
        cell.took = _seconds(cell)
        if not cell.failure:
            said = f"{cell.name} finished in {duration(cell.took)}"
        else:
            said = f"{cell.name} FAILED after {duration(cell.took)}: {cell.failure}"
            if cell.log:
                said += f"\n{cell.log} ends with:"
                said += "".join(f"\n  | {line}" for line in _tail(cell, 15))
        say(said)

    def _table(self) -> Any:
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("running cell", "for", "last line"):
            table.add_column(title, no_wrap=True, overflow="ellipsis")
        running = [one for one in self.planned if one.started and one.took is None]
        for cell in running:
            last = "".join(_tail(cell, 1))
            table.add_row(escape(cell.name), duration(_seconds(cell)), escape(last))
        ended = [cell for cell in self.cells if cell.took is not None]
        failures = sum(cell.failure is not None for cell in ended)
        waiting = sum(cell.started is None for cell in self.cells)
        counts = f"{len(ended) - failures} finished, {failures} failed, "
        return Group(table, counts + f"{len(running)} running, {waiting} waiting")


def say(text: str) -> None:
    """Print at once, in one piece: cells begin and end in threads."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _seconds(cell: Cell) -> float:
    return time.monotonic() - (cell.started or 0)


def _tail(cell: Cell, lines: int) -> list[str]:
    """The last lines of this start of a cell that say something; people delete logs."""
    assert cell.log is not None  # as where there are several at once, or one to be quoted
    try:
        with cell.log.open("rb") as file:
            file.seek(max(cell.log_start, file.seek(0, 2) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        text = f"(no log: {error.strerror})"
    said = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))  # bars: last state
    return [one for one in said if one.strip() and "HYDRA_FULL_ERROR" not in one][-lines:]
