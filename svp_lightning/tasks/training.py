"""What the two trainings share: the trainer, resuming, and saying how long it will take."""

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger
from torch import Tensor

from svp_lightning.config import Config
from svp_lightning.errors import SettingsError
from svp_lightning.tasks.session import Session, say

LONG_SECONDS = 15 * 60
PROBE_IMAGES = 8


def build_trainer(
    config: Config,
    session: Session,
    folder: Path,
    max_steps: int = -1,
    callbacks: Sequence[Callback] = (),
    **arguments: Any,
) -> pl.Trainer:
    """A trainer on the devices asked for, writing ``metrics.csv`` below ``folder``.

    Raises:
        SettingsError: Lightning refuses a trainer setting (a device that is not there, say).
    """
    settings = config.trainer
    extra = dict(settings.model_extra or {}) | arguments
    every = [*session.callbacks(), *callbacks]
    extra.setdefault("enable_progress_bar", any(isinstance(c, ProgressBar) for c in every))
    try:
        return pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision=settings.precision or _precision(settings.accelerator),  # type: ignore[arg-type]
            max_steps=max_steps,
            callbacks=every,
            logger=[_csv_logger(folder), *session.loggers()],
            default_root_dir=folder,
            use_distributed_sampler=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **extra,
        )
    except (pl.utilities.exceptions.MisconfigurationException, TypeError, ValueError) as error:
        raise SettingsError(
            f"The trainer settings cannot be used: {error}", "Choose another trainer=… or device."
        ) from error


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to go on from: the newest complete one, SLURM's requeue file included."""
    found = [*folder.glob("last*.ckpt"), *folder.glob("hpc_ckpt_*.ckpt")]
    return max(found, key=lambda file: file.stat().st_mtime, default=None)


def announce(
    trainer: pl.Trainer, module: pl.LightningModule, batch: dict[str, Tensor], images: int
) -> None:
    """Say on which device training runs and how long it will take, before it starts.

    The time of a few images is measured on a copy of the module and scaled up.

    Args:
        trainer: the trainer that will train.
        module: what it will train.
        batch: a small batch of the contract (``image`` float (n, 1, H, W), ``label`` (n,)).
        images: training images of the whole budget, over all processes.
    """
    device = trainer.strategy.root_device
    probe = copy.deepcopy(module).to(device)
    batch = {name: value.to(device) for name, value in batch.items()}
    with trainer.precision_plugin.forward_context():
        for _ in range(2):  # the first call pays for set-up
            start = time.perf_counter()
            probe.training_loss(batch).backward()  # type: ignore[operator]
            if device.type == "cuda":
                torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - start) / len(batch["label"]) * images / trainer.world_size
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()
    processes = f" × {trainer.world_size} processes" if trainer.world_size > 1 else ""
    say(f"  {images:,} training images on {name}{processes}: about {duration(seconds)}")
    if seconds > LONG_SECONDS:
        say("  That is long. scale=demo takes minutes on a CPU, scale=tiny seconds.")


def duration(seconds: float) -> str:
    """``"40 s"``, ``"12 min"``, ``"3.5 h"``, ``"2.1 days"``."""
    for limit, unit, divisor in ((100, "s", 1), (100 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            value = seconds / divisor
            return f"{value:.1f} {unit}" if unit == "h" else f"{max(1, round(value))} {unit}"
    return f"{seconds / 86400:.1f} days"


def _cpu() -> str:
    return f"the CPU ({torch.get_num_threads()} threads)"


def _precision(accelerator: str) -> str:
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"


def _csv_logger(folder: Path) -> Logger:
    # CSVLogger deletes what an earlier attempt wrote, so each attempt has a folder of its own.
    attempts = len(list(folder.glob("logs/attempt_*")))
    return CSVLogger(save_dir=folder, name="logs", version=f"attempt_{attempts}")
