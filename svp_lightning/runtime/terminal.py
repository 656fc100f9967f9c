"""What the user sees while a run works: lines and progress bars of the main process alone."""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from svp_lightning.runtime.distributed import is_main_process

LAUNCHER_LOG = logging.getLogger("lightning_fabric.strategies.launchers.subprocess_script")
"""Lightning writes here why it kills every process of a launch, and nothing else."""


def say(line: str) -> None:
    """Print a line on the main process only, at once."""
    if is_main_process():
        print(line, flush=True)


class _Lines(tqdm):  # type: ignore[misc]
    """A bar for a log: a line at each tenth, the last with the final figures."""

    disable: bool
    _tenth = 0

    def update(self, n: float = 1) -> None:
        if not self.disable:
            self.n += n
            self.display()

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        tenth = 10 * self.n // max(1, self.total)
        if self._tenth < tenth < 10:
            self._tenth = tenth
            print(self, file=self.fp, flush=True)

    def close(self) -> None:
        if not self.disable:
            print(self, file=self.fp, flush=True)
            self.disable = True


def bar(description: str, total: int, unit: str, initial: int = 0) -> "tqdm[Any]":
    """A bar in the project's style, silent on every process but the main one.

    Where standard error is no terminal it is a line at most every 10 %.
    """
    kind = tqdm if sys.stderr.isatty() else _Lines
    return kind(
        desc=f"{description:<18}",
        total=total,
        initial=initial,
        unit=unit,
        dynamic_ncols=True,
        smoothing=0.05,
        disable=not is_main_process(),
    )


@contextmanager
def counting(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for images; yields the function to call with the number just done."""
    with bar(description, total, " images") as shown:

        def advance(count: int) -> None:
            shown.update(count)

        yield advance


def print_table(table: Table) -> None:
    """Print a table; a file or pipe gets it uncut."""
    wide_console().print(table)


def wide_console() -> Console:
    """The terminal; a file or pipe, which has no width of its own, is 160 columns wide."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def duration(seconds: float) -> str:
    """``"40 s"``, ``"12 min"``, ``"3.5 h"``, ``"2.1 days"``."""
    for limit, unit, divisor in ((100, "s", 1), (100 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            value = seconds / divisor
            return f"{value:.1f} {unit}" if unit == "h" else f"{max(1, round(value))} {unit}"
    return f"{seconds / 86400:.1f} days"


def _say_why_all_end(record: logging.LogRecord) -> bool:
    """The message before every process is killed, where Lightning's own would not be seen."""
    found = re.search(r"rank: (\d+).* code (-?\d+)", record.getMessage())
    which, status = found.groups() if found else ("?", "?")
    print(
        f"\nError: Process {which} ended with status {status}, so all others are stopped. Read "
        "its message; without one it was killed, as happens when memory runs out. The same "
        "command resumes.",
        file=sys.stderr,
        flush=True,
    )
    return False


def quieten_libraries() -> None:
    """Keep the terminal for what the user needs; each silence has its reason."""
    # Devices and tips on every trainer; the stages say in one line what runs where.
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    LAUNCHER_LOG.setLevel(logging.INFO)
    LAUNCHER_LOG.addFilter(_say_why_all_end)
    # Loaders read whole batches from a memory map: worker processes would only add latency.
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    # Stages resume inside their own folder on purpose.
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
    # Lightning 2.6 on torch's newest tree utilities; nothing a user can change.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    # Short epochs are what a small scale asks for; every epoch's end is logged anyway.
    warnings.filterwarnings("ignore", message=r".*smaller than the logging interval.*")
    # The generator's data module has no held-out images to validate on, by design.
    warnings.filterwarnings("ignore", message=r".*passed in a `val_dataloader` but have no.*")
    # Every process computes the score from the predictions of all, so there is nothing to sync.
    warnings.filterwarnings("ignore", message=r".*recommended to use `self.log\(.*sync_dist=True.*")
    # What torch names instead is a private module.
    warnings.filterwarnings("ignore", message=r".*nn\.functional\.all_reduce is deprecated.*")
