"""Thresholds that validation images choose and test images judge.

``recall_at_precision_95`` picks its threshold on the test images themselves: the best any
threshold could do. In use the threshold is fixed before, so validation images choose it here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.counting import check_predictions, is_precise, precision_recall
from svp_lightning.evaluation.intervals import TAILS, precision, wilson_interval
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.priors import class_shares, prevalence_weights
from svp_lightning.evaluation.redraws import draw_runs, images_of_runs

THRESHOLDS = 1000
"""Thresholds of a class that are tried on redrawn images, at most."""
SEED = 0

Labels = NDArray[np.integer[Any]]
Scores = NDArray[np.floating[Any]]
Values = NDArray[np.float64]


def choose_threshold(
    truth: NDArray[np.bool_], score: Scores, weights: Values
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
    validation: Predictions,
    test: Predictions,
    prevalence: Mapping[str, float],
    groups: tuple[Labels | None, Labels | None] = (None, None),
    resamples: int = 1000,
) -> dict[str, dict[str, Any]]:
    """The ``working_points`` part of ``results.json``, by class name.

    The intervals are of other validation sets of the same size, each of which chooses a threshold,
    and of redrawn test images, which judge it. At 1,000 : 1 a few images of other classes with the
    highest scores decide, and redrawn validation images alone never hold a higher one; so these
    sets are drawn from the validation and test images together. Where the interval of the test
    images alone is wider, it counts.

    Args:
        validation: chooses the thresholds.
        test: judges them.
        prevalence: class name -> relative frequency; both splits are corrected and weighted to it.
        groups: run or vial of each validation and test image; None: single images are redrawn.
        resamples: how often.

    Raises:
        DataError: see :class:`~.counting.Tally`.
        SettingsError: see :func:`~.priors.class_shares`.
    """
    names = test.class_names
    for split in (validation, test):
        check_predictions(split.labels, split.probabilities, names)
    shares = class_shares(prevalence, names)
    chosen_on, judged_on = (split.at(prevalence) for split in (validation, test))
    weights = prevalence_weights(validation.labels, prevalence, names)
    points = {}
    for k, name in enumerate(names):
        score = [split.probabilities[:, k] for split in (chosen_on, judged_on)]
        chosen = choose_threshold(validation.labels == k, score[0], weights)
        point = _achieved(judged_on, k, chosen, shares)
        ladder = _Ladder(k, (validation.labels, test.labels), score, groups)
        points[name] = point | _with_choice(point, k, ladder, resamples, shares)
    return points


def _achieved(
    test: Predictions, k: int, chosen: tuple[float, float, float] | None, shares: Values
) -> dict[str, Any]:
    """What the chosen threshold does on the test images, with their own intervals."""
    threshold, *reached = chosen or (None, 0.0, 0.0)
    called = test.probabilities[:, k] >= (np.inf if threshold is None else threshold)
    K = len(test.class_names)
    counts = np.bincount(test.labels[called], minlength=K)
    images = np.bincount(test.labels, minlength=K)
    found, *ends = precision(counts, images, k, shares)
    low, high = wilson_interval(counts[k], images[k])
    return {
        "threshold": threshold,
        "validation_precision": reached[0],
        "validation_recall": reached[1],
        "precision": found,
        "recall": float(counts[k] / images[k]),
        "precision_ci95": tuple(ends),
        "recall_ci95": (float(low), float(high)),
    }


class _Ladder:
    """How often redrawn images of each class reach each of T falling thresholds of class k.

    Redrawing n images is a multinomial draw of how many lie between two thresholds; whole groups
    are drawn instead, with all their classes, where ``groups`` says which images belong together.

    Args:
        k: the class; the thresholds are scores of its own images.
        labels: (N,) class indices of the validation and the test images.
        scores: (N,) probabilities of class k, of both.
        groups: (N,) run or vial of each image of both, or None.
    """

    def __init__(
        self,
        k: int,
        labels: tuple[Labels, Labels],
        scores: Sequence[Scores],
        groups: tuple[Labels | None, Labels | None],
    ) -> None:
        own = np.unique(np.concatenate(scores)[np.concatenate(labels) == k])[::-1]
        self.thresholds = own[np.linspace(0, len(own) - 1, min(len(own), THRESHOLDS)).astype(int)]
        self._held = [
            images_of_runs(unit, of)
            for of, unit in zip(labels, groups, strict=True)
            if unit is not None
        ]
        self._validation, self._test = (
            [self._table(score[of == j], None if unit is None else unit[of == j])
             for j in range(int(labels[1].max()) + 1)]
            for of, score, unit in zip(labels, scores, groups, strict=True)
        )  # fmt: skip

    def _table(self, score: Scores, groups: Labels | None) -> NDArray[np.intp]:
        """(groups, T + 1) images between two thresholds; one row where no group is given."""
        places = len(self.thresholds) + 1
        place = places - 1 - np.searchsorted(self.thresholds[::-1], score, side="right")
        unit = np.unique(0 * place if groups is None else groups, return_inverse=True)[1]
        table = np.bincount(unit * places + place, minlength=(int(unit.max()) + 1) * places)
        return table.reshape(-1, places)

    def rates(self, split: str, resamples: int, random: np.random.Generator) -> Values:
        """(K, R, T) share of each class's images at or above each threshold, in R draws.

        ``split`` ``validation`` draws sets of its size from both splits, ``test`` from its own.
        """
        rates, runs = [], None
        if self._held:
            pooled = np.concatenate(self._held) if split == "validation" else self._held[1]
            number = len(self._held[split == "test"])
            runs = draw_runs(random, pooled, number, resamples)
        for k, (validation, test) in enumerate(zip(self._validation, self._test, strict=True)):
            like, table = (validation, np.concatenate([validation, test]))
            if split == "test":
                like = table = test
            if runs is None:
                held = table.sum(axis=0)
                drawn = 1.0 * random.multinomial(like.sum(), held / held.sum(), resamples)
            else:
                # Whole numbers below 2**53, which BLAS multiplies as floats 50 times as fast.
                of_class = runs[:, pooled[:, k] > 0].astype(np.float64)
                drawn = of_class @ table.astype(np.float64)
            rates.append(drawn[:, :-1].cumsum(axis=1) / drawn.sum(axis=1, keepdims=True))
        return np.stack(rates)


def _with_choice(
    point: Mapping[str, Any], k: int, ladder: _Ladder, resamples: int, shares: Values
) -> dict[str, Any]:
    """The intervals of a working point of class k that include the choice of its threshold.

    ``point`` has the intervals of the test images alone.
    """
    random = np.random.default_rng([SEED, k])
    chosen_on = ladder.rates("validation", resamples, random)
    judged_on = ladder.rates("test", resamples, random)
    reached = np.where(is_precise(_precision(chosen_on, k, shares)), chosen_on[k], 0.0)
    row, best = np.arange(resamples), reached.argmax(axis=1)
    chosen = reached[row, best] > 0
    if not chosen.any():
        return {"threshold_ci95": None}
    precise = _precision(judged_on, k, shares)[row, best][chosen]
    redrawn = {
        "recall_ci95": np.where(chosen, judged_on[k][row, best], 0.0),
        "precision_ci95": precise[np.isfinite(precise)],
    }
    thresholds = ladder.thresholds[best[chosen]]
    found = {"threshold_ci95": tuple(np.quantile(thresholds, TAILS).tolist())}
    for name, values in redrawn.items():
        low, high = np.quantile(values, TAILS).tolist() if len(values) else point[name]
        found[name] = min(low, point[name][0]), max(high, point[name][1])
    return found


def _precision(rates: Values, k: int, shares: Values) -> Values:
    """(R, T) precision of class k from (K, R, T) rates; NaN where nothing is called."""
    called = np.tensordot(shares, rates, axes=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(shares[k] * rates[k] / called)
