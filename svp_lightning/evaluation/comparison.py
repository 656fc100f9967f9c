"""Differences between two arms of a study, over training seeds and test images together.

Both arms are trained once per seed and tested on the same images. With d_s the difference of
seed s, and D_sr the same after the r-th redraw of the test images, the mean difference varies
for two reasons:

- the test images, shared by all seeds: C, the mean covariance of D_s. and D_t. over s != t;
- the trainings (and what images do to one seed only): s^2 / S, the variance of the d_s over S.

The interval is mean ± t * sqrt(C + s^2 / S), with Welch and Satterthwaite's degrees of freedom
(S - 1 for the second part, the first counts as known; 1 with two seeds, whose spread says too
little to trust it), and never narrower than the images alone make it.

This is a hierarchical bootstrap whose upper level is computed rather than drawn. Drawing seeds
too and taking percentiles, as is often done, has no notion of how few they are, and counts
what images do to one seed three times: where seeds differ much it holds the truth 86 % of the
time with three of them (``experiments/interval_coverage``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ROUNDING = 1e-12
"""Differences of metrics below this are rounding."""


@dataclass(frozen=True)
class PairedSeeds:
    """Mean difference (arm minus control) over seeds.

    Attributes:
        value: the mean of the seeds' differences.
        low, high: 95 % interval.
        p_value: two-sided, of no difference; None where nothing varies but the means differ.
        seeds: number of seeds S. With 1, interval and p-value know the test images only:
            another training may differ by more.
        standardised: mean difference over its standard deviation between seeds (Cohen's d_z);
            None with one seed, or where seeds do not differ.
        wins: share of seeds in which the arm is higher (a tie counts one half).
    """

    value: float
    low: float
    high: float
    p_value: float | None
    seeds: int
    standardised: float | None
    wins: float


def paired_over_seeds(
    observed: NDArray[np.float64], redrawn: NDArray[np.float64], level: float = 0.95
) -> PairedSeeds:
    """Judge the differences of paired runs.

    Args:
        observed: (S,) difference of each seed on the test images as they are.
        redrawn: (S, R) the same on R redrawn test sets; column r is one draw for all seeds.
        level: confidence level.
    """
    mean = float(observed.mean())
    wins = float(((observed > 0) + 0.5 * (observed == 0)).mean())
    if len(observed) == 1:
        low, high = np.quantile(redrawn[0], [(1 - level) / 2, (1 + level) / 2])
        of_images = _bootstrap_p_value(redrawn[0])
        return PairedSeeds(mean, float(low), float(high), of_images, 1, None, wins)
    spread = float(observed.std(ddof=1))
    error, freedom = standard_error(observed, redrawn)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    p_value: float | None
    if error > ROUNDING:
        p_value = float(2 * stats.t.sf(abs(mean) / error, freedom))
    else:
        p_value = 1.0 if abs(mean) <= ROUNDING else None
    standardised = mean / spread if spread > ROUNDING else None
    return PairedSeeds(mean, mean - half, mean + half, p_value, len(observed), standardised, wins)


def standard_error(
    observed: NDArray[np.float64], redrawn: NDArray[np.float64]
) -> tuple[float, float]:
    """Standard error of the mean over at least two seeds, and its degrees of freedom.

    Args:
        observed: (S,).
        redrawn: (S, R).
    """
    seeds = len(observed)
    covariance = np.atleast_2d(np.cov(redrawn))
    of_mean = float(covariance.mean())  # variance of the mean over these very trainings
    between = (covariance.sum() - covariance.trace()) / (seeds * (seeds - 1))
    images = max(0.0, float(between))
    trainings = float(observed.var(ddof=1)) / seeds
    total = max(images + trainings, of_mean)
    if seeds == 2:
        return float(np.sqrt(total)), 1.0
    if trainings <= ROUNDING**2:
        return float(np.sqrt(total)), np.inf
    return float(np.sqrt(total)), (seeds - 1) * (total / trainings) ** 2


def _bootstrap_p_value(redrawn: NDArray[np.float64]) -> float:
    tail = min(np.count_nonzero(redrawn <= 0), np.count_nonzero(redrawn >= 0))
    return min(1.0, 2 * (tail + 1) / (len(redrawn) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): the chance of any false finding holds.

    Args:
        p_values: in [0, 1].

    Returns:
        Adjusted values in the order given, at most 1 and never below the one given.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()
