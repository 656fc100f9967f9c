"""Do rare finds among generated images occur more often than among held-out ones?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

ALPHA = 0.01
"""Probability of calling a sign significant where there is none."""


@dataclass(frozen=True)
class Finds:
    """How many generated images have a sign, and how many held-out real ones.

    Attributes:
        count: generated images with the sign.
        total: generated images.
        heldout_count: held-out images with it.
        heldout_total: held-out images.
        p_value: chance of as many or more among the generated ones if both sets came from one
            distribution (Fisher's exact test, one-sided).
        smallest_share: the smallest share of the generated images, 0 to 1, at which the test
            would have called the sign significant; None where not even all of them suffice.
    """

    count: int
    total: int
    heldout_count: int
    heldout_total: int
    p_value: float
    smallest_share: float | None

    @property
    def significant(self) -> bool:
        """More than chance explains."""
        return self.p_value < ALPHA


def compare_finds(generated: NDArray[np.bool_], heldout: NDArray[np.bool_]) -> Finds:
    """Compare (n,) generated with (m,) held-out images in whether they have a sign."""
    count, n = int(generated.sum()), len(generated)
    heldout_count, m = int(heldout.sum()), len(heldout)
    counts = np.arange(n + 1)
    # The p-value of every count there could be; it falls as the count grows.
    p_values = hypergeom(n + m, counts + heldout_count, n).sf(counts - 1)
    enough = np.flatnonzero(p_values < ALPHA)
    return Finds(
        count=count,
        total=n,
        heldout_count=heldout_count,
        heldout_total=m,
        p_value=float(p_values[count]),
        smallest_share=float(enough[0] / n) if len(enough) else None,
    )
