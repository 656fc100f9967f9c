"""Pools of simulated images: of the data's own microscope, or of others, of those most like it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.augmentation import AugmentationSettings, require_images
from svp_lightning.data.classes import PAPER_CLASSES
from svp_lightning.data.store import MANIFEST, Store, spread
from svp_lightning.data.store_writer import ROWS, StoreWriter
from svp_lightning.errors import SettingsError
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.clock import keep_cost
from svp_lightning.runtime.files import replacing
from svp_lightning.runtime.terminal import bar
from svp_lightning.simulation.matching import (
    COMPARED,
    IMAGES,
    background_level,
    distances,
    looks_of,
    looks_settings,
)
from svp_lightning.simulation.microscopes import microscope
from svp_lightning.simulation.settings import SimulationSettings
from svp_lightning.stages.real_store import simulate
from svp_lightning.stages.settings import SimulatedData

SPLIT = "train"
"""The split that the simulator is asked for; in the pool images belong to none."""
LOOKS, PART = "looks.npy", 20
"""File of the looks of microscopes, and how many of them are rendered at a time."""
MEASURED = 2000
"""Training images, at most, that microscopes are compared with (of each class), or that the grey
level around particles is measured on; from all over the store, which may be sorted by runs."""


def build_simulated_pool(
    data: SimulatedData,
    microscopes: Sequence[int],
    counts: Mapping[str, int],
    class_names: Sequence[str],
    cache: ArtifactCache,
    background: float | None = None,
) -> Store:
    """The store of simulated images for training, rendered if missing.

    Labels are right, whatever ``data.simulation.label_noise`` says.

    Args:
        data: which simulator, image size and seed.
        microscopes: numbers of other microscopes to take images of; none: that of ``data``.
        counts: class name -> images wanted.
        class_names: those of the real store, which the pool shares.
        cache: where pools are kept.
        background: grey level that each microscope's images are scaled to; None: as rendered.

    Raises:
        SettingsError: no image is wanted, or some of a class that the simulator does not know.
    """
    require_images(counts)
    if unknown := [name for name in counts if name not in PAPER_CLASSES]:
        raise SettingsError(
            f"Simulated images are of {', '.join(PAPER_CLASSES)}; they are to be added to "
            f"{', '.join(unknown)}.",
            "Name the classes of the data so, or use another augmentation.",
        )
    instruments = [microscope(data.simulation, n) for n in microscopes] or [data.simulation]
    parts = []
    for at, instrument in enumerate(instruments):  # they take turns, see _make
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


@dataclass(frozen=True)
class Microscopes:
    """Other microscopes: their ``numbers``, and stage -> artifact behind the choice, if any."""

    numbers: Sequence[int]
    sources: Mapping[str, Path]


def choose_microscopes(
    arm: AugmentationSettings, data: SimulatedData, store: Store, cache: ArtifactCache
) -> Microscopes:
    """As many as ``arm`` asks for of its candidates, those most like the training images first.

    Which microscopes there are depends on ``data``, their distances on the images of ``store``.
    What the microscopes look like is rendered if missing. Without candidates, the first ones.

    Raises:
        SettingsError: the store has none of the classes compared, or a black background.
    """
    if arm.candidates is None:
        return Microscopes(range(arm.microscopes), {})
    real = {}
    for name in (one for one in COMPARED if one in store.class_names):
        rows = spread(store.indices("train", store.class_names.index(name)), MEASURED)
        real[name] = np.asarray(store.images[rows])
    if not real:
        raise SettingsError(
            f"Microscopes are compared by their images of {' and '.join(COMPARED)}; the data have "
            f"the classes {', '.join(store.class_names)}.",
            "Name the classes of the data so, or use augmentation.candidates=null.",
        )
    training_background(store)  # refused before minutes of rendering
    identity = {
        "counts": dict.fromkeys(COMPARED, IMAGES * arm.candidates),
        "image_size": data.image_size,
        "simulation": looks_settings(data.simulation),
    }
    make = partial(_render_looks, data.simulation, data.image_size, arm.candidates)
    looks = cache.build("looks", identity, make)
    order = np.argsort(distances(np.load(looks / LOOKS), real), kind="stable")
    return Microscopes(order[: arm.microscopes].tolist(), {"looks": looks})


def _render_looks(base: SimulationSettings, image_size: int, count: int, folder: Path) -> None:
    """The looks of each microscope, in parts, so that a killed call resumes."""
    parts = {
        folder / f"{at:05d}.npy": range(at, min(at + PART, count)) for at in range(0, count, PART)
    }
    missing = {file: numbers for file, numbers in parts.items() if not file.is_file()}
    looks = looks_of(base, image_size, list(chain.from_iterable(missing.values())))
    there = count - sum(map(len, missing.values()))
    with bar("Rendering looks", count, " microscopes", initial=there) as shown:
        for file, numbers in missing.items():
            found = np.stack(list(islice(looks, len(numbers))))
            with replacing(file) as temporary:
                np.save(temporary, found)
            keep_cost(folder)
            shown.update(len(numbers))
    np.save(folder / LOOKS, np.concatenate([np.load(file) for file in parts]))
    for file in parts:
        file.unlink()


def training_background(store: Store) -> float:
    """Grey level around the particles of a store's training images, or of a part of them.

    Raises:
        SettingsError: it is 0.
    """
    return background_level(store.images[spread(store.indices(split="train"), MEASURED)])


def _scaled(images: NDArray[np.uint8], background: float | None) -> NDArray[np.uint8]:
    if background is None:
        return images
    levels = images * (background / background_level(images))
    return levels.round().clip(0, 255).astype(np.uint8)


def _make(parts: Sequence[SimulatedData], identity: Mapping[str, Any], folder: Path) -> None:
    rendered = [folder / f"rendered_{at:02d}" for at in range(len(parts))]
    if not (folder / MANIFEST).is_file():  # else it was killed while it tidied up
        _render_and_join(parts, rendered, identity, folder)
    for path in (*rendered, folder / ROWS):
        if path.is_dir():
            shutil.rmtree(path)


def _render_and_join(
    parts: Sequence[SimulatedData],
    rendered: Sequence[Path],
    identity: Mapping[str, Any],
    folder: Path,
) -> None:
    """Render each part into a folder of its own, and join them in ``folder``."""
    for data, to in zip(parts, rendered, strict=True):
        if not (to / MANIFEST).is_file():
            simulate(data, to)
    stores, tables = [Store.open(path) for path in rendered], []
    pixel = stores[0].pixel_size_um if len(stores) == 1 else None
    for at, store in enumerate(stores):
        own = {name: f"pool-{at:02d}-" + store.particles[name] for name in ("id", "group")}
        tables.append(store.particles.assign(source="simulated pool", split="", **own))
    # In turns, so that fewer images of a class are of all microscopes, too.
    numbers = [table.groupby("label").cumcount() for table in tables]
    order = np.argsort(np.concatenate(numbers), kind="stable")
    images = np.concatenate([_scaled(store.images, identity["background"]) for store in stores])
    writer = StoreWriter(folder, len(order), stores[0].image_size)
    writer.write(0, images[order], pd.concat(tables).iloc[order])
    writer.finish(identity["class_names"], pixel, {"task": "simulate_pool", **identity})
