"""Drawing a pool: each process its share of the batches, straight into one store."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from svp_lightning.data.store import Store, StoreWriter
from svp_lightning.generator.checkpoint import Generator
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler import sample
from svp_lightning.generator.settings import SamplerSettings
from svp_lightning.tasks.progress import bar


@dataclass(frozen=True)
class Pool:
    """What is to be drawn.

    Attributes:
        generator: ready to sample from.
        generator_hash: SHA-256 of its weights.
        sampler: with its precision resolved.
        counts: class name -> images.
        earlier: a pool of the same generator and sampler, whose images are copied.
    """

    generator: Generator
    generator_hash: str
    sampler: SamplerSettings
    counts: dict[str, int]
    earlier: Store | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def draw(
        self, rows: range, device: Any
    ) -> tuple[NDArray[np.uint8], pd.DataFrame, NDArray[np.bool_]]:
        """Images, table rows, and which were drawn now rather than copied, of some rows."""
        names = np.repeat(list(self.counts), list(self.counts.values()))[rows.start : rows.stop]
        numbers = np.concatenate([np.arange(n) for n in self.counts.values()])
        numbers = numbers[rows.start : rows.stop]
        size = self.generator.info.image_size
        images = np.empty((len(rows), size, size), dtype=np.uint8)
        seeds = np.empty(len(rows), dtype=np.int64)
        missing = np.ones(len(rows), dtype=bool)
        for name in np.unique(names).tolist():
            here = np.flatnonzero(names == name)
            first, last = int(numbers[here[0]]), int(numbers[here[-1]]) + 1
            seeds[here] = image_seeds(self.sampler.seed, name, first, last)
            held = self._held(name, first, last)
            images[here[: len(held)]] = held
            missing[here[: len(held)]] = False
        labels = np.array([self.generator.label_of(n) for n in names[missing]], dtype=np.int64)
        images[missing] = sample(
            self.generator.denoiser, labels, seeds[missing], self.sampler, device
        )
        return images, self._table(names, numbers, seeds), missing

    def _held(self, name: str, first: int, last: int) -> NDArray[np.uint8]:
        """Those of images ``first`` to ``last`` - 1 of a class that an earlier pool has."""
        if self.earlier is None:
            return np.empty((0, *[self.generator.info.image_size] * 2), dtype=np.uint8)
        rows = self.earlier.indices(label=self.earlier.class_names.index(name))[first:last]
        return self.earlier.images[rows]

    def _table(
        self, names: NDArray[np.str_], numbers: NDArray[np.int64], seeds: NDArray[np.int64]
    ) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "id": [f"{n}-{k:07d}" for n, k in zip(names, numbers, strict=True)],
                "label": names.astype(object),
                "split": "",
                "group": "synthetic",
                "origin": "synthetic",
                "source": f"generator {self.generator_hash[:12]}",
                "seed": seeds,
            }
        )


class PoolModule(pl.LightningModule):
    """Draws and writes a pool under ``Trainer.predict``, on any number of processes.

    Process r of R takes every R-th of the missing batches. A batch is the same whoever draws
    it, so the store does not depend on R.

    Args:
        pool: what to draw.
        folder: of the store.
    """

    def __init__(self, pool: Pool, folder: Path) -> None:
        super().__init__()
        # There may be fewer batches than processes. (Lightning's constructor sets it to False.)
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.pool = pool
        self.folder = folder
        self.drawn = 0
        """Images of this process that no earlier pool had."""
        self.started = math.nan
        """When the first was begun, s on the monotonic clock."""
        self._writer: StoreWriter | None = None

    @property
    def writer(self) -> StoreWriter:
        """The store, once prediction has begun."""
        assert self._writer is not None
        return self._writer

    def setup(self, stage: str) -> None:
        if self.trainer.is_global_zero:
            self._open()
        self.trainer.strategy.barrier("the store's files are there")
        if not self.trainer.is_global_zero:
            self._open()

    def _open(self) -> None:
        self._writer = StoreWriter(
            self.folder, self.pool.total, self.pool.generator.info.image_size
        )

    def predict_dataloader(self) -> DataLoader[tuple[int, int]]:
        # One list for all: a process that looks later would find another's first batches.
        batch = self.pool.sampler.batch_size
        pending: Sequence[range] = self.trainer.strategy.broadcast(self.writer.pending(batch))
        self._bar = bar(
            "Sampling",
            self.pool.total,
            " images",
            initial=self.pool.total - sum(map(len, pending)),
        )
        share = pending[self.trainer.global_rank :: self.trainer.world_size]
        ends: Any = [(rows.start, rows.stop) for rows in share]
        return DataLoader(ends, batch_size=None)

    def on_predict_start(self) -> None:
        self.started = time.monotonic()

    def predict_step(self, batch: tuple[int, int], batch_idx: int) -> int:
        rows = range(*batch)
        images, table, missing = self.pool.draw(rows, self.trainer.strategy.root_device)
        self.writer.write(rows.start, images, table)
        self.drawn += int(missing.sum())
        # The others are about as far; the last batches may be fewer than processes.
        left = self.pool.total - self._bar.n
        self._bar.update(min(len(rows) * self.trainer.world_size, left))
        return len(rows)  # Lightning warns of None

    def teardown(self, stage: str) -> None:
        self._bar.close()
