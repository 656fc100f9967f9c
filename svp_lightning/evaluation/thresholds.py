"""Working points chosen on validation images and judged on test images.

``recall_at_precision_95`` of :mod:`~.metrics` picks its threshold on the test images
themselves: the best any threshold could do. In use the threshold has to be fixed before, so
here validation images choose it, and the test images say what it then achieves.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from svp_lightning.evaluation.metrics import PRECISION_FLOOR, check_predictions, is_precise
from svp_lightning.evaluation.prevalence import class_shares, prevalence_weights
from svp_lightning.evaluation.proportions import precision, wilson_interval


@dataclass(frozen=True)
class LabelledPredictions:
    """What the threshold functions need of a split.

    Attributes:
        labels: (N,) class indices.
        probabilities: (N, K).
    """

    labels: NDArray[np.integer[Any]]
    probabilities: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class WorkingPoint:
    """One class counted wherever its probability reaches ``threshold``.

    Attributes:
        threshold: None where no threshold is precise enough on the validation images; the
            class is then never counted, and the test values are 0.
        validation_precision, validation_recall: what made it the choice.
        precision, recall: on the test images.
        precision_ci95, recall_ci95: [low, high], for the number of test images; they do not
            cover that another validation split would have chosen another threshold.
    """

    threshold: float | None
    validation_precision: float
    validation_recall: float
    precision: float
    recall: float
    precision_ci95: tuple[float, float]
    recall_ci95: tuple[float, float]


def choose_threshold(
    truth: NDArray[np.bool_],
    score: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    floor: float = PRECISION_FLOOR,
) -> tuple[float, float, float] | None:
    """The threshold of largest recall whose precision is at least ``floor``.

    Args:
        truth: (N,) whether the image is of the class; at least one is.
        score: (N,) probability of the class.
        weights: (N,) how much each image counts.
        floor: the precision asked for.

    Returns:
        Threshold (an image counts from it on), precision and recall there; None where no
        threshold is precise enough. Of equal recalls, the strictest threshold.
    """
    found, recall, threshold = precision_recall_curve(truth, score, sample_weight=weights)
    allowed = np.flatnonzero(is_precise(found[:-1], floor) & (recall[:-1] > 0))
    if len(allowed) == 0:
        return None
    best = allowed[recall[allowed] == recall[allowed].max()][-1]
    return float(threshold[best]), float(found[best]), float(recall[best])


def working_points(
    validation: LabelledPredictions,
    test: LabelledPredictions,
    prevalence: dict[str, float],
    class_names: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """The ``working_points`` part of ``results.json``: class name -> :class:`WorkingPoint`.

    Args:
        validation: chooses the thresholds.
        test: judges them.
        prevalence: class name -> relative frequency; both splits are weighted to it.
        class_names: K names.

    Raises:
        DataError: see :func:`~.metrics.classification_metrics`.
        SettingsError: see :func:`~.prevalence.prevalence_weights`.
    """
    for split in (validation, test):
        check_predictions(split.labels, split.probabilities, class_names)
    weights = prevalence_weights(validation.labels, prevalence, class_names)
    shares = class_shares(prevalence, class_names)
    images = np.bincount(test.labels, minlength=len(class_names))
    points = {}
    for k, name in enumerate(class_names):
        truth, score = validation.labels == k, validation.probabilities[:, k]
        threshold, *chosen = choose_threshold(truth, score, weights) or (None, 0.0, 0.0)
        called = test.labels[
            test.probabilities[:, k] >= (np.inf if threshold is None else threshold)
        ]
        counts = np.bincount(called, minlength=len(class_names))
        achieved = precision(counts, images, k, shares)
        low, high = wilson_interval(counts[k], images[k])
        points[name] = asdict(
            WorkingPoint(
                threshold=threshold,
                validation_precision=chosen[0],
                validation_recall=chosen[1],
                precision=achieved.value,
                recall=float(counts[k] / images[k]),
                precision_ci95=(achieved.low, achieved.high),
                recall_ci95=(float(low), float(high)),
            )
        )
    return points
