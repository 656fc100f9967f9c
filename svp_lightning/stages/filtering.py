"""What a network trained on real images chooses: generated images to keep, hard negatives."""

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from svp_lightning.classifier.features import describe, load_features
from svp_lightning.data.augmentation import FilterSettings
from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.errors import DataError, SettingsError, StoreError
from svp_lightning.evaluation.fidelity.measures import ClassFilter, Rejection
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.terminal import say

CHUNK_IMAGES = 4096
HARDEST = "hardest.npy"
MARGIN = 1.1
"""Drawn beyond what the rejections so far make likely to suffice."""
SPLIT = "val"
"""Thresholds are set on this split; the test split stays unseen."""


@dataclass(frozen=True)
class Tally:
    """What became of the images of one class, up to the last one kept.

    ``looked_at`` were drawn and judged, ``wrong_class`` taken for another class, ``far`` out of the
    distribution of real images, ``rejected`` for either reason.
    """

    looked_at: int
    wrong_class: int
    far: int
    rejected: int


class _Kept(NamedTuple):
    """Rows of one class in a pool that are kept, and what was rejected."""

    rows: NDArray[np.int64]
    tally: Tally


def build_filtered(
    settings: FilterSettings,
    features: Path,
    store: Store,
    wanted: Mapping[str, int],
    draw: Callable[[float], Store],
    cache: ArtifactCache,
    device: torch.device,
) -> Store:
    """The store of kept images, in the order of the pool.

    Each image is judged for itself, so a smaller ratio's images are a subset of a larger one's.
    ``draw`` gives a pool of ``factor`` times the images ``wanted`` (class name -> images to keep);
    the feature network in the folder ``features`` judges it.

    Raises:
        DataError: even ``filter.max_draws`` times as many images do not give enough.
    """
    network, filters = load_features(features), {}
    for name in wanted:
        label = store.class_names.index(name)
        train, heldout = (
            describe(network, store.images, device, store.indices(split, label))
            for split in ("train", SPLIT)
        )
        filters[name] = ClassFilter(
            label, train.features, heldout.features, settings.quantile, settings.neighbours
        )

    def keep(pool: Store, name: str) -> _Kept:
        """The first rows of a class that are kept, as many as wanted or fewer."""
        rows = pool.indices(label=pool.class_names.index(name))
        found = describe(network, pool.images, device, rows)
        verdict = filters[name](found.features, found.probabilities)
        return _kept(rows, verdict, wanted[name])

    pool, kept = _enough(settings.max_draws, keep, wanted, draw)
    identity = {
        "pool": pool.sha256,
        "pixel_size_um": pool.pixel_size_um,
        "features": features.name,
        "filter": settings.identity(),
        "counts": dict(wanted),
    }
    filtered = Store.open(cache.build("filtered", identity, partial(_write, pool, kept)))
    parts = [
        f"{t['rejected']:,} of {t['looked_at']:,} {name} ({t['wrong_class']:,} wrong class, "
        f"{t['far']:,} out of distribution)"
        for name, t in rejections(filtered).items()
    ]
    say("  Filter rejected " + "; ".join(parts))
    return filtered


def build_hardest(
    features: Path,
    store: Store,
    rare: Collection[str],
    cache: ArtifactCache,
    device: torch.device,
) -> NDArray[np.int64]:
    """(n,) training rows of the classes that are not rare, those most like a rare class first.

    The feature network in the folder ``features`` judges, whose training images decide which
    classes are ``rare``.

    Raises:
        SettingsError: all classes are equally frequent.
    """
    require_plentiful(store, rare)

    def make(folder: Path) -> None:
        labels = [k for k, name in enumerate(store.class_names) if name in rare]
        rows = store.indices("train")
        rows = rows[(store.labels[rows] >= 0) & ~np.isin(store.labels[rows], labels)]
        found = describe(load_features(features), store.images, device, rows)
        order = np.argsort(-found.probabilities[:, labels].sum(axis=1), kind="stable")
        np.save(folder / HARDEST, rows[order])

    identity = {"features": features.name, "data": store.sha256}
    return np.asarray(np.load(cache.build("hardest", identity, make) / HARDEST))


def require_plentiful(store: Store, rare: Collection[str]) -> None:
    """Raise SettingsError where all classes are ``rare``: hard negatives are of the others."""
    if len(rare) == len(store.class_names):
        raise SettingsError(
            "augmentation.hard_negatives are of classes that are not rare, and all classes of "
            f"{store.path} are equally frequent.",
            "Set augmentation.hard_negatives=0.",
        )


def rejections(store: Store) -> dict[str, dict[str, int]]:
    """Class name -> :class:`Tally` of a filtered store; empty for any other."""
    return dict(store.manifest.made_by.get("filter", {}))


def unfiltered(filtered: Store, cache: ArtifactCache) -> Path:
    """Folder of the pool that a filtered store was chosen from.

    Raises:
        StoreError: it is not there.
    """
    for path, _ in cache.finished("synthetic"):
        with suppress(StoreError):  # of another pool, which is damaged
            if Store.open(path).sha256 == filtered.manifest.made_by["pool"]:
                return path
    raise StoreError(
        f"The pool that {filtered.path} was chosen from is not there.", "Run the command again."
    )


def _kept(rows: NDArray[np.int64], verdict: Rejection, wanted: int) -> _Kept:
    kept = np.flatnonzero(~verdict.rejected)[:wanted]
    end = int(kept[-1]) + 1 if len(kept) == wanted and wanted else len(rows)
    tally = Tally(
        looked_at=end,
        wrong_class=int(verdict.wrong_class[:end].sum()),
        far=int(verdict.far[:end].sum()),
        rejected=end - len(kept),
    )
    return _Kept(rows[kept], tally)


def _enough(
    max_draws: float,
    keep: Callable[[Store, str], _Kept],
    wanted: Mapping[str, int],
    draw: Callable[[float], Store],
) -> tuple[Store, dict[str, _Kept]]:
    """The smallest pool tried that leaves the wanted images, and what is kept of it."""
    factor = 1.0
    while True:
        pool = draw(factor)
        kept = {name: keep(pool, name) for name in wanted}
        shares = {name: len(kept[name].rows) / n for name, n in wanted.items() if n}
        worst = min(shares, key=shares.__getitem__)
        if shares[worst] >= 1:
            return pool, kept
        if factor >= max_draws:
            raise DataError(
                f"The filter rejects too many generated images of {worst}: "
                f"{len(kept[worst].rows)} of {wanted[worst]} wanted are left of "
                f"{kept[worst].tally.looked_at} drawn.",
                "Train the generator longer, or loosen augmentation.filter.quantile or max_draws.",
            )
        needed = factor / max(shares[worst], 1 / max_draws) * MARGIN
        factor = min(math.ceil(10 * needed) / 10, max_draws)


def _write(pool: Store, kept: Mapping[str, _Kept], folder: Path) -> None:
    rows = np.concatenate([part.rows for part in kept.values()])
    writer = StoreWriter(folder, len(rows), pool.image_size)
    for chunk in writer.pending(CHUNK_IMAGES):
        chosen = rows[chunk.start : chunk.stop]
        table: pd.DataFrame = pool.particles.iloc[chosen].reset_index(drop=True)
        writer.write(chunk.start, pool.images[chosen], table)
    tallies = {name: asdict(part.tally) for name, part in kept.items()}
    made_by = pool.manifest.made_by | {"task": "filter", "pool": pool.sha256, "filter": tallies}
    writer.finish(pool.class_names, pool.pixel_size_um, made_by)
