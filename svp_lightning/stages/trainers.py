"""What the trainings share: trainers on the run's devices, resuming, saying how long it takes."""

import copy
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import callbacks as known
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from tqdm import tqdm

from svp_lightning.data.dataset import ParticleDataset
from svp_lightning.data.mix import Mixture
from svp_lightning.data.transforms import to_model_range
from svp_lightning.errors import SettingsError
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.terminal import bar, duration, quieten_libraries, say
from svp_lightning.stages.environment import (
    choose_device,
    device_name,
    gain_of_one_thread,
    precision_of,
    timed,
    wandb_mode,
)
from svp_lightning.stages.joint_training import require_together, together
from svp_lightning.stages.resuming import KeepCost, WholeCheckpoints, newest_checkpoint
from svp_lightning.stages.settings import TrainerSettings

LONG_SECONDS, NOTICED_SECONDS = 15 * 60, 60
PROBE_IMAGES = 8
LOG_EVERY = 10
"""Optimiser steps between logged values."""

CHANGING = (
    *(known.Checkpoint, known.GradientAccumulationScheduler, known.BatchSizeFinder),
    *(known.WeightAveraging, known.StochasticWeightAveraging, known.LearningRateFinder),
    *(known.BaseFinetuning, known.ModelPruning),
)
"""Callbacks that would change what a stage makes, as arguments in :data:`~.settings.INSTEAD` do."""

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass
class Trainers:
    """Makes the trainers of a run: on its devices, with its loggers and callbacks.

    ``build`` makes the objects of a config group (``logger``, ``callbacks``).
    """

    settings: TrainerSettings
    build: Callable[[str], list[Any]]

    def __post_init__(self) -> None:
        quieten_libraries()  # here, because importing Lightning sets the level of its log

    @cached_property
    def loggers(self) -> list[Logger]:
        """The run's loggers in addition to metrics.csv; the same objects in every stage."""
        os.environ["WANDB_MODE"] = wandb_mode()
        return self.build("logger")

    @property
    def device(self) -> torch.device:
        """Where a stage without a trainer computes."""
        return choose_device(self.settings)

    def make(
        self,
        description: str,
        folder: Path | None = None,
        callbacks: Sequence[Callback] = (),
        **arguments: Any,
    ) -> pl.Trainer:
        """A trainer on the devices asked for.

        Args:
            description: what the progress bar says.
            folder: of an artifact in training; ``metrics.csv`` is written below it. None: nothing
                is trained and nothing written.
            callbacks: in addition to those of the run.
            arguments: further arguments of :class:`pytorch_lightning.Trainer`.

        Raises:
            DistributedError: the processes would not train together.
            SettingsError: Lightning refuses a trainer setting (a device that is not there, say), or
                a callback of the run would change what is made.
        """
        settings = self.settings
        for own in (given := self.build("callbacks")):
            if isinstance(own, CHANGING):
                raise SettingsError(
                    f"The callback {type(own).__name__} is not supported: it would change what is "
                    "made, or what is kept of it, without being part of its identity.",
                    "Leave it out; to resume and to keep weights is the program's own business.",
                )
            if isinstance(own, StepsProgress):
                own.description = description
        every = [*given, *callbacks]
        extra: dict[str, Any] = {
            "log_every_n_steps": LOG_EVERY,
            "enable_progress_bar": any(isinstance(c, ProgressBar) for c in every),
            **(settings.model_extra or {}),
            **arguments,
        }
        precision: Any = precision_of(settings, training=folder is not None)
        loggers = [*self.loggers]
        if folder is not None:
            # CSVLogger deletes what an earlier attempt wrote, so each has a folder of its own.
            attempt = f"attempt_{len(list(folder.glob('logs/attempt_*')))}"
            loggers.insert(0, CSVLogger(save_dir=folder, name="logs", version=attempt))
        try:
            trainer = pl.Trainer(
                accelerator=settings.accelerator,
                devices=settings.devices,
                num_nodes=settings.num_nodes,
                strategy=settings.strategy,
                precision=precision,
                plugins=[WholeCheckpoints()],
                callbacks=every if folder is None else [*every, KeepCost(folder)],
                logger=loggers,
                default_root_dir=folder,
                enable_checkpointing=folder is not None,
                use_distributed_sampler=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                **extra,
            )
            require_together(trainer)
        except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            raise SettingsError(
                f"The trainer settings cannot be used: {error}",
                "Choose another trainer=… or device.",
            ) from error
        return trainer

    def close(self, failed: bool) -> None:
        """End the loggers' runs, so that a next job in this process starts its own."""
        for logger in self.__dict__.pop("loggers", []):
            if getattr(logger, "_experiment", logger) is None:
                continue  # to ask it for its run would begin one
            finish = getattr(getattr(logger, "experiment", None), "finish", None)
            status = {"exit_code": 1} if failed and isinstance(logger, WandbLogger) else {}
            if callable(finish):
                finish(**status)


def fit(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    datamodule: pl.LightningDataModule,
    folder: Path,
    announce: Callable[[], None],
) -> None:
    """Train from the newest complete checkpoint in ``folder``; ``announce`` a first attempt.

    Raises:
        SystemExit: SIGTERM came; status 143, where Lightning's own would be 0, as of a success.
        DistributedError: another process has ended.
    """
    newest = newest_checkpoint(folder)
    if is_main_process() and newest is None:
        announce()
    path = None if newest is None else str(newest)
    try:
        with together(trainer):
            trainer.fit(module, datamodule=datamodule, ckpt_path=path, weights_only=True)
    except SIGTERMException as error:
        raise SystemExit(128 + signal.SIGTERM) from error


def announce_training(
    trainer: pl.Trainer,
    network: NetworkT,
    loss: Callable[[NetworkT, Tensor, Tensor], Tensor],
    rows: Mixture,
    images: int,
) -> None:
    """Say on which device training runs and how long it will take, before it starts.

    The time of a few images is measured on a copy of the network and scaled up to ``images``, the
    whole budget over all processes. ``loss`` takes images (n, 1, H, W) in [-1, 1] and labels (n,).
    """
    device = trainer.strategy.root_device
    probe = copy.deepcopy(network).to(device)
    positions = np.linspace(0, len(rows) - 1, PROBE_IMAGES).round().astype(np.int64)
    batch = ParticleDataset.of_mixture(rows)[positions]
    inputs, labels = to_model_range(batch["image"]).to(device), batch["label"].to(device)
    with trainer.precision_plugin.forward_context():
        took = timed(step := lambda: loss(probe, inputs, labels).backward(), device)
        seconds = took / PROBE_IMAGES * images / trainer.world_size
        noticed = seconds > NOTICED_SECONDS and trainer.world_size == 1
        faster = gain_of_one_thread(step, device, took) if noticed else 1.0
    where = device_name(device, trainer.world_size)
    say(f"  {images:,} training images on {where}: about {duration(seconds)}")
    if seconds > LONG_SECONDS:
        say("  That is long. scale=demo takes minutes on a CPU, scale=tiny seconds.")
    if faster > 1:
        say(f"  One thread is {faster:.1f} times as fast as all just now, as next to other work.")
        say("  To use one, stop this and begin the command with OMP_NUM_THREADS=1.")


class StepsProgress(ProgressBar):
    """Training steps of the whole budget, with the loss and the validation score."""

    SHOWN: ClassVar = {
        "generator/loss": "loss",
        "train/loss": "loss",
        "val/macro_auprc": "val AUPRC",
    }
    """Logged names (documented in the two modules) and what the bar calls them."""

    def __init__(self, description: str = "Training") -> None:
        super().__init__()
        self.description = description
        self._enabled = True
        self._bar: tqdm[Any] | None = None

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if self._enabled:
            self._bar = bar(
                self.description, trainer.max_steps, " steps", initial=trainer.global_step
            )

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)
            if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
                self._show(trainer)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if self._bar is not None:
            self._show(trainer)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    on_exception = on_train_end

    def _show(self, trainer: pl.Trainer) -> None:
        assert self._bar is not None
        metrics = trainer.callback_metrics
        shown = {label: f"{metrics[k]:.3f}" for k, label in self.SHOWN.items() if k in metrics}
        self._bar.set_postfix(shown, refresh=False)
