"""Which labels are probably wrong, and why: predictions and neighbours compared with each label.

Confident learning (Northcutt, Jiang and Chuang 2021, https://arxiv.org/abs/1911.00068, as cleanlab
implements it) looks at out-of-sample probabilities alone. The labels of the nearest training
images, in the features of a network that has not seen the image, are a second witness (k-NN
identification of noisy labels: Zhu, Dong and Liu 2022, https://arxiv.org/abs/2110.06283).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from svp_lightning.data.classes import display_name
from svp_lightning.evaluation.counting import check_predictions

ODD_QUANTILE = 0.99
"""An image is unlike its class if it is farther from it than this share of the class."""


@dataclass(frozen=True)
class Evidence:
    """What classifiers that have not seen an image say of its label; N images, K classes.

    Attributes:
        label: (N,) given class indices.
        probability: (N, K) out of sample, answering for the class shares of the labels.
        neighbours: (N, M) positions of the nearest training images, nearest first.
        own_distance: (N,) distance to the nearest training image with the same label.
    """

    label: NDArray[np.int64]
    probability: NDArray[np.float64]
    neighbours: NDArray[np.int64]
    own_distance: NDArray[np.float64]


def rank_labels(evidence: Evidence, class_names: Sequence[str]) -> pd.DataFrame:
    """All images, the most suspect label first.

    The score is the mean of two doubts: 1 minus the probability of the given class, and the share
    of the nearest neighbours that have another label.

    Args:
        evidence: of N labelled images.
        class_names: K names.

    Returns:
        N rows: ``row`` (position among the images), ``given`` and ``suggested`` class names (never
        the same), ``score`` (0 to 1), ``self_confidence`` (probability of the given class),
        ``suggested_probability``, ``neighbours_agree`` (share with the given label), ``confident``
        (whether confident learning lists the image), ``reason`` (a sentence or two) and ``rank``
        (1 is the most suspect).

    Raises:
        DataError: see :class:`~.counting.Tally`.
    """
    label, probability = evidence.label, evidence.probability
    check_predictions(label, probability, class_names)
    every = np.arange(len(label))
    votes = np.zeros(probability.shape)
    for column in label[evidence.neighbours].T:
        votes[every, column] += 1
    share = votes / max(evidence.neighbours.shape[1], 1)
    support = probability + share
    others = support.copy()
    others[every, label] = -1
    suggested = others.argmax(axis=1)
    score = 1 - support[every, label] / 2
    order = np.lexsort((every, -others.max(axis=1), -score))
    names = np.asarray(class_names, dtype=object)
    table = pd.DataFrame(
        {
            "row": every,
            "given": names[label],
            "suggested": names[suggested],
            "score": score,
            "self_confidence": probability[every, label],
            "suggested_probability": probability[every, suggested],
            "neighbours_agree": share[every, label],
            "confident": _confident_learning(label, probability),
            "reason": _reasons(evidence, votes, suggested, class_names),
        }
    )
    return table.iloc[order].reset_index(drop=True).assign(rank=every + 1)


def _confident_learning(
    label: NDArray[np.int64], probability: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """(N,) which labels confident learning calls wrong."""
    # Importing cleanlab takes seconds, and only an audit needs it.
    from cleanlab.filter import find_label_issues

    return np.asarray(find_label_issues(label, probability, n_jobs=1), dtype=np.bool_)


def _reasons(
    evidence: Evidence,
    votes: NDArray[np.float64],
    suggested: NDArray[np.int64],
    class_names: Sequence[str],
) -> list[str]:
    """What a person reads about each image."""
    names = [display_name(name) for name in class_names]
    own, label = evidence.own_distance, evidence.label
    limit = [np.quantile(own[label == k], ODD_QUANTILE) for k in range(len(names))]
    most, reasons = evidence.neighbours.shape[1], []
    for i, (given, other) in enumerate(zip(label, suggested, strict=True)):
        words, doubt = [], evidence.probability[i]
        if votes[i, other]:
            words.append(f"{votes[i, other]:.0f} of its {most} nearest images are {names[other]}.")
        words.append(
            f"The classifier gives {names[other]} {doubt[other]:.0%}, {names[given]} "
            f"{doubt[given]:.0%}."
        )
        if own[i] > limit[given]:
            words.append(f"It looks unlike all {names[given]}.")
        reasons.append(" ".join(words))
    return reasons
