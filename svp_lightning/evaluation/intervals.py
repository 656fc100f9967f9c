"""The intervals of ``results.json``: bootstrap percentiles that never claim certainty.

Where no mistake was seen, every redrawn test set is as perfect as the first, and percentiles
collapse to a point. Precision and recall have intervals that do not
(:mod:`~.proportions`), and these bound theirs and their means'.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.priors import class_shares
from svp_lightning.evaluation.proportions import Proportion, precision, wilson_interval
from svp_lightning.evaluation.tally import percentile_intervals


def confidence_intervals(
    redrawn: NDArray[np.float64],
    confusion: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    prevalence: Mapping[str, float],
) -> dict[str, Any]:
    """The ``ci95`` part of ``results.json``.

    Args:
        redrawn: (R, M) of :meth:`.Tally.redrawn`.
        confusion: (K, K) test images, row the given class.
        class_names: K names.
        prevalence: class name -> relative frequency the metrics are stated at.

    Returns:
        The shape of the metrics with ``[low, high]`` for each value. Precision and recall
        take the wider of the percentile and the analytic end; the macro means of both do
        the same with the analytic ends of the classes combined in quadrature.
    """
    ci95 = percentile_intervals(redrawn, class_names)
    analytic = _analytic(confusion, class_shares(prevalence, class_names))
    for metric, of_classes in analytic.items():
        for name, one in zip(class_names, of_classes, strict=True):
            own = ci95["per_class"][name]
            own[metric] = _wider(own[metric], one)
        ci95[f"macro_{metric}"] = _wider(ci95[f"macro_{metric}"], _mean(of_classes))
    return ci95


def _analytic(
    confusion: NDArray[np.integer[Any]], shares: NDArray[np.float64]
) -> dict[str, list[Proportion]]:
    images, right = confusion.sum(axis=1), confusion.diagonal()
    low, high = wilson_interval(right, images)
    recall = [Proportion(*map(float, ends)) for ends in zip(right / images, low, high, strict=True)]
    precise = [precision(confusion[:, k], images, k, shares) for k in range(len(images))]
    return {"precision": precise, "recall": recall}


def _mean(parts: Sequence[Proportion]) -> Proportion:
    """The mean of independent proportions, its ends by MOVER (:mod:`~.proportions`)."""
    value = float(np.mean([one.value for one in parts]))
    below = np.sqrt(np.sum([(one.value - one.low) ** 2 for one in parts])) / len(parts)
    above = np.sqrt(np.sum([(one.high - one.value) ** 2 for one in parts])) / len(parts)
    return Proportion(value, max(0.0, value - float(below)), min(1.0, value + float(above)))


def _wider(percentiles: Sequence[float], analytic: Proportion) -> list[float]:
    return [min(percentiles[0], analytic.low), max(percentiles[1], analytic.high)]
