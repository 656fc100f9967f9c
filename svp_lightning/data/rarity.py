"""Less than there is to train on: fewer images of the rare classes, or fewer classes."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from svp_lightning.data.classes import rare_classes
from svp_lightning.data.composition import real_only
from svp_lightning.data.mix import REAL, Mixture
from svp_lightning.data.store import Store
from svp_lightning.errors import SettingsError, StoreError

UNUSED = ""
"""Split of the images that :func:`limit_rare` leaves out."""


def limit_rare(store: Store, rare_images: int, seed: int) -> Store:
    """The same store with at most ``rare_images`` training images of each rare class.

    Who has few images to train on has few to choose by: of each of these classes validation keeps
    at most half as many (at least one). The test split is untouched.

    Nothing is written: the images left out lose their split in the table in memory, so no
    model sees them, and the store's hash changes, so whatever is made from the view is another
    artifact than what is made from the whole.

    Args:
        store: real images with a train split.
        rare_images: images kept of each class that :func:`rare_classes` names.
        seed: of the choice. Images are kept from the front of one random order per class, so
            50 images are among the 100 of the same seed.

    Raises:
        StoreError: a rare class has fewer training images than asked for.
    """
    counts = store.counts("train")
    rare = rare_classes(counts)
    if short := {name: counts[name] for name in rare if counts[name] < rare_images}:
        held = ", ".join(f"{n:,} of {name}" for name, n in short.items())
        raise StoreError(
            f"data.rare_images={rare_images} asks for more real training images than "
            f"{store.path} has ({held}).",
            f"Choose at most {min(short.values())}, or a larger scale.",
        )
    split = store.particles["split"].to_numpy(dtype=object, copy=True)
    limits = {"train": rare_images, "val": max(1, rare_images // 2)}
    for name, (part, most) in product(rare, limits.items()):
        label = store.class_names.index(name)
        order = np.random.default_rng([seed, label]).permutation(store.indices(part, label))
        split[order[most:]] = UNUSED
    limit = {"rare_images": rare_images, "rare_seed": seed, "limits": limits}
    return store.changed({"split": split}, limit)


def only_classes(mixture: Mixture, class_names: Sequence[str]) -> Mixture:
    """The rows of some classes, each named once, relabelled in that order.

    Raises:
        SettingsError: the data has no such class.
    """
    if unknown := [name for name in class_names if name not in mixture.class_names]:
        raise SettingsError(
            f"generator.classes names {', '.join(unknown)}; the data has the classes "
            f"{', '.join(mixture.class_names)}.",
            "Name classes of the data, or use all or rare.",
        )
    if not class_names or len(set(class_names)) < len(class_names):
        raise SettingsError(
            f"generator.classes must name at least one class, each once, not {list(class_names)}.",
            "Name classes of the data, or use all or rare.",
        )
    old = [mixture.class_names.index(name) for name in class_names]
    new_label = np.full(len(mixture.class_names), -1)
    new_label[old] = np.arange(len(old))
    kept = new_label[mixture.label] >= 0
    return replace(
        mixture,
        store_id=mixture.store_id[kept],
        row=mixture.row[kept],
        label=new_label[mixture.label[kept]],
        class_names=tuple(class_names),
        added_row=mixture.added_row[kept],
        composition=real_only(mixture.composition.shares[REAL, old]),
        real={name: mixture.real[name] for name in class_names},
        added={name: mixture.added[name] for name in class_names},
        # As where no class is rare: each counts.
        rare=tuple(name for name in class_names if name in mixture.rare) or tuple(class_names),
    )
