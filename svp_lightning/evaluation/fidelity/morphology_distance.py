"""Differences between the particles of two sets, measure by measure."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, wasserstein_distance

from svp_lightning.evaluation.fidelity.intervals import Estimate, with_half_sample_intervals
from svp_lightning.evaluation.fidelity.morphology import MEASURES, Morphology

SCALARS = len(MEASURES) - 1
MIN_VALUES = 2
LIMITS = {f"{name}/ks": (0.0, 1.0) for name in MEASURES} | {
    f"{name}/w": (0.0, np.inf) for name in MEASURES
}


@dataclass(frozen=True)
class MorphologyDistance:
    """How one measure's distribution differs between generated and real particles.

    Attributes:
        ks: Kolmogorov-Smirnov distance, 0 to 1; for a profile, the mean over its rings.
        wasserstein: earth mover's distance in standard deviations of the real values.
        real_mean: mean of the real values, in the measure's unit.
        generated_mean: of the generated ones.
    """

    ks: Estimate
    wasserstein: Estimate
    real_mean: float
    generated_mean: float


def morphology_distances(
    real: Morphology, generated: Morphology, *, draws: int = 50, seed: int = 0
) -> dict[str, MorphologyDistance]:
    """Distance of every measure that at least two particles of each set have.

    Sets are cut to the smaller one's size, since both distances fall with it.

    Args:
        real: of held-out real images of one class.
        generated: of generated images, or of real training images for the floor.
        draws: random halves for the intervals.
        seed: of the draws.
    """
    a, b = real.columns(), generated.columns()
    size = min(len(a), len(b))
    found = with_half_sample_intervals(_distances, a[:size], b[:size], draws, seed, LIMITS)
    means = [_mean(_scalars(columns), axis=0).tolist() for columns in (a, b)]
    return {
        name: MorphologyDistance(found[f"{name}/ks"], found[f"{name}/w"], *values)
        for name, *values in zip(MEASURES, *means, strict=True)
    }


def _scalars(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 7) measures, the profile reduced to its mean."""
    return np.column_stack([columns[:, :SCALARS], _mean(columns[:, SCALARS:], axis=1)])


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of what is a number; NaN, without a warning, where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _distances(real: NDArray[Any], generated: NDArray[Any]) -> dict[str, float]:
    pairs = [_column_distance(a, b) for a, b in zip(real.T, generated.T, strict=True)]
    rings = _mean(np.array(pairs[SCALARS:]), axis=0)
    values = [*pairs[:SCALARS], tuple(rings)]
    return {
        f"{name}/{kind}": float(value)
        for name, pair in zip(MEASURES, values, strict=True)
        for kind, value in zip(("ks", "w"), pair, strict=True)
    }


def _column_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if min(len(a), len(b)) < MIN_VALUES:
        return np.nan, np.nan
    deviation = a.std()
    shift = wasserstein_distance(a, b)
    scaled = shift / deviation if deviation > 0 else (0.0 if shift == 0 else np.nan)
    return float(ks_2samp(a, b, method="asymp").statistic), float(scaled)
