"""Classification metrics in the shape ``results.json`` stores them.

Precision, recall, F1 and accuracy judge the most probable class; AUPRC (average precision)
and the recall at 95 % precision judge each class's probability, one class against the rest.
Every value is defined on every input, in [0, 1]:

- a class that is never predicted has precision 0 and F1 0;
- a class that reaches 95 % precision at no threshold has ``recall_at_precision_95`` 0;
- a class without test images has neither recall nor AUPRC, so it is refused.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    precision_recall_fscore_support,
)

from svp_lightning.errors import DataError

PRECISION_FLOOR = 0.95
"""Precision asked of ``recall_at_precision_95``."""

MACRO_METRICS = ("macro_precision", "macro_recall", "macro_f1", "macro_auprc", "accuracy")
CLASS_METRICS = ("precision", "recall", "f1", "auprc", "recall_at_precision_95")


def classification_metrics(
    labels: NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    class_names: Sequence[str],
    weights: NDArray[np.floating[Any]] | None = None,
) -> dict[str, Any]:
    """Measure a classifier on labelled images.

    Args:
        labels: (N,) class indices.
        probabilities: (N, K), rows sum to 1.
        class_names: K names, in the order of the columns.
        weights: (N,) how much each image counts (:func:`~.prevalence.prevalence_weights`);
            None counts each once.

    Returns:
        The ``metrics`` part of ``results.json``: the names in :data:`MACRO_METRICS`, and
        ``per_class`` with the names in :data:`CLASS_METRICS` for each class name.

    Raises:
        DataError: shapes disagree, a probability is not a number, a label is outside the
            classes, or a class has no image.
    """
    check_predictions(labels, probabilities, class_names, weights)
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels,
        predicted,
        labels=np.arange(len(class_names)),
        sample_weight=weights,
        zero_division=0.0,
    )
    per_class = {}
    for k, name in enumerate(class_names):
        truth, score = labels == k, probabilities[:, k]
        values = (
            precision[k],
            recall[k],
            f1[k],
            # A perfect ranking's can exceed 1 by rounding.
            min(1.0, average_precision_score(truth, score, sample_weight=weights)),
            _recall_at_precision(truth, score, weights),
        )
        per_class[name] = dict(zip(CLASS_METRICS, map(float, values), strict=True))
    metrics: dict[str, Any] = {
        f"macro_{name}": float(np.mean([of_class[name] for of_class in per_class.values()]))
        for name in CLASS_METRICS[:4]
    }
    metrics["accuracy"] = min(1.0, float(np.average(predicted == labels, weights=weights)))
    return metrics | {"per_class": per_class}


def _recall_at_precision(
    truth: NDArray[np.bool_],
    score: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]] | None,
) -> float:
    precision, recall, _ = precision_recall_curve(truth, score, sample_weight=weights)
    return float(recall[is_precise(precision)].max(initial=0.0))


def is_precise(
    precision: NDArray[np.floating[Any]], floor: float = PRECISION_FLOOR
) -> NDArray[np.bool_]:
    """Where a precision reaches the floor: 19 of 20 is 95 %, however weighted sums round it."""
    return precision >= floor - 1e-9


def check_predictions(
    labels: NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    class_names: Sequence[str],
    weights: NDArray[np.floating[Any]] | None = None,
) -> None:
    """Refuse predictions that no metric can be computed from.

    Raises:
        DataError: see :func:`classification_metrics`.
    """
    expected = (len(labels), len(class_names))
    if probabilities.shape != expected:
        raise DataError(
            f"The probabilities have shape {probabilities.shape}, expected {expected} "
            f"(images, classes {', '.join(class_names)}).",
            "Give one row per image and one column per class.",
        )
    if weights is not None and weights.shape != labels.shape:
        raise DataError(
            f"There are {weights.shape} weights for {len(labels)} images.",
            "Give one weight per image.",
        )
    if not np.isfinite(probabilities).all():
        bad = int(np.flatnonzero(~np.isfinite(probabilities).all(axis=1))[0])
        raise DataError(
            f"The probabilities of image {bad} are not finite numbers.",
            "Train the classifier again with a lower learning rate.",
        )
    counts = _label_counts(labels, len(class_names))
    if (counts == 0).any():
        missing = [name for name, n in zip(class_names, counts, strict=True) if n == 0]
        raise DataError(
            f"The evaluated images hold none of {', '.join(missing)}; "
            "recall and AUPRC need at least one of each class.",
            "Enlarge the test split, or leave the class out of the data.",
        )


def _label_counts(labels: NDArray[np.integer[Any]], num_classes: int) -> NDArray[np.intp]:
    if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
        raise DataError(
            f"Labels run from {labels.min()} to {labels.max()}, "
            f"expected class indices 0 to {num_classes - 1}.",
            "Leave unlabelled images (-1) out of an evaluation.",
        )
    return np.bincount(labels, minlength=num_classes)
