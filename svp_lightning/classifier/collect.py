"""Predictions of all batches and processes, each image exactly once."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed


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
        self._num_classes = num_classes
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, index: Tensor, label: Tensor, probability: Tensor) -> None:
        """Keep a batch: (B,), (B,) and (B, K), without waiting for the device."""
        self._parts.append((index, label, probability))

    def join(self) -> Collected:
        """All images of all processes, the same on each; to be called by every process."""
        parts = [_join_parts(self._parts, self._num_classes)]
        self._parts = []
        if distributed.is_available() and distributed.is_initialized():
            own = parts[0]
            parts = [own] * distributed.get_world_size()
            distributed.all_gather_object(parts, own)
        index, label, probability = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        rows, first = np.unique(index, return_index=True)
        return Collected(rows, label[first], probability[first])


def _join_parts(
    parts: list[tuple[Tensor, Tensor, Tensor]], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    if not parts:
        none = np.empty(0, np.int64)
        return none, none, np.empty((0, num_classes), np.float32)
    index, label, probability = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return index.numpy(), label.numpy(), probability.float().numpy()
