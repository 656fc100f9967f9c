"""One class's ranking of the test images, reduced to what a resample can change.

Average precision and recall at a precision look at the images only through their order by
score. Sorting is done once; every resample then needs two sums over the order.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.evaluation.metrics import is_precise


class Ranking:
    """Images in order of one class's score, merged where merging changes no result.

    Recall rises only where the class's own images are, so images of other classes join the
    next lower threshold with one (or drop out below the last), ties included; and
    all own images above the first of another class have precision 1 together.

    Args:
        truth: (N,) whether the image is of the class.
        score: (N,) the class's probability.

    Attributes:
        code: (N,) threshold of each image, counted from the top, plus ``size`` for the
            images of the class: the only thing about an image that matters here.
        size: number of thresholds, the last one taking what lies below all own images.
    """

    def __init__(self, truth: NDArray[np.bool_], score: NDArray[np.floating[Any]]) -> None:
        own = score[truth]
        others = score[~truth]
        ceiling = others.max() if len(others) else -np.inf
        thresholds = np.unique(np.where(own > ceiling, np.inf, own))  # ascending
        clipped = np.where(score > ceiling, np.inf, score)
        place = len(thresholds) - np.searchsorted(thresholds, clipped, side="right")
        self.size = len(thresholds) + 1
        self.code = place + self.size * truth

    def scores(self, weights: NDArray[np.float64], code: NDArray[np.intp]) -> tuple[float, float]:
        """Average precision and recall at 95 % precision of a weighted set.

        Args:
            weights: (M,) weights of images or of groups of them.
            code: (M,) their :attr:`code`.

        Returns:
            The two values of :mod:`~.metrics`, as scikit-learn defines them.
        """
        sums = np.bincount(code, weights, 2 * self.size)
        false, true = sums[: self.size - 1].cumsum(), sums[self.size : -1]
        found = true.cumsum()
        # Thresholds above the first drawn image have no precision, and no recall either.
        precision = found / np.maximum(found + false, np.finfo(np.float64).tiny)
        recall_at = found[is_precise(precision)].max(initial=0.0)
        average_precision = min(1.0, float(true @ precision / found[-1]))  # rounding
        return average_precision, float(recall_at / found[-1])
