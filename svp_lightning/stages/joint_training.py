"""Several processes train as one: what would keep them from it is refused, or ends all of them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ParallelStrategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from svp_lightning.errors import DistributedError
from svp_lightning.runtime.distributed import launched_tasks
from svp_lightning.runtime.terminal import LAUNCHER_LOG


def require_together(trainer: pl.Trainer) -> None:
    """Refuse processes that would not train together, before any work.

    Raises:
        DistributedError: each task would train alone, or the weights would stay in processes that
            have ended.
        ValueError: Lightning's, of an allocation with another layout.
    """
    tasks, size = launched_tasks(), trainer.world_size
    if tasks not in (None, size):
        raise DistributedError(
            f"srun or torchrun started {tasks} task{'s'[: tasks != 1]} where the trainer "
            f"expects {size}; they would not train together.",
            "Start it by srun with trainer=slurm (--ntasks-per-node: one for each GPU), by "
            "torchrun with trainer=ddp, or as one task.",
        )
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise DistributedError(
            "With this trainer.strategy (in a notebook: with several devices) other processes "
            "train, and nothing comes back from them.",
            "Set trainer.strategy=ddp and start a script; in a notebook set trainer.devices=1.",
        )
    if isinstance(trainer.strategy, ParallelStrategy):
        cluster = trainer.strategy.cluster_environment
        assert cluster is not None
        cluster.validate_settings(trainer.num_devices, trainer.num_nodes)


def require_divisible(name: str, batch_size: int, world_size: int, parts: int) -> None:
    """Refuse a global batch that cannot be shared equally, before any process starts.

    Raises:
        DistributedError: naming the setting.
    """
    if batch_size % (world_size * parts):
        of_each = f" of {parts} parts each (trainer.accumulate)" if parts > 1 else ""
        raise DistributedError(
            f"{name}={batch_size} is the batch of all processes together and cannot be divided "
            f"by {world_size} processes{of_each}.",
            f"Choose a multiple of {world_size * parts}.",
        )


@contextmanager
def together(trainer: pl.Trainer) -> Iterator[None]:
    """End with one message where another process of the trainer ends.

    Where this one hangs in waiting for it, Lightning kills all, and the launcher's log says why.

    Raises:
        DistributedError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if trainer.world_size == 1 or not lost:
            raise
        LAUNCHER_LOG.setLevel(logging.WARNING)  # it would say the same again
        raise DistributedError(
            "Another process has ended, so this one stops.",
            "Read the message of that process; without one it was killed, as happens when memory "
            "runs out. The same command resumes.",
        ) from error
