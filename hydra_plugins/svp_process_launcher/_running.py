"""The cells of a sweep that have been started, and what became of them."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hydra_plugins.svp_process_launcher._plan import Cell


@dataclass(frozen=True)
class Running:
    """A started cell.

    Attributes:
        cell: which one.
        process: leader of its process group.
        result: file it may write its objective to.
        log: file with its output; ``None`` if it writes to the terminal.
        log_start: byte of the log at which this start's output begins.
        started: on the monotonic clock, seconds.
    """

    cell: Cell
    process: subprocess.Popen[bytes]
    result: Path
    log: Path | None
    log_start: int
    started: float

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.started


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: ``failure`` says why it has no result, ``None`` if it finished."""

    failure: str | None
    objective: float | None = None
    log: Path | None = None
