"""Images whose label is probably wrong, found by confident learning.

Northcutt, Jiang and Chuang (2021), "Confident Learning: Estimating Uncertainty in Dataset
Labels", https://arxiv.org/abs/1911.00068, as implemented by cleanlab.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.evaluation.counting import check_predictions


def find_label_issues(
    labels: NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    class_names: Sequence[str],
) -> pd.DataFrame:
    """List the images whose given label the predictions contradict, worst first.

    Args:
        labels: (N,) given class indices.
        probabilities: (N, K), predicted by a classifier that has not been trained on these
            images; one that has would agree with the mistakes.
        class_names: K names.

    Returns:
        One row per suspected image: ``row`` (its position in ``labels``), ``given`` and
        ``suggested`` class names, ``self_confidence`` (probability of the given class),
        ``suggested_probability`` (that of the suggested one, no less) and ``rank`` (1 is the most
        suspect).

    Raises:
        DataError: see :class:`~.counting.Tally`.
    """
    # Importing cleanlab takes seconds, and only an audit needs it.
    from cleanlab.filter import find_label_issues as confident_learning

    check_predictions(labels, probabilities, class_names)
    rows = confident_learning(
        labels,
        probabilities,
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    names = np.asarray(class_names, dtype=object)
    return pd.DataFrame(
        {
            "row": rows.astype(np.int64),
            "given": names[labels[rows]],
            "suggested": names[probabilities[rows].argmax(axis=1)],
            "self_confidence": probabilities[rows, labels[rows]].astype(np.float64),
            "suggested_probability": probabilities[rows].max(axis=1).astype(np.float64),
            "rank": np.arange(1, len(rows) + 1),
        }
    )
