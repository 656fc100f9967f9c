"""Pools of simulated images: what a perfect generator would draw, or other microscopes' images."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from svp_lightning.data.store import MANIFEST, Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.simulation.microscopes import microscope
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.stages.real_store import simulate
from svp_lightning.stages.settings import SimulatedData

SPLIT = "train"
"""The split that the simulator is asked for; in the pool images belong to none."""


def build_simulated_pool(
    data: SimulatedData,
    microscopes: int | None,
    counts: Mapping[str, int],
    class_names: Sequence[str],
    cache: ArtifactCache,
) -> Store:
    """The store of simulated images for training, rendered if missing.

    Labels are right, whatever ``data.simulation.label_noise`` says.

    Args:
        data: which simulator, image size and seed.
        microscopes: number of other microscopes to take images of; None: that of ``data``.
        counts: class name -> images wanted.
        class_names: those of the real store, which the pool shares.
        cache: where pools are kept.
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
            parts.append(data.model_copy(update={"simulation": asked}))
    identity = {
        "class_names": list(class_names),
        "image_size": data.image_size,
        "seed": data.seed,
        "simulation": [part.simulation.identity() for part in parts],
    }
    return Store.open(cache.build("simulated", identity, partial(_make, parts, identity)))


def _make(parts: Sequence[SimulatedData], identity: Mapping[str, Any], folder: Path) -> None:
    rendered = [folder / f"rendered_{at:02d}" for at in range(len(parts))]
    for data, to in zip(parts, rendered, strict=True):
        if not (to / MANIFEST).is_file():
            simulate(data, to)
    stores = [Store.open(path) for path in rendered]
    writer = StoreWriter(folder, sum(map(len, stores)), stores[0].image_size)
    start = 0
    for at, store in enumerate(stores):
        table = store.particles.assign(split="", source="simulated pool")
        for column in ("id", "group"):
            table[column] = f"pool-{at:02d}-" + table[column]
        writer.write(start, store.images, table)
        start += len(store)
    pixel = stores[0].pixel_size_um if len(stores) == 1 else None
    writer.finish(identity["class_names"], pixel, {"task": "simulate_pool", **identity})
    for path in rendered:
        shutil.rmtree(path)
