"""Predictions of all processes, the score a classifier is selected by, and its checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, distributed

VALIDATION_SCORE = "val/macro_auprc"
"""Name of the monitored metric; higher is better."""
VALIDATION_LOSS = "val/loss"
TRAINING_LOSS = "train/loss"


@dataclass(frozen=True)
class Collected:
    """Predictions of N images, in ascending order of their row.

    Attributes:
        index: (N,) int64 row in the store.
        label: (N,) int64 class index, -1 where unknown.
        probability: (N, K) float32.
    """

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    probability: NDArray[np.float32]


class Collector:
    """Keeps what each batch predicted, on its device, and joins it at the end.

    Joining happens once, not per batch, so processes may have different numbers of batches,
    or none. Images that several processes saw (padding) count once.
    """

    def __init__(self, num_classes: int) -> None:
        self._nothing = (torch.empty(0).long(), torch.empty(0).long(), torch.empty(0, num_classes))
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, index: Tensor, label: Tensor, probability: Tensor) -> None:
        """Keep a batch: (B,), (B,) and (B, K), without waiting for the device."""
        self._parts.append((index, label, probability.float()))

    def join(self) -> Collected:
        """All images of all processes, the same on each; to be called by every process."""
        columns = zip(*(self._parts or [self._nothing]), strict=True)
        own = tuple(torch.cat(column).cpu().numpy() for column in columns)
        self._parts = []
        parts = [own]
        if distributed.is_available() and distributed.is_initialized():
            parts = [own] * distributed.get_world_size()
            distributed.all_gather_object(parts, own)
        index, label, probability = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        rows, first = np.unique(index, return_index=True)
        return Collected(rows, label[first], probability[first])


BEST = "best.ckpt"
LAST = "last.ckpt"


class MovableCheckpoint(ModelCheckpoint):
    """Resumes where the folder was moved between two attempts.

    Lightning's own forgets the best score when ``dirpath`` changes: the next validation then
    counts as the best, however bad it is.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, with the files in this folder."""
        moved = dict(state_dict) | {"dirpath": self.dirpath}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[name] = self._here(state_dict[name])
        best = state_dict["best_k_models"]
        moved["best_k_models"] = {self._here(path): score for path, score in best.items()}
        super().load_state_dict(moved)

    def _here(self, path: str) -> str:
        assert self.dirpath is not None
        return str(Path(self.dirpath) / Path(path).name) if path else ""


def checkpoint_callbacks(
    directory: Path, keep: Literal["best", "last"] = "best"
) -> list[MovableCheckpoint]:
    """Write ``best.ckpt``, the weights to keep, and ``last.ckpt`` to resume from.

    ``keep`` says which weights are the best: of the best validation, or of the newest one. They
    come first, so that the last checkpoint knows of them: a run resumed from there replaces them
    only by better ones. Both are written at the end of the validation, which is after the last step
    of an epoch.
    """
    best = MovableCheckpoint(
        dirpath=directory,
        filename=Path(BEST).stem,
        monitor=VALIDATION_SCORE if keep == "best" else "step",
        mode="max",
        save_top_k=1,
        save_weights_only=True,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    last = MovableCheckpoint(
        dirpath=directory,
        filename=Path(LAST).stem,
        monitor=None,
        save_top_k=1,
        # Resumed from a checkpoint of the train epoch's end, Trainer(max_steps=...) of
        # Lightning 2.6 counts the epoch twice and leaves out an epoch of data.
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    return [best, last]
