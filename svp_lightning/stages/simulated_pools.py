"""Pools of simulated images: what a perfect generator would draw, or other microscopes' images."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.store import MANIFEST, Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.simulation.microscopes import microscope
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.stages.real_store import simulate
from svp_lightning.stages.settings import SimulatedData

SPLIT = "train"
"""The split that the simulator is asked for; in the pool images belong to none."""
BACKGROUND_IMAGES = 2000
"""Training images that the grey level around particles is measured on."""


def build_simulated_pool(
    data: SimulatedData,
    microscopes: int | None,
    counts: Mapping[str, int],
    class_names: Sequence[str],
    cache: ArtifactCache,
    background: float | None = None,
) -> Store:
    """The store of simulated images for training, rendered if missing.

    Labels are right, whatever ``data.simulation.label_noise`` says.

    Args:
        data: which simulator, image size and seed.
        microscopes: number of other microscopes to take images of; None: that of ``data``.
        counts: class name -> images wanted.
        class_names: those of the real store, which the pool shares.
        cache: where pools are kept.
        background: grey level that each microscope's images are scaled to; None: as rendered.
    """
    others = range(microscopes or 0)
    instruments = [microscope(data.simulation, n) for n in others] or [data.simulation]
    parts = []
    for at, instrument in enumerate(instruments):  # they take turns
        shares = {name: len(range(at, n, len(instruments))) for name, n in counts.items()}
        if wanted := {name: n for name, n in shares.items() if n}:
            values = instrument.model_dump() | {"counts": {SPLIT: wanted}}
            values["label_noise"]["rate"] = 0.0
            asked = SimulationSettings.parse(values, "data.simulation")
            # With one seed every microscope would see the same particles, and the same noise.
            parts.append(data.model_copy(update={"simulation": asked, "seed": data.seed + at}))
    identity = {
        "class_names": list(class_names),
        "image_size": data.image_size,
        "seed": data.seed,
        "simulation": [part.simulation.identity() for part in parts],
        "background": background,
    }
    return Store.open(cache.build("simulated", identity, partial(_make, parts, identity)))


def join_pools(pools: Sequence[Store], cache: ArtifactCache) -> Store:
    """One pool of the images of several in random order, so that its beginning has its shares."""

    def make(folder: Path) -> None:
        order = np.random.default_rng(0).permutation(sum(map(len, pools)))
        tables = [p.particles.assign(id=f"{at}-" + p.particles["id"]) for at, p in enumerate(pools)]
        table = pd.concat(tables, ignore_index=True)
        writer = StoreWriter(folder, len(order), pools[0].image_size)
        writer.write(0, np.concatenate([p.images for p in pools])[order], table.iloc[order])
        writer.finish(pools[0].class_names, None, {"task": "join_pools", **identity})

    identity = {"pools": [pool.sha256 for pool in pools]}
    return Store.open(cache.build("joined", identity, make))


def background_level(images: NDArray[np.uint8]) -> float:
    """Grey level around the particles of (n, H, W) images: the median of the outermost pixels."""
    edges = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    return float(np.median(np.concatenate(edges, axis=1)))


def training_background(store: Store) -> float:
    """The same of a store's training images, of a part of them where there are many."""
    rows = store.indices(split="train")[:BACKGROUND_IMAGES]
    return background_level(store.images[rows])


def _scaled(images: NDArray[np.uint8], background: float | None) -> NDArray[np.uint8]:
    if background is None:
        return images
    levels = images * (background / background_level(images))
    return levels.round().clip(0, 255).astype(np.uint8)


def _make(parts: Sequence[SimulatedData], identity: Mapping[str, Any], folder: Path) -> None:
    rendered = [folder / f"rendered_{at:02d}" for at in range(len(parts))]
    for data, to in zip(parts, rendered, strict=True):
        if not (to / MANIFEST).is_file():
            simulate(data, to)
    stores = [Store.open(path) for path in rendered]
    pixel = stores[0].pixel_size_um if len(stores) == 1 else None
    writer, start = StoreWriter(folder, sum(map(len, stores)), stores[0].image_size), 0
    for at, store in enumerate(stores):
        own = {name: f"pool-{at:02d}-" + store.particles[name] for name in ("id", "group")}
        table = store.particles.assign(source="simulated pool", split="", **own)
        writer.write(start, _scaled(store.images, identity["background"]), table)
        start += len(store)
    writer.finish(identity["class_names"], pixel, {"task": "simulate_pool", **identity})
    for path in rendered:
        shutil.rmtree(path)
