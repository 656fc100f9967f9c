"""The pool of generated images: each process draws its share, straight into one store."""

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from svp_lightning.data.augmentation import require_images
from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.errors import SettingsError, StoreError
from svp_lightning.generator.checkpoint import Generator, load_generator
from svp_lightning.generator.drawing import resolve_precision, sample
from svp_lightning.generator.noise import image_seeds
from svp_lightning.generator.sampler_settings import SamplerSettings
from svp_lightning.runtime.artifacts import RECORD, ArtifactCache
from svp_lightning.runtime.clock import keep_cost
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.files import explaining_write_errors, sha256_of_json
from svp_lightning.runtime.terminal import bar, duration, say
from svp_lightning.stages.environment import device_name
from svp_lightning.stages.generator_training import weights_hash
from svp_lightning.stages.joint_training import together
from svp_lightning.stages.trainers import Trainers


def build_pool(
    generator: Path,
    sampler: SamplerSettings,
    counts: Mapping[str, int],
    real: Store,
    cache: ArtifactCache,
    trainers: Trainers,
    starts: Store | None = None,
) -> Store:
    """The store of generated images, drawn if missing.

    A pool that another ratio has drawn already is the beginning of this one: image k of a class is
    the same in every pool of a generator and sampler, so only the rest is drawn.

    ``counts``: class name -> images wanted. The pool shares the class names and the pixel size of
    the ``real`` store: the generator is the same whatever they are. ``starts`` holds as many images
    of each class that ``sampler.start_ratio`` starts from.
    """
    resolved = resolve_precision(sampler, trainers.device)
    weights = weights_hash(generator)
    same: dict[str, Any] = {"generator": weights, "sampler": resolved.identity()}
    same["class_names"] = list(real.class_names)
    if starts is not None:
        same["starts"] = starts.sha256
    pixel_um = real.image_pixel_um
    identity = same | {"counts": dict(counts), "pixel_size_um": pixel_um}

    def make(folder: Path) -> None:
        earlier = _largest_pool(cache, same)
        ready = load_generator(generator)
        module = PoolModule(ready, weights, resolved, dict(counts), earlier, folder, starts)
        trainer = trainers.make("Sampling")
        with together(trainer):
            trainer.predict(module, return_predictions=False)
            # Waits for every process, whose batches are then written.
            own = torch.tensor(module.drawn, device=trainer.strategy.root_device)
            drawn = int(trainer.strategy.reduce(own, reduce_op="sum"))
        if not is_main_process():
            return
        if drawn:  # else a killed call or an earlier pool had drawn them all
            seconds = time.monotonic() - module.started
            where = device_name(trainer.strategy.root_device, trainer.world_size)
            say(
                f"  {drawn:,} images, {drawn / seconds:,.1f} images/s on {where} "
                f"({resolved.precision}), {duration(seconds)}"
            )
        module.writer.finish(real.class_names, pixel_um, same | {"task": "sample"})

    # What is there needs no lock, so that a read-only disk can be read from.
    finished = (cache.path("synthetic", identity) / RECORD).is_file()
    with nullcontext() if finished else _one_at_a_time(cache, same):
        return Store.open(cache.build("synthetic", identity, make, every_rank=True))


def require_drawable(counts: Mapping[str, int], learnt: Collection[str]) -> None:
    """Refuse counts that no pool can meet, before a generator is trained for it.

    Raises:
        SettingsError: no image is wanted, or one of a class that the generator does not learn.
    """
    if lacking := [name for name in counts if name not in learnt]:
        raise SettingsError(
            f"The mix needs synthetic images of {', '.join(lacking)}, but generator.classes "
            f"leaves the generator with {', '.join(learnt)}.",
            "Use generator.classes=all (or rare, with augmentation.plentiful_ratio=0), or only "
            "task=sample.",
        )
    require_images(counts)


def _one_at_a_time(cache: ArtifactCache, same: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Cells of a sweep extend one pool in turn instead of drawing the same images twice."""
    if not is_main_process():
        return nullcontext()
    root = cache.root / "synthetic"
    with explaining_write_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    return cache.lock(root / f"pool-{sha256_of_json(same)[:16]}")


def _largest_pool(cache: ArtifactCache, same: Mapping[str, Any]) -> Store | None:
    """The largest whole pool of the same generator and sampler."""
    found = [
        (sum(identity["counts"].values()), path)
        for path, identity in cache.finished("synthetic")
        if {k: identity.get(k) for k in same} == same
    ]
    for _, path in sorted(found, reverse=True):
        with suppress(StoreError):
            return Store.open(path)
    return None


def _of_class(store: Store, name: str, first: int, last: int) -> NDArray[np.uint8]:
    """Images ``first`` to ``last`` - 1 of one class, as far as there are."""
    rows = store.indices(label=store.class_names.index(name))[first:last]
    return np.asarray(store.images[rows])


def pool_table(
    names: Iterable[str], numbers: Iterable[int], seeds: NDArray[np.int64], weights: str
) -> pd.DataFrame:
    """Table rows of n images: each one's class, number within the class and seed.

    ``weights`` is the SHA-256 of the generator's weights.
    """
    return pd.DataFrame(
        {
            "id": [f"{name}-{k:07d}" for name, k in zip(names, numbers, strict=True)],
            "label": list(names),
            "split": "",
            "group": "synthetic",
            "origin": "synthetic",
            "source": f"generator {weights[:12]}",
            "seed": seeds,
        }
    )


class PoolModule(pl.LightningModule):
    """Draws and writes a pool under ``Trainer.predict``, on any number of processes.

    Process r of R takes every R-th of the missing batches. A batch is the same whoever draws
    it, so the store in ``folder`` does not depend on R. ``counts``: class name -> images; those of
    ``earlier``, a pool of the same generator and sampler, are copied. ``weights`` is the SHA-256 of
    the generator's. Image k of a class starts from image k of that class in ``starts``, if given.
    """

    def __init__(
        self,
        generator: Generator,
        weights: str,
        sampler: SamplerSettings,
        counts: dict[str, int],
        earlier: Store | None,
        folder: Path,
        starts: Store | None = None,
    ) -> None:
        super().__init__()
        # There may be fewer batches than processes. (Lightning's constructor sets it to False.)
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.generator, self.weights, self.sampler = generator, weights, sampler
        self.earlier, self.folder, self.starts = earlier, folder, starts
        self.names = np.repeat(list(counts), list(counts.values()))
        self.numbers = np.concatenate([np.arange(n) for n in counts.values()])
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
        size = self.generator.info.image_size
        for opens in (self.trainer.is_global_zero, not self.trainer.is_global_zero):
            if opens:
                self._writer = StoreWriter(self.folder, len(self.names), size)
            self.trainer.strategy.barrier("the store's files are there")

    def predict_dataloader(self) -> DataLoader[tuple[int, int]]:
        # One list for all: a process that looks later would find another's first batches.
        batch, total = self.sampler.batch_size, len(self.names)
        pending: Sequence[range] = self.trainer.strategy.broadcast(self.writer.pending(batch))
        self._bar = bar("Sampling", total, " images", initial=total - sum(map(len, pending)))
        share = pending[self.trainer.global_rank :: self.trainer.world_size]
        ends: Any = [(rows.start, rows.stop) for rows in share]
        return DataLoader(ends, batch_size=None)

    def on_predict_start(self) -> None:
        self.started = time.monotonic()

    def predict_step(self, batch: tuple[int, int], batch_idx: int) -> int:
        start, stop = batch
        names, numbers = self.names[start:stop], self.numbers[start:stop]
        size = self.generator.info.image_size
        images = np.empty((len(names), size, size), dtype=np.uint8)
        before = np.empty_like(images)
        seeds = np.empty(len(names), dtype=np.int64)
        missing = np.ones(len(names), dtype=bool)
        for name in np.unique(names).tolist():
            here = np.flatnonzero(names == name)
            first, last = int(numbers[here[0]]), int(numbers[here[-1]]) + 1
            seeds[here] = image_seeds(self.sampler.seed, name, first, last)
            if self.earlier is not None:
                own = _of_class(self.earlier, name, first, last)
                images[here[: len(own)]] = own
                missing[here[: len(own)]] = False
            if self.starts is not None:
                before[here] = _of_class(self.starts, name, first, last)
        labels = np.array([self.generator.label_of(n) for n in names[missing]], dtype=np.int64)
        device = self.trainer.strategy.root_device
        images[missing] = sample(
            self.generator.denoiser,
            labels,
            seeds[missing],
            self.sampler,
            device,
            starts=None if self.starts is None else before[missing],
        )
        self.writer.write(start, images, pool_table(names.tolist(), numbers, seeds, self.weights))
        keep_cost(self.folder, self.trainer.world_size)
        self.drawn += int(missing.sum())
        # The others are about as far; the last batches may be fewer than processes.
        left = len(self.names) - self._bar.n
        self._bar.update(min(len(names) * self.trainer.world_size, left))
        return len(names)  # Lightning warns of None

    def teardown(self, stage: str) -> None:
        self._bar.close()
