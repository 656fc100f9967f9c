"""One batch of cells, from its plan to its summary and what the sweeper gets back."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from hydra.errors import HydraException
from omegaconf import DictConfig

from hydra_plugins.svp_process_launcher._cells import Cell, before, plan_cells
from hydra_plugins.svp_process_launcher._engines import ENGINES, job_script
from hydra_plugins.svp_process_launcher._machine import (
    LauncherError,
    accelerators_of,
    asked_threads,
    cells_at_once,
    device_groups,
    visible_devices,
)
from hydra_plugins.svp_process_launcher._processes import stop_signals
from hydra_plugins.svp_process_launcher._progress import Sweep

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def launch(
    config: DictConfig,
    ask: Callable[..., Any],
    job_overrides: Sequence[Sequence[str]],
    done_before: int,
    engine: str,
    *,
    dry_run: bool,
    **options: Any,
) -> list[JobReturn]:
    """See :meth:`.launcher.ProcessLauncher.launch`; ``options`` are those of the ``engine``."""
    for name in {"LOCAL_RANK", "RANK"} & os.environ.keys():  # every rank would run all cells
        raise LauncherError(
            f"This sweep was started inside a distributed job ({name}={os.environ[name]}).",
            "Start it as one process, without torchrun; each cell starts its own ranks "
            f"(trainer.devices). If {name} is a leftover, unset it.",
        )
    logs = Path(config.hydra.sweep.dir, "logs")
    cells = plan_cells(job_overrides, config.hydra.overrides.hydra, done_before, logs)
    first: list[Cell] = []
    if engine == "processes":
        shares, first = _shared_out(cells, partial(ask, "needs", cells), **options)
        options = {**shares, "stop_on_failure": options["stop_on_failure"]}
        if options["parallel"] == 1:
            for cell in cells:
                cell.log = None
    with stop_signals() as received:
        sweep = Sweep(cells, received, first)
        if dry_run:
            for cell in sweep.planned:
                print(f"# {cell.name}\n{shlex.join(cell.command)}")
            if engine == "slurm":
                print(job_script(cells, **options))
            ask("dry_run", cells, options.get("parallel", len(cells)))
            raise SystemExit(0)
        with sweep.live():
            ENGINES[engine](sweep, **options)
    failed = _summarise(cells)
    if received:
        raise SystemExit(128 + received[0])
    # Other sweepers judge failed cells themselves; this one would add a traceback.
    if failed and config.hydra.sweeper.get("_target_") == _BASIC_SWEEPER:
        raise SystemExit(1)
    return [_job_return(cell) for cell in cells]


def _shared_out(
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
        LauncherError: ``parallel`` is no number of cells.
    """
    visible = visible_devices(os.environ, Path("/dev"))
    found = SimpleNamespace(accelerated=True, processes=1, first={})
    first: list[Cell] = []
    if parallel == "auto":
        with suppress(HydraException):  # a cell has an impossible override, and will say so
            found = (len(cells) > 1 and needs()) or found
        accelerators = accelerators_of(devices, visible) if found.accelerated else 0
        parallel = 1
        if found.processes is not None:
            several = (len(cells), found.processes, cell_gb, accelerators)
            parallel = cells_at_once(*several, asked_threads())
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


def _summarise(cells: Sequence[Cell]) -> bool:
    """Print how many cells finished and which ones did not; whether there are any of these."""
    failed = [cell for cell in cells if cell.failure]
    broken = [cell for cell in failed if cell.started is not None]
    parts = [f"{len(cells) - len(failed)} finished"]
    parts += [f"{len(broken)} failed"] if broken else []
    parts += [f"{len(failed) - len(broken)} not started"] if len(broken) < len(failed) else []
    lines = [", ".join(parts) + (":" if broken else ".")]
    for cell in broken:
        lines.append(f"  {cell.name}: {cell.failure}" + (f" ({cell.log})" if cell.log else ""))
    print("\n".join(lines), file=sys.stderr if failed else sys.stdout, flush=True)
    return bool(failed)


def _job_return(cell: Cell) -> JobReturn:
    returned = JobReturn(
        overrides=cell.overrides,
        working_dir=os.getcwd(),
        task_name=JobRuntime.instance().get("name"),
        status=JobStatus.FAILED if cell.failure else JobStatus.COMPLETED,
    )
    error = LauncherError(f"{cell.name}: {cell.failure}.") if cell.failure else None
    returned.return_value = error or cell.objective
    return returned
