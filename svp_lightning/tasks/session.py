"""What a task gets besides its settings: artifacts, the run's folder, loggers, callbacks."""

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from svp_lightning.config import Config
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.tasks.wandb_mode import wandb_mode


@dataclass
class Session:
    """The surroundings of one run.

    Attributes:
        artifacts: stage outputs, shared with other runs.
        run_dir: the run's own folder.
        command: what was typed, for the record.
        build: builds the objects of a config group (``logger``, ``callbacks``).
    """

    artifacts: ArtifactCache
    run_dir: Path
    command: str
    build: Callable[[str], list[Any]]
    _loggers: list[Logger] | None = field(default=None, init=False)

    def loggers(self) -> list[Logger]:
        """The run's loggers beside metrics.csv; the same objects in every stage."""
        if self._loggers is None:
            os.environ["WANDB_MODE"] = wandb_mode()
            self._loggers = self.build("logger")
        return self._loggers

    def callbacks(self) -> list[Callback]:
        """Fresh callbacks of the ``callbacks`` group, for one trainer."""
        return self.build("callbacks")

    def close(self) -> None:
        """End the loggers' runs, so that a next job in this process starts its own."""
        for logger in self._loggers or []:
            finish = getattr(getattr(logger, "experiment", None), "finish", None)
            if callable(finish):
                finish()
        self._loggers = None


def open_session(
    config: Config, run_dir: Path, command: str, build: Callable[[str], list[Any]]
) -> Session:
    """A session that announces its stages on the main process's terminal."""
    quieten_libraries()
    artifacts = ArtifactCache(config.paths.artifacts, announce=say)
    return Session(artifacts, run_dir, command, build)


def say(line: str) -> None:
    """Print a line on the main process only, at once."""
    if is_main_process():
        print(line, flush=True)


def quieten_libraries() -> None:
    """Keep the terminal for what the user needs; each silence has its reason."""
    # Devices and tips on every trainer; the tasks say in one line what runs where.
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
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
