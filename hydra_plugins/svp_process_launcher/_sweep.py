"""One batch of cells, from its plan to its summary and what the sweeper gets back."""

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from omegaconf import DictConfig

from hydra_plugins.svp_process_launcher._cells import Cell, LauncherError, plan_cells, shared_out
from hydra_plugins.svp_process_launcher._engines import ENGINES, job_script
from hydra_plugins.svp_process_launcher._processes import stop_signals
from hydra_plugins.svp_process_launcher._progress import Sweep
from svp_lightning.runtime.distributed import srun_tasks

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


@contextmanager
def memory_of(engine: str) -> Iterator[None]:
    """What this process and the cells on this machine read is shared; other engines see to it."""
    if engine != "processes":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="sweep_") as folder:
        os.environ["SVP_SWEEP_MEMORY"] = folder
        try:
            yield
        finally:
            os.environ.pop("SVP_SWEEP_MEMORY", None)


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
    if (tasks := srun_tasks()) > 1:
        raise LauncherError(
            f"This sweep was started by srun as {tasks} tasks, and each would run all cells.",
            "Start it as one process, without srun; hydra/launcher=slurm submits each cell as a "
            "job with its own ranks.",
        )
    logs = Path(config.hydra.sweep.dir, "logs")
    cells = plan_cells(job_overrides, config.hydra.overrides.hydra, done_before, logs)
    first: list[Cell] = []
    if engine == "processes":
        shares, first = shared_out(cells, partial(ask, "needs", cells), **options)
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
            ask("dry_run", cells, options.get("parallel", len(cells)), bool(first))
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
