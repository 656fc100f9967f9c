"""Eighteen simple features of an image, and how well they tell real from simulated."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

BACKGROUND = 175.0
"""Grey level of an empty field; a border median would fail where a bubble fills the window."""
RADII = np.arange(31)
NUM_ANGLES = 48

FEATURES = (
    "mean",
    "spread",
    "darkest",
    "brightest",
    "border level",
    "dark area",
    "bright area",
    "extent",
    "net deficit",
    "centre",
    "deepest ring",
    "halo height",
    "halo radius",
    "azimuthal deviation",
    "one-sidedness",
    "edge gradient",
    "mean gradient",
    "fine texture",
)


def polar(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Contrast around the particle's centre, (31 radii, 48 angles), background 0."""
    contrast = image / BACKGROUND - 1
    weight = np.clip(np.abs(ndimage.gaussian_filter(contrast, 1)) - 0.04, 0, 0.12) + 1e-9
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    cy, cx = (weight * y).sum() / weight.sum(), (weight * x).sum() / weight.sum()
    angle = np.linspace(0, 2 * np.pi, NUM_ANGLES, endpoint=False)
    at = [cy + RADII[:, None] * np.sin(angle), cx + RADII[:, None] * np.cos(angle)]
    return np.asarray(ndimage.map_coordinates(contrast, at, order=1, mode="nearest"))


def features_of(image: NDArray[np.uint8]) -> list[float]:
    """The values of :data:`FEATURES`; lengths in px, light in shares of the background."""
    contrast = image / BACKGROUND - 1
    rings = polar(image)
    profile = rings.mean(axis=1)
    first = np.abs(np.fft.rfft(rings, axis=1)[:, 1]) * 2 / NUM_ANGLES
    gradient = np.hypot(*np.gradient(contrast))
    fine = contrast - ndimage.gaussian_filter(contrast, 1)
    halo = 8 + int(profile[8:].argmax())
    border = np.concatenate([contrast[[0, -1]].ravel(), contrast[:, [0, -1]].ravel()])
    return [
        float(contrast.mean()),
        float(contrast.std()),
        float(np.percentile(contrast, 1)),
        float(np.percentile(contrast, 99)),
        float(np.median(border)),
        float((contrast < -0.06).sum()),
        float((contrast > 0.06).sum()),
        float((np.abs(contrast) > 0.05).any(axis=0).sum()),
        float(-np.abs(contrast).clip(max=1)[contrast < 0].sum() + contrast.clip(min=0).sum()),
        float(profile[:3].mean()),
        float(profile.min()),
        float(profile[halo]),
        float(halo),
        float(rings[2:26].std(axis=1).mean()),
        float(first[2:26].mean()),
        float(np.percentile(gradient, 97)),
        float(gradient.mean()),
        float(fine.std()),
    ]


def feature_table(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 18) features of n images."""
    return np.array([features_of(image) for image in images])


def two_sample_auc(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    second_groups: NDArray[np.int64],
    repeats: int = 5,
) -> dict[str, float]:
    """Cross-validated AUC of telling ``first`` (real) from ``second``.

    Args:
        first: (n, 18); every image is a group of its own.
        second: (m, 18).
        second_groups: (m,) instrument run; a run never is in training and test folds at once.
        repeats: of five-fold cross-validation with other folds.

    Returns:
        Mean AUC of a random forest and of logistic regression, by name.
    """
    values = np.concatenate([first, second])
    label = np.repeat([1, 0], [len(first), len(second)])
    own = np.arange(len(first)) + second_groups.max() + 1
    groups = np.concatenate([own, second_groups])
    models: dict[str, Callable[[int], RandomForestClassifier | Pipeline]] = {
        "random forest": lambda seed: RandomForestClassifier(
            300, min_samples_leaf=2, class_weight="balanced_subsample", random_state=seed
        ),
        "logistic": lambda seed: make_pipeline(
            StandardScaler(), LogisticRegression(C=0.3, class_weight="balanced", max_iter=1000)
        ),
    }
    scores: dict[str, list[float]] = {name: [] for name in models}
    for seed in range(repeats):
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for name, model in models.items():
            score = np.zeros(len(label))
            for train, test in folds.split(values, label, groups):
                fitted = model(seed).fit(values[train], label[train])
                score[test] = fitted.predict_proba(values[test])[:, 1]
            scores[name].append(float(roc_auc_score(label, score)))
    return {name: float(np.mean(score)) for name, score in scores.items()}


def single_feature_aucs(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> dict[str, tuple[float, float, float]]:
    """Per feature its AUC alone, 0.5 to 1, and both medians; the most telling first."""
    label = np.repeat([1, 0], [len(first), len(second)])
    found = {}
    for i, name in enumerate(FEATURES):
        auc = roc_auc_score(label, np.concatenate([first[:, i], second[:, i]]))
        medians = float(np.median(first[:, i])), float(np.median(second[:, i]))
        found[name] = (float(max(auc, 1 - auc)), *medians)
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))
