"""Class shares: those that probabilities answer for, and those in use.

A classifier's probability of a class is as much about how often it saw the class as about the
image: p(k | x) ∝ p(x | k) · π_k with the shares π of its training. Arms of a study train at
different shares, and with three classes even the order in which images are ranked depends on them.
So probabilities are corrected to the shares in use before anything is counted or chosen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.errors import DataError, SettingsError

Shares = NDArray[np.float64]
"""(K,) class shares that sum to 1."""

TOLERANCE = 1e-8
"""Change of every share at which the estimate of the shares has converged."""
MAX_ITERATIONS = 5000
SMALLEST = 1e-12
"""Share of a class that unlabelled images do not show."""


def corrected(probabilities: NDArray[np.floating[Any]], answer_for: Shares, use: Shares) -> Shares:
    """Probabilities at other class shares: p_k · use_k / answer_for_k, each row to sum 1.

    Exact where p is the posterior at ``answer_for`` and only the shares differ (Saerens, Latinne
    and Decaestecker 2002, doi:10.1162/089976602753284446, equation 2.4).

    Args:
        probabilities: (N, K), each row with a positive one.
        answer_for: (K,) shares behind them, positive.
        use: (K,) shares wanted, not negative.

    Returns:
        (N, K) float64.
    """
    weighted = probabilities.astype(np.float64) * (use / answer_for)
    total = weighted.sum(axis=1, keepdims=True)
    # A class with a share of 0 may hold all the probability of an image: nothing else is known.
    return np.where(total > 0, weighted / np.where(total > 0, total, 1), probabilities)


def estimated_shares(probabilities: NDArray[np.floating[Any]], answer_for: Shares) -> Shares:
    """The class shares of unlabelled images, as their probabilities (N, K) make most likely.

    The EM algorithm of Saerens, Latinne and Decaestecker (2002), equation 2.9, from the (K,) shares
    behind them, ``answer_for``. It takes calibrated probabilities and images that look as those of
    training do; then it is consistent. With no image, ``answer_for``.
    """
    share = answer_for
    likelihood = probabilities.astype(np.float64) / answer_for  # up to a factor of each image
    for _ in range(MAX_ITERATIONS if len(probabilities) else 0):
        # The mean of `corrected` at `share`, without an array of all posteriors in each iteration.
        before, share = share, share * ((1 / (likelihood @ share)) @ likelihood) / len(likelihood)
        if np.abs(share - before).max() < TOLERANCE:
            break
    return np.maximum(share, SMALLEST)


def class_shares(prevalence: Mapping[str, float], class_names: Sequence[str]) -> Shares:
    """(K,) share of each class, summing to 1, in the order of ``class_names``.

    Raises:
        SettingsError: ``prevalence`` names other classes, or a frequency is not positive.
    """
    if set(prevalence) != set(class_names):
        raise SettingsError(
            f"The prevalence names {', '.join(prevalence)}, the classes are "
            f"{', '.join(class_names)}.",
            "Give one relative frequency for each class.",
        )
    share = np.array([prevalence[name] for name in class_names], dtype=np.float64)
    if not (np.isfinite(share) & (share > 0)).all():
        raise SettingsError(
            f"prevalence is {dict(prevalence)}.", "Every relative frequency must be above 0."
        )
    return np.asarray(share / share.sum())


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
    return np.asarray((share / counts * len(labels))[labels])


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
