"""What validation images decide and test images judge: a temperature, and working points.

Calibration error as Guo et al. (2017, arXiv 1706.04599) define it, and its mean over classes
(Kull et al. 2019, arXiv 1910.12656), without which the common class would be all one sees;
Brier score (1950).

``recall_at_precision_95`` picks its threshold on the test images themselves: the best any
threshold could do. In use the threshold is fixed before, so validation images choose it here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from svp_lightning.evaluation.counting import check_predictions, is_precise, precision_recall
from svp_lightning.evaluation.intervals import precision, wilson_interval
from svp_lightning.evaluation.priors import class_shares, prevalence_weights

BINS = 15
SMALLEST = np.finfo(np.float32).tiny
TEMPERATURES = (0.05, 20.0)

Labels = NDArray[np.integer[Any]]
Scores = NDArray[np.floating[Any]]
Weights = NDArray[np.floating[Any]]
Split = tuple[Labels, Scores]
"""(N,) class indices and (N, K) probabilities of a split."""


def calibration_of(
    validation: Split, test: Split, prevalence: Mapping[str, float], class_names: Sequence[str]
) -> dict[str, Any]:
    """The ``calibration`` part of ``results.json``.

    Args:
        validation: fits the temperature.
        test: judges its probabilities as they are, and after temperature scaling.
        prevalence: class name -> relative frequency; both splits are weighted to it.
        class_names: K names.

    Raises:
        DataError: see :class:`~.counting.Tally`.
    """
    weights = [
        prevalence_weights(labels, prevalence, class_names) for labels, _ in (validation, test)
    ]
    temperature = fit_temperature(*validation, weights[0])
    scaled = apply_temperature(test[1], temperature)
    return {
        "temperature": temperature,
        "as_is": calibration(*test, class_names, weights[1]),
        "scaled": calibration(test[0], scaled, class_names, weights[1]),
    }


def fit_temperature(labels: Labels, probabilities: Scores, weights: Weights) -> float:
    """The temperature T that makes softmax(log p / T) fit the labels best (log loss).

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
    """How far probabilities are from frequencies; see :class:`~.schema.Calibrated`.

    Raises:
        DataError: see :class:`~.counting.Tally`.
    """
    check_predictions(labels, probabilities, class_names)
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


def choose_threshold(
    truth: NDArray[np.bool_], score: Scores, weights: Weights
) -> tuple[float, float, float] | None:
    """The threshold of largest recall whose precision is at least 95 %.

    Args:
        truth: (N,) whether the image is of the class; at least one is.
        score: (N,) probability of the class.
        weights: (N,) how much each image counts.

    Returns:
        Threshold (an image counts from it on), precision and recall there; None where no
        threshold is precise enough. Of equal recalls, the strictest threshold.
    """
    found, recall, threshold = precision_recall(truth, score, weights)
    reached = np.where(is_precise(found), recall, 0.0)
    best = int(reached.argmax())
    return (
        (float(threshold[best]), float(found[best]), float(recall[best])) if reached[best] else None
    )


def working_points(
    validation: Split, test: Split, prevalence: Mapping[str, float], class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The ``working_points`` part of ``results.json``, by class name.

    Args:
        validation: chooses the thresholds.
        test: judges them.
        prevalence: class name -> relative frequency; both splits are weighted to it.
        class_names: K names.

    Raises:
        DataError: see :class:`~.counting.Tally`.
        SettingsError: see :func:`~.priors.class_shares`.
    """
    for split in (validation, test):
        check_predictions(*split, class_names)
    weights = prevalence_weights(validation[0], prevalence, class_names)
    shares = class_shares(prevalence, class_names)
    images = np.bincount(test[0], minlength=len(class_names))
    points = {}
    for k, name in enumerate(class_names):
        chosen = choose_threshold(validation[0] == k, validation[1][:, k], weights)
        threshold, *reached = chosen or (None, 0.0, 0.0)
        called = test[0][test[1][:, k] >= (np.inf if threshold is None else threshold)]
        counts = np.bincount(called, minlength=len(class_names))
        achieved = precision(counts, images, k, shares)
        low, high = wilson_interval(counts[k], images[k])
        points[name] = {
            "threshold": threshold,
            "validation_precision": reached[0],
            "validation_recall": reached[1],
            "precision": achieved.value,
            "recall": float(counts[k] / images[k]),
            "precision_ci95": (achieved.low, achieved.high),
            "recall_ci95": (float(low), float(high)),
        }
    return points
