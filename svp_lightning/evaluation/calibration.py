"""Whether a probability of 0.9 is right nine times in ten.

Calibration error as Guo et al. (2017, arXiv 1706.04599) define it, and its mean over classes
(Kull et al. 2019, arXiv 1910.12656), without which the common class would be all one sees;
Brier score (1950); temperature scaling, fitted on validation images and judged on test images.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from svp_lightning.evaluation.metrics import check_predictions

BINS = 15
SMALLEST = np.finfo(np.float32).tiny
TEMPERATURES = (0.05, 20.0)

Labels = NDArray[np.integer[Any]]
Scores = NDArray[np.floating[Any]]
Weights = NDArray[np.floating[Any]]


def fit_temperature(labels: Labels, probabilities: Scores, weights: Weights) -> float:
    """The temperature T that makes softmax(log p / T) fit the labels best (log loss).

    Args:
        labels: (N,) class indices of validation images.
        probabilities: (N, K).
        weights: (N,) how much each image counts.

    Returns:
        T in :data:`TEMPERATURES`; above 1 the classifier had been too sure.
    """

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_temperature)))
        own = np.maximum(scaled[np.arange(len(labels)), labels], SMALLEST)
        return float(-np.average(np.log(own), weights=weights))

    low, high = (float(np.log(end)) for end in TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(probabilities: Scores, temperature: float) -> NDArray[np.float64]:
    """(N, K) probabilities softmax(log p / T); the order of a row's classes stays."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST)) / temperature
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled /= scaled.sum(axis=1, keepdims=True)
    return np.asarray(scaled, dtype=np.float64)


def calibration(
    labels: Labels, probabilities: Scores, class_names: Sequence[str], weights: Weights
) -> dict[str, Any]:
    """How far probabilities are from frequencies.

    Args:
        labels: (N,) class indices.
        probabilities: (N, K).
        class_names: K names.
        weights: (N,) how much each image counts.

    Returns:
        ``ece`` (of the most probable class, in [0, 1]), ``classwise_ece`` (mean over the
        classes' own), ``brier`` (mean squared distance to the one-hot label, in [0, 2]) and
        ``reliability``: class name -> list of bins, each ``[mean probability, observed
        frequency, share of the weight]``.

    Raises:
        DataError: see :func:`~.metrics.classification_metrics`.
    """
    check_predictions(labels, probabilities, class_names, weights)
    top = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    per_class = {
        name: reliability(labels == k, probabilities[:, k], weights)
        for k, name in enumerate(class_names)
    }
    target = labels[:, None] == np.arange(len(class_names))
    return {
        "ece": expected_error(reliability(right, top, weights)),
        "classwise_ece": float(np.mean([expected_error(bins) for bins in per_class.values()])),
        "brier": float(np.average(np.square(probabilities - target).sum(axis=1), weights=weights)),
        "reliability": {name: bins.tolist() for name, bins in per_class.items()},
    }


def reliability(
    truth: NDArray[np.bool_], probability: Scores, weights: Weights
) -> NDArray[np.float64]:
    """Mean probability, observed frequency and share of the weight in equal-width bins.

    Returns:
        (B, 3), B at most :data:`BINS`: bins without images are left out.
    """
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    sums = [np.bincount(place, values * weights, BINS) for values in (probability, truth)]
    total = np.bincount(place, weights, BINS)
    held = total > 0
    columns = [part[held] / total[held] for part in sums]
    return np.stack([*columns, total[held] / total.sum()], axis=1)


def expected_error(bins: NDArray[np.float64]) -> float:
    """Expected calibration error of :func:`reliability`: the mean gap over the weight."""
    return float(bins[:, 2] @ np.abs(bins[:, 0] - bins[:, 1]))
