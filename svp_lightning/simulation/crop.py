"""The box around a detected particle, stretched to the image, as instruments export crops.

The published crops end at different spatial frequencies, often different along the two axes
(experiments/simulator_realism): each is a rectangle of 14 to 28 camera pixels around its particle,
enlarged to the same square. Size and elongation of the particle are mostly lost that way.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

BOX_CONTRAST = 0.07
"""Contrast from which a pixel belongs to the particle, and the pixels left around it: on the
published crops box and particle then differ by 4.7 (oil) and 5.0 (air) camera pixels, with a
spread of 1 to 1.6 (interquartile)."""
_MARGINS = (2, 3)


def cut_box(
    grey: NDArray[np.uint8], contrast: NDArray[np.float32], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], float]:
    """Cut the box around the strongest particle and stretch it.

    Args:
        grey: uint8 (N, N) the recorded field.
        contrast: float32 (N, N) the same before noise, background 0; it tells where to cut.
        size: pixels along one side of the result.
        rng: the image's stream.

    Returns:
        uint8 (size, size), and the magnification, the geometric mean of both axes. Where nothing
        is detected, the whole field.
    """
    field = grey.shape[0]
    left, top, right, bottom = 0, 0, field, field
    if (found := _strongest(contrast)) is not None:
        rows, columns = found
        before, after = rng.integers(_MARGINS[0], _MARGINS[1] + 1, (2, 2))
        top, left = max(rows.start - before[0], 0), max(columns.start - before[1], 0)
        bottom, right = min(rows.stop + after[0], field), min(columns.stop + after[1], field)
    box = Image.fromarray(grey[top:bottom, left:right])
    stretched = box.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(stretched), size / math.sqrt((right - left) * (bottom - top))


def _strongest(contrast: NDArray[np.float32]) -> tuple[slice, slice] | None:
    """Rows and columns of the connected particle that holds most contrast."""
    strength = np.where(np.abs(contrast) > BOX_CONTRAST, np.abs(contrast), 0)
    # Bright core and dark ring are parted by a line of no contrast.
    parts, count = ndimage.label(ndimage.binary_dilation(strength > 0))
    if not count:
        return None
    parts *= strength > 0
    sums = ndimage.sum_labels(strength, parts, np.arange(1, count + 1))
    rows, columns = ndimage.find_objects(parts)[int(np.argmax(sums))]
    return rows, columns
