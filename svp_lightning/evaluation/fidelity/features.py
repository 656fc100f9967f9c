"""All feature-space measures of one set of generated images, with intervals."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svp_lightning.errors import DataError
from svp_lightning.evaluation.fidelity.distribution import frechet_distance, kernel_distance
from svp_lightning.evaluation.fidelity.intervals import Estimate, with_half_sample_intervals
from svp_lightning.evaluation.fidelity.manifold import manifold_coverage
from svp_lightning.evaluation.fidelity.two_sample import two_sample_auc

Features = NDArray[np.floating[Any]]

MIN_IMAGES = 4
"""Halves of fewer images have no neighbours to measure."""

LIMITS = {
    "fid": (0.0, np.inf),
    "kid": (-np.inf, np.inf),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "density": (0.0, np.inf),
    "coverage": (0.0, 1.0),
    "auc": (0.0, 1.0),
}
"""Lowest and highest value of each measure."""


@dataclass(frozen=True)
class FeatureFidelity:
    """Generated against real feature vectors; see the modules for definitions and sources.

    Attributes:
        fid: Fréchet distance, 0 and up; 0 is best. Biased by the set size.
        kid: squared MMD; about 0 is best.
        precision: 0 to 1.
        recall: 0 to 1.
        density: 0 and up; about 1 for one distribution.
        coverage: 0 to 1.
        auc: of a classifier that tells the sets apart; 0.5 is best.
    """

    fid: Estimate
    kid: Estimate
    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    auc: Estimate


def feature_fidelity(
    real: Features, generated: Features, *, draws: int = 50, seed: int = 0
) -> FeatureFidelity:
    """Compare generated with held-out real images of one class.

    Sets are cut to the smaller one's size (their first vectors): every measure but KID depends
    on the sizes. For the floor, pass real training images as ``generated``, as many as there
    will be generated ones.

    Args:
        real: (n, D) features of real images that the generator has not seen.
        generated: (m, D).
        draws: random halves for the intervals.
        seed: of the draws and of the folds.

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
    found = with_half_sample_intervals(
        partial(_measure, seed=seed), real[:size], generated[:size], draws, seed, LIMITS
    )
    return FeatureFidelity(**found)


def _measure(real: Features, generated: Features, seed: int) -> dict[str, float]:
    return {
        "fid": frechet_distance(real, generated),
        "kid": kernel_distance(real, generated),
        **asdict(manifold_coverage(real, generated)),
        "auc": two_sample_auc(real, generated, seed),
    }
