"""Rescaling a crop so that its particle fills it, as some instrument exports do."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from svp_lightning.simulation.camera import AREA_CONTRAST

FILL = 0.72
"""Share of the window's width a particle takes: 46 of 64 px."""
MAX_ZOOM = 2.4


def fit_crop(
    grey: NDArray[np.uint8], light: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], float]:
    """Cut a square around the particle and scale it to the size of the window.

    Args:
        grey: uint8 (N, N) the recorded image.
        light: float32 (N, N) the same before noise, background 1; it tells what to cut.
        rng: the image's stream.

    Returns:
        uint8 (N, N), and the zoom (1 where the particle already fills the window).
    """
    size = grey.shape[0]
    found = np.abs(light - 1) > AREA_CONTRAST
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    if rows.size == 0:
        return grey, 1.0
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    width = extent / FILL * math.exp(rng.normal(0, 0.07))
    width = min(max(width, size / MAX_ZOOM), size)
    left = _start((columns[0] + columns[-1] + 1) / 2, width, size)
    top = _start((rows[0] + rows[-1] + 1) / 2, width, size)
    box = (left, top, left + width, top + width)
    scaled = Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(scaled), size / width


def _start(centre: float, width: float, size: int) -> float:
    """First edge of a window around ``centre`` that stays inside the image."""
    return float(min(max(centre - width / 2, 0), size - width))
