"""Differences between two arms of a study, over training seeds and test images together.

Both arms are trained once per seed and tested on the same images. With d_s the difference of
seed s, and D_sr the same after the r-th redraw of the test images, the mean difference varies
for two reasons:

- the test images, shared by all seeds: C, the mean covariance of D_s. and D_t. over s != t;
- the trainings (and what images do to one seed only): s^2 / S, the variance of the d_s over S.

The interval is mean ± t * sqrt(C + s^2 / S), with Welch and Satterthwaite's degrees of freedom
(S - 1 for the second part, the first counts as known; 1 with two seeds, whose spread says too
little to trust it), and never narrower than the images alone make it.

Three values are near to one another by luck now and then, and among many arms there is always
such a one: with its own small s^2 and the many degrees of freedom that follow, it would be called
different at p = 1e-10. So s^2 is at least its mean over the arms that share a control
(:func:`shared_trainings`).

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


@dataclass(frozen=True)
class Trainings:
    """How much a difference varies from seed to seed.

    Attributes:
        variance: s^2.
        freedom: degrees of freedom it was estimated with.
    """

    variance: float
    freedom: float


def shared_trainings(observed: Sequence[NDArray[np.float64]]) -> Trainings:
    """The mean s^2 of A arms against one control.

    If all trainings vary alike, the differences of two arms correlate by 1/2 (they share the
    control's part), their variances by 1/4, and the mean has (S - 1) 4 A / (A + 3) degrees of
    freedom: those of one arm at A = 1, four times as many at most.

    Args:
        observed: for each arm (S,), S at least 2.
    """
    arms = len(observed)
    variance = float(np.mean([values.var(ddof=1) for values in observed]))
    freedom = min(len(values) for values in observed) - 1
    return Trainings(variance, freedom * 4 * arms / (arms + 3))


def paired_over_seeds(
    observed: NDArray[np.float64],
    redrawn: NDArray[np.float64],
    level: float = 0.95,
    shared: Trainings | None = None,
) -> PairedSeeds:
    """Judge the differences of paired runs.

    Args:
        observed: (S,) difference of each seed on the test images as they are.
        redrawn: (S, R) the same on R redrawn test sets; column r is one draw for all seeds.
        level: confidence level.
        shared: of the arms with the same control; the least that seeds are taken to vary.
    """
    mean = float(observed.mean())
    wins = float(((observed > 0) + 0.5 * (observed == 0)).mean())
    if len(observed) == 1:
        low, high = np.quantile(redrawn[0], [(1 - level) / 2, (1 + level) / 2])
        of_images = _bootstrap_p_value(mean, redrawn[0])
        return PairedSeeds(mean, float(low), float(high), of_images, 1, None, wins)
    spread = float(observed.std(ddof=1))
    error, freedom = standard_error(observed, redrawn, shared)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    p_value: float | None
    if error > ROUNDING:
        p_value = float(2 * stats.t.sf(abs(mean) / error, freedom))
    else:
        p_value = 1.0 if abs(mean) <= ROUNDING else None
    standardised = mean / spread if spread > ROUNDING else None
    return PairedSeeds(mean, mean - half, mean + half, p_value, len(observed), standardised, wins)


def standard_error(
    observed: NDArray[np.float64],
    redrawn: NDArray[np.float64],
    shared: Trainings | None = None,
) -> tuple[float, float]:
    """Standard error of the mean over at least two seeds, and its degrees of freedom.

    Args:
        observed: (S,).
        redrawn: (S, R).
        shared: as in :func:`paired_over_seeds`.
    """
    seeds = len(observed)
    covariance = np.atleast_2d(np.cov(redrawn))
    of_mean = float(covariance.mean())  # variance of the mean over these very trainings
    between = (covariance.sum() - covariance.trace()) / (seeds * (seeds - 1))
    images = max(0.0, float(between))
    spread = Trainings(float(observed.var(ddof=1)), seeds - 1)
    if shared is not None and shared.variance > spread.variance:
        spread = shared
    trainings = spread.variance / seeds
    total = max(images + trainings, of_mean)
    if seeds == 2:
        return float(np.sqrt(total)), 1.0
    if trainings <= ROUNDING**2:
        return float(np.sqrt(total)), np.inf
    return float(np.sqrt(total)), spread.freedom * (total / trainings) ** 2


def _bootstrap_p_value(mean: float, redrawn: NDArray[np.float64]) -> float | None:
    """How often redraws fall on the other side of 0; where none does, the normal tail.

    R redraws cannot say less than 2 / (R + 1), which times the number of comparisons is never
    small: all of many clear differences would go undetected. None where nothing varies.
    """
    tail = min(np.count_nonzero(redrawn <= 0), np.count_nonzero(redrawn >= 0))
    counted = min(1.0, 2 * (tail + 1) / (len(redrawn) + 1))
    if tail:
        return counted
    deviation = float(redrawn.std(ddof=1)) if len(redrawn) > 1 else 0.0
    if deviation <= ROUNDING:
        return None
    return min(counted, float(2 * stats.norm.sf(abs(mean) / deviation)))


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
