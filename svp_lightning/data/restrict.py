"""The part of a mixture that belongs to some of its classes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from svp_lightning.data.mix import Mixture
from svp_lightning.errors import SettingsError


def only_classes(mixture: Mixture, class_names: Sequence[str]) -> Mixture:
    """The rows of ``class_names``, relabelled in that order.

    Args:
        mixture: the rows.
        class_names: some of its classes, each once.

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
    weights, of_classes = mixture.sampling_weights, mixture.class_weights
    return replace(
        mixture,
        store_id=mixture.store_id[kept],
        row=mixture.row[kept],
        label=new_label[mixture.label[kept]],
        class_names=tuple(class_names),
        sampling_weights=None if weights is None else weights[kept],
        class_weights=None if of_classes is None else of_classes[old],
        real={name: mixture.real[name] for name in class_names},
        added={name: mixture.added[name] for name in class_names},
        # As where no class is rare: each counts.
        rare=tuple(name for name in class_names if name in mixture.rare) or tuple(class_names),
    )
