"""Bootstrap intervals of the metrics, and of the difference between two classifiers.

Images, or whole groups of them, are drawn with replacement within each class (the class sizes
of a test set are chosen, not observed), and the percentiles of the redrawn metrics are the
interval (Efron and Tibshirani 1993, chapter 13). Resample r of a seed is a function of
(seed, r) alone, hence the same for every classifier: differences are paired.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.errors import DataError, SettingsError
from svp_lightning.evaluation.metrics import CLASS_METRICS, MACRO_METRICS, check_predictions
from svp_lightning.evaluation.ranking import Ranking

Labels = NDArray[np.integer[Any]]
Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class PairedDifference:
    """Metric of b minus metric of a over the same images.

    Attributes:
        difference: on the images as they are.
        low: lower end of the bootstrap percentile interval.
        high: upper end.
        p_value: two-sided; how often redrawn differences fall on the other side of 0, at
            least 2 / (resamples + 1). It knows this test set and these two trainings only:
            another seed of the training is another difference.
    """

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_intervals(
    labels: Labels,
    probabilities: Scores,
    class_names: Sequence[str],
    weights: NDArray[np.float64] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Percentile interval of every metric of :func:`~.metrics.classification_metrics`.

    Args:
        labels: (N,) class indices.
        probabilities: (N, K).
        class_names: K names.
        weights: (N,) as for the metrics themselves.
        resamples: number of redrawn test sets.
        seed: of the draws.
        level: confidence level, above 0 and below 1.

    Returns:
        The ``ci95`` part of ``results.json``: the shape of the metrics with ``[low, high]``
        for each value.

    Raises:
        DataError: see :func:`~.metrics.classification_metrics`.
    """
    values = resampled_metrics(
        labels, probabilities, class_names, weights, resamples=resamples, seed=seed
    )
    return intervals_of(values, class_names, level)


def resampled_metrics(
    labels: Labels,
    probabilities: Scores,
    class_names: Sequence[str],
    weights: NDArray[np.float64] | None = None,
    *,
    groups: NDArray[np.integer[Any]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Every metric of every redrawn test set.

    Args:
        labels: (N,) class indices.
        probabilities: (N, K).
        class_names: K names.
        weights: (N,) as for the metrics themselves.
        groups: (N,) number of each image's run or vial; whole groups are then redrawn within
            each class. None: images are.
        resamples: number of redrawn test sets.
        seed: of the draws; row r of the result is of the same draw for every classifier.

    Returns:
        (resamples, M), columns as :func:`metric_names`.

    Raises:
        DataError: see :func:`~.metrics.classification_metrics`; or a class has images of one
            group only.
    """
    check_predictions(labels, probabilities, class_names, weights)
    measure = _Resampled(labels, probabilities, len(class_names))
    draws = _resample_weights(labels, weights, resamples, seed, groups)
    return np.stack([measure(drawn) for drawn in draws])


def intervals_of(
    values: NDArray[np.float64], class_names: Sequence[str], level: float = 0.95
) -> dict[str, Any]:
    """Percentile intervals of :func:`resampled_metrics`, in the shape of the metrics."""
    low, high = _percentiles(values, level)
    flat = [[float(a), float(b)] for a, b in zip(low, high, strict=True)]
    return _nest(flat, class_names)


def metric_names(class_names: Sequence[str]) -> list[str]:
    """``macro_auprc`` and ``silicone_oil/auprc``, in the order of all flat metric arrays."""
    return [*MACRO_METRICS, *(f"{name}/{m}" for name in class_names for m in CLASS_METRICS)]


def paired_difference(
    labels: Labels,
    probabilities_a: Scores,
    probabilities_b: Scores,
    class_names: Sequence[str],
    metric: str = "macro_auprc",
    weights: NDArray[np.float64] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedDifference:
    """Compare two classifiers on the same test images.

    Args:
        labels: (N,) class indices.
        probabilities_a: (N, K) of the reference.
        probabilities_b: (N, K) of the contender, rows in the same order.
        class_names: K names.
        metric: a macro metric (``"macro_auprc"``) or ``"<class>.<metric>"``
            (``"silicone_oil.auprc"``).
        weights: (N,) as for the metrics themselves.
        resamples: number of redrawn test sets.
        seed: of the draws.
        level: confidence level, above 0 and below 1.

    Raises:
        DataError: see :func:`~.metrics.classification_metrics`.
        SettingsError: there is no such metric.
    """
    place = _place(metric, class_names)
    measures = []
    for probabilities in (probabilities_a, probabilities_b):
        check_predictions(labels, probabilities, class_names, weights)
        measures.append(_Resampled(labels, probabilities, len(class_names)))

    def difference(drawn: NDArray[np.float64]) -> float:
        a, b = (measure(drawn)[place] for measure in measures)
        return float(b - a)

    redrawn = np.array(
        [difference(drawn) for drawn in _resample_weights(labels, weights, resamples, seed)]
    )
    low, high = _percentiles(redrawn, level)
    tail = min(np.count_nonzero(redrawn <= 0), np.count_nonzero(redrawn >= 0))
    return PairedDifference(
        difference=difference(np.ones(len(labels)) if weights is None else weights),
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2 * (tail + 1) / (resamples + 1)),
    )


def _resample_weights(
    labels: Labels,
    weights: NDArray[np.float64] | None,
    resamples: int,
    seed: int,
    groups: NDArray[np.integer[Any]] | None = None,
) -> Iterator[NDArray[np.float64]]:
    """(N,) how often each image is drawn, times its own weight, for each resample."""
    strata = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    units = [_units(rows, groups) for rows in strata]
    drawn = np.empty(len(labels))
    for resample in range(resamples):
        generator = np.random.Generator(np.random.SFC64([seed, resample]))
        for rows, unit in zip(strata, units, strict=True):
            size = len(rows) if unit is None else int(unit.max()) + 1
            times = np.bincount(generator.integers(size, size=size), minlength=size)
            if unit is None:
                drawn[rows] = times
            else:  # groups differ in size; the class keeps its share all the same
                drawn[rows] = times[unit] * (len(rows) / times[unit].sum())
        yield drawn if weights is None else drawn * weights


def _units(
    rows: NDArray[np.intp], groups: NDArray[np.integer[Any]] | None
) -> NDArray[np.intp] | None:
    """(n,) number of each row's group among those of its class; None if images are drawn."""
    if groups is None:
        return None
    found, unit = np.unique(groups[rows], return_inverse=True)
    if len(found) < 2:
        raise DataError(
            "A class has test images of one run or vial only; whole groups cannot be redrawn.",
            "Test on more runs, or set evaluation.resample=images.",
        )
    return unit


class _Resampled:
    """All metrics of one set of predictions as a function of the image weights.

    Images that no metric can tell apart (same label, same prediction, same place in every
    ranking) are grouped, so a resample costs little more than its draw.
    """

    def __init__(self, labels: Labels, probabilities: Scores, num_classes: int) -> None:
        predicted = probabilities.argmax(axis=1)
        self.num_classes = num_classes
        self.rankings = [Ranking(labels == k, probabilities[:, k]) for k in range(num_classes)]
        confusion = labels * num_classes + predicted
        codes = [confusion, *(ranking.code for ranking in self.rankings)]
        self.group, members = _group(codes)
        self.confusion, *self.codes = (code[members] for code in codes)

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metrics in the order of :func:`_nest`, from (N,) weights."""
        grouped = np.bincount(self.group, weights).astype(np.float64, copy=False)
        K = self.num_classes
        confusion = np.bincount(self.confusion, grouped, K * K).reshape(K, K)
        correct, given, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        # As in the metrics: a class never predicted has precision 0.
        precision = correct / np.where(predicted > 0, predicted, 1)
        auprc, recall_at = np.transpose(
            [r.scores(grouped, code) for r, code in zip(self.rankings, self.codes, strict=True)]
        )
        f1 = 2 * correct / (given + predicted)
        per_class = np.stack([precision, correct / given, f1, auprc, recall_at])
        macro = per_class[:4].mean(axis=1)
        return np.concatenate([macro, [correct.sum() / given.sum()], per_class.T.ravel()])


def _group(codes: Sequence[NDArray[np.integer[Any]]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number the distinct rows of the (N,) columns ``codes``.

    Returns:
        (N,) group of each row and (G,) one member of each group.
    """
    group = np.zeros(len(codes[0]), dtype=np.intp)
    for code in codes:
        joint = group * (int(code.max()) + 1) + code
        _, members, group = np.unique(joint, return_index=True, return_inverse=True)
    return group, members


def _percentiles(
    values: NDArray[np.float64], level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _nest(flat: Sequence[Any], class_names: Sequence[str]) -> dict[str, Any]:
    nested: dict[str, Any] = dict(zip(MACRO_METRICS, flat, strict=False))
    rest = iter(flat[len(MACRO_METRICS) :])
    nested["per_class"] = {
        name: {metric: next(rest) for metric in CLASS_METRICS} for name in class_names
    }
    return nested


def _place(metric: str, class_names: Sequence[str]) -> int:
    names = [*MACRO_METRICS, *(f"{name}.{m}" for name in class_names for m in CLASS_METRICS)]
    if metric not in names:
        raise SettingsError(f"There is no metric {metric!r}.", f"Choose one of {', '.join(names)}.")
    return names.index(metric)
