"""Can a classifier tell two sets apart? (Lopez-Paz & Oquab 2017, arXiv 1610.06545)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5


def two_sample_auc(
    real: NDArray[np.floating[Any]], generated: NDArray[np.floating[Any]], seed: int = 0
) -> float:
    """Area under the ROC curve of "generated or real?", cross-validated; 0.5: cannot be told.

    The classifier is a linear discriminant with shrinkage (Ledoit & Wolf 2004), which needs no
    tuning and stays sensible with fewer images than features.

    Args:
        real: (n, D), n at least 2.
        generated: (m, D), m at least 2.
        seed: of the folds.
    """
    x = np.concatenate([real, generated]).astype(np.float64)
    y = np.repeat([0, 1], [len(real), len(generated)])
    folds = StratifiedKFold(min(FOLDS, *np.bincount(y)), shuffle=True, random_state=seed)
    classifier = make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    )
    scores = cross_val_predict(classifier, x, y, cv=folds, method="decision_function")
    return float(roc_auc_score(y, scores))
