"""Intervals: of shares, of precision, of the metrics in ``results.json``, and of fidelity measures.

Drawing 12 right answers out of 12 again gives 12 of 12 every time: a bootstrap interval of
[1, 1] that claims a certainty nobody has, and close to 1 percentiles reach too high. The intervals
here do not collapse, and they bound those of precision, recall, AUPRC and their means.

A bootstrap also draws images twice, which a nearest neighbour or an unbiased kernel distance takes
for perfect copies. Halves drawn without replacement have no such twins
(:func:`with_half_sample_intervals`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from svp_lightning.evaluation.counting import Tally, nested
from svp_lightning.evaluation.priors import class_shares
from svp_lightning.evaluation.schema import Estimate

TAILS = (0.025, 0.975)
"""Quantiles at the ends of an interval of 95 %."""

Array = NDArray[Any]
Counts = NDArray[np.integer[Any]]
Shares = NDArray[np.float64]


class Proportion(NamedTuple):
    """A share in [0, 1] with its interval."""

    value: float
    low: float
    high: float


def wilson_interval(successes: Counts, trials: Counts) -> tuple[Shares, Shares]:
    """95 % interval of shares (Wilson 1927); [0, 1] where there is no trial.

    Args:
        successes: any shape.
        trials: the same shape, at least as many.

    Returns:
        Lower and upper ends, in the shape given; they include the observed share.
    """
    z2 = ndtri(TAILS[1]) ** 2
    n = np.maximum(trials, 1)
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    low = np.where(successes > 0, np.clip(centre - half, 0, share), 0.0)
    high = np.where(successes < trials, np.clip(centre + half, share, 1), 1.0)
    return low, high


def precision(called: Counts, images: Counts, label: int, shares: Shares) -> Proportion:
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

    Returns:
        Precision and its 95 % interval; [0, 0] where nothing is called: 0 by convention, not by
        measurement.
    """
    if not called.any():
        return Proportion(0.0, 0.0, 0.0)
    low, high = wilson_interval(called, images)
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


def percentile_intervals(
    redrawn: NDArray[np.float64], class_names: Sequence[str]
) -> dict[str, Any]:
    """``[low, high]``, 95 %, of each metric of :meth:`Tally.redrawn`, in the metrics' shape."""
    ends = np.quantile(redrawn, TAILS, axis=0)
    return nested(ends.T.tolist(), class_names)


def confidence_intervals(
    redrawn: NDArray[np.float64], tally: Tally, prevalence: Mapping[str, float]
) -> dict[str, Any]:
    """The ``ci95`` part of ``results.json``.

    Args:
        redrawn: (R, M) of :meth:`.Tally.redrawn`.
        tally: the test predictions that were redrawn.
        prevalence: class name -> relative frequency the metrics are stated at.

    Returns:
        The shape of the metrics with ``[low, high]`` for each value. Precision, recall and AUPRC
        take the wider of the percentile and the analytic end; their macro means do the same with
        the analytic ends of the classes combined in quadrature.
    """
    ci95 = percentile_intervals(redrawn, tally.class_names)
    errors = nested(redrawn.std(axis=0).tolist(), tally.class_names)
    for metric, of_classes in _analytic(tally, prevalence, errors["per_class"]).items():
        for name, one in zip(tally.class_names, of_classes, strict=True):
            own = ci95["per_class"][name]
            own[metric] = _wider(own[metric], one)
        ci95[f"macro_{metric}"] = _wider(ci95[f"macro_{metric}"], _mean(of_classes))
    return ci95


def _analytic(
    tally: Tally, prevalence: Mapping[str, float], errors: Mapping[str, Mapping[str, float]]
) -> dict[str, list[Proportion]]:
    """``errors``: class name -> metric -> standard error, from redrawn images."""
    names, confusion = tally.class_names, tally.confusion
    shares, ranked = class_shares(prevalence, names), tally.metrics(prevalence)["per_class"]
    images, right = confusion.sum(axis=1), confusion.diagonal()
    low, high = wilson_interval(right, images)
    recall = [Proportion(*map(float, ends)) for ends in zip(right / images, low, high, strict=True)]
    return {
        "precision": [precision(confusion[:, k], images, k, shares) for k in range(len(images))],
        "recall": recall,
        "auprc": [
            average_precision(ranked[name]["auprc"], errors[name]["auprc"], int(n))
            for name, n in zip(names, images, strict=True)
        ],
    }


def average_precision(value: float, error: float, images: int) -> Proportion:
    """An AUPRC with its interval on the logit scale (Boyd, Eng and Page 2013, ECML PKDD).

    The standard error is that of redrawn images. Where all images of the class rank highest, all
    redraws do: the interval is then that of a recall of 1 (Wilson), which has a precision of 1.

    Args:
        value: area under the precision-recall curve.
        error: its standard error.
        images: test images of the class, above 0.
    """
    if math.isclose(value, 1, rel_tol=1e-12):  # rounding
        return Proportion(1.0, float(wilson_interval(np.array(images), np.array(images))[0]), 1.0)
    half = float(ndtri(TAILS[1])) * error / (value * (1 - value))
    return Proportion(value, *(float(expit(logit(value) + side)) for side in (-half, half)))


def _mean(parts: Sequence[Proportion]) -> Proportion:
    """The mean of independent proportions, its ends by MOVER (Zou and Donner 2008)."""
    values, *ends = np.array(parts).T
    below, above = (float(np.linalg.norm(values - end)) / len(parts) for end in ends)
    value = float(values.mean())
    return Proportion(value, max(0.0, value - below), min(1.0, value + above))


def _wider(percentiles: Sequence[float], analytic: Proportion) -> list[float]:
    return [min(percentiles[0], analytic.low), max(percentiles[1], analytic.high)]


def share_of(count: int, total: int) -> Estimate:
    """A share with its Wilson interval."""
    low, high = wilson_interval(np.array(count), np.array(total))
    return Estimate(count / total, float(low), float(high))


def with_half_sample_intervals(
    measure: Callable[[Array, Array], Mapping[str, float]],
    real: Array,
    generated: Array,
    draws: int,
    seed: int,
    limits: Mapping[str, tuple[float, float]],
) -> dict[str, Estimate]:
    """Every value of ``measure`` on both whole sets, ± 1.96 standard errors.

    The delete-half jackknife (Shao & Wu 1989, doi 10.1214/aos/1176347263) estimates the standard
    error as the standard deviation of the measure over random halves. Images count as
    independent; where many come from one run the true intervals are wider.

    Args:
        measure: from two sets (along their first axis) to named numbers; NaN: not defined.
        real: n images or vectors, n at least 6.
        generated: m of them, m at least 6.
        draws: random halves of both sets.
        seed: of the draws.
        limits: name -> lowest and highest value possible; intervals end there.
    """
    whole = measure(real, generated)
    halves = []
    for draw in range(draws):
        generator = np.random.default_rng([seed, draw])
        rows, columns = (generator.permutation(len(s))[: len(s) // 2] for s in (real, generated))
        halves.append(measure(real[rows], generated[columns]))
    found = {}
    for name, value in whole.items():
        error = float(ndtri(TAILS[1])) * float(np.std([half[name] for half in halves], ddof=1))
        low, high = limits[name]
        ends = value, max(value - error, low), min(value + error, high)
        found[name] = Estimate(*(one if math.isfinite(one) else None for one in ends))
    return found
