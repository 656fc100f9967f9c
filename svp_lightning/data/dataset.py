"""From rows of stores to batches, without Lightning."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from svp_lightning.data.mix import Mixture
from svp_lightning.data.store import Store

Batch = dict[str, Tensor]
"""``image`` (B, 1, H, W) uint8 as read, float in [-1, 1] on the device; ``label`` (B,)
int64, -1 where unknown; ``index`` (B,) int64 row in its store; in training ``weight`` (B,)
float32, the weight in the loss."""
Loader = DataLoader[Batch]


Rows = dict[str, NDArray[np.generic]]
"""``store_id`` and ``index`` say where the images of a batch are; other columns go with them."""


@dataclass(eq=False)
class StoredImages(Dataset[Batch]):
    """Reads the rows it is given: all that a loader process needs, however many rows there are.

    Attributes:
        stores: stores with images of one size.
    """

    stores: Sequence[Store]

    def __getitem__(self, rows: Rows) -> Batch:
        row, size = rows["index"], self.stores[0].image_size
        images = np.empty((len(row), 1, size, size), dtype=np.uint8)
        for number, store in enumerate(self.stores):
            here = np.flatnonzero(rows["store_id"] == number)
            # Ascending rows turn random page faults into a forward sweep over the file.
            here = here[np.argsort(row[here], kind="stable")]
            images[here, 0] = store.images[row[here]]
        others = {name: torch.from_numpy(rows[name]) for name in rows if name != "store_id"}
        return {"image": torch.from_numpy(images), **others}


@dataclass(eq=False)
class ParticleDataset(Dataset[Batch]):
    """Rows of one or more stores; an array of positions gives a batch, without a loop over images.

    Use with ``DataLoader(dataset.images, batch_size=None, sampler=dataset.located(<sampler of
    index arrays>))``: a loader process then holds no index, wherever it is started.

    Attributes:
        stores: stores with images of one size.
        store_id: (M,) position in ``stores`` of each row.
        row: (M,) row in that store.
        label: (M,) class index.
    """

    stores: Sequence[Store]
    store_id: NDArray[np.uint8]
    row: NDArray[np.int64]
    label: NDArray[np.int64]

    @classmethod
    def of_mixture(cls, mixture: Mixture) -> "ParticleDataset":
        """The training rows of a mixture."""
        return cls(mixture.stores, mixture.store_id, mixture.row, mixture.label)

    @classmethod
    def of_rows(cls, store: Store, rows: NDArray[np.int64]) -> "ParticleDataset":
        """Rows of one store, labels included (-1 where there is none)."""
        return cls((store,), np.zeros(len(rows), dtype=np.uint8), rows, store.labels[rows])

    def __len__(self) -> int:
        return len(self.row)

    @property
    def images(self) -> StoredImages:
        return StoredImages(self.stores)

    def __getitem__(self, positions: NDArray[np.int64]) -> Batch:
        return self.images[self.rows(positions)]

    def rows(self, positions: NDArray[np.int64]) -> Rows:
        """What a loader process needs to know to read a batch."""
        columns: Rows = {"store_id": self.store_id, "index": self.row, "label": self.label}
        return {name: column[positions] for name, column in columns.items()}

    def located(self, sampler: Sampler[NDArray[np.int64]]) -> "Sampler[Rows]":
        """The batches of a sampler of positions, as rows."""
        return _Located(self, sampler)


@dataclass(eq=False)
class _Located(Sampler[Rows]):
    dataset: ParticleDataset
    positions: Sampler[NDArray[np.int64]]

    def __iter__(self) -> Iterator[Rows]:
        return map(self.dataset.rows, self.positions)

    def __len__(self) -> int:
        return len(self.positions)  # type: ignore[arg-type]
