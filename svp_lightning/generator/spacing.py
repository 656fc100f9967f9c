"""Which time steps a sampler visits. A leaf: an exported pipeline carries this file.

References:
    Karras et al., Elucidating the design space, 2022, arXiv 2206.00364, eq. 5.
"""

import numpy as np
from numpy.typing import NDArray

KARRAS_RHO = 7.0
MAX_NOISE_RATIO = 80.0
"""Largest sigma/alpha that Karras spacing starts from; above it images are pure noise."""


def karras_times(ratio: NDArray[np.float64], steps: int) -> NDArray[np.int64]:
    """The time steps nearest to Karras et al.'s noise ratios, each once, falling."""
    bottom = ratio[0] ** (1 / KARRAS_RHO)
    top = min(ratio[-1], MAX_NOISE_RATIO) ** (1 / KARRAS_RHO)
    wanted = np.linspace(bottom, top, steps) ** KARRAS_RHO
    nearest = np.interp(np.log(wanted), np.log(ratio), np.arange(len(ratio))).round()
    # Neighbours that round to one time step are moved apart, up first, then down.
    order = np.arange(steps)
    distinct = np.maximum.accumulate(nearest - order) + order
    return np.minimum(distinct, len(ratio) - steps + order).astype(np.int64)[::-1]


def uniform_times(timesteps: int, steps: int) -> NDArray[np.int64]:
    """Equally spaced time steps from the last one down."""
    return (np.linspace(timesteps, 0, steps + 1)[:-1].round() - 1).astype(np.int64)
