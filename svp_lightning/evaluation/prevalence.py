"""Weights that make a test set count as if classes came at their frequency in use."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.errors import DataError, SettingsError


def prevalence_weights(
    labels: NDArray[np.integer[Any]],
    prevalence: Mapping[str, float] | None,
    class_names: Sequence[str],
) -> NDArray[np.float64]:
    """Weight each image by prevalence[class] / (number of images of the class).

    Recall within a class is unchanged; precision becomes what a user would see, where one
    silicone oil droplet may come with 1,000 protein particles.

    Args:
        labels: (N,) class indices.
        prevalence: class name -> relative frequency, in any unit (``1000`` and ``1``). None:
            the images already come as they do in use.
        class_names: K names, in the order of the labels.

    Returns:
        (N,) positive weights with mean 1.

    Raises:
        SettingsError: ``prevalence`` names other classes, or a frequency is not positive.
        DataError: a class has no image to carry its weight.
    """
    if prevalence is None:
        return np.ones(len(labels))
    share = class_shares(prevalence, class_names)
    counts = np.bincount(labels, minlength=len(class_names))
    if (counts == 0).any():
        missing = [name for name, n in zip(class_names, counts, strict=True) if n == 0]
        raise DataError(
            f"No image of {', '.join(missing)} can stand for its prevalence.",
            "Enlarge the test split, or leave the class out.",
        )
    return (share / counts * len(labels))[labels]


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
    return share / share.sum()
