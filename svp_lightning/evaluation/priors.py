"""Class shares in use, and weights that make a test set count as if its classes came in them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.errors import DataError, SettingsError


def class_shares(
    prevalence: Mapping[str, float], class_names: Sequence[str]
) -> NDArray[np.float64]:
    """(K,) share of each class, summing to 1, in the order of ``class_names``.

    Raises:
        SettingsError: ``prevalence`` names other classes, or a frequency is not positive.
    """
    if set(prevalence) != set(class_names):
        raise SettingsError(
            f"prevalence names {', '.join(prevalence)}; the classes are {', '.join(class_names)}.",
            "Give one relative frequency for each class.",
        )
    share = np.array([prevalence[name] for name in class_names], dtype=np.float64)
    if not (np.isfinite(share) & (share > 0)).all():
        raise SettingsError(
            f"prevalence is {dict(prevalence)}.", "Every relative frequency must be above 0."
        )
    normalised: NDArray[np.float64] = share / share.sum()
    return normalised


def prevalence_weights(
    labels: NDArray[np.integer[Any]], prevalence: Mapping[str, float], class_names: Sequence[str]
) -> NDArray[np.float64]:
    """(N,) positive weights with mean 1: the share of an image's class over its images.

    Recall within a class is unchanged; precision becomes what a user would see, where one
    silicone oil droplet may come with 1,000 protein particles.

    Args:
        labels: (N,) class indices.
        prevalence: class name -> relative frequency, in any unit (``1000`` and ``1``).
        class_names: K names, in the order of the labels.

    Raises:
        SettingsError: see :func:`class_shares`.
        DataError: a class has no image to carry its weight.
    """
    share = class_shares(prevalence, class_names)
    counts = np.bincount(labels, minlength=len(class_names))
    refuse_missing(counts, class_names)
    weight: NDArray[np.float64] = (share / counts * len(labels))[labels]
    return weight


def refuse_missing(counts: NDArray[np.integer[Any]], class_names: Sequence[str]) -> None:
    """Refuse a set of images that lacks a class.

    Raises:
        DataError: a class has no image.
    """
    if missing := [name for name, n in zip(class_names, counts, strict=True) if n == 0]:
        raise DataError(
            f"The labelled images hold none of {', '.join(missing)}; every class needs one at "
            "least.",
            "Enlarge the split, or leave the class out of the data.",
        )
