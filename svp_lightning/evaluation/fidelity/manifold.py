"""How well two sets of feature vectors cover each other, by balls around each vector."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

Features = NDArray[np.floating[Any]]

NEIGHBOURS = 5
"""k of the papers; sets of k vectors or fewer use what they have."""


@dataclass(frozen=True)
class Coverage:
    """Precision and recall, density and coverage of a generated set.

    The first two are of Kynkäänniemi et al. 2019 (arXiv 1904.06991), the others of Naeem et al.
    2020 (arXiv 2002.09797).

    Attributes:
        precision: share of generated vectors inside some real ball, 0 to 1: fidelity.
        recall: share of real vectors inside some generated ball, 0 to 1: variety.
        density: real balls around a generated vector, over k; about 1 for one distribution, not
            bounded. Unlike precision it does not count one far outlier's large ball as a match.
        coverage: share of real balls that hold a generated vector, 0 to 1: variety.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_coverage(real: Features, generated: Features, k: int = NEIGHBOURS) -> Coverage:
    """Compare two sets by the balls that reach to each vector's k-th neighbour in its own set.

    All four depend on the set sizes: compare only values from sets of one size.

    Args:
        real: (n, D), n at least 2.
        generated: (m, D), m at least 2.
        k: neighbours.
    """
    k_real = min(k, len(real) - 1)
    real_radius = _radii(real, k_real)
    generated_radius = _radii(generated, min(k, len(generated) - 1))
    matches = np.zeros(len(generated), dtype=np.int64)
    recalled, covered = [], []
    start = 0
    for distance in pairwise_distances_chunked(real, generated):
        inside = distance <= real_radius[start : start + len(distance), None]
        matches += inside.sum(axis=0)
        covered.append(inside.any(axis=1))
        recalled.append((distance <= generated_radius).any(axis=1))
        start += len(distance)
    return Coverage(
        precision=float((matches > 0).mean()),
        recall=float(np.concatenate(recalled).mean()),
        density=float(matches.mean() / k_real),
        coverage=float(np.concatenate(covered).mean()),
    )


def _radii(vectors: Features, k: int) -> NDArray[np.float64]:
    """(n,) distance of each vector to its k-th nearest other one."""
    distance, _ = NearestNeighbors(n_neighbors=k).fit(vectors).kneighbors()
    radii: NDArray[np.float64] = distance[:, -1]
    return radii
