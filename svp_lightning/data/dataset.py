"""From rows of stores to batches, without Lightning."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from svp_lightning.data.mix import Mixture
from svp_lightning.data.store import Store

Batch = dict[str, Tensor]
"""``image`` (B, 1, H, W) uint8 as read, float in [-1, 1] on the device; ``label`` (B,)
int64, -1 where unknown; ``index`` (B,) int64 row in its store; in training ``weight`` (B,)
float32, the weight in the loss."""
Loader = DataLoader[Batch]


@dataclass(eq=False)
class ParticleDataset(Dataset[Batch]):
    """Rows of one or more stores; an array of positions gives a batch, without a loop over images.

    Use with ``DataLoader(dataset, batch_size=None, sampler=<sampler of index arrays>)``.

    Attributes:
        stores: stores with images of one size.
        store_id: (M,) position in ``stores`` of each row.
        row: (M,) row in that store.
        label: (M,) class index.
        group: (M,) what decides a row's weight, or None.
    """

    stores: Sequence[Store]
    store_id: NDArray[np.uint8]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    group: NDArray[np.int64] | None = None

    @classmethod
    def of_mixture(cls, mixture: Mixture) -> "ParticleDataset":
        """The training rows of a mixture."""
        return cls(mixture.stores, mixture.store_id, mixture.row, mixture.label, mixture.group)

    @classmethod
    def of_rows(cls, store: Store, rows: NDArray[np.int64]) -> "ParticleDataset":
        """Rows of one store, labels included (-1 where there is none)."""
        return cls((store,), np.zeros(len(rows), dtype=np.uint8), rows, store.labels[rows])

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, positions: NDArray[np.int64]) -> Batch:
        store_id, row = self.store_id[positions], self.row[positions]
        size = self.stores[0].image_size
        images = np.empty((len(row), 1, size, size), dtype=np.uint8)
        for number, store in enumerate(self.stores):
            here = np.flatnonzero(store_id == number)
            # Ascending rows turn random page faults into a forward sweep over the file.
            here = here[np.argsort(row[here], kind="stable")]
            images[here, 0] = store.images[row[here]]
        batch = {
            "image": torch.from_numpy(images),
            "label": torch.from_numpy(self.label[positions]),
            "index": torch.from_numpy(row),
        }
        if self.group is not None:
            batch["group"] = torch.from_numpy(self.group[positions])
        return batch
