"""What the two trainings share: the trainer, resuming, and saying how long it will take."""

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger
from torch import Tensor, nn

from svp_lightning.config import Config
from svp_lightning.data.loading import ParticleDataset
from svp_lightning.data.mix import Mixture
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import DistributedError, SettingsError, TrainingError
from svp_lightning.generator.precision import multiplies_bfloat16
from svp_lightning.stages.settings import TrainerSettings
from svp_lightning.tasks.devices import choose_device
from svp_lightning.tasks.progress import StepsProgress
from svp_lightning.tasks.session import Session, say

LONG_SECONDS = 15 * 60
PROBE_IMAGES = 8
LOG_EVERY = 10
"""Optimiser steps between logged values."""

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def build_trainer(
    config: Config,
    session: Session,
    folder: Path | None,
    stage: str,
    callbacks: Sequence[Callback] = (),
    **arguments: Any,
) -> pl.Trainer:
    """A trainer on the devices asked for.

    Args:
        config: its ``trainer`` part is used.
        session: loggers and callbacks.
        folder: ``metrics.csv`` is written below it; None: nothing is written.
        stage: what the progress bar says.
        callbacks: beside those of the session.
        arguments: further arguments of :class:`pytorch_lightning.Trainer`.

    Raises:
        SettingsError: Lightning refuses a trainer setting (a device that is not there, say).
    """
    settings = config.trainer
    extra = dict(settings.model_extra or {}) | arguments
    every = [*session.callbacks(), *callbacks]
    extra.setdefault("log_every_n_steps", LOG_EVERY)
    bars = [c for c in every if isinstance(c, ProgressBar)]
    extra.setdefault("enable_progress_bar", bool(bars))
    for shown in bars:
        if isinstance(shown, StepsProgress):
            shown.description = stage
    precision: Any = precision_of(settings, training=folder is not None)
    try:
        return pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision=precision,
            callbacks=every,
            logger=[*([] if folder is None else [_csv_logger(folder)]), *session.loggers()],
            default_root_dir=folder,
            enable_checkpointing=folder is not None,
            use_distributed_sampler=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **extra,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise SettingsError(
            f"The trainer settings cannot be used: {error}", "Choose another trainer=… or device."
        ) from error


def require_finished(name: str, done: int, steps: int) -> None:
    """Refuse to take a training that something has stopped early for the whole one.

    Args:
        name: of the network, as in the settings.
        done: optimiser steps taken.
        steps: optimiser steps asked for.

    Raises:
        TrainingError: fewer were taken.
    """
    if done < steps:
        raise TrainingError(
            f"The training of the {name} was stopped after {done:,} of {steps:,} steps "
            f"({name}.steps), so it is not finished.",
            "Leave out what stops it (a callback, say); the same command then goes on.",
        )


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to go on from: the newest complete one, SLURM's requeue file included."""
    found = [*folder.glob("last*.ckpt"), *folder.glob("hpc_ckpt_*.ckpt")]
    return max(found, key=lambda file: file.stat().st_mtime, default=None)


def newest_metrics(folder: Path) -> Path:
    """``metrics.csv`` of the last attempt at the training in ``folder``."""
    return max(folder.glob("logs/attempt_*/metrics.csv"), key=lambda file: file.stat().st_mtime)


def announce(
    trainer: pl.Trainer,
    network: NetworkT,
    loss: Callable[[NetworkT, Tensor, Tensor], Tensor],
    rows: Mixture,
    images: int,
) -> None:
    """Say on which device training runs and how long it will take, before it starts.

    The time of a few images is measured on a copy of the network and scaled up.

    Args:
        trainer: the trainer that will train.
        network: what it will train.
        loss: of the network on images (n, 1, H, W) in [-1, 1] and labels (n,).
        rows: the training rows, of which a few are tried.
        images: training images of the whole budget, over all processes.
    """
    device = trainer.strategy.root_device
    probe = copy.deepcopy(network).to(device)
    positions = np.linspace(0, len(rows) - 1, PROBE_IMAGES).round().astype(np.int64)
    batch = ParticleDataset.of_mixture(rows)[positions]
    inputs, labels = to_model_range(batch["image"]).to(device), batch["label"].to(device)
    with trainer.precision_plugin.forward_context():
        for _ in range(2):  # the first call pays for set-up
            start = time.perf_counter()
            loss(probe, inputs, labels).backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - start) / PROBE_IMAGES * images / trainer.world_size
    say(f"  {images:,} training images on {device_name(trainer)}: about {duration(seconds)}")
    if seconds > LONG_SECONDS:
        say("  That is long. scale=demo takes minutes on a CPU, scale=tiny seconds.")


def device_name(trainer: pl.Trainer) -> str:
    """``"NVIDIA H100"``, ``"CPU, 2 threads"``, with the number of processes if above one."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{device.type.upper()}, {torch.get_num_threads()} threads"
    return name if trainer.world_size == 1 else f"{trainer.world_size} × {name}"


def require_divisible(name: str, batch_size: int, world_size: int) -> None:
    """Refuse a global batch that the processes cannot share equally, before any starts.

    Raises:
        DistributedError: naming the setting.
    """
    if batch_size % world_size:
        raise DistributedError(
            f"{name}={batch_size} is the batch of all processes together and cannot be divided "
            f"by {world_size} processes.",
            f"Choose a multiple of {world_size}.",
        )


def duration(seconds: float) -> str:
    """``"40 s"``, ``"12 min"``, ``"3.5 h"``, ``"2.1 days"``."""
    for limit, unit, divisor in ((100, "s", 1), (100 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            value = seconds / divisor
            return f"{value:.1f} {unit}" if unit == "h" else f"{max(1, round(value))} {unit}"
    return f"{seconds / 86400:.1f} days"


def precision_of(settings: TrainerSettings, training: bool) -> str:
    """What ``trainer.precision`` stands for: where null, bf16 if the device multiplies it.

    Tests on a CPU stay in float32: how images are batched must not show in a metric. On a GPU they
    take bf16 too: its float32 convolutions round to ten bits themselves, and 500,000 test images
    are the longest part of many a cell.

    Raises:
        SettingsError: a GPU is asked for that is not there.
    """
    if settings.precision is not None:
        return settings.precision
    device = choose_device(settings)
    fast = multiplies_bfloat16(device) and (training or device.type == "cuda")
    return "bf16-mixed" if fast else "32-true"


def _csv_logger(folder: Path) -> Logger:
    # CSVLogger deletes what an earlier attempt wrote, so each attempt has a folder of its own.
    attempts = len(list(folder.glob("logs/attempt_*")))
    return CSVLogger(save_dir=folder, name="logs", version=f"attempt_{attempts}")
