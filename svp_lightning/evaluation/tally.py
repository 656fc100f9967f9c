"""Everything a test set says about every metric at every prevalence, counted in two passes.

Precision, recall and average precision see images only through counts: how many of each class
are called what, and how many of each class lie between two scores of the class in question.
The counts are exact, take at most ``5 + 8 K`` bytes per image (290 MB for 10 million images of
three classes) whatever the batches are, and answer for any prevalence without reading again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.errors import DataError
from svp_lightning.evaluation.metrics import CLASS_METRICS, is_precise
from svp_lightning.evaluation.predictions import count_rows, iterate_scores
from svp_lightning.evaluation.prevalence import class_shares

Batch = tuple[NDArray[np.integer[Any]], NDArray[np.float32]]
Batches = Callable[[], Iterable[Batch]]


@dataclass(frozen=True)
class Tally:
    """Counts of a labelled set of predictions.

    Attributes:
        class_names: K names.
        confusion: (K, K) images, row the given class, column the most probable one.
        above: for each class k, (K, T) int32: images of each class j (row) between one score
            of class k's own images (column, best first) and the one before it. Own images
            that outrank every other image share the first column.
    """

    class_names: tuple[str, ...]
    confusion: NDArray[np.int64]
    above: tuple[NDArray[np.int32], ...]

    def metrics(self, prevalence: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Exactly :func:`~.metrics.classification_metrics` at a prevalence.

        Args:
            prevalence: class name -> relative frequency; None: that of the images.

        Raises:
            SettingsError: the prevalence names other classes or is not positive.
        """
        images = self.confusion.sum(axis=1)
        counts = dict(zip(self.class_names, images.tolist(), strict=True))
        weights = class_shares(prevalence or counts, self.class_names) / images
        weighted = self.confusion * weights[:, None]
        called, given = weighted.sum(axis=0), weighted.sum(axis=1)
        per_class = {}
        for k, name in enumerate(self.class_names):
            right = weighted[k, k]
            values = (
                right / called[k] if called[k] > 0 else 0.0,
                right / given[k],
                2 * right / (called[k] + given[k]),
                *self._ranking_metrics(k, weights),
            )
            per_class[name] = dict(zip(CLASS_METRICS, map(float, values), strict=True))
        metrics: dict[str, Any] = {
            f"macro_{name}": float(np.mean([own[name] for own in per_class.values()]))
            for name in CLASS_METRICS[:4]
        }
        metrics["accuracy"] = min(1.0, float(weighted.trace() / weighted.sum()))
        return metrics | {"per_class": per_class}

    def _ranking_metrics(self, k: int, weights: NDArray[np.float64]) -> tuple[float, float]:
        counts = self.above[k]
        found = counts[k].cumsum() * weights[k]
        called = np.zeros(counts.shape[1])
        for row, weight in zip(counts, weights, strict=True):  # a row at a time: flat memory
            called += row.cumsum() * weight
        precision = found / called
        recall_at = found[is_precise(precision)].max(initial=0.0)
        average_precision = min(1.0, float(counts[k] @ precision / counts[k].sum()))  # rounding
        return average_precision, float(recall_at / found[-1])


def tally_arrays(
    labels: NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    class_names: Sequence[str],
) -> Tally:
    """Count predictions that are in memory already.

    Args:
        labels: (N,) class indices, none unknown.
        probabilities: (N, K).
        class_names: K names.

    Raises:
        DataError: a class has no image.
    """
    batch = (labels, probabilities.astype(np.float32, copy=False))
    return _tally(lambda: [batch], len(labels), tuple(class_names))


def tally_file(path: Path) -> Tally:
    """Count a ``predictions.parquet`` of any length; unlabelled images are passed over.

    Raises:
        ArtifactError: the file cannot be read as predictions.
        DataError: a class has no image.
    """
    rows, class_names = count_rows(path)
    return _tally(lambda: iterate_scores(path), rows, class_names)


def _tally(batches: Batches, rows: int, class_names: tuple[str, ...]) -> Tally:
    K = len(class_names)
    confusion = np.zeros((K, K), np.int64)
    ceiling = np.full(K, -np.inf, np.float32)  # of each class's score, over other classes' images
    own = np.empty(rows, np.float32)
    label_of = np.full(rows, -1, np.int8 if K < 128 else np.int16)
    at = 0
    for labels, scores in _known(batches):
        confusion += np.bincount(labels * K + scores.argmax(axis=1), minlength=K * K).reshape(K, K)
        own[at : at + len(labels)] = scores[np.arange(len(labels)), labels]
        label_of[at : at + len(labels)] = labels
        at += len(labels)
        for k in range(K):
            ceiling[k] = max(ceiling[k], scores[labels != k, k].max(initial=-np.inf))
    _refuse_empty(confusion, class_names)
    thresholds = [
        np.unique(np.where(s > top, np.float32(np.inf), s))
        for k, top in enumerate(ceiling)
        for s in [own[label_of == k]]
    ]
    del own, label_of
    above = [np.zeros((K, len(t)), np.int32) for t in thresholds]
    for labels, scores in _known(batches):
        for k, ascending in enumerate(thresholds):
            clipped = np.where(scores[:, k] > ceiling[k], np.float32(np.inf), scores[:, k])
            place = len(ascending) - np.searchsorted(ascending, clipped, side="right")
            inside = place < len(ascending)  # what lies below all own images changes nothing
            np.add.at(above[k], (labels[inside], place[inside]), 1)
    return Tally(class_names, confusion, tuple(above))


def _known(batches: Batches) -> Iterable[Batch]:
    for labels, scores in batches():
        known = labels >= 0
        yield (labels, scores) if known.all() else (labels[known], scores[known])


def _refuse_empty(confusion: NDArray[np.int64], class_names: Sequence[str]) -> None:
    empty = [name for name, n in zip(class_names, confusion.sum(axis=1), strict=True) if n == 0]
    if empty:
        raise DataError(
            f"The predictions hold no labelled image of {', '.join(empty)}.",
            "Give the predictions of a test set with every class in it.",
        )


def prevalence_table(tally: Tally, common: str, ratios: Sequence[float]) -> pd.DataFrame:
    """Metrics as if ``ratio`` particles of the common class came with one of each other class.

    Args:
        tally: of the stored predictions.
        common: the plentiful class.
        ratios: such as 1, 10, 100, 1000.

    Returns:
        One row per ratio: ``ratio``, ``common`` (the name), the macro metrics, and
        ``<class>/<metric>`` for each.
    """
    rows = []
    for ratio in ratios:
        prevalence = {name: ratio if name == common else 1.0 for name in tally.class_names}
        metrics = tally.metrics(prevalence)
        per_class = metrics.pop("per_class")
        flat = {f"{c}/{m}": value for c, own in per_class.items() for m, value in own.items()}
        rows.append({"ratio": float(ratio), "common": common} | metrics | flat)
    return pd.DataFrame(rows)
