"""Intervals of shares that stay honest where no error, or nothing but errors, was seen.

Drawing 12 right answers out of 12 again gives 12 of 12 every time: a bootstrap interval of
[1, 1] that claims a certainty nobody has. The intervals here do not collapse.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Counts = NDArray[np.integer[Any]]
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Proportion:
    """A share in [0, 1] with its interval."""

    value: float
    low: float
    high: float


def wilson_interval(
    successes: Counts, trials: Counts, level: float = 0.95
) -> tuple[Shares, Shares]:
    """Interval of shares (Wilson 1927); [0, 1] where there is no trial.

    Args:
        successes: any shape.
        trials: the same shape, at least as many.
        level: confidence level, above 0 and below 1.

    Returns:
        Lower and upper ends, in the shape given; they include the observed share.
    """
    z2 = norm.ppf((1 + level) / 2) ** 2
    n = np.maximum(trials, 1)
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    low = np.where(successes > 0, np.clip(centre - half, 0, share), 0.0)
    high = np.where(successes < trials, np.clip(centre + half, share, 1), 1.0)
    return low, high


def precision(
    called: Counts, images: Counts, label: int, shares: Shares, level: float = 0.95
) -> Proportion:
    """Precision of a class at a prevalence, from how much of each class is called it.

    With r_j the share of class j that is called class k, and s_j the prevalence of class j,
    precision is s_k r_k / sum_j(s_j r_j). Its interval combines the Wilson intervals of the
    r_j: the sum of the false calls by MOVER (Zou and Donner 2008, doi:10.1002/sim.3095), their
    ratio to the true ones by MOVER-R (Donner and Zou 2012, doi:10.1177/0962280210387717).

    Args:
        called: (K,) test images of each class that are called class ``label``.
        images: (K,) test images of each class, above 0.
        label: k.
        shares: (K,) prevalence of each class, in any unit.
        level: confidence level.

    Returns:
        Precision; [0, 0] where nothing is called: 0 by convention, not by measurement.
    """
    if not called.any():
        return Proportion(0.0, 0.0, 0.0)
    low, high = wilson_interval(called, images, level)
    rate = called / images
    others = np.arange(len(images)) != label
    false = float(shares[others] @ rate[others])
    below = np.sqrt(np.sum((shares * (rate - low))[others] ** 2))
    above = np.sqrt(np.sum((shares * (high - rate))[others] ** 2))
    true, *own = (float(shares[label] * r) for r in (rate[label], low[label], high[label]))
    ratio = _ratio_interval(
        (false, max(0.0, false - float(below)), false + float(above)), (true, own[0], own[1])
    )
    value = true / (true + false)
    return Proportion(value, min(value, 1 / (1 + ratio[1])), max(value, 1 / (1 + ratio[0])))


def _ratio_interval(
    numerator: tuple[float, float, float], denominator: tuple[float, float, float]
) -> tuple[float, float]:
    """MOVER-R from (value, low, high) of two independent non-negative estimates."""
    (a, a_low, a_high), (b, b_low, b_high) = numerator, denominator
    if b == 0:  # the observed ratio has no value: what the ends allow
        return a_low / b_high, np.inf
    root = (a * b) ** 2 - a_low * b_high * (2 * a - a_low) * (2 * b - b_high)
    if b_high >= 2 * b:
        low = a_low / b_high
    else:
        low = (a * b - np.sqrt(max(0.0, root))) / (b_high * (2 * b - b_high))
    if b_low == 0:
        return low, np.inf
    root = (a * b) ** 2 - a_high * b_low * (2 * a - a_high) * (2 * b - b_low)
    return low, (a * b + np.sqrt(max(0.0, root))) / (b_low * (2 * b - b_low))
