"""What a training leaves behind for the next attempt: checkpoints, curves, costs."""

import os
import pickle
import zipfile
import zlib
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins import TorchCheckpointIO

from svp_lightning.classifier.validation import LAST
from svp_lightning.errors import TrainingError
from svp_lightning.runtime.clock import keep_cost
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import replacing, write_csv
from svp_lightning.runtime.terminal import say

BEFORE_LAST = "last-before.ckpt"
"""The checkpoint before :data:`~.validation.LAST`, which a training resumes from."""
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(RuntimeError, KeyError, ValueError, pickle.UnpicklingError),
)
"""What reading a damaged checkpoint may raise."""


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint of the latest step to resume from, SLURM's requeue file included.

    It says which step that is. Where the best weights so far have changed on the disk, none can
    bring them back: the training starts over.
    """
    for best in folder.glob("best*.ckpt"):
        if _step(best, "the training starts over") is None:
            if is_main_process():  # the best last: until it is gone, other processes see the damage
                for file in sorted(folder.glob("*.ckpt"), key=lambda one: one == best):
                    file.unlink()
            return None
    steps = {}
    for file in [*folder.glob("last*.ckpt"), *folder.glob("hpc_ckpt_*.ckpt")]:
        if (step := _step(file, "another checkpoint is used")) is not None:
            steps[file] = step
    # Not by the time of the file: clocks jump.
    newest = max(steps, key=lambda file: (steps[file], file.name == LAST), default=None)
    if newest is not None:
        say(f"  Continues after step {steps[newest]:,}")
    return newest


def _step(file: Path, otherwise: str) -> int | None:
    """The step of a whole checkpoint; of another None, and it says what happens ``otherwise``."""
    try:
        with zipfile.ZipFile(file) as parts:
            changed = parts.testzip()  # torch does not compare the checksums of its files
        if changed is not None:
            raise zipfile.BadZipFile(f"{changed} has changed")
        saved = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return int(saved["global_step"])
    except _BROKEN as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        say(f"  Warning: {file} cannot be read ({reason}); {otherwise}.")
        return None


def require_finished(name: str, done: int, steps: int) -> None:
    """Refuse to take a training that something has stopped early for the whole one.

    Raises:
        TrainingError: fewer were taken.
    """
    if done < steps:
        raise TrainingError(
            f"The training of the {name} was stopped after {done:,} of {steps:,} steps "
            f"({name}.steps), so it is not finished.",
            "Leave out what stops it (a callback, say); the same command then resumes it.",
        )


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints are whole or not there, whatever happens while one is written.

    Lightning writes to the system's temporary folder and moves the file, which across disks is a
    copy that can be cut. Here it is written next to its place, and what is resumed from has
    the checkpoint before it at hand.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write ``checkpoint`` and keep the one that ``last.ckpt`` was.

        Raises:
            ArtifactError: the disk is full or cannot be written.
        """
        path = Path(path)
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                try:
                    torch.save(checkpoint, file)
                except RuntimeError as error:  # torch hides what the system said
                    raise error.__context__ or error from None
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST and path.is_file():
                os.replace(path, path.with_name(BEFORE_LAST))


class KeepCost(Callback):
    """Writes costs and logged values whenever a training saves a checkpoint to resume from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        keep_cost(self.folder, trainer.world_size)
        for logger in trainer.loggers:
            logger.save()


def write_curves(training: Path, file: Path) -> None:
    """Write what all attempts at a training have logged; of a repeated step, the last values.

    Where a disk became full a log ends within a line, which is left out.
    """
    curves = pd.DataFrame({"step": []}, dtype=str)  # text comes through as it is
    for number in range(len(list(training.glob("logs/attempt_*")))):
        logged = training / "logs" / f"attempt_{number}" / "metrics.csv"
        text = logged.read_text("utf-8") if logged.is_file() else ""  # an early end leaves none
        whole = text.rpartition("\n")[0] or "step"
        rows = pd.read_csv(StringIO(whole), dtype=str).dropna(subset="step")
        if len(rows):
            before = curves[curves["step"].astype(int) < rows["step"].astype(int).min()]
            curves = pd.concat([before, rows], ignore_index=True)
    write_csv(file, curves)
