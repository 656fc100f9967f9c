"""The cells of a sweep: the command of each, and its share of the machine."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# The module hydra.main itself takes its parser from; hydra is pinned below 1.4.
from hydra._internal.utils import get_args_parser

from hydra_plugins.svp_process_launcher._machine import usable_cores

# Overrides of the sweep itself: they mean nothing to a cell, or would start a sweep in it.
_OF_THE_SWEEP = re.compile(r"^[~+]*hydra([./](launcher|sweeper|sweep)([./=@]|$)|\.mode=)")
# Left over from a distributed job, these would make a cell wait for ranks that never come;
# a run id from the caller would merge the W&B runs of all cells.
_STALE = re.compile(
    r"^(RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|NODE_RANK|GROUP_RANK|GROUP_WORLD_SIZE"
    r"|ROLE_RANK|ROLE_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|TORCHELASTIC_.*"
    r"|PL_GLOBAL_SEED|PL_SEED_WORKERS|SVP_LAUNCH_ID|WANDB_RUN_ID)$"
)


@dataclass(eq=False)
class Cell:
    """One cell.

    ``name`` is as ``[2/12] seed=2``, with the overrides not common to all cells, ``number``
    ``2/12``. No shell is involved in ``command``, so nothing is quoted again. ``log`` is None if
    the cell writes to the terminal, ``log_start`` the byte at which this start's output begins.
    ``started`` is a time, in s; ``took`` is None until it has ended; ``failure`` is why it has no
    result.
    """

    name: str
    number: str
    overrides: list[str]
    command: list[str]
    log: Path | None = None
    log_start: int = 0
    started: float | None = None
    took: float | None = None
    failure: str | None = "not started"
    objective: float | None = None


def plan_cells(
    job_overrides: Sequence[Sequence[str]],
    hydra_overrides: Sequence[str],
    done_before: int,
    logs: Path | None,
) -> list[Cell]:
    """The cells of one batch, in the sweeper's order.

    ``job_overrides`` are in Hydra's grammar, quotes included; of the sweep's ``hydra_overrides``
    those meant for a cell are passed on; ``done_before`` counts the cells in earlier batches.
    """
    # The mode is given because the config itself may set hydra.mode to MULTIRUN.
    end = [*(line for line in hydra_overrides if not _OF_THE_SWEEP.match(line)), "hydra.mode=RUN"]
    common = set(job_overrides[0]).intersection(*job_overrides) if len(job_overrides) > 1 else set()
    cells = []
    for position, overrides in enumerate(job_overrides, start=done_before + 1):
        number = f"{position}/{done_before + len(job_overrides)}"
        name = f"[{number}] {' '.join(line for line in overrides if line not in common)}".rstrip()
        log = logs / f"{position:03d}.log" if logs else None
        cells.append(Cell(name, number, list(overrides), [*_program(), *overrides, *end], log))
    return cells


def _program() -> list[str]:
    """How to start the running program again: a module or a script, with its config flags."""
    name = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "__main__")
    script, module = [os.path.abspath(sys.argv[0])], ["-m", name.removesuffix(".__main__")]
    program = script if name == "__main__" else module
    given, _ = get_args_parser().parse_known_args(sys.argv[1:])
    flags = {f"--config-{n}": getattr(given, f"config_{n}") for n in ("path", "name", "dir")}
    return [sys.executable, *program, *(w for one in flags.items() if one[1] for w in one)]


def before(cell: Cell, overrides: Sequence[str]) -> Cell:
    """The command of ``cell`` with further ``overrides``, to be run before the cells."""
    name, command = f"{cell.name} {' '.join(overrides)}", [*cell.command, *overrides]
    log = cell.log and cell.log.with_stem(f"{cell.log.stem}_first")
    return replace(cell, name=name, command=command, log=log)


def cell_environment(cell: Cell, shares: int) -> dict[str, str]:
    """The environment as a cell gets it: without stale ranks, with one of ``shares`` of the cores.

    The share is that of each process of a cell; 1 leaves the threads alone.
    """
    clean = {name: value for name, value in os.environ.items() if not _STALE.match(name)}
    clean["SVP_SWEEP_CELL"] = cell.number
    if shares > 1:
        clean.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // shares)))
        clean["PYTHONUNBUFFERED"] = "1"  # so that the logs can be followed
    return clean
