"""The Hydra launcher ``process``: every cell of a sweep is a process tree of its own.

Hydra's own launchers run the cells of a multirun inside one process. Lightning's ``ddp``
starts its other ranks by calling the same command line again, so rank 1 would run the whole
sweep a second time. Here each cell is the sweep's program started again in RUN mode:
``python -m svp_lightning seed=1 classifier=resnet18 hydra.mode=RUN``. Any number of devices per
cell is right, loggers cannot merge runs, and one failed cell does not stop the others. POSIX only
(process groups).

What a cell gets in its environment:

- ``SVP_SWEEP_CELL``: its number, as ``"2/12"``.
- ``SVP_CELL_RESULT``: a file to which the cell's rank 0 may write ``{"objective": 0.93}``. A
  sweeper that searches (Optuna) gets this number as the cell's return value.
- ``SVP_SWEEP_MEMORY``: a folder that all cells of a batch share, removed at its end.
- ``CUDA_VISIBLE_DEVICES``, ``OMP_NUM_THREADS``: its share of the machine where several cells
  run at once. An ``OMP_NUM_THREADS`` set by the caller is kept.

A cell that is finished already sees its results and exits. Its folder is its own choice, so
``hydra.sweep.dir`` only holds ``logs/`` and Hydra's ``multirun.yaml``.

Exit status of the sweep: 0, or 1 where a cell failed, or 128 + the signal that stopped it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


@dataclass
class ProcessLauncherConf:
    """``hydra.launcher`` as it is composed for ``hydra/launcher: process``.

    Attributes:
        parallel: cells that run at once. One: the cell has the terminal. More: each has a log.
        devices: accelerators to share out, counted among those ``CUDA_VISIBLE_DEVICES`` leaves
            visible; the running cells get equal, separate groups of them (or take turns where
            there are fewer devices than cells). ``None``: all visible ones; the variable is left
            alone when ``parallel`` is 1.
        dry_run: print the cells' commands and run nothing. If the program's module has a function
            ``dry_run``, it gets the name and composed config of each cell, and ``parallel``.
        stop_on_failure: start no further cell once one has failed.
    """

    _target_: str = "hydra_plugins.svp_process_launcher.launcher.ProcessLauncher"
    parallel: int = 1
    devices: list[int] | None = None
    dry_run: bool = False
    stop_on_failure: bool = False


ConfigStore.instance().store(
    group="hydra/launcher", name="process", node=ProcessLauncherConf, provider="svp_lightning"
)


class ProcessLauncher(Launcher):
    """Runs each cell of a sweep as a new process; takes the fields of its configuration."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.config: Any = None
        self.context: Any = None
        self.program: Any = None

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep the sweep's config; the task function runs in the cells, not here."""
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
        # Hydra imports every plugin module at start-up unless its name begins with "_".
        from hydra_plugins.svp_process_launcher import _sweep

        return _sweep.launch(
            self.config, self._foresee, job_overrides, initial_job_idx, **self.options
        )

    def _foresee(self, cells: Sequence[tuple[str, list[str]]], parallel: int) -> None:
        if hasattr(self.program, "dry_run"):
            compose = self.context.config_loader.load_sweep_config
            self.program.dry_run([(n, compose(self.config, line)) for n, line in cells], parallel)
