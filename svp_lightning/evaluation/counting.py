"""Counts of each particle class in an unlabelled run, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2

from svp_lightning.errors import DataError

UNCERTAIN = "uncertain"
"""Row of images whose largest class probability is below the threshold."""


def tally_classes(
    probabilities: NDArray[np.floating[Any]], uncertain_below: float
) -> NDArray[np.int64]:
    """Count images by predicted class; tallies of several batches may be added up.

    Args:
        probabilities: (N, K).
        uncertain_below: images whose largest probability is lower count as uncertain only.

    Returns:
        (K + 1,) counts, the uncertain images last.
    """
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    uncertain = probabilities.max(axis=1) < uncertain_below
    return np.bincount(np.where(uncertain, num_classes, predicted), minlength=num_classes + 1)


def count_table(
    tally: NDArray[np.integer[Any]], class_names: Sequence[str], level: float = 0.95
) -> pd.DataFrame:
    """Intervals of counts and shares.

    ``count_low`` and ``count_high`` are the exact Poisson interval of the expected count in
    the imaged volume (Garwood 1936): divide by that volume, in mL, for a concentration.
    ``share_low`` and ``share_high`` are Wilson's interval of the share of all particles
    (Wilson 1927). Neither includes the classifier's own mistakes.

    Args:
        tally: (K + 1,) of :func:`tally_classes`.
        class_names: K names.
        level: confidence level, above 0 and below 1.

    Returns:
        One row per class and one named :data:`UNCERTAIN`, with columns class, count,
        count_low, count_high, share, share_low, share_high.

    Raises:
        DataError: there is no image.
    """
    total = int(tally.sum())
    if total == 0:
        raise DataError("There is no image to count.", "Check that the run holds particles.")
    count_low, count_high = poisson_interval(tally, level)
    shares = [
        binomtest(int(n), total).proportion_ci(confidence_level=level, method="wilson")
        for n in tally
    ]
    return pd.DataFrame(
        {
            "class": [*class_names, UNCERTAIN],
            "count": tally.astype(np.int64),
            "count_low": count_low,
            "count_high": count_high,
            "share": tally / total,
            "share_low": [share.low for share in shares],
            "share_high": [share.high for share in shares],
        }
    )


def poisson_interval(
    counts: NDArray[np.integer[Any]], level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact interval of the expected count behind each count (Garwood 1936).

    Args:
        counts: any shape, not below 0.
        level: confidence level, above 0 and below 1.

    Returns:
        Lower and upper bounds, of the same shape.
    """
    tail = (1 - level) / 2
    # chi2 has no quantile at 0 degrees of freedom: the lower bound of a count of 0 is 0.
    low = np.where(counts > 0, chi2.ppf(tail, 2 * np.maximum(counts, 1)) / 2, 0.0)
    high = chi2.ppf(1 - tail, 2 * counts + 2) / 2
    return np.asarray(low), np.asarray(high)
