"""Distances between sets of feature vectors, and the filter that uses them.

FID and KID are torchmetrics'; precision, recall, density and coverage follow their papers; the
two-sample AUC is a linear discriminant's. Features come from a network of our own, so no value can
be compared with one computed on ImageNet features.
"""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import pairwise_distances_chunked, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from svp_lightning.errors import DataError
from svp_lightning.evaluation.intervals import with_half_sample_intervals
from svp_lightning.evaluation.schema import Estimate

Features = NDArray[np.floating[Any]]

LIMITS = {
    "fid": (0.0, np.inf),
    "kid": (-np.inf, np.inf),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "density": (0.0, np.inf),
    "coverage": (0.0, 1.0),
    "auc": (0.0, 1.0),
}
"""Measure -> its lowest and highest value."""
MIN_IMAGES = 6
"""Halves of fewer images are too small to tell them apart by (folds of one image a class)."""
UNEQUAL_SUBSETS = 20
"""Random subsets averaged where the two sets differ in size, as torchmetrics' KID needs."""
NEIGHBOURS = 5
"""k of the papers; sets of k vectors or fewer use what they have."""
FOLDS = 5

LOCAL: dict[str, Any] = {"sync_on_compute": False}
"""One process has all vectors; to wait for the others would wait for ever."""


def feature_fidelity(
    real: Features, generated: Features, *, draws: int = 50, seed: int = 0
) -> dict[str, Estimate]:
    """Compare generated with held-out real images of one class.

    Sets are cut to the smaller one's size (their first vectors): every measure but KID depends
    on the sizes. For the floor, pass real training images as ``generated``, as many as there
    are generated ones.

    Args:
        real: (n, D) features of real images that the generator has not seen.
        generated: (m, D).
        draws: random halves for the intervals.
        seed: of the draws and of the folds.

    Returns:
        An estimate of each measure of :data:`LIMITS`.

    Raises:
        DataError: fewer than :data:`MIN_IMAGES` vectors in a set.
    """
    size = min(len(real), len(generated))
    if size < MIN_IMAGES:
        raise DataError(
            f"Fidelity needs at least {MIN_IMAGES} real and generated images of a class, got "
            f"{len(real)} and {len(generated)}.",
            "Add held-out images of the class, or draw more images.",
        )
    measure = partial(_measure, seed=seed)
    return with_half_sample_intervals(measure, real[:size], generated[:size], draws, seed, LIMITS)


def _measure(real: Features, generated: Features, seed: int) -> dict[str, float]:
    return {
        "fid": frechet_distance(real, generated),
        "kid": kernel_distance(real, generated),
        **manifold_coverage(real, generated),
        "auc": two_sample_auc(real, generated, seed),
    }


def frechet_distance(real: Features, generated: Features) -> float:
    """|μ_r − μ_g|² + tr(Σ_r + Σ_g − 2 (Σ_r Σ_g)^½) (Heusel et al. 2017, arXiv 1706.08500).

    Of (n, D) and (m, D), both at least 2. Biased upwards in small sets: compare only values from
    sets of one size.
    """
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]), **LOCAL)
    metric.update(_tensor(real), real=True)
    metric.update(_tensor(generated), real=False)
    # Rounding leaves tiny negative values for equal sets.
    return max(float(metric.compute()), 0.0)


def kernel_distance(real: Features, generated: Features) -> float:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³ (Bińkowski et al. 2018, 1801.01401).

    0 on average for two sets (n, D) and (m, D) from one distribution, and below 0 as often as
    above.
    """
    size = min(len(real), len(generated))
    subsets = 1 if len(real) == len(generated) else UNEQUAL_SUBSETS
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message=".*will save all extracted features.*")
        torch.manual_seed(0)  # of the subsets; the caller's own randomness stays untouched
        metric = KernelInceptionDistance(
            feature=_Given(real.shape[1]), subsets=subsets, subset_size=size, **LOCAL
        )
        metric.update(_tensor(real), real=True)
        metric.update(_tensor(generated), real=False)
        return float(metric.compute()[0])


class _Given(nn.Module):
    """In place of torchmetrics' network: the features have been computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _tensor(features: Features) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(features, dtype=np.float64))


def manifold_coverage(real: Features, generated: Features, k: int = NEIGHBOURS) -> dict[str, float]:
    """Compare (n, D) with (m, D) by balls that reach to each vector's k-th neighbour in its set.

    ``precision`` (share of generated vectors inside some real ball: fidelity) and ``recall`` (share
    of real vectors inside some generated ball: variety) are of Kynkäänniemi et al. 2019 (arXiv
    1904.06991); ``density`` (real balls around a generated vector, over k; about 1 for one
    distribution, not bounded, and no far outlier's large ball counts as a match) and ``coverage``
    (share of real balls that hold a generated vector: variety) of Naeem et al. 2020 (arXiv
    2002.09797). All four depend on the set sizes: compare only values of one size.
    """
    k_real = min(k, len(real) - 1)
    real_radius = _radii(real, k_real)
    generated_radius = _radii(generated, min(k, len(generated) - 1))
    matches = np.zeros(len(generated), dtype=np.int64)
    recalled, covered, start = [], [], 0
    for distance in pairwise_distances_chunked(real, generated):
        inside = distance <= real_radius[start : start + len(distance), None]
        matches += inside.sum(axis=0)
        covered.append(inside.any(axis=1))
        recalled.append((distance <= generated_radius).any(axis=1))
        start += len(distance)
    return {
        "precision": float((matches > 0).mean()),
        "recall": float(np.concatenate(recalled).mean()),
        "density": float(matches.mean() / k_real),
        "coverage": float(np.concatenate(covered).mean()),
    }


def _radii(vectors: Features, k: int) -> NDArray[np.float64]:
    """(n,) distance of each vector to its k-th nearest other one."""
    distance, _ = NearestNeighbors(n_neighbors=k).fit(vectors).kneighbors()
    return np.asarray(distance[:, -1])


def two_sample_auc(real: Features, generated: Features, seed: int = 0) -> float:
    """Area under the ROC curve of "generated or real?" (Lopez-Paz & Oquab 2017, 1610.06545).

    Cross-validated; 0.5: the sets (n, D) and (m, D) cannot be distinguished. The classifier is a
    linear discriminant with shrinkage (Ledoit & Wolf 2004), which needs no tuning and stays
    sensible with fewer images than features. ``seed`` is that of the folds.
    """
    x = np.concatenate([real, generated]).astype(np.float64)
    y = np.repeat([0, 1], [len(real), len(generated)])
    folds = StratifiedKFold(min(FOLDS, *np.bincount(y)), shuffle=True, random_state=seed)
    classifier = make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    )
    scores = cross_val_predict(classifier, x, y, cv=folds, method="decision_function")
    return float(roc_auc_score(y, scores))


@dataclass(frozen=True)
class Rejection:
    """Why images of one class are rejected; an image may have both reasons.

    ``wrong_class`` (n,): the network takes it for another class; ``far`` (n,): it lies further out
    than held-out real images do.
    """

    wrong_class: NDArray[np.bool_]
    far: NDArray[np.bool_]

    @property
    def rejected(self) -> NDArray[np.bool_]:
        """(n,) either reason."""
        return self.wrong_class | self.far


class ClassFilter:
    """Rejects generated images that a network trained on real ones does not believe in.

    The distance is to the k-th nearest (``neighbours``) of the training images' features (m, D); a
    share ``quantile`` of held-out validation images (v, D) lies within the threshold.
    """

    def __init__(
        self, label: int, train: Features, heldout: Features, quantile: float, neighbours: int
    ) -> None:
        self.label = label
        self._index = NearestNeighbors(n_neighbors=min(neighbours, len(train))).fit(train)
        # "higher": the quantile is one of the images, and it is kept.
        self.threshold = float(np.quantile(self._distance(heldout), quantile, method="higher"))

    def __call__(self, features: Features, probabilities: Features) -> Rejection:
        """Judge images by their features (n, D) and class probabilities (n, K)."""
        return Rejection(
            wrong_class=probabilities.argmax(axis=1) != self.label,
            far=self._distance(features) > self.threshold,
        )

    def _distance(self, features: Features) -> NDArray[np.float64]:
        return np.asarray(self._index.kneighbors(features)[0][:, -1])
