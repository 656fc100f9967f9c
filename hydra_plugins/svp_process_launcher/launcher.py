"""Hydra launchers that run every cell of a sweep as a process tree of its own.

Hydra's own launchers run the cells of a multirun inside one process. Lightning's ``ddp``
starts its other ranks by calling the same command line again, so rank 1 would run the whole
sweep a second time. Here each cell is the sweep's program started again in RUN mode:
``python -m svp_lightning seed=1 classifier=resnet18 hydra.mode=RUN``, on this machine
(``hydra/launcher=process``), as a SLURM job (``slurm``) or as a Ray task (``ray``). Any number of
devices per cell is right, loggers cannot merge runs, and one failed cell does not stop the others.
POSIX only (process groups). ``conf/hydra/launcher/`` has the settings.

What a cell gets in its environment:

- ``SVP_SWEEP_CELL``: its number, as ``"2/12"``.
- ``SVP_CELL_RESULT``: a file to which the cell's rank 0 may write ``{"objective": 0.93}``. A
  sweeper that searches (Optuna) gets this number as the cell's return value.
- ``SVP_SWEEP_MEMORY``: a folder that the sweep and the cells of a batch share, removed at the end.
  That of SLURM jobs and Ray tasks is beside the logs; it stays where jobs run on without the sweep.
- ``CUDA_VISIBLE_DEVICES``, ``OMP_NUM_THREADS``: its share of the machine where several cells
  run at once (``process``). An ``OMP_NUM_THREADS`` set by the caller is kept.

What the program is asked, where its module has such a function of ``[(name, config), …]``: its
``needs`` of the machine (``svp_lightning/preflight.py``) for ``parallel=auto``, and ``dry_run``.

A cell that is finished already sees its results and exits. Its folder is its own choice, so
``hydra.sweep.dir`` only holds ``logs/`` and Hydra's ``multirun.yaml``.

Exit status of the sweep: 0, or 1 where a cell failed, or 128 + the signal that stopped it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


class ProcessLauncher(Launcher):
    """Runs the cells on this machine; takes the settings of ``hydra.launcher``."""

    engine = "processes"

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.config: Any = None
        self.context: Any = None
        self.program: Any = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep the sweep's config; the task function runs in the cells, not here.

        Raises:
            LauncherError: the sweep's folder, in which Hydra writes next, cannot be written.
        """
        # Hydra imports every plugin module at start-up unless its name begins with "_".
        from hydra_plugins.svp_process_launcher._cells import LauncherError

        folder = Path(config.hydra.sweep.dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise LauncherError(
                f"{folder} cannot be written ({error.strerror}).",
                "Check the folder and its permissions, shorten study=…, or set paths.outputs.",
            ) from error
        self.config, self.context = config, hydra_context
        self.program = sys.modules[task_function.__module__]

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run one batch of cells, given by their overrides, and wait for them.

        Returns:
            Per cell, its status and, if it wrote one, its objective as the return value.

        Raises:
            LauncherError: for impossible settings, or inside a distributed job.
            SystemExit: after a dry run (0), a signal, or failures nobody else would report (1).
        """
        from hydra_plugins.svp_process_launcher import _sweep

        with _sweep.memory_of(self.engine):
            return _sweep.launch(
                self.config, self._ask, job_overrides, initial_job_idx, self.engine, **self.options
            )

    def _ask(self, question: str, cells: Sequence[Any], *more: Any) -> Any:
        """Hand name and composed config of each cell to a function of the program, if it has it."""
        if not hasattr(self.program, question):
            return None
        compose = self.context.config_loader.load_sweep_config
        named = [(cell.name, compose(self.config, cell.overrides)) for cell in cells]
        return getattr(self.program, question)(named, *more)


class SlurmLauncher(ProcessLauncher):
    """Submits the cells as an array of SLURM jobs, through submitit."""

    engine = "slurm"


class RayLauncher(ProcessLauncher):
    """Runs the cells as tasks of a Ray cluster."""

    engine = "ray"
