"""The cells of a sweep: the command of each, and its share of this machine."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# The module hydra.main itself takes its parser from; hydra is pinned below 1.4.
from hydra._internal.utils import get_args_parser
from hydra.errors import CompactHydraException, HydraException

from svp_lightning.errors import DistributedError

# Overrides of the sweep itself: they mean nothing to a cell, or would start a sweep in it.
_OF_THE_SWEEP = re.compile(r"^[~+]*hydra([./](launcher|sweeper|sweep)([./=@]|$)|\.mode=)")
# Left over from a distributed job, these would make a cell wait for ranks that never come;
# a run id from the caller would merge the W&B runs of all cells.
_STALE = re.compile(
    r"^(RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|NODE_RANK|GROUP_RANK|GROUP_WORLD_SIZE"
    r"|ROLE_RANK|ROLE_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|TORCHELASTIC_.*"
    r"|PL_GLOBAL_SEED|PL_SEED_WORKERS|SVP_LAUNCH_ID|WANDB_RUN_ID)$"
)
# Those of the task that runs the sweep or has started Ray: a cell would take them for its own.
_OF_A_TASK = re.compile(r"^SLURM_(NTASKS.*|NPROCS|PROCID|LOCALID|NODEID|STEPID|STEP_.*)$")
_UNCOUNTED = ("kfd", "dxg", "accel")
"""Devices of AMD, of Windows' Linux and of others: there may be one, or several."""


class LauncherError(DistributedError, CompactHydraException):
    """A sweep cannot be run as asked; Hydra prints the message without a traceback."""


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
        log = logs / _log_name(position, overrides) if logs else None
        cells.append(Cell(name, number, list(overrides), [*_program(), *overrides, *end], log))
    return cells


def _log_name(position: int, overrides: Sequence[str]) -> str:
    """As ``002_c5f1.log``: the second cell of another sweep of the study has another file."""
    return f"{position:03d}_{hashlib.sha256(repr([*overrides]).encode()).hexdigest()[:4]}.log"


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


def cell_environment(cell: Cell, shares: int, is_task: bool = False) -> dict[str, str]:
    """The environment as a cell gets it: without stale ranks, with one of ``shares`` of the cores.

    The share is that of each process of a cell; 1 leaves the threads alone. ``is_task``: this
    process is a task of SLURM's for the cell, so its rank is the cell's.
    """
    clean = {name: value for name, value in os.environ.items() if not _STALE.match(name)}
    if not is_task:
        clean = {name: value for name, value in clean.items() if not _OF_A_TASK.match(name)}
    clean["SVP_SWEEP_CELL"] = cell.number
    if shares > 1:
        clean.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // shares)))
        clean["PYTHONUNBUFFERED"] = "1"  # so that the logs can be followed
    return clean


def shared_out(
    cells: Sequence[Cell],
    needs: Callable[[], Any],
    *,
    parallel: int | str,
    devices: list[int] | None,
    cell_gb: float,
    **_: Any,
) -> tuple[dict[str, Any], list[Cell]]:
    """Options of the engine, and what runs before the cells; ``needs`` asks the program.

    Raises:
        LauncherError: ``parallel`` is no number of cells, or ``cell_gb`` no memory.
    """
    if not (isinstance(cell_gb, int | float) and cell_gb > 0):
        raise LauncherError(
            f"hydra.launcher.cell_gb={cell_gb} is no memory of a process.", "Give more than 0."
        )
    visible = visible_devices(os.environ, Path("/dev"))
    found = SimpleNamespace(accelerated=True, processes=1, first={})
    first: list[Cell] = []
    if parallel == "auto":
        with suppress(HydraException):  # a cell has an impossible override, and will say so
            found = (len(cells) > 1 and needs()) or found
        accelerators = _accelerators(devices, visible) if found.accelerated else 0
        asked = re.match(r"[1-9]\d*", os.environ.get("OMP_NUM_THREADS", ""))  # also as 4,2
        parallel = 1
        if found.processes is not None:
            several = (len(cells), found.processes, cell_gb, accelerators)
            parallel = cells_at_once(*several, int(asked[0]) if asked else 1)
        # With more of them than places, they use the cores better side by side, in their cells.
        if not accelerators and len(found.first) < parallel:
            first = [before(one, found.first[one.name]) for one in cells if one.name in found.first]
    elif not isinstance(parallel, int) or parallel < 1:
        raise LauncherError(
            f"hydra.launcher.parallel={parallel} starts no cell.", "Give 1 or more, or auto."
        )
    groups = device_groups(devices, parallel, visible)
    shared = {"parallel": parallel, "processes_of_a_cell": found.processes or 1, "groups": groups}
    return shared, first


def usable_cores() -> int:
    """Cores that this process may use."""
    affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1


def free_gigabytes(root: Path = Path("/")) -> float:
    """Main memory that new processes can have, in GB; half of it where the system does not say."""
    found = []
    try:
        text = (root / "proc/meminfo").read_text()
        found += [int(kib) * 1024 for kib in re.findall(r"MemAvailable: *(\d+) kB", text)]
        group = root / "sys/fs/cgroup"  # a container's own limit; "max" without one
        limit = (group / "memory.max").read_text().strip()
        if limit.isdigit():
            cached = re.findall(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.M)
            used = int((group / "memory.current").read_text()) - sum(map(int, cached))
            found.append(int(limit) - used)
    except OSError:  # another system, or no limits
        pass
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(found, default=half) / 1e9


def cells_at_once(
    cells: int, processes: int, cell_gb: float, accelerators: int | None, threads: int
) -> int:
    """How many of ``cells`` run at once under ``parallel=auto``.

    One a GPU where there are any. Else one a core: two side by side train 1.2 to 1.3 times as fast
    as one after the other, and what surrounds training uses one core anyway (docs/speed.md).

    Args:
        cells: there are.
        processes: of a cell.
        cell_gb: main memory that a process is expected to take.
        accelerators: the cells may use; None where they cannot be counted.
        threads: that each process takes at least.
    """
    if accelerators is None:
        return 1
    room = [usable_cores() // threads, int(free_gigabytes() / cell_gb)]
    room += [accelerators] if accelerators else []
    return max(1, min(cells, *(one // processes for one in room)))


def device_groups(
    devices: Sequence[int] | None, parallel: int, visible: Sequence[str] | None
) -> list[str]:
    """``CUDA_VISIBLE_DEVICES`` of each of the cells that run at once.

    At most ``parallel`` groups of equal size, separate from one another; empty: leave the variable
    alone. ``devices`` are positions in ``visible`` (names as in ``CUDA_VISIBLE_DEVICES``, None if
    unknown); None for all.

    Raises:
        LauncherError: if ``devices`` names one that is not visible, one twice, or none.
    """
    if devices is None:
        chosen = list(visible or ()) if parallel > 1 else []
    else:
        named = [str(k) for k in range(max([*devices, 0]) + 1)] if visible is None else visible
        if not devices or len({*devices} & {*range(len(named))}) < len(devices):
            raise LauncherError(
                f"hydra.launcher.devices={list(devices)} is empty, names an accelerator twice, or "
                f"one that is not among the {len(named)} visible ones.",
                "Count each accelerator once, from 0 among the visible ones; null takes all.",
            )
        chosen = [named[k] for k in devices]
    size = max(1, len(chosen) // parallel)
    groups = min(parallel, len(chosen))
    return [",".join(chosen[group * size : (group + 1) * size]) for group in range(groups)]


def visible_devices(environ: Mapping[str, str], device_folder: Path) -> list[str] | None:
    """Names for ``CUDA_VISIBLE_DEVICES`` of what CUDA would find, without starting it.

    ``CUDA_VISIBLE_DEVICES`` decides if set; else ``device_folder`` (``/dev``) holds one
    ``nvidia<n>`` per device. The numbers may have gaps in a container, where CUDA still counts from
    0. None if neither source says anything.
    """
    if "CUDA_VISIBLE_DEVICES" in environ:
        names = [name.strip() for name in environ["CUDA_VISIBLE_DEVICES"].split(",")]
        return [name for name in names if name not in ("", "-1")]
    count = sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in device_folder.iterdir())
    return [str(position) for position in range(count)] or None


def _accelerators(devices: Sequence[int] | None, visible: Sequence[str] | None) -> int | None:
    """How many of the ``visible`` accelerators the cells may use; None if that is not known."""
    known = visible if devices is None else devices
    if known is not None:
        return len(known)
    uncounted = sys.platform != "linux" or any(Path("/dev", name).exists() for name in _UNCOUNTED)
    return None if uncounted else 0
