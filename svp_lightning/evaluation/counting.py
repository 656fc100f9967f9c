"""One engine behind every classification metric, at any prevalence and on any redrawn test set.

Metrics see images through counts alone: how many of each class are called what, and how many lie
between two scores of a class's own images. :class:`Tally` reduces a set of predictions to groups
of images that no metric separates, once; every prevalence and every resample is then a weighted
sum over the groups.

Precision, recall, F1 and accuracy judge the most probable class; AUPRC (average precision) and
the recall at 95 % precision judge each class's probability, one class against the rest, as
scikit-learn defines them. Every value is defined on every input, in [0, 1]: a class that is never
predicted has precision 0 and F1 0, one that reaches 95 % precision at no threshold has
``recall_at_precision_95`` 0, and a class without images is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.errors import DataError
from svp_lightning.evaluation.priors import class_shares, refuse_missing
from svp_lightning.evaluation.redraws import single_images, whole_runs

PRECISION_TARGET = 0.95
"""Precision asked of ``recall_at_precision_95`` and of working points."""

MACRO_METRICS = ("macro_precision", "macro_recall", "macro_f1", "macro_auprc", "accuracy")
CLASS_METRICS = ("precision", "recall", "f1", "auprc", "recall_at_precision_95")
SUPPORTED = "recall_at_precision_95_supported"
"""Column of ``prevalence.csv`` in addition to the metrics."""

Labels = NDArray[np.integer[Any]]
Scores = NDArray[np.floating[Any]]
Weights = NDArray[np.float64]


def metric_names(class_names: Sequence[str]) -> list[str]:
    """``macro_auprc`` and ``silicone_oil/auprc``, in the order of all flat metric arrays."""
    return [*MACRO_METRICS, *(f"{name}/{m}" for name in class_names for m in CLASS_METRICS)]


def nested(flat: Sequence[Any], class_names: Sequence[str]) -> dict[str, Any]:
    """Values in the order of :func:`metric_names`, in the shape of ``results.json``."""
    values = iter(flat)
    macro = {name: next(values) for name in MACRO_METRICS}
    return macro | {
        "per_class": {name: {m: next(values) for m in CLASS_METRICS} for name in class_names}
    }


class Tally:
    """Labelled predictions as counts of images that no metric separates.

    Args:
        labels: (N,) class indices.
        probabilities: (N, K), rows sum to 1.
        class_names: K names, in the order of the columns.

    Raises:
        DataError: shapes disagree, a probability is not a number, a label is outside the
            classes, or a class has no image.
    """

    def __init__(self, labels: Labels, probabilities: Scores, class_names: Sequence[str]) -> None:
        check_predictions(labels, probabilities, class_names)
        self.class_names = tuple(class_names)
        K = len(class_names)
        cell = labels * K + probabilities.argmax(axis=1)
        places = [_places(labels == k, probabilities[:, k]) for k in range(K)]
        self._group, members = _grouped([cell, *(place for place, _ in places)])
        self._cell = cell[members]
        self._places = [(place[members], size) for place, size in places]
        self._labels = labels
        self.confusion = self._confusion(np.bincount(self._group)).astype(np.int64)
        """(K, K) images, row the given class, column the most probable one."""

    def metrics(self, prevalence: Mapping[str, float] | None = None) -> dict[str, Any]:
        """The ``metrics`` part of ``results.json``.

        ``prevalence``: class name -> relative frequency; None: that of the images.

        Raises:
            SettingsError: the prevalence names other classes or is not positive.
        """
        counts = np.bincount(self._group).astype(np.float64)
        return nested(self._flat(counts * self._class_weights(prevalence)).tolist(),
                      self.class_names)  # fmt: skip

    def redrawn(
        self,
        prevalence: Mapping[str, float] | None = None,
        *,
        groups: NDArray[np.integer[Any]] | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> NDArray[np.float64]:
        """Every metric of every redrawn test set (Efron and Tibshirani 1993, chapter 13).

        Images are drawn with replacement within each class, or whole groups of them with all their
        classes (:mod:`~.redraws`). Resample r is a function of (seed, r) alone, hence the same for
        every classifier: differences are paired.

        Args:
            prevalence: as for :meth:`metrics`.
            groups: (N,) number of each image's run or vial; None: single images are drawn.
            resamples: number of redrawn test sets.
            seed: of the draws.

        Returns:
            (resamples, M), columns as :func:`metric_names`.

        Raises:
            DataError: a class has images of one group only.
        """
        weights = self._class_weights(prevalence)
        images = self._labels, self._group, len(self._cell)
        draw = single_images(*images) if groups is None else whole_runs(*images, groups)
        streams = (np.random.SFC64([seed, resample]) for resample in range(resamples))
        drawn = (draw(np.random.Generator(stream)) for stream in streams)
        return np.stack([self._flat(counts * weights) for counts in drawn])

    def _class_weights(self, prevalence: Mapping[str, float] | None) -> Weights:
        """(G,) weight of one image of each group."""
        images = self.confusion.sum(axis=1)
        counts = dict(zip(self.class_names, images.tolist(), strict=True))
        weights = class_shares(prevalence or counts, self.class_names) / images
        return np.asarray(weights[self._cell // len(self.class_names)])

    def _confusion(self, weights: NDArray[Any]) -> Weights:
        K = len(self.class_names)
        return np.asarray(np.bincount(self._cell, weights, K * K).reshape(K, K), dtype=np.float64)

    def _flat(self, weights: Weights) -> Weights:
        """(M,) metrics from the (G,) weights of the groups."""
        confusion = self._confusion(weights)
        right, given, called = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        precision = right / np.where(called > 0, called, 1)
        ranked = np.transpose([_ranked(weights, *one) for one in self._places])
        f1 = 2 * right / (given + called)
        per_class = np.stack([precision, right / given, f1, *ranked])
        accuracy = min(1.0, right.sum() / given.sum())  # rounding
        return np.concatenate([per_class[:4].mean(axis=1), [accuracy], per_class.T.ravel()])


def check_predictions(labels: Labels, probabilities: Scores, class_names: Sequence[str]) -> None:
    """Refuse predictions that no metric can be computed from.

    Raises:
        DataError: see :class:`Tally`.
    """
    K = len(class_names)
    if probabilities.shape != (len(labels), K):
        raise DataError(
            f"The probabilities have shape {probabilities.shape}, expected {(len(labels), K)} "
            f"(images, classes {', '.join(class_names)}).",
            "Give one row per image and one column per class.",
        )
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        raise DataError(
            f"The probabilities of image {int(finite.argmin())} are not finite numbers.",
            "Train the classifier again with a lower learning rate.",
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= K):
        raise DataError(
            f"Labels run from {labels.min()} to {labels.max()}, expected class indices 0 to "
            f"{K - 1}.",
            "Leave unlabelled images (-1) out of an evaluation.",
        )
    refuse_missing(np.bincount(labels, minlength=K), class_names)


def _places(truth: NDArray[np.bool_], score: Scores) -> tuple[NDArray[np.intp], int]:
    """Place of each image in one class's ranking, merged where merging changes no result.

    Recall rises only where the class's own images are, so images of other classes join the next
    lower threshold with one (or drop out below the last), ties included; and all own images
    above the first of another class have precision 1 together.

    Returns:
        (N,) threshold of each image, counted from the top, plus ``size`` for the class's own
        images; and ``size``, the number of thresholds, the last taking what lies below all own.
    """
    ceiling = score[~truth].max(initial=-np.inf)
    thresholds = np.unique(np.where(score[truth] > ceiling, np.inf, score[truth]))  # ascending
    clipped = np.where(score > ceiling, np.inf, score)
    size = len(thresholds) + 1
    return size - 1 - np.searchsorted(thresholds, clipped, side="right") + size * truth, size


def _ranked(weights: Weights, place: NDArray[np.intp], size: int) -> tuple[float, float]:
    """Average precision and recall at 95 % precision of one class."""
    sums = np.bincount(place, weights, 2 * size)
    false, true = sums[: size - 1].cumsum(), sums[size:-1]
    found = true.cumsum()
    # Thresholds above the first drawn image have no precision, and no recall either.
    precision = found / np.maximum(found + false, np.finfo(np.float64).tiny)
    average_precision = min(1.0, float(true @ precision / found[-1]))  # rounding
    return average_precision, recall_at_precision(precision, found / found[-1])


def _grouped(columns: Sequence[NDArray[np.intp]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(N,) number of each distinct row of the (N,) columns, and one member of each."""
    group = np.zeros(len(columns[0]), dtype=np.intp)
    for column in columns:
        _, members, group = np.unique(
            group * (int(column.max()) + 1) + column, return_index=True, return_inverse=True
        )
    return group, members


def precision_recall(
    truth: NDArray[np.bool_], score: Scores, weights: Scores | None = None
) -> tuple[Weights, Weights, Weights]:
    """Precision, recall and threshold (T,) at each distinct score, the strictest first.

    Args:
        truth: (N,) whether an image is of the class; at least one is.
        score: (N,) probability of the class; an image counts from the threshold on.
        weights: (N,) how much each image counts; None: each once.
    """
    # It takes a second to import, and commands that only count never rank.
    from sklearn.metrics import precision_recall_curve

    precision, recall, threshold = precision_recall_curve(truth, score, sample_weight=weights)
    return precision[-2::-1], recall[-2::-1], threshold[::-1]


def is_precise(precision: Scores) -> NDArray[np.bool_]:
    """Where a precision reaches the target: 19 of 20 is 95 %, however weighted sums round it."""
    return np.asarray(precision >= PRECISION_TARGET - 1e-9)


def recall_at_precision(precision: Scores, recall: Scores) -> float:
    """The largest recall among thresholds of 95 % precision, 0 where there is none."""
    return float(recall[is_precise(precision)].max(initial=0.0))


def within_reach(recall: Weights, share: Weights, images: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether there are test images enough for the recall at 95 % precision at a prevalence.

    Not where two images of another class, at their weight, bring the precision of all that is found
    below 95 %: the recall then hangs on the one or two that rank highest, of which redrawn images
    know none higher, and hardly changes however common that class is.

    Args:
        recall: (K,) recall at 95 % precision of each class; of 0, all images of the class count
            as found.
        share: (K,) prevalence of each class.
        images: (K,) test images of each class.
    """
    weight = share / images
    heaviest = np.array([np.delete(weight, k).max(initial=0.0) for k in range(len(weight))])
    found = np.where(recall > 0, recall, 1.0) * share
    return is_precise(found / (found + 2 * heaviest))
