"""From a sweep to the command line of each of its cells."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The module hydra.main itself takes its parser from; hydra is pinned below 1.4.
from hydra._internal.utils import get_args_parser

from hydra_plugins.svp_process_launcher._errors import LauncherError

# Overrides of the sweep itself: they mean nothing to a cell, or would start a sweep in it.
_OF_THE_SWEEP = re.compile(r"^[~+]*hydra([./](launcher|sweeper|sweep)([./=@]|$)|\.mode=)")


@dataclass(frozen=True)
class Cell:
    """One cell: its place in the sweep, what sets it apart, and how to start it.

    Attributes:
        number: from 1.
        total: number of cells known so far.
        overrides: all overrides of the task, as the sweeper gave them.
        label: the overrides not common to all cells, for people to read.
        command: program and arguments; no shell is involved, so nothing is quoted again.
    """

    number: int
    total: int
    overrides: tuple[str, ...]
    label: str
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        """As ``[2/12] seed=2``."""
        return f"[{self.number}/{self.total}] {self.label}".rstrip()


def plan_cells(
    job_overrides: Sequence[Sequence[str]], hydra_overrides: Sequence[str], done_before: int
) -> list[Cell]:
    """The cells of one batch, in the sweeper's order.

    Args:
        job_overrides: per cell, its overrides in Hydra's grammar, quotes included.
        hydra_overrides: the sweep's ``hydra.*`` overrides; those meant for a cell are passed on.
        done_before: cells in earlier batches.
    """
    start = [*program_command(), *config_flags(sys.argv[1:])]
    passed_on = [line for line in hydra_overrides if not _OF_THE_SWEEP.match(line)]
    common = set(job_overrides[0]).intersection(*job_overrides) if len(job_overrides) > 1 else set()
    return [
        Cell(
            number=done_before + index,
            total=done_before + len(job_overrides),
            overrides=tuple(overrides),
            label=" ".join(line for line in overrides if line not in common),
            # The mode is said outright: the config itself may set hydra.mode to MULTIRUN.
            command=(*start, *overrides, *passed_on, "hydra.mode=RUN"),
        )
        for index, overrides in enumerate(job_overrides, start=1)
    ]


def program_command() -> list[str]:
    """How to start the running program again: as a module if it is one, else its script."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return [sys.executable, "-m", spec.name.removesuffix(".__main__")]
    script = Path(sys.argv[0]).absolute()
    if not script.exists():
        raise LauncherError(
            f"Cannot tell how to start this program again: {sys.argv[0]!r} is no file.",
            "Start the sweep as a module (python -m package) or as a script.",
        )
    return [sys.executable, str(script)]


def config_flags(arguments: Sequence[str]) -> list[str]:
    """The flags among Hydra's command-line ``arguments`` that say where configs come from."""
    given, _ = get_args_parser().parse_known_args(list(arguments))
    flags = {
        "--config-path": given.config_path,
        "--config-name": given.config_name,
        "--config-dir": given.config_dir,
    }
    return [word for flag, value in flags.items() if value is not None for word in (flag, value)]
