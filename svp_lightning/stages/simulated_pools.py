"""Pools of simulated images: what a perfect generator of the simulated data would draw."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from svp_lightning.data.store import MANIFEST, Store, StoreWriter
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.stages.real_store import simulate
from svp_lightning.stages.settings import SimulatedData

CHUNK_IMAGES = 4096
SPLIT = "train"
"""The split that the simulator is asked for; in the pool images belong to none."""


def build_simulated_pool(
    data: SimulatedData, counts: Mapping[str, int], class_names: Sequence[str], cache: ArtifactCache
) -> Store:
    """The store of simulated images for training, rendered if missing.

    Labels are right, whatever ``data.simulation.label_noise`` says. Image k of a class is the same
    whatever the counts.

    Args:
        data: which simulator, image size and seed.
        counts: class name -> images wanted.
        class_names: those of the real store, which the pool shares.
        cache: where pools are kept.
    """
    simulation = data.simulation.model_dump()
    simulation["counts"] = {SPLIT: {name: n for name, n in counts.items() if n}}
    simulation["label_noise"]["rate"] = 0.0
    asked = SimulatedData.parse(data.model_dump() | {"simulation": simulation}, "data")
    identity = {
        "class_names": list(class_names),
        "image_size": asked.image_size,
        "seed": asked.seed,
        "simulation": asked.simulation.identity(),
    }
    return Store.open(cache.build("simulated", identity, partial(_make, asked, identity)))


def _make(data: SimulatedData, identity: Mapping[str, Any], folder: Path) -> None:
    rendered = folder / "rendered"
    if not (rendered / MANIFEST).is_file():
        simulate(data, rendered)
    source = Store.open(rendered)
    writer = StoreWriter(folder, len(source), source.image_size)
    for rows in writer.pending(CHUNK_IMAGES):
        cut = slice(rows.start, rows.stop)
        table = source.particles.iloc[cut].assign(split="", source="simulated pool")
        table["group"] = "pool-" + table["group"]
        writer.write(rows.start, source.images[cut], table)
    writer.finish(
        identity["class_names"], source.pixel_size_um, {"task": "simulate_pool", **identity}
    )
    shutil.rmtree(rendered)
