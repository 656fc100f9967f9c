"""The filtered pool: generated images that a network trained on real ones believes in."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from svp_lightning.classifier.features import FeatureNetwork, describe, load_features
from svp_lightning.config import Config
from svp_lightning.data.mix import added_counts
from svp_lightning.data.settings import FilterSettings
from svp_lightning.data.store import Store, StoreWriter
from svp_lightning.errors import DataError
from svp_lightning.evaluation.fidelity.rejection import ClassFilter
from svp_lightning.tasks.devices import choose_device
from svp_lightning.tasks.features import ensure_features, feature_stages
from svp_lightning.tasks.sample import ensure_synthetic
from svp_lightning.tasks.session import Session, say

CHUNK_IMAGES = 4096
MARGIN = 1.1
"""Drawn beyond what the rejections so far make likely to suffice."""
SPLIT = "val"
"""Thresholds are set on this split; the test split stays unseen."""


@dataclass(frozen=True)
class Tally:
    """What became of the images of one class, up to the last one kept.

    Attributes:
        looked_at: images drawn and judged.
        wrong_class: taken for another class.
        far: out of the distribution of real images.
        rejected: for either reason.
    """

    looked_at: int
    wrong_class: int
    far: int
    rejected: int


@dataclass(frozen=True)
class _Sieve:
    """The filters of all classes and the network behind them."""

    network: FeatureNetwork
    filters: Mapping[str, ClassFilter]
    config: Config

    def kept(self, pool: Store, name: str, wanted: int) -> tuple[np.ndarray[Any, Any], Tally]:
        """The first ``wanted`` rows of a class that are kept (or fewer), and what was rejected."""
        rows = pool.indices(label=pool.class_names.index(name))
        device = choose_device(self.config.trainer)
        found = describe(self.network, np.asarray(pool.images[rows]), device)
        verdict = self.filters[name](found.features, found.probabilities)
        kept = np.flatnonzero(~verdict.rejected)[:wanted]
        end = int(kept[-1]) + 1 if len(kept) == wanted and wanted else len(rows)
        return rows[kept], Tally(
            looked_at=end,
            wrong_class=int(verdict.wrong_class[:end].sum()),
            far=int(verdict.far[:end].sum()),
            rejected=int(verdict.rejected[:end].sum()),
        )


def ensure_filtered(config: Config, session: Session, store: Store) -> Store:
    """The store of kept images this configuration's mix needs, in the order of the pool.

    Each image is judged for itself, so a smaller ratio's images are a subset of a larger one's.

    Raises:
        DataError: even ``filter.max_draws`` times as many images do not give enough.
    """
    settings = config.augmentation.filter
    assert settings is not None, "the mix filters nothing"
    wanted = added_counts(store.counts("train"), config.augmentation)
    sieve = _sieve(config, session, store, settings)
    pool, kept = _enough(config, session, store, sieve, wanted)
    identity = {
        "pool": pool.sha256,
        "features": ensure_features(config, session, store).name,
        "filter": settings.identity(),
        "counts": wanted,
    }
    make = partial(_write, pool, kept)
    filtered = Store.open(session.artifacts.build("filtered", identity, make))
    say(_summary(filtered))
    return filtered


def filter_stages(config: Config, session: Session, store: Store, added: Store) -> dict[str, Path]:
    """Stage -> artifact behind the added images: pool, network of a filter, and what it kept.

    Judging the pool, one forward pass per image, is no artifact and not among them.

    Args:
        config: of the run.
        session: of the run.
        store: the real images.
        added: the store whose images the mix adds.
    """
    if config.augmentation.filter is None:
        return {"synthetic": added.path}
    wanted = added.manifest.made_by["pool"]
    stages = feature_stages(config, session, store) | {"filter": added.path}
    for path, _ in session.artifacts.finished("synthetic"):
        if Store.open(path).sha256 == wanted:
            stages["synthetic"] = path
    return stages


def rejections(store: Store) -> dict[str, dict[str, int]]:
    """Class name -> :class:`Tally` of a filtered store; empty for any other."""
    found: dict[str, dict[str, int]] = store.manifest.made_by.get("filter", {})
    return found


def _enough(
    config: Config, session: Session, store: Store, sieve: _Sieve, wanted: Mapping[str, int]
) -> tuple[Store, dict[str, tuple[np.ndarray[Any, Any], Tally]]]:
    """The smallest pool tried that leaves the wanted images, and what is kept of it."""
    settings = config.augmentation.filter
    assert settings is not None
    factor = 1.0
    while True:
        ratios = {
            name: getattr(config.augmentation, name) * factor
            for name in ("ratio", "plentiful_ratio")
        }
        augmentation = config.augmentation.model_copy(update=ratios)
        larger = config.model_copy(update={"augmentation": augmentation})
        pool = ensure_synthetic(larger, session, store)
        kept = {name: sieve.kept(pool, name, n) for name, n in wanted.items()}
        shares = {name: len(kept[name][0]) / max(n, 1) for name, n in wanted.items() if n}
        worst = min(shares, key=shares.__getitem__)
        if shares[worst] >= 1:
            return pool, kept
        if factor >= settings.max_draws:
            raise DataError(
                f"The filter rejects too many generated images of {worst}: "
                f"{len(kept[worst][0])} of {wanted[worst]} wanted are left of "
                f"{kept[worst][1].looked_at} drawn.",
                "Train the generator longer, or loosen augmentation.filter.quantile or max_draws.",
            )
        needed = factor / max(shares[worst], 1 / settings.max_draws) * MARGIN
        factor = min(math.ceil(10 * needed) / 10, settings.max_draws)


def _sieve(config: Config, session: Session, store: Store, settings: FilterSettings) -> _Sieve:
    network = load_features(ensure_features(config, session, store))
    device = choose_device(config.trainer)
    filters = {}
    for name in added_counts(store.counts("train"), config.augmentation):
        label = store.class_names.index(name)
        train, heldout = (
            describe(network, np.asarray(store.images[store.indices(split, label)]), device)
            for split in ("train", SPLIT)
        )
        filters[name] = ClassFilter(
            label, train.features, heldout.features, settings.quantile, settings.neighbours
        )
    return _Sieve(network, filters, config)


def _write(
    pool: Store, kept: Mapping[str, tuple[np.ndarray[Any, Any], Tally]], folder: Path
) -> None:
    rows = np.concatenate([part for part, _ in kept.values()])
    writer = StoreWriter(folder, len(rows), pool.image_size)
    for chunk in writer.pending(CHUNK_IMAGES):
        chosen = rows[chunk.start : chunk.stop]
        table: pd.DataFrame = pool.particles.iloc[chosen].reset_index(drop=True)
        writer.write(chunk.start, pool.images[chosen], table)
    tallies = {name: asdict(tally) for name, (_, tally) in kept.items()}
    made_by = pool.manifest.made_by | {"task": "filter", "pool": pool.sha256, "filter": tallies}
    writer.finish(pool.class_names, pool.pixel_size_um, made_by)


def _summary(filtered: Store) -> str:
    parts = [
        f"{t['rejected']:,} of {t['looked_at']:,} {name} ({t['wrong_class']:,} wrong class, "
        f"{t['far']:,} out of distribution)"
        for name, t in rejections(filtered).items()
    ]
    return "  Filter rejected " + "; ".join(parts)
