"""Intervals for measures that a bootstrap would distort.

A bootstrap draws images twice, which a nearest neighbour or an unbiased kernel distance takes for
perfect copies. Halves drawn without replacement have no such twins: the delete-half jackknife
(Shao & Wu 1989, doi 10.1214/aos/1176347263) estimates the standard error as the standard
deviation of the measure over random halves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

Z_95 = 1.959964
Array = NDArray[Any]


@dataclass(frozen=True)
class Estimate:
    """A measure with its 95 % interval."""

    value: float
    low: float
    high: float


def with_half_sample_intervals(
    measure: Callable[[Array, Array], Mapping[str, float]],
    real: Array,
    generated: Array,
    draws: int,
    seed: int,
    limits: Mapping[str, tuple[float, float]],
) -> dict[str, Estimate]:
    """Every value of ``measure`` on both whole sets, ± 1.96 standard errors.

    Images count as independent; where many come from one run the true intervals are wider.

    Args:
        measure: from two sets (along their first axis) to named numbers.
        real: n images or vectors, n at least 4.
        generated: m of them, m at least 4.
        draws: random halves of both sets.
        seed: of the draws.
        limits: name -> lowest and highest value possible; intervals end there.
    """
    whole = measure(real, generated)
    halves = []
    for draw in range(draws):
        generator = np.random.default_rng([seed, draw])
        parts = (generator.permutation(len(s))[: len(s) // 2] for s in (real, generated))
        rows, columns = parts
        halves.append(measure(real[rows], generated[columns]))
    found = {}
    for name, value in whole.items():
        error = Z_95 * float(np.std([half[name] for half in halves], ddof=1))
        low, high = limits[name]
        found[name] = Estimate(value, max(value - error, low), min(value + error, high))
    return found


def wilson(count: int, total: int) -> Estimate:
    """A share with its Wilson interval."""
    low, high = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return Estimate(count / total, float(low), float(high))
