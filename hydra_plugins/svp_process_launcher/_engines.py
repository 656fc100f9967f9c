"""Where the cells of a batch run: processes of this machine, SLURM jobs, or Ray tasks.

The same command runs everywhere, in the same folder and with the same log, so a sweep can be
resumed on another of them. submitit and Ray only carry the command to a machine that is free.
"""

import importlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from hydra_plugins.svp_process_launcher._cells import Cell, LauncherError, cell_environment
from hydra_plugins.svp_process_launcher._processes import POLL_SECONDS, adopt_orphans, run_cell
from hydra_plugins.svp_process_launcher._progress import Sweep, say

_REMOTE_POLL_SECONDS = 0.5


def processes(
    sweep: Sweep,
    *,
    parallel: int,
    processes_of_a_cell: int,
    groups: Sequence[str],
    stop_on_failure: bool,
) -> None:
    """Run the cells here, ``parallel`` at a time, each with its share of cores and accelerators.

    What is to be made before them has the whole machine. ``groups`` of accelerators are as
    :func:`device_groups` makes them.
    """
    shares: SimpleQueue[dict[str, str]] = SimpleQueue()
    for slot in range(parallel):
        shares.put({"CUDA_VISIBLE_DEVICES": groups[slot % len(groups)]} if groups else {})
    adopt_orphans()

    def run(cell: Cell, cells_and_processes: int) -> None:
        if sweep.received or (stop_on_failure and sweep.has_failed()):
            return
        share = shares.get()
        environment = cell_environment(cell, cells_and_processes) | share
        sweep.begin(cell, "started")
        sweep.settle(cell, partial(run_cell, cell.command, environment, cell.log, sweep.received))
        shares.put(share)

    for cell in sweep.first:
        run(cell, 1)
    with ThreadPoolExecutor(parallel) as pool:
        shared = parallel * processes_of_a_cell
        ends = [pool.submit(run, cell, shared) for cell in sweep.cells]
        while not all(end.done() for end in ends):  # signals arrive in this thread
            time.sleep(POLL_SECONDS)
    for end in ends:
        end.result()  # a mistake of the launcher's own is not lost


@dataclass(frozen=True)
class Job:
    """A cell on another machine of the cluster, which shares this one's folders.

    ``is_task``: SLURM has started it, once for each rank.
    """

    cell: Cell
    folder: str
    memory: str
    is_task: bool

    def __call__(self) -> float | None:
        """Run the cell, or one rank of it; the log is that of rank 0."""
        os.chdir(self.folder)
        first = not self.is_task or os.environ.get("SLURM_PROCID", "0") == "0"
        # SLURM's warning reaches all processes; it is for submitit, which ends the cell.
        command = ["sh", "-c", 'trap "" USR2; exec "$@"', "sh", *self.cell.command]
        environment = cell_environment(self.cell, 1, self.is_task)
        environment["SVP_SWEEP_MEMORY"] = self.memory
        return run_cell(command, environment, self.cell.log if first else None)

    def checkpoint(self) -> Any:
        """What submitit queues again after preemption: the cell resumes from its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def slurm(sweep: Sweep, *, cluster: str, requeues: int, **settings: Any) -> None:
    """Submit the cells as an array of jobs; a signal ends the waiting, not SLURM's jobs."""
    if cluster == "local" and (settings["tasks_per_node"] or 1) > 1:
        raise LauncherError(
            "hydra.launcher.cluster=local gives its tasks no ranks, so each would run the whole "
            f"cell (hydra.launcher.tasks_per_node={settings['tasks_per_node']}).",
            "Set hydra.launcher.tasks_per_node=1 there, with trainer=ddp for several processes.",
        )
    executor = _executor(sweep.cells, cluster, requeues, settings)
    memory = _shared_memory(sweep)
    jobs = executor.submit_array(_submitted(sweep, memory, is_task=cluster == "slurm"))
    array = jobs[0].job_id.partition("_")[0]
    say(f"Submitted as job {array}.")
    results = [lambda job=job: job.results()[0] for job in jobs]  # of rank 0
    _watch(sweep, [job.done for job in jobs], results)
    if sweep.received and cluster == "slurm":  # with their memory, a few small files
        say(f"The jobs run on without this process. To end them: scancel {array}")
        return
    if sweep.received:
        for job in jobs:
            job.cancel()
    shutil.rmtree(memory, ignore_errors=True)


def job_script(cells: Sequence[Cell], *, cluster: str, requeues: int, **settings: Any) -> str:
    """What ``sbatch`` gets for the whole batch; for ``cluster=local`` too."""
    executor = _executor(cells, "script", requeues, settings)
    if len(cells) > 1:
        executor.parameters["map_count"] = len(cells)
    text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
    return text


def _executor(
    cells: Sequence[Cell], cluster: str, requeues: int, settings: Mapping[str, Any]
) -> Any:
    submitit: Any = _library("slurm", "submitit")

    class Script(submitit.SlurmExecutor):  # type: ignore[misc]  # can be read where there is no SLURM
        affinity = classmethod(lambda _: 1)

    kinds: dict[str, Any] = {"slurm": submitit.SlurmExecutor, "local": submitit.LocalExecutor}
    assert cells[0].log is not None
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        kind = Script if cluster == "script" else kinds[cluster]
        executor = kind(cells[0].log.absolute().parent / "jobs" / "%j", requeues)
        executor.update_parameters(**executor._convert_parameters(given))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise LauncherError(
            f"No job can be submitted with these settings of hydra.launcher ({error}).",
            "Start the sweep on a login node; hydra.launcher.cluster=local tries it here.",
        ) from error
    return executor


def ray(
    sweep: Sweep, *, address: str | None, num_cpus: float, num_gpus: float, retries: int
) -> None:
    """Run the cells as tasks of the Ray cluster at ``address``; a signal ends them."""
    ray: Any = _library("ray", "ray")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False)
    except ConnectionError as error:
        raise LauncherError(
            f"No Ray cluster answers at hydra.launcher.address={address}.",
            "Start one (ray start --head), or give null to use this machine alone.",
        ) from error
    signal.signal(signal.SIGTERM, handler)  # Ray has set its own
    task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=retries)(Job.__call__)
    memory = _shared_memory(sweep)
    tasks = [task.remote(job) for job in _submitted(sweep, memory, is_task=False)]
    futures = [one.future() for one in tasks]
    _watch(sweep, [future.done for future in futures], [future.result for future in futures])
    if sweep.received:
        for one in tasks:
            ray.cancel(one)
        ray.wait(tasks, num_returns=len(tasks), timeout=10)
    ray.shutdown()
    shutil.rmtree(memory, ignore_errors=True)


def _shared_memory(sweep: Sweep) -> str:
    """A new folder beside the logs, where all machines see it: what one cell has read, all know."""
    assert sweep.cells[0].log is not None
    logs = sweep.cells[0].log.absolute().parent
    logs.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix="memory_", dir=logs)


def _submitted(sweep: Sweep, memory: str, is_task: bool) -> list[Job]:
    """The jobs of the cells, which count as begun."""
    for cell in sweep.cells:
        sweep.begin(cell, "submitted")
    return [Job(cell, os.getcwd(), memory, is_task) for cell in sweep.cells]


def _watch(
    sweep: Sweep, ended: Sequence[Callable[[], bool]], results: Sequence[Callable[[], float | None]]
) -> None:
    """Report the cells as they end, until all have or a signal comes."""
    running = list(zip(sweep.cells, ended, results, strict=True))
    while running and not sweep.received:
        for cell, _, result in (done := [one for one in running if one[1]()]):
            sweep.settle(cell, result)
        running = [one for one in running if one not in done]
        time.sleep(_REMOTE_POLL_SECONDS)


def _library(extra: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise LauncherError(
            f"hydra/launcher={extra} needs {name}, which is not installed.",
            f"Install the extra: pip install 'svp-lightning[{extra}]'.",
        ) from error


ENGINES: dict[str, Callable[..., None]] = {"processes": processes, "slurm": slurm, "ray": ray}
