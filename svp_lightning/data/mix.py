"""Training rows: real images of the train split, and what is added to or asked of them.

All arms share one real training set and one number of optimiser steps, so that a gain can be
distinguished from its controls. This module decides which images are added to the rare classes
(copies, or images of a pool) and to the others, what batches consist of, and how the loss treats
each image.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from svp_lightning.data.augmentation import AugmentationSettings
from svp_lightning.data.classes import rare_classes
from svp_lightning.data.composition import Composition, compose, real_only
from svp_lightning.data.origins import check_pool, refuse_generated, refuse_held_out
from svp_lightning.data.store import Store
from svp_lightning.errors import SettingsError, StoreError

REAL, SYNTHETIC = 0, 1
"""Values of :attr:`Mixture.store_id`, and positions in :attr:`Mixture.stores`."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """The rows a model trains on.

    Attributes:
        stores: the real store, then the synthetic one if its images are used.
        store_id: (M,) uint8, the store of each row (:data:`REAL` or :data:`SYNTHETIC`).
        row: (M,) int64, row in that store; a row may occur more than once.
        label: (M,) int64 index into ``class_names``.
        class_names: class names, in the order of the stores.
        added_row: (M,) bool, whether a row was added to the real images (copies are).
        composition: of the batches.
        logit_shift: (K,) float32 added to the logits in the loss, or None.
        real: class name -> real images, copies not counted.
        added: class name -> images added to them (synthetic ones, or copies); rows of hard
            negatives, which are only drawn more often, are none.
        rare: the classes that ``augmentation.ratio`` applies to.
    """

    stores: tuple[Store, ...]
    store_id: NDArray[np.uint8]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    class_names: tuple[str, ...]
    added_row: NDArray[np.bool_]
    composition: Composition
    logit_shift: NDArray[np.float32] | None
    real: dict[str, int]
    added: dict[str, int]
    rare: tuple[str, ...]

    @property
    def group(self) -> NDArray[np.int64]:
        """(M,) position of each row in the flattened (2, K) shares of the composition."""
        return np.asarray(self.label + self.added_row * len(self.class_names))

    @property
    def trained_shares(self) -> NDArray[np.float64]:
        """(K,) class shares that the softmax of a classifier answers for, summing to 1.

        The shares of the draws times the weights in the loss. Trained with a logit shift of
        tau * log(share), a softmax without it answers for share ** (1 - tau), normalised.
        """
        shares = self.composition.class_shares
        if self.logit_shift is not None:
            shares = shares * np.exp(-self.logit_shift.astype(np.float64))
        return np.asarray(shares / shares.sum())

    @property
    def synthetic(self) -> Store | None:
        """The store of generated images, if any are used."""
        return self.stores[SYNTHETIC] if len(self.stores) > 1 else None

    def __len__(self) -> int:
        return len(self.row)


def added_counts(
    train_counts: Mapping[str, int], rare: Collection[str], ratio: float, plentiful_ratio: float
) -> dict[str, int]:
    """Images to be added to each class that gets any: its ratio times its real images, rounded.

    ``train_counts``: class name -> real training images, in class order; ``ratio`` is that of the
    ``rare`` classes, ``plentiful_ratio`` of the others.
    """
    ratios = {c: ratio if c in rare else plentiful_ratio for c in train_counts}
    # Half up, not half to even: 1x is never fewer than twice 0.5x by a rounding whim.
    return {
        c: int(np.floor(added * train_counts[c] + 0.5))
        for c, added in ratios.items()
        if c in rare or added > 0
    }


def drawn_and_simulated(
    counts: Mapping[str, int], simulated: Collection[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Of the counts of added images those that a generator draws, and those of simulated classes.

    Raises:
        SettingsError: ``simulated`` names a class that gets no images, or leaves none to the
            generator.
    """
    if unknown := sorted(set(simulated) - set(counts)):
        raise SettingsError(
            f"augmentation.simulated_classes: no images are added to {', '.join(unknown)}.",
            f"Name some of {', '.join(counts)}.",
        )
    drawn = {name: count for name, count in counts.items() if name not in simulated}
    if not drawn:
        raise SettingsError(
            "augmentation.simulated_classes leaves no class to the generator.",
            "Use augmentation=simulated.",
        )
    return drawn, {name: count for name, count in counts.items() if name in simulated}


def mix(
    real: Store,
    synthetic: Store | None,
    settings: AugmentationSettings,
    seed: int,
    hardest: NDArray[np.int64] | None = None,
    rare: tuple[str, ...] | None = None,
) -> Mixture:
    """The training rows of one arm of the comparison.

    Synthetic images are taken from the front of the pool, so the rows of a smaller ratio
    are a subset of those of a larger one; copies are nested in the same way.

    Args:
        real: store with a train split.
        synthetic: pool of images, for arms that need one.
        settings: what is added, and how rows are drawn and weighted.
        seed: decides which real images are copied when the ratio is not whole.
        hardest: (n,) training rows of ``real``, those most like a rare class first, which
            ``hard_negatives`` need.
        rare: the rare classes; None: those of ``real``.

    Raises:
        StoreError: the pool is missing, foreign, not synthetic or too small, or synthetic
            images sit in the real store.
    """
    base = train_rows(real)
    base = replace(base, rare=rare or base.rare)
    rows = _enlarge(base, real, synthetic, settings, seed)
    negatives = dict.fromkeys(rows.class_names, 0)
    if settings.hard_negatives > 0 and hardest is not None:
        found = _negatives(rows, hardest, settings.hard_negatives)
        rows = replace(_extend(rows, rows.stores, REAL, found), added=rows.added)
        negatives |= {name: len(chosen) for name, chosen in found.items()}
    hard = np.array([count > 0 for count in negatives.values()])
    counts = np.bincount(rows.group, minlength=2 * len(rows.class_names)).reshape(2, -1)
    composed = compose(counts, rows.class_names, settings, hard)
    shift = None
    if settings.loss == "logit_adjustment":  # Menon et al. 2021, eq. 10
        shift = (settings.tau * np.log(composed.class_shares)).astype(np.float32)
    return replace(rows, composition=composed, logit_shift=shift)


def train_rows(real: Store, balanced: bool = False) -> Mixture:
    """Every labelled real image of the train split, and nothing else.

    ``balanced`` draws every class equally often, as for a class-conditional generator.

    Raises:
        StoreError: a class has no training image, or the store holds synthetic images.
    """
    refuse_generated(real)
    rows = real.indices(split="train")
    rows = rows[real.labels[rows] >= 0]
    if why := real.manifest.made_by.get("not_split"):
        raise StoreError(f"{real.path} has no training images: it was not split. {why}")
    label = real.labels[rows]
    counts = np.bincount(label, minlength=len(real.class_names))
    if not counts.all():
        lacking = [c for c, n in zip(real.class_names, counts, strict=True) if n == 0]
        raise StoreError(
            f"{real.path} has no training images of {', '.join(lacking) or 'any class'}.",
            "Add images of this class or change the split.",
        )
    real_counts = dict(zip(real.class_names, counts.tolist(), strict=True))
    return Mixture(
        stores=(real,),
        store_id=np.zeros(len(rows), dtype=np.uint8),
        row=rows,
        label=label,
        class_names=real.class_names,
        added_row=np.zeros(len(rows), dtype=np.bool_),
        composition=real_only(np.full(len(counts), 1 / len(counts)) if balanced else counts),
        logit_shift=None,
        real=real_counts,
        added=dict.fromkeys(real.class_names, 0),
        rare=rare_classes(real_counts),
    )


def check_training_rows(mixture: Mixture) -> None:
    """Refuse rows a model must never train on.

    Raises:
        StoreError: a real row outside the train split, or a synthetic image under a wrong
            name (anything but origin ``synthetic`` in the synthetic store).
    """
    for store_id, store in enumerate(mixture.stores):
        rows = mixture.row[mixture.store_id == store_id]
        if store_id == REAL:
            held_out = rows[(store.column("split") != "train").to_numpy()[rows]]
            if len(held_out):
                raise StoreError(
                    f"{len(held_out)} training rows of {store.path} are outside its train "
                    f"split (first: row {held_out[0]}).",
                    "Train on the rows of mix() or train_rows() only.",
                )
            refuse_generated(store)
        else:
            refuse_held_out(store)


def _enlarge(
    base: Mixture,
    real: Store,
    synthetic: Store | None,
    settings: AugmentationSettings,
    seed: int,
) -> Mixture:
    if settings.extra == "duplicate":
        return _extend(base, (real,), REAL, _copies(base, settings, seed))
    if settings.needs_pool:
        pool = check_pool(real, synthetic, settings.extra)
        return _extend(base, (real, pool), SYNTHETIC, _from_pool(pool, _added(base, settings)))
    return base


def _added(base: Mixture, settings: AugmentationSettings) -> dict[str, int]:
    return added_counts(base.real, base.rare, settings.ratio, settings.plentiful_ratio)


def _extend(
    base: Mixture,
    stores: tuple[Store, ...],
    store_id: int,
    rows: dict[str, NDArray[np.int64]],
) -> Mixture:
    added = np.concatenate(list(rows.values()))
    labels = [np.full(len(r), base.class_names.index(c)) for c, r in rows.items()]
    return replace(
        base,
        stores=stores,
        store_id=np.concatenate([base.store_id, np.full(len(added), store_id, np.uint8)]),
        row=np.concatenate([base.row, added]),
        label=np.concatenate([base.label, *labels]),
        added_row=np.concatenate([base.added_row, np.ones(len(added), np.bool_)]),
        added={**base.added, **{c: len(r) for c, r in rows.items()}},
    )


def _negatives(
    base: Mixture, hardest: NDArray[np.int64], share: float
) -> dict[str, NDArray[np.int64]]:
    """The first ``share`` of the rows ``hardest`` of each class that is not rare, one at least."""
    store, found = base.stores[REAL], {}
    for name in (c for c in base.class_names if c not in base.rare):
        of_class = hardest[store.labels[hardest] == store.class_names.index(name)]
        found[name] = of_class[: max(round(share * len(of_class)), 1)]
    return found


def _copies(
    base: Mixture, settings: AugmentationSettings, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Rows to repeat: whole passes over a class in random order, then part of one more."""
    copies = {}
    for name, wanted in _added(base, settings).items():
        label = base.class_names.index(name)
        members = base.row[base.label == label]
        order = np.random.default_rng([seed, label]).permutation(members)
        copies[name] = np.resize(order, wanted)
    return copies


def _from_pool(pool: Store, wanted: dict[str, int]) -> dict[str, NDArray[np.int64]]:
    rows = {c: pool.indices(label=pool.class_names.index(c))[:n] for c, n in wanted.items()}
    short = {c: (len(rows[c]), n) for c, n in wanted.items() if len(rows[c]) < n}
    if short:
        detail = ", ".join(f"{c}: {have} of {need}" for c, (have, need) in short.items())
        raise StoreError(
            f"The synthetic store {pool.path} is too small ({detail}).",
            "Sample more images or lower augmentation.ratio.",
        )
    return rows
