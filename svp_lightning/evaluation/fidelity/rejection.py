"""Generated images that a network trained on real ones does not believe in."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Rejection:
    """Why images of one class are rejected; an image may have both reasons.

    Attributes:
        wrong_class: (n,) the network takes the image for another class.
        far: (n,) the image lies further out than held-out real images do.
    """

    wrong_class: NDArray[np.bool_]
    far: NDArray[np.bool_]

    @property
    def rejected(self) -> NDArray[np.bool_]:
        """(n,) either reason."""
        return self.wrong_class | self.far


class ClassFilter:
    """The decision for one class.

    Args:
        label: of the class.
        train: (m, D) features of its real training images.
        heldout: (v, D) features of its real validation images; they set the threshold.
        quantile: share of ``heldout`` within the threshold.
        neighbours: k; the distance is to the k-th nearest training image.

    Attributes:
        threshold: largest distance that is kept.
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
        distance, _ = self._index.kneighbors(features)
        far: NDArray[np.float64] = distance[:, -1]
        return far
