"""The number a classifier is selected by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

VALIDATION_SCORE = "val/macro_auprc"
"""Name of the monitored metric; higher is better."""
VALIDATION_LOSS = "val/loss"
TRAINING_LOSS = "train/loss"


def image_weights(
    labels: NDArray[np.int64], num_classes: int, prevalence: Sequence[float] | None
) -> NDArray[np.float64]:
    """(N,) weights, prevalence[class] / images of the class, or ones.

    Args:
        labels: (N,) class indices.
        num_classes: K.
        prevalence: relative frequency of each class in use; None: as in ``labels``.
    """
    if prevalence is None:
        return np.ones(len(labels))
    counts = np.bincount(labels, minlength=num_classes)
    return (np.asarray(prevalence, dtype=np.float64) / np.maximum(counts, 1))[labels]


def macro_auprc(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    weights: NDArray[np.float64],
) -> float:
    """Mean over classes of the average precision, one class against the rest.

    Args:
        labels: (N,) class indices; classes without images are left out of the mean.
        probabilities: (N, K).
        weights: (N,) of :func:`image_weights`.
    """
    scores = [
        average_precision_score(labels == k, probabilities[:, k], sample_weight=weights)
        for k in np.unique(labels)
    ]
    return float(np.mean(scores))


def log_loss(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    weights: NDArray[np.float64],
) -> float:
    """Weighted mean of -log(probability of the label), in nats."""
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(np.average(-np.log(np.maximum(given, 1e-30)), weights=weights))
